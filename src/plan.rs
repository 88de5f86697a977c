//! The plan: which sessions are admitted, and what must change in the kernel for them. No I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use qod_wire::{Counters, RejectCode};

use crate::flow::{Match, Way};
use crate::ruleset::{Changes, Element, Hook, Layout, Ruleset};
use crate::session::{Entry, Rejection, Session, SessionId, Standing};

/// An element in force is left alone unless its end would move by more than this.
const TOLERANCE: Duration = Duration::from_secs(2);
/// Elements of a session without an end run this long, so that no mark outlives a dead agent for longer.
pub const LEASE: Duration = Duration::from_hours(24);

/// What becomes of one entry of the instructions.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict<'a> {
    /// It is to be in force.
    Admitted(&'a Session),
    /// It is not in force now.
    Rejected(Rejection),
    /// Its device is being looked for; what is in force of it stays.
    Probing,
    /// Its time is over.
    Expired,
}

/// Decides on each entry, in array order: where two flows overlap, the earlier one holds.
///
/// `refused` are the sessions that the kernel did not take, with its reason.
pub fn admit<'a>(
    entries: &'a [Entry],
    now: Duration,
    max_sessions: usize,
    refused: &HashMap<SessionId, String>,
) -> Vec<Verdict<'a>> {
    let mut admitted = Admitted::default();
    entries
        .iter()
        .map(|entry| {
            let session = match &entry.standing {
                Standing::Ready(session) => session,
                Standing::Rejected(rejection) => return Verdict::Rejected(rejection.clone()),
                Standing::Probing => return Verdict::Probing,
            };
            let reject = |code, message| Verdict::Rejected(Rejection { code, message });
            if session.ends.is_some_and(|end| end <= now) {
                return Verdict::Expired;
            }
            if let Some(winner) = admitted.overlapping(session) {
                let message = format!("its flow overlaps that of the earlier session {winner}");
                return reject(RejectCode::Conflict, message);
            }
            if admitted.count >= max_sessions {
                let message = format!("this agent holds at most {max_sessions} sessions");
                return reject(RejectCode::TooManySessions, message);
            }
            if let Some(errno) = refused.get(&session.id) {
                return reject(
                    RejectCode::Kernel,
                    format!("the kernel refused it: {errno}"),
                );
            }
            admitted.push(session);
            Verdict::Admitted(session)
        })
        .collect()
}

/// The matches admitted so far, by what two overlapping ones always share.
#[derive(Default)]
struct Admitted<'a> {
    count: usize,
    matches: HashMap<(Way, IpAddr), Vec<(Match, &'a SessionId)>>,
}

impl<'a> Admitted<'a> {
    fn overlapping(&self, session: &Session) -> Option<&'a SessionId> {
        session.matches.iter().find_map(|wanted| {
            let near = self.matches.get(&(wanted.way, wanted.device))?;
            near.iter()
                .find(|(held, _)| held.overlaps(wanted))
                .map(|(_, id)| *id)
        })
    }

    fn push(&mut self, session: &'a Session) {
        self.count += 1;
        for matches in &session.matches {
            let near = self
                .matches
                .entry((matches.way, matches.device))
                .or_default();
            near.push((*matches, &session.id));
        }
    }
}

/// What must change so that the kernel holds exactly the admitted sessions at exactly these hooks.
pub fn changes(
    sessions: &[&Session],
    hooks: &BTreeSet<Hook>,
    held: &Ruleset,
    now: Duration,
) -> Changes {
    if sessions.is_empty() {
        // Nothing to mark, so nothing is in the packets' way. And the kernel drops a table at once,
        // where it takes most of a second to remove a thousand elements (measured on 6.18).
        return match held.layout {
            Layout::Absent => Changes::default(),
            Layout::Current | Layout::Other(_) => Changes::clear(),
        };
    }
    // What another layout holds is not understood, so nothing of it is kept.
    let nothing = Ruleset {
        layout: held.layout.clone(),
        ..Ruleset::default()
    };
    let held = if held.layout == Layout::Current {
        held
    } else {
        &nothing
    };
    let wanted: BTreeMap<Match, &Session> = sessions
        .iter()
        .flat_map(|session| {
            session
                .matches
                .iter()
                .map(move |matches| (*matches, *session))
        })
        .collect();

    let mut changes = Changes {
        create: held.layout != Layout::Current,
        replace: matches!(held.layout, Layout::Other(_)),
        ..Changes::default()
    };
    for (matches, element) in &held.elements {
        if !wanted.contains_key(matches) {
            changes.delete.push((*matches, element.session.clone()));
        }
    }
    // One message per session: elements of a session stand together.
    for session in sessions {
        for matches in &session.matches {
            let timeout = session.ends.map_or(LEASE, |end| end.saturating_sub(now));
            let mut counters = Counters::default();
            if let Some(element) = held.elements.get(matches) {
                let same_session = element.session == session.id;
                if same_session
                    && element.dscp == Some(session.dscp)
                    && !is_stale(session.ends.is_none(), timeout, element.remaining)
                {
                    continue;
                }
                if same_session {
                    counters = element.counters;
                }
                changes.delete.push((*matches, element.session.clone()));
            }
            changes.add.push(Element {
                matches: *matches,
                session: session.id.clone(),
                dscp: session.dscp,
                timeout,
                counters,
            });
        }
        if !held.dscps.contains(&session.dscp) {
            changes.add_dscps.insert(session.dscp);
        }
    }
    let devices: BTreeSet<IpAddr> = wanted.keys().map(|matches| matches.device).collect();
    changes.add_devices = devices.difference(&held.devices).copied().collect();
    changes.delete_devices = held.devices.difference(&devices).copied().collect();
    changes.add_hooks = hooks.difference(&held.hooks).cloned().collect();
    changes.delete_hooks = held.hooks.difference(hooks).cloned().collect();
    changes
}

/// Whether an element's end is too far from where it should be; a lease is renewed at half.
fn is_stale(lease: bool, wanted: Duration, remaining: Duration) -> bool {
    if lease {
        remaining < LEASE / 2
    } else {
        wanted.abs_diff(remaining) > TOLERANCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dscp::Dscp;
    use crate::flow::{Family, Peer, PortRange, Prefix};
    use crate::ruleset::Held;
    use crate::session::Ceilings;
    use proptest::prelude::*;

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
            ..Ruleset::default()
        };
        for session in sessions {
            held.dscps.insert(session.dscp);
            for matches in &session.matches {
                held.devices.insert(matches.device);
                let element = Held {
                    session: session.id.clone(),
                    dscp: Some(session.dscp),
                    remaining: session.ends.map_or(LEASE, |end| end - NOW),
                    counters: Counters {
                        packets: 7,
                        bytes: 700,
                    },
                };
                held.elements.insert(*matches, element);
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

    #[test]
    fn an_element_in_force_is_left_alone() {
        let a = session("a", Some(1060), port(1));
        let ruleset = held(&[&a]);
        assert!(changes(&[&a], &BTreeSet::new(), &ruleset, NOW).is_empty());
        let moved = Session {
            ends: Some(Duration::from_millis(1_061_900)),
            ..a.clone()
        };
        assert!(changes(&[&moved], &BTreeSet::new(), &ruleset, NOW).is_empty());
        let moved = Session {
            ends: Some(Duration::from_millis(1_062_100)),
            ..a
        };
        let changes = changes(&[&moved], &BTreeSet::new(), &ruleset, NOW);
        assert_eq!((changes.delete.len(), changes.add.len()), (2, 2));
        assert_eq!(changes.add[0].counters.packets, 7);
    }

    #[test]
    fn a_lease_is_renewed_at_half() {
        let a = session("a", None, port(1));
        let mut ruleset = held(&[&a]);
        assert!(changes(&[&a], &BTreeSet::new(), &ruleset, NOW).is_empty());
        for element in ruleset.elements.values_mut() {
            element.remaining = LEASE / 2 - Duration::from_secs(1);
        }
        assert_eq!(changes(&[&a], &BTreeSet::new(), &ruleset, NOW).add.len(), 2);
    }

    #[test]
    fn counters_do_not_pass_to_another_session() {
        let a = session("a", Some(1060), port(1));
        let b = Session {
            id: "b".into(),
            ..a.clone()
        };
        let changes = changes(&[&b], &BTreeSet::new(), &held(&[&a]), NOW);
        assert_eq!(changes.delete.len(), 2);
        assert!(
            changes
                .add
                .iter()
                .all(|element| element.counters == Counters::default())
        );
        assert!(changes.add_devices.is_empty() && changes.delete_devices.is_empty());
    }

    #[test]
    fn another_layout_is_replaced_whole() {
        let a = session("a", Some(1060), port(1));
        let mut ruleset = held(&[&a]);
        ruleset.layout = Layout::Other("from before".to_owned());
        let changes = changes(&[&a], &BTreeSet::new(), &ruleset, NOW);
        assert!(changes.create && changes.replace && changes.delete.is_empty());
        assert_eq!(
            (
                changes.add.len(),
                changes.add_devices.len(),
                changes.add_dscps.len()
            ),
            (2, 1, 1)
        );
    }

    fn small_session(index: usize) -> impl Strategy<Value = Session> {
        let server = (0u8..8, 29u8..=32).prop_map(|(host, length)| {
            Prefix::new(IpAddr::from([10, 0, 0, host]), length).unwrap()
        });
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
        (0u8..2, peer, way, 0u8..3, prop::option::of(1001u64..2000)).prop_map(
            move |(device, peer, ways, dscp, ends)| {
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
                    ceilings: Ceilings::default(),
                    matches,
                }
            },
        )
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
            before in small_sessions(), after in small_sessions()
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
            let changes = changes(&after, &BTreeSet::new(), &state, NOW);
            if changes.clear {
                prop_assert!(after.is_empty());
                state = Ruleset::default();
            }
            for (matches, _) in &changes.delete {
                prop_assert!(state.elements.remove(matches).is_some());
            }
            for element in changes.add {
                let added = Held {
                    session: element.session,
                    dscp: Some(element.dscp),
                    remaining: element.timeout,
                    counters: element.counters,
                };
                prop_assert!(state.elements.insert(element.matches, added).is_none());
            }
            state.devices.extend(changes.add_devices);
            state.devices.retain(|device| !changes.delete_devices.contains(device));
            state.dscps.extend(changes.add_dscps);
            let again = super::changes(&after, &BTreeSet::new(), &state, NOW);
            prop_assert!(again.is_empty(), "{:?}", again);
            let wanted: BTreeSet<_> = after.iter().flat_map(|s| s.matches.iter().copied()).collect();
            let have: BTreeSet<_> = state.elements.keys().copied().collect();
            prop_assert_eq!(have, wanted);
        }
    }
}
