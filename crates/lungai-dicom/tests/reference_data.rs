//! Real files against what pydicom and SimpleITK read from them.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use lungai_dicom::{DecodedFile, DicomError, decode_file, hu_sha256, read};
use lungai_trace::verifies;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

lungai_dicom::worker_in_tests!();

fn reference_data() -> Option<PathBuf> {
    let folder = std::env::var_os("LUNGAI_REFERENCE_DATA").map(PathBuf::from);
    if folder.is_none() {
        lungai_trace::not_evidenced("reference data absent");
    }
    folder
}

fn pixel_sha256(file: &DecodedFile) -> String {
    let bytes: Vec<u8> = file.pixels.iter().flat_map(|value| value.to_le_bytes()).collect();
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Expected {
    size_zyx: [usize; 3],
    spacing_zyx_mm: [f64; 3],
    origin: [f64; 3],
    series_uid: String,
    study_uid: String,
    transfer_syntax: String,
    hu: [f64; 3],
    sha256: String,
}

fn expected(data: &Path, name: &str) -> Expected {
    let text = std::fs::read(data.join("ct/expected.json")).unwrap();
    let all: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let e = &all[name];
    let f = |v: &serde_json::Value| v.as_f64().unwrap();
    let slices = f(&e["slices"]);
    let text = |key: &str| e[key].as_str().unwrap().to_owned();
    Expected {
        size_zyx: [slices as usize, f(&e["rows"]) as usize, f(&e["cols"]) as usize],
        spacing_zyx_mm: [
            (f(&e["z_first_last"][1]) - f(&e["z_first_last"][0])) / (slices - 1.0),
            f(&e["pixel_spacing"][0]),
            f(&e["pixel_spacing"][1]),
        ],
        origin: [0, 1, 2].map(|i| f(&e["first_ipp"][i])),
        series_uid: text("series_uid"),
        study_uid: text("study_uid"),
        transfer_syntax: text("transfer_syntax"),
        hu: ["min", "max", "mean"].map(|key| f(&e["hu"][key])),
        sha256: text("hu_sha256_int16le_zyx_ascending_z"),
    }
}

fn check_scan(path: &Path, expected: &Expected) {
    let input = read(path).unwrap();
    assert_eq!((input.scans.len(), input.refused.len()), (1, 0));
    let scan = &input.scans[0];
    let geometry = scan.volume.geometry();
    assert_eq!(geometry.size(), expected.size_zyx);
    for (ours, theirs) in geometry.spacing().zyx_mm().iter().zip(expected.spacing_zyx_mm) {
        assert!((ours - theirs).abs() < 1e-6, "{ours} {theirs}");
    }
    assert_eq!(geometry.origin().0, expected.origin);
    assert_eq!(geometry.direction(), lungai_ct::Geometry::AXIAL);
    assert_eq!(scan.series_uid, expected.series_uid);
    assert_eq!(scan.study_uid.as_ref(), Some(&expected.study_uid));
    assert_eq!(scan.transfer_syntax, expected.transfer_syntax);
    let hu = scan.volume.as_slice();
    let mean = hu.iter().map(|v| f64::from(*v)).sum::<f64>() / hu.len() as f64;
    assert_eq!(f64::from(*hu.iter().min().unwrap()), expected.hu[0]);
    assert_eq!(f64::from(*hu.iter().max().unwrap()), expected.hu[1]);
    assert!((mean - expected.hu[2]).abs() < 1e-3, "mean {mean}");
    assert_eq!(hu_sha256(&scan.volume), expected.sha256);
}

#[verifies("FR-001")]
#[test]
fn a_zipped_series_has_the_voxels_that_pydicom_reads() {
    let Some(data) = reference_data() else { return };
    let expected = expected(&data, "lung_fused_ct_pathology_0001");
    check_scan(&data.join("ct/lung_fused_ct_pathology_0001.zip"), &expected);
    let scan = &read(&data.join("ct/lung_fused_ct_pathology_0001.zip")).unwrap().scans[0];
    assert_eq!(scan.acquisition.slice_thickness_mm, Some(2.0));
    assert_eq!(scan.acquisition.kernel.as_deref(), Some("B31f"));
}

#[verifies("FR-001")]
#[test]
fn a_folder_has_the_voxels_that_pydicom_reads() {
    let Some(data) = reference_data() else { return };
    check_scan(&data.join("ct/cip_ct64/dicom"), &expected(&data, "cip_ct64_dicom"));
}

/// Decoders of lossy JPEG may differ by rounding; everything else must be equal to pydicom's.
#[verifies("FR-001")]
#[test]
fn every_file_gives_the_expected_pixels_or_one_clear_error() {
    let Some(data) = reference_data() else { return };
    let table = std::fs::read_to_string(data.join("dicom/expected.csv")).unwrap();
    let mut lines = table.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let mut wrong = Vec::new();
    for line in lines {
        let values: Vec<&str> = line.split(',').collect();
        let get = |name: &str| values[names.iter().position(|n| *n == name).unwrap()];
        let outcome = decode_file(&data.join("dicom").join(get("file")));
        let lossy_jpeg = ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"].contains(&get("ts"));
        match (get("pixels"), outcome) {
            ("ok", Ok(file)) if lossy_jpeg => {
                let mean = file.pixels.iter().map(|v| f64::from(*v)).sum::<f64>() / file.pixels.len() as f64;
                let theirs: f64 = get("pmean").parse().unwrap();
                let range = [file.pixels.iter().min(), file.pixels.iter().max()].map(|v| f64::from(*v.unwrap()));
                let theirs_range = ["pmin", "pmax"].map(|name| get(name).parse::<f64>().unwrap());
                eprintln!("{}: mean {mean}, expected {theirs}; {range:?}, expected {theirs_range:?}", get("file"));
                if (mean - theirs).abs() > 0.05 || (0..2).any(|i| (range[i] - theirs_range[i]).abs() > 1.0) {
                    wrong.push(format!("{}: mean {mean}, expected {theirs}", get("file")));
                }
            }
            ("ok", Ok(file)) => {
                if pixel_sha256(&file) != get("pix_sha256_int32le") {
                    wrong.push(format!("{}: other pixels", get("file")));
                }
            }
            ("ok", Err(error)) => wrong.push(format!("{}: {error}", get("file"))),
            (_, Ok(_)) => wrong.push(format!("{}: pixels where pydicom has none", get("file"))),
            (_, Err(error)) => {
                eprintln!("{}: [{}] {error}", get("file"), error.rule());
                assert!(
                    !matches!(error, DicomError::WorkerDied { .. } | DicomError::WorkerReply | DicomError::Fault),
                    "{}",
                    get("file")
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The hash is pydicom 3.0.2's: functional groups per frame, rescale, sorted by position.
#[verifies("FR-001")]
#[test]
fn an_enhanced_ct_object_is_a_volume_in_every_lossless_syntax() {
    let Some(data) = reference_data() else { return };
    for name in [
        "explicit_little_endian",
        "fragmented_no_bot_jpeg_lossless.57",
        "fragmented_no_bot_jpeg_lossless.70",
        "fragmented_no_bot_jpeg_ls.80",
        "not_fragmented_no_bot_jpeg_ls.80",
        "not_fragmented_bot_rle",
    ] {
        let input = read(&data.join(format!("dicom/multiframe/CT0012.{name}.dcm"))).unwrap();
        let volume = &input.scans[0].volume;
        assert_eq!(hu_sha256(volume), "8b83565d4fe8f235ce9c4f174d64481d43d0c5976c606db518fe00c3aa9f8c66", "{name}");
        assert_eq!(volume.geometry().spacing().zyx_mm(), [10.0, 0.388672, 0.388672]);
        assert_eq!(volume.geometry().origin().0, [99.5, -301.5, -159.0]);
    }
}

#[verifies("FR-001")]
#[test]
fn what_is_no_axial_series_is_refused_by_name() {
    let Some(data) = reference_data() else { return };
    let rule = |file: &str| read(&data.join("dicom").join(file)).unwrap_err().rule();
    assert_eq!(rule("tcia_covid_ny_sbu/A027284_coronal_19001231-070.dcm"), "non-axial");
    assert_eq!(rule("ts_chest_slice/CTImage.dcm"), "single-slice");
    assert_eq!(rule("tcia_covid_ny_sbu/A002304_axial_19001231-076.dcm"), "single-slice");
    assert_eq!(rule("sr/highdicom_sr_document.dcm"), "not-ct");
    assert_eq!(rule("seg/highdicom_seg_image_ct_binary.dcm"), "not-ct");
    assert_eq!(rule("pydicom_files/no_meta.dcm"), "not-dicom");
}
