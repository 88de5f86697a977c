//! The ports of one side of a flow.

use qod_wire::{PortRange, Ports};

/// Ports as merged, sorted ranges that neither overlap nor touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSet(Vec<(u16, u16)>);

impl PortSet {
    /// Merges ranges and single ports. A range whose first port is above its last is empty.
    pub fn new(ports: &Ports) -> Self {
        let singles = ports.ports.iter().flatten().map(|&port| (port, port));
        let ranges = ports
            .ranges
            .iter()
            .flatten()
            .map(|range| (range.from, range.to));
        let mut all: Vec<(u16, u16)> = ranges
            .chain(singles)
            .filter(|(from, to)| from <= to)
            .collect();
        all.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(all.len());
        for (from, to) in all {
            match merged.last_mut() {
                Some((_, end)) if u32::from(from) <= u32::from(*end) + 1 => *end = to.max(*end),
                _ => merged.push((from, to)),
            }
        }
        Self(merged)
    }

    /// Number of ranges, a single port counting as one.
    pub fn ranges(&self) -> usize {
        self.0.len()
    }

    /// Whether both have a port in common.
    pub fn intersects(&self, other: &Self) -> bool {
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some((left_from, left_to)), Some((right_from, right_to))) =
            (left.peek(), right.peek())
        {
            if left_from <= right_to && right_from <= left_to {
                return true;
            }
            if left_to < right_to {
                left.next();
            } else {
                right.next();
            }
        }
        false
    }

    /// The same ports for the wire: ranges, and single ports where a range has one.
    pub fn to_wire(&self) -> Ports {
        let ranges: Vec<PortRange> = self
            .0
            .iter()
            .filter(|(from, to)| from != to)
            .map(|&(from, to)| PortRange { from, to })
            .collect();
        let ports: Vec<u16> = self
            .0
            .iter()
            .filter(|(from, to)| from == to)
            .map(|&(port, _)| port)
            .collect();
        Ports {
            ranges: (!ranges.is_empty()).then_some(ranges),
            ports: (!ports.is_empty()).then_some(ports),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ports() -> impl Strategy<Value = Ports> {
        // A small space, so that lists often meet, and its upper end, where adding one overflows.
        let port = prop_oneof![1_u16..60, 65_500_u16..=65_535];
        let range = (port.clone(), port.clone()).prop_map(|(a, b)| PortRange {
            from: a.min(b),
            to: a.max(b),
        });
        (
            proptest::option::of(proptest::collection::vec(range, 1..5)),
            proptest::option::of(proptest::collection::vec(port, 1..5)),
        )
            .prop_map(|(ranges, ports)| Ports { ranges, ports })
    }

    fn contains(ports: &Ports, port: u16) -> bool {
        ports.ports.iter().flatten().any(|&single| single == port)
            || ports
                .ranges
                .iter()
                .flatten()
                .any(|range| (range.from..=range.to).contains(&port))
    }

    proptest! {
        // Each case walks over all ports.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn intersection_is_a_common_port(a in ports(), b in ports()) {
            let expected = (0..=u16::MAX).any(|port| contains(&a, port) && contains(&b, port));
            prop_assert_eq!(PortSet::new(&a).intersects(&PortSet::new(&b)), expected);
        }

        #[test]
        fn merging_keeps_every_port_and_leaves_gaps(a in ports()) {
            let set = PortSet::new(&a);
            let wire = set.to_wire();
            for port in 0..=u16::MAX {
                prop_assert_eq!(contains(&a, port), contains(&wire, port));
            }
            for pair in set.0.windows(2) {
                prop_assert!(u32::from(pair[0].1) + 1 < u32::from(pair[1].0));
            }
        }
    }
}
