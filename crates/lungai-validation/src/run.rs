//! One scan after the other through the frozen model and the baseline, each kept as soon as it is done: a run that was
//! killed goes on where it was.

use crate::failure::{Failure, file_name, io};
use crate::predictions::{self, Identity, Shard, differs};
use crate::protocol::Protocol;
use crate::record::{Covariates, Prediction, Seconds, Side, SystemMark};
use crate::reference::Reference;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use lungai_ct::{LabelMap, Lung, Scan};
use lungai_datasets::{Case, sha256};
use lungai_imaging::{blobs, lungs};
use lungai_metrics::overlap::overlap;
use lungai_pipeline::{OperatingPoint, Pipeline, PipelineError, Stage};
use lungai_trace::implements;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{IsTerminal, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Analyses every case of a shard that an earlier run did not, and writes the shard into `folder`. A shard that is finished
/// stays as it is.
///
/// - `conclude`: hears the SHA-256 of the shard's manifest before the shard counts
///
/// # Errors
/// `other-run` where the folder holds a run of something else, `tampered-predictions` where what is there is not as it was
/// written, `busy` where another program is at it; a case that is not what the manifest says (the test set is locked: nothing
/// is skipped).
#[implements("SW-1102")]
pub fn predict(
    protocol: &Protocol,
    reference: &Reference<'_>,
    pipeline: &Pipeline,
    identity: &Identity,
    shard: Shard,
    folder: &Path,
    conclude: &dyn Fn(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let own = reference.cases.iter().enumerate().filter(|(place, _)| shard.holds(*place));
    let cases: Vec<&Case> = own.map(|(_, truth)| truth.case).collect();
    let (journal, mut done) = Journal::open(folder, identity, shard)?;
    // Looked at while the journal is ours, so that nobody finishes it in between.
    match predictions::finished(folder, identity, shard) {
        Ok(false) => (),
        Ok(true) => {
            eprintln!("part {shard} is finished");
            return journal.remove();
        }
        Err(failure) => {
            if done.is_empty() {
                journal.remove()?;
            }
            return Err(failure);
        }
    }
    if !done.is_empty() {
        eprintln!("going on after {} of {} scans", done.len(), cases.len());
    }
    let left: Vec<&Case> = cases.iter().copied().filter(|case| !done.contains_key(&case.id)).collect();
    let progress = Progress::new(cases.len(), done.len());
    // Several at a time: much of the work on one scan keeps only one core busy.
    let new = left
        .into_par_iter()
        .map(|case| {
            let prediction = analyse(protocol, case, pipeline)?;
            journal.keep(&prediction)?;
            progress.step();
            Ok((case.id.clone(), prediction))
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    progress.bar.finish_and_clear();
    done.extend(new);
    // In the manifest's order, whatever the order of work was.
    let in_order: Vec<Prediction> = cases.iter().filter_map(|case| done.remove(&case.id)).collect();
    predictions::write_shard(folder, identity, shard, &in_order, conclude)?;
    journal.remove()
}

/// The predictions of an unfinished shard: a line that says what they are of, and one for each case. Every line begins with the
/// SHA-256 of its rest.
struct Journal {
    file: Mutex<File>,
    path: PathBuf,
}

/// The journal's first line.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    identity: Identity,
    shard: Shard,
}

impl Journal {
    /// Opens or begins a journal; what a crash cut off is dropped.
    fn open(folder: &Path, identity: &Identity, shard: Shard) -> Result<(Self, BTreeMap<String, Prediction>), Failure> {
        let path = shard.file(folder, "journal.jsonl");
        let mut file = File::options().create(true).read(true).append(true).open(&path).map_err(io(&path))?;
        match file.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::later("busy", format!("another program works on shard {shard} here")));
            }
            Err(TryLockError::Error(error)) => return Err(io(&path)(error)),
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(io(&path))?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let header = Header { identity: identity.clone(), shard };
        let mut done = BTreeMap::new();
        let mut lines = text[..whole].lines();
        if let Some(first) = lines.next() {
            let found: Header = line(first).ok_or_else(damaged(&path, 1))?;
            if found != header {
                let message = format!(
                    "the folder holds an unfinished run of something else ({}); choose another, or remove {}",
                    differs(&found.identity, identity),
                    file_name(&path)
                );
                return Err(Failure::new("other-run", message));
            }
            for (at, text) in lines.enumerate() {
                let prediction: Prediction = line(text).ok_or_else(damaged(&path, at + 2))?;
                done.insert(prediction.case.clone(), prediction);
            }
        }
        file.set_len(whole as u64).map_err(io(&path))?;
        file.seek(std::io::SeekFrom::End(0)).map_err(io(&path))?;
        let journal = Self { file: Mutex::new(file), path };
        if whole == 0 {
            journal.append(&header)?;
        }
        Ok((journal, done))
    }

    fn keep(&self, prediction: &Prediction) -> Result<(), Failure> {
        self.append(prediction)
    }

    /// One line in one write, on the disk before the next case is begun.
    fn append(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).expect("plain data");
        let line = format!("{} {text}\n", sha256(text.as_bytes()));
        let mut file = self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        file.write_all(line.as_bytes()).and_then(|()| file.sync_data()).map_err(io(&self.path))
    }

    fn remove(self) -> Result<(), Failure> {
        std::fs::remove_file(&self.path).map_err(io(&self.path))
    }
}

/// What a line says, if its hash is that of its text.
fn line<T: for<'de> Deserialize<'de>>(line: &str) -> Option<T> {
    let (hash, text) = line.split_once(' ')?;
    (hash == sha256(text.as_bytes())).then(|| serde_json::from_str(text).ok())?
}

fn damaged(path: &Path, line: usize) -> impl FnOnce() -> Failure {
    let name = file_name(path);
    move || Failure::integrity("tampered-predictions", format!("{name}, line {line}: not as it was written"))
}

/// How far a run is: a bar on terminals, a line now and then elsewhere.
struct Progress {
    bar: ProgressBar,
    began: Instant,
    before: u64,
    told: Mutex<Instant>,
}

impl Progress {
    fn new(all: usize, done: usize) -> Self {
        let bar = ProgressBar::new(all as u64);
        let style = "{bar:30} {pos}/{len} scans, {elapsed} so far, {eta} left";
        bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
        if !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.set_position(done as u64);
        bar.reset_eta();
        let began = Instant::now();
        Self { bar, began, before: done as u64, told: Mutex::new(began) }
    }

    fn step(&self) {
        self.bar.inc(1);
        let mut told = self.told.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if std::io::stderr().is_terminal() || told.elapsed() < Duration::from_secs(15) {
            return;
        }
        *told = Instant::now();
        let (position, all) = (self.bar.position(), self.bar.length().unwrap_or_default());
        let each = self.began.elapsed().as_secs_f64() / (position - self.before).max(1) as f64;
        let left = Duration::from_secs_f64(each * all.saturating_sub(position) as f64);
        eprintln!("{position} of {all} scans, {} left", HumanDuration(left));
    }
}

fn analyse(protocol: &Protocol, case: &Case, pipeline: &Pipeline) -> Result<Prediction, Failure> {
    let mut clock = Clock::new();
    let scan = case.load_scan()?;
    let grid = scan.volume.geometry();
    clock.seconds.load = Some(clock.lap()).filter(|_| !case.is_rendered());
    let reference = case.lungs.is_some().then(|| case.load_lungs(grid)).transpose()?;
    clock.lap(); // the reference is no part of the system's work

    let everything = OperatingPoint::Threshold(protocol.froc.lowest_score);
    let (quality, analysis) = match pipeline.run(&scan, &everything, &mut |stage| clock.begin(stage)) {
        Ok(analysis) => (analysis.quality.clone(), Some(analysis)),
        Err(PipelineError::Rejected(quality)) => (quality, None),
        Err(error) => return Err(Failure::new("pipeline", format!("case {}: {error}", case.id))),
    };
    let mut prediction = Prediction {
        case: case.id.clone(),
        quality: quality.verdict.name().into(),
        quality_rules: quality.findings.iter().map(|finding| finding.rule.to_owned()).collect(),
        lungs: None,
        seconds: Some(clock.finish()),
        acquisition: acquisition(&scan),
        marks: Vec::new(),
        baseline: Some(Vec::new()),
    };
    if let Some(analysis) = analysis {
        if let Some(reference) = &reference {
            let side = |lung| side(protocol, reference, &analysis.lungs, lung);
            prediction.lungs = Some([side(Lung::Right)?, side(Lung::Left)?]);
        }
        let mark = |finding: &lungai_ct::Finding| SystemMark {
            position_lps_mm: finding.position.0,
            score: finding.score,
            diameter_mm: Some(finding.diameter_mm),
            malignancy: Some(finding.malignancy.probability),
        };
        prediction.marks = analysis.findings.iter().map(mark).collect();
        prediction.baseline = Some(baseline(&scan));
    }
    Ok(prediction)
}

/// What one gets without any training: the classical lung mask, then a blob detector in it.
fn baseline(scan: &Scan) -> Vec<SystemMark> {
    let region = lungs::segment(&scan.volume);
    blobs::detect(&scan.volume, &region)
        .into_iter()
        .map(|blob| SystemMark {
            position_lps_mm: blob.position.0,
            score: blob.score,
            diameter_mm: Some(blob.diameter_mm),
            malignancy: None,
        })
        .collect()
}

/// How a scan was made, as it says itself.
pub fn acquisition(scan: &Scan) -> Covariates {
    let acquisition = &scan.acquisition;
    Covariates {
        slice_thickness_mm: acquisition.slice_thickness_mm,
        slice_distance_mm: Some(scan.volume.geometry().spacing().zyx_mm()[0]),
        kernel: acquisition.kernel.clone(),
        exposure_mas: acquisition.exposure_mas,
        tube_kv: acquisition.tube_kv,
        manufacturer: acquisition.manufacturer.clone(),
        model: acquisition.model.clone(),
        contrast: acquisition.contrast,
        sex: None,
        age_years: None,
    }
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
        Seconds { total: s.load.map(|load| load + s.preprocess + s.segment + s.detect + s.classify), ..s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predictions::tests::{identity, prediction};
    use lungai_trace::verifies;

    #[verifies("SW-1102")]
    #[test]
    fn an_unfinished_part_goes_on_and_a_changed_digit_in_it_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Journal::open(folder.path(), &identity(), Shard::WHOLE);
        let (journal, done) = open().unwrap();
        assert!(done.is_empty());
        journal.keep(&prediction("a")).unwrap();
        journal.keep(&prediction("b")).unwrap();
        drop(journal);
        let path = Shard::WHOLE.file(folder.path(), "journal.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        // What a crash cut off is done again.
        std::fs::write(&path, &text[..text.len() - 5]).unwrap();
        let (journal, done) = open().unwrap();
        assert_eq!(done.into_values().collect::<Vec<_>>(), [prediction("a")]);
        drop(journal);
        std::fs::write(&path, text.replacen("\"score\":0.9", "\"score\":0.8", 1)).unwrap();
        let failure = open().err().unwrap();
        assert_eq!((failure.exit, failure.rule.as_str()), (4, "tampered-predictions"));
        assert!(failure.message.contains("line 2"), "{}", failure.message);
    }
}
