//! How a verb fails: a stable rule, a message, an exit code.

use crate::with_ok;
use lungai_datasets::DatasetError;
use lungai_dicom::DicomError;
use lungai_models::DeviceError;
use lungai_models::frozen::FrozenError;
use lungai_pipeline::PipelineError;
use serde_json::{Value, json};
use std::process::ExitCode;

/// A failure as scripts and people see it.
#[derive(Debug)]
pub struct Failure {
    exit: u8,
    rule: String,
    message: String,
    /// Further members of the JSON object.
    more: Value,
}

impl Failure {
    /// Something went wrong, malformed input included.
    pub fn new(rule: &str, message: impl Into<String>) -> Self {
        Self { exit: 1, rule: rule.to_owned(), message: message.into(), more: json!({}) }
    }

    /// The command was not understood.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: 2, ..Self::new("usage", message) }
    }

    /// The quality gate says no; `more` says why.
    pub fn rejected(message: impl Into<String>, more: Value) -> Self {
        Self { exit: 3, more, ..Self::new("quality-rejected", message) }
    }

    /// One member more in the JSON object.
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.more[key] = value;
        self
    }

    /// The JSON object.
    pub fn json(&self) -> Value {
        let mut json = with_ok(json!({ "rule": self.rule, "message": self.message }), false);
        if let (Some(json), Value::Object(more)) = (json.as_object_mut(), self.more.clone()) {
            json.extend(more);
        }
        json
    }

    /// Prints itself where it belongs and gives the exit code.
    pub fn print(&self, as_json: bool) -> ExitCode {
        if as_json {
            println!("{}", self.json());
        } else {
            eprintln!("error: {} [{}]", self.message, self.rule);
        }
        ExitCode::from(self.exit)
    }
}

impl From<DatasetError> for Failure {
    fn from(error: DatasetError) -> Self {
        let exit = if error.is_integrity() { 4 } else { 1 };
        Self { exit, ..Self::new(&error.rule(), error.to_string()) }
    }
}

impl From<DicomError> for Failure {
    fn from(error: DicomError) -> Self {
        Self::new(&error.rule(), error.to_string())
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

impl From<PipelineError> for Failure {
    fn from(error: PipelineError) -> Self {
        let message = error.to_string();
        match error {
            PipelineError::Rejected(quality) => {
                let quality = lungai_pipeline::wire::QualityJson::from(&quality);
                Self::rejected(message, json!({ "quality": quality }))
            }
            PipelineError::UnknownOperatingPoint { .. } | PipelineError::Threshold(_) => {
                Self { rule: "operating-point".into(), ..Self::usage(message) }
            }
        }
    }
}

/// For files that a verb writes itself: names the file without its folder.
pub fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Failure {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    move |error| Failure::new("file-access", format!("{name}: {error}"))
}
