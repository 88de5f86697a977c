//! What the kernel refuses, in words that say which package of OpenWrt would help. No I/O.

use nix::errno::Errno;

use super::error::NOT_PERMITTED;
use crate::ruleset::{Hook, Part};

/// Why the kernel refused a part of a transaction.
pub(super) fn words(part: &Part, errno: Errno) -> String {
    // ENOENT also says that somebody else removed the table meanwhile, which is over with the next try.
    let advice = match (part, errno) {
        (_, Errno::EPERM) => return NOT_PERMITTED.to_owned(),
        (Part::AddHook(Hook::Up(_)), Errno::EOPNOTSUPP) => {
            "this kernel has no ingress hook (kmod-nft-netdev on OpenWrt)"
        }
        (Part::AddHook(Hook::Down(_) | Hook::Out(_)), Errno::EOPNOTSUPP) => {
            "this kernel has no egress hook (kmod-nft-netdev on OpenWrt, kernel from 5.16 on)"
        }
        (Part::AddLimit(_), Errno::ENOENT) => {
            "if that lasts, this kernel has no nft_limit (kmod-nft-core on OpenWrt)"
        }
        (Part::Structure(_), Errno::EOPNOTSUPP) => {
            "this kernel has no tables of family netdev (kmod-nft-netdev on OpenWrt)"
        }
        (Part::Structure(_), Errno::ENOENT) => {
            "if that lasts, a part of nf_tables is missing (kmod-nft-core on OpenWrt)"
        }
        _ => return errno.desc().to_owned(),
    };
    format!("{}; {advice}", errno.desc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_package_brings_is_named_with_it() {
        let port = || "lan1".to_owned();
        let structure = || Part::Structure("adding the table".to_owned());
        for (part, errno, package) in [
            (
                Part::AddHook(Hook::Up(port())),
                Errno::EOPNOTSUPP,
                "kmod-nft-netdev",
            ),
            (
                Part::AddHook(Hook::Down(port())),
                Errno::EOPNOTSUPP,
                "kmod-nft-netdev",
            ),
            (
                Part::AddHook(Hook::Out(port())),
                Errno::EOPNOTSUPP,
                "kmod-nft-netdev",
            ),
            (Part::AddLimit("a".into()), Errno::ENOENT, "kmod-nft-core"),
            (structure(), Errno::EOPNOTSUPP, "kmod-nft-netdev"),
            (structure(), Errno::ENOENT, "kmod-nft-core"),
        ] {
            let words = words(&part, errno);
            assert!(words.starts_with(errno.desc()), "{words}");
            assert!(words.contains(package), "{words}");
        }
    }

    #[test]
    fn what_no_package_brings_is_the_kernels_own_word() {
        let hook = Part::AddHook(Hook::Up("lan1".to_owned()));
        assert_eq!(words(&hook, Errno::ENOENT), Errno::ENOENT.desc());
        assert_eq!(
            words(&Part::Add("a".into()), Errno::EEXIST),
            Errno::EEXIST.desc()
        );
        assert_eq!(words(&hook, Errno::EPERM), NOT_PERMITTED);
    }
}
