//! Nodules: star-shaped bodies whose volume and centre are integrals, not counts of voxels.

use crate::chest::Chest;
use crate::field::{Field, LEFT, RIGHT};
use crate::traits::Traits;
use crate::vector::{V3, add, direction, dot, norm, scale, sub, uniform};
use lungai_ct::{Lobe, NoduleKind, ReferenceNodule, WorldPoint, sphere_diameter_mm};
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
    pub lobes: Vec<Lobulation>,
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
    /// The lobe that holds the centroid.
    #[serde(with = "lobe_name")]
    pub lobe: Lobe,
    /// Longest and perpendicular diameter in mm on the axial section of largest area, spikes included.
    pub axes_mm: [f64; 2],
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
pub struct Lobulation {
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
            .map(|_| Lobulation {
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
            lobe: Lobe::RightUpper,
            axes_mm: [2.0 * radius_mm; 2],
        }
    }

    /// Scales the shape until the part in the lung has the drawn volume, then notes what is true of that part.
    /// `false` where the lung leaves no room for it.
    pub(crate) fn fit(&mut self, chest: &Chest) -> bool {
        let wanted = sphere_mm3(self.traits.diameter_mm);
        for _ in 0..6 {
            self.measure(chest);
            let ratio = wanted / self.volume_mm3.max(1e-9);
            if (ratio - 1.0).abs() < 0.005 {
                break;
            }
            self.radius_mm = (self.radius_mm * ratio.cbrt().clamp(0.7, 1.4)).min(0.9 * self.traits.diameter_mm);
        }
        self.measure(chest);
        self.settle(chest);
        (wanted / self.volume_mm3 - 1.0).abs() < 0.05
    }

    /// Notes what follows from volume and position. What was reached is what is true.
    pub(crate) fn settle(&mut self, chest: &Chest) {
        self.traits.diameter_mm = sphere_diameter_mm(self.volume_mm3);
        self.axes_mm = self.axial_axes(self.pleura(chest).as_ref());
        self.lobe = chest.lobe_at(self.position);
    }

    /// The lung as it is rendered, for a nodule that it cuts.
    fn pleura(&self, chest: &Chest) -> Option<Field> {
        let reach = self.radius_bounds()[1];
        let [low, high] = [-reach, reach].map(|by| self.seed_point.map(|v| v + by));
        (self.place == Place::Juxtapleural).then(|| Field::over(chest, 0, 0.0, low, high))
    }

    /// Volume and centroid of the part in the lung: a star-shaped body's are integrals over the directions,
    /// `V = sum r^3/3 dw` and `V c = sum r^4/4 u dw`.
    pub(crate) fn measure(&mut self, chest: &Chest) {
        let lung = self.pleura(chest);
        let weight = 4.0 * PI / DIRECTIONS.len() as f64;
        let (mut volume, mut moment) = (0.0, [0.0; 3]);
        for u in DIRECTIONS.iter().copied() {
            let mut r = self.radius_towards(u);
            if let Some(lung) = &lung {
                r = r.min(self.to_pleura(lung, u, r));
            }
            volume += weight * r.powi(3) / 3.0;
            moment = add(moment, scale(u, weight * r.powi(4) / 4.0));
        }
        self.volume_mm3 = volume;
        self.position = add(self.seed_point, scale(moment, 1.0 / volume.max(1e-9)));
    }

    /// Distance along `u` to where the lung ends, at most `limit`.
    fn to_pleura(&self, lung: &Field, u: V3, limit: f64) -> f64 {
        let in_lung = |r: f64| depth(lung, add(self.seed_point, scale(u, r))) > 0.0;
        if in_lung(limit) {
            return limit;
        }
        bisect(limit, in_lung)
    }

    /// Longest diameter and the one at right angles to it, on the axial section of largest area. A section's outline is
    /// taken from rays that start above or below the seed point.
    fn axial_axes(&self, lung: Option<&Field>) -> [f64; 2] {
        const RAYS: usize = 90;
        let reach = self.radius_bounds()[1];
        let section = |level: f64| -> Vec<[f64; 2]> {
            let from = add(self.seed_point, [0.0, 0.0, level]);
            let inside = |p: V3| self.holds(p) && lung.is_none_or(|lung| depth(lung, p) > 0.0);
            if !inside(from) {
                return Vec::new();
            }
            let ray = |i: usize| {
                let (sin, cos) = (i as f64 * 2.0 * PI / RAYS as f64).sin_cos();
                let r = bisect(reach, |r| inside(add(from, [r * cos, r * sin, 0.0])));
                [r * cos, r * sin]
            };
            (0..RAYS).map(ray).collect()
        };
        let area = |outline: &[[f64; 2]]| -> f64 { outline.iter().map(|p| p[0] * p[0] + p[1] * p[1]).sum() };
        let outlines = (-4..=4).map(|i| section(0.15 * f64::from(i) * self.radius_mm));
        let largest = outlines.max_by(|a, b| area(a).total_cmp(&area(b))).unwrap_or_default();
        // Longest distance between two points of the outline, then the extent at right angles to it.
        let (mut long, mut along) = (0.0, [1.0, 0.0]);
        for (i, p) in largest.iter().enumerate() {
            for q in &largest[..i] {
                let d = [p[0] - q[0], p[1] - q[1]];
                let length = (d[0] * d[0] + d[1] * d[1]).sqrt();
                if length > long {
                    (long, along) = (length, d.map(|v| v / length));
                }
            }
        }
        let across = largest.iter().map(|p| p[1] * along[0] - p[0] * along[1]);
        let (low, high) = across.fold((0.0f64, 0.0f64), |(low, high), v| (low.min(v), high.max(v)));
        [long, high - low]
    }

    /// Distance from the seed point to the surface.
    pub(crate) fn radius_towards(&self, u: V3) -> f64 {
        let waves: f64 = self.lobes.iter().map(|lobe| lobe.amplitude * (dot(lobe.k, u) + lobe.phase).sin()).sum();
        let spike = self.spikes.iter().map(|s| s.height(u)).fold(0.0, f64::max);
        self.radius_mm * (1.0 + waves.max(-0.6) + spike)
    }

    /// How much [`Self::radius_towards`] can change, at most, between `u` and directions up to `angle` from it.
    pub(crate) fn radius_change(&self, u: V3, angle: f64) -> f64 {
        let waves: f64 = self.lobes.iter().map(|lobe| lobe.amplitude * norm(lobe.k)).sum();
        // A chord is shorter than its arc: what is farther off than this by the chord lies outside of the cone.
        let near = |spike: &&Spike| norm(sub(spike.direction, u)) < spike.half_angle + angle;
        let spikes = self.spikes.iter().filter(near).map(|spike| spike.length / spike.half_angle).fold(0.0, f64::max);
        self.radius_mm * (waves + spikes) * angle
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
            diameter_mm: sphere_diameter_mm(self.volume_mm3),
            volume_mm3: Some(self.volume_mm3),
            kind: Some(self.traits.kind),
            malignant: Some(self.traits.malignant),
            malignancy_probability: Some(self.traits.malignancy_probability),
            spiculation: Some(self.traits.spiculation),
            lobe: Some(self.lobe),
            long_axis_mm: Some(self.axes_mm[0]),
            short_axis_mm: Some(self.axes_mm[1]),
            doubling_days: None,
            excluded: false,
        }
    }
}

impl Spike {
    /// Height over the surface in direction `u`, as a share of the radius.
    fn height(&self, u: V3) -> f64 {
        let cos = dot(self.direction, u);
        // The first two terms of the cosine lie below it: most directions need no more.
        if cos < 1.0 - 0.5 * self.half_angle * self.half_angle || cos < self.half_angle.cos() {
            return 0.0;
        }
        self.length * (1.0 - cos.min(1.0).acos() / self.half_angle)
    }
}

/// Depth below the pleura as it is rendered.
fn depth(lung: &Field, p: V3) -> f32 {
    let node = lung.at(p);
    node[RIGHT].max(node[LEFT])
}

/// Where `inside` ends between 0 and `limit`, to a thousandth of it.
fn bisect(limit: f64, inside: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, limit);
    for _ in 0..10 {
        let middle = 0.5 * (low + high);
        if inside(middle) { low = middle } else { high = middle }
    }
    0.5 * (low + high)
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

mod lobe_name {
    use lungai_ct::Lobe;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(lobe: &Lobe, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(lobe.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Lobe, D::Error> {
        let name = String::deserialize(deserializer)?;
        Lobe::from_name(&name).ok_or_else(|| D::Error::custom(format!("unknown lobe `{name}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CaseMix, Difficulty, Scene};
    use rand::{SeedableRng, rngs::StdRng};

    /// A smooth ball of 10 mm.
    fn ball() -> (Nodule, Chest) {
        let mix = CaseMix::preset(Difficulty::Easy);
        let mut rng = StdRng::seed_from_u64(1);
        let drawn = Traits::draw(&mix, false, &mut rng);
        let mut ball = Nodule::shape("n1".into(), drawn, Place::Intraparenchymal, [1.0, 2.0, 3.0], 0.0, &mut rng);
        ball.lobes.clear();
        ball.spikes.clear();
        ball.radius_mm = 5.0;
        (ball, Scene::draw(&mix, 1).chest)
    }

    #[test]
    fn the_integral_of_a_smooth_ball_is_the_balls_volume() {
        let (mut ball, chest) = ball();
        ball.measure(&chest);
        assert!((ball.volume_mm3 - 523.6).abs() < 0.1);
        assert!(crate::vector::distance(ball.position, [1.0, 2.0, 3.0]) < 1e-3);
    }

    #[test]
    fn the_surface_changes_no_more_than_is_said() {
        let scene = Scene::draw(&CaseMix { nodules_mean: 18.0, ..CaseMix::preset(Difficulty::Hard) }, 2);
        let angle = 0.15;
        let mut closest = 0.0f64;
        for nodule in scene.nodules.iter().filter(|n| !n.spikes.is_empty()) {
            for (i, u) in DIRECTIONS.iter().enumerate().step_by(7) {
                let bound = nodule.radius_change(*u, angle);
                for v in DIRECTIONS.iter().skip(i.saturating_sub(300)).take(600) {
                    if dot(*u, *v).min(1.0).acos() <= angle {
                        let change = (nodule.radius_towards(*u) - nodule.radius_towards(*v)).abs();
                        assert!(change <= bound + 1e-9, "{change} of {bound}");
                        closest = closest.max(change / bound);
                    }
                }
            }
        }
        assert!(closest > 0.5, "a bound that is never nearly reached says little: {closest}");
    }

    #[test]
    fn a_ball_is_as_long_as_wide_and_a_spike_in_its_plane_makes_it_longer() {
        let (mut ball, chest) = ball();
        ball.measure(&chest);
        ball.settle(&chest);
        assert!(ball.axes_mm.iter().all(|mm| (mm - 10.0).abs() < 0.02), "{:?}", ball.axes_mm);
        ball.spikes.push(Spike { direction: [1.0, 0.0, 0.0], half_angle: 0.3, length: 0.6 });
        ball.settle(&chest);
        // 5 mm on one side, 5 mm and a spike of 3 mm on the other.
        assert!((ball.axes_mm[0] - 13.0).abs() < 0.05 && (ball.axes_mm[1] - 10.0).abs() < 0.05, "{:?}", ball.axes_mm);
    }
}
