//! Sets that others made enter by one door: images stay where they are, tables become this project's, every series is
//! read once, and what is written at the end is a manifest like that of a synthetic set.
//!
//! Files and folders of images may be called after patients, and so may series. So there is one rule for messages, for progress and
//! for what is remembered between runs, whatever `identifiers` says: they may hold
//! - the name of a table, of an XML file of LIDC's or of a configuration, with the line;
//! - the place, `place 3 of 120 by sorted path`: the third of the image files, archives and folders of DICOM files below the folder of
//!   images, sorted by path; with `series 2 of 3` where it holds several and `file 17 of 300` where one file is to blame;
//! - a case's id, a centre and a split as the set has them, numbers, and the words of rules;
//!
//! and no other name of a file or folder, no Patient ID and no Series Instance UID.

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
use crate::error::Fault;
use crate::manifest::{Manifest, Split};
use crate::rules::{Counts, Excluded, Flow, Tally};
use crate::splits::{self, Assigned};
use crate::table::Table;
use found::{Place, Series, Spot, places, pseudonym, read_all};
use lungai_ct::ReferenceNodule;
use lungai_dicom::Identity;
use lungai_trace::implements;
use msd::Decathlon;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
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
    /// Folder of the set; made where absent. An earlier import of the same name there is replaced when the new one is complete,
    /// its splits are kept.
    pub out: &'a Path,
    /// Copies the images into the set, each as its case's `dicom/000001.dcm` and so on or `ID.mha`; of a folder
    /// only the files that included series were read from. Else the manifest says where they are.
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

/// A series that was read, and where.
struct Found<'a> {
    spot: Spot,
    /// Below the folder of images.
    path: &'a Path,
    series: &'a Series,
}

impl Found<'_> {
    fn refuse(&self, reason: &str) -> DatasetError {
        DatasetError::Series { at: self.spot.to_string(), reason: reason.to_owned() }
    }

    fn fault(&self, fault: Fault, reason: String) -> DatasetError {
        DatasetError::Fault { fault, file: self.spot.to_string(), line: None, reason }
    }
}

/// A series that belongs to the set.
struct Member<'a> {
    id: String,
    found: &'a Found<'a>,
    patient: String,
    centre: String,
    nodules: Option<Vec<ReferenceNodule>>,
    in_table: bool,
}

/// Imports a set: `manifest.yaml`, `splits.csv`, `flow.json` and a folder with one table of nodules per case appear in
/// [`Import::out`] when everything was read and checked. A second run after an interruption reads only what the first did not.
///
/// # Errors
/// [`DatasetError`] names table and line, or the place as this module says; an earlier import in `out` stays whole then, as it does
/// when the program is stopped.
#[implements("FR-001", "SR-003")]
pub fn import(import: &Import, progress: &mut dyn FnMut(Progress)) -> Result<Manifest, DatasetError> {
    let Import { config, images, tables, out, .. } = import;
    config.check_for(tables)?;
    written::check_target(import)?;
    written::finish(out)?;
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
        return Err(none_in_all(config, "no DICOM folder, archive or research image lies below the folder of images"));
    }
    std::fs::create_dir_all(out).map_err(DatasetError::io(out))?;
    let read = read_all(images, &places, config, &out.join(".import"), progress)?;
    refuse_unread(&read, config.unreadable)?;
    let found: Vec<Found> = (1..)
        .zip(places.iter().zip(&read))
        .flat_map(|(number, (path, place))| {
            let (count, places) = (place.series.len(), places.len());
            place.series.iter().zip(1..).map(move |(series, at)| Found {
                spot: Spot { place: number, places, series: (at, count) },
                path,
                series,
            })
        })
        .collect();
    check_twins(&found)?;
    let unread = || read.iter().flat_map(|place| &place.unread);
    let there: BTreeSet<&String> =
        found.iter().map(|one| &one.series.key).chain(unread().filter_map(|one| one.key.as_ref())).collect();
    let missing = source.missing(&there, config.missing_series)?;

    let patient_of = |key: Option<&String>, stated: Option<&String>| patient(key, stated, config, &patients);
    let named: Vec<(&Found, String)> = found
        .iter()
        .map(|one| {
            let known = patient_of(Some(&one.series.key), one.series.patient.as_ref());
            Ok((one, known.ok_or_else(|| one.refuse(no_patient(&config.patients)))?))
        })
        .collect::<Result<_, DatasetError>>()?;
    // Of whom a series is that was never read, only the table of patients may say.
    let of_missing: Vec<Option<String>> = missing.iter().map(|key| patient_of(Some(key), None)).collect();
    let of_unread: Vec<Option<String>> = unread().map(|one| patient_of(one.key.as_ref(), None)).collect();
    let mut exclusions = Exclusions::default();
    for patient in &of_missing {
        let limit = "named by a table only".to_owned();
        exclusions.add(("missing-series".to_owned(), limit), patient.as_deref());
    }
    for (one, patient) in unread().zip(&of_unread) {
        exclusions.add((format!("unreadable-{}", one.rule), String::new()), patient.as_deref());
    }
    let mut members = Vec::new();
    for (found, patient) in &named {
        let nodules = source.nodules(found, config)?;
        let in_table = nodules.is_some();
        let rule = config.inclusion.broken(&found.series.facts).or_else(|| {
            let unwanted = !in_table && config.not_annotated == NotAnnotated::Exclude;
            unwanted.then(|| ("not-annotated".to_owned(), String::new()))
        });
        match rule {
            Some(rule) => exclusions.add(rule, Some(patient)),
            None => members.push(Member {
                id: case_id(&found.series.key),
                found,
                patient: patient.clone(),
                centre: centre(found, &config.centres)?,
                nodules: nodules.or_else(|| (config.not_annotated == NotAnnotated::NoNodules).then(Vec::new)),
                in_table,
            }),
        }
    }
    if members.is_empty() {
        return Err(none_in_all(config, "every series is excluded: see the rules under `inclusion`"));
    }
    let centres = centre_of_patients(&members, &config.splits.held_out_centres, &frozen)?;
    let assigned = config.splits.assign(&centres, &frozen, &splits_file)?;
    let everyone = named.iter().map(|(_, patient)| Some(patient.as_str()));
    let never_read = of_missing.iter().chain(&of_unread).map(Option::as_deref);
    let found_in_all = counts(everyone.chain(never_read));
    let flow = flow(found_in_all, exclusions, &members, &assigned, &read);
    let mut identity = Identity::default();
    members.iter().filter_map(|m| m.found.series.identity.as_ref()).for_each(|one| identity.merge(one));
    written::write(import, &members, &assigned, flow, identity)
}

fn none_in_all(config: &ImportConfig, reason: &str) -> DatasetError {
    DatasetError::Case { case: config.name.clone(), reason: reason.to_owned() }
}

impl Source {
    fn read(tables: &Tables, config: &ImportConfig, images: &Path) -> Result<Self, DatasetError> {
        let mut truth = match tables {
            Tables::Lidc { xml } => {
                let readings = readings(xml, config)?.into_iter();
                return Ok(Self::Lidc(
                    readings.map(|(key, reading)| (pseudonym(config, "series", &key), reading)).collect(),
                ));
            }
            Tables::Msd => {
                let labels = config.labels.as_ref().expect("`check_for` asks for the section");
                return Decathlon::read(images, labels).map(Self::Decathlon);
            }
            Tables::Luna16 { annotations, excluded } => {
                luna16::read(annotations, excluded.as_deref(), config.finding_diameter_mm)?
            }
            Tables::Folder { annotations: None } => Truth::default(),
            Tables::Folder { annotations: Some(path) } => match &config.columns {
                Some(columns) => folder::read_table(path, columns)?,
                None => folder::read_folder(path)?,
            },
        };
        truth.check()?;
        let by_series = std::mem::take(&mut truth.by_series).into_iter();
        truth.by_series = by_series.map(|(key, named)| (pseudonym(config, "series", &key), named)).collect();
        Ok(Self::Tables(truth))
    }

    /// The nodules of a series; `None` where no table speaks of it.
    fn nodules(&self, found: &Found, config: &ImportConfig) -> Result<Option<Vec<ReferenceNodule>>, DatasetError> {
        let Found { spot, path, series } = found;
        let grid = &series.grid.0;
        match self {
            Self::Tables(truth) => {
                let named = truth.by_series.get(&series.key);
                named.map(|named| truth::place(&named.marked, grid, truth.in_voxels)).transpose()
            }
            Self::Lidc(readings) => {
                let Some(reading) = readings.get(&series.key) else { return Ok(None) };
                if series.identity.is_none() {
                    return Err(found.refuse("outlines count the rows of DICOM images; converters may turn them over"));
                }
                let rule = config.consensus.as_ref().expect("`check_for` asks for the section");
                let marked = consensus::consensus(rule, reading, grid, config.finding_diameter_mm)?;
                truth::place(&marked, grid, false).map(Some)
            }
            Self::Decathlon(set) => set.nodules(path, grid, &spot.to_string()).map(Some),
        }
    }

    /// The series of tables that are not among the images, neither read nor unreadable.
    ///
    /// # Errors
    /// [`Fault::MissingSeries`] at the first of them, unless they may be skipped.
    fn missing(&self, there: &BTreeSet<&String>, rule: MissingSeries) -> Result<Vec<&String>, DatasetError> {
        let all: Vec<(&String, &String, usize)> = match self {
            Self::Tables(truth) => truth.by_series.iter().map(|(key, named)| (key, &named.file, named.line)).collect(),
            Self::Lidc(readings) => readings.iter().map(|(key, reading)| (key, &reading.file, 1)).collect(),
            // Its images were looked for when its description was read.
            Self::Decathlon(_) => Vec::new(),
        };
        let missing: Vec<_> = all.into_iter().filter(|(key, ..)| !there.contains(key)).collect();
        match missing.iter().min_by_key(|(_, file, line)| (*file, *line)) {
            Some((_, file, line)) if rule == MissingSeries::Refuse => {
                let reason = format!(
                    "the series of this line is not among the images ({} such series); `missing_series: skip` passes over them",
                    missing.len()
                );
                let (file, line) = ((*file).clone(), Some(*line));
                Err(DatasetError::Fault { fault: Fault::MissingSeries, file, line, reason })
            }
            _ => Ok(missing.into_iter().map(|(key, ..)| key).collect()),
        }
    }
}

/// Refuses what cannot be read, unless it is to be counted.
fn refuse_unread(read: &[Place], rule: Unreadable) -> Result<(), DatasetError> {
    for (place, number) in read.iter().zip(1..) {
        let series = place.unread.iter().map(|one| (&one.rule, &one.reason, "series"));
        let files = place.damaged.iter().map(|(rule, reason)| (rule, reason, "files"));
        if let Some((broken, reason, what)) = series.chain(files).next().filter(|_| rule == Unreadable::Refuse) {
            let at = Spot { place: number, places: read.len(), series: (1, 1) }.to_string();
            let reason = format!("{reason}; `unreadable: exclude` leaves such {what} out and counts them");
            return Err(DatasetError::Unreadable { at, rule: broken.clone(), reason });
        }
    }
    Ok(())
}

/// Every LIDC reading below a folder, by series.
fn readings(folder: &Path, config: &ImportConfig) -> Result<BTreeMap<String, lidc_xml::Reading>, DatasetError> {
    let mut readings: BTreeMap<String, lidc_xml::Reading> = BTreeMap::new();
    let unlisted = |error: DatasetError| error.naming("the folder of XML files");
    for path in files_of(folder).map_err(unlisted)? {
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
        return Err(none_in_all(
            config,
            "no XML file of LIDC-IDRI (LidcReadMessage) lies below the folder given for them",
        ));
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
                let patient = pseudonym(import.config, "patient", patient);
                let earlier = patients.insert(pseudonym(import.config, "series", series), patient.clone());
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

/// Whose a series is, where anything says it: its own name, what it states, the table.
fn patient(
    key: Option<&String>,
    stated: Option<&String>,
    config: &ImportConfig,
    table: &BTreeMap<String, String>,
) -> Option<String> {
    match &config.patients {
        Patients::Series => key.cloned(),
        Patients::Dicom => stated.cloned(),
        Patients::Table { .. } => key.and_then(|key| table.get(key).cloned()),
    }
}

fn no_patient(rule: &Patients) -> &'static str {
    match rule {
        Patients::Table { .. } => "the table of patients lacks the series",
        Patients::Dicom | Patients::Series => "the series states no Patient ID",
    }
}

fn centre(found: &Found, rule: &Centres) -> Result<String, DatasetError> {
    let given = match rule {
        Centres::One { name } => name.clone(),
        Centres::Folder => {
            let mut parts = found.path.components();
            let first = parts.next().filter(|_| parts.next().is_some());
            let first = first.ok_or_else(|| found.refuse("lies in no folder that could be a centre"))?;
            first.as_os_str().to_string_lossy().into_owned()
        }
        Centres::Manufacturer => {
            let stated = found.series.manufacturer.clone();
            stated.ok_or_else(|| found.refuse("the series states no Manufacturer"))?
        }
    };
    let centre = splits::centre_name(&given);
    if centre.is_empty() { Err(found.refuse("its centre's name has no letter or digit")) } else { Ok(centre) }
}

/// A name that can be a file's.
fn case_id(key: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
    let id: String = key.chars().map(safe).collect();
    if id.starts_with('.') { format!("_{id}") } else { id }
}

/// Refuses a series that is there twice: by its name, or by its voxels under another.
fn check_twins(found: &[Found]) -> Result<(), DatasetError> {
    let mut by_key: BTreeMap<String, &Found> = BTreeMap::new();
    let mut by_voxels: BTreeMap<&str, &Found> = BTreeMap::new();
    for one in found {
        if let Some(twin) = by_key.insert(case_id(&one.series.key), one) {
            return Err(one.fault(Fault::DuplicatedSeries, format!("its series is also at {}", twin.spot)));
        }
        if let Some(twin) = by_voxels.insert(&one.series.hu_sha256, one) {
            let same = one.series.patient == twin.series.patient;
            let fault = if same { Fault::DuplicatedSeries } else { Fault::DuplicatedPatient };
            return Err(one.fault(fault, format!("holds the same voxels as {} under another name", twin.spot)));
        }
    }
    Ok(())
}

/// One centre per patient, where all of them train: the one that is frozen while a scan of it is there, else the first by name.
fn centre_of_patients(
    members: &[Member],
    held_out: &[String],
    frozen: &BTreeMap<String, Assigned>,
) -> Result<BTreeMap<String, String>, DatasetError> {
    let mut centres: BTreeMap<String, (String, Spot)> = BTreeMap::new();
    for Member { found, patient, centre, .. } in members {
        let Some((first, other)) = centres.get_mut(patient) else {
            centres.insert(patient.clone(), (centre.clone(), found.spot));
            continue;
        };
        if held_out.contains(first) != held_out.contains(centre) {
            let reason = format!(
                "is of one patient with {other}, who was seen at the centres {first} and {centre}; one of them is held out"
            );
            return Err(found.fault(Fault::DuplicatedPatient, reason));
        }
        let kept = frozen.get(patient).map(|was| &was.centre);
        if Some(&*first) != kept && (Some(centre) == kept || *centre < *first) {
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
    fn add(&mut self, rule: (String, String), patient: Option<&'a str>) {
        let at = self.rules.iter().position(|(known, _)| *known == rule).unwrap_or_else(|| {
            self.rules.push((rule, Tally::default()));
            self.rules.len() - 1
        });
        self.rules[at].1.add(patient);
    }
}

fn counts<'a>(patients: impl Iterator<Item = Option<&'a str>>) -> Counts {
    let mut tally = Tally::default();
    patients.for_each(|patient| tally.add(patient));
    tally.counts()
}

fn flow(
    found: Counts,
    exclusions: Exclusions,
    members: &[Member],
    assigned: &BTreeMap<String, Assigned>,
    read: &[Place],
) -> Flow {
    let patients = || members.iter().map(|m| m.patient.as_str());
    let in_split = |split: Split| counts(patients().filter(|p| assigned[*p].split == split).map(Some));
    let nodules = || members.iter().filter_map(|m| m.nodules.as_ref()).flatten();
    let mut damaged_files = BTreeMap::new();
    for (rule, _) in read.iter().flat_map(|place| &place.damaged) {
        *damaged_files.entry(rule.clone()).or_default() += 1;
    }
    Flow {
        found,
        excluded: exclusions
            .rules
            .into_iter()
            .map(|((rule, limit), tally)| Excluded { rule, limit, counts: tally.counts() })
            .collect(),
        included: counts(patients().map(Some)),
        splits: [Split::Train, Split::Tune, Split::Test].map(|s| (s.name().to_owned(), in_split(s))).into(),
        nodules: nodules().filter(|nodule| !nodule.excluded).count(),
        ignored_findings: nodules().filter(|nodule| nodule.excluded).count(),
        without_reference: members.iter().filter(|m| m.nodules.is_none()).count(),
        in_no_table: members.iter().filter(|m| !m.in_table).count(),
        damaged_files,
    }
}
