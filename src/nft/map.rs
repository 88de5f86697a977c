//! The maps and sets of the table, and the keys of their elements.
//!
//! Per direction and family there are three maps: `flows` (device, server, device port, server port),
//! `hosts` (device, server) and `whole` (device). Which one holds a match follows from its fields.

use std::net::IpAddr;

use crate::flow::{Family, Match, Peer, PortRange, Prefix, Way};

/// nftables' own numbers of data types (`enum datatypes` in nftables' `datatype.h`): the kernel does not
/// look at them, `nft list` prints by them.
pub(super) mod datatype {
    pub(in crate::nft) const IPV4_ADDR: u32 = 7;
    pub(in crate::nft) const IPV6_ADDR: u32 = 8;
    pub(in crate::nft) const INET_PROTOCOL: u32 = 12;
    pub(in crate::nft) const INET_SERVICE: u32 = 13;
    pub(in crate::nft) const MARK: u32 = 19;
    pub(in crate::nft) const CLASSID: u32 = 23;
}

/// One part of a key: its data type and its length in bytes.
pub(super) type KeyPart = (u32, u8);

pub(super) const ADDRESS4: KeyPart = (datatype::IPV4_ADDR, 4);
pub(super) const ADDRESS6: KeyPart = (datatype::IPV6_ADDR, 16);
pub(super) const PORT: KeyPart = (datatype::INET_SERVICE, 2);
pub(super) const PROTOCOL: KeyPart = (datatype::INET_PROTOCOL, 1);
pub(super) const MARK: KeyPart = (datatype::MARK, 4);

/// Which fields a map's key has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Flows,
    Hosts,
    Whole,
}

/// One of the twelve maps that hold sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) kind: Kind,
    pub(super) family: Family,
    pub(super) way: Way,
}

impl Map {
    /// All of them.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        [Kind::Flows, Kind::Hosts, Kind::Whole]
            .into_iter()
            .flat_map(|kind| {
                Family::ALL.into_iter().flat_map(move |family| {
                    Way::ALL
                        .into_iter()
                        .map(move |way| Self { kind, family, way })
                })
            })
    }

    /// The map that holds such a match.
    pub(super) fn of(matches: &Match) -> Self {
        let kind = match matches.peer {
            Peer::Whole => Kind::Whole,
            Peer::Host(_) => Kind::Hosts,
            Peer::Ports { .. } => Kind::Flows,
        };
        Self {
            kind,
            family: matches.family(),
            way: matches.way,
        }
    }

    /// Its name in the table.
    pub(super) fn name(self) -> &'static str {
        use Family::{V4, V6};
        use Way::{Down, Up};
        match (self.kind, self.family, self.way) {
            (Kind::Flows, V4, Up) => "flows4_up",
            (Kind::Flows, V4, Down) => "flows4_down",
            (Kind::Flows, V6, Up) => "flows6_up",
            (Kind::Flows, V6, Down) => "flows6_down",
            (Kind::Hosts, V4, Up) => "hosts4_up",
            (Kind::Hosts, V4, Down) => "hosts4_down",
            (Kind::Hosts, V6, Up) => "hosts6_up",
            (Kind::Hosts, V6, Down) => "hosts6_down",
            (Kind::Whole, V4, Up) => "whole4_up",
            (Kind::Whole, V4, Down) => "whole4_down",
            (Kind::Whole, V6, Up) => "whole6_up",
            (Kind::Whole, V6, Down) => "whole6_down",
        }
    }

    /// The fields of its key, in order.
    pub(super) fn key(self) -> Vec<KeyPart> {
        let address = address_part(self.family);
        match self.kind {
            Kind::Flows => vec![address, address, PORT, PORT],
            Kind::Hosts => vec![address, address],
            Kind::Whole => vec![address],
        }
    }

    /// The match that a key stands for. None: no key that this agent writes.
    pub(super) fn decode(self, start: &[u8], end: Option<&[u8]>) -> Option<Match> {
        let end = end.unwrap_or(start);
        let mut start = Reader(start);
        let mut end = Reader(end);
        let device = start.address(self.family)?;
        if end.address(self.family)? != device {
            return None;
        }
        let peer = match self.kind {
            Kind::Whole => Peer::Whole,
            Kind::Hosts => Peer::Host(self.decode_server(&mut start, &mut end)?),
            Kind::Flows => {
                let server = self.decode_server(&mut start, &mut end)?;
                let device_ports = PortRange {
                    from: start.port()?,
                    to: end.port()?,
                };
                let server_ports = PortRange {
                    from: start.port()?,
                    to: end.port()?,
                };
                Peer::Ports {
                    server,
                    device_ports,
                    server_ports,
                }
            }
        };
        Some(Match {
            way: self.way,
            device,
            peer,
        })
    }

    fn decode_server(self, start: &mut Reader<'_>, end: &mut Reader<'_>) -> Option<Prefix> {
        Prefix::spanning(start.address(self.family)?, end.address(self.family)?)
    }
}

/// The part of a key that is an address.
pub(super) fn address_part(family: Family) -> KeyPart {
    match family {
        Family::V4 => ADDRESS4,
        Family::V6 => ADDRESS6,
    }
}

/// The set of a family's devices that have any session.
pub(super) fn devices(family: Family) -> &'static str {
    match family {
        Family::V4 => "devices4",
        Family::V6 => "devices6",
    }
}

/// First and last key of a match. A hash map (`whole`) takes only the first.
pub(super) fn encode(matches: &Match) -> (Vec<u8>, Vec<u8>) {
    let mut start = octets(matches.device);
    let mut end = start.clone();
    let mut server = |prefix: Prefix| {
        start.extend(octets(prefix.first()));
        end.extend(octets(prefix.last()));
    };
    match matches.peer {
        Peer::Whole => {}
        Peer::Host(prefix) => server(prefix),
        Peer::Ports {
            server: prefix,
            device_ports,
            server_ports,
        } => {
            server(prefix);
            for range in [device_ports, server_ports] {
                start.extend(port(range.from));
                end.extend(port(range.to));
            }
        }
    }
    (start, end)
}

/// An address in network order.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// The address that these octets are; none, if they are not as many as an address has.
pub(super) fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
        .ok()
}

/// A port in network order; each part of a key fills whole 32-bit words.
fn port(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// Takes the parts of a key from its front.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn address(&mut self, family: Family) -> Option<IpAddr> {
        Some(match family {
            Family::V4 => IpAddr::from(self.take::<4>()?),
            Family::V6 => IpAddr::from(self.take::<16>()?),
        })
    }

    fn port(&mut self) -> Option<u16> {
        let [high, low, ..] = self.take::<4>()?;
        Some(u16::from_be_bytes([high, low]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn any_match() -> impl Strategy<Value = Match> {
        let ports = || {
            (any::<u16>(), any::<u16>()).prop_map(|(a, b)| PortRange {
                from: a.min(b),
                to: a.max(b),
            })
        };
        let pair = prop_oneof![
            (any::<u32>(), any::<u32>(), 0u8..=32).prop_map(|(device, server, length)| {
                let address = |bits| IpAddr::V4(Ipv4Addr::from_bits(bits));
                (
                    address(device),
                    Prefix::new(address(server), length).unwrap(),
                )
            }),
            (any::<u128>(), any::<u128>(), 0u8..=128).prop_map(|(device, server, length)| {
                let address = |bits| IpAddr::V6(Ipv6Addr::from_bits(bits));
                (
                    address(device),
                    Prefix::new(address(server), length).unwrap(),
                )
            }),
        ];
        let way = prop_oneof![Just(Way::Up), Just(Way::Down)];
        (pair, way, 0..3, ports(), ports()).prop_map(
            |((device, server), way, kind, device_ports, server_ports)| {
                let peer = match kind {
                    0 => Peer::Whole,
                    1 => Peer::Host(server),
                    _ => Peer::Ports {
                        server,
                        device_ports,
                        server_ports,
                    },
                };
                Match { way, device, peer }
            },
        )
    }

    proptest! {
        #[test]
        fn a_key_decodes_to_what_it_was_made_of(matches in any_match()) {
            let map = Map::of(&matches);
            let (start, end) = encode(&matches);
            let words: u32 = map.key().iter().map(|(_, length)| u32::from(*length).div_ceil(4)).sum();
            prop_assert_eq!(start.len(), words as usize * 4);
            prop_assert_eq!(map.decode(&start, Some(&end)), Some(matches));
        }

        #[test]
        fn any_bytes_decode_without_panic(start: Vec<u8>, end: Option<Vec<u8>>) {
            for map in Map::all() {
                let _ = map.decode(&start, end.as_deref());
            }
        }
    }

    #[test]
    fn every_map_has_a_name_of_its_own() {
        let names: HashSet<_> = Map::all().map(Map::name).collect();
        assert_eq!(names.len(), 12);
    }
}
