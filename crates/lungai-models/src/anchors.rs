//! The one box codec of the detector, and which anchor has to learn which nodule.
//!
//! Everything here is in voxels of the network's grid, `[z, y, x]`; a cell of the output grid stands for the
//! `STRIDE`-cube of voxels below it.

use crate::detector::{BOX_VALUES, STRIDE};

/// Cells round a nodule's centre that must fire for it.
const POSITIVE_CELLS: usize = 5;
/// Cells further out, up to this many cell widths from the centre, are neither right nor wrong.
const IGNORE_CELLS: f64 = 2.0;
/// The same for excluded findings: fewer, for there are many, and what lies beside them is background.
const EXCLUDED_CELLS: f64 = 1.0;

/// What the codes are divided by (SSD's variances, Liu et al. 2016): a mark must lie within the nodule's radius, so an
/// error of a millimetre or two must cost something.
pub const SCALE: f64 = 0.2;

/// Natural logarithm of 8: a decoded diameter is at most 8 times and at least an eighth of its anchor's.
pub(crate) const MAX_LOG_RATIO: f64 = 2.0794415416798357;

/// A nodule as the detector sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sphere {
    /// Centre in voxels, `[z, y, x]`; whole numbers are voxel centres.
    pub centre: [f64; 3],
    /// Diameter in voxels.
    pub diameter: f64,
}

/// A decoded output of the detector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Proposal {
    /// Where.
    pub sphere: Sphere,
    /// Probability-like score, `0..=1`.
    pub score: f64,
}

/// What the detector should say of one patch; arrays as in [`crate::detector::DetectorOutput`] without the batch axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Targets {
    /// Cells `[z, y, x]`.
    pub cells: [usize; 3],
    /// `[anchors, cells]`: 1 nodule, 0 background, -1 not judged.
    pub class: Vec<f32>,
    /// `[anchors, BOX_VALUES, cells]`; meaningful where `class` is 1.
    pub boxes: Vec<f32>,
}

/// Voxel position of a cell's centre along one axis.
fn cell_centre(cell: usize) -> f64 {
    (cell * STRIDE) as f64 + (STRIDE as f64 - 1.0) / 2.0
}

/// Offset in anchor diameters and log ratio of diameters (Ren et al. 2015, for spheres), both divided by [`SCALE`].
pub fn encode(sphere: &Sphere, cell: [usize; 3], anchor: f64) -> [f32; BOX_VALUES] {
    let offset = |axis: usize| ((sphere.centre[axis] - cell_centre(cell[axis])) / (SCALE * anchor)) as f32;
    [offset(0), offset(1), offset(2), ((sphere.diameter / anchor).ln() / SCALE) as f32]
}

/// Inverse of [`encode`]. The ratio is limited, so that a wild output stays a finite sphere.
pub fn decode(values: [f32; BOX_VALUES], cell: [usize; 3], anchor: f64) -> Sphere {
    Sphere {
        centre: std::array::from_fn(|axis| cell_centre(cell[axis]) + f64::from(values[axis]) * SCALE * anchor),
        diameter: anchor * (f64::from(values[3]) * SCALE).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp(),
    }
}

/// Assigns each nodule to the anchor of nearest size at the cells nearest to its centre. All anchors of the cells
/// further round it, of cells inside any `excluded` finding, and the other sizes at its own cells are not judged.
///
/// - `cells`: size of the output grid
/// - `anchors`: diameters in voxels
/// - `excluded`: findings that are neither nodule nor background
pub fn assign(nodules: &[Sphere], excluded: &[Sphere], cells: [usize; 3], anchors: &[f64]) -> Targets {
    let n_cells = cells.iter().product::<usize>();
    let mut class = vec![0f32; anchors.len() * n_cells];
    let mut boxes = vec![0f32; anchors.len() * BOX_VALUES * n_cells];
    let index = |[z, y, x]: [usize; 3]| (z * cells[1] + y) * cells[2] + x;
    let rings = nodules.iter().map(|s| (s, IGNORE_CELLS)).chain(excluded.iter().map(|s| (s, EXCLUDED_CELLS)));
    for (sphere, ring) in rings {
        for (cell, _) in cells_within(sphere, ignore_radius(sphere, ring), cells) {
            for anchor in 0..anchors.len() {
                class[anchor * n_cells + index(cell)] = -1.0;
            }
        }
    }
    // After all the rings, so that a neighbour's ring cannot erase a nodule's own cells.
    for sphere in nodules {
        let Some(best) = nearest_anchor(sphere.diameter, anchors) else { continue };
        let mut near = cells_within(sphere, ignore_radius(sphere, IGNORE_CELLS), cells);
        near.sort_by(|a, b| a.1.total_cmp(&b.1));
        for &(cell, _) in near.iter().take(POSITIVE_CELLS) {
            class[best * n_cells + index(cell)] = 1.0;
            for (value, code) in encode(sphere, cell, anchors[best]).into_iter().enumerate() {
                boxes[(best * BOX_VALUES + value) * n_cells + index(cell)] = code;
            }
        }
    }
    Targets { cells, class, boxes }
}

/// Spheres of all outputs whose score is at least `min_score`.
///
/// - `class`: logits `[anchors, cells]`; `boxes`: `[anchors, BOX_VALUES, cells]`
pub fn proposals(class: &[f32], boxes: &[f32], cells: [usize; 3], anchors: &[f64], min_score: f64) -> Vec<Proposal> {
    let n_cells = cells.iter().product::<usize>();
    assert_eq!(class.len(), anchors.len() * n_cells);
    assert_eq!(boxes.len(), class.len() * BOX_VALUES);
    let mut found = Vec::new();
    for (anchor, &diameter) in anchors.iter().enumerate() {
        for cell in 0..n_cells {
            let score = 1.0 / (1.0 + f64::from(-class[anchor * n_cells + cell]).exp());
            if score >= min_score {
                let values = std::array::from_fn(|v| boxes[(anchor * BOX_VALUES + v) * n_cells + cell]);
                let at = [cell / (cells[1] * cells[2]), cell / cells[2] % cells[1], cell % cells[2]];
                found.push(Proposal { sphere: decode(values, at, diameter), score });
            }
        }
    }
    found
}

fn nearest_anchor(diameter: f64, anchors: &[f64]) -> Option<usize> {
    let off = |anchor: usize| (diameter / anchors[anchor]).ln().abs();
    (0..anchors.len()).min_by(|&a, &b| off(a).total_cmp(&off(b)))
}

fn ignore_radius(sphere: &Sphere, ring_cells: f64) -> f64 {
    (sphere.diameter / 2.0).max(ring_cells * STRIDE as f64)
}

/// Cells whose centre is within `radius` voxels of the sphere's centre, with that distance.
fn cells_within(sphere: &Sphere, radius: f64, cells: [usize; 3]) -> Vec<([usize; 3], f64)> {
    let range = |axis: usize| {
        let at = |voxel: f64| ((voxel - cell_centre(0)) / STRIDE as f64).clamp(0.0, cells[axis] as f64);
        at(sphere.centre[axis] - radius).floor() as usize
            ..cells[axis].min(at(sphere.centre[axis] + radius).ceil() as usize + 1)
    };
    let mut near = Vec::new();
    for z in range(0) {
        for y in range(1) {
            for x in range(2) {
                let cell = [z, y, x];
                let distance = (0..3).map(|i| (cell_centre(cell[i]) - sphere.centre[i]).powi(2)).sum::<f64>().sqrt();
                if distance <= radius {
                    near.push((cell, distance));
                }
            }
        }
    }
    near
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    const ANCHORS: [f64; 3] = [5.0, 10.0, 20.0];

    #[verifies("FR-004")]
    #[test]
    fn decoding_undoes_encoding() {
        let sphere = Sphere { centre: [13.25, 7.5, 22.0], diameter: 6.3 };
        let back = decode(encode(&sphere, [3, 2, 5], 5.0), [3, 2, 5], 5.0);
        for axis in 0..3 {
            assert!((back.centre[axis] - sphere.centre[axis]).abs() < 1e-5);
        }
        assert!((back.diameter - sphere.diameter).abs() < 1e-5);
    }

    #[verifies("FR-004")]
    #[test]
    fn a_perfect_output_gives_the_nodule_back_in_the_right_axis_order() {
        let sphere = Sphere { centre: [9.0, 21.0, 33.0], diameter: 9.0 };
        let cells = [8, 10, 12];
        let targets = assign(&[sphere], &[], cells, &ANCHORS);
        let logits: Vec<f32> = targets.class.iter().map(|c| if *c > 0.5 { 4.0 } else { -9.0 }).collect();
        let found = proposals(&logits, &targets.boxes, cells, &ANCHORS, 0.5);
        assert_eq!(found.len(), POSITIVE_CELLS);
        for proposal in found {
            for axis in 0..3 {
                assert!((proposal.sphere.centre[axis] - sphere.centre[axis]).abs() < 1e-4);
            }
            assert!((proposal.sphere.diameter - 9.0).abs() < 1e-4);
        }
    }

    #[test]
    fn only_the_anchor_of_nearest_size_learns_the_nodule() {
        let sphere = Sphere { centre: [16.0; 3], diameter: 18.0 };
        let targets = assign(&[sphere], &[], [8; 3], &ANCHORS);
        let positives =
            |anchor: usize| targets.class[anchor * 512..(anchor + 1) * 512].iter().filter(|c| **c == 1.0).count();
        assert_eq!([positives(0), positives(1), positives(2)], [0, 0, POSITIVE_CELLS]);
        assert!(targets.class[..512].contains(&-1.0)); // the small anchor is not punished there
    }

    #[test]
    fn an_excluded_finding_is_neither_nodule_nor_background() {
        let mimic = Sphere { centre: [16.0; 3], diameter: 3.0 };
        let targets = assign(&[], &[mimic], [8; 3], &ANCHORS);
        assert!(!targets.class.contains(&1.0));
        assert!(targets.class.contains(&-1.0));
    }

    #[test]
    fn a_neighbour_does_not_erase_a_nodule() {
        let pair = [Sphere { centre: [14.0; 3], diameter: 5.0 }, Sphere { centre: [14.0, 14.0, 22.0], diameter: 5.0 }];
        let targets = assign(&pair, &[], [8; 3], &ANCHORS);
        assert_eq!(targets.class.iter().filter(|c| **c == 1.0).count(), 2 * POSITIVE_CELLS);
    }
}
