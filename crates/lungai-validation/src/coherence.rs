//! Whether printed figures can all be true at once: strata that pool to their total, shares that are so many of so many,
//! intervals that hold their point, curves that rise, populations that have one size wherever they are named.
//!
//! Every table of a report is a list of [`Statement`]s before it is text, and no report is written whose statements
//! contradict each other. Other people's tables can be written down in the same form, as JSON or CSV ([`input`]).
//!
//! A printed figure stands for every value that rounds to it. A contradiction is reported only where no such values fit
//! together, so that rounding never is one.

mod input;
mod printed;
mod relations;
mod two_by_two;

pub use input::read;
pub use printed::Printed;

use crate::analysis::Outcome;
use crate::failure::Failure;
use lungai_trace::implements;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One figure, as it is printed. The file formats are described in [`input`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Where it is printed.
    pub table: String,
    /// What it is called: `sensitivity`. Two statements of one figure and population must agree.
    pub figure: String,
    /// What arithmetic it obeys.
    pub kind: Kind,
    /// What it is about, in words: `nodules of 6 to 10 mm`.
    pub population: String,
    /// The figure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Printed>,
    /// Members of the population.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// How many of them (of a proportion), or events in all of them (of a rate).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Confidence interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci: Option<[Printed; 2]>,
    /// Populations that this one and the others of the same table with the same whole make up, each member being in one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub part_of: Vec<String>,
    /// Populations that this one is a part of, together with what is not printed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub among: Vec<String>,
    /// Place on a curve that cannot fall.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<f64>,
    /// What is concluded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// What arithmetic a figure obeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The number of members itself: adds up over parts.
    Size,
    /// Another number that adds up over parts.
    Count,
    /// `count / n`, between 0 and 1; pools over parts by their `n`.
    Proportion,
    /// `count / n` with any number of events in a member: false positives per scan.
    Rate,
    /// A mean over the members.
    Mean,
    /// Nothing that adds up: AUC, median, percentile. Its interval holds it all the same.
    Other,
}

/// A conclusion from a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// What the figure is compared with.
    pub limit: f64,
    /// On which side of it the figure must lie.
    pub op: crate::protocol::Op,
    /// The figure itself, or a bound of its interval.
    pub on: crate::protocol::On,
    /// What is said to have come out.
    pub met: bool,
}

impl Statement {
    /// Without anything but the figure.
    pub fn new(table: &str, figure: &str, kind: Kind, population: &str) -> Self {
        Self {
            table: table.to_owned(),
            figure: figure.to_owned(),
            kind,
            population: population.to_owned(),
            value: None,
            n: None,
            count: None,
            ci: None,
            part_of: Vec::new(),
            among: Vec::new(),
            x: None,
            verdict: None,
        }
    }

    /// Members that the statement gives its population.
    fn size(&self) -> Option<u64> {
        match self.kind {
            Kind::Size => self.value.map(|v| v.value.round() as u64),
            _ => self.n,
        }
    }

    /// Whole numbers that the figure can be a count of: as printed, or those whose quotient rounds to the value.
    fn counts(&self) -> Option<[f64; 2]> {
        if let Some(count) = self.count {
            return Some([count as f64; 2]);
        }
        let (n, [low, high]) = (self.n? as f64, self.value?.range());
        match self.kind {
            Kind::Proportion | Kind::Rate => {
                let whole = [(low * n - 1e-9).ceil(), (high * n + 1e-9).floor()];
                // Where there is none that is said once, by a rule of its own.
                Some(if whole[0] <= whole[1] { whole } else { [low * n, high * n] })
            }
            Kind::Mean => Some([low * n, high * n]),
            Kind::Size | Kind::Count | Kind::Other => None,
        }
    }

    fn place(&self) -> String {
        format!("{} of `{}` in `{}`", self.figure, self.population, self.table)
    }
}

/// Something that cannot be, or that nobody would expect.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// A stable name.
    pub rule: &'static str,
    /// Whether no numbers satisfy it.
    pub severity: Severity,
    /// What and where, in a sentence.
    pub message: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The figures cannot all be true.
    Contradiction,
    /// They can, but one would like to know how.
    Question,
}

/// What a check came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Checked {
    /// Statements looked at.
    pub statements: usize,
    /// Tables that they stand in.
    pub tables: usize,
    /// How often each rule was applied, whatever came of it.
    pub applied: BTreeMap<&'static str, usize>,
    /// Contradictions first.
    pub findings: Vec<Finding>,
}

impl Checked {
    /// Findings that cannot be.
    pub fn contradictions(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|f| f.severity == Severity::Contradiction)
    }

    /// Relations looked at.
    pub fn relations(&self) -> usize {
        self.applied.values().sum()
    }

    /// Applies a rule.
    fn rule(&mut self, rule: &'static str, holds: bool, otherwise: impl FnOnce() -> String) {
        *self.applied.entry(rule).or_default() += 1;
        if !holds {
            self.findings.push(Finding { rule, severity: Severity::Contradiction, message: otherwise() });
        }
    }

    fn ask(&mut self, rule: &'static str, message: String) {
        self.findings.push(Finding { rule, severity: Severity::Question, message });
    }
}

/// Reads anyone's figures and says whether they can all be true.
///
/// # Errors
/// A file that holds no statements.
pub fn verdict(path: &std::path::Path) -> Result<Outcome, Failure> {
    let checked = check(&read(path)?);
    let n = checked.contradictions().count();
    let (statements, tables, relations) = (checked.statements, checked.tables, checked.relations());
    let mut text = format!("{statements} figures of {tables} tables, {relations} relations\n");
    for finding in &checked.findings {
        let word = if finding.severity == Severity::Contradiction { "contradiction" } else { "question     " };
        text += &format!("{word}  {} [{}]\n", finding.message, finding.rule);
    }
    let mut json = serde_json::json!({ "ok": n == 0, "relations": relations });
    if n > 0 {
        json["rule"] = "incoherent-tables".into();
        json["message"] = format!("{n} contradictions among {statements} figures").into();
    } else {
        text += "no contradiction\n";
    }
    crate::analysis::extend(&mut json, &checked);
    Ok(Outcome { met: n == 0, json, text })
}

/// Looks at every statement, and at all that are about the same.
#[implements("SW-1106")]
pub fn check(statements: &[Statement]) -> Checked {
    let tables: std::collections::BTreeSet<&str> = statements.iter().map(|s| s.table.as_str()).collect();
    let mut checked = Checked { statements: statements.len(), tables: tables.len(), ..Checked::default() };
    for statement in statements {
        alone(statement, &mut checked);
    }
    relations::same_population(statements, &mut checked);
    relations::parts_and_wholes(statements, &mut checked);
    relations::curves(statements, &mut checked);
    two_by_two::tables(statements, &mut checked);
    checked.findings.sort_by_key(|f| f.severity);
    checked
}

/// What one statement says of itself.
fn alone(s: &Statement, checked: &mut Checked) {
    let place = || s.place();
    if let (Some(value), true) = (s.value, matches!(s.kind, Kind::Proportion | Kind::Rate | Kind::Size | Kind::Count)) {
        let most = if s.kind == Kind::Proportion { 1.0 } else { f64::INFINITY };
        checked.rule("outside-its-range", (0.0..=most).contains(&value.value), || {
            format!("{}: {value} is outside of 0 to {most}", place())
        });
    }
    if let (Some(count), Some(n), Kind::Proportion) = (s.count, s.n, s.kind) {
        checked.rule("count-above-n", count <= n, || format!("{}: {count} of {n}", place()));
    }
    if let (Some(value), Some(n), Kind::Proportion | Kind::Rate) = (s.value, s.n.filter(|n| *n > 0), s.kind) {
        let [low, high] = value.range();
        match s.count {
            Some(count) => {
                let is = count as f64 / n as f64;
                checked.rule("figure-not-of-its-count", low <= is && is <= high, || {
                    format!("{}: {count} of {n} is {is:.4}, not {value}", place())
                });
            }
            None => {
                let (low, high) = ((low * n as f64).ceil(), (high * n as f64).floor());
                checked.rule("no-whole-count", low <= high, || {
                    format!("{}: no whole number of {n} comes to {value}", place())
                });
            }
        }
    }
    if let Some([low, high]) = s.ci {
        checked.rule("interval-reversed", low.at_most(&high), || format!("{}: {low} to {high}", place()));
        if s.kind == Kind::Proportion {
            let inside = low.range()[1] >= 0.0 && high.range()[0] <= 1.0;
            checked.rule("outside-its-range", inside, || format!("{}: interval {low} to {high}", place()));
        }
        if let Some(value) = s.value {
            let holds = low.at_most(&value) && value.at_most(&high);
            checked.rule("interval-without-its-point", holds, || {
                format!("{}: {value} is outside of its interval, {low} to {high}", place())
            });
        }
    }
    if let Some(verdict) = s.verdict {
        judged(s, verdict, checked);
    }
}

/// A verdict follows from the number that it stands on.
fn judged(s: &Statement, verdict: Verdict, checked: &mut Checked) {
    use crate::protocol::On;
    let deciding = match verdict.on {
        On::Value => s.value,
        On::CiLower => s.ci.map(|ci| ci[0]),
        On::CiUpper => s.ci.map(|ci| ci[1]),
    };
    let (op, limit) = (verdict.op, verdict.limit);
    let possible = match deciding {
        // Either end of what rounds to the printed number may be the one that was compared.
        Some(printed) => printed.range().into_iter().chain([printed.value]).any(|v| op.holds(v, limit) == verdict.met),
        None => !verdict.met,
    };
    checked.rule("verdict-against-its-figure", possible, || {
        let shown = deciding.map_or("no figure".to_owned(), |v| v.to_string());
        let word = if verdict.met { "met" } else { "not met" };
        format!("{}: {} {shown}, must be {} {limit}, is said to be {word}", s.place(), verdict.on.words(), op.sign())
    });
}

#[cfg(test)]
mod tests;
