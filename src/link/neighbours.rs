//! The devices that the kernel knows: neighbour tables, and behind which port a bridge saw a station.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{Emitable, NLM_F_CREATE, NLM_F_REPLACE, Parseable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use nix::libc::{RTM_GETNEIGH, RTM_NEWNEIGH};

use super::{Error, Links, Snapshot};
use crate::mac::Mac;

/// `USER_HZ`, in which the kernel gives ages: the same on every architecture that Linux routers have.
const TICK: Duration = Duration::from_millis(10);

/// What the kernel knows at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbours {
    /// Entries of the neighbour tables (ARP, NDP) of the LAN devices.
    pub entries: Vec<Neighbour>,
    /// What bridges learnt of their members' stations. The router's own are not among them.
    pub stations: Vec<Station>,
}

/// One entry of a neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Index of the LAN device.
    pub lan: u32,
    /// The neighbour's address.
    pub address: IpAddr,
    /// What is known of it.
    pub standing: Standing,
    /// How long ago the neighbour was last known to be there.
    pub age: Duration,
}

/// How an entry of a neighbour table stands (`linux/neighbour.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Somebody has written its MAC address down, and nobody is asked.
    Kept(Mac),
    /// Its MAC address was confirmed lately.
    Live(Mac),
    /// Its MAC address was confirmed some time ago. That nobody asked since says nothing against it.
    Stale(Mac),
    /// It is being asked.
    Asked,
    /// It was asked and did not answer.
    Failed,
}

impl Standing {
    /// The neighbour's MAC address.
    pub fn mac(self) -> Option<Mac> {
        match self {
            Self::Kept(mac) | Self::Live(mac) | Self::Stale(mac) => Some(mac),
            Self::Asked | Self::Failed => None,
        }
    }
}

/// A MAC address behind a member of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    /// The station.
    pub mac: Mac,
    /// Index of the member.
    pub port: u32,
    /// How long ago the bridge learnt it there.
    pub age: Duration,
}

impl Links {
    /// What the kernel knows now of the devices behind these links.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub async fn neighbours(&self, snapshot: &Snapshot) -> Result<Neighbours, Error> {
        let scope = Scope::new(snapshot);
        let tables = self.dump(AddressFamily::Unspec).await;
        let tables = tables.map_err(Error::io("reading the neighbour tables"))?;
        // With a bridge there is a forwarding database; without one the kernel may not know the word.
        let stations = if snapshot.lans.iter().any(|lan| lan.is_bridge) {
            let database = self.dump(AddressFamily::Bridge).await;
            database.map_err(Error::io("reading the bridges' stations"))?
        } else {
            Vec::new()
        };
        Ok(Neighbours {
            entries: tables.iter().filter_map(|m| scope.entry(m)).collect(),
            stations: stations.iter().filter_map(|m| scope.station(m)).collect(),
        })
    }

    async fn dump(&self, family: AddressFamily) -> io::Result<Vec<NeighbourMessage>> {
        let mut request = NeighbourMessage::default();
        request.header.family = family;
        let bodies = self.rtnetlink.dump(RTM_GETNEIGH, body(&request)).await?;
        let read = |body: &Vec<u8>| NeighbourMessage::parse(body).ok();
        Ok(bodies.iter().filter_map(read).collect())
    }

    /// Makes the kernel ask for an address that it does not know, by ARP or NDP, as if it had a packet
    /// for it. The answer, or that there is none, is in its table later.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub async fn ask(&self, lan: u32, address: IpAddr) -> Result<(), Error> {
        let mut entry = entry(lan, address, NeighbourState::None);
        entry.header.flags = NeighbourFlags::Use;
        let result = self.replace(&entry).await;
        result.map_err(Error::io("asking for a neighbour"))
    }

    /// Makes the kernel ask a neighbour that it knows whether it is still there. Its answer passes the
    /// bridge, which learns behind which port it is. Not for entries that are kept by hand: they would
    /// be so no longer.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub async fn confirm(&self, lan: u32, address: IpAddr) -> Result<(), Error> {
        let entry = entry(lan, address, NeighbourState::Probe);
        let result = self.replace(&entry).await;
        result.map_err(Error::io("asking a neighbour"))
    }

    async fn replace(&self, entry: &NeighbourMessage) -> io::Result<()> {
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.rtnetlink.order(RTM_NEWNEIGH, flags, body(entry)).await
    }
}

fn entry(lan: u32, address: IpAddr, state: NeighbourState) -> NeighbourMessage {
    let mut entry = NeighbourMessage::default();
    let (family, address) = match address {
        IpAddr::V4(v4) => (AddressFamily::Inet, NeighbourAddress::Inet(v4)),
        IpAddr::V6(v6) => (AddressFamily::Inet6, NeighbourAddress::Inet6(v6)),
    };
    entry.header.family = family;
    entry.header.ifindex = lan;
    entry.header.state = state;
    entry.attributes = vec![NeighbourAttribute::Destination(address)];
    entry
}

fn body(message: &NeighbourMessage) -> Vec<u8> {
    let mut body = vec![0; message.buffer_len()];
    message.emit(&mut body);
    body
}

/// Which devices count.
#[derive(Default)]
struct Scope {
    lans: HashSet<u32>,
    members: HashSet<u32>,
}

impl Scope {
    fn new(snapshot: &Snapshot) -> Self {
        let members = snapshot.ports.iter().filter(|port| port.bridge.is_some());
        Self {
            lans: snapshot.lans.iter().map(|lan| lan.index).collect(),
            members: members.map(|port| port.index).collect(),
        }
    }

    fn entry(&self, message: &NeighbourMessage) -> Option<Neighbour> {
        let lan = message.header.ifindex;
        if !self.lans.contains(&lan) || message.header.flags.contains(NeighbourFlags::Proxy) {
            return None;
        }
        let mut entry = Neighbour {
            lan,
            address: address(message)?,
            standing: Standing::Failed,
            age: age(message, |info| info.confirmed),
        };
        entry.standing = match (message.header.state, mac(message)) {
            (NeighbourState::Incomplete, _) => Standing::Asked,
            (NeighbourState::Failed, _) => Standing::Failed,
            (NeighbourState::Stale, Some(mac)) => Standing::Stale(mac),
            (NeighbourState::Permanent, Some(mac)) => Standing::Kept(mac),
            (
                NeighbourState::Reachable | NeighbourState::Delay | NeighbourState::Probe,
                Some(mac),
            ) => Standing::Live(mac),
            // Groups, and what was never asked for.
            _ => return None,
        };
        Some(entry)
    }

    fn station(&self, message: &NeighbourMessage) -> Option<Station> {
        let header = &message.header;
        let is_own =
            header.state == NeighbourState::Permanent || header.flags.contains(NeighbourFlags::Own);
        if is_own || !self.members.contains(&header.ifindex) {
            return None;
        }
        Some(Station {
            mac: mac(message)?,
            port: header.ifindex,
            age: age(message, |info| info.updated),
        })
    }
}

fn address(message: &NeighbourMessage) -> Option<IpAddr> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some((*v4).into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some((*v6).into()),
            _ => None,
        })
}

fn mac(message: &NeighbourMessage) -> Option<Mac> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(octets) => Mac::new(octets),
            _ => None,
        })
}

fn age(
    message: &NeighbourMessage,
    which: impl Fn(&netlink_packet_route::neighbour::NeighbourCacheInfo) -> u32,
) -> Duration {
    let ticks = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::CacheInfo(info) => Some(which(info)),
            _ => None,
        });
    TICK.saturating_mul(ticks.unwrap_or(u32::MAX))
}

/// What was last seen, to tell news from mere changes of state.
#[derive(Default)]
pub(super) struct Known {
    scope: Scope,
    /// None: without a MAC address.
    entries: HashMap<(u32, IpAddr), Option<Mac>>,
    stations: HashSet<(u32, Mac)>,
}

impl Known {
    pub(super) fn new(neighbours: &Neighbours, snapshot: &Snapshot) -> Self {
        let entries = neighbours.entries.iter();
        let stations = neighbours.stations.iter();
        Self {
            scope: Scope::new(snapshot),
            entries: entries
                // That an asked one has failed is news.
                .filter(|entry| entry.standing != Standing::Asked)
                .map(|entry| ((entry.lan, entry.address), entry.standing.mac()))
                .collect(),
            stations: stations.map(|s| (s.port, s.mac)).collect(),
        }
    }

    /// Whether a message says something else than what was last seen.
    pub(super) fn is_news(&self, message: &NeighbourMessage, deleted: bool) -> bool {
        if message.header.family == AddressFamily::Bridge {
            let Some(station) = self.scope.station(message) else {
                return false;
            };
            return self.stations.contains(&(station.port, station.mac)) == deleted;
        }
        let Some(entry) = self.scope.entry(message) else {
            return false;
        };
        let known = self.entries.get(&(entry.lan, entry.address));
        if deleted {
            // That one without a MAC address goes is none.
            return known.copied().flatten().is_some();
        }
        known != Some(&entry.standing.mac())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{Lan, Port};
    use qod_wire::Medium;

    const LAN: u32 = 3;
    const PORT: u32 = 4;

    fn snapshot() -> Snapshot {
        Snapshot {
            lans: vec![Lan {
                name: "br-lan".to_owned(),
                index: LAN,
                is_bridge: true,
                is_up: true,
                prefixes: Vec::new(),
            }],
            ports: vec![Port {
                name: "lan1".to_owned(),
                index: PORT,
                medium: Medium::Wired,
                bridge: Some("br-lan".to_owned()),
            }],
            ..Snapshot::default()
        }
    }

    fn message(index: u32, host: u8, state: NeighbourState, mac: Option<u8>) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = index;
        message.header.state = state;
        let address = NeighbourAddress::Inet([192, 168, 1, host].into());
        message
            .attributes
            .push(NeighbourAttribute::Destination(address));
        message.attributes.extend(
            mac.map(|last| NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, last])),
        );
        message
    }

    fn station(index: u32, state: NeighbourState, last: u8) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = index;
        message.header.state = state;
        let octets = vec![2, 0, 0, 0, 0, last];
        message
            .attributes
            .push(NeighbourAttribute::LinkLayerAddress(octets));
        message
    }

    fn known(tables: &[NeighbourMessage], database: &[NeighbourMessage]) -> Known {
        let scope = Scope::new(&snapshot());
        let neighbours = Neighbours {
            entries: tables.iter().filter_map(|m| scope.entry(m)).collect(),
            stations: database.iter().filter_map(|m| scope.station(m)).collect(),
        };
        Known::new(&neighbours, &snapshot())
    }

    #[test]
    fn a_change_of_state_is_no_news_and_another_mac_is() {
        use NeighbourState::{Delay, Failed, Incomplete, Noarp, Probe, Reachable, Stale};
        let known = known(
            &[
                message(LAN, 23, Reachable, Some(0x17)),
                message(LAN, 24, Incomplete, None),
                message(LAN, 25, Failed, None),
            ],
            &[],
        );
        for state in [Reachable, Stale, Delay, Probe] {
            assert!(!known.is_news(&message(LAN, 23, state, Some(0x17)), false));
            assert!(known.is_news(&message(LAN, 23, state, Some(0x18)), false));
        }
        assert!(known.is_news(&message(LAN, 23, Failed, Some(0x17)), false));
        assert!(known.is_news(&message(LAN, 23, Stale, Some(0x17)), true));
        // The answer to a question, either way.
        assert!(known.is_news(&message(LAN, 24, Failed, None), false));
        assert!(known.is_news(&message(LAN, 24, Reachable, Some(0x18)), false));
        assert!(!known.is_news(&message(LAN, 25, Failed, None), false));
        assert!(!known.is_news(&message(LAN, 25, Failed, None), true));
        assert!(known.is_news(&message(LAN, 25, Reachable, Some(0x19)), false));
        // Groups, and other devices' neighbours.
        assert!(!known.is_news(&message(LAN, 30, Noarp, Some(0x19)), false));
        assert!(!known.is_news(&message(LAN + 9, 23, Reachable, Some(0x18)), false));
    }

    #[test]
    fn a_station_that_moves_is_news() {
        use NeighbourState::{Permanent, Reachable};
        let known = known(&[], &[station(PORT, Reachable, 0x17)]);
        assert!(!known.is_news(&station(PORT, Reachable, 0x17), false));
        assert!(known.is_news(&station(PORT, Reachable, 0x17), true));
        assert!(known.is_news(&station(PORT, Reachable, 0x18), false));
        assert!(!known.is_news(&station(PORT, Reachable, 0x18), true));
        // The member's own address.
        assert!(!known.is_news(&station(PORT, Permanent, 0x11), false));
        assert!(!known.is_news(&station(PORT + 9, Reachable, 0x18), false));
    }
}
