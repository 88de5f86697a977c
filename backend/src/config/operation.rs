//! Keys that concern running the backend: what it tells of itself, how long it keeps what, and how it ends.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::json::{Invalid, Object};

/// What the operator configured about the running of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// `metrics.listen`: an address of its own for `/metrics`, `/healthz` and `/readyz`, in plain HTTP and without
    /// credential. Absent: none.
    pub metrics_listen: Option<SocketAddr>,
    /// `logFormat`: `text` or `json`. Default `text`.
    pub log_format: LogFormat,
    /// `usage.retentionDays`: for how long usage records are kept. Default 400.
    pub usage_retention_days: i64,
    /// `statusPollSeconds`: time between two questions to an agent that has a `statusUrl`. Default 60.
    pub status_poll_seconds: i64,
    /// `statusPollCaFile`: authorities of the certificates behind `statusUrl`s. Absent: the system's.
    pub status_poll_ca_file: Option<PathBuf>,
    /// `drainSeconds`: for how long after SIGTERM requests are still taken, while `/readyz` says 503. Default 0.
    pub drain_seconds: u64,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Operation {
    fn default() -> Self {
        Self {
            metrics_listen: None,
            log_format: LogFormat::Text,
            usage_retention_days: 400,
            status_poll_seconds: 60,
            status_poll_ca_file: None,
            drain_seconds: 0,
        }
    }
}

/// Reads the keys of this section.
///
/// # Errors
/// Names the key and what is wrong.
pub(super) fn read(object: &Object<'_>) -> Result<Operation, Invalid> {
    let mut operation = Operation::default();
    if let Some(node) = object.get("metrics") {
        let metrics = node.object()?;
        metrics.only(&["listen"])?;
        if let Some(node) = metrics.get("listen") {
            operation.metrics_listen = Some(super::address(&node)?);
        }
    }
    if let Some(node) = object.get("logFormat") {
        operation.log_format = match node.string()? {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => return Err(node.invalid("must be text or json")),
        };
    }
    if let Some(node) = object.get("usage") {
        let usage = node.object()?;
        usage.only(&["retentionDays"])?;
        if let Some(node) = usage.get("retentionDays") {
            operation.usage_retention_days = node.integer(1..=36_500)?;
        }
    }
    if let Some(node) = object.get("statusPollSeconds") {
        operation.status_poll_seconds = node.integer(5..=86_400)?;
    }
    operation.status_poll_ca_file = super::path(object, "statusPollCaFile")?;
    if let Some(node) = object.get("drainSeconds") {
        operation.drain_seconds = node.integer(0..=300)?.unsigned_abs();
    }
    Ok(operation)
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn keys_are_read_and_errors_name_them() {
        let text = r#"{"metrics":{"listen":"127.0.0.1:9100"},"logFormat":"json","usage":{"retentionDays":30},
            "statusPollSeconds":5,"statusPollCaFile":"ca.pem","drainSeconds":10}"#;
        let expected = Operation {
            metrics_listen: Some(([127, 0, 0, 1], 9100).into()),
            log_format: LogFormat::Json,
            usage_retention_days: 30,
            status_poll_seconds: 5,
            status_poll_ca_file: Some("ca.pem".into()),
            drain_seconds: 10,
        };
        assert_eq!(Config::parse(text.as_bytes()).unwrap().operation, expected);
        for (text, message) in [
            (r#"{"logFormat":"xml"}"#, "logFormat: must be text or json"),
            (
                r#"{"metrics":{"listen":"x"}}"#,
                "metrics.listen: must be an address and a port, as 127.0.0.1:8080 or [::1]:8080",
            ),
            (r#"{"metrics":1}"#, "metrics: must be an object"),
            (
                r#"{"usage":{"retentionDays":0}}"#,
                "usage.retentionDays: must be from 1 to 36500",
            ),
            (
                r#"{"drainSeconds":301}"#,
                "drainSeconds: must be from 0 to 300",
            ),
        ] {
            let error = Config::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }
}
