//! `cargo xtask fuzz`: the mutation test of the DICOM reader with other numbers than the test run's.

use crate::build;
use anyhow::Context;
use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask fuzz [--mutants N] [--seed S]

Damages DICOM files (those of our writer and, where LUNGAI_REFERENCE_DATA is set, those of scanners) and reads them.
Passes when every file gives its pixels or one named error: no panic, no crash, at most 4 s of computing, one more
for each MiB of the file, and 64 MiB + 8 x the file's size of memory. A mutant that fails is kept, and its path is printed.

  --mutants N    how many (20000)
  --seed S       other mutants (1)";

pub fn main(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let mut command = build::cargo();
    command.args(["test", "--workspace", "--quiet", "--test", "mutants", "--", "--nocapture"]);
    let mut words = arguments.iter().map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        let variable = match &*word {
            "--mutants" => "LUNGAI_MUTANTS",
            "--seed" => "LUNGAI_FUZZ_SEED",
            "--help" | "-h" => {
                _ = writeln!(std::io::stdout(), "{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            _ => return Ok(usage(&format!("unknown argument `{word}`"))),
        };
        let number = words.next().and_then(|value| value.parse::<u32>().ok());
        let Some(number) = number.filter(|n| *n > 0 || &*word == "--seed") else {
            return Ok(usage(&format!("{word} needs a whole number from 1 (a seed: from 0) to 2^32 - 1")));
        };
        command.env(variable, number.to_string());
    }
    let status = command.status().context("cargo cannot be started")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn usage(message: &str) -> ExitCode {
    eprintln!("error: {message}\n\n{HELP}");
    ExitCode::from(2)
}
