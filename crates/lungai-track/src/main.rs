//! `cargo xtask track`: the runs of a folder listed, runs compared, and runs replayed to an MLflow server.
//!
//! The run folder is the record of truth (`lungai-runs`); a tracking server holds a copy that can be made anew at any
//! time. This program refuses to change a run folder, to train, and to take anything back from a server.

mod compare;
mod figure;
mod list;
mod mlflow;
mod registry;
mod replay;
mod server;
mod sync;
mod table;

use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "track", bin_name = "cargo xtask track", version, about = "Lists, compares and shares training runs")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs of a folder with state, steps and best figure. Examples:
    ///
    ///   cargo xtask track list
    ///   cargo xtask track list demo/runs --json
    #[command(verbatim_doc_comment)]
    List(list::Args),
    /// Runs side by side: parameters that differ, figures, data, time; with --out also their curves.
    ///
    /// Runs that were trained on different data are flagged: their figures do not compare. Examples:
    ///
    ///   cargo xtask track compare experiments/runs/demo-detector experiments/runs/wider
    ///   cargo xtask track compare experiments/runs/* --all --out comparison
    #[command(verbatim_doc_comment)]
    Compare(compare::Args),
    /// Replay runs to an MLflow server, as often as you like.
    ///
    /// What the server has already is not sent again, so a run that goes on, or a sync that was interrupted, is synced
    /// by the same command. Examples:
    ///
    ///   cargo xtask track sync experiments/runs/demo-detector --server http://127.0.0.1:5000
    ///   cargo xtask track sync experiments/runs/* --experiment lung-nodules
    ///   cargo xtask track sync experiments/runs/demo-detector --register lungai-detector --alias champion
    ///
    /// Credentials come from the environment, under MLflow's names: MLFLOW_TRACKING_URI (instead of --server),
    /// MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; for a server with a certificate
    /// of your own MLFLOW_TRACKING_SERVER_CERT_PATH; MLFLOW_HTTP_REQUEST_TIMEOUT in seconds (120).
    ///
    /// The server shows a run as running while its training has the folder open, else as finished, failed or killed.
    ///
    /// A server to try it with (Python): pip install mlflow==3.17.2 && mlflow server --port 5000
    ///
    /// Exit code 75: the server is away or failed; nothing is lost, run the same command again.
    #[command(verbatim_doc_comment)]
    Sync(sync::Args),
}

/// Why there is no result.
#[derive(Debug)]
struct Failure {
    /// A stable name, for programs.
    rule: &'static str,
    /// One sentence, for people.
    message: String,
    /// 1, or 75 where the same command may work later (`EX_TEMPFAIL` of sysexits.h).
    exit: u8,
}

impl Failure {
    fn new(rule: &'static str, message: impl Into<String>) -> Self {
        Self { rule, message: message.into(), exit: 1 }
    }

    /// The same command may work later.
    fn retry(message: impl Into<String>) -> Self {
        Self { rule: "server-unavailable", message: message.into(), exit: 75 }
    }
}

impl From<lungai_runs::RunError> for Failure {
    fn from(error: lungai_runs::RunError) -> Self {
        Self::new(error.rule(), error.to_string())
    }
}

/// A result in both forms.
struct Report {
    json: serde_json::Value,
    text: String,
}

fn main() -> ExitCode {
    let json_wanted = std::env::args_os().any(|argument| argument == "--json");
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            if json_wanted && error.use_stderr() {
                let text = error.to_string();
                let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
                print(&failure_json("usage", message).to_string());
            }
            error.exit() // 2 for wrong usage, 0 for --help
        }
    };
    let (result, json) = match &cli.command {
        Command::List(args) => (list::run(args), args.json),
        Command::Compare(args) => (compare::run(args), args.json),
        Command::Sync(args) => (sync::run(args), args.json),
    };
    match result {
        Ok(report) => {
            print(&if json { report.json.to_string() } else { report.text });
            ExitCode::SUCCESS
        }
        Err(failure) => {
            if json {
                print(&failure_json(failure.rule, &failure.message).to_string());
            } else {
                eprintln!("error: {} [{}]", failure.message, failure.rule);
            }
            ExitCode::from(failure.exit)
        }
    }
}

/// A closed pipe is the reader's business.
fn print(text: &str) {
    _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

fn failure_json(rule: &str, message: &str) -> serde_json::Value {
    serde_json::json!({ "ok": false, "rule": rule, "message": message })
}
