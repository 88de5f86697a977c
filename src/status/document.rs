//! The status document.

use std::fs::File;
use std::io::{self, Read};

use qod_wire::{DeviceStatus, QueueStatus, SessionStatus, Status, WanStatus, Warning};

use crate::clock;

/// Who reports; the same for one run of the agent.
#[derive(Clone, Debug)]
pub struct Identity {
    agent_id: String,
    boot_id: String,
    started: std::time::Duration,
    kernel: String,
    release: Option<String>,
    sequence: u64,
}

/// What changes from report to report.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Revision of the instructions in force.
    pub revision: Option<u64>,
    /// Where the hooks are.
    pub placement: Option<String>,
    /// Every session of the instructions.
    pub sessions: Vec<SessionStatus>,
    /// The root queues.
    pub queues: Vec<QueueStatus>,
    /// The device towards the internet.
    pub wan: Option<WanStatus>,
    /// The devices that have a session.
    pub devices: Vec<DeviceStatus>,
    /// What an engineer should know.
    pub warnings: Vec<Warning>,
}

impl Identity {
    /// Names this run of the agent.
    ///
    /// # Errors
    /// The kernel gives no random numbers.
    pub fn new(agent_id: &str) -> io::Result<Self> {
        let mut random = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let kernel = nix::sys::utsname::uname()
            .map(|name| name.release().to_string_lossy().into_owned())
            .unwrap_or_default();
        Ok(Self {
            agent_id: agent_id.to_owned(),
            boot_id: format!("{:032x}", u128::from_ne_bytes(random)),
            started: clock::now(),
            kernel,
            release: release(),
            sequence: 0,
        })
    }

    /// The next report.
    pub fn sign(&mut self, report: Report) -> Status {
        self.sequence += 1;
        Status {
            agent_id: self.agent_id.clone(),
            boot_id: self.boot_id.clone(),
            sequence: self.sequence,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: clock::now().saturating_sub(self.started).as_secs(),
            kernel: self.kernel.clone(),
            release: self.release.clone(),
            revision: report.revision,
            placement: report.placement,
            sessions: report.sessions,
            queues: report.queues,
            wan: report.wan,
            devices: report.devices,
            warnings: report.warnings,
        }
    }
}

/// The distribution's name of itself (os-release(5)).
pub(crate) fn release() -> Option<String> {
    pretty_name(&std::fs::read_to_string("/etc/os-release").ok()?)
}

fn pretty_name(os_release: &str) -> Option<String> {
    let value = os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_the_pretty_name() {
        let text = "NAME=\"OpenWrt\"\nPRETTY_NAME=\"OpenWrt 24.10.4\"\n";
        assert_eq!(pretty_name(text).as_deref(), Some("OpenWrt 24.10.4"));
        assert_eq!(pretty_name("NAME=x\n"), None);
    }

    #[test]
    fn reports_are_numbered() {
        let mut identity = Identity::new("home-0001").unwrap();
        let first = identity.sign(Report::default());
        let second = identity.sign(Report {
            revision: Some(17),
            ..Report::default()
        });
        assert_eq!((first.sequence, second.sequence), (1, 2));
        assert_eq!(first.boot_id, second.boot_id);
        assert_ne!(
            first.boot_id,
            Identity::new("home-0001")
                .unwrap()
                .sign(Report::default())
                .boot_id
        );
        assert_eq!(second.revision, Some(17));
    }
}
