//! How long to wait after an error: twice as long each time, with full jitter, so that a hundred
//! thousand routers do not come back in the same second.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);

/// Waiting times after errors in a row.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// All is well again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Time to wait after one more error: evenly between nothing and 1 s, 2 s, 4 s, … at most `most`.
    pub fn next(&mut self, most: Duration) -> Duration {
        let ceiling = FIRST.saturating_mul(1 << self.failures.min(20)).min(most);
        self.failures = self.failures.saturating_add(1);
        // Whole milliseconds, and never none: an error that comes at once must not spin.
        let millis = u64::try_from(ceiling.as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        Duration::from_millis(1 + random() % millis)
    }
}

/// A number that other routers do not share. Not for secrets.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_grow_to_the_ceiling_and_start_again() {
        let most = Duration::from_secs(60);
        let longest = |failures| {
            let waits = (0..200).map(|_| Backoff { failures }.next(most));
            waits.max().unwrap()
        };
        assert!(
            longest(0) <= Duration::from_millis(1000) && longest(0) > Duration::from_millis(500)
        );
        assert!(longest(3) <= Duration::from_secs(8) && longest(3) > Duration::from_secs(4));
        assert!(longest(u32::MAX) <= most && longest(u32::MAX) > Duration::from_secs(30));
        let mut backoff = Backoff { failures: 9 };
        backoff.reset();
        assert!(backoff.next(most) <= Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn a_wait_is_never_none_and_never_longer_than_asked(failures: u32, most in 1_u64..100_000) {
            let most = Duration::from_millis(most);
            let wait = Backoff { failures }.next(most);
            prop_assert!(wait >= Duration::from_millis(1) && wait <= most.max(FIRST));
            prop_assert!(wait <= most, "{:?}", wait);
        }
    }

    #[test]
    fn routers_do_not_come_back_together() {
        // Evenly spread: each quarter of a second has a fair share of a thousand routers.
        let waits: Vec<_> = (0..1000).map(|_| Backoff::default().next(FIRST)).collect();
        for quarter in 0..4_u128 {
            let within = |wait: &&Duration| (wait.as_millis() - 1) / 250 == quarter;
            let count = waits.iter().filter(within).count();
            assert!((150..=350).contains(&count), "{count} in quarter {quarter}");
        }
    }
}
