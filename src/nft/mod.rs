//! The ruleset in the kernel: nf_tables over netlink.
//!
//! Everything is in one table, `netdev qod`. Writing goes through libnftnl (`sys`), in one transaction
//! at a time; reading back is safe Rust (`decode`).

mod decode;
mod expr;
mod flowtable;
mod leftovers;
mod map;
mod message;
mod probe;
mod socket;
mod sys;
mod table;
mod transaction;

use std::collections::{HashMap, HashSet};
use std::fmt;

use nftnl::{Batch, ProtoFamily};
use nix::errno::Errno;

use crate::flow::Family;
use crate::ruleset::{Changes, CommitError, Kernel, Layout, Part, Ruleset};
use crate::session::SessionId;
pub use flowtable::Flowtable;
pub use leftovers::remove_tables;
use map::Map;
pub use probe::probe_limit;
use socket::{DumpEnd, Socket};
pub use table::MarkBits;
use transaction::Step;

/// The agent's table.
const TABLE: &str = "qod";
const FAMILY: ProtoFamily = ProtoFamily::NetDev;

/// How often a dump is repeated when the ruleset changes under it.
const DUMP_ATTEMPTS: usize = 8;

/// What goes wrong between the agent and nf_tables.
#[derive(Debug)]
pub enum Error {
    /// No socket to netfilter.
    Open(Errno),
    /// A request could not be sent.
    Send(Errno),
    /// An answer could not be read.
    Receive(Errno),
    /// The kernel refused to read something back.
    Refused(Errno),
    /// An answer is not what the kernel writes.
    Malformed(&'static str),
    /// The ruleset changed under each of several dumps.
    Unsteady,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(Errno::EPROTONOSUPPORT) => write!(f, "{NO_NF_TABLES}"),
            Self::Open(errno) => {
                write!(f, "opening a netlink socket to nf_tables: {}", errno.desc())
            }
            Self::Send(errno) => write!(f, "sending a request to nf_tables: {}", errno.desc()),
            Self::Receive(errno) => write!(f, "reading an answer of nf_tables: {}", errno.desc()),
            Self::Refused(Errno::EPERM) => write!(f, "{NOT_PERMITTED}"),
            // What nfnetlink answers when no nf_tables has registered with it.
            Self::Refused(Errno::EINVAL) => write!(f, "{NO_NF_TABLES}"),
            Self::Refused(errno) => write!(f, "reading back table {TABLE}: {}", errno.desc()),
            Self::Malformed(what) => write!(f, "reading an answer of nf_tables: {what} is cut off"),
            Self::Unsteady => write!(f, "reading back table {TABLE}: it changed each time"),
        }
    }
}

impl std::error::Error for Error {}

const NO_NF_TABLES: &str = "this kernel has no nf_tables (kmod-nft-core on OpenWrt)";
const NOT_PERMITTED: &str =
    "changing nf_tables is not permitted: CAP_NET_ADMIN (or root) is needed";

/// The kernel's nf_tables, in the network namespace of the thread that opened it.
pub struct Nft {
    socket: Socket,
    bits: MarkBits,
}

impl Nft {
    /// Opens the way to nf_tables; nothing is changed.
    ///
    /// # Errors
    /// There is no nf_tables.
    pub fn open(bits: MarkBits) -> Result<Self, Error> {
        Ok(Self {
            socket: Socket::open()?,
            bits,
        })
    }

    fn read(&mut self) -> Result<Option<Ruleset>, Error> {
        let mut ruleset = Ruleset::default();
        let table = socket::text_attribute(NFTA_TABLE_NAME, TABLE);
        let mut comment = None;
        self.socket
            .get(NFT_MSG_GETTABLE, false, &table, |message| {
                comment = Some(decode::table_comment(message)?);
                Ok(())
            })?;
        ruleset.layout = match comment {
            None => return Ok(Some(ruleset)),
            Some(comment) if comment == table::layout(self.bits) => Layout::Current,
            Some(comment) => {
                ruleset.layout = Layout::Other(comment);
                return Ok(Some(ruleset));
            }
        };
        let mut ends = vec![self.socket.get(NFT_MSG_GETCHAIN, true, &[], |message| {
            if let Some(name) = decode::chain_name(message)? {
                ruleset.dscps.extend(table::DscpChain::dscp(&name));
                ruleset.hooks.extend(table::hook_of(&name));
            }
            Ok(())
        })?];
        for family in Family::ALL {
            ends.push(self.dump(map::devices(family), |element| {
                ruleset.devices.extend(map::address(element.key));
                Ok(())
            })?);
        }
        // A session has elements in several maps; they share its id.
        let mut ids: HashSet<SessionId> = HashSet::new();
        for map in Map::all() {
            ends.push(self.dump(map.name(), |element| {
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
            })?);
        }
        // A set that is gone was deleted meanwhile, with its table.
        let whole = ends.iter().all(|end| *end == Some(DumpEnd::Whole));
        Ok(whole.then_some(ruleset))
    }

    fn dump(
        &mut self,
        set: &str,
        mut each: impl FnMut(decode::RawElement<'_>) -> Result<(), Error>,
    ) -> Result<Option<DumpEnd>, Error> {
        let mut attributes = socket::text_attribute(NFTA_SET_ELEM_LIST_TABLE, TABLE);
        attributes.extend(socket::text_attribute(NFTA_SET_ELEM_LIST_SET, set));
        self.socket
            .get(NFT_MSG_GETSETELEM, true, &attributes, |message| {
                decode::elements(message, &mut each)
            })
    }
}

// `enum nf_tables_msg_types` and attribute types of `linux/netfilter/nf_tables.h`.
const NFT_MSG_GETTABLE: u16 = 1;
const NFT_MSG_GETCHAIN: u16 = 4;
const NFT_MSG_GETSETELEM: u16 = 13;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;

impl Kernel for Nft {
    type Error = Error;

    fn observe(&mut self) -> Result<Ruleset, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(ruleset) = self.read()? {
                return Ok(ruleset);
            }
        }
        Err(Error::Unsteady)
    }

    fn commit(&mut self, changes: &Changes) -> Result<(), CommitError> {
        self.transact(transaction::steps(changes, self.bits))
    }
}

impl Nft {
    fn transact(&mut self, steps: Vec<Step>) -> Result<(), CommitError> {
        let failed = |error: Error| CommitError::Failed(Box::new(error));
        let mut batch = Batch::new();
        let mut parts = HashMap::with_capacity(steps.len());
        let last = steps.len().saturating_sub(1);
        for (index, (verb, message, part)) in steps.into_iter().enumerate() {
            parts.insert(sys::append(&mut batch, verb, &message, index == last), part);
        }
        let refused = self.socket.commit(&batch.finalize()).map_err(failed)?;
        if refused.is_empty() {
            return Ok(());
        }
        let unnamed = || Part::Structure("starting the transaction".to_owned());
        let named = |(sequence, errno): (u32, Errno)| {
            let text = match errno {
                Errno::EPERM => NOT_PERMITTED,
                other => other.desc(),
            };
            (
                parts.get(&sequence).cloned().unwrap_or_else(unnamed),
                text.to_owned(),
            )
        };
        Err(CommitError::Refused(
            refused.into_iter().map(named).collect(),
        ))
    }
}
