//! The few layers that the networks are built from.
//!
//! Weights are drawn here from an explicit generator, so that a seed gives the same bits on every device.

use crate::ops::{self, NormRule, Over};
use burn::module::{Module, Param, RunningState};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};
#[cfg(feature = "onnx")]
use lungai_onnx::{Node, Scope};
use rand::{RngExt, rngs::StdRng};
use serde::{Deserialize, Serialize};

/// 3D convolution that keeps the size (stride 1) or halves it (stride 2): kernel 3 with padding 1, or kernel 1.
#[derive(Module, Debug)]
pub struct Conv {
    weight: Param<Tensor<5>>,
    bias: Option<Param<Tensor<1>>>,
    stride: usize,
}

impl Conv {
    /// He-normal weights `[outputs, inputs, kernel, kernel, kernel]` (He et al. 2015), zero bias.
    pub(crate) fn new(
        [inputs, outputs]: [usize; 2],
        kernel: usize,
        stride: usize,
        bias: bool,
        rng: &mut StdRng,
        device: &Device,
    ) -> Self {
        let fan_in = inputs * kernel.pow(3);
        let weight = normal([outputs, inputs, kernel, kernel, kernel], (2.0 / fan_in as f64).sqrt(), rng, device);
        let bias = bias.then(|| Param::from_tensor(Tensor::zeros([outputs], device)));
        Self { weight, bias, stride }
    }

    /// A kernel-1 head whose outputs all begin near `start`.
    pub(crate) fn head([inputs, outputs]: [usize; 2], start: f64, rng: &mut StdRng, device: &Device) -> Self {
        let weight = normal([outputs, inputs, 1, 1, 1], (0.1 / inputs as f64).sqrt(), rng, device);
        Self { weight, bias: Some(Param::from_tensor(Tensor::full([outputs], start, device))), stride: 1 }
    }

    /// `[b, inputs, d, h, w]` to `[b, outputs, d/s, h/s, w/s]` (rounded up).
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        ops::conv3d(x, self.weight.val(), self.bias.as_ref().map(Param::val), self.stride)
    }

    /// `relu(forward(x))` in one pass.
    fn forward_relu(&self, x: Tensor<5>) -> Tensor<5> {
        ops::conv3d_relu(x, self.weight.val(), self.bias.as_ref().map(Param::val), self.stride)
    }

    /// Channels that it gives.
    #[cfg(feature = "onnx")]
    pub(crate) fn outputs(&self) -> usize {
        self.weight.dims()[0]
    }

    /// [`Self::forward`] as ONNX.
    #[cfg(feature = "onnx")]
    pub(crate) fn export(&self, g: &mut Scope, x: &Node) -> Node {
        let [.., kernel] = self.weight.dims();
        let weight = weight(&mut g.at("weight"), &self.weight);
        let bias = self.bias.as_ref().map(|bias| self::weight(&mut g.at("bias"), bias));
        g.conv(x, &weight, bias.as_ref(), kernel, self.stride)
    }
}

/// How the outputs of a block's convolutions are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalise {
    /// Group normalisation (Wu & He 2018), groups of 8 channels or fewer; independent of the batch, so that a scan's result
    /// does not depend on what it is batched with. For networks that always see the same field of view.
    Group,
    /// Each channel by itself (Ulyanov et al. 2016).
    Instance,
    /// Each channel over the batch in training (Ioffe & Szegedy 2015); a frozen network has it folded into the weights of
    /// its convolutions, where it costs nothing. For batches of many.
    Batch,
    /// Not at all, a bias instead: what a voxel is then depends on its neighbourhood alone, not on what else lies in the
    /// patch or tile, so that a network may be trained on small patches and run on large tiles.
    Nothing,
}

/// Share of a batch in the running mean and variance of [`Normalise::Batch`]; PyTorch's default.
const MOMENTUM: f64 = 0.1;
/// Added to the variance; PyTorch's default.
const EPSILON: f64 = 1e-5;

/// Normalisation of `[b, channels, d, h, w]`.
#[derive(Module, Debug)]
pub struct Norm {
    gamma: Param<Tensor<1>>,
    beta: Param<Tensor<1>>,
    groups: usize,
    /// Where the whole batch is normalised together.
    running: Option<Running>,
}

/// Mean and variance of each channel over the batches of the training: what [`Normalise::Batch`] uses afterwards.
#[derive(Module, Debug)]
struct Running {
    mean: RunningState<Tensor<1>>,
    variance: RunningState<Tensor<1>>,
}

impl Norm {
    /// `None` where there is nothing to do.
    fn new(channels: usize, normalise: Normalise, device: &Device) -> Option<Self> {
        let eighths = || (1..=channels.div_ceil(8)).rev().find(|g| channels.is_multiple_of(*g)).unwrap_or(1);
        let groups = match normalise {
            Normalise::Nothing => return None,
            Normalise::Group => eighths(),
            Normalise::Instance | Normalise::Batch => channels,
        };
        let running = (normalise == Normalise::Batch).then(|| Running {
            mean: RunningState::new(Tensor::zeros([channels], device)),
            variance: RunningState::new(Tensor::ones([channels], device)),
        });
        let [gamma, beta] = [Tensor::ones([channels], device), Tensor::zeros([channels], device)];
        Some(Self { gamma: Param::from_tensor(gamma), beta: Param::from_tensor(beta), groups, running })
    }

    /// By the values of `x` itself; then ReLU where wanted.
    fn forward(&self, x: Tensor<5>, relu: bool) -> Tensor<5> {
        let over = if self.running.is_some() { Over::Batch } else { Over::Item };
        if let Some(running) = &self.running {
            running.learn(x.clone().detach());
        }
        ops::group_norm(x, self.gamma.val(), self.beta.val(), NormRule { groups: self.groups, over, relu })
    }

    /// The convolution that does what `conv` and then this do, where that is one: after the training of [`Normalise::Batch`].
    fn folded_into(&self, conv: &Conv) -> Option<Conv> {
        let running = self.running.as_ref()?;
        let [outputs, ..] = conv.weight.dims();
        let scale = self.gamma.val() / (running.variance.value_sync() + EPSILON).sqrt();
        let shift = self.beta.val() - running.mean.value_sync() * scale.clone();
        let bias = match &conv.bias {
            Some(bias) => bias.val() * scale.clone() + shift,
            None => shift,
        };
        let weight = conv.weight.val() * scale.reshape([outputs, 1, 1, 1, 1]);
        Some(Conv { weight: Param::from_tensor(weight), bias: Some(Param::from_tensor(bias)), stride: conv.stride })
    }

    /// [`Self::forward`] as ONNX.
    #[cfg(feature = "onnx")]
    fn export(&self, g: &mut Scope, x: &Node) -> Node {
        let gamma = weight(&mut g.at("gamma"), &self.gamma);
        let beta = weight(&mut g.at("beta"), &self.beta);
        let [channels] = self.gamma.dims();
        g.group_norm(x, &gamma, &beta, [channels, self.groups])
    }
}

impl Running {
    fn learn(&self, x: Tensor<5>) {
        let [b, c, d, h, w] = x.dims();
        let count = (b * d * h * w) as f64;
        let mean = |x: Tensor<5>| x.reshape([b, c, d * h * w]).mean_dim(2).mean_dim(0).reshape([c]);
        let centre = mean(x.clone());
        // Of the population from which the batch was drawn: one less than its count.
        let spread = mean((x - centre.clone().reshape([1, c, 1, 1, 1])).square()) * (count / (count - 1.0).max(1.0));
        for (state, now) in [(&self.mean, centre), (&self.variance, spread)] {
            state.update((state.value_sync() * (1.0 - MOMENTUM) + now * MOMENTUM).detach());
        }
    }
}

/// Convolution and, where wanted, normalisation; ReLU.
#[derive(Module, Debug)]
pub struct ConvNorm {
    conv: Conv,
    norm: Option<Norm>,
}

impl ConvNorm {
    /// Kernel 3.
    pub(crate) fn new(
        channels: [usize; 2],
        stride: usize,
        normalise: Normalise,
        rng: &mut StdRng,
        device: &Device,
    ) -> Self {
        let norm = Norm::new(channels[1], normalise, device);
        Self { conv: Conv::new(channels, 3, stride, norm.is_none(), rng, device), norm }
    }

    /// `[b, inputs, d, h, w]` to `[b, outputs, d/s, h/s, w/s]`.
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        match self.steps(x.device().is_autodiff()) {
            (conv, None) => conv.forward_relu(x),
            (conv, Some(norm)) => norm.forward(conv.forward(x), true),
        }
    }

    /// [`Self::forward`] before its ReLU.
    fn forward_linear(&self, x: Tensor<5>) -> Tensor<5> {
        match self.steps(x.device().is_autodiff()) {
            (conv, None) => conv.forward(x),
            (conv, Some(norm)) => norm.forward(conv.forward(x), false),
        }
    }

    /// What is to be computed: in training, or afterwards.
    fn steps(&self, training: bool) -> (Conv, Option<&Norm>) {
        let folded = self.norm.as_ref().filter(|_| !training).and_then(|norm| norm.folded_into(&self.conv));
        match folded {
            Some(conv) => (conv, None),
            None => (self.conv.clone(), self.norm.as_ref()),
        }
    }

    /// [`Self::forward`] as ONNX.
    #[cfg(feature = "onnx")]
    pub(crate) fn export(&self, g: &mut Scope, x: &Node) -> Node {
        let y = self.export_linear(g, x);
        g.relu(&y)
    }

    /// [`Self::forward_linear`] as ONNX.
    #[cfg(feature = "onnx")]
    fn export_linear(&self, g: &mut Scope, x: &Node) -> Node {
        let (conv, norm) = self.steps(false);
        let y = conv.export(&mut g.at("conv"), x);
        match norm {
            Some(norm) => norm.export(&mut g.at("norm"), &y),
            None => y,
        }
    }
}

/// Residual block (He et al. 2016): `relu(f(x) + projection(x))`. Where it halves the size the projection averages
/// before its 1x1x1 convolution (ResNet-D, He et al. 2019), so that no voxel is skipped.
#[derive(Module, Debug)]
pub struct Residual {
    first: ConvNorm,
    second: ConvNorm,
    projection: Option<Conv>,
    stride: usize,
}

impl Residual {
    pub(crate) fn new(
        [inputs, outputs]: [usize; 2],
        stride: usize,
        normalise: Normalise,
        rng: &mut StdRng,
        device: &Device,
    ) -> Self {
        Self {
            first: ConvNorm::new([inputs, outputs], stride, normalise, rng, device),
            second: ConvNorm::new([outputs, outputs], 1, normalise, rng, device),
            projection: (inputs != outputs).then(|| Conv::new([inputs, outputs], 1, 1, true, rng, device)),
            stride,
        }
    }

    /// The same block with a branch that is always zero.
    #[cfg(test)]
    pub(crate) fn silenced(mut self) -> Self {
        let norm = self.second.norm.as_mut().expect("a normalised block");
        norm.gamma = Param::from_tensor(norm.gamma.val().zeros_like());
        self
    }

    /// `[b, inputs, d, h, w]` to `[b, outputs, d/s, h/s, w/s]`; sizes must be divisible by the stride.
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let y = self.second.forward_linear(self.first.forward(x.clone()));
        let short = if self.stride == 2 { ops::mean_pool2(x) } else { x };
        let short = match &self.projection {
            Some(projection) => projection.forward(short),
            None => short,
        };
        ops::add_relu(y, short)
    }

    /// [`Self::forward`] as ONNX.
    #[cfg(feature = "onnx")]
    pub(crate) fn export(&self, g: &mut Scope, x: &Node) -> Node {
        let y = self.first.export(&mut g.at("first"), x);
        let y = self.second.export_linear(&mut g.at("second"), &y);
        let short = if self.stride == 2 { g.mean_pool2(x) } else { x.clone() };
        let short = match &self.projection {
            Some(projection) => projection.export(&mut g.at("projection"), &short),
            None => short,
        };
        let sum = g.sum(&y, &short);
        g.relu(&sum)
    }
}

/// What looks at a cube in the classifier and the reducer: a stem at full resolution, and stages of residual blocks of which
/// each has twice the channels of the one before and, but for the first, half its size. With them the channels that come out.
///
/// - `width`: channels of the first stage; `blocks`: residual blocks per stage
pub(crate) fn residual_stages(
    width: usize,
    blocks: &[usize],
    rng: &mut StdRng,
    device: &Device,
) -> (ConvNorm, Vec<Residual>, usize) {
    let stem = ConvNorm::new([1, width], 1, Normalise::Group, rng, device);
    let mut stages = Vec::new();
    let mut inputs = width;
    for (stage, &blocks) in blocks.iter().enumerate() {
        let width = width << stage;
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            stages.push(Residual::new([inputs, width], stride, Normalise::Group, rng, device));
            inputs = width;
        }
    }
    (stem, stages, inputs)
}

/// Stem and stages as ONNX.
#[cfg(feature = "onnx")]
pub(crate) fn export_stages(stem: &ConvNorm, stages: &[Residual], g: &mut Scope, x: &Node) -> Node {
    let mut x = stem.export(&mut g.at("stem"), x);
    for (i, stage) in stages.iter().enumerate() {
        x = stage.export(&mut g.at("stages").at(i), &x);
    }
    x
}

/// The cells in the middle of `edge` of them: two of an even number, one of an odd one.
fn middle(edge: usize) -> std::ops::Range<usize> {
    (edge - 1) / 2..edge / 2 + 1
}

/// Each channel of `[b, c, d, h, w]` as a few numbers, `[b, 2c]` or `[b, 3c]`: the mean of the cells in the middle where they
/// are wanted, the mean of all, and the largest. What lies in the middle is the question; what lies round it, on the whole and
/// at its strongest, helps to answer: a nodule of 5 mm fills a thousandth of the cube.
pub(crate) fn pooled(x: Tensor<5>, with_middle: bool) -> Tensor<2> {
    let [b, c, d, h, w] = x.dims();
    let mean = |x: Tensor<5>| x.flatten::<3>(2, 4).mean_dim(2).reshape([b, c]);
    let centre = with_middle.then(|| mean(x.clone().slice([0..b, 0..c, middle(d), middle(h), middle(w)])));
    let most = x.clone().flatten::<3>(2, 4).max_dim(2).reshape([b, c]);
    Tensor::cat(centre.into_iter().chain([mean(x), most]).collect(), 1)
}

/// [`pooled`] as ONNX.
#[cfg(feature = "onnx")]
pub(crate) fn export_pooled(g: &mut Scope, x: &Node, with_middle: bool) -> Node {
    let centre = with_middle.then(|| {
        let centre = g.middle(x);
        g.global_mean(&centre)
    });
    let (mean, most) = (g.global_mean(x), g.global_max(x));
    g.concat(&centre.iter().chain([&mean, &most]).collect::<Vec<_>>())
}

/// A last matrix of normal weights with this standard deviation, and biases of zero.
pub(crate) fn linear([inputs, outputs]: [usize; 2], sd: f64, rng: &mut StdRng, device: &Device) -> Linear {
    let mut layer = LinearConfig::new(inputs, outputs).init(device);
    layer.weight = normal([inputs, outputs], sd, rng, device);
    layer.bias = Some(Param::from_tensor(Tensor::zeros([outputs], device)));
    layer
}

/// The same as ONNX, with the weights of `head`.
#[cfg(feature = "onnx")]
pub(crate) fn export_head(layer: &Linear, g: &mut Scope, x: &Node) -> Node {
    let bias = layer.bias.as_ref().expect("made with a bias");
    let rows = weight(&mut g.at("head").at("weight"), &layer.weight);
    let bias = weight(&mut g.at("head").at("bias"), bias);
    g.linear(x, &rows, &bias)
}

/// Kernel-2 stride-2 up-sampling as a 1x1x1 convolution to eight times the channels, then depth to space: the same
/// function and parameter count as a transposed convolution, and fast on every device.
#[derive(Module, Debug)]
pub struct Up {
    conv: Conv,
}

impl Up {
    pub(crate) fn new([inputs, outputs]: [usize; 2], rng: &mut StdRng, device: &Device) -> Self {
        Self { conv: Conv::new([inputs, 8 * outputs], 1, 1, true, rng, device) }
    }

    /// `[b, inputs, d, h, w]` to `[b, outputs, 2d, 2h, 2w]`.
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        ops::depth_to_space(self.conv.forward(x))
    }

    /// [`Self::forward`] as ONNX.
    #[cfg(feature = "onnx")]
    pub(crate) fn export(&self, g: &mut Scope, x: &Node) -> Node {
        let y = self.conv.export(&mut g.at("conv"), x);
        g.depth_to_space(&y, self.conv.outputs() / 8)
    }
}

/// Adds a parameter to an ONNX graph, as it is in the weights file.
#[cfg(feature = "onnx")]
pub(crate) fn weight<const D: usize>(place: &mut Scope, parameter: &Param<Tensor<D>>) -> Node {
    let data = parameter.val().into_data().convert::<f32>();
    place.weight(data.shape(), data.as_slice().expect("converted"))
}

/// Normal deviates by Box and Muller's method.
pub(crate) fn normal<const D: usize>(
    shape: [usize; D],
    sd: f64,
    rng: &mut StdRng,
    device: &Device,
) -> Param<Tensor<D>> {
    let values: Vec<f32> = (0..shape.iter().product::<usize>())
        .map(|_| {
            let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
            (sd * radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()) as f32
        })
        .collect();
    Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device))
}

#[cfg(all(test, feature = "train"))]
mod tests {
    use super::*;
    use burn::module::Module;
    use rand::SeedableRng;

    #[test]
    fn batch_normalisation_learns_the_batch_and_folds_into_the_convolution() {
        let device = Device::flex();
        let mut rng = StdRng::seed_from_u64(1);
        let layer = ConvNorm::new([2, 3], 1, Normalise::Batch, &mut rng, &device.clone().autodiff());
        let values: Tensor<5> = normal([4, 2, 6, 6, 6], 1.0, &mut rng, &device).val() + 0.5;
        let mut trained = values.clone();
        // 0.9^200 of where it began is left.
        for _ in 0..200 {
            trained = layer.forward_linear(values.clone().autodiff()).inner();
        }
        // Each channel over the whole batch: mean 0, variance 1.
        let [b, c, d, h, w] = trained.dims();
        let of = |x: Tensor<5>| {
            x.reshape([b, c, d * h * w]).mean_dim(2).mean_dim(0).into_data().try_to_vec::<f32>().unwrap()
        };
        assert!(of(trained.clone()).iter().all(|mean| mean.abs() < 1e-4));
        assert!(of(trained.clone().square()).iter().all(|variance| (variance - 1.0).abs() < 1e-3));
        let frozen = layer.valid();
        assert!(frozen.steps(false).1.is_none());
        let folded = frozen.forward_linear(values.clone());
        let off: f32 = (folded - trained).abs().max().into_scalar();
        // One of 864 between the variance of a sample and of the population.
        assert!(off < 4e-3, "{off}");
    }

    #[test]
    fn the_middle_is_one_cell_or_two() {
        assert_eq!([1, 3, 6, 8].map(middle), [0..1, 1..2, 2..4, 3..5]);
    }

    #[test]
    fn a_channel_is_pooled_to_its_middle_its_mean_and_its_largest() {
        let mut cells = vec![1.0f32; 27];
        cells[13] = 4.0; // the one in the middle
        cells[0] = 8.0;
        let x = Tensor::<1>::from_floats(cells.as_slice(), &Device::flex()).reshape([1, 1, 3, 3, 3]);
        let values = |x: Tensor<2>| x.into_data().try_to_vec::<f32>().expect("floats");
        assert_eq!(values(pooled(x.clone(), true)), [4.0, 37.0 / 27.0, 8.0]);
        assert_eq!(values(pooled(x, false)), [37.0 / 27.0, 8.0]);
    }
}
