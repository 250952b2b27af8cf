//! Several runs of one network as one: how good they are together, and on which cases that may be asked.
//!
//! Thresholds and calibration of an average must come from an average, and from cases that nobody in it has learned. Seeds
//! of one split have such cases, those held out. Folds have none: every case was learned by all members but those of its
//! own fold. There each case is judged by those, which is said wherever the figures are.

use crate::cases::Cases;
use crate::config::{Experiment, Fold};
use crate::record::Finished;
use crate::repeat;
use crate::tasks::judge::{self, Judged};
use anyhow::{Context, bail, ensure};
use burn::tensor::Device;
use lungai_datasets::{Case, Manifest};
use lungai_models::frozen::{Basis, Ensemble, MOST_MEMBERS, NetworkConfigs, Networks, sha256_hex};
use lungai_pipeline::reduce::PROPOSAL_SCORE;
use lungai_runs::EXPERIMENT;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Folder and run.
pub type Run = (PathBuf, Finished);
/// Runs by network, in the order in which they were named.
pub type Runs = BTreeMap<&'static str, Vec<Run>>;

/// Reads run folders, and all runs of folders that `repeat` made.
pub fn read(folders: &[PathBuf]) -> anyhow::Result<Runs> {
    let mut runs = Runs::new();
    for folder in folders {
        for folder in runs_of(folder)? {
            let run = Finished::read(&folder)?;
            runs.entry(run.experiment.network.name()).or_default().push((folder, run));
        }
    }
    for (name, runs) in &runs {
        check_alike(name, runs)?;
    }
    Ok(runs)
}

fn runs_of(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let path = folder.join(EXPERIMENT);
    ensure!(path.exists(), "{} is not a run folder: it has no {EXPERIMENT}", folder.display());
    let experiment = Experiment::read(&path, &[])?;
    Ok(match &experiment.repeat {
        Some(repeat) => repeat::runs(&experiment, repeat).into_iter().map(|(name, _)| folder.join(name)).collect(),
        None => vec![folder.to_owned()],
    })
}

/// What is averaged has one shape, comes from one data set and is not the same twice.
fn check_alike(name: &str, runs: &[Run]) -> anyhow::Result<()> {
    ensure!(
        runs.len() <= MOST_MEMBERS,
        "{} runs of the {name} network: at most {MOST_MEMBERS} are averaged",
        runs.len()
    );
    let (folder, first) = &runs[0];
    let mut known = BTreeMap::new();
    for (other, run) in runs {
        let pair = format!("{} and {}", folder.display(), other.display());
        ensure!(
            first.experiment.network == run.experiment.network,
            "{pair} are {name} networks of different shapes: only networks of one shape are averaged"
        );
        ensure!(
            first.record.data.manifest_sha256 == run.record.data.manifest_sha256,
            "{pair} were trained on different data: no case could be said to be new to both"
        );
        if let Some(same) = known.insert(sha256_hex(&run.weights), other) {
            bail!("{} and {} hold the same weights: averaging them changes nothing", same.display(), other.display());
        }
    }
    Ok(())
}

/// Which members of several groups judge which case.
struct Panel<'a> {
    basis: Basis,
    /// For each case, of every group the places of those who judge it.
    cases: Vec<(&'a Case, Vec<Vec<usize>>)>,
}

impl<'a> Panel<'a> {
    /// - `splits`: cases of each distinct fold
    /// - `groups`: the fold of each member of each group; what depends on several networks has several groups
    fn of(splits: &'a [(Option<Fold>, Cases)], groups: &[Vec<Option<Fold>>]) -> anyhow::Result<Self> {
        let held_out: Vec<BTreeSet<&str>> =
            splits.iter().map(|(_, cases)| cases.tune.iter().map(|case| case.id.as_str()).collect()).collect();
        let split = |fold: &Option<Fold>| splits.iter().position(|(known, _)| known == fold).expect("all are listed");
        let used: BTreeSet<usize> = groups.iter().flatten().map(split).collect();
        let mut cases: BTreeMap<&str, &Case> = BTreeMap::new();
        for place in &used {
            cases.extend(splits[*place].1.tune.iter().map(|case| (case.id.as_str(), case)));
        }
        let judges = |id: &str, group: &Vec<Option<Fold>>| -> Vec<usize> {
            let judges = group.iter().enumerate().filter(|(_, fold)| held_out[split(fold)].contains(id));
            judges.map(|(place, _)| place).collect()
        };
        let mut panel: Vec<(&Case, Vec<Vec<usize>>)> =
            cases.iter().map(|(id, case)| (*case, groups.iter().map(|group| judges(id, group)).collect())).collect();
        panel.retain(|(_, judges)| judges.iter().all(|group| !group.is_empty()));
        ensure!(
            !panel.is_empty(),
            "no case is held out by both a detector and a reducer: train the reducers with the detectors' folds"
        );
        let basis = if used.len() == 1 { Basis::HeldOut } else { Basis::OutOfFold };
        Ok(Self { basis, cases: panel })
    }

    /// Each case with those of `nets` that judge it; they are of this group.
    fn judged<'b, N>(&self, group: usize, nets: &[&'b N]) -> Vec<Judged<'b, N>>
    where
        'a: 'b,
    {
        let chosen = |places: &Vec<usize>| places.iter().map(|place| nets[*place]).collect();
        self.cases.iter().map(|(case, judges)| (*case, chosen(&judges[group]))).collect()
    }
}

/// Figures of all that is averaged, and of a reducer behind averaged detectors.
///
/// - `data`: the data set that the runs name, or where it lies now
/// - `say`: told what is measured next
pub fn measure(
    runs: &Runs,
    configs: &NetworkConfigs,
    networks: &Networks,
    data: Option<&Path>,
    device: &Device,
    say: &dyn Fn(&str),
) -> anyhow::Result<BTreeMap<String, Measured>> {
    let count = |name: &str| runs.get(name).map_or(0, Vec::len);
    let folds = |name: &str| runs[name].iter().map(|(_, run)| run.experiment.fold).collect::<Vec<_>>();
    let mut all = BTreeMap::new();
    let mut measured = |name: &str, basis: Basis, cases: usize, metrics: BTreeMap<String, f64>| {
        all.insert(name.to_owned(), Measured { metrics, basis, cases });
    };
    for name in ["lung", "detector", "classifier", "reducer"] {
        let behind_several = name == "reducer" && count(name) == 1 && count("detector") > 1;
        if count(name) < 2 && !behind_several {
            continue;
        }
        say(name);
        let manifest = open_data(&runs[name], data)?;
        let groups = if name == "reducer" { vec![folds("detector"), folds(name)] } else { vec![folds(name)] };
        let distinct: BTreeSet<_> = groups.iter().flatten().map(|fold| fold.map(|f| (f.of, f.index))).collect();
        let splits = distinct
            .into_iter()
            .map(|fold| fold.map(|(of, index)| Fold { index, of }))
            .map(|fold| Ok((fold, Cases::of(&manifest, fold)?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let panel = Panel::of(&splits, &groups)?;
        let metrics = match name {
            "lung" => judge::lung(&panel.judged(0, &networks.lungs()), &configs.lung, device)?,
            "detector" => judge::detector(&panel.judged(0, &networks.detectors()), &configs.detector, device)?,
            "classifier" => judge::classifier(&panel.judged(0, &networks.classifiers()), &configs.classifier, device)?,
            _ => {
                let mut found = Vec::new();
                for (case, detectors) in panel.judged(0, &networks.detectors()) {
                    let (scan, config) = (case.load_scan()?, &configs.detector);
                    found.push(judge::candidates(&detectors, config, case, &scan, PROPOSAL_SCORE, device)?);
                }
                let config = configs.reducer.as_ref().context("a reducer has a shape")?;
                judge::reducer(&panel.judged(1, &networks.reducers()), &found, config, device)?
            }
        };
        measured(name, panel.basis, panel.cases.len(), metrics);
    }
    Ok(all)
}

/// Figures with what they rest on.
pub struct Measured {
    /// By name.
    pub metrics: BTreeMap<String, f64>,
    basis: Basis,
    cases: usize,
}

impl Measured {
    /// For the manifest.
    pub fn ensemble(&self, further: Vec<lungai_models::frozen::Training>) -> Ensemble {
        Ensemble { further, metrics: self.metrics.clone(), basis: self.basis, cases: self.cases }
    }
}

/// The data set of these runs, as they saw it.
pub fn open_data(runs: &[Run], data: Option<&Path>) -> anyhow::Result<Manifest> {
    let (_, first) = &runs[0];
    let path = data.unwrap_or(&first.experiment.data);
    let manifest = Manifest::load(path).with_context(|| {
        format!(
            "averaged {} networks are measured together on the data of their runs, {}; name its manifest with --data",
            first.experiment.network.name(),
            path.display()
        )
    })?;
    ensure!(
        manifest.fingerprint() == first.record.data.manifest_sha256,
        "{} is not the data set {} of the runs that are averaged",
        path.display(),
        first.record.data.name
    );
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(id: &str) -> Case {
        serde_json::from_value(serde_json::json!({
            "id": id, "patient": id, "centre": "c", "split": "train", "series": { "path": "x", "sha256": "0" },
        }))
        .unwrap()
    }

    fn split(fold: Option<Fold>, tune: &[&str]) -> (Option<Fold>, Cases) {
        (fold, Cases { train: Vec::new(), tune: tune.iter().map(|id| case(id)).collect() })
    }

    fn judges(panel: &Panel) -> Vec<(String, Vec<Vec<usize>>)> {
        panel.cases.iter().map(|(case, judges)| (case.id.clone(), judges.clone())).collect()
    }

    const A: Option<Fold> = Some(Fold { index: 0, of: 2 });
    const B: Option<Fold> = Some(Fold { index: 1, of: 2 });

    #[test]
    fn seeds_of_one_split_judge_what_it_holds_out_together() {
        let splits = [split(None, &["a", "b"])];
        let panel = Panel::of(&splits, &[vec![None, None, None]]).unwrap();
        assert_eq!(panel.basis, Basis::HeldOut);
        assert_eq!(judges(&panel), [("a".into(), vec![vec![0, 1, 2]]), ("b".into(), vec![vec![0, 1, 2]])]);
    }

    #[test]
    fn of_folds_nobody_judges_a_case_that_he_has_learned() {
        let splits = [split(A, &["a"]), split(B, &["b"])];
        // Two folds with two seeds each.
        let panel = Panel::of(&splits, &[vec![A, A, B, B]]).unwrap();
        assert_eq!(panel.basis, Basis::OutOfFold);
        assert_eq!(judges(&panel), [("a".into(), vec![vec![0, 1]]), ("b".into(), vec![vec![2, 3]])]);
    }

    #[test]
    fn a_case_that_a_reducer_or_all_detectors_have_learned_is_left_out() {
        let splits = [split(None, &["a"]), split(A, &["a", "c"]), split(B, &["b"])];
        let panel = Panel::of(&splits, &[vec![A, B], vec![None]]).unwrap();
        assert_eq!(panel.basis, Basis::OutOfFold);
        assert_eq!(judges(&panel), [("a".into(), vec![vec![0], vec![0]])]);
        let error = Panel::of(&splits, &[vec![B], vec![None]]).err().unwrap().to_string();
        assert!(error.contains("no case is held out by both"), "{error}");
    }
}
