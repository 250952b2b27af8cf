//! The frozen model that the user means.

use crate::arguments::Engine;
use crate::failure::Failure;
use lungai_models::frozen;
use lungai_pipeline::Pipeline;
use std::path::Path;

/// Loads a frozen model after every check of its signature, hashes and golden outputs.
pub fn open(models: &Path, engine: &Engine) -> Result<Pipeline, Failure> {
    let (device, name) = engine.device.open()?;
    let frozen = frozen::open(models, engine.trusted_key.as_deref(), &device)?;
    eprintln!("model {} {} on {name}", frozen.manifest.name, frozen.manifest.version);
    Ok(Pipeline::new(frozen))
}
