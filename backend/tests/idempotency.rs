//! `Idempotency-Key`: a repeated order returns the session that the first one made.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod common;

use common::{Answer, Client, Running, SCOPES, session, session_with};
use serde_json::{Value, json};

const SESSIONS: &str = "/qod/v0/sessions";

fn started() -> (Running, Client, String) {
    let running = Running::start();
    running.home();
    let client = running.client.clone();
    let token = client.consumer("app", &SCOPES);
    (running, client, token)
}

fn post(client: &Client, token: &str, key: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", key)];
    client.send("POST", SESSIONS, &headers, body)
}

fn sessions(client: &Client) -> usize {
    client.admin("GET", "/sessions", &Value::Null)["sessions"]
        .as_array()
        .unwrap()
        .len()
}

#[test]
fn the_same_order_again_is_the_same_session() {
    let (running, client, token) = started();
    let first = post(&client, &token, "k", &session().to_string());
    assert_eq!(first.status, 201);
    running.clock.advance(5_000);
    // The same document in another spelling: order of keys, white space.
    let spelt = format!(
        " {{\"duration\":3600,\n\"qosProfile\":\"QOS_E\", \"applicationServer\":{}, \"device\":{}}} ",
        session()["applicationServer"],
        session()["device"]
    );
    for body in [session().to_string(), spelt] {
        let again = post(&client, &token, "k", &body);
        assert_eq!((again.status, &again.body), (201, &first.body));
    }
    assert_eq!(sessions(&client), 1);
}

#[test]
fn the_answer_is_the_sessions_state_now() {
    let (_running, client, token) = started();
    let first = post(&client, &token, "k", &session().to_string());
    let id = first.body["sessionId"].as_str().unwrap();
    let agent = client.agent_token("a");
    let revision = client.poll("a", &agent, None, 0).body["revision"].clone();
    client.report("a", &agent, 1, &revision, &[(id, "ACTIVE", "", "")]);
    let again = post(&client, &token, "k", &session().to_string());
    assert_eq!(again.body["sessionId"], first.body["sessionId"]);
    assert_eq!(again.body["qosStatus"], "AVAILABLE");
}

#[test]
fn another_order_under_the_same_key_is_refused() {
    let (_running, client, token) = started();
    assert_eq!(
        post(&client, &token, "k", &session().to_string()).status,
        201
    );
    for change in [
        json!({"duration": 5}),
        json!({"devicePorts": {"ports": [1]}}),
        json!({"unknown": 1}),
    ] {
        let answer = post(&client, &token, "k", &session_with(&change).to_string());
        assert_eq!(
            answer.error(),
            (
                400,
                "INVALID_INPUT",
                "Idempotency-Key was used for another request"
            )
        );
    }
    assert_eq!(
        post(&client, &token, "l", &session().to_string()).error().0,
        409
    );
    assert_eq!(sessions(&client), 1);
}

#[test]
fn a_key_is_its_consumers_own() {
    let (_running, client, token) = started();
    let other = client.consumer("other", &SCOPES);
    let first = post(&client, &token, "k", &session().to_string());
    let overlap = post(&client, &other, "k", &session().to_string());
    assert_eq!(overlap.error().1, "CONFLICT", "not the other one's session");
    let beside = session_with(&json!({"device": {"phoneNumber": "+4912345678923"}}));
    let second = post(&client, &other, "k", &beside.to_string());
    assert_eq!(second.status, 201);
    assert_ne!(second.body["sessionId"], first.body["sessionId"]);
}

#[test]
fn a_key_ends_with_its_session() {
    let (running, client, token) = started();
    let body = session_with(&json!({"duration": 10})).to_string();
    let first = post(&client, &token, "k", &body);
    let path = format!("{SESSIONS}/{}", first.body["sessionId"].as_str().unwrap());
    assert_eq!(client.delete(&path, &token).status, 204);
    let second = post(&client, &token, "k", &body);
    assert_eq!(second.status, 201);
    assert_ne!(
        second.body["sessionId"], first.body["sessionId"],
        "after DELETE"
    );
    // To the millisecond, whether or not it has been swept already.
    running.clock.advance(9_999);
    let repeated = post(&client, &token, "k", &body);
    assert_eq!(repeated.body["sessionId"], second.body["sessionId"]);
    running.clock.advance(1);
    let third = post(&client, &token, "k", &body);
    assert_eq!(third.status, 201);
    assert_ne!(
        third.body["sessionId"], second.body["sessionId"],
        "after expiry"
    );
    // Another order may have the key then.
    running.clock.advance(10_000);
    let other = session_with(&json!({"devicePorts": {"ports": [1]}}));
    assert_eq!(post(&client, &token, "k", &other.to_string()).status, 201);
}

#[test]
fn simultaneous_repetitions_are_one_session() {
    let (_running, client, token) = started();
    for round in 0..10 {
        let key = format!("k{round}");
        let body = session_with(&json!({"devicePorts": {"ports": [round + 1]}})).to_string();
        let ids: Vec<Value> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let answer = post(&client, &token, &key, &body);
                        assert_eq!(answer.status, 201, "{}", answer.body);
                        answer.body["sessionId"].clone()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
    assert_eq!(sessions(&client), 10);
}

#[test]
fn malformed_keys_are_refused() {
    let (_running, client, token) = started();
    let message = "Schema validation failed at the header Idempotency-Key: must be one value of 1 to 255 characters";
    let expected = (400, "INVALID_INPUT", message);
    for key in ["", " ", &"x".repeat(256), "\u{e4}"] {
        let answer = post(&client, &token, key, &session().to_string());
        assert_eq!(answer.error(), expected, "{key}");
    }
    let bearer = format!("Bearer {token}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("idempotency-key", "a"),
        ("idempotency-key", "b"),
    ];
    let twice = client.send("POST", SESSIONS, &headers, session().to_string());
    assert_eq!(twice.error(), expected);
    assert_eq!(sessions(&client), 0);
    let longest = post(&client, &token, &"x".repeat(255), &session().to_string());
    assert_eq!(longest.status, 201);
}

#[test]
fn an_idempotency_key_never_returns_another_homes_session() {
    let (_running, client, _) = started();
    client.admin(
        "PUT",
        "/homes/o",
        &json!({"agentIds": ["b"], "subs": ["user-o"], "consumers": "all"}),
    );
    let body = session_with(&json!({"device": {"ipv4Address": "192.168.1.23"}})).to_string();
    let post = |home: &str| {
        let bearer = format!("Bearer {}", client.user_token(home, "app"));
        let headers = [("authorization", bearer.as_str()), ("idempotency-key", "k")];
        client.send("POST", SESSIONS, &headers, &body)
    };
    assert_eq!(post("h").status, 201);
    let other = post("o");
    assert_eq!(
        other.error().2,
        "Idempotency-Key was used for another request"
    );
}
