//! Nodule detection: a region proposal network on a residual encoder, with a top-down path to stride 4
//! (feature pyramid, Lin et al. 2017). Each cell proposes one sphere per anchor. Nothing is normalised over the patch:
//! with normalisation a small patch round a nodule and a large tile at inference gave other scores for the same place.

use crate::layers::{Conv, ConvNorm, Normalise, Residual, Up};
use crate::members::mean;
use crate::ops;
use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
#[cfg(feature = "onnx")]
use lungai_onnx::{Dim, Graph, Node, Scope};
use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

/// Voxels between neighbouring cells. At 1 mm a 3 mm nodule still lies within one cell's reach.
pub const STRIDE: usize = 4;

/// Regression values per anchor: offset `z, y, x` and log diameter, see [`crate::anchors`].
pub const BOX_VALUES: usize = 4;

/// Shape of a [`DetectorNet`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectorConfig {
    /// What comes before the encoder.
    pub stem: Stem,
    /// Channels of each encoder level; each level after the first halves the size. There must be a level of stride 4.
    /// The source's network has `[64, 128, 256]` without a stem.
    pub widths: Vec<usize>,
    /// Channels of the shared 3x3x3 convolution before the two heads. The source's network has 512.
    pub head_width: usize,
    /// Anchor diameters in mm, ascending.
    pub anchors_mm: Vec<f64>,
    /// Voxel edge of the grid that the network sees, in mm.
    pub spacing_mm: f64,
    /// Edge of the training patch in voxels; a multiple of the deepest stride.
    pub patch: usize,
    /// Edge of the inference tile in voxels; a multiple of the deepest stride. It may be larger than the patch: fewer
    /// borders.
    pub tile: usize,
    /// HU that map to -1 and +1.
    pub window_hu: (f32, f32),
}

/// How the network begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// The encoder's first level sees every voxel.
    None,
    /// One convolution to the first level's channels sees every voxel; then the size is halved by a maximum, so that a
    /// nodule of two voxels answers alike wherever it lies between the cells. The cheap way.
    Pool,
}

/// The network.
#[derive(Module, Debug)]
pub struct DetectorNet {
    stem: Option<ConvNorm>,
    encoder: Vec<Residual>,
    up: Vec<Up>,
    lateral: Vec<Conv>,
    neck: ConvNorm,
    class: Conv,
    boxes: Conv,
}

/// What the network says of each cell of a `[d/4, h/4, w/4]` grid.
#[derive(Debug, Clone)]
pub struct DetectorOutput {
    /// Logits, `[b, anchors, d/4, h/4, w/4]`.
    pub class: Tensor<5>,
    /// `[b, anchors * BOX_VALUES, d/4, h/4, w/4]`, anchor slowest.
    pub boxes: Tensor<5>,
}

impl DetectorConfig {
    /// Index of the encoder level whose stride is [`STRIDE`].
    pub fn output_level(&self) -> usize {
        match self.stem {
            Stem::None => 2,
            Stem::Pool => 1,
        }
    }

    /// Voxels that a side of the input must be a multiple of.
    pub fn deepest_stride(&self) -> usize {
        STRIDE << (self.widths.len() - 1 - self.output_level())
    }

    /// A network whose weights are a function of `seed` alone. Every class logit starts near `-ln 99`, so that the
    /// first steps are not lost on the sea of background (RetinaNet's prior, Lin et al. 2017).
    ///
    /// # Panics
    /// If no level has stride 4.
    pub fn init(&self, seed: u64, device: &Device) -> DetectorNet {
        assert!(self.widths.len() > self.output_level(), "the encoder must reach stride {STRIDE}");
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut inputs = 1;
        let stem = (self.stem == Stem::Pool).then(|| {
            inputs = self.widths[0];
            ConvNorm::new([1, inputs], 1, Normalise::Nothing, rng, device)
        });
        let mut encoder = Vec::new();
        for &width in &self.widths {
            encoder.push(Residual::new([inputs, width], 1, Normalise::Nothing, rng, device));
            inputs = width;
        }
        let (mut up, mut lateral) = (Vec::new(), Vec::new());
        for level in (self.output_level()..self.widths.len() - 1).rev() {
            up.push(Up::new([self.widths[level + 1], self.widths[level]], rng, device));
            lateral.push(Conv::new([self.widths[level]; 2], 1, 1, true, rng, device));
        }
        let anchors = self.anchors_mm.len();
        DetectorNet {
            stem,
            encoder,
            up,
            lateral,
            neck: ConvNorm::new(
                [self.widths[self.output_level()], self.head_width],
                1,
                Normalise::Nothing,
                rng,
                device,
            ),
            class: Conv::head([self.head_width, anchors], -(99f64.ln()), rng, device),
            boxes: Conv::head([self.head_width, anchors * BOX_VALUES], 0.0, rng, device),
        }
    }
}

impl DetectorNet {
    /// `patches`: `[b, 1, d, h, w]`, HU scaled to `-1..=1`; sizes multiples of the deepest stride.
    pub fn forward(&self, patches: Tensor<5>) -> DetectorOutput {
        let mut x = match &self.stem {
            Some(stem) => ops::max_pool2(stem.forward(patches)),
            None => patches,
        };
        let mut levels = Vec::new();
        for (depth, level) in self.encoder.iter().enumerate() {
            if depth > 0 {
                x = ops::max_pool2(x);
            }
            x = level.forward(x);
            levels.push(x.clone());
        }
        levels.pop();
        for (up, lateral) in self.up.iter().zip(&self.lateral) {
            let level = levels.pop().expect("one level a step up");
            x = up.forward(x) + lateral.forward(level);
        }
        let x = self.neck.forward(x); // [b, head_width, d/4, h/4, w/4]
        DetectorOutput { class: self.class.forward(x.clone()), boxes: self.boxes.forward(x) }
    }

    /// [`Self::forward`] as ONNX: `patches` to `class` and `boxes`, open in batch, depth, height and width.
    #[cfg(feature = "onnx")]
    pub fn export(&self) -> Graph {
        Self::export_mean(&[self])
    }

    /// The mean of several of one shape as ONNX, see [`crate::members`].
    #[cfg(feature = "onnx")]
    pub fn export_mean(nets: &[&Self]) -> Graph {
        let mut graph = Graph::new("detector");
        let voxels = ["depth", "height", "width"].map(Dim::Named);
        let cells = ["depth/4", "height/4", "width/4"].map(Dim::Named);
        let size = |channels, [d, h, w]: [Dim; 3]| [Dim::Named("batch"), Dim::Fixed(channels), d, h, w];
        let patches = graph.input("patches", &size(1, voxels));
        let outputs = crate::members::export(&mut graph, nets, |net, g| net.layers(g, &patches).into());
        let anchors = nets[0].class.outputs();
        graph.output("class", &outputs[0], &size(anchors, cells));
        graph.output("boxes", &outputs[1], &size(anchors * BOX_VALUES, cells));
        graph
    }

    #[cfg(feature = "onnx")]
    fn layers(&self, g: &mut Scope, patches: &Node) -> [Node; 2] {
        let mut x = match &self.stem {
            Some(stem) => {
                let y = stem.export(&mut g.at("stem"), patches);
                g.max_pool2(&y)
            }
            None => patches.clone(),
        };
        let mut levels = Vec::new();
        for (depth, level) in self.encoder.iter().enumerate() {
            if depth > 0 {
                x = g.max_pool2(&x);
            }
            x = level.export(&mut g.at("encoder").at(depth), &x);
            levels.push(x.clone());
        }
        levels.pop();
        for (i, (up, lateral)) in self.up.iter().zip(&self.lateral).enumerate() {
            let level = levels.pop().expect("one level a step up");
            let from_below = up.export(&mut g.at("up").at(i), &x);
            let across = lateral.export(&mut g.at("lateral").at(i), &level);
            x = g.sum(&from_below, &across);
        }
        let x = self.neck.export(&mut g.at("neck"), &x); // [b, head_width, d/4, h/4, w/4]
        [self.class.export(&mut g.at("class"), &x), self.boxes.export(&mut g.at("boxes"), &x)]
    }

    /// [`mirrored`] of [`Self::forward`].
    pub fn forward_mirrored(&self, patches: Tensor<5>) -> DetectorOutput {
        mirrored(|patches| self.forward(patches), patches)
    }

    /// Mean of [`Self::forward_mirrored`] over several networks of one shape.
    pub fn forward_all(nets: &[&Self], patches: &Tensor<5>) -> DetectorOutput {
        let all: Vec<DetectorOutput> = nets.iter().map(|net| net.forward_mirrored(patches.clone())).collect();
        let all: Vec<&DetectorOutput> = all.iter().collect();
        let [class, boxes] = [mean(&all, |out| out.class.clone()), mean(&all, |out| out.boxes.clone())];
        DetectorOutput { class, boxes }
    }
}

/// Mean of what a network says of the patch and of its mirror image along all axes: a nodule looks like one from either
/// side, chance does not. Twice the work of `forward`.
pub fn mirrored(forward: impl Fn(Tensor<5>) -> DetectorOutput, patches: Tensor<5>) -> DetectorOutput {
    const AXES: [isize; 3] = [2, 3, 4];
    let plain = forward(patches.clone());
    let mirrored = forward(patches.flip(AXES));
    // Offsets point the other way, the log diameter stays.
    let [_, values, ..] = mirrored.boxes.dims();
    let signs: Vec<f32> = (0..values).map(|v| if v % BOX_VALUES == 3 { 1.0 } else { -1.0 }).collect();
    let signs = Tensor::<1>::from_floats(signs.as_slice(), &plain.boxes.device()).reshape([1, values, 1, 1, 1]);
    DetectorOutput {
        class: (plain.class + mirrored.class.flip(AXES)) / 2.0,
        boxes: (plain.boxes + mirrored.boxes.flip(AXES) * signs) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(stem: Stem, widths: &[usize], head_width: usize, anchors: usize) -> DetectorConfig {
        DetectorConfig {
            stem,
            widths: widths.to_vec(),
            head_width,
            anchors_mm: (1..=anchors).map(|i| 3.0 * i as f64).collect(),
            spacing_mm: 1.0,
            patch: 32,
            tile: 32,
            window_hu: (-1200.0, 600.0),
        }
    }

    #[test]
    fn at_the_source_width_it_has_7_million_parameters() {
        let net = config(Stem::None, &[64, 128, 256], 512, 9).init(1, &Device::flex());
        assert_eq!(net.num_params() / 100_000, 70);
    }

    #[test]
    fn cells_are_four_voxels_apart_with_and_without_a_stem() {
        let device = Device::flex();
        let x = Tensor::<5>::zeros([1, 1, 16, 32, 16], &device);
        for config in [config(Stem::Pool, &[4, 8, 8, 8], 8, 3), config(Stem::None, &[4, 4, 8], 8, 3)] {
            let out = config.init(1, &device).forward(x.clone());
            assert_eq!(out.class.dims(), [1, 3, 4, 8, 4]);
            assert_eq!(out.boxes.dims(), [1, 12, 4, 8, 4]);
        }
    }

    #[test]
    fn a_mirrored_patch_has_mirrored_findings() {
        let device = Device::flex();
        let net = config(Stem::Pool, &[4, 8], 8, 2).init(1, &device);
        let values: Vec<f32> = (0..4096).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
        let x = Tensor::<1>::from_floats(values.as_slice(), &device).reshape([1, 1, 16, 16, 16]);
        let here = net.forward_mirrored(x.clone());
        let there = net.forward_mirrored(x.flip([2, 3, 4]));
        let off = |a: Tensor<5>, b: Tensor<5>| -> f32 { (a - b).abs().max().into_scalar() };
        assert!(off(here.class, there.class.flip([2, 3, 4])) < 1e-5);
        let boxes = there.boxes.flip([2, 3, 4]);
        // z offset of the first anchor turns round, its log diameter stays.
        assert!(off(here.boxes.clone().narrow(1, 0, 1), -boxes.clone().narrow(1, 0, 1)) < 1e-5);
        assert!(off(here.boxes.narrow(1, 3, 1), boxes.narrow(1, 3, 1)) < 1e-5);
    }

    #[test]
    fn an_untrained_network_claims_almost_nothing() {
        let device = Device::flex();
        let out = config(Stem::Pool, &[4, 8], 8, 3).init(1, &device).forward(Tensor::ones([1, 1, 16, 16, 16], &device));
        let highest: f32 = out.class.max().into_scalar();
        assert!(highest < -3.0, "logit {highest}");
    }
}
