//! Why a call brought nothing: what an answer, or its absence, means to the agent.

use std::fmt;
use std::time::Duration;

use ureq::http::{HeaderMap, StatusCode};

/// Longest Retry-After that is honoured.
const LONGEST_RETRY: Duration = Duration::from_secs(600);

/// Why a call brought nothing.
#[derive(Debug)]
pub enum Failure {
    /// An answer that cannot be used; the state in force stays.
    BadInstructions(String),
    /// The backend does not let this agent in.
    Unauthorized(StatusCode),
    /// The agent is decommissioned.
    Gone,
    /// The report itself is refused.
    ReportRefused(StatusCode),
    /// The backend's certificate is not valid yet: most likely this router's clock is not set.
    Clock(String),
    /// Anything that may pass: network, TLS, an overloaded backend.
    Unreachable {
        /// What failed.
        what: String,
        /// When the backend wants to be asked again.
        retry_after: Option<Duration>,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadInstructions(what) => write!(f, "the instructions cannot be used: {what}"),
            Self::Unauthorized(status) => write!(f, "the backend refuses this agent: {status}"),
            Self::Gone => write!(f, "the backend says that this agent is decommissioned"),
            Self::ReportRefused(status) => write!(f, "the backend refuses the report: {status}"),
            Self::Clock(what) => write!(f, "{what}; is this router's clock set?"),
            Self::Unreachable { what, .. } => f.write_str(what),
        }
    }
}

impl std::error::Error for Failure {}

/// Whether a refusal says nothing about the request itself.
pub(super) fn is_transient(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
    )
}

/// What a status other than success means.
pub(super) fn failure(status: StatusCode, headers: &HeaderMap) -> Failure {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
            Failure::Unauthorized(status)
        }
        StatusCode::GONE => Failure::Gone,
        status => Failure::Unreachable {
            what: format!("the backend answers {status}"),
            retry_after: headers
                .get("Retry-After")
                .and_then(|value| retry_after(value.to_str().ok()?)),
        },
    }
}

/// Seconds only: the other form is a date, and a router's clock may be years off.
fn retry_after(value: &str) -> Option<Duration> {
    let seconds = value.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY))
}

/// What a call means that got no answer.
pub(super) fn unreachable(error: ureq::Error) -> Failure {
    use rustls::{CertificateError, Error::InvalidCertificate};
    // ureq reports what rustls says within an I/O error when it comes up while the handshake runs.
    let tls = match &error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref().and_then(|inner| inner.downcast_ref()),
        _ => None,
    };
    let what = format!("reaching the backend: {error}");
    match tls {
        Some(InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => Failure::Clock(what),
        _ => Failure::Unreachable {
            what,
            retry_after: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_and_bounded() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("315360000"), Some(LONGEST_RETRY));
        assert_eq!(retry_after("-1"), None);
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), None);
    }

    #[test]
    fn answers_mean_what_the_contract_says() {
        let kind = |status: u16| failure(StatusCode::from_u16(status).unwrap(), &HeaderMap::new());
        for status in [401, 403, 404] {
            assert!(matches!(kind(status), Failure::Unauthorized(_)));
        }
        assert!(matches!(kind(410), Failure::Gone));
        for status in [302, 408, 429, 500, 503] {
            assert!(
                matches!(kind(status), Failure::Unreachable { .. }),
                "{status}"
            );
        }
    }
}
