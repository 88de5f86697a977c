//! What `qosStatus` says, derived from what agents verified.

use qod_wire::{RejectCode, SessionState};
use serde::Serialize;

use crate::store::SessionReport;

/// `qosStatus` (QoD 0.9.0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum QosStatus {
    /// No agent said anything about the session yet.
    Requested,
    /// An agent verified that the session is in force.
    Available,
    /// The session is not in force.
    Unavailable,
}

/// An entry of `messages`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `INFO` or `WARNING`.
    pub severity: &'static str,
    /// The reason in a sentence.
    pub description: String,
}

/// One agent of the session's home.
#[derive(Clone, Copy, Debug)]
pub(super) struct AgentView<'a> {
    /// What it said of the session last.
    pub report: Option<&'a SessionReport>,
    /// It was not heard for so long that what it said counts no more.
    pub silent: bool,
    /// It polls now, or did a moment ago.
    pub connected: bool,
}

/// Derives the status of a session that came with `added_revision`. `waited_long`: it is older than the time after
/// which an agent counts as silent.
pub(super) fn derive(
    added_revision: i64,
    agents: &[AgentView<'_>],
    waited_long: bool,
) -> (QosStatus, Vec<Message>) {
    // A report speaks for a session only if its revision is one that contains it. Revisions of a home grow.
    let spoken: Vec<_> = agents
        .iter()
        .map(|agent| {
            (
                agent.silent,
                agent
                    .report
                    .filter(|report| report.revision >= added_revision),
            )
        })
        .collect();
    let heard = || {
        spoken
            .iter()
            .filter(|(silent, _)| !silent)
            .filter_map(|(_, report)| *report)
    };
    if heard().any(|report| report.state == SessionState::Active) {
        return (QosStatus::Available, vec![]);
    }
    // A device that is not at this access point may be at another one of the home.
    let not_found = |report: &SessionReport| report.code == Some(RejectCode::DeviceNotFound);
    if let Some(report) = heard().find(|report| !not_found(report)) {
        return (QosStatus::Unavailable, vec![warning(&words(report))]);
    }
    if spoken.iter().all(|(silent, _)| *silent) {
        return if agents.is_empty() && !waited_long {
            (QosStatus::Requested, vec![warning(OFFLINE)])
        } else {
            (QosStatus::Unavailable, vec![warning(OFFLINE)])
        };
    }
    if spoken
        .iter()
        .any(|(silent, report)| !silent && report.is_none())
    {
        let messages = if agents.iter().any(|agent| agent.connected) {
            vec![]
        } else {
            vec![warning(OFFLINE)]
        };
        return (QosStatus::Requested, messages);
    }
    // Everybody who is there says that the device is not there; one who is not cannot.
    let description = if spoken.iter().any(|(silent, _)| *silent) {
        OFFLINE.to_owned()
    } else {
        heard().next().map_or_else(String::new, words)
    };
    (QosStatus::Unavailable, vec![warning(&description)])
}

const OFFLINE: &str = "home gateway is offline";

fn warning(description: &str) -> Message {
    Message {
        severity: "WARNING",
        description: description.to_owned(),
    }
}

fn words(report: &SessionReport) -> String {
    if report.state == SessionState::Expired {
        return "home gateway ended the session".to_owned();
    }
    if report.code == Some(RejectCode::Conflict) {
        // The agent names the other session, which may be another consumer's.
        return "CONFLICT: another session is created for the same device".to_owned();
    }
    let code = report
        .code
        .and_then(|code| serde_json::to_value(code).ok())
        .and_then(|code| code.as_str().map(str::to_owned));
    match (code, &report.message) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code,
        (None, Some(message)) => message.clone(),
        (None, None) => "home gateway rejected the session".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Measured;

    fn report(state: SessionState, code: Option<RejectCode>, revision: i64) -> SessionReport {
        SessionReport {
            state,
            revision,
            code,
            message: Some("why".to_owned()),
            measured: Measured::default(),
        }
    }

    fn view(report: Option<&SessionReport>) -> AgentView<'_> {
        AgentView {
            report,
            silent: false,
            connected: true,
        }
    }

    #[test]
    fn one_agent() {
        let active = report(SessionState::Active, None, 7);
        let rejected = report(SessionState::Rejected, Some(RejectCode::Conflict), 7);
        let status = |added, agents: &[AgentView<'_>]| derive(added, agents, false);
        assert_eq!(status(7, &[view(None)]), (QosStatus::Requested, vec![]));
        assert_eq!(
            status(7, &[view(Some(&active))]),
            (QosStatus::Available, vec![])
        );
        assert_eq!(
            status(8, &[view(Some(&active))]).0,
            QosStatus::Requested,
            "an older revision"
        );
        let (qos, messages) = status(7, &[view(Some(&rejected))]);
        assert_eq!(
            (qos, messages[0].description.as_str()),
            (
                QosStatus::Unavailable,
                "CONFLICT: another session is created for the same device"
            ),
            "without the agent's words"
        );
        let kernel = report(SessionState::Rejected, Some(RejectCode::Kernel), 7);
        assert_eq!(
            status(7, &[view(Some(&kernel))]).1[0].description,
            "KERNEL: why"
        );
        let away = AgentView {
            connected: false,
            ..view(None)
        };
        assert_eq!(
            status(7, &[away]),
            (QosStatus::Requested, vec![warning(OFFLINE)])
        );
        let silent = AgentView {
            silent: true,
            connected: false,
            ..view(Some(&active))
        };
        assert_eq!(
            status(7, &[silent]),
            (QosStatus::Unavailable, vec![warning(OFFLINE)])
        );
        assert_eq!(
            status(7, &[]),
            (QosStatus::Requested, vec![warning(OFFLINE)])
        );
        assert_eq!(
            derive(7, &[], true),
            (QosStatus::Unavailable, vec![warning(OFFLINE)])
        );
    }

    #[test]
    fn two_agents() {
        let active = report(SessionState::Active, None, 7);
        let absent = report(SessionState::Rejected, Some(RejectCode::DeviceNotFound), 7);
        let status = |agents: &[AgentView<'_>]| derive(7, agents, false).0;
        assert_eq!(
            status(&[view(Some(&absent)), view(Some(&active))]),
            QosStatus::Available
        );
        assert_eq!(
            status(&[view(Some(&absent)), view(None)]),
            QosStatus::Requested
        );
        assert_eq!(
            status(&[view(Some(&absent)), view(Some(&absent))]),
            QosStatus::Unavailable
        );
        let silent = AgentView {
            silent: true,
            connected: false,
            ..view(None)
        };
        assert_eq!(
            derive(7, &[view(Some(&absent)), silent], false).1,
            [warning(OFFLINE)]
        );
    }
}
