//! How agents show who they are: by a bearer token, or by a client certificate.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};

use crate::access;
use crate::certificate::ClientCertificate;
use crate::error_info::ErrorInfo;
use crate::oauth::bearer;
use crate::secret;
use crate::server::App;
use crate::store::Owner;

/// What a request shows. A request that has an `Authorization` header is judged by that alone.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A bearer token, as its SHA-256 in hexadecimal.
    Token(String),
    /// The certificate of the connection.
    Certificate(Arc<ClientCertificate>),
    /// Nothing, or nothing that can be read.
    None,
}

impl<S: Sync> FromRequestParts<S> for Credential {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        if parts.headers.contains_key(header::AUTHORIZATION) {
            return Ok(
                bearer(&parts.headers).map_or(Self::None, |token| Self::Token(secret::hash(token)))
            );
        }
        let certificate = parts.extensions.get::<Arc<ClientCertificate>>();
        Ok(certificate.cloned().map_or(Self::None, Self::Certificate))
    }
}

impl Credential {
    /// The agent whose path is called.
    ///
    /// # Errors
    /// 401 for no credential or a token of nobody, 403 for another agent's, 404 for an agent that is not there, 410 for
    /// one that was decommissioned.
    pub(super) async fn authenticate(&self, app: &App, agent: &str) -> Result<Owner, ErrorInfo> {
        let owner = self.owner(app, agent).await?;
        access::note_agent(&owner.agent);
        Ok(owner)
    }

    async fn owner(&self, app: &App, agent: &str) -> Result<Owner, ErrorInfo> {
        let now_ms = app.clock.now_ms();
        match self {
            Self::Token(hash) => {
                let owner = app.store.token_owner(hash, now_ms).await?;
                let owner = owner.ok_or_else(ErrorInfo::unauthorized)?;
                if owner.agent == agent {
                    return in_service(owner);
                }
                existing(app, agent).await?;
                Err(ErrorInfo::forbidden())
            }
            Self::Certificate(certificate) => {
                let named = certificate.agents(now_ms);
                if named.is_empty() {
                    return Err(ErrorInfo::unauthorized());
                }
                let owner = existing(app, agent).await?;
                if named.contains(&owner.agent) {
                    in_service(owner)
                } else {
                    Err(ErrorInfo::forbidden())
                }
            }
            Self::None => Err(ErrorInfo::unauthorized()),
        }
    }
}

/// # Errors
/// 410 if the agent was decommissioned: only who is that agent may be told.
pub(super) fn in_service(owner: Owner) -> Result<Owner, ErrorInfo> {
    if owner.decommissioned {
        return Err(ErrorInfo::new(
            StatusCode::GONE,
            "GONE",
            "The operator has removed this agent",
        ));
    }
    Ok(owner)
}

/// # Errors
/// 404 if there is no such agent.
async fn existing(app: &App, agent: &str) -> Result<Owner, ErrorInfo> {
    let owner = if qod_wire::is_agent_id(agent) {
        app.store.owner(agent).await?
    } else {
        None
    };
    owner.ok_or_else(|| ErrorInfo::not_found("There is no such agent"))
}
