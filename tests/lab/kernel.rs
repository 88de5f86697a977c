//! What the running kernel can do, found by trying it.

use std::process::{Command, Stdio};

use super::netns::{self, Netns};

/// Queueing disciplines that a kernel may lack and that some tests need.
pub const QDISCS: [&str; 5] = ["cake", "prio", "fq_codel", "htb", "tbf"];

/// Whether a queueing discipline can be installed.
pub fn has_qdisc(kind: &str) -> bool {
    let [netns] = Netns::make(&netns::new_group(), ["qdisc"]);
    let options: &[&str] = match kind {
        "tbf" => &["rate", "1mbit", "burst", "2k", "limit", "10k"],
        _ => &[],
    };
    Command::new("tc")
        .args(["-netns", netns.name(), "qdisc", "add", "dev", "lo", "root"])
        .arg(kind)
        .args(options)
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether nft accepts `ruleset`.
fn accepts(ruleset: &str) -> bool {
    let [netns] = Netns::make(&netns::new_group(), ["nft"]);
    netns
        .command("nft")
        .arg(ruleset)
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether the kernel has the netdev family's egress hook (5.16).
pub fn has_netdev_egress() -> bool {
    accepts("table netdev t { chain c { type filter hook egress device \"lo\" priority 0; }; }")
}

/// Whether the kernel has NAT by nftables.
pub fn has_nat() -> bool {
    accepts("table ip t { chain c { type nat hook postrouting priority 0; masquerade; }; }")
}

/// Whether the kernel has flowtables.
pub fn has_flowtable() -> bool {
    accepts("table inet t { flowtable f { hook ingress priority 0; devices = { lo }; }; }")
}
