//! The table of errors of the design, row by row: request, condition, status, code and exact message.
//!
//! Every test is called after its row. Each refusal leaves nothing behind: the sessions are counted after it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Answer, Client, Running, SCOPES, home_h, session_with};
use serde_json::{Value, json};
use sqlx::Connection as _;

const SESSIONS: &str = "/qod/v0/sessions";

/// A backend with a home of which everything is provisioned, and profiles of every kind.
struct World {
    running: Running,
    client: Client,
    /// Client credentials with all scopes.
    app: String,
    /// The home's user.
    user: String,
}

impl World {
    fn new() -> Self {
        Self::with_database(None)
    }

    fn with_database(folder: Option<&Path>) -> Self {
        let running = Running::with(|config| {
            let token = config.admin_token_file.as_ref().unwrap();
            let file = token.with_file_name("profiles.json");
            let profiles = json!({"profiles": [
                {"name": "QOS_E", "dscp": "EF"},
                {"name": "PORTS", "dscp": "EF", "portsRequired": true},
                {"name": "SINGLES", "dscp": "EF", "rangesAllowed": false}]});
            fs::write(&file, profiles.to_string()).unwrap();
            config.profiles_file = Some(file);
            if let Some(folder) = folder {
                config.database = format!("sqlite:{}", folder.join("q.sqlite").display());
            }
        });
        running.home();
        let client = running.client.clone();
        let app = client.consumer("app", &SCOPES);
        let user = client.user_token("h", "app");
        Self {
            running,
            client,
            app,
            user,
        }
    }

    fn post(&self, token: &str, change: &Value) -> Answer {
        self.client
            .json("POST", SESSIONS, token, &session_with(change))
    }

    fn sessions(&self) -> usize {
        self.client.admin("GET", "/sessions", &Value::Null)["sessions"]
            .as_array()
            .unwrap()
            .len()
    }

    /// An order (the usual one with these changes) is refused so, and leaves nothing.
    fn refuses(&self, when: &str, token: &str, change: Value, expected: (u16, &str, &str)) {
        let before = self.sessions();
        let answer = self.post(token, &change);
        assert_eq!(answer.error(), expected, "{when}: {change}");
        assert_eq!(self.sessions(), before, "{when}: {change}");
    }

    /// A refusal of rows 1 to 6: 400 `INVALID_INPUT`.
    fn invalid(&self, when: &str, token: &str, change: Value, message: &str) {
        self.refuses(when, token, change, (400, "INVALID_INPUT", message));
    }

    /// The order is taken, and its session deleted again.
    fn takes(&self, when: &str, token: &str, change: Value) {
        let answer = self.post(token, &change);
        assert_eq!(answer.status, 201, "{when}: {change} {}", answer.body);
        let path = format!("{SESSIONS}/{}", answer.body["sessionId"].as_str().unwrap());
        assert_eq!(self.client.delete(&path, token).status, 204);
    }
}

#[test]
#[rustfmt::skip]
fn row_01_a_private_address_tells_no_home() {
    let world = World::new();
    let message = "Expected property is missing: device.msisdn";
    let (app, user) = (&world.app, &world.user);
    world.invalid("a string",           app, json!({"device": {"ipv4Address": "192.168.1.23"}}), message);
    world.invalid("a string with mask", app, json!({"device": {"ipv4Address": "192.168.1.23/24"}}), message);
    world.invalid("the old name",       app, json!({"device": {"ipv4Addr": "10.0.0.7"}}), message);
    world.invalid("link-local",         app, json!({"device": {"ipv4Address": "169.254.1.1"}}), message);
    world.invalid("an object",          app, json!({"device": {"ipv4Address": {"privateAddress": "192.168.1.23"}}}), message);
    world.takes("the token tells it",   user, json!({"device": {"ipv4Address": "192.168.1.23"}}));
    world.takes("a number tells it",    app, json!({"device": {"ipv4Address": "192.168.1.23", "phoneNumber": "+4911111"}}));
    world.takes("an NAI tells it",      app, json!({"device": {"ipv4Address": "192.168.1.23", "networkAccessIdentifier": "h@operator.example"}}));
    world.takes("an IPv6 tells it",     app, json!({"device": {"ipv4Address": "192.168.1.23", "ipv6Address": "2001:db8:85a3::1"}}));
}

#[test]
#[rustfmt::skip]
fn row_02_no_device_is_named_and_the_server_is_ipv4_only() {
    let world = World::new();
    let message = "Expected property is missing: device.ipv4Address";
    let (app, user) = (&world.app, &world.user);
    world.invalid("a number without MAC",  app, json!({"device": {"phoneNumber": "+4911111"}}), message);
    world.invalid("an NAI without MAC",    app, json!({"device": {"networkAccessIdentifier": "h@operator.example"}}), message);
    world.invalid("a public string",       app, json!({"device": {"ipv4Address": "203.0.113.7"}}), message);
    world.invalid("a public object",       app, json!({"device": {"ipv4Address": {"publicAddress": "203.0.113.7"}}}), message);
    world.invalid("the token and a number", user, json!({"device": {"phoneNumber": "+4911111"}}), message);
    world.takes("a number with MAC",       app, json!({"device": {"phoneNumber": "+4912345678923"}}));
}

#[test]
#[rustfmt::skip]
fn row_03_no_device_is_named() {
    let world = World::new();
    let message = "Expected property is missing: device.ipv4Address or device.ipv6Address";
    let (app, user) = (&world.app, &world.user);
    let ipv6 = json!({"ipv6Address": "2001:db8:2::/64"});
    let both = json!({"ipv4Address": "198.51.100.0/28", "ipv6Address": "2001:db8:2::/64"});
    for server in [&ipv6, &both] {
        for device in [json!({"phoneNumber": "+4911111"}), json!({"networkAccessIdentifier": "h@operator.example"}),
                       json!({"ipv4Address": "203.0.113.7"}), json!({"ipv4Address": {"publicAddress": "203.0.113.7"}})] {
            world.invalid("the home alone is told", app, json!({"device": device, "applicationServer": server}), message);
        }
    }
    for token in [app, user] {
        world.invalid("device absent",           token, json!({"device": null}), message);
        world.invalid("device empty",            token, json!({"device": {}}), message);
        world.invalid("device with unknown keys", token, json!({"device": {"imei": "1"}}), message);
    }
}

#[test]
#[rustfmt::skip]
fn row_04_the_profile_requires_ports() {
    let world = World::new();
    let message = "Expected property is missing: devicePorts";
    world.invalid("none given",       &world.app, json!({"qosProfile": "PORTS"}), message);
    world.invalid("the server's only", &world.app, json!({"qosProfile": "PORTS", "applicationServerPorts": {"ports": [1]}}), message);
    world.takes("given",              &world.app, json!({"qosProfile": "PORTS", "devicePorts": {"ports": [1]}}));
}

#[test]
#[rustfmt::skip]
fn row_05_no_profile() {
    let world = World::new();
    world.invalid("absent", &world.app, json!({"qosProfile": null}), "Expected property is missing: qosProfile");
}

#[test]
#[rustfmt::skip]
fn row_06_ranges_that_are_not_allowed() {
    let world = World::new();
    let app = &world.app;
    for key in ["devicePorts", "applicationServerPorts"] {
        let message = &format!("Ranges not allowed: {key}");
        let scattered = |count: u16| (1..=count).map(|i| i * 2).collect::<Vec<_>>();
        let range = |from: u16, to: u16| json!({"ranges": [{"from": from, "to": to}]});
        world.invalid("the profile forbids them", app, json!({"qosProfile": "SINGLES", key: range(1, 2)}), message);
        world.invalid("even of one port",         app, json!({"qosProfile": "SINGLES", key: range(1, 1)}), message);
        world.invalid("from above to",            app, json!({key: range(9, 8)}), message);
        world.invalid("more than 16",             app, json!({key: {"ports": scattered(17)}}), message);
        world.invalid("10,000 that do not touch", app, json!({key: {"ports": scattered(10_000)}}), message);
        world.takes("16",                         app, json!({key: {"ports": scattered(16)}}));
        world.takes("10,000 that are one range",  app, json!({key: {"ports": (1..=10_000).collect::<Vec<u16>>()}}));
        world.takes("single ports",               app, json!({"qosProfile": "SINGLES", key: {"ports": [1, 2]}}));
    }
    world.invalid("more map elements than an agent takes", app, json!({
        "devicePorts": {"ports": [1, 3, 5, 7, 9, 11]}, "applicationServerPorts": {"ports": [1, 3, 5, 7, 9, 11]}}),
        "Ranges not allowed: devicePorts");
}

#[test]
fn row_07_no_valid_token() {
    let world = World::new();
    let expected = (401, "UNAUTHORIZED", "No authorization to invoke operation");
    let foreign = World::new().app;
    let mut changed = world.app.clone();
    let last = if changed.pop() == Some('A') { 'B' } else { 'A' };
    changed.insert(changed.len() - 5, last);
    let created = world.post(&world.app, &json!({}));
    let id = created.body["sessionId"].as_str().unwrap().to_owned();

    let refused = |when: &str, authorization: Option<&str>| {
        let headers: Vec<_> = authorization
            .iter()
            .map(|value| ("authorization", *value))
            .collect();
        for (method, path) in [
            ("POST", SESSIONS.to_owned()),
            ("GET", format!("{SESSIONS}/{id}")),
            ("DELETE", format!("{SESSIONS}/{id}")),
            ("GET", "/qod/v0/qos-profiles".to_owned()),
            ("GET", "/qod/v0/qos-profiles/QOS_E".to_owned()),
            ("GET", "/qod/v0/qosProfile".to_owned()),
            ("GET", "/qod/v0/qosProfile/QOS_E".to_owned()),
        ] {
            let answer = world.client.send(
                method,
                &path,
                &headers,
                session_with(&json!({})).to_string(),
            );
            assert_eq!(answer.error(), expected, "{when}: {method} {path}");
            assert!(
                answer.headers["www-authenticate"]
                    .to_str()
                    .unwrap()
                    .starts_with("Bearer"),
                "RFC 9110 §11.6.1"
            );
        }
    };
    refused("absent", None);
    refused("another scheme", Some("Basic YXBwOmFwcA=="));
    refused("empty", Some("Bearer "));
    refused("malformed", Some("Bearer x.y.z"));
    refused("changed", Some(&format!("Bearer {changed}")));
    refused("foreign", Some(&format!("Bearer {foreign}")));
    refused("the operator's", Some(&format!("Bearer {}", common::ADMIN)));
    let agent = world.client.agent_token("a");
    refused("an agent's", Some(&format!("Bearer {agent}")));
    assert_eq!(world.sessions(), 1);
    // What the token endpoint calls expires_in, and what clocks may differ by.
    world.running.clock.advance(3_630_000);
    refused("expired", Some(&format!("Bearer {}", world.app)));
}

#[test]
fn row_08_not_allowed() {
    let world = World::new();
    let expected = (403, "FORBIDDEN", "Operation not allowed");
    let created = world.post(&world.app, &json!({}));
    let path = format!("{SESSIONS}/{}", created.body["sessionId"].as_str().unwrap());
    let beside = json!({"devicePorts": {"ports": [1]}});
    // One scope missing each: that method is refused, whatever else is asked.
    let without = |scope: &str| {
        let rest: Vec<_> = SCOPES.into_iter().filter(|each| *each != scope).collect();
        world.client.consumer(&format!("without-{scope}"), &rest)
    };
    world.refuses(
        "no qod-sessions-write",
        &without("qod-sessions-write"),
        beside.clone(),
        expected,
    );
    let token = without("qod-sessions-read");
    assert_eq!(world.client.get(&path, &token).error(), expected);
    let token = without("qod-sessions-delete");
    assert_eq!(world.client.delete(&path, &token).error(), expected);
    assert_eq!(world.sessions(), 1);

    let mut home = home_h();
    home["consumers"] = json!(["somebody"]);
    world.client.admin("PUT", "/homes/h", &home);
    world.refuses(
        "not admitted",
        &world.app,
        json!({"devicePorts": {"ports": [2]}}),
        expected,
    );
    world.refuses(
        "not admitted, with the user's token",
        &world.user,
        json!({"devicePorts": {"ports": [2]}}),
        expected,
    );
}

#[test]
fn row_09_no_such_session() {
    let world = World::new();
    let expected = (404, "NOT_FOUND", "Session Id does not exist");
    let other = world.client.consumer("other", &SCOPES);
    let path = |answer: &Answer| {
        assert_eq!(answer.status, 201, "{}", answer.body);
        format!("{SESSIONS}/{}", answer.body["sessionId"].as_str().unwrap())
    };
    let alive = path(&world.post(&world.app, &json!({"devicePorts": {"ports": [2]}})));
    let deleted = path(&world.post(&world.app, &json!({"devicePorts": {"ports": [1]}})));
    assert!(alive != deleted);
    let expired = path(&world.post(
        &other,
        &json!({"device": {"phoneNumber": "+4912345678923"}, "duration": 1}),
    ));
    let refused = |when: &str, path: &str, token: &str| {
        for method in ["GET", "DELETE"] {
            let answer = world.client.json(method, path, token, &Value::Null);
            assert_eq!(answer.error(), expected, "{when}: {method} {path}");
        }
    };
    refused("another consumer's", &alive, &other);
    assert_eq!(world.client.get(&alive, &world.app).status, 200);
    world.client.delete(&deleted, &world.app);
    refused("deleted", &deleted, &world.app);
    world.running.clock.advance(1_000);
    refused("expired", &expired, &other);
    let unknown = "3fa85f64-5717-4562-b3fc-2c963f66afa6";
    refused("unknown", &format!("{SESSIONS}/{unknown}"), &world.app);
    for id in [
        "x",
        "%00",
        "%ff",
        "..%2f",
        "%27%20OR%201%3D1",
        &"a".repeat(3_000),
    ] {
        refused("malformed", &format!("{SESSIONS}/{id}"), &world.app);
    }
}

#[test]
fn row_10_overlap() {
    let expected = (
        409,
        "CONFLICT",
        "Another session is created for the same device",
    );
    let world = World::new();
    let other = world.client.consumer("other", &SCOPES);
    let held = json!({"devicePorts": {"ranges": [{"from": 10, "to": 20}]},
        "applicationServerPorts": {"ports": [443]}});
    let first = world.post(&world.app, &held);
    assert_eq!(first.status, 201, "{}", first.body);
    let with = |change: Value| {
        let mut order = held.clone();
        order
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        order
    };
    let private = |address: &str| json!({"device": {"ipv4Address": {"publicAddress": "203.0.113.7", "privateAddress": address}}});
    for (when, change) in [
        ("the same", json!({})),
        (
            "the same device, named with an IPv6 address too",
            json!({"device": {"ipv4Address": {"publicAddress": "203.0.113.7", "privateAddress": "192.168.1.23"},
                "ipv6Address": "2001:db8:85a3::1"}}),
        ),
        ("all ports of the device", json!({"devicePorts": null})),
        ("one port of it", json!({"devicePorts": {"ports": [20]}})),
        (
            "all ports of the server",
            json!({"applicationServerPorts": null}),
        ),
        (
            "a wider server",
            json!({"applicationServer": {"ipv4Address": "0.0.0.0/0"}}),
        ),
        (
            "one of the servers",
            json!({"applicationServer": {"ipv4Address": "198.51.100.15"}}),
        ),
        (
            "another profile",
            json!({"qosProfile": "SINGLES", "devicePorts": {"ports": [15]}}),
        ),
    ] {
        for token in [&world.app, &other] {
            world.refuses(when, token, with(change.clone()), expected);
        }
    }
    for (when, change) in [
        ("another device", private("192.168.1.24")),
        (
            "other ports of the device",
            json!({"devicePorts": {"ports": [9, 21]}}),
        ),
        (
            "other ports of the server",
            json!({"applicationServerPorts": {"ports": [80]}}),
        ),
        (
            "other servers",
            json!({"applicationServer": {"ipv4Address": "198.51.100.16/28"}}),
        ),
        (
            "servers of the other family",
            json!({"applicationServer": {"ipv6Address": "::/0"}}),
        ),
    ] {
        world.takes(when, &other, with(change));
    }

    // A session that the home's agent rejects still counts.
    let token = world.client.agent_token("a");
    let revision = world.client.poll("a", &token, None, 0).body["revision"].clone();
    let id = first.body["sessionId"].as_str().unwrap();
    let rejected = [(id, "REJECTED", "DEVICE_NOT_FOUND", "gone")];
    world.client.report("a", &token, 1, &revision, &rejected);
    world.refuses("a rejected session", &other, with(json!({})), expected);
}

#[test]
fn row_10_overlap_of_one_device_under_two_names() {
    let world = World::new();
    let expected = (
        409,
        "CONFLICT",
        "Another session is created for the same device",
    );
    let mac = json!({"device": {"phoneNumber": "+4912345678923"}});
    let ipv4 = json!({"device": {"ipv4Address": {"publicAddress": "203.0.113.7", "privateAddress": "192.168.1.23"}}});
    let ipv6 = json!({"device": {"ipv6Address": "2001:db8:85a3::23"}});
    let report = |sequence: u64, devices: Value| {
        let token = world.client.agent_token("a");
        let status = json!({"agentId": "a", "bootId": "boot", "sequence": sequence, "version": "1", "uptime": 1,
            "kernel": "6.6", "revision": null, "sessions": [], "devices": devices});
        let answer = world
            .client
            .json("PUT", "/agent/v1/agents/a/status", &token, &status);
        assert_eq!(answer.status, 204, "{}", answer.body);
    };
    let one = json!([{"mac": "02:00:00:00:00:17", "ipv4": ["192.168.1.23"], "ipv6": ["2001:db8:85a3::23"]}]);

    // Nobody has seen the device: the agent itself finds the conflict when it does.
    let first = world.post(&world.app, &mac);
    assert_eq!(first.status, 201);
    world.takes("nobody knows that it is one", &world.app, ipv4.clone());
    report(1, one.clone());
    world.refuses(
        "the number's and an IPv4 address",
        &world.app,
        ipv4.clone(),
        expected,
    );
    world.refuses(
        "the number's and an IPv6 address",
        &world.app,
        ipv6.clone(),
        expected,
    );
    let path = format!("{SESSIONS}/{}", first.body["sessionId"].as_str().unwrap());
    assert_eq!(world.client.delete(&path, &world.app).status, 204);

    let second = world.post(&world.app, &ipv4);
    assert_eq!(second.status, 201);
    world.refuses(
        "an address and the number's",
        &world.app,
        mac.clone(),
        expected,
    );
    world.refuses(
        "an IPv4 and an IPv6 address",
        &world.app,
        ipv6.clone(),
        expected,
    );
    // The address is another device's by now.
    report(
        2,
        json!([{"mac": "02:00:00:00:00:99", "ipv4": ["192.168.1.23"], "ipv6": []}]),
    );
    world.takes("another device", &world.app, mac.clone());
    report(3, one);
    world.refuses("the same again", &world.app, mac.clone(), expected);
    // Long ago that anybody said so.
    world.running.clock.advance(120_001);
    world.takes("the agent is silent", &world.app, mac);
}

#[test]
fn row_11_a_store_that_fails() {
    let expected = (500, "INTERNAL", "Session could not be created");
    let broken = |when: &str, statement: &'static str| {
        let world = World::new();
        world.running.sql(statement);
        let answer = world.post(&world.app, &json!({}));
        assert_eq!(answer.error(), expected, "{when}");
        world
    };
    let world = broken(
        "what was written about the home cannot be read",
        "UPDATE homes SET config = 'broken'",
    );
    assert_eq!(world.sessions(), 0);
    broken("the table is gone", "DROP TABLE sessions");
    let world = broken(
        "the row is refused",
        "CREATE TRIGGER refuse BEFORE INSERT ON sessions BEGIN SELECT RAISE(ABORT, 'refused'); END",
    );
    assert_eq!(world.sessions(), 0);
    world.running.sql("DROP TRIGGER refuse");
    world.takes("it works again", &world.app, json!({}));

    // Elsewhere it is the YAML's text.
    let world = World::new();
    let created = world.post(&world.app, &json!({}));
    let path = format!("{SESSIONS}/{}", created.body["sessionId"].as_str().unwrap());
    world.running.sql("UPDATE sessions SET request = 'broken'");
    for method in ["GET", "DELETE"] {
        let answer = world.client.json(method, &path, &world.app, &Value::Null);
        assert_eq!(
            answer.error(),
            (500, "INTERNAL", "Internal server error"),
            "{method}"
        );
    }
}

#[test]
#[rustfmt::skip]
fn row_12_not_implemented() {
    let world = World::new();
    let expected = (501, "NOT_IMPLEMENTED", "Service not implemented for the specified user device");
    let at = |public: &str| json!({"device": {"ipv4Address": {"publicAddress": public, "publicPort": 59765}}});
    world.refuses("a known public address and a port", &world.app, at("203.0.113.7"), expected);
    world.refuses("an unknown one",                    &world.app, at("192.0.2.1"), expected);
    world.refuses("the token tells the home",          &world.user, at("203.0.113.7"), expected);
    world.takes("another identifier names the device", &world.app, json!({"device": {"phoneNumber": "+4912345678923",
        "ipv4Address": {"publicAddress": "203.0.113.7", "publicPort": 59765}}}));
}

#[test]
fn row_13_the_store_is_busy() {
    let world = World::new();
    let created = world.post(&world.app, &json!({"devicePorts": {"ports": [1]}}));
    let path = format!("{SESSIONS}/{}", created.body["sessionId"].as_str().unwrap());
    let file = world.running.directory.path().join("q.sqlite");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Another process holds the file for longer than the backend waits for it.
    let held = runtime.block_on(async {
        let mut connection = sqlx::AnyConnection::connect(&format!("sqlite:{}", file.display()))
            .await
            .unwrap();
        sqlx::query("BEGIN IMMEDIATE")
            .execute(&mut connection)
            .await
            .unwrap();
        connection
    });
    let expected = (503, "SERVICE_UNAVAILABLE", "Service unavailable");
    let refused = world.post(&world.app, &json!({"devicePorts": {"ports": [2]}}));
    assert_eq!(refused.error(), expected);
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(
        world.client.get(&path, &world.app).status,
        200,
        "reading goes on"
    );
    assert_eq!(world.client.delete(&path, &world.app).error(), expected);
    runtime.block_on(async { held.close().await.unwrap() });
    assert_eq!(world.sessions(), 1);
    world.takes(
        "it is free again",
        &world.app,
        json!({"devicePorts": {"ports": [2]}}),
    );
}

/// A file system of its own.
struct Small(PathBuf);

impl Small {
    fn mount(path: PathBuf, size: &str) -> Self {
        fs::create_dir(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"])
            .arg(&path)
            .status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "CANNOT RUN HERE: mounting needs root"
        );
        Self(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn row_13_the_store_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Small::mount(folder.path().join("small"), "2m");
    let world = World::with_database(Some(&disk.0));
    let filler = disk.0.join("filler");
    let fill = || {
        let mut file = fs::File::options()
            .create(true)
            .append(true)
            .open(&filler)
            .unwrap();
        while std::io::Write::write_all(&mut file, &[0; 512]).is_ok() {}
    };
    // What is left of the log's last page takes some sessions still.
    let mut made = 0;
    let refused = loop {
        fill();
        let port = json!({"devicePorts": {"ports": [made + 1]}});
        let answer = world.post(&world.app, &port);
        if answer.status != 201 {
            break answer;
        }
        made += 1;
        assert!(made < 1_000, "a full disk takes no session");
    };
    let expected = (503, "SERVICE_UNAVAILABLE", "Service unavailable");
    assert_eq!(refused.error(), expected);
    fs::remove_file(&filler).unwrap();
    assert_eq!(
        world.sessions(),
        made,
        "nothing is left of what was refused"
    );
    let port = json!({"devicePorts": {"ports": [made + 1]}});
    world.takes("there is room again", &world.app, port);
}
