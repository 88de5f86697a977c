//! How often the store failed in this process.
//!
//! Statements fail in many places, of which most have no request and none has more to say than what is counted here.

use std::sync::atomic::{AtomicU64, Ordering};

use super::StoreError;

static UNAVAILABLE: AtomicU64 = AtomicU64::new(0);
static OTHER: AtomicU64 = AtomicU64::new(0);

pub(super) fn count(error: &StoreError) {
    let counter = if error.is_unavailability() {
        &UNAVAILABLE
    } else {
        &OTHER
    };
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Statements that failed since the store was unreachable, busy or full.
pub fn unavailable() -> u64 {
    UNAVAILABLE.load(Ordering::Relaxed)
}

/// Statements that failed for another reason.
pub fn other() -> u64 {
    OTHER.load(Ordering::Relaxed)
}
