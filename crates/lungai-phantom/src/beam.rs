//! What the X-rays meet on their way: a long path through tissue leaves few photons (noise) and hard ones (shading).
//!
//! Paths are water-equivalent lengths in the axial plane, tabulated for some angles; nothing is projected and
//! reconstructed, so that shading has the shape of its cause without the streaks of a sampled sinogram.

use crate::chest::{Chest, SPINE_Y};
use crate::skeleton::BonePart;
use crate::vector::{V3, add, norm, scale, sub};
use rayon::prelude::*;

/// Index into a node: standard deviation of the noise relative to the middle of a nominal chest.
pub const NOISE: usize = 0;
/// Index into a node: mean path relative to [`NOMINAL_MM`], what cupping grows with.
pub const CUP: usize = 1;
/// Index into a node: dark bands along paths much longer than the mean one, 1 between the shoulders of a nominal chest.
pub const BAND: usize = 2;
type Node = [f32; 3];

/// Distance between nodes in mm: paths change slowly.
const STEP: f64 = 12.0;
const ANGLES: usize = 12;
/// Width of a ray in mm.
const BIN: f64 = 8.0;
const BINS: usize = 72;
/// Side in mm of the squares over which the body is integrated.
const CELL: f64 = 8.0;
/// Water-equivalent path in mm through the middle of the nominal chest at the height of the heart, averaged as noise
/// averages it: the factor of the noise is 1 there.
const NOMINAL_MM: f64 = 205.0;
/// Root mean square excess over the mean path between nominal shoulders, as fraction of [`NOMINAL_MM`].
const SHOULDER_EXCESS: f64 = 0.25;
/// Attenuation of water at the effective energy of 120 kV (0.0195 per mm at 70 keV, NIST XCOM). The tube current is
/// taken to follow the root of the attenuation, the optimum of modulation (Gies 1999, Med Phys 26:2235), so that half of it
/// remains in the noise.
const KAPPA: f64 = 0.5 * 0.0195;

/// Noise and shading of one body for any scanner, smooth and fixed to the patient.
pub struct Beam {
    origin: V3,
    /// Nodes along x, y, z.
    size: [usize; 3],
    nodes: Vec<Node>,
}

impl Beam {
    pub fn of(chest: &Chest, bones: &[BonePart]) -> Self {
        let [half_x, half_y] = chest.torso_mm();
        let [low, high] = chest.lung_extent_z();
        let origin = [-1.1 * half_x - STEP, -half_y - STEP, low - 40.0];
        let end = [1.1 * half_x + STEP, half_y + 2.0 * STEP, high + 50.0];
        let size: [usize; 3] = std::array::from_fn(|i| ((end[i] - origin[i]) / STEP).ceil() as usize + 1);
        let dense = dense_points(chest, bones);
        let mut nodes = vec![Node::default(); size[0] * size[1] * size[2]];
        nodes.par_chunks_mut(size[0] * size[1]).enumerate().for_each(|(plane, nodes)| {
            let z = origin[2] + plane as f64 * STEP;
            let paths = Paths::through(chest, &dense, z);
            for (i, node) in nodes.iter_mut().enumerate() {
                let [ix, iy] = [i % size[0], i / size[0]];
                *node = paths.node(origin[0] + ix as f64 * STEP, origin[1] + iy as f64 * STEP);
            }
        });
        Self { origin, size, nodes }
    }

    /// [`NOISE`], [`CUP`] and [`BAND`] at a point; the nearest ones outside.
    pub fn at(&self, p: V3) -> Node {
        let mut base = [0; 3];
        let mut share = [0.0f32; 3];
        for axis in 0..3 {
            let t = ((p[axis] - self.origin[axis]) / STEP).clamp(0.0, self.size[axis] as f64 - 1.001);
            base[axis] = t as usize;
            share[axis] = (t - t.floor()) as f32;
        }
        let mut sum = Node::default();
        for corner in 0..8 {
            let bit = [corner & 1, corner >> 1 & 1, corner >> 2];
            let at = |axis: usize| base[axis] + bit[axis];
            let node = &self.nodes[(at(2) * self.size[1] + at(1)) * self.size[0] + at(0)];
            let weight: f32 = (0..3).map(|axis| if bit[axis] == 1 { share[axis] } else { 1.0 - share[axis] }).product();
            for (sum, value) in sum.iter_mut().zip(node) {
                *sum += weight * value;
            }
        }
        sum
    }
}

/// A bit of bone: where, and how many mm3 of water it is worth beyond the soft tissue that it replaces.
type Dense = (V3, f64);

fn dense_points(chest: &Chest, bones: &[BonePart]) -> Vec<Dense> {
    const BIT_MM: f64 = 3.0;
    let mut points = Vec::new();
    for BonePart { tube, shell_hu, core_hu } in bones {
        let length = norm(sub(tube.b, tube.a));
        let count = (length / BIT_MM).ceil().max(1.0);
        let radius = 0.5 * (tube.radius[0] + tube.radius[1]);
        let worth = std::f64::consts::PI * radius * radius * length / count * 0.5 * (shell_hu + core_hu) / 1000.0;
        for i in 0..count as usize {
            points.push((add(tube.a, scale(sub(tube.b, tube.a), (i as f64 + 0.5) / count)), worth));
        }
    }
    // The spine as a column of 18 mm radius and 200 HU.
    let [low, high] = chest.lung_extent_z();
    let mut z = low - 60.0;
    while z < high + 70.0 {
        points.push(([0.0, SPINE_Y * chest.scale[1], z], std::f64::consts::PI * 18.0 * 18.0 * BIT_MM * 0.2));
        z += BIT_MM;
    }
    points
}

/// Path lengths through one axial plane, `[angle][bin]` in mm of water.
struct Paths(Vec<[f64; BINS]>);

impl Paths {
    fn through(chest: &Chest, dense: &[Dense], z: f64) -> Self {
        let mut paths = Self(vec![[0.0; BINS]; ANGLES]);
        let [half_x, half_y] = chest.torso_mm();
        let [nx, ny] = [1.1 * half_x, 1.1 * half_y + CELL].map(|half| (half / CELL).ceil() as i32);
        for iy in -ny..=ny {
            for ix in -nx..=nx {
                let p = [f64::from(ix) * CELL, f64::from(iy) * CELL, z];
                let body = (0.5 + chest.body(p) / CELL).clamp(0.0, 1.0);
                if body > 0.0 {
                    let lung = (0.5 + chest.lung(p) / CELL).clamp(0.0, 1.0);
                    // Soft tissue 1.03, lung with its vessels 0.2.
                    paths.add(p[0], p[1], body * (1.03 - 0.83 * lung) * CELL * CELL / BIN);
                }
            }
        }
        for (p, mm3) in dense {
            // Spread over the two nearest planes.
            let share = 1.0 - (p[2] - z).abs() / STEP;
            if share > 0.0 {
                paths.add(p[0], p[1], share * mm3 / (BIN * STEP));
            }
        }
        paths
    }

    fn add(&mut self, x: f64, y: f64, mm: f64) {
        for (angle, bins) in self.0.iter_mut().enumerate() {
            let (i, share) = Self::bin(angle, x, y);
            bins[i] += (1.0 - share) * mm;
            bins[i + 1] += share * mm;
        }
    }

    /// The ray through a point at an angle: the bin on its left and the share of the next.
    fn bin(angle: usize, x: f64, y: f64) -> (usize, f64) {
        let (sin, cos) = (angle as f64 * std::f64::consts::PI / ANGLES as f64).sin_cos();
        let at = ((x * cos + y * sin) / BIN + 0.5 * (BINS as f64 - 1.0)).clamp(0.0, BINS as f64 - 1.001);
        (at as usize, at - at.floor())
    }

    fn node(&self, x: f64, y: f64) -> Node {
        let each: [f64; ANGLES] = std::array::from_fn(|angle| {
            let (i, share) = Self::bin(angle, x, y);
            (1.0 - share) * self.0[angle][i] + share * self.0[angle][i + 1]
        });
        let mean = |value: &dyn Fn(f64) -> f64| each.iter().map(|mm| value(*mm)).sum::<f64>() / ANGLES as f64;
        let path = mean(&|mm| mm);
        // Counts are Poisson: a ray's variance goes with one over its photons, a pixel's is the mean over its rays.
        let noise = mean(&|mm| (KAPPA * (mm - NOMINAL_MM)).exp()).sqrt();
        // The error of a water correction grows with the square of what it did not expect.
        let band = mean(&|mm| (mm - path).max(0.0).powi(2)) / (SHOULDER_EXCESS * NOMINAL_MM).powi(2);
        [noise, path / NOMINAL_MM, band].map(|v| v as f32)
    }
}
