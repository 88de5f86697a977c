//! The chain that bounds a session's rate: what exceeds it keeps the code point and loses the queue.

use super::super::expr::Expr;
use super::super::message::Message;
use super::{Chain, DscpChain};
use crate::dscp::Dscp;
use crate::flow::Way;
use crate::ruleset::Limit;

/// Beyond one second of the rate, which the kernel always lets through at once (`nft_limit_init()`): the
/// largest GSO packet (`GSO_LEGACY_MAX_SIZE`), which is counted whole and must not be too large for ever.
const BURST: u32 = 65_536;
/// 100 Gbit/s. From 147 on, the kernel's own arithmetic would overflow.
const MOST_BYTES: u64 = 12_500_000_000;

const PREFIX: &str = "limit";

/// All that the chain depends on stands in its name, so that a chain that is there is right.
fn limit_name(limit: &Limit) -> String {
    let way = match limit.way {
        Way::Up => "up",
        Way::Down => "down",
    };
    let (dscp, kbps, session) = (limit.dscp.value(), limit.kbps, &limit.session);
    format!("{PREFIX}_{way}_{dscp}_{kbps}_{session}")
}

/// The limit whose chain has this name.
pub(in crate::nft) fn limit_of(name: &str) -> Option<Limit> {
    let mut parts = name.splitn(5, '_');
    if parts.next() != Some(PREFIX) {
        return None;
    }
    let way = match parts.next()? {
        "up" => Way::Up,
        "down" => Way::Down,
        _ => return None,
    };
    let limit = Limit {
        way,
        dscp: Dscp::new(parts.next()?.parse().ok()?)?,
        kbps: parts.next()?.parse().ok()?,
        session: parts.next()?.into(),
    };
    (limit_name(&limit) == name).then_some(limit)
}

impl Limit {
    /// The name of its chain.
    pub(in crate::nft) fn chain(&self) -> String {
        limit_name(self)
    }
}

/// The chain with its rules.
pub(in crate::nft) fn add_limit(limit: &Limit) -> Vec<Message> {
    let chain = limit_chain(limit);
    std::iter::once(chain.message())
        .chain(chain.rules())
        .collect()
}

/// The message that removes it; the kernel removes its rules with it.
pub(in crate::nft) fn delete_limit(limit: &Limit) -> Message {
    Message::Chain {
        name: limit.chain(),
        hook: None,
    }
}

pub(super) fn limit_chain(limit: &Limit) -> Chain {
    let bytes = limit.kbps.saturating_mul(125).min(MOST_BYTES);
    Chain {
        name: limit.chain(),
        rules: vec![
            vec![
                Expr::AboveRate {
                    bytes,
                    burst: BURST,
                },
                Expr::goto(DscpChain::without_queue(limit.dscp)),
            ],
            vec![Expr::goto(DscpChain::name(limit.dscp))],
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(kbps: u64) -> Limit {
        Limit {
            session: "3fa85f64-5717-4562-b3fc-2c963f66afa6".into(),
            way: Way::Down,
            dscp: Dscp::new(46).unwrap(),
            kbps,
        }
    }

    #[test]
    fn names_lead_back_to_what_they_name() {
        let limit = limit(2000);
        assert_eq!(limit_of(&limit.chain()), Some(limit));
        for other in [
            "limit_up_46_2000",
            "limit_up_64_1_a",
            "limit_up_046_1_a",
            "lookup4_up",
        ] {
            assert_eq!(limit_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_rate_is_bytes_a_second_and_bounded() {
        let rate = |kbps| match limit_chain(&limit(kbps)).rules.remove(0).remove(0) {
            Expr::AboveRate { bytes, .. } => bytes,
            other => panic!("{other:?}"),
        };
        assert_eq!(rate(2000), 250_000);
        assert_eq!(rate(u64::MAX), MOST_BYTES);
    }
}
