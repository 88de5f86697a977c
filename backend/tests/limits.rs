//! What a consumer may have and how often it may ask.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod common;

use common::{ADMIN, Answer, Client, Running, SCOPES, session};
use serde_json::{Value, json};

const PROFILES: &str = "/qod/v0/qos-profiles";

/// Makes a consumer with these limits, and gets its token.
fn consumer(client: &Client, id: &str, limits: &Value) -> String {
    let mut body = limits.clone();
    body["scopes"] = json!(SCOPES);
    let made = client.admin("PUT", &format!("/consumers/{id}"), &body);
    client.token(id, made["clientSecret"].as_str().unwrap())
}

/// Asks for a session of its own, by its number, of the home with the prefix 198.51.`home`.0/24.
fn order(client: &Client, token: &str, home: u8, number: u16, key: Option<&str>) -> Answer {
    let mut body = session();
    body["device"]["ipv4Address"]["publicAddress"] = format!("198.51.{home}.1").into();
    body["devicePorts"] = json!({"ports": [5_000 + number]});
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("authorization", bearer.as_str())];
    headers.extend(key.map(|key| ("idempotency-key", key)));
    client.send("POST", "/qod/v0/sessions", &headers, body.to_string())
}

fn homes(client: &Client) {
    for home in [1, 2] {
        let body = json!({"prefixes": [format!("198.51.{home}.0/24")], "consumers": "all"});
        client.admin("PUT", &format!("/homes/home-{home}"), &body);
    }
}

#[test]
fn requests_a_second() {
    let running = Running::with(|config| {
        config.limits.requests_per_second = Some(2);
        config.limits.burst = Some(4);
    });
    let client = &running.client;
    let app = consumer(client, "app", &json!({}));
    let fast = consumer(client, "fast", &json!({"requestsPerSecond": 1_000}));
    let slow = consumer(client, "slow", &json!({"requestsPerSecond": 1}));
    let get = |token: &str| client.get(PROFILES, token);
    for _ in 0..4 {
        assert_eq!(get(&app).status, 200);
    }
    let refused = get(&app);
    assert_eq!(
        refused.error(),
        (
            429,
            "TOO_MANY_REQUESTS",
            "Too many requests: the limit is 2 a second"
        )
    );
    assert_eq!(refused.headers["retry-after"], "1");
    let session = client.json("POST", "/qod/v0/sessions", &app, &session());
    assert_eq!(session.error().0, 429, "every operation counts");
    // Others are not held up, and neither is the operator.
    assert_eq!(get(&fast).status, 200);
    assert_eq!(client.get("/admin/v1/consumers/app", ADMIN).status, 200);
    running.clock.advance(500);
    assert_eq!((get(&app).status, get(&app).status), (200, 429));
    for _ in 0..4 {
        assert_eq!(get(&slow).status, 200);
    }
    assert_eq!(get(&slow).status, 429);
    running.clock.advance(999);
    assert_eq!(get(&slow).status, 429);
    running.clock.advance(1);
    assert_eq!(get(&slow).status, 200);
    // A token that is none costs nobody anything.
    for _ in 0..9 {
        assert_eq!(get("x").status, 401);
    }
}

#[test]
fn sessions_at_once() {
    let running = Running::with(|config| config.limits.max_sessions = Some(2));
    let client = &running.client;
    homes(client);
    let app = consumer(client, "app", &json!({}));
    assert_eq!(order(client, &app, 1, 1, Some("first")).status, 201);
    let last = order(client, &app, 2, 1, None);
    assert_eq!(last.status, 201);
    let refused = order(client, &app, 1, 2, None);
    assert_eq!(
        refused.error(),
        (
            403,
            "FORBIDDEN",
            "Operation not allowed: maxSessions, the limit of 2 sessions at once, is reached"
        )
    );
    // What is there already is no further one.
    assert_eq!(order(client, &app, 1, 1, Some("first")).status, 201);
    assert_eq!(order(client, &app, 1, 1, None).error().0, 409);
    // A place becomes free by a deletion, and by time.
    let path = format!(
        "/qod/v0/sessions/{}",
        last.body["sessionId"].as_str().unwrap()
    );
    assert_eq!(client.delete(&path, &app).status, 204);
    assert_eq!(order(client, &app, 1, 2, None).status, 201);
    assert_eq!(order(client, &app, 1, 3, None).status, 403);
    let other = consumer(client, "other", &json!({"maxSessions": 3}));
    for number in 0..3 {
        assert_eq!(order(client, &other, 2, number, None).status, 201);
    }
    assert_eq!(order(client, &other, 2, 3, None).status, 403);
    // The operator's word counts at once.
    let body = json!({"scopes": SCOPES, "maxSessions": 4});
    let shown = client.admin("PUT", "/consumers/other", &body);
    assert_eq!(shown["maxSessions"], 4);
    assert_eq!(client.admin("GET", "/consumers/other", &Value::Null), shown);
    assert_eq!(order(client, &other, 2, 3, None).status, 201);
    client.admin("PUT", "/consumers/other", &json!({"scopes": SCOPES}));
    assert_eq!(
        order(client, &other, 2, 4, None).status,
        403,
        "the default is 2"
    );
    running.clock.advance(3_600_000);
    let made = json!({"scopes": SCOPES, "newSecret": true});
    let made = client.admin("PUT", "/consumers/app", &made);
    let app = client.token("app", made["clientSecret"].as_str().unwrap());
    assert_eq!(order(client, &app, 1, 3, None).status, 201);
}

#[test]
fn sessions_at_once_in_one_home() {
    let running = Running::start();
    let client = &running.client;
    homes(client);
    let app = consumer(client, "app", &json!({"maxSessionsPerHome": 1}));
    assert_eq!(order(client, &app, 1, 1, None).status, 201);
    assert_eq!(
        order(client, &app, 1, 2, None).error().2,
        "Operation not allowed: maxSessionsPerHome, the limit of 1 sessions at once in one home, is reached"
    );
    assert_eq!(order(client, &app, 2, 1, None).status, 201);
}

#[test]
fn requests_at_the_same_time_share_the_last_place() {
    let running = Running::start();
    homes(&running.client);
    let app = consumer(&running.client, "app", &json!({"maxSessions": 3}));
    let threads: Vec<_> = (0..12)
        .map(|number| {
            let (client, app) = (running.client.clone(), app.clone());
            let home = u8::try_from(number % 2 + 1).unwrap();
            std::thread::spawn(move || order(&client, &app, home, number, None).status)
        })
        .collect();
    let mut answers: Vec<_> = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    answers.sort_unstable();
    assert_eq!(answers[..3], [201; 3]);
    assert_eq!(answers[3..], [403; 9]);
}

#[test]
fn wrong_limits_are_refused() {
    let running = Running::start();
    for (key, value, reason) in [
        ("maxSessions", json!(-1), "must be from 0 to 1000000"),
        ("maxSessionsPerHome", json!("1"), "must be a whole number"),
        ("requestsPerSecond", json!(0), "must be from 1 to 100000"),
    ] {
        let body = json!({"scopes": [], key: value});
        let answer = running
            .client
            .json("PUT", "/admin/v1/consumers/app", ADMIN, &body);
        assert_eq!(
            answer.error().2,
            format!("Schema validation failed at {key}: {reason}")
        );
    }
}
