//! A set as Croissant 1.0 JSON-LD (MLCommons, 2024, `http://mlcommons.org/croissant/1.0`), which data-set search engines and
//! loaders of other frameworks read.
//!
//! Files that are one file each (the manifest, tables of nodules, lung masks) are distributed with their SHA-256. A DICOM
//! series is a folder of many; it is named in the records by the hash of its voxels. Patients' pseudonyms stay out: the
//! export is meant to be published.

use crate::DatasetError;
use crate::hash::sha256;
use crate::manifest::{Case, Manifest, Part, Split};
use serde_json::{Value, json};
use std::path::Path;

/// Describes the set that lies in `folder`. `url` is where it is published, `date` (`YYYY-MM-DD`) since when.
///
/// # Errors
/// [`DatasetError::Io`] where the manifest cannot be read.
pub fn croissant(manifest: &Manifest, folder: &Path, url: &str, date: &str) -> Result<Value, DatasetError> {
    let path = folder.join("manifest.yaml");
    let bytes = std::fs::read(&path).map_err(DatasetError::io(&path))?;
    let mut distribution = vec![file_object(
        "manifest",
        "manifest.yaml",
        "application/yaml",
        &sha256(&bytes),
        "Cases, splits, checksums.",
    )];
    for case in manifest.all_cases() {
        distribution.extend(truth_files(case));
    }
    let kind = if manifest.synthetic { "SYNTHETIC (computed) chest CT" } else { "Chest CT" };
    let count = |split| manifest.cases(split).count();
    let description = format!(
        "{kind} with reference nodules: {} training, {} tuning and {} test cases of {} centres; no patient in two splits, test \
         centres unseen in training. Fingerprint {}.",
        count(Split::Train),
        count(Split::Tune),
        count(Split::Test),
        manifest.centres.len(),
        manifest.fingerprint()
    );
    let mut set = json!({
        "@context": context(),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": manifest.name,
        "description": description,
        "license": manifest.licence,
        "url": url,
        "version": version(&manifest.version),
        "datePublished": date,
        "isLiveDataset": false,
        "distribution": distribution,
        "recordSet": [splits(), cases(manifest)],
    });
    if let Some(citation) = &manifest.citation {
        set["citeAs"] = json!(citation);
    }
    if let Some(provenance) = &manifest.provenance {
        let identity = &provenance.identity;
        let held: Vec<String> = identity.with_value.iter().map(|(name, n)| format!("{name} in {n}")).collect();
        set["rai:personalSensitiveInformation"] = json!(format!(
            "{} DICOM files were searched for {} identifying attributes; those that hold a value: {}. Burned-in annotation is \
             stated absent in {}.",
            identity.files,
            provenance.checked_attributes.len(),
            if held.is_empty() { "none".to_owned() } else { held.join(", ") },
            identity.burned_in_annotation.no
        ));
        set["rai:dataCollection"] =
            json!(format!("Imported by lungai ({}):\n{}", provenance.importer, provenance.flow.text()));
    }
    Ok(set)
}

/// Croissant asks for MAJOR.MINOR.PATCH; a plain number is the first part of one.
fn version(given: &str) -> String {
    let parts = given.split('.').count();
    let plain =
        !given.is_empty() && given.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    if plain && parts < 3 { format!("{given}{}", ".0".repeat(3 - parts)) } else { given.to_owned() }
}

fn file_object(id: &str, path: &str, format: &str, sha256: &str, description: &str) -> Value {
    json!({
        "@type": "cr:FileObject",
        "@id": id,
        "name": id,
        "description": description,
        "contentUrl": path,
        "encodingFormat": format,
        "sha256": sha256,
    })
}

fn truth_files(case: &Case) -> Vec<Value> {
    let object = |kind: &str, part: &Part, format: &str, description: &str| {
        let id = format!("{kind}/{}", case.id);
        // Paths in URLs have slashes on every system.
        let path = part.path.to_string_lossy().replace('\\', "/");
        file_object(&id, &path, format, &part.sha256, description)
    };
    let nodules =
        case.nodules.as_ref().map(|part| object("nodules", part, "text/csv", "Reference nodules in patient LPS mm."));
    let lungs =
        case.lungs.as_ref().map(|part| object("lungs", part, "application/gzip", "Lung labels: 1 right, 2 left."));
    [nodules, lungs].into_iter().flatten().collect()
}

fn field(set: &str, name: &str, kind: &str, description: &str) -> Value {
    json!({
        "@type": "cr:Field",
        "@id": format!("{set}/{name}"),
        "name": name,
        "description": description,
        "dataType": kind,
    })
}

fn splits() -> Value {
    let meaning =
        [(Split::Train, "cr:TrainingSplit"), (Split::Tune, "cr:ValidationSplit"), (Split::Test, "cr:TestSplit")];
    let data: Vec<Value> =
        meaning.iter().map(|(split, url)| json!({ "splits/name": split.name(), "splits/url": url })).collect();
    json!({
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "What a case may be used for.",
        "dataType": "cr:Split",
        "key": { "@id": "splits/name" },
        "field": [
            field("splits", "name", "sc:Text", "train, tune or test."),
            field("splits", "url", "sc:URL", "Croissant's name of the split."),
        ],
        "data": data,
    })
}

fn cases(manifest: &Manifest) -> Value {
    let sum = |part: &Option<Part>| part.as_ref().map_or(String::new(), |part| part.sha256.clone());
    let data: Vec<Value> = manifest
        .all_cases()
        .iter()
        .map(|case| {
            json!({
                "cases/id": case.id,
                "cases/centre": case.centre,
                "cases/split": case.split.name(),
                "cases/hu_sha256": case.series.sha256,
                "cases/nodules_sha256": sum(&case.nodules),
                "cases/lungs_sha256": sum(&case.lungs),
            })
        })
        .collect();
    let mut split = field("cases", "split", "sc:Text", "train, tune or test.");
    split["references"] = json!({ "field": { "@id": "splits/name" } });
    json!({
        "@type": "cr:RecordSet",
        "@id": "cases",
        "name": "cases",
        "description": "One scan each.",
        "key": { "@id": "cases/id" },
        "field": [
            field("cases", "id", "sc:Text", "Name of the case in tables of marks."),
            field("cases", "centre", "sc:Text", "Where it was acquired."),
            split,
            field("cases", "hu_sha256", "sc:Text", "SHA-256 of the HU as 16-bit little endian, slices ascending, rows, columns."),
            field("cases", "nodules_sha256", "sc:Text", "SHA-256 of the table of nodules; empty where they are unknown."),
            field("cases", "lungs_sha256", "sc:Text", "SHA-256 of the lung labels; empty where there are none."),
        ],
        "data": data,
    })
}

/// The context that the specification prescribes word by word.
fn context() -> Value {
    json!({
        "@language": "en",
        "@vocab": "https://schema.org/",
        "citeAs": "cr:citeAs",
        "column": "cr:column",
        "conformsTo": "dct:conformsTo",
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "data": { "@id": "cr:data", "@type": "@json" },
        "dataType": { "@id": "cr:dataType", "@type": "@vocab" },
        "dct": "http://purl.org/dc/terms/",
        "equivalentProperty": "cr:equivalentProperty",
        "examples": { "@id": "cr:examples", "@type": "@json" },
        "extract": "cr:extract",
        "field": "cr:field",
        "fileProperty": "cr:fileProperty",
        "fileObject": "cr:fileObject",
        "fileSet": "cr:fileSet",
        "format": "cr:format",
        "includes": "cr:includes",
        "isLiveDataset": "cr:isLiveDataset",
        "jsonPath": "cr:jsonPath",
        "key": "cr:key",
        "md5": "cr:md5",
        "parentField": "cr:parentField",
        "path": "cr:path",
        "recordSet": "cr:recordSet",
        "references": "cr:references",
        "regex": "cr:regex",
        "repeated": "cr:repeated",
        "replace": "cr:replace",
        "samplingRate": "cr:samplingRate",
        "sc": "https://schema.org/",
        "separator": "cr:separator",
        "source": "cr:source",
        "subField": "cr:subField",
        "transform": "cr:transform",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_described_with_its_files_and_cases_and_without_patients() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let text = format!(
            "name: tiny\nversion: '1'\nsynthetic: true\nlicence: CC0-1.0\ncitation: 'Doe, A set. 2026'\ncentres: [north]\ncases:\n- {{id: n1, patient: SECRET, \
             centre: north, split: train, series: {{path: n1.mha, sha256: {a}}}, nodules: {{path: n1.csv, sha256: {b}}}}}\n"
        );
        std::fs::write(folder.path().join("manifest.yaml"), &text).unwrap();
        let manifest = Manifest::load(folder.path()).unwrap();
        let set = croissant(&manifest, folder.path(), "https://example.org/tiny", "2026-01-31").unwrap();
        assert!(!set.to_string().contains("SECRET"));
        assert!(set["description"].as_str().unwrap().starts_with("SYNTHETIC"));
        assert_eq!((&set["version"], &set["citeAs"]), (&json!("1.0.0"), &json!("Doe, A set. 2026")));
        assert_eq!(set["distribution"][0]["sha256"], sha256(text.as_bytes()));
        assert_eq!(set["distribution"][1]["contentUrl"], "n1.csv");
        assert_eq!(set["distribution"][1]["sha256"], b);
        let case = &set["recordSet"][1]["data"][0];
        assert_eq!((&case["cases/split"], &case["cases/hu_sha256"]), (&json!("train"), &json!(a)));
    }
}
