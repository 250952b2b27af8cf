//! The ROC curve of resampled cases, and the AUC of pairs that are alike.

use crate::bootstrap::{Draws, percentile_interval};
use crate::error::{at_least, finite};
use crate::{Interval, MetricsError};
use lungai_trace::implements;

/// Cases by falling score, each drawn with its scan.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// Score, truth, scan.
    cases: Vec<(f64, bool, usize)>,
}

impl Ranked {
    /// - `scan`: which weight of a draw is the case's
    ///
    /// # Errors
    /// Lists of different length, a score that is not finite.
    pub fn new(scores: &[f64], positive: &[bool], scan: &[usize]) -> Result<Self, MetricsError> {
        for length in [positive.len(), scan.len()] {
            if length != scores.len() {
                return Err(MetricsError::Length { what: "scores and their cases", left: scores.len(), right: length });
            }
        }
        scores.iter().try_for_each(|score| finite("a score", *score).map(drop))?;
        let mut cases: Vec<_> = scores.iter().zip(positive).zip(scan).map(|((s, p), i)| (*s, *p, *i)).collect();
        cases.sort_by(|a, b| b.0.total_cmp(&a.0));
        Ok(Self { cases })
    }

    /// Positive and negative cases of each score, highest score first.
    fn steps(&self, weights: &[u32]) -> impl Iterator<Item = [u64; 2]> {
        self.cases.chunk_by(|a, b| a.0 == b.0).map(|tied| {
            [true, false]
                .map(|kind| tied.iter().filter(|case| case.1 == kind).map(|case| u64::from(weights[case.2])).sum())
        })
    }

    /// Area under the curve where scan `i` counts `weights[i]` times: the share of pairs of a positive and a negative case
    /// in which the positive one has the higher score, ties half. None without a case of each kind.
    ///
    /// # Panics
    /// If a case's scan has no weight.
    pub fn auc(&self, weights: &[u32]) -> Option<f64> {
        let (mut positives, mut negatives, mut halves_won) = (0, 0, 0);
        for [positive, negative] in self.steps(weights) {
            halves_won += negative * (2 * positives + positive);
            positives += positive;
            negatives += negative;
        }
        let pairs = positives as f64 * negatives as f64;
        (pairs > 0.0).then(|| halves_won as f64 / (2.0 * pairs))
    }

    /// Sensitivity at each false positive rate, ascending, where scan `i` counts `weights[i]` times; on the straight lines
    /// between the points of the curve, and the upper end of a vertical one. None without a case of each kind.
    ///
    /// # Panics
    /// If a case's scan has no weight.
    pub fn sensitivity_at(&self, weights: &[u32], rates: &[f64]) -> Option<Vec<f64>> {
        let mut counted = vec![[0, 0]];
        for step in self.steps(weights) {
            let last = counted[counted.len() - 1];
            counted.push([last[0] + step[0], last[1] + step[1]]);
        }
        let [positives, negatives] = counted[counted.len() - 1].map(|n| n as f64);
        if positives == 0.0 || negatives == 0.0 {
            return None;
        }
        let curve: Vec<(f64, f64)> =
            counted.iter().map(|[hits, alarms]| (*alarms as f64 / negatives, *hits as f64 / positives)).collect();
        let mut segment = 0;
        let read = |rate: &f64| {
            while segment + 1 < curve.len() && curve[segment + 1].0 <= *rate {
                segment += 1;
            }
            let (x, y) = curve[segment];
            match curve.get(segment + 1) {
                Some((next_x, next_y)) => y + (rate - x) / (next_x - x) * (next_y - y),
                None => y,
            }
        };
        Some(rates.iter().map(read).collect())
    }
}

/// Pointwise percentile intervals of the sensitivity at each false positive rate, over the draws; widened to hold the
/// curve itself. Empty where the cases are of one kind.
///
/// # Errors
/// Rates that are not ascending within `0..=1`, a level outside `0..1`.
#[implements("FR-005")]
pub fn roc_band(
    ranked: &Ranked,
    scans: usize,
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
    let Some(curve) = ranked.sensitivity_at(&vec![1; scans], rates) else { return Ok(Vec::new()) };
    let drawn: Vec<Vec<f64>> = draws.iter().filter_map(|weights| ranked.sensitivity_at(&weights, rates)).collect();
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
    fn a_curve_is_read_on_its_straight_lines() {
        let ranked = Ranked::new(&SCORES, &TRUTH, &[0, 1, 2, 3, 4]).unwrap();
        // (0, 0), (0, 1/2), (1/3, 1), (2/3, 1), (1, 1): vertical first, then the tie's slope.
        let at = ranked.sensitivity_at(&[1; 5], &[0.0, 1.0 / 6.0, 0.5, 1.0]).unwrap();
        assert_eq!(at, [0.5, 0.75, 1.0, 1.0]);
        // The scan of the tied negative is not drawn, that of the first positive twice: (0, 1) at once.
        assert_eq!(ranked.sensitivity_at(&[2, 1, 0, 1, 1], &[0.0]).unwrap(), [1.0]);
        assert_eq!(ranked.sensitivity_at(&[1, 1, 0, 0, 0], &[0.0]), None);
    }

    #[verifies("FR-005")]
    #[test]
    fn a_band_holds_its_curve() {
        let ranked = Ranked::new(&SCORES, &TRUTH, &[0, 1, 2, 3, 4]).unwrap();
        let draws = Draws::of_clusters(&[0, 1, 2, 3, 4], 200, 1).unwrap();
        let rates = [0.0, 0.25, 0.5, 1.0];
        let band = roc_band(&ranked, 5, &draws, &rates, 0.95).unwrap();
        assert!(band.iter().all(|(value, [low, high])| low <= value && value <= high));
        assert!(band[0].1[0] < 0.5 && band[3].1 == [1.0, 1.0]);
        assert!(roc_band(&ranked, 5, &draws, &[0.5, 0.5], 0.95).is_err());
        assert!(roc_band(&ranked, 5, &draws, &[1.5], 0.95).is_err());
        let of_one_kind = Ranked::new(&[0.1, 0.2], &[true, true], &[0, 1]).unwrap();
        assert_eq!(roc_band(&of_one_kind, 5, &draws, &rates, 0.95), Ok(vec![]));
        assert!(Ranked::new(&[f64::NAN], &[true], &[0]).is_err());
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
                let ranked = Ranked::new(&scores, &truth, &scans).unwrap();
                prop_assert!((ranked.auc(&vec![1; cases.len()]).unwrap() - auc.value).abs() < 1e-12);
            }
        }

        #[test]
        fn a_curve_rises(cases in prop::collection::vec((0u8..6, any::<bool>(), 0u32..3), 2..40)) {
            let scores: Vec<f64> = cases.iter().map(|c| f64::from(c.0)).collect();
            let truth: Vec<bool> = cases.iter().map(|c| c.1).collect();
            let weights: Vec<u32> = cases.iter().map(|c| c.2).collect();
            let ranked = Ranked::new(&scores, &truth, &(0..cases.len()).collect::<Vec<_>>()).unwrap();
            let rates: Vec<f64> = (0..=20).map(|i| f64::from(i) / 20.0).collect();
            if let Some(at) = ranked.sensitivity_at(&weights, &rates) {
                prop_assert!(at.windows(2).all(|pair| pair[0] <= pair[1] + 1e-12));
                prop_assert!(at.iter().all(|v| (0.0..=1.0 + 1e-12).contains(v)) && at[20] > 1.0 - 1e-12);
            }
        }
    }
}
