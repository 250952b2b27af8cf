//! From records to figures, intervals and verdicts: pure, so that it can be checked without a model.

mod detection;
mod diameters;
mod endpoints;
mod groups;
mod malignancy;
pub mod readers;
mod scans;
pub mod spread;

pub use detection::{AtRate, Curve, Detection, PartCurve};
pub use diameters::Diameters;
pub use endpoints::{CriterionResult, Role};
pub use groups::{Group, Heterogeneity, StratumResult};
pub use malignancy::{Confusion, Malignancy};
pub use scans::{Lungs, SecondsFigures};

use crate::failure::Failure;
use crate::protocol::{Between, Hit, Property, Protocol};
use crate::record::{Nodule, Rejected, ScanRecord, SystemMark};
use lungai_ct::WorldPoint;
use lungai_metrics::bootstrap::{Draws, percentile_interval};
use lungai_metrics::froc::{Froc, Interpolation};
use lungai_metrics::matching::{HitRule, Lesion, Mark, MarkOutcome, MatchRule, ScanMatch, match_scan};
use lungai_metrics::proportion::{proportion, rate};
use lungai_metrics::{Interval, MetricsError, sample_quantile};
use lungai_trace::implements;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A figure with its interval; neither where the data do not carry it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Figure {
    /// Point value.
    pub value: Option<f64>,
    /// Confidence interval.
    pub ci: Option<Interval>,
    /// Sample size in the figure's own unit.
    pub n: usize,
}

/// All figures of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Results {
    /// What was there.
    pub counts: Counts,
    /// The system's detection.
    pub detection: Detection,
    /// The threshold-and-blob baseline on the same scans, where it was run on all of them.
    pub baseline: Option<Curve>,
    /// CPM of the system less that of the baseline, on the same draws; nothing without a baseline.
    pub cpm_over_baseline: Figure,
    /// CPM by the protocol's second localisation rule.
    pub cpm_second_rule: Figure,
    /// Lungs.
    pub lungs: Lungs,
    /// Malignancy at the operating point.
    pub malignancy: Malignancy,
    /// 95th percentiles over scans.
    pub seconds: SecondsFigures,
    /// Per centre.
    pub centres: Vec<Group>,
    /// Sensitivity between centres.
    pub heterogeneity: Option<Heterogeneity>,
    /// Per stratum of the protocol.
    pub strata: Vec<StratumResult>,
    /// FROC of each size group.
    pub froc_by_size: Vec<PartCurve>,
    /// FROC of each attenuation class.
    pub froc_by_kind: Vec<PartCurve>,
    /// Measured against reference diameters.
    pub diameters: Option<Diameters>,
    /// Readers, where there are any.
    pub readers: Option<readers::Agreement>,
    /// Seconds of each stage and of all.
    pub times: Vec<(&'static str, spread::Spread)>,
    /// Dice of the right and left lung, HD95 of the right and left lung.
    pub lung_spread: [Option<spread::Spread>; 4],
    /// Verdicts, primary endpoints first.
    pub criteria: Vec<CriterionResult>,
}

impl Results {
    /// Whether every primary endpoint is shown.
    pub fn met(&self) -> bool {
        self.criteria.iter().filter(|c| c.role == Role::Primary).all(|c| c.decision.shown)
    }
}

/// What was there.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counts {
    /// Scans analysed.
    pub scans: usize,
    /// Their patients.
    pub patients: usize,
    /// Scored nodules.
    pub nodules: usize,
    /// Reference findings that are not scored.
    pub excluded_findings: usize,
    /// Scans that the quality gate refused, with the nodules that they hold.
    pub rejected_scans: usize,
    /// Scored nodules in rejected scans.
    pub nodules_in_rejected_scans: usize,
    /// Scans analysed with a warning of the quality gate.
    pub warned_scans: usize,
    /// Test scans of centres that the protocol leaves out.
    pub scans_of_other_centres: usize,
    /// Test scans of the centres without a nodule table: not analysed.
    pub scans_without_reference: usize,
}

/// Everything about one system's marks.
struct Matched {
    scans: Vec<(Vec<Mark>, ScanMatch)>,
    froc: Froc,
}

/// One scored nodule at the operating point.
struct Scored<'a> {
    scan: usize,
    nodule: &'a Nodule,
    diameter_mm: f64,
    malignant: Option<bool>,
    /// The mark that found it.
    mark: Option<&'a SystemMark>,
}

/// Computes everything. `operating_threshold` is the score behind the protocol's operating point.
///
/// # Errors
/// No scans, or no scored nodule.
#[implements("FR-003", "FR-004", "FR-005", "SW-1102")]
pub fn evaluate(
    protocol: &Protocol,
    records: &[ScanRecord],
    rejected: &[Rejected],
    operating_threshold: f64,
) -> Result<Results, Failure> {
    let eval = Evaluation::new(protocol, records, operating_threshold)?;
    let mut results = Results {
        counts: eval.counts(rejected),
        detection: eval.detection()?,
        baseline: eval.baseline.as_ref().map(|baseline| eval.curve(baseline)).transpose()?,
        cpm_over_baseline: eval.over_baseline()?,
        cpm_second_rule: eval.cpm(&Matched::new(records, |r| &r.marks, &rule(protocol, Hit::WithinSecond))?)?,
        lungs: eval.lungs(),
        malignancy: eval.malignancy(),
        seconds: eval.seconds(),
        centres: eval.by_centre()?,
        heterogeneity: None,
        strata: protocol.strata.iter().map(|stratum| eval.by_stratum(stratum)).collect(),
        froc_by_size: Vec::new(),
        froc_by_kind: Vec::new(),
        diameters: eval.diameters(),
        readers: eval.readers()?,
        times: eval.times(),
        lung_spread: eval.lung_spread(),
        criteria: Vec::new(),
    };
    for (of, curves) in [(Property::Diameter, &mut results.froc_by_size), (Property::Kind, &mut results.froc_by_kind)] {
        if let Some(stratum) = protocol.strata.iter().find(|s| s.of == of) {
            *curves = eval.curves_of(stratum)?;
        }
    }
    results.heterogeneity = groups::heterogeneity(&results.centres, protocol.confidence_level);
    let endpoints = &protocol.endpoints;
    results.criteria = eval.judge(Role::Primary, &endpoints.primary, true)?;
    let open = results.met() || !endpoints.secondary_after_primary;
    results.criteria.extend(eval.judge(Role::Secondary, &endpoints.secondary, open)?);
    Ok(results)
}

#[derive(Clone)]
struct Evaluation<'a> {
    protocol: &'a Protocol,
    records: &'a [ScanRecord],
    threshold: f64,
    /// Confidence level of intervals.
    level: f64,
    draws: Arc<Draws>,
    system: Arc<Matched>,
    /// The system's marks at the operating point: of these every one counts, however many a scan has.
    operated: Arc<Matched>,
    baseline: Option<Arc<Matched>>,
    scored: Arc<Vec<Scored<'a>>>,
}

impl<'a> Evaluation<'a> {
    fn new(protocol: &'a Protocol, records: &'a [ScanRecord], threshold: f64) -> Result<Self, Failure> {
        let patients: Vec<&str> = BTreeSet::from_iter(records.iter().map(|r| r.patient.as_str())).into_iter().collect();
        let cluster = |r: &ScanRecord| patients.partition_point(|p| *p < r.patient.as_str());
        let clusters: Vec<usize> = records.iter().map(cluster).collect();
        let draws = Draws::of_clusters(&clusters, protocol.bootstrap.replicates, protocol.bootstrap.seed)?;
        let rule = rule(protocol, protocol.matching.hit);
        let system = Arc::new(Matched::new(records, |r| &r.marks, &rule)?);
        let operated = Arc::new(Matched::new(records, |r| &r.marks, &MatchRule { marks_per_scan: None, ..rule })?);
        let baseline = match records.iter().all(|r| r.baseline.is_some()) {
            true => Some(Matched::new(records, |r| r.baseline.as_deref().unwrap_or_default(), &rule)?.into()),
            false => None,
        };
        let mut scored = Vec::new();
        for (scan, (record, (_, matched))) in records.iter().zip(&operated.scans).enumerate() {
            for (place, best) in &matched.nodules {
                let nodule = &record.nodules[*place];
                scored.push(Scored {
                    scan,
                    nodule,
                    diameter_mm: nodule.diameter_mm,
                    malignant: nodule.malignant,
                    mark: best.map(|mark| &record.marks[mark]).filter(|mark| mark.score >= threshold),
                });
            }
        }
        let level = protocol.confidence_level;
        let (draws, scored) = (draws.into(), scored.into());
        Ok(Self { protocol, records, threshold, level, draws, system, operated, baseline, scored })
    }

    fn level(&self) -> f64 {
        self.level
    }

    fn how(&self) -> Interpolation {
        match self.protocol.froc.interpolation {
            Between::Linear => Interpolation::Linear,
            Between::FirstAtOrAbove => Interpolation::FirstAtOrAbove,
        }
    }

    fn counts(&self, rejected: &[Rejected]) -> Counts {
        Counts {
            scans: self.records.len(),
            patients: BTreeSet::from_iter(self.records.iter().map(|r| &r.patient)).len(),
            nodules: self.scored.len(),
            excluded_findings: self.records.iter().flat_map(|r| &r.nodules).filter(|n| n.excluded).count(),
            rejected_scans: rejected.len(),
            nodules_in_rejected_scans: rejected.iter().map(|r| r.nodules).sum(),
            warned_scans: self.records.iter().filter(|r| r.quality == "warn").count(),
            ..Counts::default()
        }
    }

    /// Percentile interval of a figure over the draws of patients, widened to hold the value itself.
    fn bootstrap(&self, value: f64, figure: impl Fn(&[u32]) -> Option<f64> + Sync) -> Option<Interval> {
        let [low, high] = percentile_interval(self.draws.figures(figure), self.level()).ok()?;
        Some([low.min(value), high.max(value)])
    }

    /// A share, from `[part, whole]` of each scan. The interval is the wider of the patient bootstrap, which knows clusters,
    /// and Clopper-Pearson's, which knows that none missed is no proof.
    fn share(&self, of_scan: &[[u32; 2]]) -> Figure {
        let [part, all] = sums(of_scan);
        let Ok(exact) = proportion(part, all, self.level()) else { return Figure::default() };
        let drawn = self.bootstrap(exact.value, |weights| ratio(weights, of_scan));
        Figure { value: Some(exact.value), ci: widest(drawn, exact.clopper_pearson), n: all }
    }

    /// As [`Self::share`] of events, of which a scan may have many, with the exact Poisson interval.
    fn events(&self, of_scan: &[[u32; 2]]) -> Figure {
        let [events, scans] = sums(of_scan);
        let Ok(exact) = rate(events, scans, self.level()) else { return Figure::default() };
        let drawn = self.bootstrap(exact.value, |weights| ratio(weights, of_scan));
        Figure { value: Some(exact.value), ci: widest(drawn, exact.interval), n: scans }
    }

    /// Sensitivity at the operating point over a part of the nodules.
    fn sensitivity(&self, part: &dyn Fn(&Scored<'_>) -> bool) -> Figure {
        let mut of_scan = vec![[0u32; 2]; self.records.len()];
        for nodule in self.scored.iter().filter(|n| part(n)) {
            of_scan[nodule.scan][0] += u32::from(nodule.mark.is_some());
            of_scan[nodule.scan][1] += 1;
        }
        self.share(&of_scan)
    }

    /// False positives per scan at the operating point over a part of the scans.
    fn fp_per_scan(&self, part: &dyn Fn(&ScanRecord) -> bool) -> Figure {
        let counts = self.false_positives(part);
        let of_scan: Vec<[u32; 2]> =
            self.records.iter().zip(&counts).map(|(r, n)| [*n as u32, u32::from(part(r))]).collect();
        self.events(&of_scan)
    }

    /// False positives of each scan at the operating point; zero for scans outside of the part.
    fn false_positives(&self, part: &dyn Fn(&ScanRecord) -> bool) -> Vec<usize> {
        let count = |(record, (marks, matched)): (&ScanRecord, &(Vec<Mark>, ScanMatch))| {
            let is_false = |(mark, outcome): &(&Mark, &MarkOutcome)| {
                **outcome == MarkOutcome::FalsePositive && mark.score >= self.threshold
            };
            if part(record) { marks.iter().zip(&matched.outcomes).filter(is_false).count() } else { 0 }
        };
        self.records.iter().zip(&self.operated.scans).map(count).collect()
    }

    /// Mean over scans that have the figure.
    fn mean_over_scans(&self, figure: &(dyn Fn(&ScanRecord) -> Option<f64> + Sync)) -> Figure {
        let values: Vec<Option<f64>> = self.records.iter().map(figure).collect();
        let n = values.iter().flatten().count();
        if n == 0 {
            return Figure::default();
        }
        let value = values.iter().flatten().sum::<f64>() / n as f64;
        let ci = self.bootstrap(value, |weights| {
            let (sum, n) = weights.iter().zip(&values).fold((0.0, 0.0), |(sum, n), (w, v)| match v {
                Some(v) => (sum + f64::from(*w) * v, n + f64::from(*w)),
                None => (sum, n),
            });
            (n > 0.0).then(|| sum / n)
        });
        Figure { value: Some(value), ci, n }
    }

    /// 95th percentile over scans, linear between ranks.
    fn slow(&self, seconds: &(dyn Fn(&ScanRecord) -> Option<f64> + Sync)) -> Figure {
        let values: Vec<Option<f64>> = self.records.iter().map(seconds).collect();
        let p95 = |weights: &[u32]| {
            let copies = values.iter().zip(weights).flat_map(|(v, w)| std::iter::repeat_n(*v, *w as usize));
            let mut sorted: Vec<f64> = copies.flatten().collect();
            sorted.sort_unstable_by(f64::total_cmp);
            (!sorted.is_empty()).then(|| sample_quantile(&sorted, 0.95))
        };
        let n = values.iter().flatten().count();
        match p95(&vec![1; values.len()]) {
            Some(value) => Figure { value: Some(value), ci: self.bootstrap(value, p95), n },
            None => Figure::default(),
        }
    }
}

impl Matched {
    fn new<'a>(
        records: &'a [ScanRecord],
        marks: impl Fn(&'a ScanRecord) -> &'a [SystemMark],
        rule: &MatchRule,
    ) -> Result<Self, MetricsError> {
        let mut scans = Vec::new();
        for record in records {
            let marks: Vec<Mark> = marks(record)
                .iter()
                .map(|m| Mark { position: WorldPoint(m.position_lps_mm), score: m.score })
                .collect();
            let matched = match_scan(&marks, &lesions(record), rule)?;
            scans.push((marks, matched));
        }
        let froc = Froc::new(scans.iter().map(|(marks, matched)| (marks.as_slice(), matched)))?;
        Ok(Self { scans, froc })
    }
}

/// What became of the marks of one scan in the FROC curve, where at most the protocol's number of them counts.
pub fn outcomes(protocol: &Protocol, record: &ScanRecord, marks: &[SystemMark]) -> Result<ScanMatch, MetricsError> {
    matched(record, marks, &rule(protocol, protocol.matching.hit))
}

/// What becomes of them at an operating point, where every one counts.
pub fn operated(protocol: &Protocol, record: &ScanRecord, marks: &[SystemMark]) -> Result<ScanMatch, MetricsError> {
    matched(record, marks, &MatchRule { marks_per_scan: None, ..rule(protocol, protocol.matching.hit) })
}

fn matched(record: &ScanRecord, marks: &[SystemMark], rule: &MatchRule) -> Result<ScanMatch, MetricsError> {
    let marks: Vec<Mark> =
        marks.iter().map(|m| Mark { position: WorldPoint(m.position_lps_mm), score: m.score }).collect();
    match_scan(&marks, &lesions(record), rule)
}

fn lesions(record: &ScanRecord) -> Vec<Lesion> {
    record
        .nodules
        .iter()
        .map(|n| Lesion { position: WorldPoint(n.position_lps_mm), diameter_mm: n.diameter_mm, excluded: n.excluded })
        .collect()
}

fn rule(protocol: &Protocol, hit: Hit) -> MatchRule {
    let matching = &protocol.matching;
    MatchRule {
        hit: match hit {
            Hit::WithinRadius => HitRule::WithinRadius,
            Hit::WithinSecond => HitRule::WithinMm(matching.second_hit_mm),
        },
        unknown_diameter_mm: matching.unknown_diameter_mm,
        marks_per_scan: Some(matching.marks_per_scan),
    }
}

fn sums(of_scan: &[[u32; 2]]) -> [usize; 2] {
    [0, 1].map(|i| of_scan.iter().map(|s| s[i] as usize).sum())
}

/// Weighted sum of the first over weighted sum of the second.
fn ratio(weights: &[u32], of_scan: &[[u32; 2]]) -> Option<f64> {
    let sum = |i: usize| weights.iter().zip(of_scan).map(|(w, s)| u64::from(*w) * u64::from(s[i])).sum::<u64>();
    let (part, whole) = (sum(0), sum(1));
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn widest(drawn: Option<Interval>, exact: Interval) -> Option<Interval> {
    let [low, high] = drawn.unwrap_or(exact);
    Some([low.min(exact[0]), high.max(exact[1])])
}

#[cfg(test)]
pub mod tests;
