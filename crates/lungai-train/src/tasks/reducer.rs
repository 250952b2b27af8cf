//! The second look at a detector's candidates.

use super::cube::{Intensity, Symmetry};
use super::{Host, each_case, judge, optimise};
use crate::cases::Cases;
use crate::config::{ReducerTraining, Training};
use crate::proposer::Proposer;
use crate::run::{Loss, Task};
use anyhow::ensure;
use burn::{module::Module, tensor::Device};
use burn_train::{TrainOutput, TrainStep};
use lungai_ct::{LabelMap, Scan, Volume, WorldPoint};
use lungai_datasets::Case;
use lungai_imaging::{axial, blobs, normalise, patch};
use lungai_metrics::matching::Lesion;
use lungai_models::frozen::{weights_from_bytes, weights_to_bytes};
use lungai_models::loss;
use lungai_models::reducer::{ReducerConfig, ReducerNet};
use lungai_pipeline::detect::{self, Candidate, Gate};
use lungai_pipeline::reduce::PROPOSAL_SCORE;
use lungai_runs::Metrics;
use ndarray::Array3;
use rand::distr::{Distribution, weighted::WeightedIndex};
use rand::{RngExt, rngs::StdRng};

/// Voxels by which a cube may be off-centre.
const JITTER: usize = 2;
/// Candidates of a scan that are learned as no nodules, highest scores first; and mimics of a blob detector.
const MOST_OTHERS: usize = 100;
/// Scans that are read while the detector is at work on those before.
const READ_AHEAD: usize = 4;

/// Nodule or not, from cubes round what a detector proposes.
pub struct ReducerTask {
    config: ReducerConfig,
    training: Training,
    scans: Vec<TrainScan>,
    /// Scan and nodule of every nodule.
    nodules: Vec<(usize, usize)>,
    /// How often each of them is drawn: the smaller the more often, as for the detector.
    weights: WeightedIndex<f64>,
    tune: Vec<Case>,
    /// The detector's candidates in each of them.
    proposed: Vec<Vec<Candidate>>,
}

/// HU of a cube, [`JITTER`] voxels wider than the network's on each side.
type Cube = Array3<i16>;

/// What there is to learn of one scan.
struct TrainScan {
    nodules: Vec<Nodule>,
    /// What the detector takes for a nodule and is none.
    others: Vec<Cube>,
    /// What a blob detector takes for a nodule and is none.
    mimics: Vec<Cube>,
}

/// A nodule, where it is and wherever the detector puts it.
struct Nodule {
    diameter_mm: f64,
    /// Each with the voxels by which it may be moved.
    cubes: Vec<(Cube, usize)>,
}

/// [`ReducerNet`] with its loss.
#[derive(Module, Debug)]
pub struct ReducerObjective {
    net: ReducerNet,
}

/// Cubes and whether a nodule lies in their middle.
pub struct ReducerBatch {
    patches: Host<5>,
    nodule: Host<1>,
    focal_gamma: f64,
    label_smoothing: f64,
}

/// So many of `all`, evenly chosen; 0: all.
fn evenly<T: Clone>(all: &[T], count: usize) -> Vec<T> {
    let count = if count == 0 { all.len() } else { count.min(all.len()) };
    (0..count).map(|i| all[i * all.len() / count].clone()).collect()
}

impl ReducerTask {
    /// Scans that are searched.
    pub fn searched(training: &Training, cases: &Cases) -> usize {
        let scans = training.reducer.as_ref().map_or(0, |own| own.scans);
        evenly(&cases.train, scans).len() + cases.tune.len()
    }

    /// Has the detector search the training and the tuning scans.
    pub fn load(
        config: &ReducerConfig,
        training: &Training,
        cases: &Cases,
        proposer: &Proposer,
        device: &Device,
        loaded: &(dyn Fn() + Sync),
    ) -> anyhow::Result<Self> {
        let detector = proposer.load(device)?;
        let find = |volume: &Volume, lungs: &LabelMap| {
            detect::candidates(&[&detector], &proposer.config, volume, &Gate::new(&[lungs]), PROPOSAL_SCORE, device)
        };
        let own = training.reducer.as_ref().expect("checked");
        let mut scans = Vec::new();
        for part in evenly(&cases.train, own.scans).chunks(READ_AHEAD) {
            for (scan, lungs, lesions) in each_case(part, &|| (), read)? {
                let found = find(&scan.volume, &lungs);
                let blobs = blobs::detect(&scan.volume, &lungs).iter().map(|blob| blob.position).collect();
                scans.push(TrainScan::cut(config, &scan.volume, &lesions, &found, blobs));
                loaded();
            }
        }
        let nodules: Vec<_> =
            scans.iter().enumerate().flat_map(|(s, scan)| (0..scan.nodules.len()).map(move |n| (s, n))).collect();
        ensure!(!nodules.is_empty(), "there is no nodule in the training scans");
        ensure!(
            scans.iter().any(|scan| !scan.others.is_empty() || !scan.mimics.is_empty()),
            "nothing in the training scans is taken for a nodule but nodules: there is nothing to tell apart"
        );
        let weights = WeightedIndex::new(nodules.iter().map(|(s, n)| 1.0 / scans[*s].nodules[*n].diameter_mm))?;
        let mut proposed = Vec::new();
        for part in cases.tune.chunks(READ_AHEAD) {
            for (scan, lungs, _) in each_case(part, &|| (), read)? {
                proposed.push(find(&scan.volume, &lungs));
                loaded();
            }
        }
        let (config, training, tune) = (config.clone(), training.clone(), cases.tune.clone());
        Ok(Self { config, training, scans, nodules, weights, tune, proposed })
    }

    fn own(&self) -> &ReducerTraining {
        self.training.reducer.as_ref().expect("checked")
    }

    /// The next example: its cube, and by how many voxels it may be off-centre.
    fn example(&self, nodule: bool, rng: &mut StdRng) -> (&Cube, usize) {
        if nodule {
            let (scan, nodule) = self.nodules[self.weights.sample(rng)];
            let cubes = &self.scans[scan].nodules[nodule].cubes;
            let (cube, reach) = &cubes[rng.random_range(0..cubes.len())];
            return (cube, *reach);
        }
        loop {
            let TrainScan { others, mimics, .. } = &self.scans[rng.random_range(0..self.scans.len())];
            let wanted = if rng.random_bool(self.own().mimic_share) { [mimics, others] } else { [others, mimics] };
            if let Some(cubes) = wanted.into_iter().find(|cubes| !cubes.is_empty()) {
                return (&cubes[rng.random_range(0..cubes.len())], JITTER);
            }
        }
    }
}

fn read(case: &Case) -> anyhow::Result<(Scan, LabelMap, Vec<Lesion>)> {
    let scan = case.load_scan()?;
    let lungs = case.load_lungs(scan.volume.geometry())?;
    let lesions = judge::lesions(case)?;
    Ok((scan, lungs, lesions))
}

/// What a place is to a scan's findings.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    /// Within this scored nodule's radius: there it counts as found.
    In(usize),
    /// Too near to a nodule or to an excluded finding to be an example of what is none.
    Near,
    /// On nothing.
    Clear,
}

fn place(at: WorldPoint, lesions: &[Lesion]) -> Place {
    let off = |lesion: &Lesion| lesion.position.distance_mm(at);
    if let Some(nodule) = lesions.iter().position(|l| !l.excluded && off(l) < l.diameter_mm / 2.0) {
        return Place::In(nodule);
    }
    if lesions.iter().any(|l| off(l) <= l.diameter_mm) { Place::Near } else { Place::Clear }
}

impl TrainScan {
    /// - `found`: highest score first
    fn cut(
        config: &ReducerConfig,
        volume: &Volume,
        lesions: &[Lesion],
        found: &[Candidate],
        blobs: Vec<WorldPoint>,
    ) -> Self {
        let volume = axial(volume);
        let edge = config.tile + 2 * JITTER;
        let cube = |at: WorldPoint| patch(&volume, at, [edge; 3], config.spacing_mm).mapv(|hu| hu.round() as i16);
        let places: Vec<(WorldPoint, Place)> = found.iter().map(|c| (c.position, place(c.position, lesions))).collect();
        let nodule = |(n, lesion): (usize, &Lesion)| {
            let found = places.iter().filter(|(_, place)| *place == Place::In(n)).map(|(at, _)| *at);
            let movable = |at: WorldPoint| {
                // Half of what is left of the radius: the middle stays within the nodule.
                let left_mm = lesion.diameter_mm / 2.0 - lesion.position.distance_mm(at);
                (cube(at), ((left_mm / 2.0 / config.spacing_mm) as usize).min(JITTER))
            };
            let cubes = std::iter::once(lesion.position).chain(found).map(movable).collect();
            Nodule { diameter_mm: lesion.diameter_mm, cubes }
        };
        let clear = |places: &[(WorldPoint, Place)]| -> Vec<Cube> {
            let clear = places.iter().filter(|(_, place)| *place == Place::Clear);
            clear.take(MOST_OTHERS).map(|(at, _)| cube(*at)).collect()
        };
        let blobs: Vec<(WorldPoint, Place)> = blobs.into_iter().map(|at| (at, place(at, lesions))).collect();
        Self {
            nodules: lesions.iter().enumerate().filter(|(_, lesion)| !lesion.excluded).map(nodule).collect(),
            others: clear(&places),
            mimics: clear(&blobs),
        }
    }
}

impl TrainStep for ReducerObjective {
    type Input = ReducerBatch;
    type Output = Loss;

    fn step(&self, batch: ReducerBatch) -> TrainOutput<Loss> {
        let logits = self.net.forward(batch.patches.on(self));
        let nodule = batch.nodule.on(self);
        optimise(self, loss::reducer(logits, nodule, batch.focal_gamma, batch.label_smoothing))
    }
}

impl Task for ReducerTask {
    type Objective = ReducerObjective;
    type Batch = ReducerBatch;

    fn init(&self, seed: u64, device: &Device) -> ReducerObjective {
        ReducerObjective { net: self.config.init(seed, device) }
    }

    fn with_weights(&self, weights: Vec<u8>, device: &Device) -> anyhow::Result<ReducerObjective> {
        let mut objective = self.init(0, device);
        weights_from_bytes(&mut objective.net, weights).map_err(anyhow::Error::msg)?;
        Ok(objective)
    }

    fn draw(&self, rng: &mut StdRng) -> anyhow::Result<ReducerBatch> {
        let (edge, batch) = (self.config.tile, self.training.batch);
        let intensity = Intensity::new(self.own().noise_hu, self.training.shift_hu, self.config.spacing_mm);
        let (mut values, mut truth) = (Vec::with_capacity(batch * edge.pow(3)), Vec::with_capacity(batch));
        for at in 0..batch {
            let nodule = at % 2 == 0;
            let (cube, reach) = self.example(nodule, rng);
            let start = [0; 3].map(|_: i32| rng.random_range(JITTER - reach..=JITTER + reach) as isize);
            let cube = intensity.cube(cube.view(), start, edge, Symmetry::draw_any(rng), rng);
            values.extend(cube.iter().map(|hu| normalise(*hu, self.config.window_hu)));
            truth.push(f32::from(nodule));
        }
        Ok(ReducerBatch {
            patches: Host { values, shape: [batch, 1, edge, edge, edge] },
            nodule: Host { values: truth, shape: [batch] },
            focal_gamma: self.own().focal_gamma,
            label_smoothing: self.own().label_smoothing,
        })
    }

    fn evaluate(&self, objective: &ReducerObjective, device: &Device) -> anyhow::Result<Metrics> {
        judge::reducer(&judge::alone(&objective.net, &self.tune), &self.proposed, &self.config, device)
    }

    fn scans(&self) -> usize {
        self.scans.len()
    }

    fn plotted(&self) -> &'static [&'static str] {
        &["cpm", "cpm_before", "sensitivity_at_0.5"]
    }

    fn weights(&self, objective: &ReducerObjective) -> Vec<u8> {
        weights_to_bytes(&objective.net)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_ct::{Geometry, Spacing};
    use lungai_trace::verifies;
    use rand::SeedableRng;

    fn at(x: f64) -> WorldPoint {
        WorldPoint([x, 20.0, 20.0])
    }

    fn lesion(x: f64, diameter_mm: f64, excluded: bool) -> Lesion {
        Lesion { position: at(x), diameter_mm, excluded }
    }

    #[verifies("FR-004")]
    #[test]
    fn only_what_counts_as_found_is_a_nodule_and_only_what_is_far_from_all_findings_is_none() {
        let lesions = [lesion(10.0, 6.0, false), lesion(30.0, 4.0, true)];
        let places = [10.0, 12.9, 13.0, 16.0, 16.1, 30.0, 34.0, 34.1].map(|x| place(at(x), &lesions));
        let [found, near, clear] = [Place::In(0), Place::Near, Place::Clear];
        assert_eq!(places, [found, found, near, near, clear, near, near, clear]);
    }

    /// A ramp of 1 HU per mm along x, with a nodule at 10 mm, a candidate 1 mm off it, one on nothing and one mimic.
    fn scan(config: &ReducerConfig) -> TrainScan {
        let spacing = Spacing::new([1.0; 3]).unwrap();
        let geometry = Geometry::new([41; 3], spacing, WorldPoint([0.0; 3]), Geometry::AXIAL).unwrap();
        let volume = Volume::new(Array3::from_shape_fn((41, 41, 41), |(_, _, x)| x as i16), geometry).unwrap();
        let candidate = |x, score| Candidate { position: at(x), diameter_mm: 5.0, score };
        let found = [candidate(11.0, 0.9), candidate(30.0, 0.1)];
        TrainScan::cut(config, &volume, &[lesion(10.0, 4.0, false)], &found, vec![at(10.5), at(25.0)])
    }

    fn config() -> ReducerConfig {
        ReducerConfig { width: 2, blocks: vec![1, 1], spacing_mm: 1.0, tile: 4, window_hu: (-100.0, 100.0) }
    }

    #[test]
    fn cubes_lie_round_the_nodule_its_candidates_and_what_is_mistaken_for_one() {
        let scan = scan(&config());
        // Middle of eight voxels: half a voxel on either side of the place.
        let middle = |cube: &Cube| (cube[[4, 4, 3]], cube[[4, 4, 4]]);
        let nodule: Vec<_> = scan.nodules[0].cubes.iter().map(|(cube, reach)| (middle(cube), *reach)).collect();
        assert_eq!(nodule, [((10, 11), 1), ((11, 12), 0)]);
        assert_eq!((scan.others.len(), scan.mimics.len()), (1, 1));
        assert_eq!([&scan.others[0], &scan.mimics[0]].map(middle), [(30, 31), (25, 26)]);
    }

    #[test]
    fn half_of_a_batch_are_nodules_and_they_stay_in_the_middle() {
        let training: Training = serde_yaml::from_str(
            "{steps: 1, batch: 8, accumulate: 1, learning_rate: 0.1, warmup_steps: 0, weight_decay: 0.0, clip_norm: 1.0,
              average: 0.0, evaluate_every: 1, patience: 0, shift_hu: 0.0, precision: f32, checkpoint_gradients: false,
              reducer: {detector: x, scans: 0, mimic_share: 0.5, noise_hu: 0.0, focal_gamma: 0.0, label_smoothing: 0.0}}",
        )
        .unwrap();
        let task = ReducerTask {
            config: config(),
            training,
            scans: vec![scan(&config())],
            nodules: vec![(0, 0)],
            weights: WeightedIndex::new([1.0]).unwrap(),
            tune: Vec::new(),
            proposed: Vec::new(),
        };
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..20 {
            let ReducerBatch { patches, nodule, .. } = task.draw(&mut StdRng::seed_from_u64(seed)).unwrap();
            assert_eq!(nodule.values, [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
            for (cube, nodule) in patches.values.chunks(64).zip(&nodule.values) {
                // The mean of a ramp is the HU in the middle, whatever the symmetry.
                let mean = 100.0 * cube.iter().sum::<f32>() / 64.0;
                let reach = if *nodule > 0.0 { 1.0 } else { JITTER as f32 };
                let places = if *nodule > 0.0 { [10.5, 11.5] } else { [30.5, 25.5] };
                assert!(places.iter().any(|at| (mean - at).abs() <= reach + 1e-3), "{mean}");
                seen.insert((mean * 10.0).round() as i32);
            }
        }
        assert!(seen.len() > 8, "{seen:?}");
    }

    #[test]
    fn scans_are_chosen_evenly() {
        let all: Vec<usize> = (0..10).collect();
        assert_eq!(evenly(&all, 3), [0, 3, 6]);
        assert_eq!((evenly(&all, 0), evenly(&all, 99)), (all.clone(), all));
    }
}
