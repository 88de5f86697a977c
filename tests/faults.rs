//! What goes wrong around the agent: the state in force stays, and somebody is told why.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod lab;

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use lab::home::{Device, server_v4};
use lab::script::Reply;
use lab::site::{EF, script_address};
use lab::{Agent, Exchange, Home, Observer, Script, agent, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(10);

fn session() -> Value {
    json!({ "sessionId": "a", "dscp": EF, "expiresIn": 600,
        "device": { "ipv4Address": "192.168.1.23" }, "applicationServer": { "ipv4Address": "198.51.100.5" } })
}

fn reply(status: u16, body: &str) -> Reply {
    Reply {
        status,
        tag: "another".to_owned(),
        headers: Vec::new(),
        body: body.as_bytes().to_vec(),
    }
}

fn dscp(home: &Home) -> (u8, u8) {
    Observer::start(home, Device::Phone)
        .udp(&Exchange::new(5010, server_v4(5), 33001))
        .dscp()
}

fn has_warning(status: &Value, code: &str) -> bool {
    status["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .any(|warning| warning["code"] == code)
}

#[test]
fn instructions_that_do_not_parse_change_nothing() {
    let home = Home::without_modem();
    let script = Script::start(&home.internet, script_address());
    let agent = Agent::start(&home.router, &agent::config(&script.url()));
    let revision = script.serve_sessions(&[session()]);
    script.wait_revision(revision);
    for body in [
        "{",
        "[]",
        "\"x\"",
        "{\"revision\":1}",
        "{\"revision\":-1,\"sessions\":[]}",
        "\u{0}",
    ] {
        script.serve_raw(reply(200, body));
        script.wait_status("BAD_INSTRUCTIONS", LIMIT, |status| {
            has_warning(status, "BAD_INSTRUCTIONS")
        });
        assert_eq!(dscp(&home), (EF, EF), "{body}");
        let revision = script.serve_sessions(&[session()]);
        script.wait_status("recovery", LIMIT, |status| {
            status["revision"] == revision && !has_warning(status, "BAD_INSTRUCTIONS")
        });
    }
    assert!(
        agent
            .process
            .log()
            .contains("the instructions cannot be used")
    );
}

#[test]
fn a_backend_that_is_away_ends_nothing() {
    let home = Home::without_modem();
    let script = Script::start(&home.internet, script_address());
    let agent = Agent::start(&home.router, &agent::config(&script.url()));
    let revision = script.serve_sessions(&[session()]);
    script.wait_revision(revision);
    drop(script);
    wait::expect("a warning", LIMIT, || {
        agent
            .status(&home.router)
            .filter(|status| has_warning(status, "BACKEND_UNREACHABLE"))
    });
    assert_eq!(dscp(&home), (EF, EF));

    let script = Script::start(&home.internet, script_address());
    // The new one counts from the beginning, and the agent has its revision 2 already.
    script.serve_sessions(&[]);
    let revision = script.serve_sessions(&[]);
    // It was asked often meanwhile, so the agent may wait for some seconds.
    script.wait_status("the backend is back", Duration::from_secs(40), |status| {
        status["revision"] == revision && !has_warning(status, "BACKEND_UNREACHABLE")
    });
    assert_eq!(dscp(&home), (0, 0));
}

#[test]
fn an_agent_that_is_refused_keeps_its_sessions() {
    let home = Home::without_modem();
    let script = Script::start(&home.internet, script_address());
    let agent = Agent::start(&home.router, &agent::config(&script.url()));
    let revision = script.serve_sessions(&[session()]);
    script.wait_revision(revision);
    script.serve_raw(reply(401, "{}"));
    wait::expect("a warning", LIMIT, || {
        agent
            .status(&home.router)
            .filter(|status| has_warning(status, "UNAUTHORIZED"))
    });
    assert_eq!(dscp(&home), (EF, EF));
}

#[test]
fn a_decommissioned_agent_removes_everything() {
    let home = Home::without_modem();
    let script = Script::start(&home.internet, script_address());
    let _agent = Agent::start(&home.router, &agent::config(&script.url()));
    let revision = script.serve_sessions(&[session()]);
    script.wait_revision(revision);
    assert!(
        home.router
            .output("tc", &["qdisc", "show", "dev", "wan"])
            .contains("htb 71d:")
    );
    script.serve_raw(reply(410, "{}"));
    wait::expect("nothing left", LIMIT, || {
        let table = home
            .router
            .output("nft", &["list", "tables"])
            .contains("netdev qod");
        let queue = home
            .router
            .output("tc", &["qdisc", "show", "dev", "wan"])
            .contains("71d:");
        (!table && !queue).then_some(())
    });
    assert_eq!(dscp(&home), (0, 0));
}

#[test]
fn a_stop_leaves_the_marks_and_is_quick() {
    let home = Home::without_modem();
    let script = Script::start(&home.internet, script_address());
    let mut agent = Agent::start(&home.router, &agent::config(&script.url()));
    let revision = script.serve_sessions(&[session()]);
    script.wait_revision(revision);
    // The poll is held for seconds; the stop does not wait for it.
    let status = agent.process.terminate(Duration::from_secs(1));
    assert!(status.success(), "{status}");
    assert_eq!(dscp(&home), (EF, EF));
}

#[test]
fn a_wrong_configuration_is_named_and_exits_with_2() {
    let home = Home::without_modem();
    for (change, expected) in [
        (json!({ "lan": [] }), "lan: names no device"),
        (
            json!({ "colour": "red" }),
            "colour: is not a key of this file",
        ),
        (
            json!({ "backend": { "url": "http://b", "token": "x" } }),
            "backend.url: \"http://b\" is not an https URL",
        ),
    ] {
        let mut config = agent::config("http://198.51.100.19:8080");
        for (key, value) in change.as_object().unwrap() {
            config[key] = value.clone();
        }
        let mut agent = Agent::start(&home.router, &config);
        let status = wait::expect("the end", LIMIT, || agent.process.ended());
        assert_eq!(status.code(), Some(2));
        let log = agent.process.log();
        assert!(
            log.contains("config.json: ") && log.contains(expected),
            "{log}"
        );
    }
    let usage = Command::new(agent::binary()).arg("fly").output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&usage.stderr).contains("\"fly\" is not a command"));
}

#[test]
fn without_the_right_it_says_so_in_one_sentence() {
    /// `nobody` on every Linux.
    const NOBODY: u32 = 65534;
    let folder = lab::folder::Folder::new();
    let config = folder.write(
        "config.json",
        agent::config("http://127.0.0.1:1").to_string(),
    );
    let binary = folder.path().join("qod-agent");
    std::fs::copy(agent::binary(), &binary).unwrap();
    for path in [folder.path(), &binary, &config] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, mode).unwrap();
    }
    let mut command = Command::new(binary);
    command
        .arg("run")
        .arg("--config")
        .arg(config)
        .uid(NOBODY)
        .gid(NOBODY);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        text,
        "qod-agent: changing nf_tables is not permitted: CAP_NET_ADMIN (or root) is needed\n"
    );
}

#[test]
fn a_device_that_is_not_there_yet_is_waited_for() {
    let home = Home::without_modem();
    let script = Script::start(&home.internet, script_address());
    let mut config = agent::config(&script.url());
    config["lan"] = json!(["br-lan", "lan9"]);
    let _agent = Agent::start(&home.router, &config);
    let revision = script.serve_sessions(&[session()]);
    let status = script.wait_revision(revision);
    assert_eq!(status["sessions"][0]["state"], "ACTIVE");
    assert!(has_warning(&status, "NO_LAN"), "{status}");
    home.router
        .ip("link add lan9 type veth peer name lan9-peer\n");
    script.wait_status("lan9 hooked", LIMIT, |status| {
        !has_warning(status, "NO_LAN")
    });
    assert!(
        home.router
            .output("nft", &["list", "table", "netdev", "qod"])
            .contains("chain up_lan9")
    );
}

#[test]
fn a_restart_without_backend_leaves_what_is_there() {
    let home = Home::without_modem();
    let script = Script::start(&home.internet, script_address());
    let mut agent = Agent::start(&home.router, &agent::config(&script.url()));
    let mut instructions = json!({ "queues": "off", "sessions": [session()] });
    let revision = script.serve(&instructions);
    script.wait_revision(revision);
    let queue = || home.router.output("tc", &["qdisc", "show", "dev", "wan"]);
    assert!(!queue().contains("71d:"));
    drop(script);
    agent.restart(&home.router);
    wait::expect("a warning", LIMIT, || {
        agent
            .status(&home.router)
            .filter(|status| has_warning(status, "BACKEND_UNREACHABLE"))
    });
    assert!(
        !queue().contains("71d:"),
        "the operator had switched queues off: {}",
        queue()
    );
    assert_eq!(dscp(&home), (EF, EF));

    let script = Script::start(&home.internet, script_address());
    instructions["queues"] = json!("auto");
    let revision = script.serve(&instructions);
    script.wait_status("the queue", Duration::from_secs(40), |s| {
        s["revision"] == revision
    });
    assert!(queue().contains("htb 71d:"));
}

#[test]
fn who_asks_for_the_status_takes_no_report_away() {
    let home = Home::without_modem();
    let script = Script::start(&home.internet, script_address());
    let mut config = agent::config(&script.url());
    config["reportIntervalSeconds"] = json!(600);
    let agent = Agent::start(&home.router, &config);
    let mut short = session();
    short["expiresIn"] = json!(1.5);
    let revision = script.serve_sessions(&[short]);
    script.wait_revision(revision);
    wait::expect("the end in the status", LIMIT, || {
        let status = agent.status(&home.router)?;
        (status["sessions"][0]["state"] == "EXPIRED").then_some(())
    });
    script.wait_status("the end in a report", Duration::from_secs(2), |status| {
        status["sessions"][0]["state"] == "EXPIRED"
    });
}

#[test]
fn an_end_that_moves_within_the_tolerance_is_the_kernels() {
    let home = Home::without_modem();
    let script = Script::start(&home.internet, script_address());
    let agent = Agent::start(&home.router, &agent::config(&script.url()));
    let mut moving = session();
    moving["expiresIn"] = json!(2.0);
    let revision = script.serve_sessions(&[moving.clone()]);
    script.wait_revision(revision);
    moving["expiresIn"] = json!(3.5);
    let revision = script.serve_sessions(&[moving]);
    script.wait_revision(revision);
    let mut states = Vec::new();
    wait::expect("the end", LIMIT, || {
        let status = agent.status(&home.router)?;
        let state = status["sessions"][0]["state"].as_str()?.to_owned();
        if states.last() != Some(&state) {
            states.push(state);
        }
        (dscp(&home) == (0, 0)).then_some(())
    });
    // It is neither called refused nor brought back.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(dscp(&home), (0, 0));
    let status = agent.status(&home.router).unwrap();
    assert_eq!(status["sessions"][0]["state"], "EXPIRED", "{status}");
    assert!(!states.contains(&"REJECTED".to_owned()), "{states:?}");
}

#[test]
fn the_token_is_in_no_log_however_much_is_logged() {
    let home = Home::without_modem();
    let script = Script::start(&home.internet, script_address());
    let folder = lab::folder::Folder::new();
    let config = folder.write("config.json", agent::config(&script.url()).to_string());
    let mut command = home.router.command(agent::binary());
    command
        .args(["run", "--config"])
        .arg(config)
        .env("RUST_LOG", "trace");
    let log = folder.path().join("trace.log");
    let process = lab::process::Process::start(&mut command, &log);
    let revision = script.serve_sessions(&[session()]);
    script.wait_revision(revision);
    let log = process.log();
    assert!(log.contains("TRACE"), "nothing is traced");
    // A dump of a request breaks it into pieces of sixteen bytes.
    assert!(!log.contains("agent-token") && !log.contains("t-token") && !log.contains("Bearer"));
}

#[test]
fn a_poll_writes_no_line_unless_it_is_asked_to() {
    let home = Home::without_modem();
    let script = Script::start(&home.internet, script_address());
    let folder = lab::folder::Folder::new();
    let config = folder.write("config.json", agent::config(&script.url()).to_string());
    let mut command = home.router.command(agent::binary());
    command.args(["run", "--config"]).arg(config);
    command.env_remove("RUST_LOG");
    let process = lab::process::Process::start(&mut command, &folder.path().join("log"));
    let revision = script.serve_sessions(&[session()]);
    script.wait_revision(revision);
    let log = process.log();
    assert!(log.contains("INFO"), "{log}");
    assert!(!log.contains("DEBUG") && !log.contains("ureq"), "{log}");
}

#[test]
fn a_wan_device_that_is_not_there_is_a_warning_and_no_end_of_marks() {
    let home = Home::without_modem();
    let script = Script::start(&home.internet, script_address());
    let mut config = agent::config(&script.url());
    config["wan"] = json!("wan9");
    let _agent = Agent::start(&home.router, &config);
    let revision = script.serve_sessions(&[session()]);
    let status = script.wait_revision(revision);
    assert!(has_warning(&status, "NO_WAN"), "{status}");
    assert_eq!(dscp(&home), (EF, EF));
}
