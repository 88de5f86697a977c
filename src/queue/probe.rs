//! Tries which kinds of queues this kernel has, on the loopback device of the calling thread's network
//! namespace: for a namespace that was made for it.

use std::io;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use nix::errno::Errno;
use nix::libc::{
    IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINKINFO, RTM_DELLINK, RTM_DELQDISC, RTM_NEWLINK,
    RTM_NEWQDISC,
};

use super::leaf::{FAIR, Leaf, SPLITTER};
use super::rate::Rate;
use super::tree::{ROOT, TC_H_ROOT};
use super::{Queue, Queues, errno, htb, request};
use crate::netlink::{Attribute, device_body, nest, text};

/// Index of the loopback device: the first of every namespace (`loopback_net_init()`).
const LOOPBACK: i32 = 1;
const MTU: u32 = 1500;
/// `TC_H_INGRESS` of `linux/pkt_sched.h`, and the handle that it always has.
const TC_H_INGRESS: u32 = 0xffff_fff1;
const INGRESS_HANDLE: u32 = 0xffff_0000;

/// What may be needed for queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Shares the link among classes.
    Htb,
    /// Cuts GSO packets.
    Tbf,
    /// Keeps flows apart.
    FqCodel,
    /// Shapes, cuts and keeps flows apart.
    Cake,
    /// The device on which downstream packets can wait.
    Ifb,
    /// Where downstream packets are sent there.
    Ingress,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Htb,
        Self::Tbf,
        Self::FqCodel,
        Self::Cake,
        Self::Ifb,
        Self::Ingress,
    ];

    /// What to do where it is missing, and what it costs until then.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Htb => {
                "install kmod-sched-core; without it sessions are marked and have no queue"
            }
            Self::Tbf => {
                "install kmod-sched-core; without it large packets are not cut before the modem"
            }
            Self::FqCodel => {
                "part of OpenWrt's kernel, elsewhere module sch_fq_codel; without it each queue is a FIFO"
            }
            Self::Cake => "kmod-sched-cake; not needed, HTB shapes",
            Self::Ifb => "kmod-ifb; not needed, downstream packets are not shaped",
            Self::Ingress => "kmod-sched-core; not needed, downstream packets are not shaped",
        }
    }

    /// Whether the agent's queues are made of it.
    pub fn is_used(self) -> bool {
        matches!(self, Self::Htb | Self::Tbf | Self::FqCodel)
    }

    /// As people call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Htb => "HTB",
            Self::Tbf => "TBF",
            Self::FqCodel => "fq_codel",
            Self::Cake => "CAKE",
            Self::Ifb => "IFB",
            Self::Ingress => "ingress qdisc",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Htb => htb::KIND,
            Self::Tbf => SPLITTER,
            Self::FqCodel => FAIR,
            Self::Cake => "cake",
            Self::Ifb => "ifb",
            Self::Ingress => "ingress",
        }
    }

    fn options(self) -> Vec<Attribute> {
        let leaf = Leaf::new(Rate::from_kbps(10_000), MTU);
        match self {
            Self::Htb => htb::root_options(Queue::Standard.minor()),
            Self::Tbf => leaf.splitter_options(),
            Self::FqCodel => leaf.fair_options(true),
            Self::Cake | Self::Ifb | Self::Ingress => Vec::new(),
        }
    }
}

/// Whether the kernel has a kind.
#[derive(Debug)]
pub enum Presence {
    /// It was made, and removed again.
    There,
    /// The kernel does not know it.
    Unknown,
    /// The kernel refused it for another reason.
    Refused(io::Error),
}

impl Queues {
    /// Makes one of this kind and removes it again.
    pub async fn probe(&mut self, kind: Kind) -> Presence {
        let made = match kind {
            Kind::Ifb => self.probe_device(kind.name()).await,
            _ => self.probe_qdisc(kind).await,
        };
        match made {
            Ok(()) => Presence::There,
            Err(error) => match (kind, errno(&error)) {
                // rtnl_newlink() and qdisc_create(), after they have tried to load the module.
                (Kind::Ifb, Errno::EOPNOTSUPP) | (_, Errno::ENOENT) => Presence::Unknown,
                _ => Presence::Refused(error),
            },
        }
    }

    async fn probe_qdisc(&mut self, kind: Kind) -> io::Result<()> {
        let (parent, handle) = match kind {
            Kind::Ingress => (TC_H_INGRESS, INGRESS_HANDLE),
            _ => (TC_H_ROOT, ROOT),
        };
        let message = |options: &[Attribute]| {
            request::message(LOOPBACK, parent, handle, kind.name(), options)
        };
        let (new, options) = (NLM_F_CREATE | NLM_F_EXCL, kind.options());
        let rtnetlink = &self.rtnetlink;
        rtnetlink
            .order(RTM_NEWQDISC, new, message(&options))
            .await?;
        rtnetlink.order(RTM_DELQDISC, 0, message(&[])).await
    }

    async fn probe_device(&mut self, name: &str) -> io::Result<()> {
        let kind = nest(IFLA_LINKINFO, &[text(IFLA_INFO_KIND, name)]);
        let device = device_body(0, &[text(IFLA_IFNAME, name), kind]);
        let new = NLM_F_CREATE | NLM_F_EXCL;
        self.rtnetlink.order(RTM_NEWLINK, new, device).await?;
        match request::link(&self.rtnetlink, name).await? {
            Some(link) => {
                let device = device_body(link.index.cast_unsigned(), &[]);
                self.rtnetlink.order(RTM_DELLINK, 0, device).await
            }
            None => Ok(()),
        }
    }
}
