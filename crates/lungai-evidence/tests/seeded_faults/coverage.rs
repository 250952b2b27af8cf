//! Line coverage that is missing, of other sources, below its limit, or of a part only.
use crate::demo::{Demo, FR, sha256};
use lungai_trace::verifies;

const CRITERION: &str =
    "- { id: FR-001.2, metric: coverage.lines, where: \"all\", op: \">=\", limit: 0.8, on: value }\n";

/// A workspace whose requirement asks for 80 % of the lines, with a record in which `reached` of ten lines are.
fn demo(reached: usize) -> Demo {
    let demo = Demo::new();
    let requirement = format!("{FR}{CRITERION}");
    demo.put("regulatory/requirements/FR-001.yaml", &requirement);
    let verifies = vec![("FR-001", sha256(&requirement)), ("R-001", sha256(crate::demo::RISK))];
    demo.record(&crate::demo::Record { verifies, ..crate::demo::Record::default() });
    cover(&demo, reached, "");
    demo
}

fn cover(demo: &Demo, reached: usize, commit: &str) {
    let lines: String =
        (1..=10).map(|n| format!("<line number=\"{n}\" hits=\"{}\"/>", usize::from(n <= reached))).collect();
    let text = format!(
        "<?xml version=\"1.0\"?><!DOCTYPE coverage SYSTEM \"coverage-04.dtd\"><coverage><packages><package><classes><class name=\"lib\" filename=\"src/lib.rs\"><methods/><lines>{lines}</lines></class><class name=\"x\" filename=\"elsewhere/x.rs\"><lines/></class></classes></package></packages></coverage>"
    );
    demo.put("target/evidence/coverage/cobertura.xml", &text);
    let hash = sha256(&text);
    demo.put(
        "target/evidence/coverage/coverage.json",
        &format!(
            r#"{{"format":"lungai-coverage/1","commit":"{commit}","changed":[],"tool":"cargo-tarpaulin 0","packages":["demo"],"cobertura_sha256":"{hash}"}}"#
        ),
    );
}

fn criterion(demo: &Demo) -> String {
    demo.answer()["criteria"]["FR-001.2"].as_str().unwrap().to_owned()
}

#[verifies("RR-001")]
#[test]
fn line_coverage_is_judged_on_its_record() {
    let demo = demo(8);
    assert_eq!(criterion(&demo), "criterion met");
    assert_eq!(demo.state(), "criterion met");
    let report = std::fs::read_to_string(demo.path("target/package/core/verification-report.md")).unwrap();
    assert!(report.contains("| demo | 8 | 10 | 80.0 % |"), "{report}");
    assert!(demo.path("target/package/run/coverage/cobertura.xml").exists());
    cover(&demo, 7, "");
    assert_eq!(criterion(&demo), "criterion not met");
    demo.check_finding("criterion-not-met", "FR-001.2");
    assert_eq!(demo.state(), "criterion not met");
}

#[verifies("RR-001")]
#[test]
fn line_coverage_without_a_record_is_not_evidenced() {
    let demo = demo(10);
    std::fs::remove_dir_all(demo.path("target/evidence/coverage")).unwrap();
    assert_eq!(criterion(&demo), "not evidenced here");
    demo.check_finding("coverage-missing", "FR-001.2");
    assert_eq!(demo.state(), "passed");
}

#[verifies("RR-001")]
#[test]
fn line_coverage_of_other_sources_counts_for_nothing() {
    let demo = demo(10);
    cover(&demo, 10, "0123456789abcdef");
    assert_eq!(criterion(&demo), "not evidenced here");
    demo.check_finding("coverage-of-another-commit", "FR-001.2");
    cover(&demo, 10, "");
    demo.edit("target/evidence/coverage/coverage.json", "\"changed\":[]", "\"changed\":[\"src/lib.rs\"]");
    assert_eq!(criterion(&demo), "not evidenced here");
    demo.check_finding("coverage-of-changed-sources", "FR-001.2");
    cover(&demo, 6, "");
    demo.edit("target/evidence/coverage/cobertura.xml", "hits=\"0\"", "hits=\"1\"");
    assert_eq!(demo.answer()["rule"], "coverage-malformed", "a file that was touched up is refused");
}

#[verifies("RR-001")]
#[test]
fn a_part_of_the_workspace_does_not_pass_for_the_whole() {
    let demo = demo(10);
    demo.edit("Cargo.toml", "[workspace]\n", "[workspace]\nmembers = [\"other\"]\n");
    demo.put(
        "other/Cargo.toml",
        "[package]\nname = \"other\"\nversion = \"1.2.3\"\nedition = \"2024\"\nlicense = \"MIT\"\n",
    );
    demo.put("other/src/lib.rs", "");
    let lock = "version = 4\n\n[[package]]\nname = \"demo\"\nversion = \"1.2.3\"\n\n[[package]]\nname = \"other\"\nversion = \"1.2.3\"\n";
    demo.put("Cargo.lock", lock);
    assert_eq!(criterion(&demo), "not evaluated");
    demo.check_finding("coverage-partial", "FR-001.2");
    cover(&demo, 5, "");
    assert_eq!(criterion(&demo), "criterion not met", "a part that misses the limit misses it");
}
