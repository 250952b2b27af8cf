//! How far the evidence for each requirement reaches. Never further than the weakest part of it.
use crate::binding::BoundTest;
use crate::finding::{Finding, Severity};
use crate::junit::Verdict;
use crate::links::{self, Link, LinkState};
use crate::regulatory::{Allocation, Problem, ProblemSeverity, Regulatory, Release, Requirement, VerifyBy, normative};
use crate::results::{Judged, Outcome};
use crate::scan::Tag;
use lungai_trace::implements;
use serde::Serialize;
use std::collections::BTreeMap;

/// As far as the evidence reaches. Worst first, what only others can show last.
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
    #[serde(rename = "open problem")]
    OpenProblem,
    #[serde(rename = "passed")]
    Passed,
    #[serde(rename = "criterion met (synthetic, exploratory)")]
    CriterionMetSyntheticExploratory,
    #[serde(rename = "criterion met (synthetic)")]
    CriterionMetSynthetic,
    #[serde(rename = "criterion met (exploratory)")]
    CriterionMetExploratory,
    #[serde(rename = "record of a person")]
    Recorded,
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
    pub const ALL: [State; 19] = [
        State::Failed,
        State::CriterionNotMet,
        State::CriterionNotMetSynthetic,
        State::Unlinked,
        State::Linked,
        State::Executed,
        State::Exercised,
        State::OpenProblem,
        State::Passed,
        State::CriterionMetSyntheticExploratory,
        State::CriterionMetSynthetic,
        State::CriterionMetExploratory,
        State::Recorded,
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
            State::OpenProblem => "open problem",
            State::Passed => "passed",
            State::CriterionMetSyntheticExploratory => "criterion met (synthetic, exploratory)",
            State::CriterionMetSynthetic => "criterion met (synthetic)",
            State::CriterionMetExploratory => "criterion met (exploratory)",
            State::Recorded => "record of a person",
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
            State::Unlinked => "no test is tagged with it, or, where it takes none, no result decides its criteria",
            State::Linked => "tests are tagged with it, none has run",
            State::Executed => "tests ran, but none is known to have called code that implements it",
            State::Exercised => "a test called code that implements it, but not all of its tests count",
            State::OpenProblem => "its tests pass, and a major or critical problem that names it is open",
            State::Passed => {
                "all its tests ran, passed, agree with their records and exercised it; criteria or a review may still be missing"
            }
            State::CriterionMetSyntheticExploratory => {
                "criteria are met on synthetic data, by a protocol that was not locked before: no clinical evidence, no proof"
            }
            State::CriterionMetSynthetic => {
                "tests passed and criteria are met, on synthetic data only: no clinical evidence"
            }
            State::CriterionMetExploratory => {
                "tests passed and criteria are met in a run whose protocol was not locked before: no proof"
            }
            State::Recorded => "people alone can show it, and a record of their review is there",
            State::CriterionMet => "tests passed and every criterion is met by its confidence bound in a locked run",
            State::Reviewed => "all that can be shown is shown, and a person has reviewed every link as it is today",
            State::Released => {
                "reviewed, and part of the release record of this version with this text and every approval that a release needs"
            }
            State::Manual => "only a review by people can show it",
            State::NotEvidencedHere => "only another party or an operated service can show it",
            State::NotApplicable => "does not apply to this product",
        }
    }

    /// Colour of the state: what a reader must look at first.
    pub fn severity(self) -> Option<Severity> {
        match self {
            State::Failed | State::CriterionNotMet | State::CriterionNotMetSynthetic => Some(Severity::Red),
            State::Unlinked
            | State::Linked
            | State::Executed
            | State::Exercised
            | State::OpenProblem
            | State::CriterionMetSyntheticExploratory
            | State::CriterionMetSynthetic
            | State::CriterionMetExploratory => Some(Severity::Amber),
            State::Manual | State::NotEvidencedHere | State::NotApplicable => Some(Severity::Grey),
            State::Passed | State::Recorded | State::CriterionMet | State::Reviewed | State::Released => None,
        }
    }

    /// Height on the ladder for a requirement above: what people or operation have yet to show is less than passed tests.
    fn height(self) -> usize {
        match self {
            State::NotEvidencedHere | State::Manual => State::OpenProblem as usize,
            other => other as usize,
        }
    }

    fn lower(self, other: State) -> State {
        if other.height() < self.height() { other } else { self }
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
    /// Every way of verification that it asks for has succeeded, here and in every requirement below it.
    pub whole: bool,
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
    let mut tests_of: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, test) in tests.iter().enumerate() {
        test.tag.ids.iter().for_each(|id| tests_of.entry(id).or_default().push(i));
    }
    let mut code_of: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for tag in tags.iter().filter(|tag| !tag.is_test_tag) {
        let place = format!("{}:{} {}", tag.file, tag.line, tag.name);
        tag.ids.iter().for_each(|id| code_of.entry(id).or_default().push(place.clone()));
    }
    for (id, requirement) in &regulatory.requirements {
        let mut linked = tests_of.remove(id.as_str()).unwrap_or_default();
        linked.dedup();
        let implemented_at = code_of.remove(id.as_str()).unwrap_or_default();
        let criteria: Vec<Judged> = requirement.criteria.iter().filter_map(|c| judged.get(&c.id).cloned()).collect();
        let tests_state = from_tests(id, linked.iter().map(|i| &tests[*i]));
        let normative_sha256 = normative::of_requirement(requirement, regulatory.profile.normative_language);
        let recorded = regulatory.review_of(id, &normative_sha256).is_some();
        let mut status = RequirementStatus {
            requirement: requirement.clone(),
            state: own(requirement, tests_state, &criteria, recorded),
            tests_state,
            whole: whole(requirement, tests_state, &criteria, recorded),
            normative_sha256,
            suspect: Vec::new(),
            implemented_at,
            tests: linked,
            criteria,
        };
        findings.extend(gaps(requirement, tests_state, &status.implemented_at, recorded));
        findings.extend(hold_down(&mut status, regulatory));
        all.push(status);
    }
    hold_down_parents(&mut all, &mut findings);
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

/// Of a requirement for itself, requirements below it and problems not yet considered.
fn own(requirement: &Requirement, tests: State, criteria: &[Judged], recorded: bool) -> State {
    // What failed has failed, whoever it was allocated to.
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
    match requirement.allocation {
        Allocation::External => return State::NotEvidencedHere,
        Allocation::NotApplicable => return State::NotApplicable,
        Allocation::InScope => (),
    }
    let by = |way| requirement.verify_by.contains(&way);
    let tested = by(VerifyBy::Test) || tests != State::Unlinked;
    if tested && tests != State::Passed {
        return tests;
    }
    if !tested && by(VerifyBy::Review) && !recorded {
        return State::Manual;
    }
    match criteria.iter().map(|judged| judged.outcome).min() {
        Some(Outcome::Met) => State::CriterionMet,
        Some(Outcome::MetExploratory) => State::CriterionMetExploratory,
        Some(Outcome::MetSynthetic) => State::CriterionMetSynthetic,
        Some(Outcome::MetSyntheticExploratory) => State::CriterionMetSyntheticExploratory,
        _ if tested => State::Passed,
        None if by(VerifyBy::Review) => State::Recorded,
        _ if by(VerifyBy::Operation) => State::NotEvidencedHere,
        _ => State::Unlinked,
    }
}

/// Has every way of verification that the requirement asks for succeeded?
fn whole(requirement: &Requirement, tests: State, criteria: &[Judged], recorded: bool) -> bool {
    let met = criteria.iter().all(|judged| judged.outcome == Outcome::Met);
    let done = |way: &VerifyBy| match way {
        VerifyBy::Test => tests == State::Passed,
        VerifyBy::Validation | VerifyBy::Operation => !criteria.is_empty() && met,
        VerifyBy::Review => recorded,
    };
    let ways = &requirement.verify_by;
    requirement.allocation == Allocation::InScope
        && !ways.is_empty()
        && ways.iter().all(done)
        && met
        && [State::Passed, State::Unlinked].contains(&tests)
}

/// A major or critical problem that is open keeps what it names from counting as shown.
fn hold_down(status: &mut RequirementStatus, regulatory: &Regulatory) -> Vec<Finding> {
    let id = &status.requirement.id;
    let names_it =
        |p: &&Problem| p.severity != ProblemSeverity::Minor && p.requirements.contains(id) && p.is_open(regulatory);
    let problems: Vec<&Problem> = regulatory.problems.values().filter(names_it).collect();
    if problems.is_empty() {
        return Vec::new();
    }
    status.state = status.state.lower(State::OpenProblem);
    status.tests_state = status.tests_state.lower(State::OpenProblem);
    status.whole = false;
    let say = |p: &Problem| {
        let critical = p.severity == ProblemSeverity::Critical;
        let severity = if critical { Severity::Red } else { Severity::Amber };
        Finding::new(severity, "requirement-with-problem", id, format!("{} is open: {}", p.id, p.title.en))
    };
    problems.into_iter().map(say).collect()
}

/// Positions of the requirements in scope below each one.
fn below(all: &[RequirementStatus]) -> Vec<Vec<usize>> {
    let place: BTreeMap<&str, usize> = all.iter().enumerate().map(|(i, s)| (s.requirement.id.as_str(), i)).collect();
    let mut below = vec![Vec::new(); all.len()];
    for (i, status) in all.iter().enumerate().filter(|(_, s)| s.requirement.allocation == Allocation::InScope) {
        for parent in status.requirement.parents.iter().filter_map(|parent| place.get(parent.as_str())) {
            below[*parent].push(i);
        }
    }
    below
}

/// Every position after all those below it. Requirements form no circle: reading them refuses one.
fn from_below(below: &[Vec<usize>]) -> Vec<usize> {
    let mut above = vec![Vec::new(); below.len()];
    let mut waiting: Vec<usize> = below.iter().map(Vec::len).collect();
    for (i, children) in below.iter().enumerate() {
        children.iter().for_each(|child| above[*child].push(i));
    }
    let mut order: Vec<usize> = (0..below.len()).filter(|i| waiting[*i] == 0).collect();
    let mut next = 0;
    while let Some(i) = order.get(next).copied() {
        next += 1;
        for parent in &above[i] {
            waiting[*parent] -= 1;
            if waiting[*parent] == 0 {
                order.push(*parent);
            }
        }
    }
    order
}

/// A requirement stands no higher than the lowest one in scope below it.
fn hold_down_parents(all: &mut [RequirementStatus], findings: &mut Vec<Finding>) {
    let below = below(all);
    for i in from_below(&below) {
        let id = all[i].requirement.id.clone();
        for child in &below[i] {
            let child = Below::of(&all[*child]);
            if child.tests_state == State::Failed && all[i].tests_state != State::Failed {
                let message = format!("{}, which refines it, failed", child.id);
                findings.push(Finding::new(Severity::Red, "requirement-failed", &id, message));
            }
            let parent = &mut all[i];
            // A child that takes no tests takes no test away from its parent.
            if child.tested {
                parent.tests_state = parent.tests_state.lower(child.tests_state);
            }
            if child.whole || (parent.requirement.allocation != Allocation::InScope && child.state != State::Failed) {
                continue;
            }
            if parent.state.lower(child.state) != parent.state && child.state != State::Failed {
                let message = format!("stands no higher than {}, which refines it: {}", child.id, child.state.words());
                findings.push(Finding::new(Severity::Amber, "held-down", &id, message));
            }
            parent.state = parent.state.lower(child.state);
            parent.whole = false;
        }
    }
}

/// What of a requirement counts for the one above it.
struct Below {
    id: String,
    state: State,
    tests_state: State,
    whole: bool,
    tested: bool,
}

impl Below {
    fn of(status: &RequirementStatus) -> Self {
        Self {
            id: status.requirement.id.clone(),
            state: status.state,
            tests_state: status.tests_state,
            whole: status.whole,
            tested: status.requirement.verify_by.contains(&VerifyBy::Test) || !status.tests.is_empty(),
        }
    }
}

/// The top of the ladder: every link as a person reviewed it, then the release record of this version. Neither is reached before
/// every requirement in scope below has reached it.
pub fn review(all: &mut [RequirementStatus], links: &[Link], regulatory: &Regulatory, version: &str) {
    let links = links::by_claim(links);
    let releases: Vec<&Release> = regulatory
        .releases
        .values()
        .filter(|release| release.version == version && regulatory.missing_approvals(release).is_empty())
        .collect();
    let below = below(all);
    for i in from_below(&below) {
        let status = &all[i];
        let id = status.requirement.id.as_str();
        let ours = links.get(id).map(Vec::as_slice).unwrap_or_default();
        let suspect = ours.iter().filter(|link| link.state == LinkState::Suspect).map(|link| link.title()).collect();
        let reached = |state: State| below[i].iter().all(|child| all[*child].state >= state && all[*child].whole);
        let reviewed = status.whole && !ours.is_empty() && ours.iter().all(|link| link.state == LinkState::Current);
        let released = releases.iter().any(|release| release.requirements.get(id) == Some(&status.normative_sha256));
        let state = match (reviewed && reached(State::Reviewed), released && reached(State::Released)) {
            (true, true) => State::Released,
            (true, false) => State::Reviewed,
            (false, _) => status.state,
        };
        all[i].suspect = suspect;
        all[i].state = state;
    }
}

fn gaps(requirement: &Requirement, tests: State, implemented_at: &[String], recorded: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |severity, rule, message: &str| {
        findings.push(Finding::new(severity, rule, &requirement.id, message.to_owned()))
    };
    let by = |way| requirement.verify_by.contains(&way);
    if tests == State::Failed {
        add(Severity::Red, "requirement-failed", "a test that should prove it failed");
    }
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
        _ => (),
    }
    if implemented_at.is_empty() && by(VerifyBy::Test) {
        add(Severity::Amber, "not-implemented", "no function is tagged as implementing it");
    }
    if by(VerifyBy::Review) && !recorded {
        add(Severity::Grey, "manual", "manual - record required: a review by people");
    }
    if by(VerifyBy::Operation) {
        add(Severity::Grey, "not-evidenced-here", "not evidenced here: a figure of an operated service");
    }
    findings
}
