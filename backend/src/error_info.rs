//! The error body of every API that the backend serves (QoD 0.9.0: `ErrorInfo`).

use std::borrow::Cow;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::json::Invalid;
use crate::secret::NoRandomness;
use crate::store::StoreError;

/// An error as the caller sees it. Only the code and the message leave the process; what an operator needs
/// beyond that is logged where it happens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status} {code}: {message}")]
pub struct ErrorInfo {
    /// HTTP status.
    pub status: StatusCode,
    /// Code, as `INVALID_INPUT`.
    pub code: &'static str,
    /// Sentence for a human.
    pub message: Cow<'static, str>,
    /// When it is worth trying again, in seconds. Absent: of a 503, after one.
    pub retry_after: Option<i64>,
}

impl ErrorInfo {
    /// 400: the request itself is wrong.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_INPUT", message)
    }

    /// 401, which says nothing about what was wrong with the credential.
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "UNAUTHORIZED",
            "No authorization to invoke operation",
        )
    }

    /// 403.
    pub fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", "Operation not allowed")
    }

    /// 403, which says why.
    pub fn not_allowed(why: &str) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "FORBIDDEN",
            format!("Operation not allowed: {why}"),
        )
    }

    /// 429, the code as CAMARA's later releases have it: it is worth trying again in `wait_ms`.
    pub fn too_many_requests(message: impl Into<Cow<'static, str>>, wait_ms: i64) -> Self {
        Self {
            retry_after: Some((wait_ms.max(1) + 999) / 1_000),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS", message)
        }
    }

    /// 404.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    /// 409.
    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, "CONFLICT", message)
    }

    /// 501: this version, or this home, does not serve what was asked for.
    pub fn not_implemented(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "NOT_IMPLEMENTED", message)
    }

    /// 500.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", message)
    }

    /// 503.
    pub fn unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "SERVICE_UNAVAILABLE",
            "Service unavailable",
        )
    }

    /// Any status.
    pub fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The answer to a bare HTTP error that a layer below the handlers gave.
    pub fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::unauthorized(),
            StatusCode::FORBIDDEN => Self::forbidden(),
            StatusCode::NOT_FOUND => Self::not_found("There is nothing at this path"),
            StatusCode::METHOD_NOT_ALLOWED => Self::new(
                status,
                "METHOD_NOT_ALLOWED",
                "This path does not serve this method",
            ),
            StatusCode::REQUEST_TIMEOUT => Self::new(
                status,
                "REQUEST_TIMEOUT",
                "The request's body did not arrive in time",
            ),
            StatusCode::PAYLOAD_TOO_LARGE => Self::new(
                status,
                "PAYLOAD_TOO_LARGE",
                "The request's body is too large",
            ),
            status if status.is_server_error() => Self::internal("Internal server error"),
            status => Self::new(
                status,
                "INVALID_INPUT",
                status.canonical_reason().unwrap_or("Invalid request"),
            ),
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    status: u16,
    code: &'a str,
    message: &'a str,
}

impl IntoResponse for ErrorInfo {
    fn into_response(self) -> Response {
        let body = Json(Body {
            status: self.status.as_u16(),
            code: self.code,
            message: &self.message,
        });
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let is_unavailable = self.status == StatusCode::SERVICE_UNAVAILABLE;
        if let Some(seconds) = self.retry_after.or(is_unavailable.then_some(1)) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Invalid> for ErrorInfo {
    fn from(invalid: Invalid) -> Self {
        Self::invalid(format!("Schema validation failed at {invalid}"))
    }
}

impl From<StoreError> for ErrorInfo {
    fn from(error: StoreError) -> Self {
        if error.is_unavailability() {
            tracing::warn!(%error, "the store is unavailable");
            Self::unavailable()
        } else {
            tracing::error!(%error, "the store failed");
            Self::internal("Internal server error")
        }
    }
}

impl From<NoRandomness> for ErrorInfo {
    fn from(error: NoRandomness) -> Self {
        tracing::error!(%error, "no randomness");
        Self::unavailable()
    }
}
