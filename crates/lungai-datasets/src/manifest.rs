//! A data set: which scans, of which patients and centres, in which split, with which truth and checksums.

use crate::error::{Fault, name};
use crate::grid::Grid;
use crate::hash::{hex, sha256};
use crate::import::ImportConfig;
use crate::on_demand::{self, Rendering};
use crate::recipe::Header;
use crate::rules::Flow;
use crate::write::read_text;
use crate::{DatasetError, align_labels, annotations, hu_sha256, open, read_labels, yaml};
use lungai_ct::{Geometry, LabelMap, ReferenceNodule, Scan};
use lungai_dicom::Identity;
use lungai_trace::implements;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// What a case is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// Weights are fitted on it.
    Train,
    /// Thresholds, calibration and stopping are decided on it.
    Tune,
    /// Only ever looked at by validation.
    Test,
}

impl Split {
    /// `train`, `tune` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Tune => "tune",
            Self::Test => "test",
        }
    }
}

/// A data set as its `manifest.yaml` describes it. Loading checks every rule that needs no image:
/// no patient in two splits, no test centre in training or tuning, no voxels under two patients, all paths inside the
/// manifest's folder or the one that it names for images.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name, such as `phantom-small`.
    pub name: String,
    /// Version of the data set, raised whenever a case changes.
    pub version: String,
    /// Whether the images were computed. Everything derived from the set must then say so.
    pub synthetic: bool,
    /// Licence or terms of use.
    pub licence: String,
    /// What whoever uses the set is asked to cite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub citation: Option<String>,
    /// SHA-256 of the recipe that a synthetic set was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe_sha256: Option<String>,
    /// Every centre that a case may name.
    pub centres: Vec<String>,
    /// Folder that the paths of series are relative to, where the images lie elsewhere: absolute, or relative to the
    /// manifest. Lungs and nodules stay beside the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<PathBuf>,
    /// Where an imported set comes from, and what was left out of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
    cases: Vec<Case>,
}

/// How an imported set came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Folder beside the manifest with the copied images, if they were copied, and the tables of nodules. An import that
    /// replaces the set fills another, so that this one stays whole until its manifest is replaced.
    #[serde(default)]
    pub folder: PathBuf,
    /// `luna16`, `lidc`, `folder` or `msd`.
    pub importer: String,
    /// Version of this crate.
    pub importer_version: String,
    /// SHA-256 of what the configuration says. The file itself is not kept here: with its key one could guess who is who.
    pub configuration_sha256: String,
    /// Series found, left out and why, and kept.
    pub flow: Flow,
    /// The attributes that were looked for in every DICOM file: the de-identification record's extent.
    pub checked_attributes: Vec<String>,
    /// In how many files of the included series they hold a value; never a value. No DICOM files: nothing was checked.
    pub identity: Identity,
}

/// One scan with its truth. Files are read, and their checksums compared, when asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Name, unique in the set: the `seriesuid` of mark and annotation tables.
    pub id: String,
    /// Pseudonym. Several scans may belong to one patient, who is in one split only.
    pub patient: String,
    /// One of [`Manifest::centres`].
    pub centre: String,
    /// What the case is for.
    pub split: Split,
    /// DICOM folder, archive or image file; the checksum is [`hu_sha256`], so it holds in any container. For a scan that is
    /// rendered on demand the file that says how, and its checksum.
    pub series: Part,
    /// Grid of an imported series: the same voxels on another grid are another scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) grid: Option<Grid>,
    /// Lung label map (1 right, 2 left), if there is one; the checksum is that of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lungs: Option<Part>,
    /// Table of nodules, if it is known where they are; the checksum is that of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodules: Option<Part>,
    /// Further label maps by name, if there are any: of a synthetic set `lobes` ([`lungai_ct::Lobe`]), `airways` (1 lumen,
    /// 2 wall), `vessels` (1 arteries, 2 veins) and `nodules` (`k` for nodule `nk`); checksums are those of the files.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub masks: BTreeMap<String, Part>,
    /// The first scan of this patient, where this is a further one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Follows>,
    #[serde(skip)]
    folder: PathBuf,
    /// Where series lie; as `folder` unless the manifest says otherwise.
    #[serde(skip)]
    images: PathBuf,
}

/// Which scan another one follows. Nodules have the same id in both tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follows {
    /// The case of the first scan, of the same patient.
    pub case: String,
    /// Days in between, 0 or more.
    pub days: f64,
}

/// A file or folder of a case.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Relative to the manifest and inside its folder; a series' path likewise of [`Manifest::images`] where there is one.
    pub path: PathBuf,
    /// SHA-256 in hex, see [`Case`].
    pub sha256: String,
}

impl Manifest {
    /// Reads and checks a `manifest.yaml` (or the folder that holds one). No image is opened.
    ///
    /// # Errors
    /// [`DatasetError::Config`] names the line of the first broken rule; [`DatasetError::Incomplete`] where its maker has not
    /// finished.
    #[implements("FR-001")]
    pub fn load(path: &Path) -> Result<Self, DatasetError> {
        let path = if path.is_dir() { path.join("manifest.yaml") } else { path.to_owned() };
        let folder = path.parent().unwrap_or(Path::new(""));
        // `dataset make` begins with the one, an import with the other.
        if !path.exists() && ["cases", ".import"].iter().any(|begun| folder.join(begun).is_dir()) {
            return Err(DatasetError::Incomplete { folder: folder.display().to_string() });
        }
        Self::parse(&path, &read_text(&path)?)
    }

    /// The text of a manifest that lies, or will lie, at `path`.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, DatasetError> {
        let mut manifest: Self = yaml::parse(path, text)?;
        manifest.check_rules(path, text)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let images = manifest.images.as_ref().map_or(folder.to_owned(), |images| folder.join(images));
        for case in &mut manifest.cases {
            case.folder = folder.to_owned();
            case.images = images.clone();
        }
        Ok(manifest)
    }

    /// A synthetic set that was just made.
    pub(crate) fn new(header: Header, cases: Vec<Case>) -> Self {
        let Header { name, version, licence, recipe_sha256, centres } = header;
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            synthetic: true,
            licence: licence.to_owned(),
            citation: None,
            recipe_sha256: Some(recipe_sha256.to_owned()),
            centres,
            images: None,
            provenance: None,
            cases,
        }
    }

    /// An acquired set that was just imported.
    pub(crate) fn imported(
        config: &ImportConfig,
        centres: Vec<String>,
        images: Option<PathBuf>,
        provenance: Provenance,
        cases: Vec<Case>,
    ) -> Self {
        Self {
            name: config.name.clone(),
            version: config.version.clone(),
            synthetic: config.synthetic,
            licence: config.licence.clone(),
            citation: config.citation.clone(),
            recipe_sha256: None,
            centres,
            images,
            provenance: Some(provenance),
            cases,
        }
    }

    pub(crate) fn check_rules(&self, path: &Path, text: &str) -> Result<(), DatasetError> {
        let refuse = |key: &str, value: &str, reason: String| {
            Err(DatasetError::Config { file: name(path), line: yaml::line_of(text, key, value), reason })
        };
        if self.cases.is_empty() {
            return refuse("cases", "", "a data set needs at least one case".into());
        }
        let mut ids = BTreeSet::new();
        let mut voxels: BTreeMap<&str, &Case> = BTreeMap::new();
        let mut patients: BTreeMap<&str, &Case> = BTreeMap::new();
        let mut test_centres: BTreeMap<&str, bool> = BTreeMap::new();
        for case in &self.cases {
            let id = &case.id;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if id.is_empty() || id.starts_with(['.', '-']) || !id.bytes().all(plain) {
                let reason =
                    "must be usable as a file name: letters, digits, `.`, `_` and `-`, neither `.` nor `-` first";
                return refuse("id", id, format!("case id `{}` {reason}", id.escape_debug()));
            }
            if !ids.insert(id) {
                return refuse("id", id, format!("case id `{id}` occurs twice"));
            }
            if !self.centres.contains(&case.centre) {
                let reason = format!("case {id}: centre `{}` is not among centres", case.centre);
                return refuse("id", id, reason);
            }
            let first = *patients.entry(&case.patient).or_insert(case);
            if first.split != case.split {
                // The pseudonym itself stays out of the message.
                let (a, b) = (first.split.name(), case.split.name());
                let reason =
                    format!("cases {} ({a}) and {id} ({b}) are of one patient; splits may not share one", first.id);
                return refuse("id", id, reason);
            }
            if let Some(twin) = voxels.insert(&case.series.sha256, case).filter(|twin| twin.patient != case.patient) {
                let reason = format!("cases {} and {id} hold the same voxels but name two patients", twin.id);
                let line = yaml::line_of(text, "id", id);
                return Err(DatasetError::fault(Fault::DuplicatedPatient, path, line, reason));
            }
            if let Some(Follows { case: first, days }) = &case.follows {
                let known =
                    self.cases.iter().any(|c| c.id == *first && c.patient == case.patient && c.follows.is_none());
                if !known || first == id || !days.is_finite() || *days < 0.0 {
                    let reason =
                        format!("case {id}: follows must name a first scan of the same patient, 0 or more days before");
                    return refuse("id", id, reason);
                }
            }
            let is_test = case.split == Split::Test;
            if *test_centres.entry(&case.centre).or_insert(is_test) != is_test {
                let reason =
                    format!("case {id}: centre `{}` has test cases and others; it must be unseen", case.centre);
                return refuse("id", id, reason);
            }
            for (part, what) in case.parts() {
                let inside = part.path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
                if !inside || part.path.as_os_str().is_empty() {
                    let reason = format!("case {id}: path of {what} must stay inside the manifest's folder");
                    return refuse("id", id, reason);
                }
                if part.sha256.len() != 64 || !part.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                    let reason = format!("case {id}: sha256 of {what} is not 64 lower-case hex digits");
                    return refuse("id", id, reason);
                }
            }
        }
        Ok(())
    }

    /// The cases of one split, in the manifest's order.
    pub fn cases(&self, split: Split) -> impl Iterator<Item = &Case> {
        self.cases.iter().filter(move |case| case.split == split)
    }

    /// Every case, in the manifest's order.
    pub fn all_cases(&self) -> &[Case] {
        &self.cases
    }

    /// Root of a Merkle tree (as in RFC 6962) over the set's header and its cases by id: one value that changes
    /// with any voxel, label, nodule, split or licence and with an imported series' grid, and with no container format or path.
    pub fn fingerprint(&self) -> String {
        let mut cases: Vec<&Case> = self.cases.iter().collect();
        cases.sort_by(|a, b| a.id.cmp(&b.id));
        let kind = if self.synthetic { "synthetic" } else { "acquired" };
        let header = [self.name.as_str(), self.version.as_str(), kind, self.licence.as_str()];
        let mut leaves = vec![leaf(&header)];
        leaves.extend(cases.into_iter().map(|case| {
            let sum = |part: &Option<Part>| part.as_ref().map_or("-".to_owned(), |part| part.sha256.clone());
            let (lungs, nodules) = (sum(&case.lungs), sum(&case.nodules));
            let mut fields =
                vec![&*case.id, &case.patient, &case.centre, case.split.name(), &case.series.sha256, &lungs, &nodules];
            let grid = case.grid.as_ref().map(Grid::to_string);
            fields.extend(grid.iter().flat_map(|grid| ["grid", grid.as_str()]));
            fields.extend(case.masks.iter().flat_map(|(name, part)| [name.as_str(), &part.sha256]));
            let days = case.follows.as_ref().map(|follows| follows.days.to_string());
            fields.extend(case.follows.iter().zip(&days).flat_map(|(follows, days)| ["follows", &follows.case, days]));
            leaf(&fields)
        }));
        hex(&merkle(&leaves))
    }

    /// Opens every case, compares checksums, grids and positions. `progress` hears of each case before it is opened.
    ///
    /// # Errors
    /// The first [`DatasetError`].
    pub fn check(&self, progress: &mut dyn FnMut(&Case)) -> Result<(), DatasetError> {
        for case in &self.cases {
            progress(case);
            let scan = case.load_scan()?;
            let grid = scan.volume.geometry();
            if case.lungs.is_some() {
                case.load_lungs(grid)?;
            }
            for name in case.masks.keys() {
                case.load_mask(name, grid)?;
            }
            if case.nodules.is_some() {
                case.check_nodules(grid)?;
            }
        }
        Ok(())
    }
}

fn leaf(fields: &[&str]) -> [u8; 32] {
    let mut hasher = Sha256::new_with_prefix([0]);
    for field in fields {
        // A length before each field: no two lists of fields read the same.
        hasher.update((field.len() as u64).to_le_bytes());
        hasher.update(field);
    }
    hasher.finalize().into()
}

fn is_rendering(part: &Part) -> bool {
    part.path.file_name().is_some_and(|name| name == on_demand::FILE)
}

fn merkle(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => Sha256::digest([]).into(),
        [one] => *one,
        many => {
            // RFC 6962: the left half is the largest power of two that leaves something on the right.
            let (left, right) = many.split_at(many.len().next_power_of_two() / 2);
            let mut hasher = Sha256::new_with_prefix([1]);
            hasher.update(merkle(left));
            hasher.update(merkle(right));
            hasher.finalize().into()
        }
    }
}

impl Case {
    pub(crate) fn new(id: String, patient: String, centre: String, split: Split, series: Part) -> Self {
        let (folder, images) = (PathBuf::new(), PathBuf::new());
        let (grid, lungs, nodules, masks, follows) = (None, None, None, BTreeMap::new(), None);
        Self { id, patient, centre, split, series, grid, lungs, nodules, masks, follows, folder, images }
    }

    fn parts(&self) -> impl Iterator<Item = (&Part, &'static str)> {
        let lungs = self.lungs.as_ref().map(|part| (part, "lungs"));
        let nodules = self.nodules.as_ref().map(|part| (part, "nodules"));
        let masks = self.masks.values().map(|part| (part, "masks"));
        [Some((&self.series, "series")), lungs, nodules].into_iter().flatten().chain(masks)
    }

    /// The scan; where the series' place holds several, the one that the checksum names.
    ///
    /// # Errors
    /// [`DatasetError::Checksum`] where the voxels are not the manifest's, [`Fault::ChangedFile`] where they lie on another grid;
    /// else why the series cannot be read. Names the case and no file.
    pub fn load_scan(&self) -> Result<Scan, DatasetError> {
        if let Some(rendering) = self.rendering(&self.series, &self.images, "series")? {
            return rendering.scan(&self.id, &self.series.sha256);
        }
        let named = format!("case {}", self.id);
        let opened = open(&self.series_path()?).map_err(|error| error.naming(&named))?;
        let declared = self.series.sha256.clone();
        let mut found = String::new();
        for scan in opened.scans {
            found = hu_sha256(&scan.volume);
            if found == declared {
                return self.check_grid(scan.volume.geometry()).map(|()| scan);
            }
        }
        match opened.refused.into_iter().next() {
            Some(refused) if found.is_empty() => Err(DatasetError::from(refused.error).naming(&named)),
            _ => Err(DatasetError::Checksum { case: self.id.clone(), part: "series", declared, found }),
        }
    }

    /// Whether the series is rendered each time it is asked for: what it takes to load it then says nothing of files.
    pub fn is_rendered(&self) -> bool {
        is_rendering(&self.series)
    }

    fn check_grid(&self, found: &Geometry) -> Result<(), DatasetError> {
        match &self.grid {
            Some(declared) if !declared.is_that_of(found) => {
                let reason = format!(
                    "its voxels lie on the grid {}, the manifest says {declared} (size and spacing z, y, x, origin, directions); \
                     import the set anew if the new one is right",
                    Grid(found.clone())
                );
                let file = format!("case {}", self.id);
                Err(DatasetError::Fault { fault: Fault::ChangedFile, file, line: None, reason })
            }
            _ => Ok(()),
        }
    }

    /// The lung labels on `grid`, which is that of the scan: a mask stored with other axis signs is turned, one on another
    /// grid refused.
    ///
    /// # Errors
    /// [`DatasetError::NoTruth`] where the manifest names none.
    pub fn load_lungs(&self, grid: &Geometry) -> Result<LabelMap, DatasetError> {
        let no_truth = || DatasetError::NoTruth { case: self.id.clone(), part: "lungs" };
        let part = self.lungs.as_ref().ok_or_else(no_truth)?;
        let labels = match self.rendering(part, &self.folder, "lungs")? {
            Some(rendering) => rendering.mask(&self.id, on_demand::LUNGS, &part.sha256)?.ok_or_else(no_truth)?,
            None => self.read_mask(part, "lungs")?,
        };
        self.on_grid(&labels, grid)
    }

    /// One of [`Case::masks`] on `grid`, as [`Case::load_lungs`].
    ///
    /// # Errors
    /// [`DatasetError::NoTruth`] where the manifest names none of this name.
    pub fn load_mask(&self, name: &str, grid: &Geometry) -> Result<LabelMap, DatasetError> {
        let no_truth = || DatasetError::NoTruth { case: self.id.clone(), part: "masks" };
        let part = self.masks.get(name).ok_or_else(no_truth)?;
        let labels = match self.rendering(part, &self.folder, "masks")? {
            Some(rendering) => rendering.mask(&self.id, name, &part.sha256)?.ok_or_else(no_truth)?,
            None => self.read_mask(part, "masks")?,
        };
        self.on_grid(&labels, grid)
    }

    fn read_mask(&self, part: &Part, what: &'static str) -> Result<LabelMap, DatasetError> {
        let path = self.resolve(part, &self.folder)?;
        self.read_checked(part, &path, what)?;
        read_labels(&path)
    }

    fn on_grid(&self, labels: &LabelMap, grid: &Geometry) -> Result<LabelMap, DatasetError> {
        align_labels(labels, grid).ok_or_else(|| DatasetError::Case {
            case: self.id.clone(),
            reason: "the mask's grid is not that of the scan".into(),
        })
    }

    /// The reference nodules; an empty table means that the scan has none.
    ///
    /// # Errors
    /// [`DatasetError::NoTruth`] where the manifest names no table: nodules are then unknown, not absent.
    pub fn nodules(&self) -> Result<Vec<ReferenceNodule>, DatasetError> {
        let (path, table) = self.nodules_table()?;
        annotations::parse(&path, &table)
    }

    fn nodules_table(&self) -> Result<(PathBuf, Vec<u8>), DatasetError> {
        let no_truth = || DatasetError::NoTruth { case: self.id.clone(), part: "nodules" };
        let part = self.nodules.as_ref().ok_or_else(no_truth)?;
        let path = self.resolve(part, &self.folder)?;
        let table = self.read_checked(part, &path, "nodules")?;
        Ok((path, table))
    }

    /// Every nodule lies within the scan, or the line of the first that does not.
    fn check_nodules(&self, grid: &Geometry) -> Result<(), DatasetError> {
        let (path, table) = self.nodules_table()?;
        for (line, nodule) in annotations::parse_lines(&path, &table)? {
            if grid.voxel_at(nodule.position).is_none() {
                let reason = format!("case {}: nodule {} lies outside of the scan", self.id, nodule.id);
                return Err(DatasetError::fault(Fault::OutsideVolume, &path, line, reason));
            }
        }
        Ok(())
    }

    /// Where the series lies.
    pub(crate) fn series_path(&self) -> Result<PathBuf, DatasetError> {
        self.resolve(&self.series, &self.images)
    }

    /// Where lungs and nodules lie, as far as there are any.
    pub(crate) fn truth_paths(&self) -> Result<Vec<PathBuf>, DatasetError> {
        let parts = [&self.lungs, &self.nodules].into_iter().flatten().chain(self.masks.values());
        parts.map(|part| self.resolve(part, &self.folder)).collect()
    }

    /// What a part is rendered from, if it is not stored.
    fn rendering(&self, part: &Part, folder: &Path, what: &'static str) -> Result<Option<Rendering>, DatasetError> {
        if !is_rendering(part) {
            return Ok(None);
        }
        let path = self.resolve(part, folder)?;
        Rendering::parse(&self.id, &path, &self.read_checked(part, &path, what)?).map(Some)
    }

    fn read_checked(&self, part: &Part, path: &Path, what: &'static str) -> Result<Vec<u8>, DatasetError> {
        let bytes = std::fs::read(path).map_err(DatasetError::io(path))?;
        let found = sha256(&bytes);
        if found != part.sha256 {
            let declared = part.sha256.clone();
            return Err(DatasetError::Checksum { case: self.id.clone(), part: what, declared, found });
        }
        Ok(bytes)
    }

    /// The real path; a link that leads out of the data set is refused like a `..`.
    fn resolve(&self, part: &Part, folder: &Path) -> Result<PathBuf, DatasetError> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let path = folder.join(&part.path);
        // A folder or file of others' images may be called after a patient.
        let io = |error| DatasetError::Io { file: format!("case {}", self.id), source: error };
        let real = path.canonicalize().map_err(io)?;
        if !real.starts_with(folder.canonicalize().map_err(DatasetError::io(folder))?) {
            let reason = "a path leads out of the set's folder".into();
            return Err(DatasetError::Case { case: self.id.clone(), reason });
        }
        Ok(real)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{nodules_csv, write_labels, write_volume};
    use lungai_ct::{NoduleKind, Spacing, Volume, WorldPoint};
    use ndarray::Array3;

    fn grid() -> Geometry {
        let spacing = Spacing::new([2.0, 1.0, 1.0]).unwrap();
        Geometry::new([3, 4, 5], spacing, WorldPoint([0.0; 3]), Geometry::AXIAL).unwrap()
    }

    /// Two training scans of one patient and a test scan, of two centres.
    fn data_set(folder: &Path) -> String {
        let mut text =
            "name: tiny\nversion: '1'\nsynthetic: true\nlicence: CC0-1.0\ncentres: [north, south]\ncases:\n".to_owned();
        for (i, (id, patient, centre, split)) in
            [("n1", "p1", "north", "train"), ("n2", "p1", "north", "train"), ("s1", "p2", "south", "test")]
                .iter()
                .enumerate()
        {
            let volume = Volume::new(Array3::from_elem((3, 4, 5), i as i16 - 500), grid()).unwrap();
            write_volume(&folder.join(format!("{id}.mha")), &volume).unwrap();
            let lungs = LabelMap::new(Array3::from_elem((3, 4, 5), 1), grid()).unwrap();
            write_labels(&folder.join(format!("{id}.nii.gz")), &lungs).unwrap();
            let nodules = nodules_csv(&[ReferenceNodule {
                id: "1".into(),
                kind: Some(NoduleKind::Solid),
                ..ReferenceNodule::at(WorldPoint([2.0, 2.0, 2.0]), 6.0)
            }]);
            std::fs::write(folder.join(format!("{id}.csv")), &nodules).unwrap();
            let file = sha256(&std::fs::read(folder.join(format!("{id}.nii.gz"))).unwrap());
            text += &format!(
                "- id: {id}\n  patient: {patient}\n  centre: {centre}\n  split: {split}\n  \
                 series: {{path: {id}.mha, sha256: {}}}\n  lungs: {{path: {id}.nii.gz, sha256: {file}}}\n  \
                 nodules: {{path: {id}.csv, sha256: {}}}\n",
                hu_sha256(&volume),
                sha256(&nodules),
            );
        }
        std::fs::write(folder.join("manifest.yaml"), &text).unwrap();
        text
    }

    #[test]
    fn a_sound_data_set_loads_and_checks() {
        let folder = tempfile::tempdir().unwrap();
        data_set(folder.path());
        let manifest = Manifest::load(folder.path()).unwrap();
        let mut seen = Vec::new();
        manifest.check(&mut |case| seen.push(case.id.clone())).unwrap();
        assert_eq!(seen, ["n1", "n2", "s1"]);
        assert_eq!(manifest.cases(Split::Test).map(|case| case.id.as_str()).collect::<Vec<_>>(), ["s1"]);
        let case = &manifest.all_cases()[0];
        let scan = case.load_scan().unwrap();
        assert_eq!(case.load_lungs(scan.volume.geometry()).unwrap().geometry(), scan.volume.geometry());
        assert_eq!(case.nodules().unwrap()[0].position, WorldPoint([2.0; 3]));
    }

    #[test]
    fn each_broken_rule_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let text = data_set(folder.path());
        let check = |from: &str, to: &str, line: usize, message: &str| {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            std::fs::write(folder.path().join("manifest.yaml"), changed).unwrap();
            let error = Manifest::load(folder.path()).unwrap_err().to_string();
            assert_eq!(error, format!("manifest.yaml, line {line}: {message}"));
        };
        check(
            "patient: p2",
            "patient: p1",
            21,
            "cases n1 (train) and s1 (test) are of one patient; splits may not share one",
        );
        check(
            "centre: south",
            "centre: north",
            21,
            "case s1: centre `north` has test cases and others; it must be unseen",
        );
        check("centre: south", "centre: west", 21, "case s1: centre `west` is not among centres");
        check("id: n2", "id: n1", 7, "case id `n1` occurs twice");
        // A comma parts cells, a bar columns, and a dash makes an option or a formula of a name.
        for id in ["n,2", "n|2", "-n2", "n<2"] {
            let reason = "must be usable as a file name: letters, digits, `.`, `_` and `-`, neither `.` nor `-` first";
            check("id: n2", &format!("id: {id}"), 14, &format!("case id `{id}` {reason}"));
        }
        check("path: n2.mha", "path: ../n2.mha", 14, "case n2: path of series must stay inside the manifest's folder");
        check("path: n2.mha", "path: /n2.mha", 14, "case n2: path of series must stay inside the manifest's folder");
        check(
            "licence:",
            "license:",
            4,
            "unknown field `license`, expected one of `name`, `version`, `synthetic`, `licence`, `citation`, \
             `recipe_sha256`, `centres`, `images`, `provenance`, `cases`; did you mean `licence`?",
        );
        check(
            "split: test",
            "split: tset",
            24,
            "cases[2].split: unknown variant `tset`, expected one of `train`, `tune`, `test`; did you mean `test`?",
        );
    }

    #[test]
    fn a_changed_file_is_not_what_its_checksum_says() {
        let folder = tempfile::tempdir().unwrap();
        data_set(folder.path());
        let manifest = Manifest::load(folder.path()).unwrap();
        let part_of = |error: DatasetError| match error {
            DatasetError::Checksum { case, part, .. } => format!("{case} {part}"),
            other => panic!("{other}"),
        };
        std::fs::copy(folder.path().join("n2.mha"), folder.path().join("n1.mha")).unwrap();
        assert_eq!(part_of(manifest.check(&mut |_| ()).unwrap_err()), "n1 series");
        let table = folder.path().join("s1.csv");
        std::fs::write(&table, std::fs::read_to_string(&table).unwrap().replace("6.0", "7.0")).unwrap();
        let case = manifest.cases(Split::Test).next().unwrap();
        assert_eq!(part_of(case.nodules().unwrap_err()), "s1 nodules");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_out_of_the_folder_is_refused() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        data_set(folder.path());
        let manifest = Manifest::load(folder.path()).unwrap();
        std::fs::rename(folder.path().join("n1.mha"), outside.path().join("n1.mha")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("n1.mha"), folder.path().join("n1.mha")).unwrap();
        let error = manifest.all_cases()[0].load_scan().unwrap_err();
        assert_eq!(error.to_string(), "case n1: a path leads out of the set's folder");
    }

    #[test]
    fn the_fingerprint_follows_content_and_not_layout() {
        let folder = tempfile::tempdir().unwrap();
        let text = data_set(folder.path());
        let fingerprint = |text: String| {
            std::fs::write(folder.path().join("manifest.yaml"), text).unwrap();
            Manifest::load(folder.path()).unwrap().fingerprint()
        };
        let original = fingerprint(text.clone());
        assert_eq!(original, fingerprint(text.replace("path: n1.mha", "path: elsewhere/n1.nrrd")));
        assert_ne!(original, fingerprint(text.replace("split: train", "split: tune")));
        assert_ne!(original, fingerprint(text.replace("licence: CC0-1.0", "licence: none")));
        let at = text.find("sha256: ").unwrap() + 8;
        let mut changed = text.clone();
        changed.replace_range(at..at + 1, if &text[at..at + 1] == "0" { "1" } else { "0" });
        assert_ne!(original, fingerprint(changed));
    }

    #[test]
    fn the_tree_is_that_of_rfc_6962() {
        let l: Vec<[u8; 32]> = (0..3u8).map(|i| [i; 32]).collect();
        let node = |a: &[u8], b: &[u8]| -> [u8; 32] { Sha256::digest([&[1], a, b].concat()).into() };
        assert_eq!(merkle(&l), node(&node(&l[0], &l[1]), &l[2]));
    }
}
