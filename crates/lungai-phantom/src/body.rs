//! A scene made ready to be seen: what is grown from a seed is grown once.

use crate::beam::Beam;
use crate::breath::Breath;
use crate::disease::{Hole, holes};
use crate::field::Field;
use crate::labels::{self, Maps, Masks};
use crate::scanner::Scanner;
use crate::scene::Scene;
use crate::skeleton::{BonePart, bones};
use crate::trees::Trees;
use crate::vector::{V3, hash};
use crate::{oblique, raster};
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

/// As [`render`], on another grid of any orientation: the kernel blurs in its plane, the slice profile averages along its
/// normal. On a window of the scanner's own grid the voxels equal those of the whole. For many windows of one scene keep a
/// [`Body`].
///
/// # Panics
/// If [`Scanner::check`] refuses the scanner, or if the grid's pixels are not square.
pub fn render_window(scene: &Scene, scanner: &Scanner, geometry: &Geometry, seed: u64) -> Rendered {
    Body::of(scene).render_window(scanner, geometry, seed)
}

/// A scene made ready to be seen, about 2 MB. Making it takes some hundredths of a second.
pub struct Body {
    pub(crate) scene: Scene,
    pub(crate) trees: Trees,
    pub(crate) bones: Vec<BonePart>,
    pub(crate) holes: Vec<Hole>,
    pub(crate) beam: Beam,
    /// Where the repeating texture of this patient starts, in mm.
    pub(crate) texture_start: V3,
}

impl Body {
    /// Grows what the scene holds as a seed.
    pub fn of(scene: &Scene) -> Self {
        let chest = &scene.chest;
        let bones = bones(chest);
        let holes = || holes(chest, scene.disease.emphysema, hash(scene.tree_seed, 1));
        let (beam, (trees, holes)) = rayon::join(|| Beam::of(chest, &bones), || rayon::join(|| scene.trees(), holes));
        let texture_start = std::array::from_fn(|axis| (hash(scene.seed, 80 + axis as u64) % 5120) as f64 * 0.01);
        Self { scene: scene.clone(), trees, bones, holes, beam, texture_start }
    }

    /// As the function [`render`].
    pub fn render(&self, scanner: &Scanner, seed: u64) -> Rendered {
        self.render_window(scanner, &scanner.geometry(&self.scene), seed)
    }

    /// As the function [`render_window`].
    pub fn render_window(&self, scanner: &Scanner, geometry: &Geometry, seed: u64) -> Rendered {
        self.render_with(scanner, geometry, seed, Masks::NONE)
    }

    /// As the function [`render_window`], with the masks that are wanted.
    ///
    /// # Panics
    /// As [`render_window`].
    pub fn render_with(&self, scanner: &Scanner, geometry: &Geometry, seed: u64, masks: Masks) -> Rendered {
        if let Err(error) = scanner.check() {
            panic!("unchecked scanner: {error}");
        }
        let [_, sy, sx] = geometry.spacing().zyx_mm();
        assert!((sy / sx - 1.0).abs() < 1e-6, "a scanner's pixels are square, not {sy} by {sx} mm");
        let breath = Breath::new(scanner, &self.scene.chest, seed);
        let (hu, maps) = if geometry.direction() == Geometry::AXIAL {
            let whole = scanner.geometry(&self.scene);
            let (hu, field) = raster::render(self, &breath, scanner, geometry, seed);
            (hu, labels::maps_beside(self, &breath, geometry, &whole, &field, masks))
        } else {
            (oblique::render(self, scanner, geometry, seed), oblique::maps(self, &breath, geometry, masks))
        };
        let map = |labels: Array3<u8>| LabelMap::new(labels, geometry.clone()).expect("the raster has the grid's size");
        let Maps { lobes, airways, vessels, nodules } = maps;
        Rendered {
            volume: Volume::new(hu, geometry.clone()).expect("the raster has the grid's size"),
            lungs: map(labels::lungs(&lobes)),
            lobes: masks.lobes.then(|| map(lobes)),
            airways: airways.map(map),
            vessels: vessels.map(map),
            nodule_labels: nodules.map(map),
            nodules: self.scene.reference(scanner, geometry, seed),
        }
    }

    /// The nodules on an axial grid, `1`, `2`, ... in the order of the scene, each clipped to the lung; 0 elsewhere. The
    /// patient holds their breath.
    pub fn nodule_labels(&self, geometry: &Geometry) -> LabelMap {
        let masks = Masks { nodules: true, ..Masks::NONE };
        let maps = labels::maps(self, &Breath::HELD, geometry, masks);
        LabelMap::new(maps.nodules.expect("asked for"), geometry.clone()).expect("the raster has the grid's size")
    }

    /// The smooth shapes from `low` to `high`.
    pub(crate) fn field(&self, low: V3, high: V3) -> Field {
        let Scene { chest, seed, disease, .. } = &self.scene;
        Field::over(chest, *seed, disease.fibrosis, low, high)
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
