//! Records that people keep: reviews that went stale, waivers that ended, problems, threats, translations, documents.
use crate::demo::{Demo, FR};
use lungai_trace::verifies;

const PLAN: &str = "# Plan / 计划\n\n## Scope / 范围\n\nOne.\n\n<!-- zh -->\n\n一。\n";

const THREAT: &str = r#"id: T-001
title: { zh: "威胁", en: "Threat" }
category: tampering
asset: model
entry: folder
weakness: CWE-345
attack: { zh: "替换", en: "Exchange" }
risks: [R-001]
requirements: [FR-001]
operator: null
"#;

const PROBLEM: &str = r#"id: PB-001
title: { zh: "问题", en: "Problem" }
found: 2026-11-24
by: tester
item: demo
versions: "1"
description: { zh: "现象", en: "What was seen" }
severity: minor
risks: [R-001]
requirements: [FR-001]
state: evaluated
evaluation: { zh: "无影响", en: "No effect" }
change: null
verified: null
"#;

fn review(item: &str, hash: &str) -> String {
    format!(
        "id: RV-001\ndate: 2026-11-24\nreviewer: A. Person\nrole: quality\nindependent: true\nitems: {{ \"{item}\": \"{hash}\" }}\noutcome: accepted\nnotes: {{ zh: 无, en: none }}\n"
    )
}

/// State of a clause of the demonstration's table.
fn clause(demo: &Demo, id: &str) -> String {
    demo.answer();
    let table = std::fs::read_to_string(demo.path("target/package/core/clauses.csv")).unwrap();
    let row = table.lines().find(|line| line.contains(&format!(",{id},"))).unwrap();
    row.split(',').nth(5).unwrap().to_owned()
}

#[verifies("RR-001")]
#[test]
fn a_document_is_shown_only_by_a_review_of_its_very_text() {
    let demo = Demo::new();
    demo.edit("regulatory/clauses/table.yaml", "check: tests-ran", "check: \"document:plan\"");
    assert_eq!(clause(&demo, "5.5.5"), "gap");
    demo.put("regulatory/plans/plan.md", PLAN);
    assert_eq!(clause(&demo, "5.5.5"), "manual - record required");
    demo.put("regulatory/reviews/RV-001.yaml", &review("plans/plan.md", &crate::demo::sha256(PLAN)));
    assert_eq!(clause(&demo, "5.5.5"), "shown");
    demo.put("regulatory/plans/plan.md", &PLAN.replace("One.", "Two."));
    assert_eq!(clause(&demo, "5.5.5"), "gap");
    demo.check_finding("review-stale", "plans/plan.md");
    demo.put("regulatory/plans/plan.md", &PLAN.replace("一。", ""));
    demo.check_finding("translation-missing", "plans/plan.md");
}

#[verifies("RR-001")]
#[test]
fn a_manual_clause_is_closed_by_a_persons_record_and_by_nothing_else() {
    let demo = Demo::new();
    assert_eq!(clause(&demo, "4.1"), "manual - record required");
    demo.put("regulatory/reviews/RV-001.yaml", &review("IEC 62304 4.1", "-"));
    assert_eq!(clause(&demo, "4.1"), "record of a person");
    demo.edit("regulatory/reviews/RV-001.yaml", "accepted", "rejected");
    assert_eq!(clause(&demo, "4.1"), "manual - record required");
    demo.edit(
        "regulatory/clauses/table.yaml",
        "check: manual }\n- { id: \"5.4.2\"",
        "check: automatic }\n- { id: \"5.4.2\"",
    );
    demo.check_finding("check-unknown", "IEC 62304 4.1");
}

#[verifies("RR-001")]
#[test]
fn a_waiver_ends_on_its_day_and_hides_nothing() {
    let demo = Demo::new();
    demo.put("regulatory/needs/N-002.yaml", &crate::demo::NEED.replace("N-001", "N-002"));
    demo.check_finding("need-unmet", "N-002");
    let waiver = |expires: &str| {
        let text = format!(
            "- {{ rule: need-unmet, item: N-002, reason: later, owner: QA, approved: 2026-01-01, expires: {expires} }}\n"
        );
        demo.put("regulatory/waivers.yaml", &text);
        demo.commit();
    };
    waiver("2026-11-24");
    let answer = demo.answer();
    let gap = answer["gaps"].as_array().unwrap().iter().find(|gap| gap["rule"] == "need-unmet").unwrap();
    assert_eq!(gap["severity"], "grey");
    assert!(gap["message"].as_str().unwrap().starts_with("waived until 2026-11-24 by QA (later): "), "{gap}");
    waiver("2026-11-23");
    demo.check_finding("waiver-expired", "N-002");
    demo.put(
        "regulatory/waivers.yaml",
        "- { rule: x, item: y, reason: z, owner: QA, approved: 2026-02-01, expires: 2026-01-01 }\n",
    );
    assert_eq!(demo.answer()["rule"], "waiver");
}

#[verifies("RR-001")]
#[test]
fn a_tree_that_differs_from_its_commit_is_red() {
    let demo = Demo::new();
    demo.commit();
    let red = |demo: &Demo| {
        let answer = demo.answer();
        let red = answer["gaps"].as_array().unwrap().iter().filter(|gap| gap["severity"] == "red");
        red.map(|gap| gap["rule"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(red(&demo), ["safety-class"], "the untouched twin");
    demo.put("regulatory/requirements/FR-001.yaml", &format!("{FR}# edited\n"));
    assert!(red(&demo).contains(&"dirty-tree".to_owned()));
}

#[verifies("RR-001")]
#[test]
fn threats_and_problems_without_an_answer_show() {
    let demo = Demo::new();
    demo.put("regulatory/threats/T-001.yaml", THREAT);
    demo.put("regulatory/problems/PB-001.yaml", PROBLEM);
    demo.check_finding("problem-open", "PB-001");
    demo.edit("regulatory/threats/T-001.yaml", "requirements: [FR-001]", "requirements: []");
    demo.check_finding("threat-uncontrolled", "T-001");
    demo.edit("regulatory/problems/PB-001.yaml", "severity: minor", "severity: critical");
    demo.check_finding("problem-critical", "PB-001");
    demo.edit("regulatory/problems/PB-001.yaml", "state: evaluated", "state: open");
    demo.check_finding("problem-not-evaluated", "PB-001");
    demo.edit("regulatory/problems/PB-001.yaml", "state: open", "state: closed");
    assert_eq!(demo.answer()["rule"], "closure-without-evidence");
}

#[verifies("RR-001")]
#[test]
fn a_requirement_without_origin_or_with_vague_words_shows() {
    let demo = Demo::new();
    demo.edit("regulatory/requirements/FR-001.yaml", "parents: [N-001]", "parents: []");
    demo.edit("regulatory/requirements/FR-001.yaml", "shall detect nodules", "shall be fast");
    demo.check_finding("no-parent", "FR-001");
    demo.check_finding("need-unmet", "N-001");
    demo.check_finding("vague-words", "FR-001");
}
