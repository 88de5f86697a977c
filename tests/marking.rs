//! Packets are the judge: for each kind of session, one packet that is marked and one next to it that is not.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod lab;

use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::home::{Device, PHONE_V4, server_v4, server_v6};
use lab::{Agent, Capture, Exchange, Home, Observer, Script, agent, send, wait};
use serde_json::{Value, json};

const EF: u8 = 46;
const AF41: u8 = 34;
const BOTH: (u8, u8) = (EF, EF);
const NONE: (u8, u8) = (0, 0);

/// A home whose agent hears what a test says.
struct Marking {
    // Ends before the namespaces that it runs in.
    agent: Agent,
    script: Script,
    home: Home,
}

impl Marking {
    fn start() -> Self {
        let home = Home::without_modem();
        let at = SocketAddr::new(server_v4(19).into(), 8080);
        let script = Script::start(&home.internet, at);
        let agent = Agent::start(&home.router, &agent::config(&script.url()));
        Self {
            agent,
            script,
            home,
        }
    }

    /// Makes these sessions the desired state and waits until the agent has reported on them.
    fn apply(&self, sessions: &[Value]) -> Value {
        let revision = self.script.serve_sessions(sessions);
        self.script.wait_revision(revision)
    }

    /// The same, with all of them in force.
    fn apply_active(&self, sessions: &[Value]) {
        let status = self.apply(sessions);
        for session in status["sessions"].as_array().unwrap() {
            assert_eq!(session["state"], "ACTIVE", "{session}");
        }
    }

    fn phone(&self) -> Observer<'_> {
        Observer::start(&self.home, Device::Phone)
    }

    fn laptop(&self) -> Observer<'_> {
        Observer::start(&self.home, Device::Laptop)
    }
}

/// A session of the phone's with one server, in both families.
fn session(id: &str, host: u8) -> Value {
    json!({ "sessionId": id, "dscp": EF, "expiresIn": 600,
        "device": { "ipv4Address": "192.168.1.23", "ipv6Address": "2001:db8:1::23" },
        "applicationServer": {
            "ipv4Address": format!("198.51.100.{host}"), "ipv6Address": format!("2001:db8:2::{host}") } })
}

fn with(mut session: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        session[key] = value.clone();
    }
    session
}

/// The internet host's addresses with that number.
fn servers(host: u8) -> [IpAddr; 2] {
    let digits = u16::from_str_radix(&host.to_string(), 16).unwrap();
    [server_v4(host).into(), server_v6(digits).into()]
}

#[test]
fn several_ranges_mark_what_is_inside_and_nothing_beside() {
    let marking = Marking::start();
    marking.apply_active(&[with(
        session("ranges", 5),
        json!({ "devicePorts": { "ranges": [{ "from": 5010, "to": 5020 }], "ports": [5060] },
                "applicationServerPorts": { "ranges": [{ "from": 33000, "to": 33010 }], "ports": [40000] } }),
    )]);
    let phone = marking.phone();
    let cases = [
        (5010, 33000, BOTH),
        (5020, 33010, BOTH),
        (5060, 40000, BOTH),
        (5015, 40000, BOTH),
        (5009, 33000, NONE),
        (5021, 33000, NONE),
        (5061, 40000, NONE),
        (5010, 32999, NONE),
        (5010, 33011, NONE),
        (5010, 39999, NONE),
    ];
    for server in servers(5) {
        for (device_port, server_port, expected) in cases {
            let exchange = Exchange::new(device_port, server, server_port);
            assert_eq!(phone.udp(&exchange).dscp(), expected, "{exchange:?}");
        }
        let marked = Exchange::new(5012, server, 33005);
        assert_eq!(phone.tcp(&marked).dscp(), BOTH);
        let beside = Exchange::new(5012, server, 33020);
        assert_eq!(phone.tcp(&beside).dscp(), NONE);
    }
    for (server, beside) in servers(5).into_iter().zip(servers(6)) {
        let exchange = Exchange::new(5010, beside, 33000);
        assert_eq!(phone.udp(&exchange).dscp(), NONE, "another server");
        let exchange = Exchange::new(5010, server, 33000);
        assert_eq!(
            marking.laptop().udp(&exchange).dscp(),
            NONE,
            "another device"
        );
    }
}

#[test]
fn a_ping_never_matches_a_session_with_ports() {
    let marking = Marking::start();
    // As ports, type and code of an echo request read 2048 (IPv4) and 32768 (IPv6), of a reply 0 and 33024.
    let ports = json!({ "devicePorts": { "ranges": [{ "from": 1, "to": 65535 }] } });
    marking.apply_active(&[with(session("all-ports", 5), ports)]);
    let phone = marking.phone();
    for server in servers(5) {
        let exchange = Exchange::new(5010, server, 33001);
        assert_eq!(phone.ping(&exchange).dscp(), NONE);
        assert_eq!(phone.udp(&exchange).dscp(), BOTH);
    }
}

#[test]
fn ports_are_those_of_five_protocols() {
    let marking = Marking::start();
    marking.apply_active(&[with(
        session("ports", 5),
        json!({ "devicePorts": { "ports": [5010] }, "applicationServerPorts": { "ports": [33001] } }),
    )]);
    let internet = Capture::start(&marking.home.internet, "eth0");
    let mut payload = [0; 40];
    payload[..2].copy_from_slice(&5010_u16.to_be_bytes());
    payload[2..4].copy_from_slice(&33001_u16.to_be_bytes());
    // TCP, UDP, DCCP, SCTP, UDP-Lite; GRE, ESP, AH, OSPF, none (RFC 3692).
    for (protocol, expected) in [
        (6, EF),
        (17, EF),
        (33, EF),
        (132, EF),
        (136, EF),
        (47, 0),
        (50, 0),
        (51, 0),
        (89, 0),
        (253, 0),
    ] {
        let phone = &marking.home.phone;
        phone.run(|| send::raw_v4(PHONE_V4, server_v4(5), protocol, &payload));
        let seen = internet.expect(&format!("protocol {protocol}"), |packet| {
            packet.protocol == protocol && packet.destination == IpAddr::from(server_v4(5))
        });
        assert_eq!(seen.dscp, expected, "{seen}");
    }
}

#[test]
fn a_session_without_ports_marks_every_protocol() {
    let marking = Marking::start();
    marking.apply_active(&[session("no-ports", 5)]);
    let phone = marking.phone();
    for (server, beside) in servers(5).into_iter().zip(servers(6)) {
        let exchange = Exchange::new(5010, server, 33001);
        assert_eq!(phone.udp(&exchange).dscp(), BOTH);
        assert_eq!(phone.tcp(&exchange).dscp(), BOTH);
        // The internet host answers with the class that arrived, so both ways are the upstream's.
        assert_eq!(phone.ping(&exchange).dscp(), BOTH);
        let exchange = Exchange::new(5010, beside, 33001);
        assert_eq!(phone.udp(&exchange).dscp(), NONE);
        assert_eq!(phone.tcp(&exchange).dscp(), NONE);
        assert_eq!(phone.ping(&exchange).dscp(), NONE);
    }
}

#[test]
fn a_servers_mask_counts_and_a_devices_does_not() {
    let marking = Marking::start();
    let masked = json!({ "sessionId": "mask", "dscp": EF,
        "device": { "ipv4Address": "192.168.1.23/24", "ipv6Address": "2001:db8:1::23/64" },
        "applicationServer": { "ipv4Address": "198.51.100.13/29", "ipv6Address": "2001:db8:2::10/125" } });
    marking.apply_active(&[masked]);
    let phone = marking.phone();
    // 198.51.100.8 to .15, and ::10 to ::17.
    for (server, expected) in [
        (IpAddr::from(server_v4(8)), BOTH),
        (server_v4(15).into(), BOTH),
        (server_v4(7).into(), NONE),
        (server_v4(16).into(), NONE),
        (server_v6(0x10).into(), BOTH),
        (server_v6(0x17).into(), BOTH),
        (server_v6(0x9).into(), NONE),
        (server_v6(0x18).into(), NONE),
    ] {
        let exchange = Exchange::new(5010, server, 33001);
        assert_eq!(phone.udp(&exchange).dscp(), expected, "{server}");
        assert_eq!(marking.laptop().udp(&exchange).dscp(), NONE, "{server}");
    }
}

#[test]
fn a_session_with_any_server_is_the_devices_alone() {
    let marking = Marking::start();
    marking.apply_active(&[with(
        session("any", 5),
        json!({ "applicationServer": { "ipv4Address": "0.0.0.0/0", "ipv6Address": "::/0" } }),
    )]);
    for host in [1, 9] {
        for server in servers(host) {
            let exchange = Exchange::new(5010, server, 33001);
            assert_eq!(marking.phone().udp(&exchange).dscp(), BOTH);
            assert_eq!(marking.laptop().udp(&exchange).dscp(), NONE);
        }
    }
}

#[test]
fn a_whole_device_setting_ranks_below_every_flow() {
    let marking = Marking::start();
    let mut whole = with(session("whole", 5), json!({ "dscp": AF41 }));
    whole.as_object_mut().unwrap().remove("applicationServer");
    marking.apply_active(&[whole, session("flow", 5)]);
    let phone = marking.phone();
    for (flow, other) in servers(5).into_iter().zip(servers(6)) {
        assert_eq!(phone.udp(&Exchange::new(5010, flow, 33001)).dscp(), BOTH);
        assert_eq!(
            phone.udp(&Exchange::new(5010, other, 33001)).dscp(),
            (AF41, AF41)
        );
    }
}

#[test]
fn one_direction_leaves_the_other_alone() {
    let marking = Marking::start();
    marking.apply_active(&[
        with(session("up", 5), json!({ "direction": "upstream" })),
        with(session("down", 6), json!({ "direction": "downstream" })),
    ]);
    let phone = marking.phone();
    for (up, down) in servers(5).into_iter().zip(servers(6)) {
        assert_eq!(phone.udp(&Exchange::new(5010, up, 33001)).dscp(), (EF, 0));
        assert_eq!(phone.udp(&Exchange::new(5010, down, 33001)).dscp(), (0, EF));
    }
}

#[test]
fn congestion_notification_stays() {
    let marking = Marking::start();
    marking.apply_active(&[session("ecn", 5)]);
    let phone = marking.phone();
    for (server, beside) in servers(5).into_iter().zip(servers(6)) {
        for ecn in 0..4 {
            let own = Exchange {
                tos_up: 10 << 2 | ecn,
                tos_down: 18 << 2 | ecn,
                ..Exchange::new(5010, server, 33001)
            };
            // `dscp` asserts the checksum of every header, too.
            let seen = phone.udp(&own);
            assert_eq!((seen.dscp(), seen.ecn()), (BOTH, (ecn, ecn)));
            let seen = phone.udp(&Exchange {
                server: beside,
                ..own
            });
            assert_eq!((seen.dscp(), seen.ecn()), ((10, 18), (ecn, ecn)));
        }
    }
}

#[test]
fn foreign_bits_of_the_mark_stay() {
    let marking = Marking::start();
    marking.apply_active(&[session("marks", 5)]);
    let router = &marking.home.router;
    router.nft(
        "table netdev foreign {
            chain before {
                type filter hook ingress device \"lan1\" priority -200
                meta mark set 0x80000105
            }
        }
        table inet foreign {
            chain after {
                type filter hook postrouting priority 0
                udp dport 33001 meta mark 0xee000105 counter comment \"both\"
                udp dport 33001 meta mark 0x80000105 counter comment \"foreign\"
            }
        }",
    );
    let phone = marking.phone();
    for (server, beside) in servers(5).into_iter().zip(servers(6)) {
        phone.udp(&Exchange::new(5010, server, 33001));
        phone.udp(&Exchange::new(5010, beside, 33001));
    }
    let counters = router.output("nft", &["list", "chain", "inet", "foreign", "after"]);
    let counted = |what: &str| {
        let line = counters.lines().find(|line| line.contains(what)).unwrap();
        line.contains("packets 2 ")
    };
    assert!(counted("\"both\"") && counted("\"foreign\""), "{counters}");
}

#[test]
fn fragments_are_marked_like_their_first() {
    let marking = Marking::start();
    let ports = json!({ "devicePorts": { "ports": [5010] } });
    marking.apply_active(&[with(session("fragments", 5), ports)]);
    let phone = marking.phone();
    for server in servers(5) {
        for _ in 0..5 {
            let large = Exchange {
                length: 4000,
                ..Exchange::new(5010, server, 33001)
            };
            let seen = phone.udp(&large);
            assert_eq!((seen.up.len(), seen.down.len()), (3, 3));
            assert_eq!(seen.dscp(), BOTH);
            let beside = Exchange {
                device_port: 5011,
                ..large
            };
            assert_eq!(phone.udp(&beside).dscp(), NONE);
        }
    }
}

#[test]
fn counters_are_exact_in_packets_and_bytes() {
    let marking = Marking::start();
    marking.apply_active(&[session("count", 5)]);
    let phone = marking.phone();
    let [v4, v6] = servers(5);
    for length in [32, 100, 1000] {
        for server in [v4, v6] {
            phone.udp(&Exchange {
                length,
                ..Exchange::new(5010, server, 33001)
            });
        }
    }
    let payload: u64 = [32, 100, 1000].iter().sum();
    let bytes = 2 * payload + 3 * (20 + 8) + 3 * (40 + 8);
    let status = marking.agent.status(&marking.home.router).unwrap();
    let expected = json!({ "packets": 6, "bytes": bytes });
    assert_eq!(status["sessions"][0]["upstream"], expected, "{status}");
    assert_eq!(status["sessions"][0]["downstream"], expected, "{status}");
}

#[test]
fn the_kernel_ends_a_session_though_the_agent_was_killed() {
    let mut marking = Marking::start();
    let ordered = Instant::now();
    marking.apply_active(&[with(session("short", 5), json!({ "expiresIn": 3 }))]);
    let end = Instant::now() + Duration::from_secs(3);
    marking.agent.process.kill();
    let exchange = Exchange::new(5010, server_v4(5), 33001);
    let phone = marking.phone();
    while Instant::now() < ordered + Duration::from_millis(2800) {
        assert_eq!(phone.udp(&exchange).dscp(), BOTH, "before the end");
        sleep(Duration::from_millis(50));
    }
    let ended = wait::until(Duration::from_secs(5), || {
        (phone.udp(&exchange).dscp() == NONE).then(Instant::now)
    });
    assert!(ended.unwrap() < end + wait::patient(Duration::from_secs(1)));
}

#[test]
fn a_withdrawn_session_ends_and_another_goes_on() {
    let marking = Marking::start();
    marking.apply_active(&[session("a", 5), session("b", 6)]);
    marking.apply_active(&[session("b", 6)]);
    let phone = marking.phone();
    for (a, b) in servers(5).into_iter().zip(servers(6)) {
        assert_eq!(phone.udp(&Exchange::new(5010, a, 33001)).dscp(), NONE);
        assert_eq!(phone.udp(&Exchange::new(5010, b, 33001)).dscp(), BOTH);
    }
    marking.apply(&[]);
    assert_eq!(
        phone.udp(&Exchange::new(5010, server_v4(6), 33001)).dscp(),
        NONE
    );
}

#[test]
fn the_earlier_of_two_overlapping_sessions_holds_until_it_goes() {
    let marking = Marking::start();
    let second = with(session("second", 5), json!({ "dscp": AF41 }));
    let status = marking.apply(&[session("first", 5), second.clone()]);
    assert_eq!(status["sessions"][0]["state"], "ACTIVE");
    assert_eq!(status["sessions"][1]["code"], "CONFLICT");
    let phone = marking.phone();
    let exchange = Exchange::new(5010, server_v4(5), 33001);
    assert_eq!(phone.udp(&exchange).dscp(), BOTH);
    marking.apply_active(&[second]);
    assert_eq!(phone.udp(&exchange).dscp(), (AF41, AF41));
}

#[test]
fn one_malformed_session_is_rejected_alone() {
    let marking = Marking::start();
    let status = marking.apply(&[
        with(session("bad", 6), json!({ "dscp": 64 })),
        json!({ "sessionId": "worse", "device": 7 }),
        session("good", 5),
    ]);
    let sessions = status["sessions"].as_array().unwrap();
    assert_eq!(sessions[0]["code"], "INVALID");
    assert_eq!(sessions[1]["code"], "INVALID");
    assert_eq!(sessions[2]["state"], "ACTIVE");
    let exchange = Exchange::new(5010, server_v4(5), 33001);
    assert_eq!(marking.phone().udp(&exchange).dscp(), BOTH);
}
