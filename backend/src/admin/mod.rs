//! `/admin/v1`: provisioning and insight for the operator, with the admin token.

pub mod agents;
pub mod consumers;
pub mod homes;
pub mod sessions;
mod token_file;

use axum::body::Body;
use axum::http::HeaderMap;
use serde_json::Value;

pub use token_file::{
    TokenFileError, beside as token_file_beside, open as open_token_file, read as read_token_file,
};

use crate::error_info::ErrorInfo;
use crate::oauth::bearer;
use crate::server::{App, read_body};
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

/// `?after=ID`: where the list goes on.
fn after(query: Option<String>) -> Result<String, ErrorInfo> {
    match form::query(query)?
        .into_iter()
        .find(|(key, _)| key == "after")
    {
        Some((_, id)) if !id.is_empty() => check_id(&id).map(|()| id),
        _ => Ok(String::new()),
    }
}
