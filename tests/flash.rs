//! A flash that is full or read-only: the agent runs, and no token is asked for that cannot be kept.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod lab;

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Duration;

use lab::folder::Folder;
use lab::home::{Device, server_v4};
use lab::process::Process;
use lab::site::script_address;
use lab::{Backend, Exchange, Home, Observer, Script, agent};
use serde_json::{Value, json};

const AGENT: &str = "home-0001";
const EF: u8 = 46;
const LIMIT: Duration = Duration::from_secs(10);

/// Fills what is left of the flash, and then frees so many bytes.
const FILL: &str = "fill() { dd if=/dev/zero of=fill bs=4096 2> fill.said; [ -s fill ] || exit 90; \
                    truncate -s -\"$1\" fill; }\n";
const FULL: &str = "fill 0; touch empty || exit 91; ! echo x 2> /dev/null > one || exit 92\n";

/// A shell in the router, in a folder that is a filesystem of its own, of 64 KB, with these files. It sees the
/// flash alone, which ends with it.
fn on_flash(home: &Home, files: &Folder, script: &str) -> Command {
    let flash = files.path().join("flash");
    std::fs::create_dir_all(&flash).unwrap();
    let prepare = format!(
        "{FILL}mount -t tmpfs -o size=64k,mode=700 flash {flash} && cd {flash} || exit 93\n\
         cp ../config.json ../bootstrap . && chmod 600 config.json bootstrap || exit 94\n",
        flash = flash.display()
    );
    let mut command = home.router.command("sh");
    command.arg("-c").arg(format!("{prepare}{script}"));
    command.env("AGENT", agent::binary());
    command
}

fn files(config: &Value) -> Folder {
    let folder = Folder::new();
    folder.write("config.json", config.to_string());
    folder.write("bootstrap", "b".repeat(40));
    folder
}

fn enrolling(url: &str) -> Value {
    let mut config = agent::config(url);
    config["agentId"] = AGENT.into();
    config["backend"] = json!({ "url": url, "allowPlainHttp": true, "bootstrapTokenFile": "bootstrap",
        "tokenFile": "token" });
    config
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn nothing_is_asked_for_that_cannot_be_kept() {
    let home = Home::without_modem();
    let script = Script::start(&home.internet, script_address());
    let files = files(&enrolling(&script.url()));
    for (flash, expected) in [
        (
            FULL,
            "qod-agent: token: making room for a token: No space left on device",
        ),
        (
            "mount -o remount,ro .\n",
            "qod-agent: token: making a new file beside it: Read-only file system",
        ),
    ] {
        let after = "\"$AGENT\" enrol --config config.json; code=$?; ls -A; exit $code";
        let mut shell = on_flash(&home, &files, &format!("{flash}{after}"));
        let output = shell.output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expected), "{said}");
        assert!(!said.contains("token.new"), "{said}");
    }
    assert_eq!(script.calls().len(), 0, "it asked");
}

#[test]
fn the_last_room_is_enough() {
    let home = Home::without_modem();
    let listen = SocketAddr::new(server_v4(20).into(), 8443);
    let backend = Backend::start(&home.internet, listen, &json!({}));
    let body = json!({ "agentIds": [AGENT], "consumers": "all", "prefixes": [] });
    assert!(backend.admin("PUT", "/homes/home-1", &body).status < 300);
    let path = format!("/agents/{AGENT}/bootstrap");
    let bootstrap = backend.admin("POST", &path, &json!({})).expect(200);

    let mut config = enrolling(&backend.url);
    config["backend"]["caFile"] = json!(backend.certificates.ca);
    let files = files(&config);
    files.write("bootstrap", bootstrap["bootstrapToken"].as_str().unwrap());
    // Room for one token of the greatest length. Once it is there, nothing is left for the next one.
    let enrol = "fill 8192; \"$AGENT\" enrol --config config.json || exit 95\n\
                 cp token ../first; fill 0\n\
                 \"$AGENT\" enrol --rotate --config config.json; code=$?\n\
                 cmp token ../first || exit 96; wc -c < token; exit $code";
    let output = on_flash(&home, &files, enrol).output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("enrolled: its token is in token"), "{said}");
    assert!(said.contains("making room for a token"), "{said}");
    // The file ends where the token ends.
    let token = std::fs::read_to_string(files.path().join("first")).unwrap();
    assert!(token.trim().len() >= 16 && token.ends_with('\n'), "{token}");
    assert!(token.bytes().all(|b| b.is_ascii_graphic() || b == b'\n'));
}

#[test]
fn an_agent_runs_where_nothing_can_be_written() {
    let home = Home::without_modem();
    let script = Script::start(&home.internet, script_address());
    let mut config = agent::config(&script.url());
    // What is there for queues is another matter.
    config["queues"] = json!("off");
    let files = files(&config);
    // Every filesystem that it sees, its own binary's and /etc among them.
    let run = format!(
        "{FULL}cut -d ' ' -f 5 /proc/self/mountinfo | while read -r at; do\n\
           mount -o remount,bind,ro \"$at\" 2> /dev/null; done\n\
         ! touch /etc/qod-lab 2> /dev/null || exit 97\n\
         ! touch another 2> /dev/null || exit 98\n\
         exec \"$AGENT\" run --config config.json"
    );
    let log = files.path().join("agent.log");
    let mut agent = Process::start(&mut on_flash(&home, &files, &run), &log);
    let session = json!({ "sessionId": "a", "dscp": EF, "expiresIn": 600,
        "device": { "ipv4Address": "192.168.1.23" }, "applicationServer": { "ipv4Address": "198.51.100.5" } });
    let revision = script.serve_sessions(&[session]);
    let status = script.wait_revision(revision);
    assert_eq!(status["sessions"][0]["state"], "ACTIVE", "{}", agent.log());
    assert_eq!(status["warnings"], json!([]));
    let phone = Observer::start(&home, Device::Phone);
    let flow = Exchange::new(5010, server_v4(5), 33001);
    assert_eq!(phone.udp(&flow).dscp(), (EF, EF));
    assert!(agent.terminate(LIMIT).success());
}
