//! Says when something may have changed, and of what kind.

use std::fmt;
use std::io;
use std::ops::BitOrAssign;

use futures_util::FutureExt;
use netlink_packet_core::{NetlinkBuffer, Parseable};
use netlink_packet_route::neighbour::NeighbourMessage;
use nix::errno::Errno;
use nix::libc::{RTM_DELADDR, RTM_DELLINK, RTM_DELNEIGH, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWNEIGH};
use rtnetlink::MulticastGroup;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

use super::neighbours::{Known, Neighbours};
use super::{Error, Snapshot};

/// `NLMSG_HDRLEN` of `linux/netlink.h`.
const HEADER: usize = 16;
/// From `RTM_NEWQDISC` to `RTM_GETTFILTER`: qdiscs, classes, filters.
const TC: std::ops::RangeInclusive<u16> = 36..=46;

/// Of the longest message, what is looked at: an entry of the neighbour table is far shorter.
const BUFFER: usize = 512;

/// Which kinds of things may have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Links or addresses.
    pub links: bool,
    /// Neighbour tables, or where a bridge saw its stations.
    pub neighbours: bool,
    /// Qdiscs, classes or filters, by somebody else than the agent.
    pub queues: bool,
}

impl Changed {
    /// Events were lost.
    const ALL: Self = Self {
        links: true,
        neighbours: true,
        queues: true,
    };

    /// Whether it is worth looking at anything.
    pub fn any(self) -> bool {
        self.links || self.neighbours || self.queues
    }
}

impl BitOrAssign for Changed {
    fn bitor_assign(&mut self, other: Self) {
        self.links |= other.links;
        self.neighbours |= other.neighbours;
        self.queues |= other.queues;
    }
}

/// Says when links, addresses, neighbours or queues may have changed.
///
/// Of what the kernel tells, only the kind counts, so nothing is kept here; what is not yet read waits
/// in the socket's buffer, and when that is full the kernel says so, which is a change of everything.
/// Neighbours are the exception: their entries change their state all day long without any news in
/// it, so what a message says is compared with what was seen last.
pub struct Watch {
    socket: TokioSocket,
    /// The agent's own connection.
    own: u32,
    /// What was last seen of the neighbours; none: nobody wants to hear of them.
    known: Option<Known>,
    buffer: Vec<u8>,
}

impl Watch {
    /// Begins to listen, but not to neighbours: what changes from now on is not missed. `own` is the
    /// port id of the agent's own connection, whose changes of queues are no news. Must be called in a
    /// tokio runtime.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn new(own: u32) -> Result<Self, Error> {
        let open = || {
            let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
            socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
            let groups = [
                MulticastGroup::Link,
                MulticastGroup::Ipv4Ifaddr,
                MulticastGroup::Ipv6Ifaddr,
                MulticastGroup::Tc,
            ];
            for group in groups {
                socket.socket_mut().add_membership(group as u32)?;
            }
            Ok(socket)
        };
        Ok(Self {
            socket: open().map_err(Error::io("listening to link events"))?,
            own,
            known: None,
            buffer: Vec::with_capacity(BUFFER),
        })
    }

    /// Listens to neighbours, too. They are to be read after this, and [`know`](Self::know) told.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn follow_neighbours(&mut self) -> Result<(), Error> {
        if self.known.is_some() {
            return Ok(());
        }
        let joined = self
            .socket
            .socket_mut()
            .add_membership(MulticastGroup::Neigh as u32);
        joined.map_err(Error::io("listening to neighbour events"))?;
        self.known = Some(Known::default());
        Ok(())
    }

    /// Listens to neighbours no longer.
    pub fn ignore_neighbours(&mut self) {
        if self.known.take().is_none() {
            return;
        }
        let socket = self.socket.socket_mut();
        if let Err(error) = socket.drop_membership(MulticastGroup::Neigh as u32) {
            log::warn!("listening to neighbour events no longer: {error}");
        }
    }

    /// Whether neighbours are listened to.
    pub fn follows_neighbours(&self) -> bool {
        self.known.is_some()
    }

    /// What was seen of the neighbours: what says the same is no news.
    pub fn know(&mut self, neighbours: &Neighbours, snapshot: &Snapshot) {
        if let Some(known) = &mut self.known {
            *known = Known::new(neighbours, snapshot);
        }
    }

    /// Waits for the next change. However many have come since the last call, they are one. Safe
    /// to drop while it waits.
    ///
    /// # Errors
    ///
    /// The socket is broken.
    pub async fn changed(&mut self) -> Result<Changed, Error> {
        let mut changed = Changed::default();
        while !changed.any() {
            changed |= self.receive().await?;
            while let Some(received) = self.receive().now_or_never() {
                changed |= received?;
            }
        }
        Ok(changed)
    }

    async fn receive(&mut self) -> Result<Changed, Error> {
        self.buffer.clear();
        match self.socket.recv(&mut self.buffer).await {
            Ok(()) => Ok(self.kind(&self.buffer)),
            Err(error) if is_overrun(&error) => Ok(Changed::ALL),
            Err(error) => Err(Error::io("reading link events")(error)),
        }
    }

    /// What the beginning of a message speaks of.
    fn kind(&self, message: &[u8]) -> Changed {
        let mut changed = Changed::default();
        let Some((header, body)) = message.split_at_checked(HEADER) else {
            return changed;
        };
        let header = NetlinkBuffer::new(header);
        match header.message_type() {
            RTM_NEWLINK | RTM_DELLINK | RTM_NEWADDR | RTM_DELADDR => changed.links = true,
            kind @ (RTM_NEWNEIGH | RTM_DELNEIGH) => {
                changed.neighbours = self.known.as_ref().is_some_and(|known| {
                    // What cannot be read is looked at.
                    NeighbourMessage::parse(body).map_or(true, |message| {
                        known.is_news(&message, kind == RTM_DELNEIGH)
                    })
                });
            }
            kind if TC.contains(&kind) => changed.queues = header.port_number() != self.own,
            _ => {}
        }
        changed
    }
}

fn is_overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENOBUFS as i32)
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
