//! Every file of `regulatory/` is read, or refused: one that nobody reads would be a record that does not count, and nobody would know.
use super::yaml::nearest;
use super::{Failure, Profile};
use crate::failure::fail;
use std::collections::BTreeSet;
use std::path::Path;

const FILES: [&str; 13] = [
    "README.md",
    "benefit-risk.yaml",
    "bundled.yaml",
    "change-control.yaml",
    "items.yaml",
    "matrix.yaml",
    "mutations.yaml",
    "profile.yaml",
    "settled.yaml",
    "soup.yaml",
    "trace.lock",
    "vex.yaml",
    "waivers.yaml",
];

/// Folders and how the names of their files end.
const FOLDERS: [(&str, &str); 11] = [
    ("changes", ".yaml"),
    ("clauses", ".yaml"),
    ("needs", ".yaml"),
    ("plans", ".md"),
    ("problems", ".yaml"),
    ("releases", ".yaml"),
    ("requirements", ".yaml"),
    ("reviews", ".yaml"),
    ("risks", ".yaml"),
    ("schemas", ".schema.json"),
    ("threats", ".yaml"),
];

/// Each file has a name under which it is read.
pub fn check(folder: &Path, profile: &Profile) -> Result<(), Failure> {
    let tables: BTreeSet<&str> = profile.standards.iter().filter_map(|standard| standard.clauses.as_deref()).collect();
    for (name, is_folder) in entries(folder, "")? {
        if !is_folder {
            if !FILES.contains(&name.as_str()) {
                return refuse(&name, &nearest(&name, FILES.into_iter()));
            }
            continue;
        }
        let Some((_, ending)) = FOLDERS.iter().find(|(known, _)| *known == name) else {
            return refuse(&name, &nearest(&name, FOLDERS.into_iter().map(|(known, _)| known)));
        };
        for (file, is_folder) in entries(&folder.join(&name), &name)? {
            let place = format!("{name}/{file}");
            if is_folder || (!file.ends_with(ending) && file != "README.md") {
                let stem = file.split('.').next().unwrap_or_default();
                return refuse(&place, &format!("{name}/{stem}{ending}"));
            }
            if name == "clauses" && file != "README.md" && !tables.contains(file.as_str()) {
                return refuse(&place, &nearest(&file, tables.iter().copied()));
            }
        }
    }
    Ok(())
}

fn refuse(place: &str, nearest: &str) -> Result<(), Failure> {
    fail("unknown-file", format!("regulatory/{place}: no file of this name is read; nearest: {nearest}"))
}

/// Name, and whether it is a folder, sorted.
fn entries(folder: &Path, name: &str) -> Result<Vec<(String, bool)>, Failure> {
    let unreadable = |error: std::io::Error| Failure::new("unreadable", format!("regulatory/{name}: {error}"));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.path().is_dir()));
    }
    found.sort();
    Ok(found)
}
