//! Levels of risk and the software safety class, computed from the matrix and from what is proven.
//!
//! A control earns its credit only when it is shown to be there (ISO 14971 7.2, implementation) and shown to work (7.2,
//! effectiveness): two proofs. Tests show an effect only if they fail when the control is taken away ([`mutation`]). So every risk has three levels: initial, residual as planned (if every proof were there) and residual as
//! evidenced. Only the last is a fact.
use crate::binding::BoundTest;
use crate::finding::{Finding, Severity};
use crate::junit::Verdict;
use crate::mutation::{self, MutantStatus};
use crate::regulatory::{
    Allocation, BenefitRisk, Control, ControlOption, Effectiveness, Level, Matrix, Regulatory, Risk, SafetyClass,
    normative,
};
use crate::results::{Judged, Outcome};
use crate::state::{RequirementStatus, State, from_tests};
use lungai_trace::implements;
use serde::Serialize;
use std::collections::BTreeMap;

/// What is shown about one of the two proofs of a control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Proof {
    #[serde(rename = "broken")]
    Broken,
    #[serde(rename = "not shown")]
    NotShown,
    #[serde(rename = "synthetic only")]
    SyntheticOnly,
    #[serde(rename = "exploratory only")]
    ExploratoryOnly,
    #[serde(rename = "manual - record required")]
    RecordRequired,
    #[serde(rename = "planned")]
    Planned,
    #[serde(rename = "shown")]
    Shown,
}

impl Proof {
    pub fn words(self) -> &'static str {
        match self {
            Proof::Broken => "broken",
            Proof::NotShown => "not shown",
            Proof::SyntheticOnly => "synthetic only",
            Proof::ExploratoryOnly => "exploratory only",
            Proof::RecordRequired => "manual - record required",
            Proof::Planned => "planned",
            Proof::Shown => "shown",
        }
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct ControlStatus {
    pub control: Control,
    pub implementation: Proof,
    pub effectiveness: Proof,
    /// Both proofs are there: its reduction counts.
    pub counts: bool,
}

/// Probabilities and the level that the matrix gives them.
#[derive(Debug, Clone, Copy, Serialize)]
#[allow(non_snake_case)]
pub struct Rated {
    pub S: u8,
    pub P1: u8,
    pub P2: u8,
    /// Probability of harm, combined.
    pub P: u8,
    pub level: Level,
    pub acceptable: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct RiskStatus {
    pub risk: Risk,
    pub initial: Rated,
    pub residual_as_planned: Rated,
    pub residual_as_evidenced: Rated,
    pub controls: Vec<ControlStatus>,
    /// Requirement of a control whose test failed.
    pub broken: bool,
    /// Class that this risk asks for; none where its harm is no injury.
    pub safety_class: Option<ClassOfRisk>,
}

/// IEC 62304 4.3: the software is taken to fail (P1 certain), and only controls outside it count.
#[derive(Debug, Clone, Serialize)]
pub struct ClassOfRisk {
    pub as_evidenced: SafetyClass,
    pub as_planned: SafetyClass,
    pub with_external_as_evidenced: Rated,
    pub with_external_as_planned: Rated,
}

#[implements("RR-001", "SW-1104")]
pub fn risks(
    regulatory: &Regulatory,
    requirements: &[RequirementStatus],
    tests: &[BoundTest],
    judged: &BTreeMap<String, Judged>,
    mutants: &[MutantStatus],
) -> (Vec<RiskStatus>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut all = Vec::new();
    for risk in regulatory.risks.values() {
        let controls: Vec<ControlStatus> = risk
            .controls
            .iter()
            .map(|control| status(regulatory, control, risk, requirements, tests, judged, mutants))
            .collect();
        let rate = |counts: &dyn Fn(&ControlStatus) -> bool, p1: u8| {
            reduced(&regulatory.matrix, risk, p1, controls.iter().filter(|c| counts(c)))
        };
        let failed = failed_below(risk, requirements, tests);
        let one = RiskStatus {
            initial: rate(&|_| false, risk.initial.P1),
            residual_as_planned: rate(&|_| true, risk.initial.P1),
            residual_as_evidenced: rate(&|c| c.counts, risk.initial.P1),
            broken: controls.iter().any(|c| c.implementation == Proof::Broken || c.effectiveness == Proof::Broken)
                || !failed.is_empty(),
            safety_class: risk.injury.then(|| {
                let evidenced = rate(&|c| c.counts && c.control.external, CERTAIN);
                let planned = rate(&|c| c.control.external, CERTAIN);
                ClassOfRisk {
                    as_evidenced: class(&regulatory.matrix, evidenced),
                    as_planned: class(&regulatory.matrix, planned),
                    with_external_as_evidenced: evidenced,
                    with_external_as_planned: planned,
                }
            }),
            risk: risk.clone(),
            controls,
        };
        findings.extend(gaps(&one, carried(regulatory, risk)));
        if !failed.is_empty() {
            let message = format!("what should control it failed: {}", failed.join(", "));
            findings.push(Finding::new(Severity::Red, "risk-control-failed", &risk.id, message));
        }
        all.push(one);
    }
    (all, findings)
}

/// Requirements that control the risk, and tests tagged with it, that failed.
fn failed_below(risk: &Risk, requirements: &[RequirementStatus], tests: &[BoundTest]) -> Vec<String> {
    let ours = |r: &&RequirementStatus| r.state == State::Failed && r.requirement.controls_for.contains(&risk.id);
    let failed = |t: &&BoundTest| t.verdict == Some(Verdict::Failed) && t.tag.ids.contains(&risk.id);
    let requirements = requirements.iter().filter(ours).map(|r| r.requirement.id.clone());
    requirements.chain(tests.iter().filter(failed).map(BoundTest::title)).collect()
}

/// P1 of a software failure, IEC 62304 4.3 a.
const CERTAIN: u8 = 5;

fn status(
    regulatory: &Regulatory,
    control: &Control,
    risk: &Risk,
    requirements: &[RequirementStatus],
    tests: &[BoundTest],
    judged: &BTreeMap<String, Judged>,
    mutants: &[MutantStatus],
) -> ControlStatus {
    let requirement = control.requirement.as_ref().and_then(|id| requirements.iter().find(|r| r.requirement.id == *id));
    // What lies outside the workspace is shown by the accepted review of a person that names the control as it reads today.
    let hash = normative::hash(control, regulatory.profile.normative_language);
    let by_record = || match regulatory.review_of(&control.id, &hash) {
        Some(_) => Proof::Shown,
        None => Proof::RecordRequired,
    };
    let implementation = match requirement {
        _ if control.planned => Proof::Planned,
        None => by_record(),
        Some(r) if r.requirement.allocation != Allocation::InScope => by_record(),
        Some(r) => match r.tests_state {
            State::Passed => Proof::Shown,
            State::Failed => Proof::Broken,
            _ => Proof::NotShown,
        },
    };
    let effectiveness = match &control.effectiveness {
        _ if control.planned => Proof::Planned,
        Effectiveness::Record(_) => by_record(),
        Effectiveness::Tests => {
            let both = |test: &&BoundTest| {
                test.tag.ids.contains(&risk.id)
                    && control.requirement.as_ref().is_some_and(|r| test.tag.ids.contains(r))
            };
            match from_tests(control.requirement.as_deref().unwrap_or_default(), tests.iter().filter(both)) {
                State::Passed if mutation::all_killed(control, mutants) => Proof::Shown,
                State::Failed => Proof::Broken,
                _ => Proof::NotShown,
            }
        }
        Effectiveness::Criteria(named) => named
            .iter()
            .map(|id| match judged.get(id).map(|judged| judged.outcome) {
                Some(Outcome::Met) => Proof::Shown,
                Some(Outcome::MetExploratory) => Proof::ExploratoryOnly,
                Some(Outcome::MetSynthetic | Outcome::MetSyntheticExploratory) => Proof::SyntheticOnly,
                Some(Outcome::NotMet | Outcome::NotMetSynthetic) => Proof::Broken,
                _ => Proof::NotShown,
            })
            .min()
            .unwrap_or(Proof::NotShown),
    };
    let counts = implementation == Proof::Shown && effectiveness == Proof::Shown;
    ControlStatus { control: control.clone(), implementation, effectiveness, counts }
}

fn reduced<'a>(matrix: &Matrix, risk: &Risk, p1: u8, controls: impl Iterator<Item = &'a ControlStatus>) -> Rated {
    let (mut p1, mut p2) = (p1, risk.initial.P2);
    for status in controls {
        p1 = p1.saturating_sub(status.control.reduces.P1).max(1);
        p2 = p2.saturating_sub(status.control.reduces.P2).max(1);
    }
    let level = matrix.level(risk.initial.S, p1, p2);
    Rated {
        S: risk.initial.S,
        P1: p1,
        P2: p2,
        P: matrix.probability_of_harm(p1, p2),
        level,
        acceptable: matrix.accepts(level),
    }
}

/// IEC 62304+A1, figure 3.
fn class(matrix: &Matrix, rated: Rated) -> SafetyClass {
    if rated.acceptable {
        SafetyClass::A
    } else if rated.S < matrix.serious_from {
        SafetyClass::B
    } else {
        SafetyClass::C
    }
}

/// The decided benefit-risk analysis that carries what remains of a risk.
fn carried<'a>(regulatory: &'a Regulatory, risk: &Risk) -> Option<&'a BenefitRisk> {
    let named = regulatory.benefit_risk.iter().filter(|analysis| risk.benefit_risk.as_ref() == Some(&analysis.id));
    let decided = |analysis: &&BenefitRisk| {
        analysis.decided.as_ref().is_some_and(|d| regulatory.why_not_held(&d.role, &d.name).is_none())
    };
    let mut named = named.filter(decided).filter(|analysis| analysis.risks.contains(&risk.id));
    named.next()
}

fn gaps(status: &RiskStatus, carried: Option<&BenefitRisk>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add =
        |severity, rule, item: &str, message: String| findings.push(Finding::new(severity, rule, item, message));
    let id = &status.risk.id;
    for c in &status.controls {
        let both = [("implementation", c.implementation), ("effectiveness", c.effectiveness)];
        for (which, proof) in both {
            let item = &c.control.id;
            match proof {
                Proof::Shown => (),
                Proof::Broken => add(Severity::Red, "control-broken", item, format!("{which} fails: {}", c.control.en)),
                Proof::NotShown => {
                    add(Severity::Amber, "control-not-shown", item, format!("{which} is not shown: {}", c.control.en))
                }
                Proof::SyntheticOnly => add(
                    Severity::Amber,
                    "synthetic-only",
                    item,
                    format!("{which} is shown on SYNTHETIC data only, which earns no credit"),
                ),
                Proof::ExploratoryOnly => add(
                    Severity::Amber,
                    "exploratory-only",
                    item,
                    format!("{which} is shown in an exploratory run only, which earns no credit"),
                ),
                Proof::RecordRequired => {
                    let record = match &c.control.effectiveness {
                        Effectiveness::Record(record) if which == "effectiveness" => record.as_str(),
                        _ => "record from outside this workspace",
                    };
                    add(Severity::Grey, "manual", item, format!("{which}: manual - record required ({record})"));
                }
                Proof::Planned => {
                    add(Severity::Grey, "control-planned", item, format!("{which}: planned, earns no credit"))
                }
            }
        }
    }
    let level = |rated: Rated| format!("{:?}", rated.level).to_lowercase();
    if !status.residual_as_evidenced.acceptable {
        let message = format!(
            "residual risk as evidenced is {} (as planned: {})",
            level(status.residual_as_evidenced),
            level(status.residual_as_planned)
        );
        match carried {
            None => add(Severity::Red, "residual-risk", id, message),
            Some(analysis) => {
                let message = format!("{message}; carried by the decided benefit-risk analysis {}", analysis.id);
                add(Severity::Grey, "residual-risk-carried", id, message);
            }
        }
    }
    if !status.residual_as_planned.acceptable {
        let message = format!(
            "even with every control proven the residual risk is {}: more control or a benefit-risk analysis is needed",
            level(status.residual_as_planned)
        );
        add(Severity::Red, "residual-risk-planned", id, message);
    }
    let only_information = status.controls.iter().all(|c| c.control.option == ControlOption::Information);
    if only_information && !status.initial.acceptable {
        add(Severity::Red, "information-only", id, "controlled by information alone".to_owned());
    }
    findings
}

/// The class of the whole software: the highest of its risks.
#[derive(Debug, Clone, Serialize)]
pub struct Classification {
    pub computed: SafetyClass,
    /// With every external control proven.
    pub as_planned: SafetyClass,
    /// What the plan states.
    pub stated: SafetyClass,
    pub rationale: Vec<String>,
}

pub fn classify(regulatory: &Regulatory, risks: &[RiskStatus]) -> (Classification, Vec<Finding>) {
    let of = |pick: &dyn Fn(&ClassOfRisk) -> SafetyClass| {
        risks.iter().filter_map(|r| r.safety_class.as_ref()).map(pick).max()
    };
    // IEC 62304 4.3 g: class C until a class is assigned.
    let computed = of(&|c| c.as_evidenced).unwrap_or(SafetyClass::C);
    let rationale = risks.iter().map(|risk| rationale(&regulatory.matrix, risk)).collect();
    let classification = Classification {
        computed,
        as_planned: of(&|c| c.as_planned).unwrap_or(SafetyClass::C),
        stated: regulatory.profile.planned_safety_class,
        rationale,
    };
    let mut findings = Vec::new();
    if classification.stated < computed {
        let message = format!(
            "the plan states class {}, the risk file gives class {}; with every external control proven it would be class {}",
            classification.stated.letter(),
            computed.letter(),
            classification.as_planned.letter()
        );
        findings.push(Finding::new(Severity::Red, "safety-class", "IEC 62304 4.3", message));
    }
    (classification, findings)
}

fn rationale(matrix: &Matrix, risk: &RiskStatus) -> String {
    let id = &risk.risk.id;
    let Some(class) = &risk.safety_class else {
        return format!("{id} {}: the harm is no injury; left out of the safety class.", risk.risk.title.en);
    };
    let say = |rated: Rated| format!("{:?}", rated.level).to_lowercase();
    format!(
        "{id} {}: harm of severity {} ({}). With the software taken to fail, the risk is {} as evidenced (class {}) and {} with every external control proven (class {}).",
        risk.risk.title.en,
        risk.risk.initial.S,
        if risk.risk.initial.S >= matrix.serious_from { "serious injury" } else { "no serious injury" },
        say(class.with_external_as_evidenced),
        class.as_evidenced.letter(),
        say(class.with_external_as_planned),
        class.as_planned.letter(),
    )
}
