//! The ledger of a locked validation protocol, as `lungai-validation` writes it: one line for the lock, for each time the test set was
//! opened and for what came of it. Each line holds its own SHA-256 and that of the line before. Here it is only read: whether it
//! vouches for results, and whether it tells of a look at the test set that the package keeps quiet about.
use crate::failure::Failure;
use crate::finding::{Finding, Severity};
use crate::regulatory::sha256;
use crate::results::{Standing, ValidationRun};
use lungai_trace::implements;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A line by number and hash.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Position {
    /// Counted from 1.
    pub number: u64,
    pub hash: String,
}

#[derive(Debug, Deserialize)]
struct Entry {
    number: u64,
    previous: String,
    when: String,
    who: String,
    #[serde(flatten)]
    event: Event,
    hash: String,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Event {
    Locked {
        protocol_sha256: String,
        data_fingerprint: String,
        /// Under which name it was begun; ledgers of old do not say.
        #[serde(default)]
        ledger: String,
    },
    Opened {
        protocol_sha256: String,
        system: String,
        system_sha256: String,
        data_fingerprint: String,
        what: String,
    },
    Concluded {
        opened: u64,
        what: String,
        sha256: String,
    },
}

/// A ledger whose chain is whole.
#[derive(Debug)]
pub struct ValidationLedger {
    name: String,
    entries: Vec<Entry>,
    pub bytes: Vec<u8>,
}

impl ValidationLedger {
    pub fn load(file: &Path) -> Result<Self, Failure> {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = std::fs::read(file)
            .map_err(|error| Failure::new("unreadable", format!("the validation ledger {name}: {error}")))?;
        let text = String::from_utf8_lossy(&bytes);
        let wrong = |line, what: &str| {
            Failure::integrity("validation-ledger", format!("the validation ledger {name}, line {line}: {what}"))
        };
        let entries = parse(&text).map_err(|(line, what)| wrong(line, what))?;
        if let Some(Entry { event: Event::Locked { ledger, .. }, .. }) = entries.first()
            && !ledger.is_empty()
            && *ledger != name
        {
            return Err(wrong(1, "was begun under another name: a copy does not tell of what the other one saw"));
        }
        Ok(Self { name, entries, bytes })
    }

    /// Openings of the test set whose results are not among the runs.
    pub fn left_out(&self, runs: &[ValidationRun]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for entry in &self.entries {
            let Event::Opened { system, what, .. } = &entry.event else { continue };
            let line = entry.number;
            let mut add = |rule, what_came: String| {
                let message =
                    format!("line {line}: {} opened {what} for {system} on {}, {what_came}", entry.who, entry.when);
                findings.push(Finding::new(Severity::Red, rule, &self.name, message));
            };
            let came = self.entries.iter().filter_map(|later| match &later.event {
                Event::Concluded { opened, what, sha256 } if *opened == line => Some((what.as_str(), sha256)),
                _ => None,
            });
            let came: Vec<_> = came.collect();
            if came.is_empty() {
                add("opening-without-result", "and nothing came of it".to_owned());
            }
            // Predictions are made without the reference: nobody has seen how good they are.
            let results = came.iter().filter(|(what, _)| *what != "predictions");
            for (_, hash) in results.filter(|(_, hash)| !runs.iter().any(|run| sha256(&run.bytes) == **hash)) {
                add("result-left-out", format!("and what came of it ({hash:.12}…) is not in this package"));
            }
        }
        findings
    }

    fn vouches(&self, run: &ValidationRun) -> Result<(), String> {
        let results = &run.results;
        let Standing::Locked { ledger, opened: position } = &results.standing else {
            return Err("is exploratory: no line tells of it".to_owned());
        };
        let found = self.entries.iter().find(|entry| entry.number == position.number && entry.hash == position.hash);
        let Some(Entry { event: Event::Opened { protocol_sha256, system_sha256, data_fingerprint, .. }, .. }) = found
        else {
            return Err(format!(
                "came of line {} of {ledger}, which no ledger given holds as an opening",
                position.number
            ));
        };
        let own = sha256(&run.bytes);
        let concluded = |entry: &Entry| {
            matches!(&entry.event, Event::Concluded { opened, what, sha256 }
                if *opened == position.number && what != "predictions" && *sha256 == own)
        };
        if !self.entries.iter().any(concluded) {
            return Err(format!("the ledger saw other results come of line {}, or none", position.number));
        }
        let protocol = results.protocol.as_ref().and_then(|protocol| protocol.canonical_sha256.as_ref());
        let data_set = results.data_set.as_ref().map(|set| &set.fingerprint);
        let (locked_protocol, locked_data) = match self.entries.first().map(|entry| &entry.event) {
            Some(Event::Locked { protocol_sha256, data_fingerprint, .. }) => (protocol_sha256, data_fingerprint),
            _ => return Err("the ledger begins with no lock".to_owned()),
        };
        let same = [
            ("protocol", protocol, [protocol_sha256, locked_protocol]),
            ("test set", data_set, [data_fingerprint, locked_data]),
            ("model", results.model.as_ref().map(|model| &model.sha256), [system_sha256, system_sha256]),
        ];
        match same.iter().find(|(_, stated, told)| told.iter().any(|told| Some(*told) != *stated)) {
            None => Ok(()),
            Some((what, ..)) => Err(format!("the ledger tells of another {what} than the results")),
        }
    }
}

/// Whether one of the ledgers saw these results come of an opening.
#[implements("RR-001", "SW-1102")]
pub fn vouch(ledgers: &[ValidationLedger], run: &ValidationRun) -> Result<(), String> {
    let Standing::Locked { ledger: named, .. } = &run.results.standing else {
        return Err("is exploratory: no line tells of it".to_owned());
    };
    let mut refused = Vec::new();
    for ledger in ledgers {
        match ledger.vouches(run) {
            Ok(()) => return Ok(()),
            // The ledger that the run names says best what is wrong.
            Err(message) => refused.push((ledger.name != *named, message)),
        }
    }
    Err(refused.into_iter().min().map_or_else(String::new, |(_, message)| message))
}

/// Lines of a whole chain, or the first line that is not as it was written.
fn parse(text: &str) -> Result<Vec<Entry>, (usize, &'static str)> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut previous = "0".repeat(64);
    for (at, line) in text.split_inclusive('\n').enumerate() {
        let wrong = |what| (at + 1, what);
        let line = line.strip_suffix('\n').ok_or(wrong("the line is cut"))?;
        let (body, _) = line.rsplit_once(",\"hash\":\"").ok_or(wrong("the line has no hash"))?;
        let entry: Entry = serde_json::from_str(line).map_err(|_| wrong("the line is no entry of a ledger"))?;
        if sha256(body.as_bytes()) != entry.hash || format!("{body},\"hash\":\"{}\"}}", entry.hash) != line {
            return Err(wrong("the line is not what its hash says"));
        }
        if entry.number != at as u64 + 1 || entry.previous != previous {
            return Err(wrong("the line does not follow from the one before"));
        }
        if (at == 0) != matches!(entry.event, Event::Locked { .. }) {
            return Err(wrong("the lock is the first line, and only that"));
        }
        previous.clone_from(&entry.hash);
        entries.push(entry);
    }
    if entries.is_empty() { Err((1, "the ledger is empty")) } else { Ok(entries) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    /// Lock and opening as `lungai-validation` 0.1.0 wrote them; the run was cut off before its end.
    const WRITTEN: &str = concat!(
        r#"{"number":1,"previous":"0000000000000000000000000000000000000000000000000000000000000000","when":"2026-11-30T18:42:30Z","who":"tester","event":"locked","protocol":"phantom-quick 2","protocol_sha256":"6c035e0ca8a53d2632019266540c7774597f898e3279e09bf8aa1be4cfa2e20d","data_fingerprint":"9095859bec374f7647f25346e0d184c61744638250a1cd21d36393444366eedc","hash":"f9655962e213ad2359e0ac22861bf5de6398584a4bc9e5ee418fbbd660de7884"}"#,
        "\n",
        r#"{"number":2,"previous":"f9655962e213ad2359e0ac22861bf5de6398584a4bc9e5ee418fbbd660de7884","when":"2026-11-30T18:42:32Z","who":"tester","event":"opened","protocol_sha256":"6c035e0ca8a53d2632019266540c7774597f898e3279e09bf8aa1be4cfa2e20d","system":"lungai-phantom-reference 1.0.0","system_sha256":"3305b22bfdbe69d1bcf60442b3890e30d02fca33ac74ba9bf55db857eb696cf1","data_fingerprint":"9095859bec374f7647f25346e0d184c61744638250a1cd21d36393444366eedc","what":"images and reference","purpose":"trial","hash":"fdd9a43d6463ac5bddaf90d54519dc55615cd1a1a61f2990f3c686975ee90450"}"#,
        "\n",
    );

    #[verifies("RR-001", "SW-1102")]
    #[test]
    fn a_ledger_of_the_validation_program_is_read_and_each_changed_byte_refused() {
        let entries = parse(WRITTEN).unwrap();
        let Event::Opened { system, what, .. } = &entries[1].event else { panic!("{:?}", entries[1]) };
        assert_eq!((system.as_str(), what.as_str()), ("lungai-phantom-reference 1.0.0", "images and reference"));
        let refused = |text: &str| parse(text).unwrap_err().0;
        assert_eq!(refused(&WRITTEN.replacen("tester", "someone", 1)), 1);
        assert_eq!(refused(&WRITTEN.replace("trial", "proof")), 2);
        assert_eq!(refused(&WRITTEN[..WRITTEN.len() - 1]), 2, "the last line is cut");
        assert_eq!(refused(WRITTEN.split_once('\n').unwrap().1), 1, "the lock is gone");
        assert_eq!(refused(""), 1);
        let ledger = ValidationLedger { name: "l".to_owned(), entries, bytes: Vec::new() };
        assert_eq!(ledger.left_out(&[])[0].rule, "opening-without-result");
    }
}
