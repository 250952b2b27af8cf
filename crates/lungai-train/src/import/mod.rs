//! Weights that were trained in PyTorch become a run folder, from which a model is frozen as from any other run.
//!
//! The file's pickle is parsed and never executed, and no tensor is read before its name and shape are those that the
//! network needs.

mod file;
mod names;
#[cfg(test)]
mod peer;

use crate::config::Experiment;
use crate::devices::Devices;
use crate::record;
use crate::{Job, Printed, dispatch, open_data};
use anyhow::{Context, ensure};
use clap::Args;
use lungai_models::DeviceChoice;
use lungai_runs::{Event, Imported, WEIGHTS};
use lungai_trace::implements;
use serde_json::json;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

#[derive(Args)]
pub struct ImportArgs {
    /// What `torch.save` (PyTorch 1.6 or newer) or safetensors wrote: a state dict, or a checkpoint that holds one.
    file: PathBuf,
    /// Experiment file (YAML): the network's shape, and the data set that the weights were trained on.
    #[arg(long, value_name = "YAML")]
    experiment: PathBuf,
    /// Override a value of the experiment, for example network.lung.width=32; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Data-set manifest instead of the experiment's.
    #[arg(long, value_name = "MANIFEST")]
    data: Option<PathBuf>,
    /// Run folder to make; it must not exist yet.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// What the names of the network's tensors begin with in the file, for example `ema.`; found by itself where only one
    /// fits.
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// auto, cpu or cuda:N.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// The verb.
#[implements("RR-001")]
pub fn import(args: &ImportArgs) -> anyhow::Result<Printed> {
    let mut experiment = Experiment::read(&args.experiment, &args.set)?;
    if let Some(data) = &args.data {
        experiment.data.clone_from(data);
    }
    ensure!(!args.run.exists(), "{} exists already: choose another folder with --run", args.run.display());
    let (foreign, sha256) = file::open(&args.file).with_context(|| format!("{}", args.file.display()))?;
    let network = &experiment.network;
    let translated = names::translate(network, &foreign, args.prefix.as_deref())
        .with_context(|| format!("{} is no {} network of {}", args.file.display(), network.name(), experiment.name))?;
    let devices = Devices::open(&[args.device])?;
    let manifest = open_data(&experiment)?;
    let outcome = dispatch(&experiment, &manifest, &devices, Job::Judge(&translated.weights))?;

    let file = args.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let imported = Imported { file, sha256: sha256.clone() };
    crate::folder::whole(&args.run, |draft| {
        let mut journal = record::begin(draft, &experiment, &manifest, &devices.name, Some(imported))?;
        fs::write(draft.join(WEIGHTS), &translated.weights)?;
        journal.write(Event::End { step: 0, stopped_early: false, best: outcome.best.clone() })?;
        journal.sync()?;
        record::finish(draft, &outcome)
    })?;

    let word = if manifest.synthetic { "SYNTHETIC " } else { "" };
    let mut text = String::new();
    for tensor in &translated.tensors {
        let _ = writeln!(text, "{:48} -> {:48} {:?}", tensor.from, tensor.to, tensor.shape);
    }
    let figures: Vec<String> = outcome.best.metrics.iter().map(|(name, v)| format!("{name} {v:.3}")).collect();
    let _ = write!(
        text,
        "{} tensors{}\n{}  {word}{}",
        translated.tensors.len(),
        if translated.others == 0 { String::new() } else { format!("; {} others left alone", translated.others) },
        args.run.display(),
        figures.join("  ")
    );
    let tensors: Vec<_> =
        translated.tensors.iter().map(|t| json!({ "from": t.from, "to": t.to, "shape": t.shape })).collect();
    let value = json!({
        "ok": true, "run": args.run, "network": network.name(), "synthetic": manifest.synthetic, "file_sha256": sha256,
        "tensors": tensors, "others": translated.others, "best": outcome.best,
    });
    Ok((text, value))
}
