//! tc requests and dumps over rtnetlink.
//!
//! rtnetlink's builders know neither kinds nor options of HTB and TBF, so messages are built here
//! and sent by [`Handle::request`].

use std::io;

use futures_util::{StreamExt, TryStreamExt};
use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, Nla, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::tc::{TcAttribute, TcMessage, TcOption};
use nix::errno::Errno;
use rtnetlink::Handle;

/// A network device, as far as queues need it.
pub(super) struct Link {
    pub(super) index: i32,
    pub(super) mtu: u32,
}

/// Finds a device by name; none of that name is `Ok(None)`.
pub(super) async fn link(handle: &Handle, name: &str) -> io::Result<Option<Link>> {
    let mut answer = Box::pin(handle.link().get().match_name(name).execute());
    let message = match answer.try_next().await {
        Ok(Some(message)) => message,
        Ok(None) => return Err(io::Error::other("the kernel's answer cannot be read")),
        Err(error) => {
            let error = to_io(error);
            return match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
                Errno::ENODEV => Ok(None),
                _ => Err(error),
            };
        }
    };
    let mtu = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        });
    let index = i32::try_from(message.header.index).map_err(io::Error::other)?;
    Ok(Some(Link {
        index,
        mtu: mtu.unwrap_or(1500),
    }))
}

/// A message for one qdisc or class. `parent` and `handle` are tc handles, major in the upper
/// sixteen bits.
pub(super) fn message(
    index: i32,
    parent: u32,
    handle: u32,
    kind: &str,
    options: Vec<TcOption>,
) -> TcMessage {
    let mut message = TcMessage::with_index(index);
    message.header.parent = parent.into();
    message.header.handle = handle.into();
    message.attributes.push(TcAttribute::Kind(kind.to_owned()));
    if !options.is_empty() {
        message.attributes.push(TcAttribute::Options(options));
    }
    message
}

/// Sends one request and waits for the kernel's acknowledgement.
pub(super) async fn send(
    handle: &mut Handle,
    message: RouteNetlinkMessage,
    flags: u16,
) -> io::Result<()> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut answers = handle.request(request).map_err(to_io)?;
    // netlink-proto keeps the acknowledgement to itself and ends the stream.
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload {
            return Err(error.to_io());
        }
    }
    Ok(())
}

/// Every qdisc of every device: the kernel cannot filter this dump.
pub(super) async fn qdiscs(handle: &Handle) -> io::Result<Vec<TcMessage>> {
    handle
        .qdisc()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(to_io)
}

/// Every class of one device.
pub(super) async fn classes(handle: &Handle, index: i32) -> io::Result<Vec<TcMessage>> {
    handle
        .traffic_class(index)
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(to_io)
}

pub(super) fn to_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        error => io::Error::other(error.to_string()),
    }
}

/// One option in the kind's own numbering (`TCA_HTB_…`, `TCA_TBF_…`).
pub(super) fn option(number: u16, value: Vec<u8>) -> TcOption {
    TcOption::Other(DefaultNla::new(number, value))
}

/// The kind of a dumped qdisc or class, as tc names it.
pub(super) fn kind(message: &TcMessage) -> &str {
    let kind = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            TcAttribute::Kind(kind) => Some(kind.as_str()),
            _ => None,
        });
    kind.unwrap_or_default()
}

/// The value of one option of a dumped qdisc or class.
///
/// netlink-packet-route leaves the options of kinds that it does not know as one attribute: the
/// whole nest.
pub(super) fn find_option(message: &TcMessage, number: u16) -> Option<Vec<u8>> {
    let nest = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            TcAttribute::Options(options) => options.first(),
            _ => None,
        })?;
    let bytes = value(nest);
    NlasIterator::new(bytes.as_slice())
        .filter_map(Result::ok)
        .find(|option| option.kind() == number)
        .map(|option| option.value().to_vec())
}

/// An attribute's payload.
pub(super) fn value(attribute: &impl Nla) -> Vec<u8> {
    let mut bytes = vec![0; attribute.value_len()];
    attribute.emit_value(&mut bytes);
    bytes
}

/// The 32-bit number at this offset of a kernel structure.
pub(super) fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes
        .get(offset..)?
        .first_chunk()
        .copied()
        .map(u32::from_ne_bytes)
}

/// A 64-bit attribute.
pub(super) fn long(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().copied().map(u64::from_ne_bytes)
}

#[cfg(test)]
pub(super) fn dumped(message: &TcMessage) -> TcMessage {
    use netlink_packet_core::{Emitable, Parseable};

    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    TcMessage::parse(bytes.as_slice()).unwrap()
}
