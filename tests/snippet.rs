//! The API document's own snippet, from `curl` to the packet: its device is an IPv6 address and its server has IPv4
//! alone, so the agent finds the device's IPv4 address behind the same MAC address.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod lab;

use std::net::SocketAddr;
use std::time::Duration;

use lab::home::{Device, PHONE_V6, server_v4};
use lab::{Agent, Backend, Exchange, Home, Observer, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(10);
const EF: u8 = 46;
const SCOPES: &str = "qod-sessions-write qod-sessions-read qod-sessions-delete";
/// Snippet 1 of §4.6, a cell of a table, with `<br>` for line breaks and backticks for quotes.
const SNIPPET: &str = include_str!("../backend/tests/specs/snippet.txt");

#[test]
fn the_documents_snippet_marks_the_packets_of_its_flow() {
    let home = Home::without_modem();
    let listen = SocketAddr::new(server_v4(20).into(), 8443);
    let backend = Backend::start(&home.internet, listen, &json!({}));
    let provisioned = backend.admin(
        "PUT",
        "/homes/home-0001",
        &json!({ "agentIds": ["home-0001"], "consumers": "all", "prefixes": ["2001:db8:1::/64"] }),
    );
    assert!(provisioned.status < 300, "{}", provisioned.text);
    let scopes: Vec<_> = SCOPES.split(' ').collect();
    let consumer = backend.admin("PUT", "/consumers/app", &json!({ "scopes": scopes }));
    let secret = consumer.body["clientSecret"].as_str().unwrap();
    let token = backend.token("app", secret, SCOPES);
    let _agent = Agent::start(&home.router, &backend.agent_config("home-0001"));

    let phone = Observer::start(&home, Device::Phone);
    let flow = Exchange::new(5010, server_v4(5), 33001);
    assert_eq!(phone.udp(&flow).dscp(), (0, 0));

    // Only host, token and addresses are this test's.
    let command = SNIPPET
        .replace("<br>", " ")
        .replace('`', "\"")
        .replace("https://sample-base-url", &backend.url)
        .replace("eyJ0eXAiOiJKV1QiLCJhbG....", &token)
        .replace(
            "2001:db8:85a3:8d3:1319:8a2e:370:7344",
            &PHONE_V6.to_string(),
        )
        .replace("54.204.25.0/28", "198.51.100.0/28");
    let more = "--silent --show-error --write-out '\\n%{http_code}' --cacert";
    let ca = backend.certificates.ca.display();
    let command = format!("{} {more} '{ca}'", command.trim());
    let answer = home.internet.output("sh", &["-c", &command]);
    let (body, status) = answer.rsplit_once('\n').unwrap();
    assert_eq!(status, "201", "{command}\n{answer}");
    let session: Value = serde_json::from_str(body).unwrap();

    let path = format!(
        "/qod/v0/sessions/{}",
        session["sessionId"].as_str().unwrap()
    );
    wait::expect("AVAILABLE", LIMIT, || {
        let session = backend.call(&token, "GET", &path, &json!({})).expect(200);
        (session["qosStatus"] == "AVAILABLE").then_some(())
    });
    assert_eq!(phone.udp(&flow).dscp(), (EF, EF));
    assert_eq!(phone.tcp(&flow).dscp(), (EF, EF));
    let beside = Exchange {
        server_port: 33002,
        ..flow
    };
    assert_eq!(phone.udp(&beside).dscp(), (0, 0), "another port");
    let laptop = Observer::start(&home, Device::Laptop);
    assert_eq!(laptop.udp(&flow).dscp(), (0, 0), "another device");
}
