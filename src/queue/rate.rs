//! Rates and the time that bytes take at them, in the units of the kernel's packet schedulers.

/// Nanoseconds in one tick of `tc_htb_opt` and `tc_tbf_qopt`: `PSCHED_SHIFT` is 6
/// (`include/net/pkt_sched.h`), on every architecture.
const TICK_NS: u128 = 64;

/// `TC_LINKLAYER_ETHERNET` (`linux/pkt_sched.h`). Any value but 0 spares the rate table that tc once
/// computed for the kernel.
const LINKLAYER_ETHERNET: u8 = 1;

/// Bytes of `struct tc_ratespec`.
pub(super) const SPEC_LEN: usize = 12;

/// Bytes a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rate(u64);

impl Rate {
    /// 1 Tbit/s: what passes at this rate is never held back.
    pub(super) const NEVER_REACHED: Self = Self::from_kbps(1_000_000_000);

    /// From kilobits (1,000 bits) a second.
    pub(super) const fn from_kbps(kbps: u64) -> Self {
        Self(kbps.saturating_mul(125))
    }

    /// So many hundredths of it; never 0, which HTB refuses.
    pub(super) fn percent(self, percent: u8) -> Self {
        let share = u128::from(self.0) * u128::from(percent) / 100;
        Self(u64::try_from(share).unwrap_or(u64::MAX).max(1))
    }

    /// Bytes that pass in so many microseconds.
    pub(super) fn bytes_in(self, micros: u64) -> u64 {
        let bytes = u128::from(self.0) * u128::from(micros) / 1_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// Microseconds that so many bytes take; all that does not fit becomes the largest number.
    pub(super) fn micros(self, bytes: u64) -> u32 {
        let micros = u128::from(bytes) * 1_000_000 / u128::from(self.0.max(1));
        u32::try_from(micros).unwrap_or(u32::MAX)
    }

    /// Scheduler ticks that so many bytes take; all that does not fit (275 s) becomes the largest.
    pub(super) fn ticks(self, bytes: u64) -> u32 {
        let ticks = u128::from(bytes) * 1_000_000_000 / u128::from(self.0.max(1)) / TICK_NS;
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// `struct tc_ratespec`, and the value for the `RATE64` attribute where 32 bits don't hold it.
    pub(super) fn spec(self) -> ([u8; SPEC_LEN], Option<u64>) {
        let low = u32::try_from(self.0).unwrap_or(u32::MAX);
        let [a, b, c, d] = low.to_ne_bytes();
        // cell_log, linklayer, overhead (2), cell_align (2), mpu (2), rate (4)
        let spec = [0, LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0, a, b, c, d];
        (spec, (self.0 > u64::from(u32::MAX)).then_some(self.0))
    }

    /// Reads what [`Rate::spec`] wrote, or the kernel dumped.
    pub(super) fn from_spec(spec: [u8; SPEC_LEN], rate64: Option<u64>) -> Self {
        let [_, _, _, _, _, _, _, _, a, b, c, d] = spec;
        Self(rate64.unwrap_or_else(|| u64::from(u32::from_ne_bytes([a, b, c, d]))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOWEST: Rate = Rate::from_kbps(1);
    const FASTEST: Rate = Rate::from_kbps(100_000_000);

    #[test]
    fn ticks_are_64_nanoseconds() {
        // 40 Mbit/s: 1,514 bytes take 302.8 µs.
        assert_eq!(Rate::from_kbps(40_000).ticks(1514), 302_800 / 64);
        assert_eq!(Rate::from_kbps(40_000).micros(1514), 302);
        // 1 kbit/s: 12.112 s. 100 Gbit/s: 121 ns.
        assert_eq!(SLOWEST.ticks(1514), 189_250_000);
        assert_eq!(FASTEST.ticks(1514), 1);
    }

    #[test]
    fn nothing_overflows() {
        assert_eq!(SLOWEST.percent(1), Rate(1));
        assert_eq!(Rate(1).ticks(u64::MAX), u32::MAX);
        assert_eq!(Rate(0).ticks(1), 1_000_000_000 / 64);
        assert_eq!(Rate::from_kbps(u64::MAX), Rate(u64::MAX));
        assert_eq!(Rate(u64::MAX).percent(100), Rate(u64::MAX));
        assert_eq!(Rate(u64::MAX).bytes_in(u64::MAX), u64::MAX);
        assert_eq!(SLOWEST.micros(u64::MAX), u32::MAX);
    }

    #[test]
    fn a_rate_beyond_32_bits_needs_the_64_bit_attribute() {
        let limit = u64::from(u32::MAX);
        for rate in [1, 125, limit - 1, limit, limit + 1, FASTEST.0, u64::MAX] {
            let (spec, rate64) = Rate(rate).spec();
            assert_eq!(rate64.is_some(), rate > limit, "{rate}");
            assert_eq!(Rate::from_spec(spec, rate64), Rate(rate));
        }
    }

    #[test]
    fn bytes_and_ticks_agree() {
        for kbps in [1, 64, 1_000, 40_000, 1_000_000, 100_000_000] {
            let rate = Rate::from_kbps(kbps);
            let ticks = u64::from(rate.ticks(rate.bytes_in(1_000_000)));
            assert!(ticks.abs_diff(1_000_000_000 / 64) <= 1, "{kbps}: {ticks}");
        }
    }
}
