//! Predictions as files: a Parquet file for each shard, a JSON file beside it that says what they are of and holds their
//! SHA-256, and one manifest for all shards, made by merging. Any changed byte is found before anything is analysed.
//!
//! Columns of the Parquet files, in which a line is a scan (`row` is `scan`) or a mark (`row` is `mark`):
//! `case`; of scans `quality`, `quality_rules`, `dice_*`, `hd95_*_mm`, `surface_dice_*`, seconds of each stage and how it was
//! acquired; of marks `system` (`model` or `baseline`), `x_lps_mm`, `y_lps_mm`, `z_lps_mm`, `score`, `diameter_mm` and
//! `malignancy`.

use crate::failure::{Failure, file_name, io};
use crate::record::{Covariates, Prediction, Seconds, Side, SystemMark};
use lungai_datasets::sha256;
use lungai_trace::implements;
use polars::prelude::{Column, DataFrame, df};
use polars_io::SerReader;
use polars_io::parquet::read::ParquetReader;
use polars_io::parquet::write::ParquetWriter;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Part `index` of `of`: every `of`-th case, beginning with case `index`, counted from 0 as Kubernetes and Slurm count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Which.
    pub index: usize,
    /// Of how many.
    pub of: usize,
}

impl Shard {
    /// Everything.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// Whether the case at this place belongs to it.
    pub fn holds(self, place: usize) -> bool {
        place % self.of == self.index
    }

    /// Path of one of its files: `shard-0-of-4.parquet`.
    pub fn file(self, folder: &Path, ending: &str) -> PathBuf {
        folder.join(format!("shard-{}-of-{}.{ending}", self.index, self.of))
    }
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, of)) if index < of && of <= 10_000 => Ok(Self { index, of }),
            _ => Err(format!("`{text}` is no part of a whole: i/n with i from 0 to n - 1")),
        }
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

/// What predictions are of: everything that must be the same for two shards to be parts of one whole, and for a run to be
/// the continuation of another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Name and version of the protocol.
    pub protocol: String,
    /// SHA-256 of what it says.
    pub protocol_sha256: String,
    /// Fingerprint of the data set.
    pub data_fingerprint: String,
    /// SHA-256 of each table beside the data set that the protocol names.
    pub tables: BTreeMap<String, String>,
    /// Cases of all shards.
    pub cases: usize,
    /// SHA-256 of their names, one a line.
    pub cases_sha256: String,
    /// Name of the model.
    pub model: String,
    /// Its version.
    pub model_version: String,
    /// SHA-256 that pins it.
    pub model_sha256: String,
    /// Whether it was trained on synthetic data.
    pub model_synthetic: bool,
    /// Score at which it is operated.
    pub operating_threshold: f64,
    /// Where the networks ran.
    pub device: String,
    /// SHA-256 of the program.
    pub program_sha256: String,
}

/// The file beside a shard's Parquet file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShardManifest {
    identity: Identity,
    shard: Shard,
    cases: Vec<String>,
    /// Name of the Parquet file.
    file: String,
    /// Its SHA-256.
    sha256: String,
}

/// The file that binds all shards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WholeManifest {
    identity: Identity,
    /// SHA-256 of each shard's manifest, by its name, in the order of the shards.
    shards: Vec<(String, String)>,
}

const WHOLE: &str = "predictions.json";

/// Predictions that were read, with what they are of.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    /// What they are of.
    pub identity: Identity,
    /// SHA-256 of the manifest, which pins every byte of them.
    pub sha256: String,
    /// Each part's manifest by name, and its SHA-256.
    pub parts: Vec<(String, String)>,
    /// One for each case.
    pub cases: Vec<Prediction>,
}

/// Hash and number of the names of cases, for an [`Identity`].
pub fn names<'a>(cases: impl Iterator<Item = &'a str>) -> (usize, String) {
    let names: Vec<&str> = cases.collect();
    (names.len(), sha256(names.join("\n").as_bytes()))
}

/// Writes a shard: the Parquet file first, its manifest last. In between `conclude` hears the SHA-256 of the manifest:
/// without a manifest there is no shard, so that none counts that it did not hear of.
///
/// # Errors
/// What the file system or `conclude` says.
pub fn write_shard(
    folder: &Path,
    identity: &Identity,
    shard: Shard,
    cases: &[Prediction],
    conclude: &dyn Fn(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let path = shard.file(folder, "parquet");
    let mut bytes = Vec::new();
    ParquetWriter::new(&mut bytes).finish(&mut frame(cases)?).map_err(io(&path))?;
    let manifest = ShardManifest {
        identity: identity.clone(),
        shard,
        cases: cases.iter().map(|prediction| prediction.case.clone()).collect(),
        file: file_name(&path),
        sha256: sha256(&bytes),
    };
    put(&path, &bytes)?;
    let manifest = pretty(&manifest);
    conclude(&sha256(&manifest))?;
    put(&shard.file(folder, "json"), &manifest)
}

/// Whether a shard is finished and whole.
///
/// # Errors
/// `other-run` where the folder holds finished parts of something else, `tampered-predictions` (exit code 4).
#[implements("SW-1102")]
pub fn finished(folder: &Path, identity: &Identity, shard: Shard) -> Result<bool, Failure> {
    let mut own = None;
    for (path, manifest) in manifests(folder)? {
        if manifest.identity != *identity || manifest.shard.of != shard.of {
            let message = format!(
                "the folder holds finished predictions of something else ({}); choose another, or remove {}",
                differs(&manifest.identity, identity),
                file_name(&path)
            );
            return Err(Failure::new("other-run", message));
        }
        if manifest.shard == shard {
            own = Some(manifest);
        }
    }
    own.map_or(Ok(false), |manifest| read_shard(folder, &manifest).map(|_| true))
}

/// The manifests of the finished shards of a folder, in their order.
fn manifests(folder: &Path) -> Result<Vec<(PathBuf, ShardManifest)>, Failure> {
    let mut found: Vec<(PathBuf, ShardManifest)> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io(folder))? {
        let path = entry.map_err(io(folder))?.path();
        let name = file_name(&path);
        if name.starts_with("shard-") && name.ends_with(".json") {
            found.push((path.clone(), parse(&path, &bytes(&path)?)?));
        }
    }
    found.sort_by_key(|(_, manifest)| manifest.shard.index);
    Ok(found)
}

/// Binds the shards of a folder to a whole. Returns its number of cases and the SHA-256 of its manifest.
///
/// # Errors
/// `missing-shards` (exit code 75), `other-run` where shards are of different runs, `tampered-predictions` (exit code 4).
#[implements("SW-1102")]
pub fn merge(folder: &Path) -> Result<(usize, String), Failure> {
    let found = manifests(folder)?;
    let Some((_, first)) = found.first() else {
        return Err(Failure::later("missing-shards", "no shard is finished yet"));
    };
    for (path, manifest) in &found[1..] {
        if manifest.identity != first.identity || manifest.shard.of != first.shard.of {
            let message = format!(
                "{} is of another run than {}: {}",
                file_name(path),
                first.file,
                differs(&first.identity, &manifest.identity)
            );
            return Err(Failure::new("other-run", message));
        }
    }
    let of = first.shard.of;
    let missing: Vec<String> =
        (0..of).filter(|i| !found.iter().any(|(_, m)| m.shard.index == *i)).map(|i| format!("{i}/{of}")).collect();
    if !missing.is_empty() {
        return Err(Failure::later("missing-shards", format!("not finished yet: {}", missing.join(", "))));
    }
    let mut cases = 0;
    for (_, manifest) in &found {
        cases += read_shard(folder, manifest)?.len();
    }
    let identity = first.identity.clone();
    if cases != identity.cases {
        let message = format!("the shards hold {cases} cases, the run has {}", identity.cases);
        return Err(Failure::integrity("tampered-predictions", message));
    }
    let shards = found
        .iter()
        .map(|(path, _)| Ok((file_name(path), sha256(&bytes(path)?))))
        .collect::<Result<Vec<_>, Failure>>()?;
    let text = pretty(&WholeManifest { identity, shards });
    put(&folder.join(WHOLE), &text)?;
    Ok((cases, sha256(&text)))
}

/// Reads merged predictions from their folder, or from a folder for results that holds it.
///
/// # Errors
/// `no-predictions`, `tampered-predictions` (exit code 4) names the file.
#[implements("SW-1102", "SR-002")]
pub fn read(folder: &Path) -> Result<Predictions, Failure> {
    let inner = folder.join("predictions");
    let folder = if inner.join(WHOLE).exists() { inner.as_path() } else { folder };
    let path = folder.join(WHOLE);
    if !path.exists() {
        let message = format!("no {WHOLE}: `predict` all shards, then `merge` them");
        return Err(Failure::new("no-predictions", message));
    }
    let text = bytes(&path)?;
    let whole: WholeManifest = parse(&path, &text)?;
    let mut cases = Vec::new();
    let mut names = BTreeSet::new();
    for (name, declared) in &whole.shards {
        let path = folder.join(name);
        let text = bytes(&path)?;
        let found = sha256(&text);
        if found != *declared {
            return Err(tampered(name, declared, &found));
        }
        let manifest: ShardManifest = parse(&path, &text)?;
        for prediction in read_shard(folder, &manifest)? {
            if !names.insert(prediction.case.clone()) {
                let message = format!("{}: case `{}` is there twice", manifest.file, prediction.case);
                return Err(Failure::integrity("tampered-predictions", message));
            }
            cases.push(prediction);
        }
    }
    Ok(Predictions { identity: whole.identity, sha256: sha256(&text), parts: whole.shards, cases })
}

fn read_shard(folder: &Path, manifest: &ShardManifest) -> Result<Vec<Prediction>, Failure> {
    let path = folder.join(&manifest.file);
    let bytes = bytes(&path)?;
    let found = sha256(&bytes);
    if found != manifest.sha256 {
        return Err(tampered(&manifest.file, &manifest.sha256, &found));
    }
    let frame = ParquetReader::new(std::io::Cursor::new(bytes)).finish().map_err(io(&path))?;
    let cases = unframe(&frame)
        .map_err(|what| Failure::integrity("tampered-predictions", format!("{}: {what}", manifest.file)))?;
    if !cases.iter().map(|prediction| &prediction.case).eq(&manifest.cases) {
        let message = format!("{}: its cases are not those of its manifest", manifest.file);
        return Err(Failure::integrity("tampered-predictions", message));
    }
    Ok(cases)
}

fn tampered(file: &str, declared: &str, found: &str) -> Failure {
    Failure::integrity("tampered-predictions", format!("{file} has SHA-256 {found}, its manifest says {declared}"))
}

/// The first field in which two identities differ.
pub fn differs(one: &Identity, other: &Identity) -> String {
    let [one, other] = [one, other].map(|identity| serde_json::to_value(identity).expect("plain data"));
    let fields = one.as_object().into_iter().flatten();
    let different = fields.filter(|(key, value)| other.get(key) != Some(value)).map(|(key, _)| key.as_str());
    let different: Vec<&str> = different.collect();
    if different.is_empty() { "number of shards".into() } else { different.join(", ") }
}

/// Writes a file so that it is there whole or not at all.
fn put(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut unfinished = path.to_owned().into_os_string();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    std::fs::write(&unfinished, bytes).map_err(io(path))?;
    std::fs::rename(&unfinished, path).map_err(io(path))
}

fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(io(path))
}

fn parse<T: for<'de> Deserialize<'de>>(path: &Path, bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes)
        .map_err(|error| Failure::integrity("tampered-predictions", format!("{}: {error}", file_name(path))))
}

fn pretty(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("plain data");
    bytes.push(b'\n');
    bytes
}

/// A line of the table: a scan, or one mark of a system in it.
type Line<'a> = (&'a Prediction, Option<(&'static str, &'a SystemMark)>);

fn frame(cases: &[Prediction]) -> Result<DataFrame, Failure> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for prediction in cases {
        lines.push((prediction, None));
        let baseline = prediction.baseline.as_deref().unwrap_or_default();
        for (system, marks) in [("model", prediction.marks.as_slice()), ("baseline", baseline)] {
            lines.extend(marks.iter().map(|mark| (prediction, Some((system, mark)))));
        }
    }
    let mark = |f: &dyn Fn(&SystemMark) -> Option<f64>| {
        lines.iter().map(|(_, mark)| mark.and_then(|(_, mark)| f(mark))).collect::<Vec<Option<f64>>>()
    };
    let scan = |f: &dyn Fn(&Prediction) -> Option<f64>| {
        lines.iter().map(|(scan, mark)| if mark.is_none() { f(scan) } else { None }).collect::<Vec<Option<f64>>>()
    };
    let words = |f: &dyn Fn(&Prediction) -> Option<String>| {
        lines.iter().map(|(scan, mark)| if mark.is_none() { f(scan) } else { None }).collect::<Vec<Option<String>>>()
    };
    let side = |i: usize, f: &dyn Fn(&Side) -> Option<f64>| scan(&|p| f(&p.lungs?[i]));
    let contrast: Vec<Option<bool>> =
        lines.iter().map(|(scan, mark)| if mark.is_none() { scan.acquisition.contrast } else { None }).collect();
    df!(
        "row" => lines.iter().map(|(_, mark)| if mark.is_some() { "mark" } else { "scan" }).collect::<Vec<_>>(),
        "case" => lines.iter().map(|(scan, _)| scan.case.as_str()).collect::<Vec<_>>(),
        "system" => lines.iter().map(|(_, mark)| mark.map(|(system, _)| system)).collect::<Vec<_>>(),
        "x_lps_mm" => mark(&|m| Some(m.position_lps_mm[0])),
        "y_lps_mm" => mark(&|m| Some(m.position_lps_mm[1])),
        "z_lps_mm" => mark(&|m| Some(m.position_lps_mm[2])),
        "score" => mark(&|m| Some(m.score)),
        "diameter_mm" => mark(&|m| m.diameter_mm),
        "malignancy" => mark(&|m| m.malignancy),
        "quality" => words(&|p| Some(p.quality.clone())),
        "quality_rules" => words(&|p| Some(p.quality_rules.join(" "))),
        "dice_right" => side(0, &|s| Some(s.dice)),
        "dice_left" => side(1, &|s| Some(s.dice)),
        "hd95_right_mm" => side(0, &|s| s.hd95_mm),
        "hd95_left_mm" => side(1, &|s| s.hd95_mm),
        "surface_dice_right" => side(0, &|s| Some(s.surface_dice)),
        "surface_dice_left" => side(1, &|s| Some(s.surface_dice)),
        "load_s" => scan(&|p| p.seconds?.load),
        "preprocess_s" => scan(&|p| Some(p.seconds?.preprocess)),
        "segment_s" => scan(&|p| Some(p.seconds?.segment)),
        "detect_s" => scan(&|p| Some(p.seconds?.detect)),
        "classify_s" => scan(&|p| Some(p.seconds?.classify)),
        "total_s" => scan(&|p| p.seconds?.total),
        "slice_thickness_mm" => scan(&|p| p.acquisition.slice_thickness_mm),
        "slice_distance_mm" => scan(&|p| p.acquisition.slice_distance_mm),
        "exposure_mas" => scan(&|p| p.acquisition.exposure_mas),
        "tube_kv" => scan(&|p| p.acquisition.tube_kv),
        "kernel" => words(&|p| p.acquisition.kernel.clone()),
        "manufacturer" => words(&|p| p.acquisition.manufacturer.clone()),
        "scanner" => words(&|p| p.acquisition.model.clone()),
        "contrast" => contrast,
    )
    .map_err(|error| Failure::new("table", error.to_string()))
}

/// The inverse of [`frame`], or what is wrong.
fn unframe(frame: &DataFrame) -> Result<Vec<Prediction>, String> {
    let column = |name: &str| frame.column(name).map_err(|error| error.to_string());
    let numbers = |name: &str| -> Result<Vec<Option<f64>>, String> { floats(column(name)?) };
    let texts = |name: &str| -> Result<Vec<Option<String>>, String> {
        let column = column(name)?.str().map_err(|error| error.to_string())?.clone();
        Ok(column.iter().map(|text| text.map(str::to_owned)).collect())
    };
    let (row, case, system) = (texts("row")?, texts("case")?, texts("system")?);
    let position = [numbers("x_lps_mm")?, numbers("y_lps_mm")?, numbers("z_lps_mm")?];
    let (score, diameter, malignancy) = (numbers("score")?, numbers("diameter_mm")?, numbers("malignancy")?);
    let (quality, rules) = (texts("quality")?, texts("quality_rules")?);
    let dice = [numbers("dice_right")?, numbers("dice_left")?];
    let hd95 = [numbers("hd95_right_mm")?, numbers("hd95_left_mm")?];
    let surface = [numbers("surface_dice_right")?, numbers("surface_dice_left")?];
    let [load, preprocess, segment, detect, classify, total] = [
        numbers("load_s")?,
        numbers("preprocess_s")?,
        numbers("segment_s")?,
        numbers("detect_s")?,
        numbers("classify_s")?,
        numbers("total_s")?,
    ];
    let (thickness, distance) = (numbers("slice_thickness_mm")?, numbers("slice_distance_mm")?);
    let (exposure, tube) = (numbers("exposure_mas")?, numbers("tube_kv")?);
    let (kernel, manufacturer, scanner) = (texts("kernel")?, texts("manufacturer")?, texts("scanner")?);
    let contrast: Vec<Option<bool>> = column("contrast")?.bool().map_err(|error| error.to_string())?.iter().collect();

    let mut cases: Vec<Prediction> = Vec::new();
    for at in 0..frame.height() {
        let name = case[at].clone().ok_or("a line names no case")?;
        let needed = |value: &[Option<f64>]| value[at].ok_or_else(|| format!("case {name} lacks a number"));
        if row[at].as_deref() == Some("scan") {
            let side = |i: usize| -> Option<Side> {
                Some(Side { dice: dice[i][at]?, hd95_mm: hd95[i][at], surface_dice: surface[i][at]? })
            };
            cases.push(Prediction {
                quality: quality[at].clone().ok_or("a scan has no quality")?,
                quality_rules: rules[at].iter().flat_map(|rules| rules.split_whitespace()).map(str::to_owned).collect(),
                lungs: side(0).zip(side(1)).map(|(right, left)| [right, left]),
                seconds: Some(Seconds {
                    load: load[at],
                    preprocess: needed(&preprocess)?,
                    segment: needed(&segment)?,
                    detect: needed(&detect)?,
                    classify: needed(&classify)?,
                    total: total[at],
                }),
                acquisition: Covariates {
                    slice_thickness_mm: thickness[at],
                    slice_distance_mm: distance[at],
                    kernel: kernel[at].clone(),
                    exposure_mas: exposure[at],
                    tube_kv: tube[at],
                    manufacturer: manufacturer[at].clone(),
                    model: scanner[at].clone(),
                    contrast: contrast[at],
                    sex: None,
                    age_years: None,
                },
                case: name,
                marks: Vec::new(),
                // Shards are made here, where the baseline runs on every scan that is analysed.
                baseline: Some(Vec::new()),
            });
            continue;
        }
        let mark = SystemMark {
            position_lps_mm: [needed(&position[0])?, needed(&position[1])?, needed(&position[2])?],
            score: needed(&score)?,
            diameter_mm: diameter[at],
            malignancy: malignancy[at],
        };
        let scan = cases.last_mut().filter(|scan| scan.case == name).ok_or("a mark without its scan")?;
        match system[at].as_deref() {
            Some("model") => scan.marks.push(mark),
            Some("baseline") => scan.baseline.get_or_insert_default().push(mark),
            _ => return Err(format!("case {name} has a mark of no system")),
        }
    }
    Ok(cases)
}

fn floats(column: &Column) -> Result<Vec<Option<f64>>, String> {
    Ok(column.f64().map_err(|error| error.to_string())?.iter().collect())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use lungai_trace::verifies;

    pub fn identity() -> Identity {
        Identity {
            protocol: "p 1".into(),
            protocol_sha256: "p".into(),
            data_fingerprint: "d".into(),
            tables: BTreeMap::from([("readings/r1.csv".into(), "t".into())]),
            cases: 3,
            cases_sha256: "c".into(),
            model: "net".into(),
            model_version: "1".into(),
            model_sha256: "m".into(),
            model_synthetic: true,
            operating_threshold: 0.5,
            device: "cpu".into(),
            program_sha256: "x".into(),
        }
    }

    pub fn prediction(case: &str) -> Prediction {
        let mark = SystemMark {
            position_lps_mm: [1.5, -2.25, 1.0 / 3.0],
            score: 0.1,
            diameter_mm: Some(6.0),
            malignancy: None,
        };
        let side = Side { dice: 0.97, hd95_mm: None, surface_dice: 0.9 };
        Prediction {
            case: case.into(),
            quality: "warn".into(),
            quality_rules: vec!["noise".into(), "kernel".into()],
            lungs: Some([side, Side { hd95_mm: Some(2.5), ..side }]),
            seconds: Some(Seconds { load: Some(0.1), total: Some(0.3), ..Seconds::default() }),
            acquisition: Covariates {
                slice_thickness_mm: Some(1.25),
                kernel: Some("B60f".into()),
                contrast: Some(false),
                ..Covariates::default()
            },
            marks: vec![SystemMark { malignancy: Some(0.2), score: 0.9, ..mark }, mark],
            baseline: Some(vec![mark]),
        }
    }

    /// Two shards of three cases.
    fn shards(folder: &Path) {
        let bare =
            Prediction { lungs: None, marks: vec![], baseline: Some(vec![]), quality_rules: vec![], ..prediction("b") };
        write_shard(folder, &identity(), Shard { index: 0, of: 2 }, &[prediction("a"), prediction("c")], &|_| Ok(()))
            .unwrap();
        write_shard(folder, &identity(), Shard { index: 1, of: 2 }, &[bare], &|_| Ok(())).unwrap();
    }

    #[test]
    fn predictions_survive_their_files() {
        let folder = tempfile::tempdir().unwrap();
        shards(folder.path());
        let (cases, sha256) = merge(folder.path()).unwrap();
        let read = read(folder.path()).unwrap();
        assert_eq!((cases, &sha256, &read.identity), (3, &read.sha256, &identity()));
        assert_eq!(read.cases[0], prediction("a"));
        assert_eq!(read.cases[1], prediction("c"));
        assert_eq!((read.cases[2].case.as_str(), read.cases[2].lungs, read.cases[2].marks.len()), ("b", None, 0));
    }

    fn check_read(folder: &Path, exit: u8, rule: &str, part: &str) {
        let failure = read(folder).unwrap_err();
        assert_eq!((failure.exit, failure.rule.as_str()), (exit, rule), "{}", failure.message);
        assert!(failure.message.contains(part), "{}", failure.message);
    }

    #[verifies("SW-1102", "SR-002")]
    #[test]
    fn one_changed_byte_is_found_in_whatever_file_it_is() {
        for file in ["shard-0-of-2.parquet", "shard-1-of-2.json", "shard-0-of-2.json"] {
            let folder = tempfile::tempdir().unwrap();
            shards(folder.path());
            merge(folder.path()).unwrap();
            let path = folder.path().join(file);
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            check_read(folder.path(), 4, "tampered-predictions", file);
        }
    }

    #[test]
    fn shards_that_are_missing_or_of_another_run_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let failure = merge(folder.path()).unwrap_err();
        assert_eq!((failure.exit, failure.rule.as_str()), (75, "missing-shards"));
        check_read(folder.path(), 1, "no-predictions", "merge");
        write_shard(folder.path(), &identity(), Shard { index: 2, of: 3 }, &[prediction("a")], &|_| Ok(())).unwrap();
        let failure = merge(folder.path()).unwrap_err();
        assert_eq!((failure.exit, failure.message.as_str()), (75, "not finished yet: 0/3, 1/3"));
        let other = Identity { model_sha256: "n".into(), ..identity() };
        write_shard(folder.path(), &other, Shard { index: 1, of: 3 }, &[prediction("b")], &|_| Ok(())).unwrap();
        let failure = merge(folder.path()).unwrap_err();
        assert_eq!((failure.exit, failure.rule.as_str()), (1, "other-run"));
        assert!(failure.message.ends_with("model_sha256"), "{}", failure.message);
    }

    #[verifies("SW-1102")]
    #[test]
    fn a_finished_part_stays_and_parts_of_another_run_are_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (Shard { index: 0, of: 2 }, Shard { index: 1, of: 2 });
        assert_eq!(finished(folder.path(), &identity(), first).ok(), Some(false));
        shards(folder.path());
        std::fs::remove_file(second.file(folder.path(), "json")).unwrap();
        assert_eq!(finished(folder.path(), &identity(), first).ok(), Some(true));
        assert_eq!(finished(folder.path(), &identity(), second).ok(), Some(false));
        let other = Identity { program_sha256: "y".into(), ..identity() };
        let refused = |identity: &Identity, shard: Shard, part: &str| {
            let failure = finished(folder.path(), identity, shard).unwrap_err();
            assert!(failure.message.contains(part), "{}", failure.message);
            failure.rule
        };
        assert_eq!(refused(&other, first, "(program_sha256)"), "other-run");
        assert_eq!(refused(&identity(), Shard { index: 0, of: 3 }, "(number of shards)"), "other-run");
        assert!(first.file(folder.path(), "json").exists() && first.file(folder.path(), "parquet").exists());
        std::fs::write(first.file(folder.path(), "parquet"), "other").unwrap();
        assert_eq!(refused(&identity(), first, "SHA-256"), "tampered-predictions");
    }

    #[test]
    fn a_part_does_not_count_before_it_was_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let refuse = |_: &str| Err(Failure::new("ledger-tampered", "no"));
        let failure = write_shard(folder.path(), &identity(), Shard::WHOLE, &[prediction("a")], &refuse).unwrap_err();
        assert_eq!(failure.rule, "ledger-tampered");
        assert_eq!(finished(folder.path(), &identity(), Shard::WHOLE).ok(), Some(false));
    }

    #[test]
    fn shards_part_the_cases_and_are_counted_from_0() {
        assert_eq!("2/3".parse::<Shard>().unwrap(), Shard { index: 2, of: 3 });
        for wrong in ["3/3", "1", "-1/2", "0/0", "a/b"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
        for place in 0..10 {
            assert_eq!((0..3).filter(|index| Shard { index: *index, of: 3 }.holds(place)).count(), 1);
        }
    }
}
