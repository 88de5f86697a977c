//! Counters of the queues, from the dumps.

use qod_wire::ClassStatus;

use super::Queue;
use super::request::Dumped;
use crate::netlink::{long, word};

// linux/gen_stats.h
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;
/// Present where 32 bits don't hold the packets.
const TCA_STATS_PKT64: u16 = 8;

/// Where `struct gnet_stats_basic` has its packets; its bytes come first.
const PACKETS: usize = 8;
/// Where `struct gnet_stats_queue` has its numbers.
const BACKLOG: usize = 4;
const DROPS: usize = 8;

/// The counters of one dumped class or qdisc (`TCA_STATS2`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counters {
    packets: u64,
    bytes: u64,
    drops: u64,
    backlog: u64,
}

impl Counters {
    fn read(dumped: &Dumped) -> Self {
        let basic = dumped.counter(TCA_STATS_BASIC).unwrap_or_default();
        let queue = dumped.counter(TCA_STATS_QUEUE).unwrap_or_default();
        let packets = dumped.counter(TCA_STATS_PKT64).and_then(long);
        let number = |bytes, offset| word(bytes, offset).unwrap_or_default().into();
        Self {
            packets: packets.unwrap_or_else(|| number(basic, PACKETS)),
            bytes: long(basic).unwrap_or_default(),
            drops: number(queue, DROPS),
            backlog: number(queue, BACKLOG),
        }
    }
}

/// One entry a queue, in their order; queues without a class are left out.
pub(super) fn read(qdiscs: &[Dumped], classes: &[Dumped]) -> Vec<ClassStatus> {
    let status = |queue: Queue| {
        let class = classes.iter().find(|class| class.handle == queue.classid());
        let counters = Counters::read(class?);
        // A class counts what its leaf refused whole. What a leaf drops later (codel), or from the
        // middle of a GSO packet, only the leaf knows.
        let leaf = qdiscs.iter().find(|qdisc| qdisc.parent == queue.classid());
        let leaf_drops = leaf
            .map(|leaf| Counters::read(leaf).drops)
            .unwrap_or_default();
        Some(ClassStatus {
            queue: queue.name().to_owned(),
            packets: counters.packets,
            bytes: counters.bytes,
            drops: counters.drops.max(leaf_drops),
            backlog_bytes: counters.backlog,
        })
    };
    Queue::ALL.into_iter().filter_map(status).collect()
}

#[cfg(test)]
mod tests {
    use nix::libc::TCA_STATS2;

    use super::*;
    use crate::netlink::{Attribute, nest, with};
    use crate::queue::request::message;

    fn basic(bytes: u64, packets: u32) -> Attribute {
        let bytes = [bytes.to_ne_bytes().as_slice(), &packets.to_ne_bytes()].concat();
        Attribute::new(TCA_STATS_BASIC, bytes)
    }

    fn queue(drops: u32, backlog: u32) -> Attribute {
        let words = [7, backlog, drops, 8, 9];
        let bytes = words.into_iter().flat_map(u32::to_ne_bytes).collect();
        Attribute::new(TCA_STATS_QUEUE, bytes)
    }

    fn dumped(parent: u32, handle: u32, stats: &[Attribute]) -> Dumped {
        let message = message(2, parent, handle, "htb", &[]);
        Dumped::read(with(message, &[nest(TCA_STATS2, stats)])).unwrap()
    }

    #[test]
    fn packets_beyond_32_bits_are_counted() {
        let packets = Attribute::new(TCA_STATS_PKT64, (1_u64 << 33).to_ne_bytes().to_vec());
        let class = dumped(1, 0x71d_0010, &[basic(1 << 40, 7), packets, queue(2, 3)]);
        let statuses = read(&[], &[class]);
        assert_eq!(statuses.len(), 1);
        assert_eq!((statuses[0].packets, statuses[0].bytes), (1 << 33, 1 << 40));
        assert_eq!((statuses[0].drops, statuses[0].backlog_bytes), (2, 3));
    }

    #[test]
    fn drops_inside_the_leaf_count() {
        let class = dumped(1, 0x71d_0040, &[basic(10, 1), queue(2, 0)]);
        let leaf = dumped(0x71d_0040, 0x7140_0000, &[basic(10, 1), queue(9, 0)]);
        let statuses = read(&[leaf], &[class]);
        assert_eq!(
            (statuses[0].queue.as_str(), statuses[0].drops),
            ("background", 9)
        );
    }
}
