//! Run folders as training leaves them, whole, resumed, cut and mixed up.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use lungai_runs::{Best, Event, History, Journal, Run, RunError, RunRecord, State, find_runs, read_journal, smoothed};
use lungai_trace::verifies;
use serde_json::{Value, json};
use std::{fs, io::Write, path::Path};

fn record() -> RunRecord {
    serde_json::from_value(json!({
        "data": { "name": "phantom-quick", "manifest_sha256": "eb96" }, "synthetic": true, "device": "cpu", "threads": 2,
        "precision": "f32", "code": { "commit": "a290", "dirty": false, "lock_sha256": "c0ac", "toolchain": "rustc 1.95.0" },
    }))
    .unwrap()
}

/// A folder whose training has begun.
fn begun() -> (tempfile::TempDir, Journal) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("run.json"), serde_json::to_vec(&record()).unwrap()).unwrap();
    let mut journal = Journal::open(folder.path()).unwrap();
    let experiment = json!({ "name": "demo-detector", "network": { "detector": {} }, "training": { "steps": 3 } });
    journal.write(Event::Start { experiment, run: record().into() }).unwrap();
    (folder, journal)
}

fn step(journal: &mut Journal, step: u64, loss: f64) {
    journal.write(Event::Step { step, loss, learning_rate: 0.1 }).unwrap();
}

fn evaluation(journal: &mut Journal, step: u64, cpm: f64) {
    journal.write(Event::Evaluation { step, metrics: [("cpm".to_owned(), cpm)].into(), waited: Some(0.25) }).unwrap();
}

fn end(journal: &mut Journal, folder: &Path, cpm: f64) {
    let best = Best { step: 2, metrics: [("cpm".to_owned(), cpm)].into() };
    fs::write(folder.join("best.json"), serde_json::to_vec(&best).unwrap()).unwrap();
    journal.write(Event::End { step: 2, stopped_early: false, best }).unwrap();
}

fn append(folder: &Path, text: &str) {
    fs::File::options().append(true).open(folder.join("journal.jsonl")).unwrap().write_all(text.as_bytes()).unwrap();
}

#[verifies("RR-001")]
#[test]
fn what_training_wrote_is_read_back() {
    let (folder, mut journal) = begun();
    step(&mut journal, 1, 2.0);
    step(&mut journal, 2, 1.0);
    evaluation(&mut journal, 2, 0.75);
    end(&mut journal, folder.path(), 0.75);
    drop(journal);
    let run = Run::read(folder.path()).unwrap();
    assert_eq!((run.name(), run.network(), run.state), ("demo-detector", "detector", State::Finished));
    assert_eq!(run.headline(), Some(("cpm", 0.75)));
    assert_eq!(run.history.losses, [(1, 2.0), (2, 1.0)]);
    assert_eq!(run.history.figure("cpm"), [(2, 0.75)]);
    assert_eq!((run.record.clone(), run.warning()), (record(), None));
}

#[test]
fn steps_that_a_resumed_run_repeats_count_once() {
    let (folder, mut journal) = begun();
    step(&mut journal, 1, 2.0);
    step(&mut journal, 2, 1.0);
    evaluation(&mut journal, 2, 0.5);
    step(&mut journal, 3, 9.0);
    journal.write(Event::Resume { step: 2 }).unwrap();
    step(&mut journal, 3, 0.5);
    evaluation(&mut journal, 3, 0.75);
    let history = History::of(&read_journal(folder.path()).unwrap().lines);
    assert_eq!(history.losses, [(1, 2.0), (2, 1.0), (3, 0.5)]);
    assert_eq!(history.figure("cpm"), [(2, 0.5), (3, 0.75)]);
    assert_eq!(history.step, 3);
}

#[test]
fn pauses_are_no_training_time() {
    let line = |time_ms: u64, event: Value| {
        let mut line = event;
        line["time_ms"] = json!(time_ms);
        serde_json::from_value(line).unwrap()
    };
    let start = serde_json::to_value(Event::Start { experiment: json!({}), run: record().into() }).unwrap();
    let step = |n: u64| json!({ "event": "step", "step": n, "loss": 1.0, "learning_rate": 0.1 });
    let resume = json!({ "event": "resume", "step": 1 });
    // 4 s until the power fails, a night, 2 s more.
    let lines = [line(1000, start), line(5000, step(1)), line(90_000_000, resume), line(90_002_000, step(2))];
    assert_eq!(History::of(&lines).seconds, Some(6.0));
}

#[verifies("RR-001")]
#[test]
fn a_run_killed_within_a_line_keeps_its_whole_lines_and_says_so() {
    let (folder, mut journal) = begun();
    step(&mut journal, 1, 2.0);
    drop(journal); // what the system does at kill -9
    append(folder.path(), r#"{"event":"step","step":2,"lo"#);
    let run = Run::read(folder.path()).unwrap();
    assert_eq!(run.history.losses, [(1, 2.0)]);
    assert_eq!(run.state, State::Interrupted);
    assert!(run.warning().unwrap().ends_with("cut in line 3; all whole lines are taken"));

    // Going on begins a new line; the cut one stays as it is and is still told of.
    let mut journal = Journal::open(folder.path()).unwrap();
    journal.write(Event::Resume { step: 1 }).unwrap();
    step(&mut journal, 2, 1.0);
    let run = Run::read(folder.path()).unwrap();
    assert_eq!(run.history.losses, [(1, 2.0), (2, 1.0)]);
    assert_eq!(run.journal.cut, [3]);
}

#[test]
fn every_cut_of_a_journal_gives_the_lines_before_it() {
    let (folder, mut journal) = begun();
    step(&mut journal, 1, 2.0);
    evaluation(&mut journal, 1, 0.5);
    drop(journal);
    let path = folder.path().join("journal.jsonl");
    let whole = fs::read(&path).unwrap();
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for length in 0..=whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let lines = whole[..length].iter().filter(|byte| **byte == b'\n').count();
        match read_journal(folder.path()) {
            Ok(entries) => {
                assert_eq!((entries.lines.len(), entries.cut.len()), (lines, usize::from(whole[length - 1] != b'\n')))
            }
            Err(error) => assert!(length < first && error.rule() == "run-empty", "{length}: {error}"),
        }
    }
}

#[test]
fn a_training_that_holds_the_journal_is_running_and_alone() {
    let (folder, journal) = begun();
    assert_eq!(Run::read(folder.path()).unwrap().state, State::Running);
    assert!(matches!(Journal::open(folder.path()), Err(RunError::Busy(_))));
    drop(journal);
    assert_eq!(Run::read(folder.path()).unwrap().state, State::Interrupted);
    assert!(Journal::open(folder.path()).is_ok());
}

#[test]
fn a_failed_run_says_so_until_it_is_resumed() {
    let (folder, mut journal) = begun();
    journal.write(Event::Failed { step: 0, reason: "loss is not finite".into() }).unwrap();
    drop(journal);
    assert_eq!(Run::read(folder.path()).unwrap().state, State::Failed);
}

#[test]
fn an_unfinished_run_is_remembered_by_its_newest_checkpoint() {
    let (folder, _journal) = begun();
    for (step, cpm) in [(10, 0.25), (20, 0.5)] {
        let at = folder.path().join(format!("checkpoint/{step:09}"));
        fs::create_dir_all(&at).unwrap();
        let state = json!({ "step": step, "stale": 0, "best": { "step": step, "metrics": { "cpm": cpm } } });
        fs::write(at.join("state.json"), state.to_string()).unwrap();
    }
    fs::create_dir_all(folder.path().join("checkpoint/draft")).unwrap();
    assert_eq!(Run::read(folder.path()).unwrap().headline(), Some(("cpm", 0.5)));
}

#[test]
fn a_figure_without_a_value_survives_as_nan() {
    let (folder, mut journal) = begun();
    evaluation(&mut journal, 1, f64::NAN);
    let history = History::of(&read_journal(folder.path()).unwrap().lines);
    assert!(history.figure("cpm")[0].1.is_nan());
}

#[verifies("RR-001")]
#[test]
fn what_is_no_run_or_a_mixed_one_is_refused_with_a_reason() {
    let check = |folder: &Path, rule: &str, words: &str| {
        let error = Run::read(folder).unwrap_err();
        assert_eq!(error.rule(), rule, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    let empty = tempfile::tempdir().unwrap();
    check(empty.path(), "not-a-run", "has no journal.jsonl");
    fs::write(empty.path().join("journal.jsonl"), "{\"event\":\"st").unwrap();
    check(empty.path(), "run-empty", "delete the folder");

    let (folder, _journal) = begun();
    append(folder.path(), "{\"event\":\"teleport\",\"step\":1}\n");
    check(folder.path(), "run-malformed", "line 2: not a line of this version's journals: unknown variant `teleport`");

    let (folder, _journal) = begun();
    fs::write(folder.path().join("run.json"), serde_json::to_vec(&RunRecord { threads: 64, ..record() }).unwrap())
        .unwrap();
    check(folder.path(), "run-mixed", "mixed or edited");
}

/// Journals from before lines had a time are read; their identity is the SHA-256 of the first line.
#[test]
fn a_journal_without_times_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let start = serde_json::to_string(&Event::Start { experiment: json!({}), run: record().into() }).unwrap();
    let text =
        format!("{start}\n{{\"event\":\"step\",\"learning_rate\":0.001,\"loss\":10.918561935424805,\"step\":1}}\n");
    fs::write(folder.path().join("journal.jsonl"), text).unwrap();
    let entries = read_journal(folder.path()).unwrap();
    let history = History::of(&entries.lines);
    assert_eq!((history.losses, history.seconds), (vec![(1, 10.918561935424805)], None));
    assert_eq!(entries.id.len(), 64);
}

#[test]
fn runs_are_found_in_a_folder_of_runs_and_as_themselves() {
    let (folder, _journal) = begun();
    let parent = folder.path().parent().unwrap().join(format!("{}-all", folder.path().file_name().unwrap().display()));
    fs::create_dir_all(parent.join("no-run")).unwrap();
    fs::create_dir_all(parent.join("b")).unwrap();
    fs::copy(folder.path().join("journal.jsonl"), parent.join("b/journal.jsonl")).unwrap();
    fs::create_dir_all(parent.join("folds/fold-0")).unwrap();
    fs::copy(folder.path().join("journal.jsonl"), parent.join("folds/fold-0/journal.jsonl")).unwrap();
    assert_eq!(find_runs(&parent).unwrap(), [parent.join("b"), parent.join("folds/fold-0")]);
    assert_eq!(find_runs(folder.path()).unwrap(), [folder.path()]);
    fs::remove_dir_all(parent).unwrap();
}

#[test]
fn the_mean_of_steps_is_unbiased_from_the_first_on() {
    assert_eq!(smoothed(&[(1, 4.0), (2, 4.0)]), [(1, 4.0), (2, 4.0)]);
}
