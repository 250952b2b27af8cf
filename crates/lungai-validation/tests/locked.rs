//! A locked protocol at the terminal: what it pins, what its ledger tells, and what happens to whoever changes something
//! afterwards. The marks were made elsewhere, so that neither images nor a model are needed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use lungai_ct::{ReferenceNodule, WorldPoint};
use lungai_datasets::{nodules_csv, sha256};
use lungai_trace::verifies;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    /// Six scans of three centres with a malignant and a benign nodule each, covariates, two readers, and marks.
    fn new() -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap() };
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let protocol = std::fs::read_to_string(root.join("validation/phantom-small.yaml")).unwrap();
        let protocol = protocol
            .replace("../demo/data/phantom-small/manifest.yaml", "manifest.yaml")
            .replace("covariates: null", "covariates: people.csv")
            .replace(", readings/r3.csv]", "]");
        site.write("p.yaml", &protocol);
        let centres = ["coast-hospital", "delta-hospital", "hill-screening"];
        let mut manifest = format!(
            "name: phantom-small\nversion: \"1\"\nsynthetic: true\nlicence: CC0-1.0\ncentres: [{}]\ncases:\n",
            centres.join(", ")
        );
        let mut marks = "case,x_lps_mm,y_lps_mm,z_lps_mm,score,malignancy\n".to_owned();
        let mut people = "case,sex,age_years\n".to_owned();
        let mut reading = "case,x_lps_mm,y_lps_mm,z_lps_mm,diameter_mm,malignancy\n".to_owned();
        for i in 0..6 {
            let (id, centre) = (format!("s{i}"), centres[i % 3]);
            let nodule = |x: f64, malignant: bool| ReferenceNodule {
                id: format!("n{x}"),
                malignant: Some(malignant),
                ..ReferenceNodule::at(WorldPoint([x, 1.5, 2.5]), 8.0)
            };
            let table = nodules_csv(&[nodule(0.5, true), nodule(60.5, false)]);
            site.write(&format!("{id}.csv"), std::str::from_utf8(&table).unwrap());
            manifest += &format!("- id: {id}\n  patient: p{i}\n  centre: {centre}\n  split: test\n");
            manifest += &format!("  series: {{ path: {id}, sha256: {} }}\n", sha256(id.as_bytes()));
            manifest += &format!("  nodules: {{ path: {id}.csv, sha256: {} }}\n", sha256(&table));
            marks += &format!("{id},0.5,1.5,2.5,0.9,0.8\n{id},60.5,1.5,2.5,0.8,0.2\n{id},-90.5,1.5,2.5,0.7,0.1\n");
            people += &format!("{id},female,{}\n", 50 + i);
            reading += &format!("{id},0.5,1.5,2.5,8.0,4\n");
        }
        site.write("manifest.yaml", &manifest);
        site.write("marks.csv", &marks);
        site.write("people.csv", &people);
        std::fs::create_dir(site.path("readings")).unwrap();
        site.write("readings/r1.csv", &reading);
        site.write("readings/r2.csv", &reading);
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn program(&self) -> &'static str {
        env!("CARGO_BIN_EXE_lungai-validation")
    }

    /// Runs the program in the folder. `limit`: bytes to which files may grow.
    fn run_within(&self, limit: Option<&str>, words: &[&str]) -> (i32, Value) {
        let mut command = match limit {
            None => Command::new(self.program()),
            Some(blocks) => {
                let mut shell = Command::new("bash");
                let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
                shell.args(["-c", &script, "bash", self.program()]);
                shell
            }
        };
        let output = command.args(words).arg("--json").current_dir(self.folder.path()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let json = serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("{e} in {text:?}: {}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), json)
    }

    fn run(&self, words: &[&str]) -> (i32, Value) {
        self.run_within(None, words)
    }

    fn lock(&self) {
        let (code, out) = self.run(&["lock", "p.yaml", "--who", "ann"]);
        assert_eq!(code, 0, "{out}");
    }

    const ANALYSE: [&'static str; 11] = [
        "analyse",
        "p.yaml",
        "--predictions",
        "marks.csv",
        "--without-images",
        "--operating-point",
        "0.5",
        "--out",
        "out",
        "--who",
        "ann",
    ];

    #[track_caller]
    fn check_refused(&self, words: &[&str], exit: i32, rule: &str, part: &str) {
        let (code, out) = self.run(words);
        assert_eq!((code, out["rule"].as_str()), (exit, Some(rule)), "{out}");
        assert!(out["message"].as_str().unwrap().contains(part), "{out}");
    }
}

#[verifies("SW-1102", "RR-001")]
#[test]
fn a_table_beside_the_data_that_changed_after_the_lock_is_refused() {
    let site = Site::new();
    site.lock();
    let first = site.text("p.ledger.jsonl");
    for table in ["people.csv", "readings/r1.csv", "readings/r2.csv"] {
        assert!(first.contains(&sha256(site.text(table).as_bytes())), "{table} is in {first}");
    }
    let (code, out) = site.run(&Site::ANALYSE);
    assert_eq!(code, 3, "{out}");
    assert!(site.text("out/report.md").contains("readings/r1.csv, SHA-256"), "the lineage names it");
    assert_eq!(out["tables"]["people.csv"], sha256(site.text("people.csv").as_bytes()));

    let lines = site.text("p.ledger.jsonl").lines().count();
    for (table, from, to) in [("people.csv", ",50", ",51"), ("readings/r2.csv", "8.0,4", "8.0,5")] {
        let sound = site.text(table);
        site.write(table, &sound.replacen(from, to, 1));
        site.check_refused(&Site::ANALYSE, 4, "locked-data-changed", table);
        site.write(table, &sound);
    }
    assert_eq!(site.text("p.ledger.jsonl").lines().count(), lines, "nothing was opened");
}

#[verifies("SW-1102", "RR-001")]
#[test]
fn a_report_that_changed_after_it_was_written_is_named() {
    let site = Site::new();
    site.lock();
    site.run(&Site::ANALYSE);
    let verify = ["ledger", "verify", "p.yaml", "--results", "out"];
    assert_eq!(site.run(&verify).0, 0);
    let results: Value = serde_json::from_str(&site.text("out/results.json")).unwrap();
    assert!(results["files"].as_object().unwrap().len() > 40 && results["files"]["report.html"].is_string());
    let page = site.text("out/report.html");
    site.write("out/report.html", &page.replacen("NOT MET", "MET", 1));
    site.check_refused(&verify, 4, "tampered-results", "report.html");
    site.write("out/report.html", &page);
    std::fs::remove_file(site.path("out/tables/centres.csv")).unwrap();
    site.check_refused(&verify, 4, "tampered-results", "tables/centres.csv");
}

#[verifies("SW-1102")]
#[test]
fn a_ledger_that_is_named_must_be_there_under_its_name() {
    let site = Site::new();
    let named = |ledger: &'static str| [&Site::ANALYSE[..], &["--ledger", ledger]].concat();
    site.check_refused(&named("study.ledger.jsonl"), 1, "not-locked", "study.ledger.jsonl");
    let (code, out) = site.run(&["lock", "p.yaml", "--who", "ann", "--ledger", "study.ledger.jsonl"]);
    assert_eq!(code, 0, "{out}");
    let (_, out) = site.run(&named("study.ledger.jsonl"));
    assert_eq!(out["standing"]["kind"], "locked", "{out}");
    std::fs::copy(site.path("study.ledger.jsonl"), site.path("copy.ledger.jsonl")).unwrap();
    site.check_refused(&named("copy.ledger.jsonl"), 4, "ledger-renamed", "study.ledger.jsonl");
}

#[verifies("SW-1102", "RR-001")]
#[test]
fn a_line_that_does_not_fit_on_the_disk_leaves_the_ledger_as_it_was() {
    let site = Site::new();
    let (code, out) = site.run_within(Some("0"), &["lock", "p.yaml", "--who", "ann"]);
    assert_eq!((code, out["rule"].as_str()), (1, Some("file-access")), "{out}");
    assert!(!site.path("p.ledger.jsonl").exists());
    site.lock();
    let before = site.text("p.ledger.jsonl");
    // A purpose of two thousand letters, and room for one kilobyte.
    let purpose = "x".repeat(2000);
    let words = [&Site::ANALYSE[..], &["--purpose", &purpose]].concat();
    let (code, out) = site.run_within(Some("1"), &words);
    assert_eq!((code, out["rule"].as_str()), (1, Some("file-access")), "{out}");
    assert_eq!(site.text("p.ledger.jsonl"), before);
    assert_eq!(site.run(&["ledger", "verify", "p.yaml"]).0, 0);
}
