//! Addresses and prefixes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order in which they are written.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }

    /// Length of an address in bits.
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// An address and the number of its leading bits that count. Host bits are clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    first: IpAddr,
    length: u8,
}

impl Prefix {
    /// The prefix of `length` bits that holds `address`, or nothing if the family has fewer bits.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let bits = Family::of(address).bits();
        if length > bits {
            return None;
        }
        let host_bits = host_bits(bits - length);
        let first = match address {
            IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() & !(host_bits as u32))),
            IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & !host_bits)),
        };
        Some(Self { first, length })
    }

    /// All addresses of a family.
    pub fn any(family: Family) -> Self {
        let first = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Self { first, length: 0 }
    }

    /// The family of its addresses.
    pub fn family(self) -> Family {
        Family::of(self.first)
    }

    /// Its first address.
    pub fn first(self) -> IpAddr {
        self.first
    }

    /// Its last address.
    pub fn last(self) -> IpAddr {
        let host_bits = host_bits(self.family().bits() - self.length);
        match self.first {
            IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() | host_bits as u32)),
            IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() | host_bits)),
        }
    }

    /// The prefix whose first and last addresses these are, or nothing if there is none.
    pub fn spanning(first: IpAddr, last: IpAddr) -> Option<Self> {
        let differing = match (first, last) {
            (IpAddr::V4(a), IpAddr::V4(b)) => 32 - (a.to_bits() ^ b.to_bits()).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => 128 - (a.to_bits() ^ b.to_bits()).leading_zeros(),
            _ => return None,
        };
        let length = Family::of(first).bits() - u8::try_from(differing).ok()?;
        Self::new(first, length).filter(|prefix| prefix.first == first && prefix.last() == last)
    }

    /// Whether an address lies in it.
    pub fn contains(self, address: IpAddr) -> bool {
        Self::new(address, self.length) == Some(self)
    }

    /// Whether some address lies in both. Two prefixes never overlap partly.
    pub fn overlaps(self, other: Self) -> bool {
        let shorter = if self.length <= other.length {
            self
        } else {
            other
        };
        let longer = if self.length <= other.length {
            other
        } else {
            self
        };
        Self::new(longer.first, shorter.length) == Some(shorter)
    }
}

/// That many of the lowest bits, at most 128; an IPv4 address has at most the lower 32 of them.
fn host_bits(count: u8) -> u128 {
    u128::MAX.checked_shr(128 - u32::from(count)).unwrap_or(0)
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.length == self.family().bits() {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}/{}", self.first, self.length)
        }
    }
}

/// Why a text is not an address or prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError(String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AddressError {}

/// Reads `address` or `address/length` of one family and keeps both as they were written.
///
/// # Errors
/// Not an address of that family, an IPv4-mapped IPv6 address, or a length beyond the family's.
pub fn parse_address(text: &str, family: Family) -> Result<(IpAddr, u8), AddressError> {
    let error = |why: &str| {
        Err(AddressError(format!(
            "{text:?} is not an {family} address{why}"
        )))
    };
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let parsed = match family {
        Family::V4 => Ipv4Addr::from_str(address).map(IpAddr::V4),
        Family::V6 => Ipv6Addr::from_str(address).map(IpAddr::V6),
    };
    let Ok(parsed) = parsed else { return error("") };
    if let IpAddr::V6(v6) = parsed
        && v6.to_ipv4_mapped().is_some()
    {
        return error(": it is an IPv4-mapped one");
    }
    let length = match length {
        None => family.bits(),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => match digits.parse() {
            Ok(length) if length <= family.bits() => length,
            _ => return error(&format!(" with a mask of at most {} bits", family.bits())),
        },
        Some(_) => return error(" with a mask in bits"),
    };
    Ok((parsed, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(text: &str) -> Prefix {
        let family = if text.contains(':') {
            Family::V6
        } else {
            Family::V4
        };
        let (address, length) = parse_address(text, family).unwrap();
        Prefix::new(address, length).unwrap()
    }

    #[test]
    fn prefixes_clear_host_bits_and_know_their_ends() {
        let net = prefix("198.51.100.77/28");
        assert_eq!(net.to_string(), "198.51.100.64/28");
        assert_eq!(net.last(), IpAddr::from([198, 51, 100, 79]));
        assert_eq!(
            prefix("0.0.0.0/0").last(),
            IpAddr::from([255, 255, 255, 255])
        );
        assert_eq!(
            prefix("::/0").last(),
            IpAddr::V6(Ipv6Addr::from_bits(u128::MAX))
        );
        assert_eq!(prefix("2001:db8::1").to_string(), "2001:db8::1");
    }

    #[test]
    fn addresses_are_read_strictly() {
        for bad in [
            "",
            "1.2.3",
            "01.2.3.4",
            "1.2.3.4/33",
            "1.2.3.4/",
            "1.2.3.4/+1",
            "::1",
            "1.2.3.4/-1",
        ] {
            assert!(parse_address(bad, Family::V4).is_err(), "{bad}");
        }
        for bad in [
            "",
            "1.2.3.4",
            "::ffff:1.2.3.4",
            "::1/129",
            "fe80::1%eth0",
            ":::",
        ] {
            assert!(parse_address(bad, Family::V6).is_err(), "{bad}");
        }
        assert!(parse_address("2001:0DB8::1", Family::V6).is_ok());
        let text = parse_address("::ffff:1.2.3.4", Family::V6)
            .unwrap_err()
            .to_string();
        assert_eq!(
            text,
            "\"::ffff:1.2.3.4\" is not an IPv6 address: it is an IPv4-mapped one"
        );
    }

    #[test]
    fn ends_that_are_no_prefix_are_refused() {
        assert_eq!(
            Prefix::spanning(IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])),
            None
        );
        assert_eq!(
            Prefix::spanning(IpAddr::from([10, 0, 0, 1]), IpAddr::V6(Ipv6Addr::LOCALHOST)),
            None
        );
    }

    proptest! {
        #[test]
        fn a_prefix_is_found_again_from_its_ends(bits: u128, length in 0u8..=128) {
            let net = Prefix::new(IpAddr::V6(Ipv6Addr::from_bits(bits)), length).unwrap();
            prop_assert_eq!(Prefix::spanning(net.first(), net.last()), Some(net));
        }
    }
}
