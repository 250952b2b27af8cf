//! What cargo-nextest says about the test that this process is, or that started it.
use crate::json;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

pub struct Runner {
    folder: PathBuf,
    /// One for each call of nextest; its JUnit report carries the same.
    pub run: String,
    /// Such as `lungai-dicom::mutants`.
    pub binary: String,
    /// As libtest names it, `pixels::tests::x`.
    pub test: String,
    pub attempt: String,
    /// Whether this process is the test itself, and not a program that it started.
    pub is_test: bool,
}

/// None where nothing is to be recorded.
pub fn runner() -> Option<&'static Runner> {
    static RUNNER: OnceLock<Option<Runner>> = OnceLock::new();
    RUNNER.get_or_init(|| Runner::from(|name| std::env::var_os(name), std::env::args_os().skip(1))).as_ref()
}

impl Runner {
    fn from(
        variable: impl Fn(&str) -> Option<OsString>,
        mut arguments: impl Iterator<Item = OsString>,
    ) -> Option<Self> {
        let text = |name| variable(name)?.into_string().ok();
        // Nextest's promise that no other test runs in the process.
        if text("NEXTEST_EXECUTION_MODE")? != "process-per-test" {
            return None;
        }
        Some(Self {
            folder: variable("LUNGAI_TRACE_DIR")?.into(),
            run: text("NEXTEST_RUN_ID")?,
            binary: text("NEXTEST_BINARY_ID")?,
            test: text("NEXTEST_TEST_NAME")?,
            attempt: text("NEXTEST_ATTEMPT")?,
            is_test: arguments.any(|argument| argument == "--exact"),
        })
    }

    /// The record of the test.
    pub fn write(&self, record: &str) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        std::fs::write(self.folder.join(self.file_name("json")), record)
    }

    /// A line in this process's own file, at once: the test may end the process at any time.
    pub fn note_calls(&self, ids: &[&str]) {
        let line = json::object(&[
            ("format", json::string("lungai-trace-process/1")),
            ("run", json::string(&self.run)),
            ("binary", json::string(&self.binary)),
            ("test", json::string(&self.test)),
            ("attempt", json::string(&self.attempt)),
            ("exercised", json::array(ids.iter().map(|id| json::string(id)))),
        ]) + "\n";
        let file = self.folder.join(self.file_name("jsonl"));
        let written = std::fs::create_dir_all(&self.folder)
            .and_then(|()| std::fs::File::options().append(true).create(true).open(file))
            .and_then(|mut file| file.write_all(line.as_bytes()));
        // What is not written is not counted: the loss is the test's, and nothing here may disturb the program. Its error output may
        // be what the test looks at.
        _ = written;
    }

    /// One file per binary, test, process and repeated attempt.
    fn file_name(&self, ending: &str) -> String {
        let plain = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', "-");
        let retry = if self.attempt == "1" { String::new() } else { format!("@{}", plain(&self.attempt)) };
        let mut name = format!("{}+{}", plain(&self.binary), plain(&self.test));
        name.truncate(200); // file systems take 255 bytes
        format!("{name}{retry}+{}.{ending}", std::process::id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(without: &str, arguments: &[&str]) -> Option<Runner> {
        let variables = [
            ("NEXTEST_EXECUTION_MODE", "process-per-test"),
            ("LUNGAI_TRACE_DIR", "/trace"),
            ("NEXTEST_RUN_ID", "r"),
            ("NEXTEST_BINARY_ID", "p::bin/q"),
            ("NEXTEST_TEST_NAME", "a::b"),
            ("NEXTEST_ATTEMPT", "2"),
        ];
        let variable =
            |name: &str| variables.iter().find(|(n, _)| *n == name && name != without).map(|(_, v)| (*v).into());
        Runner::from(variable, arguments.iter().map(|argument| OsString::from(*argument)))
    }

    #[test]
    fn a_test_is_told_from_a_program_that_it_started() {
        assert!(from("", &["--exact", "a::b", "--nocapture"]).unwrap().is_test);
        assert!(!from("", &["ct", "info"]).unwrap().is_test);
    }

    #[test]
    fn nothing_is_recorded_outside_nextest_or_without_a_folder() {
        for absent in ["NEXTEST_EXECUTION_MODE", "NEXTEST_RUN_ID", "LUNGAI_TRACE_DIR"] {
            assert!(from(absent, &["--exact"]).is_none(), "{absent}");
        }
    }

    #[test]
    fn every_process_and_attempt_has_a_file_of_its_own() {
        let name = from("", &[]).unwrap().file_name("jsonl");
        assert_eq!(name, format!("p--bin-q+a--b@2+{}.jsonl", std::process::id()));
    }
}
