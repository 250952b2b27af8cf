//! What lies below the folder of images: every series once, read once, remembered for a second run.

use crate::formats::inner_files;
use crate::grid::Grid;
use crate::hash::sha256;
use crate::import::config::Identifiers;
use crate::import::{ImportConfig, Progress};
use crate::open::{Looked, look};
use crate::rules::{Facts, QualityRule};
use crate::splits::keyed_hash;
use crate::write::{remove_file, write_whole};
use crate::{DatasetError, hu_sha256, is_image_name};
use lungai_ct::Scan;
use lungai_dicom::{DicomError, Identities, Identity, SetAside};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::fs::FileType;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// A series that can be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Series {
    /// What tables call it, as [`pseudonym`] has it: Series Instance UID, or the image file's name without its ending.
    pub key: String,
    /// Patient ID as [`pseudonym`] has it, where the series states one.
    pub patient: Option<String>,
    pub manufacturer: Option<String>,
    pub hu_sha256: String,
    pub grid: Grid,
    pub facts: Facts,
    /// The files of a folder that it was read from, as [`file_mark`] has them; none where the place itself is a file.
    pub files: BTreeSet<String>,
    /// Of DICOM files only.
    pub identity: Option<Identity>,
}

/// A series, or a place, that cannot be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unread {
    /// As [`Series::key`], where anything says it.
    pub key: Option<String>,
    /// The reader's rule.
    pub rule: String,
    /// Why, without a name.
    pub reason: String,
}

/// What became of one place.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    pub series: Vec<Series>,
    pub unread: Vec<Unread>,
    /// Files that are damaged, beside others that may not be: rule, and why.
    pub damaged: Vec<(String, String)>,
}

/// Which place, as messages say it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot {
    /// From 1, by sorted path.
    pub place: usize,
    pub places: usize,
    /// Number from 1 and count of the series there.
    pub series: (usize, usize),
}

impl fmt::Display for Spot {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        write!(to, "place {} of {} by sorted path", self.place, self.places)?;
        match self.series {
            (_, 1) => Ok(()),
            (series, count) => write!(to, ", series {series} of {count}"),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    read_from: String,
    place: Place,
}

impl Series {
    fn of(key: &str, scan: &Scan, config: &ImportConfig, identities: Option<&Identities>) -> Self {
        let grid = scan.volume.geometry();
        let (identity, age) = match identities.and_then(|all| all.series.get(&scan.series_uid)) {
            Some((identity, age)) => (Some(identity.clone()), *age),
            None => (None, None),
        };
        let quality = (config.inclusion.quality != QualityRule::Any).then(|| {
            let lungs = lungai_imaging::lungs::segment(&scan.volume);
            lungai_imaging::quality::assess(scan, &lungs).verdict.name().to_owned()
        });
        let patient = scan.patient_id.as_deref().filter(|id| !id.is_empty());
        Self {
            key: pseudonym(config, "series", key),
            patient: patient.map(|id| pseudonym(config, "patient", id)),
            manufacturer: scan.acquisition.manufacturer.clone(),
            hu_sha256: hu_sha256(&scan.volume),
            grid: Grid(grid.clone()),
            facts: Facts {
                slices: grid.size()[0],
                spacing_zyx_mm: grid.spacing().zyx_mm(),
                slice_thickness_mm: scan.acquisition.slice_thickness_mm,
                age_years: age,
                quality,
            },
            files: BTreeSet::new(),
            identity,
        }
    }
}

/// What is remembered of a file below the folder `place` in place of its name.
pub(crate) fn file_mark(config: &ImportConfig, place: &Path, file: &Path) -> String {
    let below = file.strip_prefix(place).unwrap_or(file);
    keyed_hash(&config.splits.key, &format!("file:{}", below.to_string_lossy()))[..16].to_owned()
}

/// A name as the set gives it.
pub(crate) fn pseudonym(config: &ImportConfig, kind: &str, name: &str) -> String {
    match config.identifiers {
        Identifiers::Keep => name.to_owned(),
        Identifiers::KeyedHash => keyed_hash(&config.splits.key, &format!("{kind}:{name}"))[..16].to_owned(),
    }
}

/// The file's name without what says its format.
pub(crate) fn stem(path: &Path) -> String {
    let name = crate::error::name(path);
    let lower = name.to_ascii_lowercase();
    let ending = [".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr", ".zip", ".csv"];
    let length = ending.iter().find(|end| lower.ends_with(*end)).map_or(0, |end| end.len());
    name[..name.len() - length].to_owned()
}

/// Every place that may hold series, in the order of their names: research images, archives, and folders with DICOM files
/// of their own. Names that begin with a dot are passed over (macOS leaves `._lung_001.nii.gz` beside its archives' files).
pub(crate) fn places(images: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let full = images.join(&folder);
        let mut entries: Vec<_> =
            std::fs::read_dir(&full)
                .and_then(|entries| entries.collect::<Result<Vec<_>, _>>())
                .map_err(|source| DatasetError::Io { file: "a folder of the images".into(), source })?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        let mut below = Vec::new();
        let mut dicom = false;
        for entry in entries {
            let name = entry.file_name();
            // A DICOMDIR is a table of the files below, no image.
            if name.to_string_lossy().starts_with('.') || name.eq_ignore_ascii_case("DICOMDIR") {
                continue;
            }
            let path = folder.join(&name);
            let kind = entry
                .file_type()
                .map_err(|source| DatasetError::Io { file: "a file among the images".into(), source })?;
            if kind.is_dir() {
                below.push(path);
            } else if !may_be_file(&entry.path(), kind) {
                continue;
            } else if is_image_name(&path) || path.extension().is_some_and(|e| e.eq_ignore_ascii_case("zip")) {
                found.push(path);
            } else {
                dicom = dicom || is_dicom(&entry.path());
            }
        }
        if dicom {
            // Opened as a whole, whatever lies below.
            found.retain(|path| !path.starts_with(&folder));
            found.push(if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder });
        } else {
            folders.extend(below.into_iter().rev());
        }
    }
    found.sort();
    Ok(found)
}

/// No pipe and no device, which would keep us waiting for ever, and no link to a folder, which could lead in circles. A link to
/// nothing is told when it is opened.
fn may_be_file(path: &Path, kind: FileType) -> bool {
    kind.is_file() || (kind.is_symlink() && std::fs::metadata(path).map_or(true, |meta| meta.is_file()))
}

/// By the mark of PS3.10; files of old writers that lack it must end in `.dcm` or `.ima`.
fn is_dicom(path: &Path) -> bool {
    let mut mark = [0; 4];
    is_dicom_name(path)
        || std::fs::File::open(path)
            .and_then(|mut file| file.seek(SeekFrom::Start(128)).and_then(|_| file.read_exact(&mut mark)))
            .is_ok_and(|()| &mark == b"DICM")
}

fn is_dicom_name(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("dcm") || e.eq_ignore_ascii_case("ima"))
}

/// Reads every place. What was read before, from files of the same names, sizes and times and for the same rules, is
/// taken from `memory`; so an interrupted import goes on where it stopped. What is remembered holds names of neither files nor
/// folders, nor does its own name tell them.
pub(crate) fn read_all(
    images: &Path,
    places: &[PathBuf],
    config: &ImportConfig,
    memory: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Place>, DatasetError> {
    std::fs::create_dir_all(memory).map_err(DatasetError::io(memory))?;
    let total = places.len();
    let mut all = Vec::with_capacity(total);
    let mut records = BTreeSet::new();
    for (at, path) in places.iter().enumerate() {
        let spot = Spot { place: at + 1, places: total, series: (1, 1) }.to_string();
        let read_from = signature(images, path, config).map_err(|error| error.naming(&spot))?;
        let record = memory.join(format!("{}.json", &keyed_hash(&config.splits.key, &path.to_string_lossy())[..32]));
        let known = std::fs::read(&record).ok().and_then(|bytes| serde_json::from_slice::<Remembered>(&bytes).ok());
        let (place, reused) = match known {
            Some(known) if known.read_from == read_from => (known.place, true),
            _ => {
                let place = read_place(images, path, config).map_err(|error| error.naming(&spot))?;
                let remembered = Remembered { read_from, place };
                write_whole(&record, &serde_json::to_vec(&remembered).expect("plain data"))?;
                (remembered.place, false)
            }
        };
        records.insert(record);
        all.push(place);
        progress(Progress { reused, done: at + 1, total });
    }
    // Of images that are gone, and as earlier versions wrote them: with names.
    for entry in std::fs::read_dir(memory).map_err(DatasetError::io(memory))? {
        let path = entry.map_err(DatasetError::io(memory))?.path();
        if path.extension().is_some_and(|e| e == "json") && !records.contains(&path) {
            remove_file(&path)?;
        }
    }
    Ok(all)
}

/// Hash over everything that what is remembered depends on.
fn signature(images: &Path, path: &Path, config: &ImportConfig) -> Result<String, DatasetError> {
    let rules = (config.identifiers, &config.splits.key, config.inclusion.quality);
    let mut text = format!("{} {}", env!("CARGO_PKG_VERSION"), serde_json::to_string(&rules).expect("plain data"));
    for file in files_of(&images.join(path))? {
        // A header may name voxels that are not there: opening it will say so.
        let Ok(meta) = std::fs::metadata(&file) else { continue };
        let time = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        text += &format!("\n{} {} {}", file.display(), meta.len(), time.as_nanos());
    }
    Ok(sha256(text.as_bytes()))
}

/// The files that a place consists of: all below a folder, an image, and the voxels' file that its header names.
pub(crate) fn files_of(path: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    if !path.is_dir() {
        return inner_files(path);
    }
    let mut files = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(DatasetError::io(&folder))? {
            let entry = entry.map_err(DatasetError::io(&folder))?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            if entry.file_type().map_err(DatasetError::io(&folder))?.is_dir() {
                folders.push(entry.path());
            } else if entry.path().is_file() {
                // No pipe, no device, no link to a folder, which could lead in circles.
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// A failure of ours or of the machine is none of the file's: it must not be remembered as such.
fn of_the_file(error: DatasetError) -> Result<DatasetError, DatasetError> {
    use DicomError::{Io, NoAnswer, WorkerNotInitialised, WorkerStart};
    let passes = match &error {
        DatasetError::Io { .. } => true,
        DatasetError::Dicom(error) => {
            matches!(error.cause(), Io { .. } | NoAnswer { .. } | WorkerNotInitialised | WorkerStart { .. })
        }
        _ => false,
    };
    if passes { Err(error) } else { Ok(error) }
}

/// Whether a file that no series took in is damaged, and not of another kind: a report, a scout, a text.
fn is_damaged(aside: &SetAside) -> bool {
    use DicomError::{Localizer, NestedArchive, NonAxial, NotAFile, NotCt, NotCtImage, NotDicom, NotGreyscale};
    match aside.reason.cause() {
        // What calls itself a slice should be one.
        NotDicom => is_dicom_name(Path::new(&aside.file)),
        NestedArchive | NotAFile | NotCt { .. } | NotCtImage { .. } | Localizer => false,
        NonAxial { .. } | NotGreyscale { .. } => false,
        _ => true,
    }
}

fn read_place(images: &Path, path: &Path, config: &ImportConfig) -> Result<Place, DatasetError> {
    let full = images.join(path);
    let unread = |uid: Option<&str>, error: DatasetError| -> Result<Unread, DatasetError> {
        let error = of_the_file(error)?;
        let key = uid.map(|uid| pseudonym(config, "series", uid));
        Ok(Unread { key, rule: error.rule(), reason: error.reason() })
    };
    let input = match look(&full) {
        Ok(Looked::Dicom(input)) => input,
        Ok(Looked::Image(scan)) => {
            return Ok(Place { series: vec![Series::of(&stem(path), &scan, config, None)], ..Place::default() });
        }
        Err(error) => {
            let key = is_image_name(path).then(|| stem(path));
            return Ok(Place { unread: vec![unread(key.as_deref(), error)?], ..Place::default() });
        }
    };
    let mut place = Place::default();
    for scan in &input.scans {
        let mut series = Series::of(&scan.series_uid, scan, config, Some(&input.identities));
        if full.is_dir() {
            let files = input.files.get(&scan.series_uid).into_iter().flatten();
            series.files = files.map(|file| file_mark(config, &full, file)).collect();
        }
        place.series.push(series);
    }
    for refused in &input.refused {
        place.unread.push(unread(Some(&refused.series_uid), refused.error.clone().into())?);
    }
    if input.scans.is_empty() && input.refused.is_empty() {
        place.unread.push(unread(None, input.why_empty().into())?);
    }
    for aside in &input.set_aside {
        let error = of_the_file(aside.reason.clone().into())?;
        if is_damaged(aside) {
            let order = if full.is_dir() { "by sorted path" } else { "in the order of the archive" };
            place.damaged.push((error.rule(), format!("file {} {order}: {}", aside.at, error.reason())));
        }
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_clock_on_the_wall_is_the_machines_fault() {
        let too_long = DicomError::TooSlow { limit_s: 30 };
        assert_eq!(of_the_file(too_long.into()).unwrap().rule(), "too-slow");
        let waited = DicomError::NoAnswer { waited_s: 150 };
        let in_file =
            DicomError::InFile { file: 1, files: 2, order: "by sorted path".into(), reason: Box::new(waited) };
        assert_eq!(of_the_file(in_file.into()).unwrap_err().rule(), "no-answer");
    }
}
