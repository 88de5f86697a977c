//! What the agent takes: flash, memory, processor time.

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::lab::certificate::Certificates;
use super::lab::folder::Folder;
use super::lab::home::server_v4;
use super::lab::{Agent, Home, Script, agent, proc};
use super::row::{Row, note};
use super::sessions;
use super::site;

pub fn measure() {
    let bytes = fs::metadata(agent::binary()).unwrap().len();
    let mega = |bytes: u64| bytes as f64 / 1e6;
    Row::new(
        "release binary, dynamic, stripped",
        format!("{:.2} MB", mega(bytes)),
    )
    .promised("aim: at most 2.9 MB", bytes <= 2_900_000)
    .print();

    let home = Home::without_modem();
    sessions::introduce(&home.router, 1024);
    let folder = Folder::new();
    let at = SocketAddr::new(server_v4(19).into(), 8443);
    let certificates = Certificates::new(&folder, &[&at.ip().to_string()]);
    let script = Script::start_tls(&home.internet, at, &certificates);
    let mut config = site::quiet(&script.url());
    config["backend"]["caFile"] = json!(certificates.ca);
    let agent = Agent::start(&home.router, &config);
    let pid = agent.process.pid();
    let apply = |count: usize| {
        let list = sessions::spread(count);
        let revision = script.serve(&json!({ "queues": "off", "sessions": list }));
        let before = proc::processor_time(pid);
        script.wait_status("all sessions", Duration::from_secs(20), |status| {
            status["revision"] == revision
        });
        // What it does behind the report counts, too.
        thread::sleep(Duration::from_millis(300));
        proc::processor_time(pid) - before
    };
    apply(0);
    let idle = Memory::of(pid);
    idle.promise("resident memory, idle").print();
    let all = apply(1000);
    let full = Memory::of(pid);
    full.promise("resident memory, 1000 sessions").print();
    let one = apply(1001);
    let none = apply(0);
    Memory::of(pid)
        .row("resident memory, idle after 1000 sessions")
        .print();
    for (what, time) in [
        ("applying 1000 sessions", all),
        ("one more session", one),
        ("removing all sessions", none),
    ] {
        let millis = time.as_secs_f64() * 1000.0;
        Row::new(
            format!("processor time of the agent, {what}"),
            format!("{millis:.0} ms"),
        )
        .print();
    }
    note(
        "resident memory: VmRSS of the agent, connected over TLS (long poll and reports); processor time: \
         from the instructions' arrival to the report, both included, kernel's part too",
    );
}

struct Memory {
    resident: u64,
    anonymous: u64,
}

impl Memory {
    fn of(pid: u32) -> Self {
        Self {
            resident: proc::resident(pid),
            anonymous: proc::anonymous(pid),
        }
    }

    fn promise(&self, what: &str) -> Row {
        self.row(what)
            .promised("at most 5 MB", self.resident <= 5_000_000)
    }

    fn row(&self, what: &str) -> Row {
        let mega = |bytes: u64| bytes as f64 / 1e6;
        Row::new(what, format!("{:.1} MB", mega(self.resident)))
            .baseline(format!("{:.1} MB its own (RssAnon)", mega(self.anonymous)))
    }
}
