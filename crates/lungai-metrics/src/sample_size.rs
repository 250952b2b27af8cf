//! How many cases a study needs, and what power it has. Figures to plan with are assumptions: round up, and plan for the
//! least favourable one that is still plausible.

use crate::MetricsError;
use crate::distributions::{chi_squared_quantile, f_quantile, noncentral_f_upper_tail};
use crate::error::{at_least, deviate, finite};
use crate::mrmc::Components;
use crate::normal_quantile;
use lungai_trace::implements;

/// How much observations of one patient or scan are alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clusters {
    /// Mean number of observations of one cluster, at or above 1.
    pub size: f64,
    /// Correlation within a cluster, `0..=1`.
    pub correlation: f64,
}

impl Clusters {
    /// Every observation on its own.
    pub const NONE: Self = Self { size: 1.0, correlation: 0.0 };

    /// Kish's design effect, `1 + (m - 1) rho` (Survey Sampling, 1965).
    ///
    /// # Errors
    /// A size below 1, a correlation outside `0..=1`.
    pub fn design_effect(&self) -> Result<f64, MetricsError> {
        if !(self.size >= 1.0 && self.size.is_finite()) {
            return Err(MetricsError::Range { what: "a cluster's size", value: self.size, range: "at or above 1" });
        }
        within("a correlation within clusters", self.correlation, 0.0..=1.0, "from 0 to 1")?;
        Ok(1.0 + (self.size - 1.0) * self.correlation)
    }
}

/// How many observations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observations {
    /// Were they independent, not rounded.
    pub independent: f64,
    /// Times the design effect, rounded up.
    pub needed: usize,
    /// Clusters that hold so many, rounded up.
    pub clusters: usize,
}

/// Observations for a two-sided interval of a proportion of `-+ half_width` at confidence `level`:
/// `z^2 p (1 - p) / d^2` times the design effect (Wald's interval).
///
/// # Errors
/// A proportion not strictly between 0 and 1, a half width not above 0, a level outside `0..1`; [`Clusters::design_effect`].
#[implements("FR-004")]
pub fn proportion_precision(
    proportion: f64,
    half_width: f64,
    level: f64,
    clusters: Clusters,
) -> Result<Observations, MetricsError> {
    within_open("a proportion", proportion)?;
    above_zero("a half width", half_width)?;
    inflate((deviate(level)? / half_width).powi(2) * proportion * (1.0 - proportion), clusters)
}

/// Observations to show, by a one-sided test at `alpha`, that a proportion lies beyond `goal` with probability `power`, where
/// it really is `proportion`: `((z_a sqrt(p0 q0) + z_b sqrt(p1 q1)) / (p1 - p0))^2` times the design effect (Fleiss, Levin and
/// Paik, Statistical Methods for Rates and Proportions, 2003, 2.3).
///
/// # Errors
/// Proportions not strictly between 0 and 1 or equal, alpha or power not strictly between 0 and 1.
#[implements("FR-004")]
pub fn proportion_goal(
    proportion: f64,
    goal: f64,
    alpha: f64,
    power: f64,
    clusters: Clusters,
) -> Result<Observations, MetricsError> {
    within_open("a proportion", proportion)?;
    within_open("a goal", goal)?;
    let apart = distance("a proportion", proportion, goal)?;
    let spread = |p: f64| (p * (1.0 - p)).sqrt();
    let root = (upper("alpha", alpha)? * spread(goal) + upper("1 - power", 1.0 - power)? * spread(proportion)) / apart;
    inflate(root.powi(2), clusters)
}

/// Scans for a two-sided interval of the false positives per scan of `-+ half_width`: `z^2 lambda / d^2` times
/// `overdispersion`, the variance by the mean of their number in a scan (1 for Poisson).
///
/// # Errors
/// A rate, half width or overdispersion not above 0, a level outside `0..1`.
#[implements("FR-004")]
pub fn rate_precision(
    rate: f64,
    half_width: f64,
    level: f64,
    overdispersion: f64,
) -> Result<Observations, MetricsError> {
    above_zero("a rate", rate)?;
    above_zero("a half width", half_width)?;
    above_zero("an overdispersion", overdispersion)?;
    inflate((deviate(level)? / half_width).powi(2) * rate * overdispersion, Clusters::NONE)
}

/// Which variance of an area is planned with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AucVariance {
    /// Hanley and McNeil, Radiology 1982;143:29: exponential ratings.
    HanleyMcNeil,
    /// Obuchowski, Radiology 1994;192:549 (Obuchowski and McClish, Stat Med 1997;16:1529): binormal ratings; larger where the
    /// groups' spreads are alike.
    Obuchowski,
}

/// Variance of an area with so many cases of each group.
///
/// # Errors
/// An area not strictly between 0.5 and 1, a group without cases.
#[implements("FR-005")]
pub fn auc_variance(how: AucVariance, auc: f64, positives: f64, negatives: f64) -> Result<f64, MetricsError> {
    within("an area", auc, 0.5..=0.999_999, "from 0.5 to below 1")?;
    above_zero("positive cases", positives)?;
    above_zero("negative cases", negatives)?;
    Ok(match how {
        AucVariance::HanleyMcNeil => {
            let (q1, q2) = (auc / (2.0 - auc), 2.0 * auc * auc / (1.0 + auc));
            let squared = auc * auc;
            (auc * (1.0 - auc) + (positives - 1.0) * (q1 - squared) + (negatives - 1.0) * (q2 - squared))
                / (positives * negatives)
        }
        AucVariance::Obuchowski => {
            let a = normal_quantile(auc) * 1.414; // the source's digits
            let ratio = negatives / positives;
            0.0099 * (-a * a / 2.0).exp() * ((5.0 * a * a + 8.0) + (a * a + 8.0) / ratio) / positives
        }
    })
}

/// Cases of both groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TwoGroups {
    /// Positive cases.
    pub positives: usize,
    /// Negative cases.
    pub negatives: usize,
}

/// Cases for a two-sided interval of an area of `-+ half_width`, with so many negative cases for each positive one.
///
/// # Errors
/// As [`auc_variance`]; a half width not above 0, a level outside `0..1`; more than a hundred million cases.
#[implements("FR-005")]
pub fn auc_precision(
    how: AucVariance,
    auc: f64,
    half_width: f64,
    level: f64,
    negatives_per_positive: f64,
) -> Result<TwoGroups, MetricsError> {
    above_zero("a half width", half_width)?;
    let z = deviate(level)?;
    fewest(negatives_per_positive, |m, n| Ok(z * auc_variance(how, auc, m, n)?.sqrt() <= half_width))
}

/// Cases to show, by a one-sided test at `alpha`, that an area exceeds `goal` with probability `power`, where it really is `auc`.
///
/// # Errors
/// As [`auc_precision`]; an area that is not above the goal.
#[implements("FR-005")]
pub fn auc_goal(
    how: AucVariance,
    auc: f64,
    goal: f64,
    alpha: f64,
    power: f64,
    negatives_per_positive: f64,
) -> Result<TwoGroups, MetricsError> {
    let (z_alpha, z_beta) = (upper("alpha", alpha)?, upper("1 - power", 1.0 - power)?);
    if auc <= goal {
        return Err(MetricsError::Range { what: "an area", value: auc, range: "above the goal" });
    }
    fewest(negatives_per_positive, |m, n| {
        let sd = |auc: f64| auc_variance(how, auc, m, n).map(f64::sqrt);
        Ok(z_alpha * sd(goal)? + z_beta * sd(auc)? <= auc - goal)
    })
}

/// Cases to find two areas on the same cases different, by a two-sided test at `alpha` with probability `power`; `correlation`
/// is that of the two areas (Hanley and McNeil, Radiology 1983;148:839), 0 for two independent samples of that size each.
///
/// # Errors
/// As [`auc_precision`]; equal areas, a correlation outside `-1..1`.
#[implements("FR-005")]
pub fn auc_difference(
    how: AucVariance,
    areas: [f64; 2],
    correlation: f64,
    alpha: f64,
    power: f64,
    negatives_per_positive: f64,
) -> Result<TwoGroups, MetricsError> {
    let apart = distance("an area", areas[0], areas[1])?;
    within("a correlation of two areas", correlation, -0.999_999..=0.999_999, "between -1 and 1")?;
    let (z_alpha, z_beta) = (upper("alpha", alpha / 2.0)?, upper("1 - power", 1.0 - power)?);
    fewest(negatives_per_positive, |m, n| {
        let both = areas.map(|auc| auc_variance(how, auc, m, n));
        let [first, second] = [both[0].clone()?, both[1].clone()?];
        // Under the null hypothesis both have the first one's variance.
        let alike = 2.0 * first * (1.0 - correlation);
        let apart_variance = first + second - 2.0 * correlation * (first * second).sqrt();
        Ok(z_alpha * alike.sqrt() + z_beta * apart_variance.sqrt() <= apart)
    })
}

/// What a planned reader study is to hold for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generalise {
    /// Readers and cases like these.
    ReadersAndCases,
    /// These readers, cases like these.
    Cases,
    /// Readers like these, these cases.
    Readers,
}

/// Power of a reader study of two treatments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReaderPower {
    /// Probability of a significant difference.
    pub power: f64,
    /// Noncentrality of the F statistic.
    pub noncentrality: f64,
    /// Degrees of freedom of the denominator; infinite for a chi-squared test.
    pub ddf: f64,
}

/// Power with `readers` and `cases` to find a difference of `effect` between two treatments at `alpha`, from the components that
/// a pilot study of `pilot_cases` cases has (Hillis, Obuchowski and Berbaum, Acad Radiol 2011;18:129): for any figure of merit,
/// ROC or FROC. A negative component counts as zero.
///
/// # Errors
/// Fewer than two readers where they are random, no cases, an effect of 0, an alpha outside `0..1`, components that leave no
/// variance.
#[implements("FR-004")]
pub fn reader_power(
    pilot: &Components,
    pilot_cases: usize,
    readers: usize,
    cases: usize,
    effect: f64,
    alpha: f64,
    what: Generalise,
) -> Result<ReaderPower, MetricsError> {
    at_least("cases of the pilot study", pilot_cases, 1)?;
    at_least("planned cases", cases, 1)?;
    at_least("planned readers", readers, if what == Generalise::Cases { 1 } else { 2 })?;
    within_open("alpha", alpha)?;
    if finite("an effect", effect)? == 0.0 {
        return Err(MetricsError::Range { what: "an effect", value: effect, range: "away from 0" });
    }
    let j = readers as f64;
    let scale = pilot_cases as f64 / cases as f64;
    let excess = (pilot.cov2 - pilot.cov3).max(0.0);
    let interaction = pilot.treatment_reader.unwrap_or(0.0).max(0.0);
    let of_cases = scale * (pilot.var - pilot.cov1 + (j - 1.0) * excess);
    let of_readers = interaction + scale * (pilot.var - pilot.cov1 - excess);
    let (variance, ddf) = match what {
        Generalise::ReadersAndCases => {
            let variance = interaction + of_cases;
            (variance, variance.powi(2) * (j - 1.0) / of_readers.powi(2))
        }
        Generalise::Cases => (of_cases, f64::INFINITY),
        Generalise::Readers => (of_readers, j - 1.0),
    };
    above_zero("the variance that the components leave", variance)?;
    let noncentrality = effect.powi(2) * j / 2.0 / variance;
    let critical =
        if ddf.is_infinite() { chi_squared_quantile(1.0 - alpha, 1.0) } else { f_quantile(1.0 - alpha, 1.0, ddf) };
    Ok(ReaderPower { power: noncentral_f_upper_tail(critical, 1.0, ddf, noncentrality), noncentrality, ddf })
}

/// The fewest cases with which [`reader_power`] reaches `power`; `None` where a hundred thousand do not, because readers
/// differ too much: then more readers are needed.
///
/// # Errors
/// As [`reader_power`]; a power outside `0..1`.
pub fn reader_study_cases(
    pilot: &Components,
    pilot_cases: usize,
    readers: usize,
    effect: f64,
    alpha: f64,
    power: f64,
    what: Generalise,
) -> Result<Option<usize>, MetricsError> {
    within_open("power", power)?;
    let enough = |cases: usize| -> Result<bool, MetricsError> {
        Ok(reader_power(pilot, pilot_cases, readers, cases, effect, alpha, what)?.power >= power)
    };
    let (mut low, mut high) = (0, 100_000); // not enough, enough
    if !enough(high)? {
        return Ok(None);
    }
    while high - low > 1 {
        let middle = low.midpoint(high);
        if enough(middle)? { high = middle } else { low = middle }
    }
    Ok(Some(high))
}

/// The fewest positive cases, with so many negative ones for each, that are enough; more are always enough too.
fn fewest(
    negatives_per_positive: f64,
    enough: impl Fn(f64, f64) -> Result<bool, MetricsError>,
) -> Result<TwoGroups, MetricsError> {
    const MOST: usize = 100_000_000;
    above_zero("negative cases for each positive one", negatives_per_positive)?;
    let negatives = |positives: usize| (positives as f64 * negatives_per_positive).ceil();
    let test = |positives: usize| enough(positives as f64, negatives(positives));
    let (mut low, mut high) = (0, 2);
    while !test(high)? {
        if high > MOST {
            return Err(MetricsError::Range { what: "the number of cases", value: high as f64, range: "below 1e8" });
        }
        (low, high) = (high, 2 * high);
    }
    while high - low > 1 {
        let middle = low.midpoint(high);
        if test(middle)? { high = middle } else { low = middle }
    }
    Ok(TwoGroups { positives: high, negatives: negatives(high) as usize })
}

fn inflate(independent: f64, clusters: Clusters) -> Result<Observations, MetricsError> {
    let needed = (independent * clusters.design_effect()? - 1e-9).ceil().max(1.0);
    Ok(Observations { independent, needed: needed as usize, clusters: (needed / clusters.size).ceil() as usize })
}

/// The deviate that a standard normal variable exceeds with this probability.
fn upper(what: &'static str, probability: f64) -> Result<f64, MetricsError> {
    within_open(what, probability)?;
    Ok(normal_quantile(1.0 - probability))
}

fn distance(what: &'static str, a: f64, b: f64) -> Result<f64, MetricsError> {
    let apart = (a - b).abs();
    if apart > 0.0 {
        Ok(apart)
    } else {
        Err(MetricsError::Range { what, value: a, range: "away from what it is held against" })
    }
}

fn within_open(what: &'static str, value: f64) -> Result<(), MetricsError> {
    if value > 0.0 && value < 1.0 { Ok(()) } else { Err(MetricsError::Range { what, value, range: "between 0 and 1" }) }
}

fn within(
    what: &'static str,
    value: f64,
    allowed: std::ops::RangeInclusive<f64>,
    range: &'static str,
) -> Result<(), MetricsError> {
    if allowed.contains(&value) { Ok(()) } else { Err(MetricsError::Range { what, value, range }) }
}

fn above_zero(what: &'static str, value: f64) -> Result<(), MetricsError> {
    if value > 0.0 && value.is_finite() { Ok(()) } else { Err(MetricsError::Range { what, value, range: "above 0" }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    #[verifies("FR-004")]
    #[test]
    fn a_sensitivity_within_five_points_takes_so_many_nodules() {
        // 1.96^2 * 0.9 * 0.1 / 0.05^2 = 138.3; with 1.5 nodules a patient, correlated by 0.2: design effect 1.1, 152.1.
        let n = proportion_precision(0.9, 0.05, 0.95, Clusters::NONE).unwrap();
        assert_eq!((n.needed, n.clusters), (139, 139));
        let clustered = proportion_precision(0.9, 0.05, 0.95, Clusters { size: 1.5, correlation: 0.2 }).unwrap();
        assert_eq!((clustered.needed, clustered.clusters), (153, 102));
        // 0.5 false positives a scan within 0.1: 3.8415 * 0.5 / 0.01 = 192.07.
        assert_eq!(rate_precision(0.5, 0.1, 0.95, 1.0).unwrap().needed, 193);
    }

    #[verifies("FR-004")]
    #[test]
    fn a_goal_takes_a_power() {
        // One-sided 0.025, power 0.8, 0.95 against 0.9: (1.95996 * 0.3 + 0.84162 * 0.217945)^2 / 0.0025 = 238.03.
        let n = proportion_goal(0.95, 0.9, 0.025, 0.8, Clusters::NONE).unwrap();
        assert!((n.independent - 238.033).abs() < 0.001 && n.needed == 239, "{n:?}");
        assert!(proportion_goal(0.9, 0.9, 0.025, 0.8, Clusters::NONE).is_err());
        assert!(proportion_precision(1.0, 0.05, 0.95, Clusters::NONE).is_err());
        assert!(proportion_precision(0.9, 0.05, 0.95, Clusters { size: 0.5, correlation: 0.2 }).is_err());
    }

    #[verifies("FR-005")]
    #[test]
    fn the_variance_of_an_area_is_that_of_its_sources() {
        // Area 0.8, 10 and 20 cases: Q1 = 0.8 / 1.2, Q2 = 1.28 / 1.8; (0.16 + 9 * 0.026667 + 19 * 0.071111) / 200.
        let v = auc_variance(AucVariance::HanleyMcNeil, 0.8, 10.0, 20.0).unwrap();
        assert!((v - (0.16 + 9.0 * (2.0 / 3.0 - 0.64) + 19.0 * (1.28 / 1.8 - 0.64)) / 200.0).abs() < 1e-15);
        // Their worked example, area 0.893 with 51 abnormal and 58 normal cases, has about 0.032.
        let se = auc_variance(AucVariance::HanleyMcNeil, 0.893, 51.0, 58.0).unwrap().sqrt();
        assert!((se - 0.032).abs() < 1e-3, "{se}");
        // Binormal at 0.5: 0.0099 * (8 + 8 / ratio) = 0.0792 (1 + 1 / ratio) for one positive case.
        let v = auc_variance(AucVariance::Obuchowski, 0.5, 10.0, 20.0).unwrap();
        assert!((v - 0.0792 * 1.5 / 10.0).abs() < 1e-15);
    }

    #[verifies("FR-005")]
    #[test]
    fn planned_cases_are_just_enough() {
        for how in [AucVariance::HanleyMcNeil, AucVariance::Obuchowski] {
            let n = auc_precision(how, 0.9, 0.04, 0.95, 2.0).unwrap();
            let half = |positives: usize| {
                1.959964 * auc_variance(how, 0.9, positives as f64, 2.0 * positives as f64).unwrap().sqrt()
            };
            assert!(half(n.positives) <= 0.04 && half(n.positives - 1) > 0.04 && n.negatives == 2 * n.positives);
        }
        // Without correlation two independent samples; correlated by 0.5 about half as many.
        let need = |r| auc_difference(AucVariance::Obuchowski, [0.8, 0.9], r, 0.05, 0.8, 1.0).unwrap().positives;
        assert!((need(0.0) as f64 / need(0.5) as f64 - 2.0).abs() < 0.2, "{} {}", need(0.0), need(0.5));
        assert!(auc_goal(AucVariance::Obuchowski, 0.9, 0.9, 0.025, 0.8, 1.0).is_err());
        let n = auc_goal(AucVariance::Obuchowski, 0.95, 0.9, 0.025, 0.8, 1.0).unwrap();
        assert!(n.positives > 50 && n.positives < 400, "{n:?}");
    }

    #[verifies("FR-004")]
    #[test]
    fn the_power_of_a_reader_study_is_that_of_rjafroc() {
        // RJafroc, SsPowerGivenJK (and scipy 1.17 by its formula) with Van Dyke's components, 6 readers, 251 cases, effect 0.05.
        let pilot = Components {
            reader: None,
            treatment_reader: Some(0.00020040252),
            cov1: 0.00034661371,
            cov2: 0.00034407483,
            cov3: 0.00023902837,
            var: 0.00080228827,
        };
        let power = |what| reader_power(&pilot, 114, 6, 251, 0.05, 0.05, what).unwrap();
        let both = power(Generalise::ReadersAndCases);
        // By hand: scale 0.45418; 0.0002004 + 0.45418 * (0.00045567 + 5 * 0.00010505) = 0.00064592; 0.0025 * 3 / that.
        assert!((both.noncentrality - 11.611).abs() < 0.005, "{both:?}");
        assert!((both.power - 0.892_281_988_865_655_4).abs() < 1e-10, "{both:?}");
        let cases = reader_study_cases(&pilot, 114, 6, 0.05, 0.05, 0.9, Generalise::ReadersAndCases).unwrap().unwrap();
        let at = |cases| reader_power(&pilot, 114, 6, cases, 0.05, 0.05, Generalise::ReadersAndCases).unwrap().power;
        assert!(at(cases) >= 0.9 && at(cases - 1) < 0.9);
        // Three readers that differ cannot show one point, however many cases they read.
        let none = reader_study_cases(&pilot, 114, 3, 0.01, 0.05, 0.9, Generalise::ReadersAndCases).unwrap();
        assert_eq!(none, None);
        assert!(reader_power(&pilot, 114, 1, 251, 0.05, 0.05, Generalise::Readers).is_err());
    }
}
