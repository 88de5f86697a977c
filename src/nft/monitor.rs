//! Tells when somebody else changes what is the agent's.

use std::fmt;

use nix::errno::Errno;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

use super::socket::{GENERIC, Messages};
use super::{Error, FAMILY, Table};

/// `NFNLGRP_NFTABLES` of `linux/netfilter/nfnetlink.h`.
const GROUP: u32 = 7;
/// Longest event that is looked at; what is longer is taken for one that matters.
const LONGEST: usize = 16 * 1024;

/// Listens to the changes of nf_tables, and tells of those that concern the agent's tables and are not its
/// own.
pub struct Monitor {
    socket: TokioSocket,
    /// The port from which the agent's own changes come.
    own: u32,
    buffer: Vec<u8>,
}

impl Monitor {
    pub(super) fn open(own: u32) -> Result<Self, Error> {
        let open = || {
            let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
            socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
            socket.socket_mut().add_membership(GROUP)?;
            Ok(socket)
        };
        let socket = open().map_err(|error: std::io::Error| {
            Error::Open(Errno::from_raw(error.raw_os_error().unwrap_or(0)))
        })?;
        Ok(Self {
            socket,
            own,
            buffer: Vec::with_capacity(LONGEST),
        })
    }

    /// Waits until somebody else has changed one of the agent's tables, or may have. Safe to drop while it
    /// waits.
    ///
    /// # Errors
    /// The socket is broken.
    pub async fn changed(&mut self) -> Result<(), Error> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer).await {
                Ok(()) if concerns(&self.buffer, self.own) => return Ok(()),
                Ok(()) => {}
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    // Some were lost.
                    Some(Errno::ENOBUFS) => return Ok(()),
                    errno => return Err(Error::Receive(errno.unwrap_or(Errno::UnknownErrno))),
                },
            }
        }
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").finish_non_exhaustive()
    }
}

/// Whether one of these events is of the agent's tables, and not caused by itself.
fn concerns(datagram: &[u8], own: u32) -> bool {
    let foreign = Messages(datagram).filter(|message| match message {
        Ok(message) => message.port != own,
        // Cut off: what it says is not known.
        Err(_) => true,
    });
    foreign.into_iter().any(|message| {
        let Ok(message) = message else { return true };
        let family = message.payload.first();
        family == Some(&(FAMILY as u8)) && names_ours(message.payload)
    })
}

/// `NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`, `NFTA_RULE_TABLE`, `NFTA_SET_TABLE` and
/// `NFTA_SET_ELEM_LIST_TABLE` are all attribute 1.
fn names_ours(payload: &[u8]) -> bool {
    let attributes = payload.get(GENERIC..).unwrap_or_default();
    let table = super::socket::attributes(attributes)
        .filter_map(Result::ok)
        .find(|(kind, _)| *kind == 1);
    let Some((_, name)) = table else {
        return false;
    };
    [Table::Main, Table::Twin]
        .iter()
        .any(|table| name.strip_suffix(&[0]) == Some(table.name().as_bytes()))
}
