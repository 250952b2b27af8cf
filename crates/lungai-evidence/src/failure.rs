//! The one error of this program: a stable rule for machines and a sentence for people.

/// Exit code of an ordinary failure, malformed input included.
pub const FAILED: u8 = 1;
/// Exit code where a package is not what its manifest says.
pub const INTEGRITY: u8 = 4;

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Stable kebab-case name.
    pub rule: &'static str,
    pub message: String,
    pub exit_code: u8,
}

impl Failure {
    pub fn new(rule: &'static str, message: String) -> Self {
        Self { rule, message, exit_code: FAILED }
    }

    pub fn integrity(rule: &'static str, message: String) -> Self {
        Self { rule, message, exit_code: INTEGRITY }
    }
}

pub fn fail<T>(rule: &'static str, message: String) -> Result<T, Failure> {
    Err(Failure::new(rule, message))
}
