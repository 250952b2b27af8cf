//! A grid as one line of a manifest: what turns voxels into millimetres is part of what a set is.

use lungai_ct::{Geometry, Spacing, VoxelPoint, WorldPoint};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A [`Geometry`] that is written as 18 numbers: size z, y, x; spacing z, y, x in mm; origin x, y, z in LPS mm; directions of
/// growing column, row and slice. They read back to the same bits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Grid(pub Geometry);

impl Grid {
    /// Whether `other` has the same voxels within a hundredth of one: formats round differently.
    pub(crate) fn is_that_of(&self, other: &Geometry) -> bool {
        let size = self.0.size();
        let edge = other.spacing().zyx_mm().into_iter().fold(f64::INFINITY, f64::min);
        let corners = (0..8).map(|corner: usize| {
            VoxelPoint(std::array::from_fn(|axis| if corner >> axis & 1 == 1 { (size[axis] - 1) as f64 } else { 0.0 }))
        });
        size == other.size()
            && corners.into_iter().all(|at| self.0.to_world(at).distance_mm(other.to_world(at)) <= 0.01 * edge)
    }
}

impl fmt::Display for Grid {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        let [a, b, c] = self.0.size();
        write!(to, "{a} {b} {c}")?;
        let numbers = self.0.spacing().zyx_mm().into_iter().chain(self.0.origin().0);
        numbers.chain(self.0.direction().into_iter().flatten()).try_for_each(|number| write!(to, " {number}"))
    }
}

impl From<Grid> for String {
    fn from(grid: Grid) -> Self {
        grid.to_string()
    }
}

impl TryFrom<String> for Grid {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let refuse = || "a grid is 3 counts and 15 numbers".to_owned();
        let words: Vec<&str> = text.split(' ').collect();
        let (size, numbers) = words.split_at_checked(3).ok_or_else(refuse)?;
        let size: Vec<usize> = size.iter().map(|word| word.parse()).collect::<Result<_, _>>().map_err(|_| refuse())?;
        let numbers: Vec<f64> =
            numbers.iter().map(|word| word.parse()).collect::<Result<_, _>>().map_err(|_| refuse())?;
        let (&[a, b, c], Ok(n)) = (&size[..], <[f64; 15]>::try_from(numbers)) else { return Err(refuse()) };
        let three = |at: usize| std::array::from_fn(|i| n[at + i]);
        let geometry = Spacing::new(three(0)).and_then(|spacing| {
            Geometry::new([a, b, c], spacing, WorldPoint(three(3)), [three(6), three(9), three(12)])
        });
        geometry.map(Self).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_is_one_line_that_reads_back_to_the_same_bits() {
        let spacing = Spacing::new([1.25, 0.703125, 1.0 / 3.0]).unwrap();
        let geometry = Geometry::new([3, 4, 5], spacing, WorldPoint([-180.5, 0.0, 1e-3]), Geometry::AXIAL).unwrap();
        let grid = Grid(geometry);
        let text = grid.to_string();
        assert_eq!(text, "3 4 5 1.25 0.703125 0.3333333333333333 -180.5 0 0.001 1 0 0 0 1 0 0 0 1");
        assert_eq!(Grid::try_from(text.clone()).unwrap(), grid);
        for broken in ["", "3 4 5", &text.replace("3 4", "3 x"), &text.replace("1.25", "-1.25"), &format!("{text} 1")] {
            assert!(Grid::try_from(broken.to_owned()).is_err(), "{broken}");
        }
    }

    #[test]
    fn grids_are_one_where_no_corner_is_a_hundredth_of_a_voxel_off() {
        let make = |z_mm: f64| {
            let spacing = Spacing::new([z_mm, 1.0, 1.0]).unwrap();
            Geometry::new([101, 4, 5], spacing, WorldPoint([0.0; 3]), Geometry::AXIAL).unwrap()
        };
        // Over 100 steps 0.00005 mm become 0.005 mm, 0.0002 mm become 0.02 mm.
        assert!(Grid(make(1.0)).is_that_of(&make(1.00005)));
        assert!(!Grid(make(1.0)).is_that_of(&make(1.0002)));
    }
}
