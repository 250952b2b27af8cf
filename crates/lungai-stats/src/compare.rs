//! `compare`: two submissions on the same scans.

use crate::froc::Between;
use crate::luna16::{Cohort, Reference};
use crate::{Failure, Report};
use lungai_metrics::bootstrap::{Bootstrapped, Draws, cpm_permutation};
use lungai_metrics::decision::{Claim, decide};
use lungai_metrics::froc::{CPM_RATES, Froc, Interpolation};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;

/// First minus second: CPM and the sensitivity at each rate, with intervals by bootstrap over the same draws for both, and a
/// permutation test of the CPM. Files as for `froc`.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  cargo xtask stats compare --annotations annotations.csv --excluded annotations_excluded.csv --seriesuids seriesuids.csv \\
      --first new.csv --second old.csv --patients patients.csv --margin 0.02

With --margin the first is also judged not inferior: the lower bound of the difference of CPM must lie above minus the margin.")]
pub struct Args {
    #[command(flatten)]
    reference: Reference,
    /// Marks of the first system: columns seriesuid, coordX, coordY, coordZ, probability.
    #[arg(long)]
    first: PathBuf,
    /// Marks of the second system.
    #[arg(long)]
    second: PathBuf,
    /// Bootstrap replicates.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    bootstrap: u32,
    /// Arrangements of the permutation test.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    permutations: u32,
    /// Draw and swap patients instead of scans: columns seriesuid, patient.
    #[arg(long)]
    patients: Option<PathBuf>,
    /// Draw within strata: columns seriesuid, stratum.
    #[arg(long)]
    strata: Option<PathBuf>,
    /// Seed of both.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Margin of non-inferiority, above 0.
    #[arg(long)]
    margin: Option<f64>,
    /// How sensitivity is read between two points.
    #[arg(long, value_enum, default_value_t = Between::Luna16)]
    interpolation: Between,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &Args) -> Result<Report, Failure> {
    let how: Interpolation = args.interpolation.into();
    let cohort = Cohort::read(&args.reference)?;
    let system = |path: &PathBuf| -> Result<Froc, Failure> {
        cohort.froc(&cohort.submission(path, &args.reference)?, &args.reference)
    };
    let (first, second) = (system(&args.first)?, system(&args.second)?);
    let patients = match &args.patients {
        Some(path) => cohort.labels(path, "patient")?.0,
        None => (0..cohort.place.len()).collect(),
    };
    let strata = match &args.strata {
        Some(path) => cohort.labels(path, "stratum")?.0,
        None => vec![0; cohort.place.len()],
    };
    let draws = Draws::of_clusters_within(&patients, &strata, args.bootstrap as usize, args.seed)?;
    let difference = |rates: &[f64], weights: &[u32]| {
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        Some(first.resampled(weights, rates, how).map(mean)? - second.resampled(weights, rates, how).map(mean)?)
    };
    let cpm = draws.bootstrap(|weights| difference(&CPM_RATES, weights), 0.95)?;
    let test = cpm_permutation(&first, &second, &patients, how, args.permutations as usize, args.seed)?;
    let both = [&first, &second].map(|froc| froc.cpm(how));
    let mut text = format!(
        "CPM {:.6} and {:.6}\n\n{:<12} {:>10}  95 % interval (percentile)\n",
        both[0], both[1], "FP/scan", "difference"
    );
    let row = |text: &mut String, name: &str, found: &Bootstrapped| {
        let [low, high] = found.percentile;
        let _ = writeln!(text, "{name:<12} {:>10.6}  {low:.6} - {high:.6}", found.value);
    };
    let mut at = serde_json::Map::new();
    for rate in CPM_RATES {
        let found = draws.percentile_bootstrap(|weights| difference(&[rate], weights), 0.95)?;
        row(&mut text, &rate.to_string(), &found);
        at.insert(rate.to_string(), json!({ "difference": found.value, "ci95": found.percentile }));
    }
    row(&mut text, "CPM", &cpm);
    let _ = writeln!(text, "permutation p = {:.6} ({} arrangements)", test.p, test.arrangements);
    let mut out = json!({
        "ok": true,
        "first": { "cpm": both[0] },
        "second": { "cpm": both[1] },
        "cpm_difference": { "value": cpm.value, "ci95": cpm.percentile, "standard_error": cpm.standard_error,
            "bca95": cpm.bca },
        "sensitivity_difference_at": Value::Object(at),
        "permutation": { "p": test.p, "arrangements": test.arrangements, "exact": test.exact },
        "bootstrap": { "replicates": args.bootstrap, "seed": args.seed,
            "unit": if args.patients.is_some() { "patient" } else { "scan" } },
    });
    if cpm.bca.is_none() {
        out["cpm_difference"].as_object_mut().expect("an object").remove("bca95");
    }
    let mut claims = vec![("superior", Claim::Superior)];
    claims.extend(args.margin.map(|margin| ("non_inferior", Claim::NonInferior(margin))));
    for (name, claim) in claims {
        let decision = decide(cpm.percentile, claim)?;
        out[name] = json!({ "met": decision.met, "bound": decision.bound, "limit": decision.limit });
        let word = if decision.met { "shown" } else { "not shown" };
        let _ = writeln!(text, "{name}: {word} (bound {:.6}, limit {:.6})", decision.bound, decision.limit);
    }
    Ok(Report { json: out, table: text })
}
