//! Diseases of the whole lung that change what a nodule is seen against.

use crate::case_mix::CaseMix;
use crate::chest::{Chest, smoothstep};
use crate::vector::{V3, uniform};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

/// What a patient's lungs suffer from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disease {
    /// Volume of the emphysematous holes, taken for balls, relative to the lungs', overlaps counted twice; 0 where there are none.
    pub emphysema: f64,
    /// Severity of the reticular fibrosis, 0..=1; 0 where there is none.
    pub fibrosis: f64,
}

impl Disease {
    pub(crate) fn draw(mix: &CaseMix, rng: &mut impl Rng) -> Self {
        // Always the same number of draws, so that one share leaves the other's patients alone.
        let [has_emphysema, extent, has_fibrosis, severity]: [f64; 4] = std::array::from_fn(|_| rng.random());
        Self {
            emphysema: if has_emphysema < mix.emphysema_share { 0.03 + 0.22 * extent * extent } else { 0.0 },
            fibrosis: if has_fibrosis < mix.fibrosis_share { 0.35 + 0.65 * severity } else { 0.0 },
        }
    }
}

/// A roundish hole of air.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hole {
    pub centre: V3,
    pub radius_mm: f64,
}

impl Hole {
    /// Unevenness of the border, as a share of the radius.
    const UNEVEN: f64 = 0.15;

    /// No border is farther.
    pub fn reach_mm(&self) -> f64 {
        self.radius_mm * (1.0 + 3.0 * Self::UNEVEN)
    }

    /// How much of the places `(dx, dy, dz)` from the centre lies in the hole, for one row of them; its border is `width`
    /// mm wide. Without branches and in `f32`: in a severe emphysema this is most of the work.
    pub fn shares(&self, dx: impl Iterator<Item = f32>, [dy, dz]: [f32; 2], width: f32) -> impl Iterator<Item = f32> {
        // Every hole has a shape of its own.
        let [x, y, z] = self.centre.map(|v| v.rem_euclid(std::f64::consts::TAU) as f32);
        let (radius, uneven, per_mm) = (self.radius_mm as f32, Self::UNEVEN as f32, 1.0 / width);
        dx.map(move |dx| {
            let r = (dx * dx + dy * dy + dz * dz).sqrt().max(1e-6);
            let one = 1.0 / r;
            let waves = wave((3.0 * dx + 2.0 * dy) * one + x)
                + wave((3.0 * dy - 2.5 * dz) * one + y)
                + wave((3.5 * dz + 1.5 * dx) * one + z);
            (0.5 + (radius * (1.0 + uneven * waves) - r) * per_mm).clamp(0.0, 1.0)
        })
    }
}

/// Nearly the sine, from parabolas, of some turns at most: a border needs no more.
fn wave(t: f32) -> f32 {
    // Adding and subtracting 1.5 * 2^23 rounds to a whole number.
    const ROUND: f32 = 12_582_912.0;
    let x = t * std::f32::consts::FRAC_1_PI;
    let x = x - 2.0 * ((0.5 * x + ROUND) - ROUND);
    4.0 * x * (1.0 - x.abs())
}

/// HU inside a hole.
pub(crate) const HOLE_HU: f32 = -975.0;
/// Smallest and largest radius of a hole in mm.
const HOLE_MM: [f64; 2] = [2.0, 12.0];

/// The holes of an emphysema. Their number falls with size by a power law, as the clusters of low attenuation do that
/// Mishima (1999) counted: areas by the exponent -(1.3 + 1), so radii by -3.6. More of them lie in the upper lung.
pub(crate) fn holes(chest: &Chest, extent: f64, seed: u64) -> Vec<Hole> {
    let mut holes = Vec::new();
    let mut rng = StdRng::seed_from_u64(seed);
    let lungs_mm3 = 5e6 * chest.mean_scale().powi(3);
    let mut left = extent * lungs_mm3;
    let [low, high] = HOLE_MM.map(|mm| mm.powf(-2.6));
    let mut tries = 0;
    while left > 0.0 && tries < 400_000 {
        tries += 1;
        let centre = crate::mimic::anywhere(chest, &mut rng);
        let radius_mm = (low - rng.random::<f64>() * (low - high)).powf(-1.0 / 2.6);
        let keep = 0.3 + 0.7 * smoothstep(-60.0, 80.0, centre[2] / chest.scale[2]);
        if rng.random::<f64>() < keep && chest.lung(centre) > uniform(&mut rng, 0.4, 1.0) * radius_mm {
            left -= crate::nodule::sphere_mm3(2.0 * radius_mm);
            holes.push(Hole { centre, radius_mm });
        }
    }
    holes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Difficulty, Scene};

    #[test]
    fn holes_fill_the_stated_volume_and_their_sizes_follow_a_power_law() {
        let chest = Scene::draw(&CaseMix::preset(Difficulty::Easy), 1).chest;
        let holes = holes(&chest, 0.1, 1);
        let volume: f64 = holes.iter().map(|h| crate::nodule::sphere_mm3(2.0 * h.radius_mm)).sum();
        let expected = 0.1 * 5e6 * chest.mean_scale().powi(3);
        assert!((volume / expected - 1.0).abs() < 0.03, "{volume} mm3");
        // P(r > 4) = (4^-2.6 - 12^-2.6) / (2^-2.6 - 12^-2.6) = 0.157.
        let share = holes.iter().filter(|h| h.radius_mm > 4.0).count() as f64 / holes.len() as f64;
        assert!((0.13..0.19).contains(&share), "{share}");
    }
}
