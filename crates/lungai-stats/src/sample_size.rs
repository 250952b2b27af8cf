//! `sample-size`: how many cases a study needs.

use crate::{Failure, Report};
use clap::ValueEnum;
use lungai_metrics::mrmc::Components;
use lungai_metrics::sample_size::{
    AucVariance, Clusters, Generalise, Observations, TwoGroups, auc_difference, auc_goal, auc_precision,
    proportion_goal, proportion_precision, rate_precision, reader_power, reader_study_cases,
};
use serde_json::json;

/// Plan with the least favourable figures that are still plausible, and round up.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask stats sample-size proportion --expected 0.95 --half-width 0.03 --cluster-size 1.4 --correlation 0.2
  cargo xtask stats sample-size proportion --expected 0.95 --goal 0.9 --power 0.8
  cargo xtask stats sample-size froc --sensitivity 0.95 --half-width 0.03 --nodules-per-scan 0.8 --fp-per-scan 0.5 --fp-half-width 0.1
  cargo xtask stats sample-size auc --expected 0.93 --goal 0.9 --power 0.8 --negatives-per-positive 3
  cargo xtask stats sample-size auc --expected 0.93 --other 0.90 --correlation 0.5
  cargo xtask stats sample-size mrmc --effect 0.05 --readers 6 --pilot-cases 114 --var-tr 0.0002 --cov1 0.00035 --cov2 0.00034 \\
      --cov3 0.00024 --var 0.0008 --power 0.8        # components from `mrmc --json`, for any figure of merit")]
pub struct Args {
    #[command(subcommand)]
    pub what: What,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(clap::Subcommand)]
pub enum What {
    /// A sensitivity, a specificity, ...: to a half width, or to show a goal.
    Proportion(Proportion),
    /// Sensitivity by nodule and false positives by scan, each to a half width.
    Froc(Froc),
    /// An area under a ROC curve: to a half width, to show a goal, or to find another area different.
    Auc(Auc),
    /// Readers under two modalities, any figure of merit.
    Mrmc(Mrmc),
}

#[derive(clap::Args)]
pub struct Proportion {
    /// The proportion that is expected.
    #[arg(long)]
    expected: f64,
    /// Half width of its interval.
    #[arg(long, required_unless_present = "goal", conflicts_with = "goal")]
    half_width: Option<f64>,
    /// What it is to be shown to exceed (or, where below, to fall short of).
    #[arg(long)]
    goal: Option<f64>,
    /// Probability of showing it.
    #[arg(long, default_value_t = 0.8)]
    power: f64,
    /// One-sided level of the test of a goal.
    #[arg(long, default_value_t = 0.025)]
    alpha: f64,
    /// Confidence of the interval.
    #[arg(long, default_value_t = 0.95)]
    level: f64,
    /// Mean number of observations of one patient.
    #[arg(long, default_value_t = 1.0)]
    cluster_size: f64,
    /// Their correlation.
    #[arg(long, default_value_t = 0.0)]
    correlation: f64,
}

#[derive(clap::Args)]
pub struct Froc {
    /// Sensitivity that is expected.
    #[arg(long)]
    sensitivity: f64,
    /// Half width of its interval.
    #[arg(long)]
    half_width: f64,
    /// Mean number of nodules in a scan.
    #[arg(long)]
    nodules_per_scan: f64,
    /// Mean number of nodules in a scan that has any; default: Poisson's for --nodules-per-scan.
    #[arg(long)]
    nodules_per_positive_scan: Option<f64>,
    /// Correlation of nodules of one scan.
    #[arg(long, default_value_t = 0.0)]
    correlation: f64,
    /// False positives per scan that are expected.
    #[arg(long)]
    fp_per_scan: f64,
    /// Half width of their interval.
    #[arg(long)]
    fp_half_width: f64,
    /// Variance by mean of their number in a scan, 1 for Poisson.
    #[arg(long, default_value_t = 1.0)]
    overdispersion: f64,
    /// Confidence of the intervals.
    #[arg(long, default_value_t = 0.95)]
    level: f64,
}

#[derive(clap::Args)]
pub struct Auc {
    /// The area that is expected.
    #[arg(long)]
    expected: f64,
    /// Half width of its interval.
    #[arg(long, conflicts_with_all = ["goal", "other"], required_unless_present_any = ["goal", "other"])]
    half_width: Option<f64>,
    /// What it is to be shown to exceed.
    #[arg(long, conflicts_with = "other")]
    goal: Option<f64>,
    /// An area on the same cases from which it is to be told apart (two-sided).
    #[arg(long)]
    other: Option<f64>,
    /// Correlation of the two areas; 0 for different cases.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    correlation: f64,
    /// Negative cases for each positive one.
    #[arg(long, default_value_t = 1.0)]
    negatives_per_positive: f64,
    /// Probability of showing it.
    #[arg(long, default_value_t = 0.8)]
    power: f64,
    /// Level of the test: one-sided for a goal (default 0.025), two-sided for another area (default 0.05).
    #[arg(long)]
    alpha: Option<f64>,
    /// Confidence of the interval.
    #[arg(long, default_value_t = 0.95)]
    level: f64,
    /// Variance of the area.
    #[arg(long, value_enum, default_value_t = Variance::Obuchowski)]
    variance: Variance,
}

#[derive(Clone, Copy, ValueEnum)]
enum Variance {
    /// Binormal ratings.
    Obuchowski,
    /// Exponential ratings.
    HanleyMcneil,
}

#[derive(clap::Args)]
pub struct Mrmc {
    /// Difference of the mean figures that is to be found.
    #[arg(long, allow_negative_numbers = true)]
    effect: f64,
    /// Planned readers.
    #[arg(long)]
    readers: usize,
    /// Planned cases: gives the power. Without: the cases that reach --power.
    #[arg(long)]
    cases: Option<usize>,
    /// Cases of the study that the components are from.
    #[arg(long)]
    pilot_cases: usize,
    /// Treatment by reader; below 0 counts as 0.
    #[arg(long, allow_negative_numbers = true)]
    var_tr: f64,
    /// Covariance under two treatments of one reader.
    #[arg(long, allow_negative_numbers = true)]
    cov1: f64,
    /// Covariance of two readers under one treatment.
    #[arg(long, allow_negative_numbers = true)]
    cov2: f64,
    /// Covariance of two readers under two treatments.
    #[arg(long, allow_negative_numbers = true)]
    cov3: f64,
    /// Variance of a figure.
    #[arg(long)]
    var: f64,
    /// What the result is to hold for.
    #[arg(long, value_enum, default_value_t = Random::Rrrc)]
    random: Random,
    /// Probability of a significant difference.
    #[arg(long, default_value_t = 0.8)]
    power: f64,
    /// Two-sided level of the test.
    #[arg(long, default_value_t = 0.05)]
    alpha: f64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Random {
    /// Readers and cases.
    Rrrc,
    /// Cases.
    Frrc,
    /// Readers.
    Rrfc,
}

pub fn run(what: &What) -> Result<Report, Failure> {
    match what {
        What::Proportion(args) => proportion(args),
        What::Froc(args) => froc(args),
        What::Auc(args) => auc(args),
        What::Mrmc(args) => mrmc(args),
    }
}

fn proportion(args: &Proportion) -> Result<Report, Failure> {
    let clusters = Clusters { size: args.cluster_size, correlation: args.correlation };
    let n = match (args.half_width, args.goal) {
        (Some(half_width), _) => proportion_precision(args.expected, half_width, args.level, clusters)?,
        (_, Some(goal)) => proportion_goal(args.expected, goal, args.alpha, args.power, clusters)?,
        _ => unreachable!("one of both is required"),
    };
    let Observations { independent, needed, clusters: patients } = n;
    let effect = clusters.design_effect()?;
    Ok(Report {
        json: json!({ "ok": true, "n": needed, "clusters": patients, "independent": independent, "design_effect": effect }),
        table: format!(
            "{needed} observations of {patients} patients (design effect {effect:.4}, {independent:.2} were they independent)\n"
        ),
    })
}

fn froc(args: &Froc) -> Result<Report, Failure> {
    let refuse = |value: f64| lungai_metrics::MetricsError::Range {
        what: "nodules in a scan",
        value,
        range: "above 0, and at or above 1 in scans that have any",
    };
    let mean = args.nodules_per_scan;
    if !(mean > 0.0 && mean.is_finite()) {
        return Err(refuse(mean).into());
    }
    // Of a Poisson number, given that it is not zero.
    let in_positive = args.nodules_per_positive_scan.unwrap_or(mean / -(-mean).exp_m1());
    if !(in_positive >= 1.0 && in_positive >= mean) {
        return Err(refuse(in_positive).into());
    }
    let clusters = Clusters { size: in_positive, correlation: args.correlation };
    let nodules = proportion_precision(args.sensitivity, args.half_width, args.level, clusters)?;
    let scans = rate_precision(args.fp_per_scan, args.fp_half_width, args.level, args.overdispersion)?;
    let for_nodules = (nodules.needed as f64 / mean - 1e-9).ceil() as usize;
    let needed = for_nodules.max(scans.needed);
    Ok(Report {
        json: json!({ "ok": true, "scans": needed, "nodules": nodules.needed, "scans_for_sensitivity": for_nodules,
            "scans_for_false_positives": scans.needed, "design_effect": clusters.design_effect()? }),
        table: format!(
            "{needed} scans: {for_nodules} to have {} nodules, {} for the false positives\n",
            nodules.needed, scans.needed
        ),
    })
}

fn auc(args: &Auc) -> Result<Report, Failure> {
    let how = match args.variance {
        Variance::Obuchowski => AucVariance::Obuchowski,
        Variance::HanleyMcneil => AucVariance::HanleyMcNeil,
    };
    let ratio = args.negatives_per_positive;
    let TwoGroups { positives, negatives } = match (args.half_width, args.goal, args.other) {
        (Some(half_width), ..) => auc_precision(how, args.expected, half_width, args.level, ratio)?,
        (_, Some(goal), _) => auc_goal(how, args.expected, goal, args.alpha.unwrap_or(0.025), args.power, ratio)?,
        (_, _, Some(other)) => {
            let alpha = args.alpha.unwrap_or(0.05);
            auc_difference(how, [other, args.expected], args.correlation, alpha, args.power, ratio)?
        }
        _ => unreachable!("one of the three is required"),
    };
    Ok(Report {
        json: json!({ "ok": true, "positives": positives, "negatives": negatives, "n": positives + negatives }),
        table: format!("{} cases: {positives} positive, {negatives} negative\n", positives + negatives),
    })
}

fn mrmc(args: &Mrmc) -> Result<Report, Failure> {
    let pilot = Components {
        reader: None,
        treatment_reader: Some(args.var_tr),
        cov1: args.cov1,
        cov2: args.cov2,
        cov3: args.cov3,
        var: args.var,
    };
    let what = match args.random {
        Random::Rrrc => Generalise::ReadersAndCases,
        Random::Frrc => Generalise::Cases,
        Random::Rrfc => Generalise::Readers,
    };
    let cases = match args.cases {
        Some(cases) => cases,
        None => reader_study_cases(&pilot, args.pilot_cases, args.readers, args.effect, args.alpha, args.power, what)?
            .ok_or_else(|| Failure {
                rule: "unreachable-power".into(),
                message: format!("no number of cases reaches a power of {} with {} readers", args.power, args.readers),
            })?,
    };
    let found = reader_power(&pilot, args.pilot_cases, args.readers, cases, args.effect, args.alpha, what)?;
    let mut json = json!({ "ok": true, "cases": cases, "readers": args.readers, "power": found.power,
        "noncentrality": found.noncentrality });
    if found.ddf.is_finite() {
        json["ddf"] = json!(found.ddf);
    }
    let table = format!("{} readers, {cases} cases: power {:.6}\n", args.readers, found.power);
    Ok(Report { json, table })
}
