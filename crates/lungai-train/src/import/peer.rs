//! Weights go to PyTorch and back, and the networks agree: the truth is `tests/peers/torch_nets.py`.

use super::file::{floats, open};
use super::names::{translate, untrained};
use crate::config::Network;
use burn::tensor::{Device, Tensor, TensorData};
use lungai_models::classifier::ClassifierConfig;
use lungai_models::detector::{DetectorConfig, Stem};
use lungai_models::frozen::weights_from_bytes;
use lungai_models::lung::{CHANNELS, LungConfig, Normalise};
use lungai_models::reducer::ReducerConfig;
use lungai_trace::not_evidenced;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use safetensors::Dtype;
use std::fs;
use std::path::Path;
use std::process::Command;

const WINDOW: (f32, f32) = (-1000.0, 400.0);

fn noise(shape: [usize; 5]) -> Tensor<5> {
    let rng = &mut StdRng::seed_from_u64(3);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0f32)).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// Our outputs with these weights.
fn forward(network: &Network, weights: Vec<u8>, x: Tensor<5>) -> Vec<TensorData> {
    let device = Device::flex();
    match network {
        Network::Lung(config) => {
            let mut net = config.init(0, &device);
            weights_from_bytes(&mut net, weights).unwrap();
            vec![net.forward(x).into_data()]
        }
        Network::Detector(config) => {
            let mut net = config.init(0, &device);
            weights_from_bytes(&mut net, weights).unwrap();
            let out = net.forward(x);
            vec![out.class.into_data(), out.boxes.into_data()]
        }
        Network::Classifier(config) => {
            let mut net = config.init(0, &device);
            weights_from_bytes(&mut net, weights).unwrap();
            vec![net.forward(x).into_data()]
        }
        Network::Reducer(config) => {
            let mut net = config.init(0, &device);
            weights_from_bytes(&mut net, weights).unwrap();
            vec![net.forward(x).into_data()]
        }
    }
}

/// Runs the peer; what it says where it is not here.
fn torch(network: &Network, folder: &Path) -> Result<(), String> {
    let Some(python) = std::env::var_os("LUNGAI_PEER_PYTHON") else {
        return Err("LUNGAI_PEER_PYTHON names no Python with PyTorch".into());
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/torch_nets.py");
    let config = folder.join("config.json");
    let out = Command::new(python).arg(script).arg(network.name()).arg(config).arg(folder).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
    if out.status.code() == Some(77) {
        return Err(said);
    }
    assert!(out.status.success(), "{said}");
    Ok(())
}

/// `name0.f32`, .. of the peer against our outputs.
fn check_outputs(folder: &Path, name: &str, ours: &[TensorData]) {
    for (k, ours) in ours.iter().enumerate() {
        let bytes = fs::read(folder.join(format!("{name}{k}.f32"))).unwrap();
        let theirs = floats(&bytes, Dtype::F32).unwrap();
        assert_eq!(theirs.len(), ours.num_elements());
        let pairs = || ours.iter::<f32>().zip(&theirs);
        assert!(pairs().all(|(a, b)| a.is_finite() && b.is_finite()));
        let range = ours.iter::<f32>().map(f32::abs).fold(0.0, f32::max);
        let off = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / range;
        eprintln!("{name}{k}: {off:.1e} of {range}");
        assert!(off <= 1e-5, "{name}{k}: {off}");
    }
}

fn check_both_ways(network: &Network, shape: [usize; 5]) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let config = match network {
        Network::Lung(config) => serde_json::to_vec(config),
        Network::Detector(config) => serde_json::to_vec(config),
        Network::Classifier(config) => serde_json::to_vec(config),
        Network::Reducer(config) => serde_json::to_vec(config),
    };
    fs::write(at("config.json"), config.unwrap()).unwrap();
    fs::write(at("shape.json"), serde_json::to_vec(&shape).unwrap()).unwrap();
    fs::write(at("input.f32"), noise(shape).into_data().as_bytes()).unwrap();

    let ours = untrained(network);
    fs::write(at("ours.safetensors"), &ours).unwrap();

    if let Err(reason) = torch(network, folder.path()) {
        return not_evidenced(&reason);
    }
    check_outputs(folder.path(), "ours", &forward(network, ours, noise(shape)));
    let read = |name: &str| {
        let (foreign, _) = open(&at(name)).unwrap();
        translate(network, &foreign, None).unwrap().weights
    };
    let theirs = read("weights.pt");
    assert_eq!(theirs, read("weights.safetensors"));
    check_outputs(folder.path(), "theirs", &forward(network, theirs, noise(shape)));
}

#[test]
fn the_lung_network_is_the_same_in_pytorch() {
    for (norm, deep_supervision) in
        [(Normalise::Group, 0), (Normalise::Group, 1), (Normalise::Instance, 0), (Normalise::Batch, 0)]
    {
        let (width, depth, spacing_mm, tile, window_hu) = (8, 2, 5.0, 16, WINDOW);
        let config = LungConfig { width, depth, norm, deep_supervision, spacing_mm, tile, window_hu };
        check_both_ways(&Network::Lung(config), [2, CHANNELS, 8, 12, 16]);
    }
}

#[test]
fn the_detector_is_the_same_in_pytorch() {
    for stem in [Stem::None, Stem::Pool] {
        check_both_ways(
            &Network::Detector(DetectorConfig {
                stem,
                widths: vec![4, 8, 8, 12],
                head_width: 8,
                anchors_mm: vec![4.0, 8.0, 16.0],
                spacing_mm: 1.0,
                patch: 16,
                tile: 32,
                window_hu: WINDOW,
            }),
            [2, 1, 16, 32, 48],
        );
    }
}

#[test]
fn the_classifier_is_the_same_in_pytorch() {
    for middle in [false, true] {
        let blocks = vec![1, 2, 1];
        let config = ClassifierConfig { width: 8, blocks, spacing_mm: 1.0, tile: 16, window_hu: WINDOW, middle };
        check_both_ways(&Network::Classifier(config), [2, 1, 8, 12, 16]);
    }
}

#[test]
fn the_reducer_is_the_same_in_pytorch() {
    // An even number of cells in the middle, and an odd one.
    for (blocks, tile) in [(vec![1, 2, 1], 16), (vec![1, 1], 10)] {
        let config = ReducerConfig { width: 8, blocks, spacing_mm: 1.0, tile, window_hu: WINDOW };
        check_both_ways(&Network::Reducer(config), [2, 1, tile, tile, tile]);
    }
}
