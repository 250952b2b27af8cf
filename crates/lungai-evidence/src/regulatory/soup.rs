//! What people say about software of unknown provenance, and the items of our own architecture.
use super::record::Date;
use super::requirement::Text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A direct dependency of the shipped program: what we use it for and what we need of it (IEC 62304 5.3.3, 5.3.4).
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Soup {
    pub name: String,
    pub purpose: String,
    /// Function and performance that we rely on.
    pub requires: String,
    /// Hardware and software that it needs; `none` where nothing beyond the target.
    pub needs: String,
    /// How it is kept up, as a person found it (FDA: actively maintained, no longer maintained, abandoned), and until when; absent: unknown.
    pub support: Option<String>,
    /// Published anomalies as a person evaluated them (7.1.3); absent: unknown.
    pub anomalies: Option<Anomalies>,
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Anomalies {
    pub checked: Date,
    /// Version that was looked at: another one in the lock file makes the evaluation stale.
    pub version: String,
    /// Where they were looked for.
    pub sources: Vec<String>,
    pub known: Vec<Anomaly>,
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Anomaly {
    pub what: String,
    /// What it could do in this product.
    pub effect: String,
    /// What is done about it, or why nothing need be.
    pub measure: String,
}

/// Code in another language that a crate carries and compiles: a component of its own, with anomalies of its own.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bundled {
    pub carrier: String,
    /// Version of the crate that was looked at: another one in the lock file makes the entry stale.
    pub carrier_version: String,
    /// Null where the crate carries no such code.
    pub name: Option<String>,
    pub version: Option<String>,
    pub licence: Option<String>,
    pub supplier: Option<String>,
    /// Where its anomalies are published.
    pub anomalies_at: Option<String>,
    /// Where in the crate's source the version stands, or why there is no such code.
    pub found_in: String,
}

/// Verdict of a person on an advisory (VEX).
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Triage {
    /// Such as `RUSTSEC-2025-0001`.
    pub advisory: String,
    pub component: String,
    pub state: TriageState,
    /// Required for `not_affected`.
    pub justification: Option<Justification>,
    pub detail: String,
    pub by: String,
    pub date: Date,
}

/// CycloneDX 1.6 `impactAnalysisState`, the four that need no further distinction here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TriageState {
    NotAffected,
    Exploitable,
    InTriage,
    Resolved,
}

/// CycloneDX 1.6 `impactAnalysisJustification`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Justification {
    CodeNotPresent,
    CodeNotReachable,
    RequiresConfiguration,
    RequiresDependency,
    RequiresEnvironment,
    ProtectedByCompiler,
    ProtectedAtRuntime,
    ProtectedAtPerimeter,
    ProtectedByMitigatingControl,
}

/// A software item of the architecture (IEC 62304 5.3.1).
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Item {
    pub name: String,
    pub is: String,
    pub may_use: Vec<String>,
}

/// The predetermined change control plan: what may change without a new submission, if every listed criterion is met.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeControl {
    /// Whether an authority has agreed to it.
    pub authorised: Option<super::risk::Decision>,
    pub modifications: Vec<Modification>,
    /// Facts of a package that may never change under the plan, by the prefix of their name in `evidence diff`.
    pub never: BTreeMap<String, Text>,
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Modification {
    pub id: String,
    pub what: Text,
    /// Facts of a package that it may change, by the prefix of their name in `evidence diff`.
    pub may_change: Vec<String>,
    /// Criteria that must be met on data that are not synthetic, before and after.
    pub criteria: Vec<String>,
    pub impact: Text,
}
