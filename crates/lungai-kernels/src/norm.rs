//! Group normalisation (Wu & He 2018) and its relatives, with the ReLU that usually follows, and its gradients. One group a
//! channel is instance normalisation (Ulyanov et al. 2016); that over the whole batch is batch normalisation (Ioffe &
//! Szegedy 2015).
//!
//! Memory is the limit here: two passes forward, two backward, instead of one for each elementary operation.
use crate::simd::widest;
use crate::sums;
use rayon::prelude::*;

/// Added to the variance, as everywhere (PyTorch's default).
const EPSILON: f64 = 1e-5;

/// What is normalised. Tensors are `[batch, channels, volume]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormShape {
    /// Batch items.
    pub batch: usize,
    /// Channels, a multiple of `groups`.
    pub channels: usize,
    /// Voxels per channel, at least 1.
    pub volume: usize,
    /// Groups of consecutive channels with a common mean and variance.
    pub groups: usize,
    /// What else shares them.
    pub over: Over,
    /// Cut the result off below zero.
    pub relu: bool,
}

/// Which batch items share a mean and a variance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Each item has its own: its result does not depend on what it is batched with.
    Item,
    /// The whole batch has one.
    Batch,
}

/// Gradients by the three arguments of [`group_norm`], in their shapes.
#[derive(Clone, Debug, PartialEq)]
pub struct NormGradients {
    /// By the input.
    pub x: Vec<f32>,
    /// By the factors.
    pub gamma: Vec<f32>,
    /// By the offsets.
    pub beta: Vec<f32>,
}

/// `(x - mean) / sqrt(variance + 1e-5) * gamma + beta` with mean and variance over each group of each batch item, or of the
/// whole batch; then ReLU where the shape says so.
///
/// - x: `[batch, channels, volume]`; gamma, beta: `[channels]`; output as x
///
/// # Panics
/// Where a length does not fit the shape. So does the gradient.
pub fn group_norm(shape: &NormShape, x: &[f32], gamma: &[f32], beta: &[f32]) -> Vec<f32> {
    shape.check(x, gamma, beta);
    let groups = shape.moments(x);
    let mut out = Vec::with_capacity(x.len());
    // Whole channels, so that threads write long runs.
    x.par_chunks_exact(shape.volume)
        .zip(out.spare_capacity_mut()[..x.len()].par_chunks_exact_mut(shape.volume))
        .enumerate()
        .for_each(|(plane, (x, out))| {
            let line = Line::new(shape, &groups[shape.group_of(plane)], gamma, beta, plane % shape.channels);
            widest(
                #[inline(always)]
                move || {
                    for (out, x) in out.iter_mut().zip(x) {
                        out.write(line.at(*x));
                    }
                },
            );
        });
    // SAFETY: the planes tile the output and each value of each plane was written.
    unsafe { out.set_len(x.len()) };
    out
}

/// Gradients of [`group_norm`].
///
/// - x, gamma, beta: as in the forward pass; grad: by the output, in its shape
pub fn group_norm_grad(shape: &NormShape, x: &[f32], gamma: &[f32], beta: &[f32], grad: &[f32]) -> NormGradients {
    shape.check(x, gamma, beta);
    assert_eq!(grad.len(), x.len(), "the output gradient of {shape:?}");
    let groups = shape.moments(x);
    let per_plane: Vec<[f64; 2]> = x
        .par_chunks_exact(shape.volume)
        .zip(grad.par_chunks_exact(shape.volume))
        .enumerate()
        .map(|(plane, (x, grad))| {
            let group = &groups[shape.group_of(plane)];
            let line = Line::new(shape, group, gamma, beta, plane % shape.channels);
            let mean = group.mean as f32;
            // Sums of the gradient and of its product with the normalised value.
            let [plain, centred] = widest(
                #[inline(always)]
                move || sums::pairs(x, grad, |x, grad| line.back(x, grad), |x| x - mean),
            );
            [plain, centred * group.inverse_sd]
        })
        .collect();

    let mut gradients = NormGradients {
        x: Vec::with_capacity(x.len()),
        gamma: vec![0.0; shape.channels],
        beta: vec![0.0; shape.channels],
    };
    let total = |channel: usize, which: usize| {
        (0..shape.batch).map(|n| per_plane[n * shape.channels + channel][which]).sum::<f64>() as f32
    };
    for channel in 0..shape.channels {
        gradients.beta[channel] = total(channel, 0);
        gradients.gamma[channel] = total(channel, 1);
    }
    x.par_chunks_exact(shape.volume)
        .zip(grad.par_chunks_exact(shape.volume))
        .zip(gradients.x.spare_capacity_mut()[..x.len()].par_chunks_exact_mut(shape.volume))
        .enumerate()
        .for_each(|(plane, ((x, grad), out))| {
            let index = shape.group_of(plane);
            let group = &groups[index];
            let line = Line::new(shape, group, gamma, beta, plane % shape.channels);
            // The mean and the variance depend on every x of the group: two more terms, the same for all of it.
            let mean_over_group = |which: usize| {
                let members = shape.members(index);
                let count = members.clone().count() * shape.volume;
                members.map(|plane| per_plane[plane][which] * f64::from(gamma[plane % shape.channels])).sum::<f64>()
                    / count as f64
            };
            let constant = (-mean_over_group(0) * group.inverse_sd) as f32;
            let slope = (-mean_over_group(1) * group.inverse_sd * group.inverse_sd) as f32;
            let mean = group.mean as f32;
            widest(
                #[inline(always)]
                move || {
                    for ((out, x), grad) in out.iter_mut().zip(x).zip(grad) {
                        out.write(line.back(*x, *grad) * line.scale + constant + slope * (x - mean));
                    }
                },
            );
        });
    // SAFETY: the planes tile the output and each value of each plane was written.
    unsafe { gradients.x.set_len(x.len()) };
    gradients
}

impl NormShape {
    /// Channels per group.
    fn group(&self) -> usize {
        self.channels / self.groups
    }

    /// The group that a plane, one channel of one batch item, belongs to.
    fn group_of(&self, plane: usize) -> usize {
        match self.over {
            Over::Item => plane / self.group(),
            Over::Batch => plane % self.channels / self.group(),
        }
    }

    /// The planes of a group, ascending.
    fn members(&self, group: usize) -> impl Iterator<Item = usize> + Clone {
        let (width, channels) = (self.group(), self.channels);
        let items = if self.over == Over::Item { 1 } else { self.batch };
        (0..items).flat_map(move |item| (0..width).map(move |i| item * channels + group * width + i))
    }

    fn check(&self, x: &[f32], gamma: &[f32], beta: &[f32]) {
        assert!(self.groups > 0 && self.channels.is_multiple_of(self.groups) && self.volume > 0, "{self:?}");
        assert_eq!(x.len(), self.batch * self.channels * self.volume, "the input of {self:?}");
        assert!(gamma.len() == self.channels && beta.len() == self.channels, "gamma and beta of {self:?}");
    }

    /// One per group; by batch item first where each has its own.
    fn moments(&self, x: &[f32]) -> Vec<Group> {
        let planes: Vec<Moments> = x
            .par_chunks_exact(self.volume)
            .map(|plane| {
                widest(
                    #[inline(always)]
                    || Moments::of(plane),
                )
            })
            .collect();
        let count = if self.over == Over::Item { self.batch * self.groups } else { self.groups };
        (0..count)
            .map(|group| {
                let all = self.members(group).map(|plane| planes[plane]).reduce(Moments::and).expect("a batch");
                Group { mean: all.mean, inverse_sd: (all.squares / all.count + EPSILON).sqrt().recip() }
            })
            .collect()
    }
}

struct Group {
    mean: f64,
    inverse_sd: f64,
}

/// The straight line that normalisation is for one channel, and where it is cut off. A copy of it goes into each loop:
/// behind a reference it would be read again for every voxel, and the loop would not vectorise.
#[derive(Clone, Copy)]
struct Line {
    scale: f32,
    shift: f32,
    floor: f32,
}

impl Line {
    fn new(shape: &NormShape, group: &Group, gamma: &[f32], beta: &[f32], channel: usize) -> Self {
        let scale = f64::from(gamma[channel]) * group.inverse_sd;
        Self {
            scale: scale as f32,
            shift: (f64::from(beta[channel]) - group.mean * scale) as f32,
            floor: if shape.relu { 0.0 } else { f32::NEG_INFINITY },
        }
    }

    /// Unlike `f32::max` it keeps what is not a number.
    #[inline(always)]
    fn at(self, x: f32) -> f32 {
        let y = x * self.scale + self.shift;
        if y <= self.floor { self.floor } else { y }
    }

    /// The output's gradient as far as it passes.
    #[inline(always)]
    fn back(self, x: f32, grad: f32) -> f32 {
        if x * self.scale + self.shift <= self.floor { 0.0 } else { grad }
    }
}

/// Count, mean and sum of squared deviations.
#[derive(Clone, Copy)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// Two passes over each block while it is in the L1 cache, blocks merged in order: one trip to memory, and no
    /// cancellation where the mean is large.
    #[inline(always)]
    fn of(values: &[f32]) -> Self {
        let mut all = Self { count: 0.0, mean: 0.0, squares: 0.0 };
        for block in values.chunks(sums::BLOCK) {
            let count = block.len() as f64;
            let mean = sums::plain(block, |value| value) / count;
            let near = mean as f32;
            let squares = sums::plain(block, |value| (value - near) * (value - near));
            all = all.and(Self { count, mean, squares });
        }
        all
    }

    /// Chan, Golub & LeVeque 1979.
    #[inline(always)]
    fn and(self, other: Self) -> Self {
        let count = self.count + other.count;
        let gap = other.mean - self.mean;
        Self {
            count,
            mean: self.mean + gap * other.count / count,
            squares: self.squares + other.squares + gap * gap * self.count * other.count / count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prelude::*, test_runner::RngSeed};

    /// The definition in `f64`.
    fn truth(s: &NormShape, x: &[f64], gamma: &[f64], beta: &[f64]) -> Vec<f64> {
        let together = |i: usize, j: usize| {
            let (of, channel) = (|i: usize| i / s.volume / s.channels, |i: usize| i / s.volume % s.channels);
            let same = |i: usize| channel(i) / (s.channels / s.groups);
            same(i) == same(j) && (s.over == Over::Batch || of(i) == of(j))
        };
        let value = |i: usize| {
            let group: Vec<f64> = (0..x.len()).filter(|j| together(i, *j)).map(|j| x[j]).collect();
            let mean = group.iter().sum::<f64>() / group.len() as f64;
            let variance = group.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / group.len() as f64;
            let c = i / s.volume % s.channels;
            let y = (x[i] - mean) / (variance + 1e-5).sqrt() * gamma[c] + beta[c];
            if s.relu { y.max(0.0) } else { y }
        };
        (0..x.len()).map(value).collect()
    }

    fn wide(values: &[f32]) -> Vec<f64> {
        values.iter().map(|&v| f64::from(v)).collect()
    }

    fn check(s: NormShape, x: &[f32], gamma: &[f32], beta: &[f32], grad: &[f32]) {
        let y = group_norm(&s, x, gamma, beta);
        for (a, b) in y.iter().zip(truth(&s, &wide(x), &wide(gamma), &wide(beta))) {
            assert!((f64::from(*a) - b).abs() < 2e-5 * (1.0 + b.abs()), "{s:?}: {a} instead of {b}");
        }
        // Central differences of the definition, along every axis. The corner of the ReLU is avoided.
        let ours = group_norm_grad(&s, x, gamma, beta, grad);
        let mut arguments = [wide(x), wide(gamma), wide(beta)];
        for (which, ours) in [&ours.x, &ours.gamma, &ours.beta].into_iter().enumerate() {
            for i in 0..ours.len() {
                let at = arguments[which][i];
                let mut value = |step: f64| {
                    arguments[which][i] = at + step;
                    let y = truth(&s, &arguments[0], &arguments[1], &arguments[2]);
                    arguments[which][i] = at;
                    y
                };
                let (down, middle, up) = (value(-1e-5), value(0.0), value(1e-5));
                if s.relu
                    && (0..y.len()).any(|j| (down[j] > 0.0) != (up[j] > 0.0) || middle[j].abs() < 1e-6 && up[j] > 0.0)
                {
                    continue;
                }
                let slope: f64 = up.iter().zip(&down).zip(grad).map(|((u, d), g)| (u - d) / 2e-5 * f64::from(*g)).sum();
                let scale = 1.0 + slope.abs();
                assert!(
                    (f64::from(ours[i]) - slope).abs() < 5e-4 * scale,
                    "{s:?} {which}[{i}]: {} instead of {slope}",
                    ours[i]
                );
            }
        }
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| group_norm_grad(&s, x, gamma, beta, grad)), ours);
        }
    }

    #[test]
    fn two_values_become_plus_and_minus_one() {
        let shape = NormShape { batch: 1, channels: 1, volume: 2, groups: 1, over: Over::Item, relu: false };
        let y = group_norm(&shape, &[1000.0, 1004.0], &[1.0], &[0.0]);
        assert!((y[0] + 1.0).abs() < 1e-4 && (y[1] - 1.0).abs() < 1e-4, "{y:?}");
        let cut = group_norm(&NormShape { relu: true, ..shape }, &[1000.0, 1004.0], &[2.0], &[0.5]);
        assert!(cut[0] == 0.0 && (cut[1] - 2.5).abs() < 2e-4, "{cut:?}");
    }

    #[test]
    fn over_the_batch_items_share_mean_and_variance() {
        let shape = NormShape { batch: 2, channels: 1, volume: 1, groups: 1, over: Over::Batch, relu: false };
        let y = group_norm(&shape, &[3.0, 7.0], &[1.0], &[0.0]);
        assert!((y[0] + 1.0).abs() < 1e-4 && (y[1] - 1.0).abs() < 1e-4, "{y:?}");
    }

    #[test]
    fn a_diverged_network_stays_visible_behind_the_relu() {
        let shape = NormShape { batch: 1, channels: 1, volume: 2, groups: 1, over: Over::Item, relu: true };
        assert!(group_norm(&shape, &[f32::NAN, 1.0], &[1.0], &[0.0]).iter().all(|y| y.is_nan()));
    }

    #[test]
    fn the_variance_survives_a_mean_a_thousand_times_larger() {
        let shape = NormShape { batch: 1, channels: 2, volume: 10_000, groups: 1, over: Over::Item, relu: false };
        let x: Vec<f32> = (0..20_000).map(|i| 1000.0 + if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let y = group_norm(&shape, &x, &[1.0; 2], &[0.0; 2]);
        assert!(y.iter().all(|y| (y.abs() - 1.0).abs() < 1e-3), "{:?}", &y[..2]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]
        #[test]
        fn values_and_gradients_agree_with_the_definition(
            batch in 1..3_usize, per_group in 1..4_usize, groups in 1..3_usize, volume in 2..16_usize, relu: bool,
            over in prop_oneof![Just(Over::Item), Just(Over::Batch)],
            noise in prop::collection::vec(-2.0..2.0_f32, 2 * 2 * 6 * 16 + 12),
        ) {
            let shape = NormShape { batch, channels: per_group * groups, volume, groups, over, relu };
            let len = batch * shape.channels * volume;
            let (x, rest) = noise.split_at(len);
            let (grad, rest) = rest.split_at(len);
            let (gamma, rest) = rest.split_at(shape.channels);
            check(shape, x, gamma, &rest[..shape.channels], grad);
        }
    }
}
