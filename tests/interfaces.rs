//! Devices of the router that come, go, move and are made anew: the marks follow, and nobody else notices. Packets
//! are the judge.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod lab;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use lab::home::{Device, LAPTOP_MAC, LAPTOP_V4, PHONE_MAC, PHONE_V4, WAN_V4, server_v4};
use lab::packet::Way;
use lab::site::{EF, apply, script_address};
use lab::{Agent, Capture, Exchange, Home, Netns, Observer, Packet, Script, Stream, agent, send};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

/// A home with a session of the phone's and one of the laptop's.
struct House {
    // Ends before the namespaces that it runs in.
    _agent: Agent,
    script: Script,
    home: Home,
}

fn session(id: &str, device: Ipv4Addr) -> Value {
    json!({ "sessionId": id, "dscp": EF, "expiresIn": 600,
        "device": { "ipv4Address": device }, "applicationServer": { "ipv4Address": server_v4(5) } })
}

impl House {
    fn start() -> Self {
        let home = Home::without_modem();
        let script = Script::start(&home.internet, script_address());
        let agent = Agent::start(&home.router, &agent::config(&script.url()));
        apply(
            &script,
            &[session("phone", PHONE_V4), session("laptop", LAPTOP_V4)],
        );
        Self {
            _agent: agent,
            script,
            home,
        }
    }

    fn stream(&self, by: &Netns, from: Ipv4Addr, port: u16) -> Stream<'_> {
        let from = SocketAddr::new(from.into(), port);
        let to = SocketAddr::new(server_v4(5).into(), 33001);
        Stream::start(by, from, &self.home.internet, "eth0", to, EF)
    }

    /// The laptop's flow, which nothing that happens to the phone's port may touch.
    fn bystander(&self) -> Stream<'_> {
        self.stream(&self.home.laptop, LAPTOP_V4, 5011)
    }

    fn phone(&self) -> Stream<'_> {
        self.stream(&self.home.phone, PHONE_V4, 5010)
    }

    /// Packets of the phone's and back.
    fn dscp(&self) -> (u8, u8) {
        Observer::start(&self.home, Device::Phone)
            .udp(&Exchange::new(5020, server_v4(5), 33001))
            .dscp()
    }

    /// A cable from the phone's `device` to the router's `port`, which is not in the bridge yet.
    fn plug(&self, port: &str, device: &str) {
        let phone = &self.home.phone;
        self.home.router.ip(&format!(
            "link add {port} type veth peer name {device} address {PHONE_MAC} netns {}\n\
             link set {port} up\n",
            phone.name()
        ));
        phone.ip(&format!(
            "link set {device} up\n\
             addr add {PHONE_V4}/24 dev {device}\n\
             neigh replace 192.168.1.1 lladdr 02:00:00:00:00:01 dev {device} nud permanent\n\
             route replace default via 192.168.1.1\n"
        ));
    }

    fn table(&self) -> String {
        self.home
            .router
            .output("nft", &["list", "table", "netdev", "qod"])
    }

    fn join(&self, port: &str) {
        self.home
            .router
            .ip(&format!("link set {port} master br-lan\n"));
    }
}

/// How long packets still arrive without the mark, by the times at which they were captured. What the kernel
/// itself needs until it forwards anything again does not count.
struct Gaps<'a> {
    house: &'a House,
    all: Vec<Duration>,
}

impl<'a> Gaps<'a> {
    /// In a row: then it is over.
    const MARKED: usize = 20;

    fn of(house: &'a House) -> Self {
        let all = Vec::new();
        Self { house, all }
    }

    /// Sends the phone's packets until they are marked.
    fn measure(&mut self) {
        let from = SocketAddr::new(PHONE_V4.into(), 5010);
        let to = SocketAddr::new(server_v4(5).into(), 33001);
        let capture = Capture::start(&self.house.home.internet, "eth0");
        let socket = self.house.home.phone.run(|| send::udp_socket(from, 0));
        let arrived = || -> Vec<Packet> {
            let packets = capture.packets().into_iter();
            packets
                .filter(|p| p.way == Way::In && p.is_to(to) && p.carries(b"phone"))
                .collect()
        };
        let packets = lab::wait::expect("marked packets", 8 * SECOND, || {
            // While there is no way, there is an error.
            let _ = socket.send_to(b"phone", to);
            let packets = arrived();
            let last = packets.len().checked_sub(Self::MARKED)?;
            packets[last..]
                .iter()
                .all(|p| p.dscp == EF)
                .then_some(packets)
        });
        let last = packets.iter().rfind(|packet| packet.dscp != EF);
        let gap = last.map(|last| last.time.saturating_sub(packets[0].time));
        self.all.push(gap.unwrap_or_default());
    }

    /// Each is over soon; within a second, unless the machine was busy with others.
    fn assert_short(&self) {
        let all = &self.all;
        println!("unmarked for {all:?}");
        assert!(all.iter().all(|gap| *gap < 4 * SECOND), "{all:?}");
        assert!(all.iter().min().is_some_and(|gap| *gap < SECOND), "{all:?}");
    }
}

#[test]
fn a_port_that_comes_late_marks_and_one_that_goes_disturbs_nobody() {
    let house = House::start();
    let bystander = house.bystander();
    let before = bystander.wait_marked();
    let (router, phone) = (&house.home.router, &house.home.phone);
    let mut gaps = Gaps::of(&house);
    for _ in 0..3 {
        phone.ip("addr flush dev eth0\n");
        house.plug("lan3", "eth1");
        house.join("lan3");
        gaps.measure();
        assert_eq!(house.dscp_at("eth1"), EF);
        router.ip("link del lan3\n");
    }
    gaps.assert_short();
    bystander.assert_no_gap(before);
}

#[test]
fn a_port_made_anew_under_its_name_marks_again() {
    let house = House::start();
    let bystander = house.bystander();
    let before = bystander.wait_marked();
    let mut gaps = Gaps::of(&house);
    for _ in 0..5 {
        house.home.router.ip("link del lan1\n");
        house.plug("lan1", "eth0");
        house.join("lan1");
        gaps.measure();
        assert_eq!(house.dscp_at("eth0"), EF);
    }
    gaps.assert_short();
    bystander.assert_no_gap(before);
}

#[test]
fn a_port_that_is_renamed_goes_on() {
    let house = House::start();
    let bystander = house.bystander();
    let before = bystander.wait_marked();
    let mut gaps = Gaps::of(&house);
    gaps.measure();
    for (from, to) in [("lan1", "lan7"), ("lan7", "lan1"), ("lan1", "lan8")] {
        house
            .home
            .router
            .ip(&format!("link set {from} name {to}\n"));
        gaps.measure();
        lab::wait::expect("chains of the port's name", 4 * SECOND, || {
            let table = house.table();
            let has = |name: &str| table.contains(&format!("device \"{name}\""));
            (has(to) && !has(from)).then_some(())
        });
    }
    gaps.assert_short();
    assert_eq!(house.dscp(), (EF, EF));
    bystander.assert_no_gap(before);
}

#[test]
fn a_port_that_leaves_the_bridge_is_left_alone() {
    let house = House::start();
    let bystander = house.bystander();
    let before = bystander.wait_marked();
    let router = &house.home.router;
    let mut gaps = Gaps::of(&house);
    for _ in 0..3 {
        router.ip("link set lan1 nomaster\n");
        lab::wait::expect("no chain of lan1's", 4 * SECOND, || {
            (!house.table().contains("device \"lan1\"")).then_some(())
        });
        house.join("lan1");
        gaps.measure();
        assert_eq!(house.dscp(), (EF, EF));
    }
    gaps.assert_short();
    bystander.assert_no_gap(before);
}

#[test]
fn a_bridge_made_anew_marks_again() {
    let house = House::start();
    let router = &house.home.router;
    let mut gaps = Gaps::of(&house);
    for _ in 0..3 {
        router.ip(
            "link del br-lan\n\
             link add br-lan address 02:00:00:00:00:01 type bridge forward_delay 0 stp_state 0 mcast_snooping 0\n\
             link set lan1 master br-lan up\n\
             link set lan2 master br-lan up\n\
             link set br-lan up\n\
             addr add 192.168.1.1/24 dev br-lan\n\
             addr add 2001:db8:1::1/64 dev br-lan nodad\n",
        );
        gaps.measure();
        house
            .script
            .wait_status("both in force", 4 * SECOND, |status| {
                let list = status["sessions"].as_array().unwrap();
                list.len() == 2 && list.iter().all(|s| s["state"] == "ACTIVE")
            });
        // The devices were asked for where they are now.
        lab::wait::expect("the neighbours", 4 * SECOND, || {
            let table = router.output("ip", &["neigh", "show", "dev", "br-lan"]);
            (table.contains(PHONE_MAC) && table.contains(LAPTOP_MAC)).then_some(())
        });
    }
    gaps.assert_short();
}

#[test]
fn a_wan_device_made_anew_has_its_queues_again() {
    let house = House::start();
    let (router, internet) = (&house.home.router, &house.home.internet);
    let latency = || {
        let text = router.output("tc", &["-s", "class", "show", "dev", "wan"]);
        let (_, class) = text.split_once("class htb 71d:10 ")?;
        let (_, sent) = class.split_once(" bytes ")?;
        sent.split_once(" pkt")?.0.parse::<u64>().ok()
    };
    let mut times = Vec::new();
    for _ in 0..3 {
        router.ip(&format!(
            "link del wan\n\
             link add wan address 02:00:00:00:00:02 type veth peer name eth0 address 02:00:00:00:00:05 netns {}\n\
             link set wan up\n\
             addr add {WAN_V4}/24 dev wan\n\
             neigh replace 203.0.113.1 lladdr 02:00:00:00:00:05 dev wan nud permanent\n\
             route add default via 203.0.113.1\n",
            internet.name()
        ));
        internet.ip(&format!(
            "link set eth0 up\n\
             addr add 203.0.113.1/24 dev eth0\n\
             addr add {}/32 dev eth0\n\
             addr add {}/32 dev eth0\n\
             neigh replace 203.0.113.2 lladdr 02:00:00:00:00:02 dev eth0 nud permanent\n",
            server_v4(5),
            server_v4(19)
        ));
        let start = Instant::now();
        lab::wait::expect("the queues", 4 * SECOND, latency);
        times.push(start.elapsed());
        let stream = house.phone();
        lab::wait::expect("the phone's packets in their queue", 4 * SECOND, || {
            latency().filter(|packets| *packets > 100)
        });
        stream.wait_marked();
        drop(stream);
        assert_eq!(house.dscp(), (EF, EF));
    }
    assert!(times.iter().min() < Some(&SECOND), "{times:?}");
}

impl House {
    /// What a packet to the phone carries where it arrives at one of its devices.
    fn dscp_at(&self, device: &str) -> u8 {
        let capture = Capture::start(&self.home.phone, device);
        // From the server, answered along the phone's own packet through NAT.
        let (phone, server) = (
            SocketAddr::new(PHONE_V4.into(), 5044),
            SocketAddr::new(server_v4(5).into(), 33044),
        );
        let answering = self.home.internet.run(|| send::udp_socket(server, 0));
        let asking = self.home.phone.run(|| send::udp_socket(phone, 0));
        answering.set_read_timeout(Some(2 * SECOND)).unwrap();
        asking.send_to(b"up", server).unwrap();
        let (_, from) = answering.recv_from(&mut [0; 16]).unwrap();
        answering.send_to(b"down", from).unwrap();
        capture
            .expect("the answer", |packet| packet.carries(b"down"))
            .dscp
    }
}
