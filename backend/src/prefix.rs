//! IP addresses and prefixes as APIs spell them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address with an optional mask, as it was written; host bits may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    address: IpAddr,
    /// Bits that count. Absent: all of them, and none was written.
    length: Option<u8>,
}

/// What is wrong with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Not an IPv4 address.
    #[error("must be an IPv4 address in dotted decimal without leading zeros")]
    NotIpv4,
    /// Not an IPv6 address.
    #[error("must be an IPv6 address")]
    NotIpv6,
    /// `::ffff:192.0.2.1`: it means IPv4, and no packet carries it.
    #[error("must not be an IPv4-mapped IPv6 address")]
    Mapped,
    /// The mask is not a number of that family's range.
    #[error("must have a mask from 0 to {0}")]
    Mask(u8),
}

impl Prefix {
    /// Reads an IPv4 address with an optional mask.
    pub fn ipv4(text: &str) -> Result<Self, PrefixError> {
        let (address, mask) = split(text);
        let address: Ipv4Addr = address.parse().map_err(|_| PrefixError::NotIpv4)?;
        Ok(Self {
            address: address.into(),
            length: length(mask, 32)?,
        })
    }

    /// Reads an IPv6 address, in any legal spelling, with an optional mask.
    pub fn ipv6(text: &str) -> Result<Self, PrefixError> {
        let (address, mask) = split(text);
        let address: Ipv6Addr = address.parse().map_err(|_| PrefixError::NotIpv6)?;
        if address.to_ipv4_mapped().is_some() {
            return Err(PrefixError::Mapped);
        }
        Ok(Self {
            address: address.into(),
            length: length(mask, 128)?,
        })
    }

    /// Reads either family.
    pub fn any(text: &str) -> Result<Self, PrefixError> {
        if text.contains(':') {
            Self::ipv6(text)
        } else {
            Self::ipv4(text)
        }
    }

    /// The address as it was written.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Bits that count.
    pub fn length(&self) -> u8 {
        self.length.unwrap_or(self.width())
    }

    /// Whether both are of one family and have an address in common.
    pub fn intersects(&self, other: &Self) -> bool {
        let common = self.length().min(other.length());
        self.address.is_ipv4() == other.address.is_ipv4()
            && network(self.address, common) == network(other.address, common)
    }

    /// Whether `address` lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.intersects(&Self {
            address,
            length: None,
        })
    }

    /// The prefix with its host bits cleared and its mask written: one spelling for one prefix.
    pub fn canonical(&self) -> String {
        format!("{}/{}", network(self.address, self.length()), self.length())
    }

    fn width(&self) -> u8 {
        if self.address.is_ipv4() { 32 } else { 128 }
    }
}

impl std::fmt::Display for Prefix {
    /// RFC 5952, with the mask if one was written.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.length {
            None => write!(formatter, "{}", self.address),
            Some(length) => write!(formatter, "{}/{length}", self.address),
        }
    }
}

/// Every prefix that `address` lies in, longest first, in its canonical spelling.
pub fn prefixes_of(address: IpAddr) -> impl Iterator<Item = String> {
    let width = if address.is_ipv4() { 32_u8 } else { 128 };
    (0..=width)
        .rev()
        .map(move |length| format!("{}/{length}", network(address, length)))
}

/// Whether `address` is one that homes use inside: RFC 1918 or link-local. The shared space of carriers
/// (100.64.0.0/10) is the operator's own and tells a home.
pub fn is_private(address: Ipv4Addr) -> bool {
    address.is_private() || address.is_link_local()
}

/// A MAC address as six octets in lower case with colons, from colons or hyphens.
pub fn mac(text: &str) -> Option<String> {
    let octets: Vec<&str> = text.split([':', '-']).collect();
    let legal = octets.len() == 6
        && octets
            .iter()
            .all(|octet| octet.len() == 2 && octet.bytes().all(|b| b.is_ascii_hexdigit()));
    legal.then(|| octets.join(":").to_ascii_lowercase())
}

fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        None => (text, None),
        Some((address, mask)) => (address, Some(mask)),
    }
}

fn length(mask: Option<&str>, most: u8) -> Result<Option<u8>, PrefixError> {
    let Some(mask) = mask else { return Ok(None) };
    // "+8" and "08" parse as numbers and are no masks.
    let plain = mask.bytes().all(|b| b.is_ascii_digit()) && (mask == "0" || !mask.starts_with('0'));
    match mask.parse() {
        Ok(length) if plain && length <= most => Ok(Some(length)),
        _ => Err(PrefixError::Mask(most)),
    }
}

fn network(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(length.min(32)))
                .unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(length.min(128)))
                .unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings() {
        let shown = |text: &str| Prefix::any(text).map(|prefix| prefix.to_string());
        assert_eq!(shown("192.168.0.1/24").unwrap(), "192.168.0.1/24");
        assert_eq!(shown("2001:0DB8::0:1").unwrap(), "2001:db8::1");
        assert_eq!(shown("::/0").unwrap(), "::/0");
        for bad in [
            "1.2.3",
            "01.2.3.4",
            "1.2.3.4/33",
            "1.2.3.4/",
            "1.2.3.4/+8",
            "1.2.3.4/08",
            "1.2.3.256",
            "::1/129",
            "::ffff:1.2.3.4",
            "fe80::1%eth0",
            "",
            "2001:db8::/64/64",
            " 1.2.3.4",
        ] {
            assert!(Prefix::any(bad).is_err(), "{bad}");
        }
        assert_eq!(Prefix::any("10.1.2.3/8").unwrap().canonical(), "10.0.0.0/8");
        assert_eq!(mac("02-00-00-00-00-AB").unwrap(), "02:00:00:00:00:ab");
        assert_eq!(mac("02:00:00:00:00"), None);
    }

    #[test]
    fn every_prefix_of_an_address_contains_it() {
        for address in ["203.0.113.7", "2001:db8:1::23"] {
            let whole = Prefix::any(address).unwrap();
            let prefixes: Vec<_> = prefixes_of(whole.address()).collect();
            assert_eq!(prefixes.len(), usize::from(whole.length()) + 1);
            for prefix in prefixes {
                assert!(Prefix::any(&prefix).unwrap().intersects(&whole), "{prefix}");
            }
        }
    }

    proptest! {
        /// Against a walk over every address of 10.0.0.0/24.
        #[test]
        fn intersection_is_a_common_address(a: u8, b: u8, la in 24_u8..=32, lb in 24_u8..=32) {
            let members = |host: u8, length: u8| {
                let size = 1_u16 << (32 - length);
                let first = u16::from(host) / size * size;
                first..first + size
            };
            let (left, right) = (members(a, la), members(b, lb));
            let expected = (0..256_u16).any(|host| left.contains(&host) && right.contains(&host));
            let prefix = |host: u8, length: u8| Prefix::ipv4(&format!("10.0.0.{host}/{length}")).unwrap();
            prop_assert_eq!(prefix(a, la).intersects(&prefix(b, lb)), expected);
        }

        #[test]
        fn nothing_panics(text in ".{0,40}") {
            let _ = Prefix::any(&text);
            let _ = mac(&text);
        }
    }
}
