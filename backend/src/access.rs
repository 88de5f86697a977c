//! What is logged and counted of every request, and the name by which its lines are found.
//!
//! The name is the `x-correlator` of CAMARA's Commonalities: the caller's own if it is legal, else a new one. It is
//! in every line that is logged for the request, and in the answer. Of the request itself only the path's template is
//! logged: queries and headers may hold secrets.

use std::net::IpAddr;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::Response;
use tracing::{Span, field};

use crate::metrics::Metrics;
use crate::secret;
use crate::server::Peer;

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

/// A request that is followed from its head to its answer.
pub struct Followed {
    began: Instant,
    correlator: HeaderValue,
    span: Span,
    method: Method,
    path: Option<MatchedPath>,
    peer: Option<IpAddr>,
}

impl Followed {
    /// Begins with the request's head.
    pub fn begin(request: &Request) -> Self {
        let correlator = correlator(request.headers());
        // An error's span is there at every level that is logged at all.
        let span = tracing::error_span!(
            "request",
            correlator = correlator.to_str().unwrap_or_default(),
            consumer = field::Empty,
            agent = field::Empty,
        );
        let peer = request.extensions().get::<Peer>();
        Self {
            began: Instant::now(),
            correlator,
            span,
            method: request.method().clone(),
            path: request.extensions().get::<MatchedPath>().cloned(),
            peer: peer.map(|Peer(address)| address.ip()),
        }
    }

    /// In it, all that is logged names the request.
    pub fn span(&self) -> Span {
        self.span.clone()
    }

    /// Counts the answer, logs it and names it.
    pub fn end(self, metrics: &Metrics, response: &mut Response) {
        let method = &self.method;
        let path = self.path.as_ref().map_or("none", MatchedPath::as_str);
        let took = self.began.elapsed();
        metrics.answered(method, path, response.status(), took);
        let (status, seconds) = (response.status().as_u16(), took.as_secs_f64());
        let peer = self.peer.map(field::display);
        self.span.in_scope(|| {
            if FREQUENT.contains(&path) {
                tracing::debug!(%method, path, status, seconds, peer, "answered");
            } else {
                tracing::info!(%method, path, status, seconds, peer, "answered");
            }
        });
        response.headers_mut().insert(CORRELATOR, self.correlator);
    }
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
        // Copied: a clone would keep the buffer that the whole head was read into, for as long as a poll is held.
        (Some(given), None) if is_correlator(given.as_bytes()) => {
            HeaderValue::from_bytes(given.as_bytes()).ok()
        }
        _ => secret::uuid()
            .ok()
            .and_then(|uuid| HeaderValue::from_str(&uuid).ok()),
    }
    .unwrap_or(HeaderValue::from_static("-"))
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
