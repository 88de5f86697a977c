//! The API document's own snippet, run by a real `curl`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod common;

use std::process::Command;

use common::{Running, SCOPES};
use serde_json::{Value, json};

/// Snippet 1 of §4.6 as the document has it: in a cell of a table, with `<br>` for line breaks and typographic
/// backticks for quotes.
const SNIPPET: &str = include_str!("specs/snippet.txt");

/// The snippet as a shell reads it.
fn command() -> String {
    SNIPPET.trim_end().replace("<br>", " ").replace('`', "\"")
}

#[test]
fn the_documents_snippet_orders_a_session() {
    let running = Running::start();
    running.home();
    let client = &running.client;
    let token = client.consumer("app", &SCOPES);
    // Host and token are this test's. The addresses are the home's by its prefix, and any server's.
    let command = command()
        .replace("https://sample-base-url", &client.url)
        .replace("eyJ0eXAiOiJKV1QiLCJhbG....", &token);
    let output = Command::new("sh")
        .args([
            "-c",
            &format!("{command} --silent --show-error --write-out '\\n%{{http_code}}'"),
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or_default();
    assert_eq!(status, "201", "{command}\n{text}{errors}");
    let info: Value = serde_json::from_str(body).unwrap();
    for (key, value) in [
        (
            "device",
            json!({"ipv6Address": "2001:db8:85a3:8d3:1319:8a2e:370:7344"}),
        ),
        (
            "applicationServer",
            json!({"ipv4Address": "54.204.25.0/28"}),
        ),
        ("applicationServerPorts", json!({"ports": [33001]})),
        ("qosProfile", json!("QOS_E")),
        ("notificationUrl", json!("https://your-callback-server.com")),
        ("notificationAuthToken", json!("c8974e592c2fa383d4a3960714")),
        ("duration", json!(86_400)),
        ("qosStatus", json!("REQUESTED")),
    ] {
        assert_eq!(info[key], value, "{key}: {info}");
    }
    assert_eq!(info.get("webhook"), None, "as it came: at the top");
    let agent = client.agent_token("a");
    let told = client.poll("a", &agent, None, 0).body["sessions"][0].clone();
    assert_eq!(told["device"], info["device"]);
    assert_eq!(told["dscp"], 46);
}
