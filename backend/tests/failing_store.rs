//! Stores that fail under a running backend: full, locked, read-only, gone.
//!
//! What cannot be done is answered 503 with `Retry-After` and leaves nothing behind; when the store is back, the same
//! process goes on.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod common;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::postgresql::{postgresql, postgresql_directory};
use common::program::{PATIENCE, PROGRAM, Program};
use common::{ADMIN, Answer, Client, SCOPES, home_h, session_with};
use serde_json::{Value, json};

/// A file system of 2 MB on a directory, which is taken away in the end. It takes root.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn on(directory: &'a Path) -> Self {
        run(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                "size=2m",
                "tmpfs",
                &directory.display().to_string(),
            ],
        );
        Self(directory)
    }

    fn make_read_only(&self) {
        run(
            "mount",
            &["-o", "remount,ro", &self.0.display().to_string()],
        );
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[b'x'; 4096]).is_ok() {}
        while file.write_all(b"x").is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        run("umount", &["-l", &self.0.display().to_string()]);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

/// Configuration files here, the database there.
fn config(directory: &Path, database: &str) -> Value {
    fs::write(directory.join("admin"), ADMIN).unwrap();
    fs::write(directory.join("key"), "5a".repeat(32)).unwrap();
    json!({"listen": "127.0.0.1:0", "adminTokenFile": "admin", "database": database,
        "notifications": {"keyFile": "key"}})
}

fn order(client: &Client, token: &str, port: u16) -> Answer {
    let body = session_with(&json!({"devicePorts": {"ports": [port]}}));
    client.json("POST", "/qod/v0/sessions", token, &body)
}

fn sessions(client: &Client) -> usize {
    let answer = client.get("/admin/v1/sessions?home=h", ADMIN);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body["sessions"].as_array().unwrap().len()
}

fn is_unavailable(answer: &Answer) {
    assert_eq!(
        answer.error(),
        (503, "SERVICE_UNAVAILABLE", "Service unavailable")
    );
    assert_eq!(answer.headers["retry-after"], "1");
}

/// Asks until it succeeds.
fn await_order(client: &Client, token: &str, port: u16) {
    let began = Instant::now();
    loop {
        let answer = order(client, token, port);
        if answer.status == 201 {
            return;
        }
        is_unavailable(&answer);
        assert!(began.elapsed() < PATIENCE, "it does not recover");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let disk = tempfile::tempdir().unwrap();
    let small = Small::on(disk.path());
    let database = format!("sqlite:{}", disk.path().join("q.sqlite").display());
    let program = Program::start(directory.path(), &config(directory.path(), &database));
    let client = &program.client;
    client.admin("PUT", "/homes/h", &home_h());
    let token = client.consumer("app", &SCOPES);
    assert_eq!(order(client, &token, 1).status, 201);
    small.fill();
    // The log may have some room of its own.
    let mut made = 1;
    let refused = loop {
        assert!(made < 1_000, "the disk does not fill up");
        let answer = order(client, &token, made + 1);
        if answer.status != 201 {
            break answer;
        }
        made += 1;
    };
    is_unavailable(&refused);
    assert_eq!(
        sessions(client),
        usize::from(made),
        "what was read before is read still"
    );
    // What is smaller may find room still; it is there then, and else it is not.
    let scopes = json!({"scopes": SCOPES});
    let put = client.json("PUT", "/admin/v1/consumers/other", ADMIN, &scopes);
    let got = client.get("/admin/v1/consumers/other", ADMIN);
    if put.status == 201 {
        assert_eq!(got.status, 200);
    } else {
        is_unavailable(&put);
        assert_eq!(got.status, 404);
    }
    let text = client.get("/metrics", ADMIN).text;
    let failures = text
        .lines()
        .find_map(|line| line.strip_prefix("qod_store_unavailable_total "));
    assert!(failures.unwrap().parse::<u64>().unwrap() >= 1);
    small.free();
    await_order(client, &token, made + 1);
    assert_eq!(sessions(client), usize::from(made) + 1);
    drop(program);
    let again = Program::start(directory.path(), &config(directory.path(), &database));
    assert_eq!(sessions(&again.client), usize::from(made) + 1);
}

#[test]
fn a_database_that_another_process_holds_is_waited_for_and_then_refused() {
    let directory = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", directory.path().join("q.sqlite").display());
    let program = Program::start(directory.path(), &config(directory.path(), &database));
    let client = &program.client;
    client.admin("PUT", "/homes/h", &home_h());
    let token = client.consumer("app", &SCOPES);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    sqlx::any::install_default_drivers();
    let pool = runtime.block_on(sqlx::AnyPool::connect(&database)).unwrap();
    let mut held = runtime.block_on(pool.acquire()).unwrap();
    let mut say = |statement: &'static str| {
        runtime
            .block_on(sqlx::query(statement).execute(&mut *held))
            .unwrap();
    };
    say("BEGIN IMMEDIATE");
    is_unavailable(&order(client, &token, 1));
    assert_eq!(client.get("/readyz", "").status, 200, "it is read");
    assert_eq!(sessions(client), 0);
    say("ROLLBACK");
    runtime.block_on(async {
        drop(held);
        pool.close().await;
    });
    await_order(client, &token, 1);
    assert_eq!(sessions(client), 1);
}

#[test]
fn a_read_only_file_is_named_at_start() {
    let directory = tempfile::tempdir().unwrap();
    let disk = tempfile::tempdir().unwrap();
    let small = Small::on(disk.path());
    let database = format!("sqlite:{}", disk.path().join("q.sqlite").display());
    let config = config(directory.path(), &database);
    let mut program = Program::start(directory.path(), &config);
    program.client.admin("PUT", "/homes/h", &home_h());
    program.signal("-TERM");
    assert_eq!(program.await_end().code(), Some(0));
    small.make_read_only();
    let output = Command::new(PROGRAM)
        .args(["serve", "--config", "config.json"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("qod-backend: ") && said.contains("database"),
        "{said}"
    );
}

#[test]
#[ignore = "needs PostgreSQL's server programs: run with --ignored; QOD_POSTGRES_BIN names their directory"]
fn postgresql_may_go_and_come_back() {
    let there = postgresql_directory();
    let (cluster, url) = postgresql(there.path());
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path(), &config(directory.path(), &url));
    let client = &program.client;
    client.admin("PUT", "/homes/h", &home_h());
    let token = client.consumer("app", &SCOPES);
    let agent = client.agent_token("a");
    assert_eq!(order(client, &token, 1).status, 201);
    let tag = client.poll("a", &agent, None, 0).etag.unwrap();
    let poller = client.clone();
    let token_of_agent = agent.clone();
    let poll = std::thread::spawn(move || poller.poll("a", &token_of_agent, Some(&tag), 55));
    for round in 0..2 {
        cluster.stop();
        is_unavailable(&order(client, &token, 10 + round));
        is_unavailable(&client.get("/readyz", ""));
        is_unavailable(&client.poll("a", &agent, None, 0));
        assert_eq!(client.get("/healthz", "").status, 200);
        cluster.start_again();
        await_order(client, &token, 10 + round);
        assert_eq!(client.get("/readyz", "").status, 200);
    }
    assert_eq!(sessions(client), 3);
    let answer = poll.join().unwrap();
    assert!(matches!(answer.status, 200 | 503), "{}", answer.status);
}
