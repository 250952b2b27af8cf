//! Exact Euclidean distance on anisotropic grids: Felzenszwalb & Huttenlocher, Distance Transforms of Sampled
//! Functions, Theory of Computing 8 (2012): the lower envelope of parabolas, one axis after the other.

use lungai_ct::Spacing;
use ndarray::{Array3, ArrayView3, Axis};
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
    // x: the nearest mask voxel of a row, seen from the left and from the right. y: envelopes within the slice.
    out.axis_iter_mut(Axis(0)).into_par_iter().zip(mask.axis_iter(Axis(0)).into_par_iter()).for_each(
        |(mut slice, mask)| {
            for (mut row, mask) in slice.rows_mut().into_iter().zip(mask.rows()) {
                let mut since = f64::INFINITY;
                for (voxel, inside) in row.iter_mut().zip(mask) {
                    since = if *inside { 0.0 } else { since + sx };
                    *voxel = (since * since) as f32;
                }
                since = f64::INFINITY;
                for (voxel, inside) in row.iter_mut().zip(mask).rev() {
                    since = if *inside { 0.0 } else { since + sx };
                    *voxel = voxel.min((since * since) as f32);
                }
            }
            let mut envelope = Envelope::new(ny, sy);
            columns(slice.as_slice_mut().expect("slices are contiguous"), nx, &mut envelope);
        },
    );
    // z: each y is a (z, x) plane of its own; it is copied so that its columns lie together.
    out.axis_iter_mut(Axis(1)).into_par_iter().for_each(|mut plane| {
        let mut copy: Vec<f32> = plane.iter().copied().collect();
        let mut envelope = Envelope::new(nz, sz);
        columns(&mut copy, nx, &mut envelope);
        plane.iter_mut().zip(copy).for_each(|(voxel, distance)| *voxel = distance);
    });
    out
}

/// Distance in mm from each voxel centre to the nearest voxel centre of `mask`; see [`squared_mm2`].
pub fn mm(mask: ArrayView3<'_, bool>, spacing: Spacing) -> Array3<f32> {
    let mut squared = squared_mm2(mask, spacing);
    squared.par_mapv_inplace(f32::sqrt);
    squared
}

/// Transforms each column of a plane of rows of `nx` values, eight columns at a time for the cache's sake.
fn columns(plane: &mut [f32], nx: usize, envelope: &mut Envelope) {
    const BLOCK: usize = 8;
    let n = plane.len() / nx;
    let mut block = vec![0f32; BLOCK * n];
    for x in (0..nx).step_by(BLOCK) {
        let width = BLOCK.min(nx - x);
        for (i, row) in plane.chunks_exact(nx).enumerate() {
            for k in 0..width {
                block[k * n + i] = row[x + k];
            }
        }
        for column in block.chunks_exact_mut(n).take(width) {
            envelope.transform(column);
        }
        for (i, row) in plane.chunks_exact_mut(nx).enumerate() {
            for k in 0..width {
                row[x + k] = block[k * n + i];
            }
        }
    }
}

/// Lower envelope of parabolas along one line, with its scratch space.
struct Envelope {
    step: f64,
    /// Positions and heights of the parabolas that are lowest somewhere, and where each begins to be.
    parabolas: Vec<(f64, f64, f64)>,
}

impl Envelope {
    fn new(n: usize, step: f64) -> Self {
        Self { step, parabolas: Vec::with_capacity(n) }
    }

    fn transform(&mut self, line: &mut [f32]) {
        self.parabolas.clear();
        for (i, height) in line.iter().enumerate() {
            if height.is_infinite() {
                continue;
            }
            let (at, height) = (i as f64 * self.step, f64::from(*height));
            let mut begins = f64::NEG_INFINITY;
            while let Some((other_at, other_height, other_begins)) = self.parabolas.last() {
                begins = ((height + at * at) - (other_height + other_at * other_at)) / (2.0 * (at - other_at));
                if begins > *other_begins {
                    break;
                }
                self.parabolas.pop();
                begins = f64::NEG_INFINITY;
            }
            self.parabolas.push((at, height, begins));
        }
        if self.parabolas.is_empty() {
            return;
        }
        let mut current = 0;
        for (i, value) in line.iter_mut().enumerate() {
            let at = i as f64 * self.step;
            while self.parabolas.get(current + 1).is_some_and(|next| next.2 <= at) {
                current += 1;
            }
            let (centre, height, _) = self.parabolas[current];
            *value = ((at - centre).powi(2) + height) as f32;
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
        }
    }
}
