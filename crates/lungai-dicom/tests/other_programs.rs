//! What our writer makes, judged by other programs; and what they make, read by us.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use lungai_ct::{Acquisition, Geometry, Spacing, Volume, WorldPoint};
use lungai_dicom::{SeriesTags, derived_uid, hu_sha256, read, write_series};
use lungai_trace::verifies;
use ndarray::Array3;
use std::path::Path;
use std::process::Command;

lungai_dicom::worker_in_tests!();

fn volume(spacing: [f64; 3], origin: [f64; 3], direction: [[f64; 3]; 3]) -> Volume {
    let hu = Array3::from_shape_fn((3, 8, 6), |(z, y, x)| (100 * z + 10 * y + x) as i16 - 1024);
    let spacing = Spacing::new(spacing).unwrap();
    Volume::new(hu, Geometry::new([3, 8, 6], spacing, WorldPoint(origin), direction).unwrap()).unwrap()
}

/// As `ct convert` writes a research image: nothing is known of the patient or of the scanner.
fn converted() -> SeriesTags {
    SeriesTags {
        patient_id: "UNKNOWN".to_owned(),
        body_part: String::new(),
        date: String::new(),
        description: "Converted by LungAI".to_owned(),
        synthetic: false,
        study_uid: derived_uid("study"),
        series_uid: derived_uid("series"),
        frame_of_reference_uid: derived_uid("frame"),
    }
}

/// Errors and warnings of `dciodvfy` (dicom3tools), which checks a file against its IOD.
fn complaints(folder: &Path) -> Option<String> {
    let file = folder.join("000002.dcm");
    let Ok(output) = Command::new("dciodvfy").arg("-new").arg(file).output() else {
        lungai_trace::not_evidenced("dciodvfy is not installed");
        return None;
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("CTImage"), "{text}"); // it recognised the object
    let complaint = |line: &&str| line.starts_with("Error") || line.starts_with("Warning");
    // What stays: PS3.3 C.7.6.1.1.2 leaves the fourth value to us; a date and a body part that are not known are not made up.
    let stays =
        ["- Unrecognized defined term = <SYNTHETIC>", "needed to build DICOMDIR", "empty when actually unknown"];
    Some(text.lines().filter(complaint).filter(|line| !stays.iter().any(|known| line.contains(known))).collect())
}

#[verifies("FR-001")]
#[test]
fn dciodvfy_has_nothing_to_say_about_a_written_series_and_it_reads_back() {
    let full = Acquisition {
        slice_thickness_mm: Some(1.25),
        kernel: Some("B60f".to_owned()),
        manufacturer: Some("Maker".to_owned()),
        model: Some("Model".to_owned()),
        tube_kv: Some(120.0),
        exposure_mas: Some(40.4),
        contrast: Some(true),
        padding_hu: Some(-2000),
        padding_limit_hu: Some(-1900),
    };
    let (sin, cos) = 0.2f64.sin_cos();
    let third = 1.0 / 3.0;
    for (what, volume, acquisition, tags) in [
        (
            "a phantom",
            volume([1.25, 0.7, 0.7], [-180.5, -170.1, -42.3], Geometry::AXIAL),
            full.clone(),
            SeriesTags::synthetic("PHANTOM-7", "scan"),
        ),
        (
            "a NIfTI image",
            volume([third, third, third], [third; 3], Geometry::AXIAL),
            Acquisition::default(),
            converted(),
        ),
        (
            "rows to the right, as feet first",
            volume([5.0, 0.7, 0.6], [99.123456789; 3], [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
            Acquisition::default(),
            converted(),
        ),
        (
            "both axes turned, as NIfTI's RAS",
            volume([5.0, 0.7, 0.6], [-1500.5; 3], [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]]),
            full.clone(),
            converted(),
        ),
        (
            "an oblique stack",
            volume([3.0, 0.7, 0.7], [0.0; 3], [[1.0, 0.0, 0.0], [0.0, cos, sin], [0.0, -sin, cos]]),
            full,
            converted(),
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        write_series(&volume, &acquisition, &tags, folder.path()).unwrap();
        let scan = read(folder.path()).unwrap().scans.remove(0);
        assert_eq!(scan.volume.hu(), volume.hu(), "{what}");
        let (ours, theirs) = (volume.geometry(), scan.volume.geometry());
        let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near(&ours.spacing().zyx_mm(), &theirs.spacing().zyx_mm()), "{what}: {theirs:?}");
        assert!(near(&ours.origin().0, &theirs.origin().0), "{what}: {theirs:?}");
        assert!(near(ours.direction().as_flattened(), theirs.direction().as_flattened()), "{what}: {theirs:?}");
        if let Some(text) = complaints(folder.path()) {
            assert_eq!(text, "", "{what}");
        }
    }
}

#[verifies("FR-001")]
#[test]
fn what_could_not_be_read_again_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let coronal = volume([3.0, 0.7, 0.7], [0.0; 3], [[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]);
    let error = write_series(&coronal, &Acquisition::default(), &converted(), folder.path()).unwrap_err();
    assert_eq!(error.rule(), "non-axial");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// A Legacy Converted Enhanced CT object by highdicom 0.28.2, frames not in the order of their heights and each with its
/// own intercept, in the syntaxes that pydicom 3.0.2 and GDCM 3.2.6 write. The hashes are of what pydicom reads
/// (tests/peers/dicom_files.py).
#[verifies("FR-001", "FR-002")]
#[test]
fn files_of_other_programs_make_their_volumes() {
    let lossless = "f76b8f79c3d68b2f00beda7f9ee48e68392e6594366910473367a8e2e6c3e39c";
    for (name, syntax, sha256) in [
        ("explicit", "1.2.840.10008.1.2.1", lossless),
        ("rle", "1.2.840.10008.1.2.5", lossless),
        ("jpeg_lossless_57", "1.2.840.10008.1.2.4.57", lossless),
        ("jpeg_lossless_70", "1.2.840.10008.1.2.4.70", lossless),
        ("jpeg_ls", "1.2.840.10008.1.2.4.80", lossless),
        ("jpeg_ls_near", "1.2.840.10008.1.2.4.81", "ba2992e3b4445c29ef6276961de9e54595846b18d6d14f09ca262fa6cb17d618"),
        ("jpeg_2000", "1.2.840.10008.1.2.4.90", lossless),
        (
            "jpeg_2000_lossy",
            "1.2.840.10008.1.2.4.91",
            "7714f71631538f798da0efc533d22ae7484b41fff25186f76d22020b96a4857d",
        ),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/files/{name}.dcm"));
        let scan = read(&path).unwrap().scans.remove(0);
        assert_eq!(scan.transfer_syntax, syntax);
        assert_eq!(hu_sha256(&scan.volume), sha256, "{name}");
        let geometry = scan.volume.geometry();
        assert_eq!(geometry.size(), [5, 32, 40]);
        assert_eq!(geometry.spacing().zyx_mm(), [2.5, 0.8, 0.9]);
        assert_eq!(geometry.origin(), WorldPoint([-20.5, -16.25, 0.0]));
        // Slice 3, row 2, column 1: 3 * 300 + 2 * 20 + 7 + (2 * 4) % 13 - 1024 - 3.
        if sha256 == lossless {
            assert_eq!(scan.volume.hu()[[3, 2, 1]], -72);
        }
    }
}
