//! Who may call. Keys are random and long, so a plain SHA-256 of them is enough and cannot be turned around.

use crate::app::App;
use crate::config::ApiKey;
use crate::problem::Problem;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use lungai_trace::implements;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Name of the caller in the audit trail.
#[derive(Debug, Clone)]
pub(crate) struct Actor(pub String);

/// Lets a request pass that carries a configured key; without any keys (loopback only) every request of this machine.
#[implements("SR-002", "SW-901")]
pub(crate) async fn require_key(State(app): State<App>, mut request: Request, next: Next) -> Result<Response, Problem> {
    let keys = &app.config.api_keys;
    let actor = if keys.is_empty() {
        same_origin(request.headers())?;
        "local".to_owned()
    } else {
        key_name(keys, request.headers()).ok_or_else(|| {
            Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "a configured key is needed: Authorization: Bearer")
        })?
    };
    request.extensions_mut().insert(Actor(actor));
    Ok(next.run(request).await)
}

fn key_name(keys: &[ApiKey], headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let hash = crate::intake::hex(&Sha256::digest(key.trim().as_bytes()));
    let mut name = None;
    // All of them, so that the time says nothing about which one came close.
    for candidate in keys {
        if bool::from(candidate.sha256.to_ascii_lowercase().as_bytes().ct_eq(hash.as_bytes())) {
            name = Some(candidate.name.clone());
        }
    }
    name
}

/// Where the loopback address is the only guard, a page from elsewhere in this machine's browser must not get past it:
/// neither by a form it posts (its origin differs) nor by a host name it lets point here (the name differs).
fn same_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    let host = text(header::HOST).unwrap_or("localhost");
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let local = name == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let foreign = match text(header::ORIGIN) {
        None => false,
        Some(origin) => origin.split_once("://").is_none_or(|(_, authority)| authority != host),
    };
    if local && !foreign {
        return Ok(());
    }
    let detail = "without api_keys the service answers this machine only, under a loopback name";
    Err(Problem::new(StatusCode::FORBIDDEN, "foreign-origin", detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use lungai_trace::verifies;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().unwrap(), HeaderValue::from_static(v))).collect()
    }

    #[verifies("SR-002", "SW-901")]
    #[test]
    fn only_the_right_key_has_a_name() {
        // printf %s secret | sha256sum
        let sha256 = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b".to_owned();
        let keys = [
            ApiKey { name: "other".into(), sha256: "0".repeat(64) },
            ApiKey { name: "pacs".into(), sha256: sha256.to_uppercase() },
        ];
        let name = |value| key_name(&keys, &headers(&[("authorization", value)]));
        assert_eq!(name("Bearer secret").as_deref(), Some("pacs"));
        assert_eq!(name("bearer secret").as_deref(), Some("pacs"));
        for wrong in ["Bearer Secret", "Bearer ", "Bearer", "Basic secret", "secret"] {
            assert_eq!(name(wrong), None, "{wrong}");
        }
        assert_eq!(key_name(&keys, &headers(&[])), None);
    }

    #[verifies("SR-002")]
    #[test]
    fn pages_from_elsewhere_do_not_reach_an_open_loopback_service() {
        for good in [
            &[("host", "127.0.0.1:8080")][..],
            &[("host", "localhost")],
            &[("host", "[::1]:8080"), ("origin", "http://[::1]:8080")],
        ] {
            assert!(same_origin(&headers(good)).is_ok(), "{good:?}");
        }
        for bad in [
            &[("host", "127.0.0.1:8080"), ("origin", "https://evil.example")][..],
            &[("host", "127.0.0.1:8080"), ("origin", "null")],
            &[("host", "rebound.example:8080")],
        ] {
            assert!(same_origin(&headers(bad)).is_err(), "{bad:?}");
        }
    }
}
