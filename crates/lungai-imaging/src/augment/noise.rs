//! Noise of a stated standard deviation with the texture of a reconstruction kernel.
//!
//! White noise is a hash of the voxel's place, so that neither order nor threads matter. A kernel filters it within the
//! slice by a difference of Gaussians, as the phantom's scanners do: the ramp filter of back-projection leaves little slow
//! noise, its apodisation little fast noise. With frequency `f` in cycles per mm the amplitude is that of
//! `exp(-2 (pi f n)^2) - c exp(-2 (pi f 2.5 n)^2)`, where `n` is 0.75, 0.5 or 0.3 mm and `c` 0.6, 0.7 or 0.8 for a soft, standard
//! or sharp kernel; it peaks near `0.12 / n`.

use super::chance::hash;
use super::config::NoiseKernel;
use super::fastmath::{cos_sin_turns, log2};
use super::filters::PlaneFilter;
use std::f32::consts::LN_2;

/// Noise for the slices of one patch.
pub(super) struct Noise {
    seed: u64,
    /// Rows, columns.
    size: [usize; 2],
    sd_hu: f32,
    texture: Option<Texture>,
}

struct Texture {
    narrow: PlaneFilter,
    wide: PlaneFilter,
    cut: f32,
    /// Makes the standard deviation 1.
    gain: f32,
    /// Rows, columns of white noise needed on each side, so that the patch's border has the same noise as its middle.
    margin: [usize; 2],
}

/// Space for one thread's work.
#[derive(Default)]
pub(super) struct Scratch {
    white: Vec<f32>,
    narrow: Vec<f32>,
    wide: Vec<f32>,
    line: Vec<f32>,
}

impl Noise {
    /// - `size`: rows and columns of a slice
    /// - `pixel_mm`: `[y, x]`
    pub fn new(kernel: NoiseKernel, sd_hu: f64, seed: u64, size: [usize; 2], pixel_mm: [f64; 2]) -> Self {
        let shape = match kernel {
            NoiseKernel::White => None,
            NoiseKernel::Soft => Some((0.75, 0.6)),
            NoiseKernel::Standard => Some((0.5, 0.7)),
            NoiseKernel::Sharp => Some((0.3, 0.8)),
        };
        let texture = shape.map(|(narrow_mm, cut)| {
            let narrow = PlaneFilter::gaussian(narrow_mm, pixel_mm);
            let wide = PlaneFilter::gaussian(2.5 * narrow_mm, pixel_mm);
            let power = narrow.overlap(&narrow) - 2.0 * cut * narrow.overlap(&wide) + cut * cut * wide.overlap(&wide);
            let margin = wide.reach();
            Texture { narrow, wide, cut: cut as f32, gain: power.sqrt().recip() as f32, margin }
        });
        Self { seed, size, sd_hu: sd_hu as f32, texture }
    }

    /// Adds slice `z`'s noise.
    pub fn add(&self, z: usize, slice: &mut [f32], scratch: &mut Scratch) {
        let [rows, columns] = self.size;
        let key = hash(self.seed, z as u64);
        let Some(texture) = &self.texture else {
            scratch.white.resize(columns, 0.0);
            for (y, row) in slice.chunks_exact_mut(columns).enumerate() {
                white(hash(key, y as u64), &mut scratch.white);
                row.iter_mut().zip(&scratch.white).for_each(|(v, noise)| *v += self.sd_hu * noise);
            }
            return;
        };
        let [above, left] = texture.margin;
        let width = columns + 2 * left;
        let Scratch { white: noise, narrow, wide, line } = scratch;
        for plane in [&mut *noise, &mut *narrow, &mut *wide] {
            plane.resize(width * (rows + 2 * above), 0.0);
        }
        for (y, row) in noise.chunks_exact_mut(width).enumerate() {
            white(hash(key, y as u64), row);
        }
        texture.narrow.apply(noise, width, narrow, line);
        texture.wide.apply(noise, width, wide, line);
        let gain = self.sd_hu * texture.gain;
        for (y, row) in slice.chunks_exact_mut(columns).enumerate() {
            let from = (y + above) * width + left;
            for ((v, narrow), wide) in row.iter_mut().zip(&narrow[from..]).zip(&wide[from..]) {
                *v += gain * (narrow - texture.cut * wide);
            }
        }
    }
}

/// Pairs of numbers worked on together.
const BUNCH: usize = 16;

/// Standard normal numbers by Box and Muller (1958): cosines in the first half of the row, sines in the second.
fn white(key: u64, row: &mut [f32]) {
    let half = row.len().div_ceil(2);
    let (cosines, sines) = row.split_at_mut(half);
    let mut first = 0u32;
    for (bunch, cosines) in cosines.chunks_mut(BUNCH).enumerate() {
        let (cos, sin) = pairs(key, first);
        cosines.copy_from_slice(&cos[..cosines.len()]);
        // An odd row has one sine less.
        let (from, n) = (bunch * BUNCH, sines.len());
        let sines = &mut sines[from.min(n)..(from + BUNCH).min(n)];
        sines.copy_from_slice(&sin[..sines.len()]);
        first = first.wrapping_add(BUNCH as u32);
    }
}

/// The pairs from `first` on.
#[inline(always)]
fn pairs(key: u64, first: u32) -> ([f32; BUNCH], [f32; BUNCH]) {
    let (one, other) = (key as u32, (key >> 32) as u32);
    let (mut cosines, mut sines) = ([0f32; BUNCH], [0f32; BUNCH]);
    for k in 0..BUNCH {
        let a = scramble(first.wrapping_add(k as u32).wrapping_mul(0x9E37_79B9).wrapping_add(one));
        let b = scramble(a.wrapping_add(other));
        // In 2^-24..=1 and 0..1. Conversions of signed numbers are the fast ones.
        let u = ((a >> 8) as i32 as f32 + 1.0) * (1.0 / 16_777_216.0);
        let turns = (b >> 8) as i32 as f32 * (1.0 / 16_777_216.0);
        let square = -2.0 * LN_2 * log2(u);
        let radius = if square > 0.0 { square } else { 0.0 }.sqrt();
        let (cos, sin) = cos_sin_turns(turns);
        cosines[k] = radius * cos;
        sines[k] = radius * sin;
    }
    (cosines, sines)
}

/// C. Wellons' `lowbias32`: every bit of the input changes half of the output's.
#[inline(always)]
fn scramble(mut x: u32) -> u32 {
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    fn slices(kernel: NoiseKernel, n: usize) -> Vec<f32> {
        let noise = Noise::new(kernel, 20.0, 7, [64, 65], [0.7, 0.7]);
        let mut out = vec![0.0; n * 64 * 65];
        let mut scratch = Scratch::default();
        for (z, slice) in out.chunks_exact_mut(64 * 65).enumerate() {
            noise.add(z, slice, &mut scratch);
        }
        out
    }

    #[verifies("FR-002")]
    #[test]
    fn noise_has_mean_0_and_the_stated_standard_deviation() {
        for kernel in [NoiseKernel::White, NoiseKernel::Soft, NoiseKernel::Standard, NoiseKernel::Sharp] {
            let values = slices(kernel, 40);
            let n = values.len() as f64;
            let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
            let sd = (values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt();
            assert!(mean.abs() < 0.3 && (sd / 20.0 - 1.0).abs() < 0.01, "{kernel:?}: mean {mean}, SD {sd}");
        }
    }

    #[test]
    fn white_noise_is_normal_and_uncorrelated() {
        let values = slices(NoiseKernel::White, 40);
        let share = |z: f32| values.iter().filter(|v| v.abs() < z * 20.0).count() as f64 / values.len() as f64;
        // The normal distribution within 1, 2 and 3 standard deviations.
        for (z, want) in [(1.0, 0.6827), (2.0, 0.9545), (3.0, 0.9973)] {
            assert!((share(z) - want).abs() < 0.004, "{z}: {}", share(z));
        }
        // Next column, next row, next slice, and the other half of the row, where a pair's sine is.
        for lag in [1, 65, 64 * 65, 33] {
            let n = (values.len() - lag) as f64;
            let r = values.iter().zip(&values[lag..]).map(|(a, b)| f64::from(a * b)).sum::<f64>() / n / 400.0;
            assert!(r.abs() < 0.01, "lag {lag}: {r}");
        }
    }

    /// Mean power at `cycles` per 64 rows and none along x; white noise has 1.
    fn power(values: &[f32], cycles: &[f64]) -> f64 {
        let mut sum = 0.0;
        for slice in values.chunks_exact(64 * 65) {
            for cycles in cycles {
                let (mut re, mut im) = (0.0, 0.0);
                for (y, row) in slice.chunks_exact(65).enumerate() {
                    let (s, c) = (std::f64::consts::TAU * cycles * y as f64 / 64.0).sin_cos();
                    let row: f64 = row.iter().map(|v| f64::from(*v)).sum();
                    re += c * row;
                    im += s * row;
                }
                sum += re * re + im * im;
            }
        }
        sum / (values.len() as f64 * cycles.len() as f64 * 400.0)
    }

    #[verifies("FR-002")]
    #[test]
    fn a_soft_kernel_leaves_less_fast_noise_than_a_sharp_one() {
        let all = [NoiseKernel::White, NoiseKernel::Soft, NoiseKernel::Standard, NoiseKernel::Sharp];
        let [white, soft, standard, sharp] = all.map(|kernel| slices(kernel, 60));
        // 64 rows of 0.7 mm: 27 to 29 cycles are 0.6 to 0.65 per mm.
        let fast = [&soft, &standard, &sharp].map(|v| power(v, &[27.0, 28.0, 29.0]));
        assert!(fast[0] < 0.2 * fast[1] && fast[1] < 0.5 * fast[2], "{fast:?}");
        // White noise has the same power everywhere; 180 periodograms have a standard error of 7 %.
        for cycles in [[1.0, 2.0, 3.0], [12.0, 13.0, 14.0], [27.0, 28.0, 29.0]] {
            assert!((power(&white, &cycles) - 1.0).abs() < 0.25);
        }
        // The soft kernel's documented spectrum: 0.42^2 at 0.022 to 0.045 per mm, 0.65^2 at 0.134 to 0.18 per mm.
        let ratio = power(&soft, &[6.0, 7.0, 8.0]) / power(&soft, &[1.0, 2.0]);
        let documented = |f: f64| {
            let gauss = |mm: f64| (-2.0 * (std::f64::consts::PI * f * mm).powi(2)).exp();
            (gauss(0.75) - 0.6 * gauss(2.5 * 0.75)).powi(2)
        };
        let mean =
            |cycles: &[f64]| cycles.iter().map(|c| documented(c / (64.0 * 0.7))).sum::<f64>() / cycles.len() as f64;
        let want = mean(&[6.0, 7.0, 8.0]) / mean(&[1.0, 2.0]);
        assert!(want > 2.0 && (ratio / want - 1.0).abs() < 0.35, "{ratio} is not {want}");
    }
}
