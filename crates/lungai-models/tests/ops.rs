//! The operations of the networks against Burn's own, composed ones, on the CPU: values and gradients.

use burn::tensor::{Device, Tensor, TensorData, activation::relu, module, ops::ConvOptions};
use lungai_models::ops;
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Largest difference allowed, as a share of the largest value.
const TOLERANCE: f32 = 1e-5;

fn noise<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let mut rng = StdRng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn check_close<const D: usize>(name: &str, ours: Tensor<D>, truth: Tensor<D>) {
    assert_eq!(ours.dims(), truth.dims(), "{name}");
    let read = |tensor: Tensor<D>| tensor.into_data().try_to_vec::<f32>().expect("f32");
    let (ours, truth) = (read(ours), read(truth));
    let largest = truth.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
    assert!(largest > 0.0, "{name}: nothing to compare");
    for (i, (a, b)) in ours.iter().zip(&truth).enumerate() {
        assert!((a - b).abs() <= TOLERANCE * largest, "{name}[{i}]: {a} instead of {b}");
    }
}

/// (x, weight, stride)
const CONVOLUTIONS: [([usize; 5], [usize; 5], usize); 6] = [
    ([2, 3, 5, 7, 6], [13, 3, 3, 3, 3], 1),
    ([1, 1, 8, 8, 9], [8, 1, 3, 3, 3], 1),
    ([2, 8, 6, 7, 9], [4, 8, 3, 3, 3], 2),
    ([1, 16, 4, 4, 4], [16, 16, 3, 3, 3], 2),
    ([2, 5, 3, 4, 5], [11, 5, 1, 1, 1], 1),
    ([1, 4, 5, 4, 3], [6, 4, 1, 1, 1], 2),
];

fn theirs(x: Tensor<5>, weight: Tensor<5>, bias: Option<Tensor<1>>, stride: usize) -> Tensor<5> {
    let padding = weight.dims()[2] / 2;
    module::conv3d(x, weight, bias, ConvOptions::new([stride; 3], [padding; 3], [1; 3], 1))
}

fn rule(groups: usize, relu: bool) -> ops::NormRule {
    ops::NormRule { groups, over: ops::Over::Item, relu }
}

/// Group normalisation from elementary operations.
fn plain_norm(x: Tensor<5>, gamma: Tensor<1>, beta: Tensor<1>, groups: usize) -> Tensor<5> {
    let [b, c, d, h, w] = x.dims();
    let x = x.reshape([b, groups, c / groups * d * h * w]);
    let x = x.clone() - x.mean_dim(2);
    let variance = x.clone().square().mean_dim(2);
    let x = (x / (variance + 1e-5).sqrt()).reshape([b, c, d, h, w]);
    x * gamma.reshape([1, c, 1, 1, 1]) + beta.reshape([1, c, 1, 1, 1])
}

/// Blocks of 2x2x2 as a sixth axis: `[b, c, d/2, h/2, w/2, 8]`.
fn blocks(x: Tensor<5>) -> Tensor<6> {
    let [b, c, d, h, w] = x.dims();
    x.reshape([b, c, d / 2, 2, h / 2, 2, w / 2, 2]).permute([0, 1, 2, 4, 6, 3, 5, 7]).reshape([
        b,
        c,
        d / 2,
        h / 2,
        w / 2,
        8,
    ])
}

fn plain_shuffle(x: Tensor<5>) -> Tensor<5> {
    let [b, c, d, h, w] = x.dims();
    blocks(x).permute([0, 1, 5, 2, 3, 4]).reshape([b, 8 * c, d / 2, h / 2, w / 2])
}

fn plain_mean(x: Tensor<5>) -> Tensor<5> {
    blocks(x).mean_dim(5).squeeze_dim(5)
}

fn plain_max(x: Tensor<5>) -> Tensor<5> {
    blocks(x).max_dim(5).squeeze_dim(5)
}

#[test]
fn convolutions_equal_burns() {
    let device = Device::flex();
    for (seed, (x, weight, stride)) in CONVOLUTIONS.into_iter().enumerate() {
        let name = format!("{x:?} * {weight:?} / {stride}");
        let outputs = weight[0];
        let (x, weight) = (noise(x, seed as u64, &device), noise(weight, 50 + seed as u64, &device));
        for bias in [None, Some(noise([outputs], 99, &device))] {
            let ours = ops::conv3d(x.clone(), weight.clone(), bias.clone(), stride);
            let truth = theirs(x.clone(), weight.clone(), bias.clone(), stride);
            check_close(&name, ours, truth.clone());
            check_close(&name, ops::conv3d_relu(x.clone(), weight.clone(), bias, stride), relu(truth));
        }
    }
}

#[test]
fn an_input_that_is_a_view_is_read_in_its_own_order() {
    let device = Device::flex();
    let x = noise([2, 9, 5, 4, 6], 1, &device).slice([0..2, 2..5]).permute([0, 1, 4, 3, 2]);
    let weight = noise([4, 3, 3, 3, 3], 2, &device).flip([2, 4]);
    check_close("view", ops::conv3d(x.clone(), weight.clone(), None, 1), theirs(x, weight, None, 1));
}

#[test]
fn normalisation_pooling_and_shuffles_equal_composed_ones() {
    let device = Device::flex();
    let x = noise([2, 6, 4, 6, 10], 3, &device);
    let (gamma, beta) = (noise([6], 4, &device), noise([6], 5, &device));
    let norm = plain_norm(x.clone(), gamma.clone(), beta.clone(), 3);
    check_close("norm", ops::group_norm(x.clone(), gamma.clone(), beta.clone(), rule(3, false)), norm.clone());
    check_close("norm, ReLU", ops::group_norm(x.clone(), gamma, beta, rule(3, true)), relu(norm.clone()));
    check_close("sum, ReLU", ops::add_relu(x.clone(), norm.clone()), relu(x.clone() + norm));
    check_close("mean", ops::mean_pool2(x.clone()), plain_mean(x.clone()));
    check_close("max", ops::max_pool2(x.clone()), plain_max(x.clone()));
    check_close("shuffle", ops::space_to_depth(x.clone()), plain_shuffle(x.clone()));
    check_close("back", ops::depth_to_space(ops::space_to_depth(x.clone())), x);
}

#[cfg(feature = "train")]
mod gradients {
    use super::*;
    use burn::tensor::Gradients;

    /// Gradients of a scalar in which every output has a weight of its own.
    fn weighted(y: Tensor<5>) -> Gradients {
        let weights = noise(y.dims(), 7, &y.device());
        (y * weights).sum().backward()
    }

    #[test]
    fn gradients_of_convolutions_equal_burns() {
        let device = Device::flex().autodiff();
        for (seed, (x, weight, stride)) in CONVOLUTIONS.into_iter().enumerate() {
            let name = format!("{x:?} * {weight:?} / {stride}");
            let bias = noise([weight[0]], 99, &device).require_grad();
            let x = noise(x, seed as u64, &device).require_grad();
            let weight = noise(weight, 50 + seed as u64, &device).require_grad();
            for cut in [false, true] {
                let (x, weight, bias) = (x.clone(), weight.clone(), bias.clone());
                let ours = if cut { ops::conv3d_relu } else { ops::conv3d };
                let ours = weighted(ours(x.clone(), weight.clone(), Some(bias.clone()), stride));
                let truth = theirs(x.clone(), weight.clone(), Some(bias.clone()), stride);
                let truth = weighted(if cut { relu(truth) } else { truth });
                let name = format!("{name}, ReLU {cut}");
                check_close(&format!("{name} by x"), x.grad(&ours).unwrap(), x.grad(&truth).unwrap());
                check_close(&format!("{name} by weight"), weight.grad(&ours).unwrap(), weight.grad(&truth).unwrap());
                check_close(&format!("{name} by bias"), bias.grad(&ours).unwrap(), bias.grad(&truth).unwrap());
            }
        }
    }

    #[test]
    fn an_image_gets_no_gradient() {
        let device = Device::flex().autodiff();
        let x = noise([1, 2, 4, 4, 4], 1, &device);
        let weight = noise([3, 2, 3, 3, 3], 2, &device).require_grad();
        let grads = weighted(ops::conv3d(x.clone(), weight.clone(), None, 1));
        assert!(weight.grad(&grads).is_some() && x.grad(&grads).is_none());
    }

    type Function = fn(Tensor<5>, Tensor<1>, Tensor<1>) -> Tensor<5>;

    #[test]
    fn gradients_of_the_rest_equal_composed_ones() {
        let pairs: [(&str, Function, Function); 7] = [
            ("norm", |x, g, b| ops::group_norm(x, g, b, rule(4, false)), |x, g, b| plain_norm(x, g, b, 4)),
            ("norm, ReLU", |x, g, b| ops::group_norm(x, g, b, rule(2, true)), |x, g, b| relu(plain_norm(x, g, b, 2))),
            (
                "sum, ReLU",
                |x, g, b| ops::add_relu(x.clone(), plain_norm(x, g, b, 1)),
                |x, g, b| relu(x.clone() + plain_norm(x, g, b, 1)),
            ),
            ("mean", |x, g, b| ops::mean_pool2(plain_norm(x, g, b, 1)), |x, g, b| plain_mean(plain_norm(x, g, b, 1))),
            ("max", |x, g, b| ops::max_pool2(plain_norm(x, g, b, 1)), |x, g, b| plain_max(plain_norm(x, g, b, 1))),
            (
                "space to depth",
                |x, g, b| ops::space_to_depth(plain_norm(x, g, b, 1)),
                |x, g, b| plain_shuffle(plain_norm(x, g, b, 1)),
            ),
            (
                "there and back",
                |x, g, b| ops::depth_to_space(plain_shuffle(plain_norm(x, g, b, 1)).mul_scalar(2.0)),
                |x, g, b| plain_norm(x, g, b, 1).mul_scalar(2.0),
            ),
        ];
        let device = Device::flex().autodiff();
        let x = noise([2, 8, 4, 6, 10], 3, &device).require_grad();
        let gamma = noise([8], 4, &device).require_grad();
        let beta = noise([8], 5, &device).require_grad();
        for (name, ours, truth) in pairs {
            let ours = weighted(ours(x.clone(), gamma.clone(), beta.clone()));
            let truth = weighted(truth(x.clone(), gamma.clone(), beta.clone()));
            check_close(&format!("{name} by x"), x.grad(&ours).unwrap(), x.grad(&truth).unwrap());
            check_close(&format!("{name} by gamma"), gamma.grad(&ours).unwrap(), gamma.grad(&truth).unwrap());
            check_close(&format!("{name} by beta"), beta.grad(&ours).unwrap(), beta.grad(&truth).unwrap());
        }
    }
}
