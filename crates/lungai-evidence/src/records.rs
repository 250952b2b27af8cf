//! What tagged tests recorded while they ran. A record says what was exercised, never whether it passed.
use crate::failure::{Failure, fail};
use serde::{Deserialize, Serialize};
use std::path::Path;

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub format: String,
    pub package: String,
    pub module: String,
    pub test: String,
    pub attempt: String,
    pub verifies: Vec<Compiled>,
    pub exercised: Vec<String>,
    pub not_evidenced: Vec<String>,
    pub panicked: bool,
}

/// An id and the hash of its text when the test was compiled.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Compiled {
    pub id: String,
    pub sha256: String,
}

/// File name and record, sorted by file name; and the raw bytes of each, for the package.
pub fn load(folder: &Path) -> Result<Vec<(String, Record, Vec<u8>)>, Failure> {
    let mut records = Vec::new();
    let unreadable = |error: std::io::Error| Failure::new("unreadable", format!("records of tests: {error}"));
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        let bytes = std::fs::read(&path).map_err(unreadable)?;
        let record: Record = serde_json::from_slice(&bytes)
            .map_err(|error| Failure::new("record-malformed", format!("record {name}: {error}")))?;
        if record.format != "lungai-trace/1" {
            return fail("record-malformed", format!("record {name}: unknown format `{}`", record.format));
        }
        records.push((name, record, bytes));
    }
    records.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(records)
}
