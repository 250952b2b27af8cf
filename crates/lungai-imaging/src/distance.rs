//! Exact Euclidean distance on anisotropic grids: Felzenszwalb & Huttenlocher, Distance Transforms of Sampled
//! Functions, Theory of Computing 8 (2012): the lower envelope of parabolas, one axis after the other.

use lungai_ct::Spacing;
use ndarray::{Array3, ArrayView1, ArrayView3, ArrayViewMut2, Axis, Zip};
use pulp::Arch;
use rayon::prelude::*;

/// Squared distance in mm2 from each voxel centre to the nearest voxel centre of `mask`; infinite where `mask`
/// is empty. What lies outside of the array is unknown and never nearest.
pub fn squared_mm2(mask: ArrayView3<'_, bool>, spacing: Spacing) -> Array3<f32> {
    let [sz, sy, sx] = spacing.zyx_mm();
    let (nz, ny, nx) = mask.dim();
    let mut out = Array3::from_elem((nz, ny, nx), f32::INFINITY);
    if out.is_empty() {
        return out;
    }
    // x: the nearest mask voxel of a row. y: envelopes within the slice.
    let squares = squares(nx, sx);
    out.outer_iter_mut().into_par_iter().zip(mask.outer_iter().into_par_iter()).for_each_init(
        || Envelope::new(ny, sy),
        |envelope, (mut slice, mask)| {
            for (mut row, mask) in slice.rows_mut().into_iter().zip(mask.rows()) {
                along_row(mask, &squares, row.as_slice_mut().expect("rows are contiguous"));
            }
            columns(slice, envelope);
        },
    );
    // z: each y is a (z, x) plane of its own.
    let planes = out.axis_iter_mut(Axis(1)).into_par_iter();
    planes.for_each_init(|| Envelope::new(nz, sz), |envelope, plane| columns(plane, envelope));
    out
}

/// Distance in mm from each voxel centre to the nearest voxel centre of `mask`; see [`squared_mm2`].
pub fn mm(mask: ArrayView3<'_, bool>, spacing: Spacing) -> Array3<f32> {
    let mut squared = squared_mm2(mask, spacing);
    squared.par_mapv_inplace(f32::sqrt);
    squared
}

/// Voxels of which a voxel of `mask` lies within a distance whose square is `limit_mm2`, as [`squared_mm2`] would find
/// it. For distances of few voxels trying all of them is faster than envelopes.
pub(crate) fn within(mask: ArrayView3<'_, bool>, spacing: Spacing, limit_mm2: f32) -> Array3<bool> {
    const FEW: usize = 24;
    let steps = spacing.zyx_mm();
    let (nz, ny, nx) = mask.dim();
    let reach = |axis: usize, n: usize| ((f64::from(limit_mm2).sqrt() / steps[axis]) as usize).min(n.saturating_sub(1));
    let (rz, ry) = (reach(0, nz), reach(1, ny));
    if rz.max(ry) > FEW || mask.is_empty() {
        return Zip::from(&squared_mm2(mask, spacing)).par_map_collect(|d| *d <= limit_mm2);
    }
    let arch = Arch::new();
    let (far_z, far_y) = (squares(nz, steps[0]), squares(ny, steps[1]));
    let squares = squares(nx, steps[2]);
    let mut near = Array3::from_elem((nz, ny, nx), f32::INFINITY);
    near.outer_iter_mut().into_par_iter().zip(mask.outer_iter().into_par_iter()).for_each_init(
        || vec![0f32; ny * nx],
        |rows, (mut slice, mask)| {
            for (row, mask) in rows.chunks_exact_mut(nx).zip(mask.rows()) {
                along_row(mask, &squares, row);
            }
            arch.dispatch(|| {
                let slice = slice.as_slice_mut().expect("slices are contiguous");
                for (y, out) in slice.chunks_exact_mut(nx).enumerate() {
                    for other in y.saturating_sub(ry)..=(y + ry).min(ny - 1) {
                        lower(out, &rows[other * nx..][..nx], far_y[other.abs_diff(y)]);
                    }
                }
            });
        },
    );
    let mut out = Array3::from_elem((nz, ny, nx), false);
    out.outer_iter_mut().into_par_iter().enumerate().for_each_init(
        || vec![0f32; ny * nx],
        |nearest, (z, mut slice)| {
            arch.dispatch(|| {
                nearest.fill(f32::INFINITY);
                for other in z.saturating_sub(rz)..=(z + rz).min(nz - 1) {
                    let plane = near.index_axis(Axis(0), other);
                    lower(nearest, plane.to_slice().expect("slices are contiguous"), far_z[other.abs_diff(z)]);
                }
                let out = slice.as_slice_mut().expect("slices are contiguous");
                out.iter_mut().zip(&*nearest).for_each(|(out, d)| *out = *d <= limit_mm2);
            });
        },
    );
    out
}

#[inline(always)]
fn lower(out: &mut [f32], other: &[f32], by: f32) {
    // Not `f32::min`: its care for NaN takes three instructions more.
    out.iter_mut().zip(other).for_each(|(out, other)| *out = if other + by < *out { other + by } else { *out });
}

/// Squares of 0, 1, ... steps.
fn squares(n: usize, step: f64) -> Vec<f32> {
    (0..n).map(|k| (k as f64 * step).powi(2) as f32).collect()
}

/// The square of the distance to the nearest mask voxel of the row, seen from the left and from the right.
fn along_row(mask: ArrayView1<'_, bool>, squares: &[f32], row: &mut [f32]) {
    let mut since = usize::MAX;
    for (voxel, inside) in row.iter_mut().zip(mask) {
        since = if *inside { 0 } else { since.saturating_add(1) };
        *voxel = squares.get(since).copied().unwrap_or(f32::INFINITY);
    }
    since = usize::MAX;
    for (voxel, inside) in row.iter_mut().zip(mask).rev() {
        since = if *inside { 0 } else { since.saturating_add(1) };
        *voxel = voxel.min(squares.get(since).copied().unwrap_or(f32::INFINITY));
    }
}

/// Transforms each column of a plane whose rows are contiguous, a cache line of columns at a time.
fn columns(mut plane: ArrayViewMut2<'_, f32>, envelope: &mut Envelope) {
    const BLOCK: usize = 16;
    let (n, nx) = plane.dim();
    let mut block = std::mem::take(&mut envelope.block);
    block.resize(BLOCK * n, 0.0);
    for x in (0..nx).step_by(BLOCK) {
        let width = BLOCK.min(nx - x);
        for (i, row) in plane.rows().into_iter().enumerate() {
            let row = row.to_slice().expect("rows are contiguous");
            for (k, value) in row[x..x + width].iter().enumerate() {
                block[k * n + i] = *value;
            }
        }
        for column in block.chunks_exact_mut(n).take(width) {
            envelope.transform(column);
        }
        for (i, mut row) in plane.rows_mut().into_iter().enumerate() {
            let row = row.as_slice_mut().expect("rows are contiguous");
            for (k, value) in row[x..x + width].iter_mut().enumerate() {
                *value = block[k * n + i];
            }
        }
    }
    envelope.block = block;
}

/// Lower envelope of parabolas along one line, with its tables and scratch space. Positions are in voxels.
struct Envelope {
    step2: f64,
    /// `1 / (2 k step^2)`: a division for each pair of parabolas would take longer than all the rest.
    inverse: Vec<f64>,
    /// The parabolas that are lowest somewhere.
    parabolas: Vec<Parabola>,
    block: Vec<f32>,
}

#[derive(Clone, Copy)]
struct Parabola {
    at: usize,
    height: f64,
    /// From where it is lowest.
    begins: f64,
}

impl Envelope {
    fn new(n: usize, step: f64) -> Self {
        let inverse = (0..n.max(1)).map(|k| 0.5 / (k as f64 * step * step)).collect();
        Self { step2: step * step, inverse, parabolas: Vec::with_capacity(n), block: Vec::new() }
    }

    fn transform(&mut self, line: &mut [f32]) {
        // A mask voxel (0) hides what lies behind it: the stretches between are transformed one by one.
        let mut from = 0;
        while from < line.len() {
            if line[from] == 0.0 {
                from += 1;
                continue;
            }
            let to = line[from..].iter().position(|v| *v == 0.0).map_or(line.len(), |k| from + k);
            self.stretch(line, from.saturating_sub(1), (to + 1).min(line.len()));
            from = to;
        }
    }

    fn stretch(&mut self, line: &mut [f32], from: usize, to: usize) {
        self.parabolas.clear();
        for (at, height) in line[from..to].iter().enumerate() {
            if height.is_infinite() {
                continue;
            }
            let (at, height) = (from + at, f64::from(*height));
            let mut begins = f64::NEG_INFINITY;
            while let Some(other) = self.parabolas.last() {
                begins = (height - other.height) * self.inverse[at - other.at] + 0.5 * (at + other.at) as f64;
                if begins > other.begins {
                    break;
                }
                self.parabolas.pop();
                begins = f64::NEG_INFINITY;
            }
            self.parabolas.push(Parabola { at, height, begins });
        }
        let mut ends = to;
        for parabola in self.parabolas.iter().rev() {
            // `as` takes negative infinity to 0.
            let begins = (parabola.begins.ceil() as usize).max(from);
            for (k, value) in line[begins.min(ends)..ends].iter_mut().enumerate() {
                let steps = (begins + k) as f64 - parabola.at as f64;
                *value = (steps * steps * self.step2 + parabola.height) as f32;
            }
            ends = ends.min(begins);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spacing(zyx: [f64; 3]) -> Spacing {
        Spacing::new(zyx).unwrap()
    }

    #[test]
    fn distances_are_in_mm_along_each_axis() {
        let mut mask = Array3::from_elem((5, 5, 5), false);
        mask[[2, 2, 2]] = true;
        let d = mm(mask.view(), spacing([2.5, 0.7, 0.5]));
        assert_eq!(d[[4, 2, 2]], 5.0);
        assert!((d[[2, 0, 2]] - 1.4).abs() < 1e-6);
        assert_eq!(d[[2, 2, 1]], 0.5);
        assert!((d[[1, 1, 0]] - (2.5f32 * 2.5 + 0.49 + 1.0).sqrt()).abs() < 1e-5);
    }

    #[test]
    fn nothing_is_near_an_empty_mask() {
        let mask = Array3::from_elem((2, 3, 4), false);
        assert!(squared_mm2(mask.view(), spacing([1.0; 3])).iter().all(|d| d.is_infinite()));
    }

    proptest! {
        #[test]
        fn equals_the_search_over_all_pairs(seeds in proptest::collection::vec((0..6usize, 0..7usize, 0..9usize), 1..6)) {
            let zyx = [2.0, 0.75, 1.25];
            let mut mask = Array3::from_elem((6, 7, 9), false);
            for s in &seeds {
                mask[*s] = true;
            }
            let fast = squared_mm2(mask.view(), spacing(zyx));
            for ((z, y, x), d) in fast.indexed_iter() {
                let brute = seeds.iter().map(|s| {
                    let off = |a: usize, b: usize, mm: f64| (a as f64 - b as f64) * mm;
                    off(z, s.0, zyx[0]).powi(2) + off(y, s.1, zyx[1]).powi(2) + off(x, s.2, zyx[2]).powi(2)
                }).fold(f64::INFINITY, f64::min);
                prop_assert!((f64::from(*d) - brute).abs() < 1e-4);
            }
            for limit in [0.5, 4.0001, 9.0001, 1e4] {
                prop_assert_eq!(within(mask.view(), spacing(zyx), limit), fast.mapv(|d| d <= limit));
            }
        }
    }
}
