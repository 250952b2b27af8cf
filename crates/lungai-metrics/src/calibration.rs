//! Whether stated probabilities come true.

use crate::error::{at_least, finite};
use crate::proportion::proportion;
use crate::{Interval, MetricsError};
use lungai_trace::implements;

/// How probabilities are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bins {
    /// So many of equal width; a probability on an edge belongs to the upper one.
    EqualWidth(usize),
    /// So many of as equal a number of cases as ties allow: equal probabilities stay together.
    EqualCount(usize),
}

/// One point of a reliability curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReliabilityPoint {
    /// Lowest and highest probability of the bin: its edges for equal width, those that occur for equal counts.
    pub range: Interval,
    /// Cases.
    pub cases: usize,
    /// Positive ones among them.
    pub positives: usize,
    /// Mean stated probability.
    pub stated: f64,
    /// Share of positive cases.
    pub observed: f64,
    /// Wilson's interval of `observed`.
    pub interval: Interval,
}

/// Recalibration by logistic regression of the truth on the logit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CalibrationLine {
    /// 1 where the spread is right; below 1 the probabilities are too extreme.
    pub slope: f64,
    /// Intercept beside that slope.
    pub intercept: f64,
    /// Intercept with the slope held at 1: calibration in the large; above 0 the probabilities are too low.
    pub in_the_large: f64,
}

/// Mean squared difference of probability and truth: 0 is perfect, 0.25 is what a constant 0.5 gets
/// (Brier, Mon Weather Rev 1950;78:1).
///
/// # Errors
/// Lists of different length, no cases, a probability outside `0..=1`.
#[implements("FR-005")]
pub fn brier(probabilities: &[f64], positive: &[bool]) -> Result<f64, MetricsError> {
    check(probabilities, positive)?;
    let squares = probabilities.iter().zip(positive).map(|(p, positive)| (p - truth(*positive)).powi(2));
    Ok(squares.sum::<f64>() / probabilities.len() as f64)
}

/// Mean negative logarithm of the probability of what was true; probabilities are held within 1e-15 of 0 and 1, where it
/// would be infinite.
///
/// # Errors
/// As [`brier`].
#[implements("FR-005")]
pub fn log_loss(probabilities: &[f64], positive: &[bool]) -> Result<f64, MetricsError> {
    check(probabilities, positive)?;
    let loss = |p: f64, positive: bool| -if positive { p } else { 1.0 - p }.clamp(1e-15, 1.0 - 1e-15).ln();
    let sum: f64 = probabilities.iter().zip(positive).map(|(p, positive)| loss(*p, *positive)).sum();
    Ok(sum / probabilities.len() as f64)
}

/// Expected calibration error: mean distance between stated probability and observed share over `bins` equally wide bins,
/// weighted by their cases (Naeini et al., AAAI 2015:2901). Biased upwards where bins hold few cases.
///
/// # Errors
/// Lists of different length, no cases or bins, a probability outside `0..=1`.
#[implements("FR-005")]
pub fn calibration_error(probabilities: &[f64], positive: &[bool], bins: usize) -> Result<f64, MetricsError> {
    expected_error(probabilities, positive, Bins::EqualWidth(bins))
}

/// [`calibration_error`] over bins of a named kind.
///
/// # Errors
/// As [`calibration_error`].
pub fn expected_error(probabilities: &[f64], positive: &[bool], bins: Bins) -> Result<f64, MetricsError> {
    let gaps = grouped(probabilities, positive, bins)?;
    let sum: f64 = gaps.iter().map(|g| (g.stated - g.positives as f64).abs()).sum();
    Ok(sum / probabilities.len() as f64)
}

/// Cases in equally wide bins, found once: [`calibration_error`] for any weights.
#[derive(Debug, Clone)]
pub struct Binned {
    bins: usize,
    /// Bin, probability less truth.
    cases: Vec<(usize, f64)>,
}

impl Binned {
    /// Finds each case's bin.
    ///
    /// # Errors
    /// As [`calibration_error`].
    pub fn new(probabilities: &[f64], positive: &[bool], bins: usize) -> Result<Self, MetricsError> {
        check(probabilities, positive)?;
        at_least("bins of a calibration error", bins, 1)?;
        let case = |(p, positive): (&f64, &bool)| (bin(*p, bins), p - truth(*positive));
        Ok(Self { bins, cases: probabilities.iter().zip(positive).map(case).collect() })
    }

    /// The error when case `i` counts `weight(i)` times; `None` where no weight is left.
    pub fn error(&self, weight: impl Fn(usize) -> f64) -> Option<f64> {
        let (mut gaps, mut all) = (vec![0.0; self.bins], 0.0);
        for (i, (bin, gap)) in self.cases.iter().enumerate() {
            gaps[*bin] += weight(i) * gap;
            all += weight(i);
        }
        (all > 0.0).then(|| gaps.iter().map(|gap| gap.abs()).sum::<f64>() / all)
    }
}

/// The bin of a probability: one on an edge belongs to the upper bin, 1 to the last.
fn bin(p: f64, bins: usize) -> usize {
    ((p * bins as f64) as usize).min(bins - 1)
}

/// Largest distance between stated probability and observed share over bins that hold cases (same source as
/// [`calibration_error`]).
///
/// # Errors
/// As [`calibration_error`].
pub fn maximum_error(probabilities: &[f64], positive: &[bool], bins: Bins) -> Result<f64, MetricsError> {
    let gaps = grouped(probabilities, positive, bins)?;
    Ok(gaps.iter().map(|g| (g.stated - g.positives as f64).abs() / g.cases as f64).fold(0.0, f64::max))
}

/// One point for each bin that holds cases, ascending; limits at confidence `level`.
///
/// # Errors
/// As [`calibration_error`]; a level outside `0..1`.
#[implements("FR-005")]
pub fn reliability(
    probabilities: &[f64],
    positive: &[bool],
    bins: Bins,
    level: f64,
) -> Result<Vec<ReliabilityPoint>, MetricsError> {
    let point = |g: &Group| {
        Ok(ReliabilityPoint {
            range: g.range,
            cases: g.cases,
            positives: g.positives,
            stated: g.stated / g.cases as f64,
            observed: g.positives as f64 / g.cases as f64,
            interval: proportion(g.positives, g.cases, level)?.wilson,
        })
    };
    grouped(probabilities, positive, bins)?.iter().map(point).collect()
}

/// The temperature by which logits are divided so that the truth is most likely (Guo et al., ICML 2017:1321), by golden
/// section on its logarithm within `0.01..=100`. It changes no ranking.
///
/// # Errors
/// Lists of different length, a logit that is not finite, a group without cases, all logits zero; logits that separate the
/// groups or order them the wrong way round: the likelihood then still rises at an end of the search, and there is no most
/// likely temperature.
#[implements("FR-005")]
pub fn temperature(logits: &[f64], positive: &[bool]) -> Result<f64, MetricsError> {
    both_groups(logits, positive)?;
    if logits.iter().all(|logit| *logit == 0.0) {
        return Err(MetricsError::NoVariation);
    }
    // Minus the log likelihood of x = -logit where positive, logit where not: sum of ln(1 + exp(x / T)); convex in 1 / T.
    let loss = |log_t: f64| -> f64 {
        let scale = (-log_t).exp();
        let signed = logits.iter().zip(positive).map(|(l, p)| if *p { -l * scale } else { l * scale });
        signed.map(|x| x.max(0.0) + (-x.abs()).exp().ln_1p()).sum()
    };
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let ends = [0.01f64.ln(), 100f64.ln()];
    let [mut low, mut high] = ends;
    let inside = |low: f64, high: f64| [high - golden * (high - low), low + golden * (high - low)];
    let [mut a, mut b] = inside(low, high);
    let (mut at_a, mut at_b) = (loss(a), loss(b));
    // Below 1e-8 the loss is flat to rounding.
    while high - low > 1e-8 {
        if at_a <= at_b {
            high = b;
            (b, at_b) = (a, at_a);
            a = inside(low, high)[0];
            at_a = loss(a);
        } else {
            low = a;
            (a, at_a) = (b, at_b);
            b = inside(low, high)[1];
            at_b = loss(b);
        }
    }
    let found = 0.5 * (low + high);
    if ends.iter().any(|end| (found - end).abs() < 1e-6) {
        return Err(MetricsError::NoVariation);
    }
    Ok(found.exp())
}

/// Slope and intercepts of calibration (Cox, Biometrika 1958;45:562; Van Calster et al., J Clin Epidemiol 2016;74:167), by
/// maximum likelihood.
///
/// # Errors
/// Lists of different length, a logit that is not finite, a group without cases, logits that are all equal or that separate
/// the groups (there is no most likely slope).
#[implements("FR-005")]
pub fn calibration_line(logits: &[f64], positive: &[bool]) -> Result<CalibrationLine, MetricsError> {
    both_groups(logits, positive)?;
    let (mut slope, mut intercept) = (0.0f64, 0.0f64);
    let mut converged = false;
    for _ in 0..100 {
        let (mut gradient, mut hessian) = ([0.0; 2], [0.0; 3]);
        for (x, positive) in logits.iter().zip(positive) {
            let q = 1.0 / (1.0 + (-(slope * x + intercept)).exp());
            let (error, weight) = (truth(*positive) - q, q * (1.0 - q));
            gradient = [gradient[0] + error * x, gradient[1] + error];
            hessian = [hessian[0] + weight * x * x, hessian[1] + weight * x, hessian[2] + weight];
        }
        let determinant = hessian[0] * hessian[2] - hessian[1] * hessian[1];
        if determinant <= 1e-12 * hessian[0] * hessian[2] {
            break; // equal logits, or probabilities that have run to 0 and 1
        }
        let step = [
            (hessian[2] * gradient[0] - hessian[1] * gradient[1]) / determinant,
            (hessian[0] * gradient[1] - hessian[1] * gradient[0]) / determinant,
        ];
        slope += step[0].clamp(-2.0, 2.0);
        intercept += step[1].clamp(-2.0, 2.0);
        if step[0].abs().max(step[1].abs()) < 1e-12 * (1.0 + slope.abs() + intercept.abs()) {
            converged = true;
            break;
        }
    }
    if !converged {
        return Err(MetricsError::NoVariation);
    }
    Ok(CalibrationLine { slope, intercept, in_the_large: shift(logits, positive) })
}

/// The shift of all logits after which as many are positive as are expected: falls monotonically, so bisection.
fn shift(logits: &[f64], positive: &[bool]) -> f64 {
    let positives = positive.iter().filter(|p| **p).count() as f64;
    let expected = |shift: f64| logits.iter().map(|x| 1.0 / (1.0 + (-(x + shift)).exp())).sum::<f64>();
    let widest = logits.iter().fold(0.0f64, |widest, x| widest.max(x.abs()));
    let room = widest + (logits.len() as f64).ln() + 1.0;
    let (mut low, mut high) = (-room, room);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if expected(middle) < positives { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// Sums over one bin.
struct Group {
    range: Interval,
    cases: usize,
    positives: usize,
    stated: f64,
}

/// Bins that hold cases, ascending.
fn grouped(probabilities: &[f64], positive: &[bool], bins: Bins) -> Result<Vec<Group>, MetricsError> {
    check(probabilities, positive)?;
    let groups = match bins {
        Bins::EqualWidth(n) => {
            at_least("bins of a calibration error", n, 1)?;
            let edge = |i: usize| i as f64 / n as f64;
            let empty = |i: usize| Group { range: [edge(i), edge(i + 1)], cases: 0, positives: 0, stated: 0.0 };
            let mut groups: Vec<Group> = (0..n).map(empty).collect();
            for (p, positive) in probabilities.iter().zip(positive) {
                let group = &mut groups[bin(*p, n)];
                group.cases += 1;
                group.positives += usize::from(*positive);
                group.stated += p;
            }
            groups
        }
        Bins::EqualCount(n) => {
            at_least("bins of a calibration error", n, 1)?;
            let mut cases: Vec<(f64, bool)> = probabilities.iter().copied().zip(positive.iter().copied()).collect();
            cases.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut groups: Vec<Group> = Vec::new();
            let (mut before, mut current) = (0, None);
            for tied in cases.chunk_by(|a, b| a.0 == b.0) {
                let bin = before * n / cases.len(); // of the first of the ties; the others stay with it
                if current.replace(bin) != Some(bin) {
                    groups.push(Group { range: [tied[0].0; 2], cases: 0, positives: 0, stated: 0.0 });
                }
                let group = groups.last_mut().expect("just made");
                group.range[1] = tied[0].0;
                group.cases += tied.len();
                group.positives += tied.iter().filter(|case| case.1).count();
                group.stated += tied.iter().map(|case| case.0).sum::<f64>();
                before += tied.len();
            }
            groups
        }
    };
    Ok(groups.into_iter().filter(|group| group.cases > 0).collect())
}

fn truth(positive: bool) -> f64 {
    f64::from(u8::from(positive))
}

fn check(probabilities: &[f64], positive: &[bool]) -> Result<(), MetricsError> {
    crate::roc::same_length(probabilities, positive)?;
    at_least("cases of a calibration", probabilities.len(), 1)?;
    match probabilities.iter().find(|p| !(0.0..=1.0).contains(*p)) {
        Some(p) => Err(MetricsError::Range { what: "a probability", value: *p, range: "from 0 to 1" }),
        None => Ok(()),
    }
}

fn both_groups(logits: &[f64], positive: &[bool]) -> Result<(), MetricsError> {
    crate::roc::same_length(logits, positive)?;
    logits.iter().try_for_each(|logit| finite("a logit", *logit).map(drop))?;
    let positives = positive.iter().filter(|p| **p).count();
    at_least("positive cases", positives, 1)?;
    at_least("negative cases", positive.len() - positives, 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;
    use proptest::prelude::*;

    fn close(got: f64, expected: f64, tolerance: f64) {
        assert!((got - expected).abs() <= tolerance, "{got} against {expected}");
    }

    const P: [f64; 4] = [0.9, 0.4, 0.2, 0.6];
    const TRUTH: [bool; 4] = [true, true, false, false];

    #[verifies("FR-005")]
    #[test]
    fn scores_of_four_cases_are_what_one_counts_by_hand() {
        close(brier(&P, &TRUTH).unwrap(), (0.01 + 0.36 + 0.04 + 0.36) / 4.0, 1e-15);
        close(log_loss(&P, &TRUTH).unwrap(), -(0.9f64.ln() + 0.4f64.ln() + 0.8f64.ln() + 0.4f64.ln()) / 4.0, 1e-15);
        assert!(brier(&[1.2], &[true]).is_err());
        assert!(log_loss(&[0.0], &[true]).unwrap().is_finite());
        // Two bins: 0.9 + 0.6 stated for one of two, 0.4 + 0.2 for the other one of two.
        close(calibration_error(&P, &TRUTH, 2).unwrap(), (0.5 + 0.4) / 4.0, 1e-15);
        close(maximum_error(&P, &TRUTH, Bins::EqualWidth(2)).unwrap(), 0.25, 1e-15);
        assert_eq!(calibration_error(&[1.0, 0.0], &[true, false], 10), Ok(0.0));
    }

    #[verifies("FR-005")]
    #[test]
    fn a_reliability_curve_skips_empty_bins_and_keeps_ties_together() {
        let points = reliability(&P, &TRUTH, Bins::EqualWidth(5), 0.95).unwrap();
        let seen: Vec<_> = points.iter().map(|p| (p.range, p.cases, p.positives, p.stated)).collect();
        // 0.4 and 0.6 are edges of fifths: each belongs to the bin above it (0.6 * 5 = 3).
        let expected =
            [([0.2, 0.4], 1, 0, 0.2), ([0.4, 0.6], 1, 1, 0.4), ([0.6, 0.8], 1, 0, 0.6), ([0.8, 1.0], 1, 1, 0.9)];
        assert_eq!(seen, expected);
        close(points[1].interval[0], 0.2065, 5e-5); // one of one, by Wilson: 1 / (1 + 1.96^2)
        let halves = reliability(&[0.1, 0.3, 0.3, 0.3], &TRUTH, Bins::EqualCount(2), 0.95).unwrap();
        assert_eq!(halves.iter().map(|p| (p.cases, p.range)).collect::<Vec<_>>(), [(4, [0.1, 0.3])]);
        let halves = reliability(&[0.1, 0.2, 0.3, 0.3], &TRUTH, Bins::EqualCount(2), 0.95).unwrap();
        assert_eq!(halves.iter().map(|p| p.cases).collect::<Vec<_>>(), [2, 2]);
    }

    #[verifies("FR-005")]
    #[test]
    fn the_temperature_of_overconfident_logits_is_known_in_closed_form() {
        // Logits +-4 of which three in four are right: the honest logit is ln 3.
        let logits: Vec<f64> = (0..40).map(|i| if i % 2 == 0 { 4.0 } else { -4.0 }).collect();
        let positive: Vec<bool> = (0..40).map(|i| (i % 2 == 0) == (i % 8 < 6)).collect();
        close(temperature(&logits, &positive).unwrap(), 4.0 / 3f64.ln(), 1e-6);
        let line = calibration_line(&logits, &positive).unwrap();
        close(line.slope, 3f64.ln() / 4.0, 1e-9);
        close(line.intercept, 0.0, 1e-9);
        close(line.in_the_large, 0.0, 1e-9);
        assert_eq!(temperature(&[0.0, 0.0], &[true, false]), Err(MetricsError::NoVariation));
        assert!(temperature(&[1.0], &[true]).is_err());
        assert_eq!(calibration_line(&[-1.0, 1.0], &[false, true]), Err(MetricsError::NoVariation)); // separated
        assert_eq!(calibration_line(&[1.0, 1.0], &[false, true]), Err(MetricsError::NoVariation));
    }

    #[verifies("FR-005")]
    #[test]
    fn a_calibration_line_is_that_of_statsmodels() {
        // statsmodels 0.15 Logit of the truth on a constant and the logit; the third figure with the logit as offset.
        let logits = [-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5];
        let positive = [false, false, true, false, false, true, false, true, true, true];
        let line = calibration_line(&logits, &positive).unwrap();
        close(line.slope, 1.0873934275076806, 1e-9);
        close(line.intercept, -0.2718483568769201, 1e-9);
        close(line.in_the_large, -0.25, 1e-9);
    }

    #[verifies("FR-005")]
    #[test]
    fn a_temperature_at_an_end_of_its_search_is_none() {
        // Separated: the likelihood grows as T falls. Wrong way round: it grows as T rises.
        assert_eq!(temperature(&[2.0, 1.0, -1.0], &[true, true, false]), Err(MetricsError::NoVariation));
        assert_eq!(temperature(&[-2.0, -1.0, 1.0], &[true, true, false]), Err(MetricsError::NoVariation));
        assert!(temperature(&[2.0, -1.0, -1.0, 0.5], &[true, true, false, false]).is_ok());
    }

    proptest! {
        #[verifies("FR-005")]
        #[test]
        fn weights_of_a_calibration_error_mean_copies(
            cases in prop::collection::vec((0u8..=20, any::<bool>(), 0u8..3), 1..40), n in 1usize..12,
        ) {
            let p: Vec<f64> = cases.iter().map(|c| f64::from(c.0) / 20.0).collect();
            let truth: Vec<bool> = cases.iter().map(|c| c.1).collect();
            let copies: Vec<_> = cases.iter().flat_map(|c| std::iter::repeat_n((f64::from(c.0) / 20.0, c.1), c.2.into())).collect();
            let (copied_p, copied_truth): (Vec<f64>, Vec<bool>) = copies.into_iter().unzip();
            let weighted = Binned::new(&p, &truth, n).unwrap().error(|i| f64::from(cases[i].2));
            match calibration_error(&copied_p, &copied_truth, n) {
                Ok(copied) => prop_assert!((weighted.unwrap() - copied).abs() < 1e-12),
                Err(_) => prop_assert_eq!(weighted, None),
            }
        }

        #[test]
        fn every_case_lies_in_one_bin(
            cases in prop::collection::vec((0u8..=20, any::<bool>()), 1..50), n in 1usize..12,
        ) {
            let p: Vec<f64> = cases.iter().map(|c| f64::from(c.0) / 20.0).collect();
            let truth: Vec<bool> = cases.iter().map(|c| c.1).collect();
            for bins in [Bins::EqualWidth(n), Bins::EqualCount(n)] {
                let points = reliability(&p, &truth, bins, 0.95).unwrap();
                prop_assert!(points.len() <= n);
                prop_assert_eq!(points.iter().map(|p| p.cases).sum::<usize>(), p.len());
                prop_assert!(points.iter().all(|p| p.range[0] - 1e-12 <= p.stated && p.stated <= p.range[1] + 1e-12));
                let error = expected_error(&p, &truth, bins).unwrap();
                let weighted: f64 =
                    points.iter().map(|p| p.cases as f64 * (p.stated - p.observed).abs()).sum::<f64>() / cases.len() as f64;
                prop_assert!((error - weighted).abs() < 1e-12);
                prop_assert!(error <= maximum_error(&p, &truth, bins).unwrap() + 1e-12);
            }
        }
    }
}
