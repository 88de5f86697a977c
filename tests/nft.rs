//! The ruleset in a real kernel, in a network namespace of each test's own.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where something is not as it should be"
)]

mod namespace;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::process::Command;
use std::time::Duration;

use namespace::{alone, ip, run};
use nix::net::if_::if_nametoindex;
use qod_agent::nft::{MarkBits, Nft};
use qod_agent::plan::{self, Goal, Verdict};
use qod_agent::reconcile::{Wanted, reconcile};
use qod_agent::ruleset::{Changes, Hook, Kernel, Layout, Ruleset};
use qod_agent::session::{self, Entry, Item, Session};
use qod_wire::SessionState;
use serde_json::{Value, json};

/// The devices that are hooked into.
fn devices() {
    for device in ["lan1", "wan"] {
        ip(&format!(
            "link add {device} type veth peer name {device}-peer"
        ));
    }
}

fn entries(sessions: &[Value]) -> Vec<Entry> {
    let raw: Vec<_> = sessions
        .iter()
        .map(|s| serde_json::value::to_raw_value(s).unwrap())
        .collect();
    let (items, _) = session::read(&raw, Duration::from_secs(1));
    // The devices are where the sessions say.
    let entry = |item: Item| {
        let session = item.order.map(|order| {
            let addresses: Vec<_> = order.device.addresses().collect();
            order.session(&addresses)
        });
        Entry {
            id: item.id,
            standing: session.into(),
        }
    };
    items.into_iter().map(entry).collect()
}

fn hooks() -> BTreeMap<Hook, u32> {
    let index = |device: &str| if_nametoindex(device).unwrap();
    [
        (Hook::Up("lan1".into()), index("lan1")),
        (Hook::Down("lan1".into()), index("lan1")),
        (Hook::Out("wan".into()), index("wan")),
    ]
    .into()
}

fn changes(sessions: &[&Session], held: &Ruleset) -> Changes {
    let goal = Goal {
        sessions,
        probing: &HashSet::new(),
        hooks: &hooks(),
        remembered: &BTreeMap::new(),
        now: Duration::from_secs(1),
    };
    plan::changes(&goal, held)
}

fn admitted(entries: &[Entry]) -> Vec<&Session> {
    plan::admit(entries, Duration::from_secs(1), 10_000, &HashMap::new())
        .into_iter()
        .filter_map(|verdict| match verdict {
            Verdict::Admitted(session) => Some(session),
            _ => None,
        })
        .collect()
}

fn open() -> Nft {
    Nft::new(MarkBits::from_mask(0x7f00_0000).unwrap())
}

/// Makes the kernel hold these sessions and reads it back.
fn apply(nft: &mut Nft, sessions: &[&Session]) -> Ruleset {
    let held = nft.observe().unwrap();
    let first = changes(sessions, &held);
    nft.commit(&first).unwrap();
    let held = nft.observe().unwrap();
    let again = changes(sessions, &held);
    assert!(
        again.is_empty(),
        "what was written is not what is read: {again:?}"
    );
    held
}

fn full_session(id: &str, host: usize) -> Value {
    let (high, low) = (host / 250, 1 + host % 250);
    json!({ "sessionId": id, "dscp": 46, "expiresIn": 3600,
        "device": { "ipv4Address": format!("192.168.{high}.{low}"), "ipv6Address": format!("2001:db8:1::{host:x}") },
        "applicationServer": { "ipv4Address": "198.51.100.0/28", "ipv6Address": "2001:db8:2::/64" },
        "devicePorts": { "ranges": [{ "from": 5000, "to": 5100 }] } })
}

#[test]
fn what_is_written_is_read_back() {
    alone(|| async {
        devices();
        let mut nft = open();
        assert_eq!(nft.observe().unwrap().layout, Layout::Absent);
        let list = [
            full_session("with-ports", 23),
            json!({ "sessionId": "host", "dscp": 34, "device": { "ipv4Address": "192.168.1.24" },
                    "applicationServer": { "ipv4Address": "0.0.0.0/0" } }),
            json!({ "sessionId": "whole", "dscp": 8, "device": { "ipv6Address": "2001:db8:1::25" }, "expiresIn": 60 }),
        ];
        let entries = entries(&list);
        let held = apply(&mut nft, &admitted(&entries));
        assert_eq!(held.layout, Layout::Current);
        assert_eq!(held.elements.len(), 4 + 2 + 2);
        assert_eq!(held.devices.len(), 4);
        assert_eq!(held.dscps.len(), 3);
        let indexed = hooks().into_iter().map(|(hook, index)| (hook, Some(index)));
        assert_eq!(held.hooks, indexed.collect());

        let listed = Command::new("nft")
            .args(["list", "ruleset"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&listed.stdout);
        assert!(
            listed.status.success() && text.contains("comment \"with-ports\""),
            "{text}"
        );

        // Nothing to mark: nothing is left.
        let held = apply(&mut nft, &[]);
        assert_eq!(held, Ruleset::default());
        nft.commit(&Changes::clear()).unwrap();
    });
}

#[test]
fn another_mask_is_another_layout() {
    alone(|| async {
        devices();
        let entries = entries(&[full_session("a", 23)]);
        apply(&mut open(), &admitted(&entries));
        let mut nft = Nft::new(MarkBits::from_mask(0x7f).unwrap());
        assert!(matches!(nft.observe().unwrap().layout, Layout::Other(_)));
        let held = apply(&mut nft, &admitted(&entries));
        assert_eq!(held.elements.len(), 4);
        let table = run("nft list table netdev qod");
        assert!(
            table.contains("meta mark & 0x0000007f vmap @chains"),
            "{table}"
        );
    });
}

#[test]
fn a_hook_that_is_refused_costs_itself_alone() {
    alone(|| async {
        devices();
        // The kernel's limit of hooks in one place (MAX_HOOK_COUNT of net/netfilter/core.c).
        let full: String = (0..1024)
            .map(|n| {
                let hook = "type filter hook egress device \"wan\" priority 0;";
                format!("add chain netdev full c{n} {{ {hook} }}\n")
            })
            .collect();
        let file = std::env::temp_dir().join(format!("qod-full-{}.nft", std::process::id()));
        std::fs::write(&file, format!("add table netdev full\n{full}")).unwrap();
        run(&format!("nft -f {}", file.display()));
        std::fs::remove_file(file).unwrap();

        let entries = entries(&[full_session("a", 23)]);
        let wanted = Wanted {
            entries: &entries,
            hooks: &hooks(),
            remembered: &BTreeMap::new(),
            max_sessions: 10,
        };
        let now = Duration::from_secs(1);
        let (outcome, held) = reconcile(&mut open(), &wanted, || now).unwrap();
        let sessions = outcome.sessions(&held, &entries, 10, now);
        assert_eq!(sessions[0].state, SessionState::Active, "{sessions:?}");
        assert_eq!(
            outcome.trouble(),
            Some("hooking into the egress of wan: Argument list too long")
        );
    });
}

#[test]
fn what_the_kernel_does_with_an_end_is_found_by_trying() {
    alone(|| async {
        run("nft add table netdev lab");
        run("nft add set netdev lab ends { type mark; flags timeout; }");
        // An element that is added again: kernels before 6.12 leave its end where it was.
        for timeout in ["100s", "1000s"] {
            run(&format!(
                "nft add element netdev lab ends {{ 1 timeout {timeout} }}"
            ));
        }
        let set = run("nft list set netdev lab ends");
        let left = set.split("expires ").nth(1).unwrap();
        // 16m39s or 1m39s.
        let moves = left.starts_with("16m");
        assert!(moves || left.starts_with("1m"), "{set}");
        let mut nft = open();
        assert_eq!(nft.moves_end().unwrap(), moves);
        // Nothing is left of the attempt.
        assert_eq!(run("nft list tables").trim(), "table netdev lab");
    });
}
