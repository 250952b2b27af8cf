//! Records that people keep: reviews that went stale, waivers that ended, problems, threats, translations, documents.
use crate::demo::{Demo, FR};
use lungai_trace::verifies;

const PLAN: &str = "# Plan / 计划\n\n## Scope / 范围\n\nOne.\n\n<!-- zh -->\n\n一。\n";

pub const THREAT: &str = r#"id: T-001
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

pub const PROBLEM: &str = r#"id: PB-001
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
    demo.put("regulatory/reviews/RV-001.yaml", &review("IEC 62304 1 4.1", "-"));
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
    let git = |demo: &Demo, arguments: &[&str]| {
        let run = std::process::Command::new("git").args(arguments).current_dir(demo.folder.path()).output().unwrap();
        assert!(run.status.success(), "{run:?}");
    };
    let check = |rule: &str, fault: &dyn Fn(&Demo)| {
        let demo = Demo::new();
        demo.commit();
        assert_eq!(red(&demo), ["safety-class"], "the untouched twin");
        fault(&demo);
        assert!(red(&demo).contains(&rule.to_owned()), "{rule}");
    };
    for folder in ["validation", "datasets", "models", "experiments", ".cargo", ".config"] {
        check("dirty-tree", &|demo| demo.put(&format!("{folder}/new.yaml"), "x: 1\n"));
    }
    check("dirty-tree", &|demo| {
        git(demo, &["update-index", "--assume-unchanged", "src/lib.rs"]);
        demo.edit("src/lib.rs", "{ 3 }", "{ 1 + 2 }");
    });
    check("dirty-tree", &|demo| {
        demo.put(".git/info/exclude", "hidden.rs\n");
        demo.put("src/hidden.rs", "");
    });
    check("tree-unknown", &|demo| demo.put(".git/index", "no index"));
    // Ignored by a committed `.gitignore`, yet read by this tool.
    let demo = Demo::new();
    demo.commit();
    demo.put(".gitignore", "target\nrun.json\nPB-001.yaml\n");
    git(&demo, &["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-a", "-m", "ignore"]);
    assert!(!red(&demo).contains(&"dirty-tree".to_owned()), "the untouched twin");
    demo.put("regulatory/problems/PB-001.yaml", PROBLEM);
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

#[verifies("RR-001")]
#[test]
fn a_rejection_is_no_approval_and_voids_an_earlier_acceptance() {
    let demo = Demo::new();
    demo.edit("regulatory/clauses/table.yaml", "check: tests-ran", "check: \"document:plan\"");
    demo.edit("regulatory/profile.yaml", "approvals: []", "approvals: [{ document: plan, roles: [quality] }]");
    demo.put("regulatory/plans/plan.md", PLAN);
    let hash = crate::demo::sha256(PLAN);
    let write = |id: &str, date: &str, outcome: &str| {
        let text = review("plans/plan.md", &hash).replace("RV-001", id).replace("2026-11-24", date);
        demo.put(&format!("regulatory/reviews/{id}.yaml"), &text.replace("accepted", outcome));
    };
    write("RV-001", "2026-11-24", "accepted");
    assert_eq!(clause(&demo, "5.5.5"), "shown", "the untouched twin");
    write("RV-002", "2026-11-25", "rejected");
    assert_ne!(clause(&demo, "5.5.5"), "shown");
    demo.check_finding("approval-missing", "plans/plan.md");
    demo.check_finding("review-rejected", "RV-002");
    write("RV-002", "2026-11-24", "rejected");
    assert_ne!(clause(&demo, "5.5.5"), "shown", "of one day the rejection counts");
    write("RV-003", "2026-11-26", "accepted");
    assert_eq!(clause(&demo, "5.5.5"), "shown");
}

#[verifies("RR-001")]
#[test]
fn a_review_by_somebody_without_the_role_or_of_own_work_accepts_nothing() {
    for (file, from, to) in [
        ("reviews/RV-001.yaml", "independent: true", "independent: false"),
        ("reviews/RV-001.yaml", "reviewer: A. Person", "reviewer: B. Person"),
        ("profile.yaml", "holder: \"A. Person\"", "holder: null"),
    ] {
        let demo = Demo::new();
        demo.put("regulatory/reviews/RV-001.yaml", &review("IEC 62304 1 4.1", "-"));
        assert_eq!(clause(&demo, "4.1"), "record of a person", "the untouched twin");
        demo.edit(&format!("regulatory/{file}"), from, to);
        assert_eq!(clause(&demo, "4.1"), "manual - record required", "{to}");
        demo.check_finding("review-void", "RV-001");
    }
}

#[verifies("RR-001")]
#[test]
fn a_clause_is_claimed_with_its_edition_and_by_an_id_that_exists() {
    for wrong in ["IEC 62304 4.1", "IEC 62304 2 4.1", "IEC 62304 1 4.9", "FR-001"] {
        let demo = Demo::new();
        demo.put("regulatory/reviews/RV-001.yaml", &review(wrong, "-"));
        assert_eq!(clause(&demo, "4.1"), "manual - record required", "{wrong}");
        demo.check_finding("clause-unknown", "RV-001");
    }
    let demo = Demo::new();
    demo.edit("regulatory/clauses/table.yaml", "edition: \"1\"", "edition: \"2\"");
    assert_eq!(demo.answer()["rule"], "clause-table");
}

#[verifies("RR-001")]
#[test]
fn a_problem_is_resolved_by_an_approved_change_and_a_verification_alone() {
    let change = |approved: &str| {
        format!(
            "id: CH-001\ntitle: {{ zh: 改, en: Change }}\nreason: {{ zh: 因, en: Reason }}\nrequested: 2026-11-24\nby: tester\nproblems: [PB-001]\ntouches: []\nsafety: {{ zh: 无, en: none }}\napproved: {approved}\ncommits: []\n"
        )
    };
    let approved = "{ name: A. Person, role: quality, date: 2026-11-24 }";
    let demo = Demo::new();
    let resolved = PROBLEM.replace("state: evaluated", "state: resolved").replace("minor", "major");
    let whole = resolved.replace("change: null", "change: CH-001").replace("verified: null", "verified: test");
    demo.put("regulatory/changes/CH-001.yaml", &change(approved));
    demo.put("regulatory/problems/PB-001.yaml", &whole);
    assert_eq!(demo.state(), "criterion met", "the untouched twin");
    for still_open in [
        &resolved,
        &resolved.replace("change: null", "change: CH-001"),
        &resolved.replace("verified: null", "verified: test"),
    ] {
        demo.put("regulatory/problems/PB-001.yaml", still_open);
        demo.check_finding("problem-not-resolved", "PB-001");
        assert_eq!(demo.state(), "open problem");
    }
    demo.put("regulatory/problems/PB-001.yaml", &whole);
    demo.put("regulatory/changes/CH-001.yaml", &change("null"));
    demo.check_finding("problem-not-resolved", "PB-001");
}

#[verifies("RR-001", "SW-1104")]
#[test]
fn a_control_outside_the_software_counts_when_a_person_has_recorded_its_effect() {
    let demo = Demo::new();
    let external = "- { id: RC-3, option: protective, external: true, zh: \"阅片\", en: \"Reading\", effectiveness: { record: \"reader study\" }, reduces: { P2: 3 }, basis: \"test\" }\nnew_risks";
    demo.edit("regulatory/risks/R-001.yaml", "new_risks", external);
    let risk = std::fs::read_to_string(demo.path("regulatory/risks/R-001.yaml")).unwrap();
    let verifies = vec![("FR-001", crate::demo::sha256(crate::demo::FR)), ("R-001", crate::demo::sha256(&risk))];
    demo.record(&crate::demo::Record { verifies, ..crate::demo::Record::default() });
    assert_eq!(demo.answer()["safety_class"]["computed"], "C");
    let run = demo.tool(&["review", "--list", "--json"]);
    let said: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    let hash = said["texts"]["RC-3"].as_str().unwrap();
    demo.put("regulatory/reviews/RV-001.yaml", &review("RC-3", hash));
    // The software taken to fail: P1 5, P2 4 - 3 = 1 -> P 1 -> low.
    assert_eq!(demo.answer()["safety_class"]["computed"], "A");
    demo.edit("regulatory/reviews/RV-001.yaml", "accepted", "rejected");
    assert_eq!(demo.answer()["safety_class"]["computed"], "C");
    demo.put("regulatory/reviews/RV-001.yaml", &review("RC-3", hash));
    demo.edit("regulatory/risks/R-001.yaml", "P2: 3", "P2: 2");
    demo.check_finding("review-stale", "RV-001");
    assert_eq!(demo.answer()["safety_class"]["computed"], "C", "the record is of another control");
}

#[verifies("RR-001", "SW-1104")]
#[test]
fn a_trace_of_risks_is_not_shown_while_a_control_is_broken() {
    let demo = Demo::new();
    demo.edit("regulatory/clauses/table.yaml", "check: tests-ran", "check: risk-trace");
    assert_eq!(clause(&demo, "5.5.5"), "shown", "the untouched twin");
    demo.results(false, 0.95, [0.89, 0.98], false);
    assert_eq!(clause(&demo, "5.5.5"), "gap", "the figure that shows the effect of RC-1 misses its limit");
}

#[verifies("RR-001")]
#[test]
fn a_review_dated_after_its_commit_is_red() {
    let demo = Demo::new();
    let dated = |date: &str| review("IEC 62304 1 4.1", "-").replace("2026-11-24", date);
    let red = |demo: &Demo| demo.answer()["gaps"].to_string().contains("record-from-the-future");
    demo.put("regulatory/reviews/RV-001.yaml", &dated("2026-11-24"));
    demo.commit();
    assert!(!red(&demo), "the untouched twin");
    demo.put("regulatory/reviews/RV-001.yaml", &dated("2026-11-25"));
    demo.commit();
    assert!(red(&demo));
}
