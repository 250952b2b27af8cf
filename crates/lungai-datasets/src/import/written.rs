//! What an import leaves behind: made beside the earlier set, which stays whole until the new manifest takes the old one's name.

use super::{Found, Import, ImportConfig, Member};
use crate::error::name;
use crate::formats::{inner_files, write_volume};
use crate::import::found::{file_mark, files_of, stem};
use crate::manifest::{Case, Manifest, Part, Provenance};
use crate::rules::Flow;
use crate::splits::{self, Assigned};
use crate::write::{remove_file, remove_folder, write_whole};
use crate::{DatasetError, hu_sha256, lock, nodules_csv, read_volume, sha256};
use lungai_dicom::{Identity, identifying_attributes};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Refuses a folder that holds another set or that the images would be copied into from itself, before anything is read.
pub(super) fn check_target(import: &Import) -> Result<(), DatasetError> {
    let Import { config, images, out, copy, .. } = import;
    let nearest = out.ancestors().find_map(|folder| real(folder).ok());
    if *copy && nearest.is_some_and(|out| real(images).is_ok_and(|images| out.starts_with(images))) {
        let reason = "images that are copied into the folder that they come from would be found again as others; choose another --out";
        return Err(DatasetError::Case { case: config.name.clone(), reason: reason.into() });
    }
    let path = out.join("manifest.yaml");
    if !path.exists() {
        return Ok(());
    }
    let present = Manifest::load(&path)?;
    let wanted = &config.name;
    let Some(live) = present.provenance.as_ref().filter(|_| present.name == *wanted) else {
        let reason = format!("the folder holds the data set {}; choose another for {wanted}", present.name);
        return Err(DatasetError::Config { file: name(&path), line: 1, reason });
    };
    // Of a set whose images lie elsewhere this folder holds tables only, which are looked for by nobody.
    let copied = is_ours(&live.folder) && present.images.is_none();
    let copied = copied && present.all_cases().iter().any(|case| case.series.path.starts_with(&live.folder));
    match (real(images), real(&out.join(&live.folder))) {
        (Ok(images), Ok(data)) if copied && (images.starts_with(&data) || data.starts_with(&images)) => {
            let reason = "the folder of images holds the copies of the earlier import, which this one replaces and removes; give the \
                          folder that they were copied from, or choose another --out";
            Err(DatasetError::Case { case: config.name.clone(), reason: reason.into() })
        }
        _ => Ok(()),
    }
}

/// An empty path is the working folder.
fn real(folder: &Path) -> std::io::Result<PathBuf> {
    if folder.as_os_str().is_empty() { Path::new(".").canonicalize() } else { folder.canonicalize() }
}

/// Writes everything, the manifest last.
pub(super) fn write(
    import: &Import,
    members: &[Member],
    assigned: &BTreeMap<String, Assigned>,
    flow: Flow,
    identity: Identity,
) -> Result<Manifest, DatasetError> {
    let out = import.out;
    let live = Manifest::load(out).ok().and_then(|old| old.provenance).map(|old| old.folder);
    let (draft, stale) = (out.join(".import/draft"), out.join(".import/stale"));
    remove_folder(&draft)?;
    // What an import that was stopped between two renames left behind.
    for left in std::fs::read_to_string(&stale).unwrap_or_default().lines().map(Path::new) {
        if is_ours(left) && live.as_deref() != Some(left) {
            remove_folder(&out.join(left))?;
        }
    }
    let made = made(import, members, assigned, flow, identity, &draft).inspect_err(|_| {
        // Half a copy is of no use; that it cannot be removed is no second error.
        let _ = remove_folder(&draft);
    })?;

    // Should we be stopped, the one of both folders that the manifest does not name then is to be removed.
    let folders: Vec<_> = std::iter::once(&made.folder).chain(&live).map(|folder| folder.to_string_lossy()).collect();
    write_whole(&stale, folders.join("\n").as_bytes())?;
    // The folder takes a new name, so that the old set is whole until everything beside it is ready to take its own.
    let folder = out.join(&made.folder);
    std::fs::rename(&draft, &folder).map_err(DatasetError::io(&folder))?;
    let manifest = prepare(out, made.texts).inspect_err(|_| {
        // As above.
        let _ = remove_folder(&folder);
    })?;
    take_names(out)?;
    if let Some(old) = live.filter(|old| is_ours(old) && *old != made.folder) {
        remove_folder(&out.join(old))?;
    }
    remove_file(&stale)?;
    Ok(manifest)
}

/// Where the set's own files lie, complete, until they take their names.
const READY: &str = ".import/ready";
/// That folder before it is complete, and while it is removed: others without a manifest are those of a set whose manifest has its
/// name.
const UNREADY: &str = ".import/unready";
/// In this order: with the manifest's name the new set is there.
const NAMES: [&str; 4] = ["manifest.yaml", "splits.csv", "flow.json", lock::FILE];

/// Lays the set's own files and their lock ready. What the manifest would be refused for when it is loaded, or its files when they
/// are locked, is refused here.
fn prepare(out: &Path, texts: BTreeMap<&'static str, Vec<u8>>) -> Result<Manifest, DatasetError> {
    let manifest = Manifest::parse(&out.join(NAMES[0]), &String::from_utf8_lossy(&texts[NAMES[0]]))?;
    let (_, lock) = lock::of(&manifest, out, &texts)?;
    let (ready, draft) = (out.join(READY), out.join(UNREADY));
    remove_folder(&draft)?;
    std::fs::create_dir_all(&draft).map_err(DatasetError::io(&draft))?;
    for (file, bytes) in texts.into_iter().chain([(lock::FILE, lock.into_bytes())]) {
        write_whole(&draft.join(file), &bytes)?;
    }
    std::fs::rename(&draft, &ready).map_err(DatasetError::io(&ready))?;
    Ok(manifest)
}

/// Gives the files that are ready their names.
fn take_names(out: &Path) -> Result<(), DatasetError> {
    let ready = out.join(READY);
    for file in NAMES {
        match std::fs::rename(ready.join(file), out.join(file)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(DatasetError::io(&out.join(file))(error));
            }
            _ => (),
        }
    }
    remove_folder(&ready)
}

/// Ends what an import began that was stopped while its files took their names. Where not even the manifest had its own, the
/// earlier set stands, and what was ready is dropped.
pub(super) fn finish(out: &Path) -> Result<(), DatasetError> {
    let ready = out.join(READY);
    if !ready.join(NAMES[0]).exists() {
        return take_names(out);
    }
    let dropped = out.join(UNREADY);
    remove_folder(&dropped)?;
    std::fs::rename(&ready, &dropped).map_err(DatasetError::io(&ready))?;
    remove_folder(&dropped)
}

/// The set's own files that take their names when the draft has taken its own.
struct Made {
    folder: PathBuf,
    texts: BTreeMap<&'static str, Vec<u8>>,
}

/// Fills the draft and checks what will be written.
fn made(
    import: &Import,
    members: &[Member],
    assigned: &BTreeMap<String, Assigned>,
    flow: Flow,
    identity: Identity,
    draft: &Path,
) -> Result<Made, DatasetError> {
    let Import { config, out, .. } = import;
    let folder = free_name(out);
    let place = if import.copy { Images::Copied } else { Images::of(import)? };
    let out_real = real(out).map_err(DatasetError::io(out))?;
    let mut copies: BTreeMap<&Path, PathBuf> = BTreeMap::new();
    let mut cases = Vec::new();
    for Member { id, found, patient, centre, nodules, .. } in members {
        let own = draft.join(id);
        std::fs::create_dir_all(&own).map_err(DatasetError::io(&own))?;
        let from = import.images.join(found.path);
        let named = |error: DatasetError| error.naming(&found.spot.to_string());
        let path = match &place {
            Images::Elsewhere(_) => found.path.to_owned(),
            Images::Inside(below) => below.join(found.path),
            // Several series of one file are copied once, into the folder of the first.
            Images::Copied => match copies.get(found.path) {
                Some(copied) => copied.clone(),
                None => {
                    let copied = folder.join(id).join(copy(found, config, &from, &own, id).map_err(named)?);
                    if from.is_file() {
                        copies.insert(found.path, copied.clone());
                    }
                    copied
                }
            },
        };
        if let Some(inside) = place.folder(&out_real) {
            let check = |file: &PathBuf| lock::lockable(file).map(|_| ());
            files_of(&from).and_then(|files| files.iter().try_for_each(check)).map_err(named)?;
            let there = from.canonicalize().map_err(DatasetError::io(&from)).map_err(named)?;
            if !there.starts_with(inside) {
                let reason = "is a link that leads out of the folder of images, where nobody would look for it; --copy takes it in";
                return Err(found.refuse(reason));
            }
        }
        let part = Part { path, sha256: found.series.hu_sha256.clone() };
        let mut case = Case::new(id.clone(), patient.clone(), centre.clone(), assigned[patient].split, part);
        case.grid = Some(found.series.grid.clone());
        if let Some(nodules) = nodules {
            let table = nodules_csv(nodules);
            let path = own.join("nodules.csv");
            std::fs::write(&path, &table).map_err(DatasetError::io(&path))?;
            case.nodules = Some(Part { path: folder.join(id).join("nodules.csv"), sha256: sha256(&table) });
        }
        cases.push(case);
    }
    let centres: BTreeSet<&String> = members.iter().map(|member| &member.centre).collect();
    let provenance = Provenance {
        folder: folder.clone(),
        importer: import.tables.name().to_owned(),
        importer_version: env!("CARGO_PKG_VERSION").to_owned(),
        configuration_sha256: sha256(&serde_json::to_vec(config).expect("plain data")),
        flow,
        checked_attributes: identifying_attributes().into_iter().map(str::to_owned).collect(),
        identity,
    };
    let flow = serde_json::to_vec_pretty(&provenance.flow).expect("plain data");
    let splits = splits::csv(assigned);
    let elsewhere = if let Images::Elsewhere(images) = place { Some(images) } else { None };
    let manifest = Manifest::imported(config, centres.into_iter().cloned().collect(), elsewhere, provenance, cases);
    let text = format!(
        "# Imported by lungai; images are not changed. Read by every program that takes a data set.\n{}",
        serde_yaml::to_string(&manifest).expect("plain data")
    );
    let texts = BTreeMap::from([(NAMES[0], text.into_bytes()), (NAMES[1], splits), (NAMES[2], flow)]);
    Ok(Made { folder, texts })
}

/// Where the manifest says that images are.
enum Images {
    Copied,
    /// In this folder of the set.
    Inside(PathBuf),
    Elsewhere(PathBuf),
}

impl Images {
    /// The folder that no path of a series may lead out of, by its real name; `None` of copies, which are files of our own.
    fn folder<'a>(&'a self, out: &'a Path) -> Option<&'a Path> {
        match self {
            Self::Copied => None,
            Self::Inside(_) => Some(out),
            Self::Elsewhere(images) => Some(images),
        }
    }

    fn of(import: &Import) -> Result<Self, DatasetError> {
        let images =
            real(import.images).map_err(|source| DatasetError::Io { file: "the folder of images".into(), source })?;
        let out = real(import.out).map_err(DatasetError::io(import.out))?;
        Ok(match images.strip_prefix(&out) {
            Ok(below) => Self::Inside(below.to_owned()),
            Err(_) => Self::Elsewhere(images),
        })
    }
}

/// `cases`, or where that is taken `cases-2` and so on.
fn free_name(out: &Path) -> PathBuf {
    let names = std::iter::once("cases".to_owned()).chain((2..).map(|number| format!("cases-{number}")));
    names.map(PathBuf::from).find(|name| !out.join(name).exists()).expect("numbers do not end")
}

/// Whether [`free_name`] gave the name: a manifest that says otherwise must not have its folder removed.
fn is_ours(folder: &Path) -> bool {
    let name = folder.to_str().and_then(|name| name.strip_prefix("cases"));
    name.is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix('-').is_some_and(|number| number.parse::<u32>().is_ok())
    })
}

/// Copies one place under names of our own; says where it went below `own`.
fn copy(found: &Found, config: &ImportConfig, from: &Path, own: &Path, id: &str) -> Result<PathBuf, DatasetError> {
    if from.is_dir() {
        let folder = own.join("dicom");
        std::fs::create_dir_all(&folder).map_err(DatasetError::io(&folder))?;
        // Nothing else of the folder: reports may name the patient, and another series may have been left out.
        let mut wanted = found.series.files.clone();
        let mut files = files_of(from)?;
        files.retain(|file| wanted.remove(&file_mark(config, from, file)));
        if !wanted.is_empty() {
            let reason = "a file that it was read from is gone since, or has a name that begins with a dot; import again under other names";
            return Err(found.refuse(reason));
        }
        for (file, number) in files.iter().zip(1..) {
            let ending = file.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
            let archive = ending.filter(|e| ["zip", "tar", "tgz", "gz"].contains(&e.as_str()));
            let to = folder.join(format!("{number:06}.{}", archive.as_deref().unwrap_or("dcm")));
            std::fs::copy(file, &to).map_err(DatasetError::io(file))?;
        }
        return Ok(PathBuf::from("dicom"));
    }
    if let [_, _, ..] = &inner_files(from)?[..] {
        // A header that names its voxels' file would name the old one: both become one file.
        let to = format!("{id}.mha");
        let volume = read_volume(from)?.0;
        if hu_sha256(&volume) != found.series.hu_sha256 {
            return Err(found.refuse("changed since it was read; import again"));
        }
        return write_volume(&own.join(&to), &volume).map(|()| PathBuf::from(to));
    }
    let name = name(from);
    let to = format!("{id}{}", name[stem(from).len()..].to_ascii_lowercase());
    std::fs::copy(from, own.join(&to)).map_err(DatasetError::io(from))?;
    Ok(PathBuf::from(to))
}
