//! The machine and its kernel.

use super::super::facts::{Ability, Facts};
use super::super::line::{Grade, Line};
use crate::queue::Kind;

const THERE: &str = "there";

pub(super) fn lines(facts: &Facts) -> Vec<Line> {
    let kernel = &facts.abilities;
    let release = facts
        .release
        .as_deref()
        .unwrap_or("an unknown distribution");
    let mut lines = vec![
        Line::ok("kernel", format!("{} of {release}", facts.kernel)),
        match facts.may_administer {
            true => Line::ok("rights", "CAP_NET_ADMIN is there"),
            false => Line::fail(
                "rights",
                "CAP_NET_ADMIN is missing: run as root, or give it that capability",
            ),
        },
        needed(
            "nf_tables",
            &kernel.nf_tables,
            THERE,
            "install kmod-nft-core",
        ),
        needed(
            "maps",
            &kernel.maps,
            "ranges, timeouts, counters and verdicts work: the agent's whole table was made",
            "install kmod-nft-core, on a kernel from 5.10 on",
        ),
        needed(
            "ingress hook",
            &kernel.ingress,
            THERE,
            "install kmod-nft-netdev",
        ),
        needed(
            "egress hook",
            &kernel.egress,
            THERE,
            "install kmod-nft-netdev (kernel from 5.16 on, built with CONFIG_NETFILTER_EGRESS)",
        ),
        useful(
            "limit",
            &kernel.limit,
            THERE,
            "install kmod-nft-core; sessions cannot be held to a highest rate",
        ),
        match &kernel.moves_ends {
            Ability::There => Line::ok("timeouts", "an element's end is moved in place"),
            // That is how kernels before 6.12 are, and the agent knows it.
            Ability::Missing(_) => Line::ok(
                "timeouts",
                "an element's end cannot be moved (kernel before 6.12): the element is replaced",
            ),
            Ability::Untried(why) => untried("timeouts", why),
        },
    ];
    lines.extend(
        kernel
            .queues
            .iter()
            .map(|(kind, ability)| queue(*kind, ability)),
    );
    lines
}

/// Without it there is no mark.
fn needed(what: &str, ability: &Ability, there: &str, advice: &str) -> Line {
    line(Grade::Fail, what, ability, there, advice)
}

/// Without it something is less.
fn useful(what: &str, ability: &Ability, there: &str, advice: &str) -> Line {
    line(Grade::Warn, what, ability, there, advice)
}

fn line(worst: Grade, what: &str, ability: &Ability, there: &str, advice: &str) -> Line {
    match ability {
        Ability::There => Line::ok(what, there),
        Ability::Missing(why) => Line::new(worst, what, format!("missing ({why}): {advice}")),
        Ability::Untried(why) => untried(what, why),
    }
}

fn untried(what: &str, why: &str) -> Line {
    Line::warn(what, format!("not tried: {why}"))
}

fn queue(kind: Kind, ability: &Ability) -> Line {
    let worst = match kind.is_used() {
        true => Grade::Warn,
        false => Grade::Ok,
    };
    line(worst, kind.title(), ability, THERE, kind.advice())
}
