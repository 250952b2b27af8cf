//! Tests that were dropped, ignored, emptied, retried, or disagree with their records; results of other runs and other sources.
use crate::demo::{Demo, JUNIT, LIST, RISK, Record, SOURCE, check, sha256};
use lungai_trace::verifies;
use std::process::Command;

const TEST: &str = "demo tests::finds_three";

#[verifies("RR-001")]
#[test]
fn a_failing_test_shows_upward_to_requirement_control_risk_and_clause() {
    let demo = Demo::new();
    demo.put("junit.xml", &JUNIT.replace("/></testsuite>", "><failure message=\"no\"/></testcase></testsuite>"));
    assert_eq!(demo.state(), "failed");
    demo.check_finding("test-failed", "tests::finds_three");
    demo.check_finding("requirement-failed", "FR-001");
    demo.check_finding("control-broken", "RC-1");
    demo.check_finding("residual-risk", "R-001");
    demo.check_finding("clause-gap", "IEC 62304 5.5.5");
    assert_eq!(demo.answer()["risks"]["R-001"]["residual_as_evidenced"], "high");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn a_failing_test_without_a_tag_is_seen_too() {
    let demo = Demo::new();
    let other = |verdict: &str| {
        let case = format!("<testcase name=\"more::other\">{verdict}</testcase></testsuite>");
        demo.put("junit.xml", &JUNIT.replace("</testsuite>", &case));
    };
    other("");
    demo.check_no_finding("test-failed");
    other("<failure message=\"no\"/>");
    check(&demo.answer(), "test-failed", "demo more::other", "it carries no tag");
    assert_eq!(demo.state(), "criterion met", "it is no test of this requirement");
}

/// What is found where the runner reports no such test, and no record was left.
#[track_caller]
fn check_not_run(edit: impl Fn(&Demo), severity: &str, rule: &str, says: &str) {
    let demo = Demo::new();
    demo.put("junit.xml", "<testsuites uuid=\"run-7\"></testsuites>");
    std::fs::remove_file(demo.path("trace/demo.json")).unwrap();
    edit(&demo);
    let answer = demo.answer();
    check(&answer, rule, "tests::finds_three", says);
    let of_the_test =
        answer["gaps"].as_array().unwrap().iter().filter(|gap| gap["item"] == TEST && gap["rule"] != "suspect-link");
    let found: Vec<_> = of_the_test.map(|gap| (gap["severity"].as_str(), gap["rule"].as_str())).collect();
    assert_eq!(found, [(Some(severity), Some(rule))], "one cause, one finding");
    assert_eq!(answer["states"]["FR-001"], "linked");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn why_a_test_did_not_run_is_told_apart() {
    let listed = |from: &'static str, to: &'static str| move |demo: &Demo| demo.edit("tests.json", from, to);
    check_not_run(|_| (), "red", "test-not-run", "the run was cut short");
    check_not_run(listed("finds_three", "finds_two"), "red", "test-not-compiled", "in none of the executables");
    check_not_run(listed("\"demo\"", "\"other\""), "red", "test-not-compiled", "in none of the executables");
    let filtered = r#"{"status":"mismatch","reason":"expression"}"#;
    check_not_run(listed(r#"{"status":"matches"}"#, filtered), "amber", "test-filtered", "a filter of the runner");
    check_not_run(listed("\"listed\"", "\"skipped\""), "amber", "test-filtered", "a filter of the runner");
    let ignored = |demo: &Demo| {
        demo.edit("src/lib.rs", "#[test]", "#[test]\n    #[ignore]");
        demo.edit("tests.json", "false", "true");
        demo.edit("tests.json", r#"{"status":"matches"}"#, r#"{"status":"mismatch","reason":"ignored"}"#);
    };
    check_not_run(ignored, "amber", "test-ignored", "#[ignore]");
    let conditional = |demo: &Demo| {
        demo.edit("src/lib.rs", "#[cfg(test)]", "#[cfg(all(test, feature = \"gpu\"))]");
        demo.edit("tests.json", "finds_three", "finds_two");
    };
    check_not_run(conditional, "amber", "test-not-compiled", "(compiled only if all(test,feature=\"gpu\"))");
    let demo = Demo::new();
    std::fs::remove_file(demo.path("tests.json")).unwrap();
    check(&demo.answer(), "no-test-list", "tests", "tests.json");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn a_skipped_test_does_not_count() {
    let demo = Demo::new();
    demo.put("junit.xml", &JUNIT.replace("/></testsuite>", "><skipped/></testcase></testsuite>"));
    demo.check_finding("test-skipped", "tests::finds_three");
    assert_eq!(demo.state(), "linked");
}

#[verifies("RR-001")]
#[test]
fn a_requirement_without_a_test_is_unlinked() {
    let demo = Demo::new();
    demo.put("src/lib.rs", "pub fn detect() {}\n");
    assert_eq!(demo.state(), "unlinked");
    demo.check_finding("unlinked", "FR-001");
    demo.check_finding("record-without-source", "finds_three");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn disagreements_between_source_runner_and_record_are_findings() {
    let demo = Demo::new();
    demo.record(&Record { panicked: true, ..Record::default() });
    demo.check_finding("verdict-disagrees", "finds_three");
    let verifies = vec![("FR-001", sha256("another text")), ("R-001", sha256(RISK))];
    demo.record(&Record { verifies, ..Record::default() });
    demo.check_finding("record-stale", "finds_three");
    assert_eq!(demo.state(), "executed");
    demo.record(&Record { exercised: &[], ..Record::default() });
    demo.check_finding("nothing-exercised", "finds_three");
    demo.put("src/lib.rs", &SOURCE.replace("\"FR-001\", \"R-001\"", "\"FR-001\""));
    demo.check_finding("ids-disagree", "finds_three");
    std::fs::remove_file(demo.path("trace/demo.json")).unwrap();
    demo.check_finding("record-missing", "finds_three");
    let demo = Demo::new();
    demo.edit("tests.json", "finds_three", "finds_two");
    check(&demo.answer(), "test-not-listed", TEST, "two builds");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn a_record_of_another_run_does_not_count() {
    let demo = Demo::new();
    demo.record(&Record { run: "run-6", ..Record::default() });
    check(&demo.answer(), "record-of-another-run", TEST, "in another run than the one reported");
    assert_eq!(demo.state(), "executed");
    // The last attempt of the run speaks for it, whatever other files lie beside it.
    demo.record(&Record::default());
    demo.record(&Record { run: "run-6", attempt: 3, panicked: true, ..Record::default() });
    assert_eq!(demo.state(), "criterion met");
    demo.record(&Record { attempt: 3, panicked: true, ..Record::default() });
    demo.check_finding("verdict-disagrees", TEST);
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn a_record_of_an_older_test_does_not_count() {
    let demo = Demo::new();
    demo.edit("src/lib.rs", "super::detect(), 3", "super::detect() , // three\n 3");
    assert_eq!(demo.state(), "criterion met", "layout and comments are not the test");
    demo.edit("src/lib.rs", "// three\n 3", "3 + 0");
    check(&demo.answer(), "record-of-another-test", TEST, "the test itself is another today");
    assert_eq!(demo.state(), "executed");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn a_test_that_another_macro_writes_is_bound_to_its_file() {
    let demo = Demo::new();
    let inside = SOURCE.replace("    #[lungai", "    proptest::proptest! { #[lungai").replace("); }\n}", "); } }\n}");
    demo.put("src/lib.rs", &inside);
    demo.record(&Record { tokens: "as proptest wrote it", ..Record::default() });
    assert_eq!(demo.state(), "criterion met");
    demo.edit("src/lib.rs", "pub fn detect", "\npub fn detect");
    check(&demo.answer(), "record-of-another-test", TEST, "the file that holds the test");
}

/// Whatever layout and tokens a source may have, and a macro that writes the test as `proptest!` does.
const UNUSUAL: &str = r##"
#[lungai_trace::implements("FR-001")]
pub fn detect() -> u32 { 3 }

#[cfg(test)]
mod tests {
    #[cfg(not(any()))]
    /// Documented "in quotes".
    #[lungai_trace::verifies("FR-001", "R-001")]
    // a comment
    #[test]
    #[allow(clippy::all)]
    fn finds_three() {
        #![allow(unused)]
        /// Inside.
        struct Pair<'a>((u8, (u32, &'a str)), Vec<Vec<u8>>);
        let r#type = Pair((1, (3, r#"ra"w"#)), vec![]);
        assert_eq!(super::detect(), r#type.0.1.0, "{:?} {}", b'\n', "肺\u{80ba}");
        let _ = (1..=2, 0x1F_u8 as f32 * 1.0e-3, 1., -5i64, c"c", br"b", 'a', b'a');
        let half = |x: &u32| -> u32 { *x >> 1 };
        assert!(half(&4) >= 2 && !false || matches!(Some(3), Some(n) if n > 2));
    }

    macro_rules! written {
        ($(#[$meta:meta])* fn $name:ident($x:ident in $range:expr) $body:block) => {
            $(#[$meta])* fn $name() { for $x in $range $body }
        };
    }
    written! {
        #[lungai_trace::verifies("FR-001")]
        #[test]
        fn finds_often(x in 0..3) { assert_eq!(super::detect(), 3); }
    }
}
"##;

/// Compiles the demonstration's tests in earnest and runs one as cargo-nextest does.
fn run_for_real(demo: &Demo, test: &str) {
    let deps = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let named = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("liblungai_trace-") && name.ends_with(".rlib")
    };
    let libraries = std::fs::read_dir(&deps).unwrap().map(|entry| entry.unwrap().path()).filter(named);
    let library = libraries.max_by_key(|path| path.metadata().unwrap().modified().unwrap()).unwrap();
    let program = demo.path("target/tests");
    std::fs::create_dir_all(demo.path("target")).unwrap();
    let compiled = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()))
        .args(["--edition", "2024", "--crate-name", "demo", "--test", "-C", "debug-assertions", "-L"])
        .arg(format!("dependency={}", deps.display()))
        .arg("--extern")
        .arg(format!("lungai_trace={}", library.display()))
        .args([demo.path("src/lib.rs").as_os_str(), "-o".as_ref(), program.as_os_str()])
        .env("CARGO_MANIFEST_DIR", demo.path(""))
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let run = Command::new(program)
        .args(["--exact", test])
        .env("LUNGAI_TRACE_DIR", demo.path("trace"))
        .envs([("NEXTEST_RUN_ID", "run-7"), ("NEXTEST_EXECUTION_MODE", "process-per-test")])
        .envs([("NEXTEST_BINARY_ID", "demo"), ("NEXTEST_TEST_NAME", test), ("NEXTEST_ATTEMPT", "1")])
        .output()
        .unwrap();
    assert!(run.status.success(), "{run:?}");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn what_the_compiler_bakes_into_a_test_is_found_again_in_its_source() {
    let demo = Demo::new();
    demo.put("src/lib.rs", UNUSUAL);
    std::fs::remove_file(demo.path("trace/demo.json")).unwrap();
    run_for_real(&demo, "tests::finds_three");
    run_for_real(&demo, "tests::finds_often");
    let second = "<testcase name=\"tests::finds_often\"/></testsuite>";
    demo.put("junit.xml", &JUNIT.replace("</testsuite>", second));
    let often = r#""testcases":{"tests::finds_often":{"ignored":false,"filter-match":{"status":"matches"}},"#;
    demo.edit("tests.json", r#""testcases":{"#, often);
    assert_eq!(demo.state(), "criterion met", "{:#}", demo.answer()["gaps"]);
    demo.edit("src/lib.rs", "&4", "&5");
    check(&demo.answer(), "record-of-another-test", TEST, "the test itself");
    check(&demo.answer(), "record-of-another-test", "tests::finds_often", "the file that holds the test");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn verdicts_of_another_runner_than_nextest_do_not_count() {
    let demo = Demo::new();
    demo.put("junit.xml", &JUNIT.replace(" uuid=\"run-7\"", ""));
    let answer = demo.answer();
    check(&answer, "runner-unknown", "tests", "verdicts are taken from cargo-nextest alone");
    assert_eq!(answer["states"]["FR-001"], "executed");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn results_of_other_sources_or_of_altered_files_do_not_count() {
    let noted = || {
        let demo = Demo::new();
        demo.commit();
        demo.note_run();
        demo
    };
    let check_refused = |demo: &Demo, rule: &str, says: &str| {
        let answer = demo.answer_as_noted();
        check(&answer, rule, "tests", says);
        assert_eq!(answer["states"]["FR-001"], "executed");
    };
    let demo = noted();
    assert_eq!(demo.answer_as_noted()["states"]["FR-001"], "criterion met", "the untouched twin");
    demo.edit("src/lib.rs", "{ 3 }", "{ 2 + 1 }");
    demo.commit();
    check_refused(&demo, "run-of-another-commit", "the tests ran on commit");
    let demo = noted();
    demo.edit("Cargo.toml", "MIT", "MPL-2.0");
    check_refused(&demo, "run-of-other-sources", "Cargo.toml");
    demo.note_run();
    assert_eq!(demo.answer_as_noted()["states"]["FR-001"], "criterion met", "edited before the tests ran");
    demo.edit("Cargo.toml", "MPL-2.0", "Zlib");
    check_refused(&demo, "run-of-other-sources", "Cargo.toml");
    let demo = noted();
    demo.edit("junit.xml", "0.01", "0.02");
    check_refused(&demo, "run-altered", "the JUnit report");
    let demo = noted();
    demo.edit("trace/demo.json", "[\"FR-001\"]", "[\"FR-001\",\"FR-001\"]");
    check_refused(&demo, "run-altered", "the folder of records");
    let demo = noted();
    demo.put("tests.json", &LIST.replace("false", "true"));
    check_refused(&demo, "run-altered", "the list of tests");
    let demo = noted();
    std::fs::remove_file(demo.path("run.json")).unwrap();
    check_refused(&demo, "run-not-noted", "no run.json");
    let demo = noted();
    demo.tool(&["note-run", "--begin", "--folder", "."]);
    check_refused(&demo, "run-not-noted", "not noted to its end");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn sources_that_change_while_tests_run_are_noticed_at_once() {
    let demo = Demo::new();
    demo.commit();
    demo.tool(&["note-run", "--begin", "--folder", "."]);
    demo.edit("Cargo.toml", "MIT", "MPL-2.0");
    let run = demo.tool(&["note-run", "--folder", ".", "--json"]);
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(!run.status.success() && said.contains("changed while the tests ran") && said.contains("Cargo.toml"));
}

const CALLS: &str = r#"{"format":"lungai-trace-process/1","run":"run-7","binary":"demo","test":"tests::finds_three","attempt":"1","exercised":["FR-001"]}
"#;

#[verifies("RR-001", "SW-1101")]
#[test]
fn a_test_of_a_program_shows_what_the_program_called_and_no_more() {
    let demo = Demo::new();
    demo.record(&Record { exercised: &[], ..Record::default() });
    assert_eq!(demo.state(), "executed", "a program that calls nothing tagged shows nothing");
    check(&demo.answer(), "nothing-exercised", TEST, "nor a program that it started");
    demo.put("trace/demo+4711.jsonl", CALLS);
    assert_eq!(demo.state(), "criterion met");
    demo.check_no_finding("nothing-exercised");
    for (from, to) in [("run-7", "run-6"), ("finds_three", "finds_four"), ("\"demo\"", "\"other\""), ("\"1\"", "\"2\"")]
    {
        demo.put("trace/demo+4711.jsonl", &CALLS.replace(from, to));
        assert_eq!(demo.state(), "executed", "calls of another {from}");
    }
    demo.put("trace/demo+4711.jsonl", &CALLS[..CALLS.len() - 9]);
    assert_eq!(demo.answer()["rule"], "record-malformed");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn a_requirement_that_only_tools_implement_is_not_shown_of_the_product() {
    let demo = Demo::new();
    demo.put("tool/Cargo.toml", "[package]\nname = \"tool\"\nversion = \"1.0.0\"\nedition = \"2024\"\n");
    demo.put("tool/src/lib.rs", "pub fn nothing() {}\n");
    demo.edit("Cargo.toml", "[workspace]", "[workspace]\nmembers = [\"tool\"]");
    demo.edit("Cargo.lock", "version = 4\n", "version = 4\n\n[[package]]\nname = \"tool\"\nversion = \"1.0.0\"\n");
    demo.check_no_finding("implemented-outside-product");
    let tag = "#[lungai_trace::implements(\"FR-001\")]\n";
    demo.put("tool/src/lib.rs", &format!("{tag}pub fn also() {{}}\n"));
    demo.check_no_finding("implemented-outside-product");
    demo.edit("src/lib.rs", tag, "");
    let says = "implemented in tool alone, which demo does not ship";
    check(&demo.answer(), "implemented-outside-product", "FR-001", says);
    demo.edit("regulatory/requirements/FR-001.yaml", "allocation: in_scope", "allocation: in_scope\ntools: true");
    demo.check_no_finding("implemented-outside-product");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn a_measured_value_is_in_the_package_and_beyond_its_limit_it_is_a_finding() {
    let demo = Demo::new();
    let measured = |value: &str| {
        let kept = format!(r#"{{"metric":"error_mm","value":{value},"op":"<=","limit":0.5}}"#);
        demo.record(&Record { measured: &kept, ..Record::default() });
        demo.answer()
    };
    assert_eq!(measured("0.25")["states"]["FR-001"], "criterion met");
    let page = |name: &str| std::fs::read_to_string(demo.path("target/package/core").join(name)).unwrap();
    assert!(page("tests.csv").contains("error_mm 0.25 (<= 0.5)"));
    assert!(page("trace-matrix.html").contains("error_mm 0.25 (&lt;= 0.5)"));
    for beyond in ["0.75", "null"] {
        let answer = measured(beyond);
        check(&answer, "measured-beyond-limit", TEST, "passed, although it measured error_mm");
        assert_eq!(answer["states"]["FR-001"], "executed");
    }
}

#[verifies("RR-001")]
#[test]
fn a_pass_without_its_data_is_no_evidence() {
    let demo = Demo::new();
    let said = "><system-err>not evidenced here: reference data absent</system-err></testcase></testsuite>";
    demo.put("junit.xml", &JUNIT.replace("/></testsuite>", said));
    assert_eq!(demo.state(), "executed");
    demo.check_finding("not-evidenced", "finds_three");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn an_emptied_a_retried_and_a_renamed_test_are_caught() {
    let demo = Demo::new();
    demo.edit("src/lib.rs", "assert_eq!(super::detect(), 3);", "");
    demo.check_finding("test-empty", "tests::finds_three");
    let demo = Demo::new();
    demo.put("junit.xml", &JUNIT.replace("/></testsuite>", "><flakyFailure/></testcase></testsuite>"));
    demo.check_finding("test-retried", "tests::finds_three");
    let demo = Demo::new();
    demo.edit("src/lib.rs", "fn finds_three", "fn finds_four");
    demo.check_finding("test-not-compiled", "tests::finds_four");
    demo.check_finding("record-without-source", "finds_three");
    let demo = Demo::new();
    demo.edit("src/lib.rs", "    #[test]\n", "");
    demo.check_finding("tag-without-test", "tests::finds_three");
    let demo = Demo::new();
    demo.edit(
        "src/lib.rs",
        "    #[lungai_trace::verifies(\"FR-001\", \"R-001\")]\n    #[test]\n",
        "    #[test]\n    #[lungai_trace::verifies(\"FR-001\", \"R-001\")]\n",
    );
    check(&demo.answer(), "tag-without-test", "tests::finds_three", "the tag stands in front of `#[test]`");
}
