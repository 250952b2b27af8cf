//! A protocol is locked by the hash of what it says, before the first run; from then on the hash must stay.

use crate::failure::{Failure, file_name};
use crate::ledger::{self, Event, Ledger, Position};
use crate::protocol::Protocol;
use lungai_datasets::{Manifest, sha256};
use lungai_trace::implements;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// SHA-256 of what a protocol says: of its fields as JSON in their own order. Comments, blank lines and the way in which
/// YAML is written change nothing; every word and digit does.
pub fn canonical(protocol: &Protocol) -> String {
    sha256(&serde_json::to_vec(protocol).expect("plain data"))
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
    /// `ledger-tampered`, or `locked-protocol-changed` (exit code 4) with both hashes.
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
            let (locked, found) = (ledger.lock().0, canonical(protocol));
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
    pub fn lock(&self, protocol: &Protocol, manifest: &Manifest) -> Result<Position, Failure> {
        let data_fingerprint = manifest.fingerprint();
        if let Some(ledger) = &self.ledger {
            same_data(ledger, &data_fingerprint)?;
            let (_, hash) = &ledger.entries[0];
            return Ok(Position { number: 1, hash: hash.clone() });
        }
        let protocol_sha256 = canonical(protocol);
        let protocol = format!("{} {}", protocol.name, protocol.version);
        ledger::append(&self.path, self.who()?, Event::Locked { protocol, protocol_sha256, data_fingerprint })
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
        data_fingerprint: &str,
        system: (&str, &str),
        what: &str,
        purpose: &str,
    ) -> Result<Standing, Failure> {
        let Some(ledger) = &self.ledger else { return Ok(Standing::Exploratory) };
        same_data(ledger, data_fingerprint)?;
        let event = Event::Opened {
            protocol_sha256: canonical(protocol),
            system: system.0.to_owned(),
            system_sha256: system.1.to_owned(),
            data_fingerprint: data_fingerprint.to_owned(),
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

    fn who(&self) -> Result<&str, Failure> {
        let missing = || Failure::usage("the ledger asks who opens the test set: --who NAME");
        self.who.as_deref().ok_or_else(missing)
    }
}

fn same_data(ledger: &Ledger, found: &str) -> Result<(), Failure> {
    let locked = ledger.lock().1;
    if locked == found {
        return Ok(());
    }
    let message = format!("the protocol was locked for a data set with the fingerprint {locked}, this one has {found}");
    Err(Failure::integrity("locked-data-changed", message))
}
