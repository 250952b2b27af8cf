//! Signatures of people on a package, one for each role: a DSSE envelope round an in-toto statement that names the root hash and the
//! manifest, signed offline with ECDSA on P-256. It says who approved what and means no more: no claim of 21 CFR Part 11 is made.
use crate::failure::Failure;
use crate::keys;
use crate::regulatory::{Date, sha256};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use lungai_trace::implements;
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use p256::pkcs8::{DecodePublicKey, EncodePublicKey, LineEnding};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;

pub const FOLDER: &str = "signatures";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
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

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    payload_type: String,
    payload: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    keyid: String,
    sig: String,
}

/// DSSE's pre-authentication encoding: type and length are signed along with the payload.
fn encoded(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    bytes.extend(payload);
    bytes
}

fn subjects(root_hash: &str, manifest: &[u8]) -> Value {
    json!([
        { "name": "core", "digest": { "sha256": root_hash } },
        { "name": "manifest.json", "digest": { "sha256": sha256(manifest) } },
    ])
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
    let statement = json!({
        "_type": STATEMENT,
        "subject": subjects(root_hash, manifest),
        "predicateType": PREDICATE,
        "predicate": approval,
    });
    let payload = statement.to_string().into_bytes();
    let signature: Signature = key.sign(&encoded(&payload));
    let envelope = Envelope {
        payload_type: PAYLOAD_TYPE.to_owned(),
        payload: BASE64.encode(&payload),
        signatures: vec![EnvelopeSignature {
            keyid: keys::fingerprint(key.verifying_key())?,
            sig: BASE64.encode(signature.to_der().as_bytes()),
        }],
    };
    let public =
        key.verifying_key().to_public_key_pem(LineEnding::LF).map_err(|error| unwritable(error.to_string()))?;
    let text = serde_json::to_string_pretty(&envelope).map_err(|error| unwritable(error.to_string()))? + "\n";
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
    let envelope: Envelope = read("dsse.json")
        .map_err(|_| broken("missing"))
        .and_then(|text| serde_json::from_str(&text).map_err(|_| broken("truncated or altered")))?;
    let public = read("pem").map_err(|_| broken("its public key is missing"))?;
    let public = VerifyingKey::from_public_key_pem(&public).map_err(|_| broken("its public key is no P-256 key"))?;
    let [signature] = envelope.signatures.as_slice() else { return Err(broken("holds not exactly one signature")) };
    let payload = BASE64.decode(&envelope.payload).map_err(|_| broken("truncated or altered"))?;
    let sig = BASE64.decode(&signature.sig).ok().and_then(|sig| Signature::from_der(&sig).ok());
    let sig = sig.ok_or_else(|| broken("holds no ECDSA signature"))?;
    if envelope.payload_type != PAYLOAD_TYPE || keys::fingerprint(&public)? != signature.keyid {
        return Err(broken("names another kind of payload or another key"));
    }
    public.verify(&encoded(&payload), &sig).map_err(|_| broken("the signature does not fit"))?;
    let statement: Value = serde_json::from_slice(&payload).map_err(|_| broken("is no statement"))?;
    if statement["_type"] != STATEMENT || statement["predicateType"] != PREDICATE {
        return Err(broken("is no approval of a package"));
    }
    if statement["subject"] != subjects(root_hash, manifest) {
        return Err(broken("approves another package"));
    }
    let approval: Approval =
        serde_json::from_value(statement["predicate"].clone()).map_err(|_| broken("is no approval of a package"))?;
    if approval.role != role {
        return Err(broken("was given in another role"));
    }
    Ok((Signed { approval, key: signature.keyid.clone() }, public))
}
