//! The boot-time clock: it counts suspended time, and setting the wall clock does not move it. A router
//! has no clock battery, so nothing that the agent decides depends on the wall clock.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Time since the machine started.
pub fn now() -> Duration {
    // It fails only for a clock that the kernel does not know, and Linux has this one since 2.6.39.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}
