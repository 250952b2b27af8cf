//! A protocol is locked by the hash of what it says, before the first run; from then on the hash must stay.

use crate::analysis::hash;
use crate::failure::{Failure, file_name};
use crate::ledger::{self, Event, Ledger, PREDICTIONS, Position};
use crate::protocol::Protocol;
use lungai_datasets::{Manifest, sha256};
use lungai_trace::implements;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// SHA-256 of what a protocol says: of its fields as JSON in their own order. Comments, blank lines and the way in which
/// YAML is written change nothing; every word and digit does.
pub fn canonical(protocol: &Protocol) -> String {
    sha256(&serde_json::to_vec(protocol).expect("plain data"))
}

/// What a protocol is locked for, and predictions are of, besides its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// One value for every voxel, label and nodule of the data set.
    pub fingerprint: String,
    /// SHA-256 of each table that the protocol names beside it: covariates and readings.
    pub tables: BTreeMap<String, String>,
}

impl Data {
    /// Reads the tables that a protocol names.
    ///
    /// - `folder`: the manifest's
    ///
    /// # Errors
    /// A table that cannot be read.
    pub fn of(protocol: &Protocol, manifest: &Manifest, folder: &Path) -> Result<Self, Failure> {
        let named = protocol.covariates.iter().chain(&protocol.reference_standard.readings);
        let tables = named.map(|table| Ok((table.to_string_lossy().into_owned(), hash(&folder.join(table))?)));
        Ok(Self { fingerprint: manifest.fingerprint(), tables: tables.collect::<Result<_, Failure>>()? })
    }

    /// The first part that differs: what it is, ours, theirs.
    fn differs<'a>(&'a self, fingerprint: &'a str, tables: &'a BTreeMap<String, String>) -> Option<[&'a str; 3]> {
        if self.fingerprint != fingerprint {
            return Some(["data set", &self.fingerprint, fingerprint]);
        }
        let names = self.tables.keys().chain(tables.keys());
        let none = "none";
        names.map(|name| [name.as_str(), of(&self.tables, name, none), of(tables, name, none)]).find(|[_, a, b]| a != b)
    }
}

fn of<'a>(tables: &'a BTreeMap<String, String>, name: &str, none: &'a str) -> &'a str {
    tables.get(name).map_or(none, String::as_str)
}

/// Whether a run may prove anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Standing {
    /// Nobody locked the protocol before, so it may have been written to fit: no proof.
    Exploratory,
    /// The protocol was locked before; this is the line of the ledger that tells of the opening.
    Locked {
        /// Name of the ledger's file.
        ledger: String,
        /// The line.
        #[serde(flatten)]
        opened: Position,
    },
}

impl Standing {
    /// For the report and the terminal.
    pub fn words(&self) -> String {
        match self {
            Self::Exploratory => "EXPLORATORY: the protocol was not locked before the run".into(),
            Self::Locked { ledger, opened } => {
                format!("locked before the run; {ledger}, line {}, {}", opened.number, &opened.hash[..16])
            }
        }
    }
}

/// The ledger of a protocol, if it has one.
pub struct Lock {
    path: PathBuf,
    ledger: Option<Ledger>,
    who: Option<String>,
}

impl Lock {
    /// Reads the ledger beside a protocol (or at `path`) and compares.
    ///
    /// # Errors
    /// `ledger-tampered`, `ledger-renamed`, or `locked-protocol-changed` (exit code 4) with both hashes.
    #[implements("SW-1102")]
    pub fn read(
        protocol_path: &Path,
        path: Option<&Path>,
        who: Option<&str>,
        protocol: &Protocol,
    ) -> Result<Self, Failure> {
        let path = path.map_or_else(|| ledger::beside(protocol_path), Path::to_owned);
        let ledger = ledger::read(&path)?;
        if let Some(ledger) = &ledger {
            let (locked, found) = (ledger.lock().protocol_sha256, canonical(protocol));
            let (called, name) = (ledger.lock().ledger, file_name(&path));
            if !called.is_empty() && called != name {
                let message = format!("{name} was begun as {called}: a copy does not tell of what the other one saw");
                return Err(Failure::integrity("ledger-renamed", message));
            }
            if locked != found {
                let message = format!(
                    "{} was locked with {locked} and is {found} now; a locked protocol does not change: write another one",
                    file_name(protocol_path)
                );
                return Err(Failure::integrity("locked-protocol-changed", message));
            }
        }
        // Who cannot be guessed where the system does not say; only a ledger asks.
        let system = ["USER", "LOGNAME"].iter().find_map(|key| std::env::var(key).ok());
        let who = who.map(str::to_owned).or(system).filter(|who| !who.is_empty());
        Ok(Self { path, ledger, who })
    }

    /// Locks the protocol for a data set. What is locked already stays as it is.
    ///
    /// # Errors
    /// `locked-data-changed` where it is locked for other data.
    pub fn lock(&self, protocol: &Protocol, data: &Data) -> Result<Position, Failure> {
        if let Some(ledger) = &self.ledger {
            same_data(ledger, data)?;
            let (_, hash) = &ledger.entries[0];
            return Ok(Position { number: 1, hash: hash.clone() });
        }
        let protocol_sha256 = canonical(protocol);
        let protocol = format!("{} {}", protocol.name, protocol.version);
        let (data_fingerprint, tables) = (data.fingerprint.clone(), data.tables.clone());
        let ledger = file_name(&self.path);
        let event = Event::Locked { protocol, protocol_sha256, data_fingerprint, tables, ledger };
        ledger::append(&self.path, self.who()?, event)
    }

    /// Tells the ledger that the test set is opened, before it is.
    ///
    /// - `system`: name and version of what makes the predictions, and the hash that pins it
    ///
    /// # Errors
    /// `locked-data-changed`, or a ledger that cannot be written: then nothing may be opened.
    pub fn opened(
        &self,
        protocol: &Protocol,
        data: &Data,
        system: (&str, &str),
        what: &str,
        purpose: &str,
    ) -> Result<Standing, Failure> {
        let Some(ledger) = &self.ledger else { return Ok(Standing::Exploratory) };
        same_data(ledger, data)?;
        let event = Event::Opened {
            protocol_sha256: canonical(protocol),
            system: system.0.to_owned(),
            system_sha256: system.1.to_owned(),
            data_fingerprint: data.fingerprint.clone(),
            what: what.to_owned(),
            purpose: purpose.to_owned(),
        };
        let opened = ledger::append(&self.path, self.who()?, event)?;
        Ok(Standing::Locked { ledger: file_name(&self.path), opened })
    }

    /// Tells the ledger what came of an opening.
    ///
    /// # Errors
    /// A ledger that cannot be written.
    pub fn concluded(&self, standing: &Standing, what: &str, sha256: &str) -> Result<(), Failure> {
        let Standing::Locked { opened, .. } = standing else { return Ok(()) };
        let event = Event::Concluded { opened: opened.number, what: what.to_owned(), sha256: sha256.to_owned() };
        ledger::append(&self.path, self.who()?, event).map(drop)
    }

    /// Under a lock, predictions count as those of a run only where the ledger saw each part come of it: who can write
    /// to their folder can also make their hashes anew.
    ///
    /// # Errors
    /// `predictions-not-in-ledger` (exit code 4) names the first part that it did not see.
    #[implements("SW-1102", "RR-001")]
    pub fn vouch(&self, parts: &[(String, String)], model_sha256: &str) -> Result<(), Failure> {
        if self.ledger.is_none() {
            return Ok(());
        }
        // Read again: this run may have added to it.
        let ledger = ledger::read(&self.path)?;
        let saw = |sha256: &str| ledger.as_ref().is_some_and(|ledger| ledger.saw_predictions(sha256, model_sha256));
        match parts.iter().find(|(_, sha256)| !saw(sha256)) {
            None => Ok(()),
            Some((part, sha256)) => {
                let message =
                    format!("{part} ({sha256:.16}) came of no opening that the ledger tells of for this model");
                Err(Failure::integrity("predictions-not-in-ledger", message))
            }
        }
    }

    /// [`Self::concluded`] of a part of the predictions.
    pub fn predicted(&self, standing: &Standing, manifest_sha256: &str) -> Result<(), Failure> {
        self.concluded(standing, PREDICTIONS, manifest_sha256)
    }

    /// Whether there is a ledger.
    pub fn exists(&self) -> bool {
        self.ledger.is_some()
    }

    fn who(&self) -> Result<&str, Failure> {
        let missing = || Failure::usage("the ledger asks who opens the test set: --who NAME");
        self.who.as_deref().ok_or_else(missing)
    }
}

fn same_data(ledger: &Ledger, data: &Data) -> Result<(), Failure> {
    let locked = ledger.lock();
    match data.differs(locked.data_fingerprint, locked.tables) {
        None => Ok(()),
        Some([what, found, locked]) => {
            let message = format!("the protocol was locked for the {what} {locked}, this one is {found}");
            Err(Failure::integrity("locked-data-changed", message))
        }
    }
}
