//! Freezing: finished runs, one or several of each network, become one signed model.

use crate::Printed;
use crate::card::{Facts, NetworkFacts, card};
use crate::config::Network;
use crate::ensemble::{self, Measured, Run, Runs};
use crate::optimise::Optimisation;
use crate::record;
use anyhow::{Context, bail, ensure};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use clap::Args;
use lungai_models::frozen::{
    self, Calibration, Golden, Manifest, NetworkConfigs, Networks, SigningKey, Storage, Training, sha256_hex,
    weights_from_bytes, weights_to_bytes,
};
use lungai_models::{DeviceChoice, ops};
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
    /// Run folders of the lung network, the detector, the malignancy network and, if wanted, the reducer, in any order; several
    /// runs of one network are averaged, and a folder that `repeat` made stands for all its runs.
    #[arg(required = true, num_args = 3..)]
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
    /// Data-set manifest on which averaged networks are measured, where it no longer lies where their runs found it.
    #[arg(long, value_name = "MANIFEST")]
    data: Option<PathBuf>,
    /// What `optimise` measured of these runs, for the card.
    #[arg(long, value_name = "optimisation.json")]
    optimisation: Option<PathBuf>,
    /// Where averaged networks are measured: auto, cpu or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
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
    let runs = ensemble::read(&args.runs)?;
    let configs = configs(&runs)?;
    check_proposer(&runs)?;
    let device = Device::flex();
    let mut networks = load(&configs, &runs, &device)?;
    let (measuring, _) = args.device.open()?;
    let together = {
        let networks = if ops::on_cpu(&measuring) { networks.clone() } else { load(&configs, &runs, &measuring)? };
        let say = |name: &str| eprintln!("measuring what the {name} networks say together");
        ensemble::measure(&runs, &configs, &networks, args.data.as_deref(), &measuring, &say)?
    };
    let manifest = manifest(args, configs, &runs, &together)?;
    let golden = golden(&manifest.networks, &device);
    let trained = networks.clone();
    let optimisation = args.optimisation.as_deref().map(|path| measured_of(path, &trained)).transpose()?;
    if args.half {
        let halves = frozen::halved(&weights_to_bytes(&networks)).map_err(anyhow::Error::msg)?;
        weights_from_bytes(&mut networks, halves).map_err(anyhow::Error::msg)?;
    }
    let rounded = if args.half { golden.differences(&trained, &networks) } else { Vec::new() };
    let card = card(&manifest, &Facts { networks: facts(&runs, &networks)?, rounded, optimisation });
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
    match &args.key {
        None => publish_throw_away_key(args, &key)?,
        Some(path) => eprintln!(
            "whoever uses the model needs the public half of {}: `openssl pkey -pubout`, then --trusted-key or a place in {}",
            path.display(),
            args.models.join("trusted-keys").display()
        ),
    }
    let value = json!({
        "ok": true, "model": folder, "sha256": loaded.sha256, "synthetic": manifest.synthetic,
        "operating_points": manifest.operating_points, "calibration": manifest.calibration,
    });
    let word = if manifest.synthetic { ", trained on SYNTHETIC data" } else { "" };
    Ok((format!("{} frozen and verified{word}; sha256 {}", folder.display(), loaded.sha256), value))
}

/// What was measured, of these very weights.
fn measured_of(path: &Path, networks: &Networks) -> anyhow::Result<Optimisation> {
    let optimisation = Optimisation::read(path)?;
    let same = optimisation.weights_sha256 == sha256_hex(&weights_to_bytes(networks));
    ensure!(same, "{} was measured on other weights: run `optimise` on these runs", path.display());
    Ok(optimisation)
}

/// The order of the card.
const NETWORKS: [&str; 4] = ["lung", "detector", "classifier", "reducer"];

/// The networks of all runs with their weights.
pub fn load(configs: &NetworkConfigs, runs: &Runs, device: &Device) -> anyhow::Result<Networks> {
    fn read<M: Module>(net: &mut M, (folder, run): &Run) -> anyhow::Result<()> {
        weights_from_bytes(net, run.weights.clone()).map_err(|reason| anyhow::anyhow!("{}: {reason}", folder.display()))
    }
    let mut nets = configs.init_members(device, |name| runs[name].len());
    for (name, runs) in runs {
        for (place, run) in runs.iter().enumerate() {
            match (*name, place.checked_sub(1)) {
                ("lung", None) => read(&mut nets.lung, run)?,
                ("lung", Some(next)) => read(&mut nets.further.lung[next], run)?,
                ("detector", None) => read(&mut nets.detector, run)?,
                ("detector", Some(next)) => read(&mut nets.further.detector[next], run)?,
                ("classifier", None) => read(&mut nets.classifier, run)?,
                ("classifier", Some(next)) => read(&mut nets.further.classifier[next], run)?,
                (_, None) => read(nets.reducer.as_mut().context("a reducer has a shape")?, run)?,
                (_, Some(next)) => read(&mut nets.further.reducer[next], run)?,
            }
        }
    }
    Ok(nets)
}

/// The thresholds of a reducer are those of its score together with the one of the detector that proposed: with another one
/// they would mean nothing.
fn check_proposer(runs: &Runs) -> anyhow::Result<()> {
    let (Some([(reducer, doubts)]), [(detector, proposes)]) =
        (runs.get("reducer").map(Vec::as_slice), runs["detector"].as_slice())
    else {
        return Ok(()); // averaged networks are measured together
    };
    let known = doubts
        .record
        .proposer
        .as_ref()
        .with_context(|| format!("{}: the run record does not say which detector proposed", reducer.display()))?;
    ensure!(
        known.weights_sha256 == sha256_hex(&proposes.weights),
        "{} was trained and judged on the candidates of another detector (run `{}`) than {}: its thresholds would not hold; \
         train it with training.reducer.detector={2}",
        reducer.display(),
        known.run,
        detector.display()
    );
    Ok(())
}

/// What the card says of each network beside the manifest.
fn facts(runs: &Runs, networks: &Networks) -> anyhow::Result<Vec<NetworkFacts>> {
    let mut all = Vec::new();
    for name in NETWORKS {
        for (place, (folder, run)) in runs.get(name).into_iter().flatten().enumerate() {
            let history = History::of(&read_journal(folder)?.lines);
            let tenth = history.losses.len().div_ceil(10);
            let mean = |part: &[(u64, f64)]| part.iter().map(|(_, loss)| loss).sum::<f64>() / part.len() as f64;
            all.push(NetworkFacts {
                network: run.experiment.network.clone(),
                member: place,
                parameters: match name {
                    "lung" => networks.lung.num_params(),
                    "detector" => networks.detector.num_params(),
                    "classifier" => networks.classifier.num_params(),
                    _ => networks.reducer.as_ref().map_or(0, Module::num_params),
                },
                minutes: history.seconds.filter(|_| tenth > 0).map(|seconds| seconds / 60.0),
                loss: (tenth > 0)
                    .then(|| [mean(&history.losses[..tenth]), mean(&history.losses[history.losses.len() - tenth..])]),
            });
        }
    }
    Ok(all)
}

pub fn configs(runs: &Runs) -> anyhow::Result<NetworkConfigs> {
    let (mut lung, mut detector, mut classifier, mut reducer) = (None, None, None, None);
    for runs in runs.values() {
        match runs[0].1.experiment.network.clone() {
            Network::Lung(config) => lung = Some(config),
            Network::Detector(config) => detector = Some(config),
            Network::Classifier(config) => classifier = Some(config),
            Network::Reducer(config) => reducer = Some(config),
        }
    }
    Ok(NetworkConfigs {
        lung: lung.context("no run of the lung network")?,
        detector: detector.context("no run of the detector network")?,
        classifier: classifier.context("no run of the classifier network")?,
        reducer,
    })
}

/// Where a run's network comes from.
fn origin((folder, run): &Run) -> Training {
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
        experiment: serde_json::to_value(&run.experiment).expect("plain data"),
        code: run.record.code.clone(),
    }
}

fn manifest(
    args: &FreezeArgs,
    networks: NetworkConfigs,
    runs: &Runs,
    together: &BTreeMap<String, Measured>,
) -> anyhow::Result<Manifest> {
    let figure = |network: &str, name: &str| -> anyhow::Result<f64> {
        let (folder, run) = &runs[network][0];
        let metrics = together.get(network).map_or(&run.best.metrics, |measured| &measured.metrics);
        metrics.get(name).copied().with_context(|| format!("{} has no figure {name}", folder.display()))
    };
    let training = runs.iter().map(|(name, runs)| ((*name).to_owned(), origin(&runs[0]))).collect();
    let ensembles = together
        .iter()
        .map(|(name, measured)| {
            let further = runs[name.as_str()][1..].iter().map(origin).collect();
            (name.clone(), measured.ensemble(further))
        })
        .collect();
    // Whoever has the last word on a candidate.
    let scores = if networks.reducer.is_some() { "reducer" } else { "detector" };
    let synthetic = runs.values().flatten().any(|(_, run)| run.record.synthetic);
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
            ("default".into(), figure(scores, "threshold_at_0.5")?),
            ("high-sensitivity".into(), figure(scores, "threshold_at_2")?),
            ("high-specificity".into(), figure(scores, "threshold_at_0.125")?),
        ]),
        calibration: Calibration {
            slope: figure("classifier", "platt_slope")?,
            intercept: figure("classifier", "platt_intercept")?,
        },
        training,
        ensembles,
        code: record::code(),
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
        reducer: configs.reducer.as_ref().map(|config| cube(5, config.tile)),
    }
}
