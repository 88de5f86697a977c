//! What the instructions in force ask for.

use std::time::Duration;

use qod_wire::{Link, QueueMode};

use crate::backend::RawInstructions;
use crate::config::Config;
use crate::ruleset::Ruleset;
use crate::session::{self, Entry, Item, Standing};

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
    pub(super) fn adopt_ends(&mut self, held: &Ruleset, now: Duration) {
        for (item, entry) in self.items.iter_mut().zip(&mut self.entries) {
            let Standing::Ready(session) = &mut entry.standing else {
                continue;
            };
            let Some(end) = session.ends.filter(|end| *end > now) else {
                continue;
            };
            if let Some(remaining) = held.remaining(session) {
                session.ends = Some(end.min(now + remaining));
                if let Ok(order) = &mut item.order {
                    order.ends = session.ends;
                }
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

    /// Whether there is anything to look for in the home.
    pub(super) fn has_orders(&self) -> bool {
        self.items.iter().any(|item| item.order.is_ok())
    }
}
