//! What tagged tests recorded while they ran, and the programs that they started. A record says what was exercised, never whether
//! it passed.
use crate::failure::{Failure, fail};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One attempt of one test.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub format: String,
    /// Of cargo-nextest; its report carries the same.
    pub run: String,
    /// As cargo-nextest names the executable.
    pub binary: String,
    /// As libtest names the test.
    pub test: String,
    pub attempt: String,
    pub package: String,
    pub module: String,
    /// Of the test's own tokens, and of its file, when it was compiled.
    pub tokens_sha256: String,
    pub file_sha256: String,
    pub verifies: Vec<Compiled>,
    pub exercised: Vec<String>,
    pub not_evidenced: Vec<String>,
    pub measured: Vec<Measured>,
    pub panicked: bool,
}

/// An id and the hash of its text when the test was compiled.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Compiled {
    pub id: String,
    pub sha256: String,
}

/// A value that a test measured, and what it must keep.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    pub metric: String,
    /// None: it was no number.
    pub value: Option<f64>,
    pub op: Op,
    pub limit: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum Op {
    #[serde(rename = ">=")]
    AtLeast,
    #[serde(rename = "<=")]
    AtMost,
}

impl Measured {
    /// What is no number keeps no limit.
    pub fn holds(&self) -> bool {
        match (self.value, self.limit, self.op) {
            (Some(value), Some(limit), Op::AtLeast) => value >= limit,
            (Some(value), Some(limit), Op::AtMost) => value <= limit,
            _ => false,
        }
    }

    /// `error_mm 0.25 (<= 0.5)`
    pub fn words(&self) -> String {
        let number = |value: Option<f64>| value.map_or_else(|| "not a number".to_owned(), |value| value.to_string());
        let op = if self.op == Op::AtLeast { ">=" } else { "<=" };
        format!("{} {} ({op} {})", self.metric, number(self.value), number(self.limit))
    }
}

/// What a program that a test started called.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Calls {
    pub format: String,
    pub run: String,
    pub binary: String,
    pub test: String,
    pub attempt: String,
    pub exercised: Vec<String>,
}

#[derive(Debug, Default)]
pub struct Records {
    pub tests: Vec<Record>,
    pub programs: Vec<Calls>,
    /// File name and raw bytes, sorted by name.
    pub raw: Vec<(String, Vec<u8>)>,
}

pub fn load(folder: &Path) -> Result<Records, Failure> {
    let mut records = Records::default();
    let unreadable = |error: std::io::Error| Failure::new("unreadable", format!("records of tests: {error}"));
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|ending| ending == "json" || ending == "jsonl") {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
            records.raw.push((name, std::fs::read(&path).map_err(unreadable)?));
        }
    }
    records.raw.sort();
    for (name, bytes) in &records.raw {
        let malformed = |error: String| Failure::new("record-malformed", format!("record {name}: {error}"));
        let known = |format: &str, expected: &str| {
            if format == expected {
                return Ok(());
            }
            fail("record-malformed", format!("record {name}: unknown format `{format}`"))
        };
        if name.ends_with(".json") {
            let record: Record = serde_json::from_slice(bytes).map_err(|e| malformed(e.to_string()))?;
            known(&record.format, "lungai-trace/2")?;
            records.tests.push(record);
        } else {
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let calls: Calls = serde_json::from_slice(line).map_err(|e| malformed(e.to_string()))?;
                known(&calls.format, "lungai-trace-process/1")?;
                records.programs.push(calls);
            }
        }
    }
    Ok(records)
}
