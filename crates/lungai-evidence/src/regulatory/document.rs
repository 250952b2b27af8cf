//! Plans and manuals: Markdown in both languages, section by section in one file, so that neither can be forgotten.
//!
//! A heading holds both titles, `## Scope / 范围`. Under it stands the English text, then a line `<!-- zh -->`, then the Chinese
//! one. A section without both is a finding, as is one with other numbers of list items or table rows.
use super::requirement::Text;
use crate::failure::{Failure, fail};
use lungai_trace::implements;
use serde::Serialize;

#[derive(Debug, Clone, Serialize)]
pub struct Document {
    /// `development-plan` for `plans/development-plan.md`.
    pub name: String,
    pub title: Text,
    pub sections: Vec<Section>,
    pub sha256: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Section {
    /// 2 for `##`, and so on.
    pub depth: usize,
    pub title: Text,
    pub body: Text,
}

const BOUNDARY: &str = "<!-- zh -->";

impl Document {
    #[implements("RR-001")]
    pub fn parse(name: &str, text: &str) -> Result<Self, Failure> {
        let mut title = None;
        let mut sections: Vec<Section> = Vec::new();
        let mut chinese = false;
        let mut fenced = false;
        for (number, line) in text.lines().enumerate() {
            let wrong =
                |message: &str| fail("document", format!("regulatory/plans/{name}.md, line {}: {message}", number + 1));
            fenced ^= line.trim_start().starts_with("```");
            let depth = if fenced { 0 } else { line.bytes().take_while(|b| *b == b'#').count() };
            if depth > 0 {
                let Some((en, zh)) = line[depth..].split_once(" / ") else {
                    return wrong("a heading holds both titles: `## English / 中文`");
                };
                let heading = Text { zh: zh.trim().to_owned(), en: en.trim().to_owned() };
                chinese = false;
                match (depth, &title) {
                    (1, None) => title = Some(heading),
                    (1, Some(_)) => return wrong("a document has one title"),
                    (_, None) => return wrong("a document begins with its title, `# English / 中文`"),
                    _ => sections.push(Section {
                        depth,
                        title: heading,
                        body: Text { zh: String::new(), en: String::new() },
                    }),
                }
            } else if line.trim() == BOUNDARY {
                if chinese || sections.is_empty() {
                    return wrong("`<!-- zh -->` stands once in a section, after its English text");
                }
                chinese = true;
            } else if let Some(section) = sections.last_mut() {
                let body = if chinese { &mut section.body.zh } else { &mut section.body.en };
                body.push_str(line.trim_end());
                body.push('\n');
            } else if !line.trim().is_empty() {
                return wrong("text belongs under a section's heading, `## English / 中文`");
            }
        }
        let Some(title) = title else {
            return fail("document", format!("regulatory/plans/{name}.md, line 1: no title, `# English / 中文`"));
        };
        for section in &mut sections {
            section.body.en = section.body.en.trim().to_owned();
            section.body.zh = section.body.zh.trim().to_owned();
        }
        Ok(Self { name: name.to_owned(), title, sections, sha256: super::sha256(text.as_bytes()) })
    }

    /// One language as Markdown.
    pub fn markdown(&self, pick: fn(&Text) -> &str) -> String {
        let mut out = format!("# {}\n", pick(&self.title));
        for section in &self.sections {
            out.push_str(&format!(
                "\n{} {}\n\n{}\n",
                "#".repeat(section.depth),
                pick(&section.title),
                pick(&section.body)
            ));
        }
        out
    }

    /// Titles of sections whose languages do not match: one is missing, or they list different numbers of things.
    pub fn untranslated(&self) -> Vec<&str> {
        let listed = |text: &str| {
            let lines = || text.lines().map(str::trim_start);
            let items = lines().filter(|l| l.starts_with("- ") || l.starts_with("* ")).count();
            let numbered = lines().filter(|l| l.split_once(". ").is_some_and(|(n, _)| n.parse::<u8>().is_ok())).count();
            (items, numbered, lines().filter(|l| l.starts_with('|')).count())
        };
        let differs = |text: &Text| text.zh.is_empty() != text.en.is_empty() || listed(&text.zh) != listed(&text.en);
        self.sections.iter().filter(|s| differs(&s.body)).map(|s| s.title.en.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    const PLAN: &str = "# Plan / 计划\n\n## Scope / 范围\nOne.\n- a\n\n<!-- zh -->\n一。\n- 甲\n\n### Part / 部分\nTwo.\n\n<!-- zh -->\n二。\n";

    #[verifies("RR-001")]
    #[test]
    fn one_source_gives_both_languages() {
        let plan = Document::parse("plan", PLAN).unwrap();
        assert_eq!(plan.markdown(|t| &t.en), "# Plan\n\n## Scope\n\nOne.\n- a\n\n### Part\n\nTwo.\n");
        assert_eq!(plan.markdown(|t| &t.zh), "# 计划\n\n## 范围\n\n一。\n- 甲\n\n### 部分\n\n二。\n");
        assert!(plan.untranslated().is_empty());
    }

    #[verifies("RR-001")]
    #[test]
    fn a_section_in_one_language_or_with_other_lists_shows() {
        let one = Document::parse("plan", &PLAN.replace("二。\n", "")).unwrap();
        assert_eq!(one.untranslated(), ["Part"]);
        let other = Document::parse("plan", &PLAN.replace("- 甲\n", "")).unwrap();
        assert_eq!(other.untranslated(), ["Scope"]);
    }

    #[verifies("RR-001")]
    #[test]
    fn a_malformed_document_is_an_error_with_its_line() {
        let message = |text: &str| Document::parse("plan", text).unwrap_err().message;
        assert!(message("").contains("line 1: no title"));
        assert!(
            message(&PLAN.replace(" / 范围", "")).starts_with("regulatory/plans/plan.md, line 3: a heading holds both")
        );
        assert!(message(&PLAN.replacen("One.", "<!-- zh -->", 1)).contains("line 7: `<!-- zh -->` stands once"));
        assert!(message(&PLAN.replacen("\n\n## Scope", "\nlost\n\n## Scope", 1)).contains("line 2: text belongs"));
    }
}
