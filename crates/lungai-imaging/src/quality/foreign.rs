//! What does not belong into a patient: metal, and padding that reaches into the body.

use crate::components::{Connectivity, components};
use crate::morphology::open_mm;
use lungai_ct::{LabelMap, Spacing, Volume};
use ndarray::{Array3, Axis, Slice, Zip, s};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// The patient is told from table, cables and air at about this spacing.
const COARSE_MM: f64 = 5.0;
/// No bone, but every metal: cortical bone stays below 2000 HU.
const METAL_HU: i16 = 2500;
/// No scanner measures less than vacuum (-1024): such values fill what was not measured (-2000, -3024, ...).
const NOT_MEASURED_HU: i16 = -1100;
/// Smaller blocks on the coarse grid are chance: these are 1 ml.
const FEWEST_VOXELS: usize = 8;

/// The patient on a coarse grid: every so many voxels of an axial scan.
pub struct Patient {
    every: [usize; 3],
    hu: Array3<i16>,
    /// Thick tissue that hangs together, and the lungs.
    body: Array3<bool>,
    spacing: Spacing,
}

impl Patient {
    /// Looks at `volume`, which is axial.
    pub fn of(volume: &Volume, lungs: &LabelMap) -> Self {
        let own = volume.geometry().spacing().zyx_mm();
        let every = own.map(|mm| (COARSE_MM / mm).round().max(1.0) as usize);
        let steps = every.map(|n| n as isize);
        let pick = s![..;steps[0], ..;steps[1], ..;steps[2]];
        let hu = volume.hu().slice(pick).to_owned();
        let spacing = Spacing::new(std::array::from_fn(|i| own[i] * every[i] as f64)).expect("multiples of a grid's");
        let thick = components(open_mm(hu.mapv(|v| v > -410).view(), spacing, 6.0).view(), Connectivity::Faces);
        let largest = thick.largest().map(|region| region.label);
        let mut body = thick.mask(|region| Some(region.label) == largest);
        Zip::from(&mut body).and(lungs.labels().slice(pick)).for_each(|body, label| *body |= *label > 0);
        Self { every, hu, body, spacing }
    }

    /// Metal in or on the body, ml.
    pub fn metal_ml(&self, volume: &Volume) -> f64 {
        let (nz, ny, nx) = self.body.dim();
        let near = |z: usize, y: usize, x: usize| {
            let around = |at: usize, n: usize| at.saturating_sub(1)..(at + 2).min(n);
            self.body.slice(s![around(z, nz), around(y, ny), around(x, nx)]).iter().any(|body| *body)
        };
        let hu = volume.hu();
        let voxels = hu.outer_iter().into_par_iter().enumerate().map(|(z, slice)| {
            let of_row = |(y, row): (usize, ndarray::ArrayView1<'_, i16>)| {
                let metal = |(x, hu): (usize, &i16)| {
                    *hu >= METAL_HU && near(z / self.every[0], y / self.every[1], x / self.every[2])
                };
                row.iter().enumerate().filter(|at| metal(*at)).count()
            };
            slice.outer_iter().enumerate().map(of_row).sum::<usize>()
        });
        voxels.sum::<usize>() as f64 * volume.geometry().spacing().voxel_mm3() / 1000.0
    }

    /// Area in cm2 in which the body touches voxels that were not measured: blocks of one value below -1100 HU, or of what
    /// is `declared` as padding where that is no HU of a body. Round a whole body there is air.
    pub fn padding_cm2(&self, declared: Option<&RangeInclusive<i16>>) -> f64 {
        let padded = self.padded(declared);
        let [dz, dy, dx] = self.spacing.zyx_mm();
        let shape = self.body.dim();
        let mut mm2 = 0.0;
        for (axis, face) in [(0, dy * dx), (1, dz * dx), (2, dz * dy)] {
            let n = [shape.0, shape.1, shape.2][axis];
            for (from, to) in [(0, 1), (1, 0)] {
                let part = |of: usize| Slice::from(of..n - 1 + of);
                let axis = Axis(axis);
                let beside = self.body.slice_axis(axis, part(from));
                let touched = Zip::from(beside)
                    .and(padded.slice_axis(axis, part(from)))
                    .and(padded.slice_axis(axis, part(to)))
                    .fold(0usize, |n, body, own, other| n + usize::from(*body && !*own && *other));
                mm2 += touched as f64 * face;
            }
        }
        mm2 / 100.0
    }

    /// Noise takes single voxels of air below -1100 HU, but never a block of them to the same value.
    fn padded(&self, declared: Option<&RangeInclusive<i16>>) -> Array3<bool> {
        let is_declared = |hu: i16| !(-1024..=3071).contains(&hu) && declared.is_some_and(|range| range.contains(&hu));
        let mut counts: BTreeMap<i16, usize> = BTreeMap::new();
        for hu in self.hu.iter().filter(|hu| **hu <= NOT_MEASURED_HU) {
            *counts.entry(*hu).or_default() += 1;
        }
        let value = counts.into_iter().max_by_key(|(_, n)| *n).map(|(hu, _)| hu);
        let blocks = components(self.hu.mapv(|hu| Some(hu) == value || is_declared(hu)).view(), Connectivity::Faces);
        let core = blocks.mask(|region| region.voxels >= FEWEST_VOXELS);
        // Where a scan was resampled, values between padding and body lie round a block.
        let mut padded = core.clone();
        for axis in (0..3).map(Axis) {
            let n = core.len_of(axis);
            for (from, to) in [(0, 1), (1, 0)] {
                let part = |of: usize| Slice::from(of..n - 1 + of);
                Zip::from(padded.slice_axis_mut(axis, part(to)))
                    .and(core.slice_axis(axis, part(from)))
                    .and(self.hu.slice_axis(axis, part(to)))
                    .for_each(|padded, core, hu| *padded |= *core && *hu <= NOT_MEASURED_HU);
            }
        }
        padded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{Chest, grid};
    use lungai_trace::verifies;

    /// The toy chest, changed at every place `[x, y, z]` in mm.
    fn changed(change: impl Fn([f64; 3], i16) -> i16) -> (Volume, LabelMap) {
        let grid = grid([2.0, 2.0, 2.0]);
        let plain = Chest::plain().render(&grid);
        let hu = Array3::from_shape_fn(plain.hu().dim(), |(z, y, x)| {
            let at = grid.to_world(lungai_ct::VoxelPoint([z as f64, y as f64, x as f64])).0;
            change(at, plain.hu()[[z, y, x]])
        });
        (Volume::new(hu, grid.clone()).unwrap(), Chest::plain().lungs(&grid))
    }

    fn off(p: [f64; 3], c: [f64; 3]) -> f64 {
        (0..3).map(|i| (p[i] - c[i]).powi(2)).sum::<f64>().sqrt()
    }

    #[verifies("FR-002")]
    #[test]
    fn metal_counts_in_the_body_and_not_on_the_table() {
        let ball = |centre: [f64; 3]| changed(move |p, hu| if off(p, centre) < 6.0 { 3071 } else { hu });
        let (implant, lungs) = ball([0.0, -40.0, 0.0]);
        let ml = Patient::of(&implant, &lungs).metal_ml(&implant);
        assert!((ml - 0.905).abs() < 0.1, "{ml}"); // 4/3 pi 6^3 mm3
        let (on_table, lungs) = ball([-100.0, 118.0, 0.0]);
        assert_eq!(Patient::of(&on_table, &lungs).metal_ml(&on_table), 0.0);
    }

    #[verifies("FR-002")]
    #[test]
    fn padding_counts_where_it_touches_the_body() {
        let circle = |radius: f64| changed(move |p, hu| if p[0].hypot(p[1]) > radius { -3024 } else { hu });
        let (around, lungs) = circle(145.0); // the body is 140 mm wide, the table reaches beyond
        assert_eq!(Patient::of(&around, &lungs).padding_cm2(None), 0.0);
        let (within, lungs) = circle(120.0);
        let cm2 = Patient::of(&within, &lungs).padding_cm2(None);
        assert!(cm2 > 100.0, "{cm2}"); // two arcs of about 60 mm on a body 280 mm long
    }

    #[verifies("FR-002")]
    #[test]
    fn a_declared_padding_value_counts_where_it_is_no_hu() {
        let (block, lungs) = changed(|p, hu| if off(p, [0.0, -40.0, 0.0]) < 20.0 { 5119 } else { hu });
        let patient = Patient::of(&block, &lungs);
        assert_eq!(patient.padding_cm2(None), 0.0);
        assert!(patient.padding_cm2(Some(&(5119..=5119))) > 20.0); // a ball of 50 cm2
        assert_eq!(patient.padding_cm2(Some(&(30..=30))), 0.0);
    }

    #[verifies("FR-002")]
    #[test]
    fn a_declared_range_of_padding_counts_as_a_whole() {
        // Two values between 4000 and 5119, side by side.
        let (block, lungs) = changed(|p, hu| match off(p, [0.0, -40.0, 0.0]) < 20.0 {
            true if p[0] < 0.0 => 4500,
            true => 5119,
            false => hu,
        });
        let patient = Patient::of(&block, &lungs);
        let [whole, part, hu] = [4000..=5119, 4000..=4999, 0..=3071].map(|range| patient.padding_cm2(Some(&range)));
        assert!(whole > 20.0 && (0.3..0.9).contains(&(part / whole)), "{part} of {whole}");
        assert_eq!(hu, 0.0);
    }

    #[verifies("FR-002")]
    #[test]
    fn noise_in_the_air_is_no_padding() {
        // Uniform on -104..=104: standard deviation 60. One voxel of air in about fifty falls to -1100 HU or below.
        let noise = |[x, y, z]: [f64; 3]| {
            let key = (x * 7.0).to_bits() ^ (y * 11.0).to_bits().rotate_left(21) ^ (z * 13.0).to_bits().rotate_left(42);
            let mixed = (key ^ (key >> 31)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            ((mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) % 209
        };
        let (noisy, lungs) = changed(|p, hu| if hu < -900 { -1000 - 104 + noise(p) as i16 } else { hu });
        let dark = noisy.hu().iter().filter(|hu| **hu <= NOT_MEASURED_HU).count();
        assert!(dark > 10_000, "{dark}");
        assert_eq!(Patient::of(&noisy, &lungs).padding_cm2(None), 0.0);
    }
}
