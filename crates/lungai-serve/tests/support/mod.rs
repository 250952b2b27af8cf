//! A service on a real database with an analysis that the test chooses, called through the router without a port.
//! Every answer is checked against the OpenAPI document: a status that is not documented fails the test.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not the helpers of integration tests")]

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use lungai_ct::{Characteristics, Finding, Malignancy, WorldPoint};
use lungai_serve::analyse::{Analyse, Analysed, Engine, Failure, Model, Networks, Outcome, Quality, Study, Verdict};
use lungai_serve::{App, Config, Workers};
use serde_json::Value;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tower::ServiceExt;

pub struct Service {
    pub app: App,
    pub router: Router,
    pub workers: Workers,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The code of a problem, whose shape is checked.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        let body = self.json();
        assert_eq!(body["status"], status);
        assert_eq!(body["type"], format!("urn:lungai:problem:{}", body["code"].as_str().unwrap()));
        assert!(body["title"].is_string() && body["detail"].is_string());
        body["code"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn accepted(&self) -> String {
        assert_eq!(self.status, StatusCode::ACCEPTED, "{}", String::from_utf8_lossy(&self.body));
        self.json()["analysis_id"].as_str().unwrap().to_owned()
    }
}

pub fn config(folder: &tempfile::TempDir) -> Config {
    let mut config = Config::example();
    config.data = folder.path().join("data");
    config
}

pub fn engine(analyse: impl Fn(&Study) -> Result<Analysed, Failure> + Send + Sync + 'static) -> Engine {
    let analyse: Arc<Analyse> = Arc::new(analyse);
    Engine {
        analyse,
        model: Model { name: "test".into(), version: "1".into(), sha256: "00".into(), synthetic: false },
        networks: Networks { lung_segmentation: true, nodule_detection: true, malignancy_classification: true },
        device: "cpu".into(),
        load_seconds: 0.25,
    }
}

pub async fn start(
    config: Config,
    analyse: impl Fn(&Study) -> Result<Analysed, Failure> + Send + Sync + 'static,
) -> Service {
    let app = App::open(config).await.unwrap();
    app.ready(engine(analyse));
    Service { router: lungai_serve::app(app.clone()), workers: Workers::start(&app), app }
}

/// One nodule, accepted quality.
pub fn one_nodule(_: &Study) -> Result<Analysed, Failure> {
    let finding = Finding {
        id: 1,
        position: WorldPoint([1.0, 2.0, 3.0]),
        size_mm: [6.0, 6.0, 6.0],
        diameter_mm: 6.0,
        volume_mm3: 113.1,
        score: 0.9,
        malignancy: Malignancy::from_probability(0.25),
        characteristics: Characteristics::default(),
    };
    Ok(Analysed {
        patient_id: Some("P-1".into()),
        study_uid: Some("1.2.3".into()),
        series_uid: "1.2.3.1".into(),
        other_series: vec!["1.2.3.2".into()],
        quality: Quality { verdict: Verdict::Accept, findings: vec![] },
        outcome: Some(Outcome { findings: vec![finding], operating_threshold: 0.5, left_ml: 1.0, right_ml: 2.0 }),
        stage_seconds: vec![("detect", 0.2)],
    })
}

/// An analysis that waits until the test lets it go.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn pass(&self) {
        let mut open = self.0.0.lock().unwrap();
        while !*open {
            open = self.0.1.wait(open).unwrap();
        }
    }

    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

impl Service {
    pub async fn send(&self, request: Request<Body>) -> Answer {
        send(&self.router, request).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub async fn upload(&self, files: &[(&str, &[u8])]) -> Answer {
        self.send(form(files)).await
    }

    /// The final state of an analysis.
    pub async fn wait(&self, id: &str) -> Value {
        wait(&self.router, id).await
    }

    pub async fn wait_for(&self, id: &str, status: &str) {
        for _ in 0..1000 {
            if self.get(&format!("/api/v1/analyses/{id}")).await.json()["status"] == status {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{id} never was {status}");
    }

    /// Folders that hold a study's images now.
    pub fn studies_on_disk(&self) -> usize {
        std::fs::read_dir(self.app.config.data.join("studies")).unwrap().count()
    }

    pub async fn metric(&self, name: &str) -> f64 {
        let text = String::from_utf8(self.get("/metrics").await.body.to_vec()).unwrap();
        let line = text.lines().find(|line| line.rsplit_once(' ').is_some_and(|(left, _)| left == name));
        line.unwrap_or_else(|| panic!("{name} is not in\n{text}")).rsplit_once(' ').unwrap().1.parse().unwrap()
    }
}

pub async fn wait(router: &Router, id: &str) -> Value {
    for _ in 0..2000 {
        let request = Request::get(format!("/api/v1/analyses/{id}")).body(Body::empty()).unwrap();
        let reply = send(router, request).await.json();
        if !matches!(reply["status"].as_str().unwrap(), "queued" | "running") {
            return reply;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{id} did not end");
}

pub async fn send(router: &Router, request: Request<Body>) -> Answer {
    let (method, path) = (request.method().as_str().to_lowercase(), request.uri().path().to_owned());
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let answer =
        Answer { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() };
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["x-request-id"].len(), 32);
    check_documented(router, &method, &path, &answer).await;
    answer
}

async fn check_documented(router: &Router, method: &str, path: &str, answer: &Answer) {
    let request = Request::get("/api/v1/openapi.json").body(Body::empty()).unwrap();
    let document = router.clone().oneshot(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    let document: Value = serde_json::from_slice(&document).unwrap();
    let template = match path.strip_prefix("/api/v1/analyses/") {
        Some(_) => "/api/v1/analyses/{id}",
        None => path,
    };
    let operation = &document["paths"][template][method];
    if operation.is_null() {
        assert!(matches!(answer.status.as_u16(), 404 | 405), "{method} {template} answers but is not documented");
        return;
    }
    let response = &operation["responses"][answer.status.as_str()];
    assert!(!response.is_null(), "{method} {template}: {} is not documented", answer.status);
    let kind = answer.headers[header::CONTENT_TYPE].to_str().unwrap().replace("; charset=utf-8", "");
    assert!(!response["content"][&kind].is_null(), "{method} {template}: {kind} is not documented");
}

pub const BOUNDARY: &str = "X-LUNGAI-TEST";

pub fn form_body(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, data) in files {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"files\"; filename=\"{name}\"\r\nContent-Type: \
             application/dicom\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(data);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

pub fn form(files: &[(&str, &[u8])]) -> Request<Body> {
    post_upload(&format!("multipart/form-data; boundary={BOUNDARY}"), form_body(files))
}

pub fn post_upload(content_type: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post("/api/v1/analyze_ct").header(header::CONTENT_TYPE, content_type).body(body.into()).unwrap()
}

pub fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, data) in entries {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(data).unwrap();
    }
    zip.finish().unwrap().into_inner()
}
