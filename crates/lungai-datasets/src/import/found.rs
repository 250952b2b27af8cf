//! What lies below the folder of images: every series once, read once, remembered for a second run.

use crate::formats::inner_files;
use crate::hash::sha256;
use crate::import::config::Identifiers;
use crate::import::{ImportConfig, Progress};
use crate::rules::{Facts, QualityRule};
use crate::splits::keyed_hash;
use crate::write::write_whole;
use crate::{DatasetError, hu_sha256, is_image_name, open};
use lungai_ct::{Geometry, Scan, Spacing, WorldPoint};
use lungai_dicom::{DicomError, Identities, Identity};
use serde::{Deserialize, Serialize};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// A series that can be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Series {
    /// Below the folder of images.
    pub path: PathBuf,
    /// What tables call it: Series Instance UID, or the image file's name without its ending.
    pub key: String,
    /// Patient ID as [`Identifiers`] has it, where the series states one.
    pub patient: Option<String>,
    pub manufacturer: Option<String>,
    pub hu_sha256: String,
    grid: Grid,
    pub facts: Facts,
    /// Of DICOM files only.
    pub identity: Option<Identity>,
}

/// [`Geometry`] in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Grid {
    size: [usize; 3],
    spacing: [f64; 3],
    origin: [f64; 3],
    direction: [[f64; 3]; 3],
}

/// What became of one place: its series, and the rules by which others were not read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    pub series: Vec<Series>,
    /// Rule, and the message that a refusal would give.
    pub unreadable: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    read_from: String,
    place: Place,
}

impl Series {
    pub(crate) fn geometry(&self) -> Geometry {
        let Grid { size, spacing, origin, direction } = self.grid.clone();
        let spacing = Spacing::new(spacing).expect("it was a spacing when it was stored");
        Geometry::new(size, spacing, WorldPoint(origin), direction).expect("it was a geometry when it was stored")
    }

    fn of(path: &Path, scan: &Scan, config: &ImportConfig, identities: Option<&Identities>) -> Self {
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
            path: path.to_owned(),
            key: if scan.has_slice_positions() { scan.series_uid.clone() } else { stem(path) },
            patient: patient.map(|id| pseudonym(config, "patient", id)),
            manufacturer: scan.acquisition.manufacturer.clone(),
            hu_sha256: hu_sha256(&scan.volume),
            grid: Grid {
                size: grid.size(),
                spacing: grid.spacing().zyx_mm(),
                origin: grid.origin().0,
                direction: grid.direction(),
            },
            facts: Facts {
                slices: grid.size()[0],
                spacing_zyx_mm: grid.spacing().zyx_mm(),
                slice_thickness_mm: scan.acquisition.slice_thickness_mm,
                age_years: age,
                quality,
            },
            identity,
        }
    }
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
        let mut entries: Vec<_> = std::fs::read_dir(&full)
            .and_then(|entries| entries.collect::<Result<Vec<_>, _>>())
            .map_err(DatasetError::io(&full))?;
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
            if entry.path().is_dir() {
                below.push(path);
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

/// By the mark of PS3.10; files of old writers that lack it must end in `.dcm` or `.ima`.
fn is_dicom(path: &Path) -> bool {
    let named = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("dcm") || e.eq_ignore_ascii_case("ima"));
    let mut mark = [0; 4];
    named
        || std::fs::File::open(path)
            .and_then(|mut file| file.seek(SeekFrom::Start(128)).and_then(|_| file.read_exact(&mut mark)))
            .is_ok_and(|()| &mark == b"DICM")
}

/// Reads every place. What was read before, from files of the same names, sizes and times and for the same rules, is
/// taken from `memory`; so an interrupted import goes on where it stopped.
pub(crate) fn read_all(
    images: &Path,
    places: &[PathBuf],
    config: &ImportConfig,
    memory: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Place>, DatasetError> {
    std::fs::create_dir_all(memory).map_err(DatasetError::io(memory))?;
    let mut all = Vec::with_capacity(places.len());
    for (at, path) in places.iter().enumerate() {
        let read_from = signature(images, path, config)?;
        let record = memory.join(format!("{}.json", &sha256(path.as_os_str().as_encoded_bytes())[..32]));
        let known = std::fs::read(&record).ok().and_then(|bytes| serde_json::from_slice::<Remembered>(&bytes).ok());
        let (place, reused) = match known {
            Some(known) if known.read_from == read_from => (known.place, true),
            _ => {
                let place = read_place(images, path, config)?;
                let remembered = Remembered { read_from, place };
                write_whole(&record, &serde_json::to_vec(&remembered).expect("plain data"))?;
                (remembered.place, false)
            }
        };
        all.push(place);
        progress(Progress { reused, done: at + 1, total: places.len() });
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
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Whether the same file may be read another time: such a failure must not be remembered as the file's.
fn of_the_machine(error: &DatasetError) -> bool {
    use DicomError::{Io, TooSlow, WorkerNotInitialised, WorkerStart};
    let dicom = |e: &DicomError| matches!(e, Io { .. } | TooSlow { .. } | WorkerNotInitialised | WorkerStart { .. });
    match error {
        DatasetError::Io { .. } => true,
        DatasetError::Dicom(error) => dicom(error),
        _ => false,
    }
}

fn read_place(images: &Path, path: &Path, config: &ImportConfig) -> Result<Place, DatasetError> {
    let full = images.join(path);
    let opened = match open(&full) {
        Ok(opened) => opened,
        // A fault of ours or of the machine is none of the file's.
        Err(error) if of_the_machine(&error) => return Err(error),
        Err(error) => {
            let unreadable = vec![(error.rule(), error.to_string())];
            return Ok(Place { series: Vec::new(), unreadable });
        }
    };
    for refused in &opened.refused {
        let error = DatasetError::Dicom(refused.error.clone());
        if of_the_machine(&error) {
            return Err(error);
        }
    }
    let identities = opened.identities.as_ref();
    let series = opened.scans.iter().map(|scan| Series::of(path, scan, config, identities)).collect();
    let unreadable = opened.refused.iter().map(|r| (r.error.rule(), r.error.to_string())).collect();
    Ok(Place { series, unreadable })
}
