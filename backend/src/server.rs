//! What all handlers share, and the paths.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post, put};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::watch;
use tracing::Instrument as _;

use crate::access::Followed;
use crate::clock::Clock;
use crate::error_info::ErrorInfo;
use crate::metrics::census::Census;
use crate::metrics::{self, Metrics};
use crate::notifications::Notifications;
use crate::oauth::{self, Authority, ChosenSecrets, Consumers};
use crate::presence::{CONNECTED_MS, Presence};
use crate::proxy::TrustedProxies;
use crate::qod::profiles::Profiles;
use crate::rate::Buckets;
use crate::store::Store;
use crate::wake::Wake;
use crate::{admin, agent_api, qod};

/// Longest time that a request's body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest time that the store may take to answer before the process is not ready.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// The backend as its handlers see it.
pub struct App {
    /// Tells the time.
    pub clock: Clock,
    /// What is known.
    pub store: Store,
    /// Polls that wait.
    pub wake: Wake,
    /// Agents that are there.
    pub presence: Presence,
    /// Whose tokens count.
    pub authority: Authority,
    /// Who calls, and how often.
    pub consumers: Consumers,
    /// Secrets that operators chose.
    pub chosen_secrets: ChosenSecrets,
    /// Wrong secrets, by client id.
    pub wrong_secrets: Buckets,
    /// Proxies that say for whom they ask.
    pub trusted_proxies: TrustedProxies,
    /// What may be asked for.
    pub profiles: Profiles,
    /// Tells consumers what changes.
    pub notifications: Notifications,
    /// SHA-256 of the admin token, in hexadecimal.
    pub admin_token_hash: String,
    /// After this time without a poll an agent is silent, in milliseconds.
    pub silent_ms: i64,
    /// For how long usage records are kept, in milliseconds.
    pub usage_retention_ms: i64,
    /// Becomes true when the process is about to end.
    pub draining: watch::Sender<bool>,
    /// What is counted.
    pub metrics: Metrics,
    /// Sessions and agents, counted in the background.
    pub census: Arc<Census>,
}

impl App {
    /// Whether what `agent` said counts no more for a session that was made at `created_ms`: no poll was held and
    /// none ended for the configured time, counted from this process's start and the session's at the earliest.
    pub fn is_silent(&self, agent: &str, stored_poll_ms: i64, created_ms: i64) -> bool {
        let last = self.presence.last_poll_ms(agent, stored_poll_ms);
        self.is_long_ago(last.max(created_ms))
    }

    /// Whether a time is as long ago as silence takes.
    pub fn is_long_ago(&self, ms: i64) -> bool {
        self.clock.now_ms() - ms.max(self.presence.started_ms()) >= self.silent_ms
    }

    /// Whether `agent` polls now, or did a moment ago.
    pub fn is_connected(&self, agent: &str, stored_poll_ms: i64) -> bool {
        self.clock.now_ms() - self.presence.last_poll_ms(agent, stored_poll_ms)
            < CONNECTED_MS.min(self.silent_ms)
    }
}

/// Where a request came from: the connection's other end, or whom a trusted proxy there asks for.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// All paths.
pub fn router(app: Arc<App>) -> Router {
    let agent = Router::new()
        .route(
            "/agents/{id}/instructions",
            get(agent_api::instructions::get),
        )
        .route("/agents/{id}/status", put(agent_api::status::put))
        .route("/agents/{id}/token", post(agent_api::enrol::token))
        .route("/enrol", post(agent_api::enrol::enrol));
    let admin = Router::new()
        .route("/homes", get(admin::homes::list))
        .route(
            "/homes/{id}",
            get(admin::homes::get)
                .put(admin::homes::put)
                .delete(admin::homes::delete),
        )
        .route("/homes/{id}/token", post(admin::homes::token))
        .route("/consumers", get(admin::consumers::list))
        .route(
            "/consumers/{id}",
            get(admin::consumers::get)
                .put(admin::consumers::put)
                .delete(admin::consumers::delete),
        )
        .route("/agents", get(admin::agents::list))
        .route(
            "/agents/{id}",
            get(admin::agents::get)
                .put(admin::agents::put)
                .delete(admin::agents::delete),
        )
        .route("/agents/{id}/token", post(admin::agents::token))
        .route("/agents/{id}/bootstrap", post(admin::agents::bootstrap))
        .route("/usage", get(admin::usage::list))
        .route("/sessions", get(admin::sessions::list))
        .route(
            "/sessions/{id}",
            get(admin::sessions::get).delete(admin::sessions::delete),
        )
        .layer(axum::middleware::from_fn(admin::log_changes));
    Router::new()
        .nest(qod::routes::BASE, qod::routes::router())
        .nest("/agent/v1", agent)
        .nest("/admin/v1", admin)
        .route("/oauth2/token", post(oauth::issue))
        .route("/.well-known/jwks.json", get(oauth::key_set))
        .route("/home-devices-qod/{*path}", any(not_served))
        .route("/metrics", get(metrics::scrape))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .fallback(|| async { ErrorInfo::of_status(StatusCode::NOT_FOUND) })
        .layer(axum::middleware::from_fn_with_state(app.clone(), surround))
        .with_state(app)
}

/// The paths of the address that the operator set apart for what watches the process.
pub fn watchers_router(app: Arc<App>) -> Router {
    Router::new()
        .route("/metrics", get(metrics::scrape_openly))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .fallback(|| async { ErrorInfo::of_status(StatusCode::NOT_FOUND) })
        .layer(axum::middleware::map_response(async |response| {
            speak_json(response)
        }))
        .with_state(app)
}

/// What is done around every request. It is one layer, since each takes room in every poll that is held.
async fn surround(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    // The client in the place of a trusted proxy, for all that is done with the request.
    if let Some(Peer(peer)) = request.extensions().get().copied() {
        let client = app.trusted_proxies.client(peer, request.headers());
        request.extensions_mut().insert(Peer(client));
    }
    let followed = Followed::begin(&request);
    let answering = next.run(request).instrument(followed.span());
    let mut response = speak_json(answering.await);
    followed.end(&app.metrics, &mut response);
    response
}

/// A path that the design names and this version does not serve.
async fn not_served() -> ErrorInfo {
    ErrorInfo::not_implemented("This version does not serve this path yet")
}

/// Whether this process can do its work: the store answers in time, and it is not about to end.
async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, ErrorInfo> {
    if *app.draining.borrow() {
        return Err(ErrorInfo::unavailable());
    }
    match tokio::time::timeout(STORE_TIMEOUT, app.store.ping()).await {
        Ok(answered) => answered?,
        Err(_) => {
            tracing::warn!("the store does not answer");
            return Err(ErrorInfo::unavailable());
        }
    }
    Ok("ok\n")
}

/// Gives errors of the layers below the handlers (a wrong method, a malformed path) the body of all others.
fn speak_json(response: Response) -> Response {
    let status = response.status();
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value == "application/json");
    if is_json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let mut answer = ErrorInfo::of_status(status).into_response();
    if let Some(allow) = response.headers().get(header::ALLOW) {
        answer.headers_mut().insert(header::ALLOW, allow.clone());
    }
    answer
}

/// Refuses a body that says to be something else than JSON. One that says nothing is read as JSON (RFC 9110 §8.3
/// lets the receiver look).
///
/// # Errors
/// 400, since QoD 0.9.0 has no 415.
pub fn expect_json(headers: &HeaderMap) -> Result<(), ErrorInfo> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let essence = |value: &HeaderValue| {
        let text = value.to_str().ok()?;
        Some(text.split(';').next()?.trim().to_ascii_lowercase())
    };
    match (types.next().map(essence), types.next()) {
        (None, _) => Ok(()),
        (Some(Some(essence)), None) if essence == "application/json" => Ok(()),
        _ => Err(ErrorInfo::invalid(
            "Schema validation failed at the header Content-Type: must be application/json",
        )),
    }
}

/// Reads a body of at most `longest` bytes.
///
/// # Errors
/// 413 if it is longer, 408 if it takes too long, 400 if it breaks off.
pub async fn read_body(body: Body, longest: usize) -> Result<Bytes, ErrorInfo> {
    let collect = Limited::new(body, longest).collect();
    match tokio::time::timeout(BODY_TIMEOUT, collect).await {
        Err(_) => Err(ErrorInfo::of_status(StatusCode::REQUEST_TIMEOUT)),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(ErrorInfo::of_status(StatusCode::PAYLOAD_TOO_LARGE))
        }
        Ok(Err(_)) => Err(ErrorInfo::invalid("The request's body broke off")),
    }
}
