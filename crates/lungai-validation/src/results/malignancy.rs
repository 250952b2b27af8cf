//! Rating nodules: ranking, decisions, calibration, and what is left at equal size.

use super::{AtRate, Evaluation, Figure, Scored, widest};
use lungai_metrics::calibration::{Binned, Bins, calibration_line, reliability};
use lungai_metrics::proportion::proportion;
use lungai_metrics::roc::Ranked;
use lungai_metrics::roc_band::{MatchedPairs, roc_band};
use lungai_metrics::{Interval, roc};
use serde::Serialize;

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
    /// Malignant ones among the found ones.
    pub malignant_found: usize,
    /// Of `auc`: false positive rate, sensitivity and its band over patients.
    pub band: Vec<AtRate>,
    /// Decisions at the protocol's probability, missed nodules not called malignant; absent where there are no nodules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Confusion>,
    /// Found nodules by stated probability.
    pub reliability: Vec<ReliabilityBin>,
    /// Slope, and calibration in the large, of found nodules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration_line: Option<[f64; 2]>,
    /// What is left at equal size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_matched: Option<SizeMatched>,
}

/// Decisions at one threshold; each figure with its counts, part first.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Confusion {
    /// Malignant ones that were called so.
    pub sensitivity: Figure,
    /// Their counts.
    pub of_malignant: [usize; 2],
    /// Benign ones that were not.
    pub specificity: Figure,
    /// Their counts.
    pub of_benign: [usize; 2],
    /// Called ones that are malignant.
    pub ppv: Figure,
    /// Their counts.
    pub of_called: [usize; 2],
    /// Ones that were not called and are benign.
    pub npv: Figure,
    /// Their counts.
    pub of_not_called: [usize; 2],
    /// Right ones.
    pub accuracy: Figure,
    /// Their counts.
    pub of_all: [usize; 2],
    /// PPV and NPV at each of the protocol's prevalences, by Bayes' rule from sensitivity and specificity.
    pub at_prevalence: Vec<AtPrevalence>,
}

/// What a call is worth where so many nodules are malignant.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AtPrevalence {
    /// Share of malignant ones.
    pub prevalence: f64,
    /// Called ones that are malignant there.
    pub ppv: Figure,
    /// Ones that were not called and are benign there.
    pub npv: Figure,
}

/// Nodules of like probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ReliabilityBin {
    /// Lower edge.
    pub from: f64,
    /// Upper edge.
    pub to: f64,
    /// Nodules.
    pub nodules: usize,
    /// Malignant ones.
    pub malignant: usize,
    /// Mean stated probability.
    pub stated: f64,
    /// Share of malignant ones.
    pub observed: f64,
    /// Wilson's interval of it.
    pub interval: Interval,
}

/// AUC over pairs whose reference diameters are alike, beside what the diameter alone gives.
#[derive(Debug, Clone, Serialize)]
pub struct SizeMatched {
    /// Pairs of a malignant and a benign nodule.
    pub pairs: usize,
    /// Of the probability, missed nodules scoring 0.
    pub auc: Figure,
    /// Of the diameter, over all pairs.
    pub auc_of_size: Figure,
    /// Of the diameter, over pairs alike: near one half where matching did its work.
    pub matched_auc_of_size: Figure,
}

impl Evaluation<'_> {
    /// A system that rates no mark was not asked about malignancy; that its nodules score 0 would be an invention.
    fn rates_malignancy(&self) -> bool {
        self.records.iter().flat_map(|r| &r.marks).any(|mark| mark.malignancy.is_some())
    }

    pub(super) fn malignancy(&self) -> Malignancy {
        if !self.rates_malignancy() {
            return Malignancy::default();
        }
        let known: Vec<&Scored<'_>> = self.scored.iter().filter(|n| n.malignant.is_some()).collect();
        let found: Vec<&Scored<'_>> = known.iter().copied().filter(|n| n.mark.is_some()).collect();
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
            malignant_found: diagnoses.iter().filter(|t| **t).count(),
            band: self.roc_band(&known),
            confusion: self.confusion(&known),
            reliability: self.reliability(&probabilities, &diagnoses),
            calibration_line: calibration(&probabilities, &diagnoses),
            size_matched: self.size_matched(&known),
        }
    }

    /// Pointwise, at 101 rates.
    fn roc_band(&self, known: &[&Scored<'_>]) -> Vec<AtRate> {
        let rates: Vec<f64> = (0..=100).map(|i| f64::from(i) / 100.0).collect();
        let (scores, truths, scans) = cases(known);
        let band = Ranked::new(&scores, &truths)
            .and_then(|ranked| roc_band(&ranked, &scans, &self.draws, &rates, self.level()));
        let points = rates.iter().zip(band.unwrap_or_default());
        points.map(|(rate, (sensitivity, ci))| AtRate { rate: *rate, sensitivity, ci, threshold: None }).collect()
    }

    fn reliability(&self, probabilities: &[f64], diagnoses: &[bool]) -> Vec<ReliabilityBin> {
        let bins = Bins::EqualWidth(self.protocol.calibration_bins);
        let points = reliability(probabilities, diagnoses, bins, self.level()).unwrap_or_default();
        let bin = |p: &lungai_metrics::calibration::ReliabilityPoint| ReliabilityBin {
            from: p.range[0],
            to: p.range[1],
            nodules: p.cases,
            malignant: p.positives,
            stated: p.stated,
            observed: p.observed,
            interval: p.interval,
        };
        points.iter().map(bin).collect()
    }

    fn confusion(&self, known: &[&Scored<'_>]) -> Option<Confusion> {
        // Of each scan: cases that are in the part, and in the whole.
        let share = |part: &dyn Fn(bool, bool) -> bool, whole: &dyn Fn(bool, bool) -> bool| -> (Figure, [usize; 2]) {
            let mut of_scan = vec![[0u32; 2]; self.records.len()];
            for nodule in known {
                let (malignant, called) =
                    (nodule.malignant == Some(true), score(nodule) >= self.protocol.malignant_from);
                of_scan[nodule.scan][0] += u32::from(whole(malignant, called) && part(malignant, called));
                of_scan[nodule.scan][1] += u32::from(whole(malignant, called));
            }
            let sum = |i: usize| of_scan.iter().map(|s| s[i] as usize).sum();
            (self.share(&of_scan), [sum(0), sum(1)])
        };
        if known.is_empty() {
            return None;
        }
        let (sensitivity, of_malignant) = share(&|_, called| called, &|malignant, _| malignant);
        let (specificity, of_benign) = share(&|_, called| !called, &|malignant, _| !malignant);
        let (ppv, of_called) = share(&|malignant, _| malignant, &|_, called| called);
        let (npv, of_not_called) = share(&|malignant, _| !malignant, &|_, called| !called);
        let (accuracy, of_all) = share(&|malignant, called| malignant == called, &|_, _| true);
        let at_prevalence = self.protocol.prevalences.iter().map(|p| self.at_prevalence(known, *p)).collect();
        Some(Confusion {
            at_prevalence,
            sensitivity,
            of_malignant,
            specificity,
            of_benign,
            ppv,
            of_called,
            npv,
            of_not_called,
            accuracy,
            of_all,
        })
    }

    fn at_prevalence(&self, known: &[&Scored<'_>], prevalence: f64) -> AtPrevalence {
        let values = |weights: &[u32]| -> [Option<f64>; 2] {
            let mut counts = roc::Confusion::default();
            for nodule in known {
                let called = score(nodule) >= self.protocol.malignant_from;
                let count = match (nodule.malignant == Some(true), called) {
                    (true, true) => &mut counts.true_positives,
                    (true, false) => &mut counts.false_negatives,
                    (false, true) => &mut counts.false_positives,
                    (false, false) => &mut counts.true_negatives,
                };
                *count += weights[nodule.scan] as usize;
            }
            // The protocol was checked: a prevalence is one.
            counts.predictive_values(prevalence).unwrap_or_default()
        };
        let figure = |i: usize| match values(&vec![1; self.records.len()])[i] {
            Some(value) => {
                let ci = self.bootstrap(value, |weights| values(weights)[i]);
                Figure { value: Some(value), ci, n: known.len() }
            }
            None => Figure::default(),
        };
        AtPrevalence { prevalence, ppv: figure(0), npv: figure(1) }
    }

    fn size_matched(&self, known: &[&Scored<'_>]) -> Option<SizeMatched> {
        let (scores, truths, scans) = cases(known);
        let sizes: Vec<f64> = known.iter().map(|n| n.diameter_mm).collect();
        let ratio = self.protocol.alike_diameter_ratio;
        let area = |scores: &[f64], ratio: f64| -> Option<(usize, Figure)> {
            let pairs = MatchedPairs::new(scores, &truths, &sizes, &scans, ratio).ok()?;
            let value = pairs.auc(&vec![1; self.records.len()])?;
            let ci = self.bootstrap(value, |weights| pairs.auc(weights));
            Some((pairs.len(), Figure { value: Some(value), ci, n: known.len() }))
        };
        let (pairs, auc) = area(&scores, ratio)?;
        let (_, auc_of_size) = area(&sizes, f64::MAX)?;
        let (_, matched_auc_of_size) = area(&sizes, ratio)?;
        Some(SizeMatched { pairs, auc, auc_of_size, matched_auc_of_size })
    }

    /// Of found nodules with a diagnosis.
    pub(super) fn calibration_error(&self, found: &[&Scored<'_>]) -> Figure {
        if !self.rates_malignancy() {
            return Figure::default();
        }
        let (probabilities, diagnoses): (Vec<f64>, Vec<bool>) = found
            .iter()
            .map(|n| (n.mark.and_then(|mark| mark.malignancy).unwrap_or(0.0), n.malignant == Some(true)))
            .unzip();
        let binned = Binned::new(&probabilities, &diagnoses, self.protocol.calibration_bins).ok();
        let error = |weights: &[u32]| binned.as_ref()?.error(|i| f64::from(weights[found[i].scan]));
        let value = error(&vec![1; self.records.len()]);
        Figure { value, ci: value.and_then(|value| self.bootstrap(value, error)), n: found.len() }
    }

    /// The wider of DeLong's interval and the patient bootstrap's.
    pub(super) fn auc(&self, nodules: &[&Scored<'_>]) -> Figure {
        let n = nodules.len();
        if !self.rates_malignancy() {
            return Figure::default();
        }
        let (scores, truths, scans) = cases(nodules);
        let (Ok(auc), Ok(ranked)) = (roc::auc(&scores, &truths, self.level()), Ranked::new(&scores, &truths)) else {
            return Figure { n, ..Figure::default() };
        };
        let drawn = self.bootstrap(auc.value, |weights| ranked.auc(|case| f64::from(weights[scans[case]])));
        // Complete separation has neither variance nor another draw. But as many pairs as the smaller group has cases share
        // no case, so that each is a trial of its own which is won with the probability that the AUC is.
        let pairs = auc.positives.min(auc.negatives);
        let interval = match proportion((auc.value * pairs as f64).round() as usize, pairs, self.level()) {
            Ok(exact) if auc.variance == 0.0 => exact.clopper_pearson,
            _ => auc.interval,
        };
        Figure { value: Some(auc.value), ci: widest(drawn, interval), n }
    }
}

/// Of the mark that found a nodule; 0 where none did.
fn score(nodule: &Scored<'_>) -> f64 {
    nodule.mark.and_then(|mark| mark.malignancy).unwrap_or(0.0)
}

/// Scores, truths and scans.
fn cases(nodules: &[&Scored<'_>]) -> (Vec<f64>, Vec<bool>, Vec<usize>) {
    let scores = nodules.iter().map(|n| score(n)).collect();
    let truths = nodules.iter().map(|n| n.malignant == Some(true)).collect();
    (scores, truths, nodules.iter().map(|n| n.scan).collect())
}

/// Slope and calibration in the large, where they exist.
fn calibration(probabilities: &[f64], diagnoses: &[bool]) -> Option<[f64; 2]> {
    // A probability of exactly 0 or 1 has no logit.
    let logit = |p: &f64| {
        let p = p.clamp(1e-6, 1.0 - 1e-6);
        (p / (1.0 - p)).ln()
    };
    let logits: Vec<f64> = probabilities.iter().map(logit).collect();
    calibration_line(&logits, diagnoses).ok().map(|line| [line.slope, line.in_the_large])
}
