//! Small packets as fast as they go, and how many a router forwards.
//!
//! The sender hands 64 packets at a time to its kernel, which must cut them apart before they reach
//! the router: call [`super::Home::without_segmentation_offload`] first.
//!
//! The sender runs on one processor and the router's work is steered to another (receive packet
//! steering), so that the router and not the sender is what is measured, as long as the sender is
//! faster. Packets are counted where they arrive and dropped there before they cost anything.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;

use super::netns::{Netns, received_here};
use super::send;

/// Packets per system call, which the kernel cuts apart at the sender's device.
const BATCH: usize = 64;
/// 18 bytes of payload make the smallest Ethernet frame.
const PAYLOAD: usize = 18;

/// One flow of the smallest packets.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    pub from: SocketAddr,
    pub to: SocketAddr,
    /// The processor on which it sends.
    pub cpu: usize,
}

/// How the sender fared.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Packets per second.
    pub rate: f64,
    /// Share of the time in which the way was full. Near zero, the sender itself was the limit, and
    /// the rate says nothing about the router.
    pub held: f64,
}

impl Flood {
    /// Sends from the calling thread's namespace.
    pub fn send_here(&self, time: Duration) -> Sent {
        let mut set = CpuSet::new();
        set.set(self.cpu).unwrap();
        sched_setaffinity(Pid::from_raw(0), &set).unwrap();
        let socket = send::udp_socket(self.from, 0);
        socket.connect(self.to).unwrap();
        setsockopt(&socket, sockopt::UdpGsoSegment, &(PAYLOAD as i32)).unwrap();
        // Room for some 680 packets: less than a processor's backlog (1,000), so none is lost, and
        // enough for the time in which the sender wakes up.
        setsockopt(&socket, sockopt::SndBufForce, &(256 << 10)).unwrap();
        let payload = [0; PAYLOAD * BATCH];
        let start = Instant::now();
        let (mut sent, mut held) = (0, Duration::ZERO);
        while start.elapsed() < time {
            let before = Instant::now();
            // Waiting is sleeping: the router's processor may share a core with this one.
            let mut wait = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
            poll(&mut wait, PollTimeout::from(100_u8)).unwrap();
            held += before.elapsed();
            // An ICMP error is for packets that had arrived.
            sent += socket.send(&payload).map_or(0, |_| BATCH);
        }
        Sent {
            rate: sent as f64 / start.elapsed().as_secs_f64(),
            held: held.as_secs_f64() / start.elapsed().as_secs_f64(),
        }
    }

    /// Floods from one namespace and counts on a device of another: what was sent, and packets per
    /// second that arrived.
    pub fn rate(&self, from: &Netns, to: &Netns, device: &str, time: Duration) -> (Sent, f64) {
        thread::scope(|scope| {
            let sender = scope.spawn(|| {
                from.enter();
                // Before and after what is counted there is some more.
                self.send_here(time + Duration::from_millis(100))
            });
            thread::sleep(Duration::from_millis(50));
            let arrived = to.run(|| count_here(device, time));
            (sender.join().unwrap(), arrived)
        })
    }
}

/// Packets per second that a device of the calling thread's namespace receives.
pub fn count_here(device: &str, time: Duration) -> f64 {
    let (start, before) = (Instant::now(), received_here(device));
    thread::sleep(time);
    (received_here(device) - before) as f64 / start.elapsed().as_secs_f64()
}

/// Drops UDP to a port at a device's ingress: the cheapest receiver, since nothing answers.
pub fn drop_at(netns: &Netns, device: &str, port: u16) {
    netns.nft(&format!(
        "add table netdev lab_sink\n\
         delete table netdev lab_sink\n\
         table netdev lab_sink {{ chain {device} {{ \
           type filter hook ingress device \"{device}\" priority -500; udp dport {port} drop; }}; }}\n"
    ));
}

/// Steers what a device receives to one processor.
pub fn steer(netns: &Netns, device: &str, cpu: usize) {
    let mask = format!("{:x}", 1_u64 << cpu);
    // `ip netns exec` mounts the /sys of the namespace, which a thread does not have.
    let file = format!("/sys/class/net/{device}/queues/rx-0/rps_cpus");
    netns.output("sh", &["-c", &format!("echo {mask} > {file}")]);
}

/// Measures variants in turn, round after round, so that whatever else the machine does meets all of
/// them alike. `measure` gets the variant's number; the answer has one list per variant.
pub fn alternate<const N: usize>(
    rounds: usize,
    mut measure: impl FnMut(usize) -> f64,
) -> [Vec<f64>; N] {
    let mut all = [const { Vec::new() }; N];
    for _ in 0..rounds {
        for (variant, list) in all.iter_mut().enumerate() {
            list.push(measure(variant));
        }
    }
    all
}

/// The median of the rounds' ratios of two variants: 1.0 where they are equally fast.
pub fn ratio(variant: &[f64], base: &[f64]) -> f64 {
    let mut ratios: Vec<_> = variant.iter().zip(base).map(|(v, b)| v / b).collect();
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}
