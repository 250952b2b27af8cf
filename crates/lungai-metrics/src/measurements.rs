//! Whether measurements agree: diameters of two readers, volumes of two scans, a program against its reference.

use crate::distributions::{f_quantile, f_upper_tail, t_quantile, t_two_sided_p};
use crate::error::{at_least, deviate, finite};
use crate::{Interval, MetricsError};
use lungai_trace::implements;

/// Differences of paired measurements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlandAltman {
    /// Pairs.
    pub pairs: usize,
    /// Mean of first minus second.
    pub bias: f64,
    /// Interval of `bias`, by t.
    pub bias_interval: Interval,
    /// Standard deviation of the differences (divisor n - 1).
    pub sd: f64,
    /// Between these limits lies the share `agreement` of differences: `bias` -+ z `sd`.
    pub limits: Interval,
    /// Interval of the lower limit.
    pub lower_interval: Interval,
    /// Interval of the upper limit.
    pub upper_interval: Interval,
    /// Change of the difference per unit of the pair's mean: away from zero the bias depends on size. `None` where all means
    /// are equal.
    pub slope: Option<Slope>,
}

/// A least-squares slope.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slope {
    /// Its value.
    pub value: f64,
    /// Its interval, by t.
    pub interval: Interval,
    /// Two-sided p-value of no slope.
    pub p: f64,
}

/// Limits of agreement (Bland and Altman, Lancet 1986;327:307) that hold the share `agreement` of differences (0.95 for
/// the usual ones), with intervals at confidence `level`: of the bias by t, of the limits by t with the standard error
/// `sd sqrt(1/n + z^2 / (2 (n - 1)))` (the same, Stat Methods Med Res 1999;8:135). Differences are taken as normal and pairs as
/// independent.
///
/// # Errors
/// Lists of different length, fewer than three pairs, a value that is not finite, a share outside `0..1`.
#[implements("FR-004")]
pub fn bland_altman(first: &[f64], second: &[f64], agreement: f64, level: f64) -> Result<BlandAltman, MetricsError> {
    if first.len() != second.len() {
        return Err(MetricsError::Length { what: "paired measurements", left: first.len(), right: second.len() });
    }
    at_least("pairs of measurements", first.len(), 3)?;
    first.iter().chain(second).try_for_each(|v| finite("a measurement", *v).map(drop))?;
    let z = deviate(agreement)?;
    deviate(level)?;
    let n = first.len() as f64;
    let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
    let bias = differences.iter().sum::<f64>() / n;
    let sd = (differences.iter().map(|d| (d - bias).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    let t = t_quantile(0.5 + level / 2.0, n - 1.0);
    let around = |centre: f64, half: f64| [centre - half, centre + half];
    let limits = around(bias, z * sd);
    let of_limit = t * sd * (1.0 / n + z * z / (2.0 * (n - 1.0))).sqrt();
    let means: Vec<f64> = first.iter().zip(second).map(|(a, b)| 0.5 * (a + b)).collect();
    Ok(BlandAltman {
        pairs: first.len(),
        bias,
        bias_interval: around(bias, t * sd / n.sqrt()),
        sd,
        limits,
        lower_interval: around(limits[0], of_limit),
        upper_interval: around(limits[1], of_limit),
        slope: slope(&means, &differences, level),
    })
}

/// Least squares of `y` on `x`; `None` where `x` does not vary.
fn slope(x: &[f64], y: &[f64], level: f64) -> Option<Slope> {
    let n = x.len() as f64;
    let (mean_x, mean_y) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let xx: f64 = x.iter().map(|x| (x - mean_x).powi(2)).sum();
    if xx <= 0.0 {
        return None;
    }
    let value = x.iter().zip(y).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / xx;
    let left: f64 = x.iter().zip(y).map(|(x, y)| (y - mean_y - value * (x - mean_x)).powi(2)).sum();
    let error = (left / (n - 2.0) / xx).sqrt();
    let half = t_quantile(0.5 + level / 2.0, n - 2.0) * error;
    let p = if error > 0.0 { t_two_sided_p(value / error, n - 2.0) } else { f64::from(u8::from(value == 0.0)) };
    Some(Slope { value, interval: [value - half, value + half], p })
}

/// An intraclass correlation with its test against zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Icc {
    /// The coefficient; below zero where subjects differ less than raters do.
    pub value: f64,
    /// Its interval.
    pub interval: Interval,
    /// F statistic of no difference between subjects; infinite where raters agree completely.
    pub f: f64,
    /// Degrees of freedom of `f`.
    pub df: [f64; 2],
    /// Probability of such an `f` or a larger one if subjects did not differ.
    pub p: f64,
}

/// The six intraclass correlations. The first number names the model, `k` the mean of all raters instead of one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Iccs {
    /// ICC(1,1): each subject rated by other raters.
    pub icc1: Icc,
    /// ICC(2,1): raters drawn from many, absolute agreement.
    pub icc2: Icc,
    /// ICC(3,1): these raters only, consistency.
    pub icc3: Icc,
    /// ICC(1,k).
    pub icc1k: Icc,
    /// ICC(2,k).
    pub icc2k: Icc,
    /// ICC(3,k).
    pub icc3k: Icc,
}

/// Intraclass correlations by Shrout and Fleiss (Psychol Bull 1979;86:420), with the intervals of McGraw and Wong (Psychol
/// Methods 1996;1:30). One row for each subject, one column for each rater.
///
/// # Errors
/// Fewer than two subjects or raters, rows of different length, a rating that is not finite, all ratings equal, a level outside
/// `0..1`.
#[implements("FR-004")]
pub fn icc(subjects: &[Vec<f64>], level: f64) -> Result<Iccs, MetricsError> {
    at_least("subjects of an intraclass correlation", subjects.len(), 2)?;
    let raters = subjects[0].len();
    at_least("raters of an intraclass correlation", raters, 2)?;
    if let Some(odd) = subjects.iter().find(|row| row.len() != raters) {
        return Err(MetricsError::Length { what: "ratings of two subjects", left: raters, right: odd.len() });
    }
    subjects.iter().flatten().try_for_each(|v| finite("a rating", *v).map(drop))?;
    deviate(level)?;
    let (n, k) = (subjects.len() as f64, raters as f64);
    let grand = subjects.iter().flatten().sum::<f64>() / (n * k);
    let total: f64 = subjects.iter().flatten().map(|v| (v - grand).powi(2)).sum();
    if total == 0.0 {
        return Err(MetricsError::NoVariation);
    }
    let between: f64 = subjects.iter().map(|row| k * (row.iter().sum::<f64>() / k - grand).powi(2)).sum();
    let of_rater = |j: usize| subjects.iter().map(|row| row[j]).sum::<f64>() / n;
    let raters_apart: f64 = (0..raters).map(|j| n * (of_rater(j) - grand).powi(2)).sum();
    // What rounding leaves of a perfect agreement is no error to divide by.
    let left = |sum: f64| if sum <= 1e-13 * total { 0.0 } else { sum };
    let ms_subjects = between / (n - 1.0);
    let ms_within = left(total - between) / (n * (k - 1.0));
    let ms_raters = raters_apart / (k - 1.0);
    let ms_error = left(total - between - raters_apart) / ((n - 1.0) * (k - 1.0));

    let upper = 0.5 + level / 2.0;
    let df = n - 1.0;
    let (df_within, df_error) = (n * (k - 1.0), (n - 1.0) * (k - 1.0));
    // ICC(1) and ICC(3), one rater and the mean of k, from F and its limits.
    let plain = |ms: f64, df2: f64| -> [Icc; 2] {
        let f = ms_subjects / ms;
        let limits = [f / f_quantile(upper, df, df2), f * f_quantile(upper, df2, df)];
        let single = |f: f64| if f.is_infinite() { 1.0 } else { (f - 1.0) / (f + k - 1.0) };
        let mean = |f: f64| 1.0 - 1.0 / f;
        let p = f_upper_tail(f, df, df2);
        let make =
            |value: &dyn Fn(f64) -> f64| Icc { value: value(f), interval: limits.map(value), f, df: [df, df2], p };
        [make(&single), make(&mean)]
    };
    let [icc1, icc1k] = plain(ms_within, df_within);
    let [icc3, icc3k] = plain(ms_error, df_error);

    let value = (ms_subjects - ms_error) / (ms_subjects + (k - 1.0) * ms_error + k * (ms_raters - ms_error) / n);
    let value_k = (ms_subjects - ms_error) / (ms_subjects + (ms_raters - ms_error) / n);
    // Satterthwaite's degrees of freedom of the denominator, multiplied through by the error's mean square.
    let shift = n * (1.0 + (k - 1.0) * value) - k * value;
    let v = df_error * (k * value * ms_raters + shift * ms_error).powi(2)
        / (df * (k * value * ms_raters).powi(2) + (shift * ms_error).powi(2));
    let interval = if v > 0.0 {
        let rest = k * ms_raters + (k * n - k - n) * ms_error;
        // With few degrees of freedom an F quantile is zero or infinite to rounding; its limit is not.
        let limit = |f: f64| match f.is_infinite() {
            true => 1.0,
            false => n * (f * ms_subjects - ms_error) / (rest + n * f * ms_subjects),
        };
        [limit(1.0 / f_quantile(upper, df, v)), limit(f_quantile(upper, v, df))]
    } else {
        [value; 2] // raters agree completely
    };
    let icc2 = Icc { value, interval, ..icc3 };
    let of_mean = |limit: f64| limit * k / (1.0 + limit * (k - 1.0));
    let icc2k = Icc { value: value_k, interval: interval.map(of_mean), ..icc3 };
    Ok(Iccs { icc1, icc2, icc3, icc1k, icc2k, icc3k })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;
    use proptest::prelude::*;

    fn close(got: f64, expected: f64, tolerance: f64) {
        assert!((got - expected).abs() <= tolerance, "{got} against {expected}");
    }

    /// Peak flow of 17 people by a Wright meter and a mini meter, l/min (Bland and Altman, Lancet 1986;327:307, table 1).
    const WRIGHT: [f64; 17] = [
        494.0, 395.0, 516.0, 434.0, 476.0, 557.0, 413.0, 442.0, 650.0, 433.0, 417.0, 656.0, 267.0, 478.0, 178.0, 423.0,
        427.0,
    ];
    const MINI: [f64; 17] = [
        512.0, 430.0, 520.0, 428.0, 500.0, 600.0, 364.0, 380.0, 658.0, 445.0, 432.0, 626.0, 260.0, 477.0, 259.0, 350.0,
        451.0,
    ];

    #[verifies("FR-004")]
    #[test]
    fn two_flow_meters_have_the_published_limits_of_agreement() {
        // The paper: mean difference -2.1, SD 38.8, interval of the bias -22.0 to 17.8; limits with 2 in place of 1.96.
        let b = bland_altman(&WRIGHT, &MINI, 0.95, 0.95).unwrap();
        close(b.bias, -2.1, 0.05);
        close(b.sd, 38.8, 0.05);
        close(b.bias_interval[0], -22.0, 0.1);
        close(b.bias_interval[1], 17.8, 0.1);
        close(b.limits[0], -2.1176 - 1.96 * 38.765, 0.01);
        close(b.limits[1], -2.1176 + 1.96 * 38.765, 0.01);
        // t(16) = 2.1199; 38.765 * sqrt(1/17 + 1.96^2/32) = 16.39.
        close(b.upper_interval[1] - b.limits[1], 34.75, 0.02);
        close(b.limits[0] - b.lower_interval[0], 34.75, 0.02);
        let slope = b.slope.unwrap();
        assert!(slope.interval[0] < 0.0 && slope.interval[1] > 0.0 && slope.p > 0.05, "{slope:?}");
    }

    #[test]
    fn a_bias_that_grows_with_size_shows_as_a_slope() {
        // Second = 0.8 first: the difference is 0.2 / 0.9 of the mean.
        let first: Vec<f64> = (1..10).map(f64::from).collect();
        let second: Vec<f64> = first.iter().map(|v| 0.8 * v).collect();
        let slope = bland_altman(&first, &second, 0.95, 0.95).unwrap().slope.unwrap();
        close(slope.value, 0.2 / 0.9, 1e-12);
        assert!(slope.p < 1e-9);
        assert!(bland_altman(&[1.0, 1.0, 1.0], &[1.0, 1.0, 1.0], 0.95, 0.95).unwrap().slope.is_none());
        assert!(bland_altman(&first, &second[1..], 0.95, 0.95).is_err());
        assert!(bland_altman(&[1.0, 2.0], &[1.0, 2.0], 0.95, 0.95).is_err());
    }

    /// Shrout and Fleiss' table 2: six subjects, four judges.
    fn judges() -> Vec<Vec<f64>> {
        [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
            .map(|row| row.map(f64::from).to_vec())
            .to_vec()
    }

    #[verifies("FR-004")]
    #[test]
    fn the_six_coefficients_of_shrout_and_fleiss_are_reproduced() {
        // Their table 4: 0.17, 0.29, 0.71, 0.44, 0.62, 0.91. All digits: pingouin 0.7, intraclass_corr, which rounds the
        // intervals to two decimals.
        let i = icc(&judges(), 0.95).unwrap();
        let expected = [
            (i.icc1, 0.1657417684054755, [-0.13, 0.72]),
            (i.icc2, 0.28976377952755916, [0.02, 0.76]),
            (i.icc3, 0.7148407148407154, [0.34, 0.95]),
            (i.icc1k, 0.44279713367926876, [-0.88, 0.91]),
            (i.icc2k, 0.6200505475989893, [0.07, 0.93]),
            (i.icc3k, 0.9093155423770697, [0.68, 0.99]),
        ];
        for (icc, value, interval) in expected {
            close(icc.value, value, 1e-13);
            close(icc.interval[0], interval[0], 0.005);
            close(icc.interval[1], interval[1], 0.005);
        }
        close(i.icc1.f, 1.7946784922394683, 1e-12);
        close(i.icc1.p, 0.16476880834463953, 1e-13);
        close(i.icc3.f, 11.027247956403299, 1e-11);
        close(i.icc3.p, 0.000134566516484335, 1e-15);
        assert_eq!((i.icc1.df, i.icc3.df), ([5.0, 18.0], [5.0, 15.0]));
    }

    #[test]
    fn complete_agreement_is_one_and_no_variation_an_error() {
        let rows: Vec<Vec<f64>> = (0..5).map(|i| vec![f64::from(i); 3]).collect();
        let i = icc(&rows, 0.95).unwrap();
        for icc in [i.icc1, i.icc2, i.icc3, i.icc1k, i.icc2k, i.icc3k] {
            assert_eq!((icc.value, icc.interval), (1.0, [1.0, 1.0]));
        }
        assert_eq!(icc(&[vec![2.0; 3], vec![2.0; 3]], 0.95), Err(MetricsError::NoVariation));
        assert!(icc(&[vec![1.0, 2.0], vec![1.0]], 0.95).is_err());
        assert!(icc(&[vec![1.0], vec![2.0]], 0.95).is_err());
        // A rater who adds a constant keeps consistency and loses agreement.
        let shifted: Vec<Vec<f64>> = (0..5).map(|i| vec![f64::from(i), f64::from(i) + 3.0]).collect();
        let i = icc(&shifted, 0.95).unwrap();
        assert_eq!(i.icc3.value, 1.0);
        assert!(i.icc2.value < 0.5 && i.icc2.interval[0] <= i.icc2.value && i.icc2.value <= i.icc2.interval[1]);
    }

    proptest! {
        #[test]
        fn intervals_hold_their_coefficients(rows in prop::collection::vec(prop::collection::vec(-5.0..5.0f64, 3), 3..12)) {
            let i = icc(&rows, 0.9).unwrap();
            // The degrees of freedom behind ICC(2)'s interval are an approximation; its limits need only be numbers.
            prop_assert!(i.icc2.interval.iter().all(|limit| limit.is_finite()));
            for icc in [i.icc1, i.icc3, i.icc1k, i.icc3k] {
                prop_assert!(icc.interval[0] <= icc.value + 1e-9 && icc.value <= icc.interval[1] + 1e-9, "{:?}", icc);
                prop_assert!(icc.value <= 1.0 && (0.0..=1.0).contains(&icc.p));
            }
            // Adding a constant to all ratings changes nothing.
            let moved: Vec<Vec<f64>> = rows.iter().map(|row| row.iter().map(|v| v + 10.0).collect()).collect();
            prop_assert!((icc(&moved, 0.9).unwrap().icc2.value - i.icc2.value).abs() < 1e-9);
        }
    }
}
