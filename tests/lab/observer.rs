//! One exchange between a device and a server, and what it looked like outside of the router.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use super::capture::Capture;
use super::home::{Device, Home};
use super::packet::{self, Packet};
use super::send;

const LIMIT: Duration = Duration::from_secs(2);

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    pub device_port: u16,
    pub server: IpAddr,
    pub server_port: u16,
    /// The traffic class that the device itself writes, DSCP and ECN.
    pub tos_up: u8,
    /// The traffic class that the server writes.
    pub tos_down: u8,
    /// Bytes of payload, each way.
    pub length: usize,
}

impl Exchange {
    pub fn new(device_port: u16, server: impl Into<IpAddr>, server_port: u16) -> Self {
        Self {
            device_port,
            server: server.into(),
            server_port,
            tos_up: 0,
            tos_down: 0,
            length: 32,
        }
    }
}

/// The packets of one exchange: more than one each way if they are fragments, or TCP's.
#[derive(Debug)]
pub struct Seen {
    /// As they arrived in the internet.
    pub up: Vec<Packet>,
    /// As they arrived at the device.
    pub down: Vec<Packet>,
}

impl Seen {
    /// DSCPs upstream and downstream. All packets of a direction must agree and be well formed.
    pub fn dscp(&self) -> (u8, u8) {
        let one = |packets: &[Packet]| {
            let first = packets.first().unwrap();
            for packet in packets {
                assert!(packet.header_checksum_ok, "{packet}");
                assert_eq!(packet.dscp, first.dscp, "{packet}\n{first}");
            }
            first.dscp
        };
        (one(&self.up), one(&self.down))
    }

    /// ECN fields of the first packet upstream and downstream.
    pub fn ecn(&self) -> (u8, u8) {
        (self.up[0].ecn, self.down[0].ecn)
    }
}

/// Captures at one device and in the internet.
pub struct Observer<'a> {
    home: &'a Home,
    device: Device,
    at_device: Capture,
    at_internet: Capture,
}

impl<'a> Observer<'a> {
    pub fn start(home: &'a Home, device: Device) -> Self {
        Self {
            home,
            device,
            at_device: Capture::start(home.device_netns(device), "eth0"),
            at_internet: Capture::start(&home.internet, "eth0"),
        }
    }

    fn ends(&self, exchange: &Exchange) -> (SocketAddr, SocketAddr) {
        let address = self.device.address_towards(exchange.server);
        (
            SocketAddr::new(address, exchange.device_port),
            SocketAddr::new(exchange.server, exchange.server_port),
        )
    }

    /// A datagram to the server and one back.
    pub fn udp(&self, exchange: &Exchange) -> Seen {
        let (device, server) = self.ends(exchange);
        let (up, down) = payloads(exchange.length);
        let answering = self
            .home
            .internet
            .run(|| send::udp_socket(server, exchange.tos_down));
        answering.set_read_timeout(Some(LIMIT)).unwrap();
        let asking = self
            .home
            .device_netns(self.device)
            .run(|| send::udp_socket(device, exchange.tos_up));
        asking.send_to(&up, server).unwrap();
        let mut buffer = vec![0; 1 << 16];
        let (_, from) = answering
            .recv_from(&mut buffer)
            .unwrap_or_else(|e| panic!("{exchange:?}: nothing reached the server: {e}"));
        answering.send_to(&down, from).unwrap();
        self.collect(&up, &down)
    }

    /// A connection, some bytes each way; the packets are all of it but the handshake's.
    pub fn tcp(&self, exchange: &Exchange) -> Seen {
        let (device, server) = self.ends(exchange);
        let (up, down) = payloads(exchange.length);
        let listener = self
            .home
            .internet
            .run(|| send::tcp_listen(server, exchange.tos_down));
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut vec![0; up.len()]).unwrap();
                stream.write_all(&down).unwrap();
                // Ends when the device resets the connection.
                let _ = stream.read(&mut [0]);
            });
            self.home.device_netns(self.device).run(|| {
                let mut stream = send::tcp_connect(device, server, exchange.tos_up).unwrap();
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                stream.write_all(&up).unwrap();
                stream.read_exact(&mut vec![0; down.len()]).unwrap();
            });
        });
        self.collect(&up, &down)
    }

    /// An echo request; the internet host's kernel answers with the class that arrived.
    pub fn ping(&self, exchange: &Exchange) -> Seen {
        let (device, server) = self.ends(exchange);
        let (up, _) = payloads(exchange.length);
        self.home
            .device_netns(self.device)
            .run(|| send::ping(device.ip(), server.ip(), exchange.tos_up, &up));
        self.collect(&up, &up)
    }

    /// Finds both packets by their payload, and their later fragments by address and id.
    fn collect(&self, up: &[u8], down: &[u8]) -> Seen {
        let upstream = |p: &Packet| p.way == packet::Way::In;
        Seen {
            up: whole(&self.at_internet, "upstream packet", up, upstream),
            down: whole(&self.at_device, "downstream packet", down, upstream),
        }
    }
}

fn whole(
    capture: &Capture,
    what: &str,
    payload: &[u8],
    way: impl Fn(&Packet) -> bool,
) -> Vec<Packet> {
    let tag = &payload[..TAG];
    let first = capture.expect(what, |p| way(p) && p.is_first() && p.carries(tag));
    let Some(fragment) = first.fragment else {
        return vec![first];
    };
    let same = |p: &Packet| {
        p.source == first.source
            && p.destination == first.destination
            && p.fragment.is_some_and(|f| f.id == fragment.id)
    };
    capture.expect("last fragment", |p| {
        way(p) && same(p) && p.fragment.is_some_and(|f| !f.more)
    });
    capture
        .packets()
        .into_iter()
        .filter(|p| way(p) && same(p))
        .collect()
}

/// Length of the part of a payload that no other payload has.
const TAG: usize = 16;

/// Two payloads that no other exchange has.
fn payloads(length: usize) -> (Vec<u8>, Vec<u8>) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let pid = std::process::id();
    let payload = |way| {
        let mut bytes = format!("{way}{number:07x}{pid:07x}.").into_bytes();
        assert_eq!(bytes.len(), TAG);
        bytes.resize(length.max(TAG), b'.');
        bytes
    };
    (payload('u'), payload('d'))
}
