//! What a training run leaves: the folder that is its record of truth. Training writes it, freezing, tracking and
//! figures read it, all by the types of this crate.
//!
//! ```text
//! RUN/
//!   experiment.yaml       the resolved experiment
//!   run.json              where it ran and on what data: RunRecord
//!   journal.jsonl         one Event a line, appended and never rewritten
//!   best.json             figures of the kept weights: Best (once the run has ended)
//!   best.safetensors      the kept weights
//!   curves.svg, .png      learning curves
//!   checkpoint/STEP/      network, optimiser and state.json: Progress
//! ```
//!
//! It refuses to know what an experiment or a network is (that is training's business), and to guess: a line of the
//! journal is taken whole or set aside and named.

mod history;
mod journal;
mod record;
mod run;

pub use history::{History, smoothed};
pub use journal::{Entries, Event, Journal, Line, hex, read_journal};
pub use record::{Best, Code, DataOrigin, Imported, Metrics, Progress, Proposer, RunRecord, selector};
pub use run::{Run, State, find_runs};

use std::path::PathBuf;

/// The resolved experiment, beside the weights it made.
pub const EXPERIMENT: &str = "experiment.yaml";
/// [`RunRecord`].
pub const RUN: &str = "run.json";
/// [`Event`]s.
pub const JOURNAL: &str = "journal.jsonl";
/// [`Best`].
pub const BEST: &str = "best.json";
/// The weights that [`Best`] speaks of.
pub const WEIGHTS: &str = "best.safetensors";
/// Learning curves, without extension,
pub const CURVES: &str = "curves";
/// as SVG,
pub const CURVES_SVG: &str = "curves.svg";
/// and as PNG.
pub const CURVES_PNG: &str = "curves.png";
/// Checkpoint folders, one a step.
pub const CHECKPOINTS: &str = "checkpoint";

/// Why a run folder cannot be written to or read.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no run where one was said to be.
    #[error("{0} is not a run folder: it has no journal.jsonl")]
    NotARun(PathBuf),
    /// A training was killed before its first line was whole.
    #[error("{0}: the journal has no whole first line, so nothing ran here; delete the folder")]
    Empty(PathBuf),
    /// Something that is not what it should be.
    #[error("{path}, line {line}: {message}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Why.
        message: String,
    },
    /// `run.json` and the journal's first line say different things.
    #[error("{0}: run.json is not the one that the journal began with; the folder was mixed or edited")]
    Mixed(PathBuf),
    /// Another program writes here.
    #[error("{0}: another training writes to this run folder; wait for it or choose another folder with `--run`")]
    Busy(PathBuf),
}

impl RunError {
    fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// A stable name for programs.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Io { .. } => "run-io",
            Self::NotARun(_) => "not-a-run",
            Self::Empty(_) => "run-empty",
            Self::Malformed { .. } => "run-malformed",
            Self::Mixed(_) => "run-mixed",
            Self::Busy(_) => "run-busy",
        }
    }
}
