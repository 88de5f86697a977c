//! A network device as the kernel describes it (`struct ifinfomsg`, `linux/if_link.h`).

use nix::libc::{
    IFF_LOWER_UP, IFF_UP, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MASTER, IFLA_MTU,
};

use super::attribute::{Attribute, attribute, name, with, word};

/// `sizeof(struct ifinfomsg)`
const FIXED: usize = 16;
/// Where its index and its flags are.
const INDEX: usize = 4;
const FLAGS: usize = 8;

/// What the agent wants to know of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// It is set up.
    pub(crate) up: bool,
    /// It has a carrier.
    pub(crate) carrier: bool,
    pub(crate) mtu: Option<u32>,
    /// Index of the bridge that it is a member of.
    pub(crate) master: Option<u32>,
    pub(crate) is_bridge: bool,
}

impl Device {
    /// From the body of a message. None: it has no name.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let (fixed, attributes) = body.split_at_checked(FIXED)?;
        let flags = word(fixed, FLAGS)?;
        let number = |kind| attribute(attributes, kind).and_then(|value| word(value, 0));
        let info = attribute(attributes, IFLA_LINKINFO);
        let kind = info.and_then(|info| attribute(info, IFLA_INFO_KIND));
        let name_of_it = attribute(attributes, IFLA_IFNAME).and_then(name)?;
        Some(Self {
            index: word(fixed, INDEX)?,
            name: name_of_it.to_owned(),
            up: flags & IFF_UP as u32 != 0,
            carrier: flags & IFF_LOWER_UP as u32 != 0,
            mtu: number(IFLA_MTU),
            master: number(IFLA_MASTER),
            is_bridge: kind.and_then(name) == Some("bridge"),
        })
        .filter(|device| !device.name.is_empty())
    }
}

/// The body of a message about the device with this index, or about none (0).
pub(crate) fn device_body(index: u32, attributes: &[Attribute]) -> Vec<u8> {
    let words = [0, index, 0, 0];
    let fixed = words.into_iter().flat_map(u32::to_ne_bytes).collect();
    with(fixed, attributes)
}

#[cfg(test)]
mod tests {
    use super::super::{nest, number, text};
    use super::*;

    #[test]
    fn devices_are_read() {
        let kind = |kind| nest(IFLA_LINKINFO, &[text(IFLA_INFO_KIND, kind)]);
        let attributes = [
            text(IFLA_IFNAME, "br-lan"),
            number(IFLA_MTU, 1492),
            kind("bridge"),
        ];
        let mut body = device_body(7, &attributes);
        body[FLAGS] = IFF_UP as u8;
        let device = Device::read(&body).unwrap();
        assert_eq!((device.index, device.name.as_str()), (7, "br-lan"));
        assert!(device.is_bridge && device.up && !device.carrier);
        assert_eq!((device.mtu, device.master), (Some(1492), None));

        let port = [
            text(IFLA_IFNAME, "lan1"),
            number(IFLA_MASTER, 7),
            kind("dsa"),
        ];
        let port = Device::read(&device_body(8, &port)).unwrap();
        assert_eq!((port.master, port.is_bridge), (Some(7), false));
    }

    #[test]
    fn what_is_no_device_is_none() {
        assert_eq!(Device::read(&[0; 15]), None);
        assert_eq!(Device::read(&device_body(7, &[])), None);
        assert_eq!(
            Device::read(&device_body(7, &[text(IFLA_IFNAME, "")])),
            None
        );
    }
}
