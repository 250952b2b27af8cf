//! Reading one file: every error names the file, the line and, for a misspelt word, the nearest valid one.
use crate::failure::Failure;
use lungai_trace::implements;
use serde::de::DeserializeOwned;
use std::path::Path;

/// A file of `regulatory/` as it was read. `name` is relative to that folder, with `/`.
#[derive(Debug, Clone)]
pub struct Source {
    pub name: String,
    pub text: String,
}

impl Source {
    pub fn read(folder: &Path, name: &str) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(folder.join(name))
            .map_err(|error| Failure::new("unreadable", format!("regulatory/{name}: {error}")))?;
        Ok(Self { name: name.to_owned(), text })
    }

    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let wrong = |error: serde_yaml::Error| {
            let message = error.to_string();
            let end = message.rfind(" at line ").unwrap_or(message.len());
            let line = line_of_error(&self.text, error.location().map_or(1, |at| at.line()), &message);
            let hint = nearest_key(&message).map(|key| format!("; did you mean `{key}`?")).unwrap_or_default();
            self.wrong("malformed-yaml", line, &format!("{}{hint}", &message[..end]))
        };
        let value = serde_yaml::from_str(&self.text).map_err(wrong)?;
        let all: serde_yaml::Value = serde_yaml::from_str(&self.text).map_err(wrong)?;
        match blank(&all, "") {
            None => Ok(value),
            Some(place) => {
                let line = self.text.lines().position(holds_blank).map_or(1, |at| at + 1);
                Err(self.wrong(
                    "text-blank",
                    line,
                    &format!("`{place}` says nothing; what is absent is `null` or left out"),
                ))
            }
        }
    }

    /// An error that blames the first line holding this value.
    pub fn blame(&self, rule: &'static str, value: &str, message: &str) -> Failure {
        let is_word = |line: &str| {
            line.match_indices(value).any(|(at, _)| {
                let part = |c: char| c.is_alphanumeric() || c == '-' || c == '.' || c == '_';
                let before = line[..at].chars().next_back().is_none_or(|c| !part(c));
                before && line[at + value.len()..].chars().next().is_none_or(|c| !part(c))
            })
        };
        let line = self.text.lines().position(|line| !line.trim_start().starts_with('#') && is_word(line));
        self.wrong(rule, line.map_or(1, |at| at + 1), message)
    }

    #[implements("RR-001")]
    fn wrong(&self, rule: &'static str, line: usize, message: &str) -> Failure {
        Failure::new(rule, format!("regulatory/{}, line {line}: {message}", self.name))
    }
}

/// Where in a file the first text without a visible letter stands, such as `criteria[0].where`.
fn blank(value: &serde_yaml::Value, place: &str) -> Option<String> {
    use serde_yaml::Value;
    match value {
        Value::String(text) => is_blank(text).then(|| place.to_owned()),
        Value::Sequence(values) => {
            values.iter().enumerate().find_map(|(i, value)| blank(value, &format!("{place}[{i}]")))
        }
        Value::Mapping(fields) => fields.iter().find_map(|(key, value)| {
            let dot = if place.is_empty() { "" } else { "." };
            blank(value, &format!("{place}{dot}{}", key.as_str().unwrap_or_default()))
        }),
        _ => None,
    }
}

fn is_blank(text: &str) -> bool {
    let invisible = |c: char| matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}');
    text.chars().all(|c| c.is_whitespace() || c.is_control() || invisible(c))
}

/// Whether a line of YAML has quotes with nothing between them.
fn holds_blank(line: &str) -> bool {
    ['"', '\'']
        .iter()
        .any(|quote| line.split(*quote).skip(1).step_by(2).any(is_blank) && line.matches(*quote).count() > 1)
}

/// The parser places an unknown key at the beginning of its map; its own line is further down.
fn line_of_error(text: &str, start: usize, message: &str) -> usize {
    let unknown = message.split("unknown field `").nth(1).and_then(|rest| rest.split('`').next());
    let is_it = |line: &str, key: &str| {
        line.match_indices(key).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            before.is_none_or(|c| matches!(c, ' ' | '{' | ',')) && line[at + key.len()..].trim_start().starts_with(':')
        })
    };
    let below = unknown.and_then(|key| text.lines().skip(start.max(1) - 1).position(|line| is_it(line, key)));
    start.max(1) + below.unwrap_or(0)
}

/// From serde's "unknown field `x`, expected one of `a`, `b`": the name that takes the fewest edits.
fn nearest_key(message: &str) -> Option<&str> {
    let start =
        ["unknown field `", "unknown variant `"].iter().find_map(|lead| Some(message.find(lead)? + lead.len()))?;
    let mut quoted = message[start..].split('`');
    let wrong = quoted.next()?;
    // Odd pieces lie between backticks.
    let known = quoted.skip(1).step_by(2).map(|key| (edits(wrong, key), key)).min();
    known.filter(|(n, key)| 2 * n <= key.len().max(3)).map(|(_, key)| key)
}

/// The up to three known words that are most like an unknown one.
pub fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.collect();
    known.sort_by_key(|candidate| (edits(wrong, candidate), *candidate));
    known.dedup();
    known.truncate(3);
    known.join(", ")
}

/// Levenshtein distance over bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let next = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regulatory::{Criterion, Text};
    use lungai_trace::verifies;

    #[verifies("RR-001")]
    #[test]
    fn an_error_names_file_line_and_nearest_key() {
        let source = |text: &str| Source { name: "x.yaml".to_owned(), text: text.to_owned() };
        let error = source("zh: \"a\"\nen: \"b\"\nzhh: \"c\"\n").parse::<Text>().unwrap_err();
        assert_eq!(
            error.message,
            "regulatory/x.yaml, line 3: unknown field `zhh`, expected `zh` or `en`; did you mean `zh`?"
        );
        let error = source("- id: A.1\n  metric: m\n  where: w\n  op: \">=\"\n  limit: 1\n  on: ci_low\n")
            .parse::<Vec<Criterion>>()
            .unwrap_err();
        assert!(error.message.starts_with("regulatory/x.yaml, line 6: "), "{}", error.message);
        assert!(error.message.ends_with("did you mean `ci_lower`?"), "{}", error.message);
        let error = source("{ zh: a, en: b, colour: c }").parse::<Text>().unwrap_err();
        assert!(error.message.ends_with("expected `zh` or `en`"), "a word like no key has no suggestion: {error}");
    }

    #[verifies("RR-001")]
    #[test]
    fn a_reference_that_leads_nowhere_is_blamed_on_its_line() {
        let source = Source { name: "x.yaml".to_owned(), text: "# R-1\nid: R-10\nrisks: [R-1]\n".to_owned() };
        assert_eq!(source.blame("unknown-id", "R-1", "no").message, "regulatory/x.yaml, line 3: no");
    }
}
