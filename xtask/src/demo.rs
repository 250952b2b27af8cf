//! `cargo xtask demo`: the main job on synthetic scans, end to end. Every step is the command that a user would call.

use crate::build::{self, command, root};
use anyhow::{Context, bail, ensure};
use serde_json::Value;
use std::io::Write as _;
use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

const HELP: &str = "cargo xtask demo: the main job on synthetic scans, end to end

  makes a multi-centre phantom data set as DICOM series, trains the three networks on the CPU, freezes them, validates
  them on centres not seen in training, builds the evidence package, serves the frozen model and analyses a study over HTTP.
  About ten minutes on two cores after the build. Everything it makes is SYNTHETIC. Exit code 1 where a floor is missed:
  lung Dice 0.90 each side, CPM above the blob baseline, malignancy AUC 0.65, a true nodule among the served findings.

  --quick      a small data set and a few training steps (three minutes); only the chain and falling losses are required
  --out DIR    folder for everything it makes, replaced if it is an earlier demo's; default: demo";

/// Marks a folder as made by the demonstration, so that nothing else is ever replaced.
const MARK: &str = "MADE-BY-LUNGAI-DEMO.txt";

/// Training steps of a network with `--quick`: its loss falls, and that is all.
const QUICK_STEPS: usize = 24;

struct Demo {
    out: PathBuf,
    quick: bool,
    rows: Vec<[String; 3]>,
    missed: Vec<String>,
}

/// The verb.
pub fn main(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let mut demo = Demo { out: root().join("demo"), quick: false, rows: Vec::new(), missed: Vec::new() };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--quick") => demo.quick = true,
            Some("--out") => demo.out = std::path::absolute(words.next().context("--out needs a folder")?)?,
            Some("--help" | "-h") => {
                _ = writeln!(std::io::stdout(), "{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            _ => {
                eprintln!("unknown argument {word:?}\n\n{HELP}");
                return Ok(ExitCode::from(2));
            }
        }
    }
    demo.check_folder()?;
    build::programs()?;
    let start = Instant::now();
    demo.prepare()?;
    demo.data()?;
    for network in ["lung", "detector", "classifier"] {
        demo.train(network)?;
    }
    demo.freeze()?;
    demo.validate()?;
    demo.evidence()?;
    demo.serve()?;
    demo.table(start.elapsed());
    if demo.missed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    for missed in &demo.missed {
        eprintln!("floor missed: {missed}");
    }
    Ok(ExitCode::from(1))
}

impl Demo {
    fn at(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    fn row(&mut self, artifact: &str, path: &Path, figure: String) {
        let shown = std::env::current_dir().ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
        self.rows.push([artifact.into(), shown.unwrap_or_else(|| path.to_owned()).display().to_string(), figure]);
    }

    /// A floor that the full demonstration must reach.
    fn floor(&mut self, name: &str, value: Option<f64>, reached: impl Fn(f64) -> bool, wanted: &str) {
        let good = value.is_some_and(reached);
        if !good && !self.quick {
            let value = value.map_or_else(|| "not measured".to_owned(), |v| format!("{v:.3}"));
            self.missed.push(format!("{name} is {value}, wanted {wanted}"));
        }
    }

    /// Nothing but an earlier demo is replaced.
    fn check_folder(&self) -> anyhow::Result<()> {
        ensure!(
            !self.out.exists() || self.out.join(MARK).exists(),
            "{} exists and is not an earlier demo; name another folder with --out",
            self.out.display()
        );
        Ok(())
    }

    fn prepare(&self) -> anyhow::Result<()> {
        // Again: the build took its time.
        self.check_folder()?;
        if self.out.exists() {
            // The data set is kept: its maker knows which cases are still right.
            for folder in ["runs", "models", "validation", "evidence", "service"] {
                let path = self.at(folder);
                if path.exists() {
                    fs::remove_dir_all(&path).with_context(|| format!("{}", path.display()))?;
                }
            }
        }
        fs::create_dir_all(self.at("runs"))?;
        fs::write(self.out.join(MARK), "Made by `cargo xtask demo`. SYNTHETIC. Replaced by the next demo.\n")?;
        Ok(())
    }

    fn recipe(&self) -> &'static str {
        if self.quick { "phantom-quick" } else { "phantom-small" }
    }

    fn data_folder(&self) -> PathBuf {
        self.at("data").join(self.recipe())
    }

    fn data(&mut self) -> anyhow::Result<()> {
        heading("a", "SYNTHETIC multi-centre data set as DICOM series");
        let recipe = root().join(format!("datasets/{}.yaml", self.recipe()));
        let folder = self.data_folder();
        let made = json("lungai", &["dataset", "make"], &[&recipe, Path::new("--out"), &folder])?;
        let cases: u64 = ["train", "tune", "test"].iter().filter_map(|split| made["cases"][split].as_u64()).sum();
        self.row("data set", &folder.join("manifest.yaml"), format!("{cases} SYNTHETIC scans as DICOM series"));
        Ok(())
    }

    fn train(&mut self, network: &str) -> anyhow::Result<()> {
        heading("b", &format!("training the {network} network"));
        let experiment = root().join(format!("experiments/demo-{network}.yaml"));
        let run = self.at("runs").join(network);
        let manifest = self.data_folder().join("manifest.yaml");
        let mut words: Vec<&Path> = vec![&experiment, Path::new("--data"), &manifest, Path::new("--run"), &run];
        let [steps, evaluate] =
            ["steps", "evaluate_every"].map(|key| PathBuf::from(format!("training.{key}={QUICK_STEPS}")));
        if self.quick {
            words.extend([Path::new("--set"), &steps, Path::new("--set"), &evaluate]);
            words.extend(["--set", "training.warmup_steps=4"].map(Path::new));
        }
        words.extend([Path::new("--device"), Path::new("cpu")]);
        let result = json("lungai-train", &["train"], &words)?;
        let (first, last) = losses(&run)?;
        if last >= first {
            self.missed.push(format!("the {network} network's loss did not fall: {first:.4} to {last:.4}"));
        }
        let metric = match network {
            "lung" => "dice",
            "detector" => "cpm",
            _ => "auc",
        };
        let value = result["best"]["metrics"][metric].as_f64().unwrap_or(f64::NAN);
        let figure = format!("loss {first:.3} to {last:.3}; tuning scans: {metric} {value:.3} (SYNTHETIC)");
        self.row(&format!("{network} run"), &run.join("curves.png"), figure);
        Ok(())
    }

    fn model(&self) -> PathBuf {
        self.at("models/lungai-phantom/0.1.0")
    }

    fn freeze(&mut self) -> anyhow::Result<()> {
        heading("c", "freezing: manifest, hashes, golden cases, signature with a throw-away key");
        let (runs, models) = (self.at("runs"), self.at("models"));
        let runs = ["lung", "detector", "classifier"].map(|network| runs.join(network));
        let words: Vec<&Path> = runs
            .iter()
            .map(PathBuf::as_path)
            .chain(["--name", "lungai-phantom", "--version", "0.1.0", "--models"].map(Path::new))
            .chain([models.as_path()])
            .collect();
        let frozen = json("lungai-train", &["freeze"], &words)?;
        let sha256 = frozen["sha256"].as_str().unwrap_or_default();
        self.row(
            "frozen model",
            &self.model(),
            format!("sha256 {}…, self-test passed", sha256.get(..12).unwrap_or(sha256)),
        );
        Ok(())
    }

    fn validate(&mut self) -> anyhow::Result<()> {
        heading("d", "validation on centres not seen in training");
        let protocol = root().join(format!("validation/{}.yaml", self.recipe()));
        let (model, out, manifest) = (self.model(), self.at("validation"), self.data_folder().join("manifest.yaml"));
        let readings = self.data_folder().join("readings");
        json("lungai", &["dataset", "readers"], &[&manifest, Path::new("--out"), &readings])?;
        let words =
            [&protocol, Path::new("--models"), &model, Path::new("--manifest"), &manifest, Path::new("--out"), &out];
        let results = json("lungai-validation", &[], &words)?;
        let figure = |path: &str| results.pointer(path).cloned().unwrap_or_default();
        let number = |path: &str| figure(path)["value"].as_f64();
        let shown = |path: &str| {
            let ci = figure(path)["ci"].clone();
            match (number(path), ci[0].as_f64(), ci[1].as_f64()) {
                (Some(value), Some(low), Some(high)) => format!("{value:.3} [{low:.3}, {high:.3}]"),
                (Some(value), ..) => format!("{value:.3}"),
                _ => "not measured".into(),
            }
        };
        self.floor("lung Dice, left", number("/lungs/dice_left"), |v| v >= 0.90, ">= 0.90");
        self.floor("lung Dice, right", number("/lungs/dice_right"), |v| v >= 0.90, ">= 0.90");
        let baseline = number("/baseline/cpm");
        let wanted = baseline.map_or_else(|| "a baseline".into(), |b| format!("> {b:.3} (blob baseline)"));
        self.floor("CPM", number("/detection/cpm"), |v| baseline.is_some_and(|b| v > b), &wanted);
        self.floor("malignancy AUC", number("/malignancy/auc"), |v| v >= 0.65, ">= 0.65");
        self.row("validation report", &out.join("report.html"), "SYNTHETIC; unseen centres".into());
        let dice = format!("left {}, right {}", shown("/lungs/dice_left"), shown("/lungs/dice_right"));
        self.row("  lung Dice", &out.join("dice.svg"), dice);
        let cpm = format!("CPM {}; blob baseline {}", shown("/detection/cpm"), shown("/baseline/cpm"));
        self.row("  FROC", &out.join("froc.svg"), cpm);
        self.row(
            "  ROC",
            &out.join("roc.svg"),
            format!(
                "malignancy AUC {} (missed nodules count as 0); found nodules {}",
                shown("/malignancy/auc"),
                shown("/malignancy/auc_found")
            ),
        );
        let criteria = results["criteria"].as_array().map(Vec::as_slice).unwrap_or_default();
        let met = criteria.iter().filter(|criterion| criterion["met"] == true).count();
        self.row(
            "  criteria",
            &out.join("results.json"),
            format!("{met} of {} met (SYNTHETIC, reported only)", criteria.len()),
        );
        Ok(())
    }

    fn evidence(&mut self) -> anyhow::Result<()> {
        heading("e", "evidence package");
        let (out, validation, model) = (self.at("evidence"), self.at("validation"), self.model());
        let words = [Path::new("--out"), &out, Path::new("--validation"), &validation, Path::new("--models"), &model];
        let built = json("lungai-evidence", &["build"], &words)?;
        let hash = built["root_hash"].as_str().unwrap_or_default();
        let gaps = built["gaps"].as_array().map_or(0, Vec::len);
        json("lungai-evidence", &["verify"], &[&out])?;
        self.row(
            "evidence package",
            &out,
            format!("verified, root {}…, {gaps} gaps named", hash.get(..12).unwrap_or(hash)),
        );
        Ok(())
    }

    fn serve(&mut self) -> anyhow::Result<()> {
        heading("f", "serving the frozen model; one DICOM study over HTTP");
        // The test scan with most nodules that must be found, so that the floor is no matter of luck.
        let mut best: Option<(usize, PathBuf, Vec<Nodule>)> = None;
        for (folder, record) in case_records(&self.data_folder())? {
            if record["case"]["split"] == "test" {
                let nodules = nodules(&folder.join("nodules.csv"))?;
                let large = nodules.iter().filter(|n| n.diameter_mm >= 6.0).count();
                if best.as_ref().is_none_or(|(most, ..)| large > *most) {
                    best = Some((large, folder, nodules));
                }
            }
        }
        let (_, folder, nodules) = best.context("the data set has no test scan")?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let log = self.at("service.log");
        let child = command("lungai-serve")
            .args([Path::new("--models"), &self.model(), Path::new("--data"), &self.at("service")])
            .args(["--listen", &address])
            .stdout(fs::File::create(&log)?)
            .stderr(fs::File::options().append(true).open(&log)?)
            .spawn()
            .context("lungai-serve")?;
        let service = Service { child, base: format!("http://{address}/api/v1") };
        service.wait_until_ready()?;
        let result = service.analyse(&folder.join("dicom"))?;
        service.stop()?;
        let found = result["nodules"].as_array().map(Vec::as_slice).unwrap_or_default();
        _ = writeln!(
            std::io::stdout(),
            "findings in the SYNTHETIC study {}:",
            folder.file_name().unwrap_or_default().to_string_lossy()
        );
        _ = writeln!(
            std::io::stdout(),
            "  {:>3} {:>6} {:>7}  {:>11}  position (LPS, mm)           truth",
            "id",
            "score",
            "mm",
            "malignancy"
        );
        let mut true_findings = 0;
        for finding in found {
            let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
            let at: [f64; 3] = std::array::from_fn(|i| number(&finding["position_lps_mm"][i]));
            let hit = nodules.iter().find(|n| n.holds(at));
            true_findings += usize::from(hit.is_some());
            _ = writeln!(
                std::io::stdout(),
                "  {:>3} {:>6.3} {:>7.1}  {:>11.2}  ({:>7.1}, {:>7.1}, {:>7.1})  {}",
                finding["id"],
                number(&finding["score"]),
                number(&finding["diameter_mm"]),
                number(&finding["malignancy"]["probability"]),
                at[0],
                at[1],
                at[2],
                hit.map_or("-".into(), |n| format!("nodule of {:.1} mm", n.diameter_mm)),
            );
        }
        self.floor("true nodules among the served findings", Some(true_findings as f64), |v| v >= 1.0, ">= 1");
        let figure = format!("{} findings, {true_findings} of {} true nodules (SYNTHETIC)", found.len(), nodules.len());
        self.row("served study", &log, figure);
        Ok(())
    }

    fn table(&self, took: Duration) {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (artifact, path) = (width(0), width(1));
        _ = writeln!(
            std::io::stdout(),
            "\nEverything below is SYNTHETIC: made from a digital phantom, no statement about patients.\n"
        );
        _ = writeln!(std::io::stdout(), "{:artifact$}  {:path$}  headline figure", "artifact", "path");
        _ = writeln!(std::io::stdout(), "{}", "-".repeat(artifact + path + width(2) + 4));
        for [a, p, figure] in &self.rows {
            _ = writeln!(std::io::stdout(), "{a:artifact$}  {p:path$}  {figure}");
        }
        if self.quick {
            _ = writeln!(
                std::io::stdout(),
                "\n--quick trains each network for {QUICK_STEPS} steps only, too few to find anything: poor figures are \
                 expected. Without --quick they train for some hundred steps each."
            );
        }
        _ = writeln!(std::io::stdout(), "\n{} min {} s", took.as_secs() / 60, took.as_secs() % 60);
    }
}

/// A nodule of the reference standard.
struct Nodule {
    position: [f64; 3],
    diameter_mm: f64,
}

impl Nodule {
    /// LUNA16's criterion: nearer to the centre than the radius.
    fn holds(&self, point: [f64; 3]) -> bool {
        let squared: f64 = (0..3).map(|i| (self.position[i] - point[i]).powi(2)).sum();
        squared < (self.diameter_mm / 2.0).powi(2)
    }
}

/// The scored nodules of an annotation table.
fn nodules(path: &Path) -> anyhow::Result<Vec<Nodule>> {
    let text = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let column = |name: &str| header.iter().position(|h| *h == name).with_context(|| format!("no column {name}"));
    let [x, y, z, d, excluded] = ["x_lps_mm", "y_lps_mm", "z_lps_mm", "diameter_mm", "excluded"].map(column);
    let (x, y, z, d, excluded) = (x?, y?, z?, d?, excluded?);
    let mut nodules = Vec::new();
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        let number = |at: usize| -> anyhow::Result<f64> { Ok(cells.get(at).context("a short line")?.parse()?) };
        if cells.get(excluded) == Some(&"false") {
            nodules.push(Nodule { position: [number(x)?, number(y)?, number(z)?], diameter_mm: number(d)? });
        }
    }
    Ok(nodules)
}

/// Folder and record of every case, by name.
fn case_records(data: &Path) -> anyhow::Result<Vec<(PathBuf, Value)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(data.join("cases"))? {
        let folder = entry?.path();
        if let Ok(bytes) = fs::read(folder.join("case.json")) {
            found.push((folder, serde_json::from_slice(&bytes)?));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// Mean loss over the first and the last quarter of a run's steps.
fn losses(run: &Path) -> anyhow::Result<(f64, f64)> {
    let file = fs::File::open(run.join("journal.jsonl"))?;
    let mut losses = Vec::new();
    for line in BufReader::new(file).lines() {
        let event: Value = serde_json::from_str(&line?)?;
        if event["event"] == "step" {
            losses.extend(event["loss"].as_f64());
        }
    }
    ensure!(losses.len() >= 4, "{}: too few steps", run.display());
    let quarter = losses.len() / 4;
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    Ok((mean(&losses[..quarter]), mean(&losses[losses.len() - quarter..])))
}

/// Runs one of our programs with `--json`; progress goes to the terminal. Exit code 3 (a criterion is not met) is an
/// answer, not a failure.
fn json(program: &str, first: &[&str], words: &[&Path]) -> anyhow::Result<Value> {
    let output = command(program)
        .args(first)
        .args(words)
        .arg("--json")
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| program.to_owned())?;
    let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    match output.status.code() {
        Some(0 | 3) => Ok(value),
        code => {
            bail!("{program} {}: exit {code:?}: {}", first.join(" "), value["message"].as_str().unwrap_or("see above"))
        }
    }
}

fn heading(step: &str, text: &str) {
    eprintln!("\n=== ({step}) {text}");
}

/// A running service.
struct Service {
    child: Child,
    base: String,
}

impl Service {
    fn get(&self, path: &str) -> anyhow::Result<Value> {
        let text = ureq::get(format!("{}{path}", self.base)).call()?.body_mut().read_to_string()?;
        Ok(serde_json::from_str(&text)?)
    }

    fn wait_until_ready(&self) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let health = self.get("/health").unwrap_or_default();
            if health["models_loaded"]["nodule_detection"] == true {
                return Ok(());
            }
            ensure!(start.elapsed() < Duration::from_secs(120), "the service did not become ready: {health}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Uploads a folder of DICOM files and waits for the result.
    fn analyse(&self, folder: &Path) -> anyhow::Result<Value> {
        const BOUNDARY: &str = "lungai-demo-boundary-7c1e";
        let mut body = Vec::new();
        let mut files: Vec<PathBuf> = fs::read_dir(folder)?.map(|e| Ok(e?.path())).collect::<std::io::Result<_>>()?;
        files.sort();
        for file in &files {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            body.extend(
                format!(
                    "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"files[]\"; filename=\"{name}\"\r\n\
                     content-type: application/dicom\r\n\r\n"
                )
                .into_bytes(),
            );
            body.extend(fs::read(file)?);
            body.extend(b"\r\n");
        }
        body.extend(format!("--{BOUNDARY}--\r\n").into_bytes());
        let text = ureq::post(format!("{}/analyze_ct", self.base))
            .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"))
            .send(&body[..])?
            .body_mut()
            .read_to_string()?;
        let accepted: Value = serde_json::from_str(&text)?;
        let id = accepted["analysis_id"].as_str().context("no analysis_id")?;
        eprintln!("uploaded {} files; analysis {id}", files.len());
        let start = Instant::now();
        loop {
            let analysis = self.get(&format!("/analyses/{id}"))?;
            match analysis["status"].as_str() {
                Some("succeeded") => return Ok(analysis["result"].clone()),
                Some("queued" | "running") => (),
                status => bail!("the analysis ended as {status:?}: {analysis}"),
            }
            ensure!(start.elapsed() < Duration::from_secs(180), "the analysis took longer than three minutes");
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Asks it to stop and waits until it has.
    fn stop(mut self) -> anyhow::Result<()> {
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        ensure!(asked.success(), "the service was gone already");
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the service stopped with {status}");
                return Ok(());
            }
            ensure!(start.elapsed() < Duration::from_secs(30), "the service does not stop");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Only does anything where an error came before `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_an_earlier_demo_is_replaced() {
        let out = std::env::temp_dir().join(format!("lungai-demo-{}", std::process::id()));
        let demo = Demo { out: out.clone(), quick: true, rows: Vec::new(), missed: Vec::new() };
        assert!(demo.check_folder().is_ok());
        fs::create_dir_all(&out).unwrap();
        let message = demo.check_folder().unwrap_err().to_string();
        assert!(message.ends_with("exists and is not an earlier demo; name another folder with --out"), "{message}");
        assert!(demo.prepare().is_err());
        fs::write(out.join(MARK), "").unwrap();
        assert!(demo.check_folder().is_ok());
        fs::remove_dir_all(&out).unwrap();
    }
}
