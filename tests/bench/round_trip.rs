//! The session's round trip while another device fills the upstream.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::lab::bulk::{Bulk, Sink};
use super::lab::delay::{Delay, Echo, Probe};
use super::lab::home::{LAPTOP_V4, PHONE_V4, Router, server_v4};
use super::lab::prompt::prompt_here;
use super::lab::{Home, Modem};
use super::row::{Row, note};
use super::sessions::{self, PHONE_PORT, SERVER_PORT};
use super::site::Site;

const PROBES: u32 = 2500;
const UPSTREAM_KBPS: u32 = 20_000;
/// Until the modem's buffer is full.
const FILL: Duration = Duration::from_secs(3);

pub fn measure() {
    let bare = Site::bare(home());
    let idle = probe(&bare.home, PROBES);
    let full = loaded(&bare.home, 500);
    drop(bare);
    let instructions = json!({
        "queues": "auto", "link": { "upstreamKbps": UPSTREAM_KBPS },
        "sessions": sessions::with_ports(1),
    });
    let agent = Site::with_agent(home(), &instructions);
    let calm = probe(&agent.home, PROBES);
    let session = loaded(&agent.home, PROBES);

    let what = "round trip on a full upstream";
    Row::new(format!("{what}, no agent, p50"), millis(full.p50))
        .baseline(format!("idle p50 {}", millis(idle.p50)))
        .promised("at least 100 ms", full.p50 >= Duration::from_millis(100))
        .print();
    for (name, time, base_name, base, limit) in [
        ("p50", session.p50, "p50", idle.p50, None),
        ("p99", session.p99, "p50", idle.p50, Some(1)),
        ("max", session.max, "p50", idle.p50, Some(5)),
    ] {
        let more = time.as_secs_f64() - base.as_secs_f64();
        let row = Row::new(format!("{what}, with session, {name}"), millis(time))
            .baseline(format!("idle {base_name} {}", millis(base)))
            .ratio(format!("+{:.2} ms", more * 1000.0));
        match limit {
            None => row,
            Some(limit) => row.promised(
                format!("at most idle + {limit} ms"),
                more * 1000.0 <= f64::from(limit),
            ),
        }
        .print();
    }
    note(format!(
        "round trip: {PROBES} probes of 100 bytes, one every 4 ms, against the median of an idle line \
         without agent (p99 {}, max {}; with agent and idle p99 {}, max {}); 8 TCP flows (cubic) of the \
         laptop, shaper {} Mbit/s, modem 5 % faster with 1 MB of buffer; {} of {PROBES} lost",
        millis(idle.p99),
        millis(idle.max),
        millis(calm.p99),
        millis(calm.max),
        UPSTREAM_KBPS / 1000,
        session.lost,
    ));
}

fn home() -> Home {
    let modem = Modem::default();
    assert_eq!(modem.upstream_kbit, UPSTREAM_KBPS * 105 / 100);
    Home::build(
        &super::lab::netns::new_group(),
        Some(modem),
        Router::Namespace,
    )
}

fn loaded(home: &Home, probes: u32) -> Delay {
    let sink_at = SocketAddr::new(server_v4(2).into(), 5001);
    let _sink = Sink::start(&home.internet, sink_at);
    let _bulk = Bulk::start(&home.laptop, LAPTOP_V4.into(), sink_at, 8);
    thread::sleep(FILL);
    probe(home, probes)
}

fn probe(home: &Home, count: u32) -> Delay {
    let server = SocketAddr::new(IpAddr::from(server_v4(1)), SERVER_PORT);
    // Echo and probe may not wait for a processor behind the load that they measure beside.
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            prompt_here();
            let _echo = Echo::start(&home.internet, server);
            Probe {
                count,
                interval: Duration::from_millis(4),
                ..Probe::new(SocketAddr::new(PHONE_V4.into(), PHONE_PORT), server)
            }
            .run(&home.phone)
        });
        thread.join().unwrap()
    })
}

fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}
