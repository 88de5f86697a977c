//! The agent's ruleset as data: what the kernel holds, what is to change, and the trait behind which the
//! kernel stands.

mod changes;
mod kernel;
#[cfg(test)]
mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use qod_wire::Counters;

use crate::dscp::Dscp;
use crate::flow::{Match, Way};
use crate::session::{Session, SessionId};
pub use changes::{Changes, Element};
pub use kernel::{CommitError, Kernel, Part};

/// What the agent's table holds, read back from the kernel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ruleset {
    /// Whether the table is there, in the layout of this version.
    pub layout: Layout,
    /// Every element in force. Of another layout, those that this version can read.
    pub elements: BTreeMap<Match, Held>,
    /// The device addresses that are let through to the lookups at all.
    pub devices: BTreeSet<IpAddr>,
    /// The code points that have their chains.
    pub dscps: BTreeSet<Dscp>,
    /// The chains that bound a session's rate.
    pub limits: BTreeSet<Limit>,
    /// The base chains, each with the index of the device that it was hung on; none: it does not say.
    pub hooks: BTreeMap<Hook, Option<u32>>,
    /// Whether a second table is there: a change that was cut off left it behind.
    pub twin: bool,
}

impl Ruleset {
    /// The element of a session, if it is as it should be.
    pub fn element(&self, session: &Session, matches: &Match) -> Option<&Held> {
        let held = self.elements.get(matches)?;
        let right = held.session == session.id
            && held.treatment == Some(Treatment::of(session, matches.way));
        right.then_some(held)
    }

    /// Time until the kernel ends a session; none, unless it holds all of it.
    pub fn remaining(&self, session: &Session) -> Option<Duration> {
        let elements = session
            .matches
            .iter()
            .map(|matches| self.element(session, matches));
        let remaining = elements.map(|held| Some(held?.remaining));
        remaining.collect::<Option<Vec<_>>>()?.into_iter().min()
    }
}

/// Whether a table of the agent's is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// No table.
    #[default]
    Absent,
    /// As this version makes it.
    Current,
    /// Made by another version, or no longer as it was made; the text says which.
    Other(String),
}

/// An element as the kernel holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The session that it belongs to.
    pub session: SessionId,
    /// What its packets get. None: a verdict that this agent never wrote.
    pub treatment: Option<Treatment>,
    /// Time until the kernel removes it.
    pub remaining: Duration,
    /// What it matched so far; bytes of the IP layer.
    pub counters: Counters,
}

/// What the packets of a session get, one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Treatment {
    /// Their code point.
    pub dscp: Dscp,
    /// The rate in kbit/s above which they have no queue of their own.
    pub ceiling_kbps: Option<u64>,
}

impl Treatment {
    /// What a session asks for its packets of that way.
    pub fn of(session: &Session, way: Way) -> Self {
        Self {
            dscp: session.dscp,
            ceiling_kbps: session.ceilings.of(way),
        }
    }
}

/// The chain that bounds the rate of one session, one way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Limit {
    /// The session whose elements lead to it.
    pub session: SessionId,
    /// Of which packets.
    pub way: Way,
    /// What those below the rate get.
    pub dscp: Dscp,
    /// The rate, in kbit/s.
    pub kbps: u64,
}

impl Limit {
    /// The chain to which a session's elements of that way lead; none, if it has no highest rate.
    pub fn of(session: &SessionId, way: Way, treatment: Treatment) -> Option<Self> {
        Some(Self {
            session: session.clone(),
            way,
            dscp: treatment.dscp,
            kbps: treatment.ceiling_kbps?,
        })
    }
}

/// A base chain: one place where packets meet the table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Ingress of a LAN port: marks what a device sends.
    Up(String),
    /// Egress of a LAN port: marks what a device receives.
    Down(String),
    /// Egress of the WAN device: gives marked packets their queue.
    Out(String),
}

impl Hook {
    /// The Linux device that it hangs on.
    pub fn device(&self) -> &str {
        match self {
            Self::Up(device) | Self::Down(device) | Self::Out(device) => device,
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up(device) => write!(f, "ingress of {device}"),
            Self::Down(device) | Self::Out(device) => write!(f, "egress of {device}"),
        }
    }
}
