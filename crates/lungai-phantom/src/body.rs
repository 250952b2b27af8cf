//! A scene made ready to be seen: smooth shapes sampled once on a coarse grid, thin ones as lists of tubes.

use crate::beam::Beam;
use crate::breath::Breath;
use crate::chest::smoothstep;
use crate::oblique;
use crate::raster;
use crate::scanner::Scanner;
use crate::scene::Scene;
use crate::skeleton::{BonePart, bones};
use crate::trees::Trees;
use crate::vector::hash;
use lungai_ct::{Geometry, LabelMap, ReferenceNodule, Volume, VoxelPoint, WorldPoint};
use rayon::prelude::*;

/// A scan with its truth.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// What the scanner gives.
    pub volume: Volume,
    /// The lungs with the nodules and vessels in them, without trachea and main bronchi: see [`lungai_ct::Lung`].
    pub lungs: LabelMap,
    /// Nodules whose centre lies on the grid, and the mimics: excluded from scoring, as LUNA16 excludes what its readers
    /// called a non-nodule or found smaller than 3 mm.
    pub nodules: Vec<ReferenceNodule>,
}

/// The whole patient as the scanner sees it.
///
/// # Panics
/// If [`Scanner::check`] refuses the scanner.
pub fn render(scene: &Scene, scanner: &Scanner, seed: u64) -> Rendered {
    Body::of(scene).render(scanner, seed)
}

/// As [`render`], on another grid of any orientation: the kernel blurs in its plane, the slice profile averages along its
/// normal. On a window of the scanner's own grid the voxels equal those of the whole. For many windows of one scene keep a
/// [`Body`].
///
/// # Panics
/// If [`Scanner::check`] refuses the scanner, or if the grid's pixels are not square.
pub fn render_window(scene: &Scene, scanner: &Scanner, geometry: &Geometry, seed: u64) -> Rendered {
    Body::of(scene).render_window(scanner, geometry, seed)
}

/// A scene made ready to be seen, about 20 MB. Making it takes about as long as 5 million voxels.
pub struct Body {
    pub(crate) scene: Scene,
    pub(crate) field: Field,
    pub(crate) trees: Trees,
    pub(crate) bones: Vec<BonePart>,
    pub(crate) beam: Beam,
}

impl Body {
    /// Samples the scene's smooth shapes and grows its trees.
    pub fn of(scene: &Scene) -> Self {
        let (field, trees) = rayon::join(|| Field::of(scene), || scene.trees());
        let bones = bones(&scene.chest);
        let beam = Beam::of(&scene.chest, &bones);
        Self { scene: scene.clone(), field, trees, bones, beam }
    }

    /// As the function [`render`].
    pub fn render(&self, scanner: &Scanner, seed: u64) -> Rendered {
        self.render_window(scanner, &scanner.geometry(&self.scene), seed)
    }

    /// As the function [`render_window`].
    pub fn render_window(&self, scanner: &Scanner, geometry: &Geometry, seed: u64) -> Rendered {
        if let Err(error) = scanner.check() {
            panic!("unchecked scanner: {error}");
        }
        let [_, sy, sx] = geometry.spacing().zyx_mm();
        assert!((sy / sx - 1.0).abs() < 1e-6, "a scanner's pixels are square, not {sy} by {sx} mm");
        let axial = geometry.direction() == Geometry::AXIAL;
        let (hu, labels) = (if axial { raster::render } else { oblique::render })(self, scanner, geometry, seed);
        Rendered {
            volume: Volume::new(hu, geometry.clone()).expect("the raster has the grid's size"),
            lungs: LabelMap::new(labels, geometry.clone()).expect("the raster has the grid's size"),
            nodules: self.scene.reference(scanner, geometry, seed),
        }
    }

    /// The nodules on a grid, `1`, `2`, ... in the order of the scene, each clipped to the lung; 0 elsewhere. The patient
    /// holds their breath.
    pub fn nodule_labels(&self, geometry: &Geometry) -> LabelMap {
        let labels = raster::nodule_labels(self, geometry);
        LabelMap::new(labels, geometry.clone()).expect("the raster has the grid's size")
    }
}

impl Scene {
    /// The reference standard of a scan without rendering it: nodules whose centre the grid holds, and the mimics, where
    /// this scanner sees them.
    ///
    /// - `seed`: that of the scan, see [`render`]
    pub fn reference(&self, scanner: &Scanner, geometry: &Geometry, seed: u64) -> Vec<ReferenceNodule> {
        let size = geometry.size();
        let within = |position: WorldPoint| {
            let VoxelPoint(at) = geometry.to_voxel(position);
            (0..3).all(|axis| at[axis] >= -0.5 && at[axis] < size[axis] as f64 - 0.5)
        };
        let breath = Breath::new(scanner, &self.chest, seed);
        let nodules = self.nodules.iter().map(|nodule| nodule.reference());
        let mimics = (1..).zip(&self.mimics).map(|(i, mimic)| mimic.reference(format!("m{i}")));
        let seen = |nodule: ReferenceNodule| {
            let position = WorldPoint(breath.seen(nodule.position.0));
            ReferenceNodule { position, ..nodule }
        };
        nodules.chain(mimics).map(seen).filter(|nodule| within(nodule.position)).collect()
    }
}

/// Values of the smooth shapes at one place.
pub(crate) type Node = [f32; 8];
/// Indices into [`Node`]: distances in mm, positive inside; HU.
pub(crate) const BODY: usize = 0;
pub(crate) const RIGHT: usize = 1;
pub(crate) const LEFT: usize = 2;
pub(crate) const SOFT: usize = 3;
pub(crate) const TEXTURE: usize = 4;
pub(crate) const OBLIQUE: usize = 5;
pub(crate) const HORIZONTAL: usize = 6;

/// Distance between nodes in mm. A surface of 20 mm radius is off by at most h^2/8R = 0.06 mm.
const STEP: f64 = 3.0;

/// Smooth shapes on a coarse grid that is fixed to the patient, so every scanner sees the same surface.
pub(crate) struct Field {
    origin: [f64; 3],
    /// Nodes along x, y, z.
    size: [usize; 3],
    nodes: Vec<Node>,
}

impl Field {
    fn of(scene: &Scene) -> Self {
        let chest = &scene.chest;
        let [low, high] = chest.lung_extent_z();
        let [half_x, half_y] = chest.torso_mm();
        let from = [-1.08 * half_x - 12.0, -half_y - 12.0, low - 40.0];
        let to = [1.08 * half_x + 12.0, half_y + 26.0, high + 50.0];
        let size: [usize; 3] = std::array::from_fn(|i| ((to[i] - from[i]) / STEP).ceil() as usize + 1);
        let mut nodes = vec![Node::default(); size[0] * size[1] * size[2]];
        nodes.par_chunks_mut(size[0]).enumerate().for_each(|(row, nodes)| {
            let (iy, iz) = (row % size[1], row / size[1]);
            for (ix, node) in nodes.iter_mut().enumerate() {
                let p = [ix, iy, iz].map(|i| i as f64 * STEP);
                let p: [f64; 3] = std::array::from_fn(|i| from[i] + p[i]);
                let body = chest.body(p);
                if body < -2.0 * STEP {
                    *node = [body as f32, -99.0, -99.0, -105.0, 0.0, 999.0, 999.0, 0.0];
                    continue;
                }
                let q = chest.warped(p);
                let [right, left] = chest.lungs_at(q);
                let deep = right.max(left);
                let soft = if deep < 2.0 * STEP { chest.soft_tissue(p, q, body) } else { 30.0 };
                let [oblique, horizontal] = if deep > -2.0 * STEP { chest.fissures_at(q) } else { [999.0; 2] };
                let texture = texture(scene.seed, p);
                *node = [body, right, left, soft, texture, oblique, horizontal, 0.0].map(|v| v as f32);
            }
        });
        Self { origin: from, size, nodes }
    }

    /// The row of nodes through `y`, `z`.
    pub fn row(&self, y: f64, z: f64, row: &mut Vec<Node>) {
        let [iy, fy] = self.place(1, y);
        let [iz, fz] = self.place(2, z);
        let (iy, iz) = (iy as usize, iz as usize);
        let nx = self.size[0];
        let line = |dy: usize, dz: usize| &self.nodes[((iz + dz) * self.size[1] + iy + dy) * nx..][..nx];
        let lines = [line(0, 0), line(1, 0), line(0, 1), line(1, 1)];
        let weights = [(1.0 - fy) * (1.0 - fz), fy * (1.0 - fz), (1.0 - fy) * fz, fy * fz].map(|w| w as f32);
        row.clear();
        row.extend((0..nx).map(|i| {
            let mut node = Node::default();
            for (line, weight) in lines.iter().zip(weights) {
                for (sum, value) in node.iter_mut().zip(line[i]) {
                    *sum += weight * value;
                }
            }
            node
        }));
    }

    /// Node on the left and share of the next.
    fn place(&self, axis: usize, at: f64) -> [f64; 2] {
        let t = ((at - self.origin[axis]) / STEP).clamp(0.0, self.size[axis] as f64 - 1.001);
        [t.floor(), t - t.floor()]
    }

    /// Origin and spacing of a row in mm.
    pub fn row_grid(&self) -> [f32; 2] {
        [self.origin[0] as f32, STEP as f32]
    }
}

/// Irregular texture of standard deviation about 1 with detail from 4 to 36 mm, as 1/f noise has.
fn texture(seed: u64, p: [f64; 3]) -> f64 {
    let octave = |cell: f64, key: u64| {
        let at = p.map(|v| v / cell);
        let base = at.map(f64::floor);
        let f: [f64; 3] = std::array::from_fn(|i| smoothstep(0.0, 1.0, at[i] - base[i]));
        let mut sum = 0.0;
        for corner in 0..8u64 {
            let bit = |axis: u64| (corner >> axis) & 1;
            let mut h = hash(seed, key);
            let mut weight = 1.0;
            for axis in 0..3 {
                h = hash(h, (base[axis] as i64 + bit(axis as u64) as i64) as u64);
                weight *= if bit(axis as u64) == 1 { f[axis] } else { 1.0 - f[axis] };
            }
            sum += weight * (h as f64 / u64::MAX as f64 - 0.5);
        }
        sum
    };
    3.2 * (octave(4.0, 71) + octave(11.0, 72) + 0.9 * octave(36.0, 73))
}
