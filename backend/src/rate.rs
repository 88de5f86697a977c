//! How often something may happen, by name: a token bucket each, as one number (GCRA).
//!
//! The numbers are this process's own. Several processes behind one address allow as many times as much together.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// A rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Time between two, in the long run, in microseconds.
    pub interval_us: i64,
    /// How many at once, after a rest.
    pub burst: i64,
}

impl Rate {
    /// So many a second, `burst` of them at once. Both at least 1.
    pub fn per_second(number: i64, burst: i64) -> Self {
        Self {
            interval_us: 1_000_000 / number.clamp(1, 1_000_000),
            burst: burst.max(1),
        }
    }
}

/// Who had what. Names are bounded in number: beyond it those at rest are forgotten, then all.
pub struct Buckets {
    most: usize,
    /// By name, the time at which its bucket is full again, in microseconds.
    full_us: Mutex<HashMap<String, i64>>,
}

impl Buckets {
    /// Room for `most` names.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            full_us: Mutex::default(),
        }
    }

    /// Takes one for `name`, or says in how many milliseconds there is one again.
    pub fn take(&self, name: &str, rate: Rate, now_ms: i64) -> Result<(), i64> {
        let mut buckets = self.full_us.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now_ms.saturating_mul(1_000);
        let full = wait(buckets.get(name), rate, now)?;
        if let Some(bucket) = buckets.get_mut(name) {
            *bucket = full;
            return Ok(());
        }
        if buckets.len() >= self.most {
            buckets.retain(|_, full| *full > now);
        }
        if buckets.len() >= self.most {
            buckets.clear();
        }
        buckets.insert(name.to_owned(), full);
        Ok(())
    }

    /// Whether there is one for `name`, or in how many milliseconds.
    pub fn look(&self, name: &str, rate: Rate, now_ms: i64) -> Result<(), i64> {
        let buckets = self.full_us.lock().unwrap_or_else(PoisonError::into_inner);
        wait(buckets.get(name), rate, now_ms.saturating_mul(1_000)).map(|_| ())
    }
}

/// When the bucket is full again after one more is taken, or in how many milliseconds there is one.
fn wait(full: Option<&i64>, rate: Rate, now: i64) -> Result<i64, i64> {
    let room = rate.interval_us.saturating_mul(rate.burst);
    // An empty bucket at most, also after the clock went back or the rate was raised.
    let full = full.map_or(now, |full| (*full).clamp(now, now.saturating_add(room)));
    let full = full.saturating_add(rate.interval_us);
    let over = full.saturating_sub(now.saturating_add(room));
    if over > 0 {
        Err((over + 999) / 1_000)
    } else {
        Ok(full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let buckets = Buckets::new(9);
        let rate = Rate::per_second(10, 3);
        let take = |now| buckets.take("a", rate, now);
        for _ in 0..3 {
            assert_eq!(take(1_000), Ok(()));
        }
        assert_eq!(take(1_000), Err(100));
        assert_eq!(buckets.look("a", rate, 1_060), Err(40));
        assert_eq!(take(1_100), Ok(()));
        assert_eq!(take(1_100), Err(100));
        assert_eq!(buckets.take("b", rate, 1_100), Ok(()));
        assert_eq!(take(500), Err(100), "the clock went back");
        for _ in 0..3 {
            assert_eq!(take(60_000), Ok(()));
        }
        assert!(take(60_000).is_err());
    }

    #[test]
    fn names_are_bounded() {
        let buckets = Buckets::new(10);
        let rate = Rate::per_second(1, 1);
        for number in 0..1_000 {
            buckets.take(&number.to_string(), rate, 0).unwrap();
        }
        assert!(buckets.full_us.lock().unwrap().len() <= 10);
    }
}
