//! The plan: which sessions are admitted, and what must change in the kernel for them. No I/O.

mod admit;
mod admitted;
mod diff;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use admit::{Verdict, admit};
pub use diff::{Goal, changes, sweep};

/// An element in force is left alone unless its end would move by more than this.
const TOLERANCE: Duration = Duration::from_secs(2);
/// Elements of a session without an end run this long, so that no mark outlives a dead agent for longer.
pub const LEASE: Duration = Duration::from_hours(24);
