//! Sets of others, from their own tables to what a training run would load; and every way in which they may be wrong.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use lungai_ct::{Acquisition, Geometry, LabelMap, Spacing, Volume, VoxelIndex, WorldPoint};
use lungai_datasets::import::{Import, ImportConfig, Progress, Tables, import};
use lungai_datasets::{DatasetError, Manifest, PatchStore, Split, StoreGrid, verify, write_labels, write_volume};
use lungai_dicom::{SeriesTags, write_series};
use lungai_trace::verifies;
use ndarray::Array3;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

lungai_dicom::worker_in_tests!();

/// The configuration that is shipped for a kind, with some lines changed.
fn config(kind: &str, changes: &[(&str, &str)]) -> ImportConfig {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../datasets/import-{kind}.yaml"));
    let mut text = std::fs::read_to_string(shipped).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "no `{from}`");
        text = text.replacen(from, to, 1);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("import.yaml");
    std::fs::write(&path, text).unwrap();
    ImportConfig::load(&path).unwrap()
}

/// A volume of 40 x 40 x 40 voxels of 10 mm around the origin, filled with `fill`.
fn volume(fill: i16) -> Volume {
    let spacing = Spacing::new([2.0, 10.0, 10.0]).unwrap();
    let grid = Geometry::new([40, 40, 40], spacing, WorldPoint([-195.0, -195.0, -40.0]), Geometry::AXIAL).unwrap();
    Volume::new(Array3::from_elem((40, 40, 40), fill), grid).unwrap()
}

const HEADER: &str = "seriesuid,coordX,coordY,coordZ,diameter_mm\n";

/// Four series of LUNA16's kind in three subsets; `a` and `b` are of one patient, the subset of `d` is held out.
struct Luna {
    folder: tempfile::TempDir,
    images: PathBuf,
    out: PathBuf,
}

impl Luna {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let images = folder.path().join("luna");
        for (i, file) in ["subset0/a", "subset0/b", "subset1/c", "subset9/d"].iter().enumerate() {
            let path = images.join(format!("{file}.mhd"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            write_volume(&path, &volume(i as i16 - 900)).unwrap();
        }
        let luna = Self { out: folder.path().join("set"), images, folder };
        luna.table("annotations.csv", &format!("{HEADER}a,1,2,3,5.5\nd,-10.5,20,30,8\na,50,50,0,12\n"));
        luna.table("annotations_excluded.csv", &format!("{HEADER}c,0,0,0,-1\na,9,9,9,3.5\n"));
        luna.table("patients.csv", "PatientID StudyInstanceUID SeriesInstanceUID \nP1 1 a \nP1 1 b \nP2 2 c\nP3 3 d\n");
        luna
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn table(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The set, and how many files were read anew.
    fn run(&self, config: &ImportConfig, copy: bool) -> (Result<Manifest, DatasetError>, usize) {
        let mut new = 0;
        let result = self.request(config, copy, &mut |step| new += usize::from(!step.reused));
        (result, new)
    }

    fn request(
        &self,
        config: &ImportConfig,
        copy: bool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Manifest, DatasetError> {
        let tables = Tables::Luna16 {
            annotations: self.path("annotations.csv"),
            excluded: Some(self.path("annotations_excluded.csv")),
        };
        let patients = self.path("patients.csv");
        let request = Import { config, images: &self.images, tables, patients: Some(&patients), out: &self.out, copy };
        import(&request, progress)
    }

    fn import(&self) -> Result<Manifest, DatasetError> {
        self.run(&config("luna16", &[]), false).0
    }

    /// Every file with its time: whether anything was touched.
    fn times(folder: &Path) -> BTreeMap<PathBuf, SystemTime> {
        let mut times = BTreeMap::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    times.insert(path.clone(), path.metadata().unwrap().modified().unwrap());
                }
            }
        }
        times
    }
}

fn check(result: Result<Manifest, DatasetError>, rule: &str, message: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.rule().as_str(), error.to_string().as_str()), (rule, message));
}

#[verifies("FR-001")]
#[test]
fn luna16_becomes_a_set_whose_images_stay_where_they_are() {
    let luna = Luna::new();
    let before = Luna::times(&luna.images);
    let manifest = luna.import().unwrap();
    assert_eq!(Luna::times(&luna.images), before);
    assert!(!manifest.synthetic);
    manifest.check(&mut |_| ()).unwrap(); // reads every series by its path elsewhere

    let of = |split| manifest.cases(split).map(|case| case.id.as_str()).collect::<Vec<_>>();
    assert_eq!(of(Split::Test), ["d"]);
    assert_eq!(of(Split::Train).len() + of(Split::Tune).len(), 3);
    let case = |id: &str| manifest.all_cases().iter().find(|case| case.id == id).unwrap();
    assert_eq!(case("a").split, case("b").split);
    let nodules = case("a").nodules().unwrap();
    assert_eq!(nodules.iter().map(|n| n.diameter_mm).collect::<Vec<_>>(), [5.5, 12.0, 3.5]);
    assert_eq!(nodules.iter().map(|n| n.excluded).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(case("c").nodules().unwrap()[0].diameter_mm, 10.0); // LUNA16's 10 mm for what nobody measured
    assert_eq!(case("b").nodules().unwrap(), []);

    let flow = &manifest.provenance.as_ref().unwrap().flow;
    assert_eq!((flow.found.series, flow.found.patients, flow.included.series), (4, 3, 4));
    assert_eq!((flow.nodules, flow.ignored_findings), (3, 2));
    assert_eq!(flow.splits["test"].patients, 1);
    assert_eq!(verify(&luna.out, &|_, _| ()).unwrap().1.len(), 0);
}

#[test]
fn a_second_import_reads_only_what_is_new_and_moves_nobody() {
    let luna = Luna::new();
    let shipped = config("luna16", &[]);
    let (first, new) = luna.run(&shipped, false);
    assert_eq!(new, 4);
    let splits = std::fs::read_to_string(luna.out.join("splits.csv")).unwrap();
    assert_eq!(luna.run(&shipped, false).1, 0);
    for i in 0..12 {
        write_volume(&luna.images.join(format!("subset1/e{i}.mha")), &volume(i)).unwrap();
    }
    let more: String = (0..12).map(|i| format!("Q{i} 1 e{i}\n")).collect();
    let patients = std::fs::read_to_string(luna.path("patients.csv")).unwrap();
    luna.table("patients.csv", &(patients + &more));
    let (second, new) = luna.run(&shipped, false);
    assert_eq!(new, 12);
    let lines = std::fs::read_to_string(luna.out.join("splits.csv")).unwrap();
    assert!(splits.lines().all(|line| lines.contains(line)), "{splits}\n{lines}");
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_ne!(first.fingerprint(), second.fingerprint());
    // 13 patients of subset1 (P2 and 12 more), a tenth of which is 1.3.
    let tuning = second.cases(Split::Tune).filter(|case| case.centre == "subset1").count();
    assert_eq!(tuning, 1);
}

#[test]
fn copied_images_make_a_set_that_can_be_moved() {
    let luna = Luna::new();
    luna.run(&config("luna16", &[]), true).0.unwrap();
    let moved = luna.path("moved");
    std::fs::rename(&luna.out, &moved).unwrap();
    std::fs::remove_dir_all(&luna.images).unwrap();
    let manifest = Manifest::load(&moved).unwrap();
    assert_eq!(manifest.images, None);
    manifest.check(&mut |_| ()).unwrap();
    assert_eq!(verify(&moved, &|_, _| ()).unwrap().1.len(), 0);
}

#[verifies("FR-001")]
#[test]
fn an_import_that_stops_while_it_copies_leaves_the_earlier_set_whole() {
    let luna = Luna::new();
    let shipped = config("luna16", &[]);
    let first = luna.run(&shipped, true).0.unwrap();
    let before = Luna::times(&luna.out);
    write_volume(&luna.images.join("subset1/e.mhd"), &volume(7)).unwrap();
    luna.table("patients.csv", "PatientID SeriesInstanceUID\nP1 a\nP1 b\nP2 c\nP3 d\nP4 e\n");
    // Everything is read; then voxels vanish before they are copied.
    let vanish = |step: Progress| {
        if step.done == step.total {
            std::fs::remove_file(luna.images.join("subset9/d.zraw")).unwrap();
        }
    };
    luna.request(&shipped, true, &mut { vanish }).unwrap_err();
    let remembered = |path: &Path| path.starts_with(luna.out.join(".import"));
    let mut after = Luna::times(&luna.out);
    after.retain(|path, _| before.contains_key(path) || !remembered(path));
    let changed: Vec<_> =
        after.iter().filter(|(path, time)| !remembered(path) && before.get(*path) != Some(time)).collect();
    assert!(changed.is_empty() && after.len() == before.len(), "{changed:?}");
    let still = Manifest::load(&luna.out).unwrap();
    still.check(&mut |_| ()).unwrap();
    assert_eq!(still.fingerprint(), first.fingerprint());
    assert_eq!(verify(&luna.out, &|_, _| ()).unwrap().1.len(), 0);
    // When the voxels are back the new set replaces the old one, of which nothing is left.
    write_volume(&luna.images.join("subset9/d.mhd"), &volume(3 - 900)).unwrap();
    let second = luna.run(&shipped, true).0.unwrap();
    second.check(&mut |_| ()).unwrap();
    assert_eq!(second.all_cases().len(), 5);
    assert_eq!(verify(&luna.out, &|_, _| ()).unwrap().1.len(), 0);
    let images = |times: &BTreeMap<PathBuf, SystemTime>| {
        times.keys().filter(|p| p.extension().is_some_and(|e| e == "mha" || e == "zraw")).count()
    };
    assert_eq!((images(&before), images(&Luna::times(&luna.out))), (4, 5));
    // Stopped between the copy's new name and the manifest's: what is left behind goes with the next import, and nothing else.
    for name in ["cases", "cases-of-our-own"] {
        std::fs::create_dir(luna.out.join(name)).unwrap();
    }
    let live = second.provenance.unwrap().folder;
    std::fs::write(luna.out.join(".import/stale"), format!("cases\n{}", live.display())).unwrap();
    luna.run(&shipped, true).0.unwrap().check(&mut |_| ()).unwrap();
    let mut folders: Vec<_> = std::fs::read_dir(&luna.out).unwrap().map(|e| e.unwrap().file_name()).collect();
    folders.retain(|name| name.to_str().unwrap().starts_with("cases"));
    folders.sort();
    assert_eq!(folders, ["cases", "cases-of-our-own"]);
}

#[test]
fn images_are_not_copied_into_the_folder_that_they_are_read_from() {
    let luna = Luna::new();
    let shipped = config("luna16", &[]);
    let inside = Luna { out: luna.images.join("set"), images: luna.images.clone(), folder: luna.folder };
    let error = inside.run(&shipped, true).0.unwrap_err().to_string();
    assert!(error.contains("another --out"), "{error}");
}

#[verifies("FR-001")]
#[test]
fn a_set_is_not_imported_from_its_own_copies() {
    let mut luna = Luna::new();
    let shipped = config("luna16", &[]);
    luna.run(&shipped, true).0.unwrap();
    let before = Luna::times(&luna.out);
    let (set, all) = (luna.out.clone(), luna.folder.path().to_owned());
    for images in [set.clone(), set.join("cases"), set.join("cases/a"), all] {
        luna.images = images;
        for copy in [false, true] {
            let error = luna.run(&shipped, copy).0.unwrap_err().to_string();
            assert!(error.contains("choose another --out"), "{error}");
            assert_eq!(Luna::times(&set), before);
        }
    }
    // Images that lie in the set's folder by themselves may: nothing of them is replaced.
    let luna = Luna::new();
    let inside = Luna { out: luna.images.clone(), images: luna.images.clone(), folder: luna.folder };
    for _ in 0..2 {
        inside.run(&shipped, false).0.unwrap().check(&mut |_| ()).unwrap();
    }
}

#[verifies("FR-001")]
#[test]
fn an_image_that_is_a_link_out_of_its_folder_leaves_the_earlier_set_whole() {
    let luna = Luna::new();
    let first = luna.import().unwrap();
    let own = |name: &str| std::fs::read(luna.out.join(name)).unwrap();
    let files = ["manifest.yaml", "splits.csv", "flow.json", "dataset.lock"];
    let before = files.map(own);
    write_volume(&luna.path("e.mha"), &volume(7)).unwrap();
    let link = luna.images.join("subset1/e.mha");
    std::os::unix::fs::symlink(luna.path("e.mha"), &link).unwrap();
    luna.table("patients.csv", "PatientID SeriesInstanceUID\nP1 a\nP1 b\nP2 c\nP3 d\nP4 e\n");
    let error = luna.import().unwrap_err().to_string();
    assert!(error.starts_with("place 4 of 5 by sorted path: is a link that leads out"), "{error}");
    assert_eq!(files.map(own), before);
    let still = Manifest::load(&luna.out).unwrap();
    still.check(&mut |_| ()).unwrap();
    assert_eq!(still.fingerprint(), first.fingerprint());
    std::fs::remove_file(&link).unwrap();
    assert_eq!(verify(&luna.out, &|_, _| ()).unwrap().1.len(), 0);
    // Copied it is a file of the set's own.
    std::os::unix::fs::symlink(luna.path("e.mha"), &link).unwrap();
    let copied = luna.run(&config("luna16", &[]), true).0.unwrap();
    copied.check(&mut |_| ()).unwrap();
    assert_eq!((copied.all_cases().len(), verify(&luna.out, &|_, _| ()).unwrap().1.len()), (5, 0));
}

#[verifies("FR-001")]
#[test]
fn an_import_that_was_stopped_while_its_files_took_their_names_is_ended_by_the_next() {
    let luna = Luna::new();
    luna.import().unwrap();
    let others = ["splits.csv", "flow.json", "dataset.lock"];
    let own = |name: &str| std::fs::read(luna.out.join(name)).unwrap();
    let old = others.map(own);
    write_volume(&luna.images.join("subset1/e.mha"), &volume(7)).unwrap();
    luna.table("patients.csv", "PatientID SeriesInstanceUID\nP1 a\nP1 b\nP2 c\nP3 d\nP4 e\n");
    luna.import().unwrap();
    let new = others.map(own);
    // The manifest had its name, the others not yet; the next import ends that, even if it goes no further itself.
    let ready = luna.out.join(".import/ready");
    std::fs::create_dir(&ready).unwrap();
    for ((name, old), new) in others.iter().zip(&old).zip(&new) {
        std::fs::write(luna.out.join(name), old).unwrap();
        std::fs::write(ready.join(name), new).unwrap();
    }
    let table = std::fs::read_to_string(luna.path("annotations.csv")).unwrap();
    luna.table("annotations.csv", "nonsense");
    luna.import().unwrap_err();
    assert_eq!(others.map(own), new);
    assert_eq!(verify(&luna.out, &|_, _| ()).unwrap().1.len(), 0);
    // Not even the manifest had its name: what was ready is dropped.
    std::fs::create_dir(&ready).unwrap();
    for name in ["manifest.yaml", "splits.csv"] {
        std::fs::write(ready.join(name), "of a set that never was").unwrap();
    }
    luna.import().unwrap_err();
    assert_eq!(others.map(own), new);
    luna.table("annotations.csv", &table);
    assert_eq!(luna.import().unwrap().all_cases().len(), 5);
    assert!(!ready.exists());
}

#[verifies("FR-001")]
#[test]
fn pipes_are_no_images_and_nobody_waits_for_them() {
    let luna = Luna::new();
    for name in ["subset0/p.nii.gz", "subset0/p.zip", "subset0/p.dcm", "subset0/p"] {
        assert!(std::process::Command::new("mkfifo").arg(luna.images.join(name)).status().unwrap().success());
    }
    assert_eq!(luna.import().unwrap().all_cases().len(), 4);
}

#[test]
fn links_to_images_are_followed_and_links_to_folders_are_not() {
    let luna = Luna::new();
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, luna.images.join(name)).unwrap();
    link(&luna.images, "subset0/round"); // leads in circles
    write_volume(&luna.images.join("subset1/e.mha"), &volume(7)).unwrap();
    std::fs::rename(luna.images.join("subset1/e.mha"), luna.images.join("of-e")).unwrap();
    link(&luna.images.join("of-e"), "subset1/e.mha");
    luna.table("patients.csv", "PatientID SeriesInstanceUID\nP1 a\nP1 b\nP2 c\nP3 d\nP4 e\n");
    let manifest = luna.import().unwrap();
    manifest.check(&mut |_| ()).unwrap();
    assert_eq!(manifest.all_cases().len(), 5);
    // An image whose link leads nowhere is missing, not absent.
    link(&luna.path("nowhere"), "subset1/f.mha");
    let error = luna.import().unwrap_err().to_string();
    assert!(error.starts_with("place 5 of 6 by sorted path: "), "{error}");
}

#[verifies("FR-001")]
#[test]
fn a_patient_who_is_scanned_again_at_another_centre_stays_where_he_was() {
    let luna = Luna::new();
    let shipped = config("luna16", &[]);
    luna.import().unwrap();
    let line = |patient: &str| {
        let lines = std::fs::read_to_string(luna.out.join("splits.csv")).unwrap();
        lines.lines().find(|line| line.starts_with(patient)).unwrap().to_owned()
    };
    let before = line("P2,");
    assert!(before.starts_with("P2,subset1,"), "{before}");
    // At a centre whose name comes first, and at one that comes last.
    for (file, fill) in [("subset0/e.mha", 7), ("subset2/f.mha", 8)] {
        std::fs::create_dir_all(luna.images.join(file).parent().unwrap()).unwrap();
        write_volume(&luna.images.join(file), &volume(fill)).unwrap();
    }
    luna.table("patients.csv", "PatientID SeriesInstanceUID\nP1 a\nP1 b\nP2 c\nP3 d\nP2 e\nP2 f\n");
    let manifest = luna.run(&shipped, false).0.unwrap();
    assert_eq!(line("P2,"), before);
    let splits: Vec<_> =
        manifest.all_cases().iter().filter(|case| case.patient == "P2").map(|case| case.split).collect();
    assert!(splits.len() == 3 && splits.iter().all(|split| *split == splits[0]));
    // When the frozen centre's scan is gone somebody must look.
    for ending in ["mhd", "zraw"] {
        std::fs::remove_file(luna.images.join(format!("subset1/c.{ending}"))).unwrap();
    }
    check(
        luna.run(&shipped, false).0,
        "duplicated-patient",
        "splits.csv, line 3: a patient of centre subset1 is seen at centre subset0 now",
    );
}

#[verifies("FR-001")]
#[test]
fn the_flow_adds_up_with_series_that_only_tables_or_only_images_have() {
    let luna = Luna::new();
    // z is nowhere; b and d lie there without a line; c cannot be read, and has a line.
    luna.table("annotations.csv", &format!("{HEADER}a,1,2,3,5.5\nz,1,2,3,5.5\nz,4,2,3,5.5\n"));
    std::fs::write(luna.images.join("subset1/c.zraw"), "cut").unwrap();
    let counting = config("luna16", &[("unreadable: refuse", "unreadable: exclude")]);
    let flow = luna.run(&counting, false).0.unwrap().provenance.unwrap().flow;
    assert_eq!(flow.found.series, 5);
    let excluded: Vec<(&str, usize)> = flow.excluded.iter().map(|e| (e.rule.as_str(), e.counts.series)).collect();
    assert_eq!(excluded, [("missing-series", 1), ("unreadable-truncated-file", 1)]);
    assert_eq!(flow.found.series, flow.included.series + excluded.iter().map(|(_, n)| n).sum::<usize>());
    assert!(flow.text().contains("2 series in no table"), "{}", flow.text());
}

#[verifies("FR-001")]
#[test]
fn a_spacing_that_is_corrected_makes_another_set_and_another_stored_volume() {
    let luna = Luna::new();
    let first = luna.import().unwrap();
    let header = luna.images.join("subset0/b.mhd");
    let text = std::fs::read_to_string(&header).unwrap();
    let corrected = text.replace("ElementSpacing = 10 10 2", "ElementSpacing = 10 10 2.5");
    assert_ne!(text, corrected);
    std::fs::write(&header, corrected).unwrap();
    // The old manifest does not take the new grid for its own.
    let of = |manifest: &Manifest| manifest.all_cases().iter().find(|case| case.id == "b").unwrap().clone();
    let error = of(&first).load_scan().unwrap_err();
    assert!(error.rule() == "changed-file" && error.to_string().starts_with("case b: "), "{error}");
    let store = PatchStore::new(&luna.path("store"), StoreGrid::Native).unwrap();
    let second = luna.import().unwrap();
    assert_ne!(first.fingerprint(), second.fingerprint());
    assert_eq!(store.get(&of(&second)).unwrap().geometry().spacing().zyx_mm(), [2.5, 10.0, 10.0]);
    std::fs::write(&header, text).unwrap();
    let third = luna.import().unwrap();
    assert_eq!(first.fingerprint(), third.fingerprint());
    assert_eq!(store.get(&of(&third)).unwrap().geometry().spacing().zyx_mm(), [2.0, 10.0, 10.0]);
}

#[verifies("FR-001")]
#[test]
fn tables_that_contradict_the_images_are_refused_by_line_and_nothing_is_written() {
    let luna = Luna::new();
    let strict = config("luna16", &[("missing_series: skip", "missing_series: refuse")]);
    luna.table("annotations.csv", &format!("{HEADER}a,1,2,3,5.5\nz,1,2,3,5.5\n"));
    check(
        luna.run(&strict, false).0,
        "missing-series",
        "annotations.csv, line 3: the series of this line is not among the images (1 such series); `missing_series: skip` \
         passes over them",
    );
    luna.table("annotations.csv", &format!("{HEADER}a,1,2,3,5.5\na,1,2,300,5.5\n"));
    check(
        luna.import(),
        "outside-volume",
        "annotations.csv, line 3: the nodule at (1, 2, 300) mm LPS lies outside of its scan",
    );
    luna.table("annotations.csv", "seriesuid,coordX,coordY,coordZ,diameter_cm\na,1,2,3,0.55\n");
    check(
        luna.import(),
        "unknown-column",
        "annotations.csv, line 1: column `diameter_cm` is none of seriesuid, coordX, coordY, coordZ, diameter_mm; did you \
         mean `diameter_mm`?",
    );
    luna.table("annotations.csv", &format!("{HEADER}a,1,2,3,0.55\n"));
    check(
        luna.import(),
        "wrong-unit",
        "annotations.csv, line 2: a diameter of 0.55 mm is no nodule's (1 to 200 mm); is the table in cm?",
    );
    let left: Vec<_> = std::fs::read_dir(&luna.out).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, [".import"], "only what was read is remembered");
}

#[test]
fn a_patient_or_series_that_is_there_twice_is_refused() {
    let luna = Luna::new();
    let patients = std::fs::read_to_string(luna.path("patients.csv")).unwrap();
    luna.table("patients.csv", &format!("{patients}P4 3 d\n"));
    check(
        luna.import(),
        "duplicated-patient",
        "patients.csv, line 6: this series is of another patient by an earlier line",
    );
    // One patient in a training subset and in the one that is held out.
    luna.table("patients.csv", &patients.replace("P3", "P2"));
    check(
        luna.import(),
        "duplicated-patient",
        "place 4 of 4 by sorted path: is of one patient with place 3 of 4 by sorted path, who was seen at the centres subset1 and \
         subset9; one of them is held out",
    );
    luna.table("patients.csv", &patients);
    write_volume(&luna.images.join("subset1/a.mhd"), &volume(77)).unwrap();
    let (third, first) = ("place 3 of 5 by sorted path", "place 1 of 5 by sorted path");
    check(luna.import(), "duplicated-series", &format!("{third}: its series is also at {first}"));
    write_volume(&luna.images.join("subset1/f.mhd"), &volume(-900)).unwrap();
    std::fs::remove_file(luna.images.join("subset1/a.mhd")).unwrap();
    let (fourth, first) = ("place 4 of 5 by sorted path", "place 1 of 5 by sorted path");
    check(
        luna.import(),
        "duplicated-series",
        &format!("{fourth}: holds the same voxels as {first} under another name"),
    );
}

#[test]
fn series_that_break_a_rule_are_counted_and_left_out() {
    let luna = Luna::new();
    std::fs::write(luna.images.join("subset0/broken.mha"), "ObjectType = Image\nNDims = 3\n").unwrap();
    let refusing = luna.import().unwrap_err().to_string();
    assert!(refusing.starts_with("place 3 of 5 by") && refusing.contains("`unreadable: exclude`"), "{refusing}");
    let counting = config(
        "luna16",
        &[
            ("unreadable: refuse", "unreadable: exclude"),
            ("not_annotated: no-nodules", "not_annotated: exclude"),
            ("slice_distance_mm: [0.1, 2.5]", "slice_distance_mm: [0.1, 2.0]"),
        ],
    );
    let manifest = luna.run(&counting, false).0.unwrap();
    let flow = manifest.provenance.unwrap().flow;
    assert_eq!(
        flow.text(),
        "found      5 series of 3 patients\n  \
         excluded 1 series of 0 patients: unreadable-malformed-file\n  \
         excluded 1 series of 1 patients: not-annotated\n\
         included   3 series of 3 patients\n  \
         test     1 series of 1 patients\n  \
         train    2 series of 2 patients\n  \
         tune     0 series of 0 patients\n\
         reference  3 nodules, 2 ignored findings; unknown for 0 series; 0 series in no table\n"
    );
    let thin = config(
        "luna16",
        &[
            ("slice_distance_mm: [0.1, 2.5]", "slice_distance_mm: [0.1, 1.9]"),
            ("unreadable: refuse", "unreadable: exclude"),
        ],
    );
    let error = luna.run(&thin, false).0.unwrap_err().to_string();
    assert_eq!(error, "case luna16: every series is excluded: see the rules under `inclusion`");
}

#[verifies("FR-001")]
#[test]
fn a_changed_a_missing_and_an_added_file_are_named_with_their_lines() {
    let luna = Luna::new();
    let manifest = luna.import().unwrap();
    let differences = || -> Vec<(String, String)> {
        let all = verify(&luna.out, &|_, _| ()).unwrap().1;
        all.iter().map(|e| (e.rule(), e.to_string().split(" has ").next().unwrap().to_owned())).collect()
    };
    assert_eq!(differences(), []);
    // A byte of a header that changes no voxel: the manifest does not see it, the lock does.
    let header = luna.images.join("subset0/b.mhd");
    let text = std::fs::read_to_string(&header).unwrap();
    std::fs::write(&header, format!("Comment = x\n{text}")).unwrap();
    manifest.check(&mut |_| ()).unwrap();
    std::fs::remove_file(luna.images.join("subset1/c.zraw")).unwrap();
    std::fs::write(luna.images.join("subset1/new.mhd"), "").unwrap();
    let lock = std::fs::read_to_string(luna.out.join("dataset.lock")).unwrap();
    let line = |file: &str| 1 + lock.lines().position(|line| line.ends_with(file)).unwrap();
    let expected =
        |rule: &str, line: usize, text: &str| (rule.to_owned(), format!("dataset.lock, line {line}: {text}"));
    let found = differences();
    assert!(found.contains(&expected("changed-file", line("b.mhd"), "the file of this line")), "{found:?}");
    assert!(found.contains(&expected("missing-file", line("c.zraw"), "the file of this line is gone")), "{found:?}");
    let files = lock.lines().count() - 4;
    let place = "file 2 of 2 by sorted path in the folder of case c"; // beside c.mhd; c.zraw is gone
    let added = format!("{place} was not there when the set was locked ({files} files)");
    assert!(found.contains(&expected("added-file", files + 4, &added)), "{found:?}");
    assert_eq!(found.len(), 3);
    // A lock whose lines were edited to fit is refused as a whole.
    std::fs::write(luna.out.join("dataset.lock"), lock.replace("b.mhd", "B.mhd")).unwrap();
    let error = verify(&luna.out, &|_, _| ()).unwrap_err();
    assert!(error.to_string().starts_with("dataset.lock, line 4: the lines are not those of the root hash"), "{error}");
}

/// Column, row and radius in pixels; first and last slice's height; malignancy, spiculation, texture, calcification.
type Disc = ([i32; 3], [f64; 2], [u8; 4]);

/// An XML file of LIDC's: per reader the discs that were outlined, and a non-nodule.
fn lidc_xml(series: &str, readers: &[&[Disc]]) -> String {
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<LidcReadMessage xmlns=\"http://www.nih.gov\">\n<ResponseHeader>\
         <SeriesInstanceUid>{series}</SeriesInstanceUid></ResponseHeader>\n"
    );
    for nodules in readers {
        text += "<readingSession>\n";
        for ([column, row, radius], [low, high], [malignancy, spiculation, texture, calcification]) in *nodules {
            text += &format!(
                "<unblindedReadNodule><noduleID>n</noduleID><characteristics><calcification>{calcification}</calcification>\
                 <spiculation>{spiculation}</spiculation><texture>{texture}</texture><malignancy>{malignancy}</malignancy>\
                 </characteristics>\n"
            );
            let mut z = *low;
            while z <= *high {
                text += &format!("<roi><imageZposition>{z}</imageZposition><inclusion>TRUE</inclusion>");
                for step in 0..720 {
                    let angle = f64::from(step).to_radians() / 2.0;
                    let at = |centre: i32, part: f64| centre + (f64::from(*radius) * part).round() as i32;
                    let (x, y) = (at(*column, angle.cos()), at(*row, angle.sin()));
                    text += &format!("<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>");
                }
                text += "</roi>\n";
                z += 2.0;
            }
            text += "</unblindedReadNodule>\n";
        }
        text += "<nonNodule><imageZposition>4.0</imageZposition><locus><xCoord>3</xCoord><yCoord>5</yCoord></locus></nonNodule>\n";
        text += "</readingSession>\n";
    }
    text + "</LidcReadMessage>\n"
}

fn dicom(folder: &Path, patient: &str, fill: i16) -> SeriesTags {
    dicom_series(folder, patient, "scan", 30, fill)
}

fn dicom_series(folder: &Path, patient: &str, scan: &str, slices: usize, fill: i16) -> SeriesTags {
    let spacing = Spacing::new([2.0, 1.0, 1.0]).unwrap();
    let size = [slices, 64, 64];
    let grid = Geometry::new(size, spacing, WorldPoint([-32.0, -32.0, -20.0]), Geometry::AXIAL).unwrap();
    let volume = Volume::new(Array3::from_elem((slices, 64, 64), fill), grid).unwrap();
    let acquisition = Acquisition {
        slice_thickness_mm: Some(2.0),
        manufacturer: Some("GE MEDICAL SYSTEMS".into()),
        ..Acquisition::default()
    };
    let tags = SeriesTags::synthetic(patient, scan);
    write_series(&volume, &acquisition, &tags, folder).unwrap();
    tags
}

#[verifies("FR-001")]
#[test]
fn four_readers_of_lidc_become_one_truth() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("LIDC-IDRI");
    let tags = dicom(&images.join("LIDC-IDRI-0001/scan"), "LIDC-IDRI-0001", -700);
    // A nodule of four readers at (20, 30), one of two at (50, 50), and one that three readers call indeterminate.
    let disc = |column: i32, malignancy: u8| ([column, 30, 6], [-4.0, 4.0], [malignancy, 3, 5, 6]);
    let rare = ([50, 50, 4], [10.0, 14.0], [1, 1, 1, 6]);
    let unsure = |rating: u8| ([40, 12, 5], [20.0, 24.0], [rating, 1, 3, 6]);
    let readers: [&[_]; 4] =
        [&[disc(20, 5), rare, unsure(3)], &[disc(21, 4), rare, unsure(3)], &[disc(20, 4), unsure(2)], &[disc(19, 1)]];
    let xml = lidc_xml(&tags.series_uid, &readers);
    std::fs::write(images.join("LIDC-IDRI-0001/scan/069.xml"), &xml).unwrap();
    std::fs::write(images.join("radiograph.xml"), "<IdriReadMessage xmlns=\"http://www.nih.gov\"/>").unwrap();

    let out = folder.path().join("set");
    let shipped = config("lidc", &[("slices_at_least: 64", "slices_at_least: 30")]);
    let request = Import {
        config: &shipped,
        images: &images,
        tables: Tables::Lidc { xml: images.clone() },
        patients: None,
        out: &out,
        copy: false,
    };
    let manifest = import(&request, &mut |_| ()).unwrap();
    manifest.check(&mut |_| ()).unwrap();
    let case = &manifest.all_cases()[0];
    assert_eq!((case.centre.as_str(), case.patient.as_str()), ("ge-medical-systems", "LIDC-IDRI-0001"));
    let nodules = case.nodules().unwrap();
    let counts: Vec<bool> = nodules.iter().map(|n| n.excluded).collect();
    // Four non-nodules besides, one per reader.
    assert_eq!(counts, [false, true, false, true, true, true, true]);

    // A disc of radius 6 has 97 pixels within its outline (by x^2 + y^2 <= 5.5^2: 97); five slices of 2 mm.
    let [first, _, third, ..] = &nodules[..] else { panic!() };
    let pixels = (-6..=6).flat_map(|y| (-6..=6).map(move |x: i32| x * x + y * y)).filter(|r2| f64::from(*r2) <= 30.25);
    let expected_mm3 = pixels.count() as f64 * 5.0 * 2.0;
    assert!((first.volume_mm3.unwrap() / expected_mm3 - 1.0).abs() < 0.1, "{first:?} {expected_mm3}");
    let sphere = (6.0 * first.volume_mm3.unwrap() / std::f64::consts::PI).cbrt();
    assert!((first.diameter_mm - sphere).abs() < 1e-9); // all four discs are equally large
    // Columns 20, 21, 20, 19 on pixels of 1 mm from -32 mm; slices -4 to 4 mm.
    assert!(first.position.distance_mm(WorldPoint([-12.0, -2.0, 0.0])) < 1e-9, "{first:?}");
    assert_eq!((first.malignant, third.malignant), (Some(true), None)); // medians 4 and 3
    assert_eq!((first.kind.unwrap().name(), third.kind.unwrap().name()), ("solid", "part-solid"));
    assert_eq!(first.spiculation, Some(0.5));
    assert_eq!(nodules[3].position, WorldPoint([-29.0, -27.0, 4.0]));

    // A mark on no slice is named by the line of its nodule.
    let high = xml.replace("<imageZposition>24</imageZposition>", "<imageZposition>240</imageZposition>");
    std::fs::write(images.join("LIDC-IDRI-0001/scan/069.xml"), high).unwrap();
    let error = import(&request, &mut |_| ()).unwrap_err();
    assert_eq!(error.rule(), "outside-volume");
    assert!(error.to_string().contains("069.xml, line "), "{error}");
    assert!(error.to_string().contains("z = 240 mm lies on no slice of its scan (-20 to 38 mm)"), "{error}");
    // A rating that the scale does not have.
    std::fs::write(images.join("LIDC-IDRI-0001/scan/069.xml"), xml.replacen("<malignancy>5", "<malignancy>7", 1))
        .unwrap();
    let error = import(&request, &mut |_| ()).unwrap_err();
    assert_eq!(error.to_string(), "069.xml, line 5: malignancy `7` is not within 1..=5");
    assert_eq!(Manifest::load(&out).unwrap().fingerprint(), manifest.fingerprint(), "the earlier set is whole");
}

#[verifies("SR-003")]
#[test]
fn a_hospitals_names_stay_out_of_everything_that_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("scans");
    let a = dicom(&images.join("hospital-a/DOE-JANE"), "DOE-JANE", -700);
    dicom(&images.join("hospital-c/x"), "SMITH", -600);
    for (slice, name) in std::fs::read_dir(images.join("hospital-c/x")).unwrap().zip(0..) {
        std::fs::rename(slice.unwrap().path(), images.join(format!("hospital-c/x/SMITH-{name}.dcm"))).unwrap();
    }
    std::fs::write(images.join("hospital-c/x/report of SMITH.txt"), "SMITH").unwrap();
    let table = folder.path().join("nodules.csv");
    let header = "SeriesInstanceUID,x,y,z,diameter,type,histology,reader,comment";
    std::fs::write(&table, format!("{header}\n{},0,0,0,7,solid,benign,R1,seen by Dr X\n", a.series_uid)).unwrap();
    let out = folder.path().join("set");
    let ours = config(
        "folder",
        &[
            ("slices_at_least: 64", "slices_at_least: 30"),
            ("pixel_spacing_mm: [0.4, 1.0]", "pixel_spacing_mm: [0.4, 2.0]"),
            ("quality: not-rejected", "quality: any"),
            ("unknown: exclude", "unknown: keep"),
        ],
    );
    let request = Import {
        config: &ours,
        images: &images,
        tables: Tables::Folder { annotations: Some(table) },
        patients: None,
        out: &out,
        copy: true,
    };
    let manifest = import(&request, &mut |_| ()).unwrap();
    manifest.check(&mut |_| ()).unwrap();
    let provenance = manifest.provenance.as_ref().unwrap();
    // 30 files of each of two series hold a name and an id; the writer states nothing about burned-in annotation.
    let identity = &provenance.identity;
    assert_eq!((identity.files, identity.with_value["PatientName"], identity.with_value["PatientID"]), (60, 60, 60));
    assert_eq!(identity.burned_in_annotation.unstated, 60);
    assert!(!identity.with_value.contains_key("PatientBirthDate"));
    assert!(provenance.checked_attributes.iter().any(|name| name == "PatientBirthDate"));
    for file in Luna::times(&out).into_keys() {
        let bytes = std::fs::read(&file).unwrap();
        let named = file.strip_prefix(&out).unwrap().to_str().unwrap();
        // What DICOM files hold inside is counted, not changed.
        let read = |word: &str| !named.ends_with(".dcm") && bytes.windows(word.len()).any(|w| w == word.as_bytes());
        for word in ["DOE-JANE", "SMITH", &a.series_uid, "Dr X"] {
            assert!(!named.contains(word) && !read(word), "{named} holds {word}");
        }
    }
    let slices = Luna::times(&out).into_keys().filter(|path| path.ends_with("dicom/000030.dcm")).count();
    assert_eq!(slices, 2);
    let trained = manifest.cases(Split::Train).chain(manifest.cases(Split::Tune)).next().unwrap();
    assert_eq!((trained.nodules().unwrap()[0].malignant, trained.patient.len()), (Some(false), 16));
    // Nobody said that the second scan has no nodule.
    assert!(matches!(manifest.cases(Split::Test).next().unwrap().nodules(), Err(DatasetError::NoTruth { .. })));
}

/// A zip archive of some files, each with its name in it.
fn zipped(path: &Path, files: &[(&str, Vec<u8>)]) {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for (name, bytes) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, bytes).unwrap();
    }
    zip.finish().unwrap();
}

#[verifies("SR-003")]
#[test]
fn of_a_folder_only_the_files_of_included_series_are_copied() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("scans");
    let place = images.join("hospital-a/DOE-JANE");
    let tags = dicom(&place, "DOE-JANE", -700);
    // A second scan in an archive, and a third that has too few slices.
    let apart = |scan: &str, slices: usize, fill: i16| {
        let apart = folder.path().join(scan);
        dicom_series(&apart, "DOE-JANE", scan, slices, fill);
        let files = std::fs::read_dir(&apart).unwrap().map(|entry| entry.unwrap().path());
        files.map(|file| std::fs::read(file).unwrap()).collect::<Vec<_>>()
    };
    let names: Vec<String> = (0..30).map(|number| format!("DOE-{number}")).collect();
    let second: Vec<(&str, Vec<u8>)> = names.iter().map(String::as_str).zip(apart("second", 30, -600)).collect();
    zipped(&place.join("DOE.zip"), &second);
    for (bytes, number) in apart("third", 12, -500).iter().zip(1..) {
        std::fs::write(place.join(format!("third-{number}.dcm")), bytes).unwrap();
    }
    // Letters and reports.
    zipped(&place.join("letter.docx"), &[("word/document.xml", b"<w:t>Mrs Doe</w:t>".to_vec())]);
    let mut report = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut report, b"Mrs Doe").unwrap();
    std::fs::write(place.join("report.txt.gz"), report.finish().unwrap()).unwrap();
    let ours = config(
        "folder",
        &[
            ("slices_at_least: 64", "slices_at_least: 30"),
            ("pixel_spacing_mm: [0.4, 1.0]", "pixel_spacing_mm: [0.4, 2.0]"),
            ("quality: not-rejected", "quality: any"),
            ("unknown: exclude", "unknown: keep"),
        ],
    );
    let table = folder.path().join("nodules.csv");
    let header = "SeriesInstanceUID,x,y,z,diameter,type,histology,reader,comment";
    std::fs::write(&table, format!("{header}\n{},0,0,0,7,solid,benign,R1,x\n", tags.series_uid)).unwrap();
    let out = folder.path().join("set");
    let request = Import {
        config: &ours,
        images: &images,
        tables: Tables::Folder { annotations: Some(table) },
        patients: None,
        out: &out,
        copy: true,
    };
    let manifest = import(&request, &mut |_| ()).unwrap();
    manifest.check(&mut |_| ()).unwrap();
    assert_eq!((manifest.all_cases().len(), verify(&out, &|_, _| ()).unwrap().1.len()), (2, 0));
    let mut copied: Vec<Vec<String>> = Vec::new();
    for case in manifest.all_cases() {
        let files = Luna::times(&out.join(&case.series.path)).into_keys();
        copied.push(files.map(|file| file.file_name().unwrap().to_str().unwrap().to_owned()).collect());
    }
    copied.sort();
    let slices: Vec<String> = (1..=30).map(|number| format!("{number:06}.dcm")).collect();
    assert_eq!(copied, [slices, vec!["000001.zip".to_owned()]]);
}

#[verifies("SR-003")]
#[test]
fn messages_name_places_and_neither_folders_nor_files_of_images() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("scans");
    let a = dicom(&images.join("hospital-a/DOE-JANE"), "DOE-JANE", -700);
    dicom(&images.join("hospital-c/SMITH"), "SMITH", -600);
    let out = folder.path().join("set");
    let changes = [
        ("slices_at_least: 64", "slices_at_least: 30"),
        ("pixel_spacing_mm: [0.4, 1.0]", "pixel_spacing_mm: [0.4, 2.0]"),
        ("quality: not-rejected", "quality: any"),
        ("unknown: exclude", "unknown: keep"),
        ("unreadable: exclude", "unreadable: refuse"),
    ];
    let ours = config("folder", &changes);
    let table = folder.path().join("nodules.csv");
    let header = "SeriesInstanceUID,x,y,z,diameter,type,histology,reader,comment";
    std::fs::write(&table, format!("{header}\n{},0,0,0,7,solid,benign,R1,x\n", a.series_uid)).unwrap();
    let request = Import {
        config: &ours,
        images: &images,
        tables: Tables::Folder { annotations: Some(table) },
        patients: None,
        out: &out,
        copy: false,
    };
    let check = |message: &str| assert_eq!(import(&request, &mut |_| ()).unwrap_err().to_string(), message);
    // The same voxels twice.
    dicom(&images.join("hospital-b/BROWN"), "BROWN", -700);
    check("place 2 of 3 by sorted path: holds the same voxels as place 1 of 3 by sorted path under another name");
    std::fs::remove_dir_all(images.join("hospital-b/BROWN")).unwrap();
    dicom(&images.join("hospital-b/BROWN"), "BROWN", -500);
    // A slice that was cut, and one that is no DICOM any more.
    let slice = images.join("hospital-b/BROWN/000030.dcm");
    let whole = std::fs::read(&slice).unwrap();
    std::fs::write(&slice, &whole[..400]).unwrap();
    let error = import(&request, &mut |_| ()).unwrap_err().to_string();
    assert!(error.starts_with("place 2 of 3 by sorted path: file 30 by sorted path: "), "{error}");
    assert!(error.ends_with("; `unreadable: exclude` leaves such files out and counts them"), "{error}");
    std::fs::write(&slice, &whole).unwrap();
    std::fs::write(images.join("hospital-b/WHITE.mha"), "ObjectType = Image\nNDims = 3\n").unwrap();
    check(
        "place 3 of 4 by sorted path: malformed MetaImage: the header ends without ElementDataFile; `unreadable: exclude` \
         leaves such series out and counts them",
    );
}

#[verifies("FR-001")]
#[test]
fn slices_that_are_damaged_are_counted_though_their_series_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("LIDC-IDRI");
    let place = images.join("LIDC-IDRI-0001");
    let tags = dicom(&place, "LIDC-IDRI-0001", -700);
    let (last, first) = (place.join("000030.dcm"), place.join("000001.dcm"));
    let bytes = std::fs::read(&last).unwrap();
    std::fs::write(&last, &bytes[..400]).unwrap(); // the last slice: those that are left still make a volume
    std::fs::write(&first, vec![0; bytes.len()]).unwrap(); // zeros, as a bad disk leaves them
    std::fs::write(images.join("LIDC-IDRI-0001/069.xml"), lidc_xml(&tags.series_uid, &[&[], &[], &[], &[]])).unwrap();
    let shipped = config("lidc", &[("slices_at_least: 64", "slices_at_least: 20")]);
    let out = folder.path().join("set");
    let request = Import {
        config: &shipped,
        images: &images,
        tables: Tables::Lidc { xml: images.clone() },
        patients: None,
        out: &out,
        copy: false,
    };
    let manifest = import(&request, &mut |_| ()).unwrap();
    let flow = manifest.provenance.unwrap().flow;
    assert_eq!((flow.found.series, flow.included.series), (1, 1));
    assert!(flow.text().contains("damaged    2 files"), "{}", flow.text());
}

#[verifies("FR-001")]
#[test]
fn every_series_of_a_folder_that_cannot_be_read_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("LIDC-IDRI");
    let mut uids = Vec::new();
    for (i, study) in ["LIDC-IDRI-0001/1", "LIDC-IDRI-0001/2", "LIDC-IDRI-0002/1"].iter().enumerate() {
        let series = images.join(study);
        uids.push(dicom(&series, &format!("LIDC-IDRI-000{i}"), i as i16 - 700).series_uid);
        if i < 2 {
            std::fs::remove_file(series.join("000015.dcm")).unwrap();
        }
        std::fs::write(series.join("1.xml"), lidc_xml(&uids[i], &[&[], &[], &[], &[]])).unwrap();
    }
    // One folder with two series, neither of which makes a volume.
    for file in std::fs::read_dir(images.join("LIDC-IDRI-0001/2")).unwrap() {
        let file = file.unwrap();
        let name = format!("b{}", file.file_name().to_str().unwrap());
        std::fs::rename(file.path(), images.join("LIDC-IDRI-0001/1").join(name)).unwrap();
    }
    let shipped = config("lidc", &[("slices_at_least: 64", "slices_at_least: 20")]);
    let out = folder.path().join("set");
    let request = Import {
        config: &shipped,
        images: &images,
        tables: Tables::Lidc { xml: images.clone() },
        patients: None,
        out: &out,
        copy: false,
    };
    let flow = import(&request, &mut |_| ()).unwrap().provenance.unwrap().flow;
    let excluded: Vec<(&str, usize)> = flow.excluded.iter().map(|e| (e.rule.as_str(), e.counts.series)).collect();
    assert_eq!((flow.found.series, flow.included.series), (3, 1));
    assert_eq!(excluded, [("unreadable-missing-slices", 2)]);
}

#[verifies("FR-001")]
#[test]
fn regions_of_a_decathlon_label_become_nodules() {
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("Task06_Lung");
    for name in ["imagesTr", "labelsTr"] {
        std::fs::create_dir_all(set.join(name)).unwrap();
    }
    let image = volume(-500);
    let mut labels = Array3::zeros((40, 40, 40));
    labels.slice_mut(ndarray::s![10..13, 5..7, 5..7]).fill(1); // 12 voxels of 2 x 10 x 10 mm
    labels[[30, 30, 30]] = 1;
    labels[[31, 31, 31]] = 1; // touches by a corner
    write_volume(&set.join("imagesTr/lung_001.nii.gz"), &image).unwrap();
    write_labels(&set.join("labelsTr/lung_001.nii.gz"), &LabelMap::new(labels, image.geometry().clone()).unwrap())
        .unwrap();
    std::fs::write(set.join("imagesTr/._lung_001.nii.gz"), "what macOS leaves").unwrap();
    let description = |labels: &str, file: &str| {
        format!(
            "{{\n\"name\": \"Lung\", \"tensorImageSize\": \"3D\",\n\"modality\": {{\"0\": \"CT\"}},\n\"labels\": {labels},\n\
             \"training\": [{{\"image\": \"./imagesTr/{file}\",\n\"label\": \"./labelsTr/lung_001.nii.gz\"}}],\n\"test\": []}}"
        )
    };
    let labels = "{\"0\": \"background\", \"1\": \"cancer\"}";
    std::fs::write(set.join("dataset.json"), description(labels, "lung_001.nii.gz")).unwrap();
    let shipped = config("msd", &[("diameter_at_least_mm: 3.0", "diameter_at_least_mm: 9.2")]);
    let out = folder.path().join("set");
    let request =
        Import { config: &shipped, images: &set, tables: Tables::Msd, patients: None, out: &out, copy: false };
    let manifest = import(&request, &mut |_| ()).unwrap();
    manifest.check(&mut |_| ()).unwrap();
    let nodules = manifest.all_cases()[0].nodules().unwrap();
    assert_eq!(nodules.len(), 2);
    assert_eq!((nodules[0].volume_mm3, nodules[0].malignant), (Some(2400.0), Some(true)));
    assert!((nodules[0].diameter_mm - (6.0 * 2400.0 / std::f64::consts::PI).cbrt()).abs() < 1e-9);
    let at = image.geometry().centre_of(VoxelIndex([11, 5, 5]));
    assert!(nodules[0].position.distance_mm(WorldPoint([at.0[0] + 5.0, at.0[1] + 5.0, at.0[2]])) < 1e-3);
    assert!(nodules[1].excluded && !nodules[0].excluded); // 7.3 mm and 16.6 mm

    std::fs::write(set.join("dataset.json"), description(labels, "lung_002.nii.gz")).unwrap();
    check(import(&request, &mut |_| ()), "missing-series", "dataset.json, line 5: the file of this line is not there");
    std::fs::write(set.join("dataset.json"), description("{\"1\": \"tumour\"}", "lung_001.nii.gz")).unwrap();
    check(import(&request, &mut |_| ()), "bad-configuration", "dataset.json, line 4: no label `cancer` among tumour");
}

#[test]
fn the_published_tables_of_luna16_import() {
    let Some(data) = std::env::var_os("LUNGAI_REFERENCE_DATA").map(PathBuf::from) else {
        lungai_trace::not_evidenced("reference data absent");
        return;
    };
    // Three real names: a scan with nodules, and both of LIDC-IDRI-0332. The voxels are ours, the grids hold the marks.
    let folder = tempfile::tempdir().unwrap();
    let names = [
        "1.3.6.1.4.1.14519.5.2.1.6279.6001.100225287222365663678666836860",
        "1.3.6.1.4.1.14519.5.2.1.6279.6001.159996104466052855396410079250",
        "1.3.6.1.4.1.14519.5.2.1.6279.6001.316900421002460665752357657094",
    ];
    for (i, name) in names.iter().enumerate() {
        let path = folder.path().join(format!("luna/subset{i}/{name}.mhd"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let spacing = Spacing::new([2.5, 20.0, 20.0]).unwrap();
        let size = [1000, 40, 40];
        let grid = Geometry::new(size, spacing, WorldPoint([-390.0, -390.0, -1250.0]), Geometry::AXIAL).unwrap();
        write_volume(&path, &Volume::new(Array3::from_elem((1000, 40, 40), i as i16), grid).unwrap()).unwrap();
    }
    let shipped = config("luna16", &[]);
    let images = folder.path().join("luna");
    let tables = Tables::Luna16 {
        annotations: data.join("luna16/annotations.csv"),
        excluded: Some(data.join("luna16/annotations_excluded.csv.gz")),
    };
    let patients = data.join("lidc/LIDC-IDRI-mappingLUNA16.txt");
    let out = folder.path().join("set");
    let request =
        Import { config: &shipped, images: &images, tables, patients: Some(&patients), out: &out, copy: false };
    let manifest = import(&request, &mut |_| ()).unwrap();
    manifest.check(&mut |_| ()).unwrap();
    let cases = manifest.all_cases();
    assert_eq!(cases[0].nodules().unwrap().iter().filter(|n| !n.excluded).count(), 2); // as in annotations.csv
    assert_eq!(cases[1].patient, "LIDC-IDRI-0332");
    assert_eq!((cases[1].patient.as_str(), cases[1].split), (cases[2].patient.as_str(), cases[2].split));
}

#[test]
fn a_configuration_that_cannot_be_followed_is_refused_by_line() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/import-lidc.yaml");
    let text = std::fs::read_to_string(shipped).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let check = |from: &str, to: &str, expected: &str| {
        assert!(text.contains(from), "no `{from}`");
        let path = folder.path().join("import.yaml");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let line = 1 + text.lines().position(|line| line.contains(from)).unwrap();
        let error = ImportConfig::load(&path).unwrap_err().to_string();
        assert_eq!(error, format!("import.yaml, line {line}: {expected}"));
    };
    check("lidc-idri, split of version 1", "short", "splits: the key needs at least 16 characters");
    check("tune_share: 0.1", "tune_share: 1.5", "splits: tune_share 1.5 must be within 0..=0.5");
    check(
        "held_out_centres: [philips, toshiba]",
        "held_out_centres: [Philips, toshiba]",
        "splits: held-out centre `Philips` must be spelt `philips`",
    );
    check("finding_diameter_mm: 10.0", "finding_diameter_mm: -1", "finding_diameter_mm -1 must be positive");
    check(
        "benign_malignant: [2.5, 3.5]",
        "benign_malignant: [3.5, 2.5]",
        "consensus: benign_malignant [3.5, 2.5] must ascend within 1..=5",
    );
    // A section that the importer would never look at.
    let (luna, lidc) = (Luna::new(), config("lidc", &[]));
    let error = luna.run(&lidc, false).0.unwrap_err().to_string();
    assert_eq!(error, "configuration, line 1: importing luna16 has no use for the section `consensus`");
}
