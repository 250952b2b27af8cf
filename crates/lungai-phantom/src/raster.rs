//! From shapes to voxels, one slice after the other: paint with exact-enough edges, blur in the plane, average along the
//! slice profile, add noise.
//!
//! Every value depends on its place alone, never on the slab or thread that computes it.

use crate::body::{BODY, Body, HORIZONTAL, LEFT, Node, OBLIQUE, RIGHT, SOFT, TEXTURE};
use crate::breath::Breath;
use crate::exposure::Exposure;
use crate::mimic::Ellipsoid;
use crate::nodule::{Nodule, Place};
use crate::scanner::{KernelShape, Scanner};
use crate::skeleton::{RIB_SQUASH, SHELL_MM, spine};
use crate::trees::{Tube, wall_mm};
use crate::vector::{add, dot, scale, sub};
use lungai_ct::{Geometry, Lung, NoduleKind};
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

/// HU and lung labels on an axial `geometry`.
pub fn render(body: &Body, scanner: &Scanner, geometry: &Geometry, seed: u64) -> (Array3<i16>, Array3<u8>) {
    let optics = Optics::new(scanner.kernel.shape(), scanner.slice_thickness_mm, geometry.spacing().zyx_mm(), None);
    let breath = Breath::new(scanner, &body.scene.chest, seed);
    let corner = scanner.geometry(&body.scene).origin().0;
    let exposure = Exposure::new(&body.beam, scanner, geometry, corner, seed);
    scan(body, &optics, &breath, geometry, |iz, clean, out| exposure.develop(iz, clean, out))
}

/// As [`render`], but before any blur, noise or shading: every voxel is the mean over itself.
pub fn paint(body: &Body, breath: &Breath, geometry: &Geometry) -> (Array3<f32>, Array3<u8>) {
    let spacing = geometry.spacing().zyx_mm();
    let optics = Optics::new(KernelShape::NONE, spacing[0], spacing, None);
    scan(body, &optics, breath, geometry, |_, clean, out: &mut [f32]| out.copy_from_slice(clean))
}

/// Paints and blurs slab after slab; `develop` turns slice number and HU into what is kept.
fn scan<T: Copy + Default + Send>(
    body: &Body,
    optics: &Optics,
    breath: &Breath,
    geometry: &Geometry,
    develop: impl Fn(usize, &[f32], &mut [T]) + Sync,
) -> (Array3<T>, Array3<u8>) {
    let [nz, ny, nx] = geometry.size();
    let [sz, sy, sx] = geometry.spacing().zyx_mm();
    let [x0, y0, z0] = geometry.origin().0;
    let mut kept = Array3::<T>::from_elem((nz, ny, nx), T::default());
    let mut labels = Array3::<u8>::zeros((nz, ny, nx));
    let margin = optics.margin();
    let grid = Grid {
        x0: x0 - margin as f64 * sx,
        y0: y0 - margin as f64 * sy,
        dx: sx,
        dy: sy,
        edge: (sx * sy * optics.step_mm).cbrt(),
        dz: optics.step_mm,
        nx: nx + 2 * margin,
        ny: ny + 2 * margin,
    };
    let area = ny * nx;
    let slabs = kept.as_slice_mut().expect("fresh array").par_chunks_mut(SLAB * area);
    let label_slabs = labels.as_slice_mut().expect("fresh array").par_chunks_mut(SLAB * area);
    slabs.zip(label_slabs).enumerate().for_each(|(slab, (kept, labels))| {
        let first = slab * SLAB;
        let count = kept.len() / area;
        let mut sums = vec![0.0f32; kept.len()];
        let mut canvas = Canvas::new(&grid);
        for sub_slice in optics.sub_slices(first, first + count) {
            let (heights, n_heights) = breath.heights(z0 + optics.height(sub_slice));
            for height in &heights[..n_heights] {
                canvas.paint(body, &grid, *height);
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
        let mut row = Vec::new();
        for iz in 0..count {
            develop(first + iz, &sums[iz * area..(iz + 1) * area], &mut kept[iz * area..(iz + 1) * area]);
            let z = breath.rest(z0 + (first + iz) as f64 * sz);
            let slice = &mut labels[iz * area..(iz + 1) * area];
            for (iy, line) in slice.chunks_mut(nx).enumerate() {
                body.field.row(y0 + iy as f64 * sy, z, &mut row);
                for (ix, label) in line.iter_mut().enumerate() {
                    let node = at_x(body, &row, (x0 + ix as f64 * sx) as f32);
                    *label = if node[RIGHT] > 0.0 {
                        Lung::Right as u8
                    } else if node[LEFT] > 0.0 {
                        Lung::Left as u8
                    } else {
                        0
                    };
                }
            }
            let own = Grid { x0, y0, nx, ny, ..grid };
            for tube in body.trees.airways.iter().filter(|tube| tube.generation <= 1) {
                let wall = wall_mm(tube.radius[0]);
                own.tube(tube, z, wall, 1.0, |i, distance, _| {
                    if distance < 0.0 {
                        slice[i] = 0;
                    }
                });
            }
        }
    });
    (kept, labels)
}

/// `1`, `2`, ... where a nodule of the scene holds the voxel's centre and the lung does, too.
pub fn nodule_labels(body: &Body, geometry: &Geometry) -> Array3<u8> {
    let [nz, ny, nx] = geometry.size();
    let [sz, sy, sx] = geometry.spacing().zyx_mm();
    let [x0, y0, z0] = geometry.origin().0;
    let edge = (sx * sy * sz).cbrt();
    let grid = Grid { x0, y0, dx: sx, dy: sy, dz: sz, edge, nx, ny };
    let mut labels = Array3::<u8>::zeros((nz, ny, nx));
    let slices = labels.as_slice_mut().expect("fresh array").par_chunks_mut(ny * nx);
    slices.enumerate().for_each(|(iz, slice)| {
        let z = z0 + iz as f64 * sz;
        let mut row = Vec::new();
        for (number, nodule) in body.scene.nodules.iter().enumerate() {
            let [x_range, y_range] = match grid.span(nodule.seed_point, nodule.radius_bounds()[1], z) {
                Some(ranges) => ranges,
                None => continue,
            };
            for iy in y_range {
                let y = y0 + iy as f64 * sy;
                body.field.row(y, z, &mut row);
                for ix in x_range.clone() {
                    let x = x0 + ix as f64 * sx;
                    let node = at_x(body, &row, x as f32);
                    if node[RIGHT].max(node[LEFT]) > 0.0 && nodule.holds([x, y, z]) {
                        slice[iy * nx + ix] = (number + 1).min(255) as u8;
                    }
                }
            }
        }
    });
    labels
}

/// Interpolates a row of nodes.
fn at_x(body: &Body, row: &[Node], x: f32) -> Node {
    let [origin, step] = body.field.row_grid();
    let t = ((x - origin) / step).clamp(0.0, row.len() as f32 - 1.001);
    let i = t as usize;
    let f = t - i as f32;
    let (a, b) = (&row[i], &row[i + 1]);
    std::array::from_fn(|c| a[c] + f * (b[c] - a[c]))
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

/// The pixels of a painted slice.
#[derive(Clone, Copy)]
struct Grid {
    x0: f64,
    y0: f64,
    dx: f64,
    dy: f64,
    dz: f64,
    /// Width over which an edge goes from 0 to 1: the side of a cube of a voxel's volume.
    edge: f64,
    nx: usize,
    ny: usize,
}

type Ranges = [std::ops::Range<usize>; 2];

impl Grid {
    /// Columns and rows within `reach` of a point, `None` where the slice does not meet it.
    fn span(&self, centre: [f64; 3], reach: f64, z: f64) -> Option<Ranges> {
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
        Some([clip(x, self.x0, self.dx, self.nx)?, clip(y, self.y0, self.dy, self.ny)?])
    }

    /// Calls `visit(pixel, distance, radius)` for the pixels near a tube whose radius is enlarged by `extra`; the distance
    /// is that to its surface, negative inside. Its cross-section is round after z is multiplied with `squash`.
    fn tube(&self, tube: &Tube, z: f64, extra: f64, squash: f64, mut visit: impl FnMut(usize, f32, f32)) {
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
            let py = (self.y0 + iy as f64 * self.dy - tube.a[1]) as f32;
            for ix in xs.clone() {
                let px = (self.x0 + ix as f64 * self.dx - tube.a[0]) as f32;
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
        }
    }

    fn paint(&mut self, body: &Body, grid: &Grid, z: f64) {
        self.base(body, grid, z);
        for nodule in &body.scene.nodules {
            if matches!(nodule.traits.kind, NoduleKind::PartSolid | NoduleKind::GroundGlass) {
                self.ground_glass(body, grid, z, nodule);
            }
        }
        self.trees(body, grid, z);
        self.skeleton(body, grid, z);
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

    /// Air, torso, lungs, fissures, table.
    fn base(&mut self, body: &Body, grid: &Grid, z: f64) {
        let chest = &body.scene.chest;
        let edge = grid.edge as f32;
        let sheet = 1.0 / edge.max(1.0);
        let (gravity, texture) = (chest.gravity_hu_per_mm as f32, chest.texture_hu as f32);
        let fissure = chest.fissure_hu as f32 * sheet.min(1.0);
        let parenchyma = chest.parenchyma_hu as f32;
        for iy in 0..grid.ny {
            let y = grid.y0 + iy as f64 * grid.dy;
            body.field.row(y, z, &mut self.row);
            let at_height = parenchyma + gravity * y as f32;
            for ix in 0..grid.nx {
                let x = grid.x0 + ix as f64 * grid.dx;
                let node = at_x(body, &self.row, x as f32);
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
                    let gap = node[OBLIQUE].abs().min(node[HORIZONTAL].abs());
                    let line = (1.0 - gap * sheet).max(0.0);
                    let air = at_height + texture * node[TEXTURE] + fissure * line;
                    value += share * (air - soft);
                }
                self.hu[i] = AIR + inside * (value - AIR);
            }
        }
    }

    fn trees(&mut self, body: &Body, grid: &Grid, z: f64) {
        let edge = grid.edge as f32;
        self.wall.fill(0.0);
        self.vessel.fill(0.0);
        self.lumen.fill(0.0);
        for tube in &body.trees.airways {
            let wall = wall_mm(tube.radius[0]);
            grid.tube(tube, z, wall, 1.0, |i, distance, radius| {
                self.wall[i] = self.wall[i].max(cover(distance, radius, edge));
            });
            grid.tube(tube, z, 0.0, 1.0, |i, distance, radius| {
                self.lumen[i] = self.lumen[i].max(cover(distance, radius, edge));
            });
        }
        for tube in &body.trees.vessels {
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

    fn skeleton(&mut self, body: &Body, grid: &Grid, z: f64) {
        let chest = &body.scene.chest;
        let edge = grid.edge;
        let [x, y] = [[-36.0, 36.0].map(|v| v * chest.scale[0]), [44.0, 134.0].map(|v| v * chest.scale[1])];
        if let Some([xs, ys]) = grid.ranges(x, y) {
            for iy in ys {
                for ix in xs.clone() {
                    let p = [grid.x0 + ix as f64 * grid.dx, grid.y0 + iy as f64 * grid.dy, z];
                    if let Some((target, share)) = spine(chest, p, edge) {
                        over(&mut self.hu[iy * grid.nx + ix], target as f32, share as f32);
                    }
                }
            }
        }
        for part in &body.bones {
            grid.tube(&part.tube, z, 0.0, RIB_SQUASH, |i, distance, radius| {
                over(&mut self.hu[i], part.shell_hu as f32, cover(distance, radius, edge as f32));
            });
        }
        for part in &body.bones {
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
                let p = [grid.x0 + ix as f64 * grid.dx, grid.y0 + iy as f64 * grid.dy, z];
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
                let p = [self.x0 + ix as f64 * self.dx, self.y0 + iy as f64 * self.dy, z];
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

/// Share of a voxel that a tube covers: `distance` to its surface (negative inside), linear over the `edge`, and less
/// where the whole tube is thinner than the voxel.
fn cover(distance: f32, radius: f32, edge: f32) -> f32 {
    (0.5 - distance / edge).clamp(0.0, 1.0) * (1.5 * radius / edge).min(1.0)
}

fn over(hu: &mut f32, target: f32, share: f32) {
    *hu += share * (target - *hu);
}
