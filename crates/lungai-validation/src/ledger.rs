//! The ledger of a locked protocol: one line for its lock and one for each time the test set was opened or a result came
//! of it. Every line holds its own SHA-256 and that of the line before: cut out, edited or exchanged, the chain breaks.
//! Cut at its end it does not; so every result names the line that it came of ([`Position`]).

use crate::analysis::hash;
use crate::failure::{Failure, file_name, io};
use chrono::{DateTime, SecondsFormat, Utc};
use lungai_datasets::sha256;
use lungai_trace::implements;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The protocol was locked: the first line.
    Locked {
        /// Name and version.
        protocol: String,
        /// SHA-256 of what it says ([`crate::lock::canonical`]).
        protocol_sha256: String,
        /// Fingerprint of the data set that it is for.
        data_fingerprint: String,
        /// SHA-256 of each table beside the data set that the protocol names: covariates and readings.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        tables: BTreeMap<String, String>,
        /// Name of the ledger's file: under another name it is a copy.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        ledger: String,
    },
    /// The test set was opened.
    Opened {
        /// SHA-256 of what the protocol says.
        protocol_sha256: String,
        /// What made the predictions: name and version.
        system: String,
        /// SHA-256 that pins it: of a frozen model, or of a file of predictions.
        system_sha256: String,
        /// Fingerprint of the data set.
        data_fingerprint: String,
        /// `images`, `reference` or both, and which part.
        what: String,
        /// Why, as whoever opened it says.
        purpose: String,
    },
    /// Something came of an opening.
    Concluded {
        /// Number of the line that says `opened`.
        opened: u64,
        /// `predictions` or `results`.
        what: String,
        /// SHA-256 of predictions or of `results.json`.
        sha256: String,
    },
}

/// One line, without its hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Counted from 1.
    pub number: u64,
    /// Hash of the line before; 64 zeros for the first.
    pub previous: String,
    /// UTC, to the second.
    pub when: String,
    /// Who did it, as the command was told or the system says.
    pub who: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// A line by number and hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Counted from 1.
    pub number: u64,
    /// Its hash.
    pub hash: String,
}

/// A ledger that was read and whose chain is whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Ledger {
    /// In order, each with its hash.
    pub entries: Vec<(Entry, String)>,
}

/// What a lock holds fast.
#[derive(Debug, Clone, Copy)]
pub struct Locked<'a> {
    /// SHA-256 of what the protocol says.
    pub protocol_sha256: &'a str,
    /// Fingerprint of its data set.
    pub data_fingerprint: &'a str,
    /// SHA-256 of the tables beside it.
    pub tables: &'a BTreeMap<String, String>,
    /// Name of the ledger's file; empty in ledgers that did not say.
    pub ledger: &'a str,
}

/// What came of an opening: a part of the predictions.
pub const PREDICTIONS: &str = "predictions";

const BEFORE_THE_FIRST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Where the ledger of a protocol lies: beside it, `NAME.ledger.jsonl` for `NAME.yaml`.
pub fn beside(protocol: &Path) -> PathBuf {
    protocol.with_extension("ledger.jsonl")
}

/// Reads a ledger; `None` where there is no file.
///
/// # Errors
/// `ledger-tampered` (exit code 4) names the first line that is not as it was written.
pub fn read(path: &Path) -> Result<Option<Ledger>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, &text).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io(path)(error)),
    }
}

#[implements("SW-1102", "RR-001")]
fn parse(path: &Path, text: &str) -> Result<Ledger, Failure> {
    let name = file_name(path);
    let tampered =
        |line: usize, what: &str| Failure::integrity("ledger-tampered", format!("{name}, line {line}: {what}"));
    let mut ledger = Ledger { entries: Vec::new() };
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    if lines.is_empty() {
        return Err(tampered(1, "the file is empty; a ledger begins with the lock"));
    }
    for (at, line) in lines.into_iter().enumerate() {
        let number = at + 1;
        let cut = || tampered(number, "the line is cut");
        let line = line.strip_suffix('\n').ok_or_else(cut)?;
        let (entry, hash) = open(line).ok_or_else(|| tampered(number, "the line is not what its hash says"))?;
        if entry.number != number as u64 || entry.previous != ledger.hash() {
            return Err(tampered(number, "the line does not follow from the one before"));
        }
        if (number == 1) != matches!(entry.event, Event::Locked { .. }) {
            return Err(tampered(number, "the lock is the first line, and only that"));
        }
        ledger.entries.push((entry, hash));
    }
    Ok(ledger)
}

/// The text of a line: the entry, and the hash of all that stands before it.
fn seal(entry: &Entry) -> (String, String) {
    let text = serde_json::to_string(entry).expect("plain data");
    let open = text.strip_suffix('}').expect("an object");
    let hash = sha256(open.as_bytes());
    (format!("{open},\"hash\":\"{hash}\"}}"), hash)
}

/// The inverse of [`seal`]; `None` where a byte is another one.
fn open(line: &str) -> Option<(Entry, String)> {
    let (body, rest) = line.rsplit_once(",\"hash\":\"")?;
    let hash = rest.strip_suffix("\"}")?;
    let entry: Entry = serde_json::from_str(&format!("{body}}}")).ok()?;
    (seal(&entry).0 == line).then(|| (entry, hash.to_owned()))
}

impl Ledger {
    /// Hash of the last line; that before the first where there is none.
    pub fn hash(&self) -> &str {
        self.entries.last().map_or(BEFORE_THE_FIRST, |(_, hash)| hash)
    }

    /// What was locked.
    pub fn lock(&self) -> Locked<'_> {
        match self.entries.first().map(|(entry, _)| &entry.event) {
            Some(Event::Locked { protocol_sha256, data_fingerprint, tables, ledger, .. }) => {
                Locked { protocol_sha256, data_fingerprint, tables, ledger }
            }
            _ => unreachable!("the first line is the lock, or the ledger was not read"),
        }
    }

    /// Whether the ledger saw these predictions (the SHA-256 of a part's manifest) come of an opening for the system.
    pub fn saw_predictions(&self, manifest_sha256: &str, of_system: &str) -> bool {
        let opened_for = |number: u64| {
            let of = |(entry, _): &&(Entry, String)| entry.number == number;
            match self.entries.iter().find(of).map(|(entry, _)| &entry.event) {
                Some(Event::Opened { system_sha256, .. }) => system_sha256 == of_system,
                _ => false,
            }
        };
        self.entries.iter().any(|(entry, _)| match &entry.event {
            Event::Concluded { opened, what, sha256 } => {
                what == PREDICTIONS && sha256 == manifest_sha256 && opened_for(*opened)
            }
            _ => false,
        })
    }

    /// Checks that results came of an opening that the ledger tells of, are the ones that it saw, and lie beside the very
    /// files that were written with them.
    ///
    /// # Errors
    /// `results-not-in-ledger`, or `tampered-results` names the file (exit code 4).
    pub fn vouch(&self, folder: &Path) -> Result<(), Failure> {
        let path = folder.join("results.json");
        let bytes = std::fs::read(&path).map_err(io(&path))?;
        let name = file_name(folder);
        let refuse =
            |what: &str| Err(Failure::integrity("results-not-in-ledger", format!("results in {name}: {what}")));
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(io(&path))?;
        let Ok(position) = serde_json::from_value::<Position>(value["standing"].clone()) else {
            return refuse("they are exploratory: no line tells of them");
        };
        if !self.holds(&position) {
            let number = position.number;
            return refuse(&format!("they came of line {number}, which the ledger does not hold as it was"));
        }
        let own = sha256(&bytes);
        let concluded = |entry: &Entry| matches!(&entry.event, Event::Concluded { opened, sha256, .. } if *opened == position.number && *sha256 == own);
        if !self.entries.iter().any(|(entry, _)| concluded(entry)) {
            return refuse("the ledger saw other results come of that opening, or none");
        }
        let files = value["files"].as_object().into_iter().flatten();
        for (file, declared) in files {
            let tampered =
                |what| Failure::integrity("tampered-results", format!("results in {name}: {file} {what} written"));
            let found = hash(&folder.join(file)).map_err(|_| tampered("is no longer there as it was"))?;
            if *declared != found {
                return Err(tampered("is not as it was"));
            }
        }
        Ok(())
    }

    /// Whether the ledger holds the line.
    fn holds(&self, position: &Position) -> bool {
        self.entries.iter().any(|(entry, hash)| entry.number == position.number && *hash == position.hash)
    }
}

impl Entry {
    /// For people.
    pub fn words(&self) -> String {
        let what = match &self.event {
            Event::Locked { protocol, protocol_sha256, .. } => format!("locked {protocol} ({protocol_sha256:.16})"),
            Event::Opened { system, system_sha256, what, purpose, .. } => {
                format!("opened {what} for {system} ({system_sha256:.16}): {purpose}")
            }
            Event::Concluded { opened, what, sha256 } => format!("{what} of line {opened} ({sha256:.16})"),
        };
        format!("{:>3}  {}  {}  {what}\n", self.number, self.when, self.who)
    }
}

/// Appends a line, reading and checking the whole chain before. Programs that append at the same time wait for each other.
///
/// # Errors
/// `ledger-tampered`, `already-locked` where a first line is there already, or what the file system says.
pub fn append(path: &Path, who: &str, event: Event) -> Result<Position, Failure> {
    let lock = matches!(event, Event::Locked { .. });
    let mut file = File::options().create(lock).read(true).append(true).open(path).map_err(io(path))?;
    file.lock().map_err(io(path))?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(io(path))?;
    let ledger = match (text.is_empty(), lock) {
        (true, true) => Ledger { entries: Vec::new() },
        (false, true) => return Err(Failure::new("already-locked", "the ledger has a lock already")),
        (_, false) => parse(path, &text)?,
    };
    let entry = Entry {
        number: ledger.entries.len() as u64 + 1,
        previous: ledger.hash().to_owned(),
        when: utc(SystemTime::now()),
        who: who.to_owned(),
        event,
    };
    let (line, hash) = seal(&entry);
    if let Err(error) = file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.sync_all()) {
        // Half a line would be a ledger that somebody cut. Nobody can be told more where even this fails.
        _ = if text.is_empty() { std::fs::remove_file(path) } else { file.set_len(text.len() as u64) };
        return Err(io(path)(error));
    }
    Ok(Position { number: entry.number, hash })
}

/// `2026-11-30T12:00:00Z`.
fn utc(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;
    use std::time::{Duration, UNIX_EPOCH};

    fn opened(purpose: &str) -> Event {
        Event::Opened {
            protocol_sha256: "p".into(),
            system: "net 1".into(),
            system_sha256: "m".into(),
            data_fingerprint: "d".into(),
            what: "images and reference".into(),
            purpose: purpose.into(),
        }
    }

    /// Lock, two openings and a result.
    fn written(folder: &Path) -> PathBuf {
        let path = folder.join("p.ledger.jsonl");
        let lock = Event::Locked {
            protocol: "p 1".into(),
            protocol_sha256: "p".into(),
            data_fingerprint: "d".into(),
            tables: BTreeMap::from([("readings/r1.csv".into(), "t".into())]),
            ledger: "p.ledger.jsonl".into(),
        };
        append(&path, "ann", lock).unwrap();
        append(&path, "ann", opened("first look")).unwrap();
        let second = append(&path, "bob", opened("it said \"hash\":\"x\"}")).unwrap();
        let result = Event::Concluded { opened: second.number, what: "results".into(), sha256: "r".into() };
        append(&path, "bob", result).unwrap();
        path
    }

    fn check_tampered(text: &str, line: usize) {
        let failure = parse(Path::new("p.ledger.jsonl"), text).unwrap_err();
        assert_eq!((failure.exit, failure.rule.as_str()), (4, "ledger-tampered"), "{}", failure.message);
        assert!(failure.message.starts_with(&format!("p.ledger.jsonl, line {line}: ")), "{}", failure.message);
    }

    #[verifies("SW-1102", "RR-001")]
    #[test]
    fn every_cut_edit_and_exchange_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let text = std::fs::read_to_string(written(folder.path())).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let join = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        assert_eq!(parse(Path::new("l"), &text).unwrap().entries.len(), 4);
        check_tampered(&text.replacen("first look", "a later look", 1), 2);
        check_tampered(&text.replacen("bob", "eve", 1), 3);
        check_tampered(&join(&[lines[0], lines[2], lines[1], lines[3]]), 2);
        check_tampered(&join(&[lines[0], lines[1], lines[3]]), 3);
        check_tampered(&join(&lines[1..]), 1);
        check_tampered(&text[..text.len() - 9], 4);
        check_tampered(&text.replacen("\"number\":1", "\"number\": 1", 1), 1);
        check_tampered("", 1);
        // The last line too, though no other one follows it.
        check_tampered(&text.replacen("\"sha256\":\"r\"", "\"sha256\":\"s\"", 1), 4);
        // Somebody who makes an edited line's own hash anew breaks the next one.
        let (mut entry, _) = open(lines[1]).unwrap();
        entry.who = "eve".into();
        check_tampered(&join(&[lines[0], &seal(&entry).0, lines[2], lines[3]]), 3);
    }

    #[test]
    fn a_result_tells_whether_the_end_of_its_ledger_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path());
        let position = append(&path, "ann", opened("last")).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(parse(&path, &text).unwrap().holds(&position));
        let shorter: String = text.split_inclusive('\n').take(4).collect();
        assert!(!parse(&path, &shorter).unwrap().holds(&position));
    }

    #[verifies("SW-1102", "RR-001")]
    #[test]
    fn predictions_are_those_that_came_of_an_opening_for_their_model() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path());
        let conclude = |what: &str, sha256: &str| {
            append(&path, "ann", Event::Concluded { opened: 2, what: what.into(), sha256: sha256.into() }).unwrap()
        };
        conclude(PREDICTIONS, "s");
        conclude("results", "u");
        let ledger = read(&path).unwrap().unwrap();
        assert!(ledger.saw_predictions("s", "m"));
        assert!(!ledger.saw_predictions("other", "m") && !ledger.saw_predictions("u", "m"));
        assert!(!ledger.saw_predictions("s", "another model"));
    }

    #[test]
    fn shards_that_append_at_the_same_time_make_one_chain() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path());
        std::thread::scope(|scope| {
            for shard in 0..8 {
                let path = &path;
                scope.spawn(move || append(path, "node", opened(&format!("shard {shard}"))).unwrap());
            }
        });
        assert_eq!(read(&path).unwrap().unwrap().entries.len(), 12);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |seconds| utc(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z"); // date -d @951782400
        assert_eq!(at(1_796_042_096), "2026-11-30T12:34:56Z");
    }
}
