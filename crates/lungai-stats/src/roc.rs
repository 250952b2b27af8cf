//! `roc`: one or two scores against a truth column.

use crate::table::{Cases, Table};
use crate::{Failure, Report};
use clap::ValueEnum;
use lungai_metrics::bootstrap::{Bootstrapped, Draws, paired_permutation};
use lungai_metrics::proportion::proportion;
use lungai_metrics::roc::{
    Auc, Part, Ranked, auc, average_precision, compare, compare_unpaired, confusion, curve, partial_auc,
};
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::path::PathBuf;

/// Lines where a used cell is empty or `NA` are left out for all scores and counted.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask stats roc --csv cases.csv --label outcome --positive malignant --score model_a --score model_b
  cargo xtask stats roc --csv cases.csv --label outcome --positive malignant --score model --partial-specificity 0.9:1
  cargo xtask stats roc --csv cases.csv --label outcome --positive malignant --score model --threshold 0.5 --prevalence 0.01

Two scores are compared by DeLong's paired test; `unpaired` is what the test would be on different cases. With several cases of one
patient give --cluster and --bootstrap: DeLong takes cases as independent.")]
pub struct Args {
    #[command(flatten)]
    cases: Cases,
    /// Column with a score; given twice, the two are compared.
    #[arg(long, required = true)]
    score: Vec<String>,
    /// Which scores speak for a positive case.
    #[arg(long, value_enum, default_value_t = Direction::Higher)]
    direction: Direction,
    /// Area between two specificities as well, with McClish's standardisation, e.g. 0.9:1.
    #[arg(long, value_name = "LOW:HIGH", value_parser = range, conflicts_with = "partial_sensitivity")]
    partial_specificity: Option<Limits>,
    /// Area between two sensitivities as well.
    #[arg(long, value_name = "LOW:HIGH", value_parser = range)]
    partial_sensitivity: Option<Limits>,
    /// Cases scored at least this are called positive: confusion matrix with intervals. The score as in the file.
    #[arg(long, allow_negative_numbers = true)]
    threshold: Option<f64>,
    /// Share of positive cases for which predictive values are given; default: that of the file.
    #[arg(long, requires = "threshold")]
    prevalence: Option<f64>,
    /// Bootstrap replicates, for percentile intervals of the areas and of their difference.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    bootstrap: Option<u32>,
    /// BCa intervals as well: one more step for each patient.
    #[arg(long, requires = "bootstrap")]
    bca: bool,
    /// Arrangements of a paired permutation test of two scores (on one scale), each patient's scores swapped or not.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    permutations: Option<u32>,
    /// Column that names the patient: drawn, and swapped, whole.
    #[arg(long)]
    cluster: Option<String>,
    /// Seed of bootstrap and permutations.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Write the curve there as CSV: score, threshold, 1 - specificity, sensitivity.
    #[arg(long)]
    curve: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Two shares, the lower one first.
#[derive(Clone, Copy)]
struct Limits([f64; 2]);

fn range(text: &str) -> Result<Limits, String> {
    let both = text.split_once(':').and_then(|(low, high)| Some([low.parse().ok()?, high.parse().ok()?]));
    let sound = |[low, high]: [f64; 2]| 0.0 <= low && low < high && high <= 1.0;
    both.filter(|limits| sound(*limits)).map(Limits).ok_or_else(|| "two ascending shares such as 0.9:1".into())
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
    let table = Table::with_header(&args.cases.csv)?;
    let label = table.column(&args.cases.label)?;
    let columns = args.score.iter().map(|name| table.column(name)).collect::<Result<Vec<_>, _>>()?;
    let mut positive = Vec::new();
    let mut scores = vec![Vec::new(); columns.len()];
    let cluster = args.cluster.as_ref().map(|name| table.column(name)).transpose()?;
    let (mut patients, mut names) = (Vec::new(), std::collections::HashMap::new());
    let mut left_out = 0;
    for row in table.rows() {
        let values = columns.iter().map(|c| table.number(row, *c)).collect::<Result<Option<Vec<_>>, _>>();
        // `collect` stops at the first empty cell; the rest must still be well formed.
        columns.iter().try_for_each(|c| table.number(row, *c).map(drop))?;
        match (values?, args.cases.truth(row, label)) {
            (Some(values), Some(truth)) => {
                let patient = cluster.map(|column| table.required(row, column)).transpose()?;
                let next = names.len();
                patients.push(match patient {
                    Some(name) => *names.entry(name.to_owned()).or_insert(next),
                    None => positive.len(),
                });
                positive.push(truth);
                scores.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
            }
            _ => left_out += 1,
        }
    }

    let mut reported = Map::new();
    let mut text = format!("{:<16} {:>9} {:>11}  95 % interval (DeLong)\n", "score", "AUC", "variance");
    let part = match (args.partial_specificity, args.partial_sensitivity) {
        (Some(Limits(limits)), _) => Some(Part::Specificity(limits)),
        (_, Some(Limits(limits))) => Some(Part::Sensitivity(limits)),
        _ => None,
    };
    let draws =
        args.bootstrap.map(|replicates| Draws::of_clusters(&patients, replicates as usize, args.seed)).transpose()?;
    let mut areas: Vec<Auc> = Vec::new();
    let mut points = "score,threshold,false_positive_rate,sensitivity\n".to_owned();
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
        let mut json = json!({ "auc": a.value, "variance": a.variance, "ci95": a.interval, "direction": direction });
        let [low, high] = a.interval;
        let _ = writeln!(text, "{name:<16} {:>9.6} {:>11.4e}  {low:.6} - {high:.6}", a.value, a.variance);
        let ap = average_precision(scores, &positive)?;
        json["average_precision"] = json!(ap);
        let _ = writeln!(text, "{:<16} {ap:>9.6}", "  avg. precision");
        if let Some(part) = part {
            let found = partial_auc(scores, &positive, part)?;
            json["partial"] = json!({ "auc": found.value, "standardised": found.standardised });
            let _ = writeln!(text, "{:<16} {:>9.6}  standardised {:.6}", "  partial", found.value, found.standardised);
        }
        if let Some(draws) = &draws {
            let ranked = Ranked::new(scores, &positive)?;
            let found = resample(draws, args.bca, |counts| ranked.auc(|case| f64::from(counts[case])))?;
            json["bootstrap"] = intervals(&found);
            let [low, high] = found.percentile;
            let _ = writeln!(text, "{:<16} {:>22} {low:.6} - {high:.6}", "  bootstrap", "");
            if let Some(part) = part {
                let figure = |counts: &[u32]| {
                    ranked.partial(part, |case| f64::from(counts[case])).ok().flatten().map(|p| p.value)
                };
                json["partial"]["bootstrap"] = intervals(&resample(draws, args.bca, figure)?);
            }
        }
        if let Some(threshold) = args.threshold {
            let (json_matrix, rows) = matrix(args, scores, &positive, if higher { threshold } else { -threshold })?;
            json["at_threshold"] = json_matrix;
            text += &rows;
        }
        let sign = if higher { 1.0 } else { -1.0 };
        for p in curve(scores, &positive)? {
            let _ = writeln!(points, "{name},{},{},{}", sign * p.threshold, p.false_positive_rate, p.sensitivity);
        }
        areas.push(a);
        reported.insert(name.clone(), json);
    }
    if let Some(path) = &args.curve {
        crate::write(path, &points)?;
    }
    let positives = positive.iter().filter(|p| **p).count();
    let counts = json!({ "positives": positives, "negatives": positive.len() - positives, "left_out": left_out });
    let mut out = json!({ "ok": true, "scores": reported, "counts": counts });
    if let [first, second] = &scores[..] {
        let test = compare(first, second, &positive, 0.95)?;
        out["paired"] = json!({ "difference": test.difference, "ci95": test.interval, "z": test.z, "p": test.p,
            "p_greater": test.p_greater, "p_less": 1.0 - test.p_greater });
        let _ = writeln!(text, "difference {:.6}, z = {:.6}, p = {:.6}", test.difference, test.z, test.p);
        let apart = compare_unpaired(&areas[0], &areas[1], 0.95)?;
        out["unpaired"] = json!({ "difference": apart.difference, "ci95": apart.interval, "t": apart.t, "df": apart.df,
            "p": apart.p });
        let ranked = [Ranked::new(first, &positive)?, Ranked::new(second, &positive)?];
        if let Some(draws) = &draws {
            let area = |which: usize, counts: &[u32]| ranked[which].auc(|case| f64::from(counts[case]));
            let found = resample(draws, args.bca, |counts| Some(area(0, counts)? - area(1, counts)?))?;
            out["paired"]["bootstrap"] = intervals(&found);
        }
        if let Some(permutations) = args.permutations {
            // Both scores' cases in one list, each with its own weight.
            let both = Ranked::new(&[first.as_slice(), second].concat(), &[positive.as_slice(), &positive].concat())?;
            let figure = |counts: &[u32]| both.auc(|case| f64::from(counts[case]));
            let found = paired_permutation(&patients, permutations as usize, args.seed, figure)?;
            out["paired"]["permutation"] =
                json!({ "p": found.p, "arrangements": found.arrangements, "exact": found.exact });
            let _ = writeln!(text, "permutation p = {:.6} ({} arrangements)", found.p, found.arrangements);
        }
    }
    let _ = writeln!(text, "{positives} positive, {} negative, {left_out} left out", positive.len() - positives);
    Ok(Report { json: out, table: text })
}

fn resample(draws: &Draws, bca: bool, figure: impl Fn(&[u32]) -> Option<f64> + Sync) -> Result<Bootstrapped, Failure> {
    Ok(if bca { draws.bootstrap(figure, 0.95)? } else { draws.percentile_bootstrap(figure, 0.95)? })
}

fn intervals(found: &Bootstrapped) -> Value {
    let mut json = json!({ "ci95": found.percentile, "standard_error": found.standard_error });
    if let Some(bca) = found.bca {
        json["bca95"] = json!(bca);
    }
    json
}

/// Confusion matrix with Wilson's intervals, and predictive values at the stated prevalence.
fn matrix(args: &Args, scores: &[f64], positive: &[bool], threshold: f64) -> Result<(Value, String), Failure> {
    let c = confusion(scores, positive, threshold)?;
    let sensitivity = proportion(c.true_positives, c.true_positives + c.false_negatives, 0.95)?;
    let specificity = proportion(c.true_negatives, c.true_negatives + c.false_positives, 0.95)?;
    let own = positive.iter().filter(|p| **p).count() as f64 / positive.len() as f64;
    let prevalence = args.prevalence.unwrap_or(own);
    let [ppv, npv] = c.predictive_values(prevalence)?;
    let mut json = json!({
        "true_positives": c.true_positives, "false_positives": c.false_positives,
        "true_negatives": c.true_negatives, "false_negatives": c.false_negatives,
        "sensitivity": sensitivity.value, "sensitivity_ci95": sensitivity.wilson,
        "specificity": specificity.value, "specificity_ci95": specificity.wilson,
        "prevalence": prevalence,
    });
    let mut text = format!(
        "  called positive  {} of {} positive, {} of {} negative\n  sensitivity {:.6}  specificity {:.6}\n",
        c.true_positives,
        c.true_positives + c.false_negatives,
        c.false_positives,
        c.true_negatives + c.false_positives,
        sensitivity.value,
        specificity.value
    );
    for (name, value) in [("ppv", ppv), ("npv", npv)] {
        if let Some(value) = value {
            json[name] = json!(value); // absent where nothing is called so
            let _ = writeln!(text, "  {name} {value:.6} at prevalence {prevalence}");
        }
    }
    Ok((json, text))
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
