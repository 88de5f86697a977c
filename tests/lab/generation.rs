//! When nf_tables changes: the kernel's own word, heard beside whoever changes it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::netns::Netns;

/// `NFNLGRP_NFTABLES`, as a bit of the groups that a socket is bound to.
const GROUP: u32 = 1 << 6;
/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN`: the last event of a transaction.
const NEW_GENERATION: u16 = 10 << 8 | 15;

/// Hears of every transaction in one namespace.
pub struct Generations(OwnedFd);

impl Generations {
    pub fn listen(netns: &Netns) -> Self {
        netns.run(|| {
            let fd = socket(
                AddressFamily::Netlink,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::NetlinkNetFilter,
            )
            .unwrap();
            setsockopt(&fd, sockopt::RcvBufForce, &(8 << 20)).unwrap();
            bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUP)).unwrap();
            Self(fd)
        })
    }

    /// Waits for the end of the next transaction.
    pub fn next(&self, limit: Duration) -> Instant {
        let limit = TimeVal::new(limit.as_secs() as i64, 0);
        setsockopt(&self.0, sockopt::ReceiveTimeout, &limit).unwrap();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
            let now = Instant::now();
            let mut rest = &buffer[..length];
            while rest.len() >= 16 {
                let size = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
                if u16::from_ne_bytes([rest[4], rest[5]]) == NEW_GENERATION {
                    return now;
                }
                rest = rest
                    .get(size.max(16).next_multiple_of(4)..)
                    .unwrap_or_default();
            }
        }
    }
}
