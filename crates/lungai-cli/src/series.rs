//! Opening a path and choosing one of its series.

use crate::failure::Failure;
use lungai_ct::Scan;
use lungai_datasets::open;
use std::path::Path;

/// The series that `wanted` names, else the largest; what was left out is said on standard error.
pub fn choose(path: &Path, wanted: Option<&str>) -> Result<Scan, Failure> {
    let opened = open(path)?;
    for refused in &opened.refused {
        eprintln!("note: series {} is not read: {}", refused.series_uid, refused.error);
    }
    let others = opened.scans.len();
    let chosen = match wanted {
        Some(uid) => {
            let known: Vec<String> = opened.scans.iter().map(|scan| scan.series_uid.clone()).collect();
            opened.scans.into_iter().find(|scan| scan.series_uid == uid).ok_or_else(|| {
                Failure::new("unknown-series", format!("no such series; readable here: {}", known.join(", ")))
            })?
        }
        // The first: as the service takes it.
        None => opened.scans.into_iter().next().ok_or_else(|| Failure::new("no-ct-series", "no readable CT series"))?,
    };
    if others > 1 {
        eprintln!(
            "note: {others} series; taking {} ({} slices{})",
            chosen.series_uid,
            chosen.volume.geometry().size()[0],
            if wanted.is_some() { "" } else { ", the largest; --series UID takes another" }
        );
    }
    Ok(chosen)
}
