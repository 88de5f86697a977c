//! Usage records: what agents count, and what is left of it when sessions end.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod common;

use std::time::{Duration, Instant};

use common::{ADMIN, Client, Running, SCOPES, home_h, session_with};
use serde_json::{Value, json};

struct Home {
    running: Running,
    token: String,
    agents: [String; 2],
    sequence: u64,
}

impl Home {
    fn new() -> Self {
        let running = Running::start();
        let mut home = home_h();
        home["agentIds"] = json!(["a", "b"]);
        running.client.admin("PUT", "/homes/h", &home);
        Self {
            token: running.client.consumer("app", &SCOPES),
            agents: ["a", "b"].map(|agent| running.client.agent_token(agent)),
            running,
            sequence: 0,
        }
    }

    fn client(&self) -> &Client {
        &self.running.client
    }

    fn order(&self, seconds: u64, port: u16) -> String {
        let body = session_with(&json!({"duration": seconds, "devicePorts": {"ports": [port]}}));
        let created = self
            .client()
            .json("POST", "/qod/v0/sessions", &self.token, &body);
        assert_eq!(created.status, 201, "{}", created.body);
        created.body["sessionId"].as_str().unwrap().to_owned()
    }

    /// An agent reports what it counted of one session.
    fn count(&mut self, agent: usize, id: &str, state: &str, upstream: u64, downstream: u64) {
        self.sequence += 1;
        let name = ["a", "b"][agent];
        let token = &self.agents[agent];
        let revision = self.client().poll(name, token, None, 0).body["revision"].clone();
        let status = json!({"agentId": name, "bootId": "boot", "sequence": self.sequence, "version": "0.1.0",
            "uptime": 1, "kernel": "6.6", "revision": revision, "sessions": [{"sessionId": id, "state": state,
            "upstream": {"packets": 1, "bytes": upstream}, "downstream": {"packets": 1, "bytes": downstream}}]});
        let path = format!("/agent/v1/agents/{name}/status");
        assert_eq!(self.client().json("PUT", &path, token, &status).status, 204);
    }

    fn usage(&self, query: &str) -> Value {
        self.client()
            .get(&format!("/admin/v1/usage{query}"), ADMIN)
            .body
    }

    /// The record of a session, once it is there.
    fn record(&self, id: &str) -> Value {
        let began = Instant::now();
        loop {
            let usage = self.usage("");
            let records = usage["usage"].as_array().unwrap();
            if let Some(record) = records.iter().find(|record| record["sessionId"] == id) {
                return record.clone();
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{usage}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn bytes(&self, id: &str) -> (i64, i64) {
        let shown = self
            .client()
            .get(&format!("/admin/v1/sessions/{id}"), ADMIN);
        let bytes = |key: &str| shown.body[key].as_i64().unwrap();
        (bytes("upstreamBytes"), bytes("downstreamBytes"))
    }
}

fn of(record: &Value) -> (i64, i64) {
    let bytes = |key: &str| record[key].as_i64().unwrap();
    (bytes("upstreamBytes"), bytes("downstreamBytes"))
}

#[test]
fn bytes_of_all_agents_are_added_up_through_restarts() {
    let mut home = Home::new();
    let id = home.order(3600, 1);
    assert_eq!(home.bytes(&id), (0, 0));
    home.count(0, &id, "ACTIVE", 100, 1000);
    home.count(1, &id, "ACTIVE", 5, 50);
    assert_eq!(home.bytes(&id), (105, 1050));
    home.count(0, &id, "ACTIVE", 150, 1500);
    // The router starts again.
    home.count(0, &id, "ACTIVE", 10, 0);
    home.count(0, &id, "ACTIVE", 20, 100);
    assert_eq!(home.bytes(&id), (175, 1650));
    // The agent loses the session for a while.
    let other = home.order(3600, 2);
    home.count(0, &other, "ACTIVE", 1, 1);
    assert_eq!(home.bytes(&id), (175, 1650));
    home.count(0, &id, "ACTIVE", 21, 100);
    assert_eq!(home.bytes(&id), (176, 1650));

    home.running.clock.advance(61_000);
    let path = format!("/qod/v0/sessions/{id}");
    assert_eq!(home.client().delete(&path, &home.token).status, 204);
    let record = home.record(&id);
    assert_eq!(
        record,
        json!({"sessionId": id, "clientId": "app", "home": "h", "qosProfile": "QOS_E",
            "startedAt": 1_700_000_000, "endedAt": 1_700_000_061, "ending": "DELETED",
            "upstreamBytes": 176, "downstreamBytes": 1650, "final": false})
    );
    let text = home.client().get("/metrics", ADMIN).text;
    assert!(
        text.contains("qod_session_activation_seconds_count 2"),
        "once a session, whoever says so:\n{text}"
    );
}

#[test]
fn the_last_report_after_the_end_completes_the_record() {
    let mut home = Home::new();
    let id = home.order(60, 1);
    home.count(0, &id, "ACTIVE", 100, 200);
    home.running.clock.advance(60_000);
    let record = home.record(&id);
    assert_eq!(of(&record), (100, 200));
    assert_eq!(
        (&record["ending"], &record["endedAt"]),
        (&json!("EXPIRED"), &json!(1_700_000_060))
    );
    home.count(0, &id, "EXPIRED", 170, 260);
    assert_eq!(of(&home.record(&id)), (170, 260));
    home.count(1, &id, "EXPIRED", 1, 2);
    assert_eq!(of(&home.record(&id)), (171, 262));
    home.running.clock.advance(600_000);
    home.count(0, &id, "EXPIRED", 999, 999);
    let record = home.record(&id);
    assert_eq!(of(&record), (171, 262), "it is too late");
    assert_eq!(record["final"], true);
}

#[test]
fn another_homes_agent_cannot_write_into_a_record() {
    let mut home = Home::new();
    let id = home.order(3600, 1);
    home.count(0, &id, "ACTIVE", 100, 200);
    let path = format!("/admin/v1/sessions/{id}");
    assert_eq!(home.client().delete(&path, ADMIN).status, 204);
    let mut alone = home_h();
    alone["agentIds"] = json!(["a"]);
    home.client().admin("PUT", "/homes/h", &alone);
    home.count(1, &id, "EXPIRED", 5, 5);
    let record = home.record(&id);
    assert_eq!(of(&record), (100, 200));
    assert_eq!(record["ending"], "TERMINATED");
}

#[test]
fn records_are_listed_by_their_end() {
    let home = Home::new();
    let mut ids = Vec::new();
    for port in 1..=3 {
        let id = home.order(3600, port);
        home.running.clock.advance(10_000);
        let path = format!("/qod/v0/sessions/{id}");
        assert_eq!(home.client().delete(&path, &home.token).status, 204);
        ids.push(id);
    }
    let listed = |query: &str| -> Vec<String> {
        home.usage(query)["usage"]
            .as_array()
            .unwrap()
            .iter()
            .map(|record| record["sessionId"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(listed(""), ids);
    assert_eq!(listed("?from=1700000020&to=1700000030"), ids[1..2]);
    assert_eq!(
        listed(&format!("?after=1700000010250.{}", ids[0])),
        ids[1..]
    );
    assert_eq!(home.usage("")["next"], Value::Null);
    for wrong in [
        "?from=x",
        "?to=-1",
        "?after=1",
        "?after=x.y",
        "?after=1.%00",
        "?day=1",
    ] {
        assert_eq!(home.usage(wrong)["code"], "INVALID_INPUT", "{wrong}");
    }
    let bearer = format!("Bearer {ADMIN}");
    let headers = [("authorization", bearer.as_str()), ("accept", "text/csv")];
    let csv = home.client().send("GET", "/admin/v1/usage", &headers, "");
    assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8");
    let lines: Vec<_> = csv.text.lines().collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(
        lines[1],
        format!(
            "\"{}\",\"app\",\"h\",\"QOS_E\",1700000000,1700000010,DELETED,0,0,false",
            ids[0]
        )
    );
    assert_eq!(home.client().get("/admin/v1/usage", "").error().0, 401);

    // They go after their time, and not before.
    home.running.clock.advance(400 * 86_400_000 - 15_000);
    let began = Instant::now();
    while listed("") != ids[1..] {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{:?}",
            listed("")
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn long_lists_go_on() {
    let home = Home::new();
    home.running.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500) \
         INSERT INTO usage_records SELECT 's-' || i, 'app', 'h', 'QOS_E', 1, 1700000000000 + i / 7, 'EXPIRED', 1, 2, 3, '{}' FROM n",
    );
    let first = home.usage("");
    assert_eq!(first["usage"].as_array().unwrap().len(), 1000);
    let next = first["next"].as_str().unwrap();
    let second = home.usage(&format!("?after={next}"));
    assert_eq!(second["usage"].as_array().unwrap().len(), 500);
    assert_eq!(second["next"], Value::Null);
}

#[test]
fn sessions_are_listed_by_home_and_consumer() {
    let home = Home::new();
    let id = home.order(3600, 1);
    let listed = |query: &str| {
        let path = format!("/admin/v1/sessions{query}");
        home.client().get(&path, ADMIN).body["sessions"].clone()
    };
    for (query, found) in [
        ("?home=h", true),
        ("?consumer=app", true),
        ("?home=h&consumer=app", true),
        ("?home=o", false),
        ("?home=h&consumer=x", false),
    ] {
        let ids: Vec<_> = listed(query)
            .as_array()
            .unwrap()
            .iter()
            .map(|each| each["sessionId"].clone())
            .collect();
        assert_eq!(ids, if found { vec![json!(id)] } else { vec![] }, "{query}");
    }
}
