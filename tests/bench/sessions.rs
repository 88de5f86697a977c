//! Lists of sessions, as a backend would send them.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use super::lab::Netns;
use super::lab::home::{PHONE_V4, PHONE_V6};

const EF: u8 = 46;

/// The phone's session: what a flow must have to be in it.
pub const SERVER_PORT: u16 = 33001;
pub const PHONE_PORT: u16 = 5010;

/// A session of both families and both directions, with ports, for a device and 198.51.100.0/28.
fn flow(number: usize, device: (Ipv4Addr, Ipv6Addr)) -> Value {
    json!({
        "sessionId": format!("bench-{number}"), "dscp": EF, "expiresIn": 3600,
        "device": { "ipv4Address": device.0, "ipv6Address": device.1 },
        "applicationServer": { "ipv4Address": "198.51.100.0/28", "ipv6Address": "2001:db8:2::/64" },
        "devicePorts": { "ranges": [{ "from": PHONE_PORT, "to": PHONE_PORT + 10 }] },
        "applicationServerPorts": { "ports": [SERVER_PORT] },
    })
}

/// Another device of the home, that sends nothing.
pub fn neighbour(number: usize) -> (Ipv4Addr, Ipv6Addr) {
    let (high, low) = ((2 + number / 250) as u8, (1 + number % 250) as u8);
    (
        Ipv4Addr::new(192, 168, high, low),
        Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 1, number as u16),
    )
}

/// Makes a router know the devices that send nothing, as if they had.
pub fn introduce(router: &Netns, count: usize) {
    let lines: String = (0..count)
        .map(|number| {
            let (v4, v6) = neighbour(number);
            let mac = format!("02:00:00:01:{:02x}:{:02x}", number / 256, number % 256);
            format!(
                "neigh replace {v4} lladdr {mac} dev br-lan nud permanent\n\
                 neigh replace {v6} lladdr {mac} dev br-lan nud permanent\n"
            )
        })
        .collect();
    router.ip(&lines);
}

/// The phone's session first, then sessions of as many other devices: all with ports, so that all are
/// in the maps that a packet is looked up in first and longest.
pub fn with_ports(count: usize) -> Vec<Value> {
    let phone = (0..count.min(1)).map(|number| flow(number, (PHONE_V4, PHONE_V6)));
    let others = (1..count).map(|number| flow(number, neighbour(number)));
    phone.chain(others).collect()
}

/// A third with ports, a third with a server only, a third of whole devices.
pub fn spread(count: usize) -> Vec<Value> {
    let mut all = with_ports(count);
    for (number, session) in all.iter_mut().enumerate() {
        let without: &[&str] = match number % 3 {
            0 => &[],
            1 => &["devicePorts", "applicationServerPorts"],
            _ => &["devicePorts", "applicationServerPorts", "applicationServer"],
        };
        if let Some(session) = session.as_object_mut() {
            session.retain(|key, _| !without.contains(&key.as_str()));
        }
    }
    all
}
