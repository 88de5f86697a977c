//! The table's layout: its sets, maps, chains and rules.
//!
//! A packet meets a base chain of its port, which asks whether the device has any session at all: one
//! hash lookup, and all that other devices' traffic pays. Then come the maps in the order of their rank,
//! whose elements go to the chain of a code point. That chain writes the six bits and leaves the agent's
//! mark, from which the WAN's egress chain takes the queue.
//!
//! The mark has seven bits, wherever `fwmask` puts them: "the agent marked this", and the code point.

use super::expr::{Expr, Field, Meta, Register, Verdict};
use super::map::{self, Kind, Map};
use super::message::{BaseChain, Message, Set, SetElement, Value, ValueType};
use crate::dscp::Dscp;
use crate::flow::{Family, Way};
use crate::queue::Queue;
use crate::ruleset::Hook;

/// The layout that this version makes, as the table's comment says it.
pub(super) const LAYOUT: &str = "qod-agent layout 1";

/// Below the priority 0 of fw4's flowtable: an offloaded flow never comes behind it.
const INGRESS_PRIORITY: i32 = -150;
const EGRESS_PRIORITY: i32 = 0;

/// Datagrams whose fragments are remembered at a time, and for how many milliseconds.
const FRAGMENTS: (u32, u64) = (4096, 3000);

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Next header of IPv6 fragments (RFC 8200 §4.5).
const FRAGMENT_HEADER: u8 = 44;
/// Protocols with ports at offsets 0 and 2: TCP, UDP, DCCP, SCTP, UDP-Lite. On others, `th sport` would
/// read something else: an ICMP echo has type and code there.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];

const PORT_PROTOCOLS: &str = "port_protocols";
/// Mark to the chain of its code point, for fragments.
const CHAINS: &str = "chains";
/// Mark to the class of the queue.
const CLASSES: &str = "classes";

/// Which bits of `skb->mark` are the agent's: seven neighbouring ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkBits {
    shift: u32,
}

impl MarkBits {
    /// The bits of a mask, if it has exactly seven, side by side.
    pub fn from_mask(mask: u32) -> Option<Self> {
        let shift = mask.trailing_zeros();
        (mask != 0 && mask >> shift == 0x7f).then_some(Self { shift })
    }

    fn mask(self) -> u32 {
        0x7f << self.shift
    }

    /// The highest bit: the agent marked this.
    fn set(self) -> u32 {
        0x40 << self.shift
    }

    fn of(self, dscp: Dscp) -> u32 {
        (0x40 | u32::from(dscp.value())) << self.shift
    }
}

/// The chain that writes a code point.
pub(super) struct DscpChain;

impl DscpChain {
    const PREFIX: &'static str = "dscp";

    pub(super) fn name(dscp: Dscp) -> String {
        format!("{}{}", Self::PREFIX, dscp.value())
    }

    /// The code point whose chain has this name.
    pub(super) fn dscp(name: &str) -> Option<Dscp> {
        let dscp = Dscp::new(name.strip_prefix(Self::PREFIX)?.parse().ok()?)?;
        (Self::name(dscp) == name).then_some(dscp)
    }
}

/// The name of a base chain: what it does and the device that it hangs on.
pub(super) fn hook_name(hook: &Hook) -> String {
    match hook {
        Hook::Up(device) => format!("up_{device}"),
        Hook::Down(device) => format!("down_{device}"),
        Hook::Out(device) => format!("out_{device}"),
    }
}

/// The hook whose base chain has this name.
pub(super) fn hook_of(name: &str) -> Option<Hook> {
    let (what, device) = name.split_once('_')?;
    let device = device.to_owned();
    match what {
        "up" => Some(Hook::Up(device)),
        "down" => Some(Hook::Down(device)),
        "out" => Some(Hook::Out(device)),
        _ => None,
    }
}

/// The table with all that does not depend on sessions and ports, in the order in which it is made.
pub(super) fn create(bits: MarkBits) -> Vec<Message> {
    let mut messages = vec![Message::Table {
        comment: LAYOUT.to_owned(),
    }];
    messages.extend(sets().into_iter().map(Message::Set));
    let protocols = WITH_PORTS.map(|number| SetElement {
        key: vec![number],
        ..SetElement::default()
    });
    messages.push(Message::Elements {
        set: PORT_PROTOCOLS,
        elements: protocols.to_vec(),
    });
    let classes = (0..64).filter_map(Dscp::new).map(|dscp| SetElement {
        key: bits.of(dscp).to_ne_bytes().to_vec(),
        value: Some(Value::Word(Queue::of(dscp).classid())),
        ..SetElement::default()
    });
    messages.push(Message::Elements {
        set: CLASSES,
        elements: classes.collect(),
    });

    let chains: Vec<_> = Family::ALL
        .into_iter()
        .flat_map(|family| {
            let ways = Way::ALL
                .into_iter()
                .flat_map(move |way| Lookup { family, way }.chains(bits));
            ways.chain([keep(family, bits)])
        })
        .collect();
    // A rule may name only chains that are there.
    messages.extend(chains.iter().map(|chain| chain.message()));
    messages.extend(chains.into_iter().flat_map(Chain::rules));
    messages
}

/// The chain of a code point, and its way from the mark.
pub(super) fn add_dscp(dscp: Dscp, bits: MarkBits) -> Vec<Message> {
    let chain = Chain {
        name: DscpChain::name(dscp),
        rules: dscp_rules(dscp, bits),
    };
    let from_mark = SetElement {
        key: bits.of(dscp).to_ne_bytes().to_vec(),
        value: Some(Value::Verdict(Verdict::Goto(chain.name.clone()))),
        ..SetElement::default()
    };
    let mut messages = vec![chain.message()];
    messages.extend(chain.rules());
    messages.push(Message::Elements {
        set: CHAINS,
        elements: vec![from_mark],
    });
    messages
}

/// A base chain with its rules.
pub(super) fn add_hook(hook: &Hook, bits: MarkBits) -> Vec<Message> {
    let (egress, priority) = match hook {
        Hook::Up(_) => (false, INGRESS_PRIORITY),
        Hook::Down(_) | Hook::Out(_) => (true, EGRESS_PRIORITY),
    };
    let rules = match hook {
        Hook::Up(_) => Family::ALL
            .map(|family| {
                Lookup {
                    family,
                    way: Way::Up,
                }
                .entry()
            })
            .to_vec(),
        Hook::Down(_) => Family::ALL
            .map(|family| {
                Lookup {
                    family,
                    way: Way::Down,
                }
                .entry()
            })
            .to_vec(),
        Hook::Out(_) => vec![enqueue(bits)],
    };
    let chain = Chain {
        name: hook_name(hook),
        rules,
    };
    let device = hook.device().to_owned();
    let base = Message::Chain {
        name: chain.name.clone(),
        hook: Some(BaseChain {
            device,
            egress,
            priority,
        }),
    };
    std::iter::once(base).chain(chain.rules()).collect()
}

/// The message that removes a base chain; the kernel removes its rules with it.
pub(super) fn delete_hook(hook: &Hook) -> Message {
    Message::Chain {
        name: hook_name(hook),
        hook: None,
    }
}

fn sets() -> Vec<Set> {
    let set = |name, key| Set {
        name,
        key,
        interval: false,
        timeouts: false,
        counter: false,
        dynamic: None,
        value: None,
    };
    let mut sets = vec![
        set(PORT_PROTOCOLS, vec![map::PROTOCOL]),
        Set {
            value: Some(ValueType::Verdict),
            ..set(CHAINS, vec![map::MARK])
        },
        Set {
            value: Some(ValueType::Word(map::datatype::CLASSID)),
            ..set(CLASSES, vec![map::MARK])
        },
    ];
    for family in Family::ALL {
        sets.push(set(map::devices(family), vec![map::address_part(family)]));
        sets.push(Set {
            dynamic: Some(FRAGMENTS),
            value: Some(ValueType::Word(map::datatype::MARK)),
            ..set(fragments(family), datagram_key(family))
        });
    }
    sets.extend(Map::all().map(|map| Set {
        interval: map.kind != Kind::Whole,
        timeouts: true,
        counter: true,
        value: Some(ValueType::Verdict),
        ..set(map.name(), map.key())
    }));
    sets
}

/// A chain and its rules.
struct Chain {
    name: String,
    rules: Vec<Vec<Expr>>,
}

impl Chain {
    fn message(&self) -> Message {
        Message::Chain {
            name: self.name.clone(),
            hook: None,
        }
    }

    fn rules(self) -> impl Iterator<Item = Message> {
        let chain = self.name;
        self.rules.into_iter().map(move |exprs| Message::Rule {
            chain: chain.clone(),
            exprs,
        })
    }
}

/// The chains that look up packets of one family, one way.
#[derive(Clone, Copy)]
struct Lookup {
    family: Family,
    way: Way,
}

impl Lookup {
    fn name(self, what: &str) -> String {
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
    fn entry(self) -> Vec<Expr> {
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

    fn chains(self, bits: MarkBits) -> [Chain; 4] {
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
                set: PORT_PROTOCOLS,
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

    /// A datagram's first fragment has ports: it is looked up, and remembered if it was marked.
    fn fragment_rules(self) -> Vec<Vec<Expr>> {
        let offset = match self.family {
            Family::V4 => masked(Field::network(6, 2), 0x1fff, Expr::goto(self.name("later"))),
            Family::V6 => masked(
                Field::network(42, 2),
                0xfff8,
                Expr::goto(self.name("later")),
            ),
        };
        vec![
            offset,
            vec![Expr::jump(self.name("lookup"))],
            vec![Expr::goto(keep_name(self.family))],
        ]
    }

    /// A later fragment gets what the first one got; unknown, it can still match by its addresses.
    fn later_rules(self, bits: MarkBits) -> Vec<Vec<Expr>> {
        let mut recall = load_datagram(self.family);
        recall.extend([
            Expr::Lookup {
                set: fragments(self.family),
                key: Register::FIRST,
                destination: Some(Register::FIRST),
            },
            Expr::SetMeta(Meta::Mark, Register::FIRST),
        ]);
        let chain = vec![
            Expr::Meta(Meta::Mark, Register::FIRST),
            Expr::word_bits(Register::FIRST, bits.mask(), 0),
            Expr::verdict_of(CHAINS, Register::FIRST),
        ];
        vec![recall, chain, vec![Expr::goto(self.name("lookup"))]]
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

fn source(family: Family) -> Field {
    match family {
        Family::V4 => Field::network(12, 4),
        Family::V6 => Field::network(8, 16),
    }
}

fn destination(family: Family) -> Field {
    match family {
        Family::V4 => Field::network(16, 4),
        Family::V6 => Field::network(24, 16),
    }
}

/// A rule that acts if some of these bits of a 16-bit field are set.
fn masked(field: Field, mask: u16, act: Expr) -> Vec<Expr> {
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

fn fragments(family: Family) -> &'static str {
    match family {
        Family::V4 => "fragments4",
        Family::V6 => "fragments6",
    }
}

/// What names a fragmented datagram: addresses, protocol and identification (RFC 791 §2.3), and in
/// IPv6 addresses and identification (RFC 8200 §4.5). `nft` prints the identification as a port or mark.
fn datagram_key(family: Family) -> Vec<map::KeyPart> {
    match family {
        Family::V4 => vec![map::ADDRESS4, map::ADDRESS4, map::PROTOCOL, map::PORT],
        Family::V6 => vec![map::ADDRESS6, map::ADDRESS6, map::MARK],
    }
}

fn load_datagram(family: Family) -> Vec<Expr> {
    let mut exprs = vec![
        Expr::Payload(source(family), Register::FIRST),
        Expr::Payload(
            destination(family),
            Register::word(source(family).length / 4),
        ),
    ];
    match family {
        Family::V4 => exprs.extend([
            Expr::Payload(Field::network(9, 1), Register::word(2)),
            Expr::Payload(Field::network(4, 2), Register::word(3)),
        ]),
        Family::V6 => exprs.push(Expr::Payload(Field::network(44, 4), Register::word(8))),
    }
    exprs
}

fn keep_name(family: Family) -> String {
    match family {
        Family::V4 => "keep4".to_owned(),
        Family::V6 => "keep6".to_owned(),
    }
}

/// Remembers a datagram whose first fragment was marked.
fn keep(family: Family, bits: MarkBits) -> Chain {
    /// Behind the longest key: two IPv6 addresses and the identification.
    const VALUE: Register = Register::word(9);
    let mut rule = is_marked(bits);
    rule.extend(load_datagram(family));
    rule.push(Expr::Meta(Meta::Mark, VALUE));
    rule.push(Expr::AddTo {
        map: fragments(family),
        key: Register::FIRST,
        value: VALUE,
    });
    Chain {
        name: keep_name(family),
        rules: vec![rule],
    }
}

fn is_marked(bits: MarkBits) -> Vec<Expr> {
    vec![
        Expr::Meta(Meta::Mark, Register::FIRST),
        Expr::word_bits(Register::FIRST, bits.set(), 0),
        Expr::NotEqual(Register::FIRST, 0u32.to_ne_bytes().to_vec()),
    ]
}

/// Gives a marked packet its queue. At ingress it would be lost: `ip_forward()` sets the priority anew.
fn enqueue(bits: MarkBits) -> Vec<Expr> {
    let mut rule = is_marked(bits);
    rule.extend([
        Expr::Meta(Meta::Mark, Register::FIRST),
        Expr::word_bits(Register::FIRST, bits.mask(), 0),
        Expr::Lookup {
            set: CLASSES,
            key: Register::FIRST,
            destination: Some(Register::FIRST),
        },
        Expr::SetMeta(Meta::Priority, Register::FIRST),
    ]);
    rule
}

/// Writes the six bits, keeps the two of ECN, and leaves the mark; foreign bits of the mark stay.
fn dscp_rules(dscp: Dscp, bits: MarkBits) -> Vec<Vec<Expr>> {
    let value = u16::from(dscp.value());
    let write = |ethertype: u16, mask: u16, bits: u16, checksum_offset| {
        // The first 16 bits of either header, since the IPv4 checksum counts in such words.
        let field = Field::network(0, 2);
        vec![
            Expr::Meta(Meta::Protocol, Register::FIRST),
            Expr::Equal(Register::FIRST, ethertype.to_be_bytes().to_vec()),
            Expr::Payload(field, Register::FIRST),
            Expr::Bitwise {
                register: Register::FIRST,
                mask: mask.to_be_bytes().to_vec(),
                xor: bits.to_be_bytes().to_vec(),
            },
            Expr::SetPayload {
                field,
                source: Register::FIRST,
                checksum_offset,
            },
        ]
    };
    vec![
        // RFC 791 §3.1: version, header length, TOS octet; header checksum at 10.
        write(ETHERTYPE_IPV4, 0xff03, value << 2, Some(10)),
        // RFC 8200 §3: version, traffic class, flow label; no checksum.
        write(ETHERTYPE_IPV6, 0xf03f, value << 6, None),
        vec![
            Expr::Meta(Meta::Mark, Register::FIRST),
            Expr::word_bits(Register::FIRST, !bits.mask(), bits.of(dscp)),
            Expr::SetMeta(Meta::Mark, Register::FIRST),
        ],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_is_seven_neighbouring_bits() {
        let bits = MarkBits::from_mask(0x7f00_0000).unwrap();
        assert_eq!(bits.of(Dscp::new(46).unwrap()), 0x6e00_0000);
        assert_eq!(bits.set(), 0x4000_0000);
        assert_eq!(
            MarkBits::from_mask(0xfe00_0000).map(MarkBits::mask),
            Some(0xfe00_0000)
        );
        for bad in [0, 0x3f, 0xff, 0x7e01, 0x8000_003f, u32::MAX] {
            assert_eq!(MarkBits::from_mask(bad), None, "{bad:#x}");
        }
    }

    #[test]
    fn names_lead_back_to_what_they_name() {
        for dscp in (0..64).filter_map(Dscp::new) {
            assert_eq!(DscpChain::dscp(&DscpChain::name(dscp)), Some(dscp));
        }
        assert_eq!(DscpChain::dscp("dscp046"), None);
        assert_eq!(DscpChain::dscp("dscp64"), None);
        for hook in [
            Hook::Up("eth_0.1".into()),
            Hook::Down("lan1".into()),
            Hook::Out("wan".into()),
        ] {
            assert_eq!(hook_of(&hook_name(&hook)), Some(hook));
        }
        assert_eq!(hook_of("lookup4_up"), None);
    }
}
