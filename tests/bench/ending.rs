//! When marks end if nobody is left to end them.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::lab::home::{Device, server_v4};
use super::lab::prompt::prompt_here;
use super::lab::{Capture, Home, send};
use super::row::{Row, note};
use super::sample::Sample;
use super::sessions::{self, SERVER_PORT};
use super::site::Site;

const SESSIONS: u16 = 20;
const FIRST_PORT: u16 = 6000;
/// Of the first session; each other one runs a little longer.
const TIME: Duration = Duration::from_millis(1500);
const STEP: Duration = Duration::from_millis(37);

pub fn measure() {
    let mut site = Site::with_agent(
        Home::without_modem(),
        &json!({ "queues": "off", "sessions": [] }),
    );
    let capture = Capture::start(&site.home.internet, "eth0");
    let script = site.script.as_ref().unwrap();
    let ordered = now();
    let list: Vec<_> = (0..SESSIONS).map(session).collect();
    let revision = script.serve_sessions(&list);
    script.wait_revision(revision);
    site.agent.as_mut().unwrap().process.kill();
    let killed = now();
    let end = ordered + time_of(SESSIONS - 1) + Duration::from_millis(500);
    send_until(&site.home, end);

    let packets = capture.packets();
    let late: Vec<_> = (0..SESSIONS)
        .map(|number| {
            let mine = packets
                .iter()
                .filter(|p| p.ports == Some((FIRST_PORT + number, SERVER_PORT)));
            let marked = mine.filter(|p| p.dscp == 46).map(|p| p.time);
            let last = marked
                .max()
                .unwrap_or_else(|| panic!("{number}: never marked"));
            assert!(last > killed, "{number}: ended before the agent was killed");
            (last.as_secs_f64() - (ordered + time_of(number)).as_secs_f64()) * 1000.0
        })
        .collect();
    let late = Sample::new(late);
    Row::new(
        "agent killed: last mark after the promised end",
        format!("{:+.0} ms, worst {:+.0} ms", late.median(), late.max()),
    )
    .promised(
        "at most 1000 ms",
        late.max() <= 1000.0 && late.min() >= -1000.0,
    )
    .print();
    note(format!(
        "agent killed: {SESSIONS} sessions, SIGKILL {:.0} ms after the order, a packet of each every \
         millisecond; the promised end is the order's time plus expiresIn",
        (killed - ordered).as_secs_f64() * 1000.0
    ));
}

fn time_of(number: u16) -> Duration {
    TIME + STEP * u32::from(number)
}

fn session(number: u16) -> Value {
    let mut session = sessions::with_ports(1).remove(0);
    session["sessionId"] = format!("ending-{number}").into();
    session["expiresIn"] = time_of(number).as_secs_f64().into();
    session["devicePorts"] = json!({ "ports": [FIRST_PORT + number] });
    session
}

/// A packet of every session each millisecond.
fn send_until(home: &Home, end: Duration) {
    home.phone.run(|| {
        prompt_here();
        let to = SocketAddr::new(server_v4(1).into(), SERVER_PORT);
        let from = |port| SocketAddr::new(Device::Phone.address_towards(to.ip()), port);
        let sockets: Vec<_> = (0..SESSIONS)
            .map(|number| send::udp_socket(from(FIRST_PORT + number), 0))
            .collect();
        while now() < end {
            for socket in &sockets {
                // Nobody listens, and says so.
                let _ = socket.send_to(b".", to);
            }
            thread::sleep(Duration::from_millis(1));
        }
    });
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}
