//! The inputs of all workloads, made once: a phantom scan of 300 x 512 x 512 voxels and what is derived from it, as raw
//! little-endian files that every program can read, and the same scan as DICOM series.

use crate::peers;
use anyhow::Context;
use lungai_ct::{Geometry, LabelMap, Spacing, Volume, WorldPoint};
use lungai_dicom::{SeriesTags, write_series};
use lungai_phantom::{Body, CaseMix, Difficulty, Scanner, Scene};
use ndarray::{Array3, s};
use std::fs;
use std::path::{Path, PathBuf};

/// Raised when an input changes, so that old ones are made anew.
const VERSION: &str = "2";

/// Voxels of the scan, `[z, y, x]`.
pub const SIZE: [usize; 3] = [300, 512, 512];
/// Its spacing `[z, y, x]` in mm.
pub const SPACING_MM: [f64; 3] = [1.25, 0.7, 0.7];
/// The part of it that slow peers can finish: from the middle of the right lung.
pub const PART: [usize; 3] = [128, 256, 256];
/// Where the part starts.
const PART_START: [usize; 3] = [90, 130, 60];
/// Edge of the augmented patch.
pub const PATCH: usize = 128;
/// Nodules whose shape is measured.
pub const NODULES: usize = 1000;
/// Edge of a nodule's mask.
pub const NODULE_EDGE: usize = 64;

/// The grid of the scan.
pub fn grid() -> Geometry {
    let origin = WorldPoint([-178.85, -178.85, 0.0]);
    Geometry::new(SIZE, spacing(), origin, Geometry::AXIAL).expect("a sound grid")
}

/// Spacing of the scan, of its part and of the patch.
pub fn spacing() -> Spacing {
    Spacing::new(SPACING_MM).expect("positive")
}

/// Makes what is missing below `folder`.
pub fn make(folder: &Path, with_series: bool) -> anyhow::Result<()> {
    let data = folder.join("data");
    let stamp = data.join("version");
    if fs::read_to_string(&stamp).is_ok_and(|version| version == VERSION) {
        return if with_series { make_series(folder) } else { Ok(()) };
    }
    eprintln!("making the inputs in {}", data.display());
    let _ = fs::remove_dir_all(&data); // of another version, or not there
    fs::create_dir_all(&data)?;
    let scanner = Scanner::screening();
    let scene = Scene::draw(&CaseMix::preset(Difficulty::Standard), 7);
    // 300 slices from the lungs' middle up and down.
    let own = scanner.geometry(&scene);
    let z = own.origin().0[2] + 0.5 * (own.size()[0] as f64 - SIZE[0] as f64) * SPACING_MM[0];
    let origin = WorldPoint([grid().origin().0[0], grid().origin().0[1], z]);
    let geometry = Geometry::new(SIZE, spacing(), origin, Geometry::AXIAL)?;
    let scan = Body::of(&scene).render_window(&scanner, &geometry, 7);
    let hu = scan.volume.hu();
    save_i16(&data.join("chest.raw"), hu.iter())?;
    fs::write(data.join("lungs.raw"), scan.lungs.as_slice())?;
    // Air with its noise: what a threshold gives, and what labelling and hole filling have to deal with.
    let air: Vec<u8> = hu.iter().map(|hu| u8::from(*hu < -410)).collect();
    fs::write(data.join("air.raw"), &air)?;
    let second = lungai_imaging::lungs::segment(&scan.volume);
    fs::write(data.join("lungs_again.raw"), second.as_slice())?;
    let [z, y, x] = PART_START;
    let [nz, ny, nx] = PART;
    let part = hu.slice(s![z..z + nz, y..y + ny, x..x + nx]);
    save_i16(&data.join("part.raw"), part.iter())?;
    let patch = hu.slice(s![z..z + PATCH, y..y + PATCH, x..x + PATCH]);
    // Above the air: what no program finds outside of the patch is 0 for all of them.
    let floats: Vec<u8> = patch.iter().flat_map(|hu| (f32::from(*hu) + 1024.0).to_le_bytes()).collect();
    fs::write(data.join("patch.raw"), floats)?;
    let tissue: Vec<u8> = patch.iter().map(|hu| u8::from(*hu > -410)).collect();
    fs::write(data.join("patch_mask.raw"), tissue)?;
    fs::write(data.join("nodules.raw"), nodules())?;
    fs::write(&stamp, VERSION)?;
    if with_series { make_series(folder) } else { Ok(()) }
}

/// The scan as DICOM, as it is and packed by the peers' encoders.
fn make_series(folder: &Path) -> anyhow::Result<()> {
    let raw = folder.join("data/series/raw");
    if !raw.join("000300.dcm").exists() {
        let tags = SeriesTags::synthetic("BENCH", "chest");
        write_series(&chest(folder)?, &Scanner::screening().acquisition(), &tags, &raw)?;
    }
    peers::transcode(folder)
}

/// The scan.
pub fn chest(folder: &Path) -> anyhow::Result<Volume> {
    Ok(Volume::new(i16s(folder, "chest.raw", SIZE)?, grid())?)
}

/// Signed 16-bit voxels.
pub fn i16s(folder: &Path, name: &str, size: [usize; 3]) -> anyhow::Result<Array3<i16>> {
    let values = bytes(folder, name)?.as_chunks().0.iter().map(|b| i16::from_le_bytes(*b)).collect();
    Ok(Array3::from_shape_vec(size, values)?)
}

/// Floating-point voxels.
pub fn f32s(folder: &Path, name: &str, size: [usize; 3]) -> anyhow::Result<Array3<f32>> {
    let values = bytes(folder, name)?.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    Ok(Array3::from_shape_vec(size, values)?)
}

/// Labels on the scan's grid.
pub fn labels(folder: &Path, name: &str) -> anyhow::Result<LabelMap> {
    Ok(LabelMap::new(Array3::from_shape_vec(SIZE, bytes(folder, name)?)?, grid())?)
}

/// A mask.
pub fn mask(folder: &Path, name: &str, size: [usize; 3]) -> anyhow::Result<Array3<bool>> {
    Ok(Array3::from_shape_vec(size, bytes(folder, name)?.into_iter().map(|v| v > 0).collect())?)
}

/// A file of the inputs.
pub fn bytes(folder: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    let path: PathBuf = folder.join("data").join(name);
    fs::read(&path).with_context(|| format!("{}", path.display()))
}

fn save_i16<'a>(path: &Path, values: impl Iterator<Item = &'a i16>) -> anyhow::Result<()> {
    let bytes: Vec<u8> = values.flat_map(|hu| hu.to_le_bytes()).collect();
    Ok(fs::write(path, bytes)?)
}

/// Lobed balls of 4 to 28 voxels: radius `r (1 + a sin(3 theta) sin(2 phi))`, drawn by a fixed sequence.
fn nodules() -> Vec<u8> {
    let mut state = 1u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1u64 << 24) as f64
    };
    let edge = NODULE_EDGE;
    let mut out = Vec::with_capacity(NODULES * edge.pow(3));
    for _ in 0..NODULES {
        let radius = 4.0 + 24.0 * uniform() * uniform();
        let lobes = 0.15 * uniform();
        let flat = 0.7 + 0.3 * uniform();
        let centre: [f64; 3] = std::array::from_fn(|_| 31.0 + uniform());
        for index in 0..edge.pow(3) {
            let at = [index / edge / edge, index / edge % edge, index % edge];
            let [z, y, x]: [f64; 3] = std::array::from_fn(|i| at[i] as f64 - centre[i]);
            let (z, distance) = (z / flat, (z / flat).hypot(y.hypot(x)));
            let bulge = (3.0 * y.atan2(x)).sin() * (2.0 * (z / distance.max(1e-9)).acos()).sin();
            out.push(u8::from(distance <= radius * (1.0 + lobes * bulge)));
        }
    }
    out
}
