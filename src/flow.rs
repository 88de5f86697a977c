//! Flows: what a map element matches, and whether two flows overlap. No I/O.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order in which they are written.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }

    /// Length of an address in bits.
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

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

/// An address and the number of its leading bits that count. Host bits are clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    first: IpAddr,
    length: u8,
}

impl Prefix {
    /// The prefix of `length` bits that holds `address`, or nothing if the family has fewer bits.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let bits = Family::of(address).bits();
        if length > bits {
            return None;
        }
        let host = u32::from(bits - length);
        let first = match address {
            IpAddr::V4(a) => {
                let mask = u32::MAX.checked_shl(host).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() & mask))
            }
            IpAddr::V6(a) => {
                let mask = u128::MAX.checked_shl(host).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & mask))
            }
        };
        Some(Self { first, length })
    }

    /// All addresses of a family.
    pub fn any(family: Family) -> Self {
        let first = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Self { first, length: 0 }
    }

    /// The family of its addresses.
    pub fn family(self) -> Family {
        Family::of(self.first)
    }

    /// Its first address.
    pub fn first(self) -> IpAddr {
        self.first
    }

    /// Its last address.
    pub fn last(self) -> IpAddr {
        let host = u32::from(self.family().bits() - self.length);
        match self.first {
            IpAddr::V4(a) => {
                let mask = u32::MAX.checked_shl(host).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() | !mask))
            }
            IpAddr::V6(a) => {
                let mask = u128::MAX.checked_shl(host).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() | !mask))
            }
        }
    }

    /// The prefix whose first and last addresses these are, or nothing if there is none.
    pub fn spanning(first: IpAddr, last: IpAddr) -> Option<Self> {
        let differing = match (first, last) {
            (IpAddr::V4(a), IpAddr::V4(b)) => 32 - (a.to_bits() ^ b.to_bits()).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => 128 - (a.to_bits() ^ b.to_bits()).leading_zeros(),
            _ => return None,
        };
        let length = Family::of(first).bits() - u8::try_from(differing).ok()?;
        Self::new(first, length).filter(|prefix| prefix.first == first && prefix.last() == last)
    }

    /// Whether some address lies in both. Two prefixes never overlap partly.
    pub fn overlaps(self, other: Self) -> bool {
        let shorter = if self.length <= other.length {
            self
        } else {
            other
        };
        let longer = if self.length <= other.length {
            other
        } else {
            self
        };
        Self::new(longer.first, shorter.length) == Some(shorter)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.length == self.family().bits() {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}/{}", self.first, self.length)
        }
    }
}

/// Why a text is not an address or prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError(String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AddressError {}

/// Reads `address` or `address/length` of one family and keeps both as they were written.
///
/// # Errors
/// Not an address of that family, an IPv4-mapped IPv6 address, or a length beyond the family's.
pub fn parse_address(text: &str, family: Family) -> Result<(IpAddr, u8), AddressError> {
    let error = |why: &str| {
        Err(AddressError(format!(
            "{text:?} is not an {family} address{why}"
        )))
    };
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let parsed = match family {
        Family::V4 => Ipv4Addr::from_str(address).map(IpAddr::V4),
        Family::V6 => Ipv6Addr::from_str(address).map(IpAddr::V6),
    };
    let Ok(parsed) = parsed else { return error("") };
    if let IpAddr::V6(v6) = parsed
        && v6.to_ipv4_mapped().is_some()
    {
        return error(": it is an IPv4-mapped one");
    }
    let length = match length {
        None => family.bits(),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => match digits.parse() {
            Ok(length) if length <= family.bits() => length,
            _ => return error(&format!(" with a mask of at most {} bits", family.bits())),
        },
        Some(_) => return error(" with a mask in bits"),
    };
    Ok((parsed, length))
}

/// An inclusive range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// First port.
    pub from: u16,
    /// Last port, not below `from`.
    pub to: u16,
}

impl PortRange {
    /// Every port.
    pub const ANY: Self = Self {
        from: 0,
        to: u16::MAX,
    };

    /// Whether some port lies in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.from <= other.to && other.from <= self.to
    }
}

/// Sorts ranges and joins those that overlap or touch.
pub fn merge(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort_unstable();
    let mut merged: Vec<PortRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.from <= last.to.saturating_add(1) => {
                last.to = last.to.max(range.to);
            }
            _ => merged.push(range),
        }
    }
    merged
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

    fn prefix(text: &str) -> Prefix {
        let family = if text.contains(':') {
            Family::V6
        } else {
            Family::V4
        };
        let (address, length) = parse_address(text, family).unwrap();
        Prefix::new(address, length).unwrap()
    }

    #[test]
    fn prefixes_clear_host_bits_and_know_their_ends() {
        let net = prefix("198.51.100.77/28");
        assert_eq!(net.to_string(), "198.51.100.64/28");
        assert_eq!(net.last(), IpAddr::from([198, 51, 100, 79]));
        assert_eq!(
            prefix("0.0.0.0/0").last(),
            IpAddr::from([255, 255, 255, 255])
        );
        assert_eq!(
            prefix("::/0").last(),
            IpAddr::V6(Ipv6Addr::from_bits(u128::MAX))
        );
        assert_eq!(prefix("2001:db8::1").to_string(), "2001:db8::1");
    }

    #[test]
    fn addresses_are_read_strictly() {
        for bad in [
            "",
            "1.2.3",
            "01.2.3.4",
            "1.2.3.4/33",
            "1.2.3.4/",
            "1.2.3.4/+1",
            "::1",
            "1.2.3.4/-1",
        ] {
            assert!(parse_address(bad, Family::V4).is_err(), "{bad}");
        }
        for bad in [
            "",
            "1.2.3.4",
            "::ffff:1.2.3.4",
            "::1/129",
            "fe80::1%eth0",
            ":::",
        ] {
            assert!(parse_address(bad, Family::V6).is_err(), "{bad}");
        }
        assert!(parse_address("2001:0DB8::1", Family::V6).is_ok());
        let text = parse_address("::ffff:1.2.3.4", Family::V6)
            .unwrap_err()
            .to_string();
        assert_eq!(
            text,
            "\"::ffff:1.2.3.4\" is not an IPv6 address: it is an IPv4-mapped one"
        );
    }

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

        #[test]
        fn merged_ranges_hold_the_same_ports_apart_and_in_order(
            raw in prop::collection::vec((0u16..64, 0u16..64), 0..12)
        ) {
            let ranges: Vec<_> = raw.iter().map(|&(a, b)| PortRange { from: a.min(b), to: a.max(b) }).collect();
            let merged = merge(ranges.clone());
            for port in 0u16..80 {
                let inside = |list: &[PortRange]| list.iter().any(|r| (r.from..=r.to).contains(&port));
                prop_assert_eq!(inside(&ranges), inside(&merged));
            }
            for pair in merged.windows(2) {
                prop_assert!(u32::from(pair[0].to) + 1 < u32::from(pair[1].from));
            }
        }

        #[test]
        fn a_prefix_is_found_again_from_its_ends(bits: u128, length in 0u8..=128) {
            let net = Prefix::new(IpAddr::V6(Ipv6Addr::from_bits(bits)), length).unwrap();
            prop_assert_eq!(Prefix::spanning(net.first(), net.last()), Some(net));
        }
    }

    #[test]
    fn ports_at_the_end_of_the_space_merge() {
        let all = merge(vec![
            PortRange {
                from: 65535,
                to: 65535,
            },
            PortRange { from: 1, to: 65534 },
        ]);
        assert_eq!(all, [PortRange { from: 1, to: 65535 }]);
    }

    #[test]
    fn ends_that_are_no_prefix_are_refused() {
        assert_eq!(
            Prefix::spanning(IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])),
            None
        );
        assert_eq!(
            Prefix::spanning(IpAddr::from([10, 0, 0, 1]), IpAddr::V6(Ipv6Addr::LOCALHOST)),
            None
        );
    }
}
