//! One number that says whether two volumes hold the same HU.

use lungai_ct::Volume;
use sha2::{Digest, Sha256};

/// SHA-256 in lower-case hex over HU as `i16` little endian in memory order: z (towards the head for axial
/// series), rows, columns. The geometry is not part of it.
pub fn hu_sha256(volume: &Volume) -> String {
    let mut hash = Sha256::new();
    let mut bytes = Vec::with_capacity(1 << 16);
    for chunk in volume.as_slice().chunks(1 << 15) {
        bytes.clear();
        bytes.extend(chunk.iter().flat_map(|hu| hu.to_le_bytes()));
        hash.update(&bytes);
    }
    hex(&hash.finalize())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
