//! Why a call to the backend brought nothing.

use std::fmt;
use std::io;
use std::time::Duration;

use rustls::CertificateError;
use ureq::http::{HeaderMap, StatusCode};

use super::retry_after::retry_after;
use crate::excerpt::excerpt;

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
    /// The two sides do not accept each other's certificate, or do not speak TLS with each other.
    Tls(String),
    /// Anything that may pass: network, an overloaded backend.
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
            Self::Tls(what) | Self::Unreachable { what, .. } => f.write_str(what),
        }
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// An answer that cannot be used.
    pub(super) fn bad(what: impl fmt::Display) -> Self {
        Self::BadInstructions(excerpt(&what.to_string()))
    }

    /// What an answer other than the wanted one means.
    pub(super) fn of_answer(status: StatusCode, headers: &HeaderMap) -> Self {
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                Self::Unauthorized(status)
            }
            StatusCode::GONE => Self::Gone,
            status => Self::Unreachable {
                what: format!("the backend answers {status}"),
                retry_after: retry_after(headers),
            },
        }
    }

    /// What the answer to a report means. A report that the backend does not want is no trouble of the
    /// agent's; whether it is decommissioned, the poll hears.
    pub(super) fn of_report(status: StatusCode, headers: &HeaderMap) -> Self {
        match Self::of_answer(status, headers) {
            Self::Gone => Self::ReportRefused(status),
            Self::Unreachable { .. } if status.is_client_error() && !is_transient(status) => {
                Self::ReportRefused(status)
            }
            failure => failure,
        }
    }

    /// What an error of the HTTP client means, on the way to this host.
    pub(super) fn of_call(error: &ureq::Error, host: &str) -> Self {
        // ureq reports what rustls says within an I/O error when it comes up while the handshake runs.
        let tls: Option<&rustls::Error> = match error {
            ureq::Error::Rustls(error) => Some(error),
            ureq::Error::Io(error) => error.get_ref().and_then(|inner| inner.downcast_ref()),
            _ => None,
        };
        if let Some(error) = tls {
            return Self::of_tls(error);
        }
        let what = match error {
            // rustls sends its reader to a page on the web.
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                "the connection was closed in the middle".to_owned()
            }
            ureq::Error::Io(error) => error.to_string(),
            error => error.to_string(),
        };
        Self::Unreachable {
            what: excerpt(&format!("reaching {host}: {what}")),
            retry_after: None,
        }
    }

    fn of_tls(error: &rustls::Error) -> Self {
        use CertificateError as C;
        use rustls::Error::InvalidCertificate;
        // Some of rustls's sentences count seconds: each try would be another trouble.
        let what = match error {
            InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. }) => {
                return Self::Clock("the backend's certificate is not valid yet".to_owned());
            }
            InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => {
                "the backend's certificate has expired, or this router's clock is ahead".to_owned()
            }
            // The latter where the two authorities have one name.
            InvalidCertificate(C::UnknownIssuer | C::BadSignature) => format!(
                "the backend's certificate is of an authority that is not trusted here (caFile): {error}"
            ),
            error => format!("TLS with the backend: {error}"),
        };
        Self::Tls(excerpt(&what))
    }
}

fn is_transient(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_the_contract_says() {
        let headers = HeaderMap::new();
        let kind =
            |status: u16| Failure::of_answer(StatusCode::from_u16(status).unwrap(), &headers);
        for status in [401, 403, 404] {
            assert!(matches!(kind(status), Failure::Unauthorized(_)));
        }
        assert!(matches!(kind(410), Failure::Gone));
        for status in [
            204, 206, 301, 302, 304, 307, 308, 400, 408, 412, 429, 500, 503, 599,
        ] {
            assert!(
                matches!(kind(status), Failure::Unreachable { .. }),
                "{status}"
            );
        }
    }

    #[test]
    fn a_report_is_refused_or_sent_again() {
        let headers = HeaderMap::new();
        let kind =
            |status: u16| Failure::of_report(StatusCode::from_u16(status).unwrap(), &headers);
        for status in [400, 405, 409, 410, 413, 422, 451] {
            assert!(
                matches!(kind(status), Failure::ReportRefused(_)),
                "{status}"
            );
        }
        for status in [302, 408, 429, 500, 503] {
            assert!(
                matches!(kind(status), Failure::Unreachable { .. }),
                "{status}"
            );
        }
        for status in [401, 403, 404] {
            assert!(matches!(kind(status), Failure::Unauthorized(_)), "{status}");
        }
    }
}
