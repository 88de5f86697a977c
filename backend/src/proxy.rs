//! Where a request came from, where proxies stand before the backend.
//!
//! Each proxy writes down whom it heard: `X-Forwarded-For`, or `Forwarded` (RFC 7239). Read from the right, the first
//! address that is no trusted proxy is the client: what stands left of it, the client may have written itself.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::{HeaderMap, header};

use crate::prefix::Prefix;

/// Most proxies in a row.
const MOST_HOPS: usize = 16;
/// Longest such header that is read, in bytes, all its lines together.
const LONGEST: usize = 4_096;

/// The proxies whose word counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(pub Vec<Prefix>);

impl TrustedProxies {
    /// The client of a request that came from `peer`: `peer` itself unless it is a trusted proxy that names another.
    /// The port of another one is 0, being unknown or of no use.
    pub fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        if !self.trusts(peer.ip()) {
            return peer;
        }
        let named = if headers.contains_key("x-forwarded-for") {
            list(headers, "x-forwarded-for").and_then(|list| self.pick(list.rsplit(',').map(node)))
        } else if headers.contains_key(header::FORWARDED) {
            list(headers, "forwarded").and_then(|list| {
                let elements = split(&list, ',')?;
                self.pick(elements.into_iter().rev().map(forwarded_for))
            })
        } else {
            return peer;
        };
        match named {
            Some(address) => SocketAddr::new(address, 0),
            None => {
                tracing::debug!(%peer, "a proxy does not say for whom it asks");
                peer
            }
        }
    }

    /// The first address from the right that is no proxy, or the last that is one. `None`: one before it is none.
    fn pick(&self, hops: impl Iterator<Item = Option<IpAddr>>) -> Option<IpAddr> {
        let mut last = None;
        for (number, hop) in hops.enumerate() {
            let address = hop.filter(|_| number < MOST_HOPS)?;
            if !self.trusts(address) {
                return Some(address);
            }
            last = Some(address);
        }
        last
    }

    fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|prefix| prefix.contains(address))
    }
}

/// All lines of a header as one list (RFC 9110 §5.3).
fn list(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut list = String::new();
    for value in headers.get_all(name) {
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(value.to_str().ok()?);
    }
    (list.len() <= LONGEST).then_some(list)
}

/// The address of a node: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches([' ', '\t']);
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip().to_canonical());
    }
    let address: Ipv6Addr = text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?;
    Some(IpAddr::V6(address).to_canonical())
}

/// The address in the `for` parameter of an element of `Forwarded`. `None`: there is none, or a name in its place.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in split(element, ';')? {
        let (name, value) = pair.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("for") {
            if found.is_some() {
                return None;
            }
            let value = value.trim_matches([' ', '\t']);
            let value = value
                .strip_prefix('"')
                .map_or(Some(value), |quoted| quoted.strip_suffix('"'))?;
            found = Some(node(value)?);
        }
    }
    found
}

/// Splits outside of quotes. `None`: a quote does not end, or there is an escape, which no address has.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let mut quoted = false;
    if text.contains('\\') {
        return None;
    }
    let parts = text
        .split(|character| {
            quoted ^= character == '"';
            character == separator && !quoted
        })
        .collect();
    (!quoted).then_some(parts)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn client(peer: &str, headers: &[(&str, &str)]) -> String {
        let proxies = ["10.0.0.0/8", "2001:db8:9::/48"];
        let proxies = proxies.map(|prefix| Prefix::any(prefix).unwrap()).to_vec();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        TrustedProxies(proxies)
            .client(peer.parse().unwrap(), &map)
            .ip()
            .to_string()
    }

    #[test]
    fn the_right_most_stranger_is_the_client() {
        let of = |value: &str| client("10.0.0.1:5", &[("x-forwarded-for", value)]);
        assert_eq!(of("192.0.2.1"), "192.0.2.1");
        assert_eq!(of("6.6.6.6, 192.0.2.1"), "192.0.2.1");
        assert_eq!(of("6.6.6.6, 192.0.2.1,10.2.2.2 ,10.3.3.3"), "192.0.2.1");
        assert_eq!(of("nonsense, 192.0.2.1:1234, 10.2.2.2"), "192.0.2.1");
        assert_eq!(of("10.9.9.9, 10.8.8.8"), "10.9.9.9");
        assert_eq!(of("[2001:db8::1]:443"), "2001:db8::1");
        assert_eq!(of("2001:db8::1, 2001:db8:9::1"), "2001:db8::1");
        assert_eq!(of("::ffff:192.0.2.1"), "192.0.2.1");
        for nothing in [
            "",
            "unknown",
            "192.0.2.1, x",
            "192.0.2.1,",
            "1.2.3.4.5",
            "192.0.2.1, ",
        ] {
            assert_eq!(of(nothing), "10.0.0.1", "{nothing}");
        }
        assert_eq!(
            of(&format!("192.0.2.1{}", ",10.0.0.2".repeat(16))),
            "10.0.0.1"
        );
        assert_eq!(of(&"10.0.0.2,".repeat(1_000)), "10.0.0.1");
        let lines = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "192.0.2.1"),
        ];
        assert_eq!(client("10.0.0.1:5", &lines), "192.0.2.1");
        assert_eq!(client("[::ffff:10.0.0.1]:5", &lines), "192.0.2.1");
    }

    #[test]
    fn a_stranger_says_nothing() {
        let headers = [
            ("x-forwarded-for", "192.0.2.1"),
            ("forwarded", "for=192.0.2.1"),
        ];
        assert_eq!(client("203.0.113.7:5", &headers), "203.0.113.7");
        assert_eq!(client("10.0.0.1:5", &[]), "10.0.0.1");
    }

    #[test]
    fn forwarded() {
        let of = |value: &str| client("10.0.0.1:5", &[("forwarded", value)]);
        assert_eq!(of("for=192.0.2.1"), "192.0.2.1");
        assert_eq!(
            of("For=\"192.0.2.1:47\";proto=https;by=10.0.0.1"),
            "192.0.2.1"
        );
        assert_eq!(
            of("for=6.6.6.6, for=\"[2001:db8::1]:1\";host=\"a,b;c\", for=10.1.1.1"),
            "2001:db8::1"
        );
        for nothing in [
            "",
            "for=unknown",
            "for=_hidden",
            "proto=https",
            "for=192.0.2.1, proto=https",
            "for=192.0.2.1;for=192.0.2.2",
            "for=\"192.0.2.1",
            "for=\"192.0.2.\\1\"",
            "for",
        ] {
            assert_eq!(of(nothing), "10.0.0.1", "{nothing}");
        }
        let both = [
            ("forwarded", "for=6.6.6.6"),
            ("x-forwarded-for", "192.0.2.1"),
        ];
        assert_eq!(client("10.0.0.1:5", &both), "192.0.2.1");
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[ -~]{0,80}") {
            for name in ["forwarded", "x-forwarded-for"] {
                client("10.0.0.1:5", &[(name, &text)]);
            }
        }
    }
}
