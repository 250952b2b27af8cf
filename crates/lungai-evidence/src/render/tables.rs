//! Tables for spreadsheets and programs.
use super::figures;
use crate::binding::BoundTest;
use crate::build::Report;
use crate::failure::Failure;
use crate::links::LinkState;
use crate::records::Measured;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub fn csv<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> Result<Vec<u8>, Failure> {
    let wrong = |error: String| Failure::new("unwritable", error);
    // Spreadsheets take UTF-8 for certain only with a byte order mark.
    let mut writer = csv::Writer::from_writer(Vec::from("\u{feff}"));
    writer.write_record(header).map_err(|e| wrong(e.to_string()))?;
    for row in rows {
        writer.write_record(row.iter().map(|cell| harmless(cell))).map_err(|e| wrong(e.to_string()))?;
    }
    writer.into_inner().map_err(|e| wrong(e.to_string()))
}

/// A spreadsheet must not take a text for a formula.
fn harmless(cell: &str) -> String {
    if cell.starts_with(['=', '+', '-', '@']) { format!("'{cell}") } else { cell.to_owned() }
}

/// One row for each requirement and test, or criterion, or requirement alone.
pub fn trace(report: &Report) -> Result<Vec<u8>, Failure> {
    let mut rows = Vec::new();
    for status in &report.requirements {
        let r = &status.requirement;
        let risks = r.controls_for.join(" ");
        let row = |kind: &str, what: String, place: String, verdict: String| {
            [
                r.id.clone(),
                r.title.en.clone(),
                risks.clone(),
                status.state.words().to_owned(),
                kind.to_owned(),
                what,
                place,
                verdict,
            ]
        };
        let before = rows.len();
        for i in &status.tests {
            let test = &report.tests[*i];
            let place = format!("{}:{}", test.tag.file, test.tag.line);
            rows.push(row("test", test.title(), place, super::html::verdict(test).to_owned()));
        }
        for judged in &status.criteria {
            let rule = format!(
                "{} {} {} {}",
                judged.criterion.metric,
                judged.criterion.on.words(),
                judged.criterion.op.sign(),
                judged.criterion.limit
            );
            let figures = judged.result.as_ref().map(figures).unwrap_or_default();
            rows.push(row(
                "criterion",
                format!("{} {rule}", judged.criterion.id),
                figures,
                judged.outcome.words().to_owned(),
            ));
        }
        for place in &status.implemented_at {
            rows.push(row("code", String::new(), place.clone(), String::new()));
        }
        if rows.len() == before {
            rows.push(row("none", String::new(), String::new(), String::new()));
        }
    }
    csv(["requirement", "title", "risks", "state", "kind", "evidence", "place or figures", "verdict"], rows.into_iter())
}

/// Both ways: from requirements down to the evidence, and from tests and risks up.
pub fn trace_json(report: &Report) -> Value {
    let down = report.requirements.iter().map(|status| {
        let tests: Vec<String> = status.tests.iter().map(|i| report.tests[*i].title()).collect();
        let criteria: BTreeMap<&str, &str> = status.criteria.iter().map(|c| (c.criterion.id.as_str(), c.outcome.words())).collect();
        let value = json!({ "state": status.state, "risks": status.requirement.controls_for, "code": status.implemented_at, "tests": tests, "criteria": criteria });
        (status.requirement.id.clone(), value)
    });
    let up = report.tests.iter().map(|test| {
        (test.title(), json!({ "ids": test.tag.ids, "verdict": test.verdict, "counts": test.counts_as_passed(), "exercised": test.exercised, "measured": test.measured }))
    });
    let risks = report.risks.iter().map(|status| {
        let controls: BTreeMap<&str, Value> = status
            .controls
            .iter()
            .map(|c| (c.control.id.as_str(), json!({ "requirement": c.control.requirement, "implementation": c.implementation, "effectiveness": c.effectiveness })))
            .collect();
        (status.risk.id.clone(), json!(controls))
    });
    json!({
        "requirements": down.collect::<BTreeMap<_, _>>(),
        "tests": up.collect::<BTreeMap<_, _>>(),
        "risks": risks.collect::<BTreeMap<_, _>>(),
    })
}

/// `volume_error_percent 0.4 (<= 1); ..`
fn measured(test: &BoundTest) -> String {
    test.measured.iter().map(Measured::words).collect::<Vec<_>>().join("; ")
}

pub fn tests(report: &Report) -> Result<Vec<u8>, Failure> {
    let rows = report.tests.iter().map(|test| {
        let exercised =
            test.exercised.as_ref().map(|ids| ids.iter().cloned().collect::<Vec<_>>().join(" ")).unwrap_or_default();
        let place = format!("{}:{}", test.tag.file, test.tag.line);
        let verdict = super::html::verdict(test).to_owned();
        [
            test.tag.binary.clone(),
            test.tag.runner_name(),
            place,
            test.tag.ids.join(" "),
            verdict,
            exercised,
            measured(test),
            test.not_evidenced.join("; "),
        ]
    });
    let head = ["binary", "test", "place", "ids", "verdict", "exercised", "measured (limit)", "not evidenced here"];
    csv(head, rows)
}

pub fn clauses(report: &Report) -> Result<Vec<u8>, Failure> {
    let rows = report.clauses.iter().flat_map(|(standard, rows)| {
        rows.iter().map(|row| {
            let bound = if row.binding { "yes" } else { "no" };
            let note = row.clause.note.clone().unwrap_or_default();
            [
                standard.clone(),
                row.clause.id.clone(),
                row.clause.title.clone(),
                row.clause.classes.clone(),
                bound.to_owned(),
                row.state.words().to_owned(),
                row.detail.clone(),
                note,
            ]
        })
    });
    csv(["standard", "clause", "title", "classes", "binding", "state", "detail", "note"], rows)
}

pub fn soup(report: &Report) -> Result<Vec<u8>, Failure> {
    let rows = report.soup.iter().map(|s| {
        [
            s.name.clone(),
            s.version.clone(),
            s.role.to_owned(),
            s.licence.clone(),
            s.source.clone(),
            s.sha256.clone(),
            s.used_by.join(" "),
            s.purpose.clone(),
            s.requires.clone(),
            s.needs.clone(),
            s.supplier.clone(),
            if s.support.is_empty() { "not stated".to_owned() } else { s.support.clone() },
            s.anomalies_at.clone(),
            s.features.clone(),
            s.anomalies.clone(),
        ]
    });
    csv(
        [
            "name",
            "version",
            "role",
            "licence",
            "source",
            "sha256",
            "used directly by",
            "purpose",
            "required of it",
            "what it needs",
            "supplier",
            "level of support",
            "anomalies published at",
            "features",
            "known anomalies",
        ],
        rows,
    )
}

/// Every link of the trace with the hashes of its ends.
pub fn links(report: &Report) -> Result<Vec<u8>, Failure> {
    let rows = report.links.iter().map(|link| {
        let state = match link.state {
            LinkState::Suspect => "suspect",
            LinkState::NotReviewed => "not reviewed",
            LinkState::Current => "current",
        };
        [
            link.key.from.clone(),
            link.key.kind.clone(),
            link.key.to.clone(),
            state.to_owned(),
            link.why.clone(),
            link.ends.from.clone(),
            link.ends.to.clone(),
        ]
    });
    csv(["from", "link", "to", "state", "why", "sha256 of from", "sha256 of to"], rows)
}

pub fn gaps(report: &Report) -> Result<Vec<u8>, Failure> {
    let rows = report.findings.iter().map(|f| {
        let severity = format!("{:?}", f.severity).to_lowercase();
        [severity, f.item.clone(), f.rule.to_owned(), f.message.clone()]
    });
    csv(["severity", "item", "rule", "message"], rows)
}
