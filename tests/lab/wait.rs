//! Waits for a condition, with a limit.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Asks every 2 ms until there is an answer; `None` when the time is over.
pub fn until<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        sleep(Duration::from_millis(2));
    }
}

/// As [`until`], and panics with `what` when the time is over.
pub fn expect<T>(what: &str, limit: Duration, ask: impl FnMut() -> Option<T>) -> T {
    until(limit, ask).unwrap_or_else(|| panic!("not within {limit:?}: {what}"))
}
