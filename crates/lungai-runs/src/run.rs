//! A run folder, read back.

use crate::history::History;
use crate::journal::{Entries, Event, read_journal};
use crate::record::{Best, Progress, RunRecord, selector};
use crate::{BEST, CHECKPOINTS, JOURNAL, RUN, RunError};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A training has the journal open.
    Running,
    /// All steps are done, or patience was over.
    Finished,
    /// Training gave up; the journal says why.
    Failed,
    /// Training was killed and can be resumed; or it runs elsewhere, and this is a copy of its folder.
    Interrupted,
}

/// A run, finished or not.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its folder.
    pub folder: PathBuf,
    /// Its journal.
    pub journal: Entries,
    /// The resolved experiment.
    pub experiment: Value,
    /// Where it ran and on what data.
    pub record: RunRecord,
    /// Its curves.
    pub history: History,
    /// The best weights' figures; those of an unfinished run are of its newest checkpoint.
    pub best: Option<Best>,
    /// Where it stands.
    pub state: State,
}

impl Run {
    /// Reads a run folder.
    ///
    /// # Errors
    /// [`RunError`]: no run, a file that is not what it should be, or files of two runs.
    pub fn read(folder: &Path) -> Result<Self, RunError> {
        let journal = read_journal(folder)?;
        let Some(Event::Start { experiment, run }) = journal.lines.first().map(|line| line.event.clone()) else {
            return Err(RunError::Empty(folder.to_owned()));
        };
        if read_json::<RunRecord>(&folder.join(RUN))? != *run {
            return Err(RunError::Mixed(folder.to_owned()));
        }
        let state = match journal.lines.last().map(|line| &line.event) {
            _ if journal.written_now => State::Running,
            Some(Event::End { .. }) => State::Finished,
            Some(Event::Failed { .. }) => State::Failed,
            _ => State::Interrupted,
        };
        Ok(Self {
            folder: folder.to_owned(),
            history: History::of(&journal.lines),
            experiment,
            record: *run,
            best: best(folder)?,
            state,
            journal,
        })
    }

    /// Name of the experiment.
    pub fn name(&self) -> &str {
        self.experiment["name"].as_str().unwrap_or("unnamed")
    }

    /// `lung`, `detector`, `classifier` or `reducer`.
    pub fn network(&self) -> &str {
        let shapes = self.experiment["network"].as_object();
        shapes.and_then(|shapes| shapes.keys().next()).map_or("unknown", String::as_str)
    }

    /// The figure that decided which weights are kept, and its value.
    pub fn headline(&self) -> Option<(&'static str, f64)> {
        let name = selector(self.network())?;
        Some((name, *self.best.as_ref()?.metrics.get(name)?))
    }

    /// What is to be said of lines that a crash has cut.
    pub fn warning(&self) -> Option<String> {
        let cut: Vec<String> = self.journal.cut.iter().map(usize::to_string).collect();
        if cut.is_empty() {
            return None;
        }
        let at = self.folder.join(JOURNAL);
        Some(format!("{}: cut in line {}; all whole lines are taken", at.display(), cut.join(", ")))
    }
}

/// Run folders by name: `folder` itself, or those in it and in the folders in it, such as one of several folds and seeds.
///
/// # Errors
/// A folder that cannot be read.
pub fn find_runs(folder: &Path) -> Result<Vec<PathBuf>, RunError> {
    let is_run = |path: &Path| path.join(JOURNAL).is_file();
    let below = |folder: &Path| -> Result<Vec<PathBuf>, RunError> {
        let entries = fs::read_dir(folder).map_err(RunError::io(folder))?;
        Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect())
    };
    if is_run(folder) {
        return Ok(vec![folder.to_owned()]);
    }
    let mut runs = Vec::new();
    for path in below(folder)? {
        if is_run(&path) {
            runs.push(path);
        } else {
            runs.extend(below(&path)?.into_iter().filter(|path| is_run(path)));
        }
    }
    runs.sort();
    Ok(runs)
}

/// Of `best.json`, else of the newest checkpoint.
fn best(folder: &Path) -> Result<Option<Best>, RunError> {
    let path = folder.join(BEST);
    if path.exists() {
        return read_json(&path).map(Some);
    }
    let Ok(entries) = fs::read_dir(folder.join(CHECKPOINTS)) else { return Ok(None) };
    let steps = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let newest = steps.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).max();
    let Some(newest) = newest else { return Ok(None) };
    let state = folder.join(CHECKPOINTS).join(newest).join("state.json");
    Ok(read_json::<Progress>(&state)?.best)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, RunError> {
    let bytes = fs::read(path).map_err(RunError::io(path))?;
    serde_json::from_slice(&bytes).map_err(|error| RunError::Malformed {
        path: path.to_owned(),
        line: error.line(),
        message: error.to_string(),
    })
}
