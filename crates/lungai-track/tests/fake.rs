//! MLflow's tracking server in memory, as far as `lungai-track` uses it: the same answers, codes and limits as version
//! 3.17.2 gives, which `real` shows by running the same journey on both.

use crate::stub::Request;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Fake {
    experiments: Vec<String>,
    runs: Vec<Run>,
    models: BTreeMap<String, Model>,
}

#[derive(Default)]
struct Run {
    experiment: String,
    name: String,
    status: String,
    start_time: Value,
    end_time: Value,
    tags: BTreeMap<String, String>,
    params: BTreeMap<String, String>,
    /// Key, step, timestamp, value: MLflow's primary key of a point.
    points: BTreeSet<(String, u64, u64, String)>,
    inputs: BTreeSet<String>,
    files: BTreeMap<String, Vec<u8>>,
}

#[derive(Default)]
struct Model {
    versions: Vec<Value>,
    aliases: BTreeMap<String, String>,
}

type Answer = (u16, Value);

fn refuse(status: u16, code: &str, message: &str) -> Answer {
    (status, json!({ "error_code": code, "message": message }))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Fake {
    /// Everything, in a comparable form.
    pub fn state(&self) -> Value {
        let run = |run: &Run| {
            let files: BTreeMap<&String, String> =
                run.files.iter().map(|(name, bytes)| (name, String::from_utf8_lossy(bytes).into_owned())).collect();
            json!({
                "experiment": run.experiment, "name": run.name, "status": run.status, "start_time": run.start_time,
                "end_time": run.end_time, "tags": run.tags, "params": run.params, "points": run.points,
                "inputs": run.inputs, "files": files,
            })
        };
        let models: BTreeMap<&String, Value> = self
            .models
            .iter()
            .map(|(name, model)| (name, json!({ "versions": model.versions, "aliases": model.aliases })))
            .collect();
        json!({ "experiments": self.experiments, "runs": self.runs.iter().map(run).collect::<Vec<_>>(), "models": models })
    }

    pub fn answer(&mut self, request: &Request) -> Answer {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        if let Some(place) = path.strip_prefix("/api/2.0/mlflow-artifacts/artifacts/") {
            return self.put(place, &request.body);
        }
        let call = path.strip_prefix("/api/2.0/mlflow/").unwrap();
        let asked: BTreeMap<String, String> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), decoded(value)))
            .collect();
        if request.method == "POST" && request.header("content-type") != Some("application/json") {
            return refuse(400, "INVALID_PARAMETER_VALUE", "Bad Request. Content-Type header");
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        match (request.method.as_str(), call) {
            ("GET", "experiments/get-by-name") => self.experiment(&asked["experiment_name"]),
            ("POST", "experiments/create") => self.create_experiment(&text(&body["name"])),
            ("POST", "runs/search") => self.search(&body),
            ("POST", "runs/create") => self.create_run(&body),
            ("POST", "runs/log-batch") => self.log_batch(&body, request.body.len()),
            ("POST", "runs/log-inputs") => self.log_inputs(&body),
            ("POST", "runs/set-tag") => {
                self.run(&body).tags.insert(text(&body["key"]), text(&body["value"]));
                (200, json!({}))
            }
            ("POST", "runs/update") => {
                let run = self.run(&body);
                run.status = text(&body["status"]);
                if !body["end_time"].is_null() {
                    run.end_time = body["end_time"].clone();
                }
                (200, json!({}))
            }
            ("GET", "registered-models/get") => match self.models.get(&asked["name"]) {
                None => refuse(404, "RESOURCE_DOES_NOT_EXIST", "Registered Model not found"),
                Some(model) => {
                    let alias = |(alias, version): (&String, &String)| json!({ "alias": alias, "version": version });
                    let aliases: Vec<Value> = model.aliases.iter().map(alias).collect();
                    (200, json!({ "registered_model": { "name": asked["name"], "aliases": aliases } }))
                }
            },
            ("POST", "registered-models/create") => {
                self.models.insert(text(&body["name"]), Model::default());
                (200, json!({}))
            }
            ("GET", "model-versions/search") => {
                let (name, run) = asked["filter"].split_once(" and ").unwrap();
                let inside = |text: &str| text.split('\'').nth(1).unwrap().to_owned();
                let versions = self.models.get(&inside(name)).map(|model| model.versions.clone()).unwrap_or_default();
                let of_run = versions.into_iter().filter(|version| version["run_id"] == inside(run));
                (200, json!({ "model_versions": of_run.collect::<Vec<_>>() }))
            }
            ("POST", "model-versions/create") => {
                let model = self.models.get_mut(&text(&body["name"])).unwrap();
                let mut version = body.clone();
                version["version"] = json!((model.versions.len() + 1).to_string());
                model.versions.push(version.clone());
                (200, json!({ "model_version": version }))
            }
            ("POST", "registered-models/alias") => {
                let model = self.models.get_mut(&text(&body["name"])).unwrap();
                model.aliases.insert(text(&body["alias"]), text(&body["version"]));
                (200, json!({}))
            }
            other => panic!("the stub does not know {other:?}"),
        }
    }

    /// The run that a body names: its number is its id.
    fn run(&mut self, body: &Value) -> &mut Run {
        let number: usize = body["run_id"].as_str().unwrap().parse().unwrap();
        &mut self.runs[number]
    }

    fn experiment(&self, name: &str) -> Answer {
        match self.experiments.iter().position(|known| known == name) {
            None => refuse(404, "RESOURCE_DOES_NOT_EXIST", "Could not find experiment"),
            Some(id) => {
                let stage = if name == "deleted" { "deleted" } else { "active" };
                (
                    200,
                    json!({ "experiment": { "experiment_id": id.to_string(), "name": name, "lifecycle_stage": stage } }),
                )
            }
        }
    }

    fn create_experiment(&mut self, name: &str) -> Answer {
        if self.experiments.iter().any(|known| known == name) {
            return refuse(400, "RESOURCE_ALREADY_EXISTS", "Experiment already exists");
        }
        self.experiments.push(name.to_owned());
        (200, json!({ "experiment_id": (self.experiments.len() - 1).to_string() }))
    }

    fn search(&self, body: &Value) -> Answer {
        let filter = text(&body["filter"]);
        let mut parts = filter.split(['`', '\'']);
        let (key, value) = (parts.nth(1).unwrap(), parts.nth(1).unwrap());
        let found = self.runs.iter().zip(0..).filter(|(run, _)| {
            body["experiment_ids"][0] == run.experiment && run.tags.get(key).is_some_and(|known| known == value)
        });
        (200, json!({ "runs": found.map(|(run, id)| shown(run, id)).collect::<Vec<_>>() }))
    }

    fn create_run(&mut self, body: &Value) -> Answer {
        let tags = body["tags"].as_array().unwrap().iter().map(|tag| (text(&tag["key"]), text(&tag["value"])));
        self.runs.push(Run {
            experiment: text(&body["experiment_id"]),
            name: text(&body["run_name"]),
            status: "RUNNING".into(),
            start_time: body["start_time"].clone(),
            tags: tags.collect(),
            ..Run::default()
        });
        let id = self.runs.len() - 1;
        (200, json!({ "run": shown(&self.runs[id], id) }))
    }

    fn log_batch(&mut self, body: &Value, bytes: usize) -> Answer {
        let list = |key: &str| body[key].as_array().cloned().unwrap_or_default();
        let (metrics, params, tags) = (list("metrics"), list("params"), list("tags"));
        if metrics.len() > 1000
            || params.len() > 100
            || metrics.len() + params.len() + tags.len() > 1000
            || bytes > 1_000_000
        {
            return refuse(400, "INVALID_PARAMETER_VALUE", "A batch logging request can contain at most 1000 entries");
        }
        let fine = |key: &str| key.chars().all(|c| c.is_alphanumeric() || "_-. :/".contains(c)) && key.len() <= 250;
        if metrics.iter().chain(&params).chain(&tags).any(|entry| !fine(entry["key"].as_str().unwrap())) {
            return refuse(400, "INVALID_PARAMETER_VALUE", "Names may only contain alphanumerics");
        }
        if params.iter().any(|param| param["value"].as_str().unwrap().chars().count() > 6000) {
            return refuse(400, "INVALID_PARAMETER_VALUE", "Param value exceeds 6000 characters");
        }
        let run = self.run(body);
        for param in params {
            let (key, value) = (text(&param["key"]), text(&param["value"]));
            if run.params.get(&key).is_some_and(|known| *known != value) {
                return refuse(400, "INVALID_PARAMETER_VALUE", "Changing param values is not allowed");
            }
            run.params.insert(key, value);
        }
        run.points.extend(metrics.iter().map(|metric| {
            let number = |key: &str| metric[key].as_u64().unwrap();
            (text(&metric["key"]), number("step"), number("timestamp"), metric["value"].to_string())
        }));
        run.tags.extend(tags.iter().map(|tag| (text(&tag["key"]), text(&tag["value"]))));
        (200, json!({}))
    }

    fn log_inputs(&mut self, body: &Value) -> Answer {
        let data_set = &body["datasets"][0];
        if data_set["dataset"]["digest"].as_str().unwrap().len() > 36 {
            return refuse(400, "INVALID_PARAMETER_VALUE", "'digest' exceeds the maximum length of 36 characters");
        }
        self.run(body).inputs.insert(data_set.to_string());
        (200, json!({}))
    }

    fn put(&mut self, place: &str, body: &[u8]) -> Answer {
        let parts: Vec<&str> = place.split('/').collect();
        let [_, id, "artifacts", name] = parts[..] else {
            return refuse(400, "INVALID_PARAMETER_VALUE", "Invalid path");
        };
        self.runs[id.parse::<usize>().unwrap()].files.insert(name.to_owned(), body.to_vec());
        (200, json!({}))
    }
}

fn shown(run: &Run, id: usize) -> Value {
    let pairs = |map: &BTreeMap<String, String>| -> Vec<Value> {
        map.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
    };
    let inputs: Vec<Value> = run.inputs.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let mut info = json!({
        "run_id": id.to_string(), "status": run.status, "start_time": run.start_time,
        "artifact_uri": format!("mlflow-artifacts:/{}/{id}/artifacts", run.experiment),
    });
    if !run.end_time.is_null() {
        info["end_time"] = run.end_time.clone();
    }
    json!({
        "info": info, "data": { "tags": pairs(&run.tags), "params": pairs(&run.params) },
        "inputs": { "dataset_inputs": inputs },
    })
}

/// Of a query: `+` and `%xx`.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| u8::from_str_radix(&text[at + 1..at + 3], 16).unwrap());
        out.push(code.unwrap_or(if bytes[at] == b'+' { b' ' } else { bytes[at] }));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).unwrap()
}
