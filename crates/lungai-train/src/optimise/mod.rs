//! What makes inference cheaper, and what that costs: weights in 16 bits, several tiles or cubes at once, onnxruntime, and 8-bit
//! integers there. Each is measured in time and in the figures that count, on scans that no network has learned.

mod engine;

use crate::Printed;
use crate::cases::Cases;
use crate::ensemble::{self, Runs};
use crate::export::graphs;
use crate::freeze::{configs, load};
use crate::tasks::judge;
use anyhow::{Context, ensure};
use burn::tensor::{Device, Tensor};
use clap::Args;
use engine::{Engine, Python};
use indicatif::{ProgressBar, ProgressStyle};
use lungai_ct::{LabelMap, Lung, ReferenceNodule, Volume, WorldPoint};
use lungai_datasets::{Case, Manifest};
use lungai_metrics::froc::{Interpolation, froc};
use lungai_metrics::matching::{Lesion, Mark, MatchRule};
use lungai_metrics::roc;
use lungai_models::classifier::ClassifierNet;
use lungai_models::detector::{DetectorNet, DetectorOutput, mirrored};
use lungai_models::frozen::{self, NetworkConfigs, Networks, sha256_hex, weights_from_bytes, weights_to_bytes};
use lungai_models::members::mean;
use lungai_pipeline::detect::{self, Gate};
use lungai_pipeline::{CUBES_AT_ONCE, classify, lungs, tiles_at_once};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Args)]
pub struct OptimiseArgs {
    /// Run folders as for `freeze`. A reducer is not measured.
    #[arg(required = true, num_args = 3..)]
    runs: Vec<PathBuf>,
    /// Folder to make: optimisation.json for `freeze --optimisation`, the ONNX files and their 8-bit twins.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Data-set manifest, where it no longer lies where the runs found it.
    #[arg(long, value_name = "MANIFEST")]
    data: Option<PathBuf>,
    /// Tuning scans to measure on, spread over the centres.
    #[arg(long, default_value_t = 10, value_name = "N")]
    scans: usize,
    /// Python with onnxruntime and onnx, LUNGAI_PEER_PYTHON by default; without one the two ways that need it are left out.
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `optimisation.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimisation {
    /// Of the networks' weights in 32 bits: whose figures these are.
    pub weights_sha256: String,
    /// Whether the scans were synthetic.
    pub synthetic: bool,
    /// Tuning scans measured.
    pub scans: usize,
    /// Threads of each engine.
    pub threads: usize,
    /// Version of onnxruntime, where it was measured.
    pub onnxruntime: Option<String>,
    /// The first is the product as it is.
    pub ways: Vec<Way>,
}

/// One way to run the networks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Way {
    /// `product`, `half-weights`, `tiles-4`, `cubes-1`, `cubes-32`, `onnxruntime` or `onnxruntime-int8`.
    pub name: String,
    /// Dice of the worse lung, mean over scans.
    pub dice: f64,
    /// Mean sensitivity at 1/8 to 8 false positives a scan.
    pub cpm: f64,
    /// Of malignancy over the nodules of the reference standard; absent where they are all of one class.
    pub auc: Option<f64>,
    /// Seconds a scan of lung segmentation, median over scans.
    pub lung_s: f64,
    /// Seconds a scan of detection, median over scans.
    pub detect_s: f64,
    /// Seconds a nodule of malignancy, median over scans.
    pub classify_s: f64,
}

impl Way {
    /// How many times as fast as `product` a scan with ten nodules is.
    pub fn speed(&self, product: &Self) -> f64 {
        let seconds = |way: &Self| way.lung_s + way.detect_s + 10.0 * way.classify_s;
        seconds(product) / seconds(self)
    }

    /// Whether it gives something for what it takes: a tenth of the time or, of the weights, half of the file, for no more than
    /// 0.005 of any figure.
    pub fn pays(&self, product: &Self) -> bool {
        let kept = |figure: f64, usual: f64| figure >= usual - 0.005;
        let auc = match (self.auc, product.auc) {
            (Some(auc), Some(usual)) => kept(auc, usual),
            _ => true,
        };
        let gives = self.name == "half-weights" || self.speed(product) >= 1.1;
        gives && kept(self.dice, product.dice) && kept(self.cpm, product.cpm) && auc
    }
}

/// The verb.
pub fn optimise(args: &OptimiseArgs) -> anyhow::Result<Printed> {
    ensure!(args.scans > 0, "--scans: at least one");
    let device = Device::flex();
    let runs = ensemble::read(&args.runs)?;
    let configs = configs(&runs)?;
    let networks = load(&configs, &runs, &device)?;
    let manifest = ensemble::open_data(&runs["lung"], args.data.as_deref())?;
    let cases = chosen(&manifest, &runs, args.scans)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let weights = weights_to_bytes(&networks);

    crate::folder::whole(&args.out, |draft| {
        let own = Forward::own(&networks, &device);
        let mut half = networks.clone();
        weights_from_bytes(&mut half, frozen::halved(&weights).map_err(anyhow::Error::msg)?)
            .map_err(anyhow::Error::msg)?;
        let mut trials = vec![
            Trial::new("half-weights", Forward::own(&half, &device)),
            Trial::new("tiles-4", Forward { tiles: 4, ..Forward::own(&networks, &device) }),
            Trial::new("cubes-1", Forward { cubes: 1, ..Forward::own(&networks, &device) }),
            Trial::new("cubes-32", Forward { cubes: 32, ..Forward::own(&networks, &device) }),
        ];
        let mut onnxruntime = None;
        let python = args.python.clone().or_else(|| std::env::var_os("LUNGAI_PEER_PYTHON").map(PathBuf::from));
        if let Some(python) = &python {
            let python = Python::new(python, draft)?;
            for (name, graph) in NETWORKS.into_iter().zip(graphs(&networks)) {
                fs::write(draft.join(format!("{name}.onnx")), graph.into_bytes()?)?;
            }
            quantise(&python, draft, &own, &configs, &Shown::open(&cases[0])?, &device)?;
            let (version, plain) = in_onnxruntime(&python, draft, "", threads, &device)?;
            let (_, int8) = in_onnxruntime(&python, draft, ".int8", threads, &device)?;
            trials.extend([Trial::new("onnxruntime", plain), Trial::new("onnxruntime-int8", int8)]);
            onnxruntime = Some(version);
            fs::remove_file(draft.join("engine.py"))?;
        }
        trials.insert(0, Trial::new("product", own));
        let ways = trials.len();
        let bar = ProgressBar::new((cases.len() * ways) as u64)
            .with_style(ProgressStyle::with_template("{prefix:18} {bar:24} {pos}/{len} scans measured, ~{eta}")?);
        // Scan by scan, one way after the other, each first in its turn: what slows the machine down for a while, or whoever comes
        // first, slows all of them.
        for case in &cases {
            let shown = Shown::open(case)?;
            trials.rotate_left(1);
            for trial in &mut trials {
                bar.set_prefix(trial.name);
                trial.look(&shown, &configs, &device);
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        trials.rotate_right(cases.len() % ways);
        let all = Optimisation {
            weights_sha256: sha256_hex(&weights),
            synthetic: manifest.synthetic,
            scans: cases.len(),
            threads,
            onnxruntime,
            ways: trials.into_iter().map(Trial::way).collect::<anyhow::Result<_>>()?,
        };
        fs::write(draft.join(FILE), serde_json::to_vec_pretty(&all)?)?;
        Ok(())
    })?;
    let all = Optimisation::read(&args.out.join(FILE))?;
    let mut value = serde_json::to_value(&all)?;
    value["ok"] = true.into();
    value["out"] = serde_json::to_value(&args.out)?;
    Ok((all.table(), value))
}

/// In the folder of the verb.
pub const FILE: &str = "optimisation.json";

impl Optimisation {
    /// Reads what the verb wrote.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read(path).with_context(|| format!("{}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{}", path.display()))
    }

    /// For the terminal.
    fn table(&self) -> String {
        let word = if self.synthetic { "SYNTHETIC " } else { "" };
        let mut text = format!(
            "{word}tuning scans: {}, threads: {}\n{:18} {:>6} {:>6} {:>6} {:>9} {:>9} {:>12}\n",
            self.scans, self.threads, "", "Dice", "CPM", "AUC", "lung, s", "detect, s", "a nodule, ms"
        );
        for way in &self.ways {
            let auc = way.auc.map_or_else(|| "-".to_owned(), |auc| format!("{auc:.4}"));
            text += &format!(
                "{:18} {:6.4} {:6.4} {auc:>6} {:9.2} {:9.2} {:12.1}\n",
                way.name,
                way.dice,
                way.cpm,
                way.lung_s,
                way.detect_s,
                1000.0 * way.classify_s
            );
        }
        text.trim_end().to_owned()
    }
}

/// The tuning cases of every run, as many as wanted, evenly among them.
fn chosen(manifest: &Manifest, runs: &Runs, wanted: usize) -> anyhow::Result<Vec<Case>> {
    let folds = runs.values().flatten().any(|(_, run)| run.experiment.fold.is_some());
    ensure!(!folds, "folds have no cases in common that none of them has learned: measure runs without `fold`");
    let fingerprint = manifest.fingerprint();
    for (folder, run) in runs.values().flatten() {
        let same = run.record.data.manifest_sha256 == fingerprint;
        ensure!(same, "{} was trained on another data set: its network may have learned these scans", folder.display());
    }
    let all = Cases::of(manifest, None)?.tune;
    let wanted = wanted.min(all.len());
    Ok((0..wanted).map(|i| all[i * all.len() / wanted].clone()).collect())
}

/// The networks, whoever runs them.
struct Forward<'a> {
    lung: Box<dyn Fn(Tensor<5>) -> Tensor<5> + 'a>,
    detector: Box<dyn Fn(Tensor<5>) -> DetectorOutput + 'a>,
    classifier: Box<dyn Fn(Tensor<5>) -> Tensor<2> + 'a>,
    /// Tiles at once.
    tiles: usize,
    /// Cubes at once.
    cubes: usize,
}

impl<'a> Forward<'a> {
    fn own(networks: &'a Networks, device: &Device) -> Self {
        Self {
            lung: Box::new(|tiles| mean(&networks.lungs(), |net| net.forward(tiles.clone()))),
            detector: Box::new(|tiles| DetectorNet::forward_all(&networks.detectors(), &tiles)),
            classifier: Box::new(|cubes| {
                mean(&networks.classifiers(), |net: &ClassifierNet| net.forward(cubes.clone()))
            }),
            tiles: tiles_at_once(device),
            cubes: CUBES_AT_ONCE,
        }
    }
}

const NETWORKS: [&str; 3] = ["lung", "detector", "classifier"];

/// With the version of onnxruntime.
///
/// - `kind`: empty or `.int8`
fn in_onnxruntime(
    python: &Python,
    folder: &Path,
    kind: &str,
    threads: usize,
    device: &Device,
) -> anyhow::Result<(String, Forward<'static>)> {
    let start = |network: &str| python.start(&folder.join(format!("{network}{kind}.onnx")), threads);
    let [lung, detector, classifier] = [start("lung")?, start("detector")?, start("classifier")?];
    let outputs = |engine: &Engine, input| engine.run(input).expect("the engine answers");
    let [for_lung, for_detector, for_classifier] = [device.clone(), device.clone(), device.clone()];
    let version = lung.version.clone();
    let forward = Forward {
        lung: Box::new(move |tiles| Engine::tensor(&mut outputs(&lung, tiles), 0, &for_lung)),
        detector: Box::new(move |tiles| {
            let forward = |tiles| {
                let mut all = outputs(&detector, tiles);
                let [class, boxes] = [0, 1].map(|i| Engine::tensor(&mut all, i, &for_detector));
                DetectorOutput { class, boxes }
            };
            mirrored(forward, tiles)
        }),
        classifier: Box::new(move |cubes| Engine::tensor(&mut outputs(&classifier, cubes), 0, &for_classifier)),
        tiles: tiles_at_once(device),
        cubes: CUBES_AT_ONCE,
    };
    Ok((version, forward))
}

/// Inputs from which ranges are measured, of each network.
const CALIBRATION_INPUTS: usize = 24;

/// The 8-bit twins, with the ranges of one scan's tiles and cubes.
fn quantise(
    python: &Python,
    folder: &Path,
    own: &Forward,
    configs: &NetworkConfigs,
    shown: &Shown,
    device: &Device,
) -> anyhow::Result<()> {
    // What the networks are given on the way through the pipeline.
    let [lung, detector, classifier] = [0; 3].map(|_| RefCell::new(Vec::<Vec<f32>>::new()));
    let keep = |kept: &RefCell<Vec<Vec<f32>>>, input: &Tensor<5>| {
        let values: Vec<f32> = input.clone().into_data().convert::<f32>().try_to_vec().expect("converted");
        kept.borrow_mut().push(values);
    };
    let listening = Forward {
        lung: Box::new(|tiles| {
            keep(&lung, &tiles);
            (own.lung)(tiles)
        }),
        detector: Box::new(|tiles| {
            keep(&detector, &tiles);
            (own.detector)(tiles)
        }),
        classifier: Box::new(|cubes| {
            keep(&classifier, &cubes);
            (own.classifier)(cubes)
        }),
        tiles: 1,
        cubes: 1,
    };
    Trial::new("calibration", listening).look(shown, configs, device);
    let edges = [configs.lung.tile, configs.detector.tile, configs.classifier.tile];
    for ((name, kept), edge) in NETWORKS.into_iter().zip([&lung, &detector, &classifier]).zip(edges) {
        let kept = kept.borrow();
        ensure!(!kept.is_empty(), "the first scan has no input for the {name} network");
        let step = kept.len().div_ceil(CALIBRATION_INPUTS);
        let inputs: Vec<Vec<f32>> = kept.iter().step_by(step).cloned().collect();
        let shape = [1, inputs[0].len() / edge.pow(3), edge, edge, edge];
        let path = |kind: &str| folder.join(format!("{name}{kind}.onnx"));
        python.quantise(&path(""), &path(".int8"), &inputs, &shape)?;
    }
    Ok(())
}

/// A scan with its truth.
struct Shown {
    volume: Volume,
    lungs: LabelMap,
    gate: Gate,
    lesions: Vec<Lesion>,
    /// With a known diagnosis.
    nodules: Vec<ReferenceNodule>,
}

impl Shown {
    fn open(case: &Case) -> anyhow::Result<Self> {
        let volume = case.load_scan()?.volume;
        let (lungs, gate) = (case.load_lungs(volume.geometry())?, judge::gate(case, &volume)?);
        Ok(Self { volume, lungs, gate, lesions: judge::lesions(case)?, nodules: judge::labelled(case)? })
    }
}

/// A way under measurement: what it said of each scan that it was shown, and how long it took.
struct Trial<'a> {
    name: &'static str,
    forward: Forward<'a>,
    /// Dice of left and right, of each scan.
    dice: Vec<[f64; 2]>,
    found: Vec<(Vec<Mark>, Vec<Lesion>)>,
    logits: Vec<f64>,
    malignant: Vec<bool>,
    /// Of lungs, detection, and of one nodule.
    seconds: [Vec<f64>; 3],
}

impl<'a> Trial<'a> {
    fn new(name: &'static str, forward: Forward<'a>) -> Self {
        let (dice, found, logits, malignant) = Default::default();
        Self { name, forward, dice, found, logits, malignant, seconds: Default::default() }
    }

    fn look(&mut self, shown: &Shown, configs: &NetworkConfigs, device: &Device) {
        let (forward, volume) = (&self.forward, &shown.volume);
        let clock = Instant::now();
        let labels = lungs::segment_by(&forward.lung, &configs.lung, volume, forward.tiles, device);
        self.seconds[0].push(clock.elapsed().as_secs_f64());
        self.dice.push([Lung::Left, Lung::Right].map(|lung| judge::dice(&shown.lungs, &labels, lung as u8)));

        let (config, least) = (&configs.detector, judge::EVALUATION_SCORE);
        let clock = Instant::now();
        let candidates =
            detect::candidates_by(&forward.detector, config, volume, &shown.gate, least, forward.tiles, device);
        self.seconds[1].push(clock.elapsed().as_secs_f64());
        self.found.push((judge::marks(&candidates), shown.lesions.clone()));

        let centres: Vec<WorldPoint> = shown.nodules.iter().map(|nodule| nodule.position).collect();
        if !centres.is_empty() {
            let clock = Instant::now();
            let (config, at_once) = (&configs.classifier, forward.cubes);
            self.logits.extend(classify::logits_by(&forward.classifier, config, volume, &centres, at_once, device));
            self.seconds[2].push(clock.elapsed().as_secs_f64() / centres.len() as f64);
            self.malignant.extend(shown.nodules.iter().map(|nodule| nodule.malignant == Some(true)));
        }
    }

    fn way(self) -> anyhow::Result<Way> {
        let mean = |side: usize| self.dice.iter().map(|dice| dice[side]).sum::<f64>() / self.dice.len() as f64;
        let [lung_s, detect_s, classify_s] = self.seconds.map(median);
        Ok(Way {
            name: self.name.to_owned(),
            dice: mean(0).min(mean(1)),
            cpm: froc(&self.found, &MatchRule::LUNA16)?.cpm(Interpolation::Linear),
            auc: roc::auc(&self.logits, &self.malignant, 0.95).ok().map(|auc| auc.value),
            lung_s,
            detect_s,
            classify_s,
        })
    }
}

/// Zero of nothing.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(name: &str, dice: f64, detect_s: f64) -> Way {
        let auc = Some(0.9);
        Way { name: name.into(), dice, cpm: 0.8, auc, lung_s: 1.0, detect_s, classify_s: 0.1 }
    }

    #[test]
    fn a_way_pays_if_it_saves_a_tenth_and_costs_next_to_nothing() {
        let product = way("product", 0.98, 2.0);
        assert_eq!(way("x", 0.98, 1.0).speed(&product), 4.0 / 3.0);
        assert!(way("x", 0.976, 1.6).pays(&product));
        assert!(!way("x", 0.98, 1.9).pays(&product), "a twentieth is too little");
        assert!(!way("x", 0.97, 0.1).pays(&product), "a hundredth of Dice is too much");
        assert!(way("half-weights", 0.98, 2.0).pays(&product));
        assert!(!way("half-weights", 0.97, 2.0).pays(&product));
    }

    #[test]
    fn the_middle_of_an_even_number_is_the_upper_one() {
        assert_eq!(median(vec![3.0, 1.0, 2.0, 4.0]), 3.0);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
