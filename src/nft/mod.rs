//! The ruleset in the kernel: nf_tables over netlink.
//!
//! Everything is in one table, `netdev qod`. Writing goes through libnftnl (`sys`), in one transaction
//! at a time; reading back is safe Rust (`decode`).
//!
//! Some changes cannot be made in one transaction without packets that lose their mark: a table that is
//! replaced by one of another layout (measured on 6.18), and before 6.12 an element that is replaced
//! (measured on 6.1). For those a second table, `qod-next`, marks the same packets meanwhile: it is made
//! before, and removed after (`commit`).

mod commit;
mod decode;
mod error;
mod expr;
mod flowtable;
mod leftovers;
mod map;
mod message;
mod monitor;
mod probe;
mod read;
mod refusal;
mod socket;
mod sys;
mod table;
mod transaction;

use std::collections::BTreeMap;

use nftnl::ProtoFamily;

use crate::ruleset::{Changes, CommitError, Hook, Kernel, Ruleset};
pub use error::Error;
pub use flowtable::Flowtable;
pub use leftovers::remove_tables;
pub use monitor::Monitor;
use socket::Socket;
pub use table::MarkBits;

const FAMILY: ProtoFamily = ProtoFamily::NetDev;

/// How often a dump is repeated when the ruleset changes under it.
const DUMP_ATTEMPTS: usize = 8;

/// One of the agent's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    /// What is in force.
    Main,
    /// What marks the same packets while the other one changes.
    Twin,
    /// Nothing hangs on it; it tells what the kernel can do.
    Probe,
}

impl Table {
    const ALL: [Self; 3] = [Self::Main, Self::Twin, Self::Probe];

    const fn name(self) -> &'static str {
        match self {
            Self::Main => "qod",
            Self::Twin => "qod-next",
            Self::Probe => "qod-probe",
        }
    }
}

/// The kernel's nf_tables, in the network namespace of the thread that first asks it.
pub struct Nft {
    /// None: nobody has asked yet, or there was none. The module may come later.
    socket: Option<Socket>,
    bits: MarkBits,
    /// Whether somebody else may have changed the table since its rules were last looked at.
    suspect: bool,
    /// The base chains, as last read back.
    hooks: BTreeMap<Hook, Option<u32>>,
    /// Whether this kernel moves the end of an element in force; none: not tried yet.
    moves_ends: Option<bool>,
}

impl Nft {
    /// Nothing is opened or changed yet.
    pub fn new(bits: MarkBits) -> Self {
        Self {
            socket: None,
            bits,
            suspect: true,
            hooks: BTreeMap::new(),
            moves_ends: None,
        }
    }

    /// The way to nf_tables, opened when it is needed.
    fn socket(&mut self) -> Result<&mut Socket, Error> {
        match self.socket.take() {
            Some(socket) => Ok(self.socket.insert(socket)),
            None => Ok(self.socket.insert(Socket::open()?)),
        }
    }

    /// Somebody else has changed something of the agent's: the next reading looks at every chain's rules,
    /// too. What is not as this agent made it is replaced whole.
    pub fn suspect(&mut self) {
        self.suspect = true;
    }

    /// Tells when somebody else changes what is the agent's. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn monitor(&mut self) -> Result<Monitor, Error> {
        Monitor::open(self.socket()?.port()?)
    }
}

impl Kernel for Nft {
    type Error = Error;

    fn observe(&mut self) -> Result<Ruleset, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(ruleset) = self.read()? {
                self.suspect = false;
                self.hooks.clone_from(&ruleset.hooks);
                return Ok(ruleset);
            }
        }
        Err(Error::Unsteady)
    }

    fn commit(&mut self, changes: &Changes) -> Result<(), CommitError> {
        self.change(changes)
    }
}
