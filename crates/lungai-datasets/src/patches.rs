//! Volumes for training by programs that read patches from disk (ours keeps its scans in memory): one file per scan, mapped into memory, so that a patch costs a few rows of the page
//! cache and not a series of 300 files.
//!
//! A file is named by what it holds (voxels' hash, their grid where the manifest has it, as of every imported set, lung mask's
//! hash, stored grid, version of this crate): two data sets that share a scan share it. A file is written under another name and renamed when complete, so an
//! interrupted filling goes on where it stopped, and several processes may fill one folder.

use crate::error::name;
use crate::hash::{hex, sha256};
use crate::manifest::Case;
use crate::{DatasetError, Fault};
use lungai_ct::{AIR_HU, Geometry, LabelMap, Spacing, Volume, WorldPoint};
use lungai_imaging::{resample, resample_labels};
use memmap2::Mmap;
use ndarray::{Array3, ArrayView3};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

#[cfg(target_endian = "big")]
compile_error!("stored volumes are little endian and read as they lie");

const MAGIC: &[u8; 8] = b"LUNGAIv1";
/// Voxels begin on a page of their own.
const HEADER_BYTES: usize = 4096;

/// The grid of stored volumes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "grid", rename_all = "kebab-case", deny_unknown_fields)]
pub enum StoreGrid {
    /// The scan's own.
    Native,
    /// Resampled with antialiasing to cubes of this edge in mm, as [`lungai_imaging::resample`] does it; lungs by majority.
    Isotropic {
        /// Edge, finite and positive.
        mm: f64,
    },
}

/// A folder of stored volumes. Make it with [`PatchStore::new`], fill it with [`PatchStore::fill`], and read with
/// [`PatchStore::get`].
#[derive(Debug, Clone)]
pub struct PatchStore {
    folder: PathBuf,
    grid: StoreGrid,
}

/// One step of [`PatchStore::fill`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FillProgress {
    /// The case that is there now.
    pub case: String,
    /// Whether it was there before.
    pub reused: bool,
    /// Cases that are there.
    pub done: usize,
    /// Cases in all.
    pub total: usize,
}

/// What stands before the voxels.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    key: String,
    size: [usize; 3],
    spacing: [f64; 3],
    origin: [f64; 3],
    direction: [[f64; 3]; 3],
    lungs: bool,
    payload_sha256: String,
}

/// A scan in the store: HU and, where the set has one, its lung mask on the same grid. Cheap to keep open: pages are read when
/// they are touched and given back when memory is short.
#[derive(Debug)]
pub struct StoredCase {
    map: Mmap,
    geometry: Geometry,
    voxels: usize,
    lungs: bool,
    payload_sha256: String,
    file: String,
}

impl PatchStore {
    /// A store in `folder`, which is made where absent.
    ///
    /// # Errors
    /// [`DatasetError::Io`]; [`DatasetError::Config`] where the grid is none.
    pub fn new(folder: &Path, grid: StoreGrid) -> Result<Self, DatasetError> {
        if let StoreGrid::Isotropic { mm } = grid
            && !(mm.is_finite() && mm > 0.0)
        {
            let reason = format!("a grid of {mm} mm is none");
            return Err(DatasetError::Config { file: "patch store".into(), line: 1, reason });
        }
        std::fs::create_dir_all(folder).map_err(DatasetError::io(folder))?;
        Ok(Self { folder: folder.to_owned(), grid })
    }

    fn key(&self, case: &Case) -> String {
        let lungs = case.lungs.as_ref().map_or("-", |part| part.sha256.as_str());
        let grid = serde_json::to_string(&self.grid).expect("plain data");
        let version = env!("CARGO_PKG_VERSION");
        let own = case.grid.as_ref().map_or(String::new(), |own| format!("\n{own}"));
        sha256(format!("{}\n{lungs}\n{grid}\n{version}{own}", case.series.sha256).as_bytes())
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.volume"))
    }

    /// Stores every case that is not there yet. Each is read, checked against the manifest's checksums and resampled once.
    ///
    /// # Errors
    /// [`DatasetError`] of the first case that cannot be read; those before it are kept.
    pub fn fill(&self, cases: &[&Case], progress: &mut dyn FnMut(FillProgress)) -> Result<(), DatasetError> {
        for (at, case) in cases.iter().enumerate() {
            let (_, reused) = self.put(case)?;
            progress(FillProgress { case: case.id.clone(), reused, done: at + 1, total: cases.len() });
        }
        Ok(())
    }

    /// The stored case, and whether it was there.
    fn put(&self, case: &Case) -> Result<(StoredCase, bool), DatasetError> {
        let key = self.key(case);
        let path = self.path(&key);
        if let Ok(stored) = StoredCase::open(&path, &key) {
            return Ok((stored, true));
        }
        let scan = case.load_scan()?;
        let lungs = case.lungs.is_some().then(|| case.load_lungs(scan.volume.geometry())).transpose()?;
        let (volume, lungs) = match self.grid {
            StoreGrid::Native => (scan.volume, lungs),
            StoreGrid::Isotropic { mm } => {
                let spacing = Spacing::new([mm; 3]).expect("checked by `new`");
                let target = scan.volume.geometry().respaced(spacing);
                (resample(&scan.volume, &target), lungs.map(|lungs| resample_labels(&lungs, &target)))
            }
        };
        write(&path, &key, &volume, lungs.as_ref())?;
        Ok((StoredCase::open(&path, &key)?, false))
    }

    /// A stored case; stores it first where it is not there.
    ///
    /// # Errors
    /// [`DatasetError`]
    pub fn get(&self, case: &Case) -> Result<StoredCase, DatasetError> {
        Ok(self.put(case)?.0)
    }
}

fn write(path: &Path, key: &str, volume: &Volume, lungs: Option<&LabelMap>) -> Result<(), DatasetError> {
    let grid = volume.geometry();
    let voxels: &[u8] = bytemuck::cast_slice(volume.as_slice());
    let labels = lungs.map_or(&[][..], LabelMap::as_slice);
    let mut hasher = Sha256::new();
    hasher.update(voxels);
    hasher.update(labels);
    let head = Head {
        key: key.to_owned(),
        size: grid.size(),
        spacing: grid.spacing().zyx_mm(),
        origin: grid.origin().0,
        direction: grid.direction(),
        lungs: lungs.is_some(),
        payload_sha256: hex(&hasher.finalize()),
    };
    let json = serde_json::to_vec(&head).expect("plain data");
    let mut first = vec![0; HEADER_BYTES];
    first[..8].copy_from_slice(MAGIC);
    first[8..12].copy_from_slice(&(json.len() as u32).to_le_bytes());
    first[12..12 + json.len()].copy_from_slice(&json);

    // The thread's id too: two threads of one process may store one case.
    let draft = path.with_extension(format!("{}-{:?}.part", std::process::id(), std::thread::current().id()));
    let written = File::create(&draft).and_then(|file| {
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(&first)?;
        file.write_all(voxels)?;
        file.write_all(labels)?;
        file.flush()?;
        std::fs::rename(&draft, path)
    });
    written.map_err(|source| {
        // A half-written draft is of no use; that it cannot be removed is no second error.
        let _ = std::fs::remove_file(&draft);
        DatasetError::Io { file: name(path), source }
    })
}

impl StoredCase {
    fn open(path: &Path, key: &str) -> Result<Self, DatasetError> {
        let malformed = |reason: &str| DatasetError::Malformed {
            format: "stored volume",
            file: name(path),
            reason: reason.to_owned(),
        };
        let file = File::open(path).map_err(DatasetError::io(path))?;
        // SAFETY: the file got its name by a rename after it was complete, and this program never writes to or truncates a
        // file of that name. Someone else who does so breaks the store; `verify` finds changed bytes.
        let map = unsafe { Mmap::map(&file) }.map_err(DatasetError::io(path))?;
        let length = |at: &[u8; 4]| u32::from_le_bytes(*at) as usize;
        let json = map
            .get(8..12)
            .and_then(|four| four.first_chunk().map(length))
            .filter(|n| *n <= HEADER_BYTES - 12 && map.starts_with(MAGIC))
            .and_then(|n| map.get(12..12 + n))
            .ok_or_else(|| malformed("no header of this version"))?;
        let head: Head = serde_json::from_slice(json).map_err(|_| malformed("the header cannot be read"))?;
        if head.key != key {
            return Err(malformed("holds another case than its name says"));
        }
        let voxels = head.size.iter().try_fold(1usize, |n, s| n.checked_mul(*s));
        let whole = voxels.and_then(|n| n.checked_mul(if head.lungs { 3 } else { 2 })?.checked_add(HEADER_BYTES));
        let (Some(voxels), true) = (voxels, whole == Some(map.len())) else {
            return Err(malformed("is not as long as its grid needs"));
        };
        let geometry = Spacing::new(head.spacing)
            .and_then(|spacing| Geometry::new(head.size, spacing, WorldPoint(head.origin), head.direction))
            .map_err(|source| DatasetError::Geometry { file: name(path), source })?;
        Ok(Self { map, geometry, voxels, lungs: head.lungs, payload_sha256: head.payload_sha256, file: name(path) })
    }

    /// The grid of [`StoredCase::hu`].
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// HU, `[z, y, x]`, straight from the map.
    pub fn hu(&self) -> ArrayView3<'_, i16> {
        let voxels = bytemuck::cast_slice(&self.map[HEADER_BYTES..HEADER_BYTES + 2 * self.voxels]);
        ArrayView3::from_shape(self.geometry.size(), voxels).expect("as many voxels as the grid has")
    }

    /// Lung labels (1 right, 2 left), `[z, y, x]`, where the set has them.
    pub fn lungs(&self) -> Option<ArrayView3<'_, u8>> {
        let labels = &self.map[HEADER_BYTES + 2 * self.voxels..];
        self.lungs
            .then(|| ArrayView3::from_shape(self.geometry.size(), labels).expect("as many voxels as the grid has"))
    }

    /// HU of `size` voxels from `start` on, both `[z, y, x]`; air ([`AIR_HU`]) outside of the scan. Its grid is
    /// `self.geometry().window(start, size)`.
    pub fn patch(&self, start: [isize; 3], size: [usize; 3]) -> Array3<i16> {
        window(self.hu(), start, size, AIR_HU)
    }

    /// Lung labels of a patch; 0 outside of the scan.
    pub fn lung_patch(&self, start: [isize; 3], size: [usize; 3]) -> Option<Array3<u8>> {
        self.lungs().map(|lungs| window(lungs, start, size, 0))
    }

    /// Reads everything and compares it with the hash that was stored with it.
    ///
    /// # Errors
    /// [`Fault::ChangedFile`]
    pub fn verify(&self) -> Result<(), DatasetError> {
        let found = sha256(&self.map[HEADER_BYTES..]);
        if found == self.payload_sha256 {
            return Ok(());
        }
        let reason =
            format!("has SHA-256 {found}, stored was {}; remove it, it will be made again", self.payload_sha256);
        Err(DatasetError::Fault { fault: Fault::ChangedFile, file: self.file.clone(), line: None, reason })
    }
}

/// A copy of part of an array, row by row.
fn window<T: Copy>(from: ArrayView3<'_, T>, start: [isize; 3], size: [usize; 3], outside: T) -> Array3<T> {
    let limits = [from.dim().0, from.dim().1, from.dim().2];
    // Where the patch overlaps the array, in voxels of the patch.
    let first: [usize; 3] = std::array::from_fn(|i| (-start[i]).clamp(0, size[i] as isize) as usize);
    let end: [usize; 3] =
        std::array::from_fn(|i| (limits[i] as isize - start[i]).clamp(first[i] as isize, size[i] as isize) as usize);
    let mut patch = Vec::with_capacity(size.iter().product());
    for z in 0..size[0] {
        for y in 0..size[1] {
            let inside = (first[0]..end[0]).contains(&z) && (first[1]..end[1]).contains(&y) && first[2] < end[2];
            if !inside {
                patch.resize(patch.len() + size[2], outside);
                continue;
            }
            let at = |i: usize, v: usize| (start[i] + v as isize) as usize;
            let row = from.slice(ndarray::s![at(0, z), at(1, y), at(2, first[2])..at(2, end[2] - 1) + 1]);
            patch.resize(patch.len() + first[2], outside);
            patch.extend_from_slice(row.as_slice().expect("rows of the map lie in one piece"));
            patch.resize(patch.len() + size[2] - end[2], outside);
        }
    }
    Array3::from_shape_vec(size, patch).expect("as many voxels as the patch has")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Manifest, Part, Split};
    use crate::{hu_sha256, write_labels, write_volume};
    use lungai_imaging::resample;

    /// A case of 20 x 30 x 40 voxels of 2 x 1 x 1 mm with a lung mask, as a manifest loads it.
    fn case(folder: &Path) -> (Case, Volume) {
        let spacing = Spacing::new([2.0, 1.0, 1.0]).unwrap();
        let grid = Geometry::new([20, 30, 40], spacing, WorldPoint([-20.0, -15.0, 5.0]), Geometry::AXIAL).unwrap();
        let hu = Array3::from_shape_fn((20, 30, 40), |(z, y, x)| (z * 40 + y * 3 + x) as i16 - 900);
        let volume = Volume::new(hu, grid.clone()).unwrap();
        write_volume(&folder.join("a.mha"), &volume).unwrap();
        let lungs = Array3::from_shape_fn((20, 30, 40), |(_, _, x)| if x < 20 { 1 } else { 2 });
        write_labels(&folder.join("a.nii.gz"), &LabelMap::new(lungs, grid).unwrap()).unwrap();
        let lungs_sha256 = sha256(&std::fs::read(folder.join("a.nii.gz")).unwrap());
        let text = format!(
            "name: t\nversion: '1'\nsynthetic: true\nlicence: none\ncentres: [c]\ncases:\n- {{id: a, patient: p, centre: c, \
             split: train, series: {{path: a.mha, sha256: {}}}, lungs: {{path: a.nii.gz, sha256: {lungs_sha256}}}}}\n",
            hu_sha256(&volume)
        );
        std::fs::write(folder.join("manifest.yaml"), text).unwrap();
        (Manifest::load(folder).unwrap().cases(Split::Train).next().unwrap().clone(), volume)
    }

    #[test]
    fn a_patch_is_what_the_series_holds_and_air_outside() {
        let folder = tempfile::tempdir().unwrap();
        let (case, volume) = case(folder.path());
        let store = PatchStore::new(&folder.path().join("store"), StoreGrid::Native).unwrap();
        let stored = store.get(&case).unwrap();
        assert_eq!((stored.hu(), stored.geometry()), (volume.hu(), volume.geometry()));
        let (start, size) = ([-2, 28, 35], [4, 4, 8]);
        let patch = stored.patch(start, size);
        for ((z, y, x), hu) in patch.indexed_iter() {
            let at = [z as isize + start[0], y as isize + start[1], x as isize + start[2]].map(usize::try_from);
            let expected = match at {
                [Ok(z), Ok(y), Ok(x)] => volume.hu().get([z, y, x]).copied(),
                _ => None,
            };
            assert_eq!(*hu, expected.unwrap_or(AIR_HU));
        }
        let lungs = stored.lung_patch([0, 0, 18], [1, 1, 4]).unwrap();
        assert_eq!(lungs.iter().copied().collect::<Vec<_>>(), [1, 1, 2, 2]);
        assert!(stored.patch([100, 0, 0], [2, 2, 2]).iter().all(|hu| *hu == AIR_HU));
        stored.verify().unwrap();
    }

    #[test]
    fn a_resampled_store_holds_what_resampling_gives() {
        let folder = tempfile::tempdir().unwrap();
        let (case, volume) = case(folder.path());
        let store = PatchStore::new(&folder.path().join("store"), StoreGrid::Isotropic { mm: 1.5 }).unwrap();
        let stored = store.get(&case).unwrap();
        let target = volume.geometry().respaced(Spacing::new([1.5; 3]).unwrap());
        assert_eq!(stored.hu(), resample(&volume, &target).hu());
        assert_eq!(stored.lungs().unwrap().dim(), stored.hu().dim());
    }

    #[test]
    fn filling_goes_on_where_it_stopped_and_makes_damaged_files_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (case, _) = case(folder.path());
        let store = PatchStore::new(&folder.path().join("store"), StoreGrid::Native).unwrap();
        let fill = || {
            let mut new = 0;
            store.fill(&[&case], &mut |step| new += usize::from(!step.reused)).unwrap();
            new
        };
        assert_eq!((fill(), fill()), (1, 0));
        let path = store.path(&store.key(&case));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!((fill(), fill()), (1, 0));
        // A flipped bit is found by those who ask.
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 4;
        std::fs::write(&path, &bytes).unwrap();
        let error = store.get(&case).unwrap().verify().unwrap_err();
        assert_eq!(error.rule(), "changed-file");
        // Another mask, another file: nothing stale is ever read.
        let mut other = case.clone();
        other.lungs = Some(Part { path: "a.nii.gz".into(), sha256: "0".repeat(64) });
        assert_ne!(store.key(&other), store.key(&case));
    }
}
