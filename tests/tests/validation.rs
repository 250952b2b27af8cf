//! A validation from the lock to the comparison: killed in the middle, in parts, with another's predictions, and with
//! everything that somebody may have changed. The networks of the chain have learned nothing; what they say must reach the
//! results unharmed.

use crate::chain::Chain;
use crate::programs::{good, json, path_of, root};
use lungai_trace::verifies;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const PROGRAM: &str = "lungai-validation";

/// A validation that nothing disturbed, made once.
struct Undisturbed {
    folder: tempfile::TempDir,
}

impl Undisturbed {
    fn get() -> &'static Self {
        static ONE: OnceLock<Undisturbed> = OnceLock::new();
        ONE.get_or_init(|| {
            let one = Self { folder: tempfile::tempdir().unwrap() };
            let (manifest, readings) = (Chain::get().path("data/manifest.yaml"), Chain::get().path("data/readings"));
            good("lungai", &["dataset", "readers", &manifest, "--out", &readings]);
            write_protocol(one.folder.path(), |text| text);
            let (code, value) = json(PROGRAM, &one.words("", &["--out", &one.path("out")]));
            // Networks that learned nothing show nothing.
            assert_eq!((code, value["rule"].as_str()), (3, Some("criterion-not-met")), "{value}");
            assert_eq!(value["standing"]["kind"], "exploratory");
            one
        })
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn words(&self, command: &str, more: &[&str]) -> Vec<&'static str> {
        words(command, &self.path("protocol.yaml"), true, more)
    }

    fn results(&self) -> Value {
        results(&self.folder.path().join("out"))
    }
}

/// The quick demonstration's protocol; even a network that learned nothing has marks of so low a score.
fn write_protocol(folder: &Path, change: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(root().join("validation/phantom-quick.yaml")).unwrap();
    let text = text.replacen("lowest_score: 0.02", "lowest_score: 0.0001", 1);
    let text = text.replacen("operating_point: default", "operating_point: \"0.0001\"", 1);
    fs::write(folder.join("protocol.yaml"), change(text)).unwrap();
}

/// The words of a command; they live as long as the program, which is short.
fn words(command: &str, protocol: &str, with_model: bool, more: &[&str]) -> Vec<&'static str> {
    let chain = Chain::get();
    let mut words: Vec<String> = [command].iter().filter(|c| !c.is_empty()).map(|c| (*c).to_owned()).collect();
    words.extend([
        protocol.to_owned(),
        "--manifest".into(),
        chain.path("data/manifest.yaml"),
        "--who".into(),
        "test".into(),
    ]);
    if with_model {
        words.extend(["--models".into(), chain.path("models/chain/1"), "--device".into(), "cpu".into()]);
    }
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words.into_iter().map(|word| &*Box::leak(word.into_boxed_str())).collect()
}

/// `results.json` without what differs from run to run: times, and hashes of files that hold times.
fn results(folder: &Path) -> Value {
    let mut value: Value = serde_json::from_slice(&fs::read(folder.join("results.json")).unwrap()).unwrap();
    for key in ["seconds", "times", "standing", "predictions_sha256", "files"] {
        value.as_object_mut().unwrap().remove(key).unwrap();
    }
    for scan in value["scans"].as_array_mut().unwrap() {
        scan.as_object_mut().unwrap().remove("seconds").unwrap();
    }
    value
}

#[verifies("SW-1102", "FR-004")]
#[test]
fn a_run_that_was_killed_and_one_in_parts_equal_one_that_nothing_disturbed() {
    let whole = Undisturbed::get();
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    let part = |shard: &str| whole.words("predict", &["--out", folder, "--shard", shard]);

    // Killed as soon as the first of its two scans is kept: one thread does one after the other.
    let mut child = Command::new(path_of(PROGRAM))
        .args(part("0/2"))
        .env("RAYON_NUM_THREADS", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let journal = out.path().join("predictions/shard-0-of-2.journal.jsonl");
    let patience = Instant::now() + Duration::from_secs(600);
    while !fs::read_to_string(&journal).is_ok_and(|text| text.lines().count() >= 2) {
        assert!(Instant::now() < patience && child.try_wait().unwrap().is_none(), "the run ended before it was killed");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // And the power failed within a line.
    let kept = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, format!("{kept}{{\"case\":\"gam")).unwrap();
    assert!(!out.path().join("predictions/shard-0-of-2.json").exists());

    let (code, value) = json(PROGRAM, &["merge", folder]);
    assert_eq!((code, value["rule"].as_str()), (75, Some("missing-shards")), "{value}");
    let first = kept.lines().nth(1).unwrap().to_owned();
    good(PROGRAM, &part("0/2"));
    assert!(!journal.exists());
    let (code, value) = json(PROGRAM, &["merge", folder]);
    assert_eq!((code, value["message"].as_str()), (75, Some("not finished yet: 1/2")), "{value}");
    good(PROGRAM, &part("1/2"));
    // A part that is finished stays as it is, and parts of something else are refused and not removed.
    let finished = out.path().join("predictions/shard-0-of-2.json");
    let before = fs::read(&finished).unwrap();
    good(PROGRAM, &part("0/2"));
    assert_eq!(fs::read(&finished).unwrap(), before);
    let (code, value) = json(PROGRAM, &part("0/3"));
    assert_eq!((code, value["rule"].as_str()), (1, Some("other-run")), "{value}");
    assert_eq!(fs::read(&finished).unwrap(), before);
    assert_eq!(good(PROGRAM, &["merge", folder])["cases"], 3);

    let words = words("analyse", &whole.path("protocol.yaml"), false, &["--predictions", folder, "--out", folder]);
    assert_eq!(json(PROGRAM, &words).0, 3);
    assert_eq!(results(out.path()), whole.results());
    // The scan that was kept before the kill was not done again: even its times are the same.
    let (_, kept) = first.split_once(' ').unwrap(); // behind the line's hash
    let kept: Value = serde_json::from_str(kept).unwrap();
    let all: Value = serde_json::from_slice(&fs::read(out.path().join("results.json")).unwrap()).unwrap();
    let scan = all["scans"].as_array().unwrap().iter().find(|scan| scan["case"] == kept["case"]).unwrap();
    assert_eq!(scan["seconds"], kept["seconds"]);
}

#[verifies("SW-1102", "SR-002")]
#[test]
fn a_locked_protocol_and_its_ledger_are_kept_or_named() {
    let whole = Undisturbed::get();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    write_protocol(folder.path(), |text| text);
    let protocol = at("protocol.yaml");
    let locked = good(PROGRAM, &words("lock", &protocol, false, &[]));
    // Comments change nothing.
    let text = fs::read_to_string(&protocol).unwrap();
    fs::write(&protocol, format!("{text}# a comment\n")).unwrap();
    let predictions = whole.path("out");
    let analyse = |out: &str| {
        let more = ["--predictions", &predictions, "--out", out, "--purpose", "first look"];
        json(PROGRAM, &words("analyse", &protocol, false, &more))
    };
    let (code, value) = json(PROGRAM, &words("", &protocol, true, &["--out", &at("out"), "--purpose", "first look"]));
    assert_eq!((code, value["standing"]["number"].as_u64()), (3, Some(2)), "{value}");
    let verified = good(PROGRAM, &["ledger", "verify", &protocol, "--results", &at("out")]);
    // The lock, the opening, the predictions and the results.
    assert_eq!(verified["lines"], 4);
    // Predictions that were made before the lock, however whole their hashes are, came of no opening.
    let (code, other) = analyse(&at("no"));
    assert_eq!((code, other["rule"].as_str()), (4, Some("predictions-not-in-ledger")), "{other}");
    let opened = &verified["entries"][1];
    assert_eq!((&opened["who"], &opened["purpose"]), (&"test".into(), &"first look".into()));
    assert_eq!(opened["protocol_sha256"], locked["canonical_sha256"]);
    assert_eq!(opened["data_fingerprint"], locked["data_fingerprint"]);
    assert_eq!(opened["system_sha256"], value["model"]["sha256"]);

    // Results that nobody's opening led to, and results that were changed.
    let (code, other) = json(PROGRAM, &["ledger", "verify", &protocol, "--results", &whole.path("out")]);
    assert_eq!((code, other["rule"].as_str()), (4, Some("results-not-in-ledger")), "{other}");
    let own = at("out/results.json");
    let changed = fs::read_to_string(&own).unwrap().replacen("\"met\": false", "\"met\": true", 1);
    fs::write(&own, changed).unwrap();
    let (code, other) = json(PROGRAM, &["ledger", "verify", &protocol, "--results", &at("out")]);
    assert_eq!((code, other["rule"].as_str()), (4, Some("results-not-in-ledger")), "{other}");

    // A digit of a limit.
    fs::write(&protocol, text.replacen("limit: 0.95", "limit: 0.90", 1)).unwrap();
    for command in ["lock", "analyse"] {
        let more: &[&str] = if command == "lock" { &[] } else { &["--predictions", &predictions, "--out", &at("no")] };
        let (code, value) = json(PROGRAM, &words(command, &protocol, false, more));
        assert_eq!((code, value["rule"].as_str()), (4, Some("locked-protocol-changed")), "{value}");
        let message = value["message"].as_str().unwrap();
        assert!(message.contains(locked["canonical_sha256"].as_str().unwrap()), "{message}");
        assert!(message.matches(|c: char| c.is_ascii_hexdigit()).count() >= 128, "both hashes: {message}");
    }
    assert!(!Path::new(&at("no")).exists());

    // A name in the ledger.
    fs::write(&protocol, text).unwrap();
    let ledger = at("protocol.ledger.jsonl");
    let lines = fs::read_to_string(&ledger).unwrap();
    fs::write(&ledger, lines.replacen("first look", "third look", 1)).unwrap();
    let (code, value) = analyse(&at("no"));
    assert_eq!((code, value["rule"].as_str()), (4, Some("ledger-tampered")), "{value}");
    assert!(value["message"].as_str().unwrap().contains("line 2"), "{value}");
    assert!(!Path::new(&at("no")).exists());
}

/// The marks of the undisturbed run, as another program would write them.
fn table() -> Vec<String> {
    let mut lines = vec!["seriesuid,coordX,coordY,coordZ,probability,diameter_mm,malignancy".to_owned()];
    for scan in Undisturbed::get().results()["scans"].as_array().unwrap() {
        for mark in scan["marks"].as_array().unwrap() {
            let p = &mark["position_lps_mm"];
            let (case, score) = (scan["case"].as_str().unwrap(), &mark["score"]);
            lines.push(format!(
                "{case},{},{},{},{score},{},{}",
                p[0], p[1], p[2], mark["diameter_mm"], mark["malignancy"]
            ));
        }
    }
    assert!(lines.len() > 10, "the networks marked something");
    lines
}

fn analyse_table(folder: &Path, lines: &[String], more: &[&str]) -> (i32, Value) {
    let (file, out) = (folder.join("marks.csv"), folder.join("out"));
    fs::write(&file, lines.join("\n") + "\n").unwrap();
    let mut all = vec!["--predictions", file.to_str().unwrap(), "--out", out.to_str().unwrap()];
    all.extend(more);
    json(PROGRAM, &words("analyse", &Undisturbed::get().path("protocol.yaml"), false, &all))
}

#[verifies("FR-004", "SW-1102")]
#[test]
fn predictions_of_another_program_are_judged_by_the_same_rules_and_compared() {
    let whole = Undisturbed::get();
    let folder = tempfile::tempdir().unwrap();
    let (code, value) = analyse_table(folder.path(), &table(), &["--system", "elsewhere 2"]);
    assert_eq!(code, 3, "{value}");
    assert_eq!(value["model"]["name"], "elsewhere 2");
    let ours = whole.results();
    for figure in ["/detection/cpm", "/detection/sensitivity", "/detection/fp_per_scan", "/malignancy/auc", "/strata"] {
        assert_eq!(value.pointer(figure), ours.pointer(figure), "{figure}");
    }
    // Three readers looked at every scan, and what they saw is beside what the system says.
    let readers = |scan: &Value| scan["readings"].as_array().unwrap().len();
    assert!(ours["scans"].as_array().unwrap().iter().all(|scan| readers(scan) == 3));
    // What such a table cannot tell is not there, and not made up.
    assert_eq!((&value["baseline"], &value["lungs"]["dice_left"]["value"]), (&Value::Null, &Value::Null));
    assert_eq!(value["seconds"]["total"]["value"], Value::Null);
    // How the scans were acquired comes from the scans.
    assert_eq!(value["scans"], Value::Null, "standard output has no records");
    let theirs = results(&folder.path().join("out"));
    assert_eq!(theirs["scans"][0]["covariates"], ours["scans"][0]["covariates"]);

    let out = folder.path().join("compared");
    let (a, b, out_word) = (whole.path("out"), folder.path().join("out"), out.to_str().unwrap());
    let compared = good(PROGRAM, &["compare", &a, b.to_str().unwrap(), "--out", out_word]);
    assert_eq!((&compared["found"]["only_a"], &compared["found"]["only_b"]), (&0.into(), &0.into()));
    assert_eq!(compared["tests"][0]["difference"], 0.0);
    for file in ["compare.html", "compare.zh.html", "compare.md", "compare.xlsx", "compare.json", "tables/nodules.csv"]
    {
        assert!(out.join(file).exists(), "{file}");
    }
}

#[verifies("FR-004", "SW-1102")]
#[test]
fn bad_predictions_are_named_and_leave_nothing_behind() {
    let good_lines = table();
    let check = |change: &dyn Fn(&mut Vec<String>), rule: &str, part: &str| {
        let folder = tempfile::tempdir().unwrap();
        let mut lines = good_lines.clone();
        change(&mut lines);
        let (code, value) = analyse_table(folder.path(), &lines, &[]);
        assert_eq!((code, value["rule"].as_str()), (1, Some(rule)), "{value}");
        let message = value["message"].as_str().unwrap();
        assert!(message.starts_with("marks.csv") && message.contains(part), "{message}");
        assert!(!folder.path().join("out").exists(), "{rule} left something behind");
    };
    let cell = |line: &str, at: usize, text: &str| {
        let mut cells: Vec<&str> = line.split(',').collect();
        cells[at] = text;
        cells.join(",")
    };
    check(&|l| l[3] = cell(&l[3], 0, "gamma-999"), "unknown-study", "line 4: its study is none of the data set's");
    check(
        &|l| l[3] = cell(&l[3], 0, "alpha-001"),
        "unknown-study",
        "line 4: study `alpha-001` is in the split `train`",
    );
    check(&|l| l[2] = cell(&l[2], 4, "NaN"), "not-finite", "line 3: score is NaN");
    check(&|l| l.push(l[1].clone()), "duplicated-mark", "the same mark as in line 2");
    check(&|l| l[2] = cell(&l[2], 6, "1.5"), "bad-value", "line 3: malignancy 1.5");
    check(&|l| l[2] = cell(&l[2], 5, "0"), "wrong-unit", "line 3: diameter_mm 0");
    check(&|l| l[2] = cell(&l[2], 1, "31234.5"), "wrong-unit", "line 3: [31234.5");
    check(&|l| l[2] = cell(&l[2], 1, "900.5"), "outside-scan", "line 3: (900.5");
    check(&|l| l[0] = l[0].replace("probability", "likelihood"), "unknown-column", "line 1: column `likelihood`");
    // The same marks as voxel numbers, whole and with fractions.
    let voxels = |fraction: f64| {
        let line = |i: usize| {
            // 184 columns of 1.8 mm round the middle: in mm all of these lie to the left of the scan.
            let v = [168 + i % 14, 80 + (7 * i) % 60, 20 + i].map(|v| v as f64 + fraction);
            format!("gamma-001,{},{},{},0.5,5,0.5", v[0], v[1], v[2])
        };
        std::iter::once(good_lines[0].clone()).chain((0..40).map(line)).collect::<Vec<_>>()
    };
    check(&|l| *l = voxels(0.0), "wrong-unit", "voxels, not patient LPS mm");
    check(&|l| *l = voxels(0.25), "wrong-unit", "as voxel numbers all lie within");
}

#[verifies("SW-1102", "SR-002")]
#[test]
fn predictions_that_somebody_changed_are_refused_and_named() {
    let whole = Undisturbed::get();
    let folder = tempfile::tempdir().unwrap();
    let copied = folder.path().join("predictions");
    fs::create_dir(&copied).unwrap();
    let from = PathBuf::from(whole.path("out/predictions"));
    for file in ["predictions.json", "shard-0-of-1.json", "shard-0-of-1.parquet"] {
        fs::copy(from.join(file), copied.join(file)).unwrap();
    }
    let parquet = copied.join("shard-0-of-1.parquet");
    let mut bytes = fs::read(&parquet).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&parquet, bytes).unwrap();
    let (out, read) = (folder.path().join("out"), folder.path().to_str().unwrap().to_owned());
    let more = ["--predictions", &read, "--out", out.to_str().unwrap()];
    let (code, value) = json(PROGRAM, &words("analyse", &whole.path("protocol.yaml"), false, &more));
    assert_eq!((code, value["rule"].as_str()), (4, Some("tampered-predictions")), "{value}");
    assert!(value["message"].as_str().unwrap().contains("shard-0-of-1.parquet"), "{value}");
    assert!(!out.exists());

    // Predictions for another protocol are no predictions for this one.
    write_protocol(folder.path(), |text| text.replacen("seed: 20260", "seed: 20261", 1));
    let protocol = folder.path().join("protocol.yaml");
    let predictions = whole.path("out");
    let more = ["--predictions", &predictions, "--out", out.to_str().unwrap()];
    let (code, value) = json(PROGRAM, &words("analyse", protocol.to_str().unwrap(), false, &more));
    assert_eq!((code, value["rule"].as_str()), (1, Some("other-protocol")), "{value}");
}

#[verifies("FR-004", "SW-1102")]
#[test]
fn a_test_set_that_cannot_carry_the_protocol_is_refused_before_anything_is_opened() {
    let whole = Undisturbed::get();
    let check = |change: &dyn Fn(String) -> String, rule: &str, part: &str| {
        let folder = tempfile::tempdir().unwrap();
        write_protocol(folder.path(), |text| {
            let changed = change(text.clone());
            assert_ne!(changed, text, "{rule}");
            changed
        });
        let (protocol, out) = (folder.path().join("protocol.yaml"), folder.path().join("out"));
        let words = words("", protocol.to_str().unwrap(), true, &["--out", out.to_str().unwrap()]);
        let (code, value) = json(PROGRAM, &words);
        assert_eq!((code, value["rule"].as_str()), (1, Some(rule)), "{value}");
        assert!(value["message"].as_str().unwrap().contains(part), "{value}");
        assert!(!out.exists());
    };
    check(&|t| t.replacen("[3.0, 30.0]", "[29.9, 30.0]", 1), "no-positives", "3 test scans hold no scored nodule");
    check(&|t| t.replacen("centres: [gamma]", "centres: [gamma, delta]", 1), "no-test-cases", "`delta`");
    check(&|t| t.replacen("covariates: null", "covariates: people.csv", 1), "file-access", "people.csv");
    check(&|t| t.replacen("votes_needed: 0", "votes_needed: 2", 1), "protocol", "votes_needed");

    // Eligibility is known when the scans were seen; a centre must not vanish by it.
    let folder = tempfile::tempdir().unwrap();
    write_protocol(folder.path(), |text| text.replacen("below: 3.01", "below: 0.5", 1));
    let file = folder.path().join("marks.csv");
    fs::write(&file, table().join("\n") + "\n").unwrap();
    let (protocol, out) = (folder.path().join("protocol.yaml"), folder.path().join("out"));
    let more = ["--predictions", file.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let (code, value) = json(PROGRAM, &words("analyse", protocol.to_str().unwrap(), false, &more));
    assert_eq!((code, value["rule"].as_str()), (1, Some("empty-centre")), "{value}");
    assert!(!out.exists());
    let flow = &whole.results()["flow"];
    let ids: Vec<&str> = flow.as_array().unwrap().iter().map(|step| step["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["test-split", "other-centre", "no-reference", "slice-thickness", "quality-gate"]);
    assert_eq!(flow[4]["left"]["scans"], whole.results()["counts"]["scans"]);
}
