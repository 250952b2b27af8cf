//! `lungai-bench`: the product's operations against the field's reference programs, on the same files, in turn.
//!
//! Each contestant is a process of its own: it loads its input, waits, does the work once per request and tells how
//! long it took and how much memory it needed on top. The requests alternate, so that whatever else the machine does
//! falls on all of them alike. Then the results are compared. Times alone say nothing; the ratio and the agreement do.

mod agreement;
mod contestant;
mod gpu;
mod inputs;
mod nets;
mod peers;
mod race;
mod results;
mod statistics;
mod trace;
mod workloads;

use anyhow::Context;
use clap::Parser;
use lungai_models::DeviceChoice;
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Measures the product's operations, and with --peer those of other programs on the same input.
#[derive(Parser)]
#[command(
    name = "lungai-bench",
    version,
    args_override_self = true,
    after_help = "\
The ratio is the peer's median time over ours: above 1 we are faster. Memory is what the work needed on top of its
input. Exit code 1: a peer computed something else, or ours took longer than its bar (auc 0.1 s, froc 1 s, cpm 10 s,
trace-own 5 s, trace-2000 30 s, for two cores). --peer makes a Python environment with the peers on its first use (a download of some gigabytes, kept).

Examples:
  cargo xtask bench --list
  cargo xtask bench resample-linear --peer
  cargo xtask bench all --peer --json > bench.json"
)]
struct Arguments {
    /// A workload of --list, or a group of them: `nets`, `read`, `augment`, ..., `all`; or `gpu-check`: everything that the
    /// networks do on a GPU, against the CPU and against PyTorch on the same GPU.
    #[arg(required_unless_present = "list", value_parser = names(), hide_possible_values = true)]
    name: Option<String>,
    /// Print the workloads with their peers.
    #[arg(long)]
    list: bool,
    /// Also run the peers.
    #[arg(long)]
    peer: bool,
    /// Print one JSON object and nothing else on standard output.
    #[arg(long)]
    json: bool,
    /// Runs of each contestant; slow ones get fewer, at least one after the warm-up.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Threads of each contestant; default: all cores.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Where inputs and the peers' environment are kept.
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
    /// Where networks run: auto, cpu or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// Networks' convolutions in bfloat16 (GPU).
    #[arg(long)]
    bf16: bool,
    /// A Python that has the peers, instead of an environment made for them.
    #[arg(long, value_name = "PROGRAM")]
    peer_python: Option<PathBuf>,
    /// `gpu-check`: the parts to do; default: all.
    #[arg(long, value_enum, value_delimiter = ',')]
    parts: Vec<gpu::Part>,
    /// `gpu-check`: results file; parts that are not done now stay in it as they are.
    #[arg(long, value_name = "JSON", default_value = "gpu-check.json")]
    out: PathBuf,
    /// `gpu-check`: minutes after which each training is stopped.
    #[arg(long, default_value_t = 9.0)]
    minutes: f64,
    /// `gpu-check`: a small data set and a few steps, to see that everything runs.
    #[arg(long)]
    quick: bool,
    /// Runs one workload as the race's process; not for people.
    #[arg(long, hide = true)]
    contest: bool,
}

const GPU_CHECK: &str = "gpu-check";

fn names() -> clap::builder::PossibleValuesParser {
    workloads::ALL.iter().flat_map(|w| [w.name, w.group()]).chain(["all", GPU_CHECK]).collect::<Vec<_>>().into()
}

fn main() -> ExitCode {
    // Before anything else: this program also serves as the process that decodes DICOM.
    lungai_dicom::worker::init();
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            if arguments.json {
                _ = writeln!(
                    std::io::stdout(),
                    "{}",
                    json!({ "ok": false, "rule": "bench", "message": format!("{error:#}") })
                );
            } else {
                eprintln!("error: {error:#}");
            }
            ExitCode::from(1)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.list {
        let rows = workloads::ALL.iter().map(|w| (w.name, w.about, peers::of(w.name)));
        if arguments.json {
            let rows: Vec<Value> =
                rows.map(|(name, about, peers)| json!({ "name": name, "about": about, "peers": peers })).collect();
            _ = writeln!(std::io::stdout(), "{}", json!({ "ok": true, "benchmarks": rows }));
        } else {
            for (name, about, peers) in rows {
                _ = writeln!(std::io::stdout(), "{name:18} {about}\n{:18} against {}", "", peers.join(", "));
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let name = arguments.name.as_deref().unwrap_or_default();
    if name != GPU_CHECK {
        nets::PLACE.set((arguments.device, arguments.bf16)).ok().context("set once")?;
    }
    if arguments.contest {
        contestant::serve(workloads::named(name)?, &arguments.folder)?;
        return Ok(ExitCode::SUCCESS);
    }
    let chosen: Vec<&workloads::Workload> =
        workloads::ALL.iter().filter(|w| name == "all" || name == w.name || name == w.group()).collect();
    std::fs::create_dir_all(&arguments.folder).with_context(|| format!("{}", arguments.folder.display()))?;
    let settings = race::Settings {
        folder: arguments.folder.canonicalize()?,
        rounds: arguments.rounds,
        threads: arguments
            .threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get() as u32)),
        peers: arguments.peer,
        python: arguments.peer_python.clone(),
        device: arguments.device,
        bf16: arguments.bf16,
    };
    if name == GPU_CHECK {
        return gpu::check(arguments, settings);
    }
    let mut reports = Vec::new();
    for workload in chosen {
        let report = race::run(workload, &settings)?;
        if !arguments.json {
            _ = writeln!(std::io::stdout(), "{}", report.table());
        }
        reports.push(report);
    }
    if arguments.json {
        let all: Vec<Value> = reports.iter().map(race::Report::json).collect();
        match &all[..] {
            [one] if name == one["name"] => _ = writeln!(std::io::stdout(), "{one}"),
            _ => {
                let ok = all.iter().all(|report| report["ok"] == true);
                _ = writeln!(std::io::stdout(), "{}", json!({ "ok": ok, "benchmarks": all }));
            }
        }
    }
    // Ratios vary with the machine; what must not vary is the answer, and a time that was promised is kept.
    let kept = reports.iter().all(|report| report.agrees() && report.in_time());
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
