//! One drawn transform, carried through a patch, its masks, points and lengths alike.
//!
//! Chance enters once, in [`Augmentation::draw`]; the draw can be recorded, and applying it is pure. Patches
//! are isotropic cubes or boxes of HU, `[z, y, x]`; points are voxel positions in them. Rotation and scaling
//! turn about the patch's centre, so a centred nodule stays centred.

use lungai_ct::{Lung, VoxelPoint};
use ndarray::{Array3, Zip};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

/// How far draws may go; every range is symmetric or stated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AugmentConfig {
    /// Probability of mirroring along `[z, y, x]`, `0..=1` each. Along x right and left lung change places.
    pub flip: [f64; 3],
    /// Largest rotation about the axis along `[z, y, x]`, in degrees, `0..=180`.
    pub rotate_deg: [f64; 3],
    /// Smallest and largest magnification, 1 = none.
    pub scale: [f64; 2],
    /// Largest shift along each axis in voxels.
    pub shift_voxels: f64,
    /// Largest offset of HU.
    pub offset_hu: f64,
    /// Largest relative change of HU differences from air, 0.05 = 5 %. HU are calibrated: keep it small.
    pub gain: f64,
    /// Largest standard deviation of the added noise in HU.
    pub noise_hu: f64,
    /// Largest standard deviation of Gaussian blur in voxels.
    pub blur_voxels: f64,
}

impl AugmentConfig {
    /// Nothing is changed.
    pub const NONE: Self = Self {
        flip: [0.0; 3],
        rotate_deg: [0.0; 3],
        scale: [1.0; 2],
        shift_voxels: 0.0,
        offset_hu: 0.0,
        gain: 0.0,
        noise_hu: 0.0,
        blur_voxels: 0.0,
    };
}

/// One drawn transform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Augmentation {
    /// Where an offset from the centre goes, `[z, y, x]`: rotation, magnification and mirrors in one.
    matrix: [[f64; 3]; 3],
    magnification: f64,
    mirrors_x: bool,
    shift: [f64; 3],
    offset_hu: f64,
    gain: f64,
    noise_hu: f64,
    noise_seed: u64,
    blur_voxels: f64,
}

type Matrix = [[f64; 3]; 3];

impl Augmentation {
    /// The transform that changes nothing.
    pub fn identity() -> Self {
        Self::draw(&AugmentConfig::NONE, 0)
    }

    /// Draws within `config`; the same seed gives the same transform.
    pub fn draw(config: &AugmentConfig, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut within = |limit: f64| limit * (2.0 * rng.random::<f64>() - 1.0);
        let angles = config.rotate_deg.map(|deg| within(deg).to_radians());
        let shift = [0; 3].map(|_| within(config.shift_voxels));
        let offset_hu = within(config.offset_hu);
        let gain = 1.0 + within(config.gain);
        let flips = config.flip.map(|probability| rng.random::<f64>() < probability);
        let [least, most] = config.scale;
        // Uniform in the logarithm: half as likely to shrink as to grow would be odd.
        let magnification = (least.ln() + (most / least).ln() * rng.random::<f64>()).exp();
        let mut matrix = [0, 1, 2].map(|i| [0, 1, 2].map(|j| if i == j { magnification } else { 0.0 }));
        for (axis, flip) in flips.iter().enumerate() {
            if *flip {
                matrix[axis][axis] = -matrix[axis][axis];
            }
        }
        for (axis, angle) in angles.into_iter().enumerate() {
            matrix = product(&rotation(axis, angle), &matrix);
        }
        Self {
            matrix,
            magnification,
            mirrors_x: flips[2],
            shift,
            offset_hu,
            gain,
            noise_hu: config.noise_hu * rng.random::<f64>(),
            noise_seed: rng.random(),
            blur_voxels: config.blur_voxels * rng.random::<f64>(),
        }
    }

    /// Where a point of a patch of `size` goes; it may leave the patch.
    pub fn point(&self, size: [usize; 3], point: VoxelPoint) -> VoxelPoint {
        let centre = size.map(|n| 0.5 * (n as f64 - 1.0));
        let off: [f64; 3] = std::array::from_fn(|i| point.0[i] - centre[i]);
        let turned = times(&self.matrix, off);
        VoxelPoint(std::array::from_fn(|i| centre[i] + turned[i] + self.shift[i]))
    }

    /// What a length, radius or diameter becomes.
    pub fn length(&self, length: f64) -> f64 {
        length * self.magnification
    }

    /// HU after the transform: trilinear, `outside` where the source does not reach, then blur, HU changes and noise.
    pub fn image(&self, patch: &Array3<f32>, outside: f32) -> Array3<f32> {
        let mut out =
            if self.moves() { self.sampled(patch, outside, |at| trilinear(patch, at, outside)) } else { patch.clone() };
        if self.blur_voxels > 0.1 {
            out = blur(&out, self.blur_voxels);
        }
        let (gain, offset) = (self.gain as f32, (1000.0 * (self.gain - 1.0) + self.offset_hu) as f32);
        out.mapv_inplace(|hu| hu * gain + offset);
        if self.noise_hu > 0.0 {
            let mut rng = StdRng::seed_from_u64(self.noise_seed);
            out.mapv_inplace(|hu| hu + (self.noise_hu * gaussian(&mut rng)) as f32);
        }
        out
    }

    /// Labels after the transform: nearest voxel, 0 where the source does not reach.
    pub fn labels(&self, patch: &Array3<u8>) -> Array3<u8> {
        if !self.moves() {
            return patch.clone();
        }
        let size = patch.dim();
        self.sampled(patch, 0, |[z, y, x]| {
            let index = |at: f64, n: usize| {
                let i = (at + 0.5).floor();
                (i >= 0.0 && i < n as f64).then_some(i as usize)
            };
            match (index(z, size.0), index(y, size.1), index(x, size.2)) {
                (Some(z), Some(y), Some(x)) => patch[[z, y, x]],
                _ => 0,
            }
        })
    }

    /// [`Augmentation::labels`] for [`Lung`] labels: a mirror along x makes a right lung of a left one.
    pub fn lungs(&self, patch: &Array3<u8>) -> Array3<u8> {
        const RIGHT: u8 = Lung::Right as u8;
        const LEFT: u8 = Lung::Left as u8;
        let mut out = self.labels(patch);
        if self.mirrors_x {
            out.mapv_inplace(|label| match label {
                RIGHT => LEFT,
                LEFT => RIGHT,
                other => other,
            });
        }
        out
    }

    fn moves(&self) -> bool {
        let identity = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        self.matrix != identity || self.shift != [0.0; 3]
    }

    /// Each output voxel from where it came.
    fn sampled<T: Copy>(&self, patch: &Array3<T>, outside: T, sample: impl Fn([f64; 3]) -> T) -> Array3<T> {
        let (nz, ny, nx) = patch.dim();
        let centre = [nz, ny, nx].map(|n| 0.5 * (n as f64 - 1.0));
        let back = inverse(&self.matrix, self.magnification);
        let mut out = Array3::from_elem(patch.raw_dim(), outside);
        Zip::indexed(&mut out).for_each(|(z, y, x), voxel| {
            let index = [z as f64, y as f64, x as f64];
            let off = std::array::from_fn(|i| index[i] - self.shift[i] - centre[i]);
            let from = times(&back, off);
            *voxel = sample(std::array::from_fn(|i| from[i] + centre[i]));
        });
        out
    }
}

fn rotation(axis: usize, angle: f64) -> Matrix {
    let (s, c) = angle.sin_cos();
    let (a, b) = ((axis + 1) % 3, (axis + 2) % 3);
    let mut matrix = [[0.0; 3]; 3];
    matrix[axis][axis] = 1.0;
    matrix[a][a] = c;
    matrix[b][b] = c;
    matrix[a][b] = -s;
    matrix[b][a] = s;
    matrix
}

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    std::array::from_fn(|i| std::array::from_fn(|j| (0..3).map(|k| a[i][k] * b[k][j]).sum()))
}

fn times(a: &Matrix, v: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|i| (0..3).map(|k| a[i][k] * v[k]).sum())
}

/// Inverse of an orthogonal matrix times `magnification`: its transpose over the square.
fn inverse(a: &Matrix, magnification: f64) -> Matrix {
    std::array::from_fn(|i| std::array::from_fn(|j| a[j][i] / (magnification * magnification)))
}

fn trilinear(patch: &Array3<f32>, at: [f64; 3], outside: f32) -> f32 {
    let mut low = [0; 3];
    let mut high = [0; 3];
    let mut part = [0f32; 3];
    for i in 0..3 {
        let last = patch.shape()[i] as f64 - 1.0;
        if at[i] < -0.5 || at[i] > last + 0.5 {
            return outside;
        }
        let inside = at[i].clamp(0.0, last);
        low[i] = inside.floor() as usize;
        high[i] = (low[i] + 1).min(last as usize);
        part[i] = (inside - inside.floor()) as f32;
    }
    let mix = |a: f32, b: f32, t: f32| a + (b - a) * t;
    let row = |z: usize, y: usize| mix(patch[[z, y, low[2]]], patch[[z, y, high[2]]], part[2]);
    let plane = |z: usize| mix(row(z, low[1]), row(z, high[1]), part[1]);
    mix(plane(low[0]), plane(high[0]), part[0])
}

/// Gaussian blur, the border's values repeated outwards.
fn blur(patch: &Array3<f32>, sigma: f64) -> Array3<f32> {
    let radius = (3.0 * sigma).ceil() as isize;
    let weights: Vec<f64> = (-radius..=radius).map(|i| (-0.5 * (i as f64 / sigma).powi(2)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let mut out = patch.clone();
    for axis in 0..3 {
        for mut lane in out.lanes_mut(ndarray::Axis(axis)) {
            let line = lane.to_vec();
            let last = line.len() as isize - 1;
            for (i, voxel) in lane.iter_mut().enumerate() {
                let at = |k: usize| f64::from(line[(i as isize + k as isize - radius).clamp(0, last) as usize]);
                *voxel = (weights.iter().enumerate().map(|(k, w)| w * at(k)).sum::<f64>() / sum) as f32;
            }
        }
    }
    out
}

/// Standard normal, by Box and Muller.
fn gaussian(rng: &mut StdRng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    fn geometric() -> AugmentConfig {
        AugmentConfig {
            flip: [0.5; 3],
            rotate_deg: [20.0, 15.0, 30.0],
            scale: [0.8, 1.25],
            shift_voxels: 3.0,
            ..AugmentConfig::NONE
        }
    }

    #[test]
    fn the_identity_changes_nothing() {
        let patch = Array3::from_shape_fn((4, 5, 6), |(z, y, x)| (100 * z + 10 * y + x) as f32);
        let none = Augmentation::identity();
        assert_eq!(none.image(&patch, -1024.0), patch);
        assert_eq!(none.point([4, 5, 6], VoxelPoint([1.0, 2.0, 3.0])), VoxelPoint([1.0, 2.0, 3.0]));
        assert_eq!(none.length(7.0), 7.0);
    }

    #[verifies("FR-002")]
    #[test]
    fn image_mask_points_and_radii_move_together() {
        let size = [48, 44, 52];
        let (centre, radius) = (VoxelPoint([29.0, 18.0, 31.0]), 6.0);
        let inside = |z: usize, y: usize, x: usize| {
            let squared: f64 = [z, y, x].iter().zip(centre.0).map(|(i, c)| (*i as f64 - c).powi(2)).sum();
            squared.sqrt() <= radius
        };
        let image = Array3::from_shape_fn(size, |(z, y, x)| if inside(z, y, x) { 40.0 } else { -860.0 });
        let mask = image.mapv(|hu| u8::from(hu > 0.0));
        for seed in 0..20 {
            let draw = Augmentation::draw(&geometric(), seed);
            let (moved, radius) = (draw.point(size, centre), draw.length(radius));
            let volume = 4.0 / 3.0 * std::f64::consts::PI * radius.powi(3);
            let found = [draw.labels(&mask).mapv(|l| l > 0), draw.image(&image, -1024.0).mapv(|hu| hu > -410.0)];
            for mask in found {
                let n = mask.iter().filter(|v| **v).count() as f64;
                assert!((n / volume - 1.0).abs() < 0.06, "seed {seed}: {n} voxels for {volume:.0}");
                let mut sum = [0.0; 3];
                for ((z, y, x), inside) in mask.indexed_iter() {
                    if *inside {
                        sum.iter_mut().zip([z, y, x]).for_each(|(s, i)| *s += i as f64 / n);
                    }
                }
                for (found, want) in sum.iter().zip(moved.0) {
                    assert!((found - want).abs() < 0.2, "seed {seed}: centre {sum:?}, point {moved:?}");
                }
            }
        }
    }

    #[verifies("FR-003")]
    #[test]
    fn a_mirror_image_has_its_lungs_renamed() {
        let patient = Array3::from_shape_fn((2, 2, 4), |(_, _, x)| [1u8, 1, 0, 2][x]);
        let along = |flip| Augmentation::draw(&AugmentConfig { flip, ..AugmentConfig::NONE }, 3);
        let mirrored = along([0.0, 0.0, 1.0]);
        assert_eq!(mirrored.lungs(&patient).iter().take(4).copied().collect::<Vec<_>>(), [1, 0, 2, 2]);
        assert_eq!(mirrored.labels(&patient).iter().take(4).copied().collect::<Vec<_>>(), [2, 0, 1, 1]);
        assert_eq!(along([1.0, 0.0, 0.0]).lungs(&patient), patient); // head over heels, right stays right
    }

    #[test]
    fn hu_changes_are_as_large_as_configured_and_seeded() {
        let config = AugmentConfig { offset_hu: 20.0, noise_hu: 30.0, ..AugmentConfig::NONE };
        let patch = Array3::zeros((20, 20, 20));
        let draw = Augmentation::draw(&config, 5);
        let out = draw.image(&patch, -1024.0);
        assert_eq!(out, Augmentation::draw(&config, 5).image(&patch, -1024.0));
        assert_ne!(out, Augmentation::draw(&config, 6).image(&patch, -1024.0));
        let mean = out.mean().unwrap();
        let sd = out.mapv(|v| (v - mean).powi(2)).mean().unwrap().sqrt();
        assert!((f64::from(mean) - draw.offset_hu).abs() < 2.0 && draw.offset_hu.abs() <= 20.0);
        assert!((f64::from(sd) / draw.noise_hu - 1.0).abs() < 0.05 && draw.noise_hu <= 30.0);
    }

    #[test]
    fn blur_keeps_the_mean() {
        let mut patch = Array3::zeros((21, 21, 21));
        patch[[10, 10, 10]] = 1000.0;
        let out = Augmentation { blur_voxels: 1.2, ..Augmentation::identity() }.image(&patch, 0.0);
        assert!((out.sum() - 1000.0).abs() < 1.0 && out[[10, 10, 10]] < 900.0);
    }

    #[test]
    fn a_recorded_draw_is_the_same_draw() {
        let draw = Augmentation::draw(&geometric(), 11);
        let text = serde_yaml::to_string(&draw).unwrap();
        let again: Augmentation = serde_yaml::from_str(&text).unwrap();
        let point = VoxelPoint([3.0, 4.0, 5.0]);
        for (a, b) in draw.point([20; 3], point).0.iter().zip(again.point([20; 3], point).0) {
            assert!((a - b).abs() < 1e-12);
        }
    }
}
