//! Qdiscs and classes over rtnetlink (`struct tcmsg`, `linux/rtnetlink.h`).

use std::io;

use nix::errno::Errno;
use nix::libc::{
    IFLA_IFNAME, RTM_GETLINK, RTM_GETQDISC, RTM_GETTCLASS, TCA_KIND, TCA_OPTIONS, TCA_STATS2,
};

use super::errno;
use crate::netlink::{
    Attribute, Device, Rtnetlink, attribute, device_body, name, nest, text, with, word,
};

/// `sizeof(struct tcmsg)`
const FIXED: usize = 20;
/// Where its numbers are.
const INDEX: usize = 4;
const HANDLE: usize = 8;
const PARENT: usize = 12;

/// A network device, as far as queues need it.
pub(super) struct Link {
    pub(super) index: i32,
    pub(super) mtu: u32,
}

/// Finds a device by name; none of that name is `Ok(None)`.
pub(super) async fn link(rtnetlink: &Rtnetlink, name: &str) -> io::Result<Option<Link>> {
    let body = device_body(0, &[text(IFLA_IFNAME, name)]);
    let answer = match rtnetlink.get(RTM_GETLINK, body).await {
        Err(error) if errno(&error) == Errno::ENODEV => return Ok(None),
        answer => answer?,
    };
    let device = Device::read(&answer)
        .ok_or_else(|| io::Error::other("the kernel's answer cannot be read"))?;
    Ok(Some(Link {
        index: i32::try_from(device.index).map_err(io::Error::other)?,
        mtu: device.mtu.unwrap_or(1500),
    }))
}

/// A message for one qdisc or class. `parent` and `handle` are tc handles, major in the upper
/// sixteen bits.
pub(super) fn message(
    index: i32,
    parent: u32,
    handle: u32,
    kind: &str,
    options: &[Attribute],
) -> Vec<u8> {
    let words = [0, index.cast_unsigned(), handle, parent, 0];
    let fixed = words.into_iter().flat_map(u32::to_ne_bytes).collect();
    let mut attributes = vec![text(TCA_KIND, kind)];
    if !options.is_empty() {
        attributes.push(nest(TCA_OPTIONS, options));
    }
    with(fixed, &attributes)
}

/// Every qdisc of every device: the kernel cannot filter this dump.
pub(super) async fn qdiscs(rtnetlink: &Rtnetlink) -> io::Result<Vec<Dumped>> {
    let bodies = rtnetlink.dump(RTM_GETQDISC, vec![0; FIXED]).await?;
    Ok(bodies.into_iter().filter_map(Dumped::read).collect())
}

/// Every class of one device.
pub(super) async fn classes(rtnetlink: &Rtnetlink, index: i32) -> io::Result<Vec<Dumped>> {
    let words = [0, index.cast_unsigned(), 0, 0, 0];
    let fixed = words.into_iter().flat_map(u32::to_ne_bytes).collect();
    let bodies = rtnetlink.dump(RTM_GETTCLASS, fixed).await?;
    Ok(bodies.into_iter().filter_map(Dumped::read).collect())
}

/// A qdisc or a class, as the kernel shows it.
#[derive(Debug)]
pub(super) struct Dumped {
    pub(super) index: i32,
    pub(super) parent: u32,
    pub(super) handle: u32,
    body: Vec<u8>,
}

impl Dumped {
    pub(super) fn read(body: Vec<u8>) -> Option<Self> {
        body.get(..FIXED)?;
        Some(Self {
            index: word(&body, INDEX)?.cast_signed(),
            parent: word(&body, PARENT)?,
            handle: word(&body, HANDLE)?,
            body,
        })
    }

    /// Its kind, as tc names it.
    pub(super) fn kind(&self) -> &str {
        self.attribute(TCA_KIND).and_then(name).unwrap_or_default()
    }

    /// The value of one of its options, in the kind's own numbering (`TCA_HTB_…`, `TCA_TBF_…`).
    pub(super) fn option(&self, number: u16) -> Option<&[u8]> {
        attribute(self.attribute(TCA_OPTIONS)?, number)
    }

    /// One of its counters (`TCA_STATS_…`).
    pub(super) fn counter(&self, number: u16) -> Option<&[u8]> {
        attribute(self.attribute(TCA_STATS2)?, number)
    }

    fn attribute(&self, kind: u16) -> Option<&[u8]> {
        attribute(self.body.get(FIXED..)?, kind)
    }
}
