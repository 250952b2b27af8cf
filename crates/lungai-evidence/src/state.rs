//! How far the evidence for each requirement reaches. Never further than the weakest part of it.
use crate::binding::BoundTest;
use crate::finding::{Finding, Severity};
use crate::junit::Verdict;
use crate::regulatory::{Allocation, Regulatory, Requirement, VerifyBy};
use crate::results::{Judged, Outcome};
use crate::scan::Tag;
use lungai_trace::implements;
use serde::Serialize;
use std::collections::BTreeMap;

/// Worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum State {
    #[serde(rename = "failed")]
    Failed,
    #[serde(rename = "criterion not met")]
    CriterionNotMet,
    #[serde(rename = "criterion not met (synthetic)")]
    CriterionNotMetSynthetic,
    #[serde(rename = "unlinked")]
    Unlinked,
    #[serde(rename = "linked")]
    Linked,
    #[serde(rename = "executed")]
    Executed,
    #[serde(rename = "passed")]
    Passed,
    #[serde(rename = "criterion met (synthetic)")]
    CriterionMetSynthetic,
    #[serde(rename = "criterion met")]
    CriterionMet,
    #[serde(rename = "manual - record required")]
    Manual,
    #[serde(rename = "not evidenced here")]
    NotEvidencedHere,
    #[serde(rename = "not applicable")]
    NotApplicable,
}

impl State {
    pub const ALL: [State; 12] = [
        State::Failed,
        State::CriterionNotMet,
        State::CriterionNotMetSynthetic,
        State::Unlinked,
        State::Linked,
        State::Executed,
        State::Passed,
        State::CriterionMetSynthetic,
        State::CriterionMet,
        State::Manual,
        State::NotEvidencedHere,
        State::NotApplicable,
    ];

    pub fn words(self) -> &'static str {
        match self {
            State::Failed => "failed",
            State::CriterionNotMet => "criterion not met",
            State::CriterionNotMetSynthetic => "criterion not met (synthetic)",
            State::Unlinked => "unlinked",
            State::Linked => "linked",
            State::Executed => "executed",
            State::Passed => "passed",
            State::CriterionMetSynthetic => "criterion met (synthetic)",
            State::CriterionMet => "criterion met",
            State::Manual => "manual - record required",
            State::NotEvidencedHere => "not evidenced here",
            State::NotApplicable => "not applicable",
        }
    }

    /// What the word means, for the reader of the package.
    pub fn meaning(self) -> &'static str {
        match self {
            State::Failed => "a test that should prove it failed",
            State::CriterionNotMet => "a measured figure misses its limit",
            State::CriterionNotMetSynthetic => "a figure measured on synthetic data misses its limit",
            State::Unlinked => "no test is tagged with it",
            State::Linked => "tests are tagged with it, none has run",
            State::Executed => "tests ran, but not all of them, or not all give evidence",
            State::Passed => {
                "all its tests ran, passed and agree with their records; its criteria are not all decided, if it has any"
            }
            State::CriterionMetSynthetic => {
                "tests passed and criteria are met, on synthetic data only: no clinical evidence"
            }
            State::CriterionMet => "tests passed and every criterion is met by its confidence bound",
            State::Manual => "only a review by people can show it",
            State::NotEvidencedHere => "only another party or an operated service can show it",
            State::NotApplicable => "does not apply to this product",
        }
    }

    /// Colour of the state: what a reader must look at first.
    pub fn severity(self) -> Option<Severity> {
        match self {
            State::Failed | State::CriterionNotMet | State::CriterionNotMetSynthetic => Some(Severity::Red),
            State::Unlinked | State::Linked | State::Executed | State::CriterionMetSynthetic => Some(Severity::Amber),
            State::Manual | State::NotEvidencedHere | State::NotApplicable => Some(Severity::Grey),
            State::Passed | State::CriterionMet => None,
        }
    }
}

/// A requirement with all that is bound to it.
#[derive(Debug, Clone, Serialize)]
pub struct RequirementStatus {
    pub requirement: Requirement,
    pub state: State,
    /// From the tests alone: what a risk control's implementation is proven by.
    pub tests_state: State,
    /// Places of `#[implements]`, as `file:line name`.
    pub implemented_at: Vec<String>,
    /// Positions in the list of all tagged tests.
    pub tests: Vec<usize>,
    pub criteria: Vec<Judged>,
}

#[implements("RR-001")]
pub fn requirements(
    regulatory: &Regulatory,
    tags: &[Tag],
    tests: &[BoundTest],
    judged: &BTreeMap<String, Judged>,
) -> (Vec<RequirementStatus>, Vec<Finding>) {
    let mut all = Vec::new();
    let mut findings = Vec::new();
    for requirement in regulatory.requirements.values() {
        let is_ours = |ids: &[String]| ids.contains(&requirement.id);
        let linked: Vec<usize> = (0..tests.len()).filter(|i| is_ours(&tests[*i].tag.ids)).collect();
        let criteria: Vec<Judged> = requirement.criteria.iter().filter_map(|c| judged.get(&c.id).cloned()).collect();
        let implemented_at: Vec<String> = tags
            .iter()
            .filter(|tag| !tag.is_test_tag && is_ours(&tag.ids))
            .map(|tag| format!("{}:{} {}", tag.file, tag.line, tag.name))
            .collect();
        let tests_state = from_tests(linked.iter().map(|i| &tests[*i]));
        let state = overall(requirement, tests_state, &criteria);
        let exercised = |i: &usize| tests[*i].exercised.as_ref().is_some_and(|ids| ids.contains(&requirement.id));
        if tests_state == State::Passed && !implemented_at.is_empty() && !linked.iter().any(exercised) {
            let message = "none of its tests called a function that implements it".to_owned();
            findings.push(Finding::new(Severity::Amber, "nothing-exercised", &requirement.id, message));
        }
        findings.extend(gaps(requirement, tests_state, &implemented_at));
        all.push(RequirementStatus {
            requirement: requirement.clone(),
            state,
            tests_state,
            implemented_at,
            tests: linked,
            criteria,
        });
    }
    (all, findings)
}

/// The ladder from unlinked to passed.
pub fn from_tests<'a>(tests: impl Iterator<Item = &'a BoundTest>) -> State {
    let tests: Vec<&BoundTest> = tests.collect();
    if tests.is_empty() {
        State::Unlinked
    } else if tests.iter().any(|test| test.verdict == Some(Verdict::Failed)) {
        State::Failed
    } else if tests.iter().all(|test| test.counts_as_passed() && test.exercised.is_some()) {
        State::Passed
    } else if tests.iter().any(|test| test.verdict == Some(Verdict::Passed)) {
        State::Executed
    } else {
        State::Linked
    }
}

fn overall(requirement: &Requirement, tests: State, criteria: &[Judged]) -> State {
    match requirement.allocation {
        Allocation::External => return State::NotEvidencedHere,
        Allocation::NotApplicable => return State::NotApplicable,
        Allocation::InScope => (),
    }
    if tests == State::Failed {
        return State::Failed;
    }
    let any = |outcome| criteria.iter().any(|judged| judged.outcome == outcome);
    if any(Outcome::NotMet) {
        return State::CriterionNotMet;
    }
    if any(Outcome::NotMetSynthetic) {
        return State::CriterionNotMetSynthetic;
    }
    let by = |way| requirement.verify_by.contains(&way);
    if tests == State::Unlinked && !by(VerifyBy::Test) && !by(VerifyBy::Validation) {
        return if by(VerifyBy::Review) { State::Manual } else { State::NotEvidencedHere };
    }
    if tests != State::Passed {
        return tests;
    }
    let all_met =
        |outcomes: &[Outcome]| !criteria.is_empty() && criteria.iter().all(|judged| outcomes.contains(&judged.outcome));
    if all_met(&[Outcome::Met]) {
        State::CriterionMet
    } else if all_met(&[Outcome::Met, Outcome::MetSynthetic]) {
        State::CriterionMetSynthetic
    } else {
        State::Passed
    }
}

fn gaps(requirement: &Requirement, tests: State, implemented_at: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |severity, rule, message: &str| {
        findings.push(Finding::new(severity, rule, &requirement.id, message.to_owned()))
    };
    let by = |way| requirement.verify_by.contains(&way);
    if requirement.allocation != Allocation::InScope {
        add(Severity::Grey, "allocated-elsewhere", requirement.reason.as_deref().unwrap_or_default());
        return findings;
    }
    match tests {
        State::Unlinked if by(VerifyBy::Test) => add(Severity::Amber, "unlinked", "no test is tagged with it"),
        State::Linked => add(Severity::Amber, "linked-only", "its tests have not run"),
        State::Executed => add(Severity::Amber, "executed-only", "not all of its tests ran, or not all give evidence"),
        State::Failed => add(Severity::Red, "requirement-failed", "a test that should prove it failed"),
        _ => (),
    }
    if implemented_at.is_empty() && by(VerifyBy::Test) {
        add(Severity::Amber, "not-implemented", "no function is tagged as implementing it");
    }
    if by(VerifyBy::Review) {
        add(Severity::Grey, "manual", "manual - record required: a review by people");
    }
    if by(VerifyBy::Operation) {
        add(Severity::Grey, "not-evidenced-here", "not evidenced here: a figure of an operated service");
    }
    findings
}
