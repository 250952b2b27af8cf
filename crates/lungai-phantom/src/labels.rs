//! Truth on a grid: what holds a voxel's centre, from the shapes alone.

use crate::body::Body;
use crate::field::{Field, HORIZONTAL, LEFT, Node, OBLIQUE, RIGHT};
use crate::raster::{Grid, Slab};
use crate::trees::wall_mm;
use lungai_ct::{Lobe, Lung};
use ndarray::Array3;
use rayon::prelude::*;

/// Labels of an airway mask; 0 is background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Airway {
    /// The air inside.
    Lumen = 1,
    /// The wall round it.
    Wall = 2,
}

/// Labels of a vessel mask; 0 is background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Vessel {
    /// Pulmonary arteries.
    Artery = 1,
    /// Pulmonary veins.
    Vein = 2,
}

/// Maps that are not always wanted: each costs a byte per voxel and a little time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Masks {
    /// The five lobes.
    pub lobes: bool,
    /// Lumen and walls of all airways.
    pub airways: bool,
    /// Arteries and veins.
    pub vessels: bool,
    /// The nodules.
    pub nodules: bool,
}

impl Masks {
    /// The lungs only, which are always there.
    pub const NONE: Self = Self { lobes: false, airways: false, vessels: false, nodules: false };
    /// All of them.
    pub const ALL: Self = Self { lobes: true, airways: true, vessels: true, nodules: true };
}

/// The slices of a fresh map, each made by `paint(z, slice, shapes near it)`.
fn map(body: &Body, grid: &Grid, slices: usize, paint: impl Fn(f64, &mut [u8], &Slab) + Sync) -> Array3<u8> {
    const TOGETHER: usize = 16;
    let mut labels = Array3::<u8>::zeros((slices, grid.ny, grid.nx));
    let area = grid.nx * grid.ny;
    let slabs = labels.as_slice_mut().expect("fresh array").par_chunks_mut((TOGETHER * area).max(1));
    slabs.enumerate().for_each(|(slab, labels)| {
        let first = slab * TOGETHER;
        let heights = [grid.z(first as i64), grid.z((first + labels.len() / area) as i64 - 1)];
        let near = Slab::of(body, grid, heights);
        for (iz, slice) in labels.chunks_mut(area).enumerate() {
            paint(grid.z((first + iz) as i64), slice, &near);
        }
    });
    labels
}

/// The lobes; without trachea and main bronchi.
pub fn lobes(body: &Body, field: &Field, grid: &Grid, slices: usize) -> Array3<u8> {
    map(body, grid, slices, |z, slice, near| {
        let mut row = Vec::new();
        for (iy, line) in slice.chunks_mut(grid.nx).enumerate() {
            field.row(grid.y(iy), z, &mut row);
            if row.iter().all(|node| node[RIGHT].max(node[LEFT]) <= 0.0) {
                continue;
            }
            for (ix, label) in line.iter_mut().enumerate() {
                *label = lobe(&field.at_x(&row, grid.x(ix))).map_or(0, |lobe| lobe as u8);
            }
        }
        for tube in near.airways.iter().filter(|tube| tube.generation <= 1) {
            grid.tube(tube, z, wall_mm(tube.radius[0]), 1.0, |i, distance, _| {
                if distance < 0.0 {
                    slice[i] = 0;
                }
            });
        }
    })
}

/// The lobe that a node lies in.
fn lobe(node: &Node) -> Option<Lobe> {
    let front = node[OBLIQUE] > 0.0;
    if node[RIGHT] > 0.0 {
        Some(match (front, node[HORIZONTAL] > 0.0) {
            (true, true) => Lobe::RightUpper,
            (true, false) => Lobe::RightMiddle,
            (false, _) => Lobe::RightLower,
        })
    } else if node[LEFT] > 0.0 {
        Some(if front { Lobe::LeftUpper } else { Lobe::LeftLower })
    } else {
        None
    }
}

/// The lungs that lobes make up.
pub fn lungs(lobes: &Array3<u8>) -> Array3<u8> {
    const LUNG: [u8; 6] = {
        let (right, left) = (Lung::Right as u8, Lung::Left as u8);
        [0, right, right, right, left, left]
    };
    lobes.mapv(|lobe| LUNG[lobe as usize])
}

/// Lumen and walls.
pub fn airways(body: &Body, grid: &Grid, slices: usize) -> Array3<u8> {
    map(body, grid, slices, |z, slice, near| {
        for tube in &near.airways {
            let wall = wall_mm(tube.radius[0]) as f32;
            grid.tube(tube, z, f64::from(wall), 1.0, |i, distance, _| {
                if distance < -wall {
                    slice[i] = Airway::Lumen as u8;
                } else if distance < 0.0 && slice[i] == 0 {
                    slice[i] = Airway::Wall as u8;
                }
            });
        }
    })
}

/// Arteries and veins; where both hold a voxel it is the artery's.
pub fn vessels(body: &Body, grid: &Grid, slices: usize) -> Array3<u8> {
    map(body, grid, slices, |z, slice, near| {
        for (tubes, label) in [(&near.veins, Vessel::Vein), (&near.arteries, Vessel::Artery)] {
            for tube in tubes {
                grid.tube(tube, z, 0.0, 1.0, |i, distance, _| {
                    if distance < 0.0 {
                        slice[i] = label as u8;
                    }
                });
            }
        }
    })
}

/// `1`, `2`, ... where a nodule of the scene holds the voxel's centre and the lung does, too.
pub fn nodules(body: &Body, field: &Field, grid: &Grid, slices: usize) -> Array3<u8> {
    map(body, grid, slices, |z, slice, _| {
        let mut row = Vec::new();
        for (number, nodule) in body.scene.nodules.iter().enumerate() {
            let Some([xs, ys]) = grid.span(nodule.seed_point, nodule.radius_bounds()[1], z) else { continue };
            for iy in ys {
                field.row(grid.y(iy), z, &mut row);
                for ix in xs.clone() {
                    let node = field.at_x(&row, grid.x(ix));
                    if node[RIGHT].max(node[LEFT]) > 0.0 && nodule.holds([grid.x(ix), grid.y(iy), z]) {
                        slice[iy * grid.nx + ix] = (number + 1).min(255) as u8;
                    }
                }
            }
        }
    })
}
