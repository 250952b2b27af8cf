//! How far the evidence for each requirement reaches. Never further than the weakest part of it.
use crate::binding::BoundTest;
use crate::finding::{Finding, Severity};
use crate::junit::Verdict;
use crate::links::{self, Link, LinkState};
use crate::regulatory::{Allocation, Regulatory, Requirement, VerifyBy, normative};
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
    #[serde(rename = "exercised")]
    Exercised,
    #[serde(rename = "passed")]
    Passed,
    #[serde(rename = "criterion met (synthetic)")]
    CriterionMetSynthetic,
    #[serde(rename = "criterion met")]
    CriterionMet,
    #[serde(rename = "reviewed")]
    Reviewed,
    #[serde(rename = "released")]
    Released,
    #[serde(rename = "manual - record required")]
    Manual,
    #[serde(rename = "not evidenced here")]
    NotEvidencedHere,
    #[serde(rename = "not applicable")]
    NotApplicable,
}

impl State {
    pub const ALL: [State; 15] = [
        State::Failed,
        State::CriterionNotMet,
        State::CriterionNotMetSynthetic,
        State::Unlinked,
        State::Linked,
        State::Executed,
        State::Exercised,
        State::Passed,
        State::CriterionMetSynthetic,
        State::CriterionMet,
        State::Reviewed,
        State::Released,
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
            State::Exercised => "exercised",
            State::Passed => "passed",
            State::CriterionMetSynthetic => "criterion met (synthetic)",
            State::CriterionMet => "criterion met",
            State::Reviewed => "reviewed",
            State::Released => "released",
            State::Manual => "manual - record required",
            State::NotEvidencedHere => "not evidenced here",
            State::NotApplicable => "not applicable",
        }
    }

    /// What the word means, for the reader of the package.
    pub fn meaning(self) -> &'static str {
        match self {
            State::Failed => "a test that should prove it, or a requirement below it, failed",
            State::CriterionNotMet => "a measured figure misses its limit",
            State::CriterionNotMetSynthetic => "a figure measured on synthetic data misses its limit",
            State::Unlinked => "no test is tagged with it",
            State::Linked => "tests are tagged with it, none has run",
            State::Executed => "tests ran, but none is known to have called code that implements it",
            State::Exercised => "a test called code that implements it, but not all of its tests count",
            State::Passed => {
                "all its tests ran, passed, agree with their records and exercised it; its criteria are not all decided, if it has any"
            }
            State::CriterionMetSynthetic => {
                "tests passed and criteria are met, on synthetic data only: no clinical evidence"
            }
            State::CriterionMet => "tests passed and every criterion is met by its confidence bound",
            State::Reviewed => "all that can be shown is shown, and a person has reviewed every link as it is today",
            State::Released => "reviewed, and part of the release record of this version with this text",
            State::Manual => "only a review by people can show it",
            State::NotEvidencedHere => "only another party or an operated service can show it",
            State::NotApplicable => "does not apply to this product",
        }
    }

    /// Colour of the state: what a reader must look at first.
    pub fn severity(self) -> Option<Severity> {
        match self {
            State::Failed | State::CriterionNotMet | State::CriterionNotMetSynthetic => Some(Severity::Red),
            State::Unlinked | State::Linked | State::Executed | State::Exercised | State::CriterionMetSynthetic => {
                Some(Severity::Amber)
            }
            State::Manual | State::NotEvidencedHere | State::NotApplicable => Some(Severity::Grey),
            State::Passed | State::CriterionMet | State::Reviewed | State::Released => None,
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
    /// Hash of what it demands, without titles, links and translations.
    pub normative_sha256: String,
    /// Links that changed since a person reviewed them.
    pub suspect: Vec<String>,
    /// Places of `#[implements]`, as `file:line name`.
    pub implemented_at: Vec<String>,
    /// Positions in the list of all tagged tests.
    pub tests: Vec<usize>,
    pub criteria: Vec<Judged>,
}

impl RequirementStatus {
    /// Is everything shown that this workspace can show?
    pub fn is_whole(&self) -> bool {
        match self.state {
            State::CriterionMet | State::Reviewed | State::Released => true,
            State::Passed => self.criteria.is_empty(),
            _ => false,
        }
    }
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
        let tests_state = from_tests(&requirement.id, linked.iter().map(|i| &tests[*i]));
        let state = overall(requirement, tests_state, &criteria);
        findings.extend(gaps(requirement, tests_state, &implemented_at));
        all.push(RequirementStatus {
            requirement: requirement.clone(),
            state,
            tests_state,
            normative_sha256: normative::of_requirement(requirement, regulatory.profile.normative_language),
            suspect: Vec::new(),
            implemented_at,
            tests: linked,
            criteria,
        });
    }
    colour_upwards(&mut all, &mut findings);
    (all, findings)
}

/// The ladder from unlinked to passed, for one id.
pub fn from_tests<'a>(id: &str, tests: impl Iterator<Item = &'a BoundTest>) -> State {
    let tests: Vec<&BoundTest> = tests.collect();
    let ran = |test: &&BoundTest| test.verdict == Some(Verdict::Passed);
    if tests.is_empty() {
        State::Unlinked
    } else if tests.iter().any(|test| test.verdict == Some(Verdict::Failed)) {
        State::Failed
    } else if !tests.iter().any(ran) {
        State::Linked
    } else if !tests.iter().any(|test| test.shows(id)) {
        State::Executed
    } else if tests.iter().all(|test| test.counts_as_passed() && test.exercised.is_some()) {
        State::Passed
    } else {
        State::Exercised
    }
}

/// A failure below shows in everything above.
fn colour_upwards(all: &mut [RequirementStatus], findings: &mut Vec<Finding>) {
    let mut open: Vec<(String, String)> = all
        .iter()
        .filter(|status| status.tests_state == State::Failed)
        .flat_map(|status| {
            status.requirement.parents.iter().map(|parent| (parent.clone(), status.requirement.id.clone()))
        })
        .collect();
    while let Some((id, below)) = open.pop() {
        let Some(status) = all.iter_mut().find(|status| status.requirement.id == id) else { continue };
        let message = format!("{below}, which refines it, failed");
        let finding = Finding::new(Severity::Red, "requirement-failed", &id, message);
        if status.requirement.allocation != Allocation::InScope || findings.contains(&finding) {
            continue;
        }
        findings.push(finding);
        status.state = State::Failed;
        status.tests_state = State::Failed;
        open.extend(status.requirement.parents.iter().map(|parent| (parent.clone(), id.clone())));
    }
}

/// The top of the ladder: every link as a person reviewed it, then the release record of this version.
pub fn review(all: &mut [RequirementStatus], links: &[Link], regulatory: &Regulatory, version: &str) {
    for status in all.iter_mut() {
        let id = status.requirement.id.as_str();
        status.suspect =
            links::of(links, id).filter(|link| link.state == LinkState::Suspect).map(Link::title).collect();
        let whole = status.state == State::CriterionMet
            || (status.state == State::Passed && status.criteria.is_empty())
            || (status.state == State::Manual && regulatory.review_of(id, &status.normative_sha256).is_some());
        let mut ours = links::of(links, id).peekable();
        let reviewed = whole && ours.peek().is_some() && ours.all(|link| link.state == LinkState::Current);
        let mut releases = regulatory.releases.values().filter(|release| release.version == version);
        let released = releases.any(|release| release.requirements.get(id) == Some(&status.normative_sha256));
        match (reviewed, released) {
            (true, true) => status.state = State::Released,
            (true, false) => status.state = State::Reviewed,
            (false, _) => (),
        }
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
        State::Executed => add(
            Severity::Amber,
            "nothing-exercised",
            "none of its tests is known to have called code that implements it",
        ),
        State::Exercised => {
            add(Severity::Amber, "exercised-only", "not all of its tests ran, or not all give evidence")
        }
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
