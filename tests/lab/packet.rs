//! One captured packet, taken apart.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;

/// How much of the transport payload is kept.
const KEPT: usize = 64;

/// Which way a packet passed the device on which it was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    In,
    Out,
}

/// Where a fragment belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    pub id: u32,
    pub offset: u16,
    pub more: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The kernel's time of the capture, since 1970.
    pub time: Duration,
    pub way: Way,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    /// Of TCP and UDP; absent in later fragments.
    pub ports: Option<(u16, u16)>,
    pub dscp: u8,
    pub ecn: u8,
    /// Bytes from the IP header on.
    pub length: usize,
    /// IPv4: the header's checksum is right. IPv6 has none.
    pub header_checksum_ok: bool,
    pub fragment: Option<Fragment>,
    /// The first bytes behind the transport header; in later fragments, of the fragment.
    pub payload: Vec<u8>,
}

impl Packet {
    /// Reads an Ethernet frame; `None` for what is not IP.
    pub fn parse(frame: &[u8], way: Way, time: Duration) -> Option<Self> {
        let packet = frame.get(14..)?;
        let mut this = match u16_at(frame, 12)? {
            0x0800 => parse_v4(packet)?,
            0x86dd => parse_v6(packet)?,
            _ => return None,
        };
        this.way = way;
        this.time = time;
        Some(this)
    }

    /// A first fragment or a whole packet.
    pub fn is_first(&self) -> bool {
        self.fragment.is_none_or(|f| f.offset == 0)
    }

    pub fn is_from(&self, source: SocketAddr) -> bool {
        self.source == source.ip() && self.ports.is_some_and(|(from, _)| from == source.port())
    }

    pub fn is_to(&self, destination: SocketAddr) -> bool {
        self.destination == destination.ip()
            && self.ports.is_some_and(|(_, to)| to == destination.port())
    }

    pub fn carries(&self, payload: &[u8]) -> bool {
        !payload.is_empty() && self.payload.starts_with(payload)
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = self.ports.unwrap_or_default();
        write!(
            f,
            "{:?} {} {from} > {} {to} proto {} dscp {} ecn {} length {}",
            self.way,
            self.source,
            self.destination,
            self.protocol,
            self.dscp,
            self.ecn,
            self.length
        )?;
        if let Some(fragment) = self.fragment {
            write!(f, " {fragment:?}")?;
        }
        if !self.header_checksum_ok {
            write!(f, " BAD HEADER CHECKSUM")?;
        }
        Ok(())
    }
}

fn parse_v4(packet: &[u8]) -> Option<Packet> {
    let header = packet.get(..usize::from(packet.first()? & 15) * 4)?;
    let word = u16_at(packet, 6)?;
    let offset = (word & 0x1fff) * 8;
    let more = word & 0x2000 != 0;
    let address = |at| Some(Ipv4Addr::from(u32_at(packet, at)?));
    let mut this = Packet {
        time: Duration::ZERO,
        way: Way::In,
        source: address(12)?.into(),
        destination: address(16)?.into(),
        protocol: *packet.get(9)?,
        ports: None,
        dscp: packet.get(1)? >> 2,
        ecn: packet.get(1)? & 3,
        length: usize::from(u16_at(packet, 2)?),
        header_checksum_ok: internet_checksum(header) == 0,
        fragment: (offset != 0 || more).then_some(Fragment {
            id: u16_at(packet, 4)?.into(),
            offset,
            more,
        }),
        payload: Vec::new(),
    };
    let end = this.length.min(packet.len());
    this.transport(packet.get(header.len()..end)?);
    Some(this)
}

fn parse_v6(packet: &[u8]) -> Option<Packet> {
    let address = |at: usize| {
        let bytes: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
        Some(Ipv6Addr::from(bytes))
    };
    let class = (u16_at(packet, 0)? >> 4) as u8;
    let mut this = Packet {
        time: Duration::ZERO,
        way: Way::In,
        source: address(8)?.into(),
        destination: address(24)?.into(),
        protocol: *packet.get(6)?,
        ports: None,
        dscp: class >> 2,
        ecn: class & 3,
        length: usize::from(u16_at(packet, 4)?) + 40,
        header_checksum_ok: true,
        fragment: None,
        payload: Vec::new(),
    };
    let mut rest = packet.get(40..this.length.min(packet.len()))?;
    loop {
        let length = match this.protocol {
            // Hop-by-hop options, routing, destination options.
            0 | 43 | 60 => usize::from(*rest.get(1)?) * 8 + 8,
            44 => {
                let word = u16_at(rest, 2)?;
                this.fragment = Some(Fragment {
                    id: u32_at(rest, 4)?,
                    offset: word & 0xfff8,
                    more: word & 1 != 0,
                });
                8
            }
            _ => break,
        };
        this.protocol = *rest.first()?;
        rest = rest.get(length..)?;
        if !this.is_first() {
            break;
        }
    }
    this.transport(rest);
    Some(this)
}

impl Packet {
    fn transport(&mut self, segment: &[u8]) {
        let mut payload = segment;
        if self.is_first() {
            let header = match self.protocol {
                TCP => segment.get(12).map(|b| usize::from(b >> 4) * 4),
                UDP | ICMP | ICMPV6 => Some(8),
                _ => Some(0),
            };
            if let (TCP | UDP, Some(from), Some(to)) =
                (self.protocol, u16_at(segment, 0), u16_at(segment, 2))
            {
                self.ports = Some((from, to));
            }
            payload = header.and_then(|n| segment.get(n..)).unwrap_or_default();
        }
        self.payload = payload.get(..KEPT).unwrap_or(payload).to_vec();
    }
}

/// The checksum of RFC 1071; zero over a header that holds its own.
pub fn internet_checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    let folded = (sum >> 16) + (sum & 0xffff);
    !((folded + (folded >> 16)) as u16)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
