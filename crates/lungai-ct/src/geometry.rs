//! Where a voxel is in the patient.

use lungai_trace::implements;

/// Voxel position `[z, y, x]`, counted from the first voxel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VoxelIndex(pub [usize; 3]);

/// Position between voxel centres, `[z, y, x]`; whole numbers are voxel centres.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VoxelPoint(pub [f64; 3]);

/// Patient position `[x, y, z]` in mm along DICOM's axes: left, posterior, superior.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WorldPoint(pub [f64; 3]);

/// Distance between voxel centres `[z, y, x]` in mm. Invariant, checked in [`Spacing::new`]: finite and positive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spacing([f64; 3]);

/// A regular grid in patient space.
///
/// Invariants, checked in [`Geometry::new`]: no axis is empty, the origin is finite, the three
/// directions are unit vectors at right angles (within 1e-3).
#[derive(Debug, Clone, PartialEq)]
pub struct Geometry {
    size: [usize; 3],
    spacing: Spacing,
    origin: WorldPoint,
    direction: [[f64; 3]; 3],
}

/// Why four values do not make a grid.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GeometryError {
    /// A spacing is zero, negative or not a number.
    #[error("spacing {zyx_mm:?} mm (z, y, x) must be finite and positive")]
    Spacing {
        /// The refused spacing.
        zyx_mm: [f64; 3],
    },
    /// A grid without voxels.
    #[error("size {zyx:?} (z, y, x) has an empty axis")]
    Empty {
        /// The refused size.
        zyx: [usize; 3],
    },
    /// The first voxel's position is not a number.
    #[error("origin {lps_mm:?} must be finite")]
    Origin {
        /// The refused origin.
        lps_mm: [f64; 3],
    },
    /// The axes are not at right angles, for example because the gantry was tilted.
    #[error("axis directions are not unit vectors at right angles (largest deviation {deviation:.4})")]
    NotOrthonormal {
        /// Largest difference of a dot product from its ideal 0 or 1.
        deviation: f64,
    },
}

impl WorldPoint {
    /// Distance to another point in mm.
    pub fn distance_mm(self, other: Self) -> f64 {
        (0..3).map(|i| (self.0[i] - other.0[i]).powi(2)).sum::<f64>().sqrt()
    }
}

impl Spacing {
    /// `[z, y, x]` in mm.
    ///
    /// # Errors
    /// [`GeometryError::Spacing`] where a value is not finite and positive.
    pub fn new(zyx_mm: [f64; 3]) -> Result<Self, GeometryError> {
        if zyx_mm.iter().all(|mm| mm.is_finite() && *mm > 0.0) {
            Ok(Self(zyx_mm))
        } else {
            Err(GeometryError::Spacing { zyx_mm })
        }
    }

    /// `[z, y, x]` in mm.
    pub fn zyx_mm(self) -> [f64; 3] {
        self.0
    }

    /// Volume of one voxel in mm3.
    pub fn voxel_mm3(self) -> f64 {
        self.0.iter().product()
    }
}

impl Geometry {
    /// The directions that DICOM's axial slices have when stacked towards the head.
    pub const AXIAL: [[f64; 3]; 3] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];

    /// - `size`: voxels along `[z, y, x]`
    /// - `origin`: centre of voxel `[0, 0, 0]`
    /// - `direction`: unit vectors in patient space of the x-, y- and z-index, in this order
    ///
    /// # Errors
    /// [`GeometryError`] names the broken invariant and its value.
    pub fn new(
        size: [usize; 3],
        spacing: Spacing,
        origin: WorldPoint,
        direction: [[f64; 3]; 3],
    ) -> Result<Self, GeometryError> {
        if size.contains(&0) {
            return Err(GeometryError::Empty { zyx: size });
        }
        if origin.0.iter().any(|mm| !mm.is_finite()) {
            return Err(GeometryError::Origin { lps_mm: origin.0 });
        }
        let mut deviation: f64 = 0.0;
        for (i, a) in direction.iter().enumerate() {
            for (j, b) in direction.iter().enumerate() {
                let ideal = if i == j { 1.0 } else { 0.0 };
                let off = (dot(a, b) - ideal).abs();
                // `max` would drop a NaN.
                deviation = if off.is_finite() { deviation.max(off) } else { f64::INFINITY };
            }
        }
        if deviation > 1e-3 {
            return Err(GeometryError::NotOrthonormal { deviation });
        }
        Ok(Self { size, spacing, origin, direction })
    }

    /// Voxels along `[z, y, x]`.
    pub fn size(&self) -> [usize; 3] {
        self.size
    }

    /// Distance between voxel centres.
    pub fn spacing(&self) -> Spacing {
        self.spacing
    }

    /// Centre of voxel `[0, 0, 0]`.
    pub fn origin(&self) -> WorldPoint {
        self.origin
    }

    /// Unit vectors in patient space of the x-, y- and z-index, in this order.
    pub fn direction(&self) -> [[f64; 3]; 3] {
        self.direction
    }

    /// Patient position of a point given in voxels: DICOM PS3.3 C.7.6.2.1.1, with the slice step as third direction.
    #[implements("FR-001", "SW-107")]
    pub fn to_world(&self, point: VoxelPoint) -> WorldPoint {
        let [sz, sy, sx] = self.spacing.0;
        let along = [point.0[2] * sx, point.0[1] * sy, point.0[0] * sz];
        WorldPoint(std::array::from_fn(|axis| {
            self.origin.0[axis] + (0..3).map(|i| along[i] * self.direction[i][axis]).sum::<f64>()
        }))
    }

    /// Inverse of [`Geometry::to_world`]; the point may lie outside the grid.
    pub fn to_voxel(&self, point: WorldPoint) -> VoxelPoint {
        let offset: [f64; 3] = std::array::from_fn(|axis| point.0[axis] - self.origin.0[axis]);
        let [sz, sy, sx] = self.spacing.0;
        let [dx, dy, dz] = &self.direction;
        VoxelPoint([dot(&offset, dz) / sz, dot(&offset, dy) / sy, dot(&offset, dx) / sx])
    }

    /// Patient position of a voxel's centre.
    pub fn centre_of(&self, index: VoxelIndex) -> WorldPoint {
        self.to_world(index.into())
    }

    /// The voxel that holds `point`, if the grid does.
    pub fn voxel_at(&self, point: WorldPoint) -> Option<VoxelIndex> {
        let mut index = [0; 3];
        for (axis, at) in self.to_voxel(point).0.iter().enumerate() {
            let nearest = at.round();
            if !(0.0..self.size[axis] as f64).contains(&nearest) {
                return None;
            }
            index[axis] = nearest as usize;
        }
        Some(VoxelIndex(index))
    }

    /// The sub-grid of `size` voxels that starts at voxel `start`, which may be negative or reach outside.
    ///
    /// # Panics
    /// If an axis of `size` is zero.
    pub fn window(&self, start: [isize; 3], size: [usize; 3]) -> Self {
        assert!(!size.contains(&0), "an empty window has no geometry");
        let origin = self.to_world(VoxelPoint(start.map(|v| v as f64)));
        Self { size, origin, ..self.clone() }
    }

    /// A grid over the same extent with another spacing: outer voxel *edges* stay where they are, the
    /// last voxel may reach up to half a voxel further or less.
    pub fn respaced(&self, spacing: Spacing) -> Self {
        let old = self.spacing.0;
        let new = spacing.0;
        let size = std::array::from_fn(|i| ((self.size[i] as f64 * old[i] / new[i]).round() as usize).max(1));
        let first = VoxelPoint(std::array::from_fn(|i| 0.5 * new[i] / old[i] - 0.5));
        Self { size, spacing, origin: self.to_world(first), direction: self.direction }
    }

    /// Extent along `[z, y, x]` in mm, outer edge to outer edge.
    pub fn extent_mm(&self) -> [f64; 3] {
        std::array::from_fn(|i| self.size[i] as f64 * self.spacing.0[i])
    }
}

impl From<VoxelIndex> for VoxelPoint {
    fn from(index: VoxelIndex) -> Self {
        Self(index.0.map(|v| v as f64))
    }
}

fn dot(a: &[f64; 3], b: &[f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;
    use proptest::prelude::*;

    fn oblique() -> Geometry {
        let (s, c) = (0.3f64.sin(), 0.3f64.cos());
        Geometry::new(
            [10, 20, 30],
            Spacing::new([2.0, 0.7, 0.5]).unwrap(),
            WorldPoint([-100.0, 50.0, 7.0]),
            [[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]],
        )
        .unwrap()
    }

    #[verifies("FR-001", "SW-107", "R-006")]
    #[test]
    fn axes_are_not_mixed_up() {
        let spacing = Spacing::new([2.0, 0.7, 0.5]).unwrap();
        let g = Geometry::new([10, 20, 30], spacing, WorldPoint([1.0, 2.0, 3.0]), Geometry::AXIAL).unwrap();
        assert_eq!(g.centre_of(VoxelIndex([1, 0, 0])), WorldPoint([1.0, 2.0, 5.0]));
        assert_eq!(g.centre_of(VoxelIndex([0, 1, 0])), WorldPoint([1.0, 2.7, 3.0]));
        assert_eq!(g.centre_of(VoxelIndex([0, 0, 1])), WorldPoint([1.5, 2.0, 3.0]));
    }

    proptest! {
        #[test]
        fn world_and_voxel_are_inverse(z in -50.0..50.0f64, y in -50.0..50.0f64, x in -50.0..50.0f64) {
            let g = oblique();
            let back = g.to_voxel(g.to_world(VoxelPoint([z, y, x])));
            for (a, b) in back.0.iter().zip([z, y, x]) {
                prop_assert!((a - b).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn a_window_keeps_positions() {
        let g = oblique();
        let w = g.window([-1, 2, 3], [4, 4, 4]);
        let same = g.to_world(VoxelPoint([0.0, 3.0, 5.0]));
        assert!(w.centre_of(VoxelIndex([1, 1, 2])).distance_mm(same) < 1e-9);
    }

    #[test]
    fn a_respaced_grid_keeps_its_outer_edges() {
        let g = oblique();
        let r = g.respaced(Spacing::new([1.0, 1.4, 1.0]).unwrap());
        assert_eq!(r.size(), [20, 10, 15]);
        let corner = |g: &Geometry| g.to_world(VoxelPoint([-0.5; 3]));
        assert!(corner(&g).distance_mm(corner(&r)) < 1e-9);
    }

    #[test]
    fn a_point_outside_has_no_voxel() {
        let g = oblique();
        assert_eq!(g.voxel_at(g.to_world(VoxelPoint([9.4, 0.0, 29.4]))), Some(VoxelIndex([9, 0, 29])));
        assert_eq!(g.voxel_at(g.to_world(VoxelPoint([9.6, 0.0, 0.0]))), None);
    }

    #[test]
    fn broken_grids_are_refused_with_the_value() {
        assert!(Spacing::new([1.0, f64::NAN, 1.0]).is_err());
        let unit = Spacing::new([1.0; 3]).unwrap();
        let at = WorldPoint([0.0; 3]);
        let tilted = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.2, 0.98]];
        assert!(matches!(Geometry::new([1; 3], unit, at, tilted), Err(GeometryError::NotOrthonormal { .. })));
        let nan = [[f64::NAN, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        assert!(Geometry::new([1; 3], unit, at, nan).is_err());
        assert!(Geometry::new([1, 0, 1], unit, at, Geometry::AXIAL).is_err());
    }
}
