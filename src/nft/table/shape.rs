//! What the table looks like when nobody else has touched it.

use std::collections::HashMap;

use super::super::message::Message;
use super::dscp::dscp_chains;
use super::hook::hook_chain;
use super::limit::limit_chain;
use super::{MarkBits, chains, sets};
use crate::ruleset::Ruleset;

/// How many rules each chain has, and how many elements each set that packets and sessions don't change.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::nft) struct Shape {
    pub(in crate::nft) rules: HashMap<String, usize>,
    pub(in crate::nft) elements: HashMap<&'static str, usize>,
}

impl Shape {
    /// Of a table that holds this ruleset.
    pub(in crate::nft) fn of(ruleset: &Ruleset, bits: MarkBits) -> Self {
        let mut all = chains(bits);
        for dscp in &ruleset.dscps {
            all.extend(dscp_chains(*dscp, bits).map(|(_, chain)| chain));
        }
        all.extend(ruleset.limits.iter().map(limit_chain));
        all.extend(ruleset.hooks.keys().map(|hook| hook_chain(hook, bits)));
        let mut elements: HashMap<_, _> = sets::create(bits)
            .filter_map(|message| match message {
                Message::Elements { set, elements } => Some((set, elements.len())),
                _ => None,
            })
            .collect();
        let ways = ruleset
            .dscps
            .iter()
            .flat_map(|dscp| dscp_chains(*dscp, bits));
        elements.insert(sets::CHAINS, ways.filter(|(mark, _)| *mark != 0).count());
        Self {
            rules: all
                .into_iter()
                .map(|chain| (chain.name, chain.rules.len()))
                .collect(),
            elements,
        }
    }
}
