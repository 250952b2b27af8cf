//! Lung segmentation.

use super::cube::{Symmetry, cut};
use super::{Host, each_case, judge, optimise};
use crate::cases::Cases;
use crate::config::{LungTraining, Training};
use crate::run::{Loss, Task};
use burn::{module::Module, tensor::Device};
use burn_train::{TrainOutput, TrainStep};
use lungai_ct::{AIR_HU, LabelMap, Lung, Spacing, Volume};
use lungai_datasets::Case;
use lungai_imaging::augment::Augmentation;
use lungai_imaging::{axial, normalise, resample, resample_labels};
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
    scans: Vec<TrainScan>,
    tune: Vec<Case>,
}

/// A training scan on the network's grid.
struct TrainScan {
    volume: Volume,
    lungs: LabelMap,
    /// Voxels of a lung beside what is none, or beside the other one.
    surface: Vec<[usize; 3]>,
}

/// Surface voxels kept per scan.
const SURFACE_PLACES: usize = 4096;

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
        cases: &Cases,
        loaded: &(dyn Fn() + Sync),
    ) -> anyhow::Result<Self> {
        let spacing = Spacing::new([config.spacing_mm; 3])?;
        let scans = each_case(&cases.train, loaded, |case| {
            let scan = case.load_scan()?;
            let lungs = case.load_lungs(scan.volume.geometry())?;
            let upright = axial(&scan.volume);
            let grid = upright.geometry().respaced(spacing);
            let lungs = resample_labels(&lungs, &grid);
            Ok(TrainScan { volume: resample(&upright, &grid), surface: surface(&lungs), lungs })
        })?;
        Ok(Self { config: config.clone(), training: training.clone(), scans, tune: cases.tune.clone() })
    }

    fn own(&self) -> &LungTraining {
        self.training.lung.as_ref().expect("checked")
    }
}

/// Evenly chosen among all.
fn surface(lungs: &LabelMap) -> Vec<[usize; 3]> {
    let labels = lungs.labels();
    let differs = |at: [usize; 3], label: u8| {
        (0..3).any(|axis| {
            let step = |by: isize| {
                let mut to = at;
                to[axis] = to[axis].checked_add_signed(by)?;
                labels.get(to).copied()
            };
            [-1, 1].into_iter().any(|by| step(by).is_some_and(|other| other != label))
        })
    };
    let all: Vec<[usize; 3]> = labels
        .indexed_iter()
        .map(|((z, y, x), label)| ([z, y, x], *label))
        .filter(|(at, label)| *label > 0 && differs(*at, *label))
        .map(|(at, _)| at)
        .collect();
    all.iter().step_by(all.len().div_ceil(SURFACE_PLACES).max(1)).copied().collect()
}

impl TrainStep for LungObjective {
    type Input = LungBatch;
    type Output = Loss;

    fn step(&self, batch: LungBatch) -> TrainOutput<Loss> {
        let logits = self.net.forward_deep(batch.scans.on(self));
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
            let TrainScan { volume, lungs, surface } = &self.scans[rng.random_range(0..self.scans.len())];
            // As tiles lie at inference: inside where the scan is larger than a tile, else from its first voxel.
            let last = volume.geometry().size().map(|length| length.saturating_sub(edge));
            let start = if !surface.is_empty() && rng.random_bool(self.own().surface_share) {
                let centre = surface[rng.random_range(0..surface.len())];
                std::array::from_fn(|i| centre[i].saturating_sub(edge / 2).min(last[i]) as isize)
            } else {
                last.map(|last| rng.random_range(0..=last) as isize)
            };
            let symmetry = Symmetry::draw_side(rng);
            let shift = rng.random_range(-1.0..=1.0) * self.training.shift_hu;
            let drawn = self.own().augment.as_ref().map(|config| Augmentation::draw(config, rng.random()));
            let drawn = drawn.unwrap_or_else(Augmentation::identity);
            let outside = f32::from(AIR_HU);
            let hu = cut(volume.hu(), start, edge, symmetry, |hu| hu.map_or(outside, f32::from));
            let hu = drawn.image(&hu, lungs.geometry().spacing(), outside);
            let mut cube = Vec::with_capacity(CHANNELS * edge.pow(3));
            cube.extend(hu.iter().map(|hu| normalise(hu + shift, self.config.window_hu)));
            let width = volume.geometry().size()[2];
            // What is mirrored lies on the other side of the scan's middle.
            let mirrored = width as isize - start[2] - edge as isize;
            let first = if symmetry.swaps_sides() { mirrored } else { start[2] };
            with_position(&mut cube, edge, first, width, self.config.spacing_mm);
            values.extend(cube);
            let labels = cut(lungs.labels(), start, edge, symmetry, |label| label.unwrap_or(0));
            let labels = drawn.labels(&labels, lungs.geometry().spacing());
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

    fn evaluate(&self, objective: &LungObjective, device: &Device) -> anyhow::Result<Metrics> {
        judge::lung(&judge::alone(&objective.net, &self.tune), &self.config, device)
    }

    fn scans(&self) -> usize {
        self.scans.len()
    }

    fn plotted(&self) -> &'static [&'static str] {
        &["dice_right", "dice_left"]
    }

    fn weights(&self, objective: &LungObjective) -> Vec<u8> {
        weights_to_bytes(&objective.net)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_ct::{Geometry, WorldPoint};
    use lungai_models::lung::Normalise;
    use lungai_trace::verifies;
    use ndarray::Array3;
    use rand::SeedableRng;

    /// A scan of 12 x 12 x `width` voxels whose right lung is its first half, the left lung the second.
    fn task(width: usize, tile: usize) -> LungTask {
        let spacing = Spacing::new([5.0; 3]).unwrap();
        let geometry = Geometry::new([12, 12, width], spacing, WorldPoint([0.0; 3]), Geometry::AXIAL).unwrap();
        let labels = Array3::from_shape_fn((12, 12, width), |(_, _, x)| if 2 * x < width { 1 } else { 2 });
        let volume = Volume::new(labels.mapv(|label| i16::from(label) * 100), geometry.clone()).unwrap();
        let lungs = LabelMap::new(labels, geometry).unwrap();
        let window_hu = (-1000.0, 1000.0);
        let (norm, deep_supervision) = (Normalise::Group, 0);
        LungTask {
            config: LungConfig { width: 2, depth: 1, norm, deep_supervision, spacing_mm: 5.0, tile, window_hu },
            training: serde_yaml::from_str(
                "{steps: 1, batch: 8, accumulate: 1, learning_rate: 0.1, warmup_steps: 0, weight_decay: 0.0, clip_norm: 1.0,
                  average: 0.0, evaluate_every: 1, patience: 0, shift_hu: 0.0, precision: f32, checkpoint_gradients: false,
                  lung: {surface_share: 0.5}}",
            )
            .unwrap(),
            scans: vec![TrainScan { surface: surface(&lungs), volume, lungs }],
            tune: Vec::new(),
        }
    }

    #[verifies("FR-003")]
    #[test]
    fn however_a_scan_is_cut_and_mirrored_the_left_lung_lies_on_the_patient_s_left() {
        for (width, tile) in [(20, 12), (21, 8), (10, 12)] {
            let task = task(width, tile);
            for seed in 0..10 {
                let LungBatch { scans, truth } = task.draw(&mut StdRng::seed_from_u64(seed)).unwrap();
                let cube = tile * tile * tile;
                for item in 0..8 {
                    let position = &scans.values[(CHANNELS * item + 1) * cube..][..cube];
                    let truth = &truth.values[CLASSES * item * cube..][..CLASSES * cube];
                    for (i, position) in position.iter().enumerate() {
                        let side = |lung: Lung| truth[lung as usize * cube + i] == 1.0;
                        assert!(!side(Lung::Right) || *position <= 0.0, "{width} {tile}: right at {position}");
                        assert!(!side(Lung::Left) || *position >= 0.0, "{width} {tile}: left at {position}");
                    }
                }
            }
        }
    }
}
