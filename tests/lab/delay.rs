//! Round-trip times of a UDP flow, without the delays of the programs that measure.
//!
//! As in NTP there are four times: the probe's sending, the kernel's arrival at the echo server, the
//! echo server's sending, the kernel's arrival back at the probe. The round trip is what is left when
//! the echo server's own time is taken off, so a busy machine that wakes a program late does not
//! count as delay of the network. Both ends share one clock, which makes this exact.

use std::collections::HashSet;
use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use serde_json::{Value, json};

use super::netns::Netns;
use super::send;

/// Sequence number and the first three times, 8 bytes each.
const HEADER: usize = 32;

/// Answers until it is dropped.
pub struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    pub fn start(netns: &Netns, at: SocketAddr) -> Self {
        let socket = netns.run(|| timed_socket(at, 0));
        let stop = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&stop);
        let thread = thread::spawn(move || echo(&socket, &theirs));
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers in the calling thread's namespace, for ever.
pub fn echo_here(at: SocketAddr) {
    echo(&timed_socket(at, 0), &AtomicBool::new(false));
}

fn echo(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        let Some((from, arrived, length)) = receive(socket, &mut buffer) else {
            continue;
        };
        if let Some(times) = buffer
            .get_mut(16..HEADER.min(length))
            .filter(|t| t.len() == 16)
        {
            times[..8].copy_from_slice(&arrived.to_be_bytes());
            times[8..].copy_from_slice(&now().to_be_bytes());
        }
        // Its loss counts as any other.
        let _ = socket.send_to(&buffer[..length], from);
    }
}

/// What is to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub tos: u8,
    pub count: u32,
    pub interval: Duration,
    /// Bytes of payload.
    pub length: usize,
}

impl Probe {
    /// A packet of 100 bytes every 10 ms for one second.
    pub fn new(from: SocketAddr, to: SocketAddr) -> Self {
        Self {
            from,
            to,
            tos: 0,
            count: 100,
            interval: Duration::from_millis(10),
            length: 100,
        }
    }

    /// Measures from a namespace.
    pub fn run(&self, netns: &Netns) -> Delay {
        netns.run(|| self.run_here())
    }

    /// Measures from the calling thread's namespace.
    pub fn run_here(&self) -> Delay {
        let socket = timed_socket(self.from, self.tos);
        let done = AtomicBool::new(false);
        let trips = thread::scope(|scope| {
            let receiver = scope.spawn(|| self.receive_all(&socket, &done));
            let start = Instant::now();
            for number in 0..self.count {
                // By an absolute plan: a late packet does not delay the next.
                let due = start + self.interval * number;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let mut packet = vec![0; self.length.max(HEADER)];
                packet[..8].copy_from_slice(&u64::from(number).to_be_bytes());
                packet[8..16].copy_from_slice(&now().to_be_bytes());
                // Its loss counts as any other.
                let _ = socket.send_to(&packet, self.to);
            }
            done.store(true, Ordering::Relaxed);
            receiver.join().unwrap()
        });
        Delay::new(self.count, trips)
    }

    /// Round trips in nanoseconds; ends 2 s after the last packet at the latest.
    fn receive_all(&self, socket: &UdpSocket, done: &AtomicBool) -> Vec<u64> {
        let mut numbers = HashSet::new();
        let mut trips = Vec::new();
        let mut buffer = [0; 2048];
        let mut end = None;
        while trips.len() < self.count as usize {
            if done.load(Ordering::Relaxed) {
                let end = *end.get_or_insert_with(|| Instant::now() + Duration::from_secs(2));
                if Instant::now() > end {
                    break;
                }
            }
            let Some((_, arrived, length)) = receive(socket, &mut buffer) else {
                continue;
            };
            let word = |at: usize| u64::from_be_bytes(buffer[at..at + 8].try_into().unwrap());
            if length >= HEADER && numbers.insert(word(0)) {
                let at_echo = word(24).saturating_sub(word(16));
                trips.push(arrived.saturating_sub(word(8)).saturating_sub(at_echo));
            }
        }
        trips
    }
}

/// Round-trip times; packets that did not come back within 2 s are lost.
#[derive(Clone, Debug)]
pub struct Delay {
    pub sent: u32,
    pub lost: u32,
    pub min: Duration,
    pub p50: Duration,
    pub p90: Duration,
    pub p99: Duration,
    pub max: Duration,
}

impl Delay {
    fn new(sent: u32, mut trips: Vec<u64>) -> Self {
        trips.sort_unstable();
        // The nearest rank: a value that was measured.
        let at = |percent: usize| {
            let rank = (trips.len() * percent).div_ceil(100).max(1);
            Duration::from_nanos(trips.get(rank - 1).copied().unwrap_or(u64::MAX))
        };
        Self {
            sent,
            lost: sent - trips.len() as u32,
            min: at(0),
            p50: at(50),
            p90: at(90),
            p99: at(99),
            max: at(100),
        }
    }

    pub fn json(&self) -> Value {
        let micros = |time: Duration| time.as_nanos() as f64 / 1000.0;
        json!({
            "sent": self.sent, "lost": self.lost,
            "min_us": micros(self.min), "p50_us": micros(self.p50), "p90_us": micros(self.p90),
            "p99_us": micros(self.p99), "max_us": micros(self.max),
        })
    }
}

fn timed_socket(at: SocketAddr, tos: u8) -> UdpSocket {
    let socket = send::udp_socket(at, tos);
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    socket
}

/// Sender, the kernel's time of arrival, length.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Option<(SocketAddr, u64, usize)> {
    let mut space = nix::cmsg_space!(nix::sys::time::TimeSpec);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = match recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut space),
        MsgFlags::empty(),
    ) {
        Ok(message) => message,
        // Nothing yet, or an ICMP error for a packet that is lost anyway.
        Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => return None,
        Err(e) => panic!("UDP socket: {e}"),
    };
    let arrived = message.cmsgs().unwrap().find_map(|part| match part {
        ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
        _ => None,
    });
    let from = message.address?;
    let from = match (from.as_sockaddr_in(), from.as_sockaddr_in6()) {
        (Some(v4), _) => SocketAddr::V4((*v4).into()),
        (_, Some(v6)) => SocketAddr::V6((*v6).into()),
        _ => return None,
    };
    Some((from, arrived?.as_nanos() as u64, message.bytes))
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_nanos() as u64
}
