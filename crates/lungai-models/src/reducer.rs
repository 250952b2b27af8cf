//! The second look at a candidate: a small 3D residual network on a cube round it says whether a nodule lies in the
//! middle. It sees finer voxels than the detector and one place at a time (Dou et al. 2017 give the idea; the layers are the
//! classifier's, the pooling is our own).

use crate::layers::{ConvNorm, Residual, linear, pooled, residual_stages};
#[cfg(feature = "onnx")]
use crate::layers::{export_head, export_pooled, export_stages};
use burn::{
    module::Module,
    nn::Linear,
    tensor::{Device, Tensor},
};
#[cfg(feature = "onnx")]
use lungai_onnx::{Dim, Graph, Node, Scope};
use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

/// Shape of a [`ReducerNet`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReducerConfig {
    /// Channels of the first stage, doubled at each further one.
    pub width: usize,
    /// Residual blocks per stage; each stage after the first halves the size.
    pub blocks: Vec<usize>,
    /// Voxel edge of the cube in mm.
    pub spacing_mm: f64,
    /// Edge of the cube in voxels; a multiple of `2^(stages - 1)`.
    pub tile: usize,
    /// HU that map to -1 and +1.
    pub window_hu: (f32, f32),
}

/// The network.
#[derive(Module, Debug)]
pub struct ReducerNet {
    stem: ConvNorm,
    stages: Vec<Residual>,
    head: Linear,
}

impl ReducerConfig {
    /// A network whose weights are a function of `seed` alone.
    pub fn init(&self, seed: u64, device: &Device) -> ReducerNet {
        let rng = &mut StdRng::seed_from_u64(seed);
        let (stem, stages, inputs) = residual_stages(self.width, &self.blocks, rng, device);
        let head = linear([3 * inputs, 1], (0.3 / inputs as f64).sqrt(), rng, device);
        ReducerNet { stem, stages, head }
    }
}

impl ReducerNet {
    /// - patches: `[b, 1, n, n, n]`, HU scaled to `-1..=1`, the candidate's centre in the middle
    /// - output: `[b, 1]`, the logit of a nodule
    pub fn forward(&self, patches: Tensor<5>) -> Tensor<2> {
        let x = self.stages.iter().fold(self.stem.forward(patches), |x, stage| stage.forward(x));
        self.head.forward(pooled(x, true))
    }

    /// [`Self::forward`] as ONNX: `patches` to `logit`, open in batch, depth, height and width.
    #[cfg(feature = "onnx")]
    pub fn export(&self) -> Graph {
        Self::export_mean(&[self])
    }

    /// The mean of several of one shape as ONNX, see [`crate::members`].
    #[cfg(feature = "onnx")]
    pub fn export_mean(nets: &[&Self]) -> Graph {
        let mut graph = Graph::new("reducer");
        let [b, d, h, w] = ["batch", "depth", "height", "width"].map(Dim::Named);
        let patches = graph.input("patches", &[b, Dim::Fixed(1), d, h, w]);
        let logit = crate::members::export(&mut graph, nets, |net, g| vec![net.layers(g, &patches)]);
        graph.output("logit", &logit[0], &[b, Dim::Fixed(1)]);
        graph
    }

    #[cfg(feature = "onnx")]
    fn layers(&self, g: &mut Scope, patches: &Node) -> Node {
        let x = export_stages(&self.stem, &self.stages, g, patches);
        let pooled = export_pooled(g, &x, true);
        export_head(&self.head, g, &pooled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(tile: usize, blocks: &[usize]) -> ReducerConfig {
        ReducerConfig { width: 4, blocks: blocks.to_vec(), spacing_mm: 1.0, tile, window_hu: (-1000.0, 400.0) }
    }

    #[test]
    fn every_candidate_gets_one_logit_of_its_own() {
        let device = Device::flex();
        let net = config(12, &[1, 1, 1]).init(1, &device);
        let values: Vec<f32> = (0..2 * 12 * 12 * 12).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
        let both = Tensor::<1>::from_floats(values.as_slice(), &device).reshape([2, 1, 12, 12, 12]);
        let logits = net.forward(both.clone());
        assert_eq!(logits.dims(), [2, 1]);
        // What it is batched with does not matter.
        let second = net.forward(both.narrow(0, 1, 1));
        let off: f32 = (logits.narrow(0, 1, 1) - second).abs().max().into_scalar();
        assert!(off < 1e-6, "{off}");
    }

    #[test]
    fn its_parameters_are_those_counted_by_hand() {
        // Stem 324 + 24; first stage 2 (3888 + 24); second 7776 + 48 + 15552 + 48 + 312; third 31104 + 96 + 62208 + 96 +
        // 1200; head 3 * 48 + 1.
        let net = ReducerConfig { width: 12, ..config(24, &[1, 1, 1]) }.init(1, &Device::flex());
        assert_eq!(net.num_params(), 348 + 2 * 3912 + 23_736 + 94_704 + 145);
    }
}
