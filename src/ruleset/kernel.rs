//! The trait behind which the kernel stands, and how it names what it refuses.

use std::fmt;

use super::{Changes, Hook, Limit, Ruleset};
use crate::session::SessionId;

/// One message of a transaction, as errors name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// An element of a session was to be added.
    Add(SessionId),
    /// An element of a session was to be removed.
    Delete(SessionId),
    /// The chain that bounds a session's rate was to be added, or a rule of it.
    AddLimit(SessionId),
    /// That chain was to be removed.
    DeleteLimit(Limit),
    /// A base chain was to be added, or a rule of it.
    AddHook(Hook),
    /// A base chain was to be removed.
    DeleteHook(Hook),
    /// Table, map, chain, rule or device address; the text names it.
    Structure(String),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(session) => write!(f, "adding an element of session {session}"),
            Self::Delete(session) => write!(f, "removing an element of session {session}"),
            Self::AddLimit(session) => write!(f, "bounding the rate of session {session}"),
            Self::DeleteLimit(limit) => {
                write!(f, "removing the rate limit of session {}", limit.session)
            }
            Self::AddHook(hook) => write!(f, "hooking into the {hook}"),
            Self::DeleteHook(hook) => write!(f, "leaving the {hook}"),
            Self::Structure(what) => write!(f, "{what}"),
        }
    }
}

/// Why a transaction did not happen. Nothing of it is in force.
#[derive(Debug)]
pub enum CommitError {
    /// The kernel refused these parts, each with the text of its errno.
    Refused(Vec<(Part, String)>),
    /// The kernel could not be asked, or its answer not be understood.
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(parts) => {
                write!(f, "the kernel refused the change")?;
                if let Some((part, errno)) = parts.first() {
                    write!(f, ", {part}: {errno}")?;
                }
                match parts.len() {
                    0 | 1 => Ok(()),
                    n => write!(f, " (and {} more)", n - 1),
                }
            }
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CommitError {}

/// The part of the kernel that holds the ruleset.
pub trait Kernel {
    /// Why the kernel could not be read.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Reads back all that the agent's table holds.
    ///
    /// # Errors
    /// The kernel could not be asked, or its answer not be understood.
    fn observe(&mut self) -> Result<Ruleset, Self::Error>;

    /// Makes the changes: all or nothing, and without a gap for what is in force before and after.
    ///
    /// # Errors
    /// See [`CommitError`].
    fn commit(&mut self, changes: &Changes) -> Result<(), CommitError>;
}
