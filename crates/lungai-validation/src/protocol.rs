//! The protocol: every rule by which a frozen model is judged, written before it is.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A protocol file. Every field is required and nothing is assumed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// Name, for the report.
    pub name: String,
    /// Version, raised with every change.
    pub version: String,
    /// What is to be shown, in a sentence.
    pub purpose: String,
    /// Name of the data set; a manifest of another name is refused.
    pub data_set: String,
    /// The manifest, relative to this file; `--manifest` says otherwise.
    pub manifest: PathBuf,
    /// Centres whose test cases count; each must have one. Only the test split is ever looked at.
    pub centres: Vec<String>,
    /// Reference nodules whose diameter in mm lies within are scored; others are excluded findings.
    pub scored_diameter_mm: [f64; 2],
    /// Which mark finds which nodule.
    pub matching: Matching,
    /// The FROC curve.
    pub froc: FrocRules,
    /// Intervals by resampling.
    pub bootstrap: Bootstrap,
    /// Two-sided confidence level, between 0 and 1.
    pub confidence_level: f64,
    /// Where the detector is operated: one of the model's named points or a score, as text.
    pub operating_point: String,
    /// Edges of size groups in mm, ascending; the last group is open.
    pub size_groups_mm: Vec<f64>,
    /// Groups with fewer nodules are described and not judged.
    pub descriptive_below: usize,
    /// Bins of the calibration error.
    pub calibration_bins: usize,
    /// Tolerance of the surface Dice in mm.
    pub surface_tolerance_mm: f64,
    /// What must hold.
    pub criteria: Vec<Criterion>,
}

/// Which mark finds which nodule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matching {
    /// The rule that decides.
    pub hit: Hit,
    /// Distance in mm of a second rule, reported beside it: localisation rules differ between fields.
    pub second_hit_mm: f64,
    /// Diameter in mm of excluded findings without one.
    pub unknown_diameter_mm: f64,
    /// Marks of one scan that count at most.
    pub marks_per_scan: usize,
}

/// How near a mark must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hit {
    /// Nearer than the nodule's radius (LUNA16).
    WithinRadius,
    /// Nearer than `second_hit_mm`.
    WithinSecond,
}

/// The FROC curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrocRules {
    /// False positives per scan at which sensitivity is reported, ascending.
    pub rates: Vec<f64>,
    /// Between two points.
    pub interpolation: Between,
    /// Score above which marks are drawn into the curve, `0..=1`: low, so that the curve reaches the highest rate.
    pub lowest_score: f64,
}

/// Reading between two points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Between {
    /// On the straight line.
    Linear,
    /// The first point at or above the rate.
    FirstAtOrAbove,
}

/// Intervals by resampling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bootstrap {
    /// How often.
    pub replicates: usize,
    /// Where chance starts.
    pub seed: u64,
    /// What is drawn.
    pub unit: Unit,
}

/// What a bootstrap draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Patients with all their scans.
    Patient,
}

/// What must hold of one figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Criterion {
    /// Its id among the requirement's criteria.
    pub id: String,
    /// The requirement that it belongs to.
    pub requirement: String,
    /// Which figure.
    pub metric: Metric,
    /// Nodules of at least this diameter in mm count; 0 where the figure is not of nodules or all count.
    pub diameter_at_least_mm: f64,
    /// Direction.
    pub op: Op,
    /// Limit.
    pub limit: f64,
    /// What is compared with the limit.
    pub on: On,
}

/// A figure that a criterion can be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Metric {
    /// Mean Dice of the right lung.
    #[serde(rename = "lung.dice_right")]
    DiceRight,
    /// Mean Dice of the left lung.
    #[serde(rename = "lung.dice_left")]
    DiceLeft,
    /// Sensitivity at the operating point.
    #[serde(rename = "detection.sensitivity")]
    Sensitivity,
    /// False positives per scan at the operating point.
    #[serde(rename = "detection.fp_per_scan")]
    FalsePositives,
    /// Mean sensitivity at 1/8 to 8 false positives per scan.
    #[serde(rename = "detection.cpm")]
    Cpm,
    /// CPM less that of the threshold-and-blob baseline on the same scans.
    #[serde(rename = "detection.cpm_over_baseline")]
    CpmOverBaseline,
    /// AUC of malignancy over all nodules with a diagnosis; one that the detector missed scores 0.
    #[serde(rename = "malignancy.auc")]
    Auc,
    /// AUC of malignancy over found nodules.
    #[serde(rename = "malignancy.auc_found")]
    AucFound,
    /// Expected calibration error over found nodules.
    #[serde(rename = "malignancy.calibration_error")]
    CalibrationError,
    /// Seconds of lung segmentation, 95th percentile over scans.
    #[serde(rename = "time.segment_s")]
    Segment,
    /// Seconds of detection, 95th percentile over scans.
    #[serde(rename = "time.detect_s")]
    Detect,
    /// Seconds of measurement and classification for one mark, 95th percentile over scans.
    #[serde(rename = "time.classify_s")]
    Classify,
    /// Seconds of a scan from files to findings, 95th percentile over scans.
    #[serde(rename = "time.total_s")]
    Total,
}

/// Direction of a criterion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// At least.
    #[serde(rename = ">=")]
    AtLeast,
    /// Above.
    #[serde(rename = ">")]
    Above,
    /// At most.
    #[serde(rename = "<=")]
    AtMost,
    /// Below.
    #[serde(rename = "<")]
    Below,
}

/// What a criterion compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// The figure itself.
    Value,
    /// Its lower confidence bound.
    CiLower,
    /// Its upper confidence bound.
    CiUpper,
}

impl Op {
    /// Whether `figure` is on the right side of `limit`.
    pub fn holds(self, figure: f64, limit: f64) -> bool {
        match self {
            Self::AtLeast => figure >= limit,
            Self::Above => figure > limit,
            Self::AtMost => figure <= limit,
            Self::Below => figure < limit,
        }
    }

    /// `>=` and so on.
    pub fn sign(self) -> &'static str {
        match self {
            Self::AtLeast => ">=",
            Self::Above => ">",
            Self::AtMost => "<=",
            Self::Below => "<",
        }
    }
}

impl On {
    /// For tables.
    pub fn words(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::CiLower => "lower bound",
            Self::CiUpper => "upper bound",
        }
    }
}

impl Metric {
    /// As in the protocol.
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|v| v.as_str().map(str::to_owned)).expect("a plain name")
    }
}

impl Protocol {
    /// Values that no type refuses.
    pub fn check(&self) -> Result<(), String> {
        let ascending = |values: &[f64]| values.windows(2).all(|w| w[0] < w[1]) && values.iter().all(|v| v.is_finite());
        let positive = |v: f64| v.is_finite() && v > 0.0;
        let [low, high] = self.scored_diameter_mm;
        let metrics_of_nodules = [Metric::Sensitivity, Metric::Auc, Metric::AucFound];
        let rules = [
            (!self.centres.is_empty(), "centres: at least one"),
            (low >= 0.0 && low < high, "scored_diameter_mm: two values, ascending, from 0"),
            (positive(self.matching.second_hit_mm), "matching.second_hit_mm: above 0"),
            (positive(self.matching.unknown_diameter_mm), "matching.unknown_diameter_mm: above 0"),
            (self.matching.marks_per_scan > 0, "matching.marks_per_scan: above 0"),
            (
                !self.froc.rates.is_empty() && ascending(&self.froc.rates) && self.froc.rates[0] > 0.0,
                "froc.rates: ascending, above 0",
            ),
            ((0.0..=1.0).contains(&self.froc.lowest_score), "froc.lowest_score: from 0 to 1"),
            (self.bootstrap.replicates >= 100, "bootstrap.replicates: at least 100"),
            (self.confidence_level > 0.0 && self.confidence_level < 1.0, "confidence_level: between 0 and 1"),
            (!self.size_groups_mm.is_empty() && ascending(&self.size_groups_mm), "size_groups_mm: ascending"),
            (self.calibration_bins > 0, "calibration_bins: above 0"),
            (self.surface_tolerance_mm >= 0.0, "surface_tolerance_mm: from 0"),
            (!self.criteria.is_empty(), "criteria: at least one"),
            (
                self.criteria.iter().all(|c| c.diameter_at_least_mm == 0.0 || metrics_of_nodules.contains(&c.metric)),
                "criteria: diameter_at_least_mm is 0 for a figure that is not of nodules",
            ),
            (self.criteria.iter().all(|c| c.limit.is_finite()), "criteria: a limit is a number"),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, rule)| Err(rule.to_owned()))
    }
}
