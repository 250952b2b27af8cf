//! How well two masks agree.

use crate::MetricsError;
use lungai_ct::Spacing;
use lungai_imaging::distance;
use lungai_trace::implements;
use ndarray::{Array3, ArrayView3, Zip};

/// A mask against a reference on the same grid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overlap {
    /// Dice coefficient, `0..=1`.
    pub dice: f64,
    /// 95th percentile of the Hausdorff distance in mm; `None` where one of the masks is empty.
    pub hd95_mm: Option<f64>,
    /// Share of both surfaces that lies within the tolerance of the other, `0..=1`.
    pub surface_dice: f64,
    /// Volume of the reference in mm3.
    pub reference_mm3: f64,
    /// Volume of the mask in mm3.
    pub mask_mm3: f64,
}

/// Dice, HD95 and surface Dice at a tolerance, `[z, y, x]`.
///
/// A surface voxel has a neighbour over a face that is not in the mask (outside of the array nothing is). Distances run
/// between centres of surface voxels; HD95 is the larger of the two directed 95th percentiles, linear between ranks;
/// surface Dice is that of Nikolov et al. (arXiv:1809.04430) with voxels in place of surface elements. These are MONAI's
/// definitions; MedPy pools both directions for its HD95.
///
/// # Errors
/// Arrays of different size, two empty masks (nothing to agree on), a tolerance below zero.
#[implements("FR-003")]
pub fn overlap(
    reference: ArrayView3<'_, bool>,
    mask: ArrayView3<'_, bool>,
    spacing: Spacing,
    tolerance_mm: f64,
) -> Result<Overlap, MetricsError> {
    if reference.dim() != mask.dim() {
        return Err(MetricsError::Length { what: "voxels of two masks", left: reference.len(), right: mask.len() });
    }
    if !(tolerance_mm >= 0.0 && tolerance_mm.is_finite()) {
        return Err(MetricsError::Range { what: "tolerance in mm", value: tolerance_mm, range: "at or above 0" });
    }
    let count = |m: ArrayView3<'_, bool>| m.iter().filter(|inside| **inside).count();
    let (in_reference, in_mask) = (count(reference), count(mask));
    crate::error::at_least("voxels in either mask", in_reference + in_mask, 1)?;
    let common = Zip::from(reference).and(mask).fold(0usize, |n, a, b| n + usize::from(*a && *b));
    let voxel = spacing.voxel_mm3();

    let (to_mask, to_reference) = surface_distances(reference, mask, spacing);
    let near = |distances: &[f32]| distances.iter().filter(|d| f64::from(**d) <= tolerance_mm).count();
    let surface = to_mask.len() + to_reference.len();
    let hd95_mm = (in_reference > 0 && in_mask > 0).then(|| {
        let [a, b] = [&to_mask, &to_reference].map(|distances| percentile(distances.clone(), 0.95));
        a.max(b)
    });
    Ok(Overlap {
        dice: 2.0 * common as f64 / (in_reference + in_mask) as f64,
        hd95_mm,
        surface_dice: (near(&to_mask) + near(&to_reference)) as f64 / surface as f64,
        reference_mm3: in_reference as f64 * voxel,
        mask_mm3: in_mask as f64 * voxel,
    })
}

/// Distances in mm from each surface voxel of the reference to the mask's surface, and the other way round; infinite
/// where there is no other surface.
fn surface_distances(
    reference: ArrayView3<'_, bool>,
    mask: ArrayView3<'_, bool>,
    spacing: Spacing,
) -> (Vec<f32>, Vec<f32>) {
    // Only the box round both masks matters; on a chest CT it is a third of the volume.
    let Some(bounds) = bounding_box(reference, mask) else { return (Vec::new(), Vec::new()) };
    let cut = |m: ArrayView3<'_, bool>| {
        m.slice(ndarray::s![bounds[0].clone(), bounds[1].clone(), bounds[2].clone()]).to_owned()
    };
    let (a, b) = (surface_voxels(&cut(reference)), surface_voxels(&cut(mask)));
    let from = |to: &Array3<bool>, at: &Array3<bool>| {
        let distances = distance::mm(to.view(), spacing);
        at.iter().zip(&distances).filter(|(on, _)| **on).map(|(_, d)| *d).collect::<Vec<f32>>()
    };
    (from(&b, &a), from(&a, &b))
}

fn bounding_box(a: ArrayView3<'_, bool>, b: ArrayView3<'_, bool>) -> Option<[std::ops::Range<usize>; 3]> {
    let mut bounds: Option<[std::ops::Range<usize>; 3]> = None;
    for (((z, y, x), a), b) in a.indexed_iter().zip(b) {
        if *a || *b {
            let box_ = bounds.get_or_insert([z..z + 1, y..y + 1, x..x + 1]);
            for (range, at) in box_.iter_mut().zip([z, y, x]) {
                range.start = range.start.min(at);
                range.end = range.end.max(at + 1);
            }
        }
    }
    bounds
}

/// Voxels of `mask` with a neighbour over a face outside of it.
fn surface_voxels(mask: &Array3<bool>) -> Array3<bool> {
    let (nz, ny, nx) = mask.dim();
    Array3::from_shape_fn(mask.dim(), |(z, y, x)| {
        mask[[z, y, x]]
            && (z == 0
                || y == 0
                || x == 0
                || z + 1 == nz
                || y + 1 == ny
                || x + 1 == nx
                || !mask[[z - 1, y, x]]
                || !mask[[z + 1, y, x]]
                || !mask[[z, y - 1, x]]
                || !mask[[z, y + 1, x]]
                || !mask[[z, y, x - 1]]
                || !mask[[z, y, x + 1]])
    })
}

/// Linear between ranks, as `numpy.percentile`; values must not be empty.
fn percentile(mut values: Vec<f32>, share: f64) -> f64 {
    let rank = share * (values.len() - 1) as f64;
    let (_, low, above) = values.select_nth_unstable_by(rank as usize, f32::total_cmp);
    let (low, fraction) = (f64::from(*low), rank.fract());
    match above.iter().copied().min_by(f32::total_cmp) {
        Some(high) if fraction > 0.0 => low + fraction * (f64::from(high) - low),
        _ => low,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;
    use proptest::prelude::*;

    fn mm(zyx: [f64; 3]) -> Spacing {
        Spacing::new(zyx).unwrap()
    }

    fn block(from: [usize; 3], to: [usize; 3]) -> Array3<bool> {
        let inside = |at: usize, i: usize| (from[i]..to[i]).contains(&at);
        Array3::from_shape_fn((12, 12, 12), |(z, y, x)| inside(z, 0) && inside(y, 1) && inside(x, 2))
    }

    #[verifies("FR-003")]
    #[test]
    fn a_shifted_block_has_the_distances_of_its_shift() {
        // 4 x 4 x 4 voxels, moved by one along z, where voxels are 2.5 mm apart: overlap 48 of 64 each.
        let (a, b) = (block([2, 2, 2], [6, 6, 6]), block([3, 2, 2], [7, 6, 6]));
        let o = overlap(a.view(), b.view(), mm([2.5, 1.0, 1.0]), 1.0).unwrap();
        assert_eq!(o.dice, 0.75);
        // Of the 56 surface voxels the 16 of the leading face lie 2.5 mm from the other surface; the 4 inner ones of the
        // trailing face lie 1 mm from a side wall, all others on the surface.
        assert_eq!(o.hd95_mm, Some(2.5));
        assert_eq!((o.reference_mm3, o.mask_mm3), (160.0, 160.0));
        // Within 1 mm: all but that face, whichever way one looks.
        assert_eq!(o.surface_dice, 40.0 / 56.0);
        let wider = overlap(a.view(), b.view(), mm([2.5, 1.0, 1.0]), 2.5).unwrap();
        assert_eq!(wider.surface_dice, 1.0);
    }

    #[verifies("FR-003")]
    #[test]
    fn a_far_speck_shows_in_the_distance_only_when_it_is_large_enough() {
        let a = block([1, 1, 1], [9, 9, 9]);
        let mut b = a.clone();
        b[[11, 11, 11]] = true; // one of 297 surface voxels: beyond the 95th percentile
        let o = overlap(a.view(), b.view(), mm([1.0; 3]), 1.0).unwrap();
        assert_eq!(o.hd95_mm, Some(0.0));
        assert!((o.dice - 2.0 * 512.0 / 1025.0).abs() < 1e-15);
    }

    #[test]
    fn an_empty_mask_has_no_distance_and_two_empty_ones_no_overlap() {
        let (a, none) = (block([1, 1, 1], [3, 3, 3]), block([0; 3], [0; 3]));
        let o = overlap(a.view(), none.view(), mm([1.0; 3]), 1.0).unwrap();
        assert_eq!((o.dice, o.hd95_mm, o.surface_dice), (0.0, None, 0.0));
        assert!(overlap(none.view(), none.view(), mm([1.0; 3]), 1.0).is_err());
        let small = Array3::from_elem((1, 1, 1), true);
        assert!(overlap(a.view(), small.view(), mm([1.0; 3]), 1.0).is_err());
        assert!(overlap(a.view(), a.view(), mm([1.0; 3]), f64::NAN).is_err());
    }

    #[test]
    fn percentiles_are_numpys() {
        assert_eq!(percentile(vec![3.0, 1.0, 2.0, 4.0], 0.5), 2.5);
        assert!((percentile((0..11).map(|v| v as f32).collect(), 0.95) - 9.5).abs() < 1e-12);
        assert_eq!(percentile(vec![7.0], 0.95), 7.0);
    }

    proptest! {
        #[test]
        fn distances_are_those_of_all_pairs(
            a in prop::collection::vec(any::<bool>(), 60),
            b in prop::collection::vec(any::<bool>(), 60),
        ) {
            let shape = |v: Vec<bool>| Array3::from_shape_vec((3, 4, 5), v).unwrap();
            let (a, b) = (shape(a), shape(b));
            prop_assume!(a.iter().any(|v| *v) && b.iter().any(|v| *v));
            let spacing = mm([2.0, 0.7, 0.5]);
            let o = overlap(a.view(), b.view(), spacing, 0.6).unwrap();
            let turned = overlap(b.view(), a.view(), spacing, 0.6).unwrap();
            prop_assert_eq!((o.dice, o.hd95_mm, o.surface_dice), (turned.dice, turned.hd95_mm, turned.surface_dice));

            let points = |m: &Array3<bool>| {
                let on = surface_voxels(m);
                on.indexed_iter().filter(|(_, on)| **on).map(|((z, y, x), _)| [z, y, x]).collect::<Vec<_>>()
            };
            let gap = |p: &[usize; 3], q: &[usize; 3]| {
                let zyx = spacing.zyx_mm();
                (0..3).map(|i| ((p[i] as f64 - q[i] as f64) * zyx[i]).powi(2)).sum::<f64>().sqrt()
            };
            let directed = |from: &[[usize; 3]], to: &[[usize; 3]]| -> Vec<f32> {
                from.iter().map(|p| to.iter().map(|q| gap(p, q)).fold(f64::INFINITY, f64::min) as f32).collect()
            };
            let (p, q) = (points(&a), points(&b));
            let expected = percentile(directed(&p, &q), 0.95).max(percentile(directed(&q, &p), 0.95));
            prop_assert!((o.hd95_mm.unwrap() - expected).abs() < 1e-5);
        }
    }
}
