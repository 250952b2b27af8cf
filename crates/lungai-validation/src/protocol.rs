//! The protocol: every rule by which a frozen model is judged, written before it is.

use crate::record::{Covariates, Nodule, ScanRecord};
use crate::results::readers::SYSTEM;
use lungai_datasets::Unknown;
use lungai_metrics::decision::Claim;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A protocol file. Every field is required and nothing is assumed; what a study does not have is `null` or empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// Name, for the report.
    pub name: String,
    /// Version, raised with every change.
    pub version: String,
    /// What is to be shown, in a sentence.
    pub purpose: String,
    /// For whom the device is meant, and whom the test set stands for, in a sentence or two.
    pub intended_population: String,
    /// Name of the data set; a manifest of another name is refused.
    pub data_set: String,
    /// The manifest, relative to this file; `--manifest` says otherwise.
    pub manifest: PathBuf,
    /// Table of what the images do not say of a case, relative to the manifest's folder: columns `case`, `sex` (`female`,
    /// `male`, `other`), `age_years` (`0..=120`); `null` where there is none.
    #[serde(deserialize_with = "stated")]
    pub covariates: Option<PathBuf>,
    /// Centres whose test cases count; each must have one. Only the test split is ever looked at.
    pub centres: Vec<String>,
    /// Which of their scans count, in this order: a scan is counted at the first rule that leaves it out.
    pub eligibility: Vec<Eligibility>,
    /// What the system is compared with, and how that was found.
    pub reference_standard: ReferenceStandard,
    /// Reference nodules whose diameter in mm lies within are scored; others are excluded findings.
    pub scored_diameter_mm: [f64; 2],
    /// Which mark finds which nodule.
    pub matching: Matching,
    /// The FROC curve.
    pub froc: FrocRules,
    /// Intervals by resampling.
    pub bootstrap: Bootstrap,
    /// Two-sided confidence level of intervals that decide nothing, between 0 and 1.
    pub confidence_level: f64,
    /// Where the detector is operated: one of the model's named points or a score, as text.
    pub operating_point: String,
    /// Parts of the data that are looked at one by one.
    pub strata: Vec<Stratum>,
    /// Minimum n of a stratum, in nodules: smaller ones are described and not judged.
    pub descriptive_below: usize,
    /// Bins of the calibration error.
    pub calibration_bins: usize,
    /// Probability from which on a nodule counts as called malignant, above 0 and below 1.
    pub malignant_from: f64,
    /// Shares of malignant nodules, above 0 and below 1, for which PPV and NPV are given beside those of the sample, whose mix
    /// is seldom that of a practice. May be empty.
    pub prevalences: Vec<f64>,
    /// Diameters that differ by no more than this factor are alike; above 1.
    pub alike_diameter_ratio: f64,
    /// Tolerance of the surface Dice in mm.
    pub surface_tolerance_mm: f64,
    /// What must hold.
    pub endpoints: Endpoints,
}

/// One rule of inclusion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eligibility {
    /// Name, for the flow diagram.
    pub id: String,
    /// Why, in a sentence.
    pub reason: String,
    /// Scans for which this holds stay in.
    pub keep: Condition,
    /// What becomes of a scan of which it is unknown.
    pub unknown: Unknown,
}

/// A condition on one property. What is not stated is no condition; at least one is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The property.
    pub of: Property,
    /// Lowest value, in the property's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// Values from here on are out, in the property's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// Names that are in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<String>,
}

/// A property of a nodule, a scan or a patient; its unit ends its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Property {
    /// Diameter in mm.
    #[serde(rename = "nodule.diameter_mm")]
    Diameter,
    /// `solid`, `part-solid`, `ground-glass`, `calcified`.
    #[serde(rename = "nodule.kind")]
    Kind,
    /// `right-upper`, `right-middle`, `right-lower`, `left-upper`, `left-lower`.
    #[serde(rename = "nodule.lobe")]
    Lobe,
    /// Name of the centre.
    #[serde(rename = "scan.centre")]
    Centre,
    /// Slice thickness in mm as the scanner states it.
    #[serde(rename = "scan.slice_thickness_mm")]
    SliceThickness,
    /// Distance of slice centres in mm.
    #[serde(rename = "scan.slice_distance_mm")]
    SliceDistance,
    /// Convolution kernel as the scanner states it.
    #[serde(rename = "scan.kernel")]
    Kernel,
    /// Dose: tube current times exposure time in mAs.
    #[serde(rename = "scan.exposure_mas")]
    Exposure,
    /// Tube voltage in kV.
    #[serde(rename = "scan.tube_kv")]
    TubeVoltage,
    /// Vendor as the scanner states it.
    #[serde(rename = "scan.manufacturer")]
    Manufacturer,
    /// Whether a contrast agent is declared: `yes`, `no`.
    #[serde(rename = "scan.contrast")]
    Contrast,
    /// `female`, `male`, `other`.
    #[serde(rename = "patient.sex")]
    Sex,
    /// Age in years at the scan.
    #[serde(rename = "patient.age_years")]
    Age,
}

/// The value of a property.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Known<'a> {
    /// In the property's unit.
    Number(f64),
    /// A name.
    Name(&'a str),
    /// The source does not say.
    No,
}

/// A property by whose values the data are parted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stratum {
    /// The property.
    pub of: Property,
    /// Of a number: edges of the groups in its unit, ascending; each group holds its lower edge, the last is open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edges: Vec<f64>,
    /// Of a name: which names make which group; each is its own where there are no groups.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, Vec<String>>,
}

/// What the system is compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceStandard {
    /// Which nodules there are.
    pub nodules: NoduleStandard,
    /// Which are malignant.
    pub malignancy: MalignancyBasis,
    /// One table for each reader, relative to the manifest's folder: `case`, `x_lps_mm`, `y_lps_mm`, `z_lps_mm`,
    /// `diameter_mm`, `malignancy` (rating from 1 to 5, or empty). The file's name without its ending is the reader's. May be
    /// empty.
    pub readings: Vec<PathBuf>,
    /// Whether every reader read every test scan: one without a line is then a scan without a mark. Otherwise a scan was read
    /// where the table has a line for it, with empty cells but `case` where the reader marked nothing.
    pub every_scan_read: bool,
    /// Whether the report says how far readers agree with each other; needs two of them.
    pub reader_agreement: bool,
    /// Whether the report says how far the system agrees with the readers; needs one of them.
    pub ai_reader_agreement: bool,
}

/// How it is known which nodules there are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoduleStandard {
    /// Where the knowledge comes from.
    pub basis: Basis,
    /// Number of readers, 1 to 50; 0 where the basis is none of readers.
    pub readers: usize,
    /// Whether they saw no output of the system. A standard whose readers saw it is refused.
    pub blinded_to_ai: bool,
    /// How several opinions become one.
    pub consensus: Consensus,
    /// Readers who must have marked a nodule before anyone else decides, 1 to `readers`; 0 where there are no readers.
    pub votes_needed: usize,
    /// How disagreement is settled, in a sentence; `null` where nobody needs to.
    #[serde(deserialize_with = "stated")]
    pub arbitration: Option<String>,
}

/// Where knowledge of nodules comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// People who looked at the images.
    Readers,
    /// The images were computed from it.
    Construction,
}

/// How several readers become one reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consensus {
    /// A nodule is one that `votes_needed` readers marked.
    Votes,
    /// A nodule that fewer than `votes_needed` readers marked is decided by a further reader (`arbitration`).
    Arbitration,
    /// The readers decide together.
    Discussion,
    /// There is but one opinion, or none is needed.
    None,
}

/// How it is known which nodules are malignant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MalignancyBasis {
    /// Tissue, for every nodule with a diagnosis.
    Pathology,
    /// Tissue, or benign by two years without growth.
    PathologyOrFollowUp,
    /// Ratings of readers: an opinion, no diagnosis.
    Readers,
    /// The images were computed from it.
    Construction,
    /// It is not known.
    None,
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
    /// How often, 100 to 100,000: of each the figures are kept until their percentiles are taken.
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

/// What must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoints {
    /// The study succeeds where all of these are shown.
    pub primary: Family,
    /// What is shown besides; may be empty.
    pub secondary: Family,
    /// Whether secondary endpoints are tested only after every primary one was shown.
    pub secondary_after_primary: bool,
}

/// Criteria whose errors are counted together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Family {
    /// One-sided probability of showing what is not so, above 0 and below 0.5: the bound of a criterion is that of the
    /// two-sided interval at `1 - 2 alpha`.
    pub alpha: f64,
    /// How several criteria share it.
    pub multiplicity: Multiplicity,
    /// The criteria, in the order of their hierarchy.
    pub criteria: Vec<Criterion>,
}

/// How several criteria share one probability of error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Multiplicity {
    /// All must hold together, so each has the whole alpha (intersection-union test; Berger, Technometrics 1982;24:295).
    AllMustHold,
    /// One after the other, each with the whole alpha; after the first that fails none is tested (Maurer 1995).
    FixedSequence,
    /// Holm's step-down procedure (Scand J Stat 1979;6:65). Every criterion must be on a bound.
    Holm,
    /// Each has the whole alpha and nothing is made of their number: for description.
    Unadjusted,
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
    /// Further conditions on what counts: of nodules for sensitivity and AUC, of scans for every figure. Empty: all.
    pub population: Vec<Condition>,
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

impl Property {
    /// As in the protocol.
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|v| v.as_str().map(str::to_owned)).expect("a plain name")
    }

    /// Whether its values are numbers.
    pub fn is_number(self) -> bool {
        use Property::{Age, Diameter, Exposure, SliceDistance, SliceThickness, TubeVoltage};
        matches!(self, Diameter | SliceThickness | SliceDistance | Exposure | TubeVoltage | Age)
    }

    /// Whether nodules of one scan may differ in it.
    pub fn is_of_nodules(self) -> bool {
        matches!(self, Self::Diameter | Self::Kind | Self::Lobe)
    }

    /// Of a scan or patient; `No` for a property of nodules.
    pub fn of_scan<'a>(self, centre: &'a str, covariates: &'a Covariates) -> Known<'a> {
        let number = |value: Option<f64>| value.map_or(Known::No, Known::Number);
        let name = |value: &'a Option<String>| value.as_deref().map_or(Known::No, Known::Name);
        match self {
            Self::Diameter | Self::Kind | Self::Lobe => Known::No,
            Self::Centre => Known::Name(centre),
            Self::SliceThickness => number(covariates.slice_thickness_mm),
            Self::SliceDistance => number(covariates.slice_distance_mm),
            Self::Kernel => name(&covariates.kernel),
            Self::Exposure => number(covariates.exposure_mas),
            Self::TubeVoltage => number(covariates.tube_kv),
            Self::Manufacturer => name(&covariates.manufacturer),
            Self::Contrast => covariates.contrast.map_or(Known::No, |yes| Known::Name(if yes { "yes" } else { "no" })),
            Self::Sex => name(&covariates.sex),
            Self::Age => number(covariates.age_years),
        }
    }

    /// Of a nodule, or of the scan that it is in.
    pub fn of_nodule<'a>(self, scan: &'a ScanRecord, nodule: &'a Nodule) -> Known<'a> {
        let name = |value: &'a Option<String>| value.as_deref().map_or(Known::No, Known::Name);
        match self {
            Self::Diameter => Known::Number(nodule.diameter_mm),
            Self::Kind => name(&nodule.kind),
            Self::Lobe => name(&nodule.lobe),
            _ => self.of_scan(&scan.centre, &scan.covariates),
        }
    }
}

impl Condition {
    /// Whether a value is in; `None` where it is unknown.
    pub fn holds(&self, value: Known<'_>) -> Option<bool> {
        match value {
            Known::Number(v) => {
                Some(self.at_least.is_none_or(|low| v >= low) && self.below.is_none_or(|high| v < high))
            }
            Known::Name(name) => Some(self.one_of.iter().any(|one| one == name)),
            Known::No => None,
        }
    }

    /// For reports: `scan.slice_thickness_mm >= 0.5 and < 3`.
    pub fn words(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.at_least.map(|low| format!(">= {low}")));
        parts.extend(self.below.map(|high| format!("< {high}")));
        if !self.one_of.is_empty() {
            parts.push(format!("one of {}", self.one_of.join(", ")));
        }
        format!("{} {}", self.of.name(), parts.join(" and "))
    }

    fn check(&self, at: &str) -> Result<(), String> {
        let bounds = [self.at_least, self.below];
        let numbers = bounds.iter().flatten().count();
        if self.of.is_number() {
            let [low, high] = [self.at_least.unwrap_or(f64::NEG_INFINITY), self.below.unwrap_or(f64::INFINITY)];
            require(numbers > 0 && self.one_of.is_empty(), || {
                format!("{at}: {} has at_least or below", self.of.name())
            })?;
            require(bounds.iter().flatten().all(|v| v.is_finite()) && low < high, || format!("{at}: an empty range"))
        } else {
            require(numbers == 0 && !self.one_of.is_empty(), || format!("{at}: {} has one_of", self.of.name()))
        }
    }
}

impl Stratum {
    /// Name of the group that a value falls into: `unknown` where there is no value, `other` beyond all groups.
    pub fn group_of(&self, value: Known<'_>) -> String {
        match value {
            Known::No => "unknown".into(),
            Known::Number(v) => {
                let above = self.edges.partition_point(|edge| *edge <= v);
                above.checked_sub(1).map_or("other".into(), |at| self.range(at))
            }
            Known::Name(name) if self.groups.is_empty() => name.into(),
            Known::Name(name) => {
                let group = self.groups.iter().find(|(_, names)| names.iter().any(|one| one == name));
                group.map_or("other", |(group, _)| group).into()
            }
        }
    }

    /// The groups in the order of a table: those that the protocol names, then those that `present` adds.
    pub fn names(&self, present: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut names: Vec<String> =
            if self.of.is_number() { (0..self.edges.len()).map(|at| self.range(at)).collect() } else { vec![] };
        names.extend(self.groups.keys().cloned());
        let mut added: Vec<String> = present.into_iter().filter(|name| !names.contains(name)).collect();
        // What nobody asked about comes last.
        added.sort_by_key(|name| (name == "unknown", name == "other", name.clone()));
        added.dedup();
        names.extend(added);
        names
    }

    fn range(&self, at: usize) -> String {
        let unit = match self.of {
            Property::Exposure => "mAs",
            Property::TubeVoltage => "kV",
            Property::Age => "years",
            _ => "mm",
        };
        let low = self.edges[at];
        match self.edges.get(at + 1) {
            Some(high) => format!("{low} to < {high} {unit}"),
            None => format!("{low} {unit} and more"),
        }
    }
}

impl Protocol {
    /// Criteria of both families, primary ones first.
    pub fn criteria(&self) -> impl Iterator<Item = &Criterion> {
        self.endpoints.primary.criteria.iter().chain(&self.endpoints.secondary.criteria)
    }

    /// Edges of the size groups in mm; empty where sizes are no stratum.
    pub fn size_edges_mm(&self) -> &[f64] {
        self.strata.iter().find(|s| s.of == Property::Diameter).map_or(&[], |s| &s.edges)
    }

    /// Values that no type refuses.
    pub fn check(&self) -> Result<(), String> {
        let positive = |v: f64| v.is_finite() && v > 0.0;
        let [low, high] = self.scored_diameter_mm;
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
            ((100..=100_000).contains(&self.bootstrap.replicates), "bootstrap.replicates: from 100 to 100000"),
            (self.confidence_level > 0.0 && self.confidence_level < 1.0, "confidence_level: between 0 and 1"),
            (self.calibration_bins > 0, "calibration_bins: above 0"),
            (0.0 < self.malignant_from && self.malignant_from < 1.0, "malignant_from: above 0 and below 1"),
            (
                self.prevalences.iter().all(|p| 0.0 < *p && *p < 1.0) && ascending(&self.prevalences),
                "prevalences: ascending, above 0 and below 1",
            ),
            (self.alike_diameter_ratio > 1.0 && self.alike_diameter_ratio.is_finite(), "alike_diameter_ratio: above 1"),
            (self.surface_tolerance_mm >= 0.0, "surface_tolerance_mm: from 0"),
            (!self.endpoints.primary.criteria.is_empty(), "endpoints.primary.criteria: at least one"),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, rule)| Err(rule.to_owned()))?;
        self.check_parts()?;
        self.reference_standard.check()?;
        let mut ids = Vec::new();
        for (name, family) in [("primary", &self.endpoints.primary), ("secondary", &self.endpoints.secondary)] {
            let at = format!("endpoints.{name}");
            require(family.alpha > 0.0 && family.alpha < 0.5, || format!("{at}.alpha: above 0 and below 0.5"))?;
            // The smallest alpha that may be asked of a bound leaves some replicates beyond it.
            let shared = match family.multiplicity {
                Multiplicity::Holm => family.alpha / family.criteria.len().max(1) as f64,
                _ => family.alpha,
            };
            let beyond = self.bootstrap.replicates as f64 * shared;
            require(beyond >= 2.0, || {
                format!("bootstrap.replicates: too few for {at}.alpha, {beyond:.1} beyond a bound")
            })?;
            for criterion in &family.criteria {
                let id = &criterion.id;
                require(!ids.contains(&id), || format!("{at}: criterion {id} occurs twice"))?;
                ids.push(id);
                criterion.check(id)?;
                let by_value = criterion.on == On::Value && family.multiplicity == Multiplicity::Holm;
                require(!by_value, || format!("{at}: Holm's procedure needs a bound, criterion {id} is on the value"))?;
            }
        }
        Ok(())
    }

    fn check_parts(&self) -> Result<(), String> {
        let mut ids = Vec::new();
        for rule in &self.eligibility {
            let at = format!("eligibility {}", rule.id);
            require(!ids.contains(&&rule.id), || format!("{at}: occurs twice"))?;
            ids.push(&rule.id);
            require(!rule.keep.of.is_of_nodules(), || {
                format!("{at}: {} is no property of scans", rule.keep.of.name())
            })?;
            rule.keep.check(&at)?;
        }
        let mut parted = Vec::new();
        for stratum in &self.strata {
            let name = stratum.of.name();
            require(!parted.contains(&stratum.of), || format!("strata: {name} occurs twice"))?;
            parted.push(stratum.of);
            if stratum.of.is_number() {
                let edges = &stratum.edges;
                require(!edges.is_empty() && ascending(edges), || format!("strata: edges of {name}, ascending"))?;
                require(stratum.groups.is_empty(), || format!("strata: {name} has edges and no groups"))?;
            } else {
                require(stratum.edges.is_empty(), || format!("strata: {name} has groups and no edges"))?;
                let mut names: Vec<&String> = stratum.groups.values().flatten().collect();
                let all = names.len();
                names.sort_unstable();
                names.dedup();
                require(names.len() == all, || format!("strata: a name of {name} is in two groups"))?;
            }
        }
        Ok(())
    }
}

impl ReferenceStandard {
    fn check(&self) -> Result<(), String> {
        let NoduleStandard { basis, readers, blinded_to_ai, consensus, votes_needed, arbitration } = &self.nodules;
        let at = "reference_standard";
        let read = *basis == Basis::Readers;
        require(*readers <= 50, || format!("{at}.nodules.readers: at most 50"))?;
        require(read == (*readers > 0), || {
            format!("{at}.nodules.readers: above 0 if and only if the basis is readers")
        })?;
        require(*blinded_to_ai, || {
            format!("{at}.nodules.blinded_to_ai: readers who saw the system's output are no reference")
        })?;
        let votes = if read { 1..=*readers } else { 0..=0 };
        require(votes.contains(votes_needed), || {
            format!("{at}.nodules.votes_needed: from 1 to readers, 0 without readers")
        })?;
        let settled = *consensus != Consensus::None || *readers < 2;
        require(settled, || format!("{at}.nodules.consensus: several readers need a rule"))?;
        let named = *consensus != Consensus::Arbitration || arbitration.is_some();
        require(named, || format!("{at}.nodules.arbitration: say who decides"))?;
        let n = self.readings.len();
        let mut names: Vec<_> = self.readings.iter().map(|table| table.file_stem().unwrap_or_default()).collect();
        names.sort_unstable();
        require(names.windows(2).all(|pair| pair[0] != pair[1]), || {
            format!("{at}.readings: two tables are of one reader")
        })?;
        require(names.iter().all(|name| *name != SYSTEM), || {
            format!("{at}.readings: `{SYSTEM}` is what reports call the system")
        })?;
        require(!self.reader_agreement || n >= 2, || {
            format!("{at}.readings: reader_agreement needs two tables, not {n}")
        })?;
        require(!self.ai_reader_agreement || n >= 1, || format!("{at}.readings: ai_reader_agreement needs a table"))
    }
}

impl Criterion {
    /// What must be shown of an interval.
    pub fn claim(&self) -> Claim {
        match self.op {
            Op::AtLeast => Claim::AtLeast(self.limit),
            Op::Above => Claim::Above(self.limit),
            Op::AtMost => Claim::AtMost(self.limit),
            Op::Below => Claim::Below(self.limit),
        }
    }

    fn check(&self, id: &str) -> Result<(), String> {
        let wrong_bound = match self.op {
            Op::AtLeast | Op::Above => On::CiUpper,
            Op::AtMost | Op::Below => On::CiLower,
        };
        require(self.on != wrong_bound, || {
            let (op, on) = (self.op.sign(), self.on.words());
            format!("criterion {id}: `{op}` on the {on} would show nothing: the other bound decides")
        })?;
        let of_nodules = [Metric::Sensitivity, Metric::Auc, Metric::AucFound].contains(&self.metric);
        require(self.limit.is_finite(), || format!("criterion {id}: a limit is a number"))?;
        require(self.diameter_at_least_mm == 0.0 || of_nodules, || {
            format!("criterion {id}: diameter_at_least_mm is 0 for a figure that is not of nodules")
        })?;
        for condition in &self.population {
            let at = format!("criterion {id}, population");
            require(of_nodules || !condition.of.is_of_nodules(), || {
                format!("{at}: {} is no property of what the figure is of", condition.of.name())
            })?;
            condition.check(&at)?;
        }
        Ok(())
    }
}

fn ascending(values: &[f64]) -> bool {
    values.windows(2).all(|w| w[0] < w[1]) && values.iter().all(|v| v.is_finite())
}

fn require(holds: bool, rule: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(rule()) }
}

/// A field that must be written even where it is `null`.
fn stated<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::protocol;

    fn check_refused(change: impl FnOnce(&mut Protocol), expected: &str) {
        let mut wrong = protocol();
        change(&mut wrong);
        assert_eq!(wrong.check().unwrap_err(), expected);
    }

    #[test]
    fn a_protocol_that_makes_no_sense_is_refused_with_its_rule() {
        check_refused(|p| p.froc.rates = vec![2.0, 1.0], "froc.rates: ascending, above 0");
        check_refused(
            |p| p.endpoints.primary.criteria[0].on = On::CiUpper,
            "criterion FR-003.1: `>=` on the upper bound would show nothing: the other bound decides",
        );
        check_refused(
            |p| p.endpoints.primary.criteria[3].on = On::CiLower,
            "criterion FR-004.2: `<=` on the lower bound would show nothing: the other bound decides",
        );
        check_refused(|p| p.bootstrap.replicates = 1_000_000, "bootstrap.replicates: from 100 to 100000");
        check_refused(|p| p.prevalences = vec![0.1, 1.0], "prevalences: ascending, above 0 and below 1");
        check_refused(|p| p.confidence_level = 95.0, "confidence_level: between 0 and 1");
        check_refused(|p| p.endpoints.primary.alpha = 0.5, "endpoints.primary.alpha: above 0 and below 0.5");
        check_refused(
            |p| p.endpoints.primary.alpha = 0.001,
            "bootstrap.replicates: too few for endpoints.primary.alpha, 1.0 beyond a bound",
        );
        check_refused(
            |p| p.endpoints.primary.multiplicity = Multiplicity::Holm,
            "endpoints.primary: Holm's procedure needs a bound, criterion FR-005.2 is on the value",
        );
        check_refused(
            |p| p.endpoints.secondary.criteria = vec![p.endpoints.primary.criteria[0].clone()],
            "endpoints.secondary: criterion FR-003.1 occurs twice",
        );
        check_refused(
            |p| p.endpoints.primary.criteria[1].diameter_at_least_mm = 6.0,
            "criterion FR-003.2: diameter_at_least_mm is 0 for a figure that is not of nodules",
        );
        let of_nodules = Condition { of: Property::Kind, at_least: None, below: None, one_of: vec!["solid".into()] };
        check_refused(
            |p| p.endpoints.primary.criteria[0].population = vec![of_nodules.clone()],
            "criterion FR-003.1, population: nodule.kind is no property of what the figure is of",
        );
        check_refused(
            |p| p.eligibility[0].keep = of_nodules.clone(),
            "eligibility slice-thickness: nodule.kind is no property of scans",
        );
        check_refused(|p| p.eligibility[0].keep.at_least = Some(5.0), "eligibility slice-thickness: an empty range");
        check_refused(|p| p.strata[0].edges = vec![], "strata: edges of nodule.diameter_mm, ascending");
        check_refused(|p| p.strata[1].of = Property::Diameter, "strata: nodule.diameter_mm occurs twice");
    }

    #[test]
    fn a_reference_standard_must_be_one() {
        let readers = |p: &mut Protocol| {
            let nodules = &mut p.reference_standard.nodules;
            (nodules.basis, nodules.readers, nodules.votes_needed) = (Basis::Readers, 3, 2);
            nodules.consensus = Consensus::Votes;
        };
        let mut good = protocol();
        readers(&mut good);
        good.check().unwrap();
        let check = |change: &dyn Fn(&mut ReferenceStandard), expected: &str| {
            check_refused(
                |p| {
                    readers(p);
                    change(&mut p.reference_standard);
                },
                &format!("reference_standard.{expected}"),
            );
        };
        check(
            &|s| s.nodules.blinded_to_ai = false,
            "nodules.blinded_to_ai: readers who saw the system's output are no reference",
        );
        check(&|s| s.nodules.votes_needed = 4, "nodules.votes_needed: from 1 to readers, 0 without readers");
        check(&|s| s.nodules.consensus = Consensus::None, "nodules.consensus: several readers need a rule");
        check(&|s| s.nodules.consensus = Consensus::Arbitration, "nodules.arbitration: say who decides");
        check(&|s| s.nodules.readers = 0, "nodules.readers: above 0 if and only if the basis is readers");
        check(&|s| s.readings[1] = "other/r1.csv".into(), "readings: two tables are of one reader");
        check(&|s| s.readings[1] = "AI.csv".into(), "readings: `AI` is what reports call the system");
        check(&|s| s.readings.truncate(1), "readings: reader_agreement needs two tables, not 1");
        let ai_alone = |s: &mut ReferenceStandard| {
            s.reader_agreement = false;
            s.readings.clear();
        };
        check(&ai_alone, "readings: ai_reader_agreement needs a table");
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_line_and_the_nearest_one() {
        let text = include_str!("../../../validation/phantom-small.yaml");
        let check = |from: &str, to: &str, expected: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("p.yaml");
            let changed = text.replacen(from, to, 1);
            std::fs::write(&path, &changed).unwrap();
            let line = changed.lines().position(|line| line.contains(to)).map_or(0, |at| at + 1);
            let message = lungai_datasets::read_yaml::<Protocol>(&path).unwrap_err().to_string();
            assert!(message.starts_with(&format!("p.yaml, line {line}: ")) && message.ends_with(expected), "{message}");
        };
        check("eligibility:", "eligibilty:", "did you mean `eligibility`?");
        check("multiplicity: all", "multiplicty: all", "did you mean `multiplicity`?");
        check("nodule.lobe", "nodule.lobes", "did you mean `nodule.lobe`?");
        let absent = text.replacen("covariates: null\n", "", 1);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.yaml");
        std::fs::write(&path, absent).unwrap();
        let message = lungai_datasets::read_yaml::<Protocol>(&path).unwrap_err().to_string();
        assert!(message.contains("missing field `covariates`"), "{message}");
    }

    #[test]
    fn strata_have_a_group_for_every_value() {
        let of_size = Stratum { of: Property::Diameter, edges: vec![3.0, 6.0], groups: BTreeMap::new() };
        for (mm, group) in [(2.9, "other"), (3.0, "3 to < 6 mm"), (5.99, "3 to < 6 mm"), (6.0, "6 mm and more")] {
            assert_eq!(of_size.group_of(Known::Number(mm)), group);
        }
        let kernels = [("soft".to_owned(), vec!["B30f".to_owned(), "STANDARD".to_owned()])];
        let of_kernel = Stratum { of: Property::Kernel, edges: vec![], groups: kernels.into() };
        assert_eq!(of_kernel.group_of(Known::Name("STANDARD")), "soft");
        assert_eq!(of_kernel.group_of(Known::Name("B60f")), "other");
        assert_eq!(of_kernel.group_of(Known::No), "unknown");
        let present = ["unknown", "other", "soft", "other"].map(str::to_owned);
        assert_eq!(of_kernel.names(present), ["soft", "other", "unknown"]);
        assert_eq!(of_size.names([]), ["3 to < 6 mm", "6 mm and more"]);
    }
}
