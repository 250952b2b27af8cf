//! Lung that the scan does not reach.

use lungai_ct::{LabelMap, Volume};
use ndarray::{Axis, Zip};

/// Halfway between lung and soft tissue. What closing a lung's border added to it does not count.
const AIR_BELOW_HU: i16 = -410;

/// Area of air in the lungs in cm2 on the first and on the last plane along array axis `axis`.
pub fn cut_cm2(volume: &Volume, lungs: &LabelMap, axis: usize) -> [f64; 2] {
    let spacing = lungs.geometry().spacing();
    let pixel_cm2 = spacing.voxel_mm3() / spacing.zyx_mm()[axis] / 100.0;
    let last = lungs.geometry().size()[axis] - 1;
    [0, last].map(|index| {
        let cut = Zip::from(lungs.labels().index_axis(Axis(axis), index))
            .and(volume.hu().index_axis(Axis(axis), index))
            .fold(0usize, |n, label, hu| n + usize::from(*label > 0 && *hu < AIR_BELOW_HU));
        cut as f64 * pixel_cm2
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_ct::{Geometry, Spacing, WorldPoint};
    use ndarray::{Array3, s};

    #[test]
    fn each_end_counts_its_own_area_of_air() {
        let spacing = Spacing::new([3.0, 2.0, 2.0]).unwrap();
        let grid = Geometry::new([4, 10, 10], spacing, WorldPoint([0.0; 3]), Geometry::AXIAL).unwrap();
        let mut labels = Array3::zeros((4, 10, 10));
        labels.slice_mut(s![0..2, 0..5, 0..5]).fill(1); // 25 pixels of 4 mm2 on the first slice, none on the last
        let map = LabelMap::new(labels, grid.clone()).unwrap();
        let mut hu = Array3::from_elem((4, 10, 10), -860);
        let air = Volume::new(hu.clone(), grid.clone()).unwrap();
        assert_eq!(cut_cm2(&air, &map, 0), [1.0, 0.0]);
        assert_eq!(cut_cm2(&air, &map, 1), [0.6, 0.0]); // ten voxel faces of 3 x 2 mm
        hu.slice_mut(s![.., 0, ..]).fill(30); // a row of 5 pixels was closed
        assert_eq!(cut_cm2(&Volume::new(hu, grid).unwrap(), &map, 0), [0.8, 0.0]);
    }
}
