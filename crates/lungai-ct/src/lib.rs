//! The words that every other crate shares: a CT volume with its geometry, masks on it, how it was
//! acquired, and what was found in it.
//!
//! This crate refuses files, tensors and JSON. Arrays are `[z, y, x]`; points are DICOM patient
//! coordinates (LPS) in mm, `[x, y, z]`. Only [`Geometry`] may multiply an index with a spacing.

mod finding;
mod geometry;
mod scan;
mod volume;

pub use finding::{
    Characteristics, Finding, Malignancy, MalignancyClass, NoduleKind, ReferenceNodule, sphere_diameter_mm,
};
pub use geometry::{Geometry, GeometryError, Spacing, VoxelIndex, VoxelPoint, WorldPoint};
pub use scan::{Acquisition, Scan};
pub use volume::{AIR_HU, LabelMap, Lobe, Lung, ShapeError, Volume};
