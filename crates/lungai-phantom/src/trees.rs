//! Airways, arteries and veins: trees that fill the lungs.
//!
//! A tree grows lobe by lobe towards seed points spread over the lobe (Tawhai 2000: split the points at their centre of
//! mass, send a branch a third of the way to each half, repeat), so that no branch crosses a fissure. Radii follow
//! Murray: the cube of a parent's radius is the sum of its children's cubes. Each artery runs beside its airway and goes
//! on where the airway becomes too thin to be seen; veins have seeds of their own, so that they lie between.

use crate::chest::{CARINA, Chest, HILUM};
use crate::vector::{V3, across, add, cross, dot, norm, scale, sub, uniform, unit};
use lungai_ct::Lobe;
use rand::{Rng, SeedableRng, rngs::StdRng};

/// A tapered tube from `a` to `b`.
#[derive(Debug, Clone, Copy)]
pub struct Tube {
    pub a: V3,
    pub b: V3,
    /// Radius at `a` and `b` in mm.
    pub radius: [f64; 2],
    /// 0 for the trachea, 1 for main bronchi, ...; for vessels counted from the hilum.
    pub generation: u32,
}

/// All tubes of one patient.
#[derive(Debug, Clone, Default)]
pub struct Trees {
    /// Lumen; the wall lies around it.
    pub airways: Vec<Tube>,
    pub arteries: Vec<Tube>,
    pub veins: Vec<Tube>,
}

impl Trees {
    pub fn vessels(&self) -> impl Iterator<Item = &Tube> {
        self.arteries.iter().chain(&self.veins)
    }
}

/// Radius of the last branches where they begin, in mm; they end with 0.35 mm, the thinnest that CT shows. Each feeds
/// about 0.94 ml, so that a segment's artery (250 ml) is 5.3 mm wide.
const LEAF_RADIUS: f64 = 0.41;
const TIP_RADIUS: f64 = 0.35;
/// Distance between the ends of branches in mm.
const LEAF_SPACING: f64 = 9.8;
/// Airways thinner than this (radius in mm) are not seen on CT, nor drawn.
const LEAST_LUMEN: f64 = 0.95;
/// Radius of a bronchus's lumen relative to its artery's.
const LUMEN_TO_ARTERY: f64 = 0.68;

/// Thickness of an airway's wall in mm.
pub fn wall_mm(lumen_radius: f64) -> f64 {
    0.35 + 0.11 * lumen_radius
}

/// `density` scales the number of branches.
pub fn grow(chest: &Chest, density: f64, seed: u64) -> Trees {
    let mut trees = Trees::default();
    let s = chest.mean_scale();
    let carina = chest.to_patient(CARINA);
    let top = chest.to_patient([1.0, 8.0, 175.0]);
    trees.airways.push(Tube { a: top, b: carina, radius: [8.8 * s, 8.4 * s], generation: 0 });
    // A side has a stream of its own, so that both can grow at the same time.
    let side = |side: usize| {
        Side::grow(chest, side, density, &mut StdRng::seed_from_u64(crate::vector::hash(seed, side as u64)))
    };
    let (right, left) = rayon::join(|| side(0), || side(1));
    for side in [right, left] {
        trees.airways.extend(side.airways);
        trees.arteries.extend(side.arteries);
        trees.veins.extend(side.veins);
    }
    trees
}

/// Grows the trees of one lung.
struct Side;

impl Side {
    fn grow(chest: &Chest, side: usize, density: f64, rng: &mut StdRng) -> Trees {
        let mut trees = Trees::default();
        let s = chest.mean_scale();
        let nominal = HILUM[side];
        let at = |offset: V3| chest.to_patient(add(nominal, offset));
        let hilum = at([0.0; 3]);
        trees.airways.push(Tube { a: chest.to_patient(CARINA), b: hilum, radius: [7.0 * s, 6.0 * s], generation: 1 });
        let spacing = LEAF_SPACING / density.cbrt();
        let out = if side == 0 { -1.0 } else { 1.0 };

        let mut bronchi = Skeleton::default();
        let mut lobes = Lobes::of(chest, side, spacing, rng);
        // The upper lobe's bronchus leaves at the hilum; what goes on feeds the other lobes.
        let upper = bronchi.trunk(hilum, at([9.0 * out, -1.0, 12.0]), None);
        bronchi.fill(chest, upper, std::mem::take(&mut lobes.upper));
        let lower = bronchi.trunk(hilum, at([6.0 * out, 8.0, -22.0]), None);
        if !lobes.middle.is_empty() {
            let middle = bronchi.trunk(bronchi.branches[lower].b, at([16.0 * out, -8.0, -30.0]), Some(lower));
            bronchi.fill(chest, middle, std::mem::take(&mut lobes.middle));
        }
        bronchi.fill(chest, lower, std::mem::take(&mut lobes.lower));
        bronchi.bend(rng);
        bronchi.arteries_beside_airways(&mut trees, hilum);

        let mut veins = Skeleton::default();
        let mut lobes = Lobes::of(chest, side, spacing, rng);
        let atrium = chest.to_patient([18.0 * out + 2.0, 18.0, -12.0]);
        let above = veins.trunk(atrium, at([4.0 * out, -11.0, -8.0]), None);
        lobes.upper.append(&mut lobes.middle);
        veins.fill(chest, above, lobes.upper);
        let below = veins.trunk(atrium, at([2.0 * out, 4.0, -34.0]), None);
        veins.fill(chest, below, lobes.lower);
        veins.bend(rng);
        let leaves = veins.leaves();
        for (i, radius) in veins.radii().into_iter().enumerate() {
            let Branch { a, mid, b, generation, .. } = veins.branches[i];
            push_bent(&mut trees.veins, [a, mid, b], taper(radius, leaves[i]), generation + 1);
        }
        trees
    }
}

/// Radius at both ends of a branch.
fn taper(radius: f64, leaf: bool) -> [f64; 2] {
    [radius, if leaf { TIP_RADIUS } else { 0.92 * radius }]
}

/// Two tubes by way of a middle, so that branches are not straight.
fn push_bent(tubes: &mut Vec<Tube>, [a, mid, b]: [V3; 3], [from, to]: [f64; 2], generation: u32) {
    let half = 0.5 * (from + to);
    tubes.push(Tube { a, b: mid, radius: [from, half], generation });
    tubes.push(Tube { a: mid, b, radius: [half, to], generation });
}

/// Where the branches of one lung are to end.
#[derive(Default)]
struct Lobes {
    upper: Vec<V3>,
    middle: Vec<V3>,
    lower: Vec<V3>,
}

impl Lobes {
    fn of(chest: &Chest, side: usize, spacing: f64, rng: &mut impl Rng) -> Self {
        let mut lobes = Self::default();
        for point in seeds(chest, side, spacing, rng) {
            match chest.lobe(side, point) {
                Lobe::RightUpper | Lobe::LeftUpper => lobes.upper.push(point),
                Lobe::RightMiddle => lobes.middle.push(point),
                Lobe::RightLower | Lobe::LeftLower => lobes.lower.push(point),
            }
        }
        lobes
    }
}

/// Points about `spacing` mm apart in one lung, away from the pleura.
fn seeds(chest: &Chest, side: usize, spacing: f64, rng: &mut impl Rng) -> Vec<V3> {
    let [low, high] = chest.lung_extent_z();
    let [half_x, half_y] = chest.torso_mm();
    let steps = |from: f64, to: f64| (0..((to - from) / spacing) as usize).map(move |i| from + i as f64 * spacing);
    let x_range = if side == 0 { [-half_x, 0.0] } else { [0.0, half_x] };
    let mut points = Vec::new();
    for z in steps(low, high) {
        for y in steps(-half_y, half_y) {
            for x in steps(x_range[0], x_range[1]) {
                let p = [x, y, z].map(|v| v + spacing * uniform(rng, -0.45, 0.45));
                if chest.lungs(p)[side] > 3.0 {
                    points.push(p);
                }
            }
        }
    }
    points
}

#[derive(Clone, Copy)]
struct Branch {
    a: V3,
    mid: V3,
    b: V3,
    parent: Option<usize>,
    generation: u32,
}

#[derive(Default)]
struct Skeleton {
    /// Parents before children.
    branches: Vec<Branch>,
}

impl Skeleton {
    /// A branch whose ends are known; its index.
    fn trunk(&mut self, a: V3, b: V3, parent: Option<usize>) -> usize {
        let generation = parent.map_or(0, |parent| self.branches[parent].generation + 1);
        self.branches.push(Branch { a, mid: scale(add(a, b), 0.5), b, parent, generation });
        self.branches.len() - 1
    }

    /// Branches from the end of a trunk to all points.
    fn fill(&mut self, chest: &Chest, trunk: usize, points: Vec<V3>) {
        if !points.is_empty() {
            let Branch { a, b, generation, .. } = self.branches[trunk];
            self.split(chest, b, unit(sub(b, a)), points, Some(trunk), generation + 1);
        }
    }

    fn split(&mut self, chest: &Chest, from: V3, heading: V3, points: Vec<V3>, parent: Option<usize>, generation: u32) {
        let centre = mean(&points);
        let normal = widest(&points, centre);
        let (left, right): (Vec<V3>, Vec<V3>) = points.into_iter().partition(|p| dot(sub(*p, centre), normal) < 0.0);
        for half in [left, right] {
            if half.is_empty() {
                continue;
            }
            let target = sub(mean(&half), from);
            let mut direction = unit(target);
            // A branch turns by at most 48 degrees.
            let limit = 48f64.to_radians();
            let angle = dot(direction, heading).clamp(-1.0, 1.0).acos();
            if angle > limit {
                let side = unit(sub(direction, scale(heading, dot(direction, heading))));
                direction = add(scale(heading, limit.cos()), scale(side, limit.sin()));
            }
            let share = if half.len() == 1 { 0.9 } else { 0.34 };
            let mut length = (share * norm(target)).max(2.0);
            let mut end = add(from, scale(direction, length));
            while generation > 2 && chest.lung(end) < 2.0 && length > 2.0 {
                length *= 0.6;
                end = add(from, scale(direction, length));
            }
            if generation > 2 && chest.lung(end) < 1.5 {
                continue;
            }
            let index = self.branches.len();
            self.branches.push(Branch { a: from, mid: scale(add(from, end), 0.5), b: end, parent, generation });
            if half.len() > 1 && generation < 18 {
                self.split(chest, end, direction, half, Some(index), generation + 1);
            }
        }
    }

    /// Moves each branch's middle by up to 7 % of its length.
    fn bend(&mut self, rng: &mut impl Rng) {
        for branch in &mut self.branches {
            let along = sub(branch.b, branch.a);
            let [u, v] = across(unit(along));
            let by = 0.07 * norm(along);
            branch.mid = add(branch.mid, add(scale(u, uniform(rng, -by, by)), scale(v, uniform(rng, -by, by))));
        }
    }

    /// Whether a branch has no children.
    fn leaves(&self) -> Vec<bool> {
        let mut leaves = vec![true; self.branches.len()];
        for parent in self.branches.iter().filter_map(|branch| branch.parent) {
            leaves[parent] = false;
        }
        leaves
    }

    fn radii(&self) -> Vec<f64> {
        let mut cubes = vec![0.0; self.branches.len()];
        for i in (0..self.branches.len()).rev() {
            if cubes[i] == 0.0 {
                cubes[i] = LEAF_RADIUS.powi(3);
            }
            if let Some(parent) = self.branches[i].parent {
                cubes[parent] += cubes[i];
            }
        }
        cubes.into_iter().map(f64::cbrt).collect()
    }

    /// The skeleton is the airway; each artery runs beside it and goes on where the airway becomes too thin to be seen.
    fn arteries_beside_airways(&self, trees: &mut Trees, hilum: V3) {
        let (radii, leaves) = (self.radii(), self.leaves());
        // How far the artery lies beside the airway at each branch's end, kept in direction from parent to child.
        let mut sides: Vec<V3> = Vec::with_capacity(self.branches.len());
        let mut ends: Vec<V3> = Vec::with_capacity(self.branches.len());
        let root_side = unit([0.0, -1.0, 0.25]);
        let start = add(hilum, scale(root_side, 9.0));
        for (i, branch) in self.branches.iter().enumerate() {
            let along = unit(sub(branch.b, branch.a));
            let before = branch.parent.map_or(root_side, |parent| sides[parent]);
            let mut side = sub(before, scale(along, dot(before, along)));
            if norm(side) < 0.2 {
                side = cross(along, [0.0, 0.0, 1.0]);
            }
            let side = unit(side);
            let radius = radii[i];
            let lumen = LUMEN_TO_ARTERY * radius;
            let seen = lumen > LEAST_LUMEN;
            let gap = if seen { radius + lumen + wall_mm(lumen) } else { 0.6 * radius };
            let end = add(branch.b, scale(side, gap));
            let from = branch.parent.map_or(start, |parent| ends[parent]);
            let mid = add(scale(add(from, end), 0.5), sub(branch.mid, scale(add(branch.a, branch.b), 0.5)));
            push_bent(&mut trees.arteries, [from, mid, end], taper(radius, leaves[i]), branch.generation + 1);
            if seen {
                let path = [branch.a, branch.mid, branch.b];
                push_bent(&mut trees.airways, path, [lumen, 0.92 * lumen], branch.generation + 2);
            }
            sides.push(side);
            ends.push(end);
        }
    }
}

fn mean(points: &[V3]) -> V3 {
    scale(points.iter().fold([0.0; 3], |sum, p| add(sum, *p)), 1.0 / points.len() as f64)
}

/// Direction of largest spread, by power iteration.
fn widest(points: &[V3], centre: V3) -> V3 {
    let mut covariance = [[0.0; 3]; 3];
    for p in points {
        let d = sub(*p, centre);
        for i in 0..3 {
            for j in 0..3 {
                covariance[i][j] += d[i] * d[j];
            }
        }
    }
    let mut v = unit([1.0, 0.7, 0.9]);
    for _ in 0..12 {
        v = unit(std::array::from_fn(|i| dot(covariance[i], v)));
    }
    if norm(v) < 0.5 { [1.0, 0.0, 0.0] } else { v }
}

impl Tube {
    /// Distance from `p` to the tube's surface, negative inside.
    pub fn distance(&self, p: V3) -> f64 {
        crate::vector::to_segment(p, self.a, self.b) - self.radius[0].max(self.radius[1])
    }
}
