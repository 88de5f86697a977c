//! Tries expressions of nf_tables that the agent's table does not have.

use std::io::IoSlice;

use nftnl::ProtoFamily;
use nix::errno::Errno;

use super::socket::{NFNL_SUBSYS_NFTABLES, NLM_F_REQUEST, Socket, request, text_attribute};
use super::{Error, FAMILY};

const TABLE: &str = "qod-probe";
const CHAIN: &str = "probe";

// `linux/netlink.h`, `linux/netfilter/nfnetlink.h` and `linux/netfilter/nf_tables.h`.
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NLA_F_NESTED: u16 = 0x8000;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_LIMIT_RATE: u16 = 1;
const NFTA_LIMIT_UNIT: u16 = 2;
const NFTA_LIMIT_TYPE: u16 = 4;
/// `NFT_LIMIT_PKT_BYTES`.
const BYTES: u32 = 1;

/// Whether the kernel has the `limit` expression: made in a chain that no packet meets, in a table that
/// is removed in the same transaction.
///
/// # Errors
/// The kernel could not be asked, or refused something else.
pub fn probe_limit() -> Result<bool, Error> {
    let limit = [
        attribute(NFTA_LIMIT_RATE, &1_000_u64.to_be_bytes()),
        attribute(NFTA_LIMIT_UNIT, &1_u64.to_be_bytes()),
        attribute(NFTA_LIMIT_TYPE, &BYTES.to_be_bytes()),
    ]
    .concat();
    let refused = Socket::open()?.transact(&[IoSlice::new(&transaction("limit", &limit))])?;
    match refused.first() {
        None => Ok(true),
        Some((sequence, Errno::ENOENT)) if *sequence == RULE => Ok(false),
        Some((_, errno)) => Err(Error::Refused(*errno)),
    }
}

/// The number of the message that has the expression.
const RULE: u32 = 3;

/// A transaction that makes a rule of one expression and removes it again.
fn transaction(expression: &str, data: &[u8]) -> Vec<u8> {
    let expression = [
        text_attribute(NFTA_EXPR_NAME, expression),
        attribute(NFTA_EXPR_DATA | NLA_F_NESTED, data),
    ]
    .concat();
    let expressions = attribute(NFTA_LIST_ELEM | NLA_F_NESTED, &expression);
    let chain = [
        text_attribute(NFTA_CHAIN_TABLE, TABLE),
        text_attribute(NFTA_CHAIN_NAME, CHAIN),
    ];
    let rule = [
        text_attribute(NFTA_RULE_TABLE, TABLE),
        text_attribute(NFTA_RULE_CHAIN, CHAIN),
        attribute(NFTA_RULE_EXPRESSIONS | NLA_F_NESTED, &expressions),
    ];
    let table = text_attribute(NFTA_TABLE_NAME, TABLE);
    let message = |kind: u16, flags: u16, sequence: u32, attributes: &[u8]| {
        let kind = NFNL_SUBSYS_NFTABLES << 8 | kind;
        request(FAMILY, kind, NLM_F_REQUEST | flags, sequence, attributes)
    };
    [
        bracket(NFNL_MSG_BATCH_BEGIN, 0),
        message(NFT_MSG_NEWTABLE, NLM_F_CREATE, 1, &table),
        message(NFT_MSG_NEWCHAIN, NLM_F_CREATE, 2, &chain.concat()),
        message(
            NFT_MSG_NEWRULE,
            NLM_F_CREATE | NLM_F_APPEND,
            RULE,
            &rule.concat(),
        ),
        message(NFT_MSG_DELTABLE, 0, 4, &table),
        bracket(NFNL_MSG_BATCH_END, 5),
    ]
    .concat()
}

/// The message that begins or ends a transaction; its resource id names the subsystem.
fn bracket(kind: u16, sequence: u32) -> Vec<u8> {
    let mut message = request(ProtoFamily::Unspec, kind, NLM_F_REQUEST, sequence, &[]);
    message.truncate(message.len() - 2);
    message.extend(NFNL_SUBSYS_NFTABLES.to_be_bytes());
    message
}

/// An attribute whose value fills whole words.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
}
