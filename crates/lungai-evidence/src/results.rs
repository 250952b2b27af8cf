//! Results of validation runs, and the frozen models that they speak of.
use crate::failure::Failure;
use crate::finding::{Finding, Severity};
use crate::regulatory::{Criterion, On, Op, Regulatory, sha256};
use crate::validation_ledger::{self, Position, ValidationLedger};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use lungai_trace::implements;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The part of a run's `results.json` that is bound to requirements; whatever else it holds is kept but not read.
#[derive(Debug, Clone, Deserialize)]
pub struct Results {
    pub synthetic: bool,
    /// Whether the protocol was locked before the run; a run that does not say so proves nothing.
    #[serde(default)]
    pub standing: Standing,
    #[serde(default)]
    pub manifest_sha256: Option<String>,
    #[serde(default)]
    pub data_set: Option<DataSet>,
    #[serde(default)]
    pub model: Option<Model>,
    #[serde(default)]
    pub protocol: Option<Protocol>,
    pub criteria: Vec<CriterionResult>,
    /// SHA-256 of the files that the run wrote beside its results.
    #[serde(default)]
    files: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Standing {
    /// The protocol may have been written to fit.
    #[default]
    Exploratory,
    Locked {
        /// Name of the validation ledger.
        ledger: String,
        /// The line that tells of the opening.
        #[serde(flatten)]
        opened: Position,
    },
}

/// The test set by what its locks say, whatever its manifest is called.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct DataSet {
    pub fingerprint: String,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub version: Option<String>,
}

/// A frozen model as a run names it.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Model {
    pub name: String,
    pub version: String,
    /// Of the signature, which pins every other file.
    pub sha256: String,
}

/// A protocol as a run names it.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Protocol {
    pub name: String,
    pub version: String,
    /// Of what it says: comments and line breaks change nothing. This is what is locked.
    #[serde(default)]
    pub canonical_sha256: Option<String>,
    /// Of its file.
    #[serde(default)]
    pub sha256: Option<String>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct CriterionResult {
    pub id: String,
    pub requirement: String,
    #[serde(default)]
    pub metric: String,
    /// Absent: the run does not say which nodules counted.
    #[serde(default)]
    pub diameter_at_least_mm: Option<f64>,
    /// Conditions on what counted; absent: the run does not say.
    #[serde(default)]
    pub population: Option<Vec<String>>,
    pub value: Option<f64>,
    /// Confidence interval `[lower, upper]`.
    #[serde(default)]
    pub ci: Option<[f64; 2]>,
    #[serde(default)]
    pub confidence_level: Option<f64>,
    pub limit: f64,
    pub op: Op,
    pub on: On,
    pub met: bool,
    /// Size of the sample in the metric's own unit.
    #[serde(default)]
    pub n: Option<u64>,
}

impl CriterionResult {
    /// The figure on which the decision stands; none where the run could not give it.
    pub fn deciding(&self) -> Option<f64> {
        match self.on {
            On::Value => self.value,
            On::CiLower => self.ci.map(|ci| ci[0]),
            On::CiUpper => self.ci.map(|ci| ci[1]),
        }
    }
}

/// One validation run.
#[derive(Debug, Clone)]
pub struct ValidationRun {
    /// Its name in the package, `validation-1` and so on.
    pub name: String,
    pub results: Results,
    /// All that the results say, for documents; criteria are decided by [`Results`] alone.
    pub all: Value,
    pub bytes: Vec<u8>,
    /// `protocol.yaml` beside the results, if it is the file that they name by its hash.
    pub protocol: Option<Described>,
    /// `datasets/NAME.yaml` of the set that the results name, if it states the same version.
    pub recipe: Option<Described>,
    /// A file beside the results that is not as the run wrote it.
    altered: Option<String>,
}

/// A YAML file with what it says.
#[derive(Debug, Clone)]
pub struct Described {
    pub bytes: Vec<u8>,
    pub says: Value,
}

impl Described {
    fn read(file: &Path) -> Option<Self> {
        let bytes = std::fs::read(file).ok()?;
        Some(Self { says: serde_yaml::from_slice(&bytes).ok()?, bytes })
    }
}

/// - `root`: the workspace, whose `datasets/` holds recipes
pub fn load_run(root: &Path, folder: &Path, number: usize) -> Result<ValidationRun, Failure> {
    let name = format!("validation-{number}");
    let bytes = std::fs::read(folder.join("results.json"))
        .map_err(|error| Failure::new("unreadable", format!("{name}: results.json: {error}")))?;
    let malformed =
        |error: serde_json::Error| Failure::new("results-malformed", format!("{name}: results.json: {error}"));
    let all: Value = serde_json::from_slice(&bytes).map_err(malformed)?;
    let results = Results::deserialize(&all).map_err(malformed)?;
    let as_written =
        |file: &str, then: &String| std::fs::read(folder.join(file)).is_ok_and(|now| sha256(&now) == *then);
    let altered = results.files.iter().find(|(file, then)| !as_written(file, then)).map(|(file, _)| file.clone());
    let named = results.protocol.as_ref().and_then(|protocol| protocol.sha256.as_deref());
    let protocol = Described::read(&folder.join("protocol.yaml"))
        .filter(|protocol| named == Some(sha256(&protocol.bytes).as_str()));
    let recipe = results.data_set.as_ref().and_then(|set| recipe(root, set));
    Ok(ValidationRun { name, results, all, bytes, protocol, recipe, altered })
}

fn recipe(root: &Path, set: &DataSet) -> Option<Described> {
    let name =
        set.name.as_ref().filter(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)))?;
    let recipe = Described::read(&root.join(format!("datasets/{name}.yaml")))?;
    let same = |key: &str, wanted: Option<&str>| recipe.says[key].as_str() == wanted;
    (same("name", Some(name)) && same("version", set.version.as_deref())).then_some(recipe)
}

/// What became of one criterion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Outcome {
    #[serde(rename = "not evidenced here")]
    NotHere,
    #[serde(rename = "not evaluated")]
    NotEvaluated,
    #[serde(rename = "criterion not met")]
    NotMet,
    #[serde(rename = "criterion not met (synthetic)")]
    NotMetSynthetic,
    #[serde(rename = "criterion met (synthetic, exploratory)")]
    MetSyntheticExploratory,
    #[serde(rename = "criterion met (synthetic)")]
    MetSynthetic,
    #[serde(rename = "criterion met (exploratory)")]
    MetExploratory,
    #[serde(rename = "criterion met")]
    Met,
}

impl Outcome {
    pub fn words(self) -> &'static str {
        match self {
            Outcome::NotHere => "not evidenced here",
            Outcome::NotEvaluated => "not evaluated",
            Outcome::NotMet => "criterion not met",
            Outcome::NotMetSynthetic => "criterion not met (synthetic)",
            Outcome::MetSyntheticExploratory => "criterion met (synthetic, exploratory)",
            Outcome::MetSynthetic => "criterion met (synthetic)",
            Outcome::MetExploratory => "criterion met (exploratory)",
            Outcome::Met => "criterion met",
        }
    }
}

/// A criterion with the result that decides it. Results on real data outrank synthetic ones; among several on the same kind of data
/// the worst decides, and of those that meet the limit one of a locked protocol.
#[derive(Debug, Clone, Serialize)]
pub struct Judged {
    pub criterion: Criterion,
    pub outcome: Outcome,
    pub result: Option<CriterionResult>,
    /// The run that the result is from.
    pub run: Option<String>,
}

/// - `runs`: those alone whose model, protocol and ledger were found in order ([`usable`])
#[implements("RR-001", "SW-1102")]
pub fn judge(regulatory: &Regulatory, runs: &[&ValidationRun]) -> (BTreeMap<String, Judged>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut usable: BTreeMap<&str, Vec<(&ValidationRun, &CriterionResult)>> = BTreeMap::new();
    let known: BTreeMap<&str, (&str, &Criterion)> = regulatory
        .requirements
        .values()
        .flat_map(|r| r.criteria.iter().map(|c| (c.id.as_str(), (r.id.as_str(), c))))
        .collect();
    for run in runs.iter().copied() {
        for result in &run.results.criteria {
            let wrong = match known.get(result.id.as_str()) {
                // A protocol may hold more criteria than the requirements: they are simply not evidence for any.
                None => Some((
                    Severity::Amber,
                    "criterion-unknown",
                    "no requirement holds this criterion: the result proves none".to_owned(),
                )),
                Some((requirement, criterion)) => {
                    against(requirement, criterion, result).map(|(rule, message)| (Severity::Red, rule, message))
                }
            };
            match wrong {
                Some((severity, rule, message)) => {
                    findings.push(Finding::new(severity, rule, &result.id, format!("{}: {message}", run.name)));
                }
                None => usable.entry(result.id.as_str()).or_default().push((run, result)),
            }
        }
    }
    let mut judged = BTreeMap::new();
    for (id, (_, criterion)) in known {
        let results = usable.get(id).map(Vec::as_slice).unwrap_or_default();
        let exploratory = |run: &ValidationRun| run.results.standing == Standing::Exploratory;
        let decisive = results.iter().min_by_key(|(run, result)| (run.results.synthetic, result.met, exploratory(run)));
        let one = Judged {
            criterion: criterion.clone(),
            outcome: match (&criterion.not_here, decisive) {
                (_, Some((run, result))) => match (run.results.synthetic, result.met, exploratory(run)) {
                    (false, false, _) => Outcome::NotMet,
                    (true, false, _) => Outcome::NotMetSynthetic,
                    (false, true, false) => Outcome::Met,
                    (false, true, true) => Outcome::MetExploratory,
                    (true, true, false) => Outcome::MetSynthetic,
                    (true, true, true) => Outcome::MetSyntheticExploratory,
                },
                (Some(_), None) => Outcome::NotHere,
                (None, None) => Outcome::NotEvaluated,
            },
            result: decisive.map(|(_, result)| (*result).clone()),
            run: decisive.map(|(run, _)| run.name.clone()),
        };
        findings.extend(gap(id, &one));
        judged.insert(id.to_owned(), one);
    }
    (judged, findings)
}

/// A result counts only if it is of the requirement's own figure, was decided by its rule, and decided rightly.
fn against(requirement: &str, criterion: &Criterion, result: &CriterionResult) -> Option<(&'static str, String)> {
    let altered = |message: String| Some(("criterion-altered", message));
    let incoherent = |message: String| Some(("criterion-incoherent", message));
    if result.requirement != requirement {
        return altered(format!("names the requirement {}, but belongs to {requirement}", result.requirement));
    }
    if result.op != criterion.op || result.on != criterion.on || result.limit != criterion.limit {
        let rule = |op: Op, limit: f64, on: On| format!("{} {} {limit}", on.words(), op.sign());
        return altered(format!(
            "was decided by `{}`, the requirement says `{}`",
            rule(result.op, result.limit, result.on),
            rule(criterion.op, criterion.limit, criterion.on)
        ));
    }
    for (what, found, wanted) in figure(criterion, result) {
        if found.as_deref() != Some(wanted.as_str()) {
            let found = found.map_or_else(|| "the result does not say".to_owned(), |found| format!("it is `{found}`"));
            return altered(format!("{what}: the requirement says `{wanted}`, {found}"));
        }
    }
    if result.n == Some(0) {
        return Some(("criterion-without-value", "is of nothing: its sample has no members".to_owned()));
    }
    let Some(value) = result.value else {
        return Some(("criterion-without-value", "states no value: the run could not give the figure".to_owned()));
    };
    if let Some([low, high]) = result.ci {
        // Sums in another order may differ in the last digits.
        let inside = low - 1e-9 <= value && value <= high + 1e-9;
        if !inside {
            return Some((
                "interval-without-value",
                format!("the value {value} lies outside its interval {low} to {high}"),
            ));
        }
    } else if result.on != On::Value {
        return incoherent("is decided by a confidence bound and has no interval".to_owned());
    }
    let truth = result.deciding().is_some_and(|figure| result.op.holds(figure, result.limit));
    let said = if result.met { "met" } else { "not met" };
    if truth == result.met { None } else { incoherent(format!("says {said}, but its own figures say otherwise")) }
}

/// Whether a result is of a criterion of ours and was decided by its rule.
pub fn counts(regulatory: &Regulatory, result: &CriterionResult) -> bool {
    let requirement = regulatory.requirements.get(&result.requirement);
    let criterion = requirement.and_then(|r| r.criteria.iter().find(|c| c.id == result.id));
    criterion.is_some_and(|criterion| against(&result.requirement, criterion, result).is_none())
}

/// What a figure is of, as the result says it (where it does) and as the requirement does.
fn figure(criterion: &Criterion, result: &CriterionResult) -> [(&'static str, Option<String>, String); 4] {
    let all = |conditions: &[String]| {
        let conditions: BTreeSet<&str> = conditions.iter().map(String::as_str).collect();
        if conditions.is_empty() { "all".to_owned() } else { Vec::from_iter(conditions).join("; ") }
    };
    // A level follows from an alpha, so that its last digits may differ.
    let level = |level: f64| format!("{level:.6}");
    [
        ("metric", Some(result.metric.clone()), criterion.metric.clone()),
        (
            "diameter_at_least_mm",
            result.diameter_at_least_mm.map(|mm| mm.to_string()),
            criterion.diameter_at_least_mm.to_string(),
        ),
        ("population", result.population.as_deref().map(all), all(&criterion.population)),
        ("confidence_level", result.confidence_level.map(level), level(criterion.confidence_level)),
    ]
}

fn gap(id: &str, judged: &Judged) -> Option<Finding> {
    let rule = |severity, rule, message: String| Some(Finding::new(severity, rule, id, message));
    match judged.outcome {
        Outcome::NotHere => {
            let reason = judged.criterion.not_here.as_deref().unwrap_or_default();
            rule(Severity::Grey, "criterion-not-here", format!("not evidenced here: {reason}"))
        }
        Outcome::NotEvaluated => rule(
            Severity::Amber,
            "criterion-not-evaluated",
            format!("no validation result for {}", judged.criterion.metric),
        ),
        Outcome::NotMet => {
            rule(Severity::Red, "criterion-not-met", format!("{} misses its limit", judged.criterion.metric))
        }
        Outcome::NotMetSynthetic => rule(
            Severity::Red,
            "criterion-not-met",
            format!("{} misses its limit (SYNTHETIC data)", judged.criterion.metric),
        ),
        Outcome::MetSyntheticExploratory => rule(
            Severity::Amber,
            "synthetic-only",
            "met on SYNTHETIC data only, by a protocol that was not locked before the run: no clinical evidence"
                .to_owned(),
        ),
        Outcome::MetSynthetic => {
            rule(Severity::Amber, "synthetic-only", "met on SYNTHETIC data only: no clinical evidence".to_owned())
        }
        Outcome::MetExploratory => rule(
            Severity::Amber,
            "exploratory-only",
            "met in an exploratory run only: its protocol was not locked before".to_owned(),
        ),
        Outcome::Met => None,
    }
}

/// Runs that may be judged: each names a protocol and a model, and neither the frozen models nor the ledgers given contradict it.
#[implements("RR-001", "SW-1102")]
pub fn usable<'a>(
    runs: &'a [ValidationRun],
    models: &[FrozenModel],
    ledgers: &[ValidationLedger],
) -> (Vec<&'a ValidationRun>, Vec<Finding>) {
    let mut findings = Vec::new();
    for model in models {
        for fault in &model.faults {
            let item = format!("{} {}", model.name, model.version);
            findings.push(Finding::new(Severity::Red, "model-altered", &item, fault.clone()));
        }
    }
    let mut usable = Vec::new();
    for run in runs {
        let mut wrong = doubts(run, models);
        if !ledgers.is_empty()
            && run.results.standing != Standing::Exploratory
            && let Err(message) = validation_ledger::vouch(ledgers, run)
        {
            wrong.push(("results-not-in-ledger", message));
        }
        if wrong.is_empty() {
            usable.push(run);
        }
        let refused = |(rule, message)| {
            Finding::new(Severity::Red, rule, &run.name, format!("{message}: its results prove nothing"))
        };
        findings.extend(wrong.into_iter().map(refused));
        let mut amber =
            |rule, message: &str| findings.push(Finding::new(Severity::Amber, rule, &run.name, message.to_owned()));
        match run.results.standing {
            Standing::Exploratory => {
                amber(
                    "exploratory-run",
                    "its protocol was not locked before it ran: it meets no criterion for certain",
                );
            }
            Standing::Locked { .. } if ledgers.is_empty() => {
                amber(
                    "lock-not-shown",
                    "says that its protocol was locked; no validation ledger was given that vouches for it",
                );
            }
            Standing::Locked { .. } => (),
        }
        if models.is_empty() {
            amber("model-not-given", "no frozen model was given that could be compared with the one it names");
        }
    }
    findings.extend(ledgers.iter().flat_map(|ledger| ledger.left_out(runs)));
    (usable, findings)
}

/// What keeps the results of a run from being judged, by the run itself and the frozen models.
fn doubts(run: &ValidationRun, models: &[FrozenModel]) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    if let Some(file) = &run.altered {
        wrong.push(("results-altered", format!("{file} is not as the run wrote it")));
    }
    if run.results.protocol.as_ref().is_none_or(|protocol| protocol.canonical_sha256.is_none()) {
        wrong.push((
            "protocol-not-named",
            "names no protocol by the hash of what it says (canonical_sha256)".to_owned(),
        ));
    }
    match &run.results.model {
        None => wrong.push(("model-not-named", "names no model".to_owned())),
        Some(_) if models.is_empty() => (),
        Some(model) => {
            let same = |m: &&FrozenModel| {
                m.name == model.name
                    && m.version == model.version
                    && m.files.get(SIGNATURE).is_some_and(|hash| *hash == model.sha256)
            };
            let Model { name, version, sha256 } = model;
            match models.iter().find(same) {
                None => wrong.push((
                    "model-differs",
                    format!("speaks of {name} {version} ({sha256:.12}…), which is none of the frozen models given"),
                )),
                Some(model) if !model.faults.is_empty() => wrong.push((
                    "model-differs",
                    format!("speaks of {name} {version}, whose folder is not what was signed ({})", model.faults[0]),
                )),
                Some(_) => (),
            }
        }
    }
    wrong
}

/// A frozen model as it lies in its folder.
#[derive(Debug, Clone, Serialize)]
pub struct FrozenModel {
    pub name: String,
    pub version: String,
    /// SHA-256 of each of its files by path.
    pub files: BTreeMap<String, String>,
    /// Where the folder differs from its signed list.
    pub faults: Vec<String>,
    #[serde(skip)]
    pub manifest: Vec<u8>,
    #[serde(skip)]
    pub card: Option<Vec<u8>>,
    #[serde(skip)]
    pub signature: Option<Vec<u8>>,
}

/// The list of files with its signature. Whose signature it is, is for whoever loads the model; here it only pins the files, and results
/// pin it.
const SIGNATURE: &str = "model.sig";

pub fn load_model(folder: &Path) -> Result<FrozenModel, Failure> {
    let wrong = |what: String| Failure::new("model-malformed", format!("frozen model: {what}"));
    let manifest = std::fs::read(folder.join("manifest.json")).map_err(|e| wrong(format!("manifest.json: {e}")))?;
    let value: serde_json::Value =
        serde_json::from_slice(&manifest).map_err(|e| wrong(format!("manifest.json: {e}")))?;
    let text = |key: &str| value[key].as_str().unwrap_or("not stated").to_owned();
    let mut files = BTreeMap::new();
    hash_files(folder, "", &mut files).map_err(|e| wrong(e.to_string()))?;
    let signature = std::fs::read(folder.join(SIGNATURE)).ok();
    let faults = match signature.as_deref().map(signed_list) {
        None => vec![format!("{SIGNATURE}: missing, so that nothing says what was frozen")],
        Some(None) => vec![format!("{SIGNATURE}: no signed list of files")],
        Some(Some(signed)) => differences(&signed, &files),
    };
    Ok(FrozenModel {
        name: text("name"),
        version: text("version"),
        files,
        faults,
        manifest,
        card: std::fs::read(folder.join("MODEL_CARD.md")).ok(),
        signature,
    })
}

/// Path and SHA-256 of every file that the envelope lists: of an OpenSSF model signature (a Sigstore bundle whose statement lists
/// `predicate.resources`), or of an in-toto statement whose subjects are the files.
fn signed_list(bytes: &[u8]) -> Option<BTreeMap<String, String>> {
    let envelope: Value = serde_json::from_slice(bytes).ok()?;
    let inner = if envelope["dsseEnvelope"].is_object() { &envelope["dsseEnvelope"] } else { &envelope };
    let payload = BASE64.decode(inner["payload"].as_str()?).ok()?;
    let statement: Value = serde_json::from_slice(&payload).ok()?;
    let of = |entry: &Value, sha256: &Value| Some((entry["name"].as_str()?.to_owned(), sha256.as_str()?.to_owned()));
    let listed: Option<Vec<_>> = match statement["predicate"]["resources"].as_array() {
        Some(resources) => {
            let hashed = |r: &Value| of(r, &r["digest"]).filter(|_| r["algorithm"] == "sha256");
            resources.iter().map(hashed).collect()
        }
        None => statement["subject"].as_array()?.iter().map(|s| of(s, &s["digest"]["sha256"])).collect(),
    };
    listed.filter(|listed| !listed.is_empty()).map(BTreeMap::from_iter)
}

fn differences(signed: &BTreeMap<String, String>, files: &BTreeMap<String, String>) -> Vec<String> {
    let listed = signed.iter().filter_map(|(name, then)| match files.get(name) {
        None => Some(format!("{name}: missing")),
        Some(today) if today != then => Some(format!("{name}: changed since it was signed")),
        Some(_) => None,
    });
    let present = files.keys().filter(|name| *name != SIGNATURE && !signed.contains_key(*name));
    listed.chain(present.map(|name| format!("{name}: not on the signed list"))).collect()
}

fn hash_files(folder: &Path, prefix: &str, files: &mut BTreeMap<String, String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            hash_files(&entry.path(), &format!("{name}/"), files)?;
        } else {
            files.insert(name, sha256(&std::fs::read(entry.path())?));
        }
    }
    Ok(())
}
