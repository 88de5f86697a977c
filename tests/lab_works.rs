//! The laboratory itself: what the other tests rely on.

mod lab;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use lab::delay::{Echo, Probe};
use lab::flood::{self, Flood};
use lab::home::{Device, LAPTOP_V4, PHONE_V4, PHONE_V6, WAN_V4, server_v4, server_v6};
use lab::http::Client;
use lab::{Exchange, Home, Observer, Script, bulk, netns};
use serde_json::{Value, json};

#[test]
fn both_families_are_routed_and_ipv4_is_translated() {
    let home = Home::new();
    let observer = Observer::start(&home, Device::Phone);
    for server in [IpAddr::from(server_v4(1)), server_v6(1).into()] {
        let exchange = Exchange::new(5010, server, 33001);
        for seen in [observer.udp(&exchange), observer.tcp(&exchange)] {
            let source = seen.up[0].source;
            if server.is_ipv4() {
                assert_eq!(source, WAN_V4);
            } else {
                assert_eq!(source, PHONE_V6);
            }
            assert_eq!(seen.down[0].ports, Some((33001, 5010)));
            assert_eq!(seen.dscp(), (0, 0));
        }
        let seen = observer.ping(&exchange);
        assert_eq!(seen.dscp(), (0, 0));
    }
}

#[test]
fn a_capture_sees_the_traffic_class_that_a_sender_sets() {
    let home = Home::without_modem();
    for device in [Device::Phone, Device::Laptop] {
        let observer = Observer::start(&home, device);
        for server in [IpAddr::from(server_v4(20)), server_v6(0x20).into()] {
            let exchange = Exchange {
                tos_up: 46 << 2 | 1,
                tos_down: 10 << 2 | 2,
                ..Exchange::new(5010, server, 33001)
            };
            let seen = observer.udp(&exchange);
            assert_eq!((seen.dscp(), seen.ecn()), ((46, 10), (1, 2)));
            assert_eq!(observer.tcp(&exchange).dscp(), (46, 10));
        }
    }
}

#[test]
fn large_datagrams_arrive_in_fragments() {
    let home = Home::without_modem();
    let observer = Observer::start(&home, Device::Phone);
    for server in [IpAddr::from(server_v4(1)), server_v6(1).into()] {
        let exchange = Exchange {
            tos_up: 46 << 2,
            length: 4000,
            ..Exchange::new(5010, server, 33001)
        };
        let seen = observer.udp(&exchange);
        assert_eq!((seen.up.len(), seen.down.len()), (3, 3), "{seen:?}");
        assert_eq!(seen.dscp(), (46, 0));
        assert_eq!(seen.up.iter().filter(|p| p.ports.is_some()).count(), 1);
    }
}

#[test]
fn namespaces_are_gone_afterwards_also_after_a_panic() {
    let home = Home::new();
    let group = home.group.clone();
    let names: BTreeSet<_> = netns::members(&group).into_iter().collect();
    assert_eq!(names.len(), 5, "{names:?}");
    let outcome = catch_unwind(AssertUnwindSafe(move || {
        let _home = home;
        panic!("on purpose");
    }));
    assert!(outcome.is_err());
    assert_eq!(netns::members(&group), Vec::<String>::new());
}

#[test]
fn a_home_is_made_in_less_than_a_second() {
    let start = Instant::now();
    let _home = Home::new();
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_flood_is_counted_where_it_arrives() {
    let home = Home::without_modem();
    home.without_segmentation_offload();
    flood::drop_at(&home.internet, "eth0", 9);
    let flood = Flood {
        from: SocketAddr::new(PHONE_V4.into(), 5010),
        to: SocketAddr::new(server_v4(1).into(), 9),
        cpu: 0,
    };
    let time = Duration::from_millis(200);
    let (sent, arrived) = flood.rate(&home.phone, &home.internet, "eth0", time);
    assert!(
        arrived > 1000.0 && arrived < sent.rate * 1.5,
        "{sent:?} {arrived}"
    );
}

#[test]
fn a_script_holds_the_poll_and_keeps_the_reports() {
    let home = Home::without_modem();
    let script = Script::start(&home.internet, SocketAddr::new(server_v4(1).into(), 0));
    let client = Client::new(&script.url(), None);
    let get = |tag: &str, wait: &str| {
        let headers = [("if-none-match", tag), ("prefer", wait)];
        let path = "/agent/v1/agents/home-0001/instructions";
        client.call(&home.router, "GET", path, &headers, &Value::Null)
    };
    assert_eq!(get("\"0\"", "wait=5").expect(200)["revision"], 1);
    assert_eq!(get("\"1\"", "wait=0").status, 304);
    std::thread::scope(|scope| {
        let poll = scope.spawn(|| get("\"1\"", "wait=5"));
        lab::wait::expect("the poll is held", Duration::from_secs(2), || {
            (script.calls().len() == 3).then_some(())
        });
        assert_eq!(script.serve_sessions(&[json!({"sessionId": "a"})]), 2);
        let answer = poll.join().unwrap();
        assert_eq!(answer.headers["etag"], "\"2\"");
        assert_eq!(answer.expect(200)["sessions"][0]["sessionId"], "a");
    });
    let status = json!({ "revision": 2 });
    let path = "/agent/v1/agents/home-0001/status";
    let answer = client.call(&home.router, "PUT", path, &[], &status);
    assert_eq!(answer.status, 204);
    assert_eq!(script.wait_revision(2), status);
}

#[test]
fn eight_flows_fill_the_modem() {
    let home = Home::new();
    let echo = SocketAddr::new(server_v4(1).into(), 33001);
    let sink = SocketAddr::new(server_v4(2).into(), 5001);
    let _echo = Echo::start(&home.internet, echo);
    let probe = Probe::new(SocketAddr::new(PHONE_V4.into(), 5010), echo);
    let idle = probe.run(&home.phone);
    assert!(idle.p50 < Duration::from_millis(5), "idle: {idle:?}");
    assert_eq!(idle.lost, 0, "{idle:?}");

    let sink = bulk::Sink::start(&home.internet, sink);
    let _bulk = bulk::Bulk::start(
        &home.laptop,
        LAPTOP_V4.into(),
        SocketAddr::new(server_v4(2).into(), 5001),
        8,
    );
    let rate = sink.rate(Duration::from_secs(2));
    assert!((17e6..22e6).contains(&rate), "{rate} bit/s");
    let full = probe.run(&home.phone);
    println!("idle {}\nfull {}", idle.json(), full.json());
    assert!(full.p50 > Duration::from_millis(100), "full: {full:?}");
}
