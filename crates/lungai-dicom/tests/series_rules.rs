//! What we write we read back, and each seeded fault is refused by its own name.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::{DefaultDicomObject, open_file};
use lungai_ct::{Acquisition, Geometry, Spacing, Volume, WorldPoint};
use lungai_dicom::{DicomError, DicomInput, Limits, SeriesTags, read, read_within, survey, write_series};
use lungai_trace::verifies;
use ndarray::Array3;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

lungai_dicom::worker_in_tests!();

const PATIENT: &str = "PATIENT7";
const STEP_MM: f64 = 1.25;

/// Every voxel has another value.
fn ramp(size: [usize; 3]) -> Volume {
    let [z, y, x] = size;
    let hu = Array3::from_shape_fn((z, y, x), |(k, j, i)| ((k * y + j) * x + i) as i16 - 1024);
    let spacing = Spacing::new([STEP_MM, 0.7, 0.703125]).unwrap();
    let geometry = Geometry::new(size, spacing, WorldPoint([-180.5, -170.1, -42.3]), Geometry::AXIAL).unwrap();
    Volume::new(hu, geometry).unwrap()
}

fn acquisition() -> Acquisition {
    Acquisition {
        slice_thickness_mm: Some(1.25),
        kernel: Some("B60f".to_owned()),
        manufacturer: Some("Maker".to_owned()),
        model: Some("Model".to_owned()),
        tube_kv: Some(120.0),
        exposure_mas: Some(40.0),
        contrast: Some(false),
        padding_hu: Some(-2000),
        padding_limit_hu: None,
    }
}

fn slice(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("{number:06}.dcm"))
}

/// Six slices of 7 x 7 pixels, each file changed by `fault`, which is told the slice's number from 0.
fn series(fault: impl Fn(usize, &mut DefaultDicomObject)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_series(&ramp([6, 7, 7]), &acquisition(), &SeriesTags::synthetic(PATIENT, "scan"), folder.path()).unwrap();
    for number in 0..6 {
        let path = slice(folder.path(), number + 1);
        let mut object = open_file(&path).unwrap();
        fault(number, &mut object);
        object.write_to_file(&path).unwrap();
    }
    folder
}

fn set(object: &mut DefaultDicomObject, tag: Tag, vr: VR, text: &str) {
    object.put(DataElement::new(tag, vr, PrimitiveValue::from(text)));
}

fn set_u16(object: &mut DefaultDicomObject, tag: Tag, value: u16) {
    object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
}

fn set_pixels(object: &mut DefaultDicomObject, values: &[u16]) {
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(values.into())));
}

fn place(object: &mut DefaultDicomObject, [x, y, z]: [f64; 3]) {
    set(object, tags::IMAGE_POSITION_PATIENT, VR::DS, &format!("{x}\\{y}\\{z}"));
}

/// Refused by this name, and the message keeps the patient out.
fn check_refused(folder: &TempDir, rule: &str) -> DicomError {
    let error = read(folder.path()).unwrap_err();
    assert_eq!(error.rule(), rule, "{error}");
    assert!(!error.to_string().contains(PATIENT));
    error.cause().clone()
}

fn check_whole(folder: &TempDir) -> DicomInput {
    let input = read(folder.path()).unwrap();
    assert_eq!(input.scans.len(), 1);
    assert_eq!(input.scans[0].volume, ramp([6, 7, 7]));
    input
}

#[verifies("FR-001")]
#[test]
fn a_written_series_reads_back_equal() {
    let folder = series(|_, _| {});
    let input = check_whole(&folder);
    assert_eq!((input.refused.len(), input.set_aside.len()), (0, 0));
    let (scan, tags) = (&input.scans[0], SeriesTags::synthetic(PATIENT, "scan"));
    assert_eq!(scan.acquisition, acquisition());
    assert_eq!(scan.patient_id.as_deref(), Some(PATIENT));
    assert_eq!(scan.series_uid, tags.series_uid);
    assert_eq!(scan.study_uid, Some(tags.study_uid));
    assert_eq!(scan.frame_of_reference_uid, Some(tags.frame_of_reference_uid));
    assert_eq!(scan.transfer_syntax, "1.2.840.10008.1.2.1");
}

#[test]
fn a_folder_is_written_once() {
    let folder = series(|_, _| {});
    let tags = SeriesTags::synthetic(PATIENT, "scan");
    let again = write_series(&ramp([2, 7, 7]), &acquisition(), &tags, folder.path());
    assert_eq!(again, Err(DicomError::FolderNotEmpty));
}

#[verifies("FR-001")]
#[test]
fn names_folders_and_tags_about_order_do_not_matter() {
    let folder = series(|number, object| {
        set(object, tags::INSTANCE_NUMBER, VR::IS, &(90 - number).to_string());
        set(object, tags::SLICE_LOCATION, VR::DS, "0");
        set(object, tags::SLICE_THICKNESS, VR::DS, "9");
        set(object, tags::SPACING_BETWEEN_SLICES, VR::DS, "7");
    });
    let deep = folder.path().join("b/c");
    fs::create_dir_all(&deep).unwrap();
    let no_text = std::ffi::OsStr::from_bytes(b"slice \xFF\xFE");
    fs::rename(slice(folder.path(), 5), folder.path().join(no_text)).unwrap();
    for (number, name) in [(1, "b/z"), (2, "IMG 9.txt"), (3, "b/c/.hidden"), (4, "a.dcm.bak")] {
        fs::rename(slice(folder.path(), number), folder.path().join(name)).unwrap();
    }
    check_whole(&folder);
}

#[verifies("FR-001")]
#[test]
fn an_archive_reads_like_the_folder() {
    let folder = series(|_, _| {});
    let out = tempfile::tempdir().unwrap();
    let mut zip = zip::ZipWriter::new(fs::File::create(out.path().join("scan.zip")).unwrap());
    let mut tar = tar::Builder::new(fs::File::create(out.path().join("scan.tar")).unwrap());
    for number in (1..=6).rev() {
        let path = slice(folder.path(), number);
        // A name that points out of the folder does no harm: entries are never written anywhere.
        zip.start_file(format!("../../{number}"), zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, &fs::read(&path).unwrap()).unwrap();
        tar.append_path_with_name(&path, format!("study/{number}")).unwrap();
    }
    zip.finish().unwrap();
    tar.finish().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &fs::read(out.path().join("scan.tar")).unwrap()).unwrap();
    let gzip = gzip.finish().unwrap();
    fs::write(out.path().join("scan.tgz"), &gzip).unwrap();
    for name in ["scan.zip", "scan.tar", "scan.tgz"] {
        assert_eq!(read(&out.path().join(name)).unwrap().scans[0].volume, ramp([6, 7, 7]), "{name}");
    }
    // Both in one folder are the same slices twice.
    check_refused(&out, "duplicate-slices");
    fs::remove_file(out.path().join("scan.tar")).unwrap();
    fs::remove_file(out.path().join("scan.zip")).unwrap();
    check_whole(&out);
    fs::write(out.path().join("scan.tgz"), &gzip[..gzip.len() / 2]).unwrap();
    check_refused(&out, "damaged-archive");
}

#[verifies("FR-001", "FR-002", "SW-102", "R-001")]
#[test]
fn gaps_must_be_equal() {
    let missing = series(|_, _| {});
    fs::remove_file(slice(missing.path(), 3)).unwrap();
    let error = check_refused(&missing, "missing-slices");
    assert_eq!(error, DicomError::MissingSlices { missing: 1, min_mm: gap(&error), max_mm: 2.0 * gap(&error) });

    let uneven = series(|number, object| {
        let shift = if number == 3 { 0.5 } else { 0.0 };
        place(object, [-180.5, -170.1, STEP_MM * number as f64 + shift]);
    });
    assert_eq!(check_refused(&uneven, "uneven-gaps"), DicomError::UnevenGaps { min_mm: 0.75, max_mm: 1.75 });

    // Gaps that alternate are uneven; nothing is missing where no gap is twice another.
    let jitter = series(|number, object| {
        let shift = if number % 2 == 1 { 0.3 } else { 0.0 };
        place(object, [-180.5, -170.1, number as f64 + shift]);
    });
    check_refused(&jitter, "uneven-gaps");

    // Positions with one decimal: gaps of 1.2 and 1.3 mm.
    let rounded = series(|number, object| {
        place(object, [-180.5, -170.1, (STEP_MM * number as f64 * 10.0).floor() / 10.0]);
    });
    assert!((read(rounded.path()).unwrap().scans[0].volume.geometry().spacing().zyx_mm()[0] - 1.24).abs() < 1e-9);
}

/// 40 gaps of 1 mm and 40 of 1.1 mm: each within a tenth of their mean, but the middle slice would lie 2 mm off.
#[verifies("FR-001", "R-001", "SW-102")]
#[test]
fn small_differences_between_gaps_must_not_add_up() {
    let folder = tempfile::tempdir().unwrap();
    write_series(&ramp([81, 2, 2]), &acquisition(), &SeriesTags::synthetic(PATIENT, "scan"), folder.path()).unwrap();
    for number in 0..81 {
        let path = slice(folder.path(), number + 1);
        let mut object = open_file(&path).unwrap();
        place(&mut object, [-180.5, -170.1, number as f64 + 0.1 * (number as f64 - 40.0).max(0.0)]);
        object.write_to_file(&path).unwrap();
    }
    check_refused(&folder, "uneven-gaps");
}

fn gap(error: &DicomError) -> f64 {
    let DicomError::MissingSlices { min_mm, .. } = error else { panic!("{error}") };
    assert!((min_mm - STEP_MM).abs() < 1e-9);
    *min_mm
}

#[verifies("FR-001", "FR-002")]
#[test]
fn two_slices_at_one_place_are_refused() {
    let folder = series(|_, _| {});
    fs::copy(slice(folder.path(), 2), folder.path().join("copy")).unwrap();
    let DicomError::DuplicateSlices { count: 1, .. } = check_refused(&folder, "duplicate-slices") else { panic!() };
}

#[verifies("FR-001", "FR-002")]
#[test]
fn slices_of_one_series_are_alike() {
    let last = |number: usize| number == 5;
    let sizes = series(|number, object| {
        if last(number) {
            set_u16(object, tags::ROWS, 1);
            set_u16(object, tags::COLUMNS, 49);
        }
    });
    assert_eq!(check_refused(&sizes, "mixed-sizes"), DicomError::MixedSizes { first: [7, 7], other: [1, 49] });
    let spacing = series(|number, object| {
        if last(number) {
            set(object, tags::PIXEL_SPACING, VR::DS, "0.8\\0.8");
        }
    });
    check_refused(&spacing, "mixed-spacing");
    let orientation = series(|number, object| {
        if last(number) {
            set(object, tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "0.995\\0.0998749\\0\\-0.0998749\\0.995\\0");
        }
    });
    check_refused(&orientation, "mixed-orientation");
}

#[verifies("FR-001", "SR-003", "R-004")]
#[test]
fn what_one_file_breaks_is_told_by_its_place_and_not_by_its_name() {
    let spacing = series(|number, object| {
        if number == 4 {
            object.remove_element(tags::PIXEL_SPACING);
        }
    });
    let short = series(|number, object| {
        if number == 2 {
            set_pixels(object, &[0; 48]);
        }
    });
    for (folder, message) in [
        (spacing, "file 5 of 7 by sorted path: required attribute PixelSpacing is missing or empty"),
        (short, "file 3 of 7 by sorted path: 96 bytes of pixel data where the image attributes demand 98"),
    ] {
        // Files that are no images count too: who looks for the file counts what lies there.
        std::fs::write(folder.path().join("zz-report-of-DOE"), "no image").unwrap();
        assert_eq!(read(folder.path()).unwrap_err().to_string(), message);
    }
}

#[verifies("FR-001")]
#[test]
fn a_folder_without_a_readable_series_is_told_in_full() {
    let folder = series(|number, object| {
        if number == 3 {
            object.remove_element(tags::IMAGE_POSITION_PATIENT);
        }
    });
    std::fs::write(folder.path().join("note.txt"), "no image").unwrap();
    let input = survey(folder.path(), &Limits::default()).unwrap();
    assert_eq!((input.scans.len(), input.refused.len(), input.set_aside.len()), (0, 1, 1));
    assert_eq!((input.refused[0].files, input.why_empty().rule().as_str()), (6, "missing-tag"));
    assert_eq!(read(folder.path()).unwrap_err(), input.why_empty());
}

#[verifies("FR-001", "SW-104", "R-005")]
#[test]
fn a_volume_is_of_one_patient_one_study_and_one_frame_of_reference() {
    for (tag, vr, name) in [
        (tags::PATIENT_ID, VR::LO, "PatientID"),
        (tags::STUDY_INSTANCE_UID, VR::UI, "StudyInstanceUID"),
        (tags::FRAME_OF_REFERENCE_UID, VR::UI, "FrameOfReferenceUID"),
    ] {
        // One UID for all series, as a careless anonymiser writes; the upper half is another's.
        let mixed = series(|number, object| {
            if number >= 3 {
                set(object, tag, vr, "1.2.3.4");
            }
        });
        assert_eq!(check_refused(&mixed, "mixed-series"), DicomError::MixedSeries { name: name.into() });
    }
}

#[verifies("FR-001")]
#[test]
fn values_of_another_kind_are_not_taken_for_hounsfield_units() {
    let iodine = series(|_, object| set(object, tags::RESCALE_TYPE, VR::LO, "MGML"));
    check_refused(&iodine, "not-hounsfield");
    for kind in ["HU", "US", ""] {
        let ct = series(|_, object| set(object, tags::RESCALE_TYPE, VR::LO, kind));
        assert!(read(ct.path()).is_ok(), "{kind}");
    }
}

#[verifies("FR-001", "FR-002")]
#[test]
fn stacks_that_are_no_upright_grid_are_refused() {
    let (s, c) = 15f64.to_radians().sin_cos();
    // The gantry leans by 15 degrees; the table moves along the patient.
    let tilted = series(|number, object| {
        set(object, tags::IMAGE_ORIENTATION_PATIENT, VR::DS, &format!("1\\0\\0\\0\\{c:.9}\\{s:.9}"));
        place(object, [0.0, 0.0, 5.0 * number as f64]);
    });
    let DicomError::GantryTilt { degrees } = check_refused(&tilted, "gantry-tilt") else { panic!() };
    assert!((degrees - 15.0).abs() < 1e-6);
    // The same slices stacked along their own normal are a regular grid.
    let oblique = series(|number, object| {
        set(object, tags::IMAGE_ORIENTATION_PATIENT, VR::DS, &format!("1\\0\\0\\0\\{c:.9}\\{s:.9}"));
        place(object, [0.0, -5.0 * s * number as f64, 5.0 * c * number as f64]);
    });
    let scan = &read(oblique.path()).unwrap().scans[0];
    assert!((scan.volume.geometry().direction()[2][2] - c).abs() < 1e-6);
    let sideways = series(|number, object| {
        place(object, [if number == 2 { 3.0 } else { 0.0 }, 0.0, STEP_MM * number as f64]);
    });
    check_refused(&sideways, "misaligned");
}

#[verifies("FR-001")]
#[test]
fn other_planes_are_named() {
    for (plane, orientation) in [("coronal", "1\\0\\0\\0\\0\\-1"), ("sagittal", "0\\1\\0\\0\\0\\-1")] {
        let folder = series(|_, object| set(object, tags::IMAGE_ORIENTATION_PATIENT, VR::DS, orientation));
        let DicomError::NonAxial { plane: found, .. } = check_refused(&folder, "non-axial") else { panic!() };
        assert_eq!(found, plane);
    }
}

#[verifies("FR-001")]
#[test]
fn prone_and_feet_first_slices_still_ascend_to_the_head() {
    // Rows run to the patient's right: the normal points to the feet.
    let folder = series(|_, object| set(object, tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "-1\\0\\0\\0\\1\\0"));
    let scan = &read(folder.path()).unwrap().scans[0];
    assert_eq!(scan.volume.as_slice(), ramp([6, 7, 7]).as_slice());
    assert_eq!(scan.volume.geometry().direction(), [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);
}

#[verifies("FR-001", "FR-002")]
#[test]
fn files_that_are_no_ct_slices_are_set_aside_with_a_reason() {
    let folder = series(|_, _| {});
    let extra = series(|number, object| {
        place(object, [0.0, 0.0, 500.0 + number as f64]);
        match number {
            0 => set(object, tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\LOCALIZER"),
            1 => set(object, tags::MODALITY, VR::CS, "MR"),
            2 => set(object, tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.7"),
            3 => set(object, tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "1\\0\\0\\0\\0\\-1"),
            4 => set(object, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME1"),
            _ => set(object, tags::SERIES_INSTANCE_UID, VR::UI, ""),
        }
    });
    fs::rename(extra.path(), folder.path().join("extra")).unwrap();
    fs::write(folder.path().join("readme.txt"), "no DICOM").unwrap();
    fs::write(folder.path().join("empty"), "").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    let input = check_whole(&folder);
    let found: Vec<(String, String)> = input.set_aside.iter().map(|a| (a.file.clone(), a.reason.rule())).collect();
    let expected = [
        ("empty", "not-dicom"),
        ("extra/000001.dcm", "localizer"),
        ("extra/000002.dcm", "not-ct"),
        ("extra/000003.dcm", "not-ct-image"),
        ("extra/000004.dcm", "non-axial"),
        ("extra/000005.dcm", "not-greyscale"),
        ("extra/000006.dcm", "missing-tag"),
        ("readme.txt", "not-dicom"),
        ("socket", "not-a-file"),
    ];
    assert_eq!(found, expected.map(|(file, rule)| (file.to_owned(), rule.to_owned())));
}

#[verifies("FR-001")]
#[test]
fn an_input_without_ct_says_what_it_holds() {
    let folder = series(|_, object| set(object, tags::MODALITY, VR::CS, "PT"));
    fs::write(folder.path().join("notes.txt"), "no DICOM").unwrap();
    let error = check_refused(&folder, "no-ct-series");
    assert_eq!(error, DicomError::NoCtSeries { files: 7, mostly: "not-ct".to_owned() });
    let empty = tempfile::tempdir().unwrap();
    check_refused(&empty, "empty");
}

#[verifies("FR-001")]
#[test]
fn several_series_come_largest_first() {
    let folder = tempfile::tempdir().unwrap();
    for (name, slices) in [("a", 2), ("b", 5), ("c", 1), ("d", 3)] {
        let tags = SeriesTags::synthetic(PATIENT, name);
        write_series(&ramp([slices, 4, 4]), &acquisition(), &tags, &folder.path().join(name)).unwrap();
    }
    let input = read(folder.path()).unwrap();
    let slices: Vec<usize> = input.scans.iter().map(|scan| scan.volume.geometry().size()[0]).collect();
    assert_eq!(slices, [5, 3, 2]);
    assert_eq!(input.refused.len(), 1);
    assert_eq!(input.refused[0].error, DicomError::SingleSlice);
    assert_eq!(input.refused[0].series_uid, SeriesTags::synthetic(PATIENT, "c").series_uid);
}

#[verifies("FR-001", "FR-002")]
#[test]
fn nothing_is_guessed_where_an_attribute_is_missing() {
    for tag in [
        tags::IMAGE_POSITION_PATIENT,
        tags::IMAGE_ORIENTATION_PATIENT,
        tags::PIXEL_SPACING,
        tags::RESCALE_SLOPE,
        tags::RESCALE_INTERCEPT,
        tags::ROWS,
        tags::BITS_ALLOCATED,
    ] {
        let folder = series(|number, object| {
            if number == 4 {
                object.remove_element(tag);
            }
        });
        let error = read(folder.path()).unwrap_err();
        let refused = ["missing-tag", "mixed-sizes"].contains(&error.rule().as_str());
        assert!(refused, "{tag}: {error}");
    }
    let text = series(|number, object| {
        if number == 4 {
            set(object, tags::RESCALE_SLOPE, VR::DS, "nan");
        }
    });
    // The other five slices have a hole where the unreadable file belongs.
    check_refused(&text, "missing-slices");
    let frames = series(|_, object| set(object, tags::NUMBER_OF_FRAMES, VR::IS, "3"));
    check_refused(&frames, "missing-tag");
    let layout = series(|_, object| set_u16(object, tags::BITS_STORED, 17));
    check_refused(&layout, "pixel-layout");
    let short = series(|_, object| set_pixels(object, &[0; 48]));
    assert_eq!(check_refused(&short, "pixel-length"), DicomError::PixelLength { expected: 98, found: 96 });
}

#[verifies("FR-001", "SW-103")]
#[test]
fn hu_follow_slope_intercept_sign_and_bit_depth() {
    // 12 bits unsigned above which an old overlay sets bit 15; slope 1.5, intercept -1024.
    let unsigned = series(|_, object| {
        set_u16(object, tags::BITS_STORED, 12);
        set_u16(object, tags::HIGH_BIT, 11);
        set_u16(object, tags::PIXEL_REPRESENTATION, 0);
        set_u16(object, tags::PIXEL_PADDING_VALUE, 4095);
        set(object, tags::RESCALE_SLOPE, VR::DS, "1.5");
        set(object, tags::RESCALE_INTERCEPT, VR::DS, "-1024");
        let mut values = [0u16; 49];
        values[..4].copy_from_slice(&[0, 1, 4095, 0x8002]);
        set_pixels(object, &values);
    });
    let scan = &read(unsigned.path()).unwrap().scans[0];
    // 1 * 1.5 - 1024 = -1022.5 rounds away from zero; 4095 * 1.5 - 1024 = 5118.5.
    assert_eq!(scan.volume.as_slice()[..4], [-1024, -1023, 5119, -1021]);
    assert_eq!(scan.acquisition.padding_hu, Some(5119));

    // 12 bits signed: 0xFFF is -1. Beyond 16 bits HU saturate.
    let signed = series(|_, object| {
        set_u16(object, tags::BITS_STORED, 12);
        set_u16(object, tags::HIGH_BIT, 11);
        set(object, tags::RESCALE_SLOPE, VR::DS, "100");
        let mut values = [0u16; 49];
        values[..4].copy_from_slice(&[0x0FFF, 0x0800, 0x07FF, 0x0002]);
        set_pixels(object, &values);
    });
    let scan = &read(signed.path()).unwrap().scans[0];
    assert_eq!(scan.volume.as_slice()[..4], [-100, i16::MIN, i16::MAX, 200]);
}

#[verifies("FR-001")]
#[test]
fn limits_bound_the_input_as_a_whole() {
    let folder = series(|_, _| {});
    let rule = |limits: Limits| read_within(folder.path(), &limits).unwrap_err().rule();
    assert_eq!(rule(Limits { files: 5, ..Limits::default() }), "too-many-files");
    assert_eq!(rule(Limits { frames: 5, ..Limits::default() }), "too-many-frames");
    assert_eq!(rule(Limits { series_voxels: 6 * 49 - 1, ..Limits::default() }), "series-too-large");
    assert_eq!(rule(Limits { input_voxels: 6 * 49 - 1, ..Limits::default() }), "input-too-large");
    assert_eq!(rule(Limits { file_pixels: 48, ..Limits::default() }), "too-many-pixels");
    assert_eq!(rule(Limits { file_seconds: 0, ..Limits::default() }), "no-ct-series"); // no file was answered for in time
    fs::create_dir_all(folder.path().join("a/b/c")).unwrap();
    assert_eq!(rule(Limits { folder_depth: 2, ..Limits::default() }), "folders-too-deep");
}
