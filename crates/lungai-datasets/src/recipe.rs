//! Synthetic data sets: from a short recipe to DICOM series with exact truth.

use crate::error::name;
use crate::exam::{self, Exam, FurtherScan};
use crate::hash::{seed_of, sha256};
use crate::manifest::{Case, Follows, Manifest, Part, Split};
use crate::on_demand::{self, Rendering};
use crate::write::remove_folder;
use crate::{DatasetError, hu_sha256, nodules_csv, write_labels, yaml};
use lungai_ct::LabelMap;
use lungai_dicom::SeriesTags;
use lungai_phantom::{Artefacts, CaseMix, Difficulty, Masks, Pose, Scanner, Scene};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A synthetic data set of several centres. The same recipe gives the same voxels everywhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the data set.
    pub name: String,
    /// Version of the data set.
    pub version: String,
    /// Licence of the data set.
    pub licence: String,
    /// Every patient and all noise follow from it.
    pub seed: u64,
    /// Where the patients are seen.
    pub centres: Vec<CentreRecipe>,
}

/// A centre: how many patients for which split, on which scanner, of which kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CentreRecipe {
    /// Name: lower-case letters, digits and hyphens.
    pub name: String,
    /// Patients in the training split.
    pub train: usize,
    /// Patients in the tuning split.
    pub tune: usize,
    /// Patients in the test split; a centre with such has no others.
    pub test: usize,
    /// The scanner and its protocol.
    pub scanner: Scanner,
    /// How patients are drawn.
    pub case_mix: CaseMix,
    /// Scans that each of them has after the first; none where it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_scans: Vec<FurtherScan>,
}

/// One step of [`make`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The case that is ready now.
    pub case: String,
    /// Whether it was there before.
    pub reused: bool,
    /// Cases that are ready.
    pub done: usize,
    /// Cases in the recipe.
    pub total: usize,
}

/// A case as it lies beside its files: what it was made from, so that a second run can tell whether it is current.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Finished {
    made_from: String,
    case: Case,
}

/// A patient of a recipe.
#[derive(Debug, Clone)]
pub struct Patient<'a> {
    /// Name of the case.
    pub id: String,
    /// What the case is for.
    pub split: Split,
    /// The scene follows from it.
    pub seed: u64,
    /// Where the patient is seen.
    pub centre: &'a CentreRecipe,
}

impl<'a> Patient<'a> {
    /// The patient at the first scan.
    pub fn scene(&self) -> Scene {
        Scene::draw(&self.centre.case_mix, self.seed)
    }

    /// Seed of the noise (and the breath) of the patient's first scan.
    pub fn scan_seed(&self) -> u64 {
        derived_seed(self.seed, "noise")
    }

    /// Names of the patient's cases: that of the first scan, then of the further ones.
    fn ids(&self) -> impl Iterator<Item = String> {
        let further = self.centre.further_scans.iter().map(|scan| format!("{}-{}", self.id, scan.name));
        std::iter::once(self.id.clone()).chain(further)
    }

    /// Names of the patient's cases and what they are made from: the first scan, then the further ones.
    fn exams(&self) -> impl Iterator<Item = (String, Exam)> + use<'_, 'a> {
        let first = Exam {
            scene_seed: self.seed,
            scan_seed: self.scan_seed(),
            days: 0.0,
            growth_seed: derived_seed(self.seed, "growth"),
            pose: Pose::NONE,
            case_mix: self.centre.case_mix.clone(),
            scanner: self.centre.scanner.clone(),
        };
        let further = self.centre.further_scans.iter().map({
            let first = first.clone();
            move |scan| {
                let FurtherScan { name, days, repositioned, scanner } = scan;
                let seed = |purpose: &str| derived_seed(self.seed, &format!("{purpose}/{name}"));
                Exam {
                    scan_seed: seed("noise"),
                    days: *days,
                    pose: if *repositioned { Pose::draw(seed("pose")) } else { Pose::NONE },
                    scanner: scanner.as_ref().unwrap_or(&first.scanner).clone(),
                    ..first.clone()
                }
            }
        });
        self.ids().zip(std::iter::once(first).chain(further))
    }
}

/// How a set is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Which cases are stored.
    pub storage: Storage,
    /// Whether there are label maps of lobes, airways, vessels and each nodule beside the lungs: [`Case::masks`].
    pub masks: bool,
}

/// Which cases of a set are stored as series and masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// All.
    All,
    /// All but the test cases, which are rendered when they are opened.
    AllButTest,
    /// None: a set of any size is a few kilobytes per case.
    None,
}

impl Storage {
    fn keeps(self, split: Split) -> bool {
        match self {
            Self::All => true,
            Self::AllButTest => split != Split::Test,
            Self::None => false,
        }
    }
}

impl Recipe {
    /// Reads and checks a recipe.
    ///
    /// # Errors
    /// [`DatasetError::Config`] with the line, the field and what it must be.
    pub fn load(path: &Path) -> Result<Self, DatasetError> {
        yaml::read_checked(path, Self::check)
    }

    /// The broken rule, with the key and value by which its line can be found.
    fn check(&self) -> Result<(), yaml::Broken> {
        let mut names = BTreeSet::new();
        for centre in &self.centres {
            let name = &centre.name;
            let refuse = |reason: String| Err(("name", name.clone(), format!("centre {name}: {reason}")));
            if !is_name(name) {
                return refuse(NAME_RULE.into());
            }
            if !names.insert(name) {
                return refuse("occurs twice".into());
            }
            if centre.test > 0 && centre.train + centre.tune > 0 {
                return refuse("has test cases and others; a test centre must be unseen".into());
            }
            if let Err(error) = centre.scanner.check() {
                return refuse(format!("scanner.{error}"));
            }
            if let Err(error) = centre.case_mix.check() {
                return refuse(format!("case_mix.{error}"));
            }
            let mut scans = BTreeSet::new();
            for FurtherScan { name, days, scanner, .. } in &centre.further_scans {
                let refuse = |reason: String| refuse(format!("further scan {name}: {reason}"));
                if !is_name(name) {
                    return refuse(NAME_RULE.into());
                }
                if !scans.insert(name) {
                    return refuse("occurs twice".into());
                }
                if let Err(reason) = exam::check_days(*days) {
                    return refuse(reason);
                }
                if let Some(Err(error)) = scanner.as_ref().map(Scanner::check) {
                    return refuse(format!("scanner.{error}"));
                }
            }
        }
        let mut ids = BTreeSet::new();
        for patient in self.patients() {
            for id in patient.ids() {
                if let Some(twice) = ids.replace(id) {
                    let name = patient.centre.name.clone();
                    let reason =
                        format!("centre {name}: two cases would be called {twice}; rename a centre or a further scan");
                    return Err(("name", name, reason));
                }
            }
        }
        if ids.is_empty() {
            return Err(("centres", String::new(), "a recipe needs at least one case".into()));
        }
        Ok(())
    }

    /// SHA-256 of what the recipe says, whatever its comments and layout.
    pub fn sha256(&self) -> String {
        sha256(&serde_json::to_vec(self).expect("plain data"))
    }

    /// Patients are numbered within their centre, whatever the order of centres.
    pub fn patients(&self) -> impl Iterator<Item = Patient<'_>> {
        self.centres.iter().flat_map(move |centre| {
            let splits = [(Split::Train, centre.train), (Split::Tune, centre.tune), (Split::Test, centre.test)];
            let each = splits.into_iter().flat_map(|(split, n)| std::iter::repeat_n(split, n));
            each.zip(1..).map(move |(split, number)| {
                let id = format!("{}-{number:03}", centre.name);
                Patient { seed: derived_seed(self.seed, &id), id, split, centre }
            })
        })
    }
}

const NAME_RULE: &str = "a name is lower-case letters, digits and hyphens";

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// A seed of its own for each purpose, so that one case more never changes another.
fn derived_seed(seed: u64, purpose: &str) -> u64 {
    seed_of(&format!("{seed}/{purpose}"))
}

/// Makes the data set in `folder`, all of it stored: see [`make_with`].
///
/// # Errors
/// [`DatasetError`]; what was finished until then is kept.
pub fn make(recipe: &Recipe, folder: &Path, progress: &(dyn Fn(Progress) + Sync)) -> Result<Manifest, DatasetError> {
    make_with(recipe, folder, Keep { storage: Storage::All, masks: false }, progress)
}

/// Makes the data set in `folder`: `cases/ID/{dicom/, lungs.nii.gz, nodules.csv}` (or `cases/ID/{render.json, nodules.csv}`
/// where the case is rendered on demand) and `manifest.yaml`. Cases that are
/// there already and were made from the same recipe by the same generator are kept; each new case takes its name
/// only when it is complete, and the manifest comes last.
///
/// # Errors
/// [`DatasetError`]; what was finished until then is kept.
pub fn make_with(
    recipe: &Recipe,
    folder: &Path,
    keep: Keep,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Manifest, DatasetError> {
    let manifest_path = folder.join("manifest.yaml");
    if manifest_path.exists() {
        let present = Manifest::load(&manifest_path)?;
        if present.name != recipe.name {
            let reason = format!("the folder holds the data set {}; choose another for {}", present.name, recipe.name);
            return Err(DatasetError::Config { file: name(&manifest_path), line: 1, reason });
        }
    }
    let cases = folder.join("cases");
    std::fs::create_dir_all(&cases).map_err(DatasetError::io(&cases))?;
    let patients: Vec<Patient> = recipe.patients().collect();
    let exams: Vec<_> = patients.iter().flat_map(|p| p.exams().map(move |(id, exam)| (p, id, exam))).collect();
    let done = AtomicUsize::new(0);
    let made: Result<Vec<Case>, DatasetError> = exams
        .par_iter()
        .map(|(patient, id, exam)| {
            let (case, reused) = make_case(patient, id, exam, &cases, keep)?;
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            progress(Progress { case: id.clone(), reused, done, total: exams.len() });
            Ok(case)
        })
        .collect();
    let manifest = Manifest::new(
        Header {
            name: &recipe.name,
            version: &recipe.version,
            licence: &recipe.licence,
            recipe_sha256: &recipe.sha256(),
            centres: recipe.centres.iter().map(|centre| centre.name.clone()).collect(),
        },
        made?,
    );
    let text = serde_yaml::to_string(&manifest).expect("plain data");
    manifest.check_rules(&manifest_path, &text)?;
    let draft = folder.join(".manifest.yaml.part");
    let comment = "# SYNTHETIC data: computed chest phantoms, no patients.\n";
    std::fs::write(&draft, format!("{comment}{text}")).map_err(DatasetError::io(&draft))?;
    std::fs::rename(&draft, &manifest_path).map_err(DatasetError::io(&manifest_path))?;
    Manifest::load(&manifest_path)
}

/// What a synthetic manifest says of itself.
pub(crate) struct Header<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub licence: &'a str,
    pub recipe_sha256: &'a str,
    pub centres: Vec<String>,
}

/// Two scans of a probe, one of them turned and a year later, with all masks: another generator gives others, and cases that
/// it made before are made anew.
pub(crate) fn generator_sha256() -> &'static str {
    static GENERATOR: LazyLock<String> = LazyLock::new(|| {
        let scanner = Scanner {
            matrix: 96,
            pixel_spacing_mm: 4.0,
            slice_spacing_mm: 10.0,
            slice_thickness_mm: 5.0,
            artefacts: Artefacts { cupping_hu: 10.0, band_hu: 20.0, breath_mm: 5.0 },
            ..Scanner::screening()
        };
        let first = Exam {
            scene_seed: 1,
            scan_seed: 1,
            days: 0.0,
            growth_seed: 1,
            pose: Pose::NONE,
            case_mix: CaseMix::preset(Difficulty::Standard),
            scanner,
        };
        let later = Exam { days: 300.0, pose: Pose::draw(1), scan_seed: 2, ..first.clone() };
        let seen = [first, later].map(|exam| {
            let examined = exam.examine();
            let probe = examined.render(&examined.body(), Masks::ALL);
            let mut seen = format!("{}{:?}{}", hu_sha256(&probe.volume), probe.nodules, sha256(probe.lungs.as_slice()));
            seen.extend(exam::masks(&probe).map(|(_, labels)| sha256(labels.as_slice())));
            seen
        });
        sha256(seen.concat().as_bytes())
    });
    &GENERATOR
}

fn make_case(patient: &Patient, id: &str, exam: &Exam, cases: &Path, keep: Keep) -> Result<(Case, bool), DatasetError> {
    let stored = keep.storage.keeps(patient.split);
    let recipe = serde_json::to_string(&(id, patient.split, exam)).expect("plain data");
    // A series is named by what it is made from, not by how it is kept.
    let made_from = sha256(format!("{}{recipe}", generator_sha256()).as_bytes());
    let kept_as = sha256(format!("{made_from} stored {stored}, masks {}", keep.masks).as_bytes());
    let folder = cases.join(id);
    let present = std::fs::read(folder.join("case.json")).ok();
    if let Some(finished) = present.and_then(|bytes| serde_json::from_slice::<Finished>(&bytes).ok())
        && finished.made_from == kept_as
    {
        return Ok((finished.case, true));
    }

    let pseudonym = format!("SYN-{}", patient.id);
    let draft = cases.join(format!(".{id}.part"));
    remove_folder(&draft)?;
    std::fs::create_dir_all(&draft).map_err(DatasetError::io(&draft))?;
    let part = |file: &str, sha256: String| Part { path: PathBuf::from(format!("cases/{id}/{file}")), sha256 };
    let write = |file: &str, bytes: &[u8]| {
        let path = draft.join(file);
        std::fs::write(&path, bytes).map_err(DatasetError::io(&path))?;
        Ok::<Part, DatasetError>(part(file, sha256(bytes)))
    };
    let write_mask = |name: &str, labels: &LabelMap| {
        let file = format!("{name}.nii.gz");
        let path = draft.join(&file);
        write_labels(&path, labels)?;
        let bytes = std::fs::read(&path).map_err(DatasetError::io(&path))?;
        Ok::<Part, DatasetError>(part(&file, sha256(&bytes)))
    };
    let examined = exam.examine();
    let mut masks = BTreeMap::new();
    let (series, lungs, reference) = if stored {
        let wanted = if keep.masks { Masks::ALL } else { Masks::NONE };
        let rendered = examined.render(&examined.body(), wanted);
        let tags = SeriesTags::synthetic(&pseudonym, &made_from);
        lungai_dicom::write_series(&rendered.volume, &exam.scanner.acquisition(), &tags, &draft.join("dicom"))?;
        for (name, labels) in exam::masks(&rendered) {
            masks.insert(name.to_owned(), write_mask(name, labels)?);
        }
        (part("dicom", hu_sha256(&rendered.volume)), write_mask("lungs", &rendered.lungs)?, rendered.nodules)
    } else {
        let file = write(on_demand::FILE, &Rendering::of(exam, &pseudonym, &made_from).text())?;
        if keep.masks {
            masks.extend(exam::MASKS.map(|name| (name.to_owned(), file.clone())));
        }
        (file.clone(), file, examined.reference())
    };
    let mut case = Case::new(id.to_owned(), pseudonym, patient.centre.name.clone(), patient.split, series);
    case.lungs = Some(lungs);
    case.masks = masks;
    case.nodules = Some(write("nodules.csv", nodules_csv(&reference).as_ref())?);
    case.follows = (*id != patient.id).then(|| Follows { case: patient.id.clone(), days: exam.days });
    let finished = Finished { made_from: kept_as, case };
    write("case.json", &serde_json::to_vec_pretty(&finished).expect("plain data"))?;
    remove_folder(&folder)?;
    std::fs::rename(&draft, &folder).map_err(DatasetError::io(&folder))?;
    Ok((finished.case, false))
}
