//! Makes the kernel hold what the instructions ask for, and says what it holds then.

mod outcome;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use crate::flow::Match;
use crate::plan::{self, Goal, Verdict};
use crate::ruleset::{Changes, Held, Hook, Kernel, Ruleset};
use crate::session::{Entry, Session, SessionId, Standing};
pub use outcome::Outcome;

/// How often a refused transaction is sent again without what was refused; then sessions go one by one.
const ROUNDS: usize = 8;

/// What the kernel is to hold.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The sessions, in array order.
    pub entries: &'a [Entry],
    /// Where packets are to meet the table: at devices that are present, each with its index.
    pub hooks: &'a BTreeMap<Hook, u32>,
    /// The elements as they were last read back.
    pub remembered: &'a BTreeMap<Match, Held>,
    /// How many sessions are held at most.
    pub max_sessions: usize,
}

/// Brings the kernel to what is wanted, and reads back what it holds then.
///
/// `clock` is the boot-time clock.
///
/// # Errors
/// The kernel cannot be read.
pub fn reconcile<K: Kernel>(
    kernel: &mut K,
    wanted: &Wanted<'_>,
    clock: impl Fn() -> Duration,
) -> Result<(Outcome, Ruleset), K::Error> {
    let mut outcome = Outcome::new(wanted.hooks);
    let held = rounds(kernel, wanted, &mut outcome, clock)?;
    let leftovers = plan::sweep(&held);
    if !leftovers.is_empty()
        && let Err(error) = kernel.commit(&leftovers)
    {
        // They cost nobody anything, and the next round tries again.
        log::debug!("{error}");
    }
    Ok((outcome, held))
}

fn rounds<K: Kernel>(
    kernel: &mut K,
    wanted: &Wanted<'_>,
    outcome: &mut Outcome,
    clock: impl Fn() -> Duration,
) -> Result<Ruleset, K::Error> {
    let mut held = kernel.observe()?;
    for _ in 0..ROUNDS {
        let now = clock();
        let verdicts = outcome.admit(wanted.entries, wanted.max_sessions, now);
        let changes = changes(&admitted(&verdicts), wanted, outcome, &held, now);
        if changes.is_empty() {
            return Ok(held);
        }
        let result = kernel.commit(&changes);
        held = kernel.observe()?;
        match result {
            Ok(()) => return Ok(held),
            Err(error) if !outcome.learn(&error) => return Ok(held),
            Err(_) => {}
        }
    }
    one_by_one(kernel, wanted, outcome, held, clock())
}

fn changes(
    sessions: &[&Session],
    wanted: &Wanted<'_>,
    outcome: &Outcome,
    held: &Ruleset,
    now: Duration,
) -> Changes {
    let probing: HashSet<&SessionId> = probing(wanted.entries).collect();
    let goal = Goal {
        sessions,
        probing: &probing,
        hooks: outcome.hooks(),
        remembered: wanted.remembered,
        now,
    };
    plan::changes(&goal, held)
}

/// The last resort, when the kernel names another culprit every time: what is in force stays, and each
/// other session goes for itself.
fn one_by_one<K: Kernel>(
    kernel: &mut K,
    wanted: &Wanted<'_>,
    outcome: &mut Outcome,
    mut held: Ruleset,
    now: Duration,
) -> Result<Ruleset, K::Error> {
    let verdicts = outcome.admit(wanted.entries, wanted.max_sessions, now);
    let (mut taken, waiting): (Vec<&Session>, Vec<&Session>) = admitted(&verdicts)
        .into_iter()
        .partition(|session| held.remaining(session).is_some());
    for session in waiting {
        taken.push(session);
        let changes = changes(&taken, wanted, outcome, &held, now);
        if let Err(error) = kernel.commit(&changes) {
            taken.pop();
            outcome.refuse(&session.id, &error);
        }
        held = kernel.observe()?;
    }
    Ok(held)
}

fn admitted<'a>(verdicts: &[Verdict<'a>]) -> Vec<&'a Session> {
    let sessions = verdicts.iter().filter_map(|verdict| match verdict {
        Verdict::Admitted(session) => Some(*session),
        _ => None,
    });
    sessions.collect()
}

/// The sessions whose device is being looked for.
fn probing(entries: &[Entry]) -> impl Iterator<Item = &SessionId> {
    let is_probing = |entry: &&Entry| matches!(entry.standing, Standing::Probing);
    entries.iter().filter(is_probing).map(|entry| &entry.id)
}
