//! The types that `qod-agent` and `qod-backend` exchange: JSON over HTTPS, always called by the agent.
//!
//! [`Instructions`] travel from the backend to the agent and are the complete desired state of one
//! agent; [`Status`] travels back and says what the agent verified in its kernel. Both sides ignore
//! fields that they do not know, so fields may be added and never change their meaning.
//!
//! Addresses, MAC addresses and ids stay strings here: what they mean, and what is wrong with them, is
//! decided session by session on the side that uses them, so that one bad session never costs the rest.
//!
//! This crate depends on serde alone; it is the only code that agent and backend share.

mod enrol;
mod instructions;
mod status;

pub use enrol::{Enrolled, RotatedToken};
pub use instructions::{
    ApplicationServer, Device, Direction, Instructions, Interface, Link, PortRange, Ports,
    QueueMode, Session,
};
pub use status::{
    ClassStatus, Counters, DeviceStatus, Medium, QueueStatus, RejectCode, SessionState,
    SessionStatus, Status, WanStatus, Warning,
};

/// Longest body of an instructions answer that an agent reads, in bytes.
pub const MAX_INSTRUCTIONS_BYTES: u64 = 8 * 1024 * 1024;
/// Most sessions of one answer that an agent reads: more than any agent holds.
pub const MAX_SESSIONS: usize = 20_000;
/// Longest time that a backend holds a poll, in seconds (`Prefer: wait`, RFC 7240).
pub const MAX_WAIT_SECONDS: u32 = 55;
/// Most port ranges of one side of a session, after merging.
pub const MAX_PORT_RANGES: usize = 16;
/// Most map elements of one session, over families, directions and ranges.
pub const MAX_SESSION_ELEMENTS: usize = 64;
/// Longest `expiresIn`, in seconds: 30 days.
pub const MAX_EXPIRES_IN_SECONDS: f64 = 30.0 * 86_400.0;

/// Whether `id` is a legal agent id: `[A-Za-z0-9._-]{1,64}`.
pub fn is_agent_id(id: &str) -> bool {
    is_id(id, |b| {
        b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')
    })
}

/// Whether `id` is a legal session id: `[A-Za-z0-9-]{1,64}`.
pub fn is_session_id(id: &str) -> bool {
    is_id(id, |b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_id(id: &str, legal: impl Fn(u8) -> bool) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_bounded_and_plain() {
        assert!(is_agent_id("home-0001") && is_agent_id("a.b_c"));
        assert!(is_session_id("3fa85f64-5717-4562-b3fc-2c963f66afa6"));
        for bad in ["", "a b", "a/b", "ä", &"x".repeat(65)] {
            assert!(!is_agent_id(bad) && !is_session_id(bad), "{bad:?}");
        }
        assert!(!is_session_id("a.b") && !is_session_id("a_b"));
    }
}
