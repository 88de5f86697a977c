//! Entity tags (RFC 9110 §8.8.3), as callers show them again.

use axum::http::{HeaderMap, header};

/// The tags in the request's `If-None-Match` (RFC 9110 §13.1.2), without their quotes; `*`, which stands for any, as it
/// is. What is malformed is left out.
pub fn known(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|tag| {
            let tag = tag.trim();
            if tag == "*" {
                return Some(tag);
            }
            let tag = tag.strip_prefix("W/").unwrap_or(tag);
            tag.strip_prefix('"')?.strip_suffix('"')
        })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn tags() {
        let knows = |shown: &'static str| {
            let headers =
                HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(shown))]);
            known(&headers).any(|tag| tag == "17")
        };
        assert!(knows("\"17\""));
        assert!(knows("\"1\", W/\"17\""));
        for other in ["17", "\"18\"", "*", "\"", ""] {
            assert!(!knows(other), "{other}");
        }
    }
}
