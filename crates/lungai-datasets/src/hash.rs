//! SHA-256 of what counts: voxels, not containers.

use lungai_ct::{LabelMap, Volume};
use sha2::{Digest, Sha256};

/// SHA-256, in hex, of the HU as 16-bit little-endian integers, z slowest: independent of the file format.
pub fn hu_sha256(volume: &Volume) -> String {
    let mut hasher = Sha256::new();
    let mut buffer = Vec::with_capacity(1 << 16);
    for chunk in volume.as_slice().chunks(1 << 15) {
        buffer.clear();
        buffer.extend(chunk.iter().flat_map(|hu| hu.to_le_bytes()));
        hasher.update(&buffer);
    }
    hex(&hasher.finalize())
}

/// SHA-256, in hex, of the labels, z slowest.
pub fn labels_sha256(labels: &LabelMap) -> String {
    sha256(labels.as_slice())
}

/// SHA-256 of some bytes, in hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_hash_is_that_of_fips_180() {
        assert_eq!(super::sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
