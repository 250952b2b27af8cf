//! The workspace as cargo sees it: packages, targets, direct dependencies, the shipped closure, and the commit.
use crate::failure::{Failure, fail};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The platform for which the list of shipped components is drawn up, whatever machine draws it up.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

#[derive(Debug, Deserialize)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub targets: Vec<Target>,
    pub dependencies: Vec<Dependency>,
    pub manifest_path: PathBuf,
}

#[derive(Debug, Deserialize)]
pub struct Target {
    pub name: String,
    pub kind: Vec<String>,
    pub src_path: PathBuf,
}

#[derive(Debug, Deserialize)]
pub struct Dependency {
    pub name: String,
    /// Absent for a normal dependency, else `dev` or `build`.
    pub kind: Option<String>,
    /// Present for a dependency by path.
    pub path: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// The members of the workspace, sorted by name.
pub fn packages(root: &Path) -> Result<Vec<Package>, Failure> {
    let text = cargo(root, &["metadata", "--format-version", "1", "--no-deps", "--offline"])?;
    let mut metadata: Metadata =
        serde_json::from_str(&text).map_err(|error| Failure::new("cargo", format!("cargo metadata: {error}")))?;
    metadata.packages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(metadata.packages)
}

/// One resolved package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Component {
    pub name: String,
    pub version: String,
}

/// What is built for the shipped program.
#[derive(Debug, Default)]
pub struct Closure {
    /// Linked into the program: normal dependencies without procedural macros.
    pub linked: BTreeMap<Component, String>,
    /// Runs only while it is built: procedural macros, build scripts and what they use.
    pub build: BTreeMap<Component, String>,
    /// Features with which each is compiled, with commas.
    pub features: BTreeMap<Component, String>,
    /// Where the sources of each are kept, as it says itself; may be empty.
    pub repositories: BTreeMap<Component, String>,
    /// Who uses whom, among all of them.
    pub edges: BTreeSet<(Component, Component)>,
}

/// Resolves the dependencies of one package, with its default features and those named, for [`TARGET`]. The values are licences.
pub fn closure(root: &Path, package: &str, features: &[String]) -> Result<Closure, Failure> {
    let mut closure = Closure::default();
    let tree = |edges: &str| {
        let format = "{p}|{l}|{r}|{f}";
        let features = features.join(",");
        let usual =
            ["tree", "--locked", "-p", package, "-e", edges, "--target", TARGET, "--prefix", "depth", "-f", format];
        cargo(root, &[&usual[..], &["--features", &features]].concat())
    };
    // Cargo takes a second for each.
    let (linked, all) = std::thread::scope(|scope| {
        let linked = scope.spawn(|| tree("normal,no-proc-macro"));
        let all = tree("normal,build");
        (finished(linked), all)
    });
    for line in lines(&linked?)? {
        closure.features.insert(line.component.clone(), line.features);
        closure.repositories.insert(line.component.clone(), line.repository);
        closure.linked.insert(line.component, line.licence);
    }
    let mut above: Vec<Component> = Vec::new();
    for Line { component, licence, features, repository, depth } in lines(&all?)? {
        above.truncate(depth);
        if let Some(user) = above.last() {
            closure.edges.insert((user.clone(), component.clone()));
        }
        if !closure.linked.contains_key(&component) {
            closure.features.insert(component.clone(), features);
            closure.repositories.insert(component.clone(), repository);
            closure.build.insert(component.clone(), licence);
        }
        above.push(component);
    }
    Ok(closure)
}

/// One line of the tree, `3serde v1.0.1 (proc-macro)|MIT OR Apache-2.0|https://github.com/serde-rs/serde|derive,std (*)`.
#[derive(Debug, PartialEq)]
struct Line {
    component: Component,
    licence: String,
    features: String,
    repository: String,
    depth: usize,
}

fn lines(tree: &str) -> Result<Vec<Line>, Failure> {
    let parse = |line: &str| {
        let digits = line.find(|c: char| !c.is_ascii_digit())?;
        let depth = line[..digits].parse().ok()?;
        let mut parts = line[digits..].split('|');
        let (package, licence, repository, features) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let mut words = package.split(' ');
        let name = words.next()?.to_owned();
        let version = words.next()?.strip_prefix('v')?.to_owned();
        let licence = licence.trim().replace('/', " OR ");
        let features = features.trim_end_matches("(*)").trim().to_owned();
        let repository = repository.trim().to_owned();
        Some(Line { component: Component { name, version }, licence, features, repository, depth })
    };
    tree.lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            parse(line).ok_or_else(|| Failure::new("cargo", format!("cargo tree gave an unexpected line: {line}")))
        })
        .collect()
}

/// What a thread came to; if it panicked, so does its caller.
pub fn finished<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Source and SHA-256 of every package in `Cargo.lock`; both empty for members of the workspace.
pub fn lock(root: &Path) -> Result<BTreeMap<Component, (String, String)>, Failure> {
    let text = std::fs::read_to_string(root.join("Cargo.lock"))
        .map_err(|error| Failure::new("unreadable", format!("Cargo.lock: {error}")))?;
    let mut found = BTreeMap::new();
    for block in text.split("[[package]]").skip(1) {
        let value = |key: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
            line.map(|value| value.trim_matches('"').to_owned()).unwrap_or_default()
        };
        found
            .insert(Component { name: value("name"), version: value("version") }, (value("source"), value("checksum")));
    }
    Ok(found)
}

/// Where the sources stand.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Commit {
    /// Empty outside a repository.
    pub id: String,
    /// Committer date, ISO 8601. The date of everything in the core of a package.
    pub date: String,
    /// The same moment in UTC, `2026-11-24T10:00:00Z`.
    #[serde(skip)]
    pub utc: String,
    /// Files that are not as the commit holds them, or that nobody would see change.
    pub dirty: Vec<String>,
    /// Git could not say what differs, so that nothing is known.
    pub unknown: bool,
}

/// Why a record that was made elsewhere or before counts for nothing here.
pub enum Foreign {
    /// It is of another commit.
    Commit(String),
    /// It is of sources that no commit holds.
    Changed(String),
}

impl Commit {
    /// Whether a record is of this commit and of nothing else.
    ///
    /// - `what`: the record, with its verb, such as `the mutation run is`
    /// - `commit`, `changed`: the commit that it was made of, and files that differed from it
    pub fn made(&self, what: &str, commit: &str, changed: &[String]) -> Result<(), Foreign> {
        let short = |id: &str| if id.is_empty() { "no commit".to_owned() } else { format!("commit {id:.12}") };
        if commit != self.id {
            let (of, here) = (short(commit), short(&self.id));
            return Err(Foreign::Commit(format!("{what} of {of}, the sources are {here}: it counts for nothing")));
        }
        if !changed.is_empty() {
            return Err(Foreign::Changed(format!("{what} of sources that no commit holds: {}", changed.join(", "))));
        }
        Ok(())
    }
}

pub fn commit(root: &Path) -> Commit {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        // Neither the caller's surroundings nor a stale cache decide which tree is looked at.
        for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            command.env_remove(variable);
        }
        command.env("TZ", "UTC").arg("-C").arg(root);
        command.args(["-c", "core.quotePath=false", "-c", "core.fsmonitor=false", "-c", "core.untrackedCache=false"]);
        let run = command.args(arguments).output().ok()?;
        run.status.success().then(|| String::from_utf8_lossy(&run.stdout).trim_end().to_owned())
    };
    let id = git(&["rev-parse", "HEAD"]).unwrap_or_default();
    let dirty = if id.is_empty() { Some(Vec::new()) } else { differences(git) };
    Commit {
        id,
        date: git(&["show", "-s", "--format=%cI", "HEAD"]).unwrap_or_default(),
        utc: git(&["show", "-s", "--format=%cd", "--date=format-local:%Y-%m-%dT%H:%M:%SZ", "HEAD"]).unwrap_or_default(),
        unknown: dirty.is_none(),
        dirty: dirty.unwrap_or_default(),
    }
}

/// Of the whole tree: changed files, new ones that no committed `.gitignore` names, ignored ones where each file speaks for itself, and
/// those that git was told not to watch.
fn differences(git: impl Fn(&[&str]) -> Option<String>) -> Option<Vec<String>> {
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", "."])?;
    let new = git(&["ls-files", "--others", "--exclude-per-directory=.gitignore"])?;
    let ignored = git(&["ls-files", "--others", "--", "regulatory", ".cargo", ".config"])?;
    let watched = git(&["ls-files", "-v"])?;
    let mut found: BTreeSet<String> = changed.lines().filter_map(|line| line.get(3..)).map(str::to_owned).collect();
    found.extend(new.lines().chain(ignored.lines()).map(str::to_owned));
    // `h`: assumed unchanged; `S`: skipped in the work tree.
    let unwatched = watched.lines().filter(|line| line.starts_with(|tag: char| tag.is_lowercase() || tag == 'S'));
    found.extend(
        unwatched.filter_map(|line| line.get(2..)).map(|file| format!("{file} (git was told not to watch it)")),
    );
    Some(found.into_iter().collect())
}

/// Cargo for a build of its own: what an outer cargo or test runner says of itself is not for this one, nor are its traces.
pub fn cargo_alone(folder: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    let outer = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_NAME", "NEXTEST", "LUNGAI_TRACE_DIR"];
    for (key, _) in std::env::vars_os() {
        if outer.iter().any(|prefix| key.to_string_lossy().starts_with(prefix)) {
            command.env_remove(&key);
        }
    }
    command.current_dir(folder);
    command
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<String, Failure> {
    let program = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let run = Command::new(program)
        .args(arguments)
        .current_dir(root)
        .output()
        .map_err(|error| Failure::new("cargo", format!("cargo does not start: {error}")))?;
    if !run.status.success() {
        let said = String::from_utf8_lossy(&run.stderr);
        let cause = said.lines().find(|line| line.starts_with("error")).unwrap_or("no message");
        return fail("cargo", format!("cargo {}: {cause}", arguments[0]));
    }
    Ok(String::from_utf8_lossy(&run.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_tree_gives_component_licence_features_and_depth() {
        let tree = "0a v0.1.0 (/somewhere/a)|Apache-2.0||\n12serde_derive v1.0.2 (proc-macro)|MIT/Apache-2.0|https://e.org/s|default,std (*)\n";
        let found = lines(tree).unwrap();
        assert_eq!(found[0].component, Component { name: "a".into(), version: "0.1.0".into() });
        assert_eq!((found[0].licence.as_str(), found[0].features.as_str(), found[0].depth), ("Apache-2.0", "", 0));
        assert_eq!(
            (found[1].licence.as_str(), found[1].features.as_str(), found[1].depth),
            ("MIT OR Apache-2.0", "default,std", 12)
        );
        assert_eq!((found[0].repository.as_str(), found[1].repository.as_str()), ("", "https://e.org/s"));
        assert!(lines("no depth").is_err());
    }
}
