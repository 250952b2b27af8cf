//! `kappa`: agreement of several raters.

use crate::table::Table;
use crate::{Failure, Report};
use lungai_metrics::MetricsError;
use lungai_metrics::agreement::{Kappa, RatingCounts, RatingPairs, Scale, Weights, cohen, fleiss, krippendorff};
use lungai_metrics::bootstrap::Draws;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

/// Rows are subjects, columns raters, the first line names the raters. An empty cell or `NA` is no rating: Fleiss' kappa
/// uses the complete rows, Cohen's the rows with both raters, Krippendorff's alpha all rows with two ratings.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask stats kappa --csv ratings.csv --bootstrap 10000
  cargo xtask stats kappa --csv types.csv --nominal         # solid, part-solid, ...

  ratings.csv
  reader_a,reader_b,reader_c
  3,3,4
  1,2,NA

Weights of Cohen's kappa go by the distance of the values: of 1, 2 and 5 the last two are three steps apart. --by-rank counts used values
instead, as scikit-learn does without labels.")]
pub struct Args {
    /// The ratings; may be gzipped.
    #[arg(long)]
    csv: PathBuf,
    /// Ratings are names, not numbers: measures that need an order are left out.
    #[arg(long)]
    nominal: bool,
    /// Weights by the rank of the values that a pair of raters uses.
    #[arg(long, conflicts_with = "nominal")]
    by_rank: bool,
    /// Bootstrap replicates over subjects, for 95 % percentile intervals of Cohen's and Fleiss' kappa.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    bootstrap: Option<u32>,
    /// Seed of the bootstrap.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &Args) -> Result<Report, Failure> {
    let table = Table::with_header(&args.csv)?;
    let raters = table.header();
    if raters.len() < 2 {
        let message = format!("{}: {} rater, at least 2 needed", table.file(), raters.len());
        return Err(Failure { rule: "too-few-cases".into(), message });
    }
    let ratings = if args.nominal { names(&table) } else { numbers(&table)? };

    let present = |row: &Vec<Option<f64>>| row.iter().flatten().copied().collect::<Vec<f64>>();
    let rows: Vec<Vec<f64>> = ratings.iter().map(present).collect();
    let complete: Vec<Vec<f64>> = rows.iter().filter(|row| row.len() == raters.len()).cloned().collect();

    let mut out = json!({ "ok": true, "subjects": rows.len(), "complete_subjects": complete.len() });
    let mut text = format!("{} subjects, {} rated by all {} raters\n\n", rows.len(), complete.len(), raters.len());
    if !complete.is_empty() {
        let kappa = fleiss(&complete)?;
        out["fleiss"] = json!(kappa);
        let _ = writeln!(text, "Fleiss kappa           {kappa:.6}");
        if let Some(draws) = draws(args, complete.len())? {
            let counts = RatingCounts::new(&complete)?;
            let found = draws.percentile_bootstrap(|times| counts.fleiss(|subject| f64::from(times[subject])), 0.95)?;
            out["fleiss_bootstrap95"] = json!(found.percentile);
        }
    }
    let mut alphas = Map::new();
    for (name, scale) in [("nominal", Scale::Nominal), ("ordinal", Scale::Ordinal), ("interval", Scale::Interval)] {
        if !args.nominal || scale == Scale::Nominal {
            let alpha = krippendorff(&rows, scale)?;
            alphas.insert(name.into(), json!(alpha));
            let _ = writeln!(text, "Krippendorff {name:<9} {alpha:.6}");
        }
    }
    out["krippendorff"] = Value::Object(alphas);

    let kinds: &[(&str, Weights)] = if args.nominal {
        &[("cohen", Weights::None)]
    } else {
        &[("cohen", Weights::None), ("linear", Weights::Linear), ("quadratic", Weights::Quadratic)]
    };
    let mut pairs = Vec::new();
    let _ = writeln!(text, "\n{:<28} Cohen (linear, quadratic)", "pair");
    for a in 0..raters.len() {
        for b in a + 1..raters.len() {
            let (first, second): (Vec<f64>, Vec<f64>) =
                ratings.iter().filter_map(|row| Some((row[a]?, row[b]?))).unzip();
            let (first, second) = if args.by_rank { ranks(&first, &second) } else { (first, second) };
            let draws = if first.is_empty() { None } else { draws(args, first.len())? };
            let mut pair = json!({ "a": raters[a], "b": raters[b], "subjects": first.len() });
            let _ = write!(text, "{:<28}", format!("{} - {}", raters[a], raters[b]));
            for (name, weights) in kinds {
                // Absent where this pair has nothing to agree on.
                if let Some(kappa) = defined(cohen(&first, &second, *weights, 0.95))? {
                    pair[*name] = json!(kappa.value);
                    pair[format!("{name}_ci95")] = json!(kappa.interval);
                    pair[format!("{name}_se")] = json!(kappa.standard_error);
                    let _ = write!(text, " {:.6}", kappa.value);
                    if let Some(draws) = &draws {
                        let both = RatingPairs::new(&first, &second)?;
                        let figure = |times: &[u32]| both.table(|subject| f64::from(times[subject])).kappa(*weights);
                        pair[format!("{name}_bootstrap95")] =
                            json!(draws.percentile_bootstrap(figure, 0.95)?.percentile);
                    }
                }
            }
            text.push('\n');
            pairs.push(pair);
        }
    }
    out["pairs"] = json!(pairs);
    Ok(Report { json: out, table: text })
}

fn draws(args: &Args, subjects: usize) -> Result<Option<Draws>, Failure> {
    let each: Vec<usize> = (0..subjects).collect();
    let of = |replicates: u32| Draws::of_clusters(&each, replicates as usize, args.seed);
    Ok(args.bootstrap.map(of).transpose()?)
}

/// Each rating's place among the values that the two raters use.
fn ranks(first: &[f64], second: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut used: Vec<f64> = first.iter().chain(second).copied().collect();
    used.sort_unstable_by(f64::total_cmp);
    used.dedup();
    let rank = |rating: &f64| used.partition_point(|value| value < rating) as f64;
    (first.iter().map(rank).collect(), second.iter().map(rank).collect())
}

fn defined(kappa: Result<Kappa, MetricsError>) -> Result<Option<Kappa>, Failure> {
    match kappa {
        Err(MetricsError::NoVariation | MetricsError::TooFew { .. }) => Ok(None),
        other => Ok(Some(other?)),
    }
}

fn numbers(table: &Table) -> Result<Vec<Vec<Option<f64>>>, Failure> {
    let row = |row| (0..table.header().len()).map(|column| table.number(row, column)).collect();
    table.rows().iter().map(row).collect()
}

/// Each name's place among all names.
fn names(table: &Table) -> Vec<Vec<Option<f64>>> {
    let missing = |cell: &str| cell.is_empty() || cell == "NA";
    let all: BTreeSet<&str> = table.rows().iter().flat_map(|row| row.cells.iter()).filter(|c| !missing(c)).collect();
    let place = |cell: &str| all.iter().position(|name| *name == cell).map(|place| place as f64);
    table.rows().iter().map(|row| row.cells.iter().map(place).collect()).collect()
}
