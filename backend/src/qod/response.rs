//! `SessionInfo` (QoD 0.9.0), with `qosStatus` and `messages` always.

use serde_json::{Value, json};

use super::status::{AgentView, Message, QosStatus, derive};
use crate::server::App;
use crate::store::{Agent, StoreError, StoredSession};

/// What is known of a session's state now.
///
/// # Errors
/// The store failed.
pub async fn state(
    app: &App,
    session: &StoredSession,
) -> Result<(QosStatus, Vec<Message>), StoreError> {
    let agents = app.store.agents_of(&session.home).await?;
    Ok(judge(
        app,
        &session.id,
        session.added_revision,
        session.created_ms,
        &agents,
    ))
}

/// The same, where the agents of the session's home were read before.
pub fn judge(
    app: &App,
    id: &str,
    added_revision: i64,
    created_ms: i64,
    agents: &[Agent],
) -> (QosStatus, Vec<Message>) {
    let views: Vec<AgentView<'_>> = agents
        .iter()
        .map(|agent| AgentView {
            report: agent.sessions.get(id),
            silent: app.is_silent(&agent.id, agent.last_poll_ms, created_ms),
            connected: app.is_connected(&agent.id, agent.last_poll_ms),
        })
        .collect();
    derive(added_revision, &views, app.is_long_ago(created_ms))
}

/// The session as its consumer sees it.
///
/// # Errors
/// The store failed.
pub async fn session_info(app: &App, session: &StoredSession) -> Result<Value, StoreError> {
    let (qos_status, messages) = state(app, session).await?;
    Ok(show(session, qos_status, &messages))
}

/// The session as its consumer sees it, in a state that is known.
pub(super) fn show(session: &StoredSession, qos_status: QosStatus, messages: &[Message]) -> Value {
    let mut info = session.request.clone();
    if let Value::Object(info) = &mut info {
        let started = session.created_ms / 1_000;
        let duration = (session.expires_ms - session.created_ms) / 1_000;
        info.insert("sessionId".to_owned(), session.id.clone().into());
        info.insert("duration".to_owned(), duration.into());
        // Whole seconds are shown. The session itself lasts its duration to the millisecond.
        info.insert("startedAt".to_owned(), started.into());
        info.insert("expiresAt".to_owned(), (started + duration).into());
        info.insert("qosStatus".to_owned(), json!(qos_status));
        info.insert("messages".to_owned(), json!(messages));
    }
    info
}
