//! The marks in the kernel: brought to what is wanted, read back, guarded.

use std::collections::{BTreeMap, HashSet};

use qod_wire::{QueueMode, Warning};

use super::Agent;
use super::report::states;
use crate::clock;
use crate::nft;
use crate::reconcile::{self, Outcome, Wanted};
use crate::ruleset::{Hook, Kernel, Ruleset};
use crate::session::{Entry, SessionId, Standing};

impl Agent {
    /// Begins to listen to what others do to the agent's tables, unless it does already.
    pub(super) fn listen(&mut self) {
        if self.monitor.is_some() {
            return;
        }
        match self.nft.monitor() {
            Ok(monitor) => {
                self.monitor = Some(monitor);
                // What happened before is no event.
                self.nft.suspect();
                self.pending.ruleset = true;
            }
            Err(error) => {
                let trouble = Warning::new("KERNEL", &error);
                // It is tried again and again.
                if self.troubles.ruleset.as_ref() != Some(&trouble) {
                    log::error!("listening to changes of nf_tables: {error}");
                }
                self.troubles.ruleset = Some(trouble);
            }
        }
    }

    /// Somebody else has changed a table of the agent's.
    pub(super) fn touched(&mut self, result: Result<(), nft::Error>) {
        log::debug!("somebody else has changed a table of this agent's");
        self.nft.suspect();
        self.pending.ruleset = true;
        if let Err(error) = result {
            log::error!("listening to changes of nf_tables: {error}");
            self.monitor = None;
            self.troubles.ruleset = Some(Warning::new("KERNEL", error));
        }
    }

    /// Brings the kernel to what is wanted and reads it back.
    pub(super) fn reconcile(&mut self) {
        self.looked = clock::now();
        let hooks = self.hooks();
        let trouble = match self.instructed.take() {
            Some(mut instructed) => {
                if instructed.nears_an_end(clock::now())
                    && let Ok(held) = self.nft.observe()
                {
                    instructed.adopt_ends(&held, &self.remembered, clock::now());
                }
                let result = self.bring(&instructed.entries, &hooks);
                let trouble = match result {
                    Ok((outcome, held)) => {
                        instructed.adopt_ends(&held, &self.remembered, clock::now());
                        let trouble = outcome.trouble().map(str::to_owned);
                        self.outcome = Some(outcome);
                        self.read_back(&held, &instructed.entries);
                        trouble
                    }
                    Err(error) => {
                        if error.is_absence() {
                            // That is an answer, too: every session hears it.
                            self.outcome = Some(Outcome::of_nothing(error.to_string()));
                            self.read_back(&Ruleset::default(), &instructed.entries);
                        }
                        Some(error.to_string())
                    }
                };
                self.instructed = Some(instructed);
                trouble
            }
            None => self.keep(),
        };
        let trouble = trouble.map(|trouble| Warning::new("KERNEL", trouble));
        if let Some(trouble) = &trouble
            && self.troubles.ruleset.as_ref() != Some(trouble)
        {
            log::error!("{}", trouble.message);
        }
        self.troubles.ruleset = trouble;
    }

    /// Until the backend has spoken, what an earlier run left stays in force, at the ports that are there.
    fn keep(&mut self) -> Option<String> {
        let held = match self.nft.observe() {
            Ok(held) => held,
            Err(error) => return Some(error.to_string()),
        };
        let ids: HashSet<&SessionId> = held.elements.values().map(|held| &held.session).collect();
        if ids.is_empty() {
            return None;
        }
        let entry = |id: &SessionId| Entry {
            id: id.clone(),
            standing: Standing::Probing,
        };
        let entries: Vec<Entry> = ids.into_iter().map(entry).collect();
        let mut hooks = self.hooks();
        // Whether there are to be queues is the backend's to say.
        hooks.retain(|hook, _| !matches!(hook, Hook::Out(_)) || held.hooks.contains_key(hook));
        match self.bring(&entries, &hooks) {
            Ok((outcome, held)) => {
                self.attached = !held.hooks.is_empty();
                self.remembered = held.elements;
                outcome.trouble().map(str::to_owned)
            }
            Err(error) => Some(error.to_string()),
        }
    }

    fn bring(
        &mut self,
        entries: &[Entry],
        hooks: &BTreeMap<Hook, u32>,
    ) -> Result<(Outcome, Ruleset), nft::Error> {
        let wanted = Wanted {
            entries,
            hooks,
            max_sessions: self.config.max_sessions,
            remembered: &self.remembered,
        };
        reconcile::reconcile(&mut self.nft, &wanted, clock::now)
    }

    /// Reads the kernel again: counters move by themselves.
    pub(super) fn refresh(&mut self) {
        let Some(mut instructed) = self.instructed.take() else {
            return;
        };
        match self.nft.observe() {
            Ok(held) => {
                instructed.adopt_ends(&held, &self.remembered, clock::now());
                self.read_back(&held, &instructed.entries);
                // Whoever asked has seen it; the backend is to know it too.
                self.pending.report |= self.reported != states(&self.sessions);
            }
            Err(error) => self.troubles.ruleset = Some(Warning::new("KERNEL", error)),
        }
        self.instructed = Some(instructed);
    }

    /// Takes over what the kernel holds.
    fn read_back(&mut self, held: &Ruleset, entries: &[Entry]) {
        let Some(outcome) = &self.outcome else {
            return;
        };
        self.sessions = outcome.sessions(held, entries, self.config.max_sessions, clock::now());
        self.attached = !held.hooks.is_empty();
        let ids: HashSet<&SessionId> = entries.iter().map(|entry| &entry.id).collect();
        self.remembered
            .retain(|_, element| ids.contains(&element.session));
        let elements = held.elements.iter();
        self.remembered
            .extend(elements.map(|(matches, element)| (*matches, element.clone())));
    }

    /// Where packets are to meet the table: both sides of every LAN port, and the WAN's egress where
    /// there are queues; with the index of each device.
    fn hooks(&self) -> BTreeMap<Hook, u32> {
        let mut hooks = BTreeMap::new();
        for port in &self.snapshot.ports {
            hooks.insert(Hook::Up(port.name.clone()), port.index);
            hooks.insert(Hook::Down(port.name.clone()), port.index);
        }
        if let (Some(wan), QueueMode::Auto) = (&self.snapshot.wan, self.queue_mode()) {
            hooks.insert(Hook::Out(wan.name.clone()), wan.index);
        }
        hooks
    }
}
