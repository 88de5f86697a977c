//! `/admin/v1`: provisioning and insight for the operator, with the admin token.

pub mod agents;
pub mod consumers;
pub mod homes;
pub mod sessions;
mod token_file;
pub mod usage;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::Value;

pub use token_file::{
    TokenFileError, beside as token_file_beside, open as open_token_file, read as read_token_file,
};

use crate::error_info::ErrorInfo;
use crate::json::Invalid;
use crate::oauth::bearer;
use crate::server::{App, Peer, read_body};
use crate::{form, json, secret};

/// Longest body, in bytes.
pub(crate) const LONGEST: usize = 256 * 1024;
/// Entries of a list in one answer.
const PAGE: i64 = 1_000;

/// Lets the operator in. Digests are compared, so the time says nothing about the token.
pub(crate) fn authorize(app: &App, headers: &HeaderMap) -> Result<(), ErrorInfo> {
    match bearer(headers) {
        Some(token) if secret::hash(token) == app.admin_token_hash => Ok(()),
        _ => Err(ErrorInfo::unauthorized()),
    }
}

/// Logs what was changed, and from where. Paths name what it was about; secrets are in headers and bodies alone.
pub async fn log_changes(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    if method == Method::GET || method == Method::HEAD {
        return next.run(request).await;
    }
    // Below a nested router the path begins after what it is nested at.
    let path = format!("/admin/v1{}", request.uri().path());
    let source = request
        .extensions()
        .get::<Peer>()
        .map(|Peer(peer)| peer.ip().to_canonical().to_string());
    let response = next.run(request).await;
    let status = response.status();
    if status.is_success() {
        tracing::info!(%method, path, source, status = status.as_u16(), "operator's change");
    } else {
        tracing::info!(%method, path, source, status = status.as_u16(), "operator's request refused");
    }
    response
}

async fn document(body: Body) -> Result<Value, ErrorInfo> {
    Ok(json::parse(&read_body(body, LONGEST).await?)?)
}

/// An id of anything that is provisioned: what agents may be called. Other text never reaches the store, where
/// PostgreSQL fails on a NUL.
fn check_id(id: &str) -> Result<(), ErrorInfo> {
    if qod_wire::is_agent_id(id) {
        Ok(())
    } else {
        Err(ErrorInfo::invalid(
            "Schema validation failed at the id: must be 1 to 64 letters, digits, dots, hyphens or underscores",
        ))
    }
}

/// The query of a list: `after=ID`, where it goes on, and the filters that the list has.
struct ListQuery(Vec<(String, String)>);

impl ListQuery {
    fn read(query: Option<String>, filters: &[&str]) -> Result<Self, ErrorInfo> {
        let pairs = form::query(query)?;
        for (place, (key, _)) in pairs.iter().enumerate() {
            let complaint = if key != "after" && !filters.contains(&key.as_str()) {
                "is not a known parameter"
            } else if pairs.iter().take(place).any(|(before, _)| before == key) {
                "is given twice"
            } else {
                continue;
            };
            // It may be anything, and is shown as it is written in a query.
            let name: String = key.chars().take(64).collect();
            return Err(Invalid {
                path: format!("the query's {}", name.escape_default()),
                reason: complaint.to_owned(),
            }
            .into());
        }
        Ok(Self(pairs))
    }

    /// Where the list goes on: empty at its beginning.
    fn after(&self) -> Result<&str, ErrorInfo> {
        Ok(self.filter("after", 64)?.unwrap_or_default())
    }

    /// The value of a parameter, which is an id of at most `longest` bytes. An empty one is none.
    fn filter(&self, name: &str, longest: usize) -> Result<Option<&str>, ErrorInfo> {
        let value = self.0.iter().find(|(key, _)| key == name);
        let Some(value) = value
            .map(|(_, value)| value)
            .filter(|value| !value.is_empty())
        else {
            return Ok(None);
        };
        if value.len() > longest || value.contains(char::is_control) {
            return Err(Invalid {
                path: format!("the query's {name}"),
                reason: format!("must be an id of at most {longest} bytes"),
            }
            .into());
        }
        Ok(Some(value))
    }
}
