//! The agent's own connection to rtnetlink, and what its messages are made of.
//!
//! Messages come and go as bytes, and whoever asked reads of them what it needs. rtnetlink's own message
//! type reads everything: every kind of link, tunnel and filter that Linux has. That is half a megabyte
//! of a router's flash, and one attribute in a shape that it does not expect makes it refuse a whole
//! message.

mod attribute;
mod device;
mod message;

use std::io;

use futures_util::StreamExt;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::proto::{ConnectionHandle, new_connection};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, SocketAddr};

pub(crate) use self::attribute::{
    Attribute, attribute, long, name, nest, number, text, with, word,
};
pub(crate) use self::device::{Device, device_body};
use self::message::Message;

/// The connection over which the agent asks and orders; clones share it.
#[derive(Clone, Debug)]
pub struct Rtnetlink {
    handle: ConnectionHandle<Message>,
    /// Its port id: the kernel names it in what it tells others of the agent's own changes.
    pub port: u32,
}

impl Rtnetlink {
    /// Opens the connection. Must be called in a tokio runtime, which polls it.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn open() -> io::Result<Self> {
        let (mut connection, handle, _) = new_connection(NETLINK_ROUTE)?;
        let port = connection.socket_mut().socket_mut().bind_auto()?;
        tokio::spawn(connection);
        Ok(Self {
            handle,
            port: port.port_number(),
        })
    }

    /// Everything of a kind (`RTM_GET…`), as the bodies of the kernel's messages.
    pub(crate) async fn dump(&self, get: u16, body: Vec<u8>) -> io::Result<Vec<Vec<u8>>> {
        self.request(get, NLM_F_DUMP, body).await
    }

    /// One thing of a kind (`RTM_GET…`).
    pub(crate) async fn get(&self, get: u16, body: Vec<u8>) -> io::Result<Vec<u8>> {
        let answers = self.request(get, 0, body).await?;
        let answer = answers.into_iter().next();
        answer.ok_or_else(|| io::Error::other("the kernel's answer cannot be read"))
    }

    /// Changes something, and waits for the kernel's acknowledgement.
    pub(crate) async fn order(&self, kind: u16, flags: u16, body: Vec<u8>) -> io::Result<()> {
        self.request(kind, NLM_F_ACK | flags, body).await?;
        Ok(())
    }

    async fn request(&self, kind: u16, flags: u16, body: Vec<u8>) -> io::Result<Vec<Vec<u8>>> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let payload = NetlinkPayload::InnerMessage(Message { kind, body });
        let mut request = NetlinkMessage::new(header, payload);
        request.finalize();
        let kernel = SocketAddr::new(0, 0);
        let answers = self.handle.request(request, kernel);
        let mut answers = answers.map_err(|error| io::Error::other(error.to_string()))?;
        let mut bodies = Vec::new();
        // netlink-proto keeps acknowledgements and the end of a dump to itself, and ends the stream.
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => bodies.push(message.body),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
        }
        Ok(bodies)
    }
}
