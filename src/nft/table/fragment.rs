//! Fragments: later ones carry no ports, so the first one's mark is remembered for them.

use super::super::expr::{Expr, Field, Meta, Register};
use super::super::map as maps;
use super::lookup::{Lookup, destination, masked, source};
use super::{Chain, MarkBits, sets};
use crate::flow::Family;

/// Datagrams that are remembered at a time, and for how many milliseconds.
pub(super) const REMEMBERED: (u32, u64) = (4096, 3000);

impl Lookup {
    /// A datagram's first fragment has ports: it is looked up, and remembered if it was marked.
    pub(super) fn fragment_rules(self) -> Vec<Vec<Expr>> {
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
    pub(super) fn later_rules(self, bits: MarkBits) -> Vec<Vec<Expr>> {
        let mut recall = load_key(self.family);
        recall.extend([
            Expr::Lookup {
                set: map(self.family),
                key: Register::FIRST,
                destination: Some(Register::FIRST),
            },
            Expr::SetMeta(Meta::Mark, Register::FIRST),
        ]);
        let chain = vec![
            Expr::Meta(Meta::Mark, Register::FIRST),
            Expr::word_bits(Register::FIRST, bits.mask(), 0),
            Expr::verdict_of(sets::CHAINS, Register::FIRST),
        ];
        vec![recall, chain, vec![Expr::goto(self.name("lookup"))]]
    }
}

/// The map from a datagram to the mark of its first fragment.
pub(super) fn map(family: Family) -> &'static str {
    match family {
        Family::V4 => "fragments4",
        Family::V6 => "fragments6",
    }
}

/// What names a fragmented datagram: addresses, protocol and identification (RFC 791 §2.3), and in
/// IPv6 addresses and identification (RFC 8200 §4.5). `nft` prints the identification as a port or mark.
pub(super) fn key(family: Family) -> Vec<maps::KeyPart> {
    match family {
        Family::V4 => vec![maps::ADDRESS4, maps::ADDRESS4, maps::PROTOCOL, maps::PORT],
        Family::V6 => vec![maps::ADDRESS6, maps::ADDRESS6, maps::MARK],
    }
}

fn load_key(family: Family) -> Vec<Expr> {
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
pub(super) fn keep(family: Family, bits: MarkBits) -> Chain {
    /// Behind the longest key: two IPv6 addresses and the identification.
    const VALUE: Register = Register::word(9);
    let mut rule = bits.has_dscp();
    rule.extend(load_key(family));
    rule.push(Expr::Meta(Meta::Mark, VALUE));
    rule.push(Expr::AddTo {
        map: map(family),
        key: Register::FIRST,
        value: VALUE,
    });
    Chain {
        name: keep_name(family),
        rules: vec![rule],
    }
}
