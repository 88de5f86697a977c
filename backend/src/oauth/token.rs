//! `POST /oauth2/token`: the client credentials grant (RFC 6749 §4.4).

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::client_secret::is_chosen;
use super::issuer::LIFETIME_SECONDS;
use crate::error_info::ErrorInfo;
use crate::form::{decode, parse};
use crate::rate::Rate;
use crate::secret;
use crate::server::{App, read_body};

/// Longest request, in bytes.
const LONGEST: usize = 16 * 1024;
/// Wrong secrets that a client may show: ten at once, then one every six seconds.
const WRONG_SECRETS: Rate = Rate {
    interval_us: 6_000_000,
    burst: 10,
};
/// Clients whose wrong secrets are counted at once.
pub const MOST_GUESSED: usize = 10_000;

/// An error of the token endpoint (RFC 6749 §5.2).
#[derive(Debug, PartialEq, Eq)]
enum TokenError {
    InvalidRequest(&'static str),
    InvalidClient,
    UnsupportedGrantType,
    InvalidScope,
    /// Not of the protocol: the store failed, or the body is too large.
    Other(ErrorInfo),
}

impl From<ErrorInfo> for TokenError {
    fn from(error: ErrorInfo) -> Self {
        Self::Other(error)
    }
}

impl IntoResponse for TokenError {
    fn into_response(self) -> Response {
        let (status, error, description) = match self {
            Self::InvalidRequest(what) => (StatusCode::BAD_REQUEST, "invalid_request", what),
            Self::InvalidClient => (
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                "client authentication failed",
            ),
            Self::UnsupportedGrantType => (
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                "grant_type must be client_credentials",
            ),
            Self::InvalidScope => (
                StatusCode::BAD_REQUEST,
                "invalid_scope",
                "the scope is malformed, or exceeds what this client may ask for",
            ),
            Self::Other(error) => return error.into_response(),
        };
        let mut response = (
            status,
            Json(json!({"error": error, "error_description": description})),
        )
            .into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"qod-backend\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        not_stored(response)
    }
}

/// Answers `POST /oauth2/token`.
pub async fn issue(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Response {
    match grant(&app, &headers, body).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn grant(app: &App, headers: &HeaderMap, body: Body) -> Result<Response, TokenError> {
    let issuer = app.authority.embedded()?;
    let body = read_body(body, LONGEST).await?;
    let form = Form::read(headers, &body)?;
    let (client_id, client_secret) = form.credentials(headers)?;
    if !qod_wire::is_agent_id(&client_id) {
        // No consumer is called so, and PostgreSQL fails on a NUL.
        return Err(TokenError::InvalidClient);
    }
    let consumer = app
        .store
        .consumer(&client_id)
        .await
        .map_err(ErrorInfo::from)?
        .ok_or(TokenError::InvalidClient)?;
    authenticate(app, &client_id, &consumer.secret_hash, &client_secret).await?;
    match form.get("grant_type")? {
        None => return Err(TokenError::InvalidRequest("grant_type is missing")),
        Some("client_credentials") => (),
        Some(_) => return Err(TokenError::UnsupportedGrantType),
    }
    let scope = match form.get("scope")? {
        None => consumer.scopes.join(" "),
        Some(asked) => {
            let allowed = |scope: &str| consumer.scopes.iter().any(|known| known == scope);
            if asked
                .split(' ')
                .filter(|scope| !scope.is_empty())
                .any(|scope| !allowed(scope))
            {
                return Err(TokenError::InvalidScope);
            }
            asked.split_whitespace().collect::<Vec<_>>().join(" ")
        }
    };
    let token = issuer
        .issue(&consumer.client_id, &consumer.client_id, &scope)
        .map_err(|error| {
            tracing::error!(%error, "a token could not be issued");
            ErrorInfo::unavailable()
        })?;
    let answer = Json(json!({
        "access_token": token, "token_type": "Bearer", "expires_in": LIFETIME_SECONDS, "scope": scope,
    }));
    Ok(not_stored(answer.into_response()))
}

/// Compares a secret with what is stored of the client's.
///
/// Guesses are counted by client. A random secret that is right is never refused: there is nothing to guess, and
/// whoever floods a client's name with wrong ones must not shut the client out. Of a chosen one every computation
/// counts before it begins, and a right one is remembered.
async fn authenticate(
    app: &App,
    client_id: &str,
    stored: &str,
    shown: &str,
) -> Result<(), TokenError> {
    let guess = || {
        app.wrong_secrets
            .take(client_id, WRONG_SECRETS, app.clock.now_ms())
            .map_err(|wait_ms| {
                ErrorInfo::too_many_requests("Too many wrong secrets of this client", wait_ms)
            })
    };
    let right = if !is_chosen(stored) {
        let right = stored == secret::hash(shown);
        if !right {
            guess()?;
        }
        right
    } else if app.chosen_secrets.is_known(stored, shown) {
        true
    } else {
        guess()?;
        app.chosen_secrets.verify(stored, shown).await?
    };
    if right {
        Ok(())
    } else {
        Err(TokenError::InvalidClient)
    }
}

fn not_stored(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// The parameters of the request.
struct Form(Vec<(String, String)>);

impl Form {
    fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, TokenError> {
        let is_form = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .is_some_and(|kind| {
                kind.trim()
                    .eq_ignore_ascii_case("application/x-www-form-urlencoded")
            });
        if !is_form {
            return Err(TokenError::InvalidRequest(
                "the body must be application/x-www-form-urlencoded",
            ));
        }
        let text = std::str::from_utf8(body)
            .map_err(|_| TokenError::InvalidRequest("the body is not UTF-8"))?;
        parse(text)
            .map(Self)
            .ok_or(TokenError::InvalidRequest("the body is not a form"))
    }

    /// The value of `name`; an empty one counts as absent and a repeated one is an error (RFC 6749 §3.2).
    fn get(&self, name: &str) -> Result<Option<&str>, TokenError> {
        let mut values = self.0.iter().filter(|(key, _)| key == name);
        let value = values.next().map(|(_, value)| value.as_str());
        if values.next().is_some() {
            return Err(TokenError::InvalidRequest("a parameter is repeated"));
        }
        Ok(value.filter(|value| !value.is_empty()))
    }

    /// `client_secret_basic` or `client_secret_post`, never both (RFC 6749 §2.3).
    fn credentials(&self, headers: &HeaderMap) -> Result<(String, String), TokenError> {
        let posted = (self.get("client_id")?, self.get("client_secret")?);
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return match posted {
                (Some(id), Some(secret)) => Ok((id.to_owned(), secret.to_owned())),
                _ => Err(TokenError::InvalidClient),
            };
        };
        if posted.1.is_some() {
            return Err(TokenError::InvalidRequest(
                "the client authenticates in two ways at once",
            ));
        }
        let (id, secret) = basic(value).ok_or(TokenError::InvalidClient)?;
        match posted.0 {
            Some(posted) if posted != id => {
                Err(TokenError::InvalidRequest("client_id is not the client"))
            }
            _ => Ok((id, secret)),
        }
    }
}

/// The two halves of a Basic credential, which are form-encoded first (RFC 6749 §2.3.1).
fn basic(value: &HeaderValue) -> Option<(String, String)> {
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((decode(id)?, decode(secret)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let form = Form(parse("a=1&b=%C3%A4+x&c=&d").unwrap());
        assert_eq!(form.get("a").unwrap(), Some("1"));
        assert_eq!(form.get("b").unwrap(), Some("ä x"));
        assert_eq!(form.get("c").unwrap(), None);
        assert_eq!(form.get("d").unwrap(), None);
        assert!(Form(parse("a=1&a=2").unwrap()).get("a").is_err());
    }

    #[test]
    fn basic_credentials_are_form_encoded() {
        let value = format!("Basic {}", STANDARD.encode("a%3Ab:c+d"));
        let value = HeaderValue::from_str(&value).unwrap();
        assert_eq!(basic(&value), Some(("a:b".to_owned(), "c d".to_owned())));
        assert_eq!(basic(&HeaderValue::from_static("Basic x")), None);
        assert_eq!(basic(&HeaderValue::from_static("Bearer YTpi")), None);
    }
}
