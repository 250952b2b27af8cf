//! A frozen model that has learned nothing.

use super::{
    Basis, Calibration, Code, DataOrigin, Ensemble, FrozenError, Golden, Manifest, NetworkConfigs, Networks,
    SigningKey, Storage, Training, io, save,
};
use crate::classifier::ClassifierConfig;
use crate::detector::{DetectorConfig, Stem};
use crate::lung::{LungConfig, Normalise};
use crate::reducer::ReducerConfig;
use burn::tensor::{Device, Tensor};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Writes `registry/untrained/1` and the public key beside it: the smallest networks with untrained weights, for tests of
/// what surrounds a model. It passes every check of [`super::load`] and its findings mean nothing.
///
/// # Errors
/// As [`save`].
pub fn untrained(
    registry: &Path,
    operating_points: BTreeMap<String, f64>,
) -> Result<(PathBuf, SigningKey), FrozenError> {
    let manifest = manifest(operating_points);
    let networks = manifest.init(&Device::flex());
    write(registry, &manifest, &networks)
}

/// The same with a reducer, and with two averaged networks of every kind, which differ.
///
/// # Errors
/// As [`save`].
pub fn untrained_pairs(
    registry: &Path,
    operating_points: BTreeMap<String, f64>,
) -> Result<(PathBuf, SigningKey), FrozenError> {
    let (manifest, networks) = pairs(operating_points);
    write(registry, &manifest, &networks)
}

pub(super) fn pairs(operating_points: BTreeMap<String, f64>) -> (Manifest, Networks) {
    let device = Device::flex();
    let mut manifest = manifest(operating_points);
    let (blocks, window_hu) = (vec![1, 1], (-1000.0, 400.0));
    manifest.networks.reducer = Some(ReducerConfig { width: 4, blocks, spacing_mm: 2.0, tile: 8, window_hu });
    let training = Training {
        run: "untrained".into(),
        experiment_sha256: "unknown".into(),
        data: DataOrigin { name: "none".into(), manifest_sha256: "unknown".into() },
        seed: 1,
        steps: 0,
        device: "cpu".into(),
        threads: 1,
        metrics: BTreeMap::new(),
        imported_sha256: None,
        experiment: serde_json::Value::Null,
        code: no_code(),
    };
    let pair = Ensemble { further: vec![training], metrics: BTreeMap::new(), basis: Basis::HeldOut, cases: 1 };
    for name in ["lung", "detector", "classifier", "reducer"] {
        manifest.ensembles.insert(name.into(), pair.clone());
    }
    let mut networks = manifest.init(&device);
    networks.further.lung = vec![manifest.networks.lung.init(1, &device)];
    networks.further.detector = vec![manifest.networks.detector.init(1, &device)];
    networks.further.classifier = vec![manifest.networks.classifier.init(1, &device)];
    networks.further.reducer = manifest.networks.reducer.iter().map(|config| config.init(1, &device)).collect();
    (manifest, networks)
}

fn write(registry: &Path, manifest: &Manifest, networks: &Networks) -> Result<(PathBuf, SigningKey), FrozenError> {
    let device = Device::flex();
    let ones = |channels, edge| Tensor::<5>::ones([1, channels, edge, edge, edge], &device);
    let golden = Golden {
        lung: ones(crate::lung::CHANNELS, 8),
        detector: ones(1, 16),
        classifier: ones(1, 16),
        reducer: manifest.networks.reducer.as_ref().map(|config| ones(1, config.tile)),
    };
    let key = SigningKey::generate();
    let write = |path: &Path, text: &str| {
        let folder = path.parent().expect("a file in a folder");
        fs::create_dir_all(folder).map_err(io(folder))?;
        fs::write(path, text).map_err(io(path))
    };
    write(&registry.join("trusted-keys/untrained.pem"), &key.public_pem())?;
    let folder = registry.join("untrained/1");
    fs::create_dir_all(registry.join("untrained")).map_err(io(registry))?;
    save(&folder, manifest, networks, &golden, "# Untrained\n", &key)?;
    Ok((folder, key))
}

pub(super) fn manifest(operating_points: BTreeMap<String, f64>) -> Manifest {
    let window_hu = (-1000.0, 400.0);
    let networks = NetworkConfigs {
        lung: LungConfig {
            width: 2,
            depth: 1,
            norm: Normalise::Group,
            deep_supervision: 0,
            spacing_mm: 6.0,
            tile: 32,
            window_hu,
        },
        detector: DetectorConfig {
            stem: Stem::Pool,
            widths: vec![4, 4],
            head_width: 4,
            anchors_mm: vec![5.0, 10.0],
            spacing_mm: 4.0,
            patch: 16,
            tile: 32,
            window_hu,
        },
        classifier: ClassifierConfig {
            width: 4,
            blocks: vec![1, 1],
            spacing_mm: 2.0,
            tile: 16,
            window_hu,
            middle: true,
        },
        reducer: None,
    };
    Manifest {
        schema: 1,
        name: "untrained".into(),
        version: "1".into(),
        synthetic: true,
        intended_use: "tests of what surrounds a model".into(),
        input_contract: "any chest CT".into(),
        networks,
        weights: Storage::F32,
        operating_points,
        calibration: Calibration::NONE,
        training: BTreeMap::new(),
        ensembles: BTreeMap::new(),
        code: no_code(),
        golden_tolerance: 1e-3,
    }
}

fn no_code() -> Code {
    let unknown = || "unknown".to_owned();
    Code { commit: unknown(), dirty: false, lock_sha256: unknown(), toolchain: unknown() }
}
