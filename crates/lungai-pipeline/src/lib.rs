//! From a CT scan to findings: the **only** inference path. Training's evaluation, validation and the service all call
//! it, so what was validated is what is shipped.
//!
//! ```text
//! scan -> quality gate -> lung mask -> candidates -> non-maximum suppression -> [second look] -> measurement -> malignancy
//!      -> findings
//! ```
//!
//! Nothing in here reads the clock, a file or a random number: the same scan, model and device give the same findings.

pub mod classify;
mod cubes;
pub mod detect;
pub mod lungs;
pub mod reduce;
mod tiles;
pub mod wire;

pub use cubes::CUBES_AT_ONCE;
pub use tiles::tiles_at_once;

use lungai_ct::{Characteristics, Finding, LabelMap, Malignancy, Scan, Volume};
use lungai_imaging::{nodule, quality};
use lungai_models::frozen::{Frozen, Manifest};
use lungai_trace::implements;
use rayon::prelude::*;

/// Findings below this diameter are not reported (FR-004).
pub const MIN_DIAMETER_MM: f64 = 3.0;

/// Findings per scan at most, highest scores first; LUNA16's evaluation has the same cap.
pub const MAX_FINDINGS: usize = 100;

/// A frozen model, ready to run.
#[derive(Debug)]
pub struct Pipeline {
    frozen: Frozen,
}

/// Which findings are reported.
#[derive(Debug, Clone, PartialEq)]
pub enum OperatingPoint {
    /// One of the frozen model's named thresholds.
    Named(String),
    /// A score threshold, `0..=1`.
    Threshold(f64),
}

/// What a run begins with next; the caller may show or time it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Quality gate.
    Preprocess,
    /// Lung segmentation.
    Segment,
    /// Candidates over the whole lung, and the second look at them.
    Detect,
    /// Measurement and malignancy of each candidate.
    Classify,
    /// Nothing: the run is over.
    Done,
}

impl Stage {
    /// `preprocess`, `segment`, `detect`, `classify`, `done`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Preprocess => "preprocess",
            Self::Segment => "segment",
            Self::Detect => "detect",
            Self::Classify => "classify",
            Self::Done => "done",
        }
    }
}

/// What a run gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// Verdict of the quality gate: accept or warn.
    pub quality: quality::Quality,
    /// Lung labels on the scan's grid.
    pub lungs: LabelMap,
    /// By falling score, none below [`MIN_DIAMETER_MM`].
    pub findings: Vec<Finding>,
    /// The threshold that was applied.
    pub operating_threshold: f64,
}

/// Why a scan is not analysed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PipelineError {
    /// The quality gate says no; the reasons are within.
    #[error("the quality gate rejects this scan: {}", reasons(.0))]
    Rejected(quality::Quality),
    /// No such name in the frozen model.
    #[error("operating point `{name}` is unknown; this model has: {known}")]
    UnknownOperatingPoint {
        /// As requested.
        name: String,
        /// What there is.
        known: String,
    },
    /// Not a score.
    #[error("operating threshold {0} is not within 0..=1")]
    Threshold(f64),
}

fn reasons(quality: &quality::Quality) -> String {
    let rejecting = quality.findings.iter().filter(|finding| finding.verdict == quality::Verdict::Reject);
    let text: Vec<String> =
        rejecting.map(|f| format!("{} ({:.2} {}, limit {:.2} {})", f.rule, f.value, f.unit, f.limit, f.unit)).collect();
    text.join(", ")
}

impl Default for OperatingPoint {
    fn default() -> Self {
        Self::Named("default".into())
    }
}

impl std::str::FromStr for OperatingPoint {
    type Err = std::convert::Infallible;

    /// A number is a threshold, anything else a name.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| Self::Named(text.to_owned()), Self::Threshold))
    }
}

impl Pipeline {
    /// Takes a model that has passed every check of `lungai_models::frozen::load`.
    pub fn new(frozen: Frozen) -> Self {
        Self { frozen }
    }

    /// What the model is.
    pub fn manifest(&self) -> &Manifest {
        &self.frozen.manifest
    }

    /// SHA-256 that pins every file of the model.
    pub fn model_sha256(&self) -> &str {
        &self.frozen.sha256
    }

    /// Left and right lung by the network.
    #[implements("FR-003")]
    pub fn segment_lungs(&self, volume: &Volume) -> LabelMap {
        let Frozen { manifest, networks, device, .. } = &self.frozen;
        lungs::segment(&networks.lungs(), &manifest.networks.lung, volume, device)
    }

    /// The whole path. `stage` is called at the start of each stage and at the end.
    ///
    /// # Errors
    /// [`PipelineError`]; a rejected scan has no findings.
    #[implements("FR-002", "FR-004", "FR-005", "R-001")]
    pub fn run(
        &self,
        scan: &Scan,
        operating_point: &OperatingPoint,
        stage: &mut dyn FnMut(Stage),
    ) -> Result<Analysis, PipelineError> {
        let Frozen { manifest, networks, device, .. } = &self.frozen;
        let threshold = self.threshold(operating_point)?;

        stage(Stage::Preprocess);
        // The gate does not ask the network whether there are lungs: a network cannot vouch for its own input.
        let region = lungai_imaging::lungs::segment(&scan.volume);
        let quality = quality::assess(scan, &region);
        if quality.verdict == quality::Verdict::Reject {
            return Err(PipelineError::Rejected(quality));
        }

        stage(Stage::Segment);
        let lungs = self.segment_lungs(&scan.volume);

        stage(Stage::Detect);
        // Where either method sees lung a nodule counts: neither may hide one from the detector (R-001).
        let gate = detect::Gate::new(&[&lungs, &region]);
        let (config, volume) = (&manifest.networks.detector, &scan.volume);
        let find = |least| detect::candidates(&networks.detectors(), config, volume, &gate, least, device);
        let candidates = match &manifest.networks.reducer {
            None => find(threshold),
            // The threshold is one of the score of both, so the detector alone must not decide.
            Some(config) => {
                let found = find(reduce::PROPOSAL_SCORE);
                let mut rescored = reduce::rescored(&networks.reducers(), config, volume, &found, device);
                rescored.retain(|candidate| candidate.score >= threshold);
                rescored
            }
        };

        stage(Stage::Classify);
        let mut findings: Vec<Finding> = Vec::new();
        // A few at a time: nothing is measured that would not be reported.
        for next in candidates.chunks(16) {
            let measured: Vec<Finding> = next.par_iter().map(|candidate| measured(&scan.volume, candidate)).collect();
            findings.extend(measured.into_iter().filter(|finding| finding.diameter_mm >= MIN_DIAMETER_MM));
            if findings.len() >= MAX_FINDINGS {
                break;
            }
        }
        findings.truncate(MAX_FINDINGS);
        let config = &manifest.networks.classifier;
        let centres: Vec<_> = findings.iter().map(|finding| finding.position).collect();
        let logits = classify::logits(&networks.classifiers(), config, &scan.volume, &centres, device);
        for ((id, finding), logit) in (1..).zip(&mut findings).zip(logits) {
            finding.id = id;
            finding.malignancy = Malignancy::from_probability(manifest.calibration.probability(logit));
        }
        stage(Stage::Done);
        Ok(Analysis { quality, lungs, findings, operating_threshold: threshold })
    }

    fn threshold(&self, point: &OperatingPoint) -> Result<f64, PipelineError> {
        let points = &self.frozen.manifest.operating_points;
        match point {
            OperatingPoint::Threshold(score) if (0.0..=1.0).contains(score) => Ok(*score),
            OperatingPoint::Threshold(score) => Err(PipelineError::Threshold(*score)),
            OperatingPoint::Named(name) => {
                points.get(name).copied().ok_or_else(|| PipelineError::UnknownOperatingPoint {
                    name: name.clone(),
                    known: points.keys().cloned().collect::<Vec<_>>().join(", "),
                })
            }
        }
    }
}

/// A candidate with the size of its own voxels where they can be told from their surroundings, else with the size that
/// the detector gave it. The place stays the detector's: it is nearer to the truth than the middle of the voxels, which
/// a vessel or the chest wall may shift.
fn measured(volume: &Volume, candidate: &detect::Candidate) -> Finding {
    let detect::Candidate { position, diameter_mm, score } = *candidate;
    let radius = diameter_mm / 2.0;
    let sphere = Finding {
        id: 0,
        position,
        size_mm: [diameter_mm; 3],
        diameter_mm,
        volume_mm3: 4.0 / 3.0 * std::f64::consts::PI * radius.powi(3),
        score,
        malignancy: Malignancy::from_probability(0.5),
        characteristics: Characteristics::default(),
    };
    match nodule::measure(volume, position, diameter_mm) {
        // Twice or half the diameter is not this nodule but a vessel, the chest wall or noise.
        Some(m) if (0.5..=2.0).contains(&(m.diameter_mm / diameter_mm)) => Finding {
            size_mm: m.size_mm,
            diameter_mm: m.diameter_mm,
            volume_mm3: m.volume_mm3,
            characteristics: m.characteristics,
            ..sphere
        },
        _ => sphere,
    }
}
