//! Agents that are asked for their status, by real backends, with a real HTTP server in the agents' place.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod common;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{ADMIN, Client, Running, SCOPES, home_h, session};
use serde_json::{Value, json};

const TOKEN: &str = "s3cret-t0ken!";

/// What a request said: path and `Authorization`.
type Seen = (String, String);

/// Stands where agents' status servers are.
#[derive(Clone)]
struct Agents {
    address: SocketAddr,
    /// Status line and body for each path; other paths are 404.
    answers: Arc<Mutex<BTreeMap<String, (String, String)>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Agents {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let agents = Self {
            address: listener.local_addr().unwrap(),
            answers: Arc::default(),
            seen: Arc::default(),
        };
        let serving = agents.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.exchange(stream.unwrap()));
            }
        });
        agents
    }

    fn exchange(&self, mut stream: TcpStream) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let mut words = head.split(' ');
        assert_eq!(words.next(), Some("GET"));
        let path = words.next().unwrap().to_owned();
        let authorization = head
            .lines()
            .find_map(|line| line.strip_prefix("authorization: "))
            .unwrap_or_default()
            .to_owned();
        let answer = self.answers.lock().unwrap().get(&path).cloned();
        self.seen.lock().unwrap().push((path, authorization));
        let (status, body) = answer.unwrap_or(("404 Not Found".to_owned(), String::new()));
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let _ = stream.write_all(answer.as_bytes());
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn answer(&self, path: &str, status: &str, body: &str) {
        let answer = (status.to_owned(), body.to_owned());
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    fn report(&self, path: &str, report: &Value) {
        self.answer(path, "200 OK", &report.to_string());
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How often each path was asked.
    fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (path, _) in self.seen() {
            *counts.entry(path).or_default() += 1;
        }
        counts
    }
}

fn report(agent: &str, sequence: u64) -> Value {
    json!({"agentId": agent, "bootId": "boot", "sequence": sequence, "version": "0.1.0", "uptime": 1,
        "kernel": "6.6", "revision": 1, "sessions": []})
}

fn admin(client: &Client, agent: &str) -> Value {
    client.admin("GET", &format!("/agents/{agent}"), &json!({}))
}

fn provision(client: &Client, agent: &str, url: &str) {
    let body = json!({"statusUrl": url, "statusToken": TOKEN});
    client.admin("PUT", &format!("/agents/{agent}"), &body);
}

/// Looks until it is so, for twenty seconds.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Moves the clock on until it is so.
fn until_later(running: &Running, step_ms: i64, what: &str, mut is_so: impl FnMut() -> bool) {
    until(what, || {
        let is_so = is_so();
        if !is_so {
            running.clock.advance(step_ms);
        }
        is_so
    });
}

/// Moves the clock on until the agent is to be asked next, and no further.
fn until_due(running: &Running, poll: &Value) {
    let next_ms = (poll["next"].as_i64().unwrap() + 1) * 1_000;
    running.clock.advance(next_ms - running.clock.now_ms());
}

#[test]
fn what_a_fetched_report_says_counts_as_what_the_agent_sends() {
    let running = Running::start();
    running.home();
    let client = &running.client;
    let agents = Agents::start();
    let consumer = client.consumer("app", &SCOPES);
    let token = client.agent_token("a");
    let created = client.json("POST", "/qod/v0/sessions", &consumer, &session());
    let id = created.body["sessionId"].as_str().unwrap();
    let polled = client.poll("a", &token, None, 0).body;
    let mut said = report("a", 7);
    said["revision"] = polled["revision"].clone();
    said["sessions"] = json!([{"sessionId": id, "state": "ACTIVE"}]);
    // The agent's own server is on another address than its home's traffic comes from.
    said["wan"] = json!({"device": "wan", "addresses": ["127.0.0.1", "203.0.113.7", "198.51.100.9"], "prefixes": []});
    agents.report("/v1/status", &said);
    provision(client, "a", &agents.url("/v1/status"));
    until("it is asked", || {
        admin(client, "a")["statusPoll"]["lastAnswered"].is_number()
    });
    assert_eq!(
        agents.seen(),
        [("/v1/status".to_owned(), format!("Bearer {TOKEN}"))]
    );
    let shown = admin(client, "a");
    assert_eq!(shown["version"], "0.1.0");
    assert_eq!(shown["appliedRevision"], polled["revision"]);
    assert_eq!(shown["status"]["sequence"], 7);
    assert_eq!(shown["address"], Value::Null, "it never reported by itself");
    assert_eq!(shown["statusUrl"], agents.url("/v1/status"));
    assert_eq!(shown["statusPoll"]["hasToken"], true);
    assert_eq!(shown["statusPoll"]["lastPolled"], 1_700_000_000);
    assert_eq!(shown["statusPoll"]["lastFailure"], Value::Null);
    let seconds = shown["statusPoll"]["next"].as_i64().unwrap() - 1_700_000_000;
    assert!((56..=64).contains(&seconds), "{seconds}");
    assert!(!shown.to_string().contains(TOKEN));
    let listed = client.admin("GET", "/agents", &json!({}));
    assert_eq!(listed["agents"][0]["statusUrl"], shown["statusUrl"]);
    assert_eq!(listed["agents"][0]["statusPoll"], shown["statusPoll"]);
    let session = client.get(&format!("/qod/v0/sessions/{id}"), &consumer);
    assert_eq!(session.body["qosStatus"], "AVAILABLE");
    // Of its addresses the one in the home's prefixes is believed.
    assert_eq!(running.number("SELECT COUNT(*) FROM agent_addresses"), 1);
    assert_eq!(
        running.number(
            "SELECT COUNT(*) FROM agent_addresses WHERE address = '203.0.113.7' AND agent_id = 'a'"
        ),
        1
    );
    // In the store and its log the token is not to be read.
    for file in std::fs::read_dir(running.directory.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(
            !bytes
                .windows(TOKEN.len())
                .any(|part| part == TOKEN.as_bytes())
        );
    }

    // Its own report tells where it is; what is fetched later does not take that back.
    said["sequence"] = json!(8);
    let own = client.json("PUT", "/agent/v1/agents/a/status", &token, &said);
    assert_eq!(own.status, 204);
    let believed = || running.number("SELECT COUNT(*) FROM agent_addresses");
    assert_eq!(believed(), 2);
    said["sequence"] = json!(9);
    agents.report("/v1/status", &said);
    until_due(&running, &admin(client, "a")["statusPoll"]);
    until("it is asked again", || {
        admin(client, "a")["status"]["sequence"] == 9
    });
    assert_eq!(believed(), 2);
    assert_eq!(admin(client, "a")["address"], "127.0.0.1");
}

#[test]
fn failures_are_shown_and_the_agent_is_asked_less_and_less_until_it_answers() {
    let running = Running::start();
    running.home();
    let client = &running.client;
    let agents = Agents::start();
    let url = agents.url("/v1/status");
    for (status, body, words) in [
        (
            "401 Unauthorized",
            String::new(),
            "it answered 401 Unauthorized",
        ),
        ("302 Found", String::new(), "it answered 302 Found"),
        (
            "200 OK",
            "<html>".to_owned(),
            "Schema validation failed at the report: expected value at line 1 column 1",
        ),
        (
            "200 OK",
            report("b", 1).to_string(),
            "Schema validation failed at agentId: it is not the agent of this path",
        ),
        (
            "200 OK",
            "x".repeat(1024 * 1024 + 1),
            "it is longer than 1048576 bytes",
        ),
    ] {
        agents.answer("/v1/status", status, &body);
        provision(client, "a", &url);
        let last = || admin(client, "a")["statusPoll"]["lastFailure"].clone();
        until(words, || last().is_object());
        assert_eq!(last()["at"], 1_700_000_000, "{words}");
        let message = last()["message"].as_str().unwrap().to_owned();
        assert!(message.ends_with(words), "{message}");
    }
    // Nobody listens there.
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    provision(client, "a", &format!("http://{closed}/secret?path"));
    let poll = || admin(client, "a")["statusPoll"].clone();
    until("it fails", || poll()["failures"] == 1);
    let message = poll()["lastFailure"]["message"].to_string();
    assert!(message.contains("connect to 127.0.0.1"), "{message}");
    assert!(!message.contains("secret"), "{message}");
    let pause = || poll()["next"].as_i64().unwrap() - poll()["lastPolled"].as_i64().unwrap();
    assert!((56..=64).contains(&pause()), "{}", pause());
    for (failures, seconds) in [(2, 120), (3, 240), (4, 480), (5, 600), (6, 600)] {
        until_due(&running, &poll());
        until("it fails again", || poll()["failures"] == failures);
        let (least, most) = (seconds - seconds / 16 - 1, seconds + seconds / 16 + 1);
        assert!((least..=most).contains(&pause()), "{failures}: {}", pause());
    }
    let listener = TcpListener::bind(closed).unwrap();
    let answering = Agents {
        address: closed,
        ..Agents::start()
    };
    answering.report("/secret?path", &report("a", 1));
    let serving = answering.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            serving.exchange(stream.unwrap());
        }
    });
    until_due(&running, &poll());
    until("it answers", || poll()["failures"] == 0);
    assert!(
        poll()["lastFailure"].is_object(),
        "the last one is still shown"
    );
    assert!((56..=64).contains(&pause()), "{}", pause());

    client.admin("PUT", "/agents/a", &json!({}));
    let shown = admin(client, "a");
    assert_eq!(
        (&shown["statusUrl"], &shown["statusPoll"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(running.number("SELECT COUNT(*) FROM status_polls"), 0);
}

#[test]
fn an_agent_without_a_token_is_asked_without_one_and_a_removed_one_not_at_all() {
    let running = Running::start();
    running.home();
    let client = &running.client;
    let agents = Agents::start();
    agents.report("/v1/status", &report("a", 1));
    let body = json!({"statusUrl": agents.url("/v1/status")});
    let shown = client.admin("PUT", "/agents/a", &body);
    assert_eq!(shown["statusPoll"]["hasToken"], false);
    until("it is asked", || !agents.seen().is_empty());
    assert_eq!(agents.seen()[0].1, "");
    let removed = client.delete("/admin/v1/agents/a", ADMIN);
    assert_eq!(removed.status, 204);
    assert_eq!(running.number("SELECT COUNT(*) FROM status_polls"), 0);
    client.admin("PUT", "/homes/h", &home_h());
    assert_eq!(admin(client, "a")["statusUrl"], Value::Null);
}

#[test]
fn two_processes_over_one_database_ask_each_agent_once_an_interval() {
    const AGENTS: usize = 40;
    let change =
        |config: &mut qod_backend::config::Config| config.operation.status_poll_seconds = 5;
    let first = Running::with(change);
    let database = format!(
        "sqlite:{}",
        first.directory.path().join("q.sqlite").display()
    );
    let key = first.directory.path().join("key");
    let second = Running::with(|config| {
        change(config);
        config.database = database;
        config.notifications.key_file = Some(key);
    });
    let client = &first.client;
    let agents = Agents::start();
    let ids: Vec<String> = (0..AGENTS).map(|number| format!("a{number}")).collect();
    let mut home = home_h();
    home["agentIds"] = json!(ids);
    client.admin("PUT", "/homes/h", &home);
    for id in &ids {
        let path = format!("/{id}");
        agents.report(&path, &report(id, 1));
        provision(client, id, &agents.url(&path));
    }
    for round in 1..=3 {
        until("all are asked", || {
            let counts = agents.counts();
            counts.len() == AGENTS && counts.values().all(|count| *count >= round)
        });
        // What both had taken would be seen when the next round is through, too.
        assert!(
            agents.counts().values().all(|count| *count == round),
            "{round}: {:?}",
            agents.counts()
        );
        until("how it went is written", || {
            first.number("SELECT COUNT(*) FROM status_polls WHERE answered_ms = asked_ms")
                == i64::try_from(AGENTS).unwrap()
        });
        for running in [&first, &second] {
            // A sixteenth more than the interval: everybody is due once.
            running.clock.advance(5_320);
        }
    }
    assert!(
        agents
            .seen()
            .iter()
            .all(|(_, token)| *token == format!("Bearer {TOKEN}"))
    );
}

#[test]
fn when_one_process_ends_another_asks() {
    let mut first = Running::start();
    first.home();
    let database = format!(
        "sqlite:{}",
        first.directory.path().join("q.sqlite").display()
    );
    let key = first.directory.path().join("key");
    let second = Running::with(|config| {
        config.database = database;
        config.notifications.key_file = Some(key);
    });
    let agents = Agents::start();
    agents.report("/v1/status", &report("a", 1));
    provision(&first.client, "a", &agents.url("/v1/status"));
    until("it is asked", || !agents.seen().is_empty());
    first.stop();
    let asked = agents.seen().len();
    until_later(&second, 5_000, "the other asks", || {
        agents.seen().len() > asked
    });
}

#[test]
fn a_server_that_does_not_answer_holds_up_nobody() {
    let running = Running::start();
    let mut home = home_h();
    home["agentIds"] = json!(["a", "b"]);
    running.client.admin("PUT", "/homes/h", &home);
    // Connections are taken and nothing is said.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    provision(&running.client, "a", &url);
    let (_held, _) = silent.accept().unwrap();
    let agents = Agents::start();
    agents.report("/v1/status", &report("b", 1));
    provision(&running.client, "b", &agents.url("/v1/status"));
    until("the other is asked", || !agents.seen().is_empty());
    until("it is given up", || {
        let poll = &admin(&running.client, "a")["statusPoll"];
        poll["lastFailure"]["message"]
            .as_str()
            .is_some_and(|message| message.ends_with("no whole answer within 5 s"))
    });
}
