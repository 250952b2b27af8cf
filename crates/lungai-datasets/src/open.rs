//! One door for every kind of scan: DICOM folder, archive or file, and the research formats.

use crate::formats::Format;
use crate::{DatasetError, hu_sha256, read_volume};
use lungai_ct::Scan;
use lungai_dicom::{DicomError, DicomInput, Identities, Limits, Refused, SetAside};
use lungai_trace::implements;
use std::path::Path;

/// What a path held.
#[derive(Debug)]
pub struct Opened {
    /// Readable series, the one with most voxels first.
    pub scans: Vec<Scan>,
    /// Series that break a rule, with the rule.
    pub refused: Vec<Refused>,
    /// Files that belong to no series.
    pub set_aside: Vec<SetAside>,
    /// What DICOM files say about whom they show; `None` of a research image.
    pub identities: Option<Identities>,
}

/// Opens whatever `path` is, by content first and name second. A research image is a CT by assumption and
/// named by its voxels' hash, as [`Scan::series_uid`] says.
///
/// # Errors
/// [`DatasetError`]; an image of one slice is refused as a DICOM series of one is; a DICOM folder of which some series are sound is no error.
#[implements("FR-001")]
pub fn open(path: &Path) -> Result<Opened, DatasetError> {
    match look(path)? {
        Looked::Image(scan) => {
            Ok(Opened { scans: vec![*scan], refused: Vec::new(), set_aside: Vec::new(), identities: None })
        }
        Looked::Dicom(input) if input.scans.is_empty() => Err(input.why_empty().into()),
        Looked::Dicom(input) => {
            let DicomInput { scans, refused, set_aside, identities, .. } = *input;
            Ok(Opened { scans, refused, set_aside, identities: Some(identities) })
        }
    }
}

/// What a path turned out to be. DICOM may be without a readable series.
pub(crate) enum Looked {
    Image(Box<Scan>),
    Dicom(Box<DicomInput>),
}

pub(crate) fn look(path: &Path) -> Result<Looked, DatasetError> {
    if path.is_dir() || Format::of(path)?.is_none() {
        return Ok(Looked::Dicom(Box::new(lungai_dicom::survey(path, &Limits::default())?)));
    }
    let (volume, format) = read_volume(path)?;
    if volume.geometry().size()[0] < 2 {
        return Err(DicomError::SingleSlice.into());
    }
    let hash = hu_sha256(&volume);
    Ok(Looked::Image(Box::new(Scan::of_image(&format!("sha256:{}", &hash[..16]), format, volume))))
}
