//! The router's links: which ports devices are attached to, and the device towards the internet.
//!
//! [`Links::snapshot`] reads them from the kernel whenever it is asked; [`Watch`] says when it is
//! worth asking again. Events carry no news themselves: a dump is cheap, it is never out of step,
//! and events get lost.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use futures_util::{FutureExt, TryStreamExt};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use nix::errno::Errno;
use qod_wire::Medium;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use rtnetlink::{Handle, MulticastGroup};

/// What the agent needs to know of the router's links, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Where devices are attached, in the order of the configuration, then of their index.
    pub ports: Vec<Port>,
    /// The device towards the internet. None: it is not configured, or not there.
    pub wan: Option<Wan>,
    /// Global IPv6 prefixes of the configured LAN devices, with their lengths.
    pub prefixes: Vec<(Ipv6Addr, u8)>,
    /// Configured devices that are not there.
    pub missing: Vec<String>,
}

/// One port towards the home: a member of a bridge, or a device of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Linux device.
    pub name: String,
    /// Its index: another one after the device was made anew.
    pub index: u32,
    /// Whether it is Wi-Fi.
    pub medium: Medium,
    /// The bridge that it is a member of.
    pub bridge: Option<String>,
}

/// The device towards the internet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wan {
    /// Linux device.
    pub name: String,
    /// Its index: another one after the device was made anew.
    pub index: u32,
    /// Whether it is set up (`IFF_UP`); a cable may still be missing.
    pub up: bool,
    /// The largest packet, without link-layer header.
    pub mtu: u32,
    /// Its addresses beyond its link: every IPv4 address of that scope (also private ones, behind
    /// another router), IPv6 without unique-local ones.
    pub addresses: Vec<IpAddr>,
}

/// The configured links, and the way to the kernel.
#[derive(Clone, Debug)]
pub struct Links {
    handle: Handle,
    lan: Vec<String>,
    wan: Option<String>,
}

impl Links {
    /// `lan`: bridges or devices of their own; `wan`: none on a plain access point. The handle's
    /// connection must be polled by somebody.
    pub fn new(handle: Handle, lan: Vec<String>, wan: Option<String>) -> Self {
        Self { handle, lan, wan }
    }

    /// What is there now.
    ///
    /// # Errors
    ///
    /// The kernel's refusal. A device that is not there is none: it is in
    /// [`missing`](Snapshot::missing).
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        let links = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect::<Vec<_>>()
            .await;
        let links = links.map_err(|error| Error::new("reading the links", error))?;
        let addresses = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect::<Vec<_>>()
            .await;
        let addresses = addresses.map_err(|error| Error::new("reading the addresses", error))?;
        let links: Vec<_> = links.iter().filter_map(Link::read).collect();
        let addresses: Vec<_> = addresses.iter().filter_map(Address::read).collect();
        Ok(self.compose(&links, &addresses))
    }

    fn compose(&self, links: &[Link], addresses: &[Address]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let find = |name: &str| links.iter().find(|link| link.name == name);
        for name in &self.lan {
            let Some(device) = find(name) else {
                snapshot.missing.push(name.clone());
                continue;
            };
            let bridge = device.is_bridge.then(|| name.clone());
            let member = |link: &&Link| match device.is_bridge {
                true => link.master == Some(device.index),
                false => link.index == device.index,
            };
            for link in links.iter().filter(member) {
                if snapshot.ports.iter().any(|port| port.index == link.index) {
                    continue;
                }
                snapshot.ports.push(Port {
                    name: link.name.clone(),
                    index: link.index,
                    medium: link.medium,
                    bridge: bridge.clone(),
                });
            }
            let on_device = addresses
                .iter()
                .filter(|address| address.index == device.index);
            snapshot
                .prefixes
                .extend(on_device.filter_map(Address::prefix));
        }
        if let Some(name) = &self.wan {
            match find(name) {
                None => snapshot.missing.push(name.clone()),
                Some(link) => {
                    let on_wan = addresses
                        .iter()
                        .filter(|address| address.index == link.index);
                    snapshot.wan = Some(Wan {
                        name: name.clone(),
                        index: link.index,
                        up: link.up,
                        mtu: link.mtu,
                        addresses: on_wan.map(|address| address.address).collect(),
                    });
                }
            }
        }
        snapshot
    }
}

/// One dumped link.
#[derive(Clone, Debug)]
struct Link {
    name: String,
    index: u32,
    master: Option<u32>,
    is_bridge: bool,
    up: bool,
    mtu: u32,
    medium: Medium,
}

impl Link {
    fn read(message: &LinkMessage) -> Option<Self> {
        let mut link = Self {
            name: String::new(),
            index: message.header.index,
            master: None,
            is_bridge: false,
            up: message.header.flags.contains(LinkFlags::Up),
            mtu: 0,
            medium: Medium::Wired,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Controller(master) => link.master = Some(*master),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::LinkInfo(info) => {
                    link.is_bridge = info.contains(&LinkInfo::Kind(InfoKind::Bridge));
                }
                _ => {}
            }
        }
        if link.name.is_empty() {
            return None;
        }
        link.medium = medium(&link.name);
        Some(link)
    }
}

/// cfg80211 gives its devices a link to their phy (`net/wireless/sysfs.c`); rtnetlink says nothing
/// of it.
fn medium(device: &str) -> Medium {
    let phy = Path::new("/sys/class/net").join(device).join("phy80211");
    if phy.exists() {
        Medium::Wifi
    } else {
        Medium::Wired
    }
}

/// One dumped address that others can reach.
#[derive(Clone, Debug)]
struct Address {
    index: u32,
    address: IpAddr,
    length: u8,
}

impl Address {
    fn read(message: &AddressMessage) -> Option<Self> {
        let header = &message.header;
        // Not yet known to be the only one of its kind, or known not to be.
        let unusable = AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed;
        if header.scope != AddressScope::Universe || header.flags.intersects(unusable) {
            return None;
        }
        let find = |local: bool| {
            message
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    AddressAttribute::Local(address) if local => Some(*address),
                    AddressAttribute::Address(address) if !local => Some(*address),
                    _ => None,
                })
        };
        // On a point-to-point link IFA_ADDRESS is the other end's (linux/if_addr.h).
        let address = find(true).or_else(|| find(false))?;
        let unique_local = matches!(address, IpAddr::V6(address) if address.is_unique_local());
        (!unique_local).then_some(Self {
            index: header.index,
            address,
            length: header.prefix_len,
        })
    }

    fn prefix(&self) -> Option<(Ipv6Addr, u8)> {
        let IpAddr::V6(address) = self.address else {
            return None;
        };
        let host_bits = 128_u32.saturating_sub(self.length.into());
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        Some((Ipv6Addr::from_bits(address.to_bits() & mask), self.length))
    }
}

/// Says when links or addresses may have changed.
///
/// What the kernel tells is not decoded: that something came is all that counts. So nothing is
/// kept here; what is not yet read waits in the socket's buffer, and when that is full the kernel
/// says so, which is an event like any other. Changes of qdiscs are no events.
pub struct Watch {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

impl Watch {
    /// Begins to listen: what changes from now on is not missed. Must be called in a tokio runtime.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn new() -> Result<Self, Error> {
        let open = || {
            let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
            socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
            let groups = [
                MulticastGroup::Link,
                MulticastGroup::Ipv4Ifaddr,
                MulticastGroup::Ipv6Ifaddr,
            ];
            for group in groups {
                socket.socket_mut().add_membership(group as u32)?;
            }
            Ok(socket)
        };
        let socket = open().map_err(|error| Error {
            doing: "listening to link events",
            error,
        })?;
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(64),
        })
    }

    /// Waits for the next change. However many have come since the last call, they are one. Safe
    /// to drop while it waits.
    ///
    /// # Errors
    ///
    /// The socket is broken.
    pub async fn changed(&mut self) -> Result<(), Error> {
        self.receive().await?;
        while let Some(received) = self.receive().now_or_never() {
            received?;
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<(), Error> {
        self.buffer.clear();
        match self.socket.recv(&mut self.buffer).await {
            // Some were lost.
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => Ok(()),
            received => received.map_err(|error| Error {
                doing: "reading link events",
                error,
            }),
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// The kernel did not say what links there are.
#[derive(Debug)]
pub struct Error {
    doing: &'static str,
    error: io::Error,
}

impl Error {
    fn new(doing: &'static str, error: rtnetlink::Error) -> Self {
        let error = match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            error => io::Error::other(error.to_string()),
        };
        Self { doing, error }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.error)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_masked() {
        let prefix = |address: &str, length| {
            let address = Address {
                index: 1,
                address: address.parse().unwrap(),
                length,
            };
            address
                .prefix()
                .map(|(prefix, length)| format!("{prefix}/{length}"))
        };
        assert_eq!(prefix("2001:db8:1:2::1", 60).unwrap(), "2001:db8:1::/60");
        assert_eq!(prefix("2001:db8::1", 128).unwrap(), "2001:db8::1/128");
        assert_eq!(prefix("2001:db8::1", 0).unwrap(), "::/0");
        assert_eq!(prefix("2001:db8::1", 200).unwrap(), "2001:db8::1/200");
        assert_eq!(prefix("192.0.2.1", 24), None);
    }
}
