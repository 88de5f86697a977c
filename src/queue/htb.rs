//! HTB, the hierarchical token bucket: its root and its classes (tc-htb(8), `net/sched/sch_htb.c`).

use super::rate::{Rate, SPEC_LEN};
use super::request::Dumped;
use crate::netlink::{Attribute, long, word};

/// The kind's name.
pub(super) const KIND: &str = "htb";

// linux/pkt_sched.h
const TCA_HTB_PARMS: u16 = 1;
const TCA_HTB_INIT: u16 = 2;
const TCA_HTB_RATE64: u16 = 6;
const TCA_HTB_CEIL64: u16 = 7;

/// `HTB_VER >> 16`: another one is refused.
const VERSION: u32 = 3;
/// Divides a rate into a quantum where none is given. Every class here gives one.
const RATE_TO_QUANTUM: u32 = 10;

/// Where the words of `struct tc_htb_opt` begin, behind its two ratespecs.
const BUFFER: usize = 2 * SPEC_LEN;
const CBUFFER: usize = BUFFER + 4;
const QUANTUM: usize = BUFFER + 8;
const PRIORITY: usize = BUFFER + 16;

/// Options of the root: packets whose priority names no class go to the class with this minor.
pub(super) fn root_options(default_minor: u32) -> Vec<Attribute> {
    // struct tc_htb_glob: version, rate2quantum, defcls, debug, direct_pkts
    let glob = [VERSION, RATE_TO_QUANTUM, default_minor, 0, 0];
    vec![Attribute::new(TCA_HTB_INIT, words(&glob))]
}

/// The minor of a dumped root's default class.
pub(super) fn default_minor(root: &Dumped) -> Option<u32> {
    word(root.option(TCA_HTB_INIT)?, 8)
}

/// The parameters of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class {
    /// What it gets before any class borrows.
    pub(super) rate: Rate,
    /// What it may reach by borrowing.
    pub(super) ceil: Rate,
    /// Burst at `rate`, in ticks.
    pub(super) buffer: u32,
    /// Burst at `ceil`, in ticks.
    pub(super) cbuffer: u32,
    /// Bytes a turn among classes of one priority.
    pub(super) quantum: u32,
    /// 0 is first.
    pub(super) priority: u32,
}

impl Class {
    /// As the kernel takes them.
    pub(super) fn options(&self) -> Vec<Attribute> {
        let (rate, rate64) = self.rate.spec();
        let (ceil, ceil64) = self.ceil.spec();
        let mut parameters = [rate, ceil].concat();
        let level = 0; // the kernel's to say
        let rest = [
            self.buffer,
            self.cbuffer,
            self.quantum,
            level,
            self.priority,
        ];
        parameters.extend(words(&rest));
        let mut options = vec![Attribute::new(TCA_HTB_PARMS, parameters)];
        let long = |number, value: u64| Attribute::new(number, value.to_ne_bytes().to_vec());
        options.extend(rate64.map(|rate| long(TCA_HTB_RATE64, rate)));
        options.extend(ceil64.map(|ceil| long(TCA_HTB_CEIL64, ceil)));
        options
    }

    /// From a dumped class.
    pub(super) fn read(message: &Dumped) -> Option<Self> {
        let parameters = message.option(TCA_HTB_PARMS)?;
        let rate = *parameters.first_chunk()?;
        let ceil = *parameters.get(SPEC_LEN..)?.first_chunk()?;
        let rate64 = message.option(TCA_HTB_RATE64).and_then(long);
        let ceil64 = message.option(TCA_HTB_CEIL64).and_then(long);
        Some(Self {
            rate: Rate::from_spec(rate, rate64),
            ceil: Rate::from_spec(ceil, ceil64),
            buffer: word(parameters, BUFFER)?,
            cbuffer: word(parameters, CBUFFER)?,
            quantum: word(parameters, QUANTUM)?,
            priority: word(parameters, PRIORITY)?,
        })
    }

    /// The same, but for what the kernel does not keep for a class that has classes under it.
    pub(super) fn without_turns(self) -> Self {
        Self {
            quantum: 0,
            priority: 0,
            ..self
        }
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::request::{Dumped, message};

    #[test]
    fn classes_round_trip() {
        for kbps in [1, 40_000, 34_359_738, 34_359_739, 100_000_000] {
            let class = Class {
                rate: Rate::from_kbps(kbps).percent(25),
                ceil: Rate::from_kbps(kbps),
                buffer: 4_731,
                cbuffer: 1_182,
                quantum: 1_514,
                priority: 3,
            };
            let message = message(2, 1, 2, KIND, &class.options());
            assert_eq!(
                Class::read(&Dumped::read(message).unwrap()),
                Some(class),
                "{kbps}"
            );
        }
    }

    #[test]
    fn roots_round_trip() {
        let message = message(2, 1, 2, KIND, &root_options(0x30));
        assert_eq!(default_minor(&Dumped::read(message).unwrap()), Some(0x30));
    }

    #[test]
    fn what_the_kernel_would_never_say_is_no_class() {
        let message = message(2, 1, 2, KIND, &[Attribute::new(TCA_HTB_PARMS, vec![0; 43])]);
        assert_eq!(Class::read(&Dumped::read(message).unwrap()), None);
    }
}
