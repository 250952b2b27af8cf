//! Truth on a grid: what holds a voxel's centre, from the shapes alone.

use crate::body::Body;
use crate::breath::Breath;
use crate::field::{Field, HORIZONTAL, LEFT, Node, OBLIQUE, RIGHT};
use crate::grid::{Grid, Slab};
use crate::trees::wall_mm;
use lungai_ct::{Geometry, Lobe, Lung};
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

/// The maps of a grid, `[z, y, x]`.
pub struct Maps {
    pub lobes: Array3<u8>,
    pub airways: Option<Array3<u8>>,
    pub vessels: Option<Array3<u8>>,
    pub nodules: Option<Array3<u8>>,
}

impl Maps {
    pub fn blank(size: [usize; 3], masks: Masks) -> Self {
        let blank = || Array3::zeros(size);
        Self {
            lobes: blank(),
            airways: masks.airways.then(blank),
            vessels: masks.vessels.then(blank),
            nodules: masks.nodules.then(blank),
        }
    }

    /// Those that are there, always in the same order.
    pub fn each(&self) -> impl Iterator<Item = &Array3<u8>> {
        [Some(&self.lobes), self.airways.as_ref(), self.vessels.as_ref(), self.nodules.as_ref()].into_iter().flatten()
    }

    pub fn each_mut(&mut self) -> impl Iterator<Item = &mut Array3<u8>> {
        let Self { lobes, airways, vessels, nodules } = self;
        [Some(lobes), airways.as_mut(), vessels.as_mut(), nodules.as_mut()].into_iter().flatten()
    }
}

/// All maps of an axial grid.
pub fn maps(body: &Body, breath: &Breath, geometry: &Geometry, masks: Masks) -> Maps {
    let [slices, ny, nx] = geometry.size();
    let grid = Grid::of(geometry, None);
    let at = At { body, breath, grid: &grid, slices };
    let [low, high] = [0, slices as i64 - 1].map(|iz| at.height(iz));
    let field = body.field([grid.x(0), grid.y(0), low], [grid.x(nx - 1), grid.y(ny - 1), high]);
    maps_of(&at, &field, masks)
}

/// As [`maps`], for a part of a scan whose smooth shapes are there already.
/// - `whole`: the grid of the whole scan, so that a part of it computes the very places that the whole does
pub fn maps_beside(
    body: &Body,
    breath: &Breath,
    geometry: &Geometry,
    whole: &Geometry,
    field: &Field,
    masks: Masks,
) -> Maps {
    let grid = Grid::of(geometry, Some(whole));
    maps_of(&At { body, breath, grid: &grid, slices: geometry.size()[0] }, field, masks)
}

fn maps_of(at: &At, field: &Field, masks: Masks) -> Maps {
    Maps {
        lobes: lobes(at, field),
        airways: masks.airways.then(|| airways(at)),
        vessels: masks.vessels.then(|| vessels(at)),
        nodules: masks.nodules.then(|| nodules(at, field)),
    }
}

struct At<'a> {
    body: &'a Body,
    breath: &'a Breath,
    grid: &'a Grid,
    slices: usize,
}

impl At<'_> {
    /// Of the resting patient that a slice shows.
    fn height(&self, iz: i64) -> f64 {
        self.breath.rest(self.grid.z(iz))
    }

    /// The slices of a fresh map, each made by `paint(height, slice, shapes near it)`.
    fn map(&self, paint: impl Fn(f64, &mut [u8], &Slab) + Sync) -> Array3<u8> {
        const TOGETHER: usize = 16;
        let area = self.grid.nx * self.grid.ny;
        let mut labels = Array3::<u8>::zeros((self.slices, self.grid.ny, self.grid.nx));
        let slabs = labels.as_slice_mut().expect("fresh array").par_chunks_mut(TOGETHER * area);
        slabs.enumerate().for_each(|(slab, labels)| {
            let first = (slab * TOGETHER) as i64;
            let last = first + (labels.len() / area) as i64 - 1;
            let near = Slab::of(self.body, self.grid, [self.height(first), self.height(last)]);
            for (iz, slice) in (first..).zip(labels.chunks_mut(area)) {
                paint(self.height(iz), slice, &near);
            }
        });
        labels
    }
}

/// The lobes; without trachea and main bronchi.
fn lobes(at: &At, field: &Field) -> Array3<u8> {
    let grid = at.grid;
    at.map(|z, slice, near| {
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
fn airways(at: &At) -> Array3<u8> {
    let grid = at.grid;
    at.map(|z, slice, near| {
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
fn vessels(at: &At) -> Array3<u8> {
    let grid = at.grid;
    at.map(|z, slice, near| {
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
fn nodules(at: &At, field: &Field) -> Array3<u8> {
    let grid = at.grid;
    at.map(|z, slice, _| {
        let mut row = Vec::new();
        for (number, nodule) in at.body.scene.nodules.iter().enumerate() {
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
