//! Malignancy of nodules at known places.

use burn::tensor::{Device, Tensor, TensorData};
use lungai_ct::{Volume, WorldPoint};
use lungai_imaging::{axial, normalise, patch};
use lungai_models::classifier::{ClassifierConfig, ClassifierNet};
use lungai_trace::implements;

/// Cubes that go through the network together.
const BATCH: usize = 8;

/// The classifier's malignancy logit for each centre, before calibration.
#[implements("FR-005")]
pub fn logits(
    net: &ClassifierNet,
    config: &ClassifierConfig,
    volume: &Volume,
    centres: &[WorldPoint],
    device: &Device,
) -> Vec<f64> {
    let n = config.tile;
    // As the network has learned it: a file may store the patient from the other side.
    let volume = axial(volume);
    let mut logits = Vec::with_capacity(centres.len());
    for batch in centres.chunks(BATCH) {
        let mut values = Vec::with_capacity(batch.len() * n * n * n);
        for centre in batch {
            let cube = patch(&volume, *centre, [n; 3], config.spacing_mm);
            values.extend(cube.iter().map(|hu| normalise(*hu, config.window_hu)));
        }
        let input = Tensor::<5>::from_data(TensorData::new(values, [batch.len(), 1, n, n, n]), device);
        let out: Vec<f32> =
            net.forward(input).narrow(1, 0, 1).into_data().convert::<f32>().try_to_vec().expect("converted");
        logits.extend(out.into_iter().map(f64::from));
    }
    logits
}
