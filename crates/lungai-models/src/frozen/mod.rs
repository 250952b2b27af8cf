//! The frozen model: the folder in which trained networks are validated and served as one: lung, detector, classifier and,
//! where there is one, the false-positive reducer; each of them one network or several whose outputs are averaged.
//!
//! ```text
//! NAME/VERSION/
//!   manifest.json        what it is, where it came from, how it is to be used
//!   model.safetensors    all weights, f32 or f16, prefixes `lung.`, `detector.`, `classifier.`, `reducer.`; of averaged
//!                        networks those after the first `further.lung.0.`, `further.lung.1.`, ..
//!   golden/              inputs and the outputs that the networks gave when they were frozen
//!   MODEL_CARD.md
//!   model.sig            SHA-256 of every other file, signed
//! ```
//!
//! [`load`] gives networks only if the signature is trusted, every file is the one that was signed, no file was added,
//! and the networks still give the golden outputs on this device.

mod folder;
mod golden;
mod manifest;
mod signature;
mod storage;
mod untrained;

pub use folder::{Frozen, load, open, save};
pub use golden::Golden;
pub use lungai_runs::{Code, DataOrigin};
pub use manifest::{Basis, Calibration, Ensemble, MOST_MEMBERS, Manifest, NetworkConfigs, Storage, Training};
pub use signature::{SigningKey, Trust, sha256_hex};
pub use storage::halved;
pub use untrained::{untrained, untrained_pairs};

use crate::{classifier::ClassifierNet, detector::DetectorNet, lung::LungNet, reducer::ReducerNet};
use burn::{module::Module, tensor::Device};
use burn_store::{ModuleSnapshot, SafetensorsStore};
use std::path::{Path, PathBuf};

/// The networks of a frozen model. What is averaged has its first network here and the others in `further`, so that the
/// weights of a network alone have the same names in every model.
#[derive(Module, Debug)]
pub struct Networks {
    /// Left and right lung.
    pub lung: LungNet,
    /// Nodule candidates.
    pub detector: DetectorNet,
    /// Malignancy.
    pub classifier: ClassifierNet,
    /// A second look at candidates, where the model has it.
    pub reducer: Option<ReducerNet>,
    /// What is averaged with them.
    pub further: Further,
}

/// Networks after the first of each kind.
#[derive(Module, Debug)]
pub struct Further {
    /// Left and right lung.
    pub lung: Vec<LungNet>,
    /// Nodule candidates.
    pub detector: Vec<DetectorNet>,
    /// Malignancy.
    pub classifier: Vec<ClassifierNet>,
    /// A second look at candidates.
    pub reducer: Vec<ReducerNet>,
}

impl Networks {
    /// All lung networks, to be averaged by [`crate::members::mean`]; so are the next ones.
    pub fn lungs(&self) -> Vec<&LungNet> {
        std::iter::once(&self.lung).chain(&self.further.lung).collect()
    }

    /// All detectors.
    pub fn detectors(&self) -> Vec<&DetectorNet> {
        std::iter::once(&self.detector).chain(&self.further.detector).collect()
    }

    /// All malignancy networks.
    pub fn classifiers(&self) -> Vec<&ClassifierNet> {
        std::iter::once(&self.classifier).chain(&self.further.classifier).collect()
    }

    /// All reducers; none where the model has no second look.
    pub fn reducers(&self) -> Vec<&ReducerNet> {
        self.reducer.iter().chain(&self.further.reducer).collect()
    }
}

/// Why a frozen model cannot be used; [`FrozenError::is_integrity`] tells a bad model from bad surroundings.
#[derive(Debug, thiserror::Error)]
pub enum FrozenError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no frozen model where one was said to be.
    #[error("no frozen model in {0}; name the folder REGISTRY/NAME/VERSION")]
    Absent(PathBuf),
    /// Only the caller can know which one is meant.
    #[error("several frozen models in {registry}; name one of {}", names.join(", "))]
    Several {
        /// Folder of models.
        registry: PathBuf,
        /// `NAME/VERSION` of each.
        names: Vec<String>,
    },
    /// A frozen model is never overwritten.
    #[error("{0} exists already; a frozen model never changes: choose another version")]
    Exists(PathBuf),
    /// A key file that is not a P-256 key.
    #[error(
        "{0} holds no P-256 key in PKCS#8 PEM form; `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` makes one, `openssl pkey -pubout` its public half"
    )]
    Key(PathBuf),
    /// No trusted key was found.
    #[error("no trusted public key: give --trusted-key PEM or place one in {0}")]
    NoTrust(PathBuf),
    /// The signature is missing, malformed, or of a key that is not trusted.
    #[error("{path}: {reason}")]
    Signature {
        /// The signature file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file is missing, changed or not listed in the signature.
    #[error("frozen file `{file}` is {state}")]
    File {
        /// Relative path.
        file: String,
        /// `missing`, `changed` or `not signed`.
        state: &'static str,
    },
    /// A model lies in the place of another one.
    #[error("signed as model {signed_as}, but the folder is {here}: an older version may stand in a newer one's place")]
    Place {
        /// `NAME/VERSION` in signature and manifest.
        signed_as: String,
        /// The last two folders of its path.
        here: String,
    },
    /// A file of the model does not have its format.
    #[error("frozen file `{file}`: {reason}")]
    Format {
        /// Relative path.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The networks no longer give what they gave when they were frozen.
    #[error(
        "golden self-test of the {network} network: output differs by {difference:.2e} of its range, allowed {allowed:.0e}"
    )]
    Golden {
        /// `lung`, `detector`, `classifier` or `reducer`.
        network: &'static str,
        /// Largest difference divided by the largest expected magnitude.
        difference: f64,
        /// Tolerance from the manifest.
        allowed: f64,
    },
}

impl FrozenError {
    /// Whether the model itself is at fault (exit code 4) and not the surroundings.
    pub fn is_integrity(&self) -> bool {
        !matches!(self, Self::Io { .. } | Self::Absent(_) | Self::Several { .. } | Self::Exists(_) | Self::Key(_))
    }

    /// Stable name of the broken rule.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Io { .. } => "model-unreadable",
            Self::Absent(_) => "no-model",
            Self::Several { .. } => "several-models",
            Self::Exists(_) => "model-exists",
            Self::Key(_) => "key-invalid",
            Self::NoTrust(_) => "model-no-trusted-key",
            Self::Signature { .. } => "model-signature",
            Self::File { .. } => "model-file",
            Self::Place { .. } => "model-place",
            Self::Format { .. } => "model-format",
            Self::Golden { .. } => "model-golden",
        }
    }
}

/// Weights of a module as a safetensors file: the same weights give the same bytes.
pub fn weights_to_bytes<M: Module>(module: &M) -> Vec<u8> {
    let mut store = SafetensorsStore::from_bytes(None).clear_metadata();
    module.save_into(&mut store).expect("writing into memory");
    store.get_bytes().expect("just written")
}

/// Loads weights into a module of the same shape; those of 16 bits become the same numbers in 32.
///
/// # Errors
/// The store's message where a tensor is missing, unknown or of another shape.
pub fn weights_from_bytes<M: Module>(module: &mut M, bytes: Vec<u8>) -> Result<(), String> {
    let mut store = SafetensorsStore::from_bytes(Some(storage::widened(bytes)?));
    let result = module.load_from(&mut store).map_err(|error| error.to_string())?;
    match result.unused.first() {
        Some(name) => Err(format!("unknown tensor `{name}`")),
        None => Ok(()),
    }
}

impl NetworkConfigs {
    /// Networks of these shapes with untrained weights, one of each kind.
    pub fn init(&self, device: &Device) -> Networks {
        self.init_members(device, |_| 1)
    }

    /// As many of each kind as `members` says.
    pub fn init_members(&self, device: &Device, members: impl Fn(&str) -> usize) -> Networks {
        fn several<N>(count: usize, init: impl Fn() -> N) -> Vec<N> {
            (1..count).map(|_| init()).collect()
        }
        let reducer = self.reducer.as_ref();
        Networks {
            lung: self.lung.init(0, device),
            detector: self.detector.init(0, device),
            classifier: self.classifier.init(0, device),
            reducer: reducer.map(|config| config.init(0, device)),
            further: Further {
                lung: several(members("lung"), || self.lung.init(0, device)),
                detector: several(members("detector"), || self.detector.init(0, device)),
                classifier: several(members("classifier"), || self.classifier.init(0, device)),
                reducer: reducer.map_or_else(Vec::new, |c| several(members("reducer"), || c.init(0, device))),
            },
        }
    }
}

impl Manifest {
    /// How many networks of a kind are averaged.
    pub fn members(&self, network: &str) -> usize {
        self.ensembles.get(network).map_or(1, |ensemble| 1 + ensemble.further.len())
    }

    /// The model's networks with untrained weights.
    pub fn init(&self, device: &Device) -> Networks {
        self.networks.init_members(device, |network| self.members(network))
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> FrozenError {
    let path = path.to_owned();
    move |source| FrozenError::Io { path, source }
}
