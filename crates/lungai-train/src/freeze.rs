//! Freezing: one finished run of each network becomes one signed model.

use crate::Printed;
use crate::card::{Facts, NetworkFacts, card};
use crate::config::Network;
use crate::record::Finished;
use anyhow::{Context, bail};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use clap::Args;
use lungai_models::frozen::{
    self, Calibration, Golden, Manifest, NetworkConfigs, Networks, SigningKey, Storage, Training, weights_from_bytes,
    weights_to_bytes,
};
use lungai_runs::{History, read_journal};
use lungai_trace::implements;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

#[derive(Args)]
pub struct FreezeArgs {
    /// Run folders: one of each network (lung, detector, classifier), in any order.
    #[arg(required = true, num_args = 3)]
    runs: Vec<PathBuf>,
    /// Name of the model.
    #[arg(long)]
    name: String,
    /// Version of the model; a version is frozen once.
    #[arg(long = "version", value_name = "VERSION")]
    version: String,
    /// Registry folder; the model goes to REGISTRY/NAME/VERSION.
    #[arg(long, default_value = "models", value_name = "REGISTRY")]
    models: PathBuf,
    /// Private P-256 key (PKCS#8 PEM) to sign with. Without it a throw-away key is made, used once and forgotten; its
    /// public half goes to REGISTRY/trusted-keys.
    #[arg(long, value_name = "PEM")]
    key: Option<PathBuf>,
    /// Store the weights in 16 bits: half the file. The card says what it changes.
    #[arg(long)]
    half: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Largest relative difference that a device may show on the golden cases.
const GOLDEN_TOLERANCE: f64 = 1e-3;

/// The verb.
#[implements("RR-001")]
pub fn freeze(args: &FreezeArgs) -> anyhow::Result<Printed> {
    for text in [&args.name, &args.version] {
        if text.starts_with('.')
            || text.is_empty()
            || !text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        {
            bail!("`{text}`: names and versions hold letters, digits, `-`, `_` and `.` only");
        }
    }
    let mut runs = BTreeMap::new();
    for folder in &args.runs {
        let run = Finished::read(folder)?;
        let name = run.experiment.network.name();
        if runs.insert(name, (folder.clone(), run)).is_some() {
            bail!("two runs of the {name} network; one of each is needed");
        }
    }
    let configs = configs(&runs)?;
    let device = Device::flex();
    let mut networks = configs.init(&device);
    for (name, (folder, run)) in &runs {
        let weights = run.weights.clone();
        let loaded = match *name {
            "lung" => weights_from_bytes(&mut networks.lung, weights),
            "detector" => weights_from_bytes(&mut networks.detector, weights),
            _ => weights_from_bytes(&mut networks.classifier, weights),
        };
        loaded.map_err(|reason| anyhow::anyhow!("{}: {reason}", folder.display()))?;
    }
    let manifest = manifest(args, configs, &runs)?;
    let golden = golden(&manifest.networks, &device);
    let trained = networks.clone();
    if args.half {
        let halves = frozen::halved(&weights_to_bytes(&networks)).map_err(anyhow::Error::msg)?;
        weights_from_bytes(&mut networks, halves).map_err(anyhow::Error::msg)?;
    }
    let rounded = if args.half { golden.differences(&trained, &networks) } else { Vec::new() };
    let card = card(&manifest, &Facts { networks: facts(&runs, &networks)?, rounded });
    let folder = args.models.join(&args.name).join(&args.version);
    fs::create_dir_all(args.models.join(&args.name)).with_context(|| format!("{}", args.models.display()))?;
    let key = match &args.key {
        Some(path) => SigningKey::read(path)?,
        None => SigningKey::generate(),
    };
    frozen::save(&folder, &manifest, &networks, &golden, &card, &key)?;
    // What was written must pass the checks that everybody else will make.
    let trust = frozen::Trust::from_pem(&key.public_pem(), Path::new("the signing key"))?;
    let loaded = frozen::load(&folder, &trust, &device)?;
    if args.key.is_none() {
        publish_throw_away_key(args, &key)?;
    }
    let value = json!({
        "ok": true, "model": folder, "sha256": loaded.sha256, "synthetic": manifest.synthetic,
        "operating_points": manifest.operating_points, "calibration": manifest.calibration,
    });
    let word = if manifest.synthetic { ", trained on SYNTHETIC data" } else { "" };
    Ok((format!("{} frozen and verified{word}; sha256 {}", folder.display(), loaded.sha256), value))
}

/// What the card says of each network beside the manifest.
fn facts(runs: &Runs, networks: &Networks) -> anyhow::Result<Vec<NetworkFacts>> {
    let mut all = Vec::new();
    for name in ["lung", "detector", "classifier"] {
        let (folder, run) = &runs[name];
        let history = History::of(&read_journal(folder)?.lines);
        let tenth = history.losses.len().div_ceil(10);
        let mean = |part: &[(u64, f64)]| part.iter().map(|(_, loss)| loss).sum::<f64>() / part.len() as f64;
        all.push(NetworkFacts {
            network: run.experiment.network.clone(),
            parameters: match name {
                "lung" => networks.lung.num_params(),
                "detector" => networks.detector.num_params(),
                _ => networks.classifier.num_params(),
            },
            minutes: history.seconds.filter(|_| tenth > 0).map(|seconds| seconds / 60.0),
            loss: (tenth > 0)
                .then(|| [mean(&history.losses[..tenth]), mean(&history.losses[history.losses.len() - tenth..])]),
        });
    }
    Ok(all)
}

type Runs = BTreeMap<&'static str, (PathBuf, Finished)>;

fn configs(runs: &Runs) -> anyhow::Result<NetworkConfigs> {
    let (mut lung, mut detector, mut classifier) = (None, None, None);
    for (_, run) in runs.values() {
        match run.experiment.network.clone() {
            Network::Lung(config) => lung = Some(config),
            Network::Detector(config) => detector = Some(config),
            Network::Classifier(config) => classifier = Some(config),
        }
    }
    Ok(NetworkConfigs {
        lung: lung.context("no run of the lung network")?,
        detector: detector.context("no run of the detector network")?,
        classifier: classifier.context("no run of the classifier network")?,
    })
}

fn manifest(args: &FreezeArgs, networks: NetworkConfigs, runs: &Runs) -> anyhow::Result<Manifest> {
    let figure = |network: &str, name: &str| -> anyhow::Result<f64> {
        let (folder, run) = &runs[network];
        run.best.metrics.get(name).copied().with_context(|| format!("{} has no figure {name}", folder.display()))
    };
    let mut training = BTreeMap::new();
    for (network, (folder, run)) in runs {
        training.insert(
            (*network).to_owned(),
            Training {
                run: folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
                experiment_sha256: run.experiment_sha256.clone(),
                data: run.record.data.clone(),
                seed: run.experiment.seed,
                steps: run.best.step,
                device: run.record.device.clone(),
                threads: run.record.threads,
                metrics: run.best.metrics.clone(),
                imported_sha256: run.record.imported.as_ref().map(|imported| imported.sha256.clone()),
            },
        );
    }
    let synthetic = runs.values().any(|(_, run)| run.record.synthetic);
    Ok(Manifest {
        schema: 1,
        name: args.name.clone(),
        version: args.version.clone(),
        synthetic,
        intended_use: format!(
            "Research on lung-nodule detection in chest CT. Not cleared for clinical use.{}",
            if synthetic { " Trained on SYNTHETIC scans." } else { "" }
        ),
        input_contract:
            "Axial chest CT in HU, slice distance and thickness at most 3 mm (warned above 1.5 mm), both lungs \
                         covered; see validation/quality.yaml."
                .into(),
        networks,
        weights: if args.half { Storage::F16 } else { Storage::F32 },
        // Named by false positives per scan on the tuning scans; FR-004 asks for at most one half.
        operating_points: BTreeMap::from([
            ("default".into(), figure("detector", "threshold_at_0.5")?),
            ("high-sensitivity".into(), figure("detector", "threshold_at_2")?),
            ("high-specificity".into(), figure("detector", "threshold_at_0.125")?),
        ]),
        calibration: Calibration {
            slope: figure("classifier", "platt_slope")?,
            intercept: figure("classifier", "platt_intercept")?,
        },
        training,
        code: runs["lung"].1.record.code.clone(),
        golden_tolerance: GOLDEN_TOLERANCE,
    })
}

/// A key that exists only while this program runs; its public half is published in the registry.
///
/// Only after the model was written: the key of a version that exists already must stay.
fn publish_throw_away_key(args: &FreezeArgs, key: &SigningKey) -> anyhow::Result<()> {
    let trusted = args.models.join("trusted-keys");
    fs::create_dir_all(&trusted).with_context(|| format!("{}", trusted.display()))?;
    let path = trusted.join(format!("throw-away-{}-{}.pem", args.name, args.version));
    fs::write(&path, key.public_pem()).with_context(|| format!("{}", path.display()))?;
    eprintln!("signed with a throw-away key; its public half is {}", path.display());
    Ok(())
}

/// Golden inputs: noise on a ramp, so that every weight has something to do. Cropped where a tile would only make the
/// file larger.
fn golden(configs: &NetworkConfigs, device: &Device) -> Golden {
    let cube = |seed: u64, edge: usize| {
        let mut rng = StdRng::seed_from_u64(seed);
        let ramp = |i: usize| (i % edge) as f32 / edge as f32 - 0.5;
        let values: Vec<f32> = (0..edge.pow(3)).map(|i| ramp(i) + rng.random_range(-0.5..0.5f32)).collect();
        Tensor::<5>::from_data(TensorData::new(values, [1, 1, edge, edge, edge]), device)
    };
    let multiple = |stride: usize, tile: usize| (32usize.div_ceil(stride) * stride).min(tile);
    Golden {
        lung: {
            let edge = multiple(1 << configs.lung.depth, configs.lung.tile);
            Tensor::cat(vec![cube(1, edge), cube(4, edge)], 1)
        },
        detector: cube(2, multiple(configs.detector.deepest_stride(), configs.detector.tile)),
        classifier: cube(3, configs.classifier.tile),
    }
}
