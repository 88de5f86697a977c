//! What turns one ruleset into another.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use qod_wire::Counters;

use super::{Hook, Limit, Treatment};
use crate::dscp::Dscp;
use crate::flow::Match;
use crate::session::SessionId;

/// An element to be added, or one in force whose end moves.
#[derive(Clone, Debug, PartialEq)]
pub struct Element {
    /// What it matches.
    pub matches: Match,
    /// The session that it belongs to.
    pub session: SessionId,
    /// What its packets get.
    pub treatment: Treatment,
    /// Time until the kernel removes it; above zero.
    pub timeout: Duration,
    /// Where its counters begin: what a replaced element had counted.
    pub counters: Counters,
}

/// What turns one ruleset into another, without a packet that loses its mark meanwhile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// All tables of the agent's are removed, and nothing else done.
    pub clear: bool,
    /// The table is made first.
    pub create: bool,
    /// A table of another layout is there, and gives way to the one that is made.
    pub replace: bool,
    /// A second table that a change left behind is removed at the end.
    pub remove_twin: bool,
    /// Chains to be added for code points.
    pub add_dscps: BTreeSet<Dscp>,
    /// Chains to be added for sessions with a highest rate.
    pub add_limits: BTreeSet<Limit>,
    /// Elements to be removed, with the session that each belongs to.
    pub delete: Vec<(Match, SessionId)>,
    /// Elements in force of which nothing but the end changes.
    pub update: Vec<Element>,
    /// Elements to be added, after the removals.
    pub add: Vec<Element>,
    /// Device addresses to be let through.
    pub add_devices: BTreeSet<IpAddr>,
    /// Device addresses that have no element any more.
    pub delete_devices: BTreeSet<IpAddr>,
    /// Base chains to be added, each with the index of its device.
    pub add_hooks: BTreeMap<Hook, u32>,
    /// Base chains to be removed, before others are added.
    pub delete_hooks: BTreeSet<Hook>,
    /// Chains to be removed that no element leads to.
    pub delete_limits: BTreeSet<Limit>,
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
