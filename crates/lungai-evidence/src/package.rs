//! A package on disk: its files, the manifest that pins each by SHA-256, the root hash and the signature; and the check of all that.
//!
//! The root hash is what `LC_ALL=C; find core -type f | sort | xargs sha256sum | sha256sum` prints, and the signature is
//! ECDSA P-256 over `manifest.json` in DER, so that both can be checked without this program.
use crate::approval::{self, Signed};
use crate::attestation::{self, Predicates};
use crate::failure::Failure;
use crate::keys;
use crate::ledger::{self, Entry};
use crate::regulatory::sha256;
use lungai_trace::implements;
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use p256::pkcs8::{DecodePublicKey, EncodePublicKey, LineEnding};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const FORMAT: &str = "lungai-evidence/2";
const MANIFEST: &str = "manifest.json";
const SIGNATURE: &str = "manifest.sig";
const SIGNER: &str = "signer.pem";
const LEDGER: &str = "ledger.jsonl";

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: String,
    /// Over `core/` alone: equal for equal commit and inputs.
    pub root_hash: String,
    /// SHA-256 of the signer's public key (DER), or null: unsigned.
    pub signer: Option<String>,
    /// SHA-256 of the last line of `ledger.jsonl`, or null: the package stands in no ledger.
    pub ledger: Option<String>,
    /// Statements of the builder in `attestations/`, which sign this manifest; none in a package without a signer.
    #[serde(default)]
    pub attestations: Vec<String>,
    pub files: Vec<FileEntry>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    pub path: String,
    pub sha256: String,
    pub bytes: u64,
}

/// Path in the package -> content.
pub type Files = BTreeMap<String, Vec<u8>>;

pub fn root_hash(files: &[FileEntry]) -> String {
    let mut core: Vec<&FileEntry> = files.iter().filter(|file| file.path.starts_with("core/")).collect();
    core.sort_by(|a, b| a.path.cmp(&b.path));
    let lines: String = core.iter().map(|file| format!("{}  {}\n", file.sha256, file.path)).collect();
    sha256(lines.as_bytes())
}

/// Writes a package, with the ledger's earlier text and its new entry, if it stands in one. An earlier package in the folder is
/// replaced; any other content is refused.
#[implements("RR-001", "SW-1103")]
pub fn write(
    folder: &Path,
    files: &Files,
    key: Option<&SigningKey>,
    ledger: Option<(&str, Entry)>,
    predicates: &Predicates,
) -> Result<Manifest, Failure> {
    let unwritable =
        |error: std::io::Error| Failure::new("unwritable", format!("the package cannot be written: {error}"));
    let entry = |(path, bytes): (&String, &Vec<u8>)| FileEntry {
        path: path.clone(),
        sha256: sha256(bytes),
        bytes: bytes.len() as u64,
    };
    let mut files = files.clone();
    let root_hash = root_hash(&files.iter().map(entry).collect::<Vec<_>>());
    let mut head = None;
    if let Some((earlier, entry)) = ledger {
        let text = ledger::append(earlier, Entry { root_hash: root_hash.clone(), ..entry })?;
        head = text.lines().last().map(|line| sha256(line.as_bytes()));
        files.insert(LEDGER.to_owned(), text.into_bytes());
    }
    clear(folder)?;
    for (path, bytes) in &files {
        let place = folder.join(path);
        std::fs::create_dir_all(place.parent().unwrap_or(folder)).map_err(unwritable)?;
        std::fs::write(place, bytes).map_err(unwritable)?;
    }
    let entries: Vec<FileEntry> = files.iter().map(entry).collect();
    let signer = key.map(|key| keys::fingerprint(key.verifying_key())).transpose()?;
    let attestations = predicates.keys().filter(|_| key.is_some()).map(|name| (*name).to_owned()).collect();
    let manifest =
        Manifest { format: FORMAT.to_owned(), root_hash, signer, ledger: head, attestations, files: entries };
    let text =
        serde_json::to_string_pretty(&manifest).map_err(|error| Failure::new("unwritable", error.to_string()))? + "\n";
    std::fs::write(folder.join(MANIFEST), &text).map_err(unwritable)?;
    if let Some(key) = key {
        let signature: Signature = key.sign(text.as_bytes());
        std::fs::write(folder.join(SIGNATURE), signature.to_der().as_bytes()).map_err(unwritable)?;
        let public =
            key.verifying_key().to_public_key_pem(LineEnding::LF).map_err(|e| Failure::new("key", e.to_string()))?;
        std::fs::write(folder.join(SIGNER), public).map_err(unwritable)?;
        std::fs::create_dir_all(folder.join(attestation::FOLDER)).map_err(unwritable)?;
        for (path, text) in attestation::sealed(predicates, &manifest.root_hash, text.as_bytes(), key)? {
            std::fs::write(folder.join(path), text).map_err(unwritable)?;
        }
    }
    Ok(manifest)
}

fn clear(folder: &Path) -> Result<(), Failure> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    if entries.count() == 0 {
        return Ok(());
    }
    let refuse = || {
        Failure::new(
            "not-empty",
            "the folder holds something that is no earlier evidence package; choose another".to_owned(),
        )
    };
    let text = std::fs::read_to_string(folder.join(MANIFEST)).map_err(|_| refuse())?;
    let manifest: Manifest = serde_json::from_str(&text).map_err(|_| refuse())?;
    if manifest.format != FORMAT || contents(folder).map_err(|_| refuse())?.iter().any(|path| !listed(&manifest, path))
    {
        return Err(refuse());
    }
    for name in ["core", "run", approval::FOLDER, attestation::FOLDER] {
        let _ = std::fs::remove_dir_all(folder.join(name)); // may not exist
    }
    for name in [MANIFEST, SIGNATURE, SIGNER, LEDGER] {
        let _ = std::fs::remove_file(folder.join(name));
    }
    Ok(())
}

fn listed(manifest: &Manifest, path: &str) -> bool {
    // Approvals come after the manifest, which they sign; each is checked for itself.
    let is_approval = path.strip_prefix(approval::FOLDER).is_some_and(|rest| {
        let name = rest.trim_start_matches('/');
        let role = name.strip_suffix(".dsse.json").or_else(|| name.strip_suffix(".pem"));
        role.is_some_and(|role| approval::check_role(role).is_ok())
    });
    let is_attestation = manifest.attestations.iter().any(|name| attestation::path(name) == path);
    is_approval
        || is_attestation
        || [MANIFEST, SIGNATURE, SIGNER].contains(&path)
        || manifest.files.iter().any(|file| file.path == path)
}

/// What a package was found to be.
#[derive(Debug, Serialize)]
pub struct Verified {
    pub root_hash: String,
    pub files: usize,
    pub signer: Option<String>,
    /// The signer is the one whose key was given.
    pub trusted: bool,
    /// Entries of the ledger that it carries; none: it stands in no ledger.
    pub ledger: Option<usize>,
    /// What the builder states, each whole and of this package.
    pub attestations: Vec<String>,
    /// Approvals by people, each whole and of this package.
    pub approvals: Vec<Signed>,
}

/// Checks a package from the manifest outwards; the error names the first broken item.
#[implements("RR-001", "SW-1103")]
pub fn verify(
    folder: &Path,
    trusted_key: Option<&VerifyingKey>,
    roles: &BTreeMap<String, VerifyingKey>,
) -> Result<Verified, Failure> {
    let broken = |rule, message: String| Failure::integrity(rule, message);
    let text =
        std::fs::read(folder.join(MANIFEST)).map_err(|_| broken("manifest-missing", format!("{MANIFEST}: missing")))?;
    let manifest: Manifest = serde_json::from_slice(&text)
        .map_err(|error| broken("manifest-malformed", format!("{MANIFEST}: truncated or altered ({error})")))?;
    if manifest.format != FORMAT {
        return Err(broken("manifest-malformed", format!("{MANIFEST}: unknown format `{}`", manifest.format)));
    }
    let builder = check_signature(folder, &text, &manifest, trusted_key)?;
    for file in &manifest.files {
        let inside = !file.path.split('/').any(|part| part == ".." || part.is_empty()) && !file.path.contains('\\');
        if !inside {
            return Err(broken("path-outside", format!("{MANIFEST}: `{}` leads out of the package", file.path)));
        }
        let place = folder.join(&file.path);
        let is_file = place.symlink_metadata().is_ok_and(|found| found.is_file());
        if !is_file {
            return Err(broken("file-missing", format!("{}: missing", file.path)));
        }
        let bytes = std::fs::read(&place).map_err(|error| broken("file-missing", format!("{}: {error}", file.path)))?;
        if sha256(&bytes) != file.sha256 {
            return Err(broken("file-changed", format!("{}: changed since the package was built", file.path)));
        }
        if bytes.len() as u64 != file.bytes {
            return Err(broken("manifest-malformed", format!("{}: its length differs from the manifest", file.path)));
        }
    }
    let present = contents(folder).map_err(|error| broken("unreadable", error.to_string()))?;
    if let Some(extra) = present.iter().find(|path| !listed(&manifest, path)) {
        return Err(broken("file-extra", format!("{extra}: not listed in the manifest")));
    }
    if root_hash(&manifest.files) != manifest.root_hash {
        return Err(broken("root-hash", format!("{MANIFEST}: the root hash does not follow from the files")));
    }
    let ledger = check_ledger(folder, &manifest)?;
    for name in &manifest.attestations {
        let Some(builder) = &builder else {
            return Err(broken("manifest-malformed", format!("{MANIFEST}: names statements, but no signer")));
        };
        attestation::verify(folder, name, &manifest.root_hash, &text, builder)?;
    }
    let mut approvals = Vec::new();
    let signed =
        present.iter().filter_map(|path| path.strip_prefix(approval::FOLDER)?.strip_prefix('/')?.split_once('.'));
    let signed: BTreeSet<&str> = signed.map(|(role, _)| role).chain(roles.keys().map(String::as_str)).collect();
    for role in signed {
        let (approval, public) = approval::verify(folder, role, &manifest.root_hash, &text)?;
        if roles.get(role).is_some_and(|trusted| *trusted != public) {
            let message = format!("{}/{role}.dsse.json: signed with another key than the one given", approval::FOLDER);
            return Err(broken("wrong-key", message));
        }
        approvals.push(approval);
    }
    Ok(Verified {
        ledger,
        approvals,
        attestations: manifest.attestations,
        root_hash: manifest.root_hash,
        files: manifest.files.len(),
        signer: manifest.signer,
        trusted: trusted_key.is_some(),
    })
}

/// The chain holds and ends with this very package.
fn check_ledger(folder: &Path, manifest: &Manifest) -> Result<Option<usize>, Failure> {
    let listed = manifest.files.iter().any(|file| file.path == LEDGER);
    let broken = |what: &str| Failure::integrity("ledger", format!("{LEDGER}: {what}"));
    let Some(head) = &manifest.ledger else {
        return if listed { Err(broken("present, but the manifest names no entry")) } else { Ok(None) };
    };
    let text = std::fs::read_to_string(folder.join(LEDGER)).map_err(|_| broken("missing"))?;
    let entries = ledger::parse(&text)?;
    let last = text.lines().last().map(|line| sha256(line.as_bytes()));
    if last.as_ref() != Some(head) || entries.last().is_none_or(|last| last.root_hash != manifest.root_hash) {
        return Err(broken("does not end with this package"));
    }
    Ok(Some(entries.len()))
}

/// The manifest and its text, for a signature on a package that was just verified.
pub fn manifest(folder: &Path) -> Result<(Manifest, Vec<u8>), Failure> {
    let wrong = |error: String| Failure::integrity("manifest-malformed", format!("{MANIFEST}: {error}"));
    let text = std::fs::read(folder.join(MANIFEST)).map_err(|error| wrong(error.to_string()))?;
    Ok((serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?, text))
}

fn check_signature(
    folder: &Path,
    text: &[u8],
    manifest: &Manifest,
    trusted_key: Option<&VerifyingKey>,
) -> Result<Option<VerifyingKey>, Failure> {
    let broken = |rule, message: &str| Failure::integrity(rule, format!("{SIGNATURE}: {message}"));
    let signature = std::fs::read(folder.join(SIGNATURE));
    let Some(signer) = &manifest.signer else {
        return if trusted_key.is_some() {
            Err(broken("unsigned", "the package is unsigned, but a key was given"))
        } else if signature.is_ok() || folder.join(SIGNER).exists() {
            Err(broken("unsigned", "present, but the manifest names no signer"))
        } else {
            Ok(None)
        };
    };
    let signature =
        signature.map_err(|_| broken("signature-missing", "missing, though the manifest names a signer"))?;
    let signature =
        Signature::from_der(&signature).map_err(|_| broken("signature-wrong", "no ECDSA signature in DER"))?;
    let public = std::fs::read_to_string(folder.join(SIGNER))
        .map_err(|_| broken("signature-missing", "signer.pem is missing"))?;
    let public = VerifyingKey::from_public_key_pem(&public)
        .map_err(|_| broken("signature-wrong", "signer.pem holds no P-256 key"))?;
    if let Some(trusted) = trusted_key
        && *trusted != public
    {
        return Err(broken("wrong-key", "signed with another key than the one given"));
    }
    if keys::fingerprint(&public)? != *signer {
        return Err(broken("wrong-key", "signer.pem is not the signer that the manifest names"));
    }
    public.verify(text, &signature).map_err(|_| broken("signature-wrong", "does not fit manifest.json"))?;
    Ok(Some(public))
}

/// Every path below the folder, with `/`; links and empty folders count as files, since they are not ours either.
fn contents(folder: &Path) -> std::io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut open = vec![String::new()];
    while let Some(prefix) = open.pop() {
        let mut empty = true;
        for entry in std::fs::read_dir(folder.join(&prefix))? {
            let entry = entry?;
            empty = false;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            if entry.file_type()?.is_dir() {
                open.push(path);
            } else {
                found.insert(path);
            }
        }
        if empty && !prefix.is_empty() {
            found.insert(prefix);
        }
    }
    Ok(found)
}
