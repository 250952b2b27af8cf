//! Documents for people, from Markdown: HTML for a browser, DOCX for a word processor. Nothing in them depends on the machine: a DOCX is a
//! stored archive without times.
use super::html::Esc;
use crate::failure::Failure;
use lungai_trace::implements;
use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use std::fmt::Write as _;
use std::io::{Cursor, Write as _};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

fn parser(markdown: &str) -> Parser<'_> {
    Parser::new_ext(markdown, Options::ENABLE_TABLES)
}

/// A page of its own; nothing is fetched.
#[implements("RR-001")]
pub fn html(title: &str, language: &str, markdown: &str) -> String {
    // Raw markup in a text stays text.
    let events = parser(markdown).map(|event| match event {
        Event::Html(raw) | Event::InlineHtml(raw) => Event::Text(raw),
        other => other,
    });
    let mut body = String::new();
    pulldown_cmark::html::push_html(&mut body, events);
    format!(
        "<!doctype html>\n<html lang=\"{language}\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n<style>{STYLE}</style>\n<main>\n{body}</main>\n</html>\n",
        Esc(title)
    )
}

const STYLE: &str = "body{margin:0;font:16px/1.55 system-ui,\"Noto Sans CJK SC\",\"Microsoft YaHei\",\"PingFang SC\",sans-serif;color:#1b2733;background:#fff}\
main{max-width:50rem;margin:0 auto;padding:1rem 1rem 4rem}table{border-collapse:collapse;font-size:.93em}th,td{border:1px solid #d9e0e6;padding:.35rem .6rem;text-align:left;vertical-align:top}\
code{font-size:.9em;overflow-wrap:anywhere}@media(prefers-color-scheme:dark){body{color:#e4eaef;background:#12181e}th,td{border-color:#313c47}}";

/// A word-processor file.
#[implements("RR-001")]
pub fn docx(markdown: &str) -> Result<Vec<u8>, Failure> {
    let parts = [
        ("[Content_Types].xml", CONTENT_TYPES.to_owned()),
        ("_rels/.rels", RELATIONS.to_owned()),
        ("word/document.xml", document(markdown)),
        ("word/_rels/document.xml.rels", DOCUMENT_RELATIONS.to_owned()),
        ("word/styles.xml", STYLES.to_owned()),
    ];
    let wrong = |error: String| Failure::new("unwritable", format!("a document: {error}"));
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, text) in parts {
        archive.start_file(name, stored).map_err(|error| wrong(error.to_string()))?;
        archive.write_all(text.as_bytes()).map_err(|error| wrong(error.to_string()))?;
    }
    archive.finish().map(Cursor::into_inner).map_err(|error| wrong(error.to_string()))
}

/// Runs of text under one paragraph; a paragraph is opened by the first and closed by its end.
#[derive(Default)]
struct Body {
    out: String,
    open: bool,
    style: &'static str,
    bold: bool,
    mono: bool,
    /// Numbers of the open lists; none for bullets.
    lists: Vec<Option<u64>>,
    mark: Option<String>,
}

impl Body {
    fn text(&mut self, text: &str) {
        if !self.open {
            let indent = 360 * self.lists.len();
            let style =
                if self.style.is_empty() { String::new() } else { format!("<w:pStyle w:val=\"{}\"/>", self.style) };
            let indent = if indent == 0 { String::new() } else { format!("<w:ind w:left=\"{indent}\"/>") };
            let _ = write!(self.out, "<w:p><w:pPr>{style}{indent}</w:pPr>"); // writing to a string cannot fail
            self.open = true;
            if let Some(mark) = self.mark.take() {
                self.text(&mark);
            }
        }
        let bold = if self.bold { "<w:b/>" } else { "" };
        let mono = if self.mono { "<w:rFonts w:ascii=\"Consolas\" w:hAnsi=\"Consolas\"/>" } else { "" };
        for (i, line) in text.split('\n').enumerate() {
            let line_break = if i > 0 { "<w:br/>" } else { "" };
            let _ = write!(
                self.out,
                "<w:r><w:rPr>{mono}{bold}</w:rPr>{line_break}<w:t xml:space=\"preserve\">{}</w:t></w:r>",
                Esc(line)
            );
        }
    }

    fn end(&mut self) {
        if self.open {
            self.out.push_str("</w:p>");
        }
        self.open = false;
        self.style = "";
    }
}

fn document(markdown: &str) -> String {
    let mut body = Body::default();
    for event in parser(markdown) {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                body.style = match level {
                    HeadingLevel::H1 => "Heading1",
                    HeadingLevel::H2 => "Heading2",
                    _ => "Heading3",
                };
            }
            Event::Start(Tag::List(first)) => {
                body.end();
                body.lists.push(first);
            }
            Event::End(TagEnd::List(_)) => _ = body.lists.pop(),
            Event::Start(Tag::Item) => {
                body.mark = Some(match body.lists.last_mut() {
                    Some(Some(number)) => {
                        *number += 1;
                        format!("{}. ", *number - 1)
                    }
                    _ => "• ".to_owned(),
                });
            }
            Event::Start(Tag::Strong) => body.bold = true,
            Event::End(TagEnd::Strong) => body.bold = false,
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(_) | CodeBlockKind::Indented)) => body.mono = true,
            Event::End(TagEnd::CodeBlock) => {
                body.end();
                body.mono = false;
            }
            Event::Start(Tag::Table(_)) => body.out.push_str(TABLE),
            Event::End(TagEnd::Table) => body.out.push_str("</w:tbl><w:p/>"),
            Event::Start(Tag::TableHead | Tag::TableRow) => body.out.push_str("<w:tr>"),
            Event::End(TagEnd::TableHead | TagEnd::TableRow) => body.out.push_str("</w:tr>"),
            Event::Start(Tag::TableCell) => {
                body.out.push_str("<w:tc><w:tcPr/>");
                body.text("");
            }
            Event::End(TagEnd::TableCell) => {
                body.end();
                body.out.push_str("</w:tc>");
            }
            Event::End(TagEnd::Heading(_) | TagEnd::Paragraph | TagEnd::Item) => body.end(),
            Event::Code(code) => {
                body.mono = true;
                body.text(&code);
                body.mono = false;
            }
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => body.text(text.trim_end_matches('\n')),
            Event::SoftBreak => body.text(" "),
            Event::HardBreak => body.text("\n"),
            _ => (),
        }
    }
    body.end();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n<w:document xmlns:w=\"http://schemas.openxmlformats.org/wordprocessingml/2006/main\"><w:body>{}<w:sectPr><w:pgSz w:w=\"11906\" w:h=\"16838\"/><w:pgMar w:top=\"1134\" w:right=\"1134\" w:bottom=\"1134\" w:left=\"1134\" w:header=\"567\" w:footer=\"567\" w:gutter=\"0\"/></w:sectPr></w:body></w:document>",
        body.out
    )
}

const TABLE: &str = "<w:tbl><w:tblPr><w:tblW w:w=\"5000\" w:type=\"pct\"/><w:tblBorders><w:top w:val=\"single\" w:sz=\"4\" w:color=\"999999\"/><w:left w:val=\"single\" w:sz=\"4\" w:color=\"999999\"/><w:bottom w:val=\"single\" w:sz=\"4\" w:color=\"999999\"/><w:right w:val=\"single\" w:sz=\"4\" w:color=\"999999\"/><w:insideH w:val=\"single\" w:sz=\"4\" w:color=\"999999\"/><w:insideV w:val=\"single\" w:sz=\"4\" w:color=\"999999\"/></w:tblBorders></w:tblPr>";

const CONTENT_TYPES: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\"><Default Extension=\"rels\" ContentType=\"application/vnd.openxmlformats-package.relationships+xml\"/><Default Extension=\"xml\" ContentType=\"application/xml\"/><Override PartName=\"/word/document.xml\" ContentType=\"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml\"/><Override PartName=\"/word/styles.xml\" ContentType=\"application/vnd.openxmlformats-officedocument.wordprocessingml.styles+xml\"/></Types>";

const RELATIONS: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\"><Relationship Id=\"rId1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument\" Target=\"word/document.xml\"/></Relationships>";

const DOCUMENT_RELATIONS: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\"><Relationship Id=\"rId1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/styles\" Target=\"styles.xml\"/></Relationships>";

const STYLES: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n<w:styles xmlns:w=\"http://schemas.openxmlformats.org/wordprocessingml/2006/main\"><w:docDefaults><w:rPrDefault><w:rPr><w:rFonts w:ascii=\"Calibri\" w:hAnsi=\"Calibri\" w:eastAsia=\"Microsoft YaHei\"/><w:sz w:val=\"21\"/></w:rPr></w:rPrDefault><w:pPrDefault><w:pPr><w:spacing w:after=\"100\"/></w:pPr></w:pPrDefault></w:docDefaults><w:style w:type=\"paragraph\" w:default=\"1\" w:styleId=\"Normal\"><w:name w:val=\"Normal\"/></w:style><w:style w:type=\"paragraph\" w:styleId=\"Heading1\"><w:name w:val=\"heading 1\"/><w:pPr><w:outlineLvl w:val=\"0\"/><w:spacing w:before=\"240\"/></w:pPr><w:rPr><w:b/><w:sz w:val=\"34\"/></w:rPr></w:style><w:style w:type=\"paragraph\" w:styleId=\"Heading2\"><w:name w:val=\"heading 2\"/><w:pPr><w:outlineLvl w:val=\"1\"/><w:spacing w:before=\"240\"/></w:pPr><w:rPr><w:b/><w:sz w:val=\"26\"/></w:rPr></w:style><w:style w:type=\"paragraph\" w:styleId=\"Heading3\"><w:name w:val=\"heading 3\"/><w:pPr><w:outlineLvl w:val=\"2\"/><w:spacing w:before=\"160\"/></w:pPr><w:rPr><w:b/><w:sz w:val=\"22\"/></w:rPr></w:style></w:styles>";

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    const TEXT: &str = "# T <b>\n\nOne **two** `x < 3`.\n\n1. first\n2. second\n\n| a | b |\n|---|---|\n| 肺 | |\n\n<script>alert(1)</script>\n";

    #[verifies("RR-001")]
    #[test]
    fn markup_in_a_text_stays_text() {
        let page = html("t", "en", TEXT);
        assert!(!page.contains("<script>") && page.contains("&lt;script&gt;"), "{page}");
        assert!(page.contains("<td>肺</td>") && page.contains("<strong>two</strong>"));
        let xml = document(TEXT);
        assert!(!xml.contains("<script>") && xml.contains("x &lt; 3") && xml.contains("1. ") && xml.contains("2. "));
        for element in ["w:p", "w:tbl", "w:tr", "w:tc", "w:r"] {
            let opened = xml.matches(&format!("<{element}>")).count();
            assert_eq!(opened, xml.matches(&format!("</{element}>")).count(), "{element}");
        }
    }

    #[verifies("RR-001")]
    #[test]
    fn a_document_is_the_same_bytes_each_time() {
        assert_eq!(docx(TEXT).unwrap(), docx(TEXT).unwrap());
    }
}
