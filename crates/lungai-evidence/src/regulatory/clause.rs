//! Clause tables of standards and guidances, one per edition: numbers and short reminders, no text of the standard.
use super::record::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClauseTable {
    pub standard: String,
    pub edition: String,
    /// When, and against what, the table was last compared.
    pub checked: Date,
    pub compared_with: String,
    pub clauses: Vec<Clause>,
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clause {
    pub id: String,
    pub title: String,
    /// Letters of the IEC 62304 safety classes that it binds; absent: binds always.
    #[serde(default = "always")]
    pub classes: String,
    /// How the workspace shows it: the name of a check, `document:NAME`, `manual` or `not-applicable`.
    pub check: String,
    /// Required where the check is `not-applicable`: why.
    pub note: Option<String>,
}

impl ClauseTable {
    /// A clause as reviews name it: an edition apart is another text.
    pub fn item(&self, clause: &Clause) -> String {
        format!("{} {} {}", self.standard, self.edition, clause.id)
    }
}

fn always() -> String {
    "ABC".to_owned()
}
