//! A digital chest phantom: synthetic CT whose truth is known exactly.
//!
//! One seed gives a [`Scene`], a small serialisable description of one patient in implicit shapes: torso, lungs with
//! fissures, airways, arteries, veins, bones, disease, nodules and what may be taken for a nodule. A [`Scanner`] turns a
//! scene into a CT volume on any grid, with lungs, lobes, airways, vessels ([`Masks`]) and nodules known from the shapes
//! instead of from a reader. The same seed gives the same bits for any number of threads, the same scene can be seen by
//! several scanners, and a window of the grid equals the same part of the whole.
//!
//! This crate refuses files, and it refuses to be mistaken for patients: results on it are results on synthetic data.
//! Its malignancy label follows a rule (see [`Traits`]), not pathology.

mod beam;
mod body;
mod breath;
mod canvas;
mod case_mix;
mod chest;
mod disease;
mod exposure;
mod field;
mod followup;
mod grid;
mod labels;
mod mimic;
mod nodule;
mod noise;
mod oblique;
mod raster;
mod scanner;
mod scene;
mod skeleton;
mod texture;
mod traits;
mod trees;
mod vector;

pub use body::{Body, Rendered, render, render_window};
pub use case_mix::{CaseMix, Difficulty, KindShares, MimicMeans};
pub use chest::{Chest, Wave};
pub use disease::Disease;
pub use followup::Pose;
pub use labels::{Airway, Masks, Vessel};
pub use mimic::{Ellipsoid, Mimic, MimicKind, Strand};
pub use nodule::{Core, Lobulation, Nodule, Place, Spike};
pub use scanner::{Artefacts, Kernel, Scanner};
pub use scene::Scene;
pub use traits::Traits;

/// A configuration that describes no patient or no scanner.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field} is {value}; it must be {rule}")]
pub struct ConfigError {
    /// Path of the field, as in the file.
    pub field: &'static str,
    /// The refused value.
    pub value: f64,
    /// What it must be.
    pub rule: &'static str,
}

/// `Ok` where `holds`, else the error that names the field.
fn require(holds: bool, field: &'static str, value: f64, rule: &'static str) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError { field, value, rule }) }
}
