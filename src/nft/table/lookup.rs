//! The chains that find a packet's session.

use super::super::expr::{Expr, Field, Meta, Register, Verdict};
use super::super::map::{self, Kind, Map};
use super::{Chain, ETHERTYPE_IPV4, ETHERTYPE_IPV6, MarkBits, sets};
use crate::flow::{Family, Way};

/// Next header of IPv6 fragments (RFC 8200 §4.5).
const FRAGMENT_HEADER: u8 = 44;

/// The chains that look up packets of one family, one way.
#[derive(Clone, Copy)]
pub(super) struct Lookup {
    pub(super) family: Family,
    pub(super) way: Way,
}

impl Lookup {
    pub(super) fn name(self, what: &str) -> String {
        let family = match self.family {
            Family::V4 => 4,
            Family::V6 => 6,
        };
        let way = match self.way {
            Way::Up => "up",
            Way::Down => "down",
        };
        format!("{what}{family}_{way}")
    }

    /// The rule of a base chain: devices with a session go on, others are done.
    pub(super) fn entry(self) -> Vec<Expr> {
        let ethertype = match self.family {
            Family::V4 => ETHERTYPE_IPV4,
            Family::V6 => ETHERTYPE_IPV6,
        };
        vec![
            Expr::Meta(Meta::Protocol, Register::FIRST),
            Expr::Equal(Register::FIRST, ethertype.to_be_bytes().to_vec()),
            Expr::Payload(self.device(), Register::FIRST),
            Expr::Lookup {
                set: map::devices(self.family),
                key: Register::FIRST,
                destination: None,
            },
            Expr::goto(self.name("device")),
        ]
    }

    pub(super) fn chains(self, bits: MarkBits) -> [Chain; 4] {
        let device = Chain {
            name: self.name("device"),
            rules: self.device_rules(),
        };
        let lookup = Chain {
            name: self.name("lookup"),
            rules: self.lookup_rules(),
        };
        let fragment = Chain {
            name: self.name("fragment"),
            rules: self.fragment_rules(),
        };
        let later = Chain {
            name: self.name("later"),
            rules: self.later_rules(bits),
        };
        [lookup, later, fragment, device]
    }

    /// Sorts out what is no flow of the device's, and fragments.
    fn device_rules(self) -> Vec<Vec<Expr>> {
        /// `PACKET_BROADCAST` and `PACKET_MULTICAST` of `linux/if_packet.h`.
        const TO_MANY: [u8; 2] = [1, 2];

        let mut rules = Vec::new();
        if self.way == Way::Up {
            // A session to any server means servers, not the home's own service discovery. At egress
            // the packet type says nothing, but there the destination is the device.
            rules.extend(TO_MANY.map(|kind| {
                vec![
                    Expr::Meta(Meta::PacketType, Register::FIRST),
                    Expr::Equal(Register::FIRST, vec![kind]),
                    Expr::Verdict(Verdict::Return),
                ]
            }));
        }
        rules.push(match self.family {
            // Fragment offset and "more fragments" (RFC 791 §3.1).
            Family::V4 => masked(
                Field::network(6, 2),
                0x3fff,
                Expr::goto(self.name("fragment")),
            ),
            Family::V6 => vec![
                Expr::Payload(Field::network(6, 1), Register::FIRST),
                Expr::Equal(Register::FIRST, vec![FRAGMENT_HEADER]),
                Expr::goto(self.name("fragment")),
            ],
        });
        rules.push(vec![Expr::goto(self.name("lookup"))]);
        rules
    }

    /// The maps in the order of their rank. An element ends the chain.
    fn lookup_rules(self) -> Vec<Vec<Expr>> {
        let words = self.device().length / 4;
        let (device_port, server_port) = match self.way {
            Way::Up => (Field::transport(0, 2), Field::transport(2, 2)),
            Way::Down => (Field::transport(2, 2), Field::transport(0, 2)),
        };
        let addresses = [
            Expr::Payload(self.device(), Register::FIRST),
            Expr::Payload(self.server(), Register::word(words)),
        ];
        let lookup = |kind| {
            let map = Map {
                kind,
                family: self.family,
                way: self.way,
            };
            Expr::verdict_of(map.name(), Register::FIRST)
        };
        let mut flows = vec![
            Expr::Meta(Meta::L4Protocol, Register::FIRST),
            Expr::Lookup {
                set: sets::PORT_PROTOCOLS,
                key: Register::FIRST,
                destination: None,
            },
        ];
        flows.extend(addresses.clone());
        flows.extend([
            Expr::Payload(device_port, Register::word(2 * words)),
            Expr::Payload(server_port, Register::word(2 * words + 1)),
            lookup(Kind::Flows),
        ]);
        let hosts = addresses.into_iter().chain([lookup(Kind::Hosts)]).collect();
        let whole = vec![
            Expr::Payload(self.device(), Register::FIRST),
            lookup(Kind::Whole),
        ];
        vec![flows, hosts, whole]
    }

    fn device(self) -> Field {
        match self.way {
            Way::Up => source(self.family),
            Way::Down => destination(self.family),
        }
    }

    fn server(self) -> Field {
        match self.way {
            Way::Up => destination(self.family),
            Way::Down => source(self.family),
        }
    }
}

pub(super) fn source(family: Family) -> Field {
    match family {
        Family::V4 => Field::network(12, 4),
        Family::V6 => Field::network(8, 16),
    }
}

pub(super) fn destination(family: Family) -> Field {
    match family {
        Family::V4 => Field::network(16, 4),
        Family::V6 => Field::network(24, 16),
    }
}

/// A rule that acts if some of these bits of a 16-bit field are set.
pub(super) fn masked(field: Field, mask: u16, act: Expr) -> Vec<Expr> {
    vec![
        Expr::Payload(field, Register::FIRST),
        Expr::Bitwise {
            register: Register::FIRST,
            mask: mask.to_be_bytes().to_vec(),
            xor: vec![0, 0],
        },
        Expr::NotEqual(Register::FIRST, vec![0, 0]),
        act,
    ]
}
