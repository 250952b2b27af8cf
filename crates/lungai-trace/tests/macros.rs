//! Where the attributes may sit, what a tagged test leaves behind, and what the compiler says about an unknown id.
#![allow(clippy::unwrap_used)] // test helpers
use lungai_trace::verifies;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Compiles `source` with `regulatory` beside it; `Err` holds what the compiler said.
fn compile(source: &str, regulatory: &Path, kind: &[&str]) -> Result<tempfile::TempDir, String> {
    let folder = tempfile::tempdir().unwrap();
    copy(regulatory, &folder.path().join("regulatory"));
    std::fs::write(folder.path().join("tagged.rs"), source).unwrap();
    let deps = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let run = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()))
        .args(["--edition", "2024", "-C", "debug-assertions", "-o"])
        .arg(folder.path().join("tagged"))
        .args(kind)
        .arg("-L")
        .arg(format!("dependency={}", deps.display()))
        .arg("--extern")
        .arg(format!("lungai_trace={}", library(&deps).display()))
        .arg(folder.path().join("tagged.rs"))
        .env("CARGO_MANIFEST_DIR", folder.path())
        .output()
        .unwrap();
    if run.status.success() { Ok(folder) } else { Err(String::from_utf8_lossy(&run.stderr).into_owned()) }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The library of this crate that lies beside this test; the newest, should there be several.
fn library(deps: &Path) -> PathBuf {
    let is_ours = |path: &Path| {
        path.file_name()
            .and_then(|n| n.to_str())
            .is_some_and(|n| n.starts_with("liblungai_trace-") && n.ends_with(".rlib"))
    };
    std::fs::read_dir(deps)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| is_ours(path))
        .max_by_key(|path| path.metadata().unwrap().modified().unwrap())
        .expect("cargo builds the library before its tests")
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixture")
}

static PROGRAM: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let source = std::fs::read_to_string(fixture().join("tagged.rs")).unwrap();
    compile(&source, &fixture().join("regulatory"), &["--test"]).unwrap_or_else(|said| panic!("{said}"))
});

/// Runs the named test of the fixture as cargo-nextest would, with recording switched on: (passed, records by file name).
fn record(test: &str) -> (bool, Vec<(String, String)>) {
    record_with(test, &[])
}

fn record_with(test: &str, more: &[(&str, &str)]) -> (bool, Vec<(String, String)>) {
    let records = tempfile::tempdir().unwrap();
    let run = Command::new(PROGRAM.path().join("tagged"))
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env("LUNGAI_TRACE_DIR", records.path())
        .envs([("NEXTEST_RUN_ID", "run-7"), ("NEXTEST_EXECUTION_MODE", "process-per-test")])
        .envs([("NEXTEST_BINARY_ID", "tagged"), ("NEXTEST_TEST_NAME", test), ("NEXTEST_ATTEMPT", "1")])
        .envs(more.iter().copied())
        .output()
        .unwrap();
    let mut texts: Vec<(String, String)> = std::fs::read_dir(records.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap()))
        .collect();
    texts.sort();
    (run.status.success(), texts)
}

/// The one record of a test that passes.
#[track_caller]
fn only_record(test: &str) -> String {
    let (passed, records) = record(test);
    assert!(passed && records.len() == 1, "{records:?}");
    records.into_iter().next().unwrap().1
}

#[verifies("RR-001")]
#[test]
fn tags_fit_functions_methods_types_and_tests_without_a_warning() {
    let run = Command::new(PROGRAM.path().join("tagged")).env_remove("LUNGAI_TRACE_DIR").output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains("6 passed; 0 failed; 1 ignored"), "{said}");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn a_record_names_the_run_the_test_and_exactly_what_it_exercised() {
    let methods = only_record("methods_keep_their_results");
    assert!(methods.contains(r#""run":"run-7","binary":"tagged","test":"methods_keep_their_results","attempt":"1""#));
    assert!(methods.contains(r#""exercised":["FR-003","FR-004","R-001"]"#), "{methods}");
    let result = only_record("a_test_may_return_a_result");
    assert!(result.contains(r#""exercised":["FR-005"]"#), "{result}");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn tests_that_share_a_process_leave_no_record_and_lend_no_calls() {
    let tests = ["methods_keep_their_results", "a_test_may_return_a_result"];
    let records = tempfile::tempdir().unwrap();
    let run = |more: &[(&str, &str)]| {
        let mut command = Command::new(PROGRAM.path().join("tagged"));
        command.arg("--exact").args(tests).env("LUNGAI_TRACE_DIR", records.path());
        for name in ["RUN_ID", "EXECUTION_MODE", "BINARY_ID", "TEST_NAME", "ATTEMPT"] {
            command.env_remove(format!("NEXTEST_{name}"));
        }
        assert!(command.envs(more.iter().copied()).output().unwrap().status.success());
        std::fs::read_dir(records.path()).unwrap().count()
    };
    assert_eq!(run(&[]), 0, "plain `cargo test`");
    assert_eq!(run(&[("NEXTEST_RUN_ID", "run-7"), ("NEXTEST_EXECUTION_MODE", "process-per-test")]), 0);
}

#[verifies("RR-001")]
#[test]
fn a_record_holds_the_hashes_of_the_texts_as_compiled() {
    let record = only_record("a_test_may_return_a_result");
    // coreutils: printf 'id: FR-005\n' | sha256sum
    const FR_005: &str = "3bc6fe392636f8091be32445d513cd99d263ae9283db0e22d2feda2900178a40";
    assert!(record.contains(&format!(r#"{{"id":"FR-005","sha256":"{FR_005}"}}"#)), "{record}");
    // The test's tokens: printf '# [test ]fn a_test_may_return_a_result ()- > Result < (), String > {assert_eq ! (places : :
    // larger (2 , 1 )? , 2 ); Ok (())}' | sha256sum, in one line.
    const TOKENS: &str = "b478165e7a6c58858d8b4613784b6f45f61c1dfc2ffd3e24b939dbf99fcaa94f";
    assert!(record.contains(&format!(r#""tokens_sha256":"{TOKENS}""#)), "{record}");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn a_program_that_a_test_starts_notes_what_it_called_in_a_file_of_its_own() {
    let (passed, records) = record("a_test_of_a_program_calls_nothing_itself");
    assert!(passed && records.len() == 2, "{records:?}");
    let of = |ending: &str| &records.iter().find(|(name, _)| name.ends_with(ending)).unwrap().1;
    assert!(of(".json").contains(r#""exercised":[]"#), "{records:?}");
    let line = concat!(
        r#"{"format":"lungai-trace-process/1","run":"run-7","binary":"tagged","#,
        r#""test":"a_test_of_a_program_calls_nothing_itself","attempt":"1","exercised":["FR-003"]}"#,
        "\n"
    );
    assert_eq!(of(".jsonl"), line);
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn what_a_test_measured_is_in_its_record_with_the_limit() {
    let record = only_record("a_measured_value_is_kept");
    assert!(record.contains(r#""measured":[{"metric":"error_mm","value":0.25,"op":"<=","limit":0.5}]"#), "{record}");
}

#[verifies("RR-001")]
#[test]
fn a_failing_test_leaves_a_record_too_and_calls_on_other_threads_count() {
    let (passed, records) = record("a_failing_test_leaves_a_record_without_a_verdict");
    let record = &records[0].1;
    assert!(!passed && record.contains(r#""exercised":["FR-007"]"#), "{record}");
    assert!(record.contains(r#""panicked":true"#), "{record}");
}

#[verifies("RR-001")]
#[test]
fn a_pass_without_evidence_is_in_the_record() {
    let record = only_record("missing_data_is_noted");
    assert!(record.contains(r#""not_evidenced":["reference data absent"]"#), "{record}");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn a_repeated_attempt_has_a_record_of_its_own() {
    let (_, records) = record_with("missing_data_is_noted", &[("NEXTEST_ATTEMPT", "2")]);
    assert!(records[0].0.contains("@2+") && records[0].1.contains(r#""attempt":"2""#), "{records:?}");
}

fn check_refused(source: &str, message: &str) {
    let said = compile(source, &fixture().join("regulatory"), &["--crate-type", "lib"]).expect_err("must not compile");
    assert!(said.contains(message), "{said}");
    assert!(said.contains("aborting due to 1 previous error"), "one mistake, one error: {said}");
}

#[verifies("RR-001")]
#[test]
fn an_unknown_id_does_not_compile_and_the_nearest_are_named() {
    check_refused(
        "#[lungai_trace::implements(\"FR-044\")]\nfn detect() {}\n",
        "unknown requirement or risk `FR-044`; nearest in `regulatory`: FR-004, FR-001, FR-003",
    );
    check_refused(
        "#[lungai_trace::verifies(\"FR-004\", \"R-002\")]\n#[test]\nfn detects() {}\n",
        "unknown requirement or risk `R-002`; nearest in `regulatory`: IR-002, R-001, FR-001",
    );
}

#[verifies("RR-001")]
#[test]
fn a_misplaced_tag_does_not_compile() {
    check_refused("#[lungai_trace::verifies(\"FR-004\")]\npub struct Test;\n", "belongs on a test function");
    check_refused("#[lungai_trace::implements(FR_004)]\npub fn detect() {}\n", "expected ids in quotes");
    check_refused("#[lungai_trace::implements()]\npub fn detect() {}\n", "expected at least one id");
    check_refused("pub trait Detect {\n#[lungai_trace::implements(\"FR-004\")]\nfn detect();\n}\n", "no body");
}
