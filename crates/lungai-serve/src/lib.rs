//! The service that is shipped: HTTP around the one inference path.
//!
//! A study is received, stored and acknowledged; workers analyse it in the background; the client asks for the result.
//! This crate refuses to trust anything a client names (files, ids, lengths), to show internals or patient data in
//! errors, logs, metrics or URLs, and to accept a study it could lose. It has no opinion on images: what an analysis
//! is comes in as [`analyse::Engine`].

pub mod analyse;
mod app;
mod auth;
pub mod config;
pub mod engine;
pub mod intake;
pub mod logging;
pub mod metrics;
mod observe;
mod openapi;
mod problem;
mod routes;
mod server;
pub mod store;
pub mod wire;
mod worker;

pub use app::{App, Shared, StartError};
pub use config::Config;
pub use server::serve;
pub use worker::Workers;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

/// Every route of the service. Tests call it without a port.
pub fn app(app: App) -> Router {
    let upload_bytes = usize::try_from(app.config.limits.upload_bytes).unwrap_or(usize::MAX);
    let guarded = Router::new()
        .route("/api/v1/analyze_ct", post(routes::analyze_ct).layer(DefaultBodyLimit::max(upload_bytes)))
        .route("/api/v1/batch_analyze", post(routes::batch_analyze).layer(DefaultBodyLimit::max(64 * 1024)))
        .route("/api/v1/analyses/{id}", get(routes::analysis))
        .route("/metrics", get(routes::metrics))
        .layer(from_fn_with_state(app.clone(), auth::require_key));
    // What an orchestrator or a new client asks before it has a key; none of it is about a study.
    let open = Router::new()
        .route("/api/v1/health", get(routes::health))
        .route("/api/v1/openapi.json", get(openapi::document))
        .route("/livez", get(routes::livez))
        .route("/readyz", get(routes::readyz));
    guarded
        .merge(open)
        .fallback(|| async { StatusCode::NOT_FOUND })
        .layer(from_fn_with_state(app.clone(), observe::observe))
        .with_state(app)
}
