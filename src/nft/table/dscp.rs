//! The chains of a code point.

use super::super::expr::{Expr, Field, Meta, Register, Verdict};
use super::super::message::{Message, SetElement, Value};
use super::{Chain, ETHERTYPE_IPV4, ETHERTYPE_IPV6, MarkBits, sets};
use crate::dscp::Dscp;

/// The chain that writes a code point, and gives the packet its queue.
pub(in crate::nft) struct DscpChain;

impl DscpChain {
    const PREFIX: &'static str = "dscp";

    pub(in crate::nft) fn name(dscp: Dscp) -> String {
        format!("{}{}", Self::PREFIX, dscp.value())
    }

    /// The chain that writes the code point alone, for what exceeds a session's rate.
    pub(in crate::nft) fn without_queue(dscp: Dscp) -> String {
        format!("above{}", dscp.value())
    }

    /// The code point whose chain has this name.
    pub(in crate::nft) fn dscp(name: &str) -> Option<Dscp> {
        let dscp = Dscp::new(name.strip_prefix(Self::PREFIX)?.parse().ok()?)?;
        (Self::name(dscp) == name).then_some(dscp)
    }
}

/// The chains of a code point, and the ways to them from the mark.
pub(in crate::nft) fn add_dscp(dscp: Dscp, bits: MarkBits) -> Vec<Message> {
    let ways = dscp_chains(dscp, bits)
        .into_iter()
        // Without any bit it is no mark: every packet has it.
        .filter(|(mark, _)| *mark != 0)
        .map(|(mark, chain)| SetElement {
            key: mark.to_ne_bytes().to_vec(),
            value: Some(Value::Verdict(Verdict::Goto(chain.name))),
            ..SetElement::default()
        });
    let mut messages = Vec::new();
    for (_, chain) in dscp_chains(dscp, bits) {
        messages.push(chain.message());
        messages.extend(chain.rules());
    }
    messages.push(Message::Elements {
        set: sets::CHAINS,
        elements: ways.collect(),
    });
    messages
}

/// Both chains of a code point, each with the mark that it leaves.
pub(super) fn dscp_chains(dscp: Dscp, bits: MarkBits) -> [(u32, Chain); 2] {
    let queued = (bits.of(dscp), DscpChain::name(dscp));
    let above = (bits.without_queue(dscp), DscpChain::without_queue(dscp));
    [queued, above].map(|(mark, name)| {
        let rules = dscp_rules(dscp, mark, bits);
        (mark, Chain { name, rules })
    })
}

/// Writes the six bits, keeps the two of ECN, and leaves the mark; foreign bits of the mark stay.
fn dscp_rules(dscp: Dscp, mark: u32, bits: MarkBits) -> Vec<Vec<Expr>> {
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
            Expr::word_bits(Register::FIRST, !bits.mask(), mark),
            Expr::SetMeta(Meta::Mark, Register::FIRST),
        ],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_what_they_name() {
        for dscp in (0..64).filter_map(Dscp::new) {
            assert_eq!(DscpChain::dscp(&DscpChain::name(dscp)), Some(dscp));
        }
        for other in ["dscp046", "dscp64", "dscp", "lookup4_up"] {
            assert_eq!(DscpChain::dscp(other), None);
        }
    }
}
