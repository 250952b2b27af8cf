//! `cargo xtask fuzz`: the mutation test of the DICOM reader with other numbers than the test run's.

use crate::build;
use anyhow::{Context, bail};
use std::ffi::OsString;
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
                println!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            _ => bail!("unknown argument `{word}`\n\n{HELP}"),
        };
        let number = words.next().and_then(|value| value.parse::<u32>().ok());
        let number = number.with_context(|| format!("{word} needs a whole number below 2^32"))?;
        command.env(variable, number.to_string());
    }
    let status = command.status().context("cargo cannot be started")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
