//! `cargo xtask gpu-check`: everything that is to be measured on a GPU, packed for a machine that has only a driver, CUDA and
//! PyTorch.

use crate::build::{cargo, needed, root};
use anyhow::{Context, bail, ensure};
use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::{fs, os::unix::fs::PermissionsExt};

const HELP: &str = "cargo xtask gpu-check: packs the programs with CUDA, the experiments and the PyTorch peers into target/gpu-check.tar.xz

On the machine with the GPU (a driver, the CUDA toolkit's NVRTC and headers, python3 with PyTorch; no compiler, no network):

  tar xJf gpu-check.tar.xz && gpu-check/gpu-check.sh

It compares every network with the CPU, times it against PyTorch on the same GPU, runs the three reference trainings, and
writes gpu-check/gpu-check.json: keep that file under experiments/gpu/. Where a call may only last minutes, do it in parts:

  gpu-check/gpu-check.sh --parts correctness
  gpu-check/gpu-check.sh --parts speed
  gpu-check/gpu-check.sh --parts training --minutes 2     (goes on where it stopped when called again)

The first build with CUDA takes about half an hour on two cores; it needs no CUDA itself.";

/// What goes along from the repository.
const FILES: &[&str] = &[
    "experiments/reference-lung.yaml",
    "experiments/reference-detector.yaml",
    "experiments/reference-classifier.yaml",
    "datasets/phantom-8c.yaml",
    "datasets/phantom-quick.yaml",
    "crates/lungai-bench/peers/contest.py",
    "crates/lungai-bench/peers/workloads.py",
    "tests/peers/torch_nets.py",
];

/// The programs, from a target folder of their own: CUDA is a feature of half of all dependencies.
const PROGRAMS: &[&str] = &["lungai-bench", "lungai-train", "lungai"];

const ENTRY: &str = "#!/bin/sh
# Everything that LungAI's networks do on a GPU; see --help. Results: gpu-check.json beside this file.
cd \"$(dirname \"$0\")\" || exit 1
python=''
if python3 -c 'import numpy, torch' 2>/dev/null; then
    python='--peer-python python3'
else
    echo 'python3 has no numpy or PyTorch: speed is measured without a peer' >&2
fi
# shellcheck disable=SC2086
exec ./lungai-bench gpu-check --device cuda:0 $python --folder work --out gpu-check.json \"$@\"
";

/// The verb.
pub fn main(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    if let Some(word) = arguments.first() {
        if word == "--help" || word == "-h" {
            _ = writeln!(std::io::stdout(), "{HELP}");
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("unknown option {}\n\n{HELP}", word.to_string_lossy());
        return Ok(ExitCode::from(2));
    }
    needed()?;
    let target = root().join("target/cuda");
    let mut build = cargo();
    build.args(["build", "--bins", "-p", "lungai-bench", "-p", "lungai-train", "-p", "lungai-cli"]);
    build.args(["--features", "lungai-bench/cuda,lungai-train/cuda", "--target-dir"]).arg(&target);
    // Without a toolkit at hand the driver's interface of the oldest CUDA that is supported.
    build.env("CUDARC_CUDA_VERSION", std::env::var_os("CUDARC_CUDA_VERSION").unwrap_or_else(|| "13000".into()));
    ensure!(build.status().context("cargo cannot be started")?.success(), "the programs do not compile with CUDA");

    let folder = target.join("gpu-check");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
    }
    for file in FILES {
        copy(&root().join(file), &folder.join(file))?;
    }
    for program in PROGRAMS {
        let to = folder.join(program);
        copy(&target.join("debug").join(program), &to)?;
        // Nine tenths of a program are what a debugger would want.
        if !Command::new("strip").arg(&to).status().is_ok_and(|status| status.success()) {
            eprintln!("{program} is packed with its debugging information: there is no `strip` here");
        }
    }
    let entry = folder.join("gpu-check.sh");
    fs::write(&entry, ENTRY).with_context(|| format!("{}", entry.display()))?;
    fs::set_permissions(&entry, fs::Permissions::from_mode(0o755))?;

    let archive = root().join("target/gpu-check.tar.xz");
    let mut pack = Command::new("tar");
    pack.arg("cJf").arg(&archive).arg("-C").arg(&target).arg("gpu-check");
    if !pack.status().context("tar cannot be started")?.success() {
        bail!("the archive could not be written; is xz installed?");
    }
    let mib = fs::metadata(&archive)?.len() as f64 / f64::from(1 << 20);
    _ = writeln!(std::io::stdout(), "{} ({mib:.0} MiB)\n\n{HELP}", archive.display());
    Ok(ExitCode::SUCCESS)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
    fs::copy(from, to).with_context(|| format!("{}", from.display()))?;
    Ok(())
}
