//! Data sets of chest CT: images of any kind, manifests with checksums and patient-level splits, annotations,
//! and recipes for synthetic sets.
//!
//! This crate refuses to guess: an image without a stated orientation, a patient in two splits, a file that is not what
//! its checksum says are errors. It knows no network. Statistics serve one question: whether a synthetic set is hard
//! enough.

pub mod difficulty;
pub mod import;
mod lock;
mod manifest;
pub mod readers;
pub mod recipe;
mod rules;
mod splits;

mod croissant;
mod patches;
mod plan;

mod exam;
mod on_demand;
mod open;

mod formats;

mod align;
mod annotations;
mod clusters;
mod error;
mod grid;
mod hash;
mod table;
mod write;
mod yaml;

pub use align::align_labels;
pub use annotations::nodules_csv;
pub use croissant::croissant;
pub use error::{DatasetError, Fault};
pub use exam::FurtherScan;
pub use formats::{
    FloatImage, MAX_VOXELS, is_image_name, read_image, read_labels, read_volume, write_labels, write_nifti2,
    write_volume,
};
pub use hash::sha256;
pub use lock::{Lock, is_locked, verify, write as write_lock};
pub use lungai_dicom::hu_sha256;
pub use manifest::{Case, Follows, Manifest, Part, Provenance, Split};
pub use open::{Opened, open};
pub use patches::{FillProgress, PatchStore, StoreGrid, StoredCase};
pub use plan::{Budget, Fingerprint, HuStatistics, PerAxis, Plan, Sizes, plan};
pub use rules::{Counts, Excluded, Flow, Inclusion, QualityRule, Unknown};
pub use splits::SplitRule;
pub use table::separated;
pub use yaml::read_yaml;
