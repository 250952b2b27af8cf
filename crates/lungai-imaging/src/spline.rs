//! Cubic B-splines through voxels: M. Unser, Splines: a perfect fit for signal and image processing, IEEE Signal
//! Processing Magazine 16 (1999). Beyond its ends a row continues as its mirror image about the last voxel.

use ndarray::{Array3, ArrayView3, ArrayViewMut2, Axis, Zip};
use pulp::Arch;
use rayon::prelude::*;

/// The recursive filter's only pole, `sqrt(3) - 2`.
const POLE: f64 = -0.267_949_192_431_122_7;
/// `(1 - pole) (1 - 1 / pole)`.
const GAIN: f64 = 6.0;
/// Voxels after which the pole's power is below the precision of `f64`.
const HORIZON: usize = 28;

/// The cubic B-spline, 0 from a distance of 2.
pub fn kernel(distance: f64) -> f64 {
    match distance.abs() {
        d if d < 1.0 => (4.0 - 6.0 * d * d + 3.0 * d * d * d) / 6.0,
        d if d < 2.0 => (2.0 - d).powi(3) / 6.0,
        _ => 0.0,
    }
}

/// The voxel of a row of `len` that stands for position `i`.
pub fn mirror(i: i64, len: i64) -> i64 {
    if len == 1 {
        return 0;
    }
    let i = i.rem_euclid(2 * len - 2);
    i.min(2 * len - 2 - i)
}

/// Four weights from voxel `first` on that reach beyond a row of `len`, as fewer within it: the first voxel, weights, how many.
pub fn folded(first: i64, weights: [f32; 4], len: usize) -> (usize, [f32; 4], usize) {
    let at = |k: usize| mirror(first + k as i64, len as i64) as usize;
    let low = (0..4).map(at).min().unwrap_or(0);
    let mut inner = [0.0; 4];
    let mut count = 0;
    for (k, weight) in weights.iter().enumerate() {
        let i = at(k) - low;
        inner[i] += weight;
        count = count.max(i + 1);
    }
    (low, inner, count)
}

/// Weights of the B-splines at each voxel, so that their sum goes through `values`.
pub fn coefficients<T: Copy + Into<f32> + Send + Sync>(values: ArrayView3<'_, T>) -> Array3<f32> {
    let mut out = Array3::zeros(values.raw_dim()); // in standard layout, whatever that of the values
    Zip::from(&mut out).and(values).par_for_each(|out, v| *out = (*v).into());
    let arch = Arch::new();
    out.axis_iter_mut(Axis(1)).into_par_iter().for_each(|plane| arch.dispatch(|| filter(plane)));
    out.axis_iter_mut(Axis(0)).into_par_iter().for_each(|mut slice| {
        arch.dispatch(|| filter(slice.view_mut()));
        // Along x sixteen rows at a time, turned so that they lie side by side.
        for mut rows in slice.axis_chunks_iter_mut(Axis(0), 16) {
            let mut turned = rows.t().as_standard_layout().into_owned();
            arch.dispatch(|| filter(turned.view_mut()));
            rows.assign(&turned.t());
        }
    });
    out
}

/// The filter along the first axis, forwards and back; rows must be contiguous.
#[inline(always)]
fn filter(mut lines: ArrayViewMut2<'_, f32>) {
    let (n, width) = lines.dim();
    if n < 2 {
        return;
    }
    let (pole, gain) = (POLE as f32, GAIN as f32);
    let mut previous = vec![0f32; width];
    // Whole periods of the mirrored row: 2 n - 2 voxels.
    let period = 2 * n - 2;
    let scale = GAIN / (1.0 - POLE.powi(period as i32));
    for k in 0..period.min(HORIZON) {
        let weight = (scale * POLE.powi(k as i32)) as f32;
        let row = lines.row(mirror(k as i64, n as i64) as usize);
        previous.iter_mut().zip(row).for_each(|(sum, v)| *sum += weight * v);
    }
    lines.row_mut(0).iter_mut().zip(&previous).for_each(|(v, sum)| *v = *sum);
    for mut row in lines.rows_mut().into_iter().skip(1) {
        let row = row.as_slice_mut().expect("contiguous rows");
        row.iter_mut().zip(&mut previous).for_each(|(v, previous)| {
            *v = gain * *v + pole * *previous;
            *previous = *v;
        });
    }
    let end = (POLE / (POLE * POLE - 1.0)) as f32;
    let before: Vec<f32> = lines.row(n - 2).to_vec();
    lines.row_mut(n - 1).iter_mut().zip(&before).zip(&mut previous).for_each(|((v, before), previous)| {
        *v = end * (*v + pole * before);
        *previous = *v;
    });
    for mut row in lines.rows_mut().into_iter().rev().skip(1) {
        let row = row.as_slice_mut().expect("contiguous rows");
        row.iter_mut().zip(&mut previous).for_each(|(v, previous)| {
            *v = pole * (*previous - *v);
            *previous = *v;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_row_mirrors_about_its_ends() {
        assert_eq!([-2, -1, 0, 2, 3, 4, 5].map(|i| mirror(i, 3)), [2, 1, 0, 2, 1, 0, 1]);
        assert_eq!(mirror(-7, 1), 0);
        assert_eq!(folded(-1, [1.0, 2.0, 3.0, 4.0], 5), (0, [2.0, 4.0, 4.0, 0.0], 3));
    }

    proptest! {
        #[test]
        fn the_spline_goes_through_every_voxel(
            size in (1..5usize, 1..6usize, 1..20usize),
            values in prop::collection::vec(-1024.0..3000.0f32, 400),
        ) {
            let voxels = Array3::from_shape_fn(size, |(z, y, x)| values[(z * 5 + y) * 20 + x]);
            let c = coefficients(voxels.view());
            for ((z, y, x), want) in voxels.indexed_iter() {
                let mut sum = 0.0;
                for (k, j, i) in (0..27).map(|n| (n / 9 - 1, n / 3 % 3 - 1, n % 3 - 1)) {
                    let at = [(z, k, size.0), (y, j, size.1), (x, i, size.2)]
                        .map(|(at, off, n)| mirror(at as i64 + off, n as i64) as usize);
                    sum += kernel(k as f64) * kernel(j as f64) * kernel(i as f64) * f64::from(c[at]);
                }
                prop_assert!((sum - f64::from(*want)).abs() < 0.02, "{sum} for {want}");
            }
        }
    }
}
