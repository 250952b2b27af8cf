//! What an import needs to be told: a complete, documented file. It does not stay with the set that it made, because with the key
//! in it one could guess who is who: the manifest has its hash ([`crate::Provenance::configuration_sha256`]). Keep it apart.

use super::consensus::Consensus;
use super::folder::Columns;
use super::msd::Labels;
use crate::rules::Inclusion;
use crate::splits::SplitRule;
use crate::{DatasetError, yaml};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The configuration of an import. There are no defaults: what is not wanted says `null` or `any`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportConfig {
    /// Name of the data set.
    pub name: String,
    /// Version of the data set.
    pub version: String,
    /// Licence or terms of use, an SPDX name where there is one.
    pub licence: String,
    /// What whoever uses the set is asked to cite, with its DOI; null: nothing.
    pub citation: Option<String>,
    /// Whether the images were computed. Everything derived from the set then says so.
    pub synthetic: bool,
    /// Whether cases and patients keep their names.
    pub identifiers: Identifiers,
    /// How series are told to be of one patient.
    pub patients: Patients,
    /// Which centre a patient was seen at.
    pub centres: Centres,
    /// Which patients train, tune and test.
    pub splits: SplitRule,
    /// Which series belong to the set.
    pub inclusion: Inclusion,
    /// What becomes of a file or series that cannot be read.
    pub unreadable: Unreadable,
    /// What it means that no table speaks of a series.
    pub not_annotated: NotAnnotated,
    /// What becomes of a table's lines on series that are not there, as when only some of LUNA16's subsets are.
    pub missing_series: MissingSeries,
    /// Diameter in mm that a finding without one is given (it is ignored within half of that): LUNA16 uses 10.
    pub finding_diameter_mm: f64,
    /// How four readings become one truth; LIDC only, else null.
    pub consensus: Option<Consensus>,
    /// What the columns of the annotation table mean; folder only, else null.
    pub columns: Option<Columns>,
    /// What the labels mean; Medical Segmentation Decathlon only, else null.
    pub labels: Option<Labels>,
}

/// Names of cases and patients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identifiers {
    /// As they are: for public sets, whose names are pseudonyms already.
    Keep,
    /// The first 16 hex digits of a hash keyed with the splits' key. Paths of images that are not copied stand in manifest and
    /// lock as they are, and may hold names; copied images have their case's pseudonym for a name. What image files say inside
    /// is not changed, in DICOM files it is counted.
    KeyedHash,
}

/// How series are told to be of one patient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Patients {
    /// By DICOM Patient ID; a series without one is refused.
    Dicom,
    /// Each series is a patient of its own: only where the source says that no patient has two.
    Series,
    /// By a table given with `--patients` with these columns, such as `SeriesInstanceUID` and `PatientID`.
    Table {
        /// Column of the series' name.
        series: String,
        /// Column of the patient's.
        patient: String,
        /// Columns to pass over.
        ignore: Vec<String>,
    },
}

/// Which centre a patient was seen at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Centres {
    /// One for all.
    One {
        /// Its name.
        name: String,
    },
    /// The first folder below the images: a hospital's folder each, or LUNA16's subsets (which are no centres, but one held
    /// out is that challenge's own protocol).
    Folder,
    /// DICOM Manufacturer: no centre either, but scanners never seen in training.
    Manufacturer,
}

/// What becomes of what cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unreadable {
    /// The import stops.
    Refuse,
    /// It is excluded and counted with the reader's rule; a damaged file beside readable ones is counted apart.
    Exclude,
}

/// What it means that no table speaks of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotAnnotated {
    /// It was read and has no nodule.
    NoNodules,
    /// It is not known where its nodules are.
    Unknown,
    /// It is excluded and counted.
    Exclude,
}

/// What becomes of lines on absent series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissingSeries {
    /// The import stops at the first.
    Refuse,
    /// They are passed over; the flow counts their series.
    Skip,
}

/// Where the truth is, by the kind of set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tables {
    /// LUNA16's `annotations.csv`, and `annotations_excluded.csv` where wanted.
    Luna16 {
        /// `seriesuid,coordX,coordY,coordZ,diameter_mm`.
        annotations: PathBuf,
        /// The same columns; findings that scoring ignores.
        excluded: Option<PathBuf>,
    },
    /// LIDC-IDRI's XML files, anywhere below a folder.
    Lidc {
        /// Usually the folder of the images.
        xml: PathBuf,
    },
    /// A table with [`Columns`], or a folder with one table in this project's own format per series, `SERIES.csv`.
    Folder {
        /// None: no series is annotated.
        annotations: Option<PathBuf>,
    },
    /// `dataset.json` of the Medical Segmentation Decathlon in the folder of the images.
    Msd,
}

impl Tables {
    /// `luna16`, `lidc`, `folder` or `msd`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Luna16 { .. } => "luna16",
            Self::Lidc { .. } => "lidc",
            Self::Folder { .. } => "folder",
            Self::Msd => "msd",
        }
    }
}

impl ImportConfig {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// [`DatasetError::Config`] with line and field.
    pub fn load(path: &Path) -> Result<Self, DatasetError> {
        yaml::read_checked(path, Self::check)
    }

    fn check(&self) -> Result<(), yaml::Broken> {
        self.splits.check()?;
        self.inclusion.check()?;
        let diameter = self.finding_diameter_mm;
        if !(diameter.is_finite() && diameter > 0.0) {
            let reason = format!("finding_diameter_mm {diameter} must be positive");
            return Err(("finding_diameter_mm", diameter.to_string(), reason));
        }
        self.consensus.as_ref().map_or(Ok(()), Consensus::check)
    }

    /// Refuses a section that the importer lacks or would not look at.
    pub(super) fn check_for(&self, tables: &Tables) -> Result<(), DatasetError> {
        let table = matches!(tables, Tables::Folder { annotations: Some(path) } if !path.is_dir());
        let sections = [
            ("consensus", self.consensus.is_some(), matches!(tables, Tables::Lidc { .. })),
            ("columns", self.columns.is_some(), table),
            ("labels", self.labels.is_some(), *tables == Tables::Msd),
        ];
        for (section, there, needed) in sections {
            if there != needed {
                let what = if needed { "needs" } else { "has no use for" };
                let reason = format!("importing {} {what} the section `{section}`", tables.name());
                return Err(DatasetError::Config { file: "configuration".into(), line: 1, reason });
            }
        }
        Ok(())
    }
}
