//! Lung segmentation.

use super::cube::{Symmetry, cut, hu_value};
use super::{Host, each_case, optimise};
use crate::config::Training;
use crate::run::{Loss, Task};
use anyhow::ensure;
use burn::{module::Module, tensor::Device};
use burn_train::{TrainOutput, TrainStep};
use lungai_ct::{LabelMap, Lung, Spacing, Volume};
use lungai_datasets::{Case, Manifest, Split};
use lungai_imaging::{axial, resample, resample_labels};
use lungai_models::frozen::{weights_from_bytes, weights_to_bytes};
use lungai_models::{
    loss,
    lung::{CHANNELS, CLASSES, LungConfig, LungNet, with_position},
};
use lungai_runs::Metrics;
use rand::{RngExt, rngs::StdRng};

/// Left and right lung from patches on the network's grid.
pub struct LungTask {
    config: LungConfig,
    training: Training,
    scans: Vec<(Volume, LabelMap)>,
    tune: Vec<Case>,
}

/// [`LungNet`] with its loss.
#[derive(Module, Debug)]
pub struct LungObjective {
    net: LungNet,
}

/// Patches and one-hot truth.
pub struct LungBatch {
    scans: Host<5>,
    truth: Host<5>,
}

impl LungTask {
    /// Brings the training scans to the network's grid.
    pub fn load(
        config: &LungConfig,
        training: &Training,
        manifest: &Manifest,
        loaded: &(dyn Fn() + Sync),
    ) -> anyhow::Result<Self> {
        let spacing = Spacing::new([config.spacing_mm; 3])?;
        let scans = each_case(manifest, loaded, |case| {
            let scan = case.load_scan()?;
            let lungs = case.load_lungs(scan.volume.geometry())?;
            let upright = axial(&scan.volume);
            let grid = upright.geometry().respaced(spacing);
            Ok((resample(&upright, &grid), resample_labels(&lungs, &grid)))
        })?;
        let tune: Vec<Case> = manifest.cases(Split::Tune).cloned().collect();
        ensure!(!scans.is_empty() && !tune.is_empty(), "the data set needs cases of the splits `train` and `tune`");
        Ok(Self { config: config.clone(), training: training.clone(), scans, tune })
    }
}

impl TrainStep for LungObjective {
    type Input = LungBatch;
    type Output = Loss;

    fn step(&self, batch: LungBatch) -> TrainOutput<Loss> {
        let logits = self.net.forward(batch.scans.on(self));
        optimise(self, loss::lung(logits, batch.truth.on(self)))
    }
}

impl Task for LungTask {
    type Objective = LungObjective;
    type Batch = LungBatch;

    fn init(&self, seed: u64, device: &Device) -> LungObjective {
        LungObjective { net: self.config.init(seed, device) }
    }

    fn with_weights(&self, weights: Vec<u8>, device: &Device) -> anyhow::Result<LungObjective> {
        let mut objective = self.init(0, device);
        weights_from_bytes(&mut objective.net, weights).map_err(anyhow::Error::msg)?;
        Ok(objective)
    }

    fn draw(&self, rng: &mut StdRng) -> anyhow::Result<LungBatch> {
        let edge = self.config.tile;
        let (mut values, mut truth) = (Vec::new(), Vec::new());
        for _ in 0..self.training.batch {
            let (volume, lungs) = &self.scans[rng.random_range(0..self.scans.len())];
            let start = volume.geometry().size().map(|length| {
                // As tiles lie at inference: inside where the scan is larger than a tile, else from its first voxel.
                rng.random_range(0..=length.saturating_sub(edge)) as isize
            });
            let symmetry = Symmetry::draw_side(rng);
            let shift = rng.random_range(-1.0..=1.0) * self.training.shift_hu;
            let mut cube = Vec::with_capacity(CHANNELS * edge.pow(3));
            cut(volume.hu(), start, edge, symmetry, hu_value(shift, self.config.window_hu), &mut cube);
            let width = volume.geometry().size()[2];
            // What is mirrored lies on the other side of the scan's middle.
            let mirrored = width as isize - start[2] - edge as isize;
            let first = if symmetry.swaps_sides() { mirrored } else { start[2] };
            with_position(&mut cube, edge, first, width, self.config.spacing_mm);
            values.extend(cube);
            let mut labels = Vec::with_capacity(edge.pow(3));
            cut(lungs.labels(), start, edge, symmetry, |label| label.unwrap_or(0), &mut labels);
            for class in 0..CLASSES as u8 {
                let label = match (symmetry.swaps_sides(), class) {
                    (true, 1) => Lung::Left as u8,
                    (true, 2) => Lung::Right as u8,
                    _ => class,
                };
                truth.extend(labels.iter().map(|l| f32::from(*l == label)));
            }
        }
        let batch = self.training.batch;
        Ok(LungBatch {
            scans: Host { values, shape: [batch, CHANNELS, edge, edge, edge] },
            truth: Host { values: truth, shape: [batch, CLASSES, edge, edge, edge] },
        })
    }

    /// Dice of each lung on the scans' own grids, mean over scans; `dice` is that of the worse side.
    fn evaluate(&self, objective: &LungObjective, device: &Device) -> anyhow::Result<Metrics> {
        let mut sums = [0.0; 2];
        for case in &self.tune {
            let scan = case.load_scan()?;
            let truth = case.load_lungs(scan.volume.geometry())?;
            let found = lungai_pipeline::lungs::segment(&objective.net, &self.config, &scan.volume, device);
            for (sum, lung) in sums.iter_mut().zip([Lung::Left, Lung::Right]) {
                *sum += dice(&truth, &found, lung as u8);
            }
        }
        let [left, right] = sums.map(|sum| sum / self.tune.len() as f64);
        Ok(Metrics::from([("dice_left".into(), left), ("dice_right".into(), right), ("dice".into(), left.min(right))]))
    }

    fn plotted(&self) -> &'static [&'static str] {
        &["dice_right", "dice_left"]
    }

    fn weights(&self, objective: &LungObjective) -> Vec<u8> {
        weights_to_bytes(&objective.net)
    }
}

fn dice(a: &LabelMap, b: &LabelMap, label: u8) -> f64 {
    let (mut both, mut total) = (0usize, 0usize);
    for (a, b) in a.as_slice().iter().zip(b.as_slice()) {
        both += usize::from(*a == label && *b == label);
        total += usize::from(*a == label) + usize::from(*b == label);
    }
    if total == 0 { 1.0 } else { 2.0 * both as f64 / total as f64 }
}
