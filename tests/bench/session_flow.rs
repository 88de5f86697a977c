//! How fast a flow with a session is forwarded, and whether the number of sessions matters.

use super::lab::Home;
use super::lab::home::Device;
use super::linear;
use super::rounds::{Rates, Variant};
use super::row::{Row, note};
use super::sessions::{self, PHONE_PORT, SERVER_PORT};
use super::site::{Flow, Site, To};

const BLOCKS: usize = 15;

const FLOW: Flow = Flow {
    device: Device::Phone,
    device_port: PHONE_PORT,
    server_port: SERVER_PORT,
    to: To::Internet,
};

pub fn measure() {
    let bare = Site::bare(Home::without_modem());
    let agents = [1, 256, 1000].map(|count| Site::with_marks(&sessions::with_ports(count)));
    let hundred = Site::with_marks(&sessions::with_ports(100));
    let rules: Vec<_> = [100, 256, 1000]
        .into_iter()
        .flat_map(|count| [("in the middle", count, count / 2), ("last", count, count)])
        .map(|(where_, count, place)| {
            let site = Site::bare(Home::without_modem());
            linear::install(&site.home.router, count, place);
            (where_, count, site)
        })
        .collect();

    let mut sites = vec![&bare, &agents[0], &agents[1], &agents[2], &hundred];
    let first_rule = sites.len();
    sites.extend(rules.iter().map(|(_, _, site)| site));
    let variants: Vec<_> = sites
        .into_iter()
        .map(|site| Variant { site, flow: FLOW })
        .collect();
    let rates = Rates::measure(BLOCKS, &variants);

    let names = ["1 session", "256 sessions", "1000 sessions"];
    for (number, name) in names.iter().enumerate() {
        let what = format!("forwarding, flow with session, {name}, against no agent");
        rates.row(&what, 1 + number, 0).print();
    }
    let medians: Vec<_> = (1..=3).map(|variant| rates.median(variant)).collect();
    let fastest = (1..=3).max_by(|a, b| rates.median(*a).total_cmp(&rates.median(*b)));
    let slowest = (1..=3).min_by(|a, b| rates.median(*a).total_cmp(&rates.median(*b)));
    let spread = rates.ratio(fastest.unwrap(), slowest.unwrap());
    let shown: Vec<_> = medians
        .iter()
        .map(|m| format!("{:.0}", m / 1000.0))
        .collect();
    Row::new(
        "forwarding, flow with session, 1 / 256 / 1000 sessions",
        format!("{} kpps", shown.join(" / ")),
    )
    .ratio(format!("max/min {spread}"))
    .promised("at most 1.15", spread.median() <= 1.15)
    .print();
    for (number, (where_, count, _)) in rules.iter().enumerate() {
        let what = format!(
            "forwarding, flow with session, {count} sessions, against {count} rules, {where_}"
        );
        let agent = match count {
            100 => 4,
            256 => 2,
            _ => 3,
        };
        let row = rates.row(&what, agent, first_rule + number);
        let held = rates.ratio(agent, first_rule + number).median() > 1.0;
        row.promised("above 1", held).print();
    }
    note(
        "flow with session: all sessions have ports and stand in one map. The rules are one per session at \
         the same hook, for IPv4 and upstream alone, ended by the one that matches",
    );
}
