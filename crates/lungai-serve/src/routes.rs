//! The handlers. Each checks, stores and answers; the work is done elsewhere.

use crate::analyse::Networks;
use crate::app::{App, Phase};
use crate::auth::Actor;
use crate::intake::{Intake, IntakeError, Packing, Received, hex};
use crate::problem::{Problem, ProblemBody};
use crate::store::{NewStudy, Order, Placed, random_id};
use crate::wire::{Accepted, AnalysisReply, Batch, BatchAccepted, Health};
use crate::worker::now;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, FromRequest, Multipart, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lungai_trace::implements;
use sha2::{Digest, Sha256};
use std::time::Duration;

/// Studies of one batch request.
const BATCH: std::ops::RangeInclusive<usize> = 1..=100;

/// Send a CT study for analysis
///
/// The files of one study: as multipart parts named `files` (a part may be a zip archive), or as one zip or tar
/// archive. The largest series is analysed.
#[utoipa::path(
    post, path = "/api/v1/analyze_ct", tag = "analysis", operation_id = "analyze_ct",
    security((), ("api_key" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters. The same key with the same files gives the first answer again.")),
    request_body(description = "The study", content(
        (Upload = "multipart/form-data"), (Vec<u8> = "application/zip"), (Vec<u8> = "application/x-tar")
    )),
    responses(
        (status = 202, description = "Accepted; `Location` is where the result will be", body = Accepted, headers(("Location" = String, description = "Path of the analysis"))),
        (status = 400, description = "Malformed multipart, damaged archive, no file, or a bad Idempotency-Key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "From another origin", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "The upload stalled or took too long", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "Too many bytes or files, as sent or unpacked", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "Not one of the three media types", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The Idempotency-Key belongs to another request", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "Too many uploads at this moment", body = ProblemBody, content_type = "application/problem+json", headers(("Retry-After" = u32, description = "Seconds"))),
        (status = 500, description = "The service could not store the study", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Starting, stopping, or the queue is full", body = ProblemBody, content_type = "application/problem+json", headers(("Retry-After" = u32, description = "Seconds"))),
    )
)]
#[implements("IR-002", "PR-002", "SW-803")]
pub(crate) async fn analyze_ct(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    request: Request,
) -> Result<Response, Problem> {
    let key = idempotency_key(request.headers())?;
    let packing = packing(request.headers())?;
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > app.config.limits.upload_bytes) {
        return Err(IntakeError::TooLarge { limit: app.config.limits.upload_bytes }.into());
    }
    accepting(&app)?;
    let _turn = app.uploads.clone().try_acquire_owned().map_err(|_| {
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-uploads", "too many uploads at this moment")
            .retry_after(5)
    })?;
    // Looked at before the upload, to save it, and again with the database's word when the job is placed.
    if app.store.depth().await.map_err(Problem::internal)?.queued >= app.config.limits.queue {
        return Err(queue_full());
    }
    let id = random_id();
    let limit = Duration::from_secs(app.config.seconds.upload);
    let received = tokio::time::timeout(limit, receive(&app, &id, packing, request)).await.map_err(|_| stalled())??;
    let study =
        NewStudy { id: id.clone(), files: received.files, bytes: received.bytes, sha256: received.sha256.clone() };
    let order = Order {
        new_study: Some(&study),
        jobs: &[(id, None)],
        actor: &actor.0,
        idempotency: key.as_deref().map(|key| (key, study.sha256.as_str())),
        queue_limit: app.config.limits.queue,
    };
    let ids = match app.store.place(order).await.map_err(Problem::internal)? {
        Placed::New(ids) => {
            received.keep();
            ids
        }
        other => already_placed(other)?,
    };
    app.new_job.notify_waiters();
    let mut accepted = accepted(&app, ids).await?;
    let accepted = accepted.pop().ok_or_else(|| Problem::internal("an order without jobs"))?;
    let location = format!("/api/v1/analyses/{}", accepted.analysis_id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(accepted)).into_response())
}

/// Analyse studies again that were received before
///
/// By the UIDs that a result carries, as long as the images are kept. All of them are accepted, or none.
#[utoipa::path(
    post, path = "/api/v1/batch_analyze", tag = "analysis", operation_id = "batch_analyze",
    security((), ("api_key" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "As for analyze_ct")),
    request_body = Batch,
    responses(
        (status = 202, description = "Accepted", body = BatchAccepted),
        (status = 400, description = "Not JSON, or a bad Idempotency-Key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "From another origin", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "A study or series is not here", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "The request took too long", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "More than 64 KiB", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "Not application/json", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Not this shape, not 1 to 100 studies, or the key of another request", body = ProblemBody, content_type = "application/problem+json"),
        (status = 500, description = "The database failed", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Starting, stopping, or the queue is full", body = ProblemBody, content_type = "application/problem+json", headers(("Retry-After" = u32, description = "Seconds"))),
    )
)]
#[implements("IR-002")]
pub(crate) async fn batch_analyze(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    batch: Result<Json<Batch>, JsonRejection>,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers)?;
    let Json(batch) = batch.map_err(|rejection| Problem::of_status(rejection.status()))?;
    if !BATCH.contains(&batch.studies.len()) {
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "batch-size", "a batch holds 1 to 100 studies"));
    }
    accepting(&app)?;
    let mut jobs = Vec::new();
    let mut digest = Sha256::new();
    for (i, study) in batch.studies.into_iter().enumerate() {
        let found = app.store.find_study(&study.study_id, study.series_id.as_deref()).await;
        let Some(folder) = found.map_err(Problem::internal)? else {
            // By its place, not by its UID.
            let detail = format!("entry {i} of the batch: no such study or series is kept here");
            return Err(Problem::new(StatusCode::NOT_FOUND, "unknown-study", detail));
        };
        for field in [Some(&study.study_id), study.series_id.as_ref()] {
            digest.update(field.map_or(u64::MAX, |text| text.len() as u64).to_le_bytes());
            digest.update(field.map_or("", String::as_str));
        }
        jobs.push((folder, study.series_id));
    }
    let request = hex(&digest.finalize());
    let order = Order {
        new_study: None,
        jobs: &jobs,
        actor: &actor.0,
        idempotency: key.as_deref().map(|key| (key, request.as_str())),
        queue_limit: app.config.limits.queue,
    };
    let ids = match app.store.place(order).await.map_err(Problem::internal)? {
        Placed::New(ids) => ids,
        other => already_placed(other)?,
    };
    app.new_job.notify_waiters();
    let analyses = accepted(&app, ids).await?;
    Ok((StatusCode::ACCEPTED, Json(BatchAccepted { analyses })).into_response())
}

/// State and result of an analysis
#[utoipa::path(
    get, path = "/api/v1/analyses/{id}", tag = "analysis", operation_id = "analysis",
    security((), ("api_key" = [])),
    params(("id" = String, Path, description = "`analysis_id` of the answer that accepted it")),
    responses(
        (status = 200, description = "State, and the result where there is one", body = AnalysisReply),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 400, description = "The id is not text", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "From another origin", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such analysis", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "The request took too long", body = ProblemBody, content_type = "application/problem+json"),
        (status = 500, description = "The database failed", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
#[implements("IR-002", "SW-1001")]
pub(crate) async fn analysis(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
) -> Result<Json<AnalysisReply>, Problem> {
    let job = app.store.job(&id).await.map_err(Problem::internal)?;
    let job =
        job.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "unknown-analysis", "there is no analysis of this id"))?;
    let result = job.result.as_deref().map(serde_json::from_str).transpose().map_err(Problem::internal)?;
    let error = job.error.as_deref().map(serde_json::from_str).transpose().map_err(Problem::internal)?;
    if result.is_some() {
        app.store.audit(&actor.0, "read-result", &id).await.map_err(Problem::internal)?;
    }
    Ok(Json(AnalysisReply { analysis_id: id, status: job.state, result, error }))
}

/// State of the service
#[utoipa::path(
    get, path = "/api/v1/health", tag = "operation", operation_id = "health",
    responses(
        (status = 200, description = "The service answers; `status` says in which state", body = Health),
        (status = 408, description = "The request took too long", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
#[implements("IR-002")]
pub(crate) async fn health(State(app): State<App>) -> Json<Health> {
    let engine = app.engine.get();
    let status = match (app.store.ping().await, engine, *app.phase.borrow()) {
        (Err(_), ..) => "failing",
        (_, _, phase) if phase != Phase::Running => "stopping",
        (_, None, _) => "starting",
        _ => "ok",
    };
    Json(Health {
        status,
        models_loaded: engine.map_or_else(Networks::default, |engine| engine.networks),
        device: engine.map_or_else(|| "none".into(), |engine| engine.device.clone()),
        timestamp: now(),
    })
}

/// Whether the process lives
#[utoipa::path(
    get, path = "/livez", tag = "operation", operation_id = "livez",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain"))
)]
pub(crate) async fn livez() -> &'static str {
    "ok\n"
}

/// Whether studies are accepted: model verified, database reachable, not stopping
#[utoipa::path(
    get, path = "/readyz", tag = "operation", operation_id = "readyz",
    responses(
        (status = 200, description = "They are", body = String, content_type = "text/plain"),
        (status = 408, description = "The request took too long", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "They are not", body = ProblemBody, content_type = "application/problem+json", headers(("Retry-After" = u32, description = "Seconds"))),
    )
)]
pub(crate) async fn readyz(State(app): State<App>) -> Result<&'static str, Problem> {
    accepting(&app)?;
    app.store.ping().await.map_err(|error| {
        tracing::error!(%error, "the database does not answer");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "database", "the database does not answer").retry_after(10)
    })?;
    Ok("ok\n")
}

/// Figures for Prometheus
#[utoipa::path(
    get, path = "/metrics", tag = "operation", operation_id = "metrics",
    security((), ("api_key" = [])),
    responses(
        (status = 200, description = "Text exposition format", body = String, content_type = "text/plain; version=0.0.4"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "From another origin", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "The request took too long", body = ProblemBody, content_type = "application/problem+json"),
        (status = 500, description = "The database failed", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let depth = app.store.depth().await.map_err(Problem::internal)?;
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"))];
    Ok((kind, app.metrics.render(depth)).into_response())
}

/// What the multipart form looks like.
#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "documentation: the form is read as a stream")]
pub(crate) struct Upload {
    /// One part per file, named `files` or `files[]`.
    #[schema(value_type = Vec<String>, format = Binary, min_items = 1)]
    files: Vec<Bytes>,
}

async fn receive(app: &App, id: &str, packing: Packing, request: Request) -> Result<Received, Problem> {
    let intake = Intake::start(app.study_folder(id), packing, app.config.limits);
    let stall = app.config.seconds.stall();
    let sent = match packing {
        Packing::Files => send_parts(&intake, request, stall).await,
        Packing::Zip | Packing::Tar => send_body(&intake, request.into_body(), stall).await,
    };
    match sent {
        Ok(()) => Ok(intake.finish().await?),
        Err(Stopped::ByWriter) => match intake.finish().await {
            Err(error) => Err(error.into()),
            Ok(_) => Err(Problem::internal("the writer stopped without a reason")),
        },
        // Dropping the intake tells the writer, which removes what it has.
        Err(Stopped::ByClient(problem)) => Err(problem),
    }
}

enum Stopped {
    ByWriter,
    ByClient(Problem),
}

async fn send_parts(intake: &Intake, request: Request, stall: Duration) -> Result<(), Stopped> {
    let malformed = |error: axum::extract::multipart::MultipartError| {
        Stopped::ByClient(match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Problem::of_status(StatusCode::PAYLOAD_TOO_LARGE),
            _ => bad_request("malformed-multipart", "the body is not the multipart form its header announces"),
        })
    };
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|_| Stopped::ByClient(bad_request("malformed-multipart", "the header names no boundary")))?;
    loop {
        let field = tokio::time::timeout(stall, form.next_field()).await.map_err(|_| Stopped::ByClient(stalled()))?;
        let Some(mut field) = field.map_err(malformed)? else { return Ok(()) };
        if !matches!(field.name(), Some("files" | "files[]")) {
            let detail = "files come in parts named `files`; ids are taken from the images, not from the form";
            return Err(Stopped::ByClient(bad_request("unexpected-part", detail)));
        }
        if !intake.new_file().await {
            return Err(Stopped::ByWriter);
        }
        loop {
            let chunk = tokio::time::timeout(stall, field.chunk()).await.map_err(|_| Stopped::ByClient(stalled()))?;
            let Some(chunk) = chunk.map_err(malformed)? else { break };
            if !intake.data(chunk).await {
                return Err(Stopped::ByWriter);
            }
        }
    }
}

async fn send_body(intake: &Intake, body: Body, stall: Duration) -> Result<(), Stopped> {
    use http_body_util::BodyExt;
    let mut body = body;
    if !intake.new_file().await {
        return Err(Stopped::ByWriter);
    }
    loop {
        let frame = tokio::time::timeout(stall, body.frame()).await.map_err(|_| Stopped::ByClient(stalled()))?;
        let Some(frame) = frame else { return Ok(()) };
        let frame =
            frame.map_err(|_| Stopped::ByClient(bad_request("incomplete-upload", "the body ended before its end")))?;
        if let Ok(data) = frame.into_data()
            && !intake.data(data).await
        {
            return Err(Stopped::ByWriter);
        }
    }
}

fn packing(headers: &HeaderMap) -> Result<Packing, Problem> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "multipart/form-data" => Ok(Packing::Files),
        "application/zip" => Ok(Packing::Zip),
        "application/x-tar" => Ok(Packing::Tar),
        _ => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "a study comes as multipart/form-data, application/zip or application/x-tar",
        )),
    }
}

/// The key as a hash: nobody can know what a client puts into it.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let bytes = value.as_bytes();
    if !(1..=255).contains(&bytes.len()) || !bytes.iter().all(u8::is_ascii_graphic) {
        return Err(bad_request("idempotency-key", "an Idempotency-Key has 1 to 255 visible ASCII characters"));
    }
    Ok(Some(hex(&Sha256::digest(bytes))))
}

fn accepting(app: &App) -> Result<(), Problem> {
    let refuse = |code, detail| Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(10));
    if *app.phase.borrow() != Phase::Running {
        return refuse("stopping", "the service is stopping");
    }
    if app.engine.get().is_none() {
        return refuse("starting", "the model is being loaded and verified");
    }
    Ok(())
}

fn already_placed(placed: Placed) -> Result<Vec<String>, Problem> {
    match placed {
        Placed::New(ids) | Placed::Before(ids) => Ok(ids),
        Placed::KeyReused => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency-key-reused",
            "this Idempotency-Key came with another request before",
        )),
        Placed::QueueFull => Err(queue_full()),
    }
}

async fn accepted(app: &App, ids: Vec<String>) -> Result<Vec<Accepted>, Problem> {
    let mut accepted = Vec::new();
    for analysis_id in ids {
        let job = app.store.job(&analysis_id).await.map_err(Problem::internal)?;
        let status = job.ok_or_else(|| Problem::internal("an accepted job is not there"))?.state;
        accepted.push(Accepted { analysis_id, status });
    }
    Ok(accepted)
}

fn bad_request(code: &'static str, detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, code, detail)
}

fn queue_full() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "queue-full", "too many analyses are waiting").retry_after(30)
}

fn stalled() -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the upload stalled or took too long")
}

impl From<IntakeError> for Problem {
    fn from(error: IntakeError) -> Self {
        let (status, code) = match &error {
            IntakeError::NoFiles => (StatusCode::BAD_REQUEST, "no-files"),
            IntakeError::TooManyFiles { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too-many-files"),
            IntakeError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large"),
            IntakeError::UnpackedTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "unpacked-too-large"),
            IntakeError::Ratio { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "compression-ratio"),
            IntakeError::BadArchive { .. } => (StatusCode::BAD_REQUEST, "bad-archive"),
            IntakeError::NotAFile => (StatusCode::BAD_REQUEST, "not-a-file"),
            IntakeError::Incomplete => (StatusCode::BAD_REQUEST, "incomplete-upload"),
            IntakeError::Disk(cause) => return Problem::internal(cause),
        };
        Problem::new(status, code, error.to_string())
    }
}
