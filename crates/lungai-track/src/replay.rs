//! What a tracking server is to know of a run: a pure function of the run folder, so that a run synced bit by bit ends
//! up like one synced at once.

use lungai_runs::{Event, Run, State, selector};
use serde_json::{Value, json};
use std::collections::HashSet;

/// Tag that carries the run's identity; a server's run is found by it.
pub const RUN_TAG: &str = "lungai.run";
/// Tag that says up to which line of the journal the server has the figures: number and SHA-256 of that prefix.
pub const JOURNAL_TAG: &str = "lungai.journal";
/// Tag that says which files the server has: a JSON object of names and SHA-256.
pub const FILES_TAG: &str = "lungai.files";

/// Characters of a parameter's value that MLflow 3 keeps.
const VALUE_LIMIT: usize = 6000;
/// Characters of a data set's digest that MLflow keeps: the first 36 of a SHA-256's 64.
const DIGEST_LIMIT: usize = 36;

/// One figure at one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Which line of the journal it is of, counted from 0.
    pub line: usize,
    pub key: String,
    pub value: f64,
    pub step: u64,
    /// None where the journal has no times.
    pub time_ms: Option<u64>,
}

/// The name in the server's list; synthetic data are named in it.
pub fn run_name(run: &Run) -> String {
    format!("{}{}", run.name(), if run.record.synthetic { " (SYNTHETIC)" } else { "" })
}

/// Every figure of the journal, in its order.
///
/// A resumed run repeats the steps after its checkpoint with the same results; a server cannot forget a point, so an
/// equal one is not repeated. One that differs (trained on another device) follows the first with its later time.
pub fn points(run: &Run) -> Vec<Point> {
    let mut seen = HashSet::new();
    let mut points = Vec::new();
    for (line, number) in run.journal.lines.iter().zip(0..) {
        let mut add = |key: &str, step: u64, value: f64| {
            if seen.insert((key.to_owned(), step, value.to_bits())) {
                points.push(Point { line: number, key: allowed(key), value, step, time_ms: line.time_ms });
            }
        };
        match &line.event {
            Event::Step { step, loss, learning_rate } => {
                add("loss", *step, *loss);
                add("learning_rate", *step, *learning_rate);
            }
            Event::Evaluation { step, metrics, .. } => {
                metrics.iter().for_each(|(name, value)| add(name, *step, *value))
            }
            Event::End { best, .. } => {
                // The newest value of a figure is what a server lists; the kept weights' one is another.
                let name = selector(run.network()).filter(|name| best.metrics.contains_key(*name));
                name.into_iter().for_each(|name| add(&format!("best_{name}"), best.step, best.metrics[name]));
            }
            Event::Start { .. } | Event::Mined { .. } | Event::Resume { .. } | Event::Failed { .. } => (),
        }
    }
    points
}

/// The experiment, flattened: `training.learning_rate`, ...; a list is one parameter.
pub fn params(run: &Run) -> Vec<(String, String)> {
    let mut flat = Vec::new();
    flatten("", &run.experiment, &mut flat);
    flat.into_iter().map(|(key, value)| (allowed(&key), shortened(value))).collect()
}

/// Parameters by dotted name.
pub fn flatten(prefix: &str, value: &Value, flat: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&name, value, flat);
            }
        }
        Value::String(text) => flat.push((prefix.to_owned(), text.clone())),
        other => flat.push((prefix.to_owned(), other.to_string())),
    }
}

/// What a run begins with on the server, identity first.
pub fn tags(run: &Run) -> Vec<(String, String)> {
    let record = &run.record;
    let mut tags = vec![
        (RUN_TAG, run.journal.id.clone()),
        ("synthetic", record.synthetic.to_string()),
        ("lungai.network", run.network().to_owned()),
        ("lungai.device", record.device.clone()),
        ("lungai.threads", record.threads.to_string()),
        ("lungai.precision", record.precision.clone()),
        ("lungai.data", record.data.name.clone()),
        ("lungai.data.manifest_sha256", record.data.manifest_sha256.clone()),
        ("lungai.commit.dirty", record.code.dirty.to_string()),
        ("lungai.lock_sha256", record.code.lock_sha256.clone()),
        ("lungai.toolchain", record.code.toolchain.clone()),
        ("mlflow.note.content", description(run)),
        ("mlflow.source.name", "lungai-train".to_owned()),
        ("mlflow.source.type", "LOCAL".to_owned()),
    ];
    if record.code.commit != "unknown" {
        tags.push(("mlflow.source.git.commit", record.code.commit.clone()));
    }
    tags.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// For people, in Markdown.
pub fn description(run: &Run) -> String {
    let record = &run.record;
    let warning = if record.synthetic { "**SYNTHETIC data: the figures say nothing about patients.** " } else { "" };
    let dirty = if record.code.dirty { " with changes that the commit does not hold" } else { "" };
    let origin = match &record.imported {
        None => "trained",
        Some(file) => &format!("imported from a file of another program (SHA-256 `{}`), measured", file.sha256),
    };
    let proposer = record.proposer.as_ref().map_or_else(String::new, |detector| {
        format!(", on candidates of the detector `{}` (weights SHA-256 `{}`)", detector.run, detector.weights_sha256)
    });
    format!(
        "{warning}{} network {origin}{proposer} on `{}` (manifest SHA-256 `{}`) on {} with {} threads, by commit `{}`{dirty}. Not cleared \
         for clinical use.",
        run.network(),
        record.data.name,
        record.data.manifest_sha256,
        record.device,
        record.threads,
        record.code.commit,
    )
}

/// Digest of the training data as MLflow takes it.
pub fn digest(run: &Run) -> String {
    run.record.data.manifest_sha256.chars().take(DIGEST_LIMIT).collect()
}

/// The data set as MLflow's input, marked as training data.
pub fn data_set(run: &Run) -> Value {
    let data = &run.record.data;
    let source = json!({ "manifest": run.experiment["data"], "manifest_sha256": data.manifest_sha256 });
    let profile = json!({ "synthetic": run.record.synthetic });
    json!({
        "tags": [{ "key": "mlflow.data.context", "value": "training" }],
        "dataset": {
            "name": data.name, "digest": digest(run), "source_type": "lungai-manifest",
            "source": source.to_string(), "profile": profile.to_string(),
        },
    })
}

/// MLflow's word for where the run stands.
pub fn status(run: &Run) -> &'static str {
    match run.state {
        State::Running => "RUNNING",
        State::Finished => "FINISHED",
        State::Failed => "FAILED",
        State::Interrupted => "KILLED",
    }
}

/// MLflow's keys hold letters, digits and `_-. :/`; anything else becomes `_`.
fn allowed(key: &str) -> String {
    key.chars().map(|c| if c.is_alphanumeric() || "_-. :/".contains(c) { c } else { '_' }).collect()
}

/// A value that MLflow would refuse or cut is cut here and says so.
fn shortened(value: String) -> String {
    let length = value.chars().count();
    if length <= VALUE_LIMIT {
        return value;
    }
    let mark = format!("... ({length} characters; the whole is in experiment.yaml)");
    value.chars().take(VALUE_LIMIT - mark.len()).chain(mark.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_experiment_becomes_dotted_parameters() {
        let mut flat = Vec::new();
        let experiment = json!({ "name": "x", "network": { "lung": { "window_hu": [-1024.0, 600.0] } }, "seed": 1 });
        flatten("", &experiment, &mut flat);
        let expected = [("name", "x"), ("network.lung.window_hu", "[-1024.0,600.0]"), ("seed", "1")];
        assert_eq!(flat, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_value_beyond_the_limit_says_that_it_is_cut() {
        let cut = shortened("é".repeat(7000));
        assert_eq!(cut.chars().count(), VALUE_LIMIT);
        assert!(cut.ends_with("... (7000 characters; the whole is in experiment.yaml)"));
        assert_eq!(shortened("x".repeat(VALUE_LIMIT)).len(), VALUE_LIMIT);
    }

    #[test]
    fn keys_hold_what_mlflow_takes() {
        assert_eq!(allowed("sensitivity@0.5 (肺)"), "sensitivity_0.5 _肺_");
    }
}
