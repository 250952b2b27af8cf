//! What the product is, for whom, by which rules it is judged, and who answers for it.
use super::record::Date;
use super::requirement::Text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub name: String,
    /// Package of the binary that is shipped: its dependencies are the SOUP.
    pub shipped: String,
    /// Its features beyond the default ones.
    #[serde(default)]
    pub shipped_features: Vec<String>,
    pub intended_use: Text,
    pub not_for: Text,
    pub clearance: Text,
    pub jurisdictions: Vec<Jurisdiction>,
    pub standards: Vec<Standard>,
    pub planned_safety_class: SafetyClass,
    /// The language in which a text binds; the other is its translation.
    pub normative_language: Language,
    pub roles: Vec<Role>,
    pub approvals: Vec<Approval>,
    pub document_control: DocumentControl,
    /// Kinds of content that no requirement carries, each with its reason.
    pub content_reasons: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    Zh,
    En,
}

impl Language {
    /// The key of the language that only translates.
    pub fn translation(self) -> &'static str {
        match self {
            Language::Zh => "en",
            Language::En => "zh",
        }
    }
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Role {
    pub id: String,
    pub title: Text,
    pub duties: Text,
    /// Who holds it; absent: nobody is named, and nothing can be approved in this role.
    pub holder: Option<String>,
}

/// Which roles must approve a document before it is in force.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// A document of `regulatory/plans`, or `release`.
    pub document: String,
    pub roles: Vec<String>,
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DocumentControl {
    pub identification: Text,
    pub change: Text,
    pub distribution: Text,
    pub retention: Text,
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jurisdiction {
    pub name: String,
    pub class: String,
    pub basis: String,
    pub checked: Date,
    pub to_confirm: String,
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Standard {
    pub name: String,
    pub edition: String,
    /// When somebody last looked whether the edition still stands.
    pub checked: Date,
    /// File in `regulatory/clauses`, where one exists.
    pub clauses: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
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
