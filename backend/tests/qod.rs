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
    // Without its notification keys, which this version does not serve.
    let body = json!({"device": {"ipv6Addr": "2001:db8:85a3:8d3:1319:8a2e:370:7344"},
        "applicationServer": {"ipv4Addr": "54.204.25.0/28"}, "applicationServerPorts": "33001", "qosProfile": "QOS_E"});
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

    let mut whole = body;
    whole["notificationUrl"] = "https://your-callback-server.com".into();
    whole["notificationAuthToken"] = "c8974e592c2fa383d4a3960714".into();
    let refused = client.json("POST", SESSIONS, &token, &whole);
    assert_eq!(refused.error().0, 501);
    assert_eq!(refused.error().1, "NOT_IMPLEMENTED");
}

#[test]
fn identifiers_that_disagree_are_refused() {
    let (_running, client, token) = started();
    let mut other = home_h();
    other["agentIds"] = json!(["b"]);
    other["subs"] = json!(["user-o"]);
    other["phoneNumbers"] = json!([{"number": "+4922222"}]);
    other["networkAccessIdentifiers"] = json!([]);
    other["prefixes"] = json!(["2001:db8:85a3:8d3::/64"]);
    client.admin("PUT", "/homes/o", &other);
    let post = |device: Value| {
        client.json(
            "POST",
            SESSIONS,
            &token,
            &session_with(&json!({"device": device})),
        )
    };
    let message = "Multiple inconsistent parameters specified: device";
    let answer = post(json!({"phoneNumber": "+4922222", "ipv6Address": "2001:db8:85a3::1"}));
    assert_eq!(answer.error(), (400, "INVALID_INPUT", message));
    let longest = post(json!({"phoneNumber": "+4922222", "ipv6Address": "2001:db8:85a3:8d3::1"}));
    assert_eq!(
        longest.status, 201,
        "the longest prefix counts: {}",
        longest.body
    );
}

#[test]
fn overlap_is_409_and_tells_nothing_of_the_other() {
    let (_running, client, token) = started();
    let other = client.consumer("other", &SCOPES);
    let first = client.json(
        "POST",
        SESSIONS,
        &token,
        &session_with(&json!({"devicePorts": {"ports": [5]}})),
    );
    assert_eq!(first.status, 201);
    let id = first.body["sessionId"].as_str().unwrap();
    let again = client.json("POST", SESSIONS, &other, &session());
    assert_eq!(
        again.error(),
        (
            409,
            "CONFLICT",
            "Another session is created for the same device"
        )
    );
    let beside = session_with(&json!({"devicePorts": {"ranges": [{"from": 6, "to": 9}]}}));
    assert_eq!(client.json("POST", SESSIONS, &other, &beside).status, 201);
    for method in ["GET", "DELETE"] {
        let answer = client.json(method, &format!("{SESSIONS}/{id}"), &other, &Value::Null);
        assert_eq!(
            answer.error(),
            (404, "NOT_FOUND", "Session Id does not exist")
        );
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
fn an_idempotency_key_returns_the_session() {
    let (_running, client, token) = started();
    let bearer = format!("Bearer {token}");
    let post = |key: &str, body: &Value| {
        let headers = [("authorization", bearer.as_str()), ("idempotency-key", key)];
        client.send("POST", SESSIONS, &headers, body.to_string())
    };
    let first = post("k", &session());
    let second = post("k", &session());
    assert_eq!((second.status, &second.body), (201, &first.body));
    assert_eq!(
        post("k", &session_with(&json!({"duration": 5}))).error().0,
        400
    );
    assert_eq!(post("other", &session()).error().0, 409);
    assert_eq!(post(&"x".repeat(256), &session()).error().0, 400);
    let id = first.body["sessionId"].as_str().unwrap();
    assert_eq!(
        client.delete(&format!("{SESSIONS}/{id}"), &token).status,
        204
    );
    assert_ne!(
        post("k", &session()).body["sessionId"],
        first.body["sessionId"]
    );
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
    for path in [
        "/home-devices-qod/v0/dscp",
        "/home-devices-qod/v0.4/qos",
        "/metrics",
    ] {
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

#[test]
fn profiles_have_both_spellings() {
    let (_running, client, token) = started();
    for base in ["/qod/v0/qos-profiles", "/qod/v0/qosProfile"] {
        let all = client.get(base, &token);
        assert_eq!((all.status, all.body.as_array().unwrap().len()), (200, 4));
        let one = client.get(&format!("{base}/QOS_E"), &token).body;
        assert_eq!(one["id"], "QOS_E");
        assert_eq!(
            one["targetMinUpstreamRate"],
            one["targetMinimumUpstreamRate"]
        );
        let filtered = client
            .get(&format!("{base}?name=QOS_L&status=ACTIVE"), &token)
            .body;
        assert_eq!(filtered[0]["name"], "QOS_L");
        let none = client.get(&format!("{base}?name=QOS_X"), &token);
        assert_eq!(none.error(), (404, "NOT_FOUND", "No QoS Profiles found"));
        let none = client.get(&format!("{base}/QOS_X"), &token);
        assert_eq!(
            none.error(),
            (404, "NOT_FOUND", "QosProfile Id does not exist")
        );
    }
    assert_eq!(
        client
            .send("GET", "/qod/v0/qos-profiles", &[], "")
            .error()
            .0,
        401
    );
}

#[test]
fn a_profile_may_ask_for_ports_and_refuse_ranges() {
    let running = Running::with(|config| {
        let file = config
            .admin_token_file
            .as_ref()
            .unwrap()
            .with_file_name("profiles.json");
        let profiles = json!({"profiles": [{"name": "STRICT", "dscp": "EF", "portsRequired": true,
            "rangesAllowed": false, "maxDuration": {"value": 1, "unit": "Minutes"}},
            {"name": "OLD", "dscp": 0, "status": "DEPRECATED"}]});
        std::fs::write(&file, profiles.to_string()).unwrap();
        config.profiles_file = Some(file);
    });
    running.home();
    let client = &running.client;
    let token = client.consumer("app", &SCOPES);
    let post = |change: Value| {
        let mut body = session_with(&json!({"qosProfile": "STRICT", "duration": null}));
        body.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        client.json("POST", SESSIONS, &token, &body)
    };
    assert_eq!(
        post(json!({})).error().2,
        "Expected property is missing: devicePorts"
    );
    let ranges = json!({"devicePorts": {"ranges": [{"from": 1, "to": 2}]}});
    assert_eq!(post(ranges).error().2, "Ranges not allowed: devicePorts");
    assert_eq!(
        post(json!({"devicePorts": {"ports": [1]}, "duration": 61}))
            .error()
            .0,
        400
    );
    assert_eq!(post(json!({"qosProfile": "OLD"})).error().0, 400);
    assert_eq!(
        post(json!({"devicePorts": {"ports": [1]}})).body["duration"],
        60
    );
}
