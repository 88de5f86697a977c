//! What goes wrong between the agent and rtnetlink.

use std::fmt;
use std::io;

/// The kernel did not say what links and devices there are.
#[derive(Debug)]
pub struct Error {
    doing: &'static str,
    error: io::Error,
}

impl Error {
    pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { doing, error }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.error)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
