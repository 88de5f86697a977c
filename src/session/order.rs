//! What a session asks for, whatever the home looks like.

use std::net::IpAddr;
use std::time::Duration;

use qod_wire::{Direction, Interface};

use super::{Ceilings, Device, Session, SessionId};
use crate::dscp::Dscp;
use crate::flow::{Family, Match, Peer, PortRange, Prefix, Way};

/// A session as the backend asks for it, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// The backend's id.
    pub id: SessionId,
    /// The device in the home.
    pub device: Device,
    /// The other end, at most one a family. None: any.
    pub servers: Option<Vec<Prefix>>,
    /// Ports on the device, apart and in order. None: any, and every protocol.
    pub device_ports: Option<Vec<PortRange>>,
    /// Ports on the server, likewise.
    pub server_ports: Option<Vec<PortRange>>,
    /// Which way packets are marked.
    pub direction: Direction,
    /// How the device must be attached. None: anyhow.
    pub required_interface: Option<Interface>,
    /// What packets carry.
    pub dscp: Dscp,
    /// When it ends, on the boot-time clock. None: when it is withdrawn.
    pub ends: Option<Duration>,
    /// Rates above which packets keep the mark and lose the queue.
    pub ceilings: Ceilings,
}

impl Order {
    /// The session with these addresses of the device; those of another family than the servers' are left
    /// out.
    pub fn session(&self, addresses: &[IpAddr]) -> Session {
        let mut matches = Vec::new();
        for &device in addresses {
            let Some(server) = self.server(Family::of(device)) else {
                continue;
            };
            for way in self.ways() {
                let peers = self.peers(server);
                matches.extend(peers.map(|peer| Match { way, device, peer }));
            }
        }
        Session {
            id: self.id.clone(),
            dscp: self.dscp,
            ends: self.ends,
            ceilings: self.ceilings,
            matches,
        }
    }

    /// The families in which it has a server, IPv4 first; both, if any server will do.
    pub fn families(&self) -> impl Iterator<Item = Family> {
        Family::ALL
            .into_iter()
            .filter(|family| self.server(*family).is_some())
    }

    /// Map elements that one address of the device needs.
    pub fn elements_per_address(&self) -> usize {
        let ranges = |ports: &Option<Vec<PortRange>>| ports.as_ref().map_or(1, Vec::len);
        self.ways().count() * ranges(&self.device_ports) * ranges(&self.server_ports)
    }

    fn server(&self, family: Family) -> Option<Prefix> {
        match &self.servers {
            None => Some(Prefix::any(family)),
            Some(list) => list
                .iter()
                .copied()
                .find(|server| server.family() == family),
        }
    }

    fn ways(&self) -> impl Iterator<Item = Way> {
        let direction = self.direction;
        Way::ALL.into_iter().filter(move |way| match direction {
            Direction::Both => true,
            Direction::Upstream => *way == Way::Up,
            Direction::Downstream => *way == Way::Down,
        })
    }

    fn peers(&self, server: Prefix) -> impl Iterator<Item = Peer> {
        const ANY: &[PortRange] = &[PortRange::ANY];
        let whole = match (&self.device_ports, &self.server_ports, &self.servers) {
            (None, None, Some(_)) => Some(Peer::Host(server)),
            (None, None, None) => Some(Peer::Whole),
            _ => None,
        };
        let device = match (&whole, &self.device_ports) {
            (Some(_), _) => &[],
            (None, ports) => ports.as_deref().unwrap_or(ANY),
        };
        let server_side = self.server_ports.as_deref().unwrap_or(ANY);
        let pairs = device
            .iter()
            .flat_map(move |d| server_side.iter().map(move |s| (*d, *s)));
        let with_ports = pairs.map(move |(device_ports, server_ports)| Peer::Ports {
            server,
            device_ports,
            server_ports,
        });
        whole.into_iter().chain(with_ports)
    }
}
