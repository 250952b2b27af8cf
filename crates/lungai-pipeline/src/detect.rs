//! Nodule candidates: the detector over the whole lung, in patient mm.

use crate::MAX_FINDINGS;
use crate::tiles::{cut, tiles, tiles_at_once};
use burn::tensor::{Device, Tensor, TensorData};
use lungai_ct::{Geometry, LabelMap, Spacing, Volume, VoxelPoint, WorldPoint};
use lungai_imaging::{axial, morphology::dilate_mm, resample, resample_labels};
use lungai_models::anchors::proposals;
use lungai_models::detector::{DetectorConfig, DetectorNet, DetectorOutput};
use lungai_trace::implements;
use ndarray::{Array3, Zip, s};

/// How far outside of the lung mask a candidate may lie: a juxtapleural nodule is often left out of the mask.
pub const GATE_MM: f64 = 10.0;
/// Edge of the gate's voxels.
const GATE_SPACING_MM: f64 = 2.0;

/// Candidates of one scan at most, highest scores first: twice the findings that are reported, so that what turns out too
/// small does not cost a finding its place.
const MAX_CANDIDATES: usize = 2 * MAX_FINDINGS;

/// A place that may be a nodule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Centre.
    pub position: WorldPoint,
    /// Diameter of the sphere that the detector sees.
    pub diameter_mm: f64,
    /// `0..=1`.
    pub score: f64,
}

/// Where candidates count: within 10 mm of any of several lung masks. It never touches the image.
#[derive(Debug)]
pub struct Gate {
    open: Array3<bool>,
    grid: Geometry,
}

impl Gate {
    /// All maps must be of the same scan.
    ///
    /// # Panics
    /// If `lungs` is empty.
    pub fn new(lungs: &[&LabelMap]) -> Self {
        let spacing = Spacing::new([GATE_SPACING_MM; 3]).expect("positive");
        let grid = lungs[0].geometry().respaced(spacing);
        let mut mask = Array3::from_elem(grid.size(), false);
        for map in lungs {
            Zip::from(&mut mask).and(&resample_labels(map, &grid).labels()).for_each(|open, label| *open |= *label > 0);
        }
        let open = dilate_mm(mask.view(), spacing, GATE_MM);
        Self { open, grid }
    }

    /// Whether a candidate at `point` counts.
    pub fn is_open(&self, point: WorldPoint) -> bool {
        self.grid.voxel_at(point).is_some_and(|index| self.open[index.0])
    }

    /// Corners of the box of all open voxels, outer edge to outer edge; `None` where all is shut.
    fn corners(&self) -> Option<[WorldPoint; 8]> {
        let mut extent: Option<[(usize, usize); 3]> = None;
        for ((z, y, x), open) in self.open.indexed_iter() {
            if *open {
                let at = [z, y, x];
                let old = extent.unwrap_or(at.map(|i| (i, i)));
                extent = Some(std::array::from_fn(|i| (old[i].0.min(at[i]), old[i].1.max(at[i]))));
            }
        }
        let [low, high] = [|e: (usize, usize)| e.0 as f64 - 0.5, |e: (usize, usize)| e.1 as f64 + 0.5];
        extent.map(|extent| box_corners(&self.grid, extent.map(low), extent.map(high)))
    }

    /// Whether any voxel is open in the box of these corners, or in the box along the gate's axes that holds it.
    fn any_open(&self, corners: [WorldPoint; 8]) -> bool {
        let voxels = corners.map(|corner| self.grid.to_voxel(corner).0);
        let range = |axis: usize| {
            let at = voxels.map(|v| v[axis].round());
            let [low, high] =
                [at.iter().copied().fold(f64::INFINITY, f64::min), at.iter().copied().fold(0.0, f64::max)];
            let end = (high as usize + 1).min(self.open.shape()[axis]);
            (low.max(0.0) as usize).min(end)..end
        };
        self.open.slice(s![range(0), range(1), range(2)]).iter().any(|open| *open)
    }
}

/// The eight corners of the box from `low` to `high`, voxel positions `[z, y, x]` of `grid`.
fn box_corners(grid: &Geometry, low: [f64; 3], high: [f64; 3]) -> [WorldPoint; 8] {
    std::array::from_fn(|corner| {
        let side = |axis: usize| if corner >> axis & 1 == 0 { low[axis] } else { high[axis] };
        grid.to_world(VoxelPoint([side(0), side(1), side(2)]))
    })
}

/// Candidates with at least `min_score`, highest score first, one per place. What several `nets` say of a cell is averaged
/// before that, logits and boxes alike.
#[implements("FR-004")]
pub fn candidates(
    nets: &[&DetectorNet],
    config: &DetectorConfig,
    volume: &Volume,
    gate: &Gate,
    min_score: f64,
    device: &Device,
) -> Vec<Candidate> {
    let output = |tiles| DetectorNet::forward_all(nets, &tiles);
    candidates_by(&output, config, volume, gate, min_score, tiles_at_once(device), device)
}

/// [`candidates`] with any engine for the network.
///
/// - `output`: for tiles `[b, 1, n, n, n]`; the product's own is [`DetectorNet::forward_mirrored`]
/// - `at_once`: tiles that go through it together, at least one
pub fn candidates_by(
    output: &dyn Fn(Tensor<5>) -> DetectorOutput,
    config: &DetectorConfig,
    volume: &Volume,
    gate: &Gate,
    min_score: f64,
    at_once: usize,
    device: &Device,
) -> Vec<Candidate> {
    let Some(corners) = gate.corners() else { return Vec::new() };
    let spacing = Spacing::new([config.spacing_mm; 3]).expect("checked configuration");
    // As the network has learned it: a file may store the patient from the other side.
    let upright = axial(volume);
    let whole = upright.geometry().respaced(spacing);
    // Only the part of the scan that the gate lets pass is resampled and looked at.
    let voxels = corners.map(|corner| whole.to_voxel(corner).0);
    let (mut first, mut size) = ([0; 3], [1; 3]);
    for axis in 0..3 {
        let low = voxels.iter().map(|v| v[axis]).fold(f64::INFINITY, f64::min).floor().max(0.0) as usize;
        let high = voxels.iter().map(|v| v[axis]).fold(0.0, f64::max).ceil() as usize + 1;
        first[axis] = low.min(whole.size()[axis] - 1);
        size[axis] = high.min(whole.size()[axis]).saturating_sub(first[axis]).max(1);
    }
    let grid = whole.window(first.map(|v| v as isize), size);
    let part = resample(&upright, &grid);

    let anchors: Vec<f64> = config.anchors_mm.iter().map(|mm| mm / config.spacing_mm).collect();
    let edge = config.tile;
    let mut found = Vec::new();
    let mut starts = tiles(size, edge);
    starts.retain(|start| {
        let low = start.map(|i| i as f64 - 0.5);
        gate.any_open(box_corners(&grid, low, low.map(|i| i + edge as f64)))
    });
    for starts in starts.chunks(at_once) {
        let cut = |start: &[usize; 3]| cut(part.hu(), *start, edge, config.window_hu).into_raw_vec_and_offset().0;
        let input: Vec<f32> = starts.iter().flat_map(cut).collect();
        let data = TensorData::new(input, [starts.len(), 1, edge, edge, edge]);
        let out = output(Tensor::from_data(data, device));
        let [_, _, d, h, w] = out.class.dims();
        let values = |t: Tensor<5>| -> Vec<f32> { t.into_data().convert::<f32>().try_to_vec().expect("converted") };
        let [class, boxes] = [values(out.class), values(out.boxes)];
        let one = |all: usize| all / starts.len();
        let each = class.chunks(one(class.len())).zip(boxes.chunks(one(boxes.len())));
        for (start, (class, boxes)) in starts.iter().zip(each) {
            for p in proposals(class, boxes, [d, h, w], &anchors, min_score) {
                let voxel = std::array::from_fn(|i| p.sphere.centre[i] + start[i] as f64);
                let position = grid.to_world(VoxelPoint(voxel));
                if gate.is_open(position) {
                    let diameter_mm = p.sphere.diameter * config.spacing_mm;
                    found.push(Candidate { position, diameter_mm, score: p.score });
                }
            }
        }
    }
    suppress(found)
}

/// Two spheres are one finding where their centres are nearer than this share of the sum of their radii.
const SAME_PLACE: f64 = 0.75;

/// Non-maximum suppression in mm: of candidates that are one finding, only the highest scored stays. Ties are broken by
/// position, so that the order of tiles cannot matter.
fn suppress(candidates: Vec<Candidate>) -> Vec<Candidate> {
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in by_falling_score(candidates) {
        let hidden = kept.iter().any(|better| {
            let reach = SAME_PLACE * (better.diameter_mm + candidate.diameter_mm) / 2.0;
            better.position.distance_mm(candidate.position) < reach
        });
        if !hidden {
            kept.push(candidate);
            // Scores only fall from here on.
            if kept.len() == MAX_CANDIDATES {
                break;
            }
        }
    }
    kept
}

/// Highest score first; equal ones by position.
pub(crate) fn by_falling_score(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by(|a, b| {
        b.score.total_cmp(&a.score).then_with(|| a.position.0.map(f64::to_bits).cmp(&b.position.0.map(f64::to_bits)))
    });
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    fn at(x: f64, diameter_mm: f64, score: f64) -> Candidate {
        Candidate { position: WorldPoint([x, 0.0, 0.0]), diameter_mm, score }
    }

    #[verifies("FR-004", "R-002")]
    #[test]
    fn of_candidates_at_one_place_the_highest_score_stays() {
        let kept = suppress(vec![at(0.0, 6.0, 0.5), at(1.0, 6.0, 0.9), at(3.9, 6.0, 0.7), at(20.0, 4.0, 0.1)]);
        assert_eq!(kept, [at(1.0, 6.0, 0.9), at(20.0, 4.0, 0.1)]);
    }

    #[verifies("R-001")]
    #[test]
    fn neighbours_that_hardly_overlap_both_stay() {
        assert_eq!(suppress(vec![at(0.0, 6.0, 0.9), at(4.6, 6.0, 0.8)]).len(), 2);
    }

    #[verifies("R-001")]
    #[test]
    fn the_gate_is_open_up_to_10_mm_outside_of_any_mask() {
        let geometry =
            Geometry::new([20, 20, 40], Spacing::new([2.0; 3]).unwrap(), WorldPoint([0.0; 3]), Geometry::AXIAL)
                .unwrap();
        let map = |x: usize| {
            let mut labels = Array3::zeros((20, 20, 40));
            labels[[10, 10, x]] = 1;
            LabelMap::new(labels, geometry.clone()).unwrap()
        };
        let gate = Gate::new(&[&map(5), &map(30)]);
        let open = |x: f64| gate.is_open(WorldPoint([x, 20.0, 20.0]));
        assert!(open(10.0) && open(20.0) && open(60.0) && open(69.0));
        assert!(!open(30.0) && !open(74.0));
    }

    #[verifies("R-001")]
    #[test]
    fn no_box_that_touches_an_open_voxel_is_skipped() {
        let grid =
            Geometry::new([5, 6, 7], Spacing::new([2.0; 3]).unwrap(), WorldPoint([0.0; 3]), Geometry::AXIAL).unwrap();
        let mut open = Array3::from_elem((5, 6, 7), false);
        open[[4, 5, 6]] = true;
        let gate = Gate { open, grid: grid.clone() };
        let any = |low, high| gate.any_open(box_corners(&grid, low, high));
        assert!(any([3.6, 4.6, 5.6], [20.0; 3]) && any([0.0; 3], [3.51, 4.51, 5.51]));
        assert!(!any([0.0; 3], [4.0, 5.0, 5.49]) && !any([-9.0; 3], [-1.0; 3]) && !any([5.0; 3], [9.0; 3]));
    }
}
