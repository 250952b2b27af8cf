//! `track sync` on a server that works.

use crate::folder::{Folder, MANIFEST};
use crate::program::{command, json, sync};
use crate::stub::Stub;
use lungai_trace::verifies;
use serde_json::{Value, json};
use std::fs;

fn value<'a>(state: &'a Value, group: &str, key: &str) -> Option<&'a str> {
    state["runs"][0][group][key].as_str()
}

#[verifies("RR-001")]
#[test]
fn everything_of_a_run_arrives() {
    let (folder, stub) = (Folder::finished(1), Stub::fake());
    let (code, answer) = sync(folder.path(), &stub.url, &["--experiment", "lung nodules"]);
    assert_eq!(code, 0, "{answer}");
    assert_eq!(
        answer["runs"][0]["sent"],
        json!({ "metrics": 13, "params": 7, "artifacts":
        ["experiment.yaml", "run.json", "best.json", "curves.svg", "curves.png", "best.safetensors", "journal.jsonl"], "requests": 18 })
    );

    assert_eq!(answer["runs"][0]["url"], format!("{}/#/experiments/0/runs/0?workflowType=machine_learning", stub.url));

    let state = stub.state();
    assert_eq!(state["experiments"], json!(["lung nodules"]));
    let run = &state["runs"][0];
    assert_eq!((&run["name"], &run["status"]), (&json!("demo-detector (SYNTHETIC)"), &json!("FINISHED")));
    assert_eq!(value(&state, "params", "network.detector.widths"), Some("[8,16]"));
    assert_eq!(value(&state, "params", "training.learning_rate"), Some("0.004"));
    for (tag, expected) in [
        ("synthetic", "true"),
        ("lungai.device", "cpu"),
        ("lungai.threads", "2"),
        ("lungai.precision", "f32"),
        ("mlflow.source.git.commit", "a290da3d"),
        ("lungai.data.manifest_sha256", MANIFEST),
    ] {
        assert_eq!(value(&state, "tags", tag), Some(expected), "{tag}");
    }
    assert!(
        value(&state, "tags", "mlflow.note.content")
            .unwrap()
            .contains("SYNTHETIC data: the figures say nothing about patients")
    );
    let points: Vec<(&str, u64, &str)> = run["points"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| (point[0].as_str().unwrap(), point[1].as_u64().unwrap(), point[3].as_str().unwrap()))
        .collect();
    for point in [
        ("loss", 4, "0.25"),
        ("learning_rate", 1, "0.004"),
        ("cpm", 2, "0.25"),
        ("cpm", 4, "0.5"),
        ("best_cpm", 4, "0.5"),
        ("sensitivity_at_0.5", 4, "0.25"),
    ] {
        assert!(points.contains(&point), "{point:?}");
    }
    let input: Value = serde_json::from_str(run["inputs"][0].as_str().unwrap()).unwrap();
    assert_eq!(input["tags"], json!([{ "key": "mlflow.data.context", "value": "training" }]));
    assert_eq!(input["dataset"]["digest"], MANIFEST[..36]);
    assert!(input["dataset"]["source"].as_str().unwrap().contains(MANIFEST));
    for file in ["journal.jsonl", "best.safetensors", "run.json", "experiment.yaml"] {
        assert_eq!(run["files"][file], fs::read_to_string(folder.place.path().join(file)).unwrap(), "{file}");
    }
    // Start and end are those of the journal.
    let lines: Vec<Value> = fs::read_to_string(folder.place.path().join("journal.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((&run["start_time"], &run["end_time"]), (&lines[0]["time_ms"], &lines.last().unwrap()["time_ms"]));
}

#[verifies("RR-001")]
#[test]
fn a_second_sync_asks_twice_and_sends_nothing() {
    let (folder, stub) = (Folder::finished(1), Stub::fake());
    sync(folder.path(), &stub.url, &[]);
    let before = stub.state();
    stub.requests();
    let (code, answer) = sync(folder.path(), &stub.url, &[]);
    assert_eq!((code, &answer["runs"][0]["sent"]["requests"]), (0, &json!(0)));
    assert_eq!(stub.requests(), ["GET experiments/get-by-name", "POST runs/search"]);
    assert_eq!(stub.state(), before);
}

/// Ten stretches of a run's life, each followed by a sync, against one sync at the end.
#[verifies("RR-001")]
#[test]
fn a_run_synced_as_it_goes_on_ends_up_like_one_synced_once() {
    let (mut folder, often, once) = (Folder::begin(1, MANIFEST), Stub::fake(), Stub::fake());
    let check = |folder: &Folder, status: &str, points: u64| {
        let (code, answer) = sync(folder.path(), &often.url, &[]);
        assert_eq!((code, &answer["runs"][0]["sent"]["metrics"]), (0, &json!(points)), "{answer}");
        assert_eq!(often.state()["runs"][0]["status"], status);
    };
    check(&folder, "RUNNING", 0);
    folder.steps(1..=2);
    check(&folder, "RUNNING", 4);
    folder.evaluation(2, 0.25);
    folder.steps(3..=3);
    check(&folder, "RUNNING", 4);
    folder.leave();
    check(&folder, "KILLED", 0);
    // The third step comes again with the same loss: no second point of it.
    folder.resume(2);
    folder.steps(3..=4);
    check(&folder, "RUNNING", 2);
    folder.evaluation(4, 0.5);
    folder.fail(4);
    check(&folder, "FAILED", 2);
    folder.resume(4);
    folder.end(4, 0.5);
    check(&folder, "FINISHED", 1);
    check(&folder, "FINISHED", 0);
    sync(folder.path(), &once.url, &[]);
    assert_eq!(often.state(), once.state());
}

#[test]
fn long_runs_go_in_batches_that_mlflow_takes() {
    let mut experiment = json!({ "name": "long", "network": { "detector": {} }, "notes": "é".repeat(9000) });
    for number in 0..230 {
        experiment["many"][format!("p{number}")] = json!(number);
    }
    let (mut folder, stub) = (Folder::with(experiment, MANIFEST), Stub::fake());
    folder.steps(1..=1000);
    folder.leave();
    let (code, answer) = sync(folder.path(), &stub.url, &["--no-artifacts"]);
    assert_eq!(code, 0, "{answer}");
    let batches = stub.requests().iter().filter(|request| request.ends_with("runs/log-batch")).count();
    assert_eq!(batches, 3); // 2000 points of 899 a batch, 232 parameters of 100
    let state = stub.state();
    assert_eq!(state["runs"][0]["points"].as_array().unwrap().len(), 2000);
    assert_eq!(state["runs"][0]["params"].as_object().unwrap().len(), 232);
    assert!(value(&state, "params", "notes").unwrap().ends_with("(9000 characters; the whole is in experiment.yaml)"));
}

#[verifies("RR-001")]
#[test]
fn a_journal_cut_by_kill_9_is_synced_up_to_its_last_whole_line() {
    let (mut folder, stub) = (Folder::begin(1, MANIFEST), Stub::fake());
    folder.steps(1..=2);
    folder.cut();
    let output = command(&["sync", folder.path(), "--server", &stub.url]).output().unwrap();
    assert!(output.status.success());
    let warning = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(warning.contains("journal.jsonl: cut in line 4; all whole lines are taken"), "{warning}");
    assert_eq!(stub.state()["runs"][0]["points"].as_array().unwrap().len(), 4);
    // The run goes on, and so does the server's.
    folder.resume(0);
    folder.steps(1..=3);
    let (_, answer) = sync(folder.path(), &stub.url, &[]);
    assert_eq!((&answer["runs"][0]["sent"]["metrics"], &answer["runs"][0]["cut_lines"]), (&json!(2), &json!([4])));
}

#[test]
fn two_runs_of_the_same_experiment_stay_two() {
    let (a, b, stub) = (Folder::finished(1), Folder::finished(2), Stub::fake());
    let (code, answer) = json(&["sync", a.path(), b.path(), "--server", &stub.url], &[]);
    assert_eq!((code, answer["runs"].as_array().unwrap().len()), (0, 2));
    assert_eq!(stub.state()["runs"].as_array().unwrap().len(), 2);
}

#[test]
fn a_moved_folder_is_the_same_run() {
    let (folder, stub) = (Folder::finished(1), Stub::fake());
    sync(folder.path(), &stub.url, &[]);
    let copy = folder.copy();
    let (_, answer) = sync(crate::folder::text(copy.path()), &stub.url, &[]);
    assert_eq!((&answer["runs"][0]["created"], &answer["runs"][0]["sent"]["requests"]), (&json!(false), &json!(0)));
}

#[verifies("RR-001")]
#[test]
fn a_copy_that_went_on_otherwise_is_refused() {
    let (mut folder, stub) = (Folder::begin(1, MANIFEST), Stub::fake());
    folder.steps(1..=1);
    let older = folder.copy();
    folder.steps(2..=2);
    folder.leave();
    sync(folder.path(), &stub.url, &[]);
    let before = stub.state();
    let (code, answer) = sync(crate::folder::text(older.path()), &stub.url, &[]);
    assert_eq!((code, &answer["rule"]), (1, &json!("run-diverged")), "{answer}");
    assert_eq!(stub.state(), before);
}

#[verifies("RR-001")]
#[test]
fn a_finished_run_becomes_one_version_and_the_alias_moves() {
    let (first, second, stub) = (Folder::finished(1), Folder::finished(2), Stub::fake());
    let register = |folder: &Folder| {
        sync(folder.path(), &stub.url, &["--register", "lungai-detector", "--alias", "champion"]).1["runs"][0]["registered"].clone()
    };
    let version = |version: &str, created: bool| json!({ "name": "lungai-detector", "version": version, "alias": "champion", "created": created });
    assert_eq!(register(&first), version("1", true));
    assert_eq!(register(&first), version("1", false));
    assert_eq!(register(&second), version("2", true));
    let model = &stub.state()["models"]["lungai-detector"];
    assert_eq!(model["aliases"], json!({ "champion": "2" }));
    assert_eq!(model["versions"].as_array().unwrap().len(), 2);
    let version = &model["versions"][0];
    assert_eq!(version["source"], "mlflow-artifacts:/0/0/artifacts");
    assert!(version["description"].as_str().unwrap().contains("SYNTHETIC"));
    let tag =
        |key: &str| version["tags"].as_array().unwrap().iter().find(|tag| tag["key"] == key).unwrap()["value"].clone();
    assert_eq!((tag("synthetic"), tag("lungai.cpm")), (json!("true"), json!("0.5000")));
}

#[test]
fn what_may_still_change_is_not_registered() {
    let (mut folder, stub) = (Folder::begin(1, MANIFEST), Stub::fake());
    let check = |words: &[&str], rule: &str| {
        let (code, answer) = json(&[&["sync", "--server", &stub.url], words].concat(), &[]);
        assert_eq!((code, &answer["rule"]), (1, &json!(rule)), "{answer}");
        assert!(stub.requests().is_empty(), "nothing is sent");
    };
    check(&[folder.path(), "--register", "m"], "register-unfinished");
    check(&[folder.path(), "--register", "it's"], "register-name");
    folder.evaluation(1, 0.5);
    folder.end(1, 0.5);
    let other = Folder::finished(2);
    check(&[folder.path(), other.path(), "--register", "m"], "register-several");

    // Weights that change after all: a version may rest on them.
    sync(folder.path(), &stub.url, &["--register", "m"]);
    fs::write(folder.place.path().join("best.safetensors"), "others").unwrap();
    let (code, answer) = sync(folder.path(), &stub.url, &[]);
    assert_eq!((code, &answer["rule"]), (1, &json!("run-changed")));
}

#[test]
fn a_folder_that_is_no_run_stops_everything_before_anything_is_sent() {
    let (folder, stub, empty) = (Folder::finished(1), Stub::fake(), tempfile::tempdir().unwrap());
    let words = ["sync", folder.path(), crate::folder::text(empty.path()), "--server", &stub.url];
    let (code, answer) = json(&words, &[]);
    assert_eq!((code, &answer["rule"]), (1, &json!("not-a-run")));
    assert!(stub.requests().is_empty());
}
