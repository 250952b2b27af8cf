//! Reports that follow from the evidence alone: architecture, verification, performance, anomalies, validation of this tool.
use super::documents::titled;
use super::words::cell;
use super::{figures, html};
use crate::build::Report;
use crate::finding::Severity;
use crate::junit::Verdict;
use crate::regulatory::{Language, Regulatory};
use crate::results::Standing;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Writing to a string cannot fail.
macro_rules! line {
    ($out:expr) => { let _ = writeln!($out); };
    ($out:expr, $($text:tt)*) => { let _ = writeln!($out, $($text)*); };
}

/// IEC 62304 5.3: the items as cargo sees them, and which of them are in the shipped program.
pub fn architecture(report: &Report, regulatory: &Regulatory, language: Language) -> String {
    let say = |en, zh| language.say(en, zh);
    let mut out = titled(report, regulatory, language, "Software architecture", "软件架构");
    line!(
        out,
        "![{}]({})\n\n{}\n",
        say("Items and what they use", "软件项及其依赖"),
        super::crates::FILE,
        say(
            "The picture is of the crates as cargo sees them: each uses the ones below it. Lines that follow from others, and those to the tags of the trace, are left out; the table has all.",
            "图中为 cargo 所见的各个 crate：上方使用下方。可由其他连线推出的以及指向追溯标签的连线已省略；表中列出全部。"
        )
    );
    line!(out, "## {}\n", say("Items", "软件项"));
    line!(out, "{}", language.table(&["Item|软件项", "What it is|说明", "Shipped|随产品发布", "Uses|使用"]));
    for item in &report.items {
        let shipped = language.word(if item.shipped { "yes" } else { "no" });
        line!(out, "| {} | {} | {shipped} | {} |", item.name, cell(&item.is), item.uses.join(", "));
    }
    line!(
        out,
        "\n{}\n",
        say(
            "Declared items and edges are in `regulatory/items.yaml`; what the code does beyond them is a finding. The units within each item: `design-index`.",
            "所声明的软件项与依赖见 `regulatory/items.yaml`；代码超出声明之处即为发现。各软件项内的单元见 `design-index`。"
        )
    );
    line!(out, "## {}\n", say("Software of others within the shipped items", "发布软件项中的外部软件"));
    let direct = report.soup.iter().filter(|s| !s.used_by.is_empty()).map(|s| format!("{} {}", s.name, s.version));
    line!(out, "{}\n", direct.collect::<Vec<_>>().join(", "));
    out
}

/// What was run, what came of it, and what is missing: the missing first.
pub fn verification(report: &Report, regulatory: &Regulatory, language: Language) -> String {
    let say = |en, zh| language.say(en, zh);
    let mut out = titled(report, regulatory, language, "Verification and validation report", "验证与确认报告");
    let of = |severity| report.findings.iter().filter(move |f| f.severity == severity);
    line!(out, "## {}\n", say("Broken or contradictory", "失败或矛盾"));
    for f in of(Severity::Red) {
        line!(out, "- **{}**: {} ({})", f.item, f.message, f.rule);
    }
    if of(Severity::Red).next().is_none() {
        line!(out, "{}", say("Nothing.", "无。"));
    }
    let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    of(Severity::Amber).for_each(|f| missing.entry(f.rule).or_default().push(&f.item));
    line!(out, "\n## {}\n", say("Evidence missing", "缺少的证据"));
    line!(out, "{}", language.table(&["Finding|发现", "Count|数量", "Items|项目"]));
    for (rule, items) in missing {
        let some: Vec<&str> = items.iter().take(12).copied().collect();
        let more = if items.len() > some.len() { ", …" } else { "" };
        line!(out, "| {rule} | {} | {}{more} |", items.len(), cell(&some.join(", ")));
    }
    line!(out, "\n## {}\n", say("Requirements", "需求"));
    let columns = ["Requirement|需求", "State|状态", "Tests that count|有效测试", "Criteria|判据"];
    line!(out, "{}", language.table(&columns));
    for status in &report.requirements {
        let counts = status.tests.iter().filter(|i| report.tests[**i].counts_as_passed()).count();
        let criteria: Vec<String> = status
            .criteria
            .iter()
            .map(|c| format!("{} {}", c.criterion.id, language.word(c.outcome.words())))
            .collect();
        let (r, tests) = (&status.requirement, status.tests.len());
        line!(
            out,
            "| {} {} | {} | {counts} / {tests} | {} |",
            r.id,
            cell(language.of(&r.title)),
            language.word(status.state.words()),
            criteria.join("; ")
        );
    }
    let verdicts = |verdict| report.tests.iter().filter(|t| t.verdict == verdict).count();
    line!(out, "\n## {}\n", say("Tests", "测试"));
    line!(out, "{}", language.table(&["Verdict|结论", "Tagged tests|带标签的测试"]));
    for (word, verdict) in [
        ("passed", Some(Verdict::Passed)),
        ("failed", Some(Verdict::Failed)),
        ("skipped", Some(Verdict::Skipped)),
        ("not run", None),
    ] {
        line!(out, "| {} | {} |", language.word(word), verdicts(verdict));
    }
    line!(
        out,
        "\n{}",
        say(
            "Each with place, verdict and what it exercised: `tests.csv`. Raw records: `run/`.",
            "每项测试的位置、结论与所触及的需求见 `tests.csv`。原始记录：`run/`。"
        )
    );
    coverage(&mut out, report, language);
    out
}

/// Which lines tests reach, by package.
fn coverage(out: &mut String, report: &Report, language: Language) {
    let say = |en, zh| language.say(en, zh);
    line!(out, "\n## {}\n", say("Line coverage", "行覆盖率"));
    let Some(coverage) = &report.coverage else {
        line!(out, "{}", say("Not evidenced here: no record was given.", "此处无证据：未提供记录。"));
        return;
    };
    if !coverage.counts {
        let void = say("The record is of other sources and counts for nothing.", "该记录属于其他源码，不作任何证明。");
        line!(out, "**{void}**\n");
    }
    line!(out, "{}. {} `run/coverage/cobertura.xml`.\n", coverage.tool, say("Raw file:", "原始文件："));
    line!(out, "{}", language.table(&["Package|包", "Lines reached|到达的行", "Lines|行数", "Share|比例"]));
    let all = (say("all measured", "全部已测").to_owned(), coverage.total);
    for (name, lines) in coverage.packages.clone().into_iter().chain([all]) {
        let share = lines.rate().map_or_else(|| "-".to_owned(), |rate| format!("{:.1} %", 100.0 * rate));
        line!(out, "| {name} | {} | {} | {share} |", lines.reached, lines.all);
    }
    let not_measured = &coverage.not_measured;
    if !not_measured.is_empty() {
        line!(out, "\n{}: {}.", say("Not measured", "未测量"), not_measured.join(", "));
    }
}

/// Every figure with its interval, rule and data; nothing else.
pub fn performance(report: &Report, regulatory: &Regulatory, language: Language) -> String {
    let say = |en, zh| language.say(en, zh);
    let mut out = titled(report, regulatory, language, "Algorithm performance report", "算法性能报告");
    let open: Vec<&str> = report
        .requirements
        .iter()
        .flat_map(|r| &r.criteria)
        .filter(|c| c.result.is_none())
        .map(|c| c.criterion.id.as_str())
        .collect();
    let open = if open.is_empty() { say("Nothing.", "无。").to_owned() } else { open.join(", ") };
    line!(out, "## {}\n\n{open}\n", say("Not evaluated", "未评价"));
    for run in &report.validation {
        let mark = say(" (SYNTHETIC: no clinical evidence)", "（SYNTHETIC：合成数据，不构成临床证据）");
        line!(out, "## {}{}\n", run.name, if run.synthetic { mark } else { "" });
        match &run.standing {
            Standing::Exploratory => {
                let text =
                    say("EXPLORATORY: the protocol was not locked before the run", "EXPLORATORY：方案在运行前未锁定");
                line!(out, "- {text}");
            }
            Standing::Locked { ledger, opened } => {
                line!(out, "- {}: {ledger}, {}", say("Locked before the run", "运行前已锁定"), opened.number);
            }
        }
        if !run.usable {
            line!(out, "- {}", say("NOT JUDGED: see the findings", "未评判：见发现"));
        }
        if let Some(model) = &run.model {
            line!(out, "- {}: {} {}, SHA-256 `{}`", say("Model", "模型"), model.name, model.version, model.sha256);
        }
        let manifest = run.manifest_sha256.as_deref().unwrap_or(language.word("not stated"));
        line!(out, "- {}: `{manifest}`\n", say("Test set", "测试集"));
        let columns = ["Criterion|判据", "Metric|指标", "Value and interval|数值与区间", "Rule|规则", "Decision|判定"];
        line!(out, "{}", language.table(&columns));
        for (c, counts) in run.criteria.iter().map(|c| (&c.result, c.counts)) {
            let rule = format!("{} {} {}", language.word(c.on.words()), c.op.sign(), c.limit);
            let decision = match (counts, c.met) {
                (false, _) => "proves nothing",
                (true, true) => "met",
                (true, false) => "not met",
            };
            let decision = language.word(decision);
            line!(out, "| {} | {} | {} | {rule} | {decision} |", c.id, cell(&c.metric), figures(c));
        }
        line!(out);
    }
    if report.validation.is_empty() {
        line!(out, "{}", say("No validation run was given.", "未提供验证运行。"));
    }
    out
}

/// IEC 62304 5.8.2, 5.8.3: what is known and not removed.
pub fn anomalies(report: &Report, regulatory: &Regulatory, language: Language) -> String {
    let say = |en, zh| language.say(en, zh);
    let mut out = titled(report, regulatory, language, "Residual anomalies", "残留异常");
    let open = regulatory.problems.values().filter(|p| p.is_open(regulatory));
    for p in open {
        line!(out, "## {} {}\n\n{}\n", p.id, language.of(&p.title), language.of(&p.description));
        let severity = format!("{:?}", p.severity).to_lowercase();
        let risks = if p.risks.is_empty() { language.word("none").to_owned() } else { p.risks.join(", ") };
        line!(out, "- {}: {}", say("Item", "软件项"), p.item);
        line!(out, "- {}: {}", say("Versions", "版本"), p.versions);
        line!(out, "- {}: {}", say("Severity", "严重程度"), language.word(&severity));
        line!(out, "- {}: {risks}", say("Risks", "风险"));
        let evaluation = p.evaluation.as_ref().map(|text| language.of(text).to_owned());
        let evaluation = evaluation.unwrap_or_else(|| language.word("manual - record required").to_owned());
        line!(out, "- {}: {evaluation}\n", say("Evaluation", "评价"));
    }
    if !regulatory.problems.values().any(|p| p.is_open(regulatory)) {
        let none =
            say("No problem is on record, which is no proof that there is none.", "没有问题记录，但这不证明没有问题。");
        line!(out, "{none}");
    }
    out
}

/// The tool that makes this package is software of a quality system: the faults that its tests seed into small workspaces and packages,
/// what each must be answered with, and what the runner said.
pub fn tool_validation(report: &Report, regulatory: &Regulatory, language: Language) -> String {
    let say = |en, zh| language.say(en, zh);
    let mut out = titled(report, regulatory, language, "Validation of the evidence tool", "工具确认报告");
    line!(
        out,
        "{}\n",
        say(
            "Intended use: to bind requirements, risks, tests and results, and to show every gap. Each fault below is seeded into a small workspace or package in order, beside an untouched twin; the tool must answer with the rules named, and the test fails if it does not.",
            "预期用途：将需求、风险、测试与结果相互绑定，并显示每个缺口。下列每个故障被植入一个原本完好的小型工作区或证据包，并与未改动者对照；工具必须以所列规则作答，否则测试失败。"
        )
    );
    let ours: Vec<_> = report.tests.iter().filter(|t| t.tag.package == env!("CARGO_PKG_NAME")).collect();
    let (faults, units): (Vec<_>, Vec<_>) = ours.iter().partition(|t| t.tag.binary.ends_with("::seeded_faults"));
    let counts = |tests: &[&&crate::binding::BoundTest]| tests.iter().filter(|t| t.counts_as_passed()).count();
    line!(out, "{}", language.table(&["Tests|测试", "Count|有效", "All|全部"]));
    line!(out, "| {} | {} | {} |", say("of seeded faults", "植入故障的测试"), counts(&faults), faults.len());
    line!(out, "| {} | {} | {} |\n", say("of single functions", "单个函数的测试"), counts(&units), units.len());
    line!(out, "## {}\n", say("Seeded faults", "植入的故障"));
    let columns =
        ["Fault, and what must hold|故障与要求", "Expected answer|预期回答", "Caught by|由何测试发现", "Result|结果"];
    line!(out, "{}", language.table(&columns));
    let rows: BTreeSet<String> = faults
        .iter()
        .map(|t| {
            let expected: BTreeSet<&str> = t.tag.literals.iter().map(String::as_str).filter(|l| is_answer(l)).collect();
            let expected: Vec<String> =
                expected.into_iter().map(|l| format!("`{}`", cell(l).replace('`', "'"))).collect();
            let expected = if expected.is_empty() {
                say("as the test states", "见测试").to_owned()
            } else {
                expected.join(", ")
            };
            let verdict = language.word(html::verdict(t));
            let fault = t.tag.name.replace('_', " ");
            format!("| {fault} | {expected} | `{}:{}` | {verdict} |", t.tag.file, t.tag.line)
        })
        .collect();
    rows.iter().for_each(|row| {
        line!(out, "{row}");
    });
    line!(out, "\n## {}\n", say("Single functions", "单个函数"));
    line!(out, "{}", language.table(&["What must hold|要求", "Requirements|需求", "Place|位置", "Result|结果"]));
    let rows: BTreeSet<String> = units
        .iter()
        .map(|t| {
            let verdict = language.word(html::verdict(t));
            let (name, ids) = (t.tag.name.replace('_', " "), t.tag.ids.join(", "));
            format!("| {name} | {ids} | `{}:{}` | {verdict} |", t.tag.file, t.tag.line)
        })
        .collect();
    rows.iter().for_each(|row| {
        line!(out, "{row}");
    });
    line!(out, "\n{}", say("Review of this validation: manual - record required.", "本确认的评审：人工，须有记录。"));
    out
}

/// A rule, such as `link-gone`, or the beginning of a message on a file of a package, such as `manifest.json: missing`.
fn is_answer(text: &str) -> bool {
    let rule = text.contains('-')
        && text.split('-').all(|part| part.len() > 1 && part.bytes().all(|b| b.is_ascii_lowercase()));
    let names_a_file =
        |text: &str| text.split_once(": ").is_some_and(|(file, _)| file.contains('.') && !file.contains(' '));
    rule || (names_a_file(text) && !text.contains(['\n', '{', '"', '|']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    #[verifies("RR-001")]
    #[test]
    fn rules_and_messages_of_the_tool_are_told_from_other_texts() {
        for answer in ["link-gone", "run-of-another-commit", "manifest.json: missing", "core/srs.md: changed"] {
            assert!(is_answer(answer), "{answer}");
        }
        for other in ["--key", "FR-001", "demo", "a.pem", "check: manual", "2026-11-24", "id: X\n", "The system: it"] {
            assert!(!is_answer(other), "{other}");
        }
    }
}
