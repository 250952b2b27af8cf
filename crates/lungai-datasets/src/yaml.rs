//! Configuration files: every error names the file, the line and, for a misspelt key, the nearest valid one.

use crate::DatasetError;
use crate::error::name;
use crate::write::read_text;
use serde::de::DeserializeOwned;
use std::path::Path;

/// Reads a YAML file into a documented struct (`deny_unknown_fields`).
///
/// # Errors
/// [`DatasetError::Io`], or [`DatasetError::Config`] with line and nearest valid key.
pub fn read_yaml<T: DeserializeOwned>(path: &Path) -> Result<T, DatasetError> {
    parse(path, &read_text(path)?)
}

/// A rule that a file breaks: the key and the value by which its line is found, and the rule in words.
pub(crate) type Broken = (&'static str, String, String);

/// [`read_yaml`], then `check`.
pub(crate) fn read_checked<T: DeserializeOwned>(
    path: &Path,
    check: impl Fn(&T) -> Result<(), Broken>,
) -> Result<T, DatasetError> {
    let text = read_text(path)?;
    let read = parse(path, &text)?;
    check(&read).map_err(|(key, value, reason)| DatasetError::Config {
        file: name(path),
        line: line_of(&text, key, &value),
        reason,
    })?;
    Ok(read)
}

pub(crate) fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, DatasetError> {
    serde_yaml::from_str(text).map_err(|error| {
        let message = error.to_string();
        // The position is said once, at the front.
        let end = message.rfind(" at line ").unwrap_or(message.len());
        let hint = nearest_key(&message).map(|key| format!("; did you mean `{key}`?")).unwrap_or_default();
        DatasetError::Config {
            file: name(path),
            line: line_of_error(text, error.location().map_or(1, |at| at.line()), &message),
            reason: format!("{}{hint}", &message[..end]),
        }
    })
}

/// The parser places an unknown key at the beginning of its map; its own line is further down.
fn line_of_error(text: &str, start: usize, message: &str) -> usize {
    let unknown = message.split("unknown field `").nth(1).and_then(|rest| rest.split('`').next());
    let is_it = |line: &str, key: &str| {
        line.trim_start_matches(['-', ' ']).strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':'))
    };
    let below = unknown.and_then(|key| text.lines().skip(start - 1).position(|line| is_it(line, key)));
    start + below.unwrap_or(0)
}

/// From serde's "unknown field `x`, expected one of `a`, `b`": the name that takes the fewest edits.
fn nearest_key(message: &str) -> Option<&str> {
    let start =
        ["unknown field `", "unknown variant `"].iter().find_map(|lead| Some(message.find(lead)? + lead.len()))?;
    let mut quoted = message[start..].split('`');
    let wrong = quoted.next()?;
    // Odd pieces lie between backticks.
    nearest(wrong, quoted.skip(1).step_by(2))
}

/// The known name that takes the fewest edits, if it takes few.
pub(crate) fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known.map(|key| (edits(wrong, key), key)).min().filter(|(n, key)| 2 * n <= key.len().max(3)).map(|(_, key)| key)
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// The line, counted from 1, that holds `key: value`; 1 where none does.
pub(crate) fn line_of(text: &str, key: &str, value: &str) -> usize {
    let holds = |line: &str| {
        let line = line.trim_start_matches(['-', ' ']);
        line.strip_prefix(key)
            .and_then(|rest| rest.trim_start().strip_prefix(':'))
            .is_some_and(|rest| rest.split(" #").next().unwrap_or(rest).trim().trim_matches(['"', '\'']) == value)
    };
    text.lines().position(holds).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Example {
        spacing_mm: f64,
        centre: String,
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_line_and_the_nearest_valid_one() {
        let check = |text: &str, expected: &str| {
            let error = parse::<Example>(Path::new("/secret/place/x.yaml"), text).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check(
            "spacing_mm: 1\ncenter: a\n",
            "x.yaml, line 2: unknown field `center`, expected `spacing_mm` or `centre`; did you mean `centre`?",
        );
        check("spacing_mm: wide\n", "x.yaml, line 1: spacing_mm: invalid type: string \"wide\", expected f64");
        check(
            "spacing_mm: 1\ncentre: a\nflavour: b\n",
            "x.yaml, line 3: unknown field `flavour`, expected `spacing_mm` or `centre`",
        );
    }

    #[test]
    fn lines_are_found_by_key_and_value() {
        let text = "cases:\n- id: a-1\n  patient: p # id: a-2\n- id: \"a-2\"\n";
        assert_eq!(line_of(text, "id", "a-2"), 4);
        assert_eq!(line_of(text, "patient", "p"), 3);
    }
}
