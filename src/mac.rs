//! MAC addresses of devices.

use std::fmt;

/// The MAC address of one device: no group, and not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

impl Mac {
    /// From the six octets in which the kernel gives it; nothing if no device can have it.
    pub fn new(octets: &[u8]) -> Option<Self> {
        let octets: [u8; 6] = octets.try_into().ok()?;
        let [first, ..] = octets;
        // The lowest bit of the first octet marks a group (IEEE 802).
        (first & 1 == 0 && octets != [0; 6]).then_some(Self(octets))
    }

    /// From six octets in hexadecimal with colons between, as `02:00:00:00:00:17`.
    pub fn parse(text: &str) -> Option<Self> {
        // Bounded before it is taken apart.
        let octets: Option<Vec<u8>> = text.split(':').take(7).map(octet).collect();
        Self::new(&octets?)
    }
}

fn octet(text: &str) -> Option<u8> {
    let legal = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    legal.then(|| u8::from_str_radix(text, 16).ok())?
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_device_can_have_is_read() {
        let mac = Mac::parse("02:00:00:00:00:aB").unwrap();
        assert_eq!(mac.to_string(), "02:00:00:00:00:ab");
        for bad in [
            "",
            "02:00",
            "02:00:00:00:00:+1",
            "02:00:00:00:00:1",
            "02-00-00-00-00-01",
            "02:00:00:00:00:01:02",
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "33:33:00:00:00:01",
        ] {
            assert_eq!(Mac::parse(bad), None, "{bad}");
        }
    }
}
