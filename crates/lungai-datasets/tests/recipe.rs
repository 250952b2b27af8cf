//! Making a synthetic data set, from the recipe's text to what a training run would load.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use lungai_datasets::recipe::{Keep, Progress, Recipe, Storage, make, make_with};
use lungai_datasets::{DatasetError, Manifest, Split};
use lungai_trace::verifies;
use rayon::prelude::*;
use std::path::Path;
use std::sync::Mutex;

lungai_dicom::worker_in_tests!();

/// Two patients of a coarse scanner at two centres.
const TINY: &str = "
name: tiny
version: '1'
licence: CC0-1.0
seed: 3
centres:
  - &centre
    name: near
    train: 1
    tune: 0
    test: 0
    scanner: { manufacturer: LungAI, model: Coarse, matrix: 96, pixel_spacing_mm: 3.6, slice_spacing_mm: 5.0,
      slice_thickness_mm: 5.0, coverage_margin_mm: 10.0, centre_mm: [0.0, 0.0], kernel: standard, kernel_name: STANDARD,
      tube_kv: 120, exposure_mas: 100, noise_sd_hu: 20.0, bias_hu: 0.0 }
    case_mix: &mix { difficulty: easy, body_scale: [0.9, 0.95], nodules_mean: 4.0, nodules_max: 6, diameter_median_mm: 12.0,
      diameter_log_sd: 0.3, diameter_offset_mm: 0.0, diameter_range_mm: [6.0, 25.0],
      kinds: { solid: 1.0, part_solid: 0.0, ground_glass: 0.0, calcified: 0.0 },
      juxtapleural_share: 0.2, juxtavascular_share: 0.2, upper_lobe_share: 0.5,
      emphysema_share: 0.0, fibrosis_share: 0.0,
      mimics: { bifurcation_bulges: 1.0, lymph_nodes: 0.0, scars: 0.0, plaques: 0.0, micronodules: 2.0, mucus_plugs: 0.0 } }
  - name: far
    train: 0
    tune: 0
    test: 1
    scanner: { manufacturer: LungAI, model: Coarse, matrix: 80, pixel_spacing_mm: 4.0, slice_spacing_mm: 4.5,
      slice_thickness_mm: 5.0, coverage_margin_mm: 10.0, centre_mm: [0.0, 0.0], kernel: soft, kernel_name: SOFT,
      tube_kv: 120, exposure_mas: 50, noise_sd_hu: 20.0, bias_hu: 5.0 }
    case_mix: *mix
";

fn recipe(folder: &Path, text: &str) -> Result<Recipe, DatasetError> {
    let path = folder.join("recipe.yaml");
    std::fs::write(&path, text).unwrap();
    Recipe::load(&path)
}

/// Makes the set and says which cases were new.
fn made(recipe: &Recipe, folder: &Path) -> (Manifest, Vec<String>) {
    let new = Mutex::new(Vec::new());
    let manifest = make(recipe, folder, &|Progress { case, reused, .. }| {
        if !reused {
            new.lock().unwrap().push(case);
        }
    })
    .unwrap();
    let mut new = new.into_inner().unwrap();
    new.sort();
    (manifest, new)
}

#[verifies("FR-001")]
#[test]
fn a_recipe_becomes_dicom_series_whose_truth_fits() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), TINY).unwrap();
    let set = folder.path().join("set");
    let (manifest, new) = made(&recipe, &set);
    assert_eq!(new, ["far-001", "near-001"]);
    assert!(manifest.synthetic);
    manifest.check(&mut |_| ()).unwrap(); // reads the DICOM files back and compares every voxel by hash

    let case = manifest.cases(Split::Test).next().unwrap();
    let scan = case.load_scan().unwrap();
    assert_eq!(scan.volume.geometry().spacing().zyx_mm(), [4.5, 4.0, 4.0]);
    assert_eq!(scan.acquisition.kernel.as_deref(), Some("SOFT"));
    let lungs = case.load_lungs(scan.volume.geometry()).unwrap();
    assert!(lungs.volume_ml(1) > 1000.0 && lungs.volume_ml(2) > 1000.0);
    assert!(!case.nodules().unwrap().is_empty());
    let first = std::fs::read(set.join("cases/far-001/dicom/000001.dcm")).unwrap();
    let says_so = |words: &[u8]| first.windows(words.len()).any(|window| window == words);
    assert!(says_so(b"SYNTHETIC digital chest phantom") && says_so(b"AXIAL\\SYNTHETIC"));
}

#[test]
fn masks_of_lobes_airways_vessels_and_nodules_are_stored_where_they_are_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), TINY).unwrap();
    let set = folder.path().join("set");
    let keep = Keep { storage: Storage::AllButTest, masks: true };
    let manifest = make_with(&recipe, &set, keep, &|_| ()).unwrap();
    manifest.check(&mut |_| ()).unwrap();
    let case = manifest.cases(Split::Train).next().unwrap();
    assert_eq!(case.masks.keys().collect::<Vec<_>>(), ["airways", "lobes", "nodules", "vessels"]);
    let grid = case.load_scan().unwrap().volume.geometry().clone();
    let (lungs, lobes) = (case.load_lungs(&grid).unwrap(), case.load_mask("lobes", &grid).unwrap());
    // Three lobes on the right, two on the left, and together the lungs.
    for (lobe, lung) in lobes.as_slice().iter().zip(lungs.as_slice()) {
        assert_eq!(*lung, [0, 1, 1, 1, 2, 2][usize::from(*lobe)]);
    }
    let (airways, vessels) = (case.load_mask("airways", &grid).unwrap(), case.load_mask("vessels", &grid).unwrap());
    for label in 1..=2 {
        assert!(airways.volume_ml(label) > 0.0 && vessels.volume_ml(label) > 1.0, "{label}");
    }
    let nodules = case.load_mask("nodules", &grid).unwrap();
    for nodule in case.nodules().unwrap().iter().filter(|nodule| !nodule.excluded) {
        let label = nodule.id.trim_start_matches('n').parse().unwrap();
        let (found, truth) = (1000.0 * nodules.volume_ml(label), nodule.volume_mm3.unwrap());
        // Voxels of 65 mm3: the count of those whose centre lies inside is off by their surface's.
        assert!((found / truth - 1.0).abs() < 0.35, "{}: {found} mm3 of {truth}", nodule.id);
    }
    assert_eq!(case.load_mask("heart", &grid).unwrap_err().rule(), "no-truth");
    // Rendered on demand they are the same, right after the scan and without it.
    let lean = make_with(&recipe, &folder.path().join("lean"), Keep { storage: Storage::None, masks: true }, &|_| ());
    let lean = lean.unwrap();
    let twin = lean.cases(Split::Train).next().unwrap();
    for (name, stored) in [("lobes", &lobes), ("vessels", &vessels), ("airways", &airways), ("nodules", &nodules)] {
        assert_eq!(twin.load_mask(name, &grid).unwrap().labels(), stored.labels(), "{name}");
    }
    twin.load_scan().unwrap();
    assert_eq!(twin.load_mask("lobes", &grid).unwrap().labels(), lobes.labels());
    assert_eq!(twin.load_lungs(&grid).unwrap().labels(), lungs.labels());
    assert_eq!(twin.load_mask("heart", &grid).unwrap_err().rule(), "no-truth");
    // A damaged mask is found.
    std::fs::write(set.join(&case.masks["vessels"].path), b"damaged").unwrap();
    assert_eq!(manifest.check(&mut |_| ()).unwrap_err().rule(), "checksum-mismatch");
}

/// The far centre of [`TINY`], its patient scanned again: lying differently, on another scanner, and a year later.
fn tiny_again() -> String {
    let further = "
    further_scans:
      - { name: rescan, days: 0.0, repositioned: true }
      - name: other
        days: 0.0
        repositioned: false
        scanner: { manufacturer: LungAI, model: Other, matrix: 88, pixel_spacing_mm: 4.0, slice_spacing_mm: 7.0,
          slice_thickness_mm: 7.0, coverage_margin_mm: 10.0, centre_mm: [0.0, 0.0], kernel: sharp, kernel_name: B80,
          tube_kv: 120, exposure_mas: 100, noise_sd_hu: 20.0, bias_hu: 0.0 }
      - { name: year-1, days: 365.0, repositioned: true }
";
    TINY.replace("seed: 3", "seed: 5").trim_end().to_owned() + further
}

#[test]
fn the_same_patients_are_scanned_again_on_another_scanner_and_a_year_later() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), &tiny_again()).unwrap();
    let stored = made(&recipe, &folder.path().join("stored")).0;
    stored.check(&mut |_| ()).unwrap();
    let lean = make_with(&recipe, &folder.path().join("lean"), Keep { storage: Storage::None, masks: false }, &|_| ());
    let [a, b] = [&stored, &lean.unwrap()].map(|set| set.all_cases().last().unwrap().clone());
    assert_eq!(a.load_scan().unwrap().volume.hu(), b.load_scan().unwrap().volume.hu());
    assert_eq!(a.nodules().unwrap(), b.nodules().unwrap());

    let cases: Vec<_> = stored.cases(Split::Test).collect();
    let ids: Vec<_> = cases.iter().map(|case| case.id.as_str()).collect();
    assert_eq!(ids, ["far-001", "far-001-rescan", "far-001-other", "far-001-year-1"]);
    assert!(cases.iter().all(|case| case.patient == "SYN-far-001"));
    assert_eq!(cases[0].follows, None);
    let follows = cases[3].follows.clone().unwrap();
    assert_eq!((follows.case.as_str(), follows.days), ("far-001", 365.0));
    assert_eq!(cases[2].load_scan().unwrap().acquisition.kernel.as_deref(), Some("B80"));

    let tables: Vec<_> = cases.iter().map(|case| case.nodules().unwrap()).collect();
    let nodules = |table: usize| tables[table].iter().filter(|nodule| !nodule.excluded);
    let mut grown = 0;
    for first in nodules(0) {
        let again = |table: usize| nodules(table).find(|nodule| nodule.id == first.id).unwrap();
        // The same day: the same nodule, some mm off where the patient got up in between.
        let moved = again(1).position.distance_mm(first.position);
        assert!(moved > 0.1 && moved < 40.0, "{moved} mm");
        assert_eq!((again(1).volume_mm3, again(1).doubling_days), (first.volume_mm3, None));
        assert_eq!(again(2).position, first.position);
        // A year later: V2 = V1 2^(days / doubling), to the last digits that the tables hold.
        let (v1, v2) = (first.volume_mm3.unwrap(), again(3).volume_mm3.unwrap());
        let doubling = again(3).doubling_days.unwrap();
        assert!((v2 / (v1 * (365.0 / doubling).exp2()) - 1.0).abs() < 1e-9);
        assert_eq!(doubling.is_finite(), first.malignant.unwrap());
        grown += usize::from(v2 > v1);
    }
    assert!(grown > 0, "a patient without a growing nodule shows nothing");

    // Who is followed is part of what the set is.
    let text = std::fs::read_to_string(folder.path().join("stored/manifest.yaml")).unwrap();
    let changed = text.replace("days: 365.0", "days: 300.0");
    std::fs::write(folder.path().join("stored/manifest.yaml"), &changed).unwrap();
    let other = Manifest::load(&folder.path().join("stored")).unwrap();
    assert_ne!(changed, text);
    assert_ne!(other.fingerprint(), stored.fingerprint());
    std::fs::write(folder.path().join("stored/manifest.yaml"), text.replace("case: far-001", "case: near-001"))
        .unwrap();
    let error = Manifest::load(&folder.path().join("stored")).unwrap_err().to_string();
    assert!(error.contains("follows must name a first scan of the same patient"), "{error}");
}

#[verifies("FR-001")]
#[test]
fn a_second_run_keeps_what_is_current_and_makes_anew_what_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let recipe_1 = recipe(folder.path(), TINY).unwrap();
    let set = folder.path().join("set");
    let fingerprint = made(&recipe_1, &set).0.fingerprint();
    let text = std::fs::read(set.join("manifest.yaml")).unwrap();

    // Nothing changed; then an interrupted case; then another dose at one centre; then the first recipe again.
    assert_eq!(made(&recipe_1, &set).1, [] as [&str; 0]);
    assert_eq!(std::fs::read(set.join("manifest.yaml")).unwrap(), text);
    std::fs::rename(set.join("cases/near-001"), set.join("cases/.near-001.part")).unwrap();
    assert_eq!(made(&recipe_1, &set).1, ["near-001"]);
    let recipe_2 = recipe(folder.path(), &TINY.replace("exposure_mas: 50", "exposure_mas: 20")).unwrap();
    let (changed, new) = made(&recipe_2, &set);
    assert_eq!(new, ["far-001"]);
    assert_ne!(changed.fingerprint(), fingerprint);
    assert_eq!(made(&recipe_1, &set).0.fingerprint(), fingerprint);

    let other = recipe(folder.path(), &TINY.replace("name: tiny", "name: other")).unwrap();
    let error = make(&other, &set, &|_| ()).unwrap_err();
    assert!(error.to_string().contains("the folder holds the data set tiny"), "{error}");
}

#[test]
fn a_set_that_was_not_finished_and_one_that_is_nowhere_are_told_apart_by_the_path_that_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("set");
    let nowhere = Manifest::load(&set.join("manifest.yaml")).unwrap_err();
    assert_eq!(nowhere.rule(), "file-access");
    assert!(nowhere.to_string().starts_with(&format!("{}/manifest.yaml: ", set.display())), "{nowhere}");

    // The manifest is written last.
    made(&recipe(folder.path(), TINY).unwrap(), &set);
    std::fs::remove_file(set.join("manifest.yaml")).unwrap();
    for given in [set.join("manifest.yaml"), set.clone()] {
        let unfinished = Manifest::load(&given).unwrap_err();
        assert_eq!(unfinished.rule(), "incomplete-set");
        let words = format!("{}: this data set is not finished; ", set.display());
        assert!(unfinished.to_string().starts_with(&words), "{unfinished}");
    }
    assert!(
        Recipe::load(&folder.path().join("no.yaml"))
            .unwrap_err()
            .to_string()
            .starts_with(folder.path().to_str().unwrap())
    );
}

#[test]
fn a_recipe_that_cannot_be_followed_is_refused_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let check = |from: &str, to: &str, expected: &str| {
        let text = TINY.replacen(from, to, 1);
        assert_ne!(text, TINY);
        assert_eq!(recipe(folder.path(), &text).unwrap_err().to_string(), expected);
    };
    check(
        "test: 1",
        "test: 1\n    Tune: 1",
        "recipe.yaml, line 25: centres[1]: unknown field `Tune`, expected one of \
        `name`, `train`, `tune`, `test`, `scanner`, `case_mix`, `further_scans`; did you mean `tune`?",
    );
    check(
        "train: 0\n    tune: 0\n    test: 1",
        "train: 1\n    tune: 0\n    test: 1",
        "recipe.yaml, line 21: centre far: has test cases and others; a test centre must be unseen",
    );
    check(
        "matrix: 80",
        "matrix: 8",
        "recipe.yaml, line 21: centre far: scanner.matrix is 8; it must be within 16..=1024",
    );
    check("name: far", "name: near", "recipe.yaml, line 8: centre near: occurs twice");
    let again = |scans: &str| format!("case_mix: *mix\n    further_scans: [{scans}]");
    check(
        "case_mix: *mix",
        &again("{ name: rescan, days: -1.0, repositioned: true }"),
        "recipe.yaml, line 21: centre far: further scan rescan: days is -1; it must be within 0..=3650",
    );
    check(
        "  - name: far",
        "    further_scans: [{ name: \"001\", days: 0.0, repositioned: true }]\n  - name: near-001",
        "recipe.yaml, line 22: centre near-001: two cases would be called near-001-001; rename a centre or a further scan",
    );
    check(
        "case_mix: *mix",
        &again("{ name: a, days: 0.0, repositioned: true }, { name: a, days: 1.0, repositioned: true }"),
        "recipe.yaml, line 21: centre far: further scan a: occurs twice",
    );
}

#[test]
fn the_shipped_recipes_are_sound_and_keep_their_test_centres_unseen() {
    for name in ["phantom-quick", "phantom-8c", "phantom-small", "phantom-repeat"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../datasets/{name}.yaml"));
        let recipe = Recipe::load(&path).unwrap();
        assert_eq!(recipe.name, name);
        assert!(recipe.centres.iter().any(|centre| centre.test > 0));
        assert!(recipe.centres.iter().any(|centre| centre.train > 0 && centre.tune > 0));
    }
}

fn shipped(name: &str) -> Recipe {
    Recipe::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../datasets/{name}.yaml"))).unwrap()
}

#[test]
fn eight_centres_three_unseen_and_enough_nodules_to_decide_on_a_bound_of_0_95() {
    let recipe = shipped("phantom-8c");
    let kind = |word: &str| recipe.centres.iter().filter(|centre| centre.name.ends_with(word)).count();
    assert_eq!([kind("-hospital"), kind("-screening"), recipe.centres.len()], [5, 3, 8]);
    let unseen: Vec<_> = recipe.centres.iter().filter(|centre| centre.train + centre.tune == 0).collect();
    assert_eq!(unseen.len(), 3);
    let (mut spacing, mut thickness) = (Vec::new(), Vec::new());
    for centre in &recipe.centres {
        spacing.push(centre.scanner.pixel_spacing_mm);
        thickness.push(centre.scanner.slice_thickness_mm);
    }
    spacing.sort_by(f64::total_cmp);
    thickness.sort_by(f64::total_cmp);
    assert_eq!([spacing[0], spacing[7]], [0.55, 0.9]);
    assert_eq!([thickness[0], thickness[7]], [0.625, 2.5]);
    let kernels: std::collections::BTreeSet<_> = recipe.centres.iter().map(|c| &c.scanner.kernel_name).collect();
    assert_eq!(kernels.len(), 8);

    // Counted from scenes: nothing is rendered.
    let test: Vec<_> = recipe.patients().filter(|patient| patient.split == Split::Test).collect();
    assert!(test.len() >= 150, "{} test scans", test.len());
    let nodules: usize = test
        .par_iter()
        .map(|patient| {
            let scanner = &patient.centre.scanner;
            let scene = patient.scene();
            let reference = scene.reference(scanner, &scanner.geometry(&scene), patient.scan_seed());
            reference.iter().filter(|n| !n.excluded && n.diameter_mm >= 6.0).count()
        })
        .sum();
    assert!(nodules >= 500, "{nodules} test nodules of 6 mm and more");
}

#[verifies("FR-001")]
#[test]
fn a_case_rendered_on_demand_is_the_stored_one() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), TINY).unwrap();
    let stored = made(&recipe, &folder.path().join("stored")).0;
    let lean = folder.path().join("lean");
    let on_demand = make_with(&recipe, &lean, Keep { storage: Storage::None, masks: false }, &|_| ()).unwrap();
    for (a, b) in stored.all_cases().iter().zip(on_demand.all_cases()) {
        let (one, other) = (a.load_scan().unwrap(), b.load_scan().unwrap());
        assert!(one.volume.hu() == other.volume.hu());
        assert_eq!(one.series_uid, other.series_uid);
        assert_eq!(one.acquisition, other.acquisition);
        assert_eq!(one.transfer_syntax, other.transfer_syntax);
        let (grid, same) = (one.volume.geometry(), other.volume.geometry());
        assert!(grid.origin().distance_mm(same.origin()) < 1e-3 && grid.size() == same.size());
        for _ in 0..2 {
            // Right after the scan, and once more.
            assert_eq!(a.load_lungs(grid).unwrap().labels(), b.load_lungs(same).unwrap().labels());
        }
        assert_eq!(a.nodules().unwrap(), b.nodules().unwrap());
        assert_eq!((&a.id, &a.patient, a.split), (&b.id, &b.patient, b.split));
    }
    let size: u64 = walk(&lean).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(size < 20_000, "{size} bytes for two scans");

    // A second run keeps them; a stored one in the same place replaces them.
    let reused = Mutex::new(0);
    make_with(&recipe, &lean, Keep { storage: Storage::None, masks: false }, &|step| {
        *reused.lock().unwrap() += usize::from(step.reused)
    })
    .unwrap();
    assert_eq!(reused.into_inner().unwrap(), 2);
    assert_eq!(make(&recipe, &lean, &|_| ()).unwrap().fingerprint(), stored.fingerprint());
    let mixed = make_with(&recipe, &lean, Keep { storage: Storage::AllButTest, masks: false }, &|_| ()).unwrap();
    assert_eq!(mixed.all_cases()[0].series.path.file_name().unwrap(), "dicom");
    assert_eq!(mixed.all_cases()[1].series.path.file_name().unwrap(), "render.json");
}

#[verifies("FR-001")]
#[test]
fn a_rendering_that_is_not_what_was_made_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), TINY).unwrap();
    let set = folder.path().join("set");
    make_with(&recipe, &set, Keep { storage: Storage::None, masks: false }, &|_| ()).unwrap();
    let file = set.join("cases/far-001/render.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let manifest_text = std::fs::read_to_string(set.join("manifest.yaml")).unwrap();
    // What the file says is changed, and the manifest made to fit: someone wants to deceive, or the program is another one.
    let refused = |from: &str, to: &str| {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        std::fs::write(&file, &changed).unwrap();
        let sums = [&text, &changed].map(|text| lungai_datasets::sha256(text.as_bytes()));
        std::fs::write(set.join("manifest.yaml"), manifest_text.replace(&sums[0], &sums[1])).unwrap();
        let manifest = Manifest::load(&set).unwrap();
        let error = manifest.cases(Split::Test).next().unwrap().load_scan().unwrap_err().to_string();
        std::fs::write(&file, &text).unwrap();
        error
    };
    let line = |key: &str| text.lines().find(|line| line.contains(key)).unwrap().to_owned();
    let zeros = |key: &str| format!("  \"{key}\": \"{}\"", "0".repeat(64));
    let error = refused(line("generator_sha256").trim_end_matches(','), &zeros("generator_sha256"));
    assert!(error.contains("not the one that the set was made with"), "{error}");
    let error = refused("\"diameter_median_mm\": 12.0", "\"diameter_median_mm\": 13.0");
    assert!(error.contains("far-001") && error.contains("scene"), "{error}");
    let error = refused("\"bias_hu\": 5.0", "\"bias_hu\": 6.0");
    assert!(error.contains("witness voxels"), "{error}");
    let error = refused("\"matrix\": 80", "\"matrix\": 8");
    assert!(error.contains("scanner.matrix is 8"), "{error}");

    std::fs::write(set.join("manifest.yaml"), &manifest_text).unwrap();
    std::fs::write(&file, text.replace("\"bias_hu\": 5.0", "\"bias_hu\": 6.0")).unwrap();
    let error = Manifest::load(&set).unwrap().check(&mut |_| ()).unwrap_err();
    assert!(matches!(error, DatasetError::Checksum { part: "series", .. }), "{error}");
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}
