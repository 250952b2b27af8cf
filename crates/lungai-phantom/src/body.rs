//! A scene made ready to be seen: what is grown from a seed is grown once.

use crate::disease::{Hole, holes};
use crate::field::Field;
use crate::labels::{self, Masks};
use crate::raster::{self, Grid};
use crate::scanner::Scanner;
use crate::scene::Scene;
use crate::skeleton::{BonePart, bones};
use crate::trees::Trees;
use crate::vector::{V3, hash};
use lungai_ct::{Geometry, LabelMap, ReferenceNodule, Volume, VoxelPoint, WorldPoint};
use ndarray::Array3;

/// A scan with its truth.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// What the scanner gives.
    pub volume: Volume,
    /// The lungs with the nodules and vessels in them, without trachea and main bronchi: see [`lungai_ct::Lung`].
    pub lungs: LabelMap,
    /// The five lobes, see [`lungai_ct::Lobe`], if wanted. Together they are the lungs.
    pub lobes: Option<LabelMap>,
    /// [`Airway`](crate::Airway), if wanted.
    pub airways: Option<LabelMap>,
    /// [`Vessel`](crate::Vessel), if wanted: all within the lungs down to a radius of 0.35 mm, without the great vessels of the
    /// mediastinum.
    pub vessels: Option<LabelMap>,
    /// `1`, `2`, ... in the order of the scene, each clipped to the lung, if wanted.
    pub nodule_labels: Option<LabelMap>,
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

/// As [`render`], on another axial grid. On a window of the scanner's own grid the voxels equal those of the whole.
/// For many windows of one scene keep a [`Body`].
///
/// # Panics
/// If [`Scanner::check`] refuses the scanner, or if the grid's axes are not [`Geometry::AXIAL`].
pub fn render_window(scene: &Scene, scanner: &Scanner, geometry: &Geometry, seed: u64) -> Rendered {
    Body::of(scene).render_window(scanner, geometry, seed)
}

/// A scene made ready to be seen, about 2 MB. Making it takes some hundredths of a second.
pub struct Body {
    pub(crate) scene: Scene,
    pub(crate) trees: Trees,
    pub(crate) bones: Vec<BonePart>,
    pub(crate) holes: Vec<Hole>,
    /// Where the repeating texture of this patient starts, in mm.
    pub(crate) texture_start: V3,
}

impl Body {
    /// Grows what the scene holds as a seed.
    pub fn of(scene: &Scene) -> Self {
        let holes = || holes(&scene.chest, scene.disease.emphysema, hash(scene.tree_seed, 1));
        let (trees, holes) = rayon::join(|| scene.trees(), holes);
        let texture_start = std::array::from_fn(|axis| (hash(scene.seed, 80 + axis as u64) % 5120) as f64 * 0.01);
        Self { scene: scene.clone(), trees, bones: bones(&scene.chest), holes, texture_start }
    }

    /// As the function [`render`].
    pub fn render(&self, scanner: &Scanner, seed: u64) -> Rendered {
        self.render_window(scanner, &scanner.geometry(&self.scene), seed)
    }

    /// As the function [`render_window`].
    pub fn render_window(&self, scanner: &Scanner, geometry: &Geometry, seed: u64) -> Rendered {
        self.render_with(scanner, geometry, seed, Masks::NONE)
    }

    /// As [`render_window`], with the masks that are wanted.
    ///
    /// # Panics
    /// As [`render_window`].
    pub fn render_with(&self, scanner: &Scanner, geometry: &Geometry, seed: u64, masks: Masks) -> Rendered {
        if let Err(error) = scanner.check() {
            panic!("unchecked scanner: {error}");
        }
        assert_eq!(geometry.direction(), Geometry::AXIAL, "the phantom is rendered on axial grids");
        let hu = raster::render(self, scanner, geometry, seed);
        // On the scanner's own grid, so that a window falls on the same places to the last bit.
        let grid = Grid::of(geometry, Some(&scanner.geometry(&self.scene)));
        let field = self.field_on(&grid, geometry);
        let slices = geometry.size()[0];
        let map = |labels: Array3<u8>| LabelMap::new(labels, geometry.clone()).expect("the raster has the grid's size");
        let lobes = labels::lobes(self, &field, &grid, slices);
        Rendered {
            volume: Volume::new(hu, geometry.clone()).expect("the raster has the grid's size"),
            lungs: map(labels::lungs(&lobes)),
            lobes: masks.lobes.then(|| map(lobes)),
            airways: masks.airways.then(|| map(labels::airways(self, &grid, slices))),
            vessels: masks.vessels.then(|| map(labels::vessels(self, &grid, slices))),
            nodule_labels: masks.nodules.then(|| map(labels::nodules(self, &field, &grid, slices))),
            nodules: self.nodules_on(geometry),
        }
    }

    /// The nodules on a grid, `1`, `2`, ... in the order of the scene, each clipped to the lung; 0 elsewhere.
    pub fn nodule_labels(&self, geometry: &Geometry) -> LabelMap {
        let grid = Grid::of(geometry, None);
        let field = self.field_on(&grid, geometry);
        let labels = labels::nodules(self, &field, &grid, geometry.size()[0]);
        LabelMap::new(labels, geometry.clone()).expect("the raster has the grid's size")
    }

    fn field_on(&self, grid: &Grid, geometry: &Geometry) -> Field {
        let [nz, ny, nx] = geometry.size();
        self.field([grid.x(0), grid.y(0), grid.z(0)], [grid.x(nx - 1), grid.y(ny - 1), grid.z(nz as i64 - 1)])
    }

    /// The smooth shapes from `low` to `high`.
    pub(crate) fn field(&self, low: V3, high: V3) -> Field {
        let Scene { chest, seed, disease, .. } = &self.scene;
        Field::over(chest, *seed, disease.fibrosis, low, high)
    }

    fn nodules_on(&self, geometry: &Geometry) -> Vec<ReferenceNodule> {
        let size = geometry.size();
        let within = |position: WorldPoint| {
            let VoxelPoint(at) = geometry.to_voxel(position);
            (0..3).all(|axis| at[axis] >= -0.5 && at[axis] < size[axis] as f64 - 0.5)
        };
        let nodules = self.scene.nodules.iter().map(|nodule| nodule.reference());
        let mimics = (1..).zip(&self.scene.mimics).map(|(i, mimic)| mimic.reference(format!("m{i}")));
        nodules.chain(mimics).filter(|nodule| within(nodule.position)).collect()
    }
}
