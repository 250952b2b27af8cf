//! Nodule detection.

use super::cube::{Symmetry, cut, hu_value};
use super::{Host, optimise};
use crate::config::Training;
use crate::run::{Loss, Metrics, Task};
use anyhow::ensure;
use burn::{module::Module, tensor::Device};
use burn_train::{TrainOutput, TrainStep};
use lungai_ct::{Spacing, Volume, VoxelPoint};
use lungai_datasets::{Case, Manifest, Split};
use lungai_imaging::{axial, resample, resample_labels};
use lungai_metrics::froc::{Interpolation, froc};
use lungai_metrics::matching::{Lesion, Mark, MatchRule};
use lungai_models::anchors::{Sphere, assign};
use lungai_models::detector::{BOX_VALUES, DetectorConfig, DetectorNet, STRIDE};
use lungai_models::frozen::weights_to_bytes;
use lungai_models::loss;
use lungai_pipeline::{MIN_DIAMETER_MM, detect};
use rand::{RngExt, rngs::StdRng};

/// Candidates below this score are not worth counting.
const EVALUATION_SCORE: f64 = 0.02;
/// Lung voxels kept per scan as places for patches without a nodule in mind.
const LUNG_PLACES: usize = 4096;
/// False positives per scan at which thresholds are reported.
const RATES: [f64; 3] = [0.125, 0.5, 2.0];

/// Nodules in patches on the network's grid.
pub struct DetectorTask {
    config: DetectorConfig,
    training: Training,
    scans: Vec<TrainScan>,
    /// Scan and nodule of every nodule.
    nodules: Vec<(usize, usize)>,
    tune: Vec<Case>,
}

/// A training scan, cut to its lungs.
struct TrainScan {
    volume: Volume,
    nodules: Vec<Sphere>,
    excluded: Vec<Sphere>,
    places: Vec<[usize; 3]>,
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
}

impl DetectorTask {
    /// Brings the training scans to the network's grid.
    pub fn load(
        config: &DetectorConfig,
        training: &Training,
        manifest: &Manifest,
        loaded: &mut dyn FnMut(),
    ) -> anyhow::Result<Self> {
        let mut scans = Vec::new();
        for case in manifest.cases(Split::Train) {
            scans.push(TrainScan::load(case, config)?);
            loaded();
        }
        let nodules: Vec<_> =
            scans.iter().enumerate().flat_map(|(s, scan)| (0..scan.nodules.len()).map(move |n| (s, n))).collect();
        let tune: Vec<Case> = manifest.cases(Split::Tune).cloned().collect();
        ensure!(!tune.is_empty(), "the data set needs cases of the split `tune`");
        ensure!(!nodules.is_empty(), "there is no nodule in the split `train`");
        Ok(Self { config: config.clone(), training: training.clone(), scans, nodules, tune })
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
        let margin = (10.0 / config.spacing_mm).ceil() as usize;
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
        Ok(Self { volume: resample(&upright, &grid), nodules, excluded, places })
    }
}

impl TrainStep for DetectorObjective {
    type Input = DetectorBatch;
    type Output = Loss;

    fn step(&self, batch: DetectorBatch) -> TrainOutput<Loss> {
        let output = self.net.forward(batch.patches.on(self));
        optimise(self, loss::detector(output, batch.class.on(self), batch.boxes.on(self)))
    }
}

impl Task for DetectorTask {
    type Objective = DetectorObjective;
    type Batch = DetectorBatch;

    fn init(&self, seed: u64, device: &Device) -> DetectorObjective {
        DetectorObjective { net: self.config.init(seed, device) }
    }

    fn draw(&self, rng: &mut StdRng) -> anyhow::Result<DetectorBatch> {
        let edge = self.config.tile;
        let anchors: Vec<f64> = self.config.anchors_mm.iter().map(|mm| mm / self.config.spacing_mm).collect();
        let cells = [edge / STRIDE; 3];
        let (mut values, mut class, mut boxes) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.training.batch {
            let (scan, centre) = if rng.random::<f64>() < self.training.positive_share {
                let (scan, nodule) = self.nodules[rng.random_range(0..self.nodules.len())];
                let scan = &self.scans[scan];
                // Anywhere in the patch but for a margin, so that the place in the patch teaches nothing.
                let reach = edge as f64 / 2.0 - 6.0;
                (scan, scan.nodules[nodule].centre.map(|c| c + rng.random_range(-reach..=reach)))
            } else {
                let scan = &self.scans[rng.random_range(0..self.scans.len())];
                (scan, scan.places[rng.random_range(0..scan.places.len())].map(|v| v as f64))
            };
            let start = centre.map(|c| c.round() as isize - edge as isize / 2);
            let symmetry = Symmetry::draw_any(rng);
            let shift = rng.random_range(-1.0..=1.0) * self.training.shift_hu;
            cut(scan.volume.hu(), start, edge, symmetry, hu_value(shift, self.config.window_hu), &mut values);
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
        })
    }

    /// FROC over whole scans by LUNA16's rules: `cpm`, and per rate the sensitivity and the score threshold.
    fn evaluate(&self, objective: &DetectorObjective, device: &Device) -> anyhow::Result<Metrics> {
        let mut scans = Vec::new();
        for case in &self.tune {
            let scan = case.load_scan()?;
            let gate = detect::Gate::new(&[&case.load_lungs(scan.volume.geometry())?]);
            let (net, volume) = (&objective.net, &scan.volume);
            let found = detect::candidates(net, &self.config, volume, &gate, EVALUATION_SCORE, device);
            let marks = found.iter().map(|c| Mark { position: c.position, score: c.score }).collect();
            let lesion = |n: &lungai_ct::ReferenceNodule| Lesion {
                position: n.position,
                diameter_mm: n.diameter_mm,
                excluded: n.excluded || n.diameter_mm < MIN_DIAMETER_MM,
            };
            scans.push((marks, case.nodules()?.iter().map(lesion).collect()));
        }
        let froc = froc(&scans, &MatchRule::LUNA16)?;
        let mut metrics = Metrics::from([("cpm".into(), froc.cpm(Interpolation::Linear))]);
        for rate in RATES {
            let point = froc.operating_point(rate)?;
            metrics.insert(format!("sensitivity_at_{rate}"), point.sensitivity);
            metrics.insert(format!("threshold_at_{rate}"), point.threshold.clamp(EVALUATION_SCORE, 1.0));
        }
        Ok(metrics)
    }

    fn selector(&self) -> &'static str {
        "cpm"
    }

    fn weights(&self, objective: &DetectorObjective) -> Vec<u8> {
        weights_to_bytes(&objective.net)
    }
}
