//! Writing and reading the folder.

use super::signature::Signed;
use super::{
    FrozenError, Golden, Manifest, Networks, SigningKey, Storage, Trust, halved, io, sha256_hex, weights_from_bytes,
    weights_to_bytes,
};
use burn::tensor::Device;
use lungai_trace::implements;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

const MANIFEST: &str = "manifest.json";
const WEIGHTS: &str = "model.safetensors";
const CARD: &str = "MODEL_CARD.md";
pub(super) const SIGNATURE: &str = "model.sig";
pub(super) const GOLDEN: &str = "golden/golden.safetensors";

/// A frozen model that passed every check.
#[derive(Debug)]
pub struct Frozen {
    /// What it is.
    pub manifest: Manifest,
    /// The networks, on the device they were loaded for.
    pub networks: Networks,
    /// SHA-256 of `model.sig`, which pins every other file.
    pub sha256: String,
    /// Where the networks are.
    pub device: Device,
}

/// Writes and signs a frozen model; `folder` appears complete or not at all.
///
/// - `networks`: rounded already where the manifest stores them in 16 bits, see [`halved`]
///
/// # Errors
/// [`FrozenError::Exists`] where the folder is there already, [`FrozenError::Io`], [`FrozenError::Format`] for a weight that 16
/// bits cannot hold.
pub fn save(
    folder: &Path,
    manifest: &Manifest,
    networks: &Networks,
    golden: &Golden,
    card: &str,
    key: &SigningKey,
) -> Result<(), FrozenError> {
    manifest.check().expect("a manifest of our own making");
    if folder.exists() {
        return Err(FrozenError::Exists(folder.to_owned()));
    }
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or("model");
    let draft = folder.with_file_name(format!(".{name}.draft-{}", std::process::id()));
    let weights = weights_to_bytes(networks);
    let weights = match manifest.weights {
        Storage::F32 => weights,
        Storage::F16 => halved(&weights).map_err(|reason| FrozenError::Format { file: WEIGHTS.into(), reason })?,
    };
    let files: [(&str, Vec<u8>); 4] = [
        (MANIFEST, serde_json::to_vec_pretty(manifest).expect("plain data")),
        (WEIGHTS, weights),
        (CARD, card.as_bytes().to_vec()),
        (GOLDEN, golden.to_bytes(networks)),
    ];
    let signed = Signed {
        model: manifest.full_name(),
        files: files.iter().map(|(name, bytes)| ((*name).to_owned(), sha256_hex(bytes))).collect(),
    };
    let write = || -> Result<(), FrozenError> {
        fs::create_dir_all(draft.join("golden")).map_err(io(&draft))?;
        for (name, bytes) in &files {
            fs::write(draft.join(name), bytes).map_err(io(&draft.join(name)))?;
        }
        fs::write(draft.join(SIGNATURE), key.sign(&signed)).map_err(io(&draft.join(SIGNATURE)))?;
        fs::rename(&draft, folder).map_err(io(folder))
    };
    let written = write();
    if written.is_err() {
        // The error that matters is the first one.
        let _ = fs::remove_dir_all(&draft);
    }
    written
}

/// Reads `models` itself, or the only `NAME/VERSION` in it, trusting the key `trusted_key` or those of [`Trust::find`].
///
/// # Errors
/// [`FrozenError`]: none or several models there, no key, or the first check of [`load`] that failed.
pub fn open(models: &Path, trusted_key: Option<&Path>, device: &Device) -> Result<Frozen, FrozenError> {
    let folder = locate(models)?;
    load(&folder, &Trust::find(&folder, trusted_key)?, device)
}

fn locate(models: &Path) -> Result<PathBuf, FrozenError> {
    let is_model = |folder: &Path| folder.join(MANIFEST).is_file();
    if is_model(models) {
        return Ok(models.to_owned());
    }
    let below = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        folders.sort();
        folders
    };
    let mut found: Vec<PathBuf> = below(models).iter().flat_map(|name| below(name)).filter(|f| is_model(f)).collect();
    match found.len() {
        0 => Err(FrozenError::Absent(models.to_owned())),
        1 => Ok(found.remove(0)),
        _ => {
            let short = |folder: &PathBuf| folder.strip_prefix(models).unwrap_or(folder).display().to_string();
            Err(FrozenError::Several { registry: models.to_owned(), names: found.iter().map(short).collect() })
        }
    }
}

/// Reads a frozen model; see the [module](super) for what it must pass.
///
/// # Errors
/// [`FrozenError`] names the first check that failed.
#[implements("SR-002", "R-005", "SW-902")]
pub fn load(folder: &Path, trust: &Trust, device: &Device) -> Result<Frozen, FrozenError> {
    let path = folder.join(SIGNATURE);
    let missing = |_| FrozenError::Signature { path: path.clone(), reason: "the signature is missing" };
    let signature = fs::read(&path).map_err(missing)?;
    let signed = trust.verify(&signature, &path)?;
    for present in files_below(folder)? {
        if present != SIGNATURE && !signed.files.contains_key(&present) {
            return Err(FrozenError::File { file: present, state: "not signed" });
        }
    }
    // Each file is read once, and what was hashed is what is used.
    let mut files = BTreeMap::new();
    for (name, sha256) in signed.files {
        // The names come from a signed list, yet must not lead out of the folder.
        let inside = Path::new(&name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        let bytes = if inside { fs::read(folder.join(&name)).ok() } else { None };
        let Some(bytes) = bytes else { return Err(FrozenError::File { file: name, state: "missing" }) };
        if sha256_hex(&bytes) != sha256 {
            return Err(FrozenError::File { file: name, state: "changed" });
        }
        files.insert(name, bytes);
    }
    let mut take =
        |name: &str| files.remove(name).ok_or_else(|| FrozenError::File { file: name.to_owned(), state: "missing" });
    let format = |file: &str, reason: String| FrozenError::Format { file: file.to_owned(), reason };
    let manifest: Manifest =
        serde_json::from_slice(&take(MANIFEST)?).map_err(|error| format(MANIFEST, error.to_string()))?;
    manifest.check().map_err(|reason| format(MANIFEST, reason))?;
    check_place(folder, &signed.model, &manifest)?;
    let mut networks = manifest.init(device);
    weights_from_bytes(&mut networks, take(WEIGHTS)?).map_err(|reason| format(WEIGHTS, reason))?;
    Golden::check(&take(GOLDEN)?, &networks, manifest.golden_tolerance, device)?;
    Ok(Frozen { manifest, networks, sha256: sha256_hex(&signature), device: device.clone() })
}

/// An older model must not pass for a newer one by lying in its place.
fn check_place(folder: &Path, signed_as: &str, manifest: &Manifest) -> Result<(), FrozenError> {
    let folder = folder.canonicalize().map_err(io(folder))?;
    let names: Vec<_> = folder.iter().rev().take(2).map(|part| part.to_string_lossy()).collect();
    let here = names.iter().rev().map(AsRef::as_ref).collect::<Vec<&str>>().join("/");
    if signed_as != manifest.full_name() || signed_as != here {
        return Err(FrozenError::Place { signed_as: signed_as.to_owned(), here });
    }
    Ok(())
}

/// Relative paths of all files below `folder`, with `/`.
fn files_below(folder: &Path) -> Result<Vec<String>, FrozenError> {
    let mut files = Vec::new();
    let mut open = vec![(folder.to_owned(), String::new())];
    while let Some((dir, prefix)) = open.pop() {
        for entry in fs::read_dir(&dir).map_err(io(&dir))? {
            let entry = entry.map_err(io(&dir))?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type().map_err(io(&dir))?.is_dir() {
                open.push((entry.path(), format!("{name}/")));
            } else {
                files.push(name);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::super::untrained::{manifest, untrained};
    use super::*;
    use burn::tensor::Tensor;
    use lungai_trace::verifies;

    /// A small frozen model whose key the registry trusts.
    fn frozen(registry: &Path) -> (PathBuf, SigningKey) {
        untrained(registry, points()).unwrap()
    }

    fn points() -> BTreeMap<String, f64> {
        BTreeMap::from([("default".into(), 0.5)])
    }

    fn load_here(folder: &Path) -> Result<Frozen, FrozenError> {
        load(folder, &Trust::find(folder, None)?, &Device::flex())
    }

    #[verifies("SR-002", "SW-902")]
    #[test]
    fn what_was_frozen_loads_with_its_manifest() {
        let registry = tempfile::tempdir().unwrap();
        let (folder, _) = frozen(registry.path());
        assert_eq!(load_here(&folder).unwrap().manifest, manifest(points()));
    }

    #[verifies("SR-002", "R-005", "SW-902")]
    #[test]
    fn a_model_with_a_reducer_and_averaged_networks_loads_and_every_one_of_them_is_tested() {
        let registry = tempfile::tempdir().unwrap();
        let (folder, key) = super::super::untrained_pairs(registry.path(), points()).unwrap();
        let loaded = load_here(&folder).unwrap();
        let (manifest, truth) = super::super::untrained::pairs(points());
        assert_eq!(loaded.manifest, manifest);
        assert_eq!((loaded.manifest.members("detector"), loaded.networks.reducers().len()), (2, 2));
        assert_eq!(weights_to_bytes(&loaded.networks), weights_to_bytes(&truth));

        let device = Device::flex();
        let check = |network: &'static str, spoil: &dyn Fn(&mut Networks)| {
            let mut other = truth.clone();
            spoil(&mut other);
            resign(&folder, &key, &other);
            let error = load_here(&folder).unwrap_err();
            assert!(matches!(error, FrozenError::Golden { network: found, .. } if found == network), "{error}");
        };
        let configs = manifest.networks;
        check("lung", &|nets| nets.further.lung[0] = configs.lung.init(9, &device));
        check("detector", &|nets| nets.further.detector[0] = configs.detector.init(9, &device));
        check("classifier", &|nets| nets.further.classifier[0] = configs.classifier.init(9, &device));
        let reducer = || configs.reducer.as_ref().unwrap().init(9, &device);
        check("reducer", &|nets| nets.reducer = Some(reducer()));
        check("reducer", &|nets| nets.further.reducer[0] = reducer());
    }

    #[test]
    fn weights_of_a_network_alone_have_the_same_names_in_every_model() {
        let names = |networks: &Networks| -> Vec<String> {
            let bytes = weights_to_bytes(networks);
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            file.names().into_iter().map(str::to_owned).collect()
        };
        let alone = names(&manifest(points()).init(&Device::flex()));
        assert!(alone.iter().all(|name| ["lung.", "detector.", "classifier."].iter().any(|n| name.starts_with(n))));
        let pairs = names(&super::super::untrained::pairs(points()).1);
        assert!(alone.iter().all(|name| pairs.contains(name) && pairs.contains(&further(name))));
        assert!(pairs.iter().any(|name| name == "further.reducer.0.head.bias"));
    }

    /// `lung.head.bias` as `further.lung.0.head.bias`.
    fn further(name: &str) -> String {
        let (network, rest) = name.split_once('.').unwrap();
        format!("further.{network}.0.{rest}")
    }

    #[test]
    fn a_model_of_one_network_each_says_nothing_of_reducers_and_averages() {
        let text = serde_json::to_string(&manifest(points())).unwrap();
        assert!(!text.contains("reducer") && !text.contains("ensembles"), "{text}");
    }

    #[test]
    fn a_registry_stands_for_its_only_model() {
        let registry = tempfile::tempdir().unwrap();
        let rule = |error: FrozenError| (error.rule(), error.is_integrity());
        let open_here = || open(registry.path(), None, &Device::flex());
        assert_eq!(rule(open_here().unwrap_err()), ("no-model", false));
        let (folder, _) = frozen(registry.path());
        assert_eq!(open_here().unwrap().sha256, load_here(&folder).unwrap().sha256);
        fs::create_dir_all(registry.path().join("other")).unwrap();
        fs::rename(&folder, registry.path().join("other/2")).unwrap();
        frozen(registry.path());
        let several = open_here().unwrap_err();
        assert!(several.to_string().ends_with("name one of other/2, untrained/1"), "{several}");
        assert_eq!(rule(several), ("several-models", false));
    }

    #[test]
    fn a_frozen_model_is_never_overwritten() {
        let registry = tempfile::tempdir().unwrap();
        let (folder, key) = frozen(registry.path());
        let loaded = load_here(&folder).unwrap();
        let ones = Tensor::<5>::ones([1, 1, 8, 8, 8], &Device::flex());
        let lung = Tensor::cat(vec![ones.clone(), ones.clone()], 1);
        let golden = Golden { lung, detector: ones.clone(), classifier: ones, reducer: None };
        let again = save(&folder, &loaded.manifest, &loaded.networks, &golden, "", &key);
        assert!(matches!(again, Err(FrozenError::Exists(_))));
    }

    #[verifies("SR-002", "R-005", "SW-902")]
    #[test]
    fn a_changed_missing_or_added_file_is_named() {
        let check = |spoil: &dyn Fn(&Path), expected: &str| {
            let registry = tempfile::tempdir().unwrap();
            let (folder, _) = frozen(registry.path());
            spoil(&folder);
            let error = load_here(&folder).unwrap_err();
            assert!(error.is_integrity());
            assert_eq!(error.to_string(), expected);
        };
        check(
            &|folder| {
                let mut weights = fs::read(folder.join(WEIGHTS)).unwrap();
                *weights.last_mut().unwrap() ^= 1;
                fs::write(folder.join(WEIGHTS), weights).unwrap();
            },
            "frozen file `model.safetensors` is changed",
        );
        check(
            &|folder| fs::remove_file(folder.join(GOLDEN)).unwrap(),
            "frozen file `golden/golden.safetensors` is missing",
        );
        check(&|folder| fs::write(folder.join("extra.txt"), "").unwrap(), "frozen file `extra.txt` is not signed");
    }

    #[verifies("SR-002", "SW-902")]
    #[test]
    fn an_older_model_cannot_stand_in_a_newer_one_s_place() {
        let registry = tempfile::tempdir().unwrap();
        let (folder, _) = frozen(registry.path());
        let newer = folder.with_file_name("2");
        fs::rename(&folder, &newer).unwrap();
        let error = load_here(&newer).unwrap_err();
        assert_eq!((error.rule(), error.is_integrity()), ("model-place", true));
        assert!(error.to_string().starts_with("signed as model untrained/1, but the folder is untrained/2"), "{error}");
    }

    #[verifies("SR-002")]
    #[test]
    fn a_stranger_s_signature_is_refused() {
        let registry = tempfile::tempdir().unwrap();
        let (folder, _) = frozen(registry.path());
        let stranger = SigningKey::generate();
        let trust = Trust::from_pem(&stranger.public_pem(), Path::new("stranger.pem")).unwrap();
        let error = load(&folder, &trust, &Device::flex()).unwrap_err();
        assert_eq!(error.rule(), "model-signature");
        fs::remove_file(registry.path().join("trusted-keys/untrained.pem")).unwrap();
        assert_eq!(load_here(&folder).unwrap_err().rule(), "model-no-trusted-key");
    }

    #[verifies("R-005", "SW-902")]
    #[test]
    fn weights_that_were_signed_by_mistake_fail_the_golden_self_test() {
        let registry = tempfile::tempdir().unwrap();
        let (folder, key) = frozen(registry.path());
        let device = Device::flex();
        let configs = load_here(&folder).unwrap().manifest.networks;
        let mut other = configs.init(&device);
        other.detector = configs.detector.init(99, &device);
        resign(&folder, &key, &other);
        let error = load_here(&folder).unwrap_err();
        assert!(matches!(error, FrozenError::Golden { network: "detector", .. }), "{error}");
    }

    /// Gives the model other weights under a good signature.
    fn resign(folder: &Path, key: &SigningKey, networks: &Networks) {
        fs::write(folder.join(WEIGHTS), weights_to_bytes(networks)).unwrap();
        let hashed = |name: &str| (name.to_owned(), sha256_hex(&fs::read(folder.join(name)).unwrap()));
        let files = [MANIFEST, WEIGHTS, CARD, GOLDEN].map(hashed).into();
        fs::write(folder.join(SIGNATURE), key.sign(&Signed { model: "untrained/1".into(), files })).unwrap();
    }
}
