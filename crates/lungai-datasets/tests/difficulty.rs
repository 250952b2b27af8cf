//! The check of a set's difficulty, on a set so small that its figures mean nothing; the shipped rules are tried on the shipped
//! sets by `cargo xtask dataset difficulty`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use lungai_datasets::difficulty::{Gate, draw_page, measure};
use lungai_datasets::recipe::Recipe;
use std::path::Path;

fn quick() -> Recipe {
    Recipe::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/phantom-quick.yaml")).unwrap()
}

/// One scan of each kind on a coarse grid and one setting of each detector.
fn coarse() -> Gate {
    let mut gate = Gate::shipped();
    (gate.tuning_scans, gate.test_scans, gate.grid_mm) = (1, 1, 2.5);
    gate.threshold.hu = vec![-500.0];
    gate.threshold.smoothing_mm = vec![0.0];
    gate.threshold.opening_mm = vec![0.0];
    gate.blobs.ceiling_hu = vec![-600.0];
    gate
}

#[test]
fn both_detectors_are_tried_on_three_profiles() {
    let mut seen = Vec::new();
    let report = measure(&quick(), &coarse(), &mut |done, total| seen.push((done, total))).unwrap();
    assert_eq!(seen, [(1, 6), (2, 6), (3, 6), (4, 6), (5, 6), (6, 6)]);
    assert_eq!(report.profiles.len(), 3);
    for profile in &report.profiles {
        assert!(profile.nodules > 0 && profile.scans == 1);
        for tuned in [&profile.threshold, &profile.blobs] {
            assert!((0.0..=1.0).contains(&tuned.cpm) && tuned.interval[0] <= tuned.interval[1]);
        }
    }
    // Four rules; what they say follows from the figures.
    assert_eq!(report.rules.len(), 4);
    let standard = report.profiles[1].threshold.cpm;
    assert_eq!(report.rules[0].1, (0.3..=0.6).contains(&standard));
    assert_eq!(report.passed(), report.rules.iter().all(|rule| rule.1));
    // Two detectors, two steps; each fall is the difference of what the profiles say.
    let cpm = |profile: usize| [report.profiles[profile].threshold.cpm, report.profiles[profile].blobs.cpm];
    for (fall, (step, detector)) in report.falls.iter().zip([(0, 0), (1, 0), (0, 1), (1, 1)]) {
        assert!((fall.cpm - (cpm(step)[detector] - cpm(step + 1)[detector])).abs() < 1e-12);
        assert!(fall.interval[0] <= fall.cpm && fall.cpm <= fall.interval[1]);
    }
    assert_eq!(report.falls.len(), 4);
    assert!(report.text().contains("SYNTHETIC"));
    // Lung, vessels, muscle, diameters, counts, kinds; each distance is a number and names its source.
    assert_eq!(report.compared.len(), 6);
    for compared in &report.compared {
        assert!(compared.distance.is_finite() && !compared.source.is_empty(), "{}", compared.what);
    }
}

#[test]
fn a_page_shows_each_test_centre_in_four_views() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slices.png");
    draw_page(&quick(), &path).unwrap();
    let mut reader = png::Decoder::new(std::fs::File::open(&path).unwrap()).read_info().unwrap();
    let centres = quick().centres.iter().filter(|centre| centre.test > 0).count();
    assert_eq!((reader.info().width, reader.info().height), (4 * 380, 300 * centres as u32));
    let mut pixels = vec![0; reader.output_buffer_size()];
    reader.next_frame(&mut pixels).unwrap();
    for view in 0..4 {
        let bright =
            pixels.chunks(4 * 380).flat_map(|line| &line[view * 380..(view + 1) * 380]).filter(|p| **p > 200).count();
        assert!(bright > 5000, "view {view} shows tissue");
    }
}

#[test]
fn rules_that_cannot_be_followed_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.yaml");
    let shipped =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../validation/difficulty.yaml"))
            .unwrap();
    let refused = |from: &str, to: &str| {
        let changed = shipped.replacen(from, to, 1);
        assert_ne!(changed, shipped);
        std::fs::write(&path, changed).unwrap();
        Gate::load(&path).unwrap_err().to_string()
    };
    assert!(refused("grid_mm: 1.25", "grid_mm: 0.1").ends_with("grid_mm must be within 0.5..=3"));
    assert!(
        refused("size_power: [-0.5, 0.0, 0.5]", "size_power: []")
            .ends_with("blobs.size_power must be a list within -2..=2")
    );
    assert!(refused("grid_mm:", "gird_mm:").contains("did you mean `grid_mm`?"));

    let mut recipe = quick();
    recipe.centres.retain(|centre| centre.test > 0);
    let error = measure(&recipe, &coarse(), &mut |_, _| ()).unwrap_err().to_string();
    assert!(error.contains("a centre with training cases and one with test cases"), "{error}");
}
