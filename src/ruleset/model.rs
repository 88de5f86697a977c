//! The kernel's part in memory, for tests of pure logic: what a ruleset is after changes.

use super::{Changes, Held, Layout, Ruleset};

impl Ruleset {
    /// Makes the changes as the kernel would, which refuses what contradicts what is there.
    pub(crate) fn change(&mut self, changes: &Changes) {
        if changes.clear {
            *self = Self::default();
            return;
        }
        if changes.replace {
            *self = Self {
                twin: self.twin,
                ..Self::default()
            };
        }
        assert_eq!(changes.create, self.layout == Layout::Absent);
        self.layout = Layout::Current;
        self.twin &= !changes.remove_twin;
        self.dscps.extend(&changes.add_dscps);
        self.limits.extend(changes.add_limits.iter().cloned());
        for (matches, session) in &changes.delete {
            let gone = self.elements.remove(matches).expect("nothing to remove");
            assert_eq!(gone.session, *session);
        }
        for element in &changes.update {
            let held = self.elements.get_mut(&element.matches);
            let held = held.expect("nothing whose end could move");
            assert_eq!(held.session, element.session);
            assert_eq!(held.treatment, Some(element.treatment));
            held.remaining = element.timeout;
        }
        for element in &changes.add {
            assert!(self.dscps.contains(&element.treatment.dscp));
            let held = Held {
                session: element.session.clone(),
                treatment: Some(element.treatment),
                remaining: element.timeout,
                counters: element.counters,
            };
            let there = self.elements.insert(element.matches, held);
            assert!(there.is_none(), "{element:?} is there already");
        }
        self.devices.extend(&changes.add_devices);
        self.devices
            .retain(|device| !changes.delete_devices.contains(device));
        for hook in &changes.delete_hooks {
            assert!(self.hooks.remove(hook).is_some());
        }
        for (hook, index) in &changes.add_hooks {
            assert!(self.hooks.insert(hook.clone(), Some(*index)).is_none());
        }
        self.limits
            .retain(|limit| !changes.delete_limits.contains(limit));
    }
}
