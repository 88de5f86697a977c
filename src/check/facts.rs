//! What the doctor found, before it is judged.

use std::path::PathBuf;
use std::time::Duration;

use qod_wire::{QueueMode, QueueStatus};

use crate::link::Snapshot;
use crate::nft::Flowtable;
use crate::queue::Kind;

/// Something that the kernel can do, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ability {
    /// It was done.
    There,
    /// It was refused, with these words.
    Missing(String),
    /// It could not be tried, for this reason.
    Untried(String),
}

/// What the kernel does in a network namespace of its own.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    pub(super) nf_tables: Ability,
    /// The agent's table with an element in each of its maps.
    pub(super) maps: Ability,
    pub(super) ingress: Ability,
    pub(super) egress: Ability,
    pub(super) limit: Ability,
    /// Whether adding an element again moves its end.
    pub(super) moves_ends: Ability,
    pub(super) queues: Vec<(Kind, Ability)>,
}

impl Kernel {
    /// Nothing was tried.
    pub(super) fn untried(why: &str) -> Self {
        let untried = || Ability::Untried(why.to_owned());
        Self {
            nf_tables: untried(),
            maps: untried(),
            ingress: untried(),
            egress: untried(),
            limit: untried(),
            moves_ends: untried(),
            queues: Kind::ALL.map(|kind| (kind, untried())).to_vec(),
        }
    }
}

/// A file that others than its owner should not get at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exposed {
    pub(super) file: PathBuf,
    /// Permission bits.
    pub(super) mode: u32,
}

/// What the configuration leads to.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) lan: Vec<String>,
    pub(super) wan: Option<String>,
    pub(super) queue_mode: QueueMode,
    pub(super) links: Result<Snapshot, String>,
    /// The WAN device's root; None: the kernel's default.
    pub(super) root: Result<Option<QueueStatus>, String>,
    /// Whether the backend's certificate has to be valid now.
    pub(super) tls: bool,
    /// What the credentials are, or what is wrong with them.
    pub(super) credentials: Result<String, String>,
    pub(super) exposed: Vec<Exposed>,
}

/// Everything.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Release of the kernel.
    pub(super) kernel: String,
    /// The distribution's name of itself.
    pub(super) release: Option<String>,
    /// Whether this process has `CAP_NET_ADMIN`.
    pub(super) may_administer: bool,
    pub(super) abilities: Kernel,
    /// What the configuration leads to, or what is wrong with the file.
    pub(super) site: Result<Site, String>,
    pub(super) flowtables: Result<Vec<Flowtable>, String>,
    /// The wall clock, since 1970.
    pub(super) time: Duration,
    /// Whether an agent runs here.
    pub(super) agent: Result<bool, String>,
}
