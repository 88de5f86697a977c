//! From the answer to an order to the first marked packet, through backend and agent.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::lab::folder::Folder;
use super::lab::home::{PHONE_V4, PHONE_V6, WAN_V4, server_v4};
use super::lab::packet::Way;
use super::lab::prompt::prompt_here;
use super::lab::{Agent, Backend, Capture, Home, Packet, send, wait};
use super::row::{Row, note};
use super::sample::Sample;
use super::sessions::{PHONE_PORT, SERVER_PORT};

const ORDERS: usize = 100;
const PROFILE: &str = "BENCH_E";
const BACKEND_PORT: u16 = 8443;
/// Beyond the time in which the agent gathers changes.
const PAUSE: Duration = Duration::from_millis(170);
/// A TCP segment of this length carries an answer, and not only an acknowledgement.
const SEGMENT: usize = 100;

pub fn measure() {
    let home = Home::without_modem();
    let listen = SocketAddr::new(server_v4(20).into(), BACKEND_PORT);
    let folder = Folder::new();
    // Without rates: what is measured is the way of an order, whatever an agent makes of a limit.
    let profiles = json!({ "profiles": [{
        "name": PROFILE, "status": "ACTIVE", "dscp": "EF",
        "minDuration": { "value": 1, "unit": "Seconds" },
        "maxDuration": { "value": 1, "unit": "Hours" },
    }] });
    let profiles = folder.write("profiles.json", profiles.to_string());
    let backend = Backend::start(&home.internet, listen, &json!({ "profilesFile": profiles }));
    let token = provision(&backend);
    let mut config = backend.agent_config("home-0001");
    config["pollWaitSeconds"] = 50.into();
    config["reportIntervalSeconds"] = 60.into();
    let agent = Agent::start(&home.router, &config);
    wait::expect("the agent is connected", Duration::from_secs(10), || {
        let state = backend.admin("GET", "/agents/home-0001", &Value::Null).body;
        (state["connected"] == true).then_some(())
    });

    let stop = AtomicBool::new(false);
    let times = thread::scope(|scope| {
        scope.spawn(|| send_until(&home, &stop));
        let _end = Stop(&stop);
        let times: Vec<_> = (0..ORDERS)
            .map(|_| order(&home, &backend, &agent, &token))
            .collect();
        times
    });
    let column = |pick: fn(&Times) -> f64| Sample::new(times.iter().map(pick));
    let marked = column(|t| t.marked);
    let show = |s: &Sample| {
        format!(
            "p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            s.median(),
            s.percentile(99),
            s.max()
        )
    };
    Row::new("POST answered to first marked packet", show(&marked))
        .promised(
            "p99 at most 50 ms (aim: 10 ms)",
            marked.percentile(99) <= 50.0,
        )
        .print();
    Row::new(
        "POST answered to instructions sent to the agent",
        show(&column(|t| t.instructed)),
    )
    .print();
    Row::new(
        "instructions sent to first marked packet",
        show(&column(|t| t.marked - t.instructed)),
    )
    .print();
    Row::new("POST sent to its answer", show(&column(|t| t.post))).print();
    note(format!(
        "POST: {ORDERS} orders over TLS, each ended again, a packet of the flow about every 0.2 ms; \
         kernel times of capture on the internet host; below zero: before the answer"
    ));
}

/// Milliseconds; all but `post` from when the answer was read.
struct Times {
    post: f64,
    instructed: f64,
    marked: f64,
}

fn provision(backend: &Backend<'_>) -> String {
    let home = json!({
        "agentIds": ["home-0001"], "prefixes": [format!("{WAN_V4}/32"), "2001:db8:1::/64"],
        "link": { "upstreamKbps": 20000, "downstreamKbps": 200_000 }, "consumers": "all",
    });
    let answer = backend.admin("PUT", "/homes/home-0001", &home);
    assert!(answer.status < 300, "{}", answer.text);
    let scope = "qod-sessions-write qod-sessions-read qod-sessions-delete";
    let scopes: Vec<_> = scope.split(' ').collect();
    let answer = backend.admin(
        "PUT",
        "/consumers/video-calls",
        &json!({ "scopes": scopes }),
    );
    assert!(answer.status < 300, "{}", answer.text);
    backend.token(
        "video-calls",
        answer.body["clientSecret"].as_str().unwrap(),
        scope,
    )
}

fn order(home: &Home, backend: &Backend<'_>, agent: &Agent, token: &str) -> Times {
    let capture = Capture::start(&home.internet, "eth0");
    let session = json!({
        "device": {
            "ipv4Address": { "publicAddress": WAN_V4, "privateAddress": PHONE_V4 },
            "ipv6Address": PHONE_V6 },
        "applicationServer": { "ipv4Address": "198.51.100.0/28", "ipv6Address": "2001:db8:2::/64" },
        "devicePorts": { "ranges": [{ "from": PHONE_PORT, "to": PHONE_PORT + 10 }] },
        "applicationServerPorts": { "ports": [SERVER_PORT] },
        "qosProfile": PROFILE, "duration": 600,
    });
    let sent = now();
    let answer = backend.call(token, "POST", "/qod/v0/sessions", &session);
    let answered = answer.at.duration_since(UNIX_EPOCH).unwrap();
    let body = answer.expect(201);
    let ours = |p: &Packet| p.ports == Some((PHONE_PORT, SERVER_PORT));
    let marked = capture
        .wait_for(Duration::from_secs(2), |p| ours(p) && p.dscp == 46)
        .unwrap_or_else(|| {
            let status = agent.status(&home.router);
            panic!("never marked; the agent says {status:?}")
        });
    let instructed = capture.expect("instructions to the agent", |p| {
        p.way == Way::Out
            && p.ports.is_some_and(|(from, _)| from == BACKEND_PORT)
            && p.length > SEGMENT
            && p.time > sent
    });
    drop(capture);
    thread::sleep(PAUSE);
    let path = format!("/qod/v0/sessions/{}", body["sessionId"].as_str().unwrap());
    backend
        .call(token, "DELETE", &path, &Value::Null)
        .expect(204);
    thread::sleep(PAUSE);
    let since = |time: Duration| (time.as_secs_f64() - answered.as_secs_f64()) * 1000.0;
    Times {
        post: -since(sent),
        instructed: since(instructed.time),
        marked: since(marked.time),
    }
}

/// Ends the sender with the orders, also by a panic.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn send_until(home: &Home, stop: &AtomicBool) {
    home.phone.run(|| {
        prompt_here();
        let to = SocketAddr::new(IpAddr::from(server_v4(1)), SERVER_PORT);
        let socket = send::udp_socket(SocketAddr::new(PHONE_V4.into(), PHONE_PORT), 0);
        while !stop.load(Ordering::Relaxed) {
            // Nobody listens, and says so.
            let _ = socket.send_to(b".", to);
            thread::sleep(Duration::from_micros(150));
        }
    });
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}
