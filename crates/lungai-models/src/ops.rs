//! Tensor operations of the networks, `[batch, channel, depth, height, width]`.
//!
//! On the CPU they are `lungai-kernels` through Burn's backend extension, with gradients under the feature `train`:
//! Burn's own 3D convolution takes 2 to 3 times as long there. On every other device they are composed of Burn's
//! operations. Both give the same values up to rounding.

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, DispatchDevice, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Device, FloatDType, Tensor, TensorData, activation, module, ops::ConvOptions};
pub use lungai_kernels::Over;
use lungai_kernels::{ConvShape, NormShape};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether convolutions on other devices than the CPU count in bfloat16.
static BF16: AtomicBool = AtomicBool::new(false);

/// From here on, in the whole process, convolutions on a GPU are computed in bfloat16: weights and everything between them
/// stay f32. Burn has no automatic mixed precision; this is what pays of it.
pub fn convolve_in_bf16(yes: bool) {
    BF16.store(yes, Ordering::Relaxed);
}

/// Convolution with kernel 3 (padding 1) or kernel 1, stride 1 or 2.
///
/// - x: `[b, inputs, d, h, w]`, weight: `[outputs, inputs, k, k, k]`, bias: `[outputs]`
/// - output: `[b, outputs, d/s, h/s, w/s]`, rounded up
pub fn conv3d(x: Tensor<5>, weight: Tensor<5>, bias: Option<Tensor<1>>, stride: usize) -> Tensor<5> {
    conv(x, weight, bias, stride, false)
}

/// [`conv3d`], then ReLU, in one pass.
pub fn conv3d_relu(x: Tensor<5>, weight: Tensor<5>, bias: Option<Tensor<1>>, stride: usize) -> Tensor<5> {
    conv(x, weight, bias, stride, true)
}

fn conv(x: Tensor<5>, weight: Tensor<5>, bias: Option<Tensor<1>>, stride: usize, relu: bool) -> Tensor<5> {
    let [outputs, _, kernel, _, _] = weight.dims();
    if !on_cpu(&x.device()) {
        let options = ConvOptions::new([stride; 3], [kernel / 2; 3], [1; 3], 1);
        let y = if BF16.load(Ordering::Relaxed) {
            let half = |x: Tensor<5>| x.cast(FloatDType::BF16);
            let bias = bias.map(|bias| bias.cast(FloatDType::BF16));
            module::conv3d(half(x), half(weight), bias, options).cast(FloatDType::F32)
        } else {
            module::conv3d(x, weight, bias, options)
        };
        return if relu { activation::relu(y) } else { y };
    }
    let bias = bias.unwrap_or_else(|| Tensor::zeros([outputs], &x.device()));
    let [x, weight, bias] = [x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch()];
    Tensor::from_dispatch(<Dispatch as VolumeOps>::volume_conv(x, weight, bias, stride, relu))
}

/// What is normalised together, and what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NormRule {
    /// Groups of consecutive channels.
    pub groups: usize,
    /// Each batch item by itself, or all together.
    pub over: Over,
    /// ReLU after it, in the same pass.
    pub relu: bool,
}

/// Group normalisation and its relatives (see [`lungai_kernels::group_norm`]) with 1e-5 added to the variance.
///
/// - x: `[b, channels, d, h, w]`, gamma, beta: `[channels]`, a multiple of the groups; output as x
pub fn group_norm(x: Tensor<5>, gamma: Tensor<1>, beta: Tensor<1>, rule: NormRule) -> Tensor<5> {
    if on_cpu(&x.device()) {
        let [x, gamma, beta] = [x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch()];
        return Tensor::from_dispatch(<Dispatch as VolumeOps>::volume_norm(x, gamma, beta, rule));
    }
    let NormRule { groups, over, relu } = rule;
    let [b, c, d, h, w] = x.dims();
    let x = x.reshape([b, groups, c / groups * d * h * w]);
    let mean = |x: Tensor<3>| match over {
        Over::Item => x.mean_dim(2),
        Over::Batch => x.mean_dim(2).mean_dim(0),
    };
    let x = x.clone() - mean(x);
    let variance = mean(x.clone().square());
    let x = (x / (variance + 1e-5).sqrt()).reshape([b, c, d, h, w]);
    let y = x * gamma.reshape([1, c, 1, 1, 1]) + beta.reshape([1, c, 1, 1, 1]);
    if relu { activation::relu(y) } else { y }
}

/// `relu(a + b)` of two tensors of one shape: the end of a residual block.
pub fn add_relu(a: Tensor<5>, b: Tensor<5>) -> Tensor<5> {
    assert_eq!(a.dims(), b.dims(), "both branches of a residual block have one shape");
    if on_cpu(&a.device()) {
        return Tensor::from_dispatch(<Dispatch as VolumeOps>::volume_add_relu(a.into_dispatch(), b.into_dispatch()));
    }
    activation::relu(a + b)
}

/// `[b, c, d, h, w]`, all even, to `[b, 8c, d/2, h/2, w/2]`; voxel `(2z + dz, 2y + dy, 2x + dx)` goes to sub-channel
/// `4 dz + 2 dy + dx`.
pub fn space_to_depth(x: Tensor<5>) -> Tensor<5> {
    if on_cpu(&x.device()) {
        return reshaped(x, Reshaping::SpaceToDepth);
    }
    let [b, c, d, h, w] = x.dims();
    x.reshape([b, c, d / 2, 2, h / 2, 2, w / 2, 2]).permute([0, 1, 3, 5, 7, 2, 4, 6]).reshape([
        b,
        8 * c,
        d / 2,
        h / 2,
        w / 2,
    ])
}

/// `[b, 8c, d, h, w]` to `[b, c, 2d, 2h, 2w]`: the inverse of [`space_to_depth`].
pub fn depth_to_space(x: Tensor<5>) -> Tensor<5> {
    if on_cpu(&x.device()) {
        return reshaped(x, Reshaping::DepthToSpace);
    }
    let [b, c, d, h, w] = x.dims();
    x.reshape([b, c / 8, 2, 2, 2, d, h, w]).permute([0, 1, 5, 2, 6, 3, 7, 4]).reshape([b, c / 8, 2 * d, 2 * h, 2 * w])
}

/// Mean over blocks of 2x2x2: `[b, c, d, h, w]`, all even, to `[b, c, d/2, h/2, w/2]`.
pub fn mean_pool2(x: Tensor<5>) -> Tensor<5> {
    if on_cpu(&x.device()) {
        return reshaped(x, Reshaping::MeanPool);
    }
    let [b, c, d, h, w] = x.dims();
    space_to_depth(x).reshape([b, c, 8, d / 2 * (h / 2) * (w / 2)]).mean_dim(2).reshape([b, c, d / 2, h / 2, w / 2])
}

/// Maximum over blocks of 2x2x2: `[b, c, d, h, w]`, all even, to `[b, c, d/2, h/2, w/2]`.
pub fn max_pool2(x: Tensor<5>) -> Tensor<5> {
    if on_cpu(&x.device()) {
        return reshaped(x, Reshaping::MaxPool);
    }
    let [b, c, d, h, w] = x.dims();
    space_to_depth(x).reshape([b, c, 8, d / 2 * (h / 2) * (w / 2)]).max_dim(2).reshape([b, c, d / 2, h / 2, w / 2])
}

fn reshaped(x: Tensor<5>, how: Reshaping) -> Tensor<5> {
    Tensor::from_dispatch(<Dispatch as VolumeOps>::volume_reshape(x.into_dispatch(), how))
}

/// Whether tensors of this device are computed by `lungai-kernels`.
pub fn on_cpu(device: &Device) -> bool {
    matches!(device.as_dispatch().clone().inner(), DispatchDevice::Flex(_))
}

/// The operations with one argument.
#[derive(Clone, Copy, Debug)]
enum Reshaping {
    SpaceToDepth,
    DepthToSpace,
    MeanPool,
    MaxPool,
}

/// What a backend has to supply. The names begin with `volume_` because the trait is implemented for Burn's types.
#[backend_extension(Autodiff: cfg(feature = "train"), Flex)]
trait VolumeOps: Backend {
    fn volume_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
        relu: bool,
    ) -> FloatTensor<Self>;
    fn volume_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        rule: NormRule,
    ) -> FloatTensor<Self>;
    fn volume_add_relu(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;
    fn volume_reshape(x: FloatTensor<Self>, how: Reshaping) -> FloatTensor<Self>;
}

impl VolumeOps for Flex {
    fn volume_conv(x: FlexTensor, weight: FlexTensor, bias: FlexTensor, stride: usize, relu: bool) -> FlexTensor {
        let (x, weight, bias) = (x.to_contiguous(), weight.to_contiguous(), bias.to_contiguous());
        let shape = conv_shape(dims(&x), dims(&weight), stride);
        let y = lungai_kernels::conv3d(&shape, x.storage(), weight.storage(), Some(bias.storage()), relu);
        let [d, h, w] = shape.out_size();
        tensor(y, [shape.batch, shape.out_channels, d, h, w])
    }

    fn volume_norm(x: FlexTensor, gamma: FlexTensor, beta: FlexTensor, rule: NormRule) -> FlexTensor {
        let (x, gamma, beta) = (x.to_contiguous(), gamma.to_contiguous(), beta.to_contiguous());
        let shape = norm_shape(dims(&x), rule);
        tensor(lungai_kernels::group_norm(&shape, x.storage(), gamma.storage(), beta.storage()), dims(&x))
    }

    fn volume_add_relu(a: FlexTensor, b: FlexTensor) -> FlexTensor {
        let (a, b) = (a.to_contiguous(), b.to_contiguous());
        tensor(lungai_kernels::add_relu(a.storage(), b.storage()), dims(&a))
    }

    fn volume_reshape(x: FlexTensor, how: Reshaping) -> FlexTensor {
        let x = x.to_contiguous();
        let [b, c, d, h, w] = dims(&x);
        let (halved, size) = ([d / 2, h / 2, w / 2], [d, h, w]);
        let with = |channels: usize, [d, h, w]: [usize; 3]| [b, channels, d, h, w];
        match how {
            Reshaping::SpaceToDepth => {
                tensor(lungai_kernels::space_to_depth(b * c, size, x.storage()), with(8 * c, halved))
            }
            Reshaping::DepthToSpace => {
                assert!(c.is_multiple_of(8), "{c} channels do not make whole voxels of eight");
                let size = [2 * d, 2 * h, 2 * w];
                tensor(lungai_kernels::depth_to_space(b * c / 8, size, x.storage()), with(c / 8, size))
            }
            Reshaping::MeanPool => tensor(lungai_kernels::mean_pool3d(b * c, size, x.storage()), with(c, halved)),
            Reshaping::MaxPool => tensor(lungai_kernels::max_pool3d(b * c, size, x.storage()), with(c, halved)),
        }
    }
}

fn dims(x: &FlexTensor) -> [usize; 5] {
    x.shape().dims()
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

fn conv_shape(x: [usize; 5], weight: [usize; 5], stride: usize) -> ConvShape {
    let ([batch, in_channels, d, h, w], [out_channels, inputs, kernel, ky, kx]) = (x, weight);
    assert!(inputs == in_channels && ky == kernel && kx == kernel, "weights {weight:?} do not fit an input {x:?}");
    ConvShape { batch, in_channels, out_channels, size: [d, h, w], kernel, stride }
}

fn norm_shape([batch, channels, d, h, w]: [usize; 5], NormRule { groups, over, relu }: NormRule) -> NormShape {
    NormShape { batch, channels, volume: d * h * w, groups, over, relu }
}

#[cfg(feature = "train")]
mod gradients {
    //! Each operation's step back, and its place in Burn's graph.

    use super::{FlexTensor, NormRule, Reshaping, VolumeOps, conv_shape, dims, norm_shape, tensor};
    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, tensor::FloatTensor};

    /// What a backend has to supply besides for training.
    pub(super) trait VolumeGradients: Backend {
        fn conv_grad_x(
            weight: FloatTensor<Self>,
            grad: FloatTensor<Self>,
            x_dims: [usize; 5],
            stride: usize,
        ) -> FloatTensor<Self>;
        fn conv_grad_weight(
            x: FloatTensor<Self>,
            grad: FloatTensor<Self>,
            weight_dims: [usize; 5],
            stride: usize,
        ) -> FloatTensor<Self>;
        fn conv_grad_bias(grad: FloatTensor<Self>) -> FloatTensor<Self>;
        /// By x, gamma and beta.
        fn norm_grad(
            x: FloatTensor<Self>,
            gamma: FloatTensor<Self>,
            beta: FloatTensor<Self>,
            grad: FloatTensor<Self>,
            rule: NormRule,
        ) -> [FloatTensor<Self>; 3];
        /// By either argument.
        fn add_relu_grad(y: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self>;
        /// - `x`: what went in, of the largest value of eight alone
        fn reshape_grad(
            x: Option<FloatTensor<Self>>,
            grad: FloatTensor<Self>,
            x_dims: [usize; 5],
            how: Reshaping,
        ) -> FloatTensor<Self>;
    }

    impl VolumeGradients for Flex {
        fn conv_grad_x(weight: FlexTensor, grad: FlexTensor, x_dims: [usize; 5], stride: usize) -> FlexTensor {
            let (weight, grad) = (weight.to_contiguous(), grad.to_contiguous());
            let shape = conv_shape(x_dims, dims(&weight), stride);
            tensor(lungai_kernels::conv3d_grad_x(&shape, weight.storage(), grad.storage()), x_dims)
        }

        fn conv_grad_weight(x: FlexTensor, grad: FlexTensor, weight_dims: [usize; 5], stride: usize) -> FlexTensor {
            let (x, grad) = (x.to_contiguous(), grad.to_contiguous());
            let shape = conv_shape(dims(&x), weight_dims, stride);
            tensor(lungai_kernels::conv3d_grad_weight(&shape, x.storage(), grad.storage()), weight_dims)
        }

        fn conv_grad_bias(grad: FlexTensor) -> FlexTensor {
            let grad = grad.to_contiguous();
            let [batch, channels, d, h, w] = dims(&grad);
            tensor(lungai_kernels::channel_sums(batch, channels, d * h * w, grad.storage()), [channels])
        }

        fn norm_grad(
            x: FlexTensor,
            gamma: FlexTensor,
            beta: FlexTensor,
            grad: FlexTensor,
            rule: NormRule,
        ) -> [FlexTensor; 3] {
            let (x, gamma, beta) = (x.to_contiguous(), gamma.to_contiguous(), beta.to_contiguous());
            let grad = grad.to_contiguous();
            let shape = norm_shape(dims(&x), rule);
            let by =
                lungai_kernels::group_norm_grad(&shape, x.storage(), gamma.storage(), beta.storage(), grad.storage());
            [tensor(by.x, dims(&x)), tensor(by.gamma, [shape.channels]), tensor(by.beta, [shape.channels])]
        }

        fn add_relu_grad(y: FlexTensor, grad: FlexTensor) -> FlexTensor {
            let (y, grad) = (y.to_contiguous(), grad.to_contiguous());
            tensor(lungai_kernels::add_relu_grad(y.storage(), grad.storage()), dims(&y))
        }

        fn reshape_grad(
            x: Option<FlexTensor>,
            grad: FlexTensor,
            [b, c, d, h, w]: [usize; 5],
            how: Reshaping,
        ) -> FlexTensor {
            let grad = grad.to_contiguous();
            let size = [d, h, w];
            let grad = grad.storage();
            let values = match how {
                Reshaping::SpaceToDepth => lungai_kernels::depth_to_space(b * c, size, grad),
                Reshaping::DepthToSpace => lungai_kernels::space_to_depth(b * c / 8, size.map(|n| 2 * n), grad),
                Reshaping::MeanPool => lungai_kernels::mean_pool3d_grad(b * c, size, grad),
                Reshaping::MaxPool => {
                    let x = x.expect("kept for this").to_contiguous();
                    lungai_kernels::max_pool3d_grad(b * c, size, x.storage(), grad)
                }
            };
            tensor(values, [b, c, d, h, w])
        }
    }

    #[derive(Debug)]
    struct Conv {
        stride: usize,
    }

    impl<B: VolumeGradients> Backward<B, 3> for Conv {
        /// Input, weight and, where it ends with a ReLU, the output.
        type State = (FloatTensor<B>, FloatTensor<B>, Option<FloatTensor<B>>);

        fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
            let [by_x, by_weight, by_bias] = ops.parents;
            let grad = grads.consume::<B>(&ops.node);
            let (x, weight, y) = ops.state;
            let grad = match y {
                Some(y) => B::add_relu_grad(y, grad),
                None => grad,
            };
            let (x_dims, weight_dims) = (x.shape().dims(), weight.shape().dims());
            if let Some(node) = by_x {
                grads.register::<B>(node.id, B::conv_grad_x(weight, grad.clone(), x_dims, self.stride));
            }
            if let Some(node) = by_weight {
                grads.register::<B>(node.id, B::conv_grad_weight(x, grad.clone(), weight_dims, self.stride));
            }
            if let Some(node) = by_bias {
                grads.register::<B>(node.id, B::conv_grad_bias(grad));
            }
        }
    }

    #[derive(Debug)]
    struct Norm(NormRule);

    impl<B: VolumeGradients> Backward<B, 3> for Norm {
        type State = [FloatTensor<B>; 3];

        fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
            let grad = grads.consume::<B>(&ops.node);
            let [x, gamma, beta] = ops.state;
            let all = B::norm_grad(x, gamma, beta, grad, self.0);
            for (parent, grad) in ops.parents.into_iter().zip(all) {
                if let Some(node) = parent {
                    grads.register::<B>(node.id, grad);
                }
            }
        }
    }

    #[derive(Debug)]
    struct AddRelu;

    impl<B: VolumeGradients> Backward<B, 2> for AddRelu {
        type State = FloatTensor<B>;

        fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
            let grad = B::add_relu_grad(ops.state, grads.consume::<B>(&ops.node));
            for node in ops.parents.into_iter().flatten() {
                grads.register::<B>(node.id, grad.clone());
            }
        }
    }

    #[derive(Debug)]
    struct Reshape(Reshaping);

    impl<B: VolumeGradients> Backward<B, 1> for Reshape {
        /// The input's shape and, where its values decide, the input.
        type State = ([usize; 5], Option<FloatTensor<B>>);

        fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
            let grad = grads.consume::<B>(&ops.node);
            if let [Some(node)] = ops.parents {
                let (dims, x) = ops.state;
                grads.register::<B>(node.id, B::reshape_grad(x, grad, dims, self.0));
            }
        }
    }

    impl<B: VolumeOps + VolumeGradients, C: CheckpointStrategy> VolumeOps for Autodiff<B, C> {
        fn volume_conv(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: FloatTensor<Self>,
            stride: usize,
            relu: bool,
        ) -> FloatTensor<Self> {
            let nodes = [x.node(), weight.node(), bias.node()];
            let [x, weight, bias] = [x.into_primitive(), weight.into_primitive(), bias.into_primitive()];
            match (Conv { stride }).prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(step) => {
                    let y = B::volume_conv(x.clone(), weight.clone(), bias, stride, relu);
                    step.finish((x, weight, relu.then(|| y.clone())), y)
                }
                OpsKind::UnTracked(step) => step.finish(B::volume_conv(x, weight, bias, stride, relu)),
            }
        }

        fn volume_norm(
            x: FloatTensor<Self>,
            gamma: FloatTensor<Self>,
            beta: FloatTensor<Self>,
            rule: NormRule,
        ) -> FloatTensor<Self> {
            let nodes = [x.node(), gamma.node(), beta.node()];
            let [x, gamma, beta] = [x.into_primitive(), gamma.into_primitive(), beta.into_primitive()];
            match Norm(rule).prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(step) => {
                    let y = B::volume_norm(x.clone(), gamma.clone(), beta.clone(), rule);
                    step.finish([x, gamma, beta], y)
                }
                OpsKind::UnTracked(step) => step.finish(B::volume_norm(x, gamma, beta, rule)),
            }
        }

        fn volume_add_relu(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
            let nodes = [a.node(), b.node()];
            let y = B::volume_add_relu(a.into_primitive(), b.into_primitive());
            match AddRelu.prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(step) => step.finish(y.clone(), y),
                OpsKind::UnTracked(step) => step.finish(y),
            }
        }

        fn volume_reshape(x: FloatTensor<Self>, how: Reshaping) -> FloatTensor<Self> {
            let nodes = [x.node()];
            let x = x.into_primitive();
            match Reshape(how).prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(step) => {
                    let kept = matches!(how, Reshaping::MaxPool).then(|| x.clone());
                    step.finish((x.shape().dims(), kept), B::volume_reshape(x, how))
                }
                OpsKind::UnTracked(step) => step.finish(B::volume_reshape(x, how)),
            }
        }
    }
}
