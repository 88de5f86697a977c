//! Requests that come through proxies.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod common;

use common::{Running, SCOPES, session};
use qod_backend::prefix::Prefix;
use serde_json::{Value, json};

/// Reports `address` as agent `a`, with a header that a proxy writes, and says which address the backend saw.
fn report(running: &Running, agent: &str, address: &str, header: (&str, &str)) -> Value {
    let sequence = running.client.admin("GET", "/agents/a", &Value::Null)["status"]["sequence"]
        .as_u64()
        .map_or(1, |before| before + 1);
    let status = json!({"agentId": "a", "bootId": "x", "sequence": sequence, "version": "0", "uptime": 1,
        "kernel": "6", "wan": {"device": "wan", "addresses": [address]}});
    let bearer = format!("Bearer {agent}");
    let headers = [("authorization", bearer.as_str()), header];
    let path = "/agent/v1/agents/a/status";
    let answer = running
        .client
        .send("PUT", path, &headers, status.to_string());
    assert_eq!(answer.status, 204, "{}", answer.body);
    running.client.admin("GET", "/agents/a", &Value::Null)["address"].clone()
}

/// The status of a session of a device behind `address`.
fn post(running: &Running, token: &str, address: &str) -> u16 {
    let mut body = session();
    body["device"]["ipv4Address"]["publicAddress"] = address.into();
    let answer = running
        .client
        .json("POST", "/qod/v0/sessions", token, &body);
    answer.status
}

#[test]
fn an_agents_address_is_what_a_trusted_proxy_saw() {
    let running = Running::with(|config| {
        config.trusted_proxies.0 = vec![
            Prefix::any("127.0.0.0/8").unwrap(),
            Prefix::any("10.0.0.0/8").unwrap(),
        ];
    });
    running.home();
    let token = running.client.consumer("app", &SCOPES);
    let agent = running.client.agent_token("a");
    running.client.poll("a", &agent, None, 0);
    for header in [
        ("x-forwarded-for", "6.6.6.6, 198.51.100.77"),
        ("x-forwarded-for", "198.51.100.77, 10.1.1.1"),
        (
            "forwarded",
            "for=6.6.6.6, for=\"198.51.100.77:443\";proto=https",
        ),
    ] {
        let seen = report(&running, &agent, "198.51.100.77", header);
        assert_eq!(seen, "198.51.100.77", "{header:?}");
    }
    assert_eq!(post(&running, &token, "198.51.100.77"), 201);
    // What stands left of what the proxy wrote is anybody's word.
    let seen = report(
        &running,
        &agent,
        "6.6.6.6",
        ("x-forwarded-for", "6.6.6.6, 192.0.2.9"),
    );
    assert_eq!(seen, "192.0.2.9");
    assert_eq!(post(&running, &token, "6.6.6.6"), 400);
    for broken in ["unknown", "192.0.2.9, x", ","] {
        let seen = report(&running, &agent, "192.0.2.9", ("x-forwarded-for", broken));
        assert_eq!(seen, "127.0.0.1", "{broken}");
    }
}

#[test]
fn what_others_write_counts_for_nothing() {
    for proxies in [vec![], vec![Prefix::any("10.0.0.0/8").unwrap()]] {
        let running = Running::with(|config| config.trusted_proxies.0 = proxies);
        running.home();
        let token = running.client.consumer("app", &SCOPES);
        let agent = running.client.agent_token("a");
        running.client.poll("a", &agent, None, 0);
        for header in ["x-forwarded-for", "forwarded"] {
            let value = if header == "forwarded" {
                "for=198.51.100.77"
            } else {
                "198.51.100.77"
            };
            let seen = report(&running, &agent, "198.51.100.77", (header, value));
            assert_eq!(seen, "127.0.0.1", "{header}");
        }
        assert_eq!(post(&running, &token, "198.51.100.77"), 400);
    }
}
