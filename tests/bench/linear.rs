//! What is written without an agent: a rule per session, one after another.

use std::fmt::Write;

use super::lab::Netns;
use super::lab::home::PHONE_V4;
use super::sessions::{self, PHONE_PORT, SERVER_PORT};

/// At the agent's hook and priority, `count` rules of which the one at `place` is the phone's. Only
/// IPv4 and only upstream, which is all that the measured flow meets: less than an agent must install.
pub fn install(router: &Netns, count: usize, place: usize) {
    let mut rules = String::new();
    for number in 1..=count {
        let device = if number == place {
            PHONE_V4
        } else {
            sessions::neighbour(number).0
        };
        let _ = writeln!(
            rules,
            "ip saddr {device} ip daddr 198.51.100.0/28 udp sport {PHONE_PORT}-{} \
             udp dport {SERVER_PORT} ip dscp set ef meta mark set 0x6e000000 accept",
            PHONE_PORT + 10
        );
    }
    router.nft(&format!(
        "table netdev linear {{ chain lan1 {{ \
           type filter hook ingress device \"lan1\" priority -150; policy accept;\n{rules}}}; }}\n"
    ));
}
