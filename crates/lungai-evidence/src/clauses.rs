//! A standard clause by clause: what the workspace shows, where it falls short, and what only people can show.
mod grounds;

use crate::binding::BoundTest;
use crate::build::Inputs;
use crate::finding::{Finding, Severity};
use crate::governance;
use crate::regulatory::{Allocation, Clause, ClauseTable, Content, Effectiveness, Regulatory, SafetyClass, VerifyBy};
use crate::results::Outcome as Judgement;
use crate::risk::{Classification, Proof, RiskStatus};
use crate::state::{RequirementStatus, State};
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum ClauseState {
    #[serde(rename = "gap")]
    Gap,
    #[serde(rename = "manual - record required")]
    Manual,
    #[serde(rename = "record of a person")]
    Recorded,
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
            ClauseState::Recorded => "record of a person",
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
        let (state, detail) = match evidence.regulatory.review_of(&table.item(clause), "-") {
            Some(review) if state == ClauseState::Manual => {
                (ClauseState::Recorded, format!("record {} of {}, {}", review.id, review.date, review.reviewer))
            }
            _ => (state, detail),
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

/// Between checks that are all needed; the weakest decides.
const ALL_OF: &str = " + ";

fn shown(check: &str, evidence: &Evidence) -> Option<Outcome> {
    let Evidence { regulatory, inputs, requirements, tests, risks, class, findings } = evidence;
    if check.contains(ALL_OF) {
        let parts = check.split(ALL_OF).map(|part| shown(part, evidence)).collect::<Option<Vec<_>>>()?;
        let worst = parts.iter().map(|(state, _)| *state).min()?;
        let details: Vec<String> = parts.into_iter().map(|(_, detail)| detail).collect();
        return Some((worst, details.join("; ")));
    }
    if let Some((kind, named)) = check.split_once(':').filter(|(kind, _)| *kind != "document") {
        return grounds::pointed_at(kind, named, evidence);
    }
    if let Some(name) = check.strip_prefix("document:") {
        return Some(document(name, regulatory));
    }
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
            &["soup-missing", "soup-surplus", "licence-missing", "bundled-missing", "bundled-stale"],
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
            _ if inputs.commit.unknown => gap("git cannot say whether the files are as committed".to_owned()),
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
                    c.implementation == Proof::Broken
                        || c.effectiveness == Proof::Broken
                        || (c.implementation == Proof::NotShown
                            && !matches!(c.control.effectiveness, Effectiveness::Record(_)))
                })
                .map(|c| c.control.id.as_str())
                .collect();
            if open.is_empty() {
                (ClauseState::Shown, "situation, item, cause, control and verification are linked".to_owned())
            } else {
                gap(format!("verification not shown, or the control is broken: {}", open.join(", ")))
            }
        }
        _ => return records(check, evidence),
    })
}

/// What the records of people show.
fn records(check: &str, evidence: &Evidence) -> Option<Outcome> {
    let Evidence { regulatory, inputs, requirements, risks, findings, .. } = evidence;
    let open = |rules: &[&str]| {
        let found = findings.iter().filter(|f| rules.contains(&f.rule) && f.severity != Severity::Grey);
        found.map(|f| f.item.as_str()).collect::<Vec<_>>().join(", ")
    };
    let shown_unless = |open: String, shown: String| {
        if open.is_empty() { (ClauseState::Shown, shown) } else { gap(format!("open: {open}")) }
    };
    let manual = |detail: String| (ClauseState::Manual, format!("{detail}; manual - record required"));
    Some(match check {
        "intended-use" => (ClauseState::Shown, "stated in the profile, in both languages".to_owned()),
        "needs" if regulatory.needs.is_empty() => gap("no needs are written down".to_owned()),
        "needs" => shown_unless(
            open(&["need-unmet", "no-parent"]),
            format!("{} needs, each with requirements", regulatory.needs.len()),
        ),
        "threats" if regulatory.threats.is_empty() => gap("no threats are written down".to_owned()),
        "threats" => {
            let named = |id: &String| requirements.iter().find(|r| r.requirement.id == *id).is_some_and(fulfilled);
            let weak: Vec<&str> = regulatory
                .threats
                .values()
                .filter(|t| !t.requirements.iter().all(named))
                .map(|t| t.id.as_str())
                .collect();
            shown_unless(
                weak.join(", "),
                format!("{} threats, each countered by verified requirements", regulatory.threats.len()),
            )
        }
        "problems" if regulatory.problems.is_empty() => manual("no problem is on record".to_owned()),
        "problems" => shown_unless(
            open(&["problem-not-evaluated", "problem-not-resolved", "problem-critical"]),
            format!("{} problems on record, each evaluated", regulatory.problems.len()),
        ),
        "changes" if regulatory.changes.is_empty() => manual("no change request is on record".to_owned()),
        "changes" => shown_unless(
            open(&["change-not-approved", "decision-void"]),
            format!("{} changes on record, each approved", regulatory.changes.len()),
        ),
        "release" => match regulatory.releases.last_key_value() {
            None => gap("no release is on record".to_owned()),
            Some((id, release)) if !regulatory.missing_approvals(release).is_empty() => {
                gap(format!("{id} is not approved by {}", regulatory.missing_approvals(release).join(", ")))
            }
            Some((id, release)) => {
                (ClauseState::Shown, format!("{id}: version {} of {}", release.version, release.date))
            }
        },
        "roles" => {
            let vacant: Vec<&str> =
                regulatory.profile.roles.iter().filter(|r| r.holder.is_none()).map(|r| r.id.as_str()).collect();
            if regulatory.profile.roles.is_empty() {
                gap("no roles are defined".to_owned())
            } else {
                shown_unless(vacant.join(", "), "every role is held".to_owned())
            }
        }
        "benefit-risk" => {
            let undecided = regulatory
                .benefit_risk
                .iter()
                .filter(|b| b.decided.as_ref().is_none_or(|d| regulatory.why_not_held(&d.role, &d.name).is_some()))
                .map(|b| b.id.as_str())
                .collect::<Vec<_>>()
                .join(", ");
            let uncarried: Vec<&str> = risks
                .iter()
                .filter(|r| !r.residual_as_evidenced.acceptable && r.risk.benefit_risk.is_none())
                .map(|r| r.risk.id.as_str())
                .collect();
            match (uncarried.is_empty(), undecided.is_empty()) {
                (false, _) => gap(format!("unacceptable without an analysis: {}", uncarried.join(", "))),
                (true, false) => gap(format!("written, decided by nobody: {undecided}")),
                (true, true) => (ClauseState::Shown, "no unacceptable risk is without a decided analysis".to_owned()),
            }
        }
        "performance" => {
            let judged = || requirements.iter().flat_map(|r| &r.criteria);
            let open: Vec<&str> =
                judged().filter(|c| c.outcome != Judgement::Met).map(|c| c.criterion.id.as_str()).collect();
            if judged().next().is_none() {
                gap("no criterion is defined".to_owned())
            } else {
                shown_unless(open.join(", "), "every criterion is met on data that are not synthetic".to_owned())
            }
        }
        "model" => match inputs.models.as_slice() {
            [] => gap("no frozen model was given".to_owned()),
            models if models.iter().all(|m| m.card.is_some()) => {
                (ClauseState::Shown, format!("{} frozen models with card and hashes", models.len()))
            }
            _ => gap("a frozen model has no card".to_owned()),
        },
        "data" => match inputs
            .validation
            .iter()
            .filter(|run| run.results.manifest_sha256.is_some() && !run.results.synthetic)
            .count()
        {
            0 => gap("no validation run on real data names its test set".to_owned()),
            n => manual(format!("{n} runs name their test set by hash; its collection and annotation")),
        },
        "datasheet" => grounds::data_set(inputs),
        "change-control" => match &regulatory.change_control {
            None => gap("no predetermined change control plan".to_owned()),
            Some(plan) if plan.authorised.is_none() => {
                gap(format!("{} modifications described, authorised by nobody", plan.modifications.len()))
            }
            Some(plan) => {
                (ClauseState::Shown, format!("{} modifications described and authorised", plan.modifications.len()))
            }
        },
        "soup-anomalies" => shown_unless(
            open(&["anomalies-unknown", "anomalies-stale", "advisory-open"]),
            "known anomalies of every direct component are evaluated".to_owned(),
        ),
        "advisories" => shown_unless(
            open(&["advisories-unknown", "advisories-stale", "advisory-open"]),
            "every advisory on a shipped component has a verdict".to_owned(),
        ),
        "soup-support" => {
            let open: Vec<&str> =
                regulatory.soup.iter().filter(|s| s.support.is_none()).map(|s| s.name.as_str()).collect();
            shown_unless(
                open.join(", "),
                "supplier and level of support of every direct component are stated".to_owned(),
            )
        }
        "sbom" => shown_unless(
            open(&["soup-missing", "licence-missing", "bundled-missing", "bundled-stale"]),
            "CycloneDX and SPDX of the shipped closure are in the package".to_owned(),
        ),
        _ => return None,
    })
}

fn document(name: &str, regulatory: &Regulatory) -> Outcome {
    let Some(status) = governance::documents(regulatory).into_iter().find(|d| d.name == name) else {
        return gap(format!("plans/{name}.md is missing"));
    };
    match &status.review {
        _ if status.stale => gap(format!("plans/{name}.md has changed since its review")),
        None => (ClauseState::Manual, format!("plans/{name}.md is present; manual - record of its review required")),
        Some(_) if !status.approvals_open.is_empty() => {
            gap(format!("plans/{name}.md is reviewed, not approved by {}", status.approvals_open.join(", ")))
        }
        Some(review) => (ClauseState::Shown, format!("plans/{name}.md, reviewed in {review}")),
    }
}

fn fulfilled(status: &RequirementStatus) -> bool {
    status.whole || status.state == State::NotApplicable
}

fn gap(detail: String) -> Outcome {
    (ClauseState::Gap, detail)
}
