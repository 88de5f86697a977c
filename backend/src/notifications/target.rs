//! Where a consumer wants its notifications, and the token that its receiver wants to see.
//!
//! URLs are read as browsers read them (WHATWG URL, the crate `url`, which the database driver brings in any case):
//! its host parser knows every spelling of an IPv4 address that a resolver would take (`http://2130706433/`,
//! `http://0x7f.1/`), so a spelling cannot hide an address. What is sent to is the URL as this reading writes it, and
//! never the text that came, so that no second reader understands another host.

use std::fmt;
use std::net::IpAddr;

use axum::http::Uri;
use url::{Host, Url};

use crate::client::address::is_public;

/// Longest URL, in bytes.
pub const LONGEST_URL: usize = 2_048;
/// Lengths that a token may have (QoD 0.9.0).
pub const TOKEN_LENGTH: std::ops::RangeInclusive<usize> = 20..=256;

/// A URL that a request can be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    url: String,
    receiver: String,
    is_public: bool,
}

/// Why a text is no such URL, as the end of a sentence that names its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not `http://` or `https://`, or not readable at all.
    #[error("must be an http or https URL")]
    NotHttp,
    /// A character that has no place in a URL.
    #[error("must not contain spaces, control characters or backslashes")]
    Character,
    /// `user:password@`.
    #[error("must not contain user information")]
    UserInfo,
    /// Port 0.
    #[error("must not have port 0")]
    Port,
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    /// It is not one that a notification can be sent to.
    pub fn read(text: &str) -> Result<Self, TargetError> {
        if text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(TargetError::Character);
        }
        // The crate, as browsers, also takes `http:/host` and `http:host`.
        let (scheme, rest) = text.split_once("://").ok_or(TargetError::NotHttp)?;
        if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str())
            || rest.starts_with('/')
        {
            return Err(TargetError::NotHttp);
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(TargetError::UserInfo);
        }
        let mut url = Url::parse(text).map_err(|_| TargetError::NotHttp)?;
        // It means a place within the answer, and is never sent (RFC 9110 §4.2.5).
        url.set_fragment(None);
        let is_public = match url.host() {
            Some(Host::Ipv4(address)) => is_public(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => is_public(IpAddr::V6(address)),
            Some(Host::Domain(name)) => !is_this_host(name),
            None => return Err(TargetError::NotHttp),
        };
        let port = url.port_or_known_default().unwrap_or_default();
        if port == 0 {
            return Err(TargetError::Port);
        }
        let receiver = format!("{}:{port}", url.host_str().unwrap_or_default());
        let url = String::from(url);
        if url.parse::<Uri>().is_err() {
            return Err(TargetError::NotHttp);
        }
        Ok(Self {
            url,
            receiver,
            is_public,
        })
    }

    /// The URL in its one spelling.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Host and port: what may be logged, since a path may be a secret.
    pub fn receiver(&self) -> &str {
        &self.receiver
    }

    /// Whether the URL itself tells no address that is not a public one. What a name leads to is known when it is
    /// resolved.
    pub fn is_public(&self) -> bool {
        self.is_public
    }
}

/// RFC 6761 §6.3.
fn is_this_host(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

/// A token as `Authorization: Bearer` carries it (RFC 6750 §2.1).
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Reads a token. `None`: a header cannot carry it.
    pub fn read(text: &str) -> Option<Self> {
        let body = text.trim_end_matches('=');
        let legal = |b: u8| {
            b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
        };
        (TOKEN_LENGTH.contains(&text.len()) && !body.is_empty() && body.bytes().all(legal))
            .then(|| Self(text.to_owned()))
    }

    /// The token itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_url() {
        for (text, url, receiver) in [
            (
                "https://Receiver.Example",
                "https://receiver.example/",
                "receiver.example:443",
            ),
            (
                "HTTP://receiver.example:80/a?b=c#d",
                "http://receiver.example/a?b=c",
                "receiver.example:80",
            ),
            (
                "http://134744072:8080/x",
                "http://8.8.8.8:8080/x",
                "8.8.8.8:8080",
            ),
            (
                "https://[2A00:1450::0001]/",
                "https://[2a00:1450::1]/",
                "[2a00:1450::1]:443",
            ),
            (
                "https://bücher.example/ä",
                "https://xn--bcher-kva.example/%C3%A4",
                "xn--bcher-kva.example:443",
            ),
            // A later `@` belongs to the path.
            (
                "http://receiver.example/@x",
                "http://receiver.example/@x",
                "receiver.example:80",
            ),
        ] {
            let target = Target::read(text).unwrap();
            assert_eq!((target.url(), target.receiver()), (url, receiver), "{text}");
            assert!(target.is_public(), "{text}");
        }
    }

    #[test]
    fn addresses_that_are_not_public_in_every_spelling() {
        for text in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://127.1:8080",
            "http://%31%32%37.0.0.1/",
            "http://１２７.0.0.1/",
            "http://0/",
            "http://10.1.2.3",
            "http://172.16.0.1",
            "http://192.168.1.1",
            "http://169.254.169.254/latest",
            "http://100.64.0.1",
            "http://224.0.0.1",
            "http://192.0.2.1",
            "http://255.255.255.255",
            "http://[::]/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[fd00::1]/",
            "http://[fe80::1]/",
            "http://[ff02::1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[2002:a00:1::]/",
            "http://[2001:db8::1]/",
            "http://localhost/",
            "http://LOCALHOST:80/",
            "http://localhost./",
            "http://a.localhost/",
        ] {
            assert!(!Target::read(text).unwrap().is_public(), "{text}");
        }
    }

    #[test]
    fn what_is_no_receiver() {
        for (text, error) in [
            ("", TargetError::NotHttp),
            ("receiver.example", TargetError::NotHttp),
            ("ftp://receiver.example", TargetError::NotHttp),
            ("javascript://receiver.example", TargetError::NotHttp),
            ("http:/receiver.example", TargetError::NotHttp),
            ("http:receiver.example", TargetError::NotHttp),
            ("http://", TargetError::NotHttp),
            ("http:///path", TargetError::NotHttp),
            ("http://?x", TargetError::NotHttp),
            ("http://:80/", TargetError::NotHttp),
            ("http://receiver.example:65536/", TargetError::NotHttp),
            ("http://receiver.example:x/", TargetError::NotHttp),
            ("http://256.0.0.1/", TargetError::NotHttp),
            ("http://[::1", TargetError::NotHttp),
            ("http://[fe80::1%25eth0]/", TargetError::NotHttp),
            ("http://a<b/", TargetError::NotHttp),
            ("http://receiver.example:0/", TargetError::Port),
            ("http://user@receiver.example/", TargetError::UserInfo),
            ("http://user:word@receiver.example/", TargetError::UserInfo),
            ("http://@receiver.example/", TargetError::UserInfo),
            (
                "http://receiver.example\\@10.0.0.1/",
                TargetError::Character,
            ),
            ("http://receiver.example/a b", TargetError::Character),
            (" http://receiver.example/", TargetError::Character),
            (
                "http://receiver.example/\r\nX-Injected: 1",
                TargetError::Character,
            ),
            ("http://receiver.example/\u{0}", TargetError::Character),
            ("http://re\tceiver.example/", TargetError::Character),
        ] {
            assert_eq!(Target::read(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn tokens_that_a_header_carries() {
        for good in [
            "c8974e592c2fa383d4a3960714",
            "eyJ0eXAiOiJKV1QiLCJhbG.a-b_c~d+e/f==",
            &"x".repeat(256),
        ] {
            assert_eq!(Token::read(good).unwrap().expose(), good);
        }
        for bad in [
            "c8974e592c2fa383d4a",
            "c8974e592c2fa383d4a3 60714",
            "c8974e592c2fa383d4a3\r\nX-Injected: 1",
            "c8974e592c2fa383d4a3\u{e4}60714",
            "c8974e592c2fa383d=a3960714",
            "====================",
            &"x".repeat(257),
        ] {
            assert_eq!(Token::read(bad), None, "{bad:?}");
        }
        let token = Token::read("c8974e592c2fa383d4a3960714").unwrap();
        assert!(!format!("{token:?}").contains("c8974"));
    }

    proptest! {
        #[test]
        fn what_is_read_reads_the_same_again(text in "https?://[\\[\\]a-z0-9.:%@/?#äx\\\\ -]{0,40}") {
            if let Ok(target) = Target::read(&text) {
                prop_assert_eq!(Target::read(target.url()), Ok(target.clone()));
                let uri: Uri = target.url().parse().unwrap();
                let host = uri.host().unwrap_or_default();
                prop_assert!(target.receiver().starts_with(host), "{host} {target:?}");
            }
        }
    }
}
