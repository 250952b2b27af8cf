//! `regulatory/trace.lock`: one reviewed link a line, sorted, so that two people's reviews merge like any text.
use super::{Drawn, Ends, Key};
use crate::failure::{Failure, fail};
use crate::regulatory::nearest;
use lungai_trace::implements;
use std::collections::BTreeMap;
use std::path::Path;

const HEAD: &str = "# Links of the trace as people reviewed them: kind, from, to, SHA-256 of both ends, reviewer, date.\n\
                    # Written by `cargo xtask evidence review`; an end that changes makes its links suspect.\n";

#[derive(Debug, Default, Clone)]
pub struct Lock {
    pub entries: BTreeMap<Key, Reviewed>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reviewed {
    pub from: String,
    pub to: String,
    pub reviewer: String,
    pub date: String,
}

impl Lock {
    /// The lock of a `regulatory` folder; empty where nobody has reviewed anything.
    pub fn read(regulatory: &Path) -> Result<Self, Failure> {
        match std::fs::read_to_string(regulatory.join("trace.lock")) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => fail("unreadable", format!("regulatory/trace.lock: {error}")),
        }
    }

    #[implements("RR-001", "SW-1105")]
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let mut lock = Self::default();
        for (number, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.is_empty() {
                continue;
            }
            let wrong = |what: &str| fail("trace-lock", format!("regulatory/trace.lock, line {}: {what}", number + 1));
            let cells: Vec<&str> = line.split('\t').collect();
            let [kind, from, to, from_sha256, to_sha256, reviewer, date] = cells[..] else {
                return wrong("seven cells with tabs between them are expected; write it with `evidence review`");
            };
            let is_hash = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
            if !is_hash(from_sha256) || !is_hash(to_sha256) || reviewer.trim().is_empty() {
                return wrong("two SHA-256 and the name of a reviewer are expected");
            }
            let key = Key { kind: kind.to_owned(), from: from.to_owned(), to: to.to_owned() };
            let reviewed = Reviewed {
                from: from_sha256.to_owned(),
                to: to_sha256.to_owned(),
                reviewer: reviewer.to_owned(),
                date: date.to_owned(),
            };
            if lock.entries.insert(key, reviewed).is_some() {
                return wrong("this link stands twice");
            }
        }
        Ok(lock)
    }

    pub fn text(&self) -> String {
        let lines = self.entries.iter().map(|(key, r)| {
            [&key.kind, &key.from, &key.to, &r.from, &r.to, &r.reviewer, &r.date].map(String::as_str).join("\t") + "\n"
        });
        HEAD.to_owned() + &lines.collect::<String>()
    }

    /// Through a file beside it, so that a crash leaves the old lock or the new one.
    pub fn write(&self, regulatory: &Path) -> Result<(), Failure> {
        let unwritable = |error: std::io::Error| Failure::new("unwritable", format!("regulatory/trace.lock: {error}"));
        let beside = regulatory.join("trace.lock.new");
        std::fs::write(&beside, self.text()).map_err(unwritable)?;
        std::fs::rename(beside, regulatory.join("trace.lock")).map_err(unwritable)
    }

    /// Notes that `reviewer` has looked at the links at these items, or at all; returns the links that this clears and those that are
    /// dropped because they are gone.
    #[implements("SW-1105")]
    pub fn review(
        &mut self,
        drawn: &Drawn,
        items: &[String],
        reviewer: &str,
        date: &str,
    ) -> Result<(Vec<Key>, Vec<Key>), Failure> {
        let reviewer = reviewer.trim();
        if reviewer.is_empty() || reviewer.contains(['\t', '\n']) {
            return fail("reviewer", "a review needs the name of the person who did it (--reviewer)".to_owned());
        }
        let at =
            |key: &Key, claims: &[String], item: &String| key.from == *item || key.to == *item || claims.contains(item);
        let known = || drawn.links.iter().map(|(key, (_, claims))| (key, claims.as_slice()));
        for item in items {
            let gone = self.entries.keys().any(|key| at(key, &[], item));
            if !gone && !known().any(|(key, claims)| at(key, claims, item)) {
                let ends = known().flat_map(|(key, _)| [key.from.as_str(), key.to.as_str()]);
                return fail("unknown-id", format!("no link at `{item}`; nearest: {}", nearest(item, ends)));
            }
        }
        let wanted = |key: &Key, claims: &[String]| items.is_empty() || items.iter().any(|item| at(key, claims, item));
        let mut cleared = Vec::new();
        for (key, (Ends { from, to }, _)) in drawn.links.iter().filter(|(key, (_, claims))| wanted(key, claims)) {
            let current = self.entries.get(key).is_some_and(|known| known.from == *from && known.to == *to);
            if !current {
                let reviewed = Reviewed {
                    from: from.clone(),
                    to: to.clone(),
                    reviewer: reviewer.to_owned(),
                    date: date.to_owned(),
                };
                self.entries.insert(key.clone(), reviewed);
                cleared.push(key.clone());
            }
        }
        let gone = |key: &Key| drawn.is_gone(key) && wanted(key, &[]);
        let dropped: Vec<Key> = self.entries.keys().filter(|key| gone(key)).cloned().collect();
        self.entries.retain(|key, _| !dropped.contains(key));
        Ok((cleared, dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    fn line(reviewer: &str) -> String {
        format!("verifies\tdemo tests::a\tFR-001\t{}\t{}\t{reviewer}\t2026-11-24\n", "a".repeat(64), "b".repeat(64))
    }

    #[verifies("RR-001", "SW-1105")]
    #[test]
    fn what_is_written_is_read_back_and_a_damaged_line_is_named() {
        let lock = Lock::parse(&line("A. Person")).unwrap();
        assert_eq!(Lock::parse(&lock.text()).unwrap().entries, lock.entries);
        let message = |text: &str| Lock::parse(text).unwrap_err().message;
        assert!(message("# head\n<<<<<<< ours\n").starts_with("regulatory/trace.lock, line 2: seven cells"));
        assert!(message(&line(" ")).contains("line 1: two SHA-256 and the name"));
        assert!(message(&(line("A") + &line("B"))).contains("line 2: this link stands twice"));
    }
}
