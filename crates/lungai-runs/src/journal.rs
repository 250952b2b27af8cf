//! The run journal: one JSON object a line, appended and never rewritten. It is the record of truth of a run.

use crate::record::{Best, Metrics, RunRecord, null_is_nan};
use crate::{JOURNAL, RunError};
use lungai_trace::implements;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::io::{Read, Seek, SeekFrom, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first line.
    Start {
        /// The resolved experiment.
        experiment: Value,
        /// Where and on what.
        run: Box<RunRecord>,
    },
    /// One optimiser step.
    Step {
        /// Counted from 1.
        step: u64,
        /// Training loss of its batch.
        loss: f64,
        /// Learning rate that it took.
        learning_rate: f64,
    },
    /// Figures on the held-out scans.
    Evaluation {
        /// Steps behind the weights.
        step: u64,
        /// Figures by name.
        #[serde(deserialize_with = "null_is_nan")]
        metrics: Metrics,
        /// Share of the time since the last evaluation that the network waited for batches, `0..=1`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        waited: Option<f64>,
    },
    /// The network was asked for its false positives on the training scans, and learns from them from here on.
    Mined {
        /// Steps behind the weights.
        step: u64,
        /// False positives.
        found: usize,
    },
    /// Training goes on from the checkpoint of this step; lines of later steps before this one no longer count.
    Resume {
        /// Steps behind the checkpoint.
        step: u64,
    },
    /// Training gave up.
    Failed {
        /// Steps done.
        step: u64,
        /// Why.
        reason: String,
    },
    /// All steps are done, or patience is over.
    End {
        /// Steps done.
        step: u64,
        /// Whether patience ended it.
        stopped_early: bool,
        /// The kept weights.
        best: Best,
    },
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Milliseconds since 1970-01-01 UTC; journals of before times were kept have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<u64>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// A journal open for writing. While it is, no other program can open it so, and readers see that the run goes on.
pub struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Opens `journal.jsonl` in `folder` for appending. A line that a crash has cut is ended, so that the next one
    /// begins a line of its own.
    ///
    /// # Errors
    /// [`RunError::Busy`] if another program has it open; what the file system says.
    pub fn open(folder: &Path) -> Result<Self, RunError> {
        let path = folder.join(JOURNAL);
        let file = File::options().create(true).read(true).append(true).open(&path).map_err(RunError::io(&path))?;
        let patience = Instant::now() + Duration::from_secs(2);
        // A reader that looks whether the run goes on holds the lock for a moment, too.
        while let Err(TryLockError::WouldBlock) = file.try_lock() {
            if Instant::now() > patience {
                return Err(RunError::Busy(folder.to_owned()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut journal = Self { file, path };
        if journal.ends_within_a_line().map_err(RunError::io(&journal.path))? {
            journal.append(b"\n")?;
        }
        Ok(journal)
    }

    /// Appends a line with the time of now.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&mut self, event: Event) -> Result<(), RunError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = Line { time_ms: u64::try_from(now.as_millis()).ok(), event };
        let mut text = serde_json::to_vec(&line).expect("plain data with text keys");
        text.push(b'\n');
        // In one write: a line is there whole or not at all, but for a power cut or a full disk.
        self.append(&text)
    }

    /// Makes sure that what was written survives a power cut.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sync(&mut self) -> Result<(), RunError> {
        self.file.sync_data().map_err(RunError::io(&self.path))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), RunError> {
        self.file.write_all(bytes).map_err(RunError::io(&self.path))
    }

    fn ends_within_a_line(&mut self) -> std::io::Result<bool> {
        let mut last = [b'\n'];
        if self.file.seek(SeekFrom::End(0))? > 0 {
            self.file.seek(SeekFrom::End(-1))?;
            self.file.read_exact(&mut last)?;
        }
        Ok(last != [b'\n'])
    }
}

/// A journal, read back.
#[derive(Debug, Clone)]
pub struct Entries {
    /// Every whole line, the first being [`Event::Start`].
    pub lines: Vec<Line>,
    /// Numbers, from 1, of lines that a crash has cut; they are not among `lines`.
    pub cut: Vec<usize>,
    /// Where each of `lines` ends in `bytes`, its line feed included.
    ends: Vec<usize>,
    /// SHA-256 of the first line: the run's identity wherever its folder lies.
    pub id: String,
    /// The file as it was read.
    pub bytes: Vec<u8>,
    /// Whether a training has it open.
    pub written_now: bool,
}

impl Entries {
    /// SHA-256 of the journal up to and with the whole line number `lines`; `None` if it has fewer.
    pub fn prefix_sha256(&self, lines: usize) -> Option<String> {
        let end = if lines == 0 { 0 } else { *self.ends.get(lines - 1)? };
        Some(hex(&Sha256::digest(&self.bytes[..end])))
    }
}

/// Reads the journal of a run folder. The last line counts only if it is ended, and lines that are not whole JSON are
/// set aside: a program that was killed while it wrote leaves such.
///
/// # Errors
/// No journal, no whole first line, or a whole line that is none of ours.
#[implements("RR-001")]
pub fn read_journal(folder: &Path) -> Result<Entries, RunError> {
    let path = folder.join(JOURNAL);
    if !path.is_file() {
        return Err(RunError::NotARun(folder.to_owned()));
    }
    // Asked before the file is read: a training that ends in between has then written its last line.
    let written_now = is_locked(&path).map_err(RunError::io(&path))?;
    let bytes = fs::read(&path).map_err(RunError::io(&path))?;
    let (lines, cut, ends) = (Vec::new(), Vec::new(), Vec::new());
    let mut entries = Entries { lines, cut, ends, id: String::new(), bytes, written_now };
    let mut end = 0;
    let mut pieces: Vec<&[u8]> = entries.bytes.split(|byte| *byte == b'\n').collect();
    let unended = pieces.pop().is_some_and(|rest| !rest.is_empty());
    let whole = pieces.len();
    for (piece, number) in pieces.into_iter().zip(1..) {
        end += piece.len() + 1;
        match serde_json::from_slice::<Value>(piece) {
            Err(_) if number == 1 => return Err(RunError::Empty(folder.to_owned())),
            Err(_) => entries.cut.push(number),
            Ok(value) => {
                let line = Line::deserialize(value).map_err(|error| RunError::Malformed {
                    path: path.clone(),
                    line: number,
                    message: format!("not a line of this version's journals: {error}"),
                })?;
                if (number == 1) != matches!(line.event, Event::Start { .. }) {
                    let message = "`start` must be the first line and only that".into();
                    return Err(RunError::Malformed { path, line: number, message });
                }
                if number == 1 {
                    entries.id = hex(&Sha256::digest(piece));
                }
                entries.lines.push(line);
                entries.ends.push(end);
            }
        }
    }
    if entries.lines.is_empty() {
        return Err(RunError::Empty(folder.to_owned()));
    }
    if unended {
        entries.cut.push(whole + 1);
    }
    Ok(entries)
}

/// Whether a writer holds the file. Where the file system has no locks nobody can tell, and the answer is no.
fn is_locked(path: &Path) -> std::io::Result<bool> {
    let file = File::open(path)?;
    Ok(matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Lower-case hex digits, as hashes are written.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
