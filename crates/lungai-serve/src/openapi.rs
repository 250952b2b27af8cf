//! The machine-readable description of the API, made from the handlers themselves.

use axum::Json;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "LungAI",
        description = "Analysis of chest CT for lung nodules. Not cleared for clinical use. Errors are problem details (RFC 9457) with a stable `code`; patient and study identifiers occur in results only.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        crate::routes::analyze_ct,
        crate::routes::batch_analyze,
        crate::routes::analysis,
        crate::routes::health,
        crate::routes::livez,
        crate::routes::readyz,
        crate::routes::metrics,
        document,
    ),
    components(schemas(crate::wire::AnalysisResult)),
    modifiers(&Key)
)]
struct Document;

struct Key;

impl Modify for Key {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("api_key", scheme);
    }
}

/// This document
#[utoipa::path(
    get, path = "/api/v1/openapi.json", tag = "operation", operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1", body = Object))
)]
#[lungai_trace::implements("SW-1002")]
pub(crate) async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}
