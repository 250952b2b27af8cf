//! Opening a path and choosing one of its series.

use crate::failure::Failure;
use lungai_ct::Scan;
use lungai_datasets::open;
use std::path::Path;

/// The series that `wanted` names, else the one with most slices; what was left out is said on standard error.
pub fn choose(path: &Path, wanted: Option<&str>) -> Result<Scan, Failure> {
    let opened = open(path)?;
    for refused in &opened.refused {
        eprintln!("note: series {} is not read: {}", refused.series_uid, refused.error);
    }
    let others = opened.scans.len();
    let slices = |scan: &Scan| scan.volume.geometry().size()[0];
    let chosen = match wanted {
        Some(uid) => {
            let known: Vec<String> = opened.scans.iter().map(|scan| scan.series_uid.clone()).collect();
            opened.scans.into_iter().find(|scan| scan.series_uid == uid).ok_or_else(|| {
                Failure::new("unknown-series", format!("no such series; readable here: {}", known.join(", ")))
            })?
        }
        None => {
            // The first of equals: the reader's order does not depend on names of files.
            let most = opened.scans.iter().map(slices).max().unwrap_or(0);
            let mut scans = opened.scans.into_iter();
            scans
                .find(|scan| slices(scan) == most)
                .ok_or_else(|| Failure::new("no-ct-series", "no readable CT series"))?
        }
    };
    if others > 1 {
        eprintln!(
            "note: {others} series; taking {} ({} slices{})",
            chosen.series_uid,
            slices(&chosen),
            if wanted.is_some() { "" } else { ", the most; --series UID takes another" }
        );
    }
    Ok(chosen)
}
