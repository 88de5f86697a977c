//! Whatever stands in the file, it is a configuration or an error that says where.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::Config;
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
