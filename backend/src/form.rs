//! Form encoding, of request bodies and of queries.

use crate::json::Invalid;

/// The pairs of a request's query.
///
/// # Errors
/// It is malformed.
pub fn query(query: Option<String>) -> Result<Vec<(String, String)>, Invalid> {
    parse(query.as_deref().unwrap_or_default()).ok_or_else(|| Invalid {
        path: "the query".to_owned(),
        reason: "it is malformed".to_owned(),
    })
}

/// The pairs of a form or a query (`application/x-www-form-urlencoded`). `None`: it is malformed.
pub fn parse(form: &str) -> Option<Vec<(String, String)>> {
    form.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(key)?, decode(value)?))
        })
        .collect()
}

/// Undoes form encoding: `+` is a space, `%41` a byte. `None`: it is malformed.
pub fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A value for a query: what is not unreserved (RFC 3986 §2.3) is percent-encoded.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        for text in ["", "a-b._~", "a b+c%&=?#/\n", "ä…"] {
            let encoded = encode(text);
            assert_eq!(decode(&encoded).as_deref(), Some(text));
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
            assert!(encoded.bytes().all(plain), "{encoded}");
        }
    }

    #[test]
    fn malformed_escapes_are_refused() {
        for broken in ["a=%", "a=%4", "a=%zz", "a=%ff"] {
            assert!(parse(broken).is_none(), "{broken}");
        }
        assert_eq!(
            parse("a=b%20c+d&e").unwrap(),
            [
                ("a".to_owned(), "b c d".to_owned()),
                ("e".to_owned(), String::new())
            ]
        );
    }
}
