//! The device is the MAC behind an address: found, asked for, followed and not confused with another. Packets
//! are the judge.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod lab;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::home::{
    Device, LAPTOP_MAC, LAPTOP_V4, LAPTOP_V6, PHONE_MAC, PHONE_V4, PHONE_V6, server_v4, server_v6,
};
use lab::site::{EF, script_address};
use lab::{Agent, Exchange, Home, Netns, Observer, Script, Stream, agent, send, wait};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const BOTH: (u8, u8) = (EF, EF);
const NONE: (u8, u8) = (0, 0);
const SECOND: Duration = Duration::from_secs(1);
/// A second, and what a busy machine adds to it.
const SOON: Duration = Duration::from_secs(3);
/// The kernel asks three times, once a second.
const ASKED: Duration = Duration::from_secs(6);

/// A home whose agent hears what a test says.
struct House {
    // Ends before the namespaces that it runs in.
    agent: Agent,
    script: Script,
    home: Home,
}

impl House {
    /// A flow from an address of the phone's that the router does not know: unmarked, and marked soon after
    /// the first answer, which makes the router ask for it.
    fn assert_marked_once_answered(&self, address: IpAddr) {
        let device = SocketAddr::new(address, 5010);
        let server = SocketAddr::new(server_v6(5).into(), 33001);
        let (phone, internet) = (&self.home.phone, &self.home.internet);
        let stream = Stream::start(phone, device, internet, "eth0", server, EF);
        stream.wait_unmarked();
        internet.run(|| send::udp(server, device, 0, b"hello"));
        let start = Instant::now();
        stream.wait_marked();
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    }

    fn start() -> Self {
        Self::start_with(|_| {})
    }

    fn start_with(change: impl Fn(&mut Value)) -> Self {
        let home = Home::without_modem();
        let script = Script::start(&home.internet, script_address());
        let mut config = agent::config(&script.url());
        change(&mut config);
        let agent = Agent::start(&home.router, &config);
        Self {
            agent,
            script,
            home,
        }
    }

    /// Waits until the first session of the newest report stands so.
    fn wait(&self, limit: Duration, state: &str) -> Value {
        let status = self.script.wait_status(state, limit, |status| {
            status["sessions"][0]["state"] == state
        });
        status["sessions"][0].clone()
    }

    fn serve(&self, session: Value) -> u64 {
        self.script.serve_sessions(&[session])
    }

    /// Serves one session, which comes into force.
    fn activate(&self, session: Value) -> Value {
        let revision = self.serve(session);
        self.script
            .wait_status("the session in force", ASKED, |status| {
                status["revision"] == revision && status["sessions"][0]["state"] == "ACTIVE"
            })
    }

    /// Serves one session, which is rejected with this code; the message.
    fn reject(&self, session: Value, code: &str) -> String {
        let revision = self.serve(session);
        let status = self.script.wait_status(code, ASKED, |status| {
            status["revision"] == revision && status["sessions"][0]["state"] == "REJECTED"
        });
        let session = &status["sessions"][0];
        assert_eq!(session["code"], code, "{session}");
        session["message"].as_str().unwrap().to_owned()
    }

    /// What the phone's packets to a server and back carry.
    fn phone(&self, server: impl Into<IpAddr>) -> (u8, u8) {
        dscp(&self.home, Device::Phone, server.into())
    }

    fn laptop(&self, server: impl Into<IpAddr>) -> (u8, u8) {
        dscp(&self.home, Device::Laptop, server.into())
    }

    /// A flow from a device to 198.51.100.5.
    fn stream(&self, by: &Netns, from: Ipv4Addr, port: u16) -> Stream<'_> {
        let from = SocketAddr::new(from.into(), port);
        let to = SocketAddr::new(server_v4(5).into(), 33001);
        Stream::start(by, from, &self.home.internet, "eth0", to, EF)
    }

    /// Writes into the router's neighbour table.
    fn neighbour(&self, address: impl Into<IpAddr>, mac: &str) {
        let address = address.into();
        self.home.router.ip(&format!(
            "neigh replace {address} lladdr {mac} dev br-lan nud reachable\n"
        ));
    }

    fn forget(&self, address: impl Into<IpAddr>) {
        let address = address.into();
        let line = format!("neigh del {address} dev br-lan\n");
        self.home.router.ip(&line);
    }

    /// Every state that a report of this revision gave the first session; "" where it had none.
    fn states(&self, revision: u64) -> Vec<String> {
        let all = self.script.statuses();
        let of_revision = all.iter().filter(|s| s["revision"] == revision);
        let state = |status: &Value| {
            let state = status["sessions"][0]["state"].as_str();
            state.unwrap_or_default().to_owned()
        };
        of_revision.map(state).collect()
    }
}

fn dscp(home: &Home, device: Device, server: IpAddr) -> (u8, u8) {
    Observer::start(home, device)
        .udp(&Exchange::new(5020, server, 33001))
        .dscp()
}

fn session(device: Value, server: Value) -> Value {
    let mut session = json!({ "sessionId": "a", "dscp": EF, "expiresIn": 600, "device": device });
    if !server.is_null() {
        session["applicationServer"] = server;
    }
    session
}

fn v4_server() -> Value {
    json!({ "ipv4Address": server_v4(5) })
}

fn v6_server() -> Value {
    json!({ "ipv6Address": server_v6(5) })
}

fn both_servers() -> Value {
    json!({ "ipv4Address": server_v4(5), "ipv6Address": server_v6(5) })
}

/// Makes a device silent when it is asked who has an address; it goes on sending.
fn mute(device: &Netns) {
    device.nft(
        "table netdev lab_mute {\n\
           chain eth0 {\n\
             type filter hook ingress device \"eth0\" priority -500\n\
             ether type arp drop\n\
             icmpv6 type nd-neighbor-solicit drop\n\
           }\n\
         }\n",
    );
}

fn unmute(device: &Netns) {
    device.nft("delete table netdev lab_mute\n");
}

/// Collects the IPv4 addresses that a device is asked for.
fn collect_questions(device: &Netns) {
    device.nft(
        "table netdev lab_arp {\n\
           set asked { type ipv4_addr; size 65535; flags dynamic; }\n\
           chain eth0 {\n\
             type filter hook ingress device \"eth0\" priority -400\n\
             arp operation request add @asked { arp daddr ip }\n\
           }\n\
         }\n",
    );
}

fn questions(device: &Netns) -> Vec<String> {
    let json = device.output("nft", &["-j", "list", "set", "netdev", "lab_arp", "asked"]);
    let list: Value = serde_json::from_str(&json).unwrap();
    let sets = list["nftables"].as_array().unwrap();
    let set = sets.iter().find(|entry| entry.get("set").is_some());
    let asked = set.unwrap()["set"]["elem"].as_array();
    let asked = asked.map_or(&[][..], Vec::as_slice);
    asked
        .iter()
        .map(|a| a.as_str().unwrap().to_owned())
        .collect()
}

/// Lets a device send something from an address, for which it asks for the router: so the router learns it.
fn appear(device: &Netns, address: Ipv4Addr) {
    device.ip("neigh del 192.168.1.1 dev eth0\n");
    let from = SocketAddr::new(address.into(), 5099);
    let to = SocketAddr::new(server_v4(9).into(), 33099);
    device.run(|| send::udp(from, to, 0, b"here"));
}

#[test]
fn a_server_of_the_other_family_is_met_by_the_macs_own_address() {
    let house = House::start();
    house.activate(session(json!({ "ipv4Address": PHONE_V4 }), v6_server()));
    assert_eq!(house.phone(server_v6(5)), BOTH);
    assert_eq!(house.phone(server_v4(5)), NONE);
    assert_eq!(house.laptop(server_v6(5)), NONE);

    house.activate(session(json!({ "ipv6Address": PHONE_V6 }), v4_server()));
    assert_eq!(house.phone(server_v4(5)), BOTH);
    assert_eq!(house.phone(server_v6(5)), NONE);
    assert_eq!(house.laptop(server_v4(5)), NONE);
    let status = house.script.wait_status("the device", ASKED, |status| {
        status["devices"][0]["port"] == "lan1"
    });
    assert_eq!(
        status["devices"],
        json!([{ "mac": PHONE_MAC, "ipv4": [PHONE_V4], "ipv6": [PHONE_V6], "port": "lan1", "medium": "wired" }])
    );
}

#[test]
fn of_its_own_family_exactly_the_given_address_counts() {
    let house = House::start();
    let other = Ipv4Addr::new(192, 168, 1, 123);
    house
        .home
        .phone
        .ip(&format!("addr add {other}/24 dev eth0\n"));
    house.neighbour(other, PHONE_MAC);
    house.activate(session(json!({ "ipv4Address": PHONE_V4 }), v4_server()));
    assert_eq!(house.phone(server_v4(5)), BOTH);
    let stream = house.stream(&house.home.phone, other, 5010);
    stream.wait_unmarked();
}

#[test]
fn a_mac_alone_is_every_address_that_it_has() {
    let house = House::start();
    house.activate(session(
        json!({ "macAddress": PHONE_MAC.to_uppercase() }),
        Value::Null,
    ));
    for server in [IpAddr::from(server_v4(7)), server_v6(7).into()] {
        assert_eq!(house.phone(server), BOTH);
        assert_eq!(house.laptop(server), NONE);
    }
    // Privacy addresses come and go.
    let more: IpAddr = "2001:db8:1::1:23".parse().unwrap();
    house
        .home
        .phone
        .ip(&format!("addr add {more}/64 dev eth0 nodad\n"));
    house.assert_marked_once_answered(more);
}

#[test]
fn an_address_of_the_servers_family_is_followed_when_it_appears() {
    let house = House::start();
    house.forget(PHONE_V6);
    let message = house.reject(
        session(json!({ "ipv4Address": PHONE_V4 }), v6_server()),
        "DEVICE_NOT_FOUND",
    );
    assert_eq!(message, format!("no IPv6 address known for {PHONE_V4}"));
    house.assert_marked_once_answered(PHONE_V6.into());
    house.wait(SOON, "ACTIVE");
}

#[test]
fn one_family_is_enough_and_the_other_joins() {
    let house = House::start();
    house.forget(PHONE_V6);
    house.activate(session(json!({ "ipv4Address": PHONE_V4 }), both_servers()));
    assert_eq!(house.phone(server_v4(5)), BOTH);
    house.neighbour(PHONE_V6, PHONE_MAC);
    wait::expect("the other family", SOON, || {
        (house.phone(server_v6(5)) == BOTH).then_some(())
    });
}

#[test]
fn who_is_unknown_is_asked_for_before_it_is_called_absent() {
    let house = House::start();
    let address = Ipv4Addr::new(192, 168, 1, 50);
    collect_questions(&house.home.laptop);
    let start = Instant::now();
    let revision = house.serve(session(json!({ "ipv4Address": address }), v4_server()));
    wait::expect("the question on the wire", SOON, || {
        questions(&house.home.laptop)
            .contains(&address.to_string())
            .then_some(())
    });
    let rejected = house.wait(ASKED, "REJECTED");
    // Not before the kernel had asked three times.
    assert!(
        start.elapsed() > Duration::from_millis(2500),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(rejected["code"], "DEVICE_NOT_FOUND");
    assert_eq!(rejected["message"], "192.168.1.50 is not on br-lan");
    let states = house.states(revision);
    let (before, after) = states.split_at(states.iter().position(|s| s == "REJECTED").unwrap());
    assert!(
        before.iter().all(String::is_empty) && after.iter().all(|s| s == "REJECTED"),
        "{states:?}"
    );
    assert!(
        !before.is_empty(),
        "the revision was not reported meanwhile"
    );

    house
        .home
        .phone
        .ip(&format!("addr add {address}/24 dev eth0\n"));
    let stream = house.stream(&house.home.phone, address, 5010);
    stream.wait_unmarked();
    appear(&house.home.phone, address);
    let start = Instant::now();
    stream.wait_marked();
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    house.wait(SOON, "ACTIVE");
}

#[test]
fn who_does_not_answer_is_asked_again() {
    let house = House::start();
    mute(&house.home.phone);
    house.forget(PHONE_V4);
    house.reject(
        session(json!({ "ipv4Address": PHONE_V4 }), v4_server()),
        "DEVICE_NOT_FOUND",
    );
    // It says nothing of its own accord.
    unmute(&house.home.phone);
    house.wait(Duration::from_secs(35), "ACTIVE");
    assert_eq!(house.phone(server_v4(5)), BOTH);
}

#[test]
fn an_unknown_ipv6_device_is_asked_for_and_found() {
    let house = House::start();
    house.forget(PHONE_V6);
    let revision = house.serve(session(json!({ "ipv6Address": PHONE_V6 }), v6_server()));
    let start = Instant::now();
    house.wait(SOON, "ACTIVE");
    assert!(start.elapsed() < SOON);
    assert_eq!(house.phone(server_v6(5)), BOTH);
    assert!(!house.states(revision).contains(&"REJECTED".to_owned()));
}

#[test]
fn many_who_are_unknown_are_asked_for_a_few_at_a_time() {
    let house = House::start();
    collect_questions(&house.home.phone);
    let sessions: Vec<Value> = (0..100)
        .map(|number| {
            let mut one = session(
                json!({ "ipv4Address": format!("192.168.1.{}", 100 + number) }),
                v4_server(),
            );
            one["sessionId"] = json!(format!("s{number}"));
            one
        })
        .collect();
    house.script.serve_sessions(&sessions);
    let count = || questions(&house.home.phone).len();
    wait::expect("the first questions", SOON, || {
        (count() >= 64).then_some(())
    });
    sleep(SECOND);
    assert_eq!(count(), 64);
    house.script.wait_status("all absent", 2 * ASKED, |status| {
        let list = status["sessions"].as_array().unwrap();
        list.len() == 100 && list.iter().all(|s| s["code"] == "DEVICE_NOT_FOUND")
    });
    assert_eq!(count(), 100);
}

#[test]
fn a_stranger_does_not_inherit_the_marks_of_an_address() {
    let house = House::start();
    house.activate(session(json!({ "ipv4Address": PHONE_V4 }), v4_server()));
    assert_eq!(house.phone(server_v4(5)), BOTH);
    // The phone has gone, the laptop has its address.
    house.home.phone.ip("link set eth0 down\n");
    house
        .home
        .laptop
        .ip(&format!("addr add {PHONE_V4}/24 dev eth0\n"));
    let stream = house.stream(&house.home.laptop, PHONE_V4, 5010);
    wait::expect("the laptop's packets", SOON, || {
        (stream.arrived().marked > 0).then_some(())
    });
    house.neighbour(PHONE_V4, LAPTOP_MAC);
    let took = stream.wait_unmarked();
    assert!(took < SOON, "{took:?}");
    let rejected = house.wait(SOON, "REJECTED");
    assert_eq!(rejected["code"], "DEVICE_NOT_FOUND");
    assert_eq!(
        rejected["message"],
        format!("{PHONE_V4} has moved from {PHONE_MAC} to {LAPTOP_MAC}")
    );
    let marked = stream.arrived().marked;
    sleep(Duration::from_millis(300));
    assert_eq!(stream.arrived().marked, marked);
    drop(stream);

    house
        .home
        .laptop
        .ip(&format!("addr del {PHONE_V4}/24 dev eth0\n"));
    house.home.phone.ip("link set eth0 up\n\
         neigh replace 192.168.1.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent\n\
         route add default via 192.168.1.1\n");
    house.neighbour(PHONE_V4, PHONE_MAC);
    house.wait(SOON, "ACTIVE");
    // The kernel takes its time until the bridge forwards again.
    wait::expect("the phone's port", SOON, || {
        let port = house
            .home
            .router
            .output("bridge", &["link", "show", "dev", "lan1"]);
        port.contains("state forwarding").then_some(())
    });
    assert_eq!(house.phone(server_v4(5)), BOTH);
}

#[test]
fn what_the_router_merely_forgot_does_not_end() {
    let house = House::start();
    let revision = house.serve(session(json!({ "ipv4Address": PHONE_V4 }), both_servers()));
    house.wait(SOON, "ACTIVE");
    let stream = house.stream(&house.home.phone, PHONE_V4, 5010);
    let before = stream.wait_marked();
    for _ in 0..3 {
        house.forget(PHONE_V4);
        house.forget(PHONE_V6);
        // Asked for, it is there again.
        wait::expect("the entries", SOON, || {
            let table = house
                .home
                .router
                .output("ip", &["neigh", "show", "dev", "br-lan"]);
            let found = |address: &str| {
                table
                    .lines()
                    .any(|line| line.starts_with(address) && line.contains(PHONE_MAC))
            };
            (found(&format!("{PHONE_V4} ")) && found(&format!("{PHONE_V6} "))).then_some(())
        });
        assert_eq!(house.phone(server_v6(5)), BOTH);
    }
    stream.assert_no_gap(before);
    let states = house.states(revision);
    assert!(states.iter().all(|state| state == "ACTIVE"), "{states:?}");
}

#[test]
fn who_leaves_is_gone_after_it_was_asked_for() {
    let house = House::start();
    house.activate(session(json!({ "ipv4Address": PHONE_V4 }), v4_server()));
    house.home.phone.ip("link set eth0 down\n");
    house.forget(PHONE_V4);
    let start = Instant::now();
    let rejected = house.wait(ASKED, "REJECTED");
    assert!(start.elapsed() > 2 * SECOND, "{:?}", start.elapsed());
    assert_eq!(rejected["message"], format!("{PHONE_V4} is not on br-lan"));
    let rules = house.home.router.output("nft", &["list", "tables"]);
    assert!(!rules.contains("netdev qod"), "{rules}");
}

#[test]
fn identities_of_two_devices_are_no_device() {
    let house = House::start();
    let message = house.reject(
        session(
            json!({ "ipv4Address": PHONE_V4, "ipv6Address": LAPTOP_V6 }),
            both_servers(),
        ),
        "DEVICE_NOT_FOUND",
    );
    assert_eq!(
        message,
        format!("{LAPTOP_V6} is at {LAPTOP_MAC}, but {PHONE_V4} at {PHONE_MAC}")
    );
    let message = house.reject(
        session(
            json!({ "ipv4Address": PHONE_V4, "macAddress": LAPTOP_MAC }),
            v4_server(),
        ),
        "DEVICE_NOT_FOUND",
    );
    assert_eq!(
        message,
        format!("{PHONE_V4} is at {PHONE_MAC}, not at {LAPTOP_MAC}")
    );
    assert_eq!(house.phone(server_v4(5)), NONE);
    for own in ["192.168.1.1", "203.0.113.2"] {
        let message = house.reject(
            session(json!({ "ipv4Address": own }), v4_server()),
            "DEVICE_NOT_FOUND",
        );
        assert_eq!(message, format!("{own} is an address of this router's own"));
    }
    house.activate(session(
        json!({ "ipv4Address": PHONE_V4, "ipv6Address": PHONE_V6, "macAddress": PHONE_MAC }),
        both_servers(),
    ));
    assert_eq!(house.phone(server_v4(5)), BOTH);
    assert_eq!(house.phone(server_v6(5)), BOTH);
}

#[test]
fn a_device_may_have_to_be_on_a_certain_medium() {
    let house = House::start();
    let mut wifi = session(json!({ "ipv4Address": PHONE_V4 }), v4_server());
    wifi["requiredInterface"] = json!("wifi");
    let message = house.reject(wifi.clone(), "NOT_ON_REQUIRED_INTERFACE");
    assert_eq!(message, format!("{PHONE_MAC} is on lan1, which is wired"));
    assert_eq!(house.phone(server_v4(5)), NONE);
    let mut wired = wifi;
    wired["requiredInterface"] = json!("wired");
    house.activate(wired);
    assert_eq!(house.phone(server_v4(5)), BOTH);
    // The bridge forgets a silent station: it is where it was.
    house
        .home
        .router
        .ip("link set lan1 type bridge_slave fdb_flush\n");
    sleep(Duration::from_millis(300));
    house.wait(SOON, "ACTIVE");
}

#[test]
fn a_device_that_roams_keeps_its_session() {
    let house = House::start();
    let (home, phone) = (&house.home, &house.home.phone);
    let mut wired = session(json!({ "ipv4Address": PHONE_V4 }), v4_server());
    wired["requiredInterface"] = json!("wired");
    house.activate(wired);
    let on = |port: &str| {
        house.script.wait_status(port, SOON, |status| {
            status["devices"][0]["port"] == port && status["sessions"][0]["state"] == "ACTIVE"
        });
    };
    assert_eq!(house.phone(server_v4(5)), BOTH);
    on("lan1");
    // The same MAC behind another port.
    home.router.ip(&format!(
        "link add lan3 type veth peer name eth1 address {PHONE_MAC} netns {}\n\
         link set lan3 master br-lan up\n",
        phone.name()
    ));
    let settle = |from: &str, to: &str| {
        phone.ip(&format!(
            "addr flush dev {from}\n\
             link set {from} down\n\
             link set {to} up\n\
             addr add {PHONE_V4}/24 dev {to}\n\
             neigh replace 192.168.1.1 lladdr 02:00:00:00:00:01 dev {to} nud permanent\n\
             route replace default via 192.168.1.1\n"
        ));
    };
    for (from, to, port) in [("eth0", "eth1", "lan3"), ("eth1", "eth0", "lan1")] {
        settle(from, to);
        let stream = house.stream(phone, PHONE_V4, 5010);
        stream.wait_marked();
        on(port);
    }
}

#[test]
fn a_restart_waits_for_a_device_that_is_not_in_the_table() {
    let mut house = House::start();
    house.activate(session(json!({ "ipv4Address": PHONE_V4 }), both_servers()));
    let home = &house.home;
    let from = SocketAddr::new(PHONE_V4.into(), 5010);
    let to = SocketAddr::new(server_v4(5).into(), 33001);
    let stream = Stream::start(&home.phone, from, &home.internet, "eth0", to, EF);
    let before = stream.wait_marked();
    let run = lab::site::newest_run(&house.script);
    mute(&home.phone);
    house.forget(PHONE_V4);
    house.forget(PHONE_V6);
    house.agent.restart(&home.router);
    lab::site::wait_another_run(&house.script, &run);
    wait::expect("the question", SOON, || {
        let log = house.agent.process.log();
        let asked = format!("asking for {PHONE_V4}");
        log.contains(&asked).then_some(())
    });
    // A round after the one that asked would end what is not kept.
    sleep(Duration::from_millis(300));
    stream.assert_no_gap(before);
    let table = home
        .router
        .output("ip", &["neigh", "show", "dev", "br-lan"]);
    assert!(!table.contains(PHONE_MAC), "{table}");
    unmute(&home.phone);
    wait::expect("the device", SOON, || {
        let table = home
            .router
            .output("ip", &["neigh", "show", "dev", "br-lan"]);
        table.contains(PHONE_MAC).then_some(())
    });
    house.wait(SOON, "ACTIVE");
    stream.assert_no_gap(before);
    assert_eq!(house.phone(server_v6(5)), BOTH);
}

#[test]
fn lost_events_leave_nothing_wrong() {
    let house = House::start();
    house.activate(session(json!({ "ipv4Address": PHONE_V4 }), v4_server()));
    // About 100 bytes each, for a buffer of 208 KB.
    let noise: String = (0..6000)
        .map(|number| {
            let mac = format!("02:00:00:02:{:02x}:{:02x}", number / 250, number % 250);
            format!(
                "neigh replace 192.168.1.{} lladdr {mac} dev br-lan nud reachable\n",
                100 + number % 100
            )
        })
        .collect();
    for (mac, state) in [(LAPTOP_MAC, "REJECTED"), (PHONE_MAC, "ACTIVE")] {
        house.agent.process.signal(Signal::SIGSTOP);
        house.home.router.ip(&noise);
        house.neighbour(PHONE_V4, mac);
        house.home.router.ip(&noise);
        house.agent.process.signal(Signal::SIGCONT);
        house.wait(SOON, state);
    }
    assert_eq!(house.phone(server_v4(5)), BOTH);
}

#[test]
fn an_access_point_without_wan_knows_its_devices() {
    let house = House::start_with(|config| {
        config.as_object_mut().unwrap().remove("wan");
    });
    let home = &house.home;
    house.activate(session(
        json!({ "ipv6Address": PHONE_V6 }),
        json!({ "ipv4Address": LAPTOP_V4 }),
    ));
    let bridged = |from: (&Netns, Ipv4Addr), to: (&Netns, Ipv4Addr), dscp| {
        let ends = (
            SocketAddr::new(from.1.into(), 5010),
            SocketAddr::new(to.1.into(), 33001),
        );
        Stream::start(from.0, ends.0, to.0, "eth0", ends.1, dscp).wait_marked();
    };
    bridged((&home.phone, PHONE_V4), (&home.laptop, LAPTOP_V4), EF);
    bridged((&home.laptop, LAPTOP_V4), (&home.phone, PHONE_V4), EF);
    assert_eq!(house.phone(server_v4(5)), NONE);
}

#[test]
fn an_agent_without_sessions_sleeps_through_what_neighbours_do() {
    let house = House::start_with(|config| {
        config["pollWaitSeconds"] = json!(50);
        config["reportIntervalSeconds"] = json!(600);
    });
    house.script.wait_revision(1);
    let pid = house.agent.process.pid();
    let wakes = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    // Whatever it still does after its first report.
    wait::expect("sleep", ASKED, || {
        let before = wakes();
        sleep(Duration::from_millis(500));
        (wakes() == before).then_some(())
    });
    let before = wakes();
    for _ in 0..100 {
        house.neighbour(PHONE_V4, LAPTOP_MAC);
        house.neighbour(PHONE_V4, PHONE_MAC);
    }
    assert_eq!(wakes(), before);
}
