//! The agent API over HTTP, and what it makes of `qosStatus`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Client, Running, SCOPES, home_h, session, session_with};
use serde_json::{Value, json};

const SESSIONS: &str = "/qod/v0/sessions";

struct Home {
    running: Running,
    client: Client,
    consumer: String,
    agent: String,
}

fn started() -> Home {
    let running = Running::start();
    running.home();
    let client = running.client.clone();
    Home {
        consumer: client.consumer("app", &SCOPES),
        agent: client.agent_token("a"),
        client,
        running,
    }
}

impl Home {
    fn create(&self, change: &Value) -> String {
        let created = self
            .client
            .json("POST", SESSIONS, &self.consumer, &session_with(change));
        assert_eq!(created.status, 201, "{}", created.body);
        created.body["sessionId"].as_str().unwrap().to_owned()
    }

    /// `qosStatus` and the first message.
    fn qos(&self, id: &str) -> (String, String) {
        let body = self
            .client
            .get(&format!("{SESSIONS}/{id}"), &self.consumer)
            .body;
        (
            body["qosStatus"].as_str().unwrap().to_owned(),
            body["messages"][0]["description"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )
    }
}

fn pair(status: &str, message: &str) -> (String, String) {
    (status.to_owned(), message.to_owned())
}

#[test]
fn instructions_are_complete_and_in_order() {
    let home = started();
    let first = home.create(&json!({"devicePorts": {"ports": [7, 8, 3]}}));
    home.running.clock.advance(250);
    let second =
        home.create(&json!({"device": {"phoneNumber": "004912345678923"}, "qosProfile": "QOS_S"}));
    let short = home.create(&json!({"device": {"ipv6Address": "2001:DB8:85A3::9"}, "duration": 1}));
    home.running.clock.advance(500);
    let got = home.client.poll("a", &home.agent, None, 0);
    assert_eq!(got.status, 200);
    assert_eq!(got.etag.unwrap(), format!("\"{}\"", got.body["revision"]));
    assert_eq!(
        got.body["link"],
        json!({"upstreamKbps": 40000, "downstreamKbps": 200_000})
    );
    let sessions = got.body["sessions"].as_array().unwrap();
    let ids: Vec<_> = sessions
        .iter()
        .map(|session| session["sessionId"].as_str().unwrap())
        .collect();
    assert_eq!(ids, [&first, &second, &short]);
    assert_eq!(
        sessions[0]["device"],
        json!({"ipv4Address": "192.168.1.23"})
    );
    assert_eq!(
        sessions[0]["devicePorts"],
        json!({"ranges": [{"from": 7, "to": 8}], "ports": [3]})
    );
    assert_eq!(
        sessions[0]["applicationServer"],
        json!({"ipv4Address": "198.51.100.0/28"})
    );
    assert_eq!(sessions[0]["dscp"], 46);
    assert_eq!(sessions[0]["expiresIn"], 3599.25);
    assert_eq!(
        sessions[1]["device"],
        json!({"macAddress": "02:00:00:00:00:17"})
    );
    assert_eq!(sessions[1]["dscp"], 34);
    assert_eq!(
        sessions[2]["device"],
        json!({"ipv6Address": "2001:db8:85a3::9"})
    );
    assert_eq!(sessions[2]["expiresIn"], 0.5);

    home.running.clock.advance(500);
    let later = home.client.poll("a", &home.agent, None, 0).body;
    assert_eq!(
        later["sessions"].as_array().unwrap().len(),
        2,
        "one has ended"
    );
    assert_eq!(
        later["revision"], got.body["revision"],
        "and its end is no change"
    );
}

#[test]
fn a_held_poll_is_answered_by_a_change_and_by_nothing_else() {
    let home = started();
    let tag = home.client.poll("a", &home.agent, None, 0).etag.unwrap();
    assert_eq!(
        home.client.poll("a", &home.agent, Some(&tag), 0).status,
        304
    );
    let began = Instant::now();
    assert_eq!(
        home.client.poll("a", &home.agent, Some(&tag), 1).status,
        304
    );
    assert!(began.elapsed() >= Duration::from_secs(1));

    std::thread::scope(|scope| {
        let poll = scope.spawn(|| home.client.poll("a", &home.agent, Some(&tag), 30));
        home.running.await_poll();
        let id = home.create(&json!({}));
        let answer = poll.join().unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body["sessions"][0]["sessionId"], id);

        let tag = answer.etag.unwrap();
        let (client, agent) = (&home.client, &home.agent);
        let poll = scope.spawn(move || client.poll("a", agent, Some(&tag), 30));
        home.running.await_poll();
        home.client
            .delete(&format!("{SESSIONS}/{id}"), &home.consumer);
        assert_eq!(poll.join().unwrap().body["sessions"], json!([]));
    });
}

#[test]
fn a_tag_that_is_not_the_current_one_is_answered_at_once() {
    let home = started();
    home.create(&json!({}));
    let revision = home.client.poll("a", &home.agent, None, 0).body["revision"]
        .as_u64()
        .unwrap();
    // Older, newer (a restored database is behind), and none of this backend's.
    let others = [
        format!("\"{}\"", revision - 1),
        format!("\"{}\"", revision + 1),
        format!("\"{}\"", u64::MAX),
        "\"of another\"".to_owned(),
        revision.to_string(),
    ];
    for tag in others {
        let began = Instant::now();
        let answer = home.client.poll("a", &home.agent, Some(&tag), 30);
        assert_eq!(answer.status, 200, "{tag}");
        assert_eq!(answer.body["revision"], revision);
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{tag}: {:?}",
            began.elapsed()
        );
    }
    // No tag, whatever is preferred.
    let began = Instant::now();
    assert_eq!(home.client.poll("a", &home.agent, None, 30).status, 200);
    assert!(began.elapsed() < Duration::from_secs(5));
    let current = format!("\"{revision}\"");
    assert_eq!(
        home.client.poll("a", &home.agent, Some(&current), 0).status,
        304
    );
}

#[test]
fn a_revision_names_one_set_of_sessions() {
    const COUNT: u16 = 12;
    let home = started();
    let ended = AtomicBool::new(false);
    let sets = std::thread::scope(|scope| {
        // It reads while the home changes under it, as fast as it can.
        let reader = scope.spawn(|| {
            let mut sets: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
            while !ended.load(Ordering::Relaxed) {
                let body = home.client.poll("a", &home.agent, None, 0).body;
                let ids = body["sessions"].as_array().unwrap().iter();
                let ids = ids.map(|session| session["sessionId"].as_str().unwrap().to_owned());
                let ids: BTreeSet<_> = ids.collect();
                let before = sets.insert(body["revision"].as_u64().unwrap(), ids.clone());
                assert!(
                    before.is_none_or(|before| before == ids),
                    "one revision, two sets"
                );
            }
            sets
        });
        let mut created = Vec::new();
        for port in 1..=COUNT {
            let id = home.create(&json!({"devicePorts": {"ports": [port]}}));
            // The answer to the order came after the change: whoever polls now has it.
            let body = home.client.poll("a", &home.agent, None, 0).body;
            let sessions = body["sessions"].as_array().unwrap();
            assert!(sessions.iter().any(|session| session["sessionId"] == *id));
            created.push(id);
        }
        for id in created {
            home.client
                .delete(&format!("{SESSIONS}/{id}"), &home.consumer);
        }
        ended.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(sets.len() > 2, "it saw the home change: {sets:?}");
}

#[test]
fn what_a_report_has_that_nobody_knows_is_ignored() {
    let home = started();
    let id = home.create(&json!({}));
    let revision = home.client.poll("a", &home.agent, None, 0).body["revision"].clone();
    let status = json!({"agentId": "a", "bootId": "x", "sequence": 1, "version": "0", "uptime": 1, "kernel": "6",
        "revision": revision, "later": {"deep": [1]}, "placement": "elsewhere",
        "sessions": [{"sessionId": id, "state": "ACTIVE", "later": true}],
        "warnings": [{"code": "FULL_MOON", "message": "", "later": 1}]});
    let answer = home
        .client
        .json("PUT", "/agent/v1/agents/a/status", &home.agent, &status);
    assert_eq!(answer.status, 204, "{}", answer.body);
    assert_eq!(home.qos(&id), pair("AVAILABLE", ""));
}

#[test]
fn a_poll_of_no_home_is_answered_when_the_agent_gets_one() {
    let home = started();
    let put = |agents: Value| {
        let mut body = home_h();
        body["agentIds"] = agents;
        home.client.admin("PUT", "/homes/h", &body)["revision"].clone()
    };
    put(json!([]));
    let nothing = home.client.poll("a", &home.agent, None, 0);
    assert_eq!(nothing.body["sessions"], json!([]));
    std::thread::scope(|scope| {
        let poll = scope.spawn(|| {
            home.client
                .poll("a", &home.agent, nothing.etag.as_deref(), 30)
        });
        home.running.await_poll();
        let began = Instant::now();
        let revision = put(json!(["a"]));
        assert_eq!(poll.join().unwrap().body["revision"], revision);
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
    });
}

#[test]
fn qos_status_is_what_the_agent_verified() {
    let home = started();
    home.client.poll("a", &home.agent, None, 0);
    let id = home.create(&json!({}));
    assert_eq!(home.qos(&id), pair("REQUESTED", ""));
    let revision = home.client.poll("a", &home.agent, None, 0).body["revision"].clone();
    let report = |sequence, revision: &Value, state, code, message| {
        let answer = home.client.report(
            "a",
            &home.agent,
            sequence,
            revision,
            &[(&id, state, code, message)],
        );
        assert_eq!(answer.status, 204, "{}", answer.body);
        home.qos(&id)
    };
    let older = json!(revision.as_u64().unwrap() - 1);
    assert_eq!(
        report(1, &older, "ACTIVE", "", ""),
        pair("REQUESTED", ""),
        "a revision without the session"
    );
    let future = json!(revision.as_u64().unwrap() + 1);
    assert_eq!(
        report(2, &future, "ACTIVE", "", "").0,
        "REQUESTED",
        "a revision that never was"
    );
    assert_eq!(
        report(3, &revision, "ACTIVE", "", ""),
        pair("AVAILABLE", "")
    );
    assert_eq!(
        report(
            5,
            &revision,
            "REJECTED",
            "DEVICE_NOT_FOUND",
            "192.168.1.23 is not on br-lan"
        ),
        pair(
            "UNAVAILABLE",
            "DEVICE_NOT_FOUND: 192.168.1.23 is not on br-lan"
        )
    );
    assert_eq!(
        report(4, &revision, "ACTIVE", "", "").0,
        "UNAVAILABLE",
        "an older report is dropped"
    );
    assert_eq!(
        report(6, &revision, "ACTIVE", "", ""),
        pair("AVAILABLE", "")
    );

    home.running.clock.advance(119_999);
    assert_eq!(home.qos(&id).0, "AVAILABLE");
    home.running.clock.advance(1);
    assert_eq!(
        home.qos(&id),
        pair("UNAVAILABLE", "home gateway is offline")
    );
    home.client.poll("a", &home.agent, None, 0);
    assert_eq!(
        home.qos(&id),
        pair("AVAILABLE", ""),
        "it was there all the time"
    );
}

#[test]
fn an_agent_speaks_for_itself_only() {
    let home = started();
    home.client.admin(
        "PUT",
        "/homes/o",
        &json!({"agentIds": ["b"], "consumers": "all"}),
    );
    let other = home.client.agent_token("b");
    let poll = |agent: &str, token: &str| home.client.poll(agent, token, None, 0).status;
    assert_eq!(poll("a", "wrong"), 401);
    assert_eq!(poll("a", &home.consumer), 401);
    assert_eq!(poll("a", &other), 403);
    assert_eq!(poll("c", &other), 404);
    assert_eq!(poll("b", &other), 200);
    let renewed = home.client.agent_token("b");
    assert_eq!((poll("b", &other), poll("b", &renewed)), (401, 200));
    let report = home.client.report("a", &renewed, 1, &Value::Null, &[]);
    assert_eq!(report.error().0, 403);
}

#[test]
fn an_address_that_an_agent_reports_tells_its_home_if_it_is_believed() {
    let home = started();
    home.client.admin(
        "PUT",
        "/homes/o",
        &json!({"agentIds": ["b"], "consumers": "all"}),
    );
    let agent = home.client.agent_token("b");
    home.client.poll("b", &agent, None, 0);
    let report = |sequence: u64, address: &str| {
        let status = json!({"agentId": "b", "bootId": "x", "sequence": sequence, "version": "0", "uptime": 1,
            "kernel": "6", "wan": {"device": "wan", "addresses": [address]}});
        let answer = home
            .client
            .json("PUT", "/agent/v1/agents/b/status", &agent, &status);
        assert_eq!(answer.status, 204, "{}", answer.body);
    };
    let post = |address: &str| {
        let device =
            json!({"ipv4Address": {"publicAddress": address, "privateAddress": "10.0.0.2"}});
        home.client.json(
            "POST",
            SESSIONS,
            &home.consumer,
            &session_with(&json!({"device": device, "duration": 1})),
        )
    };
    report(1, "198.51.100.9");
    assert_eq!(
        post("198.51.100.9").error().2,
        "Unable to identify device from specified parameters: device"
    );
    report(2, "127.0.0.1");
    assert_eq!(
        post("127.0.0.1").status,
        201,
        "the connection comes from there"
    );
    home.running.clock.advance(120_000);
    assert_eq!(
        post("127.0.0.1").error().0,
        400,
        "a silent agent tells nothing"
    );
}

#[test]
fn the_operator_sees_agents_and_sessions() {
    let home = started();
    let id = home.create(&json!({}));
    let revision = home.client.poll("a", &home.agent, None, 0).body["revision"].clone();
    home.client
        .report("a", &home.agent, 1, &revision, &[(&id, "ACTIVE", "", "")]);
    let agent = home.client.admin("GET", "/agents/a", &json!({}));
    assert_eq!(agent["connected"], true);
    assert_eq!(agent["version"], "0.1.0");
    assert_eq!(
        (&agent["wantedRevision"], &agent["appliedRevision"]),
        (&revision, &revision)
    );
    assert_eq!(agent["status"]["sessions"][0]["state"], "ACTIVE");
    assert_eq!(
        home.client.admin("GET", "/agents", &json!({}))["agents"][0]["id"],
        "a"
    );
    let shown = home
        .client
        .admin("GET", &format!("/sessions/{id}"), &json!({}));
    assert_eq!(
        (&shown["clientId"], &shown["home"], &shown["qosStatus"]),
        (&json!("app"), &json!("h"), &json!("AVAILABLE"))
    );
    home.client
        .admin("DELETE", &format!("/sessions/{id}"), &json!({}));
    assert_eq!(
        home.client.admin("GET", "/sessions", &json!({}))["sessions"],
        json!([])
    );
    let again = home
        .client
        .json("POST", SESSIONS, &home.consumer, &session());
    assert_eq!(again.status, 201);
}

#[test]
fn two_runs_that_report_in_turn_are_shown_to_the_operator() {
    let home = started();
    let report = |boot: &str, sequence: u64| {
        let status = json!({"agentId": "a", "bootId": boot, "sequence": sequence, "version": "0", "uptime": 1,
            "kernel": "6"});
        let answer = home
            .client
            .json("PUT", "/agent/v1/agents/a/status", &home.agent, &status);
        assert_eq!(answer.status, 204, "{}", answer.body);
    };
    let warnings = || home.client.admin("GET", "/agents/a", &json!({}))["warnings"].clone();
    for (boot, sequence) in [("x", 1), ("x", 2), ("y", 1), ("y", 2), ("z", 1)] {
        report(boot, sequence);
    }
    assert_eq!(warnings(), json!([]), "it started again, twice");
    report("y", 3);
    assert_eq!(warnings()[0]["code"], "DUPLICATE_AGENT");
    home.running.clock.advance(3_600_000);
    assert_eq!(warnings(), json!([]));
}

#[test]
fn ending_answers_held_polls() {
    let mut home = started();
    let tag = home.client.poll("a", &home.agent, None, 0).etag.unwrap();
    let (client, token) = (home.client.clone(), home.agent.clone());
    let poll = std::thread::spawn(move || client.poll("a", &token, Some(&tag), 50).status);
    home.running.await_poll();
    let began = Instant::now();
    home.running.stop();
    assert_eq!(poll.join().unwrap(), 304);
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn two_processes_over_one_database_are_one_backend() {
    let home = started();
    let database = format!(
        "sqlite:{}",
        home.running.directory.path().join("q.sqlite").display()
    );
    let other = Running::with(|config| config.database = database);
    let tag = home.client.poll("a", &home.agent, None, 0).etag.unwrap();
    std::thread::scope(|scope| {
        let poll = scope.spawn(|| home.client.poll("a", &home.agent, Some(&tag), 30));
        home.running.await_poll();
        let began = Instant::now();
        let created = other
            .client
            .json("POST", SESSIONS, &home.consumer, &session());
        assert_eq!(
            created.status, 201,
            "one's tokens are the other's: {}",
            created.body
        );
        let answer = poll.join().unwrap();
        assert_eq!(
            answer.body["sessions"][0]["sessionId"],
            created.body["sessionId"]
        );
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
    });
}
