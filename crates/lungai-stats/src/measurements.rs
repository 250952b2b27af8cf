//! `icc` and `bland-altman`: measurements of the same things by several people or programs.

use crate::table::Table;
use crate::{Failure, Report};
use lungai_metrics::measurements;
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::path::PathBuf;

/// Rows are subjects, columns raters, the first line names the raters; rows with an empty cell or `NA` are left out and
/// counted.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  cargo xtask stats icc --csv diameters.csv

ICC(1,.): each subject has raters of its own. ICC(2,.): raters drawn from many, absolute agreement. ICC(3,.): these raters,
consistency. (.,1): of one rater; (.,k): of the mean of all.")]
pub struct IccArgs {
    /// The measurements; may be gzipped.
    #[arg(long)]
    csv: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// First minus second; rows with an empty cell or `NA` are left out and counted.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  cargo xtask stats bland-altman --csv diameters.csv --first program_mm --second reader_mm")]
pub struct BlandAltmanArgs {
    /// One line for each pair; may be gzipped.
    #[arg(long)]
    csv: PathBuf,
    /// Column of the first measurement.
    #[arg(long)]
    first: String,
    /// Column of the second measurement.
    #[arg(long)]
    second: String,
    /// Share of differences that the limits hold.
    #[arg(long, default_value_t = 0.95)]
    agreement: f64,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub fn icc(args: &IccArgs) -> Result<Report, Failure> {
    let table = Table::with_header(&args.csv)?;
    let columns: Vec<usize> = (0..table.header().len()).collect();
    let (rows, left_out) = complete(&table, &columns)?;
    let i = measurements::icc(&rows, 0.95)?;
    let named = [
        ("icc1", "ICC(1,1)", i.icc1),
        ("icc2", "ICC(2,1)", i.icc2),
        ("icc3", "ICC(3,1)", i.icc3),
        ("icc1k", "ICC(1,k)", i.icc1k),
        ("icc2k", "ICC(2,k)", i.icc2k),
        ("icc3k", "ICC(3,k)", i.icc3k),
    ];
    let mut out = Map::new();
    let mut text = format!("{} subjects, {} raters, {left_out} left out\n\n", rows.len(), columns.len());
    for (key, name, icc) in named {
        let [low, high] = icc.interval;
        let mut json =
            json!({ "icc": icc.value, "ci95": icc.interval, "df1": icc.df[0], "df2": icc.df[1], "p": icc.p });
        if icc.f.is_finite() {
            json["f"] = json!(icc.f);
        }
        out.insert(key.into(), json);
        let _ = writeln!(text, "{name}  {:>9.6}  95 % interval {low:.6} - {high:.6}  p = {:.6}", icc.value, icc.p);
    }
    let json = json!({ "ok": true, "subjects": rows.len(), "raters": columns.len(), "left_out": left_out,
        "icc": Value::Object(out) });
    Ok(Report { json, table: text })
}

pub fn bland_altman(args: &BlandAltmanArgs) -> Result<Report, Failure> {
    let table = Table::with_header(&args.csv)?;
    let columns = [table.column(&args.first)?, table.column(&args.second)?];
    let (rows, left_out) = complete(&table, &columns)?;
    let (first, second): (Vec<f64>, Vec<f64>) = rows.iter().map(|row| (row[0], row[1])).unzip();
    let b = measurements::bland_altman(&first, &second, args.agreement, 0.95)?;
    let mut out = json!({
        "ok": true, "pairs": b.pairs, "left_out": left_out, "bias": b.bias, "bias_ci95": b.bias_interval, "sd": b.sd,
        "limits": b.limits, "lower_ci95": b.lower_interval, "upper_ci95": b.upper_interval, "agreement": args.agreement,
    });
    let shown = |value: f64, [low, high]: [f64; 2]| format!("{value:>12.6}  95 % interval {low:.6} to {high:.6}");
    let mut text = format!("{} pairs, {left_out} left out\n\n", b.pairs);
    let _ = writeln!(text, "bias        {}", shown(b.bias, b.bias_interval));
    let _ = writeln!(text, "lower limit {}", shown(b.limits[0], b.lower_interval));
    let _ = writeln!(text, "upper limit {}", shown(b.limits[1], b.upper_interval));
    if let Some(slope) = b.slope {
        out["slope"] = json!({ "value": slope.value, "ci95": slope.interval, "p": slope.p });
        let _ = writeln!(text, "slope       {}  p = {:.6}", shown(slope.value, slope.interval), slope.p);
    }
    Ok(Report { json: out, table: text })
}

/// Rows where all of `columns` have a number, and how many have not.
fn complete(table: &Table, columns: &[usize]) -> Result<(Vec<Vec<f64>>, usize), Failure> {
    let mut rows = Vec::new();
    for row in table.rows() {
        // All cells are read before one may be missing: what is no number is an error.
        let cells = columns.iter().map(|column| table.number(row, *column)).collect::<Result<Vec<_>, _>>()?;
        rows.extend(cells.into_iter().collect::<Option<Vec<f64>>>());
    }
    let left_out = table.rows().len() - rows.len();
    Ok((rows, left_out))
}
