//! A session's highest rate: what exceeds it keeps the code point and loses the queue.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod lab;

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::home::{Device, PHONE_V4, PHONE_V6, server_v4, server_v6};
use lab::site::{EF, Site, apply};
use lab::{Exchange, Home, Observer, Stream};
use serde_json::{Value, json};

/// Bytes that the latency and the standard queue have sent.
fn queues(home: &Home) -> [u64; 2] {
    let text = home
        .router
        .output("tc", &["-s", "class", "show", "dev", "wan"]);
    ["71d:10", "71d:30"].map(|handle| {
        let start = format!("class htb {handle} ");
        let mut lines = text.lines().skip_while(|line| !line.starts_with(&start));
        let sent = lines.nth(1).unwrap().trim().strip_prefix("Sent ").unwrap();
        sent.split(' ').next().unwrap().parse().unwrap()
    })
}

fn session(ceiling: Option<u64>) -> Value {
    let mut session = json!({ "sessionId": "flow", "dscp": EF, "expiresIn": 600,
        "device": { "ipv4Address": PHONE_V4, "ipv6Address": PHONE_V6 },
        "applicationServer": { "ipv4Address": server_v4(5), "ipv6Address": server_v6(5) } });
    if let Some(kbps) = ceiling {
        session["maxUpstreamKbps"] = json!(kbps);
        session["maxDownstreamKbps"] = json!(kbps);
    }
    session
}

#[test]
fn what_exceeds_the_rate_keeps_the_mark_and_loses_the_queue() {
    /// 100 kB a second: far below what the stream sends.
    const KBPS: u64 = 800;
    let site = Site::start();
    let home = &site.home;
    let from = SocketAddr::new(PHONE_V4.into(), 5010);
    let to = SocketAddr::new(server_v4(5).into(), 33001);
    apply(&site.script, &[session(None)]);
    let stream = Stream::start(&home.phone, from, &home.internet, "eth0", to, EF);
    let marked = stream.wait_marked();
    let before = queues(home);
    sleep(Duration::from_millis(500));
    let after = queues(home);
    assert!(after[0] > before[0] + 20_000, "{before:?} {after:?}");
    assert!(after[1] - before[1] < 5_000, "{before:?} {after:?}");

    // In force already, and bounded from now on.
    apply(&site.script, &[session(Some(KBPS))]);
    let (before, start) = (queues(home), Instant::now());
    sleep(Duration::from_secs(4));
    let (after, time) = (queues(home), start.elapsed().as_secs_f64());
    // tc counts Ethernet headers, the rate does not: the stream's packets are 60 and 46 bytes.
    let [latency, standard] = [0, 1].map(|n| (after[n] - before[n]) as f64 * 46.0 / 60.0);
    // One second's worth and the largest packet may come at once.
    let most = (time + 1.0) * KBPS as f64 * 125.0 + 65_536.0;
    assert!(
        latency > time * KBPS as f64 * 125.0 * 0.5,
        "{latency} bytes in {time} s"
    );
    assert!(
        latency <= most * 1.02,
        "{latency} bytes in {time} s, at most {most}"
    );
    assert!(standard > latency, "{standard} bytes exceed the rate");
    stream.assert_no_gap(marked);

    // And without a bound again: nothing is left of it.
    apply(&site.script, &[session(None)]);
    stream.assert_no_gap(marked);
    let before = queues(home);
    sleep(Duration::from_millis(300));
    assert!(queues(home)[1] - before[1] < 5_000);
    let table = home
        .router
        .output("nft", &["list", "table", "netdev", "qod"]);
    assert!(!table.contains("chain limit_"), "{table}");
}

#[test]
fn a_flow_below_its_rate_is_as_any_other() {
    let site = Site::start();
    apply(&site.script, &[session(Some(64))]);
    let phone = Observer::start(&site.home, Device::Phone);
    let before = queues(&site.home);
    for _ in 0..5 {
        let exchange = Exchange::new(5010, server_v4(5), 33001);
        assert_eq!(phone.udp(&exchange).dscp(), (EF, EF));
        // Later fragments have no ports, and what their first had.
        let fragments = Exchange {
            length: 4000,
            ..exchange
        };
        assert_eq!(phone.udp(&fragments).dscp(), (EF, EF));
    }
    assert!(queues(&site.home)[0] > before[0] + 5 * 4000);
}

#[test]
fn later_fragments_beyond_the_rate_keep_the_mark_too() {
    let site = Site::start();
    let mut bounded = session(Some(8));
    bounded["devicePorts"] = json!({ "ports": [5010] });
    apply(&site.script, &[bounded]);
    let phone = Observer::start(&site.home, Device::Phone);
    for server in [server_v4(5).into(), std::net::IpAddr::from(server_v6(5))] {
        // More than one kilobyte a second and the allowance.
        for _ in 0..40 {
            let exchange = Exchange {
                length: 4000,
                ..Exchange::new(5010, server, 33001)
            };
            assert_eq!(phone.udp(&exchange).dscp(), (EF, EF));
        }
    }
    let [_, standard] = queues(&site.home);
    assert!(standard > 40_000, "nothing exceeded the rate");
}
