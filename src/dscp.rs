//! Differentiated-services code points.

use std::fmt;

/// A code point, 0 to 63: the upper six bits of the IPv4 TOS octet and of the IPv6 traffic class
/// (RFC 2474 §3). The lower two bits are ECN (RFC 3168) and never part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dscp(u8);

impl Dscp {
    /// The code point with this number, or nothing above 63.
    pub const fn new(value: u8) -> Option<Self> {
        if value < 64 { Some(Self(value)) } else { None }
    }

    /// The number, 0 to 63.
    pub const fn value(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Dscp {
    /// The name where the code point has one, else the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            // RFC 2474 §4.2.2: class selectors. CS0 is the default forwarding of RFC 4594.
            0 => f.pad("DF"),
            value if value % 8 == 0 => f.pad(&format!("CS{}", value / 8)),
            1 => f.pad("LE"),   // RFC 8622
            44 => f.pad("VA"),  // RFC 5865
            45 => f.pad("NQB"), // the IETF's Non-Queue-Building PHB
            46 => f.pad("EF"),  // RFC 3246
            // RFC 2597 §6: AFxy is 8x + 2y.
            value @ (10 | 12 | 14 | 18 | 20 | 22 | 26 | 28 | 30 | 34 | 36 | 38) => {
                f.pad(&format!("AF{}{}", value / 8, value % 8 / 2))
            }
            value => f.pad(&value.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_points_end_at_63() {
        assert_eq!(Dscp::new(63).map(Dscp::value), Some(63));
        assert_eq!(Dscp::new(64), None);
    }

    #[test]
    fn names_are_those_of_the_rfcs() {
        let name = |value| Dscp::new(value).unwrap().to_string();
        assert_eq!(name(0), "DF");
        assert_eq!(name(8), "CS1");
        assert_eq!(name(46), "EF");
        assert_eq!(name(34), "AF41");
        assert_eq!(name(18), "AF21");
        assert_eq!(name(38), "AF43");
        assert_eq!(name(47), "47");
    }
}
