//! Section `limits`: what each consumer may do that has no limits of its own.

use crate::json::{Invalid, Object};

/// Limits of a consumer. `None`: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `requestsPerSecond`, of one process.
    pub requests_per_second: Option<i64>,
    /// `burst`: requests at once after a rest. Absent: those of a second.
    pub burst: Option<i64>,
    /// `maxSessions`: sessions at once.
    pub max_sessions: Option<i64>,
    /// `maxSessionsPerHome`: sessions at once in one home.
    pub max_sessions_per_home: Option<i64>,
}

pub(super) fn read(object: &Object<'_>) -> Result<Limits, Invalid> {
    object.only(&[
        "requestsPerSecond",
        "burst",
        "maxSessions",
        "maxSessionsPerHome",
    ])?;
    Ok(Limits {
        requests_per_second: rate(object, "requestsPerSecond")?,
        burst: rate(object, "burst")?,
        max_sessions: cap(object, "maxSessions")?,
        max_sessions_per_home: cap(object, "maxSessionsPerHome")?,
    })
}

/// A number of requests.
pub fn rate(object: &Object<'_>, key: &str) -> Result<Option<i64>, Invalid> {
    object
        .get(key)
        .map(|node| node.integer(1..=100_000))
        .transpose()
}

/// A number of sessions, which may be 0.
pub fn cap(object: &Object<'_>, key: &str) -> Result<Option<i64>, Invalid> {
    object
        .get(key)
        .map(|node| node.integer(0..=1_000_000))
        .transpose()
}
