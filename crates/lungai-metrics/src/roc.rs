//! ROC: how well a score separates two groups.

use crate::error::{at_least, deviate, finite};
use crate::{Interval, MetricsError, normal_two_sided_p};
use lungai_trace::implements;

pub use crate::calibration::{brier, calibration_error};

/// Area under the ROC curve with DeLong's variance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Auc {
    /// Probability that a positive case scores above a negative one; ties count half.
    pub value: f64,
    /// Variance of `value`. Zero where the groups are separated completely: the interval then says nothing.
    pub variance: f64,
    /// `value` -+ z standard errors, within `0..=1`.
    pub interval: Interval,
    /// Positive cases.
    pub positives: usize,
    /// Negative cases.
    pub negatives: usize,
}

/// Two scores on the same cases.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairedAuc {
    /// First area minus second.
    pub difference: f64,
    /// Interval of the difference.
    pub interval: Interval,
    /// Difference over its standard error.
    pub z: f64,
    /// Two-sided p-value.
    pub p: f64,
}

/// One threshold of a ROC curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RocPoint {
    /// Cases scored at least this are called positive; infinite at the first point.
    pub threshold: f64,
    /// Share of negative cases called positive.
    pub false_positive_rate: f64,
    /// Share of positive cases called positive.
    pub sensitivity: f64,
}

/// Cases by truth and call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Confusion {
    /// Positive, called positive.
    pub true_positives: usize,
    /// Negative, called positive.
    pub false_positives: usize,
    /// Negative, called negative.
    pub true_negatives: usize,
    /// Positive, called negative.
    pub false_negatives: usize,
}

/// DeLong, DeLong and Clarke-Pearson, Biometrics 1988;44:837, in n log n by midranks (Sun and Xu, IEEE Signal Process
/// Lett 2014;21:1389). Cases are taken as independent.
///
/// # Errors
/// Lists of different length, a score that is not finite, fewer than two cases of a group, a level outside `0..1`.
#[implements("FR-005")]
pub fn auc(scores: &[f64], positive: &[bool], level: f64) -> Result<Auc, MetricsError> {
    let z = deviate(level)?;
    let parts = Placements::new(scores, positive)?;
    let variance = parts.covariance(&parts);
    let half = z * variance.sqrt();
    Ok(Auc {
        value: parts.auc,
        variance,
        interval: [(parts.auc - half).max(0.0), (parts.auc + half).min(1.0)],
        positives: parts.of_positives.len(),
        negatives: parts.of_negatives.len(),
    })
}

/// DeLong's test of two scores on the same cases.
///
/// # Errors
/// As [`auc`]; also where the two scores order the cases alike, so that their difference has no variance.
#[implements("FR-005")]
pub fn compare(first: &[f64], second: &[f64], positive: &[bool], level: f64) -> Result<PairedAuc, MetricsError> {
    let deviate = deviate(level)?;
    let (a, b) = (Placements::new(first, positive)?, Placements::new(second, positive)?);
    let difference = a.auc - b.auc;
    let variance = a.covariance(&a) + b.covariance(&b) - 2.0 * a.covariance(&b);
    if variance <= 1e-15 {
        return Err(MetricsError::NoVariation);
    }
    let error = variance.sqrt();
    let z = difference / error;
    let interval = [difference - deviate * error, difference + deviate * error];
    Ok(PairedAuc { difference, interval, z, p: normal_two_sided_p(z) })
}

/// One point per distinct score, strictest first, after the point that calls nothing positive.
///
/// # Errors
/// Lists of different length, a score that is not finite, a group without cases.
pub fn curve(scores: &[f64], positive: &[bool]) -> Result<Vec<RocPoint>, MetricsError> {
    check(scores, positive, 1)?;
    let mut cases: Vec<(f64, bool)> = scores.iter().copied().zip(positive.iter().copied()).collect();
    cases.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = positive.iter().filter(|p| **p).count();
    let negatives = positive.len() - positives;
    let mut points = vec![RocPoint { threshold: f64::INFINITY, false_positive_rate: 0.0, sensitivity: 0.0 }];
    let (mut hits, mut alarms) = (0, 0);
    for tied in cases.chunk_by(|a, b| a.0 == b.0) {
        let tied_hits = tied.iter().filter(|case| case.1).count();
        hits += tied_hits;
        alarms += tied.len() - tied_hits;
        points.push(RocPoint {
            threshold: tied[0].0,
            false_positive_rate: alarms as f64 / negatives as f64,
            sensitivity: hits as f64 / positives as f64,
        });
    }
    Ok(points)
}

/// Cases scored at least `threshold` are called positive.
///
/// # Errors
/// Lists of different length.
pub fn confusion(scores: &[f64], positive: &[bool], threshold: f64) -> Result<Confusion, MetricsError> {
    same_length(scores, positive)?;
    let mut counts = Confusion::default();
    for (score, positive) in scores.iter().zip(positive) {
        match (*positive, *score >= threshold) {
            (true, true) => counts.true_positives += 1,
            (true, false) => counts.false_negatives += 1,
            (false, true) => counts.false_positives += 1,
            (false, false) => counts.true_negatives += 1,
        }
    }
    Ok(counts)
}

/// Share of the other group that each case is placed above (positives) or below (negatives).
struct Placements {
    auc: f64,
    of_positives: Vec<f64>,
    of_negatives: Vec<f64>,
}

impl Placements {
    fn new(scores: &[f64], positive: &[bool]) -> Result<Self, MetricsError> {
        check(scores, positive, 2)?;
        let group = |which: bool| -> Vec<f64> {
            scores.iter().zip(positive).filter(|(_, p)| **p == which).map(|(score, _)| *score).collect()
        };
        let (cases, controls) = (group(true), group(false));
        let among_all = midranks(scores);
        let mut all_of_cases = Vec::new();
        let mut all_of_controls = Vec::new();
        for (rank, positive) in among_all.iter().zip(positive) {
            if *positive { all_of_cases.push(*rank) } else { all_of_controls.push(*rank) }
        }
        let (m, n) = (cases.len() as f64, controls.len() as f64);
        let of_positives: Vec<f64> =
            all_of_cases.iter().zip(midranks(&cases)).map(|(all, own)| (all - own) / n).collect();
        let of_negatives =
            all_of_controls.iter().zip(midranks(&controls)).map(|(all, own)| 1.0 - (all - own) / m).collect();
        Ok(Self { auc: of_positives.iter().sum::<f64>() / m, of_positives, of_negatives })
    }

    fn covariance(&self, other: &Self) -> f64 {
        sample_covariance(&self.of_positives, &other.of_positives) / self.of_positives.len() as f64
            + sample_covariance(&self.of_negatives, &other.of_negatives) / self.of_negatives.len() as f64
    }
}

/// Rank of each value from 1, the mean rank where tied.
fn midranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for tied in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = before as f64 + (tied.len() + 1) as f64 / 2.0;
        tied.iter().for_each(|i| ranks[*i] = rank);
        before += tied.len();
    }
    ranks
}

fn sample_covariance(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len() as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    a.iter().zip(b).map(|(a, b)| (a - mean_a) * (b - mean_b)).sum::<f64>() / (n - 1.0)
}

pub(crate) fn same_length(scores: &[f64], positive: &[bool]) -> Result<(), MetricsError> {
    if scores.len() == positive.len() {
        Ok(())
    } else {
        Err(MetricsError::Length { what: "scores against truths", left: scores.len(), right: positive.len() })
    }
}

fn check(scores: &[f64], positive: &[bool], of_each: usize) -> Result<(), MetricsError> {
    same_length(scores, positive)?;
    scores.iter().try_for_each(|score| finite("a score", *score).map(drop))?;
    let positives = positive.iter().filter(|p| **p).count();
    at_least("positive cases", positives, of_each)?;
    at_least("negative cases", positive.len() - positives, of_each)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;
    use proptest::prelude::*;

    #[verifies("FR-005")]
    #[test]
    fn ties_count_half() {
        // Positives 3, 2; negatives 2, 1: the four pairs give 1, 1, 0.5, 1.
        let a = auc(&[3.0, 2.0, 2.0, 1.0], &[true, true, false, false], 0.95).unwrap();
        assert_eq!(a.value, 0.875);
        // Placements of positives 1, 0.75 and of negatives 0.75, 1: variance 2 * (0.03125 / 2).
        assert!((a.variance - 0.03125).abs() < 1e-15);
    }

    #[test]
    fn a_single_case_has_no_variance() {
        let error = auc(&[1.0, 2.0, 3.0], &[true, false, false], 0.95).unwrap_err();
        assert_eq!(error.to_string(), "positive cases: 1 found, at least 2 needed");
        assert!(auc(&[1.0, f64::NAN, 3.0, 4.0], &[true, false, false, true], 0.95).is_err());
    }

    #[test]
    fn a_score_compared_with_itself_has_no_test() {
        let (s, p) = ([1.0, 2.0, 3.0, 4.0], [false, true, false, true]);
        assert_eq!(compare(&s, &s, &p, 0.95), Err(MetricsError::NoVariation));
    }

    #[verifies("FR-005")]
    #[test]
    fn a_confusion_is_what_one_counts_by_hand() {
        let (p, truth) = ([0.9, 0.4, 0.2, 0.6], [true, true, false, false]);
        let c = confusion(&p, &truth, 0.5).unwrap();
        assert_eq!((c.true_positives, c.false_negatives, c.false_positives, c.true_negatives), (1, 1, 1, 1));
    }

    proptest! {
        #[test]
        fn the_area_is_that_of_all_pairs_and_of_the_curve(
            cases in prop::collection::vec((0u8..12, any::<bool>()), 4..40)
        ) {
            let scores: Vec<f64> = cases.iter().map(|c| f64::from(c.0)).collect();
            let truth: Vec<bool> = cases.iter().map(|c| c.1).collect();
            let count = truth.iter().filter(|t| **t).count();
            prop_assume!(count >= 2 && truth.len() - count >= 2);
            let a = auc(&scores, &truth, 0.95).unwrap();
            let mut pairs = 0.0;
            for (s, _) in scores.iter().zip(&truth).filter(|(_, t)| **t) {
                for (r, _) in scores.iter().zip(&truth).filter(|(_, t)| !**t) {
                    pairs += if s > r { 1.0 } else if s == r { 0.5 } else { 0.0 };
                }
            }
            prop_assert!((a.value - pairs / (count * (truth.len() - count)) as f64).abs() < 1e-12);
            let points = curve(&scores, &truth).unwrap();
            let trapezoids: f64 = points
                .windows(2)
                .map(|w| (w[1].false_positive_rate - w[0].false_positive_rate) * (w[0].sensitivity + w[1].sensitivity) / 2.0)
                .sum();
            prop_assert!((a.value - trapezoids).abs() < 1e-12);
            // Turning the score round mirrors the area and keeps the variance.
            let negated: Vec<f64> = scores.iter().map(|s| -s).collect();
            let b = auc(&negated, &truth, 0.95).unwrap();
            prop_assert!((a.value + b.value - 1.0).abs() < 1e-12 && (a.variance - b.variance).abs() < 1e-12);
        }
    }
}
