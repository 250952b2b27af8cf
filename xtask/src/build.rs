//! Building the workspace's programs, and what that needs.

use anyhow::{Context, bail};
use std::io::Write as _;
use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

/// A program that has to be on the machine: what to look for, why, and Debian's package.
const NEEDED: &[(&[&str], &str, &str)] = &[
    (&["cc", "gcc", "clang"], "a C compiler (image codecs, SQLite)", "build-essential"),
    (&["c++", "g++", "clang++"], "a C++ compiler (JPEG-LS)", "build-essential"),
    (&["cmake"], "cmake (JPEG-LS)", "cmake"),
];

/// Root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}

/// `cargo` without what an outer cargo set for xtask itself: `ring` watches `CARGO_MANIFEST_DIR`, so left in place it
/// would recompile the TLS and database crates at every change between `cargo xtask` and plain `cargo`.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        let own = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"];
        if own.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&key);
        }
    }
    command.current_dir(root());
    command
}

/// The running xtask lies in the profile's folder: its neighbours are the programs.
pub fn path_of(program: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap_or_default();
    here.parent().map(|folder| folder.join(program)).unwrap_or_default()
}

/// Starts one of our programs, with large pages for large arrays: without, a third of the time of an operation on a whole
/// scan goes into the kernel's handing out of small ones. glibc reads it when a program starts; other C libraries ignore it.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(path_of(program));
    if std::env::var_os(TUNABLES).is_none() {
        command.env(TUNABLES, "glibc.malloc.hugetlb=1");
    }
    command
}

const TUNABLES: &str = "GLIBC_TUNABLES";

/// Builds all programs: always the same set, so that features are resolved once and nothing compiles twice.
pub fn programs() -> anyhow::Result<()> {
    if std::env::var_os("LUNGAI_NO_BUILD").is_some() {
        return Ok(());
    }
    needed()?;
    let mut command = cargo();
    command.args(["build", "--workspace", "--bins"]).stdout(Stdio::null());
    if let Some(features) = std::env::var_os("LUNGAI_FEATURES") {
        command.arg("--features").arg(features);
    }
    // Cargo itself says what it compiles and when it waits for another cargo: minutes of silence look like a program that hangs.
    if !path_of("lungai").exists() {
        eprintln!("building all programs for the first time: about ten minutes on two cores");
    }
    let status = command.status().context("cargo cannot be started")?;
    if !status.success() {
        bail!("the workspace does not compile; see above");
    }
    Ok(())
}

/// Checks for native tools; installs them where that is possible without asking: as root on Debian or Ubuntu.
pub fn needed() -> anyhow::Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    let debian = found("apt-get") && Path::new("/etc/debian_version").exists();
    if debian && is_root() {
        eprintln!("installing {} (apt-get)", packages.join(", "));
        let apt = |args: &[&str]| {
            let status = Command::new("apt-get")
                .args(args)
                .env("DEBIAN_FRONTEND", "noninteractive")
                .stdout(Stdio::null())
                .status();
            status.is_ok_and(|status| status.success())
        };
        let install = [&["install", "-y", "--no-install-recommends"], packages.as_slice()].concat();
        if apt(&install) || (apt(&["update"]) && apt(&install)) {
            return Ok(());
        }
    }
    let what: Vec<&str> = missing.iter().map(|(what, _)| *what).collect();
    bail!(
        "missing: {}; get it with `sudo apt-get install {}` or your system's equivalent",
        what.join(", "),
        packages.join(" ")
    )
}

fn missing() -> Vec<(&'static str, &'static str)> {
    let absent = |(names, what, package): &(&[&str], &'static str, &'static str)| {
        (!names.iter().any(|name| found(name))).then_some((*what, *package))
    };
    NEEDED.iter().filter_map(absent).collect()
}

/// Whether a program is on the search path.
pub fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// `cargo xtask doctor`.
pub fn doctor() -> anyhow::Result<ExitCode> {
    let missing = missing();
    for (names, what, package) in NEEDED {
        let state = if missing.iter().any(|(m, _)| m == what) { "MISSING" } else { "ok" };
        _ = writeln!(std::io::stdout(), "{state:8} {what}  [{}; package {package}]", names.join(", "));
    }
    for (program, what) in [
        ("cargo-nextest", "test runner; without it `cargo xtask test` runs the tests, but its results are no evidence"),
        ("cargo-tarpaulin", "line coverage; `cargo xtask coverage` installs it with cargo"),
        ("cargo-deny", "licence and source policy; without it `cargo xtask test` checks bans and licences itself"),
        ("python3", "peers for comparison (optional)"),
        (
            "mlflow",
            "tracking server (optional); tests of `track sync` run against it, LUNGAI_MLFLOW names one elsewhere",
        ),
        ("nvidia-smi", "NVIDIA driver (optional; training and inference fall back to the CPU)"),
    ] {
        _ = writeln!(std::io::stdout(), "{:8} {program}: {what}", if found(program) { "ok" } else { "absent" });
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    _ = writeln!(std::io::stdout(), "{:8} {threads} threads", "ok");
    match std::env::var_os("LUNGAI_REFERENCE_DATA") {
        Some(path) if Path::new(&path).is_dir() => {
            _ = writeln!(std::io::stdout(), "{:8} reference data: tests on real scans run", "ok")
        }
        _ => {
            _ = writeln!(
                std::io::stdout(),
                "{:8} LUNGAI_REFERENCE_DATA: tests on real scans record that they were not evidenced here",
                "absent"
            )
        }
    }
    let (state, what) = match std::env::var_os("LUNGAI_PEER_PYTHON") {
        Some(path) if Path::new(&path).is_file() => ("ok", "networks are compared with PyTorch and onnxruntime"),
        _ => (
            "absent",
            "comparisons of the networks with PyTorch and onnxruntime record that they were not evidenced here",
        ),
    };
    _ = writeln!(std::io::stdout(), "{state:8} LUNGAI_PEER_PYTHON: {what}");
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
