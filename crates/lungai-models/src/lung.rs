//! Lung segmentation: a 3D U-Net (Çiçek et al. 2016) with separate left and right output.

pub use crate::layers::Normalise;
use crate::layers::{Conv, ConvNorm, Up};
use crate::ops;
use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
#[cfg(feature = "onnx")]
use lungai_onnx::{Dim, Graph, Node, Scope};
use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

/// Output channels: background, right lung, left lung (the labels of `lungai_ct::Lung`).
pub const CLASSES: usize = 3;

/// Input channels: HU, and how far a voxel lies from the middle of the scan towards the patient's left (a coordinate channel,
/// Liu et al. 2018): the two lungs look alike, and a tile does not show which side it was cut from.
pub const CHANNELS: usize = 2;

/// Distance from the middle at which the second channel reaches -1 or 1 and stays there, mm. In millimetres, not as a share
/// of the scan's width, which is what the scanner's operator chose: on a field of view unlike those of the training, lungs
/// were cut along a straight line. Short, so that the sides differ as much as air and tissue do: with half a chest, most
/// runs took the two lungs for one for a long time.
pub const POSITION_MM: f64 = 50.0;

/// Adds the second channel to a cube of HU values scaled to `-1..=1`.
///
/// - `cube`: `edge^3` values, `[z, y, x]`
/// - `start_x`: first column of the cube in the scan, `width`: columns of the scan, of `voxel_mm` each
pub fn with_position(cube: &mut Vec<f32>, edge: usize, start_x: isize, width: usize, voxel_mm: f64) {
    let middle = 0.5 * width as f64;
    let column = |x: usize| {
        let from_middle = (start_x as f64 + x as f64 + 0.5 - middle) * voxel_mm;
        (from_middle / POSITION_MM).clamp(-1.0, 1.0) as f32
    };
    cube.extend((0..edge.pow(3)).map(|i| column(i % edge)));
}

/// Shape of a [`LungNet`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LungConfig {
    /// Channels of the first level, doubled at each further one; at least 1. The source's network has 32.
    pub width: usize,
    /// Levels of the encoder above the bottleneck, `1..=5`. The source's network has 4.
    pub depth: usize,
    /// How each convolution's output is normalised.
    pub norm: Normalise,
    /// Levels of the decoder below the last one that are asked for the lungs as well in training, each at its own size
    /// (deep supervision, Lee et al. 2015); fewer than `depth`.
    pub deep_supervision: usize,
    /// Voxel edge of the grid that the network sees, in mm.
    pub spacing_mm: f64,
    /// Edge of the training patch and of the inference tile in voxels; a multiple of `2^depth`.
    pub tile: usize,
    /// HU that map to -1 and +1.
    pub window_hu: (f32, f32),
}

/// The network.
#[derive(Module, Debug)]
pub struct LungNet {
    encoder: Vec<Double>,
    bottleneck: Double,
    up: Vec<Up>,
    decoder: Vec<Double>,
    head: Conv,
    /// Of the last levels of the decoder but one, finest first.
    deep: Vec<Conv>,
}

/// Two convolutions.
#[derive(Module, Debug)]
struct Double {
    first: ConvNorm,
    second: ConvNorm,
}

impl LungConfig {
    /// A network whose weights are a function of `seed` alone.
    pub fn init(&self, seed: u64, device: &Device) -> LungNet {
        let rng = &mut StdRng::seed_from_u64(seed);
        let widths: Vec<usize> = (0..=self.depth).map(|level| self.width << level).collect();
        let (mut encoder, mut up, mut decoder) = (Vec::new(), Vec::new(), Vec::new());
        let mut inputs = CHANNELS;
        for &width in &widths[..self.depth] {
            encoder.push(Double::new([inputs, width], self.norm, rng, device));
            inputs = width;
        }
        let bottleneck = Double::new([inputs, widths[self.depth]], self.norm, rng, device);
        for level in (0..self.depth).rev() {
            up.push(Up::new([widths[level + 1], widths[level]], rng, device));
            decoder.push(Double::new([2 * widths[level], widths[level]], self.norm, rng, device));
        }
        let head = Conv::new([self.width, CLASSES], 1, 1, true, rng, device);
        let deep = |level: usize| Conv::new([widths[level], CLASSES], 1, 1, true, &mut *rng, device);
        let deep = (1..=self.deep_supervision).map(deep).collect();
        LungNet { encoder, bottleneck, up, decoder, head, deep }
    }
}

impl LungNet {
    /// - scans: `[b, CHANNELS, d, h, w]`, see [`with_position`]; sizes multiples of `2^depth`
    /// - output: `[b, 3, d, h, w]`, logits of background, right, left
    pub fn forward(&self, scans: Tensor<5>) -> Tensor<5> {
        let last = self.decode(scans).pop().expect("the decoder has a level");
        self.head.forward(last)
    }

    /// [`Self::forward`], and the same of each deeply supervised level at half the size of the one before:
    /// `[b, 3, d / 2^i, h / 2^i, w / 2^i]`.
    pub fn forward_deep(&self, scans: Tensor<5>) -> Vec<Tensor<5>> {
        let levels = self.decode(scans).into_iter().rev();
        levels.zip(std::iter::once(&self.head).chain(&self.deep)).map(|(x, head)| head.forward(x)).collect()
    }

    /// The outputs of the decoder's levels, coarsest first.
    fn decode(&self, scans: Tensor<5>) -> Vec<Tensor<5>> {
        let mut x = scans;
        let (mut skips, mut outputs) = (Vec::new(), Vec::new());
        for level in &self.encoder {
            let y = level.forward(x); // [b, width << level, d >> level, ..]
            x = ops::max_pool2(y.clone());
            skips.push(y);
        }
        x = self.bottleneck.forward(x);
        for (up, level) in self.up.iter().zip(&self.decoder) {
            let skip = skips.pop().expect("one skip a level");
            x = level.forward(Tensor::cat(vec![up.forward(x), skip], 1));
            outputs.push(x.clone());
        }
        outputs
    }

    /// [`Self::forward`] as ONNX: `scans` to `logits`, open in batch, depth, height and width.
    #[cfg(feature = "onnx")]
    pub fn export(&self) -> Graph {
        Self::export_mean(&[self])
    }

    /// The mean of several of one shape as ONNX, see [`crate::members`].
    #[cfg(feature = "onnx")]
    pub fn export_mean(nets: &[&Self]) -> Graph {
        let mut graph = Graph::new("lung");
        let size = |channels| {
            [Dim::Named("batch"), Dim::Fixed(channels), Dim::Named("depth"), Dim::Named("height"), Dim::Named("width")]
        };
        let scans = graph.input("scans", &size(CHANNELS));
        let logits = crate::members::export(&mut graph, nets, |net, g| vec![net.layers(g, &scans)]);
        graph.output("logits", &logits[0], &size(CLASSES));
        graph
    }

    #[cfg(feature = "onnx")]
    fn layers(&self, g: &mut Scope, scans: &Node) -> Node {
        let mut x = scans.clone();
        let mut skips = Vec::new();
        for (i, level) in self.encoder.iter().enumerate() {
            let y = level.export(&mut g.at("encoder").at(i), &x);
            x = g.max_pool2(&y);
            skips.push(y);
        }
        x = self.bottleneck.export(&mut g.at("bottleneck"), &x);
        for (i, (up, level)) in self.up.iter().zip(&self.decoder).enumerate() {
            let skip = skips.pop().expect("one skip a level");
            x = up.export(&mut g.at("up").at(i), &x);
            x = g.concat(&[&x, &skip]);
            x = level.export(&mut g.at("decoder").at(i), &x);
        }
        self.head.export(&mut g.at("head"), &x)
    }
}

impl Double {
    fn new([inputs, outputs]: [usize; 2], normalise: Normalise, rng: &mut StdRng, device: &Device) -> Self {
        Self {
            first: ConvNorm::new([inputs, outputs], 1, normalise, rng, device),
            second: ConvNorm::new([outputs, outputs], 1, normalise, rng, device),
        }
    }

    fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        self.second.forward(self.first.forward(x))
    }

    #[cfg(feature = "onnx")]
    fn export(&self, g: &mut Scope, x: &Node) -> Node {
        let x = self.first.export(&mut g.at("first"), x);
        self.second.export(&mut g.at("second"), &x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(width: usize, depth: usize) -> LungConfig {
        let window_hu = (-1024.0, 600.0);
        LungConfig { width, depth, norm: Normalise::Group, deep_supervision: 0, spacing_mm: 2.0, tile: 32, window_hu }
    }

    #[test]
    fn deeply_supervised_levels_halve_in_size_and_leave_the_result_as_it_is() {
        let device = Device::flex();
        let deep = LungConfig { deep_supervision: 2, ..config(4, 3) };
        let x = Tensor::<5>::ones([1, CHANNELS, 16, 8, 8], &device);
        let all = deep.init(1, &device).forward_deep(x.clone());
        let sizes: Vec<_> = all.iter().map(Tensor::dims).collect();
        assert_eq!(sizes, [[1, 3, 16, 8, 8], [1, 3, 8, 4, 4], [1, 3, 4, 2, 2]]);
        assert_eq!(all[0].clone().into_data(), config(4, 3).init(1, &device).forward(x).into_data());
    }

    #[test]
    fn at_the_source_width_it_has_22_6_million_parameters() {
        let net = config(32, 4).init(1, &Device::flex());
        assert_eq!(net.num_params() / 100_000, 225);
    }

    #[test]
    fn logits_have_the_size_of_the_scan_and_three_classes() {
        let device = Device::flex();
        let net = config(4, 2).init(1, &device);
        let logits = net.forward(Tensor::zeros([2, CHANNELS, 8, 12, 16], &device));
        assert_eq!(logits.dims(), [2, CLASSES, 8, 12, 16]);
    }

    #[test]
    fn the_seed_decides_every_weight() {
        let device = Device::flex();
        let x = Tensor::<5>::ones([1, CHANNELS, 8, 8, 8], &device);
        let run = |seed| config(4, 2).init(seed, &device).forward(x.clone()).into_data();
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
    }
}

#[cfg(all(test, feature = "train"))]
mod learning {
    use super::*;
    use crate::loss;
    use burn::optim::{AdamWConfig, GradientsParams};
    use burn::tensor::TensorData;
    use lungai_trace::verifies;

    #[verifies("FR-003")]
    #[test]
    fn the_network_learns_a_dark_ball_in_a_few_steps() {
        let device = Device::flex().autodiff();
        let config = LungConfig {
            width: 4,
            depth: 2,
            norm: Normalise::Group,
            deep_supervision: 1,
            spacing_mm: 2.0,
            tile: 16,
            window_hu: (-1024.0, 600.0),
        };
        let mut net = config.init(1, &device);
        let inside = |i: usize| {
            let [z, y, x] = [i / 256, i / 16 % 16, i % 16].map(|v| v as f32 - 7.5);
            z * z + y * y + x * x < 25.0
        };
        let mut scan: Vec<f32> = (0..4096).map(|i| if inside(i) { -0.8 } else { 0.2 }).collect();
        with_position(&mut scan, 16, 0, 16, 25.0); // from -1 to 1
        let mut truth = vec![0f32; 3 * 4096];
        for i in 0..4096 {
            truth[if inside(i) { 4096 + i } else { i }] = 1.0;
        }
        let scan = Tensor::<5>::from_data(TensorData::new(scan, [1, CHANNELS, 16, 16, 16]), &device);
        let truth = Tensor::<5>::from_data(TensorData::new(truth, [1, 3, 16, 16, 16]), &device);
        let mut optimiser = AdamWConfig::new().with_epsilon(1e-8).init();
        let mut losses = Vec::new();
        for _ in 0..60 {
            let loss = loss::lung(net.forward_deep(scan.clone()), truth.clone());
            losses.push(loss.clone().into_scalar::<f32>());
            let grads = GradientsParams::from_grads(loss.backward(), &net);
            net = optimiser.step(0.02, net, grads);
        }
        // What remains is the Dice of the left lung, which is not there: its soft volume only slowly reaches zero.
        assert!(losses[59] < 0.7 && losses[59] < losses[0] / 2.0, "{:?}", losses.iter().step_by(6).collect::<Vec<_>>());
    }
}
