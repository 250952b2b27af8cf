//! Results on synthetic data, results that contradict themselves, and the levels that follow.
use crate::demo::{Demo, FR, Record, sha256};
use lungai_trace::verifies;

#[verifies("RR-001", "SW-1104")]
#[test]
fn control_everything_in_order_reaches_the_top_of_the_ladder() {
    let demo = Demo::new();
    let answer = demo.answer();
    assert_eq!(answer["states"]["FR-001"], "criterion met", "{answer:#}");
    assert_eq!(answer["criteria"]["FR-001.1"], "criterion met");
    // Initial: S 4, P1 5, P2 4 -> P 4 -> high. Both controls proven: P1 1 -> P 1 -> low.
    assert_eq!(answer["risks"]["R-001"]["initial"], "high");
    assert_eq!(answer["risks"]["R-001"]["residual_as_evidenced"], "low");
    // No external control: the software taken to fail leaves S 4, P 4: class C, whatever the plan says.
    assert_eq!(answer["safety_class"]["computed"], "C");
    let red: Vec<&str> = answer["gaps"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|g| g["severity"] == "red")
        .map(|g| g["rule"].as_str().unwrap())
        .collect();
    assert_eq!(red, ["safety-class", "no-commit"], "only what the demo lacks on purpose");
}

#[verifies("RR-001", "SW-1104")]
#[test]
fn synthetic_results_never_count_as_clinical_evidence() {
    let demo = Demo::new();
    demo.results(true, 0.95, [0.91, 0.98], true);
    let answer = demo.answer();
    assert_eq!(answer["states"]["FR-001"], "criterion met (synthetic)");
    // RC-1 earns no credit: P1 5 - 2 (RC-2) = 3, P2 4 -> P 2 -> medium.
    assert_eq!(answer["risks"]["R-001"]["residual_as_evidenced"], "medium");
    let page = std::fs::read_to_string(demo.path("target/package/core/index.html")).unwrap();
    assert!(page.contains("SYNTHETIC"));
    demo.results(true, 0.85, [0.80, 0.90], false);
    assert_eq!(demo.state(), "criterion not met (synthetic)");
    demo.results(false, 0.95, [0.89, 0.98], false);
    assert_eq!(demo.state(), "criterion not met", "the bound decides, not the value");
}

#[verifies("RR-001")]
#[test]
fn results_that_contradict_themselves_or_the_requirement_prove_nothing() {
    let demo = Demo::new();
    demo.results(false, 0.95, [0.85, 0.98], true);
    demo.check_finding("criterion-incoherent", "FR-001.1");
    assert_eq!(demo.state(), "passed");
    demo.results(false, 0.99, [0.91, 0.98], true);
    demo.check_finding("interval-without-value", "FR-001.1");
    demo.results(false, 0.95, [0.91, 0.98], true);
    demo.put("regulatory/requirements/FR-001.yaml", &FR.replace("limit: 0.9,", "limit: 0.95,"));
    demo.check_finding("criterion-altered", "FR-001.1");
    demo.check_finding("record-stale", "finds_three");
}

#[verifies("RR-001", "SW-1104")]
#[test]
fn a_residual_risk_is_carried_only_by_an_analysis_that_somebody_decided() {
    let demo = Demo::new();
    demo.results(true, 0.95, [0.91, 0.98], true);
    demo.edit("regulatory/risks/R-001.yaml", "benefit_risk: null", "benefit_risk: BR-1");
    let analysis = |decided: &str| {
        let text = format!(
            "- {{ id: BR-1, risks: [R-001], argument: {{ zh: 受益, en: Benefit }}, sources: [], decided: {decided} }}\n"
        );
        demo.put("regulatory/benefit-risk.yaml", &text);
    };
    analysis("null");
    demo.check_finding("residual-risk", "R-001");
    demo.check_finding("benefit-risk-open", "BR-1");
    analysis("{ name: A. Person, role: clinician, date: 2026-11-24 }");
    demo.check_finding("residual-risk-carried", "R-001");
}

#[verifies("RR-001", "SW-1104")]
#[test]
fn a_control_that_is_taken_away_takes_its_credit_along() {
    let demo = Demo::new();
    assert_eq!(demo.answer()["risks"]["R-001"]["residual_as_evidenced"], "low");
    // The test no longer names the risk: RC-2 is implemented, but not shown to work. P1 5 - 2 = 3, P2 4 -> P 2 -> medium.
    demo.edit("src/lib.rs", "\"FR-001\", \"R-001\"", "\"FR-001\"");
    demo.record(&Record { verifies: vec![("FR-001", sha256(FR))], ..Record::default() });
    demo.check_finding("control-not-shown", "RC-2");
    assert_eq!(demo.answer()["risks"]["R-001"]["residual_as_evidenced"], "medium");
    demo.edit("regulatory/risks/R-001.yaml", "option: inherent", "option: information");
    demo.edit("regulatory/risks/R-001.yaml", "option: protective", "option: information");
    demo.check_finding("information-only", "R-001");
}
