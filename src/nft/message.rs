//! What a transaction is made of, as data; `sys` turns it into netlink messages.

use qod_wire::Counters;

use super::expr::{Expr, Verdict};
use super::map::KeyPart;

/// One message of a transaction.
#[derive(Clone, Debug)]
pub(super) enum Message {
    /// The table, with the comment that names its layout.
    Table { comment: String },
    /// A set or map.
    Set(Set),
    /// A chain; with a hook, a base chain.
    Chain {
        name: String,
        hook: Option<BaseChain>,
    },
    /// A rule at the end of a chain.
    Rule { chain: String, exprs: Vec<Expr> },
    /// Elements of one set or map.
    Elements {
        set: &'static str,
        elements: Vec<SetElement>,
    },
}

/// A set or map.
#[derive(Clone, Debug)]
pub(super) struct Set {
    pub(super) name: &'static str,
    /// The parts of its key.
    pub(super) key: Vec<KeyPart>,
    /// Whether elements are ranges in every part of the key (`pipapo` in the kernel).
    pub(super) interval: bool,
    /// Whether elements may have a timeout.
    pub(super) timeouts: bool,
    /// Whether elements count what they match.
    pub(super) counter: bool,
    /// Whether packets add elements: how many at most, and for how many milliseconds.
    pub(super) dynamic: Option<(u32, u64)>,
    /// What a key stands for; `None` is a set.
    pub(super) value: Option<ValueType>,
}

/// What a map's key stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum ValueType {
    Verdict,
    /// A data type of nftables that fills one 32-bit word.
    Word(u32),
}

impl Set {
    /// The userdata by which `nft list` knows how to read numbers: a mark is kept in host order.
    pub(super) fn byte_orders(&self) -> Vec<u8> {
        /// `NFTNL_UDATA_SET_KEYBYTEORDER` and `NFTNL_UDATA_SET_DATABYTEORDER` of libnftnl's `udata.h`.
        const KEY: u8 = 0;
        const DATA: u8 = 1;
        /// `enum byteorder` of nftables' `datatype.h`.
        const HOST: u32 = 1;
        const NETWORK: u32 = 2;

        let entry = |kind: u8, order: u32| [&[kind, 4][..], &order.to_ne_bytes()].concat();
        let mut userdata = match self.key.as_slice() {
            [super::map::MARK] => entry(KEY, HOST),
            _ => entry(KEY, NETWORK),
        };
        if let Some(ValueType::Word(_)) = self.value {
            userdata.extend(entry(DATA, HOST));
        }
        userdata
    }
}

/// Where a base chain hangs.
#[derive(Clone, Debug)]
pub(super) struct BaseChain {
    pub(super) device: String,
    /// What is to be read back of it later.
    pub(super) comment: String,
    pub(super) egress: bool,
    pub(super) priority: i32,
}

/// An element of a set or map.
#[derive(Clone, Debug, Default)]
pub(super) struct SetElement {
    pub(super) key: Vec<u8>,
    pub(super) key_end: Option<Vec<u8>>,
    pub(super) value: Option<Value>,
    pub(super) timeout_millis: Option<u64>,
    pub(super) counters: Option<Counters>,
    /// Shown by `nft list` behind the element.
    pub(super) comment: Option<String>,
}

/// What an element stands for.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Verdict(Verdict),
    Word(u32),
}

/// A text in the form in which nftables keeps comments: type, length with the closing NUL, text, NUL.
///
/// The type of a comment is 0 for tables, chains and elements alike.
pub(super) fn comment(text: &str) -> Vec<u8> {
    let text = text.as_bytes();
    let text = text.get(..text.len().min(254)).unwrap_or_default();
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    [&[0, length], text, &[0]].concat()
}

/// The text of a comment, if this is one.
pub(super) fn comment_text(userdata: &[u8]) -> Option<&str> {
    let mut rest = userdata;
    while let [kind, length, tail @ ..] = rest {
        let (value, next) = tail.split_at_checked(usize::from(*length))?;
        if *kind == 0 {
            return std::str::from_utf8(value.strip_suffix(&[0])?).ok();
        }
        rest = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn comments_have_nftables_form() {
        assert_eq!(comment("ab"), [0, 3, b'a', b'b', 0]);
        assert_eq!(comment_text(&comment("ab")), Some("ab"));
        assert_eq!(comment_text(&[1, 1, 9, 0, 2, b'x', 0]), Some("x"));
        assert_eq!(comment_text(&[0, 9, b'x']), None);
    }

    proptest! {
        #[test]
        fn any_userdata_is_read_without_panic(bytes: Vec<u8>) {
            let _ = comment_text(&bytes);
        }
    }
}
