//! A patient's name, sent in every place where a client can put one, appears nowhere but in the result.
//!
//! A binary of its own: the log of a process can be captured only once.

mod support;

use axum::body::Body;
use axum::http::{Request, header};
use lungai_serve::analyse::{Analysed, Failure};
use lungai_trace::verifies;
use serde_json::json;
use std::io::Write;
use std::sync::{Arc, Mutex};
use support::*;

const CANARY: &str = "KANARIENVOGEL";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no test panics while it logs").extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[verifies("SR-003", "SW-903")]
#[tokio::test(flavor = "multi_thread")]
async fn a_patients_name_is_in_results_only() {
    let log = Log::default();
    let writer = log.clone();
    lungai_serve::logging::start(move || writer.clone());
    let folder = tempfile::tempdir().unwrap();
    let service =
        start(config(&folder), |study| match std::fs::read(study.folder.join("000000")).unwrap().as_slice() {
            b"crash" => panic!("{CANARY}"),
            b"fail" => Err(Failure::new("no-ct-series", "no CT series in the study")),
            _ => Ok(Analysed {
                patient_id: Some(CANARY.into()),
                study_uid: Some(CANARY.into()),
                series_uid: CANARY.into(),
                ..one_nodule(study)?
            }),
        })
        .await;

    let mut answers = Vec::new();
    let mut ids = Vec::new();
    for data in ["crash", "fail", CANARY] {
        let mut request = form(&[(CANARY, data.as_bytes())]);
        for name in ["idempotency-key", "user-agent", "x-request-id", "referer", "cookie", "traceparent"] {
            request.headers_mut().insert(name, format!("{CANARY}{data}").parse().unwrap());
        }
        let answer = service.send(request).await;
        ids.push(answer.accepted());
        answers.push(answer);
    }
    let states = [service.wait(&ids[0]).await, service.wait(&ids[1]).await];
    assert_eq!(service.wait(&ids[2]).await["result"]["patient_id"], CANARY, "the result is where it belongs");

    let multipart = format!("multipart/form-data; boundary={BOUNDARY}");
    let part = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{CANARY}\"\r\n\r\n{CANARY}");
    let batch = |body: String| {
        Request::post("/api/v1/batch_analyze")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .unwrap()
    };
    let requests = [
        Request::get(format!("/api/v1/analyses/{CANARY}?patient={CANARY}")).body(Body::empty()).unwrap(),
        Request::get(format!("/{CANARY}?patient={CANARY}")).body(Body::empty()).unwrap(),
        Request::builder().method(CANARY).uri("/livez").body(Body::empty()).unwrap(),
        Request::get("/metrics").header(header::ORIGIN, format!("http://{CANARY}")).body(Body::empty()).unwrap(),
        Request::get("/metrics").header(header::HOST, CANARY).body(Body::empty()).unwrap(),
        post_upload(&multipart, part),
        post_upload(CANARY, CANARY),
        post_upload("application/zip", CANARY),
        post_upload("application/zip", zip_of(&[(CANARY, CANARY.as_bytes())])),
        batch(CANARY.into()),
        batch(json!({CANARY: CANARY}).to_string()),
        batch(json!({"studies": [{"study_id": CANARY, "series_id": format!("other{CANARY}")}]}).to_string()),
        batch(json!({"studies": [{"study_id": CANARY}]}).to_string()),
        Request::get("/metrics").body(Body::empty()).unwrap(),
    ];
    for request in requests {
        answers.push(service.send(request).await);
    }

    for (i, answer) in answers.iter().enumerate() {
        assert!(!String::from_utf8_lossy(&answer.body).contains(CANARY), "body of answer {i}");
        assert!(!format!("{:?}", answer.headers).contains(CANARY), "headers of answer {i}");
    }
    for state in states {
        assert!(!state.to_string().contains(CANARY), "{state}");
    }
    for row in service.app.store.audit_trail().await.unwrap() {
        assert!(!format!("{row:?}").contains(CANARY));
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(!log.contains(CANARY), "{log}");
    // That the log is there at all, as JSON lines, and tells which request and which analysis.
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|l| l["message"] == "answered" && l["span"]["route"] == "/api/v1/analyze_ct"), "{log}");
    assert!(lines.iter().any(|l| l["message"] == "answered" && l["span"]["route"] == "unknown"), "{log}");
    assert!(lines.iter().any(|l| l["message"] == "analysis failed" && l["span"]["analysis_id"] == ids[1]), "{log}");
    assert!(lines.iter().any(|l| l["message"] == "a bug of the service: panic"), "{log}");
}
