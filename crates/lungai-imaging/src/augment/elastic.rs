//! A smooth displacement: cubic B-splines on a coarse lattice of control points (Rueckert et al. 1999, IEEE TMI 18:712).
//!
//! Lattice, displacements and places are mm offsets `[z, y, x]` from the middle of the *transformed* patch. Beyond the
//! lattice the control points are zero, so that the displacement fades out two spacings further.
//!
//! The displacement `u` is kept from changing by more than 0.5 mm per mm (in the maximum norm). Then `q + u(q)` is one to
//! one, no tissue folds over, volumes stay within a factor of `0.5^3` to `1.5^3`, and the iteration that inverts it halves its
//! error each time whatever the draw.

use super::chance::{hash, unit};
use super::config::{self, AugmentError, elastic_lattice};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Largest gradient of the displacement, mm per mm.
const STEEPEST: f64 = 0.5;
/// Zero control points on each side: one more than the reach of a spline.
const PAD: usize = 3;

/// A drawn displacement: its control points follow from the seed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")] // derives the reading, to which the checks are added below
pub struct Deformation {
    control: [usize; 3],
    spacing_mm: [f64; 3],
    amplitude_mm: f64,
    seed: u64,
}

impl Serialize for Deformation {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, to)
    }
}

impl<'de> Deserialize<'de> for Deformation {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let read = Self::deserialize(from)?;
        read.check().map_err(D::Error::custom)?;
        Ok(read)
    }
}

impl Deformation {
    /// Control points uniform within the amplitude, all weakened alike where the displacement would be too steep.
    pub(super) fn draw(config: &config::Elastic, seed: u64) -> Self {
        let (control, spacing_mm) = (config.control, config.spacing_mm);
        let full = Self { control, spacing_mm, amplitude_mm: config.amplitude_mm, seed };
        let steepness = full.lattice().steepness();
        let weaker = if steepness > STEEPEST { STEEPEST / steepness } else { 1.0 };
        Self { amplitude_mm: config.amplitude_mm * weaker, ..full }
    }

    fn check(&self) -> Result<(), AugmentError> {
        elastic_lattice(self.control, self.spacing_mm)?;
        config::within("elastic.amplitude_mm", self.amplitude_mm, 0.0, 1000.0)?;
        let steepness = self.lattice().steepness();
        // A draw that was weakened lies on the limit, give or take rounding.
        if steepness > STEEPEST * (1.0 + 1e-5) {
            return Err(AugmentError::Folds { steepness });
        }
        Ok(())
    }

    /// Largest displacement of a control point along each axis, mm, after weakening.
    pub fn amplitude_mm(&self) -> f64 {
        self.amplitude_mm
    }

    pub(super) fn lattice(&self) -> Lattice {
        let padded = self.control.map(|n| n + 2 * PAD);
        let mut points = vec![[0.0; 3]; padded.iter().product()];
        let mut n = 0;
        for z in 0..self.control[0] {
            for y in 0..self.control[1] {
                let row = ((z + PAD) * padded[1] + y + PAD) * padded[2] + PAD;
                for point in &mut points[row..row + self.control[2]] {
                    let key = hash(self.seed, n);
                    *point = [0, 1, 2].map(|axis| self.amplitude_mm * (2.0 * unit(key, axis) - 1.0));
                    n += 1;
                }
            }
        }
        Lattice { padded, spacing_mm: self.spacing_mm, points }
    }
}

/// Control points, with zeros around.
pub(super) struct Lattice {
    padded: [usize; 3],
    spacing_mm: [f64; 3],
    /// Displacement `[z, y, x]` in mm.
    points: Vec<[f64; 3]>,
}

/// The four control points along one axis that a place depends on.
#[derive(Clone, Copy)]
struct Taps {
    first: usize,
    weights: [f64; 4],
    /// Their derivatives, per mm.
    slopes: [f64; 4],
}

impl Lattice {
    fn taps(&self, axis: usize, offset_mm: f64) -> Taps {
        let n = self.padded[axis];
        let at = offset_mm / self.spacing_mm[axis] + 0.5 * (n as f64 - 1.0);
        let cell = at.floor();
        if !(cell >= 1.0 && cell + 2.0 < n as f64) {
            return Taps { first: 0, weights: [0.0; 4], slopes: [0.0; 4] };
        }
        let t = at - cell;
        let s = 1.0 - t;
        let weights = [
            s * s * s / 6.0,
            2.0 / 3.0 - t * t * (1.0 - 0.5 * t),
            2.0 / 3.0 - s * s * (1.0 - 0.5 * s),
            t * t * t / 6.0,
        ];
        let slopes = [-0.5 * s * s, t * (1.5 * t - 2.0), s * (2.0 - 1.5 * s), 0.5 * t * t];
        Taps { first: cell as usize - 1, weights, slopes: slopes.map(|v| v / self.spacing_mm[axis]) }
    }

    /// Displacement at an offset, mm, and its gradient `[component][axis]`, mm per mm.
    pub fn at(&self, offset_mm: [f64; 3]) -> ([f64; 3], [[f64; 3]; 3]) {
        let [tz, ty, tx] = std::array::from_fn(|axis| self.taps(axis, offset_mm[axis]));
        let (mut u, mut gradient) = ([0.0; 3], [[0.0; 3]; 3]);
        for k in 0..4 {
            for j in 0..4 {
                let row = ((tz.first + k) * self.padded[1] + ty.first + j) * self.padded[2] + tx.first;
                for (i, point) in self.points[row..row + 4].iter().enumerate() {
                    let weight = tz.weights[k] * ty.weights[j] * tx.weights[i];
                    let slope = [
                        tz.slopes[k] * ty.weights[j] * tx.weights[i],
                        tz.weights[k] * ty.slopes[j] * tx.weights[i],
                        tz.weights[k] * ty.weights[j] * tx.slopes[i],
                    ];
                    for (c, value) in point.iter().enumerate() {
                        u[c] += weight * value;
                        gradient[c].iter_mut().zip(slope).for_each(|(g, s)| *g += s * value);
                    }
                }
            }
        }
        (u, gradient)
    }

    /// Bound of the gradient in the maximum norm: the largest sum over axes of a component's change per mm.
    ///
    /// A derivative of a B-spline is a mean of its control points' differences, so the largest difference near a place
    /// bounds it there. Control points of half the distance (the same spline, refined) make the bound tight.
    pub fn steepness(&self) -> f64 {
        let (size, fine) = self.refined();
        let stride = [size[1] * size[2], size[2], 1];
        let mut steepest: f32 = 0.0;
        for component in &fine {
            let mut sums = vec![0f32; component.len()];
            for axis in 0..3 {
                let per_mm = (2.0 / self.spacing_mm[axis]) as f32;
                let mut change = vec![0f32; component.len()];
                // The zeros around make the last, missing difference zero.
                for ((d, low), high) in change.iter_mut().zip(component).zip(&component[stride[axis]..]) {
                    *d = (high - low).abs() * per_mm;
                }
                for (along, stride) in stride.into_iter().enumerate() {
                    // Along its own axis a derivative depends on three differences, else on four control points.
                    widest(&mut change, stride, if along == axis { 3 } else { 4 });
                }
                sums.iter_mut().zip(&change).for_each(|(sum, v)| *sum += v);
            }
            steepest = sums.iter().copied().fold(steepest, f32::max);
        }
        // What single precision may have lost.
        f64::from(steepest) * (1.0 + 1e-5)
    }

    /// The same displacement on control points of half the distance, one array per component.
    fn refined(&self) -> ([usize; 3], [Vec<f32>; 3]) {
        let mut size = self.padded;
        let mut fine = [0, 1, 2].map(|c| self.points.iter().map(|p| p[c] as f32).collect::<Vec<f32>>());
        for axis in [2, 1, 0] {
            let (inner, n) = (size[axis + 1..].iter().product::<usize>(), size[axis]);
            let outer = size[..axis].iter().product::<usize>();
            for component in &mut fine {
                let mut out = vec![0f32; outer * (2 * n - 1) * inner];
                for (from, to) in component.chunks_exact(n * inner).zip(out.chunks_exact_mut((2 * n - 1) * inner)) {
                    // First and last control point are zero, as are their neighbours, and stay so.
                    for i in 1..n - 1 {
                        let source = &from[(i - 1) * inner..(i + 2) * inner];
                        let (old, between) = to[2 * i * inner..(2 * i + 2) * inner].split_at_mut(inner);
                        for k in 0..inner {
                            let (a, b, c) = (source[k], source[inner + k], source[2 * inner + k]);
                            old[k] = 0.125 * (a + 6.0 * b + c);
                            between[k] = 0.5 * (b + c);
                        }
                    }
                }
                *component = out;
            }
            size[axis] = 2 * n - 1;
        }
        (size, fine)
    }

    /// Displacements for whole rows of a grid: `offset(axis, index)` is the place of a voxel in mm, `matrix` turns mm of
    /// displacement into what the caller wants.
    pub fn rows(&self, size: [usize; 3], offset: impl Fn(usize, usize) -> f64, matrix: &[[f64; 3]; 3]) -> Rows {
        let taps = |axis: usize| -> Vec<Taps> { (0..size[axis]).map(|i| self.taps(axis, offset(axis, i))).collect() };
        let narrow = |axis: usize| taps(axis).iter().map(|t| (t.first, t.weights.map(|w| w as f32))).collect();
        let along_x = taps(2);
        let mut runs: Vec<Run> = Vec::new();
        for (x, tap) in along_x.iter().enumerate() {
            match runs.last_mut() {
                Some(run) if run.first == tap.first => run.to = x + 1,
                _ => runs.push(Run { from: x, to: x + 1, first: tap.first }),
            }
        }
        let [pz, py, px] = self.padded;
        let mut points = vec![0f32; pz * py * 3 * px];
        for (row, from) in points.chunks_exact_mut(3 * px).zip(self.points.chunks_exact(px)) {
            for (c, line) in row.chunks_exact_mut(px).enumerate() {
                for (value, u) in line.iter_mut().zip(from) {
                    *value = (0..3).map(|k| matrix[c][k] * u[k]).sum::<f64>() as f32;
                }
            }
        }
        let weights_x = [0, 1, 2, 3].map(|k| along_x.iter().map(|t| t.weights[k] as f32).collect());
        Rows { points, padded: self.padded, weights_z: narrow(0), weights_y: narrow(1), weights_x, runs }
    }
}

/// In place: the largest of `n` values that are `stride` apart, ending at each.
fn widest(values: &mut [f32], stride: usize, n: usize) {
    // Doubling: windows of 2, then of 3 or 4.
    for step in [stride, (n - 2) * stride] {
        for i in (step..values.len()).rev() {
            values[i] = values[i].max(values[i - step]);
        }
    }
}

/// Voxels of a row that depend on the same control points.
struct Run {
    from: usize,
    to: usize,
    first: usize,
}

/// [`Lattice::rows`]: the splines are reduced along z once a slice and along y once a row; along x they are read off.
pub(super) struct Rows {
    /// `[z][y][component][x]`.
    points: Vec<f32>,
    padded: [usize; 3],
    weights_z: Vec<(usize, [f32; 4])>,
    weights_y: Vec<(usize, [f32; 4])>,
    weights_x: [Vec<f32>; 4],
    runs: Vec<Run>,
}

impl Rows {
    /// Control points of slice `z`, for [`Rows::add`].
    pub fn slice(&self, z: usize, slice: &mut Vec<f32>) {
        blend(&self.points, self.padded[1] * 3 * self.padded[2], self.weights_z[z], slice);
    }

    /// Adds the displacements of row `y` to `row`, component by component.
    pub fn add(&self, slice: &[f32], y: usize, line: &mut Vec<f32>, row: [&mut [f32]; 3]) {
        let px = self.padded[2];
        blend(slice, 3 * px, self.weights_y[y], line);
        for (values, points) in row.into_iter().zip(line.chunks_exact(px)) {
            for run in &self.runs {
                let [a, b, c, d] = [0, 1, 2, 3].map(|k| points[run.first + k]);
                let [wa, wb, wc, wd] = self.weights_x.each_ref().map(|w| &w[run.from..run.to]);
                for ((((v, wa), wb), wc), wd) in values[run.from..run.to].iter_mut().zip(wa).zip(wb).zip(wc).zip(wd) {
                    *v += a * wa + b * wb + c * wc + d * wd;
                }
            }
        }
    }
}

/// Weighted sum of four neighbouring blocks of `len` values.
fn blend(from: &[f32], len: usize, (first, weights): (usize, [f32; 4]), out: &mut Vec<f32>) {
    out.clear();
    out.resize(len, 0.0);
    for (k, weight) in weights.into_iter().enumerate() {
        let block = &from[(first + k) * len..(first + k + 1) * len];
        out.iter_mut().zip(block).for_each(|(sum, v)| *sum += weight * v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    fn config(amplitude_mm: f64) -> config::Elastic {
        config::Elastic { probability: 1.0, control: [7, 6, 7], spacing_mm: [20.0, 24.0, 21.0], amplitude_mm }
    }

    #[test]
    fn one_control_point_moves_its_place_by_the_known_share() {
        let mut lattice = Deformation { control: [1; 3], spacing_mm: [10.0; 3], amplitude_mm: 0.0, seed: 0 }.lattice();
        let middle = lattice.points.len() / 2;
        lattice.points[middle] = [27.0, 0.0, -2.7];
        // The cubic B-spline is 2/3 at its middle and 1/6 one spacing off.
        assert!((lattice.at([0.0; 3]).0[0] - 8.0).abs() < 1e-12);
        assert!((lattice.at([0.0; 3]).0[2] + 0.8).abs() < 1e-12);
        assert!((lattice.at([10.0, 0.0, 0.0]).0[0] - 2.0).abs() < 1e-12);
        assert_eq!(lattice.at([0.0, 20.0, 0.0]).0, [0.0; 3]);
        assert_eq!(lattice.at([500.0, 0.0, 0.0]).0, [0.0; 3]);
    }

    #[verifies("FR-002")]
    #[test]
    fn no_draw_is_steeper_than_half_a_millimetre_per_millimetre_and_the_bound_is_no_idle_one() {
        for seed in 0..10 {
            let drawn = Deformation::draw(&config(20.0), seed);
            assert!(drawn.amplitude_mm > 2.0 && drawn.amplitude_mm < 20.0, "{drawn:?}");
            let lattice = drawn.lattice();
            let mut steepest: f64 = 0.0;
            for i in 0..20_000u64 {
                let at = [0, 1, 2].map(|axis| 160.0 * (unit(hash(seed, i), axis) - 0.5));
                let (u, gradient) = lattice.at(at);
                for (c, row) in gradient.iter().enumerate() {
                    steepest = steepest.max(row.iter().map(|v| v.abs()).sum());
                    // The gradient is that of the displacement.
                    for axis in 0..3 {
                        let mut near = at;
                        near[axis] += 1e-5;
                        assert!(((lattice.at(near).0[c] - u[c]) / 1e-5 - row[axis]).abs() < 1e-5);
                    }
                }
            }
            assert!(steepest <= 0.5 && steepest > 0.2, "seed {seed}: {steepest}");
        }
        let gentle = Deformation::draw(&config(0.5), 1);
        assert_eq!(gentle.amplitude_mm, 0.5);
    }

    #[test]
    fn rows_agree_with_single_places() {
        let lattice = Deformation::draw(&config(4.0), 3).lattice();
        let size = [40, 30, 50];
        let offset = |axis: usize, i: usize| [2.5, 3.0, 5.0][axis] * (i as f64 - 0.5 * (size[axis] as f64 - 1.0));
        let matrix = [[0.5, 0.0, 0.1], [0.0, -1.0, 0.0], [0.2, 0.0, 2.0]];
        let rows = lattice.rows(size, offset, &matrix);
        let (mut slice, mut line) = (Vec::new(), Vec::new());
        for (z, y) in [(0, 0), (11, 15), (20, 7), (39, 29)] {
            rows.slice(z, &mut slice);
            let mut row = [vec![1.0; 50], vec![2.0; 50], vec![3.0; 50]];
            let [a, b, c] = &mut row;
            rows.add(&slice, y, &mut line, [a, b, c]);
            for (c, values) in row.iter().enumerate() {
                for (x, found) in values.iter().enumerate() {
                    let (u, _) = lattice.at([offset(0, z), offset(1, y), offset(2, x)]);
                    let want: f64 = (0..3).map(|k| matrix[c][k] * u[k]).sum::<f64>() + (c + 1) as f64;
                    assert!((f64::from(*found) - want).abs() < 1e-5);
                }
            }
        }
    }

    #[verifies("FR-002")]
    #[test]
    fn a_record_that_would_fold_tissue_is_refused() {
        let drawn = Deformation::draw(&config(20.0), 4);
        let text = serde_yaml::to_string(&drawn).unwrap();
        assert_eq!(serde_yaml::from_str::<Deformation>(&text).unwrap(), drawn);
        let steeper = text.replace(&format!("amplitude_mm: {}", drawn.amplitude_mm), "amplitude_mm: 20.0");
        let error = serde_yaml::from_str::<Deformation>(&steeper).unwrap_err().to_string();
        assert!(error.contains("not more than 0.5"), "{error}");
    }
}
