//! Who froze the model: a DSSE envelope (Dead Simple Signing Envelope 1.0) round an in-toto statement that lists the
//! SHA-256 of every file, signed with ECDSA on P-256.

use super::{FrozenError, io};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use p256::ecdsa::signature::{Signer, Verifier};
use p256::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePublicKey, LineEnding};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fs, path::Path};

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://lungai.example/frozen-model/v1";

/// A private key that freezes models.
pub struct SigningKey(p256::ecdsa::SigningKey);

/// The public keys whose models are accepted.
#[derive(Debug, Clone)]
pub struct Trust(Vec<p256::ecdsa::VerifyingKey>);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    payload_type: String,
    payload: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    keyid: String,
    sig: String,
}

#[derive(Serialize, Deserialize)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Subject {
    name: String,
    digest: BTreeMap<String, String>,
}

impl SigningKey {
    /// A new key from the operating system's randomness.
    pub fn generate() -> Self {
        use p256::elliptic_curve::Generate;
        Self(p256::SecretKey::generate().into())
    }

    /// Reads a PKCS#8 PEM file.
    ///
    /// # Errors
    /// [`FrozenError::Io`], [`FrozenError::Key`].
    pub fn read(path: &Path) -> Result<Self, FrozenError> {
        let pem = fs::read_to_string(path).map_err(io(path))?;
        let key = p256::SecretKey::from_pkcs8_pem(&pem).map_err(|_| FrozenError::Key(path.to_owned()))?;
        Ok(Self(key.into()))
    }

    /// Public key as PEM.
    pub fn public_pem(&self) -> String {
        p256::PublicKey::from(self.0.verifying_key()).to_public_key_pem(LineEnding::LF).expect("a key has a PEM form")
    }

    /// The envelope for `files` (relative path to SHA-256).
    pub(super) fn sign(&self, files: &BTreeMap<String, String>) -> Vec<u8> {
        let subject = files
            .iter()
            .map(|(name, sha256)| Subject {
                name: name.clone(),
                digest: BTreeMap::from([("sha256".to_owned(), sha256.clone())]),
            })
            .collect();
        let statement =
            Statement { kind: STATEMENT.into(), subject, predicate_type: PREDICATE.into(), predicate: BTreeMap::new() };
        let payload = serde_json::to_vec(&statement).expect("plain data");
        let signature: p256::ecdsa::Signature = self.0.sign(&pre_authentication(&payload));
        let envelope = Envelope {
            payload_type: PAYLOAD_TYPE.into(),
            payload: BASE64.encode(&payload),
            signatures: vec![EnvelopeSignature {
                keyid: key_id(self.0.verifying_key()),
                sig: BASE64.encode(signature.to_der()),
            }],
        };
        serde_json::to_vec_pretty(&envelope).expect("plain data")
    }
}

impl Trust {
    /// Trusts one key, given as PEM text.
    ///
    /// # Errors
    /// [`FrozenError::Key`] naming `origin`.
    pub fn from_pem(pem: &str, origin: &Path) -> Result<Self, FrozenError> {
        let key = p256::PublicKey::from_public_key_pem(pem).map_err(|_| FrozenError::Key(origin.to_owned()))?;
        Ok(Self(vec![key.into()]))
    }

    /// The keys that decide about the model in `folder`: those of `file` where given, else every `*.pem` in
    /// `trusted-keys/` of the registry that the folder lies in (`REGISTRY/NAME/VERSION`).
    ///
    /// # Errors
    /// [`FrozenError::NoTrust`] where there is none, [`FrozenError::Key`] for a bad file.
    pub fn find(folder: &Path, file: Option<&Path>) -> Result<Self, FrozenError> {
        if let Some(path) = file {
            return Self::from_pem(&fs::read_to_string(path).map_err(io(path))?, path);
        }
        let folder = folder.canonicalize().map_err(io(folder))?;
        let keys = folder.ancestors().nth(2).unwrap_or(&folder).join("trusted-keys");
        let mut paths: Vec<_> = fs::read_dir(&keys).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|ext| ext == "pem"));
        paths.sort();
        let mut trusted = Vec::new();
        for path in &paths {
            trusted.extend(Self::from_pem(&fs::read_to_string(path).map_err(io(path))?, path)?.0);
        }
        if trusted.is_empty() { Err(FrozenError::NoTrust(keys)) } else { Ok(Self(trusted)) }
    }

    /// The signed list of files: relative path to SHA-256.
    pub(super) fn verify(&self, path: &Path) -> Result<BTreeMap<String, String>, FrozenError> {
        let wrong = |reason| FrozenError::Signature { path: path.to_owned(), reason };
        let bytes = fs::read(path).map_err(|_| wrong("the signature is missing"))?;
        let envelope: Envelope = serde_json::from_slice(&bytes).map_err(|_| wrong("not a signature envelope"))?;
        let payload = BASE64.decode(&envelope.payload).map_err(|_| wrong("not a signature envelope"))?;
        let message = pre_authentication(&payload);
        let good = envelope.payload_type == PAYLOAD_TYPE
            && envelope.signatures.iter().any(|signature| {
                let der = BASE64.decode(&signature.sig).unwrap_or_default();
                p256::ecdsa::Signature::from_der(&der)
                    .is_ok_and(|signature| self.0.iter().any(|key| key.verify(&message, &signature).is_ok()))
            });
        if !good {
            return Err(wrong("no valid signature by a trusted key"));
        }
        let statement: Statement = serde_json::from_slice(&payload).map_err(|_| wrong("not an in-toto statement"))?;
        if statement.kind != STATEMENT || statement.predicate_type != PREDICATE {
            return Err(wrong("signed for another purpose"));
        }
        let digest = |mut subject: Subject| Some((subject.name, subject.digest.remove("sha256")?));
        statement.subject.into_iter().map(digest).collect::<Option<_>>().ok_or_else(|| wrong("a file without SHA-256"))
    }
}

/// SHA-256 in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key_id(key: &p256::ecdsa::VerifyingKey) -> String {
    sha256_hex(key.to_sec1_point(true).as_bytes())
}

/// DSSE's pre-authentication encoding: type and length are signed along with the payload.
fn pre_authentication(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}
