//! The detector whose candidates a reducer learns to tell apart, and by which it is judged.

use crate::config::{Experiment, Network};
use crate::record::Finished;
use crate::repeat;
use anyhow::{Context, ensure};
use burn::tensor::Device;
use lungai_datasets::Manifest;
use lungai_models::detector::{DetectorConfig, DetectorNet};
use lungai_models::frozen::{sha256_hex, weights_from_bytes};
use lungai_runs::EXPERIMENT;
use std::path::{Path, PathBuf};

/// A finished run of a detector.
pub struct Proposer {
    /// What the reducer's run record says of it.
    pub origin: lungai_runs::Proposer,
    /// Its shape.
    pub config: DetectorConfig,
    weights: Vec<u8>,
}

impl Proposer {
    /// That of an experiment; `None` where its network is no reducer.
    ///
    /// It must have been trained on the same data and hold out the same cases: the candidates in scans that it has learned
    /// would flatter both.
    pub fn find(experiment: &Experiment, manifest: &Manifest) -> anyhow::Result<Option<Self>> {
        let Some(reducer) = &experiment.training.reducer else { return Ok(None) };
        let folder = same_repeat(&reducer.detector, experiment)?;
        let shown = folder.display();
        let run = Finished::read(&folder).context("training.reducer.detector")?;
        let Network::Detector(config) = run.experiment.network else {
            anyhow::bail!(
                "training.reducer.detector: {shown} is a run of the {} network",
                run.experiment.network.name()
            );
        };
        ensure!(
            run.record.data.manifest_sha256 == manifest.fingerprint(),
            "training.reducer.detector: {shown} was trained on other data ({})",
            run.record.data.name
        );
        ensure!(
            run.experiment.fold == experiment.fold,
            "training.reducer.detector: {shown} holds out other cases than this run: give both the same `fold`"
        );
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let origin = lungai_runs::Proposer { run: name, weights_sha256: sha256_hex(&run.weights) };
        Ok(Some(Self { origin, config, weights: run.weights }))
    }

    /// The network.
    pub fn load(&self, device: &Device) -> anyhow::Result<DetectorNet> {
        let mut net = self.config.init(0, device);
        weights_from_bytes(&mut net, self.weights.clone()).map_err(anyhow::Error::msg)?;
        Ok(net)
    }
}

/// Of a folder that `repeat` made, the run with the fold of `experiment` and, if there is one, its seed; any other folder itself.
fn same_repeat(folder: &Path, experiment: &Experiment) -> anyhow::Result<PathBuf> {
    let path = folder.join(EXPERIMENT);
    let repeated = if path.exists() { Experiment::read(&path, &[])? } else { return Ok(folder.to_owned()) };
    let Some(repeat) = &repeated.repeat else { return Ok(folder.to_owned()) };
    let mut runs = repeat::runs(&repeated, repeat);
    runs.retain(|(_, run)| run.fold == experiment.fold);
    let same_seed = runs.iter().position(|(_, run)| run.seed == experiment.seed);
    let (name, _) = runs
        .get(same_seed.unwrap_or(0))
        .with_context(|| format!("training.reducer.detector: {} has no run with this `fold`", folder.display()))?;
    Ok(folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::write_experiment;

    fn experiment(seed: u64, rest: &str) -> Experiment {
        serde_yaml::from_str(&format!(
            "{{name: d, seed: {seed}, data: m.yaml, {rest} network: {{classifier: {{width: 4, blocks: [1], spacing_mm: 1.0,
              tile: 8, window_hu: [-1000.0, 400.0]}}}}, training: {{steps: 1, batch: 8, accumulate: 1, learning_rate: 0.1,
              warmup_steps: 0, weight_decay: 0.0, clip_norm: 1.0, average: 0.0, evaluate_every: 1, patience: 0, shift_hu: 0.0,
              precision: f32, checkpoint_gradients: false, classifier: {{size_limits_mm: [], label_smoothing: 0.0}}}}}}"
        ))
        .unwrap()
    }

    #[test]
    fn of_repeated_runs_the_one_with_the_same_fold_proposes() {
        let folder = tempfile::tempdir().unwrap();
        write_experiment(folder.path(), &experiment(1, "repeat: {folds: 3, seeds: [1, 2]},")).unwrap();
        let chosen = |seed, rest| {
            same_repeat(folder.path(), &experiment(seed, rest)).map(|run| run.file_name().unwrap().to_owned())
        };
        assert_eq!(chosen(2, "fold: {index: 1, of: 3},").unwrap(), "fold-2-of-3-seed-2");
        assert_eq!(chosen(7, "fold: {index: 2, of: 3},").unwrap(), "fold-3-of-3-seed-1");
        assert!(chosen(1, "").unwrap_err().to_string().contains("has no run with this `fold`"));
        write_experiment(folder.path(), &experiment(1, "")).unwrap();
        assert_eq!(same_repeat(folder.path(), &experiment(1, "")).unwrap(), folder.path());
    }
}
