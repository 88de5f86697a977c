//! A home with an agent that holds sessions, and the flow that proves it all the time.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::home::{PHONE_V4, PHONE_V6, server_v4, server_v6};
use super::stream::Arrived;
use super::{Agent, Home, Script, Stream, agent};

pub const EF: u8 = 46;
const LIMIT: Duration = Duration::from_secs(10);

/// The flow that the streams send, and others around it.
pub fn sessions() -> Vec<Value> {
    let flow = json!({ "sessionId": "flow", "dscp": EF, "expiresIn": 86_400,
        "device": { "ipv4Address": PHONE_V4, "ipv6Address": PHONE_V6 },
        "applicationServer": { "ipv4Address": server_v4(5), "ipv6Address": server_v6(5) },
        "applicationServerPorts": { "ports": [33001] } });
    let host = json!({ "sessionId": "host", "dscp": 34, "expiresIn": 86_400,
        "device": { "ipv4Address": "192.168.1.24" }, "applicationServer": { "ipv4Address": server_v4(6) } });
    let whole =
        json!({ "sessionId": "whole", "dscp": 8, "device": { "ipv6Address": "2001:db8:1::24" } });
    vec![flow, host, whole]
}

/// A home whose agent holds the sessions.
pub struct Site {
    pub home: Home,
    pub script: Script,
    pub agent: Agent,
}

impl Site {
    pub fn start() -> Self {
        let home = Home::without_modem();
        let script = Script::start(&home.internet, script_address());
        let agent = Agent::start(&home.router, &agent::config(&script.url()));
        apply(&script, &sessions());
        Self {
            home,
            script,
            agent,
        }
    }
}

/// Where the agent finds its backend.
pub fn script_address() -> SocketAddr {
    SocketAddr::new(server_v4(19).into(), 8080)
}

/// Makes these the desired state; all of them are in force then.
pub fn apply(script: &Script, sessions: &[Value]) {
    let revision = script.serve_sessions(sessions);
    let status = script.wait_revision(revision);
    for session in status["sessions"].as_array().unwrap() {
        assert_eq!(session["state"], "ACTIVE", "{session}");
    }
}

/// The run that has sent the newest report.
pub fn newest_run(script: &Script) -> Value {
    script.statuses().pop().unwrap()["bootId"].take()
}

/// Waits until a run other than `before` speaks of the sessions.
pub fn wait_another_run(script: &Script, before: &Value) {
    script.wait_status("another run's report", LIMIT, |status| {
        status["bootId"] != *before && !status["revision"].is_null()
    });
}

/// The phone's flow in both families, and what the server sends back in one (the other is behind NAT).
pub fn streams(home: &Home) -> [Stream<'_>; 3] {
    let phone = |port| SocketAddr::new(PHONE_V6.into(), port);
    let server = SocketAddr::new(server_v6(5).into(), 33001);
    let v4 = (
        SocketAddr::new(PHONE_V4.into(), 5010),
        SocketAddr::new(server_v4(5).into(), 33001),
    );
    let (phone_net, internet) = (&home.phone, &home.internet);
    [
        Stream::start(phone_net, v4.0, internet, "eth0", v4.1, EF),
        Stream::start(phone_net, phone(5011), internet, "eth0", server, EF),
        Stream::start(internet, server, phone_net, "eth0", phone(5012), EF),
    ]
}

/// No report says that less has been counted than one before it.
pub fn assert_counters_grow(script: &Script) {
    let mut before = (0, 0);
    for status in script.statuses() {
        for session in status["sessions"].as_array().unwrap() {
            if session["sessionId"] != "flow" || session["state"] != "ACTIVE" {
                continue;
            }
            let packets = |way: &str| session[way]["packets"].as_u64().unwrap();
            let now = (packets("upstream"), packets("downstream"));
            assert!(
                now.0 >= before.0 && now.1 >= before.1,
                "{now:?} after {before:?}"
            );
            before = now;
        }
    }
    assert!(before.0 > 0 && before.1 > 0, "nothing was counted");
}

/// Since `before`, not one packet was unmarked.
pub fn assert_no_gap<const N: usize>(streams: &[Stream<'_>; N], before: [Arrived; N]) {
    for (stream, before) in streams.iter().zip(before) {
        stream.assert_no_gap(before);
    }
}
