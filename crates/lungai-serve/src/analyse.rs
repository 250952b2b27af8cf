//! The seam between HTTP and inference: what the service asks for and what it gets.

use lungai_ct::Finding;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use utoipa::ToSchema;

/// Reads a received study and analyses one series of it. Called on a thread of its own, as often at the same time as
/// there are workers; a panic fails that analysis only.
pub type Analyse = dyn Fn(&Study) -> Result<Analysed, Failure> + Send + Sync;

/// A received study.
#[derive(Debug, Clone, Copy)]
pub struct Study<'a> {
    /// Folder of its files, numbered in order of arrival.
    pub folder: &'a Path,
    /// The series to analyse; the largest where `None`.
    pub series_uid: Option<&'a str>,
}

/// A verified model that is ready to run.
#[derive(Clone)]
pub struct Engine {
    /// How to analyse.
    pub analyse: Arc<Analyse>,
    /// Which model that is.
    pub model: Model,
    /// Which networks are loaded.
    pub networks: Networks,
    /// `cpu`, `cuda:0`, ...
    pub device: String,
    /// Seconds that loading and verifying took.
    pub load_seconds: f64,
}

/// The frozen model behind a result.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 that pins every file of the model.
    pub sha256: String,
    /// Whether synthetic images were among its training data.
    pub synthetic: bool,
}

/// The networks that are loaded.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub struct Networks {
    /// Lungs, right and left.
    pub lung_segmentation: bool,
    /// Nodule candidates.
    pub nodule_detection: bool,
    /// Malignancy of a nodule.
    pub malignancy_classification: bool,
}

/// An analysis that came to an end, also where the quality gate stopped it.
#[derive(Debug, Clone)]
pub struct Analysed {
    /// DICOM Patient ID. Personal data: shown in the result, nowhere else.
    pub patient_id: Option<String>,
    /// DICOM Study Instance UID.
    pub study_uid: Option<String>,
    /// The series that was analysed.
    pub series_uid: String,
    /// The other series of the study, which were not.
    pub other_series: Vec<String>,
    /// Verdict of the quality gate.
    pub quality: Quality,
    /// What was found; `None` where the quality gate rejected the images.
    pub outcome: Option<Outcome>,
    /// Name and duration in seconds of every stage that ran.
    pub stage_seconds: Vec<(&'static str, f64)>,
}

/// What was found in images of sufficient quality.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// By falling score.
    pub findings: Vec<Finding>,
    /// Least score that is reported.
    pub operating_threshold: f64,
    /// Volume of the left lung in ml.
    pub left_ml: f64,
    /// Volume of the right lung in ml.
    pub right_ml: f64,
}

/// Why a study cannot be analysed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema, PartialEq, Eq)]
pub struct Failure {
    /// Stable name of the rule, in kebab case.
    pub code: String,
    /// The rule and the value, without patient data and without paths.
    pub detail: String,
}

impl Failure {
    /// A failure by name and reason.
    pub fn new(code: &str, detail: impl Into<String>) -> Self {
        Self { code: code.into(), detail: detail.into() }
    }
}

/// Verdict of the quality gate with its reasons.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Quality {
    /// The worst of the findings' verdicts.
    pub verdict: Verdict,
    /// Rules that were not met.
    pub findings: Vec<QualityFinding>,
}

/// One rule of the quality gate that was not met.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct QualityFinding {
    /// Stable name.
    pub rule: String,
    /// What was measured.
    pub value: f64,
    /// What is allowed.
    pub limit: f64,
    /// Unit of both.
    pub unit: String,
    /// `warn` or `reject`.
    pub verdict: Verdict,
}

/// Whether images may be analysed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Without reservations.
    Accept,
    /// The reader should know the reasons.
    Warn,
    /// They are not analysed.
    Reject,
}
