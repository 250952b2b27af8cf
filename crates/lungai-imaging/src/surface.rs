//! Area and volume of a mask's surface: marching cubes (Lorensen & Cline 1987) with vertices halfway along the
//! edges, as PyRadiomics measures shapes.
//!
//! The 256 cases are derived instead of listed: each of a cube's faces contributes its line segments, the
//! segments close to loops, and each loop is cut into triangles. On a face whose inside corners are
//! diagonal, they stay apart; both cubes at the face decide alike, so that the surface has no holes.

use lungai_ct::Spacing;
use ndarray::{Array3, ArrayView3};
use std::sync::LazyLock;

/// A closed surface's measures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Surface {
    /// Enclosed volume in mm3.
    pub volume_mm3: f64,
    /// Area in mm2.
    pub area_mm2: f64,
}

impl Surface {
    /// `(36 pi V^2)^(1/3) / A`: 1 for a sphere, less for every other shape (PyRadiomics, IBSI QCFX).
    /// `None` without a surface.
    pub fn sphericity(&self) -> Option<f64> {
        let sphere = (36.0 * std::f64::consts::PI * self.volume_mm3.powi(2)).cbrt();
        (self.area_mm2 > 0.0).then(|| (sphere / self.area_mm2).min(1.0))
    }
}

/// Measures the surface of `mask`; what lies outside of the array counts as not inside.
pub fn surface(mask: ArrayView3<'_, bool>, spacing: Spacing) -> Surface {
    let step = spacing.zyx_mm();
    let (nz, ny, nx) = mask.dim();
    let mut padded = Array3::from_elem((nz + 2, ny + 2, nx + 2), false);
    padded.slice_mut(ndarray::s![1..=nz, 1..=ny, 1..=nx]).assign(&mask);
    // The area of a case is the same everywhere; its volume depends on where the cube is.
    let (mut area, mut six_volumes) = (0.0, 0.0);
    for z in 0..=nz {
        for y in 0..=ny {
            let mut case = 0usize;
            for x in 0..=nx {
                case >>= 4; // the cube's right face is the next cube's left face
                for (bit, (dz, dy)) in [(0, 0), (0, 1), (1, 0), (1, 1)].into_iter().enumerate() {
                    if x == 0 && padded[[z + dz, y + dy, 0]] {
                        case |= 1 << bit;
                    }
                    if padded[[z + dz, y + dy, x + 1]] {
                        case |= 1 << (bit + 4);
                    }
                }
                for triangle in &CASES[case] {
                    let [a, b, c] = triangle.map(|p| {
                        [(p[0] + z as f64) * step[0], (p[1] + y as f64) * step[1], (p[2] + x as f64) * step[2]]
                    });
                    let normal = cross(minus(b, a), minus(c, a));
                    area += 0.5 * dot(normal, normal).sqrt();
                    six_volumes += dot(a, normal);
                }
            }
        }
    }
    Surface { volume_mm3: six_volumes.abs() / 6.0, area_mm2: area }
}

type Point = [f64; 3];

/// Triangles of each case, in units of the cube; bit `x * 4 + z * 2 + y` is the corner `[z, y, x]`.
static CASES: LazyLock<Vec<Vec<[Point; 3]>>> = LazyLock::new(|| (0..256).map(triangles).collect());

fn triangles(case: usize) -> Vec<[Point; 3]> {
    let inside = |corner: [usize; 3]| case >> (corner[2] * 4 + corner[0] * 2 + corner[1]) & 1 == 1;
    // Directed segments from edge midpoint to edge midpoint, the inside always on the same hand.
    let mut segments: Vec<(Key, Key)> = Vec::new();
    for axis in 0..3 {
        for side in 0..2 {
            let corner = |u: usize, v: usize| {
                let mut c = [side; 3];
                // Seen from outside of the cube the four corners run counter-clockwise on both sides.
                let (first, second) =
                    if side == 1 { ((axis + 1) % 3, (axis + 2) % 3) } else { ((axis + 2) % 3, (axis + 1) % 3) };
                c[first] = u;
                c[second] = v;
                c
            };
            let ring = [corner(0, 0), corner(1, 0), corner(1, 1), corner(0, 1)];
            let middle = |i: usize| -> Key {
                let (a, b) = (ring[i % 4], ring[(i + 1) % 4]);
                std::array::from_fn(|k| (a[k] + b[k]) as u8)
            };
            let set = ring.map(inside);
            for i in 0..4 {
                // A stretch of inside corners i..=j, cut off by one segment from its end to its start.
                if set[i] && !set[(i + 3) % 4] {
                    let mut j = i;
                    while set[(j + 1) % 4] {
                        j += 1;
                    }
                    segments.push((middle(j), middle(i + 3)));
                }
            }
        }
    }
    let mut out = Vec::new();
    while let Some((start, mut at)) = segments.pop() {
        let mut ring = vec![start];
        while at != start {
            ring.push(at);
            let next = segments.iter().position(|(from, _)| *from == at).expect("segments close to loops");
            at = segments.swap_remove(next).1;
        }
        let ring: Vec<Point> = ring.iter().map(|key| key.map(|k| f64::from(k) / 2.0)).collect();
        out.extend(cut(&ring));
    }
    out
}

/// An edge's midpoint, doubled, so that it is exact and comparable.
type Key = [u8; 3];

/// The fan of most area among those from each corner of the ring: the choice of the published table.
fn cut(ring: &[Point]) -> Vec<[Point; 3]> {
    let fan = |from: usize| -> Vec<[Point; 3]> {
        let at = |k: usize| ring[(from + k) % ring.len()];
        (1..ring.len() - 1).map(|k| [at(0), at(k), at(k + 1)]).collect()
    };
    let area = |fan: &[[Point; 3]]| -> f64 {
        fan.iter()
            .map(|[a, b, c]| {
                let n = cross(minus(*b, *a), minus(*c, *a));
                dot(n, n).sqrt()
            })
            .sum()
    };
    (0..ring.len()).map(fan).max_by(|a, b| area(a).total_cmp(&area(b))).unwrap_or_default()
}

fn minus(a: Point, b: Point) -> Point {
    std::array::from_fn(|i| a[i] - b[i])
}

fn dot(a: Point, b: Point) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: Point, b: Point) -> Point {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;
    use std::collections::HashMap;

    fn unit() -> Spacing {
        Spacing::new([1.0; 3]).unwrap()
    }

    #[test]
    fn one_voxel_is_an_octahedron() {
        let one = Array3::from_elem((1, 1, 1), true);
        let s = surface(one.view(), unit());
        assert!((s.volume_mm3 - 1.0 / 6.0).abs() < 1e-12); // (sqrt 2 / 3) a^3 with a = sqrt(1/2)
        assert!((s.area_mm2 - 3f64.sqrt()).abs() < 1e-12); // 2 sqrt 3 a^2
    }

    #[test]
    fn spacing_stretches_volume() {
        let one = Array3::from_elem((1, 1, 1), true);
        let s = surface(one.view(), Spacing::new([2.0, 0.5, 3.0]).unwrap());
        assert!((s.volume_mm3 - 3.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn every_case_is_closed_against_its_neighbours() {
        // Random masks: every directed triangle edge is met by its reverse, so there is no hole.
        for seed in 0..20u64 {
            let mut edges: HashMap<([i64; 3], [i64; 3]), i64> = HashMap::new();
            let mut state = seed;
            let mut padded = Array3::from_elem((6, 6, 6), false);
            padded.slice_mut(ndarray::s![1..5, 1..5, 1..5]).mapv_inplace(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state >> 63 == 1
            });
            for z in 0..5 {
                for y in 0..5 {
                    for x in 0..5 {
                        let mut case = 0;
                        for (dz, dy, dx) in (0..8).map(|i| (i >> 2 & 1, i >> 1 & 1, i & 1)) {
                            if padded[[z + dz, y + dy, x + dx]] {
                                case |= 1 << (dx * 4 + dz * 2 + dy);
                            }
                        }
                        for t in triangles(case) {
                            let p = t.map(|p| {
                                [
                                    (2.0 * (p[0] + z as f64)) as i64,
                                    (2.0 * (p[1] + y as f64)) as i64,
                                    (2.0 * (p[2] + x as f64)) as i64,
                                ]
                            });
                            for i in 0..3 {
                                *edges.entry((p[i], p[(i + 1) % 3])).or_default() += 1;
                            }
                        }
                    }
                }
            }
            for ((a, b), n) in &edges {
                assert_eq!(edges.get(&(*b, *a)), Some(n));
            }
        }
    }

    fn ball(radius: f64) -> Array3<bool> {
        let n = 2 * radius.ceil() as usize + 3;
        let c = (n - 1) as f64 / 2.0;
        Array3::from_shape_fn((n, n, n), |(z, y, x)| {
            [z, y, x].iter().map(|i| (*i as f64 - c).powi(2)).sum::<f64>() <= radius * radius
        })
    }

    #[test]
    fn a_ball_is_nearly_a_sphere_and_a_rod_is_not() {
        let s = surface(ball(10.0).view(), unit());
        assert!((s.volume_mm3 / (4.0 / 3.0 * std::f64::consts::PI * 1000.0) - 1.0).abs() < 0.02);
        assert!(s.sphericity().unwrap() > 0.9);
        let rod = surface(Array3::from_elem((3, 3, 15), true).view(), unit());
        assert!(rod.sphericity().unwrap() < 0.75);
        assert_eq!(surface(Array3::from_elem((2, 2, 2), false).view(), unit()).sphericity(), None);
    }

    /// Numbers from PyRadiomics 3.0.1: see `tests/peers/imaging_surface.py`.
    #[verifies("FR-004")]
    #[test]
    fn shapes_equal_pyradiomics() {
        let check = |inside: &dyn Fn(f64, f64, f64) -> bool, volume: f64, area: f64, sphericity: f64, within: f64| {
            let mask = Array3::from_shape_fn((25, 25, 25), |(z, y, x)| {
                inside(z as f64 - 12.0, y as f64 - 12.0, x as f64 - 12.0)
            });
            let s = surface(mask.view(), Spacing::new([1.25, 0.7, 0.7]).unwrap());
            for (found, want) in [(s.volume_mm3, volume), (s.area_mm2, area), (s.sphericity().unwrap(), sphericity)] {
                assert!((found / want - 1.0).abs() < within, "{found} for {want}");
            }
        };
        let ball = |z: f64, y: f64, x: f64, r2: f64| z * z + y * y + x * x <= r2;
        check(&|z, y, x| ball(z, y, x, 100.0), 2540.54792, 1042.42041, 0.86375945, 1e-6);
        check(&|z, y, x| ball(z / 5.0, y / 8.0, x / 11.0, 1.0), 1094.84375, 585.21743, 0.87781225, 1e-6);
        let lobed = |z, y, x| ball(z, y, x - 4.0, 36.0) || ball(z, y - 5.0, x + 4.0, 20.0) || ball(z - 5.0, y, x, 9.0);
        // Its table decides faces with diagonal corners case by case, which leaves holes; ours the same way always.
        check(&lobed, 829.9375, 600.97082, 0.71065857, 0.01);
    }
}
