//! Records that people keep: problems, changes, reviews, releases, waivers, and what was settled about the source.
use super::Regulatory;
use super::requirement::Text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A calendar date, `2026-11-24`. Dates of records come from people; nothing here reads a clock.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("pattern" = r"^\d{4}-\d{2}-\d{2}$"))]
pub struct Date(String);

impl TryFrom<String> for Date {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no date; write it as 2026-11-24");
        let parts: Vec<&str> = text.split('-').collect();
        let [year, month, day] = parts[..] else { return Err(wrong()) };
        let number = |part: &str, length: usize| {
            let plain = part.len() == length && part.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| part.parse::<u32>().ok()).flatten().ok_or_else(wrong)
        };
        let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return Err(wrong()),
        };
        if (1..=days).contains(&day) { Ok(Self(text)) } else { Err(wrong()) }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// IEC 62304 clause 9.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    pub id: String,
    pub title: Text,
    pub found: Date,
    /// Role or person that found it.
    pub by: String,
    /// Software item in which it lies.
    pub item: String,
    /// Versions that have it.
    pub versions: String,
    pub description: Text,
    pub severity: ProblemSeverity,
    /// Risks that it could contribute to; empty: none, as the evaluation says.
    pub risks: Vec<String>,
    pub requirements: Vec<String>,
    pub state: ProblemState,
    /// Cause, relevance to safety and what is done about it (9.2); required from `evaluated` on.
    pub evaluation: Option<Text>,
    /// The change that removes it.
    pub change: Option<String>,
    /// How its removal was verified (9.7); required for `closed`.
    pub verified: Option<String>,
}

impl Problem {
    /// Whatever its state says: a problem is open until an approved change removed it and somebody verified that.
    pub fn is_open(&self, all: &Regulatory) -> bool {
        let change = self.change.as_ref().and_then(|id| all.changes.get(id));
        let approved = change.and_then(|change| change.approved.as_ref());
        let counts = approved.is_some_and(|by| all.why_not_held(&by.role, &by.name).is_none());
        self.state < ProblemState::Resolved || !counts || self.verified.is_none()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemSeverity {
    Critical,
    Major,
    Minor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemState {
    Open,
    Evaluated,
    Resolved,
    Closed,
}

/// IEC 62304 6.2 and 8.2: a request to change, its approval and what it touched.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    pub id: String,
    pub title: Text,
    pub reason: Text,
    pub requested: Date,
    pub by: String,
    pub problems: Vec<String>,
    /// Software items, requirements and risks that it touches.
    pub touches: Vec<String>,
    /// Effect on risk controls and safety (7.4).
    pub safety: Text,
    pub approved: Option<super::risk::Decision>,
    /// Commits that carry it out.
    pub commits: Vec<String>,
}

/// A review that a person did, of the texts as they were then.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Review {
    pub id: String,
    pub date: Date,
    pub reviewer: String,
    /// Id of a role in the profile.
    pub role: String,
    /// Did not write what was reviewed.
    pub independent: bool,
    /// Reviewed item (`plans/development-plan.md`, `R-001`, `RC-104`) -> SHA-256 of its text then, as `evidence review --list` prints it;
    /// `-` for a clause with standard and edition, `IEC 62304 2006+A1:2015 5.2.6`.
    pub items: BTreeMap<String, String>,
    pub outcome: ReviewOutcome,
    pub notes: Text,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReviewOutcome {
    Accepted,
    Rejected,
}

/// A released version: requirements with the normative hashes under which they were released, and who approved.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Release {
    pub id: String,
    pub version: String,
    pub date: Date,
    pub requirements: BTreeMap<String, String>,
    pub approvals: Vec<super::risk::Decision>,
}

/// Why a finding may stand for a while. It stays visible, and it ends.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    pub rule: String,
    pub item: String,
    pub reason: String,
    pub owner: String,
    pub approved: Date,
    pub expires: Date,
}

/// A contradiction or mistake of the source, and what was decided.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settled {
    pub id: String,
    /// What the source says.
    pub source: Text,
    pub problem: Text,
    pub decision: Text,
    /// Items in which the decision shows.
    pub items: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_a_day_of_the_calendar() {
        let is = |text: &str| Date::try_from(text.to_owned()).is_ok();
        assert!(is("2026-11-24") && is("2028-02-29") && is("2000-02-29"));
        assert!(!is("2026-02-29") && !is("2100-02-29") && !is("2026-13-01") && !is("2026-1-01") && !is("24.11.2026"));
        assert!(!is("2026-11-31") && !is("2026-11-00") && !is("+026-11-01"));
    }
}
