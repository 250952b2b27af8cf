//! From shapes to voxels, one slice after the other: paint with exact-enough edges, blur in the plane, average along the
//! slice profile, add noise.
//!
//! Every value depends on its place alone, never on the slab or thread that computes it.

use crate::body::Body;
use crate::breath::Breath;
use crate::disease::{HOLE_HU, Hole};
use crate::exposure::Exposure;
use crate::field::{BODY, FIBROSIS, Field, HORIZONTAL, LEFT, Node, OBLIQUE, RIGHT, SOFT, TEXTURE};
use crate::mimic::Ellipsoid;
use crate::nodule::{Nodule, Place};
use crate::scanner::{KernelShape, Scanner};
use crate::skeleton::{BonePart, RIB_SQUASH, SHELL_MM, spine};
use crate::texture::{CELL_MM, GRAIN, SEPTA, TileRow};
use crate::trees::{Tube, wall_mm};
use crate::vector::{V3, add, dot, scale, sub};
use lungai_ct::{Geometry, NoduleKind};
use ndarray::Array3;
use rayon::prelude::*;

/// Slices per unit of parallel work.
const SLAB: usize = 12;
/// Slices are painted at most this far apart and then averaged.
const LARGEST_STEP_MM: f64 = 1.3;
const AIR: f32 = -1000.0;
/// Blood and soft tissue without contrast agent.
const BLOOD: f32 = 42.0;
const WALL: f32 = 20.0;
const LUMEN: f32 = -985.0;

/// HU on an axial `geometry`, and the smooth shapes that were sampled for it.
pub fn render(body: &Body, breath: &Breath, scanner: &Scanner, geometry: &Geometry, seed: u64) -> (Array3<i16>, Field) {
    let optics = Optics::new(scanner.kernel.shape(), scanner.slice_thickness_mm, geometry.spacing().zyx_mm(), None);
    let whole = scanner.geometry(&body.scene);
    let exposure = Exposure::new(&body.beam, scanner, geometry, whole.origin().0, seed);
    scan(body, &optics, breath, geometry, Some(&whole), |iz, clean, out| exposure.develop(iz, clean, out))
}

/// As [`render`], but before any blur, noise or shading: every voxel is the mean over itself.
pub fn paint(body: &Body, breath: &Breath, geometry: &Geometry) -> Array3<f32> {
    let spacing = geometry.spacing().zyx_mm();
    let optics = Optics::new(KernelShape::NONE, spacing[0], spacing, None);
    scan(body, &optics, breath, geometry, None, |_, clean, out: &mut [f32]| out.copy_from_slice(clean)).0
}

/// Paints and blurs slab after slab; `develop` turns slice number and HU into what is kept.
fn scan<T: Copy + Default + Send>(
    body: &Body,
    optics: &Optics,
    breath: &Breath,
    geometry: &Geometry,
    whole: Option<&Geometry>,
    develop: impl Fn(usize, &[f32], &mut [T]) + Sync,
) -> (Array3<T>, Field) {
    let [nz, ny, nx] = geometry.size();
    let sz = geometry.spacing().zyx_mm()[0];
    let mut kept = Array3::<T>::from_elem((nz, ny, nx), T::default());
    let margin = optics.margin();
    let own = Grid::of(geometry, whole);
    let grid = own.painted(margin, optics.step_mm);
    let height = |sub_slice: isize| own.z_at(optics.height(sub_slice) / sz);
    // What a span of painted slices can show of the resting patient.
    let reach = |painted: &std::ops::Range<isize>| {
        let breath = breath.reach_mm();
        [height(painted.start) - breath, height(painted.end - 1) + breath]
    };
    let [low, high] = reach(&optics.sub_slices(0, nz.max(1)));
    let field = body.field([grid.x(0), grid.y(0), low], [grid.x(grid.nx - 1), grid.y(grid.ny - 1), high]);
    let area = ny * nx;
    let slabs = kept.as_slice_mut().expect("fresh array").par_chunks_mut(SLAB * area);
    slabs.enumerate().for_each(|(slab, kept)| {
        let first = slab * SLAB;
        let count = kept.len() / area;
        let mut sums = vec![0.0f32; kept.len()];
        let mut canvas = Canvas::new(&grid);
        let painted = optics.sub_slices(first, first + count);
        let near = Slab::of(body, &grid, reach(&painted));
        for sub_slice in painted {
            let (heights, n_heights) = breath.heights(height(sub_slice));
            for height in &heights[..n_heights] {
                canvas.paint(body, &field, &near, &grid, *height);
                optics.blur(&mut canvas.hu, &mut canvas.scratch, canvas.columns);
                for iz in 0..count {
                    let weight = optics.weight(first + iz, sub_slice) / n_heights as f32;
                    if weight == 0.0 {
                        continue;
                    }
                    for iy in 0..ny {
                        let from = &canvas.hu[(iy + margin) * grid.nx + margin..][..nx];
                        let to = &mut sums[iz * area + iy * nx..][..nx];
                        for (to, from) in to.iter_mut().zip(from) {
                            *to += weight * from;
                        }
                    }
                }
            }
        }
        for iz in 0..count {
            develop(first + iz, &sums[iz * area..(iz + 1) * area], &mut kept[iz * area..(iz + 1) * area]);
        }
    });
    (kept, field)
}

/// Blur of kernel and slice profile on a given grid.
pub struct Optics {
    /// Painted slices per slice.
    per_slice: usize,
    step_mm: f64,
    narrow: Vec<f32>,
    /// For edge enhancement.
    wide: Option<(Vec<f32>, f32)>,
    /// Weights of painted slices round a slice's centre, from the lowest.
    profile: Vec<f32>,
}

impl Optics {
    /// - `painted`: variance in mm2 of the blur that painting did along each axis; `None` where it averaged over voxels
    pub fn new(shape: KernelShape, thickness_mm: f64, [sz, _, sx]: [f64; 3], painted: Option<f64>) -> Self {
        // Only the rest of the variance is blurred.
        let in_plane = painted.unwrap_or(sx * sx / 12.0);
        let sigma = |fwhm: f64| ((fwhm / 2.355).powi(2) - in_plane).max(0.0).sqrt() / sx;
        let wide = (shape.enhancement > 0.0).then(|| (gaussian(sigma(2.2 * shape.fwhm_mm)), shape.enhancement as f32));
        let largest = if painted.is_some() { 0.5 * LARGEST_STEP_MM } else { LARGEST_STEP_MM };
        let per_slice = (sz / largest).ceil().max(1.0) as usize;
        let step = sz / per_slice as f64;
        // How much of each painted slice lies within the slab; an even number of them has the slice's centre between two.
        let half = (0.5 * thickness_mm / step).max(0.5);
        let beyond = if per_slice % 2 == 1 { half - 0.5 } else { half };
        let count = 2 * (beyond - 1e-9).ceil().max(0.0) as usize + per_slice % 2;
        let centre = 0.5 * (count as f64 - 1.0);
        let weights: Vec<f64> = (0..count).map(|i| (half + 0.5 - (i as f64 - centre).abs()).clamp(0.0, 1.0)).collect();
        let sum: f64 = weights.iter().sum();
        let profile = weights.into_iter().map(|w| (w / sum) as f32).collect();
        Self { per_slice, step_mm: step, narrow: gaussian(sigma(shape.fwhm_mm)), wide, profile }
    }

    pub fn margin(&self) -> usize {
        self.wide.as_ref().map_or(0, |(taps, _)| taps.len() / 2).max(self.narrow.len() / 2)
    }

    /// Lowest painted slice that slice `iz` needs.
    fn lowest(&self, iz: usize) -> isize {
        // Twice the positions, so that halves are whole.
        let centre2 = 2 * (iz * self.per_slice) as isize + self.per_slice as isize - 1;
        (centre2 - (self.profile.len() as isize - 1)) / 2
    }

    pub fn sub_slices(&self, from: usize, to: usize) -> std::ops::Range<isize> {
        self.lowest(from)..self.lowest(to - 1) + self.profile.len() as isize
    }

    /// Height of a painted slice over the centre of slice 0 in mm.
    pub fn height(&self, sub_slice: isize) -> f64 {
        (sub_slice as f64 - 0.5 * (self.per_slice as f64 - 1.0)) * self.step_mm
    }

    pub fn weight(&self, iz: usize, sub_slice: isize) -> f32 {
        let i = sub_slice - self.lowest(iz);
        if i < 0 { 0.0 } else { self.profile.get(i as usize).copied().unwrap_or(0.0) }
    }

    pub fn blur(&self, image: &mut [f32], scratch: &mut [f32], columns: usize) {
        if let Some((taps, amount)) = &self.wide {
            let mut soft = image.to_vec();
            blur(&mut soft, scratch, columns, taps);
            blur(image, scratch, columns, &self.narrow);
            for (value, soft) in image.iter_mut().zip(&soft) {
                *value += amount * (*value - soft);
            }
        } else {
            blur(image, scratch, columns, &self.narrow);
        }
    }
}

/// Taps of a normalised Gaussian; `[1]` where it would be narrower than can be sampled.
pub fn gaussian(sigma: f64) -> Vec<f32> {
    if sigma < 0.15 {
        return vec![1.0];
    }
    let reach = (3.0 * sigma).ceil() as i32;
    let taps: Vec<f64> = (-reach..=reach).map(|i| (-0.5 * (i as f64 / sigma).powi(2)).exp()).collect();
    let sum: f64 = taps.iter().sum();
    taps.into_iter().map(|t| (t / sum) as f32).collect()
}

/// Convolves rows, then columns. Within half the taps of the border the values are not valid.
pub fn blur(image: &mut [f32], scratch: &mut [f32], columns: usize, taps: &[f32]) {
    if taps.len() == 1 {
        return;
    }
    let half = taps.len() / 2;
    let rows = image.len() / columns;
    if columns < taps.len() || rows < taps.len() {
        return;
    }
    for (line, out) in image.chunks(columns).zip(scratch.chunks_mut(columns)) {
        let inner = columns - 2 * half;
        out[..half].copy_from_slice(&line[..half]);
        out[columns - half..].copy_from_slice(&line[columns - half..]);
        let out = &mut out[half..half + inner];
        out.fill(0.0);
        for (i, tap) in taps.iter().enumerate() {
            for (out, value) in out.iter_mut().zip(&line[i..i + inner]) {
                *out += tap * value;
            }
        }
    }
    for row in half..rows - half {
        let out = &mut image[row * columns..][..columns];
        out.fill(0.0);
        for (i, tap) in taps.iter().enumerate() {
            for (out, value) in out.iter_mut().zip(&scratch[(row + i - half) * columns..][..columns]) {
                *out += tap * value;
            }
        }
    }
}

/// Pixels and slices. Places are counted from a corner in whole steps, so that a window computes the very coordinates that
/// the whole does.
#[derive(Clone, Copy)]
pub struct Grid {
    /// Place of the voxel 0, 0, 0 of the lattice, `[x, y, z]` in mm.
    corner: V3,
    /// Steps from there to this grid's first voxel.
    first: [i64; 3],
    dx: f64,
    dy: f64,
    /// Between slices.
    sz: f64,
    /// Height of a voxel when it is painted.
    dz: f64,
    /// Width over which an edge goes from 0 to 1: the side of a cube of a voxel's volume.
    edge: f64,
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
    fn painted(&self, margin: usize, dz: f64) -> Self {
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
    fn z_at(&self, iz: f64) -> f64 {
        self.corner[2] + (self.first[2] as f64 + iz) * self.sz
    }
}

/// The shapes that some slices can meet: most of a chest's are elsewhere.
pub struct Slab<'a> {
    pub airways: Vec<&'a Tube>,
    pub arteries: Vec<&'a Tube>,
    pub veins: Vec<&'a Tube>,
    bones: Vec<&'a BonePart>,
    holes: Vec<&'a Hole>,
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
            holes: body.holes.iter().filter(|hole| meets(hole.centre, hole.centre, hole.radius_mm)).collect(),
        }
    }
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

    fn ranges(&self, x: [f64; 2], y: [f64; 2]) -> Option<Ranges> {
        let clip = |[from, to]: [f64; 2], origin: f64, step: f64, n: usize| {
            let from = ((from - origin) / step).ceil().max(0.0);
            let to = ((to - origin) / step).floor().min(n as f64 - 1.0);
            (from <= to).then(|| from as usize..to as usize + 1)
        };
        Some([clip(x, self.x(0), self.dx, self.nx)?, clip(y, self.y(0), self.dy, self.ny)?])
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

/// A slice while it is painted.
struct Canvas {
    columns: usize,
    hu: Vec<f32>,
    /// Distance to the lung's border, positive inside.
    lung: Vec<f32>,
    wall: Vec<f32>,
    vessel: Vec<f32>,
    lumen: Vec<f32>,
    scratch: Vec<f32>,
    row: Vec<Node>,
    grain: TileRow,
    septa: TileRow,
}

impl Canvas {
    fn new(grid: &Grid) -> Self {
        let empty = vec![0.0; grid.nx * grid.ny];
        Self {
            columns: grid.nx,
            hu: empty.clone(),
            lung: empty.clone(),
            wall: empty.clone(),
            vessel: empty.clone(),
            lumen: empty.clone(),
            scratch: empty,
            row: Vec::new(),
            grain: TileRow::new(),
            septa: TileRow::new(),
        }
    }

    fn paint(&mut self, body: &Body, field: &Field, near: &Slab, grid: &Grid, z: f64) {
        self.base(body, field, grid, z);
        for hole in &near.holes {
            self.hole(grid, z, hole);
        }
        for nodule in &body.scene.nodules {
            if matches!(nodule.traits.kind, NoduleKind::PartSolid | NoduleKind::GroundGlass) {
                self.ground_glass(body, grid, z, nodule);
            }
        }
        self.trees(near, grid, z);
        self.skeleton(body, near, grid, z);
        for mimic in &body.scene.mimics {
            for ellipsoid in &mimic.ellipsoids {
                self.ellipsoid(grid, z, ellipsoid);
            }
            for strand in &mimic.strands {
                let radius = [strand.radius_mm; 2];
                let tube = Tube { a: strand.from, b: strand.to, radius, generation: 0 };
                let edge = grid.edge as f32;
                grid.tube(&tube, z, 0.0, 1.0, |i, distance, radius| {
                    over(&mut self.hu[i], BLOOD, cover(distance, radius, edge));
                });
            }
        }
        for nodule in &body.scene.nodules {
            if nodule.traits.kind != NoduleKind::GroundGlass {
                self.solid(grid, z, nodule);
            }
        }
    }

    /// Air, torso, lungs, fissures, fibrosis, table.
    fn base(&mut self, body: &Body, field: &Field, grid: &Grid, z: f64) {
        let chest = &body.scene.chest;
        let edge = grid.edge as f32;
        let sheet = 1.0 / edge.max(1.0);
        let (gravity, texture) = (chest.gravity_hu_per_mm as f32, chest.texture_hu as f32);
        // What is finer than a voxel averages out.
        let fine = texture * (CELL_MM / edge).min(1.0);
        let fissure = chest.fissure_hu as f32 * sheet.min(1.0);
        let parenchyma = chest.parenchyma_hu as f32;
        let fibrotic = body.scene.disease.fibrosis > 0.0;
        let start = body.texture_start;
        self.grain.turn_to_plane(&GRAIN, z + start[2]);
        if fibrotic {
            self.septa.turn_to_plane(&SEPTA, z + start[2]);
        }
        for iy in 0..grid.ny {
            let y = grid.y(iy);
            field.row(y, z, &mut self.row);
            self.grain.turn_to_row(y + start[1]);
            if fibrotic {
                self.septa.turn_to_row(y + start[1]);
            }
            let at_height = parenchyma + gravity * y as f32;
            for ix in 0..grid.nx {
                let x = grid.x(ix);
                let node = field.at_x(&self.row, x);
                let i = iy * grid.nx + ix;
                let lung = node[RIGHT].max(node[LEFT]);
                self.lung[i] = lung;
                let inside = (0.5 + node[BODY] / edge).clamp(0.0, 1.0);
                if inside == 0.0 {
                    let table = if y > 0.0 { chest.table_hu(x, y) as f32 } else { 0.0 };
                    self.hu[i] = AIR + table;
                    continue;
                }
                let share = (0.5 + lung / edge).clamp(0.0, 1.0);
                // Skin: 1.5 mm of soft tissue.
                let skin = (1.5 - node[BODY]).clamp(0.0, 1.0);
                let mut soft = node[SOFT] + 5.0 * node[TEXTURE];
                soft += skin * (5.0 - soft);
                let mut value = soft;
                if share > 0.0 {
                    let across = (x + start[0]) as f32;
                    let mut air = at_height + texture * node[TEXTURE] + fine * self.grain.at(across);
                    air += fissure * fissure_share(&node, sheet);
                    if node[FIBROSIS] > 0.0 {
                        air += node[FIBROSIS] * (70.0 + 480.0 * self.septa.at(across));
                    }
                    value += share * (air - soft);
                }
                self.hu[i] = AIR + inside * (value - AIR);
            }
        }
    }

    /// A hole with a border as soft as a millimetre.
    fn hole(&mut self, grid: &Grid, z: f64, hole: &Hole) {
        let width = grid.edge.max(1.2);
        let Some([xs, ys]) = grid.span(hole.centre, hole.radius_mm + width, z) else { return };
        for iy in ys {
            for ix in xs.clone() {
                let i = iy * grid.nx + ix;
                let r = crate::vector::distance([grid.x(ix), grid.y(iy), z], hole.centre);
                let share = (0.5 + (hole.radius_mm - r) / width).clamp(0.0, 1.0) as f32;
                over(&mut self.hu[i], HOLE_HU, share * (self.lung[i] - 1.0).clamp(0.0, 1.0));
            }
        }
    }

    fn trees(&mut self, near: &Slab, grid: &Grid, z: f64) {
        let edge = grid.edge as f32;
        self.wall.fill(0.0);
        self.vessel.fill(0.0);
        self.lumen.fill(0.0);
        for tube in &near.airways {
            let wall = wall_mm(tube.radius[0]);
            grid.tube(tube, z, wall, 1.0, |i, distance, radius| {
                self.wall[i] = self.wall[i].max(cover(distance, radius, edge));
            });
            grid.tube(tube, z, 0.0, 1.0, |i, distance, radius| {
                self.lumen[i] = self.lumen[i].max(cover(distance, radius, edge));
            });
        }
        for tube in near.arteries.iter().chain(&near.veins) {
            grid.tube(tube, z, 0.0, 1.0, |i, distance, radius| {
                self.vessel[i] = self.vessel[i].max(cover(distance, radius, edge));
            });
        }
        for i in 0..self.hu.len() {
            let hu = &mut self.hu[i];
            over(hu, WALL, self.wall[i]);
            over(hu, BLOOD, self.vessel[i]);
            over(hu, LUMEN, self.lumen[i]);
        }
    }

    fn skeleton(&mut self, body: &Body, near: &Slab, grid: &Grid, z: f64) {
        let chest = &body.scene.chest;
        let edge = grid.edge;
        let [x, y] = [[-36.0, 36.0].map(|v| v * chest.scale[0]), [44.0, 134.0].map(|v| v * chest.scale[1])];
        if let Some([xs, ys]) = grid.ranges(x, y) {
            for iy in ys {
                for ix in xs.clone() {
                    let p = [grid.x(ix), grid.y(iy), z];
                    if let Some((target, share)) = spine(chest, p, edge) {
                        over(&mut self.hu[iy * grid.nx + ix], target as f32, share as f32);
                    }
                }
            }
        }
        for part in &near.bones {
            grid.tube(&part.tube, z, 0.0, RIB_SQUASH, |i, distance, radius| {
                over(&mut self.hu[i], part.shell_hu as f32, cover(distance, radius, edge as f32));
            });
        }
        for part in &near.bones {
            grid.tube(&part.tube, z, -SHELL_MM, RIB_SQUASH, |i, distance, radius| {
                over(&mut self.hu[i], part.core_hu as f32, cover(distance, radius, edge as f32));
            });
        }
    }

    fn ellipsoid(&mut self, grid: &Grid, z: f64, ellipsoid: &Ellipsoid) {
        let edge = grid.edge;
        let reach = ellipsoid.semi_mm.iter().copied().fold(0.0, f64::max) + edge;
        let Some([xs, ys]) = grid.span(ellipsoid.centre, reach, z) else { return };
        for iy in ys {
            for ix in xs.clone() {
                let p = [grid.x(ix), grid.y(iy), z];
                let d = sub(p, ellipsoid.centre);
                let own = ellipsoid.axes.map(|axis| dot(axis, d));
                let inside = crate::chest::ellipsoid_distance(own, ellipsoid.semi_mm);
                let thin = ellipsoid.semi_mm.iter().copied().fold(f64::MAX, f64::min);
                let share = cover(-inside as f32, thin as f32, edge as f32);
                over(&mut self.hu[iy * grid.nx + ix], ellipsoid.hu as f32, share);
            }
        }
    }

    /// Added before the vessels, so that they stay visible.
    fn ground_glass(&mut self, body: &Body, grid: &Grid, z: f64, nodule: &Nodule) {
        let denser = (nodule.hu - body.scene.chest.parenchyma_hu) as f32;
        let edge = grid.edge as f32;
        grid.shares(z, nodule, |i, whole, _| {
            let lung = (0.5 + self.lung[i] / edge).clamp(0.0, 1.0);
            self.hu[i] += whole * lung * denser;
        });
    }

    fn solid(&mut self, grid: &Grid, z: f64, nodule: &Nodule) {
        let part_solid = nodule.traits.kind == NoduleKind::PartSolid;
        let clipped = nodule.place == Place::Juxtapleural;
        grid.shares(z, nodule, |i, whole, core| {
            // Beyond the pleura only as deep as hides the seam.
            let within = if clipped { (self.lung[i] + 2.0).clamp(0.0, 1.0) } else { 1.0 };
            if !part_solid {
                over(&mut self.hu[i], nodule.hu as f32, whole * within);
            }
            if let Some(inner) = &nodule.core {
                over(&mut self.hu[i], inner.hu as f32, core * within);
            }
        });
    }
}

impl Grid {
    /// Calls `visit(pixel, share in the nodule, share in its core)`, by sampling each voxel that the surface may cut.
    fn shares(&self, z: f64, nodule: &Nodule, mut visit: impl FnMut(usize, f32, f32)) {
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

/// How much of a fissure's line lies here: thin, faded where it is incomplete.
fn fissure_share(node: &Node, sheet: f32) -> f32 {
    let oblique = node[OBLIQUE].abs();
    // The horizontal fissure ends at the oblique one and belongs to the right lung.
    let horizontal = node[RIGHT] > 0.0 && node[OBLIQUE] > 0.0;
    let gap = if horizontal { oblique.min(node[HORIZONTAL].abs()) } else { oblique };
    (1.0 - gap * sheet).max(0.0) * (0.9 + 0.45 * node[TEXTURE]).clamp(0.0, 1.3)
}

/// Share of a voxel that a tube covers: `distance` to its surface (negative inside), linear over the `edge`, and less
/// where the whole tube is thinner than the voxel.
fn cover(distance: f32, radius: f32, edge: f32) -> f32 {
    (0.5 - distance / edge).clamp(0.0, 1.0) * (1.5 * radius / edge).min(1.0)
}

fn over(hu: &mut f32, target: f32, share: f32) {
    *hu += share * (target - *hu);
}
