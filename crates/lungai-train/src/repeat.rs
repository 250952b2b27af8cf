//! The same training several times: over folds (cross-validation) and seeds. How far the figures depend on chance and on
//! which patients were held out.

use crate::config::{Experiment, Fold, Repeat};
use crate::record::write_experiment;
use crate::run::{Outcome, write_whole};
use anyhow::{Context, ensure};
use lungai_runs::{BEST, Best, CHECKPOINTS};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// What the runs came to; in the folder of all of them.
const SUMMARY: &str = "repeat.json";

/// One figure over the runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// Runs that have it.
    pub runs: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation (n - 1); none of a single run.
    pub sd: Option<f64>,
    /// Their least.
    pub min: f64,
    /// Their greatest.
    pub max: f64,
}

/// Name of the run's folder and what it trains, for each fold and seed.
pub fn runs(experiment: &Experiment, repeat: &Repeat) -> Vec<(String, Experiment)> {
    let folds: Vec<Option<Fold>> = match repeat.folds {
        0 => vec![experiment.fold],
        of => (0..of).map(|index| Some(Fold { index, of })).collect(),
    };
    let seeds = if repeat.seeds.is_empty() { vec![experiment.seed] } else { repeat.seeds.clone() };
    let mut all = Vec::new();
    for fold in folds {
        for &seed in &seeds {
            let mut name = format!("seed-{seed}");
            if let Some(Fold { index, of }) = fold {
                name = format!("fold-{}-of-{of}-{name}", index + 1);
            }
            let own = format!("{}-{name}", experiment.name);
            all.push((name, Experiment { name: own, seed, fold, repeat: None, ..experiment.clone() }));
        }
    }
    all
}

/// Trains them one after the other in folders below `folder`; what is there already is not done again, what was interrupted
/// goes on. `train` is given a run folder, its experiment and whether to resume.
pub fn train_all(
    folder: &Path,
    experiment: &Experiment,
    repeat: &Repeat,
    mut train: impl FnMut(&Path, &Experiment, bool) -> anyhow::Result<Outcome>,
) -> anyhow::Result<(String, serde_json::Value)> {
    fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    write_experiment(folder, experiment)?;
    let runs = runs(experiment, repeat);
    let mut best: Vec<Best> = Vec::new();
    for (at, (name, experiment)) in runs.iter().enumerate() {
        let run = folder.join(name);
        eprintln!("{name}: {} of {}", at + 1, runs.len());
        if let Ok(bytes) = fs::read(run.join(BEST)) {
            best.push(serde_json::from_slice(&bytes).with_context(|| format!("{}", run.display()))?);
            continue;
        }
        let resume = run.join(CHECKPOINTS).exists();
        if run.exists() && !resume {
            // Interrupted before its first checkpoint: nothing of it can be used.
            fs::remove_dir_all(&run).with_context(|| format!("{}", run.display()))?;
        }
        best.push(
            train(&run, experiment, resume)
                .with_context(|| format!("{name} (the others are kept; call again to go on)"))?
                .best,
        );
    }
    let figures = figures(&best);
    ensure!(!figures.is_empty(), "no run has a figure");
    let value = json!({ "ok": true, "run": folder, "network": experiment.network.name(), "runs": runs.len(), "figures": figures });
    write_whole(&folder.join(SUMMARY), &serde_json::to_vec_pretty(&value)?)?;
    let mut text = format!(
        "{}  {} runs\n  {:24} {:>8} {:>8} {:>8} {:>8}",
        folder.display(),
        runs.len(),
        "",
        "mean",
        "sd",
        "min",
        "max"
    );
    for (name, Figure { mean, sd, min, max, .. }) in &figures {
        let sd = sd.map_or_else(|| "-".to_owned(), |sd| format!("{sd:.3}"));
        _ = write!(text, "\n  {name:24} {mean:>8.3} {sd:>8} {min:>8.3} {max:>8.3}");
    }
    Ok((text, value))
}

fn figures(best: &[Best]) -> BTreeMap<String, Figure> {
    let mut values: BTreeMap<&String, Vec<f64>> = BTreeMap::new();
    for (name, value) in best.iter().flat_map(|best| &best.metrics) {
        values.entry(name).or_default().push(*value);
    }
    let figure = |values: Vec<f64>| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        Figure {
            runs: values.len(),
            mean,
            sd: (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()),
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    };
    values.into_iter().map(|(name, values)| (name.clone(), figure(values))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_standard_deviation_are_those_of_the_textbook() {
        let best = |value: f64| Best { step: 1, metrics: [("cpm".to_owned(), value)].into() };
        let figure = figures(&[best(2.0), best(4.0), best(9.0)]).remove("cpm").unwrap();
        // Deviations -3, -1, 4: squares 26, over 2.
        assert_eq!(figure, Figure { runs: 3, mean: 5.0, sd: Some(13f64.sqrt()), min: 2.0, max: 9.0 });
        assert_eq!(figures(&[best(2.0)])["cpm"].sd, None);
    }
}
