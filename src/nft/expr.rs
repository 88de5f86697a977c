//! The expressions of which rules are made, as data. Names follow nf_tables: an expression loads into a
//! register, compares, looks up or writes back; one that does not match ends the rule.

/// A 32-bit register by its number in `enum nft_registers` (`linux/netfilter/nf_tables.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Register(u32);

impl Register {
    /// Register 0 of `enum nft_registers`: a lookup with this destination ends in the map's verdict.
    pub(super) const VERDICT: Self = Self(0);
    /// The first data register; a value of several words lies in consecutive ones.
    pub(super) const FIRST: Self = Self::word(0);

    /// The data register that begins `index` words behind the first one, below 16.
    pub(super) const fn word(index: u32) -> Self {
        Self(8 + index)
    }

    pub(super) const fn number(self) -> u32 {
        self.0
    }
}

/// What `meta` reads or writes (`enum nft_meta_keys`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meta {
    /// The frame's protocol, as in the Ethernet header, in network order.
    Protocol,
    /// `skb->mark`, in host order.
    Mark,
    /// `skb->priority`, in host order.
    Priority,
    /// `skb->pkt_type`: whom the frame is for, by its destination MAC address.
    PacketType,
    /// The transport protocol, behind extension headers.
    L4Protocol,
}

/// Where a payload offset counts from (`enum nft_payload_bases`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Network,
    Transport,
}

/// Bytes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) base: Base,
    pub(super) offset: u32,
    pub(super) length: u32,
}

impl Field {
    pub(super) const fn network(offset: u32, length: u32) -> Self {
        Self {
            base: Base::Network,
            offset,
            length,
        }
    }

    pub(super) const fn transport(offset: u32, length: u32) -> Self {
        Self {
            base: Base::Transport,
            offset,
            length,
        }
    }
}

/// Where a packet goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// To that chain, and back behind this rule.
    Jump(String),
    /// To that chain; when it ends, behind the last jump.
    Goto(String),
    /// Behind the last jump.
    Return,
}

/// One expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expr {
    /// Loads metadata.
    Meta(Meta, Register),
    /// Writes metadata.
    SetMeta(Meta, Register),
    /// Loads bytes of the packet.
    Payload(Field, Register),
    /// Writes bytes of the packet; the 16-bit checksum at the offset is adjusted.
    SetPayload {
        field: Field,
        source: Register,
        checksum_offset: Option<u32>,
    },
    /// `register = (register & mask) ^ xor`.
    Bitwise {
        register: Register,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    /// Goes on if the register holds these bytes.
    Equal(Register, Vec<u8>),
    /// Goes on if the register holds other bytes.
    NotEqual(Register, Vec<u8>),
    /// Goes on if the set holds the key; from a map, loads the value into the destination.
    Lookup {
        set: &'static str,
        key: Register,
        destination: Option<Register>,
    },
    /// Adds the key, with its value, to a dynamic map.
    AddTo {
        map: &'static str,
        key: Register,
        value: Register,
    },
    /// Goes on with the bytes that exceed so many a second; that many may come at once.
    AboveRate { bytes: u64, burst: u32 },
    /// Ends the rule.
    Verdict(Verdict),
}

impl Expr {
    /// Clears the bits of a host-order word outside of `mask`, then flips those of `xor`.
    pub(super) fn word_bits(register: Register, mask: u32, xor: u32) -> Self {
        Self::Bitwise {
            register,
            mask: mask.to_ne_bytes().to_vec(),
            xor: xor.to_ne_bytes().to_vec(),
        }
    }

    /// A lookup in a verdict map.
    pub(super) fn verdict_of(map: &'static str, key: Register) -> Self {
        Self::Lookup {
            set: map,
            key,
            destination: Some(Register::VERDICT),
        }
    }

    pub(super) fn goto(chain: impl Into<String>) -> Self {
        Self::Verdict(Verdict::Goto(chain.into()))
    }

    pub(super) fn jump(chain: impl Into<String>) -> Self {
        Self::Verdict(Verdict::Jump(chain.into()))
    }
}
