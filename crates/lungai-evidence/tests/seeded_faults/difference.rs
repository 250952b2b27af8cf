//! Two packages compared: what changed, what that makes doubtful, and whether the change control plan allows it.
use crate::demo::Demo;
use lungai_trace::verifies;
use serde_json::Value;

const PLAN: &str = r#"authorised: { name: A. Person, role: quality, date: 2026-11-24 }
modifications:
- { id: PC-1, what: { zh: "重新训练", en: "Retraining" }, may_change: ["model ", "criterion "], criteria: [FR-001.1], impact: { zh: "无", en: "None" } }
never: { "requirement ": { zh: "需求", en: "A requirement" } }
"#;

fn demo() -> Demo {
    let demo = Demo::new();
    demo.put("regulatory/change-control.yaml", PLAN);
    demo.freeze("weights");
    demo
}

fn package(demo: &Demo, name: &str) {
    let answer = demo.build(&demo.path(name), &["--models", "model"]);
    assert_eq!(answer["ok"], true, "{answer}");
}

/// What the tool says of the packages before and after an edit.
fn compared(edit: impl Fn(&Demo)) -> Value {
    let demo = demo();
    package(&demo, "old");
    edit(&demo);
    package(&demo, "new");
    let run = demo.tool(&["diff", "old", "new", "--json"]);
    serde_json::from_slice(&run.stdout).unwrap_or_else(|_| panic!("{run:?}"))
}

fn items(diff: &Value) -> Vec<&str> {
    diff["changes"].as_array().unwrap().iter().map(|change| change["item"].as_str().unwrap()).collect()
}

#[verifies("RR-001")]
#[test]
fn nothing_changed_is_no_change_and_nothing_that_the_plan_allows() {
    let diff = compared(|_| ());
    assert_eq!((items(&diff).len(), &diff["suspect"]), (0, &Value::Object(Default::default())));
    assert_eq!(diff["plan"]["inside"], false);
    assert_eq!(diff["plan"]["reasons"][0], "nothing was changed that the plan covers");
}

/// The change is named, and no plan for retraining allows it.
#[track_caller]
fn check_named(edit: impl Fn(&Demo), item: &str) {
    let diff = compared(edit);
    assert!(items(&diff).contains(&item), "{:#}", diff["changes"]);
    assert_eq!(diff["plan"]["inside"], false, "{item}");
}

#[verifies("RR-001")]
#[test]
fn code_test_set_protocol_matrix_threat_and_need_are_facts_of_a_package() {
    check_named(|demo| demo.edit("src/lib.rs", "{ 3 }", "{ 1 + 2 }"), "code demo detect of FR-001");
    check_named(|demo| demo.edit("src/lib.rs", "(), 3)", "(), 1 + 2)"), "test demo tests::finds_three");
    check_named(|demo| demo.edit("run/results.json", "\"00\"", "\"01\""), "test set");
    check_named(|demo| demo.edit("run/results.json", "\"22\"", "\"23\""), "protocol p");
    check_named(|demo| demo.edit("regulatory/matrix.yaml", "acceptable: [low]", "acceptable: [low, medium]"), "matrix");
    check_named(|demo| demo.put("regulatory/threats/T-001.yaml", crate::people::THREAT), "threat T-001");
    check_named(|demo| demo.edit("regulatory/needs/N-001.yaml", "second pair", "third pair"), "need N-001");
}

#[verifies("RR-001")]
#[test]
fn regulators_questions_are_put_to_a_person_with_what_bears_on_them() {
    let diff = compared(|demo| demo.freeze("weightt"));
    let questions = diff["questions"].as_array().unwrap();
    let asked = |word: &str| questions.iter().find(|q| q["question"].as_str().unwrap().contains(word)).unwrap();
    assert_eq!(asked("algorithm")["facts"], serde_json::json!(["model m"]));
    assert_eq!(asked("intended purpose")["facts"], serde_json::json!([]));
    let demo = demo();
    package(&demo, "old");
    let said = String::from_utf8(demo.tool(&["diff", "old", "old"]).stdout).unwrap();
    assert_eq!(said.matches("for a person to answer (FDA 510(k)): ").count(), 6, "{said}");
    assert_eq!(said.matches("for a person to answer (EU MDR): ").count(), 5, "{said}");
}

#[verifies("RR-001")]
#[test]
fn one_bit_of_a_weight_is_inside_the_plan_while_its_criteria_hold() {
    let diff = compared(|demo| {
        demo.results(false, 0.97, [0.93, 0.99], true);
        demo.freeze("weightt");
    });
    assert_eq!(items(&diff), ["model m"]);
    assert_eq!(diff["suspect"]["FR-001.1"][0], "FR-001.1 stands-on model");
    assert_eq!(diff["tests_to_repeat"][0], "demo tests::finds_three");
    let figures = &diff["performance"][0];
    assert_eq!((&figures["before"]["value"], &figures["after"]["value"]), (&0.95.into(), &0.97.into()));
    assert!((figures["difference"].as_f64().unwrap() - 0.02).abs() < 1e-12);
    assert_eq!((&figures["intervals_overlap"], &diff["plan"]["modification"]), (&true.into(), &"PC-1".into()));
    assert_eq!(diff["plan"]["inside"], true, "{}", diff["plan"]);

    let diff = compared(|demo| {
        demo.results(false, 0.85, [0.80, 0.89], false);
        demo.freeze("weightt");
    });
    assert_eq!(diff["plan"]["reasons"][0], "FR-001.1 is not met after the change on data that are not synthetic");
    assert_eq!(diff["performance"][0]["intervals_overlap"], false);
}

#[verifies("RR-001")]
#[test]
fn a_changed_requirement_a_plan_nobody_agreed_to_and_an_edited_plan_are_outside() {
    let edit_requirement =
        |demo: &Demo| demo.edit("regulatory/requirements/FR-001.yaml", "detect nodules", "detect all nodules");
    let diff = compared(edit_requirement);
    assert_eq!(diff["plan"]["reasons"][0], "requirement FR-001 may never change under the plan");
    assert!(
        diff["suspect"]["FR-001"]
            .as_array()
            .unwrap()
            .iter()
            .any(|link| link == "demo tests::finds_three verifies FR-001")
    );
    let diff = compared(|demo| demo.edit("regulatory/change-control.yaml", "\"criterion \"", "\"risk \""));
    assert_eq!(diff["plan"]["reasons"][0], "the plan itself was changed");
    let demo = demo();
    demo.edit("regulatory/change-control.yaml", "{ name: A. Person, role: quality, date: 2026-11-24 }", "null");
    package(&demo, "old");
    let run = demo.tool(&["diff", "old", "old"]);
    let said = String::from_utf8(run.stdout).unwrap();
    let plan = "outside the change control plan: no authority has agreed to the plan; nothing was changed";
    assert!(said.contains(plan), "{said}");
}

#[verifies("RR-001")]
#[test]
fn a_state_that_fell_and_a_broken_package_are_named() {
    let diff = compared(|demo| {
        demo.results(false, 0.95, [0.89, 0.98], false);
        demo.freeze("weights");
    });
    let change = diff["changes"].as_array().unwrap().iter().find(|c| c["item"] == "state of FR-001").unwrap();
    assert_eq!((&change["before"], &change["after"]), (&"criterion met".into(), &"criterion not met".into()));
    let demo = demo();
    package(&demo, "old");
    demo.put("old/core/srs.md", "other");
    assert_eq!(demo.tool(&["diff", "old", "old"]).status.code(), Some(4));
}
