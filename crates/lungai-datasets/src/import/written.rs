//! What an import leaves behind: written beside the earlier set, which stays whole until the new one is.

use super::{Import, Member, images_elsewhere};
use crate::error::name;
use crate::import::found::files_of;
use crate::manifest::{Case, Manifest, Part, Provenance};
use crate::rules::Flow;
use crate::splits::{self, Assigned};
use crate::write::{remove_folder, write_whole};
use crate::{DatasetError, lock, nodules_csv, sha256};
use lungai_dicom::{Identity, identifying_attributes};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Refuses a folder that holds another set, before anything is read.
pub(super) fn check_target(import: &Import) -> Result<(), DatasetError> {
    let path = import.out.join("manifest.yaml");
    if !path.exists() {
        return Ok(());
    }
    let present = Manifest::load(&path)?;
    let wanted = &import.config.name;
    if present.name == *wanted && present.provenance.is_some() {
        return Ok(());
    }
    let reason = format!("the folder holds the data set {}; choose another for {wanted}", present.name);
    Err(DatasetError::Config { file: name(&path), line: 1, reason })
}

/// Writes everything, the manifest last.
pub(super) fn write(
    import: &Import,
    members: &[Member],
    assigned: &BTreeMap<String, Assigned>,
    flow: Flow,
    identity: Identity,
) -> Result<Manifest, DatasetError> {
    let Import { config, out, .. } = import;
    let draft = out.join(".nodules.part");
    remove_folder(&draft)?;
    std::fs::create_dir_all(&draft).map_err(DatasetError::io(&draft))?;
    let copies = if import.copy { Some(copy(import, members)?) } else { None };
    let elsewhere = images_elsewhere(import)?;
    let inside = match (&copies, &elsewhere) {
        (None, None) => {
            let canonical = |path: &Path| path.canonicalize().map_err(DatasetError::io(path));
            let (images, out) = (canonical(import.images)?, canonical(out)?);
            images.strip_prefix(out).expect("images lie inside").to_owned()
        }
        _ => PathBuf::new(),
    };
    let mut cases = Vec::new();
    for Member { id, series, patient, centre, nodules } in members {
        let path = match &copies {
            Some(copies) => copies[&series.path].clone(),
            None => inside.join(&series.path),
        };
        let split = assigned[patient].split;
        let series = Part { path, sha256: series.hu_sha256.clone() };
        let mut case = Case::new(id.clone(), patient.clone(), centre.clone(), split, series);
        if let Some(nodules) = nodules {
            let table = nodules_csv(nodules);
            let file = format!("{id}.csv");
            let path = draft.join(&file);
            std::fs::write(&path, &table).map_err(DatasetError::io(&path))?;
            case.nodules = Some(Part { path: Path::new("nodules").join(file), sha256: sha256(&table) });
        }
        cases.push(case);
    }
    let centres: BTreeSet<&String> = members.iter().map(|member| &member.centre).collect();
    let provenance = Provenance {
        importer: import.tables.name().to_owned(),
        importer_version: env!("CARGO_PKG_VERSION").to_owned(),
        configuration_sha256: sha256(&serde_json::to_vec(config).expect("plain data")),
        flow,
        checked_attributes: identifying_attributes().into_iter().map(str::to_owned).collect(),
        identity,
    };
    let flow = serde_json::to_vec_pretty(&provenance.flow).expect("plain data");
    let manifest = Manifest::imported(config, centres.into_iter().cloned().collect(), elsewhere, provenance, cases);
    let text = format!(
        "# Imported by lungai; images are not changed. Read by every program that takes a data set.\n{}",
        serde_yaml::to_string(&manifest).expect("plain data")
    );
    // The rules that loading will check, before anything takes its name.
    manifest.check_rules(Path::new("manifest.yaml"), &text)?;

    // From the lock to the manifest: a set that was interrupted here has no manifest, and a second run completes it.
    for stale in ["dataset.lock", "manifest.yaml"] {
        remove_file(&out.join(stale))?;
    }
    let tables = out.join("nodules");
    remove_folder(&tables)?;
    std::fs::rename(&draft, &tables).map_err(DatasetError::io(&tables))?;
    write_whole(&out.join("splits.csv"), &splits::csv(assigned))?;
    write_whole(&out.join("flow.json"), &flow)?;
    write_whole(&out.join("manifest.yaml"), text.as_bytes())?;
    let manifest = Manifest::load(out)?;
    lock::write(&manifest, out)?;
    Ok(manifest)
}

/// Copies each place once, to `images/ID` of its first series; what an earlier run copied is kept.
fn copy(import: &Import, members: &[Member]) -> Result<BTreeMap<PathBuf, PathBuf>, DatasetError> {
    let mut copies = BTreeMap::new();
    for Member { id, series, .. } in members {
        if copies.contains_key(&series.path) {
            continue;
        }
        let from = import.images.join(&series.path);
        let folder = Path::new("images").join(id);
        let base = if from.is_dir() { from.clone() } else { from.parent().unwrap_or(Path::new("")).to_owned() };
        for file in files_of(&from)? {
            let below = file.strip_prefix(&base).expect("a part of the place");
            let to = import.out.join(&folder).join(below);
            copy_file(&file, &to)?;
        }
        let path = if from.is_dir() { folder } else { folder.join(name(&from)) };
        copies.insert(series.path.clone(), path);
    }
    Ok(copies)
}

/// Copies under a draft's name; a file of the same size and a time not before the original's is there already.
fn copy_file(from: &Path, to: &Path) -> Result<(), DatasetError> {
    let meta = |path: &Path| std::fs::metadata(path);
    let source = meta(from).map_err(DatasetError::io(from))?;
    if let Ok(there) = meta(to)
        && there.len() == source.len()
        && there.modified().ok() >= source.modified().ok()
    {
        return Ok(());
    }
    let folder = to.parent().unwrap_or(Path::new(""));
    std::fs::create_dir_all(folder).map_err(DatasetError::io(folder))?;
    let draft = to.with_file_name(format!(".{}.part", name(to)));
    std::fs::copy(from, &draft).map_err(DatasetError::io(from))?;
    std::fs::rename(&draft, to).map_err(DatasetError::io(to))
}

fn remove_file(file: &Path) -> Result<(), DatasetError> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(DatasetError::io(file)(error)),
        _ => Ok(()),
    }
}
