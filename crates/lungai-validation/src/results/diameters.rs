//! Measured against reference diameters of found nodules.

use super::Evaluation;
use lungai_metrics::Interval;
use lungai_metrics::measurements::bland_altman;
use serde::Serialize;

/// Share of differences that limits of agreement hold, by custom.
const AGREEMENT: f64 = 0.95;

/// Bland and Altman's comparison, measured less reference, in mm.
#[derive(Debug, Clone, Serialize)]
pub struct Diameters {
    /// Reference and measured diameter of each found nodule.
    pub pairs: Vec<[f64; 2]>,
    /// Mean difference.
    pub bias: f64,
    /// Interval of it.
    pub bias_interval: Interval,
    /// Standard deviation of the differences.
    pub sd: f64,
    /// Limits of agreement.
    pub limits: Interval,
    /// Interval of the lower one.
    pub lower_interval: Interval,
    /// Interval of the upper one.
    pub upper_interval: Interval,
    /// Change of the difference per mm of diameter, and its interval; absent where all diameters are equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slope: Option<[f64; 3]>,
}

impl Evaluation<'_> {
    /// None with fewer than three found nodules that were measured.
    pub(super) fn diameters(&self) -> Option<Diameters> {
        let pairs: Vec<[f64; 2]> =
            self.scored.iter().filter_map(|n| Some([n.diameter_mm, n.mark?.diameter_mm?])).collect();
        let (reference, measured): (Vec<f64>, Vec<f64>) = pairs.iter().map(|[a, b]| (*a, *b)).unzip();
        let b = bland_altman(&measured, &reference, AGREEMENT, self.level()).ok()?;
        Some(Diameters {
            pairs,
            bias: b.bias,
            bias_interval: b.bias_interval,
            sd: b.sd,
            limits: b.limits,
            lower_interval: b.lower_interval,
            upper_interval: b.upper_interval,
            slope: b.slope.map(|s| [s.value, s.interval[0], s.interval[1]]),
        })
    }
}
