//! Two detectors without training. Both are told where the lungs are, which favours them.

use lungai_ct::{Volume, VoxelPoint, WorldPoint, sphere_diameter_mm};
use lungai_imaging::{Connectivity, components, gaussian, morphology};
use lungai_metrics::matching::Mark;
use lungai_phantom::Rendered;
use ndarray::{Array3, Axis, Zip, s};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;
use std::fmt;

/// Lung tissue, and what replaces everything outside of the lungs.
const LUNG_HU: f32 = -860.0;

/// Something that may be a nodule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    position: WorldPoint,
    /// Of the sphere of equal volume, or of the ball that answers most.
    diameter_mm: f64,
    /// Sphericity or response, before size counts.
    shape: f64,
}

/// One point of a grid of settings.
pub(super) trait Setting: fmt::Display {
    /// Whether both find the same candidates and differ in their scores alone.
    fn same_image(&self, other: &Self) -> bool;
    /// Power of the diameter in the score.
    fn size_power(&self) -> f64;

    fn marks(&self, found: &[Candidate]) -> Vec<Mark> {
        let score = |c: &Candidate| c.shape * c.diameter_mm.powf(self.size_power());
        found.iter().map(|c| Mark { position: c.position, score: score(c) }).collect()
    }
}

/// Threshold, opening, connected components; the score is sphericity times a power of size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThresholdGrid {
    /// Lowest HU of a nodule, each -950..=0.
    pub hu: Vec<f64>,
    /// Standard deviation in mm of the Gaussian before it, each 0..=3.
    pub smoothing_mm: Vec<f64>,
    /// Radius in mm of the opening that cuts vessels off, each 0..=5; 0 is none.
    pub opening_mm: Vec<f64>,
    /// Power of the diameter in the score, each -2..=2.
    pub size_power: Vec<f64>,
    /// Diameters in mm that may be a nodule, smallest and largest.
    pub diameter_mm: [f64; 2],
}

/// A point of [`ThresholdGrid`].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Threshold {
    hu: f64,
    smoothing_mm: f64,
    opening_mm: f64,
    size_power: f64,
}

/// Maxima of the negative Laplacian of Gaussian over place and scale; the score is the response, normalised by scale, times
/// a power of size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobGrid {
    /// HU above which tissue is not denser, each -800..=200: low ones make ground glass and solid tissue alike.
    pub ceiling_hu: Vec<f64>,
    /// Standard deviations in mm, a list for each setting, ascending, each 0.5..=12. A ball of radius `sqrt(3) sigma`
    /// answers most.
    pub sigmas_mm: Vec<Vec<f64>>,
    /// Power of the diameter in the score, each -2..=2.
    pub size_power: Vec<f64>,
}

/// A point of [`BlobGrid`].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Blobs {
    ceiling_hu: f64,
    sigmas_mm: Vec<f64>,
    size_power: f64,
}

impl Setting for Threshold {
    fn same_image(&self, other: &Self) -> bool {
        (self.hu, self.smoothing_mm, self.opening_mm) == (other.hu, other.smoothing_mm, other.opening_mm)
    }

    fn size_power(&self) -> f64 {
        self.size_power
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hu, smoothing_mm, opening_mm, size_power } = self;
        write!(f, "above {hu} HU, smoothed {smoothing_mm} mm, opened {opening_mm} mm, size^{size_power}")
    }
}

impl Setting for Blobs {
    fn same_image(&self, other: &Self) -> bool {
        (self.ceiling_hu, &self.sigmas_mm) == (other.ceiling_hu, &other.sigmas_mm)
    }

    fn size_power(&self) -> f64 {
        self.size_power
    }
}

impl fmt::Display for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ceiling_hu, sigmas_mm, size_power } = self;
        write!(f, "up to {ceiling_hu} HU, sigmas {sigmas_mm:?} mm, size^{size_power}")
    }
}

type Rule = (&'static str, bool, &'static str);

impl ThresholdGrid {
    pub(super) fn rules(&self) -> Vec<Rule> {
        let all = |list: &[f64], low: f64, high: f64| !list.is_empty() && list.iter().all(|v| (low..=high).contains(v));
        let [small, large] = self.diameter_mm;
        vec![
            ("threshold.hu", all(&self.hu, -950.0, 0.0), "a list within -950..=0"),
            ("threshold.smoothing_mm", all(&self.smoothing_mm, 0.0, 3.0), "a list within 0..=3"),
            ("threshold.opening_mm", all(&self.opening_mm, 0.0, 5.0), "a list within 0..=5"),
            ("threshold.size_power", all(&self.size_power, -2.0, 2.0), "a list within -2..=2"),
            ("threshold.diameter_mm", small > 0.0 && small < large, "positive and ascending"),
        ]
    }

    /// Scores vary fastest: see [`Setting::same_image`].
    pub(super) fn settings(&self) -> Vec<Threshold> {
        let mut all = Vec::new();
        for &smoothing_mm in &self.smoothing_mm {
            for &hu in &self.hu {
                for &opening_mm in &self.opening_mm {
                    let each = self.size_power.iter();
                    all.extend(each.map(|&size_power| Threshold { hu, smoothing_mm, opening_mm, size_power }));
                }
            }
        }
        all
    }

    pub(super) fn detect(&self, chest: &LungBox, setting: &Threshold) -> Vec<Candidate> {
        let LungBox { volume: hu, inside: lungs } = chest;
        let grid = hu.geometry();
        let spacing = grid.spacing();
        let smooth = gaussian(hu.hu(), spacing, setting.smoothing_mm);
        let mask = Zip::from(&smooth).and(lungs).par_map_collect(|hu, lung| *lung && f64::from(*hu) > setting.hu);
        let mask =
            if setting.opening_mm > 0.0 { morphology::open_mm(mask.view(), spacing, setting.opening_mm) } else { mask };
        let voxel = spacing.voxel_mm3();
        let step = spacing.zyx_mm();
        let regions = components(mask.view(), Connectivity::Faces).regions;
        let candidate = |region: &lungai_imaging::Region| {
            let volume = region.voxels as f64 * voxel;
            let diameter_mm = sphere_diameter_mm(volume);
            let extent = (0..3).map(|i| (region.last.0[i] - region.first.0[i] + 1) as f64 * step[i]);
            // The share of the ball round its longest side that it fills.
            let shape = volume / (PI / 6.0 * extent.fold(0.0, f64::max).powi(3));
            let in_range = (self.diameter_mm[0]..=self.diameter_mm[1]).contains(&diameter_mm);
            in_range.then(|| Candidate { position: grid.to_world(region.centroid), diameter_mm, shape: shape.min(1.0) })
        };
        best(regions.iter().filter_map(candidate).collect())
    }
}

impl BlobGrid {
    pub(super) fn rules(&self) -> Vec<Rule> {
        let all = |list: &[f64], low: f64, high: f64| !list.is_empty() && list.iter().all(|v| (low..=high).contains(v));
        let sigmas =
            !self.sigmas_mm.is_empty() && self.sigmas_mm.iter().all(|list| all(list, 0.5, 12.0) && list.is_sorted());
        vec![
            ("blobs.ceiling_hu", all(&self.ceiling_hu, -800.0, 200.0), "a list within -800..=200"),
            ("blobs.sigmas_mm", sigmas, "lists within 0.5..=12, ascending"),
            ("blobs.size_power", all(&self.size_power, -2.0, 2.0), "a list within -2..=2"),
        ]
    }

    /// Scores vary fastest: see [`Setting::same_image`].
    pub(super) fn settings(&self) -> Vec<Blobs> {
        let mut all = Vec::new();
        for &ceiling_hu in &self.ceiling_hu {
            for sigmas_mm in &self.sigmas_mm {
                let each = self.size_power.iter();
                all.extend(each.map(|&size_power| Blobs { ceiling_hu, sigmas_mm: sigmas_mm.clone(), size_power }));
            }
        }
        all
    }

    pub(super) fn detect(&self, chest: &LungBox, setting: &Blobs) -> Vec<Candidate> {
        let LungBox { volume: hu, inside: lungs } = chest;
        let ceiling = setting.ceiling_hu as f32;
        let tissue = Zip::from(hu.hu()).and(lungs).par_map_collect(|hu, lung| {
            if *lung { (f32::from(*hu).clamp(LUNG_HU, ceiling) - LUNG_HU) / (ceiling - LUNG_HU) } else { 0.0 }
        });
        let mut found = Vec::new();
        for &sigma in &setting.sigmas_mm {
            let smooth = gaussian(tissue.view(), hu.geometry().spacing(), sigma);
            found.extend(maxima(&smooth, lungs, hu, sigma));
        }
        found.sort_by(order);
        let mut kept: Vec<Candidate> = Vec::new();
        for candidate in found {
            let same = |other: &Candidate| {
                let reach = 0.5 * other.diameter_mm.max(candidate.diameter_mm);
                other.position.distance_mm(candidate.position) < reach
            };
            if !kept.iter().any(same) {
                kept.push(candidate);
            }
            if kept.len() == MOST {
                break;
            }
        }
        kept
    }
}

/// Most candidates of a scan: beyond LUNA16's 100 marks and some to choose from.
const MOST: usize = 150;

fn order(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    let place = |c: &Candidate| c.position.0.map(|mm| (mm * 1000.0) as i64);
    b.shape.total_cmp(&a.shape).then_with(|| place(a).cmp(&place(b)))
}

fn best(mut found: Vec<Candidate>) -> Vec<Candidate> {
    found.sort_by(order);
    found.truncate(MOST);
    found
}

/// The lungs with a margin for the filters.
pub(super) struct LungBox {
    volume: Volume,
    /// Which voxels are lung, nodules included.
    inside: Array3<bool>,
}

impl LungBox {
    /// # Panics
    /// If the scan holds no lung.
    pub fn of(scan: &Rendered) -> Self {
        const MARGIN: usize = 3;
        let labels = scan.lungs.labels();
        let (mut first, mut last) = ([usize::MAX; 3], [0; 3]);
        for ((z, y, x), _) in labels.indexed_iter().filter(|(_, label)| **label > 0) {
            for (axis, at) in [z, y, x].into_iter().enumerate() {
                first[axis] = first[axis].min(at);
                last[axis] = last[axis].max(at);
            }
        }
        assert!(first[0] <= last[0], "a scan of a chest holds lung");
        let [nz, ny, nx] = scan.lungs.geometry().size();
        let start = first.map(|at| at.saturating_sub(MARGIN));
        let end = [nz, ny, nx].map(|n| n - 1);
        let end: [usize; 3] = std::array::from_fn(|axis| (last[axis] + MARGIN).min(end[axis]) + 1);
        let part = s![start[0]..end[0], start[1]..end[1], start[2]..end[2]];
        let size = std::array::from_fn(|axis| end[axis] - start[axis]);
        let grid = scan.volume.geometry().window(start.map(|at| at as isize), size);
        Self {
            volume: Volume::new(scan.volume.hu().slice(part).to_owned(), grid).expect("the window's size"),
            inside: labels.slice(part).mapv(|label| label > 0),
        }
    }
}

/// Places where the scale-normalised response is highest among its 26 neighbours.
fn maxima(smooth: &Array3<f32>, lungs: &Array3<bool>, volume: &Volume, sigma: f64) -> Vec<Candidate> {
    let grid = volume.geometry();
    let [wz, wy, wx] = grid.spacing().zyx_mm().map(|mm| (sigma * sigma / (mm * mm)) as f32);
    let (nz, ny, nx) = smooth.dim();
    let mut response = Array3::<f32>::zeros(smooth.dim());
    response.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(z, mut plane)| {
        if z == 0 || z + 1 == nz {
            return;
        }
        for y in 1..ny - 1 {
            for x in 1..nx - 1 {
                let here = 2.0 * smooth[[z, y, x]];
                plane[[y, x]] = wz * (here - smooth[[z - 1, y, x]] - smooth[[z + 1, y, x]])
                    + wy * (here - smooth[[z, y - 1, x]] - smooth[[z, y + 1, x]])
                    + wx * (here - smooth[[z, y, x - 1]] - smooth[[z, y, x + 1]]);
            }
        }
    });
    (1..nz.max(2) - 1)
        .into_par_iter()
        .flat_map_iter(|z| {
            let response = &response;
            (1..ny - 1).flat_map(move |y| (1..nx - 1).map(move |x| [z, y, x])).filter_map(move |at| {
                let here = response[at];
                // A tenth of what a ball of full contrast answers (0.92): noise lies below.
                if here < 0.09 || !lungs[at] {
                    return None;
                }
                let [z, y, x] = at;
                let block = response.slice(s![z - 1..=z + 1, y - 1..=y + 1, x - 1..=x + 1]);
                (!block.iter().any(|other| *other > here)).then(|| Candidate {
                    position: grid.to_world(VoxelPoint(at.map(|i| i as f64))),
                    diameter_mm: 2.0 * 3f64.sqrt() * sigma,
                    shape: f64::from(here),
                })
            })
        })
        .collect()
}
