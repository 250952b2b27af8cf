//! One synthetic patient.

use crate::case_mix::CaseMix;
use crate::chest::{Chest, Wave};
use crate::disease::Disease;
use crate::mimic::{self, Mimic};
use crate::nodule::{Nodule, Place};
use crate::traits::Traits;
use crate::trees::{self, Trees};
use crate::vector::{V3, add, direction, distance, hash, normal, scale, to_segment, uniform};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

/// One synthetic patient in implicit shapes, in patient coordinates (LPS, mm; the origin on the midline).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    /// The seed it was drawn from.
    pub seed: u64,
    /// The large shapes.
    pub chest: Chest,
    /// What changes the whole lung.
    pub disease: Disease,
    /// Airways and vessels grow from this seed: some thousand branches need not be stored.
    pub tree_seed: u64,
    /// Number of branches relative to the shipped standard.
    pub tree_density: f64,
    /// Nodules of 3 mm and more, `n1`, `n2`, ...
    pub nodules: Vec<Nodule>,
    /// What may be taken for a nodule.
    pub mimics: Vec<Mimic>,
}

impl Scene {
    /// Draws a patient. The same mix and seed give the same scene.
    ///
    /// # Panics
    /// If [`CaseMix::check`] refuses the mix.
    pub fn draw(mix: &CaseMix, seed: u64) -> Self {
        if let Err(error) = mix.check() {
            panic!("unchecked case mix: {error}");
        }
        // A stream of its own for each part: one more mimic must not move the nodules.
        let stream = |part: u64| StdRng::seed_from_u64(hash(seed, part));
        let chest = draw_chest(mix, &mut stream(1));
        let tree_seed = hash(seed, 2);
        let tree_density = mix.difficulty.vessel_factor();
        let trees = trees::grow(&chest, tree_density, tree_seed);
        let disease = Disease::draw(mix, &mut stream(5));
        let nodules = draw_nodules(mix, &chest, disease, &trees, &mut stream(3));
        let factor = mix.difficulty.mimic_factor();
        let mut mimics = mimic::draw(&chest, &trees, &mix.mimics, factor, &mut stream(4));
        mimics.retain(|mimic| {
            let (centre, diameter_mm) = mimic.extent();
            let reach = 0.5 * diameter_mm + 3.0;
            nodules.iter().all(|n| distance(n.seed_point, centre) > n.radius_bounds()[1] + reach)
        });
        Self { seed, chest, disease, tree_seed, tree_density, nodules, mimics }
    }

    pub(crate) fn trees(&self) -> Trees {
        trees::grow(&self.chest, self.tree_density, self.tree_seed)
    }
}

fn draw_chest(mix: &CaseMix, rng: &mut impl Rng) -> Chest {
    let size = uniform(rng, mix.body_scale[0], mix.body_scale[1]);
    let warp = (0..4)
        .map(|_| Wave {
            k: scale(direction(rng), std::f64::consts::TAU / uniform(rng, 90.0, 160.0)),
            phase: uniform(rng, 0.0, std::f64::consts::TAU),
            amplitude_mm: scale(direction(rng), uniform(rng, 0.8, 2.0)),
        })
        .collect();
    Chest {
        scale: std::array::from_fn(|_| size * uniform(rng, 0.96, 1.04)),
        dome_shift_mm: [5.0 * normal(rng), 5.0 * normal(rng)].map(|mm: f64| mm.clamp(-12.0, 12.0)),
        heart_scale: uniform(rng, 0.92, 1.06),
        fat_mm: uniform(rng, 8.0, 18.0),
        warp,
        parenchyma_hu: -862.0 + (10.0 * normal(rng)).clamp(-22.0, 22.0),
        gravity_hu_per_mm: uniform(rng, 0.15, 0.45),
        texture_hu: uniform(rng, 10.0, 20.0),
        fissure_hu: uniform(rng, 60.0, 160.0),
        table_gap_mm: uniform(rng, 2.0, 6.0),
    }
}

fn draw_nodules(mix: &CaseMix, chest: &Chest, disease: Disease, trees: &Trees, rng: &mut impl Rng) -> Vec<Nodule> {
    let count = crate::vector::poisson(rng, mix.nodules_mean).min(mix.nodules_max);
    let mut nodules: Vec<Nodule> = Vec::new();
    for _ in 0..count {
        let traits = Traits::draw(mix, disease.emphysema > 0.0, rng);
        let choice: f64 = rng.random();
        let place = if choice < mix.juxtapleural_share {
            Place::Juxtapleural
        } else if choice < mix.juxtapleural_share + mix.difficulty.on_vessel_factor() * mix.juxtavascular_share {
            Place::Juxtavascular
        } else {
            Place::Intraparenchymal
        };
        // A place may turn out too narrow or taken; the traits stay, so that large nodules are not lost more often.
        for _ in 0..40 {
            let Some(at) = seek(place, &traits, chest, trees, rng) else { continue };
            let id = format!("n{}", nodules.len() + 1);
            let shift = mix.difficulty.subsolid_shift_hu();
            let mut nodule = Nodule::shape(id, traits.clone(), place, at, shift, rng);
            let reach = nodule.radius_bounds()[1];
            let free =
                nodules.iter().all(|other| distance(other.seed_point, at) > other.radius_bounds()[1] + reach + 3.0);
            if free && nodule.fit(chest) {
                nodules.push(nodule);
                break;
            }
        }
    }
    nodules
}

/// A seed point for a nodule of this size, in the lobe it was drawn for.
fn seek(place: Place, traits: &Traits, chest: &Chest, trees: &Trees, rng: &mut impl Rng) -> Option<V3> {
    let r = 0.5 * traits.diameter_mm;
    // Spikes and lobes reach farther than the sphere of equal volume.
    let reach = r * (1.15 + 1.4 * traits.spiculation);
    for _ in 0..4000 {
        let at = match place {
            Place::Juxtapleural => mimic::point_at_depth(chest, rng, [0.2 * r, 0.75 * r])?,
            Place::Intraparenchymal => mimic::anywhere(chest, rng),
            Place::Juxtavascular => {
                let n = trees.arteries.len() + trees.veins.len();
                let tube = *trees.vessels().nth(rng.random_range(0..n.max(1)))?;
                if !(0.9..3.5).contains(&tube.radius[0]) || tube.generation < 2 {
                    continue;
                }
                let along = crate::vector::unit(crate::vector::sub(tube.b, tube.a));
                let [u, v] = crate::vector::across(along);
                let angle = uniform(rng, 0.0, std::f64::consts::TAU);
                let off = add(scale(u, angle.cos()), scale(v, angle.sin()));
                let middle = scale(add(tube.a, tube.b), 0.5);
                add(middle, scale(off, 0.85 * r + tube.radius[0]))
            }
        };
        let depth = chest.lung(at);
        let fits = if place == Place::Juxtapleural { depth > 0.15 * r } else { depth > reach + 1.0 };
        if !fits || chest.in_upper_lobe(at) != traits.upper_lobe {
            continue;
        }
        let clear_of_airways = trees.airways.iter().all(|t| t.radius[0] < 1.5 || t.distance(at) > r + 0.5);
        let near = |t: &trees::Tube| to_segment(at, t.a, t.b) < r + t.radius[0] + 0.5;
        let clear_of_vessels =
            place != Place::Intraparenchymal || trees.vessels().all(|t| t.radius[0] < 1.6 || !near(t));
        if clear_of_airways && clear_of_vessels {
            return Some(at);
        }
    }
    None
}
