//! Tensor operations of the networks.

use burn::tensor::{Tensor, module, ops::ConvOptions};

/// Convolution, kernel 3 (padding 1) or 1.
pub fn conv3d(x: Tensor<5>, weight: Tensor<5>, bias: Option<Tensor<1>>, stride: usize) -> Tensor<5> {
    let pad = weight.dims()[2] / 2;
    module::conv3d(x, weight, bias, ConvOptions::new([stride; 3], [pad; 3], [1; 3], 1))
}
/// Group normalisation.
pub fn group_norm(x: Tensor<5>, gamma: Tensor<1>, beta: Tensor<1>, groups: usize) -> Tensor<5> {
    let [b, c, d, h, w] = x.dims();
    let x = x.reshape([b, groups, c / groups * d * h * w]);
    let x = x.clone() - x.mean_dim(2);
    let var = x.clone().square().mean_dim(2);
    let x = (x / (var + 1e-5).sqrt()).reshape([b, c, d, h, w]);
    x * gamma.reshape([1, c, 1, 1, 1]) + beta.reshape([1, c, 1, 1, 1])
}
/// `[b, c, d, h, w]` to `[b, 8c, d/2, h/2, w/2]`.
pub fn space_to_depth(x: Tensor<5>) -> Tensor<5> {
    let [b, c, d, h, w] = x.dims();
    x.reshape([b, c, d / 2, 2, h / 2, 2, w / 2, 2]).permute([0, 1, 3, 5, 7, 2, 4, 6]).reshape([
        b,
        8 * c,
        d / 2,
        h / 2,
        w / 2,
    ])
}
/// `[b, 8c, d, h, w]` to `[b, c, 2d, 2h, 2w]`.
pub fn depth_to_space(x: Tensor<5>) -> Tensor<5> {
    let [b, c, d, h, w] = x.dims();
    x.reshape([b, c / 8, 2, 2, 2, d, h, w]).permute([0, 1, 5, 2, 6, 3, 7, 4]).reshape([b, c / 8, 2 * d, 2 * h, 2 * w])
}
/// Mean over blocks of 2x2x2.
pub fn mean_pool2(x: Tensor<5>) -> Tensor<5> {
    let [b, c, d, h, w] = x.dims();
    space_to_depth(x).reshape([b, c, 8, d / 2 * h / 2 * w / 2]).mean_dim(2).reshape([b, c, d / 2, h / 2, w / 2])
}
/// Maximum over blocks of 2x2x2.
pub fn max_pool2(x: Tensor<5>) -> Tensor<5> {
    let [b, c, d, h, w] = x.dims();
    space_to_depth(x).reshape([b, c, 8, d / 2 * h / 2 * w / 2]).max_dim(2).reshape([b, c, d / 2, h / 2, w / 2])
}
