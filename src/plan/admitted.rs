//! What is admitted so far, and what overlaps it.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::flow::{Match, Peer, PortRange, Way};
use crate::session::{Session, SessionId};

/// A range of more ports is not kept under each of them.
const NARROW: u16 = 16;

/// The matches admitted so far, by what two overlapping ones always share.
#[derive(Default)]
pub(super) struct Admitted<'a> {
    count: usize,
    matches: HashMap<(Way, IpAddr), Near<'a>>,
}

/// The matches of one device, one way. Thousands of them usually differ in the server's port, so those with
/// few ports are found by each of theirs.
#[derive(Default)]
struct Near<'a> {
    narrow: BTreeMap<u16, Vec<(Match, &'a SessionId)>>,
    wide: Vec<(Match, &'a SessionId)>,
}

impl<'a> Admitted<'a> {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The session that has a match which one of this session's overlaps.
    pub(super) fn overlapping(&self, session: &Session) -> Option<&'a SessionId> {
        session
            .matches
            .iter()
            .find_map(|wanted| self.holder(wanted))
    }

    /// The session that has a match which this one overlaps.
    pub(super) fn holder(&self, wanted: &Match) -> Option<&'a SessionId> {
        let near = self.matches.get(&(wanted.way, wanted.device))?;
        let PortRange { from, to } = server_ports(wanted);
        let narrow = near.narrow.range(from..=to).flat_map(|(_, list)| list);
        near.wide
            .iter()
            .chain(narrow)
            .find(|(held, _)| held.overlaps(wanted))
            .map(|(_, id)| *id)
    }

    pub(super) fn push(&mut self, session: &'a Session) {
        self.count += 1;
        for matches in &session.matches {
            let near = self
                .matches
                .entry((matches.way, matches.device))
                .or_default();
            let PortRange { from, to } = server_ports(matches);
            if to - from < NARROW {
                for port in from..=to {
                    let list = near.narrow.entry(port).or_default();
                    list.push((*matches, &session.id));
                }
            } else {
                near.wide.push((*matches, &session.id));
            }
        }
    }
}

fn server_ports(matches: &Match) -> PortRange {
    match matches.peer {
        Peer::Ports { server_ports, .. } => server_ports,
        Peer::Host(_) | Peer::Whole => PortRange::ANY,
    }
}
