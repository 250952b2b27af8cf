//! One slice of the scene, painted with edges as wide as a voxel: what covers half of a voxel counts half.

use crate::body::Body;
use crate::disease::{HOLE_HU, Hole};
use crate::field::{BODY, FIBROSIS, Field, HORIZONTAL, LEFT, Node, OBLIQUE, RIGHT, SOFT, TEXTURE, between};
use crate::grid::{Grid, Slab};
use crate::mimic::Ellipsoid;
use crate::nodule::{Nodule, Place};
use crate::skeleton::{RIB_SQUASH, SHELL_MM, spine};
use crate::texture::{CELL_MM, GRAIN, SEPTA, TileRow};
use crate::trees::{Tube, wall_mm};
use crate::vector::{dot, sub};
use lungai_ct::NoduleKind;

const AIR: f32 = -1000.0;
/// Blood and soft tissue without contrast agent.
const BLOOD: f32 = 42.0;
const WALL: f32 = 20.0;
const LUMEN: f32 = -985.0;

/// A slice while it is painted.
pub struct Canvas {
    pub columns: usize,
    pub hu: Vec<f32>,
    /// Distance to the lung's border, positive inside.
    lung: Vec<f32>,
    wall: Vec<f32>,
    vessel: Vec<f32>,
    lumen: Vec<f32>,
    pub scratch: Vec<f32>,
    row: Vec<Node>,
    grain: TileRow,
    septa: TileRow,
}

impl Canvas {
    pub fn new(grid: &Grid) -> Self {
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

    pub fn paint(&mut self, body: &Body, field: &Field, near: &Slab, grid: &Grid, z: f64) {
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
        // The same in every row: the coordinate, its place in the field and in the texture.
        let column = |x: f64| (x, field.place_x(x), TileRow::place((x + start[0]) as f32));
        let columns: Vec<_> = (0..grid.nx).map(|ix| column(grid.x(ix))).collect();
        for iy in 0..grid.ny {
            let y = grid.y(iy);
            field.row(y, z, &mut self.row);
            self.grain.turn_to_row(y + start[1]);
            if fibrotic {
                self.septa.turn_to_row(y + start[1]);
            }
            let at_height = parenchyma + gravity * y as f32;
            for (ix, (x, place, across)) in columns.iter().copied().enumerate() {
                let node = between(&self.row, place);
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
                    let mut air = at_height + texture * node[TEXTURE] + fine * self.grain.at(across);
                    air += fissure * fissure_share(&node, sheet);
                    if node[FIBROSIS] > 0.0 {
                        // In patches, as it is in patients.
                        let patch = (0.55 + 0.5 * node[TEXTURE]).clamp(0.0, 1.0);
                        air += node[FIBROSIS] * patch * (60.0 + 330.0 * self.septa.at(across));
                    }
                    value += share * (air - soft);
                }
                self.hu[i] = AIR + inside * (value - AIR);
            }
        }
    }

    /// A hole with an uneven border as soft as two millimetres.
    fn hole(&mut self, grid: &Grid, z: f64, hole: &Hole) {
        let width = grid.edge.max(2.0);
        let reach = hole.reach_mm() + 0.5 * width;
        let Some([_, ys]) = grid.span(hole.centre, reach, z) else { return };
        let [x, y, dz] = [hole.centre[0], hole.centre[1], z - hole.centre[2]];
        for iy in ys {
            let dy = grid.y(iy) - y;
            // Of the row only what lies in the ball.
            let half = (reach * reach - dy * dy - dz * dz).max(0.0).sqrt();
            let Some(xs) = grid.columns([x - half, x + half]) else { continue };
            let row = iy * grid.nx + xs.start..iy * grid.nx + xs.end;
            let shares = hole.shares(xs.map(|ix| (grid.x(ix) - x) as f32), [dy as f32, dz as f32], width as f32);
            for ((hu, lung), share) in self.hu[row.clone()].iter_mut().zip(&self.lung[row]).zip(shares) {
                over(hu, HOLE_HU, share * (lung - 1.0).clamp(0.0, 1.0));
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
