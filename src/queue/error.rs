//! What can go wrong with a device's queues.

use std::{fmt, io};

/// Why the queues of a device are not as asked.
#[derive(Debug)]
pub enum Error {
    /// No device of that name exists here (now).
    NoDevice {
        /// Linux device.
        device: String,
    },
    /// The kernel refused a request, or could not be reached.
    Kernel {
        /// What was being done.
        doing: &'static str,
        /// Linux device.
        device: String,
        /// The kernel's errno.
        error: io::Error,
    },
    /// The kernel accepted every request and still shows something else: another program changes
    /// the same queues.
    Unsettled {
        /// Linux device.
        device: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevice { device } => write!(f, "there is no device {device}"),
            Self::Kernel {
                doing,
                device,
                error,
            } => write!(f, "{doing} of {device}: {error}"),
            Self::Unsettled { device } => {
                write!(f, "the queues of {device} do not stay as they are set")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Kernel { error, .. } => Some(error),
            Self::NoDevice { .. } | Self::Unsettled { .. } => None,
        }
    }
}
