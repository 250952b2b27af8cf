//! `roc`: one or two scores against a truth column.

use crate::table::Table;
use crate::{Failure, Report};
use clap::ValueEnum;
use lungai_metrics::roc::{auc, compare};
use serde_json::{Map, json};
use std::fmt::Write;
use std::path::PathBuf;

/// Lines where a used cell is empty or `NA` are left out for all scores and counted.
#[derive(clap::Args)]
pub struct Args {
    /// One line for each case; may be gzipped.
    #[arg(long)]
    csv: PathBuf,
    /// Column with the truth.
    #[arg(long)]
    label: String,
    /// The truth's value for positive cases; any other value is negative.
    #[arg(long)]
    positive: String,
    /// Column with a score; given twice, the two are compared.
    #[arg(long, required = true)]
    score: Vec<String>,
    /// Which scores speak for a positive case.
    #[arg(long, value_enum, default_value_t = Direction::Higher)]
    direction: Direction,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Direction {
    /// Higher scores.
    Higher,
    /// Lower scores.
    Lower,
    /// Each score's own direction by the medians of the two groups, as pROC chooses: optimistic, for parity checks only.
    Auto,
}

pub fn run(args: &Args) -> Result<Report, Failure> {
    if args.score.len() > 2 || (args.score.len() == 2 && args.score[0] == args.score[1]) {
        return Err(Failure { rule: "usage".into(), message: "one score, or two different ones".into() });
    }
    let table = Table::with_header(&args.csv)?;
    let label = table.column(&args.label)?;
    let columns = args.score.iter().map(|name| table.column(name)).collect::<Result<Vec<_>, _>>()?;
    let mut positive = Vec::new();
    let mut scores = vec![Vec::new(); columns.len()];
    let mut left_out = 0;
    for row in table.rows() {
        let values = columns.iter().map(|c| table.number(row, *c)).collect::<Result<Option<Vec<_>>, _>>();
        // `collect` stops at the first empty cell; the rest must still be well formed.
        columns.iter().try_for_each(|c| table.number(row, *c).map(drop))?;
        let truth = &row.cells[label];
        match values? {
            Some(values) if !truth.is_empty() && truth != "NA" => {
                positive.push(truth == args.positive);
                scores.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
            }
            _ => left_out += 1,
        }
    }

    let mut reported = Map::new();
    let mut text = format!("{:<16} {:>9} {:>11}  95 % interval (DeLong)\n", "score", "AUC", "variance");
    for (name, scores) in args.score.iter().zip(&mut scores) {
        let higher = match args.direction {
            Direction::Higher => true,
            Direction::Lower => false,
            Direction::Auto => median(scores, &positive, false) <= median(scores, &positive, true),
        };
        if !higher {
            scores.iter_mut().for_each(|score| *score = -*score);
        }
        let a = auc(scores, &positive, 0.95)?;
        let direction = if higher { "higher" } else { "lower" };
        reported.insert(
            name.clone(),
            json!({ "auc": a.value, "variance": a.variance, "ci95": a.interval, "direction": direction }),
        );
        let [low, high] = a.interval;
        let _ = writeln!(text, "{name:<16} {:>9.6} {:>11.4e}  {low:.6} - {high:.6}", a.value, a.variance);
    }
    let positives = positive.iter().filter(|p| **p).count();
    let counts = json!({ "positives": positives, "negatives": positive.len() - positives, "left_out": left_out });
    let mut out = json!({ "ok": true, "scores": reported, "counts": counts });
    if let [first, second] = &scores[..] {
        let test = compare(first, second, &positive, 0.95)?;
        out["paired"] = json!({ "difference": test.difference, "ci95": test.interval, "z": test.z, "p": test.p });
        let _ = writeln!(text, "difference {:.6}, z = {:.6}, p = {:.6}", test.difference, test.z, test.p);
    }
    let _ = writeln!(text, "{positives} positive, {} negative, {left_out} left out", positive.len() - positives);
    Ok(Report { json: out, table: text })
}

/// Median of one group; NaN for an empty one, which the area refuses later.
fn median(scores: &[f64], positive: &[bool], which: bool) -> f64 {
    let mut group: Vec<f64> = scores.iter().zip(positive).filter(|(_, p)| **p == which).map(|(s, _)| *s).collect();
    group.sort_unstable_by(f64::total_cmp);
    match group.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => group[n / 2],
        n => (group[n / 2 - 1] + group[n / 2]) / 2.0,
    }
}
