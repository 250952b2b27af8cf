//! The patch store against what it saves: reading the series.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use lungai_ct::{Acquisition, Geometry, Spacing, Volume, WorldPoint};
use lungai_datasets::{Manifest, PatchStore, Split, StoreGrid, hu_sha256};
use lungai_dicom::{SeriesTags, write_series};
use ndarray::Array3;
use std::time::Instant;

lungai_dicom::worker_in_tests!();

#[test]
fn a_patch_from_the_store_takes_less_than_a_twentieth_of_reading_the_series() {
    let folder = tempfile::tempdir().unwrap();
    let spacing = Spacing::new([1.25, 0.7, 0.7]).unwrap();
    let size = [120, 384, 384];
    let grid = Geometry::new(size, spacing, WorldPoint([-134.0, -134.0, 0.0]), Geometry::AXIAL).unwrap();
    let hu = Array3::from_shape_fn(size, |(z, y, x)| (((z * 31 + y * 17 + x * 7) % 1400) as i16) - 1000);
    let volume = Volume::new(hu, grid).unwrap();
    let tags = SeriesTags::synthetic("SYN-1", "scan");
    write_series(&volume, &Acquisition::default(), &tags, &folder.path().join("dicom")).unwrap();
    let text = format!(
        "name: t\nversion: '1'\nsynthetic: true\nlicence: none\ncentres: [c]\ncases:\n- {{id: a, patient: p, centre: c, \
         split: train, series: {{path: dicom, sha256: {}}}}}\n",
        hu_sha256(&volume)
    );
    std::fs::write(folder.path().join("manifest.yaml"), text).unwrap();
    let manifest = Manifest::load(folder.path()).unwrap();
    let case = manifest.cases(Split::Train).next().unwrap();

    let start = Instant::now();
    let scan = case.load_scan().unwrap();
    let reading = start.elapsed().as_secs_f64();
    let store = PatchStore::new(&folder.path().join("store"), StoreGrid::Native).unwrap();
    let start = Instant::now();
    store.get(case).unwrap();
    let storing = start.elapsed().as_secs_f64();

    // Once with the case opened anew for each patch, once with the case kept open as a worker would.
    let (edge, patches) = (96, 50);
    let corner = |at: usize| [at % 24, (at * 37) % 288, (at * 53) % 288].map(|v| v as isize);
    let start = Instant::now();
    for at in 0..patches {
        assert_eq!(store.get(case).unwrap().patch(corner(at), [edge; 3]).len(), edge * edge * edge);
    }
    let opened = start.elapsed().as_secs_f64() / patches as f64;
    let stored = store.get(case).unwrap();
    let start = Instant::now();
    for at in 0..patches {
        assert_eq!(stored.patch(corner(at), [edge; 3]).len(), edge * edge * edge);
    }
    let kept = start.elapsed().as_secs_f64() / patches as f64;
    println!(
        "series {reading:.3} s, storing {storing:.3} s, {edge}^3 patch {:.2} ms, of an open case {:.2} ms",
        opened * 1e3,
        kept * 1e3
    );
    assert!(kept * 3.0 < reading, "patch {kept} s, series {reading} s");

    let corner = [20, 100, 200];
    let patch = store.get(case).unwrap().patch(corner.map(|v| v as isize), [4; 3]);
    assert_eq!(patch, scan.volume.hu().slice(ndarray::s![20..24, 100..104, 200..204]));
}
