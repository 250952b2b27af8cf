//! What `regulatory/` says: requirements, risks, matrix, profile, clauses, SOUP and items, as written by people.
//!
//! Every file is read completely: an unknown key, an id that differs from its file name or a reference that leads nowhere is an
//! error, because a silent default here would become a claim in the evidence.
use crate::failure::{Failure, fail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// One text in both languages.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    pub zh: String,
    pub en: String,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    pub id: String,
    pub title: Text,
    pub statement: Text,
    pub allocation: Allocation,
    /// Why it is not ours to show; required unless in scope.
    pub reason: Option<String>,
    pub content: Vec<Content>,
    /// Risks that this requirement helps to control.
    pub controls_for: Vec<String>,
    pub verify_by: Vec<VerifyBy>,
    pub criteria: Vec<Criterion>,
    /// Of the whole file, as the trace macros compile it in.
    #[serde(skip_deserializing)]
    pub sha256: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Allocation {
    InScope,
    External,
    NotApplicable,
}

/// IEC 62304 5.2.2 a to l.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    Functional,
    InputsOutputs,
    Interfaces,
    Alarms,
    Security,
    Usability,
    Data,
    Installation,
    OperationMaintenance,
    Network,
    UserMaintenance,
    Regulatory,
}

impl Content {
    pub const ALL: [(Content, &str); 12] = [
        (Content::Functional, "functional"),
        (Content::InputsOutputs, "inputs_outputs"),
        (Content::Interfaces, "interfaces"),
        (Content::Alarms, "alarms"),
        (Content::Security, "security"),
        (Content::Usability, "usability"),
        (Content::Data, "data"),
        (Content::Installation, "installation"),
        (Content::OperationMaintenance, "operation_maintenance"),
        (Content::Network, "network"),
        (Content::UserMaintenance, "user_maintenance"),
        (Content::Regulatory, "regulatory"),
    ];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifyBy {
    Test,
    Validation,
    Review,
    Operation,
}

/// A measured figure and the limit that its value or confidence bound must keep.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Criterion {
    pub id: String,
    pub metric: String,
    pub r#where: String,
    pub op: Op,
    pub limit: f64,
    pub on: On,
    /// Why this workspace cannot show it.
    pub not_here: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum Op {
    #[serde(rename = ">=")]
    AtLeast,
    #[serde(rename = ">")]
    Above,
    #[serde(rename = "<=")]
    AtMost,
    #[serde(rename = "<")]
    Below,
}

impl Op {
    pub fn holds(self, figure: f64, limit: f64) -> bool {
        match self {
            Op::AtLeast => figure >= limit,
            Op::Above => figure > limit,
            Op::AtMost => figure <= limit,
            Op::Below => figure < limit,
        }
    }

    pub fn sign(self) -> &'static str {
        match self {
            Op::AtLeast => "≥",
            Op::Above => ">",
            Op::AtMost => "≤",
            Op::Below => "<",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    Value,
    CiLower,
    CiUpper,
}

impl On {
    pub fn words(self) -> &'static str {
        match self {
            On::Value => "value",
            On::CiLower => "lower confidence bound",
            On::CiUpper => "upper confidence bound",
        }
    }
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Risk {
    pub id: String,
    pub title: Text,
    pub hazard: Text,
    pub causes: Vec<Cause>,
    pub sequence: Vec<Text>,
    pub situation: Text,
    pub harm: Text,
    /// Whether the harm is an injury, which alone decides the IEC 62304 class.
    pub injury: bool,
    pub initial: Estimate,
    pub controls: Vec<Control>,
    /// Risks that the controls bring (ISO 14971 7.5).
    pub new_risks: Text,
    #[serde(skip_deserializing)]
    pub sha256: String,
}

/// IEC 62304 7.1.2.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Cause {
    pub kind: CauseKind,
    /// The software item, SOUP or equipment in which the cause lies.
    pub item: String,
    pub zh: String,
    pub en: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CauseKind {
    Specification,
    Defect,
    Soup,
    Unpredictability,
    Misuse,
}

/// Severity and probabilities on the scales of the matrix, 1 to 5. No level: that is computed.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(non_snake_case)]
pub struct Estimate {
    pub S: u8,
    pub P1: u8,
    pub P2: u8,
    pub basis: String,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    pub id: String,
    pub option: ControlOption,
    /// Outside the software system: the only kind that counts for the safety class.
    #[serde(default)]
    pub external: bool,
    #[serde(default)]
    pub planned: bool,
    pub zh: String,
    pub en: String,
    /// What implements it; absent only where external.
    pub requirement: Option<String>,
    pub effectiveness: Effectiveness,
    pub reduces: Reduction,
    pub basis: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlOption {
    Inherent,
    Protective,
    Information,
}

/// How the effect of a control is shown, apart from its being there.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(try_from = "EffectivenessText", rename_all = "snake_case")]
pub enum Effectiveness {
    /// Criteria met on data that are not synthetic.
    Criteria(Vec<String>),
    /// Tests tagged with both the risk and the control's requirement.
    Tests,
    /// A record from outside this workspace.
    Record(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EffectivenessText {
    criteria: Option<Vec<String>>,
    tests: Option<bool>,
    record: Option<String>,
}

impl TryFrom<EffectivenessText> for Effectiveness {
    type Error = &'static str;

    fn try_from(text: EffectivenessText) -> Result<Self, Self::Error> {
        match (text.criteria, text.tests, text.record) {
            (Some(criteria), None, None) if !criteria.is_empty() => Ok(Effectiveness::Criteria(criteria)),
            (None, Some(true), None) => Ok(Effectiveness::Tests),
            (None, None, Some(record)) => Ok(Effectiveness::Record(record)),
            _ => Err("effectiveness is one of `criteria: [..]`, `tests: true`, `record: ..`"),
        }
    }
}

/// Steps on the probability scales that the control takes away once both proofs are there.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(non_snake_case)]
pub struct Reduction {
    #[serde(default)]
    pub P1: u8,
    #[serde(default)]
    pub P2: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Low,
    Medium,
    High,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Matrix {
    pub severity: BTreeMap<u8, Text>,
    pub serious_from: u8,
    pub probability: BTreeMap<u8, Text>,
    pub combine: Vec<Vec<u8>>,
    pub levels: Vec<Vec<Level>>,
    pub acceptable: Vec<Level>,
}

impl Matrix {
    /// Probability of harm, 1 to 5, from its two factors.
    pub fn probability_of_harm(&self, p1: u8, p2: u8) -> u8 {
        self.combine[usize::from(p1) - 1][usize::from(p2) - 1]
    }

    pub fn level(&self, severity: u8, p1: u8, p2: u8) -> Level {
        self.levels[usize::from(severity) - 1][usize::from(self.probability_of_harm(p1, p2)) - 1]
    }

    pub fn accepts(&self, level: Level) -> bool {
        self.acceptable.contains(&level)
    }
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub name: String,
    /// Package of the binary that is shipped: its dependencies are the SOUP.
    pub shipped: String,
    pub intended_use: Text,
    pub not_for: Text,
    pub clearance: Text,
    pub jurisdictions: Vec<Jurisdiction>,
    pub standards: Vec<Standard>,
    pub planned_safety_class: SafetyClass,
    /// Kinds of content that no requirement carries, each with its reason.
    pub content_reasons: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Jurisdiction {
    pub name: String,
    pub class: String,
    pub basis: String,
    pub checked: String,
    pub to_confirm: String,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Standard {
    pub name: String,
    pub edition: String,
    /// File in `regulatory/clauses`, where one exists.
    pub clauses: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum SafetyClass {
    A,
    B,
    C,
}

impl SafetyClass {
    pub fn letter(self) -> char {
        match self {
            SafetyClass::A => 'A',
            SafetyClass::B => 'B',
            SafetyClass::C => 'C',
        }
    }
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClauseTable {
    pub standard: String,
    pub edition: String,
    pub clauses: Vec<Clause>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Clause {
    pub id: String,
    pub title: String,
    /// Letters of the safety classes that it binds.
    pub classes: String,
    pub check: String,
    pub note: Option<String>,
}

/// A direct dependency of the shipped program: what we use it for and what we need of it (IEC 62304 5.3.3, 5.3.4).
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Soup {
    pub name: String,
    pub purpose: String,
    /// Function and performance that we rely on.
    pub requires: String,
    /// Hardware and software that it needs; `none` where nothing beyond the target.
    pub needs: String,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    pub name: String,
    pub is: String,
    pub may_use: Vec<String>,
}

/// All of `regulatory/`.
#[derive(Debug)]
pub struct Regulatory {
    pub requirements: BTreeMap<String, Requirement>,
    pub risks: BTreeMap<String, Risk>,
    pub matrix: Matrix,
    pub profile: Profile,
    pub clause_tables: Vec<ClauseTable>,
    pub soup: Vec<Soup>,
    pub items: Vec<Item>,
    /// File name and text of each plan.
    pub plans: BTreeMap<String, String>,
}

impl Regulatory {
    pub fn load(folder: &Path) -> Result<Self, Failure> {
        let mut requirements = BTreeMap::new();
        for (name, text) in texts(&folder.join("requirements"), "yaml")? {
            let mut requirement: Requirement = parse(&format!("requirements/{name}"), &text)?;
            requirement.sha256 = sha256(text.as_bytes());
            same_name(&name, &requirement.id)?;
            requirements.insert(requirement.id.clone(), requirement);
        }
        let mut risks = BTreeMap::new();
        for (name, text) in texts(&folder.join("risks"), "yaml")? {
            let mut risk: Risk = parse(&format!("risks/{name}"), &text)?;
            risk.sha256 = sha256(text.as_bytes());
            same_name(&name, &risk.id)?;
            risks.insert(risk.id.clone(), risk);
        }
        let profile: Profile = read(folder, "profile.yaml")?;
        let clause_tables = profile
            .standards
            .iter()
            .filter_map(|standard| standard.clauses.as_ref())
            .map(|file| read(folder, &format!("clauses/{file}")))
            .collect::<Result<_, _>>()?;
        let all = Self {
            requirements,
            risks,
            matrix: read(folder, "matrix.yaml")?,
            profile,
            clause_tables,
            soup: read(folder, "soup.yaml")?,
            items: read(folder, "items.yaml")?,
            plans: texts(&folder.join("plans"), "md").unwrap_or_default(),
        };
        all.check()?;
        Ok(all)
    }

    /// Is it the id of a requirement or of a risk?
    pub fn knows(&self, id: &str) -> bool {
        self.requirements.contains_key(id) || self.risks.contains_key(id)
    }

    /// Hash of the file that an id names.
    pub fn sha256_of(&self, id: &str) -> Option<&str> {
        let requirement = self.requirements.get(id).map(|r| r.sha256.as_str());
        requirement.or_else(|| self.risks.get(id).map(|r| r.sha256.as_str()))
    }

    /// The known ids that are most like an unknown one.
    pub fn nearest(&self, id: &str) -> String {
        let mut known: Vec<&String> = self.requirements.keys().chain(self.risks.keys()).collect();
        known.sort_by_key(|candidate| (edits(id, candidate), (*candidate).clone()));
        known.iter().take(3).map(|id| id.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn check(&self) -> Result<(), Failure> {
        let scale = |n: u8| (1..=5).contains(&n);
        let matrix = &self.matrix;
        let square = matrix.combine.len() == 5
            && matrix.combine.iter().all(|row| row.len() == 5 && row.iter().all(|p| scale(*p)));
        if !square || matrix.levels.len() != 5 || matrix.levels.iter().any(|row| row.len() != 5) {
            return fail(
                "matrix",
                "matrix.yaml: `combine` and `levels` must be 5 by 5, with probabilities from 1 to 5".to_owned(),
            );
        }
        for (id, requirement) in &self.requirements {
            if requirement.allocation != Allocation::InScope && requirement.reason.is_none() {
                return fail("reason-missing", format!("{id}: an allocation other than in_scope needs a reason"));
            }
            if let Some(risk) = requirement.controls_for.iter().find(|risk| !self.risks.contains_key(*risk)) {
                return fail("unknown-id", format!("{id}: controls_for names `{risk}`, which is no risk"));
            }
            if let Some(criterion) = requirement.criteria.iter().find(|c| !c.id.starts_with(&format!("{id}."))) {
                return fail("unknown-id", format!("{id}: criterion `{}` must begin with `{id}.`", criterion.id));
            }
        }
        let criteria: BTreeSet<&str> =
            self.requirements.values().flat_map(|r| &r.criteria).map(|criterion| criterion.id.as_str()).collect();
        let mut controls = BTreeSet::new();
        for (id, risk) in &self.risks {
            if ![risk.initial.S, risk.initial.P1, risk.initial.P2].into_iter().all(scale) {
                return fail("scale", format!("{id}: S, P1 and P2 must be from 1 to 5"));
            }
            for control in &risk.controls {
                if !controls.insert(&control.id) {
                    return fail("duplicate-id", format!("{id}: control `{}` is defined twice", control.id));
                }
                match &control.requirement {
                    Some(requirement) if !self.requirements.contains_key(requirement) => {
                        return fail("unknown-id", format!("{}: `{requirement}` is no requirement", control.id));
                    }
                    None if !control.external => {
                        return fail(
                            "control-without-requirement",
                            format!("{}: a control in software names its requirement", control.id),
                        );
                    }
                    _ => (),
                }
                if let Effectiveness::Criteria(named) = &control.effectiveness
                    && let Some(unknown) = named.iter().find(|criterion| !criteria.contains(criterion.as_str()))
                {
                    return fail("unknown-id", format!("{}: `{unknown}` is no criterion", control.id));
                }
            }
        }
        Ok(())
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn same_name(file: &str, id: &str) -> Result<(), Failure> {
    if file.strip_suffix(".yaml") == Some(id) {
        Ok(())
    } else {
        fail("id-differs-from-file", format!("{file} holds the id `{id}`"))
    }
}

/// Name and text of each file with this ending, sorted.
fn texts(folder: &Path, ending: &str) -> Result<BTreeMap<String, String>, Failure> {
    let unreadable = |error: std::io::Error| Failure::new("unreadable", format!("{}: {error}", tail(folder)));
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|e| e == ending) {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
            found.insert(name, std::fs::read_to_string(&path).map_err(unreadable)?);
        }
    }
    Ok(found)
}

fn tail(folder: &Path) -> String {
    format!("regulatory/{}", folder.file_name().unwrap_or_default().to_string_lossy())
}

fn read<T: DeserializeOwned>(folder: &Path, file: &str) -> Result<T, Failure> {
    let text = std::fs::read_to_string(folder.join(file))
        .map_err(|error| Failure::new("unreadable", format!("regulatory/{file}: {error}")))?;
    parse(file, &text)
}

fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Failure> {
    serde_yaml::from_str(text).map_err(|error| Failure::new("malformed-yaml", format!("regulatory/{file}: {error}")))
}

/// Levenshtein distance over bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let next = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}
