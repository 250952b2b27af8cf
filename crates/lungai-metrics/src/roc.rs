//! ROC: how well a score separates two groups.

use crate::error::{at_least, deviate, finite};
use crate::{Interval, MetricsError, normal_two_sided_p, t_two_sided_p};
use lungai_trace::implements;
use rayon::prelude::*;

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
    /// One-sided p-value of the first area being larger.
    pub p_greater: f64,
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

/// Two scores on different cases.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UnpairedAuc {
    /// First area minus second.
    pub difference: f64,
    /// Interval of the difference, by t.
    pub interval: Interval,
    /// Difference over its standard error.
    pub t: f64,
    /// Welch and Satterthwaite's degrees of freedom.
    pub df: f64,
    /// Two-sided p-value.
    pub p: f64,
}

/// The part of a ROC curve that counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Part {
    /// Between two specificities: the mean sensitivity there, times their distance.
    Specificity(Interval),
    /// Between two sensitivities: the mean specificity there, times their distance.
    Sensitivity(Interval),
}

/// Area under a part of a ROC curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PartialAuc {
    /// The area.
    pub value: f64,
    /// McClish's standardisation (Med Decis Making 1989;9:190): 0.5 for the area that chance gives in this part, 1 for the
    /// largest one.
    pub standardised: f64,
}

/// DeLong, DeLong and Clarke-Pearson, Biometrics 1988;44:837, in n log n by ranks (Sun and Xu, IEEE Signal Process
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
    let p_greater = 0.5 * libm::erfc(z / std::f64::consts::SQRT_2);
    Ok(PairedAuc { difference, interval, z, p: normal_two_sided_p(z), p_greater })
}

/// DeLong's test of two areas on different cases: t with Welch and Satterthwaite's degrees of freedom, a group's size
/// being all its cases, as pROC's.
///
/// # Errors
/// Neither area has a variance, or a level outside `0..1`.
#[implements("FR-005")]
pub fn compare_unpaired(first: &Auc, second: &Auc, level: f64) -> Result<UnpairedAuc, MetricsError> {
    deviate(level)?;
    let variance = first.variance + second.variance;
    if variance <= 0.0 {
        return Err(MetricsError::NoVariation);
    }
    let cases = |auc: &Auc| (auc.positives + auc.negatives) as f64;
    let part = |auc: &Auc| auc.variance.powi(2) / (cases(auc) - 1.0);
    let df = variance.powi(2) / (part(first) + part(second));
    let difference = first.value - second.value;
    let t = difference / variance.sqrt();
    let half = crate::t_quantile(0.5 + level / 2.0, df) * variance.sqrt();
    Ok(UnpairedAuc { difference, interval: [difference - half, difference + half], t, df, p: t_two_sided_p(t, df) })
}

/// Area under a part of the curve, with straight lines between its points.
///
/// # Errors
/// Lists of different length, a score that is not finite, a group without cases, limits that are not ascending within `0..=1`.
#[implements("FR-005")]
pub fn partial_auc(scores: &[f64], positive: &[bool], part: Part) -> Result<PartialAuc, MetricsError> {
    check(scores, positive, 1)?;
    Ranked::new(scores, positive)?.partial(part, |_| 1.0)?.ok_or(MetricsError::NoVariation)
}

/// Cases by falling score, sorted once and then evaluated for any weights: what makes thousands of resamplings cheap.
#[derive(Debug, Clone)]
pub struct Ranked {
    /// Case, whether it is positive, and whether it is the last one of its score.
    steps: Vec<(u32, bool, bool)>,
}

impl Ranked {
    /// Sorts.
    ///
    /// # Errors
    /// Lists of different length, a score that is not finite.
    pub fn new(scores: &[f64], positive: &[bool]) -> Result<Self, MetricsError> {
        same_length(scores, positive)?;
        scores.iter().try_for_each(|score| finite("a score", *score).map(drop))?;
        let mut order: Vec<(u64, u32)> = scores.iter().map(|score| !ascending(*score)).zip(0u32..).collect();
        order.par_sort_unstable();
        let last = |i: usize| order.get(i + 1).is_none_or(|next| next.0 != order[i].0);
        let steps = order.iter().enumerate().map(|(i, (_, case))| (*case, positive[*case as usize], last(i)));
        Ok(Self { steps: steps.collect() })
    }

    /// Area when case `i` counts `weight(i)` times; `None` where a group is left without weight.
    pub fn auc(&self, weight: impl Fn(usize) -> f64) -> Option<f64> {
        let (mut positives, mut negatives) = (0.0, 0.0); // above this score
        let (mut tied_positives, mut tied_negatives) = (0.0, 0.0);
        let mut won = 0.0;
        for (case, positive, last) in &self.steps {
            let weight = weight(*case as usize);
            if *positive {
                tied_positives += weight
            } else {
                tied_negatives += weight
            }
            if *last {
                won += tied_negatives * (positives + 0.5 * tied_positives);
                positives += tied_positives;
                negatives += tied_negatives;
                (tied_positives, tied_negatives) = (0.0, 0.0);
            }
        }
        (positives > 0.0 && negatives > 0.0).then(|| won / (positives * negatives))
    }

    /// Weight of negatives and of positives down to each score, from none on; and of all positives and all negatives.
    fn accumulated(&self, weight: impl Fn(usize) -> f64) -> (Vec<(f64, f64)>, [f64; 2]) {
        let mut curve = vec![(0.0, 0.0)];
        let (mut positives, mut negatives) = (0.0, 0.0);
        for (case, positive, last) in &self.steps {
            let weight = weight(*case as usize);
            if *positive {
                positives += weight
            } else {
                negatives += weight
            }
            if *last {
                curve.push((negatives, positives));
            }
        }
        (curve, [positives, negatives])
    }

    /// Sensitivity at each false positive rate, ascending, when case `i` counts `weight(i)` times; on the straight lines between
    /// the points of the curve, and the upper end of a vertical one. `None` where a group is left without weight.
    pub fn sensitivity_at(&self, rates: &[f64], weight: impl Fn(usize) -> f64) -> Option<Vec<f64>> {
        let (curve, [positives, negatives]) = self.accumulated(weight);
        if positives == 0.0 || negatives == 0.0 {
            return None;
        }
        let point = |i: usize| curve.get(i).map(|(x, y)| (x / negatives, y / positives));
        let mut segment = 0;
        let mut here = (0.0, 0.0);
        let read = |rate: &f64| {
            while let Some(next) = point(segment + 1).filter(|next| next.0 <= *rate) {
                (segment, here) = (segment + 1, next);
            }
            let (x, y) = here;
            point(segment + 1).map_or(y, |(next_x, next_y)| y + (rate - x) / (next_x - x) * (next_y - y))
        };
        Some(rates.iter().map(read).collect())
    }

    /// Area under a part of the curve when case `i` counts `weight(i)` times; `None` where a group is left without weight.
    ///
    /// # Errors
    /// Limits that are not ascending within `0..=1`.
    pub fn partial(&self, part: Part, weight: impl Fn(usize) -> f64) -> Result<Option<PartialAuc>, MetricsError> {
        let (Part::Specificity([low, high]) | Part::Sensitivity([low, high])) = part;
        if !(0.0 <= low && low < high && high <= 1.0) {
            let what = "the lower limit of a partial area";
            return Err(MetricsError::Range {
                what,
                value: low,
                range: "from 0 to below the upper one, that at most 1",
            });
        }
        let (curve, [positives, negatives]) = self.accumulated(weight);
        if positives <= 0.0 || negatives <= 0.0 {
            return Ok(None);
        }
        // What is integrated, over ascending x from `from` to `to`; `chance` is the area under the diagonal there.
        let (from, to, points): (f64, f64, Vec<(f64, f64)>) = match part {
            Part::Specificity(_) => {
                (1.0 - high, 1.0 - low, curve.iter().map(|(n, p)| (n / negatives, p / positives)).collect())
            }
            Part::Sensitivity(_) => {
                (low, high, curve.iter().map(|(n, p)| (p / positives, 1.0 - n / negatives)).collect())
            }
        };
        let largest = to - from;
        let below_diagonal = (to * to - from * from) / 2.0;
        let chance = if matches!(part, Part::Specificity(_)) { below_diagonal } else { largest - below_diagonal };
        let mut value = 0.0;
        for pair in points.windows(2) {
            let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
            let (a, b) = (x0.max(from), x1.min(to));
            if a < b {
                let at = |x: f64| y0 + (y1 - y0) * (x - x0) / (x1 - x0);
                value += (b - a) * (at(a) + at(b)) / 2.0;
            }
        }
        Ok(Some(PartialAuc { value, standardised: 0.5 * (1.0 + (value - chance) / (largest - chance)) }))
    }

    /// Average precision when case `i` counts `weight(i)` times: precision at each score, weighted by the positives found there,
    /// over `positives` in all, also those that no score stands for. No interpolation, as scikit-learn's.
    pub fn average_precision(&self, positives: f64, weight: impl Fn(usize) -> f64) -> Option<f64> {
        let (mut found, mut called, mut tied, mut sum) = (0.0, 0.0, 0.0, 0.0);
        for (case, positive, last) in &self.steps {
            let weight = weight(*case as usize);
            called += weight;
            if *positive {
                tied += weight;
            }
            if *last {
                found += tied;
                if tied > 0.0 {
                    sum += tied * found / called;
                }
                tied = 0.0;
            }
        }
        (positives > 0.0).then(|| sum / positives)
    }
}

/// Average precision: the area under the precision-recall curve as a sum of steps.
///
/// # Errors
/// Lists of different length, a score that is not finite, no positive case.
#[implements("FR-005")]
pub fn average_precision(scores: &[f64], positive: &[bool]) -> Result<f64, MetricsError> {
    let ranked = Ranked::new(scores, positive)?;
    let positives = positive.iter().filter(|p| **p).count();
    at_least("positive cases", positives, 1)?;
    ranked.average_precision(positives as f64, |_| 1.0).ok_or(MetricsError::NoVariation)
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

impl Confusion {
    /// Share of positive cases that are called so; `None` without any.
    pub fn sensitivity(&self) -> Option<f64> {
        share(self.true_positives, self.false_negatives)
    }

    /// Share of negative cases that are called so; `None` without any.
    pub fn specificity(&self) -> Option<f64> {
        share(self.true_negatives, self.false_positives)
    }

    /// Positive and negative predictive value where the share `prevalence` of cases is positive, by Bayes' rule: those of this
    /// sample hold only where its mix of cases does. `None` where a group is empty or nothing is called so.
    ///
    /// # Errors
    /// A prevalence outside `0..=1`.
    #[implements("FR-005")]
    pub fn predictive_values(&self, prevalence: f64) -> Result<[Option<f64>; 2], MetricsError> {
        if !(0.0..=1.0).contains(&prevalence) {
            return Err(MetricsError::Range { what: "a prevalence", value: prevalence, range: "from 0 to 1" });
        }
        let (Some(sensitivity), Some(specificity)) = (self.sensitivity(), self.specificity()) else {
            return Ok([None, None]);
        };
        let of = |right: f64, wrong: f64| (right + wrong > 0.0).then(|| right / (right + wrong));
        Ok([
            of(sensitivity * prevalence, (1.0 - specificity) * (1.0 - prevalence)),
            of(specificity * (1.0 - prevalence), (1.0 - sensitivity) * prevalence),
        ])
    }
}

fn share(yes: usize, no: usize) -> Option<f64> {
    (yes + no > 0).then(|| yes as f64 / (yes + no) as f64)
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

/// Placements of positive and of negative cases; scores may be infinite.
pub(crate) fn placements(scores: &[f64], positive: &[bool]) -> [Vec<f64>; 2] {
    let Placements { of_positives, of_negatives, .. } = Placements::of(scores, positive);
    [of_positives, of_negatives]
}

impl Placements {
    fn new(scores: &[f64], positive: &[bool]) -> Result<Self, MetricsError> {
        check(scores, positive, 2)?;
        Ok(Self::of(scores, positive))
    }

    /// One sort: of every tied score it is enough to know how many of the other group lie below and beside it.
    fn of(scores: &[f64], positive: &[bool]) -> Self {
        let mut order: Vec<(u64, u32)> = scores.iter().map(|score| ascending(*score)).zip(0u32..).collect();
        order.par_sort_unstable();
        let positives = positive.iter().filter(|p| **p).count();
        let (m, n) = (positives as f64, (positive.len() - positives) as f64);
        let mut placement = vec![0.0; scores.len()];
        let (mut positives_below, mut negatives_below) = (0, 0);
        for tied in order.chunk_by(|a, b| a.0 == b.0) {
            let positives = tied.iter().filter(|(_, case)| positive[*case as usize]).count();
            let negatives = tied.len() - positives;
            let of_positive = (negatives_below as f64 + negatives as f64 / 2.0) / n;
            let of_negative = 1.0 - (positives_below as f64 + positives as f64 / 2.0) / m;
            for (_, case) in tied {
                placement[*case as usize] = if positive[*case as usize] { of_positive } else { of_negative };
            }
            positives_below += positives;
            negatives_below += negatives;
        }
        let group = |which: bool| -> Vec<f64> {
            placement.iter().zip(positive).filter(|(_, p)| **p == which).map(|(value, _)| *value).collect()
        };
        let of_positives = group(true);
        Self { auc: of_positives.iter().sum::<f64>() / m, of_positives, of_negatives: group(false) }
    }

    fn covariance(&self, other: &Self) -> f64 {
        sample_covariance(&self.of_positives, &other.of_positives) / self.of_positives.len() as f64
            + sample_covariance(&self.of_negatives, &other.of_negatives) / self.of_negatives.len() as f64
    }
}

/// The number's bits, turned so that they sort as the numbers do; minus zero is zero.
fn ascending(value: f64) -> u64 {
    let bits = (value + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
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

    #[verifies("FR-005")]
    #[test]
    fn a_curve_is_read_on_its_straight_lines() {
        let ranked = Ranked::new(&[0.9, 0.7, 0.7, 0.4, 0.1], &[true, true, false, false, false]).unwrap();
        let at = |rates: &[f64], weights: [u8; 5]| ranked.sensitivity_at(rates, |case| f64::from(weights[case]));
        // (0, 0), (0, 1/2), (1/3, 1), (2/3, 1), (1, 1): vertical first, then the tie's slope.
        assert_eq!(at(&[0.0, 1.0 / 6.0, 0.5, 1.0], [1; 5]).unwrap(), [0.5, 0.75, 1.0, 1.0]);
        // The tied negative is not drawn, the first positive twice: (0, 1) at once.
        assert_eq!(at(&[0.0], [2, 1, 0, 1, 1]).unwrap(), [1.0]);
        assert_eq!(at(&[0.0], [1, 1, 0, 0, 0]), None);
        assert!(Ranked::new(&[f64::NAN], &[true]).is_err());
    }

    #[verifies("FR-005")]
    #[test]
    fn predictive_values_follow_the_prevalence() {
        // Sensitivity 0.9, specificity 0.8; of 1000 screened 10 are ill: 9 of 9 + 198 called ill are.
        let c = Confusion { true_positives: 90, false_negatives: 10, true_negatives: 80, false_positives: 20 };
        let [ppv, npv] = c.predictive_values(0.01).unwrap();
        assert!((ppv.unwrap() - 9.0 / 207.0).abs() < 1e-15 && (npv.unwrap() - 792.0 / 793.0).abs() < 1e-15);
        let [ppv, _] = c.predictive_values(0.5).unwrap(); // as in the sample: 90 of 110
        assert!((ppv.unwrap() - 90.0 / 110.0).abs() < 1e-15);
        assert!(c.predictive_values(1.5).is_err());
        assert_eq!(Confusion::default().predictive_values(0.5), Ok([None, None]));
    }

    #[verifies("FR-005")]
    #[test]
    fn a_part_of_the_curve_is_standardised_between_chance_and_perfection() {
        // Positives 3, 2; negatives 2, 1: points (0, 0), (0, 0.5), (0.5, 1), (1, 1).
        let (s, p) = ([3.0, 2.0, 2.0, 1.0], [true, true, false, false]);
        let part = partial_auc(&s, &p, Part::Specificity([0.5, 1.0])).unwrap();
        assert!((part.value - 0.375).abs() < 1e-15);
        assert!((part.standardised - 0.5 * (1.0 + (0.375 - 0.125) / 0.375)).abs() < 1e-15);
        // Sensitivity from 0.5 to 1: specificity falls from 1 to 0.5, mean 0.75.
        let part = partial_auc(&s, &p, Part::Sensitivity([0.5, 1.0])).unwrap();
        assert!((part.value - 0.375).abs() < 1e-15);
        let all = partial_auc(&s, &p, Part::Specificity([0.0, 1.0])).unwrap();
        assert_eq!((all.value, all.standardised), (0.875, 0.875));
        assert!(partial_auc(&s, &p, Part::Specificity([0.9, 0.9])).is_err());
    }

    #[verifies("FR-005")]
    #[test]
    fn average_precision_is_that_of_scikit_learn() {
        // Its own example: 0.83. Ranks 1 and 3 are positive: (1 + 2/3) / 2.
        let ap = average_precision(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]).unwrap();
        assert!((ap - (1.0 + 2.0 / 3.0) / 2.0).abs() < 1e-15);
        // Tied: both positives and the negative come at once, 2 of 3.
        assert!((average_precision(&[0.5; 3], &[true, true, false]).unwrap() - 2.0 / 3.0).abs() < 1e-15);
        assert!(average_precision(&[0.5], &[false]).is_err());
    }

    proptest! {
        #[test]
        fn weights_stand_for_copies(
            cases in prop::collection::vec((0u8..6, any::<bool>(), 0u32..3), 2..20),
        ) {
            let scores: Vec<f64> = cases.iter().map(|c| f64::from(c.0)).collect();
            let truth: Vec<bool> = cases.iter().map(|c| c.1).collect();
            let copies: Vec<usize> =
                cases.iter().enumerate().flat_map(|(i, c)| std::iter::repeat_n(i, c.2 as usize)).collect();
            let copied = Ranked::new(
                &copies.iter().map(|i| scores[*i]).collect::<Vec<_>>(),
                &copies.iter().map(|i| truth[*i]).collect::<Vec<_>>(),
            ).unwrap();
            let ranked = Ranked::new(&scores, &truth).unwrap();
            let weight = |i: usize| f64::from(cases[i].2);
            let positives: f64 = cases.iter().filter(|c| c.1).map(|c| f64::from(c.2)).sum();
            let part = Part::Specificity([0.25, 0.8]);
            let same = |a: Option<f64>, b: Option<f64>| match (a, b) {
                (Some(a), Some(b)) => (a - b).abs() < 1e-12,
                (a, b) => a.is_none() && b.is_none(),
            };
            prop_assert!(same(ranked.auc(weight), copied.auc(|_| 1.0)));
            let ap = |r: &Ranked, w: &dyn Fn(usize) -> f64| r.average_precision(positives, w);
            prop_assert!(same(ap(&ranked, &weight), ap(&copied, &|_| 1.0)));
            let area = |p: Result<Option<PartialAuc>, MetricsError>| p.unwrap().map(|p| p.value);
            prop_assert!(same(area(ranked.partial(part, weight)), area(copied.partial(part, |_| 1.0))));
        }

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

        #[test]
        fn a_curve_rises(cases in prop::collection::vec((0u8..6, any::<bool>(), 0u32..3), 2..40)) {
            let scores: Vec<f64> = cases.iter().map(|c| f64::from(c.0)).collect();
            let truth: Vec<bool> = cases.iter().map(|c| c.1).collect();
            let weights: Vec<u32> = cases.iter().map(|c| c.2).collect();
            let ranked = Ranked::new(&scores, &truth).unwrap();
            let rates: Vec<f64> = (0..=20).map(|i| f64::from(i) / 20.0).collect();
            if let Some(at) = ranked.sensitivity_at(&rates, |case| f64::from(weights[case])) {
                prop_assert!(at.windows(2).all(|pair| pair[0] <= pair[1] + 1e-12));
                prop_assert!(at.iter().all(|v| (0.0..=1.0 + 1e-12).contains(v)) && at[20] > 1.0 - 1e-12);
            }
        }
    }
}
