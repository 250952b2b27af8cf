//! The report for each reader: pages for people, tables for spreadsheets, JSON for programs.
mod crates;
mod datasheet;
mod design;
mod documents;
mod graph;
mod html;
mod impact;
mod pages;
mod paper;
mod people;
mod reports;
mod reqif;
mod tables;
mod words;
mod workbook;

use crate::build::{Inputs, Report};
use crate::diff::Diff;
use crate::failure::Failure;
use crate::finding::Severity;
use crate::links::{self, LinkState};
use crate::package::Files;
use crate::regulatory::{Language, Regulatory};
use crate::workspace::finished;
use std::fmt::Write;

/// Everything under `core/` that follows from the report and its inputs.
pub fn core(report: &Report, inputs: &Inputs, regulatory: &Regulatory) -> Result<Files, Failure> {
    let diff = impact::since(report, inputs)?;
    let parts = std::thread::scope(|scope| {
        let diff = diff.as_ref();
        let documents = Language::BOTH
            .map(|language| scope.spawn(move || documents_in(language, report, inputs, diff, regulatory)));
        let mut parts = vec![tables(report, regulatory), plans(report, regulatory), Ok(pages(report, regulatory))];
        parts.extend(documents.map(finished));
        parts
    });
    let mut files = Files::new();
    for part in parts {
        files.extend(part?.into_iter().map(|(name, bytes)| (format!("core/{name}"), bytes)));
    }
    Ok(files)
}

/// For spreadsheets and programs, and the pictures.
fn tables(report: &Report, regulatory: &Regulatory) -> Result<Files, Failure> {
    let mut files = Files::new();
    let mut put = |name: &str, bytes: Vec<u8>| files.insert(name.to_owned(), bytes);
    let json = |value: serde_json::Result<Vec<u8>>| {
        let ended = value.map(|mut bytes| {
            bytes.push(b'\n');
            bytes
        });
        ended.map_err(|error| Failure::new("unwritable", error.to_string()))
    };
    put("evidence.json", json(serde_json::to_vec_pretty(report))?);
    put("trace-matrix.json", json(serde_json::to_vec_pretty(&tables::trace_json(report)))?);
    put("sbom.cdx.json", json(serde_json::to_vec_pretty(&report.cyclonedx))?);
    put("sbom.spdx.json", json(serde_json::to_vec_pretty(&report.spdx))?);
    put("vex.cdx.json", json(serde_json::to_vec_pretty(&report.vex))?);
    let sheets = [
        ("gaps", tables::gaps(report)?),
        ("trace-matrix", tables::trace(report)?),
        ("links", tables::links(report)?),
        ("tests", tables::tests(report)?),
        ("clauses", tables::clauses(report)?),
        ("soup", tables::soup(report)?),
        ("design-index", design::table(report)?),
    ];
    put("trace.xlsx", workbook::xlsx(report, &sheets.each_ref().map(|(name, table)| (*name, table.as_slice())))?);
    for (name, table) in sheets {
        put(&format!("{name}.csv"), table);
    }
    put("trace.reqif", reqif::reqif(report, regulatory).into_bytes());
    put("trace.svg", graph::svg(report, regulatory).into_bytes());
    put(crates::FILE, crates::svg(report).into_bytes());
    Ok(files)
}

/// The generated documents in one language: text, page and word-processor file of each.
fn documents_in(
    language: Language,
    report: &Report,
    inputs: &Inputs,
    diff: Option<&Diff>,
    regulatory: &Regulatory,
) -> Result<Files, Failure> {
    let documents = [
        ("srs", documents::requirements(report, regulatory, language)),
        ("risk-file", documents::risk_file(report, regulatory, language)),
        ("architecture", reports::architecture(report, regulatory, language)),
        ("design-index", design::index(report, regulatory, language)),
        ("verification-report", reports::verification(report, regulatory, language)),
        ("performance-report", reports::performance(report, regulatory, language)),
        ("datasheet", datasheet::datasheet(report, inputs, regulatory, language)),
        ("anomalies", reports::anomalies(report, regulatory, language)),
        ("change-impact", impact::impact(report, inputs, diff, regulatory, language)),
        ("tool-validation", reports::tool_validation(report, regulatory, language)),
    ];
    let mut files = Files::new();
    for (name, text) in documents {
        let name = format!("{name}{}", language.say("", ".zh"));
        // The page lies a folder deeper than the text.
        let below = text.replace(&format!("]({})", crates::FILE), &format!("](../{})", crates::FILE));
        files.insert(format!("documents/{name}.html"), paper::html(&name, language.code(), &below).into_bytes());
        files.insert(format!("documents/{name}.docx"), paper::docx(&text)?);
        files.insert(format!("{name}.md"), text.into_bytes());
    }
    Ok(files)
}

/// Plans and manuals as people wrote them, with their standing.
fn plans(report: &Report, regulatory: &Regulatory) -> Result<Files, Failure> {
    let mut files = Files::new();
    for (name, document) in &regulatory.documents {
        let review =
            report.documents.iter().find(|status| status.name == *name).and_then(|status| status.review.as_ref());
        let (en_state, zh_state) = match review {
            Some(review) => (format!("Reviewed in {review}."), format!("已评审：{review}。")),
            None => ("Not reviewed: manual - record required.".to_owned(), "未评审：人工，须有记录。".to_owned()),
        };
        let commit = report.commit.id.get(..12).unwrap_or("no commit");
        let clearance = &regulatory.profile.clearance;
        let stated = |text: String, state: String, clearance: &str| {
            let (title, rest) = text.split_once('\n').unwrap_or((&text, ""));
            format!("{title}\n\n*{} {}, {commit}. {state} {clearance}*\n{rest}", report.product, report.version)
        };
        let en = stated(document.markdown(|text| &text.en), en_state, &clearance.en);
        let zh = stated(document.markdown(|text| &text.zh), zh_state, &clearance.zh);
        for (language, text) in [("en", en), ("zh", zh)] {
            let place = format!("plans/{name}.{language}");
            files.insert(format!("{place}.html"), paper::html(name, language, &text).into_bytes());
            files.insert(format!("{place}.docx"), paper::docx(&text)?);
            files.insert(format!("{place}.md"), text.into_bytes());
        }
    }
    Ok(files)
}

/// What brings evidence that is missing, by the rule of the finding that misses it.
const REMEDIES: [(&[&str], &str); 4] = [
    (
        &["no-run", "no-records", "run-not-noted", "run-of-another-commit", "run-of-other-sources"],
        "no test counts: `cargo xtask test` runs them and leaves their records",
    ),
    (
        &["coverage-missing", "coverage-of-another-commit", "coverage-of-changed-sources"],
        "no line coverage counts: `cargo xtask coverage --all` records it (an hour and more)",
    ),
    (
        &["mutant-not-run", "mutations-of-another-commit", "mutations-of-changed-sources"],
        "risk controls were not taken away: `cargo xtask mutate` does so in a copy of the tree",
    ),
    (
        &["criterion-not-evaluated"],
        "criteria are judged by results of `cargo xtask validate`: name them with --validation DIR",
    ),
];

/// For a browser, gaps first; and the cards of the models.
fn pages(report: &Report, regulatory: &Regulatory) -> Files {
    let mut files = Files::new();
    let mut put = |name: &str, page: String| files.insert(name.to_owned(), page.into_bytes());
    put("index.html", pages::index(report, regulatory));
    put("trace-matrix.html", pages::trace(report, regulatory));
    put("risk-file.html", pages::risk_file(report, regulatory));
    put("clauses.html", pages::clauses(report, regulatory));
    put("records.html", people::records(report, regulatory));
    put("soup.html", pages::soup(report, regulatory));
    for (i, model) in (1..).zip(&report.models) {
        let Some(card) = model.card.as_deref().map(String::from_utf8_lossy) else { continue };
        let title = format!("{} {}", model.name, model.version);
        put(&format!("documents/model-card-{i}.html"), paper::html(&title, "en", &card));
    }
    files
}

/// For the terminal: the sum, what brings missing evidence, the ladder, and what is broken.
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    let mut say = |line: String| {
        let _ = writeln!(out, "{line}"); // writing to a string cannot fail
    };
    let class = &report.classification;
    say(format!(
        "{} of {} requirements verified; safety class {} computed, {} stated",
        verified(report),
        report.requirements.len(),
        class.computed.letter(),
        class.stated.letter()
    ));
    let count = |severity| report.findings.iter().filter(|f| f.severity == severity).count();
    let [red, amber, grey] = [Severity::Red, Severity::Amber, Severity::Grey].map(count);
    say(format!(
        "findings: {red} red, {amber} where evidence is missing, {grey} that only people or an operated service can close"
    ));
    let [suspect, waiting, current] = links::counts(&report.links).map(|(_, n)| n);
    say(format!("links: {current} reviewed, {suspect} suspect, {waiting} that nobody has reviewed"));
    let repeat = links::tests_to_repeat(&report.links, &report.tests);
    if !repeat.is_empty() {
        say(format!("{} tests verify something suspect and must run again", repeat.len()));
    }
    for (rules, remedy) in REMEDIES {
        if report.findings.iter().any(|finding| rules.contains(&finding.rule)) {
            say(remedy.to_owned());
        }
    }
    say(String::new());
    let mut ordered: Vec<_> = report.requirements.iter().collect();
    ordered.sort_by_key(|r| (r.state, r.requirement.id.as_str()));
    for status in ordered {
        let passed = status.tests.iter().filter(|i| report.tests[**i].counts_as_passed()).count();
        let state = status.state.words();
        say(format!(
            "{}  {state:<30} {passed}/{} tests  {}",
            status.requirement.id,
            status.tests.len(),
            status.requirement.title.en
        ));
    }
    for link in report.links.iter().filter(|link| link.state == LinkState::Suspect) {
        say(format!("SUSPECT  {}: {}", link.title(), link.why));
    }
    for finding in report.findings.iter().filter(|f| f.severity == Severity::Red) {
        say(format!("RED  {}: {} ({})", finding.item, finding.message, finding.rule));
    }
    out.trim_end().to_owned()
}

/// Requirements whose evidence is whole.
fn verified(report: &Report) -> usize {
    report.requirements.iter().filter(|r| r.whole).count()
}

fn number(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `0.93 (0.90 to 0.95), n 120` or a dash.
fn figures(result: &crate::results::CriterionResult) -> String {
    let mut text = result.value.map_or_else(|| "not computable".to_owned(), number);
    if let Some([low, high]) = result.ci {
        let _ = write!(text, " ({} to {})", number(low), number(high));
    }
    if let Some(n) = result.n {
        let _ = write!(text, ", n {n}");
    }
    text
}
