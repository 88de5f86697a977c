//! The tree of qdiscs and classes on one device: what is wanted, what the kernel has, and the
//! changes between the two. No I/O.
//!
//! ```text
//! htb 71d:                       root; what has no class of its own goes to standard
//! └── 71d:1                      the link's rate
//!     ├── 71d:10 latency         tbf 7110: ── fq_codel 7210:
//!     ├── 71d:20 video           tbf 7120: ── fq_codel 7220:
//!     ├── 71d:30 standard        tbf 7130: ── fq_codel 7230:
//!     └── 71d:40 background      tbf 7140: ── fq_codel 7240:
//! ```

use super::htb::{self, Class};
use super::leaf::{FAIR, Leaf, SPLITTER};
use super::rate::Rate;
use super::request::Dumped;
use super::{Kind, MAJOR, Queue};

/// The root's handle, by which the agent knows its own.
pub(super) const ROOT: u32 = MAJOR << 16;
/// The class at the link's rate.
const LINK: u32 = ROOT | 1;
/// `TC_H_ROOT`: the parent of a device's root, and of an outermost class.
pub(super) const TC_H_ROOT: u32 = u32::MAX;

/// What the leaves of a link are made for whose rate is not known.
const UNKNOWN_LEAF: Rate = Rate::from_kbps(1_000_000);

/// Bytes of an Ethernet header, which HTB counts.
const ETHERNET: u64 = 14;
/// Bursts are this long, in microseconds of the rate, or one packet: with less, a fast link loses
/// rate to late timers; with more, the modem's queue fills.
const BURST_MICROS: u64 = 1_000;

/// Where the splitters' and the fair queues' handles begin; the queue's minor is added.
const SPLITTERS: u32 = 0x7100;
const FAIRS: u32 = 0x7200;

/// The kinds that this kernel turned out to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kinds {
    pub(super) splitter: bool,
    pub(super) fair: bool,
}

impl Kinds {
    pub(super) const ALL: Self = Self {
        splitter: true,
        fair: true,
    };

    /// Those that it does not have.
    pub(super) fn missing(self) -> Vec<Kind> {
        let all = [(self.splitter, Kind::Tbf), (self.fair, Kind::FqCodel)];
        let missing = all.into_iter().filter(|(there, _)| !there);
        missing.map(|(_, kind)| kind).collect()
    }
}

/// What a device's root is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SeenRoot {
    /// What the kernel puts there by itself: handle 0, or nothing while the device is down.
    Default,
    /// Another program's, of this kind.
    Foreign(String),
    /// The agent's, with this minor as its default class.
    Ours { default_minor: Option<u32> },
}

impl SeenRoot {
    /// Whose a dumped qdisc is; nothing if it is no root.
    pub(super) fn of(qdisc: &Dumped) -> Option<Self> {
        if qdisc.parent != TC_H_ROOT {
            return None;
        }
        Some(match qdisc.handle {
            0 => Self::Default,
            ROOT if qdisc.kind() == htb::KIND => Self::Ours {
                default_minor: htb::default_minor(qdisc),
            },
            _ => Self::Foreign(qdisc.kind().to_owned()),
        })
    }
}

/// What the kernel has on one device.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) root: SeenRoot,
    classes: Vec<(u32, Class)>,
    /// Parent, handle, kind.
    qdiscs: Vec<(u32, u32, String)>,
}

impl Seen {
    /// From the dumps of this device.
    pub(super) fn read(qdiscs: &[Dumped], classes: &[Dumped]) -> Self {
        let class = |message: &Dumped| {
            let handle = message.handle;
            let class = Class::read(message)?;
            Some((
                handle,
                if handle == LINK {
                    class.without_turns()
                } else {
                    class
                },
            ))
        };
        let qdisc = |message: &Dumped| (message.parent, message.handle, message.kind().to_owned());
        Self {
            root: qdiscs
                .iter()
                .find_map(SeenRoot::of)
                .unwrap_or(SeenRoot::Default),
            classes: classes.iter().filter_map(class).collect(),
            qdiscs: qdiscs.iter().map(qdisc).collect(),
        }
    }

    fn class(&self, handle: u32) -> Option<Class> {
        self.classes
            .iter()
            .find(|(seen, _)| *seen == handle)
            .map(|(_, class)| *class)
    }

    fn has(&self, parent: u32, handle: u32, kind: &str) -> bool {
        self.qdiscs
            .iter()
            .any(|seen| (seen.0, seen.1, seen.2.as_str()) == (parent, handle, kind))
    }
}

/// One request to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Deletes the agent's root with everything under it.
    RemoveRoot,
    /// Adds the root, unless somebody else was faster.
    AddRoot,
    /// Adds a class, or changes it in place.
    Class {
        parent: u32,
        handle: u32,
        class: Class,
    },
    /// Adds a splitter, or changes it in place.
    Splitter {
        parent: u32,
        handle: u32,
        leaf: Leaf,
    },
    /// Adds a fair queue (`new`), or changes it in place.
    Fair {
        parent: u32,
        handle: u32,
        leaf: Leaf,
        new: bool,
    },
}

/// What is wanted on one device.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    link: Class,
    queues: [(Queue, Class); 4],
    leaf: Leaf,
}

impl Tree {
    /// For a link of this rate (none: unknown) and MTU.
    pub(super) fn new(kbps: Option<u64>, mtu: u32) -> Self {
        // A class under its rate is served by priority alone: HTB does what the prio qdisc would.
        let rate = kbps.map_or(Rate::NEVER_REACHED, Rate::from_kbps);
        let packet = u64::from(mtu) + ETHERNET;
        let ticks = |rate: Rate| rate.ticks(rate.bytes_in(BURST_MICROS).max(packet));
        let class = |guaranteed: Rate, priority| Class {
            rate: guaranteed,
            ceil: rate,
            buffer: ticks(guaranteed),
            cbuffer: ticks(rate),
            quantum: u32::try_from(packet).unwrap_or(u32::MAX),
            priority,
        };
        let mut priority = 0;
        let queues = Queue::ALL.map(|queue| {
            let class = class(rate.percent(queue.share()), priority);
            priority += 1;
            (queue, class)
        });
        Self {
            link: class(rate, 0),
            queues,
            leaf: Leaf::new(kbps.map_or(UNKNOWN_LEAF, Rate::from_kbps), mtu),
        }
    }

    /// The requests that turn what is there into what is wanted, in order; none if it is so
    /// already. A rate changes in place: no packet is lost and the counters stay.
    pub(super) fn changes(&self, seen: &Seen, kinds: Kinds) -> Vec<Change> {
        let default_minor = Some(Queue::Standard.minor());
        let mut changes = Vec::new();
        let nothing = Seen {
            root: SeenRoot::Default,
            classes: Vec::new(),
            qdiscs: Vec::new(),
        };
        let seen = match &seen.root {
            SeenRoot::Ours {
                default_minor: there,
            } if *there == default_minor => seen,
            root => {
                // HTB's root takes no changes.
                if matches!(root, SeenRoot::Ours { .. }) {
                    changes.push(Change::RemoveRoot);
                }
                changes.push(Change::AddRoot);
                &nothing
            }
        };
        if seen.class(LINK) != Some(self.link.without_turns()) {
            changes.push(Change::Class {
                parent: TC_H_ROOT,
                handle: LINK,
                class: self.link,
            });
        }
        for (queue, class) in &self.queues {
            self.queue_changes(*queue, *class, seen, kinds, &mut changes);
        }
        changes
    }

    fn queue_changes(
        &self,
        queue: Queue,
        class: Class,
        seen: &Seen,
        kinds: Kinds,
        changes: &mut Vec<Change>,
    ) {
        let there = seen.class(queue.classid());
        let mut leaves = Vec::new();
        let splitter = (SPLITTERS + queue.minor()) << 16;
        let mut parent = queue.classid();
        // Dumps don't show all parameters of a leaf. But like those of its class they follow from
        // rate and MTU (the quantum), so a leaf is right if its class is, and is changed first.
        let same = there == Some(class);
        if kinds.splitter {
            if !same || !seen.has(parent, splitter, SPLITTER) {
                leaves.push(Change::Splitter {
                    parent,
                    handle: splitter,
                    leaf: self.leaf,
                });
            }
            parent = splitter | 1;
        }
        let handle = (FAIRS + queue.minor()) << 16;
        let new = !seen.has(parent, handle, FAIR);
        if kinds.fair && (!same || new) {
            leaves.push(Change::Fair {
                parent,
                handle,
                leaf: self.leaf,
                new,
            });
        }
        let class = (!same).then_some(Change::Class {
            parent: LINK,
            handle: queue.classid(),
            class,
        });
        if there.is_some() {
            changes.extend(leaves);
            changes.extend(class);
        } else {
            changes.extend(class);
            changes.extend(leaves);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Kinds = Kinds::ALL;
    const PLAIN: Kinds = Kinds {
        splitter: true,
        fair: false,
    };

    fn seen(root: SeenRoot) -> Seen {
        Seen {
            root,
            classes: Vec::new(),
            qdiscs: Vec::new(),
        }
    }

    /// What the kernel would show after these changes.
    fn after(changes: &[Change], mut seen: Seen) -> Seen {
        for change in changes {
            match *change {
                Change::RemoveRoot => seen = self::seen(SeenRoot::Default),
                Change::AddRoot => {
                    seen.root = SeenRoot::Ours {
                        default_minor: Some(Queue::Standard.minor()),
                    };
                }
                Change::Class { handle, class, .. } => {
                    let class = if handle == LINK {
                        class.without_turns()
                    } else {
                        class
                    };
                    seen.classes.retain(|(there, _)| *there != handle);
                    seen.classes.push((handle, class));
                }
                Change::Splitter { parent, handle, .. } => {
                    seen.qdiscs.push((parent, handle, SPLITTER.to_owned()));
                }
                Change::Fair { parent, handle, .. } => {
                    seen.qdiscs.push((parent, handle, FAIR.to_owned()));
                }
            }
        }
        seen
    }

    #[test]
    fn what_was_built_needs_no_change() {
        for kbps in [None, Some(1), Some(40_000), Some(100_000_000)] {
            for kinds in [
                ALL,
                PLAIN,
                Kinds {
                    splitter: false,
                    fair: true,
                },
            ] {
                let tree = Tree::new(kbps, 1500);
                let built = tree.changes(&seen(SeenRoot::Default), kinds);
                let there = after(&built, seen(SeenRoot::Default));
                assert_eq!(tree.changes(&there, kinds), [], "{kbps:?} {kinds:?}");
            }
        }
    }

    #[test]
    fn another_rate_or_mtu_changes_everything_in_place() {
        let tree = Tree::new(Some(40_000), 1500);
        let there = after(
            &tree.changes(&seen(SeenRoot::Default), ALL),
            seen(SeenRoot::Default),
        );
        for other in [Tree::new(Some(50_000), 1500), Tree::new(Some(40_000), 1492)] {
            let changes = other.changes(&there, ALL);
            let leaves = |change: &&Change| !matches!(change, Change::Class { .. });
            assert_eq!(changes.iter().filter(leaves).count(), 4 * 2);
            let added = |change: &Change| {
                matches!(change, Change::AddRoot | Change::RemoveRoot)
                    || matches!(change, Change::Fair { new: true, .. })
            };
            assert!(!changes.iter().any(added), "{changes:?}");
            assert_eq!(other.changes(&after(&changes, there.clone()), ALL), []);
        }
    }

    #[test]
    fn a_root_with_another_default_is_built_again() {
        let wrong = seen(SeenRoot::Ours {
            default_minor: Some(0x99),
        });
        let changes = Tree::new(None, 1500).changes(&wrong, ALL);
        assert_eq!(changes[..2], [Change::RemoveRoot, Change::AddRoot]);
    }

    #[test]
    fn a_missing_leaf_comes_back_alone() {
        let tree = Tree::new(Some(40_000), 1500);
        let mut there = after(
            &tree.changes(&seen(SeenRoot::Default), PLAIN),
            seen(SeenRoot::Default),
        );
        there
            .qdiscs
            .retain(|qdisc| qdisc.0 != Queue::Video.classid());
        let changes = tree.changes(&there, PLAIN);
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert!(matches!(changes[0], Change::Splitter { parent, .. } if parent == 0x71d_0020));
    }

    #[test]
    fn guarantees_fit_into_the_rate_and_latency_is_first() {
        for kbps in [Some(100), Some(40_000), None] {
            let tree = Tree::new(kbps, 1500);
            let rates = tree.queues.map(|(_, class)| class.rate);
            let sum: u8 = Queue::ALL.iter().map(|queue| queue.share()).sum();
            assert_eq!(sum, 100);
            assert!(rates.iter().all(|rate| *rate < tree.link.rate));
            assert_eq!(tree.queues.map(|(_, class)| class.priority), [0, 1, 2, 3]);
            assert!(
                tree.queues
                    .iter()
                    .all(|(_, class)| class.ceil == tree.link.rate)
            );
        }
    }

    #[test]
    fn bursts_are_a_millisecond_or_one_packet() {
        let slow = Tree::new(Some(5_000), 1500);
        assert_eq!(slow.link.cbuffer, Rate::from_kbps(5_000).ticks(1514));
        let fast = Tree::new(Some(1_000_000), 1500);
        assert_eq!(fast.link.cbuffer, 1_000_000 / 64);
        assert!(Tree::new(None, 68).link.cbuffer > 0);
    }
}
