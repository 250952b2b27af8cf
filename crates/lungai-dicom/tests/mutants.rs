//! Damaged files by the ten thousand: each gives its pixels or one error, in bounded time and memory.
//!
//! `cargo xtask fuzz --mutants N --seed S` sets `LUNGAI_MUTANTS` and `LUNGAI_FUZZ_SEED` and runs this. Memory is not
//! watched here but by the system: a decoding process that asked for more than 64 MiB and eight times the file's size
//! would be refused it and die, and no death is allowed.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use lungai_ct::{Acquisition, Geometry, Spacing, Volume, WorldPoint};
use lungai_dicom::{DicomError, Limits, SeriesTags, decode_files, read_within, write_series};
use lungai_trace::verifies;
use ndarray::Array3;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

mod made;

lungai_dicom::worker_in_tests!();

/// As in the other made files.
const PATIENT: &str = made::PATIENT;
/// Mutants that are written and read together.
const BATCH: u64 = 200;

struct Sample {
    name: String,
    bytes: Arc<Vec<u8>>,
}

#[verifies("FR-001", "FR-002", "SW-106", "R-005")]
#[test]
fn mutants_give_pixels_or_one_error() {
    let ask = |name: &str, usual: u64| std::env::var(name).map_or(usual, |text| text.parse().unwrap());
    let (mutants, seed) = (ask("LUNGAI_MUTANTS", 20_000), ask("LUNGAI_FUZZ_SEED", 1));
    let samples = samples();
    // Small files get the most mutants: they are as much structure in less time.
    let weights: Vec<f64> = samples.iter().map(|sample| 1.0 / (150_000.0 + sample.bytes.len() as f64)).collect();
    let total: f64 = weights.iter().sum();
    let pick = |rng: &mut StdRng| {
        let mut at = rng.random::<f64>() * total;
        let found = weights.iter().position(|weight| {
            at -= weight;
            at < 0.0
        });
        &samples[found.unwrap_or(0)]
    };
    let limits = Limits::default();
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    let mut faults = Vec::new();
    for first in (0..mutants).step_by(BATCH as usize) {
        let folder = tempfile::tempdir().unwrap();
        let mut names = Vec::new();
        let mut paths = Vec::new();
        for number in first..mutants.min(first + BATCH) {
            let mut rng = StdRng::seed_from_u64(seed << 32 | number);
            let sample = pick(&mut rng);
            let path = folder.path().join(format!("{number}"));
            fs::write(&path, mutate(&sample.bytes, &mut rng)).unwrap();
            names.push(format!("mutant {number} of {} (seed {seed})", sample.name));
            paths.push(path);
        }
        let mut blame = |name: &str, path: &Path, error: &DicomError| {
            assert!(!error.to_string().contains(PATIENT), "{name}: {error}");
            if is_fault(error) {
                let kept = std::env::temp_dir().join(format!("lungai-mutant-{seed}-{}", faults.len()));
                fs::copy(path, &kept).unwrap();
                faults.push(format!("{name}, kept as {}: {error}", kept.display()));
            }
        };
        for ((name, path), decoded) in names.iter().zip(&paths).zip(decode_files(&paths, &limits)) {
            let outcome = decoded.as_ref().map_or_else(DicomError::rule, |_| "pixels".to_owned());
            *outcomes.entry(outcome).or_default() += 1;
            if let Err(error) = &decoded {
                blame(name, path, error);
            }
            // The way to HU and to a volume, for a tenth: a mutant beside an undamaged slice.
            if path.to_string_lossy().ends_with('7') {
                let pair = tempfile::tempdir().unwrap();
                fs::copy(path, pair.path().join("mutant")).unwrap();
                fs::write(pair.path().join("whole"), &*samples[0].bytes).unwrap();
                match read_within(pair.path(), &limits) {
                    Err(error) => blame(name, path, &error),
                    Ok(input) => {
                        input.refused.iter().for_each(|series| blame(name, path, &series.error));
                        input.set_aside.iter().for_each(|file| blame(name, path, &file.reason));
                    }
                }
            }
        }
        // All of them in one folder, archives opened.
        match read_within(folder.path(), &limits) {
            Err(error) => blame("a folder of mutants", &paths[0], &error),
            Ok(input) => {
                input.refused.iter().for_each(|series| blame("a series of mutants", &paths[0], &series.error));
                for file in &input.set_aside {
                    let path = folder.path().join(file.file.split('/').next().unwrap());
                    blame(&format!("{} (seed {seed})", file.file), &path, &file.reason);
                }
            }
        }
    }
    eprintln!("{mutants} mutants of {} files, seed {seed}: {outcomes:#?}", samples.len());
    assert!(faults.is_empty(), "{} faults: {faults:#?}", faults.len());
    assert!(outcomes.len() >= 10.min(mutants as usize / 100), "the mutants break few rules: {outcomes:?}");
}

/// Crashes, hangs, and what a file must not be able to cause.
fn is_fault(error: &DicomError) -> bool {
    use DicomError::{Fault, NoAnswer, TooSlow, WorkerDied, WorkerNotInitialised, WorkerReply, WorkerStart};
    matches!(
        error.cause(),
        Fault
            | NoAnswer { .. }
            | TooSlow { .. }
            | WorkerDied { .. }
            | WorkerNotInitialised
            | WorkerReply
            | WorkerStart { .. }
    )
}

/// Files of our own writer in several containers, of other programs and, where there are any, of scanners.
fn samples() -> Vec<Sample> {
    let folder = tempfile::tempdir().unwrap();
    let spacing = Spacing::new([1.0; 3]).unwrap();
    let geometry = Geometry::new([2, 24, 32], spacing, WorldPoint([0.0; 3]), Geometry::AXIAL).unwrap();
    let hu = Array3::from_shape_fn((2, 24, 32), |(z, y, x)| (z * 500 + y * 20 + x) as i16 - 1000);
    let tags = SeriesTags::synthetic(PATIENT, "scan");
    let acquisition = Acquisition { padding_hu: Some(-2000), ..Acquisition::default() };
    write_series(&Volume::new(hu, geometry).unwrap(), &acquisition, &tags, folder.path()).unwrap();
    let [one, two] = ["000001.dcm", "000002.dcm"].map(|name| fs::read(folder.path().join(name)).unwrap());

    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in [("a", &one), ("b", &two)] {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        tar.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    let mut found = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>| found.push(Sample { name: name.to_owned(), bytes: Arc::new(bytes) });
    add("slice 1", one);
    add("slice 2", two);
    add("zip", zip.finish().unwrap().into_inner());
    let tar = tar.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    add("tar", tar);
    add("tar.gz", gzip.finish().unwrap());
    let mut paths = Vec::new();
    below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files"), &mut paths);
    paths.sort();
    for path in paths {
        add(&path.file_name().unwrap().to_string_lossy(), fs::read(&path).unwrap());
    }
    made::all().into_iter().for_each(|(name, bytes)| add(name, bytes));
    match std::env::var_os("LUNGAI_REFERENCE_DATA") {
        None => lungai_trace::not_evidenced("reference data absent: mutants of scanners' files"),
        Some(data) => {
            let mut paths = Vec::new();
            below(&Path::new(&data).join("dicom"), &mut paths);
            paths.extend(
                ["IMG0001.dcm", "IMG0040.dcm"].map(|name| Path::new(&data).join("ct/cip_ct64/dicom").join(name)),
            );
            paths.sort();
            for path in paths {
                let bytes = fs::read(&path).unwrap();
                let text = [".dump", ".csv", ".json"].iter().any(|ending| path.to_string_lossy().ends_with(ending));
                if !text {
                    add(&path.strip_prefix(&data).unwrap().to_string_lossy(), bytes);
                }
            }
        }
    }
    found
}

fn below(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { below(&path, files) } else { files.push(path) }
    }
}

/// One to three changes, mostly one: most files are to come as far as their pixels.
fn mutate(original: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = original.to_vec();
    let changes = *[1, 1, 1, 2, 3].choose(rng).unwrap();
    for _ in 0..changes {
        if bytes.len() < 16 {
            break;
        }
        change(&mut bytes, rng);
    }
    bytes
}

/// Numbers at which comparisons and sums go wrong.
const AWKWARD: [u32; 16] =
    [0, 1, 2, 7, 8, 12, 15, 16, 17, 32, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFE, 0xFFFF_FFFF];
const VRS: [&[u8; 2]; 16] =
    [b"SQ", b"UN", b"OB", b"OW", b"US", b"SS", b"DS", b"IS", b"UI", b"LO", b"AT", b"FD", b"OV", b"UT", b"PN", b"??"];
/// Group and element: items, delimiters, pixel data and tables, image attributes, functional groups, meta information.
const TAGS: [(u16, u16); 30] = [
    (0xFFFE, 0xE000),
    (0xFFFE, 0xE00D),
    (0xFFFE, 0xE0DD),
    (0x7FE0, 0x0010),
    (0x7FE0, 0x0001),
    (0x0028, 0x0002),
    (0x0028, 0x0004),
    (0x0028, 0x0006),
    (0x0028, 0x0008),
    (0x0028, 0x0010),
    (0x0028, 0x0011),
    (0x0028, 0x0030),
    (0x0028, 0x0100),
    (0x0028, 0x0101),
    (0x0028, 0x0102),
    (0x0028, 0x0103),
    (0x0028, 0x0120),
    (0x0028, 0x1052),
    (0x0028, 0x1053),
    (0x0028, 0x3000),
    (0x0028, 0x3002),
    (0x0028, 0x3006),
    (0x0020, 0x0032),
    (0x0020, 0x0037),
    (0x0020, 0x9056),
    (0x5200, 0x9229),
    (0x5200, 0x9230),
    (0x0008, 0x0005),
    (0x0002, 0x0010),
    (0x0008, 0x0016),
];

fn change(bytes: &mut Vec<u8>, rng: &mut StdRng) {
    let length = bytes.len();
    let awkward = |rng: &mut StdRng| *AWKWARD.choose(rng).unwrap();
    match rng.random_range(0..16) {
        // An element's length, by its VR.
        0 => {
            if let Some(at) = site(bytes, rng, |b| VRS.iter().any(|vr| b.starts_with(*vr))) {
                let wide = rng.random_bool(0.5);
                put(bytes, at + if wide { 4 } else { 2 }, &awkward(rng).to_le_bytes()[..if wide { 4 } else { 2 }]);
            }
        }
        // Another VR.
        1 => {
            if let Some(at) = site(bytes, rng, |b| VRS.iter().any(|vr| b.starts_with(*vr))) {
                put(bytes, at, *VRS.choose(rng).unwrap());
            }
        }
        // Another tag.
        2 => {
            if let Some(at) = tag_site(bytes, rng, &TAGS) {
                let (group, element) = *TAGS.choose(rng).unwrap();
                put(bytes, at, &[group.to_le_bytes(), element.to_le_bytes()].concat());
            }
        }
        // Length of an item or a fragment; value of an image attribute in explicit or implicit VR.
        3 => {
            if let Some(at) = tag_site(bytes, rng, &TAGS[..3]) {
                put(bytes, at + 4, &awkward(rng).to_le_bytes());
            }
        }
        4 | 5 => {
            if let Some(at) = tag_site(bytes, rng, &TAGS[5..]) {
                let value = awkward(rng);
                let (low, high) = ((value as u16).to_le_bytes(), (value as u16).to_be_bytes());
                put(bytes, at + 8, if rng.random_bool(0.8) { &low } else { &high });
            }
        }
        // Delimiters in wrong places.
        6 => {
            let at = rng.random_range(0..length);
            let delimiter =
                [b"\xFE\xFF\x00\xE0", b"\xFE\xFF\x0D\xE0", b"\xFE\xFF\xDD\xE0"].choose(rng).copied().unwrap();
            let eight = [*delimiter, awkward(rng).to_le_bytes()].concat();
            if rng.random_bool(0.5) { put(bytes, at, &eight) } else { drop(bytes.splice(at..at, eight)) }
        }
        // Markers of a codec and their lengths.
        7 | 8 => {
            if let Some(at) = site(bytes, rng, |b| matches!(b, [0xFF, 0x4F..=0xFE, ..])) {
                match rng.random_range(0..3) {
                    0 => put(bytes, at + 1, &[rng.random()]),
                    1 => put(bytes, at + 2, &(awkward(rng) as u16).to_be_bytes()),
                    _ => {
                        let within = at + rng.random_range(2..48);
                        put(bytes, within, &(awkward(rng)).to_be_bytes()[2..]);
                    }
                }
            }
        }
        9 => bytes.truncate(rng.random_range(length / 4..length)),
        // A part twice, or gone.
        10 => {
            let start = rng.random_range(0..length);
            let end = length.min(start + rng.random_range(1..200));
            let part = bytes[start..end].to_vec();
            if rng.random_bool(0.5) { drop(bytes.splice(end..end, part)) } else { drop(bytes.drain(start..end)) }
        }
        // A few bits of the pixels.
        11..=14 => {
            for _ in 0..rng.random_range(1..5) {
                let at = rng.random_range(length / 3..length);
                bytes[at] ^= 1 << rng.random_range(0..8);
            }
        }
        // Noise, half of it in the header; the file meta information is short and seldom hit.
        _ => {
            let start = if rng.random_bool(0.9) { length.min(400) - 1 } else { 0 };
            for _ in 0..rng.random_range(1..12) {
                let end = if rng.random_bool(0.5) { length.min(4000) } else { length };
                let at = rng.random_range(start..end);
                bytes[at] = rng.random();
            }
        }
    }
}

/// A random place from which on bytes look like this: half of the time in the first 8 kB.
fn site(bytes: &[u8], rng: &mut StdRng, looks: impl Fn(&[u8]) -> bool) -> Option<usize> {
    let end = if rng.random_bool(0.5) { bytes.len().min(8192) } else { bytes.len() };
    let start = rng.random_range(0..end);
    (start..end).chain(0..start).find(|at| looks(&bytes[*at..]))
}

fn tag_site(bytes: &[u8], rng: &mut StdRng, tags: &[(u16, u16)]) -> Option<usize> {
    let (group, element) = *tags.choose(rng)?;
    let little = [group.to_le_bytes(), element.to_le_bytes()].concat();
    let big = [group.to_be_bytes(), element.to_be_bytes()].concat();
    site(bytes, rng, |b| b.starts_with(&little) || b.starts_with(&big))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}
