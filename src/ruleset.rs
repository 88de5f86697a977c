//! The agent's ruleset as data: what the kernel holds, what is to change, and the trait behind which the
//! kernel stands.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use qod_wire::Counters;

use crate::dscp::Dscp;
use crate::flow::Match;
use crate::session::{Session, SessionId};

/// What the agent's table holds, read back from the kernel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ruleset {
    /// Whether the table is there, in the layout of this version.
    pub layout: Layout,
    /// Every element in force.
    pub elements: BTreeMap<Match, Held>,
    /// The device addresses that are let through to the lookups at all.
    pub devices: BTreeSet<IpAddr>,
    /// The code points that have a chain.
    pub dscps: BTreeSet<Dscp>,
    /// The base chains.
    pub hooks: BTreeSet<Hook>,
}

impl Ruleset {
    /// The element of a session, if it is as it should be.
    pub fn element(&self, session: &Session, matches: &Match) -> Option<&Held> {
        let held = self.elements.get(matches)?;
        (held.session == session.id && held.dscp == Some(session.dscp)).then_some(held)
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
    /// Made by another version; the text is its comment.
    Other(String),
}

/// An element as the kernel holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The session that it belongs to.
    pub session: SessionId,
    /// What its packets get. None: a verdict that this agent never wrote.
    pub dscp: Option<Dscp>,
    /// Time until the kernel removes it.
    pub remaining: Duration,
    /// What it matched so far; bytes of the IP layer.
    pub counters: Counters,
}

/// An element to be added.
#[derive(Clone, Debug, PartialEq)]
pub struct Element {
    /// What it matches.
    pub matches: Match,
    /// The session that it belongs to.
    pub session: SessionId,
    /// What its packets get.
    pub dscp: Dscp,
    /// Time until the kernel removes it; above zero.
    pub timeout: Duration,
    /// Where its counters begin: what a replaced element had counted.
    pub counters: Counters,
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

/// What turns one ruleset into another, in one transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// The whole table is removed, and nothing else done.
    pub clear: bool,
    /// The table is made first.
    pub create: bool,
    /// A table of another layout is removed before that, in the same transaction. Single packets are
    /// not marked meanwhile (measured on 6.18).
    pub replace: bool,
    /// Chains to be added for code points.
    pub add_dscps: BTreeSet<Dscp>,
    /// Elements to be removed, with the session that each belongs to.
    pub delete: Vec<(Match, SessionId)>,
    /// Elements to be added, after the removals.
    pub add: Vec<Element>,
    /// Device addresses to be let through.
    pub add_devices: BTreeSet<IpAddr>,
    /// Device addresses that have no element any more.
    pub delete_devices: BTreeSet<IpAddr>,
    /// Base chains to be added.
    pub add_hooks: BTreeSet<Hook>,
    /// Base chains to be removed.
    pub delete_hooks: BTreeSet<Hook>,
}

impl Changes {
    /// Everything is removed.
    pub fn clear() -> Self {
        Self {
            clear: true,
            ..Self::default()
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One message of a transaction, as errors name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// An element of a session was to be added.
    Add(SessionId),
    /// An element of a session was to be removed.
    Delete(SessionId),
    /// A base chain was to be added, or a rule of it.
    AddHook(Hook),
    /// A base chain was to be removed.
    DeleteHook(Hook),
    /// Table, map, chain, rule or device address; the text names it.
    Structure(String),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(session) => write!(f, "adding an element of session {session}"),
            Self::Delete(session) => write!(f, "removing an element of session {session}"),
            Self::AddHook(hook) => write!(f, "hooking into the {hook}"),
            Self::DeleteHook(hook) => write!(f, "leaving the {hook}"),
            Self::Structure(what) => write!(f, "{what}"),
        }
    }
}

/// Why a transaction did not happen. Nothing of it is in force.
#[derive(Debug)]
pub enum CommitError {
    /// The kernel refused these parts, each with the text of its errno.
    Refused(Vec<(Part, String)>),
    /// The kernel could not be asked, or its answer not be understood.
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(parts) => {
                write!(f, "the kernel refused the change")?;
                if let Some((part, errno)) = parts.first() {
                    write!(f, ", {part}: {errno}")?;
                }
                match parts.len() {
                    0 | 1 => Ok(()),
                    n => write!(f, " (and {} more)", n - 1),
                }
            }
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CommitError {}

/// The part of the kernel that holds the ruleset.
pub trait Kernel {
    /// Why the kernel could not be read.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Reads back all that the agent's table holds.
    ///
    /// # Errors
    /// The kernel could not be asked, or its answer not be understood.
    fn observe(&mut self) -> Result<Ruleset, Self::Error>;

    /// Makes the changes in one transaction: all or nothing.
    ///
    /// # Errors
    /// See [`CommitError`].
    fn commit(&mut self, changes: &Changes) -> Result<(), CommitError>;
}
