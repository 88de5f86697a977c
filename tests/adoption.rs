//! An agent that is started again takes over what is in force: not a packet loses its mark, and nothing that
//! was counted is forgotten.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod lab;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use lab::home::{PHONE_V4, PHONE_V6, server_v4, server_v6};
use lab::site::{
    EF, Site, apply, assert_counters_grow, assert_no_gap, newest_run, script_address, sessions,
    streams, wait_another_run,
};
use lab::{Agent, Home, Script, Stream, agent, wait};
use serde_json::{Value, json};

#[test]
fn restarts_and_kills_lose_no_mark_and_no_count() {
    let Site {
        home,
        script,
        mut agent,
    } = Site::start();
    let streams = streams(&home);
    let before = streams.each_ref().map(Stream::wait_marked);
    for round in 0..wait::repetitions(40) {
        let run = newest_run(&script);
        if round % 2 == 0 {
            agent.process.terminate(Duration::from_secs(1));
        }
        agent.restart(&home.router);
        wait_another_run(&script, &run);
    }
    assert_no_gap(&streams, before);
    assert_counters_grow(&script);
}

#[test]
fn a_table_of_the_first_layout_gives_way_without_a_gap() {
    let home = Home::without_modem();
    home.router.nft(include_str!("layouts/layout-1.nft"));
    let streams = streams(&home);
    let before = streams.each_ref().map(Stream::wait_marked);
    let script = Script::start(&home.internet, script_address());
    let _agent = Agent::start(&home.router, &agent::config(&script.url()));
    apply(&script, &sessions());
    // It has made its own out of it before the backend had spoken, and again after.
    for stream in &streams {
        stream.wait_marked();
    }
    assert_no_gap(&streams, before);
    let tables = home.router.output("nft", &["list", "tables", "netdev"]);
    assert_eq!(tables.trim(), "table netdev qod");
    let table = home
        .router
        .output("nft", &["list", "table", "netdev", "qod"]);
    assert!(table.contains("qod-agent layout 2,"), "{table}");
    // The nine packets that the table had counted are among them.
    let status = script.statuses().pop().unwrap();
    let counted = status["sessions"][0]["upstream"]["packets"]
        .as_u64()
        .unwrap();
    assert!(counted > 9, "{status}");
    assert_counters_grow(&script);
}

#[test]
fn other_bits_of_the_mark_are_taken_without_a_gap() {
    let Site {
        home,
        script,
        mut agent,
    } = Site::start();
    let streams = streams(&home);
    let before = streams.each_ref().map(Stream::wait_marked);
    for mask in ["0x0000007f", "0x00007f00"] {
        let run = newest_run(&script);
        agent.process.terminate(Duration::from_secs(1));
        let mut config = agent::config(&script.url());
        config["fwmask"] = json!(mask);
        agent = Agent::start(&home.router, &config);
        wait_another_run(&script, &run);
        let table = home
            .router
            .output("nft", &["list", "table", "netdev", "qod"]);
        assert!(table.contains(mask), "{table}");
    }
    assert_no_gap(&streams, before);
    assert_counters_grow(&script);
}

#[test]
fn what_a_cut_off_change_left_behind_is_removed() {
    let Site {
        home,
        script,
        mut agent,
    } = Site::start();
    agent.process.kill();
    home.router.nft("table netdev qod-next { chain up_lan1 { type filter hook ingress device lan1 priority -150; }; }");
    let run = newest_run(&script);
    agent.restart(&home.router);
    wait_another_run(&script, &run);
    let tables = home.router.output("nft", &["list", "tables", "netdev"]);
    assert_eq!(tables.trim(), "table netdev qod");
}

#[test]
fn changes_of_a_session_in_force_leave_no_gap() {
    let Site {
        home,
        script,
        agent: _agent,
    } = Site::start();
    let streams = streams(&home);
    let before = streams.each_ref().map(Stream::wait_marked);
    let mut changed = sessions();
    for round in 0..10 {
        // Its end, what it matches, and both at once.
        changed[0]["expiresIn"] = json!(3600 + 600 * (round % 3));
        let last = 33001 + round % 4;
        let range = json!({ "ranges": [{ "from": 33000, "to": last }] });
        changed[0]["applicationServerPorts"] = range;
        apply(&script, &changed);
    }
    assert_no_gap(&streams, before);
    assert_counters_grow(&script);
}

#[test]
fn one_change_among_many_touches_nothing_else() {
    const MANY: usize = 256;
    let Site {
        home,
        script,
        agent: _agent,
    } = Site::start();
    let session = |number: usize, end: u64| {
        json!({ "sessionId": format!("s{number}"), "dscp": EF, "expiresIn": end,
            "device": { "ipv4Address": PHONE_V4, "ipv6Address": PHONE_V6 },
            "applicationServer": { "ipv4Address": server_v4(5), "ipv6Address": server_v6(5) },
            "applicationServerPorts": { "ports": [20_000 + number] } })
    };
    // Ends stay where they are, however long the test takes: what the backend tells is the time left.
    let start = Instant::now();
    let left = |list: &[Value]| -> Vec<Value> {
        let passed = start.elapsed().as_secs_f64();
        let mut list = list.to_vec();
        for session in &mut list {
            session["expiresIn"] = json!(session["expiresIn"].as_f64().unwrap() - passed);
        }
        list
    };
    let mut list: Vec<_> = (0..MANY).map(|number| session(number, 3600)).collect();
    apply(&script, &left(&list));
    let before = elements(&home);
    assert_eq!(before.len(), 4 * MANY);
    // An element that is written again gets what is left as its time.
    std::thread::sleep(Duration::from_millis(50));
    list[7] = session(7, 7200);
    apply(&script, &left(&list));
    list[9]["dscp"] = json!(34);
    apply(&script, &left(&list));
    list.remove(11);
    apply(&script, &left(&list));
    let after = elements(&home);
    let touched: BTreeSet<_> = before
        .iter()
        .filter(|(key, text)| after.get(*key) != Some(text))
        .map(|(_, text)| text.split('"').nth(1).unwrap())
        .collect();
    assert_eq!(touched, ["s11", "s7", "s9"].into());
}

/// Every element of the maps with ports, as nft lists it but for the time that is left.
fn elements(home: &Home) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for map in ["flows4_up", "flows4_down", "flows6_up", "flows6_down"] {
        let list = home
            .router
            .output("nft", &["list", "map", "netdev", "qod", map]);
        for line in list.lines().filter(|line| line.contains(" expires ")) {
            let line = line.trim().trim_start_matches("elements = { ");
            let (key, rest) = line.split_once(" counter ").unwrap();
            let (before, after) = rest.split_once(" expires ").unwrap();
            let (_left, after) = after.split_once(' ').unwrap();
            let after = after.trim_end_matches([',', '}', ' ']);
            all.insert(format!("{map} {key}"), format!("{before} {after}"));
        }
    }
    all
}
