//! What this process may tell of a session.

use super::event::EventStatus;
use crate::qod::response::settled;
use crate::qod::status::QosStatus;
use crate::server::App;
use crate::store::{Agent, Judge, StoredSession};

/// How long before its end a session is told nothing but its end, in milliseconds.
const LAST_MS: i64 = 1_000;

impl Judge for App {
    fn status(&self, session: &StoredSession, agents: &[Agent]) -> Option<EventStatus> {
        match settled(self, session, agents)? {
            // The agent's own clock ended it first: what is told in a moment says why.
            QosStatus::Unavailable if session.expires_ms - self.clock.now_ms() < LAST_MS => None,
            QosStatus::Available => Some(EventStatus::Available),
            QosStatus::Unavailable => Some(EventStatus::Unavailable),
            QosStatus::Requested => None,
        }
    }

    fn last_poll_ms(&self, agent: &Agent) -> i64 {
        self.presence.last_poll_ms(&agent.id, agent.last_poll_ms)
    }
}
