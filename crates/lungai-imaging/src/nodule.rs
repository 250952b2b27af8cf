//! From a mark to a measured nodule: segmentation round a point, then size, shape and attenuation.
//!
//! The border lies halfway between the nodule and the lung around it, so that it does not depend on the
//! reconstruction's sharpness. Vessels are cut by opening, chest wall by a limiting sphere. It measures what is
//! there; it does not decide whether it is a nodule.

use crate::components::{Connectivity, components};
use crate::distance;
use crate::morphology::{dilate_mm, fill_holes, open_mm};
use crate::resample::{patch, patch_geometry};
use crate::surface::surface;
use lungai_ct::{Characteristics, Geometry, LabelMap, NoduleKind, Volume, VoxelPoint, WorldPoint, sphere_diameter_mm};
use lungai_trace::implements;
use ndarray::{Array3, Zip};
use std::f64::consts::PI;

/// Lung around a nodule, where nothing else can be measured.
const LUNG_HU: f32 = -860.0;
/// Solid tissue lies above it, ground glass below.
const SOLID_ABOVE_HU: f32 = -350.0;
/// Calcium lies above it; contrast-filled vessels reach it only in part.
const CALCIUM_ABOVE_HU: f32 = 200.0;

/// A segmented and measured nodule.
#[derive(Debug, Clone, PartialEq)]
pub struct NoduleMeasurement {
    /// 1 in the nodule, on a fine grid of its own around it.
    pub mask: LabelMap,
    /// Centre of mass of the mask.
    pub centre: WorldPoint,
    /// Extent along patient `[x, y, z]` in mm.
    pub size_mm: [f64; 3],
    /// Diameter in mm of the sphere of equal volume.
    pub diameter_mm: f64,
    /// Volume in mm3.
    pub volume_mm3: f64,
    /// Shape and attenuation.
    pub characteristics: Characteristics,
}

/// Segments and measures the nodule at `centre` whose diameter is about `diameter_mm` (within a third or so;
/// used as 2 to 60 mm). `None` where nothing denser than the lung around it lies there.
#[implements("FR-004", "SW-401")]
pub fn measure(volume: &Volume, centre: WorldPoint, diameter_mm: f64) -> Option<NoduleMeasurement> {
    if !diameter_mm.is_finite() || centre.0.iter().any(|mm| !mm.is_finite()) {
        return None;
    }
    let near = Neighbourhood::around(volume, centre, diameter_mm.clamp(2.0, 60.0));
    let lung = near.lung_hu();
    let mask = near.lesion(lung)?;
    near.measured(mask)
}

/// The surroundings on a fine isotropic grid along the volume's axes.
struct Neighbourhood {
    hu: Array3<f32>,
    grid: Geometry,
    /// Distance of each voxel to the mark in mm.
    off_centre: Array3<f32>,
    expected_mm: f64,
    step_mm: f64,
}

impl Neighbourhood {
    fn around(volume: &Volume, centre: WorldPoint, expected_mm: f64) -> Self {
        let step_mm = (expected_mm / 16.0).clamp(0.4, 1.0);
        let half = (0.9 * expected_mm + 6.0) / step_mm;
        let size = [2 * half.ceil() as usize + 1; 3];
        let grid = patch_geometry(volume.geometry(), centre, size, step_mm);
        let hu = patch(volume, centre, size, step_mm);
        let middle = (size[0] / 2) as f64;
        let off_centre = Array3::from_shape_fn(size, |(z, y, x)| {
            let squared: f64 = [z, y, x].iter().map(|i| (*i as f64 - middle).powi(2)).sum();
            (squared.sqrt() * step_mm) as f32
        });
        Self { hu, grid, off_centre, expected_mm, step_mm }
    }

    /// Median HU of the lung in the shell around the expected nodule.
    fn lung_hu(&self) -> f32 {
        let inner = (0.6 * self.expected_mm + 1.5) as f32;
        let shell =
            self.off_centre.iter().zip(&self.hu).filter(|(d, hu)| **d > inner && **hu < -600.0 && **hu > -1000.0);
        let values: Vec<f32> = shell.map(|(_, hu)| *hu).collect();
        if values.len() < 50 { LUNG_HU } else { quantile(values, 0.5) }
    }

    /// The solid part and, where a halo of ground glass surrounds it or nothing is solid, all of it.
    fn lesion(&self, lung: f32) -> Option<Array3<bool>> {
        let reach = (0.25 * self.expected_mm).max(1.0) as f32;
        let core: Vec<f32> =
            self.off_centre.iter().zip(&self.hu).filter(|(d, _)| **d <= reach).map(|(_, hu)| *hu).collect();
        let core = quantile(core, 0.5);
        if core < lung + 120.0 {
            return None;
        }
        let border = 0.5 * (core + lung);
        let dense = self.attached(border)?;
        if border < SOLID_ABOVE_HU - 150.0 {
            return Some(dense); // ground glass already
        }
        let halo_above = lung + 0.5 * (-620.0 - lung).max(150.0);
        let outside = distance::mm(dense.view(), self.grid.spacing());
        let (mut glass, mut shell) = (0usize, 0usize);
        for ((d, off), hu) in outside.iter().zip(&self.off_centre).zip(&self.hu) {
            // From 1.5 mm on the blur of a sharp border has faded; dense neighbours are no halo.
            if (1.5..=3.0).contains(d) && f64::from(*off) < 0.55 * self.expected_mm + 1.0 && *hu < SOLID_ABOVE_HU {
                shell += 1;
                glass += usize::from(*hu > halo_above);
            }
        }
        if shell > 20 && glass * 2 > shell { self.attached(halo_above).or(Some(dense)) } else { Some(dense) }
    }

    /// What is denser than `above` around the mark, without vessels and wall.
    fn attached(&self, above: f32) -> Option<Array3<bool>> {
        let spacing = self.grid.spacing();
        let limit = (0.75 * self.expected_mm + 2.0) as f32;
        let mask = Zip::from(&self.hu).and(&self.off_centre).map_collect(|hu, off| *hu > above && *off <= limit);
        let mask = fill_holes(mask.view());
        let outside = mask.mapv(|inside| !inside);
        let depth = distance::mm(outside.view(), spacing);
        // The thickest place near the mark: the nodule, even where the mark is off its middle.
        let (seed, thickest) = self.thickest(&depth, 0.35 * self.expected_mm + 1.0)?;
        if thickest <= 0.0 {
            return None;
        }
        // What a ball of half the thickness does not fit into is a vessel, a spicule's tip or noise.
        let opened = open_mm(mask.view(), spacing, (0.5 * f64::from(thickest) - 0.5 * self.step_mm).max(0.0));
        // Opening also rounds off the border's last voxels: they come back.
        let core = connected(&opened, seed)?;
        let rounded = dilate_mm(core.view(), spacing, self.step_mm);
        let mut lesion = Zip::from(&rounded).and(&mask).map_collect(|near, inside| *near && *inside);
        let rim = lesion
            .iter()
            .zip(&self.off_centre)
            .filter(|(l, off)| **l && **off > limit - 1.5 * self.step_mm as f32)
            .count();
        let sphere = 4.0 * PI * f64::from(limit).powi(2) / self.step_mm.powi(2);
        if rim as f64 > 0.02 * sphere {
            // It goes on beyond the limiting sphere: the nodule hangs on the chest wall, the hilum or a large vessel.
            let radius = (1.15 * f64::from(thickest) + 0.5).min(0.65 * self.expected_mm + 1.0);
            let at = VoxelPoint([seed.0 as f64, seed.1 as f64, seed.2 as f64]);
            let inside = |z: usize, y: usize, x: usize| {
                let squared: f64 = [z, y, x].iter().zip(at.0).map(|(i, c)| (*i as f64 - c).powi(2)).sum();
                squared.sqrt() * self.step_mm <= radius
            };
            Zip::indexed(&mut lesion).for_each(|(z, y, x), l| *l = *l && inside(z, y, x));
            lesion = connected(&lesion, seed)?;
        }
        Some(lesion)
    }

    fn thickest(&self, depth: &Array3<f32>, within_mm: f64) -> Option<((usize, usize, usize), f32)> {
        let mut best: Option<((usize, usize, usize), f32, f32)> = None;
        for ((at, depth), off) in depth.indexed_iter().zip(&self.off_centre) {
            let better = best.is_none_or(|(_, d, o)| *depth > d || *depth == d && *off < o);
            if f64::from(*off) <= within_mm && depth.is_finite() && better {
                best = Some((at, *depth, *off));
            }
        }
        best.map(|(at, depth, _)| (at, depth))
    }

    fn measured(&self, mask: Array3<bool>) -> Option<NoduleMeasurement> {
        let spacing = self.grid.spacing();
        let voxels = mask.iter().filter(|v| **v).count();
        let volume_mm3 = voxels as f64 * spacing.voxel_mm3();
        // Less than a sphere of 1.5 mm is noise.
        if volume_mm3 < 1.8 {
            return None;
        }
        let mut sum = [0.0; 3];
        let mut low = [f64::INFINITY; 3];
        let mut high = [f64::NEG_INFINITY; 3];
        for ((z, y, x), inside) in mask.indexed_iter() {
            if *inside {
                let at = self.grid.to_world(VoxelPoint([z as f64, y as f64, x as f64])).0;
                for i in 0..3 {
                    sum[i] += at[i];
                    low[i] = low[i].min(at[i]);
                    high[i] = high[i].max(at[i]);
                }
            }
        }
        let characteristics =
            Characteristics { sphericity: surface(mask.view(), spacing).sphericity(), ..self.attenuation(&mask) };
        let labels = mask.mapv(u8::from);
        Some(NoduleMeasurement {
            mask: LabelMap::new(labels, self.grid.clone()).expect("made on this grid"),
            centre: WorldPoint(sum.map(|s| s / voxels as f64)),
            size_mm: std::array::from_fn(|i| high[i] - low[i] + self.step_mm),
            diameter_mm: sphere_diameter_mm(volume_mm3),
            volume_mm3,
            characteristics,
        })
    }

    fn attenuation(&self, mask: &Array3<bool>) -> Characteristics {
        let outside = mask.mapv(|inside| !inside);
        let depth = distance::mm(outside.view(), self.grid.spacing());
        let values: Vec<f64> = self.hu.iter().zip(mask).filter(|(_, m)| **m).map(|(hu, _)| f64::from(*hu)).collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);

        // Blur makes the outermost millimetre of a solid nodule look like ground glass.
        let deepest = depth.iter().copied().fold(0.0, f32::max);
        let rind = (0.35 * deepest).min(1.2);
        let inner = || self.hu.iter().zip(&depth).filter(|(_, d)| **d > rind).map(|(hu, _)| *hu);
        let share = |above: f32| inner().filter(|hu| *hu > above).count() as f64 / inner().count().max(1) as f64;
        let kind = match (share(CALCIUM_ABOVE_HU), share(SOLID_ABOVE_HU)) {
            (calcium, _) if calcium > 0.5 => NoduleKind::Calcified,
            (_, solid) if solid > 0.8 => NoduleKind::Solid,
            (_, solid) if solid > 0.05 => NoduleKind::PartSolid,
            _ => NoduleKind::GroundGlass,
        };
        Characteristics {
            sphericity: None,
            mean_hu: Some(mean),
            texture_sd_hu: Some(variance.sqrt()),
            edge_sharpness: self.edge_sharpness(mask),
            kind: Some(kind),
        }
    }

    /// Mean HU gradient over the border that faces lung.
    fn edge_sharpness(&self, mask: &Array3<bool>) -> Option<f64> {
        let (nz, ny, nx) = mask.dim();
        let (mut sum, mut n) = (0.0, 0usize);
        for z in 1..nz - 1 {
            for y in 1..ny - 1 {
                for x in 1..nx - 1 {
                    if !mask[[z, y, x]] {
                        continue;
                    }
                    let pairs = [
                        ([z - 1, y, x], [z + 1, y, x]),
                        ([z, y - 1, x], [z, y + 1, x]),
                        ([z, y, x - 1], [z, y, x + 1]),
                    ];
                    if pairs.iter().all(|(a, b)| mask[*a] && mask[*b]) {
                        continue;
                    }
                    let squared: f64 = pairs
                        .iter()
                        .map(|(a, b)| (f64::from(self.hu[*b] - self.hu[*a]) / (2.0 * self.step_mm)).powi(2))
                        .sum();
                    // A border drawn through dense tissue is a cut, not an edge.
                    let faces_lung = pairs.iter().any(|(a, b)| self.hu[*a].min(self.hu[*b]) < SOLID_ABOVE_HU);
                    if faces_lung {
                        sum += squared.sqrt();
                        n += 1;
                    }
                }
            }
        }
        (n > 0).then(|| sum / n as f64)
    }
}

/// The connected part that holds `seed`.
fn connected(mask: &Array3<bool>, seed: (usize, usize, usize)) -> Option<Array3<bool>> {
    let parts = components(mask.view(), Connectivity::Faces);
    let label = parts.labels[seed];
    (label > 0).then(|| parts.labels.mapv(|l| l == label))
}

fn quantile(mut values: Vec<f32>, share: f64) -> f32 {
    let at = ((values.len() - 1) as f64 * share) as usize;
    *values.select_nth_unstable_by(at, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::box_grid;
    use lungai_trace::{Limit, measured, verifies};

    /// Renders `hu` on a grid of `spacing` around the origin, 27 samples averaged per voxel.
    fn render(spacing: [f64; 3], hu: impl Fn([f64; 3]) -> f64 + Sync) -> Volume {
        let grid = box_grid(spacing, [-30.0; 3], [30.0; 3]);
        let mut values = Array3::zeros(grid.size());
        Zip::indexed(&mut values).par_for_each(|(z, y, x), value: &mut i16| {
            let mut sum = 0.0;
            for k in 0..27 {
                let off = |i: usize| (i % 3) as f64 / 3.0 - 1.0 / 3.0;
                let at = VoxelPoint([z as f64 + off(k), y as f64 + off(k / 3), x as f64 + off(k / 9)]);
                sum += hu(grid.to_world(at).0);
            }
            *value = (sum / 27.0).round() as i16;
        });
        Volume::new(values, grid).unwrap()
    }

    fn distance(p: [f64; 3], c: [f64; 3]) -> f64 {
        WorldPoint(p).distance_mm(WorldPoint(c))
    }

    fn sphere(centre: [f64; 3], diameter: f64, hu: f64) -> impl Fn([f64; 3]) -> f64 + Sync {
        move |p| if distance(p, centre) < diameter / 2.0 { hu } else { -860.0 }
    }

    fn volume_of(diameter: f64) -> f64 {
        PI / 6.0 * diameter.powi(3)
    }

    fn check_volume(found: &NoduleMeasurement, diameter: f64, tolerance: f64) -> f64 {
        let ratio = found.volume_mm3 / volume_of(diameter);
        assert!((ratio - 1.0).abs() <= tolerance, "volume of {diameter} mm measured {ratio:.3} times");
        (ratio - 1.0).abs()
    }

    #[verifies("FR-004", "SW-401")]
    #[test]
    fn spheres_have_their_volume_and_diameter_within_a_tenth() {
        let centre = [1.3, -2.1, 0.7];
        let (mut worst_volume, mut worst_mm): (f64, f64) = (0.0, 0.0);
        for (spacing, diameters) in
            [([1.0, 0.7, 0.7], &[4.0, 6.0, 10.0, 20.0][..]), ([1.25, 0.6, 0.6], &[5.0, 8.0, 30.0])]
        {
            for diameter in diameters {
                let volume = render(spacing, sphere(centre, *diameter, 40.0));
                for (guess, off) in [(1.0, 0.0), (1.3, 0.15), (0.75, 0.1)] {
                    let mark = WorldPoint([centre[0] + off * diameter, centre[1], centre[2] - off * diameter]);
                    let found = measure(&volume, mark, guess * diameter).unwrap();
                    // Below 5 mm the scanner's blur shrinks the halfway surface.
                    let error = check_volume(&found, *diameter, if *diameter < 5.0 { 0.15 } else { 0.10 });
                    worst_volume = if *diameter < 5.0 { worst_volume } else { worst_volume.max(error) };
                    worst_mm = worst_mm.max((found.diameter_mm - diameter).abs());
                    assert!((found.diameter_mm - diameter).abs() < 0.035 * diameter.max(6.0));
                    assert!(distance(found.centre.0, centre) < 0.3);
                    for mm in found.size_mm {
                        assert!((mm - diameter).abs() <= 1.2, "{mm} for {diameter}");
                    }
                    assert_eq!(found.characteristics.kind, Some(NoduleKind::Solid));
                    assert!(found.characteristics.sphericity.unwrap() > 0.85);
                }
            }
        }
        assert!(measured("nodule.volume_error_of_5_mm_and_more", worst_volume, Limit::AtMost(0.10)));
        assert!(measured("nodule.diameter_error_mm", worst_mm, Limit::AtMost(0.035 * 30.0)));
    }

    #[verifies("FR-004")]
    #[test]
    fn attenuation_tells_the_kind() {
        let at = [0.0; 3];
        let spacing = [1.0, 0.7, 0.7];
        let kind = |hu: &(dyn Fn([f64; 3]) -> f64 + Sync), diameter: f64| {
            let found = measure(&render(spacing, hu), WorldPoint(at), diameter).unwrap();
            check_volume(&found, diameter, 0.15);
            found.characteristics.kind.unwrap()
        };
        assert_eq!(kind(&sphere(at, 9.0, 40.0), 9.0), NoduleKind::Solid);
        assert_eq!(kind(&sphere(at, 12.0, -620.0), 12.0), NoduleKind::GroundGlass);
        assert_eq!(kind(&sphere(at, 7.0, 500.0), 7.0), NoduleKind::Calcified);
        let part_solid = |p| match distance(p, at) {
            d if d < 4.5 => 40.0,
            d if d < 9.0 => -600.0,
            _ => -860.0,
        };
        assert_eq!(kind(&part_solid, 18.0), NoduleKind::PartSolid);
    }

    #[verifies("FR-004")]
    #[test]
    fn vessels_and_chest_wall_are_cut_off() {
        let vessel = |p: [f64; 3]| {
            let on_axis = (p[1] * p[1] + p[2] * p[2]).sqrt() < 1.2;
            if on_axis { 40.0 } else { sphere([0.0; 3], 9.0, 40.0)(p) }
        };
        let found = measure(&render([1.0, 0.7, 0.7], vessel), WorldPoint([0.0; 3]), 9.0).unwrap();
        check_volume(&found, 9.0, 0.15);
        let wall = |p: [f64; 3]| if p[0] > 3.0 { 40.0 } else { sphere([0.0; 3], 10.0, 40.0)(p) };
        let found = measure(&render([1.0, 0.7, 0.7], wall), WorldPoint([-0.5, 0.0, 0.0]), 10.0).unwrap();
        check_volume(&found, 10.0, 0.30);
    }

    #[test]
    fn a_blurred_border_is_less_sharp() {
        let soft = |p| -860.0 + 900.0 / (1.0 + ((distance(p, [0.0; 3]) - 6.0) / 0.5).exp());
        let sharp = measure(&render([0.7; 3], sphere([0.0; 3], 12.0, 40.0)), WorldPoint([0.0; 3]), 12.0).unwrap();
        let soft = measure(&render([0.7; 3], soft), WorldPoint([0.0; 3]), 12.0).unwrap();
        check_volume(&soft, 12.0, 0.10);
        let edge = |m: &NoduleMeasurement| m.characteristics.edge_sharpness.unwrap();
        // A logistic border of width 0.5 mm climbs at most 900 / (4 * 0.5) = 450 HU per mm, less after voxels of 0.7 mm.
        assert!((300.0..450.0).contains(&edge(&soft)), "{}", edge(&soft));
        assert!(edge(&sharp) > 1.5 * edge(&soft), "{}", edge(&sharp));
    }

    #[test]
    fn nothing_is_measured_where_nothing_is() {
        let lung = render([1.0; 3], |_| -860.0);
        assert!(measure(&lung, WorldPoint([0.0; 3]), 6.0).is_none());
        assert!(measure(&lung, WorldPoint([500.0; 3]), 6.0).is_none());
        assert!(measure(&lung, WorldPoint([f64::NAN; 3]), 6.0).is_none());
    }
}
