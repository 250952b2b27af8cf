//! `track sync`: replays runs to an MLflow server. What the server has is asked first, and only the rest is sent.
//!
//! An interruption at any request leaves the server with a part of the run and with the mark of how far it got: points and
//! the mark of the line they end at go in one batch, in which MLflow stores the mark last. Sending a point twice makes no
//! second one there, nor does a file.

use crate::mlflow::{CallError, DataSetInput, Mlflow, RemoteRun, pairs};
use crate::registry::{self, Registered};
use crate::replay::{self, FILES_TAG, JOURNAL_TAG, Point, RUN_TAG};
use crate::server::Server;
use crate::{Failure, Report, list};
use indicatif::{ProgressBar, ProgressStyle};
use lungai_runs::{BEST, CURVES_PNG, CURVES_SVG, EXPERIMENT, JOURNAL, RUN, Run, State, WEIGHTS, find_runs, hex};
use lungai_trace::implements;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

#[derive(clap::Args)]
pub struct Args {
    /// Run folders, or folders of them.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Address of the MLflow server, for example http://127.0.0.1:5000; MLFLOW_TRACKING_URI by default.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Experiment on the server; made if it is not there. MLFLOW_EXPERIMENT_NAME by default, else lungai.
    #[arg(long, value_name = "NAME")]
    experiment: Option<String>,
    /// Also make the run's weights a version of this registered model; for one finished run.
    #[arg(long, value_name = "NAME")]
    register: Option<String>,
    /// Alias that the version gets, for example champion; another version loses it.
    #[arg(long, value_name = "ALIAS", requires = "register")]
    alias: Option<String>,
    /// Leave the files out, for a server that does not take any.
    #[arg(long, conflicts_with = "register")]
    no_artifacts: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Points in a request: with 100 parameters and the mark they are the 1000 entries that MLflow takes.
const POINTS_PER_BATCH: usize = 899;
const PARAMS_PER_BATCH: usize = 100;

/// What one run's sync came to.
struct Synced {
    remote_id: String,
    created: bool,
    points: usize,
    params: usize,
    artifacts: Vec<&'static str>,
    registered: Option<Registered>,
}

/// The verb.
pub fn run(args: &Args) -> Result<Report, Failure> {
    let server = Server::find(args.server.as_deref(), |name| std::env::var(name).ok())?;
    if let Some(warning) = server.warning() {
        eprintln!("{warning}");
    }
    if let Some(name) = &args.register {
        registry::check_names(name, args.alias.as_deref())?;
    }
    // All are read before anything is sent: a mistyped folder must not leave half of the work done.
    let mut runs = Vec::new();
    for folder in &args.runs {
        let below = if folder.is_dir() { find_runs(folder)? } else { Vec::new() };
        // What is no run and holds none is named by the error of reading it.
        let found = if below.is_empty() { vec![folder.clone()] } else { below };
        runs.extend(found.iter().map(|folder| Run::read(folder)).collect::<Result<Vec<_>, _>>()?);
    }
    check_registration(args, &runs)?;
    let mlflow = Mlflow::new(server)?;
    let environment = std::env::var("MLFLOW_EXPERIMENT_NAME").ok().filter(|name| !name.is_empty());
    let name = args.experiment.clone().or(environment).unwrap_or_else(|| "lungai".into());
    let experiment = experiment_id(&mlflow, &name)?;
    let (mut text, mut list) = (String::new(), Vec::new());
    for run in &runs {
        if let Some(warning) = run.warning() {
            eprintln!("warning: {warning}");
        }
        let before = mlflow.sent();
        let synced = sync(&mlflow, &experiment, run, args)?;
        // MLflow 3 shows a run as an evaluation of language models unless it is asked for model training.
        let place = format!("experiments/{experiment}/runs/{}?workflowType=machine_learning", synced.remote_id);
        let url = format!("{}/#/{place}", mlflow.url());
        text.push_str(&in_words(run, &synced, &url));
        let mut entry = json!({
            "run": run.folder, "name": replay::run_name(run), "state": run.state, "synthetic": run.record.synthetic,
            "run_id": synced.remote_id, "url": url, "created": synced.created, "cut_lines": run.journal.cut,
            "sent": { "metrics": synced.points, "params": synced.params, "artifacts": synced.artifacts, "requests": mlflow.sent() - before },
        });
        if let Some(registered) = &synced.registered {
            entry["registered"] = json!(registered);
        }
        list.push(entry);
    }
    let experiment = json!({ "name": name, "id": experiment });
    Ok(Report { json: json!({ "ok": true, "server": mlflow.url(), "experiment": experiment, "runs": list }), text })
}

fn in_words(run: &Run, synced: &Synced, url: &str) -> String {
    let news = if synced.points + synced.params + synced.artifacts.len() == 0 {
        "nothing new".to_owned()
    } else {
        format!("sent {} points, {} parameters, {} files", synced.points, synced.params, synced.artifacts.len())
    };
    let mut text = format!("{}  {}  {news}  {url}\n", replay::run_name(run), list::state(run.state));
    if let Some(registered) = &synced.registered {
        let alias = registered.alias.as_ref().map_or(String::new(), |alias| format!(", alias {alias}"));
        text.push_str(&format!("  registered as {} version {}{alias}\n", registered.name, registered.version));
    }
    text
}

/// A version must not change after it was registered: only what is finished becomes one.
fn check_registration(args: &Args, runs: &[Run]) -> Result<(), Failure> {
    if args.register.is_none() {
        return Ok(());
    }
    let [run] = runs else {
        let message = "--register takes one run: the networks of several are different models";
        return Err(Failure::new("register-several", message));
    };
    if run.state != State::Finished {
        let message =
            format!("{} is {}; only a finished run can be registered", run.folder.display(), list::state(run.state));
        return Err(Failure::new("register-unfinished", message));
    }
    Ok(())
}

/// The experiment of that name; made if nobody has yet.
fn experiment_id(mlflow: &Mlflow, name: &str) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Found {
        experiment: Experiment,
    }
    #[derive(Deserialize)]
    struct Experiment {
        experiment_id: String,
        #[serde(default)]
        lifecycle_stage: String,
    }
    let find = || mlflow.get::<Found>("experiments/get-by-name", &[("experiment_name", name)]);
    let found = match find() {
        Err(CallError::Refused { code, .. }) if code == "RESOURCE_DOES_NOT_EXIST" => {
            match mlflow.post::<Experiment>("experiments/create", &json!({ "name": name })) {
                Ok(made) => return Ok(made.experiment_id),
                // Somebody was quicker.
                Err(CallError::Refused { code, .. }) if code == "RESOURCE_ALREADY_EXISTS" => find()?,
                Err(error) => return Err(error.into()),
            }
        }
        other => other?,
    };
    if found.experiment.lifecycle_stage == "deleted" {
        let message = format!(
            "the experiment `{name}` is deleted on the server; restore it there or name another with --experiment"
        );
        return Err(Failure::new("experiment-deleted", message));
    }
    Ok(found.experiment.experiment_id)
}

/// One run.
#[implements("RR-001")]
fn sync(mlflow: &Mlflow, experiment: &str, run: &Run, args: &Args) -> Result<Synced, Failure> {
    let (remote, created) = match find(mlflow, experiment, run)? {
        Some(remote) => (remote, false),
        None => (create(mlflow, experiment, run)?, true),
    };
    let digest = replay::digest(run);
    let same_data = |input: &DataSetInput| input.dataset.digest == digest && input.dataset.name == run.record.data.name;
    if !remote.inputs.dataset_inputs.iter().any(same_data) {
        let body = json!({ "run_id": remote.info.run_id, "datasets": [replay::data_set(run)] });
        mlflow.post::<Value>("runs/log-inputs", &body)?;
    }
    let (points, params) = log(mlflow, run, &remote)?;
    let artifacts = if args.no_artifacts { Vec::new() } else { upload(mlflow, run, &remote)? };
    let registered = match &args.register {
        Some(name) => Some(registry::register(mlflow, run, &remote, name, args.alias.as_deref())?),
        None => None,
    };
    // Last of all: a run that the server calls finished is there in full.
    let status = replay::status(run);
    let ended = (run.state != State::Running).then(|| run.journal.lines.last()?.time_ms).flatten();
    if remote.info.status != status || (ended.is_some() && remote.info.end_time != ended) {
        let mut body = json!({ "run_id": remote.info.run_id, "status": status });
        if let Some(ended) = ended {
            body["end_time"] = json!(ended);
        }
        mlflow.post::<Value>("runs/update", &body)?;
    }
    Ok(Synced { remote_id: remote.info.run_id, created, points, params, artifacts, registered })
}

/// The server's run of the same identity.
fn find(mlflow: &Mlflow, experiment: &str, run: &Run) -> Result<Option<RemoteRun>, Failure> {
    #[derive(Deserialize)]
    struct Page {
        #[serde(default)]
        runs: Vec<RemoteRun>,
    }
    let filter = format!("tags.`{RUN_TAG}` = '{}'", run.journal.id);
    let body = json!({ "experiment_ids": [experiment], "filter": filter, "max_results": 2 });
    let mut page: Page = mlflow.search("runs/search", &body)?;
    if page.runs.len() > 1 {
        let message = format!("the server has this run twice (tag {RUN_TAG} = {}); delete one there", run.journal.id);
        return Err(Failure::new("run-twice", message));
    }
    Ok(page.runs.pop())
}

/// In one request with its tags, so that it is never there without its identity.
fn create(mlflow: &Mlflow, experiment: &str, run: &Run) -> Result<RemoteRun, Failure> {
    #[derive(Deserialize)]
    struct Made {
        run: RemoteRun,
    }
    let started = run.journal.lines.first().and_then(|line| line.time_ms).or_else(|| written_ms(&run.folder.join(RUN)));
    let body = json!({
        "experiment_id": experiment, "run_name": replay::run_name(run), "start_time": started.unwrap_or_default(),
        "tags": pairs(&replay::tags(run)),
    });
    Ok(mlflow.post::<Made>("runs/create", &body)?.run)
}

fn written_ms(path: &std::path::Path) -> Option<u64> {
    let time = path.metadata().ok()?.modified().ok()?;
    u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// Sends the points of the lines after the server's mark, and parameters that it lacks; gives how many of each.
fn log(mlflow: &Mlflow, run: &Run, remote: &RemoteRun) -> Result<(usize, usize), Failure> {
    let total = run.journal.lines.len();
    let from = marked(run, remote)?;
    let points: Vec<Point> = replay::points(run).into_iter().filter(|point| point.line >= from).collect();
    let there = |key: &str| remote.data.params.iter().any(|param| param.key == key);
    let params: Vec<(String, String)> = replay::params(run).into_iter().filter(|(key, _)| !there(key)).collect();
    if from == total && params.is_empty() {
        return Ok((0, 0));
    }
    let bar = bar(points.len() as u64, "{prefix:16} {bar:24} {pos}/{len} points, {elapsed} of ~{duration}");
    bar.set_prefix(run.name().to_owned());
    let (mut point_batches, mut param_batches) = (points.chunks(POINTS_PER_BATCH), params.chunks(PARAMS_PER_BATCH));
    let mut sent = 0;
    loop {
        let (batch, params) = (point_batches.next().unwrap_or_default(), param_batches.next().unwrap_or_default());
        sent += batch.len();
        // Lines before the next point's are complete with this batch.
        let whole = points.get(sent).map_or(total, |next| next.line);
        let mark = format!("{whole} {}", run.journal.prefix_sha256(whole).unwrap_or_default());
        let metrics: Vec<Value> = batch.iter().map(|point| metric(point, remote.info.start_time)).collect();
        let body = json!({
            "run_id": remote.info.run_id, "metrics": metrics, "params": pairs(params),
            "tags": [{ "key": JOURNAL_TAG, "value": mark }],
        });
        mlflow.post::<Value>("runs/log-batch", &body)?;
        bar.inc(batch.len() as u64);
        if point_batches.len() == 0 && param_batches.len() == 0 {
            break;
        }
    }
    bar.finish_and_clear();
    Ok((points.len(), params.len()))
}

/// Lines of the journal that the server has; they must be the same lines.
fn marked(run: &Run, remote: &RemoteRun) -> Result<usize, Failure> {
    let Some(mark) = remote.tag(JOURNAL_TAG) else { return Ok(0) };
    let (lines, sha256) = mark.split_once(' ').unwrap_or((mark, ""));
    let lines: usize = lines.parse().unwrap_or(usize::MAX);
    if run.journal.prefix_sha256(lines).as_deref() == Some(sha256) {
        return Ok(lines);
    }
    let message = format!(
        "{}: the server's run {} went on otherwise than this folder: it is an older copy, or a copy was resumed elsewhere. Sync the \
         other folder, or name another experiment with --experiment",
        run.folder.display(),
        remote.info.run_id
    );
    Err(Failure::new("run-diverged", message))
}

/// MLflow's JSON of a point; of a journal without times, all are at the run's start.
fn metric(point: &Point, start_ms: u64) -> Value {
    let value = if point.value.is_nan() { json!("NaN") } else { json!(point.value) };
    json!({ "key": point.key, "value": value, "timestamp": point.time_ms.unwrap_or(start_ms), "step": point.step })
}

/// Puts the files that the server lacks or has an older state of; gives their names.
fn upload(mlflow: &Mlflow, run: &Run, remote: &RemoteRun) -> Result<Vec<&'static str>, Failure> {
    let recorded = remote.tag(FILES_TAG).and_then(|text| serde_json::from_str(text).ok());
    let mut there: BTreeMap<String, String> = recorded.unwrap_or_default();
    let mut sent = Vec::new();
    for name in [EXPERIMENT, RUN, BEST, CURVES_SVG, CURVES_PNG, WEIGHTS, JOURNAL] {
        let Some((size, sha256, content)) = content(run, name)? else { continue };
        let known = there.insert(name.to_owned(), sha256.clone());
        if known.as_ref() == Some(&sha256) {
            continue;
        }
        // A registered version may rest on them.
        if name == WEIGHTS && remote.info.status == "FINISHED" && known.is_some() {
            let message =
                format!("{}: the weights of this finished run were others when it was synced", run.folder.display());
            return Err(Failure::new("run-changed", message));
        }
        let bar = bar(size, "{prefix:16} {bar:24} {bytes}/{total_bytes}, {elapsed} of ~{duration}");
        bar.set_prefix(name);
        mlflow.put_artifact(remote, name, size, bar.wrap_read(content))?;
        bar.finish_and_clear();
        let tag = json!({ "run_id": remote.info.run_id, "key": FILES_TAG, "value": json!(there).to_string() });
        mlflow.post::<Value>("runs/set-tag", &tag)?;
        sent.push(name);
    }
    Ok(sent)
}

type Content = Box<dyn Read>;

/// Size, SHA-256 and bytes of a file of the run; the journal as it was read. `None` if there is none yet.
fn content(run: &Run, name: &str) -> Result<Option<(u64, String, Content)>, Failure> {
    if name == JOURNAL {
        let bytes = run.journal.bytes.clone();
        return Ok(Some((bytes.len() as u64, hex(&Sha256::digest(&bytes)), Box::new(Cursor::new(bytes)))));
    }
    let path = run.folder.join(name);
    let failed = |error: std::io::Error| Failure::new("run-io", format!("{}: {error}", path.display()));
    // One open file for both: training replaces files as a whole, and what was hashed is what is sent.
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let (mut hasher, mut buffer, mut size) = (Sha256::new(), vec![0; 1 << 20], 0);
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
    file.rewind().map_err(failed)?;
    Ok(Some((size, hex(&hasher.finalize()), Box::new(file.take(size)))))
}

/// SHA-256 of the kept weights.
pub fn weights_sha256(run: &Run) -> Result<String, Failure> {
    let found = content(run, WEIGHTS)?;
    let missing = || Failure::new("run-io", format!("{}: no such file", run.folder.join(WEIGHTS).display()));
    found.map(|(_, sha256, _)| sha256).ok_or_else(missing)
}

fn bar(length: u64, template: &str) -> ProgressBar {
    ProgressBar::new(length).with_style(ProgressStyle::with_template(template).expect("a constant template"))
}
