//! Scans that are computed when they are opened instead of being stored: a test part of 200 full scans is a megabyte.
//!
//! What a checksum of voxels is for a stored scan, four things are together: the checksum of the file that names patient,
//! scanner and seeds; the generator's, which is that of a probe it renders; the scene's; and a witness, some voxels of this
//! very scan, computed when the set was made and again before it is used. A generator or a processor that computes anything
//! else is refused.

use crate::hash::sha256;
use crate::recipe::{Patient, generator_sha256};
use crate::{DatasetError, hu_sha256};
use lungai_ct::{LabelMap, Scan};
use lungai_dicom::SeriesTags;
use lungai_phantom::{Body, CaseMix, Rendered, Scanner, Scene};
use lungai_trace::implements;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Mutex;

/// Name of the file that stands for series and lungs.
pub(crate) const FILE: &str = "render.json";
/// What a series written by us has: explicit VR, little endian.
const EXPLICIT_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";
/// Voxels of the witness, `[z, y, x]`.
const WITNESS: [usize; 3] = [4, 64, 64];

/// Everything that a scan follows from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rendering {
    /// Says what it is to a person who opens the file.
    note: String,
    /// Names patient and series, as a stored series does.
    patient: String,
    made_from: String,
    scene_seed: u64,
    scan_seed: u64,
    case_mix: CaseMix,
    scanner: Scanner,
    generator_sha256: String,
    scene_sha256: String,
    witness_sha256: String,
}

impl Rendering {
    pub fn of(patient: &Patient, pseudonym: &str, made_from: &str) -> Self {
        let scene = patient.scene();
        let (scanner, scan_seed) = (patient.centre.scanner.clone(), patient.scan_seed());
        Self {
            note: "SYNTHETIC: a chest phantom, rendered when it is opened; no patient".to_owned(),
            patient: pseudonym.to_owned(),
            made_from: made_from.to_owned(),
            scene_seed: patient.seed,
            scan_seed,
            case_mix: patient.centre.case_mix.clone(),
            generator_sha256: generator_sha256().to_owned(),
            scene_sha256: scene_sha256(&scene),
            witness_sha256: witness(&Body::of(&scene), &scene, &scanner, scan_seed),
            scanner,
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
        let mix = rendering.case_mix.check().map_err(|error| refuse(format!("case_mix.{error}")));
        let scanner = rendering.scanner.check().map_err(|error| refuse(format!("scanner.{error}")));
        mix.and(scanner).map(|()| rendering)
    }

    /// The scan, after the generator, the scene and the witness were compared.
    #[implements("FR-001")]
    pub fn scan(&self, case: &str, file_sha256: &str) -> Result<Scan, DatasetError> {
        let rendered = self.render(case)?;
        if let Ok(mut latest) = LATEST.lock() {
            *latest = Some((file_sha256.to_owned(), rendered.lungs));
        }
        let tags = SeriesTags::synthetic(&self.patient, &self.made_from);
        Ok(Scan {
            series_uid: tags.series_uid,
            study_uid: Some(tags.study_uid),
            frame_of_reference_uid: Some(tags.frame_of_reference_uid),
            patient_id: Some(tags.patient_id),
            modality: "CT".to_owned(),
            transfer_syntax: EXPLICIT_LITTLE_ENDIAN.to_owned(),
            acquisition: self.scanner.acquisition(),
            volume: rendered.volume,
        })
    }

    /// Its lungs: those of the latest scan, or rendered anew.
    pub fn lungs(&self, case: &str, file_sha256: &str) -> Result<LabelMap, DatasetError> {
        let latest = LATEST.lock().ok().and_then(|mut latest| latest.take_if(|(name, _)| name == file_sha256));
        match latest {
            Some((_, lungs)) => Ok(lungs),
            None => Ok(self.render(case)?.lungs),
        }
    }

    fn render(&self, case: &str) -> Result<Rendered, DatasetError> {
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
        let scene = Scene::draw(&self.case_mix, self.scene_seed);
        compare("scene", &self.scene_sha256, scene_sha256(&scene))?;
        let body = Body::of(&scene);
        compare("witness voxels", &self.witness_sha256, witness(&body, &scene, &self.scanner, self.scan_seed))?;
        Ok(body.render(&self.scanner, self.scan_seed))
    }
}

/// A case's lungs are asked for right after its scan, and both come from one rendering: the latest ones, by their file's
/// checksum.
static LATEST: Mutex<Option<(String, LabelMap)>> = Mutex::new(None);

fn scene_sha256(scene: &Scene) -> String {
    sha256(&serde_json::to_vec(scene).expect("plain data"))
}

fn witness(body: &Body, scene: &Scene, scanner: &Scanner, seed: u64) -> String {
    let whole = scanner.geometry(scene);
    let [nz, ny, nx] = whole.size();
    let size = [WITNESS[0].min(nz), WITNESS[1].min(ny), WITNESS[2].min(nx)];
    // A quarter from the patient's right, half-way up: lung, vessels and, mostly, ribs.
    let middle = [nz / 2, ny / 2, nx / 4];
    let window = whole.window(std::array::from_fn(|axis| middle[axis].saturating_sub(size[axis] / 2) as isize), size);
    hu_sha256(&body.render_window(scanner, &window, seed).volume)
}
