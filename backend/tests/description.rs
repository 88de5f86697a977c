//! `backend/src/qod/openapi.yaml` against the backend that serves it, and the list of its differences from CAMARA's
//! released description against the README.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod common;

use std::collections::BTreeSet;

use common::{Client, Running, SCOPES};
use qod_backend::qod::description::OPENAPI;
use qod_backend::qod::routes::{BASE, routes};
use saphyr::{LoadableYamlNode as _, Yaml};
use serde_json::{Value, json};

const PATH: &str = "/qod/v0/openapi.yaml";
const METHODS: [&str; 8] = [
    "get", "put", "post", "delete", "options", "head", "patch", "trace",
];

/// The description as JSON.
fn description() -> Value {
    let documents = Yaml::load_from_str(OPENAPI).unwrap();
    assert_eq!(documents.len(), 1, "one document");
    to_json(&documents[0])
}

fn to_json(yaml: &Yaml<'_>) -> Value {
    if let Some(mapping) = yaml.as_mapping() {
        let pairs = mapping
            .iter()
            .map(|(key, value)| (key.as_str().unwrap().to_owned(), to_json(value)));
        return Value::Object(pairs.collect());
    }
    if let Some(elements) = yaml.as_vec() {
        return elements.iter().map(to_json).collect();
    }
    if let Some(text) = yaml.as_str() {
        return text.into();
    }
    if let Some(number) = yaml.as_integer() {
        return number.into();
    }
    yaml.as_bool()
        .map_or_else(|| panic!("a scalar of another kind: {yaml:?}"), Value::Bool)
}

/// What `node` refers to, or itself.
fn resolve<'a>(root: &'a Value, node: &'a Value) -> &'a Value {
    match node["$ref"].as_str() {
        None => node,
        Some(place) => {
            let target = root.pointer(place.strip_prefix('#').unwrap());
            resolve(root, target.unwrap_or_else(|| panic!("{place} is nowhere")))
        }
    }
}

/// Calls `visit` with everything in `node`.
fn walk(node: &Value, visit: &mut impl FnMut(&Value)) {
    visit(node);
    match node {
        Value::Object(fields) => fields.values().for_each(|value| walk(value, visit)),
        Value::Array(elements) => elements.iter().for_each(|value| walk(value, visit)),
        _ => (),
    }
}

/// The methods that are described for a path, in capitals.
fn described_methods(item: &Value) -> BTreeSet<String> {
    let keys = item.as_object().unwrap().keys();
    keys.filter(|key| METHODS.contains(&key.as_str()))
        .map(|key| key.to_uppercase())
        .collect()
}

fn started() -> (Running, Client, String) {
    let running = Running::start();
    let mut home = common::home_h();
    home["networkAccessIdentifiers"] = json!([{"nai": "123456789@domain.example"}]);
    running.client.admin("PUT", "/homes/h", &home);
    let client = running.client.clone();
    let token = client.consumer("app", &SCOPES);
    (running, client, token)
}

#[test]
fn it_is_served_to_everybody_and_may_be_kept() {
    let (_running, client, _) = started();
    let answer = client.send("GET", PATH, &[], "");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "application/yaml");
    assert_eq!(answer.headers["cache-control"], "public, max-age=300");
    let tag = answer.etag.unwrap();
    for (known, status) in [
        (tag.clone(), 304),
        (format!("\"other\", W/{tag}"), 304),
        ("*".to_owned(), 304),
        ("\"other\"".to_owned(), 200),
    ] {
        let again = client.send("GET", PATH, &[("if-none-match", &known)], "");
        assert_eq!(again.status, status, "{known}");
        assert_eq!(again.etag.as_ref(), Some(&tag), "{known}");
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_used() {
    let root = description();
    assert_eq!(root["openapi"], "3.0.3");
    let mut used = BTreeSet::new();
    walk(&root, &mut |node| {
        if let Some(place) = node["$ref"].as_str() {
            resolve(&root, node);
            used.insert(place.to_owned());
        }
        for scheme in node["security"].as_array().into_iter().flatten() {
            for name in scheme.as_object().unwrap().keys() {
                used.insert(format!("#/components/securitySchemes/{name}"));
            }
        }
    });
    for (kind, components) in root["components"].as_object().unwrap() {
        for name in components.as_object().unwrap().keys() {
            let place = format!("#/components/{kind}/{name}");
            assert!(used.contains(&place), "{place} is used nowhere");
        }
    }
}

#[test]
fn what_is_served_is_described_and_what_is_described_is_served() {
    let (_running, client, _) = started();
    let root = description();
    assert_eq!(root["servers"], json!([{"url": BASE}]));
    let described: BTreeSet<&str> = root["paths"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let table = routes();
    let served: BTreeSet<&str> = table.iter().map(|(path, _)| *path).collect();
    assert_eq!(described, served);
    for path in served {
        // No operation has this method, so the answer lists those that are there.
        let url = format!("{BASE}{}", path.replace(['{', '}'], ""));
        let answer = client.send("PATCH", &url, &[], "");
        assert_eq!(answer.status, 405, "{path}");
        let allow = answer.headers["allow"].to_str().unwrap();
        let mut methods: BTreeSet<String> = allow.split(',').map(|m| m.trim().to_owned()).collect();
        // It comes with GET.
        if methods.contains("GET") {
            methods.remove("HEAD");
        }
        assert_eq!(methods, described_methods(&root["paths"][path]), "{path}");
    }
}

#[test]
fn every_operation_asks_for_a_token_unless_it_says_otherwise() {
    let (_running, client, _) = started();
    let root = description();
    for (path, item) in root["paths"].as_object().unwrap() {
        for method in described_methods(item) {
            let operation = &item[method.to_lowercase()];
            let open = operation["security"].as_array().is_some_and(Vec::is_empty);
            let url = format!("{BASE}{}", path.replace(['{', '}'], ""));
            let answer = client.send(&method, &url, &[], "");
            assert_eq!(answer.status == 401, !open, "{method} {path}");
        }
    }
}

#[test]
fn its_examples_of_orders_are_accepted_and_answers_have_no_other_fields() {
    let (_running, client, token) = started();
    let root = description();
    let create = &root["paths"]["/sessions"]["post"];
    let content = &create["requestBody"]["content"]["application/json"];
    let examples = content["examples"].as_object().unwrap();
    assert!(!examples.is_empty());
    for (name, example) in examples {
        let body = &example["value"];
        let answer = client.json("POST", "/qod/v0/sessions", &token, body);
        assert_eq!(answer.status, 201, "{name}: {}", answer.body);
        check_fields(
            &root,
            &json!({"$ref": "#/components/schemas/SessionInfo"}),
            &answer.body,
        );
        let path = format!(
            "/qod/v0/sessions/{}",
            answer.body["sessionId"].as_str().unwrap()
        );
        assert_eq!(client.delete(&path, &token).status, 204, "{name}");
    }
    let profiles = client.get("/qod/v0/qos-profiles", &token);
    for profile in profiles.body.as_array().unwrap() {
        check_fields(
            &root,
            &json!({"$ref": "#/components/schemas/QosProfile"}),
            profile,
        );
    }
}

/// Every field of `answer` must be a property that `schema` knows, and every required one must be there.
fn check_fields(root: &Value, schema: &Value, answer: &Value) {
    let schema = resolve(root, schema);
    let Some(fields) = answer.as_object() else {
        return;
    };
    let mut variants = vec![schema];
    for part in ["allOf", "anyOf", "oneOf"] {
        variants.extend(
            schema[part]
                .as_array()
                .into_iter()
                .flatten()
                .map(|variant| resolve(root, variant)),
        );
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        assert!(
            fields.contains_key(required.as_str().unwrap()),
            "{required} is missing: {answer}"
        );
    }
    for (key, value) in fields {
        let property = variants
            .iter()
            .find_map(|variant| variant["properties"].get(key))
            .unwrap_or_else(|| panic!("{key} is not described: {answer}"));
        check_fields(root, property, value);
    }
}

#[test]
fn examples_of_errors_agree_with_their_status_and_code() {
    let root = description();
    let mut seen = 0;
    let mut check = |status: &str, response: &Value| {
        let content = &resolve(&root, response)["content"]["application/json"];
        let Some(place) = content["schema"]["$ref"]
            .as_str()
            .filter(|_| !status.starts_with('2'))
        else {
            return;
        };
        assert_eq!(place, format!("#/components/schemas/Error{status}"));
        let bounds = &resolve(&root, &content["schema"])["allOf"][1]["properties"];
        let many = content["examples"].as_object().into_iter().flatten();
        let examples: Vec<&Value> = many
            .map(|(_, example)| &example["value"])
            .chain(content.get("example"))
            .collect();
        assert!(!examples.is_empty(), "{status} has no example");
        for example in examples {
            assert_eq!(example["status"].to_string(), status, "{example}");
            assert_eq!(json!([example["status"]]), bounds["status"]["enum"]);
            assert_eq!(json!([example["code"]]), bounds["code"]["enum"]);
            assert!(!example["message"].as_str().unwrap().is_empty());
            seen += 1;
        }
    };
    for item in root["paths"].as_object().unwrap().values() {
        for method in METHODS {
            for (status, response) in item[method]["responses"].as_object().into_iter().flatten() {
                check(status, response);
            }
        }
    }
    assert!(seen > 30, "{seen} examples");
}

#[test]
fn the_readme_shows_the_list_of_differences() {
    let list: Value = serde_json::from_str(include_str!("specs/differences.json")).unwrap();
    let readme = include_str!("../../README.md");
    let listed: Vec<String> = list["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap();
            assert!(
                row["stated"].is_array() || row["found"].is_array(),
                "by what is it seen?"
            );
            format!("| {} | {} |", text("difference"), text("reason"))
        })
        .collect();
    let (_, table) = readme
        .split_once("| difference from the released description | reason |\n|---|---|\n")
        .unwrap();
    let shown: Vec<&str> = table
        .lines()
        .take_while(|line| line.starts_with('|'))
        .collect();
    assert_eq!(shown, listed);
}
