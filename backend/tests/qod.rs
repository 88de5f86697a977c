//! `/qod/v0` over HTTP.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod common;

use common::{Client, Running, SCOPES, home_h, session, session_with};
use serde_json::{Value, json};

const SESSIONS: &str = "/qod/v0/sessions";

fn started() -> (Running, Client, String) {
    let running = Running::start();
    running.home();
    let client = running.client.clone();
    let token = client.consumer("app", &SCOPES);
    (running, client, token)
}

#[test]
fn a_session_from_creation_to_deletion() {
    let (_running, client, token) = started();
    let created = client.json("POST", SESSIONS, &token, &session());
    assert_eq!(created.status, 201, "{}", created.body);
    let info = &created.body;
    assert_eq!(info["startedAt"], 1_700_000_000);
    assert_eq!(info["expiresAt"], 1_700_003_600);
    assert_eq!(info["duration"], 3600);
    assert_eq!(info["qosStatus"], "REQUESTED");
    assert_eq!(
        info["messages"],
        json!([{"severity": "WARNING", "description": "home gateway is offline"}])
    );
    for key in ["device", "applicationServer", "qosProfile"] {
        assert_eq!(info[key], session()[key], "{key}");
    }
    let path = format!("{SESSIONS}/{}", info["sessionId"].as_str().unwrap());
    let got = client.get(&path, &token);
    assert_eq!((got.status, &got.body), (200, info));
    assert_eq!(client.delete(&path, &token).status, 204);
    let gone = (404, "NOT_FOUND", "Session Id does not exist");
    assert_eq!(client.get(&path, &token).error(), gone);
    assert_eq!(client.delete(&path, &token).error(), gone);
}

#[test]
fn the_documents_snippet_creates_a_session() {
    let (_running, client, token) = started();
    let body = json!({"device": {"ipv6Addr": "2001:db8:85a3:8d3:1319:8a2e:370:7344"},
        "applicationServer": {"ipv4Addr": "54.204.25.0/28"}, "applicationServerPorts": "33001", "qosProfile": "QOS_E",
        "notificationUrl": "https://your-callback-server.com",
        "notificationAuthToken": "c8974e592c2fa383d4a3960714"});
    let created = client.json("POST", SESSIONS, &token, &body);
    assert_eq!(created.status, 201, "{}", created.body);
    assert_eq!(created.body["duration"], 86400);
    assert_eq!(
        created.body["device"],
        json!({"ipv6Address": "2001:db8:85a3:8d3:1319:8a2e:370:7344"})
    );
    assert_eq!(
        created.body["applicationServerPorts"],
        json!({"ports": [33001]})
    );
    for key in ["notificationUrl", "notificationAuthToken"] {
        assert_eq!(created.body[key], body[key], "{key}");
    }
}

#[test]
fn simultaneous_overlapping_requests_make_one_session() {
    let (_running, client, token) = started();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| client.json("POST", SESSIONS, &token, &session()).status))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1);
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 15);
}

#[test]
fn an_expired_session_is_gone_at_once() {
    let (running, client, token) = started();
    let body = session_with(&json!({"duration": 10}));
    let created = client.json("POST", SESSIONS, &token, &body);
    let path = format!("{SESSIONS}/{}", created.body["sessionId"].as_str().unwrap());
    running.clock.advance(9_999);
    assert_eq!(client.get(&path, &token).status, 200);
    running.clock.advance(1);
    assert_eq!(client.get(&path, &token).status, 404);
    assert_eq!(client.delete(&path, &token).status, 404);
    assert_eq!(
        client.json("POST", SESSIONS, &token, &body).status,
        201,
        "it holds no flow any more"
    );
}

#[test]
fn consent_is_the_homes() {
    let (_running, client, token) = started();
    let mut home = home_h();
    home["consumers"] = json!(["other"]);
    client.admin("PUT", "/homes/h", &home);
    let refused = client.json("POST", SESSIONS, &token, &session());
    assert_eq!(refused.error(), (403, "FORBIDDEN", "Operation not allowed"));
    home["consumers"] = json!(["other", "app"]);
    client.admin("PUT", "/homes/h", &home);
    assert_eq!(
        client.json("POST", SESSIONS, &token, &session()).status,
        201
    );
}

#[test]
fn malformed_requests_are_4xx_with_a_body() {
    let (_running, client, token) = started();
    let bearer = format!("Bearer {token}");
    let post = |body: &[u8]| client.send("POST", SESSIONS, &[("authorization", &bearer)], body);
    for body in [
        &b""[..],
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"{\"device\":1}",
        b"{\"device\":{\"ipv4Address\":[]}}",
        b"{\"duration\":1,\"duration\":2}",
        b"{\"device\":null}",
    ] {
        let answer = post(body);
        assert_eq!(answer.error().0, 400, "{}", String::from_utf8_lossy(body));
        assert_eq!(answer.error().1, "INVALID_INPUT");
    }
    assert_eq!(post("[".repeat(60_000).as_bytes()).error().0, 400);
    assert_eq!(post(&vec![b' '; 65_537]).error().0, 413);
    for id in ["x", "%00", "%ff", "..%2f", &"a".repeat(3_000)] {
        let path = format!("{SESSIONS}/{id}");
        for method in ["GET", "DELETE"] {
            let answer = client.json(method, &path, &token, &Value::Null);
            assert_eq!(
                answer.error(),
                (404, "NOT_FOUND", "Session Id does not exist"),
                "{id}"
            );
        }
        assert_eq!(client.get(&path, "x.y.z").error().0, 401, "{id}");
    }
}

#[test]
fn a_store_that_fails_leaves_no_session_or_tells_of_it() {
    let (running, client, token) = started();
    running.sql("UPDATE agents SET sessions = 'broken'");
    let created = client.json("POST", SESSIONS, &token, &session());
    assert_eq!(created.status, 201, "{}", created.body);
    assert_eq!(created.body["qosStatus"], "REQUESTED");
    let path = format!("{SESSIONS}/{}", created.body["sessionId"].as_str().unwrap());
    assert_eq!(client.delete(&path, &token).status, 204);

    running.sql("UPDATE homes SET config = 'broken'");
    let refused = client.json("POST", SESSIONS, &token, &session());
    assert_eq!(
        refused.error(),
        (500, "INTERNAL", "Session could not be created")
    );
}

#[test]
fn paths_and_methods() {
    let (_running, client, token) = started();
    assert_eq!(client.get("/nowhere", &token).error().1, "NOT_FOUND");
    assert_eq!(client.get("/qod/v0/nowhere", &token).error().1, "NOT_FOUND");
    let wrong = client.get(SESSIONS, &token);
    assert_eq!(wrong.error().0, 405);
    assert_eq!(wrong.headers["allow"], "POST");
    for path in ["/home-devices-qod/v0/dscp", "/home-devices-qod/v0.4/qos"] {
        assert_eq!(
            client.get(path, &token).error().1,
            "NOT_IMPLEMENTED",
            "{path}"
        );
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(client.send("GET", path, &[], "").status, 200, "{path}");
    }
}
