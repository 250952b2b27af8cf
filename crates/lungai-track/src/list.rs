//! `track list`: the runs of a folder at a glance.

use crate::table::{duration, figure, table};
use crate::{Failure, Report};
use lungai_runs::{Run, State, find_runs};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Where `train` puts runs.
const RUNS: &str = "experiments/runs";

#[derive(clap::Args)]
pub struct Args {
    /// Folder of run folders, or one run folder.
    #[arg(default_value = RUNS)]
    folder: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// The verb. A run that cannot be read is listed with the reason; the others are none the worse for it.
pub fn run(args: &Args) -> Result<Report, Failure> {
    // Where nobody has trained yet the usual folder is not there; another one was named by mistake.
    let none_yet = args.folder == Path::new(RUNS) && !args.folder.exists();
    let folders = if none_yet { Vec::new() } else { find_runs(&args.folder)? };
    let mut rows = vec![["run", "network", "state", "steps", "best", "time", "data"].map(str::to_owned).to_vec()];
    let mut list = Vec::new();
    let mut remarks = String::new();
    for folder in &folders {
        let within = folder.strip_prefix(&args.folder).ok().filter(|path| !path.as_os_str().is_empty());
        let name = within.unwrap_or(Path::new(folder.file_name().unwrap_or(folder.as_os_str()))).display().to_string();
        let run = match Run::read(folder) {
            Ok(run) => run,
            Err(error) => {
                rows.push(vec![name, "-".into(), "unreadable".into()]);
                remarks.push_str(&format!("{error}\n"));
                list.push(
                    json!({ "run": folder, "state": "unreadable", "rule": error.rule(), "message": error.to_string() }),
                );
                continue;
            }
        };
        let best = run.headline();
        let mark = if run.record.synthetic { " (SYNTHETIC)" } else { "" };
        rows.push(vec![
            name,
            run.network().to_owned(),
            state(run.state).to_owned(),
            steps(&run),
            best.map_or_else(|| "-".into(), |(name, value)| format!("{name} {}", figure(Some(value)))),
            duration(run.history.seconds),
            format!("{}{mark}", run.record.data.name),
        ]);
        if let Some(warning) = run.warning() {
            remarks.push_str(&format!("{warning}\n"));
        }
        list.push(json!({
            "run": folder, "name": run.name(), "network": run.network(), "state": run.state, "step": run.history.step,
            "steps": planned(&run), "best": run.best, "headline": best.map(|(name, value)| json!({ "name": name, "value": value })),
            "seconds": run.history.seconds, "synthetic": run.record.synthetic, "data": run.record.data,
            "cut_lines": run.journal.cut,
        }));
    }
    let text = if folders.is_empty() {
        format!("no runs in {} (`cargo xtask train EXPERIMENT` makes one)\n", args.folder.display())
    } else {
        table(&rows) + &remarks
    };
    Ok(Report { json: json!({ "ok": true, "folder": args.folder, "runs": list }), text })
}

/// In words.
pub fn state(state: State) -> &'static str {
    match state {
        State::Running => "running",
        State::Finished => "finished",
        State::Failed => "failed",
        State::Interrupted => "interrupted",
    }
}

/// Done of planned.
pub fn steps(run: &Run) -> String {
    planned(run).map_or_else(|| run.history.step.to_string(), |planned| format!("{}/{planned}", run.history.step))
}

fn planned(run: &Run) -> Option<u64> {
    run.experiment["training"]["steps"].as_u64()
}
