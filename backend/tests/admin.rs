//! What the operator changes and removes, and what becomes of it at agents and consumers.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod common;

use std::time::{Duration, Instant};

use common::{ADMIN, Answer, Client, Running, SCOPES, home_h, session, session_with};
use serde_json::{Value, json};

const SESSIONS: &str = "/qod/v0/sessions";

struct Operator {
    running: Running,
    client: Client,
    consumer: String,
    agent: String,
}

fn started() -> Operator {
    let running = Running::start();
    running.home();
    let client = running.client.clone();
    Operator {
        consumer: client.consumer("app", &SCOPES),
        agent: client.agent_token("a"),
        client,
        running,
    }
}

impl Operator {
    fn ask(&self, method: &str, path: &str) -> Answer {
        let bearer = format!("Bearer {ADMIN}");
        let path = format!("/admin/v1{path}");
        self.client
            .send(method, &path, &[("authorization", &bearer)], "")
    }

    fn put(&self, path: &str, body: &Value) -> Answer {
        self.client
            .json("PUT", &format!("/admin/v1{path}"), ADMIN, body)
    }

    fn create(&self, token: &str, change: &Value) -> Answer {
        self.client
            .json("POST", SESSIONS, token, &session_with(change))
    }

    fn sessions(&self, query: &str) -> Vec<String> {
        self.ask("GET", &format!("/sessions{query}")).body["sessions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|session| session["sessionId"].as_str().unwrap().to_owned())
            .collect()
    }

    /// What the agent is told now.
    fn told(&self) -> Vec<String> {
        self.client.poll("a", &self.agent, None, 0).body["sessions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|session| session["sessionId"].as_str().unwrap().to_owned())
            .collect()
    }
}

fn id(created: &Answer) -> String {
    assert_eq!(created.status, 201, "{}", created.body);
    created.body["sessionId"].as_str().unwrap().to_owned()
}

/// Looks until it is so, for ten seconds.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_agent_that_is_removed_is_told_so_until_it_is_taken_back() {
    let operator = started();
    let client = &operator.client;
    let tag = client.poll("a", &operator.agent, None, 0).etag.unwrap();
    // A poll that is held is answered at once.
    let held = {
        let (client, agent) = (client.clone(), operator.agent.clone());
        std::thread::spawn(move || client.poll("a", &agent, Some(&tag), 50))
    };
    operator.running.await_poll();
    assert_eq!(operator.ask("DELETE", "/agents/a").status, 204);
    let held = held.join().unwrap();
    assert_eq!(
        held.error(),
        (410, "GONE", "The operator has removed this agent")
    );

    assert_eq!(client.poll("a", &operator.agent, None, 0).status, 410);
    let report = client.report("a", &operator.agent, 1, &json!(1), &[]);
    assert_eq!(report.status, 410);
    let rotate = client.json(
        "POST",
        "/agent/v1/agents/a/token",
        &operator.agent,
        &json!({}),
    );
    assert_eq!(rotate.status, 410);
    assert_eq!(client.poll("a", "somebody", None, 0).status, 401);
    assert_eq!(operator.ask("GET", "/agents/a").status, 404);
    assert_eq!(operator.ask("DELETE", "/agents/a").status, 404);
    assert_eq!(operator.put("/agents/a", &json!({})).status, 404);
    assert_eq!(operator.ask("GET", "/agents").body["agents"], json!([]));
    // Its home knows it no more, so that putting back what was read does not bring it back.
    let home = operator.ask("GET", "/homes/h").body;
    assert_eq!(home["agentIds"], json!([]));

    operator.put("/homes/h", &home_h());
    assert_eq!(client.poll("a", &operator.agent, None, 0).status, 200);

    operator.ask("DELETE", "/agents/a");
    let token = client.agent_token("a");
    assert_eq!(
        client.poll("a", &operator.agent, None, 0).status,
        401,
        "replaced"
    );
    let got = client.poll("a", &token, None, 0);
    assert_eq!(
        (got.status, &got.body["sessions"]),
        (200, &json!([])),
        "it has no home"
    );

    operator.ask("DELETE", "/agents/a");
    assert_eq!(client.poll("a", &token, None, 0).status, 410);
    let bootstrap = client.admin("POST", "/agents/a/bootstrap", &json!({}));
    assert_eq!(client.poll("a", &token, None, 0).status, 200);
    let bootstrap = bootstrap["bootstrapToken"].as_str().unwrap();
    operator.ask("DELETE", "/agents/a");
    let enrol = client.json("POST", "/agent/v1/enrol", bootstrap, &json!({}));
    assert_eq!(enrol.status, 401, "it went with the agent");
}

#[test]
fn a_home_that_is_removed_ends_its_sessions_and_frees_what_told_it() {
    let operator = started();
    let client = &operator.client;
    let session_id = id(&operator.create(&operator.consumer, &json!({})));
    let tag = client.poll("a", &operator.agent, None, 0).etag.unwrap();
    let held = {
        let (client, agent) = (client.clone(), operator.agent.clone());
        std::thread::spawn(move || client.poll("a", &agent, Some(&tag), 50))
    };
    operator.running.await_poll();
    assert_eq!(operator.ask("DELETE", "/homes/h").status, 204);
    let held = held.join().unwrap();
    assert_eq!(
        (held.status, &held.body["sessions"]),
        (200, &json!([])),
        "it has nothing to do any more"
    );
    let gone = client.get(&format!("{SESSIONS}/{session_id}"), &operator.consumer);
    assert_eq!(gone.status, 404);
    assert_eq!(operator.create(&operator.consumer, &json!({})).status, 400);
    assert_eq!(operator.ask("DELETE", "/homes/h").status, 404);
    assert_eq!(operator.ask("GET", "/homes/h").status, 404);
    assert_eq!(operator.ask("GET", "/agents/a").body["home"], Value::Null);

    assert_eq!(operator.put("/homes/other", &home_h()).status, 201);
    let again = id(&operator.create(&operator.consumer, &json!({})));
    assert_eq!(operator.told(), [again]);
}

#[test]
fn a_home_with_more_sessions_than_one_transaction_ends_is_removed_whole() {
    let operator = started();
    for port in 1..=450 {
        let ports = json!({"devicePorts": {"ports": [port]}});
        id(&operator.create(&operator.consumer, &ports));
    }
    assert_eq!(operator.ask("DELETE", "/homes/h").status, 204);
    assert!(operator.sessions("").is_empty());
}

#[test]
fn a_consumer_that_is_removed_has_no_sessions_and_makes_none() {
    let operator = started();
    let client = &operator.client;
    let mut second = home_h();
    second["agentIds"] = json!(["b"]);
    second["subs"] = json!(["user-b"]);
    second["phoneNumbers"] = json!([]);
    second["networkAccessIdentifiers"] = json!([]);
    second["prefixes"] = json!(["203.0.113.9/32"]);
    operator.put("/homes/b", &second);
    let other = client.consumer("other", &SCOPES);
    let user = client.user_token("h", "app");
    id(&operator.create(&operator.consumer, &json!({})));
    let elsewhere = json!({"device": {"ipv4Address":
        {"publicAddress": "203.0.113.9", "privateAddress": "192.168.1.5"}}});
    id(&operator.create(&operator.consumer, &elsewhere));
    let kept = id(&operator.create(
        &other,
        &json!({"devicePorts": {"ports": [9]},
        "device": {"ipv6Address": "2001:db8:85a3::9"}}),
    ));

    assert_eq!(operator.ask("DELETE", "/consumers/app").status, 204);
    assert_eq!(operator.sessions(""), std::slice::from_ref(&kept));
    assert_eq!(operator.told(), [kept]);
    for token in [&operator.consumer, &user] {
        assert_eq!(operator.create(token, &json!({})).status, 401);
    }
    assert_eq!(
        client
            .get("/qod/v0/qos-profiles", &operator.consumer)
            .status,
        401
    );
    assert_eq!(operator.ask("GET", "/consumers/app").status, 404);
    assert_eq!(operator.ask("DELETE", "/consumers/app").status, 404);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let body = "grant_type=client_credentials&client_id=app&client_secret=x";
    let refused = client.send("POST", "/oauth2/token", &form, body);
    assert_eq!(refused.status, 401);

    // One that is made again under the name keeps what it makes.
    let again = client.consumer("app", &SCOPES);
    let made = id(&operator.create(&again, &json!({})));
    operator.running.clock.advance(1_000);
    until("the removal is forgotten", || {
        operator
            .running
            .number("SELECT COUNT(*) FROM removed_consumers")
            == 0
    });
    assert!(operator.sessions("").contains(&made));
}

#[test]
fn sessions_that_a_removed_consumer_still_made_are_ended() {
    let operator = started();
    id(&operator.create(&operator.consumer, &json!({})));
    // As when the process that removed it was cut off, or a request was under way.
    operator.running.sql("DELETE FROM consumers");
    operator
        .running
        .sql("INSERT INTO removed_consumers VALUES ('app', 1700000000250)");
    until("it ends", || operator.sessions("").is_empty());
    operator.running.clock.advance(120_001);
    until("it is forgotten", || {
        operator
            .running
            .number("SELECT COUNT(*) FROM removed_consumers")
            == 0
    });
}

#[test]
fn consent_that_is_withdrawn_ends_sessions_and_an_agent_that_is_taken_away_does_not() {
    let operator = started();
    let other = operator.client.consumer("other", &SCOPES);
    let ended = id(&operator.create(&operator.consumer, &json!({})));
    let kept = id(&operator.create(
        &other,
        &json!({"devicePorts": {"ports": [9]},
        "device": {"ipv6Address": "2001:db8:85a3::9"}}),
    ));
    let mut home = home_h();
    home["consumers"] = json!(["other"]);
    assert_eq!(operator.put("/homes/h", &home).status, 200);
    assert_eq!(operator.sessions(""), std::slice::from_ref(&kept));
    assert_eq!(operator.told(), std::slice::from_ref(&kept));
    let path = format!("{SESSIONS}/{ended}");
    assert_eq!(operator.client.get(&path, &operator.consumer).status, 404);
    assert_eq!(operator.create(&operator.consumer, &json!({})).status, 403);

    home["agentIds"] = json!([]);
    assert_eq!(operator.put("/homes/h", &home).status, 200);
    assert_eq!(operator.sessions(""), [kept]);
    assert_eq!(
        operator.told(),
        [""; 0],
        "but it is not its agent's any more"
    );
}

#[test]
fn sessions_are_listed_by_home_and_consumer() {
    let operator = started();
    let other = operator.client.consumer("other", &SCOPES);
    let mine = id(&operator.create(&operator.consumer, &json!({})));
    let theirs = id(&operator.create(
        &other,
        &json!({"device": {"ipv6Address": "2001:db8:85a3::9"}}),
    ));
    assert_eq!(
        operator.sessions("?consumer=app"),
        std::slice::from_ref(&mine)
    );
    assert_eq!(operator.sessions("?consumer=other&home=h"), [theirs]);
    assert_eq!(operator.sessions("?home=h").len(), 2);
    assert_eq!(operator.sessions("?home=x"), [""; 0]);
    assert_eq!(
        operator.sessions(&format!("?consumer=app&after={mine}")),
        [""; 0]
    );
}

#[test]
fn what_is_wrong_is_named() {
    let operator = started();
    let long = "x".repeat(2_050);
    for (body, message) in [
        (json!([]), "body: must be an object"),
        (json!({"statusUrl": 1}), "statusUrl: must be a string"),
        (json!({"statusUrl": ""}), "statusUrl: must not be empty"),
        (
            json!({"statusUrl": "ftp://x/"}),
            "statusUrl: must be an http or https URL",
        ),
        (
            json!({"statusUrl": "http://"}),
            "statusUrl: must be an http or https URL",
        ),
        (
            json!({"statusUrl": "/v1/status"}),
            "statusUrl: must be an http or https URL",
        ),
        (
            json!({"statusUrl": "http://u:p@x/"}),
            "statusUrl: must not contain user information",
        ),
        (
            json!({"statusUrl": "http://x:0/"}),
            "statusUrl: must not have port 0",
        ),
        (
            json!({"statusUrl": "http://x/a b"}),
            "statusUrl: must not contain spaces, control characters or backslashes",
        ),
        (
            json!({"statusUrl": long}),
            "statusUrl: must not be longer than 2048 bytes",
        ),
        (
            json!({"statusUrl": "http://x/", "statusToken": ""}),
            "statusToken: must not be empty",
        ),
        (
            json!({"statusUrl": "http://x/", "statusToken": "a b"}),
            "statusToken: must be printable ASCII without spaces",
        ),
        (
            json!({"statusUrl": "http://x/", "statusToken": "a\r\nb"}),
            "statusToken: must not contain control characters",
        ),
        (
            json!({"statusUrl": "http://x/", "statusToken": "ä"}),
            "statusToken: must be printable ASCII without spaces",
        ),
        (
            json!({"statusToken": "abc"}),
            "statusToken: is of no use without statusUrl",
        ),
        (
            json!({"statusURL": "http://x/"}),
            "statusURL: is not a known key",
        ),
    ] {
        let refused = operator.put("/agents/a", &body);
        let message = format!("Schema validation failed at {message}");
        assert_eq!(
            refused.error(),
            (400, "INVALID_INPUT", message.as_str()),
            "{body}"
        );
    }
    for (path, message) in [
        (
            "/sessions?hom=h",
            "the query's hom: is not a known parameter",
        ),
        (
            "/homes?home=h",
            "the query's home: is not a known parameter",
        ),
        (
            "/agents?after=a&after=b",
            "the query's after: is given twice",
        ),
        (
            "/sessions?home=%00",
            "the query's home: must be an id of at most 64 bytes",
        ),
        ("/consumers?after=%zz", "the query: it is malformed"),
    ] {
        let refused = operator.ask("GET", path);
        let message = format!("Schema validation failed at {message}");
        assert_eq!(
            refused.error(),
            (400, "INVALID_INPUT", message.as_str()),
            "{path}"
        );
    }
    for path in [
        "/agents/%00",
        "/homes/a%20b",
        "/consumers/%00",
        "/sessions/a%2Fb",
    ] {
        assert_eq!(operator.ask("DELETE", path).status, 400, "{path}");
    }
    for path in ["/agents/x", "/homes/x", "/consumers/x", "/sessions/x"] {
        assert_eq!(operator.ask("DELETE", path).status, 404, "{path}");
        let refused = operator.client.delete(&format!("/admin/v1{path}"), "wrong");
        assert_eq!(refused.status, 401, "{path}");
    }
    let refused = operator
        .client
        .json("PUT", "/admin/v1/agents/a", "wrong", &json!({}));
    assert_eq!(refused.status, 401);
    assert_eq!(operator.put("/agents/x", &json!({})).status, 404);
    assert_eq!(operator.create(&operator.consumer, &session()).status, 201);
}

/// A program that does not outlive its test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn changes_are_logged_with_their_source_and_without_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("admin"), ADMIN).unwrap();
    let config = json!({"listen": "127.0.0.1:0", "adminTokenFile": path("admin"),
        "database": format!("sqlite:{}", path("q.sqlite").display())});
    std::fs::write(path("config.json"), config.to_string()).unwrap();
    let program = std::process::Command::new(env!("CARGO_BIN_EXE_qod-backend"))
        .args(["serve", "--config", "config.json"])
        .current_dir(directory.path())
        .env("RUST_LOG", "debug")
        .stderr(std::fs::File::create(path("log")).unwrap())
        .spawn()
        .unwrap();
    let program = Killed(program);
    let log = || std::fs::read_to_string(path("log")).unwrap();
    until("it listens", || log().contains("listening address="));
    let text = log();
    let (_, rest) = text.split_once("listening address=").unwrap();
    let address = rest.split_whitespace().next().unwrap();
    let client = Client::new(format!("http://{address}"));
    client.admin("PUT", "/homes/h", &home_h());
    let secret = client.admin("PUT", "/consumers/app", &json!({"scopes": ["x"]}))["clientSecret"]
        .as_str()
        .unwrap()
        .to_owned();
    let token = client.agent_token("a");
    client.admin(
        "PUT",
        "/agents/a",
        &json!({"statusUrl": "http://127.0.0.1:9/p4th", "statusToken": "st4tus-t0ken"}),
    );
    let wrong = client.delete("/admin/v1/homes/h", "wr0ng");
    assert_eq!(wrong.status, 401);
    assert_eq!(client.delete("/admin/v1/homes/h", ADMIN).status, 204);
    let change = |method: &str, path: &str, status: u16| {
        let log = log();
        log.lines().any(|line| {
            line.contains(&format!("method={method} "))
                && line.contains(&format!("path=\"/admin/v1{path}\""))
                && line.contains("source=\"127.0.0.1\"")
                && line.contains(&format!("status={status}"))
        })
    };
    for (method, path, status) in [
        ("PUT", "/homes/h", 201),
        ("PUT", "/consumers/app", 201),
        ("POST", "/agents/a/token", 200),
        ("PUT", "/agents/a", 200),
        ("DELETE", "/homes/h", 401),
        ("DELETE", "/homes/h", 204),
    ] {
        until(path, || change(method, path, status));
    }
    drop(program);
    let log = log();
    for secret in [ADMIN, &secret, &token, "st4tus-t0ken", "p4th", "wr0ng"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}
