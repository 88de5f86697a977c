//! Reads what the kernel dumps. Safe Rust: a message is bytes until proven otherwise.

use std::sync::Arc;
use std::time::Duration;

use qod_wire::Counters;

use super::map::Map;
use super::message;
use super::socket::attributes;
use super::table::{DscpChain, limit_of};
use super::{Error, Table};
use crate::flow::{Match, Way};
use crate::ruleset::{Held, Treatment};
use crate::session::SessionId;

// Attribute types of `linux/netfilter/nf_tables.h`.
const NFTA_TABLE_USERDATA: u16 = 6;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_USERDATA: u16 = 12;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_EXPIRATION: u16 = 5;
const NFTA_SET_ELEM_USERDATA: u16 = 6;
const NFTA_SET_ELEM_EXPR: u16 = 7;
const NFTA_SET_ELEM_KEY_END: u16 = 10;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CHAIN: u16 = 2;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_COUNTER_BYTES: u16 = 1;
const NFTA_COUNTER_PACKETS: u16 = 2;

/// At egress the kernel counts the Ethernet header too (measured on 6.1 and 6.18).
pub(super) const ETHERNET_HEADER: u64 = 14;

/// The comment of a table; empty if it has none.
pub(super) fn table_comment(message: &[u8]) -> Result<String, Error> {
    for attribute in attributes(message) {
        if let (NFTA_TABLE_USERDATA, value) = attribute? {
            return Ok(message::comment_text(value).unwrap_or_default().to_owned());
        }
    }
    Ok(String::new())
}

/// A chain as it was dumped.
pub(super) struct RawChain<'a> {
    pub(super) name: &'a str,
    pub(super) comment: &'a str,
}

impl<'a> RawChain<'a> {
    /// None: it is one of another table, or has no name that can be read.
    pub(super) fn parse(message: &'a [u8], table: Table) -> Result<Option<Self>, Error> {
        let (mut ours, mut name, mut comment) = (false, None, "");
        for attribute in attributes(message) {
            match attribute? {
                (NFTA_CHAIN_TABLE, value) => ours = text(value) == Some(table.name()),
                (NFTA_CHAIN_NAME, value) => name = text(value),
                (NFTA_CHAIN_USERDATA, value) => {
                    comment = message::comment_text(value).unwrap_or_default();
                }
                _ => {}
            }
        }
        Ok(name.filter(|_| ours).map(|name| Self { name, comment }))
    }
}

/// The chain of a dumped rule, if it is one of that table.
pub(super) fn rule_chain(message: &[u8], table: Table) -> Result<Option<&str>, Error> {
    let (mut ours, mut chain) = (false, None);
    for attribute in attributes(message) {
        match attribute? {
            (NFTA_RULE_TABLE, value) => ours = text(value) == Some(table.name()),
            (NFTA_RULE_CHAIN, value) => chain = text(value),
            _ => {}
        }
    }
    Ok(chain.filter(|_| ours))
}

/// The elements of a message of a dump.
pub(super) fn elements(
    message: &[u8],
    mut each: impl FnMut(RawElement<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    for attribute in attributes(message) {
        let (NFTA_SET_ELEM_LIST_ELEMENTS, list) = attribute? else {
            continue;
        };
        for element in attributes(list) {
            if let (NFTA_LIST_ELEM, element) = element? {
                each(RawElement::parse(element)?)?;
            }
        }
    }
    Ok(())
}

/// An element as it was dumped.
#[derive(Default)]
pub(super) struct RawElement<'a> {
    pub(super) key: &'a [u8],
    key_end: Option<&'a [u8]>,
    chain: Option<&'a str>,
    expiration_millis: Option<u64>,
    comment: Option<&'a str>,
    counters: Counters,
}

impl<'a> RawElement<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut element = Self::default();
        for attribute in attributes(bytes) {
            match attribute? {
                (NFTA_SET_ELEM_KEY, nest) => {
                    element.key = find(nest, NFTA_DATA_VALUE)?.unwrap_or_default();
                }
                (NFTA_SET_ELEM_KEY_END, nest) => element.key_end = find(nest, NFTA_DATA_VALUE)?,
                (NFTA_SET_ELEM_DATA, nest) => {
                    if let Some(verdict) = find(nest, NFTA_DATA_VERDICT)? {
                        element.chain = find(verdict, NFTA_VERDICT_CHAIN)?.and_then(text);
                    }
                }
                (NFTA_SET_ELEM_EXPIRATION, value) => {
                    element.expiration_millis = Some(number(value)?);
                }
                (NFTA_SET_ELEM_USERDATA, value) => element.comment = message::comment_text(value),
                (NFTA_SET_ELEM_EXPR, nest) => {
                    if let Some(counter) = find(nest, NFTA_EXPR_DATA)? {
                        element.counters = counters(counter)?;
                    }
                }
                _ => {}
            }
        }
        Ok(element)
    }

    /// Time until the kernel removes it; the longest there is, if it never does.
    pub(super) fn remaining(&self) -> Duration {
        Duration::from_millis(self.expiration_millis.unwrap_or(u64::MAX))
    }

    /// The element as the agent understands it; none, if no agent of this layout writes such a one.
    ///
    /// Bytes are those of the IP layer.
    pub(super) fn held(&self, map: Map) -> Option<(Match, Held)> {
        let matches = map.decode(self.key, self.key_end)?;
        let mut counters = self.counters;
        if matches.way == Way::Down {
            let headers = counters.packets.saturating_mul(ETHERNET_HEADER);
            counters.bytes = counters.bytes.saturating_sub(headers);
        }
        let session: SessionId = Arc::from(self.comment.unwrap_or_default());
        let held = Held {
            treatment: self.treatment(&session, matches.way),
            session,
            remaining: self.remaining(),
            counters,
        };
        Some((matches, held))
    }
}

impl RawElement<'_> {
    /// What the chain gives to which the element leads.
    fn treatment(&self, session: &SessionId, way: Way) -> Option<Treatment> {
        let chain = self.chain?;
        if let Some(dscp) = DscpChain::dscp(chain) {
            return Some(Treatment {
                dscp,
                ceiling_kbps: None,
            });
        }
        let limit = limit_of(chain)?;
        let mine = limit.session == *session && limit.way == way;
        mine.then_some(Treatment {
            dscp: limit.dscp,
            ceiling_kbps: Some(limit.kbps),
        })
    }
}

fn counters(bytes: &[u8]) -> Result<Counters, Error> {
    let mut counters = Counters::default();
    for attribute in attributes(bytes) {
        match attribute? {
            (NFTA_COUNTER_BYTES, value) => counters.bytes = number(value)?,
            (NFTA_COUNTER_PACKETS, value) => counters.packets = number(value)?,
            _ => {}
        }
    }
    Ok(counters)
}

fn find(nest: &[u8], wanted: u16) -> Result<Option<&[u8]>, Error> {
    for attribute in attributes(nest) {
        let (kind, value) = attribute?;
        if kind == wanted {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn number(value: &[u8]) -> Result<u64, Error> {
    let bytes = value
        .first_chunk()
        .ok_or(Error::Malformed("a 64-bit number"))?;
    Ok(u64::from_be_bytes(*bytes))
}

fn text(value: &[u8]) -> Option<&str> {
    let end = value
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(value.len());
    std::str::from_utf8(value.get(..end)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_message_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = table_comment(&bytes);
            let _ = RawChain::parse(&bytes, Table::Main);
            let _ = rule_chain(&bytes, Table::Main);
            let _ = elements(&bytes, |element| {
                for map in Map::all() {
                    let _ = element.held(map);
                }
                Ok(())
            });
            if let Ok(element) = RawElement::parse(&bytes) {
                for map in Map::all() {
                    let _ = element.held(map);
                }
            }
        }
    }
}
