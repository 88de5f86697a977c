//! `qod-agent check` and `qod-agent reset` on a router, and one agent per router.

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
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use lab::folder::Folder;
use lab::home::server_v4;
use lab::netns::Netns;
use lab::{Agent, Home, Script, agent, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(10);
const TAKEN: &str = "another qod-agent runs in this network namespace";

fn session() -> Value {
    json!({ "sessionId": "a", "dscp": 46, "expiresIn": 600,
        "device": { "ipv4Address": "192.168.1.23" }, "applicationServer": { "ipv4Address": "198.51.100.5" } })
}

fn script(home: &Home) -> Script {
    Script::start(&home.internet, SocketAddr::new(server_v4(19).into(), 8080))
}

/// An agent with a session in force, and its queues.
fn marking(home: &Home, script: &Script) -> Agent {
    let agent = Agent::start(&home.router, &agent::config(&script.url()));
    let revision = script.serve_sessions(&[session()]);
    script.wait_revision(revision);
    assert!(tables(home).contains("table netdev qod\n"));
    assert!(qdiscs(home).contains("htb 71d:"));
    agent
}

fn tables(home: &Home) -> String {
    home.router.output("nft", &["list", "tables"])
}

fn qdiscs(home: &Home) -> String {
    home.router.output("tc", &["qdisc", "show"])
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs a command that needs no agent.
fn run(netns: &Netns, arguments: &[&str]) -> Output {
    let mut command = netns.command(agent::binary());
    command.args(arguments).output().unwrap()
}

/// What the doctor says of a configuration, and its exit status.
fn check(netns: &Netns, config: &Value) -> (String, i32) {
    let folder = Folder::new();
    let file = folder.write("config.json", config.to_string());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let output = run(netns, &["check", "--config", file.to_str().unwrap()]);
    assert!(output.stderr.is_empty(), "{}", text(&output));
    (text(&output), output.status.code().unwrap())
}

#[track_caller]
fn says(text: &str, line: &str) {
    let found = text.lines().any(|found| found.starts_with(line));
    assert!(found, "no line {line:?} in\n{text}");
}

fn config() -> Value {
    agent::config("http://198.51.100.19:8080")
}

#[test]
fn a_second_agent_gives_up_with_one_sentence() {
    let home = Home::without_modem();
    let script = script(&home);
    let mut first = marking(&home, &script);
    let begun = Instant::now();
    let mut second = Agent::start(&home.router, &config());
    let status = wait::expect("the end of the second", LIMIT, || second.process.ended());
    assert_eq!(status.code(), Some(1));
    assert_eq!(second.process.log(), format!("qod-agent: {TAKEN}\n"));
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert!(first.process.ended().is_none());

    // In another namespace there is another router.
    let mut elsewhere = Agent::start(&home.internet, &config());
    wait::expect("an answer", LIMIT, || elsewhere.status(&home.internet));
    assert!(elsewhere.process.ended().is_none());
}

#[test]
fn a_killed_agent_leaves_no_lock() {
    let home = Home::without_modem();
    let script = script(&home);
    let mut agent = marking(&home, &script);
    agent.process.kill();
    agent.restart(&home.router);
    wait::expect("an answer", LIMIT, || agent.status(&home.router));
}

#[test]
fn a_successor_waits_for_its_predecessor() {
    let home = Home::without_modem();
    let script = script(&home);
    let mut first = marking(&home, &script);
    let second = Agent::start(&home.router, &agent::config(&script.url()));
    std::thread::sleep(Duration::from_millis(300));
    first.process.terminate(LIMIT);
    wait::expect("an answer of the second", LIMIT, || {
        second.status(&home.router)
    });
}

#[test]
fn reset_removes_what_is_the_agents_and_nothing_else() {
    let home = Home::without_modem();
    let script = script(&home);
    let mut agent = marking(&home, &script);
    home.router
        .nft("table netdev other { }\ntable inet qod { }\n");
    home.router.tc("qdisc add dev lan1 root handle 5: htb\n");

    let refused = run(&home.router, &["reset"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains(TAKEN) && text(&refused).contains("--force"));
    assert!(tables(&home).contains("table netdev qod\n") && qdiscs(&home).contains("htb 71d:"));

    agent.process.kill();
    home.router.nft("table netdev qod-next { }\n");
    // A device that no configuration names any more.
    home.router
        .tc("qdisc add dev lan2 root handle 71d: tbf rate 1mbit burst 2k limit 10k\n");
    let broken = Folder::new().path().join("config.json");
    let removed = run(
        &home.router,
        &["reset", "--config", broken.to_str().unwrap()],
    );
    assert_eq!(removed.status.code(), Some(0), "{}", text(&removed));
    let mut lines: Vec<_> = text(&removed).lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "removed queue htb 71d: on wan",
            "removed queue tbf 71d: on lan2",
            "removed table netdev qod",
            "removed table netdev qod-next",
        ]
    );
    assert!(!tables(&home).contains("netdev qod") && !qdiscs(&home).contains("71d:"));
    assert!(tables(&home).contains("table netdev other\n"));
    assert!(tables(&home).contains("table inet qod\n"));
    assert!(qdiscs(&home).contains("htb 5: dev lan1"));

    let again = run(&home.router, &["reset"]);
    assert_eq!(again.status.code(), Some(0));
    assert_eq!(text(&again), "nothing of the agent's was there\n");
}

#[test]
fn reset_can_be_forced_beside_a_running_agent() {
    let home = Home::without_modem();
    let script = script(&home);
    let mut agent = marking(&home, &script);
    let removed = run(&home.router, &["reset", "--force"]);
    assert_eq!(removed.status.code(), Some(0));
    assert!(text(&removed).contains("removed table netdev qod\n"));
    assert!(text(&removed).contains("removed queue htb 71d: on wan\n"));
    assert!(agent.process.ended().is_none());
}

#[test]
fn a_good_router_is_good_and_stays_as_it_is() {
    let home = Home::without_modem();
    let state = || {
        let ruleset = home.router.output("nft", &["list", "ruleset"]);
        ruleset + &qdiscs(&home) + &home.router.output("ip", &["-o", "link"])
    };
    let before = wait::expect("all links are up", Duration::from_secs(2), || {
        Some(state()).filter(|state| !state.contains("NO-CARRIER"))
    });
    let (text, code) = check(&home.router, &config());
    assert_eq!(state(), before);
    assert_eq!(code, 0, "{text}");
    for line in [
        "ok    kernel: ",
        "ok    rights: ",
        "ok    nf_tables: there",
        "ok    maps: ",
        "ok    ingress hook: there",
        "ok    egress hook: there",
        "ok    LAN br-lan: a bridge with lan1 (wired), lan2 (wired)",
        "ok    WAN wan: up, MTU 1500, 203.0.113.2",
        "ok    root qdisc of wan: the kernel's own",
        "ok    credentials: token in the configuration",
        "ok    flow offload: none",
        "ok    clock: plausible",
        "ok    agent: none runs here",
        "ok    result: the agent can do its job here",
    ] {
        says(&text, line);
    }
    // What this kernel has is found by another program, too.
    for (kind, what) in [
        ("htb", "HTB"),
        ("tbf", "TBF"),
        ("fq_codel", "fq_codel"),
        ("cake", "CAKE"),
    ] {
        let grade = match lab::kernel::has_qdisc(kind) {
            true => "ok    ",
            // Nothing is made of it.
            false if kind == "cake" => "ok    ",
            false => "warn  ",
        };
        says(&text, &format!("{grade}{what}: "));
    }
}

#[test]
fn a_running_agent_and_its_queue_are_known() {
    let home = Home::without_modem();
    let script = script(&home);
    let agent = marking(&home, &script);
    let output = agent.command(&home.router, &["check"]);
    assert_eq!(output.status.code(), Some(0));
    says(&text(&output), "ok    agent: one runs here");
    says(&text(&output), "ok    root qdisc of wan: htb of qod-agent");
    // The marks are as they were.
    assert!(tables(&home).contains("table netdev qod\n"));
    assert!(agent.status(&home.router).is_some());
}

#[test]
fn what_is_in_the_way_is_named() {
    let home = Home::without_modem();
    let mut absent = config();
    absent["lan"] = json!(["br-lan", "lan9"]);
    absent["wan"] = json!("ppp0");
    let (text, code) = check(&home.router, &absent);
    assert_eq!(code, 0, "{text}");
    says(&text, "warn  LAN lan9: no such device (yet)");
    says(&text, "warn  WAN ppp0: no such device (yet)");

    absent["lan"] = json!(["lan9"]);
    let (text, code) = check(&home.router, &absent);
    assert_eq!(code, 1, "{text}");
    says(&text, "FAIL  LAN ports: none is there");
    says(&text, "FAIL  result: ");

    home.router.tc("qdisc add dev wan root handle 1: htb\n");
    home.router.ip("link set wan down\n");
    let (text, code) = check(&home.router, &config());
    assert_eq!(code, 0, "{text}");
    says(&text, "warn  root qdisc of wan: htb of another program's");
    says(&text, "warn  WAN wan: is down");
}

#[test]
fn credentials_are_read_as_run_reads_them() {
    let home = Home::without_modem();
    let folder = Folder::new();
    let token = folder.write("token", "agent-token");
    let mode = |file: &Path, mode| {
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&token, 0o644);
    let mut config = config();
    config["backend"] = json!({ "url": "http://b", "allowPlainHttp": true, "tokenFile": token });
    let (text, code) = check(&home.router, &config);
    assert_eq!(code, 0, "{text}");
    let exposed = format!(
        "{} holds a secret and is open to everybody (mode 0644)",
        token.display()
    );
    says(&text, &format!("warn  permissions: {exposed}"));
    assert!(!text.contains("agent-token"));

    mode(&token, 0o600);
    let (text, _) = check(&home.router, &config);
    assert!(!text.contains("permissions"), "{text}");

    fs::write(&token, "two words").unwrap();
    let (text, code) = check(&home.router, &config);
    assert_eq!(code, 1, "{text}");
    says(
        &text,
        &format!("FAIL  credentials: {}: holds no token", token.display()),
    );
    fs::write(&token, "agent-token").unwrap();

    // PEM around what is no certificate: TLS would skip it without a word.
    let ca = folder.write(
        "ca.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    config["backend"] = json!({ "url": "https://b", "tokenFile": token, "caFile": ca });
    let (text, code) = check(&home.router, &config);
    assert_eq!(code, 1, "{text}");
    let unusable = format!("{}: holds no certificate that TLS can use", ca.display());
    says(&text, &format!("FAIL  credentials: {unusable}"));

    // A configuration that has the token in it is a secret itself.
    let file = folder.write("config.json", self::config().to_string());
    mode(&file, 0o604);
    let output = run(&home.router, &["check", "--config", file.to_str().unwrap()]);
    says(
        &self::text(&output),
        &format!("warn  permissions: {} holds a secret", file.display()),
    );
}

#[test]
fn a_router_without_authorities_is_told_what_brings_them() {
    let home = Home::without_modem();
    let mut config = config();
    config["backend"] = json!({ "url": "https://b", "token": "t" });
    let folder = Folder::new();
    let file = folder.write("config.json", config.to_string());
    let mut shell = home.router.command("sh");
    // In this shell's own view of the files.
    shell.args([
        "-c",
        "mount -t tmpfs none /etc/ssl/certs && exec \"$0\" \"$@\"",
    ]);
    shell.arg(agent::binary()).args(["run", "--config"]);
    let output = shell.arg(file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let package = "ca-certificates.crt: does not exist: install ca-bundle";
    assert!(text(&output).contains(package), "{}", text(&output));
}

#[test]
fn a_broken_configuration_is_named_and_the_kernel_is_looked_at() {
    let home = Home::without_modem();
    let mut broken = config();
    broken["lan"] = json!([]);
    let (text, code) = check(&home.router, &broken);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("config.json: lan: names no device"), "{text}");
    says(&text, "FAIL  configuration: ");
    says(&text, "ok    maps: ");
    let usage = run(&home.router, &["check", "--force"]);
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn the_configuration_alone_is_judged_without_a_word() {
    let home = Home::without_modem();
    let folder = Folder::new();
    let judge = |config: &Value| {
        let file = folder.write("config.json", config.to_string());
        let arguments = ["check", "--config-only", "--config", file.to_str().unwrap()];
        // As init scripts and rpcd call it: with nothing in the environment, and no terminal.
        let output = home
            .router
            .command("env")
            .args(["-i", agent::binary().to_str().unwrap()])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.stdout.is_empty(), "{}", text(&output));
        let named = file.to_str().unwrap().to_owned();
        (text(&output), output.status.code(), named)
    };
    // What is behind the names is a matter of `run`: devices may come, an enrolment may bring the token.
    let mut good = config();
    good["lan"] = json!(["lan9"]);
    good["backend"] =
        json!({ "url": "https://b", "tokenFile": "/nonexistent", "caFile": "/nonexistent" });
    assert_eq!(judge(&good).0, "");
    assert_eq!(judge(&good).1, Some(0));

    for (key, value, what) in [
        (
            "url",
            json!("ftp://b"),
            "backend.url: \"ftp://b\" is not an https URL",
        ),
        (
            "caFile",
            json!(7),
            "backend.caFile: invalid type: integer `7`",
        ),
        (
            "caPath",
            json!("x"),
            "backend.caPath: is not a key of this file",
        ),
    ] {
        let mut bad = good.clone();
        bad["backend"][key] = value;
        let (said, code, file) = judge(&bad);
        assert_eq!(code, Some(2), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.starts_with(&format!("qod-agent: {file}: {what}")),
            "{said}"
        );
    }
    let usage = run(&home.router, &["run", "--config-only"]);
    assert_eq!(usage.status.code(), Some(2));
}

/// `check` by `setpriv` with these arguments, as somebody who may read everything that it needs.
fn check_with(home: &Home, setpriv: &[&str]) -> Output {
    let folder = Folder::new();
    let config = folder.write("config.json", config().to_string());
    let binary = folder.path().join("qod-agent");
    fs::copy(agent::binary(), &binary).unwrap();
    for path in [folder.path(), &binary, &config] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command: Command = home.router.command("setpriv");
    command.args(setpriv).arg(&binary);
    command.arg("check").arg("--config").arg(&config);
    command.output().unwrap()
}

#[test]
fn what_may_not_be_tried_is_said() {
    let home = Home::without_modem();
    let nobody = check_with(&home, &["--reuid=65534", "--regid=65534", "--clear-groups"]);
    let said = text(&nobody);
    assert_eq!(nobody.status.code(), Some(1), "{said}");
    says(&said, "FAIL  rights: CAP_NET_ADMIN is missing");
    says(
        &said,
        "warn  egress hook: not tried: making a network namespace",
    );
    says(&said, "ok    LAN br-lan: a bridge with lan1");
    says(&said, "warn  flow offload: not known: ");

    let confined = check_with(&home, &["--bounding-set=-sys_admin"]);
    let said = text(&confined);
    assert_eq!(confined.status.code(), Some(1), "{said}");
    says(&said, "ok    rights: ");
    says(&said, "warn  maps: not tried: making a network namespace");
    says(&said, "FAIL  result: not known");
}

mod needs_flowtable {
    use super::*;

    #[test]
    #[ignore = "needs flowtables"]
    fn software_offload_is_named() {
        let home = Home::without_modem();
        home.router.nft(
            "table inet fw4 { flowtable ft { hook ingress priority 0; devices = { lan1, wan }; }; }\n",
        );
        let (text, code) = check(&home.router, &config());
        assert_eq!(code, 0, "{text}");
        let named = "in software (flowtable ft of table inet fw4 on lan1, wan)";
        says(&text, &format!("ok    flow offload: {named}"));
    }
}
