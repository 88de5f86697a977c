//! What must change so that the kernel holds what is wanted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use qod_wire::Counters;

use super::admitted::Admitted;
use super::{LEASE, TOLERANCE};
use crate::flow::{Match, Way};
use crate::ruleset::{Changes, Element, Held, Hook, Layout, Limit, Ruleset, Treatment};
use crate::session::{Session, SessionId};

/// What the kernel is to hold.
#[derive(Clone, Copy)]
pub struct Goal<'a> {
    /// The admitted sessions: no two of them overlap.
    pub sessions: &'a [&'a Session],
    /// Sessions whose device is being looked for: what is in force of them stays.
    pub probing: &'a HashSet<&'a SessionId>,
    /// Where packets are to meet the table, with the index of each device.
    pub hooks: &'a BTreeMap<Hook, u32>,
    /// Elements as they were last read back. Where the kernel has lost one, its counters go on from there.
    pub remembered: &'a BTreeMap<Match, Held>,
    /// The boot-time clock.
    pub now: Duration,
}

/// What must change so that the kernel holds exactly the goal.
pub fn changes(goal: &Goal<'_>, held: &Ruleset) -> Changes {
    let staying = goal.staying(held);
    if goal.sessions.is_empty() && staying.is_empty() {
        // Nothing to mark, so nothing is in the packets' way. And the kernel drops a table at once,
        // where it takes most of a second to remove a thousand elements (measured on 6.18).
        return if held.layout == Layout::Absent && !held.twin {
            Changes::default()
        } else {
            Changes::clear()
        };
    }
    let wanted = goal.wanted(&staying);
    let mut changes = Changes {
        create: held.layout != Layout::Current,
        replace: matches!(held.layout, Layout::Other(_)),
        remove_twin: held.twin,
        ..Changes::default()
    };
    // Another layout's elements are made anew; only what they counted goes on.
    let nothing = Ruleset::default();
    let there = if changes.create { &nothing } else { held };

    let targets: BTreeMap<Match, &SessionId> =
        wanted.iter().map(|w| (w.matches, w.session)).collect();
    for (matches, element) in &there.elements {
        if !targets.contains_key(matches) {
            changes.delete.push((*matches, element.session.clone()));
        }
    }
    let mut surplus = surplus(held, &targets);
    for target in &wanted {
        let mut element = target.element(goal, held);
        match there.elements.get(&target.matches) {
            Some(held) if target.is_held_as(held) => {
                if !target.is_stale(held.remaining, goal.now) {
                    continue;
                }
                changes.update.push(element);
                continue;
            }
            Some(held) => changes.delete.push((target.matches, held.session.clone())),
            None => {}
        }
        if let Some(counted) = surplus.remove(&(target.session, target.matches.way)) {
            element.counters = sum(element.counters, counted);
        }
        changes.add.push(element);
    }
    changes.add_chains(&wanted, there);
    let devices: BTreeSet<IpAddr> = targets.keys().map(|matches| matches.device).collect();
    changes.add_devices = devices.difference(&there.devices).copied().collect();
    changes.delete_devices = there.devices.difference(&devices).copied().collect();
    changes.move_hooks(goal.hooks, &there.hooks);
    changes
}

/// The chains that no element leads to any more. The kernel may still refuse to remove one, as long as it
/// has not collected an element whose time is over.
pub fn sweep(held: &Ruleset) -> Changes {
    let led_to: BTreeSet<Limit> = held
        .elements
        .iter()
        .filter_map(|(matches, element)| {
            Limit::of(&element.session, matches.way, element.treatment?)
        })
        .collect();
    Changes {
        delete_limits: held.limits.difference(&led_to).cloned().collect(),
        ..Changes::default()
    }
}

/// When an element is to end.
#[derive(Clone, Copy)]
enum End {
    /// At this time.
    At(Duration),
    /// Whenever the session is withdrawn: the element has a lease.
    Open,
    /// When it ends already.
    AsHeld(Duration),
}

/// One element that is to be in force.
struct Target<'a> {
    matches: Match,
    session: &'a SessionId,
    treatment: Treatment,
    end: End,
}

impl<'a> Goal<'a> {
    /// What is in force of sessions whose device is being looked for, where nothing admitted takes its place.
    fn staying<'h>(&self, held: &'h Ruleset) -> Vec<(&'h Match, &'h Held)> {
        if self.probing.is_empty() {
            return Vec::new();
        }
        let mut admitted = Admitted::default();
        for session in self.sessions {
            admitted.push(session);
        }
        let stays = |(matches, element): &(&Match, &Held)| {
            self.probing.contains(&element.session)
                && element.treatment.is_some()
                && admitted.holder(matches).is_none()
        };
        held.elements.iter().filter(stays).collect()
    }

    /// Elements of one session stand together.
    fn wanted<'h>(&self, staying: &[(&'h Match, &'h Held)]) -> Vec<Target<'h>>
    where
        'a: 'h,
    {
        let mut wanted = Vec::new();
        for session in self.sessions {
            for matches in &session.matches {
                wanted.push(Target {
                    matches: *matches,
                    session: &session.id,
                    treatment: Treatment::of(session, matches.way),
                    end: session.ends.map_or(End::Open, End::At),
                });
            }
        }
        let mut stays: Vec<_> = staying
            .iter()
            .filter_map(|(matches, held)| {
                Some(Target {
                    matches: **matches,
                    session: &held.session,
                    treatment: held.treatment?,
                    end: End::AsHeld(held.remaining),
                })
            })
            .collect();
        stays.sort_by(|a, b| a.session.cmp(b.session));
        wanted.append(&mut stays);
        wanted
    }
}

impl Target<'_> {
    fn timeout(&self, now: Duration) -> Duration {
        match self.end {
            End::At(end) => end.saturating_sub(now),
            End::Open => LEASE,
            End::AsHeld(remaining) => remaining,
        }
    }

    fn is_held_as(&self, held: &Held) -> bool {
        held.session == *self.session && held.treatment == Some(self.treatment)
    }

    /// Whether an element's end is too far from where it should be; a lease is renewed at half.
    fn is_stale(&self, remaining: Duration, now: Duration) -> bool {
        match self.end {
            End::At(_) => self.timeout(now).abs_diff(remaining) > TOLERANCE,
            // Longer than a lease: it had an end before, beyond what a dead agent may leave.
            End::Open => remaining < LEASE / 2 || remaining > LEASE + TOLERANCE,
            End::AsHeld(_) => false,
        }
    }

    /// The element to be written; it goes on counting where it was.
    fn element(&self, goal: &Goal<'_>, held: &Ruleset) -> Element {
        let mine = |elements: &BTreeMap<Match, Held>| {
            let element = elements.get(&self.matches)?;
            (element.session == *self.session).then_some(element.counters)
        };
        let counters = mine(&held.elements).or_else(|| mine(goal.remembered));
        Element {
            matches: self.matches,
            session: self.session.clone(),
            treatment: self.treatment,
            timeout: self.timeout(goal.now),
            counters: counters.unwrap_or_default(),
        }
    }
}

/// What elements have counted that go while their session stays: the session's sums must not go back.
fn surplus<'a>(
    held: &'a Ruleset,
    targets: &BTreeMap<Match, &SessionId>,
) -> HashMap<(&'a SessionId, Way), Counters> {
    let sessions: HashSet<&SessionId> = targets.values().copied().collect();
    let mut surplus: HashMap<(&SessionId, Way), Counters> = HashMap::new();
    for (matches, element) in &held.elements {
        if sessions.contains(&element.session) && targets.get(matches) != Some(&&element.session) {
            let counted = surplus.entry((&element.session, matches.way)).or_default();
            *counted = sum(*counted, element.counters);
        }
    }
    surplus
}

fn sum(a: Counters, b: Counters) -> Counters {
    Counters {
        packets: a.packets.saturating_add(b.packets),
        bytes: a.bytes.saturating_add(b.bytes),
    }
}

impl Changes {
    fn add_chains(&mut self, wanted: &[Target<'_>], there: &Ruleset) {
        for target in wanted {
            let dscp = target.treatment.dscp;
            if !there.dscps.contains(&dscp) {
                self.add_dscps.insert(dscp);
            }
            let limit = Limit::of(target.session, target.matches.way, target.treatment);
            self.add_limits
                .extend(limit.filter(|limit| !there.limits.contains(limit)));
        }
    }

    /// A chain hangs on the device that had its name when it was made. Where another has the name now, the
    /// chain is made anew.
    fn move_hooks(&mut self, wanted: &BTreeMap<Hook, u32>, there: &BTreeMap<Hook, Option<u32>>) {
        let is_right = |hook: &Hook, held: Option<u32>| {
            wanted
                .get(hook)
                .is_some_and(|index| held.is_none_or(|held| held == *index))
        };
        for (hook, held) in there {
            if !is_right(hook, *held) {
                self.delete_hooks.insert(hook.clone());
            }
        }
        for (hook, index) in wanted {
            if !there.get(hook).is_some_and(|held| is_right(hook, *held)) {
                self.add_hooks.insert(hook.clone(), *index);
            }
        }
    }
}
