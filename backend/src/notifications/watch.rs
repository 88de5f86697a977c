//! Changes of `qosStatus` that no request brings about: an agent goes silent, or comes back.
//!
//! Every process looks. The store sees to it that a change is told once (see [`crate::store::Judge`]).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::server::App;
use crate::store::StoreError;

/// Shortest time between two looks.
const REST: Duration = Duration::from_secs(1);
/// A look may take this part of the time.
const SHARE: u32 = 20;
/// How often every home with a webhook is looked at, whether or not anything hints at a change: a process that was
/// killed between a change and its notification is made up for.
const ALL: Duration = Duration::from_secs(60);

/// Looks until the process closes: while it drains it goes on.
pub async fn run(app: Arc<App>, mut closing: watch::Receiver<bool>) {
    let mut all_from = Instant::now();
    let mut rest = Duration::ZERO;
    loop {
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => return,
            () = tokio::time::sleep(rest) => (),
        }
        let began = Instant::now();
        let all = began >= all_from;
        match look(&app, all).await {
            Ok(()) if all => all_from = began + ALL,
            Ok(()) => (),
            Err(error) => {
                tracing::warn!(%error, "changes of sessions' status were not looked for");
                // What came back meanwhile was forgotten.
                all_from = began;
            }
        }
        rest = REST.max(began.elapsed() * SHARE);
    }
}

async fn look(app: &App, all: bool) -> Result<(), StoreError> {
    let now = app.clock.now_ms();
    let returned = app.presence.take_returned();
    let store = &app.store;
    let mut homes: BTreeSet<String> = if all {
        store.homes_with_webhooks(now).await?
    } else {
        store.homes_to_look_at(now - app.silent_ms, now).await?
    }
    .into_iter()
    .collect();
    homes.extend(store.homes_with_webhooks_of(&returned).await?);
    for home in homes {
        match store.tell_home(&home, app, app.clock.now_ms()).await {
            Err(error) if error.is_unavailability() => return Err(error),
            Err(error) => tracing::error!(%error, home, "changes of a home were not told"),
            Ok(_) => (),
        }
    }
    Ok(())
}
