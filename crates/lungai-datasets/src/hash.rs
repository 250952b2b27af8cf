//! SHA-256 in hex; of voxels it is [`lungai_dicom::hu_sha256`].

use sha2::{Digest, Sha256};

/// SHA-256 of some bytes, in lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// A seed that follows from a text: the first 64 bits of its SHA-256.
pub(crate) fn seed_of(text: &str) -> u64 {
    u64::from_str_radix(&sha256(text.as_bytes())[..16], 16).expect("hex digits")
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
