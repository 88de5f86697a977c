//! Waits for a condition, with a limit.

use std::env;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A limit as it holds on this machine: `QOD_LAB_PATIENCE` times as long, for one that is emulated.
pub fn patient(limit: Duration) -> Duration {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    let factor = FACTOR.get_or_init(|| match env::var("QOD_LAB_PATIENCE") {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|e| panic!("QOD_LAB_PATIENCE={text}: {e}")),
        Err(_) => 1,
    });
    limit * *factor
}

/// Asks every 2 ms until there is an answer; `None` when the time is over.
pub fn until<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + patient(limit);
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
    until(limit, ask).unwrap_or_else(|| panic!("not within {:?}: {what}", patient(limit)))
}
