//! Tokens over HTTP.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod common;

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

    running.clock.advance(3_600_000);
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
    assert_eq!(
        put("/consumers/app", json!({"scopes": [], "maxSessions": 1}))
            .error()
            .0,
        501
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
