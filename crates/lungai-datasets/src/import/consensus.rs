//! From several readers' outlines to one truth.
//!
//! Marks become one nodule as in complete-linkage clustering, nearest marks first: every two of them must be close to each other
//! and of different readers, so that a reader counts once and two nodules are not joined by a mark that lies between them. pylidc
//! 0.2.3 joins through third marks instead, tightening its tolerance while a cluster has more than four.
//!
//! Compared with LUNA16, whose own program is not published: of the outlines of its 888 scans as pylidc carries them, with
//! LUNA16's rule, this gives 1,186 nodules as LUNA16 has, as many as LUNA16 in 761 of 763 scans. Diameters differ by -0.02 mm
//! in the median (5 to 95 %: -0.34 to 0.29 mm). pylidc does not keep readers apart: each outline counted as a reader there; with
//! readers guessed from the order of the outlines the figures are the same. Joined through third marks, twelve clusters had more than
//! four outlines.

use super::lidc_xml::{Contour, Outlined, Ratings, Reading};
use super::truth::Marked;
use crate::DatasetError;
use crate::clusters::clusters;
use crate::error::Fault;
use lungai_ct::{Geometry, NoduleKind, ReferenceNodule, VoxelPoint, WorldPoint, sphere_diameter_mm};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Outlined nodules of a series at most; LIDC's four readers together outlined fewer than a hundred.
const MAX_MARKINGS: usize = 2000;

/// When marks of several readers are one nodule, and what it is then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consensus {
    /// When two readers' marks are of one nodule. Of more marks than two every pair must be.
    pub join: Join,
    /// Readers at least for a nodule; what fewer outlined is ignored in scoring. LUNA16: 3 of 4.
    pub readers_at_least: usize,
    /// The median rating (1 highly unlikely to 5 highly suspicious) at and below which a nodule is benign, and at and above
    /// which it is malignant; between them it is unknown. `[2.5, 3.5]` leaves a 3 unknown.
    pub benign_malignant: [f64; 2],
}

/// When two readers' marks are of one nodule.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Join {
    /// Centres closer than this many times the sum of both radii; 1 is LUNA16's rule (Setio et al. 2017).
    Distance {
        /// Times the sum of radii, above 0.
        radii: f64,
    },
    /// Outlined voxels in common over those in either, at least.
    Overlap {
        /// `0..=1`, above 0.
        at_least: f64,
    },
}

impl Consensus {
    pub(crate) fn check(&self) -> Result<(), (&'static str, String, String)> {
        let [benign, malignant] = self.benign_malignant;
        let (key, value, sound) = match self.join {
            Join::Distance { radii } => ("radii", radii, radii.is_finite() && radii > 0.0),
            Join::Overlap { at_least } => ("at_least", at_least, at_least > 0.0 && at_least <= 1.0),
        };
        if !sound {
            return Err((key, value.to_string(), format!("consensus: {key} {value} is out of range")));
        }
        if self.readers_at_least == 0 {
            return Err(("readers_at_least", "0".into(), "consensus: readers_at_least must be at least 1".into()));
        }
        if !(1.0 <= benign && benign < malignant && malignant <= 5.0) {
            let value = format!("[{benign}, {malignant}]");
            let reason = format!("consensus: benign_malignant {value} must ascend within 1..=5");
            return Err(("benign_malignant", value, reason));
        }
        Ok(())
    }
}

/// A reader's nodule as voxels.
struct Marking<'a> {
    reader: usize,
    outlined: &'a Outlined,
    /// Slice, row, column.
    voxels: BTreeSet<[usize; 3]>,
    centre: WorldPoint,
    volume_mm3: f64,
    diameter_mm: f64,
}

/// The truth of one series. Outlines of at least `readers_at_least` readers become a nodule whose position and diameter
/// are the means over the readers and whose ratings are their medians; everything else that anyone marked is a finding to ignore.
///
/// # Errors
/// [`Fault::OutsideVolume`] where an outline lies on no slice, and where there are too few readings to ever agree.
pub(crate) fn consensus(
    rule: &Consensus,
    reading: &Reading,
    grid: &Geometry,
    finding_diameter_mm: f64,
) -> Result<Vec<Marked>, DatasetError> {
    if reading.readers.len() < rule.readers_at_least {
        let reason = format!("{} readings where {} must agree", reading.readers.len(), rule.readers_at_least);
        return Err(DatasetError::Config { file: reading.file.clone(), line: 1, reason });
    }
    let mut markings = Vec::new();
    for (reader, read) in reading.readers.iter().enumerate() {
        for outlined in &read.nodules {
            markings.push(Marking::of(reader, outlined, reading, grid)?);
        }
    }
    if markings.len() > MAX_MARKINGS {
        let reason = format!("{} outlined nodules in one series; at most {MAX_MARKINGS} are compared", markings.len());
        return Err(DatasetError::Config { file: reading.file.clone(), line: 1, reason });
    }
    let mut marked: Vec<Marked> = clusters(markings.len(), |a, b| apart(rule.join, &markings[a], &markings[b]))
        .into_iter()
        .map(|cluster| {
            let members: Vec<&Marking> = cluster.iter().map(|at| &markings[*at]).collect();
            let nodule = agreed(rule, &members, members.len() < rule.readers_at_least);
            Marked { nodule, file: reading.file.clone(), line: members[0].outlined.line }
        })
        .collect();
    for point in reading.readers.iter().flat_map(|reader| reader.small.iter().chain(&reader.non_nodules)) {
        let slice = slice_at(point.z_mm, grid, reading, point.line)?;
        let position = grid.to_world(VoxelPoint([slice as f64, point.row, point.column]));
        let nodule = ReferenceNodule { excluded: true, ..ReferenceNodule::at(position, finding_diameter_mm) };
        marked.push(Marked { nodule, file: reading.file.clone(), line: point.line });
    }
    Ok(marked)
}

impl<'a> Marking<'a> {
    fn of(reader: usize, outlined: &'a Outlined, reading: &Reading, grid: &Geometry) -> Result<Self, DatasetError> {
        let mut voxels = BTreeSet::new();
        // Holes last: a hole may come before the outline that it is cut from.
        let mut contours: Vec<&Contour> = outlined.contours.iter().collect();
        contours.sort_by_key(|contour| !contour.inclusion);
        let [_, rows, columns] = grid.size();
        for contour in contours {
            let slice = slice_at(contour.z_mm, grid, reading, outlined.line)?;
            // Before the area is filled: four points far away could enclose billions of pixels.
            if let Some([x, y]) = contour.points.iter().find(|p| p[0] as usize >= columns || p[1] as usize >= rows) {
                let reason = format!("an outline's point at column {x}, row {y} lies outside of the image");
                let (file, line) = (reading.file.clone(), Some(outlined.line));
                return Err(DatasetError::Fault { fault: Fault::OutsideVolume, file, line, reason });
            }
            for [column, row] in enclosed(&contour.points, !contour.inclusion) {
                if contour.inclusion {
                    voxels.insert([slice, row, column]);
                } else {
                    voxels.remove(&[slice, row, column]);
                }
            }
        }
        if voxels.is_empty() {
            // An outline two pixels wide encloses nothing: its middle is what the reader meant.
            let contour = &outlined.contours[0];
            let slice = slice_at(contour.z_mm, grid, reading, outlined.line)?;
            let middle = |axis: usize| {
                let sum: i64 = contour.points.iter().map(|p| i64::from(p[axis])).sum();
                (sum as f64 / contour.points.len() as f64).round() as usize
            };
            voxels.insert([slice, middle(1), middle(0)]);
        }
        let count = voxels.len() as f64;
        let sum = voxels.iter().fold([0.0; 3], |sum, v| std::array::from_fn(|i| sum[i] + v[i] as f64));
        let volume_mm3 = count * grid.spacing().voxel_mm3();
        Ok(Self {
            reader,
            outlined,
            centre: grid.to_world(VoxelPoint(sum.map(|v| v / count))),
            volume_mm3,
            diameter_mm: sphere_diameter_mm(volume_mm3),
            voxels,
        })
    }
}

/// The slice at a height in mm, within half of a slice distance.
fn slice_at(z_mm: f64, grid: &Geometry, reading: &Reading, line: usize) -> Result<usize, DatasetError> {
    let [origin, step] = [grid.origin().0[2], grid.spacing().zyx_mm()[0] * grid.direction()[2][2]];
    let slice = ((z_mm - origin) / step).round();
    if (0.0..grid.size()[0] as f64).contains(&slice) {
        return Ok(slice as usize);
    }
    let last = origin + step * (grid.size()[0] - 1) as f64;
    let reason = format!("the mark at z = {z_mm} mm lies on no slice of its scan ({origin} to {last} mm)");
    Err(DatasetError::Fault { fault: Fault::OutsideVolume, file: reading.file.clone(), line: Some(line), reason })
}

/// Pixels inside of a closed outline, as column and row; those of the outline itself belong to it where `with_border`.
fn enclosed(points: &[[i32; 2]], with_border: bool) -> Vec<[usize; 2]> {
    let mut border = BTreeSet::new();
    for (a, b) in edges(points) {
        // Neighbouring points touch in LIDC's outlines; longer edges are walked pixel by pixel.
        let steps = (b[0] - a[0]).abs().max((b[1] - a[1]).abs()).max(1);
        for step in 0..=steps {
            let along = |axis: usize| {
                let (from, to) = (f64::from(a[axis]), f64::from(b[axis]));
                (from + (to - from) * f64::from(step) / f64::from(steps)).round() as i32
            };
            border.insert([along(0), along(1)]);
        }
    }
    let rows = points.iter().map(|p| p[1]);
    let (Some(first), Some(last)) = (rows.clone().min(), rows.max()) else { return Vec::new() };
    let mut inside = Vec::new();
    for row in first..=last {
        // Where the row's line crosses the outline; an edge holds its lower end only, so that a corner counts once.
        let mut crossings: Vec<f64> = edges(points)
            .filter(|(a, b)| (a[1] <= row) != (b[1] <= row))
            .map(|(a, b)| {
                let share = f64::from(row - a[1]) / f64::from(b[1] - a[1]);
                f64::from(a[0]) + share * f64::from(b[0] - a[0])
            })
            .collect();
        crossings.sort_by(f64::total_cmp);
        for pair in crossings.chunks_exact(2) {
            for column in pair[0].ceil() as i32..=pair[1].floor() as i32 {
                if !border.contains(&[column, row]) {
                    inside.push([column as usize, row as usize]);
                }
            }
        }
    }
    if with_border {
        inside.extend(border.iter().map(|p| p.map(|v| v as usize)));
    }
    inside
}

/// Each point and the next, the last and the first.
fn edges(points: &[[i32; 2]]) -> impl Iterator<Item = ([i32; 2], [i32; 2])> + '_ {
    points.iter().copied().zip(points.iter().copied().cycle().skip(1))
}

/// How far apart two readers' marks are, the nearest first; `None` where they are not of one nodule.
fn apart(join: Join, a: &Marking, b: &Marking) -> Option<f64> {
    // What one reader saw as two are two.
    if a.reader == b.reader {
        return None;
    }
    let (apart, close) = match join {
        Join::Distance { radii } => {
            let times = a.centre.distance_mm(b.centre) / ((a.diameter_mm + b.diameter_mm) / 2.0);
            (times, times < radii)
        }
        Join::Overlap { at_least } => {
            let common = a.voxels.intersection(&b.voxels).count();
            let share = common as f64 / (a.voxels.len() + b.voxels.len() - common) as f64;
            (1.0 - share, share >= at_least)
        }
    };
    close.then_some(apart)
}

fn agreed(rule: &Consensus, members: &[&Marking], excluded: bool) -> ReferenceNodule {
    let mean = |of: &dyn Fn(&Marking) -> f64| members.iter().map(|m| of(m)).sum::<f64>() / members.len() as f64;
    let rated = |of: &dyn Fn(&Ratings) -> Option<u8>| {
        median(members.iter().filter_map(|m| of(&m.outlined.ratings)).map(f64::from).collect())
    };
    let [benign, malignant] = rule.benign_malignant;
    let malignant = rated(&|r| r.malignancy).and_then(|rating| match rating {
        r if r <= benign => Some(false),
        r if r >= malignant => Some(true),
        _ => None,
    });
    let texture = rated(&|r| r.texture);
    let calcified = rated(&|r| r.calcification).is_some_and(|rating| rating < 6.0);
    let kind = match texture {
        _ if calcified => Some(NoduleKind::Calcified),
        Some(texture) if texture <= 2.0 => Some(NoduleKind::GroundGlass),
        Some(texture) if texture < 4.0 => Some(NoduleKind::PartSolid),
        Some(_) => Some(NoduleKind::Solid),
        None => None,
    };
    ReferenceNodule {
        volume_mm3: Some(mean(&|m| m.volume_mm3)),
        kind,
        malignant,
        spiculation: rated(&|r| r.spiculation).map(|rating| (rating - 1.0) / 4.0),
        excluded,
        ..ReferenceNodule::at(
            WorldPoint(std::array::from_fn(|axis| mean(&|m| m.centre.0[axis]))),
            mean(&|m| m.diameter_mm),
        )
    }
}

/// Of an even number the mean of the middle two.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::lidc_xml::Reader;
    use super::*;

    #[test]
    fn an_outline_encloses_what_lies_within_its_pixels() {
        // A square outline of 5 x 5 pixels: 3 x 3 inside, 25 with its border; drawn by corners or pixel by pixel.
        let corners = [[10, 20], [14, 20], [14, 24], [10, 24]];
        assert_eq!(enclosed(&corners, false).len(), 9);
        assert_eq!(enclosed(&corners, true).len(), 25);
        assert!(enclosed(&corners, false).contains(&[11, 21]));
        // A diamond: |x| + |y| < 3 has 13 pixels, its border 12 more.
        let diamond = [[3, 0], [6, 3], [3, 6], [0, 3]];
        assert_eq!((enclosed(&diamond, false).len(), enclosed(&diamond, true).len()), (13, 25));
        // Two columns enclose nothing; one point neither.
        assert_eq!(enclosed(&[[4, 4], [5, 4], [5, 6], [4, 6]], false), [] as [[usize; 2]; 0]);
        assert_eq!(enclosed(&[[4, 4]], false), [] as [[usize; 2]; 0]);
    }

    const RULE: Consensus =
        Consensus { join: Join::Distance { radii: 1.0 }, readers_at_least: 2, benign_malignant: [2.5, 3.5] };

    /// A square of 7 x 7 pixels within its outline on three slices: 294 mm3, as a sphere of 8.25 mm.
    fn square(column: i32, malignancy: u8) -> Outlined {
        let points = vec![[column - 4, 16], [column + 4, 16], [column + 4, 24], [column - 4, 24]];
        let contour = |z_mm| Contour { z_mm, inclusion: true, points: points.clone() };
        let ratings = Ratings { malignancy: Some(malignancy), ..Ratings::default() };
        Outlined { contours: [4.0, 6.0, 8.0].map(contour).into(), ratings, line: 1 }
    }

    fn agreed_by(readers: &[&[Outlined]]) -> Vec<ReferenceNodule> {
        let spacing = lungai_ct::Spacing::new([2.0, 1.0, 1.0]).unwrap();
        let grid = Geometry::new([10, 64, 64], spacing, WorldPoint([0.0; 3]), Geometry::AXIAL).unwrap();
        let reader = |nodules: &&[Outlined]| Reader { nodules: nodules.to_vec(), ..Reader::default() };
        let readers = readers.iter().map(reader).collect();
        let reading = Reading { series_uid: "1".into(), file: "1.xml".into(), readers };
        consensus(&RULE, &reading, &grid, 10.0).unwrap().into_iter().map(|marked| marked.nodule).collect()
    }

    #[test]
    fn a_mark_between_two_nodules_does_not_make_them_one() {
        // 7 and 8 mm apart, less than 8.25 mm; the outer two are 15 mm apart.
        let nodules = agreed_by(&[&[square(20, 3)], &[square(27, 3)], &[square(35, 3)]]);
        let found: Vec<_> = nodules.iter().map(|n| (n.position.0[0], n.excluded)).collect();
        assert_eq!(found, [(23.5, false), (35.0, true)]);
    }

    #[test]
    fn a_reader_with_two_outlines_counts_once() {
        // The median of 1, 5 and 5 is malignant; with both outlines of the first reader it was 3.
        let nodules = agreed_by(&[&[square(20, 1), square(24, 1)], &[square(21, 5)], &[square(21, 5)]]);
        let found: Vec<_> = nodules.iter().map(|n| (n.malignant, n.excluded)).collect();
        assert_eq!(found, [(Some(true), false), (Some(false), true)]);
        // One reader alone is none of two, however often they outline it.
        let alone = agreed_by(&[&[square(20, 5), square(21, 5)], &[]]);
        assert!(alone.len() == 2 && alone.iter().all(|n| n.excluded));
    }

    #[test]
    fn the_median_of_four_readers_may_lie_between_ratings() {
        assert_eq!(median(vec![5.0, 2.0, 3.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 2.0, 3.0, 5.0]), Some(3.5));
        assert_eq!(median(Vec::new()), None);
    }
}
