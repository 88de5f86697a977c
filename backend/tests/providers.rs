//! Mistakes that implementations of this API have been seen to make. Each test states the rule that it holds to.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod common;

use std::collections::BTreeSet;

use common::{Answer, Client, Running, SCOPES, home_h, session, session_with};
use qod_backend::qod::profiles::Profiles;
use serde_json::{Value, json};

const SESSIONS: &str = "/qod/v0/sessions";

fn started() -> (Running, Client, String) {
    let running = Running::start();
    running.home();
    let client = running.client.clone();
    let token = client.consumer("app", &SCOPES);
    (running, client, token)
}

fn post(client: &Client, token: &str, change: &Value) -> Answer {
    client.json("POST", SESSIONS, token, &session_with(change))
}

fn path(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{}", answer.body);
    format!("{SESSIONS}/{}", answer.body["sessionId"].as_str().unwrap())
}

/// Looking for a conflict and storing the session are one step: of orders that overlap and come at the same moment,
/// one gets a session, also where each of them overlaps another one only in part.
#[test]
fn the_search_for_conflicts_is_atomic() {
    let (_running, client, token) = started();
    for round in 0..5_u16 {
        // A ladder: each order overlaps the ones beside it, and all of them overlap the first.
        let orders: Vec<Value> = (0..8)
            .map(|step| {
                let from = if step == 0 { 1 } else { step * 10 };
                json!({"applicationServerPorts": {"ports": [round + 1]},
                    "devicePorts": {"ranges": [{"from": from, "to": if step == 0 { 100 } else { step * 10 + 15 }}]}})
            })
            .collect();
        let made: Vec<Value> = std::thread::scope(|scope| {
            let threads: Vec<_> = orders
                .iter()
                .map(|order| scope.spawn(|| post(&client, &token, order)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .filter(|answer| {
                    assert!([201, 409].contains(&answer.status), "{}", answer.body);
                    answer.status == 201
                })
                .map(|answer| answer.body["devicePorts"]["ranges"][0].clone())
                .collect()
        });
        assert!(!made.is_empty());
        for (i, a) in made.iter().enumerate() {
            for b in &made[i + 1..] {
                let apart =
                    a["to"].as_u64() < b["from"].as_u64() || b["to"].as_u64() < a["from"].as_u64();
                assert!(apart, "{a} and {b} were both taken");
            }
        }
    }
}

/// A device is not its home's public address: two devices behind one address are two, and so are devices of two homes
/// that have the same private address.
#[test]
fn devices_behind_one_public_address_do_not_conflict() {
    let (_running, client, token) = started();
    for host in 2..20 {
        let device = json!({"ipv4Address": {"publicAddress": "203.0.113.7", "privateAddress": format!("192.168.1.{host}")}});
        path(&post(&client, &token, &json!({ "device": device })));
    }
    client.admin(
        "PUT",
        "/homes/o",
        &json!({"agentIds": ["b"], "consumers": "all", "prefixes": ["203.0.113.8/32"]}),
    );
    let other =
        json!({"ipv4Address": {"publicAddress": "203.0.113.8", "privateAddress": "192.168.1.2"}});
    path(&post(&client, &token, &json!({ "device": other })));
}

/// IPv6 devices and servers are served, alone and beside IPv4.
#[test]
fn ipv6_is_served() {
    let (_running, client, token) = started();
    let agent = client.agent_token("a");
    let order = json!({"device": {"ipv6Address": "2001:db8:85a3::23"},
        "applicationServer": {"ipv6Address": "2001:db8:2::/64"}});
    path(&post(&client, &token, &order));
    let told = client.poll("a", &agent, None, 0).body["sessions"][0].clone();
    assert_eq!(told["device"], order["device"]);
    assert_eq!(told["applicationServer"], order["applicationServer"]);
    // Overlap is found in that family too, by prefix and not by text.
    let part = json!({"device": {"ipv6Addr": "2001:DB8:85A3:0::23"},
        "applicationServer": {"ipv6Address": "2001:db8:2:0:0:0:0:1"}});
    assert_eq!(post(&client, &token, &part).error().0, 409);
}

/// A range of ports is one range, to the agent and to whoever reads the session; it is never expanded.
#[test]
fn ranges_of_ports_stay_ranges() {
    let (_running, client, token) = started();
    let agent = client.agent_token("a");
    let all = json!({"ranges": [{"from": 1, "to": 65_535}]});
    let created = post(
        &client,
        &token,
        &json!({"devicePorts": all, "applicationServerPorts": all}),
    );
    path(&created);
    assert_eq!(created.body["devicePorts"], all);
    let instructions = client.poll("a", &agent, None, 0).body;
    assert_eq!(instructions["sessions"][0]["devicePorts"], all);
    assert!(instructions.to_string().len() < 1_000, "{instructions}");
}

/// A session is about every transport with those ports: agents are told no protocol, which means TCP, UDP, SCTP,
/// UDP-Lite and DCCP to them. (That they mark both TCP and UDP is tested where packets are: `tests/marking.rs`.)
#[test]
fn no_protocol_is_left_out() {
    let (_running, client, token) = started();
    let agent = client.agent_token("a");
    path(&post(
        &client,
        &token,
        &json!({"devicePorts": {"ports": [5060]}}),
    ));
    let told = client.poll("a", &agent, None, 0).body["sessions"][0].clone();
    let keys: BTreeSet<_> = told
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let known = [
        "sessionId",
        "device",
        "applicationServer",
        "devicePorts",
        "dscp",
        "direction",
        "maxUpstreamKbps",
        "maxDownstreamKbps",
        "expiresIn",
    ];
    assert!(keys.is_subset(&BTreeSet::from(known)), "{keys:?}");
}

/// Ports may be left out, on either side and on both.
#[test]
fn ports_may_be_left_out() {
    let (_running, client, token) = started();
    let ports = json!({"ports": [443]});
    for (device, server) in [
        (Value::Null, Value::Null),
        (ports.clone(), Value::Null),
        (Value::Null, ports.clone()),
    ] {
        let created = post(
            &client,
            &token,
            &json!({"devicePorts": device, "applicationServerPorts": server}),
        );
        let path = path(&created);
        assert_eq!(
            created.body.get("devicePorts"),
            (!device.is_null()).then_some(&device)
        );
        assert_eq!(client.delete(&path, &token).status, 204);
    }
}

/// Flows conflict where they intersect, not where their descriptions are the same text.
#[test]
fn conflicts_are_intersections_and_not_equal_words() {
    let (_running, client, token) = started();
    path(&post(
        &client,
        &token,
        &json!({"applicationServer": {"ipv4Address": "198.51.100.0/28"}, "devicePorts": {"ranges": [{"from": 10, "to": 20}]}}),
    ));
    let other_words = json!({"applicationServer": {"ipv4Address": "198.51.100.9"}, "devicePorts": {"ports": [12]},
        "duration": 7, "qosProfile": "QOS_L"});
    assert_eq!(post(&client, &token, &other_words).error().0, 409);
    let almost_the_same = json!({"applicationServer": {"ipv4Address": "198.51.100.0/28"},
        "devicePorts": {"ranges": [{"from": 21, "to": 30}]}});
    path(&post(&client, &token, &almost_the_same));
}

/// AVAILABLE is what an agent verified: never the answer to an order, and nothing else makes it so.
#[test]
fn nothing_is_available_before_an_agent_verified_it() {
    let (_running, client, token) = started();
    let agent = client.agent_token("a");
    client.poll("a", &agent, None, 0);
    let created = post(&client, &token, &json!({}));
    let path = path(&created);
    let id = created.body["sessionId"].as_str().unwrap();
    assert_eq!(created.body["qosStatus"], "REQUESTED");
    let status = || client.get(&path, &token).body["qosStatus"].clone();
    // Fetching is not doing.
    let revision = client.poll("a", &agent, None, 0).body["revision"].clone();
    assert_eq!(status(), "REQUESTED");
    // A report of the state before it is not about it, nor is one about another session.
    let before = json!(revision.as_i64().unwrap() - 1);
    client.report("a", &agent, 1, &before, &[(id, "ACTIVE", "", "")]);
    assert_eq!(status(), "REQUESTED");
    client.report("a", &agent, 2, &revision, &[]);
    assert_ne!(status(), "AVAILABLE");
    let failed = [(id, "REJECTED", "KERNEL", "ENOMEM")];
    client.report("a", &agent, 3, &revision, &failed);
    assert_eq!(status(), "UNAVAILABLE");
    client.report("a", &agent, 4, &revision, &[(id, "ACTIVE", "", "")]);
    assert_eq!(status(), "AVAILABLE");
}

/// A restart loses nothing: sessions, their ends, their status, tokens and keys are what they were.
#[test]
fn a_restart_keeps_everything() {
    let (mut running, client, token) = started();
    let agent = client.agent_token("a");
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "k")];
    let created = client.send("POST", SESSIONS, &headers, session().to_string());
    let path = path(&created);
    let id = created.body["sessionId"].as_str().unwrap();
    let told = client.poll("a", &agent, None, 0);
    client.report(
        "a",
        &agent,
        1,
        &told.body["revision"],
        &[(id, "ACTIVE", "", "")],
    );
    let before = client.get(&path, &token).body;
    assert_eq!(before["qosStatus"], "AVAILABLE");

    running.restart();
    let client = running.client.clone();
    assert_eq!(client.get(&path, &token).body, before);
    assert_eq!(client.poll("a", &agent, None, 0).body, told.body);
    let again = client.send("POST", SESSIONS, &headers, session().to_string());
    assert_eq!((again.status, again.body), (201, before));
    assert_eq!(
        post(&client, &token, &json!({"duration": 9})).error().0,
        409
    );
    running.clock.advance(3_600_000);
    let fresh = client.consumer("other", &SCOPES);
    self::path(&post(&client, &fresh, &json!({})));
}

/// A session can be read by whoever made it until it ends, and a deleted one takes its rules with it.
#[test]
fn sessions_can_be_read_and_leave_nothing_behind() {
    let (_running, client, token) = started();
    let agent = client.agent_token("a");
    let created = post(&client, &token, &json!({}));
    let path = path(&created);
    assert_eq!(client.get(&path, &token).body, created.body);
    assert_eq!(client.delete(&path, &token).status, 204);
    let told = client.poll("a", &agent, None, 0).body;
    assert_eq!(told["sessions"], json!([]));
}

/// The profiles that come with the program obey the limits of the API: rates up to 1024, priorities from 1, names.
#[test]
fn the_profiles_of_the_program_obey_the_api() {
    Profiles::load(None).unwrap();
    let (_running, client, token) = started();
    for profile in client
        .get("/qod/v0/qos-profiles", &token)
        .body
        .as_array()
        .unwrap()
    {
        for (key, value) in profile.as_object().unwrap() {
            if let Some(amount) = value.get("value").and_then(Value::as_i64) {
                let least = i64::from(key.ends_with("Duration"));
                assert!((least..=1_024).contains(&amount), "{key}: {value}");
            }
        }
        for (target, max) in [
            ("targetMinUpstreamRate", "maxUpstreamRate"),
            ("targetMinDownstreamRate", "maxDownstreamRate"),
        ] {
            let bits = |rate: &Value| {
                let unit = match rate["unit"].as_str().unwrap() {
                    "kbps" => 1_000,
                    "Mbps" => 1_000_000,
                    other => panic!("{other}"),
                };
                rate["value"].as_u64().unwrap() * unit
            };
            assert!(bits(&profile[target]) <= bits(&profile[max]), "{profile}");
        }
        // Each of them can be ordered, as long as it says.
        let order = json!({"qosProfile": profile["name"], "duration": null});
        let path = path(&post(&client, &token, &order));
        assert_eq!(client.delete(&path, &token).status, 204);
    }
}

/// The length of a session is bounded by its profile, not by a number in the program.
#[test]
fn a_whole_day_is_taken() {
    let (_running, client, token) = started();
    let created = post(&client, &token, &json!({"duration": 86_400}));
    assert_eq!(created.body["duration"], 86_400, "{}", created.body);
}

/// Who is in the way is not told: neither another consumer's name nor its session's id is in any answer, nor in the
/// words of the agent that the consumer is shown.
#[test]
fn conflicts_tell_nothing_of_the_other_one() {
    let (_running, client, token) = started();
    let secret = client.consumer("secret-rival", &SCOPES);
    let agent = client.agent_token("a");
    let theirs = post(&client, &secret, &json!({"devicePorts": {"ports": [1]}}));
    let id = theirs.body["sessionId"].as_str().unwrap().to_owned();
    let mut answers = vec![post(&client, &token, &json!({}))];
    // The same device under a name of which the backend cannot know, so that the agent finds the conflict.
    let ours = post(
        &client,
        &token,
        &json!({"device": {"phoneNumber": "+4912345678923"}}),
    );
    let path = path(&ours);
    let revision = client.poll("a", &agent, None, 0).body["revision"].clone();
    let message = format!("its flow overlaps that of {id}");
    let conflict = [(
        ours.body["sessionId"].as_str().unwrap(),
        "REJECTED",
        "CONFLICT",
        message.as_str(),
    )];
    client.report("a", &agent, 1, &revision, &conflict);
    answers.push(client.get(&path, &token));
    assert_eq!(answers[1].body["qosStatus"], "UNAVAILABLE");
    for method in ["GET", "DELETE"] {
        answers.push(client.json(method, &format!("{SESSIONS}/{id}"), &token, &Value::Null));
    }
    for answer in answers {
        let text = format!("{} {:?}", answer.body, answer.headers);
        assert!(
            !text.contains(&id) && !text.contains("secret-rival"),
            "{text}"
        );
    }
}

/// Nothing is served without a token but what says so: every route of the API and of the operator answers 401.
#[test]
fn no_route_is_open() {
    let (_running, client, token) = started();
    let created = post(&client, &token, &json!({}));
    let session = path(&created);
    let id = created.body["sessionId"].as_str().unwrap();
    let admin_session = format!("/admin/v1/sessions/{id}");
    let routes = [
        ("POST", SESSIONS),
        ("GET", &session),
        ("HEAD", &session),
        ("DELETE", &session),
        ("GET", "/qod/v0/qos-profiles"),
        ("GET", "/qod/v0/qos-profiles/QOS_E"),
        ("GET", "/qod/v0/qos-profiles/%ff"),
        ("GET", "/qod/v0/qosProfile"),
        ("GET", "/qod/v0/qosProfile/QOS_E"),
        ("GET", "/agent/v1/agents/a/instructions"),
        ("PUT", "/agent/v1/agents/a/status"),
        ("POST", "/agent/v1/agents/a/token"),
        ("POST", "/agent/v1/enrol"),
        ("GET", "/admin/v1/homes"),
        ("GET", "/admin/v1/homes/h"),
        ("PUT", "/admin/v1/homes/h"),
        ("POST", "/admin/v1/homes/h/token"),
        ("GET", "/admin/v1/consumers"),
        ("GET", "/admin/v1/consumers/app"),
        ("PUT", "/admin/v1/consumers/app"),
        ("GET", "/admin/v1/agents"),
        ("GET", "/admin/v1/agents/a"),
        ("POST", "/admin/v1/agents/a/token"),
        ("POST", "/admin/v1/agents/a/bootstrap"),
        ("GET", "/admin/v1/sessions"),
        ("GET", &admin_session),
        ("DELETE", &admin_session),
    ];
    let rival = client.consumer("rival", &SCOPES);
    for (method, path) in routes {
        let mut tokens = vec![None, Some("Bearer x.y.z".to_owned())];
        if path.starts_with("/admin") || path.starts_with("/agent") {
            // A consumer is neither the operator nor an agent.
            tokens.push(Some(format!("Bearer {rival}")));
        } else {
            tokens.push(Some(format!("Bearer {}", common::ADMIN)));
        }
        for token in tokens {
            let headers: Vec<_> = token
                .iter()
                .map(|t| ("authorization", t.as_str()))
                .collect();
            let answer = client.send(method, path, &headers, "{}");
            assert_eq!(
                answer.status, 401,
                "{method} {path} {headers:?}: {}",
                answer.body
            );
        }
    }
    assert_eq!(
        client.get(&session, &token).status,
        200,
        "it is still there"
    );
    assert_eq!(
        client.admin("GET", "/homes/h", &Value::Null)["subs"],
        home_h()["subs"]
    );
}
