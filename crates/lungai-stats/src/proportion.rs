//! `proportion`: so many of so many, and the difference of two.

use crate::{Failure, Report};
use lungai_metrics::proportion::{Difference, difference, paired_difference, proportion};
use serde_json::{Value, json};
use std::fmt::Write;

/// Wilson's and Clopper and Pearson's interval; of a second proportion the difference too, first minus second.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask stats proportion --successes 95 --trials 100
  cargo xtask stats proportion --successes 95 --trials 100 --successes2 88 --trials2 100      # different cases
  cargo xtask stats proportion --both 85 --only-first 10 --only-second 3 --neither 2          # the same cases, two systems

Cases are taken as independent: several nodules of one patient need a bootstrap of patients (froc --patients).")]
pub struct Args {
    /// Successes.
    #[arg(long, requires = "trials", required_unless_present = "both")]
    successes: Option<usize>,
    /// Trials.
    #[arg(long, requires = "successes")]
    trials: Option<usize>,
    /// Successes of a second sample.
    #[arg(long, requires_all = ["trials2", "successes"])]
    successes2: Option<usize>,
    /// Trials of a second sample.
    #[arg(long, requires = "successes2")]
    trials2: Option<usize>,
    /// Cases in which both systems succeed.
    #[arg(long, requires_all = ["only_first", "only_second", "neither"], conflicts_with = "successes")]
    both: Option<usize>,
    /// Cases in which only the first does.
    #[arg(long, requires = "both")]
    only_first: Option<usize>,
    /// Cases in which only the second does.
    #[arg(long, requires = "both")]
    only_second: Option<usize>,
    /// Cases in which neither does.
    #[arg(long, requires = "both")]
    neither: Option<usize>,
    /// Confidence of the intervals.
    #[arg(long, default_value_t = 0.95)]
    level: f64,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &Args) -> Result<Report, Failure> {
    let mut text = String::new();
    let mut one = |name: &str, successes: usize, trials: usize| -> Result<Value, Failure> {
        let p = proportion(successes, trials, args.level)?;
        let _ = writeln!(
            text,
            "{name:<8} {:.6}  Wilson {:.6} - {:.6}  Clopper-Pearson {:.6} - {:.6}",
            p.value, p.wilson[0], p.wilson[1], p.clopper_pearson[0], p.clopper_pearson[1]
        );
        Ok(json!({ "value": p.value, "wilson": p.wilson, "clopper_pearson": p.clopper_pearson }))
    };
    let mut out = json!({ "ok": true, "level": args.level });
    let found: Option<Difference> = match (args.successes.zip(args.trials), args.successes2.zip(args.trials2)) {
        (Some((k, n)), None) => {
            out["first"] = one("first", k, n)?;
            None
        }
        (Some((k, n)), Some((k2, n2))) => {
            out["first"] = one("first", k, n)?;
            out["second"] = one("second", k2, n2)?;
            Some(difference([k, n], [k2, n2], args.level)?)
        }
        (None, _) => {
            let cells = [args.both, args.only_first, args.only_second, args.neither].map(Option::unwrap_or_default);
            let n = cells.iter().sum();
            out["first"] = one("first", cells[0] + cells[1], n)?;
            out["second"] = one("second", cells[0] + cells[2], n)?;
            Some(paired_difference(cells, args.level)?)
        }
    };
    if let Some(d) = found {
        let [low, high] = d.interval;
        let _ = writeln!(text, "first - second {:.6} ({low:.6} to {high:.6}), p = {:.6}", d.value, d.p);
        out["difference"] = json!({ "value": d.value, "ci": d.interval, "p": d.p });
    }
    Ok(Report { json: out, table: text })
}
