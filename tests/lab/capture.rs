//! What passes a device, read by a packet socket outside of the agent.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType,
    recvmsg, setsockopt, socket, sockopt,
};

use super::netns::Netns;
use super::packet::{Packet, Way};
use super::wait;

/// `PACKET_OUTGOING` of `linux/if_packet.h`.
const OUTGOING: u8 = 4;

#[derive(Default)]
struct Seen {
    packets: Mutex<Vec<Packet>>,
    grown: Condvar,
    stop: AtomicBool,
}

/// Captures on one device until it is dropped.
pub struct Capture {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
    name: String,
}

impl Capture {
    /// What passes after this returns is captured.
    pub fn start(netns: &Netns, device: &str) -> Self {
        let (socket, index) = netns.run(|| {
            let socket = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
                SockProtocol::EthAll,
            )
            .unwrap();
            setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20)).unwrap();
            setsockopt(&socket, sockopt::ReceiveTimestampns, &true).unwrap();
            (socket, if_nametoindex(device).unwrap())
        });
        let seen = Arc::new(Seen::default());
        let theirs = Arc::clone(&seen);
        let thread = std::thread::spawn(move || read(&socket, index as usize, &theirs));
        Self {
            seen,
            thread: Some(thread),
            name: format!("{}/{device}", netns.name()),
        }
    }

    /// Everything so far.
    pub fn packets(&self) -> Vec<Packet> {
        self.seen.packets.lock().unwrap().clone()
    }

    pub fn clear(&self) {
        self.seen.packets.lock().unwrap().clear();
    }

    /// The first packet for which `wanted` holds, seen already or within `limit`.
    pub fn wait_for(
        &self,
        limit: Duration,
        mut wanted: impl FnMut(&Packet) -> bool,
    ) -> Option<Packet> {
        let end = Instant::now() + wait::patient(limit);
        let mut packets = self.seen.packets.lock().unwrap();
        let mut looked_at = 0;
        loop {
            let new = packets.get(looked_at..).unwrap_or_default();
            if let Some(packet) = new.iter().find(|packet| wanted(packet)) {
                return Some(packet.clone());
            }
            looked_at = packets.len();
            let left = end.checked_duration_since(Instant::now())?;
            packets = self.seen.grown.wait_timeout(packets, left).unwrap().0;
        }
    }

    /// As [`Capture::wait_for`], and panics with all that was seen instead.
    pub fn expect(&self, what: &str, wanted: impl FnMut(&Packet) -> bool) -> Packet {
        self.wait_for(Duration::from_secs(2), wanted)
            .unwrap_or_else(|| {
                let all: Vec<_> = self.packets().iter().map(ToString::to_string).collect();
                panic!(
                    "{what}: not seen on {}, but:\n{}",
                    self.name,
                    all.join("\n")
                )
            })
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read(socket: &OwnedFd, index: usize, seen: &Seen) {
    let mut frame = vec![0; 1 << 16];
    while !seen.stop.load(Ordering::Relaxed) {
        let mut wait = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut wait, PollTimeout::from(20_u8));
        while let Some((from, time, length)) = receive(socket, &mut frame) {
            // The socket is not bound to a device, so it sees the others too.
            if from.ifindex() != index {
                continue;
            }
            let way = if from.pkttype() == OUTGOING {
                Way::Out
            } else {
                Way::In
            };
            if let Some(packet) = Packet::parse(&frame[..length], way, time) {
                seen.packets.lock().unwrap().push(packet);
                seen.grown.notify_all();
            }
        }
    }
}

fn receive(socket: &OwnedFd, frame: &mut [u8]) -> Option<(LinkAddr, Duration, usize)> {
    let mut space = nix::cmsg_space!(nix::sys::time::TimeSpec);
    let mut slices = [IoSliceMut::new(frame)];
    let message = match recvmsg::<LinkAddr>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut space),
        MsgFlags::empty(),
    ) {
        Ok(message) => message,
        Err(Errno::EAGAIN | Errno::EINTR) => return None,
        Err(e) => panic!("packet socket: {e}"),
    };
    let time = message.cmsgs().unwrap().find_map(|part| match part {
        ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
        _ => None,
    });
    Some((message.address?, time.unwrap(), message.bytes))
}
