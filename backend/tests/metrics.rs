//! `/metrics`, and who may read it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod common;

use std::time::{Duration, Instant};

use common::{ADMIN, Client, Running, SCOPES, session, session_with};
use serde_json::json;

/// Scrapes until every line is there.
fn await_lines(client: &Client, lines: &[&str]) -> String {
    let began = Instant::now();
    loop {
        let text = client.get("/metrics", ADMIN).text;
        let missing: Vec<_> = lines
            .iter()
            .filter(|line| !text.lines().any(|each| each == **line))
            .collect();
        if missing.is_empty() {
            return text;
        }
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{missing:#?}\n{text}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn numbers_are_for_the_operator() {
    let running = Running::with(|config| {
        config.operation.metrics_listen = Some(([127, 0, 0, 1], 0).into());
    });
    let client = &running.client;
    assert_eq!(client.get("/metrics", "").error().0, 401);
    let answer = client.get("/metrics", ADMIN);
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.headers["content-type"],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(answer.text.ends_with("# EOF\n"));
    let watcher = running.metrics_client();
    assert!(
        watcher
            .get("/metrics", "")
            .text
            .contains("qod_build_info{version=")
    );
    assert_eq!(watcher.get("/readyz", "").status, 200);
    for path in ["/admin/v1/homes", "/qod/v0/qos-profiles", "/agent/v1/enrol"] {
        assert_eq!(watcher.get(path, ADMIN).error().0, 404, "{path}");
    }
}

#[test]
fn sessions_and_agents_are_counted_by_state() {
    let running = Running::start();
    running.home();
    let client = &running.client;
    let token = client.consumer("app", &SCOPES);
    let agent = client.agent_token("a");
    let nothing = "qod_sessions{qos_status=\"REQUESTED\"} 0";
    await_lines(client, &[nothing, "qod_agents_connected 0"]);
    let create = |port: u16| {
        let body = session_with(&json!({"devicePorts": {"ports": [port]}}));
        let created = client.json("POST", "/qod/v0/sessions", &token, &body);
        assert_eq!(created.status, 201, "{}", created.body);
        created.body["sessionId"].as_str().unwrap().to_owned()
    };
    let ids = [create(1), create(2), create(3)];
    let refused = client.json("POST", "/qod/v0/sessions", &token, &session());
    assert_eq!(refused.status, 409);
    let revision = client.poll("a", &agent, None, 0).body["revision"].clone();
    let said = [
        (ids[0].as_str(), "ACTIVE", "", ""),
        (ids[1].as_str(), "REJECTED", "KERNEL", "no"),
    ];
    running.clock.advance(40);
    client.report("a", &agent, 1, &revision, &said);
    client.report("a", &agent, 2, &revision, &said);
    let poller = client.clone();
    let token_of_agent = agent.clone();
    let tag = client.poll("a", &agent, None, 0).etag.unwrap();
    let poll = std::thread::spawn(move || poller.poll("a", &token_of_agent, Some(&tag), 50).status);
    running.await_poll();
    let text = await_lines(
        client,
        &[
            "qod_sessions{qos_status=\"REQUESTED\"} 1",
            "qod_sessions{qos_status=\"AVAILABLE\"} 1",
            "qod_sessions{qos_status=\"UNAVAILABLE\"} 1",
            "qod_agents_provisioned 1",
            "qod_agents_connected 1",
            "qod_agents_silent 0",
            "qod_notifications_waiting 0",
            "qod_notifications_delivered_total 0",
            "qod_store_errors_total 0",
            "qod_polls_held 1",
            "qod_http_requests_total{method=\"POST\",path=\"/qod/v0/sessions\",status=\"201\"} 3",
            "qod_http_requests_total{method=\"POST\",path=\"/qod/v0/sessions\",status=\"409\"} 1",
            "qod_http_requests_total{method=\"PUT\",path=\"/agent/v1/agents/{id}/status\",status=\"204\"} 2",
            "qod_http_request_duration_seconds_count{method=\"POST\",path=\"/qod/v0/sessions\"} 4",
        ],
    );
    for id in ids
        .iter()
        .map(String::as_str)
        .chain(["app", "\"h\"", "\"a\"", "192.168"])
    {
        assert!(!text.contains(id), "{id} is a label or in one");
    }
    client.delete(&format!("/qod/v0/sessions/{}", ids[2]), &token);
    assert_eq!(poll.join().unwrap(), 200);
    running.clock.advance(130_000);
    await_lines(
        client,
        &[
            "qod_agents_silent 1",
            "qod_sessions{qos_status=\"UNAVAILABLE\"} 2",
        ],
    );
}

#[test]
fn what_is_not_a_path_is_one_label() {
    let running = Running::start();
    for path in ["/a", "/b/c", "/qod/v0/nothing"] {
        assert_eq!(running.client.get(path, "").status, 404);
    }
    let line = "qod_http_requests_total{method=\"GET\",path=\"none\",status=\"404\"} 3";
    await_lines(&running.client, &[line]);
}
