//! Fine detail of the lung, computed once: cubes that repeat every 51 mm and are sampled everywhere.

use crate::vector::{floor, hash};
use std::sync::LazyLock;

/// Samples along the edge of a tile.
const EDGE: usize = 64;
/// Distance between samples in mm.
pub const CELL_MM: f32 = 0.8;

/// A periodic cube of values.
pub struct Tile(Vec<f32>);

/// Irregular grain of mean 0 and standard deviation 1, amplitude about one over frequency: lobules and vessels below what
/// is drawn as tubes.
pub static GRAIN: LazyLock<Tile> = LazyLock::new(grain);
/// Walls between polyhedra of about 7 mm, 1 on a wall and 0 away from it: thickened interlobular septa.
pub static SEPTA: LazyLock<Tile> = LazyLock::new(septa);

/// The row of a tile that is nearest to a line along x.
pub struct TileRow {
    plane: Vec<f32>,
    row: Vec<f32>,
}

impl TileRow {
    pub fn new() -> Self {
        Self { plane: vec![0.0; EDGE * EDGE], row: vec![0.0; EDGE] }
    }

    /// The plane at a height; [`TileRow::turn_to_row`] comes next.
    pub fn turn_to_plane(&mut self, tile: &Tile, z: f64) {
        let (i, j, f) = cell(z);
        let (a, b) = (&tile.0[i * EDGE * EDGE..][..EDGE * EDGE], &tile.0[j * EDGE * EDGE..][..EDGE * EDGE]);
        mix(&mut self.plane, a, b, f);
    }

    pub fn turn_to_row(&mut self, y: f64) {
        let (i, j, f) = cell(y);
        mix(&mut self.row, &self.plane[i * EDGE..][..EDGE], &self.plane[j * EDGE..][..EDGE], f);
    }

    /// Where `x` lies in every row: the samples on both sides and the share of the second.
    pub fn place(x: f32) -> (usize, usize, f32) {
        let t = f64::from(x * (1.0 / CELL_MM));
        let i = floor(t);
        (i as usize % EDGE, (i + 1) as usize % EDGE, (t - i as f64) as f32)
    }

    pub fn at(&self, (i, j, f): (usize, usize, f32)) -> f32 {
        let (a, b) = (self.row[i], self.row[j]);
        a + f * (b - a)
    }
}

/// Samples on both sides and the share of the second.
fn cell(at: f64) -> (usize, usize, f32) {
    let t = at / f64::from(CELL_MM);
    let floor = t.floor();
    let i = (floor as i64).rem_euclid(EDGE as i64) as usize;
    (i, (i + 1) % EDGE, (t - floor) as f32)
}

fn mix(out: &mut [f32], a: &[f32], b: &[f32], f: f32) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = a + f * (b - a);
    }
}

fn fill(value: impl Fn([usize; 3]) -> f32) -> Vec<f32> {
    (0..EDGE * EDGE * EDGE).map(|i| value([i % EDGE, i / EDGE % EDGE, i / EDGE / EDGE])).collect()
}

fn uniform(key: u64, at: [usize; 3]) -> f32 {
    let mixed = at.iter().fold(hash(0x7469_6c65, key), |h, v| hash(h, *v as u64));
    (mixed >> 40) as f32 / (1u64 << 24) as f32
}

fn grain() -> Tile {
    let mut values = vec![0.0; EDGE * EDGE * EDGE];
    for (octave, weight) in [(1, 1.0), (2, 1.6), (4, 2.2), (8, 2.6)] {
        let cells = EDGE / octave;
        let layer = fill(|at| {
            let base = at.map(|v| v / octave);
            let share = at.map(|v| (v % octave) as f32 / octave as f32);
            let mut sum = 0.0;
            for corner in 0..8usize {
                let bit: [usize; 3] = std::array::from_fn(|axis| corner >> axis & 1);
                let node = std::array::from_fn(|axis| (base[axis] + bit[axis]) % cells);
                let weight: f32 =
                    (0..3).map(|axis| if bit[axis] == 1 { share[axis] } else { 1.0 - share[axis] }).product();
                sum += weight * (uniform(octave as u64, node) - 0.5);
            }
            sum
        });
        values.iter_mut().zip(layer).for_each(|(value, layer)| *value += weight * layer);
    }
    let n = values.len() as f32;
    let mean = values.iter().sum::<f32>() / n;
    let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n).sqrt();
    values.iter_mut().for_each(|value| *value = (*value - mean) / sd);
    Tile(values)
}

fn septa() -> Tile {
    const POINTS: usize = 7; // along the edge, one in each cell of a grid
    let size = EDGE as f32 / POINTS as f32;
    let point = |cell: [usize; 3]| -> [f32; 3] {
        std::array::from_fn(|axis| size * (cell[axis] as f32 + uniform(90 + axis as u64, cell)))
    };
    Tile(fill(|at| {
        let home = at.map(|v| (v as f32 / size) as usize);
        let (mut first, mut second) = (f32::MAX, f32::MAX);
        for neighbour in 0..27usize {
            let cell = std::array::from_fn(|axis| (home[axis] + POINTS - 1 + neighbour / [1, 3, 9][axis] % 3) % POINTS);
            let distance = point(cell).into_iter().zip(at).map(|(p, v)| {
                let d = (p - v as f32).abs();
                d.min(EDGE as f32 - d).powi(2)
            });
            let distance = distance.sum::<f32>().sqrt();
            if distance < first {
                (first, second) = (distance, first);
            } else {
                second = second.min(distance);
            }
        }
        // The difference is twice the distance to the wall.
        (1.0 - 0.5 * (second - first) * CELL_MM / 0.9).max(0.0)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_repeats_and_has_no_seam() {
        let mut row = TileRow::new();
        row.turn_to_plane(&GRAIN, 7.3);
        row.turn_to_row(-2.1);
        let period = EDGE as f32 * CELL_MM;
        for x in [-60.0, -0.3, 0.0, 50.9] {
            assert!((row.at(TileRow::place(x)) - row.at(TileRow::place(x + period))).abs() < 1e-3);
            assert!((row.at(TileRow::place(x)) - row.at(TileRow::place(x + 0.01))).abs() < 0.1);
        }
    }
}
