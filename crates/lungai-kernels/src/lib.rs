//! CPU kernels of the 3D networks: convolution, group normalisation, pooling, residual sums and sub-pixel shuffles, each with its
//! gradients. Tensors are dense `f32` slices in the order `[batch, channel, depth, height, width]`.
//!
//! What holds everywhere:
//! * **Same bits for any number of threads.** Work is cut by shape alone, and every sum has one fixed order. Bits may
//!   differ between processors with other vector units.
//! * The widest vector unit of the processor is chosen at run time; a portable path is always there.
//! * Lengths are asserted at the door; only the register tiles and their disjoint stores are `unsafe`.
//!
//! The crate knows no tensor library and no autodiff: `lungai-models` binds it to Burn.

mod adam;
mod canvas;
mod conv;
mod norm;
mod pool;
mod residual;
mod shuffle;
mod simd;
mod sums;
mod taps;

pub use adam::{AdamStep, adam_moment_1, adam_moment_2, adam_weights};
pub use conv::{ConvShape, channel_sums, conv3d, conv3d_grad_weight, conv3d_grad_x};
pub use norm::{NormGradients, NormShape, Over, group_norm, group_norm_grad};
pub use pool::{max_pool3d, max_pool3d_grad, mean_pool3d, mean_pool3d_grad};
pub use residual::{add_relu, add_relu_grad};
pub use shuffle::{depth_to_space, space_to_depth};
