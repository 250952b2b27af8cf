//! Malignancy.

use super::cube::{Intensity, Symmetry};
use super::judge::labelled;
use super::{Host, each_case, judge, optimise};
use crate::cases::Cases;
use crate::config::{ClassifierTraining, Training};
use crate::run::{Loss, Task};
use anyhow::ensure;
use burn::{module::Module, tensor::Device};
use burn_train::{TrainOutput, TrainStep};
use lungai_ct::{NoduleKind, ReferenceNodule};
use lungai_datasets::Case;
use lungai_imaging::{axial, normalise, patch};
use lungai_models::classifier::{ClassifierConfig, ClassifierNet};
use lungai_models::frozen::{weights_from_bytes, weights_to_bytes};
use lungai_models::loss;
use lungai_runs::Metrics;
use ndarray::Array3;
use rand::{RngExt, rngs::StdRng};

/// Voxels by which a patch may be off-centre: the detector's centres are, too.
const JITTER: usize = 2;
const KINDS: [NoduleKind; 4] =
    [NoduleKind::Solid, NoduleKind::PartSolid, NoduleKind::GroundGlass, NoduleKind::Calcified];

/// Malignancy from cubes round nodules.
pub struct ClassifierTask {
    config: ClassifierConfig,
    training: Training,
    /// Benign and malignant nodules: batches hold both in equal parts. Of each class, by size, what there is.
    by_class: [Vec<Vec<Example>>; 2],
    tune: Vec<Case>,
    scans: usize,
}

/// A nodule with a cube of HU, [`JITTER`] voxels wider than the network's on each side.
struct Example {
    hu: Array3<i16>,
    nodule: ReferenceNodule,
}

/// [`ClassifierNet`] with its loss.
#[derive(Module, Debug)]
pub struct ClassifierObjective {
    net: ClassifierNet,
}

/// Cubes and their labels.
pub struct ClassifierBatch {
    patches: Host<5>,
    malignant: Host<1>,
    kind: Host<2>,
    log_diameter: Host<1>,
    spiculation: Host<1>,
    smoothing: f64,
    helper_weight: f64,
}

impl ClassifierTask {
    /// Cuts the cubes of all training nodules.
    pub fn load(
        config: &ClassifierConfig,
        training: &Training,
        cases: &Cases,
        loaded: &(dyn Fn() + Sync),
    ) -> anyhow::Result<Self> {
        let examples = each_case(&cases.train, loaded, |case| {
            let (scan, nodules) = (case.load_scan()?, labelled(case)?);
            let volume = axial(&scan.volume);
            let example = |nodule: ReferenceNodule| {
                let cube = patch(&volume, nodule.position, [config.tile + 2 * JITTER; 3], config.spacing_mm);
                Example { hu: cube.mapv(|hu| hu.round() as i16), nodule }
            };
            Ok(nodules.into_iter().map(example).collect::<Vec<_>>())
        })?;
        let scans = examples.len();
        let (malignant, benign) = examples.into_iter().flatten().partition(|e| e.nodule.malignant == Some(true));
        let own = training.classifier.as_ref().expect("checked");
        let by_class = [benign, malignant].map(|examples| by_size(examples, &own.size_limits_mm));
        ensure!(by_class.iter().all(|c| !c.is_empty()), "the split `train` needs benign and malignant nodules");
        Ok(Self { config: config.clone(), training: training.clone(), by_class, tune: cases.tune.clone(), scans })
    }

    fn own(&self) -> &ClassifierTraining {
        self.training.classifier.as_ref().expect("checked")
    }
}

/// Examples between neighbouring limits; none of the lists is empty.
fn by_size(examples: Vec<Example>, limits_mm: &[f64]) -> Vec<Vec<Example>> {
    let mut bins: Vec<Vec<Example>> = (0..=limits_mm.len()).map(|_| Vec::new()).collect();
    for example in examples {
        bins[limits_mm.partition_point(|mm| *mm <= example.nodule.diameter_mm)].push(example);
    }
    bins.retain(|bin| !bin.is_empty());
    bins
}

impl TrainStep for ClassifierObjective {
    type Input = ClassifierBatch;
    type Output = Loss;

    fn step(&self, batch: ClassifierBatch) -> TrainOutput<Loss> {
        let outputs = self.net.forward(batch.patches.on(self));
        let (malignant, kind) = (batch.malignant.on(self), batch.kind.on(self));
        let (log_diameter, spiculation) = (batch.log_diameter.on(self), batch.spiculation.on(self));
        let (smoothing, helpers) = (batch.smoothing, batch.helper_weight);
        optimise(self, loss::classifier(outputs, malignant, kind, log_diameter, spiculation, smoothing, helpers))
    }
}

impl Task for ClassifierTask {
    type Objective = ClassifierObjective;
    type Batch = ClassifierBatch;

    fn init(&self, seed: u64, device: &Device) -> ClassifierObjective {
        ClassifierObjective { net: self.config.init(seed, device) }
    }

    fn with_weights(&self, weights: Vec<u8>, device: &Device) -> anyhow::Result<ClassifierObjective> {
        let mut objective = self.init(0, device);
        weights_from_bytes(&mut objective.net, weights).map_err(anyhow::Error::msg)?;
        Ok(objective)
    }

    fn draw(&self, rng: &mut StdRng) -> anyhow::Result<ClassifierBatch> {
        let (edge, batch) = (self.config.tile, self.training.batch);
        let (mut values, mut malignant, mut kind) = (Vec::new(), Vec::new(), Vec::new());
        let (mut log_diameter, mut spiculation) = (Vec::new(), Vec::new());
        let intensity = Intensity::new(self.own().noise_hu, self.training.shift_hu, self.config.spacing_mm);
        for at in 0..batch {
            let bins = &self.by_class[at % 2];
            let class = &bins[rng.random_range(0..bins.len())];
            let Example { hu, nodule } = &class[rng.random_range(0..class.len())];
            let start = [0; 3].map(|_: i32| rng.random_range(0..=2 * JITTER) as isize);
            let symmetry = Symmetry::draw_any(rng);
            let cube = intensity.cube(hu.view(), start, edge, symmetry, rng);
            values.extend(cube.into_iter().map(|hu| normalise(hu, self.config.window_hu)));
            malignant.push(f32::from(nodule.malignant == Some(true)));
            kind.extend(KINDS.map(|k| f32::from(nodule.kind == Some(k))));
            log_diameter.push((nodule.diameter_mm / 10.0).ln() as f32);
            spiculation.push(nodule.spiculation.map_or(-1.0, |s| s as f32));
        }
        Ok(ClassifierBatch {
            patches: Host { values, shape: [batch, 1, edge, edge, edge] },
            malignant: Host { values: malignant, shape: [batch] },
            kind: Host { values: kind, shape: [batch, KINDS.len()] },
            log_diameter: Host { values: log_diameter, shape: [batch] },
            spiculation: Host { values: spiculation, shape: [batch] },
            smoothing: self.own().label_smoothing,
            helper_weight: self.own().helper_weight,
        })
    }

    fn evaluate(&self, objective: &ClassifierObjective, device: &Device) -> anyhow::Result<Metrics> {
        judge::classifier(&judge::alone(&objective.net, &self.tune), &self.config, device)
    }

    fn scans(&self) -> usize {
        self.scans
    }

    fn plotted(&self) -> &'static [&'static str] {
        &["auc"]
    }

    fn weights(&self, objective: &ClassifierObjective) -> Vec<u8> {
        weights_to_bytes(&objective.net)
    }
}
