//! Wakes the polls that wait for a home to change.
//!
//! A change made by this process wakes them directly, after its commit. A change made by another process over
//! the same database is found by [`Wake::raise`]d revisions that a slow query reads (see `server`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The homes that somebody waits for.
#[derive(Clone, Debug, Default)]
pub struct Wake(Arc<Mutex<HashMap<String, Entry>>>);

#[derive(Debug)]
struct Entry {
    revision: watch::Sender<i64>,
    waiters: usize,
}

impl Wake {
    /// Begins to wait for `home`. To be called before the home is read, so that no change falls in between.
    pub fn wait_for(&self, home: &str) -> Waiter {
        let mut homes = self.lock();
        let entry = homes.entry(home.to_owned()).or_insert_with(|| Entry {
            revision: watch::Sender::new(0),
            waiters: 0,
        });
        entry.waiters += 1;
        Waiter {
            home: home.to_owned(),
            wake: self.clone(),
            revision: entry.revision.subscribe(),
        }
    }

    /// Tells that `home` is now at `revision`. Nothing happens if nobody waits, or if it is no news.
    pub fn raise(&self, home: &str, revision: i64) {
        if let Some(entry) = self.lock().get(home) {
            entry.revision.send_if_modified(|known| {
                let news = revision > *known;
                *known = revision.max(*known);
                news
            });
        }
    }

    /// Whether nobody waits for anything.
    pub fn is_idle(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        // A count and a sender are whole at every step, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One poll that waits for one home.
///
/// It remembers the revision that it saw, since [`Wake::raise`] tells of a change more than once: the process that
/// made it does, and then whoever looks for other processes' changes finds it again for some seconds.
#[derive(Debug)]
pub struct Waiter {
    home: String,
    wake: Wake,
    revision: watch::Receiver<i64>,
}

impl Waiter {
    /// Resolves when the home was raised to a revision above `seen`.
    pub async fn above(&mut self, seen: i64) {
        if self
            .revision
            .wait_for(|revision| *revision > seen)
            .await
            .is_err()
        {
            // The sender lives as long as its waiters: this is never reached, and never resolving is harmless.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut homes = self.wake.lock();
        if let Some(entry) = homes.get_mut(&self.home) {
            entry.waiters = entry.waiters.saturating_sub(1);
            if entry.waiters == 0 {
                homes.remove(&self.home);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn rests(waiter: &mut Waiter, seen: i64) -> bool {
        tokio::time::timeout(std::time::Duration::ZERO, waiter.above(seen))
            .await
            .is_err()
    }

    #[tokio::test]
    async fn every_waiter_of_the_home_wakes_and_no_other() {
        let wake = Wake::default();
        let (mut first, mut second) = (wake.wait_for("a"), wake.wait_for("a"));
        let mut other = wake.wait_for("b");
        wake.raise("a", 7);
        first.above(6).await;
        second.above(6).await;
        assert!(rests(&mut other, 0).await);
        wake.raise("b", 1);
        other.above(0).await;
        wake.raise("a", 7);
        assert!(rests(&mut first, 7).await, "no news");
        let mut late = wake.wait_for("a");
        drop((first, second));
        wake.raise("a", 7);
        assert!(rests(&mut late, 7).await, "it came with 7");
        drop((late, other));
        assert!(wake.is_idle());
    }
}
