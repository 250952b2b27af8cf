//! How a validation fails: a stable rule, a message, an exit code.

use lungai_datasets::DatasetError;
use lungai_metrics::MetricsError;
use lungai_models::DeviceError;
use lungai_models::frozen::FrozenError;
use std::path::Path;

/// Why there is no result.
#[derive(Debug)]
pub struct Failure {
    /// 1 failed, 2 usage, 4 something frozen or locked is not what it was, 75 the same command may work later.
    pub exit: u8,
    /// A stable name, for programs.
    pub rule: String,
    /// One sentence, for people.
    pub message: String,
}

impl Failure {
    /// Exit code 1.
    pub fn new(rule: &str, message: impl Into<String>) -> Self {
        Self { exit: 1, rule: rule.into(), message: message.into() }
    }

    /// Exit code 2: what was asked for cannot be.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: 2, ..Self::new("usage", message) }
    }

    /// Exit code 4: something frozen or locked is not what it was.
    pub fn integrity(rule: &str, message: impl Into<String>) -> Self {
        Self { exit: 4, ..Self::new(rule, message) }
    }

    /// Exit code 75: something is not there yet.
    pub fn later(rule: &str, message: impl Into<String>) -> Self {
        Self { exit: 75, ..Self::new(rule, message) }
    }
}

impl From<DatasetError> for Failure {
    fn from(error: DatasetError) -> Self {
        let exit = if matches!(error, DatasetError::Checksum { .. }) { 4 } else { 1 };
        Self { exit, ..Self::new(&error.rule(), error.to_string()) }
    }
}

impl From<FrozenError> for Failure {
    fn from(error: FrozenError) -> Self {
        let exit = if error.is_integrity() { 4 } else { 1 };
        Self { exit, ..Self::new(error.rule(), error.to_string()) }
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        Self::new("device", error.to_string())
    }
}

impl From<MetricsError> for Failure {
    fn from(error: MetricsError) -> Self {
        Self::new(error.rule(), error.to_string())
    }
}

/// A file or folder as messages call it that say what is in it: without where it lies.
pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// For files that were named at the terminal, or lie below a folder that was: the path as it was given. Files of patients are
/// opened by `lungai-datasets`, which names none.
pub fn io<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> Failure {
    let path = path.display().to_string();
    move |error| Failure::new("file-access", format!("{path}: {error}"))
}
