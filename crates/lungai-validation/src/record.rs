//! What one scan gave: everything that figures are computed from, and nothing computed.

use serde::Serialize;

/// A scan that was analysed.
#[derive(Debug, Clone, Serialize)]
pub struct ScanRecord {
    /// Name of the case.
    pub case: String,
    /// Pseudonym.
    pub patient: String,
    /// Centre.
    pub centre: String,
    /// `accept` or `warn`.
    pub quality: String,
    /// Rules of the quality gate that the scan is beyond.
    pub quality_rules: Vec<String>,
    /// Against the reference mask, where there is one: right and left.
    pub lungs: Option<[Side; 2]>,
    /// Time.
    pub seconds: Seconds,
    /// The reference standard.
    pub nodules: Vec<Nodule>,
    /// Marks of the system, by falling score.
    pub marks: Vec<SystemMark>,
    /// Marks of the baseline.
    pub baseline: Vec<SystemMark>,
}

/// One lung.
#[derive(Debug, Clone, Copy, Serialize)]
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
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Seconds {
    /// Files to voxels.
    pub load: f64,
    /// Quality gate.
    pub preprocess: f64,
    /// Lung segmentation.
    pub segment: f64,
    /// Candidates.
    pub detect: f64,
    /// Measurement and malignancy of all marks down to the lowest score.
    pub classify: f64,
    /// All of these.
    pub total: f64,
}

/// A finding of the reference standard.
#[derive(Debug, Clone, Serialize)]
pub struct Nodule {
    /// Name within the scan.
    pub id: String,
    /// Patient LPS mm.
    pub position_lps_mm: [f64; 3],
    /// Diameter in mm.
    pub diameter_mm: f64,
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
#[derive(Debug, Clone, Copy, Serialize)]
pub struct SystemMark {
    /// Patient LPS mm.
    pub position_lps_mm: [f64; 3],
    /// Score.
    pub score: f64,
    /// Diameter in mm.
    pub diameter_mm: f64,
    /// Probability of malignancy, where the system gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub malignancy: Option<f64>,
}

/// A scan that was not analysed.
#[derive(Debug, Clone, Serialize)]
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
