//! Many callers at once, several processes over one database, and processes that end in the middle.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::postgresql::{postgresql, postgresql_directory};
use common::program::Program;
use common::{ADMIN, Answer, Client, SCOPES, home_h, session, session_with};
use serde_json::{Value, json};

const SESSIONS: &str = "/qod/v0/sessions";

fn start(directory: &Path, database: &str) -> Program {
    fs::write(directory.join("admin"), ADMIN).unwrap();
    fs::write(directory.join("key"), "5a".repeat(32)).unwrap();
    let config = json!({"listen": "127.0.0.1:0", "adminTokenFile": "admin", "database": database,
        "issuer": {"url": "https://backend.example"}, "notifications": {"keyFile": "key"}});
    Program::start(directory, &config)
}

/// As many callers ask two processes for one flow at the same moment.
fn one_flow_makes_one_session(database: &str) {
    const CALLERS: usize = 200;
    let directory = tempfile::tempdir().unwrap();
    let processes = [(); 2].map(|()| start(directory.path(), database));
    processes[0].client.admin("PUT", "/homes/h", &home_h());
    let token = processes[0].client.consumer("app", &SCOPES);
    let together = Barrier::new(CALLERS);
    let mut answers = BTreeMap::new();
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let client = &processes[caller % 2].client;
                let (token, together) = (&token, &together);
                scope.spawn(move || {
                    together.wait();
                    client.json("POST", SESSIONS, token, &session()).status
                })
            })
            .collect();
        for caller in callers {
            *answers.entry(caller.join().unwrap()).or_insert(0) += 1;
        }
    });
    assert_eq!(answers, BTreeMap::from([(201, 1), (409, CALLERS - 1)]));
    let stored = processes[1].client.get("/admin/v1/sessions", ADMIN).body;
    assert_eq!(stored["sessions"].as_array().unwrap().len(), 1);
}

#[test]
fn one_flow_at_two_processes_makes_one_session() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shared.sqlite");
    one_flow_makes_one_session(&format!("sqlite:{}", file.display()));
}

#[test]
#[ignore = "needs PostgreSQL's server programs: run with --ignored; QOD_POSTGRES_BIN names their directory"]
fn postgresql_one_flow_at_two_processes_makes_one_session() {
    let directory = postgresql_directory();
    let (_cluster, url) = postgresql(directory.path());
    one_flow_makes_one_session(&url);
}

const HOMES: usize = 40;
const CREATES: usize = 1_000;

fn home(number: usize) -> Value {
    json!({"agentIds": [format!("a{number}")], "subs": [], "phoneNumbers": [], "networkAccessIdentifiers": [],
        "prefixes": [format!("198.18.0.{number}/32")], "consumers": "all"})
}

/// The request with this number: of one home in turn, and overlapping no other.
fn post(client: &Client, token: &str, number: usize) -> Result<Answer, ureq::Error> {
    let bearer = format!("Bearer {token}");
    let key = format!("request-{number}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("idempotency-key", &key),
    ];
    let body = session_with(&json!({
        "device": {"ipv4Address": {"publicAddress": format!("198.18.0.{}", number % HOMES), "privateAddress": "192.168.1.23"}},
        "applicationServerPorts": {"ports": [5_000 + number]}}));
    client.try_send("POST", SESSIONS, &headers, body.to_string())
}

/// What does not depend on what agents say.
fn content(mut session: Value) -> Value {
    let shown = session.as_object_mut().unwrap();
    shown.remove("qosStatus").unwrap();
    shown.remove("messages").unwrap();
    session
}

#[test]
fn a_kill_among_a_thousand_creates_loses_nothing_that_was_answered() {
    const CALLERS: usize = 16;
    let directory = tempfile::tempdir().unwrap();
    let mut first = start(directory.path(), "sqlite:q.sqlite");
    for number in 0..HOMES {
        let path = format!("/homes/h{number}");
        first.client.admin("PUT", &path, &home(number));
    }
    let token = first.client.consumer("app", &SCOPES);
    let answered_count = AtomicUsize::new(0);
    let mut answered = BTreeMap::new();
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (client, token, count) = (first.client.clone(), &token, &answered_count);
                scope.spawn(move || {
                    let mut answered = Vec::new();
                    for number in (caller..CREATES).step_by(CALLERS) {
                        let Ok(answer) = post(&client, token, number) else {
                            break;
                        };
                        assert_eq!(answer.status, 201, "{}", answer.body);
                        answered.push((number, content(answer.body)));
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    answered
                })
            })
            .collect();
        while answered_count.load(Ordering::Relaxed) < CREATES / 2 {
            std::thread::sleep(Duration::from_millis(1));
        }
        first.signal("-KILL");
        for caller in callers {
            answered.extend(caller.join().unwrap());
        }
    });
    first.child.wait().unwrap();
    assert!(answered.len() < CREATES, "it was killed after the last one");

    let second = start(directory.path(), "sqlite:q.sqlite");
    let stored = second.client.get("/admin/v1/sessions", ADMIN).body;
    let stored = stored["sessions"].as_array().unwrap();
    assert!((answered.len()..=answered.len() + CALLERS).contains(&stored.len()));
    for session in answered.values() {
        let id = session["sessionId"].as_str().unwrap();
        let got = second.client.get(&format!("{SESSIONS}/{id}"), &token);
        assert_eq!((got.status, &content(got.body)), (200, session));
    }
    // Agents are told of the same sessions, whether or not somebody was told that they were made.
    let mut told = BTreeSet::new();
    for number in 0..HOMES {
        let agent = format!("a{number}");
        let agent_token = second.client.agent_token(&agent);
        let instructions = second.client.poll(&agent, &agent_token, None, 0).body;
        for session in instructions["sessions"].as_array().unwrap() {
            let id = session["sessionId"].as_str().unwrap();
            let got = second.client.get(&format!("{SESSIONS}/{id}"), &token).body;
            let server_ports = "applicationServerPorts";
            assert_eq!(session[server_ports], got[server_ports]);
            assert!(told.insert(id.to_owned()));
        }
    }
    let ids = stored.iter().map(|session| &session["sessionId"]);
    assert_eq!(
        told,
        ids.map(|id| id.as_str().unwrap().to_owned()).collect()
    );

    // Who got no answer asks again, and everybody has one session.
    let mut ids = BTreeSet::new();
    for number in 0..CREATES {
        let answer = post(&second.client, &token, number).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.body);
        if let Some(before) = answered.get(&number) {
            assert_eq!(&content(answer.body.clone()), before);
        }
        assert!(ids.insert(answer.body["sessionId"].as_str().unwrap().to_owned()));
    }
    assert!(told.is_subset(&ids));
}

#[test]
fn a_caller_that_was_cut_off_gets_the_session_that_was_made() {
    let directory = tempfile::tempdir().unwrap();
    let program = start(directory.path(), "sqlite:q.sqlite");
    for number in 0..HOMES {
        let path = format!("/homes/h{number}");
        program.client.admin("PUT", &path, &home(number));
    }
    let token = program.client.consumer("app", &SCOPES);
    let address = program.client.url.strip_prefix("http://").unwrap();
    for number in 0..HOMES {
        let body = session_with(&json!({
            "device": {"ipv4Address": {"publicAddress": format!("198.18.0.{number}"), "privateAddress": "192.168.1.23"}},
            "applicationServerPorts": {"ports": [5_000 + number]}}))
        .to_string();
        let mut stream = TcpStream::connect(address).unwrap();
        write!(
            stream,
            "POST {SESSIONS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
             idempotency-key: request-{number}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        // It goes before the request is read, while it is carried out, or when the answer is under way.
        std::thread::sleep(Duration::from_micros(150 * number as u64));
        drop(stream);
        let [again, once_more] = [(); 2].map(|()| post(&program.client, &token, number).unwrap());
        assert_eq!((again.status, once_more.status), (201, 201));
        assert_eq!(content(again.body), content(once_more.body));
    }
    let stored = program.client.get("/admin/v1/sessions", ADMIN).body;
    assert_eq!(stored["sessions"].as_array().unwrap().len(), HOMES);
}

#[test]
fn a_session_lasts_its_duration_across_a_restart() {
    const LASTS: Duration = Duration::from_secs(6);
    // Both clocks are the machine's; times are stored in whole milliseconds.
    const ROUNDED: Duration = Duration::from_millis(2);
    let directory = tempfile::tempdir().unwrap();
    let mut first = start(directory.path(), "sqlite:q.sqlite");
    first.client.admin("PUT", "/homes/h", &home_h());
    let token = first.client.consumer("app", &SCOPES);
    let agent = first.client.agent_token("a");
    let asked = Instant::now();
    let body = session_with(&json!({"duration": LASTS.as_secs()}));
    let created = first.client.json("POST", SESSIONS, &token, &body);
    let answered = Instant::now();
    assert_eq!(created.status, 201, "{}", created.body);
    let path = format!("{SESSIONS}/{}", created.body["sessionId"].as_str().unwrap());
    std::thread::sleep((asked + LASTS / 3).saturating_duration_since(Instant::now()));
    first.signal("-KILL");
    first.child.wait().unwrap();

    // The end lies between its earliest and its latest moment, and each answer between its call and its arrival.
    let (earliest, latest) = (asked + LASTS - ROUNDED, answered + LASTS + ROUNDED);
    let second = start(directory.path(), "sqlite:q.sqlite");
    let mut was_there = false;
    loop {
        let called = Instant::now();
        let status = second.client.get(&path, &token).status;
        let told = second.client.poll("a", &agent, None, 0).body;
        let arrived = Instant::now();
        let told = told["sessions"].as_array().unwrap().first();
        match status {
            200 => assert!(called <= latest, "{:?} late", called - latest),
            404 => assert!(arrived >= earliest, "{:?} early", earliest - arrived),
            other => panic!("{other}"),
        }
        if let Some(told) = told {
            assert!(called <= latest, "{:?} late", called - latest);
            let left = Duration::from_secs_f64(told["expiresIn"].as_f64().unwrap());
            assert!(called + left <= latest && arrived + left >= earliest);
        } else {
            assert!(arrived >= earliest, "{:?} early", earliest - arrived);
        }
        was_there |= status == 200 && told.is_some();
        if status == 404 && told.is_none() {
            break;
        }
    }
    assert!(was_there, "the restart took as long as the session");
}
