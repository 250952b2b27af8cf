//! The service through its router, with a real database.

mod support;

use axum::body::{Body, Bytes};
use axum::http::{Request, header};
use lungai_serve::analyse::{Analysed, Failure, Quality, QualityFinding, Verdict};
use lungai_serve::config::ApiKey;
use lungai_serve::{App, StartError, Workers};
use lungai_trace::verifies;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[verifies("IR-002")]
#[tokio::test]
async fn an_uploaded_study_is_accepted_analysed_and_its_result_kept() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(config(&folder), |study| {
        let mut files: Vec<_> = std::fs::read_dir(study.folder).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        assert_eq!(files.iter().map(|f| std::fs::read(f).unwrap()).collect::<Vec<_>>(), [b"one", b"two"]);
        assert_eq!(study.series_uid, None);
        one_nodule(study)
    })
    .await;
    let answer = service.upload(&[("a.dcm", b"one"), ("b.dcm", b"two")]).await;
    let id = answer.accepted();
    assert_eq!(id.len(), 32);
    assert_eq!(answer.json(), json!({"analysis_id": id, "status": "queued"}));
    assert_eq!(answer.headers[header::LOCATION], format!("/api/v1/analyses/{id}"));

    let reply = service.wait(&id).await;
    assert_eq!((&reply["status"], &reply["analysis_id"]), (&json!("succeeded"), &json!(id)));
    let result = &reply["result"];
    assert_eq!((&result["patient_id"], &result["study_id"]), (&json!("P-1"), &json!("1.2.3")));
    assert_eq!((&result["num_nodules"], &result["risk_assessment"]), (&json!(1), &json!("low")));
    assert_eq!(result["nodules"][0]["position"], json!([1.0, 2.0, 3.0]));
    assert_eq!(result["model"], json!({"name": "test", "version": "1", "sha256": "00", "synthetic": false}));
    assert!(result["processing_time"].as_f64().unwrap() < 30.0);
    let at = result["timestamp"].as_str().unwrap();
    assert!(at.starts_with("20") && at.ends_with('Z') && at.len() == 24, "{at}");

    assert_eq!(service.metric("lungai_inference_requests_total{status=\"succeeded\"}").await, 1.0);
    assert_eq!(service.metric("lungai_nodules_detected_total").await, 1.0);
    assert_eq!(service.metric("lungai_active_inference_tasks").await, 0.0);
    assert_eq!(service.metric("lungai_model_load_time_seconds").await, 0.25);
    assert_eq!(service.metric("lungai_stage_duration_seconds_bucket{stage=\"detect\",le=\"0.5\"}").await, 1.0);
    let trail = service.app.store.audit_trail().await.unwrap();
    assert!(trail.contains(&("local".into(), "order-analysis".into(), id.clone())));
    assert!(trail.contains(&("local".into(), "read-result".into(), id)));
}

#[tokio::test]
async fn zip_and_tar_bodies_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(config(&folder), |study| {
        assert_eq!(std::fs::read_dir(study.folder).unwrap().count(), 1);
        one_nodule(study)
    })
    .await;
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    tar.append_data(&mut header, "slice", &b"image"[..]).unwrap();
    for (kind, body) in
        [("application/zip", zip_of(&[("slice", b"image")])), ("application/x-tar", tar.into_inner().unwrap())]
    {
        let id = service.send(post_upload(kind, body)).await.accepted();
        assert_eq!(service.wait(&id).await["status"], "succeeded");
    }
}

#[tokio::test]
async fn uploads_that_break_a_rule_are_refused_by_name_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    config.limits.upload_bytes = 200_000;
    config.limits.unpacked_bytes = 1_000_000;
    config.limits.files = 5;
    let service = start(config, one_nodule).await;
    let multipart = format!("multipart/form-data; boundary={BOUNDARY}");
    let whole = form_body(&[("a", &[7; 1000])]);
    let big = vec![7; 200_001];
    let chunked = Body::new(http_body_util::Full::new(Bytes::from(big.clone())));
    let part = |name: &str| format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\nx");
    let cases: Vec<(Request<Body>, u16, &str)> = vec![
        (post_upload("application/zip", "PK no zip"), 400, "bad-archive"),
        (post_upload("application/zip", zip_of(&[("zeros", &vec![0; 900_000])])), 413, "compression-ratio"),
        (post_upload("application/zip", zip_of(&[("f", b"1")])), 202, ""),
        (form(&[("f", &b"1"[..]); 6]), 413, "too-many-files"),
        (form(&[("f", &big)]), 413, "body-too-large"),
        (post_upload("application/zip", chunked), 413, "body-too-large"),
        (post_upload(&multipart, whole[..600].to_vec()), 400, "malformed-multipart"),
        (post_upload(&multipart, "no form"), 400, "malformed-multipart"),
        (post_upload("multipart/form-data", whole.clone()), 400, "malformed-multipart"),
        (post_upload(&multipart, part("patient_id")), 400, "unexpected-part"),
        (post_upload(&multipart, form_body(&[])), 400, "no-files"),
        (post_upload("application/zip", ""), 400, "bad-archive"),
        (post_upload("application/json", "{}"), 415, "unsupported-media-type"),
        (Request::post("/api/v1/analyze_ct").body(Body::empty()).unwrap(), 415, "unsupported-media-type"),
    ];
    for (i, (request, status, code)) in cases.into_iter().enumerate() {
        let answer = service.send(request).await;
        match status {
            202 => drop(answer.accepted()),
            _ => assert_eq!(answer.problem(status), code, "case {i}"),
        }
    }
    // The writer of a refused upload removes it after the answer has gone out.
    for _ in 0..100 {
        if service.studies_on_disk() == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} studies on disk", service.studies_on_disk());
}

#[verifies("SR-003", "SW-906")]
#[tokio::test]
async fn file_names_of_the_client_are_never_paths() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(config(&folder), |study| {
        let names: Vec<_> = std::fs::read_dir(study.folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| name.to_str().unwrap().bytes().all(|b| b.is_ascii_digit())), "{names:?}");
        one_nodule(study)
    })
    .await;
    let id = service.upload(&[("../../../escaped", b"x"), ("/escaped", b"y"), ("DOE^JANE", b"z")]).await.accepted();
    assert_eq!(service.wait(&id).await["status"], "succeeded");
    let mut files = Vec::new();
    let mut folders = vec![folder.path().to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().map(|e| e.unwrap()) {
            files.push(entry.file_name().into_string().unwrap());
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
        }
    }
    assert!(files.iter().all(|name| !name.contains("escaped") && !name.contains("DOE")), "{files:?}");
}

#[verifies("PR-002")]
#[tokio::test(flavor = "multi_thread")]
async fn twenty_submissions_at_once_all_complete() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    config.limits.uploads = 20;
    config.workers = 4;
    let at_once = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let seen = at_once.clone();
    let service = Arc::new(
        start(config, move |study| {
            let now = seen.0.fetch_add(1, Ordering::SeqCst) + 1;
            seen.1.fetch_max(now, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(20));
            seen.0.fetch_sub(1, Ordering::SeqCst);
            one_nodule(study)
        })
        .await,
    );
    let tasks: Vec<_> = (0..20u8)
        .map(|i| {
            let service = service.clone();
            tokio::spawn(async move {
                let id = service.upload(&[("slice", &[i; 5000])]).await.accepted();
                (service.wait(&id).await["status"].clone(), id)
            })
        })
        .collect();
    let mut ids = Vec::new();
    for task in tasks {
        let (status, id) = task.await.unwrap();
        assert_eq!(status, "succeeded");
        ids.push(id);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
    assert_eq!(service.metric("lungai_inference_requests_total{status=\"succeeded\"}").await, 20.0);
    assert!((2..=4).contains(&at_once.1.load(Ordering::SeqCst)), "as many at a time as there are workers");
}

#[verifies("PR-002", "SW-803")]
#[tokio::test]
async fn a_full_queue_says_when_to_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    config.limits.queue = 2;
    let gate = Gate::default();
    let held = gate.clone();
    let service = start(config, move |study| {
        held.pass();
        one_nodule(study)
    })
    .await;
    let running = service.upload(&[("a", b"0")]).await.accepted();
    service.wait_for(&running, "running").await;
    assert_eq!(service.metric("lungai_active_inference_tasks").await, 1.0);
    let waiting = [service.upload(&[("a", b"1")]).await.accepted(), service.upload(&[("a", b"2")]).await.accepted()];
    assert_eq!(service.metric("lungai_queue_length").await, 2.0);
    let refused = service.upload(&[("a", b"3")]).await;
    assert_eq!(refused.problem(503), "queue-full");
    assert_eq!(refused.headers[header::RETRY_AFTER], "30");
    assert_eq!(service.studies_on_disk(), 3);
    gate.open();
    for id in [&running, &waiting[0], &waiting[1]] {
        assert_eq!(service.wait(id).await["status"], "succeeded");
    }
}

#[tokio::test]
async fn too_many_uploads_at_once_are_told_to_wait_and_a_stalled_one_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    config.limits.uploads = 1;
    config.seconds.stall = 1;
    let service = Arc::new(start(config, one_nodule).await);
    let stalled = tokio::spawn({
        let service = service.clone();
        async move { service.send(post_upload("application/zip", Body::new(Stalled))).await }
    });
    while service.studies_on_disk() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let refused = service.upload(&[("a", b"x")]).await;
    assert_eq!(refused.problem(429), "too-many-uploads");
    assert!(refused.headers.contains_key(header::RETRY_AFTER));
    assert_eq!(stalled.await.unwrap().problem(408), "timeout");
    service.upload(&[("a", b"x")]).await.accepted();
}

/// A body that never ends and never comes.
struct Stalled;

impl axum::body::HttpBody for Stalled {
    type Data = Bytes;
    type Error = std::convert::Infallible;
    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

#[verifies("IR-002", "SW-1001")]
#[tokio::test]
async fn what_is_not_there_is_a_problem_in_the_same_shape() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(config(&folder), one_nodule).await;
    for id in ["0123456789abcdef0123456789abcdef", "x", "..%2f..%2fetc%2fpasswd"] {
        assert_eq!(service.get(&format!("/api/v1/analyses/{id}")).await.problem(404), "unknown-analysis");
    }
    assert_eq!(service.get("/api/v1/patients/DOE").await.problem(404), "unknown-route");
    let answer = service.get("/api/v1/analyze_ct").await;
    assert_eq!(answer.problem(405), "method-not-allowed");
    assert_eq!(answer.headers[header::ALLOW], "POST");
}

#[verifies("FR-002", "IR-002")]
#[tokio::test]
async fn images_of_insufficient_quality_are_rejected_with_reasons() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(config(&folder), |study| {
        let rule = QualityFinding {
            rule: "slice-thickness".into(),
            value: 5.0,
            limit: 3.0,
            unit: "mm".into(),
            verdict: Verdict::Reject,
        };
        let quality = Quality { verdict: Verdict::Reject, findings: vec![rule] };
        Ok(Analysed { quality, outcome: None, ..one_nodule(study)? })
    })
    .await;
    let id = service.upload(&[("a", b"x")]).await.accepted();
    let reply = service.wait(&id).await;
    assert_eq!(reply["status"], "rejected");
    assert_eq!(
        reply["result"]["quality"],
        json!({"verdict": "reject", "findings":
            [{"rule": "slice-thickness", "value": 5.0, "limit": 3.0, "unit": "mm", "verdict": "reject"}]})
    );
    assert!(reply["result"].get("num_nodules").is_none());
    assert_eq!(service.metric("lungai_inference_requests_total{status=\"rejected\"}").await, 1.0);
}

#[tokio::test]
async fn failures_and_crashes_end_their_own_analysis_only() {
    let folder = tempfile::tempdir().unwrap();
    let service =
        start(config(&folder), |study| match std::fs::read(study.folder.join("000000")).unwrap().as_slice() {
            b"crash" => panic!("on purpose"),
            b"text" => Err(Failure::new("no-ct-series", "no CT series in the study")),
            _ => one_nodule(study),
        })
        .await;
    let mut replies = Vec::new();
    for data in ["crash", "text", "image"] {
        let id = service.upload(&[("a", data.as_bytes())]).await.accepted();
        let mut reply = service.wait(&id).await;
        reply["result"].take();
        replies.push((reply["status"].clone(), reply["error"].clone()));
    }
    assert_eq!(
        replies,
        [
            (json!("failed"), json!({"code": "internal", "detail": "the analysis broke down"})),
            (json!("failed"), json!({"code": "no-ct-series", "detail": "no CT series in the study"})),
            (json!("succeeded"), json!(null)),
        ]
    );
    assert_eq!(service.metric("lungai_inference_requests_total{status=\"failed\"}").await, 2.0);
}

#[tokio::test]
async fn an_analysis_that_takes_too_long_has_failed() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    config.seconds.analysis = 1;
    let gate = Gate::default();
    let held = gate.clone();
    let service = start(config, move |study| {
        held.pass();
        one_nodule(study)
    })
    .await;
    let id = service.upload(&[("a", b"x")]).await.accepted();
    assert_eq!(service.wait(&id).await["error"], json!({"code": "time-limit", "detail": "not done within 1 s"}));
    gate.open();
    let next = service.upload(&[("a", b"y")]).await.accepted();
    assert_eq!(service.wait(&next).await["status"], "succeeded");
    assert_eq!(service.wait(&id).await["status"], "failed", "the late result is not used");
}

#[tokio::test]
async fn a_repeated_request_gives_the_first_answer() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(config(&folder), one_nodule).await;
    let keyed = |key: &str, data: &[u8]| {
        let mut request = form(&[("a", data)]);
        request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        request
    };
    let first = service.send(keyed("k1", b"x")).await.accepted();
    service.wait(&first).await;
    let again = service.send(keyed("k1", b"x")).await;
    assert_eq!(again.json(), json!({"analysis_id": first, "status": "succeeded"}));
    assert_eq!(service.send(keyed("k1", b"other")).await.problem(422), "idempotency-key-reused");
    assert_ne!(service.send(keyed("k2", b"x")).await.accepted(), first);
    assert_eq!(service.studies_on_disk(), 2);
    assert_eq!(service.send(keyed(&"k".repeat(256), b"x")).await.problem(400), "idempotency-key");
    assert_eq!(service.send(keyed("a b", b"x")).await.problem(400), "idempotency-key");
}

#[verifies("SR-002", "SW-901")]
#[tokio::test]
async fn with_keys_configured_nothing_about_a_study_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    // printf %s secret | sha256sum
    let sha256 = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b".to_owned();
    config.api_keys = vec![ApiKey { name: "pacs".into(), sha256 }];
    let service = start(config, one_nodule).await;
    let with_key = |mut request: Request<Body>, key: &str| {
        request.headers_mut().insert(header::AUTHORIZATION, format!("Bearer {key}").parse().unwrap());
        request
    };
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let id = service.send(with_key(form(&[("a", b"x")]), "secret")).await.accepted();
    let path = format!("/api/v1/analyses/{id}");
    for request in [form(&[("a", b"x")]), get(&path), get("/metrics"), get("/api/v1/analyses/unknown")] {
        let answer = service.send(request).await;
        assert_eq!(answer.problem(401), "unauthorized");
        assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer");
    }
    assert_eq!(service.send(with_key(get(&path), "Secret")).await.problem(401), "unauthorized");
    assert_eq!(service.send(with_key(get(&path), "secret")).await.status, 200);
    for path in ["/livez", "/readyz", "/api/v1/health", "/api/v1/openapi.json"] {
        assert_eq!(service.get(path).await.status, 200, "{path}");
    }
    let trail = service.app.store.audit_trail().await.unwrap();
    assert!(trail.contains(&("pacs".into(), "order-analysis".into(), id)));
}

#[tokio::test]
async fn before_the_model_is_verified_nothing_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::open(config(&folder)).await.unwrap();
    let service = Service { router: lungai_serve::app(app.clone()), workers: Workers::start(&app), app };
    assert_eq!(service.get("/livez").await.status, 200);
    assert_eq!(service.get("/readyz").await.problem(503), "starting");
    assert_eq!(service.upload(&[("a", b"x")]).await.problem(503), "starting");
    let health = service.get("/api/v1/health").await.json();
    assert_eq!((&health["status"], &health["device"]), (&json!("starting"), &json!("none")));
    assert_eq!(
        health["models_loaded"],
        json!({"lung_segmentation": false, "nodule_detection": false, "malignancy_classification": false})
    );
    service.app.ready(engine(one_nodule));
    assert_eq!(service.get("/readyz").await.status, 200);
    let health = service.get("/api/v1/health").await.json();
    assert_eq!((&health["status"], &health["device"]), (&json!("ok"), &json!("cpu")));
    assert_eq!(
        health["models_loaded"],
        json!({"lung_segmentation": true, "nodule_detection": true, "malignancy_classification": true})
    );
    let id = service.upload(&[("a", b"x")]).await.accepted();
    assert_eq!(service.wait(&id).await["status"], "succeeded");
}

#[verifies("PR-003")]
#[tokio::test]
async fn after_a_restart_accepted_studies_are_analysed() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let held = gate.clone();
    let service = start(config(&folder), move |study| {
        held.pass();
        one_nodule(study)
    })
    .await;
    let running = service.upload(&[("a", b"x")]).await.accepted();
    let waiting = service.upload(&[("a", b"y")]).await.accepted();
    service.wait_for(&running, "running").await;
    assert!(matches!(App::open(config(&folder)).await, Err(StartError::InUse { .. })));
    // As a crash does: nobody gives anything back, and one upload is cut off in the middle.
    std::fs::create_dir(service.app.config.data.join("studies/half-an-upload")).unwrap();
    let Service { app, router, workers } = service;
    drop(workers);
    drop(router);
    let mut app = Some(app);
    let service = loop {
        drop(app.take());
        match App::open(config(&folder)).await {
            Ok(app) => break Service { router: lungai_serve::app(app.clone()), workers: Workers::start(&app), app },
            Err(StartError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) => panic!("{error}"),
        }
    };
    service.app.ready(engine(one_nodule));
    for id in [&running, &waiting] {
        assert_eq!(service.wait(id).await["status"], "succeeded");
    }
    assert_eq!(service.studies_on_disk(), 2, "the half upload is gone");
    gate.open();
}

#[verifies("PR-003")]
#[tokio::test]
async fn a_job_that_kills_the_process_every_time_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::open(config(&folder)).await.unwrap();
    let study = lungai_serve::store::NewStudy { id: "s".into(), files: 1, bytes: 1, sha256: "00".into() };
    let order = lungai_serve::store::Order {
        new_study: Some(&study),
        jobs: &[("s".into(), None)],
        actor: "test",
        idempotency: None,
        queue_limit: 1,
    };
    let lungai_serve::store::Placed::New(ids) = app.store.place(order).await.unwrap() else { panic!() };
    for _ in 0..app.config.attempts {
        app.store.claim("gone", Duration::from_secs(60)).await.unwrap().unwrap();
        app.store.requeue_orphans().await.unwrap();
    }
    app.ready(engine(one_nodule));
    let service = Service { router: lungai_serve::app(app.clone()), workers: Workers::start(&app), app };
    assert_eq!(service.wait(&ids[0]).await["error"]["code"], "gave-up");
}

#[verifies("PR-003")]
#[tokio::test(flavor = "multi_thread")]
async fn stopping_finishes_what_runs_and_takes_nothing_new() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let held = gate.clone();
    let Service { app, router, workers } = start(config(&folder), move |study| {
        held.pass();
        one_nodule(study)
    })
    .await;
    let running = send(&router, form(&[("a", b"x")])).await.accepted();
    let waiting = send(&router, form(&[("a", b"y")])).await.accepted();
    while app.store.job(&running).await.unwrap().unwrap().state != "running" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stopping = tokio::spawn(workers.stop());
    while send(&router, form(&[("a", b"z")])).await.status != 503 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let health = send(&router, Request::get("/api/v1/health").body(Body::empty()).unwrap()).await.json();
    assert_eq!(health["status"], "stopping");
    gate.open();
    stopping.await.unwrap();
    assert_eq!(app.store.job(&running).await.unwrap().unwrap().state, "succeeded");
    assert_eq!(app.store.job(&waiting).await.unwrap().unwrap().state, "queued");
}

#[verifies("PR-003")]
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_in_time_is_queued_again_at_no_cost() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    config.seconds.shutdown = 1;
    let gate = Gate::default();
    let held = gate.clone();
    let Service { app, router, workers } = start(config, move |study| {
        held.pass();
        one_nodule(study)
    })
    .await;
    let id = send(&router, form(&[("a", b"x")])).await.accepted();
    while app.store.job(&id).await.unwrap().unwrap().state != "running" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    workers.stop().await;
    let job = app.store.claim("next", Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!((job.id, job.attempts), (id, 1));
    gate.open();
}

#[tokio::test]
async fn received_studies_are_analysed_again_by_their_uids() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    config.keep_images_hours = 0;
    let Service { app, router, workers } = start(config, |study| {
        let mut analysed = one_nodule(study)?;
        if let Some(series_uid) = study.series_uid {
            analysed.series_uid = series_uid.to_owned();
        }
        Ok(analysed)
    })
    .await;
    let service = Service { app: app.clone(), router: router.clone(), workers };
    let id = service.upload(&[("a", b"x")]).await.accepted();
    service.wait(&id).await;
    let batch = |body: serde_json::Value| {
        Request::post("/api/v1/batch_analyze")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .unwrap()
    };
    let both = json!({"studies": [{"study_id": "1.2.3"}, {"study_id": "1.2.3", "series_id": "1.2.3.2"}]});
    let answer = service.send(batch(both.clone())).await;
    assert_eq!(answer.status, 202);
    let mut series = Vec::new();
    for analysis in answer.json()["analyses"].as_array().unwrap() {
        series.push(service.wait(analysis["analysis_id"].as_str().unwrap()).await["result"]["series_id"].clone());
    }
    assert_eq!(series, ["1.2.3.1", "1.2.3.2"]);
    for unknown in [json!({"study_id": "1.2.4"}), json!({"study_id": "1.2.3", "series_id": "1.2.3.9"})] {
        let answer = service.send(batch(json!({"studies": [{"study_id": "1.2.3"}, unknown]}))).await;
        assert_eq!(answer.problem(404), "unknown-study");
        assert!(answer.json()["detail"].as_str().unwrap().starts_with("entry 1 "));
    }
    assert_eq!(service.send(batch(json!({"studies": []}))).await.problem(422), "batch-size");
    assert_eq!(service.send(batch(json!({"files": []}))).await.problem(422), "malformed-request");
    let text = Request::post("/api/v1/batch_analyze").body(Body::from("x")).unwrap();
    assert_eq!(service.send(text).await.problem(415), "unsupported-media-type");
    let huge = json!({"studies": [{"study_id": "1".repeat(70_000)}]});
    assert_eq!(service.send(batch(huge)).await.problem(413), "body-too-large");
    assert_eq!(service.studies_on_disk(), 1);

    // The next housekeeping removes the images, whose keeping time of 0 hours is over; results stay.
    let Service { workers, .. } = service;
    drop(workers);
    let service = Service { workers: Workers::start(&app), app, router };
    for _ in 0..500 {
        if service.studies_on_disk() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(service.studies_on_disk(), 0);
    assert_eq!(service.send(batch(both)).await.problem(404), "unknown-study");
    assert_eq!(service.wait(&id).await["status"], "succeeded");
}

#[verifies("IR-002", "SW-1002")]
#[tokio::test]
async fn the_openapi_document_names_what_exists_and_how_it_fails() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(config(&folder), one_nodule).await;
    let document = service.get("/api/v1/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut names = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            names.push(format!("{method} {path}"));
            let request =
                Request::builder().method(method.to_uppercase().as_str()).uri(path).body(Body::empty()).unwrap();
            let answer = service.send(request).await;
            if answer.status == 404 {
                assert_ne!(answer.json()["code"], "unknown-route", "{path} is documented but not there");
            }
            for (status, response) in operation["responses"].as_object().unwrap() {
                let problem = &response["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(
                    status.starts_with(['4', '5']),
                    problem == "#/components/schemas/ProblemBody",
                    "{path} {status}"
                );
            }
        }
    }
    assert_eq!(
        names,
        [
            "get /api/v1/analyses/{id}",
            "post /api/v1/analyze_ct",
            "post /api/v1/batch_analyze",
            "get /api/v1/health",
            "get /api/v1/openapi.json",
            "get /livez",
            "get /metrics",
            "get /readyz",
        ]
    );
    assert!(document["components"]["schemas"]["AnalysisResult"].is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_port_slow_clients_are_dropped_and_stopping_closes_the_door() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    config.seconds.header = 1;
    let service = start(config, one_nodule).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let app = service.app.clone();
    let serving = tokio::spawn(async move {
        lungai_serve::serve(&app, listener, async {
            let _ = stopped.await;
        })
        .await;
    });

    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("ok\n"), "{text}");

    let mut slow = tokio::net::TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(10), slow.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "a client that never finishes its header is cut off");
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));

    stop.send(()).unwrap();
    serving.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
