//! Sessions as the agent understands them. No I/O.
//!
//! The wire has orders ([`read`]): a device by its addresses, servers, ports. What an order means in this
//! home is a [`Session`], and that changes with the home: [`Bonds::resolve`].

mod device;
mod order;
mod parse;
mod read;
mod resolve;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use qod_wire::RejectCode;

use crate::dscp::Dscp;
use crate::excerpt::excerpt;
use crate::flow::{Match, Way};
pub use device::Device;
pub use order::Order;
pub use read::{Item, read};
pub use resolve::{Bonds, Resolution};

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
    /// Rates above which its packets keep the mark and lose the queue.
    pub ceilings: Ceilings,
    /// Everything that it matches; no two of them overlap. Empty only when its time is over.
    pub matches: Vec<Match>,
}

/// Highest rates of a session in kbit/s (1 kbit = 1,000 bit); none: unbounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ceilings {
    /// From the device.
    pub up: Option<u64>,
    /// To the device.
    pub down: Option<u64>,
}

impl Ceilings {
    /// The rate of one way.
    pub fn of(self, way: Way) -> Option<u64> {
        match way {
            Way::Up => self.up,
            Way::Down => self.down,
        }
    }
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
    /// How it stands, whatever the kernel holds.
    pub standing: Standing,
}

/// What the agent can say of an entry before it asks the kernel.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// It can be installed.
    Ready(Session),
    /// It cannot.
    Rejected(Rejection),
    /// The device is being looked for. What is in force of the session stays meanwhile.
    Probing,
}

impl Standing {
    /// The session, if it can be installed.
    pub fn ready(&self) -> Option<&Session> {
        match self {
            Self::Ready(session) => Some(session),
            Self::Rejected(_) | Self::Probing => None,
        }
    }
}

impl From<Result<Session, Rejection>> for Standing {
    fn from(result: Result<Session, Rejection>) -> Self {
        match result {
            Ok(session) => Self::Ready(session),
            Err(rejection) => Self::Rejected(rejection),
        }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
