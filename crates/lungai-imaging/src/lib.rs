//! Operations on CT volumes: resampling, morphology, labelling, surfaces, the lung region, the quality
//! gate, nodule measurements, a baseline detector and augmentation.
//!
//! Everything is a plain function of its arguments: no file, no clock, no tensor, no hidden seed, and the
//! same result for any number of threads. Arrays are `[z, y, x]`, points are patient LPS mm.

mod gaussian;
mod orient;
mod resample;
mod spline;

mod components;
pub mod distance;
pub mod morphology;
mod surface;

pub mod augment;
pub mod blobs;
pub mod lungs;
pub mod nodule;
pub mod quality;

#[cfg(test)]
mod toy;

pub use components::{Components, Connectivity, Region, components};
pub use gaussian::gaussian;
pub use orient::axial;
pub use resample::{
    Interpolation, normalise, normalise_all, patch, patch_geometry, resample, resample_as, resample_labels,
};
pub use surface::{Surface, surface};
