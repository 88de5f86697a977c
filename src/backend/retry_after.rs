//! `Retry-After` (RFC 9110 §10.2.3): when the backend wants to be asked again. No I/O.

use std::time::Duration;

use ureq::http::HeaderMap;

/// Longest time that is honoured.
const LONGEST: Duration = Duration::from_secs(600);

/// The time to wait, at most 600 s, that an answer asks for; nothing if it asks for none, or in words that
/// cannot be read.
///
/// A date is counted from the answer's own `Date`: a router's clock may be years off. Without that header it
/// says nothing.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let field = |name| Some(headers.get(name)?.to_str().ok()?.trim());
    let value = field("Retry-After")?;
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // What does not fit is longer than the longest.
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST));
    }
    let (then, now) = (seconds_of(value)?, seconds_of(field("Date")?)?);
    // A date in the past asks for nothing.
    let seconds = u64::try_from(then - now).ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST))
}

/// Seconds since 1970 of a date as `Sun, 06 Nov 1994 08:49:37 GMT`, the only form that senders may write
/// (RFC 9110 §5.6.7).
fn seconds_of(date: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (_weekday, rest) = date.split_once(", ")?;
    let mut words = rest.split(' ');
    let number = |text: &str, digits: usize, most: i64| {
        let legal = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
        legal
            .then(|| text.parse().ok())?
            .filter(|number| *number <= most)
    };
    let day = number(words.next()?, 2, 31)?;
    let month = words.next()?;
    let month = i64::try_from(MONTHS.iter().position(|name| *name == month)?).ok()? + 1;
    let year = number(words.next()?, 4, 9999)?;
    let mut clock = words.next()?.split(':');
    let hour = number(clock.next()?, 2, 23)?;
    let minute = number(clock.next()?, 2, 59)?;
    // 60 is a leap second.
    let second = number(clock.next()?, 2, 60)?;
    if clock.next().is_some() || words.next() != Some("GMT") || words.next().is_some() {
        return None;
    }
    Some(((days_of(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days since 1970-01-01 in the Gregorian calendar. The year is taken to begin in March, so that a leap day
/// is its last.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let in_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + in_year
        - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ureq::http::{HeaderName, HeaderValue};

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn asked(value: &str, date: Option<&str>) -> Option<u64> {
        let fields = [("retry-after", Some(value)), ("date", date)];
        let headers = fields.into_iter().filter_map(|(name, value)| {
            Some((
                HeaderName::from_static(name),
                HeaderValue::from_str(value?).ok()?,
            ))
        });
        retry_after(&HeaderMap::from_iter(headers)).map(|time| time.as_secs())
    }

    #[test]
    fn seconds_are_bounded() {
        assert_eq!(asked("7", None), Some(7));
        assert_eq!(asked("0", None), Some(0));
        assert_eq!(asked("315360000", None), Some(600));
        assert_eq!(asked("99999999999999999999999999", None), Some(600));
        for bad in ["-1", "1.5", "1e3", "+7", "seven", "", "7 s"] {
            assert_eq!(asked(bad, Some(DATE)), None, "{bad:?}");
        }
    }

    #[test]
    fn a_date_is_counted_from_the_answers_own() {
        let after = |date| asked(date, Some(DATE));
        assert_eq!(after("Sun, 06 Nov 1994 08:51:07 GMT"), Some(90));
        assert_eq!(after(DATE), Some(0));
        assert_eq!(
            after("Sat, 06 Nov 2004 08:49:37 GMT"),
            Some(600),
            "in ten years"
        );
        assert_eq!(after("Sun, 06 Nov 1994 08:49:36 GMT"), None, "it is over");
        assert_eq!(after("Wed, 01 Jan 0000 00:00:00 GMT"), None);
        assert_eq!(asked(DATE, None), None, "no reference");
        assert_eq!(asked(DATE, Some("yesterday")), None);
        for bad in [
            "Sunday, 06-Nov-94 08:50:37 GMT",
            "Sun Nov  6 08:50:37 1994",
            "Sun, 06 Nov 1994 08:50:37",
            "Sun, 06 Nov 1994 08:50:37 CET",
            "Sun, 06 Nov 1994 08:50:37 GMT x",
            "Sun, 6 Nov 1994 08:50:37 GMT",
            "Sun, 06 Nov 99994 08:50:37 GMT",
            "Sun, +6 Nov 1994 08:50:37 GMT",
            "Sun, 06 Non 1994 08:50:37 GMT",
            "Sun, 06 Nov 1994 24:50:37 GMT",
        ] {
            assert_eq!(after(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(seconds_of("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(seconds_of(DATE), Some(784_111_777));
        assert_eq!(
            seconds_of("Thu, 29 Feb 2024 12:00:00 GMT"),
            Some(1_709_208_000)
        );
        assert_eq!(
            seconds_of("Fri, 31 Dec 9999 23:59:59 GMT"),
            Some(253_402_300_799)
        );
        // 400 years are 146,097 days.
        assert_eq!(days_of(2370, 1, 1), 146_097);
    }

    proptest! {
        #[test]
        fn nothing_breaks_it(value in "[ -~]{0,40}", date in "[ -~]{0,40}") {
            let time = asked(&value, Some(&date));
            prop_assert!(time.is_none_or(|seconds| seconds <= 600));
        }

        #[test]
        fn a_mutated_date_is_read_or_not(at in 0_usize..29, with in "[ -~]") {
            let mut mutated = DATE.to_owned();
            mutated.replace_range(at..=at, &with);
            let time = asked(&mutated, Some(DATE));
            prop_assert!(time.is_none_or(|seconds| seconds <= 600));
        }
    }
}
