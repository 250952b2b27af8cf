//! AdamW (Loshchilov & Hutter 2019): on the CPU in three passes over the weights, elsewhere of Burn's operations.

use crate::ops::on_cpu;
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::optim::{AdamWState, AdaptiveMomentumState, LearningRate, Optimizer};
use burn::tensor::{Device, Tensor, TensorData};
use lungai_kernels::AdamStep;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// How slowly the two moments forget, `0..1`.
    pub betas: [f32; 2],
    /// Added to the root of the second moment. Burn's default of 1e-5 outweighs the gradient of a mean over a million
    /// voxels.
    pub epsilon: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Largest L2 norm of one tensor's gradient: what is longer is shortened to it.
    pub clip_norm: f32,
}

impl Default for AdamW {
    /// PyTorch's, without weight decay and clipping.
    fn default() -> Self {
        Self { betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 0.0, clip_norm: f32::INFINITY }
    }
}

impl Optimizer for AdamW {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        weights: Tensor<D>,
        grad: Tensor<D>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        let (time, moments) = match state {
            Some(AdamWState { momentum }) => (momentum.time + 1, [momentum.moment_1, momentum.moment_2]),
            None => (1, [grad.zeros_like(), grad.zeros_like()]),
        };
        let step = AdamStep {
            rate: rate as f32,
            keep: (1.0 - rate * f64::from(self.weight_decay)) as f32,
            // In 64 bits: 1 - 0.999 has three digits left in 32.
            corrections: self.betas.map(|beta| (1.0 - f64::from(beta).powf(time as f64)) as f32),
            epsilon: self.epsilon,
        };
        let [moment_1, moment_2] = moments;
        let (moment_1, moment_2) = self.moments(moment_1, moment_2, self.clipped(grad));
        let weights = moved(weights, moment_1.clone(), moment_2.clone(), step);
        let momentum = AdaptiveMomentumState { time, moment_1, moment_2, max_moment_2: None };
        (weights, Some(AdamWState { momentum }))
    }

    fn to_device<const D: usize>(state: AdamWState<D>, device: &Device) -> AdamWState<D> {
        AdamWState { momentum: state.momentum.to_device(device) }
    }
}

impl AdamW {
    /// Burn's own clipping adds up a large tensor in whatever order its threads come; here every sum has one order, so that
    /// the same gradient is shortened by the same bits.
    fn clipped<const D: usize>(&self, grad: Tensor<D>) -> Tensor<D> {
        if self.clip_norm.is_infinite() {
            return grad;
        }
        let sum = (0..D).rev().fold(grad.clone().square(), |sum, axis| sum.sum_dim(axis));
        let share = (sum.sqrt().clamp_min(f32::MIN_POSITIVE).recip() * self.clip_norm).clamp_max(1.0);
        grad * share
    }

    fn moments<const D: usize>(&self, first: Tensor<D>, second: Tensor<D>, grad: Tensor<D>) -> (Tensor<D>, Tensor<D>) {
        let [beta_1, beta_2] = self.betas;
        if on_cpu(&grad.device()) {
            let after = |moment: Tensor<D>, which| {
                let [moment, grad] = [moment.into_dispatch(), grad.clone().into_dispatch()];
                Tensor::from_dispatch(<Dispatch as AdamOps>::adam_moment(moment, grad, which))
            };
            return (after(first, Moment::First(beta_1)), after(second, Moment::Second(beta_2)));
        }
        let first = first * beta_1 + grad.clone() * (1.0 - beta_1);
        (first, second * beta_2 + grad.square() * (1.0 - beta_2))
    }
}

fn moved<const D: usize>(weights: Tensor<D>, first: Tensor<D>, second: Tensor<D>, step: AdamStep) -> Tensor<D> {
    if on_cpu(&weights.device()) {
        let [weights, first, second] = [weights.into_dispatch(), first.into_dispatch(), second.into_dispatch()];
        return Tensor::from_dispatch(<Dispatch as AdamOps>::adam_weights(weights, first, second, step));
    }
    let [a, b] = step.corrections;
    weights * step.keep - first / a / ((second / b).sqrt() + step.epsilon) * step.rate
}

/// Which moment, and its beta.
#[derive(Clone, Copy, Debug)]
enum Moment {
    First(f32),
    Second(f32),
}

#[backend_extension(Flex)]
trait AdamOps: Backend {
    fn adam_moment(moment: FloatTensor<Self>, grad: FloatTensor<Self>, which: Moment) -> FloatTensor<Self>;
    fn adam_weights(
        weights: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        step: AdamStep,
    ) -> FloatTensor<Self>;
}

impl AdamOps for Flex {
    fn adam_moment(moment: FlexTensor, grad: FlexTensor, which: Moment) -> FlexTensor {
        let (moment, grad) = (moment.to_contiguous(), grad.to_contiguous());
        let values = match which {
            Moment::First(beta) => lungai_kernels::adam_moment_1(moment.storage(), grad.storage(), beta),
            Moment::Second(beta) => lungai_kernels::adam_moment_2(moment.storage(), grad.storage(), beta),
        };
        FlexTensor::from_data(TensorData::new(values, moment.shape()))
    }

    fn adam_weights(weights: FlexTensor, first: FlexTensor, second: FlexTensor, step: AdamStep) -> FlexTensor {
        let [weights, first, second] = [weights, first, second].map(|tensor| tensor.to_contiguous());
        let values = lungai_kernels::adam_weights(weights.storage(), first.storage(), second.storage(), step);
        FlexTensor::from_data(TensorData::new(values, weights.shape()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::optim::AdamWConfig;

    #[test]
    fn it_takes_the_steps_of_burn_s_own() {
        let device = Device::flex();
        let burns = AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(0.01).build();
        let ours = AdamW { weight_decay: 0.01, ..AdamW::default() };
        let start = Tensor::<2>::from_floats([[0.5, -1.0, 2.0], [0.1, 0.0, -3.0]], &device);
        let (mut a, mut b) = ((start.clone(), None), (start, None));
        for i in 0..5 {
            let grad =
                Tensor::<2>::from_floats([[1.0, -0.3, 1e-4], [0.0, 2.0, -5.0]], &device) * (1.0 - 0.4 * i as f32);
            a = burns.step(0.01, a.0, grad.clone(), a.1);
            b = ours.step(0.01, b.0, grad, b.1);
        }
        let off: f32 = (a.0 - b.0).abs().max().into_scalar();
        assert!(off < 1e-6, "{off}");
    }

    #[test]
    fn a_long_gradient_is_shortened_to_the_limit_with_the_same_bits_each_time() {
        let device = Device::flex();
        let clip = AdamW { clip_norm: 2.0, ..AdamW::default() };
        // More values than Burn adds up in one thread.
        let ramp = Tensor::<1, burn::tensor::Int>::arange(0..5_000_000, &device).float() % 1.7 - 0.8;
        let grad = ramp.reshape([5000, 10, 100]);
        let bits = || clip.clipped(grad.clone()).into_data();
        let first = bits();
        let norm = first.iter::<f64>().map(|v| v * v).sum::<f64>().sqrt();
        assert!((norm - 2.0).abs() < 1e-5, "{norm}");
        assert!((0..5).all(|_| bits() == first));
        let short = Tensor::<2>::from_floats([[0.3, -0.4]], &device);
        assert_eq!(clip.clipped(short.clone()).into_data(), short.into_data());
        let none = Tensor::<2>::zeros([2, 2], &device);
        assert_eq!(clip.clipped(none.clone()).into_data(), none.into_data());
    }
}
