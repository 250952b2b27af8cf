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

    /// What no single line shows: a nodule that is written twice, and diameters that as a whole are in another unit.
    ///
    /// # Errors
    /// [`DatasetError::Config`] with the second line; [`Fault::WrongUnit`] with the first.
    pub(crate) fn check(&self) -> Result<(), DatasetError> {
        let mut all = Vec::new();
        for named in self.by_series.values() {
            let marked: Vec<&Marked> = named.marked.iter().filter(|m| !m.nodule.excluded).collect();
            for (i, twice) in marked.iter().enumerate() {
                let same = |m: &&&Marked| m.nodule.position.distance_mm(twice.nodule.position) < 0.01;
                if let Some(first) = marked[..i].iter().find(same) {
                    let reason = format!("the same nodule is in line {} already: one place, one nodule", first.line);
                    return Err(DatasetError::Config { file: twice.file.clone(), line: twice.line, reason });
                }
            }
            all.extend(marked);
        }
        all.sort_by(|a, b| a.nodule.diameter_mm.total_cmp(&b.nodule.diameter_mm));
        let Some(middle) = all.get(all.len() / 2).filter(|_| all.len() >= FEW) else { return Ok(()) };
        let median = middle.nodule.diameter_mm;
        let unit = match median {
            mm if mm < USUAL_MM[0] => "cm, written as mm",
            mm if mm > USUAL_MM[1] => "mm, declared as cm",
            _ => return Ok(()),
        };
        let reason = format!("the median of {} diameters is {median:.1} mm: is the table in {unit}?", all.len());
        let (file, line) = (middle.file.clone(), Some(middle.line));
        Err(DatasetError::Fault { fault: Fault::WrongUnit, file, line, reason })
    }
}

/// Nodules from which on their median says something.
const FEW: usize = 5;
/// Within this the median diameter of any collection of nodules lies (LIDC-IDRI: 6.4 mm).
const USUAL_MM: [f64; 2] = [2.0, 40.0];

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
    fn a_nodule_that_is_written_twice_and_a_column_in_another_unit_are_refused() {
        let table = |diameters: &[f64], twice: bool| {
            let mut truth = Truth::default();
            for (i, mm) in diameters.iter().enumerate() {
                let at = WorldPoint([if twice { 0.0 } else { 10.0 * i as f64 }, 0.0, 0.0]);
                let marked = Marked { nodule: ReferenceNodule::at(at, *mm), file: "t.csv".into(), line: i + 2 };
                truth.add("s", marked);
            }
            truth.check().map_err(|error| error.to_string())
        };
        assert_eq!(table(&[4.0, 6.0, 7.0, 9.0, 25.0], false), Ok(()));
        assert_eq!(table(&[1.1, 1.2], false), Ok(())); // too few to tell
        let cm = table(&[1.1, 1.2, 1.3, 1.6, 1.8], false).unwrap_err();
        assert!(cm.contains("median of 5 diameters is 1.3 mm: is the table in cm, written as mm?"), "{cm}");
        assert!(table(&[50.0, 65.0, 65.0, 80.0, 180.0], false).unwrap_err().contains("mm, declared as cm"));
        let twice = table(&[6.0, 6.0], true).unwrap_err();
        assert_eq!(twice, "t.csv, line 3: the same nodule is in line 2 already: one place, one nodule");
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
