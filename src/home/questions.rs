//! Which devices were asked for, and how that went. No I/O; times are given.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use super::Home;
use crate::mac::Mac;

/// How long an answer is waited for: a little longer than the kernel itself does by default, which asks
/// three times, once a second.
pub const PATIENCE: Duration = Duration::from_millis(3500);
/// How many are asked for at the same time: a list of thousands that are not here is no storm of ARP.
pub const MOST_ASKED: usize = 64;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// Who has this address.
    Address(IpAddr),
    /// Behind which port this device is.
    Port(Mac),
}

/// What was asked and what came of it.
#[derive(Clone, Debug, Default)]
pub struct Questions(HashMap<Subject, Question>);

#[derive(Clone, Copy, Debug)]
struct Question {
    /// When it began to be asked the last time, on the boot-time clock.
    asked: Option<Duration>,
    /// Whether it is to be asked.
    due: bool,
    /// Whether it was asked, and there is still time to answer.
    waiting: bool,
    /// Whether nobody answered the last time.
    unanswered: bool,
}

impl Questions {
    /// Whether it was asked and nobody answered, the last time that there was time to.
    pub fn is_unanswered(&self, subject: Subject) -> bool {
        self.0.get(&subject).is_some_and(|q| q.unanswered)
    }

    /// Takes the answers from what was seen since the last questions went out.
    pub fn settle(&mut self, home: &Home, now: Duration) {
        self.0.retain(|subject, question| {
            let (known, failed, lost) = match *subject {
                Subject::Address(address) => (
                    home.sighting(address).is_some(),
                    home.has_failed(address),
                    !home.is_asked(address),
                ),
                Subject::Port(mac) => (home.port(mac).is_some(), false, false),
            };
            let over = question.asked.is_some_and(|asked| now >= asked + PATIENCE);
            if question.waiting && (failed || over) {
                question.waiting = false;
                question.unanswered = true;
            } else if question.waiting && lost {
                // The table forgot that it was asking, or what came of it.
                question.due = true;
            }
            !known
        });
    }

    /// What of all that is wanted is to be asked now; it counts as asked. What is wanted no longer is
    /// forgotten.
    pub fn take_due(&mut self, wanted: &BTreeSet<Subject>, now: Duration) -> Vec<Subject> {
        self.0.retain(|subject, _| wanted.contains(subject));
        for subject in wanted {
            self.0.entry(*subject).or_insert(Question {
                asked: None,
                due: true,
                waiting: false,
                unanswered: false,
            });
        }
        let waiting = self.0.values().filter(|q| q.waiting).count();
        let mut due: Vec<_> = self.0.iter_mut().filter(|(_, q)| q.due).collect();
        // What was never asked comes first, then what was asked longest ago.
        due.sort_unstable_by_key(|(subject, question)| (question.asked, **subject));
        let mut room = MOST_ASKED.saturating_sub(waiting);
        let mut taken = Vec::new();
        for (subject, question) in due {
            if !question.waiting {
                if room == 0 {
                    continue;
                }
                room -= 1;
                question.asked = Some(now);
                question.waiting = true;
            }
            question.due = false;
            taken.push(*subject);
        }
        taken
    }

    /// Lets everything be asked again. What nobody answered counts so until somebody does.
    pub fn ask_again(&mut self) {
        for question in self.0.values_mut() {
            question.due = true;
            question.waiting = false;
        }
    }

    /// When an answer is waited for no longer, on the boot-time clock.
    pub fn deadline(&self) -> Option<Duration> {
        let waiting = self.0.values().filter(|q| q.waiting);
        waiting
            .filter_map(|q| q.asked)
            .min()
            .map(|at| at + PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(100);

    fn address(number: u32) -> Subject {
        Subject::Address(IpAddr::V4((0x0a00_0000 + number).into()))
    }

    #[test]
    fn few_are_asked_at_a_time_and_all_in_the_end() {
        let wanted: BTreeSet<_> = (0..300).map(address).collect();
        let mut questions = Questions::default();
        let mut asked = BTreeSet::new();
        let mut now = START;
        for _ in 0..5 {
            let due = questions.take_due(&wanted, now);
            assert!(due.len() <= MOST_ASKED);
            assert!(questions.take_due(&wanted, now).is_empty());
            asked.extend(due);
            assert_eq!(questions.deadline(), Some(now + PATIENCE));
            now += PATIENCE;
            questions.settle(&Home::default(), now);
        }
        assert_eq!(asked, wanted);
        assert_eq!(questions.deadline(), None);
        assert!(
            wanted
                .iter()
                .all(|subject| questions.is_unanswered(*subject))
        );
    }

    #[test]
    fn what_is_asked_again_stays_unanswered_meanwhile() {
        let wanted = BTreeSet::from([address(1)]);
        let mut questions = Questions::default();
        assert_eq!(questions.take_due(&wanted, START).len(), 1);
        questions.settle(&Home::default(), START + PATIENCE);
        questions.ask_again();
        assert!(questions.is_unanswered(address(1)));
        assert_eq!(questions.take_due(&wanted, START + PATIENCE).len(), 1);
        assert!(questions.is_unanswered(address(1)));
        assert_eq!(questions.deadline(), Some(START + 2 * PATIENCE));
        questions.take_due(&BTreeSet::new(), START);
        assert!(!questions.is_unanswered(address(1)));
    }
}
