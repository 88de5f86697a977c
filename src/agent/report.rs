//! What the agent says of itself: to the backend, and to whoever asks at the status address.

use std::sync::Arc;

use qod_wire::{RejectCode, SessionState, SessionStatus, Status, WanStatus, Warning};
use tokio::time::Instant;

use super::Agent;
use crate::status::Report;

impl Agent {
    /// Hands a report to the task that sends it.
    pub(super) async fn report(&mut self) {
        self.next_report = Instant::now() + self.config.report_interval;
        self.look_for_offload();
        self.reported = states(&self.sessions);
        self.pending.report = false;
        let status = Arc::new(self.status().await);
        // The reporting task ends with the agent, so somebody listens.
        let _ = self.reports.send(Some(status));
    }

    /// The status as it was last read back, with the queues of this moment.
    pub(super) async fn status(&mut self) -> Status {
        let mut queues = Vec::new();
        if let Some(wan) = &self.snapshot.wan {
            match self.queues.status(&wan.name).await {
                Ok(status) => queues.extend(status),
                Err(error) => log::warn!("{error}"),
            }
        }
        self.identity.sign(Report {
            revision: self
                .instructed
                .as_ref()
                .map(|instructed| instructed.revision),
            placement: self.attached.then(|| "netdev".to_owned()),
            sessions: self.sessions.clone(),
            queues,
            wan: self.wan(),
            devices: self.devices.status(),
            warnings: self.warnings(),
        })
    }

    fn wan(&self) -> Option<WanStatus> {
        let wan = self.snapshot.wan.as_ref()?;
        let prefixes = self.snapshot.prefixes.iter();
        Some(WanStatus {
            device: wan.name.clone(),
            addresses: wan.addresses.iter().map(ToString::to_string).collect(),
            prefixes: prefixes
                .map(|(first, length)| format!("{first}/{length}"))
                .collect(),
        })
    }

    fn warnings(&self) -> Vec<Warning> {
        let mut warnings: Vec<Warning> = self.troubles.all().cloned().collect();
        for device in &self.snapshot.missing {
            let is_wan = self.config.wan.as_ref() == Some(device);
            let code = if is_wan { "NO_WAN" } else { "NO_LAN" };
            warnings.push(Warning::new(code, format!("there is no device {device}")));
        }
        warnings.extend(self.unshaped_downstream());
        let nameless = self.instructed.as_ref().and_then(|i| i.nameless.as_ref());
        warnings.extend(nameless.map(|what| Warning::new("BAD_INSTRUCTIONS", what)));
        warnings
    }
}

/// What a backend is told at once when it changes.
pub(super) type SessionSummary = (String, SessionState, Option<RejectCode>);

pub(super) fn states(sessions: &[SessionStatus]) -> Vec<SessionSummary> {
    sessions
        .iter()
        .map(|s| (s.session_id.clone(), s.state, s.code))
        .collect()
}
