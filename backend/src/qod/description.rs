//! `GET /qod/v0/openapi.yaml`: what is served here, for programs.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::{entity_tag, secret};

/// The description, of `OpenAPI` 3.0.3.
pub const DESCRIPTION: &str = include_str!("openapi.yaml");

/// How long a copy may be used unasked.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=3600");

/// Answers with the description, which needs no token.
pub async fn get(headers: HeaderMap) -> Response {
    // The same text has the same tag in every process and after every restart.
    let hash: String = secret::hash(DESCRIPTION).chars().take(32).collect();
    let Ok(tag) = HeaderValue::from_str(&format!("\"{hash}\"")) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let known = entity_tag::is_known(&headers, &hash);
    let common: [(HeaderName, HeaderValue); 2] =
        [(header::ETAG, tag), (header::CACHE_CONTROL, CACHE)];
    if known {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    let yaml = [(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/yaml"),
    )];
    (common, yaml, DESCRIPTION).into_response()
}
