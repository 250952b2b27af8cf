//! A standard clause by clause: what the workspace shows, where it falls short, and what only people can show.
use crate::binding::BoundTest;
use crate::build::Inputs;
use crate::finding::{Finding, Severity};
use crate::regulatory::{Allocation, Clause, ClauseTable, Content, Effectiveness, Regulatory, SafetyClass, VerifyBy};
use crate::risk::{Classification, Proof, RiskStatus};
use crate::state::{RequirementStatus, State};
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum ClauseState {
    #[serde(rename = "gap")]
    Gap,
    #[serde(rename = "manual - record required")]
    Manual,
    #[serde(rename = "shown")]
    Shown,
    #[serde(rename = "not applicable")]
    NotApplicable,
}

impl ClauseState {
    pub fn words(self) -> &'static str {
        match self {
            ClauseState::Gap => "gap",
            ClauseState::Manual => "manual - record required",
            ClauseState::Shown => "shown",
            ClauseState::NotApplicable => "not applicable",
        }
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct ClauseStatus {
    #[serde(flatten)]
    pub clause: Clause,
    /// Whether the computed safety class is bound by it.
    pub binding: bool,
    /// Whether it comes in only with a class above the one that the plan states.
    pub beyond_stated_class: bool,
    pub state: ClauseState,
    pub detail: String,
}

/// Everything that a check may look at.
pub struct Evidence<'a> {
    pub regulatory: &'a Regulatory,
    pub inputs: &'a Inputs,
    pub requirements: &'a [RequirementStatus],
    pub tests: &'a [BoundTest],
    pub risks: &'a [RiskStatus],
    pub class: &'a Classification,
    pub findings: &'a [Finding],
}

pub fn check(table: &ClauseTable, evidence: &Evidence) -> (Vec<ClauseStatus>, Vec<Finding>) {
    let mut all = Vec::new();
    let mut findings = Vec::new();
    for clause in &table.clauses {
        let binds = |class: SafetyClass| clause.classes.contains(class.letter());
        let binding = binds(evidence.class.computed);
        let item = format!("{} {}", table.standard, clause.id);
        let (state, detail) = match shown(&clause.check, evidence) {
            Some(outcome) => outcome,
            None => {
                let message = format!("the clause table names the check `{}`, which does not exist", clause.check);
                findings.push(Finding::new(Severity::Red, "check-unknown", &item, message));
                (ClauseState::Gap, "unknown check".to_owned())
            }
        };
        if binding && state == ClauseState::Gap {
            findings.push(Finding::new(Severity::Amber, "clause-gap", &item, format!("{}: {detail}", clause.title)));
        }
        if binding && state == ClauseState::Manual {
            findings.push(Finding::new(
                Severity::Grey,
                "manual",
                &item,
                format!("{}: manual - record required", clause.title),
            ));
        }
        let beyond_stated_class = binding && !binds(evidence.class.stated);
        all.push(ClauseStatus { clause: clause.clone(), binding, beyond_stated_class, state, detail });
    }
    (all, findings)
}

type Outcome = (ClauseState, String);

fn shown(check: &str, evidence: &Evidence) -> Option<Outcome> {
    let Evidence { regulatory, inputs, requirements, tests, risks, class, findings } = evidence;
    let plan = |name: &str| match regulatory.plans.get(name) {
        Some(text) if text.contains("not reviewed") => {
            gap(format!("{name} is a draft: manual - record of its review required"))
        }
        Some(_) => (ClauseState::Manual, format!("{name} is present; manual - record of its review required")),
        None => gap(format!("{name} is missing")),
    };
    let without = |rules: &[&str], shown: String| {
        let open = findings.iter().filter(|finding| rules.contains(&finding.rule)).count();
        if open == 0 {
            (ClauseState::Shown, shown)
        } else {
            gap(format!("{open} open findings ({})", rules.join(", ")))
        }
    };
    let ran = tests.iter().filter(|test| test.verdict.is_some()).count();
    let controls = risks.iter().flat_map(|risk| &risk.controls);
    Some(match check {
        "manual" => (ClauseState::Manual, "manual - record required".to_owned()),
        "not-applicable" => (ClauseState::NotApplicable, "not applicable".to_owned()),
        "development-plan" => plan("development-plan.md"),
        "risk-plan" => plan("risk-management-plan.md"),
        "risk-file" => without(
            &["residual-risk", "residual-risk-planned", "information-only"],
            format!("{} risks, levels computed", risks.len()),
        ),
        "safety-class" => {
            let detail = format!("class {} computed, class {} stated", class.computed.letter(), class.stated.letter());
            if class.computed <= class.stated { (ClauseState::Shown, detail) } else { gap(detail) }
        }
        "requirements" => (
            ClauseState::Shown,
            format!(
                "{} requirements with unique ids; derivation from system requirements is for review",
                requirements.len()
            ),
        ),
        "requirement-content" => {
            let carried = |content: Content| requirements.iter().any(|r| r.requirement.content.contains(&content));
            let open: Vec<&str> = Content::ALL
                .iter()
                .filter(|(content, name)| !carried(*content) && !regulatory.profile.content_reasons.contains_key(*name))
                .map(|(_, name)| *name)
                .collect();
            if open.is_empty() {
                (ClauseState::Shown, "every kind a to l is present or reasoned out".to_owned())
            } else {
                gap(format!("neither present nor reasoned out: {}", open.join(", ")))
            }
        }
        "controls-in-requirements" => {
            let inside = controls.filter(|c| !c.control.external);
            let planned = inside.clone().filter(|c| c.control.planned).count();
            (
                ClauseState::Shown,
                format!(
                    "each of {} controls in software names its requirement ({planned} only planned)",
                    inside.count()
                ),
            )
        }
        "architecture" => without(
            &["item-undeclared", "edge-undeclared", "item-gone"],
            format!("{} items declared, uses agree with the code", regulatory.items.len()),
        ),
        "soup" => without(
            &["soup-missing", "soup-surplus", "licence-missing"],
            format!("{} direct components described; the whole closure is in soup.csv", regulatory.soup.len()),
        ),
        "implemented" => {
            let in_scope = requirements.iter().filter(|r| {
                r.requirement.allocation == Allocation::InScope && r.requirement.verify_by.contains(&VerifyBy::Test)
            });
            let open: Vec<&str> =
                in_scope.filter(|r| r.implemented_at.is_empty()).map(|r| r.requirement.id.as_str()).collect();
            if open.is_empty() {
                (ClauseState::Shown, "every requirement is tagged in the code".to_owned())
            } else {
                gap(format!("no code is tagged with {}", open.join(", ")))
            }
        }
        "tests-ran" => match (ran, tests.len()) {
            (_, 0) => gap("no tagged tests".to_owned()),
            (ran, all) if ran == all => without(
                &["test-failed", "test-flaky", "test-skipped", "test-ignored"],
                format!("all {all} tagged tests ran and passed"),
            ),
            (ran, all) => gap(format!("{ran} of {all} tagged tests ran")),
        },
        "integration-tests" => {
            let integration: Vec<&BoundTest> =
                tests.iter().filter(|t| t.tag.binary.contains("::") && !t.tag.binary.contains("::bin/")).collect();
            let passed = integration.iter().filter(|t| t.counts_as_passed()).count();
            let detail = format!("{passed} of {} tagged integration tests passed", integration.len());
            if passed > 0 && passed == integration.len() { (ClauseState::Shown, detail) } else { gap(detail) }
        }
        "test-records" => match (&inputs.run.cases, &inputs.tester) {
            (None, _) => gap("no report of a test run".to_owned()),
            (Some(_), None) => gap("report and environment are in run/; the tester is not named (--tester)".to_owned()),
            (Some(_), Some(_)) => (ClauseState::Shown, "report, environment and tester are in run/".to_owned()),
        },
        "requirements-tested" => {
            let testable = requirements.iter().filter(|r| {
                r.requirement.allocation == Allocation::InScope && r.requirement.verify_by.contains(&VerifyBy::Test)
            });
            let open: Vec<&str> = testable.filter(|r| r.tests.is_empty()).map(|r| r.requirement.id.as_str()).collect();
            if open.is_empty() {
                (ClauseState::Shown, "every testable requirement has tests".to_owned())
            } else {
                gap(format!("no test for {}", open.join(", ")))
            }
        }
        "requirements-passed" => {
            let open: Vec<&str> =
                requirements.iter().filter(|r| !fulfilled(r)).map(|r| r.requirement.id.as_str()).collect();
            if open.is_empty() {
                (ClauseState::Shown, "every requirement is verified".to_owned())
            } else {
                gap(format!("not verified: {}", open.join(", ")))
            }
        }
        "configuration" => match (inputs.commit.id.is_empty(), inputs.commit.dirty.len()) {
            (true, _) => gap("the sources are under no version control".to_owned()),
            (false, 0) => (
                ClauseState::Shown,
                format!("commit {:.12}, lock file and digests are in the package", inputs.commit.id),
            ),
            (false, changed) => gap(format!("{changed} files differ from commit {:.12}", inputs.commit.id)),
        },
        "risk-causes" => {
            let open: Vec<&str> = risks
                .iter()
                .filter(|r| r.risk.causes.is_empty() || r.risk.sequence.is_empty())
                .map(|r| r.risk.id.as_str())
                .collect();
            if open.is_empty() {
                (
                    ClauseState::Shown,
                    "each risk names items, causes and sequence; completeness is for review".to_owned(),
                )
            } else {
                gap(format!("no cause or sequence: {}", open.join(", ")))
            }
        }
        "risk-controls" => {
            let open: Vec<&str> = risks.iter().filter(|r| r.controls.is_empty()).map(|r| r.risk.id.as_str()).collect();
            if open.is_empty() {
                (ClauseState::Shown, "each risk has controls by option".to_owned())
            } else {
                gap(format!("no control: {}", open.join(", ")))
            }
        }
        "controls-verified" => {
            let inside: Vec<_> = controls.filter(|c| !c.control.external && !c.control.planned).collect();
            let counts = inside.iter().filter(|c| c.counts).count();
            let detail = format!("{counts} of {} controls in software have both proofs", inside.len());
            if counts == inside.len() { (ClauseState::Shown, detail) } else { gap(detail) }
        }
        "risk-trace" => {
            let inside = controls.filter(|c| !c.control.external && !c.control.planned);
            let open: Vec<&str> = inside
                .filter(|c| {
                    c.implementation == Proof::NotShown && !matches!(c.control.effectiveness, Effectiveness::Record(_))
                })
                .map(|c| c.control.id.as_str())
                .collect();
            if open.is_empty() {
                (ClauseState::Shown, "situation, item, cause, control and verification are linked".to_owned())
            } else {
                gap(format!("verification not shown: {}", open.join(", ")))
            }
        }
        _ => return None,
    })
}

fn fulfilled(status: &RequirementStatus) -> bool {
    match status.state {
        State::CriterionMet | State::NotApplicable => true,
        State::Passed => status.criteria.is_empty(),
        _ => false,
    }
}

fn gap(detail: String) -> Outcome {
    (ClauseState::Gap, detail)
}
