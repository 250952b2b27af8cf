//! Gaussian smoothing.

use lungai_ct::Spacing;
use lungai_trace::implements;
use ndarray::{Array3, ArrayView3};
use pulp::Arch;
use rayon::prelude::*;

/// Standard deviations after which the Gaussian is cut off, as in SciPy.
const TRUNCATE: f64 = 4.0;

/// `image` blurred by a Gaussian of standard deviation `sigma_mm`, the border's voxels repeated outwards; weights sum to
/// one. Along an axis whose `sigma_mm` is below a tenth of a voxel nothing is blurred.
///
/// # Panics
/// If `sigma_mm` is negative or not finite.
#[implements("FR-002")]
pub fn gaussian<T: Copy + Into<f32> + Send + Sync>(
    image: ArrayView3<'_, T>,
    spacing: Spacing,
    sigma_mm: f64,
) -> Array3<f32> {
    assert!(sigma_mm >= 0.0 && sigma_mm.is_finite(), "a standard deviation, not {sigma_mm} mm");
    let [tz, ty, tx] = spacing.zyx_mm().map(|step| weights(sigma_mm / step));
    let (nz, ny, nx) = image.dim();
    let mut out = Array3::zeros((nz, ny, nx));
    if out.is_empty() {
        return out;
    }
    let arch = Arch::new();
    let slices = out.as_slice_mut().expect("made in standard layout").par_chunks_mut(ny * nx).enumerate();
    // Each slice blurs its neighbours into a plane, the plane's rows into a row, and the row into the output.
    let scratch = || (vec![0f32; ny * nx], vec![0f32; nx + 2 * (tx.len() - 1)]);
    slices.for_each_init(scratch, |(plane, padded), (z, slice)| {
        arch.dispatch(|| {
            plane.fill(0.0);
            for_each_tap(&tz, z, nz, |at, weight| {
                for (sums, row) in plane.chunks_exact_mut(nx).zip(image.index_axis(ndarray::Axis(0), at).rows()) {
                    match row.to_slice() {
                        Some(row) => sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += weight * (*v).into()),
                        None => sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += weight * (*v).into()),
                    }
                }
            });
            let reach = tx.len() - 1;
            for (y, out) in slice.chunks_exact_mut(nx).enumerate() {
                let middle = &mut padded[reach..reach + nx];
                middle.fill(0.0);
                for_each_tap(&ty, y, ny, |at, weight| {
                    middle.iter_mut().zip(&plane[at * nx..][..nx]).for_each(|(sum, v)| *sum += weight * v);
                });
                let (first, last) = (padded[reach], padded[reach + nx - 1]);
                padded[..reach].fill(first);
                padded[reach + nx..].fill(last);
                out.iter_mut().zip(&padded[reach..]).for_each(|(voxel, v)| *voxel = tx[0] * v);
                for (k, weight) in tx.iter().enumerate().skip(1) {
                    let (left, right) = (&padded[reach - k..][..nx], &padded[reach + k..][..nx]);
                    out.iter_mut().zip(left.iter().zip(right)).for_each(|(voxel, (l, r))| *voxel += weight * (l + r));
                }
            }
        });
    });
    out
}

/// Weights of the voxel itself, its neighbours, their neighbours, ...
fn weights(sigma: f64) -> Vec<f32> {
    if sigma < 0.1 {
        return vec![1.0];
    }
    let reach = (TRUNCATE * sigma + 0.5) as usize;
    let half: Vec<f64> = (0..=reach).map(|k| (-0.5 * (k as f64 / sigma).powi(2)).exp()).collect();
    let sum = 2.0 * half.iter().sum::<f64>() - half[0];
    half.iter().map(|w| (w / sum) as f32).collect()
}

/// Voxels that `index` of `len` is blended from, with their weights.
#[inline(always)]
fn for_each_tap(weights: &[f32], index: usize, len: usize, mut work: impl FnMut(usize, f32)) {
    let reach = weights.len() - 1;
    let (mut before, mut after) = (0.0, 0.0); // what falls beyond the ends belongs to the last voxels
    for (k, weight) in weights.iter().enumerate().skip(1) {
        before += if index < k { *weight } else { 0.0 };
        after += if index + k >= len { *weight } else { 0.0 };
    }
    for at in index.saturating_sub(reach)..=(index + reach).min(len - 1) {
        let mut weight = weights[at.abs_diff(index)];
        weight += if at == 0 { before } else { 0.0 };
        weight += if at + 1 == len { after } else { 0.0 };
        work(at, weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    #[verifies("FR-002")]
    #[test]
    fn a_point_becomes_a_gaussian_in_mm() {
        let mut point = Array3::<f32>::zeros((31, 31, 31));
        point[[15, 15, 15]] = 1000.0;
        let out = gaussian(point.view(), Spacing::new([2.0, 1.0, 0.8]).unwrap(), 2.0);
        assert!((out.sum() - 1000.0).abs() < 0.01);
        // One standard deviation away along z (1 voxel) and along y (2 voxels) it is lower by exp(-1/2).
        for at in [[16, 15, 15], [15, 17, 15], [14, 15, 15]] {
            assert!((out[at] / out[[15, 15, 15]] - (-0.5f32).exp()).abs() < 1e-4);
        }
    }

    /// `scipy.ndimage.gaussian_filter([0, 0, 9, 0, 5], 1.0, mode="nearest")`, SciPy 1.17.
    #[test]
    fn a_row_equals_scipy() {
        let row = Array3::from_shape_vec((1, 1, 5), vec![0i16, 0, 9, 0, 5]).unwrap();
        let out = gaussian(row.view(), Spacing::new([1.0; 3]).unwrap(), 1.0);
        for (found, want) in out.iter().zip(SCIPY) {
            assert!((found - want).abs() < 1e-5, "{out:?}");
        }
    }

    const SCIPY: [f32; 5] = [0.486_589, 2.200_571, 3.883_275, 3.680_384, 3.983_279];

    #[test]
    fn an_even_image_stays_as_it_is_up_to_its_borders() {
        let image = Array3::from_elem((3, 4, 5), -860i16);
        let out = gaussian(image.view(), Spacing::new([1.25, 0.7, 0.7]).unwrap(), 5.0);
        assert!(out.iter().all(|v| (v + 860.0).abs() < 1e-3));
        assert_eq!(gaussian(image.view(), Spacing::new([1.0; 3]).unwrap(), 0.0), image.mapv(f32::from));
    }
}
