//! What notifications say, in both dialects of 0.9.0.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Which of the two forms a consumer asked in, and is answered in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkForm {
    /// `notificationUrl` at the top (the document): it is told once, that the session was terminated.
    Top,
    /// `notificationUrl` in `webhook` (the YAML): it is told every change of `qosStatus`.
    Webhook,
}

impl SinkForm {
    /// The word in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Top => "top",
            Self::Webhook => "webhook",
        }
    }

    /// The form of a word in the store.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Top, Self::Webhook]
            .into_iter()
            .find(|form| form.as_str() == word)
    }
}

/// `EventQosStatus`. A session that waits for its agents is REQUESTED, of which no event can speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventStatus {
    /// In force.
    Available,
    /// Not in force.
    Unavailable,
}

impl EventStatus {
    /// The word in events, and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "AVAILABLE",
            Self::Unavailable => "UNAVAILABLE",
        }
    }

    /// The status of a word in the store.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Available, Self::Unavailable]
            .into_iter()
            .find(|status| status.as_str() == word)
    }
}

/// `StatusInfo`: why a session is UNAVAILABLE for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusInfo {
    /// Its time is over.
    DurationExpired,
    /// The operator ended it.
    NetworkTerminated,
}

impl StatusInfo {
    fn as_str(self) -> &'static str {
        match self {
            Self::DurationExpired => "DURATION_EXPIRED",
            Self::NetworkTerminated => "NETWORK_TERMINATED",
        }
    }
}

/// The document's event (§4.6, snippet 2).
pub fn terminated(session: &str) -> Value {
    json!({"sessionId": session, "event": "SESSION_TERMINATED"})
}

/// The YAML's `EventNotification` of a change at `time_ms`. Its schema holds, and not its examples, which leave the
/// wrapper `event` out.
pub fn status_changed(
    event: &str,
    session: &str,
    status: EventStatus,
    info: Option<StatusInfo>,
    time_ms: i64,
) -> Value {
    let mut detail = json!({"sessionId": session, "qosStatus": status.as_str()});
    if let (Some(info), Value::Object(detail)) = (info, &mut detail) {
        detail.insert("statusInfo".to_owned(), info.as_str().into());
    }
    json!({"event": {
        "eventId": event,
        "eventType": "QOS_STATUS_CHANGED",
        "eventTime": rfc3339(time_ms),
        "eventDetail": detail,
    }})
}

/// Milliseconds since the epoch as a date and time in UTC. What no date can say reads as the epoch.
fn rfc3339(time_ms: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(time_ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_yamls_event() {
        let info = Some(StatusInfo::DurationExpired);
        assert_eq!(
            status_changed("e", "s", EventStatus::Unavailable, info, 1_700_000_000_250),
            json!({"event": {"eventId": "e", "eventType": "QOS_STATUS_CHANGED",
                "eventTime": "2023-11-14T22:13:20.25Z",
                "eventDetail": {"sessionId": "s", "qosStatus": "UNAVAILABLE", "statusInfo": "DURATION_EXPIRED"}}})
        );
        let detail =
            &status_changed("e", "s", EventStatus::Available, None, 0)["event"]["eventDetail"];
        assert_eq!(*detail, json!({"sessionId": "s", "qosStatus": "AVAILABLE"}));
    }

    #[test]
    fn times() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_709_208_000_000), "2024-02-29T12:00:00Z");
        assert_eq!(rfc3339(i64::MAX), "1970-01-01T00:00:00Z");
    }
}
