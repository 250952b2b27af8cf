//! The state ladder, failures that show upward, and links that become suspect: the right ones, and no others.
use crate::demo::{Demo, FR, JUNIT, Record, SOURCE, sha256};
use lungai_trace::verifies;

const CHILD: &str = r#"id: SW-001
tier: software
parents: [FR-001]
title: { zh: "计数", en: "Counting" }
statement: { zh: "软件应计数到三。", en: "The software shall count to three." }
allocation: in_scope
content: [functional]
controls_for: []
verify_by: [test]
criteria: []
"#;

/// The demonstration with a software requirement below FR-001, with code and test of its own.
fn two_tiers() -> Demo {
    let demo = Demo::new();
    demo.put("regulatory/requirements/SW-001.yaml", CHILD);
    let more = "\n#[lungai_trace::implements(\"SW-001\")]\npub fn count() -> u32 { 3 }\n\n#[cfg(test)]\nmod more {\n    #[lungai_trace::verifies(\"SW-001\")]\n    #[test]\n    fn counts() { assert_eq!(super::count(), 3); }\n}\n";
    demo.put("src/lib.rs", &format!("{SOURCE}{more}"));
    demo.record(&Record {
        module: "more",
        name: "counts",
        tokens: "# [test ]fn counts (){assert_eq ! (super : : count (), 3 ); }",
        verifies: vec![("SW-001", sha256(CHILD))],
        exercised: &["SW-001"],
        ..Record::default()
    });
    let case = r#""ignored":false,"filter-match":{"status":"matches"}}"#;
    demo.edit("tests.json", "\"testcases\":{", &format!("\"testcases\":{{\"more::counts\":{{{case},"));
    demo.put("junit.xml", &two_cases(""));
    demo
}

fn two_cases(of_the_second: &str) -> String {
    let second = format!("<testcase name=\"more::counts\" classname=\"demo\">{of_the_second}</testcase></testsuite>");
    JUNIT.replace("</testsuite>", &second)
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn the_ladder_is_climbed_step_by_step() {
    let demo = Demo::new();
    let (junit, record) = (demo.path("junit.xml"), demo.path("trace/demo.json"));
    assert_eq!(demo.state(), "criterion met");
    demo.results(true, 0.95, [0.91, 0.98], true);
    assert_eq!(demo.state(), "criterion met (synthetic)");
    demo.put("run/results.json", r#"{"synthetic":false,"criteria":[]}"#);
    assert_eq!(demo.state(), "passed");
    let second = "    #[lungai_trace::verifies(\"FR-001\")]\n    #[test]\n    fn also() { super::detect(); }\n}\n";
    demo.put("src/lib.rs", &SOURCE.replace("\n}\n", &format!("\n{second}")));
    assert_eq!(demo.state(), "exercised", "one of two tests did not run");
    demo.put("src/lib.rs", SOURCE);
    demo.record(&Record { exercised: &[], ..Record::default() });
    assert_eq!(demo.state(), "executed", "it called nothing that implements FR-001");
    std::fs::remove_file(&record).unwrap();
    std::fs::write(&junit, "<testsuites uuid=\"run-7\"></testsuites>").unwrap();
    assert_eq!(demo.state(), "linked");
    demo.put("src/lib.rs", "pub fn detect() {}\n");
    assert_eq!(demo.state(), "unlinked");
}

#[verifies("RR-001", "SW-1105")]
#[test]
fn reviewed_and_released_need_a_person_and_a_record() {
    let demo = Demo::new();
    demo.review_all();
    assert_eq!(demo.state(), "reviewed");
    let run = demo.tool(&["review", "--list", "--json"]);
    let said: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    let hash = said["texts"]["FR-001"].as_str().unwrap();
    let release = |version: &str, hash: &str| {
        let approval = "{ name: A. Person, role: quality, date: 2026-11-24 }";
        let text = format!(
            "id: RL-1\nversion: \"{version}\"\ndate: 2026-11-24\nrequirements: {{ FR-001: \"{hash}\" }}\napprovals: [{approval}]\n"
        );
        demo.put("regulatory/releases/RL-1.yaml", &text);
        demo.state()
    };
    assert_eq!(release("1.2.3", hash), "released");
    assert_eq!(release("1.2.4", hash), "reviewed", "another version");
    assert_eq!(release("1.2.3", "00"), "reviewed", "another text");
    assert_eq!(release("1.2.3", hash), "released");
    demo.edit("regulatory/releases/RL-1.yaml", "name: A. Person", "name: B. Person");
    assert_eq!(demo.state(), "reviewed", "approved by somebody who does not hold the role");
    demo.check_finding("release-not-approved", "RL-1");
    assert_eq!(release("1.2.3", hash), "released");
    demo.edit(
        "regulatory/releases/RL-1.yaml",
        "approvals: [{ name: A. Person, role: quality, date: 2026-11-24 }]",
        "approvals: []",
    );
    assert_eq!(demo.state(), "reviewed", "approved by nobody");
    assert_eq!(release("1.2.3", hash), "released");
    demo.edit(
        "regulatory/profile.yaml",
        "approvals: []",
        "approvals: [{ document: release, roles: [quality, safety] }]",
    );
    let safety =
        "- { id: safety, title: { zh: 安全, en: Safety }, duties: { zh: 风险, en: Risks }, holder: \"C. Person\" }";
    demo.edit("regulatory/profile.yaml", "roles: [{ id: quality", &format!("roles:\n{safety}\n- {{ id: quality"));
    demo.edit("regulatory/profile.yaml", "holder: \"A. Person\" }]", "holder: \"A. Person\" }");
    assert_eq!(demo.state(), "reviewed", "one of the roles that must approve a release is missing");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn a_failure_below_colours_everything_above() {
    let demo = two_tiers();
    assert_eq!(demo.answer()["states"]["SW-001"], "passed", "{:#}", demo.answer());
    assert_eq!(demo.state(), "criterion met");
    demo.put("junit.xml", &two_cases("<failure message=\"no\"/>"));
    let answer = demo.answer();
    assert_eq!((&answer["states"]["SW-001"], &answer["states"]["FR-001"]), (&"failed".into(), &"failed".into()));
    demo.check_finding("requirement-failed", "FR-001");
    demo.check_finding("control-broken", "RC-1");
    demo.check_finding("risk-control-failed", "R-001");
    assert_eq!(answer["risks"]["R-001"]["residual_as_evidenced"], "high");
}

/// After a review of everything: what an edit makes suspect.
#[track_caller]
fn check_suspects(edit: impl Fn(&Demo), expected: &[&str]) {
    let demo = two_tiers();
    demo.review_all();
    assert_eq!(demo.suspects(), [""; 0], "the untouched twin has no suspect link");
    edit(&demo);
    assert_eq!(demo.suspects(), expected);
    demo.review_all();
    assert_eq!(demo.suspects(), [""; 0], "a person has looked again");
}

const TEST: &str = "demo tests::finds_three";

#[verifies("RR-001", "SW-1105")]
#[test]
fn a_changed_limit_makes_what_stands_on_it_suspect_and_nothing_else() {
    let file = "regulatory/requirements/FR-001.yaml";
    check_suspects(
        |demo| demo.edit(file, "limit: 0.9,", "limit: 0.8,"),
        &[
            "FR-001 (translation) translates FR-001",
            "FR-001 refines N-001",
            "FR-001.1 stands-on model",
            "FR-001.1 stands-on protocol",
            "FR-001.1 stands-on test set",
            "RC-1 is-done-by FR-001",
            "RC-1 is-shown-by FR-001.1",
            "RC-2 is-done-by FR-001",
            "SW-001 refines FR-001",
            "demo detect implements FR-001",
            &format!("{TEST} verifies FR-001"),
        ],
    );
}

#[verifies("RR-001", "SW-1105")]
#[test]
fn a_changed_test_function_weight_set_or_protocol_makes_its_own_links_suspect() {
    check_suspects(
        |demo| demo.edit("src/lib.rs", "super::detect(), 3", "super::detect(), 4"),
        &[&format!("{TEST} verifies FR-001"), &format!("{TEST} verifies R-001")],
    );
    check_suspects(
        |demo| demo.edit("src/lib.rs", "fn count() -> u32 { 3 }", "fn count() -> u32 { 4 }"),
        &["demo count implements SW-001"],
    );
    check_suspects(|demo| demo.edit("run/results.json", "\"11\"", "\"12\""), &["FR-001.1 stands-on model"]);
    check_suspects(|demo| demo.edit("run/results.json", "\"00\"", "\"01\""), &["FR-001.1 stands-on test set"]);
    check_suspects(|demo| demo.edit("run/results.json", "\"22\"", "\"23\""), &["FR-001.1 stands-on protocol"]);
}

#[verifies("RR-001", "SW-1105")]
#[test]
fn a_translation_a_title_and_layout_touch_no_claim() {
    let file = "regulatory/requirements/FR-001.yaml";
    check_suspects(
        |demo| demo.edit(file, "系统应检测结节。", "系统应当检测结节。"),
        &["FR-001 (translation) translates FR-001"],
    );
    check_suspects(|demo| demo.edit(file, "en: \"Detection\"", "en: \"Finding\""), &[]);
    check_suspects(|demo| demo.edit(file, "allocation: in_scope", "# why\nallocation:   in_scope"), &[]);
    check_suspects(
        |demo| {
            demo.edit("src/lib.rs", "pub fn detect() -> u32 { 3 }", "pub fn detect() -> u32 {\n    // three\n    3\n}")
        },
        &[],
    );
}

#[verifies("RR-001", "SW-1105")]
#[test]
fn a_suspect_link_takes_the_review_away_and_names_who_and_when() {
    let demo = Demo::new();
    demo.review_all();
    demo.edit("src/lib.rs", "{ 3 }", "{ 1 + 2 }");
    assert_eq!(demo.state(), "criterion met");
    let answer = demo.answer();
    let gap = answer["gaps"].as_array().unwrap().iter().find(|gap| gap["rule"] == "suspect-link").unwrap().clone();
    assert_eq!(gap["message"], "demo detect changed since A. Person reviewed it on 2026-11-24");
    // Only the item that is named is cleared.
    let review = |item: &str| {
        demo.tool(&["review", "--item", item, "--reviewer", "B. Person", "--date", "2026-11-25", "--validation", "run"])
    };
    assert!(review("RC-1").status.success());
    assert_eq!(demo.suspects(), ["demo detect implements FR-001"]);
    assert!(review("demo detect").status.success());
    assert_eq!(demo.state(), "reviewed");
    assert_eq!(review("demo detekt").status.code(), Some(1), "an item that is not there");
}

#[verifies("RR-001", "SW-1105")]
#[test]
fn a_link_that_is_gone_and_a_lock_that_was_edited_by_hand_are_noticed() {
    let demo = two_tiers();
    demo.review_all();
    demo.edit("src/lib.rs", "verifies(\"SW-001\")", "verifies(\"FR-001\")");
    demo.check_finding("link-gone", "demo more::counts");
    // Without the results at hand, what stands on them is out of sight, not gone: a review drops nothing of it.
    let run = demo.tool(&["review", "--all", "--reviewer", "B. Person", "--date", "2026-11-25"]);
    assert!(run.status.success());
    let lock = std::fs::read_to_string(demo.path("regulatory/trace.lock")).unwrap();
    assert!(lock.contains("stands-on\tFR-001.1\tmodel\t") && !lock.contains("more::counts\tSW-001"), "{lock}");
    demo.put("regulatory/trace.lock", &lock.replace("A. Person", ""));
    assert_eq!(demo.answer()["rule"], "trace-lock");
    demo.put("regulatory/trace.lock", &lock[..lock.len() - 30]);
    assert_eq!(demo.answer()["rule"], "trace-lock");
}

/// A requirement that people alone verify, with a figure that must hold.
const REVIEWED_ONLY: &str = r#"id: FR-002
tier: system
parents: [N-001]
title: { zh: "覆盖", en: "Coverage" }
statement: { zh: "测试应覆盖代码。", en: "Tests shall cover the code." }
allocation: in_scope
content: [regulatory]
controls_for: []
verify_by: [review]
criteria: []
"#;

fn hash_of(demo: &Demo, item: &str) -> String {
    let run = demo.tool(&["review", "--list", "--json"]);
    let said: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    said["texts"][item].as_str().unwrap_or_else(|| panic!("no text of {item}")).to_owned()
}

fn put_review(demo: &Demo, id: &str, item: &str, hash: &str, outcome: &str) {
    let text = format!(
        "id: {id}\ndate: 2026-11-24\nreviewer: A. Person\nrole: quality\nindependent: true\nitems: {{ \"{item}\": \"{hash}\" }}\noutcome: {outcome}\nnotes: {{ zh: 无, en: none }}\n"
    );
    demo.put(&format!("regulatory/reviews/{id}.yaml"), &text);
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn a_requirement_is_whole_only_when_every_way_of_verification_has_succeeded() {
    let demo = Demo::new();
    let whole = |demo: &Demo| {
        demo.answer();
        let text = std::fs::read_to_string(demo.path("target/package/core/evidence.json")).unwrap();
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        report["requirements"].as_array().unwrap().iter().all(|r| r["whole"] == true)
    };
    assert!(whole(&demo), "the untouched twin");
    let fr = FR.replace("verify_by: [test, validation]", "verify_by: [test, validation, review]");
    demo.put("regulatory/requirements/FR-001.yaml", &fr);
    let verifies = vec![("FR-001", sha256(&fr)), ("R-001", sha256(crate::demo::RISK))];
    demo.record(&Record { verifies, ..Record::default() });
    assert!(!whole(&demo), "its review is missing");
    demo.check_finding("manual", "FR-001");
    put_review(&demo, "RV-001", "FR-001", &hash_of(&demo, "FR-001"), "accepted");
    assert!(whole(&demo));
    demo.put("run/results.json", r#"{"synthetic":false,"criteria":[]}"#);
    assert!(!whole(&demo), "its criterion is not decided");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn what_people_verify_has_criteria_too() {
    let demo = Demo::new();
    let state = |demo: &Demo| demo.answer()["states"]["FR-002"].as_str().unwrap().to_owned();
    demo.put("regulatory/requirements/FR-002.yaml", REVIEWED_ONLY);
    assert_eq!(state(&demo), "manual - record required");
    put_review(&demo, "RV-001", "FR-002", &hash_of(&demo, "FR-002"), "accepted");
    assert_eq!(state(&demo), "record of a person");
    let criterion =
        "criteria:\n- { id: FR-002.1, metric: coverage.lines, where: all, op: \">=\", limit: 0.8, on: value }\n";
    demo.put("regulatory/requirements/FR-002.yaml", &REVIEWED_ONLY.replace("criteria: []\n", criterion));
    put_review(&demo, "RV-001", "FR-002", &hash_of(&demo, "FR-002"), "accepted");
    assert_eq!(state(&demo), "unlinked", "nothing decides its criterion");
    demo.edit("regulatory/requirements/FR-002.yaml", "verify_by: [review]", "verify_by: []");
    assert_eq!(demo.answer()["rule"], "verify-by-missing");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn a_parent_stands_no_higher_than_its_worst_child() {
    let demo = two_tiers();
    assert_eq!(demo.state(), "criterion met", "the untouched twin");
    demo.edit("regulatory/requirements/SW-001.yaml", "allocation: in_scope", "allocation: external\nreason: elsewhere");
    demo.edit("src/lib.rs", "verifies(\"SW-001\")", "verifies(\"FR-001\")");
    demo.check_finding("ids-disagree", "more::counts");
    assert_eq!(demo.state(), "exercised", "its own second test disagrees");
    let demo = two_tiers();
    demo.put("regulatory/requirements/SW-002.yaml", &CHILD.replace("SW-001", "SW-002"));
    let answer = demo.answer();
    assert_eq!((&answer["states"]["SW-002"], &answer["states"]["FR-001"]), (&"unlinked".into(), &"unlinked".into()));
    demo.check_finding("held-down", "FR-001");
    demo.check_finding("control-not-shown", "RC-1");
    demo.edit("regulatory/requirements/SW-002.yaml", "allocation: in_scope", "allocation: external\nreason: elsewhere");
    assert_eq!(demo.state(), "criterion met", "what is not in scope holds nothing down");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn what_failed_has_failed_whoever_it_was_allocated_to() {
    let demo = Demo::new();
    let elsewhere = FR.replace("allocation: in_scope", "allocation: external\nreason: elsewhere");
    demo.put("regulatory/requirements/FR-001.yaml", &elsewhere);
    assert_eq!(demo.state(), "not evidenced here");
    demo.put("junit.xml", &JUNIT.replace("/></testsuite>", "><failure message=\"no\"/></testcase></testsuite>"));
    assert_eq!(demo.state(), "failed");
    demo.check_finding("requirement-failed", "FR-001");
}

#[verifies("RR-001", "SW-1101", "SW-1104")]
#[test]
fn an_open_major_problem_holds_its_requirement_down() {
    let demo = Demo::new();
    demo.put("regulatory/problems/PB-001.yaml", crate::people::PROBLEM);
    assert_eq!(demo.state(), "criterion met", "a minor one does not");
    demo.edit("regulatory/problems/PB-001.yaml", "severity: minor", "severity: major");
    assert_eq!(demo.state(), "open problem");
    demo.check_finding("requirement-with-problem", "FR-001");
    demo.check_finding("control-not-shown", "RC-1");
    demo.edit("regulatory/problems/PB-001.yaml", "severity: major", "severity: critical");
    assert_eq!(demo.state(), "open problem");
    demo.edit("regulatory/problems/PB-001.yaml", "requirements: [FR-001]", "requirements: []");
    assert_eq!(demo.state(), "criterion met");
}

#[verifies("RR-001", "SW-1105")]
#[test]
fn a_way_of_verification_a_kind_of_content_and_a_controlled_risk_bind() {
    for (from, to) in [
        ("verify_by: [test, validation]", "verify_by: [validation]"),
        ("content: [functional]", "content: [alarms]"),
        ("controls_for: [R-001]", "controls_for: []"),
    ] {
        let demo = Demo::new();
        demo.review_all();
        demo.edit("regulatory/requirements/FR-001.yaml", from, to);
        assert!(demo.suspects().contains(&format!("{TEST} verifies FR-001")), "{to}");
    }
    // The policy by which a risk is judged is part of it.
    let demo = Demo::new();
    demo.review_all();
    demo.edit("regulatory/matrix.yaml", "acceptable: [low]", "acceptable: [low, medium]");
    assert!(demo.suspects().contains(&"RC-1 reduces R-001".to_owned()));
}
