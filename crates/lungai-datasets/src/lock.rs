//! `dataset.lock`: every byte of a set, as it was when it was frozen.
//!
//! The manifest's own checksums are of voxels, so that a set may change its containers; they see neither a changed header
//! nor a file that was added. The lock is of files. Its lines are those of `sha256sum`, which can check them too
//! (`sha256sum -c dataset.lock`).

use crate::DatasetError;
use crate::error::Fault;
use crate::hash::{hex, sha256};
use crate::import::files_of;
use crate::manifest::Manifest;
use crate::write::write_whole;
use lungai_trace::implements;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Name of the lock.
pub(crate) const FILE: &str = "dataset.lock";
const HEAD: &str = "# lungai dataset.lock 1";
/// Files of the set itself that are locked where they exist.
const OWN: [&str; 4] = ["manifest.yaml", "splits.csv", "flow.json", "recipe.yaml"];

/// What a lock says as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// [`Manifest::fingerprint`] at that time.
    pub fingerprint: String,
    /// SHA-256 over the lock's lines of files: one value for every byte of the set.
    pub root: String,
    /// Files.
    pub files: usize,
}

/// Hashes every file of a set and writes `dataset.lock` beside its manifest. A folder of DICOM files is locked with all
/// that lies in it; an image file together with its neighbours in the folder.
///
/// # Errors
/// [`DatasetError`] where a file cannot be read, or its name holds a line break.
#[implements("FR-001")]
pub fn write(manifest: &Manifest, folder: &Path) -> Result<Lock, DatasetError> {
    let (lock, text) = of(manifest, folder, &BTreeMap::new())?;
    write_whole(&folder.join(FILE), text.as_bytes())?;
    Ok(lock)
}

/// The lock and its text as they will be when the files `to_come`, by name, lie in the set's folder.
///
/// # Errors
/// As [`write`].
pub(crate) fn of(
    manifest: &Manifest,
    folder: &Path,
    to_come: &BTreeMap<&str, Vec<u8>>,
) -> Result<(Lock, String), DatasetError> {
    let to_come: BTreeMap<PathBuf, &Vec<u8>> = to_come.iter().map(|(file, bytes)| (folder.join(file), bytes)).collect();
    let mut files = present(manifest, folder)?;
    files.extend(to_come.keys().cloned());
    let files: Vec<PathBuf> = files.into_iter().collect();
    let hash = |path: &PathBuf| to_come.get(path).map_or_else(|| file_sha256(path), |bytes| Ok(sha256(bytes)));
    let hashes: Vec<String> = files.par_iter().map(hash).collect::<Result<_, _>>()?;
    let mut lines = String::new();
    for (path, hash) in files.iter().zip(hashes) {
        let shown = lockable(path.strip_prefix(folder).unwrap_or(path))?;
        lines += &format!("{hash}  {shown}\n");
    }
    let lock = Lock { fingerprint: manifest.fingerprint(), root: sha256(lines.as_bytes()), files: files.len() };
    let head = format!(
        "{HEAD}\n# made by lungai-datasets {}\n# fingerprint {}\n# root {}\n",
        env!("CARGO_PKG_VERSION"),
        lock.fingerprint,
        lock.root
    );
    Ok((lock, head + &lines))
}

/// A path as a line of the lock has it.
pub(crate) fn lockable(path: &Path) -> Result<&str, DatasetError> {
    path.to_str().filter(|text| !text.contains(['\n', '\r', '\\'])).ok_or_else(|| {
        let reason = "the name of a file that is no text of one line cannot be locked".to_owned();
        DatasetError::Series { at: "dataset.lock".into(), reason }
    })
}

/// A lock as it was read: path to hash and line.
struct Known {
    lock: Lock,
    files: BTreeMap<PathBuf, (String, usize)>,
}

fn read(folder: &Path) -> Result<Known, DatasetError> {
    let path = folder.join(FILE);
    let text = std::fs::read_to_string(&path).map_err(DatasetError::io(&path))?;
    let refuse = |line, reason: &str| DatasetError::Config { file: FILE.into(), line, reason: reason.into() };
    let mut lines = text.lines().zip(1..);
    if lines.next().map(|(line, _)| line) != Some(HEAD) {
        return Err(refuse(1, "not a dataset.lock of a known version"));
    }
    let (mut fingerprint, mut root, mut body) = (None, None, String::new());
    let mut files = BTreeMap::new();
    for (line, number) in lines {
        if let Some(comment) = line.strip_prefix("# ") {
            fingerprint = fingerprint.or(comment.strip_prefix("fingerprint ").map(str::to_owned));
            root = root.or(comment.strip_prefix("root ").map(str::to_owned));
            continue;
        }
        let (hash, path) = line.split_once("  ").ok_or_else(|| refuse(number, "not `hash  path`"))?;
        body += &format!("{line}\n");
        files.insert(folder.join(path), (hash.to_owned(), number));
    }
    let (Some(fingerprint), Some(root)) = (fingerprint, root) else {
        return Err(refuse(2, "fingerprint or root is missing"));
    };
    if sha256(body.as_bytes()) != root {
        return Err(refuse(4, "the lines are not those of the root hash: the lock itself was changed"));
    }
    Ok(Known { lock: Lock { fingerprint, root, files: files.len() }, files })
}

/// Whether a set has a lock.
pub fn is_locked(folder: &Path) -> bool {
    folder.join(FILE).exists()
}

/// Compares a set with its lock: every file that is changed, gone or new, with the line of the lock. Empty: nothing is.
/// `progress` hears how many of how many files are hashed. Messages name the set's own four files; other files have the line of
/// the lock or their place beside a case's series, since they may be called after a patient.
///
/// # Errors
/// [`DatasetError`] where lock or manifest cannot be read at all.
#[implements("FR-001")]
pub fn verify(
    folder: &Path,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<(Lock, Vec<DatasetError>), DatasetError> {
    let Known { lock, files } = read(folder)?;
    let done = AtomicUsize::new(0);
    let total = files.len();
    let mut differences: Vec<DatasetError> = files
        .par_iter()
        .filter_map(|(path, (hash, line))| {
            let fault =
                |fault, reason| Some(DatasetError::Fault { fault, file: FILE.into(), line: Some(*line), reason });
            let own = OWN.into_iter().find(|own| path == &folder.join(own));
            let shown = own.unwrap_or("the file of this line");
            let found = file_sha256(path);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
            match found {
                Ok(found) if found == *hash => None,
                Ok(found) => {
                    let kind = if own == Some("manifest.yaml") { Fault::ChangedManifest } else { Fault::ChangedFile };
                    fault(kind, format!("{shown} has SHA-256 {found}, locked was {hash}"))
                }
                Err(DatasetError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    fault(Fault::MissingFile, format!("{shown} is gone"))
                }
                Err(other) => Some(other.naming(&format!("{FILE}, line {line}"))),
            }
        })
        .collect();
    // Without its manifest nobody can say which files would be new.
    if let Ok(manifest) = Manifest::load(folder) {
        let present = present(&manifest, folder).or_else(|error| {
            // A place that is gone was named above.
            if differences.is_empty() { Err(error) } else { Ok(BTreeSet::new()) }
        })?;
        for path in present.into_iter().filter(|path| !files.contains_key(path)) {
            let place = added(&path, &manifest, folder)?;
            let reason = format!("{place} was not there when the set was locked ({total} files)");
            let last = total + 4; // the line that it would have: behind all others
            differences.push(DatasetError::fault(Fault::AddedFile, Path::new(FILE), last, reason));
        }
    }
    Ok((lock, differences))
}

/// Every file that belongs to a set.
fn present(manifest: &Manifest, folder: &Path) -> Result<BTreeSet<PathBuf>, DatasetError> {
    let real = folder.canonicalize().map_err(DatasetError::io(folder))?;
    // Below the set's folder by the name that was given for it.
    let shown = |path: PathBuf| path.strip_prefix(&real).map(|below| folder.join(below)).unwrap_or(path);
    let mut files: BTreeSet<PathBuf> = OWN.iter().map(|file| folder.join(file)).filter(|path| path.exists()).collect();
    let mut beside = BTreeSet::new();
    for case in manifest.all_cases() {
        let series = case.series_path()?;
        files.extend(files_of(&series)?.into_iter().map(shown));
        if !series.is_dir() {
            beside.extend(series.parent().map(Path::to_owned));
        }
        for path in case.truth_paths()? {
            beside.extend(path.parent().map(Path::to_owned));
            files.insert(shown(path));
        }
    }
    for folder in beside.into_iter().filter(|folder| *folder != real) {
        for entry in std::fs::read_dir(&folder).map_err(DatasetError::io(&folder))? {
            let entry = entry.map_err(DatasetError::io(&folder))?;
            if entry.path().is_file() && !entry.file_name().to_string_lossy().starts_with('.') {
                files.insert(shown(entry.path()));
            }
        }
    }
    Ok(files)
}

/// Where a file lies that no line names: `file 3 of 30 by sorted path in the folder of case a`.
fn added(path: &Path, manifest: &Manifest, folder: &Path) -> Result<String, DatasetError> {
    if let Some(own) = OWN.into_iter().find(|own| path == folder.join(own)) {
        return Ok(own.to_owned());
    }
    let real = path.canonicalize().map_err(|source| DatasetError::Io { file: "a file of the set".into(), source })?;
    for case in manifest.all_cases() {
        let series = case.series_path()?;
        let around = if series.is_dir() { series } else { series.parent().unwrap_or(&series).to_owned() };
        if real.starts_with(&around) {
            let files = files_of(&around).map_err(|error| error.naming(&format!("case {}", case.id)))?;
            let at = files.iter().position(|file| *file == real).map_or(0, |at| at + 1);
            return Ok(format!("file {at} of {} by sorted path in the folder of case {}", files.len(), case.id));
        }
    }
    Ok("a file beside the tables of nodules".to_owned())
}

/// SHA-256 of a file, read in pieces: a raw series has some hundred MB.
fn file_sha256(path: &Path) -> Result<String, DatasetError> {
    let mut file = std::fs::File::open(path).map_err(DatasetError::io(path))?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece).map_err(DatasetError::io(path))? {
            0 => return Ok(hex(&hasher.finalize())),
            n => hasher.update(&piece[..n]),
        }
    }
}
