//! How sharply the lungs end: what moves during its rotation leaves a wide or a double edge.

use lungai_ct::{LabelMap, Volume};
use ndarray::Axis;
use rayon::prelude::*;

/// Half-length of the profile across the edge, mm.
const REACH_MM: f64 = 12.0;
/// An edge on voxels of any size is about as many of them wide: partial volume and interpolation.
const VOXELS: f64 = 1.7;
/// At most about as many slices are looked at.
const SLICES: usize = 60;
/// Fewer edges in a slice say nothing.
const FEWEST: usize = 12;

/// Width in mm of the lungs' sideward edges beyond what the voxels themselves give: the median of each slice, of which the
/// highest quarter begins here. The width is the rise from lung to tissue over its steepest slope. `volume` is axial;
/// `None` with few edges.
pub fn blur_mm(volume: &Volume, lungs: &LabelMap) -> Option<f64> {
    let (hu, labels) = (volume.hu(), lungs.labels());
    let dx = volume.geometry().spacing().zyx_mm()[2];
    let reach = (REACH_MM / dx).round().max(3.0) as usize;
    let mut widths: Vec<f64> = (0..hu.shape()[0])
        .into_par_iter()
        .step_by(hu.shape()[0].div_ceil(SLICES))
        .filter_map(|z| {
            let (slice, labels) = (hu.index_axis(Axis(0), z), labels.index_axis(Axis(0), z));
            let mut found = Vec::new();
            for (row, labels) in slice.outer_iter().zip(labels.outer_iter()) {
                let nx = row.len();
                for x in reach..nx.saturating_sub(reach) {
                    if (labels[x - 1] > 0) == (labels[x] > 0) {
                        continue;
                    }
                    let profile: Vec<f64> = (x - reach..x + reach).map(|x| f64::from(row[x])).collect();
                    let side = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
                    let third = (2 * reach / 3).max(2);
                    let rise = (side(&profile[..third]) - side(&profile[2 * reach - third..])).abs();
                    let steepest = profile.windows(2).map(|p| (p[1] - p[0]).abs()).fold(0.0, f64::max);
                    if rise > 500.0 {
                        found.push(rise / steepest * dx);
                    }
                }
            }
            found.sort_by(f64::total_cmp);
            (found.len() >= FEWEST).then(|| found[found.len() / 2])
        })
        .collect();
    widths.sort_by(f64::total_cmp);
    (!widths.is_empty()).then(|| (widths[3 * widths.len() / 4] - VOXELS * dx).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{Chest, grid};
    use lungai_trace::verifies;
    use ndarray::Array3;

    #[verifies("FR-002")]
    #[test]
    fn an_edge_smeared_over_eight_mm_is_that_much_wider() {
        let grid = grid([2.0, 1.0, 1.0]);
        let (still, lungs) = (Chest::plain().render(&grid), Chest::plain().lungs(&grid));
        let sharp = blur_mm(&still, &lungs).unwrap();
        assert!(sharp < 1.5, "{sharp}");
        let hu = still.hu();
        let nx = hu.dim().2;
        let smeared = Array3::from_shape_fn(hu.dim(), |(z, y, x)| {
            let line = hu.slice(ndarray::s![z, y, x.saturating_sub(4)..(x + 5).min(nx)]);
            (line.iter().map(|v| i32::from(*v)).sum::<i32>() / line.len() as i32) as i16
        });
        let blurred = blur_mm(&Volume::new(smeared, grid).unwrap(), &lungs).unwrap();
        assert!((5.0..10.0).contains(&blurred), "{blurred}"); // nine pixels of 1 mm less the voxel's own 1.7
    }
}
