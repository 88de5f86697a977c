//! Which sessions hold where they cannot all hold: order, number, and all or nothing.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod lab;

use std::time::Duration;

use lab::home::{Device, PHONE_V4, PHONE_V6, server_v4, server_v6};
use lab::site::{EF, script_address};
use lab::{Agent, Exchange, Home, Observer, Script, agent};
use serde_json::{Value, json};

const AF41: u8 = 34;
const LIMIT: Duration = Duration::from_secs(5);

struct Site {
    home: Home,
    script: Script,
    _agent: Agent,
}

impl Site {
    fn start(more: Value) -> Self {
        let home = Home::without_modem();
        let script = Script::start(&home.internet, script_address());
        let mut config = agent::config(&script.url());
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        let agent = Agent::start(&home.router, &config);
        Self {
            home,
            script,
            _agent: agent,
        }
    }

    /// The state, and code where there is one, of each session after these are the desired state.
    fn apply(&self, sessions: &[Value]) -> Vec<String> {
        let revision = self.script.serve_sessions(sessions);
        states(&self.script.wait_revision(revision))
    }

    fn wait(&self, wanted: &[&str]) {
        let what = format!("{wanted:?}");
        self.script
            .wait_status(&what, LIMIT, |status| states(status) == wanted);
    }

    fn up(&self, server: std::net::IpAddr, port: u16) -> u8 {
        let phone = Observer::start(&self.home, Device::Phone);
        phone.udp(&Exchange::new(5010, server, port)).dscp().0
    }
}

fn states(status: &Value) -> Vec<String> {
    let sessions = status["sessions"].as_array().unwrap().iter();
    sessions
        .map(|session| {
            let word = |key: &str| session[key].as_str().unwrap_or_default();
            let code = if word("code").is_empty() {
                "state"
            } else {
                "code"
            };
            word(code).to_owned()
        })
        .collect()
}

fn session(id: &str, more: Value) -> Value {
    let mut session = json!({ "sessionId": id, "dscp": EF, "expiresIn": 600,
        "device": { "ipv4Address": PHONE_V4 },
        "applicationServer": { "ipv4Address": server_v4(5) } });
    for (key, value) in more.as_object().unwrap() {
        session[key] = value.clone();
    }
    session
}

fn ports(list: &[u16]) -> Value {
    json!({ "applicationServerPorts": { "ports": list } })
}

#[test]
fn sessions_beyond_the_number_wait_for_their_turn() {
    let site = Site::start(json!({ "maxSessions": 2 }));
    let list: Vec<_> = (1..=4)
        .map(|n| session(&format!("s{n}"), ports(&[n])))
        .collect();
    let too_many = "TOO_MANY_SESSIONS";
    assert_eq!(site.apply(&list), ["ACTIVE", "ACTIVE", too_many, too_many]);
    assert_eq!(site.up(server_v4(5).into(), 3), 0);
    assert_eq!(site.apply(&list[1..]), ["ACTIVE", "ACTIVE", too_many]);
    assert_eq!(site.up(server_v4(5).into(), 3), EF);
}

#[test]
fn a_loser_takes_over_when_the_winner_ends_by_itself() {
    let site = Site::start(json!({}));
    let winner = session("winner", json!({ "expiresIn": 1.5 }));
    let loser = session("loser", json!({ "dscp": AF41 }));
    assert_eq!(site.apply(&[winner, loser]), ["ACTIVE", "CONFLICT"]);
    assert_eq!(site.up(server_v4(5).into(), 33001), EF);
    site.wait(&["EXPIRED", "ACTIVE"]);
    assert_eq!(site.up(server_v4(5).into(), 33001), AF41);
}

#[test]
fn the_order_of_the_array_counts_and_not_who_was_first() {
    let site = Site::start(json!({}));
    let (a, b) = (
        session("a", json!({})),
        session("b", json!({ "dscp": AF41 })),
    );
    assert_eq!(site.apply(std::slice::from_ref(&b)), ["ACTIVE"]);
    assert_eq!(site.apply(&[a.clone(), b.clone()]), ["ACTIVE", "CONFLICT"]);
    assert_eq!(site.up(server_v4(5).into(), 33001), EF);
    assert_eq!(site.apply(&[b, a]), ["ACTIVE", "CONFLICT"]);
    assert_eq!(site.up(server_v4(5).into(), 33001), AF41);
}

#[test]
fn a_session_is_all_or_nothing() {
    let site = Site::start(json!({}));
    let both = json!({
        "device": { "ipv4Address": PHONE_V4, "ipv6Address": PHONE_V6 },
        "applicationServer": { "ipv4Address": server_v4(5), "ipv6Address": server_v6(5) } });
    let narrow = session("narrow", json!({ "direction": "upstream" }));
    // Of its four parts, one is taken.
    let wide = session("wide", both);
    assert_eq!(site.apply(&[narrow, wide.clone()]), ["ACTIVE", "CONFLICT"]);
    assert_eq!(site.up(server_v6(5).into(), 33001), 0);
    assert_eq!(site.apply(&[wide]), ["ACTIVE"]);
    assert_eq!(site.up(server_v6(5).into(), 33001), EF);
}

#[test]
fn overlap_is_of_every_part_of_a_flow() {
    let site = Site::start(json!({}));
    let first = session("first", ports(&[1000, 2000]));
    let same_port = session("same-port", ports(&[2000, 3000]));
    let other_port = session("other-port", ports(&[1001]));
    let other_server = session(
        "other-server",
        json!({ "applicationServer": { "ipv4Address": server_v4(6) } }),
    );
    let around = session(
        "around",
        json!({ "applicationServer": { "ipv4Address": "198.51.100.0/29" } }),
    );
    let whole = json!({ "applicationServer": null });
    let list = [
        first,
        same_port,
        other_port,
        other_server,
        around,
        session("setting", whole.clone()),
        session("setting-again", whole),
    ];
    let expected = [
        "ACTIVE", "CONFLICT", "ACTIVE", "ACTIVE", "CONFLICT", "ACTIVE", "CONFLICT",
    ];
    assert_eq!(site.apply(&list), expected);
}

#[test]
fn what_contradicts_the_contract_costs_itself_alone() {
    let site = Site::start(json!({}));
    let many: Vec<u16> = (0..17).map(|n| 2 * n + 1).collect();
    let touching: Vec<u16> = (1..=400).collect();
    let nine: Vec<u16> = (0..9).map(|n| 2 * n + 1).collect();
    let list = [
        session("good", ports(&[33001])),
        session("good", ports(&[33002])),
        session("no-time", json!({ "expiresIn": 0 })),
        session("over", json!({ "expiresIn": -5 })),
        session("too-long", json!({ "expiresIn": 30 * 86_400 + 1 })),
        session("ranges", ports(&many)),
        session("merged", ports(&touching)),
        session(
            "elements",
            json!({ "devicePorts": { "ports": nine }, "applicationServerPorts": { "ports": nine } }),
        ),
        session("empty", json!({ "devicePorts": {} })),
        session("none", ports(&[])),
        session("zero", ports(&[0])),
        session(
            "backwards",
            json!({ "devicePorts": { "ranges": [{ "from": 2, "to": 1 }] } }),
        ),
        session(
            "long",
            json!({ "expiresIn": 30 * 86_400, "applicationServerPorts": { "ports": [40_000] } }),
        ),
    ];
    let expected = [
        "ACTIVE", "INVALID", "EXPIRED", "EXPIRED", "INVALID", "INVALID", "ACTIVE", "INVALID",
        "INVALID", "INVALID", "INVALID", "INVALID", "ACTIVE",
    ];
    assert_eq!(site.apply(&list), expected);
}

#[test]
fn a_session_without_an_end_has_a_lease() {
    let site = Site::start(json!({}));
    let open = session("open", json!({ "expiresIn": null }));
    assert_eq!(site.apply(&[open]), ["ACTIVE"]);
    let map = site
        .home
        .router
        .output("nft", &["list", "map", "netdev", "qod", "hosts4_up"]);
    assert!(map.contains("timeout 1d expires 23h59m5"), "{map}");
    let status = site.script.statuses().pop().unwrap();
    assert!(status["sessions"][0]["expiresIn"].is_null(), "{status}");
}
