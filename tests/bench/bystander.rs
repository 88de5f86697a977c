//! What the agent costs a flow that has no session.

use serde_json::json;

use super::lab::Home;
use super::lab::home::Device;
use super::rounds::{Rates, Variant};
use super::row::note;
use super::sessions;
use super::site::{FLOOD_PORT, Flow, Site, To};

const BLOCKS: usize = 15;

/// A device without any session.
const LAPTOP: Flow = Flow {
    device: Device::Laptop,
    device_port: 7000,
    server_port: FLOOD_PORT,
    to: To::Internet,
};
/// Another flow of the device that has the sessions.
const PHONE: Flow = Flow {
    device: Device::Phone,
    ..LAPTOP
};

pub fn measure() {
    marks();
    queues();
}

fn marks() {
    let bare = Site::bare(Home::without_modem());
    let again = Site::bare(Home::without_modem());
    let held: Vec<_> = [0, 256, 1000]
        .map(|count| (count, Site::with_marks(&sessions::spread(count))))
        .into();
    let mut variants: Vec<(&Site, Flow)> = vec![(&bare, LAPTOP), (&again, LAPTOP), (&bare, PHONE)];
    for (_, site) in &held {
        variants.extend([(site, LAPTOP), (site, PHONE)]);
    }
    let rates = rates(&variants);
    rates
        .row("forwarding, a second home without agent", 1, 0)
        .print();
    for (number, (count, _)) in held.iter().enumerate() {
        let what = format!("forwarding, device without session, {count} sessions");
        rates.promise(&what, 3 + 2 * number, 0, 0.95).print();
    }
    for (number, (count, _)) in held.iter().enumerate().skip(1) {
        let what = format!("forwarding, other flow of a device with session, {count} sessions");
        rates.row(&what, 4 + 2 * number, 2).print();
    }
    note(
        "forwarding: packets of 18 bytes of payload from a device through bridge, NAT and WAN, queues off; \
         packets per second of processor time of the router, the sender's taken off; the ratio is the \
         median of fifteen blocks' ratios, and how far that would stray in 95 of 100 repetitions. The second \
         home says what the method itself is worth",
    );
}

fn queues() {
    let bare = Site::bare(Home::without_modem());
    let queued = Site::bare(Home::without_modem());
    queued
        .home
        .router
        .tc("qdisc add dev wan root pfifo limit 1000\n");
    let instructions = json!({ "queues": "auto", "sessions": sessions::spread(256) });
    let agent = Site::with_agent(Home::without_modem(), &instructions);
    let root = agent
        .home
        .router
        .output("tc", &["qdisc", "show", "dev", "wan"]);
    assert!(root.starts_with("qdisc htb 71d:"), "{root}");
    let rates = rates(&[(&bare, LAPTOP), (&queued, LAPTOP), (&agent, LAPTOP)]);
    let what = "forwarding, device without session, HTB at line rate";
    rates
        .row(&format!("{what}, against no qdisc"), 2, 0)
        .print();
    rates.row(&format!("{what}, against pfifo"), 2, 1).print();
    note(
        "HTB at line rate: no rate is known. A virtual cable has no qdisc at all (noqueue), a real port \
         has at least a FIFO; so the HTB tree stands against both",
    );
}

fn rates(variants: &[(&Site, Flow)]) -> Rates {
    let variants: Vec<_> = variants
        .iter()
        .map(|&(site, flow)| Variant { site, flow })
        .collect();
    Rates::measure(BLOCKS, &variants)
}
