//! Whatever stands in the file, it is a configuration or an error that says where.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Config, Error};
use crate::arbitrary::{changed, damaged, json};

fn document() -> Value {
    json!({ "agentId": "home-0001",
        "backend": { "url": "https://backend.example", "token": "s3cret-t0ken", "caFile": "/etc/qod-agent/ca.pem",
                     "clientCertFile": "c", "clientKeyFile": "k", "allowPlainHttp": false },
        "pollWaitSeconds": 50, "reportIntervalSeconds": 60,
        "lan": ["br-lan"], "wan": "wan", "queues": "auto", "fwmask": "0x7f000000",
        "link": { "upstreamKbps": 40000, "downstreamKbps": 200_000 },
        "status": { "listen": "127.0.0.1:8742", "token": "s3cret-t0ken" },
        "maxSessions": 256 })
}

/// All keys of a document, and of what a legal one has.
fn keys(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                into.push(key.clone());
                keys(value, into);
            }
        }
        Value::Array(list) => list.iter().for_each(|item| keys(item, into)),
        _ => {}
    }
}

/// The error begins with a key, or with the position at which the file is no JSON object.
fn says_where(text: &str, error: &str) -> Result<(), TestCaseError> {
    let mut known = vec!["tokenFile".to_owned(), "bootstrapTokenFile".to_owned()];
    keys(&document(), &mut known);
    keys(&serde_json::from_str(text).unwrap_or_default(), &mut known);
    let has_position = error.starts_with("is not a JSON object: ") && error.contains(" column ");
    let names_key = known.iter().any(|key| {
        let inner = ["backend.", "status.", "link.", ""].map(|section| format!("{section}{key}: "));
        inner.iter().any(|start| error.starts_with(start))
    });
    prop_assert!(has_position || names_key, "{}", error);
    prop_assert!(!error.contains("s3cret"), "{}", error);
    Ok(())
}

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("/etc/qod-agent"))
}

fn check(text: &str) -> Result<(), TestCaseError> {
    match parse(text) {
        Ok(config) => {
            prop_assert!(qod_wire::is_agent_id(&config.agent_id));
            prop_assert!(!config.lan.is_empty() && config.poll_wait.as_secs() <= 55);
            Ok(())
        }
        Err(error) => says_where(text, &error),
    }
}

#[test]
fn the_unchanged_document_is_legal() {
    assert!(parse(&document().to_string()).is_ok());
}

/// Every key with the path by which errors call it: `backend.url`.
fn paths(value: &Value, above: &str, into: &mut Vec<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        into.push(format!("{above}{key}"));
        paths(value, &format!("{above}{key}."), into);
    }
}

#[test]
fn an_error_begins_with_the_path_of_its_key() {
    let mut document = document();
    document["backend"]["bootstrapTokenFile"] = json!("b");
    document["backend"]["tokenFile"] = json!("t");
    document["backend"].as_object_mut().unwrap().remove("token");
    let mut all = Vec::new();
    paths(&document, "", &mut all);
    all.push("unknown".to_owned());
    all.push("backend.unknown".to_owned());
    all.push("link.unknown".to_owned());
    all.push("status.unknown".to_owned());
    for path in all {
        // No key takes one of these.
        for bad in [json!([[]]), json!([null]), json!({ "a": 1 }), json!(-0.5)] {
            let mut changed = document.clone();
            let pointer = format!("/{}", path.replace('.', "/"));
            match changed.pointer_mut(&pointer) {
                Some(value) => *value = bad,
                None => match path.split_once('.') {
                    Some((section, key)) => changed[section][key] = bad,
                    None => changed[&path] = bad,
                },
            }
            let error = parse(&changed.to_string()).err();
            let error = error.unwrap_or_else(|| panic!("{changed} is taken"));
            let inner = [": ", "."].map(|end| error.starts_with(&format!("{path}{end}")));
            assert!(inner[0] || inner[1], "{path}: {error}");
        }
    }
}

#[test]
fn an_error_is_one_line_whatever_it_quotes() {
    for odd in ["que\nues", "\u{1b}[2J", "\r"] {
        let mut changed = document();
        changed["queues"] = odd.into();
        let mut unknown = document();
        unknown[odd] = 1.into();
        for document in [changed, unknown] {
            let what = parse(&document.to_string()).err().unwrap();
            let error = Error::new(Path::new("/c.json"), what).to_string();
            assert!(!error.contains(char::is_control), "{error:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        check(&text)?;
    }

    #[test]
    fn any_json_is_read_or_refused(value in json()) {
        check(&value.to_string())?;
    }

    #[test]
    fn a_changed_document_is_read_or_refused(document in changed(document())) {
        check(&document.to_string())?;
    }

    #[test]
    fn a_damaged_document_is_read_or_refused(bytes in damaged(document().to_string().into_bytes())) {
        check(&String::from_utf8_lossy(&bytes))?;
    }
}
