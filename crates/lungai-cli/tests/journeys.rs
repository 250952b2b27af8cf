//! The binary as a script calls it, on real files with answers of independent programs (`ct/expected.json`: pydicom,
//! SimpleITK, NumPy) and on files that are broken on purpose.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use lungai_ct::{Acquisition, Geometry, LabelMap, Spacing, Volume, WorldPoint};
use lungai_datasets::{read_labels, read_volume, write_volume};
use lungai_dicom::{SeriesTags, write_series};
use lungai_phantom::{CaseMix, Difficulty, Scanner, Scene, render};
use lungai_trace::verifies;
use ndarray::Array3;
use serde_json::Value;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of real files, or a note that what needs them was not shown.
fn reference(relative: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("LUNGAI_REFERENCE_DATA") else {
        lungai_trace::not_evidenced("reference data absent");
        return None;
    };
    Some(Path::new(&folder).join(relative))
}

/// Runs `lungai ... --json`: exit code and the one object on standard output.
fn lungai(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lungai"));
    for argument in arguments {
        command.arg(argument);
    }
    let output = command.arg("--json").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e} in {text:?}"));
    (output.status.code().unwrap(), json)
}

fn info(path: &Path) -> Value {
    let (exit, json) = lungai(&[&"ct", &"info", &path]);
    assert_eq!((exit, &json["ok"]), (0, &Value::Bool(true)), "{json}");
    json["series"][0].clone()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn check_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= tolerance, "{what}: {found:?} is not {expected:?}");
    }
}

fn rejecting_rules(series: &Value) -> Vec<String> {
    let findings = series["quality"]["findings"].as_array().unwrap();
    findings.iter().filter(|f| f["verdict"] == "reject").map(|f| f["rule"].as_str().unwrap().to_owned()).collect()
}

#[verifies("FR-001")]
#[test]
fn info_agrees_with_pydicom_on_dicom_series() {
    let Some(expected) = reference("ct/expected.json") else { return };
    let expected: Value = serde_json::from_slice(&std::fs::read(expected).unwrap()).unwrap();
    for (path, key) in [
        ("ct/lung_fused_ct_pathology_0001.zip", "lung_fused_ct_pathology_0001"),
        ("ct/cip_ct64/dicom", "cip_ct64_dicom"),
    ] {
        let series = info(&reference(path).unwrap());
        let expected = &expected[key];
        assert_eq!(series["series_uid"], expected["series_uid"]);
        assert_eq!(series["transfer_syntax"], expected["transfer_syntax"]);
        assert_eq!(series["hu_sha256"], expected["hu_sha256_int16le_zyx_ascending_z"], "{key}");
        assert_eq!(series["slices"], expected["slices"]);
        let size: Vec<f64> = ["slices", "rows", "cols"].map(|k| expected[k].as_f64().unwrap()).into();
        check_close(&numbers(&series["size_zyx"]), &size, 0.0, key);
        check_close(&numbers(&series["origin_lps_mm"]), &numbers(&expected["first_ipp"]), 1e-3, key);
        check_close(&numbers(&series["spacing_zyx_mm"])[1..], &numbers(&expected["pixel_spacing"]), 1e-6, key);
        let step = numbers(&expected["z_step"]);
        let found = numbers(&series["spacing_zyx_mm"])[0];
        assert!((step[0]..=step[1]).contains(&found), "{key}: step {found} is not within {step:?}");
        check_close(&numbers(&series["direction"])[..6], &numbers(&expected["iop"]), 1e-6, key);
        let hu = |of: &Value| ["min", "max", "mean"].map(|k| of["hu"][k].as_f64().unwrap());
        check_close(&hu(&series), &hu(expected), 1e-4, key);
    }
}

#[verifies("FR-001")]
#[test]
fn info_agrees_with_simpleitk_on_research_formats() {
    let Some(expected) = reference("ct/expected.json") else { return };
    let expected: Value = serde_json::from_slice(&std::fs::read(expected).unwrap()).unwrap();
    for (path, key) in [
        ("ct/cip_ct64/ct-64.nrrd", "cip_ct64_nrrd"),
        ("ct/imlab_lowres/id001-128x128x64.nii.gz", "imlab_id001"),
        ("ct/imlab_lowres/id002-128x128x64.nii.gz", "imlab_id002"),
        ("ct/elastix_small/3DCT_lung_baseline_small.mha", "elastix_small"),
        ("ct/totalseg_heart_crop/ct_cropped.nii.gz", "totalseg_heart_crop"),
        ("ct/negative_abdomen/example_ct_sm.nii.gz", "negative_abdomen"),
    ] {
        let series = info(&reference(path).unwrap());
        let expected = &expected[key];
        let reversed = |v: &Value| numbers(v).into_iter().rev().collect::<Vec<f64>>();
        check_close(&numbers(&series["size_zyx"]), &reversed(&expected["size_xyz"]), 0.0, key);
        check_close(&numbers(&series["spacing_zyx_mm"]), &reversed(&expected["spacing"]), 1e-5, key);
        check_close(&numbers(&series["origin_lps_mm"]), &numbers(&expected["origin_lps"]), 1e-3, key);
        let values = ["min", "max", "mean"].map(|k| expected["values"][k].as_f64().unwrap());
        // HU are whole numbers, some of the files are not.
        let hu = ["min", "max", "mean"].map(|k| series["hu"][k].as_f64().unwrap());
        check_close(&hu, &values, if expected["dtype"] == "float32" { 0.5 } else { 1e-4 }, key);
        let name = series["series_uid"].as_str().unwrap();
        assert_eq!(name, format!("sha256:{}", &series["hu_sha256"].as_str().unwrap()[..16]));
    }
}

#[verifies("FR-002")]
#[test]
fn an_abdomen_is_answered_with_reject_and_never_with_a_failure() {
    let Some(path) = reference("ct/negative_abdomen/example_ct_sm.nii.gz") else { return };
    let series = info(&path);
    assert_eq!(series["quality"]["verdict"], "reject", "{series}");
    assert!(!rejecting_rules(&series).is_empty());
    let mask = tempfile::tempdir().unwrap();
    let out = mask.path().join("lungs.nii.gz");
    let (code, answer) = lungai(&[&"ct", &"lungs", &path, &"--out", &out]);
    assert_eq!((code, answer["rule"].as_str()), (3, Some("quality-rejected")), "{answer}");
    assert!(!out.exists());
}

#[verifies("FR-002")]
#[test]
fn cut_fields_of_view_are_reported() {
    let Some(folder) = reference("ct") else { return };
    for path in [
        "lung_fused_ct_pathology_0001.zip",
        "elastix_small/3DCT_lung_baseline_small.mha",
        "totalseg_heart_crop/ct_cropped.nii.gz",
    ] {
        let series = info(&folder.join(path));
        assert_ne!(series["quality"]["verdict"], "accept", "{path}");
        assert!(series["quality"]["findings"].as_array().unwrap().iter().all(|f| f["value"].is_number()), "{series}");
    }
}

#[verifies("FR-003")]
#[test]
fn half_a_chest_does_not_become_two_lungs() {
    let Some(path) = reference("ct/elastix_small/3DCT_lung_baseline_small.mha") else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("lungs.nii.gz");
    let (exit, json) = lungai(&[&"ct", &"lungs", &path, &"--out", &out]);
    assert_eq!(exit, 0, "{json}");
    let (left, right) = (json["left_ml"].as_f64().unwrap(), json["right_ml"].as_f64().unwrap());
    // The right half of the chest: what little lies beyond the midline is less than a twentieth.
    assert!(right > 500.0 && left < 0.05 * right, "left {left} ml, right {right} ml");
    let labels = read_labels(&out).unwrap();
    assert!((labels.volume_ml(1) - right).abs() < 0.1);
}

#[verifies("FR-001")]
#[test]
fn conversion_keeps_every_voxel_and_its_place() {
    let Some(input) = reference("ct/cip_ct64/dicom") else { return };
    let folder = tempfile::tempdir().unwrap();
    let original = info(&input);
    let mut previous = input;
    // A chain through every format and back to DICOM: an error anywhere stays visible at the end.
    for name in ["a.mha", "b.nii.gz", "c.nrrd", "d.mhd", "e.nii", "series/", "f.nhdr", "uid.1.2.3"] {
        let out = folder.path().join(name);
        let (exit, json) = lungai(&[&"ct", &"convert", &previous, &out]);
        assert_eq!(exit, 0, "{json}");
        let series = info(&out);
        assert_eq!(series["hu_sha256"], original["hu_sha256"], "{name}");
        check_close(&numbers(&series["origin_lps_mm"]), &numbers(&original["origin_lps_mm"]), 1e-3, name);
        check_close(&numbers(&series["spacing_zyx_mm"]), &numbers(&original["spacing_zyx_mm"]), 1e-4, name);
        check_close(&numbers(&series["direction"]), &numbers(&original["direction"]), 1e-6, name);
        previous = out;
    }
    assert_eq!(std::fs::read_dir(folder.path().join("series")).unwrap().count(), 79);
}

#[verifies("FR-001")]
#[test]
fn lossless_syntaxes_of_one_slice_decode_to_one_hash() {
    let Some(folder) = reference("dicom/ts_chest_slice") else { return };
    let hash = |name: &str| {
        let (exit, json) = lungai(&[&"ct", &"decode", &folder.join(name)]);
        assert_eq!(exit, 0, "{name}: {json}");
        assert_eq!((&json["frames"], &json["rows"], &json["columns"]), (&1.into(), &512.into(), &512.into()));
        json["pixel_sha256"].as_str().unwrap().to_owned()
    };
    let plain = hash("CTImage_LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm");
    for name in [
        "CTImage_RLELosslessTransferSyntax_1.2.840.10008.1.2.5.dcm",
        "CTImage_JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80.dcm",
        "CTImage_JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90.dcm",
        "CTImage_BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2.dcm",
    ] {
        assert_eq!(hash(name), plain, "{name}");
    }
}

/// A small block of tissue as a DICOM series.
fn block(folder: &Path, name: &str, slices: usize) -> PathBuf {
    let grid =
        Geometry::new([slices, 16, 16], Spacing::new([2.0, 1.0, 1.0]).unwrap(), WorldPoint([0.0; 3]), Geometry::AXIAL);
    let volume = Volume::new(ndarray::Array3::from_elem((slices, 16, 16), 40), grid.unwrap()).unwrap();
    let path = folder.join(name);
    write_series(&volume, &Acquisition::default(), &SeriesTags::synthetic("P", name), &path).unwrap();
    path
}

#[verifies("FR-001")]
#[test]
fn a_missing_slice_is_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let series = block(folder.path(), "gap", 8);
    std::fs::remove_file(series.join("000004.dcm")).unwrap();
    let (exit, json) = lungai(&[&"ct", &"info", &series]);
    assert_eq!((exit, &json["ok"], json["rule"].as_str()), (1, &Value::Bool(false), Some("missing-slices")), "{json}");
    assert!(json["message"].as_str().unwrap().contains("1 slices are missing"), "{json}");
    let single = block(folder.path(), "single", 1);
    assert_eq!(lungai(&[&"ct", &"info", &single]).1["rule"], "single-slice");
}

#[verifies("FR-001")]
#[test]
fn of_several_series_the_one_with_most_slices_is_taken_unless_another_is_named() {
    let folder = tempfile::tempdir().unwrap();
    block(folder.path(), "short", 3);
    block(folder.path(), "long", 6);
    let (_, json) = lungai(&[&"ct", &"info", &folder.path()]);
    let series = json["series"].as_array().unwrap();
    assert_eq!(series.len(), 2);
    let short = series.iter().find(|s| s["slices"] == 3).unwrap()["series_uid"].as_str().unwrap();
    let out = folder.path().join("out.mha");
    assert_eq!(lungai(&[&"ct", &"convert", &folder.path(), &out]).0, 0);
    assert_eq!(read_volume(&out).unwrap().0.geometry().size()[0], 6);
    std::fs::remove_file(&out).unwrap();
    assert_eq!(lungai(&[&"ct", &"convert", &folder.path(), &out, &"--series", &short]).0, 0);
    assert_eq!(read_volume(&out).unwrap().0.geometry().size()[0], 3);
    assert_eq!(lungai(&[&"ct", &"convert", &folder.path(), &out, &"--series", &"1.2"]).1["rule"], "unknown-series");
}

#[verifies("FR-001", "SR-003")]
#[test]
fn malformed_and_absent_input_is_a_failure_with_a_rule_and_without_a_path() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("DOE^JANE");
    std::fs::create_dir(&secret).unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = secret.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    for (path, rule) in [
        (file("x.dcm", b"hello"), "not-dicom"),
        (file("x.mha", b"ObjectType = Image\nDimSize = 9999999 9999999 9999999\n"), "too-large"),
        (file("x.nii.gz", b"\x1f\x8b\x08\x00 no gzip"), "malformed-file"),
        (file("x.nrrd", b"NRRD0004\ntype: short\n\n"), "no-orientation"),
        (secret.join("absent.nrrd"), "file-access"),
    ] {
        let (exit, json) = lungai(&[&"ct", &"info", &path]);
        assert_eq!((exit, json["rule"].as_str()), (1, Some(rule)), "{json}");
        assert!(!json.to_string().contains("DOE"), "{json}");
    }
    assert_eq!(lungai(&[&"ct", &"decode", &secret.join("x.dcm")]).1["rule"], "not-dicom");
}

#[test]
fn wrong_usage_is_exit_2_with_json_too() {
    let (exit, json) = lungai(&[&"ct", &"inform"]);
    assert_eq!((exit, json["rule"].as_str()), (2, Some("usage")), "{json}");
    let (exit, json) = lungai(&[&"ct", &"lungs", &"x", &"--out", &"mask.png"]);
    assert_eq!((exit, json["rule"].as_str()), (2, Some("usage")), "{json}");
    let plain = Command::new(env!("CARGO_BIN_EXE_lungai")).args(["ct", "info", "absent.mha"]).output().unwrap();
    assert_eq!(plain.status.code(), Some(1));
    assert!(plain.stdout.is_empty());
    assert!(String::from_utf8(plain.stderr).unwrap().starts_with("error: absent.mha"));
    // `cargo xtask` starts it under the name that was typed.
    let help =
        Command::new(env!("CARGO_BIN_EXE_lungai")).arg0("cargo xtask").args(["ct", "info", "-h"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("Usage: cargo xtask ct info ") && !help.contains("lungai "), "{help}");
    let help = Command::new(env!("CARGO_BIN_EXE_lungai")).arg("--help").output().unwrap();
    assert!(help.status.success() && String::from_utf8(help.stdout).unwrap().contains("Examples:"));
}

#[verifies("FR-003")]
#[test]
fn lungs_of_a_phantom_are_where_the_phantom_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let scanner = Scanner {
        matrix: 128,
        pixel_spacing_mm: 2.8,
        slice_spacing_mm: 3.0,
        slice_thickness_mm: 3.0,
        ..Scanner::small()
    };
    let phantom = render(&Scene::draw(&CaseMix::preset(Difficulty::Easy), 11), &scanner, 1);
    let path = folder.path().join("phantom.mha");
    write_volume(&path, &phantom.volume).unwrap();
    let out = folder.path().join("lungs.nrrd");
    assert_eq!(lungai(&[&"ct", &"lungs", &path, &"--out", &out]).0, 0);
    let found: LabelMap = read_labels(&out).unwrap();
    for label in [1u8, 2] {
        let count = |slice: &[u8]| slice.iter().filter(|l| **l == label).count();
        let both = found.as_slice().iter().zip(phantom.lungs.as_slice()).filter(|(a, b)| **a == label && **b == label);
        let dice = 2.0 * both.count() as f64 / (count(found.as_slice()) + count(phantom.lungs.as_slice())) as f64;
        assert!(dice > 0.95, "label {label}: Dice {dice:.3}"); // FR-003
    }
}

const RECIPE: &str = include_str!("../../../datasets/phantom-quick.yaml");

#[verifies("FR-001")]
#[test]
fn a_data_set_is_made_checked_and_its_damage_found() {
    let folder = tempfile::tempdir().unwrap();
    // The quick recipe on a coarser grid and with fewer patients.
    let coarse: String = RECIPE
        .lines()
        .map(|line| match line.trim().split_once(": ") {
            Some(("matrix", _)) => "      matrix: 96".to_owned(),
            Some(("pixel_spacing_mm", _)) => "      pixel_spacing_mm: 3.6".to_owned(),
            Some(("slice_spacing_mm", _)) => "      slice_spacing_mm: 6.0".to_owned(),
            Some(("train", _)) if line.ends_with('2') => "    train: 1".to_owned(),
            Some(("test", "3")) => "    test: 1".to_owned(),
            _ => line.to_owned(),
        })
        .map(|line| line + "\n")
        .collect();
    let recipe = folder.path().join("coarse.yaml");
    std::fs::write(&recipe, coarse).unwrap();
    let set = folder.path().join("set");
    let (exit, made) = lungai(&[&"dataset", &"make", &recipe, &"--out", &set]);
    assert_eq!(exit, 0, "{made}");
    assert_eq!(made["cases"], serde_json::json!({ "train": 2, "tune": 1, "test": 1 }));
    assert_eq!(made["synthetic"], true);
    let (exit, checked) = lungai(&[&"dataset", &"check", &set]);
    assert_eq!((exit, &checked["fingerprint"]), (0, &made["fingerprint"]), "{checked}");
    assert_eq!(lungai(&[&"dataset", &"fingerprint", &set.join("manifest.yaml")]).1["fingerprint"], made["fingerprint"]);

    let slice = set.join("cases/gamma-001/dicom/000010.dcm");
    let mut bytes = std::fs::read(&slice).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    std::fs::write(&slice, bytes).unwrap();
    // The lock tells first, also those who make the set again; without a lock the manifest does; a case that is gone is made anew.
    let outcome = |verb: &str, from: &Path| {
        let (exit, json) = match verb {
            "make" => lungai(&[&"dataset", &"make", &from, &"--out", &set]),
            _ => lungai(&[&"dataset", &"check", &from]),
        };
        (exit, json["rule"].as_str().map(str::to_owned))
    };
    assert_eq!(outcome("check", &set), (4, Some("changed-file".into())));
    assert_eq!(outcome("make", &recipe), (4, Some("changed-file".into())));
    let lock = set.join("dataset.lock");
    std::fs::rename(&lock, set.join("aside")).unwrap();
    assert_eq!(outcome("check", &set), (4, Some("checksum-mismatch".into())));
    std::fs::rename(set.join("aside"), &lock).unwrap();
    std::fs::remove_dir_all(set.join("cases/gamma-001")).unwrap();
    assert_eq!(outcome("make", &recipe), (0, None));
    assert_eq!(outcome("check", &set), (0, None));

    std::fs::write(&recipe, RECIPE.replace("licence:", "license:")).unwrap();
    let (exit, json) = lungai(&[&"dataset", &"make", &recipe, &"--out", &set]);
    assert_eq!((exit, json["rule"].as_str()), (1, Some("bad-configuration")), "{json}");
    assert!(json["message"].as_str().unwrap().contains("did you mean `licence`?"), "{json}");
}

#[verifies("FR-001")]
#[test]
fn a_set_of_others_is_imported_locked_planned_stored_and_described() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let spacing = Spacing::new([2.0, 1.0, 1.0]).unwrap();
    let grid = Geometry::new([40, 64, 64], spacing, WorldPoint([-32.0, -32.0, -40.0]), Geometry::AXIAL).unwrap();
    for (i, file) in ["subset0/a", "subset1/b", "subset9/c"].iter().enumerate() {
        let image = path("luna").join(format!("{file}.mhd"));
        std::fs::create_dir_all(image.parent().unwrap()).unwrap();
        let hu = Array3::from_elem((40, 64, 64), i as i16 - 800);
        write_volume(&image, &Volume::new(hu, grid.clone()).unwrap()).unwrap();
    }
    let table = |text: &str| std::fs::write(path("annotations.csv"), text).unwrap();
    let header = "seriesuid,coordX,coordY,coordZ,diameter_mm";
    std::fs::write(path("patients.csv"), "PatientID,SeriesInstanceUID\nP1,a\nP2,b\nP3,c\n").unwrap();
    let config = include_str!("../../../datasets/import-luna16.yaml").replace("tune_share: 0.1", "tune_share: 0.0");
    std::fs::write(path("import.yaml"), config).unwrap();
    let set = path("set");
    let import = || {
        let flags = ["--config", "--images", "--annotations", "--patients", "--out"];
        let paths = ["import.yaml", "luna", "annotations.csv", "patients.csv", "set"].map(path);
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"dataset", &"import", &"luna16"];
        flags.iter().zip(&paths).for_each(|(flag, path)| arguments.extend([flag as &dyn AsRef<_>, path]));
        lungai(&arguments)
    };
    table(&format!("{header}\na,1,2,3,0.6\n"));
    let (exit, json) = import();
    assert_eq!((exit, json["rule"].as_str()), (1, Some("wrong-unit")), "{json}");
    assert!(!set.join("manifest.yaml").exists());
    table(&format!("{header}\na,1,2,3,6\nc,0,0,0,8\n"));
    let (exit, json) = import();
    assert_eq!((exit, &json["cases"]), (0, &serde_json::json!({ "train": 2, "tune": 0, "test": 1 })), "{json}");
    assert_eq!((json["flow"]["nodules"].as_u64(), json["flow"]["found"]["series"].as_u64()), (Some(2), Some(3)));

    let (exit, json) = lungai(&[&"dataset", &"check", &set]);
    assert_eq!((exit, &json["locked"]), (0, &Value::Bool(true)), "{json}");
    // Only training cases are planned on: one nodule of two.
    let (exit, json) = lungai(&[&"dataset", &"plan", &set]);
    assert_eq!((exit, json["plan"]["fingerprint"]["nodules"].as_u64()), (0, Some(1)), "{json}");
    assert_eq!(json["plan"]["sizes"]["patch"].as_array().unwrap().len(), 3);
    let store = || lungai(&[&"dataset", &"store", &set, &"--out", &path("cache"), &"--spacing", &"1.5"]);
    assert_eq!((store().1["new"].as_u64(), store().1["new"].as_u64()), (Some(3), Some(0)));
    let about =
        [&"dataset" as &dyn AsRef<_>, &"croissant", &set, &"--url", &"https://example.org", &"--date", &"2026-01-31"];
    assert_eq!(lungai(&about).1["croissant"]["name"], "luna16");

    let image = path("luna/subset1/b.zraw");
    let mut bytes = std::fs::read(&image).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&image, bytes).unwrap();
    let (exit, json) = lungai(&[&"dataset", &"check", &set, &"--lock-only"]);
    assert_eq!((exit, json["rule"].as_str()), (4, Some("changed-file")), "{json}");
    assert_eq!(json["differences"].as_array().unwrap().len(), 1);
    // What was changed on purpose is locked anew.
    assert_eq!(lungai(&[&"dataset", &"lock", &set]).0, 0);
    assert_eq!(lungai(&[&"dataset", &"check", &set, &"--lock-only"]).0, 0);
}
