//! How an agent comes by its first token, and by the next one.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use qod_wire::{Enrolled, RotatedToken};

use super::Credential;
use super::credential::in_service;
use crate::certificate::ClientCertificate;
use crate::error_info::ErrorInfo;
use crate::secret;
use crate::server::{App, read_body};

/// Longest body, in bytes. Nothing in it is looked at.
const LONGEST: usize = 16 * 1024;

/// `POST /agent/v1/enrol`, with a bootstrap token or a factory certificate.
pub async fn enrol(
    State(app): State<Arc<App>>,
    credential: Credential,
    body: Body,
) -> Result<Json<Enrolled>, ErrorInfo> {
    // A connection with an unread body is closed, perhaps under the next request.
    read_body(body, LONGEST).await?;
    let now_ms = app.clock.now_ms();
    let token = secret::token()?;
    let hash = secret::hash(&token);
    let agent_id = match credential {
        Credential::Token(bootstrap) => app
            .store
            .enrol(&bootstrap, &hash, now_ms)
            .await?
            .ok_or_else(ErrorInfo::unauthorized)?,
        Credential::Certificate(certificate) => {
            let agent = named(&app, &certificate, now_ms).await?;
            rotate(&app, &agent, None, &hash, now_ms).await?;
            agent
        }
        Credential::None => return Err(ErrorInfo::unauthorized()),
    };
    tracing::info!(agent = agent_id, "agent enrolled");
    Ok(Json(Enrolled { agent_id, token }))
}

/// `POST /agent/v1/agents/{agentId}/token`, with the agent's credential.
pub async fn token(
    State(app): State<Arc<App>>,
    credential: Credential,
    Path(agent): Path<String>,
    body: Body,
) -> Result<Json<RotatedToken>, ErrorInfo> {
    credential.authenticate(&app, &agent).await?;
    read_body(body, LONGEST).await?;
    let token = secret::token()?;
    let shown = match &credential {
        Credential::Token(hash) => Some(hash.as_str()),
        Credential::Certificate(_) | Credential::None => None,
    };
    let now_ms = app.clock.now_ms();
    rotate(&app, &agent, shown, &secret::hash(&token), now_ms).await?;
    tracing::info!(agent, "agent token rotated");
    Ok(Json(RotatedToken { token }))
}

async fn rotate(
    app: &App,
    agent: &str,
    shown: Option<&str>,
    hash: &str,
    now_ms: i64,
) -> Result<(), ErrorInfo> {
    let rotated = app
        .store
        .rotate_agent_token(agent, shown, hash, now_ms)
        .await?;
    if rotated {
        return Ok(());
    }
    Err(ErrorInfo::new(
        StatusCode::FORBIDDEN,
        "FORBIDDEN",
        "This token was replaced, and the one that replaced it is in use",
    ))
}

/// The one agent that a certificate names. It may have other names, as that of its host.
async fn named(
    app: &App,
    certificate: &ClientCertificate,
    now_ms: i64,
) -> Result<String, ErrorInfo> {
    let names = certificate.agents(now_ms);
    if names.is_empty() {
        return Err(ErrorInfo::unauthorized());
    }
    let mut found = None;
    for name in names {
        if let Some(owner) = app.store.owner(name).await?
            && found.replace(owner).is_some()
        {
            return Err(ErrorInfo::new(
                StatusCode::FORBIDDEN,
                "FORBIDDEN",
                "The certificate names several agents",
            ));
        }
    }
    let owner = found.ok_or_else(|| ErrorInfo::not_found("There is no such agent"))?;
    Ok(in_service(owner)?.agent)
}
