//! P-256 keys in PEM.
use crate::failure::Failure;
use crate::regulatory::sha256;
use p256::ecdsa::{SigningKey, VerifyingKey};
use p256::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePublicKey};
use std::path::Path;

/// SHA-256 of the public key in DER.
pub fn fingerprint(key: &VerifyingKey) -> Result<String, Failure> {
    let der = key.to_public_key_der().map_err(|error| Failure::new("key", error.to_string()))?;
    Ok(sha256(der.as_bytes()))
}

/// Private key from PEM, PKCS#8 (`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`) or SEC1.
pub fn signing_key(file: &Path) -> Result<SigningKey, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::new("key", format!("the key cannot be read: {error}")))?;
    if let Ok(key) = SigningKey::from_pkcs8_pem(&text) {
        return Ok(key);
    }
    // `openssl ecparam -genkey` puts the curve's parameters first.
    let sec1 = text.find("-----BEGIN EC PRIVATE KEY-----").map_or("", |at| &text[at..]);
    let key = p256::SecretKey::from_sec1_pem(sec1)
        .map_err(|_| Failure::new("key", "the key is no P-256 private key in PEM".to_owned()))?;
    Ok(SigningKey::from(key))
}

/// Public key from PEM; the public half, where a private key is given.
pub fn verifying_key(file: &Path) -> Result<VerifyingKey, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::new("key", format!("the key cannot be read: {error}")))?;
    match VerifyingKey::from_public_key_pem(&text) {
        Ok(key) => Ok(key),
        Err(_) => signing_key(file).map(|key| *key.verifying_key()),
    }
}
