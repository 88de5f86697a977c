//! OAuth 2.0: the token endpoint, the published keys, and who a caller is.

//!
//! ```text
//! Caller ── verify ──┬── issuer   embedded: keys of the store (signing_key, rotation)
//!             │      └── outside  keys fetched from elsewhere
//!             ├── jwt, jwk        tokens and public keys as they are written
//!             └── remembered      what was verified a moment ago
//! ```

pub mod client_secret;
mod consumers;
mod issuer;
mod jwk;
mod jwt;
mod key_ring;
mod outside;
mod remembered;
mod rotation;
mod signing_key;
mod token;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;

pub use client_secret::ChosenSecrets;
pub use consumers::Consumers;
pub use issuer::{Issuer, IssuerError};
pub use token::{MOST_GUESSED, issue};
pub use verify::{Authority, AuthorityError, VerifyError};

use crate::access;
use crate::error_info::ErrorInfo;
use crate::server::App;
use crate::store::Caps;

/// How often it is looked whether keys are due.
const TICK: Duration = Duration::from_secs(1);

/// Who calls, as the token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The consumer.
    pub client_id: String,
    /// The user who agreed. Absent: the consumer calls on its own behalf (client credentials).
    pub sub: Option<String>,
    /// How many sessions it may have.
    pub caps: Caps,
    scopes: Vec<String>,
}

impl Caller {
    /// Reads the bearer token of a request, and counts the request.
    ///
    /// A consumer that only an outside issuer knows has what its token says. One that is has of that what it is provisioned
    /// with, so that a scope that is taken away is gone at once and not when the last token ends.
    ///
    /// # Errors
    /// 401 without a valid token, 503 if that could not be found out, 429 if the consumer asks too often.
    pub async fn of(app: &App, headers: &HeaderMap) -> Result<Self, ErrorInfo> {
        let token = bearer(headers).ok_or_else(ErrorInfo::unauthorized)?;
        let claims = app.authority.verify(token).await?;
        let claims = claims.ok_or_else(ErrorInfo::unauthorized)?;
        let consumer = app.consumers.get(&claims.client_id).await?;
        if consumer.is_none() && app.authority.embedded().is_ok() {
            // It was removed, and so are its tokens.
            return Err(ErrorInfo::unauthorized());
        }
        app.consumers.count(&claims.client_id, &consumer)?;
        let may = |scope: &&String| {
            consumer
                .as_ref()
                .is_none_or(|consumer| consumer.scopes.contains(scope))
        };
        access::note_consumer(&claims.client_id);
        Ok(Self {
            // RFC 9068 §2.2: of a token without a user the subject is the client.
            sub: claims
                .subject
                .clone()
                .filter(|sub| *sub != claims.client_id),
            caps: app.consumers.caps(&consumer),
            scopes: claims.scopes.iter().filter(may).cloned().collect(),
            client_id: claims.client_id.clone(),
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

/// `GET /.well-known/jwks.json`: 501 where an outside issuer's tokens count.
pub async fn key_set(State(app): State<Arc<App>>) -> Result<impl IntoResponse, ErrorInfo> {
    // Much shorter than a new key is announced before it signs.
    let kept = [(header::CACHE_CONTROL, "public, max-age=300")];
    Ok((kept, Json(app.authority.embedded()?.key_set())))
}

/// Keeps the keys up to date until the process ends.
pub async fn follow(app: Arc<App>) {
    let mut draining = app.draining.subscribe();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = draining.wait_for(|draining| *draining) => return,
            _ = tick.tick() => (),
        }
        app.authority.refresh().await;
    }
}
