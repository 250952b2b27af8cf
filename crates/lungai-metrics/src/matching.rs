//! Which mark found which nodule.

use crate::MetricsError;
use crate::error::finite;
use lungai_ct::{Finding, ReferenceNodule, WorldPoint};
use lungai_trace::implements;

/// A position that a system marked as a nodule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mark {
    /// Where.
    pub position: WorldPoint,
    /// How sure: higher is surer; any finite number.
    pub score: f64,
}

/// A finding of the reference standard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lesion {
    /// Centre.
    pub position: WorldPoint,
    /// Diameter in mm; negative where unknown, as LUNA16 writes its excluded findings.
    pub diameter_mm: f64,
    /// Excluded from scoring: a mark on it is neither a hit nor a false positive.
    pub excluded: bool,
}

/// How near a mark must be, and which marks count. The field's rules differ, so none is a default.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MatchRule {
    /// How near a mark must be to a lesion's centre.
    pub hit: HitRule,
    /// Diameter in mm of lesions whose diameter is unknown.
    pub unknown_diameter_mm: f64,
    /// At most so many marks of one scan count: those scored strictly above the next one.
    pub marks_per_scan: Option<usize>,
}

/// How near a mark must be to a lesion's centre to hit it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HitRule {
    /// Strictly nearer than the lesion's radius (LUNA16).
    WithinRadius,
    /// Strictly nearer than a fixed distance in mm, whatever the lesion's size.
    WithinMm(f64),
}

impl MatchRule {
    /// The rules of the LUNA16 evaluation script (Setio et al., Med Image Anal 2017;42:1): within the radius,
    /// excluded findings 10 mm wide, at most 100 marks per scan.
    pub const LUNA16: Self = Self { hit: HitRule::WithinRadius, unknown_diameter_mm: 10.0, marks_per_scan: Some(100) };

    fn hits(&self, mark: &Mark, lesion: &Lesion) -> bool {
        let limit_mm = match self.hit {
            HitRule::WithinRadius if lesion.diameter_mm < 0.0 => self.unknown_diameter_mm / 2.0,
            HitRule::WithinRadius => lesion.diameter_mm / 2.0,
            HitRule::WithinMm(mm) => mm,
        };
        let squared: f64 = (0..3).map(|i| (mark.position.0[i] - lesion.position.0[i]).powi(2)).sum();
        squared < limit_mm.powi(2) // squares on both sides, as the script compares them
    }
}

/// What became of a mark; numbers are positions in the list of lesions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkOutcome {
    /// The highest mark on this nodule.
    Hit(usize),
    /// A further mark on a nodule that a higher one hit: counts for nothing.
    Double(usize),
    /// On an excluded finding only: counts for nothing.
    OnExcluded(usize),
    /// On nothing.
    FalsePositive,
    /// Not looked at: beyond the number of marks that count.
    BeyondLimit,
}

/// The marks of one scan against its lesions.
#[derive(Debug, Clone, PartialEq)]
pub struct ScanMatch {
    /// What became of each mark, in the order of the marks.
    pub outcomes: Vec<MarkOutcome>,
    /// For each lesion that is not excluded: its place in the list of lesions, and its highest mark if any.
    pub nodules: Vec<(usize, Option<usize>)>,
    /// Marks on nodules beyond one for each nodule.
    pub doubles: usize,
}

/// Matches the marks of one scan with its lesions.
///
/// Nodules are matched before excluded findings. A mark may hit two overlapping nodules; of several marks on one
/// nodule the highest counts (the first in the list, where tied).
///
/// # Errors
/// A score, coordinate or diameter that is not finite.
#[implements("FR-004")]
pub fn match_scan(marks: &[Mark], lesions: &[Lesion], rule: &MatchRule) -> Result<ScanMatch, MetricsError> {
    for mark in marks {
        finite("a mark's score", mark.score)?;
        mark.position.0.iter().try_for_each(|mm| finite("a mark's coordinate", *mm).map(drop))?;
    }
    for lesion in lesions {
        finite("a lesion's diameter", lesion.diameter_mm)?;
        lesion.position.0.iter().try_for_each(|mm| finite("a lesion's coordinate", *mm).map(drop))?;
    }
    let floor = rule.marks_per_scan.and_then(|limit| score_beyond(marks, limit));
    let counts = |mark: &Mark| floor.is_none_or(|floor| mark.score > floor);

    let mut outcomes: Vec<MarkOutcome> = marks
        .iter()
        .map(|mark| if counts(mark) { MarkOutcome::FalsePositive } else { MarkOutcome::BeyondLimit })
        .collect();
    let mut nodules = Vec::new();
    let mut doubles = 0;
    for (place, nodule) in lesions.iter().enumerate().filter(|(_, lesion)| !lesion.excluded) {
        let mut best: Option<usize> = None;
        for (i, mark) in marks.iter().enumerate().filter(|(_, mark)| counts(mark) && rule.hits(mark, nodule)) {
            doubles += usize::from(best.is_some());
            if outcomes[i] == MarkOutcome::FalsePositive {
                outcomes[i] = MarkOutcome::Double(place);
            }
            if best.is_none_or(|best| mark.score > marks[best].score) {
                best = Some(i);
            }
        }
        if let Some(best) = best {
            outcomes[best] = MarkOutcome::Hit(place);
        }
        nodules.push((place, best));
    }
    for (place, excluded) in lesions.iter().enumerate().filter(|(_, lesion)| lesion.excluded) {
        for (i, mark) in marks.iter().enumerate() {
            if outcomes[i] == MarkOutcome::FalsePositive && rule.hits(mark, excluded) {
                outcomes[i] = MarkOutcome::OnExcluded(place);
            }
        }
    }
    Ok(ScanMatch { outcomes, nodules, doubles })
}

/// Score of the first mark beyond `limit`; `None` where all count.
fn score_beyond(marks: &[Mark], limit: usize) -> Option<f64> {
    let mut scores: Vec<f64> = marks.iter().map(|mark| mark.score).collect();
    scores.sort_unstable_by(|a, b| b.total_cmp(a));
    scores.get(limit).copied()
}

impl From<&ReferenceNodule> for Lesion {
    fn from(nodule: &ReferenceNodule) -> Self {
        Self { position: nodule.position, diameter_mm: nodule.diameter_mm, excluded: nodule.excluded }
    }
}

impl From<&Finding> for Mark {
    fn from(finding: &Finding) -> Self {
        Self { position: finding.position, score: finding.score }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    fn mark(x: f64, score: f64) -> Mark {
        Mark { position: WorldPoint([x, 0.0, 0.0]), score }
    }

    fn nodule(x: f64, diameter_mm: f64) -> Lesion {
        Lesion { position: WorldPoint([x, 0.0, 0.0]), diameter_mm, excluded: false }
    }

    fn excluded(x: f64) -> Lesion {
        Lesion { position: WorldPoint([x, 0.0, 0.0]), diameter_mm: -1.0, excluded: true }
    }

    fn luna16(marks: &[Mark], lesions: &[Lesion]) -> ScanMatch {
        match_scan(marks, lesions, &MatchRule::LUNA16).unwrap()
    }

    use MarkOutcome::*;

    #[verifies("FR-004")]
    #[test]
    fn a_mark_exactly_on_the_radius_misses() {
        let m = luna16(&[mark(3.0, 0.9), mark(2.999, 0.8)], &[nodule(0.0, 6.0)]);
        assert_eq!(m.outcomes, [FalsePositive, Hit(0)]);
        let fixed = MatchRule { hit: HitRule::WithinMm(5.0), ..MatchRule::LUNA16 };
        assert_eq!(match_scan(&[mark(4.9, 1.0)], &[nodule(0.0, 6.0)], &fixed).unwrap().outcomes, [Hit(0)]);
    }

    #[verifies("FR-004")]
    #[test]
    fn several_marks_on_one_nodule_count_once_with_the_highest_score() {
        let m = luna16(&[mark(0.0, 0.2), mark(1.0, 0.9), mark(-1.0, 0.5)], &[nodule(0.0, 6.0)]);
        assert_eq!(m.outcomes, [Double(0), Hit(0), Double(0)]);
        assert_eq!((m.nodules, m.doubles), (vec![(0, Some(1))], 2));
    }

    #[verifies("FR-004")]
    #[test]
    fn one_mark_in_two_overlapping_nodules_finds_both() {
        let m = luna16(&[mark(1.0, 0.9)], &[nodule(0.0, 6.0), nodule(2.0, 6.0)]);
        assert_eq!(m.nodules, [(0, Some(0)), (1, Some(0))]);
        assert_eq!(m.doubles, 0);
    }

    #[verifies("FR-004")]
    #[test]
    fn a_mark_on_an_excluded_finding_is_neither_hit_nor_false() {
        // The excluded finding comes first in the list and reaches 5 mm; the nodule still has the first claim.
        let m = luna16(&[mark(4.9, 0.9), mark(5.1, 0.8), mark(1.0, 0.7)], &[excluded(0.0), nodule(1.5, 3.0)]);
        assert_eq!(m.outcomes, [OnExcluded(0), FalsePositive, Hit(1)]);
    }

    #[test]
    fn beyond_the_limit_only_marks_strictly_above_the_next_score_count() {
        let rule = MatchRule { marks_per_scan: Some(2), ..MatchRule::LUNA16 };
        let marks = [mark(50.0, 0.9), mark(60.0, 0.5), mark(0.0, 0.5)];
        let m = match_scan(&marks, &[nodule(0.0, 6.0)], &rule).unwrap();
        assert_eq!(m.outcomes, [FalsePositive, BeyondLimit, BeyondLimit]); // the third score is 0.5
        let three = MatchRule { marks_per_scan: Some(3), ..MatchRule::LUNA16 };
        assert_eq!(match_scan(&marks, &[nodule(0.0, 6.0)], &three).unwrap().outcomes[2], Hit(0));
    }

    #[test]
    fn a_score_that_is_no_number_is_an_error() {
        let error = match_scan(&[mark(0.0, f64::NAN)], &[], &MatchRule::LUNA16).unwrap_err();
        assert_eq!(error.to_string(), "a mark's score is NaN; a finite number is needed");
    }
}
