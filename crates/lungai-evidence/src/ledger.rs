//! The ledger: one line for each package that was built, holding the SHA-256 of the line before it. Cut, edited or reordered, the chain
//! breaks; cut at its end, it no longer ends with the package that it lies in.
use crate::failure::Failure;
use crate::regulatory::sha256;
use lungai_trace::implements;
use serde::{Deserialize, Serialize};
use std::path::Path;

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Counted from 1.
    pub number: usize,
    /// SHA-256 of the line before, without its line end; 64 zeros for the first.
    pub previous: String,
    pub product: String,
    pub version: String,
    pub commit: String,
    /// Committer date.
    pub date: String,
    pub root_hash: String,
}

/// Every line of an unbroken chain.
#[implements("RR-001", "SW-1103")]
pub fn parse(text: &str) -> Result<Vec<Entry>, Failure> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut previous = "0".repeat(64);
    if !text.is_empty() && !text.ends_with('\n') {
        return Err(Failure::integrity("ledger", "ledger.jsonl: its last line is cut".to_owned()));
    }
    for (i, line) in text.lines().enumerate() {
        let broken = |what: &str| Failure::integrity("ledger", format!("ledger.jsonl, line {}: {what}", i + 1));
        let entry: Entry = serde_json::from_str(line).map_err(|_| broken("truncated or altered"))?;
        if entry.number != i + 1 || entry.previous != previous {
            return Err(broken("does not follow from the line before"));
        }
        previous = sha256(line.as_bytes());
        entries.push(entry);
    }
    Ok(entries)
}

/// The ledger with one more line; unchanged where its last line is of the same package already.
pub fn append(text: &str, mut entry: Entry) -> Result<String, Failure> {
    let entries = parse(text)?;
    if entries.last().is_some_and(|last| last.root_hash == entry.root_hash) {
        return Ok(text.to_owned());
    }
    entry.number = entries.len() + 1;
    entry.previous = text.lines().last().map_or_else(|| "0".repeat(64), |line| sha256(line.as_bytes()));
    let line = serde_json::to_string(&entry).map_err(|error| Failure::new("unwritable", error.to_string()))?;
    Ok(format!("{text}{line}\n"))
}

/// A ledger file; empty where there is none yet.
pub fn read(file: &Path) -> Result<String, Failure> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Failure::new("unreadable", format!("the ledger: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    fn ledger(n: usize) -> String {
        let entry = |i: usize| Entry {
            number: 0,
            previous: String::new(),
            product: "demo".to_owned(),
            version: "1".to_owned(),
            commit: "c".to_owned(),
            date: "2026-11-24".to_owned(),
            root_hash: format!("{i:064}"),
        };
        (0..n).fold(String::new(), |text, i| append(&text, entry(i)).unwrap())
    }

    #[verifies("RR-001", "SW-1103")]
    #[test]
    fn a_chain_is_broken_by_any_cut_edit_or_exchange_but_the_last_line_left_out() {
        let text = ledger(4);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(parse(&text).unwrap().len(), 4);
        let join = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        assert!(parse(&join(&lines[1..])).is_err(), "the first line is gone");
        assert!(parse(&join(&[lines[0], lines[2], lines[1], lines[3]])).is_err(), "two lines are exchanged");
        assert!(parse(&join(&[lines[0], lines[2], lines[3]])).is_err(), "a line is gone");
        assert!(parse(&text.replacen("demo", "demq", 1)).is_err(), "a line is edited");
        assert!(parse(&text[..text.len() - 9]).is_err(), "the last line is cut");
        assert_eq!(append(&text, parse(&text).unwrap().pop().unwrap()).unwrap(), text, "the same package again");
    }
}
