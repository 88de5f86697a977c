//! The ruleset, read back.

use std::collections::{HashMap, HashSet};

use super::map::{self, Map};
use super::socket::{self, DumpEnd};
use super::table::{self, Shape};
use super::{Error, Nft, Table, decode};
use crate::flow::Family;
use crate::ruleset::{Layout, Ruleset};
use crate::session::SessionId;

// `enum nf_tables_msg_types` and attribute types of `linux/netfilter/nf_tables.h`.
pub(super) const NFT_MSG_GETTABLE: u16 = 1;
const NFT_MSG_GETCHAIN: u16 = 4;
const NFT_MSG_GETRULE: u16 = 7;
const NFT_MSG_GETSETELEM: u16 = 13;
pub(super) const NFTA_TABLE_NAME: u16 = 1;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;

/// The ends of a reading's dumps.
#[derive(Default)]
struct Ends {
    /// The ruleset changed meanwhile.
    interrupted: bool,
    /// Something that every table of this layout has is not there.
    missing: bool,
}

impl Ends {
    fn note(&mut self, end: Option<DumpEnd>) {
        match end {
            Some(DumpEnd::Whole) => {}
            Some(DumpEnd::Interrupted) => self.interrupted = true,
            None => self.missing = true,
        }
    }
}

impl Nft {
    /// None: the ruleset changed meanwhile.
    pub(super) fn read(&mut self) -> Result<Option<Ruleset>, Error> {
        let mut ruleset = Ruleset {
            twin: self.comment(Table::Twin)?.is_some(),
            ..Ruleset::default()
        };
        let Some(comment) = self.comment(Table::Main)? else {
            return Ok(Some(ruleset));
        };
        let mut ends = Ends::default();
        let chains = self.read_chains(&mut ruleset, &mut ends)?;
        for family in Family::ALL {
            let end = self.dump(Table::Main, map::devices(family), |element| {
                ruleset.devices.extend(map::address(element.key));
                Ok(())
            })?;
            ends.note(end);
        }
        self.read_elements(&mut ruleset, &mut ends)?;
        ruleset.layout = if comment == table::layout(self.bits) {
            let shape = Shape::of(&ruleset, self.bits);
            let damaged = ends.missing
                || shape.rules.keys().any(|chain| !chains.contains(chain))
                || self.suspect && !self.has_shape(&shape, &mut ends)?;
            if damaged {
                Layout::Other("changed by somebody else".to_owned())
            } else {
                Layout::Current
            }
        } else {
            Layout::Other(comment)
        };
        Ok((!ends.interrupted).then_some(ruleset))
    }

    /// The comment of a table that is there.
    fn comment(&mut self, table: Table) -> Result<Option<String>, Error> {
        let name = socket::text_attribute(NFTA_TABLE_NAME, table.name());
        let mut comment = None;
        self.socket()?
            .get(NFT_MSG_GETTABLE, false, &name, |message| {
                comment = Some(decode::table_comment(message)?);
                Ok(())
            })?;
        Ok(comment)
    }

    /// The names of all chains of the table.
    fn read_chains(
        &mut self,
        ruleset: &mut Ruleset,
        ends: &mut Ends,
    ) -> Result<HashSet<String>, Error> {
        let mut names = HashSet::new();
        let end = self.socket()?.get(NFT_MSG_GETCHAIN, true, &[], |message| {
            let Some(chain) = decode::RawChain::parse(message, Table::Main)? else {
                return Ok(());
            };
            ruleset.dscps.extend(table::DscpChain::dscp(chain.name));
            ruleset.limits.extend(table::limit_of(chain.name));
            let hook = table::hook_of(chain.name);
            let index = table::index_of(chain.comment);
            ruleset.hooks.extend(hook.map(|hook| (hook, index)));
            names.insert(chain.name.to_owned());
            Ok(())
        })?;
        ends.note(end);
        Ok(names)
    }

    fn read_elements(&mut self, ruleset: &mut Ruleset, ends: &mut Ends) -> Result<(), Error> {
        // A session has elements in several maps; they share its id.
        let mut ids: HashSet<SessionId> = HashSet::new();
        for map in Map::all() {
            let end = self.dump(Table::Main, map.name(), |element| {
                // What this agent would never write cannot be read either; it is left alone.
                match element.held(map) {
                    Some((matches, mut held)) => {
                        match ids.get(&held.session) {
                            Some(id) => held.session = id.clone(),
                            None => drop(ids.insert(held.session.clone())),
                        }
                        ruleset.elements.insert(matches, held);
                    }
                    None => log::warn!("map {} holds an element of somebody else's", map.name()),
                }
                Ok(())
            })?;
            ends.note(end);
        }
        Ok(())
    }

    /// Whether each chain has its rules, and each set its elements, by their number.
    fn has_shape(&mut self, shape: &Shape, ends: &mut Ends) -> Result<bool, Error> {
        let mut rules: HashMap<String, usize> = HashMap::new();
        let end = self.socket()?.get(NFT_MSG_GETRULE, true, &[], |message| {
            if let Some(chain) = decode::rule_chain(message, Table::Main)? {
                *rules.entry(chain.to_owned()).or_default() += 1;
            }
            Ok(())
        })?;
        ends.note(end);
        let mut whole = shape
            .rules
            .iter()
            .all(|(chain, count)| rules.get(chain) == Some(count));
        for (set, wanted) in &shape.elements {
            let mut count = 0;
            let end = self.dump(Table::Main, set, |_| {
                count += 1;
                Ok(())
            })?;
            ends.note(end);
            whole &= count == *wanted;
        }
        Ok(whole && !ends.missing)
    }

    pub(super) fn dump(
        &mut self,
        table: Table,
        set: &str,
        mut each: impl FnMut(decode::RawElement<'_>) -> Result<(), Error>,
    ) -> Result<Option<DumpEnd>, Error> {
        let mut attributes = socket::text_attribute(NFTA_SET_ELEM_LIST_TABLE, table.name());
        attributes.extend(socket::text_attribute(NFTA_SET_ELEM_LIST_SET, set));
        self.socket()?
            .get(NFT_MSG_GETSETELEM, true, &attributes, |message| {
                decode::elements(message, &mut each)
            })
    }
}
