//! Malignancy: a 3D ResNet (He et al. 2016; Hara et al. 2018) on a cube round the nodule. The stem keeps full
//! resolution, because most nodules are only a few voxels wide.

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

/// Outputs: malignancy logit, four attenuation-class logits, ln(diameter / 10 mm), spiculation logit.
/// The helpers after the first steady the training on few nodules and are not reported.
pub const OUTPUTS: usize = 7;

/// Shape of a [`ClassifierNet`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierConfig {
    /// Channels of the first stage, doubled at each further one. The source's network has 64.
    pub width: usize,
    /// Residual blocks per stage; each stage after the first halves the size. ResNet-18 is `[2, 2, 2, 2]`.
    pub blocks: Vec<usize>,
    /// Voxel edge of the cube in mm.
    pub spacing_mm: f64,
    /// Edge of the cube in voxels; a multiple of `2^(stages - 1)`.
    pub tile: usize,
    /// HU that map to -1 and +1.
    pub window_hu: (f32, f32),
    /// Whether the head also sees the mean of the cells in the middle, where the nodule is: it learns faster then. Left out:
    /// it does not.
    #[serde(default)]
    pub middle: bool,
}

/// The network.
#[derive(Module, Debug)]
pub struct ClassifierNet {
    stem: ConvNorm,
    stages: Vec<Residual>,
    head: Linear,
    middle: bool,
}

impl ClassifierConfig {
    /// A network whose weights are a function of `seed` alone.
    pub fn init(&self, seed: u64, device: &Device) -> ClassifierNet {
        let rng = &mut StdRng::seed_from_u64(seed);
        let (stem, stages, inputs) = residual_stages(self.width, &self.blocks, rng, device);
        let pooled = if self.middle { 3 } else { 2 } * inputs;
        let head = linear([pooled, OUTPUTS], (1.0 / pooled as f64).sqrt(), rng, device);
        ClassifierNet { stem, stages, head, middle: self.middle }
    }
}

impl ClassifierNet {
    /// - patches: `[b, 1, n, n, n]`, HU scaled to `-1..=1`, the nodule's centre in the middle
    /// - output: `[b, OUTPUTS]`, see [`OUTPUTS`]
    pub fn forward(&self, patches: Tensor<5>) -> Tensor<2> {
        let x = self.stages.iter().fold(self.stem.forward(patches), |x, stage| stage.forward(x));
        self.head.forward(pooled(x, self.middle))
    }

    /// [`Self::forward`] as ONNX: `patches` to `outputs`, open in batch, depth, height and width.
    #[cfg(feature = "onnx")]
    pub fn export(&self) -> Graph {
        Self::export_mean(&[self])
    }

    /// The mean of several of one shape as ONNX, see [`crate::members`].
    #[cfg(feature = "onnx")]
    pub fn export_mean(nets: &[&Self]) -> Graph {
        let mut graph = Graph::new("classifier");
        let [b, d, h, w] = ["batch", "depth", "height", "width"].map(Dim::Named);
        let patches = graph.input("patches", &[b, Dim::Fixed(1), d, h, w]);
        let outputs = crate::members::export(&mut graph, nets, |net, g| vec![net.layers(g, &patches)]);
        graph.output("outputs", &outputs[0], &[b, Dim::Fixed(OUTPUTS)]);
        graph
    }

    #[cfg(feature = "onnx")]
    fn layers(&self, g: &mut Scope, patches: &Node) -> Node {
        let x = export_stages(&self.stem, &self.stages, g, patches);
        let pooled = export_pooled(g, &x, self.middle);
        export_head(&self.head, g, &pooled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Normalise;

    fn config(width: usize, blocks: &[usize]) -> ClassifierConfig {
        ClassifierConfig {
            width,
            blocks: blocks.to_vec(),
            spacing_mm: 1.0,
            tile: 16,
            window_hu: (-1000.0, 400.0),
            middle: false,
        }
    }

    #[test]
    fn resnet_18_at_the_source_width_has_33_million_parameters() {
        let net = config(64, &[2, 2, 2, 2]).init(1, &Device::flex());
        assert_eq!(net.num_params() / 1_000_000, 33);
    }

    #[test]
    fn a_32_cube_does_not_shrink_to_one_voxel() {
        let device = Device::flex();
        let net = config(4, &[1, 1, 1, 1]).init(1, &device);
        let mut x = net.stem.forward(Tensor::zeros([1, 1, 32, 32, 32], &device));
        for stage in &net.stages {
            x = stage.forward(x);
        }
        assert_eq!(x.dims(), [1, 32, 4, 4, 4]);
        assert_eq!(net.forward(Tensor::zeros([3, 1, 16, 16, 16], &device)).dims(), [3, OUTPUTS]);
    }

    #[test]
    fn a_residual_block_with_silent_convolutions_passes_its_input_on() {
        // With gamma = 0 the branch adds nothing: what remains is relu(x), the skip.
        let device = Device::flex();
        let block = Residual::new([2, 2], 1, Normalise::Group, &mut StdRng::seed_from_u64(1), &device).silenced();
        let x = Tensor::<5>::full([1, 2, 4, 4, 4], 3.0, &device);
        assert_eq!(block.forward(x.clone()).into_data(), x.into_data());
    }
}
