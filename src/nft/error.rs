//! What goes wrong between the agent and nf_tables.

use std::fmt;

use nix::errno::Errno;

use super::Table;

/// Why something could not be asked, read or understood.
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
            error if error.is_absence() => write!(f, "{NO_NF_TABLES}"),
            Self::Open(errno) => {
                write!(f, "opening a netlink socket to nf_tables: {}", errno.desc())
            }
            Self::Send(errno) => write!(f, "sending a request to nf_tables: {}", errno.desc()),
            Self::Receive(errno) => write!(f, "reading an answer of nf_tables: {}", errno.desc()),
            Self::Refused(Errno::EPERM) => write!(f, "{NOT_PERMITTED}"),
            Self::Refused(errno) => write!(
                f,
                "reading back table {}: {}",
                Table::Main.name(),
                errno.desc()
            ),
            Self::Malformed(what) => write!(f, "reading an answer of nf_tables: {what} is cut off"),
            Self::Unsteady => write!(
                f,
                "reading back table {}: it changed each time",
                Table::Main.name()
            ),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// Whether this kernel has no nf_tables. Its module may still come.
    pub fn is_absence(&self) -> bool {
        match self {
            Self::Open(errno) => *errno == Errno::EPROTONOSUPPORT,
            // What nfnetlink answers when no nf_tables has registered with it.
            Self::Refused(errno) => *errno == Errno::EINVAL,
            _ => false,
        }
    }

    /// Whether this process may not ask.
    pub fn is_missing_right(&self) -> bool {
        matches!(
            self,
            Self::Open(Errno::EPERM | Errno::EACCES) | Self::Refused(Errno::EPERM)
        )
    }
}

const NO_NF_TABLES: &str = "this kernel has no nf_tables (kmod-nft-core on OpenWrt)";
pub(super) const NOT_PERMITTED: &str =
    "changing nf_tables is not permitted: CAP_NET_ADMIN (or root) is needed";
