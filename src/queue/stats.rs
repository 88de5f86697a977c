//! Counters of the queues, from the dumps.

use netlink_packet_core::Nla;
use netlink_packet_route::tc::{TcAttribute, TcMessage, TcStats2};
use qod_wire::ClassStatus;

use super::Queue;
use super::request::{long, value};

/// `TCA_STATS_PKT64` (`linux/gen_stats.h`): present where 32 bits don't hold the packets.
const TCA_STATS_PKT64: u16 = 8;

/// The counters of one dumped class or qdisc (`TCA_STATS2`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counters {
    packets: u64,
    bytes: u64,
    drops: u64,
    backlog: u64,
}

impl Counters {
    fn read(message: &TcMessage) -> Self {
        let mut counters = Self::default();
        let stats = message
            .attributes
            .iter()
            .filter_map(|attribute| match attribute {
                TcAttribute::Stats2(stats) => Some(stats),
                _ => None,
            });
        for stats in stats.flatten() {
            match stats {
                TcStats2::Basic(basic) => {
                    counters.bytes = basic.bytes;
                    counters.packets = counters.packets.max(basic.packets.into());
                }
                TcStats2::Queue(queue) => {
                    counters.drops = queue.drops.into();
                    counters.backlog = queue.backlog.into();
                }
                TcStats2::Other(other) if other.kind() == TCA_STATS_PKT64 => {
                    counters.packets = long(&value(other)).unwrap_or(counters.packets);
                }
                _ => {}
            }
        }
        counters
    }
}

/// One entry a queue, in their order; queues without a class are left out.
pub(super) fn read(qdiscs: &[TcMessage], classes: &[TcMessage]) -> Vec<ClassStatus> {
    let status = |queue: Queue| {
        let class = classes
            .iter()
            .find(|class| u32::from(class.header.handle) == queue.classid());
        let counters = Counters::read(class?);
        // A class counts what its leaf refused whole. What a leaf drops later (codel), or from the
        // middle of a GSO packet, only the leaf knows.
        let leaf = qdiscs
            .iter()
            .find(|qdisc| u32::from(qdisc.header.parent) == queue.classid());
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
    use netlink_packet_core::DefaultNla;
    use netlink_packet_route::tc::{TcStatsBasic, TcStatsQueue};

    use super::*;
    use crate::queue::request::{dumped, message};

    fn basic(bytes: u64, packets: u32) -> TcStats2 {
        let mut basic = TcStatsBasic::default();
        (basic.bytes, basic.packets) = (bytes, packets);
        TcStats2::Basic(basic)
    }

    fn queue(drops: u32, backlog: u32) -> TcStats2 {
        let mut queue = TcStatsQueue::default();
        (queue.drops, queue.backlog) = (drops, backlog);
        TcStats2::Queue(queue)
    }

    fn with(parent: u32, handle: u32, stats: Vec<TcStats2>) -> TcMessage {
        let mut message = message(2, parent, handle, "htb", Vec::new());
        message.attributes.push(TcAttribute::Stats2(stats));
        dumped(&message)
    }

    #[test]
    fn packets_beyond_32_bits_are_counted() {
        let packets = TcStats2::Other(DefaultNla::new(8, (1_u64 << 33).to_ne_bytes().to_vec()));
        let class = with(1, 0x71d_0010, vec![basic(1 << 40, 7), packets, queue(2, 3)]);
        let statuses = read(&[], &[class]);
        assert_eq!(statuses.len(), 1);
        assert_eq!((statuses[0].packets, statuses[0].bytes), (1 << 33, 1 << 40));
        assert_eq!((statuses[0].drops, statuses[0].backlog_bytes), (2, 3));
    }

    #[test]
    fn drops_inside_the_leaf_count() {
        let class = with(1, 0x71d_0040, vec![basic(10, 1), queue(2, 0)]);
        let leaf = with(0x71d_0040, 0x7140_0000, vec![basic(10, 1), queue(9, 0)]);
        let statuses = read(&[leaf], &[class]);
        assert_eq!(
            (statuses[0].queue.as_str(), statuses[0].drops),
            ("background", 9)
        );
    }
}
