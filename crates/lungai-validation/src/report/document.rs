//! A report before it is text: headings, paragraphs, tables whose figures say what they claim, pictures.

use super::language::{Language, say};
use crate::coherence::{Kind, Printed, Statement, Verdict};
use crate::results::Figure;

/// A report in one language.
pub struct Document {
    /// Its language.
    pub language: Language,
    /// What it is about.
    pub title: String,
    /// The line that stands on every page.
    pub notice: String,
    /// In the order in which it is read.
    pub blocks: Vec<Block>,
}

/// A part of a report.
pub enum Block {
    /// Begins a section; the name is that of the section's place in the page.
    Heading {
        /// For links, the same in both languages.
        name: &'static str,
        /// What it says.
        text: String,
    },
    /// A paragraph.
    Text(String),
    /// A short statement with a verdict in it, shown large.
    Banner(String, Tone),
    /// A table.
    Table(Table),
    /// A drawing.
    Picture(Picture),
    /// Slices of scans.
    Gallery(Vec<Patch>),
}

/// A finished drawing.
pub struct Picture {
    /// File name without ending.
    pub name: String,
    /// What it shows.
    pub caption: String,
    /// The drawing.
    pub svg: String,
    /// Whether a PNG lies beside the SVG.
    pub png: bool,
}

/// Slices round a place in a scan.
pub struct Patch {
    /// File name in the report's folder.
    pub file: String,
    /// The file itself.
    pub png: Vec<u8>,
    /// What it shows.
    pub caption: String,
}

/// How a cell or banner looks; its words say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Like the rest.
    Plain,
    /// As hoped.
    Good,
    /// Not so.
    Bad,
    /// Less important than the rest.
    Quiet,
}

/// A table. A cell with a figure has three columns where tables are for machines: value, lower and upper bound.
pub struct Table {
    /// File name without ending, the same in both languages.
    pub name: &'static str,
    /// What it shows.
    pub caption: String,
    /// Names of the columns.
    pub head: Vec<String>,
    /// Each as long as the head.
    pub rows: Vec<Vec<Cell>>,
    /// Rows that page and text show at most; the tables for machines have all.
    pub shown: usize,
}

/// A cell.
#[derive(Debug, Clone)]
pub struct Cell {
    /// As it is printed.
    pub text: String,
    /// How it looks.
    pub tone: Tone,
    /// Its number and the bounds, for machines, not rounded.
    pub figure: Option<Figure>,
    /// What it claims.
    pub claims: Vec<Statement>,
}

impl Table {
    /// Without rows.
    pub fn new(name: &'static str, caption: impl Into<String>, head: &[&str]) -> Self {
        let head = head.iter().map(|h| (*h).to_owned()).collect();
        Self { name, caption: caption.into(), head, rows: Vec::new(), shown: usize::MAX }
    }

    /// One more row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        assert_eq!(cells.len(), self.head.len(), "a row of `{}` is as long as its head", self.name);
        self.rows.push(cells);
    }

    /// Without columns, but the first, in which no row has anything to say.
    pub fn without_empty_columns(mut self) -> Self {
        for column in (1..self.head.len()).rev() {
            if self.rows.iter().all(|row| row[column].text.is_empty()) {
                self.head.remove(column);
                self.rows.iter_mut().for_each(|row| _ = row.remove(column));
            }
        }
        self
    }

    /// That page and text do not show all rows, where it is so.
    pub fn more(&self, language: Language) -> Option<String> {
        let (shown, all, name) = (self.shown, self.rows.len(), self.name);
        let folder = language.of("tables", "tables/zh");
        (all > shown).then(|| {
            say!(
                language,
                "The first {shown} of {all}; all are in {folder}/{name}.csv.",
                "显示前 {shown} 行，共 {all} 行；全部见 {folder}/{name}.csv。"
            )
        })
    }

    /// What it claims.
    pub fn claims(&self) -> impl Iterator<Item = &Statement> {
        self.rows.iter().flatten().flat_map(|cell| &cell.claims)
    }

    /// Columns for machines: a column with an interval in it becomes three.
    pub fn with_bounds(&self) -> Vec<bool> {
        let bounds = |column: usize| self.rows.iter().any(|row| row[column].figure.is_some_and(|f| f.ci.is_some()));
        (0..self.head.len()).map(bounds).collect()
    }
}

impl Cell {
    /// Words.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: Tone::Plain, figure: None, claims: Vec::new() }
    }

    /// In a tone.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { tone, ..Self::text(text) }
    }

    /// The note on a group of too few members to conclude anything from.
    pub fn descriptive(language: Language, is: bool) -> Self {
        if is { Self::toned(language.of("descriptive", "仅作描述"), Tone::Quiet) } else { Self::text("") }
    }

    /// A whole number, with what it claims.
    pub fn count(n: usize, claim: Option<Statement>) -> Self {
        let figure = Some(Figure { value: Some(n as f64), ci: None, n });
        let claim = claim.map(|claim| Statement { value: Some(Printed::whole(n)), ..claim });
        Self { figure, claims: claim.into_iter().collect(), ..Self::text(n.to_string()) }
    }

    /// `16 of 20`.
    pub fn of(language: Language, found: usize, all: usize) -> Self {
        Self::text(match language {
            Language::En => format!("{found} of {all}"),
            Language::Zh => format!("{found}/{all}"),
        })
    }

    /// A number without interval.
    pub fn number(language: Language, value: Option<f64>, digits: usize, claim: Option<Statement>) -> Self {
        Self::figure(language, &Figure { value, ci: None, n: 0 }, digits, claim)
    }

    /// `0.80 (0.58 to 0.92)`, with what it claims: value and interval are filled in as they are printed.
    pub fn figure(language: Language, figure: &Figure, digits: usize, claim: Option<Statement>) -> Self {
        let printed = |v: f64| Printed::fixed(v, digits);
        let claim = claim.map(|claim| Statement {
            value: figure.value.map(printed),
            ci: figure.value.and(figure.ci).map(|ci| ci.map(printed)),
            ..claim
        });
        let tone = if figure.value.is_some() { Tone::Plain } else { Tone::Quiet };
        Self {
            figure: figure.value.is_some().then_some(*figure),
            claims: claim.into_iter().collect(),
            ..Self::toned(shown(language, figure, digits), tone)
        }
    }
}

/// A figure in a sentence.
pub fn shown(language: Language, figure: &Figure, digits: usize) -> String {
    match (figure.value, figure.ci, language) {
        (Some(v), Some([low, high]), Language::En) => format!("{v:.digits$} ({low:.digits$} to {high:.digits$})"),
        (Some(v), Some([low, high]), Language::Zh) => format!("{v:.digits$}（{low:.digits$} 至 {high:.digits$}）"),
        (Some(v), None, _) => format!("{v:.digits$}"),
        (None, ..) => language.of("not defined", "无定义").to_owned(),
    }
}

/// The beginning of a claim.
pub fn claim(table: &str, figure: &str, kind: Kind, population: &str) -> Statement {
    Statement::new(table, figure, kind, population)
}

impl Statement {
    /// Of so many members.
    pub fn n(self, n: usize) -> Self {
        Self { n: Some(n as u64), ..self }
    }

    /// So many of them.
    pub fn count(self, count: usize) -> Self {
        Self { count: Some(count as u64), ..self }
    }

    /// One of the parts of a whole.
    pub fn part_of(mut self, whole: &str) -> Self {
        self.part_of.push(whole.to_owned());
        self
    }

    /// A part of a whole.
    pub fn among(mut self, whole: &str) -> Self {
        self.among.push(whole.to_owned());
        self
    }

    /// A place on a curve.
    pub fn at(self, x: f64) -> Self {
        Self { x: Some(x), ..self }
    }

    /// What is concluded.
    pub fn concludes(self, verdict: Verdict) -> Self {
        Self { verdict: Some(verdict), ..self }
    }
}

impl Document {
    /// Everything that its tables claim.
    pub fn claims(&self) -> Vec<Statement> {
        let tables = self.blocks.iter().filter_map(|block| if let Block::Table(t) = block { Some(t) } else { None });
        tables.flat_map(Table::claims).cloned().collect()
    }

    /// Its tables.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.blocks.iter().filter_map(|block| if let Block::Table(t) = block { Some(t) } else { None })
    }
}
