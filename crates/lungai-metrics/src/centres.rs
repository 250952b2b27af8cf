//! Whether centres differ by more than chance, and what a further centre may expect.

use crate::distributions::chi_squared_upper_tail;
use crate::error::{at_least, deviate, finite};
use crate::{Interval, MetricsError};
use lungai_trace::implements;

/// A figure of one centre.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The figure, on a scale where a normal approximation holds (for a proportion: its logit).
    pub value: f64,
    /// Its variance within the centre, above zero.
    pub variance: f64,
}

/// Centres taken together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RandomEffects {
    /// Mean over the population of centres.
    pub mean: f64,
    /// Standard error of `mean`.
    pub standard_error: f64,
    /// `mean` -+ z standard errors.
    pub interval: Interval,
    /// Cochran's Q.
    pub q: f64,
    /// Degrees of freedom of `q`: centres less one.
    pub df: usize,
    /// Probability of such a `q` or a larger one if all centres were alike.
    pub p: f64,
    /// Variance between centres, tau squared.
    pub tau2: f64,
    /// Share of the total variation that is between centres, `0..=1`.
    pub i2: f64,
}

/// Random effects by DerSimonian and Laird (Control Clin Trials 1986;7:177); I2 by Higgins and Thompson (Stat Med
/// 2002;21:1539). With few centres tau2 is itself uncertain: read the centres' own rows first.
///
/// # Errors
/// Fewer than two centres, a value that is not finite, a variance that is not above zero, a level outside `0..1`.
#[implements("FR-004")]
pub fn random_effects(centres: &[Estimate], level: f64) -> Result<RandomEffects, MetricsError> {
    at_least("centres", centres.len(), 2)?;
    for centre in centres {
        finite("a centre's value", centre.value)?;
        if finite("a centre's variance", centre.variance)? <= 0.0 {
            let value = centre.variance;
            return Err(MetricsError::Range { what: "a centre's variance", value, range: "above 0" });
        }
    }
    let weights: Vec<f64> = centres.iter().map(|c| 1.0 / c.variance).collect();
    let sum: f64 = weights.iter().sum();
    let weighted_mean = |weights: &[f64]| {
        weights.iter().zip(centres).map(|(w, c)| w * c.value).sum::<f64>() / weights.iter().sum::<f64>()
    };
    let fixed = weighted_mean(&weights);
    let q: f64 = weights.iter().zip(centres).map(|(w, c)| w * (c.value - fixed).powi(2)).sum();
    let df = centres.len() - 1;
    let scale = sum - weights.iter().map(|w| w * w).sum::<f64>() / sum;
    let tau2 = ((q - df as f64) / scale).max(0.0);
    let weights: Vec<f64> = centres.iter().map(|c| 1.0 / (c.variance + tau2)).collect();
    let mean = weighted_mean(&weights);
    let standard_error = weights.iter().sum::<f64>().powf(-0.5);
    let half = deviate(level)? * standard_error;
    Ok(RandomEffects {
        mean,
        standard_error,
        interval: [mean - half, mean + half],
        q,
        df,
        p: chi_squared_upper_tail(q, df as f64),
        tau2,
        i2: if q > 0.0 { ((q - df as f64) / q).max(0.0) } else { 0.0 },
    })
}

/// Logit of `successes` of `trials` with half a case added to each side, so that none or all have one too (Haldane, Ann
/// Hum Genet 1956;20:309); the variance takes the cases as independent.
///
/// # Errors
/// No trials, or more successes than trials.
pub fn logit(successes: usize, trials: usize) -> Result<Estimate, MetricsError> {
    at_least("trials of a proportion", trials, 1)?;
    if successes > trials {
        return Err(MetricsError::Length { what: "successes against trials", left: successes, right: trials });
    }
    let (yes, no) = (successes as f64 + 0.5, (trials - successes) as f64 + 0.5);
    Ok(Estimate { value: (yes / no).ln(), variance: 1.0 / yes + 1.0 / no })
}

/// The proportion that a logit stands for.
pub fn from_logit(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;
    use proptest::prelude::*;

    #[verifies("FR-004")]
    #[test]
    fn thirteen_trials_of_bcg_vaccine_have_the_published_heterogeneity() {
        // Colditz et al., JAMA 1994;271:698, as dat.bcg in R's metafor: log risk ratios, DerSimonian-Laird:
        // mean -0.7141 (SE 0.1787), Q 152.2330 on 12, tau2 0.3088, I2 92.12 %.
        let trials = [
            (4, 119, 11, 128),
            (6, 300, 29, 274),
            (3, 228, 11, 209),
            (62, 13536, 248, 12619),
            (33, 5036, 47, 5761),
            (180, 1361, 372, 1079),
            (8, 2537, 10, 619),
            (505, 87886, 499, 87892),
            (29, 7470, 45, 7232),
            (17, 1699, 65, 1600),
            (186, 50448, 141, 27197),
            (5, 2493, 3, 2338),
            (27, 16886, 29, 17825),
        ];
        let estimates: Vec<Estimate> = trials
            .map(|(a, b, c, d)| {
                let [a, b, c, d] = [a, b, c, d].map(f64::from);
                Estimate {
                    value: ((a / (a + b)) / (c / (c + d))).ln(),
                    variance: 1.0 / a - 1.0 / (a + b) + 1.0 / c - 1.0 / (c + d),
                }
            })
            .to_vec();
        let r = random_effects(&estimates, 0.95).unwrap();
        assert!((r.mean + 0.7141).abs() < 5e-5 && (r.standard_error - 0.1787).abs() < 5e-5, "{r:?}");
        assert!((r.q - 152.2330).abs() < 5e-5 && r.df == 12 && r.p < 1e-20, "{r:?}");
        assert!((r.tau2 - 0.3088).abs() < 5e-5 && (r.i2 - 0.9212).abs() < 5e-5, "{r:?}");
    }

    #[test]
    fn alike_centres_have_no_variance_between_them() {
        let r = random_effects(&[Estimate { value: 1.0, variance: 0.2 }; 4], 0.95).unwrap();
        assert_eq!((r.q, r.tau2, r.i2, r.p), (0.0, 0.0, 0.0, 1.0));
        assert!((r.standard_error - (0.05f64).sqrt()).abs() < 1e-12);
        assert!(random_effects(&[Estimate { value: 1.0, variance: 0.0 }; 2], 0.95).is_err());
        assert!(random_effects(&[Estimate { value: 1.0, variance: 0.1 }], 0.95).is_err());
    }

    proptest! {
        #[test]
        fn the_mean_lies_among_the_centres(values in prop::collection::vec((-3.0..3.0f64, 0.01..2.0f64), 2..10)) {
            let centres: Vec<_> = values.iter().map(|(value, variance)| Estimate { value: *value, variance: *variance }).collect();
            let r = random_effects(&centres, 0.95).unwrap();
            let low = values.iter().map(|v| v.0).fold(f64::INFINITY, f64::min);
            let high = values.iter().map(|v| v.0).fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(low - 1e-9 <= r.mean && r.mean <= high + 1e-9);
            prop_assert!(r.tau2 >= 0.0 && (0.0..1.0).contains(&r.i2) && (0.0..=1.0).contains(&r.p));
        }

        #[test]
        fn a_logit_turns_back(n in 1usize..500, share in 0.0..=1.0f64) {
            let k = (share * n as f64) as usize;
            let back = from_logit(logit(k, n).unwrap().value);
            prop_assert!((back - (k as f64 + 0.5) / (n as f64 + 1.0)).abs() < 1e-12);
        }
    }
}
