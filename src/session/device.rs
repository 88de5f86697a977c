//! The device of a session, as the backend knows it.

use std::fmt;
use std::net::IpAddr;

use super::Rejection;
use super::parse::invalid;
use crate::flow::{self, Family};
use crate::mac::Mac;

/// What the backend knows a device by; at least one of them. All are of the same device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its IPv4 address.
    pub v4: Option<IpAddr>,
    /// Its IPv6 address, or one of them.
    pub v6: Option<IpAddr>,
    /// Its MAC address.
    pub mac: Option<Mac>,
}

impl Device {
    pub(super) fn parse(wire: &qod_wire::Device) -> Result<Self, Rejection> {
        let address = |text: &Option<String>, family| {
            text.as_ref()
                .map(|text| parse_address(text, family))
                .transpose()
        };
        let mac = wire.mac_address.as_ref().map(|text| {
            Mac::parse(text)
                .ok_or_else(|| invalid(format!("device: {text:?} is not a MAC address")))
        });
        let device = Self {
            v4: address(&wire.ipv4_address, Family::V4)?,
            v6: address(&wire.ipv6_address, Family::V6)?,
            mac: mac.transpose()?,
        };
        if device.v4.is_none() && device.v6.is_none() && device.mac.is_none() {
            return Err(invalid("device names neither an address nor a MAC address"));
        }
        Ok(device)
    }

    /// Its address of a family, where one is given.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// The addresses that are given, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        [self.v4, self.v6].into_iter().flatten()
    }
}

/// As people know it: by the first thing that is given.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.addresses().next(), self.mac) {
            (Some(address), _) => address.fmt(f),
            (None, Some(mac)) => mac.fmt(f),
            (None, None) => Ok(()),
        }
    }
}

fn parse_address(text: &str, family: Family) -> Result<IpAddr, Rejection> {
    let (address, _mask) =
        flow::parse_address(text, family).map_err(|error| invalid(format!("device: {error}")))?;
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return Err(invalid(format!(
            "device: {address} is no address of a device"
        )));
    }
    Ok(address)
}
