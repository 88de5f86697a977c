//! A flow that never pauses, and a count of what arrived of it with and without a code point.
//!
//! The counts are those of nftables counters where the flow arrives, outside of the router: every packet is
//! seen, however many there are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::netns::Netns;
use super::{send, wait};

const LIMIT: Duration = Duration::from_secs(5);
/// Packets that are sent before the sender lets others have the processor.
const BURST: usize = 16;
const PAUSE: Duration = Duration::from_micros(500);

/// What arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    pub marked: u64,
    pub unmarked: u64,
}

/// Sends from one namespace to another until it is dropped.
pub struct Stream<'a> {
    at: &'a Netns,
    table: String,
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    sender: Option<JoinHandle<()>>,
}

impl<'a> Stream<'a> {
    /// Begins to send `from` → `to`, which arrives at `device` of `at`, where `dscp` is expected.
    pub fn start(
        by: &Netns,
        from: SocketAddr,
        at: &'a Netns,
        device: &str,
        to: SocketAddr,
        dscp: u8,
    ) -> Self {
        let family = if to.is_ipv4() { "ip" } else { "ip6" };
        let table = format!("lab_stream_{}_{}", from.port(), to.port());
        let flow = format!(
            "{family} saddr {} udp sport {} udp dport {}",
            // NAT writes another address.
            if to.is_ipv4() {
                "0.0.0.0/0".to_owned()
            } else {
                from.ip().to_string()
            },
            from.port(),
            to.port()
        );
        at.nft(&format!(
            "table netdev {table} {{\n\
               counter marked {{}}\n\
               counter unmarked {{}}\n\
               chain {device} {{\n\
                 type filter hook ingress device \"{device}\" priority -500\n\
                 {flow} {family} dscp {dscp} counter name marked drop\n\
                 {flow} counter name unmarked drop\n\
               }}\n\
             }}\n"
        ));
        let (sent, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let sender = by.spawn({
            let (sent, stop) = (Arc::clone(&sent), Arc::clone(&stop));
            move || {
                let socket = send::udp_socket(from, 0);
                socket.connect(to).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let gone = (0..BURST).filter(|_| socket.send(&[0; 18]).is_ok());
                    sent.fetch_add(gone.count() as u64, Ordering::Relaxed);
                    // A machine that is emulated would have time for nothing else.
                    thread::sleep(wait::patient(wait::patient(PAUSE)));
                }
            }
        });
        Self {
            at,
            table,
            sent,
            stop,
            sender: Some(sender),
        }
    }

    /// What has arrived so far.
    pub fn arrived(&self) -> Arrived {
        let json = self.at.output(
            "nft",
            &["-j", "list", "counters", "table", "netdev", &self.table],
        );
        let list: serde_json::Value = serde_json::from_str(&json).unwrap();
        let count = |name: &str| {
            let counters = list["nftables"].as_array().unwrap().iter();
            let mut found = counters.filter(|entry| entry["counter"]["name"] == name);
            found.next().unwrap()["counter"]["packets"]
                .as_u64()
                .unwrap()
        };
        Arrived {
            marked: count("marked"),
            unmarked: count("unmarked"),
        }
    }

    /// Waits until packets arrive with the code point and none without: from now on, every one without it
    /// is one too many. Returns what has arrived until then.
    pub fn wait_marked(&self) -> Arrived {
        wait::expect("marked packets alone", LIMIT, || {
            let before = self.arrived();
            thread::sleep(Duration::from_millis(20));
            let after = self.arrived();
            (after.marked > before.marked && after.unmarked == before.unmarked).then_some(after)
        })
    }

    /// Waits until packets arrive without the code point and none with it; how long that took.
    pub fn wait_unmarked(&self) -> Duration {
        let start = Instant::now();
        wait::expect("unmarked packets alone", LIMIT, || {
            let before = self.arrived();
            thread::sleep(Duration::from_millis(5));
            let after = self.arrived();
            (after.unmarked > before.unmarked && after.marked == before.marked).then_some(())
        });
        start.elapsed()
    }

    /// What has been sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Since `before`: packets went on, and not one of them was unmarked.
    pub fn assert_no_gap(&self, before: Arrived) {
        let now = self.arrived();
        let marked = now.marked - before.marked;
        assert_eq!(
            now.unmarked - before.unmarked,
            0,
            "unmarked beside {marked} marked"
        );
        assert!(marked > 0, "nothing was sent");
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(sender) = self.sender.take() {
            let _ = sender.join();
        }
    }
}
