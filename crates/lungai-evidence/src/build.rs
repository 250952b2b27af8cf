//! From everything that was said, run and measured to one report: nothing in it reads a clock, a host name or a path outside the
//! workspace, so that equal inputs give equal bytes.
use crate::advisories::{Database, Hit};
use crate::binding::{self, BoundTest, Run};
use crate::clauses::{self, ClauseStatus};
use crate::coverage::{self, Coverage, CoverageStatus};
use crate::diff;
use crate::failure::Failure;
use crate::finding::{Finding, Severity};
use crate::governance::{self, DocumentStatus};
use crate::junit;
use crate::links::{self, Drawn, Link, Lock};
use crate::listing::Listing;
use crate::mutation::{self, MutantStatus};
use crate::noted;
use crate::package::{self, Files};
use crate::records;
use crate::regulatory::{ChangeControl, Need, Problem, Regulatory, Settled, Text, Threat, normative};
use crate::render;
use crate::results::{self, FrozenModel, ValidationRun};
use crate::risk::{self, Classification, RiskStatus};
use crate::scan::{self, Tag, Unit};
use crate::shipped;
use crate::soup::{self, SoupItem};
use crate::state::{self, RequirementStatus};
use crate::validation_ledger::ValidationLedger;
use crate::waiver;
use crate::workspace::{self, Commit};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the caller names.
#[derive(Debug, Default)]
pub struct Sources {
    pub junit: Option<PathBuf>,
    pub trace_dir: Option<PathBuf>,
    pub validation: Vec<PathBuf>,
    /// Ledgers of locked protocols, which vouch for results.
    pub validation_ledgers: Vec<PathBuf>,
    pub models: Vec<PathBuf>,
    pub tester: Option<String>,
    /// Folder of an earlier package, to tell what changed since.
    pub since: Option<PathBuf>,
    pub advisories: Option<PathBuf>,
    /// Record of a mutation run.
    pub mutations: Option<PathBuf>,
    /// Folder of a record of line coverage.
    pub coverage: Option<PathBuf>,
}

/// What was read from there.
pub struct Inputs {
    pub commit: Commit,
    pub run: Run,
    pub validation: Vec<ValidationRun>,
    pub validation_ledgers: Vec<ValidationLedger>,
    pub models: Vec<FrozenModel>,
    pub mutations: Option<mutation::Record>,
    pub coverage: Option<Coverage>,
    pub tester: Option<String>,
    pub since: Option<Earlier>,
    /// Raw files for `run/`.
    raw: Files,
}

/// An earlier package that was found whole.
pub struct Earlier {
    pub root_hash: String,
    pub report: Value,
}

/// The whole content of a package, before it is rendered.
#[derive(Serialize)]
pub struct Report {
    pub product: String,
    pub version: String,
    pub commit: Commit,
    pub classification: Classification,
    pub requirements: Vec<RequirementStatus>,
    pub tests: Vec<BoundTest>,
    pub risks: Vec<RiskStatus>,
    pub mutants: Vec<MutantStatus>,
    pub links: Vec<Link>,
    pub clauses: BTreeMap<String, Vec<ClauseStatus>>,
    pub coverage: Option<CoverageStatus>,
    pub validation: Vec<ValidationSummary>,
    pub models: Vec<FrozenModel>,
    pub soup: Vec<SoupItem>,
    /// The advisory database that was given; none: vulnerabilities are unknown.
    pub advisories: Option<Database>,
    pub advisory_hits: Vec<Hit>,
    pub intended_use: Text,
    pub needs: Vec<Need>,
    pub threats: Vec<Threat>,
    pub problems: Vec<Problem>,
    pub documents: Vec<DocumentStatus>,
    pub settled: Vec<Settled>,
    pub change_control: Option<ChangeControl>,
    /// Of the policy by which risks are judged.
    pub matrix_sha256: String,
    pub items: Vec<soup::ItemStatus>,
    /// Files of the sources, for the design index.
    #[serde(skip)]
    pub units: Vec<Unit>,
    /// Places of `#[implements]`: binary, module and ids.
    #[serde(skip)]
    pub code: Vec<Tag>,
    /// Red first, then by item.
    pub findings: Vec<Finding>,
    #[serde(skip)]
    pub cyclonedx: Value,
    #[serde(skip)]
    pub spdx: Value,
    #[serde(skip)]
    pub vex: Value,
}

#[derive(Serialize)]
pub struct ValidationSummary {
    pub name: String,
    pub synthetic: bool,
    pub standing: results::Standing,
    /// Whether its results were judged at all.
    pub usable: bool,
    pub manifest_sha256: Option<String>,
    pub protocol: Option<results::Protocol>,
    pub model: Option<results::Model>,
    pub results_sha256: String,
    pub criteria: Vec<Reported>,
}

/// A result as its run states it.
#[derive(Serialize)]
pub struct Reported {
    #[serde(flatten)]
    pub result: results::CriterionResult,
    /// Whether it was judged: it is of a criterion of ours, decided by the criterion's own rule.
    pub counts: bool,
}

/// The folder that holds `regulatory/requirements`, upwards from `start`.
pub fn workspace_root(start: &Path) -> Result<PathBuf, Failure> {
    let found = start.ancestors().find(|dir| dir.join("regulatory/requirements").is_dir());
    found
        .map(Path::to_owned)
        .ok_or_else(|| Failure::new("no-workspace", "no folder `regulatory/requirements` here or above".to_owned()))
}

pub fn report(root: &Path, sources: &Sources) -> Result<(Report, Inputs, Regulatory), Failure> {
    let regulatory = Regulatory::load(&root.join("regulatory"))?;
    let packages = workspace::packages(root)?;
    let profile = &regulatory.profile;
    let (scanned, inputs, closure) = std::thread::scope(|scope| {
        let closure = scope.spawn(|| workspace::closure(root, &profile.shipped, &profile.shipped_features));
        let inputs = scope.spawn(|| read(root, sources));
        (scan::scan(root, &packages), workspace::finished(inputs), workspace::finished(closure))
    });
    let scan::Scanned { tags, units } = scanned?;
    scan::check_ids(&tags, &regulatory)?;
    let inputs = inputs?;
    let mut findings = Vec::new();

    let (tests, new) = binding::bind(&tags, &inputs.run, &regulatory);
    findings.extend(new);
    findings.extend(shipped::outside_the_product(&tags, &packages, &regulatory));
    let (usable, new) = results::usable(&inputs.validation, &inputs.models, &inputs.validation_ledgers);
    findings.extend(new);
    let (mut judged, new) = results::judge(&regulatory, &usable);
    findings.extend(new);
    let coverage =
        coverage::judge(root, &packages, inputs.coverage.as_ref(), &inputs.commit, &mut judged, &mut findings);
    let (links, new) =
        links::draw(&regulatory, &tags, &inputs.validation).compare(&Lock::read(&root.join("regulatory"))?);
    findings.extend(new);
    let version =
        packages.iter().find(|p| p.name == regulatory.profile.shipped).map(|p| p.version.clone()).unwrap_or_default();
    let (mut requirements, new) = state::requirements(&regulatory, &tags, &tests, &judged);
    findings.extend(new);
    state::review(&mut requirements, &links, &regulatory, &version);
    let (mutants, new) = mutation::judge(root, &regulatory, &tests, inputs.mutations.as_ref(), &inputs.commit);
    findings.extend(new);
    let (risks, new) = risk::risks(&regulatory, &requirements, &tests, &judged, &mutants);
    findings.extend(new);
    let (classification, new) = risk::classify(&regulatory, &risks);
    findings.extend(new);
    let database = sources.advisories.as_deref().map(Database::load).transpose()?;
    let bill = soup::bill(root, &packages, &closure?, &regulatory, database.as_ref(), &inputs.commit)?;
    findings.extend(bill.findings);
    findings.extend(soup::check_items(&packages, &regulatory));
    findings.extend(commit_findings(&inputs.commit));
    findings.extend(governance::findings(&regulatory));
    findings.extend(governance::stale_reviews(&regulatory));
    findings.extend(governance::from_the_future(&regulatory, &inputs.commit.date));
    let mut tables = BTreeMap::new();
    let mut clause_findings = Vec::new();
    for table in &regulatory.clause_tables {
        let evidence = clauses::Evidence {
            regulatory: &regulatory,
            inputs: &inputs,
            requirements: &requirements,
            tests: &tests,
            risks: &risks,
            class: &classification,
            findings: &findings,
        };
        let (rows, new) = clauses::check(table, &evidence);
        clause_findings.extend(new);
        tables.insert(format!("{} {}", table.standard, table.edition), rows);
    }
    findings.extend(clause_findings);
    waiver::apply(&mut findings, &regulatory.waivers, &inputs.commit.date);
    findings.sort();
    findings.dedup();

    let judged_in = |name: &str| usable.iter().any(|run| run.name == name);
    let validation = inputs.validation.iter().map(|run| ValidationSummary {
        name: run.name.clone(),
        synthetic: run.results.synthetic,
        standing: run.results.standing.clone(),
        usable: judged_in(&run.name),
        manifest_sha256: run.results.manifest_sha256.clone(),
        protocol: run.results.protocol.clone(),
        model: run.results.model.clone(),
        results_sha256: crate::regulatory::sha256(&run.bytes),
        criteria: run
            .results
            .criteria
            .iter()
            .map(|result| Reported {
                counts: judged_in(&run.name) && results::counts(&regulatory, result),
                result: result.clone(),
            })
            .collect(),
    });
    let report = Report {
        product: regulatory.profile.name.clone(),
        version,
        commit: inputs.commit.clone(),
        classification,
        requirements,
        tests,
        risks,
        mutants,
        links,
        clauses: tables,
        coverage,
        validation: validation.collect(),
        models: inputs.models.clone(),
        soup: bill.items,
        advisories: database,
        advisory_hits: bill.hits,
        intended_use: regulatory.profile.intended_use.clone(),
        needs: regulatory.needs.values().cloned().collect(),
        threats: regulatory.threats.values().cloned().collect(),
        problems: regulatory.problems.values().cloned().collect(),
        documents: governance::documents(&regulatory),
        settled: regulatory.settled.clone(),
        change_control: regulatory.change_control.clone(),
        matrix_sha256: normative::hash(&regulatory.matrix, regulatory.profile.normative_language),
        items: bill.own,
        units,
        code: tags.into_iter().filter(|tag| !tag.is_test_tag).collect(),
        findings,
        cyclonedx: bill.cyclonedx,
        spdx: bill.spdx,
        vex: bill.vex,
    };
    Ok((report, inputs, regulatory))
}

/// The links alone, for a review.
pub fn links(root: &Path, sources: &Sources) -> Result<(Drawn, Regulatory), Failure> {
    let regulatory = Regulatory::load(&root.join("regulatory"))?;
    let tags = scan::scan(root, &workspace::packages(root)?)?.tags;
    scan::check_ids(&tags, &regulatory)?;
    let inputs = read(root, sources)?;
    Ok((links::draw(&regulatory, &tags, &inputs.validation), regulatory))
}

fn read(root: &Path, sources: &Sources) -> Result<Inputs, Failure> {
    let mut raw = Files::new();
    let mut run = Run::default();
    if let Some(folder) = &sources.trace_dir {
        run.records = Some(records::load(folder)?);
    }
    if let Some(file) = &sources.junit {
        read_run(root, file, &mut run, &mut raw)?;
    }
    for (name, bytes) in run.records.iter().flat_map(|records| &records.raw) {
        raw.insert(format!("run/trace/{name}"), bytes.clone());
    }
    let mut validation = sources
        .validation
        .iter()
        .enumerate()
        .map(|(i, folder)| results::load_run(root, folder, i + 1))
        .collect::<Result<Vec<_>, _>>()?;
    // Numbered by content, so that the order on the command line does not change the package.
    validation.sort_by_key(|run| crate::regulatory::sha256(&run.bytes));
    validation.dedup_by(|a, b| a.bytes == b.bytes);
    for (i, run) in validation.iter_mut().enumerate() {
        run.name = format!("validation-{}", i + 1);
    }
    let mut validation_ledgers =
        sources.validation_ledgers.iter().map(|file| ValidationLedger::load(file)).collect::<Result<Vec<_>, _>>()?;
    validation_ledgers.sort_by(|a, b| a.bytes.cmp(&b.bytes));
    validation_ledgers.dedup_by(|a, b| a.bytes == b.bytes);
    let mut models = sources.models.iter().map(|folder| results::load_model(folder)).collect::<Result<Vec<_>, _>>()?;
    models.sort_by(|a, b| (&a.name, &a.version, &a.files).cmp(&(&b.name, &b.version, &b.files)));
    let mut mutations = None;
    if let Some(file) = &sources.mutations {
        let (record, bytes) = mutation::read(file)?;
        raw.insert("run/mutations.json".to_owned(), bytes);
        mutations = Some(record);
    }
    let mut coverage = None;
    if let Some(folder) = &sources.coverage {
        let (read, files) = coverage::load(folder)?;
        raw.extend(files.into_iter().map(|(name, bytes)| (format!("run/coverage/{name}"), bytes)));
        coverage = Some(read);
    }
    let mut since = None;
    if let Some(folder) = &sources.since {
        let report = diff::report(folder)?;
        since = Some(Earlier { root_hash: package::manifest(folder)?.0.root_hash, report });
    }
    Ok(Inputs {
        commit: workspace::commit(root),
        run,
        validation,
        validation_ledgers,
        models,
        mutations,
        coverage,
        tester: sources.tester.clone(),
        since,
        raw,
    })
}

/// The report, and beside it the list of tests and the note of what ran.
fn read_run(root: &Path, junit: &Path, run: &mut Run, raw: &mut Files) -> Result<(), Failure> {
    let bytes = std::fs::read(junit).map_err(|error| Failure::new("unreadable", format!("the JUnit file: {error}")))?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Failure::new("junit-malformed", "the JUnit file is not UTF-8".to_owned()))?;
    let report = junit::parse(text)?;
    (run.id, run.cases) = (report.run, Some(report.cases));
    let tests = std::fs::read(junit.with_file_name(noted::TESTS)).ok();
    run.listing = tests.as_deref().map(Listing::parse).transpose()?;
    let trace = run.records.as_ref().map(|records| records.raw.as_slice());
    let given = noted::Given { junit: &bytes, tests: tests.as_deref(), trace };
    let note = junit.with_file_name(noted::NOTE);
    run.objections = noted::check(root, &note, &given)?;
    raw.insert("run/junit.xml".to_owned(), bytes);
    raw.extend(tests.map(|bytes| ("run/tests.json".to_owned(), bytes)));
    raw.extend(std::fs::read(note).ok().map(|bytes| ("run/run.json".to_owned(), bytes)));
    Ok(())
}

fn commit_findings(commit: &Commit) -> Vec<Finding> {
    let mut findings = Vec::new();
    if commit.id.is_empty() {
        findings.push(Finding::new(
            Severity::Red,
            "no-commit",
            "sources",
            "the sources are under no version control".to_owned(),
        ));
    }
    if commit.unknown {
        let message = "git cannot say whether the files are as committed: nothing is known about them".to_owned();
        findings.push(Finding::new(Severity::Red, "tree-unknown", "sources", message));
    }
    if !commit.dirty.is_empty() {
        let some = commit.dirty.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
        let message = format!(
            "{} files are not as committed: {some}{}",
            commit.dirty.len(),
            if commit.dirty.len() > 5 { ", …" } else { "" }
        );
        findings.push(Finding::new(Severity::Red, "dirty-tree", "sources", message));
    }
    findings
}

/// The files of the package: `core/` from the report alone, `run/` as it was on this machine.
pub fn files(report: &Report, inputs: &Inputs, regulatory: &Regulatory) -> Result<Files, Failure> {
    let mut files = render::core(report, inputs, regulatory)?;
    for run in &inputs.validation {
        files.insert(format!("core/validation/{}/results.json", run.name), run.bytes.clone());
        for (name, file) in [("protocol.yaml", &run.protocol), ("data-set.yaml", &run.recipe)] {
            if let Some(file) = file {
                files.insert(format!("core/validation/{}/{name}", run.name), file.bytes.clone());
            }
        }
    }
    for (i, ledger) in inputs.validation_ledgers.iter().enumerate() {
        files.insert(format!("core/validation/ledger-{}.jsonl", i + 1), ledger.bytes.clone());
    }
    for (i, model) in inputs.models.iter().enumerate() {
        let folder = format!("core/models/{}", i + 1);
        files.insert(format!("{folder}/manifest.json"), model.manifest.clone());
        if let Some(signature) = &model.signature {
            files.insert(format!("{folder}/model.sig"), signature.clone());
        }
        if let Some(card) = &model.card {
            files.insert(format!("{folder}/MODEL_CARD.md"), card.clone());
        }
    }
    files.insert("check.py".to_owned(), include_bytes!("../assets/check.py").to_vec());
    files.extend(inputs.raw.clone());
    let environment =
        serde_json::to_vec_pretty(&environment(inputs)).map_err(|e| Failure::new("unwritable", e.to_string()))?;
    files.insert("run/environment.json".to_owned(), environment);
    Ok(files)
}

/// IEC 62304 9.8: test configuration, tools, date and tester.
fn environment(inputs: &Inputs) -> Value {
    let says = |program: &str, argument: &str| {
        let run = Command::new(program).arg(argument).output().ok()?;
        run.status.success().then(|| String::from_utf8_lossy(&run.stdout).trim().to_owned())
    };
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    serde_json::json!({
        "generator": { "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") },
        "built_at_unix_s": since_1970,
        "system": { "os": std::env::consts::OS, "arch": std::env::consts::ARCH, "kernel": says("uname", "-r"), "cpus": std::thread::available_parallelism().ok().map(|n| n.get()) },
        "rustc": says("rustc", "-V"),
        "cargo": says("cargo", "-V"),
        "tester": inputs.tester.as_deref().unwrap_or("not named"),
    })
}
