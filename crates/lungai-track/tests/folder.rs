//! Run folders, written by the code that training writes them with.

use lungai_runs::{Best, Event, Journal, Metrics, RunRecord};
use serde_json::{Value, json};
use std::{fs, io::Write, path::Path};

/// A run folder in the making.
pub struct Folder {
    pub place: tempfile::TempDir,
    journal: Option<Journal>,
}

pub const MANIFEST: &str = "eb967c834a472918536c2a5199da34deb234415240f46b1efb21c6f3d19591c2";

/// The experiment of every folder here; `seed` tells them apart.
fn experiment(seed: u64) -> Value {
    json!({
        "name": "demo-detector", "seed": seed, "data": "demo/data/manifest.yaml",
        "network": { "detector": { "widths": [8, 16], "stem": "none" } },
        "training": { "steps": 4, "learning_rate": 0.004 },
    })
}

pub fn record(manifest: &str) -> RunRecord {
    serde_json::from_value(json!({
        "data": { "name": "phantom-quick", "manifest_sha256": manifest }, "synthetic": true, "device": "cpu",
        "threads": 2, "precision": "f32",
        "code": { "commit": "a290da3d", "dirty": false, "lock_sha256": "c0ac", "toolchain": "rustc 1.95.0" },
    }))
    .unwrap()
}

impl Folder {
    /// Begun, with the journal open.
    pub fn begin(seed: u64, manifest: &str) -> Self {
        Self::with(experiment(seed), manifest)
    }

    pub fn with(experiment: Value, manifest: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let record = record(manifest);
        fs::write(place.path().join("experiment.yaml"), format!("{experiment}\n")).unwrap();
        fs::write(place.path().join("run.json"), serde_json::to_vec_pretty(&record).unwrap()).unwrap();
        let mut journal = Journal::open(place.path()).unwrap();
        journal.write(Event::Start { experiment, run: record.into() }).unwrap();
        Self { place, journal: Some(journal) }
    }

    /// Four steps, two evaluations, ended.
    pub fn finished(seed: u64) -> Self {
        let mut folder = Self::begin(seed, MANIFEST);
        folder.steps(1..=2);
        folder.evaluation(2, 0.25);
        folder.steps(3..=4);
        folder.evaluation(4, 0.5);
        folder.end(4, 0.5);
        folder
    }

    /// More figures than go in one batch.
    pub fn long(seed: u64) -> Self {
        let mut folder = Self::begin(seed, MANIFEST);
        folder.steps(1..=460);
        folder.evaluation(460, 0.5);
        folder.end(460, 0.5);
        folder
    }

    pub fn path(&self) -> &str {
        self.place.path().to_str().unwrap()
    }

    fn write(&mut self, event: Event) {
        self.journal.as_mut().unwrap().write(event).unwrap();
    }

    /// Loss 1/step.
    pub fn steps(&mut self, steps: impl IntoIterator<Item = u64>) {
        for step in steps {
            self.write(Event::Step { step, loss: 1.0 / step as f64, learning_rate: 0.004 });
        }
    }

    pub fn evaluation(&mut self, step: u64, cpm: f64) {
        self.write(Event::Evaluation { step, metrics: metrics(cpm), waited: None });
        fs::write(self.place.path().join("best.safetensors"), format!("weights of step {step}")).unwrap();
        fs::write(self.place.path().join("curves.svg"), format!("<svg>{step}</svg>")).unwrap();
        fs::write(self.place.path().join("curves.png"), format!("png {step}")).unwrap();
    }

    pub fn end(&mut self, step: u64, cpm: f64) {
        let best = Best { step, metrics: metrics(cpm) };
        fs::write(self.place.path().join("best.json"), serde_json::to_vec_pretty(&best).unwrap()).unwrap();
        self.write(Event::End { step, stopped_early: false, best });
        self.leave();
    }

    pub fn fail(&mut self, step: u64) {
        self.write(Event::Failed { step, reason: "loss is not finite".into() });
        self.leave();
    }

    /// As when the training's process ends, however it does.
    pub fn leave(&mut self) {
        self.journal = None;
    }

    pub fn resume(&mut self, step: u64) {
        self.journal = Some(Journal::open(self.place.path()).unwrap());
        self.write(Event::Resume { step });
    }

    /// As when the process is killed within a line.
    pub fn cut(&mut self) {
        self.leave();
        let path = self.place.path().join("journal.jsonl");
        fs::File::options().append(true).open(path).unwrap().write_all(br#"{"event":"step","st"#).unwrap();
    }

    /// A copy of the folder, as it is now.
    pub fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(self.place.path()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        copy
    }
}

fn metrics(cpm: f64) -> Metrics {
    [("cpm".to_owned(), cpm), ("sensitivity_at_0.5".to_owned(), cpm / 2.0)].into()
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
