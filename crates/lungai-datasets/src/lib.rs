//! Data sets of chest CT: images of any kind, manifests with checksums and patient-level splits, annotations,
//! and recipes for synthetic sets.
//!
//! This crate refuses to guess: an image without a stated orientation, a patient in two splits, a file that is not what
//! its checksum says are errors. It knows no network and no statistics.

mod error;
mod formats;
mod hash;

pub use error::DatasetError;
pub use formats::{
    FloatImage, MAX_VOXELS, is_image_name, read_image, read_labels, read_volume, write_labels, write_volume,
};
pub use hash::{hu_sha256, labels_sha256, sha256};
