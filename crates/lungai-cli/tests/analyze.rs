//! `analyze` on a phantom, with a frozen model of untrained networks: what is asked here is that the path holds from DICOM
//! files to results, not that the results are good.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use lungai_datasets::{read_labels, write_volume};
use lungai_dicom::{SeriesTags, write_series};
use lungai_models::frozen::untrained;
use lungai_phantom::{CaseMix, Difficulty, Rendered, Scanner, Scene, render};
use lungai_trace::verifies;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A frozen model in `registry/untrained/1`, its key trusted.
fn frozen(registry: &Path) -> PathBuf {
    untrained(registry, BTreeMap::from([("default".into(), 0.999), ("everything".into(), 0.0)])).unwrap().0
}

fn phantom() -> (Rendered, Scanner) {
    let scanner = Scanner {
        matrix: 144,
        pixel_spacing_mm: 2.4,
        slice_spacing_mm: 2.5,
        slice_thickness_mm: 2.5,
        ..Scanner::small()
    };
    (render(&Scene::draw(&CaseMix::preset(Difficulty::Easy), 5), &scanner, 1), scanner)
}

fn analyze(path: &Path, models: &Path, out: &Path, more: &[&str]) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lungai"));
    command.arg("analyze").arg(path).arg("--models").arg(models).arg("--out").arg(out);
    let output = command.args(more).args(["--device", "cpu", "--json"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e} in {text:?}")))
}

#[verifies("FR-003", "FR-004", "FR-005")]
#[test]
fn a_dicom_folder_becomes_findings_lungs_and_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let model = frozen(&folder.path().join("models"));
    let (phantom, scanner) = phantom();
    let (series, out) = (folder.path().join("series"), folder.path().join("out"));
    let tags = SeriesTags::synthetic("SYN-1", "scan");
    write_series(&phantom.volume, &scanner.acquisition(), &tags, &series).unwrap();

    let (exit, json) = analyze(&series, &model, &out, &["--operating-point", "everything"]);
    assert_eq!((exit, &json["ok"]), (0, &Value::Bool(true)), "{json}");
    assert_eq!(json["series_uid"].as_str(), Some(tags.series_uid.as_str()));
    assert_eq!(json["operating_threshold"], 0.0);
    assert_eq!((&json["model"]["name"], &json["model"]["synthetic"]), (&"untrained".into(), &true.into()));
    assert!(json["quality"]["findings"].is_array());
    for stage in ["load", "preprocess", "segment", "detect", "classify", "total"] {
        assert!(json["seconds"][stage].as_f64().unwrap() >= 0.0, "{stage}");
    }
    let findings = json["findings"].as_array().unwrap();
    assert!(!findings.is_empty(), "a threshold of 0 reports every candidate");
    for (number, finding) in (1..).zip(findings) {
        assert_eq!(finding["id"], number);
        assert!(finding["diameter_mm"].as_f64().unwrap() >= 3.0);
        assert_eq!(finding["position_lps_mm"].as_array().unwrap().len(), 3);
        assert!((0.0..=1.0).contains(&finding["malignancy"]["probability"].as_f64().unwrap()));
        assert!(finding["characteristics"].as_object().unwrap().values().all(|v| !v.is_null()));
    }
    let written: Value = serde_json::from_slice(&std::fs::read(out.join("findings.json")).unwrap()).unwrap();
    assert_eq!(written, json);
    let lungs = read_labels(&out.join("lungs.nii.gz")).unwrap();
    assert_eq!(lungs.geometry().size(), phantom.volume.geometry().size());
    assert!((lungs.volume_ml(1) - json["lungs"]["right_ml"].as_f64().unwrap()).abs() < 1.0);
    let picture = std::fs::read(out.join("overview.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG") && picture.len() > 10_000);

    // The registry holds one model, so naming the registry is enough; the model's own threshold is strict.
    let (exit, json) = analyze(&series, &folder.path().join("models"), &out, &[]);
    assert_eq!((exit, &json["operating_threshold"]), (0, &0.999.into()), "{json}");
    let (exit, json) = analyze(&series, &model, &out, &["--operating-point", "screening"]);
    assert_eq!((exit, json["rule"].as_str()), (2, Some("operating-point")), "{json}");
}

#[verifies("FR-002", "R-001")]
#[test]
fn a_scan_that_the_gate_rejects_is_exit_3_with_reasons_and_without_findings() {
    let folder = tempfile::tempdir().unwrap();
    let model = frozen(&folder.path().join("models"));
    let (phantom, _) = phantom();
    // Water everywhere: no lungs, no chest.
    let (hu, geometry) = phantom.volume.into_parts();
    let water = lungai_ct::Volume::new(hu.map(|_| 0), geometry).unwrap();
    let (scan, out) = (folder.path().join("water.nrrd"), folder.path().join("out"));
    write_volume(&scan, &water).unwrap();
    let (exit, json) = analyze(&scan, &model, &out, &[]);
    assert_eq!(
        (exit, json["ok"].as_bool(), json["rule"].as_str()),
        (3, Some(false), Some("quality-rejected")),
        "{json}"
    );
    assert_eq!(json["quality"]["verdict"], "reject");
    assert!(json["findings"].is_null());
    let written: Value = serde_json::from_slice(&std::fs::read(out.join("findings.json")).unwrap()).unwrap();
    assert_eq!(written, json);
    assert!(!out.join("lungs.nii.gz").exists());
}

#[verifies("R-005")]
#[test]
fn a_model_that_is_not_what_was_signed_is_exit_4() {
    let folder = tempfile::tempdir().unwrap();
    let model = frozen(&folder.path().join("models"));
    std::fs::write(model.join("MODEL_CARD.md"), "# Another card\n").unwrap();
    let (exit, json) = analyze(&folder.path().join("any.mha"), &model, &folder.path().join("out"), &[]);
    assert_eq!((exit, json["rule"].as_str()), (4, Some("model-file")), "{json}");
    let (exit, json) =
        analyze(&folder.path().join("any.mha"), &folder.path().join("none"), &folder.path().join("out"), &[]);
    assert_eq!((exit, json["rule"].as_str()), (1, Some("no-model")), "{json}");
}
