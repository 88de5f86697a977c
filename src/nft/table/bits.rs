//! The agent's part of `skb->mark`.

use super::super::expr::{Expr, Meta, Register};
use crate::dscp::Dscp;

/// Which bits of `skb->mark` are the agent's: seven neighbouring ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkBits {
    shift: u32,
}

impl MarkBits {
    /// The bits of a mask, if it has exactly seven, side by side.
    pub fn from_mask(mask: u32) -> Option<Self> {
        let shift = mask.trailing_zeros();
        (mask != 0 && mask >> shift == 0x7f).then_some(Self { shift })
    }

    pub(super) fn mask(self) -> u32 {
        0x7f << self.shift
    }

    /// The highest bit: the agent marked this.
    pub(super) fn set(self) -> u32 {
        0x40 << self.shift
    }

    pub(super) fn of(self, dscp: Dscp) -> u32 {
        (0x40 | u32::from(dscp.value())) << self.shift
    }

    /// The mark of a packet that has the code point and no queue of its own.
    pub(super) fn without_queue(self, dscp: Dscp) -> u32 {
        u32::from(dscp.value()) << self.shift
    }

    /// The start of a rule for packets that the agent gave a code point. (One that has the code point 0
    /// and no queue is not told from others.)
    pub(super) fn has_dscp(self) -> Vec<Expr> {
        self.has_bits(self.mask())
    }

    /// The start of a rule for packets that the agent marked.
    pub(super) fn is_marked(self) -> Vec<Expr> {
        self.has_bits(self.set())
    }

    fn has_bits(self, bits: u32) -> Vec<Expr> {
        vec![
            Expr::Meta(Meta::Mark, Register::FIRST),
            Expr::word_bits(Register::FIRST, bits, 0),
            Expr::NotEqual(Register::FIRST, 0u32.to_ne_bytes().to_vec()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_is_seven_neighbouring_bits() {
        let bits = MarkBits::from_mask(0x7f00_0000).unwrap();
        assert_eq!(bits.of(Dscp::new(46).unwrap()), 0x6e00_0000);
        assert_eq!(bits.set(), 0x4000_0000);
        assert_eq!(
            MarkBits::from_mask(0xfe00_0000).map(MarkBits::mask),
            Some(0xfe00_0000)
        );
        for bad in [0, 0x3f, 0xff, 0x7e01, 0x8000_003f, u32::MAX] {
            assert_eq!(MarkBits::from_mask(bad), None, "{bad:#x}");
        }
    }
}
