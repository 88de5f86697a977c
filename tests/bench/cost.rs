//! Processor time that a router spends on a packet.
//!
//! Sender and router share one processor: the sender's system call carries each packet through bridge,
//! NAT and the WAN device until it is dropped at the far end, so the sending thread's processor time is
//! the whole way's. What the sender alone costs is measured beside it, by a home whose router drops
//! everything at its port, and taken off. Other programs on the machine do not count, as they would if
//! packets were counted by the clock: a rate is what one processor forwards if it does nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{setsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use super::lab::netns::Netns;
use super::lab::prompt::prompt_here;
use super::lab::send;

const PROCESSOR: usize = 1;
/// Packets per system call, which the kernel cuts apart at the sender's device.
const BATCH: usize = 64;
/// 18 bytes of payload make the smallest Ethernet frame.
const PAYLOAD: usize = 18;
/// About as long as a processor works without looking at something else.
const BATCHES: usize = 20;
/// Until the caches hold this home's and no other's.
const WARM_UP: usize = 5;

/// Makes the calling thread one that [`per_packet`] may be called from.
pub fn prepare_here() {
    prompt_here();
    let mut set = CpuSet::new();
    set.set(PROCESSOR).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

/// Moves to a namespace, sends a flow, and returns the processor time per packet, in seconds. Every
/// packet must arrive, at a device of `receiver` if there is one.
pub fn per_packet(
    sender: &Netns,
    from: SocketAddr,
    to: SocketAddr,
    receiver: Option<(&Netns, &str)>,
) -> f64 {
    let arrived = || receiver.map_or(0, |(netns, device)| netns.received(device));
    let before = arrived();
    sender.enter();
    let socket = send::udp_socket(from, 0);
    socket.connect(to).unwrap();
    setsockopt(&socket, sockopt::UdpGsoSegment, &(PAYLOAD as i32)).unwrap();
    let payload = [0; PAYLOAD * BATCH];
    let flood = |batches| {
        for _ in 0..batches {
            socket.send(&payload).unwrap();
        }
    };
    flood(WARM_UP);
    let start = processor_time();
    flood(BATCHES);
    let time = processor_time() - start;
    if receiver.is_some() {
        let (arrived, sent) = (arrived() - before, (BATCH * (BATCHES + WARM_UP)) as u64);
        // Other packets of the home may be among them.
        assert!(arrived >= sent, "{arrived} of {sent} packets arrived");
    }
    time.as_secs_f64() / (BATCH * BATCHES) as f64
}

/// Of the calling thread.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .unwrap()
        .into()
}
