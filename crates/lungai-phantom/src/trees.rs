//! Airways, arteries and veins: trees that fill the lungs.
//!
//! A tree grows towards seed points spread over its lung (Tawhai 2000: split the points at their centre of mass, send a
//! branch two fifths of the way to each half, repeat). Radii follow Murray: the cube of a parent's radius is the sum of
//! its children's cubes.

use crate::chest::{CARINA, Chest, HILUM};
use crate::vector::{V3, across, add, cross, dot, norm, scale, sub, uniform, unit};
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
    /// Arteries and veins.
    pub vessels: Vec<Tube>,
}

/// Radius of the thinnest branches in mm.
const LEAF_RADIUS: f64 = 0.7;

/// Airways thinner than this are not seen on CT, nor drawn.
const LEAST_LUMEN: f64 = 1.1;

/// Thickness of an airway's wall in mm.
pub fn wall_mm(lumen_radius: f64) -> f64 {
    0.5 + 0.13 * lumen_radius
}

/// `density` scales the number of branches.
pub fn grow(chest: &Chest, density: f64, seed: u64) -> Trees {
    let mut trees = Trees::default();
    let mut rng = StdRng::seed_from_u64(seed);
    let s = chest.mean_scale();
    let at = |p: V3| chest.to_patient(p);
    let carina = at(CARINA);
    trees.airways.push(Tube { a: at([1.0, 8.0, 175.0]), b: carina, radius: [8.8 * s, 8.4 * s], generation: 0 });
    for (side, hilum) in HILUM.into_iter().enumerate() {
        let hilum = at(hilum);
        trees.airways.push(Tube { a: carina, b: hilum, radius: [7.0 * s, 6.2 * s], generation: 1 });
        let spacing = 10.5 / density.cbrt();
        let outward = if side == 0 { -1.0 } else { 1.0 };
        let root = unit([outward, 0.15, -0.5]);
        let points = seeds(chest, side, spacing, &mut rng);
        let skeleton = Skeleton::grow(chest, hilum, root, points);
        skeleton.arteries_beside_airways(&mut trees, hilum);
        let atrium = at([18.0 * outward + 2.0, 18.0, -12.0]);
        let entry = add(hilum, [-4.0 * outward, -6.0, -20.0]);
        let points = seeds(chest, side, spacing, &mut rng);
        let mut veins = Skeleton::grow(chest, entry, unit([outward, -0.1, -0.2]), points);
        veins.bend(&mut rng);
        let radii = veins.radii();
        let first = veins.branches.first().map_or(4.0, |_| radii[0]);
        trees.vessels.push(Tube { a: atrium, b: entry, radius: [first * 1.1, first], generation: 0 });
        for (branch, radius) in veins.branches.iter().zip(&radii) {
            push_bent(&mut trees.vessels, branch.a, branch.mid, branch.b, *radius, branch.generation + 1);
        }
    }
    trees
}

/// Two tubes by way of `mid`, so that branches are not straight.
fn push_bent(tubes: &mut Vec<Tube>, a: V3, mid: V3, b: V3, radius: f64, generation: u32) {
    tubes.push(Tube { a, b: mid, radius: [radius, radius * 0.97], generation });
    tubes.push(Tube { a: mid, b, radius: [radius * 0.97, radius * 0.93], generation });
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
                if chest.lungs(p)[side] > 2.5 {
                    points.push(p);
                }
            }
        }
    }
    points
}

struct Branch {
    a: V3,
    mid: V3,
    b: V3,
    parent: Option<usize>,
    generation: u32,
}

struct Skeleton {
    /// Parents before children.
    branches: Vec<Branch>,
}

impl Skeleton {
    fn grow(chest: &Chest, root: V3, heading: V3, points: Vec<V3>) -> Self {
        let mut tree = Self { branches: Vec::new() };
        if !points.is_empty() {
            tree.split(chest, root, heading, points, None, 0);
        }
        tree
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
            // A branch turns by at most 65 degrees.
            let limit = 65f64.to_radians();
            let angle = dot(direction, heading).clamp(-1.0, 1.0).acos();
            if angle > limit {
                let side = unit(sub(direction, scale(heading, dot(direction, heading))));
                direction = add(scale(heading, limit.cos()), scale(side, limit.sin()));
            }
            let share = if half.len() == 1 { 0.8 } else { 0.42 };
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

    /// Moves each branch's middle by up to 6 % of its length.
    fn bend(&mut self, rng: &mut impl Rng) {
        for branch in &mut self.branches {
            let along = sub(branch.b, branch.a);
            let [u, v] = across(unit(along));
            let by = 0.06 * norm(along);
            branch.mid = add(branch.mid, add(scale(u, uniform(rng, -by, by)), scale(v, uniform(rng, -by, by))));
        }
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
        let radii = self.radii();
        let lumen = |radius: f64| 0.72 * radius;
        // How far the artery lies beside the airway at each branch's end, kept in direction from parent to child.
        let mut sides: Vec<V3> = Vec::with_capacity(self.branches.len());
        let mut ends: Vec<V3> = Vec::with_capacity(self.branches.len());
        let root_side = [0.0, -1.0, 0.25];
        let start = add(hilum, scale(unit(root_side), 9.0));
        for (i, branch) in self.branches.iter().enumerate() {
            let along = unit(sub(branch.b, branch.a));
            let before = branch.parent.map_or(unit(root_side), |parent| sides[parent]);
            let mut side = sub(before, scale(along, dot(before, along)));
            if norm(side) < 0.2 {
                side = cross(along, [0.0, 0.0, 1.0]);
            }
            let side = unit(side);
            let radius = radii[i];
            let gap = if lumen(radius) > LEAST_LUMEN {
                radius + lumen(radius) + wall_mm(lumen(radius))
            } else {
                0.6 * radius
            };
            let end = add(branch.b, scale(side, gap));
            let from = branch.parent.map_or(start, |parent| ends[parent]);
            trees.vessels.push(Tube {
                a: from,
                b: end,
                radius: [radius, radius * 0.93],
                generation: branch.generation + 1,
            });
            if lumen(radius) > LEAST_LUMEN {
                let r = lumen(radius);
                trees.airways.push(Tube {
                    a: branch.a,
                    b: branch.b,
                    radius: [r, r * 0.93],
                    generation: branch.generation + 2,
                });
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
