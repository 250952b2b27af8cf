//! Begins and ends a run folder; what lies in it: `lungai-runs`.

use crate::config::{Experiment, Precision};
use crate::proposer::Proposer;
use crate::run::{Outcome, write_whole};
use anyhow::{Context, bail, ensure};
use lungai_datasets::Manifest;
use lungai_models::frozen::sha256_hex;
use lungai_runs::{BEST, Best, Code, DataOrigin, EXPERIMENT, Event, Imported, Journal, RUN, RunRecord, WEIGHTS};
use std::{fs, path::Path, process::Command};

/// A finished run, read back.
pub struct Finished {
    /// What was trained.
    pub experiment: Experiment,
    /// SHA-256 of the resolved experiment file.
    pub experiment_sha256: String,
    /// Where and on what.
    pub record: RunRecord,
    /// How well.
    pub best: Best,
    /// The weights.
    pub weights: Vec<u8>,
}

/// Makes the run folder.
pub fn create(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        bail!("{0} exists already: go on with `--resume {0}` or choose another folder with `--run`", folder.display());
    }
    fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))
}

/// Writes down what the run begins with; gives its journal.
pub fn begin(
    folder: &Path,
    experiment: &Experiment,
    manifest: &Manifest,
    device: &str,
    imported: Option<Imported>,
) -> anyhow::Result<Journal> {
    let proposer = Proposer::find(experiment, manifest)?.map(|proposer| proposer.origin);
    let record = RunRecord {
        data: DataOrigin { name: manifest.name.clone(), manifest_sha256: manifest.fingerprint() },
        synthetic: manifest.synthetic,
        device: device.to_owned(),
        threads: rayon::current_num_threads(),
        precision: match experiment.training.precision {
            Precision::F32 => "f32".into(),
            Precision::Bf16 => "bf16 convolutions, f32 weights".into(),
        },
        code: code(),
        imported,
        proposer,
    };
    write_experiment(folder, experiment)?;
    write_whole(&folder.join(RUN), &serde_json::to_vec_pretty(&record)?)?;
    let mut journal = Journal::open(folder)?;
    journal.write(Event::Start { experiment: serde_json::to_value(experiment)?, run: record.into() })?;
    journal.sync()?;
    Ok(journal)
}

/// Writes the resolved experiment.
pub fn write_experiment(folder: &Path, experiment: &Experiment) -> anyhow::Result<()> {
    write_whole(&folder.join(EXPERIMENT), serde_yaml::to_string(experiment)?.as_bytes())
}

/// A resumed run must be the one that began: the same experiment and data, for a reducer the same detector, on a device that
/// rounds alike.
pub fn check_same(folder: &Path, experiment: &Experiment, manifest: &Manifest, device: &str) -> anyhow::Result<()> {
    let record: RunRecord = read_json(&folder.join(RUN))?;
    let lines = lungai_runs::read_journal(folder)?.lines;
    let began = lines.iter().find_map(|line| match &line.event {
        Event::Start { experiment, .. } => Some(experiment),
        _ => None,
    });
    ensure!(
        began == Some(&serde_json::to_value(experiment)?),
        "{} is not what this run began with; start a new run",
        folder.join(EXPERIMENT).display()
    );
    ensure!(record.device == device, "this run began on {0}, not on {device}: go on with --device {0}", record.device);
    ensure!(
        record.data.manifest_sha256 == manifest.fingerprint(),
        "the data set changed since this run began; start a new run"
    );
    let proposer = Proposer::find(experiment, manifest)?.map(|proposer| proposer.origin);
    let same = record.proposer.map(|known| known.weights_sha256) == proposer.map(|found| found.weights_sha256);
    ensure!(same, "the detector of training.reducer.detector changed since this run began; start a new run");
    Ok(())
}

/// Writes the best figures.
pub fn finish(folder: &Path, outcome: &Outcome) -> anyhow::Result<()> {
    write_whole(&folder.join(BEST), &serde_json::to_vec_pretty(&outcome.best)?)
}

impl Finished {
    /// Reads a run folder whose training has ended.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(EXPERIMENT);
        let text = fs::read(&path).with_context(|| format!("{} is not a run folder", folder.display()))?;
        let best = read_json(&folder.join(BEST))
            .with_context(|| format!("{}: this run has not ended; resume it first", folder.display()))?;
        let weights = folder.join(WEIGHTS);
        Ok(Self {
            experiment: Experiment::read(&path, &[])?,
            experiment_sha256: sha256_hex(&text),
            record: read_json(&folder.join(RUN))?,
            best,
            weights: fs::read(&weights).with_context(|| format!("{}", weights.display()))?,
        })
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let bytes = fs::read(path).with_context(|| format!("{}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{}", path.display()))
}

/// The state of the program's sources, as far as it can be seen from the working directory.
pub fn code() -> Code {
    let output = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let unknown = || "unknown".to_owned();
    Code {
        commit: output("git", &["rev-parse", "HEAD"]).unwrap_or_else(unknown),
        dirty: output("git", &["status", "--porcelain", "--untracked-files=no"]).is_none_or(|text| !text.is_empty()),
        lock_sha256: fs::read("Cargo.lock").map_or_else(|_| unknown(), |bytes| sha256_hex(&bytes)),
        toolchain: output("rustc", &["--version"]).unwrap_or_else(unknown),
    }
}
