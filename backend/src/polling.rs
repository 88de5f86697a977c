//! Asks agents that have a status URL for their status.
//!
//! Any process asks any agent; the store says whose turn it is, and to have set its next time forward is the claim.
//! After a time in which nobody asked, all agents are due at once: a process takes them at no more than twice the pace
//! at which they come due, and each gets a next time of its own, so that they stay apart.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{ACCEPT, AUTHORIZATION};
use axum::http::{HeaderValue, Method, Request, StatusCode};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::agent_api::status;
use crate::client::{Client, Limits, Reach};
use crate::error_info::ErrorInfo;
use crate::secret::{self, NoRandomness};
use crate::server::App;
use crate::store::{DueStatusPoll, StoreError};

/// How often it is looked who is due.
const TICK: Duration = Duration::from_millis(250);
/// Agents that are asked at once.
const MOST: usize = 256;
/// Fewest that may be taken at one look, however few agents there are.
const FEWEST: i64 = 2;
/// What one answer may take. An agent gives a whole exchange five seconds.
const LIMITS: Limits = Limits {
    time: Duration::from_secs(5),
    body: status::LONGEST,
};
/// How long a claim lasts at least, in milliseconds: longer than asking and what is written after it.
const CLAIM_MS: i64 = 10_000;
/// Longest pause after failures, in milliseconds, unless the interval is longer.
const LONGEST_PAUSE_MS: i64 = 600_000;
/// Longest words about a failure that are kept, in characters.
const LONGEST_FAILURE: usize = 300;

/// What asking takes.
pub struct Polling {
    /// Asks.
    pub client: Client,
    /// How often each agent is asked, in milliseconds.
    pub interval_ms: i64,
}

/// Encrypts the token that the agent's status server wants to see.
///
/// # Errors
/// The system gave no randomness.
pub fn seal(app: &App, agent: &str, token: &str) -> Result<String, NoRandomness> {
    app.notifications.seal.close_text(&place(agent), token)
}

/// What a token is encrypted for: no session is called so.
fn place(agent: &str) -> String {
    format!("status of {agent}")
}

/// Asks until the process ends. Who is being asked then is asked again when the claim ends.
pub async fn run(app: Arc<App>, polling: Polling) {
    let polling = Arc::new(polling);
    let mut draining = app.draining.subscribe();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tasks: JoinSet<()> = JoinSet::new();
    loop {
        tokio::select! {
            _ = draining.wait_for(|draining| *draining) => break,
            _ = tick.tick() => (),
        }
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "asking an agent for its status broke off");
            }
        }
        let now = app.clock.now_ms();
        match claim(
            &app,
            polling.interval_ms,
            MOST.saturating_sub(tasks.len()),
            now,
        )
        .await
        {
            Ok(claimed) => {
                for due in claimed {
                    tasks.spawn(carry(app.clone(), polling.clone(), due, now));
                }
            }
            Err(error) => tracing::warn!(%error, "agents were not asked for their status"),
        }
    }
    tasks.shutdown().await;
}

async fn claim(
    app: &App,
    interval_ms: i64,
    free: usize,
    now: i64,
) -> Result<Vec<DueStatusPoll>, StoreError> {
    let count = app.store.count_status_polls().await?;
    if count == 0 {
        return Ok(vec![]);
    }
    let most = pace(count, interval_ms).min(i64::try_from(free).unwrap_or(i64::MAX));
    let until = now + interval_ms.max(CLAIM_MS);
    app.store.claim_status_polls(most, until, now).await
}

/// How many of `count` agents are taken at one look.
fn pace(count: i64, interval_ms: i64) -> i64 {
    let tick_ms = i64::try_from(TICK.as_millis()).unwrap_or(i64::MAX);
    let twice = count.saturating_mul(2).saturating_mul(tick_ms);
    (twice / interval_ms.max(1) + 1).max(FEWEST)
}

/// Asks one agent, and what follows from it.
async fn carry(app: Arc<App>, polling: Arc<Polling>, due: DueStatusPoll, asked_ms: i64) {
    let agent = &due.agent;
    let outcome = ask(&app, &polling.client, &due).await;
    let failure = match outcome {
        Ok(()) => None,
        Err(Failure::Agent(words)) => Some(words),
        Err(Failure::Own(error)) => {
            tracing::warn!(%error, agent, "the status of an agent was not taken");
            return;
        }
    };
    match &failure {
        Some(failure) if due.failures == 0 => {
            tracing::warn!(agent, failure, "agent does not answer for its status");
        }
        None if due.failures > 0 => tracing::info!(agent, "agent answers for its status again"),
        _ => (),
    }
    let failures = failure.as_ref().map_or(0, |_| due.failures + 1);
    let pause = pause_ms(polling.interval_ms, failures);
    // A sixteenth earlier or later: who came due together does not stay together.
    let next_ms = asked_ms + pause - pause / 16 + secret::up_to(pause / 8);
    let noted = app
        .store
        .note_status_poll(&due, failure.as_deref(), next_ms, app.clock.now_ms());
    if let Err(error) = noted.await {
        tracing::warn!(%error, agent, "how asking an agent for its status went was not written");
    }
}

/// How long an agent rests that failed so often in a row.
fn pause_ms(interval_ms: i64, failures: i64) -> i64 {
    interval_ms
        .saturating_mul(1 << (failures - 1).clamp(0, 16))
        .min(LONGEST_PAUSE_MS.max(interval_ms))
}

/// Why there is no report.
enum Failure {
    /// The agent, or the way to it.
    Agent(String),
    /// This process, or its store.
    Own(ErrorInfo),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Own(error.into())
    }
}

impl Failure {
    fn agent(words: &str) -> Self {
        let words = words.chars().take(LONGEST_FAILURE);
        Self::Agent(
            words
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect(),
        )
    }
}

async fn ask(app: &App, client: &Client, due: &DueStatusPoll) -> Result<(), Failure> {
    let request = request(app, due)?;
    let answer = client
        .send(request, Reach::Any, LIMITS)
        .await
        .map_err(|error| Failure::agent(&error.to_string()))?;
    if answer.status() != StatusCode::OK {
        return Err(Failure::agent(&format!("it answered {}", answer.status())));
    }
    let Some(owner) = app.store.owner(&due.agent).await? else {
        return Ok(());
    };
    let home = owner.home.as_deref().unwrap_or_default();
    status::take(app, home, &due.agent, answer.body(), None)
        .await
        .map_err(|error| {
            if error.status.is_client_error() {
                Failure::agent(&error.message)
            } else {
                Failure::Own(error)
            }
        })
}

fn request(app: &App, due: &DueStatusPoll) -> Result<Request<Bytes>, Failure> {
    let mut request = Request::builder()
        .method(Method::GET)
        .uri(&due.url)
        .header(ACCEPT, "application/json");
    if let Some(sealed) = &due.token {
        let token = app
            .notifications
            .seal
            .open_text(&place(&due.agent), sealed)
            .ok_or_else(|| Failure::agent("its token was encrypted with another key"))?;
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Failure::agent("its token is no header"))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    request
        .body(Bytes::new())
        .map_err(|_| Failure::agent("its URL is none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_agents_are_not_asked_at_once() {
        assert_eq!(pace(1, 60_000), 2);
        let a_second = pace(10_000, 60_000) * 4;
        // All within half the interval, and no more than that.
        assert!(
            (10_000 / 30..=10_000 / 28).contains(&a_second),
            "{a_second}"
        );
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        let pauses: Vec<i64> = [0, 1, 2, 3, 4, 5, 6, 1_000, i64::MAX]
            .iter()
            .map(|failures| pause_ms(60_000, *failures) / 1_000)
            .collect();
        assert_eq!(pauses, [60, 60, 120, 240, 480, 600, 600, 600, 600]);
        assert_eq!(pause_ms(3_600_000, 9), 3_600_000);
    }
}
