//! Flows: what a map element matches, and whether two flows overlap. No I/O.

mod ports;
mod prefix;

use std::net::IpAddr;

pub use ports::{PortRange, merge};
pub use prefix::{AddressError, Family, Prefix, parse_address};

/// Which way packets go, seen from the home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// From the device.
    Up,
    /// To the device.
    Down,
}

impl Way {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Up, Self::Down];
}

/// What one map element matches: packets of one device, one way.
///
/// The fields that are present decide the map: with ports, without ports, or whole device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Match {
    /// From the device or to it.
    pub way: Way,
    /// The device's address in the home.
    pub device: IpAddr,
    /// What is at the other end.
    pub peer: Peer,
}

/// The other end of a [`Match`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// Anything: a whole-device setting, which ranks below every flow.
    Whole,
    /// A server, whatever the protocol.
    Host(Prefix),
    /// Ports of a server, for protocols that have ports.
    Ports {
        /// The server.
        server: Prefix,
        /// Ports on the device.
        device_ports: PortRange,
        /// Ports on the server.
        server_ports: PortRange,
    },
}

impl Match {
    /// The family of its addresses.
    pub fn family(&self) -> Family {
        Family::of(self.device)
    }

    /// Whether some packet would match both, at the same rank.
    ///
    /// A whole-device setting conflicts only with another one of the same device: flows come first.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.way == other.way && self.device == other.device && self.peer.overlaps(&other.peer)
    }
}

impl Peer {
    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Whole, Self::Whole) => true,
            (Self::Whole, _) | (_, Self::Whole) => false,
            (Self::Host(a) | Self::Ports { server: a, .. }, Self::Host(b))
            | (Self::Host(a), Self::Ports { server: b, .. }) => a.overlaps(*b),
            (
                Self::Ports {
                    server: a,
                    device_ports: ad,
                    server_ports: asp,
                },
                Self::Ports {
                    server: b,
                    device_ports: bd,
                    server_ports: bsp,
                },
            ) => a.overlaps(*b) && ad.overlaps(*bd) && asp.overlaps(*bsp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_flow_outranks_a_whole_device_setting_without_conflict() {
        let device = IpAddr::from([192, 168, 1, 23]);
        let whole = Match {
            way: Way::Up,
            device,
            peer: Peer::Whole,
        };
        let host = Match {
            way: Way::Up,
            device,
            peer: Peer::Host(Prefix::any(Family::V4)),
        };
        assert!(!whole.overlaps(&host) && !host.overlaps(&whole));
        assert!(whole.overlaps(&whole) && host.overlaps(&host));
        assert!(!whole.overlaps(&Match {
            way: Way::Down,
            ..whole
        }));
    }

    /// A model small enough to enumerate: 3-bit address space within 10.0.0.0/29, ports 0 to 7.
    fn small_peer() -> impl Strategy<Value = Peer> {
        let server = (0u8..8, 29u8..=32).prop_map(|(host, length)| {
            Prefix::new(IpAddr::from([10, 0, 0, host]), length).unwrap()
        });
        let ports = || {
            (0u16..8, 0u16..8).prop_map(|(a, b)| PortRange {
                from: a.min(b),
                to: a.max(b),
            })
        };
        prop_oneof![
            server.clone().prop_map(Peer::Host),
            (server, ports(), ports()).prop_map(|(server, device_ports, server_ports)| {
                Peer::Ports {
                    server,
                    device_ports,
                    server_ports,
                }
            }),
        ]
    }

    fn matches(peer: &Peer, host: u8, device_port: u16, server_port: u16) -> bool {
        let inside =
            |net: &Prefix| (net.first()..=net.last()).contains(&IpAddr::from([10, 0, 0, host]));
        match peer {
            Peer::Whole => true,
            Peer::Host(server) => inside(server),
            Peer::Ports {
                server,
                device_ports,
                server_ports,
            } => {
                inside(server)
                    && (device_ports.from..=device_ports.to).contains(&device_port)
                    && (server_ports.from..=server_ports.to).contains(&server_port)
            }
        }
    }

    proptest! {
        #[test]
        fn overlap_means_that_some_packet_matches_both(a in small_peer(), b in small_peer()) {
            let packets = (0u8..8).flat_map(|h| (0u16..8).flat_map(move |d| (0u16..8).map(move |s| (h, d, s))));
            let common = packets.into_iter().any(|(h, d, s)| matches(&a, h, d, s) && matches(&b, h, d, s));
            prop_assert_eq!(a.overlaps(&b), common);
            prop_assert_eq!(b.overlaps(&a), common);
        }
    }
}
