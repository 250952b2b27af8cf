//! What the training cases are like, and the sizes that follow from it by nnU-Net's rules (Isensee et al., Nature Methods
//! 18:203, 2021: supplementary notes on fingerprint and rule-based parameters).
//!
//! Differences: a case's foreground is its nodules' spheres and, apart from them, its lungs; the memory that a patch may take is
//! given in voxels, since the networks are this project's. Only training cases are looked at: a plan that had seen the others would
//! carry them into training.

use crate::DatasetError;
use crate::manifest::{Case, Manifest, Split};
use lungai_ct::{Geometry, ReferenceNodule, Volume};
use lungai_metrics::sample_quantile;
use serde::Serialize;

/// HU are counted one by one; what lies outside is taken for the end.
const HU_RANGE: (i16, i16) = (-1024, 3071);
/// A spacing is anisotropic where its largest is more than this many times the next (nnU-Net: 3).
const ANISOTROPY: f64 = 3.0;

/// Voxels that a plan has to spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// Voxels of one batch; 2 x 128^3 is what nnU-Net's 3D network takes in 8 GB.
    pub batch_voxels: usize,
    /// A patch's edges are multiples of this: two to the power of the network's poolings.
    pub divisor: usize,
    /// Patches in a batch at least.
    pub batch_at_least: usize,
}

/// HU of many voxels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HuStatistics {
    /// Voxels.
    pub voxels: u64,
    /// Mean in HU.
    pub mean: f64,
    /// Standard deviation in HU.
    pub sd: f64,
    /// Smallest HU that at least 0.5 % of voxels do not exceed.
    pub percentile_00_5: i16,
    /// The same for half of them.
    pub median: i16,
    /// The same for 99.5 %.
    pub percentile_99_5: i16,
}

/// Quantiles over cases, per axis z, y, x.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PerAxis {
    /// Tenth percentile.
    pub percentile_10: [f64; 3],
    /// Median.
    pub median: [f64; 3],
    /// Smallest and largest.
    pub range: [[f64; 3]; 2],
}

/// What the training cases are like.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fingerprint {
    /// Cases that were measured.
    pub cases: usize,
    /// Distance of voxels in mm.
    pub spacing_mm: PerAxis,
    /// Voxels.
    pub size: PerAxis,
    /// Largest over smallest median spacing.
    pub anisotropy: f64,
    /// Diameters of scored nodules in mm: 5, 50 and 95 %; absent without nodules.
    pub nodule_diameter_mm: Option<[f64; 3]>,
    /// Scored nodules.
    pub nodules: usize,
    /// Within the spheres of scored nodules; absent without one.
    pub nodule_hu: Option<HuStatistics>,
    /// Within the lung masks; absent without one.
    pub lung_hu: Option<HuStatistics>,
}

/// Sizes for training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sizes {
    /// Grid in mm, z, y, x: the medians, but along a much coarser axis the tenth percentile.
    pub spacing_mm: [f64; 3],
    /// The median case on that grid, in voxels.
    pub median_size: [usize; 3],
    /// Patch in voxels.
    pub patch: [usize; 3],
    /// Patches per batch.
    pub batch: usize,
    /// HU are cut to this before they are scaled: the 0.5 and 99.5 % of the foreground (nodules, else lungs).
    pub clip_hu: Option<[i16; 2]>,
    /// Mean and standard deviation of the foreground's HU, to scale with.
    pub scale_hu: Option<[f64; 2]>,
}

/// A fingerprint and what follows from it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// [`Manifest::fingerprint`] of the set.
    pub dataset: String,
    /// What the cases are like.
    pub fingerprint: Fingerprint,
    /// What was to be spent.
    pub budget: Budget,
    /// What follows.
    pub sizes: Sizes,
}

/// Opens every training case and plans. `progress` hears how many of how many are measured.
///
/// # Errors
/// [`DatasetError`] of the first case that cannot be read, and where there are no training cases.
pub fn plan(manifest: &Manifest, budget: Budget, progress: &mut dyn FnMut(usize, usize)) -> Result<Plan, DatasetError> {
    let cases: Vec<&Case> = manifest.cases(Split::Train).collect();
    if cases.is_empty() || budget.divisor == 0 || budget.batch_at_least == 0 {
        let reason = "a plan needs training cases, and a divisor and a batch of at least 1".to_owned();
        return Err(DatasetError::Case { case: manifest.name.clone(), reason });
    }
    let mut measured = Measured::default();
    for (at, case) in cases.iter().enumerate() {
        measured.add(case)?;
        progress(at + 1, cases.len());
    }
    let fingerprint = measured.fingerprint();
    let sizes = sizes(&fingerprint, budget);
    Ok(Plan { dataset: manifest.fingerprint(), fingerprint, budget, sizes })
}

#[derive(Default)]
struct Measured {
    spacings: Vec<[f64; 3]>,
    sizes: Vec<[f64; 3]>,
    diameters: Vec<f64>,
    nodules: Histogram,
    lungs: Histogram,
}

impl Measured {
    fn add(&mut self, case: &Case) -> Result<(), DatasetError> {
        let scan = case.load_scan()?;
        let grid = scan.volume.geometry();
        self.spacings.push(grid.spacing().zyx_mm());
        self.sizes.push(grid.size().map(|n| n as f64));
        if case.nodules.is_some() {
            for nodule in case.nodules()?.iter().filter(|nodule| !nodule.excluded) {
                self.diameters.push(nodule.diameter_mm);
                self.nodules.add_sphere(&scan.volume, nodule);
            }
        }
        if case.lungs.is_some() {
            let lungs = case.load_lungs(grid)?;
            let inside = lungs.as_slice().iter().zip(scan.volume.as_slice()).filter(|(label, _)| **label > 0);
            inside.for_each(|(_, hu)| self.lungs.add(*hu));
        }
        Ok(())
    }

    fn fingerprint(mut self) -> Fingerprint {
        let spacing_mm = per_axis(&self.spacings);
        let [low, high] = [f64::min, f64::max].map(|pick| spacing_mm.median.into_iter().reduce(pick).unwrap_or(1.0));
        self.diameters.sort_by(f64::total_cmp);
        let diameters =
            (!self.diameters.is_empty()).then(|| [0.05, 0.5, 0.95].map(|q| sample_quantile(&self.diameters, q)));
        Fingerprint {
            cases: self.spacings.len(),
            anisotropy: high / low,
            spacing_mm,
            size: per_axis(&self.sizes),
            nodule_diameter_mm: diameters,
            nodules: self.diameters.len(),
            nodule_hu: self.nodules.statistics(),
            lung_hu: self.lungs.statistics(),
        }
    }
}

/// Counts per HU.
struct Histogram {
    counts: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; usize::from(HU_RANGE.1.abs_diff(HU_RANGE.0)) + 1] }
    }
}

impl Histogram {
    fn add(&mut self, hu: i16) {
        let at = hu.clamp(HU_RANGE.0, HU_RANGE.1).abs_diff(HU_RANGE.0);
        self.counts[usize::from(at)] += 1;
    }

    fn add_sphere(&mut self, volume: &Volume, nodule: &ReferenceNodule) {
        let grid = volume.geometry();
        let radius = nodule.diameter_mm / 2.0;
        let [first, last] = reach(grid, nodule, radius);
        for z in first[0]..=last[0] {
            for y in first[1]..=last[1] {
                for x in first[2]..=last[2] {
                    let index = lungai_ct::VoxelIndex([z, y, x]);
                    if grid.centre_of(index).distance_mm(nodule.position) <= radius {
                        self.add(volume.hu()[[z, y, x]]);
                    }
                }
            }
        }
    }

    fn statistics(&self) -> Option<HuStatistics> {
        let voxels: u64 = self.counts.iter().sum();
        if voxels == 0 {
            return None;
        }
        let each = || self.counts.iter().zip(i32::from(HU_RANGE.0)..).map(|(n, hu)| (*n as f64, f64::from(hu)));
        let mean = each().map(|(n, hu)| n * hu).sum::<f64>() / voxels as f64;
        let variance = each().map(|(n, hu)| n * (hu - mean).powi(2)).sum::<f64>() / voxels as f64;
        let percentile = |share: f64| {
            let mut below = 0;
            let reached = self.counts.iter().position(|n| {
                below += n;
                below as f64 >= share * voxels as f64
            });
            HU_RANGE.0 + reached.unwrap_or(self.counts.len() - 1) as i16
        };
        Some(HuStatistics {
            voxels,
            mean,
            sd: variance.sqrt(),
            percentile_00_5: percentile(0.005),
            median: percentile(0.5),
            percentile_99_5: percentile(0.995),
        })
    }
}

/// First and last voxel of a box round the nodule, within the grid.
fn reach(grid: &Geometry, nodule: &ReferenceNodule, radius: f64) -> [[usize; 3]; 2] {
    let at = grid.to_voxel(nodule.position).0;
    let spacing = grid.spacing().zyx_mm();
    let clamp = |i: usize, v: f64| v.clamp(0.0, (grid.size()[i] - 1) as f64) as usize;
    [-1.0, 1.0].map(|side| std::array::from_fn(|i| clamp(i, (at[i] + side * radius / spacing[i]).round())))
}

fn per_axis(values: &[[f64; 3]]) -> PerAxis {
    let axis = |i: usize| {
        let mut values: Vec<f64> = values.iter().map(|v| v[i]).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let sorted: [Vec<f64>; 3] = std::array::from_fn(axis);
    let at = |q| std::array::from_fn(|i| sample_quantile(&sorted[i], q));
    PerAxis { percentile_10: at(0.1), median: at(0.5), range: [at(0.0), at(1.0)] }
}

fn sizes(fingerprint: &Fingerprint, budget: Budget) -> Sizes {
    let median = fingerprint.spacing_mm.median;
    let mut spacing_mm = median;
    let coarsest = (0..3).max_by(|a, b| median[*a].total_cmp(&median[*b])).unwrap_or(0);
    let others: Vec<f64> = (0..3).filter(|i| *i != coarsest).map(|i| median[i]).collect();
    let finest_size =
        (0..3).filter(|i| *i != coarsest).map(|i| fingerprint.size.median[i]).fold(f64::INFINITY, f64::min);
    let next_mm = others.iter().copied().fold(0.0, f64::max);
    // nnU-Net: an axis with much larger spacing and much fewer voxels than the others.
    let anisotropic =
        median[coarsest] > ANISOTROPY * next_mm && fingerprint.size.median[coarsest] * ANISOTROPY < finest_size;
    if anisotropic {
        // The thinner cases decide, but never below what the other axes have.
        spacing_mm[coarsest] = fingerprint.spacing_mm.percentile_10[coarsest].max(next_mm);
    }
    let median_size: [usize; 3] =
        std::array::from_fn(|i| (fingerprint.size.median[i] * median[i] / spacing_mm[i]).round().max(1.0) as usize);
    let patch = patch(spacing_mm, median_size, budget);
    let voxels: usize = patch.iter().product();
    let cases_voxels: usize = fingerprint.cases.saturating_mul(median_size.iter().product());
    // nnU-Net: no batch sees more than 5 % of all voxels.
    let share = (cases_voxels as f64 * 0.05 / voxels as f64).round() as usize;
    let batch = (budget.batch_voxels / voxels).min(share).max(budget.batch_at_least);
    let hu = fingerprint.nodule_hu.as_ref().or(fingerprint.lung_hu.as_ref());
    Sizes {
        spacing_mm,
        median_size,
        patch,
        batch,
        clip_hu: hu.map(|hu| [hu.percentile_00_5, hu.percentile_99_5]),
        scale_hu: hu.map(|hu| [hu.mean, hu.sd]),
    }
}

/// As nnU-Net: a cube in mm of 256^3 voxels, no larger than the median case; then, until a batch fits, the axis that sees the
/// most of the median case gives up one step.
fn patch(spacing_mm: [f64; 3], median_size: [usize; 3], budget: Budget) -> [usize; 3] {
    const FIRST_EDGE: f64 = 256.0;
    let step = budget.divisor;
    let mean_mm = spacing_mm.iter().product::<f64>().cbrt();
    let mut patch: [usize; 3] = std::array::from_fn(|i| {
        let edge = (FIRST_EDGE * mean_mm / spacing_mm[i]).round() as usize;
        edge.clamp(1, median_size[i]).div_ceil(step) * step
    });
    let limit = budget.batch_voxels / budget.batch_at_least;
    while patch.iter().product::<usize>() > limit {
        let seen = |i: &usize| patch[*i] as f64 / median_size[*i] as f64;
        let Some(axis) = (0..3).filter(|i| patch[*i] > step).max_by(|a, b| seen(a).total_cmp(&seen(b))) else { break };
        patch[axis] -= step;
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axes(median: [f64; 3], percentile_10: [f64; 3]) -> PerAxis {
        PerAxis { percentile_10, median, range: [percentile_10, median] }
    }

    fn fingerprint(spacing: PerAxis, size: [f64; 3]) -> Fingerprint {
        let [low, high] = [f64::min, f64::max].map(|pick| spacing.median.into_iter().reduce(pick).unwrap());
        Fingerprint {
            cases: 100,
            anisotropy: high / low,
            spacing_mm: spacing,
            size: axes(size, size),
            nodule_diameter_mm: None,
            nodules: 0,
            nodule_hu: None,
            lung_hu: None,
        }
    }

    const BUDGET: Budget = Budget { batch_voxels: 2 * 128 * 128 * 128, divisor: 16, batch_at_least: 2 };

    #[test]
    fn an_isotropic_set_keeps_its_median_spacing_and_gets_a_cube() {
        let found = sizes(&fingerprint(axes([1.0, 1.0, 1.0], [0.6; 3]), [350.0, 350.0, 350.0]), BUDGET);
        assert_eq!((found.spacing_mm, found.patch, found.batch), ([1.0; 3], [128; 3], 2));
    }

    #[test]
    fn a_much_coarser_axis_takes_its_tenth_percentile() {
        // 5 mm slices of 0.7 mm pixels, 60 of 512 x 512: anisotropy 7.1.
        let found = sizes(&fingerprint(axes([5.0, 0.7, 0.7], [2.5, 0.6, 0.6]), [60.0, 512.0, 512.0]), BUDGET);
        assert_eq!(found.spacing_mm, [2.5, 0.7, 0.7]);
        assert_eq!(found.median_size, [120, 512, 512]);
        let [z, y, x] = found.patch;
        // Every axis sees about the same share of the median case.
        assert!(
            z * y * x <= 128 * 128 * 128 && y > 3 * z && y == x && [z, y, x].iter().all(|n| n % 16 == 0),
            "{:?}",
            found.patch
        );
        // Many coarse slices are no anisotropic set by nnU-Net's second condition.
        let tall = sizes(&fingerprint(axes([5.0, 0.7, 0.7], [2.5, 0.6, 0.6]), [400.0, 512.0, 512.0]), BUDGET);
        assert_eq!(tall.spacing_mm, [5.0, 0.7, 0.7]);
    }

    #[test]
    fn a_short_axis_gives_its_share_to_the_others() {
        // 48 is 40 rounded up to a multiple of 16, and the first to be shortened: it sees all of the case.
        let found = sizes(&fingerprint(axes([1.0; 3], [1.0; 3]), [40.0, 400.0, 400.0]), BUDGET);
        assert_eq!(found.patch, [32, 256, 256]);
    }

    #[test]
    fn percentiles_are_those_of_sorted_voxels() {
        let mut histogram = Histogram::default();
        (0..1000).for_each(|hu| histogram.add(hu - 500));
        histogram.add(i16::MAX);
        let found = histogram.statistics().unwrap();
        // Of 1,001 sorted voxels the 6th, 501st and 996th.
        assert_eq!((found.percentile_00_5, found.median, found.percentile_99_5), (-495, 0, 495));
        assert_eq!(found.voxels, 1001);
        assert_eq!(sample_quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
    }
}
