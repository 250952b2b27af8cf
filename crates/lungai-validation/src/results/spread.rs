//! How values lie: percentiles, not a mean that hides the worst scan.

use lungai_metrics::sample_quantile;
use serde::Serialize;

/// Percentiles of values, linear between ranks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// How many values.
    pub n: usize,
    /// Mean.
    pub mean: f64,
    /// The smallest.
    pub lowest: f64,
    /// 5th percentile.
    pub p5: f64,
    /// 25th percentile.
    pub p25: f64,
    /// 50th percentile.
    pub median: f64,
    /// 75th percentile.
    pub p75: f64,
    /// 95th percentile.
    pub p95: f64,
    /// The largest.
    pub highest: f64,
}

impl Spread {
    /// None of no values.
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let n = sorted.len();
        let last = n.checked_sub(1)?;
        let at = |share| sample_quantile(&sorted, share);
        Some(Self {
            n,
            mean: sorted.iter().sum::<f64>() / n as f64,
            lowest: sorted[0],
            p5: at(0.05),
            p25: at(0.25),
            median: at(0.5),
            p75: at(0.75),
            p95: at(0.95),
            highest: sorted[last],
        })
    }

    /// From the smallest to the largest, with their place in percent.
    pub fn percentiles(&self) -> [(f64, f64); 7] {
        [
            (0.0, self.lowest),
            (5.0, self.p5),
            (25.0, self.p25),
            (50.0, self.median),
            (75.0, self.p75),
            (95.0, self.p95),
            (100.0, self.highest),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_between_ranks() {
        // numpy.percentile(range(1, 6), [5, 25, 50, 75, 95]) = 1.2, 2, 3, 4, 4.8.
        let s = Spread::of([5.0, 1.0, 4.0, 2.0, 3.0].into_iter()).unwrap();
        assert_eq!((s.n, s.mean, s.lowest, s.highest), (5, 3.0, 1.0, 5.0));
        let expected = [1.2, 2.0, 3.0, 4.0, 4.8];
        for (got, expected) in [s.p5, s.p25, s.median, s.p75, s.p95].into_iter().zip(expected) {
            assert!((got - expected).abs() < 1e-12, "{got} against {expected}");
        }
        assert_eq!(Spread::of(std::iter::empty()), None);
        assert_eq!(Spread::of(std::iter::once(2.0)).unwrap().p95, 2.0);
    }
}
