//! A netlink socket to nf_tables: sends transactions, reads dumps.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{NLA_HEADER_SIZE, NlasIterator};
use nftnl::FinalizedBatch;
use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sockopt,
};

use super::{Error, FAMILY};

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length of `struct nfgenmsg`, which stands before the attributes.
pub(super) const GENERIC: usize = 4;
/// Room for one answer: the kernel fills at most 32 KiB of a dump at a time.
const BUFFER: usize = 64 * 1024;
/// Room for the errors of a transaction that fails in each of its messages.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// Transactions count from 1, so that no late answer to one is taken for an answer to a request.
const FIRST_SEQUENCE: u32 = 1 << 31;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NFNL_SUBSYS_NFTABLES: u16 = 10;

/// A netlink socket bound to the netfilter bus, in the network namespace of the thread that opened it.
pub(super) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// How a dump ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DumpEnd {
    /// It shows one state.
    Whole,
    /// The ruleset changed meanwhile, so it may mix two states.
    Interrupted,
}

impl Socket {
    /// Opens a socket.
    pub(super) fn open() -> Result<Self, Error> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let protocol = SockProtocol::NetlinkNetFilter;
        let fd = socket::socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)
            .map_err(Error::Open)?;
        socket::bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(Error::Open)?;
        // Without CAP_NET_ADMIN this fails; so will the first change, with a better message.
        let _ = socket::setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER);
        Ok(Self {
            fd,
            sequence: FIRST_SEQUENCE,
            buffer: vec![0; BUFFER],
        })
    }

    /// By which the kernel names this socket in events.
    pub(super) fn port(&self) -> Result<u32, Error> {
        let address: NetlinkAddr = socket::getsockname(self.fd.as_raw_fd()).map_err(Error::Open)?;
        Ok(address.pid())
    }

    /// Sends a transaction and returns the sequence numbers and errors of the messages refused.
    ///
    /// The kernel works on it within the call and has queued every answer when the call returns, so an
    /// empty queue means that there is no more to come.
    pub(super) fn commit(&mut self, batch: &FinalizedBatch) -> Result<Vec<(u32, Errno)>, Error> {
        // The kernel takes a transaction in one piece only: a second datagram would be a second one.
        let slices: Vec<IoSlice<'_>> = batch.iter().map(IoSlice::new).collect();
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        let _ = socket::setsockopt(&self.fd, sockopt::SndBufForce, &(length + BUFFER));
        let fd = self.fd.as_raw_fd();
        socket::sendmsg::<NetlinkAddr>(fd, &slices, &[], MsgFlags::empty(), None)
            .map_err(Error::Send)?;
        let mut refused = Vec::new();
        let mut overrun = false;
        loop {
            match self.receive() {
                Ok(length) => {
                    for message in Messages(self.buffer.get(..length).unwrap_or_default()) {
                        let message = message?;
                        if message.kind == NLMSG_ERROR
                            && let Some(errno) = message.errno()
                        {
                            refused.push((message.sequence, errno));
                        }
                    }
                }
                Err(Errno::EAGAIN) if overrun && refused.is_empty() => {
                    return Err(Error::Receive(Errno::ENOBUFS));
                }
                Err(Errno::EAGAIN) => return Ok(refused),
                // More errors than room: the kernel says so first, and what there was room for follows.
                Err(Errno::ENOBUFS) => overrun = true,
                Err(errno) => return Err(Error::Receive(errno)),
            }
        }
    }

    /// Asks for a dump, or for one object, and hands each message's attributes to `each`.
    ///
    /// `kind` is one of the kernel's `NFT_MSG_GET…`. The answer `None` means that there is no such thing.
    pub(super) fn get(
        &mut self,
        kind: u16,
        dump: bool,
        attributes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<Option<DumpEnd>, Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let flags = if dump {
            NLM_F_REQUEST | NLM_F_DUMP
        } else {
            NLM_F_REQUEST
        };
        let request = request(
            NFNL_SUBSYS_NFTABLES << 8 | kind,
            flags,
            self.sequence,
            attributes,
        );
        socket::send(self.fd.as_raw_fd(), &request, MsgFlags::empty()).map_err(Error::Send)?;
        let mut end = DumpEnd::Whole;
        loop {
            let length = self.receive().map_err(Error::Receive)?;
            for message in Messages(self.buffer.get(..length).unwrap_or_default()) {
                let message = message?;
                if message.sequence != self.sequence {
                    continue;
                }
                if message.flags & NLM_F_DUMP_INTR != 0 {
                    end = DumpEnd::Interrupted;
                }
                match message.kind {
                    NLMSG_DONE => return Ok(Some(end)),
                    NLMSG_ERROR => match message.errno() {
                        Some(Errno::ENOENT) => return Ok(None),
                        Some(errno) => return Err(Error::Refused(errno)),
                        None => {}
                    },
                    _ => {
                        each(message.payload.get(GENERIC..).unwrap_or_default())?;
                        if !dump {
                            return Ok(Some(end));
                        }
                    }
                }
            }
        }
    }

    fn receive(&mut self) -> Result<usize, Errno> {
        socket::recv(
            self.fd.as_raw_fd(),
            &mut self.buffer,
            MsgFlags::MSG_DONTWAIT,
        )
    }
}

/// A request with its header; the attributes follow as they are.
fn request(kind: u16, flags: u16, sequence: u32, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + GENERIC + attributes.len()).unwrap_or(u32::MAX);
    let mut request = Vec::with_capacity(HEADER + GENERIC + attributes.len());
    request.extend(length.to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    request.extend(sequence.to_ne_bytes());
    request.extend(0u32.to_ne_bytes());
    request.extend([FAMILY as u8, 0, 0, 0]);
    request.extend(attributes);
    request
}

/// An attribute that holds a text.
pub(super) fn text_attribute(kind: u16, text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len() + 5).unwrap_or(u16::MAX);
    let mut attribute = Vec::new();
    attribute.extend(length.to_ne_bytes());
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(text.as_bytes());
    attribute.push(0);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// One message of the kernel.
pub(super) struct Received<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    /// Of events: the port of whoever caused it.
    pub(super) port: u32,
    pub(super) payload: &'a [u8],
}

impl Received<'_> {
    /// The error that an answer carries; an acknowledgement carries none.
    fn errno(&self) -> Option<Errno> {
        let code = i32::from_ne_bytes(*self.payload.first_chunk()?);
        (code != 0).then(|| Errno::from_raw(code.saturating_neg()))
    }
}

/// The messages of one datagram.
pub(super) struct Messages<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Received<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let parsed = parse(self.0);
        self.0 = match &parsed {
            Some((_, rest)) => rest,
            None => &[],
        };
        Some(
            parsed
                .map(|(message, _)| message)
                .ok_or(Error::Malformed("a netlink header")),
        )
    }
}

fn parse(bytes: &[u8]) -> Option<(Received<'_>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (kind, rest) = rest.split_first_chunk::<2>()?;
    let (flags, rest) = rest.split_first_chunk::<2>()?;
    let (sequence, rest) = rest.split_first_chunk::<4>()?;
    let (port, _) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_ne_bytes(*length)).ok()?;
    let payload = bytes.get(HEADER..length)?;
    let message = Received {
        kind: u16::from_ne_bytes(*kind),
        flags: u16::from_ne_bytes(*flags),
        sequence: u32::from_ne_bytes(*sequence),
        port: u32::from_ne_bytes(*port),
        payload,
    };
    let next = length.next_multiple_of(4).min(bytes.len());
    Some((message, bytes.get(next..)?))
}

/// The attributes of a message or of a nest, each as its type and value.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), Error>> {
    NlasIterator::new(bytes).map(|attribute| {
        const MALFORMED: Error = Error::Malformed("a netlink attribute");
        let attribute = attribute.map_err(|_| MALFORMED)?;
        let (kind, length) = (attribute.kind(), attribute.value_length());
        let value = attribute
            .into_inner()
            .get(NLA_HEADER_SIZE..)
            .and_then(|v| v.get(..length));
        Ok((kind, value.ok_or(MALFORMED)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_read_back() {
        let request = request(10 << 8 | 1, NLM_F_DUMP, 7, &text_attribute(1, "qod"));
        let messages: Vec<_> = Messages(&request).map(Result::unwrap).collect();
        assert_eq!(messages.len(), 1);
        assert_eq!(
            (messages[0].kind, messages[0].flags, messages[0].sequence),
            (2561, 0x300, 7)
        );
        let found: Vec<_> = attributes(&messages[0].payload[GENERIC..])
            .map(Result::unwrap)
            .collect();
        assert_eq!(found, [(1, &b"qod\0"[..])]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic_and_to_an_end(bytes: Vec<u8>) {
            for message in Messages(&bytes).flatten() {
                let _ = message.errno();
                prop_assert!(attributes(message.payload).count() <= bytes.len());
            }
        }
    }
}
