//! Which agents are connected: who holds a poll now, and when the last one ended.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::Clock;

/// An agent counts as connected for this long after a poll ended, in milliseconds. It asks again at once; the
/// rest is the time after which other processes over the same database hear of it (see [`FLUSH_MS`]).
pub const CONNECTED_MS: i64 = 15_000;
/// How often presence is written to the store, in milliseconds.
pub const FLUSH_MS: i64 = 10_000;

/// The polls of this process.
#[derive(Clone, Debug)]
pub struct Presence {
    clock: Clock,
    started_ms: i64,
    agents: Arc<Mutex<HashMap<String, Polls>>>,
    returned: Arc<Mutex<HashSet<String>>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Polls {
    held: usize,
    last_ms: i64,
    written_ms: i64,
}

impl Presence {
    /// Nobody is there yet.
    pub fn new(clock: Clock) -> Self {
        Self {
            started_ms: clock.now_ms(),
            clock,
            agents: Arc::default(),
            returned: Arc::default(),
        }
    }

    /// When this process started, in milliseconds since the epoch.
    pub fn started_ms(&self) -> i64 {
        self.started_ms
    }

    /// Notes that `agent` polls, until the answer drops what is returned.
    pub fn hold(&self, agent: &str) -> Held {
        let now = self.clock.now_ms();
        let mut agents = self.lock();
        let polls = agents.entry(agent.to_owned()).or_default();
        let returned = polls.held == 0 && now - polls.last_ms >= CONNECTED_MS;
        polls.held += 1;
        polls.last_ms = now;
        drop(agents);
        if returned {
            self.lock_returned().insert(agent.to_owned());
        }
        Held {
            agent: agent.to_owned(),
            presence: self.clone(),
        }
    }

    /// Number of polls that are held.
    pub fn held(&self) -> usize {
        self.lock().values().map(|polls| polls.held).sum()
    }

    /// When `agent` was last there: now if it holds a poll, else the end of its last poll in this process or
    /// `stored_ms`, whichever is later.
    pub fn last_poll_ms(&self, agent: &str, stored_ms: i64) -> i64 {
        match self.lock().get(agent) {
            Some(polls) if polls.held > 0 => self.clock.now_ms(),
            Some(polls) => polls.last_ms.max(stored_ms),
            None => stored_ms,
        }
    }

    /// The agents whose time is to be written, all with the time `now_ms`, or with the end of their last poll.
    pub fn take_unwritten(&self, now_ms: i64) -> Vec<(String, i64)> {
        let mut unwritten = Vec::new();
        for (agent, polls) in self.lock().iter_mut() {
            if polls.held > 0 {
                polls.last_ms = now_ms;
            }
            if polls.last_ms > polls.written_ms {
                polls.written_ms = polls.last_ms;
                unwritten.push((agent.clone(), polls.last_ms));
            }
        }
        unwritten
    }

    /// The agents that were away, as far as this process knows, and polled since this was asked last.
    pub fn take_returned(&self) -> Vec<String> {
        self.lock_returned().drain().collect()
    }

    fn lock_returned(&self) -> MutexGuard<'_, HashSet<String>> {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Polls>> {
        // Plain numbers, whole at every step.
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A poll that is held.
#[derive(Debug)]
pub struct Held {
    agent: String,
    presence: Presence,
}

impl Drop for Held {
    fn drop(&mut self) {
        let now = self.presence.clock.now_ms();
        if let Some(polls) = self.presence.lock().get_mut(&self.agent) {
            polls.held = polls.held.saturating_sub(1);
            polls.last_ms = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_poll_is_now_and_an_ended_one_is_its_end() {
        let clock = Clock::manual(1_000);
        let presence = Presence::new(clock.clone());
        assert_eq!(presence.last_poll_ms("a", 300), 300);
        let held = presence.hold("a");
        clock.advance(50_000);
        assert_eq!(presence.last_poll_ms("a", 300), 51_000);
        drop(held);
        clock.advance(9_000);
        assert_eq!(presence.last_poll_ms("a", 300), 51_000);
        assert_eq!(presence.take_unwritten(60_000), [("a".to_owned(), 51_000)]);
        assert_eq!(presence.take_unwritten(70_000), []);
    }

    #[test]
    fn an_agent_returns_once() {
        let clock = Clock::manual(1_000_000);
        let presence = Presence::new(clock.clone());
        drop(presence.hold("a"));
        assert_eq!(presence.take_returned(), ["a"]);
        drop(presence.hold("a"));
        assert!(presence.take_returned().is_empty(), "it was there");
        clock.advance(CONNECTED_MS);
        let held = presence.hold("a");
        assert_eq!(presence.take_returned(), ["a"]);
        clock.advance(CONNECTED_MS);
        drop(presence.hold("a"));
        assert!(presence.take_returned().is_empty(), "it holds another");
        drop(held);
    }
}
