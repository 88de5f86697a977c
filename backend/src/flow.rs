//! When two sessions of one home are about the same packets.

use qod_wire::{Direction, Ports, Session};

use crate::ports::PortSet;
use crate::prefix::Prefix;

/// What a session marks.
#[derive(Clone, Debug)]
pub struct Flow {
    ipv4: Option<String>,
    ipv6: Option<String>,
    mac: Option<String>,
    /// Absent: the whole device.
    servers: Option<Vec<Prefix>>,
    /// Absent: every port and protocol.
    device_ports: Option<PortSet>,
    server_ports: Option<PortSet>,
    direction: Direction,
}

impl Flow {
    /// The flow of a session that the backend itself made: its addresses are canonical.
    pub fn of(session: &Session) -> Self {
        let ports = |ports: &Option<Ports>| ports.as_ref().map(PortSet::new);
        Self {
            ipv4: session.device.ipv4_address.clone(),
            ipv6: session.device.ipv6_address.clone(),
            mac: session.device.mac_address.clone(),
            servers: session.application_server.as_ref().map(|server| {
                [&server.ipv4_address, &server.ipv6_address]
                    .into_iter()
                    .flatten()
                    .filter_map(|text| Prefix::any(text).ok())
                    .collect()
            }),
            device_ports: ports(&session.device_ports),
            server_ports: ports(&session.application_server_ports),
            direction: session.direction,
        }
    }

    /// Whether both name the same device and have a packet in common. A whole-device setting ranks below every
    /// flow and meets only another setting.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.same_device(other)
            && (self.direction == other.direction
                || self.direction == Direction::Both
                || other.direction == Direction::Both)
            && match (&self.servers, &other.servers) {
                (None, None) => true,
                (Some(left), Some(right)) => {
                    left.iter().any(|a| right.iter().any(|b| a.intersects(b)))
                        && meet(&self.device_ports, &other.device_ports)
                        && meet(&self.server_ports, &other.server_ports)
                }
                _ => false,
            }
    }

    fn same_device(&self, other: &Self) -> bool {
        [
            (&self.ipv4, &other.ipv4),
            (&self.ipv6, &other.ipv6),
            (&self.mac, &other.mac),
        ]
        .into_iter()
        .any(|(left, right)| left.is_some() && left == right)
    }
}

fn meet(left: &Option<PortSet>, right: &Option<PortSet>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => left.intersects(right),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(json: serde_json::Value) -> Flow {
        let mut session = serde_json::json!({"sessionId": "a", "dscp": 46,
            "device": {"ipv4Address": "192.168.1.23"}, "applicationServer": {"ipv4Address": "198.51.100.0/28"}});
        let fields = session.as_object_mut().unwrap();
        fields.extend(json.as_object().unwrap().clone());
        Flow::of(&serde_json::from_value(session).unwrap())
    }

    #[test]
    fn overlap() {
        let base = flow(serde_json::json!({}));
        let cases = [
            (serde_json::json!({}), true),
            (
                serde_json::json!({"device": {"ipv4Address": "192.168.1.24"}}),
                false,
            ),
            (
                serde_json::json!({"device": {"macAddress": "02:00:00:00:00:01"}}),
                false,
            ),
            (
                serde_json::json!({"applicationServer": {"ipv4Address": "0.0.0.0/0"}}),
                true,
            ),
            (
                serde_json::json!({"applicationServer": {"ipv4Address": "198.51.100.16"}}),
                false,
            ),
            (
                serde_json::json!({"applicationServer": {"ipv6Address": "::/0"}}),
                false,
            ),
            (serde_json::json!({"applicationServer": null}), false),
            (serde_json::json!({"devicePorts": {"ports": [1]}}), true),
            (serde_json::json!({"direction": "upstream"}), true),
        ];
        for (other, expected) in cases {
            assert_eq!(base.overlaps(&flow(other.clone())), expected, "{other}");
            assert_eq!(flow(other.clone()).overlaps(&base), expected, "{other}");
        }
        let up = flow(serde_json::json!({"direction": "upstream"}));
        let down = flow(serde_json::json!({"direction": "downstream"}));
        assert!(!up.overlaps(&down));
        let left = flow(
            serde_json::json!({"devicePorts": {"ports": [1]}, "applicationServerPorts": {"ports": [5]}}),
        );
        let right = flow(
            serde_json::json!({"devicePorts": {"ports": [2]}, "applicationServerPorts": {"ports": [5]}}),
        );
        assert!(!left.overlaps(&right), "both lists must meet");
    }
}
