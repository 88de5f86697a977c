//! The base chains: where packets meet the table.

use super::super::expr::{Expr, Meta, Register};
use super::super::message::{BaseChain, Message};
use super::lookup::Lookup;
use super::{Chain, MarkBits, sets};
use crate::flow::{Family, Way};
use crate::ruleset::Hook;

/// Below the priority 0 of fw4's flowtable: an offloaded flow never comes behind it.
const INGRESS_PRIORITY: i32 = -150;
const EGRESS_PRIORITY: i32 = 0;

/// The name of a base chain: what it does and the device that it hangs on.
pub(in crate::nft) fn hook_name(hook: &Hook) -> String {
    match hook {
        Hook::Up(device) => format!("up_{device}"),
        Hook::Down(device) => format!("down_{device}"),
        Hook::Out(device) => format!("out_{device}"),
    }
}

/// The hook whose base chain has this name.
pub(in crate::nft) fn hook_of(name: &str) -> Option<Hook> {
    let (what, device) = name.split_once('_')?;
    let device = device.to_owned();
    match what {
        "up" => Some(Hook::Up(device)),
        "down" => Some(Hook::Down(device)),
        "out" => Some(Hook::Out(device)),
        _ => None,
    }
}

/// The index of the device that a base chain was hung on, as its comment says it. The kernel itself tells
/// only the device's name, which another one may have by now.
pub(in crate::nft) fn index_of(comment: &str) -> Option<u32> {
    comment.strip_prefix(INDEX)?.parse().ok()
}

const INDEX: &str = "ifindex ";

/// A base chain with its rules, at the device with this index.
pub(in crate::nft) fn add_hook(hook: &Hook, index: u32, bits: MarkBits) -> Vec<Message> {
    let (egress, priority) = match hook {
        Hook::Up(_) => (false, INGRESS_PRIORITY),
        Hook::Down(_) | Hook::Out(_) => (true, EGRESS_PRIORITY),
    };
    let chain = hook_chain(hook, bits);
    let device = hook.device().to_owned();
    let base = Message::Chain {
        name: chain.name.clone(),
        hook: Some(BaseChain {
            device,
            comment: format!("{INDEX}{index}"),
            egress,
            priority,
        }),
    };
    std::iter::once(base).chain(chain.rules()).collect()
}

pub(super) fn hook_chain(hook: &Hook, bits: MarkBits) -> Chain {
    let entries = |way| {
        Family::ALL
            .map(|family| Lookup { family, way }.entry())
            .to_vec()
    };
    Chain {
        name: hook_name(hook),
        rules: match hook {
            Hook::Up(_) => entries(Way::Up),
            Hook::Down(_) => entries(Way::Down),
            Hook::Out(_) => vec![enqueue(bits)],
        },
    }
}

/// The message that removes a base chain; the kernel removes its rules with it.
pub(in crate::nft) fn delete_hook(hook: &Hook) -> Message {
    Message::Chain {
        name: hook_name(hook),
        hook: None,
    }
}

/// Gives a marked packet its queue. At ingress it would be lost: `ip_forward()` sets the priority anew.
fn enqueue(bits: MarkBits) -> Vec<Expr> {
    let mut rule = bits.is_marked();
    rule.extend([
        Expr::Meta(Meta::Mark, Register::FIRST),
        Expr::word_bits(Register::FIRST, bits.mask(), 0),
        Expr::Lookup {
            set: sets::CLASSES,
            key: Register::FIRST,
            destination: Some(Register::FIRST),
        },
        Expr::SetMeta(Meta::Priority, Register::FIRST),
    ]);
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_what_they_name() {
        for hook in [
            Hook::Up("eth_0.1".into()),
            Hook::Down("lan1".into()),
            Hook::Out("wan".into()),
        ] {
            assert_eq!(hook_of(&hook_name(&hook)), Some(hook));
        }
        assert_eq!(hook_of("lookup4_up"), None);
        assert_eq!(index_of("ifindex 7"), Some(7));
        assert_eq!(index_of("ifindex "), None);
    }
}
