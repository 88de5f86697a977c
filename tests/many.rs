//! Ten thousand sessions at once, for an agent that may hold as many.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod lab;

use std::cell::Cell;
use std::time::{Duration, Instant};

use lab::home::{Device, PHONE_V4, PHONE_V6, server_v4, server_v6};
use lab::site::{EF, script_address};
use lab::{Agent, Exchange, Home, Observer, Script, agent, proc};
use serde_json::{Value, json};

const MANY: u16 = 10_000;
/// Nobody waits for so many; but they must not wait for ever.
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn ten_thousand_sessions_come_and_go() {
    let home = Home::without_modem();
    let script = Script::start(&home.internet, script_address());
    let mut config = agent::config(&script.url());
    config["maxSessions"] = json!(MANY);
    config["reportIntervalSeconds"] = json!(600);
    let agent = Agent::start(&home.router, &config);
    let pid = agent.process.pid();
    // All of one device: none is spared the comparison with another.
    let list: Vec<Value> = (1..=MANY)
        .map(|port| {
            // Without an end: the same list a second later is no other one.
            json!({ "sessionId": format!("session-{port}"), "dscp": EF,
                "device": { "ipv4Address": PHONE_V4, "ipv6Address": PHONE_V6 },
                "applicationServer": { "ipv4Address": server_v4(5), "ipv6Address": server_v6(5) },
                "applicationServerPorts": { "ports": [port] } })
        })
        .collect();
    let spent = Cell::new(proc::processor_time(pid));
    let wait = |what: &str, sessions: usize, revision: u64| {
        let (start, before) = (Instant::now(), spent.get());
        let status = script.wait_status(what, LIMIT, |status| status["revision"] == revision);
        let now = proc::processor_time(pid);
        spent.set(now);
        // Most of the time is this test's own, which reads documents of megabytes.
        println!(
            "{what}: {:.1} s, of which the agent and its kernel {:.1} s; {} MB resident",
            start.elapsed().as_secs_f64(),
            (now - before).as_secs_f64(),
            proc::resident(pid) / 1_000_000
        );
        let reported = status["sessions"].as_array().unwrap();
        assert_eq!(reported.len(), sessions);
        let inactive: Vec<_> = reported
            .iter()
            .filter(|s| s["state"] != "ACTIVE")
            .take(3)
            .collect();
        assert!(inactive.is_empty(), "{inactive:?}");
    };
    let dscp = |port| {
        let exchange = Exchange::new(5010, server_v6(5), port);
        Observer::start(&home, Device::Phone).udp(&exchange).dscp()
    };
    for round in 0..1 {
        wait("all in force", list.len(), script.serve_sessions(&list));
        assert_eq!(
            (dscp(1), dscp(MANY), dscp(MANY + 1)),
            ((EF, EF), (EF, EF), (0, 0)),
            "{round}"
        );
        // One more change is not stuck behind them.
        wait(
            "one fewer",
            list.len() - 1,
            script.serve_sessions(&list[1..]),
        );
        assert_eq!((dscp(1), dscp(2)), ((0, 0), (EF, EF)), "{round}");
        wait("all withdrawn", 0, script.serve_sessions(&[]));
        assert_eq!(dscp(MANY), (0, 0), "{round}");
    }
    wait("one again", 1, script.serve_sessions(&list[..1]));
    assert_eq!(dscp(1), (EF, EF));
}
