//! Queues in a real kernel: packets and `tc` are the judges.
//!
//! Needs root, `ip`, `tc`, `unshare` and `nsenter`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

mod namespace;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use namespace::{Machine, alone, ip, sysctl, tc};
use nix::sys::socket::{setsockopt, sockopt};
use qod_agent::netlink::Rtnetlink;
use qod_agent::queue::{Error, Queue, Queues, Root, Shaper};
use qod_wire::ClassStatus;

const ROUTER: &str = "192.0.2.1";
const SERVER: &str = "192.0.2.2";

fn queues() -> Queues {
    Queues::new(Rtnetlink::open().unwrap())
}

fn shaper(upstream_kbps: impl Into<Option<u64>>) -> Shaper {
    Shaper {
        device: "wan".to_owned(),
        upstream_kbps: upstream_kbps.into(),
    }
}

/// A router with the device `wan`, and a server at its other end.
fn server() -> Machine {
    let server = Machine::new();
    ip(&format!(
        "link add wan type veth peer name eth0 netns {}",
        server.netns()
    ));
    // Else the kernel's own neighbour discovery is counted too.
    sysctl("ipv6/conf/wan/disable_ipv6", "1");
    server.run("ip link set eth0 up");
    server.run(&format!("ip address add {SERVER}/24 dev eth0"));
    ip(&format!("address add {ROUTER}/24 dev wan"));
    ip("link set wan up");
    wait_for_server();
    server
}

/// Nothing listens on the port, so the server's refusal says that there is a way to it.
fn wait_for_server() {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let error = TcpStream::connect((SERVER, 9)).unwrap_err();
        if error.kind() == ErrorKind::ConnectionRefused {
            return;
        }
        assert!(Instant::now() < deadline, "{error}");
    }
}

/// A socket whose packets have this `skb->priority`.
fn socket(priority: u32) -> UdpSocket {
    let socket = UdpSocket::bind((ROUTER, 0)).unwrap();
    setsockopt(
        &socket,
        sockopt::Priority,
        &i32::try_from(priority).unwrap(),
    )
    .unwrap();
    socket.connect((SERVER, 7)).unwrap();
    socket
}

/// What tc shows of the tree, in a stable order. The classes of `fq_codel` are flows that come and
/// go.
fn shown() -> (Vec<String>, Vec<String>) {
    let lines = |text: String| {
        let flow = |line: &&str| line.starts_with("class fq_codel ");
        let lines = text.lines().filter(|line| !flow(line));
        let mut lines: Vec<_> = lines.map(str::to_owned).collect();
        lines.sort();
        lines
    };
    (
        lines(tc("qdisc show dev wan")),
        lines(tc("class show dev wan")),
    )
}

async fn classes(queues: &Queues) -> BTreeMap<String, ClassStatus> {
    let status = queues.status("wan").await.unwrap().unwrap();
    assert_eq!(
        (status.kind.as_str(), status.owner.as_str()),
        ("htb", "qod-agent")
    );
    assert_eq!(status.classes.len(), 4);
    status
        .classes
        .into_iter()
        .map(|class| (class.queue.clone(), class))
        .collect()
}

/// Sends through each queue: 10 packets to latency, 20 to video, 30 and 40.
fn send_to_each() {
    for (queue, count) in Queue::ALL.into_iter().zip([10, 20, 30, 40]) {
        let socket = socket(queue.classid());
        for _ in 0..count {
            // Nobody listens there: a refusal of an earlier one may come back instead.
            while socket.send(&[0; 100]).is_err() {}
        }
    }
    thread::sleep(Duration::from_millis(200));
}

async fn packets(queues: &Queues) -> Vec<u64> {
    let classes = classes(queues).await;
    Queue::ALL
        .iter()
        .map(|queue| classes[queue.name()].packets)
        .collect()
}

#[test]
fn priority_chooses_the_queue() {
    alone(|| async {
        let _server = server();
        let mut queues = queues();
        assert!(matches!(
            queues.apply(&shaper(40_000)).await.unwrap(),
            Root::Ours { .. }
        ));
        send_to_each();
        assert_eq!(packets(&queues).await, [10, 20, 30, 40]);

        // What tc says, and what it says of packets without a class of their own.
        let socket = socket(0);
        for _ in 0..5 {
            while socket.send(&[0; 100]).is_err() {}
        }
        thread::sleep(Duration::from_millis(100));
        let counted = tc("-s class show dev wan");
        let sent = |class: &str| {
            let (_, rest) = counted.split_once(&format!("class htb {class} ")).unwrap();
            rest.split_once("Sent ")
                .unwrap()
                .1
                .split(" (")
                .next()
                .unwrap()
        };
        assert_eq!(sent("71d:10"), "1420 bytes 10 pkt");
        assert_eq!(sent("71d:20"), "2840 bytes 20 pkt");
        assert_eq!(sent("71d:30"), "4970 bytes 35 pkt");
        assert_eq!(sent("71d:40"), "5680 bytes 40 pkt");
        assert_eq!(classes(&queues).await["standard"].bytes, 4970);
    });
}

#[test]
fn what_is_there_stays() {
    alone(|| async {
        let _server = server();
        let mut first = queues();
        let root = first.apply(&shaper(40_000)).await.unwrap();
        send_to_each();
        let before = shown();
        assert_eq!(first.apply(&shaper(40_000)).await.unwrap(), root);
        // An agent that starts again knows its own.
        let mut second = queues();
        assert_eq!(second.apply(&shaper(40_000)).await.unwrap(), root);
        assert_eq!(shown(), before);
        assert_eq!(packets(&second).await, [10, 20, 30, 40]);
    });
}

#[test]
fn every_rate_is_kept_as_asked() {
    alone(|| async {
        let _server = server();
        let mut queues = queues();
        let rates = [
            (Some(1), "1Kbit"),
            (Some(64), "64Kbit"),
            (Some(40_000), "40Mbit"),
            (Some(1_000_000), "1Gbit"),
            (Some(34_359_738), "34359Mbit"),
            (Some(34_359_739), "34359Mbit"),
            (Some(100_000_000), "100Gbit"),
            (None, "1Tbit"),
        ];
        for (kbps, ceiling) in rates {
            let root = queues.apply(&shaper(kbps)).await.unwrap();
            assert!(matches!(root, Root::Ours { upstream_kbps, .. } if upstream_kbps == kbps));
            let classes = tc("class show dev wan");
            let ceilings = classes.matches(&format!("ceil {ceiling} ")).count();
            assert_eq!(ceilings, 5, "{kbps:?}: {classes}");
            // Nothing is left to change: a second handle finds the same.
            let before = shown();
            self::queues().apply(&shaper(kbps)).await.unwrap();
            assert_eq!(shown(), before);
        }
    });
}

#[test]
fn a_new_rate_loses_no_packet_and_no_counter() {
    alone(|| async {
        let server = server();
        let received = server.spawn(|| {
            let socket = UdpSocket::bind((SERVER, 7)).unwrap();
            setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20)).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(2)))
                .unwrap();
            let mut count = 0;
            while socket.recv(&mut [0; 2000]).is_ok() {
                count += 1;
            }
            count
        });
        thread::sleep(Duration::from_millis(200));
        let mut queues = queues();
        queues.apply(&shaper(50_000)).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        // The sender's namespace is that of the thread that starts it.
        let sender = thread::spawn(move || {
            let socket = socket(Queue::Video.classid());
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                socket.send(&[0; 1000]).unwrap();
                count += 1;
                thread::sleep(Duration::from_micros(300));
            }
            count
        });
        for round in 0..100 {
            let kbps = if round % 2 == 0 { 90_000 } else { 50_000 };
            queues.apply(&shaper(kbps)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.store(true, Ordering::Relaxed);
        let sent: u64 = sender.join().unwrap();
        assert!(sent > 1_000, "{sent}");
        assert_eq!(received.join().unwrap(), sent);
        let video = &classes(&queues).await["video"];
        assert_eq!((video.packets, video.drops), (sent, 0));
    });
}

#[test]
fn a_foreign_root_is_left_alone() {
    alone(|| async {
        let _server = server();
        let mut queues = queues();
        for (command, kind) in [
            ("htb default 10", "htb"),
            ("handle 8001: tbf rate 1mbit burst 10k latency 50ms", "tbf"),
            ("handle 71d: tbf rate 1mbit burst 10k latency 50ms", "tbf"),
        ] {
            tc(&format!("qdisc replace dev wan root {command}"));
            let before = tc("qdisc show dev wan");
            let foreign = Root::Foreign {
                kind: kind.to_owned(),
            };
            assert_eq!(queues.apply(&shaper(40_000)).await.unwrap(), foreign);
            queues.remove("wan").await.unwrap();
            queues.remove_all().await.unwrap();
            assert_eq!(tc("qdisc show dev wan"), before);
            let status = queues.status("wan").await.unwrap().unwrap();
            assert_eq!(
                (status.kind.as_str(), status.owner.as_str()),
                (kind, "foreign")
            );
            assert!(status.classes.is_empty());
            tc("qdisc del dev wan root");
        }
        // An ingress qdisc (SQM has one for download) is no root.
        tc("qdisc add dev wan ingress");
        assert!(matches!(
            queues.apply(&shaper(40_000)).await.unwrap(),
            Root::Ours { .. }
        ));
        assert!(tc("qdisc show dev wan").contains("qdisc ingress ffff:"));
    });
}

#[test]
fn removal_restores_the_default() {
    alone(|| async {
        let _server = server();
        let mut queues = queues();
        let before = tc("qdisc show dev wan");
        assert_eq!(queues.status("wan").await.unwrap(), None);
        queues.apply(&shaper(40_000)).await.unwrap();
        queues.remove("wan").await.unwrap();
        assert_eq!(tc("qdisc show dev wan"), before);
        queues.remove("wan").await.unwrap();
        queues.remove("wan7").await.unwrap();

        ip("link add other type veth");
        queues.apply(&shaper(40_000)).await.unwrap();
        queues
            .apply(&Shaper {
                device: "other".to_owned(),
                upstream_kbps: None,
            })
            .await
            .unwrap();
        queues.remove_all().await.unwrap();
        assert!(!tc("qdisc show").contains("71d:"));
        assert_eq!(tc("qdisc show dev wan"), before);
    });
}

#[test]
fn a_missing_device_is_named() {
    alone(|| async {
        let mut queues = queues();
        let error = queues.apply(&shaper(40_000)).await.unwrap_err();
        assert!(matches!(error, Error::NoDevice { .. }));
        assert_eq!(error.to_string(), "there is no device wan");
        assert!(matches!(
            queues.status("wan").await,
            Err(Error::NoDevice { .. })
        ));
        let long = Shaper {
            device: "a-name-of-16-char".to_owned(),
            upstream_kbps: None,
        };
        let error = queues.apply(&long).await.unwrap_err().to_string();
        assert!(
            error.starts_with("looking up the index of a-name-of-16-char: "),
            "{error}"
        );
    });
}

#[test]
fn a_damaged_tree_is_mended() {
    alone(|| async {
        let _server = server();
        let mut queues = queues();
        queues.apply(&shaper(40_000)).await.unwrap();
        let whole = shown();
        send_to_each();
        for damage in [
            "qdisc del dev wan parent 71d:20",
            "qdisc replace dev wan parent 71d:20 bfifo",
            "class change dev wan parent 71d:1 classid 71d:20 htb rate 1mbit",
        ] {
            tc(damage);
            queues.apply(&shaper(40_000)).await.unwrap();
            let mended = shown();
            assert_eq!(mended, whole, "{damage}");
        }
        assert_eq!(packets(&queues).await, [10, 20, 30, 40]);

        tc("qdisc del dev wan parent 71d:20");
        tc("class del dev wan classid 71d:20");
        queues.apply(&shaper(40_000)).await.unwrap();
        let mended = shown();
        assert_eq!(mended, whole);
        assert_eq!(packets(&queues).await, [10, 0, 30, 40]);

        // A root of ours with another layout.
        tc("qdisc del dev wan root");
        tc("qdisc add dev wan root handle 71d: htb default 99");
        queues.apply(&shaper(40_000)).await.unwrap();
        let mended = shown();
        assert_eq!(mended, whole);
    });
}

#[test]
fn a_device_may_be_down_and_change_its_mtu() {
    alone(|| async {
        let _server = server();
        let mut queues = queues();
        ip("link set wan down");
        assert!(matches!(
            queues.apply(&shaper(40_000)).await.unwrap(),
            Root::Ours { .. }
        ));
        ip("link set wan up");
        ip("link set wan mtu 9000");
        queues.apply(&shaper(40_000)).await.unwrap();
        thread::sleep(Duration::from_millis(500));
        let before = packets(&queues).await[0];
        let socket = socket(Queue::Latency.classid());
        while socket.send(&[0; 8900]).is_err() {}
        thread::sleep(Duration::from_millis(100));
        let latency = &classes(&queues).await["latency"];
        assert_eq!((latency.packets - before, latency.drops), (1, 0));
    });
}

/// Receives whatever comes by TCP until all senders are gone.
fn sink(flows: usize) -> u64 {
    let listener = TcpListener::bind((SERVER, 5001)).unwrap();
    let readers: Vec<_> = (0..flows)
        .map(|_| {
            let (mut stream, _) = listener.accept().unwrap();
            thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                let mut bytes = 0;
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    bytes += read as u64;
                }
                bytes
            })
        })
        .collect();
    readers
        .into_iter()
        .map(|reader| reader.join().unwrap())
        .sum()
}

/// Sends by TCP until told to stop.
fn flood(flows: usize, stop: &Arc<AtomicBool>) -> Vec<thread::JoinHandle<()>> {
    let flow = || {
        let stop = Arc::clone(stop);
        let mut stream = connect();
        stream
            .set_write_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let _ = stream.write(&[0; 1 << 16]);
            }
        })
    };
    (0..flows).map(|_| flow()).collect()
}

fn connect() -> TcpStream {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match TcpStream::connect((SERVER, 5001)) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Bytes and packets (a GSO packet is one) that left by `wan`, both of one moment.
fn transmitted() -> (u64, u64) {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = table
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("wan:"));
    let mut sent = line.unwrap().split_whitespace().skip(8);
    let mut next = || sent.next().unwrap().parse().unwrap();
    (next(), next())
}

/// While four TCP flows send as much as they can: the share of this rate that leaves, and bytes a packet.
fn upload(server: &Machine, kbps: u64) -> (f64, u64) {
    let sink = server.spawn(|| sink(4));
    let stop = Arc::new(AtomicBool::new(false));
    let senders = flood(4, &stop);
    thread::sleep(Duration::from_millis(500));
    let (start, before) = (Instant::now(), transmitted());
    thread::sleep(Duration::from_secs(1));
    let (elapsed, after) = (start.elapsed(), transmitted());
    stop.store(true, Ordering::Relaxed);
    senders
        .into_iter()
        .for_each(|sender| sender.join().unwrap());
    sink.join().unwrap();
    let bytes = after.0 - before.0;
    let share = bytes as f64 * 8.0 / elapsed.as_secs_f64() / (kbps as f64 * 1e3);
    (share, bytes / (after.1 - before.1))
}

#[test]
fn tcp_leaves_in_single_packets_and_not_above_the_rate() {
    alone(|| async {
        let server = server();
        let mut queues = queues();
        for kbps in [5_000, 40_000, 200_000, 500_000] {
            queues.apply(&shaper(kbps)).await.unwrap();
            let (share, average) = upload(&server, kbps);
            println!("{kbps} kbit/s: {share:.3} of it, {average} bytes a packet");
            assert!(share < 1.05, "{kbps} kbit/s: {share}");
            let largest = 1514.max(kbps * 125 / 10_000);
            assert!(
                average <= largest,
                "{kbps} kbit/s: {average} bytes a packet"
            );
        }
    });
}

#[test]
fn a_call_overtakes_an_upload_that_waits() {
    alone(|| async {
        /// At 2 Mbit/s, more than a second's worth.
        const WAITING: usize = 200;
        let server = server();
        let mut queues = queues();
        queues.apply(&shaper(2_000)).await.unwrap();
        let order = server.spawn(|| {
            let socket = UdpSocket::bind((SERVER, 7)).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(2)))
                .unwrap();
            let mut buffer = [0; 1500];
            let mut order = Vec::new();
            while socket.recv(&mut buffer).is_ok() {
                order.push(buffer[0]);
            }
            order
        });
        wait_for_socket(&server);
        let (upload, call) = (
            socket(Queue::Standard.classid()),
            socket(Queue::Latency.classid()),
        );
        for _ in 0..WAITING {
            upload.send(&[b'u'; 1400]).unwrap();
        }
        call.send(b"c").unwrap();
        let order = order.join().unwrap();
        let place = order.iter().position(|kind| *kind == b'c').unwrap();
        // Some left before the call was made; none of those that still waited came before it.
        assert!(place < order.len() / 2, "{place} of {}", order.len());
        let classes = classes(&queues).await;
        assert_eq!(
            (classes["latency"].packets, classes["latency"].drops),
            (1, 0)
        );
    });
}

/// Waits until somebody listens for datagrams at the server.
fn wait_for_socket(server: &Machine) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !server.run("ss -Huln").contains(":7 ") {
        assert!(Instant::now() < deadline, "nobody listens");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn each_queue_has_its_share_and_lends_it_by_priority() {
    alone(|| async {
        let _server = server();
        let mut queues = queues();
        queues.apply(&shaper(20_000)).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        // Each wants all of it.
        let send = |queue: Queue| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let socket = socket(queue.classid());
                while !stop.load(Ordering::Relaxed) {
                    // Waits while its send buffer is full of packets that are queued.
                    let _ = socket.send(&[0; 1400]);
                }
            })
        };
        let senders: Vec<_> = [Queue::Video, Queue::Standard, Queue::Background]
            .into_iter()
            .map(send)
            .collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = classes(&queues).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = classes(&queues).await;
        stop.store(true, Ordering::Relaxed);
        senders
            .into_iter()
            .for_each(|sender| sender.join().unwrap());
        let bytes = Queue::ALL.map(|queue| after[queue.name()].bytes - before[queue.name()].bytes);
        let total: u64 = bytes.iter().sum();
        let shares = bytes.map(|bytes| bytes as f64 / total as f64);
        println!("shares {shares:.2?}");
        // Latency is idle, and the first after it takes its 25 hundredths.
        assert!((0.44..0.56).contains(&shares[1]), "{shares:?}");
        assert!((0.34..0.46).contains(&shares[2]), "{shares:?}");
        assert!((0.06..0.14).contains(&shares[3]), "{shares:?}");
    });
}
