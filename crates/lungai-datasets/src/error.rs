//! What can be wrong with a file of a data set. Messages name the rule, the value and the file's own name,
//! never its folder (which may carry a patient's name) and never its content; a manifest, recipe, configuration or table that
//! cannot be opened is named by the path that a person gave. Where the file's name may be a patient's too, as
//! that of an image of others, who asked for it puts a place or a case in its stead ([`DatasetError::naming`]).

use std::path::Path;

/// What contradicts itself in a set that is imported or was locked: the stable names that scripts look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A table has a column that nobody declared, or lacks one.
    UnknownColumn,
    /// A value can only be meant in another unit or another frame.
    WrongUnit,
    /// A table speaks of a series that is not there.
    MissingSeries,
    /// A series is there twice.
    DuplicatedSeries,
    /// One patient under two names, at a held-out centre and another, or in two splits.
    DuplicatedPatient,
    /// A nodule lies outside of its scan.
    OutsideVolume,
    /// A locked file has other bytes.
    ChangedFile,
    /// A locked file is gone.
    MissingFile,
    /// A file that was not there when the set was locked.
    AddedFile,
    /// The manifest is not the locked one.
    ChangedManifest,
}

impl Fault {
    /// Kebab-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownColumn => "unknown-column",
            Self::WrongUnit => "wrong-unit",
            Self::MissingSeries => "missing-series",
            Self::DuplicatedSeries => "duplicated-series",
            Self::DuplicatedPatient => "duplicated-patient",
            Self::OutsideVolume => "outside-volume",
            Self::ChangedFile => "changed-file",
            Self::MissingFile => "missing-file",
            Self::AddedFile => "added-file",
            Self::ChangedManifest => "changed-manifest",
        }
    }
}

/// Why a data set, an image or a recipe was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// The file could not be read or written.
    #[error("{file}: {source}")]
    Io {
        /// Name of the file, without its folder; of a manifest, recipe, configuration or table the path that was given.
        file: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// No known signature and no known extension.
    #[error(
        "{file}: not an image of a known kind (known: DICOM file, folder or zip, .mha, .mhd, .nii, .nii.gz, .nrrd, .nhdr)"
    )]
    UnknownFormat {
        /// Name of the file.
        file: String,
    },
    /// The file contradicts its own format.
    #[error("{file}: malformed {format}: {reason}")]
    Malformed {
        /// `MetaImage`, `NIfTI` or `NRRD`.
        format: &'static str,
        /// Name of the file.
        file: String,
        /// The rule that is broken, with the value.
        reason: String,
    },
    /// A valid file that uses a feature which is not read here.
    #[error("{file}: {format} with {reason} is not supported")]
    Unsupported {
        /// `MetaImage`, `NIfTI` or `NRRD`.
        format: &'static str,
        /// Name of the file.
        file: String,
        /// The feature.
        reason: String,
    },
    /// More voxels than [`crate::MAX_VOXELS`].
    #[error("{file}: {size_xyz:?} voxels (x, y, z) exceed the limit of {limit} voxels")]
    TooLarge {
        /// Name of the file.
        file: String,
        /// Declared size.
        size_xyz: [u64; 3],
        /// [`crate::MAX_VOXELS`].
        limit: u64,
    },
    /// Fewer bytes than the header declares.
    #[error("{file}: holds {found} bytes of voxels where the header declares {declared}")]
    Truncated {
        /// Name of the file.
        file: String,
        /// Bytes that the header declares.
        declared: u64,
        /// Bytes that are there (for compressed data: that can be there at best, or came out).
        found: u64,
    },
    /// The file does not say which side is left.
    #[error("{file}: states no patient orientation ({reason}); left and right would be a guess")]
    NoOrientation {
        /// Name of the file.
        file: String,
        /// What is absent.
        reason: &'static str,
    },
    /// The axes do not make a grid.
    #[error("{file}: {source}")]
    Geometry {
        /// Name of the file.
        file: String,
        /// The broken invariant.
        source: lungai_ct::GeometryError,
    },
    /// A voxel is infinite or not a number.
    #[error("{file}: voxel {index_xyz:?} (x, y, z as stored) is {value}, which is no HU value")]
    NotFinite {
        /// Name of the file.
        file: String,
        /// First such voxel.
        index_xyz: [usize; 3],
        /// Its value.
        value: f64,
    },
    /// A voxel's value is beyond what HU can be.
    #[error("{file}: voxel {index_xyz:?} (x, y, z as stored) is {value}; HU lie between -32768 and 32767")]
    NotHounsfield {
        /// Name of the file.
        file: String,
        /// First such voxel.
        index_xyz: [usize; 3],
        /// Its value.
        value: f64,
    },
    /// A label map may hold whole numbers from 0 to 255 only.
    #[error("{file}: voxel {index_xyz:?} (x, y, z as stored) is {value}; labels are whole numbers from 0 to 255")]
    NotALabel {
        /// Name of the file.
        file: String,
        /// First such voxel.
        index_xyz: [usize; 3],
        /// Its value.
        value: f64,
    },
    /// The name to write to has an extension that stands for no format.
    #[error("{file}: cannot write an image of this name (known: .mha, .mhd, .nii, .nii.gz, .nrrd, .nhdr)")]
    UnknownExtension {
        /// Name of the file.
        file: String,
    },
    /// A configuration, manifest or table breaks one of its rules.
    #[error("{file}, line {line}: {reason}")]
    Config {
        /// Name of the file.
        file: String,
        /// Line, counted from 1.
        line: usize,
        /// The rule, with the value.
        reason: String,
    },
    /// There are cases, but no manifest, which is written last.
    #[error(
        "{folder}: this data set is not finished; the command that began it (`dataset make` or `dataset import`) goes on where it stopped"
    )]
    Incomplete {
        /// The set's folder, as it was given.
        folder: String,
    },
    /// A part of a case is not what the manifest's checksum says.
    #[error("case {case}: {part} has SHA-256 {found}, the manifest says {declared}")]
    Checksum {
        /// Name of the case.
        case: String,
        /// `series`, `lungs` or `nodules`.
        part: &'static str,
        /// What the manifest says.
        declared: String,
        /// What was computed.
        found: String,
    },
    /// A series contradicts what the configuration asks of it.
    #[error("{at}: {reason}")]
    Series {
        /// Which series, by its place.
        at: String,
        /// The rule, with the value.
        reason: String,
    },
    /// A file or series of a set cannot be read.
    #[error("{at}: {reason}")]
    Unreadable {
        /// Which, by its case or its place among the images.
        at: String,
        /// The reader's rule.
        rule: String,
        /// Why.
        reason: String,
    },
    /// The manifest has no such truth for a case.
    #[error("case {case}: the manifest names no {part}")]
    NoTruth {
        /// Name of the case.
        case: String,
        /// `lungs` or `nodules`.
        part: &'static str,
    },
    /// The parts of a case do not fit each other.
    #[error("case {case}: {reason}")]
    Case {
        /// Name of the case.
        case: String,
        /// What does not fit.
        reason: String,
    },
    /// What is imported, or was locked, contradicts itself.
    #[error("{file}{}: {reason}", .line.map_or(String::new(), |line| format!(", line {line}")))]
    Fault {
        /// Which rule is broken.
        fault: Fault,
        /// Name of the file.
        file: String,
        /// Line, counted from 1, where the file has lines.
        line: Option<usize>,
        /// The rule in words, with the value.
        reason: String,
    },
    /// DICOM files that cannot be read.
    #[error(transparent)]
    Dicom(#[from] lungai_dicom::DicomError),
}

impl DatasetError {
    /// Stable kebab-case name of the rule that was broken.
    pub fn rule(&self) -> String {
        let rule = match self {
            Self::Io { .. } => "file-access",
            Self::UnknownFormat { .. } => "unknown-format",
            Self::Malformed { .. } => "malformed-file",
            Self::Unsupported { .. } => "unsupported-file",
            Self::TooLarge { .. } => "too-large",
            Self::Truncated { .. } => "truncated-file",
            Self::NoOrientation { .. } => "no-orientation",
            Self::Geometry { .. } => "bad-geometry",
            Self::NotFinite { .. } => "not-a-number",
            Self::NotHounsfield { .. } => "hu-overflow",
            Self::NotALabel { .. } => "not-a-label",
            Self::UnknownExtension { .. } => "unknown-extension",
            Self::Config { .. } => "bad-configuration",
            Self::Incomplete { .. } => "incomplete-set",
            Self::Checksum { .. } => "checksum-mismatch",
            Self::NoTruth { .. } => "no-truth",
            Self::Case { .. } | Self::Series { .. } => "inconsistent-case",
            Self::Unreadable { rule, .. } => rule,
            Self::Fault { fault, .. } => fault.name(),
            Self::Dicom(error) => return error.rule(),
        };
        rule.to_owned()
    }

    /// Whether something frozen is not what it was.
    pub fn is_integrity(&self) -> bool {
        use Fault::{AddedFile, ChangedFile, ChangedManifest, MissingFile};
        matches!(
            self,
            Self::Checksum { .. } | Self::Fault { fault: ChangedFile | MissingFile | AddedFile | ChangedManifest, .. }
        )
    }

    /// The same error with `what` for the name of the file or case; of a DICOM input, which has no name, in front of the reason.
    pub(crate) fn naming(mut self, what: &str) -> Self {
        match &mut self {
            Self::Io { file: name, .. }
            | Self::UnknownFormat { file: name }
            | Self::Malformed { file: name, .. }
            | Self::Unsupported { file: name, .. }
            | Self::TooLarge { file: name, .. }
            | Self::Truncated { file: name, .. }
            | Self::NoOrientation { file: name, .. }
            | Self::Geometry { file: name, .. }
            | Self::NotFinite { file: name, .. }
            | Self::NotHounsfield { file: name, .. }
            | Self::NotALabel { file: name, .. }
            | Self::UnknownExtension { file: name }
            | Self::Config { file: name, .. }
            | Self::Incomplete { folder: name }
            | Self::Checksum { case: name, .. }
            | Self::NoTruth { case: name, .. }
            | Self::Case { case: name, .. }
            | Self::Series { at: name, .. }
            | Self::Unreadable { at: name, .. }
            | Self::Fault { file: name, .. } => what.clone_into(name),
            Self::Dicom(error) => {
                return Self::Unreadable { at: what.to_owned(), rule: error.rule(), reason: error.to_string() };
            }
        }
        self
    }

    /// The message without the name that it begins with.
    pub(crate) fn reason(self) -> String {
        let text = self.naming("").to_string();
        text.trim_start_matches("case").trim_start_matches([':', ',', ' ']).to_owned()
    }

    pub(crate) fn fault(fault: Fault, path: &Path, line: usize, reason: String) -> Self {
        Self::Fault { fault, file: name(path), line: Some(line), reason }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let file = name(path);
        move |source| Self::Io { file, source }
    }
}

/// The last part of a path: what messages may name.
pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
