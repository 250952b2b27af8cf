//! Signatures of people on a package, one for each role: a DSSE envelope round an in-toto statement that names the root hash and the
//! manifest, signed offline with ECDSA on P-256. It says who approved what and means no more: no claim of 21 CFR Part 11 is made.
use crate::dsse;
use crate::failure::Failure;
use crate::keys;
use crate::regulatory::Date;
use lungai_trace::implements;
use p256::ecdsa::{SigningKey, VerifyingKey};
use p256::pkcs8::{DecodePublicKey, EncodePublicKey, LineEnding};
use serde::{Deserialize, Serialize};
use std::path::Path;

pub const FOLDER: &str = "signatures";
const PREDICATE: &str = "https://lungai.example/evidence-approval/v1";

/// What a person declares.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    pub role: String,
    pub name: String,
    /// `authorship`, `review`, `approval of release`, ...
    pub meaning: String,
    pub date: Date,
}

/// An approval whose signature fits the package.
#[derive(Debug, Clone, Serialize)]
pub struct Signed {
    #[serde(flatten)]
    pub approval: Approval,
    /// SHA-256 of the public key in DER.
    pub key: String,
}

/// A role names files, so it is one plain word.
pub fn check_role(role: &str) -> Result<(), Failure> {
    let plain = !role.is_empty() && role.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let message = || format!("`{role}` is no role: small letters, digits and `-`, such as `quality`");
    if plain { Ok(()) } else { Err(Failure::new("role", message())) }
}

/// Adds a signature to a package; one that the role gave earlier is replaced.
#[implements("RR-001", "SW-1103")]
pub fn sign(
    folder: &Path,
    approval: &Approval,
    root_hash: &str,
    manifest: &[u8],
    key: &SigningKey,
) -> Result<(), Failure> {
    check_role(&approval.role)?;
    let unwritable = |error: String| Failure::new("unwritable", format!("the signature cannot be written: {error}"));
    let predicate = serde_json::to_value(approval).map_err(|error| unwritable(error.to_string()))?;
    let text = dsse::sealed(&dsse::statement(&dsse::subjects(root_hash, manifest), PREDICATE, &predicate), key)?;
    let public =
        key.verifying_key().to_public_key_pem(LineEnding::LF).map_err(|error| unwritable(error.to_string()))?;
    let place = folder.join(FOLDER);
    std::fs::create_dir_all(&place).map_err(|error| unwritable(error.to_string()))?;
    let write = |ending: &str, text: &str| {
        std::fs::write(place.join(format!("{}.{ending}", approval.role)), text)
            .map_err(|error| unwritable(error.to_string()))
    };
    write("pem", &public)?;
    write("dsse.json", &text)
}

/// The approval in `signatures/ROLE.dsse.json`, if it is whole and of this very package.
#[implements("RR-001", "SW-1103")]
pub fn verify(folder: &Path, role: &str, root_hash: &str, manifest: &[u8]) -> Result<(Signed, VerifyingKey), Failure> {
    let name = format!("{FOLDER}/{role}.dsse.json");
    let broken = |what: &str| Failure::integrity("approval", format!("{name}: {what}"));
    let read = |ending: &str| std::fs::read_to_string(folder.join(FOLDER).join(format!("{role}.{ending}")));
    let text = read("dsse.json").map_err(|_| broken("missing"))?;
    let public = read("pem").map_err(|_| broken("its public key is missing"))?;
    let public = VerifyingKey::from_public_key_pem(&public).map_err(|_| broken("its public key is no P-256 key"))?;
    let statement = dsse::opened(&text, &public, PREDICATE, "approval of a package").map_err(|f| broken(&f.message))?;
    if statement["subject"] != dsse::subjects(root_hash, manifest) {
        return Err(broken("approves another package"));
    }
    let approval: Approval =
        serde_json::from_value(statement["predicate"].clone()).map_err(|_| broken("is no approval of a package"))?;
    if approval.role != role {
        return Err(broken("was given in another role"));
    }
    Ok((Signed { approval, key: keys::fingerprint(&public)? }, public))
}
