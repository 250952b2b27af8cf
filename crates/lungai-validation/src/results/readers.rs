//! How far readers agree with each other, and the system with them.

use super::{Evaluation, Figure, rule};
use crate::record::{Reading, ScanRecord, SystemMark};
use lungai_ct::WorldPoint;
use lungai_datasets::readers::{self as joining, join};
use lungai_metrics::agreement::{Scale, Weights, cohen, fleiss, krippendorff};
use lungai_metrics::matching::{Lesion, Mark, MarkOutcome, MatchRule, match_scan};
use lungai_metrics::measurements::icc;
use lungai_metrics::{Interval, MetricsError};
use serde::Serialize;
use std::collections::BTreeSet;

/// The name of the system among readers.
pub const SYSTEM: &str = "AI";
/// Ratings from here on are suspicious, up to [`UNSUSPICIOUS`] they are not; between the two a reader is undecided.
const SUSPICIOUS: u8 = 4;
const UNSUSPICIOUS: u8 = 2;
/// Agreement of readers and system.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Agreement {
    /// Each reader, and the system at its operating point, against the reference standard.
    pub readers: Vec<ReaderFigures>,
    /// Every two of them.
    pub pairs: Vec<Pair>,
    /// Findings that all readers marked and rated.
    pub rated_by_all: usize,
    /// Fleiss' kappa of their ratings.
    pub fleiss: Option<f64>,
    /// Krippendorff's ordinal alpha of their ratings.
    pub krippendorff: Option<f64>,
    /// ICC(2,1) of diameters of findings that all readers marked.
    pub diameter_icc: Figure,
}

/// A reader against the reference standard.
#[derive(Debug, Clone, Serialize)]
pub struct ReaderFigures {
    /// Name.
    pub name: String,
    /// Share of scored nodules that were marked.
    pub sensitivity: Figure,
    /// Scored nodules that were marked.
    pub found: usize,
    /// Marks that are on no finding of the reference standard.
    pub false_positives: usize,
    /// The same per scan.
    pub fp_per_scan: Figure,
}

/// Two readers, or a reader and the system.
#[derive(Debug, Clone, Serialize)]
pub struct Pair {
    /// The first.
    pub a: String,
    /// The second.
    pub b: String,
    /// Findings that both marked.
    pub both: usize,
    /// Findings of the first alone.
    pub only_a: usize,
    /// Findings of the second alone.
    pub only_b: usize,
    /// Positive agreement, 2 both / (2 both + only a + only b): what one marked, the other did with this probability. A
    /// place that nobody marked has no number, so that kappa over all places is not defined.
    pub agreement: Figure,
    /// Cohen's kappa of found and missed over the scored nodules.
    pub kappa_found: Figure,
    /// Of two readers: quadratic kappa of their ratings of what both marked. Of a reader and the system: kappa of
    /// suspicious (4, 5; 50 % and more) and not (1, 2), undecided ratings left out.
    pub kappa_malignancy: Figure,
}

impl Evaluation<'_> {
    /// None where no reader looked at every scan: a share of other scans is another share.
    pub(super) fn readers(&self) -> Result<Option<Agreement>, MetricsError> {
        let records = self.records;
        let names: BTreeSet<&str> = records.iter().flat_map(|r| &r.readings).map(|r| r.reader.as_str()).collect();
        let everywhere = |name: &&str| records.iter().all(|r| reading(r, name).is_some());
        let names: Vec<&str> = names.into_iter().filter(everywhere).collect();
        if names.is_empty() {
            return Ok(None);
        }
        let mut seen: Vec<Seen> = Vec::new();
        for name in &names {
            let marks = |r: &ScanRecord| reading(r, name).map(joined_form).unwrap_or_default();
            seen.push(Seen::new(name, self, marks)?);
        }
        seen.push(Seen::system(self));
        let readers = seen.iter().map(|s| s.figures(self)).collect();
        let mut agreement = Agreement { readers, ..Agreement::default() };
        for (i, a) in seen.iter().enumerate() {
            for b in &seen[i + 1..] {
                agreement.pairs.push(pair(a, b, self));
            }
        }
        all_readers(&seen[..names.len()], self.level(), &mut agreement);
        Ok(Some(agreement))
    }
}

/// One reader's or the system's view of all scans.
struct Seen {
    name: String,
    marks: Vec<Vec<joining::Reading>>,
    /// Of each scan whether each scored nodule was marked.
    found: Vec<Vec<bool>>,
    /// Of each scan.
    false_positives: Vec<u32>,
}

impl Seen {
    fn new(
        name: &str,
        eval: &Evaluation<'_>,
        marks: impl Fn(&ScanRecord) -> Vec<joining::Reading>,
    ) -> Result<Self, MetricsError> {
        let mut seen = Self { name: name.to_owned(), marks: vec![], found: vec![], false_positives: vec![] };
        // A reader's marks have no scores, so that none could be left out for having the lowest.
        let rule = MatchRule { marks_per_scan: None, ..rule(eval.protocol, eval.protocol.matching.hit) };
        for record in eval.records {
            let own = marks(record);
            let as_marks: Vec<Mark> = own.iter().map(|m| Mark { position: m.position, score: 1.0 }).collect();
            let lesions: Vec<Lesion> = super::lesions(record);
            let matched = match_scan(&as_marks, &lesions, &rule)?;
            seen.found.push(matched.nodules.iter().map(|(_, best)| best.is_some()).collect());
            let wrong = matched.outcomes.iter().filter(|o| **o == MarkOutcome::FalsePositive).count();
            seen.false_positives.push(wrong as u32);
            seen.marks.push(own);
        }
        Ok(seen)
    }

    /// The system at its operating point, as everywhere else.
    fn system(eval: &Evaluation<'_>) -> Self {
        let operated = |r: &ScanRecord| -> Vec<joining::Reading> {
            let marks = r.marks.iter().filter(|m| m.score >= eval.threshold);
            // As large as a finding of unknown size, where the system measures none.
            let size = |m: &SystemMark| m.diameter_mm.unwrap_or(eval.protocol.matching.unknown_diameter_mm);
            marks
                .map(|m| mark(m.position_lps_mm, size(m), rating_of(m.malignancy, eval.protocol.malignant_from)))
                .collect()
        };
        let mut found = vec![Vec::new(); eval.records.len()];
        eval.scored.iter().for_each(|nodule| found[nodule.scan].push(nodule.mark.is_some()));
        Self {
            name: SYSTEM.to_owned(),
            marks: eval.records.iter().map(operated).collect(),
            found,
            false_positives: eval.false_positives(&|_| true).into_iter().map(|n| n as u32).collect(),
        }
    }

    fn figures(&self, eval: &Evaluation<'_>) -> ReaderFigures {
        let found: Vec<[u32; 2]> =
            self.found.iter().map(|f| [f.iter().filter(|found| **found).count() as u32, f.len() as u32]).collect();
        let wrong: Vec<[u32; 2]> = self.false_positives.iter().map(|n| [*n, 1]).collect();
        ReaderFigures {
            name: self.name.clone(),
            sensitivity: eval.share(&found),
            found: found.iter().map(|f| f[0] as usize).sum(),
            false_positives: self.false_positives.iter().sum::<u32>() as usize,
            fp_per_scan: eval.events(&wrong),
        }
    }

    fn is_system(&self) -> bool {
        self.name == SYSTEM
    }
}

fn pair(a: &Seen, b: &Seen, eval: &Evaluation<'_>) -> Pair {
    let mut of_scan = Vec::new();
    let (mut both, mut only_a, mut only_b) = (0, 0, 0);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (left, right) in a.marks.iter().zip(&b.marks) {
        let (mut shared, mut alone) = (0u32, 0u32);
        for finding in join(&[left.clone(), right.clone()]) {
            match finding.by_reader.as_slice() {
                [Some(left), Some(right)] => {
                    shared += 1;
                    // 0 stands for a mark without rating.
                    if left.malignancy > 0 && right.malignancy > 0 {
                        first.push(left.malignancy);
                        second.push(right.malignancy);
                    }
                }
                [Some(_), None] => (alone, only_a) = (alone + 1, only_a + 1),
                _ => (alone, only_b) = (alone + 1, only_b + 1),
            }
        }
        both += shared as usize;
        of_scan.push([2 * shared, 2 * shared + alone]);
    }
    let as_numbers =
        |found: &[Vec<bool>]| -> Vec<f64> { found.iter().flatten().map(|f| f64::from(u8::from(*f))).collect() };
    let kappa = |a: &[f64], b: &[f64], weights| match cohen(a, b, weights, eval.level()) {
        // Beyond 1 and -1 there is no agreement; the normal approximation does not know.
        Ok(k) => Figure { value: Some(k.value), ci: Some(within(k.interval, [-1.0, 1.0], k.value)), n: k.subjects },
        Err(_) => Figure { n: a.len(), ..Figure::default() },
    };
    let kappa_malignancy = if a.is_system() || b.is_system() {
        let decided = |rating: u8| (rating >= SUSPICIOUS).then_some(1.0).or((rating <= UNSUSPICIOUS).then_some(0.0));
        let both = first.iter().zip(&second).filter_map(|(a, b)| Some((decided(*a)?, decided(*b)?)));
        let (first, second): (Vec<f64>, Vec<f64>) = both.unzip();
        kappa(&first, &second, Weights::None)
    } else {
        let numbers = |ratings: &[u8]| -> Vec<f64> { ratings.iter().map(|r| f64::from(*r)).collect() };
        kappa(&numbers(&first), &numbers(&second), Weights::Quadratic)
    };
    Pair {
        a: a.name.clone(),
        b: b.name.clone(),
        both,
        only_a,
        only_b,
        agreement: eval.share(&of_scan),
        kappa_found: kappa(&as_numbers(&a.found), &as_numbers(&b.found), Weights::None),
        kappa_malignancy,
    }
}

/// Ratings and diameters of what all readers marked.
fn all_readers(seen: &[Seen], level: f64, agreement: &mut Agreement) {
    let (mut ratings, mut diameters) = (Vec::new(), Vec::new());
    for scan in 0..seen.first().map_or(0, |s| s.marks.len()) {
        let marks: Vec<Vec<joining::Reading>> = seen.iter().map(|s| s.marks[scan].clone()).collect();
        for finding in join(&marks).iter().filter(|f| f.votes() == seen.len() && seen.len() > 1) {
            let by_all: Vec<&joining::Reading> = finding.by_reader.iter().flatten().collect();
            diameters.push(by_all.iter().map(|m| m.diameter_mm).collect::<Vec<f64>>());
            if by_all.iter().all(|m| m.malignancy > 0) {
                ratings.push(by_all.iter().map(|m| f64::from(m.malignancy)).collect::<Vec<f64>>());
            }
        }
    }
    agreement.rated_by_all = ratings.len();
    agreement.fleiss = fleiss(&ratings).ok();
    agreement.krippendorff = krippendorff(&ratings, Scale::Ordinal).ok();
    agreement.diameter_icc = match icc(&diameters, level) {
        Ok(all) => Figure { value: Some(all.icc2.value), ci: Some(all.icc2.interval), n: diameters.len() },
        Err(_) => Figure { n: diameters.len(), ..Figure::default() },
    };
}

fn reading<'a>(record: &'a ScanRecord, name: &str) -> Option<&'a Reading> {
    record.readings.iter().find(|r| r.reader == name)
}

fn joined_form(reading: &Reading) -> Vec<joining::Reading> {
    reading.marks.iter().map(|m| mark(m.position_lps_mm, m.diameter_mm, m.malignancy.unwrap_or(0))).collect()
}

fn mark(position_lps_mm: [f64; 3], diameter_mm: f64, malignancy: u8) -> joining::Reading {
    joining::Reading { position: WorldPoint(position_lps_mm), diameter_mm, malignancy }
}

/// The system's probability as one of the two decided ratings; 0 where it gives none.
fn rating_of(probability: Option<f64>, malignant_from: f64) -> u8 {
    probability.map_or(0, |p| if p >= malignant_from { SUSPICIOUS } else { UNSUSPICIOUS })
}

fn within([low, high]: Interval, [least, most]: Interval, value: f64) -> Interval {
    [low.max(least).min(value), high.min(most).max(value)]
}
