//! Malignancy of nodules at known places.

use crate::cubes;
use burn::tensor::{Device, Tensor};
use lungai_ct::{Volume, WorldPoint};
use lungai_models::classifier::{ClassifierConfig, ClassifierNet};
use lungai_models::members::mean;
use lungai_trace::implements;

/// The malignancy logit for each centre, mean of all `nets`, before calibration.
#[implements("FR-005")]
pub fn logits(
    nets: &[&ClassifierNet],
    config: &ClassifierConfig,
    volume: &Volume,
    centres: &[WorldPoint],
    device: &Device,
) -> Vec<f64> {
    logits_by(
        &|cubes| mean(nets, |net| net.forward(cubes.clone())),
        config,
        volume,
        centres,
        cubes::CUBES_AT_ONCE,
        device,
    )
}

/// [`logits`] with any engine for the network.
///
/// - `output`: `[b, OUTPUTS]` for cubes `[b, 1, n, n, n]`, the malignancy logit first
/// - `at_once`: cubes that go through it together, at least one
pub fn logits_by(
    output: &dyn Fn(Tensor<5>) -> Tensor<2>,
    config: &ClassifierConfig,
    volume: &Volume,
    centres: &[WorldPoint],
    at_once: usize,
    device: &Device,
) -> Vec<f64> {
    let shape = cubes::Shape { edge: config.tile, spacing_mm: config.spacing_mm, window_hu: config.window_hu, at_once };
    cubes::first_outputs(&shape, volume, centres, device, |cubes| output(cubes).narrow(1, 0, 1))
}
