//! The JSON of an analysis, as integrators see it: fields may be added, none renamed. Points are patient LPS mm.

use crate::{Analysis, Pipeline};
use lungai_ct::{Characteristics, Finding, Lung};
use lungai_imaging::quality;
use serde::Serialize;

/// `quality`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QualityJson {
    /// `accept`, `warn` or `reject`.
    pub verdict: &'static str,
    /// What is notable, with measured value and limit.
    pub findings: Vec<QualityFindingJson>,
    /// Every value that was measured, also within its limits.
    pub measured: Vec<MeasuredJson>,
}

/// One entry of `quality.measured`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MeasuredJson {
    /// The rule that looks at it.
    pub rule: &'static str,
    /// As measured.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
}

/// One entry of `quality.findings`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QualityFindingJson {
    /// Stable name.
    pub rule: String,
    /// As measured.
    pub value: f64,
    /// As allowed.
    pub limit: f64,
    /// Of both.
    pub unit: String,
    /// `warn` or `reject`.
    pub verdict: &'static str,
}

/// `lungs`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LungsJson {
    /// Left lung in ml.
    pub left_ml: f64,
    /// Right lung in ml.
    pub right_ml: f64,
}

/// One entry of `findings`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FindingJson {
    /// By falling score.
    pub id: u32,
    /// Centre.
    pub position_lps_mm: [f64; 3],
    /// Extent along x, y, z.
    pub size_mm: [f64; 3],
    /// Of the sphere of equal volume.
    pub diameter_mm: f64,
    /// In mm3.
    pub volume_mm3: f64,
    /// Detector score.
    pub score: f64,
    /// Risk estimate.
    pub malignancy: MalignancyJson,
    /// Measures; one that could not be measured is absent.
    pub characteristics: CharacteristicsJson,
}

/// `malignancy` of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MalignancyJson {
    /// `0..=1`.
    pub probability: f64,
    /// `low`, `intermediate` or `high`.
    pub class: &'static str,
    /// `0..=1`.
    pub confidence: f64,
}

/// `characteristics` of a finding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct CharacteristicsJson {
    /// `0..=1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sphericity: Option<f64>,
    /// In HU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_hu: Option<f64>,
    /// In HU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub texture_sd_hu: Option<f64>,
    /// In HU per mm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edge_sharpness: Option<f64>,
    /// Attenuation class.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
}

/// `model`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelJson {
    /// Model name.
    pub name: String,
    /// Model version.
    pub version: String,
    /// Pins every file of the model.
    pub sha256: String,
    /// Whether any training data was synthetic.
    pub synthetic: bool,
}

/// The parts of an analysis; a caller adds its own identifiers and times.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnalysisJson {
    /// Verdict of the quality gate.
    pub quality: QualityJson,
    /// Lung volumes.
    pub lungs: LungsJson,
    /// By falling score.
    pub findings: Vec<FindingJson>,
    /// The threshold that was applied.
    pub operating_threshold: f64,
    /// The model that ran.
    pub model: ModelJson,
}

impl AnalysisJson {
    /// Of what `pipeline` gave.
    pub fn new(analysis: &Analysis, pipeline: &Pipeline) -> Self {
        Self {
            quality: (&analysis.quality).into(),
            lungs: LungsJson {
                left_ml: analysis.lungs.volume_ml(Lung::Left as u8),
                right_ml: analysis.lungs.volume_ml(Lung::Right as u8),
            },
            findings: analysis.findings.iter().map(FindingJson::from).collect(),
            operating_threshold: analysis.operating_threshold,
            model: ModelJson::new(pipeline),
        }
    }
}

impl ModelJson {
    /// Of the model in `pipeline`.
    pub fn new(pipeline: &Pipeline) -> Self {
        let manifest = pipeline.manifest();
        Self {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            sha256: pipeline.model_sha256().to_owned(),
            synthetic: manifest.synthetic,
        }
    }
}

impl From<&quality::Quality> for QualityJson {
    fn from(quality: &quality::Quality) -> Self {
        let findings = quality.findings.iter().map(|finding| QualityFindingJson {
            rule: finding.rule.to_string(),
            value: finding.value,
            limit: finding.limit,
            unit: finding.unit.to_string(),
            verdict: finding.verdict.name(),
        });
        let measured = quality.measured.iter();
        let measured = measured.map(|m| MeasuredJson { rule: m.rule, value: m.value, unit: m.unit });
        Self { verdict: quality.verdict.name(), findings: findings.collect(), measured: measured.collect() }
    }
}

impl From<&Finding> for FindingJson {
    fn from(finding: &Finding) -> Self {
        Self {
            id: finding.id,
            position_lps_mm: finding.position.0,
            size_mm: finding.size_mm,
            diameter_mm: finding.diameter_mm,
            volume_mm3: finding.volume_mm3,
            score: finding.score,
            malignancy: MalignancyJson {
                probability: finding.malignancy.probability,
                class: finding.malignancy.class.name(),
                confidence: finding.malignancy.confidence,
            },
            characteristics: (&finding.characteristics).into(),
        }
    }
}

impl From<&Characteristics> for CharacteristicsJson {
    fn from(measured: &Characteristics) -> Self {
        Self {
            sphericity: measured.sphericity,
            mean_hu: measured.mean_hu,
            texture_sd_hu: measured.texture_sd_hu,
            edge_sharpness: measured.edge_sharpness,
            kind: measured.kind.map(lungai_ct::NoduleKind::name),
        }
    }
}
