//! Golden cases: proof that the networks which run here are the networks that were frozen.

use super::{FrozenError, Networks};
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::BTreeMap;

/// One input per network; `[1, channels, d, h, w]`.
#[derive(Debug, Clone)]
pub struct Golden {
    /// For the lung network.
    pub lung: Tensor<5>,
    /// For the detector.
    pub detector: Tensor<5>,
    /// For the classifier.
    pub classifier: Tensor<5>,
}

const NETWORKS: [&str; 3] = ["lung", "detector", "classifier"];

impl Golden {
    fn outputs(&self, nets: &Networks) -> [TensorData; 3] {
        let detected = nets.detector.forward(self.detector.clone());
        [
            nets.lung.forward(self.lung.clone()).into_data(),
            Tensor::cat(vec![detected.class, detected.boxes], 1).into_data(),
            nets.classifier.forward(self.classifier.clone()).into_data(),
        ]
    }

    /// Largest difference of each network's outputs between two sets of networks, as a share of the largest output.
    pub fn differences(&self, truth: &Networks, found: &Networks) -> Vec<(&'static str, f64)> {
        let pairs = NETWORKS.into_iter().zip(self.outputs(truth).into_iter().zip(self.outputs(found)));
        pairs
            .map(|(network, (truth, found))| (network, off(&truth.convert::<f32>(), &found.convert::<f32>())))
            .collect()
    }

    /// The file: `<network>.input` and `<network>.output` of each.
    pub(super) fn to_bytes(&self, nets: &Networks) -> Vec<u8> {
        let inputs = [&self.lung, &self.detector, &self.classifier].map(|t| t.clone().into_data());
        let mut tensors = BTreeMap::new();
        for (name, (input, output)) in NETWORKS.iter().zip(inputs.into_iter().zip(self.outputs(nets))) {
            tensors.insert(format!("{name}.input"), input.convert::<f32>());
            tensors.insert(format!("{name}.output"), output.convert::<f32>());
        }
        let views = tensors.iter().map(|(name, data)| {
            let view = TensorView::new(Dtype::F32, data.shape().to_vec(), data.as_bytes()).expect("sizes agree");
            (name.clone(), view)
        });
        safetensors::serialize(views, None).expect("writing into memory")
    }

    /// Runs the stored inputs and compares with the stored outputs.
    pub(super) fn check(bytes: &[u8], nets: &Networks, allowed: f64, device: &Device) -> Result<(), FrozenError> {
        let format = |reason: String| FrozenError::Format { file: super::folder::GOLDEN.into(), reason };
        let file = SafeTensors::deserialize(bytes).map_err(|error| format(error.to_string()))?;
        let read = |name: String| -> Result<TensorData, FrozenError> {
            let view = file.tensor(&name).map_err(|error| format(error.to_string()))?;
            if view.dtype() != Dtype::F32 {
                return Err(format(format!("`{name}` is not f32")));
            }
            let values: Vec<f32> =
                view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            Ok(TensorData::new(values, view.shape().to_vec()))
        };
        let input = |name: &str| -> Result<Tensor<5>, FrozenError> {
            let data = read(format!("{name}.input"))?;
            if data.shape().len() != 5 {
                return Err(format(format!("`{name}.input` has {} axes, not 5", data.shape().len())));
            }
            Ok(Tensor::from_data(data, device))
        };
        let golden = Self { lung: input("lung")?, detector: input("detector")?, classifier: input("classifier")? };
        for (network, got) in NETWORKS.into_iter().zip(golden.outputs(nets)) {
            let expected = read(format!("{network}.output"))?;
            let (got, expected) = (got.convert::<f32>(), expected);
            if got.shape() != expected.shape() {
                return Err(format(format!("`{network}.output` has another shape")));
            }
            let difference = off(&expected, &got);
            if difference > allowed {
                return Err(FrozenError::Golden { network, difference, allowed });
            }
        }
        Ok(())
    }
}

/// Largest difference of two arrays of f32 as a share of the largest expected value.
fn off(expected: &TensorData, got: &TensorData) -> f64 {
    let pairs = || got.iter::<f32>().zip(expected.iter::<f32>());
    let range = pairs().map(|(_, e)| f64::from(e.abs())).fold(f64::MIN_POSITIVE, f64::max);
    // A NaN must fail: `max` would drop it.
    let worst = pairs()
        .map(|(g, e)| f64::from((g - e).abs()))
        .fold(0.0, |worst: f64, d| if d.is_nan() { f64::INFINITY } else { worst.max(d) });
    worst / range
}
