//! A frozen model that has learned nothing.

use super::{Calibration, Code, FrozenError, Golden, Manifest, NetworkConfigs, SigningKey, Storage, io, save};
use crate::classifier::ClassifierConfig;
use crate::detector::{DetectorConfig, Stem};
use crate::lung::{LungConfig, Normalise};
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
    let device = Device::flex();
    let ones = |channels, edge| Tensor::<5>::ones([1, channels, edge, edge, edge], &device);
    let golden = Golden { lung: ones(crate::lung::CHANNELS, 8), detector: ones(1, 16), classifier: ones(1, 16) };
    let key = SigningKey::generate();
    let write = |path: &Path, text: &str| {
        let folder = path.parent().expect("a file in a folder");
        fs::create_dir_all(folder).map_err(io(folder))?;
        fs::write(path, text).map_err(io(path))
    };
    write(&registry.join("trusted-keys/untrained.pem"), &key.public_pem())?;
    let folder = registry.join("untrained/1");
    fs::create_dir_all(registry.join("untrained")).map_err(io(registry))?;
    save(&folder, &manifest, &manifest.networks.init(&device), &golden, "# Untrained\n", &key)?;
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
        classifier: ClassifierConfig { width: 4, blocks: vec![1, 1], spacing_mm: 2.0, tile: 16, window_hu },
    };
    let unknown = || "unknown".to_owned();
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
        code: Code { commit: unknown(), dirty: false, lock_sha256: unknown(), toolchain: unknown() },
        golden_tolerance: 1e-3,
    }
}
