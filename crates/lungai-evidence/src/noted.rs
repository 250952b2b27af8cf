//! Which sources a run of the tests is of: noted before it begins, and with the hashes of all that it left when it has ended, so that
//! results are never taken for those of another commit, of an edited file, or of another run.
use crate::failure::{Failure, fail};
use crate::finding::{Finding, Severity};
use crate::junit;
use crate::records;
use crate::regulatory::sha256;
use lungai_trace::implements;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const FORMAT: &str = "lungai-run/1";

/// What tests are compiled from and read.
const PARTS: [&str; 11] = [
    ".config",
    "Cargo.lock",
    "Cargo.toml",
    "crates",
    "datasets",
    "experiments",
    "models",
    "regulatory",
    "tests",
    "validation",
    "xtask",
];

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    format: String,
    sources: Tree,
    /// What `rustc -V` and the like print.
    toolchain: BTreeMap<String, String>,
    /// None until the run has ended.
    left: Option<Left>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tree {
    /// Empty outside a repository.
    commit: String,
    /// SHA-256 of every file that is not as committed, `absent` for one that is gone.
    changed: BTreeMap<String, String>,
    cargo_lock_sha256: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Left {
    /// Of cargo-nextest.
    run: String,
    junit_sha256: String,
    tests_sha256: String,
    trace_sha256: String,
}

/// Where `cargo xtask test` puts what a run leaves; names within one folder.
pub const JUNIT: &str = "junit.xml";
pub const TESTS: &str = "tests.json";
pub const TRACE: &str = "trace";
pub const NOTE: &str = "run.json";

/// Before the tests are compiled.
pub fn begin(root: &Path, folder: &Path) -> Result<(), Failure> {
    let toolchain = [("rustc", "-V"), ("cargo", "-V"), ("cargo-nextest", "-V")]
        .map(|(program, argument)| (program.to_owned(), says(program, argument)));
    let note =
        Note { format: FORMAT.to_owned(), sources: tree(root), toolchain: BTreeMap::from(toolchain), left: None };
    write(&note, folder)
}

/// After the last test, with the id of the run.
pub fn end(root: &Path, folder: &Path) -> Result<String, Failure> {
    let mut note = read(&folder.join(NOTE))?
        .ok_or_else(|| Failure::new("run-not-noted", "the beginning of this run was not noted".to_owned()))?;
    let differences = differences(&note.sources, &tree(root));
    if let Some(first) = differences.first() {
        return fail("run-of-other-sources", format!("the sources changed while the tests ran: {}", first.message));
    }
    let file = |name: &str| {
        std::fs::read(folder.join(name)).map_err(|error| Failure::new("unreadable", format!("{name}: {error}")))
    };
    let junit = file(JUNIT)?;
    let report = junit::parse(&String::from_utf8_lossy(&junit))?;
    let run = report.run.ok_or_else(|| Failure::new("runner-unknown", NOT_NEXTEST.to_owned()))?;
    note.left = Some(Left {
        run: run.clone(),
        junit_sha256: sha256(&junit),
        tests_sha256: sha256(&file(TESTS)?),
        trace_sha256: of_folder(&records::load(&folder.join(TRACE))?.raw),
    });
    write(&note, folder)?;
    Ok(run)
}

pub const NOT_NEXTEST: &str =
    "the JUnit report carries no id of a run: verdicts are taken from cargo-nextest alone, and no test counts";

/// What a run that is to be believed left, as far as it was given.
pub struct Given<'a> {
    pub junit: &'a [u8],
    pub tests: Option<&'a [u8]>,
    pub trace: Option<&'a [(String, Vec<u8>)]>,
}

/// Why the results are none of these sources; each is a reason not to count any of them. And the note itself.
#[implements("RR-001", "SW-1101")]
pub fn check(root: &Path, note: &Path, given: &Given) -> Result<Vec<Finding>, Failure> {
    let red = |rule, message: String| Finding::new(Severity::Red, rule, "tests", message);
    let Some(note) = read(note)? else {
        let message = "no run.json stands beside the JUnit report, so that nobody knows which sources its results are of: run \
                       `cargo xtask test`; no test counts";
        return Ok(vec![red("run-not-noted", message.to_owned())]);
    };
    let mut findings = differences(&note.sources, &tree(root));
    let Some(left) = note.left else {
        findings.push(red("run-not-noted", "the run of the tests was not noted to its end: no test counts".to_owned()));
        return Ok(findings);
    };
    let hashes = [
        ("the JUnit report", Some(sha256(given.junit)), left.junit_sha256),
        ("the list of tests", given.tests.map(sha256), left.tests_sha256),
        ("the folder of records", given.trace.map(of_folder), left.trace_sha256),
    ];
    for (what, today, then) in hashes {
        if today.is_some_and(|today| today != then) {
            findings.push(red("run-altered", format!("{what} is not the one that the run left: no test counts")));
        }
    }
    Ok(findings)
}

fn differences(then: &Tree, today: &Tree) -> Vec<Finding> {
    let red = |rule, message: String| Finding::new(Severity::Red, rule, "tests", message);
    let mut findings = Vec::new();
    if then.commit != today.commit {
        let shown = |commit: &str| if commit.is_empty() { "none".to_owned() } else { format!("{commit:.12}") };
        let message = format!(
            "the tests ran on commit {}, the sources are at {}: no test counts",
            shown(&then.commit),
            shown(&today.commit)
        );
        findings.push(red("run-of-another-commit", message));
    }
    let all = then.changed.iter().chain(&today.changed);
    let mut changed: Vec<&str> = all
        .filter(|(name, _)| then.changed.get(*name) != today.changed.get(*name))
        .map(|(name, _)| name.as_str())
        .collect();
    if then.cargo_lock_sha256 != today.cargo_lock_sha256 {
        changed.push("Cargo.lock");
    }
    changed.sort_unstable();
    changed.dedup();
    if !changed.is_empty() {
        let some = changed.iter().take(5).copied().collect::<Vec<_>>().join(", ");
        let more = if changed.len() > 5 { ", …" } else { "" };
        let message = format!("changed since the tests ran: {some}{more}: no test counts");
        findings.push(red("run-of-other-sources", message));
    }
    findings
}

fn tree(root: &Path) -> Tree {
    let git = |arguments: &[&str]| {
        let run = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
        run.status.success().then(|| String::from_utf8_lossy(&run.stdout).into_owned())
    };
    let hash = |path: PathBuf| std::fs::read(path).map_or_else(|_| "absent".to_owned(), |bytes| sha256(&bytes));
    // Git's paths are those of the repository.
    let top = git(&["rev-parse", "--show-toplevel"]).map_or(root.to_owned(), |top| PathBuf::from(top.trim_end()));
    let status = ["status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--"];
    let changed = git(&[&status[..], &PARTS].concat()).unwrap_or_default();
    let changed = changed.split('\0').filter_map(|line| line.get(3..));
    Tree {
        commit: git(&["rev-parse", "HEAD"]).unwrap_or_default().trim_end().to_owned(),
        changed: changed.map(|name| (name.to_owned(), hash(top.join(name)))).collect(),
        cargo_lock_sha256: hash(root.join("Cargo.lock")),
    }
}

/// As `sha256sum * | sha256sum` in that folder says, in the order of the C locale.
fn of_folder(files: &[(String, Vec<u8>)]) -> String {
    let lines: String = files.iter().map(|(name, bytes)| format!("{}  {name}\n", sha256(bytes))).collect();
    sha256(lines.as_bytes())
}

fn read(file: &Path) -> Result<Option<Note>, Failure> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return fail("unreadable", format!("{NOTE}: {error}")),
    };
    let malformed = |what: String| Failure::new("run-note-malformed", format!("{NOTE}: {what}"));
    let note: Note = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    if note.format != FORMAT {
        return Err(malformed(format!("unknown format `{}`", note.format)));
    }
    Ok(Some(note))
}

fn write(note: &Note, folder: &Path) -> Result<(), Failure> {
    let unwritable = |error: String| Failure::new("unwritable", format!("{NOTE}: {error}"));
    let mut bytes = serde_json::to_vec_pretty(note).map_err(|error| unwritable(error.to_string()))?;
    bytes.push(b'\n');
    std::fs::create_dir_all(folder).map_err(|error| unwritable(error.to_string()))?;
    std::fs::write(folder.join(NOTE), bytes).map_err(|error| unwritable(error.to_string()))
}

/// Empty where it is not installed.
fn says(program: &str, argument: &str) -> String {
    let run = Command::new(program).arg(argument).output().ok().filter(|run| run.status.success());
    run.and_then(|run| String::from_utf8_lossy(&run.stdout).lines().next().map(str::to_owned)).unwrap_or_default()
}
