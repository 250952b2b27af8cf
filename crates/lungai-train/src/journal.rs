//! The run journal: one JSON object a line, appended and never rewritten. It is the record of truth of a run.

use anyhow::Context;
use serde_json::{Value, json};
use std::{fs::File, io::Write, path::Path};

/// An open journal.
pub struct Journal {
    file: File,
}

impl Journal {
    /// Opens `journal.jsonl` in `folder` for appending.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("journal.jsonl");
        let file = File::options().create(true).append(true).open(&path);
        Ok(Self { file: file.with_context(|| format!("{}", path.display()))? })
    }

    /// Appends `{"event": event, ...fields}`.
    pub fn write(&mut self, event: &str, fields: Value) -> anyhow::Result<()> {
        let mut line = json!({ "event": event });
        if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
            line.extend(fields);
        }
        // In one write: a line is there whole or not at all, but for a power cut.
        self.file.write_all(format!("{line}\n").as_bytes()).context("journal.jsonl")
    }

    /// Makes sure that what was written survives a power cut.
    pub fn sync(&mut self) -> anyhow::Result<()> {
        self.file.sync_data().context("journal.jsonl")
    }
}
