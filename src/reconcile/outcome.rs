//! What came of a change: what the kernel took, what it refused, and each session as it holds it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use qod_wire::{Counters, RejectCode, SessionState, SessionStatus};

use super::probing;
use crate::flow::Way;
use crate::plan::{self, Verdict};
use crate::ruleset::{CommitError, Held, Hook, Part, Ruleset};
use crate::session::{Entry, Rejection, Session, SessionId};

/// What the kernel took and what it refused. What it holds is not kept: it changes by itself, and the
/// kernel is always there to be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    hooks: BTreeMap<Hook, u32>,
    refused: HashMap<SessionId, String>,
    trouble: Option<String>,
}

impl Outcome {
    pub(super) fn new(hooks: &BTreeMap<Hook, u32>) -> Self {
        Self {
            hooks: hooks.clone(),
            refused: HashMap::new(),
            trouble: None,
        }
    }

    /// Nothing can be in force, for this reason.
    pub fn of_nothing(trouble: String) -> Self {
        Self {
            hooks: BTreeMap::new(),
            refused: HashMap::new(),
            trouble: Some(trouble),
        }
    }

    /// Where packets are to meet the table: what was wanted, but for what the kernel refused.
    pub(super) fn hooks(&self) -> &BTreeMap<Hook, u32> {
        &self.hooks
    }

    pub(super) fn refuse(&mut self, session: &SessionId, error: &CommitError) {
        self.refused.insert(session.clone(), error.to_string());
    }

    /// What the kernel refused beside sessions, or why it could not be changed.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Every entry as the kernel holds it, in array order. One whose device is being looked for is left
    /// out, unless the kernel holds it already.
    pub fn sessions(
        &self,
        held: &Ruleset,
        entries: &[Entry],
        max_sessions: usize,
        now: Duration,
    ) -> Vec<SessionStatus> {
        let verdicts = self.admit(entries, max_sessions, now);
        let mut kept = self.kept(held, entries);
        let statuses = entries
            .iter()
            .zip(verdicts)
            .filter_map(|(entry, verdict)| match verdict {
                Verdict::Admitted(session) => Some(match self.verify(held, session) {
                    Ok(status) => status,
                    Err(rejection) => rejected(&entry.id, rejection),
                }),
                Verdict::Rejected(rejection) => Some(rejected(&entry.id, rejection)),
                Verdict::Probing => kept.remove(&entry.id),
                Verdict::Expired => Some(bare(&entry.id, SessionState::Expired)),
            });
        statuses.collect()
    }

    pub(super) fn admit<'a>(
        &self,
        entries: &'a [Entry],
        max_sessions: usize,
        now: Duration,
    ) -> Vec<Verdict<'a>> {
        plan::admit(entries, now, max_sessions, &self.refused)
    }

    /// Takes what was refused out of the next round. False: there is no use in another round.
    pub(super) fn learn(&mut self, error: &CommitError) -> bool {
        let CommitError::Refused(parts) = error else {
            self.trouble = Some(error.to_string());
            return false;
        };
        let mut hopeless = false;
        for (part, errno) in parts {
            match part {
                Part::Add(session) | Part::AddLimit(session) => {
                    self.refused.insert(session.clone(), errno.clone());
                }
                // Its time ended, or its device vanished, between reading and removing: what is read
                // now is without it.
                Part::Delete(_) | Part::DeleteHook(_) | Part::DeleteLimit(_) => {}
                Part::AddHook(hook) => {
                    // The chain's rules are refused after it, with a worse reason.
                    if self.hooks.remove(hook).is_some() {
                        self.trouble = Some(format!("{part}: {errno}"));
                    }
                }
                Part::Structure(_) => {
                    self.trouble = Some(error.to_string());
                    hopeless = true;
                }
            }
        }
        !hopeless
    }

    /// The session as the kernel holds it; all of it, or a rejection.
    fn verify(&self, held: &Ruleset, session: &Session) -> Result<SessionStatus, Rejection> {
        let reject = |code, message: &str| {
            Err(Rejection {
                code,
                message: message.to_owned(),
            })
        };
        let mut status = bare(&session.id, SessionState::Active);
        for matches in &session.matches {
            if !self.is_hooked(held, matches.way) {
                return match &self.trouble {
                    Some(trouble) => reject(RejectCode::Unsupported, trouble),
                    None => reject(RejectCode::DeviceNotFound, "no port of the home is present"),
                };
            }
            let Some(element) = held.element(session, matches) else {
                let why = self
                    .trouble
                    .as_deref()
                    .unwrap_or("the kernel does not hold all of it");
                return reject(RejectCode::Kernel, why);
            };
            count(&mut status, matches.way, element);
        }
        let remaining = session.ends.and_then(|_| held.remaining(session));
        status.expires_in = remaining.map(seconds);
        Ok(status)
    }

    fn is_hooked(&self, held: &Ruleset, way: Way) -> bool {
        let mut hooks = held.hooks.keys();
        hooks.any(|hook| sees(hook, way) && self.hooks.contains_key(hook))
    }

    /// What the kernel still holds of sessions whose device is being looked for.
    fn kept<'a>(
        &self,
        held: &Ruleset,
        entries: &'a [Entry],
    ) -> HashMap<&'a SessionId, SessionStatus> {
        let probing: HashMap<&SessionId, &SessionId> =
            probing(entries).map(|id| (id, id)).collect();
        let mut kept = HashMap::new();
        if probing.is_empty() {
            return kept;
        }
        for (matches, element) in &held.elements {
            let Some(id) = probing.get(&element.session) else {
                continue;
            };
            if !self.is_hooked(held, matches.way) {
                continue;
            }
            let status: &mut SessionStatus = kept
                .entry(*id)
                .or_insert_with(|| bare(id, SessionState::Active));
            count(status, matches.way, element);
            let left = seconds(element.remaining);
            status.expires_in = Some(status.expires_in.map_or(left, |least| least.min(left)));
        }
        kept
    }
}

/// To the millisecond, as the contract has it.
fn seconds(time: Duration) -> f64 {
    time.as_millis() as f64 / 1000.0
}

fn count(status: &mut SessionStatus, way: Way, element: &Held) {
    let sum = match way {
        Way::Up => &mut status.upstream,
        Way::Down => &mut status.downstream,
    };
    let sum = sum.get_or_insert_default();
    sum.packets = sum.packets.saturating_add(element.counters.packets);
    sum.bytes = sum.bytes.saturating_add(element.counters.bytes);
}

/// Whether a hook meets the packets of that way.
fn sees(hook: &Hook, way: Way) -> bool {
    match hook {
        Hook::Up(_) => way == Way::Up,
        Hook::Down(_) => way == Way::Down,
        Hook::Out(_) => false,
    }
}

fn rejected(id: &SessionId, rejection: Rejection) -> SessionStatus {
    SessionStatus {
        code: Some(rejection.code),
        message: Some(rejection.message),
        ..bare(id, SessionState::Rejected)
    }
}

fn bare(id: &SessionId, state: SessionState) -> SessionStatus {
    SessionStatus {
        session_id: id.to_string(),
        state,
        code: None,
        message: None,
        expires_in: None,
        upstream: None::<Counters>,
        downstream: None,
    }
}
