//! Verdicts: each criterion on its bound, then its family.

use super::scans::classify_seconds;
use super::{Evaluation, Figure, Scored};
use crate::decision::{Decision, decide};
use crate::failure::Failure;
use crate::protocol::{Criterion, Family, Metric, On, Op};
use crate::record::ScanRecord;
use lungai_metrics::{Interval, decision as bound};
use serde::Serialize;

/// Which endpoints a criterion is among.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The study succeeds where all of these are shown.
    Primary,
    /// Shown besides.
    Secondary,
}

/// Verdict on one criterion.
#[derive(Debug, Clone, Serialize)]
pub struct CriterionResult {
    /// As in the protocol.
    pub id: String,
    /// As in the protocol.
    pub requirement: String,
    /// As in the protocol.
    pub metric: Metric,
    /// As in the protocol.
    pub diameter_at_least_mm: f64,
    /// Point value.
    pub value: Option<f64>,
    /// Confidence interval, two-sided at `1 - 2 alpha` of its family.
    pub ci: Option<Interval>,
    /// The level of that interval.
    pub confidence_level: f64,
    /// As in the protocol.
    pub limit: f64,
    /// As in the protocol.
    pub op: Op,
    /// As in the protocol.
    pub on: On,
    /// Whether it holds by itself; never where the figure is missing.
    pub met: bool,
    /// What is made of that, the other criteria of its family considered.
    pub decision: Decision,
    /// Primary or secondary.
    pub role: Role,
    /// The conditions of its population in words; empty: all.
    pub population: Vec<String>,
    /// Sample size in the figure's own unit.
    pub n: usize,
}

impl Evaluation<'_> {
    /// Judges a family: each criterion by itself on its own bound, then all of them as the family says.
    pub(super) fn judge(&self, role: Role, family: &Family, open: bool) -> Result<Vec<CriterionResult>, Failure> {
        let at = |criterion: &Criterion, alpha: f64| -> Result<(Figure, bool), Failure> {
            let figure = Self { level: 1.0 - 2.0 * alpha, ..self.clone() }.figure(criterion)?;
            let holds = match criterion.on {
                On::Value => figure.value.is_some_and(|value| criterion.op.holds(value, criterion.limit)),
                // The protocol was checked: the bound is the one that the claim is about.
                On::CiLower | On::CiUpper => match figure.ci {
                    Some(ci) => bound::decide(ci, criterion.claim())?.met,
                    None => false,
                },
            };
            Ok((figure, holds))
        };
        let own = family.criteria.iter().map(|c| at(c, family.alpha)).collect::<Result<Vec<_>, _>>()?;
        // Figures that were defined at the family's own level are at every other.
        let decisions = decide(family, open, |i, alpha| at(&family.criteria[i], alpha).is_ok_and(|(_, holds)| holds));
        let results = family.criteria.iter().zip(own).zip(decisions);
        Ok(results
            .map(|((criterion, (figure, met)), decision)| CriterionResult {
                id: criterion.id.clone(),
                requirement: criterion.requirement.clone(),
                metric: criterion.metric,
                diameter_at_least_mm: criterion.diameter_at_least_mm,
                value: figure.value,
                ci: figure.ci,
                confidence_level: 1.0 - 2.0 * family.alpha,
                limit: criterion.limit,
                op: criterion.op,
                on: criterion.on,
                met,
                decision,
                role,
                population: criterion.population.iter().map(|condition| condition.words()).collect(),
                n: figure.n,
            })
            .collect())
    }

    /// The figure that a criterion is about, over its population. What is unknown of a scan or nodule keeps it out.
    fn figure(&self, criterion: &Criterion) -> Result<Figure, Failure> {
        let (of_nodules, of_scans): (Vec<_>, Vec<_>) =
            criterion.population.iter().partition(|condition| condition.of.is_of_nodules());
        let here =
            |r: &ScanRecord| of_scans.iter().all(|c| c.holds(c.of.of_scan(&r.centre, &r.covariates)) == Some(true));
        let counts = |n: &Scored<'_>| {
            let scan = &self.records[n.scan];
            n.diameter_mm >= criterion.diameter_at_least_mm
                && here(scan)
                && of_nodules.iter().all(|c| c.holds(c.of.of_nodule(scan, n.nodule)) == Some(true))
        };
        let with_diagnosis = |found: bool| -> Vec<&Scored<'_>> {
            self.scored.iter().filter(|n| counts(n) && n.malignant.is_some() && (!found || n.mark.is_some())).collect()
        };
        let mean = |f: &(dyn Fn(&ScanRecord) -> Option<f64> + Sync)| {
            self.mean_over_scans(&|r| if here(r) { f(r) } else { None })
        };
        let slow = |f: &(dyn Fn(&ScanRecord) -> Option<f64> + Sync)| self.slow(&|r| if here(r) { f(r) } else { None });
        Ok(match criterion.metric {
            Metric::DiceRight => mean(&|r| Some(r.lungs?[0].dice)),
            Metric::DiceLeft => mean(&|r| Some(r.lungs?[1].dice)),
            Metric::Sensitivity => self.sensitivity(&counts),
            Metric::FalsePositives => self.fp_per_scan(&here),
            Metric::Cpm if of_scans.is_empty() => self.cpm(&self.system)?,
            Metric::Cpm => self.cpm_of_part(&here, None),
            Metric::CpmOverBaseline if of_scans.is_empty() => self.over_baseline()?,
            Metric::CpmOverBaseline => match &self.baseline {
                Some(baseline) => self.cpm_of_part(&here, Some(baseline)),
                None => Figure::default(),
            },
            Metric::Auc => self.auc(&with_diagnosis(false)),
            Metric::AucFound => self.auc(&with_diagnosis(true)),
            Metric::CalibrationError => self.calibration_error(&with_diagnosis(true)),
            Metric::Segment => slow(&|r| Some(r.seconds?.segment)),
            Metric::Detect => slow(&|r| Some(r.seconds?.detect)),
            Metric::Classify => slow(&classify_seconds),
            Metric::Total => slow(&|r| r.seconds?.total),
        })
    }
}
