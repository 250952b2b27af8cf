//! What one scan gave: everything that figures are computed from, and nothing computed.

use serde::{Deserialize, Serialize};

/// A scan that was analysed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScanRecord {
    /// Name of the case.
    pub case: String,
    /// Pseudonym.
    pub patient: String,
    /// Centre.
    pub centre: String,
    /// What may set this scan apart from others.
    pub covariates: Covariates,
    /// `accept` or `warn`.
    pub quality: String,
    /// Rules of the quality gate that the scan is beyond.
    pub quality_rules: Vec<String>,
    /// Against the reference mask, where there is one: right and left.
    pub lungs: Option<[Side; 2]>,
    /// Time, where it was taken.
    pub seconds: Option<Seconds>,
    /// The reference standard.
    pub nodules: Vec<Nodule>,
    /// What readers marked, one entry for each reader who looked.
    pub readings: Vec<Reading>,
    /// Marks of the system, by falling score.
    pub marks: Vec<SystemMark>,
    /// Marks of the baseline, where it was run.
    pub baseline: Option<Vec<SystemMark>>,
}

/// What may set a scan apart from others; what the source does not state is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Covariates {
    /// As the scanner states it, in mm.
    pub slice_thickness_mm: Option<f64>,
    /// Distance of slice centres in mm.
    pub slice_distance_mm: Option<f64>,
    /// Convolution kernel.
    pub kernel: Option<String>,
    /// Tube current times exposure time in mAs.
    pub exposure_mas: Option<f64>,
    /// Tube voltage in kV.
    pub tube_kv: Option<f64>,
    /// Vendor.
    pub manufacturer: Option<String>,
    /// Vendor's name of the scanner.
    pub model: Option<String>,
    /// Whether a contrast agent is declared.
    pub contrast: Option<bool>,
    /// `female`, `male` or `other`.
    pub sex: Option<String>,
    /// Years at the scan.
    pub age_years: Option<f64>,
}

/// What one reader marked in a scan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Name.
    pub reader: String,
    /// In the order of the reader's table; empty where nothing was marked.
    pub marks: Vec<ReaderMark>,
}

/// A mark of a reader.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReaderMark {
    /// Patient LPS mm.
    pub position_lps_mm: [f64; 3],
    /// Diameter in mm.
    pub diameter_mm: f64,
    /// 1 highly unlikely to be malignant, 3 indeterminate, 5 highly suspicious; absent where it was not rated.
    pub malignancy: Option<u8>,
}

/// What a system said of one case, and nothing of the truth but what was measured against masks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Name of the case.
    pub case: String,
    /// `accept`, `warn` or `reject`; a rejected scan has no marks and nothing else below.
    pub quality: String,
    /// Rules of the quality gate that the scan is beyond.
    pub quality_rules: Vec<String>,
    /// Against the reference mask, where there is one: right and left.
    pub lungs: Option<[Side; 2]>,
    /// Time, where it was taken.
    pub seconds: Option<Seconds>,
    /// What the images say of how they were made.
    pub acquisition: Covariates,
    /// Marks of the system, by falling score.
    pub marks: Vec<SystemMark>,
    /// Marks of the baseline, where it was run.
    pub baseline: Option<Vec<SystemMark>>,
}

/// One lung.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Dice coefficient.
    pub dice: f64,
    /// 95th percentile Hausdorff distance in mm; absent where a mask is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hd95_mm: Option<f64>,
    /// Surface Dice at the protocol's tolerance.
    pub surface_dice: f64,
}

/// Seconds of each stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Files to voxels; absent where the scan has no files, but is rendered each time.
    pub load: Option<f64>,
    /// Quality gate.
    pub preprocess: f64,
    /// Lung segmentation.
    pub segment: f64,
    /// Candidates.
    pub detect: f64,
    /// Measurement and malignancy of all marks down to the lowest score.
    pub classify: f64,
    /// All of these, where all are known.
    pub total: Option<f64>,
}

/// A finding of the reference standard.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Nodule {
    /// Name within the scan.
    pub id: String,
    /// Patient LPS mm.
    pub position_lps_mm: [f64; 3],
    /// Diameter in mm.
    pub diameter_mm: f64,
    /// Volume in mm3, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_mm3: Option<f64>,
    /// Longest diameter in mm on the axial section of largest area, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub long_axis_mm: Option<f64>,
    /// Diameter in mm at right angles to it, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short_axis_mm: Option<f64>,
    /// Lobe, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lobe: Option<String>,
    /// Attenuation class, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Diagnosis, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub malignant: Option<bool>,
    /// Not scored: excluded by the reference standard or by the protocol's diameters.
    pub excluded: bool,
}

/// A mark of a system.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SystemMark {
    /// Patient LPS mm.
    pub position_lps_mm: [f64; 3],
    /// Score.
    pub score: f64,
    /// Diameter in mm, where the system gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diameter_mm: Option<f64>,
    /// Probability of malignancy, where the system gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub malignancy: Option<f64>,
}

/// A scan that was not analysed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rejected {
    /// Name of the case.
    pub case: String,
    /// Centre.
    pub centre: String,
    /// Scored nodules that it holds: nobody looked for them.
    pub nodules: usize,
    /// Why.
    pub reason: String,
}

/// A step from the test split to the scans that were analysed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowStep {
    /// `test-split`, `other-centre`, `no-reference`, the ids of the protocol's eligibility, `quality-gate`; what is left after
    /// the last is analysed.
    pub id: String,
    /// Why, in a sentence.
    pub reason: String,
    /// Left out at this step.
    pub out: Tally,
    /// Left after it.
    pub left: Tally,
}

/// How many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Scans.
    pub scans: usize,
    /// Their patients.
    pub patients: usize,
    /// Their scored nodules; absent where nobody looked for their reference.
    pub nodules: Option<usize>,
}
