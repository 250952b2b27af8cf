//! The same patient again: later, with grown nodules, or at once, lying a little differently.

use crate::body::{Body, Rendered};
use crate::chest::Chest;
use crate::labels::Masks;
use crate::nodule::{Nodule, Place};
use crate::scanner::Scanner;
use crate::scene::Scene;
use crate::vector::{V3, add, dot, hash, normal};
use crate::{ConfigError, require};
use lungai_ct::{Geometry, LabelMap, NoduleKind, ReferenceNodule, Volume, WorldPoint, sphere_diameter_mm};
use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

/// No nodule grows beyond it.
const LARGEST_MM: f64 = 60.0;

impl Scene {
    /// The patient `days` later. Each nodule's volume is `V0 2^(days / doubling)`, exactly: the stated volume is the integral
    /// over the grown shape. Shape, kind and malignancy stay; all else of the patient does, too. A nodule that reaches the
    /// pleura is cut by it from then on.
    ///
    /// - `days`: may be negative, for an earlier scan
    /// - `doubling_days`: volume doubling time of a nodule, not 0; infinite where it does not change, negative where it
    ///   shrinks
    ///
    /// # Errors
    /// [`ConfigError`] where `days` or a doubling time is no time, or where a nodule would outgrow 60 mm or its place.
    pub fn grown(&self, days: f64, doubling_days: impl Fn(&Nodule) -> f64) -> Result<Self, ConfigError> {
        require(days.is_finite(), "days", days, "finite")?;
        let mut later = self.clone();
        for nodule in &mut later.nodules {
            *nodule = nodule.later(days, doubling_days(nodule), &self.chest)?;
        }
        Ok(later)
    }

    /// The patient `days` later, with nodules that grow as [`Nodule::usual_doubling_days`] says; one that would outgrow 60 mm
    /// or its place takes twice as long, as often as that is needed. With the doubling time of each nodule, in their order;
    /// infinite where it does not change.
    ///
    /// - `days`: 0 or more; `seed`: of the doubling times
    pub fn aged(&self, days: f64, seed: u64) -> (Self, Vec<f64>) {
        let mut later = self.clone();
        let doubling_days = later.nodules.iter_mut().map(|nodule| {
            let mut doubling = nodule.usual_doubling_days(seed);
            loop {
                match nodule.later(days, doubling, &self.chest) {
                    Ok(grown) => *nodule = grown,
                    // Growth becomes slower than any scan could tell long before it has no end.
                    Err(_) => {
                        doubling = if doubling < 1e6 { 2.0 * doubling } else { f64::INFINITY };
                        continue;
                    }
                }
                return doubling;
            }
        });
        let doubling_days = doubling_days.collect();
        (later, doubling_days)
    }
}

impl Nodule {
    /// See [`Scene::grown`].
    fn later(&self, days: f64, doubling: f64, chest: &Chest) -> Result<Self, ConfigError> {
        require(!doubling.is_nan() && doubling != 0.0, "doubling_days", doubling, "a time other than 0")?;
        let factor = (days / doubling).exp2();
        let wanted = self.volume_mm3 * factor;
        let diameter = sphere_diameter_mm(wanted);
        let rule = "such that every nodule stays below 60 mm and within the lung";
        require(diameter.is_finite() && diameter < LARGEST_MM, "days", days, rule)?;
        let mut later = self.clone();
        require(factor == 1.0 || later.grow(wanted, chest), "days", days, rule)?;
        Ok(later)
    }

    /// Scales the shape until the part in the lung has this volume. `false` where no scale gives it.
    fn grow(&mut self, wanted_mm3: f64, chest: &Chest) -> bool {
        let mut radius = self.radius_mm * (wanted_mm3 / self.volume_mm3).cbrt();
        // Secant in logarithms: volume goes with about the cube of the radius, less where the pleura cuts.
        let mut before: Option<(f64, f64)> = None;
        for _ in 0..30 {
            self.radius_mm = radius;
            if self.place != Place::Juxtapleural && self.radius_bounds()[1] > chest.lung(self.seed_point) {
                self.place = Place::Juxtapleural;
                before = None;
            }
            self.measure(chest);
            let off = (self.volume_mm3 / wanted_mm3).ln();
            if off.abs() < 1e-6 {
                // What the pleura's sampled border leaves over is far below what any measurement could tell.
                self.volume_mm3 = wanted_mm3;
                self.settle(chest);
                return true;
            }
            let at = radius.ln();
            let slope = match before {
                Some((r, o)) if (at - r).abs() > 1e-12 => ((off - o) / (at - r)).clamp(0.5, 6.0),
                _ => 3.0,
            };
            before = Some((at, off));
            radius = (at - off / slope).exp();
            if !(0.05..4.0 * LARGEST_MM).contains(&radius) {
                return false;
            }
        }
        false
    }

    /// A doubling time in days as such nodules have: malignant ones log-normal round the means of Hasegawa 2000 (Br J Radiol
    /// 73:1252), 149 for solid, 457 for part-solid, 813 for ground glass; benign ones do not change. The same seed gives the
    /// same time.
    pub fn usual_doubling_days(&self, seed: u64) -> f64 {
        if !self.traits.malignant {
            return f64::INFINITY;
        }
        let median = match self.traits.kind {
            NoduleKind::Solid | NoduleKind::Calcified => 149.0,
            NoduleKind::PartSolid => 457.0,
            NoduleKind::GroundGlass => 813.0,
        };
        let key = self.id.bytes().fold(0, |key, byte| hash(key, u64::from(byte)));
        median * (0.4 * normal(&mut StdRng::seed_from_u64(hash(seed, key)))).exp()
    }
}

/// How a patient lies: from the phantom's own position to that in the scanner, first turned about the phantom's origin,
/// then shifted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pose {
    /// Towards left, posterior, superior in mm, each within -50..=50.
    pub shift_mm: [f64; 3],
    /// About these axes in degrees, x first, each within -20..=20.
    pub turn_deg: [f64; 3],
}

impl Pose {
    /// As the phantom was drawn.
    pub const NONE: Self = Self { shift_mm: [0.0; 3], turn_deg: [0.0; 3] };

    /// The patient got up and lay down again: shifted by 4 mm and turned by 1.5 degrees in the root mean square of an axis.
    pub fn draw(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(hash(seed, 0x706f_7365));
        let mut three = |sd: f64| std::array::from_fn(|_| (sd * normal(&mut rng)).clamp(-3.0 * sd, 3.0 * sd));
        Self { shift_mm: three(4.0), turn_deg: three(1.5) }
    }

    /// # Errors
    /// [`ConfigError`] names the field out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        for mm in self.shift_mm {
            require((-50.0..=50.0).contains(&mm), "shift_mm", mm, "within -50..=50")?;
        }
        for degrees in self.turn_deg {
            require((-20.0..=20.0).contains(&degrees), "turn_deg", degrees, "within -20..=20")?;
        }
        Ok(())
    }

    /// Rows of the matrix that turns the phantom into the scanner.
    fn rows(&self) -> [V3; 3] {
        let [x, y, z] = self.turn_deg.map(|degrees| degrees.to_radians().sin_cos());
        let about_x = [[1.0, 0.0, 0.0], [0.0, x.1, -x.0], [0.0, x.0, x.1]];
        let about_y = [[y.1, 0.0, y.0], [0.0, 1.0, 0.0], [-y.0, 0.0, y.1]];
        let about_z = [[z.1, -z.0, 0.0], [z.0, z.1, 0.0], [0.0, 0.0, 1.0]];
        product(about_z, product(about_y, about_x))
    }

    /// Where the scanner sees a point of the phantom.
    pub fn seen(&self, p: [f64; 3]) -> [f64; 3] {
        add(self.rows().map(|row| dot(row, p)), self.shift_mm)
    }

    /// The reference standard in the scanner's coordinates.
    fn moved(&self, nodules: Vec<ReferenceNodule>) -> Vec<ReferenceNodule> {
        let position = |nodule: &ReferenceNodule| WorldPoint(self.seen(nodule.position.0));
        nodules.into_iter().map(|nodule| ReferenceNodule { position: position(&nodule), ..nodule }).collect()
    }

    /// The part of the phantom that lies on a grid of the scanner.
    fn on_phantom(&self, grid: &Geometry) -> Geometry {
        let rows = self.rows();
        let back = |v: V3| -> V3 { std::array::from_fn(|i| (0..3).map(|k| rows[k][i] * v[k]).sum()) };
        let origin = WorldPoint(back(crate::vector::sub(grid.origin().0, self.shift_mm)));
        let direction = if self.turn_deg == [0.0; 3] { grid.direction() } else { grid.direction().map(back) };
        Geometry::new(grid.size(), grid.spacing(), origin, direction).expect("turned axes stay at right angles")
    }
}

fn product(a: [V3; 3], b: [V3; 3]) -> [V3; 3] {
    a.map(|row| std::array::from_fn(|j| (0..3).map(|k| row[k] * b[k][j]).sum()))
}

impl Body {
    /// The patient in another position, on a grid of the scanner: image and truth in the scanner's coordinates, which no
    /// longer are the phantom's. With [`Pose::draw`] and another seed it is the second scan of a repeatability study; with
    /// [`Scene::grown`] a follow-up.
    ///
    /// # Panics
    /// As [`crate::render_window`].
    pub fn render_posed(&self, scanner: &Scanner, grid: &Geometry, pose: &Pose, seed: u64, masks: Masks) -> Rendered {
        let seen = self.render_with(scanner, &pose.on_phantom(grid), seed, masks);
        let map = |map: LabelMap| LabelMap::new(map.labels().to_owned(), grid.clone()).expect("the same size");
        Rendered {
            volume: Volume::new(seen.volume.hu().to_owned(), grid.clone()).expect("the same size"),
            lungs: map(seen.lungs),
            lobes: seen.lobes.map(map),
            airways: seen.airways.map(map),
            vessels: seen.vessels.map(map),
            nodule_labels: seen.nodule_labels.map(map),
            nodules: pose.moved(seen.nodules),
        }
    }
}

impl Scene {
    /// The reference standard of [`Body::render_posed`] without rendering it.
    pub fn reference_posed(&self, scanner: &Scanner, grid: &Geometry, pose: &Pose, seed: u64) -> Vec<ReferenceNodule> {
        pose.moved(self.reference(scanner, &pose.on_phantom(grid), seed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CaseMix, Difficulty};

    fn scene() -> Scene {
        Scene::draw(
            &CaseMix { nodules_mean: 14.0, juxtapleural_share: 0.7, ..CaseMix::preset(Difficulty::Standard) },
            12,
        )
    }

    #[test]
    fn a_nodules_volume_doubles_in_its_doubling_time() {
        let first = scene();
        assert!(first.nodules.iter().any(|n| n.place == Place::Juxtapleural));
        let later = first.grown(300.0, |_| 200.0).expect("room to grow");
        for (a, b) in first.nodules.iter().zip(&later.nodules) {
            let doubling = 300.0 * 2f64.ln() / (b.volume_mm3 / a.volume_mm3).ln();
            assert!((doubling / 200.0 - 1.0).abs() < 1e-9, "{doubling} days");
            // The shape has the volume that is stated.
            let mut shape = b.clone();
            shape.measure(&first.chest);
            assert!((shape.volume_mm3 / b.volume_mm3 - 1.0).abs() < 1e-5);
            assert_eq!((&a.id, a.seed_point, a.traits.kind), (&b.id, b.seed_point, b.traits.kind));
        }
        assert_eq!((&first.chest, &first.mimics, first.tree_seed), (&later.chest, &later.mimics, later.tree_seed));
    }

    #[test]
    fn what_does_not_grow_stays_to_the_last_bit_and_shrinking_is_growing_backwards() {
        let first = scene();
        assert_eq!(first.grown(500.0, |_| f64::INFINITY).expect("nothing grows"), first);
        let smaller = first.grown(100.0, |_| -100.0).expect("half the volume");
        assert!(
            smaller
                .nodules
                .iter()
                .zip(&first.nodules)
                .all(|(a, b)| (2.0 * a.volume_mm3 / b.volume_mm3 - 1.0).abs() < 1e-9)
        );
    }

    #[test]
    fn impossible_growth_is_refused() {
        let refused = |days: f64, doubling: f64| scene().grown(days, |_| doubling).unwrap_err().field;
        assert_eq!(refused(f64::NAN, 100.0), "days");
        assert_eq!(refused(100.0, 0.0), "doubling_days");
        assert_eq!(refused(100_000.0, 100.0), "days");
    }

    #[test]
    fn malignant_nodules_grow_with_time_and_none_outgrows_its_place() {
        let first = scene();
        for days in [0.0, 180.0, 3650.0] {
            let (later, doubling) = first.aged(days, 3);
            for ((a, b), doubling) in first.nodules.iter().zip(&later.nodules).zip(doubling) {
                assert_eq!(doubling.is_finite(), a.traits.malignant);
                assert!((b.volume_mm3 / a.volume_mm3 / (days / doubling).exp2() - 1.0).abs() < 1e-9);
                assert!(sphere_diameter_mm(b.volume_mm3) < LARGEST_MM);
            }
        }
    }

    #[test]
    fn a_pose_turns_then_shifts() {
        let pose = Pose { shift_mm: [1.0, 2.0, 3.0], turn_deg: [0.0, 0.0, 90.0] };
        let seen = pose.seen([10.0, 0.0, 0.0]);
        for (found, want) in seen.into_iter().zip([1.0, 12.0, 3.0]) {
            assert!((found - want).abs() < 1e-9);
        }
        assert_eq!(pose.check().unwrap_err().field, "turn_deg");
        assert_eq!(Pose::draw(5).check(), Ok(()));
        assert_eq!(Pose::draw(5), Pose::draw(5));
    }
}
