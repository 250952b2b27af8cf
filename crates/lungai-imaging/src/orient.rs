//! One way up for every volume: what networks have learned of left and right must not depend on a file's axis signs.

use lungai_ct::{Geometry, LabelMap, Volume, VoxelPoint};
use lungai_trace::implements;
use ndarray::{Array3, ArrayView3};
use std::borrow::Cow;

/// The same voxels in the order of DICOM's axial slices: x towards the patient's left, y towards the back, z towards the
/// head, as nearly as turning and mirroring whole axes can bring it. No voxel moves in the patient, none is interpolated.
#[implements("FR-002", "R-001", "SW-203")]
pub fn axial(volume: &Volume) -> Cow<'_, Volume> {
    match turned(volume.hu(), volume.geometry()) {
        None => Cow::Borrowed(volume),
        Some((hu, geometry)) => Cow::Owned(Volume::new(hu, geometry).expect("sizes turned alike")),
    }
}

/// [`axial`] of labels.
pub fn axial_labels(map: &LabelMap) -> Cow<'_, LabelMap> {
    match turned(map.labels(), map.geometry()) {
        None => Cow::Borrowed(map),
        Some((labels, geometry)) => Cow::Owned(LabelMap::new(labels, geometry).expect("sizes turned alike")),
    }
}

/// `None` where the axes are in order already.
fn turned<T: Clone>(array: ArrayView3<'_, T>, geometry: &Geometry) -> Option<(Array3<T>, Geometry)> {
    let direction = geometry.direction();
    // For each patient axis x, y, z the index axis (of x-, y-, z-index) that runs along it, and its sign: the assignment
    // of the largest total cosine, so that no axis is taken twice.
    const ASSIGNMENTS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let cosines = |a: &[usize; 3]| (0..3).map(|patient| direction[a[patient]][patient].abs()).sum::<f64>();
    let along = ASSIGNMENTS.into_iter().max_by(|a, b| cosines(a).total_cmp(&cosines(b))).expect("six");
    let backwards: [bool; 3] = std::array::from_fn(|patient| direction[along[patient]][patient] < 0.0);
    if along == [0, 1, 2] && backwards == [false; 3] {
        return None;
    }
    // Array axis 0 is the z-index (number 2 of the directions), array axis 2 the x-index (number 0).
    let array_axes = [2 - along[2], 2 - along[1], 2 - along[0]];
    let mut array = array.permuted_axes(array_axes);
    let mut corner = [0.0; 3];
    for (array_axis, patient) in [2, 1, 0].into_iter().enumerate() {
        if backwards[patient] {
            array.invert_axis(ndarray::Axis(array_axis));
            corner[array_axes[array_axis]] = (geometry.size()[array_axes[array_axis]] - 1) as f64;
        }
    }
    let spacing = geometry.spacing().zyx_mm();
    let turned = Geometry::new(
        array_axes.map(|axis| geometry.size()[axis]),
        lungai_ct::Spacing::new(array_axes.map(|axis| spacing[axis])).expect("positive as before"),
        geometry.to_world(VoxelPoint(corner)),
        std::array::from_fn(|patient| {
            let sign = if backwards[patient] { -1.0 } else { 1.0 };
            direction[along[patient]].map(|c| sign * c)
        }),
    )
    .expect("turned axes stay orthonormal");
    Some((array.as_standard_layout().into_owned(), turned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_ct::{Spacing, VoxelIndex, WorldPoint};
    use lungai_trace::verifies;

    /// A volume of directions `d` (of x-, y- and z-index) in which every voxel is different.
    fn volume(d: [[f64; 3]; 3]) -> Volume {
        let hu = Array3::from_shape_fn((3, 4, 5), |(z, y, x)| (100 * z + 10 * y + x) as i16);
        let spacing = Spacing::new([3.0, 2.0, 1.0]).unwrap();
        Volume::new(hu, Geometry::new([3, 4, 5], spacing, WorldPoint([10.0, 20.0, 30.0]), d).unwrap()).unwrap()
    }

    #[verifies("FR-002", "R-001", "SW-203", "R-006")]
    #[test]
    fn every_voxel_stays_where_it_is_in_the_patient() {
        let (c, s) = (0.2f64.cos(), 0.2f64.sin());
        for d in [
            [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]],
            [[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]],
            [[-c, s, 0.0], [-s, -c, 0.0], [0.0, 0.0, -1.0]],
        ] {
            let before = volume(d);
            let after = axial(&before);
            for (i, axis) in after.geometry().direction().iter().enumerate() {
                assert!(axis[i] > 0.9, "{axis:?}");
            }
            for ((z, y, x), hu) in before.hu().indexed_iter() {
                let point = before.geometry().centre_of(VoxelIndex([z, y, x]));
                let index = after.geometry().voxel_at(point).unwrap();
                assert_eq!(after.hu()[index.0], *hu);
                assert!(after.geometry().centre_of(index).distance_mm(point) < 1e-9);
            }
        }
    }

    #[test]
    fn an_axial_volume_is_not_copied() {
        assert!(matches!(axial(&volume(Geometry::AXIAL)), Cow::Borrowed(_)));
    }
}
