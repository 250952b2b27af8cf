//! `froc`: marks against annotations in LUNA16's files.

use crate::table::{Row, Table};
use crate::{Failure, Report};
use clap::ValueEnum;
use lungai_ct::WorldPoint;
use lungai_metrics::bootstrap::{Draws, FrocIntervals, froc_intervals};
use lungai_metrics::froc::{CPM_RATES, Interpolation, froc};
use lungai_metrics::matching::{Lesion, Mark, MatchRule};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// CSV files may be gzipped. Lines of series that `--seriesuids` does not list are counted and otherwise ignored, as
/// the official script ignores them; a series listed twice is an error, because it would count its marks twice.
#[derive(clap::Args)]
pub struct Args {
    /// Nodules: columns seriesuid, coordX, coordY, coordZ, diameter_mm.
    #[arg(long)]
    annotations: PathBuf,
    /// Findings that are not scored: same columns; a negative diameter means 10 mm.
    #[arg(long)]
    excluded: PathBuf,
    /// Scans that count, one series UID a line, also those without marks or nodules.
    #[arg(long)]
    seriesuids: PathBuf,
    /// Marks: columns seriesuid, coordX, coordY, coordZ, probability.
    #[arg(long)]
    submission: PathBuf,
    /// Bootstrap replicates over scans, for 95 % intervals (LUNA16: 1000).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    bootstrap: Option<u32>,
    /// Seed of the bootstrap; equal seeds give the official script's draws.
    #[arg(long, default_value_t = 0)]
    seed: u32,
    /// Draw patients instead of scans: columns seriesuid, patient; every listed series needs a line.
    #[arg(long, requires = "bootstrap")]
    patients: Option<PathBuf>,
    /// How sensitivity is read between two points.
    #[arg(long, value_enum, default_value_t = Between::Luna16)]
    interpolation: Between,
    /// Write the curve there as CSV: threshold, false positives per scan, sensitivity.
    #[arg(long)]
    curve: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Between {
    /// Straight line with the rounding of the official script: its digits.
    Luna16,
    /// Straight line.
    Linear,
    /// First point at or above the rate, as NoduleNet's copy.
    FirstAtOrAbove,
}

pub fn run(args: &Args) -> Result<Report, Failure> {
    let how = match args.interpolation {
        Between::Luna16 => Interpolation::Luna16,
        Between::Linear => Interpolation::Linear,
        Between::FirstAtOrAbove => Interpolation::FirstAtOrAbove,
    };
    let place = series(&args.seriesuids)?;
    let mut scans: Vec<(Vec<Mark>, Vec<Lesion>)> = vec![(vec![], vec![]); place.len()];
    let mut outside = [0; 3];
    for (i, (path, excluded)) in [(&args.annotations, false), (&args.excluded, true)].into_iter().enumerate() {
        outside[i] = findings(path, "diameter_mm", &place, |scan, position, diameter_mm| {
            scans[scan].1.push(Lesion { position, diameter_mm, excluded });
        })?;
    }
    outside[2] = findings(&args.submission, "probability", &place, |scan, position, score| {
        scans[scan].0.push(Mark { position, score });
    })?;

    let froc = froc(&scans, &MatchRule::LUNA16)?;
    let sensitivity = froc.sensitivity_at(&CPM_RATES, how)?;
    let points = CPM_RATES.iter().map(|rate| froc.operating_point(*rate)).collect::<Result<Vec<_>, _>>()?;
    let intervals = match args.bootstrap {
        Some(replicates) => {
            let draws = match &args.patients {
                Some(path) => Draws::of_clusters(&patients(path, &place)?, replicates as usize, u64::from(args.seed))?,
                None => Draws::of_scans(scans.len(), replicates as usize, args.seed)?,
            };
            Some(froc_intervals(&froc, &draws, &CPM_RATES, how, 0.95)?)
        }
        None => None,
    };
    if let Some(path) = &args.curve {
        let mut text = "threshold,fp_per_scan,sensitivity\n".to_owned();
        for p in froc.curve() {
            let _ = writeln!(text, "{},{},{}", p.threshold, p.fp_per_scan, p.sensitivity);
        }
        std::fs::write(path, text).map_err(|error| Failure {
            rule: "file-unwritable".into(),
            message: format!("{}: {error}", path.display()),
        })?;
    }

    let by_rate = |value: &dyn Fn(usize) -> Value| -> Map<String, Value> {
        let named = CPM_RATES.iter().enumerate().map(|(i, rate)| (rate.to_string(), value(i)));
        named.filter(|(_, value)| !value.is_null()).collect()
    };
    let counts = froc.counts();
    let cpm = froc.cpm(how);
    let mut out = json!({
        "ok": true,
        "cpm": cpm,
        "sensitivity_at": by_rate(&|i| json!(sensitivity[i])),
        // Absent where even the highest mark is beyond the rate.
        "threshold_at": by_rate(&|i| if points[i].threshold.is_finite() { json!(points[i].threshold) } else { Value::Null }),
        "counts": {
            "true_positives": counts.true_positives,
            "false_positives": counts.false_positives,
            "false_negatives": counts.false_negatives,
            "ignored_on_excluded": counts.ignored_on_excluded,
            "doubles": counts.doubles,
            "beyond_100_marks": counts.beyond_limit,
            "scans": counts.scans,
            "nodules": counts.nodules,
        },
        "outside_seriesuids": { "annotations": outside[0], "excluded": outside[1], "submission": outside[2] },
    });
    if let Some(i) = &intervals {
        out["ci95"] = json!(by_rate(&|k| json!(i.intervals[k])));
        out["bootstrap_mean"] = json!(by_rate(&|k| json!(i.mean[k])));
        out["cpm_ci95"] = json!(i.cpm);
        out["bootstrap"] = json!({
            "replicates": args.bootstrap,
            "seed": args.seed,
            "unit": if args.patients.is_some() { "patient" } else { "scan" },
            "replicates_without_nodules": i.empty_replicates,
        });
    }
    Ok(Report { json: out, table: table(&sensitivity, &points, cpm, &counts, intervals.as_ref()) })
}

fn table(
    sensitivity: &[f64],
    points: &[lungai_metrics::froc::FrocPoint],
    cpm: f64,
    counts: &lungai_metrics::froc::Counts,
    intervals: Option<&FrocIntervals>,
) -> String {
    let mut text = format!("{} scans, {} nodules\n", counts.scans, counts.nodules);
    let _ = writeln!(
        text,
        "found {}, missed {}, false positives {}, on excluded findings {}, doubles {}\n",
        counts.true_positives,
        counts.false_negatives,
        counts.false_positives,
        counts.ignored_on_excluded,
        counts.doubles
    );
    let ci =
        |interval: Option<&[f64; 2]>| interval.map_or(String::new(), |[low, high]| format!("  {low:.6} - {high:.6}"));
    let head = if intervals.is_some() { "  95 % interval" } else { "" };
    let _ = writeln!(text, "FP/scan  sensitivity  threshold{head}");
    for (i, rate) in CPM_RATES.iter().enumerate() {
        let interval = ci(intervals.map(|all| &all.intervals[i]));
        let _ = writeln!(text, "{rate:>7}     {:.6}  {:>9.6}{interval}", sensitivity[i], points[i].threshold);
    }
    let _ = writeln!(text, "    CPM     {cpm:.6}           {}", ci(intervals.map(|all| &all.cpm)));
    text
}

/// Place of every listed series, in the order of the file.
fn series(path: &Path) -> Result<HashMap<String, usize>, Failure> {
    let list = Table::list(path)?;
    let mut place = HashMap::new();
    for (i, row) in list.rows().iter().enumerate() {
        let uid = row.cells.get(0).unwrap_or_default();
        if uid.is_empty() {
            return Err(list.failure(row, "csv-missing-value", "no series UID"));
        }
        if i == 0 && uid == "seriesuid" {
            continue;
        }
        if place.insert(uid.to_owned(), place.len()).is_some() {
            return Err(list.failure(row, "duplicate-seriesuid", "this series is listed before"));
        }
    }
    if place.is_empty() {
        return Err(Failure { rule: "csv-empty".into(), message: format!("{}: no series UIDs", list.file()) });
    }
    Ok(place)
}

/// Calls `take` with scan, position and the `value` column of every line; returns the number of lines of other series.
fn findings(
    path: &Path,
    value: &str,
    place: &HashMap<String, usize>,
    mut take: impl FnMut(usize, WorldPoint, f64),
) -> Result<usize, Failure> {
    let table = Table::with_header(path)?;
    let uid = table.column("seriesuid")?;
    let coordinates = [table.column("coordX")?, table.column("coordY")?, table.column("coordZ")?];
    let value = table.column(value)?;
    let mut outside = 0;
    for row in table.rows() {
        // Read before the series is looked up: a malformed line is an error wherever it belongs.
        let mut position = [0.0; 3];
        for (mm, column) in position.iter_mut().zip(coordinates) {
            *mm = table.required_number(row, column)?;
        }
        let value = table.required_number(row, value)?;
        match place.get(&row.cells[uid]) {
            Some(scan) => take(*scan, WorldPoint(position), value),
            None => outside += 1,
        }
    }
    Ok(outside)
}

/// A number for each scan's patient.
fn patients(path: &Path, place: &HashMap<String, usize>) -> Result<Vec<usize>, Failure> {
    let table = Table::with_header(path)?;
    let (uid, patient) = (table.column("seriesuid")?, table.column("patient")?);
    let mut names: HashMap<&str, usize> = HashMap::new();
    let mut of_scan = vec![None; place.len()];
    for row in table.rows() {
        let Some(scan) = place.get(&row.cells[uid]) else { continue };
        let next = names.len();
        let name = *names.entry(&row.cells[patient]).or_insert(next);
        if of_scan[*scan].replace(name).is_some_and(|before| before != name) {
            return Err(ambiguous(&table, row));
        }
    }
    of_scan.into_iter().collect::<Option<Vec<_>>>().ok_or_else(|| Failure {
        rule: "unknown-patient".into(),
        message: format!("{}: at least one listed series has no line", table.file()),
    })
}

fn ambiguous(table: &Table, row: &Row) -> Failure {
    table.failure(row, "ambiguous-patient", "this series belongs to another patient before")
}
