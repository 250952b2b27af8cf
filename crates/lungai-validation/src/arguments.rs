//! What one can ask for at the terminal.

use crate::predictions::Shard;
use clap::{Args, CommandFactory, Parser, Subcommand};
use lungai_models::DeviceChoice;
use std::ffi::OsString;
use std::path::PathBuf;

/// What was asked for.
#[derive(Debug)]
pub enum Request {
    /// A protocol and no command.
    Whole(Validate),
    /// One of the commands.
    Command(Command),
}

impl Request {
    /// Reads the program's name and the words behind it: a command where the first of them is one, else a protocol.
    pub fn parse(words: &[OsString]) -> Result<Self, clap::Error> {
        let known = Commands::command();
        let is_command = words.get(1).is_some_and(|word| known.get_subcommands().any(|c| *word == *c.get_name()));
        if is_command {
            Commands::try_parse_from(words).map(|commands| Self::Command(commands.command))
        } else {
            Validate::try_parse_from(words).map(Self::Whole)
        }
    }
}

#[derive(Debug, Parser)]
#[command(name = "lungai-validation", version)]
struct Commands {
    #[command(subcommand)]
    command: Command,
    /// Print one JSON object and nothing else on standard output.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lock a protocol for its data set, before the first run.
    Lock(LockArguments),
    /// The ledger of a locked protocol.
    #[command(subcommand)]
    Ledger(Ledger),
    /// Run the model over the test cases, or a part of them; nothing is judged.
    Predict(Predict),
    /// Bind all parts of the predictions to a whole.
    Merge(Merge),
    /// Judge predictions: our own, or a table of marks of any system.
    Analyse(Analyse),
    /// Compare two results by the same protocol on the same data.
    Compare(Compare),
    /// Whether figures of printed tables, anyone's, can all be true at once.
    Coherence(Coherence),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Strata must pool to their total, shares be whole numbers of cases, intervals hold their point, curves rise, a population
have one size wherever it is named, verdicts follow from their bound, and sensitivity, specificity, PPV, NPV and accuracy
come from one table of whole numbers. A printed figure stands for all values that round to it.

JSON: {\"statements\": [{\"table\": \"Table 2\", \"figure\": \"sensitivity\", \"kind\": \"proportion\",
  \"population\": \"nodules of 3 to 6 mm\", \"value\": \"88.7 %\", \"n\": 1245, \"part_of\": [\"all nodules\"]}, ...]}
CSV: one figure a line with the columns table, figure, kind, population and any of
  value, n, count, ci_low, ci_high, part_of, among, x, limit, op, on, met
kind: size (value is the number of members), count (adds up), proportion (count of n), rate (events of n), mean, other.
part_of: all parts of a table with the same whole make it up. among: a part, with others not printed. Several: a; b.
x: place on a curve that cannot fall. A report's own statements.json is such a file.
Exit code 3: figures contradict each other. Questions alone are no contradiction.")]
pub struct Coherence {
    /// The figures (.json or .csv).
    pub statements: PathBuf,
}

/// A protocol with its data set.
#[derive(Debug, Args)]
pub struct Set {
    /// The protocol (YAML).
    pub protocol: PathBuf,
    /// The test set's manifest, instead of the one that the protocol names.
    #[arg(long)]
    pub manifest: Option<PathBuf>,
    /// The ledger, instead of NAME.ledger.jsonl beside the protocol; must exist, but for `lock`.
    #[arg(long)]
    pub ledger: Option<PathBuf>,
    /// Who opens the test set, for the ledger; otherwise the user that the system names.
    #[arg(long)]
    pub who: Option<String>,
}

/// A frozen model and where it runs.
#[derive(Debug, Args)]
pub struct Model {
    /// Frozen model (REGISTRY/NAME/VERSION), or a registry with one.
    #[arg(long)]
    pub models: PathBuf,
    /// auto, cpu or cuda:N.
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Public key (PEM) of a signer; otherwise the keys in the registry's trusted-keys/.
    #[arg(long, value_name = "PEM")]
    pub trusted_key: Option<PathBuf>,
}

/// Why a test set is opened.
#[derive(Debug, Args)]
pub struct Purpose {
    /// Why the test set is opened, for the ledger of a locked protocol.
    #[arg(long)]
    pub purpose: Option<String>,
}

/// Run a validation protocol on a test set with a frozen model.
#[derive(Debug, Parser)]
#[command(name = "lungai-validation", version)]
#[command(after_help = "\
With a protocol and no command: predictions and their analysis in one go. Writes to the folder of --out: results.json; the report
as report.html, report.md and report.xlsx, and in Chinese as report.zh.*; its tables as tables/*.csv and tables/zh/*.csv; what
it claims as statements.json, for `coherence`; per_scan and marks (CSV, Parquet), annotations in LUNA16's columns, figures
(SVG, PNG) and the predictions (Parquet). A run that was interrupted goes on where it was when the same command is given
again; one that is finished is analysed again.
Commands, each with its own --help:
  lock PROTOCOL         lock a protocol for its data set, before the first run
  ledger verify FILE    check the ledger of a locked protocol
  predict PROTOCOL      run the model over the test cases, or a part of them (--shard I/N); nothing is judged
  merge FOLDER          bind all parts of the predictions to a whole
  analyse PROTOCOL      judge predictions: our own, or a table of marks of any system
  compare A B           two results by the same protocol on the same data: paired tests, and what changed
  coherence FILE        whether figures of printed tables, anyone's, can all be true at once
A run by a locked protocol makes a proof, and every opening of its test set is written to a ledger beside it; without a lock
a run is exploratory and says so everywhere.
Exit code 3: a primary endpoint is not shown. 4: model, test set, protocol, ledger or predictions are not what was frozen.
75: something is not there yet, and the same command may work later.
Not cleared for clinical use.")]
pub struct Validate {
    #[command(flatten)]
    pub set: Set,
    #[command(flatten)]
    pub model: Model,
    /// Folder for the results; made if it does not exist.
    #[arg(long)]
    pub out: PathBuf,
    #[command(flatten)]
    pub purpose: Purpose,
    /// Print one JSON object and nothing else on standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct LockArguments {
    #[command(flatten)]
    pub set: Set,
}

#[derive(Debug, Subcommand)]
pub enum Ledger {
    /// Check the chain, the protocol behind it, and that results speak of its lines.
    Verify(Verify),
}

#[derive(Debug, Args)]
pub struct Verify {
    /// The ledger (.jsonl), or its protocol (YAML), which is then compared with the lock.
    pub ledger: PathBuf,
    /// Folder of results that came of it; may be repeated. Tells whether lines were cut off at the end.
    #[arg(long)]
    pub results: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Predict {
    #[command(flatten)]
    pub set: Set,
    #[command(flatten)]
    pub model: Model,
    /// Folder whose predictions/ is filled; several parts may share it.
    #[arg(long)]
    pub out: PathBuf,
    /// Part of the cases, i/n with i from 0 to n - 1.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    #[command(flatten)]
    pub purpose: Purpose,
}

#[derive(Debug, Args)]
pub struct Merge {
    /// Folder that `predict` filled.
    pub out: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A table of any system (CSV or Parquet) has a line for each mark and the columns
  case (or seriesuid), x_lps_mm, y_lps_mm, z_lps_mm (or coordX, coordY, coordZ), score (or probability)
and, where the system gives them, diameter_mm and malignancy (a probability). Positions are patient LPS mm. A case without
a line is one without a mark. Times and lungs are not judged then.")]
pub struct Analyse {
    #[command(flatten)]
    pub set: Set,
    /// Folder of predictions made here, or a table of marks (.csv, .parquet) made elsewhere.
    #[arg(long)]
    pub predictions: PathBuf,
    /// Folder for the results; made if it does not exist.
    #[arg(long)]
    pub out: PathBuf,
    /// Score at which the system of a table is operated; needed where the protocol gives a name.
    #[arg(long, value_name = "SCORE")]
    pub operating_point: Option<f64>,
    /// Name of the system of a table, for the report; otherwise the file's name.
    #[arg(long)]
    pub system: Option<String>,
    /// Do not open the images of a table's cases: nothing is known of how they were acquired, and marks outside of their
    /// scan go unseen.
    #[arg(long)]
    pub without_images: bool,
    #[command(flatten)]
    pub purpose: Purpose,
}

#[derive(Debug, Args)]
pub struct Compare {
    /// Folder of results.
    pub a: PathBuf,
    /// Another one, by the same protocol on the same data.
    pub b: PathBuf,
    /// Folder for the comparison; made if it does not exist.
    #[arg(long)]
    pub out: PathBuf,
    /// Margin of non-inferiority, above 0: the lower bound of the difference of CPM (A less B) must lie above minus this.
    #[arg(long)]
    pub margin: Option<f64>,
}
