//! When a notification is tried again, and when it is given up.

/// Longest wait after the first failure, in milliseconds; it doubles with each further one.
const FIRST_MS: i64 = 1_000;
/// Longest wait of all, in milliseconds.
const LONGEST_MS: i64 = 600_000;
/// How old an event may be when it is tried for the last time, in milliseconds.
const OLDEST_MS: i64 = 86_400_000;
/// Attempts at a receiver that answers, but does not want it.
const MOST_REFUSALS: i64 = 6;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver answered with this status.
    Answered(u16),
    /// Nobody answered: it may be another time.
    Unreachable,
    /// It cannot go there, or what came back was no fit answer: it is unlikely to be another time.
    Unfit,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it arrived.
    Done,
    /// Nothing any more.
    GiveUp,
    /// Another attempt, after a random time of at most so many milliseconds (full jitter: receivers that fail together
    /// are not asked together).
    Retry {
        /// The longest wait.
        within_ms: i64,
    },
}

/// What follows the attempt number `attempts` (from 1) for an event of this age.
pub fn next(outcome: Outcome, attempts: i64, age_ms: i64) -> Next {
    let refused = match outcome {
        Outcome::Answered(200..=299) => return Next::Done,
        // The receiver is gone for good.
        Outcome::Answered(410) => return Next::GiveUp,
        // Asked to wait, or to try again.
        Outcome::Answered(408 | 425 | 429) | Outcome::Unreachable => false,
        // A redirect is not followed: it would lead past the checks of the URL.
        Outcome::Answered(300..=499) | Outcome::Unfit => true,
        Outcome::Answered(_) => false,
    };
    if age_ms >= OLDEST_MS || (refused && attempts >= MOST_REFUSALS) {
        return Next::GiveUp;
    }
    let doublings = attempts.saturating_sub(1).clamp(0, 30);
    Next::Retry {
        within_ms: (FIRST_MS << doublings).min(LONGEST_MS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_success_is_success() {
        for status in [200, 202, 204, 299] {
            assert_eq!(next(Outcome::Answered(status), 1, 0), Next::Done);
        }
        let again = Next::Retry { within_ms: 1_000 };
        for status in [101, 301, 302, 307, 400, 401, 404, 429, 500, 503] {
            assert_eq!(next(Outcome::Answered(status), 1, 0), again, "{status}");
        }
        assert_eq!(next(Outcome::Answered(410), 1, 0), Next::GiveUp);
    }

    #[test]
    fn waits_double_up_to_a_limit() {
        let within = |attempts| match next(Outcome::Unreachable, attempts, 0) {
            Next::Retry { within_ms } => within_ms,
            other => panic!("{other:?}"),
        };
        let waits: Vec<i64> = [1, 2, 3, 10, 11, 300].into_iter().map(within).collect();
        assert_eq!(waits, [1_000, 2_000, 4_000, 512_000, 600_000, 600_000]);
    }

    #[test]
    fn everything_ends() {
        for outcome in [
            Outcome::Unreachable,
            Outcome::Answered(500),
            Outcome::Answered(429),
        ] {
            assert_ne!(next(outcome, 1_000, 86_399_999), Next::GiveUp);
            assert_eq!(next(outcome, 2, 86_400_000), Next::GiveUp);
        }
        for outcome in [
            Outcome::Unfit,
            Outcome::Answered(404),
            Outcome::Answered(302),
        ] {
            assert_ne!(next(outcome, 5, 0), Next::GiveUp);
            assert_eq!(next(outcome, 6, 0), Next::GiveUp);
        }
    }
}
