//! Two systems on the same scans by the same protocol: what differs, whether chance explains it, and which nodules changed.
//!
//! Reads two folders of results and nothing else. Everything is paired: nodules by nodule, scans by scan, patients drawn
//! together. Differences are the first less the second.

mod written;

pub use written::write;

use crate::failure::{Failure, file_name, io};
use crate::lock::canonical;
use crate::protocol::{Between, Property, Protocol};
use crate::record::{Nodule, Rejected, ScanRecord};
use crate::results::{operated, outcomes};
use lungai_ct::WorldPoint;
use lungai_datasets::read_yaml;
use lungai_metrics::Interval;
use lungai_metrics::bootstrap::{
    Draws, Permutation, cpm_difference, cpm_permutation, paired_permutation, percentile_interval,
};
use lungai_metrics::decision::{Claim, Decision, decide};
use lungai_metrics::froc::{Froc, Interpolation};
use lungai_metrics::matching::{Mark, MarkOutcome, ScanMatch};
use lungai_metrics::roc::Ranked;
use lungai_trace::implements;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Arrangements of a permutation test, where there are more than so many.
const PERMUTATIONS: usize = 9_999;

/// Results that were read again.
pub struct Read {
    protocol: Protocol,
    canonical_sha256: String,
    data_fingerprint: String,
    tables: BTreeMap<String, String>,
    synthetic: bool,
    exploratory: bool,
    /// Name and version.
    pub system: String,
    /// SHA-256 of its predictions.
    predictions_sha256: String,
    threshold: f64,
    records: Vec<ScanRecord>,
    /// Scans that the quality gate refused.
    rejected: BTreeSet<String>,
}

/// Everything that differs.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// First of everything that is written.
    pub notice: String,
    /// Whether the images were computed.
    pub synthetic: bool,
    /// Whether the results of one of the two are of a protocol that was not locked before the run.
    pub exploratory: bool,
    /// Name and version of the protocol.
    pub protocol: String,
    /// SHA-256 of what it says.
    pub protocol_sha256: String,
    /// Fingerprint of the data set.
    pub data_fingerprint: String,
    /// The first system.
    pub a: System,
    /// The second.
    pub b: System,
    /// Scans of both; only these are compared.
    pub scans: usize,
    /// Scans that the quality gate refused for the other system alone, so that they are left out of the first and of the
    /// second.
    pub left_out: [usize; 2],
    /// Their patients.
    pub patients: usize,
    /// Scored nodules.
    pub nodules: usize,
    /// Confidence level of intervals.
    pub confidence_level: f64,
    /// One test for each figure.
    pub tests: Vec<Test>,
    /// Whether the difference of CPM shows that the first is superior, and not inferior by the margin that was asked for.
    pub claims: Vec<Shown>,
    /// Sensitivity at the operating points, for each stratum and group; without strata that put all nodules into one group.
    pub strata: Vec<StratumDelta>,
    /// What became of each nodule.
    pub found: Found,
    /// Every scored nodule, those that changed first.
    pub changes: Vec<NoduleChange>,
    /// Every scan.
    pub cases: Vec<CaseChange>,
    /// FROC curves: score, false positives per scan, sensitivity.
    pub curves: [Vec<[f64; 3]>; 2],
}

/// One of the two.
#[derive(Debug, Clone, Serialize)]
pub struct System {
    /// Name and version.
    pub name: String,
    /// SHA-256 of its predictions.
    pub predictions_sha256: String,
    /// Score at which it is operated.
    pub operating_threshold: f64,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compared {
    /// Mean sensitivity at the protocol's rates of false positives.
    Cpm,
    /// At the operating points, over scored nodules.
    Sensitivity,
    /// Per scan, at the operating points.
    FalsePositives,
    /// Of malignancy, missed nodules scoring 0.
    Auc,
    /// Mean over scans.
    DiceRight,
    /// Mean over scans.
    DiceLeft,
}

/// How p was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum Method {
    /// The systems swapped within patients.
    Permutation {
        /// Ways to swap that were looked at.
        arrangements: usize,
        /// Whether these are all.
        exact: bool,
    },
    /// There is no test.
    None {
        /// Why.
        why: String,
    },
}

/// A figure of both, and whether chance explains the difference.
#[derive(Debug, Clone, Serialize)]
pub struct Test {
    /// Which.
    pub figure: Compared,
    /// Of the first.
    pub a: Option<f64>,
    /// Of the second.
    pub b: Option<f64>,
    /// First less second.
    pub difference: Option<f64>,
    /// Its interval, over patients drawn for both systems at once.
    pub ci: Option<Interval>,
    /// Two-sided.
    pub p: Option<f64>,
    /// How p was made.
    pub method: Method,
    /// Sample size in the figure's own unit.
    pub n: usize,
}

/// Nodules by who found them at the operating points.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Found by both.
    pub both: usize,
    /// By the first alone.
    pub only_a: usize,
    /// By the second alone.
    pub only_b: usize,
    /// By none.
    pub neither: usize,
}

/// The same for a part of the nodules.
#[derive(Debug, Clone, Serialize)]
pub struct StratumDelta {
    /// The property.
    pub of: Property,
    /// The group.
    pub group: String,
    /// Scored nodules.
    pub nodules: usize,
    /// Who found them.
    #[serde(flatten)]
    pub found: Found,
    /// Sensitivity of the first less that of the second.
    pub difference: Option<f64>,
    /// Its interval; none where it would have no width.
    pub ci: Option<Interval>,
    /// The systems swapped within patients; not adjusted for the number of groups.
    pub p: Option<f64>,
    /// Too few nodules to judge.
    pub descriptive: bool,
}

/// One scored nodule.
#[derive(Debug, Clone, Serialize)]
pub struct NoduleChange {
    /// Its scan.
    pub case: String,
    /// Its name in there.
    pub nodule: String,
    /// Diameter in mm.
    pub diameter_mm: f64,
    /// Attenuation class, where known.
    pub kind: Option<String>,
    /// Lobe, where known.
    pub lobe: Option<String>,
    /// `both`, `only-a`, `only-b`, `neither`, at the operating points.
    pub found: &'static str,
    /// Highest score of the first on it; absent without a mark.
    pub score_a: Option<f64>,
    /// Of the second.
    pub score_b: Option<f64>,
    /// First less second, of the share of scored nodules that each system is less sure of: scores of two systems have no
    /// common scale. A nodule without a mark ranks below every other one.
    pub change: f64,
}

/// What the difference of CPM shows.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// `superior` or `not-inferior`.
    pub claim: &'static str,
    /// Whether the interval supports it.
    pub met: bool,
    /// The bound that decided.
    pub bound: f64,
    /// What it must lie above.
    pub limit: f64,
}

/// One scan.
#[derive(Debug, Clone, Serialize)]
pub struct CaseChange {
    /// Its name.
    pub case: String,
    /// Its centre.
    pub centre: String,
    /// Scored nodules.
    pub nodules: usize,
    /// Found by the first at its operating point.
    pub found_a: usize,
    /// By the second.
    pub found_b: usize,
    /// False positives of the first at its operating point.
    pub false_positives_a: usize,
    /// Of the second.
    pub false_positives_b: usize,
    /// Mean Dice of both lungs of the first less that of the second.
    pub dice_change: Option<f64>,
}

/// Reads a folder of results.
///
/// # Errors
/// `not-results` where it holds none, `tampered-results` (exit code 4) where its protocol is not the one that it names.
pub fn read(folder: &Path) -> Result<Read, Failure> {
    let name = file_name(folder);
    let path = folder.join(crate::analysis::RESULTS);
    if !path.exists() {
        return Err(Failure::new(
            "not-results",
            format!("{}: no results.json; did the analysis end?", folder.display()),
        ));
    }
    let bytes = std::fs::read(&path).map_err(io(&path))?;
    let odd = |what: String| Failure::new("not-results", format!("{name}: results.json: {what}"));
    /// The part of `results.json` that is read here.
    #[derive(Deserialize)]
    struct Parts {
        synthetic: bool,
        standing: Value,
        protocol: Value,
        data_set: Value,
        model: Value,
        predictions_sha256: String,
        detection: Value,
        scans: Vec<ScanRecord>,
        rejected: Vec<Rejected>,
        #[serde(default)]
        tables: BTreeMap<String, String>,
    }
    let parts: Parts = serde_json::from_slice(&bytes).map_err(|error| odd(error.to_string()))?;
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let protocol: Protocol = read_yaml(&folder.join("protocol.yaml"))?;
    let canonical_sha256 = canonical(&protocol);
    if canonical_sha256 != text(&parts.protocol, "canonical_sha256") {
        let message = format!("{name}: protocol.yaml is not the protocol that results.json names");
        return Err(Failure::integrity("tampered-results", message));
    }
    Ok(Read {
        canonical_sha256,
        data_fingerprint: text(&parts.data_set, "fingerprint"),
        synthetic: parts.synthetic,
        exploratory: parts.standing["kind"] == "exploratory",
        system: [text(&parts.model, "name"), text(&parts.model, "version")]
            .into_iter()
            .filter(|word| word != crate::study::NO_VERSION)
            .collect::<Vec<_>>()
            .join(" "),
        predictions_sha256: parts.predictions_sha256,
        threshold: parts.detection["operating_threshold"]
            .as_f64()
            .ok_or_else(|| odd("no operating threshold".into()))?,
        records: parts.scans,
        rejected: parts.rejected.into_iter().map(|rejected| rejected.case).collect(),
        tables: parts.tables,
        protocol,
    })
}

/// One system's marks on all scans.
struct Side<'a> {
    records: Vec<&'a ScanRecord>,
    /// At the operating point, where every mark counts.
    scans: Vec<ScanMatch>,
    froc: Froc,
    threshold: f64,
}

/// A scored nodule with what each system made of it.
struct Pair<'a> {
    scan: usize,
    nodule: &'a Nodule,
    /// Places of the marks that hit it, whatever their score.
    marks: [Option<usize>; 2],
    found: [bool; 2],
}

struct Evaluation<'a> {
    a: Side<'a>,
    b: Side<'a>,
    pairs: Vec<Pair<'a>>,
    patients: Vec<usize>,
    draws: Draws,
    protocol: &'a Protocol,
}

/// Compares two results.
///
/// # Errors
/// `other-protocol`, `other-data-set` or `other-cases` where they cannot be compared; a margin that is not above 0.
#[implements("FR-003", "FR-004", "FR-005", "SW-1102")]
pub fn compare(a: &Read, b: &Read, margin: Option<f64>) -> Result<Comparison, Failure> {
    let same = [
        ("protocol", "other-protocol", &a.canonical_sha256, &b.canonical_sha256),
        ("data set", "other-data-set", &a.data_fingerprint, &b.data_fingerprint),
    ];
    if let Some((what, rule, first, second)) = same.into_iter().find(|(_, _, first, second)| first != second) {
        return Err(Failure::new(rule, format!("the results are of another {what} each: {first} and {second}")));
    }
    if a.tables != b.tables {
        return Err(Failure::new("other-data-set", "the results are of other covariates or readings each"));
    }
    let left_out = [left_out(a, b)?, left_out(b, a)?];
    let evaluation = Evaluation::new(a, b)?;
    let mut changes = evaluation.changes();
    changes.sort_by(|x, y| {
        let changed = |c: &NoduleChange| c.found.starts_with("only");
        changed(y).cmp(&changed(x)).then(y.change.abs().total_cmp(&x.change.abs()))
    });
    let system = |read: &Read| System {
        name: read.system.clone(),
        predictions_sha256: read.predictions_sha256.clone(),
        operating_threshold: read.threshold,
    };
    let tests = evaluation.tests()?;
    let claims = claims(&tests, a.protocol.confidence_level, margin)?;
    let curve = |side: &Side<'_>| {
        let finite = side.froc.curve().into_iter().filter(|p| p.threshold.is_finite());
        finite.map(|p| [p.threshold, p.fp_per_scan, p.sensitivity]).collect()
    };
    Ok(Comparison {
        notice: crate::report::notice(a.synthetic).into(),
        synthetic: a.synthetic,
        exploratory: a.exploratory || b.exploratory,
        protocol: format!("{} {}", a.protocol.name, a.protocol.version),
        protocol_sha256: a.canonical_sha256.clone(),
        data_fingerprint: a.data_fingerprint.clone(),
        a: system(a),
        b: system(b),
        scans: evaluation.a.records.len(),
        left_out,
        patients: BTreeSet::from_iter(&evaluation.patients).len(),
        nodules: evaluation.pairs.len(),
        confidence_level: a.protocol.confidence_level,
        tests,
        claims,
        strata: evaluation.strata()?,
        found: tally(evaluation.pairs.iter()),
        changes,
        cases: evaluation.cases(),
        curves: [curve(&evaluation.a), curve(&evaluation.b)],
    })
}

/// How many scans of the first the quality gate refused for the second.
fn left_out(first: &Read, second: &Read) -> Result<usize, Failure> {
    let names = |read: &Read| read.records.iter().map(|r| r.case.clone()).collect::<BTreeSet<String>>();
    let alone: Vec<String> = names(first).difference(&names(second)).cloned().collect();
    match alone.iter().find(|case| !second.rejected.contains(*case)) {
        None => Ok(alone.len()),
        Some(case) => {
            let message = format!("case `{case}` was analysed for one of the two only, and not for its quality");
            Err(Failure::new("other-cases", message))
        }
    }
}

/// What the interval of the difference of CPM supports. Superiority asks the permutation test as well: of few patients an
/// interval by drawing them is too narrow.
fn claims(tests: &[Test], level: f64, margin: Option<f64>) -> Result<Vec<Shown>, Failure> {
    let cpm = tests.iter().find(|test| test.figure == Compared::Cpm);
    let Some((interval, p)) = cpm.and_then(|test| Some((test.ci?, test.p?))) else { return Ok(Vec::new()) };
    let mut claims = vec![("superior", Claim::Superior)];
    claims.extend(margin.map(|margin| ("not-inferior", Claim::NonInferior(margin))));
    let shown = |(claim, of): (&'static str, Claim)| -> Result<Shown, Failure> {
        let Decision { met, bound, limit } = decide(interval, of)?;
        let by_chance = claim == "superior" && p > 1.0 - level;
        Ok(Shown { claim, met: met && !by_chance, bound, limit })
    };
    claims.into_iter().map(shown).collect()
}

impl<'a> Side<'a> {
    /// - `common`: the other one, too, has these scans
    fn new(protocol: &Protocol, read: &'a Read, common: &BTreeSet<&str>) -> Result<Self, Failure> {
        let records: Vec<&ScanRecord> = read.records.iter().filter(|r| common.contains(r.case.as_str())).collect();
        let mut of_curve = Vec::new();
        let mut scans = Vec::new();
        for record in &records {
            let mark = |m: &crate::record::SystemMark| Mark { position: WorldPoint(m.position_lps_mm), score: m.score };
            let marks: Vec<Mark> = record.marks.iter().map(mark).collect();
            of_curve.push((marks, outcomes(protocol, record, &record.marks)?));
            scans.push(operated(protocol, record, &record.marks)?);
        }
        let froc = Froc::new(of_curve.iter().map(|(marks, matched)| (marks.as_slice(), matched)))?;
        Ok(Self { records, scans, froc, threshold: read.threshold })
    }

    fn false_positives(&self, scan: usize) -> usize {
        let (marks, matched) = (&self.records[scan].marks, &self.scans[scan]);
        let wrong = marks.iter().zip(&matched.outcomes).filter(|(_, outcome)| **outcome == MarkOutcome::FalsePositive);
        wrong.filter(|(mark, _)| mark.score >= self.threshold).count()
    }

    /// Probability of malignancy of a nodule; 0 where it is not found at the operating point.
    fn malignancy(&self, pair: &Pair<'_>, side: usize) -> f64 {
        let mark = pair.marks[side].filter(|_| pair.found[side]).map(|mark| &self.records[pair.scan].marks[mark]);
        mark.and_then(|mark| mark.malignancy).unwrap_or(0.0)
    }

    fn rates_malignancy(&self) -> bool {
        self.records.iter().flat_map(|r| &r.marks).any(|mark| mark.malignancy.is_some())
    }
}

impl<'a> Evaluation<'a> {
    fn new(a: &'a Read, b: &'a Read) -> Result<Self, Failure> {
        let protocol = &a.protocol;
        let names = |read: &'a Read| read.records.iter().map(|r| r.case.as_str()).collect::<BTreeSet<&str>>();
        let common: BTreeSet<&str> = names(a).intersection(&names(b)).copied().collect();
        let (first, second) = (Side::new(protocol, a, &common)?, Side::new(protocol, b, &common)?);
        let mut pairs = Vec::new();
        for (scan, record) in first.records.iter().copied().enumerate() {
            let twin = second.records[scan];
            let alike = record.case == twin.case
                && record
                    .nodules
                    .iter()
                    .map(|n| (&n.id, n.excluded))
                    .eq(twin.nodules.iter().map(|n| (&n.id, n.excluded)));
            if !alike {
                let message =
                    format!("case `{}` has other reference nodules, or another place, in the two", record.case);
                return Err(Failure::integrity("tampered-results", message));
            }
            let [one, other] = [&first.scans[scan].nodules, &second.scans[scan].nodules];
            for ((place, mark_a), (_, mark_b)) in one.iter().zip(other) {
                let passes = |mark: &Option<usize>, record: &ScanRecord, threshold: f64| {
                    mark.is_some_and(|mark| record.marks[mark].score >= threshold)
                };
                pairs.push(Pair {
                    scan,
                    nodule: &record.nodules[*place],
                    marks: [*mark_a, *mark_b],
                    found: [passes(mark_a, record, a.threshold), passes(mark_b, twin, b.threshold)],
                });
            }
        }
        let names: Vec<&str> =
            BTreeSet::from_iter(first.records.iter().map(|r| r.patient.as_str())).into_iter().collect();
        let patients: Vec<usize> =
            first.records.iter().map(|r| names.partition_point(|name| *name < r.patient.as_str())).collect();
        let draws = Draws::of_clusters(&patients, protocol.bootstrap.replicates, protocol.bootstrap.seed)?;
        Ok(Self { a: first, b: second, pairs, patients, draws, protocol })
    }

    fn level(&self) -> f64 {
        self.protocol.confidence_level
    }

    /// Percentile interval over draws of patients, both systems on the same ones; widened to hold the figure itself.
    fn interval(&self, figure: impl Fn(&[u32]) -> Option<f64> + Sync) -> Option<Interval> {
        let value = figure(&vec![1; self.a.records.len()])?;
        let drawn = percentile_interval(self.draws.figures(figure), self.level()).ok()?;
        Some(holding(value, drawn))
    }

    fn tests(&self) -> Result<Vec<Test>, Failure> {
        let mut tests = vec![self.cpm()?, self.sensitivity()?, self.false_positives()?, self.auc()?];
        for (side, figure) in [(0, Compared::DiceRight), (1, Compared::DiceLeft)] {
            tests.push(self.dice(side, figure)?);
        }
        Ok(tests)
    }

    fn cpm(&self) -> Result<Test, Failure> {
        let how = match self.protocol.froc.interpolation {
            Between::Linear => Interpolation::Linear,
            Between::FirstAtOrAbove => Interpolation::FirstAtOrAbove,
        };
        let (a, b) = (&self.a.froc, &self.b.froc);
        let d = cpm_difference(a, b, &self.draws, how, self.level())?;
        let seed = self.protocol.bootstrap.seed;
        let permuted = cpm_permutation(a, b, &self.patients, how, PERMUTATIONS, seed)?;
        Ok(Test {
            figure: Compared::Cpm,
            a: Some(a.cpm(how)),
            b: Some(b.cpm(how)),
            difference: Some(d.value),
            ci: Some(holding(d.value, d.interval)),
            p: Some(permuted.p),
            method: Method::of(&permuted),
            n: self.a.records.len(),
        })
    }

    fn sensitivity(&self) -> Result<Test, Failure> {
        let found = tally(self.pairs.iter());
        let n = self.pairs.len();
        let share = |k: usize| (n > 0).then(|| k as f64 / n as f64);
        let permuted = self.sensitivity_permutation(&|_| true)?;
        Ok(Test {
            figure: Compared::Sensitivity,
            a: share(found.both + found.only_a),
            b: share(found.both + found.only_b),
            difference: (n > 0).then(|| (found.only_a as f64 - found.only_b as f64) / n as f64),
            ci: self.sensitivity_interval(&|_| true),
            p: Some(permuted.p),
            method: Method::of(&permuted),
            n,
        })
    }

    /// Swaps what the systems found within patients: nodules of one patient do not count as independent.
    fn sensitivity_permutation(&self, part: &(dyn Fn(&Pair<'_>) -> bool + Sync)) -> Result<Permutation, Failure> {
        let scans = self.a.records.len();
        let mut of_scan = vec![[0u32; 3]; scans]; // found by the first, by the second, all
        for pair in self.pairs.iter().filter(|pair| part(pair)) {
            let counts = &mut of_scan[pair.scan];
            counts[0] += u32::from(pair.found[0]);
            counts[1] += u32::from(pair.found[1]);
            counts[2] += 1;
        }
        let all: u32 = of_scan.iter().map(|counts| counts[2]).sum();
        Ok(paired_permutation(&self.patients, PERMUTATIONS, self.protocol.bootstrap.seed, |weights| {
            let (first, second) = weights.split_at(scans);
            let found: u32 = first.iter().zip(second).zip(&of_scan).map(|((w, u), [a, b, _])| w * a + u * b).sum();
            (all > 0).then(|| f64::from(found) / f64::from(all))
        })?)
    }

    fn sensitivity_interval(&self, part: &(dyn Fn(&Pair<'_>) -> bool + Sync)) -> Option<Interval> {
        let mut of_scan = vec![[0i64; 2]; self.a.records.len()];
        for pair in self.pairs.iter().filter(|pair| part(pair)) {
            of_scan[pair.scan][0] += i64::from(pair.found[0]) - i64::from(pair.found[1]);
            of_scan[pair.scan][1] += 1;
        }
        self.interval(|weights| {
            let sum = |i: usize| weights.iter().zip(&of_scan).map(|(w, s)| i64::from(*w) * s[i]).sum::<i64>();
            (sum(1) > 0).then(|| sum(0) as f64 / sum(1) as f64)
        })
    }

    fn false_positives(&self) -> Result<Test, Failure> {
        let scans = self.a.records.len();
        let counts: Vec<[f64; 2]> =
            (0..scans).map(|i| [self.a.false_positives(i) as f64, self.b.false_positives(i) as f64]).collect();
        self.paired(Compared::FalsePositives, &counts.into_iter().map(Some).collect::<Vec<_>>())
    }

    fn dice(&self, side: usize, figure: Compared) -> Result<Test, Failure> {
        let of = |read: &Side<'_>, i: usize| read.records[i].lungs.map(|lungs| lungs[side].dice);
        let values: Vec<Option<[f64; 2]>> =
            (0..self.a.records.len()).map(|i| of(&self.a, i).zip(of(&self.b, i)).map(|(a, b)| [a, b])).collect();
        self.paired(figure, &values)
    }

    /// Means over the scans that have the figure for both.
    fn paired(&self, figure: Compared, values: &[Option<[f64; 2]>]) -> Result<Test, Failure> {
        let n = values.iter().flatten().count();
        if n == 0 {
            return Ok(Test::none(figure, n, "no scan has it for both"));
        }
        let mean = |weights: &[u32], i: usize| {
            let pairs = weights.iter().zip(values).filter_map(|(w, v)| Some((f64::from(*w), (*v)?[i])));
            let (sum, n) = pairs.fold((0.0, 0.0), |(sum, n), (w, v)| (sum + w * v, n + w));
            (n > 0.0).then(|| sum / n)
        };
        let all = vec![1; values.len()];
        let (a, b) = (mean(&all, 0), mean(&all, 1));
        let permuted = paired_permutation(&self.patients, PERMUTATIONS, self.protocol.bootstrap.seed, |weights| {
            // Scans of one system, then those of the other: an arrangement takes each from one of them.
            let (first, second) = weights.split_at(values.len());
            let sums = first.iter().zip(second).zip(values).filter_map(|((w, u), v)| {
                let [a, b] = (*v)?;
                Some((f64::from(*w) * a + f64::from(*u) * b, f64::from(*w + *u)))
            });
            let (sum, n) = sums.fold((0.0, 0.0), |(sum, n), (v, w)| (sum + v, n + w));
            (n > 0.0).then(|| sum / n)
        })?;
        Ok(Test {
            figure,
            a,
            b,
            difference: a.zip(b).map(|(a, b)| a - b),
            ci: self.interval(|weights| Some(mean(weights, 0)? - mean(weights, 1)?)),
            p: Some(permuted.p),
            method: Method::of(&permuted),
            n,
        })
    }

    fn auc(&self) -> Result<Test, Failure> {
        let known: Vec<&Pair<'_>> = self.pairs.iter().filter(|pair| pair.nodule.malignant.is_some()).collect();
        let none = |why: &str| Ok(Test::none(Compared::Auc, known.len(), why));
        if !(self.a.rates_malignancy() && self.b.rates_malignancy()) {
            return none("one of the two does not rate malignancy");
        }
        // Nodules as the first system ranks them, then as the second does: probabilities of two systems have no common scale
        // unless both are calibrated. A scan has a place for each system.
        let scans = self.a.records.len();
        let (mut scores, mut truth, mut place) = (Vec::new(), Vec::new(), Vec::new());
        for (i, side) in [&self.a, &self.b].into_iter().enumerate() {
            let own: Vec<f64> = known.iter().map(|pair| side.malignancy(pair, i)).collect();
            scores.extend(ranks(&own));
            truth.extend(known.iter().map(|pair| pair.nodule.malignant == Some(true)));
            place.extend(known.iter().map(|pair| i * scans + pair.scan));
        }
        let ranked = Ranked::new(&scores, &truth)?;
        let area = |weights: &[u32]| ranked.auc(|case| f64::from(weights[place[case]]));
        let of = |system: usize, weights: &[u32]| {
            let mut all = vec![0; 2 * scans];
            all[system * scans..][..scans].copy_from_slice(weights);
            area(&all)
        };
        let once = vec![1; scans];
        let (Some(a), Some(b)) = (of(0, &once), of(1, &once)) else {
            return none("all nodules with a diagnosis are of one class");
        };
        let permuted = paired_permutation(&self.patients, PERMUTATIONS, self.protocol.bootstrap.seed, area)?;
        Ok(Test {
            figure: Compared::Auc,
            a: Some(a),
            b: Some(b),
            difference: Some(a - b),
            ci: self.interval(|weights| Some(of(0, weights)? - of(1, weights)?)),
            p: Some(permuted.p),
            method: Method::of(&permuted),
            n: known.len(),
        })
    }

    fn strata(&self) -> Result<Vec<StratumDelta>, Failure> {
        let mut deltas = Vec::new();
        for stratum in &self.protocol.strata {
            let group_of =
                |pair: &Pair<'_>| stratum.group_of(stratum.of.of_nodule(self.a.records[pair.scan], pair.nodule));
            let first = self.pairs.first().map(group_of);
            if self.pairs.iter().all(|pair| Some(group_of(pair)) == first) {
                // One group is the whole.
                continue;
            }
            for group in stratum.names(self.pairs.iter().map(group_of)) {
                let part = |pair: &Pair<'_>| group_of(pair) == group;
                let found = tally(self.pairs.iter().filter(|pair| part(pair)));
                let n = found.both + found.only_a + found.only_b + found.neither;
                let p = if n > 0 { Some(self.sensitivity_permutation(&part)?.p) } else { None };
                deltas.push(StratumDelta {
                    of: stratum.of,
                    nodules: n,
                    found,
                    difference: (n > 0).then(|| (found.only_a as f64 - found.only_b as f64) / n as f64),
                    ci: self.sensitivity_interval(&part).filter(|[low, high]| low < high),
                    p,
                    descriptive: n < self.protocol.descriptive_below,
                    group: group.clone(),
                });
            }
        }
        Ok(deltas)
    }

    fn changes(&self) -> Vec<NoduleChange> {
        let score = |side: &Side<'_>, pair: &Pair<'_>, i: usize| {
            pair.marks[i].map(|mark| side.records[pair.scan].marks[mark].score)
        };
        let of = |side: &Side<'_>, i: usize| {
            let own = self.pairs.iter().map(|pair| score(side, pair, i).unwrap_or(f64::NEG_INFINITY));
            ranks(&own.collect::<Vec<f64>>())
        };
        let (first, second) = (of(&self.a, 0), of(&self.b, 1));
        let change = |(place, pair): (usize, &Pair<'_>)| {
            let (score_a, score_b) = (score(&self.a, pair, 0), score(&self.b, pair, 1));
            NoduleChange {
                case: self.a.records[pair.scan].case.clone(),
                nodule: pair.nodule.id.clone(),
                diameter_mm: pair.nodule.diameter_mm,
                kind: pair.nodule.kind.clone(),
                lobe: pair.nodule.lobe.clone(),
                found: match pair.found {
                    [true, true] => "both",
                    [true, false] => "only-a",
                    [false, true] => "only-b",
                    [false, false] => "neither",
                },
                score_a,
                score_b,
                change: first[place] - second[place],
            }
        };
        self.pairs.iter().enumerate().map(change).collect()
    }

    fn cases(&self) -> Vec<CaseChange> {
        let dice = |side: &Side<'_>, i: usize| side.records[i].lungs.map(|[r, l]| (r.dice + l.dice) / 2.0);
        let case = |(i, record): (usize, &&ScanRecord)| {
            let own = || self.pairs.iter().filter(|pair| pair.scan == i);
            CaseChange {
                case: record.case.clone(),
                centre: record.centre.clone(),
                nodules: own().count(),
                found_a: own().filter(|pair| pair.found[0]).count(),
                found_b: own().filter(|pair| pair.found[1]).count(),
                false_positives_a: self.a.false_positives(i),
                false_positives_b: self.b.false_positives(i),
                dice_change: dice(&self.a, i).zip(dice(&self.b, i)).map(|(a, b)| a - b),
            }
        };
        self.a.records.iter().enumerate().map(case).collect()
    }
}

fn holding(value: f64, [low, high]: Interval) -> Interval {
    [low.min(value), high.max(value)]
}

fn tally<'p, 'a: 'p>(pairs: impl Iterator<Item = &'p Pair<'a>>) -> Found {
    pairs.fold(Found::default(), |mut found, pair| {
        match pair.found {
            [true, true] => found.both += 1,
            [true, false] => found.only_a += 1,
            [false, true] => found.only_b += 1,
            [false, false] => found.neither += 1,
        }
        found
    })
}

impl Method {
    fn of(permuted: &Permutation) -> Self {
        Self::Permutation { arrangements: permuted.arrangements, exact: permuted.exact }
    }
}

impl Test {
    fn none(figure: Compared, n: usize, why: &str) -> Self {
        let method = Method::None { why: why.to_owned() };
        Self { figure, a: None, b: None, difference: None, ci: None, p: None, method, n }
    }
}

/// Of each value the share of all that are smaller, equal ones half: where it ranks in its own system.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = |value: &f64| {
        let below = sorted.partition_point(|other| other < value);
        let up_to = sorted.partition_point(|other| other <= value);
        (below + up_to) as f64 / (2 * sorted.len()) as f64
    };
    values.iter().map(rank).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::results::tests::{protocol, records, scan};
    use lungai_trace::verifies;

    pub fn results(records: Vec<ScanRecord>) -> Read {
        let protocol = protocol();
        Read {
            canonical_sha256: canonical(&protocol),
            data_fingerprint: "d".into(),
            synthetic: true,
            exploratory: true,
            system: "net 1".into(),
            predictions_sha256: "p".into(),
            threshold: 0.5,
            records,
            rejected: BTreeSet::new(),
            tables: BTreeMap::new(),
            protocol,
        }
    }

    /// As [`records`], with one nodule lost, one more found, and a false positive less.
    pub fn changed() -> Vec<ScanRecord> {
        let mut records = records();
        // The nodule of 10 mm in the first scan, and its false positive.
        records[0].marks.retain(|mark| mark.score != 0.9 && mark.score != 0.7);
        // The nodule of 4 mm in the second scan was below the threshold.
        records[1].marks[0].score = 0.9;
        records
    }

    #[verifies("FR-004", "SW-1102")]
    #[test]
    fn which_nodules_changed_and_how_is_what_one_counts_by_hand() {
        let c = compare(&results(records()), &results(changed()), None).unwrap();
        // Found by the first: 0.9, 0.6, 0.95, 0.8; by the second: 0.6, 0.9 (4 mm), 0.95, 0.8; 8 mm by none.
        assert_eq!(c.found, Found { both: 3, only_a: 1, only_b: 1, neither: 1 });
        let test = |figure: Compared| c.tests.iter().find(|test| test.figure == figure).unwrap();
        let sensitivity = test(Compared::Sensitivity);
        assert_eq!((sensitivity.a, sensitivity.b), (Some(4.0 / 6.0), Some(4.0 / 6.0)));
        assert_eq!((sensitivity.difference, sensitivity.p), (Some(0.0), Some(1.0)));
        // False positives at 0.5: 0.7 and 0.55 of four scans, then 0.55 alone.
        let wrong = test(Compared::FalsePositives);
        assert_eq!((wrong.a, wrong.b, wrong.difference), (Some(0.5), Some(0.25), Some(0.25)));
        // Four patients: 16 arrangements; the difference of either sign wherever the first patient stands: all of them.
        assert_eq!(wrong.p, Some(1.0));
        let first: Vec<(&str, f64, &str)> = c.changes[..2].iter().map(|n| (&*n.case, n.diameter_mm, n.found)).collect();
        assert_eq!(first, [("coast-hospital-0", 10.0, "only-a"), ("coast-hospital-1", 4.0, "only-b")]);
        assert_eq!((c.changes[0].score_a, c.changes[0].score_b), (Some(0.9), None));
        // The first is less sure of four of the six, itself counting half; the second has two without a mark, of equal rank.
        assert!((c.changes[0].change - (4.5 / 6.0 - 1.0 / 6.0)).abs() < 1e-12, "{}", c.changes[0].change);
        let small = c.strata.iter().find(|s| s.group == "3 to < 6 mm").unwrap();
        assert_eq!((small.nodules, small.found.only_b, small.difference), (2, 1, Some(-0.5)));
        assert_eq!((c.cases[0].found_a, c.cases[0].found_b, c.cases[0].false_positives_b), (2, 1, 0));
    }

    #[test]
    fn a_system_does_not_differ_from_itself() {
        let c = compare(&results(records()), &results(records()), None).unwrap();
        assert_eq!((c.found.only_a, c.found.only_b), (0, 0));
        for test in &c.tests {
            assert!(test.difference.is_none_or(|d| d == 0.0) && test.p.is_none_or(|p| p == 1.0), "{test:?}");
        }
        // That is no proof that they are equal: no draw of patients can differ.
        assert!(!c.strata.is_empty() && c.strata.iter().all(|s| s.ci.is_none()));
    }

    #[verifies("SW-1102")]
    #[test]
    fn other_protocols_data_and_cases_are_refused_by_name() {
        let check = |change: &dyn Fn(&mut Read), rule: &str| {
            let mut other = results(records());
            change(&mut other);
            assert_eq!(compare(&results(records()), &other, None).err().map(|f| f.rule).as_deref(), Some(rule));
        };
        check(&|r| r.canonical_sha256 = "q".into(), "other-protocol");
        check(&|r| r.data_fingerprint = "e".into(), "other-data-set");
        check(&|r| _ = r.tables.insert("r1.csv".into(), "s".into()), "other-data-set");
        check(&|r| _ = r.records.pop(), "other-cases");
        check(&|r| _ = r.records[0].nodules.pop(), "tampered-results");
    }

    #[verifies("FR-004", "SW-1102")]
    #[test]
    fn nodules_of_one_patient_are_swapped_together() {
        // Five nodules of one patient that only the first system finds: one swap, so that there is no evidence at all.
        let found = |mark: bool| -> Vec<ScanRecord> {
            let nodule = |i: usize| (8.0, i.is_multiple_of(2), mark.then_some((0.9, 0.5)));
            let nodules: Vec<_> = (0..5).map(nodule).collect();
            vec![
                scan(0, "coast-hospital", &nodules, &[]),
                scan(1, "hill-screening", &[(8.0, true, Some((0.9, 0.5)))], &[]),
            ]
        };
        let c = compare(&results(found(true)), &results(found(false)), None).unwrap();
        let test = c.tests.iter().find(|test| test.figure == Compared::Sensitivity).unwrap();
        // Two patients: four arrangements, and the difference is as large in each.
        assert_eq!((test.difference, test.p), (Some(5.0 / 6.0), Some(1.0)));
        assert_eq!(test.method, Method::Permutation { arrangements: 4, exact: true });
    }

    #[verifies("FR-004", "FR-005")]
    #[test]
    fn the_scale_of_one_systems_scores_changes_no_test() {
        let plain = compare(&results(records()), &results(changed()), None).unwrap();
        let mut other = results(changed());
        // Logits: every score and the threshold are negative; probabilities squeezed into the lowest tenth.
        let logit = |score: f64| score.ln() - 5.0;
        for mark in other.records.iter_mut().flat_map(|r| &mut r.marks) {
            mark.score = logit(mark.score);
            mark.malignancy = mark.malignancy.map(|p| p / 10.0);
        }
        other.threshold = logit(other.threshold);
        let changed = compare(&results(records()), &other, None).unwrap();
        for (one, two) in plain.tests.iter().zip(&changed.tests) {
            assert_eq!((one.difference, one.ci, one.p), (two.difference, two.ci, two.p), "{:?}", one.figure);
        }
        let order = |c: &Comparison| c.changes.iter().map(|n| (n.case.clone(), n.change)).collect::<Vec<_>>();
        assert_eq!(order(&plain), order(&changed));
        // Found by the second alone: unmarked is below every mark, also one of negative score.
        assert!(changed.changes.iter().all(|n| n.found != "only-a" || n.change > 0.0), "{:?}", changed.changes);
    }

    #[verifies("SW-1102")]
    #[test]
    fn scans_that_the_quality_gate_refused_for_one_system_are_left_out_and_counted() {
        let (a, mut b) = (results(records()), results(records()));
        let gone = b.records.pop().unwrap();
        b.rejected.insert(gone.case);
        let c = compare(&a, &b, None).unwrap();
        assert_eq!((c.scans, c.left_out, c.nodules), (3, [1, 0], 5));
        assert_eq!(compare(&b, &a, None).unwrap().left_out, [0, 1]);
    }

    #[verifies("FR-004")]
    #[test]
    fn a_margin_is_decided_on_the_bound_of_the_difference() {
        let (a, b) = (results(records()), results(records()));
        let claims = compare(&a, &b, Some(0.05)).unwrap().claims;
        let shown: Vec<_> = claims.iter().map(|c| (c.claim, c.met, c.bound, c.limit)).collect();
        assert_eq!(shown, [("superior", false, 0.0, 0.0), ("not-inferior", true, 0.0, -0.05)]);
        assert_eq!(compare(&a, &b, Some(0.0)).err().map(|f| f.rule).as_deref(), Some("out-of-range"));
        // Of four patients an interval may well lie above 0, while an exact test cannot say more than 2 of 16.
        let mut blind = records();
        blind.iter_mut().for_each(|record| record.marks.clear());
        let c = compare(&a, &results(blind), None).unwrap();
        assert!(c.tests[0].p.unwrap() >= 0.125 && !c.claims[0].met, "{:?}", c.claims);
    }

    #[verifies("SW-1102")]
    #[test]
    fn the_number_of_threads_changes_nothing() {
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let c = pool.install(|| compare(&results(records()), &results(changed()), None)).unwrap();
            serde_json::to_string(&c).unwrap()
        };
        assert_eq!(on(1), on(3));
    }
}
