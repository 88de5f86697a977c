//! `qod-agent status`: asks the running agent, and prints what it says as a table for people.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use qod_wire::{Counters, SessionState, SessionStatus, Status};

use crate::config::StatusServer;

/// Longest document that is read: 10,000 sessions and some.
const LONGEST: u64 = 16 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

/// How the status is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A table.
    Table,
    /// The document as it is.
    Json,
}

/// Why there is nothing to print.
#[derive(Debug)]
pub struct Error {
    address: SocketAddr,
    what: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "asking the agent at {}: {}", self.address, self.what)
    }
}

impl std::error::Error for Error {}

/// Asks the running agent for its status and writes it down.
///
/// # Errors
/// No agent answers, or it answers something else.
pub fn show(config: &StatusServer, form: Form) -> Result<String, Error> {
    let address = reachable(config.listen);
    let error = |what: String| Error { address, what };
    let agent = ureq::Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        .build()
        .new_agent();
    let mut request = agent.get(format!("http://{address}/v1/status"));
    if let Some(token) = &config.token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let mut answer = request
        .call()
        .map_err(|e| error(format!("{e}; does it run?")))?;
    if answer.status() != 200 {
        return Err(error(format!("it answers {}", answer.status())));
    }
    let body = answer
        .body_mut()
        .with_config()
        .limit(LONGEST)
        .read_to_string();
    let body = body.map_err(|e| error(e.to_string()))?;
    let status: Status = serde_json::from_str(&body).map_err(|e| error(e.to_string()))?;
    Ok(match form {
        Form::Json => body + "\n",
        Form::Table => table(&status),
    })
}

/// An address at which a server can be asked that listens on this one.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn table(status: &Status) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_table(&mut out, status);
    out
}

fn write_table(out: &mut String, status: &Status) -> fmt::Result {
    let revision = status
        .revision
        .map_or("none yet".to_owned(), |revision| revision.to_string());
    let placement = match &status.placement {
        Some(placement) => placement,
        None if status.sessions.is_empty() => "nothing to mark",
        None => "not attached",
    };
    writeln!(
        out,
        "agent {}  version {}  up {}",
        status.agent_id,
        status.version,
        time(status.uptime)
    )?;
    writeln!(
        out,
        "instructions: revision {revision}  marking: {placement}"
    )?;
    for queue in &status.queues {
        writeln!(
            out,
            "queue on {}: {} of {}",
            queue.device, queue.kind, queue.owner
        )?;
    }
    for warning in &status.warnings {
        writeln!(out, "warning {}: {}", warning.code, warning.message)?;
    }
    let mut rows = vec![["SESSION", "STATE", "LEFT", "UP", "DOWN", "REASON"].map(str::to_owned)];
    rows.extend(status.sessions.iter().map(row));
    writeln!(out)?;
    print(out, &rows)?;
    for queue in status
        .queues
        .iter()
        .filter(|queue| !queue.classes.is_empty())
    {
        let mut rows = vec![["QUEUE", "PACKETS", "BYTES", "DROPS", "WAITING"].map(str::to_owned)];
        rows.extend(queue.classes.iter().map(|class| {
            let [packets, bytes, drops, backlog] =
                [class.packets, class.bytes, class.drops, class.backlog_bytes]
                    .map(|n| n.to_string());
            [class.queue.clone(), packets, bytes, drops, backlog]
        }));
        writeln!(out)?;
        print(out, &rows)?;
    }
    Ok(())
}

fn row(session: &SessionStatus) -> [String; 6] {
    let state = match session.state {
        SessionState::Active => "ACTIVE",
        SessionState::Rejected => "REJECTED",
        SessionState::Expired => "EXPIRED",
    };
    let left = match (session.state, session.expires_in) {
        (SessionState::Active, Some(seconds)) => time(seconds as u64),
        (SessionState::Active, None) => "no end".to_owned(),
        _ => "-".to_owned(),
    };
    let code = session
        .code
        .and_then(|code| serde_json::to_value(code).ok());
    let code = code
        .as_ref()
        .and_then(|code| code.as_str())
        .unwrap_or_default()
        .to_owned();
    let reason = match &session.message {
        Some(message) => format!("{code}: {message}"),
        None => code,
    };
    let [up, down] = [session.upstream, session.downstream].map(counters);
    [
        session.session_id.clone(),
        state.to_owned(),
        left,
        up,
        down,
        reason,
    ]
}

fn counters(counters: Option<Counters>) -> String {
    counters.map_or("-".to_owned(), |c| {
        format!("{} packets, {} bytes", c.packets, c.bytes)
    })
}

fn time(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}h{minutes:02}m{seconds:02}s")
    } else {
        format!("{minutes}m{seconds:02}s")
    }
}

/// Columns as wide as their widest cell, two spaces apart.
fn print<const N: usize>(out: &mut String, rows: &[[String; N]]) -> fmt::Result {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    for row in rows {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use qod_wire::{RejectCode, Warning};

    #[test]
    fn the_table_shows_sessions_and_warnings() {
        let session = SessionStatus {
            session_id: "a".to_owned(),
            state: SessionState::Active,
            code: None,
            message: None,
            expires_in: Some(3581.2),
            upstream: Some(Counters {
                packets: 10,
                bytes: 1200,
            }),
            downstream: None,
        };
        let rejected = SessionStatus {
            session_id: "b".to_owned(),
            state: SessionState::Rejected,
            code: Some(RejectCode::DeviceNotFound),
            message: Some("192.168.1.99 is not on br-lan".to_owned()),
            expires_in: None,
            upstream: None,
            ..session.clone()
        };
        let status = Status {
            agent_id: "home-0001".to_owned(),
            revision: Some(17),
            sessions: vec![session, rejected],
            warnings: vec![Warning {
                code: "NO_QUEUE".to_owned(),
                message: "why".to_owned(),
            }],
            ..Status::default()
        };
        let text = table(&status);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.contains(&"warning NO_QUEUE: why"), "{text}");
        assert!(
            lines.contains(&"a        ACTIVE    59m41s  10 packets, 1200 bytes  -"),
            "{text}"
        );
        let reason = "DEVICE_NOT_FOUND: 192.168.1.99 is not on br-lan";
        assert!(
            lines
                .iter()
                .any(|l| l.starts_with("b        REJECTED") && l.ends_with(reason)),
            "{text}"
        );
    }

    #[test]
    fn an_agent_that_listens_everywhere_is_asked_on_loopback() {
        assert_eq!(
            reachable("0.0.0.0:1".parse().unwrap()).to_string(),
            "127.0.0.1:1"
        );
        assert_eq!(reachable("[::]:1".parse().unwrap()).to_string(), "[::1]:1");
        assert_eq!(
            reachable("192.0.2.1:1".parse().unwrap()).to_string(),
            "192.0.2.1:1"
        );
    }
}
