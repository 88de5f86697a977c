//! `PUT /agent/v1/agents/{agentId}/status`: what an agent verified.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use qod_wire::{Counters, MAX_SESSIONS, SessionState, Status};

use super::Credential;
use crate::error_info::ErrorInfo;
use crate::prefix::Prefix;
use crate::server::{App, Peer, read_body};
use crate::store::{AgentReport, Counted, Measured, SessionReport};

/// Longest report, in bytes: a thousand sessions with their messages.
pub(crate) const LONGEST: usize = 1024 * 1024;
/// Most sessions whose counters are looked at.
const MOST_COUNTED: usize = MAX_SESSIONS;
/// Most addresses of the WAN device that are looked at.
const MOST_ADDRESSES: usize = 8;
/// Longest message of a rejection that is kept, in characters.
const LONGEST_MESSAGE: usize = 500;

/// Takes a report.
pub async fn put(
    State(app): State<Arc<App>>,
    Extension(Peer(peer)): Extension<Peer>,
    credential: Credential,
    Path(agent): Path<String>,
    body: Body,
) -> Result<StatusCode, ErrorInfo> {
    let owner = credential.authenticate(&app, &agent).await?;
    let body = read_body(body, LONGEST).await?;
    let home = owner.home.as_deref().unwrap_or_default();
    take(&app, home, &agent, &body, Some(peer.ip())).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a report of `agent` that came from `source`, or that was fetched from the agent.
///
/// A fetched report tells no source: where the agent's status server is reached need not be where the home's traffic
/// comes from. What counts for its addresses is where the agent's last own report came from.
///
/// # Errors
/// 400: it is no report of this agent. 503, 500: the store failed.
pub(crate) async fn take(
    app: &App,
    home: &str,
    agent: &str,
    body: &[u8],
    source: Option<IpAddr>,
) -> Result<(), ErrorInfo> {
    let status: Status = serde_json::from_slice(body).map_err(|error| {
        ErrorInfo::invalid(format!("Schema validation failed at the report: {error}"))
    })?;
    if status.agent_id != agent {
        return Err(ErrorInfo::invalid(
            "Schema validation failed at agentId: it is not the agent of this path",
        ));
    }
    let name = |text: &str| (1..=128).contains(&text.len()) && !text.contains(char::is_control);
    let sequence = i64::try_from(status.sequence).ok();
    let (true, true, Some(sequence)) = (name(&status.boot_id), name(&status.version), sequence)
    else {
        return Err(ErrorInfo::invalid(
            "Schema validation failed at the report: bootId, version or sequence is out of bounds",
        ));
    };
    let now = app.clock.now_ms();
    let current = app.store.revision(home).await?;
    // A revision from the future is of a database that was there before a copy of it was restored.
    let revision = status
        .revision
        .and_then(|revision| i64::try_from(revision).ok())
        .filter(|revision| current.is_some_and(|current| *revision <= current));
    let stored = app.store.agent(agent).await?;
    let known_source = stored.as_ref().and_then(|agent| agent.source.as_deref());
    let known_source = known_source.and_then(|source| source.parse().ok());
    let before = stored
        .as_ref()
        .map(|agent| agent.sessions.clone())
        .unwrap_or_default();
    let live: HashSet<String> = if before.is_empty() && status.sessions.is_empty() {
        HashSet::new()
    } else {
        app.store
            .session_ids(home, now)
            .await?
            .into_iter()
            .collect()
    };
    let sessions = merge(before, &status, revision, &live);
    let addresses = believed(app, home, &status, source.or(known_source)).await?;
    let text = serde_json::to_string(&status).unwrap_or_default();
    let report = AgentReport {
        agent,
        boot_id: &status.boot_id,
        sequence,
        version: &status.version,
        revision,
        source: source.map(|source| source.to_canonical().to_string()),
        sessions: &sessions,
        counted: &counted(&status),
        status: &text,
        addresses: &addresses,
    };
    match app.store.write_report(report, app, now).await? {
        Some(written) => {
            for milliseconds in written.activations {
                app.metrics.activated(milliseconds);
            }
        }
        None => tracing::debug!(agent, sequence, "an older report was dropped"),
    }
    Ok(())
}

/// The counters of a report. Sessions that have ended are counted too: it may be the last word on them.
fn counted(status: &Status) -> BTreeMap<String, Counted> {
    status
        .sessions
        .iter()
        .filter(|session| qod_wire::is_session_id(&session.session_id))
        .filter(|session| session.upstream.is_some() || session.downstream.is_some())
        .take(MOST_COUNTED)
        .map(|session| {
            let bytes = |counters: Option<Counters>| counters.map(|counters| counters.bytes);
            let counted = Counted {
                upstream: bytes(session.upstream),
                downstream: bytes(session.downstream),
            };
            (session.session_id.clone(), counted)
        })
        .collect()
}

/// What is known of each session that lives after a report. One that was spoken of before and is not spoken of now
/// (the agent started again) is not in force any more as far as anybody knows. What does not live is not kept: it is
/// read with every session of the home, and an agent may name what it likes.
fn merge(
    before: BTreeMap<String, SessionReport>,
    status: &Status,
    revision: Option<i64>,
    live: &HashSet<String>,
) -> BTreeMap<String, SessionReport> {
    let mut sessions: BTreeMap<String, SessionReport> = before
        .into_iter()
        .filter(|(id, _)| live.contains(id))
        .map(|(id, report)| {
            let lost = SessionReport {
                state: SessionState::Rejected,
                revision: report.revision,
                code: None,
                message: Some("home gateway does not report the session at present".to_owned()),
                measured: report.measured,
            };
            (id, lost)
        })
        .collect();
    if let Some(revision) = revision {
        for session in &status.sessions {
            if !live.contains(&session.session_id) {
                continue;
            }
            let message = session.message.as_ref();
            let report = SessionReport {
                state: session.state,
                revision,
                code: session.code,
                message: message.map(|message| message.chars().take(LONGEST_MESSAGE).collect()),
                measured: Measured::default(),
            };
            sessions.insert(session.session_id.clone(), report);
        }
    }
    sessions
}

/// The reported IPv4 addresses that are believed: where the report came from, or within the home's prefixes.
async fn believed(
    app: &App,
    home: &str,
    status: &Status,
    source: Option<IpAddr>,
) -> Result<Vec<String>, ErrorInfo> {
    let reported: Vec<Ipv4Addr> = status
        .wan
        .iter()
        .flat_map(|wan| &wan.addresses)
        .take(MOST_ADDRESSES)
        .filter_map(|address| address.parse().ok())
        .collect();
    let mut believed = Vec::new();
    let mut prefixes: Option<Vec<Prefix>> = None;
    for address in reported {
        let mut is_ours = source.is_some_and(|source| source.to_canonical() == IpAddr::V4(address));
        if !is_ours {
            if prefixes.is_none() {
                let home = app.store.home(home).await?;
                let texts = home.map(|(home, _)| home.prefixes).unwrap_or_default();
                prefixes = Some(
                    texts
                        .iter()
                        .filter_map(|text| Prefix::any(text).ok())
                        .collect(),
                );
            }
            let whole = Prefix::ipv4(&address.to_string());
            is_ours = prefixes
                .iter()
                .flatten()
                .any(|prefix| whole.as_ref().is_ok_and(|whole| prefix.intersects(whole)));
        }
        if is_ours {
            believed.push(address.to_string());
        }
    }
    Ok(believed)
}

#[cfg(test)]
mod tests {
    use qod_wire::SessionStatus;

    use super::*;

    fn status(sessions: &[(&str, SessionState)]) -> Status {
        Status {
            sessions: sessions
                .iter()
                .map(|(id, state)| SessionStatus {
                    session_id: (*id).to_owned(),
                    state: *state,
                    code: None,
                    message: None,
                    expires_in: None,
                    upstream: None,
                    downstream: None,
                })
                .collect(),
            ..Status::default()
        }
    }

    fn live(ids: &[&str]) -> HashSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn an_agent_that_starts_again_loses_what_it_said() {
        let both = status(&[("a", SessionState::Active), ("b", SessionState::Active)]);
        let first = merge(BTreeMap::new(), &both, Some(5), &live(&["a", "b"]));
        assert_eq!(first["a"].state, SessionState::Active);
        let again = merge(first, &status(&[]), None, &live(&["a"]));
        assert_eq!(again["a"].state, SessionState::Rejected);
        assert!(!again.contains_key("b"), "it ended");
        let back = merge(
            again,
            &status(&[("a", SessionState::Active)]),
            Some(5),
            &live(&["a"]),
        );
        assert_eq!(back["a"].state, SessionState::Active);
    }

    #[test]
    fn sessions_that_are_not_there_are_not_kept() {
        let reported = status(&[("a", SessionState::Active), ("b", SessionState::Expired)]);
        let kept = merge(BTreeMap::new(), &reported, Some(5), &live(&["a"]));
        assert_eq!(kept.into_keys().collect::<Vec<_>>(), ["a"]);
    }
}
