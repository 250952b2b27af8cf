//! The three networks at the widths of `experiments/source-*.yaml`, forward and in a training step, against the same nets in
//! PyTorch and, forward, in onnxruntime with the same weights.

use crate::inputs::bytes;
use crate::results::{Output, Values};
use crate::workloads::Work;
use anyhow::{Context, bail};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use lungai_models::DeviceChoice;
use lungai_models::classifier::{ClassifierConfig, ClassifierNet};
use lungai_models::detector::{DetectorConfig, DetectorNet};
use lungai_models::frozen::{weights_from_bytes, weights_to_bytes};
use lungai_models::lung::{CHANNELS, LungConfig, LungNet};
use lungai_models::ops;
use lungai_models::optim::AdamW;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::de::DeserializeOwned;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

/// Where networks run in this process, and whether their convolutions count in bfloat16; without it on the CPU in f32.
pub static PLACE: OnceLock<(DeviceChoice, bool)> = OnceLock::new();

/// Opens [`PLACE`].
fn place() -> anyhow::Result<Device> {
    let (choice, bf16) = PLACE.get().copied().unwrap_or((DeviceChoice::Cpu, false));
    ops::convolve_in_bf16(bf16);
    Ok(choice.open()?.0)
}

/// A network of the benchmark: its experiment, and the input that it is timed on.
pub struct Net {
    pub name: &'static str,
    experiment: &'static str,
    shape: [usize; 5],
}

pub const NETS: [Net; 3] = [
    Net {
        name: "lung",
        experiment: include_str!("../../../experiments/source-lung.yaml"),
        shape: [1, CHANNELS, 64, 64, 64],
    },
    Net {
        name: "detector",
        experiment: include_str!("../../../experiments/source-detector.yaml"),
        shape: [1, 1, 64, 64, 64],
    },
    Net {
        name: "classifier",
        experiment: include_str!("../../../experiments/source-classifier.yaml"),
        shape: [4, 1, 32, 32, 32],
    },
];

/// Writes configuration, weights, ONNX file and input of each network. Always: a file of an earlier exporter or experiment would
/// race against today's network.
pub fn make(folder: &Path) -> anyhow::Result<()> {
    let device = Device::flex();
    for net in &NETS {
        let to = folder.join("data/nets").join(net.name);
        fs::create_dir_all(&to)?;
        let (weights, graph) = match net.name {
            "lung" => {
                let net = net.config::<LungConfig>()?.init(1, &device);
                (weights_to_bytes(&net), net.export())
            }
            "detector" => {
                let net = net.config::<DetectorConfig>()?.init(1, &device);
                (weights_to_bytes(&net), net.export())
            }
            _ => {
                let net = net.config::<ClassifierConfig>()?.init(1, &device);
                (weights_to_bytes(&net), net.export())
            }
        };
        fs::write(to.join("weights.safetensors"), weights)?;
        fs::write(to.join("net.onnx"), graph.into_bytes()?)?;
        fs::write(to.join("config.json"), serde_json::to_vec(&net.config::<serde_json::Value>()?)?)?;
        fs::write(to.join("shape.json"), serde_json::to_vec(&net.shape)?)?;
        let mut rng = StdRng::seed_from_u64(1);
        let draw = |_| rng.random_range(-1.0f32..1.0).to_le_bytes();
        fs::write(to.join("input.f32"), (0..net.shape.iter().product()).flat_map(draw).collect::<Vec<u8>>())?;
    }
    Ok(())
}

impl Net {
    fn config<C: DeserializeOwned>(&self) -> anyhow::Result<C> {
        let experiment: serde_yaml::Value = serde_yaml::from_str(self.experiment)?;
        let network = experiment.get("network").and_then(|network| network.get(self.name));
        Ok(serde_yaml::from_value(network.context("an experiment without its network")?.clone())?)
    }

    fn input(&self, folder: &Path, device: &Device) -> anyhow::Result<Tensor<5>> {
        let bytes = bytes(folder, &format!("nets/{}/input.f32", self.name))?;
        let values: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        Ok(Tensor::from_data(TensorData::new(values, self.shape), device))
    }
}

/// - `name`: `lung`, `detector` or `classifier`; `step`: with gradients and optimiser instead of the outputs alone
pub fn prepare(folder: &Path, name: &str, step: bool) -> anyhow::Result<Work> {
    let Some(net) = NETS.iter().find(|net| net.name == name) else { bail!("no network {name}") };
    let device = place()?;
    let device = if step { device.autodiff() } else { device };
    let input = net.input(folder, &device)?;
    let weights = bytes(folder, &format!("nets/{name}/weights.safetensors"))?;
    match name {
        "lung" => work(net.config::<LungConfig>()?.init(1, &device), weights, input, step, |net: &LungNet, x| {
            vec![net.forward(x).flatten(0, 4)]
        }),
        "detector" => {
            work(net.config::<DetectorConfig>()?.init(1, &device), weights, input, step, |net: &DetectorNet, x| {
                let outputs = net.forward(x);
                vec![outputs.class.flatten(0, 4), outputs.boxes.flatten(0, 4)]
            })
        }
        _ => {
            work(net.config::<ClassifierConfig>()?.init(1, &device), weights, input, step, |net: &ClassifierNet, x| {
                vec![net.forward(x).flatten(0, 1)]
            })
        }
    }
}

/// The result of a step is its loss, the mean of squared outputs, and the norm of its gradients; its optimiser moves nothing (a learning rate of zero), so
/// that each run does the same.
fn work<M: Module + 'static>(
    mut net: M,
    weights: Vec<u8>,
    input: Tensor<5>,
    step: bool,
    forward: fn(&M, Tensor<5>) -> Vec<Tensor<1>>,
) -> anyhow::Result<Work> {
    weights_from_bytes(&mut net, weights).map_err(anyhow::Error::msg)?;
    if !step {
        return Ok(Box::new(move || {
            let first = forward(&net, input.clone()).swap_remove(0);
            Ok(Output::array("y", Values::F32(first.into_data().try_to_vec().map_err(|e| anyhow::anyhow!("{e:?}"))?)))
        }));
    }
    let mut optimiser = ModuleOptimizer::from(AdamW { weight_decay: 0.01, ..AdamW::default() });
    let mut net = Some(net);
    Ok(Box::new(move || {
        let module = net.take().context("a step that failed before")?;
        let outputs = forward(&module, input.clone());
        let loss = outputs.into_iter().map(|y| y.square().mean()).reduce(|a, b| a + b).context("no output")?;
        let value: f32 = loss.clone().into_scalar();
        let gradients = loss.backward();
        let mut norm = Norm { gradients, squares: 0.0 };
        module.visit(&mut norm);
        let Norm { gradients, squares } = norm;
        net = Some(optimiser.step(0.0, module.clone(), GradientsParams::from_grads(gradients, &module)));
        Ok(Output::numbers([("loss", f64::from(value)), ("gradient norm", squares.sqrt())]))
    }))
}

/// Sums the squares of all gradients: a backward pass that leaves something out has another norm.
struct Norm {
    gradients: Gradients,
    squares: f64,
}

impl ModuleVisitor for Norm {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let square = |gradient: Tensor<D>| f64::from(gradient.square().sum().into_scalar::<f32>());
        self.squares += param.val().grad(&self.gradients).map_or(0.0, square);
    }
}
