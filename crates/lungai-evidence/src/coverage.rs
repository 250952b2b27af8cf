//! Lines that tests reach, from a record of cargo-tarpaulin: measured here, judged by the criterion `coverage.lines`.
//!
//! The criterion asks for the whole workspace. Crates that were not measured are named, and a part that reaches the limit does not
//! pass for the whole; a part that misses it misses it.
use crate::failure::{Failure, fail};
use crate::finding::{Finding, Severity};
use crate::regulatory::{Regulatory, sha256};
use crate::results::{CriterionResult, Judged, Outcome};
use crate::workspace::{self, Commit, Foreign, Package};
use lungai_trace::implements;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const FORMAT: &str = "lungai-coverage/1";
const METRIC: &str = "coverage.lines";
const COBERTURA: &str = "cobertura.xml";
const RECORD: &str = "coverage.json";

/// What stands beside the Cobertura file, which names neither commit nor packages.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub format: String,
    pub commit: String,
    /// Files that were not as committed.
    pub changed: Vec<String>,
    /// Program, version and engine.
    pub tool: String,
    /// Packages whose tests were run and whose lines were counted.
    pub packages: Vec<String>,
    pub cobertura_sha256: String,
}

/// A record as it was read.
pub struct Coverage {
    pub record: Record,
    /// Lines by file, `/` from the workspace's root: reached, and all that could be.
    files: BTreeMap<String, Lines>,
}

impl Coverage {
    fn of(&self, commit: &Commit) -> Result<(), Foreign> {
        commit.made("the record of coverage is", &self.record.commit, &self.record.changed)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Lines {
    pub reached: u64,
    pub all: u64,
}

impl Lines {
    fn add(&mut self, other: Lines) {
        self.reached += other.reached;
        self.all += other.all;
    }

    pub fn rate(self) -> Option<f64> {
        (self.all > 0).then(|| self.reached as f64 / self.all as f64)
    }
}

/// The record and its raw files by name.
pub fn load(folder: &Path) -> Result<(Coverage, BTreeMap<String, Vec<u8>>), Failure> {
    let wrong = |what: String| Failure::new("coverage-malformed", format!("the record of coverage: {what}"));
    let read = |name: &str| std::fs::read(folder.join(name)).map_err(|error| wrong(format!("{name}: {error}")));
    let (record_bytes, cobertura) = (read(RECORD)?, read(COBERTURA)?);
    let record: Record = serde_json::from_slice(&record_bytes).map_err(|error| wrong(format!("{RECORD}: {error}")))?;
    if record.format != FORMAT {
        return Err(wrong(format!("unknown format `{}`", record.format)));
    }
    if sha256(&cobertura) != record.cobertura_sha256 {
        return Err(wrong(format!("{COBERTURA} is not the file that {RECORD} names")));
    }
    let text = std::str::from_utf8(&cobertura).map_err(|_| wrong(format!("{COBERTURA} is not UTF-8")))?;
    let files = lines_by_file(text).map_err(|error| wrong(format!("{COBERTURA}: {error}")))?;
    let raw = BTreeMap::from([(RECORD.to_owned(), record_bytes), (COBERTURA.to_owned(), cobertura)]);
    Ok((Coverage { record, files }, raw))
}

fn lines_by_file(text: &str) -> Result<BTreeMap<String, Lines>, String> {
    // Cobertura files may name their document type; nothing of it is read.
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(text, options).map_err(|error| error.to_string())?;
    if document.root_element().tag_name().name() != "coverage" {
        return Err("begins with another element than <coverage>".to_owned());
    }
    let mut hits: BTreeMap<(String, u64), u64> = BTreeMap::new();
    for class in document.descendants().filter(|node| node.has_tag_name("class")) {
        let file = class.attribute("filename").ok_or("a <class> without `filename`")?.replace('\\', "/");
        let lists = class.children().filter(|node| node.has_tag_name("lines"));
        for line in lists.flat_map(|list| list.children()).filter(|node| node.has_tag_name("line")) {
            let number = |name: &str| line.attribute(name).and_then(|value| value.parse::<u64>().ok());
            let (Some(line), Some(n)) = (number("number"), number("hits")) else {
                return Err(format!("a <line> of {file} without `number` and `hits`"));
            };
            // One line may be listed for several classes of a file.
            *hits.entry((file.clone(), line)).or_default() += n;
        }
    }
    let mut files: BTreeMap<String, Lines> = BTreeMap::new();
    for ((file, _), n) in hits {
        files.entry(file).or_default().add(Lines { reached: u64::from(n > 0), all: 1 });
    }
    Ok(files)
}

#[derive(Debug, Clone, Serialize)]
pub struct CoverageStatus {
    pub tool: String,
    pub packages: BTreeMap<String, Lines>,
    pub total: Lines,
    /// Packages of the workspace that were not measured.
    pub not_measured: Vec<String>,
    /// Whether it is of these sources.
    pub counts: bool,
}

/// Decides the criterion, in place of a validation run.
#[implements("RR-001")]
pub fn judge(
    root: &Path,
    packages: &[Package],
    coverage: Option<&Coverage>,
    commit: &Commit,
    judged: &mut BTreeMap<String, Judged>,
    findings: &mut Vec<Finding>,
) -> Option<CoverageStatus> {
    let status = coverage.map(|coverage| by_package(root, packages, coverage, commit));
    for (id, judged) in judged.iter_mut().filter(|(_, j)| j.criterion.metric == METRIC && j.result.is_none()) {
        findings.retain(|f| !(f.rule == "criterion-not-evaluated" && f.item == *id));
        let mut add = |severity, rule, message| findings.push(Finding::new(severity, rule, id, message));
        let (Some(coverage), Some(status)) = (coverage, &status) else {
            judged.outcome = Outcome::NotHere;
            let message = "not evidenced here: no record of line coverage (cargo xtask coverage)";
            add(Severity::Amber, "coverage-missing", message.to_owned());
            continue;
        };
        if let Err(foreign) = coverage.of(commit) {
            judged.outcome = Outcome::NotHere;
            let (rule, message) = match foreign {
                Foreign::Commit(message) => ("coverage-of-another-commit", message),
                Foreign::Changed(message) => ("coverage-of-changed-sources", message),
            };
            add(Severity::Red, rule, message);
            continue;
        }
        let Some(rate) = status.total.rate() else {
            judged.outcome = Outcome::NotHere;
            add(Severity::Red, "coverage-empty", "the record holds no line of the measured packages".to_owned());
            continue;
        };
        let criterion = &judged.criterion;
        let met = criterion.op.holds(rate, criterion.limit);
        let said = format!(
            "{:.1} % of {} lines in {} packages, limit {} {:.1} %",
            100.0 * rate,
            status.total.all,
            status.packages.len(),
            criterion.op.sign(),
            100.0 * criterion.limit
        );
        let requirement = id.rsplit_once('.').map_or(id.as_str(), |(requirement, _)| requirement);
        judged.run = Some("coverage".to_owned());
        judged.result = Some(CriterionResult {
            id: id.clone(),
            requirement: requirement.to_owned(),
            metric: METRIC.to_owned(),
            diameter_at_least_mm: None,
            population: None,
            value: Some(rate),
            ci: None,
            confidence_level: None,
            limit: criterion.limit,
            op: criterion.op,
            on: criterion.on,
            met,
            n: Some(status.total.all),
        });
        judged.outcome = match (met, status.not_measured.is_empty()) {
            (false, _) => {
                add(Severity::Red, "criterion-not-met", said);
                Outcome::NotMet
            }
            (true, false) => {
                let message = format!("{said}; not measured: {}", status.not_measured.join(", "));
                add(Severity::Amber, "coverage-partial", message);
                Outcome::NotEvaluated
            }
            (true, true) => Outcome::Met,
        };
    }
    status
}

fn by_package(root: &Path, packages: &[Package], coverage: &Coverage, commit: &Commit) -> CoverageStatus {
    let folder = |package: &Package| package.manifest_path.parent().unwrap_or(root).to_owned();
    let measured: BTreeSet<&str> = coverage.record.packages.iter().map(String::as_str).collect();
    let mut lines: BTreeMap<String, Lines> = BTreeMap::new();
    for (file, these) in &coverage.files {
        let path = root.join(file);
        let owner = packages.iter().filter(|p| path.starts_with(folder(p)));
        let owner = owner.max_by_key(|p| folder(p).as_os_str().len());
        if let Some(owner) = owner.filter(|owner| measured.contains(owner.name.as_str())) {
            lines.entry(owner.name.clone()).or_default().add(*these);
        }
    }
    let mut total = Lines::default();
    lines.values().for_each(|these| total.add(*these));
    CoverageStatus {
        tool: coverage.record.tool.clone(),
        not_measured: packages.iter().map(|p| p.name.clone()).filter(|name| !lines.contains_key(name)).collect(),
        packages: lines,
        total,
        counts: coverage.of(commit).is_ok(),
    }
}

/// Runs the tests of the named packages under cargo-tarpaulin; of the packages of the shipped program that need no network stack
/// where none is named.
pub fn run(root: &Path, named: &[String], out: &Path) -> Result<Record, Failure> {
    let regulatory = Regulatory::load(&root.join("regulatory"))?;
    let members = workspace::packages(root)?;
    let packages = if named.is_empty() { light(root, &regulatory, &members)? } else { named.to_vec() };
    if let Some(unknown) = packages.iter().find(|name| !members.iter().any(|member| member.name == **name)) {
        let near = crate::regulatory::nearest(unknown, members.iter().map(|member| member.name.as_str()));
        return fail("unknown-package", format!("`{unknown}` is no package of the workspace; nearest: {near}"));
    }
    let version = tarpaulin(root)?;
    let commit = workspace::commit(root);
    std::fs::create_dir_all(out).map_err(unwritable)?;
    _ = std::fs::remove_file(out.join(COBERTURA)); // an earlier run's
    eprintln!("{version}, engine ptrace: {}", packages.join(", "));
    let mut command = workspace::cargo_alone(root);
    command.args(["tarpaulin", "--engine", "ptrace", "--follow-exec", "--skip-clean", "--out", "Xml", "--output-dir"]);
    command.arg(out).arg("--target-dir").arg(root.join("target/coverage")).args(["--timeout", "900"]);
    packages.iter().for_each(|name| _ = command.args(["-p", name]));
    // It reads which line an instruction is of from the program itself.
    command.env("CARGO_PROFILE_DEV_SPLIT_DEBUGINFO", "off").env("CARGO_PROFILE_DEV_OPT_LEVEL", "0");
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.map_err(|error| Failure::new("cargo", format!("cargo tarpaulin does not start: {error}")))?;
    let cobertura = std::fs::read(out.join(COBERTURA)).map_err(|error| {
        Failure::new("coverage-failed", format!("cargo tarpaulin ended with {status} and left no file: {error}"))
    })?;
    if !status.success() {
        return fail("coverage-failed", format!("cargo tarpaulin ended with {status}: do the tests pass?"));
    }
    let record = Record {
        format: FORMAT.to_owned(),
        commit: commit.id,
        changed: commit.dirty,
        tool: format!("{version}, engine ptrace"),
        packages,
        cobertura_sha256: sha256(&cobertura),
    };
    let text = serde_json::to_vec_pretty(&record).map_err(|error| Failure::new("unwritable", error.to_string()))?;
    std::fs::write(out.join(RECORD), text).map_err(unwritable)?;
    Ok(record)
}

/// Members that the shipped program links and that reach Burn neither in their own code nor in their tests: minutes instead of an hour.
fn light(root: &Path, regulatory: &Regulatory, members: &[Package]) -> Result<Vec<String>, Failure> {
    let closure = workspace::closure(root, &regulatory.profile.shipped, &[])?;
    let linked: BTreeSet<&str> = closure.linked.keys().map(|component| component.name.as_str()).collect();
    let find = |name: &str| members.iter().find(|member| member.name == name);
    let heavy = |package: &Package| {
        let mut seen = BTreeSet::new();
        let mut open: Vec<(&str, bool)> = vec![(&package.name, true)];
        while let Some((name, itself)) = open.pop() {
            if name.starts_with("burn") {
                return true;
            }
            let Some(member) = find(name).filter(|_| seen.insert(name)) else { continue };
            // What others use for their tests is not built for ours.
            let used = member.dependencies.iter().filter(|d| itself || d.kind.as_deref() != Some("dev"));
            open.extend(used.map(|dependency| (dependency.name.as_str(), false)));
        }
        false
    };
    let light = members.iter().filter(|member| linked.contains(member.name.as_str()) && !heavy(member));
    Ok(light.map(|member| member.name.clone()).collect())
}

/// Its version; it is installed where it is missing.
fn tarpaulin(root: &Path) -> Result<String, Failure> {
    let version = || {
        let run = Command::new("cargo-tarpaulin").args(["tarpaulin", "--version"]).output().ok()?;
        let said = String::from_utf8_lossy(&run.stdout).trim().to_owned();
        run.status.success().then(|| said.replace("cargo-tarpaulin-tarpaulin", "cargo-tarpaulin"))
    };
    if let Some(version) = version() {
        return Ok(version);
    }
    eprintln!("installing cargo-tarpaulin: cargo install cargo-tarpaulin --locked (some minutes, once)");
    let status = workspace::cargo_alone(root).args(["install", "cargo-tarpaulin", "--locked", "--quiet"]).status();
    let installed = status.is_ok_and(|status| status.success()).then(version).flatten();
    installed.ok_or_else(|| {
        Failure::new(
            "tarpaulin-missing",
            "cargo-tarpaulin is needed: cargo install cargo-tarpaulin --locked".to_owned(),
        )
    })
}

fn unwritable(error: std::io::Error) -> Failure {
    Failure::new("unwritable", format!("the record of coverage: {error}"))
}

/// For the terminal.
pub fn text(root: &Path, out: &Path) -> Result<String, Failure> {
    let (coverage, _) = load(out)?;
    let status = by_package(root, &workspace::packages(root)?, &coverage, &workspace::commit(root));
    let percent = |lines: Lines| lines.rate().map_or("-".to_owned(), |rate| format!("{:.1} %", 100.0 * rate));
    let mut rows: Vec<String> = status
        .packages
        .iter()
        .map(|(name, lines)| format!("{name:24} {:>7}  {} of {} lines", percent(*lines), lines.reached, lines.all))
        .collect();
    rows.push(format!(
        "{:24} {:>7}  {} of {} lines",
        "all",
        percent(status.total),
        status.total.reached,
        status.total.all
    ));
    rows.push(format!("record: {}", out.display()));
    Ok(rows.join("\n"))
}

pub fn usual(root: &Path) -> PathBuf {
    root.join("target/evidence/coverage")
}
