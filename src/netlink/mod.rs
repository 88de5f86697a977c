//! The agent's own connection to rtnetlink.

use rtnetlink::Handle;
use rtnetlink::sys::AsyncSocket;

use super::Error;

/// The connection over which the agent asks and orders.
#[derive(Clone, Debug)]
pub struct Rtnetlink {
    /// Sends requests; clones share the connection.
    pub handle: Handle,
    /// Its port id: the kernel names it in what it tells others of the agent's own changes.
    pub port: u32,
}

impl Rtnetlink {
    /// Opens the connection. Must be called in a tokio runtime, which polls it.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn open() -> Result<Self, Error> {
        let doing = "opening a netlink socket to rtnetlink";
        let (mut connection, handle, _) = rtnetlink::new_connection().map_err(Error::io(doing))?;
        let address = connection.socket_mut().socket_mut().bind_auto();
        let port = address.map_err(Error::io(doing))?.port_number();
        tokio::spawn(connection);
        Ok(Self { handle, port })
    }
}
