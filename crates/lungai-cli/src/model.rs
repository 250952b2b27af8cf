//! Finding and loading the frozen model that the user means.

use crate::arguments::Engine;
use crate::failure::Failure;
use lungai_models::frozen::{Trust, load};
use lungai_pipeline::Pipeline;
use std::path::{Path, PathBuf};

/// Loads a frozen model after every check of its signature, hashes and golden outputs.
pub fn open(models: &Path, engine: &Engine) -> Result<Pipeline, Failure> {
    let folder = find(models)?;
    let (device, name) = engine.device.open()?;
    eprintln!("loading the model on {name}");
    let trust = Trust::find(&folder, engine.trusted_key.as_deref())?;
    Ok(Pipeline::new(load(&folder, &trust, &device)?))
}

/// `models` itself, or the only NAME/VERSION in it.
fn find(models: &Path) -> Result<PathBuf, Failure> {
    let is_model = |folder: &Path| folder.join("manifest.json").is_file();
    if is_model(models) {
        return Ok(models.to_owned());
    }
    let below = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        folders.sort();
        folders
    };
    let mut found: Vec<PathBuf> = below(models).iter().flat_map(|name| below(name)).filter(|f| is_model(f)).collect();
    match found.len() {
        0 => Err(Failure::new("no-model", "no frozen model there; give --models REGISTRY/NAME/VERSION")),
        1 => Ok(found.remove(0)),
        _ => {
            let short = |folder: &PathBuf| folder.strip_prefix(models).unwrap_or(folder).display().to_string();
            let names: Vec<String> = found.iter().map(short).collect();
            Err(Failure::usage(format!("several models; --models must name one of {}", names.join(", "))))
        }
    }
}
