//! The device of a session.

use std::net::IpAddr;

use qod_wire::RejectCode;

use super::Rejection;
use super::parse::invalid;
use crate::flow::{self, Family, Prefix};

/// The addresses under which the backend knows a device; at least one thing is known of it.
pub(super) struct Device<'a> {
    addresses: Vec<IpAddr>,
    named: &'a str,
}

impl<'a> Device<'a> {
    pub(super) fn parse(wire: &'a qod_wire::Device) -> Result<Self, Rejection> {
        let mut addresses = Vec::new();
        for (family, text) in [
            (Family::V4, &wire.ipv4_address),
            (Family::V6, &wire.ipv6_address),
        ] {
            let Some(text) = text else { continue };
            let (address, _mask) = flow::parse_address(text, family)
                .map_err(|error| invalid(format!("device: {error}")))?;
            if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
                return Err(invalid(format!(
                    "device: {address} is no address of a device"
                )));
            }
            addresses.push(address);
        }
        if let Some(mac) = &wire.mac_address
            && !is_mac(mac)
        {
            return Err(invalid(format!("device: {mac:?} is not a MAC address")));
        }
        let named = [&wire.ipv4_address, &wire.ipv6_address, &wire.mac_address]
            .into_iter()
            .flatten()
            .next()
            .ok_or_else(|| invalid("device names neither an address nor a MAC address"))?;
        Ok(Self { addresses, named })
    }

    /// Each address of the device together with the server prefix of its family.
    pub(super) fn of_families_with(
        &self,
        servers: Option<&[Prefix]>,
    ) -> Result<Vec<(IpAddr, Prefix)>, Rejection> {
        let server_of = |family| match servers {
            None => Some(Prefix::any(family)),
            Some(list) => list
                .iter()
                .copied()
                .find(|server| server.family() == family),
        };
        let pairs: Vec<_> = self
            .addresses
            .iter()
            .filter_map(|&address| Some((address, server_of(Family::of(address))?)))
            .collect();
        if pairs.is_empty() {
            let missing = match servers.and_then(|list| list.first()) {
                Some(server) => server.family().to_string(),
                None => "IP".to_owned(),
            };
            let message = format!("no {missing} address known for {}", self.named);
            return Err(Rejection::new(RejectCode::DeviceNotFound, message));
        }
        Ok(pairs)
    }
}

fn is_mac(text: &str) -> bool {
    // Bounded before it is taken apart.
    let octets: Vec<_> = text.split(':').take(7).collect();
    octets.len() == 6
        && octets
            .iter()
            .all(|o| o.len() == 2 && o.bytes().all(|b| b.is_ascii_hexdigit()))
}
