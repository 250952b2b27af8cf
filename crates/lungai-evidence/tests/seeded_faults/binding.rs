//! Tests that were dropped, ignored, emptied, retried, or disagree with their records.
use crate::demo::{Demo, FR, JUNIT, SOURCE, sha256};
use lungai_trace::verifies;

#[verifies("RR-001")]
#[test]
fn a_failing_test_shows_upward_to_requirement_control_risk_and_clause() {
    let demo = Demo::new();
    demo.put("junit.xml", &JUNIT.replace("/></testsuite>", "><failure message=\"no\"/></testcase></testsuite>"));
    assert_eq!(demo.state(), "failed");
    demo.check_finding("test-failed", "tests::finds_three");
    demo.check_finding("requirement-failed", "FR-001");
    demo.check_finding("control-broken", "RC-1");
    demo.check_finding("residual-risk", "R-001");
    demo.check_finding("clause-gap", "IEC 62304 5.5.5");
    assert_eq!(demo.answer()["risks"]["R-001"]["residual_as_evidenced"], "high");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn a_test_that_did_not_run_does_not_count() {
    let demo = Demo::new();
    demo.put("junit.xml", "<testsuites></testsuites>");
    std::fs::remove_file(demo.path("trace/demo.json")).unwrap();
    assert_eq!(demo.state(), "linked");
    demo.check_finding("test-not-run", "tests::finds_three");
    demo.put("src/lib.rs", &SOURCE.replace("#[test]", "#[test]\n    #[ignore]"));
    demo.check_finding("test-ignored", "tests::finds_three");
    demo.put("junit.xml", &JUNIT.replace("/></testsuite>", "><skipped/></testcase></testsuite>"));
    demo.check_finding("test-skipped", "tests::finds_three");
    assert_eq!(demo.state(), "linked");
}

#[verifies("RR-001")]
#[test]
fn a_requirement_without_a_test_is_unlinked() {
    let demo = Demo::new();
    demo.put("src/lib.rs", "pub fn detect() {}\n");
    assert_eq!(demo.state(), "unlinked");
    demo.check_finding("unlinked", "FR-001");
    demo.check_finding("record-without-source", "finds_three");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn disagreements_between_source_runner_and_record_are_findings() {
    let demo = Demo::new();
    demo.record("true", &sha256(FR), &["FR-001"]);
    demo.check_finding("verdict-disagrees", "finds_three");
    demo.record("false", &sha256("another text"), &["FR-001"]);
    demo.check_finding("record-stale", "finds_three");
    assert_eq!(demo.state(), "executed");
    demo.record("false", &sha256(FR), &[]);
    demo.check_finding("nothing-exercised", "finds_three");
    demo.put("src/lib.rs", &SOURCE.replace("\"FR-001\", \"R-001\"", "\"FR-001\""));
    demo.check_finding("ids-disagree", "finds_three");
    std::fs::remove_file(demo.path("trace/demo.json")).unwrap();
    demo.check_finding("record-missing", "finds_three");
}

#[verifies("RR-001")]
#[test]
fn a_pass_without_its_data_is_no_evidence() {
    let demo = Demo::new();
    let said = "><system-err>not evidenced here: reference data absent</system-err></testcase></testsuite>";
    demo.put("junit.xml", &JUNIT.replace("/></testsuite>", said));
    assert_eq!(demo.state(), "executed");
    demo.check_finding("not-evidenced", "finds_three");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn an_emptied_a_retried_and_a_renamed_test_are_caught() {
    let demo = Demo::new();
    demo.edit("src/lib.rs", "assert_eq!(super::detect(), 3);", "");
    demo.check_finding("test-empty", "tests::finds_three");
    let demo = Demo::new();
    demo.put("junit.xml", &JUNIT.replace("/></testsuite>", "><flakyFailure/></testcase></testsuite>"));
    demo.check_finding("test-flaky", "tests::finds_three");
    let demo = Demo::new();
    demo.edit("src/lib.rs", "fn finds_three", "fn finds_four");
    demo.check_finding("test-not-run", "tests::finds_four");
    demo.check_finding("record-without-source", "finds_three");
    let demo = Demo::new();
    demo.edit("src/lib.rs", "    #[test]\n", "");
    demo.check_finding("tag-without-test", "tests::finds_three");
    let demo = Demo::new();
    demo.edit("src/lib.rs", "#[cfg(test)]", "#[cfg(all(test, feature = \"gpu\"))]");
    demo.put("junit.xml", "<testsuites></testsuites>");
    std::fs::remove_file(demo.path("trace/demo.json")).unwrap();
    demo.check_finding("test-not-run", "tests::finds_three");
}
