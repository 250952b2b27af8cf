//! What documents and exchange files say, and what they must not say.
use crate::demo::{Demo, FR, check, sha256};
use lungai_trace::verifies;
use serde_json::Value;
use std::collections::BTreeMap;

fn text(demo: &Demo, name: &str) -> String {
    std::fs::read_to_string(demo.path(&format!("target/package/core/{name}"))).unwrap()
}

/// Head rows of all tables: the line above each `|---|`.
fn heads(markdown: &str) -> Vec<&str> {
    let lines: Vec<&str> = markdown.lines().collect();
    lines.windows(2).filter(|pair| pair[1].starts_with("|---")).map(|pair| pair[0]).collect()
}

#[verifies("RR-001")]
#[test]
fn every_document_has_its_headings_and_tables_in_its_own_language() {
    let demo = Demo::new();
    demo.answer();
    let is_chinese = |text: &str| text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
    let mut tables = 0;
    for entry in std::fs::read_dir(demo.path("target/package/core")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(document) = name.strip_suffix(".zh.md") else { continue };
        let (zh, en) = (text(&demo, &name), text(&demo, &format!("{document}.md")));
        assert!(zh.lines().next().is_some_and(is_chinese), "{name}: title");
        // Crates, runs, data sets and problems bear names, in either language.
        for heading in zh.lines().filter(|line| line.starts_with("## ")) {
            let named = ["demo", "validation-", "R-001"].iter().any(|own| heading.contains(own));
            assert!(named || is_chinese(heading), "{name}: {heading}");
        }
        assert_eq!(heads(&zh).len(), heads(&en).len(), "{name}");
        for (zh, en) in heads(&zh).into_iter().zip(heads(&en)) {
            assert!(is_chinese(zh) && !is_chinese(en), "{name}: {zh} / {en}");
            tables += 1;
        }
        for format in ["html", "docx"] {
            assert!(demo.path(&format!("target/package/core/documents/{document}.zh.{format}")).exists());
        }
    }
    assert!(tables > 12, "{tables} tables");
    assert!(text(&demo, "srs.zh.md").contains("状态: **判据满足**"));
}

/// ForeignID of each object by its identifier.
fn objects(demo: &Demo) -> BTreeMap<String, String> {
    let file = text(demo, "trace.reqif");
    let parts = file.split("<SPEC-OBJECT IDENTIFIER=\"").skip(1);
    let value = |part: &str, before: &str| part.split(before).nth(1).unwrap().split('"').next().unwrap().to_owned();
    parts.map(|part| (part.split('"').next().unwrap().to_owned(), value(part, "THE-VALUE=\""))).collect()
}

#[verifies("RR-001")]
#[test]
fn identifiers_of_requirements_exchange_outlast_a_new_requirement() {
    let demo = Demo::new();
    demo.answer();
    let before = objects(&demo);
    for (identifier, id) in
        [("requirement-FR-001", "FR-001"), ("criterion-FR-001.1", "FR-001.1"), ("control-RC-1", "RC-1")]
    {
        assert_eq!(before.get(identifier).map(String::as_str), Some(id), "{before:?}");
    }
    // Sorted before all others, so that a counter would shift.
    let first = FR.replace("FR-001", "FR-000").replace("controls_for: [R-001]", "controls_for: []");
    demo.put("regulatory/requirements/FR-000.yaml", &first);
    demo.answer();
    let after = objects(&demo);
    assert!(before.iter().all(|(identifier, id)| after.get(identifier) == Some(id)), "{after:?}");
    assert_eq!(after["requirement-FR-000"], "FR-000");
    let file = text(&demo, "trace.reqif");
    for relation in ["link-reduces", "link-is-done-by", "link-is-shown-by", "link-decides", "link-verifies"] {
        assert!(file.contains(&format!("<SPEC-RELATION-TYPE-REF>{relation}<")), "{relation}");
    }
}

#[verifies("RR-001")]
#[test]
fn a_change_since_an_earlier_package_is_told_with_the_tests_to_repeat() {
    let demo = Demo::new();
    demo.build(&demo.path("target/earlier"), &[]);
    let earlier = std::fs::read_to_string(demo.path("target/earlier/core/change-impact.md")).unwrap();
    assert!(
        earlier.contains("no earlier package was given (`--since`)") && earlier.contains("release on record: none")
    );
    demo.edit("regulatory/requirements/FR-001.yaml", "limit: 0.9,", "limit: 0.95,");
    demo.build(&demo.path("target/package"), &["--since", "target/earlier"]);
    let told = text(&demo, "change-impact.md");
    let manifest: Value =
        serde_json::from_str(&std::fs::read_to_string(demo.path("target/earlier/manifest.json")).unwrap()).unwrap();
    for part in
        [manifest["root_hash"].as_str().unwrap(), "requirement FR-001", "- `demo tests::finds_three`", "| R-001 |"]
    {
        assert!(told.contains(part), "no `{part}` in {told}");
    }
    // A package that was touched is no ground for a comparison.
    demo.put("target/earlier/core/srs.md", "x");
    let answer = demo.build(&demo.path("target/package"), &["--since", "target/earlier"]);
    assert_eq!(answer["rule"], "file-changed");
}

const RECIPE: &str = "name: set\nversion: \"1\"\nlicence: CC0-1.0\nseed: 7\ncentres:\n- { name: here, train: 1, tune: 0, test: 2, scanner: { manufacturer: Maker, model: M, slice_thickness_mm: 1.5 } }\n";

#[verifies("RR-001")]
#[test]
fn a_datasheet_says_what_recipe_and_protocol_say_and_leaves_the_rest_to_people() {
    let demo = Demo::new();
    let protocol = "purpose: To see.\ncentres: [here]\n";
    demo.put("run/protocol.yaml", protocol);
    demo.put("datasets/set.yaml", RECIPE);
    demo.edit("run/results.json", "\"sha256\":\"20\"", &format!("\"sha256\":\"{}\"", sha256(protocol)));
    demo.answer();
    assert!(!text(&demo, "datasheet.md").contains("CC0-1.0"), "the results do not name the set");
    demo.edit(
        "run/results.json",
        "\"fingerprint\":\"33\"",
        "\"fingerprint\":\"33\",\"name\":\"set\",\"version\":\"1\"",
    );
    demo.answer();
    let sheet = text(&demo, "datasheet.md");
    for part in
        ["## set 1", "To see.", "CC0-1.0", "| here | 1, 0, 2 | Maker M | 1.5 |", "consent** *manual - record required*"]
    {
        assert!(sheet.contains(part), "no `{part}` in {sheet}");
    }
    assert!(!sheet.contains("SYNTHETIC"), "nothing says that it is");
    // Another version is another set.
    demo.edit("datasets/set.yaml", "version: \"1\"", "version: \"2\"");
    demo.answer();
    assert!(!text(&demo, "datasheet.md").contains("CC0-1.0"));
}

#[verifies("RR-001")]
#[test]
fn the_design_index_leads_from_a_unit_to_what_it_implements_and_its_tests() {
    let demo = Demo::new();
    demo.edit("src/lib.rs", "\n#[lungai_trace::implements", "//! Counts to three. Always.\n#[lungai_trace::implements");
    demo.answer();
    assert!(text(&demo, "design-index.md").contains("| `demo` | Counts to three. | FR-001 | 1 / 1 | - |"));
    let row = "demo,demo,src/lib.rs,Counts to three.,FR-001,own,demo tests::finds_three,FR-001 R-001,passed";
    assert!(text(&demo, "design-index.csv").contains(row), "{}", text(&demo, "design-index.csv"));
}

#[verifies("RR-001")]
#[test]
fn an_entry_on_foreign_code_that_fits_no_shipped_crate_shows() {
    let demo = Demo::new();
    let entry = "- { carrier: z-sys, carrier_version: \"1\", name: Z, version: \"1.2\", licence: Zlib, supplier: null, anomalies_at: null, found_in: z.h }\n";
    demo.put("regulatory/bundled.yaml", entry);
    check(&demo.answer(), "bundled-surplus", "z-sys", "not shipped");
}
