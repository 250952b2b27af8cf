//! Free-response operating characteristic: sensitivity against false positives per scan.

use crate::MetricsError;
use crate::error::{at_least, finite};
use crate::matching::{Lesion, Mark, MarkOutcome, MatchRule, ScanMatch, match_scan};
use lungai_trace::implements;

/// The seven rates of false positives per scan whose mean sensitivity is the CPM.
pub const CPM_RATES: [f64; 7] = [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0];

/// How a sensitivity is read off the curve at a rate that no threshold has exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// On the straight line between neighbours.
    Linear,
    /// As [`Self::Linear`] with the rounding of the official LUNA16 script, which turns counts into shares and back:
    /// where a rate falls exactly on a point, that may place the point just beyond it. For the script's digits only.
    Luna16,
    /// The first point at or above the rate, as NoduleNet's copy of the script does. Never below [`Self::Linear`].
    FirstAtOrAbove,
}

/// What a curve needs of all scans: made once by [`Froc::new`], evaluated as often as one likes.
#[derive(Debug, Clone)]
pub struct Froc {
    /// Highest marks of found nodules and false positives, by falling score.
    events: Vec<Event>,
    /// The events once more, for walking over them thousands of times: scan in the upper bits, [`FINDS`] and [`LAST`] below.
    steps: Vec<u32>,
    nodules_in_scan: Vec<u32>,
    false_positives_in_scan: Vec<u32>,
    counts: Counts,
}

/// What the marks of all scans came to, at the lowest threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Found nodules.
    pub true_positives: usize,
    /// Marks on nothing.
    pub false_positives: usize,
    /// Nodules without a mark.
    pub false_negatives: usize,
    /// Marks on excluded findings only.
    pub ignored_on_excluded: usize,
    /// Further marks on found nodules.
    pub doubles: usize,
    /// Marks beyond the number that counts in a scan.
    pub beyond_limit: usize,
    /// All scans, also those without a mark or without a nodule.
    pub scans: usize,
    /// All nodules that are not excluded.
    pub nodules: usize,
}

/// One threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrocPoint {
    /// Marks scored at least this count; infinite at the point without any.
    pub threshold: f64,
    /// False positives per scan.
    pub fp_per_scan: f64,
    /// Share of nodules found, `0..=1`.
    pub sensitivity: f64,
}

/// The step finds a nodule.
const FINDS: u32 = 1;
/// The step is the last one of its score: only here the curve has a point.
const LAST: u32 = 2;

#[derive(Debug, Clone, Copy)]
struct Event {
    score: f64,
    scan: u32,
    finds_nodule: bool,
}

/// Matches the marks of every scan of a cohort. The order of scans is that of [`Froc::resampled`]'s weights.
///
/// # Errors
/// A number that is not finite, no scan, or no nodule at all (sensitivity is then not defined).
pub fn froc(scans: &[(Vec<Mark>, Vec<Lesion>)], rule: &MatchRule) -> Result<Froc, MetricsError> {
    let matched =
        scans.iter().map(|(marks, lesions)| match_scan(marks, lesions, rule)).collect::<Result<Vec<_>, _>>()?;
    Froc::new(scans.iter().zip(&matched).map(|((marks, _), matched)| (marks.as_slice(), matched)))
}

impl Froc {
    /// From scans that are matched already. Every scan of the cohort belongs here, also one without a mark:
    /// leaving it out would inflate the false positives per scan.
    ///
    /// # Errors
    /// No scan, or no nodule at all.
    #[implements("FR-004")]
    pub fn new<'a>(scans: impl Iterator<Item = (&'a [Mark], &'a ScanMatch)>) -> Result<Self, MetricsError> {
        let (mut events, mut nodules_in_scan, mut counts) = (Vec::new(), Vec::new(), Counts::default());
        for (scan, (marks, matched)) in (0u32..).zip(scans) {
            assert_eq!(marks.len(), matched.outcomes.len(), "a scan's own match");
            for (mark, outcome) in marks.iter().zip(&matched.outcomes) {
                match outcome {
                    MarkOutcome::FalsePositive => {
                        counts.false_positives += 1;
                        events.push(Event { score: mark.score, scan, finds_nodule: false });
                    }
                    MarkOutcome::OnExcluded(_) => counts.ignored_on_excluded += 1,
                    MarkOutcome::BeyondLimit => counts.beyond_limit += 1,
                    // By nodule, below: one mark may find two.
                    MarkOutcome::Hit(_) | MarkOutcome::Double(_) => (),
                }
            }
            for best in matched.nodules.iter().filter_map(|(_, best)| *best) {
                counts.true_positives += 1;
                events.push(Event { score: marks[best].score, scan, finds_nodule: true });
            }
            counts.doubles += matched.doubles;
            counts.nodules += matched.nodules.len();
            counts.scans += 1;
            nodules_in_scan.push(matched.nodules.len() as u32);
        }
        at_least("scans of a FROC curve", counts.scans, 1)?;
        at_least("nodules of a FROC curve", counts.nodules, 1)?;
        counts.false_negatives = counts.nodules - counts.true_positives;
        // Stable, so that equal scores keep an order that does not depend on the machine.
        events.sort_by(|a, b| b.score.total_cmp(&a.score));
        Ok(Self::sorted(events, nodules_in_scan, counts))
    }

    /// `events` by falling score.
    fn sorted(events: Vec<Event>, nodules_in_scan: Vec<u32>, counts: Counts) -> Self {
        let mut false_positives_in_scan = vec![0; nodules_in_scan.len()];
        let mut steps = Vec::with_capacity(events.len());
        for (i, event) in events.iter().enumerate() {
            let last = events.get(i + 1).is_none_or(|next| next.score != event.score);
            let kind = if last { LAST } else { 0 } | if event.finds_nodule { FINDS } else { 0 };
            steps.push((event.scan << 2) | kind);
            false_positives_in_scan[event.scan as usize] += u32::from(!event.finds_nodule);
        }
        Self { events, steps, nodules_in_scan, false_positives_in_scan, counts }
    }

    /// The scans of two systems as one list, those of `second` after those of `first`. With weights that draw each scan from
    /// one of the two, [`Froc::resampled`] is then the curve of a mixture: what a permutation test needs.
    ///
    /// Scores of two systems mean different things. So each mark is ordered by what its score is worth in its own system:
    /// the false positives per scan that one takes into the bargain there. No monotone change of a system's scores
    /// changes anything, and each system alone keeps its curve.
    pub(crate) fn joined(first: &Self, second: &Self) -> Self {
        let offset = first.counts.scans as u32;
        let moved = second.by_rate().into_iter().map(|event| Event { scan: event.scan + offset, ..event });
        let mut events: Vec<Event> = first.by_rate().into_iter().chain(moved).collect();
        events.sort_by(|a, b| b.score.total_cmp(&a.score));
        let nodules_in_scan = first.nodules_in_scan.iter().chain(&second.nodules_in_scan).copied().collect();
        let counts = Counts {
            scans: first.counts.scans + second.counts.scans,
            nodules: first.counts.nodules + second.counts.nodules,
            ..first.counts
        };
        Self::sorted(events, nodules_in_scan, counts)
    }

    /// The events with another score in the same order: minus the false positives down to it, and where no false positive
    /// lies between two scores, minus the nodules found. Both are counts of one cohort, so that they can be compared
    /// between systems.
    fn by_rate(&self) -> Vec<Event> {
        let (mut found, mut false_positives) = (0, 0);
        let mut events = Vec::with_capacity(self.events.len());
        for tied in self.events.chunk_by(|a, b| a.score == b.score) {
            let hits = tied.iter().filter(|event| event.finds_nodule).count();
            found += hits;
            false_positives += tied.len() - hits;
            let score = -((false_positives * (self.counts.nodules + 1) + found) as f64);
            events.extend(tied.iter().map(|event| Event { score, ..*event }));
        }
        events
    }

    /// Nodules of each scan, in the order of the scans.
    pub(crate) fn nodules_in_scan(&self) -> &[u32] {
        &self.nodules_in_scan
    }

    /// What the marks came to.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// One point per distinct score, strictest first, after the point without any mark.
    pub fn curve(&self) -> Vec<FrocPoint> {
        let mut curve = vec![FrocPoint { threshold: f64::INFINITY, fp_per_scan: 0.0, sensitivity: 0.0 }];
        let (mut found, mut false_positives) = (0, 0);
        for tied in self.events.chunk_by(|a, b| a.score == b.score) {
            let hits = tied.iter().filter(|event| event.finds_nodule).count();
            found += hits;
            false_positives += tied.len() - hits;
            curve.push(FrocPoint {
                threshold: tied[0].score,
                fp_per_scan: false_positives as f64 / self.counts.scans as f64,
                sensitivity: found as f64 / self.counts.nodules as f64,
            });
        }
        curve
    }

    /// Sensitivity at each of `rates` false positives per scan.
    ///
    /// # Errors
    /// A rate that is not finite or is negative.
    pub fn sensitivity_at(&self, rates: &[f64], how: Interpolation) -> Result<Vec<f64>, MetricsError> {
        check_rates(rates)?;
        let everything = vec![1; self.counts.scans];
        Ok(self.resampled(&everything, rates, how).expect("a curve has nodules"))
    }

    /// The operating point behind a rate: the lowest threshold that keeps false positives per scan at or below
    /// `fp_per_scan`, with the sensitivity that is really attained there (not interpolated).
    ///
    /// # Errors
    /// A rate that is not finite or is negative.
    pub fn operating_point(&self, fp_per_scan: f64) -> Result<FrocPoint, MetricsError> {
        check_rates(&[fp_per_scan])?;
        let within = self.curve().into_iter().take_while(|point| point.fp_per_scan <= fp_per_scan);
        Ok(within.last().expect("the first point has no false positives"))
    }

    /// The operating point behind a sensitivity: the highest threshold at which at least this share of nodules is found, with
    /// its false positives per scan. `None` where even all marks together find less.
    ///
    /// # Errors
    /// A sensitivity outside `0..=1`.
    pub fn operating_point_for(&self, sensitivity: f64) -> Result<Option<FrocPoint>, MetricsError> {
        if !(0.0..=1.0).contains(&sensitivity) {
            return Err(MetricsError::Range { what: "a sensitivity", value: sensitivity, range: "from 0 to 1" });
        }
        Ok(self.curve().into_iter().find(|point| point.sensitivity >= sensitivity))
    }

    /// The point at a threshold: marks scored at least `threshold` count.
    pub fn at_threshold(&self, threshold: f64) -> FrocPoint {
        let points = self.curve().into_iter().take_while(|point| point.threshold >= threshold);
        FrocPoint { threshold, ..points.last().expect("the first threshold is infinite") }
    }

    /// Mean sensitivity at [`CPM_RATES`]: LUNA16's competition performance metric (Niemeijer et al., IEEE Trans Med
    /// Imaging 2011;30:215).
    pub fn cpm(&self, how: Interpolation) -> f64 {
        mean(&self.sensitivity_at(&CPM_RATES, how).expect("the rates are fixed"))
    }

    /// Sensitivity at each of `rates` when scan `i` counts `weights[i]` times; `None` where no nodule is left.
    ///
    /// One walk over the sorted marks: this is what makes thousands of resamplings cheap.
    ///
    /// # Panics
    /// If the weights are not one for each scan.
    pub fn resampled(&self, weights: &[u32], rates: &[f64], how: Interpolation) -> Option<Vec<f64>> {
        assert_eq!(weights.len(), self.counts.scans, "one weight for each scan");
        let weighted =
            |counts: &[u32]| -> u64 { weights.iter().zip(counts).map(|(w, n)| u64::from(*w) * u64::from(*n)).sum() };
        let scans: u64 = weights.iter().map(|w| u64::from(*w)).sum();
        let nodules = weighted(&self.nodules_in_scan);
        if nodules == 0 {
            return None;
        }
        let all_false = weighted(&self.false_positives_in_scan);
        let point = |(false_positives, found): (u64, u64)| {
            let false_positives = match how {
                Interpolation::Luna16 if all_false > 0 => {
                    (false_positives as f64 / all_false as f64) * all_false as f64
                }
                _ => false_positives as f64,
            };
            (false_positives / scans as f64, found as f64 / nodules as f64)
        };
        // No point with fewer false positives can settle the rate; the rounding of `point` is far below 1e-12.
        let at_least = |rate: f64| (rate * scans as f64 * (1.0 - 1e-12)) as u64;

        let mut ascending: Vec<usize> = (0..rates.len()).collect();
        ascending.sort_by(|a, b| rates[*a].total_cmp(&rates[*b]));
        let mut waiting = ascending.into_iter().peekable();
        let mut sensitivities = vec![0.0; rates.len()];
        let mut here = (0u64, 0u64); // (false positives, found)
        let mut before = here;
        let mut look_from = waiting.peek().map_or(u64::MAX, |i| at_least(rates[*i]));
        for step in &self.steps {
            let weight = u64::from(weights[(step >> 2) as usize]);
            if step & FINDS != 0 {
                here.1 += weight
            } else {
                here.0 += weight
            }
            if step & LAST == 0 {
                continue;
            }
            if here.0 >= look_from {
                let (left, right) = (point(before), point(here));
                while let Some(i) = waiting.next_if(|i| passes(rates[*i], left, right, how)) {
                    sensitivities[i] = match how {
                        Interpolation::Linear | Interpolation::Luna16 => {
                            left.1 + (rates[i] - left.0) * (right.1 - left.1) / (right.0 - left.0)
                        }
                        Interpolation::FirstAtOrAbove => right.1,
                    };
                }
                match waiting.peek() {
                    Some(i) => look_from = at_least(rates[*i]),
                    None => break, // most marks lie beyond the highest rate
                }
            }
            before = here;
        }
        for i in waiting {
            sensitivities[i] = point(before).1; // beyond the last mark nothing more is found
        }
        Some(sensitivities)
    }
}

/// Whether the curve, going from `before` to `here`, settles the sensitivity at `rate`.
fn passes(rate: f64, before: (f64, f64), here: (f64, f64), how: Interpolation) -> bool {
    match how {
        // Of several points at one rate the highest counts: wait until the rate is passed.
        Interpolation::Linear | Interpolation::Luna16 => here.0 > rate && here.0 > before.0,
        Interpolation::FirstAtOrAbove => here.0 >= rate,
    }
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn check_rates(rates: &[f64]) -> Result<(), MetricsError> {
    for rate in rates {
        finite("a rate of false positives", *rate)?;
        if *rate < 0.0 {
            return Err(MetricsError::Range {
                what: "a rate of false positives",
                value: *rate,
                range: "at or above 0",
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_ct::WorldPoint;
    use lungai_trace::verifies;
    use proptest::prelude::*;

    /// A scan with `n` nodules of 10 mm at x = 0, 100, 200, ...; a mark is given by the nodule that it lies on.
    fn scan(n: usize, marks: &[(Option<usize>, f64)]) -> (Vec<Mark>, Vec<Lesion>) {
        let at = |x: f64| WorldPoint([x, 0.0, 0.0]);
        let marks = marks
            .iter()
            .map(|(on, score)| Mark { position: at(on.map_or(-500.0, |n| 100.0 * n as f64)), score: *score });
        let lesions = (0..n).map(|n| Lesion { position: at(100.0 * n as f64), diameter_mm: 10.0, excluded: false });
        (marks.collect(), lesions.collect())
    }

    fn check_froc(scans: &[(Vec<Mark>, Vec<Lesion>)], expected: &[&str]) {
        let froc = froc(scans, &MatchRule::LUNA16).unwrap();
        let lines: Vec<_> = froc
            .curve()
            .iter()
            .map(|p| format!("{}: {} fp/scan, {:.0} %", p.threshold, p.fp_per_scan, 100.0 * p.sensitivity))
            .collect();
        assert_eq!(lines, expected);
    }

    #[verifies("FR-004")]
    #[test]
    fn tied_scores_share_one_operating_point() {
        let scans = [scan(2, &[(Some(0), 0.9), (None, 0.7), (Some(1), 0.7)]), scan(0, &[])];
        check_froc(&scans, &["inf: 0 fp/scan, 0 %", "0.9: 0 fp/scan, 50 %", "0.7: 0.5 fp/scan, 100 %"]);
    }

    #[verifies("FR-004")]
    #[test]
    fn missed_nodules_and_scans_without_marks_stay_in_the_denominators() {
        let scans = [scan(1, &[(Some(0), 0.9), (None, 0.5)]), scan(3, &[]), scan(0, &[]), scan(0, &[(None, 0.4)])];
        check_froc(
            &scans,
            &["inf: 0 fp/scan, 0 %", "0.9: 0 fp/scan, 25 %", "0.5: 0.25 fp/scan, 25 %", "0.4: 0.5 fp/scan, 25 %"],
        );
        let counts = froc(&scans, &MatchRule::LUNA16).unwrap().counts();
        assert_eq!((counts.scans, counts.nodules, counts.false_negatives, counts.false_positives), (4, 4, 3, 2));
    }

    #[verifies("FR-004")]
    #[test]
    fn the_two_interpolations_of_the_field_differ_between_points() {
        // Points (0, 0), (0, 0.5), (1, 0.5), (1, 1) for one scan: at 0.5 the line is flat, at 1 the top counts.
        let scans = [scan(2, &[(Some(0), 0.9), (None, 0.8), (Some(1), 0.7)])];
        let f = froc(&scans, &MatchRule::LUNA16).unwrap();
        let at = |rate, how| f.sensitivity_at(&[rate], how).unwrap()[0];
        assert_eq!(at(0.5, Interpolation::Linear), 0.5);
        assert_eq!(at(1.0, Interpolation::Linear), 1.0);
        assert_eq!(at(1.0, Interpolation::FirstAtOrAbove), 0.5);
        // A tie makes the line slope: (0, 0) to (1, 1).
        let tied = froc(&[scan(1, &[(Some(0), 0.9), (None, 0.9)])], &MatchRule::LUNA16).unwrap();
        assert_eq!(tied.sensitivity_at(&[0.25], Interpolation::Linear).unwrap(), [0.25]);
        assert_eq!(tied.sensitivity_at(&[0.25], Interpolation::FirstAtOrAbove).unwrap(), [1.0]);
    }

    #[test]
    fn the_operating_point_is_attained_and_never_exceeds_the_rate() {
        let scans = [scan(2, &[(Some(0), 0.9), (None, 0.8), (Some(1), 0.7), (None, 0.6)])];
        let f = froc(&scans, &MatchRule::LUNA16).unwrap();
        let point = f.operating_point(1.5).unwrap();
        assert_eq!((point.threshold, point.fp_per_scan, point.sensitivity), (0.7, 1.0, 1.0));
        assert_eq!(f.at_threshold(0.75), FrocPoint { threshold: 0.75, fp_per_scan: 1.0, sensitivity: 0.5 });
        assert_eq!(f.operating_point(0.0).unwrap().sensitivity, 0.5);
        let point = f.operating_point_for(0.6).unwrap().unwrap();
        assert_eq!((point.threshold, point.fp_per_scan), (0.7, 1.0));
        let missed = froc(&[scan(2, &[(Some(0), 0.9)])], &MatchRule::LUNA16).unwrap();
        assert_eq!(missed.operating_point_for(0.6), Ok(None));
        assert!(missed.operating_point_for(1.1).is_err());
    }

    #[test]
    fn a_cohort_without_nodules_has_no_sensitivity() {
        let error = froc(&[scan(0, &[(None, 0.5)])], &MatchRule::LUNA16).unwrap_err();
        assert_eq!(error.to_string(), "nodules of a FROC curve: 0 found, at least 1 needed");
        assert!(froc(&[], &MatchRule::LUNA16).is_err());
    }

    fn any_scan() -> impl Strategy<Value = (Vec<Mark>, Vec<Lesion>)> {
        (0usize..4, prop::collection::vec((prop::option::of(0usize..4), 0u8..20), 0..12)).prop_map(|(n, marks)| {
            scan(n, &marks.iter().map(|(on, s)| (*on, f64::from(*s) / 20.0)).collect::<Vec<_>>())
        })
    }

    proptest! {
        #[test]
        fn a_curve_climbs_and_weights_mean_copies(
            scans in prop::collection::vec(any_scan(), 1..6),
            weights in prop::collection::vec(0u32..3, 6),
        ) {
            prop_assume!(scans.iter().any(|(_, lesions)| !lesions.is_empty()));
            let whole = froc(&scans, &MatchRule::LUNA16).unwrap();
            for pair in whole.curve().windows(2) {
                prop_assert!(pair[0].threshold > pair[1].threshold);
                prop_assert!(pair[0].fp_per_scan <= pair[1].fp_per_scan && pair[0].sensitivity <= pair[1].sensitivity);
            }
            let c = whole.counts();
            let marks: usize = scans.iter().map(|(marks, _)| marks.len()).sum();
            prop_assert_eq!(c.true_positives + c.false_positives + c.doubles + c.beyond_limit, marks);

            let weights = &weights[..scans.len()];
            let copies: Vec<_> =
                scans.iter().zip(weights).flat_map(|(s, w)| std::iter::repeat_n(s.clone(), *w as usize)).collect();
            for how in [Interpolation::Linear, Interpolation::Luna16, Interpolation::FirstAtOrAbove] {
                let weighted = whole.resampled(weights, &CPM_RATES, how);
                let copied = froc(&copies, &MatchRule::LUNA16).ok().map(|f| f.sensitivity_at(&CPM_RATES, how).unwrap());
                prop_assert_eq!(weighted, copied);
            }
        }

        #[test]
        fn interpolation_agrees_with_a_literal_numpy_interp(scans in prop::collection::vec(any_scan(), 1..6)) {
            prop_assume!(scans.iter().any(|(_, lesions)| !lesions.is_empty()));
            let f = froc(&scans, &MatchRule::LUNA16).unwrap();
            let curve = f.curve();
            for rate in CPM_RATES {
                // The definition: the last point at or below the rate, and the next one.
                let j = curve.iter().rposition(|p| p.fp_per_scan <= rate).unwrap();
                let expected = curve.get(j + 1).map_or(curve[j].sensitivity, |next| {
                    let slope = (next.sensitivity - curve[j].sensitivity) / (next.fp_per_scan - curve[j].fp_per_scan);
                    curve[j].sensitivity + slope * (rate - curve[j].fp_per_scan)
                });
                let got = f.sensitivity_at(&[rate], Interpolation::Linear).unwrap()[0];
                prop_assert!((got - expected).abs() < 1e-12);
            }
        }
    }
}
