//! Files of `regulatory/` and inputs that are malformed or lead nowhere.
use crate::demo::{Demo, FR, RISK, SOURCE};
use lungai_trace::verifies;
use serde_json::Value;

#[verifies("RR-001")]
#[test]
fn an_unknown_id_in_the_source_stops_the_build() {
    let demo = Demo::new();
    demo.put("src/lib.rs", &SOURCE.replace("implements(\"FR-001\")", "implements(\"FR-010\")"));
    let run = demo.tool(&["build", "--out", "out", "--json"]);
    let answer: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!((run.status.code(), answer["rule"].as_str()), (Some(1), Some("unknown-id")));
    assert_eq!(answer["message"], "src/lib.rs:2: `FR-010` is neither a requirement nor a risk; nearest: FR-001, R-001");
    assert!(!demo.path("out").exists());
}

#[verifies("RR-001")]
#[test]
fn malformed_inputs_are_errors_with_a_name() {
    let check = |name: &str, text: &str, rule: &str| {
        let demo = Demo::new();
        demo.put(name, text);
        let answer = demo.answer();
        assert_eq!(answer["rule"], rule, "{answer:#}");
        assert_eq!(answer["ok"], false);
    };
    check("junit.xml", "<testsuites><testsuite>", "junit-malformed");
    check("trace/demo.json", "{", "record-malformed");
    check("run/results.json", "{\"synthetic\":true}", "results-malformed");
    check("regulatory/requirements/FR-001.yaml", &FR.replace("allocation", "alocation"), "malformed-yaml");
    check("regulatory/requirements/FR-001.yaml", &FR.replace("id: FR-001\n", "id: FR-002\n"), "id-differs-from-file");
    check("regulatory/requirements/FR-001.yaml", &FR.replace("in_scope", "external"), "reason-missing");
    check("regulatory/risks/R-001.yaml", &RISK.replace("requirement: FR-001", "requirement: FR-009"), "unknown-id");
    check("regulatory/risks/R-001.yaml", &RISK.replace("S: 4", "S: 6"), "scale");
    check("src/lib.rs", &SOURCE.replace("u32 {", "u32 ( {"), "source-malformed");
}

#[verifies("RR-001")]
#[test]
fn undeclared_crates_and_components_are_findings() {
    let demo = Demo::new();
    demo.put("regulatory/items.yaml", "- { name: gone, is: \"Nothing\", may_use: [] }\n");
    demo.put("regulatory/mutations.yaml", "[]\n");
    demo.put("regulatory/soup.yaml", "- { name: left-pad, purpose: p, requires: r, needs: n }\n");
    demo.check_finding("item-undeclared", "demo");
    demo.check_finding("item-gone", "gone");
    demo.check_finding("soup-surplus", "left-pad");
}

/// File and line in the message of a build that is refused.
#[track_caller]
fn check_refused(file: &str, from: &str, to: &str, message: &str) {
    let demo = Demo::new();
    demo.edit(file, from, to);
    assert_eq!(demo.answer()["message"], message);
}

#[verifies("RR-001")]
#[test]
fn every_error_names_file_line_and_what_was_probably_meant() {
    let fr = "regulatory/requirements/FR-001.yaml";
    let risk = "regulatory/risks/R-001.yaml";
    let line = |n: u8, file: &str, message: &str| format!("{file}, line {n}: {message}");
    check_refused(
        fr,
        "controls_for: [R-001]",
        "controls_for: [R-010]",
        &line(8, fr, "`controls_for` names `R-010`, which does not exist; nearest: R-001"),
    );
    check_refused(
        fr,
        "parents: [N-001]",
        "parents: [N-01]",
        &line(3, fr, "`parents` names `N-01`, which does not exist; nearest: N-001"),
    );
    check_refused(fr, "FR-001.1", "FR-002.1", &line(11, fr, "criterion `FR-002.1` must begin with `FR-001.`"));
    check_refused(risk, "RC-2", "RC-1", &line(11, risk, "control `RC-1` is defined twice"));
    check_refused(
        risk,
        "criteria: [FR-001.1]",
        "criteria: [FR-001.2]",
        &line(11, risk, "`criteria` names `FR-001.2`, which does not exist; nearest: FR-001.1"),
    );
    check_refused(
        "regulatory/profile.yaml",
        "checked: 2026-11-24",
        "checked: 2026-02-30",
        &line(7, "regulatory/profile.yaml", "standards[0]: `2026-02-30` is no date; write it as 2026-11-24"),
    );
}

#[verifies("RR-001", "SW-1104")]
#[test]
fn a_matrix_in_which_more_is_less_is_refused() {
    let demo = Demo::new();
    demo.edit("regulatory/matrix.yaml", "  - [low, low, medium, high, high]", "  - [low, high, medium, high, high]");
    assert_eq!(demo.answer()["rule"], "matrix");
}

#[verifies("RR-001")]
#[test]
fn a_circle_of_requirements_is_refused() {
    let demo = Demo::new();
    let software = |id: &str, parent: &str| {
        let text = FR.replace("FR-001.1", &format!("{id}.1")).replace("FR-001", id).replace("system\n", "software\n");
        demo.put(&format!("regulatory/requirements/{id}.yaml"), &text.replace("[N-001]", &format!("[{parent}]")));
    };
    software("SW-001", "SW-002");
    software("SW-002", "SW-001");
    assert_eq!(demo.answer()["rule"], "circle");
}

#[verifies("RR-001")]
#[test]
fn a_file_that_nobody_reads_is_refused_with_the_nearest_name() {
    let check = |file: &str, nearest: &str| {
        let demo = Demo::new();
        demo.put(&format!("regulatory/{file}"), "id: X\n");
        let answer = demo.answer();
        assert_eq!(answer["rule"], "unknown-file", "{file}");
        let said = answer["message"].as_str().unwrap();
        assert!(said.starts_with(&format!("regulatory/{}", file.split("/x").next().unwrap())), "{said}");
        assert!(said.contains(&format!("nearest: {nearest}")), "{said}");
    };
    check("problems/PB-001.yml", "problems/PB-001.yaml");
    check("waiver.yaml", "waivers.yaml");
    check("problem/x.yaml", "problems");
    check("plans/plan.txt", "plans/plan.md");
    check("clauses/tabel.yaml", "table.yaml");
    let demo = Demo::new();
    demo.put("regulatory/problems/README.md", "What lies here.");
    assert_eq!(demo.answer()["ok"], true, "a README is no record");
}

#[verifies("RR-001")]
#[test]
fn a_text_that_says_nothing_is_refused() {
    let fr = "regulatory/requirements/FR-001.yaml";
    let message = "`statement.en` says nothing; what is absent is `null` or left out";
    for blank in ["", "  ", "\u{200b}", "\u{3000}"] {
        check_refused(fr, "The system shall detect nodules.", blank, &format!("{fr}, line 5: {message}"));
    }
    let demo = Demo::new();
    demo.edit("regulatory/risks/R-001.yaml", "basis: \"test\" }\ncontrols", "basis: ' ' }\ncontrols");
    assert_eq!(demo.answer()["rule"], "text-blank");
}

#[verifies("RR-001")]
#[test]
fn what_does_not_apply_says_why() {
    let demo = Demo::new();
    let table = "regulatory/clauses/table.yaml";
    demo.edit(table, "check: tests-ran", "check: not-applicable, note: \"because\"");
    assert_eq!(demo.answer()["ok"], true, "the untouched twin");
    demo.edit(table, ", note: \"because\"", "");
    assert_eq!(demo.answer()["rule"], "reason-missing");
}

#[verifies("RR-001", "SW-1104")]
#[test]
fn a_matrix_that_accepts_too_much_is_refused() {
    let matrix = "regulatory/matrix.yaml";
    let refused = |from: &str, to: &str| {
        let demo = Demo::new();
        demo.edit(matrix, from, to);
        assert_eq!(demo.answer()["rule"], "matrix", "{to}");
    };
    refused("acceptable: [low]", "acceptable: [low, medium, high]");
    refused("[1, 2, 3, 4, 5]", "[1, 1, 1, 1, 1]");
    refused("serious_from: 3", "serious_from: 6");
    refused("[medium, high, high, high, high]", "[low, low, low, medium, medium]");
}

#[verifies("RR-001", "SW-1104")]
#[test]
fn a_control_by_information_reduces_nothing() {
    let risk = "regulatory/risks/R-001.yaml";
    let message = "RC-2: information alone reduces no probability";
    check_refused(risk, "option: protective", "option: information", &format!("{risk}, line 12: {message}"));
}
