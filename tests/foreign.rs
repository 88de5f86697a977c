//! What others do to the agent's table and queues is noticed at once and repaired; what is theirs is kept.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod lab;

use std::time::{Duration, Instant};

use lab::site::{Site, assert_counters_grow, assert_no_gap, sessions, streams};
use lab::{Home, Stream, wait};
use serde_json::{Value, json};

/// By when a repair is done.
const SOON: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(10);

/// What somebody does with `nft`, and that the marks are back in time.
fn assert_repaired(home: &Home, streams: &[Stream<'_>], deed: &str) {
    let start = Instant::now();
    home.router.nft(deed);
    for stream in streams {
        stream.wait_marked();
    }
    let time = start.elapsed();
    assert!(time <= wait::patient(SOON), "{deed}: {time:?}");
}

#[test]
fn a_table_that_is_flushed_deleted_or_damaged_is_repaired_and_counts_on() {
    let site = Site::start();
    let (home, script) = (&site.home, &site.script);
    let streams = streams(home);
    for deed in [
        "flush ruleset",
        "delete table netdev qod",
        "flush table netdev qod",
        "flush chain netdev qod lookup6_up",
        "flush chain netdev qod up_lan1; delete chain netdev qod up_lan1",
        "flush chain netdev qod down_lan1",
        "flush chain netdev qod dscp46",
        "flush set netdev qod devices6",
        "flush map netdev qod flows4_up",
        "flush set netdev qod port_protocols",
        "insert rule netdev qod lookup6_up return",
        "delete table netdev qod; add table netdev qod { comment \"mine now\"; }",
    ] {
        // The counters of the moment before are among those that a report has told.
        let before = script.statuses().len();
        wait::expect("another report", LIMIT, || {
            (script.statuses().len() > before + 1).then_some(())
        });
        assert_repaired(home, &streams, deed);
    }
    assert_counters_grow(script);
}

#[test]
fn a_foreign_table_is_left_alone() {
    let site = Site::start();
    let (home, script) = (&site.home, &site.script);
    let theirs = "table netdev other { chain c { type filter hook ingress device lan1 priority 0; counter; }; }";
    home.router.nft(theirs);
    let before = home
        .router
        .output("nft", &["list", "table", "netdev", "other"]);
    home.router.nft("delete table netdev qod");
    script.wait_status("the repair", SOON, |status| {
        status["sessions"][0]["state"] == "ACTIVE"
    });
    for stream in &streams(home) {
        stream.wait_marked();
    }
    let after = home
        .router
        .output("nft", &["list", "table", "netdev", "other"]);
    let without_counts = |text: &str| {
        let lines = text
            .lines()
            .filter(|line| !line.contains("counter packets"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(without_counts(&before), without_counts(&after));
    drop(site.agent);
}

fn queues(home: &Home) -> String {
    let list = |what| home.router.output("tc", &[what, "show", "dev", "wan"]);
    list("qdisc") + &list("class")
}

#[test]
fn queues_that_are_deleted_or_changed_are_repaired() {
    let site = Site::start();
    let home = &site.home;
    // Without what each packet moves.
    let whole = wait::expect("the queues", LIMIT, || {
        let queues = queues(home);
        (queues.matches("qdisc tbf").count() == 4).then_some(queues)
    });
    for deed in [
        "qdisc del dev wan root\n",
        "qdisc replace dev wan parent 71d:10 handle 99: pfifo\n",
        "class replace dev wan parent 71d:1 classid 71d:20 htb rate 1mbit ceil 2mbit\n",
        "qdisc del dev wan root\nqdisc add dev wan root handle 71d: htb default 20\n",
    ] {
        home.router.tc(deed);
        let start = Instant::now();
        wait::expect(deed, SOON, || (queues(home) == whole).then_some(()));
        assert!(start.elapsed() <= wait::patient(SOON));
    }
}

#[test]
fn a_foreign_root_qdisc_is_kept_and_reported_until_it_goes() {
    let site = Site::start();
    let (home, script) = (&site.home, &site.script);
    let streams = streams(home);
    let has_warning = |status: &Value| {
        let warnings = status["warnings"].as_array().unwrap();
        warnings
            .iter()
            .any(|warning| warning["code"] == "FOREIGN_QDISC")
    };
    let before = streams.each_ref().map(Stream::wait_marked);
    home.router
        .tc("qdisc replace dev wan root handle 5: pfifo limit 500\n");
    let status = script.wait_status("FOREIGN_QDISC", SOON, has_warning);
    let text = status["warnings"].to_string();
    assert!(text.contains("pfifo: it is kept"), "{text}");
    assert!(queues(home).contains("qdisc pfifo 5: root"));
    home.router.tc("qdisc del dev wan root\n");
    script.wait_status("no FOREIGN_QDISC", SOON, |status| !has_warning(status));
    assert!(queues(home).contains("qdisc htb 71d: root"));
    assert_no_gap(&streams, before);
}

#[test]
fn a_downstream_rate_that_nothing_keeps_to_is_said() {
    let site = Site::start();
    let link = json!({ "upstreamKbps": 20_000, "downstreamKbps": 100_000 });
    let instructions = json!({ "link": link, "sessions": sessions() });
    let revision = site.script.serve(&instructions);
    let status = site.script.wait_revision(revision);
    let codes = status["warnings"].to_string();
    assert!(codes.contains("DOWNSTREAM_NOT_SHAPED"), "{status}");
}
