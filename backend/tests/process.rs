//! The program itself: command line, files, signals, TLS.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::program::{PROGRAM, Program};
use common::{ADMIN, Client, SCOPES, home_h, session};
use serde_json::json;

fn run(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap()
}

fn config() -> serde_json::Value {
    json!({"listen": "127.0.0.1:0", "adminTokenFile": "admin", "issuer": {"url": "https://backend.example"}})
}

#[test]
fn wrong_usage_and_configuration_end_with_2() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    for arguments in [&[][..], &["serv"], &["serve", "--config"], &["serve", "x"]] {
        assert_eq!(
            run(directory, arguments).status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
    for (text, message) in [
        (
            r#"{"listen":1}"#,
            "the configuration c.json is wrong at listen: must be a string",
        ),
        (
            r#"{"metrics":1}"#,
            "the configuration c.json is wrong at metrics: is not a known key",
        ),
        (
            r#"{"homeDevices":{}}"#,
            "the configuration c.json is wrong at homeDevices: is not supported by this version",
        ),
        (
            r#"{"adminTokenFile":"nothing"}"#,
            "read the admin token nothing: ",
        ),
        (
            r#"{"profilesFile":"c.json"}"#,
            "the QoS profiles c.json are wrong at profilesFile: is not a known key",
        ),
        (
            r#"{"tls":{"cert":"c.json","key":"c.json"}}"#,
            "read the TLS certificate c.json: ",
        ),
    ] {
        fs::write(directory.join("c.json"), text).unwrap();
        let output = run(directory, &["serve", "--config", "c.json"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(message), "{text}: {said}");
        assert_eq!(output.status.code(), Some(2), "{text}");
    }
    let missing = run(directory, &["serve", "--config", "missing.json"]);
    assert!(
        String::from_utf8(missing.stderr)
            .unwrap()
            .contains("read the configuration missing.json")
    );
}

#[test]
fn a_killed_process_loses_no_session_and_its_tokens_live_on() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("admin"), ADMIN).unwrap();
    let mut first = Program::start(directory.path(), &config());
    first.client.admin("PUT", "/homes/h", &home_h());
    let token = first.client.consumer("app", &SCOPES);
    let agent = first.client.agent_token("a");
    let created = first
        .client
        .json("POST", "/qod/v0/sessions", &token, &session());
    first.signal("-KILL");
    first.child.wait().unwrap();

    let second = Program::start(directory.path(), &config());
    let id = created.body["sessionId"].as_str().unwrap();
    let got = second.client.get(&format!("/qod/v0/sessions/{id}"), &token);
    assert_eq!(
        (got.status, &got.body["device"]),
        (200, &created.body["device"])
    );
    let instructions = second.client.poll("a", &agent, None, 0).body;
    assert_eq!(instructions["sessions"][0]["sessionId"], id);
}

#[test]
fn sigterm_answers_polls_and_ends_with_0() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("admin"), ADMIN).unwrap();
    let mut program = Program::start(directory.path(), &config());
    program.client.admin("PUT", "/homes/h", &home_h());
    let agent = program.client.agent_token("a");
    let tag = program.client.poll("a", &agent, None, 0).etag.unwrap();
    let client = program.client.clone();
    let poll = std::thread::spawn(move || client.poll("a", &agent, Some(&tag), 50).status);
    // From outside nothing shows that the poll has arrived.
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    program.signal("-TERM");
    assert_eq!(poll.join().unwrap(), 304);
    assert_eq!(program.child.wait().unwrap().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(3));
    let log = fs::metadata(directory.path().join("qod-backend.sqlite-wal"));
    assert!(
        log.map_or(0, |log| log.len()) == 0,
        "the file alone is everything"
    );
}

#[test]
fn an_admin_token_is_made_beside_the_database() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path(), &json!({"listen": "127.0.0.1:0"}));
    let file = directory.path().join("qod-backend.admin-token");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let token = fs::read_to_string(&file).unwrap();
    assert_eq!(
        program.client.get("/admin/v1/homes", token.trim()).status,
        200
    );
    assert_eq!(program.client.get("/admin/v1/homes", "").status, 401);
}

#[test]
fn tls_is_verified_against_the_ca() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("admin"), ADMIN).unwrap();
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let server = server.signed_by(&key, &issuer).unwrap();
    fs::write(directory.path().join("cert.pem"), server.pem()).unwrap();
    fs::write(directory.path().join("key.pem"), key.serialize_pem()).unwrap();
    let mut config = config();
    config["tls"] = json!({"cert": "cert.pem", "key": "key.pem"});
    let program = Program::start(directory.path(), &config);
    let port = program.client.url.rsplit(':').next().unwrap();
    let url = format!("https://localhost:{port}");

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let agent = |roots: Vec<ureq::tls::Certificate<'static>>| -> ureq::Agent {
        let tls = ureq::tls::TlsConfig::builder()
            .unversioned_rustls_crypto_provider(provider.clone())
            .root_certs(ureq::tls::RootCerts::Specific(Arc::new(roots)))
            .build();
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        config.tls_config(tls).build().into()
    };
    let trusting = agent(vec![ureq::tls::Certificate::from_der(ca.der()).to_owned()]);
    let client = Client::with_agent(url.clone(), trusting);
    assert_eq!(client.get("/admin/v1/homes", ADMIN).status, 200);
    let stranger = agent(vec![]);
    assert!(stranger.get(format!("{url}/healthz")).call().is_err());
}
