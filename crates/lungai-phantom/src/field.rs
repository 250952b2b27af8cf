//! The smooth shapes of a scene on a coarse grid that is fixed to the patient, so that every scanner and every window
//! sees the same surface.

use crate::chest::{Chest, smoothstep};
use crate::vector::{V3, floor, hash};
use rayon::prelude::*;

/// Values of the smooth shapes at one place.
pub type Node = [f32; 8];
/// Indices into [`Node`]: distances in mm, positive inside; HU; standard deviations; share.
pub const BODY: usize = 0;
pub const RIGHT: usize = 1;
pub const LEFT: usize = 2;
pub const SOFT: usize = 3;
pub const TEXTURE: usize = 4;
pub const OBLIQUE: usize = 5;
pub const HORIZONTAL: usize = 6;
pub const FIBROSIS: usize = 7;

/// Distance between nodes in mm. A surface of 20 mm radius is off by at most h^2/8R = 0.06 mm.
pub const STEP: f64 = 3.0;

/// The nodes round a box.
pub struct Field {
    /// Lattice place of the first node: nodes lie at whole multiples of [`STEP`].
    first: [i64; 3],
    /// Nodes along x, y, z.
    size: [usize; 3],
    /// Beyond these limits in mm everything is as on them.
    limits: [V3; 2],
    nodes: Vec<Node>,
}

impl Field {
    /// Samples the shapes so that they are known from `low` to `high`.
    pub fn over(chest: &Chest, seed: u64, fibrosis: f64, low: V3, high: V3) -> Self {
        let [bottom, top] = chest.lung_extent_z();
        let half_x = chest.shoulders_mm();
        let half_y = chest.torso_mm()[1];
        let limits = [[-half_x - 12.0, -half_y - 12.0, bottom - 60.0], [half_x + 12.0, half_y + 26.0, top + 60.0]];
        let lattice = |v: f64, axis: usize| (v.clamp(limits[0][axis], limits[1][axis]) / STEP).floor() as i64;
        let first: [i64; 3] = std::array::from_fn(|axis| lattice(low[axis], axis));
        let size: [usize; 3] = std::array::from_fn(|axis| (lattice(high[axis], axis) - first[axis]) as usize + 2);
        let mut nodes = vec![Node::default(); size[0] * size[1] * size[2]];
        nodes.par_chunks_mut(size[0]).enumerate().for_each(|(row, nodes)| {
            let (iy, iz) = (row % size[1], row / size[1]);
            for (ix, node) in nodes.iter_mut().enumerate() {
                let at = [ix, iy, iz];
                *node = sample(chest, seed, fibrosis, std::array::from_fn(|i| (first[i] + at[i] as i64) as f64 * STEP));
            }
        });
        Self { first, size, limits, nodes }
    }

    /// The row of nodes through `y`, `z`.
    pub fn row(&self, y: f64, z: f64, row: &mut Vec<Node>) {
        let (iy, fy) = self.place(1, y);
        let (iz, fz) = self.place(2, z);
        let nx = self.size[0];
        let line = |dy: usize, dz: usize| &self.nodes[((iz + dz) * self.size[1] + iy + dy) * nx..][..nx];
        let lines = [line(0, 0), line(1, 0), line(0, 1), line(1, 1)];
        let weights = [(1.0 - fy) * (1.0 - fz), fy * (1.0 - fz), (1.0 - fy) * fz, fy * fz].map(|w| w as f32);
        row.clear();
        row.extend((0..nx).map(|i| {
            let mut node = Node::default();
            for (line, weight) in lines.iter().zip(weights) {
                for (sum, value) in node.iter_mut().zip(line[i]) {
                    *sum += weight * value;
                }
            }
            node
        }));
    }

    /// Where `x` lies in every row: the node below and the share of the next.
    pub fn place_x(&self, x: f64) -> (usize, f32) {
        let (i, f) = self.place(0, x);
        (i, f as f32)
    }

    /// Interpolates a row at `x`.
    pub fn at_x(&self, row: &[Node], x: f64) -> Node {
        between(row, self.place_x(x))
    }

    /// All shapes at one place. For many use [`Field::row`].
    pub fn at(&self, p: V3) -> Node {
        let (ix, fx) = self.place(0, p[0]);
        let (iy, fy) = self.place(1, p[1]);
        let (iz, fz) = self.place(2, p[2]);
        let mut node = Node::default();
        for corner in 0..8 {
            let [dx, dy, dz] = [corner & 1, corner >> 1 & 1, corner >> 2];
            let share = |f: f64, d: usize| if d == 1 { f } else { 1.0 - f };
            let weight = (share(fx, dx) * share(fy, dy) * share(fz, dz)) as f32;
            let other = &self.nodes[((iz + dz) * self.size[1] + iy + dy) * self.size[0] + ix + dx];
            for (sum, value) in node.iter_mut().zip(other) {
                *sum += weight * value;
            }
        }
        node
    }

    /// Node below and share of the next. The share depends on the place alone, not on the box.
    fn place(&self, axis: usize, at: f64) -> (usize, f64) {
        let t = at.clamp(self.limits[0][axis], self.limits[1][axis]) / STEP;
        let below = floor(t);
        let i = (below - self.first[axis]).clamp(0, self.size[axis] as i64 - 2);
        (i as usize, t - below as f64)
    }
}

/// Interpolates a row at a place that [`Field::place_x`] found.
pub fn between(row: &[Node], (i, f): (usize, f32)) -> Node {
    let (a, b) = (&row[i], &row[i + 1]);
    std::array::from_fn(|c| a[c] + f * (b[c] - a[c]))
}

fn sample(chest: &Chest, seed: u64, fibrosis: f64, p: V3) -> Node {
    let body = chest.body(p);
    if body < -2.0 * STEP {
        return [body as f32, -99.0, -99.0, -105.0, 0.0, 999.0, 999.0, 0.0];
    }
    let q = chest.warped(p);
    let [right, left] = chest.lungs_at(q);
    let deep = right.max(left);
    let soft = if deep < 2.0 * STEP { chest.soft_tissue(p, q, body) } else { 30.0 };
    let near = deep > -2.0 * STEP;
    let [oblique, horizontal] = if near { chest.fissures_at(q) } else { [999.0; 2] };
    let fibrosis = if near && fibrosis > 0.0 { fibrosis * basal_and_peripheral(q, deep) } else { 0.0 };
    [body, right, left, soft, texture(seed, p), oblique, horizontal, fibrosis].map(|v| v as f32)
}

/// Where usual interstitial pneumonia sits: below and behind, in the outer 20 mm. 0 to 1.
fn basal_and_peripheral(q: V3, depth: f64) -> f64 {
    smoothstep(22.0, 5.0, depth) * smoothstep(-5.0, -90.0, q[2] - 0.6 * q[1])
}

/// Irregular texture of standard deviation about 1 with detail from 4 to 36 mm, as 1/f noise has.
fn texture(seed: u64, p: V3) -> f64 {
    let octave = |cell: f64, key: u64| {
        let at = p.map(|v| v / cell);
        let base = at.map(|v| floor(v) as f64);
        let f: V3 = std::array::from_fn(|i| smoothstep(0.0, 1.0, at[i] - base[i]));
        let mut sum = 0.0;
        let ends = |axis: usize| [(base[axis], 1.0 - f[axis]), (base[axis] + 1.0, f[axis])];
        let start = hash(seed, key);
        for (x, at_x) in ends(0) {
            let start = hash(start, x as i64 as u64);
            for (y, at_y) in ends(1) {
                let start = hash(start, y as i64 as u64);
                for (z, at_z) in ends(2) {
                    sum += at_x * at_y * at_z * (hash(start, z as i64 as u64) as f64 / u64::MAX as f64 - 0.5);
                }
            }
        }
        sum
    };
    3.2 * (octave(4.0, 71) + octave(11.0, 72) + 0.9 * octave(36.0, 73))
}
