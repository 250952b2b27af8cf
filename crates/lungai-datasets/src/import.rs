//! Sets that others made enter by one door: images stay where they are, tables become this project's, every series is
//! read once, and what is written at the end is a manifest like that of a synthetic set.

mod config;
mod consensus;
mod folder;
mod found;
mod lidc_xml;
mod luna16;
mod msd;
mod truth;
mod written;

pub use config::{Centres, Identifiers, ImportConfig, MissingSeries, NotAnnotated, Patients, Tables, Unreadable};
pub use consensus::{Consensus, Join};
pub use folder::{Columns, Diameter, Frame, LengthUnit, Position, YesNoColumn};
pub use msd::Labels;

use crate::DatasetError;
use crate::error::{Fault, name};
use crate::manifest::{Manifest, Split};
use crate::rules::{Counts, Excluded, Flow, Tally};
use crate::splits::{self, Assigned};
use crate::table::Table;
use found::{Place, Series, places, pseudonym, read_all};
use lungai_ct::ReferenceNodule;
use lungai_dicom::Identity;
use lungai_trace::implements;
use msd::Decathlon;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use truth::Truth;

pub(crate) use found::files_of;

/// What to import, and to where.
#[derive(Debug, Clone)]
pub struct Import<'a> {
    /// How.
    pub config: &'a ImportConfig,
    /// Folder of the images. Nothing in it is changed.
    pub images: &'a Path,
    /// The truth.
    pub tables: Tables,
    /// The table of [`Patients::Table`].
    pub patients: Option<&'a Path>,
    /// Folder of the set; made where absent. An earlier import of the same name there is replaced, its splits are kept.
    pub out: &'a Path,
    /// Copies the images into `out/images`; else the manifest says where they are.
    pub copy: bool,
}

/// One step of [`import`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Whether an earlier run had read it.
    pub reused: bool,
    /// Places that are read.
    pub done: usize,
    /// Places in all.
    pub total: usize,
}

/// Tables in memory.
enum Source {
    Tables(Truth),
    Lidc(BTreeMap<String, lidc_xml::Reading>),
    Decathlon(Decathlon),
}

/// A series that belongs to the set.
struct Member<'a> {
    id: String,
    series: &'a Series,
    patient: String,
    centre: String,
    nodules: Option<Vec<ReferenceNodule>>,
}

/// Imports a set: `manifest.yaml`, `splits.csv`, `flow.json` and one table of nodules per case appear in
/// [`Import::out`] when all of them are complete. A second run after an interruption reads only what the first did not.
///
/// # Errors
/// [`DatasetError`] names file and line; nothing of an earlier import in `out` is changed then.
#[implements("FR-001")]
pub fn import(import: &Import, progress: &mut dyn FnMut(Progress)) -> Result<Manifest, DatasetError> {
    let Import { config, images, tables, out, .. } = import;
    config.check_for(tables)?;
    written::check_target(import)?;
    // Tables first: reading the images may take hours, a misspelt column should not.
    let source = Source::read(tables, config, images)?;
    let patients = patients_table(import)?;
    let splits_file = out.join("splits.csv");
    let frozen = splits::read(&splits_file)?;

    let places = match &source {
        Source::Decathlon(set) => set.images(),
        _ => places(images)?,
    };
    if places.is_empty() {
        let reason = "no DICOM folder, archive or research image below it".to_owned();
        return Err(DatasetError::Case { case: name(images), reason });
    }
    std::fs::create_dir_all(out).map_err(DatasetError::io(out))?;
    let read = read_all(images, &places, config, &out.join(".import"), progress)?;
    let series: Vec<&Series> = read.iter().flat_map(|place| &place.series).collect();
    check_twins(&series)?;
    source.check_present(&series, config.missing_series)?;

    let patient_of = |series: &Series| patient(series, config, &patients);
    let named: Vec<(&Series, String)> =
        series.iter().map(|s| Ok((*s, patient_of(s)?))).collect::<Result<_, DatasetError>>()?;
    let mut exclusions = Exclusions::default();
    exclusions.unreadable(&read, config.unreadable)?;
    let mut members = Vec::new();
    for (series, patient) in &named {
        let nodules = source.nodules(series, config)?;
        let rule = config.inclusion.broken(&series.facts).or_else(|| {
            let unwanted = nodules.is_none() && config.not_annotated == NotAnnotated::Exclude;
            unwanted.then(|| ("not-annotated".to_owned(), String::new()))
        });
        match rule {
            Some(rule) => exclusions.add(rule, patient),
            None => members.push(Member {
                id: case_id(&pseudonym(config, "series", &series.key)),
                series,
                patient: patient.clone(),
                centre: centre(series, &config.centres)?,
                nodules: nodules.or_else(|| (config.not_annotated == NotAnnotated::NoNodules).then(Vec::new)),
            }),
        }
    }
    if members.is_empty() {
        let reason = "every series is excluded: see the rules under `inclusion`".to_owned();
        return Err(DatasetError::Case { case: config.name.clone(), reason });
    }
    let centres = centre_of_patients(&members, &config.splits.held_out_centres)?;
    let assigned = config.splits.assign(&centres, &frozen, &splits_file)?;
    let mut flow = flow(&named, exclusions, &members, &assigned);
    flow.found.series += read.iter().map(|place| place.unreadable.len()).sum::<usize>();
    let mut identity = Identity::default();
    members.iter().filter_map(|m| m.series.identity.as_ref()).for_each(|one| identity.merge(one));
    written::write(import, &members, &assigned, flow, identity)
}

impl Source {
    fn read(tables: &Tables, config: &ImportConfig, images: &Path) -> Result<Self, DatasetError> {
        Ok(match tables {
            Tables::Luna16 { annotations, excluded } => {
                Self::Tables(luna16::read(annotations, excluded.as_deref(), config.finding_diameter_mm)?)
            }
            Tables::Lidc { xml } => Self::Lidc(readings(xml)?),
            Tables::Folder { annotations: None } => Self::Tables(Truth::default()),
            Tables::Folder { annotations: Some(path) } => Self::Tables(match &config.columns {
                Some(columns) => folder::read_table(path, columns)?,
                None => folder::read_folder(path)?,
            }),
            Tables::Msd => {
                let labels = config.labels.as_ref().expect("`check_for` asks for the section");
                Self::Decathlon(Decathlon::read(images, labels)?)
            }
        })
    }

    /// The nodules of a series; `None` where no table speaks of it.
    fn nodules(&self, series: &Series, config: &ImportConfig) -> Result<Option<Vec<ReferenceNodule>>, DatasetError> {
        let grid = series.geometry();
        match self {
            Self::Tables(truth) => {
                truth.by_series.get(&series.key).map(|marked| truth::place(marked, &grid, truth.in_voxels)).transpose()
            }
            Self::Lidc(readings) => {
                let Some(reading) = readings.get(&series.key) else { return Ok(None) };
                if series.identity.is_none() {
                    let reason = "outlines count the rows of DICOM images; converters may turn them over".to_owned();
                    return Err(DatasetError::Case { case: series.key.clone(), reason });
                }
                let rule = config.consensus.as_ref().expect("`check_for` asks for the section");
                let marked = consensus::consensus(rule, reading, &grid, config.finding_diameter_mm)?;
                truth::place(&marked, &grid, false).map(Some)
            }
            Self::Decathlon(set) => set.nodules(&series.path, &grid).map(Some),
        }
    }

    /// Refuses tables that speak of series which are not there.
    fn check_present(&self, series: &[&Series], rule: MissingSeries) -> Result<(), DatasetError> {
        if rule == MissingSeries::Skip {
            return Ok(());
        }
        let there = |key: &String| series.iter().any(|series| series.key == *key);
        let missing = match self {
            Self::Tables(truth) => {
                let absent = |(key, _): &(&String, &Vec<truth::Marked>)| !there(key);
                let all: Vec<_> = truth.by_series.iter().filter(absent).collect();
                let first = all.iter().filter_map(|(_, marked)| marked.first()).min_by_key(|marked| marked.line);
                first.map(|marked| (marked.file.clone(), marked.line, all.len())).or_else(|| {
                    // A table of its own without a line: the series has no nodule.
                    all.first().map(|(key, _)| (format!("{key}.csv"), 1, all.len()))
                })
            }
            Self::Lidc(readings) => {
                let all: Vec<_> = readings.iter().filter(|(key, _)| !there(key)).collect();
                all.first().map(|(_, reading)| (reading.file.clone(), 1, all.len()))
            }
            // Its images were looked for when its description was read.
            Self::Decathlon(_) => None,
        };
        let Some((file, line, count)) = missing else { return Ok(()) };
        let reason = format!(
            "the series of this line is not among the images ({count} such series); `missing_series: skip` passes over them"
        );
        Err(DatasetError::Fault { fault: Fault::MissingSeries, file, line: Some(line), reason })
    }
}

/// Every LIDC reading below a folder, by series.
fn readings(folder: &Path) -> Result<BTreeMap<String, lidc_xml::Reading>, DatasetError> {
    let mut readings: BTreeMap<String, lidc_xml::Reading> = BTreeMap::new();
    for path in files_of(folder)? {
        if !path.extension().is_some_and(|e| e.eq_ignore_ascii_case("xml")) {
            continue;
        }
        let Some(reading) = lidc_xml::read(&path)? else { continue };
        if let Some(other) = readings.get(&reading.series_uid) {
            if *other.readers == *reading.readers {
                continue; // the same file, downloaded into two folders
            }
            let reason = format!("readings of the same series as {}, and others", other.file);
            return Err(DatasetError::fault(Fault::DuplicatedSeries, &path, 1, reason));
        }
        readings.insert(reading.series_uid.clone(), reading);
    }
    if readings.is_empty() {
        let reason = "no XML file of LIDC-IDRI (LidcReadMessage) below it".to_owned();
        return Err(DatasetError::Case { case: name(folder), reason });
    }
    Ok(readings)
}

/// Series to patient, by the table of [`Patients::Table`].
fn patients_table(import: &Import) -> Result<BTreeMap<String, String>, DatasetError> {
    let mut patients = BTreeMap::new();
    match (&import.config.patients, import.patients) {
        (Patients::Table { series, patient, ignore }, Some(path)) => {
            let ignore: Vec<&str> = ignore.iter().map(String::as_str).collect();
            for row in Table::read(path, &[series, patient], &ignore)?.rows() {
                let (series, patient) = (row.text(series), row.text(patient));
                if series.is_empty() || patient.is_empty() {
                    return Err(row.refuse("a cell is empty".into()));
                }
                let earlier = patients.insert(series.to_owned(), patient.to_owned());
                if earlier.is_some_and(|earlier| earlier != patient) {
                    let reason = "this series is of another patient by an earlier line".into();
                    return Err(row.fault(Fault::DuplicatedPatient, reason));
                }
            }
            Ok(patients)
        }
        (Patients::Table { .. }, None) | (_, Some(_)) => {
            let reason = "`patients: { by: table }` and a table of patients need each other".to_owned();
            Err(DatasetError::Config { file: "configuration".into(), line: 1, reason })
        }
        _ => Ok(patients),
    }
}

fn patient(series: &Series, config: &ImportConfig, table: &BTreeMap<String, String>) -> Result<String, DatasetError> {
    let refuse = |reason: &str| DatasetError::Case { case: name(&series.path), reason: reason.to_owned() };
    match &config.patients {
        Patients::Series => Ok(pseudonym(config, "series", &series.key)),
        Patients::Dicom => series.patient.clone().ok_or_else(|| refuse("the series states no Patient ID")),
        Patients::Table { .. } => {
            let patient = table.get(&series.key).ok_or_else(|| refuse("the table of patients lacks the series"))?;
            Ok(pseudonym(config, "patient", patient))
        }
    }
}

fn centre(series: &Series, rule: &Centres) -> Result<String, DatasetError> {
    let refuse = |reason: &str| DatasetError::Case { case: name(&series.path), reason: reason.to_owned() };
    let given = match rule {
        Centres::One { name } => name.clone(),
        Centres::Folder => {
            let mut parts = series.path.components();
            let first = parts.next().filter(|_| parts.next().is_some());
            let first = first.ok_or_else(|| refuse("lies in no folder that could be a centre"))?;
            first.as_os_str().to_string_lossy().into_owned()
        }
        Centres::Manufacturer => {
            series.manufacturer.clone().ok_or_else(|| refuse("the series states no Manufacturer"))?
        }
    };
    let centre = splits::centre_name(&given);
    if centre.is_empty() { Err(refuse("its centre's name has no letter or digit")) } else { Ok(centre) }
}

/// A name that can be a file's.
fn case_id(key: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
    let id: String = key.chars().map(safe).collect();
    if id.starts_with('.') { format!("_{id}") } else { id }
}

/// Refuses a series that is there twice: by its name, or by its voxels under another.
fn check_twins(series: &[&Series]) -> Result<(), DatasetError> {
    let mut by_key: BTreeMap<String, &Series> = BTreeMap::new();
    let mut by_voxels: BTreeMap<&str, &Series> = BTreeMap::new();
    for series in series {
        let file = name(&series.path);
        if let Some(twin) = by_key.insert(case_id(&series.key), series) {
            let reason = format!("its series is also in {}", name(&twin.path));
            return Err(DatasetError::Fault { fault: Fault::DuplicatedSeries, file, line: None, reason });
        }
        if let Some(twin) = by_voxels.insert(&series.hu_sha256, series) {
            let reason = format!("holds the same voxels as {} under another name", name(&twin.path));
            let same = series.patient == twin.patient;
            let fault = if same { Fault::DuplicatedSeries } else { Fault::DuplicatedPatient };
            return Err(DatasetError::Fault { fault, file, line: None, reason });
        }
    }
    Ok(())
}

/// One centre per patient: the first by name, where all of them train.
fn centre_of_patients(members: &[Member], held_out: &[String]) -> Result<BTreeMap<String, String>, DatasetError> {
    let mut centres: BTreeMap<String, (String, &Series)> = BTreeMap::new();
    for Member { series, patient, centre, .. } in members {
        let Some((first, other)) = centres.get_mut(patient) else {
            centres.insert(patient.clone(), (centre.clone(), series));
            continue;
        };
        if held_out.contains(first) != held_out.contains(centre) {
            let reason = format!(
                "is of one patient with {}, who was seen at the centres {first} and {centre}; one of them is held out",
                name(&other.path)
            );
            let file = name(&series.path);
            return Err(DatasetError::Fault { fault: Fault::DuplicatedPatient, file, line: None, reason });
        }
        if *centre < *first {
            *first = centre.clone();
        }
    }
    Ok(centres.into_iter().map(|(patient, (centre, _))| (patient, centre)).collect())
}

/// Counts by rule, in the order in which the rules first applied.
#[derive(Default)]
struct Exclusions<'a> {
    rules: Vec<((String, String), Tally<'a>)>,
}

impl<'a> Exclusions<'a> {
    fn tally(&mut self, rule: (String, String)) -> &mut Tally<'a> {
        let at = self.rules.iter().position(|(known, _)| *known == rule).unwrap_or_else(|| {
            self.rules.push((rule, Tally::default()));
            self.rules.len() - 1
        });
        &mut self.rules[at].1
    }

    fn add(&mut self, rule: (String, String), patient: &'a str) {
        self.tally(rule).add(patient);
    }

    fn unreadable(&mut self, read: &[Place], rule: Unreadable) -> Result<(), DatasetError> {
        for (broken, message) in read.iter().flat_map(|place| &place.unreadable) {
            if rule == Unreadable::Refuse {
                let reason = format!("{message}; `unreadable: exclude` leaves such series out and counts them");
                return Err(DatasetError::Case { case: broken.clone(), reason });
            }
            self.tally((format!("unreadable-{broken}"), String::new())).add_unknown();
        }
        Ok(())
    }
}

fn flow(
    named: &[(&Series, String)],
    exclusions: Exclusions,
    members: &[Member],
    assigned: &BTreeMap<String, Assigned>,
) -> Flow {
    let counts = |patients: &mut dyn Iterator<Item = &str>| -> Counts {
        let mut tally = Tally::default();
        patients.for_each(|patient| tally.add(patient));
        tally.counts()
    };
    let in_split = |split: Split| {
        counts(&mut members.iter().map(|m| m.patient.as_str()).filter(|patient| assigned[*patient].split == split))
    };
    let nodules = || members.iter().filter_map(|m| m.nodules.as_ref()).flatten();
    Flow {
        found: counts(&mut named.iter().map(|(_, patient)| patient.as_str())),
        excluded: exclusions
            .rules
            .into_iter()
            .map(|((rule, limit), tally)| Excluded { rule, limit, counts: tally.counts() })
            .collect(),
        included: counts(&mut members.iter().map(|m| m.patient.as_str())),
        splits: [Split::Train, Split::Tune, Split::Test].map(|s| (s.name().to_owned(), in_split(s))).into(),
        nodules: nodules().filter(|nodule| !nodule.excluded).count(),
        ignored_findings: nodules().filter(|nodule| nodule.excluded).count(),
        without_reference: members.iter().filter(|m| m.nodules.is_none()).count(),
    }
}

/// Where the images lie for the manifest: inside of the set, or elsewhere.
fn images_elsewhere(import: &Import) -> Result<Option<PathBuf>, DatasetError> {
    if import.copy {
        return Ok(None);
    }
    let images = import.images.canonicalize().map_err(DatasetError::io(import.images))?;
    let out = import.out.canonicalize().map_err(DatasetError::io(import.out))?;
    Ok((!images.starts_with(out)).then_some(images))
}
