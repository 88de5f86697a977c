//! `SessionInfo` (QoD 0.9.0), with `qosStatus` and `messages` always.

use serde_json::{Value, json};

use super::status::{AgentView, Message, QosStatus, derive};
use crate::server::App;
use crate::store::{StoreError, StoredSession};

/// What is known of a session's state now.
///
/// # Errors
/// The store failed.
pub async fn state(
    app: &App,
    session: &StoredSession,
) -> Result<(QosStatus, Vec<Message>), StoreError> {
    let agents = app.store.agents_of(&session.home).await?;
    let views: Vec<AgentView<'_>> = agents
        .iter()
        .map(|agent| AgentView {
            report: agent.sessions.get(&session.id),
            silent: app.is_silent(&agent.id, agent.last_poll_ms, session.created_ms),
            connected: app.is_connected(&agent.id, agent.last_poll_ms),
        })
        .collect();
    let waited_long = app.is_long_ago(session.created_ms);
    Ok(derive(session.added_revision, &views, waited_long))
}

/// The session as its consumer sees it.
///
/// # Errors
/// The store failed.
pub async fn session_info(app: &App, session: &StoredSession) -> Result<Value, StoreError> {
    let (qos_status, messages) = state(app, session).await?;
    Ok(show(session, qos_status, &messages))
}

/// A session that was made a moment ago, as its consumer sees it: of the home's agents, each with its last poll as it
/// is stored, only whether they are there matters.
pub(super) fn new_session_info(
    app: &App,
    session: &StoredSession,
    agents: &[(String, i64)],
) -> Value {
    let views: Vec<AgentView<'_>> = agents
        .iter()
        .map(|(agent, last_poll_ms)| AgentView {
            report: None,
            silent: app.is_silent(agent, *last_poll_ms, session.created_ms),
            connected: app.is_connected(agent, *last_poll_ms),
        })
        .collect();
    let waited_long = app.is_long_ago(session.created_ms);
    let (qos_status, messages) = derive(session.added_revision, &views, waited_long);
    show(session, qos_status, &messages)
}

/// The session as its consumer sees it, in a state that is known.
fn show(session: &StoredSession, qos_status: QosStatus, messages: &[Message]) -> Value {
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
