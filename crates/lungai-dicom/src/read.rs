//! A folder, an archive or a file in; CT scans out.

use crate::header::Header;
use crate::identity::Identities;
use crate::job::Source;
use crate::series::{Broken, Plan, check_axial, check_kind, plan};
use crate::worker::{Failure, Reply, Want, run_all};
use crate::{DicomError, Limits};
use lungai_ct::{Scan, Volume};
use lungai_trace::implements;
use ndarray::Array3;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What one input held.
#[derive(Debug)]
pub struct DicomInput {
    /// The series that make volumes, most voxels first, then by series UID. [`read`] never gives none.
    pub scans: Vec<Scan>,
    /// CT series that do not make a volume, by series UID.
    pub refused: Vec<Refused>,
    /// Files that are no axial CT slices, in order of their names.
    pub set_aside: Vec<SetAside>,
    /// The files that each of the scans was read from, by series UID: those of its slices, or the archives that hold them.
    pub files: BTreeMap<String, BTreeSet<PathBuf>>,
    /// What the headers of all DICOM files, whatever became of them, still say about whom they show.
    pub identities: Identities,
}

/// A CT series that was not read.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// Series Instance UID.
    pub series_uid: String,
    /// Files in the series.
    pub files: usize,
    /// The rule that it breaks.
    pub error: DicomError,
}

/// A file that was not read.
#[derive(Debug, Clone, PartialEq)]
pub struct SetAside {
    /// Path below the input, within an archive `archive/name`. May hold personal data: file names often do.
    pub file: String,
    /// Its place among the files by sorted path, or within archives among their entries in their order; from 1. Tells nothing.
    pub at: usize,
    /// Why.
    pub reason: DicomError,
}

/// One file's pixels as they are stored, before rescale.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedFile {
    /// Frames; 1 for an ordinary slice.
    pub frames: usize,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// 1 for grey, 3 for colour.
    pub samples: usize,
    /// Transfer Syntax UID.
    pub transfer_syntax: String,
    /// Stored values: frames, rows, columns, samples.
    pub pixels: Vec<i32>,
}

/// Reads every CT series below `path`: a folder (recursively, any names, any order; zip, tar and
/// tar.gz files in it are opened too, one level), one of those, or one file. Files are told apart by content.
///
/// An HTTP service spools what it receives into a fresh folder under names of its own and calls this.
///
/// # Errors
/// [`DicomError`] where no series could be read: the reason of the largest refused series, else that of
/// the only file, else [`DicomError::NoCtSeries`]; or where the input as a whole breaks a limit.
pub fn read(path: &Path) -> Result<DicomInput, DicomError> {
    read_within(path, &Limits::default())
}

/// [`read`] with other limits.
///
/// # Errors
/// As [`read`].
pub fn read_within(path: &Path, limits: &Limits) -> Result<DicomInput, DicomError> {
    let input = survey(path, limits)?;
    if input.scans.is_empty() { Err(input.why_empty()) } else { Ok(input) }
}

/// As [`read`], but an input without a readable series is told in full like any other: what was refused and what was set aside.
///
/// # Errors
/// [`DicomError`] where the input as a whole breaks a limit or holds no file.
#[implements("FR-001")]
pub fn survey(path: &Path, limits: &Limits) -> Result<DicomInput, DicomError> {
    let files = list(path, limits)?;
    let files_in_all = files.len();
    let alone = files_in_all == 1 && files[0].1.path == path;
    let kept = AtomicUsize::new(0);
    let mut set_aside = Vec::new();
    let mut images = Vec::new();
    let mut entries = Vec::new();
    for (at, (name, source, look)) in (1..).zip(look_at(files, limits, &kept)?) {
        match look {
            Ok(Look::Image(header)) => images.push(Image { name, source, header, at }),
            Ok(Look::Archive(names)) => {
                let prefix = if alone { String::new() } else { format!("{name}/") };
                entries.extend(names.into_iter().map(|(index, inner)| {
                    (format!("{prefix}{inner}"), Source { path: source.path.clone(), entry: Some(index) })
                }));
            }
            Err(error) => set_aside.push(SetAside { file: name, at, reason: broken_input(error)? }),
        }
    }
    if images.len() + set_aside.len() + entries.len() > limits.files {
        return Err(DicomError::TooManyFiles { limit: limits.files });
    }
    let of = [files_in_all, entries.len()];
    for (at, (name, source, look)) in (1..).zip(look_at(entries, limits, &kept)?) {
        match look {
            Ok(Look::Image(header)) => images.push(Image { name, source, header, at }),
            Ok(Look::Archive(_)) => set_aside.push(SetAside { file: name, at, reason: DicomError::NestedArchive }),
            Err(error) => set_aside.push(SetAside { file: name, at, reason: broken_input(error)? }),
        }
    }
    if images.len() + set_aside.len() == 0 {
        return Err(DicomError::Empty);
    }
    let in_file = |file: usize, rule: DicomError| images[file].blame(of, rule);

    let mut by_series: BTreeMap<&str, Vec<(usize, &Header)>> = BTreeMap::new();
    for (file, Image { name, header, at, .. }) in images.iter().enumerate() {
        let missing = || DicomError::missing("SeriesInstanceUID");
        match check_kind(header).and_then(|()| if header.series_uid.is_empty() { Err(missing()) } else { Ok(()) }) {
            Ok(()) => by_series.entry(&header.series_uid).or_default().push((file, header)),
            Err(reason) => set_aside.push(SetAside { file: name.clone(), at: *at, reason }),
        }
    }
    let mut refused = Vec::new();
    let mut plans = Vec::new();
    for (series_uid, mut slices) in by_series {
        // A scout or a reformat among axial slices is set aside; a series of nothing else is refused as a whole.
        if slices.iter().any(|(_, header)| check_axial(header).is_ok()) {
            slices.retain(|(file, header)| match check_axial(header) {
                Err(reason @ DicomError::NonAxial { .. }) => {
                    set_aside.push(SetAside { file: images[*file].name.clone(), at: images[*file].at, reason });
                    false
                }
                _ => true,
            });
        }
        match plan(&slices).and_then(|plan| bounded(plan, limits)) {
            Ok(plan) => plans.push((series_uid, plan, slices)),
            Err(Broken { file, rule }) => {
                let error = file.map_or(rule.clone(), |file| in_file(file, rule));
                refused.push(Refused { series_uid: series_uid.to_owned(), files: slices.len(), error });
            }
        }
    }
    plans.sort_by_key(|(_, plan, _)| std::cmp::Reverse(voxels(plan)));
    let (mut scans, mut files) = (Vec::new(), BTreeMap::new());
    let (mut sum, limit) = (0u64, limits.input_voxels);
    for (series_uid, plan, slices) in plans {
        let head = slices[0].1;
        sum = sum.saturating_add(voxels(&plan));
        let read_from = plan.slices.iter().map(|slice| images[slice.file].source.path.clone()).collect();
        let volume = if sum <= limit {
            decode(plan, &images, limits).map_err(|Broken { file, rule }| match file {
                Some(file) => in_file(file, rule),
                None => rule,
            })
        } else {
            Err(DicomError::InputTooLarge { voxels: sum, limit })
        };
        match volume {
            Ok(volume) => {
                scans.push(scan(head, volume));
                files.insert(series_uid.to_owned(), read_from);
            }
            Err(error @ DicomError::WorkerNotInitialised) => return Err(error),
            Err(error) => {
                refused.push(Refused { series_uid: series_uid.to_owned(), files: slices.len(), error });
            }
        }
    }
    refused.sort_by(|a, b| a.series_uid.cmp(&b.series_uid));
    set_aside.sort_by(|a, b| a.file.cmp(&b.file));
    let identities = Identities::of(images.iter().map(|image| &*image.header));
    Ok(DicomInput { scans, refused, set_aside, files, identities })
}

impl DicomInput {
    /// Why there is no scan: the reason of the largest refused series, else that of the only file, else what most files lack.
    pub fn why_empty(&self) -> DicomError {
        let largest = self.refused.iter().rev().max_by_key(|series| series.files).map(|series| &series.error);
        let only = if let [one] = &self.set_aside[..] { Some(&one.reason) } else { None };
        largest.or(only).cloned().unwrap_or_else(|| {
            let mut rules: BTreeMap<String, usize> = BTreeMap::new();
            for file in &self.set_aside {
                *rules.entry(file.reason.rule()).or_default() += 1;
            }
            let mostly = rules.into_iter().max_by_key(|(_, count)| *count).map(|(rule, _)| rule).unwrap_or_default();
            DicomError::NoCtSeries { files: self.set_aside.len(), mostly }
        })
    }
}

/// Decodes one DICOM file of any kind, multi-frame and colour included, to its stored values.
///
/// # Errors
/// [`DicomError`] names the broken rule.
pub fn decode_file(path: &Path) -> Result<DecodedFile, DicomError> {
    decode_files(&[path], &Limits::default()).pop().unwrap_or(Err(DicomError::WorkerReply))
}

/// [`decode_file`] for many files side by side; results are in the order of the paths.
#[implements("FR-001", "SW-106")]
pub fn decode_files(paths: &[impl AsRef<Path> + Sync], limits: &Limits) -> Vec<Result<DecodedFile, DicomError>> {
    let source = |path: &&Path| Source { path: path.to_path_buf(), entry: None };
    let paths: Vec<&Path> = paths.iter().map(AsRef::as_ref).collect();
    run_all(paths, Want::Stored, limits, source, |_, reply, frames| {
        let Reply::File { header, frame_bytes } = reply else { return Err(Failure::Fatal(DicomError::WorkerReply)) };
        let layout = &header.layout;
        let (rows, columns, samples) = (layout.rows as usize, layout.columns as usize, usize::from(layout.samples));
        let values = rows.saturating_mul(columns).saturating_mul(samples);
        let all = (values as u64).saturating_mul(layout.frames.into());
        if all > limits.file_pixels || frame_bytes != 4 * values as u64 {
            return Err(Failure::Fatal(DicomError::WorkerReply));
        }
        let mut pixels = Vec::new();
        for frame in 0..layout.frames as usize {
            // Grows with what was really decoded, not with what the header promises.
            pixels.resize((frame + 1) * values, 0);
            frames.stored(&mut pixels[frame * values..])?;
        }
        let transfer_syntax = header.transfer_syntax.clone();
        Ok(DecodedFile { frames: layout.frames as usize, rows, columns, samples, transfer_syntax, pixels })
    })
}

/// A file itself, or the files below a folder by name, so that results do not depend on the file system's order.
fn list(path: &Path, limits: &Limits) -> Result<Vec<(String, Source)>, DicomError> {
    let mut files = Vec::new();
    if std::fs::metadata(path)?.is_dir() {
        walk(path, String::new(), 0, limits, &mut files)?;
    } else {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.push((name, Source { path: path.to_owned(), entry: None }));
    }
    Ok(files)
}

fn walk(
    folder: &Path,
    prefix: String,
    depth: usize,
    limits: &Limits,
    files: &mut Vec<(String, Source)>,
) -> Result<(), DicomError> {
    if depth > limits.folder_depth {
        return Err(DicomError::FoldersTooDeep { limit: limits.folder_depth });
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        paths.push((entry.file_name(), entry.file_type()?, entry.path()));
        if files.len() + paths.len() > limits.files {
            return Err(DicomError::TooManyFiles { limit: limits.files });
        }
    }
    paths.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, kind, path) in paths {
        let name = format!("{prefix}{}", name.to_string_lossy());
        // Links to folders could lead in circles; links to files are followed when they are opened.
        if kind.is_dir() {
            walk(&path, format!("{name}/"), depth + 1, limits, files)?;
        } else {
            files.push((name, Source { path, entry: None }));
        }
    }
    Ok(())
}

/// A DICOM file among those of the input.
struct Image {
    name: String,
    source: Source,
    header: Box<Header>,
    /// Counted from 1, among files by sorted path or among the entries of archives.
    at: usize,
}

impl Image {
    /// Says which file breaks a rule without its name; `of`: how many files there are, and how many entries of archives.
    fn blame(&self, of: [usize; 2], rule: DicomError) -> DicomError {
        let (files, order) = match self.source.entry {
            None => (of[0], "by sorted path"),
            Some(_) => (of[1], "in the order of the archive"),
        };
        if files == 1 || broken_input(rule.clone()).is_err() {
            return rule;
        }
        DicomError::InFile { file: self.at, files, order: order.to_owned(), reason: Box::new(rule) }
    }
}

enum Look {
    Image(Box<Header>),
    Archive(Vec<(usize, String)>),
}

/// A file's name, its place, and what it turned out to be.
type Seen = (String, Source, Result<Look, DicomError>);

/// `kept` counts what [`Limits::frames`] bounds.
fn look_at(files: Vec<(String, Source)>, limits: &Limits, kept: &AtomicUsize) -> Result<Vec<Seen>, DicomError> {
    let jobs: Vec<&Source> = files.iter().map(|(_, source)| source).collect();
    let looks = run_all(
        jobs,
        Want::Header,
        limits,
        |source| (*source).clone(),
        |_, reply, _| {
            let more = match &reply {
                Reply::File { header, .. } => header.planes.len(),
                Reply::Archive(entries) => entries.len(),
            };
            // What is beyond is dropped at once; the input as a whole is refused when all children are done.
            if kept.fetch_add(more, Ordering::Relaxed).saturating_add(more) > limits.frames {
                return Err(Failure::Refused(DicomError::TooManyFrames { limit: limits.frames }));
            }
            Ok(match reply {
                Reply::File { header, .. } => Look::Image(header),
                Reply::Archive(entries) => Look::Archive(entries.into_iter().map(|e| (e.index, e.name)).collect()),
            })
        },
    );
    if kept.load(Ordering::Relaxed) > limits.frames {
        return Err(DicomError::TooManyFrames { limit: limits.frames });
    }
    Ok(files.into_iter().zip(looks).map(|((name, source), look)| (name, source, look)).collect())
}

/// A fault of ours or of the machine is not a property of one file.
fn broken_input(error: DicomError) -> Result<DicomError, DicomError> {
    match error {
        DicomError::WorkerNotInitialised | DicomError::WorkerStart { .. } => Err(error),
        _ => Ok(error),
    }
}

fn voxels(plan: &Plan) -> u64 {
    plan.geometry.size().iter().map(|n| *n as u64).product()
}

fn bounded<'a>(plan: Plan<'a>, limits: &Limits) -> Result<Plan<'a>, Broken> {
    let voxels = voxels(&plan);
    let limit = limits.series_voxels;
    if voxels > limit { Err(DicomError::SeriesTooLarge { voxels, limit }.into()) } else { Ok(plan) }
}

/// Decodes all files of a plan straight into the volume.
fn decode(plan: Plan, images: &[Image], limits: &Limits) -> Result<Volume, Broken> {
    let [z, y, x] = plan.geometry.size();
    let mut hu = Array3::<i16>::zeros((z, y, x));
    let slabs = hu.as_slice_mut().expect("a fresh array is contiguous").chunks_exact_mut(y * x);
    // A multi-frame file fills many slices.
    let mut by_file: HashMap<usize, Vec<(u32, &mut [i16])>> = HashMap::new();
    for (slice, slab) in plan.slices.iter().zip(slabs) {
        by_file.entry(slice.file).or_default().push((slice.frame, slab));
    }
    let mut jobs: Vec<_> = by_file.into_iter().collect();
    jobs.sort_by_key(|(file, _)| *file);
    let (mut plain, mut coded) = (Vec::new(), Vec::new());
    for (file, slabs) in jobs {
        match images[file].header.plain {
            Some(place) => plain.extend(slabs.into_iter().map(|(_, slab)| (file, place, slab))),
            None => coded.push((file, slabs)),
        }
    }
    let read = plain.into_par_iter().map(|(file, place, slab)| {
        let Image { source, header, .. } = &images[file];
        place.read(&source.path, &header.layout, slab).map_err(|rule| Broken { file: Some(file), rule })
    });
    // All are read before the first error is taken, so that it does not depend on the threads.
    read.collect::<Vec<_>>().into_iter().collect::<Result<(), _>>()?;
    let files: Vec<usize> = coded.iter().map(|(file, _)| *file).collect();
    let source = |(file, _): &(usize, _)| images[*file].source.clone();
    let done = run_all(coded, Want::Hu, limits, source, |(file, mut slabs), reply, pixels| {
        let seen = &images[file].header;
        let same = |header: &Header| header.layout == seen.layout && header.planes == seen.planes;
        if !matches!(reply, Reply::File { header, .. } if same(&header) && slabs.len() == seen.planes.len()) {
            return Err(Failure::Fatal(DicomError::Changed)); // it has sent frames that nobody reads
        }
        slabs.sort_by_key(|(frame, _)| *frame);
        for (_, slab) in &mut slabs {
            pixels.hu(slab)?;
        }
        Ok(())
    });
    let done = done.into_iter().zip(files).map(|(done, file)| done.map_err(|rule| Broken { file: Some(file), rule }));
    done.collect::<Result<(), _>>()?;
    Ok(Volume::new(hu, plan.geometry).expect("the array was made by the geometry"))
}

fn scan(head: &Header, volume: Volume) -> Scan {
    Scan {
        series_uid: head.series_uid.clone(),
        study_uid: head.study_uid.clone(),
        frame_of_reference_uid: head.frame_of_reference_uid.clone(),
        patient_id: head.patient_id.clone(),
        modality: head.modality.clone(),
        transfer_syntax: head.transfer_syntax.clone(),
        acquisition: head.acquisition(),
        volume,
    }
}
