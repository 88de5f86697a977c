//! The plan: which sessions are admitted, and what must change in the kernel for them. No I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use qod_wire::{Counters, RejectCode};

use crate::flow::{Match, Way};
use crate::ruleset::{Changes, Element, Hook, Layout, Ruleset};
use crate::session::{Entry, Rejection, Session, SessionId};

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
            let session = match &entry.session {
                Ok(session) => session,
                Err(rejection) => return Verdict::Rejected(rejection.clone()),
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
    let absent = Ruleset::default();
    // What a foreign layout holds is not understood, so nothing of it is kept.
    let held = if held.layout == Layout::Current {
        held
    } else {
        &absent_like(held, absent)
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

fn absent_like(held: &Ruleset, absent: Ruleset) -> Ruleset {
    Ruleset {
        layout: held.layout.clone(),
        ..absent
    }
}

/// Whether an element's end is too far from where it should be; a lease is renewed at half.
fn is_stale(lease: bool, wanted: Duration, remaining: Duration) -> bool {
    if lease {
        remaining < LEASE / 2
    } else {
        wanted.abs_diff(remaining) > TOLERANCE
    }
}
