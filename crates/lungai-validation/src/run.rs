//! One scan after the other through the frozen model and the baseline.

use crate::failure::Failure;
use crate::protocol::Protocol;
use crate::record::{Nodule, Rejected, ScanRecord, Seconds, Side, SystemMark};
use indicatif::{ProgressBar, ProgressStyle};
use lungai_ct::{LabelMap, Lung, Scan};
use lungai_datasets::{Case, Manifest, Split};
use lungai_imaging::{blobs, lungs};
use lungai_metrics::overlap::overlap;
use lungai_pipeline::{OperatingPoint, Pipeline, PipelineError, Stage};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::time::Instant;

/// What a run over a test set gives.
#[derive(Debug, Default)]
pub struct Collected {
    /// Scans that were analysed.
    pub records: Vec<ScanRecord>,
    /// Scans that the quality gate refused.
    pub rejected: Vec<Rejected>,
    /// Test scans of centres that the protocol leaves out.
    pub of_other_centres: usize,
    /// Test scans whose nodules nobody marked.
    pub without_reference: usize,
}

/// Analyses every test case of the protocol's centres.
///
/// # Errors
/// A centre without a test case; a case that is not what the manifest says (the test set is locked: nothing is skipped).
pub fn collect(protocol: &Protocol, manifest: &Manifest, pipeline: &Pipeline) -> Result<Collected, Failure> {
    let centres: BTreeSet<&str> = protocol.centres.iter().map(String::as_str).collect();
    let (here, elsewhere): (Vec<&Case>, Vec<&Case>) =
        manifest.cases(Split::Test).partition(|case| centres.contains(case.centre.as_str()));
    if let Some(empty) = protocol.centres.iter().find(|centre| !here.iter().any(|case| case.centre == **centre)) {
        return Err(Failure::new("no-test-cases", format!("centre `{empty}` has no test case in the manifest")));
    }
    let bar = ProgressBar::new(here.len() as u64);
    let style = "{bar:30} {pos}/{len} scans, {elapsed} so far, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
    // Several at a time: much of the work on one scan keeps only one core busy. The order stays the manifest's.
    let outcomes: Vec<Outcome> = here
        .into_par_iter()
        .map(|case| {
            let outcome =
                if case.nodules.is_none() { Ok(Outcome::WithoutReference) } else { analyse(protocol, case, pipeline) };
            bar.inc(1);
            outcome
        })
        .collect::<Result<_, Failure>>()?;
    bar.finish_and_clear();
    let mut collected = Collected { of_other_centres: elsewhere.len(), ..Collected::default() };
    for outcome in outcomes {
        match outcome {
            Outcome::Analysed(record) => collected.records.push(*record),
            Outcome::Rejected(rejected) => collected.rejected.push(rejected),
            Outcome::WithoutReference => collected.without_reference += 1,
        }
    }
    Ok(collected)
}

/// What one case comes to.
enum Outcome {
    Analysed(Box<ScanRecord>),
    Rejected(Rejected),
    WithoutReference,
}

fn analyse(protocol: &Protocol, case: &Case, pipeline: &Pipeline) -> Result<Outcome, Failure> {
    let mut clock = Clock::new();
    let scan = case.load_scan()?;
    let grid = scan.volume.geometry();
    let reference = case.lungs.is_some().then(|| case.load_lungs(grid)).transpose()?;
    let nodules = nodules(protocol, case)?;
    clock.seconds.load = clock.lap();

    let everything = OperatingPoint::Threshold(protocol.froc.lowest_score);
    let analysis = match pipeline.run(&scan, &everything, &mut |stage| clock.begin(stage)) {
        Ok(analysis) => analysis,
        Err(PipelineError::Rejected(quality)) => {
            let rules: Vec<&str> = quality.findings.iter().map(|finding| finding.rule).collect();
            return Ok(Outcome::Rejected(Rejected {
                case: case.id.clone(),
                centre: case.centre.clone(),
                nodules: nodules.iter().filter(|nodule| !nodule.excluded).count(),
                reason: rules.join(", "),
            }));
        }
        Err(error) => return Err(Failure::new("pipeline", format!("case {}: {error}", case.id))),
    };
    let sides = match &reference {
        Some(reference) => Some([
            side(protocol, reference, &analysis.lungs, Lung::Right)?,
            side(protocol, reference, &analysis.lungs, Lung::Left)?,
        ]),
        None => None,
    };
    Ok(Outcome::Analysed(Box::new(ScanRecord {
        case: case.id.clone(),
        patient: case.patient.clone(),
        centre: case.centre.clone(),
        quality: analysis.quality.verdict.name().into(),
        quality_rules: analysis.quality.findings.iter().map(|finding| finding.rule.to_owned()).collect(),
        lungs: sides,
        seconds: clock.finish(),
        nodules,
        marks: analysis
            .findings
            .iter()
            .map(|finding| SystemMark {
                position_lps_mm: finding.position.0,
                score: finding.score,
                diameter_mm: finding.diameter_mm,
                malignancy: Some(finding.malignancy.probability),
            })
            .collect(),
        baseline: baseline(&scan),
    })))
}

/// What one gets without any training: the classical lung mask, then a blob detector in it.
fn baseline(scan: &Scan) -> Vec<SystemMark> {
    let region = lungs::segment(&scan.volume);
    blobs::detect(&scan.volume, &region)
        .into_iter()
        .map(|blob| SystemMark {
            position_lps_mm: blob.position.0,
            score: blob.score,
            diameter_mm: blob.diameter_mm,
            malignancy: None,
        })
        .collect()
}

fn nodules(protocol: &Protocol, case: &Case) -> Result<Vec<Nodule>, Failure> {
    let [smallest, largest] = protocol.scored_diameter_mm;
    let nodules = case.nodules()?.into_iter().map(|nodule| Nodule {
        id: nodule.id,
        position_lps_mm: nodule.position.0,
        diameter_mm: nodule.diameter_mm,
        kind: nodule.kind.map(|kind| kind.name().to_owned()),
        malignant: nodule.malignant,
        excluded: nodule.excluded || !(smallest..=largest).contains(&nodule.diameter_mm),
    });
    Ok(nodules.collect())
}

fn side(protocol: &Protocol, reference: &LabelMap, found: &LabelMap, lung: Lung) -> Result<Side, Failure> {
    let [reference_mask, mask] = [reference, found].map(|map| map.labels().mapv(|label| label == lung as u8));
    let spacing = reference.geometry().spacing();
    let o = overlap(reference_mask.view(), mask.view(), spacing, protocol.surface_tolerance_mm)?;
    Ok(Side { dice: o.dice, hd95_mm: o.hd95_mm, surface_dice: o.surface_dice })
}

/// Seconds of each stage, as the pipeline announces them.
struct Clock {
    seconds: Seconds,
    began: Instant,
    stage: Option<Stage>,
}

impl Clock {
    fn new() -> Self {
        Self { seconds: Seconds::default(), began: Instant::now(), stage: None }
    }

    fn lap(&mut self) -> f64 {
        let seconds = self.began.elapsed().as_secs_f64();
        self.began = Instant::now();
        seconds
    }

    fn begin(&mut self, stage: Stage) {
        let lap = self.lap();
        match self.stage.replace(stage) {
            Some(Stage::Preprocess) => self.seconds.preprocess = lap,
            Some(Stage::Segment) => self.seconds.segment = lap,
            Some(Stage::Detect) => self.seconds.detect = lap,
            Some(Stage::Classify) => self.seconds.classify = lap,
            Some(Stage::Done) | None => (),
        }
    }

    fn finish(self) -> Seconds {
        let s = self.seconds;
        Seconds { total: s.load + s.preprocess + s.segment + s.detect + s.classify, ..s }
    }
}
