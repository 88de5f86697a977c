//! `GET /openapi.yaml`: the served description of this API.

use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::{entity_tag, secret};

/// What is served under `/qod/v0`, as `OpenAPI` 3.0.3.
pub const OPENAPI: &str = include_str!("openapi.yaml");

/// It changes with the program only, so its digest names it: as a tag, and in quotes.
static TAG: LazyLock<(String, String)> = LazyLock::new(|| {
    let digest = secret::hash(OPENAPI);
    let quoted = format!("\"{digest}\"");
    (digest, quoted)
});

/// Answers everybody: it tells nothing about homes or consumers.
pub async fn get(headers: HeaderMap) -> Response {
    let (tag, quoted) = &*TAG;
    let caching: [(HeaderName, &str); 2] = [
        (header::ETAG, quoted),
        (header::CACHE_CONTROL, "public, max-age=300"),
    ];
    if entity_tag::known(&headers).any(|known| known == tag || known == "*") {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    let content_type = [(header::CONTENT_TYPE, "application/yaml")];
    (content_type, caching, OPENAPI).into_response()
}
