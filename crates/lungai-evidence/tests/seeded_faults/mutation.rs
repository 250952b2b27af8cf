//! Risk controls that are taken away: their tests must notice, in a run of these very sources.
use crate::demo::{Demo, MUTATIONS};
use lungai_trace::verifies;
use serde_json::Value;
use std::process::Command;

/// The level that is left when RC-2 earns no credit: P1 5 - 2 (RC-1) = 3, P2 4 -> P 2 -> medium.
#[track_caller]
fn check_no_credit(demo: &Demo, rule: &str, item: &str) {
    demo.check_finding(rule, item);
    demo.check_finding("control-not-shown", "RC-2");
    assert_eq!(demo.answer()["risks"]["R-001"]["residual_as_evidenced"], "medium");
}

#[verifies("RR-001", "SW-1104")]
#[test]
fn a_control_whose_mutant_survives_is_not_called_effective() {
    let demo = Demo::new();
    assert_eq!(demo.answer()["risks"]["R-001"]["residual_as_evidenced"], "low", "the control counts while all is well");
    demo.mutation_run("", "survived", &[]);
    check_no_credit(&demo, "mutant-survived", "RC-2 M-1");
    let page = std::fs::read_to_string(demo.path("target/package/core/risk-file.html")).unwrap();
    assert!(page.contains("A wrong count") && page.contains(">survived<"));
    let raw = std::fs::read(demo.path("target/package/run/mutations.json")).unwrap();
    assert_eq!(raw, std::fs::read(demo.path("target/evidence/mutations.json")).unwrap());
}

#[verifies("RR-001", "SW-1104")]
#[test]
fn a_verdict_against_its_own_figures_is_none() {
    let demo = Demo::new();
    demo.mutation_run("", "killed", &[]);
    check_no_credit(&demo, "mutant-survived", "RC-2 M-1");
    demo.mutation_run("", "killed", &["demo tests::another"]);
    check_no_credit(&demo, "mutant-survived", "RC-2 M-1");
    demo.mutation_run("", "does_not_build", &["demo tests::finds_three"]);
    check_no_credit(&demo, "mutant-does-not-build", "RC-2 M-1");
    demo.mutation_run("", "twin_failed", &[]);
    check_no_credit(&demo, "mutant-twin-failed", "RC-2 M-1");
}

#[verifies("RR-001", "SW-1104")]
#[test]
fn a_mutation_run_of_other_sources_counts_for_nothing() {
    let demo = Demo::new();
    demo.mutation_run("0123456789abcdef", "killed", &["demo tests::finds_three"]);
    check_no_credit(&demo, "mutations-of-another-commit", "mutations");
    demo.check_finding("mutant-not-run", "RC-2 M-1");
    demo.mutation_run("", "killed", &["demo tests::finds_three"]);
    demo.edit("target/evidence/mutations.json", "\"changed\":[]", "\"changed\":[\"src/lib.rs\"]");
    check_no_credit(&demo, "mutations-of-changed-sources", "mutations");
}

#[verifies("RR-001", "SW-1104")]
#[test]
fn a_mutation_that_fits_its_source_or_its_record_no_longer_counts_for_nothing() {
    let demo = Demo::new();
    demo.edit("src/lib.rs", "{ 3 }", "{ 1 + 2 }");
    check_no_credit(&demo, "mutation-stale", "RC-2 M-1");
    let demo = Demo::new();
    demo.edit("regulatory/mutations.yaml", "{ 4 }", "{ 5 }");
    check_no_credit(&demo, "mutant-not-run", "RC-2 M-1");
    std::fs::remove_file(demo.path("target/evidence/mutations.json")).unwrap();
    check_no_credit(&demo, "mutant-not-run", "RC-2 M-1");
    demo.put("regulatory/mutations.yaml", "[]\n");
    check_no_credit(&demo, "mutation-missing", "RC-2");
}

#[verifies("RR-001", "SW-1104")]
#[test]
fn a_mutant_is_killed_only_by_a_test_that_is_tagged_with_control_and_risk() {
    let demo = Demo::new();
    let more = "\n    #[lungai_trace::verifies(\"FR-001\")]\n    #[test]\n    pub fn another() { assert!(super::detect() > 2); }\n}";
    let source = std::fs::read_to_string(demo.path("src/lib.rs")).unwrap();
    demo.put("src/lib.rs", &format!("{}{more}\n", source.trim_end().trim_end_matches('}')));
    demo.mutation_run("", "killed", &["demo tests::another"]);
    demo.edit(
        "target/evidence/mutations.json",
        "[\"demo tests::finds_three\"]",
        "[\"demo tests::finds_three\",\"demo tests::another\"]",
    );
    demo.check_finding("mutant-killed-elsewhere", "RC-2 M-1");
}

#[verifies("RR-001")]
#[test]
fn mutations_name_file_line_and_what_was_probably_meant() {
    let check = |from: &str, to: &str, message: &str| {
        let demo = Demo::new();
        demo.edit("regulatory/mutations.yaml", from, to);
        assert_eq!(demo.answer()["message"], format!("regulatory/mutations.yaml, line {message}"));
    };
    check("control: RC-2", "control: RC-3", "2: `control` names `RC-3`, which does not exist; nearest: RC-1, RC-2");
    check("package: demo", "package: demi", "7: `package` names `demi`, which does not exist; nearest: demo");
    check("{ 4 }", "{ 3 }", "1: M-1: `from` and `to` must differ");
    check("src/lib.rs", "../lib.rs", "4: M-1: `file` is a path below the workspace");
    let demo = Demo::new();
    demo.put("regulatory/mutations.yaml", &format!("{MUTATIONS}{MUTATIONS}"));
    assert_eq!(demo.answer()["message"], "regulatory/mutations.yaml, line 1: mutation `M-1` is defined twice");
    demo.edit("regulatory/mutations.yaml", "target:", "taget:");
    let said = demo.answer()["message"].as_str().unwrap().to_owned();
    assert!(said.contains("mutations.yaml, line 8: ") && said.ends_with("did you mean `target`?"), "{said}");
}

/// The whole way: a crate that compiles, one control whose test notices its loss and one whose test does not.
#[verifies("RR-001", "SW-1104")]
#[test]
fn mutants_are_built_and_run_in_a_copy_and_the_tree_stays_as_it_is() {
    if !Command::new("cargo-nextest").args(["nextest", "--version"]).output().is_ok_and(|run| run.status.success()) {
        lungai_trace::not_evidenced("cargo-nextest is not installed");
        return;
    }
    let demo = Demo::new();
    let trace = concat!(env!("CARGO_MANIFEST_DIR"), "/../lungai-trace");
    let manifest = std::fs::read_to_string(demo.path("Cargo.toml")).unwrap();
    demo.put("Cargo.toml", &format!("{manifest}[dependencies]\nlungai-trace = {{ path = {trace:?} }}\n"));
    std::fs::remove_file(demo.path("Cargo.lock")).unwrap();
    let weak = MUTATIONS.replace("M-1", "M-2").replace("to: \"{ 4 }\"", "to: \"{ 1 + 1 + 1 }\"");
    let broken = MUTATIONS.replace("M-1", "M-3").replace("to: \"{ 4 }\"", "to: \"{ four }\"");
    let no_test = MUTATIONS.replace("M-1", "M-4").replace("finds_three", "finds_four");
    demo.put("regulatory/mutations.yaml", &format!("{MUTATIONS}{weak}{broken}{no_test}"));
    demo.commit();
    std::fs::remove_file(demo.path("target/evidence/mutations.json")).unwrap();
    let source = std::fs::read_to_string(demo.path("src/lib.rs")).unwrap();
    let run = demo.tool(&["mutate", "--control", "RC-2", "--json"]);
    let answer: Value = serde_json::from_slice(&run.stdout).unwrap_or_else(|_| panic!("{run:?}"));
    let seen: Vec<_> = answer["record"]["mutants"].as_array().unwrap_or_else(|| panic!("{answer:#}")).iter().collect();
    let verdicts: Vec<_> =
        seen.iter().map(|m| (m["mutation"].as_str().unwrap(), m["verdict"].as_str().unwrap())).collect();
    assert_eq!(verdicts, [("M-1", "killed"), ("M-2", "survived"), ("M-3", "does_not_build"), ("M-4", "twin_failed")]);
    assert_eq!(seen[0]["killed_by"], serde_json::json!(["demo tests::finds_three"]));
    assert_eq!(answer["record"]["commit"], demo.head());
    assert_eq!(std::fs::read_to_string(demo.path("src/lib.rs")).unwrap(), source);
    let kept: Value =
        serde_json::from_slice(&std::fs::read(demo.path("target/evidence/mutations.json")).unwrap()).unwrap();
    assert_eq!(kept, answer["record"]);
}
