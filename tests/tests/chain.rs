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
    let manifest = fs::read(folder.path().join("models/mixed/1/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
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
