//! The model in `models/`, as it is shipped, on a real scan. It has seen SYNTHETIC scans only.

use crate::programs::good;
use lungai_trace::{Limit, measured, not_evidenced, verifies};
use serde_json::Value;

const MODEL: &str = "models/lungai-phantom-reference/1.2.0";

#[verifies("FR-004")]
#[test]
fn the_shipped_model_is_intact_and_finds_the_part_solid_nodule_of_a_real_chest() {
    let Ok(data) = std::env::var("LUNGAI_REFERENCE_DATA") else {
        return not_evidenced("reference data absent");
    };
    let out = tempfile::tempdir().unwrap();
    let scan = format!("{data}/ct/lung_fused_ct_pathology_0001.zip");
    let value = good("lungai", &["analyze", &scan, "--models", MODEL, "--out", out.path().to_str().unwrap()]);
    // Our reading of the scan: a lesion of 17 to 20 mm round this place (LPS, mm).
    let nodule = [-50.0, -148.0, 58.0];
    let apart = |finding: &Value| -> f64 {
        let at = finding["position_lps_mm"].as_array().unwrap().iter().map(|mm| mm.as_f64().unwrap());
        at.zip(nodule).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
    };
    let findings = value["findings"].as_array().unwrap();
    let nearest = findings.iter().map(apart).fold(f64::INFINITY, f64::min);
    assert!(nearest < 8.5, "the nearest of {} findings is {nearest:.1} mm away", findings.len());
    assert!(findings.len() <= 10, "{} findings", findings.len());
}

#[verifies("FR-003")]
#[test]
fn the_shipped_model_finds_the_lungs_of_two_real_chests() {
    let Ok(data) = std::env::var("LUNGAI_REFERENCE_DATA") else {
        return not_evidenced("reference data absent");
    };
    let out = tempfile::tempdir().unwrap();
    // Whole chests of 3 x 3 x 5 mm, whose masks ring between 0 and 255.
    for chest in ["id001", "id002"] {
        let of = |end: &str| format!("{data}/ct/imlab_lowres/{chest}-128x128x64{end}.nii.gz");
        let found = out.path().join(format!("{chest}.nii.gz")).to_str().unwrap().to_owned();
        good("lungai", &["ct", "lungs", &of(""), "--models", MODEL, "--out", &found]);
        let words = ["overlap", "--reference", &of("-msk"), "--reference-threshold", "127", "--mask", &found];
        let dice = good("lungai-stats", &words)["dice"].as_f64().unwrap();
        assert!(measured("lungs.dice", dice, Limit::AtLeast(0.93)), "{chest}: {dice}");
    }
}
