//! Growing, shrinking and filling masks: with balls measured in mm, by exact distances, and with boxes of voxels.
//!
//! What lies outside of the array is unknown: it neither grows into a mask nor erodes it.

use crate::components::{Connectivity, Runs};
use crate::distance::within;
use lungai_ct::Spacing;
use ndarray::{Array3, ArrayView3, ArrayViewMut2, Axis, Zip};
use pulp::Arch;
use rayon::prelude::*;

/// Voxels within `radius_mm` of `mask`.
pub fn dilate_mm(mask: ArrayView3<'_, bool>, spacing: Spacing, radius_mm: f64) -> Array3<bool> {
    within(mask, spacing, limit(radius_mm))
}

/// Voxels of `mask` further than `radius_mm` from every voxel outside of it.
pub fn erode_mm(mask: ArrayView3<'_, bool>, spacing: Spacing, radius_mm: f64) -> Array3<bool> {
    let outside = Zip::from(mask).par_map_collect(|inside| !inside);
    let mut near = within(outside.view(), spacing, limit(radius_mm));
    near.par_mapv_inplace(|near| !near);
    near
}

/// Dilation, then erosion: fills gaps that a ball of `radius_mm` does not fit into.
pub fn close_mm(mask: ArrayView3<'_, bool>, spacing: Spacing, radius_mm: f64) -> Array3<bool> {
    erode_mm(dilate_mm(mask, spacing, radius_mm).view(), spacing, radius_mm)
}

/// Erosion, then dilation: keeps only what a ball of `radius_mm` fits into.
pub fn open_mm(mask: ArrayView3<'_, bool>, spacing: Spacing, radius_mm: f64) -> Array3<bool> {
    dilate_mm(erode_mm(mask, spacing, radius_mm).view(), spacing, radius_mm)
}

/// Voxels of the boxes that reach `reach` voxels `[z, y, x]` to both sides of each voxel of `mask`.
pub fn dilate_box(mask: ArrayView3<'_, bool>, reach: [usize; 3]) -> Array3<bool> {
    let mut out = mask.as_standard_layout().into_owned();
    let arch = Arch::new();
    // Within the slices first, then each (z, x) plane.
    out.outer_iter_mut().into_par_iter().for_each(|slice| {
        arch.dispatch(|| {
            let mut slice = slice;
            for mut row in slice.rows_mut().into_iter().filter(|_| reach[2] > 0) {
                spread_along(row.as_slice_mut().expect("rows are contiguous"), reach[2]);
            }
            spread_across(slice, reach[1]);
        });
    });
    out.axis_iter_mut(Axis(1)).into_par_iter().for_each(|plane| arch.dispatch(|| spread_across(plane, reach[0])));
    out
}

/// Voxels of `mask` whose box, see [`dilate_box`], lies within it.
pub fn erode_box(mask: ArrayView3<'_, bool>, reach: [usize; 3]) -> Array3<bool> {
    let outside = Zip::from(mask).par_map_collect(|inside| !inside);
    let mut grown = dilate_box(outside.view(), reach);
    grown.par_mapv_inplace(|outside| !outside);
    grown
}

/// Dilation, then erosion, with a box.
pub fn close_box(mask: ArrayView3<'_, bool>, reach: [usize; 3]) -> Array3<bool> {
    erode_box(dilate_box(mask, reach).view(), reach)
}

/// Erosion, then dilation, with a box.
pub fn open_box(mask: ArrayView3<'_, bool>, reach: [usize; 3]) -> Array3<bool> {
    dilate_box(erode_box(mask, reach).view(), reach)
}

/// Sets what lies within `reach` of a set element of the row.
#[inline(always)]
fn spread_along(row: &mut [bool], reach: usize) {
    let mut set_until = 0; // exclusive
    let mut seen = None;
    for x in 0..row.len() {
        if row[x] {
            // What lies before it, as far as it is not set yet.
            row[x.saturating_sub(reach).max(set_until)..x].fill(true);
            set_until = x + 1;
            seen = Some(x);
        } else if seen.is_some_and(|seen| x - seen <= reach) {
            row[x] = true;
            set_until = x + 1;
        }
    }
}

/// Sets what lies within `reach` rows of a set element of a plane whose rows are contiguous, by how long ago one was seen.
#[inline(always)]
fn spread_across(mut plane: ArrayViewMut2<'_, bool>, reach: usize) {
    if reach == 0 {
        return;
    }
    let reach = u16::try_from(reach).unwrap_or(u16::MAX - 1);
    let source = plane.to_owned();
    let mut since = vec![u16::MAX; plane.ncols()];
    let rows = source.nrows();
    // The way back starts with counts that are too large: they set nothing that the way there did not.
    for row in (0..rows).chain((0..rows).rev()) {
        let (mut out, source) = (plane.row_mut(row), source.row(row));
        let out = out.as_slice_mut().expect("rows are contiguous");
        let source = source.to_slice().expect("rows are contiguous");
        for ((out, source), since) in out.iter_mut().zip(source).zip(&mut since) {
            *since = if *source { 0 } else { since.saturating_add(1) };
            *out |= *since <= reach;
        }
    }
}

/// `mask` with every hole that has no way (over faces) to the array's border.
pub fn fill_holes(mask: ArrayView3<'_, bool>) -> Array3<bool> {
    let (nz, ny, nx) = mask.dim();
    let mut filled = mask.as_standard_layout().into_owned();
    filled.par_mapv_inplace(|inside| !inside);
    let gaps = Runs::of(filled.view(), Connectivity::Faces);
    gaps.keep(&mut filled, |gap| (0..3).any(|axis| gap.touches(axis, [nz, ny, nx])));
    filled.par_mapv_inplace(|open| !open);
    filled
}

/// A ball's squared radius, with tolerance for distances that were rounded to `f32`.
fn limit(radius_mm: f64) -> f32 {
    (radius_mm * radius_mm * (1.0 + 1e-6) + 1e-6) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::s;
    use proptest::prelude::*;

    fn unit() -> Spacing {
        Spacing::new([1.0; 3]).unwrap()
    }

    #[test]
    fn a_point_grows_to_a_ball_in_mm() {
        let mut mask = Array3::from_elem((9, 9, 9), false);
        mask[[4, 4, 4]] = true;
        // 33 lattice points lie within distance 2 of the origin.
        assert_eq!(dilate_mm(mask.view(), unit(), 2.0).iter().filter(|v| **v).count(), 33);
        // At 2 mm between slices: 13 in the plane, 1 above and 1 below.
        let thick = Spacing::new([2.0, 1.0, 1.0]).unwrap();
        assert_eq!(dilate_mm(mask.view(), thick, 2.0).iter().filter(|v| **v).count(), 15);
    }

    #[test]
    fn a_point_grows_to_a_box_and_back() {
        let mut mask = Array3::from_elem((9, 9, 9), false);
        mask[[4, 4, 4]] = true;
        let grown = dilate_box(mask.view(), [1, 2, 3]);
        let mut want = Array3::from_elem((9, 9, 9), false);
        want.slice_mut(s![3..6, 2..7, 1..8]).fill(true);
        assert_eq!(grown, want);
        assert_eq!(erode_box(grown.view(), [1, 2, 3]), mask);
        assert_eq!(close_box(mask.view(), [1, 2, 3]), mask);
        assert_eq!(open_box(grown.view(), [1, 2, 3]), grown);
        assert!(!open_box(mask.view(), [0, 0, 1])[[4, 4, 4]]);
    }

    proptest! {
        #[test]
        fn a_box_is_every_voxel_within_reach(
            bits in prop::collection::vec(prop::bool::weighted(0.1), 5 * 6 * 7),
            reach in (0..3usize, 0..4usize, 0..9usize),
        ) {
            let mask = Array3::from_shape_vec((5, 6, 7), bits).unwrap();
            let grown = dilate_box(mask.view(), [reach.0, reach.1, reach.2]);
            for ((z, y, x), found) in grown.indexed_iter() {
                let near = |at: usize, reach: usize, n: usize| at.saturating_sub(reach)..(at + reach + 1).min(n);
                let window = mask.slice(s![near(z, reach.0, 5), near(y, reach.1, 6), near(x, reach.2, 7)]);
                prop_assert_eq!(*found, window.iter().any(|v| *v));
            }
        }
    }

    #[test]
    fn erosion_undoes_dilation_of_a_box() {
        let mut mask = Array3::from_elem((11, 11, 11), false);
        mask.slice_mut(s![3..8, 3..8, 3..8]).fill(true);
        assert_eq!(close_mm(mask.view(), unit(), 2.0), mask);
        assert_eq!(erode_mm(mask.view(), unit(), 1.0).iter().filter(|v| **v).count(), 27);
    }

    #[test]
    fn closing_fills_a_notch_and_opening_drops_a_spike() {
        let mut mask = Array3::from_elem((15, 15, 15), false);
        mask.slice_mut(s![3..12, 3..12, 3..12]).fill(true);
        mask[[3, 7, 7]] = false;
        mask[[12, 7, 7]] = true;
        let closed = close_mm(mask.view(), unit(), 1.5);
        assert!(closed[[3, 7, 7]] && closed[[12, 7, 7]] && !closed[[12, 3, 3]]);
        let opened = open_mm(mask.view(), unit(), 1.5);
        assert!(!opened[[12, 7, 7]] && opened[[7, 7, 7]]);
    }

    #[test]
    fn a_mask_at_the_border_is_not_eroded_from_outside() {
        let mask = Array3::from_elem((3, 3, 3), true);
        assert_eq!(erode_mm(mask.view(), unit(), 5.0), mask);
    }

    #[test]
    fn enclosed_holes_fill_and_open_ones_stay() {
        let mut shell = Array3::from_elem((7, 7, 7), false);
        shell.slice_mut(s![1..6, 1..6, 1..6]).fill(true);
        shell.slice_mut(s![2..5, 2..5, 2..5]).fill(false);
        assert_eq!(fill_holes(shell.view()).iter().filter(|v| **v).count(), 125);
        shell[[1, 3, 3]] = false;
        assert_eq!(fill_holes(shell.view()), shell);
    }

    #[test]
    fn an_array_turned_in_memory_has_the_same_shapes() {
        let mut mask = Array3::from_elem((5, 6, 7), false);
        mask.slice_mut(s![1..4, 1..5, 2..6]).fill(true);
        mask[[2, 3, 3]] = false;
        let turned = mask.view().permuted_axes([2, 0, 1]);
        let check = |work: &dyn Fn(ArrayView3<'_, bool>) -> Array3<bool>| {
            assert_eq!(work(turned), work(mask.view()).permuted_axes([2, 0, 1]));
        };
        check(&|mask| fill_holes(mask));
        check(&|mask| dilate_mm(mask, unit(), 1.5));
        check(&|mask| erode_mm(mask, unit(), 1.0));
        check(&|mask| dilate_box(mask, [1; 3]));
        check(&|mask| dilate_mm(mask, unit(), 30.0));
    }
}
