//! What is logged and counted of every request, and the name by which its lines are found.
//!
//! The name is the `x-correlator` of CAMARA's Commonalities: the caller's own if it is legal, else a new one. It is
//! in every line that is logged for the request, and in the answer. Of the request itself only the path's template is
//! logged: queries and headers may hold secrets.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::{Instrument as _, Span, field};

use crate::secret;
use crate::server::{App, Peer};

/// Name of the header.
const CORRELATOR: &str = "x-correlator";
/// Longest correlator, in characters.
const LONGEST: usize = 256;
/// Paths that are asked all the time by programs: 10,000 agents would drown every other line.
const FREQUENT: &[&str] = &[
    "/agent/v1/agents/{id}/instructions",
    "/agent/v1/agents/{id}/status",
    "/healthz",
    "/readyz",
    "/metrics",
];

/// Follows a request from its head to its answer.
pub async fn follow(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let correlator = correlator(request.headers());
    // An error's span is there at every level that is logged at all.
    let span = tracing::error_span!(
        "request",
        correlator = correlator.to_str().unwrap_or_default(),
        consumer = field::Empty,
        agent = field::Empty,
    );
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let peer = request.extensions().get::<Peer>().copied();
    let mut response = next.run(request).instrument(span.clone()).await;
    let path = path.as_ref().map_or("none", MatchedPath::as_str);
    let took = began.elapsed();
    app.metrics.answered(&method, path, response.status(), took);
    let status = response.status().as_u16();
    span.in_scope(|| {
        let (peer, seconds) = (peer.map(|Peer(address)| address.ip()), took.as_secs_f64());
        let peer = peer.map(field::display);
        if FREQUENT.contains(&path) {
            tracing::debug!(%method, path, status, seconds, peer, "answered");
        } else {
            tracing::info!(%method, path, status, seconds, peer, "answered");
        }
    });
    response.headers_mut().insert(CORRELATOR, correlator);
    response
}

/// Notes which consumer a request comes from, for its log lines.
pub fn note_consumer(id: &str) {
    Span::current().record("consumer", id);
}

/// Notes which agent a request comes from, for its log lines.
pub fn note_agent(id: &str) {
    Span::current().record("agent", id);
}

/// The request's own correlator, or a new one.
fn correlator(headers: &HeaderMap) -> HeaderValue {
    let mut given = headers.get_all(CORRELATOR).iter();
    match (given.next(), given.next()) {
        (Some(given), None) if is_correlator(given.as_bytes()) => given.clone(),
        _ => secret::uuid()
            .ok()
            .and_then(|uuid| HeaderValue::from_str(&uuid).ok())
            .unwrap_or(HeaderValue::from_static("-")),
    }
}

/// `^[a-zA-Z0-9-_:;.\/<>{}]{0,256}$` (`XCorrelator` of CAMARA's Commonalities). An empty one names nothing.
fn is_correlator(text: &[u8]) -> bool {
    (1..=LONGEST).contains(&text.len())
        && text
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_:;./<>{}".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_correlators_are_kept_and_others_replaced() {
        let of = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(CORRELATOR, HeaderValue::from_bytes(value).unwrap());
            correlator(&headers)
        };
        for kept in ["b4333c46-49c0-4f62-80d7-f0ef930f1c46", "a_:;./<>{}Z"] {
            assert_eq!(of(kept.as_bytes()), kept);
        }
        let longest = "x".repeat(LONGEST);
        assert_eq!(of(longest.as_bytes()), longest);
        for replaced in ["", "a b", "a\tb", "ä", "a=b", "x\"y", &"x".repeat(257)] {
            let made = of(replaced.as_bytes());
            assert_eq!(made.len(), 36, "{replaced}");
        }
    }
}
