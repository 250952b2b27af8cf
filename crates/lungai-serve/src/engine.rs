//! The real analysis: read the received files, choose the series, run the frozen model on it.

use crate::analyse::{Analysed, Engine, Failure, Model, Networks, Outcome, Quality, QualityFinding, Study, Verdict};
use crate::config::Config;
use lungai_ct::{Lung, Scan};
use lungai_dicom::DicomInput;
use lungai_imaging::quality;
use lungai_models::frozen::{self, FrozenError};
use lungai_models::{DeviceChoice, DeviceError};
use lungai_pipeline::{OperatingPoint, Pipeline, PipelineError, Stage};
use lungai_trace::implements;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Why there is no model to serve.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The device cannot be had.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The model is not what was signed, or cannot be read.
    #[error(transparent)]
    Frozen(#[from] FrozenError),
    /// The model has no such operating point.
    #[error(transparent)]
    OperatingPoint(#[from] PipelineError),
}

/// Loads and verifies the configured model: signature, hashes and golden self-test.
///
/// # Errors
/// [`EngineError`] names the first thing that is wrong.
#[implements("SR-002", "R-005", "SW-902")]
pub fn load(config: &Config) -> Result<Engine, EngineError> {
    let begun = Instant::now();
    let (device, device_name) = config.device.parse::<DeviceChoice>()?.open()?;
    let pipeline = Pipeline::new(frozen::open(&config.models, config.trusted_key.as_deref(), &device)?);
    let Ok(point) = config.operating_point.as_deref().unwrap_or("default").parse::<OperatingPoint>();
    let manifest = pipeline.manifest();
    // Now, not with the first patient.
    check_point(&point, &manifest.operating_points)?;
    let model = Model {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        sha256: pipeline.model_sha256().to_owned(),
        synthetic: manifest.synthetic,
    };
    Ok(Engine {
        analyse: Arc::new(move |study| analyse(&pipeline, &point, study)),
        model,
        // A frozen model has all three, or it is not opened.
        networks: Networks { lung_segmentation: true, nodule_detection: true, malignancy_classification: true },
        device: device_name,
        load_seconds: begun.elapsed().as_secs_f64(),
    })
}

fn check_point(point: &OperatingPoint, known: &BTreeMap<String, f64>) -> Result<(), PipelineError> {
    match point {
        OperatingPoint::Named(name) if !known.contains_key(name) => Err(PipelineError::UnknownOperatingPoint {
            name: name.clone(),
            known: known.keys().cloned().collect::<Vec<_>>().join(", "),
        }),
        OperatingPoint::Threshold(score) if !(0.0..=1.0).contains(score) => Err(PipelineError::Threshold(*score)),
        _ => Ok(()),
    }
}

fn analyse(pipeline: &Pipeline, point: &OperatingPoint, study: &Study) -> Result<Analysed, Failure> {
    let mut stages = Stages { running: ("load", Instant::now()), ended: Vec::new() };
    let input = lungai_dicom::read(study.folder).map_err(|error| Failure::new(&error.rule(), error.to_string()))?;
    let (scan, other_series) = choose(input, study.series_uid)?;
    let run = pipeline.run(&scan, point, &mut |stage| stages.next(stage));
    stages.next(Stage::Done);
    let (quality, outcome) = match run {
        Ok(analysis) => {
            let outcome = Outcome {
                findings: analysis.findings,
                operating_threshold: analysis.operating_threshold,
                left_ml: analysis.lungs.volume_ml(Lung::Left as u8),
                right_ml: analysis.lungs.volume_ml(Lung::Right as u8),
            };
            (analysis.quality, Some(outcome))
        }
        Err(PipelineError::Rejected(quality)) => (quality, None),
        Err(error) => return Err(Failure::new("operating-point", error.to_string())),
    };
    Ok(Analysed {
        patient_id: scan.patient_id,
        study_uid: scan.study_uid,
        series_uid: scan.series_uid,
        other_series,
        quality: (&quality).into(),
        outcome,
        stage_seconds: stages.ended,
    })
}

/// The chosen series, else the largest, and the UIDs of all others, those included that could not be read.
#[implements("R-003", "SR-003")]
fn choose(input: DicomInput, series_uid: Option<&str>) -> Result<(Scan, Vec<String>), Failure> {
    let first = |scan: &Scan| (scan.patient_id.clone(), scan.study_uid.clone());
    // A result belongs to one patient. Which one of two is nothing to guess at.
    if input.scans.iter().any(|scan| first(scan) != first(&input.scans[0])) {
        return Err(Failure::new("mixed-studies", "the files belong to more than one patient or study"));
    }
    let at = match series_uid {
        None => 0,
        Some(uid) => match input.scans.iter().position(|scan| scan.series_uid == uid) {
            Some(at) => at,
            None => {
                let refused = input.refused.iter().find(|refused| refused.series_uid == uid);
                return Err(refused.map_or_else(
                    || Failure::new("unknown-series", "the study does not hold the chosen series"),
                    |refused| Failure::new(&refused.error.rule(), refused.error.to_string()),
                ));
            }
        },
    };
    let mut scans = input.scans;
    let scan = scans.remove(at);
    let others = scans.into_iter().map(|scan| scan.series_uid);
    Ok((scan, others.chain(input.refused.into_iter().map(|refused| refused.series_uid)).collect()))
}

/// Times every stage from its start to the next one's.
struct Stages {
    running: (&'static str, Instant),
    ended: Vec<(&'static str, f64)>,
}

impl Stages {
    fn next(&mut self, stage: Stage) {
        let now = Instant::now();
        let (name, begun) = std::mem::replace(&mut self.running, (stage.name(), now));
        if name != Stage::Done.name() {
            self.ended.push((name, (now - begun).as_secs_f64()));
        }
    }
}

impl From<&quality::Quality> for Quality {
    fn from(quality: &quality::Quality) -> Self {
        let findings = quality.findings.iter().map(|finding| QualityFinding {
            rule: finding.rule.to_string(),
            value: finding.value,
            limit: finding.limit,
            unit: finding.unit.to_string(),
            verdict: finding.verdict.into(),
        });
        Self { verdict: quality.verdict.into(), findings: findings.collect() }
    }
}

impl From<quality::Verdict> for Verdict {
    fn from(verdict: quality::Verdict) -> Self {
        match verdict {
            quality::Verdict::Accept => Self::Accept,
            quality::Verdict::Warn => Self::Warn,
            quality::Verdict::Reject => Self::Reject,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_ct::{Acquisition, Geometry, Spacing, Volume, WorldPoint};
    use lungai_dicom::{DicomError, Refused};
    use lungai_trace::verifies;
    use ndarray::Array3;

    fn scan(series_uid: &str, patient_id: &str) -> Scan {
        let spacing = Spacing::new([1.0; 3]).unwrap();
        let geometry = Geometry::new([2, 2, 2], spacing, WorldPoint([0.0; 3]), Geometry::AXIAL).unwrap();
        Scan {
            series_uid: series_uid.into(),
            study_uid: Some("1.2".into()),
            frame_of_reference_uid: None,
            patient_id: Some(patient_id.into()),
            modality: "CT".into(),
            transfer_syntax: "1.2.840.10008.1.2.1".into(),
            acquisition: Acquisition::default(),
            volume: Volume::new(Array3::zeros((2, 2, 2)), geometry).unwrap(),
        }
    }

    fn input(scans: Vec<Scan>) -> DicomInput {
        let refused = Refused { series_uid: "1.2.9".into(), files: 1, error: DicomError::SingleSlice };
        let (files, identities) = Default::default();
        DicomInput { scans, refused: vec![refused], set_aside: vec![], files, identities }
    }

    #[test]
    fn the_largest_series_is_analysed_unless_another_is_chosen() {
        let scans = || vec![scan("1.2.1", "P"), scan("1.2.2", "P")];
        let (chosen, others) = choose(input(scans()), None).unwrap();
        assert_eq!((chosen.series_uid.as_str(), others), ("1.2.1", vec!["1.2.2".to_owned(), "1.2.9".to_owned()]));
        let (chosen, others) = choose(input(scans()), Some("1.2.2")).unwrap();
        assert_eq!((chosen.series_uid.as_str(), others), ("1.2.2", vec!["1.2.1".to_owned(), "1.2.9".to_owned()]));
    }

    #[test]
    fn a_series_that_is_not_there_or_was_refused_is_a_failure_by_name() {
        let fails = |uid| choose(input(vec![scan("1.2.1", "P")]), Some(uid)).unwrap_err().code;
        assert_eq!(fails("1.2.7"), "unknown-series");
        assert_eq!(fails("1.2.9"), "single-slice");
    }

    #[verifies("SR-003")]
    #[test]
    fn files_of_two_patients_are_no_study() {
        let failure = choose(input(vec![scan("1.2.1", "P"), scan("1.2.2", "Q")]), None).unwrap_err();
        assert_eq!(failure.code, "mixed-studies");
        assert!(!failure.detail.contains('Q'));
    }

    #[test]
    fn an_operating_point_that_the_model_lacks_is_refused_at_the_start() {
        let known = BTreeMap::from([("default".to_owned(), 0.4)]);
        let check = |text: &str| check_point(&text.parse().unwrap(), &known);
        assert!(check("default").is_ok() && check("0.7").is_ok());
        assert!(check("sensitive").unwrap_err().to_string().contains("default"));
        assert!(check("1.5").is_err() && check("NaN").is_err());
    }

    #[test]
    fn stages_are_timed_in_order_without_a_gap() {
        let mut stages = Stages { running: ("load", Instant::now()), ended: Vec::new() };
        for stage in [Stage::Preprocess, Stage::Segment, Stage::Done, Stage::Done] {
            stages.next(stage);
        }
        assert_eq!(stages.ended.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["load", "preprocess", "segment"]);
    }
}
