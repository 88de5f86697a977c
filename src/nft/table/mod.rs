//! The table's layout: its sets, maps, chains and rules.
//!
//! A packet meets a base chain of its port, which asks whether the device has any session at all: one
//! hash lookup, and all that other devices' traffic pays. Then come the maps in the order of their rank,
//! whose elements go to the chain of a code point. That chain writes the six bits and leaves the agent's
//! mark, from which the WAN's egress chain takes the queue.
//!
//! The mark has seven bits, wherever `fwmask` puts them: "the agent marked this", and the code point.

mod bits;
mod dscp;
mod fragment;
mod hook;
mod limit;
mod lookup;
mod sets;
mod shape;

use super::expr::Expr;
use super::message::Message;
use crate::flow::{Family, Way};
pub use bits::MarkBits;
pub(super) use dscp::{DscpChain, add_dscp};
pub(super) use hook::{add_hook, delete_hook, hook_of, index_of};
pub(super) use limit::{add_limit, delete_limit, limit_of};
use lookup::Lookup;
pub(super) use shape::Shape;

/// The layout that this version makes with these bits, as the table's comment says it.
pub(super) fn layout(bits: MarkBits) -> String {
    format!("qod-agent layout 2, fwmask {:#010x}", bits.mask())
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// The table with all that does not depend on sessions and ports, in the order in which it is made.
pub(super) fn create(bits: MarkBits) -> Vec<Message> {
    let mut messages = vec![Message::Table {
        comment: layout(bits),
    }];
    messages.extend(sets::create(bits));
    let chains = chains(bits);
    // A rule may name only chains that are there.
    messages.extend(chains.iter().map(|chain| chain.message()));
    messages.extend(chains.into_iter().flat_map(Chain::rules));
    messages
}

/// The chains that are always there.
fn chains(bits: MarkBits) -> Vec<Chain> {
    let of_family = |family| {
        let ways = Way::ALL
            .into_iter()
            .flat_map(move |way| Lookup { family, way }.chains(bits));
        ways.chain([fragment::keep(family, bits)])
    };
    Family::ALL.into_iter().flat_map(of_family).collect()
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
