//! Scans that are computed when they are opened instead of being stored: a test part of 200 full scans is a megabyte.
//!
//! What a checksum of voxels is for a stored scan, four things are together: the checksum of the file that names patient,
//! scanner and seeds; the generator's, which is that of a probe it renders; the scene's; and a witness, some voxels of this
//! very scan, computed when the set was made and again before it is used. A generator or a processor that computes anything
//! else is refused.

use crate::DatasetError;
use crate::exam::{self, Exam};
use crate::recipe::generator_sha256;
use lungai_ct::{LabelMap, Scan};
use lungai_dicom::SeriesTags;
use lungai_phantom::{Masks, Rendered};
use lungai_trace::implements;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

/// Name of the file that stands for series and lungs.
pub(crate) const FILE: &str = "render.json";
/// Name of the lungs' label map.
pub(crate) const LUNGS: &str = "lungs";
/// What a series written by us has: explicit VR, little endian.
const EXPLICIT_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";
/// What lies in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rendering {
    /// Says what it is to a person who opens the file.
    note: String,
    /// Names patient and series, as a stored series does.
    patient: String,
    made_from: String,
    exam: Exam,
    generator_sha256: String,
    scene_sha256: String,
    witness_sha256: String,
}

impl Rendering {
    pub fn of(exam: &Exam, pseudonym: &str, made_from: &str) -> Self {
        let examined = exam.examine();
        Self {
            note: "SYNTHETIC: a chest phantom, rendered when it is opened; no patient".to_owned(),
            patient: pseudonym.to_owned(),
            made_from: made_from.to_owned(),
            exam: exam.clone(),
            generator_sha256: generator_sha256().to_owned(),
            scene_sha256: examined.scene_sha256(),
            witness_sha256: examined.witness(&examined.body()),
        }
    }

    /// The file's text.
    pub fn text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("plain data");
        text.push(b'\n');
        text
    }

    /// Reads a file whose checksum was compared.
    pub fn parse(case: &str, path: &Path, bytes: &[u8]) -> Result<Self, DatasetError> {
        let refuse = |reason: String| DatasetError::Case { case: case.to_owned(), reason };
        let rendering: Self = serde_json::from_slice(bytes)
            .map_err(|error| refuse(format!("{} describes no rendering: {error}", crate::error::name(path))))?;
        rendering.exam.check().map_err(refuse)?;
        Ok(rendering)
    }

    /// The scan, after the generator, the scene and the witness were compared.
    #[implements("FR-001")]
    pub fn scan(&self, case: &str, file_sha256: &str) -> Result<Scan, DatasetError> {
        let rendered = self.render(case, Masks::NONE)?;
        remember(file_sha256, BTreeMap::from([(LUNGS, rendered.lungs)]));
        let tags = SeriesTags::synthetic(&self.patient, &self.made_from);
        Ok(Scan {
            series_uid: tags.series_uid,
            study_uid: Some(tags.study_uid),
            frame_of_reference_uid: Some(tags.frame_of_reference_uid),
            patient_id: Some(tags.patient_id),
            modality: "CT".to_owned(),
            transfer_syntax: EXPLICIT_LITTLE_ENDIAN.to_owned(),
            acquisition: self.exam.scanner.acquisition(),
            volume: rendered.volume,
        })
    }

    /// A label map of it by name, [`LUNGS`] or one of [`exam::MASKS`]: that of the latest rendering, or rendered anew.
    pub fn mask(&self, case: &str, name: &str, file_sha256: &str) -> Result<Option<LabelMap>, DatasetError> {
        let mut latest = LATEST.lock().ok().and_then(|mut latest| latest.take_if(|(file, _)| file == file_sha256));
        let mut maps = match latest.take() {
            Some((_, maps)) if maps.contains_key(name) => maps,
            _ => {
                let rendered = self.render(case, if name == LUNGS { Masks::NONE } else { Masks::ALL })?;
                let all = exam::masks(&rendered).chain([(LUNGS, &rendered.lungs)]);
                all.map(|(name, map)| (name, map.clone())).collect()
            }
        };
        let found = maps.remove(name);
        remember(file_sha256, maps);
        Ok(found)
    }

    fn render(&self, case: &str, masks: Masks) -> Result<Rendered, DatasetError> {
        if self.generator_sha256 != generator_sha256() {
            let reason = "it is rendered on demand, and this program's phantom is not the one that the set was made with; \
                          make the set again with `dataset make --on-demand`";
            return Err(DatasetError::Case { case: case.to_owned(), reason: reason.into() });
        }
        let compare = |part: &'static str, declared: &String, found: String| {
            if *declared == found {
                return Ok(());
            }
            Err(DatasetError::Checksum { case: case.to_owned(), part, declared: declared.clone(), found })
        };
        let examined = self.exam.examine();
        compare("scene", &self.scene_sha256, examined.scene_sha256())?;
        let body = examined.body();
        compare("witness voxels", &self.witness_sha256, examined.witness(&body))?;
        Ok(examined.render(&body, masks))
    }
}

/// What is left of the latest rendering, by its file's checksum: a case's lungs are asked for right after its scan, and its
/// other label maps one after the other. The first of those renders the case once more: few ask for them.
static LATEST: Mutex<Option<(String, BTreeMap<&'static str, LabelMap>)>> = Mutex::new(None);

fn remember(file_sha256: &str, maps: BTreeMap<&'static str, LabelMap>) {
    if let Ok(mut latest) = LATEST.lock() {
        *latest = (!maps.is_empty()).then(|| (file_sha256.to_owned(), maps));
    }
}
