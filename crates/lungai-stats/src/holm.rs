//! `holm`: several p-values at once.

use crate::{Failure, Report};
use lungai_metrics::multiplicity::holm;
use serde_json::json;
use std::fmt::Write;

/// Holm's adjusted p-values: which of several hypotheses are rejected when all are tested together.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  cargo xtask stats holm 0.012 0.2 0.004 --alpha 0.05

The adjusted values stand in the order of the given ones; what is at or below --alpha is rejected.")]
pub struct Args {
    /// P-values of one family of tests, each from 0 to 1.
    #[arg(required = true, value_name = "P")]
    p: Vec<f64>,
    /// Probability of any false rejection.
    #[arg(long, default_value_t = 0.05)]
    alpha: f64,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &Args) -> Result<Report, Failure> {
    if !(0.0 < args.alpha && args.alpha < 1.0) {
        let message = format!("--alpha {}: above 0 and below 1", args.alpha);
        return Err(Failure { rule: "out-of-range".into(), message });
    }
    let adjusted = holm(&args.p)?;
    let rejected: Vec<bool> = adjusted.iter().map(|p| *p <= args.alpha).collect();
    let mut table = format!("{:>12} {:>12}\n", "p", "adjusted");
    for ((p, adjusted), rejected) in args.p.iter().zip(&adjusted).zip(&rejected) {
        let _ = writeln!(table, "{p:>12.6} {adjusted:>12.6}{}", if *rejected { "  rejected" } else { "" });
    }
    let json = json!({ "ok": true, "alpha": args.alpha, "p": args.p, "adjusted": adjusted, "rejected": rejected });
    Ok(Report { json, table })
}
