//! How the process runs: its log, its limits and its end.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::program::{PATIENCE, PROGRAM, Program};
use common::{ADMIN, Running, SCOPES, home_h, session};
use serde_json::{Value, json};

fn config() -> Value {
    json!({"listen": "127.0.0.1:0", "adminTokenFile": "admin"})
}

fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("admin"), ADMIN).unwrap();
    directory
}

fn logging(level: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command.env("RUST_LOG", level);
    command
}

fn start(directory: &Path, level: &str, change: Value) -> Program {
    let mut config = config();
    for (key, value) in change.as_object().unwrap() {
        config[key] = value.clone();
    }
    Program::start_as(logging(level), directory, &config)
}

#[test]
fn a_request_is_found_in_the_log_by_its_correlator() {
    let directory = directory();
    let program = start(directory.path(), "info", json!({"logFormat": "json"}));
    let client = &program.client;
    client.admin("PUT", "/homes/h", &home_h());
    let token = client.consumer("app", &SCOPES);
    let bearer = format!("Bearer {token}");
    let name = "order-1:<{a/b}>;_.";
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("x-correlator", name),
    ];
    let path = "/qod/v0/sessions?secret=hidden";
    let created = client.send("POST", path, &headers, session().to_string());
    assert_eq!(created.status, 201, "{}", created.body);
    assert_eq!(created.headers["x-correlator"], name);
    let of_request = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["span"]["correlator"] == name
    };
    program.await_line(|line| of_request(line) && line.contains("answered"));
    let lines: Vec<Value> = program
        .lines()
        .iter()
        .filter(|line| of_request(line))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let messages: Vec<_> = lines.iter().map(|line| &line["message"]).collect();
    assert_eq!(messages, ["session created", "answered"]);
    let access = &lines[1];
    assert_eq!(
        (&access["method"], &access["path"], &access["status"]),
        (&json!("POST"), &json!("/qod/v0/sessions"), &json!(201))
    );
    assert_eq!(access["peer"], "127.0.0.1");
    assert_eq!(access["span"]["consumer"], "app");
    assert!(access["seconds"].as_f64().unwrap() >= 0.0);
    for secret in ["hidden", ADMIN, token.as_str()] {
        assert!(!program.lines().iter().any(|line| line.contains(secret)));
    }

    let illegal = [("x-correlator", "no spaces")];
    let made = client.send("GET", "/nothing", &illegal, "");
    assert_eq!(made.status, 404);
    assert_eq!(made.headers["x-correlator"].len(), 36);
}

#[test]
fn polls_of_agents_are_logged_at_debug_alone() {
    let there = directory();
    for (level, is_logged) in [("info", false), ("qod_backend=debug", true)] {
        let program = start(there.path(), level, json!({}));
        let client = &program.client;
        client.admin("PUT", "/homes/h", &home_h());
        let agent = client.agent_token("a");
        let answer = client.poll("a", &agent, None, 0);
        assert!(answer.headers.contains_key("x-correlator"));
        client.report("a", &agent, 1, &answer.body["revision"], &[]);
        client.get("/admin/v1/homes/h", ADMIN);
        program
            .await_line(|line| line.contains("answered method=GET path=\"/admin/v1/homes/{id}\""));
        let polls: Vec<_> = program
            .lines()
            .into_iter()
            .filter(|line| line.contains("answered") && line.contains("path=\"/agent/v1/"))
            .collect();
        assert_eq!(!polls.is_empty(), is_logged, "{polls:#?}");
        assert!(
            polls.iter().all(|line| line.contains("agent=\"a\"")),
            "{polls:#?}"
        );
    }
}

#[test]
fn a_process_that_drains_says_so_first() {
    let directory = directory();
    let mut program = start(directory.path(), "info", json!({"drainSeconds": 3}));
    let client = program.client.clone();
    client.admin("PUT", "/homes/h", &home_h());
    let token = client.consumer("app", &SCOPES);
    let agent = client.agent_token("a");
    let tag = client.poll("a", &agent, None, 0).etag.unwrap();
    assert_eq!(client.get("/readyz", "").status, 200);
    program.signal("-TERM");
    let began = Instant::now();
    while client.get("/readyz", "").status == 200 {
        assert!(began.elapsed() < Duration::from_secs(2));
    }
    assert_eq!(
        client.get("/readyz", "").error(),
        (503, "SERVICE_UNAVAILABLE", "Service unavailable")
    );
    assert_eq!(client.get("/healthz", "").status, 200);
    // Requests that come all the same are answered, and polls at once.
    let created = client.json("POST", "/qod/v0/sessions", &token, &session());
    assert_eq!(created.status, 201);
    let changed = client.poll("a", &agent, Some(&tag), 50);
    let tag = changed.etag.unwrap();
    assert_eq!(client.poll("a", &agent, Some(&tag), 50).status, 304);
    assert_eq!(program.await_end().code(), Some(0));
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(2_500), "{took:?}");
}

#[test]
fn a_request_under_way_is_finished() {
    let directory = directory();
    let mut program = start(directory.path(), "info", json!({}));
    program.client.admin("PUT", "/homes/h", &home_h());
    let token = program.client.consumer("app", &SCOPES);
    let body = session().to_string();
    let address = program.client.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "POST /qod/v0/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let (first, rest) = body.split_at(10);
    stream.write_all(first.as_bytes()).unwrap();
    // Another request, so that the first one has arrived.
    assert_eq!(program.client.get("/healthz", "").status, 200);
    program.signal("-TERM");
    program.await_line(|line| line.contains("ending"));
    stream.write_all(rest.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(program.await_end().code(), Some(0));
    let again = start(directory.path(), "info", json!({}));
    let sessions = again.client.get("/admin/v1/sessions", ADMIN).body;
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for second in ["-TERM", "-INT"] {
        let directory = directory();
        let mut program = start(directory.path(), "info", json!({"drainSeconds": 300}));
        program.signal("-TERM");
        program.await_line(|line| line.contains("ending"));
        program.signal(second);
        assert_eq!(program.await_end().code(), Some(1));
    }
}

#[test]
fn open_files_are_allowed_as_many_as_may_be() {
    let directory = directory();
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "ulimit -Sn 500 && ulimit -Hn 2000 && exec \"$0\" \"$@\"",
        ])
        .arg(PROGRAM)
        .env("RUST_LOG", "info");
    let program = Program::start_as(command, directory.path(), &config());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", program.child.id())).unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let numbers: Vec<_> = files.unwrap().split_whitespace().skip(3).collect();
    assert_eq!(&numbers[..2], ["2000", "2000"]);
    program
        .await_line(|line| line.contains("open files are limited below") && line.contains("2000"));
}

#[test]
fn every_answer_has_a_correlator() {
    let running = Running::start();
    for (method, path) in [
        ("GET", "/healthz"),
        ("POST", "/healthz"),
        ("GET", "/nothing"),
        ("POST", "/qod/v0/sessions"),
        ("DELETE", "/admin/v1/homes/%00"),
    ] {
        let answer = running.client.send(method, path, &[], "");
        assert!(
            answer.headers.contains_key("x-correlator"),
            "{method} {path}"
        );
    }
}
