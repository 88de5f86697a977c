//! One session from the application's order to the packet, through the real backend, over TLS.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod lab;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lab::folder::Folder;
use lab::home::{Device, WAN_V4, server_v4, server_v6};
use lab::{Agent, Backend, Exchange, Home, Observer, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(10);
const EF: u8 = 46;
const SCOPES: &str = "qod-sessions-write qod-sessions-read qod-sessions-delete";

fn backend(home: &Home) -> Backend<'_> {
    let listen = SocketAddr::new(server_v4(20).into(), 8443);
    let backend = Backend::start(&home.internet, listen, &json!({}));
    let provisioned = backend.admin(
        "PUT",
        "/homes/home-0001",
        &json!({ "agentIds": ["home-0001"], "consumers": "all",
                 "prefixes": [format!("{WAN_V4}/32"), "2001:db8:1::/64"],
                 "link": { "upstreamKbps": 20000 } }),
    );
    assert!(provisioned.status < 300, "{}", provisioned.text);
    backend
}

/// A consumer with all scopes, and its access token.
fn token(backend: &Backend<'_>) -> String {
    let scopes: Vec<_> = SCOPES.split(' ').collect();
    let consumer = backend.admin("PUT", "/consumers/calls", &json!({ "scopes": scopes }));
    assert!(consumer.status < 300, "{}", consumer.text);
    backend.token(
        "calls",
        consumer.body["clientSecret"].as_str().unwrap(),
        SCOPES,
    )
}

fn order() -> Value {
    json!({ "device": {
                "ipv4Address": { "publicAddress": WAN_V4.to_string(), "privateAddress": "192.168.1.23" },
                "ipv6Address": "2001:db8:1::23" },
            "applicationServer": { "ipv4Address": "198.51.100.0/29", "ipv6Address": "2001:db8:2::/125" },
            "applicationServerPorts": { "ports": [33001] },
            "qosProfile": "QOS_E", "duration": 600 })
}

#[test]
fn a_session_is_in_force_when_it_is_available_and_gone_when_it_is_deleted() {
    let home = Home::without_modem();
    let backend = backend(&home);
    let token = token(&backend);
    let agent = Agent::start(&home.router, &backend.agent_config("home-0001"));

    let phone = Observer::start(&home, Device::Phone);
    let flows = [IpAddr::from(server_v4(5)), server_v6(5).into()]
        .map(|server| Exchange::new(5010, server, 33001));
    for flow in &flows {
        assert_eq!(phone.udp(flow).dscp(), (0, 0));
    }

    let session = backend
        .call(&token, "POST", "/qod/v0/sessions", &order())
        .expect(201);
    let path = format!(
        "/qod/v0/sessions/{}",
        session["sessionId"].as_str().unwrap()
    );
    wait::expect("AVAILABLE", LIMIT, || {
        let session = backend.call(&token, "GET", &path, &json!({})).expect(200);
        (session["qosStatus"] == "AVAILABLE").then_some(())
    });
    for flow in &flows {
        assert_eq!(phone.udp(flow).dscp(), (EF, EF));
        assert_eq!(
            phone
                .udp(&Exchange {
                    server_port: 33002,
                    ..*flow
                })
                .dscp(),
            (0, 0)
        );
    }
    let queue = home.router.output("tc", &["class", "show", "dev", "wan"]);
    assert!(
        queue.contains("rate 20Mbit"),
        "the home's link rate is not the shaper's: {queue}"
    );
    let status = agent.status(&home.router).unwrap();
    assert_eq!(status["sessions"][0]["upstream"]["packets"], 2, "{status}");
    // The profile's highest rates are the session's.
    let table = home
        .router
        .output("nft", &["list", "table", "netdev", "qod"]);
    assert!(table.contains("chain limit_up_46_"), "{table}");

    // A second order of an overlapping flow is refused, whoever asks.
    backend
        .call(&token, "POST", "/qod/v0/sessions", &order())
        .expect(409);

    backend
        .call(&token, "DELETE", &path, &json!({}))
        .expect(204);
    wait::expect("no marks", LIMIT, || {
        (phone.udp(&flows[0]).dscp() == (0, 0)).then_some(())
    });
    backend.call(&token, "GET", &path, &json!({})).expect(404);
}

#[test]
fn an_order_waits_for_an_agent_that_is_away() {
    let home = Home::without_modem();
    let backend = backend(&home);
    let token = token(&backend);
    let config = backend.agent_config("home-0001");
    let session = backend
        .call(&token, "POST", "/qod/v0/sessions", &order())
        .expect(201);
    assert_eq!(session["qosStatus"], "REQUESTED");
    assert_eq!(
        session["messages"][0]["description"],
        "home gateway is offline"
    );

    let _agent = Agent::start(&home.router, &config);
    let path = format!(
        "/qod/v0/sessions/{}",
        session["sessionId"].as_str().unwrap()
    );
    wait::expect("AVAILABLE", LIMIT, || {
        let session = backend.call(&token, "GET", &path, &json!({})).expect(200);
        (session["qosStatus"] == "AVAILABLE").then_some(())
    });
    let flow = Exchange::new(5010, server_v4(5), 33001);
    assert_eq!(
        Observer::start(&home, Device::Phone).udp(&flow).dscp(),
        (EF, EF)
    );
}

#[test]
fn an_agent_trusts_nobody_but_its_authority() {
    let home = Home::without_modem();
    let backend = backend(&home);
    let folder = Folder::new();
    let stranger = lab::certificate::Certificates::new(&folder, &["stranger"]);
    let mut config = backend.agent_config("home-0001");
    config["backend"]["caFile"] = json!(stranger.ca);
    let agent = Agent::start(&home.router, &config);
    let status = wait::expect("a warning", LIMIT, || {
        let status = agent.status(&home.router)?;
        (!status["warnings"].as_array().unwrap().is_empty()).then_some(status)
    });
    let warning = &status["warnings"][0];
    assert_eq!(warning["code"], "BACKEND_UNREACHABLE", "{status}");
    assert!(
        warning["message"].as_str().unwrap().contains("certificate"),
        "{warning}"
    );
    assert_eq!(status["revision"], Value::Null);
    assert!(
        !agent
            .process
            .log()
            .contains(config["backend"]["token"].as_str().unwrap())
    );
}
