//! The voxels that a slice consists of, and which of them a shape meets.

use crate::body::Body;
use crate::disease::Hole;
use crate::nodule::Nodule;
use crate::skeleton::{BonePart, RIB_SQUASH};
use crate::trees::Tube;
use crate::vector::{V3, add, scale, sub};
use lungai_ct::Geometry;

/// Pixels and slices. Places are counted from a corner in whole steps, so that a window computes the very coordinates that
/// the whole does.
#[derive(Clone, Copy)]
pub struct Grid {
    /// Place of the voxel 0, 0, 0 of the lattice, `[x, y, z]` in mm.
    corner: V3,
    /// Steps from there to this grid's first voxel.
    first: [i64; 3],
    pub dx: f64,
    pub dy: f64,
    /// Between slices.
    sz: f64,
    /// Height of a voxel when it is painted.
    pub dz: f64,
    /// Width over which an edge goes from 0 to 1: the side of a cube of a voxel's volume.
    pub edge: f64,
    pub nx: usize,
    pub ny: usize,
}

impl Grid {
    /// The grid of an axial geometry, counted from the corner of another where it lies on its lattice.
    pub fn of(geometry: &Geometry, lattice: Option<&Geometry>) -> Self {
        let [_, ny, nx] = geometry.size();
        let [sz, sy, sx] = geometry.spacing().zyx_mm();
        let origin = geometry.origin().0;
        let steps = [sx, sy, sz];
        let mut grid =
            Self { corner: origin, first: [0; 3], dx: sx, dy: sy, sz, dz: sz, edge: (sx * sy * sz).cbrt(), nx, ny };
        if let Some(lattice) = lattice.filter(|lattice| lattice.spacing() == geometry.spacing()) {
            let corner = lattice.origin().0;
            let first: V3 = std::array::from_fn(|i| (origin[i] - corner[i]) / steps[i]);
            if first.iter().all(|v| (v - v.round()).abs() < 1e-6) {
                grid.corner = corner;
                grid.first = first.map(|v| v.round() as i64);
            }
        }
        grid
    }

    /// With a margin in the plane, and painted in slices of this height.
    pub fn painted(&self, margin: usize, dz: f64) -> Self {
        let [x, y, z] = self.first;
        Self {
            first: [x - margin as i64, y - margin as i64, z],
            dz,
            edge: (self.dx * self.dy * dz).cbrt(),
            nx: self.nx + 2 * margin,
            ny: self.ny + 2 * margin,
            ..*self
        }
    }

    pub fn x(&self, ix: usize) -> f64 {
        self.corner[0] + (self.first[0] + ix as i64) as f64 * self.dx
    }

    pub fn y(&self, iy: usize) -> f64 {
        self.corner[1] + (self.first[1] + iy as i64) as f64 * self.dy
    }

    pub fn z(&self, iz: i64) -> f64 {
        self.z_at(iz as f64)
    }

    /// Height of a part of a slice.
    pub fn z_at(&self, iz: f64) -> f64 {
        self.corner[2] + (self.first[2] as f64 + iz) * self.sz
    }
}

/// The shapes that some slices can meet: most of a chest's are elsewhere.
pub struct Slab<'a> {
    pub airways: Vec<&'a Tube>,
    pub arteries: Vec<&'a Tube>,
    pub veins: Vec<&'a Tube>,
    pub bones: Vec<&'a BonePart>,
    pub holes: Vec<&'a Hole>,
}

impl<'a> Slab<'a> {
    /// - `heights`: of the lowest and the highest slice
    pub fn of(body: &'a Body, grid: &Grid, [low, high]: [f64; 2]) -> Self {
        // Half a voxel's diagonal beyond the shape, at most.
        let reach = grid.dx + grid.dy + grid.dz + 4.0;
        let (last_x, last_y) = (grid.nx.saturating_sub(1), grid.ny.saturating_sub(1));
        let limits = [[grid.x(0), grid.x(last_x)], [grid.y(0), grid.y(last_y)], [low.min(high), high.max(low)]];
        let meets = move |a: V3, b: V3, radius: f64| {
            (0..3).all(|i| {
                a[i].min(b[i]) - radius - reach < limits[i][1] && a[i].max(b[i]) + radius + reach > limits[i][0]
            })
        };
        let tubes =
            |tubes: &'a [Tube]| tubes.iter().filter(|t| meets(t.a, t.b, t.radius[0].max(t.radius[1]))).collect();
        // A rib is higher than its radius.
        let bone = |part: &&BonePart| meets(part.tube.a, part.tube.b, part.tube.radius[0] / RIB_SQUASH);
        Self {
            airways: tubes(&body.trees.airways),
            arteries: tubes(&body.trees.arteries),
            veins: tubes(&body.trees.veins),
            bones: body.bones.iter().filter(bone).collect(),
            holes: body.holes.iter().filter(|hole| meets(hole.centre, hole.centre, hole.reach_mm())).collect(),
        }
    }
}

fn clip([from, to]: [f64; 2], origin: f64, step: f64, n: usize) -> Option<std::ops::Range<usize>> {
    let from = ((from - origin) / step).ceil().max(0.0);
    let to = ((to - origin) / step).floor().min(n as f64 - 1.0);
    (from <= to).then(|| from as usize..to as usize + 1)
}

pub type Ranges = [std::ops::Range<usize>; 2];

impl Grid {
    /// Columns and rows within `reach` of a point, `None` where the slice does not meet it.
    pub fn span(&self, centre: [f64; 3], reach: f64, z: f64) -> Option<Ranges> {
        if (z - centre[2]).abs() > reach {
            return None;
        }
        self.ranges([centre[0] - reach, centre[0] + reach], [centre[1] - reach, centre[1] + reach])
    }

    pub fn ranges(&self, x: [f64; 2], y: [f64; 2]) -> Option<Ranges> {
        Some([self.columns(x)?, clip(y, self.y(0), self.dy, self.ny)?])
    }

    pub fn columns(&self, x: [f64; 2]) -> Option<std::ops::Range<usize>> {
        clip(x, self.x(0), self.dx, self.nx)
    }

    /// Calls `visit(pixel, distance, radius)` for the pixels near a tube whose radius is enlarged by `extra`; the distance
    /// is that to its surface, negative inside. Its cross-section is round after z is multiplied with `squash`.
    pub fn tube(&self, tube: &Tube, z: f64, extra: f64, squash: f64, mut visit: impl FnMut(usize, f32, f32)) {
        let reach = tube.radius[0].max(tube.radius[1]) + extra + self.edge;
        let (az, bz, z) = (tube.a[2] * squash, tube.b[2] * squash, z * squash);
        if z < az.min(bz) - reach || z > az.max(bz) + reach {
            return;
        }
        // The part of the axis that is near enough in z.
        let (mut t0, mut t1) = (0.0f64, 1.0f64);
        let rise = bz - az;
        if rise.abs() > 1e-6 {
            let (u, v) = ((z - reach - az) / rise, (z + reach - az) / rise);
            t0 = u.min(v).max(0.0);
            t1 = u.max(v).min(1.0);
        }
        let on = |axis: usize, t: f64| tube.a[axis] + t * (tube.b[axis] - tube.a[axis]);
        let range = |axis: usize| {
            let (u, v) = (on(axis, t0), on(axis, t1));
            [u.min(v) - reach, u.max(v) + reach]
        };
        let Some([xs, ys]) = self.ranges(range(0), range(1)) else { return };
        let d = [tube.b[0] - tube.a[0], tube.b[1] - tube.a[1], rise].map(|v| v as f32);
        let inverse = 1.0 / (d[0] * d[0] + d[1] * d[1] + d[2] * d[2]).max(1e-9);
        let pz = (z - az) as f32;
        let (r0, r1) = ((tube.radius[0] + extra) as f32, (tube.radius[1] + extra) as f32);
        let reach2 = (reach * reach) as f32;
        for iy in ys {
            let py = (self.y(iy) - tube.a[1]) as f32;
            for ix in xs.clone() {
                let px = (self.x(ix) - tube.a[0]) as f32;
                let t = ((px * d[0] + py * d[1] + pz * d[2]) * inverse).clamp(0.0, 1.0);
                let (ex, ey, ez) = (px - t * d[0], py - t * d[1], pz - t * d[2]);
                let square = ex * ex + ey * ey + ez * ez;
                if square < reach2 {
                    let radius = r0 + t * (r1 - r0);
                    visit(iy * self.nx + ix, square.sqrt() - radius, radius);
                }
            }
        }
    }
}

impl Grid {
    /// Calls `visit(pixel, share in the nodule, share in its core)`, by sampling each voxel that the surface may cut.
    pub fn shares(&self, z: f64, nodule: &Nodule, mut visit: impl FnMut(usize, f32, f32)) {
        let [low, high] = nodule.radius_bounds();
        let half_diagonal = 0.5 * (self.dx * self.dx + self.dy * self.dy + self.dz * self.dz).sqrt();
        let Some([xs, ys]) = self.span(nodule.seed_point, high + half_diagonal, z) else { return };
        let core = nodule
            .core
            .as_ref()
            .map(|core| (add(nodule.seed_point, scale(core.offset, nodule.radius_mm)), core.radius * nodule.radius_mm));
        let n = if self.dx.max(self.dz) > 0.9 { 4 } else { 3 };
        let offset = |k: usize, step: f64| ((k as f64 + 0.5) / n as f64 - 0.5) * step;
        for iy in ys {
            for ix in xs.clone() {
                let p = [self.x(ix), self.y(iy), z];
                let r = crate::vector::distance(p, nodule.seed_point);
                if r > high + half_diagonal {
                    continue;
                }
                let to_core = core.map(|(centre, radius)| radius - crate::vector::distance(p, centre));
                let core_whole = to_core.map(|d| if d.abs() > half_diagonal { (d > 0.0) as u8 as f32 } else { -1.0 });
                if r < low - half_diagonal && core_whole != Some(-1.0) {
                    visit(iy * self.nx + ix, 1.0, core_whole.unwrap_or(0.0));
                    continue;
                }
                // Where the surface is farther than it could come within the voxel, all samples agree.
                if r > 2.0 * half_diagonal {
                    let u = scale(sub(p, nodule.seed_point), 1.0 / r);
                    // The voxel is seen under asin(half_diagonal / r), which is less than 1.05 of its argument below 0.5.
                    let slack = half_diagonal + nodule.radius_change(u, 1.05 * half_diagonal / r);
                    let depth = nodule.radius_towards(u) - r;
                    if depth < -slack {
                        continue;
                    }
                    if depth > slack && core_whole != Some(-1.0) {
                        visit(iy * self.nx + ix, 1.0, core_whole.unwrap_or(0.0));
                        continue;
                    }
                }
                let (mut whole, mut inner) = (0, 0);
                for k in 0..n * n * n {
                    let q = [
                        p[0] + offset(k % n, self.dx),
                        p[1] + offset(k / n % n, self.dy),
                        p[2] + offset(k / n / n, self.dz),
                    ];
                    if nodule.holds(q) {
                        whole += 1;
                        if let Some((centre, radius)) = core {
                            inner += (crate::vector::distance(q, centre) < radius) as usize;
                        }
                    }
                }
                if whole > 0 {
                    let share = 1.0 / (n * n * n) as f32;
                    visit(iy * self.nx + ix, whole as f32 * share, inner as f32 * share);
                }
            }
        }
    }
}
