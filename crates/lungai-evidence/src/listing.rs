//! Which tests the executables hold: `cargo nextest list --message-format json` of the very build that ran.
use crate::failure::Failure;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};

#[derive(Debug)]
pub struct Listing {
    suites: HashMap<String, Suite>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// It is not compiled.
    Absent,
    Ignored,
    /// A filter or profile of the runner leaves it out.
    Filtered,
    ToRun,
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "rust-suites")]
    suites: HashMap<String, Suite>,
}

#[derive(Debug, Deserialize)]
struct Suite {
    /// Other than `listed` where the whole executable was left out.
    status: String,
    testcases: BTreeMap<String, Case>,
}

#[derive(Debug, Deserialize)]
struct Case {
    ignored: bool,
    #[serde(rename = "filter-match")]
    filter: Filter,
}

#[derive(Debug, Deserialize)]
struct Filter {
    status: String,
}

impl Listing {
    pub fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|error| Failure::new("test-list-malformed", format!("the list of tests: {error}")))?;
        Ok(Self { suites: document.suites })
    }

    pub fn find(&self, binary: &str, test: &str) -> Listed {
        let Some(suite) = self.suites.get(binary) else { return Listed::Absent };
        match suite.testcases.get(test) {
            _ if suite.status != "listed" => Listed::Filtered,
            None => Listed::Absent,
            Some(case) if case.filter.status == "matches" => Listed::ToRun,
            Some(case) if case.ignored => Listed::Ignored,
            Some(_) => Listed::Filtered,
        }
    }
}
