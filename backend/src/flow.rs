//! When two sessions of one home are about the same packets.

use qod_wire::{Direction, Ports, Session};

use crate::known_devices::KnownDevices;
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
        self.same_device(other) && self.meets(other, |left, right| left.intersects(right))
    }

    /// Whether both would have a packet in common if what they name is one device, although they name it in two
    /// ways: by its MAC address and an address, or by one address of each family.
    ///
    /// An agent marks exactly the address that a session gives, and in the other family every address of the
    /// device's. So they meet in a family in which not both give one.
    pub fn overlaps_if_one_device(&self, other: &Self) -> bool {
        let two_macs =
            matches!((&self.mac, &other.mac), (Some(left), Some(right)) if left != right);
        let both =
            |left: &Option<String>, right: &Option<String>| left.is_some() && right.is_some();
        let (both_ipv4, both_ipv6) = (both(&self.ipv4, &other.ipv4), both(&self.ipv6, &other.ipv6));
        if self.servers.is_none() && both_ipv4 && both_ipv6 {
            return false;
        }
        !two_macs
            && self.meets(other, |left, right| {
                let told_apart = if left.address().is_ipv4() {
                    both_ipv4
                } else {
                    both_ipv6
                };
                !told_apart && left.intersects(right)
            })
    }

    /// Whether agents say that both name one device.
    pub fn is_one_device(&self, other: &Self, known: &KnownDevices) -> bool {
        let mac = |flow: &Self| {
            let addresses = flow.ipv4.iter().chain(&flow.ipv6);
            let of_address = || addresses.filter_map(|address| known.mac_of(address)).next();
            flow.mac.clone().or_else(|| of_address().map(str::to_owned))
        };
        mac(self).is_some_and(|left| mac(other) == Some(left))
    }

    /// Whether directions, servers and ports have something in common, where `intersect` says so of two servers.
    fn meets(&self, other: &Self, intersect: impl Fn(&Prefix, &Prefix) -> bool) -> bool {
        (self.direction == other.direction
            || self.direction == Direction::Both
            || other.direction == Direction::Both)
            && match (&self.servers, &other.servers) {
                (None, None) => true,
                (Some(left), Some(right)) => {
                    left.iter().any(|a| right.iter().any(|b| intersect(a, b)))
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
    use proptest::prelude::*;

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

    /// Two devices, each with two addresses of a family, as an agent sees them.
    const DEVICES: [(&str, [&str; 2], [&str; 2]); 2] = [
        (
            "02:00:00:00:00:01",
            ["10.0.0.1", "10.0.0.2"],
            ["fd00::1", "fd00::2"],
        ),
        (
            "02:00:00:00:00:02",
            ["10.0.0.3", "10.0.0.4"],
            ["fd00::3", "fd00::4"],
        ),
    ];

    fn known() -> KnownDevices {
        let devices: Vec<_> = DEVICES
            .iter()
            .map(|(mac, ipv4, ipv6)| serde_json::json!({"mac": mac, "ipv4": ipv4, "ipv6": ipv6}))
            .collect();
        let mut known = KnownDevices::default();
        known.add(&qod_wire::Status {
            devices: serde_json::from_value(devices.into()).unwrap(),
            ..qod_wire::Status::default()
        });
        known
    }

    /// A session about one of the devices, in any of the ways in which one may be named.
    fn sessions() -> impl Strategy<Value = Session> {
        let one = |choices: &'static [&'static str]| {
            proptest::option::of(proptest::sample::select(choices))
        };
        let port = proptest::option::of(1_u16..5);
        let device = (
            0_usize..2,
            proptest::option::of(0_usize..2),
            proptest::option::of(0_usize..2),
            any::<bool>(),
        );
        let servers = (
            one(&[
                "198.51.100.0/31",
                "198.51.100.1/32",
                "198.51.100.2/32",
                "0.0.0.0/0",
            ]),
            one(&["2001:db8::/127", "2001:db8::1/128", "2001:db8::2/128"]),
        );
        let direction = proptest::sample::select(
            &[Direction::Both, Direction::Upstream, Direction::Downstream][..],
        );
        (device, servers, port.clone(), port, direction).prop_filter_map(
            "it names a device and a server",
            |((device, ipv4, ipv6, mac), servers, device_port, server_port, direction)| {
                let (mac_address, ipv4s, ipv6s) = DEVICES[device];
                let ports = |port: Option<u16>| port.map(|port| serde_json::json!({"ports": [port]}));
                let session = serde_json::json!({"sessionId": "a", "dscp": 46, "direction": direction,
                    "device": {"ipv4Address": ipv4.map(|i| ipv4s[i]), "ipv6Address": ipv6.map(|i| ipv6s[i]),
                        "macAddress": mac.then_some(mac_address)},
                    "applicationServer": {"ipv4Address": servers.0, "ipv6Address": servers.1},
                    "devicePorts": ports(device_port), "applicationServerPorts": ports(server_port)});
                let named = ipv4.is_some() || ipv6.is_some() || mac;
                let served = servers.0.is_some() || servers.1.is_some();
                (named && served).then(|| serde_json::from_value(session).unwrap())
            },
        )
    }

    /// A packet upstream or downstream: the device, one of its addresses, the server's, and both ports.
    fn packets() -> impl Iterator<Item = (usize, &'static str, &'static str, u16, u16, Direction)> {
        (0..2_usize).flat_map(|device| {
            let (_, ipv4, ipv6) = &DEVICES[device];
            let ipv4 = ipv4.iter().flat_map(|own| {
                ["198.51.100.0", "198.51.100.1", "198.51.100.2", "192.0.2.1"].map(|far| (*own, far))
            });
            let ipv6 = ipv6.iter().flat_map(|own| {
                ["2001:db8::", "2001:db8::1", "2001:db8::2"].map(|far| (*own, far))
            });
            ipv4.chain(ipv6).flat_map(move |(own, far)| {
                (1..5).flat_map(move |near_port| {
                    (1..5).flat_map(move |far_port| {
                        [Direction::Upstream, Direction::Downstream]
                            .map(|way| (device, own, far, near_port, far_port, way))
                    })
                })
            })
        })
    }

    /// What the agent API says that an agent marks.
    fn marks(session: &Session, packet: &(usize, &str, &str, u16, u16, Direction)) -> bool {
        let (device, own, far, near_port, far_port, way) = *packet;
        let (mac, ipv4s, ipv6s) = DEVICES[device];
        let server = session.application_server.as_ref().unwrap();
        let is_ipv6 = own.contains(':');
        let (given, server) = if is_ipv6 {
            (&session.device.ipv6_address, &server.ipv6_address)
        } else {
            (&session.device.ipv4_address, &server.ipv4_address)
        };
        let is_this_device = session.device.mac_address.as_deref() == Some(mac)
            || session
                .device
                .ipv4_address
                .as_deref()
                .is_some_and(|a| ipv4s.contains(&a))
            || session
                .device
                .ipv6_address
                .as_deref()
                .is_some_and(|a| ipv6s.contains(&a));
        let port = |ports: &Option<Ports>, port| {
            ports
                .as_ref()
                .is_none_or(|ports| ports.ports.as_ref().unwrap().contains(&port))
        };
        given.as_ref().map_or(is_this_device, |given| given == own)
            && server.as_ref().is_some_and(|server| {
                Prefix::any(server)
                    .unwrap()
                    .intersects(&Prefix::any(far).unwrap())
            })
            && port(&session.device_ports, near_port)
            && port(&session.application_server_ports, far_port)
            && (session.direction == Direction::Both || session.direction == way)
    }

    proptest! {
        /// Against every packet that agents would mark for both.
        #[test]
        fn overlap_is_a_common_packet(a in sessions(), b in sessions()) {
            let (left, right) = (Flow::of(&a), Flow::of(&b));
            let known = known();
            let by_name = left.overlaps(&right);
            let by_knowledge = left.overlaps_if_one_device(&right) && left.is_one_device(&right, &known);
            prop_assert_eq!(by_name, right.overlaps(&left));
            prop_assert_eq!(by_knowledge, right.overlaps_if_one_device(&left) && right.is_one_device(&left, &known));
            let common = packets().any(|packet| marks(&a, &packet) && marks(&b, &packet));
            if common {
                prop_assert!(by_name || by_knowledge, "a common packet is seen: {:?} {:?}", a, b);
            }
            if by_knowledge {
                prop_assert!(common, "and none is imagined: {:?} {:?}", a, b);
            }
            // A session that names the device by the same word is about the device, whatever its other addresses.
            let device = |session: &Session| {
                let device = &session.device;
                DEVICES.iter().position(|(mac, ipv4, ipv6)| device.mac_address.as_deref() == Some(mac)
                    || device.ipv4_address.as_deref().is_some_and(|a| ipv4.contains(&a))
                    || device.ipv6_address.as_deref().is_some_and(|a| ipv6.contains(&a)))
            };
            if by_name {
                prop_assert_eq!(device(&a), device(&b));
            }
            // Nothing is known of what no agent reported.
            prop_assert!(left.mac.is_some() && left.mac == right.mac || !left.is_one_device(&right, &KnownDevices::default()));
        }
    }
}
