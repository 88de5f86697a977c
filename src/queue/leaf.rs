//! What stands in a class: a splitter, and a fair queue inside it where the kernel has one.
//!
//! - **The splitter** is TBF (tc-tbf(8), `net/sched/sch_tbf.c`) at a rate that is never reached. It
//!   is there for one of TBF's habits: a GSO packet larger than its burst is cut into single
//!   packets as it is enqueued. HTB pays for packets after it has sent them, so a whole one
//!   (64 KB) would land in the modem's queue at once, behind which a call has to wait. As TBF
//!   itself holds nothing back, HTB remains the only shaper.
//! - **The fair queue** is `fq_codel` (RFC 8290). Without it, TBF has a plain FIFO counted in
//!   bytes.

use super::rate::Rate;
use crate::netlink::{Attribute, number};

/// The splitter's kind.
pub(super) const SPLITTER: &str = "tbf";
/// The fair queue's kind.
pub(super) const FAIR: &str = "fq_codel";

// linux/pkt_sched.h
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const TCA_FQ_CODEL_TARGET: u16 = 1;
const TCA_FQ_CODEL_LIMIT: u16 = 2;
const TCA_FQ_CODEL_INTERVAL: u16 = 3;
const TCA_FQ_CODEL_ECN: u16 = 4;
const TCA_FQ_CODEL_FLOWS: u16 = 5;
const TCA_FQ_CODEL_MEMORY_LIMIT: u16 = 9;

/// Bytes beside the MTU that a packet may have: Ethernet header, VLAN tags, PPP and tunnels.
/// Generous, because TBF *drops* what is larger than its burst and no GSO packet; it also covers
/// the usual steps of an MTU (1,492, 1,500, 1,508).
const HEADERS: u64 = 128;
/// A GSO packet that takes less time than this at the link's rate may stay whole: 12 KB at
/// 1 Gbit/s. Cutting costs CPU, and fast links don't need it.
const WHOLE_MICROS: u64 = 100;
/// The largest GSO packet (`GSO_LEGACY_MAX_SIZE`).
const LARGEST_GSO: u64 = 65_536;

/// How long the FIFO may become.
const FIFO_MICROS: u64 = 100_000;
/// At least this many packets of full size, for slow links.
const FIFO_PACKETS: u64 = 16;
/// At most this many bytes. Small packets take ten times their size in memory, and a router with
/// four of these may have 64 MB.
const FIFO_LARGEST: u64 = 1 << 20;

/// The codel interval and target of RFC 8290 §5.2.
const INTERVAL_MICROS: u32 = 100_000;
const TARGET_MICROS: u32 = 5_000;

/// Parameters of one leaf. All leaves of a device have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    /// Larger GSO packets are cut.
    split: u32,
    /// Bytes of the FIFO.
    limit: u32,
    /// Delay that `fq_codel` accepts, in microseconds.
    target: u32,
}

impl Leaf {
    /// For a link of this rate and MTU.
    pub(super) fn new(rate: Rate, mtu: u32) -> Self {
        let packet = u64::from(mtu) + HEADERS;
        let split = rate.bytes_in(WHOLE_MICROS).min(LARGEST_GSO).max(packet);
        let fifo = rate
            .bytes_in(FIFO_MICROS)
            .min(FIFO_LARGEST)
            .max(FIFO_PACKETS * packet);
        // RFC 8290 §5.2.2: below 4 Mbit/s a packet alone takes longer than the usual target.
        let target = TARGET_MICROS.max(rate.micros(packet * 3 / 2));
        let saturated = |bytes| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self {
            split: saturated(split),
            limit: saturated(fifo),
            target,
        }
    }

    /// The splitter's options.
    pub(super) fn splitter_options(&self) -> Vec<Attribute> {
        // TBF's tokens for a packet are back before the next one can be dequeued.
        let (rate, rate64) = Rate::NEVER_REACHED.spec();
        let no_peak = [0; 12];
        let mut parameters = [rate, no_peak].concat();
        let buffer = Rate::NEVER_REACHED.ticks(self.split.into()); // TCA_TBF_BURST overrides it
        for word in [self.limit, buffer, 0] {
            parameters.extend(word.to_ne_bytes());
        }
        let mut options = vec![Attribute::new(TCA_TBF_PARMS, parameters)];
        options
            .extend(rate64.map(|rate| Attribute::new(TCA_TBF_RATE64, rate.to_ne_bytes().to_vec())));
        options.push(number(TCA_TBF_BURST, self.split));
        options
    }

    /// The fair queue's options. The number of flows can be given only to a new one.
    pub(super) fn fair_options(&self, new: bool) -> Vec<Attribute> {
        let interval = self.target.saturating_add(INTERVAL_MICROS - TARGET_MICROS);
        let mut options = vec![
            number(TCA_FQ_CODEL_TARGET, self.target),
            number(TCA_FQ_CODEL_INTERVAL, interval),
            number(TCA_FQ_CODEL_LIMIT, 1_024),
            number(TCA_FQ_CODEL_MEMORY_LIMIT, 4 << 20),
            number(TCA_FQ_CODEL_ECN, 1),
        ];
        if new {
            options.push(number(TCA_FQ_CODEL_FLOWS, 1_024));
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{long, word};
    use crate::queue::request::{Dumped, message};

    #[test]
    fn slow_links_split_to_single_packets_and_fast_ones_bound_time() {
        assert_eq!(Leaf::new(Rate::from_kbps(1), 1500).split, 1628);
        assert_eq!(Leaf::new(Rate::from_kbps(40_000), 1500).split, 1628);
        assert_eq!(Leaf::new(Rate::from_kbps(1_000_000), 1500).split, 12_500);
        assert_eq!(Leaf::new(Rate::from_kbps(100_000_000), 1500).split, 65_536);
        // Never less than a packet: TBF would drop it.
        assert_eq!(Leaf::new(Rate::from_kbps(1_000), 65_536).split, 65_664);
        assert_eq!(Leaf::new(Rate::from_kbps(1), u32::MAX).split, u32::MAX);
    }

    #[test]
    fn limits_are_sensible_at_both_ends() {
        assert_eq!(Leaf::new(Rate::from_kbps(1), 1500).limit, 16 * 1628);
        assert_eq!(Leaf::new(Rate::from_kbps(40_000), 1500).limit, 500_000);
        assert_eq!(Leaf::new(Rate::from_kbps(100_000_000), 1500).limit, 1 << 20);
        assert_eq!(Leaf::new(Rate::from_kbps(40_000), 1500).target, 5_000);
        assert_eq!(Leaf::new(Rate::from_kbps(1_000), 1500).target, 19_536);
    }

    #[test]
    fn the_splitters_burst_is_given_in_bytes() {
        let leaf = Leaf::new(Rate::from_kbps(40_000), 1500);
        let message = Dumped::read(message(2, 1, 2, SPLITTER, &leaf.splitter_options())).unwrap();
        let burst = message.option(TCA_TBF_BURST).unwrap();
        assert_eq!(word(burst, 0), Some(1628));
        let rate = message.option(TCA_TBF_RATE64).unwrap();
        assert_eq!(long(rate), Some(125_000_000_000));
        assert_eq!(message.option(TCA_TBF_PARMS).unwrap().len(), 36);
    }
}
