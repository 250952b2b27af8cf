//! What tables say of series, with the line that said it.

use crate::DatasetError;
use crate::error::Fault;
use crate::table::Row;
use lungai_ct::{Geometry, ReferenceNodule, VoxelPoint, WorldPoint};
use std::collections::BTreeMap;

/// A nodule and where it is written. Its id is given when it is placed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Marked {
    pub nodule: ReferenceNodule,
    pub file: String,
    pub line: usize,
}

/// What tables say of one series, and where they first name it.
#[derive(Debug)]
pub(crate) struct Named {
    pub file: String,
    pub line: usize,
    /// Empty: it has no nodule.
    pub marked: Vec<Marked>,
}

/// By the series' name in the tables.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub by_series: BTreeMap<String, Named>,
    /// Positions are voxels x, y, z until [`place`] knows the grid.
    pub in_voxels: bool,
}

impl Truth {
    /// A series that is named without a nodule, so far.
    pub(crate) fn named(&mut self, series: &str, file: &str, line: usize) -> &mut Named {
        let first = || Named { file: file.to_owned(), line, marked: Vec::new() };
        self.by_series.entry(series.to_owned()).or_insert_with(first)
    }

    pub(crate) fn add(&mut self, series: &str, marked: Marked) {
        self.named(series, &marked.file, marked.line).marked.push(marked);
    }
}

/// Refuses a diameter that no nodule has: below 1 mm or above 200 mm the unit must be another.
pub(crate) fn checked_diameter(row: &Row, diameter_mm: f64) -> Result<f64, DatasetError> {
    let range = 1.0..=200.0;
    if range.contains(&diameter_mm) {
        return Ok(diameter_mm);
    }
    let units = [("cm", 10.0), ("m", 1000.0), ("um", 0.001)];
    let hint = units
        .iter()
        .find(|(_, factor)| range.contains(&(diameter_mm * factor)))
        .map_or(String::new(), |(unit, _)| format!("; is the table in {unit}?"));
    let reason = format!("a diameter of {diameter_mm} mm is no nodule's (1 to 200 mm){hint}");
    Err(row.fault(Fault::WrongUnit, reason))
}

/// Places nodules in their scan and numbers them.
///
/// # Errors
/// [`Fault::OutsideVolume`], with the frame in which the numbers would make sense.
pub(crate) fn place(marked: &[Marked], grid: &Geometry, in_voxels: bool) -> Result<Vec<ReferenceNodule>, DatasetError> {
    let mut placed = Vec::with_capacity(marked.len());
    for (Marked { nodule, file, line }, number) in marked.iter().zip(1..) {
        let [x, y, z] = nodule.position.0;
        let at = if in_voxels { grid.to_world(VoxelPoint([z, y, x])) } else { nodule.position };
        if grid.voxel_at(at).is_none() {
            let ras = grid.voxel_at(WorldPoint([-x, -y, z])).is_some();
            let voxels = grid.voxel_at(grid.to_world(VoxelPoint([z, y, x]))).is_some();
            let hint = match (ras, voxels) {
                _ if in_voxels => "",
                (true, false) => "; with x and y negated it lies inside: is the table in RAS?",
                (false, true) => "; as voxel numbers x, y, z it lies inside: is the table in voxels?",
                _ => "",
            };
            let frame = if in_voxels { "voxels" } else { "mm LPS" };
            let reason = format!("the nodule at ({x}, {y}, {z}) {frame} lies outside of its scan{hint}");
            let (file, line) = (file.clone(), Some(*line));
            return Err(DatasetError::Fault { fault: Fault::OutsideVolume, file, line, reason });
        }
        let id = if nodule.id.is_empty() { number.to_string() } else { nodule.id.clone() };
        placed.push(ReferenceNodule { id, position: at, ..nodule.clone() });
    }
    Ok(placed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_ct::Spacing;

    fn marked(at: [f64; 3]) -> Marked {
        let nodule = ReferenceNodule::at(WorldPoint(at), 6.0);
        Marked { nodule, file: "t.csv".into(), line: 7 }
    }

    #[test]
    fn a_position_in_another_frame_is_refused_with_the_frame_that_would_fit() {
        // 300 slices of 1 mm from -300 mm, 400 x 400 pixels of 0.5 mm, right and in front of the origin.
        let spacing = Spacing::new([1.0, 0.5, 0.5]).unwrap();
        let grid =
            Geometry::new([300, 400, 400], spacing, WorldPoint([-210.0, -220.0, -300.0]), Geometry::AXIAL).unwrap();
        let check = |at, hint: &str| {
            let error = place(&[marked(at)], &grid, false).unwrap_err().to_string();
            assert!(error.starts_with("t.csv, line 7: the nodule at (") && error.ends_with(hint), "{error}");
        };
        check([100.0, 100.0, -50.0], "; with x and y negated it lies inside: is the table in RAS?");
        check([350.0, 20.0, 120.0], "; as voxel numbers x, y, z it lies inside: is the table in voxels?");
        check([900.0, 900.0, 900.0], "lies outside of its scan");
        let placed = place(&[marked([350.0, 20.0, 120.0])], &grid, true).unwrap();
        assert_eq!((placed[0].position, placed[0].id.as_str()), (WorldPoint([-35.0, -210.0, -180.0]), "1"));
    }
}
