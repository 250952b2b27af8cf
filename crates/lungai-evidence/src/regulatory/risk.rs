//! Risks in the terms of ISO 14971, and the scales on which they are rated.
use super::record::Date;
use super::requirement::Text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
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
    /// Id of the benefit-risk analysis that carries what no control reduces (ISO 14971 7.4).
    pub benefit_risk: Option<String>,
    #[serde(skip_deserializing)]
    pub sha256: String,
}

/// Why the benefit outweighs a residual risk. It counts only when a person has signed it.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BenefitRisk {
    pub id: String,
    pub risks: Vec<String>,
    pub argument: Text,
    /// Clinical data that it stands on; empty: none yet.
    pub sources: Vec<String>,
    /// Who decided; absent: undecided.
    pub decided: Option<Decision>,
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    pub name: String,
    pub role: String,
    pub date: Date,
}

/// IEC 62304 7.1.2.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cause {
    pub kind: CauseKind,
    /// The software item, SOUP or equipment in which the cause lies.
    pub item: String,
    pub zh: String,
    pub en: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CauseKind {
    Specification,
    Defect,
    Soup,
    Unpredictability,
    Misuse,
}

/// Severity and probabilities on the scales of the matrix, 1 to 5. No level: that is computed.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(non_snake_case)]
pub struct Estimate {
    pub S: u8,
    pub P1: u8,
    pub P2: u8,
    pub basis: String,
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ControlOption {
    Inherent,
    Protective,
    Information,
}

/// How the effect of a control is shown, apart from its being there.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "EffectivenessText", rename_all = "snake_case")]
pub enum Effectiveness {
    /// Criteria met on data that are not synthetic.
    Criteria(Vec<String>),
    /// Tests tagged with both the risk and the control's requirement.
    Tests,
    /// A record from outside this workspace.
    Record(String),
}

#[derive(Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(non_snake_case)]
pub struct Reduction {
    #[serde(default)]
    pub P1: u8,
    #[serde(default)]
    pub P2: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Low,
    Medium,
    High,
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
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
