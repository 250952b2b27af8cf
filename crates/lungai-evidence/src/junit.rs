//! What the test runner said, from its JUnit XML. The only source of verdicts.
use crate::failure::{Failure, fail};
use lungai_trace::implements;
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Passed,
    Failed,
    Skipped,
}

/// One test as the runner names it.
#[derive(Debug, Clone)]
pub struct Case {
    /// The executable's id.
    pub suite: String,
    pub name: String,
    pub verdict: Verdict,
    /// Passed only after an attempt that failed.
    pub flaky: bool,
    /// Reasons after `not evidenced here:` in the captured output.
    pub not_evidenced: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Report {
    /// Of the run, which the records of its tests carry too; none where the runner is not cargo-nextest.
    pub run: Option<String>,
    pub cases: Vec<Case>,
}

/// Tests are looked up by suite and name: the suite is the executable's id as cargo-nextest writes it, such as `lungai-dicom`,
/// `lungai-dicom::hostile` or `lungai-cli::bin/lungai`, and the name what libtest prints, such as `pixels::tests::x`.
#[implements("RR-001")]
pub fn parse(text: &str) -> Result<Report, Failure> {
    let root = parse_xml(text)?;
    if root.name != "testsuites" && root.name != "testsuite" {
        return fail("junit-malformed", format!("the JUnit file begins with <{}>, not with <testsuites>", root.name));
    }
    let mut cases = Vec::new();
    collect(&root, "", &mut cases);
    let run = Some(root.attribute("uuid")).filter(|id| !id.is_empty()).map(str::to_owned);
    Ok(Report { run, cases })
}

fn collect(element: &Element, suite: &str, cases: &mut Vec<Case>) {
    let suite = if element.name == "testsuite" { element.attribute("name") } else { suite };
    for child in &element.children {
        if child.name == "testcase" {
            cases.push(case(child, suite));
        } else if child.name == "testsuite" {
            collect(child, suite, cases);
        }
    }
}

fn case(element: &Element, suite: &str) -> Case {
    let has = |names: &[&str]| element.children.iter().any(|child| names.contains(&child.name.as_str()));
    let verdict = if has(&["failure", "error"]) {
        Verdict::Failed
    } else if has(&["skipped"]) || element.attribute("status") == "ignored" {
        Verdict::Skipped
    } else {
        Verdict::Passed
    };
    let output = element.children.iter().filter(|c| c.name == "system-out" || c.name == "system-err");
    let not_evidenced = output
        .flat_map(|child| child.text.lines())
        .filter_map(|line| Some(line.split_once("not evidenced here:")?.1.trim().to_owned()))
        .collect();
    Case {
        suite: suite.to_owned(),
        name: element.attribute("name").to_owned(),
        verdict,
        flaky: verdict == Verdict::Passed && has(&["flakyFailure", "flakyError"]),
        not_evidenced,
    }
}

#[derive(Debug, Default)]
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    children: Vec<Element>,
    text: String,
}

impl Element {
    fn attribute(&self, name: &str) -> &str {
        self.attributes.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// The part of XML that JUnit files use: no document type, no external entity.
fn parse_xml(text: &str) -> Result<Element, Failure> {
    let wrong = |what: &str| Failure::new("junit-malformed", format!("the JUnit file is not well-formed: {what}"));
    let mut open: Vec<Element> = vec![Element::default()]; // the first stands for the document
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let (before, tag) = rest.split_at(at);
        let top = open.last_mut().ok_or_else(|| wrong("too many closing tags"))?;
        top.text.push_str(&unescape(before));
        rest = if let Some(tag) = tag.strip_prefix("<?") {
            after(tag, "?>").ok_or_else(|| wrong("a declaration does not end"))?
        } else if let Some(tag) = tag.strip_prefix("<!--") {
            after(tag, "-->").ok_or_else(|| wrong("a comment does not end"))?
        } else if let Some(tag) = tag.strip_prefix("<![CDATA[") {
            let end = tag.find("]]>").ok_or_else(|| wrong("a CDATA section does not end"))?;
            top.text.push_str(&tag[..end]);
            &tag[end + 3..]
        } else if tag.starts_with("<!") {
            return Err(wrong("a document type is not expected"));
        } else if let Some(tag) = tag.strip_prefix("</") {
            let end = tag.find('>').ok_or_else(|| wrong("a closing tag does not end"))?;
            let closed = open.pop().ok_or_else(|| wrong("too many closing tags"))?;
            if closed.name != tag[..end].trim() {
                return Err(wrong(&format!("</{}> closes <{}>", tag[..end].trim(), closed.name)));
            }
            open.last_mut().ok_or_else(|| wrong("too many closing tags"))?.children.push(closed);
            &tag[end + 1..]
        } else {
            let (element, is_empty, rest) = opening_tag(&tag[1..]).ok_or_else(|| wrong("a tag is broken"))?;
            if is_empty {
                top.children.push(element);
            } else {
                open.push(element);
            }
            rest
        };
    }
    if open.len() != 1 {
        return Err(wrong(&format!("<{}> is not closed", open.last().map_or("", |e| &e.name))));
    }
    let root = open.pop().and_then(|mut document| document.children.pop());
    root.ok_or_else(|| wrong("it holds no element"))
}

fn after<'a>(text: &'a str, end: &str) -> Option<&'a str> {
    Some(&text[text.find(end)? + end.len()..])
}

/// The element, whether it is closed at once, and what follows.
fn opening_tag(text: &str) -> Option<(Element, bool, &str)> {
    let name_end = text.find(|c: char| c.is_whitespace() || c == '/' || c == '>')?;
    let mut element = Element { name: text[..name_end].to_owned(), ..Element::default() };
    let mut rest = text[name_end..].trim_start();
    loop {
        if let Some(rest) = rest.strip_prefix("/>") {
            return Some((element, true, rest));
        }
        if let Some(rest) = rest.strip_prefix('>') {
            return Some((element, false, rest));
        }
        let (key, value) = rest.split_once('=')?;
        let value = value.trim_start();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (value, follows) = value[1..].split_once(quote)?;
        element.attributes.push((key.trim().to_owned(), unescape(value)));
        rest = follows.trim_start();
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some((entity, follows)) = rest.split_once(';') else {
            out.push('&');
            continue;
        };
        let code = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
        let c = match entity {
            "lt" => Some('<'),
            "gt" => Some('>'),
            "amp" => Some('&'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => entity.strip_prefix("#x").map_or_else(
                || entity.strip_prefix('#').and_then(|digits| code(digits, 10)),
                |digits| code(digits, 16),
            ),
        };
        match c {
            Some(c) => {
                out.push(c);
                rest = follows;
            }
            None => out.push('&'),
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    /// In the form that cargo-nextest writes.
    const REPORT: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="4" failures="1" errors="0" uuid="5d9f" time="0.1">
  <testsuite name="lungai-metrics" tests="3" disabled="0" errors="0" failures="1">
    <testcase name="froc::tests::ties" classname="lungai-metrics" time="0.005"></testcase>
    <testcase name="froc::tests::a &lt; b &amp; &#x80ba;" classname="lungai-metrics" time="0.1">
      <failure message="thread &apos;x&apos; panicked" type="test failure">text <![CDATA[ </testcase> ]]></failure>
    </testcase>
    <testcase name="roc" classname='lungai-metrics'><skipped/></testcase>
  </testsuite>
  <!-- one suite per binary -->
  <testsuite name="lungai-dicom::real">
    <testcase name="reads" classname="lungai-dicom::real"><flakyFailure/><system-err>not evidenced here: reference data absent
</system-err></testcase>
  </testsuite>
</testsuites>"#;

    #[verifies("RR-001", "SW-1101")]
    #[test]
    fn verdicts_names_and_notes_are_read() {
        let Report { run, cases } = parse(REPORT).unwrap();
        assert_eq!(run.as_deref(), Some("5d9f"));
        let verdicts: Vec<Verdict> = cases.iter().map(|case| case.verdict).collect();
        assert_eq!(verdicts, [Verdict::Passed, Verdict::Failed, Verdict::Skipped, Verdict::Passed]);
        assert_eq!(cases[1].name, "froc::tests::a < b & 肺");
        assert_eq!((cases[3].suite.as_str(), cases[3].flaky), ("lungai-dicom::real", true));
        assert_eq!(cases[3].not_evidenced, ["reference data absent"]);
    }

    #[verifies("RR-001")]
    #[test]
    fn a_cut_report_is_an_error_at_every_place() {
        for end in (20..REPORT.len() - 1).filter(|end| REPORT.is_char_boundary(*end)) {
            let error = parse(&REPORT[..end]).expect_err("a part of a report is no report");
            assert_eq!(error.rule, "junit-malformed");
        }
    }

    #[verifies("RR-001")]
    #[test]
    fn a_document_type_is_refused() {
        assert!(parse("<!DOCTYPE x [<!ENTITY a SYSTEM \"/etc/passwd\">]><testsuites/>").is_err());
    }
}
