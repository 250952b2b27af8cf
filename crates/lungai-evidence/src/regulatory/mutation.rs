//! Changes that take a risk control away: the tests that show its effect must fail on each of them.
use super::requirement::Text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mutation {
    /// Such as `M-102-1`.
    pub id: String,
    /// The risk control that it breaks.
    pub control: String,
    /// What no longer works then.
    pub breaks: Text,
    /// Source file, from the workspace's root, with `/`.
    pub file: String,
    /// Text that stands exactly once in the file.
    pub from: String,
    /// What stands there instead; never blank, as no text of `regulatory/` is: `let _ = value;` where something is taken away.
    pub to: String,
    /// Package whose tests are run.
    pub package: String,
    /// `lib`, or the name of one of the package's integration tests.
    pub target: String,
    /// The tests to run, as a filter of cargo-nextest: `test(=module::name)`.
    pub tests: String,
}

impl Mutation {
    /// Over everything that decides what a run of it shows: a record under another hash is of another mutation.
    pub fn sha256(&self) -> String {
        let parts = [&self.control, &self.file, &self.from, &self.to, &self.package, &self.target, &self.tests];
        super::sha256(parts.map(|part| format!("{}:{part}\n", part.len())).concat().as_bytes())
    }

    /// The text of the file with the control taken away; none where `from` does not stand there exactly once.
    pub fn applied(&self, text: &str) -> Option<String> {
        (text.matches(&self.from).count() == 1).then(|| text.replacen(&self.from, &self.to, 1))
    }
}
