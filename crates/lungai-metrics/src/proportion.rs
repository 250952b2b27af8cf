//! Intervals of a proportion: so many of so many.

use crate::distributions::{beta, beta_quantile, chi_squared_quantile, normal_two_sided_p};
use crate::error::{at_least, deviate};
use crate::{Interval, MetricsError};
use lungai_trace::implements;

/// A proportion with both usual intervals. Cases are taken as independent: where one patient gives several,
/// resample patients ([`crate::bootstrap`]) as well.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Proportion {
    /// `successes / trials`.
    pub value: f64,
    /// Wilson's score interval: closest to its nominal coverage on average.
    pub wilson: Interval,
    /// Clopper and Pearson's exact interval: never below its nominal coverage.
    pub clopper_pearson: Interval,
}

/// `successes` of `trials` with two-sided intervals at confidence `level` (0.95 for 95 %).
///
/// # Errors
/// No trials, more successes than trials, or a level outside `0..1`.
pub fn proportion(successes: usize, trials: usize, level: f64) -> Result<Proportion, MetricsError> {
    at_least("trials of a proportion", trials, 1)?;
    if successes > trials {
        return Err(MetricsError::Length { what: "successes against trials", left: successes, right: trials });
    }
    Ok(Proportion {
        value: successes as f64 / trials as f64,
        wilson: wilson(successes, trials, deviate(level)?),
        clopper_pearson: clopper_pearson(successes, trials, 1.0 - level),
    })
}

/// A difference of two proportions, the first minus the second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// The difference.
    pub value: f64,
    /// Newcombe's interval, from Wilson's of both.
    pub interval: Interval,
    /// Two-sided p-value of no difference.
    pub p: f64,
}

/// Difference of two proportions of different cases, each `[successes, trials]`: Newcombe's hybrid score interval (Stat Med
/// 1998;17:873, method 10) and the z test with pooled variance.
///
/// # Errors
/// No trials, more successes than trials, or a level outside `0..1`.
#[implements("FR-004")]
pub fn difference(first: [usize; 2], second: [usize; 2], level: f64) -> Result<Difference, MetricsError> {
    let (a, b) = (proportion(first[0], first[1], level)?, proportion(second[0], second[1], level)?);
    let value = a.value - b.value;
    let pooled = (first[0] + second[0]) as f64 / (first[1] + second[1]) as f64;
    let variance = pooled * (1.0 - pooled) * (1.0 / first[1] as f64 + 1.0 / second[1] as f64);
    let p = if value == 0.0 { 1.0 } else { normal_two_sided_p(value / variance.sqrt()) };
    Ok(Difference { value, interval: newcombe(&a, &b, 0.0), p })
}

/// Difference of two proportions on the same cases, from how many succeeded under both, only the first, only the second and
/// neither: Newcombe's interval (Stat Med 1998;17:2635, method 10) and McNemar's exact test (Psychometrika 1947;12:153).
///
/// # Errors
/// No cases, or a level outside `0..1`.
#[implements("FR-004")]
pub fn paired_difference(cells: [usize; 4], level: f64) -> Result<Difference, MetricsError> {
    let [both, first, second, neither] = cells;
    let n = both + first + second + neither;
    let (a, b) = (proportion(both + first, n, level)?, proportion(both + second, n, level)?);
    let [e, f, g, h] = cells.map(|count| count as f64);
    let margins = (e + f) * (g + h) * (e + g) * (f + h);
    // A positive correlation with a correction for continuity, a negative one as it is.
    let agreement = match e * h - f * g {
        positive if positive > 0.0 => (positive - n as f64 / 2.0).max(0.0),
        negative => negative,
    };
    let correlation = if margins > 0.0 { agreement / margins.sqrt() } else { 0.0 };
    let discordant = first + second;
    let fewer = first.min(second);
    // Twice the lower tail of a binomial distribution at one half.
    let tail = || beta(0.5, (discordant - fewer) as f64, fewer as f64 + 1.0);
    let p = if first == second { 1.0 } else { (2.0 * tail()).min(1.0) };
    let value = (f - g) / n as f64;
    Ok(Difference { value, interval: newcombe(&a, &b, correlation), p })
}

fn newcombe(a: &Proportion, b: &Proportion, correlation: f64) -> Interval {
    let value = a.value - b.value;
    let reach = |own: f64, other: f64| (own * own - 2.0 * correlation * own * other + other * other).max(0.0).sqrt();
    [
        value - reach(a.value - a.wilson[0], b.wilson[1] - b.value),
        value + reach(a.wilson[1] - a.value, b.value - b.wilson[0]),
    ]
}

/// A rate of events with its exact interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// `events / exposures`.
    pub value: f64,
    /// Garwood's exact Poisson interval.
    pub interval: Interval,
}

/// `events` over `exposures` (false positives over scans) with Garwood's two-sided interval (Biometrika 1936;28:437). Events
/// are taken as independent: where some scans draw many, resample as well.
///
/// # Errors
/// No exposures, or a level outside `0..1`.
pub fn rate(events: usize, exposures: usize, level: f64) -> Result<Rate, MetricsError> {
    at_least("exposures of a rate", exposures, 1)?;
    deviate(level)?;
    let (k, n, alpha) = (events as f64, exposures as f64, 1.0 - level);
    let low = if events == 0 { 0.0 } else { chi_squared_quantile(alpha / 2.0, 2.0 * k) / 2.0 };
    let high = chi_squared_quantile(1.0 - alpha / 2.0, 2.0 * k + 2.0) / 2.0;
    Ok(Rate { value: k / n, interval: [low / n, high / n] })
}

/// Wilson, J Am Stat Assoc 1927;22:209.
fn wilson(successes: usize, trials: usize, z: f64) -> Interval {
    let n = trials as f64;
    let p = successes as f64 / n;
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    // At the ends the formula gives exactly 0 and 1, but for rounding.
    let low = if successes == 0 { 0.0 } else { centre - half };
    let high = if successes == trials { 1.0 } else { centre + half };
    [low, high]
}

/// Clopper and Pearson, Biometrika 1934;26:404, by beta quantiles.
fn clopper_pearson(successes: usize, trials: usize, alpha: f64) -> Interval {
    let (k, n) = (successes as f64, trials as f64);
    let low = if successes == 0 { 0.0 } else { beta_quantile(alpha / 2.0, k, n - k + 1.0) };
    let high = if successes == trials { 1.0 } else { beta_quantile(1.0 - alpha / 2.0, k + 1.0, n - k) };
    [low, high]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(a: Interval, b: Interval, tolerance: f64) {
        assert!((a[0] - b[0]).abs() < tolerance && (a[1] - b[1]).abs() < tolerance, "{a:?} against {b:?}");
    }

    #[test]
    fn fifteen_of_twenty_has_the_published_limits() {
        // R: binom::binom.confint(15, 20, methods = c("wilson", "exact")).
        let p = proportion(15, 20, 0.95).unwrap();
        close(p.wilson, [0.53130, 0.88814], 5e-6);
        close(p.clopper_pearson, [0.50895, 0.91343], 5e-6);
    }

    #[test]
    fn none_of_ten_can_still_be_three_in_ten() {
        let p = proportion(0, 10, 0.95).unwrap();
        close(p.clopper_pearson, [0.0, 0.30850], 5e-6);
        assert_eq!(p.wilson[0], 0.0);
    }

    #[test]
    fn a_rate_without_events_has_an_upper_limit() {
        // -ln(0.025) = 3.6889 events, and the tabulated limits of ten events, 4.7954 and 18.3904.
        let none = rate(0, 10, 0.95).unwrap();
        close(none.interval, [0.0, 0.36889], 5e-6);
        close(rate(10, 1, 0.95).unwrap().interval, [4.7954, 18.3904], 5e-5);
        assert!(rate(1, 0, 0.95).is_err());
    }

    #[test]
    fn differences_have_the_published_intervals() {
        // Newcombe 1998 (unpaired), example a: 56 of 70 against 48 of 80, method 10: 0.0524 to 0.3339.
        close(difference([56, 70], [48, 80], 0.95).unwrap().interval, [0.0524, 0.3339], 5e-5);
        // Newcombe 1998 (paired), cells 36, 12, 2, 0, method 10: 0.0569 to 0.3404.
        let paired = paired_difference([36, 12, 2, 0], 0.95).unwrap();
        close(paired.interval, [0.0569, 0.3404], 5e-5);
        // McNemar exact: 2 (1 + 14 + 91) / 2^14.
        assert!((paired.p - 212.0 / 16384.0).abs() < 1e-14 && (paired.value - 0.2).abs() < 1e-15);
        assert_eq!(paired_difference([5, 0, 0, 5], 0.95).unwrap().p, 1.0);
        assert_eq!(difference([3, 9], [3, 9], 0.95).unwrap().p, 1.0);
    }

    #[test]
    fn impossible_counts_are_refused() {
        assert!(proportion(0, 0, 0.95).is_err());
        assert!(proportion(3, 2, 0.95).is_err());
        assert!(proportion(1, 2, 1.0).is_err());
    }

    proptest! {
        #[test]
        fn limits_hold_the_value_and_mirror(n in 1usize..400, share in 0.0..=1.0f64) {
            let k = (share * n as f64).round() as usize;
            let (p, q) = (proportion(k, n, 0.95).unwrap(), proportion(n - k, n, 0.95).unwrap());
            for (a, b) in [(p.wilson, q.wilson), (p.clopper_pearson, q.clopper_pearson)] {
                prop_assert!(0.0 <= a[0] && a[0] <= p.value && p.value <= a[1] && a[1] <= 1.0);
                prop_assert!((a[0] - (1.0 - b[1])).abs() < 1e-9);
            }
            // Exactness costs width.
            prop_assert!(p.clopper_pearson[1] - p.clopper_pearson[0] >= p.wilson[1] - p.wilson[0] - 0.02);
        }
    }
}
