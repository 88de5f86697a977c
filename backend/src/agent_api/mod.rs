//! `/agent/v1`: what agents fetch and report. They always call.

pub mod instructions;
pub mod status;

use axum::http::HeaderMap;

use crate::error_info::ErrorInfo;
use crate::oauth::bearer;
use crate::server::App;
use crate::{secret, store};

/// The agent whose path is called, by its own token.
///
/// # Errors
/// 401 for a token of nobody, 403 for another agent's token, 404 for an agent that is not there.
async fn authenticate(
    app: &App,
    headers: &HeaderMap,
    agent: &str,
) -> Result<store::Owner, ErrorInfo> {
    let token = bearer(headers).ok_or_else(ErrorInfo::unauthorized)?;
    let owner = app
        .store
        .token_owner(&secret::hash(token))
        .await?
        .ok_or_else(ErrorInfo::unauthorized)?;
    if owner.agent == agent {
        return Ok(owner);
    }
    if qod_wire::is_agent_id(agent) && app.store.agent(agent).await?.is_some() {
        return Err(ErrorInfo::forbidden());
    }
    Err(ErrorInfo::not_found("There is no such agent"))
}
