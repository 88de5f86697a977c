//! Ranges of ports.

/// An inclusive range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// First port.
    pub from: u16,
    /// Last port, not below `from`.
    pub to: u16,
}

impl PortRange {
    /// Every port.
    pub const ANY: Self = Self {
        from: 0,
        to: u16::MAX,
    };

    /// Whether some port lies in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.from <= other.to && other.from <= self.to
    }
}

/// Sorts ranges and joins those that overlap or touch.
pub fn merge(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort_unstable();
    let mut merged: Vec<PortRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.from <= last.to.saturating_add(1) => {
                last.to = last.to.max(range.to);
            }
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ports_at_the_end_of_the_space_merge() {
        let all = merge(vec![
            PortRange {
                from: 65535,
                to: 65535,
            },
            PortRange { from: 1, to: 65534 },
        ]);
        assert_eq!(all, [PortRange { from: 1, to: 65535 }]);
    }

    proptest! {
        #[test]
        fn merged_ranges_hold_the_same_ports_apart_and_in_order(
            raw in prop::collection::vec((0u16..64, 0u16..64), 0..12)
        ) {
            let ranges: Vec<_> = raw.iter().map(|&(a, b)| PortRange { from: a.min(b), to: a.max(b) }).collect();
            let merged = merge(ranges.clone());
            for port in 0u16..80 {
                let inside = |list: &[PortRange]| list.iter().any(|r| (r.from..=r.to).contains(&port));
                prop_assert_eq!(inside(&ranges), inside(&merged));
            }
            for pair in merged.windows(2) {
                prop_assert!(u32::from(pair[0].to) + 1 < u32::from(pair[1].from));
            }
        }
    }
}
