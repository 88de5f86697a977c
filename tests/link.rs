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
use std::time::Duration;

use namespace::{alone, ip, tc};
use qod_agent::link::{Links, Snapshot, Watch};
use qod_wire::Medium;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(2);
const A_WHILE: Duration = Duration::from_millis(300);

fn links(lan: &[&str], wan: Option<&str>) -> Links {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    let lan = lan.iter().copied().map(str::to_owned).collect();
    Links::new(handle, lan, wan.map(str::to_owned))
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
        let mut watch = Watch::new().unwrap();
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
        let mut watch = Watch::new().unwrap();
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

#[test]
fn queues_wake_nobody() {
    alone(|| async {
        router();
        tokio::time::sleep(A_WHILE).await;
        let mut watch = Watch::new().unwrap();
        quiet(&mut watch).await;
        tc("qdisc add dev wan root handle 71d: htb default 30");
        tc("class add dev wan parent 71d: classid 71d:30 htb rate 1mbit");
        tc("qdisc del dev wan root");
        assert!(timeout(A_WHILE, watch.changed()).await.is_err());
    });
}
