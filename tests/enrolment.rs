//! How an agent comes by its credential and changes it, through the real backend, over TLS.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod lab;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use lab::certificate::Certificates;
use lab::folder::Folder;
use lab::home::{Device, WAN_V4, server_v4};
use lab::process::Process;
use lab::{Agent, Backend, Exchange, Home, Netns, Observer, agent, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);
const EF: u8 = 46;
const SCOPES: &str = "qod-sessions-write qod-sessions-read qod-sessions-delete";
const AGENT: &str = "home-0001";
const OTHER: &str = "home-0002";

fn backend<'a>(home: &'a Home, level: &'static str) -> Backend<'a> {
    let listen = SocketAddr::new(server_v4(20).into(), 8443);
    let backend = Backend::logging(&home.internet, listen, &json!({}), level);
    for (agent, prefixes) in [(AGENT, json!([format!("{WAN_V4}/32")])), (OTHER, json!([]))] {
        let body = json!({ "agentIds": [agent], "consumers": "all", "prefixes": prefixes });
        let provisioned = backend.admin("PUT", &format!("/homes/{agent}"), &body);
        assert!(provisioned.status < 300, "{}", provisioned.text);
    }
    backend
}

/// An agent's files.
struct Files {
    folder: Folder,
    config: Value,
}

impl Files {
    /// With this section `backend`, to which URL and authority are added.
    fn new(backend: &Backend<'_>, section: Value) -> Self {
        let mut config = agent::config(&backend.url);
        config["agentId"] = AGENT.into();
        config["pollWaitSeconds"] = 1.into();
        config["backend"] = section;
        config["backend"]["url"] = json!(backend.url);
        config["backend"]["caFile"] = json!(backend.certificates.ca);
        Self {
            folder: Folder::new(),
            config,
        }
    }

    /// With a bootstrap token of this agent in a file.
    fn with_bootstrap(backend: &Backend<'_>, agent: &str) -> (Self, String) {
        let bootstrap = bootstrap(backend, agent);
        let mut files = Self::new(backend, json!({}));
        let file = files.folder.write("bootstrap", format!("{bootstrap}\n"));
        files.config["backend"]["bootstrapTokenFile"] = json!(file);
        (files, bootstrap)
    }

    fn token_file(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    fn token(&self) -> String {
        fs::read_to_string(self.token_file())
            .unwrap()
            .trim()
            .to_owned()
    }

    fn written(&self) -> PathBuf {
        self.folder.write("config.json", self.config.to_string())
    }

    fn run(&self, netns: &Netns, arguments: &[&str]) -> Output {
        let mut command = netns.command(agent::binary());
        command.args(arguments).arg("--config").arg(self.written());
        command.env("RUST_LOG", "trace").output().unwrap()
    }

    /// Runs a command that must fail: its exit status and what it says.
    fn refused(&self, netns: &Netns, arguments: &[&str]) -> (i32, String) {
        let output = self.run(netns, arguments);
        (output.status.code().unwrap(), said(&output))
    }

    /// Starts the agent, which says everything that it ever says.
    fn start(&self, netns: &Netns) -> Process {
        let mut command = netns.command(agent::binary());
        command.args(["run", "--config"]).arg(self.written());
        Process::start(
            command.env("RUST_LOG", "trace"),
            &self.folder.path().join("agent.log"),
        )
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The last line that a command says.
fn last(text: &str) -> &str {
    text.lines().last().unwrap_or_default()
}

fn bootstrap(backend: &Backend<'_>, agent: &str) -> String {
    let path = format!("/agents/{agent}/bootstrap");
    let body = backend.admin("POST", &path, &json!({})).expect(200);
    body["bootstrapToken"].as_str().unwrap().to_owned()
}

/// What the backend answers to a poll of the agent with this token.
fn poll(backend: &Backend<'_>, home: &Home, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    let path = format!("/agent/v1/agents/{AGENT}/instructions");
    let headers = [("authorization", bearer.as_str())];
    let answer = backend
        .client
        .call(&home.internet, "GET", &path, &headers, &Value::Null);
    answer.status
}

/// Orders a session and waits until the agent has it in force.
fn order(backend: &Backend<'_>, home: &Home) {
    let scopes: Vec<_> = SCOPES.split(' ').collect();
    let consumer = backend
        .admin("PUT", "/consumers/calls", &json!({ "scopes": scopes }))
        .body;
    let token = backend.token("calls", consumer["clientSecret"].as_str().unwrap(), SCOPES);
    let order = json!({
        "device": { "ipv4Address": { "publicAddress": WAN_V4.to_string(), "privateAddress": "192.168.1.23" } },
        "applicationServer": { "ipv4Address": "198.51.100.0/29" },
        "applicationServerPorts": { "ports": [33001] }, "qosProfile": "QOS_E", "duration": 600 });
    let session = backend
        .call(&token, "POST", "/qod/v0/sessions", &order)
        .expect(201);
    let path = format!(
        "/qod/v0/sessions/{}",
        session["sessionId"].as_str().unwrap()
    );
    wait::expect("AVAILABLE", LIMIT, || {
        let session = backend.call(&token, "GET", &path, &json!({})).expect(200);
        (session["qosStatus"] == "AVAILABLE").then_some(())
    });
    let phone = Observer::start(home, Device::Phone);
    let flow = Exchange::new(5010, server_v4(5), 33001);
    assert_eq!(phone.udp(&flow).dscp(), (EF, EF));
}

#[test]
fn an_agent_enrols_once_and_no_secret_is_told() {
    let home = Home::without_modem();
    let backend = backend(&home, "trace");
    let (files, bootstrap) = Files::with_bootstrap(&backend, AGENT);

    let (code, told) = files.refused(&home.router, &["run"]);
    assert_eq!(code, 1, "{told}");
    let sentence = "token: does not exist: this agent is not enrolled yet (qod-agent enrol)";
    assert!(last(&told).ends_with(sentence), "{told}");

    let enrolled = files.run(&home.router, &["enrol"]);
    assert!(enrolled.status.success(), "{}", said(&enrolled));
    let mode = fs::metadata(files.token_file())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(
        names(files.folder.path()),
        ["bootstrap", "config.json", "token"]
    );
    let token = files.token();

    let agent = files.start(&home.router);
    order(&backend, &home);
    let again = files.run(&home.router, &["enrol"]);
    assert_eq!(again.status.code(), Some(1));
    let sentence = "it is unknown, has served, or has expired";
    assert!(last(&said(&again)).ends_with(sentence), "{}", said(&again));
    assert_eq!(files.token(), token, "what was there stays");

    let arguments = fs::read(format!("/proc/{}/cmdline", agent.pid())).unwrap();
    let told = [
        said(&enrolled),
        said(&again),
        agent.log(),
        backend.process.log(),
        String::from_utf8_lossy(&arguments).into_owned(),
    ];
    // Each says all that it can: the backend has nothing to say below debug.
    for (text, level) in told.iter().zip(["TRACE", "TRACE", "TRACE", "DEBUG"]) {
        assert!(text.contains(level), "{level}: {text}");
    }
    for (place, text) in told.iter().enumerate() {
        for secret in [&bootstrap, &token] {
            assert!(!text.contains(secret.as_str()), "{place}: {text}");
        }
    }
    // Nor could one be given as an argument.
    assert_eq!(files.refused(&home.router, &["enrol", "x"]).0, 2);
    assert_eq!(files.refused(&home.router, &["run", "--rotate"]).0, 2);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_running_agent_goes_on_with_the_next_token() {
    let home = Home::without_modem();
    let backend = backend(&home, "info");
    let (files, _) = Files::with_bootstrap(&backend, AGENT);
    let (code, told) = files.refused(&home.router, &["enrol", "--rotate"]);
    assert_eq!(code, 1);
    assert!(last(&told).contains("is not enrolled yet"), "{told}");
    assert!(files.run(&home.router, &["enrol"]).status.success());
    let first = files.token();
    let agent = files.start(&home.router);
    wait::expect("a poll", LIMIT, || is_connected(&backend));

    let rotate = || {
        let rotated = files.run(&home.router, &["enrol", "--rotate"]);
        assert!(rotated.status.success(), "{}", said(&rotated));
        let token = files.token();
        assert!(!said(&rotated).contains(&token));
        token
    };
    let second = rotate();
    assert_ne!(first, second);
    for token in [&first, &second] {
        assert_eq!(poll(&backend, &home, token), 200);
    }
    order(&backend, &home);
    let refused = "the backend refuses this agent";
    assert!(!agent.log().contains(refused), "the old token is valid");

    // An agent has a bounded number of tokens: the first one goes before its day is over.
    let mut tokens = vec![second];
    while poll(&backend, &home, &first) == 200 {
        assert!(tokens.len() < 20, "their number has no bound");
        tokens.push(rotate());
    }
    let sequence = || {
        let status = backend.admin("GET", &format!("/agents/{AGENT}"), &Value::Null);
        status.body["status"]["sequence"].as_u64()
    };
    wait::expect("401", LIMIT, || agent.log().contains(refused).then_some(()));
    let before = sequence();
    wait::expect("reports with the new token", LIMIT, || {
        (sequence() > before).then_some(())
    });
    let mode = fs::metadata(files.token_file())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
    let log = agent.log();
    assert!(!tokens.iter().any(|token| log.contains(token.as_str())));
}

fn is_connected(backend: &Backend<'_>) -> Option<()> {
    let agent = backend.admin("GET", &format!("/agents/{AGENT}"), &Value::Null);
    (agent.body["connected"] == true).then_some(())
}

#[test]
fn what_cannot_be_done_is_said_and_changes_nothing() {
    let home = Home::without_modem();
    let backend = backend(&home, "info");
    let router = &home.router;
    let (mut files, good) = Files::with_bootstrap(&backend, AGENT);
    files.folder.write("token", "as it was");
    let section = files.config["backend"].clone();

    // Configuration.
    for (key, value, expected) in [
        ("bootstrapTokenFile", Value::Null, "is missing"),
        (
            "token",
            json!("x"),
            "backend.bootstrapTokenFile: token is given too",
        ),
    ] {
        files.config["backend"] = section.clone();
        files.config["backend"]["tokenFile"] = json!(files.token_file());
        if key == "token" {
            files.config["backend"]
                .as_object_mut()
                .unwrap()
                .remove("tokenFile");
        }
        files.config["backend"][key] = value;
        let map = files.config["backend"].as_object_mut().unwrap();
        map.retain(|_, value| !value.is_null());
        let (code, told) = files.refused(router, &["enrol"]);
        assert_eq!(code, 2, "{told}");
        assert!(told.contains(expected), "{told}");
    }

    // Files, the authority, and the way to the backend.
    let elsewhere = Folder::new();
    let strange = Certificates::new(&elsewhere, &["stranger"]).ca;
    for (key, value, expected) in [
        (
            "bootstrapTokenFile",
            json!("/nonexistent"),
            "/nonexistent: cannot be read: ",
        ),
        (
            "bootstrapTokenFile",
            json!("/dev/null"),
            "/dev/null: holds no token",
        ),
        (
            "tokenFile",
            json!("/nonexistent/token"),
            "/nonexistent/token: opening its folder: ",
        ),
        ("caFile", json!(strange), "certificate"),
        (
            "url",
            json!("https://198.51.100.20:1"),
            "reaching 198.51.100.20:1: ",
        ),
    ] {
        files.config["backend"] = section.clone();
        files.config["backend"][key] = value;
        let (code, told) = files.refused(router, &["enrol"]);
        assert_eq!(code, 1, "{told}");
        assert!(last(&told).contains(expected), "{told}");
    }
    files.config["backend"] = section.clone();
    assert_eq!(files.token(), "as it was");

    // A token of nobody, and another agent's.
    for (token, expected) in [
        (
            "nobody's".to_owned(),
            "bootstrap: the backend does not take this bootstrap token (401",
        ),
        (
            self::bootstrap(&backend, OTHER),
            "this credential is of agent home-0002, but agentId is home-0001; nothing was written",
        ),
    ] {
        files.folder.write("bootstrap", &token);
        let (code, told) = files.refused(router, &["enrol"]);
        assert_eq!(code, 1, "{told}");
        assert!(last(&told).contains(expected), "{told}");
        assert_eq!(files.token(), "as it was");
    }

    // The token came and could not be kept: the same bootstrap token serves again.
    files.folder.write("bootstrap", &good);
    let folder = files.folder.path().join("a-folder");
    fs::create_dir(&folder).unwrap();
    files.config["backend"]["tokenFile"] = json!(folder);
    let (code, told) = files.refused(router, &["enrol"]);
    assert_eq!(code, 1, "{told}");
    assert!(last(&told).contains("writing the token: "), "{told}");
    files.config["backend"] = section;
    assert!(files.run(router, &["enrol"]).status.success());
    assert_eq!(poll(&backend, &home, &files.token()), 200);
}

#[test]
fn a_client_certificate_stands_for_a_token() {
    let home = Home::without_modem();
    let backend = backend(&home, "info");
    let folder = Folder::new();
    let (cert, key) = backend.certificates.client(&folder, AGENT);
    let section = json!({ "clientCertFile": cert, "clientKeyFile": key });
    let mut files = Files::new(&backend, section);
    let agent = files.start(&home.router);
    order(&backend, &home);
    drop(agent);

    assert_eq!(files.refused(&home.router, &["enrol"]).0, 2);
    // The same certificate from the factory.
    files.config["backend"]["tokenFile"] = json!(files.token_file());
    let (code, told) = files.refused(&home.router, &["run"]);
    assert_eq!(code, 1);
    assert!(last(&told).contains("is not enrolled yet"), "{told}");
    let enrolled = files.run(&home.router, &["enrol"]);
    assert!(enrolled.status.success(), "{}", said(&enrolled));
    assert_eq!(poll(&backend, &home, &files.token()), 200);
}

#[test]
fn a_certificate_of_somebody_else_does_not_open() {
    let home = Home::without_modem();
    let backend = backend(&home, "info");
    let folder = Folder::new();
    let theirs = backend.certificates.client(&folder, OTHER);
    let elsewhere = Folder::new();
    let foreign = Certificates::new(&elsewhere, &["foreign"]).client(&elsewhere, AGENT);
    for ((cert, key), code, message) in [
        (theirs, "UNAUTHORIZED", "403"),
        (foreign, "BACKEND_UNREACHABLE", "alert"),
    ] {
        let mut config = agent::config(&backend.url);
        config["backend"] = json!({ "url": backend.url, "caFile": backend.certificates.ca,
                                    "clientCertFile": cert, "clientKeyFile": key });
        let agent = Agent::start(&home.router, &config);
        let warning = wait::expect("a warning", LIMIT, || {
            let status = agent.status(&home.router)?;
            let warnings = status["warnings"].as_array()?.clone();
            warnings.into_iter().find(|warning| warning["code"] == code)
        });
        let text = warning["message"].as_str().unwrap();
        assert!(text.contains(message), "{text}");
    }
}
