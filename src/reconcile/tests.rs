//! Rounds against a kernel in memory that refuses what it is told to.

use super::*;
use crate::dscp::Dscp;
use crate::flow::{Family, Peer, PortRange, Prefix, Way};
use crate::ruleset::{CommitError, Part};
use crate::session::Ceilings;
use qod_wire::{RejectCode, SessionState, SessionStatus};
use std::convert::Infallible;
use std::net::IpAddr;

const NOW: Duration = Duration::from_secs(1000);

/// A kernel in memory that refuses what it is told to.
#[derive(Default)]
struct Memory {
    ruleset: Ruleset,
    refuses: Vec<Part>,
    /// Names only the first culprit of a transaction.
    terse: bool,
    commits: usize,
}

impl Memory {
    fn parts(changes: &Changes) -> Vec<Part> {
        let adds = changes
            .add
            .iter()
            .map(|element| Part::Add(element.session.clone()));
        let hooks = changes.add_hooks.keys().cloned().map(Part::AddHook);
        hooks.chain(adds).collect()
    }
}

impl Kernel for Memory {
    type Error = Infallible;

    fn observe(&mut self) -> Result<Ruleset, Infallible> {
        Ok(self.ruleset.clone())
    }

    fn commit(&mut self, changes: &Changes) -> Result<(), CommitError> {
        self.commits += 1;
        let parts = Self::parts(changes)
            .into_iter()
            .filter(|part| self.refuses.contains(part));
        let refused: Vec<_> = parts.map(|part| (part, "no".to_owned())).collect();
        if !refused.is_empty() {
            let most = if self.terse { 1 } else { refused.len() };
            return Err(CommitError::Refused(
                refused.into_iter().take(most).collect(),
            ));
        }
        self.ruleset.change(changes);
        Ok(())
    }
}

fn entry(id: &str, port: u16) -> Entry {
    let peer = Peer::Ports {
        server: Prefix::any(Family::V4),
        device_ports: PortRange::ANY,
        server_ports: PortRange {
            from: port,
            to: port,
        },
    };
    let device = IpAddr::from([192, 168, 1, 23]);
    let matches = Way::ALL.map(|way| Match { way, device, peer }).to_vec();
    let ends = Some(NOW + Duration::from_secs(60));
    let session = Session {
        id: id.into(),
        dscp: Dscp::new(46).unwrap(),
        ends,
        ceilings: Ceilings::default(),
        matches,
    };
    Entry {
        id: id.into(),
        standing: Standing::Ready(session),
    }
}

fn hooks() -> BTreeMap<Hook, u32> {
    [(Hook::Up("lan1".into()), 7), (Hook::Down("lan1".into()), 7)].into()
}

fn run(kernel: &mut Memory, entries: &[Entry], hooks: &BTreeMap<Hook, u32>) -> Vec<SessionStatus> {
    let wanted = Wanted {
        entries,
        hooks,
        remembered: &BTreeMap::new(),
        max_sessions: 100,
    };
    let (outcome, held) = reconcile(kernel, &wanted, || NOW).unwrap();
    outcome.sessions(&held, wanted.entries, 100, NOW)
}

fn summary(sessions: &[SessionStatus]) -> Vec<(SessionState, Option<RejectCode>)> {
    sessions.iter().map(|s| (s.state, s.code)).collect()
}

const ACTIVE: (SessionState, Option<RejectCode>) = (SessionState::Active, None);
const REFUSED: (SessionState, Option<RejectCode>) =
    (SessionState::Rejected, Some(RejectCode::Kernel));

#[test]
fn what_is_read_back_is_active() {
    let mut kernel = Memory::default();
    let sessions = run(&mut kernel, &[entry("a", 1), entry("b", 2)], &hooks());
    assert_eq!(summary(&sessions), [ACTIVE, ACTIVE]);
    assert_eq!(sessions[0].expires_in, Some(60.0));
    assert!(sessions[0].upstream.is_some() && sessions[0].downstream.is_some());
    assert_eq!(kernel.commits, 1);
}

#[test]
fn a_refused_session_costs_only_itself() {
    let refuses = vec![Part::Add("b".into()), Part::Add("c".into())];
    let mut kernel = Memory {
        refuses,
        ..Memory::default()
    };
    let list = [entry("a", 1), entry("b", 2), entry("c", 3), entry("d", 4)];
    let sessions = run(&mut kernel, &list, &hooks());
    assert_eq!(summary(&sessions), [ACTIVE, REFUSED, REFUSED, ACTIVE]);
    assert_eq!(kernel.commits, 2);
    assert_eq!(
        sessions[1].message.as_deref(),
        Some("the kernel refused it: no")
    );
}

#[test]
fn after_eight_rounds_each_session_goes_alone() {
    let list: Vec<_> = (0..20).map(|n| entry(&format!("s{n}"), n + 1)).collect();
    let refuses = list
        .iter()
        .step_by(2)
        .map(|e| Part::Add(e.id.clone()))
        .collect();
    let mut kernel = Memory {
        refuses,
        terse: true,
        ..Memory::default()
    };
    let sessions = run(&mut kernel, &list, &hooks());
    for (index, status) in summary(&sessions).into_iter().enumerate() {
        assert_eq!(
            status,
            if index % 2 == 0 { REFUSED } else { ACTIVE },
            "{index}"
        );
    }
}

#[test]
fn the_last_resort_leaves_alone_what_is_in_force() {
    let good: Vec<_> = (0..4).map(|n| entry(&format!("g{n}"), n + 1)).collect();
    let mut kernel = Memory::default();
    run(&mut kernel, &good, &hooks());
    for element in kernel.ruleset.elements.values_mut() {
        element.counters.packets = 7;
    }
    let bad = (0..10).map(|n| entry(&format!("b{n}"), n + 100));
    let list: Vec<_> = bad.chain(good).collect();
    kernel.refuses = list
        .iter()
        .take(10)
        .map(|e| Part::Add(e.id.clone()))
        .collect();
    kernel.terse = true;
    let sessions = run(&mut kernel, &list, &hooks());
    assert_eq!(summary(&sessions)[..10], [REFUSED; 10]);
    assert_eq!(summary(&sessions)[10..], [ACTIVE; 4]);
    assert!(
        sessions[10..]
            .iter()
            .all(|s| s.upstream.is_some_and(|c| c.packets == 7))
    );
}

#[test]
fn a_port_that_cannot_be_hooked_costs_only_itself() {
    let gone = Hook::Up("lan2".into());
    let mut kernel = Memory {
        refuses: vec![Part::AddHook(gone.clone())],
        ..Memory::default()
    };
    let mut all = hooks();
    all.insert(gone, 8);
    let wanted = Wanted {
        entries: &[entry("a", 1)],
        hooks: &all,
        remembered: &BTreeMap::new(),
        max_sessions: 100,
    };
    let (outcome, held) = reconcile(&mut kernel, &wanted, || NOW).unwrap();
    assert_eq!(
        summary(&outcome.sessions(&held, wanted.entries, 100, NOW)),
        [ACTIVE]
    );
    assert_eq!(
        outcome.trouble(),
        Some("hooking into the ingress of lan2: no")
    );
}

#[test]
fn a_way_without_hook_is_not_in_force() {
    let down = Hook::Down("lan1".into());
    let mut kernel = Memory {
        refuses: vec![Part::AddHook(down)],
        ..Memory::default()
    };
    let sessions = run(&mut kernel, &[entry("a", 1)], &hooks());
    let unsupported = (SessionState::Rejected, Some(RejectCode::Unsupported));
    assert_eq!(summary(&sessions), [unsupported]);

    let sessions = run(&mut Memory::default(), &[entry("a", 1)], &BTreeMap::new());
    let absent = (SessionState::Rejected, Some(RejectCode::DeviceNotFound));
    assert_eq!(summary(&sessions), [absent]);
}

#[test]
fn what_vanished_is_not_called_active() {
    let mut kernel = Memory::default();
    let (list, hooks) = ([entry("a", 1)], hooks());
    let wanted = Wanted {
        entries: &list,
        hooks: &hooks,
        remembered: &BTreeMap::new(),
        max_sessions: 100,
    };
    let (outcome, _) = reconcile(&mut kernel, &wanted, || NOW).unwrap();
    kernel.ruleset.elements.pop_first();
    let held = kernel.observe().unwrap();
    assert_eq!(
        summary(&outcome.sessions(&held, wanted.entries, 100, NOW)),
        [REFUSED]
    );
    let later = NOW + Duration::from_secs(60);
    assert_eq!(
        outcome.sessions(&held, wanted.entries, 100, later)[0].state,
        SessionState::Expired
    );
}
