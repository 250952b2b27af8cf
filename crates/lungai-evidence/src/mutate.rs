//! A mutation run: a copy of the tree, one change at a time, only the tests that must notice it.
//!
//! The copy keeps its place and its target folder from run to run, so that only what a mutation touches is compiled again.
use crate::failure::{Failure, fail};
use crate::junit;
use crate::mutation::{FORMAT, Mutant, Record, Verdict, read};
use crate::regulatory::{Mutation, Regulatory, nearest};
use crate::workspace;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Runs the mutations of these controls, or all, and writes the record after each: what ran before an interruption stays. Verdicts of the
/// same commit that are already on record and were not asked for again stay too.
pub fn run(root: &Path, controls: &[String], out: &Path) -> Result<Record, Failure> {
    let regulatory = Regulatory::load(&root.join("regulatory"))?;
    let known = |control: &String| regulatory.mutations.iter().any(|mutation| mutation.control == *control);
    if let Some(unknown) = controls.iter().find(|control| !known(control)) {
        let near = nearest(unknown, regulatory.mutations.iter().map(|mutation| mutation.control.as_str()));
        let message = format!("regulatory/mutations.yaml holds no mutation of {unknown}; nearest: {near}");
        return fail("mutation-missing", message);
    }
    let wanted = |mutation: &&Mutation| controls.is_empty() || controls.contains(&mutation.control);
    let chosen: Vec<&Mutation> = regulatory.mutations.iter().filter(wanted).collect();
    let commit = workspace::commit(root);
    if commit.id.is_empty() {
        return fail(
            "no-commit",
            "the sources are under no version control: which files to copy is unknown".to_owned(),
        );
    }
    let nextest = Command::new("cargo-nextest").args(["nextest", "--version"]).stdout(Stdio::null()).status();
    if !nextest.is_ok_and(|status| status.success()) {
        return fail("nextest-missing", "cargo-nextest is needed: cargo install cargo-nextest --locked".to_owned());
    }
    let bench = Bench::new(root)?;
    for mutation in &chosen {
        bench.mutated(mutation)?;
    }
    let mut record = match read(out) {
        Ok((record, _)) if record.commit == commit.id && record.changed == commit.dirty => record,
        _ => Record { format: FORMAT.to_owned(), commit: commit.id, changed: commit.dirty, mutants: Vec::new() },
    };
    record.mutants.retain(|m| regulatory.mutations.iter().any(|known| known.id == m.mutation));
    // All unmutated tests first, so that nothing is compiled only to be taken back.
    let mut twins: BTreeMap<(&str, &str, &str), Option<Vec<String>>> = BTreeMap::new();
    for mutation in &chosen {
        if let Entry::Vacant(twin) = twins.entry(tests_of(mutation)) {
            eprintln!("{}: the tests without the mutation", mutation.id);
            let seen = bench.tests(mutation)?;
            let seen = seen.ok_or_else(|| {
                let log = bench.reports.join("log.txt");
                let message =
                    format!("{}: {} does not build as it is: {}", mutation.id, mutation.package, log.display());
                Failure::new("mutation-twin", message)
            })?;
            twin.insert((seen.failed.is_empty() && !seen.passed.is_empty()).then_some(seen.passed));
        }
    }
    for mutation in chosen {
        let twin = twins.get(&tests_of(mutation)).cloned().flatten();
        let started = Instant::now();
        let (verdict, twin_passed, killed_by) = match twin {
            None => (Verdict::TwinFailed, Vec::new(), Vec::new()),
            Some(passed) => {
                eprintln!("{}: {}", mutation.id, mutation.breaks.en);
                let mutated = bench.mutated(mutation)?;
                let place = bench.tree.join(&mutation.file);
                let before = std::fs::read(&place).map_err(unwritable)?;
                std::fs::write(&place, mutated).map_err(unwritable)?;
                let seen = bench.tests(mutation);
                std::fs::write(&place, before).map_err(unwritable)?;
                match seen? {
                    None => (Verdict::DoesNotBuild, passed, Vec::new()),
                    Some(seen) => {
                        let killed_by: Vec<String> =
                            passed.iter().filter(|test| seen.failed.contains(test)).cloned().collect();
                        let verdict = if killed_by.is_empty() { Verdict::Survived } else { Verdict::Killed };
                        (verdict, passed, killed_by)
                    }
                }
            }
        };
        let seconds = (started.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        record.mutants.retain(|earlier| earlier.mutation != mutation.id);
        record.mutants.push(Mutant {
            mutation: mutation.id.clone(),
            sha256: mutation.sha256(),
            verdict,
            twin_passed,
            killed_by,
            seconds,
        });
        record.mutants.sort_by(|a, b| a.mutation.cmp(&b.mutation));
        let text = serde_json::to_vec_pretty(&record).map_err(|e| Failure::new("unwritable", e.to_string()))?;
        if let Some(folder) = out.parent() {
            std::fs::create_dir_all(folder).map_err(unwritable)?;
        }
        std::fs::write(out, text).map_err(unwritable)?;
    }
    Ok(record)
}

fn tests_of(mutation: &Mutation) -> (&str, &str, &str) {
    (&mutation.package, &mutation.target, &mutation.tests)
}

/// The copy of the tree and where it is built.
struct Bench {
    tree: PathBuf,
    target: PathBuf,
    /// Where nextest leaves its reports, and its settings.
    reports: PathBuf,
    settings: PathBuf,
}

struct Seen {
    passed: Vec<String>,
    failed: Vec<String>,
}

impl Bench {
    fn new(root: &Path) -> Result<Self, Failure> {
        let folder = root.join("target/mutants");
        let bench = Self {
            tree: folder.join("tree"),
            target: folder.join("target"),
            reports: folder.join("nextest"),
            settings: folder.join("nextest.toml"),
        };
        std::fs::create_dir_all(&bench.tree).map_err(unwritable)?;
        std::fs::create_dir_all(&bench.reports).map_err(unwritable)?;
        std::fs::write(bench.reports.join("log.txt"), "").map_err(unwritable)?;
        // In place of the workspace's own: a mutant that hangs is a mutant that was noticed.
        let settings = format!(
            "[store]\ndir = {:?}\n\n[profile.default]\nslow-timeout = {{ period = \"60s\", terminate-after = 5 }}\n\n\
             [profile.default.junit]\npath = \"junit.xml\"\n",
            bench.reports
        );
        std::fs::write(&bench.settings, settings).map_err(unwritable)?;
        copy(root, &bench.tree)?;
        Ok(bench)
    }

    fn mutated(&self, mutation: &Mutation) -> Result<String, Failure> {
        let text = std::fs::read_to_string(self.tree.join(&mutation.file)).unwrap_or_default();
        mutation.applied(&text).ok_or_else(|| {
            let times = text.matches(&mutation.from).count();
            let message =
                format!("{}: {} holds the text that it replaces {times} times, not once", mutation.id, mutation.file);
            Failure::new("mutation-stale", message)
        })
    }

    /// What became of the named tests; none where they do not build.
    fn tests(&self, mutation: &Mutation) -> Result<Option<Seen>, Failure> {
        let report = self.reports.join("default/junit.xml");
        _ = std::fs::remove_file(&report); // of the run before, if any
        let run = |more: &[&str]| {
            let mut command = workspace::cargo_alone(&self.tree);
            command.env("CARGO_TARGET_DIR", &self.target);
            command.args(["nextest", "run", "--config-file"]).arg(&self.settings).args(["-p", &mutation.package]);
            if mutation.target == "lib" {
                command.arg("--lib");
            } else {
                command.args(["--test", &mutation.target]);
            }
            command.args(["--no-tests", "pass", "-E", &mutation.tests, "--cargo-quiet"]).args(more);
            let log = || std::fs::OpenOptions::new().create(true).append(true).open(self.reports.join("log.txt"));
            let (out, err) = (log().map_err(unwritable)?, log().map_err(unwritable)?);
            let status = command.stdin(Stdio::null()).stdout(out).stderr(err).status();
            status.map_err(|error| Failure::new("cargo", format!("cargo nextest does not start: {error}")))
        };
        if !run(&["--no-run"])?.success() {
            return Ok(None);
        }
        run(&["--no-fail-fast"])?; // its report says more than its exit code
        let Ok(text) = std::fs::read_to_string(&report) else {
            return Ok(Some(Seen { passed: Vec::new(), failed: Vec::new() }));
        };
        let of = |cases: &[junit::Case], verdict| {
            let these = cases.iter().filter(|case| case.verdict == verdict);
            these.map(|case| format!("{} {}", case.suite, case.name)).collect()
        };
        let cases = junit::parse(&text)?.cases;
        Ok(Some(Seen { passed: of(&cases, junit::Verdict::Passed), failed: of(&cases, junit::Verdict::Failed) }))
    }
}

/// Brings the copy to what the tree holds under version control, as it lies there now. Files that are the same keep their time, so that
/// cargo does not compile them again.
fn copy(root: &Path, tree: &Path) -> Result<(), Failure> {
    let run = Command::new("git").arg("-C").arg(root).args(["ls-files", "-z"]).output();
    let listed = run.map_err(|error| Failure::new("git", format!("git does not start: {error}")))?;
    let mut wanted = BTreeSet::new();
    for name in String::from_utf8_lossy(&listed.stdout).split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (root.join(name), tree.join(name));
        let Ok(bytes) = std::fs::read(&from) else { continue }; // removed and not committed yet
        wanted.insert(to.clone());
        if std::fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder).map_err(unwritable)?;
        }
        std::fs::copy(from, to).map_err(unwritable)?; // with its mode
    }
    let mut open = vec![tree.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).map_err(unwritable)? {
            let path = entry.map_err(unwritable)?.path();
            if path.is_dir() {
                open.push(path);
            } else if !wanted.contains(&path) {
                std::fs::remove_file(path).map_err(unwritable)?;
            }
        }
    }
    Ok(())
}

fn unwritable(error: std::io::Error) -> Failure {
    Failure::new("unwritable", format!("the mutation run: {error}"))
}
