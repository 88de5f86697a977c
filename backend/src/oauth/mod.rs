//! OAuth 2.0: the token endpoint, the published keys, and who a caller is.

mod issuer;
mod jwt;
mod token;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use serde_json::Value;

pub use issuer::{Issuer, IssuerError};
pub use token::issue;

use crate::error_info::ErrorInfo;
use crate::server::App;

/// Who calls, as the token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The consumer.
    pub client_id: String,
    /// The user who agreed. Absent: the consumer calls on its own behalf (client credentials).
    pub sub: Option<String>,
    scopes: Vec<String>,
}

impl Caller {
    /// Reads the bearer token of a request.
    ///
    /// # Errors
    /// 401 without a valid token, 503 if that could not be found out.
    pub async fn of(app: &App, headers: &HeaderMap) -> Result<Self, ErrorInfo> {
        let token = bearer(headers).ok_or_else(ErrorInfo::unauthorized)?;
        let claims = match app.issuer.verify(token).await {
            Ok(claims) => claims.ok_or_else(ErrorInfo::unauthorized)?,
            Err(IssuerError::Store(error)) => return Err(error.into()),
            Err(error) => {
                tracing::error!(%error, "a token could not be verified");
                return Err(ErrorInfo::unavailable());
            }
        };
        if app.store.consumer(&claims.client_id).await?.is_none() {
            // It was removed, and so are its tokens.
            return Err(ErrorInfo::unauthorized());
        }
        Ok(Self {
            // RFC 9068 §2.2: of a token without a user the subject is the client.
            sub: (claims.sub != claims.client_id).then_some(claims.sub),
            client_id: claims.client_id,
            scopes: claims.scope.split_whitespace().map(str::to_owned).collect(),
        })
    }

    /// The same, and the token carries `scope`.
    ///
    /// # Errors
    /// As [`Caller::of`]; 403 without the scope.
    pub async fn with_scope(
        app: &App,
        headers: &HeaderMap,
        scope: &str,
    ) -> Result<Self, ErrorInfo> {
        let caller = Self::of(app, headers).await?;
        if caller.scopes.iter().any(|granted| granted == scope) {
            Ok(caller)
        } else {
            Err(ErrorInfo::forbidden())
        }
    }
}

/// The token of an `Authorization: Bearer` header (RFC 6750 §2.1).
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (scheme, token) = values.next()?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    // Two of them would leave it to chance which one counts.
    (values.next().is_none() && scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
        .then_some(token)
}

/// Whether `text` is a scope (RFC 6749 §3.3).
pub fn is_scope(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
}

/// `GET /.well-known/jwks.json`.
pub async fn key_set(State(app): State<Arc<App>>) -> Json<Value> {
    Json(app.issuer.key_set())
}
