//! The program itself: command line, files, signals, TLS.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{ADMIN, Client, SCOPES, home_h, session};
use serde_json::json;

const PROGRAM: &str = env!("CARGO_BIN_EXE_qod-backend");

fn run(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap()
}

/// A running program, which is killed in the end.
struct Program {
    child: Child,
    client: Client,
}

impl Program {
    /// Starts it and reads its address from its log.
    fn start(directory: &Path, config: &serde_json::Value) -> Self {
        Self::start_logging(directory, config, "info").0
    }

    /// The same, with all that it logs, which is whole when it has ended.
    fn start_logging(
        directory: &Path,
        config: &serde_json::Value,
        filter: &str,
    ) -> (Self, JoinHandle<Vec<u8>>) {
        fs::write(directory.join("config.json"), config.to_string()).unwrap();
        let mut child = Command::new(PROGRAM)
            .args(["serve", "--config", "config.json"])
            .current_dir(directory)
            .env("RUST_LOG", filter)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut read = Vec::new();
        let address = loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended");
            read.extend(line.as_bytes());
            if let Some((_, rest)) = line.split_once("listening address=") {
                break rest.split_whitespace().next().unwrap().to_owned();
            }
        };
        // Somebody must read on, or the program would wait for its log.
        let log = std::thread::spawn(move || {
            log.read_to_end(&mut read).unwrap();
            read
        });
        let program = Self {
            child,
            client: Client::new(format!("http://{address}")),
        };
        (program, log)
    }

    fn signal(&self, signal: &str) {
        let killed = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(killed.success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
fn secrets_are_not_logged() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("admin"), ADMIN).unwrap();
    let (mut program, log) = Program::start_logging(directory.path(), &config(), "trace");
    let client = &program.client;
    client.admin("PUT", "/homes/h", &home_h());
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let made = client.admin("PUT", "/consumers/app", &json!({"scopes": SCOPES}));
    let secret = text(&made["clientSecret"]);
    let chosen = "chosen-by-the-operator";
    let body = json!({"scopes": SCOPES, "clientSecret": chosen});
    client.admin("PUT", "/consumers/chosen", &body);
    let short = json!({"scopes": SCOPES, "clientSecret": "a-short-one"});
    let refused = client.json("PUT", "/admin/v1/consumers/chosen", ADMIN, &short);
    assert_eq!(refused.status, 400);
    let token = client.token("app", &secret);
    let mut secrets = vec![
        ADMIN.to_owned(),
        chosen.to_owned(),
        "a-short-one".to_owned(),
        client.token("chosen", chosen),
        client.user_token("h", "app"),
    ];
    // Right and wrong credentials, in every place where one is looked for.
    let bootstrap = client.admin("POST", "/agents/a/bootstrap", &json!({}));
    secrets.push(text(&bootstrap["bootstrapToken"]));
    let enrolled = client.json(
        "POST",
        "/agent/v1/enrol",
        &text(&bootstrap["bootstrapToken"]),
        &json!({}),
    );
    let agent = text(&enrolled.body["token"]);
    client.poll("a", &agent, None, 0);
    let basic = STANDARD.encode(format!("app:{secret}"));
    let form = "application/x-www-form-urlencoded";
    for (credential, body) in [
        (format!("Basic {basic}"), "grant_type=client_credentials"),
        (format!("Basic {basic}"), "client_secret=posted-by-mistake"),
        (
            "Basic d3Jvbmc6d3Jvbmctc2VjcmV0".to_owned(),
            "grant_type=client_credentials",
        ),
    ] {
        let headers = [("content-type", form), ("authorization", &credential)];
        client.send("POST", "/oauth2/token", &headers, body);
    }
    let broken = format!("{token}x");
    for path in [
        "/qod/v0/qos-profiles",
        "/admin/v1/homes",
        "/agent/v1/agents/a/instructions",
    ] {
        for credential in [&token, &broken, &agent, &secret] {
            client.get(path, credential);
        }
    }
    for (change, key) in [
        (
            json!({"notificationUrl": "https://app.example/secret-path"}),
            "top",
        ),
        (
            json!({"webhook": {"notificationUrl": "https://app.example/secret-path"}}),
            "webhook",
        ),
    ] {
        let mut body = common::session_with(&change);
        let token_of_theirs = format!("their-notification-token-{key}");
        if key == "top" {
            body["notificationAuthToken"] = token_of_theirs.into();
        } else {
            body["webhook"]["notificationAuthToken"] = token_of_theirs.into();
        }
        let headers = [
            ("authorization", format!("Bearer {token}")),
            ("idempotency-key", key.to_owned()),
        ];
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        client.send("POST", "/qod/v0/sessions", &headers, body.to_string());
    }
    secrets.extend([
        secret,
        token,
        agent,
        basic,
        "posted-by-mistake".to_owned(),
        "wrong-secret".to_owned(),
        "d3Jvbmc6d3Jvbmctc2VjcmV0".to_owned(),
        "their-notification-token".to_owned(),
        "secret-path".to_owned(),
    ]);
    program.signal("-TERM");
    program.child.wait().unwrap();
    let log = String::from_utf8(log.join().unwrap()).unwrap();
    assert!(log.contains("DEBUG") && log.contains("consumer provisioned"));
    for secret in secrets {
        // Its end tells it from others of its kind, where a library cuts what it logs.
        let ends = [
            &secret[..secret.len().min(20)],
            &secret[secret.len().saturating_sub(20)..],
        ];
        let found = log
            .lines()
            .find(|line| ends.iter().any(|end| line.contains(end)));
        assert_eq!(found, None, "{secret}");
    }
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
