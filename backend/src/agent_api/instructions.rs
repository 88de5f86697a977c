//! `GET /agent/v1/agents/{agentId}/instructions`: the complete desired state, by long poll.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use qod_wire::{Instructions, MAX_WAIT_SECONDS};
use tokio::time::Instant;

use super::Credential;
use crate::entity_tag;
use crate::error_info::ErrorInfo;
use crate::server::App;

/// How often an agent of no home is looked up again: no home's change would wake it when it gets one.
const HOMELESS: Duration = Duration::from_secs(2);

/// Answers a poll.
pub async fn get(
    State(app): State<Arc<App>>,
    credential: Credential,
    headers: HeaderMap,
    Path(agent): Path<String>,
) -> Result<Response, ErrorInfo> {
    let known = known(&headers);
    let wait = wait(&headers);
    // They would keep the buffer that they were read into for as long as the poll is held.
    drop(headers);
    // What a poll reads is boxed, here and below, so that it takes no room while it waits.
    let mut owner = Box::pin(credential.authenticate(&app, &agent)).await?;
    let _held = app.presence.hold(&agent);
    let deadline = Instant::now() + wait;
    let mut draining = app.draining.subscribe();
    loop {
        // The wait begins before the reading, so that no change falls between the two.
        let has_home = owner.home.is_some();
        let home = owner.home.unwrap_or_default();
        let mut waiter = app.wake.wait_for(&home);
        // An agent that no home has any more is told to do nothing.
        let revision = Box::pin(app.store.revision(&home)).await?.unwrap_or(0);
        if !known.contains(&revision) {
            return Box::pin(answer(&app, &home)).await;
        }
        if *draining.borrow_and_update() || Instant::now() >= deadline {
            return Ok(not_modified(revision));
        }
        let look_again = if has_home {
            deadline
        } else {
            deadline.min(Instant::now() + HOMELESS)
        };
        tokio::select! {
            () = waiter.above(revision) => (),
            () = tokio::time::sleep_until(look_again) => (),
            _ = draining.changed() => (),
        }
        // Meanwhile the agent may have got another home, or its token may have been taken away.
        owner = Box::pin(credential.authenticate(&app, &agent)).await?;
    }
}

async fn answer(app: &App, home: &str) -> Result<Response, ErrorInfo> {
    let now = app.clock.now_ms();
    let (revision, link, live) = app.store.instructions(home, now).await?.unwrap_or_default();
    let mut sessions = Vec::with_capacity(live.len());
    for session in live {
        let mut instruction = session.instruction;
        // At most 30 days in milliseconds: exact in a double.
        instruction.expires_in = Some((session.expires_ms - now) as f64 / 1_000.0);
        sessions.push(instruction);
    }
    let instructions = Instructions {
        revision: u64::try_from(revision).unwrap_or_default(),
        link,
        queues: None,
        sessions,
    };
    let mut response = Json(instructions).into_response();
    tag(&mut response, revision);
    Ok(response)
}

fn not_modified(revision: i64) -> Response {
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    tag(&mut response, revision);
    response
}

fn tag(response: &mut Response, revision: i64) {
    if let Ok(value) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(header::ETAG, value);
    }
}

/// The revisions that the caller knows. Other tags were never given out.
fn known(headers: &HeaderMap) -> Vec<i64> {
    entity_tag::known(headers)
        .filter_map(|tag| tag.parse().ok())
        .collect()
}

/// `Prefer: wait=N` (RFC 7240 §4.3). What is malformed is a preference that is not honoured.
fn wait(headers: &HeaderMap) -> Duration {
    let seconds = headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .find_map(|preference| {
            let (name, value) = preference.split_once('=')?;
            (name.trim().eq_ignore_ascii_case("wait"))
                .then(|| value.trim().trim_matches('"').parse::<u32>().ok())?
        })
        .unwrap_or(0);
    Duration::from_secs(u64::from(seconds.min(MAX_WAIT_SECONDS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(
            axum::http::HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )])
    }

    #[test]
    fn waits() {
        let seconds = |value| wait(&headers("prefer", value)).as_secs();
        assert_eq!(seconds("wait=50"), 50);
        assert_eq!(seconds("respond-async, Wait = 7"), 7);
        assert_eq!(seconds("wait=4000000000"), 55);
        for none in ["wait", "wait=-1", "wait=x", "wait=99999999999999", ""] {
            assert_eq!(seconds(none), 0, "{none}");
        }
    }
}
