//! Nodule detection.

use super::cube::{Intensity, Symmetry};
use super::{Host, each_case, judge, optimise};
use crate::cases::Cases;
use crate::config::{DetectorTraining, Training};
use crate::run::{Loss, Mined, Task};
use anyhow::ensure;
use burn::{module::Module, tensor::Device};
use burn_train::{TrainOutput, TrainStep};
use lungai_ct::{Spacing, Volume, VoxelPoint};
use lungai_datasets::Case;
use lungai_imaging::{axial, blobs, normalise, resample, resample_labels};
use lungai_models::anchors::{Sphere, assign};
use lungai_models::detector::{BOX_VALUES, DetectorConfig, DetectorNet, STRIDE};
use lungai_models::frozen::{weights_from_bytes, weights_to_bytes};
use lungai_models::loss::{self, DetectorRule};
use lungai_pipeline::{
    MIN_DIAMETER_MM,
    detect::{self, GATE_MM, Gate},
};
use lungai_runs::Metrics;
use rand::distr::{Distribution, weighted::WeightedIndex};
use rand::{RngExt, rngs::StdRng};

/// What the network gives at least this score, and is no nodule, is a false positive to learn from.
const MINING_SCORE: f64 = 0.1;
/// Lung voxels kept per scan as places for patches without a nodule in mind.
const LUNG_PLACES: usize = 4096;

/// Nodules in patches on the network's grid.
pub struct DetectorTask {
    config: DetectorConfig,
    training: Training,
    scans: Vec<TrainScan>,
    /// Scan and nodule of every nodule.
    nodules: Vec<(usize, usize)>,
    /// How often each of them is drawn: the smaller the more often, for they are learned last.
    weights: WeightedIndex<f64>,
    tune: Vec<Case>,
}

/// A training scan, cut to its lungs.
struct TrainScan {
    volume: Volume,
    nodules: Vec<Sphere>,
    excluded: Vec<Sphere>,
    /// Anywhere in the lungs, voxels.
    places: Vec<[usize; 3]>,
    /// What a blob detector takes for a nodule, voxels.
    mimics: Vec<[f64; 3]>,
    /// What this network took for a nodule when it was asked, voxels.
    mined: Vec<[f64; 3]>,
    /// Where candidates count.
    gate: Gate,
}

/// [`DetectorNet`] with its loss.
#[derive(Module, Debug)]
pub struct DetectorObjective {
    net: DetectorNet,
}

/// Patches and what each cell should say.
pub struct DetectorBatch {
    patches: Host<5>,
    class: Host<5>,
    boxes: Host<5>,
    rule: DetectorRule,
}

impl DetectorTask {
    /// Brings the training scans to the network's grid.
    pub fn load(
        config: &DetectorConfig,
        training: &Training,
        cases: &Cases,
        loaded: &(dyn Fn() + Sync),
    ) -> anyhow::Result<Self> {
        let scans = each_case(&cases.train, loaded, |case| TrainScan::load(case, config))?;
        let nodules: Vec<_> =
            scans.iter().enumerate().flat_map(|(s, scan)| (0..scan.nodules.len()).map(move |n| (s, n))).collect();
        ensure!(!nodules.is_empty(), "there is no nodule in the split `train`");
        let weights = WeightedIndex::new(nodules.iter().map(|(s, n)| 1.0 / scans[*s].nodules[*n].diameter))?;
        Ok(Self {
            config: config.clone(),
            training: training.clone(),
            scans,
            nodules,
            weights,
            tune: cases.tune.clone(),
        })
    }
}

impl DetectorTask {
    fn own(&self) -> &DetectorTraining {
        self.training.detector.as_ref().expect("checked")
    }

    /// Where the next patch lies: scan and centre, voxels.
    fn place(&self, rng: &mut StdRng) -> (&TrainScan, [f64; 3]) {
        let DetectorTraining { positive_share, mimic_share, mined_share, .. } = *self.own();
        // Anywhere in the patch but for a margin, so that the place in the patch teaches nothing.
        let reach = (self.config.patch as f64 / 2.0 - 6.0).max(0.0);
        let off_centre = |at: [f64; 3], reach: f64, rng: &mut StdRng| at.map(|c| c + rng.random_range(-reach..=reach));
        let kind = rng.random::<f64>();
        if kind < positive_share {
            let (scan, nodule) = self.nodules[self.weights.sample(rng)];
            let scan = &self.scans[scan];
            return (scan, off_centre(scan.nodules[nodule].centre, reach, rng));
        }
        let scan = &self.scans[rng.random_range(0..self.scans.len())];
        let (known, kind) = (&scan.mimics, kind - positive_share);
        let mistaken = if kind < mined_share && !scan.mined.is_empty() { &scan.mined } else { known };
        if kind < mined_share + mimic_share && !mistaken.is_empty() {
            return (scan, off_centre(mistaken[rng.random_range(0..mistaken.len())], reach, rng));
        }
        let place = scan.places[rng.random_range(0..scan.places.len())].map(|v| v as f64);
        // The gate is as much wider than the lungs.
        (scan, off_centre(place, GATE_MM / self.config.spacing_mm, rng))
    }
}

impl TrainScan {
    fn load(case: &Case, config: &DetectorConfig) -> anyhow::Result<Self> {
        let scan = case.load_scan()?;
        let lungs = case.load_lungs(scan.volume.geometry())?;
        let upright = axial(&scan.volume);
        let whole = upright.geometry().respaced(Spacing::new([config.spacing_mm; 3])?);
        let mask = resample_labels(&lungs, &whole);
        // The lungs and the margin that the gate adds at inference.
        let margin = (GATE_MM / config.spacing_mm).ceil() as usize;
        let (mut first, mut last) = (whole.size(), [0; 3]);
        let mut places = Vec::new();
        for ((z, y, x), label) in mask.labels().indexed_iter() {
            if *label > 0 {
                for (axis, at) in [z, y, x].into_iter().enumerate() {
                    first[axis] = first[axis].min(at);
                    last[axis] = last[axis].max(at);
                }
                places.push([z, y, x]);
            }
        }
        ensure!(!places.is_empty(), "case {} has an empty lung mask", case.id);
        let start = first.map(|v| v.saturating_sub(margin));
        let size = std::array::from_fn(|i| (last[i] + margin + 1).min(whole.size()[i]) - start[i]);
        let grid = whole.window(start.map(|v| v as isize), size);
        let step = places.len().div_ceil(LUNG_PLACES);
        let places = places.iter().step_by(step).map(|p| std::array::from_fn(|i| p[i] - start[i])).collect();
        let (mut nodules, mut excluded) = (Vec::new(), Vec::new());
        for nodule in case.nodules()? {
            let VoxelPoint(centre) = grid.to_voxel(nodule.position);
            let sphere = Sphere { centre, diameter: nodule.diameter_mm / config.spacing_mm };
            let scored = !nodule.excluded && nodule.diameter_mm >= MIN_DIAMETER_MM;
            if scored { nodules.push(sphere) } else { excluded.push(sphere) }
        }
        let found = blobs::detect(&scan.volume, &lungs);
        let (volume, gate) = (resample(&upright, &grid), Gate::new(&[&lungs]));
        let mut scan = Self { volume, nodules, excluded, places, mimics: Vec::new(), mined: Vec::new(), gate };
        scan.mimics = found.iter().map(|b| grid.to_voxel(b.position).0).filter(|at| scan.is_no_finding(*at)).collect();
        Ok(scan)
    }

    /// Whether neither a nodule nor an excluded finding is near.
    fn is_no_finding(&self, place: [f64; 3]) -> bool {
        let off = |s: &Sphere| (0..3).map(|i| (s.centre[i] - place[i]).powi(2)).sum::<f64>().sqrt();
        self.nodules.iter().chain(&self.excluded).all(|sphere| off(sphere) > sphere.diameter)
    }
}

impl TrainStep for DetectorObjective {
    type Input = DetectorBatch;
    type Output = Loss;

    fn step(&self, batch: DetectorBatch) -> TrainOutput<Loss> {
        let output = self.net.forward(batch.patches.on(self));
        optimise(self, loss::detector(output, batch.class.on(self), batch.boxes.on(self), &batch.rule))
    }
}

impl Task for DetectorTask {
    type Objective = DetectorObjective;
    type Batch = DetectorBatch;

    fn init(&self, seed: u64, device: &Device) -> DetectorObjective {
        DetectorObjective { net: self.config.init(seed, device) }
    }

    fn with_weights(&self, weights: Vec<u8>, device: &Device) -> anyhow::Result<DetectorObjective> {
        let mut objective = self.init(0, device);
        weights_from_bytes(&mut objective.net, weights).map_err(anyhow::Error::msg)?;
        Ok(objective)
    }

    fn draw(&self, rng: &mut StdRng) -> anyhow::Result<DetectorBatch> {
        let edge = self.config.patch;
        let anchors: Vec<f64> = self.config.anchors_mm.iter().map(|mm| mm / self.config.spacing_mm).collect();
        let cells = [edge / STRIDE; 3];
        let (mut values, mut class, mut boxes) = (Vec::new(), Vec::new(), Vec::new());
        let intensity = Intensity::new(self.own().noise_hu, self.training.shift_hu, self.config.spacing_mm);
        for _ in 0..self.training.batch {
            let (scan, centre) = self.place(rng);
            let start = centre.map(|c| c.round() as isize - edge as isize / 2);
            let symmetry = Symmetry::draw_any(rng);
            let cube = intensity.cube(scan.volume.hu(), start, edge, symmetry, rng);
            values.extend(cube.iter().map(|hu| normalise(*hu, self.config.window_hu)));
            let moved = |spheres: &[Sphere]| -> Vec<Sphere> {
                let here = |s: &Sphere| std::array::from_fn(|i| s.centre[i] - start[i] as f64);
                spheres.iter().map(|s| Sphere { centre: symmetry.point(here(s), edge), ..*s }).collect()
            };
            let inside = |s: &Sphere| s.centre.iter().all(|c| *c >= 0.0 && *c < edge as f64);
            // A nodule whose centre is outside is not asked for, yet its visible part is no background either.
            let (nodules, cut_off): (Vec<_>, Vec<_>) = moved(&scan.nodules).into_iter().partition(inside);
            let mut excluded = moved(&scan.excluded);
            excluded.extend(cut_off);
            let targets = assign(&nodules, &excluded, cells, &anchors);
            class.extend(targets.class);
            boxes.extend(targets.boxes);
        }
        let (batch, n) = (self.training.batch, anchors.len());
        let [d, h, w] = cells;
        Ok(DetectorBatch {
            patches: Host { values, shape: [batch, 1, edge, edge, edge] },
            class: Host { values: class, shape: [batch, n, d, h, w] },
            boxes: Host { values: boxes, shape: [batch, n * BOX_VALUES, d, h, w] },
            rule: DetectorRule { hard_negatives: self.own().hard_negatives, overlap_weight: self.own().overlap_weight },
        })
    }

    fn mines_at(&self) -> Option<u64> {
        let DetectorTraining { mined_share, mine_after, .. } = *self.own();
        (mined_share > 0.0).then(|| (mine_after * self.training.steps as f64).round() as u64)
    }

    fn mine(&self, objective: &DetectorObjective, device: &Device, done: &(dyn Fn() + Sync)) -> Mined {
        let false_positives = |scan: &TrainScan| {
            let TrainScan { volume, gate, .. } = scan;
            let found = detect::candidates(&[&objective.net], &self.config, volume, gate, MINING_SCORE, device);
            done();
            let places = found.iter().map(|c| volume.geometry().to_voxel(c.position).0);
            places.filter(|at| scan.is_no_finding(*at)).collect()
        };
        self.scans.iter().map(false_positives).collect()
    }

    fn learn_from(&mut self, mined: Mined) -> anyhow::Result<()> {
        ensure!(mined.len() == self.scans.len(), "mined from other scans");
        for (scan, mined) in self.scans.iter_mut().zip(mined) {
            scan.mined = mined;
        }
        Ok(())
    }

    fn evaluate(&self, objective: &DetectorObjective, device: &Device) -> anyhow::Result<Metrics> {
        judge::detector(&judge::alone(&objective.net, &self.tune), &self.config, device)
    }

    fn scans(&self) -> usize {
        self.scans.len()
    }

    fn plotted(&self) -> &'static [&'static str] {
        &["cpm", "sensitivity_at_0.5", "sensitivity_at_2"]
    }

    fn weights(&self, objective: &DetectorObjective) -> Vec<u8> {
        weights_to_bytes(&objective.net)
    }
}
