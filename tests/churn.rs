//! Sessions that come, change and go all the time while everything around the agent fails in turn. At the
//! end the kernel holds what is wanted, and the agent has not grown.
//!
//! `QOD_CHURN_SECONDS` makes it longer than a test run allows; `QOD_CHURN_SEED` repeats one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod lab;

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::home::{LAPTOP_V4, LAPTOP_V6, PHONE_MAC, PHONE_V4, PHONE_V6};
use lab::script::Reply;
use lab::site::script_address;
use lab::{Agent, Home, Script, agent, proc, wait};
use serde_json::{Value, json};

const SECONDS: u64 = 24;
/// Ten changes a second.
const TICK: Duration = Duration::from_millis(100);
/// A fault follows the other after so many ticks.
const TICKS_OF_A_FAULT: u64 = 25;
/// Sessions at a time.
const POPULATION: usize = 60;
/// For everything to settle once the faults are over.
const SETTLED: Duration = Duration::from_secs(75);

/// Numbers that a seed repeats (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

struct Churn {
    home: Home,
    script: Script,
    agent: Agent,
    random: Random,
    sessions: BTreeMap<u64, Value>,
    next: u64,
}

impl Churn {
    fn start(seed: u64) -> Self {
        let home = Home::without_modem();
        let script = Script::start(&home.internet, script_address());
        let agent = Agent::start(&home.router, &agent::config(&script.url()));
        Self {
            home,
            script,
            agent,
            random: Random(seed | 1),
            sessions: BTreeMap::new(),
            next: 0,
        }
    }

    /// One more session, one that changes, and one that goes where there are enough.
    fn change(&mut self) {
        let number = self.next;
        self.next += 1;
        let session = self.session(number);
        self.sessions.insert(number, session);
        if self.sessions.len() > POPULATION {
            let nth = self.random.below(POPULATION as u64) as usize;
            let gone = *self.sessions.keys().nth(nth).unwrap();
            self.sessions.remove(&gone);
        }
        let nth = self.random.below(self.sessions.len() as u64) as usize;
        let changed = *self.sessions.keys().nth(nth).unwrap();
        let session = self.session(changed);
        self.sessions.insert(changed, session);
        self.serve();
    }

    /// No two of them overlap: each has a port of its own.
    fn session(&mut self, number: u64) -> Value {
        let device = match number % 2 {
            0 => json!({ "ipv4Address": PHONE_V4, "ipv6Address": PHONE_V6 }),
            _ => json!({ "ipv4Address": LAPTOP_V4, "ipv6Address": LAPTOP_V6 }),
        };
        let dscp = [46, 34, 8][self.random.below(3) as usize];
        let ends = 3600 + self.random.below(10) * 600;
        let mut session = json!({ "sessionId": format!("s{number}"), "device": device,
            "dscp": dscp, "expiresIn": ends,
            "applicationServer": { "ipv4Address": "198.51.100.0/24", "ipv6Address": "2001:db8:2::/64" },
            "applicationServerPorts": { "ports": [1 + number % 60_000] } });
        if self.random.below(4) == 0 {
            session["maxUpstreamKbps"] = json!(1000 + self.random.below(3) * 1000);
        }
        session
    }

    fn serve(&self) -> u64 {
        let sessions: Vec<_> = self.sessions.values().cloned().collect();
        self.script.serve_sessions(&sessions)
    }

    fn fault(&mut self, kills: bool) -> &'static str {
        let router = &self.home.router;
        let last = if kills { 15 } else { 13 };
        match self.random.below(last) {
            0 => {
                router.nft("delete table netdev qod; add table netdev qod");
                "the table deleted"
            }
            1 => {
                router.nft("add table netdev qod; flush table netdev qod");
                "the table's rules flushed"
            }
            2 => {
                let nat = "table ip nat { chain postrouting { type nat hook postrouting priority srcnat; \
                           oifname \"wan\" masquerade; }; }";
                router.nft(&format!("flush ruleset; {nat}"));
                "the ruleset flushed"
            }
            3 => {
                let _ = router
                    .command("tc")
                    .args(["qdisc", "del", "dev", "wan", "root"])
                    .output();
                "the queues deleted"
            }
            4 => {
                let foreign =
                    "qdisc replace dev wan root handle 5: pfifo\nqdisc del dev wan root\n";
                router.tc(foreign);
                "a foreign qdisc for a moment"
            }
            5 => {
                router.ip("link set lan2 nomaster\nlink set lan2 master br-lan\n");
                "a port out of the bridge and in again"
            }
            6 => {
                router.ip("link set lan1 down\nlink set lan1 up\n");
                "a port down and up"
            }
            7 => {
                router.ip(
                    "link add lan9 type veth peer name lan9-peer\nlink set lan9 master br-lan\n\
                           link del lan9\n",
                );
                "a port for a moment"
            }
            8 => {
                router.ip(
                    "link set lan2 down\nlink set lan2 name lan7\nlink set lan7 name lan2\n\
                           link set lan2 up\n",
                );
                "a port renamed for a moment"
            }
            9 => {
                let change = |mac: &str| {
                    format!("neigh replace {PHONE_V4} lladdr {mac} dev br-lan nud reachable\n")
                };
                router.ip(&[change("02:00:00:00:00:99"), change(PHONE_MAC)].concat());
                "an address at another device for a moment"
            }
            10 => {
                let body = [&b"{\"revision\":1,\"sessions\":["[..], &vec![b'['; 100_000]].concat();
                self.answer(200, body);
                "instructions that cannot be read"
            }
            11 => {
                self.answer(503, Vec::new());
                "an overloaded backend"
            }
            12 => {
                self.answer(401, Vec::new());
                "a backend that refuses the agent"
            }
            13 => {
                self.agent.restart(&self.home.router);
                "the agent killed"
            }
            _ => {
                self.agent.process.terminate(Duration::from_secs(2));
                self.agent.restart(&self.home.router);
                "the agent stopped"
            }
        }
    }

    /// Until the next change.
    fn answer(&self, status: u16, body: Vec<u8>) {
        self.script.serve_raw(Reply {
            status,
            tag: format!("fault-{}", self.next),
            headers: Vec::new(),
            body,
        });
        sleep(TICK / 2);
    }

    fn churn(&mut self, time: Duration, kills: bool) {
        let end = Instant::now() + time;
        let mut ticks = 0;
        while Instant::now() < end {
            let tick = Instant::now();
            self.change();
            ticks += 1;
            if ticks % TICKS_OF_A_FAULT == 0 {
                let what = self.fault(kills);
                println!("{:>6} sessions so far; {what}", self.next);
                self.script.forget_calls();
            }
            sleep((tick + TICK).saturating_duration_since(Instant::now()));
        }
    }

    /// All is as it should be: every session in force, and the kernel holds these and nothing else.
    fn settle(&mut self) {
        // Port and rules may have been away last.
        let revision = self.serve();
        let what = format!("all of revision {revision} in force");
        self.script.wait_status(&what, SETTLED, |status| {
            let sessions = status["sessions"].as_array().unwrap();
            status["revision"] == revision
                && sessions.len() == self.sessions.len()
                && sessions.iter().all(|session| session["state"] == "ACTIVE")
        });
        wait::expect("the kernel holds what is wanted", SETTLED, || {
            (self.held() == self.wanted()).then_some(())
        });
        let tables = self
            .home
            .router
            .output("nft", &["list", "tables", "netdev"]);
        assert_eq!(tables.trim(), "table netdev qod");
        wait::expect("the queues are back", SETTLED, || {
            let queues = self
                .home
                .router
                .output("tc", &["qdisc", "show", "dev", "wan"]);
            queues.contains("htb 71d:").then_some(())
        });
    }

    /// Map, session, and the chain to which the element leads.
    fn wanted(&self) -> BTreeSet<(String, String, String)> {
        let mut wanted = BTreeSet::new();
        for session in self.sessions.values() {
            let id = session["sessionId"].as_str().unwrap();
            for family in [4, 6] {
                for way in ["up", "down"] {
                    let dscp = session["dscp"].as_u64().unwrap();
                    let chain = match &session["maxUpstreamKbps"] {
                        Value::Number(kbps) if way == "up" => {
                            format!("limit_up_{dscp}_{kbps}_{id}")
                        }
                        _ => format!("dscp{dscp}"),
                    };
                    wanted.insert((format!("flows{family}_{way}"), id.to_owned(), chain));
                }
            }
        }
        wanted
    }

    fn held(&self) -> BTreeSet<(String, String, String)> {
        let mut held = BTreeSet::new();
        let table = self
            .home
            .router
            .output("nft", &["list", "table", "netdev", "qod"]);
        let mut map = String::new();
        for line in table.lines() {
            if let Some(name) = line.trim().strip_prefix("map ") {
                map = name.trim_end_matches(" {").to_owned();
            }
            if let Some((_, rest)) = line.split_once("comment \"")
                && let Some((id, chain)) = rest.split_once("\" : goto ")
            {
                let chain = chain.trim_end_matches([' ', ',', '}']);
                held.insert((map.clone(), id.to_owned(), chain.to_owned()));
            }
        }
        held
    }
}

#[test]
fn churn_among_faults_ends_as_wanted_and_leaks_nothing() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seconds = number("QOD_CHURN_SECONDS").unwrap_or(SECONDS);
    let seed =
        number("QOD_CHURN_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 20 | 0x51d);
    println!("{seconds} s from seed {seed}");
    let half = Duration::from_secs(seconds) / 2;
    let mut churn = Churn::start(seed);
    churn.churn(half, true);
    churn.settle();
    // From now on it is one process. It has had its largest tables, and its memory is warm.
    let pid = churn.agent.process.pid();
    let (resident, descriptors) = (proc::resident(pid), proc::descriptors(pid));
    churn.churn(half, false);
    churn.settle();
    assert_eq!(churn.agent.process.pid(), pid);
    let after = proc::resident(pid);
    println!("resident: {resident} bytes, then {after}; {descriptors} descriptors");
    assert!(
        after <= resident + resident / 5 + (1 << 20),
        "it grew from {resident} to {after} bytes"
    );
    // A connection may be under way.
    wait::expect("no descriptor is left over", SETTLED, || {
        (proc::descriptors(pid) <= descriptors + 1).then_some(())
    });
}
