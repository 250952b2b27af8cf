//! Research formats against files made by other programs and against headers written out by hand.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use lungai_ct::{Geometry, LabelMap, Spacing, Volume, VoxelIndex, WorldPoint};
use lungai_datasets::{
    DatasetError, hu_sha256, open, read_image, read_labels, read_volume, write_labels, write_nifti2, write_volume,
};
use lungai_trace::verifies;
use ndarray::Array3;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The folder of real files, or a note that what needs them was not shown.
fn reference(relative: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("LUNGAI_REFERENCE_DATA") else {
        lungai_trace::not_evidenced("reference data absent");
        return None;
    };
    Some(Path::new(&folder).join(relative))
}

/// Twelve voxels, `value = 100 z + 10 y + x`, on a turned grid that no axis symmetry can hide a mistake in.
fn sample() -> Volume {
    let hu = Array3::from_shape_fn((2, 3, 4), |(z, y, x)| (100 * z + 10 * y + x) as i16 - 1000);
    let (sin, cos) = 0.2f64.sin_cos();
    let direction = [[cos, sin, 0.0], [sin, -cos, 0.0], [0.0, 0.0, 1.0]];
    let spacing = Spacing::new([2.5, 0.7, 0.6]).unwrap();
    Volume::new(hu, Geometry::new([2, 3, 4], spacing, WorldPoint([-10.5, 20.25, -300.0]), direction).unwrap()).unwrap()
}

fn check_same_place(a: &Geometry, b: &Geometry, tolerance_mm: f64) {
    assert_eq!(a.size(), b.size());
    let last = VoxelIndex(a.size().map(|n| n - 1));
    for index in [VoxelIndex([0; 3]), last, VoxelIndex([last.0[0], 0, 0]), VoxelIndex([0, last.0[1], 0])] {
        let off = a.centre_of(index).distance_mm(b.centre_of(index));
        assert!(off <= tolerance_mm, "{index:?} is {off} mm off");
    }
}

#[verifies("FR-001", "SW-105")]
#[test]
fn what_is_written_is_read_back_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let volume = sample();
    let labels = LabelMap::new(volume.hu().map(|hu| (hu.rem_euclid(3)) as u8), volume.geometry().clone()).unwrap();
    for ending in ["mha", "mhd", "nii", "nii.gz", "nrrd", "nhdr"] {
        // NIfTI keeps positions as 32-bit floats: 300 mm to 2e-5 mm.
        let tolerance_mm = if ending.starts_with("nii") { 1e-4 } else { 1e-9 };
        let path = folder.path().join(format!("volume.{ending}"));
        write_volume(&path, &volume).unwrap();
        let (back, _) = read_volume(&path).unwrap();
        assert_eq!(back.hu(), volume.hu(), "{ending}");
        check_same_place(back.geometry(), volume.geometry(), tolerance_mm);
        assert_eq!(hu_sha256(&back), hu_sha256(&volume));

        let path = folder.path().join(format!("labels.{ending}"));
        write_labels(&path, &labels).unwrap();
        let back = read_labels(&path).unwrap();
        assert_eq!(back.labels(), labels.labels(), "{ending}");
        check_same_place(back.geometry(), labels.geometry(), tolerance_mm);
    }
    let left_over = std::fs::read_dir(folder.path()).unwrap().filter_map(|e| e.unwrap().file_name().into_string().ok());
    assert_eq!(left_over.filter(|name| name.ends_with(".part")).count(), 0);
}

#[verifies("FR-001")]
#[test]
fn nifti_2_keeps_positions_exactly_and_takes_over_where_an_axis_is_too_long_for_nifti_1() {
    let folder = tempfile::tempdir().unwrap();
    let volume = sample();
    for ending in ["nii", "nii.gz"] {
        let path = folder.path().join(format!("volume.{ending}"));
        write_nifti2(&path, &volume).unwrap();
        let (back, format) = read_volume(&path).unwrap();
        assert_eq!((back.hu(), format), (volume.hu(), "nifti"));
        check_same_place(back.geometry(), volume.geometry(), 1e-12);
    }
    let head = std::fs::read(folder.path().join("volume.nii")).unwrap();
    assert_eq!(head[..12], *b"\x1c\x02\0\0n+2\0\r\n\x1a\n");
    assert_eq!(head.len(), 544 + 2 * volume.hu().len());

    let spacing = Spacing::new([1.0, 1.0, 0.1]).unwrap();
    let size = [1, 1, 32_768];
    let grid = Geometry::new(size, spacing, WorldPoint([0.0; 3]), Geometry::AXIAL).unwrap();
    let long = Volume::new(Array3::from_shape_fn(size, |(_, _, x)| x as i16), grid).unwrap();
    let path = folder.path().join("long.nii");
    write_volume(&path, &long).unwrap();
    assert_eq!(std::fs::read(&path).unwrap()[4..7], *b"n+2");
    assert_eq!(read_volume(&path).unwrap().0.hu(), long.hu());

    let error = write_nifti2(&folder.path().join("volume.mha"), &volume).unwrap_err();
    assert_eq!(error.rule(), "unknown-extension");
    assert!(!folder.path().join("volume.mha").exists());
}

fn write(folder: &Path, name: &str, parts: &[&[u8]]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, parts.concat()).unwrap();
    path
}

const MHD: &str = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = True\n\
    CompressedData = False\nTransformMatrix = 1 0 0 0 1 0 0 0 -1\nOffset = 1 2 3\nCenterOfRotation = 9 9 9\n\
    ElementSpacing = 0.5 0.5 2\nDimSize = 1 1 2\nElementType = MET_SHORT\nElementDataFile = ";

#[verifies("FR-001")]
#[test]
fn a_descending_big_endian_metaimage_ascends_after_reading() {
    let folder = tempfile::tempdir().unwrap();
    let voxels: Vec<u8> = [-1000i16, 40].iter().flat_map(|v| v.to_be_bytes()).collect();
    write(folder.path(), "a.raw", &[&voxels]);
    let detached = write(folder.path(), "a.mhd", &[MHD.as_bytes(), b"a.raw\n"]);
    let attached = write(folder.path(), "a.mha", &[MHD.as_bytes(), b"LOCAL\n", &voxels]);
    for path in [detached, attached] {
        let (volume, format) = read_volume(&path).unwrap();
        assert_eq!(format, "metaimage");
        assert_eq!(volume.as_slice(), [40, -1000]); // the second stored slice lies lower: z = 3 - 2
        assert_eq!(volume.geometry().origin(), WorldPoint([1.0, 2.0, 1.0]));
        assert_eq!(volume.geometry().direction()[2], [0.0, 0.0, 1.0]);
    }
}

/// A NIfTI-1 header of 2 x 1 x 1 voxels, 2 mm apart, whose fields are set by `set`.
fn nifti(set: &[(usize, &[u8])], voxels: &[u8]) -> Vec<u8> {
    let mut header = vec![0u8; 352];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &348i32.to_le_bytes());
    for (i, n) in [3i16, 2, 1, 1, 1].iter().enumerate() {
        put(40 + 2 * i, &n.to_le_bytes());
    }
    put(70, &16i16.to_le_bytes()); // float32
    for i in 0..4 {
        put(76 + 4 * i, &2f32.to_le_bytes());
    }
    put(108, &352f32.to_le_bytes());
    put(252, &1i16.to_le_bytes()); // qform with the identity quaternion: RAS axes
    put(268, &10f32.to_le_bytes());
    put(272, &20f32.to_le_bytes());
    put(344, b"n+1\0");
    for (at, bytes) in set {
        put(*at, bytes);
    }
    [header, voxels.to_vec()].concat()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[verifies("FR-001", "SW-105")]
#[test]
fn nifti_is_scaled_rounded_and_turned_to_lps() {
    let folder = tempfile::tempdir().unwrap();
    let scaled = nifti(&[(112, &2f32.to_le_bytes()), (116, &(-1000f32).to_le_bytes())], &floats(&[100.2, 16883.5]));
    let (volume, format) = read_volume(&write(folder.path(), "a.nii", &[&scaled])).unwrap();
    assert_eq!(format, "nifti");
    assert_eq!(volume.as_slice(), [-800, 32767]); // 2 x 100.2 - 1000 = -799.6
    assert_eq!(volume.geometry().origin(), WorldPoint([-10.0, -20.0, 0.0]));
    assert_eq!(volume.geometry().direction(), [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]]);
    let image = read_image(&write(folder.path(), "b.nii", &[&nifti(&[], &floats(&[0.25, 127.5]))])).unwrap();
    assert_eq!(image.values.as_slice().unwrap(), [0.25, 127.5]); // a slope of 0 means none
}

fn check_refused(path: &Path, rule: &str, part_of_message: &str) {
    let error: DatasetError = read_volume(path).unwrap_err();
    assert_eq!(error.rule(), rule, "{error}");
    assert!(error.to_string().contains(part_of_message), "{error}");
}

#[verifies("FR-001")]
#[test]
fn each_malformed_file_gives_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, parts: &[&[u8]]| write(folder.path(), name, parts);
    let mhd = |from: &str, to: &str| at("x.mha", &[MHD.replace(from, to).as_bytes(), b"LOCAL\n", &[0; 4]]);

    check_refused(&at("x.mha", &[MHD.as_bytes(), b"LOCAL\n", &[0; 3]]), "truncated-file", "3 bytes");
    check_refused(&at("x.mhd", &[MHD.as_bytes(), b"../a.raw\n"]), "malformed-file", "outside");
    check_refused(&at("x.mhd", &[MHD.as_bytes(), b"/etc/passwd\n"]), "malformed-file", "outside");
    check_refused(&at("x.mhd", &[MHD.as_bytes(), b"absent.raw\n"]), "file-access", "absent.raw");
    check_refused(&at("x.mhd", &[MHD.as_bytes(), b"LIST\n"]), "unsupported-file", "several files");
    check_refused(&mhd("DimSize = 1 1 2", "DimSize = 99999999 99999999 99999999"), "too-large", "limit");
    check_refused(&mhd("DimSize = 1 1 2", "DimSize = 1 -1 2"), "malformed-file", "DimSize");
    check_refused(&mhd("0.5 0.5 2", "0.5 0.5"), "malformed-file", "ElementSpacing needs 3");
    check_refused(&mhd("0.5 0.5 2", "0.5 0.5 0"), "bad-geometry", "finite and positive");
    check_refused(&mhd("0.5 0.5 2", "0.5 NaN 2"), "malformed-file", "ElementSpacing");
    check_refused(&mhd("1 0 0 0 1 0 0 0 -1", "1 0 0 0 1 0 0 0.5 1"), "bad-geometry", "right angles");
    check_refused(&mhd("MET_SHORT", "MET_STRING"), "unsupported-file", "MET_STRING");
    check_refused(&mhd("CompressedData = False", "CompressedData = True"), "malformed-file", "damaged");
    check_refused(&at("x.mha", &[b"ObjectType = Image\nNDims = 3\n"]), "malformed-file", "ElementDataFile");
    check_refused(&at("x.mha", &[b"ObjectType = Image\n", &[b'x'; 2 << 20]]), "malformed-file", "longer than");

    let short = nifti(&[], &floats(&[1.0]));
    check_refused(&at("x.nii", &[&short]), "truncated-file", "4 bytes of voxels where the header declares 8");
    check_refused(&at("x.nii", &[&short[..200]]), "malformed-file", "shorter");
    check_refused(&at("x.nii", &[&nifti(&[], &floats(&[1.0, f32::NAN]))]), "not-a-number", "[1, 0, 0]");
    check_refused(
        &at("x.nii", &[&nifti(&[], &floats(&[1.0, 32768.0]))]),
        "hu-overflow",
        "[1, 0, 0] (x, y, z as stored) is 32768",
    );
    check_refused(&at("x.nii", &[&nifti(&[(252, &[0, 0])], &floats(&[1.0; 2]))]), "no-orientation", "left and right");
    check_refused(&at("x.nii", &[&nifti(&[(70, &[128, 0])], &floats(&[1.0; 2]))]), "unsupported-file", "datatype 128");
    check_refused(
        &at("x.nii", &[&nifti(&[(42, &[255, 255])], &floats(&[1.0; 2]))]),
        "malformed-file",
        "size [-1, 1, 1]",
    );
    check_refused(&at("x.nii", &[&nifti(&[(40, &[4, 0]), (48, &[9, 0])], &[])]), "unsupported-file", "9 volumes");
    check_refused(&at("x.nii", &[&nifti(&[(108, &1e12f32.to_le_bytes())], &[])]), "malformed-file", "beyond the end");
    check_refused(&at("x.nii.gz", &[&[0x1f, 0x8b, 8, 0, 1, 2, 3]]), "malformed-file", "shorter");

    let nrrd = |field: &str, value: &str| {
        let mut text = String::from("NRRD0004\n");
        for (key, usual) in [
            ("type", "short"),
            ("dimension", "3"),
            ("space", "RAS"),
            ("sizes", "1 1 2"),
            ("space directions", "(1,0,0) (0,1,0) (0,0,1)"),
            ("space origin", "(0,0,0)"),
            ("endian", "little"),
            ("encoding", "raw"),
        ] {
            match (key == field, value) {
                (true, "") => (),
                (true, value) => text += &format!("{key}: {value}\n"),
                (false, _) => text += &format!("{key}: {usual}\n"),
            }
        }
        at("x.nrrd", &[text.as_bytes(), b"\n", &[1, 0, 2, 0]])
    };
    let (volume, _) = read_volume(&nrrd("none", "")).unwrap();
    assert_eq!(volume.as_slice(), [1, 2]);
    assert_eq!(volume.geometry().direction()[0], [-1.0, 0.0, 0.0]);
    check_refused(&nrrd("space", ""), "no-orientation", "`space`");
    check_refused(&nrrd("space", "scanner-xyz"), "unsupported-file", "scanner-xyz");
    check_refused(&nrrd("space directions", "(1,0,0) (0,1,0) none"), "malformed-file", "3 vectors");
    check_refused(&nrrd("space directions", "(1,0,0) (0,1,0) (0,0,inf)"), "malformed-file", "3 vectors");
    check_refused(&nrrd("sizes", "1 1 3"), "truncated-file", "declares 6");
    check_refused(&nrrd("sizes", "1 1"), "malformed-file", "sizes needs 3");
    check_refused(&nrrd("encoding", "bzip2"), "unsupported-file", "bzip2");
    check_refused(&nrrd("encoding", "gzip"), "truncated-file", "0 bytes");
    check_refused(&nrrd("endian", ""), "malformed-file", "`endian` is missing");
    check_refused(&nrrd("type", "block"), "unsupported-file", "block");
    check_refused(&at("x.txt", &[b"hello"]), "unknown-format", "known:");
    check_refused(&at("empty.nii", &[b""]), "malformed-file", "shorter");
}

#[verifies("FR-001")]
#[test]
fn dicom_and_nrrd_of_one_chest_have_the_hash_that_pydicom_computed() {
    let Some(path) = reference("ct/cip_ct64/ct-64.nrrd") else { return };
    let (volume, format) = read_volume(&path).unwrap();
    assert_eq!(format, "nrrd");
    assert_eq!(hu_sha256(&volume), "1e35a7789ff1e391014af836f6a6792305c7eafd9ca5c338d51d1d4704fa630f");
}

/// All 48 ways to lay a grid's axes along the patient's: every voxel stays where it is, in every format and as a DICOM series.
#[verifies("FR-001", "FR-002")]
#[test]
fn an_image_stored_any_way_round_becomes_an_axial_series() {
    let folder = tempfile::tempdir().unwrap();
    let tags = lungai_dicom::SeriesTags::synthetic("P", "any way round");
    let axes = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for (number, (order, signs)) in axes.iter().flat_map(|order| (0..8).map(move |signs| (order, signs))).enumerate() {
        let direction = [0, 1, 2].map(|i| {
            let mut axis = [0.0; 3];
            axis[order[i]] = if signs >> i & 1 == 1 { -1.0 } else { 1.0 };
            axis
        });
        let hu = Array3::from_shape_fn((2, 3, 4), |(z, y, x)| (100 * z + 10 * y + x) as i16);
        let spacing = Spacing::new([2.5, 0.7, 0.6]).unwrap();
        let geometry = Geometry::new([2, 3, 4], spacing, WorldPoint([-10.5, 20.25, -300.0]), direction).unwrap();
        let volume = Volume::new(hu, geometry).unwrap();
        let same = |back: &Volume, tolerance_mm: f64, what: &str| {
            assert_eq!(back.hu().len(), 24);
            assert!(back.geometry().direction()[2][2] > 0.99, "{what}: slices ascend");
            for ((z, y, x), hu) in volume.hu().indexed_iter() {
                let point = volume.geometry().centre_of(VoxelIndex([z, y, x]));
                let VoxelIndex(index) = back.geometry().voxel_at(point).unwrap();
                assert!(back.geometry().centre_of(VoxelIndex(index)).distance_mm(point) <= tolerance_mm, "{what}");
                assert_eq!(back.hu()[index], *hu, "{what}, orientation {number}");
            }
        };
        for ending in ["nii", "nrrd", "mha"] {
            let path = folder.path().join(format!("{number}.{ending}"));
            write_volume(&path, &volume).unwrap();
            let (back, _) = read_volume(&path).unwrap();
            same(&back, if ending == "nii" { 1e-4 } else { 1e-9 }, ending);
            if ending == "nrrd" {
                let series = folder.path().join(number.to_string());
                lungai_dicom::write_series(&back, &Default::default(), &tags, &series).unwrap();
                same(&lungai_dicom::read(&series).unwrap().scans[0].volume, 1e-6, "DICOM");
            }
        }
    }
}

/// Made and read by SimpleITK 2.5.7, nibabel 5.4.2 and pynrrd 1.1.3 (tests/peers/datasets_formats.py): where a voxel lies
/// (LPS mm) and what it holds.
#[verifies("FR-001")]
#[test]
fn files_of_other_programs_hold_what_they_read_themselves() {
    type Row = (&'static str, [([f64; 3], f32); 4]);
    let rows: [Row; 9] = [
        (
            "big_endian_qform.nii.gz",
            [
                ([-10.50000, 20.25000, 30.12500], -1080.0),
                ([-10.53439, 18.66924, 24.12500], -758.0),
                ([-10.97767, 20.10224, 30.12500], -912.0),
                ([-10.05672, 18.81700, 28.12500], -954.0),
            ],
        ),
        (
            "itk_float.mha",
            [
                ([10.50000, -20.25000, 30.12500], -40.0),
                ([10.53439, -18.66924, 24.12500], 121.0),
                ([10.97767, -20.10224, 30.12500], 44.0),
                ([10.05672, -18.81700, 28.12500], 23.0),
            ],
        ),
        (
            "itk_gzip.nrrd",
            [
                ([10.50000, -20.25000, 30.12500], -40.0),
                ([10.53439, -18.66924, 24.12500], 121.0),
                ([10.97767, -20.10224, 30.12500], 44.0),
                ([10.05672, -18.81700, 28.12500], 23.0),
            ],
        ),
        (
            "itk_raw.mhd",
            [
                ([10.50000, -20.25000, 30.12500], -40.0),
                ([10.53439, -18.66924, 24.12500], 121.0),
                ([10.97767, -20.10224, 30.12500], 44.0),
                ([10.05672, -18.81700, 28.12500], 23.0),
            ],
        ),
        (
            "itk_raw.nhdr",
            [
                ([10.50000, -20.25000, 30.12500], -40.0),
                ([10.53439, -18.66924, 24.12500], 121.0),
                ([10.97767, -20.10224, 30.12500], 44.0),
                ([10.05672, -18.81700, 28.12500], 23.0),
            ],
        ),
        (
            "itk_zraw.mhd",
            [
                ([10.50000, -20.25000, 30.12500], -40.0),
                ([10.53439, -18.66924, 24.12500], 121.0),
                ([10.97767, -20.10224, 30.12500], 44.0),
                ([10.05672, -18.81700, 28.12500], 23.0),
            ],
        ),
        (
            "nifti2_big_endian.nii.gz",
            [
                ([-10.50000, 20.25000, 30.12500], -40.0),
                ([-11.50000, 22.50000, 32.12500], 121.0),
                ([-10.50000, 20.25000, 32.12500], 44.0),
                ([-11.50000, 21.00000, 30.12500], 23.0),
            ],
        ),
        (
            "nifti2_sform.nii.gz",
            [
                ([-10.50000, 20.25000, 30.12500], -40.0),
                ([-9.57905, 18.96476, 36.12500], 121.0),
                ([-10.02233, 20.39776, 30.12500], 44.0),
                ([-10.05672, 18.81700, 32.12500], 23.0),
            ],
        ),
        (
            "pynrrd_ras_big_endian.nrrd",
            [
                ([-10.50000, 20.25000, 30.12500], -40.0),
                ([-10.53439, 18.66924, 36.12500], 121.0),
                ([-10.97767, 20.10224, 30.12500], 44.0),
                ([-10.05672, 18.81700, 32.12500], 23.0),
            ],
        ),
    ];
    for (name, voxels) in rows {
        let image = read_image(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files").join(name)).unwrap();
        assert_eq!(image.values.len(), 24, "{name}");
        for (point, value) in voxels {
            let VoxelIndex(index) = image.geometry.voxel_at(WorldPoint(point)).unwrap();
            assert!(image.geometry.centre_of(VoxelIndex(index)).distance_mm(WorldPoint(point)) < 2e-5, "{name}");
            assert_eq!(image.values[index], value, "{name} at {point:?}");
        }
    }
}

/// Values of SimpleITK and NumPy: size x y z, spacing x y z, origin, minimum, maximum, mean.
#[verifies("FR-001")]
#[test]
fn real_files_have_the_values_that_simpleitk_reads() {
    let Some(folder) = reference("ct") else { return };
    type Row = (&'static str, [usize; 3], [f64; 3], [f64; 3], f64, f64, f64);
    let rows: [Row; 6] = [
        (
            "cip_ct64/ct-64.nrrd",
            [64, 64, 79],
            [4.171872, 4.171872, 3.987342],
            [-128.4138, -264.4138, -360.2563],
            -1007.0,
            1095.0,
            -465.6271,
        ),
        (
            "imlab_lowres/id001-128x128x64.nii.gz",
            [128, 128, 64],
            [3.007812, 3.007812, 5.0],
            [-190.9961, 190.9961, -157.5],
            -3529.945,
            2032.274,
            -1085.1667,
        ),
        (
            "imlab_lowres/id002-128x128x64.nii.gz",
            [128, 128, 64],
            [3.257812, 3.257812, 4.765625],
            [-206.8711, 206.8711, -150.1172],
            -3601.705,
            2059.634,
            -1053.9449,
        ),
        (
            "elastix_small/3DCT_lung_baseline_small.mha",
            [57, 78, 64],
            [2.732, 2.732, 5.0],
            [-152.461, -148.986, -1432.0],
            -1130.0,
            1379.0,
            -349.9505,
        ),
        (
            "negative_abdomen/example_ct_sm.nii.gz",
            [122, 101, 30],
            [3.0, 3.0, 3.0],
            [177.9563, -11.319, 94.3018],
            -1100.0,
            1207.0,
            -354.0953,
        ),
        (
            "totalseg_heart_crop/ct_cropped.nii.gz",
            [122, 102, 112],
            [1.5, 1.5, 1.5],
            [-71.6582, -255.6582, 576.2],
            -1064.0,
            3343.0,
            -206.5506,
        ),
    ];
    for (file, [nx, ny, nz], [sx, sy, sz], origin, min, max, mean) in rows {
        let image = read_image(&folder.join(file)).unwrap();
        assert_eq!(image.geometry.size(), [nz, ny, nx], "{file}");
        let close = |a: f64, b: f64, tolerance: f64| assert!((a - b).abs() < tolerance, "{file}: {a} is not {b}");
        for (a, b) in image.geometry.spacing().zyx_mm().into_iter().zip([sz, sy, sx]) {
            close(a, b, 1e-5);
        }
        for (a, b) in image.geometry.origin().0.into_iter().zip(origin) {
            close(a, b, 1e-3);
        }
        let extreme = |pick: fn(f64, f64) -> f64| image.values.iter().map(|v| f64::from(*v)).reduce(pick).unwrap();
        close(extreme(f64::min), min, 1e-3);
        close(extreme(f64::max), max, 1e-3);
        close(image.values.iter().map(|v| f64::from(*v)).sum::<f64>() / image.values.len() as f64, mean, 1e-3);
    }
}

#[verifies("FR-001")]
#[test]
fn a_soft_mask_keeps_its_fractions() {
    let Some(path) = reference("ct/imlab_lowres/id001-128x128x64-msk.nii.gz") else { return };
    let image = read_image(&path).unwrap();
    let voxels = image.values.iter().filter(|v| **v > 127.0).count();
    let litres = voxels as f64 * image.geometry.spacing().voxel_mm3() / 1e6;
    assert!((litres - 7.6015).abs() < 1e-3, "{litres} l"); // ct/expected.json
    assert!(matches!(read_labels(&path), Err(DatasetError::NotALabel { .. })));
}

lungai_dicom::worker_in_tests!();

#[verifies("FR-001")]
#[test]
fn one_door_opens_dicom_and_research_images_alike() {
    let Some(folder) = reference("ct/cip_ct64") else { return };
    let dicom = open(&folder.join("dicom")).unwrap().scans.remove(0);
    let nrrd = open(&folder.join("ct-64.nrrd")).unwrap().scans.remove(0);
    assert_eq!(dicom.volume.hu(), nrrd.volume.hu());
    check_same_place(dicom.volume.geometry(), nrrd.volume.geometry(), 0.05); // the DICOM positions have three decimals
    assert_eq!(nrrd.series_uid, "sha256:1e35a7789ff1e391");
    assert_eq!(nrrd.transfer_syntax, "nrrd");
    assert_eq!(dicom.series_uid, "1.2.826.0.1.3680043.2.1125.1.18085492126195434258212517481071422");
}

#[test]
fn what_is_no_image_is_an_error_of_the_dicom_reader() {
    let folder = tempfile::tempdir().unwrap();
    let error = open(&write(folder.path(), "x.txt", &[b"hello"])).unwrap_err();
    assert_eq!(error.rule(), "not-dicom");
    assert_eq!(open(&folder.path().join("absent")).unwrap_err().rule(), "file-access");
}

/// Every file of `tests/files`, damaged: an image or one error. A panic or a wild allocation would end this process.
#[verifies("FR-001")]
#[test]
fn damaged_images_give_an_image_or_one_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut originals = Vec::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let mut name = path.file_name().unwrap().to_string_lossy().into_owned();
        // Data files of other headers lie beside the damaged ones; what gzip holds is damaged, not gzip.
        std::fs::write(folder.path().join(&name), &bytes).unwrap();
        if name.ends_with(".nii.gz") {
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut unpacked).unwrap();
            (bytes, name) = (unpacked, name.replace(".gz", ""));
        }
        if ![".raw", ".zraw"].iter().any(|ending| name.ends_with(ending)) {
            originals.push((name, bytes));
        }
    }
    originals.sort();
    assert_eq!(originals.len(), 9);
    let mut rng = StdRng::seed_from_u64(7);
    let (mut images, mut rules) = (0, std::collections::BTreeMap::<String, u32>::new());
    for _ in 0..2_000 {
        let (name, bytes) = originals.choose(&mut rng).unwrap();
        let mut bytes = bytes.clone();
        let header = bytes.len().min(560);
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..header.min(bytes.len()));
            match rng.random_range(0..6) {
                0 => bytes[at] = rng.random(),
                1 => bytes[at] ^= 1 << rng.random_range(0..8),
                // Digits and signs of a text header, or high bytes of a binary one.
                2 => bytes[at] = *b"0123456789-+.e =\n(),".choose(&mut rng).unwrap(),
                3 => bytes[at] = *[0, 0x7F, 0x80, 0xFF].choose(&mut rng).unwrap(),
                4 => drop(bytes.splice(at..at, *b"99999999")),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let path = write(folder.path(), &format!("damaged-{name}"), &[&bytes]);
        match read_image(&path) {
            Ok(_) => images += 1,
            Err(error) => *rules.entry(error.rule()).or_default() += 1,
        }
    }
    eprintln!("{images} images, {rules:?}");
    assert!(images > 100 && rules.len() > 5, "{images} images, {rules:?}");
}
