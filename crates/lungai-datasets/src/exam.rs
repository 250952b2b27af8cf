//! Examinations of a synthetic patient: the first scan, and those that come after it.
//!
//! A second scan a quarter of an hour later tells how far measurements repeat (as in RIDER, Zhao 2009, Radiology 252:263), one on
//! another scanner how far they depend on it, one after months how nodules grow.

use crate::hash::sha256;
use crate::hu_sha256;
use lungai_ct::{Geometry, LabelMap, ReferenceNodule};
use lungai_phantom::{Body, CaseMix, Masks, Pose, Rendered, Scanner, Scene};
use serde::{Deserialize, Serialize};

/// Voxels of the witness, `[z, y, x]`.
const WITNESS: [usize; 3] = [4, 64, 64];

/// A scan that every patient of a centre has after the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FurtherScan {
    /// Ends the case's name: lower-case letters, digits and hyphens.
    pub name: String,
    /// After the first scan, `0..=3650`. Malignant nodules have grown by then, each with its own volume doubling time
    /// ([`lungai_phantom::Nodule::usual_doubling_days`]), which its table states.
    pub days: f64,
    /// Whether the patient got up and lay down again in between: some mm and degrees off ([`Pose::draw`]).
    pub repositioned: bool,
    /// Another scanner; the centre's own where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scanner: Option<Scanner>,
}

/// Everything that a synthetic scan follows from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exam {
    pub scene_seed: u64,
    pub scan_seed: u64,
    /// Since the first scan.
    pub days: f64,
    /// Of the doubling times, common to all scans of a patient.
    pub growth_seed: u64,
    pub pose: Pose,
    pub case_mix: CaseMix,
    pub scanner: Scanner,
}

/// The patient as examined: the scene of that day.
pub(crate) struct Examined<'a> {
    exam: &'a Exam,
    scene: Scene,
    /// Of each nodule of the scene.
    doubling_days: Vec<f64>,
}

impl Exam {
    /// The broken rule.
    pub fn check(&self) -> Result<(), String> {
        self.case_mix.check().map_err(|error| format!("case_mix.{error}"))?;
        self.scanner.check().map_err(|error| format!("scanner.{error}"))?;
        self.pose.check().map_err(|error| format!("pose.{error}"))?;
        check_days(self.days)
    }

    pub fn examine(&self) -> Examined<'_> {
        let first = Scene::draw(&self.case_mix, self.scene_seed);
        let (scene, doubling_days) = first.aged(self.days, self.growth_seed);
        Examined { exam: self, scene, doubling_days }
    }
}

pub(crate) fn check_days(days: f64) -> Result<(), String> {
    if (0.0..=3650.0).contains(&days) { Ok(()) } else { Err(format!("days is {days}; it must be within 0..=3650")) }
}

/// Names of the label maps beside the lungs.
pub(crate) const MASKS: [&str; 4] = ["lobes", "airways", "vessels", "nodules"];

/// Those that were rendered, by name.
pub(crate) fn masks(rendered: &Rendered) -> impl Iterator<Item = (&'static str, &LabelMap)> {
    let Rendered { lobes, airways, vessels, nodule_labels, .. } = rendered;
    MASKS
        .into_iter()
        .zip([lobes, airways, vessels, nodule_labels])
        .filter_map(|(name, map)| Some((name, map.as_ref()?)))
}

impl Examined<'_> {
    pub fn scene_sha256(&self) -> String {
        sha256(&serde_json::to_vec(&self.scene).expect("plain data"))
    }

    pub fn body(&self) -> Body {
        Body::of(&self.scene)
    }

    /// - `body`: that of [`Self::body`]
    pub fn render(&self, body: &Body, masks: Masks) -> Rendered {
        let mut rendered = self.render_on(body, &self.grid(), masks);
        rendered.nodules = self.reference();
        rendered
    }

    /// The truth of the nodules; nothing is rendered.
    pub fn reference(&self) -> Vec<ReferenceNodule> {
        let Exam { scanner, pose, scan_seed, days, .. } = self.exam;
        let mut nodules = self.scene.reference_posed(scanner, &self.grid(), pose, *scan_seed);
        if *days > 0.0 {
            for nodule in &mut nodules {
                let known = self.scene.nodules.iter().zip(&self.doubling_days).find(|(n, _)| n.id == nodule.id);
                nodule.doubling_days = known.map(|(_, doubling)| *doubling);
            }
        }
        nodules
    }

    /// SHA-256 of some voxels of this very scan: a quarter from the patient's right, half-way up, where there are lung,
    /// vessels and, mostly, ribs.
    pub fn witness(&self, body: &Body) -> String {
        let whole = self.grid();
        let [nz, ny, nx] = whole.size();
        let size = [WITNESS[0].min(nz), WITNESS[1].min(ny), WITNESS[2].min(nx)];
        let middle = [nz / 2, ny / 2, nx / 4];
        let window =
            whole.window(std::array::from_fn(|axis| middle[axis].saturating_sub(size[axis] / 2) as isize), size);
        hu_sha256(&self.render_on(body, &window, Masks::NONE).volume)
    }

    fn grid(&self) -> Geometry {
        self.exam.scanner.geometry(&self.scene)
    }

    fn render_on(&self, body: &Body, grid: &Geometry, masks: Masks) -> Rendered {
        body.render_posed(&self.exam.scanner, grid, &self.exam.pose, self.exam.scan_seed, masks)
    }
}
