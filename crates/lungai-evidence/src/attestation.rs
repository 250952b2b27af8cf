//! What the build itself attests, signed with its key: the result of the tests (in-toto's test-result) and where the package comes from
//! (in the form of SLSA's provenance, of no level: the builder is whoever holds the key).
use crate::build::{Inputs, Report};
use crate::dsse;
use crate::failure::Failure;
use crate::junit::Verdict;
use crate::package::Files;
use crate::regulatory::sha256;
use lungai_trace::implements;
use p256::ecdsa::{SigningKey, VerifyingKey};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

pub const FOLDER: &str = "attestations";

/// Name and predicate type of each kind.
const KINDS: [(&str, &str); 2] = [
    ("provenance", "https://slsa.dev/provenance/v1"),
    ("test-result", "https://in-toto.io/attestation/test-result/v0.1"),
];

/// Predicates by name.
pub type Predicates = BTreeMap<&'static str, Value>;

fn kind(name: &str) -> Option<&'static str> {
    KINDS.iter().find(|(known, _)| *known == name).map(|(_, predicate)| *predicate)
}

pub fn path(name: &str) -> String {
    format!("{FOLDER}/{name}.dsse.json")
}

/// Of a package with these files. Without a report of a test run there is no result of tests to attest.
#[implements("RR-001", "SW-1103")]
pub fn predicates(report: &Report, inputs: &Inputs, files: &Files) -> Predicates {
    let named = |path: &str, bytes: &[u8]| json!({ "name": path, "digest": { "sha256": sha256(bytes) } });
    let is_input = |path: &str| path.starts_with("core/validation/") || path.starts_with("core/models/");
    let mut sources = Vec::new();
    if !report.commit.id.is_empty() {
        sources.push(json!({ "name": "sources", "digest": { "gitCommit": report.commit.id } }));
    }
    let run = ["run/junit.xml", "run/tests.json", "run/run.json", "run/mutations.json"];
    let run: Vec<Value> = run.iter().filter_map(|path| Some(named(path, files.get(*path)?))).collect();
    let given = files.iter().filter(|(path, _)| is_input(path)).map(|(path, bytes)| named(path, bytes));
    let dependencies: Vec<Value> = sources.iter().cloned().chain(run.iter().cloned()).chain(given).collect();
    let mut predicates = Predicates::new();
    predicates.insert(
        "provenance",
        json!({
            "buildDefinition": {
                "buildType": "https://lungai.example/evidence-package/v1",
                "externalParameters": { "product": report.product, "version": report.version, "changed": report.commit.dirty },
                "internalParameters": {},
                "resolvedDependencies": dependencies,
            },
            // Not when: a build has no clock.
            "runDetails": { "builder": { "id": "https://lungai.example/lungai-evidence", "version": { env!("CARGO_PKG_NAME"): env!("CARGO_PKG_VERSION") } } },
        }),
    );
    if let Some(cases) = &inputs.run.cases {
        let tagged: BTreeMap<String, bool> =
            report.tests.iter().map(|test| (test.title(), test.counts_as_passed())).collect();
        let mut by: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut seen = Vec::new();
        for case in cases {
            let title = format!("{} {}", case.suite, case.name);
            let list = match case.verdict {
                Verdict::Failed => "failed",
                Verdict::Passed if tagged.get(&title).copied().unwrap_or(inputs.run.objections.is_empty()) => "passed",
                Verdict::Passed | Verdict::Skipped => "warned",
            };
            seen.push(title.clone());
            by.entry(list).or_default().push(title);
        }
        // Tagged and not run.
        by.entry("warned").or_default().extend(tagged.into_keys().filter(|title| !seen.contains(title)));
        by.values_mut().for_each(|titles| titles.sort());
        let list = |name: &str| by.get(name).cloned().unwrap_or_default();
        let [passed, warned, failed] = ["passed", "warned", "failed"].map(list);
        let result = match (failed.is_empty(), warned.is_empty()) {
            (false, _) => "FAILED",
            (true, false) => "WARNED",
            (true, true) => "PASSED",
        };
        let configuration: Vec<Value> = sources.into_iter().chain(run).collect();
        predicates.insert(
            "test-result",
            json!({ "result": result, "configuration": configuration, "passedTests": passed, "warnedTests": warned, "failedTests": failed }),
        );
    }
    predicates
}

/// Path and text of each envelope.
#[implements("RR-001", "SW-1103")]
pub fn sealed(
    predicates: &Predicates,
    root_hash: &str,
    manifest: &[u8],
    key: &SigningKey,
) -> Result<Vec<(String, String)>, Failure> {
    let subjects = dsse::subjects(root_hash, manifest);
    let known = KINDS.iter().filter_map(|(name, kind)| Some((name, kind, predicates.get(name)?)));
    known
        .map(|(name, kind, predicate)| {
            Ok((path(name), dsse::sealed(&dsse::statement(&subjects, kind, predicate), key)?))
        })
        .collect()
}

/// The statement of this name, if it is whole, of the builder's key and of this very package.
#[implements("RR-001", "SW-1103")]
pub fn verify(
    folder: &Path,
    name: &str,
    root_hash: &str,
    manifest: &[u8],
    builder: &VerifyingKey,
) -> Result<Value, Failure> {
    let broken = |what: &str| Failure::integrity("attestation", format!("{}: {what}", path(name)));
    let Some(kind) = kind(name) else { return Err(broken("no kind of statement that is known")) };
    let text = std::fs::read_to_string(folder.join(path(name))).map_err(|_| broken("missing"))?;
    let statement = dsse::opened(&text, builder, kind, name).map_err(|failure| broken(&failure.message))?;
    if statement["subject"] != dsse::subjects(root_hash, manifest) {
        return Err(broken("speaks of another package"));
    }
    Ok(statement)
}
