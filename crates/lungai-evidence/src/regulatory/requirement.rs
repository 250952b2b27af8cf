//! Needs of users, and the requirements that follow from them.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a user needs, in the user's words; every requirement of the system follows from one.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Need {
    pub id: String,
    /// Whose need: `radiologist`, `patient`, `operator`, ...
    pub user: String,
    pub title: Text,
    pub statement: Text,
}

/// One text in both languages.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Text {
    pub zh: String,
    pub en: String,
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    pub id: String,
    /// Of the whole system, or of the software below it (IEC 62304 5.2.1).
    pub tier: Tier,
    /// Needs (for the system) or requirements (for the software) that it follows from.
    pub parents: Vec<String>,
    pub title: Text,
    pub statement: Text,
    pub allocation: Allocation,
    /// Why it is not ours to show; required unless in scope.
    pub reason: Option<String>,
    /// Whether it is of programs around the product (data, validation, evidence), which may implement it outside of what is shipped.
    #[serde(default)]
    pub tools: bool,
    pub content: Vec<Content>,
    /// Risks that this requirement helps to control.
    pub controls_for: Vec<String>,
    pub verify_by: Vec<VerifyBy>,
    pub criteria: Vec<Criterion>,
    /// Of the whole file, as the trace macros compile it in: a run is of exactly this text. Reviews go by the normative hash instead.
    #[serde(skip_deserializing)]
    pub sha256: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    System,
    Software,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Allocation {
    InScope,
    External,
    NotApplicable,
}

/// IEC 62304 5.2.2 a to l.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerifyBy {
    Test,
    Validation,
    Review,
    Operation,
}

/// A measured figure and the limit that its value or confidence bound must keep.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Criterion {
    pub id: String,
    /// The figure, by the name that results have for it.
    pub metric: String,
    /// What the figure is of, for people.
    pub r#where: String,
    /// Smallest reference diameter of the nodules that count, mm; 0: all, or the figure is not of nodules.
    #[serde(default)]
    pub diameter_at_least_mm: f64,
    /// Conditions on what counts, in the words of results; empty: all.
    #[serde(default)]
    pub population: Vec<String>,
    /// Level of the two-sided interval whose bound decides, above 0.5 and below 1.
    #[serde(default = "usual_level")]
    pub confidence_level: f64,
    pub op: Op,
    pub limit: f64,
    pub on: On,
    /// Why this workspace cannot show it.
    pub not_here: Option<String>,
}

impl Criterion {
    /// What a result must be of, for people.
    pub fn of(&self) -> String {
        let mut parts = vec![self.r#where.clone()];
        if self.diameter_at_least_mm > 0.0 {
            parts.push(format!("nodules from {} mm on", self.diameter_at_least_mm));
        }
        parts.extend(self.population.iter().cloned());
        if self.on != On::Value {
            parts.push(format!("{} % interval", (self.confidence_level * 1e4).round() / 100.0));
        }
        parts.join("; ")
    }
}

/// Conventional, and that of every protocol so far.
fn usual_level() -> f64 {
    0.95
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
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
