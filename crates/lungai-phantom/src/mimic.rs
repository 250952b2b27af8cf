//! What may be taken for a nodule. Whether a mark on it is wrong is a matter of opinion among readers, so that all
//! mimics are in the reference standard as excluded from scoring.

use crate::MimicMeans;
use crate::chest::Chest;
use crate::nodule::sphere_mm3;
use crate::trees::{Trees, Tube};
use crate::vector::{V3, across, add, direction, distance, normal, scale, sub, uniform, unit};
use lungai_ct::{NoduleKind, ReferenceNodule, WorldPoint};
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// Something that is no nodule (or too small to count as one) but may look like it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mimic {
    /// What it is.
    pub kind: MimicKind,
    /// Where it is, `[x, y, z]` in mm.
    pub centre: [f64; 3],
    /// Its round parts.
    pub ellipsoids: Vec<Ellipsoid>,
    /// Its thin parts.
    pub strands: Vec<Strand>,
}

/// Kinds of mimics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MimicKind {
    /// A thickening where a vessel branches.
    BifurcationBulge,
    /// A flat lymph node with a septum to the pleura.
    LymphNode,
    /// A fibrotic band.
    Scar,
    /// A plaque on the pleura.
    Plaque,
    /// A nodule below 3 mm.
    Micronodule,
    /// A stretch of bronchus filled with mucus.
    MucusPlug,
}

/// A turned ellipsoid of uniform density.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ellipsoid {
    /// `[x, y, z]` in mm.
    pub centre: [f64; 3],
    /// Unit vectors of its own axes.
    pub axes: [[f64; 3]; 3],
    /// Semi-axes in mm.
    pub semi_mm: [f64; 3],
    /// Attenuation.
    pub hu: f64,
}

/// A thin tube of soft tissue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strand {
    /// One end, `[x, y, z]` in mm.
    pub from: [f64; 3],
    /// The other end.
    pub to: [f64; 3],
    /// Radius in mm.
    pub radius_mm: f64,
}

impl Mimic {
    /// The entry of the reference standard. Only a micronodule has a nodule's properties.
    pub(crate) fn reference(&self, id: String) -> ReferenceNodule {
        let micronodule = self.kind == MimicKind::Micronodule;
        let (centre, diameter_mm) = self.extent();
        ReferenceNodule {
            id,
            volume_mm3: micronodule.then(|| sphere_mm3(diameter_mm)), // its semi-axes are equal
            kind: micronodule.then_some(NoduleKind::Solid),
            malignant: micronodule.then_some(false),
            spiculation: micronodule.then_some(0.0),
            excluded: true,
            ..ReferenceNodule::at(WorldPoint(centre), diameter_mm)
        }
    }

    /// Centre, `[x, y, z]` in mm, and largest diameter in mm of its first ellipsoid; of the sphere round its strands where
    /// it has nothing else.
    pub(crate) fn extent(&self) -> (V3, f64) {
        if let Some(e) = self.ellipsoids.first() {
            return (e.centre, 2.0 * e.semi_mm.into_iter().fold(0.0, f64::max));
        }
        let ends = || self.strands.iter().flat_map(|s| [s.from, s.to]);
        let middle = std::array::from_fn(|i| {
            let (low, high) = ends().fold((f64::MAX, f64::MIN), |(low, high), p| (low.min(p[i]), high.max(p[i])));
            0.5 * (low + high)
        });
        (middle, 2.0 * ends().map(|p| distance(p, middle)).fold(0.0, f64::max))
    }
}

impl Ellipsoid {
    fn flat(centre: V3, axis: V3, wide: [f64; 2], thick: f64, hu: f64) -> Self {
        let [u, v] = across(axis);
        Self { centre, axes: [u, v, axis], semi_mm: [wide[0], wide[1], thick], hu }
    }
}

/// All mimics of one patient, in the order of [`MimicMeans`].
pub(crate) fn draw(chest: &Chest, trees: &Trees, means: &MimicMeans, factor: f64, rng: &mut impl Rng) -> Vec<Mimic> {
    let mut mimics = Vec::new();
    let kinds = [
        (MimicKind::BifurcationBulge, means.bifurcation_bulges),
        (MimicKind::LymphNode, means.lymph_nodes),
        (MimicKind::Scar, means.scars),
        (MimicKind::Plaque, means.plaques),
        (MimicKind::Micronodule, means.micronodules),
        (MimicKind::MucusPlug, means.mucus_plugs),
    ];
    for (kind, mean) in kinds {
        for _ in 0..crate::vector::poisson(rng, mean * factor) {
            mimics.extend(one(kind, chest, trees, rng));
        }
    }
    mimics
}

/// `None` where no place was found.
fn one(kind: MimicKind, chest: &Chest, trees: &Trees, rng: &mut impl Rng) -> Option<Mimic> {
    let mut strands = Vec::new();
    let (centre, ellipsoids) = match kind {
        MimicKind::BifurcationBulge => {
            let fit = |r: f64| (1.0..2.6).contains(&r);
            let tubes: Vec<_> = trees.vessels().filter(|t| fit(t.radius[1]) && chest.lung(t.b) > 4.0).collect();
            if tubes.is_empty() {
                return None;
            }
            let tube = tubes[rng.random_range(0..tubes.len())];
            let r = tube.radius[1] * uniform(rng, 1.3, 1.75);
            let semi = [r, r * uniform(rng, 0.85, 1.0)];
            (tube.b, vec![Ellipsoid::flat(tube.b, direction(rng), semi, r * 0.9, 42.0)])
        }
        MimicKind::LymphNode => {
            let centre = point_at_depth(chest, rng, [3.0, 12.0])?;
            let axis = direction(rng);
            let wide = uniform(rng, 1.8, 3.4);
            let outward = scale(chest.inward(centre), -1.0);
            let end = add(centre, scale(outward, chest.lung(centre)));
            strands.push(Strand { from: centre, to: end, radius_mm: 0.4 });
            let semi = [wide, wide * uniform(rng, 0.65, 0.9)];
            (centre, vec![Ellipsoid::flat(centre, axis, semi, wide * 0.38, 38.0)])
        }
        MimicKind::Scar => {
            let centre = point_at_depth(chest, rng, [3.0, 15.0])?;
            let mut heading = direction(rng);
            let step = uniform(rng, 3.5, 6.0);
            let mut at = centre;
            for _ in 0..rng.random_range(3..6) {
                heading = unit(add(heading, scale(direction(rng), 0.45)));
                let to = add(at, scale(heading, step));
                if chest.lung(to) < 0.5 {
                    break;
                }
                strands.push(Strand { from: at, to, radius_mm: uniform(rng, 0.7, 1.7) });
                at = to;
            }
            (centre, Vec::new())
        }
        MimicKind::Plaque => {
            let near = point_at_depth(chest, rng, [0.0, 2.0])?;
            let inward = chest.inward(near);
            let centre = add(near, scale(inward, -chest.lung(near)));
            let hu = if rng.random::<f64>() < 0.3 { 320.0 } else { 45.0 };
            let wide = uniform(rng, 5.0, 13.0);
            let semi = [wide, wide * uniform(rng, 0.5, 1.0)];
            (centre, vec![Ellipsoid::flat(centre, inward, semi, uniform(rng, 1.5, 3.0), hu)])
        }
        MimicKind::Micronodule => {
            // On a vessel it would be no nodule to anyone.
            let clear = |p: V3| trees.vessels().chain(&trees.airways).all(|tube| tube.distance(p) > 3.0);
            let centre = (0..50).filter_map(|_| point_at_depth(chest, rng, [3.0, 80.0])).find(|p| clear(*p))?;
            let r = 0.5 * (2.1 + 0.4 * normal(rng)).clamp(1.2, 2.8);
            (centre, vec![Ellipsoid::flat(centre, direction(rng), [r, r], r, 60.0)])
        }
        MimicKind::MucusPlug => {
            let fit = |t: &&Tube| t.generation > 1 && t.radius[0] < 2.2 && chest.lung(t.a).min(chest.lung(t.b)) > 3.0;
            let tubes: Vec<_> = trees.airways.iter().filter(fit).collect();
            if tubes.is_empty() {
                return None;
            }
            let tube = tubes[rng.random_range(0..tubes.len())];
            let centre = scale(add(tube.a, tube.b), 0.5);
            // As wide as the bronchus with its wall, and no longer than the straight stretch.
            let r = tube.radius[0] * uniform(rng, 1.15, 1.6);
            let length = (0.5 * distance(tube.a, tube.b)).clamp(1.5 * r, 4.0 * r);
            (centre, vec![Ellipsoid::flat(centre, unit(sub(tube.b, tube.a)), [r, r], length, uniform(rng, 10.0, 40.0))])
        }
    };
    // A scar whose first step leaves the lung is none.
    (!ellipsoids.is_empty() || !strands.is_empty()).then_some(Mimic { kind, centre, ellipsoids, strands })
}

/// A random point at this depth below the costal pleura.
pub(crate) fn point_at_depth(chest: &Chest, rng: &mut impl Rng, depth: [f64; 2]) -> Option<V3> {
    for _ in 0..20_000 {
        let p = anywhere(chest, rng);
        let d = chest.lung(p);
        // Costal: the rib cage is what ends the lung here, not the heart or the diaphragm.
        let costal = depth[1] > 40.0 || chest.cage(p) < d + 2.0;
        if d >= depth[0] && d <= depth[1] && costal {
            return Some(p);
        }
    }
    None
}

/// Uniform in the box around the lungs.
pub(crate) fn anywhere(chest: &Chest, rng: &mut impl Rng) -> V3 {
    let [low, high] = chest.lung_extent_z();
    let [half_x, half_y] = chest.torso_mm();
    [uniform(rng, -half_x, half_x), uniform(rng, -half_y, half_y), uniform(rng, low, high)]
}
