//! The statistical workloads: a LUNA16-sized submission, a large ROC sample, many ratings. SYNTHETIC, drawn by a fixed
//! sequence, as files that every program can read.

use crate::results::Output;
use crate::workloads::Work;
use anyhow::Context;
use lungai_ct::WorldPoint;
use lungai_metrics::agreement::{RatingCounts, RatingPairs, Weights};
use lungai_metrics::bootstrap::{Draws, froc_intervals, percentile_interval};
use lungai_metrics::froc::{CPM_RATES, Interpolation, froc};
use lungai_metrics::matching::{Lesion, Mark, MatchRule};
use lungai_metrics::roc;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Raised when an input changes, so that old ones are made anew.
const VERSION: &str = "1";

/// Scans, nodules and excluded findings of LUNA16; marks as of a sensitive candidate detector.
const SCANS: usize = 888;
const NODULES: usize = 1186;
const EXCLUDED: usize = 35_192;
const MARKS: usize = 46_000;
/// Cases of the ROC sample.
const CASES: usize = 200_000;
/// Subjects that three readers rate from 1 to 5.
const SUBJECTS: usize = 3000;
/// Bootstrap replicates of LUNA16's script.
const REPLICATES: usize = 1000;
/// Of an interval whose third digit should stay.
const MANY_REPLICATES: usize = 10_000;

/// Seconds that a workload may take on two cores, whatever others take.
pub fn bar_s(workload: &str) -> Option<f64> {
    match workload {
        "auc" => Some(0.1),
        "froc" => Some(1.0),
        "cpm" => Some(10.0),
        _ => None,
    }
}

/// Whether the workload of this group has its inputs here.
pub fn owns(group: &str) -> bool {
    matches!(group, "froc" | "cpm" | "auc" | "kappa")
}

/// Makes what is missing below `folder`.
pub fn make(folder: &Path) -> anyhow::Result<()> {
    let data = folder.join("data/statistics");
    let stamp = data.join("version");
    if fs::read_to_string(&stamp).is_ok_and(|version| version == VERSION) {
        return Ok(());
    }
    eprintln!("making the inputs in {}", data.display());
    fs::create_dir_all(&data)?;
    let mut draw = sequence();
    let uid = |scan: usize| format!("1.2.826.0.1.SYNTHETIC.{scan:04}");
    fs::write(data.join("seriesuids.csv"), (0..SCANS).map(|scan| uid(scan) + "\n").collect::<String>())?;

    let head = "seriesuid,coordX,coordY,coordZ,";
    let mut findings = |n: usize| -> Vec<(usize, [f64; 3])> {
        let place =
            |draw: &mut dyn FnMut() -> f64| [-150.0 + 300.0 * draw(), -220.0 + 260.0 * draw(), -350.0 + 300.0 * draw()];
        (0..n).map(|_| ((draw() * SCANS as f64) as usize, place(&mut draw))).collect()
    };
    let (nodules, excluded) = (findings(NODULES), findings(EXCLUDED));
    let diameters: Vec<f64> = (0..NODULES).map(|_| 3.0 + 20.0 * draw() * draw()).collect();
    let table = |value: &str, rows: &mut dyn Iterator<Item = (usize, [f64; 3], f64)>| {
        let mut text = format!("{head}{value}\n");
        for (scan, [x, y, z], value) in rows {
            let _ = writeln!(text, "{},{x:.6},{y:.6},{z:.6},{value:.6}", uid(scan));
        }
        text
    };
    let mut rows = nodules.iter().zip(&diameters).map(|((scan, at), diameter)| (*scan, *at, *diameter));
    fs::write(data.join("annotations.csv"), table("diameter_mm", &mut rows))?;
    let mut rows = excluded.iter().map(|(scan, at)| (*scan, *at, -1.0));
    fs::write(data.join("annotations_excluded.csv"), table("diameter_mm", &mut rows))?;
    // Nine nodules in ten are marked, some twice; one mark in eight lies on an excluded finding; the rest anywhere.
    let mut marks = Vec::new();
    for ((scan, at), diameter) in nodules.iter().zip(&diameters) {
        let times = if draw() < 0.93 { 1 + usize::from(draw() < 0.2) } else { 0 };
        for _ in 0..times {
            let near = at.map(|v| v + (draw() - 0.5) * 0.4 * diameter);
            marks.push((*scan, near, draw().powf(0.25)));
        }
    }
    while marks.len() < MARKS {
        let (scan, at) = match draw() {
            share if share < 0.125 => excluded[(draw() * EXCLUDED as f64) as usize],
            _ => (
                (draw() * SCANS as f64) as usize,
                [-150.0 + 300.0 * draw(), -220.0 + 260.0 * draw(), -350.0 + 300.0 * draw()],
            ),
        };
        marks.push((scan, at, 0.95 * draw().powi(3)));
    }
    fs::write(data.join("submission.csv"), table("probability", &mut marks.into_iter()))?;

    let truth: Vec<u8> = (0..CASES).map(|_| u8::from(draw() < 0.2)).collect();
    // Three decimals: most scores are tied, as those of a rounding system are.
    let score = |truth: u8, a: f64, b: f64| ((a + b + 0.4 * f64::from(truth)) * 1000.0).round() / 1000.0;
    let scores: Vec<u8> = truth.iter().flat_map(|t| score(*t, draw(), draw()).to_le_bytes()).collect();
    fs::write(data.join("truth.u8"), &truth)?;
    fs::write(data.join("scores.f64"), scores)?;
    let mut ratings = Vec::with_capacity(3 * SUBJECTS);
    for _ in 0..SUBJECTS {
        let severity = 5.0 * draw();
        ratings.extend((0..3).map(|_| 1 + (severity + 1.5 * (draw() - 0.5)).clamp(0.0, 4.999) as u8));
    }
    fs::write(data.join("ratings.u8"), ratings)?;
    fs::write(&stamp, VERSION)?;
    Ok(())
}

/// Marks and findings of each scan.
fn scans(folder: &Path) -> anyhow::Result<Vec<(Vec<Mark>, Vec<Lesion>)>> {
    let text = |name: &str| read(folder, name).and_then(|bytes| Ok(String::from_utf8(bytes)?));
    let uids = text("seriesuids.csv")?;
    let place: std::collections::HashMap<&str, usize> = uids.lines().zip(0..).collect();
    let mut scans: Vec<(Vec<Mark>, Vec<Lesion>)> = vec![(vec![], vec![]); place.len()];
    for (i, name) in ["annotations.csv", "annotations_excluded.csv", "submission.csv"].iter().enumerate() {
        for line in text(name)?.lines().skip(1) {
            let (uid, numbers) = line.split_once(',').context("a series and numbers")?;
            let numbers = numbers.split(',').map(str::parse).collect::<Result<Vec<f64>, _>>()?;
            let scan = &mut scans[place[uid]];
            let position = WorldPoint([numbers[0], numbers[1], numbers[2]]);
            match i {
                2 => scan.0.push(Mark { position, score: numbers[3] }),
                _ => scan.1.push(Lesion { position, diameter_mm: numbers[3], excluded: i == 1 }),
            }
        }
    }
    Ok(scans)
}

/// Matching, curve, CPM and its interval from 10,000 bootstraps over scans, drawn apart with and without a nodule.
pub fn strata_work(folder: &Path) -> anyhow::Result<Work> {
    let scans = scans(folder)?;
    let own: Vec<usize> = (0..scans.len()).collect();
    let stratum: Vec<usize> =
        scans.iter().map(|(_, lesions)| usize::from(lesions.iter().any(|lesion| !lesion.excluded))).collect();
    Ok(Box::new(move || {
        let froc = froc(&scans, &MatchRule::LUNA16)?;
        let draws = Draws::of_clusters_within(&own, &stratum, MANY_REPLICATES, 0)?;
        let how = Interpolation::Linear;
        let [low, high] = froc_intervals(&froc, &draws, &[1.0], how, 0.95)?.cpm;
        Ok(Output::numbers([("cpm", froc.cpm(how)), ("lower limit", low), ("upper limit", high)]))
    }))
}

/// Matching, curve, CPM, and the intervals of 1000 bootstraps over scans, by LUNA16's rules and numpy's draws.
pub fn froc_work(folder: &Path) -> anyhow::Result<Work> {
    let scans = scans(folder)?;
    Ok(Box::new(move || {
        let froc = froc(&scans, &MatchRule::LUNA16)?;
        let draws = Draws::of_scans(scans.len(), REPLICATES, 0)?;
        let how = Interpolation::Luna16;
        let limits = froc_intervals(&froc, &draws, &CPM_RATES, how, 0.95)?;
        let mut out = Output::numbers([("cpm", froc.cpm(how))]);
        for (i, (rate, sensitivity)) in CPM_RATES.iter().zip(froc.sensitivity_at(&CPM_RATES, how)?).enumerate() {
            out.numbers.insert(format!("sensitivity at {rate}"), sensitivity);
            // Of the seven rates these lie on the grid on which the script takes its limits.
            if [0.125, 1.0, 8.0].contains(rate) {
                out.numbers.insert(format!("lower limit at {rate}"), limits.intervals[i][0]);
                out.numbers.insert(format!("upper limit at {rate}"), limits.intervals[i][1]);
            }
        }
        Ok(out)
    }))
}

/// Area and DeLong's variance.
pub fn auc_work(folder: &Path) -> anyhow::Result<Work> {
    let truth: Vec<bool> = read(folder, "truth.u8")?.iter().map(|v| *v == 1).collect();
    let scores: Vec<f64> = read(folder, "scores.f64")?.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
    Ok(Box::new(move || {
        let found = roc::auc(&scores, &truth, 0.95)?;
        Ok(Output::numbers([("auc", found.value), ("variance", found.variance)]))
    }))
}

/// Cohen's kappas of three pairs and Fleiss' kappa, with the intervals of 1000 bootstraps over subjects.
pub fn kappa_work(folder: &Path) -> anyhow::Result<Work> {
    let ratings: Vec<Vec<f64>> =
        read(folder, "ratings.u8")?.chunks(3).map(|row| row.iter().map(|v| f64::from(*v)).collect()).collect();
    let of = |rater: usize| ratings.iter().map(|row| row[rater]).collect::<Vec<f64>>();
    let raters = [of(0), of(1), of(2)];
    Ok(Box::new(move || {
        let counts = RatingCounts::new(&ratings)?;
        let pairs = [(0, 1), (0, 2), (1, 2)]
            .into_iter()
            .map(|(a, b)| Ok((format!("{a}-{b}"), RatingPairs::new(&raters[a], &raters[b])?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let kinds = [("plain", Weights::None), ("linear", Weights::Linear), ("quadratic", Weights::Quadratic)];
        let mut names = vec!["fleiss".to_owned()];
        for (pair, _) in &pairs {
            names.extend(kinds.iter().map(|(kind, _)| format!("{kind} {pair}")));
        }
        let figures = |times: &[u32]| -> Vec<f64> {
            let count = |subject: usize| f64::from(times[subject]);
            let mut all = vec![counts.fleiss(count).unwrap_or(f64::NAN)];
            for (_, pair) in &pairs {
                let table = pair.table(count);
                all.extend(kinds.iter().map(|(_, weights)| table.kappa(*weights).unwrap_or(f64::NAN)));
            }
            all
        };
        let draws = Draws::of_scans(ratings.len(), REPLICATES, 0)?;
        let replicates = draws.map(figures);
        let mut out = Output::default();
        for (i, (name, value)) in names.into_iter().zip(figures(&vec![1; ratings.len()])).enumerate() {
            let [low, high] = percentile_interval(replicates.iter().map(|values| values[i]).collect(), 0.95)?;
            out.numbers.insert(format!("{name} lower"), low);
            out.numbers.insert(format!("{name} upper"), high);
            out.numbers.insert(name, value);
        }
        Ok(out)
    }))
}

fn read(folder: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    let path = folder.join("data/statistics").join(name);
    fs::read(&path).with_context(|| format!("{}", path.display()))
}

/// Uniform numbers from 0 to 1, always the same.
fn sequence() -> impl FnMut() -> f64 {
    let mut state = 16u64;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}
