//! The steps of AdamW (Loshchilov & Hutter 2019). Composed of elementary operations it goes over the weights some twenty
//! times; with tens of millions of them that is a tenth of a training step.

use crate::simd::widest;
use rayon::prelude::*;

/// Values a task takes.
const CHUNK: usize = 1 << 15;

/// What the last step needs besides weights and moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Learning rate.
    pub rate: f32,
    /// What the weights are multiplied with first: one less learning rate times weight decay.
    pub keep: f32,
    /// What the moments are divided by, as they began with zero: `1 - beta^time`.
    pub corrections: [f32; 2],
    /// Added to the root of the second moment.
    pub epsilon: f32,
}

/// The first moment moved on: `beta * moment + (1 - beta) * grad`.
///
/// # Panics
/// Where the lengths differ. So do the others.
pub fn adam_moment_1(moment: &[f32], grad: &[f32], beta: f32) -> Vec<f32> {
    each([moment, grad, grad], |moment, grad, _| moment * beta + grad * (1.0 - beta))
}

/// The second moment moved on: `beta * moment + (1 - beta) * grad^2`.
pub fn adam_moment_2(moment: &[f32], grad: &[f32], beta: f32) -> Vec<f32> {
    each([moment, grad, grad], |moment, grad, _| moment * beta + grad * grad * (1.0 - beta))
}

/// The weights after a step by these moments.
pub fn adam_weights(weights: &[f32], moment_1: &[f32], moment_2: &[f32], step: AdamStep) -> Vec<f32> {
    let AdamStep { rate, keep, corrections: [first, second], epsilon } = step;
    each([weights, moment_1, moment_2], |weight, mean, square| {
        weight * keep - mean / first / ((square / second).sqrt() + epsilon) * rate
    })
}

fn each([a, b, c]: [&[f32]; 3], value: impl Fn(f32, f32, f32) -> f32 + Sync) -> Vec<f32> {
    assert!(a.len() == b.len() && a.len() == c.len(), "values that are taken together");
    let mut out = Vec::with_capacity(a.len());
    out.spare_capacity_mut()[..a.len()]
        .par_chunks_mut(CHUNK)
        .zip(a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK)).zip(c.par_chunks(CHUNK)))
        .for_each(|(out, ((a, b), c))| {
            widest(
                #[inline(always)]
                || {
                    for (((out, a), b), c) in out.iter_mut().zip(a).zip(b).zip(c) {
                        out.write(value(*a, *b, *c));
                    }
                },
            );
        });
    // SAFETY: the chunks tile the output and each value of each chunk was written: all four have the same length.
    unsafe { out.set_len(a.len()) };
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_of_adam_is_the_learning_rate_against_the_gradient_s_sign() {
        let grad = [0.25, -3.0];
        let (m, v) = (adam_moment_1(&[0.0; 2], &grad, 0.9), adam_moment_2(&[0.0; 2], &grad, 0.999));
        assert!((m[0] - 0.025).abs() < 1e-7 && (v[1] - 0.009).abs() < 1e-6, "{m:?} {v:?}");
        let step = AdamStep { rate: 0.1, keep: 0.99, corrections: [0.1, 0.001], epsilon: 0.0 };
        let weights = adam_weights(&[1.0, 1.0], &m, &v, step);
        assert!((weights[0] - 0.89).abs() < 1e-4 && (weights[1] - 1.09).abs() < 1e-4, "{weights:?}");
    }
}
