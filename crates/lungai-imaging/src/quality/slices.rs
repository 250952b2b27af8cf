//! What neighbouring slices tell: copies, gaps and motion.
//!
//! Slices are averaged to blocks of about 3 mm, which takes most of the noise off. From one slice to the next a body changes
//! little and steadily; where it does not, slices are missing or the patient moved.

use lungai_ct::{LabelMap, Volume};
use ndarray::{Array3, ArrayView2, Axis};
use rayon::prelude::*;

const BLOCK_MM: f64 = 3.0;
/// Changes up to this are noise and vessels in cross-section, HU.
const NOISE_HU: f32 = 40.0;
/// What lies this far on each side says what is usual at a place, mm; within 2..=6 slices.
const AROUND_MM: f64 = 9.0;
/// Lung area below which a slice shows its first or last tip.
const LITTLE_LUNG_CM2: f64 = 15.0;
/// Fewer slices say nothing.
const FEWEST: usize = 12;

/// Pairs of neighbouring slices that are equal in every voxel; empty slices do not count.
pub fn equal_neighbours(volume: &Volume) -> usize {
    let hu = volume.hu();
    let same = |z: &usize| {
        let (a, b) = (hu.index_axis(Axis(0), z - 1), hu.index_axis(Axis(0), *z));
        a == b && a.iter().any(|v| Some(v) != a.first())
    };
    (1..hu.shape()[0]).into_par_iter().filter(same).count()
}

/// The steps between neighbouring slices of an axial scan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Steps {
    /// Largest change from one slice to the next over that of the steps before and after. With a slice missing 1.5 to 2.5.
    pub largest: f64,
    /// Largest sideways jump between neighbouring slices, mm, beyond the local drift of the anatomy.
    pub jump_mm: f64,
    /// Sideways movement per way along the body, mm per mm: what 95 % of the steps do not exceed.
    pub sway: f64,
    /// How unevenly the anatomy passes by: share by which the change of one step in ten differs from the local median.
    pub pace: f64,
}

/// One step from a slice to the next.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Sum of the changes beyond noise, HU.
    change: f64,
    /// Apparent movement `[y, x]`, mm.
    moved: [f64; 2],
}

/// `None` below 12 slices. `lungs` are on the volume's grid.
pub fn steps(volume: &Volume, lungs: &LabelMap) -> Option<Steps> {
    let [dz, dy, dx] = volume.geometry().spacing().zyx_mm();
    let hu = volume.hu();
    if hu.shape()[0] < FEWEST {
        return None;
    }
    let block = [dy, dx].map(|mm| (BLOCK_MM / mm).round().max(1.0) as usize);
    let blocks = blocks(volume, block);
    let block_mm = [dy * block[0] as f64, dx * block[1] as f64];
    let steps: Vec<Step> = (1..blocks.shape()[0])
        .into_par_iter()
        .map(|z| step(blocks.index_axis(Axis(0), z - 1), blocks.index_axis(Axis(0), z), block_mm))
        .collect();
    let n = steps.len();
    let lung = |z: usize| lungs.labels().index_axis(Axis(0), z).iter().filter(|label| **label > 0).count() as f64;
    let lung: Vec<f64> = (0..=n).into_par_iter().map(lung).collect();
    let pixel_cm2 = dy * dx / 100.0;
    let around = (AROUND_MM / dz).round().clamp(2.0, 6.0) as usize;
    let mut largest: f64 = 0.0;
    let mut jumps = Vec::with_capacity(n);
    let mut sway = Vec::with_capacity(n);
    let mut pace = Vec::with_capacity(n);
    for (i, step) in steps.iter().enumerate() {
        let near = &steps[i.saturating_sub(around)..(i + around + 1).min(n)];
        let wide = &steps[i.saturating_sub(2 * around)..(i + 2 * around + 1).min(n)];
        let usual = median(near.iter().map(|s| s.change));
        let off = |of: &[Step]| {
            let drift = [0, 1].map(|axis| median(of.iter().map(|s| s.moved[axis])));
            (step.moved[0] - drift[0]).hypot(step.moved[1] - drift[1])
        };
        jumps.push(off(near));
        sway.push(off(wide) / dz);
        pace.push(if usual > 0.0 { (step.change / usual - 1.0).abs() } else { 0.0 });
        // Near the ends the neck comes into view within a slice or two, and so does a lung whose base or apex is blunt.
        let lung_begins = lung[i].min(lung[i + 1]) * pixel_cm2 < LITTLE_LUNG_CM2;
        if i >= around && i + around < n && !lung_begins {
            let beside = steps[i - 1].change.max(steps[i + 1].change).max(usual);
            largest = largest.max(if beside > 0.0 { step.change / beside } else { 0.0 });
        }
    }
    for values in [&mut jumps, &mut sway, &mut pace] {
        values.sort_by(f64::total_cmp);
    }
    Some(Steps { largest, jump_mm: jumps[n - 1], sway: sway[95 * n / 100], pace: pace[90 * n / 100] })
}

/// Means of blocks of `[y, x]` pixels, -1000..=200 HU: beyond lies bone, metal and padding.
fn blocks(volume: &Volume, [by, bx]: [usize; 2]) -> Array3<f32> {
    let hu = volume.hu();
    let (nz, ny, nx) = hu.dim();
    let (my, mx) = (ny.div_ceil(by), nx.div_ceil(bx));
    let mut means = Array3::zeros((nz, my, mx));
    means.outer_iter_mut().into_par_iter().zip(hu.outer_iter()).for_each(|(mut means, slice)| {
        for (mut means, rows) in means.outer_iter_mut().zip(slice.axis_chunks_iter(Axis(0), by)) {
            let mut sums = vec![0i32; mx];
            for row in rows.outer_iter() {
                let row = row.to_slice().expect("a volume is in standard layout");
                for (sum, block) in sums.iter_mut().zip(row.chunks(bx)) {
                    *sum += block.iter().map(|hu| i32::from((*hu).clamp(-1000, 200))).sum::<i32>();
                }
            }
            for (x, (mean, sum)) in means.iter_mut().zip(sums).enumerate() {
                let pixels = rows.nrows() * bx.min(nx - x * bx);
                *mean = sum as f32 / pixels as f32;
            }
        }
    });
    means
}

/// Movement by least squares: the difference is the gradient times the movement (Lucas and Kanade 1981).
fn step(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>, [my, mx]: [f64; 2]) -> Step {
    let (ny, nx) = a.dim();
    let mut change = 0.0;
    let [mut yy, mut yx, mut xx, mut by, mut bx] = [0f64; 5];
    for y in 1..ny.saturating_sub(1) {
        for x in 1..nx.saturating_sub(1) {
            let difference = b[[y, x]] - a[[y, x]];
            change += f64::from((difference.abs() - NOISE_HU).max(0.0));
            let gy = 0.25 * (a[[y + 1, x]] - a[[y - 1, x]] + b[[y + 1, x]] - b[[y - 1, x]]);
            let gx = 0.25 * (a[[y, x + 1]] - a[[y, x - 1]] + b[[y, x + 1]] - b[[y, x - 1]]);
            let [gy, gx, difference] = [gy, gx, difference].map(f64::from);
            yy += gy * gy;
            yx += gy * gx;
            xx += gx * gx;
            by -= gy * difference;
            bx -= gx * difference;
        }
    }
    let det = yy * xx - yx * yx;
    let moved = if det > 0.0 { [(by * xx - bx * yx) / det * my, (yy * bx - yx * by) / det * mx] } else { [0.0; 2] };
    Step { change, moved }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_ct::{Geometry, Spacing, WorldPoint};
    use lungai_trace::verifies;

    /// A cone of air in tissue, on 40 slices of 1 mm with pixels of 1 mm: its radius grows by a pixel every two slices.
    /// `at` gives the place of each slice: the height shown and the shift along x in mm.
    fn cone(at: impl Fn(f64) -> [f64; 2]) -> Volume {
        let hu = Array3::from_shape_fn((40, 60, 60), |(z, y, x)| {
            let [height, shift] = at(z as f64);
            let edge = (y as f64 - 30.0).hypot(x as f64 - 30.0 - shift) - (5.0 + 0.5 * height);
            (-400.0 + 400.0 * edge.clamp(-1.0, 1.0)) as i16
        });
        let grid = Geometry::new([40, 60, 60], Spacing::new([1.0; 3]).unwrap(), WorldPoint([0.0; 3]), Geometry::AXIAL)
            .unwrap();
        Volume::new(hu, grid).unwrap()
    }

    fn steps_of(volume: &Volume) -> Steps {
        let everywhere = LabelMap::new(volume.hu().map(|_| 1), volume.geometry().clone()).unwrap();
        steps(volume, &everywhere).unwrap()
    }

    #[verifies("FR-002")]
    #[test]
    fn steady_slices_show_no_step() {
        let still = steps_of(&cone(|z| [z, 0.0]));
        assert!(still.largest < 1.2 && still.jump_mm < 0.05 && still.sway < 0.05 && still.pace < 0.2, "{still:?}");
    }

    #[verifies("FR-002")]
    #[test]
    fn two_missing_slices_are_a_step_of_about_three() {
        let gap = steps_of(&cone(|z| [if z < 20.0 { z } else { z + 2.0 }, 0.0]));
        assert!((2.0..4.5).contains(&gap.largest), "{gap:?}"); // noise is taken off each difference
        assert!(gap.jump_mm < 0.3, "{gap:?}");
    }

    #[verifies("FR-002")]
    #[test]
    fn where_a_lung_begins_it_may_begin_bluntly() {
        let gap = cone(|z| [if z < 20.0 { z } else { z + 2.0 }, 0.0]);
        // Lung from slice 20 on: the same step is the base of the lung.
        let mut lungs = gap.hu().map(|_| 1);
        lungs.slice_mut(ndarray::s![..20, .., ..]).fill(0);
        let lungs = LabelMap::new(lungs, gap.geometry().clone()).unwrap();
        assert!(steps(&gap, &lungs).unwrap().largest < 1.5);
    }

    #[verifies("FR-002")]
    #[test]
    fn a_patient_who_moves_once_jumps_and_one_who_sways_sways() {
        let jump = steps_of(&cone(|z| [z, if z < 20.0 { 0.0 } else { 2.0 }]));
        assert!((jump.jump_mm - 2.0).abs() < 0.6 && jump.sway < 0.2, "{jump:?}");
        // Up to 4 mm * 2 pi / 20 mm = 1.26 mm per mm to each side.
        let sway = steps_of(&cone(|z| [z, 4.0 * (z * std::f64::consts::TAU / 20.0).sin()]));
        assert!((1.0..2.6).contains(&sway.sway), "{sway:?}");
    }

    #[verifies("FR-002")]
    #[test]
    fn breathing_lets_the_anatomy_pass_unevenly() {
        let breath = steps_of(&cone(|z| [z + 2.0 * (z * std::f64::consts::TAU / 14.0).sin(), 0.0]));
        assert!(breath.pace > 0.5, "{breath:?}");
    }

    #[verifies("FR-002")]
    #[test]
    fn equal_neighbours_count_and_empty_slices_do_not() {
        let volume = cone(|z| [if z == 12.0 { 11.0 } else { z }, 0.0]);
        assert_eq!(equal_neighbours(&volume), 1);
        let (mut hu, grid) = volume.into_parts();
        hu.slice_mut(ndarray::s![..3, .., ..]).fill(-1024);
        assert_eq!(equal_neighbours(&Volume::new(hu, grid).unwrap()), 1);
    }
}
