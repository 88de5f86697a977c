//! What this process may tell of a session.

use super::event::EventStatus;
use crate::qod::response::settled;
use crate::qod::status::QosStatus;
use crate::server::App;
use crate::store::{Agent, Judge, StoredSession};

impl Judge for App {
    fn status(&self, session: &StoredSession, agents: &[Agent]) -> Option<EventStatus> {
        match settled(self, session, agents)? {
            QosStatus::Available => Some(EventStatus::Available),
            QosStatus::Unavailable => Some(EventStatus::Unavailable),
            QosStatus::Requested => None,
        }
    }

    fn last_poll_ms(&self, agent: &Agent) -> i64 {
        self.presence.last_poll_ms(&agent.id, agent.last_poll_ms)
    }
}
