//! The ROC curve of resampled cases, and the AUC of pairs that are alike.

use crate::bootstrap::{Draws, percentile_interval};
use crate::error::{at_least, finite};
use crate::roc::Ranked;
use crate::{Interval, MetricsError};
use lungai_trace::implements;

/// Pointwise percentile intervals of the sensitivity at each false positive rate, over the draws; widened to hold the
/// curve itself. Empty where the cases are of one kind.
///
/// - `scan`: which weight of a draw is the case's
///
/// # Errors
/// Rates that are not ascending within `0..=1`, a level outside `0..1`.
///
/// # Panics
/// If a case's scan is none of the draws'.
#[implements("FR-005")]
pub fn roc_band(
    ranked: &Ranked,
    scan: &[usize],
    draws: &Draws,
    rates: &[f64],
    level: f64,
) -> Result<Vec<(f64, Interval)>, MetricsError> {
    if let Some(rate) = rates.iter().find(|rate| !(0.0..=1.0).contains(*rate)) {
        return Err(MetricsError::Range { what: "a false positive rate", value: *rate, range: "from 0 to 1" });
    }
    if let Some(pair) = rates.windows(2).find(|pair| pair[0] >= pair[1]) {
        return Err(MetricsError::Range {
            what: "a false positive rate",
            value: pair[1],
            range: "above the one before",
        });
    }
    let Some(curve) = ranked.sensitivity_at(rates, |_| 1.0) else { return Ok(Vec::new()) };
    let of_draw = |weights: &[u32]| ranked.sensitivity_at(rates, |case| f64::from(weights[scan[case]]));
    let drawn: Vec<Vec<f64>> = draws.map(of_draw).into_iter().flatten().collect();
    at_least("bootstrap replicates with both kinds of case", drawn.len(), 1)?;
    let of_rate = |(i, value): (usize, &f64)| {
        let [low, high] = percentile_interval(drawn.iter().map(|values| values[i]).collect(), level)?;
        Ok((*value, [low.min(*value), high.max(*value)]))
    };
    curve.iter().enumerate().map(of_rate).collect()
}

/// A positive and a negative case whose covariate is alike.
#[derive(Debug, Clone, PartialEq)]
pub struct MatchedPairs {
    /// Scan of the positive case, scan of the negative one, and 1, 0.5 or 0 for who has the higher score.
    pairs: Vec<(usize, usize, f64)>,
}

impl MatchedPairs {
    /// All pairs of a positive and a negative case whose covariates (diameters) differ by a factor of at most `ratio`: what
    /// is left of an AUC when it cannot be due to the covariate (covariate-adjusted AUC; Janes and Pepe, Biometrika
    /// 2009;96:371).
    ///
    /// # Errors
    /// Lists of different length, a score that is not finite, a covariate that is not above 0, a ratio below 1.
    #[implements("FR-005")]
    pub fn new(
        scores: &[f64],
        positive: &[bool],
        covariate: &[f64],
        scan: &[usize],
        ratio: f64,
    ) -> Result<Self, MetricsError> {
        for length in [positive.len(), covariate.len(), scan.len()] {
            if length != scores.len() {
                return Err(MetricsError::Length { what: "scores and their cases", left: scores.len(), right: length });
            }
        }
        scores.iter().try_for_each(|score| finite("a score", *score).map(drop))?;
        if let Some(value) = covariate.iter().copied().find(|v| !(v.is_finite() && *v > 0.0)) {
            return Err(MetricsError::Range { what: "a covariate", value, range: "above 0" });
        }
        if !(ratio.is_finite() && ratio >= 1.0) {
            return Err(MetricsError::Range { what: "ratio of matched covariates", value: ratio, range: "at least 1" });
        }
        let of_kind = |kind: bool| (0..scores.len()).filter(move |i| positive[*i] == kind);
        let mut pairs = Vec::new();
        for p in of_kind(true) {
            for n in of_kind(false) {
                let (a, b) = (covariate[p], covariate[n]);
                if a.max(b) <= ratio * a.min(b) {
                    let won = match scores[p].total_cmp(&scores[n]) {
                        std::cmp::Ordering::Greater => 1.0,
                        std::cmp::Ordering::Equal => 0.5,
                        std::cmp::Ordering::Less => 0.0,
                    };
                    pairs.push((scan[p], scan[n], won));
                }
            }
        }
        Ok(Self { pairs })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Share of pairs in which the positive case has the higher score, where scan `i` counts `weights[i]` times; none without
    /// a pair.
    ///
    /// # Panics
    /// If a case's scan has no weight.
    pub fn auc(&self, weights: &[u32]) -> Option<f64> {
        let weigh = |p: usize, n: usize| f64::from(weights[p]) * f64::from(weights[n]);
        let (won, all) = self.pairs.iter().fold((0.0, 0.0), |(won, all), (p, n, who)| {
            let weight = weigh(*p, *n);
            (won + weight * who, all + weight)
        });
        (all > 0.0).then(|| won / all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roc;
    use lungai_trace::verifies;
    use proptest::prelude::*;

    const SCORES: [f64; 5] = [0.9, 0.7, 0.7, 0.4, 0.1];
    const TRUTH: [bool; 5] = [true, true, false, false, false];

    #[verifies("FR-005")]
    #[test]
    fn a_band_holds_its_curve() {
        let (ranked, scans) = (Ranked::new(&SCORES, &TRUTH).unwrap(), [0, 1, 2, 3, 4]);
        let draws = Draws::of_clusters(&[0, 1, 2, 3, 4], 200, 1).unwrap();
        let rates = [0.0, 0.25, 0.5, 1.0];
        let band = roc_band(&ranked, &scans, &draws, &rates, 0.95).unwrap();
        assert!(band.iter().all(|(value, [low, high])| low <= value && value <= high));
        assert!(band[0].1[0] < 0.5 && band[3].1 == [1.0, 1.0]);
        assert!(roc_band(&ranked, &scans, &draws, &[0.5, 0.5], 0.95).is_err());
        assert!(roc_band(&ranked, &scans, &draws, &[1.5], 0.95).is_err());
        let of_one_kind = Ranked::new(&[0.1, 0.2], &[true, true]).unwrap();
        assert_eq!(roc_band(&of_one_kind, &scans, &draws, &rates, 0.95), Ok(vec![]));
    }

    #[verifies("FR-005")]
    #[test]
    fn a_band_is_the_same_for_any_number_of_threads() {
        let scores: Vec<f64> = (0..60).map(|i| f64::from(i * 37 % 60) / 60.0).collect();
        let truth: Vec<bool> = (0..60).map(|i| i % 3 == 0).collect();
        let scans: Vec<usize> = (0..60).map(|i| i / 2).collect();
        let draws = Draws::of_clusters(&(0..30).collect::<Vec<_>>(), 700, 5).unwrap();
        let band = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let ranked = Ranked::new(&scores, &truth).unwrap();
            pool.install(|| roc_band(&ranked, &scans, &draws, &[0.1, 0.5, 0.9], 0.95)).unwrap()
        };
        let one = band(1);
        assert!(one[0].1[0] < one[0].1[1], "{one:?}");
        assert_eq!(one, band(3));
        assert_eq!(one, band(7));
    }

    #[verifies("FR-005")]
    #[test]
    fn only_pairs_of_like_size_are_compared() {
        // Positive of 10 and 6 mm, negative of 9, 6 and 3 mm; a ratio of 1.25 leaves 10-9 (won) and 6-6 (lost).
        let sizes = [10.0, 6.0, 9.0, 6.0, 3.0];
        let scores = [0.9, 0.3, 0.7, 0.4, 0.1];
        let pairs = MatchedPairs::new(&scores, &TRUTH, &sizes, &[0, 1, 2, 3, 4], 1.25).unwrap();
        assert_eq!((pairs.len(), pairs.auc(&[1; 5])), (2, Some(0.5)));
        assert_eq!(pairs.auc(&[2, 1, 1, 1, 1]), Some(2.0 / 3.0));
        assert_eq!(pairs.auc(&[0, 1, 1, 0, 1]), None);
        assert!(MatchedPairs::new(&scores, &TRUTH, &[0.0; 5], &[0; 5], 1.25).is_err());
        assert!(MatchedPairs::new(&scores, &TRUTH, &sizes, &[0; 5], 0.9).is_err());
    }

    proptest! {
        #[test]
        fn pairs_of_any_size_give_the_auc(cases in prop::collection::vec((0u8..6, any::<bool>(), 1.0..30.0f64), 2..40)) {
            let scores: Vec<f64> = cases.iter().map(|c| f64::from(c.0)).collect();
            let truth: Vec<bool> = cases.iter().map(|c| c.1).collect();
            let sizes: Vec<f64> = cases.iter().map(|c| c.2).collect();
            let scans: Vec<usize> = (0..cases.len()).collect();
            let pairs = MatchedPairs::new(&scores, &truth, &sizes, &scans, 100.0).unwrap();
            // DeLong's variance asks for two cases of each kind.
            if let Ok(auc) = roc::auc(&scores, &truth, 0.95) {
                prop_assert!((pairs.auc(&vec![1; cases.len()]).unwrap() - auc.value).abs() < 1e-12);
                let ranked = Ranked::new(&scores, &truth).unwrap();
                prop_assert!((ranked.auc(|_| 1.0).unwrap() - auc.value).abs() < 1e-12);
            }
        }
    }
}
