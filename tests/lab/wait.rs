//! Waits for a condition, with a limit.

use std::env;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How much slower than a real machine this one is: `QOD_LAB_PATIENCE`, for one that is emulated.
fn patience() -> u32 {
    static PATIENCE: OnceLock<u32> = OnceLock::new();
    *PATIENCE.get_or_init(|| match env::var("QOD_LAB_PATIENCE") {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|e| panic!("QOD_LAB_PATIENCE={text}: {e}")),
        Err(_) => 1,
    })
}

/// A limit as it holds on this machine.
pub fn patient(limit: Duration) -> Duration {
    limit * patience()
}

/// How many of so many repetitions this machine has time for.
pub fn repetitions(count: u32) -> u32 {
    count.div_ceil(patience())
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
