//! Reports that follow from the evidence alone: architecture, design index, verification, performance, anomalies, validation of this tool.
use super::documents::head;
use super::{figures, html};
use crate::build::Report;
use crate::finding::Severity;
use crate::junit::Verdict;
use crate::regulatory::{Regulatory, Text};
use crate::results::Standing;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Writing to a string cannot fail.
macro_rules! line {
    ($out:expr) => { let _ = writeln!($out); };
    ($out:expr, $($text:tt)*) => { let _ = writeln!($out, $($text)*); };
}

fn titled(report: &Report, regulatory: &Regulatory, zh: &str, en: &str) -> String {
    let mut out = String::new();
    head(&mut out, report, regulatory, &Text { zh: zh.to_owned(), en: en.to_owned() });
    out
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// IEC 62304 5.3 and 5.4.1: the items as cargo sees them, and which of them are in the shipped program.
pub fn architecture(report: &Report, regulatory: &Regulatory) -> String {
    let mut out = titled(report, regulatory, "软件架构与单元索引", "Software architecture and index of units");
    line!(out, "## Items / 软件项\n\n| Item | What it is | Shipped | Uses |\n|---|---|---|---|");
    for item in &report.items {
        let shipped = if item.shipped { "yes" } else { "no" };
        line!(out, "| {} | {} | {shipped} | {} |", item.name, cell(&item.is), item.uses.join(", "));
    }
    line!(
        out,
        "\nDeclared items and edges are in `regulatory/items.yaml`; what the code does beyond them is a finding.\n"
    );
    line!(out, "## Units by requirement / 按需求的单元\n");
    for status in report.requirements.iter().filter(|status| !status.implemented_at.is_empty()) {
        line!(
            out,
            "- {} {}: {}",
            status.requirement.id,
            status.requirement.title.en,
            status.implemented_at.iter().map(|p| format!("`{p}`")).collect::<Vec<_>>().join(", ")
        );
    }
    out
}

/// What was run, what came of it, and what is missing: the missing first.
pub fn verification(report: &Report, regulatory: &Regulatory) -> String {
    let mut out = titled(report, regulatory, "验证与确认报告", "Verification and validation report");
    let of = |severity| report.findings.iter().filter(move |f| f.severity == severity);
    line!(out, "## Broken or contradictory / 失败或矛盾\n");
    for f in of(Severity::Red) {
        line!(out, "- **{}**: {} ({})", f.item, f.message, f.rule);
    }
    if of(Severity::Red).next().is_none() {
        line!(out, "Nothing.");
    }
    let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    of(Severity::Amber).for_each(|f| missing.entry(f.rule).or_default().push(&f.item));
    line!(out, "\n## Evidence missing / 缺少的证据\n\n| Finding | Count | Items |\n|---|---|---|");
    for (rule, items) in missing {
        let some: Vec<&str> = items.iter().take(12).copied().collect();
        let more = if items.len() > some.len() { ", …" } else { "" };
        line!(out, "| {rule} | {} | {}{more} |", items.len(), cell(&some.join(", ")));
    }
    line!(out, "\n## Requirements / 需求\n\n| Requirement | State | Tests that count | Criteria |\n|---|---|---|---|");
    for status in &report.requirements {
        let counts = status.tests.iter().filter(|i| report.tests[**i].counts_as_passed()).count();
        let criteria: Vec<String> =
            status.criteria.iter().map(|c| format!("{} {}", c.criterion.id, c.outcome.words())).collect();
        let (r, tests) = (&status.requirement, status.tests.len());
        line!(
            out,
            "| {} {} | {} | {counts} of {tests} | {} |",
            r.id,
            cell(&r.title.en),
            status.state.words(),
            criteria.join("; ")
        );
    }
    let verdicts = |verdict| report.tests.iter().filter(|t| t.verdict == verdict).count();
    line!(
        out,
        "\n## Tests / 测试\n\n{} tagged tests: {} passed, {} failed, {} skipped, {} without a verdict. Each with place, verdict and what it exercised: `tests.csv`. Raw records: `run/`.",
        report.tests.len(),
        verdicts(Some(Verdict::Passed)),
        verdicts(Some(Verdict::Failed)),
        verdicts(Some(Verdict::Skipped)),
        verdicts(None)
    );
    coverage(&mut out, report);
    out
}

/// Which lines tests reach, by package.
fn coverage(out: &mut String, report: &Report) {
    line!(out, "\n## Line coverage / 行覆盖率\n");
    let Some(coverage) = &report.coverage else {
        line!(out, "Not evidenced here: no record was given.");
        return;
    };
    if !coverage.counts {
        line!(out, "**The record is of other sources and counts for nothing.**\n");
    }
    line!(out, "{}. Raw file: `run/coverage/cobertura.xml`.\n", coverage.tool);
    line!(out, "| Package | Lines reached | Lines | Share |\n|---|---|---|---|");
    let all = ("all measured".to_owned(), coverage.total);
    for (name, lines) in coverage.packages.clone().into_iter().chain([all]) {
        let share = lines.rate().map_or_else(|| "-".to_owned(), |rate| format!("{:.1} %", 100.0 * rate));
        line!(out, "| {name} | {} | {} | {share} |", lines.reached, lines.all);
    }
    let not_measured = &coverage.not_measured;
    if !not_measured.is_empty() {
        line!(out, "\nNot measured: {}.", not_measured.join(", "));
    }
}

/// Every figure with its interval, rule and data; nothing else.
pub fn performance(report: &Report, regulatory: &Regulatory) -> String {
    let mut out = titled(report, regulatory, "算法性能报告", "Algorithm performance report");
    let open: Vec<&str> = report
        .requirements
        .iter()
        .flat_map(|r| &r.criteria)
        .filter(|c| c.result.is_none())
        .map(|c| c.criterion.id.as_str())
        .collect();
    line!(
        out,
        "## Not evaluated / 未评价\n\n{}\n",
        if open.is_empty() { "Nothing.".to_owned() } else { open.join(", ") }
    );
    for run in &report.validation {
        let mark = if run.synthetic {
            " (SYNTHETIC: no clinical evidence / 合成数据，不构成临床证据)"
        } else {
            ""
        };
        line!(out, "## {}{mark}\n", run.name);
        match &run.standing {
            Standing::Exploratory => {
                line!(out, "- EXPLORATORY: the protocol was not locked before the run / 探索性：方案在运行前未锁定");
            }
            Standing::Locked { ledger, opened } => {
                line!(out, "- Locked before the run / 运行前已锁定: {ledger}, {}", opened.number);
            }
        }
        if !run.usable {
            line!(out, "- NOT JUDGED: see the findings / 未评判：见发现");
        }
        if let Some(model) = &run.model {
            line!(out, "- Model / 模型: {} {}, SHA-256 `{}`", model.name, model.version, model.sha256);
        }
        line!(out, "- Test set / 测试集: `{}`", run.manifest_sha256.as_deref().unwrap_or("not named"));
        line!(out, "\n| Criterion | Metric | Value and interval | Rule | Decision |\n|---|---|---|---|---|");
        for (c, counts) in run.criteria.iter().map(|c| (&c.result, c.counts)) {
            let rule = format!("{} {} {}", c.on.words(), c.op.sign(), c.limit);
            line!(
                out,
                "| {} | {} | {} | {rule} | {} |",
                c.id,
                cell(&c.metric),
                figures(c),
                match (counts, c.met) {
                    (false, _) => "proves nothing",
                    (true, true) => "met",
                    (true, false) => "not met",
                }
            );
        }
        line!(out);
    }
    if report.validation.is_empty() {
        line!(out, "No validation run was given. / 未提供验证运行。");
    }
    out
}

/// IEC 62304 5.8.2, 5.8.3: what is known and not removed.
pub fn anomalies(report: &Report, regulatory: &Regulatory) -> String {
    let mut out = titled(report, regulatory, "残留异常", "Residual anomalies");
    let open = regulatory.problems.values().filter(|p| p.is_open(regulatory));
    for p in open {
        line!(out, "## {} {} / {}\n", p.id, p.title.en, p.title.zh);
        line!(out, "{}\n\n{}\n", p.description.en, p.description.zh);
        let severity = format!("{:?}", p.severity).to_lowercase();
        line!(
            out,
            "- Item {}, versions {}, severity {severity}, risks: {}",
            p.item,
            p.versions,
            if p.risks.is_empty() { "none".to_owned() } else { p.risks.join(", ") }
        );
        match &p.evaluation {
            Some(text) => {
                line!(out, "- Evaluation: {} / {}\n", text.en, text.zh);
            }
            None => {
                line!(out, "- Evaluation: manual - record required\n");
            }
        }
    }
    if !regulatory.problems.values().any(|p| p.is_open(regulatory)) {
        line!(out, "No problem is on record, which is no proof that there is none.");
    }
    out
}

/// The tool that makes this package is software of a quality system: the tests that seed faults into small workspaces, and their verdicts.
pub fn tool_validation(report: &Report, regulatory: &Regulatory) -> String {
    let mut out = titled(report, regulatory, "工具确认报告", "Validation of the evidence tool");
    line!(
        out,
        "Intended use: to bind requirements, risks, tests and results, and to show every gap. Each test below seeds faults into a small workspace or package in order, beside an untouched twin, and asks for the right message.\n"
    );
    let ours: Vec<_> = report.tests.iter().filter(|t| t.tag.package == env!("CARGO_PKG_NAME")).collect();
    let counts = ours.iter().filter(|t| t.counts_as_passed()).count();
    line!(out, "{counts} of {} tests count.\n\n| Test | Requirements | Verdict |\n|---|---|---|", ours.len());
    let rows: BTreeSet<String> = ours
        .iter()
        .map(|t| {
            format!(
                "| {} | {} | {} |",
                cell(&t.tag.runner_name().replace('_', " ")),
                t.tag.ids.join(", "),
                html::verdict(t)
            )
        })
        .collect();
    rows.iter().for_each(|row| {
        line!(out, "{row}");
    });
    line!(out, "\nReview of this validation: manual - record required.");
    out
}
