//! Around every request: an id, one log line, a time limit, headers that harden, and errors in one shape.
//!
//! Logged are the route's pattern, never the path (a client may have put a patient into it), and no header.

use crate::app::App;
use crate::problem::{PROBLEM_JSON, Problem};
use crate::store::random_id;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use lungai_trace::implements;
use std::time::{Duration, Instant};
use tracing::Instrument;

const HARDENING: [(HeaderName, HeaderValue); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

#[implements("SR-003", "SW-903")]
pub(crate) async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let request_id = random_id();
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned();
    let seconds = match route.as_str() {
        // The upload has its own limit inside; this one only catches what hangs around it.
        "/api/v1/analyze_ct" => app.config.seconds.upload + app.config.seconds.request,
        _ => app.config.seconds.request,
    };
    let span = tracing::info_span!("request", request_id, method = method(&request), route);
    async move {
        let answer = tokio::time::timeout(Duration::from_secs(seconds), next.run(request)).await;
        let mut response = match answer {
            Ok(response) => as_problem(response),
            Err(_) => Problem::of_status(StatusCode::REQUEST_TIMEOUT).into_response(),
        };
        let milliseconds = begun.elapsed().as_millis() as u64;
        tracing::info!(status = response.status().as_u16(), milliseconds, "answered");
        response.headers_mut().extend(HARDENING);
        if let Ok(id) = HeaderValue::from_str(&request_id) {
            response.headers_mut().insert("x-request-id", id);
        }
        response
    }
    .instrument(span)
    .await
}

/// Methods are free text in HTTP, too.
fn method(request: &Request) -> &'static str {
    match request.method().as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// Errors of the framework have no body, or one that repeats what the client sent.
fn as_problem(response: Response) -> Response {
    let status = response.status();
    let documented = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM_JSON);
    if documented || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let mut problem = Problem::of_status(status).into_response();
    if let Some(allow) = response.headers().get(header::ALLOW) {
        problem.headers_mut().insert(header::ALLOW, allow.clone());
    }
    problem
}
