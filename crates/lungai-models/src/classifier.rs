//! Malignancy: a 3D ResNet (He et al. 2016; Hara et al. 2018) on a cube round the nodule. The stem keeps full
//! resolution, because most nodules are only a few voxels wide.

use crate::layers::{ConvNorm, Normalise, Residual};
use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
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
}

/// The network.
#[derive(Module, Debug)]
pub struct ClassifierNet {
    stem: ConvNorm,
    stages: Vec<Residual>,
    head: Linear,
}

impl ClassifierConfig {
    /// A network whose weights are a function of `seed` alone.
    pub fn init(&self, seed: u64, device: &Device) -> ClassifierNet {
        let rng = &mut StdRng::seed_from_u64(seed);
        let stem = ConvNorm::new([1, self.width], 1, Normalise::Group, rng, device);
        let mut stages = Vec::new();
        let mut inputs = self.width;
        for (stage, &blocks) in self.blocks.iter().enumerate() {
            let width = self.width << stage;
            for block in 0..blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                stages.push(Residual::new([inputs, width], stride, Normalise::Group, rng, device));
                inputs = width;
            }
        }
        let mut head = LinearConfig::new(2 * inputs, OUTPUTS).init(device);
        head.weight = crate::layers::normal([2 * inputs, OUTPUTS], (0.5 / inputs as f64).sqrt(), rng, device);
        head.bias = Some(burn::module::Param::from_tensor(Tensor::zeros([OUTPUTS], device)));
        ClassifierNet { stem, stages, head }
    }
}

impl ClassifierNet {
    /// - patches: `[b, 1, n, n, n]`, HU scaled to `-1..=1`, the nodule's centre in the middle
    /// - output: `[b, OUTPUTS]`, see [`OUTPUTS`]
    pub fn forward(&self, patches: Tensor<5>) -> Tensor<2> {
        let mut x = self.stem.forward(patches);
        for stage in &self.stages {
            x = stage.forward(x);
        }
        let [b, c, d, h, w] = x.dims();
        let cells = x.reshape([b, c, d * h * w]);
        // A mean says how much of the cube a feature fills, the largest value that it is there at all: a 5 mm nodule
        // fills a thousandth of the cube.
        let pooled = [cells.clone().mean_dim(2), cells.max_dim(2)].map(|x| x.reshape([b, c]));
        self.head.forward(Tensor::cat(pooled.into(), 1))
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
        use crate::layers::weight;
        let mut x = self.stem.export(&mut g.at("stem"), patches);
        for (i, stage) in self.stages.iter().enumerate() {
            x = stage.export(&mut g.at("stages").at(i), &x);
        }
        let (mean, max) = (g.global_mean(&x), g.global_max(&x));
        let pooled = g.concat(&[&mean, &max]);
        let bias = self.head.bias.as_ref().expect("the head has a bias");
        let [rows, bias] =
            [weight(&mut g.at("head").at("weight"), &self.head.weight), weight(&mut g.at("head").at("bias"), bias)];
        g.linear(&pooled, &rows, &bias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(width: usize, blocks: &[usize]) -> ClassifierConfig {
        ClassifierConfig { width, blocks: blocks.to_vec(), spacing_mm: 1.0, tile: 16, window_hu: (-1000.0, 400.0) }
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
