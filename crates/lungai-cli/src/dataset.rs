//! The verbs of `dataset`.

use crate::Report;
use crate::arguments::{
    Check, Croissant, DifficultyCheck, ImportKind, Make, Manifest as Named, OnDemand, Plan, Readers, Store,
};
use crate::failure::{Failure, io};
use indicatif::{ProgressBar, ProgressStyle};
use lungai_datasets::difficulty::{Gate, draw_page, measure};
use lungai_datasets::import::{Import, ImportConfig, Tables, import as import_set};
use lungai_datasets::readers::{Reader, study};
use lungai_datasets::recipe::{Keep, Recipe, Storage, make_with};
use lungai_datasets::{
    Budget, Manifest, PatchStore, Split, StoreGrid, croissant as describe, is_locked, plan as plan_set, verify,
    write_lock,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// From a recipe to DICOM series with truth.
pub fn make(arguments: &Make) -> Result<Report, Failure> {
    let recipe = Recipe::load(&arguments.recipe)?;
    let storage = match arguments.on_demand {
        None => Storage::All,
        Some(OnDemand::Test) => Storage::AllButTest,
        Some(OnDemand::All) => Storage::None,
    };
    let bar = Bar::new("making");
    let new = AtomicUsize::new(0);
    let keep = Keep { storage, masks: arguments.masks };
    let manifest = make_with(&recipe, &arguments.out, keep, &|step| {
        let how = if step.reused { "kept" } else { "made" };
        new.fetch_add(usize::from(!step.reused), Ordering::Relaxed);
        bar.at(step.done, step.total, &format!("{} {how}", step.case));
    })?;
    bar.finish();
    // Cases that are kept are not looked into: where all are, the lock says whether they still are what was made.
    if new.into_inner() == 0 && is_locked(&arguments.out) {
        if let Some(difference) = verify(&arguments.out, &|_, _| ())?.1.into_iter().next() {
            eprintln!(
                "delete the folder of a damaged case and make the set again, or dataset.lock to take it as it is"
            );
            return Err(difference.into());
        }
    } else {
        write_lock(&manifest, &arguments.out)?;
    }
    Ok(report(&manifest, "made and locked"))
}

/// How hard a recipe's scans are: figures, rules, and a page to look at.
pub fn difficulty(arguments: &DifficultyCheck) -> Result<Report, Failure> {
    let recipe = Recipe::load(&arguments.recipe)?;
    let gate = match &arguments.rules {
        Some(path) => Gate::load(path)?,
        None => Gate::shipped(),
    };
    std::fs::create_dir_all(&arguments.out).map_err(io(&arguments.out))?;
    draw_page(&recipe, &arguments.out.join("slices.png"))?;
    let bar = Bar::new("rendering and detecting");
    let found = measure(&recipe, &gate, &mut |done, total| bar.at(done, total, ""))?;
    bar.finish();
    let mut json = json!(found);
    json["name"] = json!(recipe.name);
    json["recipe_sha256"] = json!(recipe.sha256());
    json["synthetic"] = json!(true);
    json["passed"] = json!(found.passed());
    let path = arguments.out.join("difficulty.json");
    let text = serde_json::to_string_pretty(&json).expect("plain data");
    std::fs::write(&path, text + "\n").map_err(io(&path))?;
    if found.passed() {
        return Ok(Report { text: found.text(), json });
    }
    eprint!("{}", found.text());
    let broken: Vec<&str> = found.rules.iter().filter(|rule| !rule.1).map(|rule| rule.0.as_str()).collect();
    Err(Failure::rejected(format!("{} is not as hard as it must be: {}", recipe.name, broken.join("; ")), json))
}

/// From others' images and tables to a set of ours.
pub fn import(kind: &ImportKind) -> Result<Report, Failure> {
    let (from, tables) = match kind {
        ImportKind::Luna16(a) => {
            let (annotations, excluded) = (a.annotations.clone(), a.excluded.clone());
            (&a.from, Tables::Luna16 { annotations, excluded })
        }
        ImportKind::Lidc(a) => (&a.from, Tables::Lidc { xml: a.xml.clone() }),
        ImportKind::Folder(a) => (&a.from, Tables::Folder { annotations: a.annotations.clone() }),
        ImportKind::Msd(from) => (from, Tables::Msd),
    };
    let config = ImportConfig::load(&from.config)?;
    let (images, patients) = (from.images.as_path(), from.patients.as_deref());
    let request = Import { config: &config, images, tables, patients, out: &from.out, copy: from.copy };
    let bar = Bar::new("reading");
    let manifest =
        import_set(&request, &mut |step| bar.at(step.done, step.total, if step.reused { "kept" } else { "read" }))?;
    bar.finish();
    let mut report = report(&manifest, "imported");
    for centre in config.splits.held_out_centres.iter().filter(|centre| !manifest.centres.contains(centre)) {
        eprintln!("warning: the held-out centre {centre} has no series; there are: {}", manifest.centres.join(", "));
    }
    if let Some(provenance) = &manifest.provenance {
        let kept: Vec<&str> = provenance.identity.with_value.keys().map(String::as_str).collect();
        if !kept.is_empty() {
            eprintln!(
                "warning: the DICOM files themselves are as they were; {} attributes that may name a patient hold values: {}",
                kept.len(),
                kept.join(", "),
            );
        }
        report.text += &provenance.flow.text();
        report.json["flow"] = json!(provenance.flow);
        report.json["identity"] = json!(provenance.identity);
    }
    Ok(report)
}

/// A manifest; of a recipe it is said what can be done with it.
fn load(path: &Path) -> Result<Manifest, Failure> {
    Manifest::load(path).map_err(|error| match Recipe::load(path) {
        Ok(_) => Failure::usage(
            "this is a recipe, not a data set: `dataset make` makes the set, `dataset difficulty` measures how hard it is",
        ),
        Err(_) => error.into(),
    })
}

/// Everything that a lock and a manifest promise.
pub fn check(arguments: &Check) -> Result<Report, Failure> {
    let manifest_path = &arguments.set.manifest;
    if let Ok(recipe) = Recipe::load(manifest_path) {
        let out = arguments.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}-difficulty", recipe.name)));
        return difficulty(&DifficultyCheck { recipe: manifest_path.clone(), out, rules: None });
    }
    let folder = folder(manifest_path);
    let locked = is_locked(&folder);
    if locked {
        let bar = Bar::new("comparing with dataset.lock");
        let (_, differences) = verify(&folder, &|done, total| bar.at(done, total, ""))?;
        bar.finish();
        let all: Vec<Value> =
            differences.iter().map(|e| json!({ "rule": e.rule(), "message": e.to_string() })).collect();
        let mut each = differences.into_iter();
        if let Some(first) = each.next() {
            each.for_each(|other| eprintln!("error: {other} [{}]", other.rule()));
            return Err(Failure::from(first).with("differences", json!(all)));
        }
    } else if arguments.lock_only {
        let message = "the set has no dataset.lock; `cargo xtask dataset lock` writes one";
        return Err(Failure::new("not-locked", message));
    }
    let manifest = load(manifest_path)?;
    if !arguments.lock_only {
        let (mut at, total) = (0, manifest.all_cases().len());
        let bar = Bar::new("checking");
        manifest.check(&mut |case| {
            at += 1;
            bar.at(at, total, &case.id);
        })?;
        bar.finish();
    }
    let mut report = report(&manifest, if locked { "sound and as it was locked" } else { "sound" });
    report.json["locked"] = json!(locked);
    Ok(report)
}

/// One hash; no image is opened.
pub fn fingerprint(arguments: &Named) -> Result<Report, Failure> {
    let manifest = load(&arguments.manifest)?;
    let text = format!("{}\n", manifest.fingerprint());
    Ok(Report { text, ..report(&manifest, "") })
}

/// Freezes every byte.
pub fn lock(arguments: &Named) -> Result<Report, Failure> {
    let manifest = load(&arguments.manifest)?;
    let lock = write_lock(&manifest, &folder(&arguments.manifest))?;
    let mut report = report(&manifest, "locked");
    report.text += &format!("dataset.lock: {} files, root {}\n", lock.files, lock.root);
    report.json["files"] = json!(lock.files);
    report.json["root"] = json!(lock.root);
    Ok(report)
}

/// Sizes for training, from the training cases.
pub fn plan(arguments: &Plan) -> Result<Report, Failure> {
    let manifest = load(&arguments.set.manifest)?;
    let Plan { batch_voxels, divisor, batch_at_least, .. } = *arguments;
    let bar = Bar::new("measuring");
    let budget = Budget { batch_voxels, divisor, batch_at_least };
    let plan = plan_set(&manifest, budget, &mut |done, total| bar.at(done, total, ""))?;
    bar.finish();
    let (found, sizes) = (&plan.fingerprint, &plan.sizes);
    let text = format!(
        "{} training cases, median spacing {:.2?} mm, median size {:.0?} (z, y, x), {} nodules\n\
         grid {:.2?} mm, patch {:?}, batch {}, HU cut to {}\n",
        found.cases,
        found.spacing_mm.median,
        found.size.median,
        found.nodules,
        sizes.spacing_mm,
        sizes.patch,
        sizes.batch,
        sizes.clip_hu.map_or("nothing: no nodules to measure".to_owned(), |[low, high]| format!("{low} to {high}")),
    );
    Ok(Report { text, json: json!({ "synthetic": manifest.synthetic, "plan": plan }) })
}

/// JSON-LD for those who look for data.
pub fn croissant(arguments: &Croissant) -> Result<Report, Failure> {
    let path = &arguments.set.manifest;
    let manifest = load(path)?;
    let described = describe(&manifest, &folder(path), &arguments.url, &arguments.date)?;
    Ok(Report { text: format!("{described:#}\n"), json: json!({ "croissant": described }) })
}

/// One mapped file per scan.
pub fn store(arguments: &Store) -> Result<Report, Failure> {
    let manifest = load(&arguments.set.manifest)?;
    let grid = arguments.spacing.map_or(StoreGrid::Native, |mm| StoreGrid::Isotropic { mm });
    let store = PatchStore::new(&arguments.out, grid)?;
    let cases: Vec<_> = manifest.all_cases().iter().collect();
    let bar = Bar::new("storing");
    let mut new = 0;
    store.fill(&cases, &mut |step| {
        new += usize::from(!step.reused);
        bar.at(step.done, step.total, &step.case);
    })?;
    bar.finish();
    let mut report = report(&manifest, "stored");
    report.text += &format!("{new} of {} scans are new in the store\n", cases.len());
    report.json["new"] = json!(new);
    Ok(report)
}

/// Opinions of three simulated readers on the test cases.
pub fn readers(arguments: &Readers) -> Result<Report, Failure> {
    let manifest = load(&arguments.set.manifest)?;
    let panel = Reader::panel();
    let found = study(&manifest, Split::Test, &panel, arguments.seed)?;
    std::fs::create_dir_all(&arguments.out).map_err(io(&arguments.out))?;
    for (name, table) in &found.tables {
        let path = arguments.out.join(name);
        std::fs::write(&path, table).map_err(io(&path))?;
    }
    let mut text = format!("SYNTHETIC readers of {} synthetic test scans\n", found.cases);
    text += "reader  found < 6 mm  6 to 10 mm  >= 10 mm  false marks a scan\n";
    let share = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    for reader in &found.readers {
        let [small, middle, large] = reader.sensitivity.map(share);
        let wrong = reader.false_marks_per_scan;
        text += &format!("{:6}  {small:>12}  {middle:>10}  {large:>8}  {wrong:>18.2}\n", reader.reader);
    }
    let votes: Vec<String> = (1..).zip(&found.votes).map(|(by, n)| format!("{n} by {by}")).collect();
    text += &format!("findings marked: {}\n", votes.join(", "));
    text += &format!(
        "ratings of what all marked: ordinal alpha {}, Fleiss' kappa {}\n",
        share(found.alpha),
        share(found.kappa)
    );
    let mut json = json!({ "synthetic": true, "seed": arguments.seed, "panel": panel, "out": arguments.out });
    json["study"] = json!(found);
    Ok(Report { text, json })
}

/// The folder of a manifest that may be named by either.
fn folder(manifest: &Path) -> PathBuf {
    let folder = if manifest.is_dir() { manifest } else { manifest.parent().unwrap_or(Path::new("")) };
    if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() }
}

/// How far a verb is and how long it will take: a bar on terminals, a line per step elsewhere.
struct Bar {
    what: &'static str,
    bar: ProgressBar,
}

impl Bar {
    fn new(what: &'static str) -> Self {
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg} [{elapsed} < {eta}]");
        // The template is ours; if it were wrong the default bar would do.
        let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(what);
        Self { what, bar }
    }

    fn at(&self, done: usize, total: usize, item: &str) {
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
        self.bar.set_message(item.to_owned());
        if self.bar.is_hidden() && (done == total || !item.is_empty()) {
            let item = if item.is_empty() { self.what } else { item };
            eprintln!("[{done}/{total}] {item}");
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn report(manifest: &Manifest, state: &str) -> Report {
    let count = |split| manifest.cases(split).count();
    let (train, tune, test) = (count(Split::Train), count(Split::Tune), count(Split::Test));
    let fingerprint = manifest.fingerprint();
    let kind = if manifest.synthetic { "SYNTHETIC data" } else { "acquired data" };
    Report {
        text: format!(
            "{} {} is {state}: {train} training, {tune} tuning, {test} test cases of {} centres ({kind})\nfingerprint {fingerprint}\n",
            manifest.name,
            manifest.version,
            manifest.centres.len(),
        ),
        json: json!({
            "name": manifest.name,
            "version": manifest.version,
            "synthetic": manifest.synthetic,
            "cases": { "train": train, "tune": tune, "test": test },
            "fingerprint": fingerprint,
        }),
    }
}
