//! Nodules: star-shaped bodies whose volume and centre are integrals, not counts of voxels.

use crate::case_mix::CaseMix;
use crate::chest::Chest;
use crate::vector::{V3, add, direction, dot, norm, normal, scale, sub, uniform};
use lungai_ct::{NoduleKind, ReferenceNodule, WorldPoint};
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;
use std::sync::LazyLock;

/// A nodule of the scene with everything that is known about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nodule {
    /// Name, unique within the scene.
    pub id: String,
    /// What was drawn before a place was sought.
    pub traits: Traits,
    /// Where it grows.
    pub place: Place,
    /// The point from which `radius_mm`, `lobes` and `spikes` are measured, `[x, y, z]` in mm.
    pub seed_point: [f64; 3],
    /// Radius without lobes and spikes.
    pub radius_mm: f64,
    /// Lobulation: waves over the surface.
    pub lobes: Vec<Lobe>,
    /// Spiculation: cones on the surface.
    pub spikes: Vec<Spike>,
    /// Attenuation (of the halo where there is a core).
    pub hu: f64,
    /// The solid or calcified core of a part-solid or calcified nodule.
    pub core: Option<Core>,
    /// Centroid of the part that lies in the lung, `[x, y, z]` in mm.
    pub position: [f64; 3],
    /// Volume of the part that lies in the lung.
    pub volume_mm3: f64,
}

/// What decides on malignancy, and the decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traits {
    /// Diameter in mm of the sphere of equal volume.
    pub diameter_mm: f64,
    /// `solid`, `part-solid`, `ground-glass` or `calcified`.
    #[serde(with = "kind_name")]
    pub kind: NoduleKind,
    /// 0 (smooth) to 1 (marked).
    pub spiculation: f64,
    /// Whether it lies in an upper lobe.
    pub upper_lobe: bool,
    /// Probability of malignancy, given all of the above: what a perfect reader could know.
    pub malignancy_probability: f64,
    /// The draw.
    pub malignant: bool,
}

/// Where a nodule grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Surrounded by lung.
    Intraparenchymal,
    /// Cut by the costal pleura.
    Juxtapleural,
    /// Touches a vessel.
    Juxtavascular,
}

/// A wave of the radius over the surface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lobe {
    /// Direction times angular frequency.
    pub k: [f64; 3],
    /// Radians.
    pub phase: f64,
    /// Share of the radius.
    pub amplitude: f64,
}

/// A cone on the surface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spike {
    /// Unit vector.
    pub direction: [f64; 3],
    /// Half of the opening at the base, in radians seen from the seed point.
    pub half_angle: f64,
    /// Share of the radius.
    pub length: f64,
}

/// A denser ball inside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Core {
    /// From the seed point, share of the radius.
    pub offset: [f64; 3],
    /// Share of the radius.
    pub radius: f64,
    /// Attenuation.
    pub hu: f64,
}

impl Traits {
    /// Draws size, kind and spiculation, then malignancy from a logit in the manner of Brock (McWilliams 2013): it rises
    /// with size, spiculation, a part-solid kind and an upper lobe, plus a deviation N(0, 0.7) that no image shows. The
    /// weights are larger than Brock's, so that about a third is malignant and the drawn probability has an AUC of about
    /// 0.94: a label that an image can explain, not an epidemiological rate.
    pub(crate) fn draw(mix: &CaseMix, rng: &mut impl Rng) -> Self {
        let diameter_mm = loop {
            let d = mix.diameter_median_mm * (mix.diameter_log_sd * normal(rng)).exp();
            if mix.diameter_log_sd == 0.0 || (mix.diameter_range_mm[0]..=mix.diameter_range_mm[1]).contains(&d) {
                break d;
            }
        };
        let kinds = &mix.kinds;
        let shares = [
            (NoduleKind::Solid, kinds.solid),
            (NoduleKind::PartSolid, kinds.part_solid),
            (NoduleKind::GroundGlass, kinds.ground_glass),
            (NoduleKind::Calcified, kinds.calcified),
        ];
        let mut at = rng.random::<f64>() * shares.iter().map(|s| s.1).sum::<f64>();
        let mut kind = NoduleKind::Solid;
        for (candidate, share) in shares {
            if share > 0.0 {
                kind = candidate;
            }
            at -= share;
            if at < 0.0 {
                break;
            }
        }
        let marked = rng.random::<f64>() < 0.45;
        let amount = if marked { uniform(rng, 0.3, 1.0) } else { uniform(rng, 0.0, 0.12) };
        let spiculation = amount
            * match kind {
                NoduleKind::Solid | NoduleKind::PartSolid => 1.0,
                NoduleKind::GroundGlass => 0.4,
                NoduleKind::Calcified => 0.1,
            };
        let upper_lobe = rng.random::<f64>() < mix.upper_lobe_share;
        let known = -4.5
            + 6.0 * (diameter_mm / 6.5).ln()
            + 7.5 * spiculation
            + match kind {
                NoduleKind::PartSolid => 3.0,
                NoduleKind::Calcified => -6.0,
                NoduleKind::Solid | NoduleKind::GroundGlass => 0.0,
            }
            + if upper_lobe { 0.6 } else { 0.0 };
        let malignant = rng.random::<f64>() < logistic(known + 0.7 * normal(rng));
        Self { diameter_mm, kind, spiculation, upper_lobe, malignancy_probability: blurred_logistic(known), malignant }
    }
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Mean of the logistic over N(x, 0.7), by its usual approximation (MacKay 1992).
fn blurred_logistic(x: f64) -> f64 {
    logistic(x / (1.0 + PI * 0.7 * 0.7 / 8.0).sqrt())
}

impl Nodule {
    /// A shape with these traits at `seed_point`, sized so that the part in the lung has the drawn diameter.
    pub(crate) fn shape(
        id: String,
        traits: Traits,
        place: Place,
        seed_point: V3,
        shift_hu: f64,
        rng: &mut impl Rng,
    ) -> Self {
        let uneven = 0.03 + 0.05 * rng.random::<f64>() + 0.05 * traits.spiculation;
        let lobes = (0..6)
            .map(|_| Lobe {
                k: scale(direction(rng), uniform(rng, 1.5, 4.5)),
                phase: uniform(rng, 0.0, 2.0 * PI),
                amplitude: uneven * uniform(rng, 0.4, 1.0),
            })
            .collect();
        let n_spikes = if traits.spiculation > 0.13 { 6 + (8.0 * traits.spiculation) as usize } else { 0 };
        let spikes = (0..n_spikes)
            .map(|_| Spike {
                direction: direction(rng),
                half_angle: uniform(rng, 0.28, 0.44),
                length: traits.spiculation * uniform(rng, 0.7, 1.8),
            })
            .collect();
        let soft = uniform(rng, 30.0, 60.0);
        let (hu, core) = match traits.kind {
            NoduleKind::Solid => (soft, None),
            NoduleKind::GroundGlass => (uniform(rng, -680.0, -500.0) + shift_hu, None),
            NoduleKind::PartSolid => {
                let radius = uniform(rng, 0.35, 0.7);
                let offset = scale(direction(rng), uniform(rng, 0.0, 0.6 * (1.0 - radius)));
                (uniform(rng, -650.0, -500.0) + shift_hu, Some(Core { offset, radius, hu: soft }))
            }
            NoduleKind::Calcified => {
                let hu = uniform(rng, 280.0, 700.0);
                (70.0, Some(Core { offset: [0.0; 3], radius: uniform(rng, 0.6, 0.95), hu }))
            }
        };
        let radius_mm = 0.5 * traits.diameter_mm;
        Self {
            id,
            traits,
            place,
            seed_point,
            radius_mm,
            lobes,
            spikes,
            hu,
            core,
            position: seed_point,
            volume_mm3: sphere_mm3(2.0 * radius_mm),
        }
    }

    /// Scales the shape until the part in the lung has the drawn volume, then notes that part's volume and centroid.
    /// `false` where the lung leaves no room for it.
    pub(crate) fn fit(&mut self, chest: &Chest) -> bool {
        let wanted = sphere_mm3(self.traits.diameter_mm);
        for _ in 0..6 {
            self.measure(chest);
            let ratio = wanted / self.volume_mm3.max(1e-9);
            if (ratio - 1.0).abs() < 0.005 {
                return true;
            }
            self.radius_mm *= ratio.cbrt().clamp(0.7, 1.4);
        }
        self.measure(chest);
        // What was reached is what is true.
        self.traits.diameter_mm = (6.0 * self.volume_mm3 / PI).cbrt();
        (wanted / self.volume_mm3 - 1.0).abs() < 0.05
    }

    /// Volume and centroid of the part in the lung: a star-shaped body's are integrals over the directions,
    /// `V = sum r^3/3 dw` and `V c = sum r^4/4 u dw`.
    pub(crate) fn measure(&mut self, chest: &Chest) {
        let clipped = self.place == Place::Juxtapleural;
        let weight = 4.0 * PI / DIRECTIONS.len() as f64;
        let (mut volume, mut moment) = (0.0, [0.0; 3]);
        for u in DIRECTIONS.iter().copied() {
            let mut r = self.radius_towards(u);
            if clipped {
                r = r.min(self.to_pleura(chest, u, r));
            }
            volume += weight * r.powi(3) / 3.0;
            moment = add(moment, scale(u, weight * r.powi(4) / 4.0));
        }
        self.volume_mm3 = volume;
        self.position = add(self.seed_point, scale(moment, 1.0 / volume.max(1e-9)));
    }

    /// Distance along `u` to where the lung ends, at most `limit`.
    fn to_pleura(&self, chest: &Chest, u: V3, limit: f64) -> f64 {
        let depth = |r: f64| chest.lung(add(self.seed_point, scale(u, r)));
        if depth(limit) > 0.0 {
            return limit;
        }
        let (mut inside, mut outside) = (0.0, limit);
        for _ in 0..7 {
            let middle = 0.5 * (inside + outside);
            if depth(middle) > 0.0 { inside = middle } else { outside = middle }
        }
        0.5 * (inside + outside)
    }

    /// Distance from the seed point to the surface.
    pub(crate) fn radius_towards(&self, u: V3) -> f64 {
        let waves: f64 = self.lobes.iter().map(|lobe| lobe.amplitude * (dot(lobe.k, u) + lobe.phase).sin()).sum();
        let spike = self.spikes.iter().map(|s| s.height(u)).fold(0.0, f64::max);
        self.radius_mm * (1.0 + waves.max(-0.6) + spike)
    }

    /// No surface is nearer than the first or farther than the second.
    pub(crate) fn radius_bounds(&self) -> [f64; 2] {
        let waves: f64 = self.lobes.iter().map(|lobe| lobe.amplitude).sum();
        let spike = self.spikes.iter().map(|s| s.length).fold(0.0, f64::max);
        [self.radius_mm * (1.0 - waves.min(0.6)), self.radius_mm * (1.0 + waves + spike)]
    }

    /// Whether the star-shaped body holds `p`, the lung's border left aside.
    pub(crate) fn holds(&self, p: V3) -> bool {
        let d = sub(p, self.seed_point);
        let r = norm(d);
        let [low, high] = self.radius_bounds();
        r < low || (r < high && r < self.radius_towards(scale(d, 1.0 / r)))
    }

    /// The entry of the reference standard.
    pub(crate) fn reference(&self) -> ReferenceNodule {
        ReferenceNodule {
            id: self.id.clone(),
            position: WorldPoint(self.position),
            diameter_mm: (6.0 * self.volume_mm3 / PI).cbrt(),
            volume_mm3: Some(self.volume_mm3),
            kind: Some(self.traits.kind),
            malignant: Some(self.traits.malignant),
            spiculation: Some(self.traits.spiculation),
            excluded: false,
        }
    }
}

impl Spike {
    /// Height over the surface in direction `u`, as a share of the radius.
    fn height(&self, u: V3) -> f64 {
        let cos = dot(self.direction, u);
        if cos < self.half_angle.cos() {
            return 0.0;
        }
        self.length * (1.0 - cos.min(1.0).acos() / self.half_angle)
    }
}

pub(crate) fn sphere_mm3(diameter: f64) -> f64 {
    PI / 6.0 * diameter.powi(3)
}

/// Spikes are some 0.3 wide: these lie 0.065 apart.
static DIRECTIONS: LazyLock<Vec<V3>> = LazyLock::new(|| (0..3000).map(|i| fibonacci(i, 3000)).collect());

/// The `i`-th of `n` directions spread evenly over the sphere.
fn fibonacci(i: usize, n: usize) -> V3 {
    let z = 1.0 - (2.0 * i as f64 + 1.0) / n as f64;
    let angle = i as f64 * PI * (3.0 - 5f64.sqrt());
    let r = (1.0 - z * z).sqrt();
    [r * angle.cos(), r * angle.sin(), z]
}

mod kind_name {
    use lungai_ct::NoduleKind;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(kind: &NoduleKind, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(kind.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NoduleKind, D::Error> {
        let name = String::deserialize(deserializer)?;
        NoduleKind::from_name(&name).ok_or_else(|| D::Error::custom(format!("unknown nodule kind `{name}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Difficulty, Scene};
    use rand::{SeedableRng, rngs::StdRng};

    fn traits(n: usize) -> Vec<Traits> {
        let mut rng = StdRng::seed_from_u64(7);
        let mix = CaseMix::preset(Difficulty::Standard);
        (0..n).map(|_| Traits::draw(&mix, &mut rng)).collect()
    }

    /// Share of pairs of a malignant and a benign nodule that the score puts in order.
    fn auc(traits: &[Traits], score: impl Fn(&Traits) -> f64) -> f64 {
        let (mut pairs, mut right) = (0.0, 0.0);
        for a in traits.iter().filter(|t| t.malignant) {
            for b in traits.iter().filter(|t| !t.malignant) {
                pairs += 1.0;
                right += if score(a) > score(b) { 1.0 } else { 0.0 };
            }
        }
        right / pairs
    }

    #[test]
    fn a_perfect_reader_reaches_an_auc_near_0_94_and_size_alone_does_not() {
        let drawn = traits(2000);
        let share = drawn.iter().filter(|t| t.malignant).count() as f64 / 2000.0;
        let (oracle, size) = (auc(&drawn, |t| t.malignancy_probability), auc(&drawn, |t| t.diameter_mm));
        assert!((0.30..0.40).contains(&share), "{share} malignant");
        assert!((0.92..0.97).contains(&oracle), "oracle AUC {oracle}");
        assert!((0.70..0.85).contains(&size), "size-only AUC {size}");
    }

    #[test]
    fn the_drawn_probability_is_calibrated() {
        let drawn = traits(4000);
        for (low, high) in [(0.0, 0.2), (0.2, 0.8), (0.8, 1.0)] {
            let bin: Vec<_> = drawn.iter().filter(|t| (low..high).contains(&t.malignancy_probability)).collect();
            let expected = bin.iter().map(|t| t.malignancy_probability).sum::<f64>() / bin.len() as f64;
            let observed = bin.iter().filter(|t| t.malignant).count() as f64 / bin.len() as f64;
            let sd = (expected * (1.0 - expected) / bin.len() as f64).sqrt();
            assert!((observed - expected).abs() < 3.5 * sd + 0.01, "{observed} malignant where {expected} was drawn");
        }
    }

    #[test]
    fn diameters_are_log_normal_within_their_range() {
        let mut logs: Vec<f64> = traits(4000).iter().map(|t| t.diameter_mm.ln()).collect();
        logs.sort_by(f64::total_cmp);
        assert!(logs[0] >= 3f64.ln() && logs[3999] <= 30f64.ln());
        // ln d ~ N(ln 6.5, 0.5) cut at 3 mm (-1.546 SD, 6.1 %) and 30 mm (0.1 %): quantile q of the cut law is quantile
        // 0.061 + 0.938 q of the whole: 0.2955 -> z -0.537, 0.530 -> 0.0753, 0.7645 -> 0.721.
        for (quantile, z) in [(1000, -0.537), (2000, 0.0753), (3000, 0.721)] {
            let expected = 6.5f64.ln() + 0.5 * z;
            assert!((logs[quantile] - expected).abs() < 0.04, "{} instead of {expected}", logs[quantile]);
        }
    }

    #[test]
    fn the_integral_of_a_smooth_ball_is_the_balls_volume() {
        let chest = Scene::draw(&CaseMix::preset(Difficulty::Easy), 1).chest;
        let mut rng = StdRng::seed_from_u64(1);
        let drawn = traits(1).remove(0);
        let mut ball = Nodule::shape("n1".into(), drawn, Place::Intraparenchymal, [1.0, 2.0, 3.0], 0.0, &mut rng);
        ball.lobes.clear();
        ball.spikes.clear();
        ball.radius_mm = 5.0;
        ball.measure(&chest);
        assert!((ball.volume_mm3 - 523.6).abs() < 0.1);
        assert!(crate::vector::distance(ball.position, [1.0, 2.0, 3.0]) < 1e-3);
    }
}
