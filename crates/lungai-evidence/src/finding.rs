//! What stands between the claim and the evidence.
use serde::Serialize;

/// Red first: the order in which a reader should see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something is broken or contradicts itself.
    Red,
    /// Evidence is missing that this workspace should give.
    Amber,
    /// Evidence can only come from outside.
    Grey,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// The requirement, risk, control, criterion, test, clause or component.
    pub item: String,
    /// Stable kebab-case name.
    pub rule: &'static str,
    pub message: String,
}

impl Finding {
    pub fn new(severity: Severity, rule: &'static str, item: &str, message: String) -> Self {
        Self { severity, item: item.to_owned(), rule, message }
    }
}
