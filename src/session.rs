//! Sessions as the agent understands them: read from the wire, checked, and turned into matches.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use qod_wire::{MAX_EXPIRES_IN_SECONDS, MAX_PORT_RANGES, MAX_SESSION_ELEMENTS, RejectCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dscp::Dscp;
use crate::flow::{self, Family, Match, Peer, PortRange, Prefix, Way};

/// A session's id, shared by its elements.
pub type SessionId = Arc<str>;

/// A session that can be installed.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// The backend's id.
    pub id: SessionId,
    /// What its packets carry.
    pub dscp: Dscp,
    /// When it ends, on the boot-time clock. None: when it is withdrawn.
    pub ends: Option<Duration>,
    /// Everything that it matches; never empty, and no two of them overlap.
    pub matches: Vec<Match>,
}

/// Why a session is not installed.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    /// The contract's code.
    pub code: RejectCode,
    /// The reason in a sentence, with the value that is wrong.
    pub message: String,
}

impl Rejection {
    fn new(code: RejectCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// One entry of the instructions, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The backend's id.
    pub id: SessionId,
    /// The session, or why it cannot be installed whatever the kernel holds.
    pub session: Result<Session, Rejection>,
}

/// Reads the sessions of the instructions, each for itself.
///
/// `read_at` is the boot time at which the instructions were read. An entry without a usable id cannot be
/// reported and is returned as a text in the second list.
pub fn read(raw: &[Box<RawValue>], read_at: Duration) -> (Vec<Entry>, Vec<String>) {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Id {
        session_id: String,
    }

    let mut seen = HashSet::new();
    let mut entries = Vec::with_capacity(raw.len());
    let mut nameless = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let id: SessionId = match serde_json::from_str::<Id>(raw.get()) {
            Ok(id) if qod_wire::is_session_id(&id.session_id) => id.session_id.into(),
            Ok(id) => {
                let start: String = id.session_id.chars().take(80).collect();
                nameless.push(format!(
                    "session {index} has an illegal sessionId {start:?}"
                ));
                continue;
            }
            Err(error) => {
                nameless.push(format!("session {index} has no usable sessionId: {error}"));
                continue;
            }
        };
        let session = if seen.insert(id.clone()) {
            parse(&id, raw, read_at)
        } else {
            Err(Rejection::new(
                RejectCode::Invalid,
                "the same sessionId stands above",
            ))
        };
        entries.push(Entry { id, session });
    }
    (entries, nameless)
}

fn parse(id: &SessionId, raw: &RawValue, read_at: Duration) -> Result<Session, Rejection> {
    let wire: qod_wire::Session = serde_json::from_str(raw.get()).map_err(invalid)?;
    let dscp =
        Dscp::new(wire.dscp).ok_or_else(|| invalid(format!("dscp {} is above 63", wire.dscp)))?;
    let ends = wire
        .expires_in
        .map(|seconds| end(seconds, read_at))
        .transpose()?;
    let device = Device::parse(&wire.device)?;
    let servers = wire.application_server.as_ref().map(servers).transpose()?;
    let device_ports = ports("devicePorts", wire.device_ports.as_ref())?;
    let server_ports = ports(
        "applicationServerPorts",
        wire.application_server_ports.as_ref(),
    )?;
    refuse_unsupported(&wire)?;

    let addresses = device.of_families_with(servers.as_deref())?;
    let mut matches = Vec::new();
    for &(address, server) in &addresses {
        for way in ways(wire.direction) {
            for peer in peers(
                server,
                servers.is_some(),
                device_ports.as_deref(),
                server_ports.as_deref(),
            ) {
                matches.push(Match {
                    way,
                    device: address,
                    peer,
                });
            }
        }
    }
    if matches.len() > MAX_SESSION_ELEMENTS {
        let message = format!(
            "its families, directions and port ranges need {} map elements, more than {MAX_SESSION_ELEMENTS}",
            matches.len()
        );
        return Err(invalid(message));
    }
    Ok(Session {
        id: id.clone(),
        dscp,
        ends,
        matches,
    })
}

fn invalid(message: impl fmt::Display) -> Rejection {
    Rejection::new(RejectCode::Invalid, message.to_string())
}

fn end(seconds: f64, read_at: Duration) -> Result<Duration, Rejection> {
    if seconds > MAX_EXPIRES_IN_SECONDS {
        return Err(invalid(format!("expiresIn {seconds} is above 30 days")));
    }
    // Below zero is simply over; to the millisecond, as the kernel keeps it.
    let millis = Duration::try_from_secs_f64(seconds.max(0.0))
        .map_err(invalid)?
        .as_millis();
    Ok(read_at + Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
}

fn refuse_unsupported(wire: &qod_wire::Session) -> Result<(), Rejection> {
    let field = if wire.required_interface.is_some() {
        "requiredInterface"
    } else if wire.max_upstream_kbps.is_some() {
        "maxUpstreamKbps"
    } else if wire.max_downstream_kbps.is_some() {
        "maxDownstreamKbps"
    } else {
        return Ok(());
    };
    Err(Rejection::new(
        RejectCode::Unsupported,
        format!("this agent does not know {field} yet"),
    ))
}

fn ways(direction: qod_wire::Direction) -> impl Iterator<Item = Way> {
    use qod_wire::Direction::{Both, Downstream, Upstream};
    Way::ALL.into_iter().filter(move |way| match direction {
        Both => true,
        Upstream => *way == Way::Up,
        Downstream => *way == Way::Down,
    })
}

fn peers(
    server: Prefix,
    server_given: bool,
    device_ports: Option<&[PortRange]>,
    server_ports: Option<&[PortRange]>,
) -> Vec<Peer> {
    match (device_ports, server_ports) {
        (None, None) if server_given => vec![Peer::Host(server)],
        (None, None) => vec![Peer::Whole],
        (device, server_side) => {
            let any = [PortRange::ANY];
            let (device, server_side) = (device.unwrap_or(&any), server_side.unwrap_or(&any));
            let pairs = device
                .iter()
                .flat_map(|d| server_side.iter().map(move |s| (*d, *s)));
            pairs
                .map(|(device_ports, server_ports)| Peer::Ports {
                    server,
                    device_ports,
                    server_ports,
                })
                .collect()
        }
    }
}

/// The addresses under which the backend knows a device; at least one thing is known of it.
struct Device<'a> {
    addresses: Vec<IpAddr>,
    named: &'a str,
}

impl<'a> Device<'a> {
    fn parse(wire: &'a qod_wire::Device) -> Result<Self, Rejection> {
        let mut addresses = Vec::new();
        for (family, text) in [
            (Family::V4, &wire.ipv4_address),
            (Family::V6, &wire.ipv6_address),
        ] {
            let Some(text) = text else { continue };
            let (address, _mask) = flow::parse_address(text, family)
                .map_err(|error| invalid(format!("device: {error}")))?;
            if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
                return Err(invalid(format!(
                    "device: {address} is no address of a device"
                )));
            }
            addresses.push(address);
        }
        if let Some(mac) = &wire.mac_address
            && !is_mac(mac)
        {
            return Err(invalid(format!("device: {mac:?} is not a MAC address")));
        }
        let named = [&wire.ipv4_address, &wire.ipv6_address, &wire.mac_address]
            .into_iter()
            .flatten()
            .next()
            .ok_or_else(|| invalid("device names neither an address nor a MAC address"))?;
        Ok(Self { addresses, named })
    }

    /// Each address of the device together with the server prefix of its family.
    fn of_families_with(
        &self,
        servers: Option<&[Prefix]>,
    ) -> Result<Vec<(IpAddr, Prefix)>, Rejection> {
        let server_of = |family| match servers {
            None => Some(Prefix::any(family)),
            Some(list) => list
                .iter()
                .copied()
                .find(|server| server.family() == family),
        };
        let pairs: Vec<_> = self
            .addresses
            .iter()
            .filter_map(|&address| Some((address, server_of(Family::of(address))?)))
            .collect();
        if pairs.is_empty() {
            let missing = match servers.and_then(|list| list.first()) {
                Some(server) => server.family().to_string(),
                None => "IP".to_owned(),
            };
            let message = format!("no {missing} address known for {}", self.named);
            return Err(Rejection::new(RejectCode::DeviceNotFound, message));
        }
        Ok(pairs)
    }
}

fn is_mac(text: &str) -> bool {
    let octets: Vec<_> = text.split(':').collect();
    octets.len() == 6
        && octets
            .iter()
            .all(|o| o.len() == 2 && o.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn servers(wire: &qod_wire::ApplicationServer) -> Result<Vec<Prefix>, Rejection> {
    let mut servers = Vec::new();
    for (family, text) in [
        (Family::V4, &wire.ipv4_address),
        (Family::V6, &wire.ipv6_address),
    ] {
        let Some(text) = text else { continue };
        let (address, length) = flow::parse_address(text, family)
            .map_err(|error| invalid(format!("applicationServer: {error}")))?;
        servers.extend(Prefix::new(address, length));
    }
    if servers.is_empty() {
        return Err(invalid("applicationServer names no address"));
    }
    Ok(servers)
}

/// The ranges of one side, merged; `None` when that side names none at all.
fn ports(field: &str, wire: Option<&qod_wire::Ports>) -> Result<Option<Vec<PortRange>>, Rejection> {
    let Some(wire) = wire else { return Ok(None) };
    let (ranges, ports) = (wire.ranges.as_deref(), wire.ports.as_deref());
    if ranges.is_none() && ports.is_none() {
        return Err(invalid(format!("{field} is empty")));
    }
    if ranges.is_some_and(<[_]>::is_empty) || ports.is_some_and(<[_]>::is_empty) {
        return Err(invalid(format!("{field} holds an empty list")));
    }
    let ranges = ranges.unwrap_or_default().iter().map(|r| PortRange {
        from: r.from,
        to: r.to,
    });
    let ports = ports
        .unwrap_or_default()
        .iter()
        .map(|&p| PortRange { from: p, to: p });
    let all: Vec<_> = ranges.chain(ports).collect();
    for range in &all {
        if range.from == 0 {
            return Err(invalid(format!("{field}: there is no port 0")));
        }
        if range.from > range.to {
            return Err(invalid(format!(
                "{field}: {} to {} runs backwards",
                range.from, range.to
            )));
        }
    }
    let merged = flow::merge(all);
    if merged.len() > MAX_PORT_RANGES {
        let message = format!(
            "{field}: {} ranges, more than {MAX_PORT_RANGES}",
            merged.len()
        );
        return Err(invalid(message));
    }
    Ok(Some(merged))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read_one(value: Value) -> Result<Session, Rejection> {
        let raw = serde_json::value::to_raw_value(&value).unwrap();
        let (mut entries, nameless) = read(&[raw], Duration::from_secs(1000));
        assert_eq!(nameless, [""; 0]);
        entries.remove(0).session
    }

    fn phone() -> Value {
        json!({ "sessionId": "a", "device": { "ipv4Address": "192.168.1.23" }, "dscp": 46,
                "applicationServer": { "ipv4Address": "198.51.100.7" } })
    }

    fn with(key: &str, value: Value) -> Value {
        let mut session = phone();
        session[key] = value;
        session
    }

    #[test]
    fn a_flow_without_ports_is_one_element_each_way() {
        let session = read_one(phone()).unwrap();
        assert_eq!(session.dscp.to_string(), "EF");
        assert_eq!(session.ends, None);
        let ways: Vec<_> = session.matches.iter().map(|m| m.way).collect();
        assert_eq!(ways, Way::ALL);
        assert!(
            session
                .matches
                .iter()
                .all(|m| matches!(m.peer, Peer::Host(_)))
        );
    }

    #[test]
    fn ports_are_merged_and_multiplied() {
        let mut value = with(
            "devicePorts",
            json!({ "ports": [5, 6, 9], "ranges": [{ "from": 7, "to": 8 }] }),
        );
        value["applicationServerPorts"] = json!({ "ports": [100, 200] });
        value["direction"] = json!("upstream");
        let session = read_one(value).unwrap();
        assert_eq!(session.matches.len(), 2);
        let Peer::Ports { device_ports, .. } = session.matches[0].peer else {
            panic!()
        };
        assert_eq!(device_ports, PortRange { from: 5, to: 9 });
    }

    #[test]
    fn both_families_are_one_session() {
        let mut value = with(
            "device",
            json!({ "ipv4Address": "192.168.1.23/24", "ipv6Address": "2001:db8:1::23" }),
        );
        value["applicationServer"] =
            json!({ "ipv4Address": "198.51.100.0/28", "ipv6Address": "2001:db8:2::/64" });
        let session = read_one(value).unwrap();
        assert_eq!(session.matches.len(), 4);
        assert_eq!(session.matches[0].device.to_string(), "192.168.1.23");
    }

    #[test]
    fn a_device_without_server_and_ports_is_taken_whole() {
        let mut value = phone();
        value.as_object_mut().unwrap().remove("applicationServer");
        assert!(
            read_one(value.clone())
                .unwrap()
                .matches
                .iter()
                .all(|m| m.peer == Peer::Whole)
        );
        value["devicePorts"] = json!({ "ports": [5060] });
        let session = read_one(value).unwrap();
        let Peer::Ports { server, .. } = session.matches[0].peer else {
            panic!()
        };
        assert_eq!(server, Prefix::any(Family::V4));
    }

    #[test]
    fn time_is_counted_from_the_reading() {
        let session = read_one(with("expiresIn", json!(3599.2504))).unwrap();
        assert_eq!(
            session.ends,
            Some(Duration::from_millis(1_000_000 + 3_599_250))
        );
        let over = read_one(with("expiresIn", json!(-5))).unwrap();
        assert_eq!(over.ends, Some(Duration::from_secs(1000)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (with("dscp", json!(64)), "dscp 64 is above 63"),
            (
                with("dscp", json!(256)),
                "invalid value: integer `256`, expected u8",
            ),
            (
                with("expiresIn", json!(2_592_001)),
                "expiresIn 2592001 is above 30 days",
            ),
            (with("device", json!({})), "device names neither"),
            (
                with("device", json!({ "ipv4Address": "300.1.1.1" })),
                "device: \"300.1.1.1\" is not an IPv4 address",
            ),
            (
                with("device", json!({ "ipv4Address": "224.0.0.1" })),
                "224.0.0.1 is no address of a device",
            ),
            (
                with("device", json!({ "macAddress": "02:00" })),
                "\"02:00\" is not a MAC address",
            ),
            (
                with("applicationServer", json!({})),
                "applicationServer names no address",
            ),
            (
                with("applicationServer", json!({ "ipv4Address": "1.2.3.4/40" })),
                "a mask of at most 32 bits",
            ),
            (with("devicePorts", json!({})), "devicePorts is empty"),
            (
                with("devicePorts", json!({ "ports": [] })),
                "devicePorts holds an empty list",
            ),
            (
                with("devicePorts", json!({ "ports": [0] })),
                "devicePorts: there is no port 0",
            ),
            (
                with("devicePorts", json!({ "ranges": [{ "from": 9, "to": 8 }] })),
                "9 to 8 runs backwards",
            ),
            (
                with(
                    "devicePorts",
                    json!({ "ports": (0..17).map(|n| 2 * n + 1).collect::<Vec<u16>>() }),
                ),
                "17 ranges",
            ),
            (
                with("direction", json!("sideways")),
                "unknown variant `sideways`",
            ),
        ];
        for (value, expected) in cases {
            let rejection = read_one(value.clone()).unwrap_err();
            assert_eq!(rejection.code, RejectCode::Invalid, "{value}");
            assert!(
                rejection.message.contains(expected),
                "{}: {expected}",
                rejection.message
            );
        }
    }

    #[test]
    fn too_many_elements_are_refused() {
        let list = |n: u16| json!({ "ports": (0..n).map(|n| 2 * n + 1).collect::<Vec<u16>>() });
        let mut value = with("devicePorts", list(8));
        value["applicationServerPorts"] = list(4);
        assert_eq!(read_one(value.clone()).unwrap().matches.len(), 64);
        value["applicationServerPorts"] = list(5);
        assert_eq!(read_one(value).unwrap_err().code, RejectCode::Invalid);
    }

    #[test]
    fn a_family_that_the_device_lacks_is_not_found() {
        let value = with(
            "applicationServer",
            json!({ "ipv6Address": "2001:db8:2::1" }),
        );
        let rejection = read_one(value).unwrap_err();
        assert_eq!(rejection.code, RejectCode::DeviceNotFound);
        assert_eq!(rejection.message, "no IPv6 address known for 192.168.1.23");
    }

    #[test]
    fn what_is_not_built_is_refused_and_not_ignored() {
        let rejection = read_one(with("requiredInterface", json!("wifi"))).unwrap_err();
        assert_eq!(rejection.code, RejectCode::Unsupported);
    }

    #[test]
    fn one_bad_session_leaves_the_others() {
        let raw: Vec<Box<RawValue>> = [
            json!({ "sessionId": "a/b", "device": {}, "dscp": 0 }),
            json!([1, 2]),
            phone(),
            json!({ "sessionId": "b" }),
            phone(),
        ]
        .iter()
        .map(|value| serde_json::value::to_raw_value(value).unwrap())
        .collect();
        let (entries, nameless) = read(&raw, Duration::ZERO);
        assert_eq!(nameless.len(), 2);
        let ids: Vec<_> = entries.iter().map(|e| &*e.id).collect();
        assert_eq!(ids, ["a", "b", "a"]);
        assert!(entries[0].session.is_ok());
        assert!(entries[1].session.is_err() && entries[2].session.is_err());
    }
}
