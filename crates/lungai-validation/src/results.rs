//! From records to figures, intervals and verdicts: pure, so that it can be checked without a model.

use crate::decision::{Decision, decide};
use crate::failure::Failure;
use crate::protocol::{Between, Criterion, Family, Hit, Metric, On, Op, Property, Protocol, Stratum};
use crate::record::{Nodule, Rejected, ScanRecord, SystemMark};
use lungai_ct::WorldPoint;
use lungai_metrics::bootstrap::{Draws, cpm_difference, froc_intervals, percentile_interval};
use lungai_metrics::centres::{from_logit, logit, random_effects};
use lungai_metrics::froc::{Froc, Interpolation};
use lungai_metrics::matching::{HitRule, Lesion, Mark, MarkOutcome, MatchRule, ScanMatch, match_scan};
use lungai_metrics::proportion::{proportion, rate};
use lungai_metrics::{Interval, MetricsError, roc};
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
    /// Per size.
    pub sizes: Vec<Group>,
    /// Per attenuation class.
    pub kinds: Vec<Group>,
    /// Per stratum of the protocol.
    pub strata: Vec<StratumResult>,
    /// Verdicts, primary endpoints first.
    pub criteria: Vec<CriterionResult>,
}

impl Results {
    /// Whether every primary endpoint is shown.
    pub fn met(&self) -> bool {
        self.criteria.iter().filter(|c| c.role == Role::Primary).all(|c| c.decision.shown)
    }
}

/// Which endpoints a criterion is among.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The study succeeds where all of these are shown.
    Primary,
    /// Shown besides.
    Secondary,
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

/// The system's detection.
#[derive(Debug, Clone, Serialize)]
pub struct Detection {
    /// The curve.
    #[serde(flatten)]
    pub curve: Curve,
    /// Score at which the detector is operated.
    pub operating_threshold: f64,
    /// Sensitivity there.
    pub sensitivity: Figure,
    /// False positives per scan there.
    pub fp_per_scan: Figure,
    /// Found nodules there.
    pub found: usize,
    /// False positives there.
    pub false_positives: usize,
}

/// A FROC curve.
#[derive(Debug, Clone, Serialize)]
pub struct Curve {
    /// Mean sensitivity at 1/8 to 8 false positives per scan.
    pub cpm: Figure,
    /// At the protocol's rates.
    pub at: Vec<AtRate>,
    /// Between 1/8 and 8, for the figure.
    pub band: Vec<AtRate>,
    /// Every threshold: score, false positives per scan, sensitivity.
    pub points: Vec<[f64; 3]>,
}

/// Sensitivity at a rate of false positives.
#[derive(Debug, Clone, Serialize)]
pub struct AtRate {
    /// False positives per scan.
    pub rate: f64,
    /// Interpolated as the protocol says.
    pub sensitivity: f64,
    /// Interval.
    pub ci: Interval,
    /// Lowest score that keeps to the rate; absent where no mark does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
}

/// Mean figures over scans with a reference mask.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Lungs {
    /// Right lung.
    pub dice_right: Figure,
    /// Left lung.
    pub dice_left: Figure,
    /// Larger of both sides, in mm.
    pub hd95_mm: Figure,
    /// Smaller of both sides.
    pub surface_dice: Figure,
}

/// Malignancy of scored nodules with a diagnosis.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Malignancy {
    /// A missed nodule scores 0.
    pub auc: Figure,
    /// Found nodules only: what the classifier does, not what a patient gets.
    pub auc_found: Figure,
    /// DeLong's interval of `auc`, which takes nodules as independent.
    pub auc_delong: Option<Interval>,
    /// Expected calibration error, found nodules.
    pub calibration_error: Figure,
    /// Brier score, found nodules.
    pub brier: Option<f64>,
    /// Nodules with a diagnosis.
    pub nodules: usize,
    /// Malignant ones among them.
    pub malignant: usize,
    /// Found ones among them.
    pub found: usize,
    /// Of `auc`: score, false positive rate, sensitivity.
    pub curve: Vec<[f64; 3]>,
    /// Of `auc_found`.
    pub curve_found: Vec<[f64; 3]>,
}

/// 95th percentiles over scans, in seconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SecondsFigures {
    /// Lung segmentation.
    pub segment: Figure,
    /// Candidates.
    pub detect: Figure,
    /// Measurement and malignancy, for one mark.
    pub classify: Figure,
    /// Whole scan.
    pub total: Figure,
}

/// A part of the nodules or scans, at the operating point.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    /// Name.
    pub name: String,
    /// Scored nodules.
    pub nodules: usize,
    /// Found.
    pub found: usize,
    /// Sensitivity.
    pub sensitivity: Figure,
    /// Too few nodules to judge.
    pub descriptive: bool,
    /// Scans, where the group is one of scans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scans: Option<usize>,
    /// False positives per scan, where the group is one of scans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fp_per_scan: Option<Figure>,
    /// CPM, where the group is one of scans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpm: Option<Figure>,
    /// Mean Dice of both lungs, where the group is one of scans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dice: Option<f64>,
}

/// Nodules parted by one property.
#[derive(Debug, Clone, Serialize)]
pub struct StratumResult {
    /// The property.
    pub of: Property,
    /// Its groups, in the protocol's order.
    pub groups: Vec<Group>,
}

/// Random effects of the logit of sensitivity.
#[derive(Debug, Clone, Serialize)]
pub struct Heterogeneity {
    /// Centres with nodules.
    pub centres: usize,
    /// Sensitivity that the mean logit stands for.
    pub sensitivity: f64,
    /// Its interval.
    pub ci: Interval,
    /// Cochran's Q.
    pub q: f64,
    /// Probability of such a Q if all centres were alike.
    pub p: f64,
    /// Between-centre variance of the logit.
    pub tau2: f64,
    /// Share of variation that is between centres.
    pub i2: f64,
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
    kind: Option<&'a str>,
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
        sizes: eval.by_size(),
        kinds: eval.by_kind(),
        strata: protocol.strata.iter().map(|stratum| eval.by_stratum(stratum)).collect(),
        criteria: Vec::new(),
    };
    results.heterogeneity = heterogeneity(&results.centres, protocol.confidence_level);
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
        let baseline = match records.iter().all(|r| r.baseline.is_some()) {
            true => Some(Matched::new(records, |r| r.baseline.as_deref().unwrap_or_default(), &rule)?.into()),
            false => None,
        };
        let mut scored = Vec::new();
        for (scan, (record, (_, matched))) in records.iter().zip(&system.scans).enumerate() {
            for (place, best) in &matched.nodules {
                let nodule = &record.nodules[*place];
                scored.push(Scored {
                    scan,
                    nodule,
                    diameter_mm: nodule.diameter_mm,
                    kind: nodule.kind.as_deref(),
                    malignant: nodule.malignant,
                    mark: best.map(|mark| &record.marks[mark]).filter(|mark| mark.score >= threshold),
                });
            }
        }
        let level = protocol.confidence_level;
        Ok(Self { protocol, records, threshold, level, draws: draws.into(), system, baseline, scored: scored.into() })
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

    fn detection(&self) -> Result<Detection, Failure> {
        let found = self.scored.iter().filter(|n| n.mark.is_some()).count();
        let false_positives = self.false_positives(&|_| true);
        Ok(Detection {
            curve: self.curve(&self.system)?,
            operating_threshold: self.threshold,
            sensitivity: self.sensitivity(&|_| true),
            fp_per_scan: self.fp_per_scan(&|_| true),
            found,
            false_positives: false_positives.iter().sum(),
        })
    }

    fn curve(&self, of: &Matched) -> Result<Curve, Failure> {
        let rates = &self.protocol.froc.rates;
        let band: Vec<f64> = (0..=96).map(|i| 2f64.powf(f64::from(i) / 16.0 - 3.0)).collect();
        let at = |rates: &[f64]| -> Result<Vec<AtRate>, Failure> {
            let sensitivity = of.froc.sensitivity_at(rates, self.how())?;
            let intervals = froc_intervals(&of.froc, &self.draws, rates, self.how(), self.level())?.intervals;
            rates
                .iter()
                .enumerate()
                .map(|(i, rate)| {
                    let threshold = of.froc.operating_point(*rate)?.threshold;
                    Ok(AtRate {
                        rate: *rate,
                        sensitivity: sensitivity[i],
                        ci: intervals[i],
                        threshold: threshold.is_finite().then_some(threshold),
                    })
                })
                .collect()
        };
        let points = of.froc.curve().into_iter().filter(|p| p.threshold.is_finite());
        Ok(Curve {
            cpm: self.cpm(of)?,
            at: at(rates)?,
            band: at(&band)?,
            points: points.map(|p| [p.threshold, p.fp_per_scan, p.sensitivity]).collect(),
        })
    }

    fn cpm(&self, of: &Matched) -> Result<Figure, Failure> {
        let intervals = froc_intervals(&of.froc, &self.draws, &[1.0], self.how(), self.level())?;
        Ok(Figure { value: Some(of.froc.cpm(self.how())), ci: Some(intervals.cpm), n: self.records.len() })
    }

    fn over_baseline(&self) -> Result<Figure, Failure> {
        let Some(baseline) = &self.baseline else { return Ok(Figure::default()) };
        let d = cpm_difference(&self.system.froc, &baseline.froc, &self.draws, self.how(), self.level())?;
        Ok(Figure { value: Some(d.value), ci: Some(d.interval), n: self.records.len() })
    }

    /// Sensitivity at the operating point over a part of the nodules. The interval is the wider of the patient
    /// bootstrap, which knows clusters, and Clopper-Pearson's, which knows that none missed is no proof.
    fn sensitivity(&self, part: &dyn Fn(&Scored<'_>) -> bool) -> Figure {
        let mut of_scan = vec![[0u32; 2]; self.records.len()];
        for nodule in self.scored.iter().filter(|n| part(n)) {
            of_scan[nodule.scan][0] += u32::from(nodule.mark.is_some());
            of_scan[nodule.scan][1] += 1;
        }
        let [found, all] = of_scan.iter().fold([0, 0], |sum, s| [sum[0] + s[0], sum[1] + s[1]]);
        let Ok(exact) = proportion(found as usize, all as usize, self.level()) else { return Figure::default() };
        let drawn = self.bootstrap(exact.value, |weights| ratio(weights, &of_scan));
        Figure { value: Some(exact.value), ci: widest(drawn, exact.clopper_pearson), n: all as usize }
    }

    /// As [`Self::sensitivity`], for false positives over a part of the scans, with the exact Poisson interval.
    fn fp_per_scan(&self, part: &dyn Fn(&ScanRecord) -> bool) -> Figure {
        let counts = self.false_positives(part);
        let of_scan: Vec<[u32; 2]> =
            self.records.iter().zip(&counts).map(|(r, n)| [*n as u32, u32::from(part(r))]).collect();
        let scans = of_scan.iter().filter(|s| s[1] > 0).count();
        let Ok(exact) = rate(counts.iter().sum(), scans, self.level()) else { return Figure::default() };
        let drawn = self.bootstrap(exact.value, |weights| ratio(weights, &of_scan));
        Figure { value: Some(exact.value), ci: widest(drawn, exact.interval), n: scans }
    }

    /// False positives of each scan at the operating point; zero for scans outside of the part.
    fn false_positives(&self, part: &dyn Fn(&ScanRecord) -> bool) -> Vec<usize> {
        let count = |(record, (marks, matched)): (&ScanRecord, &(Vec<Mark>, ScanMatch))| {
            let is_false = |(mark, outcome): &(&Mark, &MarkOutcome)| {
                **outcome == MarkOutcome::FalsePositive && mark.score >= self.threshold
            };
            if part(record) { marks.iter().zip(&matched.outcomes).filter(is_false).count() } else { 0 }
        };
        self.records.iter().zip(&self.system.scans).map(count).collect()
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

    fn lungs(&self) -> Lungs {
        Lungs {
            dice_right: self.mean_over_scans(&|r| Some(r.lungs?[0].dice)),
            dice_left: self.mean_over_scans(&|r| Some(r.lungs?[1].dice)),
            hd95_mm: self.mean_over_scans(&|r| {
                let [right, left] = r.lungs?;
                Some(right.hd95_mm?.max(left.hd95_mm?))
            }),
            surface_dice: self.mean_over_scans(&|r| {
                let [right, left] = r.lungs?;
                Some(right.surface_dice.min(left.surface_dice))
            }),
        }
    }

    /// A system that rates no mark was not asked about malignancy; that its nodules score 0 would be an invention.
    fn rates_malignancy(&self) -> bool {
        self.records.iter().flat_map(|r| &r.marks).any(|mark| mark.malignancy.is_some())
    }

    fn malignancy(&self) -> Malignancy {
        if !self.rates_malignancy() {
            return Malignancy::default();
        }
        let known: Vec<&Scored<'_>> = self.scored.iter().filter(|n| n.malignant.is_some()).collect();
        let found: Vec<&Scored<'_>> = known.iter().copied().filter(|n| n.mark.is_some()).collect();
        let score = |n: &Scored<'_>| n.mark.and_then(|mark| mark.malignancy).unwrap_or(0.0);
        let truth = |n: &Scored<'_>| n.malignant == Some(true);
        let split =
            |nodules: &[&Scored<'_>]| -> (Vec<f64>, Vec<bool>) { nodules.iter().map(|n| (score(n), truth(n))).unzip() };
        let curve = |nodules: &[&Scored<'_>]| {
            let (scores, truths) = split(nodules);
            let points = roc::curve(&scores, &truths).unwrap_or_default();
            let finite = points.into_iter().filter(|p| p.threshold.is_finite());
            finite.map(|p| [p.threshold, p.false_positive_rate, p.sensitivity]).collect()
        };
        let (scores, truths) = split(&known);
        let (probabilities, diagnoses) = split(&found);
        Malignancy {
            auc: self.auc(&known),
            auc_found: self.auc(&found),
            auc_delong: roc::auc(&scores, &truths, self.level()).ok().map(|a| a.interval),
            calibration_error: self.calibration_error(&found),
            brier: roc::brier(&probabilities, &diagnoses).ok(),
            nodules: known.len(),
            malignant: truths.iter().filter(|t| **t).count(),
            found: found.len(),
            curve: curve(&known),
            curve_found: curve(&found),
        }
    }

    /// Of found nodules with a diagnosis.
    fn calibration_error(&self, found: &[&Scored<'_>]) -> Figure {
        if !self.rates_malignancy() {
            return Figure::default();
        }
        let (probabilities, diagnoses): (Vec<f64>, Vec<bool>) = found
            .iter()
            .map(|n| (n.mark.and_then(|mark| mark.malignancy).unwrap_or(0.0), n.malignant == Some(true)))
            .unzip();
        let value = roc::calibration_error(&probabilities, &diagnoses, self.protocol.calibration_bins).ok();
        Figure { value, ci: None, n: found.len() }
    }

    /// The wider of DeLong's interval and the patient bootstrap's.
    fn auc(&self, nodules: &[&Scored<'_>]) -> Figure {
        let score = |n: &Scored<'_>| n.mark.and_then(|mark| mark.malignancy).unwrap_or(0.0);
        let area = |weights: &[u32]| -> Result<roc::Auc, MetricsError> {
            let copies = nodules.iter().flat_map(|n| std::iter::repeat_n(n, weights[n.scan] as usize));
            let (scores, truths): (Vec<f64>, Vec<bool>) = copies.map(|n| (score(n), n.malignant == Some(true))).unzip();
            roc::auc(&scores, &truths, self.level())
        };
        let n = nodules.len();
        if !self.rates_malignancy() {
            return Figure::default();
        }
        let Ok(auc) = area(&vec![1; self.records.len()]) else { return Figure { n, ..Figure::default() } };
        let drawn = self.bootstrap(auc.value, |weights| area(weights).ok().map(|a| a.value));
        // Complete separation has neither variance nor another draw. But as many pairs as the smaller group has cases share
        // no case, so that each is a trial of its own which is won with the probability that the AUC is.
        let pairs = auc.positives.min(auc.negatives);
        let interval = match proportion((auc.value * pairs as f64).round() as usize, pairs, self.level()) {
            Ok(exact) if auc.variance == 0.0 => exact.clopper_pearson,
            _ => auc.interval,
        };
        Figure { value: Some(auc.value), ci: widest(drawn, interval), n }
    }

    fn seconds(&self) -> SecondsFigures {
        SecondsFigures {
            segment: self.slow(&|r| Some(r.seconds?.segment)),
            detect: self.slow(&|r| Some(r.seconds?.detect)),
            classify: self.slow(&classify_seconds),
            total: self.slow(&|r| Some(r.seconds?.total)),
        }
    }

    /// 95th percentile over scans, linear between ranks.
    fn slow(&self, seconds: &(dyn Fn(&ScanRecord) -> Option<f64> + Sync)) -> Figure {
        let values: Vec<Option<f64>> = self.records.iter().map(seconds).collect();
        let p95 = |weights: &[u32]| {
            let copies = values.iter().zip(weights).flat_map(|(v, w)| std::iter::repeat_n(*v, *w as usize));
            let mut sorted: Vec<f64> = copies.flatten().collect();
            sorted.sort_unstable_by(f64::total_cmp);
            let rank = 0.95 * (sorted.len().checked_sub(1)? as f64);
            let (low, high) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
            Some(low + rank.fract() * (high - low))
        };
        let n = values.iter().flatten().count();
        match p95(&vec![1; values.len()]) {
            Some(value) => Figure { value: Some(value), ci: self.bootstrap(value, p95), n },
            None => Figure::default(),
        }
    }

    fn group(&self, name: String, part: &dyn Fn(&Scored<'_>) -> bool) -> Group {
        let nodules: Vec<&Scored<'_>> = self.scored.iter().filter(|n| part(n)).collect();
        Group {
            name,
            nodules: nodules.len(),
            found: nodules.iter().filter(|n| n.mark.is_some()).count(),
            sensitivity: self.sensitivity(part),
            descriptive: nodules.len() < self.protocol.descriptive_below,
            scans: None,
            fp_per_scan: None,
            cpm: None,
            dice: None,
        }
    }

    fn by_centre(&self) -> Result<Vec<Group>, Failure> {
        let mut groups = Vec::new();
        for centre in &self.protocol.centres {
            let here = |r: &ScanRecord| r.centre == *centre;
            let scans = self.records.iter().filter(|r| here(r)).count();
            if scans == 0 {
                continue; // all of its scans were rejected; the counts say so
            }
            let cpm = self.cpm_of_part(&here, None);
            let dices: Vec<f64> = self
                .records
                .iter()
                .filter(|r| here(r))
                .filter_map(|r| r.lungs)
                .map(|[r, l]| (r.dice + l.dice) / 2.0)
                .collect();
            groups.push(Group {
                scans: Some(scans),
                fp_per_scan: Some(self.fp_per_scan(&here)),
                cpm: cpm.value.map(|_| cpm),
                dice: (!dices.is_empty()).then(|| dices.iter().sum::<f64>() / dices.len() as f64),
                ..self.group(centre.clone(), &|n| here(&self.records[n.scan]))
            });
        }
        Ok(groups)
    }

    fn by_size(&self) -> Vec<Group> {
        let edges = self.protocol.size_edges_mm();
        let ends = edges.iter().skip(1).copied().chain([f64::INFINITY]);
        edges
            .iter()
            .zip(ends)
            .map(|(low, high)| {
                let name =
                    if high.is_finite() { format!("{low} to < {high} mm") } else { format!("{low} mm and more") };
                self.group(name, &|n| (*low..high).contains(&n.diameter_mm))
            })
            .collect()
    }

    fn by_stratum(&self, stratum: &Stratum) -> StratumResult {
        let group_of = |n: &Scored<'_>| stratum.group_of(stratum.of.of_nodule(&self.records[n.scan], n.nodule));
        let names = stratum.names(self.scored.iter().map(group_of));
        let groups = names.into_iter().map(|name| self.group(name.clone(), &|n| group_of(n) == name)).collect();
        StratumResult { of: stratum.of, groups }
    }

    fn by_kind(&self) -> Vec<Group> {
        let kinds: BTreeSet<Option<&str>> = self.scored.iter().map(|n| n.kind).collect();
        kinds.into_iter().map(|kind| self.group(kind.unwrap_or("unknown").to_owned(), &|n| n.kind == kind)).collect()
    }

    /// Judges a family: each criterion by itself on its own bound, then all of them as the family says.
    fn judge(&self, role: Role, family: &Family, open: bool) -> Result<Vec<CriterionResult>, Failure> {
        let at = |criterion: &Criterion, alpha: f64| -> Result<(Figure, bool), Failure> {
            let figure = Self { level: 1.0 - 2.0 * alpha, ..self.clone() }.figure(criterion)?;
            let deciding = match criterion.on {
                On::Value => figure.value,
                On::CiLower => figure.ci.map(|ci| ci[0]),
                On::CiUpper => figure.ci.map(|ci| ci[1]),
            };
            Ok((figure, deciding.is_some_and(|figure| criterion.op.holds(figure, criterion.limit))))
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
            Metric::Total => slow(&|r| Some(r.seconds?.total)),
        })
    }

    /// CPM over a part of the scans, less that of another system where there is one.
    fn cpm_of_part(&self, part: &dyn Fn(&ScanRecord) -> bool, less: Option<&Matched>) -> Figure {
        let inside: Vec<u32> = self.records.iter().map(|r| u32::from(part(r))).collect();
        let rates = lungai_metrics::froc::CPM_RATES;
        let cpm = |weights: &[u32]| {
            let own: Vec<u32> = weights.iter().zip(&inside).map(|(a, b)| a * b).collect();
            let of = |froc: &Froc| {
                let at = froc.resampled(&own, &rates, self.how())?;
                Some(at.iter().sum::<f64>() / at.len() as f64)
            };
            Some(of(&self.system.froc)? - less.map_or(Some(0.0), |less| of(&less.froc))?)
        };
        let value = cpm(&inside);
        let n = inside.iter().filter(|w| **w > 0).count();
        Figure { value, ci: value.and_then(|v| self.bootstrap(v, cpm)), n }
    }
}

/// Seconds of classification for one mark.
fn classify_seconds(r: &ScanRecord) -> Option<f64> {
    let classify = r.seconds?.classify;
    (!r.marks.is_empty()).then(|| classify / r.marks.len() as f64)
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

/// What became of the system's marks of one scan, for the table of marks.
pub fn outcomes(protocol: &Protocol, record: &ScanRecord, marks: &[SystemMark]) -> Result<ScanMatch, MetricsError> {
    let marks: Vec<Mark> =
        marks.iter().map(|m| Mark { position: WorldPoint(m.position_lps_mm), score: m.score }).collect();
    match_scan(&marks, &lesions(record), &rule(protocol, protocol.matching.hit))
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

fn heterogeneity(centres: &[Group], level: f64) -> Option<Heterogeneity> {
    let estimates: Vec<_> = centres.iter().filter_map(|c| logit(c.found, c.nodules).ok()).collect();
    let effects = random_effects(&estimates, level).ok()?;
    Some(Heterogeneity {
        centres: estimates.len(),
        sensitivity: from_logit(effects.mean),
        ci: effects.interval.map(from_logit),
        q: effects.q,
        p: effects.p,
        tau2: effects.tau2,
        i2: effects.i2,
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::record::{Covariates, Seconds, Side};
    use lungai_trace::verifies;

    pub fn protocol() -> Protocol {
        let text = include_str!("../../../validation/phantom-small.yaml");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("protocol.yaml");
        std::fs::write(&path, text).unwrap();
        let protocol: Protocol = lungai_datasets::read_yaml(&path).unwrap();
        protocol.check().unwrap();
        protocol
    }

    /// Diameter, malignant, score and probability of its mark.
    type TestNodule = (f64, bool, Option<(f64, f64)>);

    /// A scan with nodules 100 mm apart and the scores of marks on nothing.
    pub fn scan(i: usize, centre: &str, nodules: &[TestNodule], false_positives: &[f64]) -> ScanRecord {
        let at = |n: usize| [100.0 * n as f64, 0.0, 0.0];
        let mut marks: Vec<SystemMark> = nodules
            .iter()
            .enumerate()
            .filter_map(|(n, (diameter_mm, _, mark))| {
                let (score, malignancy) = (*mark)?;
                Some(SystemMark {
                    position_lps_mm: at(n),
                    score,
                    diameter_mm: Some(*diameter_mm),
                    malignancy: Some(malignancy),
                })
            })
            .collect();
        marks.extend(false_positives.iter().map(|score| SystemMark {
            position_lps_mm: [0.0, 300.0, 0.0],
            score: *score,
            diameter_mm: Some(5.0),
            malignancy: Some(0.1),
        }));
        let side = Side { dice: 0.98, hd95_mm: Some(1.5), surface_dice: 0.97 };
        ScanRecord {
            case: format!("{centre}-{i}"),
            patient: format!("p{i}"),
            centre: centre.into(),
            covariates: Covariates::default(),
            quality: "accept".into(),
            quality_rules: vec![],
            lungs: Some([side, Side { dice: 0.96, ..side }]),
            seconds: Some(Seconds { segment: 2.0, detect: 3.0, classify: 1.0, total: 7.0, ..Seconds::default() }),
            nodules: nodules
                .iter()
                .enumerate()
                .map(|(n, (diameter_mm, malignant, _))| Nodule {
                    id: n.to_string(),
                    position_lps_mm: at(n),
                    diameter_mm: *diameter_mm,
                    volume_mm3: None,
                    long_axis_mm: None,
                    short_axis_mm: None,
                    lobe: None,
                    kind: Some("solid".into()),
                    malignant: Some(*malignant),
                    excluded: false,
                })
                .collect(),
            readings: vec![],
            baseline: Some(marks[..marks.len().min(1)].to_vec()),
            marks,
        }
    }

    pub fn records() -> Vec<ScanRecord> {
        let (a, b) = ("coast-hospital", "hill-screening");
        vec![
            scan(0, a, &[(10.0, true, Some((0.9, 0.8))), (5.0, false, Some((0.6, 0.2)))], &[0.7]),
            scan(1, a, &[(8.0, true, None), (4.0, false, Some((0.3, 0.4)))], &[]),
            scan(2, b, &[(12.0, true, Some((0.95, 0.9)))], &[0.55, 0.2]),
            scan(3, b, &[(7.0, false, Some((0.8, 0.3)))], &[]),
        ]
    }

    #[verifies("FR-003", "FR-004", "FR-005")]
    #[test]
    fn figures_at_the_operating_point_are_what_one_counts_by_hand() {
        let r = evaluate(&protocol(), &records(), &[], 0.5).unwrap();
        // Found at 0.5: 0.9, 0.6, 0.95, 0.8; the mark of 0.3 is below, one nodule has none. False: 0.7 and 0.55.
        assert_eq!((r.detection.found, r.counts.nodules, r.detection.false_positives), (4, 6, 2));
        assert_eq!(r.detection.sensitivity.value, Some(4.0 / 6.0));
        assert_eq!(r.detection.fp_per_scan.value, Some(0.5));
        // Malignant 0.8, 0 (missed), 0.9 against benign 0.2, 0 (below), 0.3: pairs 3 + (0 + 0.5 + 0) + 3 of 9.
        assert!((r.malignancy.auc.value.unwrap() - 6.5 / 9.0).abs() < 1e-12);
        // Separated, with two cases of each kind: 2 of 2 by Clopper-Pearson, 0.025^(1/2).
        assert_eq!(r.malignancy.auc_found.value, Some(1.0));
        assert!((r.malignancy.auc_found.ci.unwrap()[0] - 0.025f64.sqrt()).abs() < 1e-9);
        assert_eq!((r.malignancy.nodules, r.malignancy.malignant, r.malignancy.found), (6, 3, 4));
        assert!((r.lungs.dice_left.value.unwrap() - 0.96).abs() < 1e-12);
        assert_eq!(r.seconds.total.value, Some(7.0));
    }

    #[verifies("FR-004")]
    #[test]
    fn groups_add_up_to_the_whole() {
        let r = evaluate(&protocol(), &records(), &[], 0.5).unwrap();
        let strata = r.strata.iter().map(|stratum| &stratum.groups);
        for groups in [&r.centres, &r.sizes, &r.kinds].into_iter().chain(strata) {
            assert_eq!(groups.iter().map(|g| g.nodules).sum::<usize>(), r.counts.nodules);
            assert_eq!(groups.iter().map(|g| g.found).sum::<usize>(), r.detection.found);
        }
        let centres: Vec<_> = r.centres.iter().map(|c| (c.nodules, c.found, c.fp_per_scan.unwrap().value)).collect();
        assert_eq!(centres, [(4, 2, Some(0.5)), (2, 2, Some(0.5))]);
        assert_eq!(r.heterogeneity.unwrap().centres, 2);
        assert!(r.sizes.iter().all(|g| g.descriptive));
    }

    #[verifies("FR-004")]
    #[test]
    fn none_missed_is_no_proof() {
        let all_found: Vec<ScanRecord> =
            (0..5).map(|i| scan(i, "coast-hospital", &[(10.0, true, Some((0.9, 0.8)))], &[])).collect();
        let r = evaluate(&protocol(), &all_found, &[], 0.5).unwrap();
        // Clopper-Pearson for 5 of 5: 0.025^(1/5) = 0.478; Garwood for none in 5 scans: 3.689 / 5.
        let [low, high] = r.detection.sensitivity.ci.unwrap();
        assert!((low - 0.025f64.powf(0.2)).abs() < 1e-9 && high == 1.0);
        assert!((r.detection.fp_per_scan.ci.unwrap()[1] - 3.6889 / 5.0).abs() < 1e-4);
        // One class only: no AUC, and a criterion on it is not met.
        assert_eq!(r.malignancy.auc.value, None);
        let auc = r.criteria.iter().find(|c| c.metric == Metric::Auc).unwrap();
        assert!(!auc.met && auc.value.is_none());
    }

    #[verifies("FR-004", "SW-1102")]
    #[test]
    fn a_criterion_is_decided_by_its_bound_and_not_by_the_point() {
        let mut protocol = protocol();
        let template = protocol.endpoints.primary.criteria[0].clone();
        let of = |metric, on, op, limit, diameter_at_least_mm| Criterion {
            metric,
            on,
            op,
            limit,
            diameter_at_least_mm,
            ..template.clone()
        };
        protocol.endpoints.primary.criteria = vec![
            of(Metric::Sensitivity, On::Value, Op::AtLeast, 0.75, 6.0),
            of(Metric::Sensitivity, On::CiLower, Op::AtLeast, 0.75, 6.0),
            of(Metric::FalsePositives, On::CiUpper, Op::AtMost, 0.5, 0.0),
            of(Metric::Segment, On::CiUpper, Op::AtMost, 2.0, 0.0),
        ];
        let r = evaluate(&protocol, &records(), &[], 0.5).unwrap();
        // Of 6 mm and more: 10, 8 (missed), 12, 7.
        assert_eq!((r.criteria[0].value, r.criteria[0].n), (Some(0.75), 4));
        assert_eq!(r.criteria.iter().map(|c| c.met).collect::<Vec<_>>(), [true, false, false, true]);
        for c in &r.criteria {
            let [low, high] = c.ci.unwrap();
            assert!(low <= c.value.unwrap() && c.value.unwrap() <= high);
        }
    }

    #[test]
    fn the_same_records_give_the_same_bytes() {
        let once = || serde_json::to_string(&evaluate(&protocol(), &records(), &[], 0.5).unwrap()).unwrap();
        assert_eq!(once(), once());
    }
}
