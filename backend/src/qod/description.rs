//! `GET /openapi.yaml`: the served description of this API.

use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::secret;

/// What is served under `/qod/v0`, as OpenAPI 3.0.3.
pub const OPENAPI: &str = include_str!("openapi.yaml");

/// It changes with the program only, so its digest names it.
static TAG: LazyLock<String> = LazyLock::new(|| format!("\"{}\"", secret::hash(OPENAPI)));

/// Answers everybody: it tells nothing about homes or consumers.
pub async fn get(headers: HeaderMap) -> Response {
    let caching: [(HeaderName, &str); 2] = [
        (header::ETAG, TAG.as_str()),
        (header::CACHE_CONTROL, "public, max-age=300"),
    ];
    if is_known(&headers) {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    let content_type = [(header::CONTENT_TYPE, "application/yaml")];
    (content_type, caching, OPENAPI).into_response()
}

/// Whether the request's `If-None-Match` (RFC 9110 §13.1.2) names the description.
fn is_known(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == *TAG)
}
