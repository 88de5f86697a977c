//! Links of a real kernel: bridges, ports and addresses made by `ip`.
//!
//! Needs root and `ip`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

mod namespace;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use namespace::{Machine, alone, ip, run, tc};
use qod_agent::link::{Changed, Links, Neighbour, Snapshot, Standing, Watch};
use qod_agent::mac::Mac;
use qod_agent::netlink::Rtnetlink;
use qod_agent::queue::{Queues, Shaper};
use qod_wire::Medium;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(2);
const A_WHILE: Duration = Duration::from_millis(300);

fn links(lan: &[&str], wan: Option<&str>) -> Links {
    let rtnetlink = Rtnetlink::open().unwrap();
    let lan = lan.iter().copied().map(str::to_owned).collect();
    Links::new(rtnetlink, lan, wan.map(str::to_owned))
}

fn watch() -> Watch {
    links(&[], None).watch().unwrap()
}

/// A bridge with two ports, a device on its own, and the device towards the internet.
fn router() {
    for command in [
        "link add br-lan type bridge",
        "link add lan1 type veth peer name pc1",
        "link add lan2 type veth peer name pc2",
        "link add guest type veth peer name pc3",
        "link add wan type veth peer name modem",
        "link set lan1 master br-lan",
        "link set lan2 master br-lan",
        "link set br-lan up",
        "link set wan up",
        "link set modem up",
    ] {
        ip(command);
    }
}

fn names(snapshot: &Snapshot) -> Vec<&str> {
    snapshot
        .ports
        .iter()
        .map(|port| port.name.as_str())
        .collect()
}

#[test]
fn a_bridge_is_its_members_and_another_device_itself() {
    alone(|| async {
        router();
        let links = links(&["br-lan", "guest", "lan1", "br-iot"], Some("wan"));
        let snapshot = links.snapshot().await.unwrap();
        assert_eq!(names(&snapshot), ["lan1", "lan2", "guest"]);
        let bridges: Vec<_> = snapshot
            .ports
            .iter()
            .map(|port| port.bridge.as_deref())
            .collect();
        assert_eq!(bridges, [Some("br-lan"), Some("br-lan"), None]);
        assert!(
            snapshot
                .ports
                .iter()
                .all(|port| port.medium == Medium::Wired)
        );
        assert_eq!(snapshot.missing, ["br-iot"]);

        ip("link set lan1 nomaster");
        ip("link del lan2");
        let snapshot = links.snapshot().await.unwrap();
        assert_eq!(names(&snapshot), ["guest", "lan1"]);
        assert_eq!(snapshot.ports[1].bridge, None);
    });
}

#[test]
fn the_wan_device_has_its_global_addresses() {
    alone(|| async {
        router();
        for address in [
            "203.0.113.7/24 dev wan",
            "10.0.0.7 peer 10.0.0.1/32 dev wan",
            "2001:db8::7/64 dev wan nodad",
            "fd00::7/64 dev wan nodad",
            "169.254.1.1/16 dev wan scope link",
            "2001:db8:1:10::1/60 dev br-lan nodad",
            "fd00:1::1/64 dev br-lan nodad",
            "192.168.1.1/24 dev br-lan",
        ] {
            ip(&format!("address add {address}"));
        }
        let links = links(&["br-lan"], Some("wan"));
        let snapshot = links.snapshot().await.unwrap();
        let wan = snapshot.wan.unwrap();
        assert_eq!((wan.name.as_str(), wan.up, wan.mtu), ("wan", true, 1500));
        let expected: Vec<IpAddr> = ["203.0.113.7", "10.0.0.7", "2001:db8::7"]
            .into_iter()
            .map(|address| address.parse().unwrap())
            .collect();
        assert_eq!(wan.addresses, expected);
        assert_eq!(
            snapshot.prefixes,
            [("2001:db8:1:10::".parse().unwrap(), 60)]
        );

        ip("link set wan down");
        let snapshot = links.snapshot().await.unwrap();
        assert!(!snapshot.wan.unwrap().up);
        ip("link del wan");
        let snapshot = links.snapshot().await.unwrap();
        assert_eq!(
            (snapshot.wan, snapshot.missing),
            (None, vec!["wan".to_owned()])
        );
    });
}

#[test]
fn an_access_point_has_no_wan() {
    alone(|| async {
        router();
        let snapshot = links(&["br-lan"], None).snapshot().await.unwrap();
        assert_eq!((snapshot.wan, snapshot.missing), (None, Vec::new()));
    });
}

/// Waits until nothing more comes, and says how often something came. What a device does by itself when
/// it was made or changed (carrier, duplicate address detection) may take a while.
async fn quiet(watch: &mut Watch) -> usize {
    let mut changes = 0;
    while timeout(A_WHILE, watch.changed()).await.is_ok() {
        changes += 1;
    }
    changes
}

#[test]
fn what_changes_wakes_the_watch_once() {
    alone(|| async {
        router();
        tokio::time::sleep(A_WHILE).await;
        let mut watch = watch();
        quiet(&mut watch).await;
        for command in [
            "link add late type veth peer name pc4",
            "link set late master br-lan",
            "link set late nomaster",
            "link set late mtu 1400",
            "address add 192.0.2.1/24 dev wan",
            "address del 192.0.2.1/24 dev wan",
            "address add 2001:db8::1/64 dev wan",
            "link del late",
        ] {
            ip(command);
            timeout(SOON, watch.changed())
                .await
                .expect(command)
                .unwrap();
            // Duplicate address detection ends a while after its address came.
            while timeout(A_WHILE, watch.changed()).await.is_ok() {}
        }
        for number in 0..20 {
            ip(&format!("address add 192.0.2.{number}/24 dev wan"));
        }
        timeout(SOON, watch.changed()).await.unwrap().unwrap();
        assert!(
            quiet(&mut watch).await < 5,
            "hundreds of events are one change"
        );
    });
}

#[test]
fn lost_events_are_a_change_too() {
    alone(|| async {
        router();
        tokio::time::sleep(A_WHILE).await;
        let mut watch = watch();
        // About 1 KB each, for a buffer of 208 KB.
        for mtu in 1000..1400 {
            ip(&format!("link set wan mtu {mtu}"));
        }
        timeout(SOON, watch.changed()).await.unwrap().unwrap();
        assert!(
            quiet(&mut watch).await < 5,
            "hundreds of events are one change"
        );
        ip("link set wan mtu 1500");
        timeout(SOON, watch.changed()).await.unwrap().unwrap();
    });
}

/// Whether a change of this kind comes in time. Links may settle meanwhile.
async fn comes(watch: &mut Watch, limit: Duration, kind: impl Fn(Changed) -> bool) -> bool {
    let wait = async { while !kind(watch.changed().await.unwrap()) {} };
    timeout(limit, wait).await.is_ok()
}

fn queues(changed: Changed) -> bool {
    changed.queues
}

fn neighbours(changed: Changed) -> bool {
    changed.neighbours
}

#[test]
fn queues_wake_the_watch_unless_the_agent_changed_them() {
    alone(|| async {
        router();
        let rtnetlink = Rtnetlink::open().unwrap();
        let links = Links::new(rtnetlink.clone(), Vec::new(), None);
        let mut watch = links.watch().unwrap();
        tc("qdisc add dev wan root handle 71d: htb default 30");
        assert!(comes(&mut watch, SOON, queues).await);
        tc("qdisc del dev wan root");
        assert!(comes(&mut watch, SOON, queues).await);
        while comes(&mut watch, A_WHILE, queues).await {}

        let mut own = Queues::new(rtnetlink);
        let shaper = Shaper {
            device: "wan".to_owned(),
            upstream_kbps: Some(10_000),
        };
        own.apply(&shaper).await.unwrap();
        assert!(tc("qdisc show dev wan").contains("htb 71d:"));
        own.remove("wan").await.unwrap();
        assert!(!comes(&mut watch, A_WHILE, queues).await);
    });
}

/// The router with a device behind a port of its bridge and another behind the port on its own.
fn home() -> Machine {
    router();
    let devices = Machine::new();
    for (name, mac) in [("pc1", 1), ("pc3", 3)] {
        ip(&format!("link set {name} netns {}", devices.netns()));
        devices.run(&format!(
            "ip link set {name} address 02:00:00:00:00:0{mac} up"
        ));
    }
    for device in ["lan1", "guest"] {
        ip(&format!("link set {device} up"));
    }
    ip("address add 192.168.1.1/24 dev br-lan");
    ip("address add 2001:db8:1::1/64 dev br-lan nodad");
    ip("address add 192.168.2.1/24 dev guest");
    for address in [
        "192.168.1.11/24 dev pc1",
        "2001:db8:1::11/64 dev pc1 nodad",
        "192.168.2.13/24 dev pc3",
    ] {
        devices.run(&format!("ip address add {address}"));
    }
    devices
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mac(last: u8) -> Mac {
    Mac::new(&[2, 0, 0, 0, 0, last]).unwrap()
}

/// Waits until a neighbour stands as wanted.
async fn standing(links: &Links, address: IpAddr, wanted: impl Fn(Standing) -> bool) -> Neighbour {
    let snapshot = links.snapshot().await.unwrap();
    let end = Instant::now() + Duration::from_secs(6);
    loop {
        let all = links.neighbours(&snapshot).await.unwrap();
        let found = all.entries.iter().find(|entry| entry.address == address);
        if let Some(found) = found.filter(|entry| wanted(entry.standing)) {
            return *found;
        }
        assert!(Instant::now() < end, "{address}: {all:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn who_is_asked_for_is_in_the_table_with_the_port() {
    alone(|| async {
        let _devices = home();
        let links = links(&["br-lan", "guest"], None);
        let snapshot = links.snapshot().await.unwrap();
        let index = |name: &str| {
            let ports = snapshot
                .ports
                .iter()
                .map(|port| (port.name.as_str(), port.index));
            let lans = snapshot
                .lans
                .iter()
                .map(|lan| (lan.name.as_str(), lan.index));
            ports
                .chain(lans)
                .find(|(found, _)| *found == name)
                .unwrap()
                .1
        };
        assert!(snapshot.own.contains(&address("192.168.1.1")));
        for (lan, text, last) in [
            ("br-lan", "192.168.1.11", 1),
            ("br-lan", "2001:db8:1::11", 1),
            ("guest", "192.168.2.13", 3),
        ] {
            links.ask(index(lan), address(text)).await.unwrap();
            let live = Standing::Live(mac(last));
            let found = standing(&links, address(text), |standing| standing == live).await;
            assert_eq!(found.lan, index(lan));
        }
        let all = links.neighbours(&snapshot).await.unwrap();
        let stations: Vec<_> = all.stations.iter().map(|s| (s.mac, s.port)).collect();
        assert_eq!(stations, [(mac(1), index("lan1"))], "{all:?}");

        let nobody = address("192.168.1.99");
        links.ask(index("br-lan"), nobody).await.unwrap();
        standing(&links, nobody, |standing| standing == Standing::Asked).await;
        standing(&links, nobody, |standing| standing == Standing::Failed).await;
    });
}

#[test]
fn a_bridge_learns_again_by_an_answer() {
    alone(|| async {
        let _devices = home();
        let links = links(&["br-lan"], None);
        let snapshot = links.snapshot().await.unwrap();
        let lan = snapshot.lans[0].index;
        let device = address("192.168.1.11");
        links.ask(lan, device).await.unwrap();
        standing(&links, device, |standing| standing.mac().is_some()).await;
        // What the device says of itself meanwhile teaches the bridge, too.
        let end = Instant::now() + Duration::from_secs(6);
        loop {
            ip("link set lan1 type bridge_slave fdb_flush");
            tokio::time::sleep(A_WHILE).await;
            let all = links.neighbours(&snapshot).await.unwrap();
            if all.stations.is_empty() {
                break;
            }
            assert!(Instant::now() < end, "{all:?}");
        }
        links.confirm(lan, device).await.unwrap();
        let end = Instant::now() + SOON;
        while links
            .neighbours(&snapshot)
            .await
            .unwrap()
            .stations
            .is_empty()
        {
            assert!(Instant::now() < end, "the bridge did not learn");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn neighbours_wake_the_watch_only_with_news() {
    alone(|| async {
        router();
        ip("link set lan1 up");
        ip("link set pc1 up");
        let links = links(&["br-lan"], None);
        let neighbour =
            |change: &str| ip(&format!("neigh replace 192.168.1.11 dev br-lan {change}"));
        let mut watch = links.watch().unwrap();
        // Nobody wants to know.
        neighbour("lladdr 02:00:00:00:00:02 nud stale");
        assert!(!comes(&mut watch, A_WHILE, neighbours).await);

        watch.follow_neighbours().unwrap();
        let snapshot = links.snapshot().await.unwrap();
        let seen = links.neighbours(&snapshot).await.unwrap();
        watch.know(&seen, &snapshot);
        while comes(&mut watch, A_WHILE, neighbours).await {}
        for state in ["reachable", "stale", "delay"] {
            neighbour(&format!("lladdr 02:00:00:00:00:02 nud {state}"));
        }
        assert!(!comes(&mut watch, A_WHILE, neighbours).await);
        neighbour("lladdr 02:00:00:00:00:03 nud stale");
        assert!(comes(&mut watch, SOON, neighbours).await);
        while comes(&mut watch, A_WHILE, neighbours).await {}
        run("bridge fdb add 02:00:00:00:00:77 dev lan1 master dynamic");
        assert!(comes(&mut watch, SOON, neighbours).await);

        watch.ignore_neighbours();
        while comes(&mut watch, A_WHILE, neighbours).await {}
        ip("neigh flush dev br-lan");
        assert!(!comes(&mut watch, A_WHILE, neighbours).await);
    });
}
