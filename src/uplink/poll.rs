//! The task that polls.

use std::future::pending;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use qod_wire::Warning;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use ureq::http::HeaderValue;

use super::trouble::Task;
use super::{LONGEST_WAIT, News, Uplink, blocking, pause_after};
use crate::backend::{Failure, Poll};
use crate::backoff::Backoff;
use crate::clock::Setting;

/// An answer within this time was not waited for.
const AT_ONCE: Duration = Duration::from_millis(100);
/// So many new states in a row may come at once, as when an operator creates session after session; then
/// there is a pause after each: a backend that makes every answer a new one is not asked in a circle.
const STATES_AT_ONCE: u32 = 10;
const PAUSE_BETWEEN_STATES: Duration = Duration::from_secs(1);

/// What the polls so far have left.
#[derive(Default)]
pub(super) struct Known {
    /// Of the state in force: its tag and its revision.
    state: Option<(HeaderValue, u64)>,
    backoff: Backoff,
    states_at_once: u32,
    /// The last poll failed.
    failed: bool,
    /// With the clock as it was then, the last poll failed, and may not once it is set.
    clock: Option<Setting>,
    /// The backend said how long to wait.
    told_to_wait: bool,
}

impl Uplink {
    /// Polls until nobody listens any more.
    pub async fn poll(self: Arc<Self>, news: mpsc::Sender<News>) {
        let mut known = Known::default();
        while let Some(pause) = self.poll_once(&mut known, &news).await {
            self.wait_out(pause, &mut known).await;
        }
    }

    /// Waits as long, or until what hindered the last poll may be over.
    pub(super) async fn wait_out(&self, pause: Duration, known: &mut Known) {
        let told_to_wait = mem::take(&mut known.told_to_wait);
        let clock = known.clock.take();
        let is_set = async {
            match clock {
                Some(clock) => clock.changed().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = is_set => {
                log::info!("the clock was set: asking the backend again");
                known.backoff.reset();
            }
            // Another way may lead past what refused the agent, such as a hotspot's page for a login.
            () = self.moved.notified(), if !told_to_wait => self.moves(known).await,
        }
    }

    /// The line of a whole street may be back, so the agents wait a moment, each its own.
    async fn moves(&self, known: &mut Known) {
        log::info!("the way to the internet is another one: asking the backend again");
        known.backoff.reset();
        sleep(known.backoff.next(LONGEST_WAIT)).await;
    }

    /// One poll; the time to wait until the next one, or nothing when nobody listens any more.
    pub(super) async fn poll_once(
        &self,
        known: &mut Known,
        news: &mpsc::Sender<News>,
    ) -> Option<Duration> {
        // Held back, the answer that ends a trouble would come as late as a poll may last, and so long the status
        // would say that the backend is away.
        let wait = if known.failed {
            Duration::ZERO
        } else {
            self.config.poll_wait
        };
        let client = self.client();
        let tag = known.state.as_ref().map(|(tag, _)| tag.clone());
        let asked = Instant::now();
        let clock = Setting::read();
        let result = tokio::select! {
            // It ends the call too, which then fails: of the two this one is the reason.
            biased;
            () = self.moved.notified() => {
                self.moves(known).await;
                return Some(Duration::ZERO);
            }
            result = blocking(move || client.poll(tag.as_ref(), wait)) => result,
        };
        let took = asked.elapsed();
        let poll = match result {
            Ok(poll) => poll,
            Err(failure) => {
                known.clock = passes_with_the_clock(&failure).then_some(clock);
                known.told_to_wait = is_told_to_wait(&failure);
                return self.failed(failure, known, news).await;
            }
        };
        let early = took < wait / 2 || wait.is_zero();
        let pause = match poll {
            Poll::Changed {
                instructions,
                tag,
                read_at,
            } => {
                let state = (tag, instructions.revision);
                let is_new = known
                    .state
                    .as_ref()
                    .is_none_or(|(tag, revision)| *tag != state.0 && *revision != state.1);
                known.state = Some(state);
                let news = news.send(News::Instructions(instructions, read_at));
                news.await.ok()?;
                // Nor must one be asked in a circle that does not honour the tag.
                if early && !is_new {
                    known.backoff.next(LONGEST_WAIT)
                } else {
                    known.backoff.reset();
                    known.pause_after_state(took)
                }
            }
            // It was not asked to hold it. Only a poll that it holds shows that all is well, and resets the waiting.
            Poll::Unchanged if known.failed => Duration::ZERO,
            // A backend that does not hold the poll must not be asked in a circle.
            Poll::Unchanged if early => known.backoff.next(LONGEST_WAIT),
            Poll::Unchanged => {
                known.backoff.reset();
                known.states_at_once = 0;
                Duration::ZERO
            }
        };
        self.all_is_well(Task::Poll);
        if mem::take(&mut known.failed) {
            log::info!("the backend answers again");
            self.answers_again.notify_waiters();
            news.send(News::Trouble(None)).await.ok()?;
        }
        Some(pause)
    }

    /// After a poll that brought nothing.
    async fn failed(
        &self,
        failure: Failure,
        known: &mut Known,
        news: &mpsc::Sender<News>,
    ) -> Option<Duration> {
        known.failed = true;
        let text = failure.to_string();
        let level = self.level(Task::Poll, &text);
        let pause = pause_after(&failure, &mut known.backoff);
        log::log!(
            level,
            "{text}; asking again in {:.1} s",
            pause.as_secs_f64()
        );
        self.renew_credentials(Task::Poll, &failure);
        let told = match failure {
            Failure::Gone => {
                // What is removed must come whole if the agent is taken back.
                known.state = None;
                News::Decommissioned
            }
            failure => News::Trouble(Some(warning(&failure))),
        };
        news.send(told).await.ok()?;
        Some(pause)
    }
}

impl Known {
    /// Time to wait after a new state that took so long to come.
    pub(super) fn pause_after_state(&mut self, took: Duration) -> Duration {
        if took >= AT_ONCE {
            self.states_at_once = 0;
            return Duration::ZERO;
        }
        self.states_at_once = self.states_at_once.saturating_add(1);
        if self.states_at_once > STATES_AT_ONCE {
            PAUSE_BETWEEN_STATES
        } else {
            Duration::ZERO
        }
    }
}

/// Whether asking again is worth it once the clock is set: a certificate was not valid yet, or no longer; or the
/// network was away, and what sets a router's clock comes by the network.
pub(super) fn passes_with_the_clock(failure: &Failure) -> bool {
    matches!(
        failure,
        Failure::Clock(_)
            | Failure::Tls(_)
            | Failure::Unreachable {
                retry_after: None,
                ..
            }
    )
}

fn is_told_to_wait(failure: &Failure) -> bool {
    matches!(
        failure,
        Failure::Gone
            | Failure::Unreachable {
                retry_after: Some(_),
                ..
            }
    )
}

fn warning(failure: &Failure) -> Warning {
    let code = match failure {
        Failure::BadInstructions(_) => "BAD_INSTRUCTIONS",
        Failure::Unauthorized(_) => "UNAUTHORIZED",
        Failure::Clock(_) => "CLOCK",
        Failure::Gone
        | Failure::ReportRefused(_)
        | Failure::Tls(_)
        | Failure::Unreachable { .. } => "BACKEND_UNREACHABLE",
    };
    Warning::new(code, failure)
}
