//! Who froze the model: OpenSSF model signing 1.0. The file is a Sigstore bundle 0.3 with a DSSE envelope (Dead Simple
//! Signing Envelope 1.0) round an in-toto statement that lists the SHA-256 of every file, signed with ECDSA on P-256. The
//! `model_signing` tool verifies it without us: `model_signing verify key FOLDER --public_key PEM --signature FOLDER/model.sig`.
//!
//! Stricter than that tool: the bundle has one way to be written, so that no byte of it can be changed.

use super::{FrozenError, io};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use p256::ecdsa::signature::{Signer, Verifier};
use p256::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePublicKey, LineEnding};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fs, path::Path};

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://model_signing/signature/v1.0";
/// The one hash function in use.
const HASH: &str = "sha256";

/// A private key that freezes models.
pub struct SigningKey(p256::ecdsa::SigningKey);

/// The public keys whose models are accepted.
#[derive(Debug, Clone)]
pub struct Trust(Vec<p256::ecdsa::VerifyingKey>);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Envelope,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Material {
    public_key: KeyHint,
    /// None: a key of one's own is in no public log.
    tlog_entries: [(); 0],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyHint {
    hint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: [EnvelopeSignature; 1],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    sig: String,
    keyid: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: [Subject; 1],
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    name: String,
    digest: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<Resource>,
}

/// How the files were hashed: one by one.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Serialization {
    method: String,
    hash_type: String,
    allow_symlinks: bool,
    ignore_paths: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    name: String,
    algorithm: String,
    digest: String,
}

/// What is signed.
#[derive(Debug, PartialEq)]
pub(super) struct Signed {
    /// `NAME/VERSION`.
    pub model: String,
    /// Relative path of each file to its SHA-256.
    pub files: BTreeMap<String, String>,
}

impl Signed {
    fn statement(&self) -> Vec<u8> {
        // The whole is pinned by the digests of all files, one after the other.
        let digests = self.files.values().flat_map(|hex| {
            (0..hex.len() / 2)
                .map(|i| hex.get(2 * i..2 * i + 2).and_then(|b| u8::from_str_radix(b, 16).ok()).unwrap_or(0))
        });
        let root = sha256_hex(&digests.collect::<Vec<u8>>());
        let resource = |(name, digest): (&String, &String)| Resource {
            name: name.clone(),
            algorithm: HASH.into(),
            digest: digest.clone(),
        };
        let statement = Statement {
            kind: STATEMENT.into(),
            subject: [Subject { name: self.model.clone(), digest: BTreeMap::from([(HASH.to_owned(), root)]) }],
            predicate_type: PREDICATE.into(),
            predicate: Predicate {
                serialization: Serialization {
                    method: "files".into(),
                    hash_type: HASH.into(),
                    allow_symlinks: false,
                    ignore_paths: vec![super::folder::SIGNATURE.into()],
                },
                resources: self.files.iter().map(resource).collect(),
            },
        };
        serde_json::to_vec(&statement).expect("plain data")
    }

    fn of(payload: &[u8]) -> Option<Self> {
        let Statement { subject: [subject], predicate, .. } = serde_json::from_slice(payload).ok()?;
        let files = predicate.resources.into_iter().map(|resource| (resource.name, resource.digest)).collect();
        let signed = Self { model: subject.name, files };
        // Whatever else a statement may say, ours says this.
        (signed.statement() == payload).then_some(signed)
    }
}

fn bundle(payload: &[u8], signature: &p256::ecdsa::Signature, key: &p256::ecdsa::VerifyingKey) -> Vec<u8> {
    let bundle = Bundle {
        media_type: MEDIA_TYPE.into(),
        verification_material: Material {
            public_key: KeyHint { hint: sha256_hex(public_pem(key).as_bytes()) },
            tlog_entries: [],
        },
        dsse_envelope: Envelope {
            payload: BASE64.encode(payload),
            payload_type: PAYLOAD_TYPE.into(),
            signatures: [EnvelopeSignature { sig: BASE64.encode(signature.to_der()), keyid: String::new() }],
        },
    };
    serde_json::to_vec_pretty(&bundle).expect("plain data")
}

fn public_pem(key: &p256::ecdsa::VerifyingKey) -> String {
    p256::PublicKey::from(key).to_public_key_pem(LineEnding::LF).expect("a key has a PEM form")
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
        public_pem(self.0.verifying_key())
    }

    /// The signature file.
    pub(super) fn sign(&self, signed: &Signed) -> Vec<u8> {
        let payload = signed.statement();
        let signature: p256::ecdsa::Signature = self.0.sign(&pre_authentication(&payload));
        bundle(&payload, &signature.normalize_s(), self.0.verifying_key())
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

    /// What the bytes of a signature file, which lies at `path`, sign.
    pub(super) fn verify(&self, bytes: &[u8], path: &Path) -> Result<Signed, FrozenError> {
        let wrong = |reason| FrozenError::Signature { path: path.to_owned(), reason };
        let parsed: Bundle = serde_json::from_slice(bytes).map_err(|_| wrong("not a signature of a model"))?;
        let [EnvelopeSignature { sig, .. }] = &parsed.dsse_envelope.signatures;
        let decode = |text: &str| BASE64.decode(text).map_err(|_| wrong("not a signature of a model"));
        let (payload, der) = (decode(&parsed.dsse_envelope.payload)?, decode(sig)?);
        let message = pre_authentication(&payload);
        let signature = p256::ecdsa::Signature::from_der(&der).map_err(|_| wrong("not a signature of a model"))?;
        let key = self.0.iter().find(|key| key.verify(&message, &signature).is_ok());
        let key = key.ok_or_else(|| wrong("no valid signature by a trusted key"))?;
        let signed = Signed::of(&payload).ok_or_else(|| wrong("signed for another purpose"))?;
        // Of the two signatures that a key can give for one message the smaller one.
        if bundle(&payload, &signature.normalize_s(), key) != bytes {
            return Err(wrong("not as it was written"));
        }
        Ok(signed)
    }
}

/// SHA-256 in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// DSSE's pre-authentication encoding: type and length are signed along with the payload.
fn pre_authentication(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    #[verifies("SR-002", "R-005")]
    #[test]
    fn no_byte_of_a_signature_can_be_changed() {
        let key = SigningKey::generate();
        let trust = Trust::from_pem(&key.public_pem(), Path::new("key.pem")).unwrap();
        let files = BTreeMap::from([("a".to_owned(), sha256_hex(b"a")), ("b/c".to_owned(), sha256_hex(b"c"))]);
        let signed = Signed { model: "net/1".into(), files };
        let bytes = key.sign(&signed);
        assert_eq!(trust.verify(&bytes, Path::new("model.sig")).unwrap(), signed);
        for place in 0..bytes.len() {
            for bit in [1, 2, 32] {
                let mut other = bytes.clone();
                other[place] ^= bit;
                let error = trust.verify(&other, Path::new("model.sig")).unwrap_err();
                assert_eq!(error.rule(), "model-signature", "byte {place}");
            }
        }
        let spaced = [bytes.as_slice(), b"\n"].concat();
        assert!(trust.verify(&spaced, Path::new("model.sig")).is_err());
    }
}
