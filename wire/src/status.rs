//! What the agent verified: body of `PUT /agent/v1/agents/{agentId}/status`, and of the answer to
//! `GET /v1/status` on the agent's own status address.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One agent's report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The agent's id.
    pub agent_id: String,
    /// Names one run of the agent; within it `sequence` grows.
    pub boot_id: String,
    /// Number of this report within its `boot_id`; an older one is dropped by the backend.
    pub sequence: u64,
    /// The agent's version.
    pub version: String,
    /// Seconds since the agent started.
    pub uptime: u64,
    /// The running kernel's release, as `uname -r` prints it.
    pub kernel: String,
    /// The distribution and its version. Absent: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Revision of the instructions that this report speaks of. Absent: none were read yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Where the hooks are: `netdev` or `inet`. Absent: nothing is attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<String>,
    /// Every session of the instructions, in their order.
    #[serde(default)]
    pub sessions: Vec<SessionStatus>,
    /// The queues that the agent installed or found.
    #[serde(default)]
    pub queues: Vec<QueueStatus>,
    /// The device towards the internet. Absent: a plain access point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wan: Option<WanStatus>,
    /// The devices that have a session.
    #[serde(default)]
    pub devices: Vec<DeviceStatus>,
    /// What an engineer should know.
    #[serde(default)]
    pub warnings: Vec<Warning>,
}

/// One session as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionStatus {
    /// The id from the instructions.
    pub session_id: String,
    /// Where the session stands.
    pub state: SessionState,
    /// Why it is rejected. Present with [`SessionState::Rejected`] only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<RejectCode>,
    /// The reason in a sentence, with the value that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Seconds until the kernel ends the marks. Absent: until withdrawn, or not in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<f64>,
    /// What was marked from the device. Absent: not in force in this direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Counters>,
    /// What was marked to the device. Absent: not in force in this direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downstream: Option<Counters>,
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SessionState {
    /// Its elements were read back from the kernel, and the hooks are attached to a present port.
    Active,
    /// Not in force now; a state, not an end: it is evaluated again.
    Rejected,
    /// Its time is over.
    Expired,
}

/// Why a session is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RejectCode {
    /// The session contradicts the contract.
    Invalid,
    /// Its flow overlaps that of an earlier session.
    Conflict,
    /// The device, or its address of the server's family, is not known here.
    DeviceNotFound,
    /// The device is not attached as `requiredInterface` asks.
    NotOnRequiredInterface,
    /// Beyond the agent's `maxSessions`.
    TooManySessions,
    /// This agent or this kernel cannot do what the session asks.
    Unsupported,
    /// The kernel refused it; the message carries the error's text.
    Kernel,
    /// A code that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Packets and bytes (of the IP layer).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Packets.
    pub packets: u64,
    /// Bytes, without link-layer headers.
    pub bytes: u64,
}

/// The root queue of one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    /// Linux device.
    pub device: String,
    /// The qdisc's kind as tc names it: `htb`, `cake`, …
    pub kind: String,
    /// `qod-agent`, or `foreign`.
    pub owner: String,
    /// One entry a queue, where the agent owns it.
    #[serde(default)]
    pub classes: Vec<ClassStatus>,
}

/// One queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassStatus {
    /// `latency`, `video`, `standard` or `background`.
    pub queue: String,
    /// Packets sent.
    pub packets: u64,
    /// Bytes sent, as tc counts them.
    pub bytes: u64,
    /// Packets dropped.
    pub drops: u64,
    /// Bytes that wait now.
    pub backlog_bytes: u64,
}

/// The device towards the internet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WanStatus {
    /// Linux device.
    pub device: String,
    /// Its global addresses.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// IPv6 prefixes of the home behind it.
    #[serde(default)]
    pub prefixes: Vec<String>,
}

/// A device that has a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceStatus {
    /// MAC address.
    pub mac: String,
    /// Its IPv4 addresses.
    #[serde(default)]
    pub ipv4: Vec<String>,
    /// Its IPv6 addresses.
    #[serde(default)]
    pub ipv6: Vec<String>,
    /// The port that it was seen on. Absent: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// What that port is. Absent: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<Medium>,
    /// Signal strength in dBm, for Wi-Fi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal_dbm: Option<i32>,
}

/// How a port reaches its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Medium {
    /// Wi-Fi.
    Wifi,
    /// Cable.
    Wired,
}

/// Something an engineer should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// `NO_QUEUE`, `FOREIGN_QDISC`, `BAD_INSTRUCTIONS`, …; a reader accepts codes it does not know.
    pub code: String,
    /// The reason in a sentence.
    pub message: String,
}

impl Warning {
    /// A warning with this code.
    pub fn new(code: &str, message: impl fmt::Display) -> Self {
        Self {
            code: code.to_owned(),
            message: message.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{ "agentId": "home-0001", "bootId": "c0ffee", "sequence": 412, "version": "0.1.0", "uptime": 86400, "kernel": "6.6.106", "release": "OpenWrt 24.10.4",
      "revision": 17, "placement": "netdev",
      "sessions": [ { "sessionId": "a", "state": "ACTIVE", "expiresIn": 3581.0,
                      "upstream": { "packets": 10, "bytes": 1200 }, "downstream": { "packets": 9, "bytes": 9000 } },
                    { "sessionId": "b", "state": "REJECTED", "code": "DEVICE_NOT_FOUND", "message": "192.168.1.99 is not on br-lan" } ],
      "queues": [ { "device": "wan", "kind": "htb", "owner": "qod-agent", "classes": [ { "queue": "latency", "packets": 10, "bytes": 1200, "drops": 0, "backlogBytes": 0 } ] } ],
      "wan": { "device": "wan", "addresses": [ "203.0.113.7" ], "prefixes": [ "2001:db8:1::/56" ] },
      "devices": [ { "mac": "02:00:00:00:00:17", "ipv4": ["192.168.1.23"], "ipv6": ["2001:db8:1::23"], "port": "wlan0", "medium": "wifi", "signalDbm": -51 } ],
      "warnings": [ { "code": "HARDWARE_OFFLOAD", "message": "the flowtable of fw4 is offloaded" } ] }"#;

    #[test]
    fn the_documents_example_round_trips() {
        let read: Status = serde_json::from_str(DOCUMENT).unwrap();
        assert_eq!(read.sessions[1].code, Some(RejectCode::DeviceNotFound));
        let expected: serde_json::Value = serde_json::from_str(DOCUMENT).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), expected);
    }

    #[test]
    fn a_code_from_the_future_is_read() {
        let read: SessionStatus =
            serde_json::from_str(r#"{"sessionId":"a","state":"REJECTED","code":"FULL_MOON"}"#)
                .unwrap();
        assert_eq!(read.code, Some(RejectCode::Unknown));
    }
}
