//! The boot-time clock: it counts suspended time, and setting the wall clock does not move it. A router
//! has no clock battery, so nothing that the agent decides depends on the wall clock. Certificates do: so
//! [`Setting`] tells when somebody sets it.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::time::sleep;

/// Between two looks at the wall clock, by whoever waits for it to be set.
const LOOK: Duration = Duration::from_secs(1);
/// What is less is the fine work of a time service.
const STEP: Duration = Duration::from_secs(2);

/// Time since the machine started.
pub fn now() -> Duration {
    // It fails only for a clock that the kernel does not know, and Linux has this one since 2.6.39.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// How the wall clock was set at some moment: when this machine started, by that clock, since 1970. It changes
/// only when the clock is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting(Duration);

impl Setting {
    /// As it is now.
    pub fn read() -> Self {
        let wall = clock_gettime(ClockId::CLOCK_REALTIME).map_or(Duration::ZERO, Duration::from);
        Self(wall.saturating_sub(now()))
    }

    /// Waits until the clock has been set since then, forwards or back.
    pub async fn changed(self) {
        self.changed_by(Self::read).await;
    }

    async fn changed_by(self, read: impl Fn() -> Self) {
        while self.0.abs_diff(read().0) < STEP {
            sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use tokio::time::{Instant, timeout};

    /// 2026-01-01.
    const TODAY: Duration = Duration::from_secs(1_767_225_600);

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_is_seen_within_a_second() {
        for (before, after) in [(Duration::ZERO, TODAY), (TODAY, Duration::ZERO)] {
            let shown = Cell::new(before);
            let begun = Instant::now();
            let set_after = Duration::from_secs(600);
            let set = async {
                sleep(set_after).await;
                shown.set(after);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = set => {}
                () = Setting(before).changed_by(|| Setting(shown.get())) => {}
            }
            let seen = begun.elapsed();
            assert!(seen >= set_after && seen <= set_after + LOOK, "{seen:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_corrected_is_not_set() {
        let corrected = TODAY + Duration::from_millis(1_900);
        let changed = Setting(TODAY).changed_by(|| Setting(corrected));
        assert!(timeout(Duration::from_secs(60), changed).await.is_err());
    }

    #[test]
    fn time_that_passes_changes_nothing() {
        let before = Setting::read();
        // Far more than a busy machine takes between the two clocks' readings.
        std::thread::sleep(Duration::from_millis(500));
        assert!(before.0.abs_diff(Setting::read().0) < Duration::from_millis(400));
    }
}
