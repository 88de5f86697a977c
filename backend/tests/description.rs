//! The served description: it can be read, it names exactly what is served, and its examples are true.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Client, Running, SCOPES};
use qod_backend::qod::description::DESCRIPTION;
use qod_backend::server::qod_routes;
use serde_json::{Value, json};

const PATH: &str = "/qod/v0/openapi.yaml";
const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "patch", "trace"];

fn description() -> Value {
    serde_norway::from_str(DESCRIPTION).unwrap()
}

fn started() -> (Running, Client, String) {
    let running = Running::start();
    running.home();
    let client = running.client.clone();
    let token = client.consumer("app", &SCOPES);
    (running, client, token)
}

/// The described methods of each path.
fn described() -> BTreeMap<String, BTreeSet<String>> {
    let description = description();
    let paths = description["paths"].as_object().unwrap();
    let methods = |item: &Value| {
        let known = METHODS.iter().filter(|method| item.get(method).is_some());
        known.map(|method| method.to_uppercase()).collect()
    };
    paths
        .iter()
        .map(|(path, item)| (path.clone(), methods(item)))
        .collect()
}

#[test]
fn it_is_served_without_a_token_and_may_be_kept() {
    let (_running, client, _) = started();
    let first = client.send("GET", PATH, &[], "");
    assert_eq!(first.status, 200);
    assert_eq!(first.headers["content-type"], "application/yaml");
    assert!(
        first.headers["cache-control"]
            .to_str()
            .unwrap()
            .contains("max-age")
    );
    let tag = first.etag.unwrap();
    let again = client.send("GET", PATH, &[("if-none-match", &tag)], "");
    assert_eq!((again.status, again.etag.as_ref()), (304, Some(&tag)));
    let other = client.send("GET", PATH, &[("if-none-match", "\"other\"")], "");
    assert_eq!(other.status, 200);
}

#[test]
fn it_names_exactly_what_is_served() {
    let (_running, client, token) = started();
    let described = described();
    let served: BTreeSet<&str> = qod_routes().iter().map(|(path, _)| *path).collect();
    assert_eq!(
        described
            .keys()
            .map(String::as_str)
            .collect::<BTreeSet<_>>(),
        served
    );
    for (path, methods) in &described {
        let concrete = path.replace("{sessionId}", "x").replace("{name}", "QOS_E");
        // A method that is not served is answered with those that are.
        assert!(!methods.contains("PATCH"), "{path}");
        let answer = client.json("PATCH", &format!("/qod/v0{concrete}"), &token, &Value::Null);
        assert_eq!(answer.status, 405, "{path}");
        let mut allowed: BTreeSet<String> = answer.headers["allow"]
            .to_str()
            .unwrap()
            .split(',')
            .map(|method| method.trim().to_owned())
            .collect();
        // GET brings HEAD along (RFC 9110 §9.3.2).
        assert_eq!(allowed.remove("HEAD"), methods.contains("GET"), "{path}");
        assert_eq!(&allowed, methods, "{path}");
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_part_is_used() {
    let description = description();
    let mut references = BTreeSet::new();
    collect(&description, &mut references);
    for reference in &references {
        let place = reference.strip_prefix('#').unwrap();
        assert!(description.pointer(place).is_some(), "{reference}");
    }
    for kind in ["schemas", "responses", "parameters", "headers"] {
        for name in description["components"][kind].as_object().unwrap().keys() {
            let reference = format!("#/components/{kind}/{name}");
            assert!(references.contains(&reference), "{reference} is of no use");
        }
    }
}

fn collect(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                references.insert(reference.clone());
            }
            map.values().for_each(|value| collect(value, references));
        }
        Value::Array(all) => all.iter().for_each(|value| collect(value, references)),
        _ => (),
    }
}

#[test]
fn its_orders_are_taken() {
    let (_running, client, token) = started();
    let description = description();
    let content = &description["paths"]["/sessions"]["post"]["requestBody"]["content"];
    let examples = content["application/json"]["examples"].as_object().unwrap();
    assert!(examples.len() > 2);
    for (name, example) in examples {
        let answer = client.json("POST", "/qod/v0/sessions", &token, &example["value"]);
        assert_eq!(answer.status, 201, "{name}: {}", answer.body);
    }
}

/// An example of an error has the status of its answer, and what it says is said: the requests that bring some of
/// them forth, and the others by their code.
#[test]
fn its_errors_are_those_that_are_answered() {
    let (_running, client, token) = started();
    let description = description();
    let mut examples: BTreeSet<(u64, String, String)> = BTreeSet::new();
    for (name, response) in description["components"]["responses"].as_object().unwrap() {
        let content = &response["content"]["application/json"];
        let several = content["examples"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(_, e)| &e["value"]);
        for example in several.chain(content.get("example")) {
            let text = |key: &str| {
                example[key]
                    .as_str()
                    .unwrap_or_else(|| panic!("{name}: {key}"))
                    .to_owned()
            };
            examples.insert((
                example["status"].as_u64().unwrap(),
                text("code"),
                text("message"),
            ));
        }
    }
    let order = |change: Value| {
        client.json(
            "POST",
            "/qod/v0/sessions",
            &token,
            &common::session_with(&change),
        )
    };
    let device = |device: Value| json!({ "device": device });
    let ranges = json!({"devicePorts": {"ranges": [{"from": 2, "to": 1}]}});
    let public_port = |port: u32| {
        device(json!({"ipv4Address": {"publicAddress": "203.0.113.7", "publicPort": port}}))
    };
    let answers = [
        order(device(json!({"ipv4Address": "192.168.1.23"}))),
        order(device(json!({"phoneNumber": "+4911111"}))),
        order(json!({"device": null})),
        order(json!({"qosProfile": null})),
        order(json!({"applicationServer": null})),
        order(json!({"applicationServer": {}})),
        order(ranges),
        order(json!({"devicePorts": "0"})),
        order(public_port(0)),
        order(public_port(1)),
        order(device(json!({"phoneNumber": "+4999999"}))),
        order(json!({"qosProfile": "QOS_X"})),
        order(json!({"duration": 0})),
        client.get("/qod/v0/qos-profiles?maxUpstreamRate=x", &token),
        client.get("/qod/v0/qos-profiles?name=x", &token),
        client.get("/qod/v0/qos-profiles/x", &token),
        client.get("/qod/v0/sessions/x", &token),
        client.get("/qod/v0/sessions/x", "x.y.z"),
        client.get(
            "/qod/v0/sessions/x",
            &client.consumer("none", &["qod-sessions-write"]),
        ),
    ];
    for answer in &answers {
        let (status, code, message) = answer.error();
        let example = (u64::from(status), code.to_owned(), message.to_owned());
        assert!(
            examples.contains(&example),
            "{example:?} is no example of the description"
        );
    }
    let statuses: BTreeSet<u64> = examples.iter().map(|(status, ..)| *status).collect();
    assert_eq!(
        statuses,
        BTreeSet::from([400, 401, 403, 404, 408, 409, 413, 429, 500, 501, 503])
    );
}
