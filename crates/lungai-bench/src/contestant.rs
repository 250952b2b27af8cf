//! One side of a race: a process that works on request. The peers' side of the same protocol is `peers/contest.py`.
//!
//! Requests are lines on standard input, answers JSON lines on standard output: after `ready`, `run` does the work once,
//! `save FOLDER` writes the last result.

use crate::results::{Output, Saved};
use crate::workloads::Workload;
use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A contestant seen from the race.
pub struct Contestant {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Program and version.
    pub version: String,
}

#[derive(Deserialize)]
struct Ready {
    version: String,
}

/// One timed run.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Run {
    /// Wall time of the work alone.
    pub seconds: f64,
    /// Memory of the process and its children at its highest, above what it held before, in MiB. Children only in a
    /// first run.
    pub peak_mib: f64,
}

impl Contestant {
    /// Starts a process and waits until its input is loaded.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("{program} cannot be started"))?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("{program} has no pipes");
        };
        let mut contestant = Self { child, requests, answers: BufReader::new(answers), version: String::new() };
        contestant.version = contestant.answer::<Ready>()?.version;
        Ok(contestant)
    }

    /// Does the work once.
    pub fn run(&mut self) -> anyhow::Result<Run> {
        self.ask("run")
    }

    /// Writes the last result into `folder`.
    pub fn save(&mut self, folder: &Path) -> anyhow::Result<Saved> {
        self.ask(&format!("save {}", folder.display()))
    }

    fn ask<T: for<'de> Deserialize<'de>>(&mut self, request: &str) -> anyhow::Result<T> {
        writeln!(self.requests, "{request}")?;
        self.requests.flush()?;
        self.answer()
    }

    fn answer<T: for<'de> Deserialize<'de>>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.is_empty() {
            bail!("a contestant ended before it answered: {}", self.child.wait()?);
        }
        serde_json::from_str(&line).with_context(|| format!("a contestant answered `{}`", line.trim()))
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Our side: works on request until standard input ends.
pub fn serve(workload: &Workload, folder: &Path) -> anyhow::Result<()> {
    let mut work = (workload.prepare)(folder)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", json!({ "version": format!("lungai {}", env!("CARGO_PKG_VERSION")) }))?;
    out.flush()?;
    let mut last: Option<Output> = None;
    for request in std::io::stdin().lock().lines() {
        let request = request?;
        let answer = match request.split_once(' ') {
            Some(("save", to)) => {
                let result = last.as_ref().context("nothing was run yet")?;
                serde_json::to_value(result.save(&PathBuf::from(to))?)?
            }
            _ => {
                let warm_up = last.is_none();
                drop(last.take()); // the memory of the last result is not this run's
                let before = resident_mib("VmRSS")?;
                // Sets the high-water mark back to what is resident now: proc_pid_clear_refs(5).
                std::fs::write("/proc/self/clear_refs", "5")?;
                let start = Instant::now();
                let (result, children_mib) = if warm_up { watched(&mut work) } else { (work(), 0.0) };
                let seconds = start.elapsed().as_secs_f64();
                let own = (resident_mib("VmHWM")? - before).max(0.0);
                last = Some(result?);
                json!({ "seconds": seconds, "peak_mib": own + children_mib })
            }
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

/// Does the work, and looks every two milliseconds at what its processes (DICOM is decoded in some) hold together: the
/// highest sum in MiB. Only the warm-up is watched, so that no timing is disturbed.
fn watched<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut highest = 0f64;
            while !done.load(Ordering::Relaxed) {
                highest = highest.max(children_mib());
                std::thread::sleep(Duration::from_millis(2));
            }
            highest
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        (result, watch.join().unwrap_or(f64::NAN))
    })
}

/// Resident memory of this process's children. One that ends while it is looked at counts nothing.
fn children_mib() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let pages = |pid: &str| -> Option<f64> {
        std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?.split_whitespace().nth(1)?.parse().ok()
    };
    children.map(|pids| pids.split_whitespace().filter_map(pages).sum::<f64>()).sum::<f64>() * 4096.0
        / f64::from(1 << 20)
}

fn resident_mib(key: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(key)).context("no such line in /proc/self/status")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib / 1024.0)
}
