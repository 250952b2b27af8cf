//! The design index (IEC 62304 5.4): crate, unit, what it does, what it implements, and by which tests that is verified.
use super::documents::titled;
use super::tables;
use super::words::cell;
use crate::binding::BoundTest;
use crate::build::Report;
use crate::failure::Failure;
use crate::regulatory::{Language, Regulatory};
use crate::scan::Unit;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Writing to a string cannot fail.
macro_rules! line {
    ($out:expr) => { let _ = writeln!($out); };
    ($out:expr, $($text:tt)*) => { let _ = writeln!($out, $($text)*); };
}

/// A unit with what is tagged in its file.
struct Row<'a> {
    unit: &'a Unit,
    implements: BTreeSet<&'a str>,
    /// Tests in its own file.
    own: Vec<&'a BoundTest>,
    /// Tests elsewhere that verify something which it implements, and are known to have called it.
    elsewhere: Vec<&'a BoundTest>,
}

fn rows(report: &Report) -> Vec<Row<'_>> {
    let mut code: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for tag in &report.code {
        code.entry(&tag.file).or_default().extend(tag.ids.iter().map(String::as_str));
    }
    let mut tests: BTreeMap<&str, Vec<&BoundTest>> = BTreeMap::new();
    let mut by_id: BTreeMap<&str, Vec<&BoundTest>> = BTreeMap::new();
    for test in &report.tests {
        tests.entry(&test.tag.file).or_default().push(test);
        test.tag.ids.iter().for_each(|id| by_id.entry(id).or_default().push(test));
    }
    // A file that two targets compile is one unit.
    let mut seen = BTreeSet::new();
    let units = report.units.iter().filter(|unit| !unit.binary.contains("::") || unit.binary.contains("::bin/"));
    units
        .filter(|unit| seen.insert(unit.file.as_str()))
        .map(|unit| {
            let implements = code.get(unit.file.as_str()).cloned().unwrap_or_default();
            let mut elsewhere: BTreeMap<String, &BoundTest> = BTreeMap::new();
            for id in &implements {
                let verifying = by_id.get(id).into_iter().flatten().filter(|test| test.tag.file != unit.file);
                let called = |test: &&&BoundTest| test.exercised.as_ref().is_some_and(|ids| ids.contains(*id));
                elsewhere.extend(verifying.filter(called).map(|test| (test.title(), *test)));
            }
            let own = tests.get(unit.file.as_str()).cloned().unwrap_or_default();
            Row { unit, implements, own, elsewhere: elsewhere.into_values().collect() }
        })
        .collect()
}

fn tally(tests: &[&BoundTest]) -> String {
    if tests.is_empty() {
        return "-".to_owned();
    }
    format!("{} / {}", tests.iter().filter(|test| test.counts_as_passed()).count(), tests.len())
}

pub fn index(report: &Report, regulatory: &Regulatory, language: Language) -> String {
    let say = |en, zh| language.say(en, zh);
    let mut out = titled(report, regulatory, language, "Detailed design index", "详细设计索引");
    line!(
        out,
        "{}\n",
        say(
            "One unit is one file; what it does is the first sentence of its documentation. Tests are counted as passed and evidenced / all: those in the file itself, and those elsewhere that verify what it implements and left a record of having called such code. Each with its name: `design-index.csv`. Algorithms and interfaces in detail: the documentation in the sources (`cargo doc`).",
            "一个单元即一个文件；说明取其文档的第一句。测试计数为“通过且有证据 / 全部”：文件自身的测试，以及他处验证其所实现需求、且留有调用记录的测试。逐项名称见 `design-index.csv`。算法与接口细节见源码文档（`cargo doc`）。"
        )
    );
    let rows = rows(report);
    let silent = rows.iter().filter(|row| row.unit.about.is_empty()).count();
    line!(out, "{}: {}; {}: {silent}.\n", say("Units", "单元"), rows.len(), say("without a description", "无说明"));
    let mut packages: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    rows.iter().for_each(|row| packages.entry(&row.unit.package).or_default().push(row));
    for (package, rows) in packages {
        let item = report.items.iter().find(|item| item.name == package);
        let shipped = item.is_some_and(|item| item.shipped);
        let standing = if shipped { say("shipped", "随产品发布") } else { say("not shipped", "不发布") };
        line!(out, "## {package} ({standing})\n\n{}\n", item.map_or("", |item| &item.is));
        let columns = [
            "Unit|单元",
            "What it does|说明",
            "Implements|实现的需求",
            "Own tests|自身测试",
            "Tests elsewhere|他处测试",
        ];
        line!(out, "{}", language.table(&columns));
        for row in rows {
            let about = if row.unit.about.is_empty() { language.word("not stated") } else { &row.unit.about };
            let ids: Vec<&str> = row.implements.iter().copied().collect();
            let ids = if ids.is_empty() { "-".to_owned() } else { ids.join(", ") };
            line!(
                out,
                "| `{}` | {} | {ids} | {} | {} |",
                row.unit.module,
                cell(about),
                tally(&row.own),
                tally(&row.elsewhere)
            );
        }
        line!(out);
    }
    out
}

/// One row for each unit and test; a unit without tests has one row.
pub fn table(report: &Report) -> Result<Vec<u8>, Failure> {
    let mut lines = Vec::new();
    for row in rows(report) {
        let ids = row.implements.iter().copied().collect::<Vec<_>>().join(" ");
        let unit = row.unit;
        let line = |place: &str, test: Option<&BoundTest>| {
            let verdict = test.map_or("", super::html::verdict);
            let verifies = test.map(|test| test.tag.ids.join(" ")).unwrap_or_default();
            let title = test.map(BoundTest::title).unwrap_or_default();
            let first = [&unit.package, &unit.module, &unit.file, &unit.about, &ids].map(Clone::clone);
            let [package, module, file, about, ids] = first;
            [package, module, file, about, ids, place.to_owned(), title, verifies, verdict.to_owned()]
        };
        let before = lines.len();
        lines.extend(row.own.iter().map(|test| line("own", Some(test))));
        lines.extend(row.elsewhere.iter().map(|test| line("elsewhere", Some(test))));
        if lines.len() == before {
            lines.push(line("none", None));
        }
    }
    let head = ["crate", "unit", "file", "what it does", "implements", "tests", "test", "verifies", "verdict"];
    tables::csv(head, lines.into_iter())
}
