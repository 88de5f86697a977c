//! Makes the kernel hold what the instructions ask for, and says what it holds then.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use qod_wire::{Counters, RejectCode, SessionState, SessionStatus};

use crate::flow::Way;
use crate::plan::{self, Verdict};
use crate::ruleset::{CommitError, Hook, Kernel, Part, Ruleset};
use crate::session::{Entry, Rejection, Session, SessionId};

/// How often a refused transaction is sent again without what was refused; then sessions go one by one.
const ROUNDS: usize = 8;

/// What the kernel is to hold.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The sessions, in array order.
    pub entries: &'a [Entry],
    /// Where packets are to meet the table: at devices that are present.
    pub hooks: &'a BTreeSet<Hook>,
    /// How many sessions are held at most.
    pub max_sessions: usize,
}

/// What the kernel took and what it refused. What it holds is not kept: it changes by itself, and the
/// kernel is always there to be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    hooks: BTreeSet<Hook>,
    refused: HashMap<SessionId, String>,
    trouble: Option<String>,
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
    let mut outcome = Outcome {
        hooks: wanted.hooks.clone(),
        refused: HashMap::new(),
        trouble: None,
    };
    let mut held = kernel.observe()?;
    for _ in 0..ROUNDS {
        let now = clock();
        let verdicts = outcome.admit(wanted.entries, wanted.max_sessions, now);
        let changes = plan::changes(&admitted(&verdicts), &outcome.hooks, &held, now);
        if changes.is_empty() {
            return Ok((outcome, held));
        }
        let result = kernel.commit(&changes);
        held = kernel.observe()?;
        match result {
            Ok(()) => return Ok((outcome, held)),
            Err(error) if !outcome.learn(&error) => return Ok((outcome, held)),
            Err(_) => {}
        }
    }
    let held = one_by_one(kernel, wanted, &mut outcome, held, clock())?;
    Ok((outcome, held))
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
        let changes = plan::changes(&taken, &outcome.hooks, &held, now);
        if let Err(error) = kernel.commit(&changes) {
            taken.pop();
            outcome
                .refused
                .insert(session.id.clone(), error.to_string());
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

impl Outcome {
    /// What the kernel refused beside sessions, or why it could not be changed.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Every entry as the kernel holds it, in array order; but for those whose device is being looked for.
    pub fn sessions(
        &self,
        held: &Ruleset,
        entries: &[Entry],
        max_sessions: usize,
        now: Duration,
    ) -> Vec<SessionStatus> {
        let verdicts = self.admit(entries, max_sessions, now);
        let statuses = entries
            .iter()
            .zip(verdicts)
            .filter_map(|(entry, verdict)| match verdict {
                Verdict::Admitted(session) => Some(match self.verify(held, session) {
                    Ok(status) => status,
                    Err(rejection) => rejected(&entry.id, rejection),
                }),
                Verdict::Rejected(rejection) => Some(rejected(&entry.id, rejection)),
                Verdict::Probing => None,
                Verdict::Expired => Some(bare(&entry.id, SessionState::Expired)),
            });
        statuses.collect()
    }

    fn admit<'a>(
        &self,
        entries: &'a [Entry],
        max_sessions: usize,
        now: Duration,
    ) -> Vec<Verdict<'a>> {
        plan::admit(entries, now, max_sessions, &self.refused)
    }

    /// Takes what was refused out of the next round. False: there is no use in another round.
    fn learn(&mut self, error: &CommitError) -> bool {
        let CommitError::Refused(parts) = error else {
            self.trouble = Some(error.to_string());
            return false;
        };
        let mut hopeless = false;
        for (part, errno) in parts {
            match part {
                Part::Add(session) => {
                    self.refused.insert(session.clone(), errno.clone());
                }
                // Its time ended, or its device vanished, between reading and removing: what is read
                // now is without it.
                Part::Delete(_) | Part::DeleteHook(_) => {}
                Part::AddHook(hook) => {
                    // The chain's rules are refused after it, with a worse reason.
                    if self.hooks.remove(hook) {
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
            let mut hooks = held.hooks.intersection(&self.hooks);
            let hooked = hooks.any(|hook| sees(hook, matches.way));
            if !hooked {
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
            let way = match matches.way {
                Way::Up => &mut status.upstream,
                Way::Down => &mut status.downstream,
            };
            let sum = way.get_or_insert_default();
            sum.packets = sum.packets.saturating_add(element.counters.packets);
            sum.bytes = sum.bytes.saturating_add(element.counters.bytes);
        }
        let remaining = session.ends.and_then(|_| held.remaining(session));
        // To the millisecond, as the contract has it.
        status.expires_in = remaining.map(|left| left.as_millis() as f64 / 1000.0);
        Ok(status)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dscp::Dscp;
    use crate::flow::{Family, Match, Peer, PortRange, Prefix};
    use crate::ruleset::{Changes, Held, Layout};
    use crate::session::{Ceilings, Standing};
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
            let hooks = changes.add_hooks.iter().cloned().map(Part::AddHook);
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
            if changes.clear {
                self.ruleset = Ruleset::default();
                return Ok(());
            }
            self.ruleset.layout = Layout::Current;
            for (matches, _) in &changes.delete {
                self.ruleset.elements.remove(matches);
            }
            for element in &changes.add {
                let held = Held {
                    session: element.session.clone(),
                    dscp: Some(element.dscp),
                    remaining: element.timeout,
                    counters: element.counters,
                };
                self.ruleset.elements.insert(element.matches, held);
            }
            self.ruleset.devices.extend(&changes.add_devices);
            self.ruleset.dscps.extend(&changes.add_dscps);
            self.ruleset.hooks.extend(changes.add_hooks.iter().cloned());
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

    fn hooks() -> BTreeSet<Hook> {
        [Hook::Up("lan1".into()), Hook::Down("lan1".into())].into()
    }

    fn run(kernel: &mut Memory, entries: &[Entry], hooks: &BTreeSet<Hook>) -> Vec<SessionStatus> {
        let wanted = Wanted {
            entries,
            hooks,
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
        all.insert(gone);
        let wanted = Wanted {
            entries: &[entry("a", 1)],
            hooks: &all,
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

        let sessions = run(&mut Memory::default(), &[entry("a", 1)], &BTreeSet::new());
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
}
