//! A whole run on a small synthetic set, with a frozen model of untrained networks: what is asked here is that a
//! protocol becomes results, figures and a verdict, not that the results are good.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use lungai_datasets::recipe::{Recipe, make};
use lungai_metrics::froc::{Interpolation, froc};
use lungai_metrics::matching::{Lesion, Mark, MatchRule};
use lungai_models::frozen::untrained;
use lungai_trace::verifies;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A frozen model in `registry/untrained/1`, its key trusted.
fn frozen(registry: &Path) -> PathBuf {
    untrained(registry, BTreeMap::from([("default".into(), 0.1)])).unwrap().0
}

struct Site {
    folder: tempfile::TempDir,
    model: PathBuf,
    protocol: String,
}

impl Site {
    /// Two test scans of one centre, the model, and the demonstration's protocol for them.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut recipe = Recipe::load(&root.join("datasets/phantom-quick.yaml")).unwrap();
        recipe.centres.retain(|centre| centre.test > 0);
        recipe.centres[0].test = 2;
        recipe.centres[0].scanner.matrix = 128;
        recipe.centres[0].scanner.pixel_spacing_mm = 2.6;
        recipe.centres[0].scanner.slice_spacing_mm = 2.8;
        make(&recipe, &folder.path().join("data"), &|_| ()).unwrap();
        let protocol = std::fs::read_to_string(root.join("validation/phantom-small.yaml"))
            .unwrap()
            .replace("data_set: phantom-small", "data_set: phantom-quick")
            .replace("lowest_score: 0.02", "lowest_score: 0.0")
            .replace("[readings/r1.csv, readings/r2.csv, readings/r3.csv]", "[]")
            .replace("reader_agreement: true", "reader_agreement: false")
            .replace("../demo/data/phantom-small/manifest.yaml", "data/manifest.yaml")
            .replace("[coast-hospital, delta-hospital, hill-screening]", &format!("[{}]", recipe.centres[0].name));
        let model = frozen(&folder.path().join("models"));
        Self { folder, model, protocol }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, protocol: &str) -> (i32, Value) {
        std::fs::write(self.path("protocol.yaml"), protocol).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lungai-validation"));
        command
            .arg(self.path("protocol.yaml"))
            .arg("--models")
            .arg(self.path("models"))
            .arg("--out")
            .arg(self.path("out"));
        let output = command.args(["--device", "cpu", "--json"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e} in {text:?}")))
    }

    /// Any command, with its words.
    fn command(&self, words: &[&str]) -> (i32, Value) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lungai-validation"));
        let output = command.args(words).arg("--json").current_dir(self.folder.path()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e} in {text:?}")))
    }

    fn check_failure(&self, protocol: &str, exit: i32, rule: &str, message: &str) {
        let (code, out) = self.run(protocol);
        assert_eq!((code, out["rule"].as_str().unwrap()), (exit, rule), "{out}");
        assert!(out["message"].as_str().unwrap().contains(message), "{out}");
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path("out").join(name)).unwrap()
    }
}

/// Lines of a CSV table as maps from column to cell.
fn lines(text: &str) -> Vec<BTreeMap<&str, &str>> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    lines.map(|line| header.iter().copied().zip(line.split(',')).collect()).collect()
}

#[verifies("FR-003", "FR-004", "FR-005")]
#[test]
fn a_protocol_becomes_results_figures_and_a_verdict() {
    let site = Site::new();
    let (exit, out) = site.run(&site.protocol);
    assert_eq!(exit, 3, "untrained networks meet no criterion: {out}");
    assert_eq!((&out["ok"], &out["rule"]), (&false.into(), &"criterion-not-met".into()));
    assert_eq!((&out["counts"]["scans"], &out["synthetic"]), (&2.into(), &true.into()));

    let results: Value = serde_json::from_str(&site.text("results.json")).unwrap();
    assert_eq!(results["scans"].as_array().unwrap().len(), 2);
    assert_eq!(results["detection"], out["detection"]);
    for criterion in results["criteria"].as_array().unwrap() {
        for key in ["id", "requirement", "metric", "value", "ci", "limit", "op", "on", "met", "n"] {
            assert!(criterion.get(key).is_some(), "{key} in {criterion}");
        }
    }
    let sha = |path: PathBuf| lungai_datasets::sha256(&std::fs::read(path).unwrap());
    assert_eq!(results["manifest_sha256"], sha(site.path("data/manifest.yaml")));
    assert_eq!(results["model"]["sha256"], sha(site.model.join("model.sig")));

    for name in ["froc", "dice", "sizes"] {
        let png = std::fs::read(site.path("out").join(format!("{name}.png"))).unwrap();
        assert!(png.starts_with(b"\x89PNG") && png.len() > 10_000, "{name}");
        assert!(site.text(&format!("{name}.svg")).contains("SYNTHETIC"), "{name}");
    }
    assert!(std::fs::read(site.path("out/marks.parquet")).unwrap().starts_with(b"PAR1"));
    let html = site.text("report.html");
    assert!(site.text("report.md").starts_with("**Not cleared for clinical use. SYNTHETIC data"));
    assert!(html.find("Not cleared for clinical use. SYNTHETIC").unwrap() < html.find("<h1>").unwrap());
    let links = html.replace("http://www.w3.org/2000/svg", "").replace("src=\"data:image/png;base64,", "");
    assert!(!["http", "<script", "src=", "@import"].iter().any(|word| links.contains(word)), "needs no network");
}

#[verifies("FR-004")]
#[test]
fn the_tables_give_the_curve_again() {
    let site = Site::new();
    let (_, out) = site.run(&site.protocol);
    let uids = site.text("seriesuids.csv");
    let mut scans: BTreeMap<&str, (Vec<Mark>, Vec<Lesion>)> =
        uids.lines().map(|uid| (uid, Default::default())).collect();
    let number = |line: &BTreeMap<&str, &str>, column: &str| line[column].parse::<f64>().unwrap();
    let position = |line: &BTreeMap<&str, &str>| {
        lungai_ct::WorldPoint(["coordX", "coordY", "coordZ"].map(|column| number(line, column)))
    };
    for (name, excluded) in [("annotations.csv", false), ("annotations_excluded.csv", true)] {
        let text = site.text(name);
        for line in lines(&text) {
            let lesion = Lesion { position: position(&line), diameter_mm: number(&line, "diameter_mm"), excluded };
            scans.get_mut(line["seriesuid"]).unwrap().1.push(lesion);
        }
    }
    let marks = site.text("marks.csv");
    for line in lines(&marks).iter().filter(|line| line["system"] == "model") {
        let mark = Mark { position: position(line), score: number(line, "probability") };
        scans.get_mut(line["seriesuid"]).unwrap().0.push(mark);
    }
    let scans: Vec<_> = scans.into_values().collect();
    let again = froc(&scans, &MatchRule::LUNA16).unwrap();
    assert!(again.counts().false_positives > 0, "an untrained detector marks something");
    let cpm = out["detection"]["cpm"]["value"].as_f64().unwrap();
    assert!((again.cpm(Interpolation::Linear) - cpm).abs() < 1e-12);
    assert_eq!(again.counts().nodules as u64, out["counts"]["nodules"].as_u64().unwrap());
}

#[test]
fn what_is_not_as_frozen_or_written_stops_the_run_by_name() {
    let site = Site::new();
    let p = &site.protocol;
    site.check_failure(&p.replace("phantom-quick", "other"), 1, "other-data-set", "`other`");
    site.check_failure(
        &p.replace("calibration_bins:", "calibration_bin:"),
        1,
        "bad-configuration",
        "did you mean `calibration_bins`?",
    );
    site.check_failure(&p.replace("[gamma]", "[delta]"), 1, "no-test-cases", "`delta`");
    site.check_failure(&p.replace("point: default", "point: sharp"), 1, "operating-point", "`sharp`");
    site.check_failure(&p.replace("rates: [0.125", "rates: [9.0"), 1, "protocol", "froc.rates");

    let mask = site.path("data/cases/gamma-001/lungs.nii.gz");
    let sound = std::fs::read(&mask).unwrap();
    let mut changed = sound.clone();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(&mask, changed).unwrap();
    let (exit, out) = site.run(p);
    assert_eq!(exit, 4, "a locked test set that changed: {out}");
    std::fs::write(&mask, sound).unwrap();

    std::fs::rename(site.path("models"), site.path("elsewhere")).unwrap();
    site.check_failure(p, 1, "no-model", "no frozen model");
    std::fs::rename(site.path("elsewhere"), site.path("models")).unwrap();

    let weights = site.model.join("model.safetensors");
    let mut changed = std::fs::read(&weights).unwrap();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, changed).unwrap();
    let (exit, out) = site.run(p);
    assert_eq!(exit, 4, "a frozen model that changed: {out}");
}

#[verifies("SW-1102", "RR-001")]
#[test]
fn under_a_lock_predictions_are_those_that_the_ledger_saw_and_a_finished_run_stays() {
    let site = Site::new();
    std::fs::write(site.path("p.yaml"), &site.protocol).unwrap();
    let with_model = |command: &'static [&'static str], out: &'static str| {
        let words = ["p.yaml", "--models", "models", "--device", "cpu", "--who", "ann", "--out", out];
        site.command(&[command, &words[..]].concat())
    };
    // Before the lock: exploratory, and their hashes are whole.
    assert_eq!(with_model(&["predict"], "before").0, 0);
    assert_eq!(site.command(&["lock", "p.yaml", "--who", "ann"]).0, 0);
    let analyse = ["analyse", "p.yaml", "--who", "ann", "--predictions", "before", "--out", "no"];
    let (code, out) = site.command(&analyse);
    assert_eq!((code, out["rule"].as_str()), (4, Some("predictions-not-in-ledger")), "{out}");
    assert!(!site.path("no").exists());

    let (code, out) = with_model(&[], "out");
    assert_eq!((code, &out["standing"]["kind"]), (3, &"locked".into()), "{out}");
    // A scan that has no files has no time of loading; these have.
    assert!(out["seconds"]["total"]["value"].is_number(), "{out}");
    let verify = ["ledger", "verify", "p.yaml", "--results", "out"];
    let lines = |(code, out): (i32, Value)| {
        assert_eq!(code, 0, "{out}");
        out["lines"].as_u64().unwrap()
    };
    // The lock, an opening that came to nothing, and an opening with its predictions and results.
    assert_eq!(lines(site.command(&verify)), 5);

    // The same again analyses what is there; with another threshold of the curve it is another run, and nothing is removed.
    let parquet = site.path("out/predictions/shard-0-of-1.parquet");
    let before = std::fs::read(&parquet).unwrap();
    let (code, again) = with_model(&[], "out");
    assert_eq!((code, &again["predictions_sha256"]), (3, &out["predictions_sha256"]), "{again}");
    assert_eq!(lines(site.command(&verify)), 7);
    std::fs::write(site.path("q.yaml"), site.protocol.replace("lowest_score: 0.0", "lowest_score: 0.01")).unwrap();
    let (code, other) =
        site.command(&["q.yaml", "--models", "models", "--device", "cpu", "--who", "ann", "--out", "out"]);
    assert_eq!((code, other["rule"].as_str()), (1, Some("other-run")), "{other}");
    assert_eq!(std::fs::read(&parquet).unwrap(), before);
}
