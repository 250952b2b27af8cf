//! `dataset make`, `dataset check`, `dataset fingerprint`.

use crate::Report;
use crate::arguments::{Make, Manifest as Named};
use crate::failure::Failure;
use lungai_datasets::recipe::{Recipe, make as make_set};
use lungai_datasets::{Manifest, Split};
use serde_json::json;

/// From a recipe to DICOM series with truth.
pub fn make(arguments: &Make) -> Result<Report, Failure> {
    let recipe = Recipe::load(&arguments.recipe)?;
    let manifest = make_set(&recipe, &arguments.out, &|step| {
        let how = if step.reused { "kept" } else { "made" };
        eprintln!("[{}/{}] {} {how}", step.done, step.total, step.case);
    })?;
    Ok(report(&manifest, "made"))
}

/// Everything that a manifest promises.
pub fn check(arguments: &Named) -> Result<Report, Failure> {
    let manifest = Manifest::load(&arguments.manifest)?;
    let total = manifest.all_cases().len();
    let mut at = 0;
    manifest.check(&mut |case| {
        at += 1;
        eprintln!("[{at}/{total}] {}", case.id);
    })?;
    Ok(report(&manifest, "sound"))
}

/// One hash; no image is opened.
pub fn fingerprint(arguments: &Named) -> Result<Report, Failure> {
    let manifest = Manifest::load(&arguments.manifest)?;
    let text = format!("{}\n", manifest.fingerprint());
    Ok(Report { text, ..report(&manifest, "") })
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
