//! Traffic that stays inside of the home.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::lab::Home;
use super::lab::bulk::{Bulk, Sink};
use super::lab::home::{Device, LAPTOP_V4, PHONE_V4};
use super::rounds::{Rates, Variant};
use super::row::{Row, note};
use super::sample::Sample;
use super::sessions;
use super::site::{FLOOD_PORT, Flow, Site, To};

const BLOCKS: usize = 12;
const TCP_BLOCKS: usize = 9;
const TCP_BLOCK: usize = 6;

const FLOW: Flow = Flow {
    device: Device::Phone,
    device_port: 7000,
    server_port: FLOOD_PORT,
    to: To::Laptop,
};
/// The other way: the sender is the device without session.
const BACK: Flow = Flow {
    device: Device::Laptop,
    to: To::Phone,
    ..FLOW
};

pub fn measure() {
    let bare = Site::bare(Home::without_modem());
    let all = sessions::spread(257);
    let instructions = |sessions: &[Value]| json!({ "queues": "auto", "link": { "upstreamKbps": 20_000 }, "sessions": sessions });
    let agent = Site::with_agent(Home::without_modem(), &instructions(&all[..256]));
    // Without the first one neither of the two devices has a session.
    let others = Site::with_agent(Home::without_modem(), &instructions(&all[1..]));
    throughput(&bare, &agent);
    let variants = [
        (&bare, FLOW),
        (&agent, FLOW),
        (&others, FLOW),
        (&bare, BACK),
        (&agent, BACK),
    ]
    .map(|(site, flow)| Variant { site, flow });
    let rates = Rates::measure(BLOCKS, &variants);
    let what = "between two LAN devices, small packets";
    for (which, variant, base) in [
        ("neither has a session", 2, 0),
        ("from the device with session", 1, 0),
        ("to the device with session", 4, 3),
    ] {
        rates
            .promise(&format!("{what}, {which}"), variant, base, 0.95)
            .print();
    }
    note(
        "between two LAN devices: 256 sessions, HTB of 20 Mbit/s on the WAN; a session is with a \
         server in the internet",
    );
}

/// Two homes in turn, so that whatever else the machine does meets both; the fastest of each block
/// counts, since all that can happen to a flow makes it slower.
fn throughput(bare: &Site, agent: &Site) {
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..TCP_BLOCKS {
        let mut fastest = [0.0, 0.0];
        for _ in 0..TCP_BLOCK {
            for (site, fastest) in [bare, agent].into_iter().zip(&mut fastest) {
                *fastest = tcp(&site.home).max(*fastest);
            }
        }
        for (rates, fastest) in rates.iter_mut().zip(fastest) {
            rates.push(fastest);
        }
    }
    let [without, with] = rates;
    let ratio = Sample::ratio(&with, &without);
    let gigabit = |rates: Vec<f64>| format!("{:.1} Gbit/s", Sample::new(rates).median() / 1e9);
    let held = ratio.median() >= 0.95;
    Row::new("between two LAN devices, one TCP flow", gigabit(with))
        .baseline(gigabit(without))
        .ratio(ratio)
        .promised("at least 0.95", held)
        .print();
}

fn tcp(home: &Home) -> f64 {
    let at = SocketAddr::new(LAPTOP_V4.into(), 5001);
    let sink = Sink::start(&home.laptop, at);
    let _bulk = Bulk::start(&home.phone, PHONE_V4.into(), at, 1);
    // Until the window is open.
    thread::sleep(Duration::from_millis(50));
    sink.rate(Duration::from_millis(100))
}
