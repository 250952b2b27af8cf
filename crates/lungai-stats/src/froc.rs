//! `froc`: marks against annotations in LUNA16's files.

use crate::luna16::{Cohort, Reference};
use crate::{Failure, Report};
use clap::ValueEnum;
use lungai_metrics::bootstrap::{Draws, FrocIntervals, froc_intervals};
use lungai_metrics::froc::{CPM_RATES, Counts, Froc, FrocPoint, Interpolation};
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::path::PathBuf;

/// CSV files may be gzipped. Lines of series that `--seriesuids` does not list are counted and otherwise ignored, as
/// the official script ignores them; a series listed twice is an error, because it would count its marks twice.
#[derive(clap::Args)]
#[command(after_help = "\
Example, the official evaluation of a submission with its 1000 bootstraps:
  cargo xtask stats froc --annotations annotations.csv --excluded annotations_excluded.csv --seriesuids seriesuids.csv \\
      --submission my_system.csv --bootstrap 1000

Positions are in mm (DICOM patient coordinates). A hit lies strictly within a nodule's radius; of several marks on a nodule the
highest counts; marks on excluded findings count for nothing; at most 100 marks a scan; every listed scan counts.")]
pub struct Args {
    #[command(flatten)]
    reference: Reference,
    /// Marks: columns seriesuid, coordX, coordY, coordZ, probability.
    #[arg(long)]
    submission: PathBuf,
    /// Bootstrap replicates over scans, for 95 % intervals (LUNA16: 1000).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    bootstrap: Option<u32>,
    /// Seed of the bootstrap. Where scans are drawn, an equal seed gives the official script's draws; with --patients or
    /// --strata it gives others, the same each time.
    #[arg(long, default_value_t = 0)]
    seed: u32,
    /// Draw patients instead of scans: columns seriesuid, patient; every listed series needs a line.
    #[arg(long, requires = "bootstrap")]
    patients: Option<PathBuf>,
    /// Results of each stratum (centre, vendor, ...) as well, and draw within strata: columns seriesuid, stratum; every listed
    /// series needs a line.
    #[arg(long)]
    strata: Option<PathBuf>,
    /// A BCa interval of the CPM beside the percentile one.
    #[arg(long, requires = "bootstrap")]
    bca: bool,
    /// False positives per scan, and threshold, at these sensitivities.
    #[arg(long, value_delimiter = ',', value_name = "S,S,...")]
    at_sensitivity: Vec<f64>,
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
pub enum Between {
    /// Straight line with the rounding of the official script: its digits.
    Luna16,
    /// Straight line.
    Linear,
    /// First point at or above the rate, as NoduleNet's copy.
    FirstAtOrAbove,
}

impl From<Between> for Interpolation {
    fn from(between: Between) -> Self {
        match between {
            Between::Luna16 => Self::Luna16,
            Between::Linear => Self::Linear,
            Between::FirstAtOrAbove => Self::FirstAtOrAbove,
        }
    }
}

pub fn run(args: &Args) -> Result<Report, Failure> {
    let how = args.interpolation.into();
    let cohort = Cohort::read(&args.reference)?;
    let submission = cohort.submission(&args.submission, &args.reference)?;
    let froc = cohort.froc(&submission, &args.reference)?;
    let sensitivity = froc.sensitivity_at(&CPM_RATES, how)?;
    let points = CPM_RATES.iter().map(|rate| froc.operating_point(*rate)).collect::<Result<Vec<_>, _>>()?;
    let strata = args.strata.as_ref().map(|path| cohort.labels(path, "stratum")).transpose()?;
    let draws =
        args.bootstrap.map(|replicates| draws(args, &cohort, strata.as_ref(), replicates as usize)).transpose()?;
    let intervals = draws.as_ref().map(|draws| froc_intervals(&froc, draws, &CPM_RATES, how, 0.95)).transpose()?;
    if let Some(path) = &args.curve {
        let mut text = "threshold,fp_per_scan,sensitivity\n".to_owned();
        for p in froc.curve() {
            let _ = writeln!(text, "{},{},{}", p.threshold, p.fp_per_scan, p.sensitivity);
        }
        crate::write(path, &text)?;
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
        "outside_seriesuids": { "annotations": cohort.outside[0], "excluded": cohort.outside[1],
            "submission": submission.outside },
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
    let mut text = table(&sensitivity, &points, cpm, &counts, intervals.as_ref());
    if let (true, Some(draws)) = (args.bca, &draws) {
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        let whole = draws.bootstrap(|weights| froc.resampled(weights, &CPM_RATES, how).map(mean), 0.95)?;
        if let Some([low, high]) = whole.bca {
            out["cpm_bca95"] = json!([low, high]);
            let _ = writeln!(text, "    CPM, BCa                      {low:.6} - {high:.6}");
        }
    }
    if !args.at_sensitivity.is_empty() {
        let _ = writeln!(text, "\nsensitivity  FP/scan   threshold");
        let mut at = Map::new();
        for wanted in &args.at_sensitivity {
            match froc.operating_point_for(*wanted)? {
                Some(p) => {
                    let _ = writeln!(text, "{wanted:>11}  {:.6}  {:>9.6}", p.fp_per_scan, p.threshold);
                    let point =
                        json!({ "fp_per_scan": p.fp_per_scan, "threshold": p.threshold, "sensitivity": p.sensitivity });
                    at.insert(wanted.to_string(), point);
                }
                // Absent in JSON: no threshold reaches it.
                None => _ = writeln!(text, "{wanted:>11}  never reached"),
            }
        }
        out["fp_per_scan_at"] = Value::Object(at);
    }
    if let Some(strata) = &strata {
        let (json, rows) = by_stratum(&froc, strata, draws.as_ref(), how)?;
        out["strata"] = json;
        text += &rows;
    }
    Ok(Report { json: out, table: text })
}

fn draws(
    args: &Args,
    cohort: &Cohort,
    strata: Option<&(Vec<usize>, Vec<String>)>,
    replicates: usize,
) -> Result<Draws, Failure> {
    let scans: Vec<usize> = (0..cohort.place.len()).collect();
    let clusters = args.patients.as_ref().map(|path| cohort.labels(path, "patient")).transpose()?;
    let clusters = clusters.map_or(scans, |(of_scan, _)| of_scan);
    let seed = u64::from(args.seed);
    Ok(match strata {
        Some((of_scan, _)) => Draws::of_clusters_within(&clusters, of_scan, replicates, seed)?,
        None if args.patients.is_some() => Draws::of_clusters(&clusters, replicates, seed)?,
        None => Draws::of_scans(clusters.len(), replicates, args.seed)?,
    })
}

/// Every stratum's CPM on its own scans; one without nodules has none.
fn by_stratum(
    froc: &Froc,
    (of_scan, names): &(Vec<usize>, Vec<String>),
    draws: Option<&Draws>,
    how: Interpolation,
) -> Result<(Value, String), Failure> {
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let mut out = Map::new();
    let mut text = format!("\n{:<24} {:>6} {:>9}  95 % interval\n", "stratum", "scans", "CPM");
    for (stratum, name) in names.iter().enumerate() {
        let of_stratum = |weights: &[u32]| -> Option<f64> {
            let own: Vec<u32> = weights.iter().zip(of_scan).map(|(w, s)| if *s == stratum { *w } else { 0 }).collect();
            froc.resampled(&own, &CPM_RATES, how).map(mean)
        };
        let scans = of_scan.iter().filter(|s| **s == stratum).count();
        let mut json = json!({ "scans": scans });
        let _ = write!(text, "{name:<24} {scans:>6} ");
        match (of_stratum(&vec![1; of_scan.len()]), draws) {
            (Some(cpm), Some(draws)) => {
                let whole = draws.percentile_bootstrap(of_stratum, 0.95)?;
                let [low, high] = whole.percentile;
                json["cpm"] = json!(cpm);
                json["cpm_ci95"] = json!(whole.percentile);
                let _ = writeln!(text, "{cpm:>9.6}  {low:.6} - {high:.6}");
            }
            (Some(cpm), None) => {
                json["cpm"] = json!(cpm);
                let _ = writeln!(text, "{cpm:>9.6}");
            }
            (None, _) => _ = writeln!(text, "  no nodules"),
        }
        out.insert(name.clone(), json);
    }
    Ok((Value::Object(out), text))
}

fn table(
    sensitivity: &[f64],
    points: &[FrocPoint],
    cpm: f64,
    counts: &Counts,
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
