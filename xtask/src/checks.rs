//! `cargo xtask test`: everything that CI runs.

use crate::build::{cargo, command, found, needed, root};
use anyhow::{Context, bail, ensure};
use serde_json::Value;
use std::io::Write as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, ExitCode, Stdio},
};

const HELP: &str = "cargo xtask test: format, lints, layers, licences, tests, doc tests, traces

  --quick     only the tests (no format, lint, layer, licence and documentation check)
  --json      print the counts as JSON at the end

Real scans are tested where LUNGAI_REFERENCE_DATA names a folder of reference data.
Results: target/evidence/junit.xml, the list of tests and what ran beside it: tests.json, run.json, traces: trace/ (where
`cargo xtask evidence` looks for them). They are cargo-nextest's; without it the tests run, but are no evidence.";

/// Crates that must stay light, and what must not be among their dependencies.
const LAYERS: &[(&str, &[&str])] = &[
    ("lungai-ct", &["burn", "polars", "tokio", "dicom-object", "serde_json"]),
    ("lungai-imaging", &["burn", "polars", "tokio", "dicom-object"]),
    ("lungai-phantom", &["burn", "polars", "tokio", "dicom-object"]),
    ("lungai-metrics", &["burn", "polars", "tokio", "dicom-object"]),
    ("lungai-dicom", &["burn", "polars", "tokio"]),
    ("lungai-kernels", &["burn", "polars", "tokio", "ndarray"]),
    ("lungai-onnx", &["burn", "polars", "tokio", "ndarray"]),
    ("lungai-datasets", &["burn", "polars", "tokio"]),
    ("lungai-runs", &["burn", "polars", "tokio", "ureq", "plotters"]),
    ("lungai-track", &["burn", "polars", "tokio"]),
    ("lungai-stats", &["burn", "polars", "tokio"]),
    ("lungai-evidence", &["burn", "polars", "tokio"]),
    ("lungai-cli", &["burn-train", "burn-autodiff", "polars", "plotters", "tokio"]),
    (
        "lungai-serve",
        &["burn-train", "burn-autodiff", "polars", "plotters", "lungai-datasets", "lungai-phantom", "lungai-train"],
    ),
    ("xtask", &["burn", "polars", "tokio", "rustls"]),
];

/// Crates that may not be in the lock file at all, with the reason (RustSec or upkeep).
const BANNED: &[(&str, &str)] = &[
    ("serde_yml", "unsound, RUSTSEC-2025-0068"),
    ("serde_yaml", "archived; use yaml_serde"),
    ("rustls-pemfile", "archived, RUSTSEC-2025-0134"),
    ("openssl", "TLS is rustls"),
    ("rsa", "RUSTSEC-2023-0071"),
    ("openidconnect", "brings rsa"),
];

/// Licences that are accepted; an expression passes if each of its `AND` parts has an accepted `OR` branch.
const LICENCES: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "0BSD",
    "ISC",
    "Zlib",
    "MPL-2.0",
    "Unicode-3.0",
    "BSL-1.0",
    "IJG",
    "CC0-1.0",
    "Unlicense",
    "NCSA",
    "CDLA-Permissive-2.0",
    "bzip2-1.0.6",
];

/// The verb.
pub fn main(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let has = |flag: &str| arguments.iter().any(|word| word == flag);
    if has("--help") || has("-h") {
        _ = writeln!(std::io::stdout(), "{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = arguments.iter().find(|word| !["--quick", "--json"].iter().any(|known| word == known)) {
        eprintln!("unknown argument {unknown:?}\n\n{HELP}");
        return Ok(ExitCode::from(2));
    }
    needed()?;
    if !has("--quick") {
        step("format", cargo().args(["fmt", "--all", "--check"]))?;
        _ = writeln!(std::io::stdout(), "== layers");
        layers()?;
        _ = writeln!(std::io::stdout(), "== licences and bans");
        policy()?;
        step("lints", cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    }
    _ = writeln!(std::io::stdout(), "== programs");
    crate::build::programs()?;
    let results = root().join("target/evidence");
    for left in ["junit.xml", "tests.json", "run.json"].map(|name| results.join(name)) {
        if left.exists() {
            fs::remove_file(left)?;
        }
    }
    let traces = results.join("trace");
    if traces.exists() {
        fs::remove_dir_all(&traces)?;
    }
    fs::create_dir_all(&traces)?;
    let report = results.join("junit.xml");
    _ = writeln!(std::io::stdout(), "== tests");
    if !found("cargo-nextest") {
        let (passed, failed) = plain_tests()?;
        ensure!(failed == 0 && passed > 0, "tests failed; see above");
        if !has("--quick") {
            step("doc tests", cargo().args(["test", "--workspace", "--doc", "--quiet"]))?;
        }
        let why = "cargo-nextest is not installed: the tests ran, but evidence is taken from cargo-nextest alone";
        _ = writeln!(std::io::stdout(), "{why}");
        closing(has("--json"), passed, failed, None);
        return Ok(ExitCode::SUCCESS);
    }
    let good = run_tests(&results, &report, &traces)?;
    if !has("--quick") {
        step("doc tests", cargo().args(["test", "--workspace", "--doc", "--quiet"]))?;
    }
    ensure!(good, "tests failed; see above and {}", report.display());
    _ = writeln!(std::io::stdout(), "== traces");
    let status = command("lungai-evidence")
        .current_dir(root())
        .args(["status", "--junit"])
        .arg(&report)
        .arg("--trace-dir")
        .arg(&traces)
        .status()
        .context("lungai-evidence")?;
    ensure!(status.success(), "the trace from requirements to tests is broken");
    let (passed, failed) = counts(&report)?;
    closing(has("--json"), passed, failed, Some(&report));
    Ok(ExitCode::SUCCESS)
}

/// The plain closing line that any reader of this output understands.
fn closing(json: bool, passed: usize, failed: usize, report: Option<&Path>) {
    let text = if json {
        serde_json::json!({ "ok": true, "passed": passed, "failed": failed, "junit": report }).to_string()
    } else {
        format!("\n{passed} passed, {failed} failed")
    };
    _ = writeln!(std::io::stdout(), "{text}");
}

fn step(name: &str, command: &mut Command) -> anyhow::Result<()> {
    _ = writeln!(std::io::stdout(), "== {name}");
    let status = command.status().with_context(|| name.to_owned())?;
    ensure!(status.success(), "{name} failed");
    Ok(())
}

/// Whether all tests passed. What evidence needs is noted around the run: which sources it is of, which tests there are.
fn run_tests(results: &Path, report: &Path, traces: &Path) -> anyhow::Result<bool> {
    note_run(results, &["--begin"])?;
    // What was edited while the programs were compiled would else run under the name of the sources that are noted.
    crate::build::programs()?;
    let usual = ["--workspace", "--profile", "ci"];
    let listed = cargo()
        .args(["nextest", "list", "--message-format", "json"])
        .args(usual)
        .stderr(Stdio::inherit())
        .output()
        .context("cargo nextest")?;
    ensure!(listed.status.success(), "the tests do not compile");
    fs::write(results.join("tests.json"), without_paths(&listed.stdout)?)?;
    let status = cargo()
        .args(["nextest", "run", "--no-fail-fast"])
        .args(usual)
        .env("LUNGAI_TRACE_DIR", traces)
        // The same random inputs at every run: what fails here fails again where it is looked into.
        .env("PROPTEST_RNG_SEED", "20260")
        .status()
        .context("cargo nextest")?;
    let written = root().join("target/nextest/ci/junit.xml");
    fs::copy(&written, report).with_context(|| format!("{}", written.display()))?;
    if let Err(error) = note_run(results, &[]) {
        // The tests have run all the same; only their evidence is none.
        eprintln!("{error:#}");
    }
    Ok(status.success())
}

fn note_run(results: &Path, more: &[&str]) -> anyhow::Result<()> {
    let status = command("lungai-evidence")
        .current_dir(root())
        .args(["note-run", "--folder"])
        .arg(results)
        .args(more)
        .stdout(Stdio::null())
        .status()
        .context("lungai-evidence")?;
    ensure!(status.success(), "this run of the tests is no evidence");
    Ok(())
}

/// The list of tests without the places of this machine.
fn without_paths(list: &[u8]) -> anyhow::Result<String> {
    let list: Value = serde_json::from_slice(list).context("cargo nextest list")?;
    let mut suites = list["rust-suites"].clone();
    for suite in suites.as_object_mut().context("the list of tests has no suites")?.values_mut() {
        suite
            .as_object_mut()
            .context("a suite")?
            .retain(|key, _| !["binary-path", "cwd", "package-id"].contains(&key.as_str()));
    }
    Ok(serde_json::to_string_pretty(&serde_json::json!({ "rust-suites": suites }))? + "\n")
}

/// Without a test runner installed: passed and failed, as cargo's own summaries say.
fn plain_tests() -> anyhow::Result<(usize, usize)> {
    let mut child = cargo()
        .args(["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests"])
        .env("PROPTEST_RNG_SEED", "20260")
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo test")?;
    let (mut passed, mut failed) = (0, 0);
    for line in BufReader::new(child.stdout.take().context("piped")?).lines() {
        let line = line?;
        _ = writeln!(std::io::stdout(), "{line}");
        if let Some((p, f)) = summary(&line) {
            (passed, failed) = (passed + p, failed + f);
        }
    }
    let ended_well = child.wait()?.success();
    // A program that died has no summary: its tests must not be taken for passed ones.
    Ok((passed, if ended_well { failed } else { failed.max(1) }))
}

/// `test result: ok. 3 passed; 1 failed; ..`
fn summary(line: &str) -> Option<(usize, usize)> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |word: &str| rest.split_once(word)?.0.rsplit(' ').next()?.parse().ok();
    Some((number(" passed")?, number(" failed")?))
}

/// Passed and failed, from the report's own attributes.
fn counts(report: &Path) -> anyhow::Result<(usize, usize)> {
    let text = fs::read_to_string(report)?;
    let head = text.lines().find(|line| line.contains("<testsuites")).context("a JUnit report")?;
    let number = |name: &str| -> usize {
        let value = head.split_once(&format!(" {name}=\"")).and_then(|(_, rest)| rest.split_once('"'));
        value.and_then(|(digits, _)| digits.parse().ok()).unwrap_or(0)
    };
    let failed = number("failures") + number("errors");
    Ok((number("tests") - failed, failed))
}

/// The leaf crates stay light and the shipped program links no training code.
fn layers() -> anyhow::Result<()> {
    for (package, heavy) in LAYERS {
        let output = cargo()
            .args(["tree", "-p", package, "--edges", "normal", "--prefix", "none", "--format", "{p}"])
            .output()?;
        ensure!(output.status.success(), "cargo tree -p {package}: {}", String::from_utf8_lossy(&output.stderr));
        let tree = String::from_utf8_lossy(&output.stdout);
        let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
        if let Some(found) = heavy.iter().find(|name| names.contains(**name)) {
            bail!("{package} must not depend on {found}");
        }
    }
    Ok(())
}

/// Bans and licences: by cargo-deny where it is installed, else from cargo's own metadata.
fn policy() -> anyhow::Result<()> {
    if found("cargo-deny") {
        return step("cargo deny", cargo().args(["deny", "check", "bans", "licenses", "sources"]));
    }
    let output = cargo().args(["metadata", "--format-version", "1", "--locked"]).output()?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let mut refused = BTreeMap::new();
    for package in metadata["packages"].as_array().context("packages")? {
        let name = package["name"].as_str().unwrap_or_default();
        if let Some((_, reason)) = BANNED.iter().find(|(banned, _)| *banned == name) {
            refused.insert(name, (*reason).to_owned());
        }
        let licence = package["license"].as_str().unwrap_or_default();
        let own = package["source"].is_null();
        if !own && !accepted(licence) && package["license_file"].is_null() {
            refused.insert(name, format!("licence `{licence}` is not on the list"));
        }
        let source = package["source"].as_str().unwrap_or("registry+");
        if !source.starts_with("registry+") {
            refused.insert(name, "comes from outside the registry".into());
        }
    }
    for (name, reason) in &refused {
        eprintln!("refused: {name}: {reason}");
    }
    ensure!(refused.is_empty(), "{} dependencies are against the policy", refused.len());
    Ok(())
}

/// Whether an SPDX expression can be satisfied with accepted licences. `OR` binds weaker than `AND`.
fn accepted(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], "").replace('/', " OR ");
    let parts_with_or_inside = expression.contains('(');
    let one = |licence: &str| LICENCES.contains(&licence.trim());
    if parts_with_or_inside {
        // `(A OR B) AND C`: every conjunct needs an accepted branch.
        plain.split(" AND ").all(|part| part.split(" OR ").any(one))
    } else {
        plain.split(" OR ").any(|branch| branch.split(" AND ").all(one))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_of_the_test_harness_is_counted() {
        let line = "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.01s";
        assert_eq!(summary(line), Some((3, 1)));
        assert_eq!(summary("test a::b ... ok"), None);
    }

    #[test]
    fn the_list_of_tests_names_no_place() {
        let list = br#"{"rust-build-meta":{"target-directory":"/t"},"rust-suites":{"a":{"status":"listed","cwd":"/c","testcases":{}}}}"#;
        let kept = without_paths(list).unwrap();
        assert!(!kept.contains('/') && kept.contains("\"status\": \"listed\""), "{kept}");
    }

    #[test]
    fn licence_expressions_are_read_as_spdx_means_them() {
        assert!(accepted("MIT OR GPL-3.0"));
        assert!(accepted("MIT/Apache-2.0"));
        assert!(accepted("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(!accepted("GPL-3.0"));
        assert!(!accepted("MIT AND GPL-3.0"));
        assert!(!accepted(""));
    }
}
