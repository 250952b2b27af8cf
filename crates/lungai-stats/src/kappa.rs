//! `kappa`: agreement of several raters.

use crate::table::Table;
use crate::{Failure, Report};
use lungai_metrics::MetricsError;
use lungai_metrics::agreement::{Kappa, Scale, Weights, cohen, fleiss, krippendorff};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

/// Rows are subjects, columns raters, the first line names the raters. An empty cell or `NA` is no rating: Fleiss' kappa
/// uses the complete rows, Cohen's the rows with both raters, Krippendorff's alpha all rows with two ratings.
#[derive(clap::Args)]
pub struct Args {
    /// The ratings; may be gzipped.
    #[arg(long)]
    csv: PathBuf,
    /// Ratings are names, not numbers: measures that need an order are left out.
    #[arg(long)]
    nominal: bool,
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
            let mut pair = json!({ "a": raters[a], "b": raters[b], "subjects": first.len() });
            let _ = write!(text, "{:<28}", format!("{} - {}", raters[a], raters[b]));
            for (name, weights) in kinds {
                // Absent where this pair has nothing to agree on.
                if let Some(kappa) = defined(cohen(&first, &second, *weights, 0.95))? {
                    pair[*name] = json!(kappa.value);
                    pair[format!("{name}_ci95")] = json!(kappa.interval);
                    let _ = write!(text, " {:.6}", kappa.value);
                }
            }
            text.push('\n');
            pairs.push(pair);
        }
    }
    out["pairs"] = json!(pairs);
    Ok(Report { json: out, table: text })
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
