//! `gpu-check`: what the networks do on a GPU, in one results file. Whether they compute what they compute on the CPU; how
//! long they take beside PyTorch on the same GPU; whether the three reference trainings run there, and how well.
//!
//! It also runs with `--device cpu`, which shows that it would run; the file says on what it ran.

use crate::results::{Output, Values};
use crate::{Arguments, nets, race, workloads};
use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use lungai_models::DeviceChoice;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Outputs and gradients against the CPU's.
    Correctness,
    /// Times against PyTorch.
    Speed,
    /// The reference trainings.
    Training,
}

/// Largest difference from the CPU, as a share of the largest value: f32 in another order of summation, perhaps by tensor
/// cores of 10 bits; bfloat16 has 8.
const TOLERANCES: [(bool, f64); 2] = [(false, 5e-3), (true, 5e-2)];

const RECIPES: [&str; 3] = ["lung", "detector", "classifier"];

/// Does the parts and writes the results file after each.
pub fn check(arguments: &Arguments, mut settings: race::Settings) -> anyhow::Result<ExitCode> {
    let (_, device) = settings.device.open()?;
    settings.device = device.parse()?;
    let out = &arguments.out;
    let mut results: Map<String, Value> = match std::fs::read(out) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{}", out.display()))?,
        Err(_) => Map::new(),
    };
    let all = arguments.parts.is_empty();
    let mut good = true;
    for part in Part::value_variants() {
        if !all && !arguments.parts.contains(part) {
            continue;
        }
        let (name, mut result) = match part {
            Part::Correctness => ("correctness", correctness(arguments, &settings)?),
            Part::Speed => ("speed", speed(arguments, &mut settings)?),
            Part::Training => ("training", training(arguments, &device)?),
        };
        good &= result["ok"] == true;
        // Of each part, for parts may come from several machines.
        result["machine"] = machine(&device);
        results.insert(name.into(), result);
        std::fs::write(out, serde_json::to_vec_pretty(&results)?).with_context(|| format!("{}", out.display()))?;
        eprintln!("{name}: written to {}", out.display());
    }
    _ = writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&results)?);
    Ok(ExitCode::from(u8::from(!good)))
}

fn machine(device: &str) -> Value {
    let query = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"];
    let gpus = Command::new("nvidia-smi").args(query).output().ok().filter(|output| output.status.success());
    json!({
        "device": device,
        "gpus": gpus.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        "threads": std::thread::available_parallelism().map_or(1, usize::from),
    })
}

/// Each network in a process of its own: the device and its precision are the process's.
fn correctness(arguments: &Arguments, settings: &race::Settings) -> anyhow::Result<Value> {
    nets::make(&settings.folder)?;
    let mut rows = Vec::new();
    for net in &nets::NETS {
        let [truth_y, truth_step] = computed(arguments, settings, net.name, DeviceChoice::Cpu, false)?;
        for (bf16, allowed) in TOLERANCES {
            if bf16 && settings.device == DeviceChoice::Cpu {
                continue;
            }
            let [y, step] = computed(arguments, settings, net.name, settings.device, bf16)?;
            let outputs = off(&values(&truth_y)?, &values(&y)?)?;
            let norm = |of: &Output| of.numbers.get("gradient norm").copied().context("a step without a gradient");
            let gradients = (norm(&step)? / norm(&truth_step)? - 1.0).abs();
            let ok = outputs <= allowed && gradients <= allowed;
            let precision = if bf16 { "bf16" } else { "f32" };
            eprintln!("{} {precision}: outputs off by {outputs:.1e}, gradients by {gradients:.1e}", net.name);
            rows.push(json!({ "network": net.name, "precision": precision, "outputs_off": outputs,
                "gradient_norm_off": gradients, "allowed": allowed, "ok": ok }));
        }
    }
    Ok(
        json!({ "ok": rows.iter().all(|row| row["ok"] == true), "against": "the same networks on the CPU in f32", "rows": rows }),
    )
}

/// Output and training step of a network.
fn computed(
    arguments: &Arguments,
    settings: &race::Settings,
    net: &str,
    device: DeviceChoice,
    bf16: bool,
) -> anyhow::Result<[Output; 2]> {
    let mut done = Vec::new();
    for what in ["forward", "step"] {
        let workload = format!("nets-{net}-{what}");
        let to = settings.folder.join("results/gpu-check").join(&workload);
        let mut command = Command::new(std::env::current_exe()?);
        command.args([&workload, "--contest", "--folder"]).arg(&arguments.folder);
        command.args(["--device", &device.to_string()]).args(bf16.then_some("--bf16"));
        let mut contestant = crate::contestant::Contestant::start(&mut command)?;
        contestant.run()?;
        let saved = contestant.save(&to)?;
        let mut output = Output { numbers: saved.numbers.clone(), ..Output::default() };
        if what == "forward" {
            output.arrays.insert("y", saved.load(&to, "y")?);
        }
        done.push(output);
    }
    done.try_into().map_err(|_| anyhow::anyhow!("two results"))
}

fn values(output: &Output) -> anyhow::Result<Vec<f32>> {
    match output.arrays.get("y") {
        Some(Values::F32(values)) => Ok(values.clone()),
        _ => bail!("a network without outputs"),
    }
}

/// Largest difference as a share of the largest value; infinite where one is not a number.
fn off(truth: &[f32], found: &[f32]) -> anyhow::Result<f64> {
    ensure!(truth.len() == found.len(), "{} outputs instead of {}", found.len(), truth.len());
    let largest = truth.iter().fold(f32::MIN_POSITIVE, |a, b| a.max(b.abs()));
    let worst = truth.iter().zip(found).map(|(a, b)| (a - b).abs());
    let worst = worst.fold(0f32, |worst, d| if d.is_nan() { f32::INFINITY } else { worst.max(d) });
    Ok(f64::from(worst / largest))
}

fn speed(arguments: &Arguments, settings: &mut race::Settings) -> anyhow::Result<Value> {
    let (mut rows, mut ok) = (Vec::new(), true);
    settings.peers = settings.python.is_some() || arguments.peer;
    for (bf16, _) in TOLERANCES {
        if bf16 && settings.device == DeviceChoice::Cpu {
            continue;
        }
        settings.bf16 = bf16;
        for workload in workloads::ALL.iter().filter(|workload| workload.group() == "nets") {
            let report = race::run(workload, settings)?;
            eprintln!("{}{}", if bf16 { "bf16 " } else { "" }, report.table());
            ok &= report.agrees();
            let mut row = report.json();
            row["precision"] = json!(if bf16 { "bf16" } else { "f32" });
            rows.push(row);
        }
    }
    Ok(
        json!({ "ok": ok, "note": "ratio = PyTorch / ours; PyTorch as it comes: TF32 in convolutions of f32", "rows": rows }),
    )
}

/// Makes the data and runs each reference training for some minutes; a second call goes on where the first one stopped.
fn training(arguments: &Arguments, device: &str) -> anyhow::Result<Value> {
    let here = std::env::current_exe()?;
    let beside = here.parent().context("a program lies in a folder")?;
    let (recipe, data) = if arguments.quick {
        ("datasets/phantom-quick.yaml", arguments.folder.join("phantom-quick"))
    } else {
        ("datasets/phantom-8c.yaml", arguments.folder.join("phantom-8c"))
    };
    let mut make = Command::new(beside.join("lungai"));
    make.args(["dataset", "make", recipe, "--on-demand", "all", "--out"]).arg(&data).stdout(Stdio::null());
    ensure!(make.status().context("lungai cannot be started")?.success(), "the data set could not be made");
    let mut rows = Vec::new();
    for network in RECIPES {
        let run = arguments.folder.join(format!("runs/{device}-{network}").replace(':', "-"));
        let mut train = Command::new(beside.join("lungai-train"));
        train.args(["train", "--device", device]).stdout(Stdio::null());
        if run.join("checkpoint").exists() {
            train.arg("--resume").arg(&run);
        } else {
            if run.exists() {
                std::fs::remove_dir_all(&run)?;
            }
            train.arg(format!("experiments/reference-{network}.yaml")).arg("--run").arg(&run);
            train.arg("--data").arg(data.join("manifest.yaml"));
            if arguments.quick {
                for set in ["steps=4", "batch=2", "warmup_steps=1", "evaluate_every=2"] {
                    train.arg("--set").arg(format!("training.{set}"));
                }
            }
        }
        let start = Instant::now();
        let ended = within(&mut train, Duration::from_secs_f64(60.0 * arguments.minutes))?;
        rows.push(row(network, &run, ended, start.elapsed().as_secs_f64())?);
        eprintln!("{}", rows[rows.len() - 1]);
    }
    let ok = rows.iter().all(|row| row["losses_finite"] == true && row["steps"].as_u64() > Some(0));
    Ok(json!({ "ok": ok, "data": recipe, "rows": rows }))
}

/// Whether it ended by itself, and well.
fn within(command: &mut Command, limit: Duration) -> anyhow::Result<bool> {
    let mut child = command.spawn().context("lungai-train cannot be started")?;
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What the run's journal says.
fn row(network: &str, run: &Path, ended: bool, seconds: f64) -> anyhow::Result<Value> {
    let path: PathBuf = run.join("journal.jsonl");
    let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let events: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |kind: &'static str| events.iter().filter(move |event| event["event"] == kind);
    let times: Vec<f64> = of("step").filter_map(|event| event["time_ms"].as_f64()).collect();
    let mut gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) / 1000.0).collect();
    gaps.sort_by(f64::total_cmp);
    let last = of("evaluation").next_back();
    Ok(json!({
        "network": network, "ended": ended, "seconds": seconds,
        "steps": of("step").next_back().map_or(0, |event| event["step"].as_u64().unwrap_or(0)),
        "median_step_s": gaps.get(gaps.len() / 2),
        "losses_finite": of("step").all(|event| event["loss"].is_number()),
        "share_waited_for_batches": last.map(|event| event["waited"].clone()),
        "held_out": last.map(|event| event["metrics"].clone()),
    }))
}
