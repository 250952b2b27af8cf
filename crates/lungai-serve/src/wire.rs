//! The JSON that clients read. Points are patient LPS mm `[x, y, z]`.

use crate::analyse::{Analysed, Failure, Model, Networks, Quality, Verdict};
use lungai_ct::{Finding, MalignancyClass};
use lungai_trace::implements;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An upload was accepted.
#[derive(Debug, Serialize, ToSchema)]
pub struct Accepted {
    /// Random; where to ask for the result.
    pub analysis_id: String,
    /// `queued`; of a repeated request whatever the analysis has come to.
    pub status: String,
}

/// Studies that were received before, to be analysed again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// 1 to 100 of them.
    #[schema(min_items = 1, max_items = 100)]
    pub studies: Vec<StudyRef>,
}

/// A study that was received before.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StudyRef {
    /// DICOM Study Instance UID.
    pub study_id: String,
    /// DICOM Series Instance UID; the largest series where absent.
    #[serde(default)]
    pub series_id: Option<String>,
}

/// A batch was accepted as a whole.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchAccepted {
    /// One per study, in the same order.
    pub analyses: Vec<Accepted>,
}

/// State of an analysis, and what came of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnalysisReply {
    /// Its id.
    pub analysis_id: String,
    /// `queued`, `running`, `succeeded`, `failed` or `rejected`.
    #[schema(pattern = "^(queued|running|succeeded|failed|rejected)$")]
    pub status: String,
    /// Of an analysis that succeeded or was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<AnalysisResult>, nullable = false)]
    pub result: Option<serde_json::Value>,
    /// Of an analysis that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<Failure>,
}

/// State of the service.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `starting`, `ok`, `stopping` or `failing` (the database does not answer).
    pub status: &'static str,
    /// Which networks are loaded and verified.
    pub models_loaded: Networks,
    /// `cpu`, `cuda:0`, ...; `none` while starting.
    pub device: String,
    /// Now, RFC 3339 in UTC.
    pub timestamp: String,
}

/// What an analysis came to.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnalysisResult {
    /// DICOM Patient ID.
    pub patient_id: Option<String>,
    /// DICOM Study Instance UID.
    pub study_id: Option<String>,
    /// DICOM Series Instance UID of the series that was analysed.
    pub series_id: String,
    /// Series of the same study that were not.
    pub series_not_analysed: Vec<String>,
    /// When it ended, RFC 3339 in UTC.
    pub timestamp: String,
    /// Verdict of the quality gate.
    pub quality: Quality,
    /// Number of nodules. This and the next four are absent where the quality gate rejected the images.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub num_nodules: Option<usize>,
    /// By falling score.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub nodules: Option<Vec<Nodule>>,
    /// Highest malignancy class among them: `low`, `intermediate` or `high`; `none-marked` without nodules.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub risk_assessment: Option<&'static str>,
    /// Least score that is reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub operating_threshold: Option<f64>,
    /// Volumes of the lungs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub lungs: Option<Lungs>,
    /// For the physician who decides.
    pub recommendations: Vec<String>,
    /// Seconds, reading included, waiting not.
    pub processing_time: f64,
    /// The model that was used.
    pub model: Model,
}

/// Volumes of the lungs.
#[derive(Debug, Serialize, ToSchema)]
pub struct Lungs {
    /// In ml.
    pub left_ml: f64,
    /// In ml.
    pub right_ml: f64,
}

/// A nodule. `position`, `size`, `volume` and `malignancy_*` repeat what the longer names say, for older clients.
#[derive(Debug, Serialize, ToSchema)]
pub struct Nodule {
    /// 1, 2, ... by falling score.
    pub id: u32,
    /// Centre.
    pub position_lps_mm: [f64; 3],
    /// Extent along x, y and z in mm.
    pub size_mm: [f64; 3],
    /// Of the sphere of equal volume.
    pub diameter_mm: f64,
    /// In mm3.
    pub volume_mm3: f64,
    /// Of the detector, 0..=1.
    pub score: f64,
    /// Risk estimate.
    pub malignancy: MalignancyBody,
    /// What was measured.
    pub characteristics: CharacteristicsBody,
    /// As `id`.
    pub nodule_id: u32,
    /// As `position_lps_mm`.
    pub position: [f64; 3],
    /// As `size_mm`.
    pub size: [f64; 3],
    /// As `volume_mm3`.
    pub volume: f64,
    /// As `malignancy.probability`.
    pub malignancy_score: f64,
    /// As `malignancy.class`.
    pub malignancy_class: &'static str,
    /// As `malignancy.confidence`.
    pub confidence: f64,
}

/// A risk estimate, no diagnosis.
#[derive(Debug, Serialize, ToSchema)]
pub struct MalignancyBody {
    /// 0..=1.
    pub probability: f64,
    /// `low`, `intermediate` or `high`.
    pub class: &'static str,
    /// Distance from the undecided 0.5, doubled: 0..=1.
    pub confidence: f64,
}

/// What was measured on the voxels; absent where it could not be.
#[derive(Debug, Serialize, ToSchema)]
pub struct CharacteristicsBody {
    /// 0..=1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub sphericity: Option<f64>,
    /// HU.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub mean_hu: Option<f64>,
    /// Standard deviation in HU.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub texture_sd_hu: Option<f64>,
    /// HU per mm across the border.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub edge_sharpness: Option<f64>,
    /// `solid`, `part-solid`, `ground-glass` or `calcified`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub kind: Option<&'static str>,
}

impl AnalysisResult {
    /// - `timestamp`: when the analysis ended, RFC 3339
    /// - `processing_time`: in seconds
    #[implements("IR-002", "FR-004", "FR-005", "SW-501")]
    pub fn new(analysed: Analysed, model: Model, timestamp: String, processing_time: f64) -> Self {
        let recommendations = recommendations(&analysed, model.synthetic);
        let outcome = analysed.outcome.as_ref();
        let findings = outcome.map(|outcome| &outcome.findings);
        Self {
            patient_id: analysed.patient_id,
            study_id: analysed.study_uid,
            series_id: analysed.series_uid,
            series_not_analysed: analysed.other_series,
            timestamp,
            quality: analysed.quality,
            num_nodules: findings.map(Vec::len),
            nodules: findings.map(|findings| findings.iter().map(Nodule::new).collect()),
            risk_assessment: findings.map(|findings| risk(findings).map_or("none-marked", MalignancyClass::name)),
            operating_threshold: outcome.map(|outcome| outcome.operating_threshold),
            lungs: outcome.map(|outcome| Lungs { left_ml: outcome.left_ml, right_ml: outcome.right_ml }),
            recommendations,
            processing_time,
            model,
        }
    }
}

impl Nodule {
    fn new(finding: &Finding) -> Self {
        let c = &finding.characteristics;
        let malignancy = finding.malignancy;
        Self {
            id: finding.id,
            position_lps_mm: finding.position.0,
            size_mm: finding.size_mm,
            diameter_mm: finding.diameter_mm,
            volume_mm3: finding.volume_mm3,
            score: finding.score,
            malignancy: MalignancyBody {
                probability: malignancy.probability,
                class: malignancy.class.name(),
                confidence: malignancy.confidence,
            },
            characteristics: CharacteristicsBody {
                sphericity: c.sphericity,
                mean_hu: c.mean_hu,
                texture_sd_hu: c.texture_sd_hu,
                edge_sharpness: c.edge_sharpness,
                kind: c.kind.map(|kind| kind.name()),
            },
            nodule_id: finding.id,
            position: finding.position.0,
            size: finding.size_mm,
            volume: finding.volume_mm3,
            malignancy_score: malignancy.probability,
            malignancy_class: malignancy.class.name(),
            confidence: malignancy.confidence,
        }
    }
}

/// The highest class.
fn risk(findings: &[Finding]) -> Option<MalignancyClass> {
    findings.iter().map(|f| f.malignancy).max_by(|a, b| a.probability.total_cmp(&b.probability)).map(|m| m.class)
}

/// Facts in a sentence each, in a fixed order. Follow-up intervals are a guideline's to give, not this list's.
fn recommendations(analysed: &Analysed, synthetic: bool) -> Vec<String> {
    let mut lines = Vec::new();
    match &analysed.outcome {
        None => lines.push("The images were not analysed: their quality does not allow it; see `quality`.".to_owned()),
        Some(outcome) => {
            let largest = outcome.findings.iter().max_by(|a, b| a.diameter_mm.total_cmp(&b.diameter_mm));
            match (largest, risk(&outcome.findings)) {
                (Some(largest), Some(risk)) => lines.push(format!(
                    "{} marked; the largest measures {:.1} mm, the highest malignancy class is {}.",
                    count(outcome.findings.len(), "nodule"),
                    largest.diameter_mm,
                    risk.name()
                )),
                _ => lines.push("No nodule was marked at this operating point; this does not rule one out.".to_owned()),
            }
            if analysed.quality.verdict == Verdict::Warn {
                lines.push("The images' quality limits this result; see `quality`.".to_owned());
            }
        }
    }
    if !analysed.other_series.is_empty() {
        lines.push(format!("{} of the study not analysed.", count(analysed.other_series.len(), "further series")));
    }
    if analysed.outcome.is_some() {
        if synthetic {
            let line = "The model was trained on synthetic images: this result is no statement on a patient.";
            lines.push(line.to_owned());
        }
        lines.push("An estimate for review by a physician, who decides; not a diagnosis.".to_owned());
    }
    lines
}

fn count(n: usize, noun: &str) -> String {
    let plural = if n == 1 || noun.ends_with('s') { "" } else { "s" };
    format!("{n} {noun}{plural}")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::analyse::{Outcome, QualityFinding};
    use lungai_ct::{Characteristics, Malignancy, NoduleKind, WorldPoint};
    use lungai_trace::verifies;
    use serde_json::json;

    fn finding(id: u32, diameter_mm: f64, probability: f64) -> Finding {
        Finding {
            id,
            position: WorldPoint([-50.0, -148.0, 58.0]),
            size_mm: [8.0, 9.0, 10.0],
            diameter_mm,
            volume_mm3: 382.0,
            score: 0.9,
            malignancy: Malignancy::from_probability(probability),
            characteristics: Characteristics {
                mean_hu: Some(-20.0),
                kind: Some(NoduleKind::PartSolid),
                ..Default::default()
            },
        }
    }

    fn analysed(findings: Option<Vec<Finding>>, verdict: Verdict) -> Analysed {
        let reason = QualityFinding { rule: "slice-gap".into(), value: 6.0, limit: 3.0, unit: "mm".into(), verdict };
        Analysed {
            patient_id: Some("P1".into()),
            study_uid: Some("1.2".into()),
            series_uid: "1.2.3".into(),
            other_series: vec!["1.2.4".into()],
            quality: Quality { verdict, findings: vec![reason] },
            outcome: findings.map(|findings| Outcome {
                findings,
                operating_threshold: 0.4,
                left_ml: 2200.0,
                right_ml: 2500.0,
            }),
            stage_seconds: vec![],
        }
    }

    fn result(analysed: Analysed) -> serde_json::Value {
        let model = Model { name: "m".into(), version: "1".into(), sha256: "ab".into(), synthetic: true };
        serde_json::to_value(AnalysisResult::new(analysed, model, "2026-01-01T00:00:00Z".into(), 12.5)).unwrap()
    }

    #[verifies("IR-002", "SW-501")]
    #[test]
    fn a_nodule_carries_both_sets_of_names() {
        let result = result(analysed(Some(vec![finding(1, 9.0, 0.8)]), Verdict::Accept));
        assert_eq!(
            result["nodules"][0],
            json!({"id": 1, "position_lps_mm": [-50.0, -148.0, 58.0], "size_mm": [8.0, 9.0, 10.0], "diameter_mm": 9.0,
                "volume_mm3": 382.0, "score": 0.9,
                "malignancy": {"probability": 0.8, "class": "high", "confidence": 0.6000000000000001},
                "characteristics": {"mean_hu": -20.0, "type": "part-solid"},
                "nodule_id": 1, "position": [-50.0, -148.0, 58.0], "size": [8.0, 9.0, 10.0], "volume": 382.0,
                "malignancy_score": 0.8, "malignancy_class": "high", "confidence": 0.6000000000000001})
        );
        assert_eq!(result["num_nodules"], 1);
        assert_eq!(result["risk_assessment"], "high");
        assert_eq!(result["series_not_analysed"], json!(["1.2.4"]));
    }

    #[test]
    fn the_longer_names_are_those_of_the_command_line() {
        let finding = finding(1, 9.0, 0.8);
        let mut nodule = serde_json::to_value(Nodule::new(&finding)).unwrap();
        for older in ["nodule_id", "position", "size", "volume", "malignancy_score", "malignancy_class", "confidence"] {
            nodule.as_object_mut().unwrap().remove(older).unwrap();
        }
        assert_eq!(nodule, serde_json::to_value(lungai_pipeline::wire::FindingJson::from(&finding)).unwrap());
    }

    #[test]
    fn risk_is_that_of_the_riskiest_and_size_that_of_the_largest() {
        let result = result(analysed(Some(vec![finding(1, 4.0, 0.5), finding(2, 12.04, 0.1)]), Verdict::Warn));
        assert_eq!(result["risk_assessment"], "intermediate");
        assert_eq!(
            result["recommendations"],
            json!([
                "2 nodules marked; the largest measures 12.0 mm, the highest malignancy class is intermediate.",
                "The images' quality limits this result; see `quality`.",
                "1 further series of the study not analysed.",
                "The model was trained on synthetic images: this result is no statement on a patient.",
                "An estimate for review by a physician, who decides; not a diagnosis."
            ])
        );
    }

    #[test]
    fn no_nodule_is_not_called_healthy() {
        let result = result(analysed(Some(vec![]), Verdict::Accept));
        assert_eq!((&result["num_nodules"], &result["risk_assessment"]), (&json!(0), &json!("none-marked")));
        assert!(result["recommendations"][0].as_str().unwrap().contains("does not rule one out"));
    }

    #[verifies("FR-002")]
    #[test]
    fn rejected_images_have_reasons_and_no_count_of_nodules() {
        let result = result(analysed(None, Verdict::Reject));
        assert_eq!(result["quality"]["findings"][0]["rule"], "slice-gap");
        assert!(result.get("num_nodules").is_none() && result.get("risk_assessment").is_none());
        assert!(!result["recommendations"].to_string().contains("estimate"));
    }
}
