//! Tokens over HTTP.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod common;

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use common::{Answer, Client, Running, SCOPES, session};
use serde_json::{Value, json};

fn secret(client: &Client, id: &str) -> String {
    client.admin(
        "PUT",
        &format!("/consumers/{id}"),
        &json!({"scopes": SCOPES}),
    )["clientSecret"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn ask(client: &Client, basic: Option<(&str, &str)>, form: &str) -> Answer {
    let credential =
        basic.map(|(id, secret)| format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))));
    let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
    if let Some(credential) = &credential {
        headers.push(("authorization", credential));
    }
    client.send("POST", "/oauth2/token", &headers, form)
}

#[test]
fn both_ways_of_authentication_and_scopes() {
    let running = Running::start();
    let client = &running.client;
    let secret = secret(client, "app");
    let basic = ask(
        client,
        Some(("app", &secret)),
        "grant_type=client_credentials",
    );
    assert_eq!(basic.status, 200, "{}", basic.body);
    assert_eq!(basic.body["scope"], SCOPES.join(" "));
    assert_eq!(basic.body["token_type"], "Bearer");
    assert_eq!(basic.headers["cache-control"], "no-store");
    let form = format!(
        "grant_type=client_credentials&client_id=app&client_secret={secret}&scope=qod-sessions-read"
    );
    assert_eq!(ask(client, None, &form).body["scope"], "qod-sessions-read");
}

#[test]
fn errors_are_those_of_rfc_6749() {
    let running = Running::start();
    let client = &running.client;
    let secret = secret(client, "app");
    let right = Some(("app", secret.as_str()));
    for (credential, form, status, error) in [
        (right, "grant_type=password", 400, "unsupported_grant_type"),
        (right, "", 400, "invalid_request"),
        (
            right,
            "grant_type=client_credentials&scope=admin",
            400,
            "invalid_scope",
        ),
        (right, "grant_type=a&grant_type=b", 400, "invalid_request"),
        (
            right,
            "grant_type=client_credentials&client_secret=x&client_id=app",
            400,
            "invalid_request",
        ),
        (right, "grant_type=%", 400, "invalid_request"),
        (
            Some(("app", "wrong")),
            "grant_type=client_credentials",
            401,
            "invalid_client",
        ),
        (
            Some(("nobody", "x")),
            "grant_type=client_credentials",
            401,
            "invalid_client",
        ),
        (None, "grant_type=client_credentials", 401, "invalid_client"),
    ] {
        let answer = ask(client, credential, form);
        assert_eq!(
            (answer.status, answer.body["error"].as_str().unwrap()),
            (status, error),
            "{form}"
        );
        if status == 401 {
            assert!(
                answer.headers["www-authenticate"]
                    .to_str()
                    .unwrap()
                    .starts_with("Basic")
            );
        }
    }
    let json = client.send(
        "POST",
        "/oauth2/token",
        &[("content-type", "application/json")],
        "{}",
    );
    assert_eq!(json.body["error"], "invalid_request");
}

#[test]
fn a_secret_is_shown_once_and_can_be_renewed() {
    let running = Running::start();
    let client = &running.client;
    let first = secret(client, "app");
    let again = client.admin(
        "PUT",
        "/consumers/app",
        &json!({"scopes": ["qod-sessions-read"]}),
    );
    assert_eq!(again.get("clientSecret"), None);
    assert_eq!(client.admin("GET", "/consumers/app", &Value::Null), again);
    let granted = ask(
        client,
        Some(("app", &first)),
        "grant_type=client_credentials",
    );
    assert_eq!(granted.body["scope"], "qod-sessions-read");
    let renewed = client.admin(
        "PUT",
        "/consumers/app",
        &json!({"scopes": SCOPES, "newSecret": true}),
    );
    let renewed = renewed["clientSecret"].as_str().unwrap();
    assert_eq!(
        ask(
            client,
            Some(("app", &first)),
            "grant_type=client_credentials"
        )
        .status,
        401
    );
    assert_eq!(
        ask(
            client,
            Some(("app", renewed)),
            "grant_type=client_credentials"
        )
        .status,
        200
    );
}

#[test]
fn tokens_end_and_foreign_ones_never_count() {
    let (running, foreign) = (Running::start(), Running::start());
    running.home();
    let client = &running.client;
    let token = client.consumer("app", &SCOPES);
    let profiles = |token: &str| client.get("/qod/v0/qos-profiles", token).status;
    assert_eq!(profiles(&token), 200);
    assert_eq!(profiles(&foreign.client.consumer("app", &SCOPES)), 401);

    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let mut forged: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    assert_eq!(
        (&forged["sub"], &forged["client_id"]),
        (&json!("app"), &json!("app"))
    );
    forged["client_id"] = "other".into();
    let forged = URL_SAFE_NO_PAD.encode(forged.to_string());
    assert_eq!(profiles(&format!("{header}.{forged}.{signature}")), 401);
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"x"}"#);
    assert_eq!(profiles(&format!("{none}.{claims}.")), 401);

    // Clocks may differ by 30 s.
    running.clock.advance(3_629_000);
    assert_eq!(profiles(&token), 200);
    running.clock.advance(1_000);
    assert_eq!(profiles(&token), 401);
}

#[test]
fn a_token_with_every_scope_that_a_consumer_may_have_counts() {
    let running = Running::start();
    let scopes: Vec<String> = (0..100).map(|number| format!("{number:0>128}")).collect();
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let token = running.client.consumer("app", &scopes);
    let answer = running.client.get("/qod/v0/qos-profiles", &token);
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// The names of the published keys, the newest first.
fn kids(client: &Client) -> Vec<String> {
    let set = client.send("GET", "/.well-known/jwks.json", &[], "");
    assert_eq!(set.headers["cache-control"], "public, max-age=300");
    let keys = set.body["keys"].as_array().unwrap();
    keys.iter()
        .map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

/// The name of the key that signed a token.
fn kid(token: &str) -> String {
    let (header, _) = token.split_once('.').unwrap();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

fn await_keys(client: &Client, number: usize) -> Vec<String> {
    let began = Instant::now();
    loop {
        let kids = kids(client);
        if kids.len() == number {
            return kids;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{kids:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn keys_rotate_in_all_processes_over_one_database() {
    const DAY: i64 = 86_400_000;
    let first = Running::with(|config| config.issuer.key_days = 7);
    let database = format!(
        "sqlite:{}",
        first.directory.path().join("q.sqlite").display()
    );
    let second = Running::with(|config| {
        config.issuer.key_days = 7;
        config.database = database;
    });
    let advance = |ms| {
        first.clock.advance(ms);
        second.clock.advance(ms);
    };
    let secret = secret(&first.client, "app");
    let profiles =
        |running: &Running, token: &str| running.client.get("/qod/v0/qos-profiles", token).status;
    let old = kids(&first.client);
    assert_eq!(old.len(), 1);
    assert_eq!(kids(&second.client), old);

    // Time for another key: both processes look, one makes it, and nobody signs with it yet.
    advance(7 * DAY);
    let both = await_keys(&first.client, 2);
    assert_eq!(both[1], old[0]);
    assert_eq!(await_keys(&second.client, 2), both);
    let before = first.client.token("app", &secret);
    assert_eq!(kid(&before), old[0]);
    assert_eq!(profiles(&second, &before), 200);

    // After an hour everybody knows it, and it signs.
    advance(3_600_000);
    let after = second.client.token("app", &secret);
    assert_eq!(kid(&after), both[0]);
    assert_eq!(profiles(&first, &after), 200);
    let last = {
        advance(-1);
        let last = first.client.token("app", &secret);
        advance(1);
        last
    };
    assert_eq!(kid(&last), old[0]);
    advance(3_599_000);
    assert_eq!(
        profiles(&second, &last),
        200,
        "its key verifies as long as it lives"
    );

    // Then the old key goes, and with it what was remembered.
    advance(400_000);
    assert_eq!(await_keys(&first.client, 1), both[..1]);
    assert_eq!(await_keys(&second.client, 1), both[..1]);
    assert_eq!(profiles(&second, &last), 401);
    assert_eq!(kid(&first.client.token("app", &secret)), both[0]);
}

#[test]
fn a_key_that_another_process_made_is_looked_for() {
    let first = Running::start();
    let database = format!(
        "sqlite:{}",
        first.directory.path().join("q.sqlite").display()
    );
    let token = first.client.consumer("app", &SCOPES);
    // The other process has begun before the key was there.
    let second = Running::with(|config| config.database = database);
    first.sql("DELETE FROM signing_keys");
    let third = Running::with(|config| {
        config.database = format!(
            "sqlite:{}",
            first.directory.path().join("q.sqlite").display()
        );
    });
    let secret = third.client.admin(
        "PUT",
        "/consumers/app",
        &json!({"scopes": SCOPES, "newSecret": true}),
    );
    let by_new = third
        .client
        .token("app", secret["clientSecret"].as_str().unwrap());
    let profiles = |token: &str| second.client.get("/qod/v0/qos-profiles", token).status;
    assert_eq!(profiles(&token), 200);
    // It asks the store every five seconds at most.
    assert_eq!(profiles(&by_new), 401);
    second.clock.advance(5_000);
    assert_eq!(profiles(&by_new), 200);
    assert_eq!(
        profiles(&token),
        401,
        "its key is gone, so it counts no more"
    );
}

#[test]
fn a_secret_may_be_chosen() {
    let running = Running::start();
    let client = &running.client;
    let chosen = "from the old system";
    let body = json!({"scopes": SCOPES, "clientSecret": chosen});
    let made = client.admin("PUT", "/consumers/app", &body);
    assert_eq!(made.get("clientSecret"), None);
    let grant = "grant_type=client_credentials";
    let form = format!("{grant}&client_id=app&client_secret=from+the+old+system");
    assert_eq!(ask(client, None, &form).status, 200);
    let wrong = ask(client, Some(("app", "from+the+old+systen")), grant);
    assert_eq!(
        (wrong.status, &wrong.body["error"]),
        (401, &json!("invalid_client"))
    );
    // It stays when other things change, and goes when another comes.
    client.admin("PUT", "/consumers/app", &json!({"scopes": SCOPES}));
    assert_eq!(ask(client, None, &form).status, 200);
    let other = json!({"scopes": SCOPES, "clientSecret": "another one of those"});
    client.admin("PUT", "/consumers/app", &other);
    assert_eq!(ask(client, None, &form).status, 401);
    let random = json!({"scopes": SCOPES, "newSecret": true});
    let random = client.admin("PUT", "/consumers/app", &random);
    let random = random["clientSecret"].as_str().unwrap();
    assert_eq!(ask(client, Some(("app", random)), grant).status, 200);
    for (body, reason) in [
        (
            json!({"clientSecret": "x".repeat(15)}),
            "clientSecret: must have at least 16 characters",
        ),
        (
            json!({"clientSecret": "x".repeat(257)}),
            "clientSecret: must not be longer than 256 bytes",
        ),
        (
            json!({"clientSecret": "x".repeat(16), "newSecret": true}),
            "newSecret: must not be given with clientSecret",
        ),
    ] {
        let mut body = body;
        body["scopes"] = json!([]);
        let answer = client.json("PUT", "/admin/v1/consumers/app", common::ADMIN, &body);
        assert_eq!(
            answer.error().2,
            format!("Schema validation failed at {reason}")
        );
    }
}

#[test]
fn guessing_is_slow_and_shuts_nobody_out() {
    let running = Running::start();
    let client = &running.client;
    let grant = "grant_type=client_credentials";
    let random = secret(client, "random");
    let chosen = "chosen-by-the-operator";
    let body = json!({"scopes": SCOPES, "clientSecret": chosen});
    client.admin("PUT", "/consumers/chosen", &body);
    assert_eq!(ask(client, Some(("chosen", chosen)), grant).status, 200);
    for id in ["random", "chosen"] {
        let mut answers = vec![];
        for number in 0..12 {
            let guess = format!("guess-{number}");
            answers.push(ask(client, Some((id, &guess)), grant));
        }
        let refused = answers.last().unwrap();
        assert_eq!(refused.error().1, "TOO_MANY_REQUESTS");
        assert_eq!(refused.headers["retry-after"], "6");
        let wrong = answers.iter().filter(|answer| answer.status == 401);
        assert!(matches!(wrong.count(), 9 | 10), "{id}");
    }
    assert_eq!(ask(client, Some(("random", &random)), grant).status, 200);
    assert_eq!(ask(client, Some(("chosen", chosen)), grant).status, 200);
    // A client that nobody knows is no client, however often it asks.
    for _ in 0..20 {
        assert_eq!(ask(client, Some(("nobody", "x")), grant).status, 401);
    }
    running.clock.advance(6_000);
    assert_eq!(ask(client, Some(("chosen", "guess")), grant).status, 401);
    assert_eq!(ask(client, Some(("chosen", "guess")), grant).status, 429);
}

#[test]
fn the_published_key_is_the_one_that_signs() {
    let running = Running::start();
    let token = running.client.consumer("app", &SCOPES);
    let keys = running
        .client
        .send("GET", "/.well-known/jwks.json", &[], "")
        .body;
    let key = &keys["keys"][0];
    assert_eq!(
        (&key["kty"], &key["crv"], &key["alg"]),
        (&json!("EC"), &json!("P-256"), &json!("ES256"))
    );
    assert_eq!(key.get("d"), None);
    let (header, _) = token.split_once('.').unwrap();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    assert_eq!(header["kid"], key["kid"]);
}

#[test]
fn the_admin_api_is_the_operators() {
    let running = Running::start();
    running.home();
    let client = &running.client;
    let token = client.consumer("app", &SCOPES);
    for wrong in [token.as_str(), "", "0123456789abcdef-admim"] {
        let answer = client.json("GET", "/admin/v1/homes/h", wrong, &Value::Null);
        assert_eq!(answer.error().0, 401);
    }
    let put = |path: &str, body: Value| {
        client.json("PUT", &format!("/admin/v1{path}"), common::ADMIN, &body)
    };
    assert_eq!(
        put("/homes/x", json!({})).error().2,
        "Schema validation failed at consumers: is missing"
    );
    let wrong = put(
        "/homes/x",
        json!({"consumers": "all", "prefixes": ["1.2.3.4/40"]}),
    );
    assert_eq!(
        wrong.error().2,
        "Schema validation failed at prefixes[0]: must have a mask from 0 to 32"
    );
    assert_eq!(
        put("/homes/x", json!({"consumers": "all", "agentIds": ["a"]}))
            .error()
            .0,
        409
    );
    assert_eq!(
        put("/homes/x", json!({"consumers": "all", "subs": ["user-h"]}))
            .error()
            .0,
        409
    );
    assert_eq!(
        client
            .json("GET", "/admin/v1/homes/x", common::ADMIN, &Value::Null)
            .error()
            .0,
        404
    );
    assert_eq!(
        put("/homes/x%20y", json!({"consumers": "all"})).error().0,
        400
    );
    assert_eq!(put("/agents/a", json!({"statusUrl": "x"})).error().0, 400);
    let home = client.admin("GET", "/homes/h", &Value::Null);
    assert_eq!(
        home["prefixes"],
        json!(["2001:db8:85a3::/48", "203.0.113.7/32"])
    );
    assert_eq!(
        client
            .json("POST", "/qod/v0/sessions", &token, &session())
            .status,
        201
    );
}
