//! Admission and changes, against a model.

use super::*;
use crate::dscp::Dscp;
use crate::flow::{Family, Match, Peer, PortRange, Prefix, Way};
use crate::ruleset::{Changes, Held, Hook, Layout, Limit, Ruleset, Treatment};
use crate::session::{Ceilings, Entry, Session, SessionId, Standing};
use proptest::prelude::*;
use qod_wire::{Counters, RejectCode};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

const NOW: Duration = Duration::from_secs(1000);

fn session(id: &str, ends: Option<u64>, peer: Peer) -> Session {
    let device = IpAddr::from([192, 168, 1, 23]);
    let matches = Way::ALL.map(|way| Match { way, device, peer }).to_vec();
    let ends = ends.map(Duration::from_secs);
    Session {
        id: id.into(),
        dscp: Dscp::new(46).unwrap(),
        ends,
        ceilings: Ceilings::default(),
        matches,
    }
}

fn port(port: u16) -> Peer {
    Peer::Ports {
        server: Prefix::any(Family::V4),
        device_ports: PortRange::ANY,
        server_ports: PortRange {
            from: port,
            to: port,
        },
    }
}

fn entries(sessions: Vec<Session>) -> Vec<Entry> {
    sessions
        .into_iter()
        .map(|s| Entry {
            id: s.id.clone(),
            standing: Standing::Ready(s),
        })
        .collect()
}

fn code(verdict: &Verdict<'_>) -> Option<RejectCode> {
    match verdict {
        Verdict::Rejected(rejection) => Some(rejection.code),
        _ => None,
    }
}

/// The ruleset that holds these sessions, as the kernel would show it.
fn held(sessions: &[&Session]) -> Ruleset {
    let mut held = Ruleset {
        layout: Layout::Current,
        hooks: hooks()
            .into_iter()
            .map(|(hook, index)| (hook, Some(index)))
            .collect(),
        ..Ruleset::default()
    };
    for session in sessions {
        held.dscps.insert(session.dscp);
        for matches in &session.matches {
            held.devices.insert(matches.device);
            let element = Held {
                session: session.id.clone(),
                treatment: Some(Treatment::of(session, matches.way)),
                remaining: session.ends.map_or(LEASE, |end| end - NOW),
                counters: Counters {
                    packets: 7,
                    bytes: 700,
                },
            };
            held.elements.insert(*matches, element);
            let treatment = Treatment::of(session, matches.way);
            held.limits
                .extend(Limit::of(&session.id, matches.way, treatment));
        }
    }
    held
}

#[test]
fn the_earlier_of_two_overlapping_flows_holds() {
    let any = Peer::Host(Prefix::any(Family::V4));
    let list = entries(vec![
        session("a", None, port(1)),
        session("b", None, any),
        session("c", None, port(2)),
        session("d", None, Peer::Whole),
    ]);
    let verdicts = admit(&list, NOW, 10, &HashMap::new());
    let codes: Vec<_> = verdicts.iter().map(code).collect();
    assert_eq!(codes, [None, Some(RejectCode::Conflict), None, None]);
    let Verdict::Rejected(rejection) = &verdicts[1] else {
        panic!()
    };
    assert!(
        rejection.message.ends_with("session a"),
        "{}",
        rejection.message
    );
}

#[test]
fn an_expired_session_takes_no_room_and_wins_nothing() {
    let list = entries(vec![
        session("over", Some(1000), port(1)),
        session("a", None, port(1)),
        session("b", None, port(2)),
    ]);
    let verdicts = admit(&list, NOW, 1, &HashMap::new());
    assert_eq!(verdicts[0], Verdict::Expired);
    assert!(matches!(verdicts[1], Verdict::Admitted(_)));
    assert_eq!(code(&verdicts[2]), Some(RejectCode::TooManySessions));
}

#[test]
fn what_the_kernel_refused_frees_its_flow() {
    let list = entries(vec![
        session("a", None, port(1)),
        session("b", None, port(1)),
    ]);
    let refused = HashMap::from([("a".into(), "no room".to_owned())]);
    let verdicts = admit(&list, NOW, 10, &refused);
    assert_eq!(code(&verdicts[0]), Some(RejectCode::Kernel));
    assert!(matches!(verdicts[1], Verdict::Admitted(_)));
}

fn hooks() -> BTreeMap<Hook, u32> {
    [(Hook::Up("lan1".into()), 7), (Hook::Out("wan".into()), 9)].into()
}

/// What leads from `held` to these sessions, while some devices are looked for.
fn diff_probing(sessions: &[&Session], probing: &[&SessionId], held: &Ruleset) -> Changes {
    let goal = Goal {
        sessions,
        probing: &probing.iter().copied().collect(),
        hooks: &hooks(),
        remembered: &BTreeMap::new(),
        now: NOW,
    };
    changes(&goal, held)
}

fn diff(sessions: &[&Session], held: &Ruleset) -> Changes {
    diff_probing(sessions, &[], held)
}

#[test]
fn an_element_in_force_is_left_alone() {
    let a = session("a", Some(1060), port(1));
    let ruleset = held(&[&a]);
    assert!(diff(&[&a], &ruleset).is_empty());
    let moved = Session {
        ends: Some(Duration::from_millis(1_061_900)),
        ..a.clone()
    };
    assert!(diff(&[&moved], &ruleset).is_empty());
    let moved = Session {
        ends: Some(Duration::from_millis(1_062_100)),
        ..a
    };
    let changes = diff(&[&moved], &ruleset);
    assert!(changes.delete.is_empty() && changes.add.is_empty());
    assert_eq!(changes.update.len(), 2);
    assert_eq!(changes.update[0].counters.packets, 7);
}

#[test]
fn a_lease_is_renewed_at_half() {
    let a = session("a", None, port(1));
    let mut ruleset = held(&[&a]);
    assert!(diff(&[&a], &ruleset).is_empty());
    for element in ruleset.elements.values_mut() {
        element.remaining = LEASE / 2 - Duration::from_secs(1);
    }
    assert_eq!(diff(&[&a], &ruleset).update.len(), 2);
    // Its end was 30 days off, and is open now.
    for element in ruleset.elements.values_mut() {
        element.remaining = LEASE * 30;
    }
    assert_eq!(diff(&[&a], &ruleset).update.len(), 2);
}

#[test]
fn counters_do_not_pass_to_another_session() {
    let a = session("a", Some(1060), port(1));
    let b = Session {
        id: "b".into(),
        ..a.clone()
    };
    let changes = diff(&[&b], &held(&[&a]));
    assert_eq!(changes.delete.len(), 2);
    let nothing = Counters::default();
    assert!(changes.add.iter().all(|e| e.counters == nothing));
    assert!(changes.add_devices.is_empty() && changes.delete_devices.is_empty());
}

#[test]
fn what_a_session_has_counted_stays_its_own_when_its_flow_changes() {
    let a = session("a", Some(1060), port(1));
    let moved = Session {
        matches: session("a", None, port(2)).matches,
        ..a.clone()
    };
    let changes = diff(&[&moved], &held(&[&a]));
    let counted: Vec<_> = changes.add.iter().map(|e| e.counters.packets).collect();
    assert_eq!(counted, [7, 7]);
}

#[test]
fn what_the_kernel_has_lost_counts_on_from_memory() {
    let a = session("a", Some(1060), port(1));
    let remembered = held(&[&a]).elements;
    let sessions = [&a];
    let goal = Goal {
        sessions: &sessions,
        probing: &HashSet::new(),
        hooks: &hooks(),
        remembered: &remembered,
        now: NOW,
    };
    let changes = changes(&goal, &Ruleset::default());
    assert!(changes.create && !changes.replace);
    assert!(changes.add.iter().all(|e| e.counters.packets == 7));
}

#[test]
fn another_layout_is_replaced_whole_and_its_counters_go_on() {
    let a = session("a", Some(1060), port(1));
    let mut ruleset = held(&[&a]);
    ruleset.layout = Layout::Other("from before".to_owned());
    let changes = diff(&[&a], &ruleset);
    assert!(changes.create && changes.replace && changes.delete.is_empty());
    assert!(changes.add.iter().all(|e| e.counters.packets == 7));
    let sizes = (
        changes.add.len(),
        changes.add_devices.len(),
        changes.add_dscps.len(),
        changes.add_hooks.len(),
    );
    assert_eq!(sizes, (2, 1, 1, 2));
}

#[test]
fn what_is_in_force_stays_while_its_device_is_looked_for() {
    let a = session("a", Some(1060), port(1));
    let b = session("b", Some(1060), port(2));
    let ruleset = held(&[&a, &b]);
    assert!(diff_probing(&[&b], &[&a.id], &ruleset).is_empty());
    assert!(diff_probing(&[], &[&a.id, &b.id], &ruleset).is_empty());
    assert_eq!(diff_probing(&[&b], &[], &ruleset).delete.len(), 2);
    // Also through another layout.
    let mut other = ruleset.clone();
    other.layout = Layout::Other("from before".to_owned());
    assert_eq!(diff_probing(&[&b], &[&a.id], &other).add.len(), 4);
    // But not where an admitted session takes its place.
    let c = session("c", Some(1060), port(1));
    let changes = diff_probing(&[&b, &c], &[&a.id], &ruleset);
    assert_eq!((changes.delete.len(), changes.add.len()), (2, 2));
}

#[test]
fn a_hook_follows_its_device() {
    let a = session("a", Some(1060), port(1));
    let mut ruleset = held(&[&a]);
    ruleset.hooks.insert(Hook::Up("lan1".into()), Some(3));
    ruleset.hooks.insert(Hook::Out("wan".into()), None);
    ruleset.hooks.insert(Hook::Up("gone".into()), Some(4));
    let changes = diff(&[&a], &ruleset);
    let (up, gone) = (Hook::Up("lan1".into()), Hook::Up("gone".into()));
    assert_eq!(changes.add_hooks, [(up.clone(), 7)].into());
    assert_eq!(changes.delete_hooks, [up, gone].into());
}

#[test]
fn a_highest_rate_has_its_chain_as_long_as_an_element_leads_to_it() {
    let ceilings = Ceilings {
        up: Some(2000),
        down: None,
    };
    let free = session("a", Some(1060), port(1));
    let bound = Session {
        ceilings,
        ..free.clone()
    };
    let changes = diff(&[&bound], &held(&[&free]));
    assert_eq!(changes.add_limits.len(), 1);
    // The other way is as it was.
    assert_eq!((changes.delete.len(), changes.add.len()), (1, 1));
    let mut ruleset = held(&[&bound]);
    assert!(sweep(&ruleset).is_empty());
    ruleset.elements.clear();
    assert_eq!(sweep(&ruleset).delete_limits.len(), 1);
}

#[test]
fn what_a_change_left_behind_is_removed() {
    let a = session("a", Some(1060), port(1));
    let mut ruleset = held(&[&a]);
    ruleset.twin = true;
    assert!(diff(&[&a], &ruleset).remove_twin);
    let alone = Ruleset {
        twin: true,
        ..Ruleset::default()
    };
    assert!(diff(&[], &alone).clear);
}

fn small_session(index: usize) -> impl Strategy<Value = Session> {
    let server = (0u8..8, 29u8..=32)
        .prop_map(|(host, length)| Prefix::new(IpAddr::from([10, 0, 0, host]), length).unwrap());
    let peer = prop_oneof![
        1 => Just(Peer::Whole),
        2 => server.clone().prop_map(Peer::Host),
        4 => (server, 0u16..6, 0u16..3).prop_map(|(server, from, more)| Peer::Ports {
            server,
            device_ports: PortRange::ANY,
            server_ports: PortRange { from, to: from + more },
        }),
    ];
    let way = prop_oneof![
        Just(vec![Way::Up]),
        Just(vec![Way::Down]),
        Just(Way::ALL.to_vec())
    ];
    (
        0u8..2,
        peer,
        way,
        0u8..3,
        prop::option::of(1001u64..2000),
        prop::option::of(1u64..3),
    )
        .prop_map(move |(device, peer, ways, dscp, ends, up)| {
            let device = IpAddr::from([192, 168, 1, device]);
            let matches = ways
                .into_iter()
                .map(|way| Match { way, device, peer })
                .collect();
            let ends = ends.map(Duration::from_secs);
            Session {
                id: format!("s{index}").into(),
                dscp: Dscp::new(dscp).unwrap(),
                ends,
                ceilings: Ceilings { up, down: None },
                matches,
            }
        })
}

fn small_sessions() -> impl Strategy<Value = Vec<Session>> {
    prop::collection::vec(any::<()>(), 0..10)
        .prop_flat_map(|list| (0..list.len()).map(small_session).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn admission_is_greedy_in_array_order(sessions in small_sessions()) {
        let list = entries(sessions.clone());
        let verdicts = admit(&list, NOW, 100, &HashMap::new());
        let mut model: Vec<&Session> = Vec::new();
        for (session, verdict) in sessions.iter().zip(&verdicts) {
            let free = model.iter().all(|earlier| {
                earlier.matches.iter().all(|a| session.matches.iter().all(|b| !a.overlaps(b)))
            });
            prop_assert_eq!(matches!(verdict, Verdict::Admitted(_)), free);
            if free {
                model.push(session);
            }
        }
    }

    #[test]
    fn changes_lead_from_any_state_to_what_is_wanted(
        before in small_sessions(), after in small_sessions(),
        other_layout: bool, some_are_looked_for: bool
    ) {
        let (before, after) = (entries(before), entries(after));
        let admitted = |list| {
            let verdicts = admit(list, NOW, 100, &HashMap::new());
            verdicts.into_iter().filter_map(|verdict| match verdict {
                Verdict::Admitted(session) => Some(session),
                _ => None,
            }).collect::<Vec<_>>()
        };
        let (before, after) = (admitted(&before), admitted(&after));
        let mut state = held(&before);
        if other_layout {
            state.layout = Layout::Other("from before".to_owned());
        }
        let gone = |session: &&&Session| after.iter().all(|s| s.id != session.id);
        let probing: Vec<&SessionId> = before.iter().filter(gone).map(|s| &s.id).collect();
        let probing = if some_are_looked_for { probing.as_slice() } else { &[] };
        let counted = sums(&state);
        let changes = diff_probing(&after, probing, &state);
        state.change(&changes);
        let again = diff_probing(&after, probing, &state);
        prop_assert!(again.is_empty(), "{:?}", again);

        let wanted: BTreeSet<_> = after.iter().flat_map(|s| s.matches.iter().copied()).collect();
        for (matches, element) in &state.elements {
            prop_assert!(wanted.contains(matches) || probing.contains(&&element.session));
        }
        prop_assert!(wanted.iter().all(|matches| state.elements.contains_key(matches)));
        let all: Vec<_> = state.elements.keys().collect();
        for (index, a) in all.iter().enumerate() {
            prop_assert!(all.iter().skip(index + 1).all(|b| !a.overlaps(b)));
        }
        // No sum of a session that has elements that way before and after has gone back.
        let now = sums(&state);
        for (key, before) in counted {
            if let Some(after) = now.get(&key) {
                prop_assert!(*after >= before, "{:?}: {} after {}", key, after, before);
            }
        }
    }
}

fn sums(ruleset: &Ruleset) -> HashMap<(SessionId, Way), u64> {
    let mut sums = HashMap::new();
    for (matches, element) in &ruleset.elements {
        *sums
            .entry((element.session.clone(), matches.way))
            .or_default() += element.counters.packets;
    }
    sums
}
