//! The report as Markdown, with its figures as files beside it.

use super::document::{Block, Document, Table};
use super::language::Language;
use std::fmt::Write;

/// The text.
pub fn text(document: &Document) -> String {
    let mut out = format!("**{}**\n\n# {}\n", document.notice, plain(&document.title));
    for block in &document.blocks {
        let _ = match block {
            Block::Heading { text, .. } => writeln!(out, "\n## {}", plain(text)),
            Block::Text(text) => writeln!(out, "\n{}", plain(text)),
            Block::Banner(text, _) => writeln!(out, "\n> **{}**", plain(text)),
            Block::Picture(p) => writeln!(out, "\n![{0}]({1}.svg)\n\n*{0}*", plain(&p.caption), p.name),
            Block::Table(table) => write!(out, "\n{}", table_of(table, document.language)),
            Block::Gallery(patches) => patches
                .iter()
                .try_for_each(|patch| writeln!(out, "\n![{0}]({1})\n\n*{0}*", plain(&patch.caption), patch.file)),
        };
    }
    out
}

fn table_of(table: &Table, language: Language) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let plain = |text: &str| plain(text).replace('|', "\\|");
    let mut out = format!("*{}*\n\n", plain(&table.caption));
    out += &line(table.head.iter().map(|head| plain(head)).collect());
    out += &line(table.head.iter().map(|_| "---".to_owned()).collect());
    for row in table.rows.iter().take(table.shown) {
        out += &line(row.iter().map(|cell| plain(&cell.text)).collect());
    }
    if let Some(more) = table.more(language) {
        let _ = writeln!(out, "\n{more}");
    }
    out
}

/// Words of others are text: no markup of HTML, and no line that would begin something else.
fn plain(text: &str) -> String {
    text.replace('<', "&lt;").replace("\r\n", " ").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_a_protocol_or_a_table_is_no_markup() {
        assert_eq!(plain("a <script>\n# b\r\nc"), "a &lt;script> # b c");
    }
}
