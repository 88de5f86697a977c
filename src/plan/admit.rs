//! Which sessions are to be in force.

use std::collections::HashMap;
use std::time::Duration;

use qod_wire::RejectCode;

use super::admitted::Admitted;
use crate::session::{Entry, Rejection, Session, SessionId, Standing};

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
            if admitted.count() >= max_sessions {
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
