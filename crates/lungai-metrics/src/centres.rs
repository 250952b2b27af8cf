//! Whether centres differ by more than chance, and what a further centre may expect.

use crate::distributions::{chi_squared_upper_tail, t_quantile};
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

/// How the variance between centres is estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TauSquared {
    /// By moments, in one step (Control Clin Trials 1986;7:177): what most reports give.
    DerSimonianLaird,
    /// By moments, until Q with the final weights equals its degrees of freedom (J Res Natl Bur Stand 1982;87:377).
    PauleMandel,
    /// By restricted likelihood, Fisher scoring (Viechtbauer, J Educ Behav Stat 2005;30:261).
    Reml,
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
    /// Hartung and Knapp's interval (Stat Med 2001;20:3875), by t with centres less one degrees of freedom: holds its
    /// level with few centres, where `interval` is too narrow.
    pub hartung_knapp: Interval,
    /// `hartung_knapp`, its factor held at 1 or more (Röver, Knapp and Friede, BMC Med Res Methodol 2015;15:99): centres that
    /// are more alike than chance would have them, by chance, make it no narrower than `interval`.
    pub hartung_knapp_held: Interval,
    /// Where the figure of a further centre may lie: `mean` -+ t sqrt(tau2 + SE^2) with centres less two degrees of freedom
    /// (Higgins, Thompson and Spiegelhalter, J R Stat Soc A 2009;172:137). `None` with two centres.
    pub prediction: Option<Interval>,
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

/// Random effects by DerSimonian and Laird; I2 by Higgins and Thompson (Stat Med 2002;21:1539). With few centres tau2 is
/// itself uncertain: read the centres' own rows first.
///
/// # Errors
/// Fewer than two centres, a value that is not finite, a variance that is not above zero, a level outside `0..1`.
pub fn random_effects(centres: &[Estimate], level: f64) -> Result<RandomEffects, MetricsError> {
    random_effects_by(centres, TauSquared::DerSimonianLaird, level)
}

/// [`random_effects`] with a named estimator of the variance between centres.
///
/// # Errors
/// As [`random_effects`].
#[implements("FR-004")]
pub fn random_effects_by(centres: &[Estimate], how: TauSquared, level: f64) -> Result<RandomEffects, MetricsError> {
    at_least("centres", centres.len(), 2)?;
    for centre in centres {
        finite("a centre's value", centre.value)?;
        if finite("a centre's variance", centre.variance)? <= 0.0 {
            let value = centre.variance;
            return Err(MetricsError::Range { what: "a centre's variance", value, range: "above 0" });
        }
    }
    let z = deviate(level)?;
    let k = centres.len() as f64;
    let alike = Pooled::new(centres, 0.0);
    let (q, df) = (alike.q, centres.len() - 1);
    // Higgins and Thompson's typical variance within a centre is df / scale.
    let scale = alike.sum - alike.sum_of_squares / alike.sum;
    let tau2 = match how {
        TauSquared::DerSimonianLaird => ((q - df as f64) / scale).max(0.0),
        TauSquared::PauleMandel => paule_mandel(centres),
        TauSquared::Reml => reml(centres),
    };
    let pooled = Pooled::new(centres, tau2);
    let mean = pooled.mean;
    let standard_error = pooled.sum.powf(-0.5);
    let around = |half: f64| [mean - half, mean + half];
    let upper = 0.5 + level / 2.0;
    let factor = (pooled.q / (k - 1.0)).sqrt();
    let by_t = |factor: f64| around(t_quantile(upper, k - 1.0) * factor * standard_error);
    let spread = (tau2 + standard_error.powi(2)).sqrt();
    Ok(RandomEffects {
        mean,
        standard_error,
        interval: around(z * standard_error),
        hartung_knapp: by_t(factor),
        hartung_knapp_held: by_t(factor.max(1.0)),
        prediction: (centres.len() > 2).then(|| around(t_quantile(upper, k - 2.0) * spread)),
        q,
        df,
        p: chi_squared_upper_tail(q, df as f64),
        tau2,
        i2: tau2 / (tau2 + df as f64 / scale),
    })
}

/// The result without each centre in turn, in their order: whether one of them carries the whole.
///
/// # Errors
/// Fewer than three centres; as [`random_effects`].
pub fn leave_one_out(centres: &[Estimate], how: TauSquared, level: f64) -> Result<Vec<RandomEffects>, MetricsError> {
    at_least("centres of a leave-one-out analysis", centres.len(), 3)?;
    let without = |i: usize| -> Vec<Estimate> {
        centres.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, centre)| *centre).collect()
    };
    (0..centres.len()).map(|i| random_effects_by(&without(i), how, level)).collect()
}

/// The weighted mean for one variance between centres.
struct Pooled {
    mean: f64,
    /// Sum of the weights.
    sum: f64,
    sum_of_squares: f64,
    /// Weighted squares about the mean.
    q: f64,
}

impl Pooled {
    fn new(centres: &[Estimate], tau2: f64) -> Self {
        let weight = |c: &Estimate| 1.0 / (c.variance + tau2);
        let sum: f64 = centres.iter().map(weight).sum();
        let mean = centres.iter().map(|c| weight(c) * c.value).sum::<f64>() / sum;
        let sum_of_squares = centres.iter().map(|c| weight(c).powi(2)).sum();
        let q = centres.iter().map(|c| weight(c) * (c.value - mean).powi(2)).sum();
        Self { mean, sum, sum_of_squares, q }
    }
}

/// Q falls as tau2 grows: bisection to the last bit.
fn paule_mandel(centres: &[Estimate]) -> f64 {
    let df = centres.len() as f64 - 1.0;
    let above = |tau2: f64| Pooled::new(centres, tau2).q > df;
    if !above(0.0) {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    while above(high) {
        (low, high) = (high, 2.0 * high);
    }
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return middle;
        }
        if above(middle) { low = middle } else { high = middle }
    }
}

fn reml(centres: &[Estimate]) -> f64 {
    let mut tau2 = paule_mandel(centres);
    // Converges geometrically; two hundred steps are for the flattest likelihoods.
    for _ in 0..200 {
        let pooled = Pooled::new(centres, tau2);
        let excess: f64 =
            centres.iter().map(|c| ((c.value - pooled.mean).powi(2) - c.variance) / (c.variance + tau2).powi(2)).sum();
        let next = (excess / pooled.sum_of_squares + 1.0 / pooled.sum).max(0.0);
        let done = (next - tau2).abs() <= 1e-14 * next;
        tau2 = next;
        if done {
            break;
        }
    }
    tau2
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
        // REML and Paule-Mandel of the same page: tau2 0.3132 (mean -0.7145, SE 0.1798) and 0.3181.
        let reml = random_effects_by(&estimates, TauSquared::Reml, 0.95).unwrap();
        assert!((reml.tau2 - 0.3132).abs() < 1e-4 && (reml.mean + 0.7145).abs() < 5e-5, "{reml:?}");
        assert!((reml.standard_error - 0.1798).abs() < 5e-5 && (reml.i2 - 0.9222).abs() < 5e-5, "{reml:?}");
        let moments = random_effects_by(&estimates, TauSquared::PauleMandel, 0.95).unwrap();
        assert!((moments.tau2 - 0.3181).abs() < 5e-5, "{moments:?}");
        let r = random_effects(&estimates, 0.95).unwrap();
        assert!((r.mean + 0.7141).abs() < 5e-5 && (r.standard_error - 0.1787).abs() < 5e-5, "{r:?}");
        assert!((r.q - 152.2330).abs() < 5e-5 && r.df == 12 && r.p < 1e-20, "{r:?}");
        assert!((r.tau2 - 0.3088).abs() < 5e-5 && (r.i2 - 0.9212).abs() < 5e-5, "{r:?}");
    }

    #[verifies("FR-004")]
    #[test]
    fn three_centres_by_hand() {
        // Values 0, 1, 2 with variances of 0.5: weights 2, Q = 2 * 2 = 4, tau2 = (4 - 2) / (6 - 12 / 6) = 0.5, weights then 1.
        let centres = [0.0, 1.0, 2.0].map(|value| Estimate { value, variance: 0.5 });
        for how in [TauSquared::DerSimonianLaird, TauSquared::PauleMandel, TauSquared::Reml] {
            let r = random_effects_by(&centres, how, 0.95).unwrap();
            assert!((r.tau2 - 0.5).abs() < 1e-12 && r.mean == 1.0 && (r.i2 - 0.5).abs() < 1e-12, "{how:?} {r:?}");
            // One degree of freedom: t = 12.7062; sqrt(0.5 + 1/3) = 0.9129.
            let [low, high] = r.prediction.unwrap();
            assert!((high - 12.599).abs() < 1e-3 && (low + high - 2.0).abs() < 1e-12, "{r:?}");
            // Two degrees: t = 4.30265; Hartung-Knapp's factor is sqrt(2 / 2) = 1 here.
            assert!((r.hartung_knapp[1] - (1.0 + 4.30265 / 3f64.sqrt())).abs() < 1e-4, "{r:?}");
        }
        let without = leave_one_out(&centres, TauSquared::DerSimonianLaird, 0.95).unwrap();
        assert_eq!(without.iter().map(|r| r.mean).collect::<Vec<_>>(), [1.5, 1.0, 0.5]);
        assert!(without[0].prediction.is_none());
        assert!(leave_one_out(&centres[..2], TauSquared::Reml, 0.95).is_err());
    }

    #[test]
    fn alike_centres_have_no_variance_between_them() {
        let r = random_effects(&[Estimate { value: 1.0, variance: 0.2 }; 4], 0.95).unwrap();
        assert_eq!((r.q, r.tau2, r.i2, r.p), (0.0, 0.0, 0.0, 1.0));
        assert!((r.standard_error - (0.05f64).sqrt()).abs() < 1e-12);
        // Hartung and Knapp's interval has no width then; held, it is t (3 degrees of freedom: 3.18245) standard errors.
        assert_eq!(r.hartung_knapp, [1.0, 1.0]);
        assert!((r.hartung_knapp_held[1] - (1.0 + 3.18245 * 0.05f64.sqrt())).abs() < 1e-5, "{r:?}");
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
