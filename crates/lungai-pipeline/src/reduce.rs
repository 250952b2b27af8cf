//! The second look: every candidate of the detector goes through a small network that sees finer voxels round it, and the two
//! opinions become one score.

use crate::cubes;
use crate::detect::{Candidate, by_falling_score};
use burn::tensor::{Device, Tensor};
use lungai_ct::Volume;
use lungai_models::members::mean;
use lungai_models::reducer::{ReducerConfig, ReducerNet};
use lungai_trace::implements;

/// Candidates that the detector scores lower are not looked at again: part of the model, whatever the operating point.
pub const PROPOSAL_SCORE: f64 = 0.02;

/// The detector's score beyond which it is taken for certain: its logit stays finite.
const CERTAIN: f64 = 1e-6;

/// The candidates with their new scores, highest first.
#[implements("FR-004")]
pub fn rescored(
    nets: &[&ReducerNet],
    config: &ReducerConfig,
    volume: &Volume,
    candidates: &[Candidate],
    device: &Device,
) -> Vec<Candidate> {
    let centres: Vec<_> = candidates.iter().map(|candidate| candidate.position).collect();
    let shape = cubes::Shape {
        edge: config.tile,
        spacing_mm: config.spacing_mm,
        window_hu: config.window_hu,
        at_once: cubes::CUBES_AT_ONCE,
    };
    let logit = |cubes: Tensor<5>| mean(nets, |net| net.forward(cubes.clone()));
    let logits = cubes::first_outputs(&shape, volume, &centres, device, logit);
    let rescored = candidates.iter().zip(logits);
    by_falling_score(rescored.map(|(c, logit)| Candidate { score: combined(c.score, logit), ..*c }).collect())
}

/// The score of the mean of both logits: `1 / (1 + exp(-(ln(s / (1 - s)) + r) / 2))`.
///
/// - `score`: the detector's, `0..=1`
/// - `logit`: the reducer's
pub fn combined(score: f64, logit: f64) -> f64 {
    let score = score.clamp(CERTAIN, 1.0 - CERTAIN);
    let detector = (score / (1.0 - score)).ln();
    1.0 / (1.0 + (-(detector + logit) / 2.0).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    #[verifies("FR-004")]
    #[test]
    fn two_opinions_become_one_score() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        // Odds 9 and 1: their geometric mean is 3.
        close(combined(0.9, 0.0), 0.75);
        // Odds 1/4 and 16: 2.
        close(combined(0.2, 16f64.ln()), 2.0 / 3.0);
        // Who agrees with the detector changes nothing.
        close(combined(0.3, (0.3f64 / 0.7).ln()), 0.3);
        assert!(combined(1.0, -3.0).is_finite() && combined(1.0, -3.0) < 1.0 && combined(0.0, 3.0) > 0.0);
    }
}
