//! Results on synthetic data, results that contradict themselves, and the levels that follow.
use crate::demo::{Demo, FR, LOCKED, Record, sha256};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use lungai_trace::verifies;
use serde_json::json;

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
    assert_eq!(demo.state(), "passed");
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
    analysis("{ name: B. Person, role: quality, date: 2026-11-24 }");
    demo.check_finding("decision-void", "BR-1");
    demo.check_finding("residual-risk", "R-001");
    analysis("{ name: A. Person, role: quality, date: 2026-11-24 }");
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
    assert_eq!(demo.answer()["rule"], "information-reduces");
    demo.edit("regulatory/risks/R-001.yaml", "reduces: { P1: 2 }", "reduces: {}");
    demo.check_finding("information-only", "R-001");
}

/// An edit of results that were in order takes their criterion away.
#[track_caller]
fn check_proves_nothing(from: &str, to: &str, rule: &str) {
    let demo = Demo::new();
    assert_eq!(demo.state(), "criterion met", "the untouched twin");
    demo.edit("run/results.json", from, to);
    demo.check_finding(rule, "FR-001.1");
    assert_eq!(demo.state(), "passed", "{to}");
}

#[verifies("RR-001", "SW-1102")]
#[test]
fn a_result_of_another_figure_or_population_proves_nothing() {
    let altered = |from: &str, to: &str| check_proves_nothing(from, to, "criterion-altered");
    altered("detection.sensitivity", "detection.cpm");
    altered("\"diameter_at_least_mm\":3.0", "\"diameter_at_least_mm\":6.0");
    altered("\"diameter_at_least_mm\":3.0,", "");
    altered("\"population\":[]", "\"population\":[\"nodule.kind one of solid\"]");
    altered("\"population\":[],", "");
    altered("\"confidence_level\":0.95", "\"confidence_level\":0.9");
    altered("\"confidence_level\":0.95,", "");
    check_proves_nothing("\"value\":0.95", "\"value\":null", "criterion-without-value");
    check_proves_nothing("\"n\":100", "\"n\":0", "criterion-without-value");
    check_proves_nothing("\"ci\":[0.91, 0.98],", "", "criterion-incoherent");
    check_proves_nothing("[0.91, 0.98]", "[0.98, 0.91]", "interval-without-value");
}

#[verifies("RR-001", "SW-1102", "SW-1104")]
#[test]
fn a_run_whose_protocol_was_not_locked_before_stays_below_a_proof() {
    let demo = Demo::new();
    demo.edit("run/results.json", LOCKED, r#"{"kind":"exploratory"}"#);
    let answer = demo.answer();
    assert_eq!(answer["states"]["FR-001"], "criterion met (exploratory)");
    assert_eq!(answer["risks"]["R-001"]["residual_as_evidenced"], "medium", "RC-1 earns no credit");
    demo.check_finding("exploratory-run", "validation-1");
    demo.results(true, 0.95, [0.91, 0.98], true);
    demo.edit("run/results.json", &format!("\"standing\":{LOCKED},"), "");
    assert_eq!(demo.state(), "criterion met (synthetic, exploratory)", "a run that does not say so was not locked");
}

/// A ledger of these events, each line with its own hash and the one before.
fn ledger(events: &[serde_json::Value]) -> (String, Vec<String>) {
    let (mut text, mut hashes) = (String::new(), vec!["0".repeat(64)]);
    for (i, event) in events.iter().enumerate() {
        let event = event.to_string();
        let open = format!(
            "{{\"number\":{},\"previous\":\"{}\",\"when\":\"2026-11-24T10:00:00Z\",\"who\":\"ann\",{}",
            i + 1,
            hashes[i],
            &event[1..event.len() - 1]
        );
        hashes.push(sha256(&open));
        text.push_str(&format!("{open},\"hash\":\"{}\"}}\n", hashes[i + 1]));
    }
    (text, hashes)
}

fn opened() -> serde_json::Value {
    json!({ "event": "opened", "protocol_sha256": "22", "system": "m 1", "system_sha256": "11", "data_fingerprint": "33", "what": "images and reference", "purpose": "trial" })
}

/// Results that came of the second line of a ledger, which tells of them and of `more`.
fn with_ledger(more: &[serde_json::Value]) -> Demo {
    let demo = Demo::new();
    let lock = json!({ "event": "locked", "protocol": "p 1", "protocol_sha256": "22", "data_fingerprint": "33" });
    let (_, hashes) = ledger(&[lock.clone(), opened()]);
    demo.edit("run/results.json", "\"44\"", &format!("\"{}\"", hashes[2]));
    let results = sha256(&std::fs::read_to_string(demo.path("run/results.json")).unwrap());
    let concluded = json!({ "event": "concluded", "opened": 2, "what": "results", "sha256": results });
    let (text, _) = ledger(&[&[lock, opened(), concluded], more].concat());
    demo.put("p.ledger.jsonl", &text);
    demo
}

const LEDGER: [&str; 2] = ["--validation-ledger", "p.ledger.jsonl"];

/// State of FR-001 and rules of all findings.
fn built(demo: &Demo, more: &[&str]) -> (String, Vec<String>) {
    let answer = demo.build(&demo.path("target/package"), more);
    let gaps = answer["gaps"].as_array().unwrap_or_else(|| panic!("{answer}")).iter();
    let rules = gaps.map(|gap| gap["rule"].as_str().unwrap().to_owned()).collect();
    (answer["states"]["FR-001"].as_str().unwrap().to_owned(), rules)
}

#[verifies("RR-001", "SW-1102")]
#[test]
fn a_ledger_vouches_for_results_or_takes_them_away() {
    let demo = with_ledger(&[]);
    let (state, rules) = built(&demo, &LEDGER);
    assert_eq!(state, "criterion met");
    for absent in ["lock-not-shown", "results-not-in-ledger", "opening-without-result", "result-left-out"] {
        assert!(!rules.iter().any(|rule| rule == absent), "{absent}: the untouched twin");
    }
    let (_, rules) = built(&demo, &[]);
    assert!(rules.contains(&"lock-not-shown".to_owned()), "without the ledger the lock is only said");
    // A figure edited after the run: the ledger saw other results.
    demo.edit("run/results.json", "\"value\":0.95", "\"value\":0.96");
    demo.check_finding_with(&LEDGER, "results-not-in-ledger", "validation-1");
    assert_eq!(built(&demo, &LEDGER).0, "passed");
    for (from, to) in [("\"22\"", "\"23\""), ("\"33\"", "\"34\""), ("\"11\"", "\"12\"")] {
        let demo = with_ledger(&[]);
        demo.edit("run/results.json", from, to);
        demo.check_finding_with(&LEDGER, "results-not-in-ledger", "validation-1");
    }
    let demo = with_ledger(&[]);
    demo.put("run/report.html", "report");
    let files = |hash: &str| format!("\"files\":{{\"report.html\":\"{hash}\"}},\"extra\"");
    demo.edit("run/results.json", "\"extra\"", &files(&sha256("report")));
    assert_eq!(built(&demo, &[]).0, "criterion met", "the untouched twin");
    demo.put("run/report.html", "another report");
    demo.check_finding("results-altered", "validation-1");
    assert_eq!(built(&demo, &[]).0, "passed");
    let demo = with_ledger(&[]);
    demo.edit("p.ledger.jsonl", "ann", "bob");
    let answer = demo.build(&demo.path("target/package"), &LEDGER);
    assert_eq!(answer["rule"], "validation-ledger");
    assert_eq!(answer["message"], "the validation ledger p.ledger.jsonl, line 1: the line is not what its hash says");
}

#[verifies("RR-001", "SW-1102")]
#[test]
fn a_look_at_the_test_set_that_the_package_keeps_quiet_about_is_red() {
    let demo = with_ledger(&[opened()]);
    demo.check_finding_with(&LEDGER, "opening-without-result", "p.ledger.jsonl");
    let worse = json!({ "event": "concluded", "opened": 4, "what": "results", "sha256": "55" });
    let demo = with_ledger(&[opened(), worse]);
    demo.check_finding_with(&LEDGER, "result-left-out", "p.ledger.jsonl");
    // Predictions show nobody how good they are.
    let predictions = json!({ "event": "concluded", "opened": 4, "what": "predictions", "sha256": "55" });
    let (_, rules) = built(&with_ledger(&[opened(), predictions]), &LEDGER);
    assert!(!rules.iter().any(|rule| rule == "result-left-out" || rule == "opening-without-result"));
}

const MODEL: [&str; 2] = ["--models", "model"];

/// A frozen model in order, then a fault: nothing that the results say of it is judged.
#[track_caller]
fn check_model_refused(fault: impl Fn(&Demo), rule: &str) {
    let demo = Demo::new();
    demo.freeze("weights");
    assert_eq!(built(&demo, &MODEL).0, "criterion met", "the untouched twin");
    fault(&demo);
    let (state, rules) = built(&demo, &MODEL);
    assert_eq!(state, "passed");
    assert!(rules.iter().any(|found| found == rule), "{rules:?}");
}

#[verifies("RR-001", "SW-1102")]
#[test]
fn results_of_a_model_that_is_missing_or_not_as_signed_prove_nothing() {
    check_model_refused(|demo| demo.put("model/model.safetensors", "weightt"), "model-altered");
    check_model_refused(|demo| demo.put("model/extra.py", "x"), "model-altered");
    check_model_refused(|demo| std::fs::remove_file(demo.path("model/model.safetensors")).unwrap(), "model-altered");
    check_model_refused(|demo| std::fs::remove_file(demo.path("model/model.sig")).unwrap(), "model-altered");
    check_model_refused(|demo| demo.put("model/model.sig", "{}"), "model-differs");
    check_model_refused(|demo| demo.edit("run/results.json", "\"name\":\"m\"", "\"name\":\"n\""), "model-differs");
    let demo = Demo::new();
    demo.edit("run/results.json", r#""model":{"name":"m","version":"1","sha256":"11"},"#, "");
    demo.check_finding("model-not-named", "validation-1");
    assert_eq!(demo.state(), "passed");
    // An in-toto statement whose subjects are the files says the same.
    let demo = Demo::new();
    demo.freeze("weights");
    let subjects = ["manifest.json", "model.safetensors"].map(|name| {
        json!({ "name": name, "digest": { "sha256": sha256(&std::fs::read_to_string(demo.path(&format!("model/{name}"))).unwrap()) } })
    });
    demo.sign(json!({ "payload": BASE64.encode(json!({ "subject": subjects }).to_string()), "signatures": [] }));
    assert_eq!(built(&demo, &MODEL).0, "criterion met");
    demo.put("model/model.safetensors", "weightt");
    assert_eq!(built(&demo, &MODEL).0, "passed");
}

#[verifies("RR-001", "SW-1105")]
#[test]
fn a_protocol_is_what_it_says_and_not_the_bytes_of_its_file() {
    let demo = Demo::new();
    demo.review_all();
    demo.edit("run/results.json", "\"20\"", "\"21\"");
    assert_eq!(demo.suspects(), [""; 0], "a comment in the file");
    demo.edit("run/results.json", "\"22\"", "\"23\"");
    assert_eq!(demo.suspects(), ["FR-001.1 stands-on protocol"]);
    demo.edit("run/results.json", ",\"canonical_sha256\":\"23\"", "");
    demo.check_finding("protocol-not-named", "validation-1");
    assert_eq!(demo.state(), "passed");
}
