//! Golden cases: proof that the networks which run here are the networks that were frozen.

use super::{FrozenError, Networks};
use crate::members::mean;
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
    /// For the reducer of a model that has one.
    pub reducer: Option<Tensor<5>>,
}

impl Golden {
    /// Each network's name, input and output; of averaged networks the mean.
    fn runs(&self, nets: &Networks) -> Vec<(&'static str, TensorData, TensorData)> {
        let run = |name, input: &Tensor<5>, output: TensorData| {
            (name, input.clone().into_data().convert::<f32>(), output.convert::<f32>())
        };
        let lung = mean(&nets.lungs(), |net| net.forward(self.lung.clone()));
        let detected = mean(&nets.detectors(), |net| {
            let detected = net.forward(self.detector.clone());
            Tensor::cat(vec![detected.class, detected.boxes], 1)
        });
        let rated = mean(&nets.classifiers(), |net| net.forward(self.classifier.clone()));
        let mut runs = vec![
            run("lung", &self.lung, lung.into_data()),
            run("detector", &self.detector, detected.into_data()),
            run("classifier", &self.classifier, rated.into_data()),
        ];
        if let Some(input) = &self.reducer {
            let doubted = mean(&nets.reducers(), |net| net.forward(input.clone()));
            runs.push(run("reducer", input, doubted.into_data()));
        }
        runs
    }

    /// Largest difference of each network's outputs between two sets of networks, as a share of the largest output.
    pub fn differences(&self, truth: &Networks, found: &Networks) -> Vec<(&'static str, f64)> {
        let pairs = self.runs(truth).into_iter().zip(self.runs(found));
        pairs.map(|((network, _, truth), (.., found))| (network, off(&truth, &found))).collect()
    }

    /// The file: `<network>.input` and `<network>.output` of each.
    pub(super) fn to_bytes(&self, nets: &Networks) -> Vec<u8> {
        let mut tensors = BTreeMap::new();
        for (name, input, output) in self.runs(nets) {
            tensors.insert(format!("{name}.input"), input);
            tensors.insert(format!("{name}.output"), output);
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
        let golden = Self {
            lung: input("lung")?,
            detector: input("detector")?,
            classifier: input("classifier")?,
            reducer: nets.reducer.as_ref().map(|_| input("reducer")).transpose()?,
        };
        for (network, _, got) in golden.runs(nets) {
            let expected = read(format!("{network}.output"))?;
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
