//! What the backend wants: answer to `GET /agent/v1/agents/{agentId}/instructions`.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::MAX_SESSIONS;

/// The complete desired state of one agent.
///
/// `S` is the form in which a session is held. The default is the typed [`Session`]; an agent
/// first reads each session as raw JSON, so that a malformed one is refused alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instructions<S = Session> {
    /// Names this state; also the `ETag`. Opaque: compared for equality, never ordered.
    pub revision: u64,
    /// Rates of the access line. Absent: what the agent's own configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// The operator's switch for queueing. Absent: what the agent's own configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<QueueMode>,
    /// All sessions, oldest first: where two flows overlap, the earlier one holds. At most
    /// [`MAX_SESSIONS`](crate::MAX_SESSIONS) are read.
    #[serde(
        deserialize_with = "bounded",
        bound(deserialize = "S: Deserialize<'de>")
    )]
    pub sessions: Vec<S>,
}

/// Reads a list that is not longer than what an agent may be asked to hold: eight megabytes of `0,0,0,…`
/// would take hundreds in memory.
fn bounded<'de, D, S>(deserializer: D) -> Result<Vec<S>, D::Error>
where
    D: Deserializer<'de>,
    S: Deserialize<'de>,
{
    deserializer.deserialize_seq(Bounded {
        most: MAX_SESSIONS,
        of: "sessions",
        form: PhantomData,
    })
}

/// The same for ports: there are not more of them than this.
fn bounded_ports<'de, D, S>(deserializer: D) -> Result<Option<Vec<S>>, D::Error>
where
    D: Deserializer<'de>,
    S: Deserialize<'de>,
{
    struct List<S>(Vec<S>);

    impl<'de, S: Deserialize<'de>> Deserialize<'de> for List<S> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let bounded = Bounded {
                most: usize::from(u16::MAX),
                of: "ports or ranges",
                form: PhantomData,
            };
            deserializer.deserialize_seq(bounded).map(Self)
        }
    }

    Ok(Option::deserialize(deserializer)?.map(|List(list)| list))
}

/// A list with a limit.
struct Bounded<S> {
    most: usize,
    of: &'static str,
    form: PhantomData<S>,
}

impl<'de, S: Deserialize<'de>> Visitor<'de> for Bounded<S> {
    type Value = Vec<S>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {} {}", self.most, self.of)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            if items.len() == self.most {
                return Err(A::Error::invalid_length(self.most + 1, &self));
            }
            items.push(item);
        }
        Ok(items)
    }
}

/// Rates of the access line, in kbit/s (1 kbit = 1,000 bit), as a shaper may use them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// From the home to the internet. Absent: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_kbps: Option<u64>,
    /// From the internet to the home. Absent: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downstream_kbps: Option<u64>,
}

/// Whether the agent may install queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueMode {
    /// The agent installs the best queue that the kernel has, unless a foreign one is there.
    #[default]
    Auto,
    /// No queue of the agent's; marks only.
    Off,
}

/// One traffic profile for one flow of one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// `[A-Za-z0-9-]{1,64}`, unique within the instructions.
    pub session_id: String,
    /// The device in the home; at least one field is given.
    pub device: Device,
    /// The other end of the flow. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_server: Option<ApplicationServer>,
    /// Ports on the device. Absent: any, and every protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_ports: Option<Ports>,
    /// Ports on the application server. Absent: any, and every protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_server_ports: Option<Ports>,
    /// The DSCP that the flow's packets carry, 0 to 63 (RFC 2474).
    pub dscp: u8,
    /// Which way the flow is marked. Absent: both.
    #[serde(default, skip_serializing_if = "Direction::is_both")]
    pub direction: Direction,
    /// How the device must be attached for the session to hold. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_interface: Option<Interface>,
    /// Upstream rate in kbit/s above which packets keep the mark and lose the queue. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_upstream_kbps: Option<u64>,
    /// Downstream rate in kbit/s above which packets keep the mark and lose the queue. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_downstream_kbps: Option<u64>,
    /// Seconds that are left, to the millisecond, counted from when the answer was read, at most
    /// 30 days; not above zero: expired. Absent: until withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<f64>,
}

/// A device in the home. All fields given name the same device; at least one is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// IPv4 address inside the home. A mask is ignored: `192.168.1.23/24` is `.23`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<String>,
    /// IPv6 address. A mask is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<String>,
    /// MAC address, six octets as `02:00:00:00:00:17`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
}

/// The application's servers. At least one field is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationServer {
    /// IPv4 address or prefix; host bits are cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<String>,
    /// IPv6 address or prefix; host bits are cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<String>,
}

/// Ports of one side, for TCP, UDP, SCTP, UDP-Lite and DCCP. At least one port or range is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ports {
    /// Inclusive ranges. Absent: none; an empty list is invalid.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounded_ports"
    )]
    pub ranges: Option<Vec<PortRange>>,
    /// Single ports. Absent: none; an empty list is invalid.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounded_ports"
    )]
    pub ports: Option<Vec<u16>>,
}

/// An inclusive range of ports, 1 to 65535, `from` not above `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRange {
    /// First port.
    pub from: u16,
    /// Last port.
    pub to: u16,
}

/// Which way a flow is marked, seen from the home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Upstream and downstream.
    #[default]
    Both,
    /// From the device only.
    Upstream,
    /// To the device only.
    Downstream,
}

impl Direction {
    /// Whether this is the default, which is not written.
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature serde asks for"
    )]
    fn is_both(&self) -> bool {
        *self == Self::Both
    }
}

/// How a device is attached to the access point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interface {
    /// By Wi-Fi.
    Wifi,
    /// By cable.
    Wired,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{ "revision": 17,
      "link": { "upstreamKbps": 40000, "downstreamKbps": 200000 },
      "queues": "auto",
      "sessions": [ {
        "sessionId": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
        "device":  { "ipv4Address": "192.168.1.23", "ipv6Address": "2001:db8:1::23", "macAddress": "02:00:00:00:00:17" },
        "applicationServer": { "ipv4Address": "198.51.100.0/28", "ipv6Address": "2001:db8:2::/64" },
        "devicePorts": { "ranges": [ { "from": 5010, "to": 5020 } ], "ports": [ 5060 ] },
        "applicationServerPorts": { "ports": [ 33001 ] },
        "dscp": 46, "direction": "both", "requiredInterface": "wifi",
        "maxUpstreamKbps": 2000, "maxDownstreamKbps": 2000, "expiresIn": 3599.25 } ] }"#;

    #[test]
    fn the_documents_example_round_trips() {
        let read: Instructions = serde_json::from_str(DOCUMENT).unwrap();
        assert_eq!(read.revision, 17);
        assert_eq!(read.queues, Some(QueueMode::Auto));
        let session = &read.sessions[0];
        assert_eq!(session.dscp, 46);
        assert_eq!(session.direction, Direction::Both);
        assert_eq!(session.required_interface, Some(Interface::Wifi));
        assert_eq!(session.expires_in, Some(3599.25));

        let mut expected: serde_json::Value = serde_json::from_str(DOCUMENT).unwrap();
        // "both" is the default, and a default is not written.
        expected["sessions"][0]
            .as_object_mut()
            .unwrap()
            .remove("direction");
        assert_eq!(serde_json::to_value(&read).unwrap(), expected);
    }

    #[test]
    fn only_the_required_fields_are_required() {
        let session: Session =
            serde_json::from_str(r#"{"sessionId":"a","device":{},"dscp":0,"later":[1]}"#).unwrap();
        assert_eq!(session.application_server, None);
        assert_eq!(session.expires_in, None);
        for missing in [
            r#"{"device":{},"dscp":0}"#,
            r#"{"sessionId":"a","dscp":0}"#,
            r#"{"sessionId":"a","device":{}}"#,
        ] {
            assert!(
                serde_json::from_str::<Session>(missing).is_err(),
                "{missing}"
            );
        }
    }

    #[test]
    fn a_list_without_end_is_refused() {
        let list = |length| {
            format!(
                r#"{{"revision":1,"sessions":[{}0]}}"#,
                "0,".repeat(length - 1)
            )
        };
        let read = |length| serde_json::from_str::<Instructions<u8>>(&list(length));
        assert_eq!(read(MAX_SESSIONS).unwrap().sessions.len(), MAX_SESSIONS);
        let error = read(MAX_SESSIONS + 1).unwrap_err().to_string();
        assert!(
            error.contains("a list of at most 20000 sessions"),
            "{error}"
        );
    }

    #[test]
    fn absent_and_empty_ports_differ() {
        let none: Ports = serde_json::from_str("{}").unwrap();
        let empty: Ports = serde_json::from_str(r#"{"ports":[]}"#).unwrap();
        assert_eq!(none.ports, None);
        assert_eq!(empty.ports, Some(vec![]));
        assert!(serde_json::from_str::<Ports>(r#"{"ports":[65536]}"#).is_err());
        assert!(serde_json::from_str::<Ports>(r#"{"ports":[-1]}"#).is_err());
        let null: Ports = serde_json::from_str(r#"{"ports":null,"ranges":null}"#).unwrap();
        assert_eq!(null, none);
    }

    #[test]
    fn a_list_of_ports_without_end_is_refused() {
        let list = |length: usize| format!(r#"{{"ports":[{}7]}}"#, "7,".repeat(length - 1));
        let read = |length| serde_json::from_str::<Ports>(&list(length));
        assert_eq!(read(65_535).unwrap().ports.unwrap().len(), 65_535);
        let error = read(65_536).unwrap_err().to_string();
        assert!(
            error.contains("a list of at most 65535 ports or ranges"),
            "{error}"
        );
    }
}
