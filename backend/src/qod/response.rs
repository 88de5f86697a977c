//! `SessionInfo` (QoD 0.9.0), with `qosStatus` and `messages` always.

use serde_json::{Value, json};

use super::notification::show_token;
use super::status::{AgentView, Message, QosStatus, derive};
use crate::notifications::target::Token;
use crate::presence::CONNECTED_MS;
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
    Ok(shown(app, session, &agents))
}

/// What is known of a session whose home has these agents.
fn shown(app: &App, session: &StoredSession, agents: &[Agent]) -> (QosStatus, Vec<Message>) {
    judge(
        app,
        &session.id,
        session.added_revision,
        session.created_ms,
        agents,
    )
}

/// The same of a session of which no more is known.
pub fn judge(
    app: &App,
    id: &str,
    added_revision: i64,
    created_ms: i64,
    agents: &[Agent],
) -> (QosStatus, Vec<Message>) {
    let waited_long = app.is_long_ago(created_ms);
    view(app, id, added_revision, agents, waited_long, |agent| {
        app.is_silent(&agent.id, agent.last_poll_ms, created_ms)
    })
}

/// The session's status, if it does not rest on what this process cannot know. For a while after its start a process
/// takes every agent to be there, and it hears with delay of polls that another process holds: so two processes may
/// show different states for a while, but must not tell them in turn.
pub fn settled(app: &App, session: &StoredSession, agents: &[Agent]) -> Option<QosStatus> {
    let now = app.clock.now_ms();
    let waited_long = now - session.created_ms >= app.silent_ms;
    let (strict, _) = view(
        app,
        &session.id,
        session.added_revision,
        agents,
        waited_long,
        |agent| {
            let stored = agent.last_poll_ms;
            let own = app.presence.last_poll_ms(&agent.id, 0);
            let patience = if own >= stored {
                app.silent_ms
            } else {
                app.silent_ms.max(CONNECTED_MS)
            };
            now - own.max(stored).max(session.created_ms) >= patience
        },
    );
    let (shown, _) = shown(app, session, agents);
    (strict == shown).then_some(shown)
}

fn view(
    app: &App,
    id: &str,
    added_revision: i64,
    agents: &[Agent],
    waited_long: bool,
    is_silent: impl Fn(&Agent) -> bool,
) -> (QosStatus, Vec<Message>) {
    let views: Vec<AgentView<'_>> = agents
        .iter()
        .map(|agent| AgentView {
            report: agent.sessions.get(id),
            silent: is_silent(agent),
            connected: app.is_connected(&agent.id, agent.last_poll_ms),
        })
        .collect();
    derive(added_revision, &views, waited_long)
}

/// The session as its consumer sees it.
///
/// # Errors
/// The store failed.
pub async fn session_info(app: &App, session: &StoredSession) -> Result<Value, StoreError> {
    let (qos_status, messages) = state(app, session).await?;
    Ok(show(
        session,
        qos_status,
        &messages,
        token(app, session).as_ref(),
    ))
}

/// The session as the operator sees it: without the token, which is a secret of the consumer.
///
/// # Errors
/// The store failed.
pub async fn without_token(app: &App, session: &StoredSession) -> Result<Value, StoreError> {
    let (qos_status, messages) = state(app, session).await?;
    Ok(show(session, qos_status, &messages, None))
}

/// The token of the session's receiver.
pub(super) fn token(app: &App, session: &StoredSession) -> Option<Token> {
    let sealed = session.sink.as_ref()?.token.as_ref()?;
    let token = app.notifications.seal.open(&session.id, sealed);
    if token.is_none() {
        tracing::error!(
            session = session.id,
            "the token of a receiver was encrypted with another key"
        );
    }
    token
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
    show(session, qos_status, &messages, token(app, session).as_ref())
}

/// The session as its consumer sees it, in a state that is known.
fn show(
    session: &StoredSession,
    qos_status: QosStatus,
    messages: &[Message],
    token: Option<&Token>,
) -> Value {
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
        if let (Some(sink), Some(token)) = (&session.sink, token) {
            show_token(info, sink.form, token);
        }
    }
    info
}
