//! Queues on the device towards the internet, by tc over netlink.
//!
//! The whole desired state goes in ([`Shaper`]), one idempotent [`Queues::apply`] makes it so, and
//! what it returns ([`Root`]) was read back from the kernel. What is there already is left as it
//! is, so that its counters go on; a new rate changes it in place, without a gap.
//!
//! HTB gives each [`Queue`] a guaranteed share of the link and lends what is left by priority. A
//! packet is in the queue whose [`classid`](Queue::classid) is its `skb->priority`
//! (`htb_classify()` in `net/sched/sch_htb.c`): the marking table sets it at the device's egress
//! hook, and no tc filter is needed. Any other packet is in [`Queue::Standard`].
//!
//! **A link of unknown rate** gets the same tree at a rate that is never reached. Nothing is held
//! back then, and HTB serves the classes strictly by priority whenever the driver's own queue is
//! full. The `prio` qdisc would do the same, but is a package of its own (`kmod-sched-prio`), while HTB and
//! TBF are both in `kmod-sched-core`; and with it the class ids would depend on the kind.
//!
//! **Another program's root** is never touched: SQM users keep their SQM.

mod error;
mod htb;
mod leaf;
mod leftovers;
mod probe;
mod rate;
mod request;
mod stats;
mod tree;

use std::io;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use nix::errno::Errno;
use nix::libc::{RTM_DELQDISC, RTM_NEWQDISC, RTM_NEWTCLASS};
use qod_wire::QueueStatus;

pub use self::error::Error;
pub use self::probe::{Kind, Presence};
use self::request::{Dumped, Link};
use self::tree::{Change, Kinds, ROOT, Seen, SeenRoot, TC_H_ROOT, Tree};
use crate::dscp::Dscp;
use crate::netlink::Rtnetlink;

/// The major of the agent's handles, `71d:` as tc writes it.
const MAJOR: u32 = 0x71d;

/// How often a tree is brought up to date before another program is blamed.
const ROUNDS: usize = 4;

/// One of the four queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Queue {
    /// Telephony, signalling and network control: EF, VA, CS5 to CS7, NQB.
    Latency,
    /// Conferences and video: `AF4x`, CS4, `AF3x`, CS3.
    Video,
    /// Everything else.
    Standard,
    /// What may wait: CS1, LE.
    Background,
}

impl Queue {
    /// All of them, the first to be served first.
    pub const ALL: [Self; 4] = [Self::Latency, Self::Video, Self::Standard, Self::Background];

    /// The queue of a code point, by the service classes of RFC 4594 §2.3 (VA: RFC 5865, LE:
    /// RFC 8622, NQB: RFC 9956).
    pub const fn of(dscp: Dscp) -> Self {
        match dscp.value() {
            // CS5, VA, NQB, EF, CS6, CS7
            40 | 44 | 45 | 46 | 48 | 56 => Self::Latency,
            // CS3, AF31 to AF33, CS4, AF41 to AF43
            24 | 26 | 28 | 30 | 32 | 34 | 36 | 38 => Self::Video,
            // LE, CS1
            1 | 8 => Self::Background,
            _ => Self::Standard,
        }
    }

    /// The `skb->priority` that puts a packet into this queue: a tc class id, `71d:10` and so on.
    pub const fn classid(self) -> u32 {
        MAJOR << 16 | self.minor()
    }

    /// As the status reports it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Video => "video",
            Self::Standard => "standard",
            Self::Background => "background",
        }
    }

    const fn minor(self) -> u32 {
        match self {
            Self::Latency => 0x10,
            Self::Video => 0x20,
            Self::Standard => 0x30,
            Self::Background => 0x40,
        }
    }

    /// Hundredths of the link that are this queue's before any other may borrow them.
    const fn share(self) -> u8 {
        match self {
            Self::Latency => 25,
            Self::Video => 25,
            Self::Standard => 40,
            Self::Background => 10,
        }
    }
}

/// What is wanted on one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shaper {
    /// Linux device towards the internet.
    pub device: String,
    /// What the link carries upstream, in kbit/s. None (or 0): not known; packets are put in order
    /// and not held back.
    pub upstream_kbps: Option<u64>,
}

/// What a device's root is, as read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// The agent's.
    Ours {
        /// The rate it shapes to, in kbit/s. None: it only puts packets in order.
        upstream_kbps: Option<u64>,
        /// Kinds that this kernel does not have, and the queues do without.
        missing: Vec<Kind>,
    },
    /// Another program's; it was left alone.
    Foreign {
        /// Its kind, as tc names it.
        kind: String,
    },
    /// This kernel has no HTB: there is no queue.
    Unsupported,
}

/// The queues of this router's devices.
#[derive(Clone, Debug)]
pub struct Queues {
    rtnetlink: Rtnetlink,
    kinds: Kinds,
}

impl Queues {
    /// Speaks through this connection.
    pub fn new(rtnetlink: Rtnetlink) -> Self {
        Self {
            rtnetlink,
            kinds: Kinds::ALL,
        }
    }

    /// A kind that was missing may have come: the next call looks again.
    pub fn look_again(&mut self) {
        self.kinds = Kinds::ALL;
    }

    /// Makes a device's root what is wanted, unless it is another program's.
    ///
    /// # Errors
    ///
    /// [`Error::NoDevice`] where there is no such device. On any other error a root that was added
    /// by this call is taken away again.
    pub async fn apply(&mut self, wan: &Shaper) -> Result<Root, Error> {
        let device = wan.device.as_str();
        let link = self.link(device).await?;
        let upstream_kbps = wan.upstream_kbps.filter(|kbps| *kbps > 0);
        let tree = Tree::new(upstream_kbps, link.mtu);
        let mut added = false;
        for _ in 0..ROUNDS {
            let (qdiscs, classes) = self.dump(device, &link).await?;
            let seen = Seen::read(&qdiscs, &classes);
            if let SeenRoot::Foreign(kind) = seen.root {
                return Ok(Root::Foreign { kind });
            }
            let changes = tree.changes(&seen, self.kinds);
            if changes.is_empty() {
                return Ok(Root::Ours {
                    upstream_kbps,
                    missing: self.kinds.missing(),
                });
            }
            for change in changes {
                let Err(error) = self.send(&link, change).await else {
                    added |= change == Change::AddRoot;
                    continue;
                };
                match (change, errno(&error)) {
                    // An unknown kind (qdisc_create() in net/sched/sch_api.c). The kernel has
                    // tried to load the module before it says so.
                    (Change::AddRoot, Errno::ENOENT) => return Ok(Root::Unsupported),
                    (Change::Splitter { .. }, Errno::ENOENT) if self.kinds.splitter => {
                        self.kinds.splitter = false;
                    }
                    (Change::Fair { .. }, Errno::ENOENT) if self.kinds.fair => {
                        self.kinds.fair = false;
                    }
                    // Somebody else was faster, or took it away between: look again.
                    (Change::AddRoot, Errno::EEXIST) | (Change::RemoveRoot, Errno::ENOENT) => {}
                    _ => {
                        if added {
                            let undone = self.send(&link, Change::RemoveRoot).await;
                            undone.unwrap_or_else(|error| log::warn!("{device}: {error}"));
                        }
                        return Err(kernel("setting the queues", device)(error));
                    }
                }
                break;
            }
        }
        Err(Error::Unsettled {
            device: device.to_owned(),
        })
    }

    /// Takes the agent's root away, and the device has the kernel's default again. Nothing to take
    /// away is no error, nor is a device that is gone.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub async fn remove(&mut self, device: &str) -> Result<(), Error> {
        match self.link(device).await {
            Ok(link) => self.remove_where(device, |index| index == link.index).await,
            Err(Error::NoDevice { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes the agent's root away from every device that has one: also from those that no
    /// configuration names any more.
    ///
    /// # Errors
    ///
    /// The first refusal of the kernel.
    pub async fn remove_all(&mut self) -> Result<(), Error> {
        self.remove_where("all devices", |_| true).await
    }

    /// What is on the device now. None: nothing but the kernel's default.
    ///
    /// # Errors
    ///
    /// [`Error::NoDevice`] where there is no such device; the kernel's refusal.
    pub async fn status(&self, device: &str) -> Result<Option<QueueStatus>, Error> {
        let link = self.link(device).await?;
        let (qdiscs, classes) = self.dump(device, &link).await?;
        let status = |kind: &str, owner: &str, classes| QueueStatus {
            device: device.to_owned(),
            kind: kind.to_owned(),
            owner: owner.to_owned(),
            classes,
        };
        Ok(match Seen::read(&qdiscs, &classes).root {
            SeenRoot::Default => None,
            SeenRoot::Foreign(kind) => Some(status(&kind, "foreign", Vec::new())),
            SeenRoot::Ours { .. } => Some(status(
                htb::KIND,
                "qod-agent",
                stats::read(&qdiscs, &classes),
            )),
        })
    }

    async fn link(&self, device: &str) -> Result<Link, Error> {
        let link = request::link(&self.rtnetlink, device).await;
        link.map_err(kernel("looking up the index", device))?
            .ok_or_else(|| Error::NoDevice {
                device: device.to_owned(),
            })
    }

    /// The device's qdiscs and classes.
    async fn dump(&self, device: &str, link: &Link) -> Result<(Vec<Dumped>, Vec<Dumped>), Error> {
        let qdiscs = request::qdiscs(&self.rtnetlink).await;
        let mut qdiscs = qdiscs.map_err(kernel("reading the qdiscs", device))?;
        qdiscs.retain(|qdisc| qdisc.index == link.index);
        let classes = request::classes(&self.rtnetlink, link.index).await;
        Ok((
            qdiscs,
            classes.map_err(kernel("reading the classes", device))?,
        ))
    }

    async fn remove_where(
        &mut self,
        device: &str,
        chosen: impl Fn(i32) -> bool,
    ) -> Result<(), Error> {
        let qdiscs = request::qdiscs(&self.rtnetlink).await;
        for qdisc in qdiscs.map_err(kernel("reading the qdiscs", device))? {
            let index = qdisc.index;
            let ours = matches!(SeenRoot::of(&qdisc), Some(SeenRoot::Ours { .. }));
            if !ours || !chosen(index) {
                continue;
            }
            let removed = self.send(&Link { index, mtu: 0 }, Change::RemoveRoot).await;
            match removed {
                Err(error) if !matches!(errno(&error), Errno::ENOENT | Errno::ENODEV) => {
                    return Err(kernel("removing the queues", device)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn send(&mut self, link: &Link, change: Change) -> io::Result<()> {
        let message = |parent, handle, kind, options: &[_]| {
            request::message(link.index, parent, handle, kind, options)
        };
        let (order, flags, message) = match change {
            Change::RemoveRoot => (RTM_DELQDISC, 0, message(TC_H_ROOT, ROOT, htb::KIND, &[])),
            // Without NLM_F_REPLACE the kernel itself refuses to replace another program's root.
            Change::AddRoot => {
                let options = htb::root_options(Queue::Standard.minor());
                let message = message(TC_H_ROOT, ROOT, htb::KIND, &options);
                (RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, message)
            }
            Change::Class {
                parent,
                handle,
                class,
            } => {
                let message = message(parent, handle, htb::KIND, &class.options());
                (RTM_NEWTCLASS, NLM_F_CREATE, message)
            }
            Change::Splitter {
                parent,
                handle,
                leaf,
            } => {
                let message = message(parent, handle, leaf::SPLITTER, &leaf.splitter_options());
                (RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, message)
            }
            Change::Fair {
                parent,
                handle,
                leaf,
                new,
            } => {
                let message = message(parent, handle, leaf::FAIR, &leaf.fair_options(new));
                (RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, message)
            }
        };
        self.rtnetlink.order(order, flags, message).await
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

fn kernel(doing: &'static str, device: &str) -> impl FnOnce(io::Error) -> Error {
    let device = device.to_owned();
    move |error| Error::Kernel {
        doing,
        device,
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_point_has_the_queue_of_the_design() {
        let names = |queue| {
            let all = (0..64)
                .filter_map(Dscp::new)
                .filter(|dscp| Queue::of(*dscp) == queue);
            all.map(|dscp| dscp.to_string())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(names(Queue::Latency), "CS5 VA NQB EF CS6 CS7");
        assert_eq!(names(Queue::Video), "CS3 AF31 AF32 AF33 CS4 AF41 AF42 AF43");
        assert_eq!(names(Queue::Background), "LE CS1");
        assert_eq!(names(Queue::Standard).split(' ').count(), 64 - 6 - 8 - 2);
    }

    #[test]
    fn class_ids_are_tc_handles() {
        let ids = Queue::ALL.map(Queue::classid);
        assert_eq!(ids, [0x071d_0010, 0x071d_0020, 0x071d_0030, 0x071d_0040]);
        assert_eq!(
            Queue::ALL.map(Queue::name),
            ["latency", "video", "standard", "background"]
        );
    }
}
