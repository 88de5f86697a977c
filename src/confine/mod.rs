//! Least privilege: what a running agent gives up before it hears its first word from outside.
//!
//! | layer | what is left | kernel |
//! |---|---|---|
//! | capabilities | `CAP_NET_ADMIN`; `no_new_privs` | any |
//! | Landlock | reading what a resolver and TLS need; TCP to the backend and to name servers | 5.13; TCP 6.7; signals 6.12 |
//! | seccomp | the system calls of the agent, with their arguments where these say more | 3.17 |
//!
//! What stays in the agent's hands is its work: rtnetlink, nf_tables, and the backend. There is no
//! switch to turn it off: whoever could set one would be whom it is against. A debugger that is
//! attached from outside works as ever.

mod capabilities;
mod landlock;
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
))]
mod seccomp;

/// Nobody has drawn the list of this architecture's system calls.
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
)))]
mod seccomp {
    pub(super) fn install() -> Result<bool, super::Error> {
        Ok(false)
    }
}

use std::fmt;
use std::io;

use crate::config::Config;

/// What is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// Version of Landlock's interface; none where the kernel does not have it, or has it turned off.
    pub landlock: Option<i32>,
    /// Whether there is a seccomp filter. Some kernels have none, and some architectures no list.
    pub seccomp: bool,
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("confined: capabilities")?;
        f.write_str(match self.seccomp {
            true => ", seccomp",
            false => ", no seccomp here",
        })?;
        match self.landlock {
            Some(version) => write!(f, ", landlock ABI {version}"),
            None => f.write_str(", no landlock here"),
        }
    }
}

/// A privilege cannot be given up. What this kernel does not know is no error.
#[derive(Debug)]
pub enum Error {
    /// The kernel refuses a change of the capabilities.
    Capabilities(&'static str, io::Error),
    /// The kernel has Landlock and refuses the ruleset.
    Landlock(io::Error),
    /// The kernel has seccomp and refuses the filter.
    Seccomp(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capabilities(doing, error) => write!(f, "{doing}: {error}"),
            Self::Landlock(error) => write!(f, "entering a Landlock domain: {error}"),
            Self::Seccomp(error) => write!(f, "installing the seccomp filter: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// Confines the calling thread and those that it will start; threads that exist already are not
/// touched, so it comes before the first. It cannot be undone.
///
/// # Errors
/// See [`Error`]. Some privileges may be gone by then: the caller should end.
pub fn confine(config: &Config) -> Result<Confinement, Error> {
    capabilities::drop()?;
    let landlock = landlock::enter(&config.backend)?;
    // Last: the filter knows none of the calls above.
    let seccomp = seccomp::install()?;
    Ok(Confinement { landlock, seccomp })
}
