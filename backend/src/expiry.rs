//! Ends sessions when their time is over: at that moment, and what ended while no process ran at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::server::App;
use crate::store::{Store, StoreError};

/// Longest wait. No session is shorter, so none is made and over between two looks.
const LONGEST: Duration = Duration::from_secs(1);
/// Shortest wait: a clock that stands must not keep a processor busy.
const SHORTEST: Duration = Duration::from_millis(5);

/// Ends sessions until the process closes: while it drains it goes on.
pub async fn run(app: Arc<App>, mut closing: watch::Receiver<bool>) {
    loop {
        let wait = match sweep(&app).await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::warn!(%error, "ended sessions were not removed");
                LONGEST
            }
        };
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => return,
            () = tokio::time::sleep(wait) => (),
        }
    }
}

/// Ends what is over, and says how long to wait.
async fn sweep(app: &App) -> Result<Duration, StoreError> {
    loop {
        let Some(next) = app.store.next_expiry().await? else {
            return Ok(LONGEST);
        };
        let now = app.clock.now_ms();
        if next > now {
            return Ok(wait(next - now));
        }
        while app.store.end_expired(now).await? == Store::MOST_EXPIRED {}
    }
}

fn wait(milliseconds: i64) -> Duration {
    u64::try_from(milliseconds)
        .map_or(SHORTEST, Duration::from_millis)
        .clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits() {
        for (milliseconds, wanted) in [(i64::MIN, 5), (0, 5), (250, 250), (i64::MAX, 1_000)] {
            assert_eq!(wait(milliseconds), Duration::from_millis(wanted));
        }
    }
}
