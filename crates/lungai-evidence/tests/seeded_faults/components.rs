//! Components: lines added to and taken from the lists, evaluations that went stale, advisories.
use crate::demo::Demo;
use lungai_trace::verifies;
use serde_json::Value;
use std::path::Path;

/// The demonstration with one dependency, `left-pad 1.0.0`, described and evaluated.
fn with_component() -> Demo {
    let demo = Demo::new();
    demo.put(
        "left-pad/Cargo.toml",
        "[package]\nname = \"left-pad\"\nversion = \"1.0.0\"\nedition = \"2024\"\nlicense = \"MIT\"\n",
    );
    demo.put("left-pad/src/lib.rs", "");
    demo
}

const ADVISORY: &str = "```toml\n[advisory]\nid = \"RUSTSEC-2026-0001\"\npackage = \"semver\"\ndate = \"2026-10-01\"\n[versions]\npatched = [\">= 2.0.0\"]\n```\n\n# It breaks\n";

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[verifies("RR-001")]
#[test]
fn without_a_database_vulnerabilities_are_unknown_and_never_none() {
    let demo = Demo::new();
    demo.check_finding("advisories-unknown", "advisories");
    let vex = json(&demo.path("target/package/core/vex.cdx.json"));
    assert_eq!(vex["metadata"]["properties"][0]["value"], "unknown: no advisory database was given");
    demo.put("db/crates/semver/RUSTSEC-2026-0001.md", ADVISORY);
    demo.commit();
    let answer = demo.build(&demo.path("target/package"), &["--advisories", "db"]);
    assert!(!answer["gaps"].to_string().contains("advisories-unknown"));
    let vex = json(&demo.path("target/package/core/vex.cdx.json"));
    let said = vex["metadata"]["properties"][0]["value"].as_str().unwrap();
    assert!(said.starts_with("1 advisories up to 2026-10-01, SHA-256 "), "{said}");
}

#[verifies("RR-001")]
#[test]
fn an_old_database_an_empty_one_and_a_malformed_one_are_caught() {
    let demo = Demo::new();
    demo.put("db/RUSTSEC-2026-0001.md", &ADVISORY.replace("2026-10-01", "2026-08-01"));
    demo.commit();
    let build = |demo: &Demo| demo.build(&demo.path("target/package"), &["--advisories", "db"]);
    assert!(build(&demo)["gaps"].to_string().contains("advisories-stale"));
    demo.put("db/RUSTSEC-2026-0001.md", "no front matter");
    assert_eq!(build(&demo)["rule"], "advisories");
    std::fs::remove_file(demo.path("db/RUSTSEC-2026-0001.md")).unwrap();
    assert_eq!(build(&demo)["rule"], "advisories");
}

#[verifies("RR-001")]
#[test]
fn a_verdict_needs_a_reason_and_something_to_speak_of() {
    let demo = Demo::new();
    demo.put("db/RUSTSEC-2026-0001.md", ADVISORY);
    let verdict = "- { advisory: RUSTSEC-2026-0001, component: semver, state: not_affected, JUST detail: d, by: b, date: 2026-11-01 }\n";
    demo.put("regulatory/vex.yaml", &verdict.replace("JUST", ""));
    assert_eq!(demo.answer()["rule"], "justification-missing");
    demo.put("regulatory/vex.yaml", &verdict.replace("JUST", "justification: code_not_present,"));
    let answer = demo.build(&demo.path("target/package"), &["--advisories", "db"]);
    assert!(answer["gaps"].to_string().contains("vex-idle"), "{:#}", answer["gaps"]);
}

#[verifies("RR-001")]
#[test]
fn bills_of_materials_name_the_program_and_what_it_links() {
    let demo = with_component();
    demo.edit("Cargo.toml", "[workspace]", "[dependencies]\nleft-pad = { path = \"left-pad\" }\n\n[workspace]");
    demo.put("Cargo.lock", "version = 4\n\n[[package]]\nname = \"demo\"\nversion = \"1.2.3\"\ndependencies = [\n \"left-pad\",\n]\n\n[[package]]\nname = \"left-pad\"\nversion = \"1.0.0\"\n");
    demo.commit();
    let answer = demo.answer();
    assert_eq!(answer["ok"], true, "{answer}");
    let core = demo.path("target/package/core");
    let cyclonedx = json(&core.join("sbom.cdx.json"));
    assert_eq!(cyclonedx["specVersion"], "1.6");
    assert_eq!(cyclonedx["components"][0]["purl"], "pkg:cargo/left-pad@1.0.0");
    let spdx = json(&core.join("sbom.spdx.json"));
    assert_eq!(
        (&spdx["spdxVersion"], &spdx["creationInfo"]["created"]),
        (&"SPDX-2.3".into(), &"2026-11-24T10:00:00Z".into())
    );
    let kinds: Vec<_> =
        spdx["relationships"].as_array().unwrap().iter().map(|r| r["relationshipType"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["DESCRIBES", "DEPENDS_ON"]);
    // A component that the lock holds in another version than the program needs does not resolve.
    demo.edit("Cargo.lock", "name = \"left-pad\"\nversion = \"1.0.0\"", "name = \"left-pad\"\nversion = \"1.0.1\"");
    assert_eq!(demo.answer()["rule"], "cargo");
}

#[verifies("RR-001")]
#[test]
fn the_same_version_with_another_licence_or_digest_is_another_component() {
    let demo = with_component();
    demo.edit(
        "Cargo.toml",
        "[workspace]",
        "[dependencies]\nleft-pad = { path = \"left-pad\" }\n\n[workspace]\nexclude = [\"left-pad\"]",
    );
    demo.put("Cargo.lock", "version = 4\n\n[[package]]\nname = \"demo\"\nversion = \"1.2.3\"\ndependencies = [\n \"left-pad\",\n]\n\n[[package]]\nname = \"left-pad\"\nversion = \"1.0.0\"\n");
    assert_eq!(demo.build(&demo.path("old"), &[])["ok"], true);
    demo.edit("left-pad/Cargo.toml", "MIT", "GPL-3.0-only");
    assert_eq!(demo.build(&demo.path("new"), &[])["ok"], true);
    let run = demo.tool(&["diff", "old", "new", "--json"]);
    let diff: Value = serde_json::from_slice(&run.stdout).unwrap();
    let change = &diff["changes"][0];
    assert_eq!(change["item"], "component left-pad", "{diff:#}");
    assert_eq!(
        (&change["before"], &change["after"]),
        (&"1.0.0 MIT no digest".into(), &"1.0.0 GPL-3.0-only no digest".into())
    );
}
