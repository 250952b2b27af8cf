//! `centres`: a figure of each centre, and what a further one may expect.

use crate::table::Table;
use crate::{Failure, Report};
use clap::ValueEnum;
use lungai_metrics::centres::{
    Estimate, RandomEffects, TauSquared, from_logit, leave_one_out, logit, random_effects_by,
};
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::fmt::Write;
use std::path::PathBuf;

/// One line for each centre: either so many successes of so many trials, analysed as logits, or a value with its variance.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask stats centres --csv centres.csv --centre centre --successes found --trials nodules
  cargo xtask stats centres --csv centres.csv --centre centre --value auc --variance variance --tau2 reml

prediction: where the figure of a further centre may lie; q, p, i2: whether centres differ by more than chance; without: the mean
without that centre.")]
pub struct Args {
    /// The table; may be gzipped.
    #[arg(long)]
    csv: PathBuf,
    /// Column with the centre's name.
    #[arg(long)]
    centre: String,
    /// Column with successes.
    #[arg(long, requires = "trials", required_unless_present = "value")]
    successes: Option<String>,
    /// Column with trials.
    #[arg(long, requires = "successes")]
    trials: Option<String>,
    /// Column with a figure for which a normal approximation holds.
    #[arg(long, requires = "variance", conflicts_with = "successes")]
    value: Option<String>,
    /// Column with its variance.
    #[arg(long, requires = "value")]
    variance: Option<String>,
    /// Estimator of the variance between centres.
    #[arg(long, value_enum, default_value_t = Tau::Dl)]
    tau2: Tau,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Tau {
    /// DerSimonian and Laird.
    Dl,
    /// Paule and Mandel.
    Pm,
    /// Restricted maximum likelihood.
    Reml,
}

pub fn run(args: &Args) -> Result<Report, Failure> {
    let table = Table::with_header(&args.csv)?;
    let name = table.column(&args.centre)?;
    let columns = [&args.successes, &args.trials, &args.value, &args.variance]
        .into_iter()
        .flatten()
        .map(|name| table.column(name))
        .collect::<Result<Vec<_>, _>>()?;
    let of_counts = args.successes.is_some();
    let (mut names, mut estimates, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for row in table.rows() {
        let centre = table.required(row, name)?;
        if !seen.insert(centre) {
            return Err(table.failure(row, "duplicate-centre", "this centre has a line before"));
        }
        let [a, b] = [table.required_number(row, columns[0])?, table.required_number(row, columns[1])?];
        let estimate = if of_counts {
            let whole = |v: f64| (v >= 0.0 && v.fract() == 0.0 && v < 1e15).then_some(v as usize);
            let (Some(successes), Some(trials)) = (whole(a), whole(b)) else {
                return Err(table.failure(row, "csv-bad-number", "successes and trials are whole numbers from 0"));
            };
            if trials == 0 {
                return Err(table.failure(row, "empty-centre", "a centre without trials has no figure"));
            }
            if successes > trials {
                return Err(table.failure(row, "out-of-range", "more successes than trials"));
            }
            logit(successes, trials)?
        } else {
            Estimate { value: a, variance: b }
        };
        names.push(centre.to_owned());
        estimates.push(estimate);
    }
    let how = match args.tau2 {
        Tau::Dl => TauSquared::DerSimonianLaird,
        Tau::Pm => TauSquared::PauleMandel,
        Tau::Reml => TauSquared::Reml,
    };
    let all = random_effects_by(&estimates, how, 0.95)?;
    // Counts are shown as proportions, everything else as it came in.
    let back = |value: f64| if of_counts { from_logit(value) } else { value };
    let both = |interval: [f64; 2]| interval.map(back);
    let summary = |r: &RandomEffects| {
        let mut json = json!({
            "mean": back(r.mean), "ci95": both(r.interval), "hartung_knapp95": both(r.hartung_knapp),
            "q": r.q, "df": r.df, "p": r.p, "tau2": r.tau2, "i2": r.i2,
        });
        if let Some(prediction) = r.prediction {
            json["prediction95"] = json!(both(prediction));
        }
        json
    };
    let mut out = summary(&all);
    out["ok"] = json!(true);
    out["scale"] = json!(if of_counts { "logit" } else { "as given" });
    if of_counts {
        out["mean_logit"] = json!(all.mean);
        out["standard_error_logit"] = json!(all.standard_error);
    } else {
        out["standard_error"] = json!(all.standard_error);
    }
    let shown = |[low, high]: [f64; 2]| format!("{low:.6} - {high:.6}");
    let mut text =
        format!("{} centres\n\nmean             {:.6}  {}\n", names.len(), back(all.mean), shown(both(all.interval)));
    let _ = writeln!(text, "Hartung-Knapp              {}", shown(both(all.hartung_knapp)));
    if let Some(prediction) = all.prediction {
        let _ = writeln!(text, "a further centre           {}", shown(both(prediction)));
    }
    let _ = writeln!(
        text,
        "Q({}) = {:.6}, p = {:.6}, tau2 = {:.6}, I2 = {:.1} %",
        all.df,
        all.q,
        all.p,
        all.tau2,
        100.0 * all.i2
    );
    if estimates.len() > 2 {
        let _ = writeln!(text, "\nwithout");
        let mut without = Map::new();
        for (name, r) in names.iter().zip(leave_one_out(&estimates, how, 0.95)?) {
            let _ = writeln!(
                text,
                "{name:<16} {:.6}  {}  I2 = {:.1} %",
                back(r.mean),
                shown(both(r.interval)),
                100.0 * r.i2
            );
            without.insert(name.clone(), summary(&r));
        }
        out["without"] = Value::Object(without);
    }
    Ok(Report { json: out, table: text })
}
