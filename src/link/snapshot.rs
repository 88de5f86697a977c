//! Ports, LAN devices and the WAN device, as they are at one moment.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use netlink_packet_core::Parseable;
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use nix::libc::{RTM_GETADDR, RTM_GETLINK};
use qod_wire::Medium;

use super::Error;
use crate::flow::Prefix;
use crate::netlink::{Device, Rtnetlink, device_body};

/// `sizeof(struct ifaddrmsg)`
const ADDRESS: usize = 8;

/// What the agent needs to know of the router's links, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The configured LAN devices that are there, in the order of the configuration.
    pub lans: Vec<Lan>,
    /// Where devices are attached, in the order of the configuration, then of their index.
    pub ports: Vec<Port>,
    /// The device towards the internet. None: it is not configured, or not there.
    pub wan: Option<Wan>,
    /// Global IPv6 prefixes of the configured LAN devices, with their lengths.
    pub prefixes: Vec<(Ipv6Addr, u8)>,
    /// Every address of the router itself, of whatever device.
    pub own: BTreeSet<IpAddr>,
    /// Configured devices that are not there.
    pub missing: Vec<String>,
}

impl Snapshot {
    /// Whether the router reaches the internet as it did: where not, its connections of before may be dead.
    pub fn has_way_of(&self, before: &Self) -> bool {
        match (&self.wan, &before.wan) {
            (Some(wan), Some(old)) => {
                (wan.index, wan.up, &wan.addresses) == (old.index, old.up, &old.addresses)
            }
            // An access point's way is that of its own addresses, but for those that stay on a link.
            (None, None) => {
                let mut changed = self.own.symmetric_difference(&before.own);
                changed.all(is_of_one_link)
            }
            _ => false,
        }
    }
}

fn is_of_one_link(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_loopback(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address.is_loopback(),
    }
}

/// One configured LAN device: where the router meets the devices of the home as its neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lan {
    /// Linux device.
    pub name: String,
    /// Its index: another one after the device was made anew.
    pub index: u32,
    /// Whether devices are attached to its members, and not to itself.
    pub is_bridge: bool,
    /// Whether it is set up and has a carrier: whether anybody can be asked.
    pub is_up: bool,
    /// Where its neighbours' addresses are.
    pub prefixes: Vec<Prefix>,
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
    pub(super) rtnetlink: Rtnetlink,
    lan: Vec<String>,
    wan: Option<String>,
}

impl Links {
    /// `lan`: bridges or devices of their own; `wan`: none on a plain access point.
    pub fn new(rtnetlink: Rtnetlink, lan: Vec<String>, wan: Option<String>) -> Self {
        Self {
            rtnetlink,
            lan,
            wan,
        }
    }

    /// Begins to listen to changes.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn watch(&self) -> Result<super::Watch, Error> {
        super::Watch::new(self.rtnetlink.port)
    }

    /// What is there now.
    ///
    /// # Errors
    ///
    /// The kernel's refusal. A device that is not there is none: it is in
    /// [`missing`](Snapshot::missing).
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        let links = self.rtnetlink.dump(RTM_GETLINK, device_body(0, &[])).await;
        let links = links.map_err(Error::io("reading the links"))?;
        let addresses = self.rtnetlink.dump(RTM_GETADDR, vec![0; ADDRESS]).await;
        let addresses = addresses.map_err(Error::io("reading the addresses"))?;
        let links: Vec<_> = links.iter().filter_map(|body| Link::read(body)).collect();
        let read = |body: &Vec<u8>| Address::read(&AddressMessage::parse(body).ok()?);
        let addresses: Vec<_> = addresses.iter().filter_map(read).collect();
        let mut snapshot = self.compose(&links, &addresses);
        snapshot.own = addresses.iter().map(|address| address.address).collect();
        Ok(snapshot)
    }

    fn compose(&self, links: &[Link], addresses: &[Address]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let find = |name: &str| links.iter().find(|link| link.device.name == name);
        for name in &self.lan {
            let Some(Link { device, .. }) = find(name) else {
                snapshot.missing.push(name.clone());
                continue;
            };
            let bridge = device.is_bridge.then(|| name.clone());
            let member = |link: &&Link| match device.is_bridge {
                true => link.device.master == Some(device.index),
                false => link.device.index == device.index,
            };
            for link in links.iter().filter(member) {
                if snapshot
                    .ports
                    .iter()
                    .any(|port| port.index == link.device.index)
                {
                    continue;
                }
                snapshot.ports.push(Port {
                    name: link.device.name.clone(),
                    index: link.device.index,
                    medium: link.medium,
                    bridge: bridge.clone(),
                });
            }
            let on_device = || {
                addresses
                    .iter()
                    .filter(|address| address.index == device.index)
            };
            let global = on_device().filter(|address| address.is_global);
            snapshot.prefixes.extend(global.filter_map(Address::prefix));
            snapshot.lans.push(Lan {
                name: name.clone(),
                index: device.index,
                is_bridge: device.is_bridge,
                is_up: device.up && device.carrier,
                prefixes: on_device()
                    .filter_map(|address| Prefix::new(address.address, address.length))
                    .collect(),
            });
        }
        if let Some(name) = &self.wan {
            match find(name) {
                None => snapshot.missing.push(name.clone()),
                Some(link) => {
                    let on_wan = addresses
                        .iter()
                        .filter(|address| address.index == link.device.index && address.is_global);
                    snapshot.wan = Some(Wan {
                        name: name.clone(),
                        index: link.device.index,
                        up: link.device.up,
                        mtu: link.device.mtu.unwrap_or(0),
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
    device: Device,
    medium: Medium,
}

impl Link {
    fn read(body: &[u8]) -> Option<Self> {
        let device = Device::read(body)?;
        let medium = medium(&device.name);
        Some(Self { device, medium })
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

/// One dumped address.
#[derive(Clone, Debug)]
struct Address {
    index: u32,
    address: IpAddr,
    length: u8,
    /// Whether others can reach it from beyond the link.
    is_global: bool,
}

impl Address {
    fn read(message: &AddressMessage) -> Option<Self> {
        let header = &message.header;
        // Not yet known to be the only one of its kind, or known not to be.
        let unusable = AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed;
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
        Some(Self {
            index: header.index,
            address,
            length: header.prefix_len,
            is_global: header.scope == AddressScope::Universe
                && !header.flags.intersects(unusable)
                && !unique_local,
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
                is_global: true,
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

    #[test]
    fn another_address_of_the_wan_or_a_wan_that_went_and_came_is_another_way() {
        let snapshot = |index, up, address: &str| Snapshot {
            wan: Some(Wan {
                name: "wan".to_owned(),
                index,
                up,
                mtu: 1500,
                addresses: vec![address.parse().unwrap()],
            }),
            ..Snapshot::default()
        };
        let before = snapshot(3, true, "192.0.2.1");
        let mut same = before.clone();
        same.missing.push("lan".to_owned());
        same.own.insert("192.168.1.1".parse().unwrap());
        assert!(same.has_way_of(&before));
        for other in [
            snapshot(4, true, "192.0.2.1"),
            snapshot(3, false, "192.0.2.1"),
            snapshot(3, true, "192.0.2.2"),
            Snapshot::default(),
        ] {
            assert!(!other.has_way_of(&before) && !before.has_way_of(&other));
        }
    }

    #[test]
    fn the_way_of_an_access_point_is_that_of_its_own_address() {
        let mut moved = Snapshot::default();
        moved.own.insert("192.168.1.1".parse().unwrap());
        assert!(!moved.has_way_of(&Snapshot::default()));
        assert!(moved.has_way_of(&moved.clone()));
        let mut more = moved.clone();
        more.own.insert("fe80::1".parse().unwrap());
        assert!(more.has_way_of(&moved));
    }
}
