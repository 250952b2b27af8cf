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

/// Runs the named tests of the fixture with recording switched on, as an evidence run does: (all passed, records).
fn record(tests: &[&str]) -> (bool, Vec<String>) {
    let records = tempfile::tempdir().unwrap();
    let run = Command::new(PROGRAM.path().join("tagged"))
        .args(["--exact", "--include-ignored"])
        .args(tests)
        .env("LUNGAI_TRACE_DIR", records.path())
        .output()
        .unwrap();
    let mut texts: Vec<String> = std::fs::read_dir(records.path())
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    texts.sort();
    (run.status.success(), texts)
}

#[verifies("RR-001")]
#[test]
fn tags_fit_functions_methods_types_and_tests_without_a_warning() {
    let run = Command::new(PROGRAM.path().join("tagged")).env_remove("LUNGAI_TRACE_DIR").output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains("4 passed; 0 failed; 1 ignored"), "{said}");
}

#[verifies("RR-001")]
#[test]
fn a_record_names_exactly_what_the_test_exercised_also_with_tests_in_parallel() {
    let (passed, records) = record(&["methods_keep_their_results", "a_test_may_return_a_result"]);
    assert!(passed && records.len() == 2, "{records:?}");
    let methods = records.iter().find(|r| r.contains("methods_keep")).unwrap();
    assert!(methods.contains(r#""exercised":["FR-003","FR-004","R-001"]"#), "{methods}");
    let result = records.iter().find(|r| r.contains("a_test_may_return")).unwrap();
    assert!(result.contains(r#""exercised":["FR-005"]"#), "{result}");
}

#[verifies("RR-001")]
#[test]
fn a_record_holds_the_hash_of_the_text_as_compiled() {
    let (_, records) = record(&["a_test_may_return_a_result"]);
    // coreutils: printf 'id: FR-005\n' | sha256sum
    assert!(
        records[0]
            .contains(r#"{"id":"FR-005","sha256":"3bc6fe392636f8091be32445d513cd99d263ae9283db0e22d2feda2900178a40"}"#),
        "{records:?}"
    );
}

#[verifies("RR-001")]
#[test]
fn a_failing_test_leaves_a_record_too_and_calls_on_other_threads_count() {
    let (passed, records) = record(&["a_failing_test_leaves_a_record_without_a_verdict"]);
    assert!(!passed && records[0].contains(r#""exercised":["FR-007"]"#), "{records:?}");
    assert!(records[0].contains(r#""panicked":true"#), "{records:?}");
}

#[verifies("RR-001")]
#[test]
fn a_pass_without_evidence_is_in_the_record() {
    let (passed, records) = record(&["missing_data_is_noted"]);
    assert!(passed && records[0].contains(r#""not_evidenced":["reference data absent"]"#), "{records:?}");
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
