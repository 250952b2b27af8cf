//! Data, training, freezing, analysis: the chain on the smallest synthetic scans that still have lungs. What the
//! networks learn in two steps is nothing; that every artefact reaches the next program unharmed is the point.

use crate::programs::{good, json, root};
use lungai_trace::verifies;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// One frozen model with its runs and data, made once for all tests of this program.
struct Chain {
    folder: tempfile::TempDir,
}

const NETWORKS: [(&str, &[&str]); 3] = [
    ("lung", &["network.lung.width=2", "network.lung.tile=32"]),
    (
        "detector",
        &["network.detector.widths=[4, 4, 8]", "network.detector.head_width=8", "network.detector.spacing_mm=3.0"],
    ),
    ("classifier", &["network.classifier.width=4", "network.classifier.tile=16"]),
];

impl Chain {
    fn get() -> &'static Self {
        static CHAIN: OnceLock<Chain> = OnceLock::new();
        CHAIN.get_or_init(Self::make)
    }

    fn make() -> Self {
        let chain = Self { folder: tempfile::tempdir().unwrap() };
        let recipe = root().join("datasets/phantom-quick.yaml");
        good("lungai", &["dataset", "make", recipe.to_str().unwrap(), "--out", &chain.path("data")]);
        for (network, sets) in NETWORKS {
            let experiment = root().join(format!("experiments/demo-{network}.yaml"));
            let (run, data) = (chain.path(&format!("runs/{network}")), chain.path("data/manifest.yaml"));
            let mut words =
                vec!["train", experiment.to_str().unwrap(), "--data", &data, "--run", &run, "--device", "cpu"];
            let common =
                ["training.steps=4", "training.evaluate_every=2", "training.warmup_steps=1", "training.batch=2"];
            for set in common.iter().chain(sets) {
                words.extend(["--set", set]);
            }
            good("lungai-train", &words);
        }
        let runs = NETWORKS.map(|(network, _)| chain.path(&format!("runs/{network}")));
        let mut words = vec!["freeze"];
        words.extend(runs.iter().map(String::as_str));
        let models = chain.path("models");
        words.extend(["--name", "chain", "--version", "1", "--models", &models]);
        good("lungai-train", &words);
        chain
    }

    fn path(&self, name: &str) -> String {
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

#[verifies("SR-002", "R-005")]
#[test]
fn a_model_with_one_changed_bit_is_refused_with_exit_code_4() {
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
