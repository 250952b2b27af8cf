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
    let shape = cubes::Shape { edge: config.tile, spacing_mm: config.spacing_mm, window_hu: config.window_hu };
    let malignancy = |cubes: Tensor<5>| mean(nets, |net| net.forward(cubes.clone())).narrow(1, 0, 1);
    cubes::first_outputs(&shape, volume, centres, device, malignancy)
}
