//! Running the workspace's test programs without a test runner installed, and writing what they said as JUnit.

use crate::build::cargo;
use anyhow::{Context, bail};
use serde_json::Value;
use std::io::Write as _;
use std::{
    fmt::Write,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// One test of one program.
struct Case {
    name: String,
    failed: bool,
}

/// How many tests passed and failed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Passed.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
}

/// Builds all test programs, runs each in its package's folder, shows what it prints, and writes `report`.
pub fn run_tests(report: &Path, environment: &[(&str, &Path)]) -> anyhow::Result<Totals> {
    let mut totals = Totals::default();
    let mut suites = String::new();
    for (suite, program, folder) in test_programs()? {
        eprintln!("\n     Running {suite}");
        let mut child = Command::new(&program)
            .current_dir(&folder)
            .env("CARGO_MANIFEST_DIR", &folder)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{}", program.display()))?;
        let mut cases = Vec::new();
        for line in BufReader::new(child.stdout.take().context("piped")?).lines() {
            let line = line?;
            _ = writeln!(std::io::stdout(), "{line}");
            cases.extend(parse(&line));
        }
        let ended_well = child.wait()?.success();
        if !ended_well && !cases.iter().any(|case| case.failed) {
            // It died: the tests that never reported must not be taken for passed ones.
            cases.push(Case { name: "the test program itself".into(), failed: true });
        }
        let failed = cases.iter().filter(|case| case.failed).count();
        totals.failed += failed;
        totals.passed += cases.len() - failed;
        write_suite(&mut suites, &suite, &cases, failed);
    }
    let all = totals.passed + totals.failed;
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"workspace\" tests=\"{all}\" failures=\"{}\" errors=\"0\">\n{suites}</testsuites>\n",
        totals.failed
    );
    fs::write(report, text).with_context(|| format!("{}", report.display()))?;
    Ok(totals)
}

/// `test a::b ... ok` and its like; ignored tests are no results.
fn parse(line: &str) -> Option<Case> {
    let (name, verdict) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let failed = match verdict {
        "ok" => false,
        "FAILED" => true,
        _ => return None,
    };
    let name = name.strip_suffix(" - should panic").unwrap_or(name);
    Some(Case { name: name.to_owned(), failed })
}

/// Name, program and package folder of every test program, built now.
fn test_programs() -> anyhow::Result<Vec<(String, PathBuf, PathBuf)>> {
    let output = cargo()
        .args(["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("the tests do not compile");
    }
    let mut programs = Vec::new();
    for line in output.stdout.lines() {
        let message: Value = serde_json::from_str(&line?).unwrap_or_default();
        if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
            continue;
        }
        if let (Some(program), Some(manifest)) = (message["executable"].as_str(), message["manifest_path"].as_str()) {
            let folder = Path::new(manifest).parent().context("a manifest has a folder")?.to_owned();
            let package = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let target = message["target"]["name"].as_str().unwrap_or_default();
            let kind = message["target"]["kind"][0].as_str().unwrap_or_default();
            // nextest's names: the package for a library, package::test for a test file, package::bin/x for a program.
            let suite = match kind {
                "test" => format!("{package}::{target}"),
                "bin" | "example" => format!("{package}::{kind}/{target}"),
                _ => package,
            };
            programs.push((suite, PathBuf::from(program), folder));
        }
    }
    programs.sort();
    Ok(programs)
}

fn write_suite(text: &mut String, suite: &str, cases: &[Case], failed: usize) {
    let _ = writeln!(text, "  <testsuite name=\"{suite}\" tests=\"{}\" failures=\"{failed}\">", cases.len());
    for Case { name, failed } in cases {
        let name = name.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
        let _ = if *failed {
            writeln!(
                text,
                "    <testcase name=\"{name}\" classname=\"{suite}\"><failure message=\"failed\"/></testcase>"
            )
        } else {
            writeln!(text, "    <testcase name=\"{name}\" classname=\"{suite}\"/>")
        };
    }
    text.push_str("  </testsuite>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_test_harness_become_results() {
        let result = |line: &str| parse(line).map(|case| (case.name, case.failed));
        assert_eq!(result("test a::b ... ok"), Some(("a::b".into(), false)));
        assert_eq!(result("test a::b ... FAILED"), Some(("a::b".into(), true)));
        assert_eq!(result("test a - should panic ... ok"), Some(("a".into(), false)));
        assert_eq!(result("test a ... ignored"), None);
        assert_eq!(result("test result: ok. 3 passed"), None);
    }
}
