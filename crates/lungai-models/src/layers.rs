//! The few layers that the three networks are built from.
//!
//! Weights are drawn here from an explicit generator, so that a seed gives the same bits on every device.

use crate::ops;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
#[cfg(feature = "onnx")]
use lungai_onnx::{Node, Scope};
use rand::{RngExt, rngs::StdRng};

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

/// Group normalisation (Wu & He 2018), groups of 8 channels or fewer; independent of the batch, so that a scan's
/// result does not depend on what it is batched with.
#[derive(Module, Debug)]
pub struct Norm {
    gamma: Param<Tensor<1>>,
    beta: Param<Tensor<1>>,
    groups: usize,
}

impl Norm {
    pub(crate) fn new(channels: usize, device: &Device) -> Self {
        Self {
            gamma: Param::from_tensor(Tensor::ones([channels], device)),
            beta: Param::from_tensor(Tensor::zeros([channels], device)),
            groups: (1..=channels.div_ceil(8)).rev().find(|g| channels.is_multiple_of(*g)).unwrap_or(1),
        }
    }

    /// Keeps the shape `[b, channels, d, h, w]`.
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        ops::group_norm(x, self.gamma.val(), self.beta.val(), self.groups)
    }

    /// `relu(forward(x))` in one pass.
    pub fn forward_relu(&self, x: Tensor<5>) -> Tensor<5> {
        ops::group_norm_relu(x, self.gamma.val(), self.beta.val(), self.groups)
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

/// Whether a block's convolutions are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Normalise {
    /// By [`Norm`]: for networks that always see the same field of view.
    Groups,
    /// Not at all, a bias instead: what a voxel is then depends on its neighbourhood alone, not on what else lies in the
    /// patch or tile, so that a network may be trained on small patches and run on large tiles.
    Nothing,
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
        let norm = (normalise == Normalise::Groups).then(|| Norm::new(channels[1], device));
        Self { conv: Conv::new(channels, 3, stride, norm.is_none(), rng, device), norm }
    }

    /// `[b, inputs, d, h, w]` to `[b, outputs, d/s, h/s, w/s]`.
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        match &self.norm {
            Some(norm) => norm.forward_relu(self.conv.forward(x)),
            None => self.conv.forward_relu(x),
        }
    }

    /// [`Self::forward`] before its ReLU.
    fn forward_linear(&self, x: Tensor<5>) -> Tensor<5> {
        let y = self.conv.forward(x);
        match &self.norm {
            Some(norm) => norm.forward(y),
            None => y,
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
        let y = self.conv.export(&mut g.at("conv"), x);
        match &self.norm {
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
