//! From records to everything that a reader of a validation gets: results, tables, figures, report.

use crate::failure::{Failure, io};
use crate::protocol::Protocol;
use crate::reference::Collected;
use crate::staging::Staging;
use crate::{report, results, tables};
use lungai_datasets::{Manifest, sha256};
use serde_json::{Value, json};
use std::path::Path;

/// What an analysis is of.
pub struct Subject<'a> {
    /// The rules.
    pub protocol: &'a Protocol,
    /// The test set.
    pub manifest: &'a Manifest,
    /// What was found in it.
    pub collected: &'a Collected,
    /// Score at which the detector is operated.
    pub threshold: f64,
    /// What the report says of the run.
    pub facts: report::Facts,
    /// The protocol file, byte for byte, which is kept beside the results.
    pub protocol_text: &'a str,
}

/// What is told to whoever asked.
pub struct Outcome {
    /// Whether every primary endpoint is shown.
    pub met: bool,
    /// For programs.
    pub json: Value,
    /// For people.
    pub text: String,
}

/// Writes everything into `out`, `results.json` last: without it nothing there is a result.
///
/// # Errors
/// Figures that the records cannot carry; a file that cannot be written. Nothing of an earlier analysis is changed then.
pub fn write(subject: &Subject<'_>, out: &Path) -> Result<Outcome, Failure> {
    let Subject { protocol, manifest, collected, threshold, facts, protocol_text } = subject;
    let mut results = results::evaluate(protocol, &collected.records, &collected.rejected, *threshold)?;
    results.counts.scans_of_other_centres = collected.of_other_centres;
    results.counts.scans_without_reference = collected.without_reference;

    let staging = Staging::new(out)?;
    let folder = &staging.folder;
    tables::write(protocol, &collected.records, *threshold, facts.synthetic, folder)?;
    let image = |case: &str| {
        let case = manifest.all_cases().iter().find(|known| known.id == case)?;
        case.load_scan().ok().map(|scan| scan.volume)
    };
    let about = report::Subject { facts, protocol, collected, results: &results, image: &image };
    let checked = report::write(&about, folder)?;
    put(&folder.join("protocol.yaml"), protocol_text)?;

    let met = results.met();
    let mut json = json!({
        "notice": report::notice(manifest.synthetic),
        "synthetic": manifest.synthetic,
        "met": met,
        "standing": facts.standing,
        "protocol": {
            "name": protocol.name, "version": protocol.version, "sha256": facts.protocol_sha256,
            "canonical_sha256": facts.canonical_sha256,
        },
        "data_set": { "name": manifest.name, "version": manifest.version, "fingerprint": facts.data_fingerprint },
        "tables": facts.tables,
        "manifest_sha256": facts.manifest_sha256,
        "model": {
            "name": facts.model_name, "version": facts.model_version, "sha256": facts.model_sha256,
            "synthetic": facts.model_synthetic,
        },
        "predictions_sha256": facts.predictions_sha256,
        "program": { "version": env!("CARGO_PKG_VERSION"), "sha256": facts.program_sha256 },
        "device": facts.device,
        "confidence_level": protocol.confidence_level,
    });
    extend(&mut json, &results);
    extend(&mut json, &json!({ "flow": collected.flow, "coherence": checked }));
    // The file holds the scans as well.
    let mut whole = json.clone();
    let files = staging.files()?;
    extend(&mut whole, &json!({ "scans": collected.records, "rejected": collected.rejected, "files": files }));
    put(&folder.join(RESULTS), &(serde_json::to_string_pretty(&whole).expect("plain data") + "\n"))?;
    staging.publish(RESULTS)?;

    if met {
        json["ok"] = json!(true);
    } else {
        let primary = results.criteria.iter().filter(|c| c.role == results::Role::Primary);
        let unmet: Vec<&str> = primary.filter(|c| !c.decision.shown).map(|c| c.id.as_str()).collect();
        let message = format!("not met: {}", unmet.join(", "));
        extend(&mut json, &json!({ "ok": false, "rule": "criterion-not-met", "message": message }));
    }
    Ok(Outcome { met, json, text: summary(protocol, facts, &results, out) })
}

/// The file that makes a folder one of results.
pub const RESULTS: &str = "results.json";

fn summary(protocol: &Protocol, facts: &report::Facts, results: &results::Results, out: &Path) -> String {
    let mut text = format!(
        "{}\n{} on {}\n{}\n",
        report::notice(facts.synthetic),
        facts.model,
        facts.data_set,
        facts.standing.words()
    );
    let c = &results.counts;
    let [low, high] = protocol.scored_diameter_mm;
    text += &format!(
        "{} scans, {} nodules of {low} to {high} mm, {} scans refused\n",
        c.scans, c.nodules, c.rejected_scans
    );
    text += "\nFP/scan  sensitivity, all these nodules\n";
    for point in &results.detection.curve.at {
        text += &format!("{:>7}  {:.3} ({:.3} to {:.3})\n", point.rate, point.sensitivity, point.ci[0], point.ci[1]);
    }
    let cpm = |figure: &results::Figure| figure.value.map_or("not defined".into(), |v| format!("{v:.3}"));
    text += &format!(
        "    CPM  {} (baseline {})\n\n",
        cpm(&results.detection.curve.cpm),
        results.baseline.as_ref().map_or("not run".into(), |b| cpm(&b.cpm))
    );
    for c in &results.criteria {
        let number = |v: Option<f64>| v.map_or("not defined".into(), |v| format!("{v:.3}"));
        let bounds = c.ci.map_or(String::new(), |[low, high]| format!(" ({low:.3} to {high:.3})"));
        let figure = match (c.diameter_at_least_mm > 0.0, c.population.is_empty()) {
            (false, true) => c.metric.name().to_owned(),
            _ => {
                let of =
                    report::words::population(c.diameter_at_least_mm, &c.population, report::language::Language::En);
                format!("{} of {of}", c.metric.name())
            }
        };
        let verdict = match (c.decision.shown, c.decision.tested) {
            (true, _) => "met    ",
            (false, true) => "NOT met",
            (false, false) => "not tested",
        };
        text += &format!(
            "{verdict}  {:<9} {:<40} {}{bounds}, {} {} {}\n",
            c.id,
            figure,
            number(c.value),
            c.on.words(),
            c.op.sign(),
            c.limit
        );
    }
    text + &format!("\nwritten to {}: report.html, results.json\n", out.display())
}

/// Adds the fields of one object to another.
pub fn extend(json: &mut Value, more: &impl serde::Serialize) {
    if let (Some(json), Ok(Value::Object(more))) = (json.as_object_mut(), serde_json::to_value(more)) {
        json.extend(more);
    }
}

/// SHA-256 of a file.
pub fn hash(path: &Path) -> Result<String, Failure> {
    Ok(sha256(&std::fs::read(path).map_err(io(path))?))
}

fn put(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(io(path))
}
