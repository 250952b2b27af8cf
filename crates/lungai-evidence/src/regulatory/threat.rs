//! Threats to the product's security (IEC 81001-5-1, FDA cybersecurity).
use super::requirement::Text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Threat {
    pub id: String,
    pub title: Text,
    pub category: Stride,
    /// What an attacker wants: patient data, a result, the service, a model.
    pub asset: String,
    /// Where the attacker comes in.
    pub entry: String,
    /// Weakness, such as `CWE-22`.
    pub weakness: String,
    pub attack: Text,
    /// Risks of the risk file that it could bring about.
    pub risks: Vec<String>,
    /// Requirements that counter it.
    pub requirements: Vec<String>,
    /// What the operator must do; absent: nothing is left to the operator.
    pub operator: Option<Text>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stride {
    Spoofing,
    Tampering,
    Repudiation,
    InformationDisclosure,
    DenialOfService,
    ElevationOfPrivilege,
}
