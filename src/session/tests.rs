//! What is read from the wire, and what is refused.

use std::time::Duration;

use qod_wire::RejectCode;
use serde_json::value::RawValue;

use super::*;
use crate::flow::{Family, Peer, PortRange, Prefix, Way};
use serde_json::{Value, json};

fn read_one(value: Value) -> Result<Session, Rejection> {
    let raw = serde_json::value::to_raw_value(&value).unwrap();
    let (mut items, nameless) = read(&[raw], Duration::from_secs(1000));
    assert_eq!(nameless, None);
    let order = items.remove(0).order?;
    let addresses: Vec<_> = order.device.addresses().collect();
    Ok(order.session(&addresses))
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
fn elements_are_counted_for_every_family_of_the_server() {
    let ports = json!({ "ports": (0..16).map(|n| 2 * n + 1).collect::<Vec<u16>>() });
    let mut value = with("devicePorts", ports.clone());
    value["applicationServerPorts"] = json!({ "ports": [1, 3] });
    assert!(read_one(value.clone()).is_ok());
    // The device's IPv6 address is followed, though it is not given.
    value["applicationServer"]["ipv6Address"] = json!("2001:db8:2::1");
    let rejection = read_one(value).unwrap_err();
    assert_eq!(rejection.code, RejectCode::Invalid);
    assert!(rejection.message.contains("128"), "{rejection}");
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
    let (items, nameless) = read(&raw, Duration::ZERO);
    let text = nameless.unwrap();
    assert_eq!(
        text,
        "session 0 has an illegal sessionId, \"a/b\"; so it is with 1 more"
    );
    let ids: Vec<_> = items.iter().map(|item| &*item.id).collect();
    assert_eq!(ids, ["a", "b", "a"]);
    assert!(items[0].order.is_ok());
    assert!(items[1].order.is_err() && items[2].order.is_err());
}
