//! The status server against clients that are slow, many or broken: who asks properly is answered soon,
//! the agent goes on with its work, and nothing is left behind.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod lab;

use std::collections::VecDeque;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lab::home::{Device, server_v4};
use lab::netns::Netns;
use lab::{Agent, Exchange, Home, Observer, Script, agent, wait};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::{Value, json};

const EF: u8 = 46;
const MANY: usize = 200;
/// Within this time a proper client is answered, whatever the others do.
const SOON: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(10);
const LOOPBACK: &str = "127.0.0.1:8742";
const ON_THE_LAN: &str = "192.168.1.1:8742";
const TOKEN: &str = "status-token-0001";

fn session() -> Value {
    json!({ "sessionId": "a", "dscp": EF, "expiresIn": 600,
        "device": { "ipv4Address": "192.168.1.23" }, "applicationServer": { "ipv4Address": "198.51.100.5" } })
}

/// An agent with a session in force.
fn start(home: &Home, bend: impl FnOnce(&mut Value), sessions: &[Value]) -> (Script, Agent) {
    let script = Script::start(&home.internet, SocketAddr::new(server_v4(19).into(), 8080));
    let mut config = agent::config(&script.url());
    bend(&mut config);
    let agent = Agent::start(&home.router, &config);
    let revision = script.serve_sessions(sessions);
    let status = script.wait_revision(revision);
    assert_eq!(status["sessions"][0]["state"], "ACTIVE", "{status}");
    (script, agent)
}

fn connect(netns: &Netns, to: &str) -> TcpStream {
    let to: SocketAddr = to.parse().unwrap();
    netns.run(|| TcpStream::connect_timeout(&to, LIMIT).unwrap())
}

/// That many connections on each of which this is sent.
fn crowd(netns: &Netns, to: &str, say: &[u8]) -> Vec<TcpStream> {
    let to: SocketAddr = to.parse().unwrap();
    netns.run(|| {
        let one = |_| {
            let mut stream = TcpStream::connect_timeout(&to, LIMIT).unwrap();
            // It may have been replaced already.
            let _ = stream.write_all(say);
            stream
        };
        (0..MANY).map(one).collect()
    })
}

fn descriptors(agent: &Agent) -> usize {
    fs::read_dir(format!("/proc/{}/fd", agent.process.pid()))
        .unwrap()
        .count()
}

/// The answer to a request; empty if there is none.
fn answer(mut stream: TcpStream, request: &str) -> String {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut answer = Vec::new();
    let _ = stream.write_all(request.as_bytes());
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(token: &str) -> String {
    format!("GET /v1/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n")
}

/// Asks again and again while `others` are there, and looks whether the agent does its work.
fn expect_good_service(home: &Home, script: &Script, agent: &Agent) {
    for _ in 0..3 {
        let begun = Instant::now();
        let status = agent.status(&home.router);
        let took = begun.elapsed();
        assert!(status.is_some(), "no answer after {took:?}");
        assert!(took < SOON, "answered after {took:?}");
    }
    let marks = Observer::start(home, Device::Phone)
        .udp(&Exchange::new(5010, server_v4(5), 33001))
        .dscp();
    assert_eq!(marks, (EF, EF));
    let reports = script.statuses().len();
    wait::expect("another report", LIMIT, || {
        (script.statuses().len() > reports).then_some(())
    });
}

fn expect_nothing_left(agent: &Agent, before: usize) {
    wait::expect("descriptors given back", LIMIT, || {
        // One connection to the backend more or less: the poll's may just be made anew.
        (descriptors(agent) <= before + 1).then_some(())
    });
}

/// Crowds on loopback, one kind after the other.
#[test]
fn broken_clients_are_in_nobodys_way() {
    let home = Home::without_modem();
    let (script, agent) = start(&home, |_| (), &[session()]);
    agent.status(&home.router).unwrap();
    let before = descriptors(&agent);
    let huge = format!("GET /v1/status HTTP/1.1\r\nX: {}", "x".repeat(64 * 1024));
    let pipelined = get("x").repeat(50);
    let garbage: Vec<u8> = (0..4096_u32).map(|n| (n * 7 % 251) as u8).collect();
    for say in [
        &b""[..],
        b"GET /v1/sta",
        b"GET /v1/status HTTP/1.1\r\nHost: x\r\n",
        &garbage,
        b"\r\n\r\n\r\n\r\n",
        huge.as_bytes(),
        pipelined.as_bytes(),
    ] {
        let crowd = crowd(&home.router, LOOPBACK, say);
        expect_good_service(&home, &script, &agent);
        drop(crowd);
        expect_nothing_left(&agent, before);
    }
}

#[test]
fn silent_clients_that_stay_are_sent_away() {
    let home = Home::without_modem();
    let (script, agent) = start(&home, |_| (), &[session()]);
    agent.status(&home.router).unwrap();
    let before = descriptors(&agent);
    let crowd = crowd(&home.router, LOOPBACK, b"GET ");
    expect_good_service(&home, &script, &agent);
    // They are all still there, and the agent has let go of them.
    expect_nothing_left(&agent, before);
    drop(crowd);
}

#[test]
fn a_byte_a_second_keeps_nobody_out() {
    let home = Home::without_modem();
    let (script, agent) = start(&home, |_| (), &[session()]);
    agent.status(&home.router).unwrap();
    let before = descriptors(&agent);
    let mut slow = crowd(&home.router, LOOPBACK, b"G");
    let (stop, stopped) = mpsc::channel::<()>();
    let trickle = thread::spawn(move || {
        for byte in b"ET /v1/status HTTP/1.1\r\n".iter().cycle() {
            for stream in &mut slow {
                let _ = stream.write_all(&[*byte]);
            }
            if stopped.recv_timeout(Duration::from_secs(1)) != Err(mpsc::RecvTimeoutError::Timeout)
            {
                return;
            }
        }
    });
    expect_good_service(&home, &script, &agent);
    expect_good_service(&home, &script, &agent);
    // Whoever trickles is sent away too.
    expect_nothing_left(&agent, before);
    drop(stop);
    trickle.join().unwrap();
}

#[test]
fn who_does_not_take_the_answer_keeps_nobody_out() {
    let home = Home::without_modem();
    // Most are refused, so that the answer is longer than the kernel keeps for a client.
    let mut sessions = vec![session()];
    sessions.extend((0..4_000).map(|number| {
        json!({ "sessionId": format!("wrong-{number}"), "dscp": 99, "device": { "ipv4Address": "192.168.1.23" } })
    }));
    let bend = |config: &mut Value| {
        config["maxSessions"] = json!(5_000);
        config["status"] = json!({ "listen": ON_THE_LAN, "token": TOKEN });
    };
    let (script, agent) = start(&home, bend, &sessions);
    agent.status(&home.router).unwrap();
    let before = descriptors(&agent);
    let ask = || {
        let mut stream = connect(&home.phone, ON_THE_LAN);
        setsockopt(&stream, sockopt::RcvBuf, &4096).unwrap();
        let _ = stream.write_all(get(TOKEN).as_bytes());
        stream
    };
    let one = ask();
    wait::expect("a connection", LIMIT, || {
        (descriptors(&agent) > before).then_some(())
    });
    let gone = || (descriptors(&agent) <= before).then_some(());
    assert_eq!(
        wait::until(SOON, gone),
        None,
        "the kernel keeps the whole answer"
    );
    expect_nothing_left(&agent, before);
    drop(one);

    let crowd: Vec<TcpStream> = (0..MANY).map(|_| ask()).collect();
    expect_good_service(&home, &script, &agent);
    expect_nothing_left(&agent, before);
    drop(crowd);
}

#[test]
fn what_is_asked_for_properly_is_answered_properly() {
    let home = Home::without_modem();
    let (_script, _agent) = start(&home, |_| (), &[session()]);
    let ask = |request: &str| answer(connect(&home.router, LOOPBACK), request);
    wait::expect("the server", LIMIT, || {
        ask(&get("x")).starts_with("HTTP/1.1 200 OK").then_some(())
    });
    // Only the first of several is answered, and the answer arrives whole.
    let pipelined = ask(&get("x").repeat(200));
    let (head, body) = pipelined.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert!(serde_json::from_str::<Value>(body).is_ok(), "{body}");
    // A head that is too long is refused, and the refusal arrives.
    let huge = format!(
        "GET /v1/status HTTP/1.1\r\nX: {}\r\n\r\n",
        "x".repeat(32 * 1024)
    );
    assert!(ask(&huge).starts_with("HTTP/1.1 400 "));
    assert!(ask("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    // A client that has sent all it will send is answered still.
    let mut half = connect(&home.router, LOOPBACK);
    half.write_all(get("x").as_bytes()).unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    assert!(answer(half, "").starts_with("HTTP/1.1 200 OK"));
}

/// A machine at home that connects as fast as it can, and says nothing; counts its connections.
struct Flood {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    fn start(netns: &Netns, to: &str) -> Self {
        let to: SocketAddr = to.parse().unwrap();
        let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let threads = (0..8).map(|_| {
            let (stop, made) = (Arc::clone(&stop), Arc::clone(&made));
            netns.spawn(move || connect_on_and_on(to, &stop, &made))
        });
        Self {
            threads: threads.collect(),
            stop,
            made,
        }
    }

    fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn connect_on_and_on(to: SocketAddr, stop: &AtomicBool, made: &AtomicUsize) {
    let mut held = VecDeque::new();
    while !stop.load(Ordering::Relaxed) {
        if let Ok(stream) = TcpStream::connect_timeout(&to, Duration::from_secs(1)) {
            held.push_back(stream);
            made.fetch_add(1, Ordering::Relaxed);
        }
        if held.len() > MANY {
            held.pop_front();
        }
    }
}

#[test]
fn a_flood_from_the_lan_locks_nobody_out() {
    let home = Home::without_modem();
    let bend = |config: &mut Value| {
        config["status"] = json!({ "listen": ON_THE_LAN, "token": TOKEN });
    };
    let (script, agent) = start(&home, bend, &[session()]);
    agent.status(&home.router).unwrap();
    let before = descriptors(&agent);
    let flood = Flood::start(&home.phone, ON_THE_LAN);
    wait::expect("the flood", LIMIT, || (flood.made() > MANY).then_some(()));
    let mut rounds = 0;
    while rounds < 3 || flood.made() < 5 * MANY {
        rounds += 1;
        expect_good_service(&home, &script, &agent);
        // Another machine at home, with the token and without.
        let good = answer(connect(&home.laptop, ON_THE_LAN), &get(TOKEN));
        assert!(good.starts_with("HTTP/1.1 200 OK"), "{good:?}");
        let bad = answer(connect(&home.laptop, ON_THE_LAN), &get("wrong-token-0001"));
        assert!(bad.starts_with("HTTP/1.1 401 "), "{bad:?}");
    }
    drop(flood);
    expect_nothing_left(&agent, before);
}
