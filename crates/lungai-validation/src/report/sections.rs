//! What a report says, in the order in which it is read: verdicts first, limitations last.

mod centres;
mod detection;
mod failures;
mod limitations;
mod lineage;
mod lungs;
mod malignancy;
mod measurements;
mod population;
mod readers;
mod strata;
mod time;
mod verdict;

use super::Facts;
use super::document::{Block, Document, Patch, Picture};
use super::language::{Language, say};
use crate::failures::{Slices, Wrong};
use crate::protocol::Protocol;
use crate::reference::Collected;
use crate::results::Results;
use std::cell::RefCell;

/// Everything that a report speaks of.
pub struct Context<'a> {
    /// Of the run.
    pub facts: &'a Facts,
    /// The rules.
    pub protocol: &'a Protocol,
    /// The figures.
    pub results: &'a Results,
    /// The scans.
    pub collected: &'a Collected,
    /// What went wrong most, each with its slices where the images were at hand.
    pub wrong: &'a [(Wrong, Option<Slices>)],
    /// The language.
    pub language: Language,
    /// Drawings that no section has taken yet.
    pub pictures: RefCell<Vec<Picture>>,
    /// Drawings for which no font of this machine has the letters: they have no PNG.
    pub without_png: usize,
}

/// Populations that claims name, the same wherever they stand.
pub mod whole {
    /// All scans that were analysed.
    pub const SCANS: &str = "analysed scans";
    /// All nodules that are scored.
    pub const NODULES: &str = "scored nodules";
    /// Scored nodules whose diagnosis is known.
    pub const DIAGNOSED: &str = "nodules with a diagnosis";
    /// Those of them that were found.
    pub const FOUND: &str = "found nodules with a diagnosis";
    /// Scans with a reference of the lungs.
    pub const LUNGS: &str = "scans with lung masks";
}

impl Context<'_> {
    /// One of two texts.
    fn word<'t>(&self, en: &'t str, zh: &'t str) -> &'t str {
        self.language.of(en, zh)
    }

    fn heading(&self, name: &'static str, en: &str, zh: &str) -> Block {
        Block::Heading { name, text: self.word(en, zh).to_owned() }
    }

    fn text(&self, en: &str, zh: &str) -> Block {
        Block::Text(self.word(en, zh).to_owned())
    }

    /// A drawing by its English file name, once.
    fn picture(&self, name: &str) -> Option<Block> {
        let name = format!("{name}{}", self.language.suffix());
        let mut pictures = self.pictures.borrow_mut();
        let place = pictures.iter().position(|p| p.name == name)?;
        Some(Block::Picture(pictures.remove(place)))
    }

    /// `figure (95 % interval)` as the head of a column.
    fn with_interval(&self, en: &str, zh: &str) -> String {
        let percent = self.facts.percent;
        format!("{}{}", self.word(en, zh), say!(self.language, " ({percent} % interval)", "（{percent} % 区间）"))
    }
}

/// The whole report.
pub fn document(context: &Context<'_>, notice: String) -> Document {
    let facts = context.facts;
    let title =
        say!(context.language, "Validation report: {} on {}", "验证报告：{}，数据集 {}", facts.model, facts.data_set);
    let mut blocks = Vec::new();
    for section in [
        verdict::blocks,
        population::blocks,
        detection::blocks,
        malignancy::roc,
        centres::blocks,
        strata::blocks,
        malignancy::calibration,
        measurements::blocks,
        readers::blocks,
        failures::blocks,
        time::blocks,
        lungs::blocks,
        malignancy::size_matched,
        lineage::blocks,
        limitations::blocks,
    ] {
        blocks.extend(section(context));
    }
    Document { language: context.language, title, notice, blocks }
}

/// Slices as they go into a document.
fn patches(context: &Context<'_>, pick: impl Fn(&Wrong) -> bool, caption: impl Fn(&Wrong) -> String) -> Vec<Patch> {
    let shown = context.wrong.iter().filter(|(wrong, _)| pick(wrong));
    shown
        .filter_map(|(wrong, picture)| {
            let Slices { file, png } = picture.clone()?;
            Some(Patch { file, png, caption: caption(wrong) })
        })
        .collect()
}
