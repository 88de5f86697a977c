//! Carries the outbox to its receivers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, Request};
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use super::schedule::{Next, Outcome, next};
use crate::client::{ClientError, Limits, Reach};
use crate::secret;
use crate::server::App;
use crate::store::{Claim, Notification};

/// Deliveries at once.
const MOST: usize = 256;
/// Deliveries at once to one receiver: one that does not answer takes no more places than these.
const MOST_PER_RECEIVER: usize = 16;
/// What one delivery may take. Nothing that a receiver answers is of use but its status.
const LIMITS: Limits = Limits {
    time: Duration::from_secs(10),
    body: 64 * 1024,
};
/// How long a claim lasts, in milliseconds: longer than a delivery and what is written after it.
const CLAIM_MS: i64 = 15_000;
/// How often notifications of other processes, and those to be tried again, are looked for.
const POLL: Duration = Duration::from_secs(1);
/// After a claim, so many times its duration pass before the next: of a long outbox claims take a part of the time.
const REST: u32 = 3;
/// Longest rest between two claims.
const LONGEST_REST: Duration = Duration::from_millis(200);
/// How long deliveries may go on when the process is to end.
const DRAIN: Duration = Duration::from_secs(5);

type Flights = HashMap<Id, Notification>;

/// Delivers until the process closes, also while it drains; then finishes what is under way, or gives it back.
pub async fn run(app: Arc<App>, mut closing: watch::Receiver<bool>) {
    let written = app.store.outbox_written();
    let mut tasks: JoinSet<()> = JoinSet::new();
    let mut flights = Flights::new();
    loop {
        if *closing.borrow() {
            break;
        }
        let began = Instant::now();
        start(&app, &mut tasks, &mut flights).await;
        let rested = Instant::now() + (began.elapsed() * REST).min(LONGEST_REST);
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => break,
            Some(ended) = tasks.join_next_with_id() => land(&mut flights, ended),
            () = written.notified() => (),
            () = tokio::time::sleep(POLL) => (),
        }
        tokio::time::sleep_until(rested).await;
        while let Some(ended) = tasks.try_join_next_with_id() {
            land(&mut flights, ended);
        }
    }
    let rest = async {
        while let Some(ended) = tasks.join_next_with_id().await {
            land(&mut flights, ended);
        }
    };
    if tokio::time::timeout(DRAIN, rest).await.is_err() {
        tasks.shutdown().await;
        let now = app.clock.now_ms();
        for flight in flights.values() {
            let back = app
                .store
                .retry_notification(&flight.id, flight.attempts, now);
            if let Err(error) = back.await {
                tracing::debug!(%error, "a delivery was not given back before its claim ends");
            }
        }
    }
}

/// Claims what is due and may go, and sends it on its way.
async fn start(app: &Arc<App>, tasks: &mut JoinSet<()>, flights: &mut Flights) {
    let mut under_way: HashMap<&str, usize> = HashMap::new();
    for flight in flights.values() {
        *under_way.entry(&flight.receiver).or_default() += 1;
    }
    let under_way: Vec<(String, usize)> = under_way
        .into_iter()
        .map(|(receiver, count)| (receiver.to_owned(), count))
        .collect();
    let now = app.clock.now_ms();
    let claim = Claim {
        most: MOST.saturating_sub(flights.len()),
        most_per_receiver: MOST_PER_RECEIVER,
        under_way: &under_way,
        until_ms: now + CLAIM_MS,
    };
    match app.store.claim_notifications(claim, now).await {
        Ok(claimed) => {
            for notification in claimed {
                let task = tasks.spawn(carry(app.clone(), notification.clone()));
                flights.insert(task.id(), notification);
            }
        }
        Err(error) => tracing::warn!(%error, "notifications were not claimed"),
    }
}

fn land(flights: &mut Flights, ended: Result<(Id, ()), tokio::task::JoinError>) {
    let id = match &ended {
        Ok((id, ())) => *id,
        Err(error) => error.id(),
    };
    if let (Some(flight), Err(error)) = (flights.remove(&id), &ended) {
        tracing::error!(%error, session = flight.session, "a delivery broke off");
    }
}

/// One attempt, and what follows from it.
async fn carry(app: Arc<App>, notification: Notification) {
    let Notification {
        id,
        session,
        receiver,
        attempts,
        ..
    } = &notification;
    let outcome = send(&app, &notification).await;
    let now = app.clock.now_ms();
    let counters = &app.notifications.counters;
    let noted = match next(outcome, *attempts, now - notification.created_ms) {
        Next::Done => {
            counters.count_delivered();
            tracing::debug!(session, receiver, attempts, "notification delivered");
            app.store.finish_notification(id).await
        }
        Next::GiveUp => {
            counters.count_failed();
            counters.count_given_up();
            tracing::warn!(session, receiver, attempts, "notification given up");
            app.store.finish_notification(id).await
        }
        Next::Retry { within_ms } => {
            counters.count_failed();
            let due_ms = now + secret::up_to(within_ms);
            app.store.retry_notification(id, *attempts, due_ms).await
        }
    };
    if let Err(error) = noted {
        // The claim ends, and it is delivered again.
        tracing::warn!(%error, session, "what became of a notification was not written");
    }
}

async fn send(app: &App, notification: &Notification) -> Outcome {
    let Notification {
        session,
        receiver,
        attempts,
        ..
    } = notification;
    let request = match request(app, notification) {
        Ok(request) => request,
        Err(what) => {
            tracing::error!(session, receiver, attempts, "notification not sent: {what}");
            return Outcome::Unreachable;
        }
    };
    let reach = if app.notifications.allow_private {
        Reach::Any
    } else {
        Reach::Public
    };
    match app.notifications.client.send(request, reach, LIMITS).await {
        Ok(answer) => {
            let status = answer.status();
            if !status.is_success() {
                tracing::info!(session, receiver, attempts, %status, "notification refused");
            }
            Outcome::Answered(status.as_u16())
        }
        Err(error) => {
            tracing::info!(session, receiver, attempts, %error, "notification not delivered");
            match error {
                ClientError::OutOfReach { .. }
                | ClientError::Url { .. }
                | ClientError::TooLong { .. } => Outcome::Unfit,
                _ => Outcome::Unreachable,
            }
        }
    }
}

fn request(app: &App, notification: &Notification) -> Result<Request<Bytes>, &'static str> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(&notification.url)
        .header(CONTENT_TYPE, "application/json");
    if let Some(sealed) = &notification.token {
        // Another process may have the right key.
        let token = app
            .notifications
            .seal
            .open(&notification.session, sealed)
            .ok_or("its token was encrypted with another key")?;
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_| "its token is no header")?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    request
        .body(Bytes::from(notification.body.clone()))
        .map_err(|_| "its URL is none")
}
