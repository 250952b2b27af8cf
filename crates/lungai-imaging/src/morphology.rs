//! Growing, shrinking and filling masks with balls measured in mm, by exact distances.
//!
//! What lies outside of the array is unknown: it neither grows into a mask nor erodes it.

use crate::components::{Connectivity, components};
use crate::distance::squared_mm2;
use lungai_ct::Spacing;
use ndarray::{Array3, ArrayView3, Zip};

/// Voxels within `radius_mm` of `mask`.
pub fn dilate_mm(mask: ArrayView3<'_, bool>, spacing: Spacing, radius_mm: f64) -> Array3<bool> {
    let limit = limit(radius_mm);
    Zip::from(&squared_mm2(mask, spacing)).par_map_collect(|d| *d <= limit)
}

/// Voxels of `mask` further than `radius_mm` from every voxel outside of it.
pub fn erode_mm(mask: ArrayView3<'_, bool>, spacing: Spacing, radius_mm: f64) -> Array3<bool> {
    let limit = limit(radius_mm);
    let outside = Zip::from(mask).par_map_collect(|inside| !inside);
    Zip::from(&squared_mm2(outside.view(), spacing)).par_map_collect(|d| *d > limit)
}

/// Dilation, then erosion: fills gaps that a ball of `radius_mm` does not fit into.
pub fn close_mm(mask: ArrayView3<'_, bool>, spacing: Spacing, radius_mm: f64) -> Array3<bool> {
    erode_mm(dilate_mm(mask, spacing, radius_mm).view(), spacing, radius_mm)
}

/// Erosion, then dilation: keeps only what a ball of `radius_mm` fits into.
pub fn open_mm(mask: ArrayView3<'_, bool>, spacing: Spacing, radius_mm: f64) -> Array3<bool> {
    dilate_mm(erode_mm(mask, spacing, radius_mm).view(), spacing, radius_mm)
}

/// `mask` with every hole that has no way (over faces) to the array's border.
pub fn fill_holes(mask: ArrayView3<'_, bool>) -> Array3<bool> {
    let (nz, ny, nx) = mask.dim();
    let outside = Zip::from(mask).par_map_collect(|inside| !inside);
    let gaps = components(outside.view(), Connectivity::Faces);
    let holes = gaps.mask(|gap| (0..3).all(|axis| !gap.touches(axis, [nz, ny, nx])));
    Zip::from(mask).and(&holes).par_map_collect(|inside, hole| *inside || *hole)
}

/// A ball's squared radius, with tolerance for distances that were rounded to `f32`.
fn limit(radius_mm: f64) -> f32 {
    (radius_mm * radius_mm * (1.0 + 1e-6) + 1e-6) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::s;

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
}
