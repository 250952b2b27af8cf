//! `track list` and `track compare`.

use crate::folder::{Folder, MANIFEST, text};
use crate::program::{command, good, json};
use lungai_trace::verifies;
use serde_json::json;
use std::fs;

const OTHER: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn printed(words: &[&str]) -> String {
    let output = command(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The cells of a row, by its first.
fn row<'a>(table: &'a str, title: &str) -> Vec<&'a str> {
    let line = table.lines().find(|line| line.starts_with(title)).unwrap_or_else(|| panic!("{title}: {table}"));
    line[title.len()..].split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn a_comparison_shows_what_differs() {
    let (a, b) = (Folder::finished(1), Folder::finished(2));
    let value = good(&["compare", a.path(), b.path()]);
    assert_eq!((&value["same_data"], &value["parameters"]), (&json!(true), &json!({ "seed": ["1", "2"] })));
    assert_eq!(value["best"]["figures"]["cpm"], json!([0.5, 0.5]));
    assert_eq!(value["last"]["step"], json!([4, 4]));
    let all = good(&["compare", a.path(), b.path(), "--all"]);
    assert_eq!(all["parameters"].as_object().unwrap().len(), 7);
    let table = printed(&["compare", a.path(), b.path()]);
    assert_eq!(row(&table, "seed"), ["1", "2"]);
    assert_eq!(row(&table, "steps"), ["4/4", "4/4"]);
    assert_eq!(row(&table, "data"), ["phantom-quick (SYNTHETIC)", "phantom-quick (SYNTHETIC)"]);
    assert!(!table.contains("DIFFERENT DATA"));
}

#[verifies("RR-001")]
#[test]
fn runs_on_different_data_are_flagged_on_the_table_and_on_the_figure() {
    let (a, mut b, out) = (Folder::finished(1), Folder::begin(2, OTHER), tempfile::tempdir().unwrap());
    b.steps(1..=3);
    b.evaluation(3, 0.75);
    b.leave();
    let words = ["compare", a.path(), b.path(), "--out", text(out.path())];
    let table = printed(&words);
    assert!(table.starts_with("*** DIFFERENT DATA: these figures do not compare ***"), "{table}");
    assert!(table.contains(MANIFEST) && table.contains(OTHER));
    assert_eq!(row(&table, "state"), ["finished", "interrupted"]);
    assert_eq!(row(&table, "BEST"), ["step 4", "-"]);
    assert_eq!(good(&words)["same_data"], false);
    let svg = fs::read_to_string(out.path().join("compare.svg")).unwrap();
    let name = b.place.path().file_name().unwrap().to_str().unwrap().to_owned();
    for word in ["SYNTHETIC", "DIFFERENT DATA", "cpm 0.750", "cpm 0.500", "Step", &name] {
        assert!(svg.contains(word), "{word}");
    }
    assert!(fs::read(out.path().join("compare.png")).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn one_run_is_no_comparison() {
    let folder = Folder::finished(1);
    let (code, value) = json(&["compare", folder.path()], &[]);
    assert_eq!((code, &value["rule"]), (2, &json!("usage")));
}

#[test]
fn a_list_has_every_run_also_those_that_cannot_be_read() {
    let parent = tempfile::tempdir().unwrap();
    let put = |folder: &Folder, name: &str| fs::rename(folder.copy().keep(), parent.path().join(name)).unwrap();
    put(&Folder::finished(1), "a-done");
    let mut killed = Folder::begin(2, MANIFEST);
    killed.steps(1..=3);
    killed.cut();
    put(&killed, "b-killed");
    fs::create_dir(parent.path().join("c-broken")).unwrap();
    fs::write(parent.path().join("c-broken/journal.jsonl"), "{\"event\":\"teleport\"}\n").unwrap();
    fs::create_dir(parent.path().join("d-no-run")).unwrap();

    let value = good(&["list", text(parent.path())]);
    let states: Vec<&str> =
        value["runs"].as_array().unwrap().iter().map(|run| run["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["finished", "interrupted", "unreadable"]);
    assert_eq!(value["runs"][0]["headline"], json!({ "name": "cpm", "value": 0.5 }));
    assert_eq!(
        (&value["runs"][1]["step"], &value["runs"][1]["steps"], &value["runs"][1]["synthetic"]),
        (&json!(3), &json!(4), &json!(true))
    );
    let table = printed(&["list", text(parent.path())]);
    assert_eq!(row(&table, "a-done")[..4], ["detector", "finished", "4/4", "cpm 0.5000"]);
    assert!(table.contains("cut in line 5") && table.contains("unknown variant `teleport`"), "{table}");
}

#[test]
fn an_empty_folder_says_so_and_a_missing_one_fails() {
    let empty = tempfile::tempdir().unwrap();
    assert!(printed(&["list", text(empty.path())]).starts_with("no runs in "));
    let (code, value) = json(&["list", "/nowhere/at/all"], &[]);
    assert_eq!((code, &value["rule"]), (1, &json!("run-io")));
}
