//! `experiments/*.yaml`: everything that decides a run.

use anyhow::{Context, bail};
use lungai_imaging::augment::AugmentConfig;
use lungai_models::classifier::ClassifierConfig;
use lungai_models::detector::DetectorConfig;
use lungai_models::lung::LungConfig;
use lungai_models::reducer::ReducerConfig;
use serde::{Deserialize, Serialize};
use serde_yaml::Value;
use std::path::{Path, PathBuf};

/// One experiment trains one network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Name of the run folder.
    pub name: String,
    /// Decides every weight, patch and augmentation.
    pub seed: u64,
    /// Data-set manifest, relative to the working directory.
    pub data: PathBuf,
    /// Held out instead of the data set's own `tune` cases: a part of its `train` and `tune` patients together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fold: Option<Fold>,
    /// Trained several times, each run in a folder of its own: cross-validation, other seeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Repeat>,
    /// Shape of the network: exactly one of `lung`, `detector`, `classifier`, `reducer`.
    #[serde(with = "serde_yaml::with::singleton_map")]
    pub network: Network,
    /// How it is trained.
    pub training: Training,
}

/// One part of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fold {
    /// `0..of`.
    pub index: usize,
    /// Parts, at least 2.
    pub of: usize,
}

/// Which runs there are: each fold with each seed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// Folds, at least 2; 0: the split stays as it is.
    pub folds: usize,
    /// Seeds; none: that of the experiment.
    pub seeds: Vec<u64>,
}

/// Which network, and its shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Lung segmentation.
    Lung(LungConfig),
    /// Nodule detection.
    Detector(DetectorConfig),
    /// Malignancy.
    Classifier(ClassifierConfig),
    /// A second look at the detector's candidates.
    Reducer(ReducerConfig),
}

/// How a network is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Optimiser steps at most.
    pub steps: u64,
    /// Patches that go through the network together.
    pub batch: usize,
    /// Batches behind each step, at least 1: as one larger batch that need not fit into memory.
    pub accumulate: usize,
    /// Peak learning rate of AdamW: reached after `warmup_steps`, then a half cosine down to zero.
    pub learning_rate: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// Largest L2 norm of a parameter's gradient.
    pub clip_norm: f32,
    /// Decay of the running mean of the weights over steps, `0..1`, such as 0.999; the mean is then evaluated and kept. 0:
    /// the weights themselves are.
    pub average: f64,
    /// Steps between evaluations on the `tune` split; each one writes a checkpoint.
    pub evaluate_every: u64,
    /// Evaluations without improvement after which the run ends early; 0 never.
    pub patience: u32,
    /// Largest offset added to a whole patch in HU: scanners are not calibrated alike.
    pub shift_hu: f32,
    /// Number format of the convolutions.
    pub precision: Precision,
    /// Compute cheap layers again on the way back instead of keeping their outputs: less memory, more time. Of use on GPUs: on
    /// the CPU the layers keep what they need themselves.
    pub checkpoint_gradients: bool,
    /// What only the lung network has: given for it, absent for the others. So are the next ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lung: Option<LungTraining>,
    /// What only the detector has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detector: Option<DetectorTraining>,
    /// What only the malignancy network has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classifier: Option<ClassifierTraining>,
    /// What only the reducer has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reducer: Option<ReducerTraining>,
}

/// Number format of the convolutions; weights, sums and everything else stay f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    F32,
    /// bfloat16: on GPUs only.
    Bf16,
}

/// How the lung network is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LungTraining {
    /// Share of patches centred on the lungs' surface, `0..=1`; the rest lie anywhere.
    pub surface_share: f64,
    /// What else may be done to a patch and its truth (`lungai_imaging::augment`); mirroring along x always is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<AugmentConfig>,
}

/// How the detector is trained. What the shares leave lies anywhere in the lungs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectorTraining {
    /// Share of patches round a nodule, `0..=1`.
    pub positive_share: f64,
    /// Share of patches round something that a blob detector takes for a nodule but is none, `0..=1`.
    pub mimic_share: f64,
    /// Share of patches round something that this network itself took for a nodule but is none, `0..=1`: once it was asked,
    /// after `mine_after` of the steps; until then they count to `mimic_share`.
    pub mined_share: f64,
    /// Share of the steps after which the training scans are searched for false positives, `0..=1`.
    pub mine_after: f64,
    /// Largest standard deviation in HU of noise added to a patch: unseen scanners may have a lower dose.
    pub noise_hu: f64,
    /// Background cells that count for each nodule cell of a batch, the worst ones; 0: all of them.
    pub hard_negatives: usize,
    /// Weight of the overlap of boxes (DIoU) beside the offsets' own loss; 0: offsets alone.
    pub overlap_weight: f64,
}

/// How the malignancy network is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierTraining {
    /// Diameters in mm, ascending, between which nodules of one class are drawn alike often: a network that sees large
    /// malignant and small benign ones only learns their size. Empty: all nodules of a class alike.
    pub size_limits_mm: Vec<f64>,
    /// What each helper (kind, diameter, spiculation) counts beside the malignancy, `0..=10`. On a few hundred nodules the
    /// network sees what malignancy depends on sooner where it is told; malignancy says it with noise. Left out: 0.3.
    #[serde(default = "helper_weight")]
    pub helper_weight: f64,
    /// Largest standard deviation in HU of noise added to a cube, `0..=500`. Left out: 0.
    #[serde(default)]
    pub noise_hu: f64,
    /// How far labels are moved towards the middle, `0..1`.
    pub label_smoothing: f64,
}

/// What helpers counted before it could be said.
fn helper_weight() -> f64 {
    0.3
}

/// How the reducer is trained. Half of each batch are nodules, where the detector puts them or where they are; the others
/// are what the detector takes for nodules and the mimics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReducerTraining {
    /// Run folder of the detector whose candidates it is to tell apart, relative to the working directory; it must have ended
    /// and hold out the same cases. Of a folder that `repeat` made, the run with the same fold and, if there is one, seed.
    pub detector: PathBuf,
    /// Training scans that are searched for candidates, evenly chosen among all; 0: all.
    pub scans: usize,
    /// Share of what is no nodule that a blob detector takes for one, whatever the detector says of it, `0..=1`.
    pub mimic_share: f64,
    /// Largest standard deviation in HU of noise added to a cube.
    pub noise_hu: f64,
    /// How much less an example counts the surer it is right (exponent of focal loss), `0..=5`; 0: cross entropy.
    pub focal_gamma: f64,
    /// How far labels are moved towards the middle, `0..1`.
    pub label_smoothing: f64,
}

impl Network {
    /// `lung`, `detector`, `classifier` or `reducer`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Lung(_) => "lung",
            Self::Detector(_) => "detector",
            Self::Classifier(_) => "classifier",
            Self::Reducer(_) => "reducer",
        }
    }
}

impl Training {
    /// Learning rate of a step, counted from 0: a pure function, so that nothing of it has to be stored.
    pub fn learning_rate_at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let rest = (self.steps - self.warmup_steps).max(1) as f64;
        let done = ((step - self.warmup_steps) as f64 / rest).min(1.0);
        self.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
    }
}

impl Training {
    /// The section of the network is there, no other, and its values are in range.
    fn check_sections(&self, network: &str) -> anyhow::Result<()> {
        let sections = [
            ("lung", self.lung.is_some()),
            ("detector", self.detector.is_some()),
            ("classifier", self.classifier.is_some()),
            ("reducer", self.reducer.is_some()),
        ];
        for (name, given) in sections {
            match (name == network, given) {
                (true, false) => bail!("training.{name} is missing: what only this network has"),
                (false, true) => bail!("training.{name} is given, but network is {network}"),
                _ => {}
            }
        }
        let share = |name: &str, value: f64| {
            let fits = (0.0..=1.0).contains(&value);
            if fits { Ok(()) } else { bail!("training.{network}.{name} is {value}, not within 0..=1") }
        };
        if let Some(lung) = &self.lung {
            share("surface_share", lung.surface_share)?;
            // Left and right are told apart by where a patch lies, which the mirror of an augmentation does not know.
            if lung.augment.as_ref().is_some_and(|a| a.flip.is_some()) {
                bail!("training.lung.augment.flip: leave it out, patches are mirrored along x already");
            }
        }
        if let Some(d) = &self.detector {
            share("positive_share", d.positive_share)?;
            share("mimic_share", d.mimic_share)?;
            share("mined_share", d.mined_share)?;
            share("mine_after", d.mine_after)?;
            // Three tenths and seven tenths are a little more than one.
            let all = d.positive_share + d.mimic_share + d.mined_share;
            share("positive_share + mimic_share + mined_share", if (all - 1.0).abs() < 1e-9 { 1.0 } else { all })?;
            if !(0.0..=500.0).contains(&d.noise_hu) {
                bail!("training.detector.noise_hu is {}, not within 0..=500", d.noise_hu);
            }
            if !(0.0..=100.0).contains(&d.overlap_weight) {
                bail!("training.detector.overlap_weight is {}, not within 0..=100", d.overlap_weight);
            }
        }
        if let Some(c) = &self.classifier {
            if !(0.0..1.0).contains(&c.label_smoothing) {
                bail!("training.classifier.label_smoothing is {}, not within 0..1", c.label_smoothing);
            }
            for (name, value, range) in
                [("helper_weight", c.helper_weight, 0.0..=10.0), ("noise_hu", c.noise_hu, 0.0..=500.0)]
            {
                if !range.contains(&value) {
                    bail!("training.classifier.{name} is {value}, not within {range:?}");
                }
            }
            if !c.size_limits_mm.iter().all(|mm| *mm > 0.0) || !c.size_limits_mm.is_sorted_by(|a, b| a < b) {
                bail!("training.classifier.size_limits_mm must be positive and ascending");
            }
        }
        if let Some(r) = &self.reducer {
            share("mimic_share", r.mimic_share)?;
            let ranges = [("noise_hu", r.noise_hu, 0.0..=500.0), ("focal_gamma", r.focal_gamma, 0.0..=5.0)];
            for (name, value, range) in ranges {
                if !range.contains(&value) {
                    bail!("training.reducer.{name} is {value}, not within {range:?}");
                }
            }
            if !(0.0..1.0).contains(&r.label_smoothing) {
                bail!("training.reducer.label_smoothing is {}, not within 0..1", r.label_smoothing);
            }
        }
        Ok(())
    }
}

impl Experiment {
    /// Reads `path`, then applies overrides `key.key=value` (value in YAML).
    pub fn read(path: &Path, overrides: &[String]) -> anyhow::Result<Self> {
        // Read strictly first: its errors name the line of the file that the user wrote.
        let plain: Self = lungai_datasets::read_yaml(path)?;
        if overrides.is_empty() {
            return plain.checked();
        }
        let mut value = serde_yaml::to_value(&plain).context("plain data")?;
        // What may be left out may be set as well.
        if let Some(map) = value.as_mapping_mut() {
            for key in ["fold", "repeat"] {
                map.entry(key.into()).or_insert(Value::Null);
            }
        }
        for text in overrides {
            set(&mut value, text)?;
        }
        let changed: Self = serde_yaml::from_value(value).context("after --set")?;
        changed.checked()
    }

    /// Ranges that the types do not express.
    fn checked(self) -> anyhow::Result<Self> {
        if self.fold.is_some_and(|fold| fold.of < 2 || fold.index >= fold.of) {
            bail!("fold.of must be at least 2 and fold.index less than it");
        }
        if let Some(repeat) = &self.repeat {
            let twice = repeat.seeds.iter().enumerate().any(|(i, seed)| repeat.seeds[..i].contains(seed));
            if repeat.folds == 1 || (repeat.folds > 0 && self.fold.is_some()) || twice {
                bail!("repeat.folds must be 0 or at least 2, without `fold` beside it; repeat.seeds must differ");
            }
        }
        let t = &self.training;
        if t.steps == 0 || t.batch == 0 || t.accumulate == 0 || t.evaluate_every == 0 {
            bail!("training.steps, batch, accumulate and evaluate_every must be at least 1");
        }
        if !(0.0..1.0).contains(&t.average) {
            bail!("training.average is {}, not within 0..1", t.average);
        }
        if !(t.learning_rate > 0.0 && t.learning_rate < 1.0) {
            bail!("training.learning_rate is {}, not within 0..1", t.learning_rate);
        }
        if t.warmup_steps >= t.steps {
            bail!("training.warmup_steps ({}) must be less than training.steps ({})", t.warmup_steps, t.steps);
        }
        if !(0.0..=500.0).contains(&t.shift_hu) {
            bail!("training.shift_hu is {}, not within 0..=500", t.shift_hu);
        }
        if !(t.clip_norm > 0.0 && t.clip_norm.is_finite()) {
            bail!("training.clip_norm is {}: it must be above 0", t.clip_norm);
        }
        if !(0.0..1.0).contains(&t.weight_decay) {
            bail!("training.weight_decay is {}, not within 0..1", t.weight_decay);
        }
        // Every batch holds both classes alike.
        if matches!(self.network, Network::Classifier(_) | Network::Reducer(_)) && !t.batch.is_multiple_of(2) {
            bail!("training.batch is {}: it must be even, for one half of it is of each class", t.batch);
        }
        t.check_sections(self.network.name())?;
        if let Network::Lung(c) = &self.network
            && c.deep_supervision >= c.depth
        {
            bail!("network.lung.deep_supervision is {}: it must be less than depth ({})", c.deep_supervision, c.depth);
        }
        let (levels, most) = match &self.network {
            Network::Lung(c) => (c.depth, 5),
            Network::Detector(c) => (c.widths.len(), 6),
            Network::Classifier(c) => (c.blocks.len(), 6),
            Network::Reducer(c) => (c.blocks.len(), 6),
        };
        if !(1..=most).contains(&levels) {
            bail!("network.{} has {levels} levels, not 1 to {most}", self.network.name());
        }
        let counts = match &self.network {
            Network::Lung(c) => vec![c.width],
            Network::Detector(c) => [c.widths.as_slice(), &[c.head_width]].concat(),
            Network::Classifier(c) => [c.blocks.as_slice(), &[c.width]].concat(),
            Network::Reducer(c) => [c.blocks.as_slice(), &[c.width]].concat(),
        };
        if counts.contains(&0) {
            bail!("network.{}: widths and blocks must be at least 1", self.network.name());
        }
        let (tile, stride, spacing_mm, window) = match &self.network {
            Network::Lung(c) => (c.tile, 1 << c.depth, c.spacing_mm, c.window_hu),
            Network::Detector(c) => {
                if c.anchors_mm.is_empty() || c.anchors_mm.iter().any(|mm| !(*mm > 0.0 && mm.is_finite())) {
                    bail!("network.detector.anchors_mm must hold at least one positive diameter");
                }
                if c.widths.len() <= c.output_level() {
                    bail!("network.detector.widths must reach stride 4");
                }
                if c.patch == 0 || !c.patch.is_multiple_of(c.deepest_stride()) || c.patch > c.tile {
                    let (stride, tile) = (c.deepest_stride(), c.tile);
                    bail!(
                        "network.detector.patch is {}: it must be a multiple of {stride} and at most {tile}",
                        c.patch
                    );
                }
                (c.tile, c.deepest_stride(), c.spacing_mm, c.window_hu)
            }
            Network::Classifier(c) => (c.tile, 1 << (c.blocks.len().max(1) - 1), c.spacing_mm, c.window_hu),
            Network::Reducer(c) => (c.tile, 1 << (c.blocks.len().max(1) - 1), c.spacing_mm, c.window_hu),
        };
        let name = self.network.name();
        if tile == 0 || !tile.is_multiple_of(stride) || tile > 256 {
            bail!("network.{name}.tile is {tile}: it must be a multiple of {stride} and at most 256");
        }
        if !(0.2..=10.0).contains(&spacing_mm) {
            bail!("network.{name}.spacing_mm is {spacing_mm}, not within 0.2..=10");
        }
        if !(window.0 < window.1 && window.0.is_finite() && window.1.is_finite()) {
            bail!("network.{name}.window_hu is {window:?}: two numbers, the lower one first");
        }
        if self.name.is_empty() || !self.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            bail!("name `{}` may hold letters, digits, `-`, `_` and `.` only", self.name);
        }
        Ok(self)
    }
}

/// Sets `a.b=value` in a tree; the key must be there already.
fn set(tree: &mut Value, text: &str) -> anyhow::Result<()> {
    let (path, value) = text.split_once('=').with_context(|| format!("--set {text}: expected key=value"))?;
    let mut at = tree;
    for key in path.split('.') {
        let map = at.as_mapping_mut().with_context(|| format!("--set {path}: `{key}` is below a plain value"))?;
        let known: Vec<String> = map.keys().filter_map(|k| k.as_str().map(str::to_owned)).collect();
        at = map
            .get_mut(key)
            .with_context(|| format!("--set {path}: no key `{key}`; there are: {}", known.join(", ")))?;
    }
    *at = serde_yaml::from_str(value).with_context(|| format!("--set {path}: `{value}` is not YAML"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
name: test
seed: 1
data: manifest.yaml
network:
  lung: {width: 4, depth: 2, norm: group, deep_supervision: 1, spacing_mm: 4.0, tile: 32, window_hu: [-1024.0, 600.0]}
training: {steps: 100, batch: 2, accumulate: 1, average: 0.0, learning_rate: 0.001, warmup_steps: 10, weight_decay: 0.0001, clip_norm: 1.0,
  evaluate_every: 50, patience: 0, shift_hu: 20.0, precision: f32, checkpoint_gradients: false, lung: {surface_share: 0.5}}
";

    fn read(text: &str, overrides: &[&str]) -> Result<Experiment, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.yaml");
        std::fs::write(&path, text).unwrap();
        let overrides: Vec<String> = overrides.iter().map(|s| (*s).to_owned()).collect();
        Experiment::read(&path, &overrides).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn overrides_reach_any_depth() {
        let experiment = read(TEXT, &["training.steps=7", "training.warmup_steps=2", "network.lung.width=8"]).unwrap();
        assert_eq!(experiment.training.steps, 7);
        let error = read(TEXT, &["network.lung.deep_supervision=2"]).unwrap_err();
        assert!(error.contains("must be less than depth (2)"), "{error}");
        assert!(matches!(experiment.network, Network::Lung(LungConfig { width: 8, .. })));
    }

    #[test]
    fn a_wrong_override_says_what_there_is() {
        let error = read(TEXT, &["training.step=7"]).unwrap_err();
        assert!(error.contains("no key `step`; there are: steps, batch"), "{error}");
        assert!(read(TEXT, &["training.steps=soon"]).is_err());
        assert!(read(TEXT, &["training.average=1.0"]).unwrap_err().contains("not within 0..1"));
        assert!(
            read(TEXT, &["repeat={folds: 1, seeds: []}"]).unwrap_err().contains("repeat.folds must be 0 or at least 2")
        );
        assert_eq!(read(TEXT, &["fold={index: 1, of: 5}"]).unwrap().fold, Some(Fold { index: 1, of: 5 }));
        assert!(read(TEXT, &["training.accumulate=0"]).unwrap_err().contains("at least 1"));
        for (value, message) in [
            ("training.clip_norm=-1.0", "must be above 0"),
            ("training.weight_decay=.nan", "not within 0..1"),
            ("network.lung.window_hu=[.nan, 600.0]", "the lower one first"),
            ("network.lung.width=0", "at least 1"),
            ("network.lung.depth=6", "not 1 to 5"),
        ] {
            let error = read(TEXT, &[value]).unwrap_err();
            assert!(error.contains(message), "{value}: {error}");
        }
    }

    #[test]
    fn the_section_of_the_network_must_be_there_and_no_other() {
        let without = read(&TEXT.replace(", lung: {surface_share: 0.5}", ""), &[]).unwrap_err();
        assert!(without.contains("training.lung is missing"), "{without}");
        let other = TEXT.replace(
            "lung: {surface_share",
            "classifier: {size_limits_mm: [], label_smoothing: 0.0}, lung: {surface_share",
        );
        assert!(read(&other, &[]).unwrap_err().contains("training.classifier is given, but network is lung"));
        let share = read(TEXT, &["training.lung.surface_share=1.5"]).unwrap_err();
        assert!(share.contains("training.lung.surface_share is 1.5, not within 0..=1"), "{share}");
    }

    const REDUCER: &str = "
name: test
seed: 1
data: manifest.yaml
network:
  reducer: {width: 4, blocks: [1, 1], spacing_mm: 1.0, tile: 16, window_hu: [-1000.0, 400.0]}
training: {steps: 100, batch: 2, accumulate: 1, average: 0.0, learning_rate: 0.001, warmup_steps: 10, weight_decay: 0.0001, clip_norm: 1.0,
  evaluate_every: 50, patience: 0, shift_hu: 20.0, precision: f32, checkpoint_gradients: false,
  reducer: {detector: runs/detector, scans: 0, mimic_share: 0.2, noise_hu: 25.0, focal_gamma: 0.0, label_smoothing: 0.02}}
";

    #[test]
    fn a_reducer_names_the_detector_that_proposes() {
        let training = read(REDUCER, &["training.reducer.detector=runs/other"]).unwrap().training;
        assert_eq!(training.reducer.unwrap().detector, Path::new("runs/other"));
        let error = read(&REDUCER.replace("detector: runs/detector, ", ""), &[]).unwrap_err();
        assert!(error.contains("missing field `detector`"), "{error}");
        let error = read(REDUCER, &["training.reducer.focal_gamma=6.0"]).unwrap_err();
        assert!(error.contains("training.reducer.focal_gamma is 6, not within 0.0..=5.0"), "{error}");
        assert!(read(REDUCER, &["network.reducer.tile=15"]).unwrap_err().contains("multiple of 2"));
    }

    #[test]
    fn a_tile_that_the_network_cannot_halve_is_refused() {
        let error = read(TEXT, &["network.lung.tile=30"]).unwrap_err();
        assert!(error.contains("multiple of 4"), "{error}");
    }

    #[test]
    fn the_learning_rate_rises_and_falls() {
        let t = read(TEXT, &[]).unwrap().training;
        assert_eq!(t.learning_rate_at(0), 0.0001);
        assert_eq!(t.learning_rate_at(9), 0.001);
        assert!((t.learning_rate_at(55) - 0.0005).abs() < 1e-12);
        assert!(t.learning_rate_at(99) < 1e-6);
    }
}
