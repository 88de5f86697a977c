//! Encodes messages with libnftnl. The only file of the agent with unsafe code.
//!
//! libnftnl's objects are made, filled, written and freed inside one call each; nothing of it is kept,
//! and nothing that comes from outside is read with it (`decode` does that in safe Rust).

#![allow(unsafe_code, reason = "libnftnl is a C library")]

use std::cell::Cell;
use std::ffi::{CString, c_char, c_void};
use std::ptr::NonNull;

use nftnl::{Batch, MsgType, NlMsg};
use nftnl_sys::{self as sys, libc};

use super::expr::{Base, Expr, Field, Meta, Verdict};
use super::message::{self, Message, Set, SetElement, Value, ValueType};
use super::{FAMILY, Table};

/// `NFT_SET_CONCAT`: the key has several parts. Not in the libc crate.
const NFT_SET_CONCAT: u32 = 0x80;
/// `NFT_DATA_VERDICT` of `linux/netfilter/nf_tables.h` as a data type.
const NFT_DATA_VERDICT: u32 = 0xffff_ff00;
/// `NF_NETDEV_INGRESS` and `NF_NETDEV_EGRESS` of `linux/netfilter.h`.
const NETDEV_INGRESS: u32 = 0;
const NETDEV_EGRESS: u32 = 1;

/// Adds a message to a batch and returns the sequence number by which errors name it.
///
/// Only the message with `acknowledge` is answered when all is well: hundreds of acknowledgements would
/// overrun the socket (ENOBUFS), and errors are reported in any case.
pub(super) fn append(
    batch: &mut Batch,
    table: Table,
    verb: MsgType,
    message: &Message,
    acknowledge: bool,
) -> u32 {
    let encoder = Encoder {
        table,
        message,
        acknowledge,
        sequence: Cell::new(0),
    };
    batch.add(&encoder, verb);
    encoder.sequence.get()
}

/// Writes one message where the batch wants it, and keeps the number that the batch gave it.
struct Encoder<'a> {
    table: Table,
    message: &'a Message,
    acknowledge: bool,
    sequence: Cell<u32>,
}

// SAFETY: every branch writes one netlink message, whose attributes libnftnl bounds: names are at most
// 256 bytes, and elements stand in one nest, whose 16-bit length `nft_nlmsg_maxsize` is computed for.
// A session has at most 64 elements of less than 400 bytes each.
unsafe impl NlMsg for Encoder<'_> {
    unsafe fn write(&self, buffer: *mut c_void, sequence: u32, verb: MsgType) {
        self.sequence.set(sequence);
        let add = matches!(verb, MsgType::Add);
        let (kind, flags) = match (self.message, add) {
            (Message::Table { .. }, true) => (libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE),
            (Message::Table { .. }, false) => (libc::NFT_MSG_DELTABLE, 0),
            (Message::Set(_), true) => (libc::NFT_MSG_NEWSET, libc::NLM_F_CREATE),
            (Message::Set(_), false) => (libc::NFT_MSG_DELSET, 0),
            (Message::Chain { .. }, true) => (libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE),
            (Message::Chain { .. }, false) => (libc::NFT_MSG_DELCHAIN, 0),
            (Message::Rule { .. }, true) => (
                libc::NFT_MSG_NEWRULE,
                libc::NLM_F_CREATE | libc::NLM_F_APPEND,
            ),
            (Message::Rule { .. }, false) => (libc::NFT_MSG_DELRULE, 0),
            (Message::Elements { .. }, true) => (libc::NFT_MSG_NEWSETELEM, libc::NLM_F_CREATE),
            (Message::Elements { .. }, false) => (libc::NFT_MSG_DELSETELEM, 0),
        };
        let acknowledge = if self.acknowledge { libc::NLM_F_ACK } else { 0 };
        let (kind, flags) = (narrow(kind), narrow(flags | acknowledge));
        // SAFETY: the caller promises room for the largest message; a header is the least of it.
        let header = unsafe {
            sys::nftnl_nlmsg_build_hdr(
                buffer.cast::<c_char>(),
                kind,
                FAMILY as u16,
                flags,
                sequence,
            )
        };
        match self.message {
            Message::Table { comment } => table(header, self.table, comment, add),
            Message::Set(set) => write_set(header, self.table, set),
            Message::Chain { name, hook } => chain(header, self.table, name, hook.as_ref()),
            Message::Rule { chain, exprs } => rule(header, self.table, chain, exprs),
            Message::Elements { set, elements } => {
                write_elements(header, self.table, set, elements);
            }
        }
    }
}

/// The constants above are `c_int` in the libc crate and 16 bits wide on the wire.
fn narrow(value: libc::c_int) -> u16 {
    value as u16
}

/// A name for C. One with a NUL inside becomes empty, which the kernel refuses.
fn cstring(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

/// What libnftnl allocated; like Rust's own allocator, this gives up when there is no memory.
fn allocated<T>(object: *mut T) -> NonNull<T> {
    NonNull::new(object).unwrap_or_else(|| std::process::abort())
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn table(header: *mut libc::nlmsghdr, table: Table, comment: &str, with_comment: bool) {
    let name = cstring(table.name());
    let userdata = message::comment(comment);
    // SAFETY: the object lives from its allocation to its release in this block, all data outlives the
    // calls that copy it, and `header` points into the batch's buffer with room for the message.
    unsafe {
        let table = allocated(sys::nftnl_table_alloc()).as_ptr();
        sys::nftnl_table_set_str(table, sys::NFTNL_TABLE_NAME as u16, name.as_ptr());
        sys::nftnl_table_set_u32(table, sys::NFTNL_TABLE_FAMILY as u16, FAMILY as u32);
        if with_comment {
            let data = userdata.as_ptr().cast();
            sys::nftnl_table_set_data(
                table,
                sys::NFTNL_TABLE_USERDATA as u16,
                data,
                length(&userdata),
            );
        }
        sys::nftnl_table_nlmsg_build_payload(header, table);
        sys::nftnl_table_free(table);
    }
}

fn chain(header: *mut libc::nlmsghdr, table: Table, name: &str, hook: Option<&message::BaseChain>) {
    let (table, name) = (cstring(table.name()), cstring(name));
    // SAFETY: as in `table`.
    unsafe {
        let chain = allocated(sys::nftnl_chain_alloc()).as_ptr();
        sys::nftnl_chain_set_str(chain, sys::NFTNL_CHAIN_TABLE as u16, table.as_ptr());
        sys::nftnl_chain_set_str(chain, sys::NFTNL_CHAIN_NAME as u16, name.as_ptr());
        if let Some(hook) = hook {
            let device = cstring(&hook.device);
            let number = if hook.egress {
                NETDEV_EGRESS
            } else {
                NETDEV_INGRESS
            };
            sys::nftnl_chain_set_str(chain, sys::NFTNL_CHAIN_TYPE as u16, c"filter".as_ptr());
            sys::nftnl_chain_set_u32(chain, sys::NFTNL_CHAIN_HOOKNUM as u16, number);
            sys::nftnl_chain_set_s32(chain, sys::NFTNL_CHAIN_PRIO as u16, hook.priority);
            sys::nftnl_chain_set_u32(
                chain,
                sys::NFTNL_CHAIN_POLICY as u16,
                libc::NF_ACCEPT as u32,
            );
            sys::nftnl_chain_set_str(chain, sys::NFTNL_CHAIN_DEV as u16, device.as_ptr());
            let userdata = message::comment(&hook.comment);
            let data = userdata.as_ptr().cast();
            sys::nftnl_chain_set_data(
                chain,
                sys::NFTNL_CHAIN_USERDATA as u16,
                data,
                length(&userdata),
            );
        }
        sys::nftnl_chain_nlmsg_build_payload(header, chain);
        sys::nftnl_chain_free(chain);
    }
}

fn rule(header: *mut libc::nlmsghdr, table: Table, chain: &str, exprs: &[Expr]) {
    let (table, chain) = (cstring(table.name()), cstring(chain));
    // SAFETY: as in `table`; the rule owns and frees the expressions that are added to it.
    unsafe {
        let rule = allocated(sys::nftnl_rule_alloc()).as_ptr();
        sys::nftnl_rule_set_str(rule, sys::NFTNL_RULE_TABLE as u16, table.as_ptr());
        sys::nftnl_rule_set_str(rule, sys::NFTNL_RULE_CHAIN as u16, chain.as_ptr());
        for expr in exprs {
            sys::nftnl_rule_add_expr(rule, encode(expr).0.as_ptr());
        }
        sys::nftnl_rule_nlmsg_build_payload(header, rule);
        sys::nftnl_rule_free(rule);
    }
}

fn write_set(header: *mut libc::nlmsghdr, table: Table, set: &Set) {
    let (table, name) = (cstring(table.name()), cstring(set.name));
    let many = set.key.len() > 1;
    let mut flags = 0;
    for (wanted, flag) in [
        (set.interval, libc::NFT_SET_INTERVAL as u32),
        (many, NFT_SET_CONCAT),
        (
            set.timeouts || set.dynamic.is_some(),
            libc::NFT_SET_TIMEOUT as u32,
        ),
        (set.dynamic.is_some(), libc::NFT_SET_EVAL as u32),
        (set.value.is_some(), libc::NFT_SET_MAP as u32),
    ] {
        flags |= if wanted { flag } else { 0 };
    }
    // nftables packs the data types of a concatenation into six bits each; a key fills whole words.
    let key_type = set
        .key
        .iter()
        .fold(0, |packed, (kind, _)| packed << 6 | kind);
    let key_length = set.key.iter().map(|(_, bytes)| padded(*bytes)).sum();
    let parts: Vec<u8> = set.key.iter().map(|(_, bytes)| *bytes).collect();
    let key_length = if many {
        key_length
    } else {
        u32::from(parts.first().copied().unwrap_or(0))
    };
    // SAFETY: as in `table`; the set owns and frees the expression that is added to it.
    unsafe {
        let object = allocated(sys::nftnl_set_alloc()).as_ptr();
        sys::nftnl_set_set_str(object, sys::NFTNL_SET_TABLE as u16, table.as_ptr());
        sys::nftnl_set_set_str(object, sys::NFTNL_SET_NAME as u16, name.as_ptr());
        // The kernel wants an id, by which a batch could name the set; this agent names it by name.
        sys::nftnl_set_set_u32(object, sys::NFTNL_SET_ID as u16, 1);
        sys::nftnl_set_set_u32(object, sys::NFTNL_SET_FLAGS as u16, flags);
        sys::nftnl_set_set_u32(object, sys::NFTNL_SET_KEY_TYPE as u16, key_type);
        sys::nftnl_set_set_u32(object, sys::NFTNL_SET_KEY_LEN as u16, key_length);
        if many {
            let data = parts.as_ptr().cast();
            sys::nftnl_set_set_data(
                object,
                sys::NFTNL_SET_DESC_CONCAT as u16,
                data,
                length(&parts),
            );
        }
        match set.value {
            None => {}
            Some(ValueType::Verdict) => {
                sys::nftnl_set_set_u32(object, sys::NFTNL_SET_DATA_TYPE as u16, NFT_DATA_VERDICT);
                sys::nftnl_set_set_u32(object, sys::NFTNL_SET_DATA_LEN as u16, 16);
            }
            Some(ValueType::Word(kind)) => {
                sys::nftnl_set_set_u32(object, sys::NFTNL_SET_DATA_TYPE as u16, kind);
                sys::nftnl_set_set_u32(object, sys::NFTNL_SET_DATA_LEN as u16, 4);
            }
        }
        if let Some((size, millis)) = set.dynamic {
            sys::nftnl_set_set_u32(object, sys::NFTNL_SET_DESC_SIZE as u16, size);
            sys::nftnl_set_set_u64(object, sys::NFTNL_SET_TIMEOUT as u16, millis);
        }
        let userdata = set.byte_orders();
        let data = userdata.as_ptr().cast();
        sys::nftnl_set_set_data(
            object,
            sys::NFTNL_SET_USERDATA as u16,
            data,
            length(&userdata),
        );
        if set.counter {
            let counter = allocated(sys::nftnl_expr_alloc(c"counter".as_ptr()));
            sys::nftnl_set_add_expr(object, counter.as_ptr());
        }
        sys::nftnl_set_nlmsg_build_payload(header, object);
        sys::nftnl_set_free(object);
    }
}

fn padded(bytes: u8) -> u32 {
    u32::from(bytes).next_multiple_of(4)
}

fn write_elements(header: *mut libc::nlmsghdr, table: Table, set: &str, elements: &[SetElement]) {
    let (table, name) = (cstring(table.name()), cstring(set));
    // SAFETY: as in `table`; the set owns and frees the elements that are added to it.
    unsafe {
        let object = allocated(sys::nftnl_set_alloc()).as_ptr();
        sys::nftnl_set_set_str(object, sys::NFTNL_SET_TABLE as u16, table.as_ptr());
        sys::nftnl_set_set_str(object, sys::NFTNL_SET_NAME as u16, name.as_ptr());
        for element in elements {
            sys::nftnl_set_elem_add(object, set_element(element).as_ptr());
        }
        sys::nftnl_set_elems_nlmsg_build_payload(header, object);
        sys::nftnl_set_free(object);
    }
}

fn set_element(element: &SetElement) -> NonNull<sys::nftnl_set_elem> {
    // SAFETY: all data outlives the calls that copy it; the element owns the expression that is added
    // to it, and is owned by the caller.
    unsafe {
        let object = allocated(sys::nftnl_set_elem_alloc());
        let elem = object.as_ptr();
        let set = |attribute: u32, bytes: &[u8]| {
            sys::nftnl_set_elem_set(elem, attribute as u16, bytes.as_ptr().cast(), length(bytes));
        };
        set(sys::NFTNL_SET_ELEM_KEY, &element.key);
        if let Some(end) = &element.key_end {
            set(sys::NFTNL_SET_ELEM_KEY_END, end);
        }
        match &element.value {
            None => {}
            Some(Value::Word(word)) => set(sys::NFTNL_SET_ELEM_DATA, &word.to_ne_bytes()),
            Some(Value::Verdict(verdict)) => {
                let (code, chain) = verdict_parts(verdict);
                sys::nftnl_set_elem_set_u32(elem, sys::NFTNL_SET_ELEM_VERDICT as u16, code);
                if let Some(chain) = chain {
                    sys::nftnl_set_elem_set_str(
                        elem,
                        sys::NFTNL_SET_ELEM_CHAIN as u16,
                        chain.as_ptr(),
                    );
                }
            }
        }
        if let Some(millis) = element.timeout_millis {
            sys::nftnl_set_elem_set_u64(elem, sys::NFTNL_SET_ELEM_TIMEOUT as u16, millis);
        }
        if let Some(comment) = &element.comment {
            set(sys::NFTNL_SET_ELEM_USERDATA, &message::comment(comment));
        }
        if let Some(counters) = element.counters {
            let counter = allocated(sys::nftnl_expr_alloc(c"counter".as_ptr())).as_ptr();
            sys::nftnl_expr_set_u64(
                counter,
                sys::NFTNL_EXPR_CTR_PACKETS as u16,
                counters.packets,
            );
            sys::nftnl_expr_set_u64(counter, sys::NFTNL_EXPR_CTR_BYTES as u16, counters.bytes);
            sys::nftnl_set_elem_add_expr(elem, counter);
        }
        object
    }
}

fn verdict_parts(verdict: &Verdict) -> (u32, Option<CString>) {
    match verdict {
        Verdict::Jump(chain) => (libc::NFT_JUMP as u32, Some(cstring(chain))),
        Verdict::Goto(chain) => (libc::NFT_GOTO as u32, Some(cstring(chain))),
        Verdict::Return => (libc::NFT_RETURN as u32, None),
    }
}

/// An expression being filled.
struct Object(NonNull<sys::nftnl_expr>);

impl Object {
    fn new(name: &std::ffi::CStr) -> Self {
        // SAFETY: the name is a C string.
        Self(allocated(unsafe { sys::nftnl_expr_alloc(name.as_ptr()) }))
    }

    fn word(self, attribute: u32, value: u32) -> Self {
        // SAFETY: the object is live: only `rule` frees it, with the rule that it was given to.
        unsafe { sys::nftnl_expr_set_u32(self.0.as_ptr(), attribute as u16, value) };
        self
    }

    fn long(self, attribute: u32, value: u64) -> Self {
        // SAFETY: as in `word`.
        unsafe { sys::nftnl_expr_set_u64(self.0.as_ptr(), attribute as u16, value) };
        self
    }

    fn bytes(self, attribute: u32, value: &[u8]) -> Self {
        let (data, length) = (value.as_ptr().cast(), length(value));
        // SAFETY: as in `word`; the value is copied.
        unsafe { sys::nftnl_expr_set(self.0.as_ptr(), attribute as u16, data, length) };
        self
    }

    fn text(self, attribute: u32, value: &str) -> Self {
        let value = cstring(value);
        // SAFETY: as in `word`; the text is copied.
        unsafe { sys::nftnl_expr_set_str(self.0.as_ptr(), attribute as u16, value.as_ptr()) };
        self
    }
}

fn encode(expr: &Expr) -> Object {
    match expr {
        Expr::Meta(key, register) => Object::new(c"meta")
            .word(sys::NFTNL_EXPR_META_KEY, meta_key(*key))
            .word(sys::NFTNL_EXPR_META_DREG, register.number()),
        Expr::SetMeta(key, register) => Object::new(c"meta")
            .word(sys::NFTNL_EXPR_META_KEY, meta_key(*key))
            .word(sys::NFTNL_EXPR_META_SREG, register.number()),
        Expr::Payload(field, register) => {
            payload(*field).word(sys::NFTNL_EXPR_PAYLOAD_DREG, register.number())
        }
        Expr::SetPayload {
            field,
            source,
            checksum_offset,
        } => {
            let object = payload(*field).word(sys::NFTNL_EXPR_PAYLOAD_SREG, source.number());
            match checksum_offset {
                None => object,
                Some(offset) => object
                    .word(
                        sys::NFTNL_EXPR_PAYLOAD_CSUM_TYPE,
                        libc::NFT_PAYLOAD_CSUM_INET as u32,
                    )
                    .word(sys::NFTNL_EXPR_PAYLOAD_CSUM_OFFSET, *offset),
            }
        }
        Expr::Bitwise {
            register,
            mask,
            xor,
        } => Object::new(c"bitwise")
            .word(sys::NFTNL_EXPR_BITWISE_SREG, register.number())
            .word(sys::NFTNL_EXPR_BITWISE_DREG, register.number())
            .word(sys::NFTNL_EXPR_BITWISE_LEN, length(mask))
            .bytes(sys::NFTNL_EXPR_BITWISE_MASK, mask)
            .bytes(sys::NFTNL_EXPR_BITWISE_XOR, xor),
        Expr::Equal(register, data) => compare(libc::NFT_CMP_EQ, register.number(), data),
        Expr::NotEqual(register, data) => compare(libc::NFT_CMP_NEQ, register.number(), data),
        Expr::Lookup {
            set,
            key,
            destination,
        } => {
            let object = Object::new(c"lookup")
                .word(sys::NFTNL_EXPR_LOOKUP_SREG, key.number())
                .text(sys::NFTNL_EXPR_LOOKUP_SET, set);
            match destination {
                None => object,
                Some(register) => object.word(sys::NFTNL_EXPR_LOOKUP_DREG, register.number()),
            }
        }
        Expr::AddTo { map, key, value } => Object::new(c"dynset")
            .word(sys::NFTNL_EXPR_DYNSET_OP, libc::NFT_DYNSET_OP_ADD as u32)
            .word(sys::NFTNL_EXPR_DYNSET_SREG_KEY, key.number())
            .word(sys::NFTNL_EXPR_DYNSET_SREG_DATA, value.number())
            .text(sys::NFTNL_EXPR_DYNSET_SET_NAME, map),
        Expr::AboveRate { bytes, burst } => Object::new(c"limit")
            .long(sys::NFTNL_EXPR_LIMIT_RATE, *bytes)
            .long(sys::NFTNL_EXPR_LIMIT_UNIT, 1)
            .word(sys::NFTNL_EXPR_LIMIT_BURST, *burst)
            .word(sys::NFTNL_EXPR_LIMIT_TYPE, libc::NFT_LIMIT_PKT_BYTES as u32)
            .word(sys::NFTNL_EXPR_LIMIT_FLAGS, libc::NFT_LIMIT_F_INV as u32),
        Expr::Verdict(verdict) => {
            let (code, chain) = verdict_parts(verdict);
            let object = Object::new(c"immediate")
                .word(sys::NFTNL_EXPR_IMM_DREG, libc::NFT_REG_VERDICT as u32)
                .word(sys::NFTNL_EXPR_IMM_VERDICT, code);
            match chain.as_deref().and_then(|name| name.to_str().ok()) {
                None => object,
                Some(name) => object.text(sys::NFTNL_EXPR_IMM_CHAIN, name),
            }
        }
    }
}

fn payload(field: Field) -> Object {
    let base = match field.base {
        Base::Network => libc::NFT_PAYLOAD_NETWORK_HEADER,
        Base::Transport => libc::NFT_PAYLOAD_TRANSPORT_HEADER,
    };
    Object::new(c"payload")
        .word(sys::NFTNL_EXPR_PAYLOAD_BASE, base as u32)
        .word(sys::NFTNL_EXPR_PAYLOAD_OFFSET, field.offset)
        .word(sys::NFTNL_EXPR_PAYLOAD_LEN, field.length)
}

fn compare(operator: libc::c_int, register: u32, data: &[u8]) -> Object {
    Object::new(c"cmp")
        .word(sys::NFTNL_EXPR_CMP_SREG, register)
        .word(sys::NFTNL_EXPR_CMP_OP, operator as u32)
        .bytes(sys::NFTNL_EXPR_CMP_DATA, data)
}

fn meta_key(key: Meta) -> u32 {
    (match key {
        Meta::Protocol => libc::NFT_META_PROTOCOL,
        Meta::Mark => libc::NFT_META_MARK,
        Meta::Priority => libc::NFT_META_PRIORITY,
        Meta::PacketType => libc::NFT_META_PKTTYPE,
        Meta::L4Protocol => libc::NFT_META_L4PROTO,
    }) as u32
}
