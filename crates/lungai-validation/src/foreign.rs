//! Predictions that were made elsewhere: one table of marks, CSV or Parquet, of any system.
//!
//! Columns, in any order: `case` (or `seriesuid`), `x_lps_mm`, `y_lps_mm`, `z_lps_mm` (or `coordX`, `coordY`, `coordZ`: LUNA16's
//! world positions are the same axes), `score` (or `probability`; higher is surer, any finite number), and if the system
//! gives them `diameter_mm` and `malignancy` (a probability). A case without a line is one without a mark.
//!
//! Nothing is repaired: a table that can only be meant in another unit or frame is refused with what speaks for it.

use crate::failure::Failure;
use crate::record::{Covariates, Prediction, SystemMark};
use crate::reference::Reference;
use crate::rows::{Row, Rows};
use crate::run::acquisition;
use lungai_ct::{Geometry, WorldPoint};
use lungai_datasets::{Manifest, sha256};
use lungai_trace::implements;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

/// Nobody is so large: positions in mm beyond this, from a scanner's isocentre, are in another unit.
const FARTHEST_MM: f64 = 3000.0;

/// No nodule is so large.
const LARGEST_MM: f64 = 150.0;

/// Predictions of another system.
#[derive(Debug)]
pub struct Foreign {
    /// SHA-256 of the file.
    pub sha256: String,
    /// One for each case of the reference.
    pub cases: Vec<Prediction>,
}

/// Reads a table of marks.
///
/// - `images`: whether the scans are opened, for their grids, which tell voxels from mm, and for how they were acquired
///
/// # Errors
/// `unknown-study`, `not-finite`, `duplicated-mark`, `bad-value`, `wrong-unit`, `outside-scan`, `unknown-column`, with file and
/// line.
#[implements("SW-1102", "FR-004")]
pub fn read(path: &Path, reference: &Reference<'_>, manifest: &Manifest, images: bool) -> Result<Foreign, Failure> {
    let bytes = std::fs::read(path).map_err(crate::failure::io(path))?;
    let required: [&[&str]; 5] = [
        &["case", "seriesuid", "series_uid"],
        &["x_lps_mm", "coordX"],
        &["y_lps_mm", "coordY"],
        &["z_lps_mm", "coordZ"],
        &["score", "probability"],
    ];
    let rows = Rows::read(path, &required, &[&["diameter_mm"], &["malignancy", "malignancy_probability"]])?;
    let mut marks: BTreeMap<usize, Vec<(Row<'_>, SystemMark)>> = BTreeMap::new();
    let mut places: BTreeMap<(usize, [u64; 3]), usize> = BTreeMap::new();
    for row in rows.iter() {
        let case = reference.find(row.text("case"), manifest).map_err(|what| row.refuse("unknown-study", what))?;
        let mark = mark(&rows, &row)?;
        let place = (case, mark.position_lps_mm.map(|mm| (mm + 0.0).to_bits()));
        if let Some(first) = places.insert(place, row.line) {
            let message = format!("the same mark as in line {first}: same study, same position");
            return Err(row.refuse("duplicated-mark", message));
        }
        marks.entry(case).or_default().push((row, mark));
    }
    units(marks.values().flatten())?;
    if images {
        eprintln!("opening {} scans for their grids", reference.cases.len());
    }
    let cases = reference
        .cases
        .par_iter()
        .enumerate()
        .map(|(place, truth)| {
            let own = marks.get(&place).map(Vec::as_slice).unwrap_or_default();
            let scan = images.then(|| truth.case.load_scan()).transpose()?;
            if let Some(scan) = &scan {
                inside(own, scan.volume.geometry())?;
            }
            let mut marks: Vec<SystemMark> = own.iter().map(|(_, mark)| *mark).collect();
            marks.sort_by(|a, b| b.score.total_cmp(&a.score));
            Ok(Prediction {
                case: truth.case.id.clone(),
                quality: "accept".into(),
                quality_rules: Vec::new(),
                lungs: None,
                seconds: None,
                acquisition: scan.as_ref().map_or_else(Covariates::default, acquisition),
                marks,
                baseline: None,
            })
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    Ok(Foreign { sha256: sha256(&bytes), cases })
}

fn mark(rows: &Rows, row: &Row<'_>) -> Result<SystemMark, Failure> {
    let position_lps_mm = [row.number("x_lps_mm")?, row.number("y_lps_mm")?, row.number("z_lps_mm")?];
    let score = row.number("score")?;
    let diameter_mm = row.optional("diameter_mm")?;
    if let Some(mm) = diameter_mm.filter(|mm| !(*mm > 0.0 && *mm <= LARGEST_MM)) {
        let message = format!("diameter_mm {mm} is no diameter of a nodule in mm: above 0, at most {LARGEST_MM}");
        return Err(row.refuse("wrong-unit", message));
    }
    // Rated here and not there, a mark would count as benign.
    let malignancy = if rows.has("malignancy") { Some(row.number("malignancy")?) } else { None };
    if let Some(p) = malignancy.filter(|p| !(0.0..=1.0).contains(p)) {
        return Err(row.refuse("bad-value", format!("malignancy {p} is no probability, 0 to 1")));
    }
    Ok(SystemMark { position_lps_mm, score, diameter_mm, malignancy })
}

/// What the numbers alone say of their unit.
fn units<'a>(marks: impl Iterator<Item = &'a (Row<'a>, SystemMark)> + Clone) -> Result<(), Failure> {
    if let Some((row, mark)) = marks.clone().find(|(_, m)| m.position_lps_mm.iter().any(|mm| mm.abs() > FARTHEST_MM)) {
        let message = format!("{:?} mm lies metres away from any scanner", mark.position_lps_mm);
        return Err(row.refuse("wrong-unit", message));
    }
    // Positions in mm are hardly ever whole, and about half of a chest lies at negative x.
    let n = marks.clone().count();
    let index_like = |m: &SystemMark| m.position_lps_mm.iter().all(|v| *v >= 0.0 && v.fract() == 0.0);
    match marks.clone().next() {
        Some((row, _)) if n >= 5 && marks.clone().all(|(_, m)| index_like(m)) => {
            let message = format!("all {n} positions are whole numbers from 0 on: voxels, not patient LPS mm");
            Err(row.refuse("wrong-unit", message))
        }
        _ => Ok(()),
    }
}

/// Every mark lies in its scan; where most do not, whether they would as voxels.
fn inside(marks: &[(Row<'_>, SystemMark)], grid: &Geometry) -> Result<(), Failure> {
    let outside: Vec<&(Row<'_>, SystemMark)> =
        marks.iter().filter(|(_, mark)| grid.voxel_at(WorldPoint(mark.position_lps_mm)).is_none()).collect();
    let Some((row, mark)) = outside.first() else { return Ok(()) };
    let [nz, ny, nx] = grid.size().map(|n| n as f64);
    let as_voxels = |size: [f64; 3]| {
        let within = |m: &SystemMark| m.position_lps_mm.iter().zip(size).all(|(v, n)| *v >= -0.5 && *v <= n - 0.5);
        marks.iter().all(|(_, mark)| within(mark))
    };
    let ([x, y, z], n, all) = (mark.position_lps_mm, outside.len(), marks.len());
    let place = format!("({x}, {y}, {z}) mm lies outside of its scan");
    if 2 * n >= all && (as_voxels([nx, ny, nz]) || as_voxels([nz, ny, nx])) {
        let message =
            format!("{place}, as do {n} of its {all} marks; as voxel numbers all lie within: give patient LPS mm");
        return Err(row.refuse("wrong-unit", message));
    }
    Err(row.refuse("outside-scan", place))
}
