//! The program itself: command line, files, signals, TLS.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
            "the configuration c.json is wrong at metrics: must be an object",
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
    let mut program = Program::start_talkative(directory.path(), &config());
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
    let log = program.whole_log();
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

/// Answers each connection with 204, and tells what it got.
fn receiver(listener: TcpListener) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = vec![0; 64 * 1024];
            let mut length = 0;
            while !request[..length].ends_with(b"}") {
                length += stream.read(&mut request[length..]).unwrap();
            }
            stream
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .unwrap();
            request.truncate(length);
            let _ = sender.send(String::from_utf8(request).unwrap());
        }
    });
    receiver
}

fn notifying() -> serde_json::Value {
    let mut config = config();
    config["notifications"] = json!({"allowPrivate": true});
    config
}

#[test]
fn a_killed_process_loses_no_notification() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    fs::write(directory.join("admin"), ADMIN).unwrap();
    // It takes connections and never answers: what is told here is claimed and not delivered.
    let place = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = place.local_addr().unwrap();
    let mut first = Program::start_talkative(directory, &notifying());
    first.client.admin("PUT", "/homes/h", &home_h());
    let token = first.client.consumer("app", &SCOPES);
    let agent = first.client.agent_token("a");
    let secret = "c8974e592c2fa383d4a3960714";
    let create = |client: &Client, port: u16| {
        let mut body = session();
        body["devicePorts"] = json!({"ports": [port]});
        body["webhook"] = json!({"notificationUrl": format!("http://{address}/hook"), "notificationAuthToken": secret});
        let created = client.json("POST", "/qod/v0/sessions", &token, &body);
        assert_eq!(created.status, 201, "{}", created.body);
        created.body["sessionId"].as_str().unwrap().to_owned()
    };
    let ended = create(&first.client, 1);
    let active = create(&first.client, 2);
    let revision = first.client.poll("a", &agent, None, 0).body["revision"].clone();
    let said = [(active.as_str(), "ACTIVE", "", "")];
    let reported = first.client.report("a", &agent, 1, &revision, &said);
    assert_eq!(reported.status, 204);
    first
        .client
        .delete(&format!("/admin/v1/sessions/{ended}"), ADMIN);
    // Both are answered, so both are to be delivered.
    first.signal("-KILL");
    first.child.wait().unwrap();
    drop(place);

    let got = receiver(TcpListener::bind(address).unwrap());
    let second = Program::start_talkative(directory, &notifying());
    let wait = || got.recv_timeout(Duration::from_secs(30)).unwrap();
    let told = [wait(), wait()];
    let of = |id: &str| told.iter().find(|told| told.contains(id)).unwrap();
    assert!(of(&ended).contains("NETWORK_TERMINATED"));
    assert!(of(&active).contains(r#""qosStatus":"AVAILABLE""#));
    for told in &told {
        assert!(
            told.contains(&format!("authorization: Bearer {secret}\r\n")),
            "{told}"
        );
    }
    let mode = fs::metadata(directory.join("qod-backend.notification-key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    for program in [&first, &second] {
        let log = program.lines().join("\n");
        assert!(log.contains("listening"), "{log}");
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn an_end_by_time_is_told_within_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    fs::write(directory.join("admin"), ADMIN).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let got = receiver(listener);
    let program = Program::start_talkative(directory, &notifying());
    program.client.admin("PUT", "/homes/h", &home_h());
    let token = program.client.consumer("app", &SCOPES);
    let mut body = session();
    body["duration"] = 1.into();
    body["notificationUrl"] = url.into();
    for _ in 0..3 {
        let asked = Instant::now();
        let created = program
            .client
            .json("POST", "/qod/v0/sessions", &token, &body);
        let answered = Instant::now();
        assert_eq!(created.status, 201, "{}", created.body);
        let told = got.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(told.contains("SESSION_TERMINATED"), "{told}");
        assert!(asked.elapsed() >= Duration::from_secs(1), "not before");
        let late = answered.elapsed().saturating_sub(Duration::from_secs(1));
        assert!(late < Duration::from_secs(1), "{late:?} late");
    }
}
