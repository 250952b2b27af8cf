//! `picai`: detection by lesion and by case, as the PI-CAI challenge ranks.

use crate::table::{Row, Table};
use crate::{Failure, Report};
use lungai_datasets::read_image;
use lungai_imaging::{Connectivity, components};
use lungai_metrics::bootstrap::Draws;
use lungai_metrics::detection_maps::{Candidate, DetectionMaps, DetectionScores, ScoredCase};
use lungai_metrics::matching::{MarkOutcome, OverlapRule, Pairing, match_overlaps};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Either lists (--lesions, --cases), or detection maps with masks (--detections, --truth), or a file of picai_eval
/// (--metrics). Score is the mean of the average precision over lesions and of the area under the ROC curve over cases.
#[derive(clap::Args)]
#[command(
    group(clap::ArgGroup::new("input").required(true).args(["lesions", "detections", "metrics"])),
    after_help = "\
Examples:
  cargo xtask stats picai --lesions lesions.csv --cases cases.csv --bootstrap 1000
  cargo xtask stats picai --detections maps/ --truth masks/
  cargo xtask stats picai --metrics metrics.json          # written by picai_eval

  lesions.csv (missed lesions have confidence 0)     cases.csv (every case, also without candidates)
  case_id,is_lesion,confidence                       case_id
  p1,1,0.9                                           p1
  p1,1,0                                             p2
  p2,0,0.3                                           p3

Further columns: weight in both; is_positive and confidence in cases.csv, where they are not those of the case's candidates.
Maps are named CASE_detection_map.nii.gz or CASE.nii.gz, masks CASE_label.nii.gz or CASE.nii.gz (or .mha, .nrrd); every touching
group of voxels of a map is a candidate with its highest value as confidence; an IoU of 0.1 with a lesion is a hit."
)]
pub struct Args {
    /// Candidates and missed lesions: columns case_id, is_lesion (0 or 1), confidence.
    #[arg(long)]
    lesions: Option<PathBuf>,
    /// All cases: column case_id.
    #[arg(long, requires = "lesions")]
    cases: Option<PathBuf>,
    /// A folder of detection maps.
    #[arg(long, requires = "truth")]
    detections: Option<PathBuf>,
    /// A folder of lesion masks: what is not 0 is lesion.
    #[arg(long, requires = "detections")]
    truth: Option<PathBuf>,
    /// A metrics file of picai_eval.
    #[arg(long)]
    metrics: Option<PathBuf>,
    /// Smallest overlap (IoU) of a hit.
    #[arg(long, default_value_t = 0.1)]
    min_overlap: f64,
    /// A candidate on a lesion that another one took is false; else it counts for nothing.
    #[arg(long)]
    surplus_is_false: bool,
    /// Bootstrap replicates over cases, for 95 % intervals.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    bootstrap: Option<u32>,
    /// Seed of the bootstrap.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// False candidates a case at which the sensitivity is given.
const RATES: [f64; 5] = [0.1, 0.5, 1.0, 2.0, 5.0];

pub fn run(args: &Args) -> Result<Report, Failure> {
    let cases = match (&args.lesions, &args.detections, &args.truth, &args.metrics) {
        (Some(lesions), ..) => from_lists(lesions, args.cases.as_deref())?,
        (_, Some(detections), Some(truth), _) => from_images(detections, truth, args)?,
        (.., Some(metrics)) => from_metrics(metrics)?,
        _ => unreachable!("one input is required"),
    };
    let names: Vec<&String> = cases.keys().collect();
    let scored: Vec<ScoredCase> = cases.values().cloned().collect();
    let maps = DetectionMaps::new(&scored)?;
    let DetectionScores { average_precision, auroc, score } = maps.scores();
    let [n, positives, lesions] = maps.counts();
    let mut at = Map::new();
    let mut text = format!(
        "{n} cases, {positives} positive, {lesions} lesions\n\nscore             {score:.6}\naverage precision {average_precision:.6}\nAUROC             {auroc:.6}\n"
    );
    let mut out = json!({
        "ok": true, "score": score, "ap": average_precision, "auroc": auroc,
        "counts": { "cases": n, "positive_cases": positives, "lesions": lesions },
    });
    if let Some(replicates) = args.bootstrap {
        let each: Vec<usize> = (0..n).collect();
        let draws = Draws::of_clusters(&each, replicates as usize, args.seed)?;
        text.push_str("\n95 % intervals over cases (percentile; BCa)\n");
        for name in ["score", "ap", "auroc"] {
            let figure = |found: &DetectionScores| match name {
                "score" => found.score,
                "ap" => found.average_precision,
                _ => found.auroc,
            };
            let found = draws.bootstrap(|counts| maps.resampled(counts).as_ref().map(figure), 0.95)?;
            let [low, high] = found.percentile;
            out[format!("{name}_ci95")] = json!(found.percentile);
            let _ = write!(text, "{name:<6} {low:.6} - {high:.6}");
            if let Some([low, high]) = found.bca {
                out[format!("{name}_bca95")] = json!([low, high]);
                let _ = write!(text, "; {low:.6} - {high:.6}");
            }
            text.push('\n');
        }
    }
    let _ = writeln!(text, "\nfalse candidates a case  sensitivity  threshold");
    for rate in RATES {
        let (sensitivity, threshold) = maps.sensitivity_at(rate)?;
        let mut point = json!({ "sensitivity": sensitivity });
        if threshold.is_finite() {
            point["threshold"] = json!(threshold);
        }
        at.insert(rate.to_string(), point);
        let _ = writeln!(text, "{rate:>23}     {sensitivity:.6}  {threshold:>9.6}");
    }
    out["lesion_sensitivity_at"] = Value::Object(at);
    if args.detections.is_some() {
        out["case_confidence"] =
            names.iter().zip(&scored).map(|(name, case)| (name.to_string(), json!(case.confidence))).collect();
    }
    Ok(Report { json: out, table: text })
}

/// What the list of cases says of one beside its name.
#[derive(Clone, Copy, Default)]
struct Listed {
    positive: Option<bool>,
    confidence: Option<f64>,
    weight: Option<f64>,
}

fn from_lists(lesions: &Path, cases: Option<&Path>) -> Result<BTreeMap<String, ScoredCase>, Failure> {
    let mut found: BTreeMap<String, Vec<Candidate>> = BTreeMap::new();
    let mut listed: Option<BTreeMap<String, Listed>> = None;
    if let Some(path) = cases {
        let table = Table::with_header(path)?;
        let case = table.column("case_id")?;
        let optional = |name: &str| table.header().iter().position(|column| column == name);
        let (positive, confidence, weight) = (optional("is_positive"), optional("confidence"), optional("weight"));
        let mut all = BTreeMap::new();
        for row in table.rows() {
            let name = table.required(row, case)?.to_owned();
            let number = |column: Option<usize>| column.map_or(Ok(None), |column| table.number(row, column));
            let positive = positive.map(|column| flag(&table, row, column)).transpose()?;
            found.insert(name.clone(), vec![]);
            let case = Listed { positive, confidence: number(confidence)?, weight: number(weight)? };
            if all.insert(name, case).is_some() {
                return Err(table.failure(row, "duplicate-case", "this case is listed before"));
            }
        }
        listed = Some(all);
    }
    let table = Table::with_header(lesions)?;
    let (case, lesion, confidence) =
        (table.column("case_id")?, table.column("is_lesion")?, table.column("confidence")?);
    let weight = table.header().iter().position(|column| column == "weight");
    for row in table.rows() {
        let name = table.required(row, case)?;
        if listed.as_ref().is_some_and(|listed| !listed.contains_key(name)) {
            return Err(table.failure(row, "unknown-case", &format!("the list of cases has no case {name}")));
        }
        let candidate = Candidate {
            lesion: flag(&table, row, lesion)?,
            confidence: table.required_number(row, confidence)?,
            weight: weight.map_or(Ok(None), |column| table.number(row, column))?.unwrap_or(1.0),
        };
        found.entry(name.to_owned()).or_default().push(candidate);
    }
    let case = |(name, candidates): (String, Vec<Candidate>)| {
        let Listed { positive, confidence, weight } =
            listed.as_ref().and_then(|listed| listed.get(&name)).copied().unwrap_or_default();
        let highest = candidates.iter().map(|c| c.confidence).fold(0.0, f64::max);
        let case = ScoredCase {
            positive: positive.unwrap_or_else(|| candidates.iter().any(|c| c.lesion)),
            confidence: confidence.unwrap_or(highest),
            weight: weight.unwrap_or(1.0),
            candidates,
        };
        (name, case)
    };
    Ok(found.into_iter().map(case).collect())
}

fn flag(table: &Table, row: &Row, column: usize) -> Result<bool, Failure> {
    match &row.cells[column] {
        "1" => Ok(true),
        "0" => Ok(false),
        _ => Err(table.failure(row, "bad-flag", &format!("column \"{}\" must be 0 or 1", table.header()[column]))),
    }
}

/// `lesion_results`, `case_target`, `case_pred` and weights, as picai_eval saves them.
fn from_metrics(path: &Path) -> Result<BTreeMap<String, ScoredCase>, Failure> {
    let refuse = |message: String| Failure {
        rule: "metrics-malformed".into(),
        message: format!("{}: {message}", path.display()),
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure { rule: "file-unreadable".into(), message: format!("{}: {error}", path.display()) })?;
    let file: Value = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
    let results = file["lesion_results"].as_object().ok_or_else(|| refuse("no lesion_results".into()))?;
    // Numbers may be written as text.
    let number = |value: &Value| -> Option<f64> { value.as_f64().or_else(|| value.as_str()?.parse().ok()) };
    let mut cases = BTreeMap::new();
    for (name, list) in results {
        let bad = || refuse(format!("case {name} is not a list of [lesion, confidence, overlap]"));
        let mut candidates = Vec::new();
        for (i, entry) in list.as_array().ok_or_else(bad)?.iter().enumerate() {
            let weight = &file["lesion_weight"][name][i];
            candidates.push(Candidate {
                lesion: number(&entry[0]).ok_or_else(bad)? != 0.0,
                confidence: number(&entry[1]).ok_or_else(bad)?,
                weight: if weight.is_null() { 1.0 } else { number(weight).ok_or_else(bad)? },
            });
        }
        let of_case = |key: &str| number(&file[key][name]);
        let case = ScoredCase {
            positive: of_case("case_target")
                .map_or_else(|| candidates.iter().any(|c| c.lesion), |target| target != 0.0),
            confidence: of_case("case_pred")
                .unwrap_or_else(|| candidates.iter().map(|c| c.confidence).fold(0.0, f64::max)),
            weight: of_case("case_weight").unwrap_or(1.0),
            candidates,
        };
        cases.insert(name.clone(), case);
    }
    Ok(cases)
}

const ENDINGS: [&str; 5] = [".nii.gz", ".nii", ".mha", ".mhd", ".nrrd"];

fn from_images(detections: &Path, truth: &Path, args: &Args) -> Result<BTreeMap<String, ScoredCase>, Failure> {
    let maps = images(detections, "_detection_map")?;
    let masks = images(truth, "_label")?;
    let missing = |name: &String, folder: &Path| Failure {
        rule: "unknown-case".into(),
        message: format!("{}: nothing for case {name}", folder.display()),
    };
    if let Some(name) = masks.keys().find(|name| !maps.contains_key(*name)) {
        return Err(missing(name, detections));
    }
    let mut cases = BTreeMap::new();
    for (name, map) in &maps {
        let mask = masks.get(name).ok_or_else(|| missing(name, truth))?;
        cases.insert(name.clone(), matched(map, mask, args)?);
    }
    Ok(cases)
}

/// Images of a folder by case; where detections and masks share a folder, only those with the ending name it.
fn images(folder: &Path, suffix: &str) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let unreadable = |error: std::io::Error| Failure {
        rule: "file-unreadable".into(),
        message: format!("{}: {error}", folder.display()),
    };
    let mut with_suffix = BTreeMap::new();
    let mut plain = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(stem) = ENDINGS.iter().find_map(|ending| file.strip_suffix(ending)) else { continue };
        match stem.strip_suffix(suffix) {
            Some(case) => with_suffix.insert(case.to_owned(), path),
            None => plain.insert(stem.to_owned(), path),
        };
    }
    let found = if with_suffix.is_empty() { plain } else { with_suffix };
    if found.is_empty() {
        let message = format!("{}: no image; known are {}", folder.display(), ENDINGS.join(", "));
        return Err(Failure { rule: "no-images".into(), message });
    }
    Ok(found)
}

/// Candidates of a map against lesions of a mask, one to one: as many as possible, then by overlap.
fn matched(map: &Path, mask: &Path, args: &Args) -> Result<ScoredCase, Failure> {
    let read =
        |path: &Path| read_image(path).map_err(|error| Failure { rule: error.rule(), message: error.to_string() });
    let (map_image, mask_image) = (read(map)?, read(mask)?);
    let refuse =
        |rule: &str, message: String| Failure { rule: rule.into(), message: format!("{}: {message}", map.display()) };
    let (a, b) = (map_image.values.dim(), mask_image.values.dim());
    if a != b {
        return Err(refuse("grids-differ", format!("{a:?} voxels, the mask has {b:?} (z, y, x)")));
    }
    if let Some(value) = map_image.values.iter().find(|v| !(**v >= 0.0 && v.is_finite())) {
        return Err(refuse("out-of-range", format!("a confidence is {value}; it must lie at or above 0")));
    }
    let candidates = components(map_image.values.mapv(|v| v > 0.0).view(), Connectivity::Corners);
    // A fraction of a label is none, as in a conversion to integers.
    let lesions = components(mask_image.values.mapv(|v| v as i64 != 0).view(), Connectivity::Corners);
    let (n, m) = (candidates.regions.len(), lesions.regions.len());
    let mut confidences = vec![0.0f64; n];
    let (mut of_candidate, mut of_lesion, mut common) = (vec![0u64; n], vec![0u64; m], vec![vec![0u64; m]; n]);
    for ((value, candidate), lesion) in map_image.values.iter().zip(&candidates.labels).zip(&lesions.labels) {
        let (candidate, lesion) = ((*candidate as usize).checked_sub(1), (*lesion as usize).checked_sub(1));
        if let Some(candidate) = candidate {
            confidences[candidate] = confidences[candidate].max(f64::from(*value));
            of_candidate[candidate] += 1;
        }
        if let Some(lesion) = lesion {
            of_lesion[lesion] += 1;
        }
        if let (Some(candidate), Some(lesion)) = (candidate, lesion) {
            common[candidate][lesion] += 1;
        }
    }
    // More values than groups of voxels: a probability map, whose groups have no confidence of their own.
    let mut values: Vec<u32> = map_image.values.iter().filter(|v| **v > 0.0).map(|v| v.to_bits()).collect();
    values.sort_unstable();
    values.dedup();
    if n < values.len() {
        let message = format!("{} values in {n} groups of voxels: a detection map has one in each", values.len());
        return Err(refuse("not-a-detection-map", message));
    }
    let iou = |candidate: usize, lesion: usize| {
        let both = common[candidate][lesion];
        both as f64 / (of_candidate[candidate] + of_lesion[lesion] - both) as f64
    };
    let overlap: Vec<Vec<f64>> = (0..n).map(|c| (0..m).map(|l| iou(c, l)).collect()).collect();
    let rule = OverlapRule {
        minimum: args.min_overlap,
        pairing: Pairing::Assignment,
        surplus_is_false: args.surplus_is_false,
        marks_per_scan: None,
    };
    let found = match_overlaps(&confidences, &vec![false; m], &overlap, &rule)?;
    let mut results: Vec<(bool, f64)> = found
        .nodules
        .iter()
        .map(|(_, candidate)| (true, candidate.map_or(0.0, |candidate| confidences[candidate])))
        .collect();
    let false_ones = found.outcomes.iter().zip(&confidences).filter(|(o, _)| **o == MarkOutcome::FalsePositive);
    results.extend(false_ones.map(|(_, confidence)| (false, *confidence)));
    // The surest voxel speaks for the case, also where its candidate counts for nothing.
    let confidence = confidences.iter().copied().fold(0.0, f64::max);
    Ok(ScoredCase { confidence, ..ScoredCase::from_candidates(results) })
}
