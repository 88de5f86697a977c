//! What others do to the agent's table and queues is noticed at once and repaired; what is theirs is kept.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod lab;

use std::time::{Duration, Instant};

use lab::site::{Site, assert_counters_grow, streams};
use lab::{Home, Stream, wait};

/// By when a repair is done.
const SOON: Duration = Duration::from_secs(2);

/// What somebody does with `nft`, and that the marks are back in time.
fn assert_repaired(home: &Home, streams: &[Stream<'_>], deed: &str) {
    let start = Instant::now();
    home.router.nft(deed);
    for stream in streams {
        stream.wait_marked();
    }
    let time = start.elapsed();
    assert!(time <= SOON, "{deed}: {time:?}");
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
        wait::expect("another report", SOON, || {
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
