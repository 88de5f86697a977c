//! How long it takes until the kernel holds a list of sessions, in the agent's own code.

use std::collections::BTreeMap;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use qod_agent::nft::{MarkBits, Nft};
use qod_agent::reconcile::{Wanted, reconcile};
use qod_agent::ruleset::Hook;
use qod_agent::session::{self, Entry, Item};
use qod_wire::SessionState;

use super::lab::prompt::prompt_here;
use super::row::{Row, note};
use super::sample::Sample;
use super::sessions;

const RUNS: usize = 12;
const NOW: Duration = Duration::from_secs(1);

pub fn measure() {
    for (count, limit) in [(256, 20.0), (1000, 60.0)] {
        let runs: Vec<Times> = (0..RUNS)
            .map(|_| in_namespace(move || run(count)))
            .collect();
        let column = |pick: fn(&Times) -> Duration| {
            Sample::millis(&runs.iter().map(pick).collect::<Vec<_>>())
        };
        let all = column(|t| t.all);
        Row::new(format!("commit of {count} sessions"), both(&all))
            .promised(format!("median at most {limit} ms"), all.median() <= limit)
            .print();
        for (what, times) in [
            (format!("one added to {count}"), column(|t| t.add)),
            (
                format!("one removed of {}", count + 1),
                column(|t| t.remove),
            ),
            (format!("all {count} removed"), column(|t| t.clear)),
            (format!("{count} read back only"), column(|t| t.observe)),
        ] {
            Row::new(what, both(&times)).print();
        }
    }
    note(format!(
        "commit: {RUNS} runs, each in a new network namespace with the table made before; sessions of two \
         families and two directions in thirds over the maps, each of a device of its own; from reading \
         what the kernel holds to reading back what it holds then"
    ));
}

fn both(times: &Sample) -> String {
    format!("{:.1} ms, worst {:.1} ms", times.median(), times.max())
}

struct Times {
    all: Duration,
    observe: Duration,
    add: Duration,
    remove: Duration,
    clear: Duration,
}

/// Runs on a thread in a namespace with two ports, which ends with the thread.
fn in_namespace<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(|| {
        prompt_here();
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        for device in ["lan1", "wan"] {
            let peer = format!("{device}-peer");
            let pair = ["link", "add", device, "type", "veth", "peer", "name", &peer];
            assert!(Command::new("ip").args(pair).status().unwrap().success());
        }
        run()
    });
    thread.join().unwrap()
}

fn run(count: usize) -> Times {
    let mut nft = Nft::new(MarkBits::from_mask(0x7f00_0000).unwrap());
    let entries = entries(count + 1);
    let (all, _) = entries.split_at(count);
    bring(&mut nft, &[]);
    let all_time = bring(&mut nft, all);
    Times {
        all: all_time,
        // Nothing to change: the kernel is read, compared and left alone.
        observe: bring(&mut nft, all),
        add: bring(&mut nft, &entries),
        remove: bring(&mut nft, all),
        clear: bring(&mut nft, &[]),
    }
}

fn entries(count: usize) -> Vec<Entry> {
    let raw: Vec<_> = sessions::spread(count)
        .iter()
        .map(|session| serde_json::value::to_raw_value(session).unwrap())
        .collect();
    let (items, _) = session::read(&raw, NOW);
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

/// Makes the kernel hold exactly these, and asserts that all of them are in force.
fn bring(nft: &mut Nft, entries: &[Entry]) -> Duration {
    let index = |device| if_nametoindex(device).unwrap();
    let hooks: BTreeMap<_, _> = [
        (Hook::Up("lan1".into()), index("lan1")),
        (Hook::Down("lan1".into()), index("lan1")),
        (Hook::Out("wan".into()), index("wan")),
    ]
    .into();
    let wanted = Wanted {
        entries,
        hooks: &hooks,
        remembered: &BTreeMap::new(),
        max_sessions: entries.len(),
    };
    let start = Instant::now();
    let (outcome, held) = reconcile(nft, &wanted, || NOW).unwrap();
    let time = start.elapsed();
    for session in outcome.sessions(&held, wanted.entries, wanted.max_sessions, NOW) {
        assert_eq!(session.state, SessionState::Active, "{session:?}");
    }
    time
}
