//! The report: one content in two languages, as a page that needs no network, as Markdown and as tables.
//!
//! Nothing is written whose tables contradict each other ([`crate::coherence`]).

pub mod document;
mod html;
pub mod language;
mod markdown;
mod sections;
pub mod words;
mod workbook;

use crate::coherence::{self, Checked};
use crate::failure::{Failure, io};
use crate::failures::{self, Slices, Wrong};
use crate::figures::{self, Shown};
use crate::lock::Standing;
use crate::protocol::Protocol;
use crate::reference::Collected;
use crate::results::Results;
use document::{Block, Document};
use language::Language;
use lungai_ct::Volume;
use lungai_trace::implements;
use serde_json::json;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
pub use workbook::no_formula;

/// What the report says about the run itself.
pub struct Facts {
    /// Protocol name and version.
    pub protocol: String,
    /// What is to be shown.
    pub purpose: String,
    /// SHA-256 of the protocol file.
    pub protocol_sha256: String,
    /// SHA-256 of what the protocol says, which no comment changes: what a lock holds.
    pub canonical_sha256: String,
    /// Whether the protocol was locked before, and the place in the ledger; or that the run is exploratory.
    pub standing: Standing,
    /// Model name and version.
    pub model: String,
    /// The name alone.
    pub model_name: String,
    /// The version alone.
    pub model_version: String,
    /// SHA-256 that pins the model.
    pub model_sha256: String,
    /// Whether the model was trained on synthetic data.
    pub model_synthetic: bool,
    /// Data set name and version.
    pub data_set: String,
    /// SHA-256 of the manifest file.
    pub manifest_sha256: String,
    /// One value for every voxel, label and nodule of the data set.
    pub data_fingerprint: String,
    /// SHA-256 of each table beside the data set: covariates and readings.
    pub tables: BTreeMap<String, String>,
    /// SHA-256 that pins the predictions which were analysed.
    pub predictions_sha256: String,
    /// SHA-256 of the program that analysed them.
    pub program_sha256: String,
    /// Whether the images were computed.
    pub synthetic: bool,
    /// Where the networks ran.
    pub device: String,
    /// Operating point as the protocol names it.
    pub operating_point: String,
    /// Confidence in percent.
    pub percent: f64,
}

/// What a report is of.
pub struct Subject<'a> {
    /// Of the run.
    pub facts: &'a Facts,
    /// The rules.
    pub protocol: &'a Protocol,
    /// The scans.
    pub collected: &'a Collected,
    /// The figures.
    pub results: &'a Results,
    /// Opens the image of a case, for the slices of what went wrong; none where it is not at hand.
    pub image: &'a dyn Fn(&str) -> Option<Volume>,
}

/// The line on every page, in English: what programs read, too.
pub fn notice(synthetic: bool) -> &'static str {
    if synthetic {
        "Not cleared for clinical use. SYNTHETIC data: nothing here is a clinical result."
    } else {
        "Not cleared for clinical use."
    }
}

/// The line on every page.
pub fn notice_in(language: Language, synthetic: bool) -> String {
    match (language, synthetic) {
        (Language::En, _) => notice(synthetic).to_owned(),
        (Language::Zh, true) => "未获批准用于临床。合成数据（SYNTHETIC）：本文任何内容均非临床结果。".to_owned(),
        (Language::Zh, false) => "未获批准用于临床。".to_owned(),
    }
}

/// Writes figures, `report.html`, `report.md`, `report.xlsx` and `tables/` (English; Chinese ones end in `.zh` before the
/// ending and lie in `tables/zh/`), `failures/` with slices, and `statements.json` with what all tables claim.
///
/// # Errors
/// `incoherent-report` where figures cannot all be true: then no text or table is written. A file that cannot be written.
#[implements("SW-1106")]
pub fn write(subject: &Subject<'_>, folder: &Path) -> Result<Checked, Failure> {
    let Subject { facts, protocol, collected, results, image } = subject;
    let wrong = failures::worst(protocol, &collected.records, results.detection.operating_threshold)?;
    let pictures = slices(&wrong, facts.synthetic, *image);
    let wrong: Vec<(Wrong, Option<Slices>)> = wrong.into_iter().zip(pictures).collect();
    let shown = Shown {
        results,
        records: &collected.records,
        flow: &collected.flow,
        model: &facts.model,
        data_set: &facts.data_set,
        synthetic: facts.synthetic,
        percent: facts.percent,
    };
    let mut documents = Vec::new();
    for language in Language::ALL {
        let drawn =
            figures::draw(&shown, language, folder).map_err(|error| Failure::new("figures", error.to_string()))?;
        let without_png = drawn.iter().filter(|picture| !picture.png).count();
        let context = sections::Context {
            facts,
            protocol,
            results,
            collected,
            wrong: &wrong,
            language,
            pictures: RefCell::new(drawn),
            without_png,
        };
        documents.push(sections::document(&context, notice_in(language, facts.synthetic)));
    }
    let checked = publish(&mut documents, "report", facts.synthetic, folder)?;
    for Slices { file, png } in wrong.iter().filter_map(|(_, picture)| picture.as_ref()) {
        let path = folder.join(file);
        make(&folder.join("failures"))?;
        std::fs::write(&path, png).map_err(io(&path))?;
    }
    Ok(checked)
}

/// Checks that the tables agree, and writes page, text and tables of each language, and what they claim.
///
/// - `stem`: of the files' names
///
/// # Errors
/// As [`write`].
pub fn publish(documents: &mut [Document], stem: &str, synthetic: bool, folder: &Path) -> Result<Checked, Failure> {
    let checked = coherent(documents)?;
    for document in &mut *documents {
        document.blocks.push(checked_block(document.language, &checked));
        put(document, stem, synthetic, folder)?;
    }
    let statements = json!({ "notice": notice(synthetic), "statements": documents[0].claims() });
    let path = folder.join("statements.json");
    let text = serde_json::to_string_pretty(&statements).expect("plain data") + "\n";
    std::fs::write(&path, text).map_err(io(&path))?;
    Ok(checked)
}

/// Both languages claim the same, and nothing that cannot be.
fn coherent(documents: &[Document]) -> Result<Checked, Failure> {
    let mut first = None;
    for document in documents {
        let checked = coherence::check(&document.claims());
        let wrong: Vec<&str> = checked.contradictions().map(|f| f.message.as_str()).collect();
        if !wrong.is_empty() {
            let more = if wrong.len() > 3 { format!(" and {} more", wrong.len() - 3) } else { String::new() };
            let message = format!("the tables contradict each other: {}{more}", wrong[..wrong.len().min(3)].join("; "));
            return Err(Failure::new("incoherent-report", message));
        }
        first.get_or_insert(checked);
    }
    Ok(first.unwrap_or_default())
}

fn checked_block(language: Language, checked: &Checked) -> Block {
    let (statements, tables, relations) = (checked.statements, checked.tables, checked.relations());
    Block::Text(language::say!(
        language,
        "Arithmetic of this report: {statements} printed figures of {tables} tables were checked against each other in \
         {relations} relations (parts and wholes, counts and shares, intervals and points, curves, verdicts); none contradicts \
         another. statements.json holds them for a check by others.",
        "本报告的算术一致性：{tables} 个表中的 {statements} 个数字按 {relations} 项关系（部分与整体、计数与比例、区间与点估计、曲线、结论）\
         相互核对，无矛盾。statements.json 含全部数字，供他人复核。"
    ))
}

/// Slices of each, in their order. A case is opened once.
fn slices(wrong: &[Wrong], synthetic: bool, image: &dyn Fn(&str) -> Option<Volume>) -> Vec<Option<Slices>> {
    let mut of_case: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, one) in wrong.iter().enumerate() {
        of_case.entry(&one.case).or_default().push(i);
    }
    let mut pictures = vec![None; wrong.len()];
    for (case, places) in of_case {
        let Some(volume) = image(case) else { continue };
        for i in places {
            let file = format!("failures/{:02}.png", i + 1);
            pictures[i] = Some(Slices { file, png: failures::picture(&volume, &wrong[i], synthetic) });
        }
    }
    pictures
}

/// Page, text and tables of one language.
fn put(document: &Document, stem: &str, synthetic: bool, folder: &Path) -> Result<(), Failure> {
    let suffix = document.language.suffix();
    let write = |name: String, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).map_err(io(&path))
    };
    write(format!("{stem}{suffix}.html"), html::page(document).as_bytes())?;
    write(format!("{stem}{suffix}.md"), markdown::text(document).as_bytes())?;
    write(format!("{stem}{suffix}.xlsx"), &workbook::xlsx(document)?)?;
    let tables = document.language.of("tables", "tables/zh");
    make(&folder.join(tables))?;
    for table in document.tables() {
        write(format!("{tables}/{}.csv", table.name), &workbook::csv(document, table, synthetic)?)?;
    }
    Ok(())
}

fn make(folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(io(folder))
}

#[cfg(test)]
mod tests;
