//! Notifications, from a change to a receiver.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

mod common;
#[path = "notifications/receiver.rs"]
mod receiver;

use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::{ADMIN, Client, Running, SCOPES, home_h, session_with};
use receiver::{Receiver, wait_for};
use serde_json::{Value, json};
use sqlx::Row as _;

const SESSIONS: &str = "/qod/v0/sessions";
const TOKEN: &str = "c8974e592c2fa383d4a3960714";
const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// A backend whose receivers may be here, with a home and a consumer's token.
fn started() -> (Running, Client, String) {
    let running = Running::with(|config| config.notifications.allow_private = true);
    running.home();
    let client = running.client.clone();
    let token = client.consumer("app", &SCOPES);
    (running, client, token)
}

/// A session of its own device port.
fn create(client: &Client, token: &str, port: u16, change: Value) -> String {
    let mut body = session_with(&change);
    body["devicePorts"] = json!({"ports": [port]});
    let created = client.json("POST", SESSIONS, token, &body);
    assert_eq!(created.status, 201, "{}", created.body);
    created.body["sessionId"].as_str().unwrap().to_owned()
}

fn webhook(receiver: &Receiver) -> Value {
    json!({"webhook": {"notificationUrl": receiver.url("/hook"), "notificationAuthToken": TOKEN}})
}

fn top(receiver: &Receiver) -> Value {
    json!({"notificationUrl": receiver.url("/top"), "notificationAuthToken": TOKEN})
}

/// Reports on sessions again and again.
struct Agent {
    client: Client,
    token: String,
    sequence: u64,
}

impl Agent {
    fn of(client: &Client) -> Self {
        Self {
            token: client.agent_token("a"),
            client: client.clone(),
            sequence: 0,
        }
    }

    fn poll(&self) -> Value {
        let polled = self.client.poll("a", &self.token, None, 0);
        polled.body["revision"].clone()
    }

    /// Says the same of all of these sessions.
    fn report(&mut self, state: &str, sessions: &[&str]) {
        let revision = self.poll();
        self.sequence += 1;
        let code = if state == "REJECTED" { "KERNEL" } else { "" };
        let sessions: Vec<_> = sessions
            .iter()
            .map(|id| (*id, state, code, "it broke"))
            .collect();
        let sequence = self.sequence;
        let said = self
            .client
            .report("a", &self.token, sequence, &revision, &sessions);
        assert_eq!(said.status, 204, "{}", said.body);
    }
}

/// A number that the database tells.
fn count(running: &Running, sql: &'static str) -> i64 {
    let file = running.directory.path().join("q.sqlite");
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        sqlx::any::install_default_drivers();
        let pool = sqlx::AnyPool::connect(&format!("sqlite:{}", file.display()))
            .await
            .unwrap();
        let row = sqlx::query(sql).fetch_one(&pool).await.unwrap();
        let count = row.try_get(0).unwrap();
        pool.close().await;
        count
    })
}

fn waiting(running: &Running) -> i64 {
    count(running, "SELECT COUNT(*) FROM outbox")
}

fn wait_until_empty(running: &Running) {
    wait_for("an empty outbox", || (waiting(running) == 0).then_some(()));
}

#[test]
fn both_forms_are_echoed_as_they_came() {
    let (running, client, token) = started();
    let receiver = Receiver::start();
    for (port, form) in [(1, top(&receiver)), (2, webhook(&receiver))] {
        let id = create(&client, &token, port, form.clone());
        let path = format!("{SESSIONS}/{id}");
        let shown = client.get(&path, &token).body;
        for key in ["notificationUrl", "notificationAuthToken", "webhook"] {
            assert_eq!(shown.get(key), form.get(key), "{key}");
        }
        // The consumer's secret is none of the operator's business.
        let shown = client.get(&format!("/admin/v1/sessions/{id}"), ADMIN).body;
        assert_eq!(shown["sessionId"], *id);
        assert!(!shown.to_string().contains(TOKEN), "{shown}");
        assert!(shown.to_string().contains("notificationUrl"));
    }
    // The same words again are the same session, other words are not.
    let key = |body: &Value| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("idempotency-key", "k")];
        client.send("POST", SESSIONS, &headers, body.to_string())
    };
    let mut body = session_with(&webhook(&receiver));
    body["devicePorts"] = json!({"ports": [3]});
    let (first, again) = (key(&body), key(&body));
    assert_eq!((first.status, &first.body), (again.status, &again.body));
    assert_eq!(again.body["webhook"]["notificationAuthToken"], TOKEN);
    body["webhook"]["notificationAuthToken"] = "another-token-of-20-characters".into();
    assert_eq!(key(&body).status, 400);

    for file in std::fs::read_dir(running.directory.path()).unwrap() {
        let file = file.unwrap().path();
        let bytes = std::fs::read(&file).unwrap();
        let clear = bytes
            .windows(TOKEN.len())
            .any(|window| window == TOKEN.as_bytes());
        assert!(!clear, "{} has the token", file.display());
    }
}

#[test]
fn what_is_no_receiver_or_no_token_is_400() {
    let running = Running::start();
    running.home();
    let client = &running.client;
    let token = client.consumer("app", &SCOPES);
    let refused = |change: &Value| {
        let answer = client.json("POST", SESSIONS, &token, &session_with(change));
        let (status, code, message) = answer.error();
        assert_eq!((status, code), (400, "INVALID_INPUT"), "{change}");
        message.to_owned()
    };
    let reason = "must not lead to an address that is not public";
    for url in [
        "http://127.0.0.1:8080/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0177.0.0.1",
        "http://10.0.0.1",
        "http://100.64.0.1",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://[fd00::1]/",
        "http://[64:ff9b::a00:1]/",
        "http://[2002:a00:1::]/",
        "https://localhost/",
        "https://any.localhost./",
    ] {
        assert_eq!(
            refused(&json!({"notificationUrl": url})),
            format!("Schema validation failed at notificationUrl: {reason}"),
            "{url}"
        );
        assert_eq!(
            refused(&json!({"webhook": {"notificationUrl": url}})),
            format!("Schema validation failed at webhook.notificationUrl: {reason}"),
            "{url}"
        );
    }
    for url in [
        "",
        "receiver.example/hook",
        "ftp://receiver.example",
        "http://",
        "http://user:word@receiver.example/",
        "http://receiver.example:0/",
        "http://receiver.example:65536/",
        "http://receiver.example/a b",
        "http://receiver.example/\r\nX-Injected: 1",
        "http://receiver.example\\@10.0.0.1/",
        &format!("http://receiver.example/{}", "x".repeat(2_048)),
    ] {
        let message = refused(&json!({"webhook": {"notificationUrl": url}}));
        let place = "Schema validation failed at webhook.notificationUrl:";
        assert!(message.starts_with(place), "{url:?}: {message}");
    }
    for bad in [
        "short",
        "c8974e592c2fa383d4a3\r\nX-Injected: 1",
        "c8974e592c2fa383d4a3 960714",
        "c8974e592c2fa383d4a3\u{e4}960714",
        &"x".repeat(257),
    ] {
        let url = "https://receiver.example/";
        let message = refused(&json!({"notificationUrl": url, "notificationAuthToken": bad}));
        let place = "Schema validation failed at notificationAuthToken:";
        assert!(message.starts_with(place), "{bad:?}: {message}");
    }
    let url = "https://receiver.example/";
    let hook = json!({ "notificationUrl": url });
    assert_eq!(
        refused(&json!({"notificationUrl": url, "webhook": hook})),
        "Multiple inconsistent parameters specified: notificationUrl and webhook"
    );
    assert_eq!(
        refused(&json!({"notificationAuthToken": TOKEN})),
        "Expected property is missing: notificationUrl"
    );
    assert_eq!(
        refused(&json!({"webhook": {"notificationAuthToken": TOKEN}})),
        "Schema validation failed at webhook.notificationUrl: is missing"
    );
    assert_eq!(count(&running, "SELECT COUNT(*) FROM sessions"), 0);
    create(client, &token, 1, json!({"webhook": hook}));
}

#[test]
fn a_webhook_is_told_every_change() {
    let (running, client, token) = started();
    let receiver = Receiver::start();
    let id = create(&client, &token, 1, webhook(&receiver));
    let mut agent = Agent::of(&client);
    assert_eq!(waiting(&running), 0, "REQUESTED is what it was answered");

    agent.report("ACTIVE", &[&id]);
    let first = &receiver.wait(1)[0];
    assert_eq!(first.status(), ("AVAILABLE", None));
    assert_eq!(first.body["event"]["eventDetail"]["sessionId"], *id);
    assert_eq!(first.line, "POST /hook HTTP/1.1");
    assert_eq!(first.header("content-type"), Some("application/json"));
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(first.header("authorization"), Some(bearer.as_str()));
    agent.report("ACTIVE", &[&id]);

    agent.report("REJECTED", &[&id]);
    assert_eq!(receiver.wait(2)[1].status(), ("UNAVAILABLE", None));
    agent.report("REJECTED", &[&id]);
    agent.report("ACTIVE", &[&id]);
    assert_eq!(receiver.wait(3)[2].status(), ("AVAILABLE", None));

    // Nobody says anything any more.
    running.clock.advance(120_000);
    assert_eq!(receiver.wait(4)[3].status(), ("UNAVAILABLE", None));
    agent.poll();
    assert_eq!(receiver.wait(5)[4].status(), ("AVAILABLE", None));

    // The agent that spoke of it is another home's.
    let mut home = home_h();
    home["agentIds"] = json!(["b"]);
    client.admin("PUT", "/homes/h", &home);
    assert_eq!(receiver.wait(6)[5].status(), ("UNAVAILABLE", None));
    // That one is there now, and has said nothing: REQUESTED, which no event can say.
    let other = client.agent_token("b");
    client.poll("b", &other, None, 0);
    let shown = client.get(&format!("{SESSIONS}/{id}"), &token).body;
    assert_eq!(shown["qosStatus"], "REQUESTED");
    client.admin("PUT", "/homes/h", &home_h());
    agent.report("ACTIVE", &[&id]);
    assert_eq!(receiver.wait(7)[6].status(), ("AVAILABLE", None));

    running.clock.advance(3_600_000);
    let last = &receiver.wait(8)[7];
    assert_eq!(last.status(), ("UNAVAILABLE", Some("DURATION_EXPIRED")));
    // 3600 s after the clock's start, and not when it was seen.
    assert_eq!(last.body["event"]["eventTime"], "2023-11-14T23:13:20.25Z");
    let mut ids: Vec<String> = receiver
        .received()
        .iter()
        .map(|one| one.body["event"]["eventId"].to_string())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 8);
}

#[test]
fn an_agent_that_ends_a_session_a_moment_early_makes_no_second_event() {
    let (running, client, token) = started();
    let receiver = Receiver::start();
    let mut minute = webhook(&receiver);
    minute["duration"] = 60.into();
    let id = create(&client, &token, 1, minute);
    let mut agent = Agent::of(&client);
    agent.report("ACTIVE", &[&id]);
    receiver.wait(1);
    running.clock.advance(59_500);
    agent.report("EXPIRED", &[&id]);
    wait_until_empty(&running);
    running.clock.advance(500);
    let last = &receiver.wait(2)[1];
    assert_eq!(last.status(), ("UNAVAILABLE", Some("DURATION_EXPIRED")));
    assert_eq!(receiver.received().len(), 2);
}

#[test]
fn the_documents_form_is_told_the_end_alone() {
    let (running, client, token) = started();
    let receiver = Receiver::start();
    let id = create(&client, &token, 1, top(&receiver));
    let other = create(&client, &token, 2, top(&receiver));
    let mut agent = Agent::of(&client);
    agent.report("ACTIVE", &[&id, &other]);
    agent.report("REJECTED", &[&id, &other]);
    assert_eq!(waiting(&running), 0);
    let removed = client.delete(&format!("/admin/v1/sessions/{id}"), ADMIN);
    assert_eq!(removed.status, 204);
    let first = &receiver.wait(1)[0];
    assert_eq!(
        first.body,
        json!({"sessionId": id, "event": "SESSION_TERMINATED"})
    );
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(first.header("authorization"), Some(bearer.as_str()));
    running.clock.advance(3_600_000);
    let second = &receiver.wait(2)[1];
    assert_eq!(
        second.body,
        json!({"sessionId": other, "event": "SESSION_TERMINATED"})
    );
    wait_until_empty(&running);
    assert_eq!(receiver.received().len(), 2);
}

#[test]
fn the_operators_end_is_told_at_once_and_the_consumers_own_never() {
    let (running, client, token) = started();
    let receiver = Receiver::start();
    for (port, form) in [(1, top(&receiver)), (2, webhook(&receiver))] {
        let id = create(&client, &token, port, form);
        let deleted = client.delete(&format!("{SESSIONS}/{id}"), &token);
        assert_eq!(deleted.status, 204);
    }
    assert_eq!(waiting(&running), 0);
    let mut without = webhook(&receiver);
    let fields = without["webhook"].as_object_mut().unwrap();
    fields.remove("notificationAuthToken");
    let id = create(&client, &token, 3, without);
    let began = Instant::now();
    client.delete(&format!("/admin/v1/sessions/{id}"), ADMIN);
    let told = &receiver.wait(1)[0];
    assert_eq!(told.status(), ("UNAVAILABLE", Some("NETWORK_TERMINATED")));
    assert_eq!(told.header("authorization"), None);
    assert!(told.at - began < Duration::from_secs(5), "at once");
    wait_until_empty(&running);
    assert_eq!(receiver.received().len(), 1);
}

/// Another process over the same database.
fn beside(running: &Running) -> Running {
    let directory = running.directory.path();
    let database = format!("sqlite:{}", directory.join("q.sqlite").display());
    Running::at(running.clock.now_ms(), |config| {
        config.database = database;
        config.notifications.allow_private = true;
    })
}

#[test]
fn two_processes_tell_once() {
    let (first, client, token) = started();
    let second = beside(&first);
    let receiver = Receiver::start();
    let mut ids = Vec::new();
    for port in 1..=20 {
        let form = if port % 2 == 0 {
            top(&receiver)
        } else {
            webhook(&receiver)
        };
        ids.push(create(&client, &token, port, form));
    }
    let all: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut agent = Agent::of(&second.client);
    agent.report("ACTIVE", &all);
    // The one that has not the poll must not take the agent for silent.
    receiver.wait(10);
    for clock in [&first.clock, &second.clock] {
        clock.advance(120_000);
    }
    receiver.wait(20);
    agent.poll();
    receiver.wait(30);
    for clock in [&first.clock, &second.clock] {
        clock.advance(3_480_000);
    }
    let received = receiver.wait(50);
    wait_until_empty(&first);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(receiver.received().len(), 50, "nothing twice");
    for id in all {
        let of = |one: &&receiver::Received| one.body.to_string().contains(id);
        let told = received.iter().filter(of).count();
        assert!(told == 1 || told == 4, "{id}: {told}");
    }
}

#[test]
fn a_new_process_does_not_take_a_silent_agent_for_present() {
    let (first, client, token) = started();
    let receiver = Receiver::start();
    let id = create(&client, &token, 1, webhook(&receiver));
    Agent::of(&client).report("ACTIVE", &[&id]);
    receiver.wait(1);
    first.clock.advance(120_000);
    receiver.wait(2);
    // It shows for a while what it was told before it came, since it cannot know who is there. It tells nothing of it.
    let second = beside(&first);
    let path = format!("{SESSIONS}/{id}");
    let shown = second.client.get(&path, &token).body;
    assert_eq!(shown["qosStatus"], "AVAILABLE");
    client.admin(
        "PUT",
        "/homes/i",
        &json!({"agentIds": ["i"], "consumers": "all", "prefixes": ["198.51.100.9/32"]}),
    );
    let device = json!({"publicAddress": "198.51.100.9", "privateAddress": "192.168.1.23"});
    let mut other = webhook(&receiver);
    other["device"] = json!({"ipv4Address": device});
    let other = create(&second.client, &token, 1, other);
    second.clock.advance(120_000);
    let received = receiver.wait(3);
    assert_eq!(received[2].status(), ("UNAVAILABLE", None));
    assert_eq!(
        received[2].body["event"]["eventDetail"]["sessionId"],
        *other
    );
    let shown = second.client.get(&path, &token).body;
    assert_eq!(shown["qosStatus"], "UNAVAILABLE");
    wait_until_empty(&first);
    assert_eq!(receiver.received().len(), 3);
}

#[test]
fn a_failing_receiver_is_tried_again_in_the_same_order() {
    let (running, client, token) = started();
    let receiver = Receiver::answering(|number| match number {
        0 => Some("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n".to_owned()),
        // It breaks off.
        1 => Some(String::new()),
        2 => Some("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned()),
        _ => Some(NO_CONTENT.to_owned()),
    });
    let id = create(&client, &token, 1, webhook(&receiver));
    let mut agent = Agent::of(&client);
    agent.report("ACTIVE", &[&id]);
    agent.report("REJECTED", &[&id]);
    let received = receiver.wait_while(5, || running.clock.advance(500));
    let statuses: Vec<&str> = received.iter().map(|one| one.status().0).collect();
    let first = "AVAILABLE";
    assert_eq!(statuses, [first, first, first, first, "UNAVAILABLE"]);
    let event = |number: usize| received[number].body["event"]["eventId"].clone();
    assert_eq!(
        event(0),
        event(3),
        "a receiver can tell that it is the same"
    );
    wait_until_empty(&running);
}

#[test]
fn a_receiver_that_refuses_is_left_alone() {
    let (running, client, token) = started();
    let gone =
        Receiver::answering(|_| Some("HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n".to_owned()));
    let wrong = Receiver::answering(|_| {
        Some("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n".to_owned())
    });
    for (port, receiver) in [(1, &gone), (2, &wrong)] {
        let id = create(&client, &token, port, top(receiver));
        client.delete(&format!("/admin/v1/sessions/{id}"), ADMIN);
    }
    wrong.wait_while(6, || running.clock.advance(5_000));
    wait_until_empty(&running);
    assert_eq!(gone.received().len(), 1);
    assert_eq!(wrong.received().len(), 6);
}

#[test]
fn a_receiver_that_comes_later_is_told() {
    let (running, client, token) = started();
    let place = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    let url = format!("http://{address}/");
    let id = create(&client, &token, 1, json!({"notificationUrl": url}));
    client.delete(&format!("/admin/v1/sessions/{id}"), ADMIN);
    let attempts = "SELECT COALESCE(MAX(attempts), 0) FROM outbox";
    wait_for("two attempts", || {
        running.clock.advance(500);
        (count(&running, attempts) >= 2).then_some(())
    });
    let receiver = Receiver::on(TcpListener::bind(address).unwrap(), |_| {
        Some(NO_CONTENT.to_owned())
    });
    receiver.wait_while(1, || running.clock.advance(5_000));
    wait_until_empty(&running);
}

#[test]
fn one_that_does_not_answer_holds_nobody_up_and_is_asked_again() {
    let (running, client, token) = started();
    let dead = Receiver::answering(|number| (number >= 30).then(|| NO_CONTENT.to_owned()));
    let receiver = Receiver::start();
    let end = |port: u16, receiver: &Receiver| {
        let id = create(&client, &token, port, top(receiver));
        let began = Instant::now();
        client.delete(&format!("/admin/v1/sessions/{id}"), ADMIN);
        began
    };
    for port in 1..=25 {
        end(port, &dead);
    }
    dead.wait(16);
    for number in 0..5 {
        let began = end(100 + u16::try_from(number).unwrap(), &receiver);
        let took = receiver.wait(number + 1)[number].at - began;
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    assert_eq!(dead.received().len(), 16, "no more at once");
    // Their time is over after ten seconds, and the others' turn comes.
    dead.wait(25);
    assert_eq!(count(&running, "SELECT COUNT(*) FROM outbox"), 25);
    wait_for("everything", || {
        running.clock.advance(5_000);
        (waiting(&running) == 0).then_some(())
    });
}

#[test]
fn redirects_are_not_followed_and_long_answers_are_cut() {
    let (running, client, token) = started();
    let elsewhere = Receiver::start();
    let location = elsewhere.url("/");
    let redirecting = Receiver::answering(move |_| {
        Some(format!(
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
        ))
    });
    let talking = Receiver::answering(|number| {
        Some(if number == 0 {
            let length = 100_000_000;
            format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}",
                "x".repeat(200_000)
            )
        } else {
            format!(
                "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{}",
                "x".repeat(1_000)
            )
        })
    });
    for (port, receiver) in [(1, &redirecting), (2, &talking)] {
        let id = create(&client, &token, port, top(receiver));
        client.delete(&format!("/admin/v1/sessions/{id}"), ADMIN);
    }
    redirecting.wait_while(6, || running.clock.advance(5_000));
    talking.wait_while(2, || running.clock.advance(5_000));
    wait_until_empty(&running);
    assert_eq!(elsewhere.connections.load(Ordering::SeqCst), 0);
}

#[test]
fn a_name_that_leads_here_is_not_connected_to() {
    let (mut first, client, token) = started();
    let receiver = Receiver::answering(|_| None);
    // A name, and not an address: what it leads to is known when it is resolved.
    let url = format!("http://localhost:{}/", receiver.address.port());
    let id = create(
        &client,
        &token,
        1,
        json!({"webhook": {"notificationUrl": url}}),
    );
    let database = format!(
        "sqlite:{}",
        first.directory.path().join("q.sqlite").display()
    );
    first.stop();
    let strict = Running::with(|config| config.database = database);
    strict
        .client
        .delete(&format!("/admin/v1/sessions/{id}"), ADMIN);
    let attempts = "SELECT COALESCE(MAX(attempts), 0) FROM outbox";
    wait_for("two attempts", || {
        strict.clock.advance(500);
        (count(&first, attempts) >= 2).then_some(())
    });
    wait_for("the last attempt", || {
        strict.clock.advance(5_000);
        (waiting(&first) == 0).then_some(())
    });
    assert_eq!(receiver.connections.load(Ordering::SeqCst), 0);
}

#[test]
fn what_ended_while_nobody_ran_is_told_at_the_start() {
    let (mut first, client, token) = started();
    let place = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    let hook = json!({"webhook": {"notificationUrl": format!("http://{address}/")}});
    let pending = create(&client, &token, 1, hook.clone());
    let expiring = create(&client, &token, 2, hook);
    client.delete(&format!("/admin/v1/sessions/{pending}"), ADMIN);
    first.stop();
    let receiver = Receiver::on(TcpListener::bind(address).unwrap(), |_| {
        Some(NO_CONTENT.to_owned())
    });
    let second = beside(&first);
    second.clock.advance(1_000);
    receiver.wait(1);
    wait_until_empty(&first);
    second.clock.advance(3_599_000);
    let received = receiver.wait(2);
    let find = |id: &str| {
        let of = |one: &&receiver::Received| one.body.to_string().contains(id);
        received.iter().find(of).unwrap().status().1.unwrap()
    };
    assert_eq!(find(&pending), "NETWORK_TERMINATED");
    assert_eq!(find(&expiring), "DURATION_EXPIRED");
    wait_until_empty(&first);
    assert_eq!(receiver.received().len(), 2);
}

#[test]
fn a_stop_lets_deliveries_end() {
    let (mut running, client, token) = started();
    let receiver = Receiver::answering(|number| {
        if number == 0 {
            std::thread::sleep(Duration::from_secs(1));
        }
        Some(NO_CONTENT.to_owned())
    });
    let id = create(&client, &token, 1, top(&receiver));
    client.delete(&format!("/admin/v1/sessions/{id}"), ADMIN);
    receiver.wait(1);
    running.stop();
    assert_eq!(waiting(&running), 0, "it was delivered");

    // One that hangs is given back, and another process need not wait for the claim to end.
    let (mut running, client, token) = started();
    let hanging = Receiver::answering(|number| (number > 0).then(|| NO_CONTENT.to_owned()));
    let id = create(&client, &token, 1, top(&hanging));
    client.delete(&format!("/admin/v1/sessions/{id}"), ADMIN);
    hanging.wait(1);
    running.stop();
    let _second = beside(&running);
    hanging.wait(2);
    wait_until_empty(&running);
}

#[test]
fn tls_is_verified_against_the_configured_authority() {
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &issuer).unwrap();
    let files = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let file = files.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    };
    let tls = qod_backend::config::Tls {
        cert: file("cert", certificate.pem()),
        key: file("key", key.serialize_pem()),
        client_ca: None,
    };
    let ca = file("ca", ca.pem());
    // The receiver is a backend: it refuses what it gets, but it has got it.
    let receiver = Running::with(|config| config.tls = Some(tls));
    let url = receiver.client.url.replace("127.0.0.1", "localhost");
    let attempt = |ca_file: Option<&std::path::Path>| {
        let running = Running::with(|config| {
            config.notifications.allow_private = true;
            config.notifications.ca_file = ca_file.map(std::path::Path::to_owned);
        });
        running.home();
        let token = running.client.consumer("app", &SCOPES);
        let hook = json!({"notificationUrl": format!("{url}/nothing")});
        let id = create(&running.client, &token, 1, hook);
        running
            .client
            .delete(&format!("/admin/v1/sessions/{id}"), ADMIN);
        // What answers is given up after some attempts; what is not trusted is tried for a day.
        for _ in 0..200 {
            running.clock.advance(50_000);
            let attempts = "SELECT COALESCE(MAX(attempts), 99) FROM outbox";
            match count(&running, attempts) {
                99 => return true,
                8.. => return false,
                _ => std::thread::sleep(Duration::from_millis(100)),
            }
        }
        panic!("neither");
    };
    assert!(attempt(Some(&ca)));
    assert!(!attempt(None));
}
