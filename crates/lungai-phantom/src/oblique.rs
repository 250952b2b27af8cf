//! Grids that are not axial: what the phantom looks like in a fine axial grid is sampled along the slanted one, then
//! blurred in its plane and averaged along its normal.

use crate::body::Body;
use crate::breath::Breath;
use crate::exposure::Exposure;
use crate::labels::{self, Maps, Masks};
use crate::raster::{self, Optics};
use crate::scanner::Scanner;
use lungai_ct::{Geometry, Spacing, VoxelIndex, VoxelPoint, WorldPoint};
use ndarray::{Array3, Axis};
use rayon::prelude::*;

/// Height in mm of the slices that share a fine axial block: enough that what two blocks paint twice is little, and that a
/// block fits in some hundred megabytes.
const SLAB_MM: f64 = 40.0;

/// As [`raster::render`], on any grid of square pixels.
pub fn render(body: &Body, scanner: &Scanner, geometry: &Geometry, seed: u64) -> Array3<i16> {
    let [nz, ny, nx] = geometry.size();
    let shape = scanner.kernel.shape();
    let pixel = geometry.spacing().zyx_mm()[2];
    // Box and linear interpolation of the fine grid blur by step^2 / 4 along each axis, which must leave something to the
    // kernel (or to the pixel, where that is wider) and to the slice profile.
    let spread = (shape.fwhm_mm / 2.355).max(pixel / 12f64.sqrt());
    let within = (0.75 * pixel).min(1.9 * spread).clamp(0.3, 2.0);
    let across = (scanner.slice_thickness_mm / 1.8).clamp(0.3, 2.0);
    let step = if nearly_axial(geometry) { [across, within, within] } else { [within.min(across); 3] };
    let painted = Some(0.25 * step[1] * step[1]);
    let optics = Optics::new(shape, scanner.slice_thickness_mm, geometry.spacing().zyx_mm(), painted);
    let breath = Breath::new(scanner, &body.scene.chest, seed);
    let exposure = Exposure::new(&body.beam, scanner, geometry, [0.0; 3], seed);
    let margin = optics.margin();
    let [rows, columns] = [ny + 2 * margin, nx + 2 * margin];
    let mut hu = Array3::<i16>::zeros((nz, ny, nx));
    let [sz, ..] = geometry.spacing().zyx_mm();
    let mut first = 0;
    while first < nz {
        let count = slab(geometry).min(nz - first);
        let painted: Vec<isize> = optics.sub_slices(first, first + count).collect();
        let place = |sub_slice: isize, iy: usize, ix: usize| {
            let at = [optics.height(sub_slice) / sz, iy as f64 - margin as f64, ix as f64 - margin as f64];
            geometry.to_world(VoxelPoint(at)).0
        };
        let (low, high) = (painted[0], painted[painted.len() - 1]);
        let ends = [low, high].into_iter().flat_map(|s| {
            [(0, 0), (0, columns - 1), (rows - 1, 0), (rows - 1, columns - 1)].map(|(iy, ix)| place(s, iy, ix))
        });
        let fine = block(ends, step);
        let block_hu = raster::paint(body, &breath, &fine);
        let slices: Vec<Vec<f32>> = painted
            .par_iter()
            .map(|sub_slice| {
                let mut image = Vec::with_capacity(rows * columns);
                for iy in 0..rows {
                    image.extend((0..columns).map(|ix| linear(&block_hu, &fine, place(*sub_slice, iy, ix))));
                }
                let mut scratch = vec![0.0; image.len()];
                optics.blur(&mut image, &mut scratch, columns);
                image
            })
            .collect();
        let span = first..first + count;
        let mut out = hu.slice_mut(ndarray::s![span, .., ..]);
        let out = out.axis_iter_mut(Axis(0)).into_par_iter();
        out.enumerate().for_each(|(iz, mut out)| {
            let mut clean = vec![0.0f32; ny * nx];
            for (sub_slice, image) in painted.iter().zip(&slices) {
                let weight = optics.weight(first + iz, *sub_slice);
                if weight > 0.0 {
                    for (iy, to) in clean.chunks_mut(nx).enumerate() {
                        let from = &image[(iy + margin) * columns + margin..][..nx];
                        to.iter_mut().zip(from).for_each(|(to, from)| *to += weight * from);
                    }
                }
            }
            exposure.develop(first + iz, &clean, out.as_slice_mut().expect("a whole slice"));
        });
        first += count;
    }
    hu
}

/// As [`labels::maps`]: each label is that of the nearest point of a fine axial grid.
pub fn maps(body: &Body, breath: &Breath, geometry: &Geometry, masks: Masks) -> Maps {
    let [nz, ny, nx] = geometry.size();
    let finest = geometry.spacing().zyx_mm().into_iter().fold(f64::MAX, f64::min);
    let step = (0.5 * finest).clamp(0.3, 1.5);
    let step = [step; 3];
    let mut all = Maps::blank(geometry.size(), masks);
    let mut first = 0;
    while first < nz {
        let count = slab(geometry).min(nz - first);
        let place = |iz: usize, iy: usize, ix: usize| geometry.centre_of(VoxelIndex([iz, iy, ix]));
        let ends = [first, first + count - 1]
            .into_iter()
            .flat_map(|iz| [(0, 0), (0, nx - 1), (ny - 1, 0), (ny - 1, nx - 1)].map(|(iy, ix)| place(iz, iy, ix).0));
        let fine = block(ends, step);
        let near = labels::maps(body, breath, &fine, masks);
        for (to, from) in all.each_mut().zip(near.each()) {
            let mut to = to.slice_mut(ndarray::s![first..first + count, .., ..]);
            to.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(iz, mut slice)| {
                for ((iy, ix), label) in slice.indexed_iter_mut() {
                    *label = fine.voxel_at(place(first + iz, iy, ix)).map_or(0, |at| from[at.0]);
                }
            });
        }
        first += count;
    }
    all
}

/// Slices of a slab.
fn slab(geometry: &Geometry) -> usize {
    (SLAB_MM / geometry.spacing().zyx_mm()[0]).ceil() as usize
}

/// Turned by so little (below 15 degrees) that steps along its axes are steps along the patient's.
fn nearly_axial(geometry: &Geometry) -> bool {
    geometry.direction().iter().enumerate().all(|(axis, direction)| direction[axis].abs() > 0.966)
}

/// Axial grid of steps `[z, y, x]` round some points, on a lattice fixed to the patient, so that a window sees what the whole sees.
fn block(points: impl Iterator<Item = [f64; 3]>, step: [f64; 3]) -> Geometry {
    let along: [f64; 3] = std::array::from_fn(|axis| step[2 - axis]);
    let (mut low, mut high) = ([f64::MAX; 3], [f64::MIN; 3]);
    for p in points {
        for axis in 0..3 {
            low[axis] = low[axis].min(p[axis]);
            high[axis] = high[axis].max(p[axis]);
        }
    }
    let first: [f64; 3] = std::array::from_fn(|axis| (low[axis] / along[axis]).floor() - 1.0);
    let size = std::array::from_fn(|i| {
        let axis = 2 - i;
        ((high[axis] / along[axis]).ceil() - first[axis]) as usize + 2
    });
    let spacing = Spacing::new(step).expect("positive");
    let origin = WorldPoint(std::array::from_fn(|axis| first[axis] * along[axis]));
    Geometry::new(size, spacing, origin, Geometry::AXIAL).expect("a box")
}

/// Trilinear; the grid holds `p`.
fn linear(image: &Array3<f32>, grid: &Geometry, p: [f64; 3]) -> f32 {
    let VoxelPoint(at) = grid.to_voxel(WorldPoint(p));
    let base = at.map(|v| v.floor());
    let share: [f32; 3] = std::array::from_fn(|i| (at[i] - base[i]) as f32);
    let [z, y, x] = base.map(|v| v as usize);
    let along_x = |z: usize, y: usize| {
        let (a, b) = (image[[z, y, x]], image[[z, y, x + 1]]);
        a + share[2] * (b - a)
    };
    let along_y = |z: usize| {
        let (a, b) = (along_x(z, y), along_x(z, y + 1));
        a + share[1] * (b - a)
    };
    let (a, b) = (along_y(z), along_y(z + 1));
    a + share[0] * (b - a)
}
