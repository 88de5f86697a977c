//! Sessions as the agent understands them. No I/O.

mod device;
mod parse;
mod read;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use qod_wire::RejectCode;

use crate::dscp::Dscp;
use crate::excerpt::excerpt;
use crate::flow::Match;
pub use read::read;

/// A session's id, shared by its elements.
pub type SessionId = Arc<str>;

/// A session that can be installed.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// The backend's id.
    pub id: SessionId,
    /// What its packets carry.
    pub dscp: Dscp,
    /// When it ends, on the boot-time clock. None: when it is withdrawn.
    pub ends: Option<Duration>,
    /// Everything that it matches; never empty, and no two of them overlap.
    pub matches: Vec<Match>,
}

/// Why a session is not installed.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    /// The contract's code.
    pub code: RejectCode,
    /// The reason in a sentence, with the value that is wrong.
    pub message: String,
}

impl Rejection {
    pub(crate) fn new(code: RejectCode, message: impl Into<String>) -> Self {
        Self {
            code,
            // It may quote what was sent.
            message: excerpt(&message.into()),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// One entry of the instructions, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The backend's id.
    pub id: SessionId,
    /// The session, or why it cannot be installed whatever the kernel holds.
    pub session: Result<Session, Rejection>,
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
