//! Two programs may store one grid with other axis orders or signs; the voxels are the same.

use lungai_ct::{Geometry, LabelMap, VoxelIndex};
use ndarray::Axis;

/// The labels on `grid`, where both grids have the same voxel centres (within a hundredth of a voxel) in
/// whatever order of axes; `None` where they do not, because nothing is resampled here.
pub fn align_labels(labels: &LabelMap, grid: &Geometry) -> Option<LabelMap> {
    let from = labels.geometry();
    let index = |at: [usize; 3]| from.to_voxel(grid.centre_of(VoxelIndex(at))).0;
    let first = index([0; 3]);
    let size = grid.size();
    // How the label index moves along each of the grid's axes, over the whole axis so that drift counts.
    let mut step = [[0isize; 3]; 3];
    for axis in 0..3 {
        let mut end = [0; 3];
        end[axis] = size[axis] - 1;
        let count = (size[axis] - 1).max(1) as f64;
        for (i, moved) in index(end).into_iter().enumerate() {
            let whole = ((moved - first[i]) / count).round();
            let expected = first[i].round() + whole * end[axis] as f64;
            if (moved - expected).abs() > 0.01 {
                return None;
            }
            step[axis][i] = whole as isize;
        }
    }
    let start = first.map(|v| v.round() as isize);
    if first.iter().zip(start).any(|(a, b)| (a - b as f64).abs() > 0.01) {
        return None;
    }
    let corner = std::array::from_fn::<isize, 3, _>(|i| {
        start[i] + (0..3).map(|axis| step[axis][i] * (size[axis] as isize - 1)).sum::<isize>()
    });
    let limits = from.size();
    let inside = |at: [isize; 3]| (0..3).all(|i| (0..limits[i] as isize).contains(&at[i]));
    let mut sizes = (limits, size);
    sizes.0.sort_unstable();
    sizes.1.sort_unstable();
    if !inside(start) || !inside(corner) || sizes.0 != sizes.1 {
        return None;
    }
    // Each axis of the grid runs along one axis of the labels; an axis of one voxel along any that is left.
    let mut axes: [Option<usize>; 3] = step.map(|s| s.iter().position(|s| *s != 0));
    for i in 0..3 {
        if axes[i].is_none() {
            axes[i] = (0..3).find(|axis| !axes.contains(&Some(*axis)));
        }
    }
    let mut view = labels.labels().permuted_axes(axes.map(|axis| axis.expect("three axes for three")));
    for (axis, s) in step.iter().enumerate() {
        if s.iter().any(|s| *s < 0) {
            view.invert_axis(Axis(axis));
        }
    }
    let aligned = view.as_standard_layout().into_owned();
    LabelMap::new(aligned, grid.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_ct::{Spacing, WorldPoint};
    use ndarray::Array3;

    fn grid(size: [usize; 3], spacing: [f64; 3], origin: [f64; 3], direction: [[f64; 3]; 3]) -> Geometry {
        Geometry::new(size, Spacing::new(spacing).unwrap(), WorldPoint(origin), direction).unwrap()
    }

    #[test]
    fn labels_follow_their_voxels_through_flips_and_turns() {
        let lps = grid([2, 3, 4], [2.0, 1.0, 0.5], [10.0, 20.0, 30.0], Geometry::AXIAL);
        // Rows towards the front, columns from left to right.
        let flipped =
            grid([2, 3, 4], [2.0, 1.0, 0.5], [11.5, 22.0, 30.0], [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]]);
        let map =
            LabelMap::new(Array3::from_shape_fn((2, 3, 4), |(z, y, x)| (z * 12 + y * 4 + x) as u8), flipped.clone());
        let aligned = align_labels(&map.unwrap(), &lps).unwrap();
        assert_eq!(aligned.at(VoxelIndex([0, 0, 0])), 11);
        assert_eq!(aligned.at(VoxelIndex([1, 2, 3])), 12);
        assert_eq!(align_labels(&aligned, &flipped).unwrap().at(VoxelIndex([0, 0, 1])), 1);
    }

    #[test]
    fn labels_follow_their_voxels_into_another_order_of_axes() {
        // A sagittal stack of one slice: its columns run along the grid's z, its rows along the grid's y.
        let sagittal =
            grid([1, 3, 2], [0.5, 1.0, 2.0], [10.0, 20.0, 30.0], [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]);
        let axial = grid([2, 3, 1], [2.0, 1.0, 0.5], [10.0, 20.0, 30.0], Geometry::AXIAL);
        let map = LabelMap::new(Array3::from_shape_fn((1, 3, 2), |(_, y, x)| (y * 2 + x) as u8), sagittal).unwrap();
        let aligned = align_labels(&map, &axial).unwrap();
        assert_eq!(aligned.labels().iter().copied().collect::<Vec<_>>(), [0, 2, 4, 1, 3, 5]);
    }

    #[test]
    fn another_grid_is_not_resampled() {
        let a = grid([2, 3, 4], [2.0, 1.0, 0.5], [0.0; 3], Geometry::AXIAL);
        let map = LabelMap::new(Array3::zeros((2, 3, 4)), a).unwrap();
        let off = |origin| grid([2, 3, 4], [2.0, 1.0, 0.5], origin, Geometry::AXIAL);
        assert!(align_labels(&map, &off([0.0, 0.0, 1e-4])).is_some());
        assert!(align_labels(&map, &off([0.0, 0.0, 0.1])).is_none());
        assert!(align_labels(&map, &off([0.5, 0.0, 0.0])).is_none());
        assert!(align_labels(&map, &grid([2, 3, 4], [2.0, 1.0, 0.501], [0.0; 3], Geometry::AXIAL)).is_some());
        assert!(align_labels(&map, &grid([2, 3, 4], [2.0, 1.1, 0.5], [0.0; 3], Geometry::AXIAL)).is_none());
    }
}
