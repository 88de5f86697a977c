//! QoS profiles: the file, the filters, and what a profile asks of a session.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod common;

use std::fs;
use std::path::Path;

use common::{Client, Running, SCOPES, session_with};
use qod_backend::qod::profiles::Profiles;
use serde_json::{Value, json};

const SESSIONS: &str = "/qod/v0/sessions";
const BASES: [&str; 2] = ["/qod/v0/qos-profiles", "/qod/v0/qosProfile"];

fn write(folder: &Path, profiles: &Value) -> std::path::PathBuf {
    let file = folder.join("profiles.json");
    fs::write(&file, json!({ "profiles": profiles }).to_string()).unwrap();
    file
}

fn started(profiles: &Value) -> (Running, Client, String) {
    let running = Running::with(|config| {
        let folder = config.admin_token_file.as_ref().unwrap().parent().unwrap();
        config.profiles_file = Some(write(folder, profiles));
    });
    running.home();
    let client = running.client.clone();
    let token = client.consumer("app", &SCOPES);
    (running, client, token)
}

/// Two profiles that differ in everything.
fn two() -> Value {
    let amount = |value: u32, unit: &str| json!({"value": value, "unit": unit});
    json!([
        {"name": "FIRST", "dscp": "EF", "description": "one", "status": "ACTIVE",
            "targetMinUpstreamRate": amount(10, "Mbps"), "maxUpstreamRate": amount(20, "Mbps"),
            "maxUpstreamBurstRate": amount(30, "Mbps"), "targetMinDownstreamRate": amount(40, "Mbps"),
            "maxDownstreamRate": amount(50, "Mbps"), "maxDownstreamBurstRate": amount(1, "Gbps"),
            "minDuration": amount(30, "Seconds"), "maxDuration": amount(2, "Hours"), "priority": 20,
            "packetDelayBudget": amount(10, "Milliseconds"), "jitter": amount(5, "Milliseconds"), "packetErrorLossRate": 3},
        {"name": "SECOND", "dscp": 0, "status": "DEPRECATED",
            "targetMinUpstreamRate": amount(1, "bps"), "maxUpstreamRate": amount(2, "kbps"),
            "maxUpstreamBurstRate": amount(3, "Tbps"), "targetMinDownstreamRate": amount(4, "bps"),
            "maxDownstreamRate": amount(5, "kbps"), "maxDownstreamBurstRate": amount(6, "Tbps"),
            "minDuration": amount(1, "Nanoseconds"), "maxDuration": amount(1, "Days"), "priority": 1,
            "packetDelayBudget": amount(1, "Microseconds"), "jitter": amount(2, "Microseconds"), "packetErrorLossRate": 10}
    ])
}

#[test]
fn every_filter_of_the_document_in_both_spellings() {
    let (_running, client, token) = started(&two());
    // Parameters that mean one thing, and values that are one amount; the first profile has it.
    let cases: [(&[&str], &[&str]); 15] = [
        (&["id", "name"], &["FIRST"]),
        (&["status"], &["ACTIVE"]),
        (
            &["targetMinimumUpstreamRate", "targetMinUpstreamRate"],
            &[
                "10Mbps",
                "10000kbps",
                "10000000bps",
                "010Mbps",
                "10%20Mbps",
                "10+Mbps",
            ],
        ),
        (&["maxUpstreamRate"], &["20Mbps", "20000kbps"]),
        (&["maxUpstreamBurstRate"], &["30Mbps", "30000000bps"]),
        (
            &["targetMinimumDownstreamRate", "targetMinDownstreamRate"],
            &["40Mbps", "40000kbps"],
        ),
        (&["maxDownstreamRate"], &["50Mbps"]),
        (
            &["maxDownstreamBurstRate"],
            &["1Gbps", "1000Mbps", "1000000kbps"],
        ),
        (&["minDuration"], &["30Seconds", "30000Milliseconds"]),
        (&["maxDuration"], &["2Hours", "120Minutes", "7200Seconds"]),
        (&["priority"], &["20", "020"]),
        (
            &["packetDelayBudget"],
            &["10Milliseconds", "10000Microseconds"],
        ),
        (
            &["jitter", "Jitter"],
            &["5Milliseconds", "5000000Nanoseconds"],
        ),
        (&["packetErrorLossRate"], &["3"]),
        // All that fit every filter; what is no filter is left alone.
        (&["unknown"], &["1&status=ACTIVE"]),
    ];
    for base in BASES {
        for (keys, values) in cases {
            for key in keys {
                for value in values {
                    let found = client.get(&format!("{base}?{key}={value}"), &token);
                    assert_eq!(found.status, 200, "{key}={value}: {}", found.body);
                    let names: Vec<_> = found
                        .body
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|p| &p["name"])
                        .collect();
                    assert_eq!(names, ["FIRST"], "{key}={value}");
                }
            }
        }
        let both = client.get(&format!("{base}?priority=20&maxDuration=1Days"), &token);
        assert_eq!(both.error(), (404, "NOT_FOUND", "No QoS Profiles found"));
        for none in [
            "name=first",
            "name=FIRST&id=SECOND",
            "name=",
            "status=INACTIVE",
            "targetMinUpstreamRate=11Mbps",
            "maxDuration=2Seconds",
            "priority=21",
            "priority=0",
            "maxUpstreamRate=18446744073709551615Tbps",
        ] {
            let answer = client.get(&format!("{base}?{none}"), &token);
            assert_eq!(
                answer.error(),
                (404, "NOT_FOUND", "No QoS Profiles found"),
                "{none}"
            );
        }
        for malformed in [
            "status=active",
            "status=",
            "maxUpstreamRate=10",
            "maxUpstreamRate=Mbps",
            "maxUpstreamRate=10mbps",
            "maxUpstreamRate=-10Mbps",
            "maxUpstreamRate=%2B10Mbps",
            "maxUpstreamRate=1.5Mbps",
            "maxUpstreamRate=10Seconds",
            "maxUpstreamRate=99999999999999999999Mbps",
            "minDuration=30",
            "minDuration=30s",
            "minDuration=30Mbps",
            "Jitter=",
            "priority=x",
            "priority=%2B20",
            "priority=-1",
            "priority=1.0",
            "packetErrorLossRate=",
            "priority=%ff",
            "priority=%2",
        ] {
            let answer = client.get(&format!("{base}?{malformed}"), &token);
            let (status, code, message) = answer.error();
            assert_eq!((status, code), (400, "INVALID_INPUT"), "{malformed}");
            assert!(
                message.starts_with("Schema validation failed at "),
                "{message}"
            );
        }
    }
}

#[test]
fn one_profile_has_the_names_of_both_dialects() {
    let (_running, client, token) = started(&two());
    for base in BASES {
        let one = client.get(&format!("{base}/FIRST"), &token);
        assert_eq!(one.status, 200);
        let one = one.body;
        assert_eq!(one["id"], "FIRST");
        for (new, old) in [
            ("targetMinUpstreamRate", "targetMinimumUpstreamRate"),
            ("targetMinDownstreamRate", "targetMinimumDownstreamRate"),
            ("jitter", "Jitter"),
        ] {
            assert!(one[new].is_object(), "{new}");
            assert_eq!(one[new], one[old]);
        }
        // Neither the operator's marks nor its rules are shown.
        for hidden in ["dscp", "portsRequired", "rangesAllowed"] {
            assert!(one.get(hidden).is_none(), "{hidden}");
        }
        for id in ["first", "x", "%ff", "%00", &"a".repeat(3_000)] {
            let answer = client.get(&format!("{base}/{id}"), &token);
            assert_eq!(
                answer.error(),
                (404, "NOT_FOUND", "QosProfile Id does not exist"),
                "{id}"
            );
        }
    }
}

#[test]
fn a_wrong_file_names_profile_and_field() {
    let folder = tempfile::tempdir().unwrap();
    for (profile, complaint) in [
        (json!({"name": "QOS_X"}), "QOS_X.dscp: is missing"),
        (json!({"name": "A", "dscp": 1}), "A.name: must be 3 to 256"),
        (
            json!({"name": "QOS X", "dscp": 1}),
            "QOS X.name: must be 3 to 256",
        ),
        (
            json!({"name": "QOS_X", "dscp": 64}),
            "QOS_X.dscp: must be a DSCP",
        ),
        (
            json!({"name": "QOS_X", "dscp": "AF44"}),
            "QOS_X.dscp: must be a DSCP",
        ),
        (
            json!({"name": "QOS_X", "dscp": 1, "status": "active"}),
            "QOS_X.status: must be ACTIVE",
        ),
        (
            json!({"name": "QOS_X", "dscp": 1, "priority": 0}),
            "QOS_X.priority: must be from 1 to 100",
        ),
        (
            json!({"name": "QOS_X", "dscp": 1, "packetErrorLossRate": 11}),
            "QOS_X.packetErrorLossRate: must be from 1 to 10",
        ),
        (
            json!({"name": "QOS_X", "dscp": 1, "maxUpstreamRate": {"value": 1025, "unit": "bps"}}),
            "QOS_X.maxUpstreamRate.value: must be from 0 to 1024",
        ),
        (
            json!({"name": "QOS_X", "dscp": 1, "maxUpstreamRate": {"value": 1, "unit": "Seconds"}}),
            "QOS_X.maxUpstreamRate.unit: must be one of bps",
        ),
        (
            json!({"name": "QOS_X", "dscp": 1, "maxUpstreamRate": 1}),
            "QOS_X.maxUpstreamRate: must be an object",
        ),
        (
            json!({"name": "QOS_X", "dscp": 1, "jitter": {"value": 0, "unit": "Seconds"}}),
            "QOS_X.jitter.value: must be from 1 to",
        ),
        (
            json!({"name": "QOS_X", "dscp": 1, "jitter": {"unit": "Seconds"}}),
            "QOS_X.jitter.value: is missing",
        ),
        (
            json!({"name": "QOS_X", "dscp": 1, "minDuration": {"value": 2, "unit": "Days"}}),
            "QOS_X.name: has no duration",
        ),
        (
            json!({"name": "QOS_X", "dscp": 1, "portsRequired": "yes"}),
            "QOS_X.portsRequired: must be true or false",
        ),
        (
            json!({"name": "QOS_X", "dscp": 1, "Priority": 1}),
            "QOS_X.Priority: is not a known key",
        ),
        (json!({"dscp": 1}), "profiles[1].name: is missing"),
        (json!("QOS_X"), "profiles[1]: must be an object"),
        (
            json!({"name": "GOOD", "dscp": 1}),
            "GOOD: has the name of an earlier profile",
        ),
    ] {
        let file = write(
            folder.path(),
            &json!([{"name": "GOOD", "dscp": 0}, profile]),
        );
        let error = Profiles::load(Some(&file)).unwrap_err().to_string();
        let expected = format!(
            "the QoS profiles {} are wrong at {complaint}",
            file.display()
        );
        assert!(error.starts_with(&expected), "{error}\n{expected}");
    }
    let missing = Profiles::load(Some(Path::new("/nowhere"))).unwrap_err();
    assert!(missing.to_string().contains("/nowhere"), "{missing}");
}

#[test]
fn only_an_active_profile_takes_new_sessions_and_running_ones_go_on() {
    let profiles = json!([{"name": "NEW", "dscp": 1}, {"name": "OLD", "dscp": 1, "status": "DEPRECATED"},
        {"name": "OFF", "dscp": 1, "status": "INACTIVE"}]);
    let (_running, client, token) = started(&profiles);
    for (name, status) in [("OLD", "DEPRECATED"), ("OFF", "INACTIVE")] {
        let answer = client.json(
            "POST",
            SESSIONS,
            &token,
            &session_with(&json!({"qosProfile": name})),
        );
        let message = format!("QosProfile {name} is {status} and takes no new sessions");
        assert_eq!(answer.error(), (400, "INVALID_INPUT", message.as_str()));
        let shown = client.get(&format!("{}/{name}", BASES[0]), &token);
        assert_eq!(shown.body["status"], status, "it is still shown");
    }
    let unknown = client.json(
        "POST",
        SESSIONS,
        &token,
        &session_with(&json!({"qosProfile": "XXX"})),
    );
    assert_eq!(
        unknown.error(),
        (400, "INVALID_INPUT", "QosProfile Id does not exist")
    );
}

#[test]
fn a_session_of_a_profile_that_was_withdrawn_runs_on() {
    let mut running = Running::with(|config| {
        let folder = config.admin_token_file.as_ref().unwrap().parent().unwrap();
        config.profiles_file = Some(write(folder, &json!([{"name": "QOS_E", "dscp": 46}])));
    });
    running.home();
    let token = running.client.consumer("app", &SCOPES);
    let created = running
        .client
        .json("POST", SESSIONS, &token, &session_with(&json!({})));
    let path = format!("{SESSIONS}/{}", created.body["sessionId"].as_str().unwrap());
    write(
        running.directory.path(),
        &json!([{"name": "QOS_E", "dscp": 46, "status": "DEPRECATED"}]),
    );
    running.restart();
    let again = running.client.get(&path, &token);
    assert_eq!(
        (again.status, &again.body["qosProfile"]),
        (200, &json!("QOS_E"))
    );
    let agent = running.client.agent_token("a");
    let told = running.client.poll("a", &agent, None, 0);
    assert_eq!(told.body["sessions"][0]["dscp"], 46);
    assert_eq!(running.client.delete(&path, &token).status, 204);
}

#[test]
fn durations_are_the_profiles() {
    let amount = |value: u32, unit: &str| json!({"value": value, "unit": unit});
    let profiles = json!([
        {"name": "SHORT", "dscp": 1, "minDuration": amount(1_500, "Milliseconds"), "maxDuration": amount(10_900, "Milliseconds")},
        {"name": "LONG", "dscp": 1, "maxDuration": amount(30, "Days")},
        {"name": "PLAIN", "dscp": 1}]);
    let (_running, client, token) = started(&profiles);
    let post = |profile: &str, duration: Value| {
        client.json(
            "POST",
            SESSIONS,
            &token,
            &session_with(&json!({"qosProfile": profile, "duration": duration})),
        )
    };
    // What lasts whole seconds, and what is given where none was asked for.
    for (profile, least, most) in [("SHORT", 2, 10), ("LONG", 1, 86_400), ("PLAIN", 1, 86_400)] {
        for (asked, got) in [
            (Value::Null, most),
            (json!(least), least),
            (json!(most), most),
        ] {
            let created = post(profile, asked.clone());
            assert_eq!(
                created.body["duration"], got,
                "{profile} {asked}: {}",
                created.body
            );
            let path = format!("{SESSIONS}/{}", created.body["sessionId"].as_str().unwrap());
            assert_eq!(client.delete(&path, &token).status, 204);
        }
        for wrong in [least - 1, most + 1] {
            let answer = post(profile, json!(wrong));
            let (status, code, message) = answer.error();
            assert_eq!((status, code), (400, "INVALID_INPUT"), "{profile} {wrong}");
            assert!(
                message.starts_with("Schema validation failed at duration: must be from "),
                "{message}"
            );
        }
    }
}
