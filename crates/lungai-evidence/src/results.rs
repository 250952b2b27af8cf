//! Results of validation runs, and the frozen models that they speak of.
use crate::failure::Failure;
use crate::finding::{Finding, Severity};
use crate::regulatory::{Criterion, On, Op, Regulatory, sha256};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The part of a run's `results.json` that is bound to requirements; whatever else it holds is kept but not read.
#[derive(Debug, Clone, Deserialize)]
pub struct Results {
    pub synthetic: bool,
    #[serde(default)]
    pub manifest_sha256: Option<String>,
    #[serde(default)]
    pub model: Option<Named>,
    #[serde(default)]
    pub protocol: Option<Named>,
    pub criteria: Vec<CriterionResult>,
}

/// A model or a protocol as a run names it.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Named {
    pub name: String,
    pub version: String,
    pub sha256: String,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct CriterionResult {
    pub id: String,
    pub requirement: String,
    #[serde(default)]
    pub metric: String,
    pub value: Option<f64>,
    /// Confidence interval `[lower, upper]`.
    #[serde(default)]
    pub ci: Option<[f64; 2]>,
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
    pub bytes: Vec<u8>,
}

pub fn load_run(folder: &Path, number: usize) -> Result<ValidationRun, Failure> {
    let name = format!("validation-{number}");
    let bytes = std::fs::read(folder.join("results.json"))
        .map_err(|error| Failure::new("unreadable", format!("{name}: results.json: {error}")))?;
    let results = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new("results-malformed", format!("{name}: results.json: {error}")))?;
    Ok(ValidationRun { name, results, bytes })
}

/// What became of one criterion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Outcome {
    #[serde(rename = "not evidenced here")]
    NotHere,
    #[serde(rename = "not evaluated")]
    NotEvaluated,
    #[serde(rename = "criterion not met")]
    NotMet,
    #[serde(rename = "criterion not met (synthetic)")]
    NotMetSynthetic,
    #[serde(rename = "criterion met (synthetic)")]
    MetSynthetic,
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
            Outcome::MetSynthetic => "criterion met (synthetic)",
            Outcome::Met => "criterion met",
        }
    }
}

/// A criterion with the result that decides it. Results on real data outrank synthetic ones, and among several on the
/// same kind of data the worst decides.
#[derive(Debug, Clone, Serialize)]
pub struct Judged {
    pub criterion: Criterion,
    pub outcome: Outcome,
    pub result: Option<CriterionResult>,
    /// The run that the result is from.
    pub run: Option<String>,
}

pub fn judge(regulatory: &Regulatory, runs: &[ValidationRun]) -> (BTreeMap<String, Judged>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut usable: BTreeMap<&str, Vec<(&ValidationRun, &CriterionResult)>> = BTreeMap::new();
    let known: BTreeMap<&str, (&str, &Criterion)> = regulatory
        .requirements
        .values()
        .flat_map(|r| r.criteria.iter().map(|c| (c.id.as_str(), (r.id.as_str(), c))))
        .collect();
    for run in runs {
        for result in &run.results.criteria {
            let wrong = match known.get(result.id.as_str()) {
                // A protocol may hold more criteria than the requirements: they are simply not evidence for any.
                None => Some((
                    Severity::Amber,
                    "criterion-unknown",
                    "no requirement holds this criterion: the result proves none".to_owned(),
                )),
                Some((requirement, criterion)) => against(requirement, criterion, result),
            };
            if let Some(odd) = odd_interval(result) {
                let message = format!("{}: {odd}", run.name);
                findings.push(Finding::new(Severity::Amber, "interval-without-value", &result.id, message));
            }
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
        let outcome = |(run, result): &(&ValidationRun, &CriterionResult)| match (run.results.synthetic, result.met) {
            (false, false) => Outcome::NotMet,
            (false, true) => Outcome::Met,
            (true, false) => Outcome::NotMetSynthetic,
            (true, true) => Outcome::MetSynthetic,
        };
        let decisive = results.iter().min_by_key(|(run, result)| (run.results.synthetic, result.met));
        let one = Judged {
            criterion: criterion.clone(),
            outcome: match (&criterion.not_here, decisive) {
                (_, Some(pair)) => outcome(pair),
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

/// A result counts only if it was decided by the requirement's own rule, and decided rightly.
fn against(
    requirement: &str,
    criterion: &Criterion,
    result: &CriterionResult,
) -> Option<(Severity, &'static str, String)> {
    if result.requirement != requirement {
        let message = format!("names the requirement {}, but belongs to {requirement}", result.requirement);
        return Some((Severity::Red, "criterion-altered", message));
    }
    if result.op != criterion.op || result.on != criterion.on || result.limit != criterion.limit {
        let rule = |op: Op, limit: f64, on: On| format!("{} {} {limit}", on.words(), op.sign());
        let message = format!(
            "was decided by `{}`, the requirement says `{}`",
            rule(result.op, result.limit, result.on),
            rule(criterion.op, criterion.limit, criterion.on)
        );
        return Some((Severity::Red, "criterion-altered", message));
    }
    let truth = result.deciding().is_some_and(|figure| result.op.holds(figure, result.limit));
    (truth != result.met).then(|| {
        let said = if result.met { "met" } else { "not met" };
        (Severity::Red, "criterion-incoherent", format!("says {said}, but its own figures say otherwise"))
    })
}

/// Some resampling intervals may leave their own estimate out; a reader should hear of it. Rounding is forgiven.
fn odd_interval(result: &CriterionResult) -> Option<String> {
    let (value, [low, high]) = (result.value?, result.ci?);
    let inside = low - 1e-6 <= value && value <= high + 1e-6;
    (!inside).then(|| format!("the value {value} lies outside its interval {low} to {high}"))
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
        Outcome::MetSynthetic => {
            rule(Severity::Amber, "synthetic-only", "met on SYNTHETIC data only: no clinical evidence".to_owned())
        }
        Outcome::Met => None,
    }
}

/// A frozen model as it lies in its folder.
#[derive(Debug, Clone, Serialize)]
pub struct FrozenModel {
    pub name: String,
    pub version: String,
    /// SHA-256 of each of its files by path.
    pub files: BTreeMap<String, String>,
    #[serde(skip)]
    pub manifest: Vec<u8>,
    #[serde(skip)]
    pub card: Option<Vec<u8>>,
}

pub fn load_model(folder: &Path) -> Result<FrozenModel, Failure> {
    let wrong = |what: String| Failure::new("model-malformed", format!("frozen model: {what}"));
    let manifest = std::fs::read(folder.join("manifest.json")).map_err(|e| wrong(format!("manifest.json: {e}")))?;
    let value: serde_json::Value =
        serde_json::from_slice(&manifest).map_err(|e| wrong(format!("manifest.json: {e}")))?;
    let text = |key: &str| value[key].as_str().unwrap_or("not stated").to_owned();
    let mut files = BTreeMap::new();
    hash_files(folder, "", &mut files).map_err(|e| wrong(e.to_string()))?;
    Ok(FrozenModel {
        name: text("name"),
        version: text("version"),
        files,
        manifest,
        card: std::fs::read(folder.join("MODEL_CARD.md")).ok(),
    })
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

/// A result that speaks of weights which are not among the frozen models is evidence for something else.
pub fn check_models(runs: &[ValidationRun], models: &[FrozenModel]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for run in runs {
        let Some(model) = &run.results.model else {
            findings.push(Finding::new(Severity::Amber, "model-not-named", &run.name, "names no model".to_owned()));
            continue;
        };
        let same = |m: &&FrozenModel| {
            m.name == model.name && m.version == model.version && m.files.values().any(|hash| *hash == model.sha256)
        };
        if !models.is_empty() && !models.iter().any(|m| same(&m)) {
            let message = format!(
                "speaks of {} {} ({:.12}…), which is none of the frozen models given",
                model.name, model.version, model.sha256
            );
            findings.push(Finding::new(Severity::Red, "model-differs", &run.name, message));
        }
    }
    findings
}
