//! What the instructions in force ask for.

use std::collections::BTreeMap;
use std::time::Duration;

use qod_wire::{Link, QueueMode};

use crate::backend::RawInstructions;
use crate::config::Config;
use crate::flow::Match;
use crate::ruleset::{Held, Ruleset};
use crate::session::{self, Entry, Item, Session, Standing};

/// Longest time that reading the ruleset takes on a busy router.
const READING: Duration = Duration::from_secs(1);

/// Instructions with their sessions read, and the configuration's values where they have none.
pub(super) struct Instructed {
    pub(super) revision: u64,
    pub(super) items: Vec<Item>,
    /// What the items mean in the home, one for each.
    pub(super) entries: Vec<Entry>,
    pub(super) link: Link,
    pub(super) queues: QueueMode,
    /// What is wrong with sessions that have no usable id.
    pub(super) nameless: Option<String>,
}

impl Instructed {
    pub(super) fn read(raw: RawInstructions, read_at: Duration, config: &Config) -> Self {
        let (items, nameless) = session::read(&raw.sessions, read_at);
        if let Some(what) = &nameless {
            log::warn!("{what}");
        }
        let link = raw.link.unwrap_or_default();
        Self {
            revision: raw.revision,
            items,
            entries: Vec::new(),
            link: Link {
                upstream_kbps: link.upstream_kbps.or(config.link.upstream_kbps),
                downstream_kbps: link.downstream_kbps.or(config.link.downstream_kbps),
            },
            queues: raw.queues.unwrap_or(config.queues),
            nameless,
        }
    }

    /// Takes over the ends that the kernel holds where they come first. Within the tolerance an element in
    /// force is left alone, and when it ends its session has ended, not vanished.
    ///
    /// `remembered` are the elements as they were last read back.
    pub(super) fn adopt_ends(
        &mut self,
        held: &Ruleset,
        remembered: &BTreeMap<Match, Held>,
        now: Duration,
    ) {
        for (item, entry) in self.items.iter_mut().zip(&mut self.entries) {
            let Standing::Ready(session) = &mut entry.standing else {
                continue;
            };
            let Some(end) = session.ends.filter(|end| *end > now) else {
                continue;
            };
            let adopted = match held.remaining(session) {
                Some(remaining) => end.min(now + remaining),
                // Reading takes time, so the end was taken for a little later than it was.
                None if end - now < READING && was_held(remembered, session) => now,
                None => continue,
            };
            session.ends = Some(adopted);
            if let Ok(order) = &mut item.order {
                order.ends = session.ends;
            }
        }
    }

    /// When the next session ends after `now`, on the boot-time clock.
    pub(super) fn next_end(&self, now: Duration) -> Option<Duration> {
        let orders = self
            .items
            .iter()
            .filter_map(|item| item.order.as_ref().ok());
        let ends = orders.filter_map(|order| order.ends);
        ends.filter(|end| *end > now).min()
    }

    /// Whether a session may have ended by now, though its end is taken for later.
    pub(super) fn nears_an_end(&self, now: Duration) -> bool {
        self.next_end(now).is_some_and(|end| end - now < READING)
    }

    /// Whether there is anything to look for in the home.
    pub(super) fn has_orders(&self) -> bool {
        self.items.iter().any(|item| item.order.is_ok())
    }
}

fn was_held(remembered: &BTreeMap<Match, Held>, session: &Session) -> bool {
    session.matches.iter().any(|matches| {
        let element = remembered.get(matches);
        element.is_some_and(|element| element.session == session.id)
    })
}
