//! DSSE envelopes round in-toto statements, signed with ECDSA on P-256: what a person approves and what the build attests.
use crate::failure::Failure;
use crate::keys;
use crate::regulatory::sha256;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";

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

/// A package is named by its root hash and by its manifest.
pub fn subjects(root_hash: &str, manifest: &[u8]) -> Value {
    json!([
        { "name": "core", "digest": { "sha256": root_hash } },
        { "name": "manifest.json", "digest": { "sha256": sha256(manifest) } },
    ])
}

pub fn statement(subject: &Value, predicate_type: &str, predicate: &Value) -> Value {
    json!({ "_type": STATEMENT, "subject": subject, "predicateType": predicate_type, "predicate": predicate })
}

/// The envelope as text. Equal statements and keys give equal bytes (RFC 6979).
pub fn sealed(statement: &Value, key: &SigningKey) -> Result<String, Failure> {
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
    let text = serde_json::to_string_pretty(&envelope).map_err(|e| Failure::new("unwritable", e.to_string()))?;
    Ok(text + "\n")
}

/// The statement in an envelope of this key and kind, or what is wrong with it.
///
/// - `kind`: what the statement should be, for the message
pub fn opened(text: &str, public: &VerifyingKey, predicate_type: &str, kind: &str) -> Result<Value, Failure> {
    let broken = |what: &str| Failure::integrity("envelope", what.to_owned());
    let envelope: Envelope = serde_json::from_str(text).map_err(|_| broken("truncated or altered"))?;
    let [signature] = envelope.signatures.as_slice() else { return Err(broken("holds not exactly one signature")) };
    let payload = BASE64.decode(&envelope.payload).map_err(|_| broken("truncated or altered"))?;
    let sig = BASE64.decode(&signature.sig).ok().and_then(|sig| Signature::from_der(&sig).ok());
    let sig = sig.ok_or_else(|| broken("holds no ECDSA signature"))?;
    if envelope.payload_type != PAYLOAD_TYPE || keys::fingerprint(public)? != signature.keyid {
        return Err(broken("names another kind of payload or another key"));
    }
    public.verify(&encoded(&payload), &sig).map_err(|_| broken("the signature does not fit"))?;
    let statement: Value = serde_json::from_slice(&payload).map_err(|_| broken("is no statement"))?;
    if statement["_type"] != STATEMENT || statement["predicateType"] != predicate_type {
        return Err(broken(&format!("is no {kind}")));
    }
    Ok(statement)
}
