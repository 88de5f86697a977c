//! `/admin/v1/agents`.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{LONGEST, ListQuery, PAGE, authorize, check_id, document};
use crate::error_info::ErrorInfo;
use crate::json::{self, Node};
use crate::notifications::target::{LONGEST_URL, Target};
use crate::secret;
use crate::server::{App, read_body};
use crate::store::{Agent, StatusPoll};
use crate::{polling, removal};

/// How long a bootstrap token waits for its agent, in seconds, unless the operator says otherwise: 7 days.
const BOOTSTRAP_SECONDS: i64 = 7 * 86_400;
/// Longest time that the operator may say, in seconds: 90 days.
const LONGEST_BOOTSTRAP_SECONDS: i64 = 90 * 86_400;

/// Longest token that an agent's status server may want to see, in bytes.
const LONGEST_STATUS_TOKEN: usize = 1_024;

/// `PUT /admin/v1/agents/{id} {statusUrl?, statusToken?}`: where the agent is asked for its status from now on, and the
/// bearer token for that. Both are replaced: without `statusUrl` it is not asked.
pub async fn put(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, ErrorInfo> {
    authorize(&app, &headers)?;
    check_id(&id)?;
    let document = document(body).await?;
    let object = Node::root(&document).object()?;
    object.only(&["statusUrl", "statusToken"])?;
    let url = object
        .get("statusUrl")
        .map(|node| {
            Target::read(node.text(LONGEST_URL)?).map_err(|error| node.invalid(error.to_string()))
        })
        .transpose()?;
    let token = object
        .get("statusToken")
        .map(|node| {
            if url.is_none() {
                return Err(node.invalid("is of no use without statusUrl"));
            }
            let token = node.text(LONGEST_STATUS_TOKEN)?;
            // What the agent's own configuration allows.
            if token.bytes().all(|b| b.is_ascii_graphic()) {
                Ok(token)
            } else {
                Err(node.invalid("must be printable ASCII without spaces"))
            }
        })
        .transpose()?;
    let sealed = token
        .map(|token| polling::seal(&app, &id, token))
        .transpose()?;
    let now = app.clock.now_ms();
    let url = url.as_ref().map(Target::url);
    if !app
        .store
        .set_status_poll(&id, url, sealed.as_deref(), now)
        .await?
    {
        return Err(no_agent());
    }
    detail(&app, &id).await
}

/// `DELETE /admin/v1/agents/{id}`: decommissions the agent. It serves no home any more, and is answered 410 for as long
/// as its credential is good: it removes everything of its own then. Naming it in a home, or a new token, takes it back.
pub async fn delete(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<StatusCode, ErrorInfo> {
    authorize(&app, &headers)?;
    check_id(&id)?;
    if removal::agent(&app, id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(no_agent())
    }
}

/// `POST /admin/v1/agents/{id}/token`: a new token, shown this once. The old ones and a bootstrap token are void at
/// once.
pub async fn token(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, ErrorInfo> {
    authorize(&app, &headers)?;
    check_id(&id)?;
    // It says nothing, but a connection with an unread body is closed, perhaps under the next request.
    read_body(body, LONGEST).await?;
    let token = secret::token()?;
    if !app
        .store
        .set_agent_token(&id, &secret::hash(&token))
        .await?
    {
        return Err(no_agent());
    }
    Ok(Json(json!({ "token": token })))
}

/// `POST /admin/v1/agents/{id}/bootstrap [{expiresIn}]`: a bootstrap token, with which the agent comes by its own
/// token once. Shown this once; the one before it is void at once. `expiresIn` is in seconds.
pub async fn bootstrap(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, ErrorInfo> {
    authorize(&app, &headers)?;
    check_id(&id)?;
    let body = read_body(body, LONGEST).await?;
    let mut expires_in = BOOTSTRAP_SECONDS;
    if !body.is_empty() {
        let document = json::parse(&body)?;
        let object = Node::root(&document).object()?;
        object.only(&["expiresIn"])?;
        if let Some(node) = object.get("expiresIn") {
            expires_in = node.integer(1..=LONGEST_BOOTSTRAP_SECONDS)?;
        }
    }
    let token = secret::token()?;
    let expires_ms = app.clock.now_ms() + expires_in * 1_000;
    if !app
        .store
        .set_bootstrap_token(&id, &secret::hash(&token), expires_ms)
        .await?
    {
        return Err(no_agent());
    }
    Ok(Json(
        json!({ "bootstrapToken": token, "expiresIn": expires_in }),
    ))
}

/// `GET /admin/v1/agents/{id}`, with the last report.
pub async fn get(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Value>, ErrorInfo> {
    authorize(&app, &headers)?;
    check_id(&id)?;
    detail(&app, &id).await
}

async fn detail(app: &App, id: &str) -> Result<Json<Value>, ErrorInfo> {
    let agent = app.store.agent(id).await?.ok_or_else(no_agent)?;
    let polls = app.store.status_polls(id, id).await?;
    let mut shown = show(app, &agent, polls.first());
    if let Value::Object(shown) = &mut shown {
        let status = agent
            .status
            .as_deref()
            .and_then(|status| serde_json::from_str::<Value>(status).ok());
        shown.insert("status".to_owned(), json!(status));
    }
    Ok(Json(shown))
}

/// `GET /admin/v1/agents[?after=ID]`: without reports, a thousand at a time.
pub async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ErrorInfo> {
    authorize(&app, &headers)?;
    let query = ListQuery::read(query, &[])?;
    let agents = app.store.agents(query.after()?, PAGE).await?;
    let polls = match (agents.first(), agents.last()) {
        (Some(first), Some(last)) => app.store.status_polls(&first.id, &last.id).await?,
        _ => vec![],
    };
    let polls: HashMap<&str, &StatusPoll> = polls
        .iter()
        .map(|poll| (poll.agent.as_str(), poll))
        .collect();
    let agents: Vec<Value> = agents
        .iter()
        .map(|agent| show(&app, agent, polls.get(agent.id.as_str()).copied()))
        .collect();
    Ok(Json(json!({ "agents": agents })))
}

/// For how long the operator is shown that two access points reported in turn, in milliseconds.
const DUPLICATE_SHOWN_MS: i64 = 3_600_000;

fn no_agent() -> ErrorInfo {
    ErrorInfo::not_found("There is no such agent: name it in a home's agentIds first")
}

/// Times are seconds since the Unix epoch; null: never. `warnings` are the backend's; the agent's are in its report.
fn show(app: &App, agent: &Agent, poll: Option<&StatusPoll>) -> Value {
    let last_poll_ms = app.presence.last_poll_ms(&agent.id, agent.last_poll_ms);
    let last_seen_ms = last_poll_ms.max(agent.last_status_ms);
    let is_duplicate =
        agent.duplicate_ms > 0 && app.clock.now_ms() - agent.duplicate_ms < DUPLICATE_SHOWN_MS;
    let warnings = if is_duplicate {
        json!([{"code": "DUPLICATE_AGENT",
            "message": "two runs report in turn: two access points seem to have this agent's credential"}])
    } else {
        json!([])
    };
    json!({
        "id": agent.id,
        "home": agent.home,
        "connected": app.is_connected(&agent.id, agent.last_poll_ms),
        "lastSeen": (last_seen_ms > 0).then_some(last_seen_ms / 1_000),
        "lastReport": (agent.last_status_ms > 0).then_some(agent.last_status_ms / 1_000),
        "address": agent.source,
        "version": agent.version,
        "wantedRevision": agent.wanted_revision,
        "appliedRevision": agent.applied_revision,
        "warnings": warnings,
        "statusUrl": poll.map(|poll| &poll.url),
        "statusPoll": poll.map(show_poll),
    })
}

/// How asking goes: `failures` in a row, and the last failure even if it is over.
fn show_poll(poll: &StatusPoll) -> Value {
    json!({
        "hasToken": poll.has_token,
        "lastPolled": poll.asked_ms.map(|ms| ms / 1_000),
        "lastAnswered": poll.answered_ms.map(|ms| ms / 1_000),
        "next": poll.next_ms / 1_000,
        "failures": poll.failures,
        "lastFailure": poll.failure.as_ref().map(|(message, ms)| {
            json!({"at": ms / 1_000, "message": message})
        }),
    })
}
