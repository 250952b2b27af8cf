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
    let scores: Vec<f64> = marks.iter().map(|mark| mark.score).collect();
    let excluded: Vec<bool> = lesions.iter().map(|lesion| lesion.excluded).collect();
    Ok(every_hit(&scores, &excluded, rule.marks_per_scan, |mark, lesion| rule.hits(&marks[mark], &lesions[lesion])))
}

/// How marks and lesions are paired where several overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// Every overlap is a hit: a mark may find two lesions, further marks on a lesion are doubles (LUNA16).
    EveryHit,
    /// One to one: marks by falling score, each takes the free lesion that it overlaps most (COCO, nnDetection).
    Greedy,
    /// One to one: as many pairs as possible, among those the largest sum of overlaps (PI-CAI).
    Assignment,
}

/// Marks with an extent against lesions with one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OverlapRule {
    /// Smallest overlap that is a hit, above 0.
    pub minimum: f64,
    /// Which overlap counts.
    pub pairing: Pairing,
    /// Whether a mark on a lesion that another mark took is false; else it counts for nothing.
    pub surplus_is_false: bool,
    /// At most so many marks of one scan count: those scored strictly above the next one.
    pub marks_per_scan: Option<usize>,
}

/// Matches marks with lesions by their overlap, `overlap[mark][lesion]` from 0 to 1: of spheres ([`sphere_iou`]), boxes
/// ([`box_iou`]) or masks. Excluded lesions take marks that no other lesion has a claim on.
///
/// # Errors
/// A score that is not finite, lists of different length, an overlap outside `0..=1`, a minimum outside `0..=1` or of 0.
#[implements("FR-004")]
pub fn match_overlaps(
    scores: &[f64],
    excluded: &[bool],
    overlap: &[Vec<f64>],
    rule: &OverlapRule,
) -> Result<ScanMatch, MetricsError> {
    let length =
        |what, left, right| if left == right { Ok(()) } else { Err(MetricsError::Length { what, left, right }) };
    length("scores against overlaps of marks", scores.len(), overlap.len())?;
    overlap.iter().try_for_each(|row| length("overlaps against lesions", row.len(), excluded.len()))?;
    scores.iter().try_for_each(|score| finite("a mark's score", *score).map(drop))?;
    let range = |what, value, range| Err(MetricsError::Range { what, value, range });
    if !(rule.minimum > 0.0 && rule.minimum <= 1.0) {
        return range("the smallest overlap of a hit", rule.minimum, "above 0 and at most 1");
    }
    if let Some(value) = overlap.iter().flatten().find(|value| !(0.0..=1.0).contains(*value)) {
        return range("an overlap", *value, "from 0 to 1");
    }
    let hits = |mark: usize, lesion: usize| overlap[mark][lesion] >= rule.minimum;
    if rule.pairing == Pairing::EveryHit {
        return Ok(every_hit(scores, excluded, rule.marks_per_scan, hits));
    }

    let floor = rule.marks_per_scan.and_then(|limit| score_beyond(scores, limit));
    let counts = |mark: usize| floor.is_none_or(|floor| scores[mark] > floor);
    let counting: Vec<usize> = (0..scores.len()).filter(|mark| counts(*mark)).collect();
    let nodules: Vec<usize> = (0..excluded.len()).filter(|lesion| !excluded[*lesion]).collect();
    let mut mark_of: Vec<Option<usize>> = vec![None; excluded.len()];
    if rule.pairing == Pairing::Greedy {
        let mut by_score = counting.clone();
        by_score.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        for mark in by_score {
            let free = nodules.iter().copied().filter(|lesion| mark_of[*lesion].is_none() && hits(mark, *lesion));
            // The first in the list, where two are overlapped alike.
            let best = free.reduce(|a, b| if overlap[mark][b] > overlap[mark][a] { b } else { a });
            if let Some(lesion) = best {
                mark_of[lesion] = Some(mark);
            }
        }
    } else {
        // A pair is worth more than any overlap can be.
        let value =
            |lesion: &usize, mark: &usize| if hits(*mark, *lesion) { 1.0 + overlap[*mark][*lesion] } else { 0.0 };
        let values: Vec<Vec<f64>> =
            nodules.iter().map(|lesion| counting.iter().map(|mark| value(lesion, mark)).collect()).collect();
        for (row, column) in assign(&values) {
            if values[row][column] > 0.0 {
                mark_of[nodules[row]] = Some(counting[column]);
            }
        }
    }
    let outcome = |mark: usize| {
        if !counts(mark) {
            return MarkOutcome::BeyondLimit;
        }
        if let Some(lesion) = mark_of.iter().position(|taken| *taken == Some(mark)) {
            return MarkOutcome::Hit(lesion);
        }
        let on = |which: bool| (0..excluded.len()).find(|lesion| excluded[*lesion] == which && hits(mark, *lesion));
        match (on(false), on(true)) {
            (Some(lesion), _) if !rule.surplus_is_false => MarkOutcome::Double(lesion),
            (None, Some(lesion)) => MarkOutcome::OnExcluded(lesion),
            _ => MarkOutcome::FalsePositive,
        }
    };
    let outcomes: Vec<MarkOutcome> = (0..scores.len()).map(outcome).collect();
    let doubles = outcomes.iter().filter(|outcome| matches!(outcome, MarkOutcome::Double(_))).count();
    let nodules = nodules.into_iter().map(|lesion| (lesion, mark_of[lesion])).collect();
    Ok(ScanMatch { outcomes, nodules, doubles })
}

/// Intersection over union of two balls with these diameters whose centres are `distance_mm` apart.
pub fn sphere_iou(diameters_mm: [f64; 2], distance_mm: f64) -> f64 {
    let [a, b] = diameters_mm.map(|diameter| diameter / 2.0);
    let ball = |r: f64| 4.0 / 3.0 * std::f64::consts::PI * r.powi(3);
    let common = if distance_mm >= a + b {
        0.0
    } else if distance_mm <= (a - b).abs() {
        ball(a.min(b))
    } else {
        // Two caps (Weisstein, Sphere-Sphere Intersection).
        let d = distance_mm;
        std::f64::consts::PI * (a + b - d).powi(2) * (d * d + 2.0 * d * (a + b) - 3.0 * (a - b).powi(2)) / (12.0 * d)
    };
    let union = ball(a) + ball(b) - common;
    if union > 0.0 { common / union } else { 0.0 }
}

/// Intersection over union of two boxes along the axes, each given by its centre and its size in mm.
pub fn box_iou(first: (WorldPoint, [f64; 3]), second: (WorldPoint, [f64; 3])) -> f64 {
    let edge = |(centre, size): &(WorldPoint, [f64; 3]), i: usize, sign: f64| centre.0[i] + sign * size[i] / 2.0;
    let common: f64 = (0..3)
        .map(|i| edge(&first, i, 1.0).min(edge(&second, i, 1.0)) - edge(&first, i, -1.0).max(edge(&second, i, -1.0)))
        .map(|width| width.max(0.0))
        .product();
    let union = first.1.iter().product::<f64>() + second.1.iter().product::<f64>() - common;
    if union > 0.0 { common / union } else { 0.0 }
}

/// The pairs of rows and columns with the largest sum of values, each used once: the Hungarian method with potentials
/// (Kuhn, Nav Res Logist Q 1955;2:83).
fn assign(values: &[Vec<f64>]) -> Vec<(usize, usize)> {
    let rows = values.len();
    let columns = values.first().map_or(0, Vec::len);
    if rows > columns {
        let turned: Vec<Vec<f64>> = (0..columns).map(|c| values.iter().map(|row| row[c]).collect()).collect();
        return assign(&turned).into_iter().map(|(a, b)| (b, a)).collect();
    }
    // Rows and columns count from 1; 0 stands for none.
    let (mut of_row, mut of_column) = (vec![0.0; rows + 1], vec![0.0; columns + 1]);
    let mut row_of = vec![0; columns + 1];
    for row in 1..=rows {
        row_of[0] = row;
        let mut column = 0;
        let mut least = vec![f64::INFINITY; columns + 1];
        let mut from = vec![0; columns + 1];
        let mut done = vec![false; columns + 1];
        // The cheapest path from this row to a free column, where cost is minus value.
        while row_of[column] != 0 {
            done[column] = true;
            let at = row_of[column];
            let (mut delta, mut next) = (f64::INFINITY, 0);
            for c in (1..=columns).filter(|c| !done[*c]) {
                let reduced = -values[at - 1][c - 1] - of_row[at] - of_column[c];
                if reduced < least[c] {
                    (least[c], from[c]) = (reduced, column);
                }
                if least[c] < delta {
                    (delta, next) = (least[c], c);
                }
            }
            for c in 0..=columns {
                if done[c] {
                    of_row[row_of[c]] += delta;
                    of_column[c] -= delta;
                } else {
                    least[c] -= delta;
                }
            }
            column = next;
        }
        while column != 0 {
            row_of[column] = row_of[from[column]];
            column = from[column];
        }
    }
    (1..=columns).filter(|c| row_of[*c] != 0).map(|c| (row_of[c] - 1, c - 1)).collect()
}

/// LUNA16's pairing: nodules before excluded findings, every hit counts.
fn every_hit(
    scores: &[f64],
    excluded: &[bool],
    marks_per_scan: Option<usize>,
    hits: impl Fn(usize, usize) -> bool,
) -> ScanMatch {
    let floor = marks_per_scan.and_then(|limit| score_beyond(scores, limit));
    let counts = |mark: usize| floor.is_none_or(|floor| scores[mark] > floor);
    let mut outcomes: Vec<MarkOutcome> = (0..scores.len())
        .map(|mark| if counts(mark) { MarkOutcome::FalsePositive } else { MarkOutcome::BeyondLimit })
        .collect();
    let mut nodules = Vec::new();
    let mut doubles = 0;
    for place in (0..excluded.len()).filter(|place| !excluded[*place]) {
        let mut best: Option<usize> = None;
        for mark in (0..scores.len()).filter(|mark| counts(*mark) && hits(*mark, place)) {
            doubles += usize::from(best.is_some());
            if outcomes[mark] == MarkOutcome::FalsePositive {
                outcomes[mark] = MarkOutcome::Double(place);
            }
            if best.is_none_or(|best| scores[mark] > scores[best]) {
                best = Some(mark);
            }
        }
        if let Some(best) = best {
            outcomes[best] = MarkOutcome::Hit(place);
        }
        nodules.push((place, best));
    }
    for place in (0..excluded.len()).filter(|place| excluded[*place]) {
        for (mark, outcome) in outcomes.iter_mut().enumerate() {
            if *outcome == MarkOutcome::FalsePositive && hits(mark, place) {
                *outcome = MarkOutcome::OnExcluded(place);
            }
        }
    }
    ScanMatch { outcomes, nodules, doubles }
}

/// Refuses a submission whose marks are no positions in mm: two of the field's usual mistakes, seen by their range.
///
/// Voxel indices are never negative, while patients lie on both sides of their origin: twenty marks or more without one
/// negative coordinate, where a tenth of the findings have a negative one along x or y, are indices. And where there are twenty
/// findings to span the patients, most marks lie within 100 mm of that span.
///
/// # Errors
/// [`MetricsError::Units`].
#[implements("FR-004")]
pub fn check_millimetres<'a>(
    marks: impl Iterator<Item = &'a Mark> + Clone,
    lesions: impl Iterator<Item = &'a Lesion> + Clone,
) -> Result<(), MetricsError> {
    let (n_marks, n_lesions) = (marks.clone().count(), lesions.clone().count());
    if n_marks < 20 || n_lesions == 0 {
        return Ok(());
    }
    let negative = |p: &WorldPoint| p.0[0] < 0.0 || p.0[1] < 0.0;
    let negative_lesions = lesions.clone().filter(|lesion| negative(&lesion.position)).count();
    if 10 * negative_lesions >= n_lesions && !marks.clone().any(|mark| mark.position.0.iter().any(|v| *v < 0.0)) {
        return Err(MetricsError::Units { what: "no mark has a negative coordinate, findings have" });
    }
    if n_lesions < 20 {
        return Ok(());
    }
    const MARGIN_MM: f64 = 100.0;
    let spans: [[f64; 2]; 3] = std::array::from_fn(|i| {
        let along = lesions.clone().map(|lesion| lesion.position.0[i]);
        [along.clone().fold(f64::INFINITY, f64::min) - MARGIN_MM, along.fold(f64::NEG_INFINITY, f64::max) + MARGIN_MM]
    });
    let outside = |p: &WorldPoint| p.0.iter().zip(&spans).any(|(v, [low, high])| v < low || v > high);
    if 2 * marks.filter(|mark| outside(&mark.position)).count() > n_marks {
        return Err(MetricsError::Units {
            what: "most marks lie more than 100 mm outside of the range of the findings",
        });
    }
    Ok(())
}

/// Score of the first mark beyond `limit`; `None` where all count.
fn score_beyond(scores: &[f64], limit: usize) -> Option<f64> {
    if scores.len() <= limit {
        return None;
    }
    let mut scores = scores.to_vec();
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

    fn overlapped(scores: &[f64], overlap: &[[f64; 2]], pairing: Pairing, surplus_is_false: bool) -> Vec<MarkOutcome> {
        let rule = OverlapRule { minimum: 0.1, pairing, surplus_is_false, marks_per_scan: None };
        let rows: Vec<Vec<f64>> = overlap.iter().map(|row| row.to_vec()).collect();
        match_overlaps(scores, &[false, false], &rows, &rule).unwrap().outcomes
    }

    #[verifies("FR-004")]
    #[test]
    fn pairings_differ_where_two_marks_want_one_lesion() {
        // The surer mark overlaps both lesions, the first one more; the other mark only the first.
        let (scores, overlap) = ([0.9, 0.8], [[0.5, 0.4], [0.3, 0.0]]);
        assert_eq!(overlapped(&scores, &overlap, Pairing::EveryHit, false), [Hit(1), Double(0)]);
        assert_eq!(overlapped(&scores, &overlap, Pairing::Greedy, true), [Hit(0), FalsePositive]);
        assert_eq!(overlapped(&scores, &overlap, Pairing::Greedy, false), [Hit(0), Double(0)]);
        assert_eq!(overlapped(&scores, &overlap, Pairing::Assignment, true), [Hit(1), Hit(0)]);
        // Below the smallest overlap nothing is a hit.
        assert_eq!(overlapped(&[0.9], &[[0.05, 0.0]], Pairing::Assignment, true), [FalsePositive]);
    }

    #[verifies("FR-004")]
    #[test]
    fn overlaps_of_balls_and_boxes_are_known_in_closed_form() {
        assert_eq!(sphere_iou([10.0, 10.0], 0.0), 1.0);
        assert_eq!(sphere_iou([10.0, 10.0], 10.0), 0.0);
        assert!((sphere_iou([10.0, 5.0], 1.0) - 0.125).abs() < 1e-15); // within: the volumes' ratio
        // Equal balls a radius apart share 5/16 of one: 5 / (32 - 5).
        assert!((sphere_iou([10.0, 10.0], 5.0) - 5.0 / 27.0).abs() < 1e-15);
        let cube = |x: f64| (WorldPoint([x, 0.0, 0.0]), [2.0; 3]);
        assert_eq!(box_iou(cube(0.0), cube(1.0)), 1.0 / 3.0);
        assert_eq!(box_iou(cube(0.0), cube(2.0)), 0.0);
    }

    #[verifies("FR-004")]
    #[test]
    fn voxel_indices_in_place_of_millimetres_are_noticed() {
        // Lungs from -150 to 150 mm; the same places as indices of 0.7 mm voxels from -180 mm.
        let lesions: Vec<Lesion> = (0..30).map(|i| nodule(-150.0 + 10.0 * f64::from(i), 6.0)).collect();
        let marks: Vec<Mark> = lesions.iter().map(|l| Mark { position: l.position, score: 0.5 }).collect();
        assert_eq!(check_millimetres(marks.iter(), lesions.iter()), Ok(()));
        let index = |mark: &Mark| Mark { position: WorldPoint(mark.position.0.map(|mm| (mm + 180.0) / 0.7)), ..*mark };
        let indices: Vec<Mark> = marks.iter().map(index).collect();
        assert_eq!(check_millimetres(indices.iter(), lesions.iter()).unwrap_err().rule(), "not-millimetres");
        let in_metres_off: Vec<Mark> =
            marks.iter().map(|m| Mark { position: WorldPoint(m.position.0.map(|v| -3.0 * v - 900.0)), ..*m }).collect();
        assert!(check_millimetres(in_metres_off.iter(), lesions.iter()).is_err());
        assert_eq!(check_millimetres(indices[..10].iter(), lesions.iter()), Ok(())); // too few to tell
    }

    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_assignment_is_the_best_of_all(values in prop::collection::vec(prop::collection::vec(0u8..9, 3), 1..5)) {
            let values: Vec<Vec<f64>> = values.iter().map(|row| row.iter().map(|v| f64::from(*v)).collect()).collect();
            let pairs = assign(&values);
            prop_assert_eq!(pairs.len(), values.len().min(3));
            let sum: f64 = pairs.iter().map(|(r, c)| values[*r][*c]).sum();
            // All ways to give each row a free column or none.
            fn best(values: &[Vec<f64>], row: usize, used: u8) -> f64 {
                let Some(line) = values.get(row) else { return 0.0 };
                let skip = best(values, row + 1, used);
                (0..3).filter(|c| used >> c & 1 == 0).map(|c| line[c] + best(values, row + 1, used | 1 << c)).fold(skip, f64::max)
            }
            prop_assert_eq!(sum, best(&values, 0, 0));
        }
    }

    #[test]
    fn a_score_that_is_no_number_is_an_error() {
        let error = match_scan(&[mark(0.0, f64::NAN)], &[], &MatchRule::LUNA16).unwrap_err();
        assert_eq!(error.to_string(), "a mark's score is NaN; a finite number is needed");
    }
}
