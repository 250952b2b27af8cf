//! Arrays of voxels that know where they are.

use crate::{Geometry, VoxelIndex};
use ndarray::{Array3, ArrayView3};

/// HU of air, and the value outside of any scan.
pub const AIR_HU: i16 = -1024;

/// Hounsfield units on a regular grid; the array is `[z, y, x]`, in standard layout, of the geometry's size.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    hu: Array3<i16>,
    geometry: Geometry,
}

/// One small label per voxel, `[z, y, x]`, in standard layout; what a label means is said by its maker
/// (for lungs: [`Lung`]).
#[derive(Debug, Clone, PartialEq)]
pub struct LabelMap {
    labels: Array3<u8>,
    geometry: Geometry,
}

/// Labels of a lung segmentation; 0 is background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Lung {
    /// The patient's right lung.
    Right = 1,
    /// The patient's left lung.
    Left = 2,
}

/// Labels of the five lobes; 0 is background. The lingula belongs to the left upper lobe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Lobe {
    /// Above the horizontal fissure of the right lung.
    RightUpper = 1,
    /// Between the horizontal and the oblique fissure.
    RightMiddle = 2,
    /// Below the oblique fissure.
    RightLower = 3,
    /// Above the oblique fissure of the left lung.
    LeftUpper = 4,
    /// Below it.
    LeftLower = 5,
}

impl Lobe {
    /// All lobes by their label.
    pub const ALL: [Self; 5] =
        [Self::RightUpper, Self::RightMiddle, Self::RightLower, Self::LeftUpper, Self::LeftLower];

    /// The name used in files: `right-upper`, `right-middle`, `right-lower`, `left-upper`, `left-lower`.
    pub fn name(self) -> &'static str {
        match self {
            Self::RightUpper => "right-upper",
            Self::RightMiddle => "right-middle",
            Self::RightLower => "right-lower",
            Self::LeftUpper => "left-upper",
            Self::LeftLower => "left-lower",
        }
    }

    /// Inverse of [`Lobe::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lobe| lobe.name() == name)
    }

    /// The lung that it is part of.
    pub fn lung(self) -> Lung {
        if (self as u8) < Self::LeftUpper as u8 { Lung::Right } else { Lung::Left }
    }
}

/// The array does not have the geometry's size.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("array of {array:?} voxels on a grid of {grid:?} (z, y, x)")]
pub struct ShapeError {
    /// Size of the array.
    pub array: [usize; 3],
    /// Size of the grid.
    pub grid: [usize; 3],
}

impl Volume {
    /// # Errors
    /// [`ShapeError`] where the sizes differ.
    pub fn new(hu: Array3<i16>, geometry: Geometry) -> Result<Self, ShapeError> {
        let hu = checked(hu, &geometry)?;
        Ok(Self { hu, geometry })
    }

    /// HU, `[z, y, x]`.
    pub fn hu(&self) -> ArrayView3<'_, i16> {
        self.hu.view()
    }

    /// HU in memory order: z slowest, x fastest.
    pub fn as_slice(&self) -> &[i16] {
        self.hu.as_slice().expect("standard layout is an invariant")
    }

    /// The grid.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Takes the volume apart.
    pub fn into_parts(self) -> (Array3<i16>, Geometry) {
        (self.hu, self.geometry)
    }
}

impl LabelMap {
    /// # Errors
    /// [`ShapeError`] where the sizes differ.
    pub fn new(labels: Array3<u8>, geometry: Geometry) -> Result<Self, ShapeError> {
        let labels = checked(labels, &geometry)?;
        Ok(Self { labels, geometry })
    }

    /// Labels, `[z, y, x]`.
    pub fn labels(&self) -> ArrayView3<'_, u8> {
        self.labels.view()
    }

    /// Labels in memory order: z slowest, x fastest.
    pub fn as_slice(&self) -> &[u8] {
        self.labels.as_slice().expect("standard layout is an invariant")
    }

    /// The grid.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The label of one voxel.
    pub fn at(&self, index: VoxelIndex) -> u8 {
        self.labels[index.0]
    }

    /// Volume that carries `label`, in millilitres.
    pub fn volume_ml(&self, label: u8) -> f64 {
        let voxels = self.as_slice().iter().filter(|l| **l == label).count();
        voxels as f64 * self.geometry.spacing().voxel_mm3() / 1000.0
    }

    /// Takes the map apart.
    pub fn into_parts(self) -> (Array3<u8>, Geometry) {
        (self.labels, self.geometry)
    }
}

fn checked<T: Clone>(array: Array3<T>, geometry: &Geometry) -> Result<Array3<T>, ShapeError> {
    let (z, y, x) = array.dim();
    if [z, y, x] != geometry.size() {
        return Err(ShapeError { array: [z, y, x], grid: geometry.size() });
    }
    Ok(if array.is_standard_layout() { array } else { array.as_standard_layout().into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Spacing, WorldPoint};

    fn grid(size: [usize; 3]) -> Geometry {
        Geometry::new(size, Spacing::new([2.0, 1.0, 1.0]).unwrap(), WorldPoint([0.0; 3]), Geometry::AXIAL).unwrap()
    }

    #[test]
    fn sizes_must_agree() {
        let error = Volume::new(Array3::zeros((1, 2, 3)), grid([3, 2, 1])).unwrap_err();
        assert_eq!(error.to_string(), "array of [1, 2, 3] voxels on a grid of [3, 2, 1] (z, y, x)");
    }

    #[test]
    fn a_transposed_array_is_laid_out_anew() {
        let turned = Array3::from_shape_fn((4, 3, 2), |(z, y, x)| (100 * z + 10 * y + x) as i16).reversed_axes();
        let volume = Volume::new(turned, grid([2, 3, 4])).unwrap();
        assert_eq!(volume.as_slice()[1], volume.hu()[[0, 0, 1]]);
    }

    #[test]
    fn label_volume_is_in_millilitres() {
        let mut labels = Array3::zeros((10, 10, 10));
        labels.slice_mut(ndarray::s![.., .., 0..5]).fill(Lung::Left as u8);
        let map = LabelMap::new(labels, grid([10, 10, 10])).unwrap();
        assert_eq!(map.volume_ml(Lung::Left as u8), 1.0); // 500 voxels of 2 mm3
    }
}
