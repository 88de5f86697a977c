//! A router that boots: the agent is started before there is a bridge, an uplink or a name server.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod lab;

use std::net::SocketAddr;
use std::time::Duration;

use lab::home::{Device, PHONE_MAC, PHONE_V4, WAN_V4, server_v4};
use lab::name::{Files, NameServer};
use lab::site::script_address;
use lab::{Agent, Exchange, Home, Observer, Script, agent, wait};
use serde_json::{Value, json};

const EF: u8 = 46;
const LIMIT: Duration = Duration::from_secs(10);
/// It has asked in vain for some time, and waits up to a minute.
const RECOVERY: Duration = Duration::from_secs(90);

fn codes(status: &Value) -> Vec<&str> {
    let warnings = status["warnings"].as_array().unwrap();
    let codes = warnings.iter().map(|warning| warning["code"].as_str());
    codes.map(Option::unwrap).collect()
}

#[test]
fn an_agent_that_is_there_first_waits_for_everything_else() {
    let home = Home::without_modem();
    let router = &home.router;
    let script = Script::start(&home.internet, script_address());
    let revision = script.serve_sessions(&[json!({ "sessionId": "a", "dscp": EF, "expiresIn": 600,
        "device": { "ipv4Address": PHONE_V4 }, "applicationServer": { "ipv4Address": "198.51.100.5" } })]);
    router.ip(
        "link del br-lan\nlink set lan1 down\nlink set wan down\nlink set wan name later\n\
         link set lo down\n",
    );
    // Nobody has written a name server into it yet.
    let names = |resolver| {
        let nsswitch = ("nsswitch.conf", "hosts: files dns\n");
        Files::new(router, &[nsswitch, ("resolv.conf", resolver)])
    };
    let _before = names("");
    router.ip("link set lo up\n");
    let mut config = agent::config("http://backend.test:8080");
    // What is there for queues is another matter.
    config["queues"] = json!("off");
    let mut agent = Agent::start(router, &config);
    let status = wait::expect("all that is missing", LIMIT, || {
        let status = agent.status(router)?;
        (codes(&status).len() == 3).then_some(status)
    });
    let mut missing = codes(&status);
    missing.sort_unstable();
    assert_eq!(missing, ["BACKEND_UNREACHABLE", "NO_LAN", "NO_WAN"]);
    assert!(agent.process.ended().is_none());

    router.ip(&format!(
        "link set later name wan up\n\
         addr replace {WAN_V4}/24 dev wan\n\
         neigh replace 203.0.113.1 lladdr 02:00:00:00:00:05 dev wan nud permanent\n\
         route replace default via 203.0.113.1\n\
         link add br-lan address 02:00:00:00:00:01 type bridge forward_delay 0 stp_state 0 mcast_snooping 0\n\
         link set lan1 master br-lan up\n\
         link set br-lan up\n\
         addr add 192.168.1.1/24 dev br-lan\n\
         neigh replace {PHONE_V4} lladdr {PHONE_MAC} dev br-lan nud reachable\n"
    ));
    let at = SocketAddr::new(server_v4(18).into(), 53);
    let _names = NameServer::start(&home.internet, at, server_v4(19));
    let _after = names("nameserver 198.51.100.18\n");
    script.wait_status("the session, and nothing missing", RECOVERY, |status| {
        status["revision"] == revision
            && status["sessions"][0]["state"] == "ACTIVE"
            && codes(status).is_empty()
    });
    let phone = Observer::start(&home, Device::Phone);
    let flow = Exchange::new(5010, server_v4(5), 33001);
    assert_eq!(phone.udp(&flow).dscp(), (EF, EF));
}
