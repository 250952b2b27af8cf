//! Data, training, freezing, analysis: the chain on the smallest synthetic scans that still have lungs. What the
//! networks learn in two steps is nothing; that every artefact reaches the next program unharmed is the point.

use crate::programs::{good, json, path_of, root};
use lungai_trace::verifies;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// One frozen model with its runs and data, made once for all tests of this program.
pub struct Chain {
    folder: tempfile::TempDir,
}

const NETWORKS: [(&str, &[&str]); 3] = [
    ("lung", &["network.lung.width=2", "network.lung.tile=32"]),
    (
        "detector",
        &[
            "network.detector.widths=[4, 4, 8]",
            "network.detector.head_width=8",
            "network.detector.spacing_mm=3.0",
            // Everything that an interrupted run must find again.
            "training.accumulate=2",
            "training.average=0.9",
            "training.detector.mined_share=0.1",
            "training.detector.mine_after=0.75",
        ],
    ),
    ("classifier", &["network.classifier.width=4", "network.classifier.tile=16"]),
];

impl Chain {
    pub fn get() -> &'static Self {
        static CHAIN: OnceLock<Chain> = OnceLock::new();
        CHAIN.get_or_init(Self::make)
    }

    fn make() -> Self {
        let chain = Self { folder: tempfile::tempdir().unwrap() };
        let recipe = root().join("datasets/phantom-quick.yaml");
        good("lungai", &["dataset", "make", recipe.to_str().unwrap(), "--out", &chain.path("data")]);
        for (network, sets) in NETWORKS {
            chain.train(&format!("demo-{network}"), &format!("runs/{network}"), sets);
        }
        let runs = NETWORKS.map(|(network, _)| chain.path(&format!("runs/{network}")));
        let mut words = vec!["freeze"];
        words.extend(runs.iter().map(String::as_str));
        let models = chain.path("models");
        words.extend(["--name", "chain", "--version", "1", "--models", &models]);
        good("lungai-train", &words);
        chain
    }

    /// A few steps of an experiment.
    fn train(&self, experiment: &str, run: &str, sets: &[&str]) -> Value {
        let experiment = root().join(format!("experiments/{experiment}.yaml"));
        let (run, data) = (self.path(run), self.path("data/manifest.yaml"));
        let mut words = vec!["train", experiment.to_str().unwrap(), "--data", &data, "--run", &run, "--device", "cpu"];
        let common = ["training.steps=4", "training.evaluate_every=2", "training.warmup_steps=1", "training.batch=2"];
        for set in common.iter().chain(sets) {
            words.extend(["--set", set]);
        }
        good("lungai-train", &words)
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// A copy of the model registry that a test may spoil.
    fn registry(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(Path::new(&self.path("models")), copy.path());
        copy
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A scan of the split that no training saw.
fn test_scan(chain: &Chain) -> String {
    chain.path("data/cases/gamma-001/dicom")
}

#[verifies("FR-003", "FR-004", "FR-005")]
#[test]
fn a_frozen_model_analyses_a_dicom_folder_into_findings_of_at_least_3_mm() {
    let chain = Chain::get();
    let out = tempfile::tempdir().unwrap();
    let model = chain.path("models/chain/1");
    let out = out.path().to_str().unwrap();
    let scan = test_scan(chain);
    let value = good("lungai", &["analyze", &scan, "--models", &model, "--operating-point", "0.001", "--out", out]);
    assert_eq!(value["model"]["name"], "chain");
    assert_eq!(value["model"]["synthetic"], true);
    assert_eq!(value["operating_threshold"], 0.001);
    for finding in value["findings"].as_array().unwrap() {
        assert!(finding["diameter_mm"].as_f64().unwrap() >= 3.0);
        let probability = finding["malignancy"]["probability"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&probability));
    }
    assert!(Path::new(out).join("findings.json").exists() && Path::new(out).join("lungs.nii.gz").exists());
}

#[verifies("SR-002", "R-005", "SW-902")]
#[test]
fn a_model_with_one_changed_bit_is_refused_with_exit_code_4_by_the_service_too() {
    let registry = Chain::get().registry();
    let model = registry.path().join("chain/1");
    let weights = model.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let out = registry.path().join("out");
    let scan = test_scan(Chain::get());
    let words = ["analyze", &scan, "--models", model.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let (code, value) = json("lungai", &words);
    assert_eq!((code, value["rule"].as_str()), (4, Some("model-file")), "{value}");
    assert!(!out.join("findings.json").exists());

    let (model, data) = (model.to_str().unwrap(), registry.path().join("service"));
    let words = ["--models", model, "--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0"];
    let service = Command::new(path_of("lungai-serve")).args(words).output().unwrap();
    assert_eq!(service.status.code(), Some(4), "{}", String::from_utf8_lossy(&service.stderr));
}

#[test]
fn an_interrupted_run_equals_an_uninterrupted_one_bit_by_bit() {
    let chain = Chain::get();
    let whole = PathBuf::from(chain.path("runs/detector"));
    let copy = tempfile::tempdir().unwrap();
    copy_folder(&whole, copy.path());
    // As if the power had failed after the first checkpoint.
    fs::remove_dir_all(copy.path().join("checkpoint/000000004")).unwrap();
    fs::remove_file(copy.path().join("best.json")).unwrap();
    let run = copy.path().to_str().unwrap();
    good("lungai-train", &["train", "--resume", run, "--device", "cpu"]);
    for file in ["checkpoint/000000004/model.bpk", "best.json", "best.safetensors"] {
        let same = fs::read(whole.join(file)).unwrap() == fs::read(copy.path().join(file)).unwrap();
        assert!(same, "{file} differs");
    }
    // Now there is nothing left to do, and nothing is done.
    let journal = fs::read(copy.path().join("journal.jsonl")).unwrap();
    let again = Command::new(path_of("lungai-train")).args(["train", "--resume", run]).output().unwrap();
    let text = String::from_utf8(again.stdout).unwrap();
    assert!(text.starts_with(&format!("{run} is finished: 4 steps\n{run}  best at step ")), "{text}");
    assert!(text.contains("--set training.steps=8 --run"), "{text}");
    assert_eq!(fs::read(copy.path().join("journal.jsonl")).unwrap(), journal);
}

/// A weights file of a network without matrices as PyTorch would name it: a norm's gamma and beta are its weight and bias.
fn in_torch_names(weights: &[u8]) -> Vec<u8> {
    let (length, rest) = weights.split_at(8);
    let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
    let header = std::str::from_utf8(header).unwrap().trim_end();
    let header = header.replace(".gamma\"", ".weight\"").replace(".beta\"", ".bias\"");
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

#[verifies("RR-001")]
#[test]
fn weights_from_pytorch_freeze_like_a_run_and_the_model_says_where_they_come_from() {
    let chain = Chain::get();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let trained = PathBuf::from(chain.path("runs/lung"));
    let weights = fs::read(trained.join("best.safetensors")).unwrap();
    fs::write(at("lung.safetensors"), in_torch_names(&weights)).unwrap();
    let experiment = trained.join("experiment.yaml");
    let (file, run) = (at("lung.safetensors"), at("imported"));
    let words = ["import-torch", &file, "--experiment", experiment.to_str().unwrap(), "--run", &run, "--device", "cpu"];
    let value = good("lungai-train", &words);
    assert!(
        value["tensors"]
            .as_array()
            .unwrap()
            .iter()
            .any(|t| { t["from"] == "bottleneck.first.norm.weight" && t["to"] == "bottleneck.first.norm.gamma" })
    );
    // The same weights on the same scans: byte for byte and figure for figure those of the run that trained them.
    assert!(weights == fs::read(folder.path().join("imported/best.safetensors")).unwrap());
    let figures: serde_json::Value = serde_json::from_slice(&fs::read(trained.join("best.json")).unwrap()).unwrap();
    assert_eq!(value["best"]["metrics"], figures["metrics"]);
    let (code, value) = json("lungai-train", &words);
    assert_eq!((code, value["rule"].as_str()), (1, Some("import-failed")), "{value}");

    let (detector, classifier, models) = (chain.path("runs/detector"), chain.path("runs/classifier"), at("models"));
    let words = ["freeze", &run, &detector, &classifier, "--name", "mixed", "--version", "1", "--models", &models];
    good("lungai-train", &words);
    let manifest = manifest(&at("models/mixed/1"));
    assert_eq!(manifest["training"]["lung"]["imported_sha256"].as_str().map(str::len), Some(64));
    assert!(manifest["training"]["detector"].get("imported_sha256").is_none());
}

#[test]
fn a_frozen_model_is_exported_as_onnx_only_if_it_is_intact() {
    let chain = Chain::get();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let value = good("lungai-train", &["export", &chain.path("models/chain/1"), "--out", &at("onnx")]);
    assert_eq!(value["synthetic"], true);
    let files: Vec<&str> = value["files"].as_array().unwrap().iter().filter_map(|f| f["file"].as_str()).collect();
    assert_eq!(files, ["lung.onnx", "detector.onnx", "classifier.onnx", "README.md"]);
    for file in files {
        assert!(folder.path().join("onnx").join(file).is_file(), "{file}");
    }
    copy_folder(Path::new(&chain.path("models")), Path::new(&at("models")));
    fs::write(folder.path().join("models/chain/1/MODEL_CARD.md"), "better").unwrap();
    let (code, value) = json("lungai-train", &["export", &at("models/chain/1"), "--out", &at("again")]);
    assert_eq!((code, value["rule"].as_str()), (4, Some("model-file")), "{value}");
    assert!(!folder.path().join("again").exists());
}

fn manifest(model: &str) -> Value {
    serde_json::from_slice(&fs::read(Path::new(model).join("manifest.json")).unwrap()).unwrap()
}

/// Two folds of the detector, a reducer for each; one pair as a model, and the averages of both.
#[verifies("FR-004", "RR-001")]
#[test]
fn a_second_look_and_averaged_folds_freeze_into_one_model() {
    let chain = Chain::get();
    // So fast that it takes a lot for nodules: something to look at again.
    let rash = [
        "training.steps=12",
        "training.evaluate_every=12",
        "training.learning_rate=0.05",
        "training.detector.positive_share=1.0",
        "training.detector.mimic_share=0.0",
        "training.detector.mined_share=0.0",
        "repeat={folds: 2, seeds: [1]}",
    ];
    chain.train("demo-detector", "more/detectors", &[NETWORKS[1].1, &rash].concat());
    let detector = format!("training.reducer.detector={}", chain.path("more/detectors"));
    let small = ["network.reducer.width=2", "network.reducer.tile=12", "network.reducer.spacing_mm=2.0"];
    chain.train(
        "reference-reducer",
        "more/reducers",
        &[&small[..], &[&detector, "repeat={folds: 2, seeds: [5]}"]].concat(),
    );

    let models = chain.path("reduced");
    let freeze = |version: &str, detector: &str, reducer: &str| {
        let runs = ["runs/lung", detector, "runs/classifier", reducer].map(|run| chain.path(run));
        let runs: Vec<&str> = runs.iter().map(String::as_str).collect();
        let tail = ["--name", "reduced", "--version", version, "--models", &models];
        json("lungai-train", &[&["freeze"], &runs[..], &tail].concat())
    };
    let scan = test_scan(chain);
    let analyse = |version: &str| {
        let out = tempfile::tempdir().unwrap();
        let (model, out) = (format!("{models}/reduced/{version}"), out.path().to_str().unwrap());
        good("lungai", &["analyze", &scan, "--models", &model, "--operating-point", "0.1", "--out", out])
    };
    let read = |path: &str| -> Value { serde_json::from_slice(&fs::read(chain.path(path)).unwrap()).unwrap() };

    // One of each: the reducer's thresholds, and the detector that it was trained with.
    assert_eq!(freeze("1", "more/detectors/fold-1-of-2-seed-1", "more/reducers/fold-1-of-2-seed-5").0, 0);
    let figures = &read("more/reducers/fold-1-of-2-seed-5/best.json")["metrics"];
    assert!(figures["cpm"].is_number() && figures["cpm_before"].is_number(), "{figures}");
    assert_eq!(read("reduced/reduced/1/manifest.json")["operating_points"]["default"], figures["threshold_at_0.5"]);
    let record = read("more/reducers/fold-2-of-2-seed-5/run.json");
    assert_eq!(record["proposer"]["run"], "fold-2-of-2-seed-1");
    let found = analyse("1");
    let found = found["findings"].as_array().unwrap();
    assert!(!found.is_empty() && found.iter().all(|finding| finding["score"].as_f64().unwrap() >= 0.1));

    // Thresholds with one detector say nothing of those with another.
    let (code, refused) = freeze("2", "more/detectors/fold-2-of-2-seed-1", "more/reducers/fold-1-of-2-seed-5");
    let message = refused["message"].as_str().unwrap();
    assert!(code == 1 && message.contains("another detector (run `fold-1-of-2-seed-1`)"), "{refused}");
    assert!(!Path::new(&chain.path("reduced/reduced/2")).exists());

    assert_eq!(freeze("3", "more/detectors", "more/reducers").0, 0);
    let manifest = read("reduced/reduced/3/manifest.json");
    for network in ["detector", "reducer"] {
        let ensemble = &manifest["ensembles"][network];
        // Five train and tune cases, each held out by one of two folds.
        assert_eq!((&ensemble["basis"], &ensemble["cases"]), (&"out-of-fold".into(), &5.into()), "{manifest}");
        assert_eq!(ensemble["further"].as_array().unwrap().len(), 1);
    }
    let together = &manifest["ensembles"]["reducer"]["metrics"];
    assert_eq!(manifest["operating_points"]["default"], together["threshold_at_0.5"]);
    let card = fs::read_to_string(chain.path("reduced/reduced/3/MODEL_CARD.md")).unwrap();
    assert!(card.contains("| detector | 2 | 5 | out of fold"), "{card}");
    assert!(!analyse("3")["findings"].as_array().unwrap().is_empty());
    let exported =
        good("lungai-train", &["export", &chain.path("reduced/reduced/3"), "--out", &chain.path("reduced-onnx")]);
    assert_eq!(exported["files"].as_array().unwrap().len(), 5);
}

#[test]
fn seeds_are_averaged_on_the_cases_that_none_of_them_has_learned() {
    let chain = Chain::get();
    let (_, sets) = NETWORKS[2];
    chain.train("demo-classifier", "more/other-seed", &[sets, &["seed=2"]].concat());
    chain.train("demo-classifier", "more/other-shape", &[sets, &["network.classifier.blocks=[1, 1]"]].concat());
    let [lung, detector, classifier, seed, shape] =
        ["runs/lung", "runs/detector", "runs/classifier", "more/other-seed", "more/other-shape"]
            .map(|run| chain.path(run));
    let models = chain.path("averaged");
    let freeze = |runs: &[&str]| {
        let tail = ["--name", "averaged", "--version", "1", "--models", &models];
        json("lungai-train", &[&["freeze", &lung, &detector], runs, &tail].concat())
    };
    let refused = |runs: &[&str], why: &str| {
        let (code, value) = freeze(runs);
        assert!(code == 1 && value["message"].as_str().unwrap().contains(why), "{value}");
    };
    refused(&[&classifier, &shape], "are classifier networks of different shapes");
    refused(&[&classifier, &classifier], "hold the same weights");
    let (code, frozen) = freeze(&[&classifier, &seed]);
    assert_eq!(code, 0, "{frozen}");
    let manifest = manifest(&format!("{models}/averaged/1"));
    let ensemble = &manifest["ensembles"]["classifier"];
    // phantom-quick holds out one case.
    assert_eq!((&ensemble["basis"], &ensemble["cases"]), (&"held-out".into(), &1.into()));
    assert_eq!(manifest["calibration"]["slope"], ensemble["metrics"]["platt_slope"]);
    assert_eq!(
        manifest["operating_points"]["default"],
        manifest["training"]["detector"]["metrics"]["threshold_at_0.5"]
    );
}

#[test]
fn a_run_folder_and_a_frozen_version_are_never_overwritten() {
    let chain = Chain::get();
    let experiment = root().join("experiments/demo-lung.yaml");
    let (run, data) = (chain.path("runs/lung"), chain.path("data/manifest.yaml"));
    let words = ["train", experiment.to_str().unwrap(), "--data", &data, "--run", &run, "--device", "cpu"];
    let (code, value) = json("lungai-train", &words);
    assert_eq!(code, 1);
    assert!(value["message"].as_str().unwrap().contains("exists already"), "{value}");
    let runs = NETWORKS.map(|(network, _)| chain.path(&format!("runs/{network}")));
    let models = chain.path("models");
    let key = Path::new(&models).join("trusted-keys/throw-away-chain-1.pem");
    let before = fs::read(&key).unwrap();
    let (code, value) = json(
        "lungai-train",
        &["freeze", &runs[0], &runs[1], &runs[2], "--name", "chain", "--version", "1", "--models", &models],
    );
    assert_eq!((code, value["rule"].as_str()), (1, Some("model-exists")), "{value}");
    assert_eq!(fs::read(&key).unwrap(), before, "the key that vouches for the version that exists");
}

/// What training wrote is what tracking reads.
#[verifies("RR-001")]
#[test]
fn the_runs_of_a_chain_are_listed_and_compared() {
    let chain = Chain::get();
    let listed = good("lungai-track", &["list", &chain.path("runs")]);
    let runs = listed["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3);
    for run in runs {
        assert_eq!(
            (&run["state"], &run["step"], &run["synthetic"]),
            (&"finished".into(), &4.into(), &true.into()),
            "{run}"
        );
        assert!(run["headline"]["value"].is_number() && run["seconds"].is_number(), "{run}");
    }
    let out = tempfile::tempdir().unwrap();
    let (lung, detector, folder) = (chain.path("runs/lung"), chain.path("runs/detector"), out.path().to_str().unwrap());
    let compared = good("lungai-track", &["compare", &lung, &detector, "--out", folder]);
    assert_eq!(compared["same_data"], true);
    assert!(compared["best"]["figures"]["dice"][0].is_number() && compared["best"]["figures"]["cpm"][1].is_number());
    assert!(out.path().join("compare.svg").exists());
}
