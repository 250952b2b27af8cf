//! `track sync` against the real MLflow, seen by MLflow's own client (`tests/peers/track_mlflow.py`).
//!
//! The program is the one that `LUNGAI_MLFLOW` names, for example `/opt/mlflow/bin/mlflow`, else the `mlflow` on the search
//! path. Run against version 3.17.2.

use crate::folder::Folder;
use crate::program::{good, sync};
use crate::stub::{Backend, Fault, Stub};
use lungai_trace::verifies;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

/// A running MLflow server with its data in a folder of its own.
struct Server {
    address: SocketAddr,
    program: PathBuf,
    process: Child,
    _data: tempfile::TempDir,
}

fn program() -> Option<PathBuf> {
    let named = env::var_os("LUNGAI_MLFLOW").map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    named.or_else(|| env::split_paths(&path).map(|folder| folder.join("mlflow")).find(|file| file.is_file()))
}

impl Server {
    fn start(program: PathBuf) -> Self {
        let data = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Command::new(&program)
            .args(["server", "--host", "127.0.0.1", "--workers", "1", "--port", &address.port().to_string()])
            .args(["--backend-store-uri", &format!("sqlite:///{}/mlflow.db", data.path().display())])
            .args(["--artifacts-destination", data.path().join("artifacts").to_str().unwrap()])
            // Else it also starts seven helpers.
            .env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
            .current_dir(data.path())
            .stdout(Stdio::null())
            .stderr(fs::File::create(data.path().join("log")).unwrap())
            .process_group(0)
            .spawn()
            .unwrap();
        let server = Self { address, program, process, _data: data };
        let patience = Instant::now() + Duration::from_secs(180);
        while !server.is_ready() {
            assert!(Instant::now() < patience, "MLflow is not ready after three minutes");
            std::thread::sleep(Duration::from_millis(200));
        }
        server
    }

    fn is_ready(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.address) else { return false };
        let asked = write!(stream, "GET /health HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        let mut answer = String::new();
        asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What MLflow's own client sees.
    fn seen(&self, models: &[String]) -> Value {
        let python = fs::canonicalize(self.program.parent().unwrap()).unwrap().join("python");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/track_mlflow.py");
        let output = Command::new(python).arg(script).arg(self.url()).args(models).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has children of its own: the whole group.
        let group = format!("-{}", self.process.id());
        _ = Command::new("kill").args(["-TERM", "--", &group]).status();
        _ = self.process.wait();
    }
}

fn sha256(path: &Path) -> String {
    Sha256::digest(fs::read(path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[verifies("RR-001")]
#[test]
fn mlflow_itself_sees_what_the_run_folder_says_also_after_interruptions() {
    let Some(program) = program() else {
        lungai_trace::not_evidenced("MLflow absent");
        return;
    };
    let (server, folder) = (Server::start(program), Folder::finished(1));
    let url = server.url();

    // Undisturbed; a second time, nothing is sent.
    let words = ["--experiment", "undisturbed", "--register", "undisturbed", "--alias", "champion"];
    let (code, first) = sync(folder.path(), &url, &words);
    assert_eq!((code, &first["runs"][0]["sent"]["metrics"]), (0, &json!(13)), "{first}");
    let (_, second) = sync(folder.path(), &url, &words);
    assert_eq!(second["runs"][0]["sent"]["requests"], 0, "{second}");

    // Cut at every other request, before or after the server has done it (`faults` does every one on the stub).
    let mut models = vec!["undisturbed@champion".to_owned()];
    let proxy = Stub::start(Backend::Real(server.address));
    for number in (0..26).step_by(2) {
        let fault = if number % 4 == 0 { Fault::CutAfter } else { Fault::CutBefore };
        let name = format!("cut-{number}");
        let words = ["--experiment", &name, "--register", &name, "--alias", "champion"];
        proxy.fail(number, fault);
        let (code, answer) = sync(folder.path(), &proxy.url, &words);
        assert_eq!(code, 75, "{number} {fault:?}: {answer}");
        let (code, answer) = sync(folder.path(), &proxy.url, &words);
        assert_eq!(code, 0, "{number} {fault:?}: {answer}");
        models.push(format!("{name}@champion"));
    }

    // A run in the making, killed, resumed, ended.
    let mut growing = Folder::begin(3, crate::folder::MANIFEST);
    growing.steps(1..=2);
    let sync_growing = |folder: &Folder| good(&["sync", folder.path(), "--server", &url, "--experiment", "growing"]);
    sync_growing(&growing);
    growing.steps(3..=3);
    growing.cut();
    sync_growing(&growing);
    growing.resume(2);
    growing.steps(3..=4);
    growing.evaluation(4, f64::NAN);
    growing.end(4, 0.5);
    sync_growing(&growing);
    good(&["sync", growing.path(), "--server", &url, "--experiment", "grown"]);

    let seen = server.seen(&models);
    let experiments = &seen["experiments"];
    let undisturbed = &experiments["undisturbed"];
    let run = &undisturbed[0];
    assert_eq!(run["inputs"][0]["digest"], crate::folder::MANIFEST[..36]);
    assert_eq!(run["inputs"][0]["tags"], json!({ "mlflow.data.context": "training" }));
    let files: BTreeMap<String, String> = fs::read_dir(folder.place.path())
        .unwrap()
        .map(|entry| (entry.as_ref().unwrap().file_name().into_string().unwrap(), sha256(&entry.unwrap().path())))
        .collect();
    assert_eq!((files.len(), &run["files"]), (7, &json!(files)));
    assert_eq!(seen["models"]["undisturbed"]["files"], json!(files));
    for number in (0..26).step_by(2) {
        let name = format!("cut-{number}");
        assert_eq!(&experiments[&name], undisturbed, "{name}");
        assert_eq!(seen["models"][&name], seen["models"]["undisturbed"], "{name}");
    }
    assert_eq!(seen["models"]["undisturbed"]["count"], 1);
    let grown = &experiments["growing"][0];
    assert_eq!(experiments["growing"], experiments["grown"]);
    assert_eq!(grown["status"], "FINISHED");
    let has = |key: &str, step: u64, value: &str| {
        let same = |p: &&Value| p[0] == key && p[1] == step && p[3] == value;
        grown["points"].as_array().unwrap().iter().filter(same).count()
    };
    assert_eq!([has("loss", 2, "0.5"), has("loss", 4, "0.25"), has("cpm", 4, "nan")], [1, 1, 1]);

    // The stub of the other tests stores what MLflow stores.
    let stub = Stub::fake();
    sync(folder.path(), &stub.url, &[]);
    let mut fake = stub.state()["runs"][0].clone();
    let mut points = fake["points"].as_array().unwrap().clone();
    points.sort_by_key(|point| format!("{:>20} {:5}", point[0].as_str().unwrap(), point[1]));
    let mut real = run["points"].as_array().unwrap().clone();
    real.sort_by_key(|point| format!("{:>20} {:5}", point[0].as_str().unwrap(), point[1]));
    assert_eq!(points, real);
    fake["tags"]["mlflow.runName"] = fake["name"].clone();
    for key in ["name", "status", "start_time", "end_time", "params", "tags"] {
        assert_eq!(fake[key], run[key], "{key}");
    }

    // A refusal in MLflow's words.
    let (code, answer) = sync(folder.path(), &url, &["--experiment", &"x".repeat(501)]);
    assert_eq!((code, &answer["rule"]), (1, &json!("server-refuses")));
    assert!(answer["message"].as_str().unwrap().contains("exceeds the maximum length of 500 characters"), "{answer}");
}
