//! How orders may be spelt: both dialects of 0.9.0, every identifier of a device, and what becomes of it in the
//! answer and in the agent's instructions.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod common;

use common::{Answer, Client, Running, SCOPES, home_h, session_with};
use serde_json::{Value, json};

const SESSIONS: &str = "/qod/v0/sessions";
const MAC: &str = "02:00:00:00:00:17";

struct World {
    _running: Running,
    client: Client,
    app: String,
    user: String,
    agent: String,
}

impl World {
    /// Home `h`, and beside it home `o` with identifiers of its own.
    fn new() -> Self {
        let running = Running::start();
        let client = running.client.clone();
        let mut home = home_h();
        home["phoneNumbers"] = json!([{"number": "+4912345678923", "mac": MAC}, {"number": "+4911111"},
            {"number": "+4933333", "mac": "02-00-00-00-00-AA"}]);
        home["networkAccessIdentifiers"] = json!([{"nai": "h@operator.example"},
            {"nai": "23@operator.example", "mac": MAC}]);
        client.admin("PUT", "/homes/h", &home);
        client.admin(
            "PUT",
            "/homes/o",
            &json!({"agentIds": ["b"], "subs": ["user-o"], "consumers": "all",
                "phoneNumbers": [{"number": "+4922222"}], "prefixes": ["2001:db8:85a3:8d3::/64", "203.0.113.8/32"]}),
        );
        Self {
            app: client.consumer("app", &SCOPES),
            user: client.user_token("h", "app"),
            agent: client.agent_token("a"),
            client,
            _running: running,
        }
    }

    fn post(&self, token: &str, change: &Value) -> Answer {
        self.client
            .json("POST", SESSIONS, token, &session_with(change))
    }

    /// Orders, and gives what is echoed and what agents are told; then deletes.
    fn ordered(&self, token: &str, change: &Value) -> (Value, Value) {
        let answer = self.post(token, change);
        assert_eq!(answer.status, 201, "{change}: {}", answer.body);
        let path = format!("{SESSIONS}/{}", answer.body["sessionId"].as_str().unwrap());
        assert_eq!(
            self.client.get(&path, token).body,
            answer.body,
            "GET says the same"
        );
        let told = self.client.poll("a", &self.agent, None, 0).body["sessions"][0].clone();
        assert_eq!(self.client.delete(&path, token).status, 204);
        (answer.body, told)
    }
}

#[test]
#[rustfmt::skip]
fn every_identifier_of_a_device() {
    let world = World::new();
    let public = |rest: Value| {
        let mut ipv4 = json!({"publicAddress": "203.0.113.7"});
        ipv4.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        ipv4
    };
    let v4 = json!({"ipv4Address": "192.168.1.23"});
    let v6 = json!({"ipv6Address": "2001:db8:85a3::23"});
    let mac = json!({"macAddress": MAC});
    // Token, device as ordered, as echoed (null: the same), as agents are told.
    let (app, user) = (&world.app, &world.user);
    for (token, ordered, echoed, told) in [
        (app, json!({"phoneNumber": "+4912345678923"}), json!(null), mac.clone()),
        (app, json!({"phoneNumber": "004912345678923"}), json!(null), mac.clone()),
        (app, json!({"phoneNumber": "4912345678923"}), json!(null), mac.clone()),
        (app, json!({"networkAccessIdentifier": "23@operator.example"}), json!(null), mac.clone()),
        (app, json!({"phoneNumber": "4933333"}), json!(null), json!({"macAddress": "02:00:00:00:00:aa"})),
        (user, json!({"ipv4Address": "192.168.1.23"}), json!(null), v4.clone()),
        (user, json!({"ipv4Address": "192.168.1.23/24"}), json!(null), v4.clone()),
        (user, json!({"ipv4Address": "192.168.1.23/32"}), json!(null), v4.clone()),
        (user, json!({"ipv4Addr": "192.168.1.23/0"}), json!({"ipv4Address": "192.168.1.23/0"}), v4.clone()),
        (user, json!({"ipv4Address": {"privateAddress": "192.168.1.23"}}), json!(null), v4.clone()),
        (app, json!({"ipv4Address": public(json!({"privateAddress": "192.168.1.23"}))}), json!(null), v4.clone()),
        (app, json!({"ipv4Addr": public(json!({"privateAddress": "192.168.1.23", "publicPort": 65535}))}),
            json!({"ipv4Address": public(json!({"privateAddress": "192.168.1.23", "publicPort": 65535}))}), v4.clone()),
        // Without NAT both are the same.
        (app, json!({"ipv4Address": public(json!({"privateAddress": "203.0.113.7"}))}), json!(null),
            json!({"ipv4Address": "203.0.113.7"})),
        (app, json!({"ipv6Address": "2001:db8:85a3::23"}), json!(null), v6.clone()),
        (app, json!({"ipv6Address": "2001:0DB8:85A3:0000:0::0023"}), v6.clone(), v6.clone()),
        (app, json!({"ipv6Addr": "2001:db8:85a3::23/64"}), json!({"ipv6Address": "2001:db8:85a3::23/64"}), v6.clone()),
        (app, json!({"ipv6Address": "2001:db8:85a3::0.0.0.35"}), v6.clone(), v6.clone()),
        // A user's device may have an address that no provisioned prefix contains.
        (user, json!({"ipv6Address": "fd00::23"}), json!(null), json!({"ipv6Address": "fd00::23"})),
        // Together.
        (app, json!({"phoneNumber": "+4912345678923", "networkAccessIdentifier": "23@operator.example",
            "ipv4Address": public(json!({"privateAddress": "192.168.1.23"})), "ipv6Address": "2001:db8:85a3::23"}), json!(null),
            json!({"macAddress": MAC, "ipv4Address": "192.168.1.23", "ipv6Address": "2001:db8:85a3::23"})),
        (user, json!({"phoneNumber": "+4911111", "ipv4Address": "192.168.1.23"}), json!(null), v4.clone()),
        (app, json!({"networkAccessIdentifier": "h@operator.example", "ipv4Address": "192.168.1.23"}), json!(null), v4.clone()),
        (app, json!({"ipv6Address": "2001:db8:85a3::23", "ipv4Address": "203.0.113.7"}), json!(null), v6.clone()),
        // What is not of this API is legal, and leaves no trace.
        (user, json!({"ipv4Address": "192.168.1.23", "imei": "1"}), json!({"ipv4Address": "192.168.1.23"}), v4.clone()),
    ] {
        let (echo, instruction) = world.ordered(token, &json!({"device": ordered}));
        assert_eq!(&echo["device"], if echoed.is_null() { &ordered } else { &echoed }, "{ordered}");
        assert_eq!(instruction["device"], told, "{ordered}");
    }
}

#[test]
#[rustfmt::skip]
fn identifiers_must_agree() {
    let world = World::new();
    let inconsistent = "Multiple inconsistent parameters specified: device";
    let unknown = "Unable to identify device from specified parameters: device";
    let (app, user) = (&world.app, &world.user);
    for (token, device, message) in [
        (app, json!({"phoneNumber": "+4922222", "ipv6Address": "2001:db8:85a3::23"}), inconsistent),
        (app, json!({"phoneNumber": "+4911111", "ipv6Address": "2001:db8:85a3:8d3::1"}), inconsistent),
        (app, json!({"phoneNumber": "+4922222", "networkAccessIdentifier": "h@operator.example"}), inconsistent),
        (app, json!({"phoneNumber": "+4933333", "networkAccessIdentifier": "23@operator.example"}), inconsistent),
        (app, json!({"ipv6Address": "2001:db8:85a3::23", "ipv4Address": {"publicAddress": "203.0.113.8", "privateAddress": "192.168.1.23"}}), inconsistent),
        (user, json!({"phoneNumber": "+4922222"}), inconsistent),
        (user, json!({"ipv6Address": "2001:db8:85a3:8d3::1"}), inconsistent),
        (user, json!({"ipv4Address": {"publicAddress": "203.0.113.8", "privateAddress": "192.168.1.23"}}), inconsistent),
        // What nobody knows agrees with nothing.
        (app, json!({"phoneNumber": "+4944444"}), unknown),
        (app, json!({"networkAccessIdentifier": "x@operator.example"}), unknown),
        (user, json!({"phoneNumber": "+4944444", "ipv4Address": "192.168.1.23"}), unknown),
        (app, json!({"ipv6Address": "2001:db8:ffff::1"}), unknown),
        (app, json!({"ipv4Address": "192.0.2.1"}), unknown),
        (app, json!({"ipv4Address": {"publicAddress": "192.0.2.1", "privateAddress": "192.168.1.23"}}), unknown),
    ] {
        let answer = world.post(token, &json!({"device": device}));
        assert_eq!(answer.error(), (400, "INVALID_INPUT", message), "{device}");
    }
}

#[test]
#[rustfmt::skip]
fn servers_and_ports_in_both_dialects() {
    let world = World::new();
    let both = json!({"ipv4Address": "54.204.25.0/28", "ipv6Address": "2001:db8::/32"});
    for (ordered, echoed, told) in [
        (json!({"ipv4Addr": "54.204.25.3/28"}), json!({"ipv4Address": "54.204.25.3/28"}), json!({"ipv4Address": "54.204.25.0/28"})),
        (json!({"ipv4Address": "54.204.25.3"}), json!(null), json!({"ipv4Address": "54.204.25.3/32"})),
        (json!({"ipv4Address": "0.0.0.0/0"}), json!(null), json!({"ipv4Address": "0.0.0.0/0"})),
        (json!({"ipv6Addr": "2001:DB8::1/32"}), json!({"ipv6Address": "2001:db8::1/32"}), json!({"ipv6Address": "2001:db8::/32"})),
        (json!({"ipv6Address": "::/0"}), json!(null), json!({"ipv6Address": "::/0"})),
        (both.clone(), json!(null), both.clone()),
    ] {
        let (echo, instruction) = world.ordered(&world.app, &json!({"applicationServer": ordered}));
        assert_eq!(&echo["applicationServer"], if echoed.is_null() { &ordered } else { &echoed });
        assert_eq!(instruction["applicationServer"], told, "{ordered}");
    }
    for key in ["devicePorts", "applicationServerPorts"] {
        let from_to = |from: u16, to: u16| json!({"from": from, "to": to});
        for (ordered, echoed, told) in [
            (json!("33001"), json!({"ports": [33001]}), json!({"ports": [33001]})),
            (json!({"ports": [33001]}), json!(null), json!({"ports": [33001]})),
            (json!({"ranges": [from_to(5010, 5020)], "ports": [5060, 5070]}), json!(null), json!({"ranges": [from_to(5010, 5020)], "ports": [5060, 5070]})),
            // As it was given; agents are told it merged.
            (json!({"ranges": [from_to(5, 9), from_to(1, 6)], "ports": [10, 3]}), json!(null), json!({"ranges": [from_to(1, 10)]})),
            (json!({"ranges": [from_to(1, 65535)]}), json!(null), json!({"ranges": [from_to(1, 65535)]})),
        ] {
            let (echo, instruction) = world.ordered(&world.app, &json!({key: ordered}));
            assert_eq!(&echo[key], if echoed.is_null() { &ordered } else { &echoed });
            assert_eq!(instruction[key], told, "{ordered}");
        }
    }
    // Omitted: every port, in the answer and in the instructions.
    let (echo, instruction) = world.ordered(&world.app, &json!({}));
    for key in ["devicePorts", "applicationServerPorts"] {
        assert_eq!((echo.get(key), instruction.get(key)), (None, None));
    }
}

#[test]
fn an_answer_has_what_both_dialects_require() {
    let world = World::new();
    let (echo, instruction) = world.ordered(&world.app, &json!({"duration": null}));
    for key in [
        "sessionId",
        "duration",
        "device",
        "applicationServer",
        "qosProfile",
        "startedAt",
        "expiresAt",
        "qosStatus",
        "messages",
    ] {
        assert!(echo.get(key).is_some(), "{key}: {echo}");
    }
    assert_eq!(echo["duration"], 86_400);
    assert_eq!(
        echo["expiresAt"].as_i64().unwrap() - echo["startedAt"].as_i64().unwrap(),
        86_400
    );
    assert_eq!(
        (&instruction["dscp"], &instruction["sessionId"]),
        (&json!(46), &echo["sessionId"])
    );
}

#[test]
fn two_spellings_of_one_property_are_refused() {
    let world = World::new();
    for (change, place) in [
        (
            json!({"device": {"ipv4Address": "192.168.1.23", "ipv4Addr": "192.168.1.23"}}),
            "device.ipv4Addr",
        ),
        (
            json!({"device": {"ipv6Address": "::1", "ipv6Addr": "::1"}}),
            "device.ipv6Addr",
        ),
        (
            json!({"applicationServer": {"ipv4Address": "1.2.3.4", "ipv4Addr": "1.2.3.4"}}),
            "applicationServer.ipv4Addr",
        ),
    ] {
        let message =
            format!("Schema validation failed at {place}: is given a second time, as {place}ess");
        let answer = world.post(&world.user, &change);
        assert_eq!(answer.error(), (400, "INVALID_INPUT", message.as_str()));
    }
}
