//! The networks as ONNX: weights and structure here, the results in onnxruntime.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use lungai_models::classifier::{ClassifierConfig, ClassifierNet};
use lungai_models::detector::{DetectorConfig, DetectorNet, Stem};
use lungai_models::frozen::{weights_from_bytes, weights_to_bytes};
use lungai_models::lung::{CHANNELS, LungConfig, LungNet, Normalise};
use lungai_models::members::mean;
use lungai_models::reducer::{ReducerConfig, ReducerNet};
use lungai_onnx::{Graph, proto};
use lungai_trace::not_evidenced;
use prost::Message;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use safetensors::{SafeTensors, tensor::TensorView};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

const WINDOW: (f32, f32) = (-1000.0, 400.0);

fn lung() -> LungConfig {
    // 16 channels and more: several groups to normalise.
    LungConfig {
        width: 8,
        depth: 2,
        norm: Normalise::Group,
        deep_supervision: 0,
        spacing_mm: 5.0,
        tile: 16,
        window_hu: WINDOW,
    }
}

/// Without a stem there is one step of the top-down path, with one there are two.
fn detector(stem: Stem) -> DetectorConfig {
    let anchors_mm = vec![4.0, 8.0, 16.0];
    let widths = vec![4, 8, 8, 12];
    DetectorConfig { stem, widths, head_width: 8, anchors_mm, spacing_mm: 1.0, patch: 16, tile: 32, window_hu: WINDOW }
}

fn classifier(middle: bool) -> ClassifierConfig {
    ClassifierConfig { width: 8, blocks: vec![1, 2, 1], spacing_mm: 1.0, tile: 16, window_hu: WINDOW, middle }
}

fn reducer() -> ReducerConfig {
    ReducerConfig { width: 4, blocks: vec![1, 2, 1], spacing_mm: 1.0, tile: 12, window_hu: WINDOW }
}

/// The same network with other values wherever a fresh one has zeros or ones, so that none could be left out unseen.
fn shaken<M: Module>(mut net: M) -> M {
    let bytes = weights_to_bytes(&net);
    let rng = &mut StdRng::seed_from_u64(7);
    let mut tensors = BTreeMap::new();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    // In a fixed order: the values are drawn one after the other.
    let names: BTreeSet<&str> = file.names().into_iter().collect();
    for name in names {
        let view = file.tensor(name).unwrap();
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(view.data());
        let values: Vec<f32> = values.iter().map(|v| v + rng.random_range(-0.1..0.1f32)).collect();
        tensors.insert(name.to_owned(), (view.shape().to_vec(), bytemuck::cast_slice::<f32, u8>(&values).to_vec()));
    }
    let views = tensors.iter().map(|(name, (shape, data))| {
        (name.clone(), TensorView::new(safetensors::Dtype::F32, shape.clone(), data).unwrap())
    });
    weights_from_bytes(&mut net, safetensors::serialize(views, None).unwrap()).unwrap();
    net
}

fn noise(shape: [usize; 5]) -> Tensor<5> {
    let rng = &mut StdRng::seed_from_u64(shape.iter().sum::<usize>() as u64);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0f32)).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// Weights in the graph are those of the weights file: names, shapes, bytes, all of them and no others.
fn check_weights<M: Module>(net: &M, graph: Graph) {
    let model = proto::Model::decode(graph.into_bytes().unwrap().as_slice()).unwrap();
    let graph = model.graph.unwrap();
    let bytes = weights_to_bytes(net);
    let frozen = SafeTensors::deserialize(&bytes).unwrap();
    let weights: Vec<_> = graph.initializer.iter().filter(|t| !t.name.starts_with("constant/")).collect();
    assert_eq!(weights.len(), frozen.len());
    for weight in weights {
        let same = frozen.tensor(&weight.name).unwrap();
        let dims: Vec<usize> = weight.dims.iter().map(|d| *d as usize).collect();
        assert_eq!((&dims[..], &weight.raw_data[..]), (same.shape(), same.data()), "{}", weight.name);
    }
    for axes in graph.input.iter().chain(&graph.output) {
        let shape = axes.kind.as_ref().unwrap().tensor.as_ref().unwrap().shape.as_ref().unwrap();
        assert_eq!(shape.dim[0].dim_param.as_deref(), Some("batch"));
        assert!(shape.dim[1].dim_value.is_some() && shape.dim[2..].iter().all(|d| d.dim_param.is_some()));
    }
}

#[test]
fn weights_keep_their_names_shapes_and_bytes() {
    let device = Device::flex();
    let net = lung().init(1, &device);
    check_weights(&net, net.export());
    for stem in [Stem::None, Stem::Pool] {
        let net = detector(stem).init(1, &device);
        check_weights(&net, net.export());
    }
    for middle in [false, true] {
        let net = classifier(middle).init(1, &device);
        check_weights(&net, net.export());
    }
    let net = reducer().init(1, &device);
    check_weights(&net, net.export());
}

#[test]
fn of_averaged_networks_each_has_its_weights_in_the_one_file() {
    let device = Device::flex();
    let (first, second) = (lung().init(1, &device), lung().init(2, &device));
    let model =
        proto::Model::decode(LungNet::export_mean(&[&first, &second]).into_bytes().unwrap().as_slice()).unwrap();
    let graph = model.graph.unwrap();
    for (prefix, net) in [("", &first), ("further.0.", &second)] {
        let bytes = weights_to_bytes(net);
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            let weight = graph.initializer.iter().find(|t| t.name == format!("{prefix}{name}")).unwrap();
            assert_eq!(weight.raw_data, view.data(), "{prefix}{name}");
        }
    }
}

#[test]
fn the_same_network_gives_the_same_bytes() {
    let bytes = || lung().init(1, &Device::flex()).export().into_bytes().unwrap();
    assert_eq!(bytes(), bytes());
}

/// onnxruntime's outputs against ours, largest difference over largest value, after ONNX's own checks of the file.
fn check_in_onnxruntime(graph: Graph, shapes: &[[usize; 5]], forward: impl Fn(Tensor<5>) -> Vec<TensorData>) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: String| folder.path().join(name);
    fs::write(at("model.onnx".into()), graph.into_bytes().unwrap()).unwrap();
    fs::write(at("shapes.json".into()), serde_json::to_vec(shapes).unwrap()).unwrap();
    for (i, &shape) in shapes.iter().enumerate() {
        fs::write(at(format!("input{i}.f32")), noise(shape).into_data().as_bytes()).unwrap();
    }
    let Some(python) = std::env::var_os("LUNGAI_PEER_PYTHON") else {
        return not_evidenced("LUNGAI_PEER_PYTHON names no Python with onnx and onnxruntime");
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/onnx_run.py");
    let run = Command::new(python).arg(script).arg(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    if run.status.code() == Some(77) {
        return not_evidenced(said.trim());
    }
    assert!(run.status.success(), "{said}");
    for (i, &shape) in shapes.iter().enumerate() {
        for (k, ours) in forward(noise(shape)).into_iter().enumerate() {
            let theirs: Vec<f32> = bytemuck::pod_collect_to_vec(&fs::read(at(format!("output{i}_{k}.f32"))).unwrap());
            assert_eq!(theirs.len(), ours.num_elements());
            let pairs = || ours.iter::<f32>().zip(&theirs);
            assert!(pairs().all(|(a, b)| a.is_finite() && b.is_finite()));
            // Of a network whose rectifiers are all shut only the last biases remain: that would show nothing.
            assert!(ours.iter::<f32>().map(f32::to_bits).collect::<BTreeSet<_>>().len() > ours.num_elements() / 2);
            let range = ours.iter::<f32>().map(f32::abs).fold(0.0, f32::max);
            let off = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / range;
            eprintln!("{shape:?}, output {k}: {off:.1e}");
            assert!(off <= 1e-5, "{shape:?}, output {k}: {off}");
        }
    }
}

#[test]
fn onnxruntime_segments_lungs_as_we_do() {
    let net = shaken(lung().init(1, &Device::flex()));
    // In the large one a group has two million values: their mean must not be one long 32-bit sum.
    let shapes = [[2, CHANNELS, 8, 12, 16], [1, CHANNELS, 16, 4, 20], [1, CHANNELS, 64, 64, 64]];
    check_in_onnxruntime(net.export(), &shapes, |x| vec![net.forward(x).into_data()]);
}

#[test]
fn onnxruntime_detects_as_we_do() {
    for stem in [Stem::None, Stem::Pool] {
        let net = shaken(detector(stem).init(1, &Device::flex()));
        let shapes = [[2, 1, 16, 32, 48], [1, 1, 32, 16, 16]];
        check_in_onnxruntime(net.export(), &shapes, |x| {
            let out = net.forward(x);
            vec![out.class.into_data(), out.boxes.into_data()]
        });
    }
}

#[test]
fn onnxruntime_rates_as_we_do() {
    for middle in [false, true] {
        let net = shaken(classifier(middle).init(1, &Device::flex()));
        let shapes = [[2, 1, 8, 12, 16], [3, 1, 16, 16, 16]];
        check_in_onnxruntime(net.export(), &shapes, |x| vec![net.forward(x).into_data()]);
    }
}

#[test]
fn onnxruntime_doubts_as_we_do() {
    let net = shaken(reducer().init(1, &Device::flex()));
    let shapes = [[3, 1, 12, 12, 12], [2, 1, 8, 12, 16]];
    check_in_onnxruntime(net.export(), &shapes, |x| vec![net.forward(x).into_data()]);
    // Three halvings leave an odd number of cells: one in the middle.
    let odd = ReducerConfig { blocks: vec![1, 1, 1, 1], tile: 24, ..reducer() };
    let net = shaken(odd.init(1, &Device::flex()));
    check_in_onnxruntime(net.export(), &[[2, 1, 24, 24, 24]], |x| vec![net.forward(x).into_data()]);
}

#[test]
fn onnxruntime_averages_networks_as_we_do() {
    let device = Device::flex();
    let cube = [[2, 1, 16, 16, 16]];
    let nets = [1, 2, 3].map(|seed| shaken(lung().init(seed, &device)));
    let nets: Vec<&LungNet> = nets.iter().collect();
    check_in_onnxruntime(LungNet::export_mean(&nets), &[[1, CHANNELS, 8, 12, 16]], |x| {
        vec![mean(&nets, |net| net.forward(x.clone())).into_data()]
    });
    let nets = [1, 2].map(|seed| shaken(detector(Stem::None).init(seed, &device)));
    let nets: Vec<&DetectorNet> = nets.iter().collect();
    check_in_onnxruntime(DetectorNet::export_mean(&nets), &cube, |x| {
        let class = mean(&nets, |net| net.forward(x.clone()).class);
        vec![class.into_data(), mean(&nets, |net| net.forward(x.clone()).boxes).into_data()]
    });
    let nets = [1, 2].map(|seed| shaken(classifier(true).init(seed, &device)));
    let nets: Vec<&ClassifierNet> = nets.iter().collect();
    check_in_onnxruntime(ClassifierNet::export_mean(&nets), &cube, |x| {
        vec![mean(&nets, |net| net.forward(x.clone())).into_data()]
    });
    let nets = [1, 2].map(|seed| shaken(reducer().init(seed, &device)));
    let nets: Vec<&ReducerNet> = nets.iter().collect();
    check_in_onnxruntime(ReducerNet::export_mean(&nets), &[[8, 1, 12, 12, 12]], |x| {
        vec![mean(&nets, |net| net.forward(x.clone())).into_data()]
    });
}
