//! `calibration`: probabilities against what came true.

use crate::table::{Cases, Table};
use crate::{Failure, Report};
use lungai_metrics::calibration::{
    Bins, brier, calibration_line, expected_error, log_loss, maximum_error, reliability, temperature,
};
use serde_json::{Value, json};
use std::fmt::Write;

/// Lines where a used cell is empty or `NA` are left out and counted.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  cargo xtask stats calibration --csv cases.csv --label outcome --positive malignant --probability p

Brier and log loss: 0 is perfect. ece: mean distance of stated probability and observed share over bins. slope 1, intercept 0: as they
should be; slope below 1: too extreme. temperature: what logits must be divided by.")]
pub struct Args {
    #[command(flatten)]
    cases: Cases,
    /// Column with the probability, 0 to 1.
    #[arg(long)]
    probability: String,
    /// Bins.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    bins: u32,
    /// Bins of equal numbers of cases instead of equal width.
    #[arg(long)]
    equal_count: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &Args) -> Result<Report, Failure> {
    let table = Table::with_header(&args.cases.csv)?;
    let (label, column) = (table.column(&args.cases.label)?, table.column(&args.probability)?);
    let (mut probabilities, mut positive, mut left_out) = (Vec::new(), Vec::new(), 0);
    for row in table.rows() {
        match (table.number(row, column)?, args.cases.truth(row, label)) {
            (Some(p), _) if !(0.0..=1.0).contains(&p) => {
                return Err(table.failure(row, "out-of-range", "a probability must lie from 0 to 1"));
            }
            (Some(p), Some(truth)) => {
                probabilities.push(p);
                positive.push(truth);
            }
            _ => left_out += 1,
        }
    }
    let bins = args.bins as usize;
    let bins = if args.equal_count { Bins::EqualCount(bins) } else { Bins::EqualWidth(bins) };
    let points = reliability(&probabilities, &positive, bins, 0.95)?;
    let [brier, loss] = [brier(&probabilities, &positive)?, log_loss(&probabilities, &positive)?];
    let [ece, mce] =
        [expected_error(&probabilities, &positive, bins)?, maximum_error(&probabilities, &positive, bins)?];
    let positives = positive.iter().filter(|p| **p).count();
    let mut out = json!({
        "ok": true, "brier": brier, "log_loss": loss, "ece": ece, "mce": mce,
        "counts": { "positives": positives, "negatives": positive.len() - positives, "left_out": left_out },
    });
    let mut text = format!("Brier {brier:.6}\nlog loss {loss:.6}\nECE {ece:.6}\nlargest error {mce:.6}\n");
    // 0 and 1 have no logit; the same limits as the log loss's.
    let logits: Vec<f64> =
        probabilities.iter().map(|p| p.clamp(1e-15, 1.0 - 1e-15)).map(|p| (p / (1.0 - p)).ln()).collect();
    // Absent where one group is empty or the groups are separated: then nothing is most likely.
    if let Ok(t) = temperature(&logits, &positive) {
        out["temperature"] = json!(t);
        let _ = writeln!(text, "temperature {t:.6}");
    }
    if let Ok(line) = calibration_line(&logits, &positive) {
        out["slope"] = json!(line.slope);
        out["intercept"] = json!(line.intercept);
        out["in_the_large"] = json!(line.in_the_large);
        let _ = writeln!(
            text,
            "slope {:.6}, intercept {:.6}, in the large {:.6}",
            line.slope, line.intercept, line.in_the_large
        );
    }
    let _ = writeln!(text, "\nstated     observed  95 % interval        cases");
    let mut curve = Vec::new();
    for p in &points {
        let [low, high] = p.interval;
        let _ = writeln!(text, "{:.6}   {:.6}  {low:.6} - {high:.6}  {:>5}", p.stated, p.observed, p.cases);
        curve.push(json!({ "range": p.range, "cases": p.cases, "positives": p.positives, "stated": p.stated,
            "observed": p.observed, "ci95": p.interval }));
    }
    out["reliability"] = Value::Array(curve);
    Ok(Report { json: out, table: text })
}
