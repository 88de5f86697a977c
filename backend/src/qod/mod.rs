//! `/qod/v0`: Quality on Demand 0.9.0.

pub mod description;
pub mod device;
mod identify;
pub mod notification;
mod port_lists;
pub mod profile;
pub mod profiles;
pub mod request;
pub mod response;
pub mod routes;
pub mod status;

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use qod_wire::{Direction, Session};
use serde_json::Value;
use tracing::Instrument as _;

use self::notification::Wanted;
use self::port_lists::ranges_not_allowed;
use self::profile::Profile;
use self::request::CreateSession;
pub use self::status::QosStatus;
use crate::error_info::ErrorInfo;
use crate::oauth::Caller;
use crate::secret::NoRandomness;
use crate::server::{App, expect_json, read_body};
use crate::store::{Admission, Cap, Created, Ending, NewSession, Sink, StoreError, StoredSession};
use crate::{form, json, secret};

/// Longest body, in bytes.
const LONGEST: usize = 64 * 1024;
/// Longest idempotency key, in bytes.
const LONGEST_KEY: usize = 255;

/// `POST /sessions`.
pub async fn create(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ErrorInfo> {
    // Row 11: whatever failed inside, what the caller is told is that there is no session.
    try_create(app, headers, body).await.map_err(|error| {
        if error.status == StatusCode::INTERNAL_SERVER_ERROR {
            not_created()
        } else {
            error
        }
    })
}

async fn try_create(app: Arc<App>, headers: HeaderMap, body: Body) -> Result<Response, ErrorInfo> {
    let caller = Caller::with_scope(&app, &headers, "qod-sessions-write").await?;
    expect_json(&headers)?;
    let document = json::parse(&read_body(body, LONGEST).await?)?;
    let request = CreateSession::read(&document)?;
    let idempotency_key = idempotency_key(&headers)?;
    let profile = app
        .profiles
        .get(&request.profile)
        .ok_or_else(|| ErrorInfo::invalid("QosProfile Id does not exist"))?;
    let seconds = check_profile(profile, &request, &document)?;
    if let Some(wanted) = &request.notifications
        && !app.notifications.allow_private
    {
        wanted.check_public()?;
    }
    let found = identify::home(&app, &caller, &request.device).await?;
    let admission = app.store.admission(&found.home).await?;
    let Some(Admission { agents, .. }) =
        admission.filter(|home| home.consumers.admits(&caller.client_id))
    else {
        return Err(ErrorInfo::forbidden());
    };
    let device = identify::device(
        &found,
        &request.device,
        request.server.ipv6_address.is_none(),
    )?;

    let id = secret::uuid()?;
    let now = app.clock.now_ms();
    // With the home: the same words with another user's token are another request.
    let whole = format!("{}\n{document}", found.home);
    let has_token = request
        .notifications
        .as_ref()
        .is_some_and(|wanted| wanted.token.is_some());
    let request_hash = if has_token {
        // A plain digest could be tried with tokens.
        app.notifications.seal.digest(&whole)
    } else {
        secret::hash(&whole)
    };
    let sink = request
        .notifications
        .map(|wanted| sink(&app, &id, &wanted))
        .transpose()?;
    let new = NewSession {
        instruction: Session {
            session_id: id.clone(),
            device,
            application_server: Some(request.server),
            device_ports: request.device_ports.map(|ports| ports.to_wire()),
            application_server_ports: request.server_ports.map(|ports| ports.to_wire()),
            dscp: profile.dscp,
            direction: Direction::Both,
            required_interface: None,
            max_upstream_kbps: profile.max_upstream_kbps,
            max_downstream_kbps: profile.max_downstream_kbps,
            expires_in: None,
        },
        id,
        home: found.home,
        consumer: caller.client_id,
        expires_ms: now + seconds * 1_000,
        request: Value::Object(request.echo),
        sink,
        idempotency_key,
        request_hash: request_hash.clone(),
        heard_since_ms: now - app.silent_ms,
        caps: caller.caps,
    };
    // A task of its own: a consumer that hangs up must not part the commit from the wake-up.
    let task = {
        let app = app.clone();
        let create = async move {
            let created = app.store.create_session(new, now).await?;
            if let Created::New(session) = &created {
                app.wake.raise(&session.home, session.added_revision);
            }
            Ok::<_, StoreError>(created)
        };
        tokio::spawn(create.in_current_span())
    };
    let info = match task.await.map_err(|_| not_created())?? {
        Created::New(session) => {
            tracing::info!(
                session = session.id,
                home = session.home,
                consumer = session.consumer,
                "session created"
            );
            // No agent can have spoken of it, and an error now would leave a session behind whose id nobody knows:
            // nothing is read any more.
            response::new_session_info(&app, &session, &agents)
        }
        Created::Before(session) if session.request_hash == request_hash => {
            response::session_info(&app, &session).await?
        }
        Created::Before(_) => {
            return Err(ErrorInfo::invalid(
                "Idempotency-Key was used for another request",
            ));
        }
        Created::Overlap => {
            return Err(ErrorInfo::conflict(
                "Another session is created for the same device",
            ));
        }
        Created::Capped(cap) => return Err(capped(cap)),
        Created::NotAdmitted => return Err(ErrorInfo::forbidden()),
        // It was there a moment ago.
        Created::NoHome => return Err(ErrorInfo::unavailable()),
    };
    Ok((StatusCode::CREATED, Json(info)).into_response())
}

fn sink(app: &App, session: &str, wanted: &Wanted) -> Result<Sink, NoRandomness> {
    let close = |token| app.notifications.seal.close(session, token);
    Ok(Sink {
        form: wanted.form,
        url: wanted.target.url().to_owned(),
        receiver: wanted.target.receiver().to_owned(),
        token: wanted.token.as_ref().map(close).transpose()?,
        told: None,
    })
}

/// `GET /sessions/{sessionId}`.
pub async fn get(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ErrorInfo> {
    let caller = Caller::with_scope(&app, &headers, "qod-sessions-read").await?;
    let session = own_session(&app, &caller, id).await?;
    Ok(Json(response::session_info(&app, &session).await?))
}

/// `DELETE /sessions/{sessionId}`.
pub async fn delete(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, ErrorInfo> {
    let caller = Caller::with_scope(&app, &headers, "qod-sessions-delete").await?;
    let session = own_session(&app, &caller, id).await?;
    end_session(&app, session.id, session.home, Ending::Deleted).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends a session and wakes the home's agents.
///
/// # Errors
/// 404 if it had ended already; 503, 500: the store failed.
pub async fn end_session(
    app: &Arc<App>,
    id: String,
    home: String,
    ending: Ending,
) -> Result<(), ErrorInfo> {
    let app = app.clone();
    let end = async move {
        let revision = app
            .store
            .end_session(&id, &home, ending, app.clock.now_ms())
            .await?;
        if let Some(revision) = revision {
            app.wake.raise(&home, revision);
            tracing::info!(session = id, home, ?ending, "session ended");
        }
        Ok::<_, StoreError>(revision)
    };
    tokio::spawn(end.in_current_span())
        .await
        .map_err(|_| ErrorInfo::internal("Internal server error"))??
        .map(|_| ())
        .ok_or_else(no_session)
}

/// `GET /qos-profiles`.
pub async fn list_profiles(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Json<Vec<Value>>, ErrorInfo> {
    Caller::of(&app, &headers).await?;
    Ok(Json(app.profiles.find(&form::query(query)?)?))
}

/// `GET /qos-profiles/{name}`.
pub async fn get_profile(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ErrorInfo> {
    Caller::of(&app, &headers).await?;
    let profile = name
        .ok()
        .and_then(|name| app.profiles.get(&name))
        .ok_or_else(|| ErrorInfo::not_found("QosProfile Id does not exist"))?;
    Ok(Json(profile.shown.clone()))
}

fn capped(cap: Cap) -> ErrorInfo {
    ErrorInfo::not_allowed(&match cap {
        Cap::Sessions(most) => {
            format!("maxSessions, the limit of {most} sessions at once, is reached")
        }
        Cap::SessionsPerHome(most) => {
            format!(
                "maxSessionsPerHome, the limit of {most} sessions at once in one home, is reached"
            )
        }
    })
}

fn not_created() -> ErrorInfo {
    ErrorInfo::internal("Session could not be created")
}

fn no_session() -> ErrorInfo {
    ErrorInfo::not_found("Session Id does not exist")
}

/// A session of this consumer; another's does not exist for it, and neither does one whose id is none.
async fn own_session(
    app: &App,
    caller: &Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<StoredSession, ErrorInfo> {
    let id = id
        .ok()
        .filter(|id| qod_wire::is_session_id(id))
        .ok_or_else(no_session)?;
    app.store
        .session(&id, app.clock.now_ms())
        .await?
        .filter(|session| session.consumer == caller.client_id)
        .ok_or_else(no_session)
}

/// What the profile asks of a session. Returns the session's duration in seconds.
fn check_profile(
    profile: &Profile,
    request: &CreateSession,
    document: &Value,
) -> Result<i64, ErrorInfo> {
    if profile.status != "ACTIVE" {
        return Err(ErrorInfo::invalid(format!(
            "QosProfile {} is {} and takes no new sessions",
            profile.name, profile.status
        )));
    }
    if profile.ports_required && request.device_ports.is_none() {
        return Err(ErrorInfo::invalid(
            "Expected property is missing: devicePorts",
        ));
    }
    if !profile.ranges_allowed {
        for key in ["devicePorts", "applicationServerPorts"] {
            if document
                .get(key)
                .is_some_and(|ports| ports.get("ranges").is_some())
            {
                return Err(ranges_not_allowed(key));
            }
        }
    }
    let seconds = request.duration.unwrap_or(profile.max_seconds);
    if !(profile.min_seconds..=profile.max_seconds).contains(&seconds) {
        return Err(ErrorInfo::invalid(format!(
            "Schema validation failed at duration: must be from {} to {} for {}",
            profile.min_seconds, profile.max_seconds, profile.name
        )));
    }
    Ok(seconds)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ErrorInfo> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let key = value.to_str().ok().map(str::trim);
    match key {
        Some(key) if !key.is_empty() && key.len() <= LONGEST_KEY && values.next().is_none() => {
            Ok(Some(key.to_owned()))
        }
        _ => Err(ErrorInfo::invalid(format!(
            "Schema validation failed at the header Idempotency-Key: must be one value of 1 to {LONGEST_KEY} characters"
        ))),
    }
}
