//! Entity tags (RFC 9110 §8.8.3), as callers show them again.

use axum::http::{HeaderMap, header};

/// Whether the request's `If-None-Match` (RFC 9110 §13.1.2) has `tag`, which is without its quotes.
pub fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .map(|known| known.strip_prefix("W/").unwrap_or(known))
        .any(|known| {
            let inner = known
                .strip_prefix('"')
                .and_then(|known| known.strip_suffix('"'));
            inner == Some(tag)
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
            is_known(&headers, "17")
        };
        assert!(knows("\"17\""));
        assert!(knows("\"1\", W/\"17\""));
        for other in ["17", "\"18\"", "*", "\"", ""] {
            assert!(!knows(other), "{other}");
        }
    }
}
