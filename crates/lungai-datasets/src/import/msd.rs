//! Sets laid out as in the Medical Segmentation Decathlon (Antonelli et al., Nature Communications 13:4128, 2022):
//! `dataset.json`, `imagesTr/` and `labelsTr/` in NIfTI. A nodule is a connected region of the labels that stand for one.

use crate::error::{Fault, name};
use crate::write::read_text;
use crate::{DatasetError, align_labels, read_labels};
use lungai_ct::{Geometry, ReferenceNodule, sphere_diameter_mm};
use lungai_imaging::{Connectivity, Region, components};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// What the labels mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// Names in `dataset.json` of the labels that are nodules, such as `cancer`.
    pub nodules: Vec<String>,
    /// Regions of a smaller equivalent diameter in mm are ignored in scoring: specks at a mask's edge.
    pub diameter_at_least_mm: f64,
    /// What is known of every nodule's malignancy; null: nothing.
    pub malignant: Option<bool>,
}

/// `dataset.json`, as far as it is looked at.
#[derive(Debug, Deserialize)]
struct Described {
    modality: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    training: Vec<Pair>,
}

#[derive(Debug, Deserialize)]
struct Pair {
    image: PathBuf,
    label: PathBuf,
}

/// Images with labels, and which label values are nodules.
#[derive(Debug)]
pub(crate) struct Decathlon {
    folder: PathBuf,
    /// Image to label, below the folder.
    pairs: BTreeMap<PathBuf, PathBuf>,
    values: Vec<u8>,
    labels: Labels,
}

impl Decathlon {
    /// Reads and checks `dataset.json`; the test images, whose labels are secret, are no cases.
    pub(crate) fn read(folder: &Path, labels: &Labels) -> Result<Self, DatasetError> {
        let path = folder.join("dataset.json");
        let text = read_text(&path)?;
        let line = |needle: &str| text.lines().position(|line| line.contains(needle)).map_or(1, |at| at + 1);
        let refuse = |line, reason| DatasetError::Config { file: name(&path), line, reason };
        let described: Described =
            serde_json::from_str(&text).map_err(|error| refuse(error.line(), error.to_string()))?;
        let modalities: Vec<&String> = described.modality.values().collect();
        if modalities.len() != 1 || modalities[0] != "CT" {
            return Err(refuse(line("\"modality\""), "modality must be CT alone".into()));
        }
        let mut values = Vec::new();
        for wanted in &labels.nodules {
            let value = described.labels.iter().find(|(_, label)| *label == wanted).and_then(|(v, _)| v.parse().ok());
            let known: Vec<&str> = described.labels.values().map(String::as_str).collect();
            let missing = || refuse(line("\"labels\""), format!("no label `{wanted}` among {}", known.join(", ")));
            values.push(value.ok_or_else(missing)?);
        }
        let mut pairs = BTreeMap::new();
        for Pair { image, label } in described.training {
            for path in [&image, &label] {
                let line = line(&name(path));
                if path.components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir)) {
                    return Err(refuse(line, "the path leads out of the folder".into()));
                }
                if !folder.join(path).is_file() {
                    let reason = "the file of this line is not there".into();
                    return Err(DatasetError::fault(Fault::MissingSeries, &folder.join("dataset.json"), line, reason));
                }
            }
            let plain =
                |path: PathBuf| path.components().filter(|c| matches!(c, Component::Normal(_))).collect::<PathBuf>();
            let (image, label) = (plain(image), plain(label));
            if pairs.contains_key(&image) {
                let reason = "the image of this line is listed twice".into();
                return Err(DatasetError::fault(Fault::DuplicatedSeries, &path, line(&name(&image)), reason));
            }
            pairs.insert(image, label);
        }
        Ok(Self { folder: folder.to_owned(), pairs, values, labels: labels.clone() })
    }

    pub(crate) fn images(&self) -> Vec<PathBuf> {
        self.pairs.keys().cloned().collect()
    }

    /// The nodules of one image, by the order of their first voxel from the feet; `named`: what messages call the image.
    pub(crate) fn nodules(
        &self,
        image: &Path,
        grid: &Geometry,
        named: &str,
    ) -> Result<Vec<ReferenceNodule>, DatasetError> {
        let Some(label) = self.pairs.get(image) else { return Ok(Vec::new()) };
        let path = self.folder.join(label);
        let labels = read_labels(&path).map_err(|error| error.naming(&format!("label map of {named}")))?;
        let reason = "the grid of the label map is not that of the image";
        let file = named.to_owned();
        let map = align_labels(&labels, grid).ok_or_else(|| DatasetError::Malformed {
            format: "label map",
            file,
            reason: reason.into(),
        })?;
        let mask = map.labels().mapv(|value| self.values.contains(&value));
        let found = components(mask.view(), Connectivity::Corners);
        let nodule = |(region, number): (&Region, usize)| {
            let volume_mm3 = region.voxels as f64 * grid.spacing().voxel_mm3();
            let diameter_mm = sphere_diameter_mm(volume_mm3);
            ReferenceNodule {
                id: number.to_string(),
                volume_mm3: Some(volume_mm3),
                malignant: self.labels.malignant,
                excluded: diameter_mm < self.labels.diameter_at_least_mm,
                ..ReferenceNodule::at(grid.to_world(region.centroid), diameter_mm)
            }
        };
        Ok(found.regions.iter().zip(1..).map(nodule).collect())
    }
}
