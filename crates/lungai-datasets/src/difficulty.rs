//! Is a synthetic set hard enough to mean anything? Two detectors that know nothing of it, each the best over a grid of
//! settings tuned on the training centres, are tried on the others: what a threshold solves teaches no network.
//!
//! The rules, the settings and the published figures that the set is compared with are a file, `validation/difficulty.yaml`.

mod detectors;
mod figures;
mod page;

pub use detectors::{BlobGrid, ThresholdGrid};
pub use figures::{Anchors, Compared, Percentiles};
pub use page::draw_page;

use crate::recipe::{Patient, Recipe};
use crate::{DatasetError, Split};
use detectors::{Candidate, LungBox};
use lungai_metrics::MetricsError;
use lungai_metrics::bootstrap::{CpmDifference, Draws, cpm_difference, froc_intervals};
use lungai_metrics::froc::{Froc, Interpolation, froc};
use lungai_metrics::matching::{Lesion, Mark, MatchRule};
use lungai_phantom::{Body, CaseMix, Difficulty, Masks, Rendered, Scanner, Scene};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Everything that decides on the result. Complete: no field has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Scans of the training centres on which settings are chosen, for each profile, at least 1.
    pub tuning_scans: usize,
    /// Scans of the test centres on which they are tried, for each profile, at least 1.
    pub test_scans: usize,
    /// Scans are made on grids no finer than this in mm, 0.5..=3: a stated loss, so that the check takes minutes.
    pub grid_mm: f64,
    /// Settings of the threshold detector.
    pub threshold: ThresholdGrid,
    /// Settings of the blob detector.
    pub blobs: BlobGrid,
    /// CPM that the threshold detector must have on profile `standard`, lowest and highest.
    pub threshold_cpm: [f64; 2],
    /// CPM that the blob detector must stay below on profile `standard`.
    pub blobs_cpm_below: f64,
    /// What the set is compared with; printed, not decided on.
    pub anchors: Anchors,
}

/// What [`measure`] found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Both detectors on each profile, easy first.
    pub profiles: Vec<Profile>,
    /// How far each detector falls from one profile to the next.
    pub falls: Vec<Fall>,
    /// Each rule, with whether it holds.
    pub rules: Vec<(String, bool)>,
    /// The set beside published figures.
    pub compared: Vec<Compared>,
}

/// Both detectors on one profile.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    /// Setting of [`CaseMix::difficulty`] that replaces that of every centre.
    pub difficulty: Difficulty,
    /// Scans and scored nodules of the test centres.
    pub scans: usize,
    /// See `scans`.
    pub nodules: usize,
    /// Threshold, components, sphericity.
    pub threshold: Tuned,
    /// Multi-scale Laplacian of Gaussian.
    pub blobs: Tuned,
}

/// A detector at its best setting.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tuned {
    /// The setting.
    pub setting: String,
    /// CPM on the scans that chose it.
    pub tuning_cpm: f64,
    /// CPM on the scans of the test centres.
    pub cpm: f64,
    /// Bootstrap over scans, 95 %.
    pub interval: [f64; 2],
}

/// What a detector loses where the same patients are drawn harder.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fall {
    /// `threshold` or `blobs`.
    pub detector: &'static str,
    /// From which profile to which.
    pub profiles: [Difficulty; 2],
    /// CPM on the first less that on the second.
    pub cpm: f64,
    /// Paired bootstrap over patients, 95 %. Where it holds zero, the patients are too few to tell that the second is harder.
    pub interval: [f64; 2],
}

impl Report {
    /// Whether every rule holds.
    pub fn passed(&self) -> bool {
        self.rules.iter().all(|(_, holds)| *holds)
    }

    /// The same for people.
    pub fn text(&self) -> String {
        let mut text = "SYNTHETIC data; CPM by LUNA16's rule, mimics count for nothing\n".to_owned();
        for profile in &self.profiles {
            let Profile { difficulty, scans, nodules, threshold, blobs } = profile;
            let name = format!("{difficulty:?}").to_lowercase();
            text += &format!("{name}: {scans} scans of test centres, {nodules} nodules\n");
            for (detector, tuned) in [("threshold", threshold), ("blobs", blobs)] {
                let Tuned { setting, tuning_cpm, cpm, interval: [low, high] } = tuned;
                text += &format!("  {detector:9} {cpm:.3} [{low:.3}, {high:.3}], tuning {tuning_cpm:.3}: {setting}\n");
            }
        }
        for Fall { detector, profiles: [from, to], cpm, interval: [low, high] } in &self.falls {
            let step = format!("{detector}, {from:?} to {to:?}").to_lowercase();
            let told = if *low > 0.0 { "" } else { ": too few patients to tell" };
            text += &format!("CPM falls, {step}: {cpm:.3} [{low:.3}, {high:.3}]{told}\n");
        }
        for Compared { what, here, published, distance, measure, .. } in &self.compared {
            text += &format!("{what}: {here:.2?}, published {published:.2?}, {measure} {distance:.2}\n");
        }
        for (rule, holds) in &self.rules {
            text += &format!("{} {rule}\n", if *holds { "holds: " } else { "BROKEN:" });
        }
        text
    }
}

impl Gate {
    /// The rules that the project keeps: `validation/difficulty.yaml` as it was built in.
    pub fn shipped() -> Self {
        serde_yaml::from_str(include_str!("../../../validation/difficulty.yaml")).expect("a test reads it")
    }

    /// # Errors
    /// [`DatasetError::Config`] names the line or the field.
    pub fn load(path: &Path) -> Result<Self, DatasetError> {
        let gate: Self = crate::read_yaml(path)?;
        let refuse = |reason| DatasetError::Config { file: crate::error::name(path), line: 1, reason };
        gate.check().map_err(refuse)?;
        Ok(gate)
    }

    /// # Errors
    /// The field that is out of range.
    pub fn check(&self) -> Result<(), String> {
        let mut rules = vec![
            ("tuning_scans", self.tuning_scans > 0, "at least 1"),
            ("test_scans", self.test_scans > 0, "at least 1"),
            ("grid_mm", (0.5..=3.0).contains(&self.grid_mm), "within 0.5..=3"),
        ];
        rules.extend(self.threshold.rules());
        rules.extend(self.blobs.rules());
        match rules.iter().find(|rule| !rule.1) {
            Some((field, _, rule)) => Err(format!("{field} must be {rule}")),
            None => Ok(()),
        }
    }
}

/// A scan with what the detectors see of it.
struct Seen {
    rendered: Rendered,
    chest: LungBox,
    lesions: Vec<Lesion>,
}

/// Tries both detectors on the three profiles of `recipe` and compares the set with the anchors. `progress` hears of each
/// scan: how many are done, of how many.
///
/// # Errors
/// [`DatasetError::Case`] where the recipe has no training or no test centre, or no nodule to find.
pub fn measure(recipe: &Recipe, gate: &Gate, progress: &mut dyn FnMut(usize, usize)) -> Result<Report, DatasetError> {
    let refuse = |reason: String| DatasetError::Case { case: recipe.name.clone(), reason };
    gate.check().map_err(&refuse)?;
    let tuning = spread(recipe, Split::Train, gate.tuning_scans);
    let test = spread(recipe, Split::Test, gate.test_scans);
    if tuning.is_empty() || test.is_empty() {
        return Err(refuse("the check needs a centre with training cases and one with test cases".into()));
    }
    let total = 3 * (tuning.len() + test.len());
    let mut done = 0;
    let mut step = || {
        done += 1;
        progress(done, total);
    };
    let (mut profiles, mut curves) = (Vec::new(), Vec::new());
    let mut tissues = figures::Tissues::default();
    for difficulty in [Difficulty::Easy, Difficulty::Standard, Difficulty::Hard] {
        let mut threshold = Trial::new(gate.threshold.settings());
        let mut blobs = Trial::new(gate.blobs.settings());
        for patient in &tuning {
            let scan = see(patient, difficulty, gate.grid_mm);
            threshold.tune(&scan, |setting| gate.threshold.detect(&scan.chest, setting));
            blobs.tune(&scan, |setting| gate.blobs.detect(&scan.chest, setting));
            step();
        }
        let none = |_| refuse("its training patients have no nodules".into());
        let (threshold, blobs) = (threshold.best().map_err(none)?, blobs.best().map_err(none)?);
        let (mut by_threshold, mut by_blobs) = (Vec::new(), Vec::new());
        for patient in &test {
            let scan = see(patient, difficulty, gate.grid_mm);
            let marks = threshold.marks(gate.threshold.detect(&scan.chest, &threshold.setting));
            by_threshold.push((marks, scan.lesions.clone()));
            let marks = blobs.marks(gate.blobs.detect(&scan.chest, &blobs.setting));
            by_blobs.push((marks, scan.lesions.clone()));
            if difficulty == Difficulty::Standard {
                tissues.add(&scan.rendered);
            }
            step();
        }
        let curve = |scans: &[(Vec<Mark>, Vec<Lesion>)]| {
            froc(scans, &MatchRule::LUNA16).map_err(|error| refuse(format!("its test patients: {error}")))
        };
        let (by_threshold, by_blobs) = (curve(&by_threshold)?, curve(&by_blobs)?);
        profiles.push(Profile {
            difficulty,
            scans: test.len(),
            nodules: by_threshold.counts().nodules,
            threshold: threshold.judged(&by_threshold).map_err(&refuse)?,
            blobs: blobs.judged(&by_blobs).map_err(&refuse)?,
        });
        curves.push([by_threshold, by_blobs]);
    }
    let falls = falls(&profiles, &curves).map_err(|error| refuse(error.to_string()))?;
    let compared = figures::compare(recipe, &gate.anchors, &tissues);
    Ok(Report { rules: rules(&profiles[1], &falls, gate), profiles, falls, compared })
}

/// The profiles are drawn of the same patients, so that each can be compared with itself.
fn falls(profiles: &[Profile], curves: &[[Froc; 2]]) -> Result<Vec<Fall>, MetricsError> {
    let mut falls = Vec::new();
    for (index, detector) in ["threshold", "blobs"].into_iter().enumerate() {
        for (pair, of) in profiles.windows(2).zip(curves.windows(2)) {
            let draws = Draws::of_scans(pair[0].scans, 1000, 1)?;
            let CpmDifference { value: cpm, interval } =
                cpm_difference(&of[0][index], &of[1][index], &draws, Interpolation::Linear, 0.95)?;
            falls.push(Fall { detector, profiles: [pair[0].difficulty, pair[1].difficulty], cpm, interval });
        }
    }
    Ok(falls)
}

fn rules(standard: &Profile, falls: &[Fall], gate: &Gate) -> Vec<(String, bool)> {
    let [low, high] = gate.threshold_cpm;
    let ordered = |detector| falls.iter().filter(|fall| fall.detector == detector).all(|fall| fall.cpm > 0.0);
    vec![
        (
            format!("threshold detector: CPM on standard within {low} to {high}"),
            (low..=high).contains(&standard.threshold.cpm),
        ),
        (
            format!("blob detector: CPM on standard below {}", gate.blobs_cpm_below),
            standard.blobs.cpm < gate.blobs_cpm_below,
        ),
        ("threshold detector: easy, standard and hard in falling order".into(), ordered("threshold")),
        ("blob detector: easy, standard and hard in falling order".into(), ordered("blobs")),
    ]
}

/// The first patients of a split, taken from its centres in turn.
fn spread(recipe: &Recipe, split: Split, most: usize) -> Vec<Patient<'_>> {
    let mut by_centre: Vec<Vec<Patient>> = recipe
        .centres
        .iter()
        .map(|centre| {
            recipe.patients().filter(|p| p.split == split && p.centre.name == centre.name).take(most).collect()
        })
        .collect();
    let mut chosen = Vec::new();
    for turn in 0..most {
        for patients in &mut by_centre {
            if let Some(patient) = patients.get(turn)
                && chosen.len() < most
            {
                chosen.push(patient.clone());
            }
        }
    }
    chosen
}

/// A patient as the profile draws them, on the centre's scanner with a grid no finer than `grid_mm`.
fn see(patient: &Patient, difficulty: Difficulty, grid_mm: f64) -> Seen {
    let mix = CaseMix { difficulty, ..patient.centre.case_mix.clone() };
    let scene = Scene::draw(&mix, patient.seed);
    let scanner = coarser(&patient.centre.scanner, &scene, grid_mm);
    let masks = Masks { vessels: true, ..Masks::NONE };
    let geometry = scanner.geometry(&scene);
    let rendered = Body::of(&scene).render_with(&scanner, &geometry, patient.scan_seed(), masks);
    let lesion = |n: &lungai_ct::ReferenceNodule| Lesion {
        position: n.position,
        diameter_mm: n.diameter_mm,
        excluded: n.excluded,
    };
    let lesions = rendered.nodules.iter().map(lesion).collect();
    Seen { chest: LungBox::of(&rendered), rendered, lesions }
}

/// The same field of view, at most as wide as the torso, in larger voxels; kernel, dose and calibration stay.
fn coarser(scanner: &Scanner, scene: &Scene, grid_mm: f64) -> Scanner {
    let pixel = scanner.pixel_spacing_mm.max(grid_mm);
    let slice = scanner.slice_spacing_mm.max(grid_mm);
    let torso = 2.2 * scene.chest.torso_mm()[0];
    let width = (scanner.matrix as f64 * scanner.pixel_spacing_mm).min(torso);
    Scanner {
        matrix: ((width / pixel).ceil() as usize).clamp(16, 1024),
        pixel_spacing_mm: pixel,
        slice_spacing_mm: slice,
        slice_thickness_mm: scanner.slice_thickness_mm.max(slice),
        ..scanner.clone()
    }
}

/// The marks of each setting on the tuning scans so far.
struct Trial<S> {
    settings: Vec<S>,
    scans: Vec<Vec<(Vec<Mark>, Vec<Lesion>)>>,
}

/// A setting that was chosen.
struct Best<S> {
    setting: S,
    cpm: f64,
}

impl<S: detectors::Setting> Trial<S> {
    fn new(settings: Vec<S>) -> Self {
        let scans = settings.iter().map(|_| Vec::new()).collect();
        Self { settings, scans }
    }

    /// `detect` is asked once for settings that differ in their score alone; they follow each other.
    fn tune(&mut self, scan: &Seen, detect: impl Fn(&S) -> Vec<Candidate>) {
        let mut latest: Option<(&S, Vec<Candidate>)> = None;
        for (setting, scans) in self.settings.iter().zip(&mut self.scans) {
            let found = match latest.take() {
                Some((before, found)) if before.same_image(setting) => found,
                _ => detect(setting),
            };
            scans.push((setting.marks(&found), scan.lesions.clone()));
            latest = Some((setting, found));
        }
    }

    fn best(self) -> Result<Best<S>, MetricsError> {
        let mut best: Option<Best<S>> = None;
        for (setting, scans) in self.settings.into_iter().zip(self.scans) {
            let cpm = froc(&scans, &MatchRule::LUNA16)?.cpm(Interpolation::Linear);
            if best.as_ref().is_none_or(|best| cpm > best.cpm) {
                best = Some(Best { setting, cpm });
            }
        }
        Ok(best.expect("a grid of settings has one"))
    }
}

impl<S: detectors::Setting> Best<S> {
    fn marks(&self, found: Vec<Candidate>) -> Vec<Mark> {
        self.setting.marks(&found)
    }

    fn judged(&self, curve: &Froc) -> Result<Tuned, String> {
        let cpm = curve.cpm(Interpolation::Linear);
        let intervals = Draws::of_scans(curve.counts().scans, 1000, 1)
            .and_then(|draws| froc_intervals(curve, &draws, &[1.0], Interpolation::Linear, 0.95))
            .map_err(|error| error.to_string())?;
        Ok(Tuned { setting: self.setting.to_string(), tuning_cpm: self.cpm, cpm, interval: intervals.cpm })
    }
}
